"""Sessions of generated requests: whose turn an arrival is, how long the client rests, how the context grows.

Who leads is a choice between two truths that cannot both be kept exactly:

- ``requests`` lead: the arrivals are given and are not touched. Each goes on with the open session whose next turn is
  most due, or begins a new one where none is. New sessions then start as often as the law of turns asks for, by
  themselves; in return turns come earlier or later than they are due. Turns wait for arrivals as customers for a server that
  is idle only where a session begins, once in m arrivals (m turns a session), so lateness is about m·(1 + I)/(2·λ) for an IDC of I (heavy traffic,
  Kingman 1962), evened out to a mean of 0 by letting turns come ahead.
- ``sessions`` lead: the arrivals are first turns, and every later turn comes exactly when it is due. Arrivals are then
  bursty as the sessions make them.

``leader`` says which is better for a law: with few and long sessions (agents) that is no longer small beside a gap.

A trace begins with sessions under way, in equilibrium: as many as are open in the mean, with turns left and a rest
of their gap as an observer at a random instant finds them (Cox 1962, §5).
"""

from __future__ import annotations

import copy
import functools
import math
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

from ..aspects.contexts import KINDS, Context
from ..aspects.durations import Durations
from ..aspects.lengths import Lengths
from ..aspects.sessions import MANY_CENSORED, Sessions
from ..aspects.tallies import Tally
from ..compiled import kernel
from ..distributions import FAMILIES, QuantileCurve
from ..errors import ModelError
from ..units import NS_PER_S
from . import loops
from .maker import State
from .randomness import key, salts, stream

Array = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
Draw = Callable[[int], tuple[Ints, Ints]]

LEADERS = ("requests", "sessions")
MOST_LATE = 1.0
"""expected lateness as a share of the median gap, up to which requests lead. The law of realised gaps is then within
about KS 0.1 of the drawn one with Poisson arrivals, 0.15 with bursty ones; at a tenth of it within 0.03."""
MOST_TURNS = 1 << 16
MOST_OPEN = 1 << 20
"""sessions that are open at once: their state is handed from block to block."""
KNOTS = 1025
REHEARSED_ROWS = 1 << 18
"""rows by which the law of first prompts is found."""
REHEARSED = (256, 65536)
"""sessions of a rehearsal, at least and at most."""
CLASSES = 64
"""of prompt lengths, by which first prompts are weighed."""
ROUNDS = 200
ROUNDS_SEEN = 5
"""steps from the first prompts of the source: enough for the little by which rehearsed sessions grow otherwise."""
FEWEST_KEPT = 1 / 64
"""least share of lengths drawn that first turns keep."""
_SERVICE_S = 5.0


class SessionStage:
    """Turns for the rows of one stream. ``rate_per_s``: requests a second when the trace begins, which says how many
    sessions are under way; ``dispersion``: IDC of the arrivals over about a gap between turns. ``share`` of the rows belong to sessions. ``service_s``: nominal time to answer, where
    the time between arrivals is not known. ``speed``: makes all times so many times shorter. ``leads``: requests | sessions; None: by ``leader``.
    Raises ModelError where no time between turns is known.
    """

    def __init__(
        self,
        law: Sessions,
        lengths: Lengths,
        seed: int,
        stream: int = 0,
        *,
        rate_per_s: float,
        dispersion: float = 1.0,
        share: float = 1.0,
        service_s: float = _SERVICE_S,
        speed: float = 1.0,
        leads: str | None = None,
    ) -> None:
        self.law, self.seed, self.stream = law, seed, stream
        self.rate_per_s, self.share = rate_per_s, share
        self.turns = turn_law(law.turns)
        self.mean_turns = float(1 + (1 - self.turns[:-1]).sum())
        self.gaps, self.delays = (x / speed for x in _times_between(law, service_s))
        gap_s = float(np.median(self.gaps)) / NS_PER_S
        if leads is None:  # rows without a session have no place where sessions lead
            leads = (
                leader(self.mean_turns, rate_per_s, gap_s, dispersion) if share == 1 else "requests"
            )
        self.leads = leads
        if self.leads not in LEADERS:
            raise ModelError(f"{self.leads!r} cannot lead", f"known: {', '.join(LEADERS)}")
        self.salts = salts(key(seed, "sessions", stream), loops.SALTS)
        self.contexts = Contexts(law, lengths, self.turns, key(seed, "contexts", stream))

        self.between = QuantileCurve(np.linspace(0, 1, len(self.gaps)), self.gaps)
        later = 1 - 1 / self.mean_turns
        self.open = rate_per_s * share * later * self.between.mean / NS_PER_S
        """sessions that are open at once, in the mean"""
        if self.open > MOST_OPEN:
            raise ModelError(
                f"{self.open:,.0f} sessions would be open at once; {MOST_OPEN:,} are kept at most",
                "lower --rate, share them out with --scale-by clients, or shorten rests: --set sessions.think_time=x0.1",
            )

    def copied(self, stream: int) -> SessionStage:
        """The same laws for another stream: they are rehearsed once."""
        out = copy.copy(self)
        out.stream, out.contexts = stream, copy.copy(self.contexts)
        out.salts = salts(key(self.seed, "sessions", stream), loops.SALTS)
        out.contexts.salts = salts(key(self.seed, "contexts", stream), loops.SALTS)
        return out

    @property
    def arrivals_per_row(self) -> float:
        """Arrivals that the stage must be given for each row that it makes."""
        return 1.0 if self.leads == "requests" else 1 / self.mean_turns

    def start(self) -> State:
        """Sessions under way when the trace begins."""
        rng = stream(self.seed, "sessions", self.stream, "start")
        n = int(rng.poisson(self.open)) if len(self.turns) > 1 else 0
        place, turns, inputs, outputs = self.contexts.under_way(rng, n)
        table = np.empty((n, loops.COLUMNS), dtype=np.int64)
        table[:, loops.SESSION] = np.arange(n)
        table[:, loops.TURN] = place
        table[:, loops.LEFT] = turns - place
        table[:, loops.ROW] = -1
        table[:, loops.INPUT] = inputs
        table[:, loops.OUTPUT] = outputs
        due = self.between.rests(rng.random(n), rng.random(n)).astype(np.int64)
        order = np.argsort(due, kind="stable")  # a sorted array is a heap
        return {
            "due": due[order],
            "open": table[order],
            "numbers": np.array([n, n, 0, 0, 0, 0], dtype=np.int64),
            "reals": np.array([0.0, 0.0, float(np.median(self.gaps)), self.share]),
        }

    def rows(
        self, block: int, arrival_ns: Ints, lengths: Draw, state: State
    ) -> tuple[dict[str, Any], State]:
        """Turns of the arrivals of a block (sorted). ``lengths`` draws pairs (input, output) of the stream.

        Columns, [n]: ``session`` (uint64, unique within the stream), ``turn`` (int32 from 1; 0: the row is in no
        session), ``delay_after_parent_ns`` (−1: none is known), ``parent`` (the row of the turn before, counted over
        the stream; −1: none in the trace), ``input_tokens``, ``output_tokens``, and ``shared_tokens``: leading tokens
        of the prompt that were in the session's prompt before.
        """
        work = _Work(state, len(arrival_ns))
        found = [np.empty(len(arrival_ns), dtype=np.int64) for _ in range(5)]
        kernel(loops, "follow")(
            np.require(arrival_ns, np.int64, ["C", "W"]),
            *self._laws,
            *work.arrays,
            work.reals,
            *found,
        )
        return self._told(block, found, lengths, work)

    def led(
        self, block: int, start_ns: Ints, end_ns: int, lengths: Draw, state: State
    ) -> tuple[dict[str, Any], State]:
        """As ``rows`` where sessions lead: from the first turns of a block (sorted) all turns before ``end_ns``, with
        their ``arrival_ns``."""
        expected = len(start_ns) + int((state["due"] < end_ns).sum())
        work = _Work(state, len(start_ns))
        starts = np.require(start_ns, np.int64, ["C", "W"])
        parts: list[list[Ints]] = []
        while True:
            found = [np.empty(2 * expected + 64, dtype=np.int64) for _ in range(6)]
            made = kernel(loops, "lead")(starts, end_ns, *self._laws, *work.arrays, *found)
            parts.append([c[:made] for c in found])
            if made < len(found[0]):
                break
        arrival, *rest = (np.concatenate(c) for c in zip(*parts, strict=True))
        columns, after = self._told(block, rest, lengths, work)
        return {"arrival_ns": arrival, **columns}, after

    def rehearsal(self, rows: int, lengths: Draw) -> dict[str, Any]:
        """About so many typical rows in order, with Poisson arrivals: columns of ``rows``, for ``PrefixStage``."""
        rng = stream(self.seed, "sessions", self.stream, "rehearsal")
        n = int(np.ceil(rows * self.arrivals_per_row))
        gaps = rng.exponential(NS_PER_S / (self.rate_per_s * self.arrivals_per_row), n)
        arrival = np.cumsum(gaps).astype(np.int64)
        if self.leads == "requests":
            return self.rows(-1, arrival, lengths, self.start())[0]
        return self.led(-1, arrival, int(arrival[-1]) + 1, lengths, self.start())[0]

    @property
    def _laws(self) -> tuple[Any, ...]:
        return self.turns, self.gaps, self.delays, self.salts

    def _told(
        self, block: int, found: list[Ints], lengths: Draw, work: _Work
    ) -> tuple[dict[str, Any], State]:
        session, turn, delay, parent, at = found
        rng = stream(self.seed, "sessions", self.stream, "first", block)
        inputs, outputs, shared = self.contexts.rows(session, turn, at, work.table, lengths, rng)
        columns = {
            "session": np.maximum(session, 0).view(np.uint64),
            "turn": turn.astype(np.int32),
            "delay_after_parent_ns": delay,
            "parent": parent,
            "input_tokens": inputs,
            "output_tokens": outputs,
            "shared_tokens": shared,
        }
        return columns, work.state()


def leader(
    mean_turns: float, rate_per_s: float, median_gap_s: float, dispersion: float = 1.0
) -> str:
    """Who leads: requests, unless turns would be late by about a median gap."""
    late_s = mean_turns * (1 + dispersion) / 2 / rate_per_s if rate_per_s > 0 else math.inf
    return "requests" if mean_turns == 1 or late_s <= MOST_LATE * median_gap_s else "sessions"


class _Work:
    """A state laid out for the loops, with room for ``more`` new sessions; ``state`` puts it together again."""

    def __init__(self, state: State, more: int) -> None:
        n = len(state["due"])
        self.numbers, self.reals = state["numbers"].copy(), state["reals"].copy()
        self.due = np.empty(n + more, dtype=np.int64)
        self.slot = np.empty(n + more, dtype=np.int64)
        self.table = np.empty((n + more, loops.COLUMNS), dtype=np.int64)
        self.free = np.arange(n + more - 1, n - 1, -1, dtype=np.int64)
        self.free = np.concatenate([self.free, np.empty(n, dtype=np.int64)])
        self.due[:n], self.slot[:n], self.table[:n] = state["due"], np.arange(n), state["open"]
        self.numbers[loops.UNUSED], self.numbers[loops.DONE] = more, 0

    @property
    def arrays(self) -> tuple[Any, ...]:
        return self.due, self.slot, self.table, self.free, self.numbers

    def state(self) -> State:
        n = int(self.numbers[loops.SIZE])
        return {
            "due": self.due[:n].copy(),
            "open": self.table[self.slot[:n]],
            "numbers": self.numbers,
            "reals": self.reals,
        }


# --- laws ------------------------------------------------------------------------------------------


def turn_law(law: Tally) -> Array:
    """[k] share of the sessions with at most 1, 2, … turns. Cells are uniform inside; where many sessions are cut by an
    edge of the trace the fitted law takes their place, which knows them as survivors."""
    best = law.best
    if best is not None and (not law.cells or law.censored > MANY_CENSORED * law.rows):
        shift = 1 if best.family == "negative-binomial" else 0
        family = FAMILIES[best.family]
        last = float(family.quantile(np.array([1 - 1e-6]), best.params)[0]) + shift
        at = np.arange(1, min(int(last), MOST_TURNS) + 1, dtype=np.float64)
        upto = family.cdf(at - shift, best.params)
        return np.asarray(upto / upto[-1])
    if not law.cells:
        raise ModelError("how many turns a session has is not known", "state cells or a law")
    share = np.zeros(min(law.cells[-1][1], MOST_TURNS))
    for low, high, n in law.cells:
        share[min(low, MOST_TURNS) - 1 : high] += n / (high - low + 1)
    upto = np.cumsum(share)
    return np.asarray(upto / upto[-1])


def quantiles_s(d: Durations) -> Array:
    """Rising quantiles at equal steps of probability: the grid's, else the best law's, else the mean alone."""
    if d.grid is not None:
        return np.maximum(d.grid.curve.table(KNOTS), 0.0)
    if d.best is not None:
        u = np.clip(np.linspace(0, 1, KNOTS), 0.0, 1 - 1e-4)
        law = d.best
        return np.maximum(FAMILIES[law.family].quantile(u, law.params), 0.0)
    return np.array([d.mean_s, d.mean_s])


def _times_between(law: Sessions, service_s: float) -> tuple[Array, Array]:
    """Quantiles in ns of the time from a turn's arrival to the next, and of the delay after its answer (none where
    it is not known)."""
    delay = law.think_time or law.recorded_delay
    delays = quantiles_s(delay) * NS_PER_S if delay is not None else np.zeros(0)
    if law.turn_gap is not None:
        return quantiles_s(law.turn_gap) * NS_PER_S, delays
    if delay is None:
        if turn_law(law.turns).size > 1:
            raise ModelError(
                "the time between turns is not known", "state think_time or turn_gap in sessions"
            )
        return np.zeros(2), delays
    return delays + service_s * NS_PER_S, delays


# --- contexts --------------------------------------------------------------------------------------


class Contexts:
    """Lengths of turns, such that those of all requests together have the stream's law.

    The first prompt is drawn so that what grows from it adds up to the law of all prompts: the weights of its length
    classes are found by Richardson's and Lucy's deconvolution (1972, 1974) on rehearsed sessions, from the first prompts
    of the source where they are known. The answer to a
    later prompt comes from the copula, given the rank of the prompt. A prompt beyond the longest of the source is cut
    at its old end where the source has a cap, or where its prompts never shrink; else its context begins anew.
    """

    def __init__(self, law: Sessions, lengths: Lengths, turns: Array, of: int) -> None:
        self.turns, self.salts = turns, salts(of, loops.SALTS)
        self.kind, shares, self.added = _growth(law.context, lengths)
        margin = lengths.input
        c = law.context
        never_shrank = c is not None and c.pairs > 0 and c.growing.value == 1
        self.cut = int(margin.atoms.cap is not None or never_shrank)
        self.shares = np.array([*shares, margin.grid.values[-1]])
        self.inputs = margin.grid.curve.table(KNOTS)
        self.outputs = lengths.output.grid.curve.table(KNOTS)
        rows = lengths.copula / np.maximum(lengths.copula.sum(axis=1, keepdims=True), 1e-300)
        self.copula = np.ascontiguousarray(np.cumsum(rows, axis=1))
        self.firsts = self.inputs
        self._rehearse(law, lengths, np.random.Generator(np.random.Philox(key=of)))

    def _rehearse(self, law: Sessions, lengths: Lengths, rng: np.random.Generator) -> None:
        """Find the law of first prompts, and keep what was rehearsed as a picture of sessions under way."""
        u = (np.arange(1 << 14) + 0.5) / (1 << 14)
        values = np.rint(lengths.input.grid.curve.quantile(u))
        self.edges = np.unique(values[:: len(values) // CLASSES])[1:]
        target = np.bincount(self._class(values), minlength=len(self.edges) + 1) / len(values)
        mean = 1 + (1 - self.turns[:-1]).sum()
        n = int(np.clip(REHEARSED_ROWS / mean, *REHEARSED))
        of_session = np.searchsorted(self.turns, (rng.permutation(n) + rng.random(n)) / n) + 1
        of_session = np.minimum(of_session, len(self.turns))
        first = rng.permutation(n)
        inputs = np.rint(lengths.input.grid.curve.quantile((first + rng.random(n)) / n))
        weight = np.ones(len(target))
        known = law.context.first_tokens if law.context is not None else None
        seen = None
        if known is not None:
            seen = np.bincount(self._class(np.rint(known.curve.quantile(u))), minlength=len(target)) / len(u)  # fmt: skip
        for _ in range(2):  # contexts that begin anew follow the law that is sought
            rows = self._rehearsed(of_session, inputs.astype(np.int64), rng)
            weight = _deconvolved(
                self._class(inputs)[rows[0]], self._class(rows[2]), n, target, seen
            )
            self.kept = weight / weight.max()
            heavy = weight[self._class(values)]
            cumulated = np.cumsum(heavy) - heavy / 2
            knots = np.interp(np.linspace(0, 1, KNOTS) * heavy.sum(), cumulated, values)
            self.firsts = np.ascontiguousarray(knots)
        session, place, inputs_of, outputs_of = rows
        later = place < of_session[session]
        chance = np.cumsum(np.where(later, weight[self._class(inputs)][session], 0.0))
        self._picture = (chance, place, of_session[session], inputs_of, outputs_of)

    def _class(self, tokens: npt.NDArray[Any]) -> Ints:
        return np.searchsorted(self.edges, tokens, side="right")

    def _rehearsed(self, turns: Ints, inputs: Ints, rng: np.random.Generator) -> tuple[Ints, ...]:
        """Session, place, input and output of all turns of sessions that begin with ``inputs``."""
        session = np.repeat(np.arange(len(turns)), turns)
        place = np.arange(len(session)) - np.repeat(np.cumsum(turns) - turns, turns) + 1
        first = place == 1
        found = np.zeros(len(session), dtype=np.int64)
        answers = np.zeros(len(session), dtype=np.int64)
        found[first] = inputs
        rank = np.searchsorted(self.inputs, inputs, side="right") / len(self.inputs)
        rows = self.copula[np.minimum((rank * len(self.copula)).astype(int), len(self.copula) - 1)]
        w = rng.random(len(inputs))
        cell = np.minimum((rows <= w[:, None]).sum(axis=1), len(self.copula) - 1)
        v = (cell + rng.random(len(inputs))) / len(self.copula) * (len(self.outputs) - 1)
        answers[first] = np.rint(np.interp(v, np.arange(len(self.outputs)), self.outputs))
        table = np.zeros((len(turns), loops.COLUMNS), dtype=np.int64)
        self._grow(session, place, session, table, found, answers)
        return session, place, found, answers

    def _grow(self, session: Ints, turn: Ints, at: Ints, table: Ints, inputs: Ints, outputs: Ints) -> Ints:  # fmt: skip
        shared = np.zeros(len(turn), dtype=np.int64)
        kernel(loops, "grow")(
            session, turn, at, self.kind, self.cut, self.shares, self.added, self.firsts, self.inputs,
            self.outputs, self.copula, self.salts, table, inputs, outputs, shared,
        )  # fmt: skip
        return shared

    def rows(
        self, session: Ints, turn: Ints, at: Ints, table: Ints, lengths: Draw, rng: np.random.Generator
    ) -> tuple[Ints, Ints, Ints]:  # fmt: skip
        """(input, output, shared) of the rows of a block; ``table`` is brought to its end."""
        inputs, outputs = (np.zeros(len(turn), dtype=np.int64) for _ in range(2))
        alone, first = turn == 0, turn == 1
        if alone.any():
            inputs[alone], outputs[alone] = lengths(int(alone.sum()))
        inputs[first], outputs[first] = self._firsts(int(first.sum()), lengths, rng)
        return inputs, outputs, self._grow(session, turn, at, table, inputs, outputs)

    def _firsts(self, n: int, lengths: Draw, rng: np.random.Generator) -> tuple[Ints, Ints]:
        """Lengths of first turns, by rejection: what goes with a length (its answer, the hour) stays with it."""
        parts: list[tuple[Ints, Ints]] = [(np.zeros(0, dtype=np.int64),) * 2]
        missing, drawn = n, 0
        while missing > 0:
            few = drawn * FEWEST_KEPT > n  # hardly any is short enough: take what comes
            share = 1.0 if few else max(float(self.kept @ self._mass), FEWEST_KEPT)
            more = int(missing / share * 1.05) + 16
            inputs, outputs = lengths(more)
            kept = np.flatnonzero(few | (rng.random(more) < self.kept[self._class(inputs)]))
            kept = kept[:missing]
            parts.append((inputs[kept], outputs[kept]))
            missing, drawn = missing - len(kept), drawn + more
        return tuple(np.concatenate(c) for c in zip(*parts, strict=True))  # type: ignore[return-value]

    @functools.cached_property
    def _mass(self) -> Array:
        """Share of the stream's prompts in each class."""
        u = (np.arange(1 << 12) + 0.5) / (1 << 12) * (len(self.inputs) - 1)
        values = np.rint(np.interp(u, np.arange(len(self.inputs)), self.inputs))
        return np.bincount(self._class(values), minlength=len(self.kept)) / len(values)

    def under_way(self, rng: np.random.Generator, n: int) -> tuple[Ints, Ints, Ints, Ints]:
        """(place, turns, input, output) of the last turn of sessions that an observer finds between two turns."""
        chance, *columns = self._picture
        at = np.searchsorted(chance, rng.random(n) * chance[-1], side="right")
        return tuple(c[np.minimum(at, len(chance) - 1)] for c in columns)


def _growth(context: Context | None, lengths: Lengths) -> tuple[int, tuple[float, float], Array]:
    """Kind of context, shares of later prompts that hold what was before, and quantiles of what a turn adds. Without
    a context every prompt stands for itself."""
    if context is None:
        return loops.DELTA, (0.0, 0.0), lengths.input.grid.curve.table(KNOTS)
    added = context.new_tokens
    whole, growing = context.cumulative.value, context.growing.value
    values = added.curve.table(KNOTS) if added is not None else np.zeros(2)
    return KINDS.index(context.kind), (whole, max(whole, growing)), values


def _deconvolved(
    of_first: Ints, of_row: Ints, sessions: int, target: Array, seen: Array | None = None
) -> Array:
    """[classes] weights ≥ 0 of first prompts by class, relative to ``target``, under which rows have the shares
    ``target``; rows by the class of their session's first prompt and by their own, of so many ``sessions`` that begin with
    ``target``. Richardson 1972; Lucy 1974: each step raises the likelihood and keeps weights positive. ``seen``: shares
    of first prompts in the source, from which few steps go, so that they stay near."""
    classes = len(target)
    made = np.bincount(of_first * classes + of_row, minlength=classes * classes)
    a = made.reshape(classes, classes) / np.maximum(sessions * target, 1.0)[:, None]
    size = np.maximum(a.sum(axis=1), 1e-300)
    w = target.copy() if seen is None else np.maximum(seen, 1e-9 * target)
    for _ in range(ROUNDS if seen is None else ROUNDS_SEEN):
        seen = w @ a
        w = w * (a @ (target * seen.sum() / np.maximum(seen, 1e-300))) / size
        w /= w.sum()
    return np.where(target > 0, w / np.maximum(target, 1e-300), 0.0)

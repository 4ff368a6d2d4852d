"""One stream of requests: when they arrive, whose turn or which call of a workflow they are, what they ask for."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt
from scipy import special

from ..aspects import failures as failures_aspect
from ..aspects.arrivals import Arrivals
from ..aspects.failures import Failures
from ..aspects.length_draws import Sampler
from ..aspects.lengths import Lengths, Margin
from ..aspects.mix import warp
from ..aspects.prefixes import Prefixes
from ..aspects.sessions import Sessions
from ..aspects.workflows import Workflows
from ..distributions import Grid
from ..errors import ModelError
from ..profile import Part, Profile, Stream
from ..streams import Tail
from ..units import NS_PER_S
from .levels import Levels
from .loops import ROW
from .maker import State, split, within
from .prefixes import REHEARSED_ROWS, PrefixStage, Woven
from .process import Process
from .randomness import stream
from .sessions import SessionStage
from .workflows import WorkflowStage

Law = TypeVar("Law")
Ints = npt.NDArray[np.int64]
Array = npt.NDArray[np.float64]
Flags = npt.NDArray[np.bool_]
Columns = dict[str, npt.NDArray[Any]]

MOST_TOKENS = 2**31 - 1
"""of a request, on each side: columns are of 32 bits."""
STAGES = ("sessions", "workflows", "prefixes")


@dataclass(frozen=True)
class Made:
    """A stream's rows of one block, sorted: ``t`` [n], ``failed`` [n] or None where it is not known. ``columns``: what its
    stages made, empty where each row is drawn alone. ``lengths``: [2, n] where they have been drawn. ``prompts``: their prefix
    blocks. Row i waits for the
    stream's rows ``parents[parents_from[i] : parents_from[i + 1]]``."""

    t: Ints
    failed: Flags | None
    columns: Columns
    lengths: tuple[Ints, Ints] | None = None
    prompts: Woven | None = None
    parents_from: Ints | None = None
    parents: Ints | None = None


class RequestStream:
    """``index``: from 0 over all streams and their copies; ``place``: of its own in the part. ``rate``, ``speed``,
    ``replay``, ``clock`` as of ``Process``. ``block_tokens``: of prefix blocks, None: as fitted. ``like``: the stream that it is
    another copy of, whose rehearsed laws it takes."""

    def __init__(
        self,
        profile: Profile,
        part: Part,
        place: int,
        index: int,
        seed: int,
        *,
        rate: float,
        speed: float,
        replay: bool,
        block_tokens: int | None = None,
        clock: Arrivals | None = None,
        like: RequestStream | None = None,
    ) -> None:
        self.index, self.place, self.seed = index, place, seed
        self.speed, self.replay = speed, replay
        own = part.streams[place]
        self.law = law_of(profile, own, Arrivals, "arrivals", "arrival times")
        lengths = law_of(profile, own, Lengths, "lengths", "token counts")
        for side, grid in (("input", lengths.input.grid), ("output", lengths.output.grid)):
            if grid.curve.values[-1] > MOST_TOKENS:
                raise ModelError(
                    f"{side} lengths go up to {grid.curve.values[-1]:.3g} tokens; a column holds {MOST_TOKENS:,}",
                    f"state shorter ones, or turn lengths.{side} less far",
                )
        self.lengths = Sampler(lengths)
        grids = {"input": lengths.input.grid, "output": lengths.output.grid}
        self.warp = warp(lengths.mix, grids, replay=replay)
        self.failures = _maybe(own, "failures", Failures)
        self.failing_under_load = self.failures is not None and failures_aspect.follows_load(self.failures)  # fmt: skip
        self.outages = Outages(failures_aspect.Chain.of(self.failures), seed, place, speed) if self.failures else None  # fmt: skip
        self.small: SmallStreams | None = None
        if part.tail is not None and not own.where:
            self.small = SmallStreams(part.tail, lengths, stream(seed, "small streams", place))
        self.window_ns = self.law.window_s / speed * NS_PER_S

        self.workflows: WorkflowStage | None = None
        self.sessions: SessionStage | None = None
        per_s = self.law.rate_per_s * rate
        workflows, sessions = _maybe(own, "workflows", Workflows), _maybe(own, "sessions", Sessions)
        per_row, starts = 1.0, None
        if workflows is not None and (workflows.templates or workflows.tallies):
            self.workflows = WorkflowStage(workflows, seed, index, calls_per_s=per_s, speed=speed)
            per_row = 1 / self.workflows.mean_calls
            starts = workflows.starts
        elif sessions is not None and sessions.between is not None:
            between_s = sessions.between[1].quantiles_s.get("p50", sessions.between[1].mean_s)
            near = [s for s in self.law.scales if s.idc is not None]
            idc = min(near, key=lambda s: abs(math.log(s.window_s / between_s))).idc if near and between_s > 0 else 1.0  # fmt: skip
            self.sessions = like.sessions.copied(index) if like and like.sessions else SessionStage(
                sessions, lengths, seed, index, rate_per_s=per_s, speed=speed, dispersion=max(idc or 1.0, 0.1),
                share=min(sessions.requests / self.law.events, 1.0) if self.law.events else 1.0,
            )  # fmt: skip
            per_row = self.sessions.arrivals_per_row
            starts = sessions.starts if self.sessions.leads == "sessions" else None
        self.per_row = per_row
        self.process = Process(self.law, seed, index, rate=rate * per_row, speed=speed, replay=replay, starts=starts, clock=clock)  # fmt: skip
        prefixes = _maybe(own, "prefixes", Prefixes)
        self.prefixes: PrefixStage | None = None
        if like is not None and like.prefixes is not None:
            self.prefixes = like.prefixes.copied(index)
        elif prefixes is not None and prefixes.blocks is not None:
            self.prefixes = PrefixStage(prefixes.blocks, self._rehearsal(), seed, index, block_tokens=block_tokens)  # fmt: skip

    @property
    def rate_per_s(self) -> float:
        """Mean rate of requests."""
        return self.process.per_s / self.per_row

    @property
    def refers(self) -> bool:
        """Whether rows wait for others."""
        return self.sessions is not None or self.workflows is not None

    def expected(self, duration_ns: int) -> float:
        """Expected requests."""
        return self.process.expected(duration_ns) / self.per_row

    def _rehearsal(self) -> dict[str, Any]:
        """Typical rows, by which the laws of prefixes are found."""
        rng = stream(self.seed, "lengths", self.index, "rehearsal")

        def draw(n: int) -> tuple[Ints, Ints]:
            return self.lengths.pairs(rng, n)

        if self.sessions is not None:
            return self.sessions.rehearsal(REHEARSED_ROWS, draw)
        return {"input_tokens": draw(REHEARSED_ROWS)[0]}

    def start(self) -> State:
        """Before block 0."""
        out: State = {"left": self.process.start()}
        if self.failures is not None:
            begun = stream(self.seed, "failures", self.index).random() < self.failures.rate
            out["failed"] = np.array(int(begun))
        for name in STAGES:
            stage = getattr(self, name)
            if stage is not None:
                out |= within(name, stage.start())
        return out

    def make(self, block: int, begin_ns: int, end_ns: int, state: State) -> tuple[Made, State]:
        """Rows in [begin_ns, end_ns), and the state after them."""
        stages = split(state)
        t, left = self.process.arrivals(block, begin_ns, end_ns, state["left"])
        after: State = {"left": left}
        rng = stream(self.seed, "lengths", self.index, block)

        def draw(n: int) -> tuple[Ints, Ints]:
            return self.lengths.pairs(rng, n)

        columns: Columns = {}
        woven: Woven | None = None
        lengths: tuple[Ints, Ints] | None = None
        parents_from = parents = None
        if self.workflows is not None:
            columns, kept = self.workflows.rows(t, end_ns, draw, stages["workflows"])
            after |= within("workflows", kept)
            t = columns.pop("arrival_ns")
            parents_from, parents = columns.pop("parents_from"), columns.pop("parents")
        elif self.sessions is not None:
            before = stages["sessions"]
            if self.sessions.leads == "requests":
                columns, kept = self.sessions.rows(block, t, draw, before)
            else:
                columns, kept = self.sessions.led(block, t, end_ns, draw, before)
                t = columns.pop("arrival_ns")
            after |= within("sessions", kept)
            known = columns["parent"] >= 0
            parents_from = np.concatenate([[0], np.cumsum(known)])
            parents = columns["parent"][known]
        if columns:
            lengths = columns.pop("input_tokens"), columns.pop("output_tokens")
        if self.prefixes is not None:
            if lengths is None:
                lengths = self.drawn(block, begin_ns, end_ns, t)
            given = {"input_tokens": lengths[0]}
            if self.sessions is not None:
                given |= {k: columns[k] for k in ("parent", "shared_tokens")}
            woven, kept = self.prefixes.rows(given, stages["prefixes"])
            after |= within("prefixes", kept)
        failed = None
        if self.outages is not None:
            load = self.load(t, begin_ns, end_ns) * self.law.rate_per_s if self.failing_under_load else None  # fmt: skip
            uniform = stream(self.seed, "failures", self.index, block).random(len(t))
            failed, last = self.outages.chain.sample(uniform, int(state["failed"]), load, self.outages.ranks(t))  # fmt: skip
            after["failed"] = np.array(last)
        made = Made(t, failed, columns, lengths, woven, parents_from, parents)
        return made, after

    def drawn(self, block: int, begin_ns: int, end_ns: int, t: Ints) -> tuple[Ints, Ints]:
        """(input, output) of rows that are drawn alone: dependent on each other, and on time or load."""
        u, v = self.lengths.ranks(stream(self.seed, "lengths", self.index, block), len(t))
        if self.warp is not None:
            if self.replay:
                at = self.warp.by_time(t / NS_PER_S * self.speed)
            else:
                at = self.warp.by_load(self.load(t, begin_ns, end_ns))
            u, v = self.warp.ranks("input", at, u), self.warp.ranks("output", at, v)
        return self.lengths.tokens(u, v)

    def load(self, t: Ints, begin_ns: int, end_ns: int) -> Array:
        """The rate in the window of each arrival as a multiple of the mean rate, as ``fit`` counts it. Windows begin with
        the block; what is left after the last full one belongs to it."""
        last = max(int((end_ns - begin_ns) // self.window_ns) - 1, 0)
        at = np.minimum(((t - begin_ns) / self.window_ns).astype(np.int64), last)
        n = np.bincount(at, minlength=last + 1)
        width = np.full(last + 1, self.window_ns)
        width[last] = max(end_ns - begin_ns - last * self.window_ns, 1.0)
        return np.asarray((n / (width / NS_PER_S * self.rate_per_s))[at])

    def referred(self, state: State) -> Ints:
        """The stream's rows so far that rows to come may wait for, rising."""
        if self.sessions is not None:
            rows = state["sessions.open"][:, ROW]
            return np.unique(rows[rows >= 0])
        parents = state["workflows.parents"]
        return np.unique(-1 - parents[parents < 0])


class Outages:
    """The levels of a stream's failures: shared with other streams as far as fitted, with the stream's copies all."""

    def __init__(self, chain: failures_aspect.Chain, seed: int, place: int, speed: float) -> None:
        self.chain = chain
        levels = chain.levels
        if levels is None:
            return
        self.window_ns = levels.window_s / speed * NS_PER_S
        purpose = "failure levels"
        self.common = Levels(levels.parts, self.window_ns, seed, purpose)
        self.own = Levels(levels.parts, self.window_ns, seed, purpose, place, shifted=(purpose,))

    def ranks(self, t: Ints) -> Array | None:
        """In [0, 1], of the level at each of the sorted instants; None where there are no levels."""
        levels = self.chain.levels
        if levels is None or not len(t):
            return None
        window = ((t + self.common.first_ns) // self.window_ns).astype(np.int64)
        first, last = int(window[0]), int(window[-1]) + 1
        z = math.sqrt(levels.shared) * self.common.z(first, last)
        if levels.shared < 1:
            z += math.sqrt(1 - levels.shared) * self.own.z(first, last)
        return np.asarray(special.ndtr(z)[window - first])


class SmallStreams:
    """Which of the small streams a request is of. Their sizes follow the fitted law, equally spaced in rank. They lie apart in
    one length, as much as the law of their means says: a request goes to a stream by its rank in that length and by chance, a
    Gaussian copula, so that the streams together keep the lengths of their pool, and each its share."""

    def __init__(self, tail: Tail, lengths: Lengths, rng: np.random.Generator) -> None:
        at = (np.arange(tail.streams) + 0.5) / tail.streams
        sizes = np.maximum(tail.rows.curve.quantile(at)[::-1], 1e-9)
        sizes *= tail.streams / sizes.sum()
        apart = {k: _apart(tail.means[k], getattr(lengths, k.removesuffix("_tokens")), sizes, lengths.pairs) for k in tail.means}  # fmt: skip
        self.by = max(apart, key=lambda k: apart[k], default="input_tokens")
        self.rho = math.sqrt(apart.get(self.by, 0.0))
        self.grid = (lengths.input if self.by == "input_tokens" else lengths.output).grid
        with_size = tail.rank_correlations.get(f"rows~{self.by}", 0.0)
        high = special.ndtri(at[::-1]) * with_size + rng.standard_normal(len(at)) * math.sqrt(max(1 - with_size**2, 0.0))  # fmt: skip
        self.order = np.argsort(high, kind="stable")
        self.upto = np.cumsum(sizes[self.order]) / sizes.sum()

    def draw(self, rng: np.random.Generator, inputs: Ints, outputs: Ints) -> Ints:
        """Numbers from 1, the largest first, of requests of these lengths."""
        x = inputs if self.by == "input_tokens" else outputs
        z = special.ndtri(np.clip(self.grid.rank(x + rng.random(len(x)) - 0.5), 1e-6, 1 - 1e-6))
        u = special.ndtr(self.rho * z + math.sqrt(1 - self.rho**2) * rng.standard_normal(len(x)))
        place = np.searchsorted(self.upto, u)
        return np.asarray(self.order[np.minimum(place, len(self.order) - 1)] + 1)


def _apart(means: Grid, pool: Margin, sizes: Array, rows: int) -> float:
    """Share of the variance of the pool's lengths, as normal scores of their ranks, that is between streams: that of their means,
    less what few rows each bring by chance."""
    at = (np.arange(1024) + 0.5) / 1024
    ranks = pool.grid.rank(means.curve.quantile(at))
    of_means = float(special.ndtri(np.clip(ranks, 1e-6, 1 - 1e-6)).var())
    each = np.maximum(sizes * (rows / len(sizes)), 1.0)  # streams that are seen have a row
    chance = float((1 / each).mean())
    return float(np.clip((of_means - chance) / max(1 - chance, 0.1), 0.0, 0.98))


def law_of(profile: Profile, s: Stream, kind: type[Law], what: str, needs: str) -> Law:
    """An aspect that rows cannot be made without."""
    found = s.aspects.get(what)
    if not isinstance(found, kind):
        raise ModelError(
            f"profile {profile.name!r} has no {what} for stream {s.name!r}",
            f"fit a trace whose rows carry {needs}",
        )
    return found


def _maybe(s: Stream, name: str, kind: type[Law]) -> Law | None:
    found = s.aspects.get(name)
    return found if isinstance(found, kind) else None

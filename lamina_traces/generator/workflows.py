"""Workflows of generated requests: the arrivals are those of tasks, and templates say what calls follow.

A call arrives nominally when the last call that it waits for has ended and its delay has passed. How long calls last is
for an engine to say: the nominal time is what the template states (``lasts_s``, fitted where the source records ends),
else ``TTFT_S`` + ``TPOT_S`` a token, which is an assumption. A simulator releases calls by ``depends_on`` and the delay
instead, and needs no nominal time.

Calls that arrive behind the end of their workflow's block wait in the state. A trace begins with workflows under way: those
that arrived before it (as a Poisson process), as far as they last; what they have done before is no part of it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

from ..aspects.templates import DELAY_KINDS, KNOTS, Spread, Step, Template
from ..aspects.workflows import Workflows
from ..compiled import kernel
from ..errors import ModelError
from ..units import NS_PER_S
from . import unfolding
from .maker import State
from .randomness import key, salts, stream, uniforms
from .sessions import quantiles_s, turn_law

Array = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
Draw = Callable[[int], tuple[Ints, Ints]]

TTFT_S, TPOT_S = 0.5, 0.03
"""nominal: between what HexGen-Flow's A100 and a present server need for a 70B model. Assumed."""
REHEARSED = 256
"""workflows by which sizes and makespans are estimated."""
MOST_PAST = 1 << 22
"""calls of workflows that arrived before the trace, among which those that are still to come are found."""


class WorkflowStage:
    """Calls for the workflows of one stream. ``calls_per_s``: when the trace begins; ``speed``: makes all times so many times
    shorter. Raises ModelError where the profile has neither templates nor a law of calls a workflow, and (``start``) where
    too many are under way."""

    def __init__(
        self, law: Workflows, seed: int, stream: int = 0, *, calls_per_s: float, speed: float = 1.0
    ) -> None:
        self.seed, self.stream = seed, stream
        self.second_ns = NS_PER_S / speed
        self.templates = law.templates or (loop(law),)
        self.of = key(seed, "workflows", stream)
        self.salts = salts(self.of, unfolding.SALTS)
        self.upto = np.cumsum([t.share for t in self.templates])
        if not self.upto[-1] > 0:
            raise ModelError("the shares of the templates add up to nothing", "state shares above 0")  # fmt: skip
        self._lay_out()
        sizes, _ = self._counted(0, self._templates_of(np.arange(REHEARSED)))
        self.mean_calls = float(sizes.mean())
        self.rate_per_s = calls_per_s / self.mean_calls

    def _lay_out(self) -> None:
        """Steps of all templates one after the other, as the loops read them."""
        steps = [s for t in self.templates for s in t.steps]
        self.begins = np.cumsum([0, *(len(t.steps) for t in self.templates)]).astype(np.int64)
        self.chance = np.array([s.probability for s in steps])
        self.alike = np.array([s.correlation for s in steps])
        self.features = np.array([[s.repeat_in == "sequence", s.holds] for s in steps], dtype=np.int64)  # fmt: skip
        places = [{s.name: i for i, s in enumerate(t.steps)} for t in self.templates]
        after = [[place[a] for a in s.after] for t, place in zip(self.templates, places, strict=True) for s in t.steps]  # fmt: skip
        self.after_from = np.cumsum([0, *map(len, after)]).astype(np.int64)
        self.after = np.array([a for some in after for a in some], dtype=np.int64)
        self.tables = np.stack([_tables(s, self.second_ns) for s in steps])
        self.stages = tuple(dict.fromkeys(s.stage or s.name for s in steps))
        """names of the stages; column ``stage`` holds places in them."""
        stage = {n: i for i, n in enumerate(self.stages)}
        self.stage = np.array([stage[s.stage or s.name] for s in steps], dtype=np.int64)
        kinds = [DELAY_KINDS.index(s.delay_kind) if s.delay_kind else -1 for s in steps]
        self.kind = np.array(kinds, dtype=np.int64)

    def start(self) -> State:
        """What is left of the workflows that arrived before the trace."""
        rng = stream(self.seed, "workflows", self.stream, "start")
        rehearsed, _, _ = self._unfolded(0, np.zeros(REHEARSED, dtype=np.int64), _nothing)
        past_ns = int(rehearsed[:, unfolding.ARRIVAL].max(initial=0))
        mean = self.rate_per_s * past_ns / NS_PER_S
        if mean * self.mean_calls > MOST_PAST:
            raise ModelError(
                f"{mean:,.0f} workflows of {self.mean_calls:,.0f} calls would be under way when the trace begins; {MOST_PAST:,} calls are looked at",
                "lower --rate, share them out with --scale-by clients, or shorten waits: --set workflows.delays=x0.1",
            )
        n = int(rng.poisson(mean))
        arrival = np.sort(-(rng.random(n) * past_ns).astype(np.int64) - 1)
        return {
            "past": arrival,
            "calls": np.zeros((0, unfolding.COLUMNS), dtype=np.int64),
            "parents_from": np.zeros(1, dtype=np.int64),
            "parents": np.zeros(0, dtype=np.int64),
            "fresh": np.array(0, dtype=np.int64),
            "rows": np.array(0, dtype=np.int64),
        }

    def rows(
        self, arrival_ns: Ints, end_ns: int, lengths: Draw, state: State
    ) -> tuple[dict[str, Any], State]:
        """All calls before ``end_ns``, sorted by arrival: of the workflows that arrive in a block (sorted), and of those before
        them. ``lengths`` draws pairs (input, output) for calls whose step states none.

        Columns, [n]: ``arrival_ns``; ``workflow`` (uint64, unique within the stream); ``step_index`` (int32 from 1);
        ``stage`` (place in ``stages``); ``delay_after_parent_ns`` (−1: the call waits for none); ``delay_kind`` (place in
        ``DELAY_KINDS``, −1: not named); ``input_tokens``; ``output_tokens``. Row i waits for the rows ``parents[
        parents_from[i] : parents_from[i + 1]]``, counted over the stream from 0; none are before the trace.
        """
        arrival = np.concatenate([state["past"], np.asarray(arrival_ns, dtype=np.int64)])
        held, refs = state["calls"], state["parents"]
        new, new_from, new_refs = self._unfolded(int(state["fresh"]), arrival, lengths)
        calls = np.concatenate([held, new])
        parents_from = np.concatenate([state["parents_from"], new_from[1:] + len(refs)])
        refs = np.concatenate([refs, new_refs + len(held)])  # ≥ 0: in hand; below: −1 − row
        at = calls[:, unfolding.ARRIVAL]
        there = (at >= 0) & (at < end_ns)
        made = np.flatnonzero(there)
        made = made[np.lexsort((calls[made, unfolding.INDEX], calls[made, unfolding.WORKFLOW], at[made]))]  # fmt: skip
        first = int(state["rows"])
        row_of = np.full(len(calls), -1, dtype=np.int64)  # −1: before the trace, or not yet
        row_of[made] = np.arange(first, first + len(made))
        after = self._waiting(calls, parents_from, refs, np.flatnonzero(at >= end_ns), row_of, at < 0)  # fmt: skip
        told = calls[made]
        begins, rows = _taken(parents_from, refs, made)
        rows = np.where(rows < 0, -1 - rows, row_of[np.maximum(rows, 0)])
        begins, rows = _without(begins, rows, rows >= 0)
        step = told[:, unfolding.STEP]
        columns = {
            "arrival_ns": told[:, unfolding.ARRIVAL],
            "workflow": told[:, unfolding.WORKFLOW].astype(np.uint64),
            "step_index": told[:, unfolding.INDEX].astype(np.int32),
            "stage": self.stage[step],
            "delay_after_parent_ns": np.where(np.diff(begins) > 0, told[:, unfolding.DELAY], -1),
            "delay_kind": np.where(np.diff(begins) > 0, self.kind[step], -1),
            "input_tokens": told[:, unfolding.INPUT],
            "output_tokens": told[:, unfolding.OUTPUT],
            "parents_from": begins,
            "parents": rows,
        }
        fresh = state["fresh"] + len(arrival)
        return columns, {**after, "fresh": fresh, "rows": np.array(first + len(made))}

    def _waiting(
        self, calls: Ints, parents_from: Ints, refs: Ints, left: Ints, row_of: Ints, past: npt.NDArray[np.bool_]
    ) -> State:  # fmt: skip
        """The calls that are ``left`` for later blocks; what they wait for is a row by now, or one of them."""
        begins, to = _taken(parents_from, refs, left)
        place = np.full(len(calls), -1, dtype=np.int64)
        place[left] = np.arange(len(left))
        now = np.maximum(to, 0)
        begins, kept = _without(begins, np.stack([to, now]), (to < 0) | ~past[now])
        to, now = kept
        to = np.where(to < 0, to, np.where(row_of[now] >= 0, -1 - row_of[now], place[now]))
        return {
            "past": np.zeros(0, dtype=np.int64),
            "calls": calls[left],
            "parents_from": begins,
            "parents": to,
        }

    def _templates_of(self, numbers: Ints) -> Ints:
        u = uniforms(self.of, numbers, unfolding.SALTS) * self.upto[-1]
        found: Ints = np.searchsorted(self.upto, u, side="right")
        return np.minimum(found, len(self.templates) - 1)

    @property
    def _laws(self) -> tuple[Any, ...]:
        return self.begins, self.chance, self.features, self.after_from, self.after, self.tables, self.salts  # fmt: skip

    @staticmethod
    def _scratch() -> tuple[Any, Any]:
        return np.zeros(unfolding.MOST_STEPS, dtype=np.uint64), np.zeros(unfolding.MOST_STEPS, dtype=np.int64)  # fmt: skip

    def _counted(self, fresh: int, template: Ints) -> tuple[Ints, Ints]:
        """[workflows] calls and edges."""
        sizes = np.empty(2 * len(template), dtype=np.int64)
        kernel(unfolding, "count")(fresh, template, *self._laws, *self._scratch(), sizes)
        return sizes[: len(template)], sizes[len(template) :]

    def _unfolded(self, fresh: int, arrival: Ints, lengths: Draw) -> tuple[Ints, Ints, Ints]:
        """Calls of workflows number ``fresh`` and following, and where the parents of each stand among them."""
        template = self._templates_of(np.arange(fresh, fresh + len(arrival)))
        sizes, edges = self._counted(fresh, template)
        n = int(sizes.sum())
        drawn = lengths(n) if (self.tables[:, [unfolding.PROMPT, unfolding.ANSWER], 0] < 0).any() else _nothing(n)  # fmt: skip
        out = np.empty((n, unfolding.COLUMNS), dtype=np.int64)
        parents_from = np.zeros(n + 1, dtype=np.int64)
        parents = np.empty(int(edges.sum()), dtype=np.int64)
        pairs = (np.require(c, np.int64, ["C", "W"]) for c in drawn)
        kernel(unfolding, "unfold")(
            fresh, arrival, template, self.alike, *self._laws, *self._scratch(), TTFT_S * self.second_ns, TPOT_S * self.second_ns, *pairs, out, parents_from, parents
        )  # fmt: skip
        return out, parents_from, parents


def loop(law: Workflows) -> Template:
    """Where no template is known, a task is a chain of calls, as many as the law says, with the delays between them."""
    calls = law.tallies.get("calls_per_workflow")
    if calls is None:
        raise ModelError(
            "workflows without templates and without a law of their calls",
            "state templates: steps, what they wait for, their lengths",
        )
    u = np.linspace(0, 1, KNOTS)
    number = (
        np.searchsorted(turn_law(calls), np.minimum(u, 1 - 1e-9), side="right").astype(np.float64)
        + 1
    )
    kind, pause = next(iter(law.delays.items()), ("", None))
    known = quantiles_s(pause) if pause is not None else np.zeros(2)
    pauses = np.asarray(np.interp(u, np.linspace(0, 1, len(known)), known), dtype=np.float64)
    step = Step(
        "call",
        delay_s=Spread("fitted", pauses),
        delay_kind=kind if kind in DELAY_KINDS else None,
        repeat=Spread("fitted", number),
        repeat_in="sequence",
    )
    return Template("chain", 1.0, (step,))


def _nothing(n: int) -> tuple[Ints, Ints]:
    return np.zeros(n, dtype=np.int64), np.zeros(n, dtype=np.int64)


def _tables(step: Step, second_ns: float) -> Array:
    """[tables, knots] quantiles; −1 where none are stated."""
    lasts = step.lasts_s.values * second_ns if step.lasts_s else None
    pause = step.delay_s.values * second_ns if step.delay_s else np.zeros(KNOTS)
    repeat = step.repeat.values if step.repeat else np.ones(KNOTS)
    stated = (repeat, pause, lasts, *(s.values if s else None for s in (step.input, step.output)))
    return np.stack([np.full(KNOTS, -1.0) if v is None else v for v in stated])


def _taken(begins: Ints, of: Ints, chosen: Ints) -> tuple[Ints, Ints]:
    """The lists of the ``chosen``, in their order: where each begins, and what they hold."""
    sizes = begins[chosen + 1] - begins[chosen]
    found = np.concatenate([[0], np.cumsum(sizes)])
    at = np.arange(found[-1]) - np.repeat(found[:-1] - begins[chosen], sizes)
    return found, of[at]


def _without(begins: Ints, of: Ints, kept: npt.NDArray[np.bool_]) -> tuple[Ints, Ints]:
    """Lists with what is ``kept`` of them."""
    return np.concatenate([[0], np.cumsum(kept)])[begins], of[..., kept]

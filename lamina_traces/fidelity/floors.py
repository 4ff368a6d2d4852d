"""Floors: how far a workload is from itself by chance.

No generator can be asked to be nearer to a trace than one draw of it is to another. Such draws are block bootstraps: blocks of a
twelfth of the span in a new order, some twice, some not at all. The floor is the largest distance of a few pairs of
draws (of a draw and the trace it would be too small, since they share their rows). They copy rows, so what they are near
in is not what a generator should be praised for; what they are far in is chance.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

import numpy as np

from ..aspects import Line, failures, sessions
from ..aspects.rows import Rows
from ..store import Trace
from .baselines import block_bootstrap
from .distances import distances
from .resampling import TABLE, columns_of, of_rows, of_sessions

DRAWS = 5
TRACE_DRAWS = 3
MOST_ROWS = 300_000
"""rows of the first trace that are drawn from; a floor of fewer rows is higher than that of all."""
RAISED = 1.5
"""a limit is at least this many floors."""

Key = tuple[str, str]
Draw = TypeVar("Draw")


@dataclass(frozen=True)
class Floors:
    """``values``: distances of each draw, by aspect and metric; ``cut``: whether they are of the first MOST_ROWS rows."""

    values: Mapping[Key, tuple[float, ...]]
    cut: bool

    def and_of(self, more: Mapping[Key, tuple[float, ...]]) -> Floors:
        """With the floors of further lines."""
        return replace(self, values={**self.values, **more})

    def put_on(self, line: Line) -> Line:
        """The line with its floor, and its limit raised to RAISED floors."""
        drawn = self.values.get((line.aspect, line.metric))
        if not drawn or line.limit is None:
            return line
        floor = max(drawn)
        return replace(
            line,
            limit=max(line.limit, RAISED * floor),
            floor=floor,
            floor_range=(min(drawn), max(drawn)),
        )


def floors(a: Rows, draws: int = DRAWS) -> Floors:
    """Distances of pairs of block bootstraps of a."""
    cut = len(a) > MOST_ROWS
    if cut:
        end = int(a.arrival_ns[MOST_ROWS]) if a.timed > MOST_ROWS else a.span_ns
        a = a.between(0, end) if a.timed else a.take(np.arange(MOST_ROWS))
    drawn = [_again(a, seed) for seed in range(draws)] if len(a) else []
    cards = [distances(x, y) for x, y in _pairs(drawn)]
    return Floors(by_key(cards), cut)


def trace_floors(
    a: Trace, lines: Sequence[Line], draws: int = TRACE_DRAWS
) -> dict[Key, tuple[float, ...]]:
    """Floors of those of the ``lines`` that aspects measured on whole traces of requests: of sessions by drawing whole
    sessions, of failures by blocks of time. Prefixes have none: a block that is drawn twice would find itself in the
    cache. Nothing beyond MOST_ROWS rows."""
    wanted = {x.aspect for x in lines if x.limit is not None and x.value is not None}
    wanted &= {sessions.NAME, failures.NAME}
    if not wanted or a.main_table != TABLE or a.rows() > MOST_ROWS:
        return {}
    frame, whole = columns_of(a), Rows.of(a)
    cards: list[list[Line]] = []
    if failures.NAME in wanted and whole.timed:
        made = [of_rows(frame, _again(whole, seed)) for seed in range(draws)]
        cards += [failures.score(x, y) for x, y in _pairs(made)]
    if sessions.NAME in wanted:
        made = [of_sessions(frame, np.random.default_rng(seed)) for seed in range(draws)]
        cards += [sessions.score(x, y) for x, y in _pairs(made)]
    return by_key(cards)


def _pairs(drawn: Sequence[Draw]) -> list[tuple[Draw, Draw]]:
    """Each draw and the next one, the last and the first."""
    return list(zip(drawn, [*drawn[1:], *drawn[:1]], strict=True)) if len(drawn) > 1 else []


def _again(a: Rows, seed: int) -> Rows:
    rng = np.random.default_rng(seed)
    if a.timed and a.span_ns > 0:
        return block_bootstrap(a, a.span_ns, rng)
    at = rng.integers(0, len(a), len(a))  # without a clock there are no blocks
    return a.take(at, a.arrival_ns, a.span_ns)


def by_key(cards: Sequence[Sequence[Line]]) -> dict[Key, tuple[float, ...]]:
    """The values of several cards by aspect and metric; lines that were not computed are left out."""
    out: dict[Key, tuple[float, ...]] = {}
    for line in (line for card in cards for line in card if line.value is not None):
        key = (line.aspect, line.metric)
        out[key] = (*out.get(key, ()), float(line.value or 0.0))
    return out

"""Floors: how far a workload is from itself by chance.

No generator can be asked to be nearer to a trace than the trace is to a second draw of itself. Such draws are block
bootstraps: blocks of a twelfth of the span in a new order, some twice, some not at all. They copy rows, so what they are near in is not
what a generator should be praised for; what they are far in is chance.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

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
        floor = float(np.median(drawn))
        return replace(
            line,
            limit=max(line.limit, RAISED * floor),
            floor=floor,
            floor_range=(min(drawn), max(drawn)),
        )


def floors(a: Rows, draws: int = DRAWS) -> Floors:
    """Distances of block bootstraps of a from a."""
    cut = len(a) > MOST_ROWS
    if cut:
        end = int(a.arrival_ns[MOST_ROWS]) if a.timed > MOST_ROWS else a.span_ns
        a = a.between(0, end) if a.timed else a.take(np.arange(MOST_ROWS))
    cards = [distances(a, _again(a, seed)) for seed in range(draws)] if len(a) else []
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
    for seed in range(draws):
        if failures.NAME in wanted and whole.timed:
            cards.append(failures.score(a, of_rows(frame, _again(whole, seed))))
        if sessions.NAME in wanted:
            cards.append(sessions.score(a, of_sessions(frame, np.random.default_rng(seed))))
    return by_key(cards)


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

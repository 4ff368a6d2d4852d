"""The time of a trace cut into windows, and one streaming pass over its rows in time order.

All aspects of a trace share one timeline, so what one says of a window (its load) another can use. Times that a
mask leaves out belong to no window; a window that lies partly in one is shorter than the others (``covered_s``).
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import numpy as np
import numpy.typing as npt
import polars as pl

from ..schema import TABLES
from ..units import NS_PER_S

if TYPE_CHECKING:
    from ..store import Trace

Array = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

WIDTHS_S = (1, 2, 5, 10, 20, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 14400, 43200, 86400)
MOST_WINDOWS = 300
FEWEST_ROWS = 20.0
"""rows in a mean window."""


@dataclass(frozen=True)
class Timeline:
    """``windows`` windows of ``width_ns`` from ``first_ns`` on; the last one ends just behind ``last_ns``.

    ``timed`` of the table's ``rows`` have a time. ``masks`` as in ``Trace.mask``, cut to the span.
    """

    rows: int
    timed: int
    first_ns: int
    last_ns: int
    width_ns: int
    windows: int
    masks: tuple[tuple[int, int], ...] = ()

    @classmethod
    def of(cls, trace: Trace) -> Timeline | None:
        """Of the main table; None where it has no time, no row has one, or all share one instant."""
        if TABLES[trace.main_table].time is None:
            return None
        extent = trace.query("arrivals/extent").to_pylist()[0]
        timed = int(extent["with_arrival"])
        if not timed:
            return None
        first, last = int(extent["first_ns"]), int(extent["last_ns"])
        if last <= first:
            return None
        masks = tuple(
            (max(a, first), min(b, last)) for a, b in trace.masks if b > first and a < last
        )
        span_s = (last - first) / NS_PER_S
        width_s = next(
            (
                w
                for w in WIDTHS_S
                if span_s / w <= MOST_WINDOWS and timed * w / span_s >= FEWEST_ROWS
            ),
            max(span_s, 1.0),
        )
        windows = max(1, round(span_s / width_s))
        return cls(
            int(extent["events"]), timed, first, last, (last - first) // windows + 1, windows, masks
        )

    @property
    def width_s(self) -> float:
        return self.width_ns / NS_PER_S

    @property
    def span_ns(self) -> int:
        """First to last row, masks included."""
        return self.last_ns - self.first_ns

    @property
    def observed_s(self) -> float:
        """First to last row, less the masks."""
        return (self.span_ns - sum(b - a for a, b in self.masks)) / NS_PER_S

    @property
    def covered_s(self) -> Array:
        """[windows] seconds of each window that no mask covers."""
        edges = self.first_ns + np.arange(self.windows + 1, dtype=np.int64) * self.width_ns
        out = np.full(self.windows, float(self.width_ns))
        for a, b in self.masks:
            out -= np.clip(np.minimum(edges[1:], b) - np.maximum(edges[:-1], a), 0, None)
        return out / NS_PER_S

    def window(self, t_ns: Ints) -> Ints:
        """The window of each instant."""
        out: Ints = (t_ns - self.first_ns) // self.width_ns
        return out

    def cuts(self, t_ns: Ints) -> list[tuple[int, int, int]]:
        """(window, first, last + 1) of the runs of sorted instants that lie in one window."""
        if not len(t_ns):
            return []
        low, high = (int(w) for w in self.window(t_ns[[0, -1]]))
        edges = self.first_ns + np.arange(low + 1, high + 1, dtype=np.int64) * self.width_ns
        at = [0, *np.searchsorted(t_ns, edges).tolist(), len(t_ns)]
        return [(low + i, a, b) for i, (a, b) in enumerate(itertools.pairwise(at)) if b > a]

    def crosses(self, before_ns: Ints, after_ns: Ints) -> npt.NDArray[np.bool_]:
        """Whether a mask lies between two instants: what was between them is not known."""
        out = np.zeros(len(after_ns), dtype=bool)
        for a, b in self.masks:
            out |= (before_ns < b) & (after_ns >= b) & (before_ns < a)
        return out


class Pass(Protocol):
    """What an aspect keeps of the rows as they go by, in time order: sums, never rows.

    ``columns``: SQL expressions over the main table, by the names under which ``add`` gets them. Rows without a
    time come last.
    """

    columns: Mapping[str, str]

    def add(self, rows: Mapping[str, pl.Series]) -> None: ...


def instants(rows: Mapping[str, pl.Series]) -> Ints:
    """``arrival_ns`` of the rows that have one; they come first."""
    t = rows["arrival_ns"]
    timed: Ints = t.head(len(t) - t.null_count()).to_numpy()
    return timed


def scan(trace: Trace, passes: Iterable[Pass]) -> None:
    """Read the main table once, in time order, for all of them. Columns of one name are one expression."""
    todo = list(passes)
    columns: dict[str, str] = {}
    for p in todo:
        for name, text in p.columns.items():
            if columns.setdefault(name, text) != text:
                raise AssertionError(f"two passes mean different things by the column {name!r}")
    if not todo:
        return
    for rows in trace.stream(columns):
        for p in todo:
            p.add(rows)

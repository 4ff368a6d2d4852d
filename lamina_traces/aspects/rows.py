"""Rows of a trace in memory: what traces, bootstraps and generators are judged by alike.

Distances between two workloads need their rows in time order and not their tables, so that a generator that has
never been stored is judged by the same code as a trace.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import polars as pl

from ..units import NS_PER_S

if TYPE_CHECKING:
    from ..store import Trace

Array = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

MOST_ROWS = 5_000_000
"""rows of a trace that are read, from its beginning."""
NAMES = ("model", "client_id", "tenant_id")
"""columns that name the stream a row belongs to."""


@dataclass(frozen=True, eq=False)  # equal is the same object: arrays are not compared
class Rows:
    """Rows in time order, those without an arrival last.

    ``arrival_ns``: [timed] ns from the start of the observation, ascending. ``input_tokens``, ``output_tokens``:
    [rows], NaN where not recorded. ``names``: for each recorded column of ``NAMES``, [rows] of text, null where not
    recorded. ``span_ns``: how long was observed. ``places``: [rows] where each row stands, or was copied from, in the table
    that was read. ``table``: what they are rows of. ``total``: rows of the trace, more
    than are held where it was cut.
    """

    arrival_ns: Ints
    span_ns: int
    input_tokens: Array
    output_tokens: Array
    places: Ints
    names: Mapping[str, pl.Series] = field(default_factory=dict)
    tick_ns: int = 1
    table: str = "llm_requests"
    total: int = 0

    @classmethod
    def of(
        cls,
        trace: Trace,
        table: str | None = None,
        span_ns: int | None = None,
        most: int = MOST_ROWS,
    ) -> Rows:
        """The first ``most`` rows of a table (default: the main one), observed from its first to its last arrival, or
        for ``span_ns`` from instant 0."""
        table = table or trace.main_table
        wanted = {"arrival_ns": "arrival_ns"}
        if table == "llm_requests":
            found = ("input_tokens", "output_tokens", *NAMES)
            wanted |= {c: c for c in found if trace.has(c, table)}
        parts: list[pl.DataFrame] = []
        total = 0
        for batch in trace.stream(wanted, table):
            frame = pl.DataFrame(batch)
            if total < most:
                parts.append(frame.head(most - total))
            total += frame.height
        frame = (
            pl.concat(parts)
            if parts
            else pl.DataFrame({"arrival_ns": pl.Series([], dtype=pl.Int64)})
        )
        made = cls.of_frame(frame, span_ns if total <= most else None)
        return replace(made, tick_ns=trace.manifest.tick_ns or 1, table=table, total=total)

    @classmethod
    def of_frame(cls, frame: pl.DataFrame, span_ns: int | None) -> Rows:
        """Canonical columns of a frame in time order. ``span_ns`` counts from instant 0 of the frame; None is from the
        first to the last arrival."""
        t = frame["arrival_ns"].drop_nulls().to_numpy()
        if span_ns is None:
            first = int(t[0]) if len(t) else 0
            t = t - first
            span_ns = int(t[-1]) if len(t) else 0

        def column(name: str) -> Array:
            if name not in frame.columns:
                return np.full(frame.height, np.nan)
            return frame[name].cast(pl.Float64).fill_null(np.nan).to_numpy()

        return cls(
            np.asarray(t, dtype=np.int64), span_ns, column("input_tokens"), column("output_tokens"), np.arange(frame.height),
            {c: frame[c] for c in NAMES if c in frame.columns}, total=frame.height,
        )  # fmt: skip

    def __len__(self) -> int:
        return len(self.input_tokens)

    @property
    def timed(self) -> int:
        """Rows that have an arrival."""
        return len(self.arrival_ns)

    @property
    def span_s(self) -> float:
        return self.span_ns / NS_PER_S

    @property
    def gap_s(self) -> Array:
        """[timed − 1] seconds between successive arrivals."""
        return np.asarray(np.diff(self.arrival_ns) / NS_PER_S)

    def between(self, start_ns: int, end_ns: int) -> Rows:
        """What arrived in start_ns ≤ t < end_ns, as an observation of that time."""
        first, last = np.searchsorted(self.arrival_ns, [start_ns, end_ns])
        part = self.take(np.arange(first, last))
        return replace(
            part, arrival_ns=self.arrival_ns[first:last] - start_ns, span_ns=end_ns - start_ns
        )

    def halves(self) -> tuple[Rows, Rows]:
        """The first and the second half of the time."""
        middle = self.span_ns // 2
        # the last arrival lies at the very end of the observation and belongs to it
        return self.between(0, middle), replace(
            self.between(middle, self.span_ns + 1), span_ns=self.span_ns - middle
        )

    def take(self, at: Ints, arrival_ns: Ints | None = None, span_ns: int | None = None) -> Rows:
        """The rows at these places, with arrivals and a span of their own where given."""
        t = self.arrival_ns[at[at < self.timed]] if arrival_ns is None else arrival_ns
        return replace(
            self,
            arrival_ns=t,
            span_ns=self.span_ns if span_ns is None else span_ns,
            input_tokens=self.input_tokens[at],
            output_tokens=self.output_tokens[at],
            places=self.places[at],
            names={k: v.gather(at) for k, v in self.names.items()},
            total=len(at),
        )


# --- distances of two samples ----------------------------------------------------------------------


def ks_distance(a: Array, b: Array) -> float:
    """Largest distance between the empirical cdfs of two samples."""
    a, b = np.sort(a), np.sort(b)
    at = np.concatenate([a, b])
    below = [np.searchsorted(x, at, side="right") / len(x) for x in (a, b)]
    return float(np.abs(below[0] - below[1]).max())


def wasserstein(a: Array, b: Array) -> float:
    """W1 of two samples: ∫ |F_a − F_b|, the mean distance of their quantile curves."""
    a, b = np.sort(a), np.sort(b)
    at = np.sort(np.concatenate([a, b]))
    below = [np.searchsorted(x, at[:-1], side="right") / len(x) for x in (a, b)]
    return float(np.abs(below[0] - below[1]) @ np.diff(at))


def mid_ranks(x: Array) -> Array:
    """Ranks as shares in (0, 1); ties share the middle of theirs."""
    _, group, n = np.unique(x, return_inverse=True, return_counts=True)
    return np.asarray(((np.cumsum(n) - n / 2) / len(x))[group])


def spearman(x: Array, y: Array) -> float | None:
    """Rank correlation with mid-ranks; None where a side is constant."""
    a, b = (mid_ranks(v) - 0.5 for v in (x, y))
    scale = float(np.sqrt((a @ a) * (b @ b)))
    return float(a @ b) / scale if scale > 0 else None

"""Failures as rows go by, in time order: by kind and window, in runs, the times between them, and in windows of named
widths. What is kept are sums; work is done where requests fail, which few do.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import polars as pl

from ..counts import Binning, Counts
from ..units import NS_PER_S
from .durations import Windowed
from .timeline import Timeline

if TYPE_CHECKING:
    from ..store import Trace

Array = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

KINDS = {
    1: "content filter",
    2: "rate-limited",
    3: "timeout",
    4: "client cancel",
    5: "server error",
    6: "client error",
    7: "unknown failure",
}
"""kinds of failure by their number in queries/failures/kind_counts.sql, which says what each is."""
CODES = 9
WIDTHS_S = (1, 10, 60, 600, 3600)
"""each a multiple of the one before."""
FEWEST_WINDOWS = 30
FEWEST_ROWS = 2.0
"""mean requests of a window below which too few meet in one to vary together."""
GROUPS = 256
MOST_FINE = 1 << 18
"""windows in which how the chance of failing swings is looked for."""


def kind_column() -> str:
    """The expression by which the query tells kinds apart, for a pass over rows."""
    from sqlglot import exp

    from ..store import lint, query

    tree = query.load("failures/kind_counts").tree
    found = next(
        a.this
        for a in tree.find_all(exp.Alias)
        if a.alias == "kind" and isinstance(a.this, exp.Case)
    )
    return f"CAST({lint.render(found)} AS TINYINT)"


class Pass:
    """One pass over time and kind. Rows that do not say whether they failed take no part; rows without a time, which
    come last, take part in runs alone. No run and no time between failures goes across a mask."""

    def __init__(self, trace: Trace, timeline: Timeline | None) -> None:
        self.columns: Mapping[str, str] = {
            "arrival_ns": "arrival_ns",
            "failure_kind": kind_column(),
        }
        self.timeline = timeline
        self.known = 0
        self.kinds = np.zeros(CODES, dtype=np.int64)
        self.runs, self.longest_run = 0, 0
        self._position, self._last_failed, self._run = 0, -2, 0
        self._before: int | None = None
        """the last failure's time."""
        self._last_ns: Ints = np.zeros(0, dtype=np.int64)
        """the last row's time, once there is one."""
        windows = timeline.windows if timeline else 0
        self.rows = np.zeros(windows)
        """known requests per window."""
        self.by_kind = np.zeros((windows, CODES))
        self.starts = np.zeros(windows)
        """runs that begin in each window."""
        self.tick_ns = max(trace.manifest.tick_ns or 1, 1)
        self.fine = Binning(11, self.tick_ns / NS_PER_S, "s")
        self.coarse = Binning(4, self.tick_ns / NS_PER_S, "s")
        self.gap_n, self.gap_total = np.zeros(self.fine.size), np.zeros(self.fine.size)
        self.window_n = np.zeros((windows, self.coarse.size))
        self.window_total = np.zeros((windows, self.coarse.size))
        self.cut: list[int] = []
        """ns from the edges of what was observed to the failures next to them."""
        self.widths: list[WidthSums] = []
        self.windows = FineWindows.of(timeline, self.tick_ns) if timeline else None
        self._edges: Ints = np.zeros(0, dtype=np.int64)
        if timeline is not None:
            self._edges = (
                timeline.first_ns + np.arange(windows + 1, dtype=np.int64) * timeline.width_ns
            )
            for w in WIDTHS_S:
                w_ns, span = w * NS_PER_S, timeline.span_ns
                per_window = timeline.timed * w_ns / span
                if (
                    w_ns >= self.tick_ns
                    and span // w_ns >= FEWEST_WINDOWS
                    and per_window >= FEWEST_ROWS
                ):
                    self.widths.append(WidthSums(float(w), int(span // w_ns)))

    @property
    def failed(self) -> int:
        return int(self.kinds[1:8].sum())

    @property
    def per_window(self) -> Array:
        """Failures per window."""
        return np.asarray(self.by_kind[:, 1:8].sum(axis=1))

    def add(self, rows: Mapping[str, pl.Series]) -> None:
        kind, time = rows["failure_kind"], rows["arrival_ns"]
        if kind.null_count():
            there = kind.is_not_null()
            kind, time = kind.filter(there), time.filter(there)
        if not len(kind):
            return
        code = kind.to_numpy()
        self.kinds += np.bincount(code, minlength=CODES)
        at = np.flatnonzero((code > 0) & (code < 8))
        timed = len(time) - time.null_count() if self.timeline else 0
        t: Ints = time.head(timed).to_numpy()
        fresh = self._runs(at, t)
        if timed and self.timeline is not None:
            failed = at[: np.searchsorted(at, timed)]
            self._windows(t, failed, code[failed], fresh[: len(failed)])
            self._gaps(t[failed])
            self._widths(t, failed)
            if self.windows:
                self.windows.add(t, failed)
            self._last_ns = t[-1:].copy()
        self._position += len(code)
        self.known += len(code)

    def _runs(self, at: Ints, t: Ints) -> npt.NDArray[np.bool_]:
        """Count the runs of failures; which failures begin one."""
        where = at + self._position
        fresh = np.diff(where, prepend=self._last_failed) > 1
        if self.timeline is not None and self.timeline.masks and len(at):
            earlier = np.concatenate([self._last_ns, t])
            skip = len(self._last_ns)
            timed = at[(at + skip > 0) & (at < len(t))]
            broken = self.timeline.crosses(earlier[timed + skip - 1], t[timed])
            fresh[np.searchsorted(at, timed[broken])] = True
        begins = np.flatnonzero(fresh)
        self.runs += len(begins)
        if len(at):
            lengths = np.diff(np.concatenate([begins, [len(at)]]))
            joined = self._run + (begins[0] if len(begins) else len(at))
            self.longest_run = max(self.longest_run, int(joined), int(lengths.max(initial=0)))
            self._run = int(lengths[-1]) if len(begins) else int(joined)
            self._last_failed = int(where[-1])
        return fresh

    def _windows(self, t: Ints, failed: Ints, code: Ints, fresh: npt.NDArray[np.bool_]) -> None:
        if self.timeline is None:
            return
        low, high = (int(w) for w in self.timeline.window(t[[0, -1]]))
        cuts = np.searchsorted(t, self._edges[low : high + 2])
        self.rows[low : high + 1] += np.diff(cuts)
        w = np.searchsorted(cuts, failed, side="right") - 1
        size = (high - low + 1) * CODES
        self.by_kind[low : high + 1] += np.bincount(w * CODES + code, minlength=size).reshape(
            -1, CODES
        )
        self.starts[low : high + 1] += np.bincount(w[fresh], minlength=high - low + 1)

    def _gaps(self, t: Ints) -> None:
        timeline = self.timeline
        if timeline is None or not len(t):
            return
        if self._before is None:
            self.cut.append(int(t[0]) - timeline.first_ns)
            before, after = t[:-1], t[1:]
        else:
            before, after = np.concatenate([[self._before], t[:-1]]), t
        self._before = int(t[-1])
        if timeline.masks and len(after):
            across = timeline.crosses(before, after)
            for a, b in zip(before[across].tolist(), after[across].tolist(), strict=True):
                inside = [m for m in timeline.masks if a < m[1] and b > m[0]]
                self.cut += [inside[0][0] - a, b - inside[-1][1]]
            before, after = before[~across], after[~across]
        if not len(after):
            return
        ticks = (after - before) // self.tick_ns
        x = ticks.astype(np.float64)
        at = self.fine.index(ticks)
        self.gap_n += np.bincount(at, minlength=self.fine.size)
        self.gap_total += np.bincount(at, weights=x, minlength=self.fine.size)
        w = timeline.window(after)
        low, high = int(w[0]), int(w[-1])
        cell = (w - low) * self.coarse.size + self.coarse.index(ticks)
        size = (high - low + 1) * self.coarse.size
        for into, weights in ((self.window_n, None), (self.window_total, x)):
            into[low : high + 1] += np.bincount(cell, weights=weights, minlength=size).reshape(-1, self.coarse.size)  # fmt: skip

    def _widths(self, t: Ints, failed: Ints) -> None:
        if not self.widths or self.timeline is None:
            return
        ids = (t - self.timeline.first_ns) // round(self.widths[0].width_s * NS_PER_S)
        first = np.flatnonzero(np.diff(ids, prepend=-1))
        n = np.diff(np.append(first, len(ids)))
        k = np.bincount(np.searchsorted(first, failed, side="right") - 1, minlength=len(first))
        self._feed(0, ids[first], n, k)

    def _feed(self, i: int, ids: Ints, n: Ints, k: Ints) -> None:
        """Sum up windows that are complete, and hand them to the next wider width."""
        for j in range(i, len(self.widths)):
            ids, n, k = self.widths[j].add(ids, n, k)
            if not len(ids) or j + 1 == len(self.widths):
                return
            ids, n, k = joined(
                ids // round(self.widths[j + 1].width_s / self.widths[j].width_s), n, k
            )

    def close(self) -> None:
        """After the last row: the windows still open, and the time behind the last failure."""
        for i, width in enumerate(self.widths):
            last = width.flush()
            if last is not None and i + 1 < len(self.widths):
                ids, n, k = last
                self._feed(i + 1, ids // round(self.widths[i + 1].width_s / width.width_s), n, k)
        if self.timeline is not None and self._before is not None:
            after = [m[0] for m in self.timeline.masks if m[0] >= self._before]
            self.cut.append(min([self.timeline.last_ns, *after]) - self._before)
            self._before = None

    def between(self) -> tuple[Counts, Counts]:
        """Times between failures in seconds, and those cut off by an edge or a mask."""
        cut = np.array([c for c in self.cut if c > 0], dtype=np.float64) / NS_PER_S
        return self.fine.counts(self.gap_n, self.gap_total), Counts.of(cut, "s")

    def between_windows(self) -> Windowed:
        """The same by window of the later failure."""
        used = self.window_n.sum(axis=0) > 0
        return Windowed(
            self.window_n[:, used], self.window_total[:, used] * (self.tick_ns / NS_PER_S)
        )


class FineWindows:
    """``n`` requests and ``k`` failures in windows of 2**``bits`` ns, counted from the clock's 0: so those of any two traces of
    one clock lie on each other. ``first``: number of the first."""

    def __init__(self, bits: int, first: int, last: int) -> None:
        self.bits, self.first = bits, first
        self.n, self.k = np.zeros(last - first + 1), np.zeros(last - first + 1)

    @classmethod
    def of(cls, timeline: Timeline, tick_ns: int) -> FineWindows:
        """At most about MOST_FINE, no finer than the clock's step."""
        bits = max((timeline.span_ns // MOST_FINE).bit_length(), (tick_ns - 1).bit_length())
        return cls(bits, timeline.first_ns >> bits, timeline.last_ns >> bits)

    @classmethod
    def sum(cls, those: Sequence[FineWindows]) -> FineWindows:
        """Of all of them."""
        bits = max(w.bits for w in those)
        out = cls(
            bits, min(w.number(bits)[0] for w in those), max(w.number(bits)[-1] for w in those)
        )
        for w in those:
            at = w.number(bits) - out.first
            n, k = w.wider(bits)
            out.n[at] += n
            out.k[at] += k
        return out

    def add(self, t: Ints, failed: Ints) -> None:
        at = (t >> self.bits) - self.first
        low, high = int(at[0]), int(at[-1]) + 1
        self.n[low:high] += np.bincount(at - low, minlength=high - low)
        self.k[low:high] += np.bincount(at[failed] - low, minlength=high - low)

    def wider(self, bits: int) -> tuple[Array, Array]:
        """(n, k) of windows of 2**``bits`` ns, as ``number`` numbers them."""
        of = 1 << (bits - self.bits)
        before = self.first % of
        cuts = np.maximum(np.arange(0, len(self.n) + before, of) - before, 0)
        return np.add.reduceat(self.n, cuts), np.add.reduceat(self.k, cuts)

    def number(self, bits: int) -> Ints:
        """Numbers of the windows of 2**``bits`` ns."""
        shift = bits - self.bits
        return np.arange(self.first >> shift, ((self.first + len(self.n) - 1) >> shift) + 1)

    def halves(self, bits: int) -> tuple[Array, Array]:
        """(n, k) [windows, 2] of the halves of windows of 2**``bits`` ns."""
        odd = (self.first >> (bits - 1 - self.bits)) % 2
        n, k = (np.append(np.zeros(odd), x) for x in self.wider(bits - 1))
        a, b = (np.append(x, np.zeros(len(x) % 2)).reshape(-1, 2) for x in (n, k))
        return a, b


class WidthSums:
    """Windows of one width, closed one by one: Σ over ``groups`` of neighbouring ones of (n, k, n², n·k, k²)."""

    def __init__(self, width_s: float, windows: int) -> None:
        self.width_s, self.windows = width_s, windows
        self.groups = min(GROUPS, windows)
        self.sums = np.zeros((self.groups, 5))
        self._borders = -(-np.arange(self.groups + 1) * windows // self.groups)
        self._open: tuple[int, int, int] | None = None

    def add(self, ids: Ints, n: Ints, k: Ints) -> tuple[Ints, Ints, Ints]:
        """Windows in order, each with its requests and failures; gives back those that are complete."""
        if self._open is not None:
            i, a, b = self._open
            ids, n, k = joined(*(np.concatenate([[x], y]) for x, y in zip((i, a, b), (ids, n, k), strict=True)))  # fmt: skip
        self._open = (int(ids[-1]), int(n[-1]), int(k[-1]))
        return self._closed(ids[:-1], n[:-1], k[:-1])

    def flush(self) -> tuple[Ints, Ints, Ints] | None:
        """Close the last window."""
        if self._open is None:
            return None
        done = [np.array([x], dtype=np.int64) for x in self._open]
        self._open = None
        return self._closed(done[0], done[1], done[2])

    def _closed(self, ids: Ints, n: Ints, k: Ints) -> tuple[Ints, Ints, Ints]:
        # the stub at the end is no window; groups are told apart where they begin
        cuts = np.searchsorted(ids, self._borders)
        a, b = n.astype(np.float64), k.astype(np.float64)
        for j, column in enumerate((a, b, a * a, a * b, b * b)):
            self.sums[:, j] += np.diff(np.concatenate([[0.0], np.cumsum(column)])[cuts])
        return ids, n, k


def joined(ids: Ints, n: Ints, k: Ints) -> tuple[Ints, Ints, Ints]:
    """Neighbours of one window added up."""
    first = np.flatnonzero(np.diff(ids, prepend=-1))
    return ids[first], np.add.reduceat(n, first), np.add.reduceat(k, first)

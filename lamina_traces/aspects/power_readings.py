"""One pass over power readings: energy, peaks and rises of every source, and the sums of groups of them.

The pass keeps, of each source, sums and the readings of its last minute; of each group, what it drew at the instants
of a regular grid.

A step between successive readings of a source that is longer than three of its median periods is a gap, and
so is one with a mask in it: no integral, window or rise goes across.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import polars as pl

from ..units import NS_PER_S
from .power_sources import Array, Ints, groups, sources

if TYPE_CHECKING:
    from ..store import Trace
    from .timeline import Timeline

GAP_PERIODS = 3
PEAK_WINDOWS_S = (1, 10, 60)
RISES_S = (2, 40)
"""a row of racks is read every 2 s and capped within 40 s, so what a load can rise in that time decides (POLCA)."""
AS_LONG = 1.05
"""a window within 5 % of the sampling period is the reading itself."""

_BREAK_NS = 400 * NS_PER_S
"""how far apart the key of two readings is when a gap lies between: beyond every window."""


@dataclass
class Sums:
    """Per source, [sources] each: what the steps and windows of its readings add up to."""

    size: int
    readings: Array = field(init=False)
    watts: Array = field(init=False)
    lowest_w: Array = field(init=False)
    highest_w: Array = field(init=False)
    covered_s: Array = field(init=False)
    trapezoid_j: Array = field(init=False)
    left_j: Array = field(init=False)
    gaps: Array = field(init=False)
    steepest_w_per_s: Array = field(init=False)
    largest_step_w: Array = field(init=False)
    peak_w: Array = field(init=False)
    """[sources, PEAK_WINDOWS_S]; −inf where no window was seen."""
    rise_w: Array = field(init=False)
    """[sources, RISES_S]"""
    rise_at_least_w: Array = field(init=False)
    limited: Array = field(init=False)
    """readings with a power limit, and those within 1 % of it or above."""
    at_limit: Array = field(init=False)
    limit_w: Array = field(init=False)
    counter_j: Array = field(init=False)
    counter_s: Array = field(init=False)
    counter_trapezoid_j: Array = field(init=False)
    """the integral of the readings over the same spans."""
    counter_gap_j: Array = field(init=False)
    counter_resets: Array = field(init=False)

    def __post_init__(self) -> None:
        n = self.size
        for name in ("readings", "watts", "covered_s", "trapezoid_j", "left_j", "gaps", "limited", "at_limit",
                     "counter_j", "counter_s", "counter_trapezoid_j", "counter_gap_j", "counter_resets"):  # fmt: skip
            setattr(self, name, np.zeros(n))
        self.lowest_w = np.full(n, np.inf)
        for name in ("highest_w", "steepest_w_per_s", "largest_step_w", "limit_w"):
            setattr(self, name, np.full(n, -np.inf))
        self.peak_w = np.full((n, len(PEAK_WINDOWS_S)), -np.inf)
        self.rise_w = np.full((n, len(RISES_S)), -np.inf)
        self.rise_at_least_w = np.full((n, len(RISES_S)), -np.inf)


class Pass:
    """The pass over the readings of a trace: ``sums`` of each of the ``sources``, and the grids of the ``groups``."""

    columns: Mapping[str, str] = {
        "power_source": "COALESCE(host, '') || chr(31) || device || chr(31) || domain || chr(31) || "
        "CASE WHEN is_average IS NULL THEN 'unknown' WHEN is_average THEN 'average' ELSE 'instant' END",
        "arrival_ns": "arrival_ns",
        "power_w": "CASE WHEN power_w >= 0 THEN power_w END",
        "energy_j": "energy_j",
        "power_limit_w": "power_limit_w",
    }

    def __init__(self, trace: Trace, timeline: Timeline | None = None) -> None:
        of = sources(trace) if trace.main_table == "power_samples" else []
        if not of:
            self.columns = {"row_id": "row_id"}
        self.groups = tuple(groups(trace, of))
        self.grids = tuple(g.grid for g in self.groups)
        self.masks = trace.masks
        self.timeline = timeline
        n = len(of)
        self.sources = tuple(of)
        self.sums = Sums(n)
        self._keys = pl.DataFrame(
            {"power_source": [s.key for s in of], "code": np.arange(n)},
            schema={"power_source": pl.String, "code": pl.Int64},
        )
        period = np.array([s.period_ns or 0.0 for s in of])
        self._period_ns = period
        self._limit_ns = np.floor(GAP_PERIODS * period).astype(np.int64)
        self._wide = [period * AS_LONG < w * NS_PER_S for w in PEAK_WINDOWS_S]
        self._known = [period <= d * NS_PER_S for d in RISES_S]
        none = np.zeros(0, dtype=np.int64)
        self._carry: tuple[Ints, Ints, Array] = (none, none, np.zeros(0))
        # the last counter of each source: instant, value, and the energy used and the gaps seen until then
        self._counter = (np.zeros(n), np.full(n, np.nan), np.zeros(n), np.zeros(n))

    def add(self, rows: Mapping[str, pl.Series]) -> None:
        if not self.sources:
            return
        frame = pl.DataFrame({k: rows[k] for k in self.columns})
        frame = frame.join(self._keys, on="power_source", how="left", maintain_order="left")
        # a source without a single reading has no code
        frame = frame.filter(pl.col("code").is_not_null()).drop("power_source")
        measured = frame.filter(pl.col("power_w").is_not_null())
        if len(measured):
            self._limits(measured)
            self._readings(
                measured["code"].to_numpy(),
                measured["arrival_ns"].to_numpy(),
                measured["power_w"].to_numpy(),
                measured["energy_j"].cast(pl.Float64).fill_null(np.nan).to_numpy(),
            )

    def finish(self) -> None:
        """The last reading of each source holds for one period. Call once, after all rows."""
        code, t, w = self._carry
        last = np.flatnonzero(np.diff(code, append=-1) != 0)
        self._hold(code[last], t[last], t[last] + self._period_ns[code[last]].astype(np.int64), w[last])  # fmt: skip

    def _limits(self, rows: pl.DataFrame) -> None:
        known = rows.filter(pl.col("power_limit_w") > 0)
        if not len(known):
            return
        code, limit = known["code"].to_numpy(), known["power_limit_w"].to_numpy()
        n = len(self.sources)
        self.sums.limited += np.bincount(code, minlength=n)
        at = known["power_w"].to_numpy() >= 0.99 * limit
        self.sums.at_limit += np.bincount(code, weights=at, minlength=n)
        np.maximum.at(self.sums.limit_w, code, limit)

    def _readings(self, code: Ints, t: Ints, w: Array, counter_j: Array) -> None:
        s, n = self.sums, len(self.sources)
        s.readings += np.bincount(code, minlength=n)
        s.watts += np.bincount(code, weights=w, minlength=n)
        np.minimum.at(s.lowest_w, code, w)
        np.maximum.at(s.highest_w, code, w)

        # what is carried lies before the batch, and a stable sort keeps the time order of each source
        old = len(self._carry[0])
        code, t, w = (np.concatenate(p) for p in zip(self._carry, (code, t, w), strict=True))
        counter_j = np.concatenate([np.full(old, np.nan), counter_j])
        order = np.argsort(code, kind="stable")
        code, t, w, counter_j = code[order], t[order], w[order], counter_j[order]
        fresh = order >= old
        r = _Rows.of(code, t, w, self._limit_ns, self.masks)
        new, broken = r.joined & fresh, r.same & ~r.joined & fresh

        used = s.trapezoid_j[code] + r.running(np.where(new, r.joules, 0.0))
        breaks = s.gaps[code] + r.running(broken.astype(np.float64))
        measured = fresh & np.isfinite(counter_j)
        if measured.any():
            m = measured
            self._counters(code[m], t[m], counter_j[m], used[m], breaks[m])
        for total, values, where in (
            (s.covered_s, r.step_s, new),
            (s.trapezoid_j, r.joules, new),
            (s.left_j, r.before_w * r.step_s, new),
            (s.gaps, np.ones(len(code)), broken),
        ):
            total += np.bincount(code[where], weights=values[where], minlength=n)

        timed = new & (r.step_s > 0)
        at, change, step_s = code[timed], (w - r.before_w)[timed], r.step_s[timed]
        np.maximum.at(s.largest_step_w, at, change)
        np.maximum.at(s.steepest_w_per_s, at, np.abs(change) / step_s)
        for i, d in enumerate(RISES_S):
            # of a rise over a longer step at least one of its pieces of d seconds has its share
            np.maximum.at(s.rise_at_least_w[:, i], at, change / np.ceil(step_s / d))
            rows = np.flatnonzero(fresh & self._known[i][code])
            first = np.searchsorted(r.key, r.key[rows] - d * NS_PER_S)
            np.maximum.at(s.rise_w[:, i], code[rows], w[rows] - lowest(w, first, rows))
        for i, width in enumerate(PEAK_WINDOWS_S):
            rows = np.flatnonzero(new & self._wide[i][code])
            mean, whole = r.means(rows, width)
            np.maximum.at(s.peak_w[:, i], code[rows[whole]], mean[whole])

        ended = r.same & fresh
        until = np.where(r.joined, t, r.before_ns + self._period_ns[code].astype(np.int64))
        self._hold(code[ended], r.before_ns[ended], until[ended], r.before_w[ended])
        kept = r.recent(max(*PEAK_WINDOWS_S, *RISES_S))
        self._carry = (code[kept], t[kept], w[kept])

    def _counters(self, code: Ints, t: Ints, joules: Array, used: Array, breaks: Array) -> None:
        """Differences of the energy counters, to the last one of each source before. A counter that falls was
        reset: what it counted meanwhile is not known, and the span counts for nothing."""
        s, n = self.sums, len(self.sources)
        first = np.concatenate([[True], code[1:] != code[:-1]])
        last = np.concatenate([first[1:], [True]])
        now = (t.astype(np.float64), joules, used, breaks)
        before = [np.where(first, b[code], np.concatenate([x[:1], x[:-1]])) for x, b in zip(now, self._counter, strict=True)]  # fmt: skip
        seen = np.isfinite(before[1])
        for a, b in self.masks:
            seen &= ~((before[0] < a) & (t >= b))
        gain = joules - before[1]
        up, whole = seen & (gain >= 0), breaks == before[3]
        for total, values, where in (
            (s.counter_j, gain, up & whole),
            (s.counter_s, (now[0] - before[0]) / NS_PER_S, up & whole),
            (s.counter_trapezoid_j, used - before[2], up & whole),
            (s.counter_gap_j, gain, up & ~whole),
            (s.counter_resets, np.ones(len(code)), seen & (gain < 0)),
        ):
            total += np.bincount(code[where], weights=values[where], minlength=n)
        for x, held in zip(now, self._counter, strict=True):
            held[code[last]] = x[last]

    def _hold(self, code: Ints, start_ns: Ints, end_ns: Ints, watts: Array) -> None:
        for grid in self.grids:
            grid.hold(code, start_ns, end_ns, watts)


@dataclass(frozen=True)
class _Rows:
    """Readings sorted by source, then time, each with the step that leads to it.

    ``key`` is a clock that grows by each step within a run and by far more between runs and sources, so that a
    search in it finds the readings of the last minute and none beyond a gap.
    """

    w: Array
    before_w: Array
    before_ns: Ints
    same: npt.NDArray[np.bool_]
    joined: npt.NDArray[np.bool_]
    """no gap, no mask and no other source lies before the reading."""
    step_s: Array
    joules: Array
    key: Ints
    first: Ints
    """position of the first reading of the same source."""
    run: Ints
    """position of the first reading of the same run."""

    @classmethod
    def of(
        cls, code: Ints, t: Ints, w: Array, limit_ns: Ints, masks: Sequence[tuple[int, int]]
    ) -> _Rows:
        before_ns, before_w = np.concatenate([t[:1], t[:-1]]), np.concatenate([w[:1], w[:-1]])
        same = np.concatenate([[False], code[1:] == code[:-1]])
        step = t - before_ns
        joined = same & (step <= limit_ns[code])
        for a, b in masks:
            joined &= ~((before_ns < a) & (t >= b))
        seconds = np.where(joined, step, 0) / NS_PER_S
        at = np.arange(len(t))
        return cls(
            w,
            before_w,
            before_ns,
            same,
            joined,
            seconds,
            (w + before_w) / 2 * seconds,
            np.cumsum(np.where(joined, np.minimum(step, _BREAK_NS), _BREAK_NS)),
            np.maximum.accumulate(np.where(same, 0, at)),
            np.maximum.accumulate(np.where(joined, 0, at)),
        )

    def running(self, each: Array) -> Array:
        """[rows] sum of ``each`` from the first reading of the same source up to each."""
        total = np.cumsum(each)
        out: Array = total - total[self.first] + each[self.first]
        return out

    def means(self, rows: Ints, width_s: int) -> tuple[Array, npt.NDArray[np.bool_]]:
        """The mean power over the ``width_s`` before each of ``rows``, straight lines between readings, and whether
        the run goes back that far."""
        start = self.key[rows] - width_s * NS_PER_S
        after = np.searchsorted(self.key, start, side="right")
        whole = start >= self.key[self.run[rows]]
        total = np.cumsum(self.joules)
        left = self.key[after] - start
        share = left / np.maximum(self.key[after] - self.key[after - 1], 1)
        at_start = self.w[after] + share * (self.w[after - 1] - self.w[after])
        stub = (self.w[after] + at_start) / 2 * left / NS_PER_S
        return (total[rows] - total[after] + stub) / width_s, whole

    def recent(self, seconds: int) -> npt.NDArray[np.bool_]:
        """Which readings the next ones of their source may look back to: those of the last ``seconds``, and one."""
        last = np.flatnonzero(np.concatenate([~self.same[1:], [True]]))
        begin = np.searchsorted(self.key, self.key[last] - seconds * NS_PER_S, side="right") - 1
        edge = np.zeros(len(self.key) + 1, dtype=np.int64)
        edge[np.maximum(begin, self.first[last])] += 1
        edge[last + 1] -= 1
        return np.cumsum(edge[:-1]) > 0


def lowest(x: Array, first: Ints, last: Ints) -> Array:
    """The least of x[first … last], ends included, for each pair: minima over 1, 2, 4… entries, two of which cover
    any stretch."""
    if not len(first):
        return np.zeros(0)
    level = np.frexp((last - first + 1).astype(np.float64))[1] - 1
    out = np.empty(len(first))
    table, size = x, 1
    for k in range(int(level.max()) + 1):
        mine = level == k
        out[mine] = np.minimum(table[first[mine]], table[last[mine] - size + 1])
        table = np.minimum(table[:-size], table[size:])
        size *= 2
    return out

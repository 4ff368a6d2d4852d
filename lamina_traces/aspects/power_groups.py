"""What a group of power sources drew together, over time: peaks, rises, load duration, autocorrelation, phases.

Everything here is of the sum on a regular grid (``power_sources.Aligned``: each source holds its last reading), so
gaps are unfilled cells, and no window, rise or correlation goes across them.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from ..counts import Counts, significant
from ..distributions import Grid
from ..errors import ModelError
from ..intervals import Blocks, Interval, read_intervals
from ..units import LONGEST_S, short
from .phases import Phases, fit_phases
from .power_readings import AS_LONG, PEAK_WINDOWS_S, RISES_S, lowest
from .power_sources import Aligned
from .timeline import Timeline

Array = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
Figures = Mapping[str, float | None]
"""by the width of a window in seconds, as text; None where the sampling is too slow for it."""

QUANTILES = {"p1": 0.01, "p10": 0.1, "p50": 0.5, "p90": 0.9, "p99": 0.99}
KNOTS = 201
LAGS = 25
LONGEST_LAG_S = 3600.0
MOST_CORRELATED = 1 << 20
"""cells of an autocorrelation; a longer grid is averaged to fewer."""
MOST_DEVICES = 1_000_000
"""of a group: each has a row at every step."""


@dataclass(frozen=True)
class Course:
    """How a group's power goes over time. ``curve_mean_w``, ``curve_max_w``: of each window of ``curve_s``, None where
    nothing was read; ``acf``: at ``lags_s``, biased, around the global mean, on a grid of ``acf_step_s``."""

    quantiles_w: Mapping[str, float]
    intervals: Mapping[str, Interval]
    """95 %, of the mean and the quantiles, by moving blocks of windows; empty for a short trace."""
    load_duration: Grid | None
    acf_step_s: float
    lags_s: tuple[float, ...]
    acf: tuple[float, ...]
    curve_s: float
    curve_mean_w: tuple[float | None, ...]
    curve_max_w: tuple[float | None, ...]
    phases: Phases | None

    def to_dict(self) -> dict[str, Any]:
        return {
            "quantiles_w": dict(self.quantiles_w),
            "intervals": {k: i.to_dict() for k, i in self.intervals.items()},
            "load_duration": self.load_duration.to_dict() if self.load_duration else None,
            "acf": {
                "step_s": self.acf_step_s,
                "lags_s": list(self.lags_s),
                "values": list(self.acf),
            },
            "curve": {
                "window_s": self.curve_s,
                "mean_w": list(self.curve_mean_w),
                "max_w": list(self.curve_max_w),
            },
            "phases": self.phases.to_dict() if self.phases else None,
        }

    @classmethod
    def from_dict(cls, d: dict[str, Any]) -> Course:
        curve, acf = d["curve"], d["acf"]
        out = cls(
            {str(k): watts(v) for k, v in d["quantiles_w"].items()},
            read_intervals(d["intervals"]),
            Grid.from_dict(d["load_duration"]) if d["load_duration"] else None,
            positive(acf["step_s"]),
            tuple(positive(x) for x in acf["lags_s"]),
            tuple(float(x) for x in acf["values"]),
            positive(curve["window_s"]),
            tuple(None if x is None else watts(x) for x in curve["mean_w"]),
            tuple(None if x is None else watts(x) for x in curve["max_w"]),
            Phases.from_dict(d["phases"]) if d["phases"] else None,
        )
        if len(out.acf) != len(out.lags_s) or any(not abs(r) <= 1 + 1e-9 for r in out.acf):
            raise _nonsense("an autocorrelation is beyond ±1")
        if len(out.curve_mean_w) != len(out.curve_max_w):
            raise _nonsense("two curves of one group differ in length")
        return out


@dataclass(frozen=True)
class Group:
    """Power of ``devices`` sources together. ``scope``: all, domain or host, ``name`` of the latter two.

    ``mean_w``: time-weighted; ``energy_j``: the sources' own integrals, added. ``complete``: share of the grid's
    instants at which all report; the figures are over these, or over all instants where they are fewer than half.
    ``peaks_w``: the highest mean over 1, 10 and 60 s, ``peak_w`` the highest instant. ``rises_w``: max P(t + d) −
    P(t), d ≤ 2 and 40 s; ``rises_at_least_w`` is all that slower readings say. ``load_factors``: mean / peak, of
    the instants (``native``) and of each window. ``diversity``: sum of the sources' own peaks / peak of the sum.
    """

    scope: str
    name: str
    reading: str
    devices: int
    step_s: float
    complete: float
    mean_w: float
    energy_j: float
    peak_w: float
    peaks_w: Figures
    rises_w: Figures
    rises_at_least_w: Figures
    load_factors: Figures
    diversity: float
    course: Course | None = None

    @property
    def together(self) -> bool:
        """Whether the sources report at the same time for half of it or more."""
        return self.complete >= 0.5

    def to_dict(self) -> dict[str, Any]:
        out: dict[str, Any] = {
            k: dict(v) if isinstance(v, Mapping) else v
            for k, v in self.__dict__.items()
            if k != "course"
        }
        return out | ({"course": self.course.to_dict()} if self.course else {})

    @classmethod
    def from_dict(cls, d: dict[str, Any]) -> Group:
        out = cls(
            str(d["scope"]), str(d["name"]), str(d["reading"]), int(d["devices"]), positive(d["step_s"]),
            float(d["complete"]), watts(d["mean_w"]), watts(d["energy_j"]), watts(d["peak_w"]),
            figures(d["peaks_w"]), figures(d["rises_w"]), figures(d["rises_at_least_w"]), figures(d["load_factors"]),
            watts(d["diversity"]), Course.from_dict(d["course"]) if d.get("course") else None,
        )  # fmt: skip
        if not 0 <= out.complete <= 1 or not 1 <= out.devices <= MOST_DEVICES:
            raise _nonsense("a share or a number of devices is none")
        return out


def watts(x: Any) -> float:
    """A finite number ≥ 0 of a profile. Raises ModelError."""
    value = float(x)
    if not 0 <= value < math.inf:
        raise _nonsense(f"{x!r} is no power, energy or time")
    return value


def positive(x: Any) -> float:
    value = watts(x)
    if not 1e-9 <= value <= LONGEST_S:
        raise _nonsense(f"a step or a window of {value:g} s cannot be")
    return value


def figures(d: Mapping[str, Any]) -> dict[str, float | None]:
    return {str(k): None if v is None else watts(v) for k, v in d.items()}


def _nonsense(what: str) -> ModelError:
    return ModelError(f"power of the profile: {what}", "fit the profile again")


def measure(
    grid: Aligned,
    *,
    scope: str,
    name: str,
    reading: str,
    peaks_w: Array,
    energy_j: float,
    mean_w: float | None = None,
    masks: Sequence[tuple[int, int]] = (),
    timeline: Timeline | None = None,
) -> Group | None:
    """The figures of a group whose sources have the highest readings ``peaks_w``. With a ``timeline`` also its
    course. ``mean_w``: where it is known better than from the grid. None where the grid is empty."""
    x, present = grid.series(masks)
    devices = int(grid.members.sum())
    reported = present > 0
    if not reported.any():
        return None
    complete = float((present == devices).sum() / reported.sum())
    if complete >= 0.5:
        x[present < devices] = np.nan
    parts = runs(x)
    mean = float(np.nanmean(x)) if mean_w is None else mean_w
    peak = float(np.nanmax(x))
    step = grid.step_s
    peaks = {str(w): _peak(parts, w, step, peak) for w in PEAK_WINDOWS_S}
    rises = {str(d): _rise(parts, math.floor(d / step)) if d >= step else None for d in RISES_S}
    least = {str(d): _rise(parts, 1) / math.ceil(step / d) for d in RISES_S if d < step}
    every = {"native": peak, **peaks}
    return Group(
        scope,
        name,
        reading,
        devices,
        short(step, 9),
        short(complete),
        short(mean),
        short(energy_j, 9),
        short(peak),
        {k: None if v is None else short(v) for k, v in peaks.items()},
        {k: None if v is None else short(v) for k, v in rises.items()},
        {k: short(v) for k, v in least.items()},
        {k: short(mean / v) if v else None for k, v in every.items()},
        short(float(peaks_w.sum()) / peak) if peak > 0 else 1.0,
        None if timeline is None else _course(x, parts, grid, timeline),
    )


def runs(x: Array) -> list[Array]:
    """The stretches of ``x`` without NaN."""
    there = np.concatenate([[False], np.isfinite(x), [False]])
    edges = np.flatnonzero(np.diff(there.astype(np.int8)))
    return [x[a:b] for a, b in edges.reshape(-1, 2)]


def autocorrelation(x: Array, lags: Sequence[int]) -> Array:
    """Biased, around the mean of what is there: Σ d(t)·d(t + k) / Σ d(t)², NaN adding nothing to either sum."""
    d = np.where(np.isfinite(x), x - np.nanmean(x), 0.0)
    power = float(d @ d)
    if power <= 0:
        return np.zeros(len(lags))
    size = 1 << (2 * len(d) - 1).bit_length()
    f = np.fft.rfft(d, size)
    both = np.fft.irfft(f * np.conj(f), size)
    return np.asarray(both[list(lags)] / power)


def _peak(parts: list[Array], window_s: float, step_s: float, native: float) -> float | None:
    if step_s > window_s * AS_LONG:
        return None
    cells = round(window_s / step_s)
    if cells <= 1:
        return native
    found = [float(_moving(p, cells).max()) for p in parts if len(p) >= cells]
    return max(found, default=None)


def _moving(x: Array, cells: int) -> Array:
    total = np.concatenate([[0.0], np.cumsum(x)])
    out: Array = (total[cells:] - total[:-cells]) / cells
    return out


def _rise(parts: list[Array], cells: int) -> float:
    out = 0.0
    for p in parts:
        at = np.arange(len(p))
        out = max(out, float((p - lowest(p, np.maximum(at - cells, 0), at)).max()))
    return out


def _course(x: Array, parts: list[Array], grid: Aligned, timeline: Timeline) -> Course:
    there = np.isfinite(x)
    values = x[there]
    at_ns = grid.origin_ns + np.flatnonzero(there) * grid.step_ns
    window = np.clip(timeline.window(at_ns), 0, timeline.windows - 1)
    n = np.bincount(window, minlength=timeline.windows)
    total = np.bincount(window, weights=values, minlength=timeline.windows).astype(np.float64)
    highest = np.full(timeline.windows, -np.inf)
    np.maximum.at(highest, window, values)
    used = n > 0
    acf_step, lags, acf = _correlations(x, grid.step_s)
    distinct, times = np.unique(np.round(values, 2), return_counts=True)
    counts = Counts.exact(distinct, times, "W")
    q = counts.quantile(np.array(list(QUANTILES.values())))
    return Course(
        {k: short(float(v)) for k, v in zip(QUANTILES, q, strict=True)},
        _intervals(values, window, n.astype(np.float64), total),
        Grid.of(counts, KNOTS, k=1) if counts.rows >= 20 else None,
        acf_step,
        lags,
        acf,
        short(timeline.width_s, 9),
        tuple(short(t / k, 5) if k else None for t, k in zip(total, n, strict=True)),
        tuple(short(h, 5) if k else None for h, k in zip(highest, used, strict=True)),
        fit_phases(*_seconds(parts, grid.step_s)),
    )


def _intervals(values: Array, window: Ints, n: Array, total: Array) -> dict[str, Interval]:
    """Of the mean and some quantiles, over windows that hold readings."""
    used = np.flatnonzero(n)
    blocks = Blocks.of(total[used] / n[used])
    if blocks is None:
        return {}
    mean, variance = float(values.mean()), float(values.var())
    drawn = blocks.sums(np.stack([total[used], n[used]], axis=1))
    found = {"mean": blocks.interval(mean, drawn[:, 0] / drawn[:, 1], variance=variance)}
    low, high = float(values.min()), float(values.max())
    if high > low:
        bins = 512
        cell = np.minimum(((values - low) / (high - low) * bins).astype(np.int64), bins - 1)
        seat = np.searchsorted(used, window)
        table = np.bincount(seat * bins + cell, minlength=len(used) * bins)
        sums = np.cumsum(blocks.sums(table.reshape(len(used), bins).astype(np.float64)), axis=1)
        for name in ("p50", "p90", "p99"):
            point = float(np.quantile(values, QUANTILES[name]))
            wanted = QUANTILES[name] * sums[:, -1:]
            k = np.minimum((sums < wanted).sum(axis=1), bins - 1)
            found[name] = blocks.interval(point, low + (k + 0.5) / bins * (high - low))
    # nothing speaks for a mean or a quantile beyond every instant that was read
    return {
        k: replace(i, low=short(max(i.low, low)), high=short(min(i.high, high)))
        for k, i in found.items()
        if i is not None
    }


def _correlations(x: Array, step_s: float) -> tuple[float, tuple[float, ...], tuple[float, ...]]:
    fold = -(-len(x) // MOST_CORRELATED)
    if fold > 1:
        cells = _padded(x, fold)
        there = np.isfinite(cells).sum(axis=1)
        x = np.where(there > 0, np.nansum(cells, axis=1) / np.maximum(there, 1), np.nan)
        step_s *= fold
    longest = min(len(x) // 4, int(LONGEST_LAG_S / step_s))
    if longest < 1:
        return short(step_s, 9), (), ()
    lags = sorted({round(v) for v in np.geomspace(1, longest, LAGS)})
    r = significant(np.clip(autocorrelation(x, lags), -1, 1), 4)
    return short(step_s, 9), tuple(short(k * step_s, 9) for k in lags), tuple(map(float, r))


def _padded(x: Array, fold: int) -> Array:
    full = np.full(-(-len(x) // fold) * fold, np.nan)
    full[: len(x)] = x
    return full.reshape(-1, fold)


def _seconds(parts: list[Array], step_s: float) -> tuple[list[Array], float]:
    """The stretches on a grid of one second, as means of finer cells; slower grids stay as they are."""
    fold = round(1 / step_s)
    if fold <= 1:
        return parts, step_s
    whole = [p[: len(p) // fold * fold].reshape(-1, fold).mean(axis=1) for p in parts]
    return [p for p in whole if len(p) > 1], fold * step_s


def inside(grid: Aligned, begin_ns: int, end_ns: int) -> Array:
    """The cells whose readings lie strictly between two instants: a cell's reading is, at a regular clock, half a
    step older than the cell."""
    x, _ = grid.series()
    at = grid.origin_ns + np.arange(len(x)) * grid.step_ns - grid.step_ns // 2
    return x[(at > begin_ns) & (at < end_ns)]


def mean_interval(x: Array) -> Interval | None:
    """Of the mean of cells in a row, by moving blocks; None where they fill fewer than 16 windows."""
    cells = max(1, len(x) // 300)
    blocks_of = _padded(x, cells)
    n = np.isfinite(blocks_of).sum(axis=1)
    total = np.nansum(blocks_of, axis=1)
    used = n > 0
    blocks = Blocks.of(total[used] / n[used]) if used.any() else None
    if blocks is None:
        return None
    drawn = blocks.sums(np.stack([total[used], n[used]], axis=1))
    mean = float(total.sum() / n.sum())
    return blocks.interval(mean, drawn[:, 0] / drawn[:, 1], variance=float(np.nanvar(x)))

"""How ``modulation`` is found in a trace: the law of the level of the rate, its dependence over time, and gaps at a steady rate."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl

from ..counts import Counts, count_into, significant
from ..distributions import K_ANONYMITY, Mixing
from ..units import DAY_NS, NS_PER_S, short
from . import renewal
from .dispersion import WindowCounts
from .modulation import FACTOR, Modulation, normalised, rising_solution, steady, variance_of
from .rates import Seasons, seasons
from .timeline import Timeline, instants

Array = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

ROWS_PER_WINDOW = 4.0
"""mean arrivals of the finest window that is tried: fewer leave the level in the noise of counting."""
FEWEST_WINDOWS = 30
LEAST_SIGNAL = 0.5
"""share of a count's variance that its level must explain for a window to be fine enough."""
LEAST_AT_ALL = 0.1
"""share below which, at any window, the rate is taken as steady."""
SURELY = 3.0
"""standard errors by which counts must vary more than their halves say, as many widths are tried."""
KNOTS = 129
CLASSES = 4
ROWS_PER_CLASS = 200
FEWEST_PARTS = 8
"""the longest part is seen so many times in the source: what changes more slowly cannot be told from one course of it."""
WEEK_NS = 7 * DAY_NS
SEASON_BIN_S = 60.0
LEAST_EXPLAINED = 0.2
"""share of the variance of hourly rates from which a daily course is taken to come back."""
MOST_SORTED = 1 << 18
MOST_LAG = 128
"""windows, beyond which covariances are of wider windows."""
MOST_GAPS = 1 << 21
"""gaps that are read again, in whole batches all over the trace."""
TERMS = 60
"""of Mehler's series."""

Season = Callable[[Array], Array]
"""multiple of the mean rate that is expected at an instant, in seconds after the first arrival."""


def of_curve(curve: Array, window_s: float, unit_gaps: renewal.Gaps) -> Modulation:
    """From a rate curve alone (multiples of the mean, one a window), where arrivals were not seen one by one."""
    if len(curve) < FEWEST_WINDOWS or curve.std() == 0:
        return steady(unit_gaps)
    levels = _knots(curve, len(curve), np.ones(len(curve)))
    found = _copula(curve, np.ones(len(curve), dtype=bool), levels)
    return Modulation(
        window_s, significant(levels, 5), tuple(short(p, 4) for p in found), (), (unit_gaps,)
    )


def daily_course(counts: WindowCounts, origin_ns: int | None) -> tuple[Seasons | None, float]:
    """(hourly and daily factors, seconds from a Monday's midnight to the first arrival). ``origin_ns``: from such a midnight
    to the trace's instant 0; None: without a calendar factors count from the first arrival."""
    t = counts.timeline
    bin_s = max(SEASON_BIN_S, counts.base_s)
    per_bin = counts.counts(bin_s)[0].astype(np.float64)
    begins = -t.first_ns if origin_ns is None else origin_ns
    daily = seasons(begins, t, per_bin, round(bin_s * NS_PER_S))
    return daily, 0.0 if origin_ns is None else (origin_ns + t.first_ns) % WEEK_NS / NS_PER_S


def modulation_of(
    counts: WindowCounts, gaps: Counts, daily: Seasons | None, starts_s: float, tick_s: float,
    read_again: Callable[[UnitGaps], None], steps: tuple[float, renewal.Gaps] | None = None,
) -> Modulation:  # fmt: skip
    """How the rate swings on days to come. ``gaps`` in s; ``read_again`` shows the instants to what it is given. ``steps``: (step
    of the clock, law of gaps) where the gaps are the logger's."""
    t = counts.timeline
    mean_rate = t.timed / t.observed_s
    season = daily if daily and daily.explained >= LEAST_EXPLAINED else None
    flat = Modulation(3600.0, np.ones(2), (1.0,), (), (), season, starts_s)
    quantum_s = steps[0] if steps else 0.0
    found = levels_of(counts, flat.expected, quantum_s=quantum_s, classes=1 if steps else CLASSES)
    if found is None:
        own = None if steps else renewal.of_gaps(gaps.scaled(mean_rate), max(tick_s * mean_rate, 1e-9))  # fmt: skip
        return replace(flat, unit_gaps=(own or (steps[1] if steps else renewal.poisson_grid()),))
    if steps:
        laws: tuple[renewal.Gaps, ...] = (renewal.gamma_grid(found.noise, t.timed),)
    else:
        unit = UnitGaps(t, found, flat.expected, tick_s)
        read_again(unit)
        laws = unit.laws()
    return replace(
        flat, window_s=found.window_ns / NS_PER_S, levels=found.knots, parts=found.parts, cuts=found.cuts, unit_gaps=laws
    )  # fmt: skip


def of_instants(
    t: Ints, timeline: Timeline | None, origin_ns: int | None, tick_ns: int | None
) -> Modulation | None:
    """How often sessions or tasks begin, which are no rows: from the instants ``t``. None where they are few, or share no
    clock."""
    if timeline is None or len(t) <= 2 * K_ANONYMITY or t.max() <= t.min():
        return None
    t = np.sort(t)
    own = replace(timeline, rows=len(t), timed=len(t), first_ns=int(t[0]), last_ns=int(t[-1]))
    counts = WindowCounts(own, tick_ns or 0)
    counts.add(t)
    rows = {"arrival_ns": pl.Series(t)}
    gaps = Counts.of(np.diff(t) / NS_PER_S)
    return modulation_of(
        counts, gaps, *daily_course(counts, origin_ns), (tick_ns or 0) / NS_PER_S, lambda unit: unit.add(rows)
    )  # fmt: skip


@dataclass(frozen=True)
class Levels:
    """What is known before gaps are read a second time: the law of the level, and the level of each window of the trace."""

    window_ns: int
    knots: Array
    parts: tuple[float, ...]
    cuts: tuple[float, ...]
    of_window: Array
    """the mean of each window's level, given its count; they vary less than levels"""
    cuts_of_window: Array
    """between classes, such that these hold as many arrivals as those between ``cuts``"""
    noise: float
    """dispersion of the counts at a steady rate"""


def levels_of(
    counts: WindowCounts, season: Season, *, quantum_s: float = 0.0, classes: int = CLASSES
) -> Levels | None:
    """From counts per fine bin, less what the season explains. ``quantum_s``: the step of a coarse clock; windows then
    hold whole steps, and begin between two of them. None where the rate is steady as far as counts can tell."""
    shift = round(quantum_s / 2 / counts.base_s)
    chosen = _window(counts, season, quantum_s, shift)
    if chosen is None:
        return None
    window_s, noise = chosen
    n, seen = counts.counts(window_s, shift)
    x = _level(window_s, n, season)
    mean = float(n[seen].mean())
    idc = _dispersion(n, seen, x)
    wanted = max(idc - noise, 0.0) / mean
    rows = float(n[seen].sum())
    # of very many windows every other one, or fewer: what is sorted has MOST_SORTED at most
    few = np.flatnonzero(seen)[:: max(1, int(seen.sum()) // MOST_SORTED)]
    at_one = np.maximum(season(_middles(len(n), window_s)), 1e-3) * mean
    law = Mixing.of(n[few], at_one[few], noise)
    raw = _knots(law.levels, int(min(KNOTS, rows // K_ANONYMITY, len(few))), law.weights)
    p = rising_solution(lambda p: variance_of(normalised(raw**p)), wanted, 8.0) or 1.0
    knots = normalised(raw**p)
    level = law.posterior(n, at_one) ** p
    level /= float(level[seen].mean()) or 1.0
    cuts, of_window = np.zeros(0), np.zeros(0)
    several = min(classes, int(rows // ROWS_PER_CLASS))
    if several > 1:  # as many arrivals in each
        order = few[np.argsort(level[few], kind="stable")]
        upto = np.cumsum(n[order])
        of_window = np.unique(level[order][np.searchsorted(upto, upto[-1] * np.arange(1, several) / several)])  # fmt: skip
        below = upto[np.searchsorted(level[order], of_window) - 1] / upto[-1]
        area = np.concatenate([[0.0], np.cumsum(knots[1:] + knots[:-1])])
        cuts = np.interp(below, area / area[-1], knots)
    return Levels(
        round(window_s * NS_PER_S), significant(knots, 5), tuple(short(q, 4) for q in _copula(x, seen, knots)),
        tuple(short(c, 5) for c in cuts), level, of_window, noise,
    )  # fmt: skip


def _window(
    counts: WindowCounts, season: Season, quantum_s: float, shift: int
) -> tuple[float, float] | None:
    """(width in seconds, dispersion of arrivals at a steady rate) of the finest window whose counts are mostly level."""
    t = counts.timeline
    w = 2 * max(counts.base_s, quantum_s)
    while w < ROWS_PER_WINDOW * t.observed_s / t.timed:
        w *= 2
    best: tuple[float, float, float] | None = None
    while True:
        n, seen = counts.counts(w, shift)
        k = int(seen.sum())
        if k < FEWEST_WINDOWS:
            break
        idc = _dispersion(n, seen, _level(w, n, season))
        noise = _halves(*counts.counts(w / 2, shift))
        if idc > noise * math.exp(SURELY * math.sqrt(2 / k)):
            share = 1 - noise / idc
            if share >= LEAST_SIGNAL:
                return w, noise
            if best is None or share > best[2]:
                best = (w, noise, share)
        w *= 2
    return best[:2] if best is not None and best[2] >= LEAST_AT_ALL else None


def _halves(n: npt.NDArray[Any], seen: npt.NDArray[np.bool_]) -> float:
    """E(n₁ − n₂)² / E(n₁ + n₂) over the two halves of each window: they share its level."""
    pairs = len(n) // 2
    a, b = n[: 2 * pairs : 2].astype(np.float64), n[1 : 2 * pairs : 2].astype(np.float64)
    both = seen[: 2 * pairs : 2] & seen[1 : 2 * pairs : 2]
    total = float((a + b)[both].sum())
    return float(((a - b)[both] ** 2).sum()) / total if total > 0 else 1.0


def _level(w: float, n: npt.NDArray[Any], season: Season) -> Array:
    """Counts as multiples of what the season expects, mean about 1."""
    x = n / np.maximum(season(_middles(len(n), w)), 1e-3)
    return np.asarray(x / max(float(x.mean()), 1e-300))


def _middles(n: int, w: float) -> Array:
    """Middles of windows, seconds after the first arrival."""
    return np.asarray((np.arange(n) + 0.5) * w, dtype=np.float64)


def _dispersion(n: npt.NDArray[Any], seen: npt.NDArray[np.bool_], x: Array) -> float:
    """Variance over mean of the counts, their season taken out."""
    if not seen.any():
        return 0.0
    return float(n[seen].mean() * x[seen].var(ddof=1)) if seen.sum() > 1 else 0.0


def _knots(x: Array, groups: int, weights: Array) -> Array:
    """Quantile function of a law at equal steps, mean 1: means of groups of the same weight, so no knot is of one window."""
    order = np.argsort(x)
    upto, sums = (np.concatenate([[0.0], np.cumsum(v[order])]) for v in (weights, weights * x))
    groups = max(groups, 2)
    means = np.diff(np.interp(np.linspace(0, upto[-1], groups + 1), upto, sums))
    at = (np.arange(groups) + 0.5) / groups
    return np.maximum.accumulate(
        normalised(np.maximum(np.interp(np.linspace(0, 1, groups), at, means), 0.0))
    )


def lag_steps(n: int) -> list[int]:
    return sorted({round(2.0**j) for j in np.arange(0, 24.5, 0.5) if 2.0**j <= n / FEWEST_PARTS})


def _copula(x: Array, seen: npt.NDArray[np.bool_], knots: Array) -> Array:
    """Shares of z's parts, from the covariances of levels at positive lags."""
    d, held = np.where(seen, x - x[seen].mean(), 0.0), seen.astype(np.float64)
    lags = lag_steps(len(d))
    covariance = np.empty(len(lags))
    step = 1
    for i, lag in enumerate(lags):
        if lag // step > MOST_LAG:  # long lags of wider windows: of means of eight
            whole = len(d) // 8 * 8
            d, held = (v[:whole].reshape(-1, 8).mean(axis=1) for v in (d, held))
            step *= 8
        k = round(lag / step)
        covariance[i] = float(d[:-k] @ d[k:]) / max(float(held[:-k] @ held[k:]), 1e-9)
    powers = mehler(knots)
    r: Array = np.concatenate([np.linspace(0, 0.9, 46), 1 - np.geomspace(0.09, 1e-4, 40)])
    f = np.power(r[:, None], np.arange(1, TERMS + 1)) @ powers
    # chance takes covariances below 0 as often as above it: cut there, the others would add up to slow parts
    wanted = np.sign(covariance) * np.interp(np.abs(covariance), f, r)
    lengths = [FACTOR**k for k in range(20) if FACTOR**k <= max(len(x) / FEWEST_PARTS, 1)]
    shape = np.maximum(0.0, 1 - np.array(lags)[:, None] / np.array(lengths))
    return simplex(shape, wanted)


def mehler(knots: Array) -> Array:
    """[TERMS] squared Hermite coefficients of z ↦ Q(Φ(z)): its values at two points of correlation r have covariance
    Σ cₘ² rᵐ (Mehler 1866)."""
    from scipy.special import ndtr

    z = np.linspace(-8, 8, 4001)
    weight = np.exp(-z * z / 2) / math.sqrt(2 * math.pi) * (z[1] - z[0])
    at = ndtr(z) * (len(knots) - 1)
    i = np.minimum(at.astype(np.int64), len(knots) - 2)
    q = (knots[i] + (at - i) * (knots[i + 1] - knots[i])) * weight
    out = np.empty(TERMS)
    before, now = np.zeros_like(z), np.ones_like(z)  # He_m / √m!
    for m in range(1, TERMS + 1):
        before, now = now, (z * now - math.sqrt(m - 1) * before) / math.sqrt(m)
        out[m - 1] = float(q @ now) ** 2
    return out


def simplex(a: Array, y: Array) -> Array:
    """x ≥ 0 with Σx = 1 that minimises |a·x − y|² (Lawson & Hanson's algorithm, the sum as one more, heavy row)."""
    from scipy.optimize import nnls

    heavy = 1e3 * np.ones((1, a.shape[1]))
    x, _ = nnls(np.concatenate([a, heavy]), np.append(y, 1e3))
    return np.asarray(x / x.sum())


class UnitGaps:
    """A pass over ``arrival_ns``: gaps on the clock of each class of levels, in mean gaps."""

    columns: Mapping[str, str] = {"arrival_ns": "arrival_ns"}

    def __init__(self, timeline: Timeline, found: Levels, season: Season, tick_s: float) -> None:
        self.timeline, self.found, self.tick_s = timeline, found, tick_s
        level = found.of_window
        self.kind = np.searchsorted(found.cuts_of_window, level, side="right").astype(np.int8)
        window_s = found.window_ns / NS_PER_S
        per_window = (
            level
            * season(_middles(len(level), window_s))
            * (timeline.timed / timeline.observed_s * window_s)
        )
        self.before = np.empty(len(level))
        """mean gaps on the clock of a window's class before it"""
        for c in range(len(found.cuts_of_window) + 1):
            own = self.kind == c
            self.before[own] = np.cumsum(per_window[own]) - per_window[own]
        self.per_window = per_window
        self.last = [math.nan] * (len(found.cuts) + 1)
        self.every = max(1, round(timeline.timed / MOST_GAPS))
        self.batch = 0
        # bins an eighth of a binary digit wide, from 2⁻⁴⁰ of a mean gap on
        self.n = np.zeros((len(self.last), 8 * 70 * 4), dtype=np.int64)
        self.total = np.zeros(self.n.shape)

    def add(self, rows: Mapping[str, pl.Series]) -> None:
        self.batch += 1
        if (self.batch - 1) % self.every:
            self.last = [math.nan] * len(self.last)
            return
        t = instants(rows)
        at = t - self.timeline.first_ns
        window = at // self.found.window_ns
        inside = window < len(self.kind)  # what is left after the last full window
        window, at = window[inside], at[inside]
        share = (at - window * self.found.window_ns) / self.found.window_ns
        position = self.before[window] + share * self.per_window[window]
        kind = self.kind[window]
        for c in range(len(self.last)):
            own = position[kind == c] if len(self.last) > 1 else position
            if not len(own):
                continue
            gaps = np.diff(own, prepend=self.last[c])
            self.last[c] = float(own[-1])
            gaps = gaps[np.isfinite(gaps)]
            with np.errstate(divide="ignore"):
                bins = np.where(gaps > 0, np.clip((np.log2(np.maximum(gaps, 1e-300)) + 40) * 32 + 1, 1, self.n.shape[1] - 1), 0)  # fmt: skip
            bins = bins.astype(np.int64)
            count_into(self.n[c], bins)
            count_into(self.total[c], bins, gaps)

    def laws(self) -> tuple[renewal.Gaps, ...]:
        """Laws of the classes, of mean 1; classes with few gaps are given the law of all."""
        tick = self.timeline.timed / self.timeline.observed_s * self.tick_s
        whole = self._law(self.n.sum(axis=0), self.total.sum(axis=0), tick)
        found = (self._law(n, total, tick) for n, total in zip(self.n, self.total, strict=True))
        return tuple(g or whole or renewal.poisson_grid() for g in found)

    def _law(self, n: Ints, total: Array, tick: float) -> renewal.Gaps | None:
        used = n > 0
        return renewal.of_gaps(Counts.exact(total[used] / n[used], n[used], "mean gaps"), max(tick, 1e-9))  # fmt: skip

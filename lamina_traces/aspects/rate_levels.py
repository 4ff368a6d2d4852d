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
from .level_dependence import copula
from .modulation import (
    Modulation,
    normalised,
    rising_solution,
    scaled_gaps,
    steady,
    variance_of,
)
from .rates import Seasons, seasons
from .timeline import Timeline, instants

Array = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

ROWS_PER_WINDOW = 3.0
"""mean arrivals of the finest window that is tried: fewer leave the level in the noise of counting."""
FEWEST_WINDOWS = 30
LEAST_SIGNAL = 0.5
"""share of a count's variance that its level must explain for a window to be fine enough."""
LEAST_AT_ALL = 0.1
"""share below which, at any window, the rate is taken as steady."""
SURELY = 3.0
"""standard errors by which counts must vary more than their halves say, as many widths are tried."""
KNOTS = 129
CLASSES, MOST_CLASSES = 4, 9
LOWER = 3.0
"""ratio of the cuts between classes below the lowest quarter of the arrivals."""
ROWS_PER_CLASS = 200
FEWEST_AMID = 64
"""windows amid silences, by which the lowest level is told."""
WEEK_NS = 7 * DAY_NS
SEASON_BIN_S = 60.0
LEAST_EXPLAINED = 0.2
"""share of the variance of hourly rates from which a daily course is taken to come back."""
MOST_SORTED = 1 << 18
MOST_GAPS = 1 << 21
"""gaps that are read again, in whole batches all over the trace."""
TWINS = 16
"""renewal processes that are drawn beside a trace, of MOST_TWIN arrivals at most."""
MOST_TWIN = 1 << 16

Season = Callable[[Array], Array]
"""multiple of the mean rate that is expected at an instant, in seconds after the first arrival."""


def of_curve(curve: Array, window_s: float, unit_gaps: renewal.Gaps) -> Modulation:
    """From a rate curve alone (multiples of the mean, one a window), where arrivals were not seen one by one."""
    if len(curve) < FEWEST_WINDOWS or curve.std() == 0:
        return steady(unit_gaps)
    levels = _knots(curve, len(curve), np.ones(len(curve)))
    found = copula(curve, np.ones(len(curve), dtype=bool), levels)
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
    whole = steps[1] if steps else renewal.of_gaps(gaps.scaled(mean_rate), max(tick_s * mean_rate, 1e-9))  # fmt: skip
    in_gaps = not steps and season is None and whole is not None and found is not None and _explained_by_gaps(counts, whole)  # fmt: skip
    if found is None or in_gaps:
        return replace(flat, unit_gaps=(whole or renewal.poisson_grid(),))
    if steps:
        laws: tuple[renewal.Gaps, ...] = (renewal.gamma_grid(found.noise, t.timed),)
    else:
        unit = UnitGaps(t, found, flat.expected, tick_s)
        read_again(unit)
        laws = tuple(_as_even(g, *half) for g, half in zip(unit.laws(), found.halves, strict=True))
    return replace(
        flat, window_s=found.window_ns / NS_PER_S, levels=found.knots, parts=found.parts, cuts=found.cuts, unit_gaps=laws
    )  # fmt: skip


def _explained_by_gaps(counts: WindowCounts, gaps: renewal.Gaps) -> bool:
    """Whether counts vary at every width, within SURELY standard errors, as those of a renewal process with this law of gaps:
    bursts of which gaps know all are not the rate's."""
    t = counts.timeline
    per_s = t.timed / t.observed_s
    events = min(t.timed, MOST_TWIN)
    widths = [4 * counts.base_s]
    while 2 * widths[-1] * per_s * FEWEST_WINDOWS <= events:
        widths.append(2 * widths[-1])
    widths = [w for w in widths if w * per_s >= 1]
    own = []
    for w in widths:
        n, seen = counts.counts(w)
        own.append(float(n[seen].var() / n[seen].mean()))
    twins = np.log(
        np.maximum(renewal.dispersions(gaps, np.array(widths) * per_s, events, TWINS), 1e-12)
    )
    error = twins.std(axis=0, ddof=1) * math.sqrt(events / t.timed + 1 / TWINS)
    return bool(
        (np.abs(np.log(np.maximum(own, 1e-12)) - twins.mean(axis=0)) <= SURELY * error).all()
    )


def _as_even(gaps: renewal.Gaps, mean: float, dispersion: float) -> renewal.Gaps:
    """With counts that vary no more than those of half windows, which share their level: where a window's level is told by its
    few arrivals, gaps on its clock vary more than gaps at a steady rate."""
    if mean <= 0:
        return gaps
    own = float(renewal.dispersions(gaps, np.array([mean]), MOST_TWIN, 1)[0, 0])
    part = (dispersion - 1) / (own - 1) if own != 1 else 1.0
    return gaps if part >= 1 else scaled_gaps(gaps, max(part, 0.0))


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
    halves: tuple[tuple[float, float], ...]
    """of each class: (mean, dispersion at a steady rate) of the counts of half a window"""


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
    law = Mixing.of(n[few], at_one[few], noise, _lowest(n, seen) / mean)
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
        of_window = _with_lower(of_window, level[order], upto)
        below = upto[np.searchsorted(level[order], of_window) - 1] / upto[-1]
        area = np.concatenate([[0.0], np.cumsum(knots[1:] + knots[:-1])])
        cuts = np.interp(below, area / area[-1], knots)
    return Levels(
        round(window_s * NS_PER_S), significant(knots, 5), tuple(short(q, 4) for q in copula(x, seen, knots)),
        tuple(short(c, 5) for c in cuts), level, of_window, noise, _halves_of(*counts.counts(window_s / 2, shift), level, of_window),
    )  # fmt: skip


def _lowest(n: npt.NDArray[Any], seen: npt.NDArray[np.bool_]) -> float:
    """Mean arrivals of a window amid the longest silences that are often enough: a count tells its level not from chance, but it
    is independent of the counts beside it, and amid silence the rate is the lowest there is."""
    empty = seen & (n == 0)
    upto = np.concatenate([[0], np.cumsum(empty)])
    found, beside = 0.0, 1
    while len(n) > 2 * beside + 1:
        i = np.arange(beside, len(n) - beside)
        amid = i[
            seen[i]
            & (upto[i] - upto[i - beside] == beside)
            & (upto[i + beside + 1] - upto[i + 1] == beside)
        ]
        if len(amid) < FEWEST_AMID:
            break
        found = -math.log1p(-min(float((n[amid] > 0).mean()), 0.99))
        beside *= 2
    return found


def _with_lower(cuts: Array, level: Array, upto: Array) -> Array:
    """More cuts below the first, each a third of the one above, where the classes between hold enough arrivals: gaps while the
    rate is low are not those of while it changes. ``level`` rises, ``upto`` counts arrivals."""
    out, above = list(cuts), float(upto[np.searchsorted(level, cuts[0]) - 1])
    cut = cuts[0] / LOWER
    while len(out) < MOST_CLASSES:
        below = float(upto[i - 1]) if (i := np.searchsorted(level, cut)) else 0.0
        if below < ROWS_PER_CLASS:
            break
        if above - below >= ROWS_PER_CLASS:
            out.insert(0, cut)
            above = below
        cut /= LOWER
    return np.array(out)


def _halves_of(
    n: npt.NDArray[Any], seen: npt.NDArray[np.bool_], level: Array, cuts: Array
) -> tuple[tuple[float, float], ...]:
    """(mean, dispersion) of counts ``n`` of half windows, of each class of levels."""
    kind = np.repeat(np.searchsorted(cuts, level, side="right"), 2)
    n, seen = n[: len(kind)], seen[: len(kind)]
    kind = kind[: len(n)]
    mine = [seen & (kind == c) for c in range(len(cuts) + 1)]
    return tuple((float(n[m].mean()), _halves(n, m)) if m.any() else (0.0, 1.0) for m in mine)


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

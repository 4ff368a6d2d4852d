"""Modulation: how the rate of arrivals swings beside its daily course, so that new days have the old ones' IDC curve.

The rate is rate · season(t) · m(t). The level m is constant on windows of ``window_s`` and follows one law on all of
them (a quantile function Q, mean 1); levels of different windows depend on each other through a Gaussian copula:
m = Q(Φ(z)), with z the sum of independent parts that stay for 1, 4, 16… windows in the mean: a part changes once in each stretch of
so many windows, at any of them. So bursts, pauses and drifts of every length come from one table of variances, a window's
level can be drawn without its past, and the mean is 1 exactly (NORTA: Cario & Nelson 1997; here with parts instead of an
autoregression).

What is measured: with counts N of windows, IDC(w) = noise + mean·Var m. The noise is the dispersion of arrivals at a
steady rate; the counts of a window's two halves share their level, so Allan's variance at half a window measures it. The
covariances of counts at positive lags are free of it, and give the copula by inverting E[Q(Φ(z₀)) Q(Φ(z))] in their
correlation, a power series by Mehler's formula.

Inside a window arrivals are a renewal process. The law of its gaps may depend on how high the level is, so levels are
cut into classes; each has a clock of its own, which runs while the level is in it. Each is an equilibrium renewal process on its
clock, hence the expected number of arrivals is exactly the integral of the rate.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from ..distributions import K_ANONYMITY, Grid, QuantileCurve
from ..errors import ModelError
from . import renewal
from .rates import Seasons

Array = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

FACTOR = 4
"""ratio of the mean lengths of successive parts of z."""
MOST_SILENT = 100.0
"""windows of which one is not silent, at most, where a rate is made to swing more."""
MOST_EVEN = 0.01
"""least squared CV of gaps that are made more even."""


@dataclass(frozen=True)
class Modulation:
    """``levels``: quantile function of the level at equally spaced ranks, linear between, mean 1. ``parts[k]``: share of the
    variance of z that stays for FACTOR**k windows in the mean; they sum to 1. ``cuts``: levels between classes, ``unit_gaps``: law
    of the gaps at a steady rate in each class, each of mean 1. ``season``: hourly and daily factors; the source began
    ``starts_s`` after a Monday's midnight, or 0 after the first factor where its clock has no calendar.
    """

    window_s: float
    levels: Array
    parts: tuple[float, ...]
    cuts: tuple[float, ...]
    unit_gaps: tuple[renewal.Gaps, ...]
    season: Seasons | None = None
    starts_s: float = 0.0

    def to_dict(self) -> dict[str, Any]:
        return {
            "window_s": self.window_s,
            "levels": self.levels.tolist(),
            "parts": list(self.parts),
            "cuts": list(self.cuts),
            "unit_gaps": [g.to_dict() for g in self.unit_gaps],
            "season": self.season.to_dict() if self.season else None,
            "starts_s": self.starts_s,
        }

    @classmethod
    def from_dict(cls, d: Mapping[str, Any] | None) -> Modulation | None:
        if d is None:
            return None
        out = cls(
            float(d["window_s"]), np.array(d["levels"], dtype=np.float64), tuple(map(float, d["parts"])),
            tuple(map(float, d["cuts"])), tuple(map(renewal.gaps_from_dict, d["unit_gaps"])),
            Seasons.from_dict(d["season"]), float(d["starts_s"]),
        )  # fmt: skip
        sane = (
            0 < out.window_s < math.inf
            and len(out.levels) >= 2
            and bool(np.isfinite(out.levels).all())
            and out.levels[0] >= 0
            and bool((np.diff(out.levels) >= 0).all())
            and 0.5 <= (out.levels[1:] + out.levels[:-1]).mean() / 2 <= 2  # 1, but for rounding
            and all(0 <= p <= 1 for p in out.parts)
            and abs(sum(out.parts) - 1) < 0.01
            and len(out.cuts) + 1 == len(out.unit_gaps)
            and 0 <= out.starts_s < math.inf
            and all(
                g.values[0] >= 0 and g.values[-1] > 0 for g in out.unit_gaps if isinstance(g, Grid)
            )
        )
        if not sane:
            raise ModelError(
                "modulation of the profile: levels, shares and gaps must be positive and finite",
                "fit the profile again",
            )
        return out

    def brief(self) -> Modulation:
        """What one stream among many keeps."""
        few = self.levels[:: max(1, (len(self.levels) - 1) // 32)]
        return replace(
            self,
            levels=normalised(few),
            unit_gaps=tuple(g.thinned(33) if isinstance(g, Grid) else g for g in self.unit_gaps),
        )

    @property
    def variance(self) -> float:
        """Of the level."""
        return variance_of(self.levels)

    def level(self, u: Array) -> Array:
        """Levels at ranks u in [0, 1]."""
        last = len(self.levels) - 1
        at = u * last
        i = np.minimum(at.astype(np.int64), last - 1)
        return np.asarray(self.levels[i] + (at - i) * (self.levels[i + 1] - self.levels[i]))

    def expected(self, t_s: Array) -> Array:
        """The season's multiple of the mean rate, seconds after the source's start."""
        if self.season is None:
            return np.ones(len(t_s))
        clock = t_s + self.starts_s
        out = np.array(self.season.hours)[(clock // 3600).astype(np.int64) % 24]
        if self.season.days is not None:
            out = out * np.array(self.season.days)[(clock // 86_400).astype(np.int64) % 7]
        return np.asarray(out)

    def scaled(self, factor: float) -> Modulation:
        """With ``factor`` times the excess dispersion at every window: IDC(w) − 1 is multiplied. Levels move towards 1, or
        are raised to a power, so far that their variance is multiplied; where a power does not bring that (a rate that is
        either on or off), they are silent more often. Gaps likewise between an exponential law and beyond their own; more
        even than equal they cannot be (MOST_EVEN). The season is load and stays. Raises ModelError where no such
        process exists."""
        if factor <= 1:
            s = math.sqrt(factor)
            levels, cuts = 1 + s * (self.levels - 1), tuple(1 + s * (c - 1) for c in self.cuts)
        else:
            p = rising_solution(lambda p: variance_of(normalised(self.levels**p)), self.variance * factor, 12.0)  # fmt: skip
            if p is None:
                levels = silent_more_often(self.levels, factor)
                cuts = tuple(c * float(levels[-1] / self.levels[-1]) for c in self.cuts)
            else:
                raised = self.levels**p
                by = float((raised[1:] + raised[:-1]).mean() / 2)
                levels, cuts = raised / by, tuple(c**p / by for c in self.cuts)
        gaps = tuple(scaled_gaps(g, factor) for g in self.unit_gaps)
        return replace(self, levels=levels, cuts=cuts, unit_gaps=gaps)


def steady(unit_gaps: renewal.Gaps) -> Modulation:
    """No modulation: a renewal process at a steady rate."""
    return Modulation(3600.0, np.ones(2), (1.0,), (), (unit_gaps,))


def staying(length: int, lags: Ints) -> Array:
    """Correlation of a part of z with itself ``lags`` windows later: the chance that it has not changed. It changes once in each
    stretch of ``length`` windows, at each with the same chance, so stays are up to two stretches long."""
    x = np.abs(np.asarray(lags, dtype=np.float64)) / length

    def third(y: Array) -> Array:
        return np.asarray((y**3 - y / length**2) / 6)

    return np.where(x < 1, 1 - x + third(x), third(np.maximum(2 - x, 0.0)))


def silent_more_often(levels: Array, factor: float) -> Array:
    """Knots of a law with ``factor`` times the variance V of a law of mean 1: that law with chance q, else 0, with
    (V + 1)/q = factor·V + 1. Raises ModelError where that leaves fewer than one window in MOST_SILENT."""
    v = variance_of(levels)
    times = (factor * v + 1) / (v + 1)  # 1/q
    if times > MOST_SILENT:
        raise ModelError(
            f"the rate cannot swing {factor:g} times as much: it would be silent in all but one window of {times:,.0f}",
            "use a smaller --idc-scale",
        )
    last = len(levels) - 1
    finer = -(-1024 // last)  # knots between, so that q is met to a thousandth
    fine = np.interp(np.arange(last * finer + 1) / finer, np.arange(last + 1), levels)
    return normalised(np.concatenate([np.zeros(round(last * finer * (times - 1))), fine]))


def normalised(levels: Array) -> Array:
    """Knots of a quantile function, scaled to mean 1."""
    return np.asarray(levels / ((levels[1:] + levels[:-1]).mean() / 2), dtype=np.float64)


def variance_of(v: Array) -> float:
    """Of the law whose quantile function is linear between knots ``v`` at equal steps, mean 1."""
    return float(((v[1:] ** 2 + v[1:] * v[:-1] + v[:-1] ** 2) / 3).mean()) - 1.0


def rising_solution(of: Any, wanted: float, most: float) -> float | None:
    """x in [0, most] with of(x) = wanted, of rising; None where even ``most`` falls short."""
    low, high = 0.0, 1.0
    while of(high) < wanted:
        low, high = high, high * 2
        if high > most:
            return None
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if of(middle) < wanted else (low, middle)
    return high


def scaled_gaps(gaps: renewal.Gaps, factor: float) -> renewal.Gaps:
    """Mean 1 and squared CV 1 + factor·(CV² − 1), MOST_EVEN at least."""
    own = renewal.squared_cv(gaps)
    if factor > 1 and own <= MOST_EVEN:
        return gaps
    wanted = max(1 + factor * (own - 1), MOST_EVEN)
    if isinstance(gaps, renewal.UnitLaw):
        if gaps.family in ("constant", "exponential"):
            return renewal.UnitLaw("gamma", math.sqrt(wanted))
        return replace(gaps, cv=math.sqrt(wanted))
    curve = gaps.curve
    exponential = renewal.poisson_grid().curve.quantile(curve.at)

    def law(a: float) -> Grid:
        v = curve.values / curve.mean
        v = v**a if factor > 1 else (1 - a) * exponential + a * v
        scaled = QuantileCurve(curve.at, np.maximum.accumulate(v))
        end = scaled.quantile(np.array([1 - K_ANONYMITY / (gaps.rows or 1e5)]))
        return Grid.of_curve(scaled, len(gaps.values), gaps.rows, float(end[0]))

    sign = 1.0 if factor > 1 or own >= 1 else -1.0
    a = rising_solution(lambda a: sign * renewal.squared_cv(law(a)), sign * wanted, 16.0)
    if a is None and factor < 1:
        a = 0.0  # within what the grid's cut ends take from an exponential law
    if a is None:
        raise ModelError(
            f"gaps cannot vary {factor:g} times as much as in the source",
            "use a smaller --idc-scale",
        )
    return law(a)

"""Renewal arrivals in operational time: the law of unit gaps, and how it is drawn from."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from ..counts import Counts, significant
from ..distributions import FAMILIES, GRID_KNOTS, K_ANONYMITY, Grid, fit_families
from ..errors import ModelError
from ..units import short

Array = npt.NDArray[np.float64]


@dataclass(frozen=True)
class UnitLaw:
    """A law of gaps with mean 1 that is stated instead of fitted: ``family`` and the coefficient of variation ``cv``."""

    family: str
    cv: float

    def __post_init__(self) -> None:
        fixed = {"constant": 0.0, "exponential": 1.0}
        if self.family not in (*fixed, "gamma", "weibull", "lognormal"):
            raise ModelError(
                f"no law of gaps {self.family!r}", "known: constant, exponential, gamma, weibull, lognormal"
            )  # fmt: skip
        wrong = self.cv != fixed[self.family] if self.family in fixed else not 0 < self.cv <= MAX_CV
        if wrong or not math.isfinite(self.cv):
            raise ModelError(
                f"{self.family} gaps cannot have CV {self.cv:g}",
                f"give a CV above 0, up to {MAX_CV:g}",
            )

    def to_dict(self) -> dict[str, Any]:
        return {"law": self.family, "cv": self.cv}

    @property
    def shape(self) -> float:
        """Gamma's or Weibull's shape, lognormal's sigma."""
        if self.family == "weibull":
            return _weibull_shape(self.cv)
        if self.family == "lognormal":
            return math.sqrt(math.log1p(self.cv**2))
        return 1 / self.cv**2

    def draw(self, rng: np.random.Generator, size: int) -> Array:
        if self.family == "constant":
            return np.ones(size)
        if self.family == "exponential":
            return rng.exponential(size=size)
        a = self.shape
        if self.family == "gamma":
            return rng.gamma(a, 1 / a, size)
        if self.family == "weibull":
            return rng.weibull(a, size) / math.gamma(1 + 1 / a)
        return rng.lognormal(-a * a / 2, a, size)

    def biased(self, rng: np.random.Generator) -> float:
        """A gap that is as likely as it is long."""
        if self.family == "constant":
            return 1.0
        if self.family == "exponential":
            return float(rng.gamma(2.0))
        a = self.shape
        if self.family == "gamma":
            return float(rng.gamma(a + 1, 1 / a))
        if self.family == "weibull":
            return float(rng.gamma(1 + 1 / a) ** (1 / a) / math.gamma(1 + 1 / a))
        return float(rng.lognormal(a * a / 2, a))


MAX_CV = 100.0
MOST_WINDOWS = 1 << 22
SMALL_CUT = 0.01
"""share of the gaps beyond a grid's ends, from which a family is considered."""
Gaps = Grid | UnitLaw
"""law of gaps in operational time."""


def gaps_from_dict(d: dict[str, Any]) -> Gaps:
    """Inverse of ``to_dict`` of either."""
    return UnitLaw(str(d["law"]), float(d["cv"])) if "law" in d else Grid.from_dict(d)


def of_gaps(c: Counts, tick: float) -> Gaps | None:
    """The law of gaps at a steady rate, mean 1: a quantile grid, or a family where it is nearer to the gaps than the grid
    can be, whose ends are the tenth extremes. ``tick``: what zero gaps stand for. None below 2·k gaps, or where all are
    zero."""
    if c.rows < 2 * K_ANONYMITY:
        return None
    grid = Grid.of(c, knots=129)
    if c.mean <= 0:
        return None
    cut = 2 * K_ANONYMITY / c.rows
    if cut > SMALL_CUT and c.var() > 0:
        found = fit_families(c, ("exponential", "gamma", "weibull", "lognormal"), tick=tick)
        best = found[0] if found else None
        if best is not None and best.ks_d < cut:
            cv = _cv_of(best.family, best.params)
            if 0 < cv <= MAX_CV:
                return UnitLaw(best.family, short(cv, 4))
    return grid.scaled(1 / c.mean).rounded(5)


def _cv_of(family: str, params: Mapping[str, float]) -> float:
    if family == "exponential":
        return 1.0
    if family == "gamma":
        return 1 / math.sqrt(params["shape"])
    if family == "lognormal":
        return math.sqrt(math.expm1(params["sigma"] ** 2)) if params["sigma"] < 3 else math.inf
    k = params["shape"]
    return math.sqrt(math.expm1(math.lgamma(1 + 2 / k) - 2 * math.lgamma(1 + 1 / k)))


def _weibull_shape(cv: float) -> float:
    """The shape with this CV: Γ(1 + 2/k)/Γ(1 + 1/k)² − 1 falls with k."""
    low, high = 0.05, 1e3
    for _ in range(100):
        k = math.sqrt(low * high)
        second = math.lgamma(1 + 2 / k) - 2 * math.lgamma(1 + 1 / k)
        low, high = (k, high) if second > math.log1p(cv * cv) else (low, k)
    return high


def sample(gaps: Gaps, rng: np.random.Generator, size: int) -> Array:
    """``size`` gaps in operational time, scaled so that their long-run mean is exactly 1."""
    if isinstance(gaps, UnitLaw):
        return gaps.draw(rng, size)
    out = gaps.drawn(rng.random(size))
    out /= gaps.curve.mean
    return out


def first_gap(gaps: Gaps, rng: np.random.Generator) -> float:
    """Operational time to the first arrival of an equilibrium renewal process (see ``QuantileCurve.rests``)."""
    if isinstance(gaps, UnitLaw):
        return float(rng.random()) * gaps.biased(rng)
    return float(gaps.curve.rests(rng.random(1), rng.random(1))[0] / gaps.curve.mean)


def dispersions(gaps: Gaps, widths: Array, events: int, times: int) -> Array:
    """[times, widths] IDC of the counts of ``times`` renewal processes of ``events`` gaps, in windows of ``widths`` mean gaps, of
    which MOST_WINDOWS are looked at."""
    rng = np.random.default_rng(0)
    out = np.empty((times, len(widths)))
    for i in range(times):
        at = np.cumsum(sample(gaps, rng, events))
        for j, w in enumerate(widths):
            windows = int(min(at[-1] / w, MOST_WINDOWS))  # whole ones
            n = np.bincount((at[at < windows * w] / w).astype(np.int64), minlength=windows)
            out[i, j] = n.var() / n.mean() if windows and n.any() else 1.0
    return out


def squared_cv(gaps: Gaps) -> float:
    """Squared CV of the law that is sampled."""
    return gaps.cv**2 if isinstance(gaps, UnitLaw) else gaps.curve.squared_cv


def gamma_grid(dispersion: float, events: int) -> Grid:
    """Unit gaps of a gamma renewal process: its long-run IDC is the squared CV of its gaps, 1/shape."""
    shape = 1 / max(dispersion, 0.02)
    q = np.clip(np.linspace(0, 1, GRID_KNOTS), 0.0, 1 - K_ANONYMITY / events)
    return Grid(
        significant(FAMILIES["gamma"].quantile(q, {"shape": shape, "scale": 1 / shape}), 7),
        1.0,
        float(events),
    )


def poisson_grid() -> Grid:
    """Exponential unit gaps."""
    q = np.clip(np.linspace(0.0, 1.0, GRID_KNOTS), 0.0, 1 - 1e-4)
    return Grid(significant(-np.log1p(-q), 7), 1.0, 0.0)


def rate_signal(per_window: Array, below: float) -> float:
    """How much of a rate curve is not the noise of its own estimate: √(1 − below/IDC), 0 to 1.

    Counts per window vary with IDC = signal + ``below``, the dispersion that the gaps alone bring. Generation
    brings ``below`` again, so a raw curve would count it twice: a Poisson trace would come back with twice its
    variance.
    """
    if len(per_window) < 2:
        return 0.0
    idc = float(per_window.var(ddof=1) / per_window.mean())
    return short(math.sqrt(max(0.0, 1 - below / idc)), 4) if idc > 0 else 0.0


def damped(curve: Array, signal: float) -> Array:
    """The curve's swings to a power between 0 (flat) and 1 (as it is), mean 1; silences stay silent."""
    if signal == 0.0:
        return np.ones(len(curve))
    out = curve**signal
    return np.asarray(out / out.mean())

"""Renewal arrivals in operational time: the law of unit gaps, and how it is drawn from."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from ..counts import significant
from ..distributions import FAMILIES, GRID_KNOTS, K_ANONYMITY, Grid
from ..units import short

Array = npt.NDArray[np.float64]


def sample(gaps: Grid, rng: np.random.Generator, size: int) -> Array:
    """``size`` gaps in operational time, scaled so that their long-run mean is exactly 1."""
    return gaps.quantile(rng.random(size)) / grid_mean(gaps)


def first_gap(gaps: Grid, rng: np.random.Generator) -> float:
    """Operational time to the first arrival of an equilibrium renewal process: a uniform part of a
    length-biased gap. With it the expected number of arrivals until t is exactly Λ(t) (Cox 1962, §2.2)."""
    v = gaps.values
    area = np.cumsum((v[1:] + v[:-1]) / 2)
    i = int(min(np.searchsorted(area, rng.random() * area[-1], side="right"), len(area) - 1))
    a, b = float(v[i]), float(v[i + 1])
    # inside a segment the biased density is a + (b - a)·x on [0, 1]: invert its integral
    y = rng.random() * (a + b) / 2
    gap = math.sqrt(a * a + 2 * (b - a) * y) if b > a else a
    return float(rng.random() * gap / grid_mean(gaps))


def grid_mean(grid: Grid) -> float:
    """Mean of the law that the grid samples: the area under its piecewise-linear quantile function."""
    v = grid.values
    return float((v[1:] + v[:-1]).mean() / 2)


def squared_cv(grid: Grid) -> float:
    """Squared CV of the law that a grid samples: second moment of its piecewise-linear quantile function."""
    v = grid.values
    second = float(((v[1:] ** 2 + v[1:] * v[:-1] + v[:-1] ** 2) / 3).mean())
    return second / grid_mean(grid) ** 2 - 1


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

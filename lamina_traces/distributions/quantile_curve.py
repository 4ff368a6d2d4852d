"""A law as a piecewise-linear quantile curve: what values are drawn from, tails included.

A ``Grid`` ends at its tenth extremes, and its last step is a straight line over what is often most of the mean. The curve
made of it has the source's own mean again: within the last step it bends, or beyond its end it falls off exponentially,
as much as the mean that the grid carries says. Nothing of a single row is in that: the mean is of all.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import special

from .families import Array
from .grid import K_ANONYMITY, Grid

PIECES = 48
"""straight lines that a bend or a tail is made of."""
MOST_BEND = 12.0


@dataclass(frozen=True, eq=False)
class QuantileCurve:
    """``values[i]`` is the quantile at ``at[i]``, linear in between; ``at`` goes from 0 to 1."""

    at: Array
    values: Array

    @classmethod
    def of(cls, grid: Grid, k: int = K_ANONYMITY) -> QuantileCurve:
        """The law of a grid whose ends are the ``k``-th extremes, with the grid's own ``mean``.

        With a and b the ends of the last step, its values are a + (b − a)·s^γ, γ ≥ 1 by the mean; where the mean is
        even above that of γ = 1, the highest k of its rows are beyond b by an exponential law.
        """
        v = grid.values
        m = len(v) - 1
        at = np.arange(m + 1) / m
        a, b = float(v[-2]), float(v[-1])
        below = float(((v[1:-1] + v[:-2]) / 2).sum() / m)
        last = (grid.mean - below) * m  # the mean that the last step has to have
        if b <= a and last <= b:
            return cls(at, v)
        if last <= (a + b) / 2:
            bend = min((b - a) / max(last - a, 1e-12 * (b - a)) - 1, MOST_BEND)
            s = 1 - (1 - np.arange(PIECES + 1) / PIECES) ** 2
            return cls(
                np.concatenate([at[:-2], at[-2] + (at[-1] - at[-2]) * s]),
                np.concatenate([v[:-2], a + (b - a) * s**bend]),
            )
        beyond = min(k / grid.rows, 0.5 / m) if grid.rows else 0.5 / m
        scale = (last - (a + b) / 2) / m / beyond  # mean of what is above b
        reach, excess = _exponential()
        return cls(
            np.concatenate([at[:-1], 1 - beyond + beyond * reach]),
            np.concatenate([v[:-1], b + scale * excess]),
        )

    @classmethod
    def exponential(cls) -> QuantileCurve:
        """Mean 1: the gaps of a Poisson process."""
        return cls(*_exponential(8 * PIECES))

    @classmethod
    def gamma(cls, dispersion: float) -> QuantileCurve:
        """Mean 1 and the squared CV ``dispersion``: gaps of the gamma renewal process whose counts have this index of
        dispersion in the long run (Cox 1962, §4.2)."""
        shape = 1 / max(dispersion, 1e-3)
        at, _ = _exponential(8 * PIECES)
        lower = at[: len(at) // 2] ** 2  # a bursty law has most of its gaps next to 0
        at = np.unique(np.concatenate([lower, at]))
        values = special.gammaincinv(shape, np.minimum(at, 1 - 1e-12)) / shape
        return cls(at, values / _mean(at, values))

    @property
    def mean(self) -> float:
        return _mean(self.at, self.values)

    @property
    def squared_cv(self) -> float:
        """Variance / mean²."""
        a, b = self.values[:-1], self.values[1:]
        second = float((np.diff(self.at) * (a * a + a * b + b * b) / 3).sum())
        return second / self.mean**2 - 1

    def quantile(self, u: Array) -> Array:
        """Values at ``u`` in [0, 1]."""
        return np.interp(u, self.at, self.values)

    def first_gap(self, u: Array, v: Array) -> Array:
        """Times to the first event of an equilibrium renewal process with these gaps, in mean gaps, from two uniform
        numbers each: a uniform part of a length-biased gap. With it E[N(t)] = t exactly (Cox 1962, §2.2)."""
        a, b = self.values[:-1], self.values[1:]
        width = np.diff(self.at)
        area = np.concatenate([[0.0], np.cumsum(width * (a + b) / 2)])
        target = np.asarray(u) * area[-1]
        i = np.minimum(np.searchsorted(area, target, side="right") - 1, len(a) - 1)
        rest = (target - area[i]) / np.maximum(width[i], 1e-300)
        gap = np.sqrt(a[i] ** 2 + 2 * (b[i] - a[i]) * rest)
        return np.asarray(v * gap / area[-1])

    def silent(self, mean_gaps: Array) -> Array:
        """P(no event within so many mean gaps) of the equilibrium renewal process: E[(G − x)⁺] / E[G]."""
        x = np.asarray(mean_gaps, dtype=np.float64)[:, None] * self.mean
        a, b = self.values[:-1], self.values[1:]
        over = np.where(
            a >= x,
            (a + b) / 2 - x,
            np.maximum(b - x, 0.0) ** 2 / (2 * np.maximum(b - a, 1e-300)),
        )
        return np.asarray(over @ np.diff(self.at) / self.mean)


def _mean(at: Array, values: Array) -> float:
    return float((np.diff(at) * (values[1:] + values[:-1]) / 2).sum())


def _exponential(pieces: int = PIECES) -> tuple[Array, Array]:
    """Knots and values of an exponential law of mean exactly 1, denser towards its tail, up to the share e⁻¹⁸."""
    x = 18.0 * np.arange(pieces + 1) / pieces
    at = -np.expm1(-x)
    at[-1] = 1.0
    return at, x / _mean(at, x)

"""How levels of different windows depend on each other: which parts of z (see ``modulation``) stay for how long.

Covariances of levels at positive lags are free of the chance of counting. z's correlation at a lag is of the parts that have
not changed, hence by chance, and the covariance of levels is the mean over it of what Mehler's formula gives.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from .modulation import FACTOR, staying, variance_of

Array = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

FEWEST_PARTS = 8
"""the longest part is seen so many times in the source: what changes more slowly cannot be told from one course of it."""
MOST_LAG = 128
"""windows, beyond which covariances are of wider windows."""
TERMS = 60
"""of Mehler's series."""
APART = 4
"""parts, of those that change on a lag, that are told apart."""
LEAST_PART = 1e-3
"""share of z's variance below which a part is left out."""
LEAST_LEFT = 0.02
"""of the variance of a mean that chance brings towards 0 or below, as a share of that of independent levels."""
ALIKE = 0.02
"""relative difference of variances that is as good as none."""


def part_lengths(n: int) -> list[int]:
    """Mean lengths, in windows, of the parts that ``n`` windows can tell."""
    return [FACTOR**k for k in range(20) if FACTOR**k <= max(n / FEWEST_PARTS, 1)]


def lag_steps(n: int) -> list[int]:
    """Lags, in windows, at which ``n`` of them are compared."""
    return sorted({round(2.0**j) for j in np.arange(0, 24.5, 0.5) if 2.0**j <= n / FEWEST_PARTS})


def copula(x: Array, seen: npt.NDArray[np.bool_], knots: Array) -> Array:
    """Shares of z's parts, such that levels averaged over 1, 2, 4… windows vary as in the source, those that are often seen first."""
    d, held = np.where(seen, x - x[seen].mean(), 0.0), seen.astype(np.float64)
    lags = lag_steps(len(d))
    lengths = part_lengths(len(x))
    if len(lengths) == 1:
        return np.ones(1)
    covariance = np.empty(len(lags))
    step = 1
    for i, lag in enumerate(lags):
        if lag // step > MOST_LAG:  # long lags of wider windows: of means of eight
            whole = len(d) // 8 * 8
            d, held = (v[:whole].reshape(-1, 8).mean(axis=1) for v in (d, held))
            step *= 8
        k = round(lag / step)
        covariance[i] = float(d[:-k] @ d[k:]) / max(float(held[:-k] @ held[k:]), 1e-9)
    at = np.array(lags)
    stays = np.stack([staying(n, at) for n in lengths], axis=1)
    powers = mehler(knots)
    r: Array = np.concatenate([np.linspace(0, 0.9, 46), 1 - np.geomspace(0.09, 1e-4, 40)])
    f = np.power(r[:, None], np.arange(1, TERMS + 1)) @ powers
    # chance takes covariances below 0 as often as above it: cut there, the others would add up to slow parts
    first = simplex(stays, np.sign(covariance) * np.interp(np.abs(covariance), f, r))
    changing = Changing(stays)
    widths, sums = _averaging(at)
    own = variance_of(knots)
    wanted = np.maximum(own / widths + sums @ covariance, LEAST_LEFT * own / widths)
    weight = 1 / np.sqrt(ALIKE**2 + 2 * widths / len(x))

    def off(shares: Array) -> Array:
        have = own / widths + sums @ changing.mean_of(lambda z: np.interp(z, r, f), shares)
        return np.asarray(weight * np.log(have / wanted))

    return _nearest(off, first)


class Changing:
    """The correlation of z with itself some lags later is of the parts that have not changed, so by chance; ``stays`` [lags,
    parts] is the chance of each. Those that change a few times on a lag are told apart, slower ones are taken in the mean."""

    def __init__(self, stays: Array) -> None:
        lags, parts = stays.shape
        first = (stays > 0).argmax(axis=1)
        near = first[:, None] + np.arange(APART)
        self.near = np.minimum(near, parts)  # [lags, APART], ``parts`` is none
        chance = np.concatenate([stays, np.zeros((lags, 1))], axis=1)[
            np.arange(lags)[:, None], self.near
        ]
        self.slow = np.where(np.arange(parts) >= first[:, None] + APART, stays, 0.0)
        self.which = (np.arange(1 << APART)[:, None] >> np.arange(APART)) & 1
        self.chance = np.where(self.which[None], chance[:, None, :], 1 - chance[:, None, :]).prod(
            axis=2
        )

    def mean_of(self, f: Callable[[Array], Array], shares: Array) -> Array:
        """[lags] the mean of ``f`` of the correlation."""
        own = np.append(shares, 0.0)[self.near]
        r = own @ self.which.T + (self.slow @ shares)[:, None]
        return np.asarray((self.chance * f(r)).sum(axis=1))


def _averaging(lags: Ints) -> tuple[Array, Array]:
    """(numbers W of windows that are averaged, [W, lags]): what the covariances c at ``lags`` bring to the variance of the mean of W
    windows, 2/W² Σ (W − l) c(l), where they are linear between."""
    widths = np.exp2(np.arange(math.floor(math.log2(lags[-1])) + 2))
    steps = np.diff(lags, prepend=0)
    out = np.zeros((len(widths), len(lags)))
    for i, (end, n) in enumerate(zip(lags, steps, strict=True)):
        # what lies above the lag before, up to this one
        some = np.unique(np.linspace(end - n + 1, end, min(int(n), 64)).round())
        share = 1 - (end - some) / n
        weight = 2 * np.maximum(widths[:, None] - some, 0) / widths[:, None] ** 2 * (n / len(some))
        out[:, i] += (weight * share).sum(axis=1)
        if i:
            out[:, i - 1] += (weight * (1 - share)).sum(axis=1)
    return widths, out


def _nearest(off: Callable[[Array], Array], first: Array) -> Array:
    """Shares ≥ 0 of sum 1 with the least Σ off², from ``first`` on; they are squares of what is searched."""
    from scipy.optimize import least_squares

    def shares(y: Array) -> Array:
        return np.asarray(y * y / (y @ y))

    found = least_squares(lambda y: off(shares(y)), np.sqrt(np.maximum(first, 0.01)), max_nfev=60)
    out = shares(found.x)
    out[out < LEAST_PART] = 0.0
    return np.asarray(out / out.sum())


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

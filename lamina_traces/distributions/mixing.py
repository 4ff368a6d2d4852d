"""The law of a level that is seen only through counts: what counts would be without the chance of counting.

A window whose level is m holds N arrivals with mean m·μ. Their variance is m·μ + c·(m·μ)² by a negative binomial law where
counts are less even than Poisson's (what varies inside windows are bursts, in proportion to the level), else d·m·μ with d ≤ 1 by
Poisson's law or a rounded gamma law. The law of m is found by maximum likelihood among all laws on a fine grid (Kiefer & Wolfowitz 1956; Laird
1978) with EM's steps, which are Richardson's and Lucy's (1972, 1974). So a window that is empty by chance does not become
a rate of 0.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import special

from .families import Array

Ints = npt.NDArray[np.int64]

ROUNDS = 100
"""of EM: more would gather the law in a few levels."""
NEAR_POISSON = 0.01
MOST_EXCESS = 0.9
MOST_VALUES = 512
"""distinct counts, beyond which they are taken together in an eighth of their own spread."""
LEAST_GRID, MOST_GRID = 64, 512


@dataclass(frozen=True, eq=False)
class Mixing:
    """``weights`` [levels] of ``levels``. Counts of mean μ at a known level have the variance ``evenness``·μ + ``excess``·μ²; both are
    0 where counts are so large that they tell the level themselves."""

    levels: Array
    weights: Array
    evenness: float
    excess: float

    @classmethod
    def of(cls, n: Ints, expected: Array, noise: float, lowest: float = 0.0) -> Mixing:
        """From counts ``n`` [windows], their means ``expected`` [windows] at level 1, and their dispersion ``noise`` at known
        levels, in the mean. ``lowest``: level below which there is none."""
        evenness = min(max(noise, 0.05), 1.0)
        a = max(noise - 1, 0.0) * float(n.sum()) / max(float((n * (n - 1.0)).sum()), 1.0)
        excess = min(a, MOST_EXCESS) / (1 - min(a, MOST_EXCESS))  # E N(N − 1) = (1 + c)·E μ²
        mean = float(expected.mean())
        levels = _grid(n / expected, mean, evenness, lowest)
        if len(levels) > MOST_GRID:  # counts so large tell the level themselves
            levels = np.quantile(n / expected, (np.arange(MOST_GRID) + 0.5) / MOST_GRID)
            return cls(levels, np.full(MOST_GRID, 1 / MOST_GRID), 0.0, 0.0)
        alike = _alike(expected)
        key = n
        if len(np.unique(n)) > MOST_VALUES:
            key = np.floor(8 * np.sqrt(n / evenness)).astype(np.int64)
        place = alike * (int(key.max()) + 1) + key
        _, cell, times = np.unique(place, return_inverse=True, return_counts=True)
        low, high = np.full(len(times), n.max()), np.zeros(len(times), dtype=np.int64)
        np.minimum.at(low, cell, n)
        np.maximum.at(high, cell, n)
        mean = np.bincount(cell, expected) / times
        kernel = _between(low, high, mean, levels, evenness, excess)
        return cls(levels, mixed(kernel, times / times.sum(), ROUNDS), evenness, excess)

    def posterior(self, n: Ints, expected: Array) -> Array:
        """[windows] the mean of each window's level, given its count."""
        if self.evenness == 0:
            return np.asarray(n / expected)
        out = np.empty(len(n))
        alike = _alike(expected)
        for c in np.flatnonzero(np.bincount(alike)):
            mine = alike == c
            least, most = int(n[mine].min()), int(n[mine].max())
            at = np.unique(np.concatenate([np.arange(least, min(most, least + 256) + 1), np.geomspace(max(least, 1), max(most, 1), 256).astype(np.int64), [most]]))  # fmt: skip
            mean = np.full(len(at), expected[mine].mean())
            kernel = _between(at, at, mean, self.levels, self.evenness, self.excess)
            told = (kernel @ (self.weights * self.levels)) / (kernel @ self.weights)
            out[mine] = np.interp(n[mine], at, told)
        return out


def mixed(kernel: Array, share: Array, rounds: int) -> Array:
    """[levels] weights of a mixture by EM, from equal ones on: ``kernel`` [cells, levels] chances of a cell at a level, ``share``
    [cells] of what was seen."""
    weights = np.full(kernel.shape[1], 1 / kernel.shape[1])
    for _ in range(rounds):
        weights = weights * (kernel.T @ (share / (kernel @ weights)))
        weights /= weights.sum()
    return weights


def _alike(expected: Array) -> Ints:
    """Numbers from 0, the same for windows whose means at level 1 differ by less than a tenth."""
    step = np.floor(np.log(np.maximum(expected, 1e-9)) / math.log(1.1)).astype(np.int64)
    return np.asarray(step - step.min())


def _grid(x: Array, mean: float, evenness: float, low: float) -> Array:
    """Levels from ``low``, or one that brings an arrival in a thousand windows, up to the highest, in steps of a third of the spread
    at level 1."""
    low = min(max(low, 0.001 / mean), 0.5)
    high = max(float(x.max()), 2 * low)
    wanted = math.log(high / low) / (math.sqrt(evenness / mean) / 3)
    return np.geomspace(low, high, max(int(wanted), LEAST_GRID))


def _between(low: Ints, high: Ints, mean: Array, levels: Array, evenness: float, excess: float) -> Array:  # fmt: skip
    """[cells, levels] P(low ≤ N ≤ high), above 0."""
    mu = mean[:, None] * levels

    def upto(k: Ints) -> Array:
        at = k[:, None].astype(np.float64)
        if evenness < 1 - NEAR_POISSON:
            found = special.gammainc(mu / evenness, np.maximum(at + 0.5, 0.0) / evenness)
        elif excess > NEAR_POISSON:
            found = special.betainc(1 / excess, np.maximum(at, 0.0) + 1, 1 / (1 + excess * mu))
        else:
            found = special.gammaincc(np.maximum(at, 0.0) + 1, mu)
        return np.where(at < 0, 0.0, found)

    return np.maximum(upto(high) - upto(low - 1), 1e-300)

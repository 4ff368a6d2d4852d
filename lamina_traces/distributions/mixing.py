"""The law of a level that is seen only through counts: what counts would be without the chance of counting.

A window whose level is m holds N arrivals with mean m·μ and variance d·m·μ, by a negative binomial law (d > 1), Poisson's
(d = 1) or a rounded gamma law (d < 1). The law of m is found by maximum likelihood among all laws on a fine grid (Kiefer & Wolfowitz
1956; Laird 1978) with EM's steps, which are Richardson's and Lucy's (1972, 1974). So a window that is empty by chance does
not become a rate of 0.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import special

from .families import Array

Ints = npt.NDArray[np.int64]

ROUNDS = 300
NEAR_POISSON = 0.02
MOST_VALUES = 512
"""distinct counts, beyond which they are taken together in an eighth of their own spread."""
LEAST_GRID, MOST_GRID = 64, 512


@dataclass(frozen=True, eq=False)
class Mixing:
    """``weights`` [levels] of ``levels``; counts at a known level have the dispersion ``noise``."""

    levels: Array
    weights: Array
    noise: float

    @classmethod
    def of(cls, n: Ints, expected: Array, noise: float) -> Mixing:
        """From counts ``n`` [windows] and their means ``expected`` [windows] at level 1."""
        noise = max(noise, 0.05)
        alike = _alike(expected)
        key = n
        if len(np.unique(n)) > MOST_VALUES:
            key = np.floor(8 * np.sqrt(n / noise)).astype(np.int64)
        place = alike * (int(key.max()) + 1) + key
        _, cell, times = np.unique(place, return_inverse=True, return_counts=True)
        low, high = np.full(len(times), n.max()), np.zeros(len(times), dtype=np.int64)
        np.minimum.at(low, cell, n)
        np.maximum.at(high, cell, n)
        mean = np.bincount(cell, expected) / times
        levels = _grid(n / expected, float(expected.mean()), noise)
        kernel = _upto(high, mean, levels, noise) - _upto(low - 1, mean, levels, noise)
        kernel = np.maximum(kernel, 1e-300)
        share = times / times.sum()
        weights = np.full(len(levels), 1 / len(levels))
        for _ in range(ROUNDS):
            weights = weights * (kernel.T @ (share / (kernel @ weights)))
            weights /= weights.sum()
        return cls(levels, weights, noise)

    def posterior(self, n: Ints, expected: Array) -> Array:
        """[windows] the mean of each window's level, given its count."""
        out = np.empty(len(n))
        alike = _alike(expected)
        for c in np.flatnonzero(np.bincount(alike)):
            mine = alike == c
            least, most = int(n[mine].min()), int(n[mine].max())
            at = np.unique(np.concatenate([np.arange(least, min(most, least + 256) + 1), np.geomspace(max(least, 1), max(most, 1), 256).astype(np.int64), [most]]))  # fmt: skip
            mean = np.full(len(at), expected[mine].mean())
            kernel = _upto(at, mean, self.levels, self.noise) - _upto(at - 1, mean, self.levels, self.noise)  # fmt: skip
            kernel = np.maximum(kernel, 1e-300)
            told = (kernel @ (self.weights * self.levels)) / (kernel @ self.weights)
            out[mine] = np.interp(n[mine], at, told)
        return out


def _alike(expected: Array) -> Ints:
    """Numbers from 0, the same for windows whose means at level 1 differ by less than a tenth."""
    step = np.floor(np.log(np.maximum(expected, 1e-9)) / math.log(1.1)).astype(np.int64)
    return np.asarray(step - step.min())


def _grid(x: Array, mean: float, noise: float) -> Array:
    """Levels from one that hardly brings an arrival up to the highest, in steps of a third of the spread at level 1."""
    low = min(0.02 / mean, 0.5)
    high = max(float(x.max()), 2 * low)
    wanted = math.log(high / low) / (math.sqrt(noise / mean) / 3)
    return np.geomspace(low, high, int(np.clip(wanted, LEAST_GRID, MOST_GRID)))


def _upto(k: Ints, mean: Array, levels: Array, noise: float) -> Array:
    """[cells, levels] P(N ≤ k)."""
    mu = mean[:, None] * levels
    at = k[:, None].astype(np.float64)
    if noise < 1 - NEAR_POISSON:
        found = special.gammainc(mu / noise, np.maximum(at + 0.5, 0.0) / noise)
    elif noise > 1 + NEAR_POISSON:
        found = special.betainc(mu / (noise - 1), np.maximum(at, 0.0) + 1, 1 / noise)
    else:
        found = special.gammaincc(np.maximum(at, 0.0) + 1, mu)
    return np.where(at < 0, 0.0, found)

"""Counts: frequency tables, the currency from SQL and streaming passes to fits; and Binning, which makes them.

Merging adds counts, so a fit on merged Counts equals the fit on the whole.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from .units import short

Array = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Counts:
    """A frequency table: the currency from SQL to fits.

    Parallel arrays, one entry per bin, sorted by ``lo``: ``lo`` ≤ x ≤ ``hi`` held by ``n`` values whose
    sum is ``total``. ``lo == hi`` is an exact value (then total = n·lo). Empty bins are left out. The
    unit is the caller's (``unit`` names it for people).

    Merging adds counts, so a fit on merged Counts equals the fit on the whole.
    """

    lo: npt.NDArray[np.float64]
    hi: npt.NDArray[np.float64]
    n: npt.NDArray[np.float64]
    total: npt.NDArray[np.float64]
    unit: str = ""

    @classmethod
    def exact(cls, values: Any, n: Any, unit: str = "") -> Counts:
        """From distinct ``values`` and how often each occurs; sorts, merges equal values, drops n = 0."""
        v = np.asarray(values, dtype=np.float64)
        w = np.asarray(n, dtype=np.float64)
        keep = w > 0
        v, inverse = np.unique(v[keep], return_inverse=True)
        w = np.bincount(inverse, weights=w[keep], minlength=len(v)).astype(np.float64)
        return cls(v, v, w, v * w, unit)

    @classmethod
    def of(cls, rows: Any, unit: str = "") -> Counts:
        """From raw values, one per row."""
        v, n = np.unique(np.asarray(rows, dtype=np.float64), return_counts=True)
        return cls.exact(v, n, unit)

    @property
    def rows(self) -> float:
        """How many values were counted."""
        return float(self.n.sum())

    @property
    def sum(self) -> float:
        return float(self.total.sum())

    @property
    def mean(self) -> float:
        return self.sum / self.rows

    @property
    def x(self) -> npt.NDArray[np.float64]:
        """The mean of each bin: the value itself where bins are exact."""
        return self.total / self.n

    def var(self, ddof: int = 0) -> float:
        """Variance of the bin means, weighted; exact where bins are exact."""
        d = self.x - self.mean
        return float((self.n * d * d).sum() / (self.rows - ddof))

    def quantile(self, q: float | npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        """Linear-interpolated quantiles (numpy's default, type 7) of the bin means."""
        x, c = self.x, np.cumsum(self.n)
        h = np.asarray(q, dtype=np.float64) * (self.rows - 1)
        below = np.floor(h)
        i = np.searchsorted(c, below, side="right")
        j = np.searchsorted(c, np.minimum(below + 1, self.rows - 1), side="right")
        return np.asarray(x[i] + (h - below) * (x[j] - x[i]))

    def cdf(self, at: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        """Share of values ≤ ``at`` (bin means)."""
        c = np.concatenate([[0.0], np.cumsum(self.n)])
        return np.asarray(c[np.searchsorted(self.x, at, side="right")] / self.rows)

    def where(self, mask: npt.NDArray[np.bool_]) -> Counts:
        return Counts(self.lo[mask], self.hi[mask], self.n[mask], self.total[mask], self.unit)

    def scaled(self, factor: float) -> Counts:
        """The same counts of values times a positive ``factor``."""
        return Counts(self.lo * factor, self.hi * factor, self.n, self.total * factor)

    def coarse(self, per_octave: int = 32) -> Counts:
        """The same values in at most ``per_octave`` bins an octave, sums kept; values above 0 alone are binned."""
        if len(self) <= 8 * per_octave:
            return self
        with np.errstate(divide="ignore"):
            key = np.where(
                self.x > 0, np.floor(np.log2(np.maximum(self.x, 1e-300)) * per_octave), -1e6
            )
        first = np.flatnonzero(np.diff(key, prepend=-np.inf))
        last = np.append(first[1:], len(self)) - 1
        return Counts(
            self.lo[first],
            self.hi[last],
            np.add.reduceat(self.n, first),
            np.add.reduceat(self.total, first),
            self.unit,
        )

    def __len__(self) -> int:
        return len(self.n)

    def __add__(self, other: Counts) -> Counts:
        lo = np.concatenate([self.lo, other.lo])
        hi = np.concatenate([self.hi, other.hi])
        bins, inverse = np.unique(np.stack([lo, hi], axis=1), axis=0, return_inverse=True)
        n = np.zeros(len(bins))
        total = np.zeros(len(bins))
        np.add.at(n, inverse.ravel(), np.concatenate([self.n, other.n]))
        np.add.at(total, inverse.ravel(), np.concatenate([self.total, other.total]))
        return Counts(bins[:, 0].copy(), bins[:, 1].copy(), n, total, self.unit)


def significant(x: Array, digits: int) -> Array:
    """``units.short`` of every number, in the shape of ``x``."""
    return np.array([short(v, digits) for v in np.ravel(x)]).reshape(np.shape(x))


def count_into(table: npt.NDArray[Any], at: npt.NDArray[Any], weights: Array | None = None) -> None:
    """Add to a table how often each of its places occurs in ``at``, or the sum of its ``weights``; only as much of the
    table as is used is touched."""
    found = np.bincount(at, weights=weights)
    table[: len(found)] += found


@dataclass(frozen=True)
class Binning:
    """Whole numbers in bins: exact below ``2 ** bits``, above it ``2 ** (bits - 1)`` bins an octave.

    The layout of HDR histograms: a value keeps its ``bits`` leading binary digits, so a bin is never wider
    than 2^(1 − bits) of its value. Bins keep how many values they hold and their sum, so means are exact.
    ``unit`` is what one stands for (a tick of the clock in seconds; 1 token).
    """

    bits: int = 11
    unit: float = 1.0
    name: str = ""
    """the unit's name for people: s, tokens."""

    @property
    def size(self) -> int:
        """How many bins cover all of int63."""
        return (65 - self.bits) << (self.bits - 1)

    def index(self, values: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """The bin of each value ≥ 0."""
        big = values >= 1 << self.bits
        count = int(np.count_nonzero(big))
        if not count:
            return values
        if count * 4 > len(values):
            return np.where(big, self._above(values), values)
        out = values.astype(np.int64)
        out[big] = self._above(values[big])
        return out

    def _above(self, values: npt.NDArray[Any]) -> Ints:
        """The exponent and the leading digits of a double are the bin, in order."""
        v: Ints = values.astype(np.float64).view(np.int64) >> (53 - self.bits)
        v -= ((1023 + self.bits - 1) << (self.bits - 1)) - (1 << (self.bits - 1))
        return v

    def counts(self, n: npt.NDArray[Any], total: npt.NDArray[Any]) -> Counts:
        """From how many values each bin holds and their sums, both in whole numbers of ``unit``."""
        used = np.flatnonzero(n)
        lo, hi = self.edges(used)
        return Counts(
            lo * self.unit,
            hi * self.unit,
            n[used].astype(np.float64),
            total[used] * self.unit,
            self.name,
        )

    def edges(self, bins: Ints) -> tuple[Array, Array]:
        half = 1 << (self.bits - 1)
        octave = np.maximum(bins // half - 1, 0)
        lead = bins - octave * half
        lo = lead.astype(np.float64) * 2.0**octave
        return lo, lo + 2.0**octave - 1

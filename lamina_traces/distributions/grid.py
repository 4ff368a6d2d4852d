"""Empirical laws: the quantile grid that a profile keeps, and the piecewise-linear curve that values are drawn from.

One family misses real lengths by KS 0.03–0.16. A grid keeps quantiles at equal steps of probability; its last step, which
often holds most of the mean, is halved again and again (at 1 − 2⁻ʲ of it) as long as enough rows are beyond, and of each part
its mean is kept, and that of the first step. Drawn values have these means: within a part the curve bends, beyond the last knot
it falls off exponentially, below the first it goes to 0 with a power of the rank. Nothing of a single row is in that: every part
holds k rows or more.
"""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from scipy import special

from ..counts import Counts, significant
from ..errors import ModelError
from ..units import short
from .families import Array

K_ANONYMITY = 10
"""nothing that fewer rows share is written into a profile: ends of a grid are the k-th extreme."""

GRID_KNOTS = 257
"""knots of a quantile grid: KS below 0.003 in sample on six real length columns."""

PIECES = 48
"""straight lines that an exponential tail is made of."""
BEND_PIECES = 8
"""straight lines that one part of the tail is made of where it bends."""
MOST_BEND = 12.0
LARGEST = 2.0**62
"""of what a grid is told in: drawn values are whole numbers where they are counts or nanoseconds."""


@dataclass(frozen=True, eq=False)
class QuantileCurve:
    """A law: ``values[i]`` is the quantile at ``at[i]``, linear in between; ``at`` goes from 0 to 1."""

    at: Array
    values: Array

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
        return cls(at, values / float(_areas(at, values)[-1]))

    @functools.cached_property
    def areas(self) -> Array:
        """Integrals of the quantiles from 0 to each of ``at``."""
        return _areas(self.at, self.values)

    @property
    def mean(self) -> float:
        return float(self.areas[-1])

    @property
    def squared_cv(self) -> float:
        """Variance / mean²."""
        a, b = self.values[:-1], self.values[1:]
        second = float((np.diff(self.at) * (a * a + a * b + b * b) / 3).sum())
        return second / self.mean**2 - 1

    def quantile(self, u: Array) -> Array:
        """Values at ``u`` in [0, 1]."""
        return np.interp(u, self.at, self.values)

    def mean_of(self, low: Array, high: Array) -> Array:
        """Means of the values between two ranks each."""
        return np.asarray((self._area(high) - self._area(low)) / (high - low))

    def _area(self, u: Array) -> Array:
        i = np.clip(np.searchsorted(self.at, u, side="right") - 1, 0, len(self.at) - 2)
        return np.asarray(
            self.areas[i] + (u - self.at[i]) * (self.values[i] + self.quantile(u)) / 2
        )

    def table(self, knots: int) -> Array:
        """[knots] quantiles at equal steps, for loops that look up in straight lines: the mean of the last step is kept, its
        end is not."""
        u = np.linspace(0.0, 1.0, knots)
        out = self.quantile(u)
        out[-1] = max(2 * float(self.mean_of(u[-2:-1], u[-1:])[0]) - out[-2], out[-2])
        return out

    def rests(self, u: Array, v: Array) -> Array:
        """What is left of gaps in whose midst an observer comes, from two uniform numbers each: a uniform part of a
        length-biased gap. An equilibrium renewal process begins with it, and has E[N(t)] = t / mean exactly (Cox 1962,
        §2.2)."""
        a, b = self.values[:-1], self.values[1:]
        width = np.diff(self.at)
        target = np.asarray(u) * self.mean
        i = np.minimum(np.searchsorted(self.areas, target, side="right") - 1, len(a) - 1)
        rest = (target - self.areas[i]) / np.maximum(width[i], 1e-300)
        gap = np.sqrt(a[i] ** 2 + 2 * (b[i] - a[i]) * rest)
        return np.asarray(v * gap)

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


def _none() -> Array:
    return np.zeros(0)


@dataclass(frozen=True, eq=False)
class Grid:
    """Empirical quantile grid: ``values[i]`` is the quantile at i/m, m = len − 1. The last step is told more finely:
    ``tail[j]`` is the quantile at 1 − 2⁻ʲ⁻¹/m, and ``tail_means`` are the means of the parts between them, the first from
    1 − 1/m on and the last up to 1 (one more than ``tail``; none where there is no tail).

    The ends are the k-th extremes and every step holds at least k rows (k = 10), so no single row of the source can be read
    from it. ``mean`` is the source's own mean; without a tail the last step bends so that the law has it. ``head_mean``: of the
    first step; None: it is straight.
    """

    values: Array
    mean: float
    rows: float
    tail: Array = field(default_factory=_none)
    tail_means: Array = field(default_factory=_none)
    head_mean: float | None = None

    @classmethod
    def of(cls, c: Counts, knots: int = GRID_KNOTS, k: int = K_ANONYMITY) -> Grid:
        """From Counts of any values. Raises ModelError below 2k rows."""
        if c.rows < 2 * k:
            raise ModelError(
                f"{c.rows:.0f} rows are too few for a quantile grid", f"at least {2 * k} are needed"
            )
        m = int(min(knots, c.rows // k + 1))
        q = np.linspace(0.0, 1.0, m)
        edge = (k - 1) / (c.rows - 1)
        values = significant(c.quantile(np.clip(q, edge, 1 - edge)), 7)
        at = _tail_ranks(m - 1, c.rows / k)
        n, total = (np.concatenate([[0.0], np.cumsum(x)]) for x in (c.n, c.total))
        head = float(np.interp(c.rows / (m - 1), n, total)) / c.rows * (m - 1) if m > 2 else None
        grid = cls(values, c.mean, c.rows, head_mean=None if head is None else short(head, 7))
        if len(at) < 3:
            return grid
        upto = np.interp(at * c.rows, n, total)
        means = np.diff(upto) / (np.diff(at) * c.rows)
        return replace(grid, tail=significant(c.quantile(at[1:-1]), 7), tail_means=significant(means, 7))  # fmt: skip

    @classmethod
    def of_curve(cls, curve: QuantileCurve, knots: int, rows: float, end: float) -> Grid:
        """What keeps a law that ``rows`` rows tell, whose k-th extreme is ``end``."""
        m = knots - 1
        at = _tail_ranks(m, rows / K_ANONYMITY)
        upto = np.minimum(curve.quantile(np.concatenate([np.arange(m) / m, at[1:]])), end)
        values = significant(np.append(upto[:m], end), 7)
        head = float(curve.mean_of(np.zeros(1), np.array([1 / m]))[0])
        grid = cls(values, curve.mean, rows, head_mean=short(head, 7) if m > 1 else None)
        if len(at) < 3:
            return grid
        means = curve.mean_of(at[:-1], at[1:])
        return replace(grid, tail=significant(upto[m:-1], 7), tail_means=significant(means, 7))

    @property
    def knots(self) -> tuple[Array, Array]:
        """(ranks, quantiles) that are kept."""
        m = len(self.values) - 1
        ranks = np.concatenate([np.arange(m) / m, 1 - 0.5 ** np.arange(1, len(self.tail) + 1) / m, [1.0]])  # fmt: skip
        return ranks, np.concatenate([self.values[:-1], self.tail, self.values[-1:]])

    @functools.cached_property
    def curve(self) -> QuantileCurve:
        """What is drawn from."""
        v, m = self.values, len(self.values) - 1
        ranks, knots = self.knots
        means = self.tail_means
        lower = self._head(1 / m)
        if not len(means):  # what the other steps leave to the last
            below = float(_areas(*lower)[-1]) + float(((v[2:-1] + v[1:-2]) / 2).sum() / m)
            means = np.array([(self.mean - below * (m > 1)) * m])
        parts = [lower, (ranks[2:m], knots[2:m])] if m > 1 else [(ranks[:1], knots[:1])]
        for i, mean in enumerate(means.tolist(), m - 1):
            parts.append(self._part(ranks[i : i + 2], knots[i : i + 2], mean, i == len(ranks) - 2))
        return QuantileCurve(*(np.concatenate(x) for x in zip(*parts, strict=True)))

    def _head(self, q: float) -> tuple[Array, Array]:
        """Knots of the first step, up to the rank ``q``, such that it has its mean: between its ends with the γ-th power of the
        rank, or from 0 where its mean is lower than that allows (its rows below the k-th smallest)."""
        a, b = float(self.values[0]), float(self.values[1])
        if self.head_mean is None or self.head_mean <= 0 or b <= 0:
            return np.array([0.0, q]), np.array([a, b])
        mean = min(self.head_mean, b)
        if a > 0 and mean < a + (b - a) / (MOST_BEND + 1):
            a = 0.0
        if b <= a:
            return np.array([0.0, q]), np.array([b, b])
        bend = _bend(a, b, mean)
        s = (np.arange(BEND_PIECES + 1) / BEND_PIECES) ** (2 if bend < 1 else 1)
        return q * s, a + (b - a) * s**bend

    def _part(self, at: Array, ends: Array, mean: float, last: bool) -> tuple[Array, Array]:
        """Knots after ``at[0]`` of a part of the tail between two values, such that it has this mean: it goes with the γ-th
        power of the rank. Beyond the end of the last part are the highest k rows: they fall off exponentially, or, where that
        would ask for a higher mean (a cap is near, that they do not all reach), end with an even spread."""
        (p, q), (a, b) = at, ends
        if last and mean > (a + b) / 2:
            share = q - p
            top = K_ANONYMITY / self.rows if self.rows else share / 2
            below = 1 - min(top / share, 0.95)
            even, falling = (b - a) / below / 2, -(b - a) / math.log1p(-below)  # means above a
            if self.rows and mean - a < (even + falling) / 2:
                return np.array([q]), np.array([2 * mean - a])
            beyond = min(top, share / 2)
            reach, excess = _exponential()
            scale = (mean - (a + b) / 2) * share / beyond
            return 1 - beyond + beyond * reach, b + scale * excess
        if b <= a:
            return at[1:], ends[1:]
        bend = _bend(a, b, mean)
        pieces = PIECES if last else BEND_PIECES
        s = 1 - (1 - np.arange(1, pieces + 1) / pieces) ** 2
        return p + (q - p) * s, a + (b - a) * s**bend

    def quantile(self, u: Array) -> Array:
        """What is kept of the source, at ``u`` in [0, 1], linear between the knots; it ends at the k-th extremes."""
        return np.interp(u, *self.knots)

    def drawn(self, u: Array) -> Array:
        """Values at numbers ``u`` in [0, 1], which are used up: quantiles of ``curve``, at half the cost."""
        m = len(self.values) - 1
        bent = np.flatnonzero((u >= 1 - 1 / m) | (u < 1 / m))
        beside = self.curve.quantile(u[bent])
        u *= m
        i = np.minimum(u.astype(np.int64), m - 1)
        u -= i
        u *= np.diff(self.values)[i]
        u += self.values[i]
        u[bent] = beside
        return u

    def rank(self, x: Array) -> Array:
        """Ranks of values in the law of ``curve``, in the middle of those that have the same."""
        at, v = self.curve.at, self.curve.values
        low, high = (np.searchsorted(v, x, side=side) for side in ("left", "right"))
        inside = np.interp(x, v, at)
        last = len(v) - 1
        return np.where(high > low + 1, (at[np.minimum(low, last)] + at[high - 1]) / 2, inside)

    def scaled(self, factor: float) -> Grid:
        """The law of the values times a positive ``factor``."""
        values, tail, means = (x * factor for x in (self.values, self.tail, self.tail_means))
        head = None if self.head_mean is None else self.head_mean * factor
        return Grid(values, self.mean * factor, self.rows, tail, means, head)

    def rounded(self, digits: int) -> Grid:
        """The same law with so many significant digits."""
        told = (significant(x, digits) for x in (self.values, self.tail, self.tail_means))
        values, tail, means = told
        head = None if self.head_mean is None else short(self.head_mean, digits)
        return Grid(values, short(self.mean, digits), self.rows, tail, means, head)

    def thinned(self, knots: int) -> Grid:
        """The same law with fewer knots."""
        if len(self.values) <= knots:
            return self
        thin = Grid.of_curve(self.curve, knots, self.rows, float(self.values[-1]))
        return replace(thin, mean=self.mean)

    def to_dict(self) -> dict[str, Any]:
        out: dict[str, Any] = {"values": _told(self.values), "mean": self.mean, "rows": self.rows}
        if self.head_mean is not None:
            out["head_mean"] = self.head_mean
        if len(self.tail):
            out |= {"tail_values": _told(self.tail), "tail_means": _told(self.tail_means)}
        return out

    @classmethod
    def from_dict(cls, d: dict[str, Any]) -> Grid:
        values, tail, means = (
            np.array(d.get(k, ()), dtype=np.float64)
            for k in ("values", "tail_values", "tail_means")
        )
        if not values.ndim == tail.ndim == means.ndim == 1:
            raise ModelError(
                "a quantile grid in the profile is not a list of numbers", "fit the profile again"
            )
        whole = np.concatenate([values[:-1], tail, values[-1:]])
        if len(values) < 2 or not np.isfinite(whole).all() or (np.diff(whole) < 0).any():
            raise ModelError(
                "a quantile grid in the profile is not an increasing list of numbers",
                "fit the profile again",
            )
        if len(means) != (len(tail) + 1 if len(tail) else 0) or not np.isfinite(means).all():
            raise ModelError(
                "the tail of a quantile grid in the profile has not one mean for each part",
                "fit the profile again",
            )
        head = d.get("head_mean")
        out = cls(values, float(d["mean"]), float(d["rows"]), tail, means, None if head is None else float(head))  # fmt: skip
        sizes = (
            abs(out.mean),
            -values[0],
            values[-1],
            abs(means).max(initial=0.0),
            abs(out.head_mean or 0.0),
        )
        if not (0 <= out.rows < math.inf and all(x <= LARGEST for x in sizes)):
            raise ModelError(
                "a quantile grid in the profile has a mean, a value or a number of rows beyond all measure",
                "fit the profile again",
            )
        if not -LARGEST <= out.curve.values[-1] <= LARGEST:
            raise ModelError(
                f"a quantile grid in the profile ends at {values[-1]:g}, and cannot have the mean {out.mean:g}",
                "state a mean that its quantiles can have, or fit the profile again",
            )
        return out


def _bend(a: float, b: float, mean: float) -> float:
    """γ with which a + (b − a)·s^γ, s uniform, has this mean; within 1/MOST_BEND and MOST_BEND."""
    return min(max((b - a) / max(mean - a, 1e-12 * (b - a)) - 1, 1 / MOST_BEND), MOST_BEND)


def _tail_ranks(steps: int, most: float) -> Array:
    """Ranks between the parts of the last of ``steps`` equal steps, each half of what is left, as long as a part is no less
    than one of ``most``; with 1 − 1/steps and 1."""
    halvings = int(np.log2(max(most / steps, 1.0)) + 1e-9)
    return np.append(1 - 0.5 ** np.arange(halvings + 1) / steps, 1.0)


def _told(x: Array) -> list[int | float]:
    return [int(v) if v == int(v) else float(v) for v in x]


def _areas(at: Array, values: Array) -> Array:
    return np.concatenate([[0.0], np.cumsum(np.diff(at) * (values[1:] + values[:-1]) / 2)])


def _exponential(pieces: int = PIECES) -> tuple[Array, Array]:
    """Knots and values of an exponential law of mean exactly 1, denser towards its tail, up to the share e⁻¹⁸."""
    x = 18.0 * np.arange(pieces + 1) / pieces
    at = -np.expm1(-x)
    at[-1] = 1.0
    return at, x / float(_areas(at, x)[-1])

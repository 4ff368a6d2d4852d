"""Power over time, drawn from what a profile tells of a group: levels, what is left beside them, and how fast it may rise.

The level is that of a hidden Markov chain (``phases``); beside it goes an AR(1), or, where there are no levels, a sum of
AR(1) whose correlation is the profile's. The load-duration curve is dealt out to the levels, each part of it by how likely
each level is there; what is beside a level, rank for rank, becomes watts of its part. Stays are as long as makes a level's
share that of its part. So mean, quantiles and energy are the curve's, and the levels say when.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import ndimage, optimize, signal, special

from ..errors import ModelError
from .phases import Phases
from .power_groups import Course, Group
from .power_readings import RISES_S

Array = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

TABLE = 4097
"""points of the load-duration curve."""
SLOWEST = 12
"""correlations are taken to decay in 1, 2, 4 … 2¹² steps, or at once."""


@dataclass(frozen=True, eq=False)
class PowerSeries:
    """A process on a grid of ``step_s``.

    ``share`` [K]: stationary share of each level; ``leave`` [K]: probability to leave a level after a chain step, of ``fold``
    grid steps; ``jump`` [K, K]: cumulative probabilities of where to. ``weights``, ``phis`` [C]: the components of what
    is beside the level and their correlation over a grid step; the weights are shares of its variance. ``below`` [K],
    ``watts``: by level, the share of its part of the load-duration curve that lies below each of the watts. ``rises``: (cells,
    W), the most that the power may rise within so many steps.
    """

    step_s: float
    fold: int
    share: Array
    leave: Array
    jump: Array
    weights: Array
    phis: Array
    below: tuple[Array, ...]
    watts: Array
    rises: tuple[tuple[int, float], ...]

    @classmethod
    def of(cls, group: Group, steepest_w: float = math.inf) -> PowerSeries:
        """From a group that keeps its course. ``steepest_w``: the most that it may rise in one step, where known.
        Raises ModelError where the group keeps no course or too few readings for a curve."""
        course = group.course
        if course is None or course.load_duration is None:
            raise ModelError(
                "power of the profile keeps no course over time to draw from",
                "fit a trace of 20 readings or more, without --by",
            )
        step = group.step_s
        p = course.phases
        watts = course.load_duration.quantile(np.linspace(0.0, 1.0, TABLE))
        if p is not None:
            fold = max(1, round(p.step_s / step))
            watts = _without_ramps(p, course.load_duration.values)
            below, share = _parts(p, watts)
            leave, jump = _chain(p, share)
            phi = p.phi if fold == 1 else max(p.phi, 0.0) ** (1 / fold)
            weights, phis = np.ones(1), np.array([min(max(phi, -0.9999), 0.9999)])
        else:
            fold, below = 1, (np.linspace(0.0, 1.0, TABLE),)
            share, leave, jump = np.ones(1), np.zeros(1), np.ones((1, 1))
            weights, phis = decays(course, step)
        rises = [(math.floor(d / step), w) for d in RISES_S if (w := group.rises_w.get(str(d)))]
        if math.isfinite(steepest_w):
            rises.append((1, steepest_w))
        return cls(
            step, fold, share, leave, jump, weights, phis, below, watts,
            tuple((n, w) for n, w in rises if n >= 1),
        )  # fmt: skip

    def uppermost(self) -> tuple[float, float]:
        """Mean and spread of the highest level, in W."""
        mass = np.diff(self.below[-1])
        middle = (self.watts[1:] + self.watts[:-1]) / 2
        mean = float(mass @ middle)
        return mean, math.sqrt(float(mass @ (middle - mean) ** 2))

    def dwell(self, level: int, u: Array) -> Ints:
        """Chain steps of stays at a level, geometric, from uniform numbers; an endless one is 2⁴⁰ steps."""
        p = float(self.leave[level])
        if p <= 0:
            return np.full(len(u), 1 << 40, dtype=np.int64)
        if p >= 1:
            return np.ones(len(u), dtype=np.int64)
        return np.minimum(np.ceil(np.log(u) / math.log1p(-p)), 2.0**40).astype(np.int64)

    def beside(self, normal: Array, last: Array) -> tuple[Array, Array]:
        """What is beside the level, of unit variance, from standard normal numbers [C, n] and the components ``last`` [C]
        before them; and the components at the end. Each is x(t) = φ·x(t − 1) + √(1 − φ²)·ε(t)."""
        out = np.zeros(normal.shape[1])
        after = last.copy()
        for c, (w, phi) in enumerate(zip(self.weights, self.phis, strict=True)):
            x, _ = signal.lfilter(
                [math.sqrt(1 - phi * phi)], [1.0, -phi], normal[c], zi=np.array([phi * last[c]])
            )
            out += math.sqrt(w) * x
            after[c] = x[-1]
        return out, after

    def power(self, level: Ints, beside: Array) -> Array:
        """Watts of levels and what is beside them, before ``rising`` holds back what is too steep."""
        rank = special.ndtr(beside)
        out = np.empty(len(rank))
        for k, below in enumerate(self.below):
            mine = level == k
            out[mine] = np.interp(rank[mine], below, self.watts)
        return out

    def rising(self, watts: Array, before: Array) -> Array:
        """The same held to ``rises``: no reading is more than so many watts above any of so many steps before it.
        ``before``: what came before, as it was held."""
        if not self.rises:
            return watts
        x = np.concatenate([before, watts])
        first = len(before)
        bound = np.full(len(x), np.inf)
        for cells, most in self.rises:
            bound = np.minimum(bound, _lowest_before(x, cells) + most)
        above = np.flatnonzero(x[first:] > bound[first:]) + first
        # what was held back holds back what follows, for as long as the longest rise lasts
        longest = max(cells for cells, _ in self.rises)
        until = -1
        for start in above.tolist():
            if start <= until:
                continue
            i, until = start, start + longest
            while i < len(x) and i <= until:
                most = min(float(x[max(0, i - c) : i].min()) + w for c, w in self.rises)
                if x[i] > most:
                    x[i], until = most, i + longest
                i += 1
        return x[first:]


def decays(course: Course, step_s: float) -> tuple[Array, Array]:
    """(weights, correlation over a step) of the AR(1) whose sum has the autocorrelation of the course, by non-negative
    least squares over decays in 1, 2, 4 … steps; a lag that is beyond noise at no distance counts as 0."""
    k = np.array([round(x / step_s) for x in course.lags_s], dtype=np.float64)
    r = np.array(course.acf)
    longest = 2 ** np.arange(SLOWEST + 1)
    phis = np.concatenate([[0.0], np.exp(-1.0 / longest)])
    if not len(k):
        return np.ones(1), np.zeros(1)
    below = np.flatnonzero(r < 0.02)
    if len(below):  # behind the first zero a finite series only swings
        r = np.where(np.arange(len(r)) >= below[0], 0.0, r)
    # lag 0 says that the weights add up to 1; it is given the weight of ten lags
    a = np.vstack([10 * np.ones(len(phis)), phis[None, :] ** k[:, None]])
    found: Any = optimize.nnls(a, np.concatenate([[10.0], r]))[0]
    keep = found > 1e-4
    w = found[keep] / found[keep].sum()
    return np.asarray(w), phis[keep]


def _without_ramps(p: Phases, knots: Array) -> Array:
    """``TABLE`` quantiles of the load-duration curve. A step of its knots that leads from one level to the next, far from
    both, is a jump half way: nothing says that the readings lie in between."""
    means, sds = (np.array([getattr(x, f) for x in p.levels]) for f in ("mean_w", "sd_w"))
    level = np.abs(knots[:, None] - means).argmin(axis=1)
    far = np.diff(knots) > 4 * np.maximum(sds[level[1:]], sds[level[:-1]])
    jump = far & (np.diff(level) > 0)
    at = np.linspace(0.0, len(knots) - 1.0, TABLE)
    i = np.minimum(at.astype(np.int64), len(knots) - 2)
    part = np.where(jump[i], np.round(at - i), at - i)
    return np.asarray(knots[i] + part * (knots[i + 1] - knots[i]))


def _parts(p: Phases, watts: Array) -> tuple[tuple[Array, ...], Array]:
    """By level, the cumulative share of its part at each of the ``watts``, quantiles at even shares of the curve; and
    the levels' shares of the curve. A reading is a level's by Bayes' rule from the levels' normal laws."""
    means = np.array([x.mean_w for x in p.levels])
    sds = np.maximum([x.sd_w for x in p.levels], 1e-6 * max(float(watts[-1]), 1.0))
    prior = np.log(np.maximum([x.share for x in p.levels], 1e-12))
    log = prior - np.log(sds) - ((watts[:, None] - means) / sds) ** 2 / 2
    chance = np.exp(log - log.max(axis=1, keepdims=True))
    chance /= chance.sum(axis=1, keepdims=True)
    between = (chance[1:] + chance[:-1]) / 2  # of the readings between two neighbouring watts
    mass = between.sum(axis=0)
    mass = np.maximum(mass, 1e-12)
    below = np.concatenate([np.zeros((1, len(means))), np.cumsum(between, axis=0)]) / mass
    return tuple(below.T), mass / mass.sum()


def _chain(p: Phases, share: Array) -> tuple[Array, Array]:
    """(probability to leave each level, cumulative probabilities of where to). Where to is the transitions'; how long stays
    are is such that the shares are those given, with as many moves in all."""
    t = np.array(p.transitions)
    t = t / t.sum(axis=1, keepdims=True)
    away = t - np.diag(t.diagonal())
    leave = away.sum(axis=1)
    k = len(t)
    with np.errstate(divide="ignore", invalid="ignore"):
        jump = np.where(leave[:, None] > 0, away / leave[:, None], 0.0)
    visits = np.linalg.lstsq(np.vstack([jump.T - np.eye(k), np.ones(k)]), np.append(np.zeros(k), 1.0), rcond=None)[0]  # fmt: skip
    visits = np.maximum(visits, 0.0)
    moves = float(share @ leave)
    with np.errstate(divide="ignore", invalid="ignore"):
        leave = np.where(leave > 0, np.minimum(visits / visits.sum() * moves / share, 1.0), 0.0)
    return np.asarray(leave), np.asarray(np.cumsum(jump, axis=1))


def _lowest_before(x: Array, cells: int) -> Array:
    """The lowest of the ``cells`` readings before each; inf before the first."""
    shifted = np.concatenate([[np.inf], x[:-1]])
    # a window that ends at each element: filters centre theirs
    return np.asarray(
        ndimage.minimum_filter1d(
            shifted, cells, mode="constant", cval=np.inf, origin=(cells - 1) // 2
        )
    )

"""Functions drawn from a population: as many as it has, each with its rate, its law of gaps or its period, and its trigger.

A function seen once in a trace stands for several of which others were silent meanwhile. So the small ones are drawn more
numerous and rarer, by as much as it takes for the number of those that call within the source's span to be the source's
(their calls in all stay what they were).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ..distributions import Grid, QuantileCurve
from ..errors import ModelError
from .populations import FunctionClass, Population

Array = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

SMALL = 5.0
"""expected calls in the source's span below which a function's gaps are taken for exponential: nothing tells them."""
MOST_FUNCTIONS = 10_000_000
MOST_UNSEEN = 10.0
"""most functions that one seen stands for."""


@dataclass(frozen=True, eq=False)
class Functions:
    """[functions] each. Those that keep no period come first: ``law`` is their place in ``curves``. ``rate_per_s``: mean
    calls; ``period_s``, ``kept``: of the timers, the share of ticks at which they call; ``phase`` mean and ``scatter`` of
    it in turns, NaN for any. ``klass``: place in ``Population.classes``."""

    klass: Ints
    rate_per_s: Array
    curves: tuple[QuantileCurve, ...]
    law: Ints
    period_s: Array
    jitter_s: Array
    phase: Array
    scatter: Array
    kept: Array

    @property
    def free(self) -> int:
        """How many keep no period."""
        return len(self.law)


def functions(population: Population, invocations: float, span_s: float) -> Functions:
    """The functions of a population that makes ``invocations`` within ``span_s``. Raises ModelError above ten million."""
    many = sum(c.functions for c in population.classes)
    if many > MOST_FUNCTIONS:
        raise ModelError(
            f"{many:,} functions are too many to generate",
            f"profiles of up to {MOST_FUNCTIONS:,} functions can be",
        )
    exponential = QuantileCurve.exponential()
    curves = [exponential]
    pooled = _add(curves, _law(population.gaps, population.dispersion), 0)
    klass: list[Ints] = []
    calls: list[Array] = []
    law: list[Ints] = []
    timers: list[tuple[int, FunctionClass, float]] = []
    for i, c in enumerate(population.classes):
        each = invocations * c.share / c.functions
        if c.period_s is not None:
            timers += [(i, c, each)] * c.functions
            continue
        own = _add(curves, _law(c.gaps, c.dispersion), pooled)
        x = _sizes(c, each)
        small = x < SMALL
        few = _unseen(x[small])
        klass.append(np.full(int((~small).sum()) + len(few), i, dtype=np.int64))
        calls += [x[~small], few]
        law += [np.full(int((~small).sum()), own, dtype=np.int64), np.zeros(len(few), dtype=np.int64)]  # fmt: skip
    none = np.zeros(0, dtype=np.int64)
    x = np.concatenate([*calls, [t[2] for t in timers]]) if calls or timers else np.zeros(0)
    of = [c for _, c, _ in timers]
    period = np.array([c.period_s or 1.0 for c in of])
    spread = [
        math.sqrt(-2 * math.log(c.together)) / (2 * math.pi) if c.together > 0.01 else math.nan
        for c in of
    ]
    return Functions(
        klass=np.concatenate([*klass, np.array([t[0] for t in timers], dtype=np.int64), none]),
        rate_per_s=x / span_s,
        curves=tuple(curves),
        law=np.concatenate([*law, none]),
        period_s=period,
        jitter_s=np.array([c.jitter_s for c in of]),
        phase=np.array([c.phase for c in of]),
        scatter=np.array(spread),
        kept=np.minimum(np.array([t[2] for t in timers]) * period / span_s, 1.0),
    )


def _add(curves: list[QuantileCurve], curve: QuantileCurve | None, otherwise: int) -> int:
    """The place of a curve, added to the others."""
    if curve is None:
        return otherwise
    curves.append(curve)
    return len(curves) - 1


def _law(gaps: Grid | None, dispersion: float | None) -> QuantileCurve | None:
    if gaps is not None:
        return gaps.curve
    return None if dispersion is None else QuantileCurve.gamma(dispersion)


def _sizes(c: FunctionClass, each: float) -> Array:
    """Calls of the functions of a class within the span: the quantiles of their sizes, adding up to the class's."""
    if c.sizes is None:
        return np.full(c.functions, each)
    x = np.maximum(c.sizes.curve.quantile((np.arange(c.functions) + 0.5) / c.functions), 1e-9)
    return np.asarray(np.maximum(x / x.mean() * each, 1e-9))


def _unseen(calls: Array) -> Array:
    """Calls of as many small functions as, with exponential gaps, leave the number seen as it is:
    c·Σ(1 − exp(−x/c)) = number, c ≥ 1, by bisection."""
    if not len(calls):
        return calls
    low, high = 1.0, MOST_UNSEEN
    for _ in range(60):
        c = (low + high) / 2
        enough = c * float(-np.expm1(-calls / c).sum()) >= len(calls)
        low, high = (low, c) if enough else (c, high)
    many = max(len(calls), round(high * len(calls)))
    x = np.quantile(calls, (np.arange(many) + 0.5) / many)
    return np.asarray(x * (calls.sum() / x.sum()))

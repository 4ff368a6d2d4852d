"""Cold starts: quantiles of times that drift, both shares of a step, modes of a mixture, pod utility with censored pods."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from scipy import special

from lamina_traces.aspects.cold_starts import Component, component_of
from lamina_traces.aspects.durations import Windowed
from lamina_traces.aspects.pod_utility import Pods
from lamina_traces.aspects.shares import ratio_interval
from lamina_traces.counts import Counts
from lamina_traces.intervals import Interval

from . import Recovered
from .replicates import Estimator, held_against

WINDOWS, PER_WINDOW = 120, 60
DRIFT, MEMORY, SPREAD = 0.2, 0.7, 0.8
SD = math.sqrt(SPREAD**2 + DRIFT**2 / (1 - MEMORY**2))
"""of the log of a cold start."""


def _levels(rng: np.random.Generator) -> np.ndarray:
    level = np.zeros(WINDOWS + 60)
    for i in range(1, len(level)):
        level[i] = MEMORY * level[i - 1] + rng.normal(0, DRIFT)
    return level[60:]


def _drifting(rng: np.random.Generator) -> Component:
    x = np.exp(_levels(rng)[:, None] + SPREAD * rng.standard_normal((WINDOWS, PER_WINDOW)))
    bins = np.floor(np.log(x) * 16).astype(np.int64)
    bins -= bins.min()
    n, total = np.zeros((WINDOWS, int(bins.max()) + 1)), np.zeros((WINDOWS, int(bins.max()) + 1))
    k = np.repeat(np.arange(WINDOWS), PER_WINDOW)
    np.add.at(n, (k, bins.ravel()), 1.0)
    np.add.at(total, (k, bins.ravel()), x.ravel())
    return component_of(Counts.of(x.ravel()), Windowed(n, total), whole=False)


def _quantile(c: Component, name: str) -> tuple[float, Interval | None]:
    return (c.mean_s if name == "mean" else c.quantiles_s[name]), c.intervals.get(name)


@dataclass(frozen=True)
class Steps:
    """Per window: Σ step, Σ whole, Σ shares, cold starts."""

    sums: np.ndarray


def _steps(rng: np.random.Generator) -> Steps:
    """A step of share 0.5 in the long half of the cold starts and 0.1 in the short half, in windows that drift."""
    level = _levels(rng)
    out = np.zeros((WINDOWS, 4))
    for i in range(WINDOWS):
        long = rng.random(PER_WINDOW) < 0.5
        whole = np.exp(level[i] + 0.3 * rng.standard_normal(PER_WINDOW)) * np.where(long, 9.0, 1.0)
        share = np.clip(np.where(long, 0.5, 0.1) + 0.05 * rng.standard_normal(PER_WINDOW), 0, 1)
        out[i] = (whole * share).sum(), whole.sum(), share.sum(), PER_WINDOW
    return Steps(out)


def _share(s: Steps, above: int, below: int) -> tuple[float, Interval | None]:
    a, b = s.sums[:, above], s.sums[:, below]
    return float(a.sum() / b.sum()), ratio_interval(a, b)


def _modes(rng: np.random.Generator) -> Component:
    mode = rng.choice(3, 4000, p=[0.6, 0.25, 0.15])
    x = np.exp(rng.normal(np.log([2e-4, 0.013, 3.0])[mode], np.array([0.4, 0.3, 0.6])[mode]))
    return component_of(Counts.of(x), whole=False)


def _mode(c: Component, name: str, i: int) -> tuple[float, Interval | None]:
    params = c.families[0].params
    order = sorted((v, k[2:]) for k, v in params.items() if k.startswith("mu"))
    if len(order) != 3:
        return math.nan, None
    return params[f"{name}{order[i][1]}"], None


def _pods(rng: np.random.Generator, n: int = 800) -> Pods:
    """Ratios of useful life to cold start, cut off where a pod outlives the log."""
    useful, cold = rng.exponential(60, n), rng.lognormal(0, 1, n)
    left = rng.uniform(0, 400, n)
    seen = np.minimum(useful, left)
    return Pods.of(np.ones(n), seen, seen / cold, useful <= left)


def _utility(p: Pods) -> tuple[float, Interval | None]:
    return p.quantile(0.5) or math.nan, p.quantile_interval(0.5)


def _median_ratio() -> float:
    """Of exponential over lognormal: where the integral of exp(−u·c/60) over c is a half."""
    nodes, weights = np.polynomial.hermite_e.hermegauss(80)
    c = np.exp(nodes)
    low, high = 1e-3, 1e4
    for _ in range(200):
        u = math.sqrt(low * high)
        above = float((weights * np.exp(-u * c / 60)).sum() / weights.sum())
        low, high = (u, high) if above > 0.5 else (low, u)
    return u


def recovery(replications: int) -> list[Recovered]:
    rng = np.random.default_rng([1, 8])
    few = max(20, replications // 2)
    drift = "7,200 cold starts, the level wanders by window (AR(1) 0.7)"
    return [
        *held_against(
            drift,
            [
                Estimator("mean cold start", math.exp(SD**2 / 2), lambda c: _quantile(c, "mean")),
                Estimator("median cold start", 1.0, lambda c: _quantile(c, "p50")),
                Estimator(
                    "p99 cold start",
                    math.exp(SD * float(special.ndtri(0.99))),
                    lambda c: _quantile(c, "p99"),
                ),
            ],
            [_drifting(rng) for _ in range(few)],
        ),
        *held_against(
            drift,
            [
                Estimator(
                    "share of the summed time", (9 * 0.5 + 0.1) / 10, lambda s: _share(s, 0, 1)
                ),
                Estimator("mean of the shares", 0.3, lambda s: _share(s, 2, 3)),
            ],
            [_steps(rng) for _ in range(replications)],
        ),
        *held_against(
            "4,000 allocations, modes at 0.2 ms, 13 ms, 3 s",
            [
                Estimator("share of the 13 ms mode", 0.25, lambda c: _mode(c, "w", 1)),
                Estimator("ln of the 13 ms mode", math.log(0.013), lambda c: _mode(c, "mu", 1)),
            ],
            [_modes(rng) for _ in range(few)],
        ),
        *held_against(
            "800 pods, those that outlive the log censored",
            [Estimator("median pod utility", _median_ratio(), _utility)],
            [_pods(rng) for _ in range(replications)],
        ),
    ]

"""Keep-alive: P(cold) and idle seconds at a keep-alive, from idle times whose rate drifts."""

from __future__ import annotations

import math

import numpy as np

from lamina_traces.aspects.durations import Windowed
from lamina_traces.aspects.keep_alive import KeepAlive
from lamina_traces.counts import Counts
from lamina_traces.intervals import Interval

from . import Recovered
from .replicates import Estimator, held_against

WINDOWS, PER_WINDOW = 150, 40
SD = 0.5
"""of the log of a window's mean idle time."""


def _curve(rng: np.random.Generator, drift: bool) -> KeepAlive:
    level = np.zeros(WINDOWS + 60)
    if drift:
        for i in range(1, len(level)):
            level[i] = 0.8 * level[i - 1] + rng.normal(0, SD * 0.6)
    x = 100.0 * np.exp(level[60:])[:, None] * rng.exponential(1.0, (WINDOWS, PER_WINDOW))
    bins = np.floor(np.log(x) * 16).astype(np.int64)
    bins -= bins.min()
    n = np.zeros((WINDOWS, int(bins.max()) + 1))
    total = np.zeros_like(n)
    k = np.repeat(np.arange(WINDOWS), PER_WINDOW)
    np.add.at(n, (k, bins.ravel()), 1.0)
    np.add.at(total, (k, bins.ravel()), x.ravel())
    made = KeepAlive.of(Counts.of(x.ravel()), 1, x.size + 1, windowed=Windowed(n, total))
    if made is None:
        raise AssertionError("enough idle times were made")
    return made


def _cold(k: KeepAlive, k_s: float) -> tuple[float, Interval | None]:
    return k.p_cold(k_s)[0], k.intervals.get(f"{k_s:g}")


def _idle(k: KeepAlive, k_s: float) -> tuple[float, Interval | None]:
    return k.idle(k_s)[0] * k.invocations / k.later, None


def _truth(k_s: float, drift: bool) -> tuple[float, float]:
    """(P(G > K), E[min(G, K)]) of an exponential law whose log mean is normal."""
    nodes, weights = np.polynomial.hermite_e.hermegauss(80)
    mean = 100.0 * np.exp(SD * nodes) if drift else np.full(80, 100.0)
    w = weights / weights.sum()
    cold = np.exp(-k_s / mean)
    return float(w @ cold), float(w @ (mean * (1 - cold)))


def recovery(replications: int) -> list[Recovered]:
    rng = np.random.default_rng([1, 9])
    out = []
    for drift in (False, True):
        setting = "6,000 idle times, exponential" + (
            ", their mean wanders (AR(1) 0.8)" if drift else ""
        )
        made = [_curve(rng, drift) for _ in range(replications)]
        estimators = []
        for k_s in (60.0, 300.0):
            cold, idle = _truth(k_s, drift)

            def share(k: KeepAlive, k_s: float = k_s) -> tuple[float, Interval | None]:
                return _cold(k, k_s)

            def seconds(k: KeepAlive, k_s: float = k_s) -> tuple[float, Interval | None]:
                return _idle(k, k_s)

            estimators.append(Estimator(f"P(cold) kept {k_s:g} s", cold, share))
            estimators.append(Estimator(f"idle seconds kept {k_s:g} s", idle, seconds))
        out += held_against(setting, estimators, made)
    return [r for r in out if math.isfinite(r.mean)]

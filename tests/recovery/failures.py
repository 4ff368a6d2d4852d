"""Failures: rate, chain, overdispersion, rate ratio by load, time between failures with censored ends."""

from __future__ import annotations

import functools
from types import SimpleNamespace

import numpy as np
import polars as pl

from lamina_traces.aspects import failure_rates, failures
from lamina_traces.aspects.failure_windows import Pass, kind_column
from lamina_traces.aspects.timeline import Timeline
from lamina_traces.distributions import fit_families
from lamina_traces.intervals import Interval

from . import Recovered
from .replicates import Estimator, held_against

ROWS = 20_000
P, Q = 0.01, 0.2
RATE = P / (P + Q)
RHO = 1 - P - Q


def seen(t_s: np.ndarray, failed: np.ndarray) -> Pass:
    """A pass over requests at ``t_s``, of which some failed."""
    t = (t_s * 1e9).astype(np.int64)
    windows = 200
    timeline = Timeline(
        len(t), len(t), int(t[0]), int(t[-1]), (int(t[-1]) - int(t[0])) // windows + 1, windows
    )
    made = Pass(SimpleNamespace(manifest=SimpleNamespace(tick_ns=1)), timeline)  # type: ignore[arg-type]
    made.add({"arrival_ns": pl.Series(t), "failure_kind": pl.Series(7 * failed.astype(np.int8))})
    made.close()
    return made


def chain(rng: np.random.Generator, n: int) -> np.ndarray:
    truth = failures.Failures(1, 1, RATE, 0, 1, P, Q, 1 / Q, 9, {"timeout": (1.0, 0.0)})
    return failures.Chain.of(truth).sample(rng.random(n), int(rng.random() < RATE))[0]


def _rate(s: Pass) -> tuple[float, Interval | None]:
    n, k = float(s.known), float(s.failed)
    found = failure_rates.chance(n, k, s.runs)
    return k / n, failure_rates.rate_interval(n, k, s.rows, s.per_window, found)


def _chain(s: Pass, name: str) -> tuple[float, Interval | None]:
    ok = s.known - s.failed
    value = s.runs / ok if name == "p_fail_after_ok" else s.runs / s.failed
    if name == "mean_run":
        value = s.failed / s.runs
    return value, failures._chain_intervals(s).get(name)


def _swing(s: Pass, width_s: float) -> tuple[float, Interval | None]:
    w = next(x for x in s.widths if x.width_s == width_s)
    o = failure_rates.overdispersion(w)
    return (o.ratio, o.interval) if o else (float("nan"), None)


def _ratio(s: Pass) -> tuple[float, Interval | None]:
    load = failure_rates.load(s, failure_rates.by_load(s))
    if load is None or load.top_to_bottom is None:
        return float("nan"), None
    return load.top_to_bottom, load.top_to_bottom_interval


def _shape(s: Pass) -> tuple[float, Interval | None]:
    ended, cut = s.between()
    fit = fit_families(ended, ("weibull",), right=cut)[0]
    return fit.params["shape"], None


def recovery(replications: int) -> list[Recovered]:
    kind_column()
    rng = np.random.default_rng([1, 6])
    out = []
    alone = [
        seen(np.cumsum(rng.exponential(1, ROWS)), rng.random(ROWS) < 0.03)
        for _ in range(replications)
    ]
    out += held_against(
        "20,000 requests, each fails with 3 %",
        [
            Estimator("failure rate", 0.03, _rate),
            Estimator("overdispersion at 1 min", 1.0, lambda s: _swing(s, 60.0)),
        ],
        alone,
    )
    runs = [
        seen(np.cumsum(rng.exponential(1, ROWS)), chain(rng, ROWS)) for _ in range(replications)
    ]
    # variance of failures among n requests of the chain over the binomial one, n Poisson with mean 600
    n = 600.0
    swing = (1 + RHO) / (1 - RHO) - 2 * RHO * (1 - RHO**n) / (n * (1 - RHO) ** 2)
    out += held_against(
        "20,000 requests, two-state chain with p 1 %, q 20 %",
        [
            Estimator("failure rate", RATE, _rate),
            Estimator("P(fail | succeeded)", P, lambda s: _chain(s, "p_fail_after_ok")),
            Estimator("P(succeed | failed)", Q, lambda s: _chain(s, "p_ok_after_fail")),
            Estimator("mean run of failures", 1 / Q, lambda s: _chain(s, "mean_run")),
            Estimator("overdispersion at 10 min", swing, lambda s: _swing(s, 600.0)),
        ],
        runs,
    )
    loaded = []
    for _ in range(replications):
        busy = np.repeat(rng.random(200) < 0.5, 200)
        t = np.cumsum(rng.exponential(1, len(busy)) / np.where(busy, 3.0, 1.0))
        loaded.append(seen(t, rng.random(len(busy)) < np.where(busy, 0.10, 0.05)))
    out += held_against(
        "40,000 requests; at three times the load twice as many fail",
        [Estimator("rate in the busiest windows over the quietest", 2.0, _ratio)],
        loaded,
    )
    apart = [_renewal(rng) for _ in range(replications)]
    out += held_against(
        "300 failures, Weibull shape 0.7 apart, the ends censored",
        [Estimator("Weibull shape of the time between failures", 0.7, _shape)],
        apart,
    )
    return out


@functools.cache
def _traffic() -> np.ndarray:
    return np.sort(np.random.default_rng(2).random(4000))


def _renewal(rng: np.random.Generator) -> Pass:
    at = np.cumsum(rng.weibull(0.7, 300) * 100)
    ok = _traffic() * at[-1] * 1.02
    t = np.concatenate([at, ok])
    order = np.argsort(t, kind="stable")
    return seen(t[order], (np.arange(len(t)) < len(at))[order])

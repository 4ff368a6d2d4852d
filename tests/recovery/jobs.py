"""Jobs and incidents: run times with censored ends, both rates of failure, mean time between failures."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from lamina_traces.aspects import incidents
from lamina_traces.aspects.shares import ratio_interval, share_interval
from lamina_traces.counts import Counts
from lamina_traces.distributions import fit_families
from lamina_traces.intervals import Interval
from lamina_traces.survival import Survival

from . import Recovered
from .replicates import Estimator, held_against

SHAPE, SCALE = 0.6, 3600.0


@dataclass(frozen=True)
class Times:
    ended: Counts
    longer: Counts


def _times(rng: np.random.Generator, n: int = 1000) -> Times:
    """A third of the jobs still run when the log ends."""
    run = rng.weibull(SHAPE, n) * SCALE
    left = rng.uniform(0, 15_000, n)
    over = run <= left
    return Times(Counts.of(run[over]), Counts.of(left[~over]))


def _weibull(t: Times, name: str) -> tuple[float, Interval | None]:
    return fit_families(t.ended, ("weibull",), right=t.longer)[0].params[name], None


def _median(t: Times) -> tuple[float, Interval | None]:
    curve = Survival.of(t.ended, t.longer)
    return curve.quantile(0.5) or math.nan, curve.quantile_interval(0.5)


@dataclass(frozen=True)
class Windows:
    """Per window: jobs, failed jobs, GPU seconds, GPU seconds of failed jobs."""

    sums: np.ndarray


def _windows(rng: np.random.Generator, windows: int = 120) -> Windows:
    """The rate of failure wanders by window; failed jobs run a third as long."""
    level = np.zeros(windows + 40)
    for i in range(1, len(level)):
        level[i] = 0.6 * level[i - 1] + rng.normal(0, 0.4)
    out = np.zeros((windows, 4))
    for i in range(windows):
        n = rng.poisson(80)
        bad = rng.random(n) < 0.2 * math.exp(level[40 + i] - 0.4**2 / (1 - 0.36) / 2)
        gpu_s = rng.lognormal(8, 1, n) * np.where(bad, 1 / 3, 1.0)
        out[i] = n, bad.sum(), gpu_s.sum(), gpu_s[bad].sum()
    return Windows(out)


def _by_jobs(w: Windows) -> tuple[float, Interval | None]:
    n, k = w.sums[:, 0], w.sums[:, 1]
    return float(k.sum() / n.sum()), share_interval(k, n)


def _by_time(w: Windows) -> tuple[float, Interval | None]:
    whole, bad = w.sums[:, 2], w.sums[:, 3]
    return float(bad.sum() / whole.sum()), ratio_interval(bad, whole)


@dataclass(frozen=True)
class Events:
    n: int
    seconds: float
    per_window: np.ndarray


def _events(rng: np.random.Generator, storms: bool, seconds: float = 60 * 86_400.0) -> Events:
    """400 incidents on average: each alone, or in storms of ten."""
    if storms:
        at = [
            s + rng.exponential(1800, rng.poisson(10)).cumsum()
            for s in rng.uniform(0, seconds, rng.poisson(40))
        ]
        t = np.concatenate(at)
        t = t[t < seconds]
    else:
        t = rng.uniform(0, seconds, rng.poisson(400))
    return Events(len(t), seconds, np.histogram(t, 60, (0, seconds))[0].astype(float))


def _mtbf(e: Events) -> tuple[float, Interval | None]:
    r = incidents.rate(e.n, e.seconds, incidents.dispersion(e.per_window), e.per_window)
    return r.mtbf_s / 3600, r.interval and Interval(
        r.interval.low / 3600, r.interval.high / 3600, ""
    )


def recovery(replications: int) -> list[Recovered]:
    rng = np.random.default_rng([1, 7])
    # the rate is 0.2 on average; of the GPU time, failed jobs have 0.2/3 against 0.8
    share = (0.2 / 3) / (0.2 / 3 + 0.8)
    return [
        *held_against(
            "1,000 jobs, a third of them still running at the end",
            [
                Estimator("Weibull shape of run times", SHAPE, lambda t: _weibull(t, "shape")),
                Estimator("Weibull scale of run times", SCALE, lambda t: _weibull(t, "scale")),
                Estimator(
                    "median run time (Kaplan–Meier)", SCALE * math.log(2) ** (1 / SHAPE), _median
                ),
            ],
            [_times(rng) for _ in range(replications)],
        ),
        *held_against(
            "120 windows of 80 jobs, the rate wanders (AR(1) 0.6)",
            [
                Estimator("failed, by jobs", 0.2, _by_jobs),
                Estimator("failed, by GPU time", share, _by_time),
            ],
            [_windows(rng) for _ in range(replications)],
        ),
        *held_against(
            "400 incidents in 60 days, each alone",
            [Estimator("mean time between failures, h", 3.6, _mtbf)],
            [_events(rng, False) for _ in range(replications)],
        ),
        *held_against(
            "400 incidents in 60 days, in storms of ten",
            [Estimator("mean time between failures, h", 3.6, _mtbf)],
            [_events(rng, True) for _ in range(replications)],
        ),
    ]

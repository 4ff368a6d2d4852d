"""Rates, dispersion and length laws from what a scrape leaves of a server's requests."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from lamina_traces.aspects.dispersion import scale
from lamina_traces.aspects.metric_laws import Histogram, Law, law
from lamina_traces.intervals import Blocks, Interval

from . import Recovered
from .replicates import Estimator, held_against
from .scrapes import one_two_five

Array = npt.NDArray[np.float64]

SCRAPE_S, SPAN_S, RATE = 15.0, 3600.0, 3.0
MU, SIGMA = 6.0, 1.2


@dataclass(frozen=True)
class Scraped:
    """Counts by scrape, and the law of the lengths by bucket."""

    counts: Array
    law: Law
    blocks: Blocks


def made(rng: np.random.Generator, batch: int) -> Scraped:
    """An hour of requests in batches of ``batch`` (1: Poisson), their lengths lognormal."""
    n = rng.poisson(RATE * SPAN_S / batch)
    t = np.repeat(np.sort(rng.uniform(0, SPAN_S, n)), batch)
    x = np.maximum(1.0, np.rint(rng.lognormal(MU, SIGMA, len(t))))
    counts = np.histogram(t, np.arange(0, SPAN_S + 1, SCRAPE_S))[0].astype(np.float64)
    windows = 60
    bounds = np.array(one_two_five(32768))
    cell = np.searchsorted(bounds, x)
    window = np.minimum((t / SPAN_S * windows).astype(np.int64), windows - 1)
    table = np.zeros((windows, len(bounds) + 1))
    np.add.at(table, (window, cell), 1.0)
    blocks = Blocks.of(table.sum(axis=1))
    assert blocks is not None
    h = Histogram(bounds, table.sum(axis=0), table)
    return Scraped(counts, law(h, "tokens", float(x.mean()), blocks), blocks)


def _parameter(name: str) -> Callable[[Scraped], tuple[float, Interval | None]]:
    def of(s: Scraped) -> tuple[float, Interval | None]:
        found = next(f for f in s.law.families if f.family == "lognormal")
        return found.params[name], found.intervals.get(name)

    return of


def _rate(s: Scraped) -> tuple[float, Interval | None]:
    per_s = s.counts / SCRAPE_S
    blocks = Blocks.of(per_s)
    assert blocks is not None
    mean = float(per_s.mean())
    ones = np.ones((len(per_s), 1))
    d = blocks.sums(np.concatenate([per_s[:, None], ones], axis=1))
    return mean, blocks.interval(mean, d[:, 0] / d[:, 1])


def _idc(s: Scraped) -> tuple[float, Interval | None]:
    found = scale(SCRAPE_S, s.counts, np.ones(len(s.counts), dtype=bool))
    return found.idc or float("nan"), found.interval


def _below(s: Scraped) -> tuple[float, Interval | None]:
    """The median of the grid that generates, for what the buckets leave open."""
    assert s.law.grid is not None
    return float(s.law.grid.quantile(np.array([0.5]))[0]), None


def recovery(replications: int) -> list[Recovered]:
    rng = np.random.default_rng(12)
    out = []
    for batch in (1, 5):
        replicas = [made(rng, batch) for _ in range(replications)]
        setting = f"an hour scraped every 15 s, {RATE:g}/s in batches of {batch}"
        estimators: list[Estimator[Scraped]] = [
            Estimator("rate from counters, 1/s", RATE, _rate),
            Estimator("IDC at the scrape interval", float(batch), _idc),
        ]
        if batch == 1:
            estimators += [
                Estimator("mu of lengths from buckets", MU, _parameter("mu")),
                Estimator("sigma of lengths from buckets", SIGMA, _parameter("sigma")),
                Estimator("median length from buckets, tokens", float(np.exp(MU)), _below),
            ]
        out += held_against(setting, estimators, replicas)
    return out

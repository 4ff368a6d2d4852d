"""Sessions: do estimates come back from conversations whose laws are known, and do intervals hold the truth?"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import polars as pl

from lamina_traces.aspects.conversations import Turns, ordered
from lamina_traces.aspects.sessions import Sessions, measure
from lamina_traces.aspects.timeline import Timeline
from lamina_traces.intervals import Interval

from .conversations import World, rows

Row = tuple[str, float, float, float, float | None, int]
"""estimator, truth, mean estimate, bias, coverage of the 95 % interval, replications."""

WORLD = World(rate_per_s=1.0, span_s=2000.0)


def turns(frame: pl.DataFrame) -> tuple[Turns, Timeline]:
    """The turns of made up rows, and a timeline of 50 windows over them."""
    frame = frame.with_row_index("row_id").with_columns(
        pl.col("session_id").str.slice(1).cast(pl.UInt64).alias("group"),
        pl.col("row_id").cast(pl.Int64),
        pl.col("last_token_ns").alias("end_ns"),
        pl.lit(None, pl.Int64).alias("turn"),
        pl.lit(None, pl.Int64).alias("delay_after_parent_ns"),
    )
    first, last = int(frame["arrival_ns"][0]), int(frame["arrival_ns"][-1])
    windows = 50
    timeline = Timeline(frame.height, frame.height, first, last, (last - first) // windows + 1, windows)  # fmt: skip
    return ordered(frame, rows=frame.height), timeline


def recovery(replications: int = 120) -> list[Row]:
    """Each estimator on as many made up traces."""
    found = [
        measure(*turns(rows(WORLD, np.random.default_rng([41, i])))) for i in range(replications)
    ]
    mean_duration = (1 / WORLD.p) * WORLD.service_s + (1 / WORLD.p - 1) * math.exp(
        WORLD.mu + WORLD.sigma**2 / 2
    )

    def geometric(s: Sessions) -> tuple[float, Interval | None]:
        law = next(f for f in s.turns.families if f.family == "geometric")
        return law.params["p"], None

    def lognormal(name: str) -> Callable[[Sessions], tuple[float, Interval | None]]:
        def of(s: Sessions) -> tuple[float, Interval | None]:
            assert s.think_time is not None
            law = next(f for f in s.think_time.families if f.family == "lognormal")
            return law.params[name], law.intervals.get(name)

        return of

    def median(s: Sessions) -> tuple[float, Interval | None]:
        assert s.think_time is not None
        return s.think_time.quantiles_s["p50"], s.think_time.intervals.get("p50")

    estimators: list[tuple[str, float, Callable[[Sessions], tuple[float, Interval | None]]]] = [
        ("turns: mean (cut at the end of the trace)", 1 / WORLD.p, lambda s: (s.turns.mean, s.turns.interval)),
        ("turns: p of the geometric law, censored sessions as survivors", WORLD.p, geometric),
        ("share of single-turn sessions", WORLD.p, lambda s: (s.single.value, s.single.interval)),
        ("share of requests in longer sessions", 1 - WORLD.p**2, lambda s: (s.multi_turn_requests.value, s.multi_turn_requests.interval)),
        ("think time: median, s", math.exp(WORLD.mu), median),
        ("think time: mu of the lognormal law", WORLD.mu, lognormal("mu")),
        ("think time: sigma of the lognormal law", WORLD.sigma, lognormal("sigma")),
        ("sessions open at a time: mean", WORLD.rate_per_s * mean_duration, lambda s: (s.open_mean or math.nan, None)),
    ]  # fmt: skip
    out = []
    for name, truth, estimate in estimators:
        values = [estimate(s) for s in found]
        mean = float(np.mean([v for v, _ in values]))
        held = [i.low <= truth <= i.high for _, i in values if i is not None]
        coverage = float(np.mean(held)) if held else None
        out.append((name, truth, mean, mean - truth, coverage, replications))
    return out


if __name__ == "__main__":
    for row in recovery():
        print(row)

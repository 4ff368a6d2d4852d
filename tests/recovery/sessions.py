"""Sessions: do estimates come back from conversations whose laws are known, and do intervals hold the truth?"""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import polars as pl

from lamina_traces.aspects.conversations import Turns, ordered
from lamina_traces.aspects.sessions import Sessions, measure
from lamina_traces.aspects.timeline import Timeline
from lamina_traces.intervals import Interval

from . import Recovered
from .conversations import World, rows
from .replicates import Estimator, held_against

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


def _law(s: Sessions, name: str) -> tuple[float, Interval | None]:
    """A parameter of the lognormal law of think times."""
    if s.think_time is None:
        return math.nan, None
    law = next(f for f in s.think_time.families if f.family == "lognormal")
    return law.params[name], law.intervals.get(name)


def _median(s: Sessions) -> tuple[float, Interval | None]:
    if s.think_time is None:
        return math.nan, None
    return s.think_time.quantiles_s["p50"], s.think_time.intervals.get("p50")


def _geometric(s: Sessions) -> float:
    return next((f.params["p"] for f in s.turns.families if f.family == "geometric"), math.nan)


def recovery(replications: int) -> list[Recovered]:
    """A trace that sees all sessions from their beginning, and one that begins in their midst."""
    few = max(20, replications // 2)
    w = WORLD
    long = math.exp(w.mu + w.sigma**2 / 2)
    lasts = w.service_s / w.p + long * (1 / w.p - 1)
    estimators = [
        Estimator[Sessions]("turns a session", 1 / w.p, lambda s: (s.turns.mean, s.turns.interval)),
        Estimator[Sessions]("geometric p of turns, cut sessions as survivors", w.p, lambda s: (_geometric(s), None)),
        Estimator[Sessions]("share of single-turn sessions", w.p, lambda s: (s.single.value, s.single.interval)),
        Estimator[Sessions](
            "share of requests in longer sessions", 1 - w.p**2,
            lambda s: (s.multi_turn_requests.value, s.multi_turn_requests.interval),
        ),
        Estimator[Sessions]("median think time", math.exp(w.mu), _median),
        Estimator[Sessions]("mu of think times", w.mu, lambda s: _law(s, "mu")),
        Estimator[Sessions]("sigma of think times", w.sigma, lambda s: _law(s, "sigma")),
        Estimator[Sessions]("sessions open at a time", w.rate_per_s * lasts, lambda s: (s.open_mean or math.nan, None)),
    ]  # fmt: skip
    out = []
    for setting, world, chosen in (
        ("2,000 sessions from their first turn", WORLD, estimators),
        (
            "the same, begun before the trace",
            replace(WORLD, past_s=600.0),
            [estimators[1], estimators[7]],
        ),
    ):
        made = [measure(*turns(rows(world, np.random.default_rng([41, i])))) for i in range(few)]
        out += held_against(setting, chosen, made)
    return out

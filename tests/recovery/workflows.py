"""Workflows: sizes, share of sequential ones, depth and delays, from tasks whose laws are known."""

from __future__ import annotations

import math

import numpy as np
import polars as pl

from lamina_traces.aspects.calls import Calls, collected
from lamina_traces.aspects.timeline import Timeline
from lamina_traces.aspects.workflows import Workflows, measure
from lamina_traces.intervals import Interval

from . import Recovered
from .replicates import Estimator, held_against
from .tasks import Tasks, rows

TASKS = Tasks()
WINDOWS = 60


def calls(frame: pl.DataFrame) -> tuple[Calls, Timeline]:
    """The calls of made up rows, and a timeline over them."""
    n = frame.height
    frame = frame.with_columns(
        pl.int_range(pl.len()).alias("row_id"),
        pl.col("workflow_id").str.slice(1).cast(pl.UInt64).alias("group"),
        pl.col("last_token_ns").alias("end_ns"),
        pl.lit(None, pl.Int64).alias("delay_after_parent_ns"),
        pl.lit(None, pl.String).alias("delay_kind"),
    )
    first, last = int(frame["arrival_ns"][0]), int(frame["arrival_ns"][-1])
    timeline = Timeline(n, n, first, last, (last - first) // WINDOWS + 1, WINDOWS)
    return collected(frame, rows=n), timeline


def _mean(w: Workflows, name: str) -> tuple[float, Interval | None]:
    t = w.tallies.get(name)
    return (t.mean, t.interval) if t else (math.nan, None)


def _delay(w: Workflows, name: str) -> tuple[float, Interval | None]:
    d = w.delays.get("derived")
    law = next((f for f in d.families if f.family == "lognormal"), None) if d else None
    return (law.params[name], law.intervals.get(name)) if law else (math.nan, None)


def recovery(replications: int) -> list[Recovered]:
    t = TASKS
    several = 1 - t.chains
    estimators = [
        Estimator[Workflows]("calls a workflow", t.mean_calls, lambda w: _mean(w, "calls_per_workflow")),
        Estimator[Workflows](
            "share of sequential workflows", t.chains,
            lambda w: (w.sequential.value, w.sequential.interval) if w.sequential else (math.nan, None),
        ),
        Estimator[Workflows]("calls on the longest path", t.chains / t.p + 3 * several, lambda w: _mean(w, "depth")),
        Estimator[Workflows]("mu of delays between calls", t.mu, lambda w: _delay(w, "mu")),
        Estimator[Workflows]("sigma of delays between calls", t.sigma, lambda w: _delay(w, "sigma")),
    ]  # fmt: skip
    made = []
    for i in range(max(20, replications // 2)):
        found, timeline = calls(rows(t, np.random.default_rng([61, i])))
        made.append(measure(found, timeline, None))
    return held_against("600 tasks, chains and fan-outs", estimators, made)

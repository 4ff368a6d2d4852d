"""What the readers of job logs share: states, times worked out anew, and failures as incidents."""

from __future__ import annotations

import polars as pl

from .cells import divided
from .format import Context
from .telemetry import bounded, noted

STATES: dict[str, str] = {
    "completed": "completed", "pass": "completed", "terminated": "completed", "succeeded": "completed", "succeed": "completed",
    "failed": "failed", "timeout": "timeout", "node_fail": "node_fail",
    "cancelled": "cancelled", "killed": "cancelled", "kill": "cancelled", "evict": "evicted", "evicted": "evicted",
    "running": "censored", "pending": "censored", "waiting": "censored", "suspended": "censored",
}  # fmt: skip
FAILURES = ("failed", "timeout", "node_fail", "evicted")
"""states of jobs that are incidents; a job that its user cancelled is none."""


def state_of(raw: pl.Expr) -> pl.Expr:
    """The canonical state of a recorded one (``CANCELLED by 1000`` is cancelled); ``unknown`` for others."""
    word = raw.str.strip_chars().str.to_lowercase().str.extract(r"^([a-z_]+)")
    return word.replace_strict(STATES, default="unknown", return_dtype=pl.String).fill_null(
        "unknown"
    )


def seconds_between(start: str, end: str) -> pl.Expr:
    """Seconds from one instant to another, null where either is not recorded."""
    return over(pl.col(end) - pl.col(start), 1e9)


def over(value: pl.Expr, by: float) -> pl.Expr:
    """A column over a number, rounded once (polars divides by a scalar as a product, which rounds twice)."""
    return value.cast(pl.Float64).map_batches(lambda s: divided(s, by), return_dtype=pl.Float64)


def counted_times(jobs: pl.DataFrame, context: Context) -> None:
    """Say how many jobs end before they start, or start before they were submitted; none is changed."""
    for name, what in (
        ("duration_s", "end before they start"),
        ("queue_s", "start before they were submitted"),
    ):
        if name in jobs.columns and (n := int((jobs[name] < 0).sum())):
            context.tally[f"negative {name}"] += n
            noted(
                context,
                "negative-times",
                f"some jobs {what}; their times are kept as they follow",
                name,
            )


def with_incidents(
    jobs: pl.DataFrame, failed_at: pl.Series | None = None
) -> dict[str, pl.DataFrame]:
    """Jobs, and an incident for each that failed: at ``failed_at`` where that is recorded, else at its end."""
    jobs = bounded(jobs)
    names = jobs.columns
    nothing = {
        "gpus": pl.Float64,
        "nodes": pl.Int32,
        "user_id": pl.String,
        "group_id": pl.String,
        "job_id": pl.String,
    }
    rows = jobs.with_columns(pl.lit(None, t).alias(n) for n, t in nothing.items() if n not in names)
    rows = rows.with_columns(
        (failed_at if failed_at is not None else pl.lit(None, pl.Int64)).alias("failed_at")
    )
    failed = rows.filter(pl.col("state").is_in(FAILURES))
    incidents = failed.select(
        pl.coalesce("failed_at", "end_ns").alias("arrival_ns"),
        pl.lit("job").alias("entity_type"),
        pl.col("job_id").alias("entity_id"),
        pl.col("state").alias("kind"),
        "user_id",
        "group_id",
        "gpus",
        "nodes",
        (pl.col("gpus") * pl.col("duration_s")).alias("lost_gpu_s"),
        pl.lit(False).alias("censored"),
    )
    return {"jobs": jobs, "incidents": bounded(incidents)}

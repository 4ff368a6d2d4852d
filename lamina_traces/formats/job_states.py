"""What the readers of job logs share: states, and failures as incidents."""

from __future__ import annotations

import polars as pl

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


def with_incidents(
    jobs: pl.DataFrame, failed_at: pl.Series | None = None
) -> dict[str, pl.DataFrame]:
    """Jobs, and an incident for each that failed: at ``failed_at`` where that is recorded, else at its end."""
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
    return {"jobs": jobs, "incidents": incidents}

"""Philly, jobs of a GPU cluster of Microsoft (Jeon et al., ATC 2019).

Two layouts. ``cluster_job_log`` (msr-fiddle/philly-traces, README.md): an array of jobs with their scheduling
attempts; a time may be "None", a job may have no attempt, and one whose last attempt has no end was still
running. And a flat table derived from it (petuum/adaptdl, simulator/traces/philly.csv) without a status.
Stamps are local time without a zone. An attempt that was followed by another is an incident of unknown
kind, a job that Failed one of kind failed. Names of machines are counted, not kept.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

import polars as pl

from .cells import parsed
from .durations import seconds_between
from .format import Context, Field, Format, Frames
from .job_states import state_of, with_incidents

_INSTANT = Field("attempt", "instant", "local", required=False, minimum=None)
_ATTEMPT = pl.List(
    pl.Struct({"start": pl.String, "end": pl.String, "gpus": pl.Float64, "nodes": pl.Int32})
)


def _unfold(value: Any, _context: Context) -> Iterator[Mapping[str, Any]]:
    if not isinstance(value, dict) or "jobid" not in value:
        raise ValueError("no jobid in it")
    attempts = []
    for found in value.get("attempts") or ():
        detail = found.get("detail") or ()
        gpus = sum(len(d.get("gpus") or ()) for d in detail)
        attempts.append(
            {
                "start": _time(found.get("start_time")),
                "end": _time(found.get("end_time")),
                "gpus": float(gpus) if detail else None,
                "nodes": len(detail) or None,
            }
        )
    yield {
        "jobid": value["jobid"],
        "user": value.get("user"),
        "vc": value.get("vc"),
        "status": value.get("status"),
        "submitted_time": _time(value.get("submitted_time")),
        "attempts": json.dumps(attempts) if attempts else None,
    }


def _time(value: Any) -> str | None:
    return value if isinstance(value, str) and value not in ("", "None") else None


def _attempts(frame: pl.DataFrame, context: Context) -> pl.DataFrame:
    """One row an attempt: job, number from 1, how many there are, instants, GPUs and machines."""
    rows = frame.with_row_index("job").select(
        "job", "jobid", "user", "vc", pl.col("attempts").str.json_decode(_ATTEMPT).alias("attempt")
    )
    rows = rows.explode("attempt").drop_nulls("attempt").unnest("attempt")
    start, _ = parsed(_INSTANT, rows["start"], context)
    end, _ = parsed(_INSTANT, rows["end"], context)
    return rows.with_columns(
        start.alias("start_ns"),
        end.alias("end_ns"),
        pl.int_range(1, pl.len() + 1).over("job").alias("number"),
        pl.len().over("job").alias("of"),
    )


def _log(frame: pl.DataFrame, context: Context) -> Frames:
    attempts = _attempts(frame, context)
    by_job = attempts.group_by("job", maintain_order=True).agg(
        pl.col("start_ns").first().alias("first_ns"),
        pl.col("start_ns", "end_ns", "gpus", "nodes", "of").last(),
    )
    rows = frame.with_row_index("job").join(by_job, on="job", how="left", maintain_order="left")
    running = pl.col("of").is_not_null() & pl.col("end_ns").is_null()
    jobs = rows.select(
        pl.col("jobid").alias("job_id"),
        pl.col("user").alias("user_id"),
        pl.col("vc").alias("group_id"),
        pl.col("submitted_time").alias("arrival_ns"),
        "start_ns",
        "end_ns",
        seconds_between("start_ns", "end_ns").alias("duration_s"),
        seconds_between("submitted_time", "first_ns").alias("queue_s"),
        "gpus",
        "nodes",
        (pl.col("gpus") * seconds_between("start_ns", "end_ns")).alias("gpu_s"),
        pl.col("of").fill_null(0).cast(pl.Int32).alias("attempts"),
        pl.when(running)
        .then(pl.lit("censored"))
        .otherwise(state_of(pl.col("status")))
        .alias("state"),
        pl.col("status").alias("state_raw"),
    )
    frames = with_incidents(jobs)
    retried = attempts.filter(pl.col("number") < pl.col("of")).select(
        pl.col("end_ns").alias("arrival_ns"),
        pl.lit("attempt").alias("entity_type"),
        pl.format("{}#{}", "jobid", "number").alias("entity_id"),
        pl.lit("unknown").alias("kind"),
        pl.lit("retried").alias("code"),
        pl.col("user").alias("user_id"),
        pl.col("vc").alias("group_id"),
        "gpus",
        "nodes",
        (pl.col("gpus") * seconds_between("start_ns", "end_ns")).alias("lost_gpu_s"),
        pl.lit(False).alias("censored"),
    )
    frames["incidents"] = pl.concat([frames["incidents"], retried], how="diagonal")
    return frames


LOG = Format(
    name="philly",
    title="Philly cluster_job_log (JSON)",
    table="jobs",
    syntax=("json",),
    fields=(
        Field("jobid", "text", "", "job_id"),
        Field("user", "text", "", "user_id", required=False),
        Field("vc", "text", "", "group_id", required=False),
        Field("status", "text", "", "state", required=False),
        Field("submitted_time", "instant", "local", "arrival_ns", required=False, minimum=None),
        Field("attempts", "text", "", "attempts", required=False),
    ),
    canonical=_log,
    clock="local",
    source="msr-fiddle/philly-traces (CC-BY-4.0), README.md",
    evidence="documentation",
    quirks=(
        "start, end and GPUs are of the last attempt; queue_s ends with the first",
        "no end of the last attempt: the job was still running (censored)",
        "an attempt that was followed by another is an incident",
        "stamps are local time without a zone: --tz makes them UTC",
    ),
    matches=lambda head: {"jobid", "vc", "attempts", "submitted_time"} <= head.keys,
    unfold=_unfold,
    others=("incidents",),
)


def _table(frame: pl.DataFrame, _context: Context) -> pl.DataFrame:
    return frame.select(
        pl.col("timestamp").alias("arrival_ns"),
        pl.col("cluster").alias("group_id"),
        pl.col("duration").alias("duration_s"),
        pl.col("num_gpus").alias("gpus"),
        pl.col("gpu_time").alias("gpu_s"),
        pl.lit("unknown").alias("state"),
    )


TABLE_FIELDS = (
    Field("timestamp", "instant", "local", "arrival_ns", minimum=None),
    Field("duration", "seconds", "s", "duration_s"),
    Field("num_gpus", "number", "", "gpus"),
    Field("gpu_time", "seconds", "s", "gpu_s"),
    Field("cluster", "text", "", "group_id", required=False),
)

TABLE = Format(
    name="philly_csv",
    title="Philly jobs (flat table)",
    table="jobs",
    syntax=("csv",),
    fields=TABLE_FIELDS,
    canonical=_table,
    clock="local",
    source="petuum/adaptdl (Apache-2.0), simulator/traces/philly.csv; data: msr-fiddle/philly-traces (CC-BY-4.0)",
    evidence="real file",
    quirks=(
        "no status is recorded: nothing can be said about failures",
        "cluster is a virtual cluster (group_id)",
    ),
    closed=True,
)
FORMATS = (LOG, TABLE)

"""Job logs of two clusters with Slurm-like schedulers: AcmeTrace (Hu et al., NSDI 2024), Helios (Hu et al., SC 2021).

Layout read from InternLM/AcmeTrace, README.md (trace_seren.csv, trace_kalos.csv) and
S-Lab-System-Group/HeliosData, README.md (cluster_log.csv). Acme's stamps carry their offset, +08:00 in Seren
and +00:00 in Kalos; those of Helios are local without a zone. Durations and queueing times are worked out
from the stamps, never taken: a Kalos example in the README says 18 where start to end is 8. A recorded
duration that differs is kept in ``extra``. The cluster is the file's or the folder's name.
"""

from __future__ import annotations

import re

import polars as pl

from ..schema import Clock
from .durations import seconds_between
from .format import (
    Context,
    Field,
    Format,
    Frames,
    json_object,
)
from .job_states import state_of, with_incidents

_CLUSTER = re.compile(r"trace_(\w+)\.csv|(?:^|[/\\])(Venus|Earth|Saturn|Uranus)[/\\]")
_FIELDS = (
    Field("job_id", "text", "", "job_id"),
    Field("user", "text", "", "user_id", required=False),
    Field("vc", "text", "", "group_id", required=False),
    Field("node_num", "tokens", "", "nodes", required=False),
    Field("gpu_num", "number", "", "gpus", required=False),
    Field("cpu_num", "number", "cores", "cpus", required=False),
    Field("type", "text", "", "job_type", required=False),
    Field("mem_per_pod_GB", "number", "GB", required=False),
    Field("shared_mem_per_pod", "number", "GB", required=False),
    Field("state", "text", "", "state"),
    Field("submit_time", "instant", "", "arrival_ns", required=False, minimum=None),
    Field("start_time", "instant", "", "start_ns", required=False, minimum=None),
    Field("end_time", "instant", "", "end_ns", required=False, minimum=None),
    Field("fail_time", "instant", "", required=False, minimum=None),
    Field("stop_time", "instant", "", required=False, minimum=None),
    Field("duration", "number", "s", required=False, minimum=None),
    Field("queue", "number", "s", required=False, minimum=None),
    Field("gpu_time", "number", "s", required=False, minimum=None),
)


def _canonical(frame: pl.DataFrame, context: Context) -> Frames:
    m = _CLUSTER.search(context.path)
    jobs = frame.select(
        "job_id",
        pl.col("user").alias("user_id"),
        pl.col("vc").alias("group_id"),
        pl.lit((m[1] or m[2]).lower() if m else None, pl.String).alias("cluster"),
        pl.col("type").alias("job_type"),
        pl.col("submit_time").alias("arrival_ns"),
        pl.col("start_time").alias("start_ns"),
        pl.col("end_time").alias("end_ns"),
        seconds_between("start_time", "end_time").alias("duration_s"),
        seconds_between("submit_time", "start_time").alias("queue_s"),
        pl.col("gpu_num").alias("gpus"),
        pl.col("cpu_num").alias("cpus"),
        pl.col("node_num").alias("nodes"),
        (pl.col("gpu_num") * seconds_between("start_time", "end_time")).alias("gpu_s"),
        state_of(pl.col("state")).alias("state"),
        pl.col("state").alias("state_raw"),
    )
    differs = (frame["duration"] - jobs["duration_s"]).abs() > 1
    if differs.any():
        context.note("durations", "some recorded durations are not end less start; those here are, the recorded ones are in extra", "duration_s")  # fmt: skip
    more = frame.select(
        pl.when(differs.fill_null(False)).then("duration").alias("recorded_duration_s"),
        pl.col("mem_per_pod_GB").alias("memory_per_pod_gb"),
        pl.col("shared_mem_per_pod").alias("shared_memory_per_pod_gb"),
    )
    if any(more[n].count() for n in more.columns):
        jobs = jobs.with_columns(json_object(more, more.columns, context))
    return with_incidents(jobs, frame["fail_time"])


def _made(
    name: str, title: str, source: str, mark: str, clock: Clock, quirks: tuple[str, ...]
) -> Format:
    return Format(
        name=name,
        title=title,
        table="jobs",
        syntax=("csv",),
        fields=_FIELDS,
        canonical=_canonical,
        clock=clock,
        source=source,
        evidence="documentation",
        quirks=(
            "durations and queueing times are worked out from the stamps, never taken",
            "FAILED, TIMEOUT and NODE_FAIL are incidents, too; CANCELLED is not",
            *quirks,
        ),
        matches=lambda head: (
            {"job_id", "state", "submit_time", "start_time", "gpu_num", mark} <= set(head.names)
        ),
        others=("incidents",),
    )


ACME = _made(
    "acme_jobs", "AcmeTrace jobs (Seren, Kalos)", "InternLM/AcmeTrace (CC-BY-4.0), README.md", "type", "utc",
    ("stamps carry their offset, which differs between the clusters",),
)  # fmt: skip
HELIOS = _made(
    "helios", "Helios jobs", "S-Lab-System-Group/HeliosData (CC-BY-4.0), README.md", "vc", "local",
    ("stamps are local time without a zone: --tz makes them UTC",),
)  # fmt: skip
FORMATS = (ACME, HELIOS)

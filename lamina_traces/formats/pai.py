"""Alibaba PAI 2020, jobs and tasks of a GPU cluster (Weng et al., NSDI 2022).

Layout read from alibaba/clusterdata, cluster-trace-gpu-v2020 (README.md and data/*.header). The tables have
NO header line; their names stand in files ``.header`` beside them, or above a table to which they were
added. Times are seconds less an unnamed constant. A job's start_time is its submission, a task's its launch,
so a job has no duration of its own, and a task no submission: its arrival is its launch. CPU and GPU are
percent (600 is 6 cores, 50 half a GPU), of each of a task's instances. Only Terminated is a success.
"""

from __future__ import annotations

from collections.abc import Sequence

import polars as pl

from .durations import over, seconds_between
from .format import Context, Field, Format, Frames, json_object
from .job_states import state_of, with_incidents

_STATUSES = frozenset(("Running", "Terminated", "Failed", "Waiting"))
_JOB = (
    Field("job_name", "text", "", "job_id"),
    Field("inst_id", "text", required=False),
    Field("user", "text", "", "user_id", required=False),
    Field("status", "text", "", "state"),
    Field("start_time", "clock", "s", "arrival_ns", required=False),
    Field("end_time", "clock", "s", "end_ns", required=False),
)
_TASK = (
    Field("job_name", "text", "", "job_id"),
    Field("task_name", "text", "", "job_type"),
    Field("inst_num", "number", required=False),
    Field("status", "text", "", "state"),
    Field("start_time", "clock", "s", "start_ns", required=False),
    Field("end_time", "clock", "s", "end_ns", required=False),
    Field("plan_cpu", "number", "percent of a core", "cpus", required=False),
    Field("plan_mem", "number", "GB", "memory_gb", required=False),
    Field("plan_gpu", "number", "percent of a GPU", "gpus", required=False),
    Field("gpu_type", "text", "", "gpu_type", required=False),
)
_SOURCE = "alibaba/clusterdata (CC-BY-4.0), cluster-trace-gpu-v2020/README.md and data/*.header"


def _names(fields: Sequence[Field]) -> tuple[str, ...]:
    return tuple(f.name for f in fields)


def _is_number(cell: str) -> bool:
    return cell.strip().replace(".", "", 1).isdigit()


def _headless(fields: tuple[Field, ...]) -> object:
    names = _names(fields)
    status, times = names.index("status"), [names.index("start_time"), names.index("end_time")]

    def of(cells: Sequence[str], _path: str) -> Sequence[str] | None:
        fits = (
            len(cells) == len(names)
            and cells[status].strip() in _STATUSES
            and all(not cells[i].strip() or _is_number(cells[i]) for i in times)
        )
        return names if fits else None

    return of


def _jobs(frame: pl.DataFrame, _context: Context) -> Frames:
    jobs = frame.select(
        pl.col("job_name").alias("job_id"),
        pl.col("user").alias("user_id"),
        pl.col("start_time").alias("arrival_ns"),
        pl.col("end_time").alias("end_ns"),
        pl.lit(None, pl.Float64).alias("duration_s"),
        state_of(pl.col("status")).alias("state"),
        pl.col("status").alias("state_raw"),
    )
    return with_incidents(jobs)


def _tasks(frame: pl.DataFrame, context: Context) -> Frames:
    if frame.height:
        context.note(
            "launch-times",
            "a task's submission is not recorded: arrival is its launch",
            "arrival_ns",
        )
    each = pl.col("inst_num").fill_null(1)
    jobs = frame.select(
        pl.col("job_name").alias("job_id"),
        pl.col("task_name").alias("job_type"),
        pl.col("start_time").alias("arrival_ns"),
        pl.col("start_time").alias("start_ns"),
        pl.col("end_time").alias("end_ns"),
        seconds_between("start_time", "end_time").alias("duration_s"),
        over(pl.col("plan_gpu") * each, 100).alias("gpus"),
        over(pl.col("plan_cpu") * each, 100).alias("cpus"),
        (pl.col("plan_mem") * each).alias("memory_gb"),
        pl.col("gpu_type"),
        (over(pl.col("plan_gpu") * each, 100) * seconds_between("start_time", "end_time")).alias(
            "gpu_s"
        ),
        state_of(pl.col("status")).alias("state"),
        pl.col("status").alias("state_raw"),
        json_object(frame.rename({"inst_num": "instances"}), ("instances",), context).alias(
            "extra"
        ),
    )
    return with_incidents(jobs)


def _made(
    name: str, title: str, fields: tuple[Field, ...], canonical: object, quirks: tuple[str, ...]
) -> Format:
    wanted = set(_names(fields))
    return Format(
        name=name,
        title=title,
        table="jobs",
        syntax=("csv",),
        fields=fields,
        canonical=canonical,  # type: ignore[arg-type]
        clock="relative",
        source=_SOURCE,
        evidence="documentation",
        quirks=("the tables have no header line", "only Terminated is a success", *quirks),
        matches=lambda head: set(head.names) == wanted and bool(head.rows),
        headless=_headless(fields),  # type: ignore[arg-type]
        family=name,
        others=("incidents",),
    )


JOBS = _made(
    "pai_jobs", "Alibaba PAI 2020: jobs", _JOB, _jobs,
    ("start_time is the submission; a job has no duration of its own",),
)  # fmt: skip
TASKS = _made(
    "pai_tasks", "Alibaba PAI 2020: tasks", _TASK, _tasks,
    ("a row is a task: job_type is its role", "plan_cpu and plan_gpu are percent, of each instance"),
)  # fmt: skip


def _header(name: str, what: str, fields: tuple[Field, ...]) -> Format:
    """The ``.header`` beside a table: known and passed over."""
    line = ",".join(_names(fields))
    return Format(
        name=f"{name}_header",
        title=f"Alibaba PAI 2020: names of the columns of {what}",
        table="jobs",
        syntax=("text",),
        fields=(),
        canonical=lambda _frame, _context: {},
        clock="none",
        source=_SOURCE,
        evidence="documentation",
        quirks=("holds no row; it may lie beside its table",),
        matches=lambda head: [x.strip() for x in head.lines if x.strip()] == [line],
        unfold=lambda _value, _context: (),
        family=name,
        rank=-1,
    )


FORMATS = (JOBS, TASKS, _header("pai_jobs", "jobs", _JOB), _header("pai_tasks", "tasks", _TASK))

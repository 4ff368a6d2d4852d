"""AWS Lambda's REPORT lines, in logs as CloudWatch keeps them.

Fields read from the AWS Lambda operator guide (log structure) and developer guide (logging): RequestId,
Duration, Billed Duration, Memory Size, Max Memory Used, on a cold start Init Duration, with SnapStart Restore
Duration; ms and MB. All other lines are counted, never kept. A stamp at the start of a line is that of
logging. Where START lines carry one, it is the arrival; else it is the REPORT's stamp less the durations,
and so is up to its delay late. The log of one function does not name it: func_id is the file's name. A
``Status`` is assumed to be written for failures alone, and without one the outcome is unknown.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import PurePath
from typing import Any

import polars as pl

from .durations import as_ns
from .format import Binding, Context, Field, Format, Head, Request, bind_by_name

_STAMP = re.compile(r"^\W{0,2}(\d{4}-\d\d-\d\d[T ]\d\d:\d\d:\d\d(?:\.\d{1,9})?)(Z|[+-]\d\d:?\d\d)?")
_ID = re.compile(r"\b(START|REPORT) RequestId: ([0-9A-Za-z-]{1,64})")
_REPORT = re.compile(r"\bREPORT RequestId: ")
_PARTS = {
    "duration": re.compile(r"(?<!Billed )(?<!Init )(?<!Restore )\bDuration: ([\d.]+) ms"),
    "billed": re.compile(r"(?<!Restore )\bBilled Duration: ([\d.]+) ms"),
    "memory": re.compile(r"\bMemory Size: (\d+) MB"),
    "used": re.compile(r"\bMax Memory Used: ([\d.]+) MB"),
    "init": re.compile(r"\bInit Duration: ([\d.]+) ms"),
    "restore_duration_ms": re.compile(r"(?<!Billed )\bRestore Duration: ([\d.]+) ms"),
    "status": re.compile(r"\bStatus: (\w+)"),
    "error": re.compile(r"\bError Type: ([\w.]+)"),
}
_STATUSES = {"timeout": "timeout", "success": "ok"}
_OPEN = 100_000
"""requests that began and have not ended; beyond it the oldest is given up."""


def _unfold(value: Any, context: Context) -> Iterator[Mapping[str, Any]]:
    m = _ID.search(value)
    if m is None:
        return
    stamp = _STAMP.match(value)
    when = stamp[1] + (stamp[2] or "") if stamp else None
    begun: dict[str, str] = context.state.setdefault("started", {})
    if m[1] == "START":
        if when is not None:
            begun[m[2]] = when
            if len(begun) > _OPEN:
                del begun[next(iter(begun))]
        return
    row: dict[str, Any] = {n: p[1] for n, r in _PARTS.items() if (p := r.search(value))}
    row["id"], row["logged"], row["begun"] = m[2], when, begun.pop(m[2], None)
    if "duration" not in row:
        raise ValueError("a REPORT without a Duration")
    status = row.get("status")
    row["status"] = _STATUSES.get(status.lower(), "error") if status else "unknown"
    if billed := row.pop("billed", None):
        row["billed_duration_ms"] = billed
    yield row


def _canonical(frame: pl.DataFrame, context: Context) -> pl.DataFrame:
    name = PurePath(context.path).name.split(".")[0] or "unknown"
    spent = as_ns(pl.col("duration") + pl.col("init").fill_null(0))
    if frame["begun"].null_count() and frame["logged"].count():
        context.note("derived-arrival", "no START line carries a stamp: arrival is the stamp of the report less its durations", "arrival_ns")  # fmt: skip
    return frame.select(
        pl.coalesce("begun", pl.col("logged") - spent).alias("arrival_ns"),
        pl.col("id").alias("request_id"),
        pl.lit(name).alias("func_id"),
        pl.col("duration").alias("duration_s"),
        pl.col("init").alias("init_s"),
        pl.col("init").is_not_null().alias("is_cold"),
        pl.col("used").alias("memory_mb"),
        pl.col("memory").alias("memory_limit_mb"),
        pl.col("status"),
        pl.col("error").alias("error_code"),
    )


def _bind(fmt: Format, head: Head, request: Request) -> Binding:
    stamped = any(_REPORT.search(line) and _STAMP.match(line) for line in head.lines)
    bound = bind_by_name(fmt, head, request, absolute=stamped)
    return replace(bound, clock="utc" if stamped else "none")


FORMATS = (
    Format(
        name="lambda_report",
        title="AWS Lambda log: REPORT lines",
        table="invocations",
        syntax=("text",),
        fields=(
            Field("logged", "instant", "UTC", required=False, minimum=None),
            Field("begun", "instant", "UTC", "arrival_ns", required=False, minimum=None),
            Field("id", "text", "", "request_id"),
            Field("duration", "seconds", "ms", "duration_s"),
            Field("init", "seconds", "ms", "init_s", required=False),
            Field("used", "number", "MB", "memory_mb", required=False),
            Field("memory", "tokens", "MB", "memory_limit_mb", required=False),
            Field("status", "text", "", "status"),
            Field("error", "text", "", "error_code", required=False),
        ),
        canonical=_canonical,
        clock="utc",
        source="AWS Lambda operator guide, log structure; developer guide, logging",
        evidence="documentation",
        quirks=(
            "Init Duration is there for a cold start alone",
            "lines that are no report are counted, never kept",
            "the function is the file's name; a report without a Status says nothing of the outcome",
        ),
        bind=_bind,
        matches=lambda head: any(
            _REPORT.search(line) and "Duration: " in line for line in head.lines
        ),
        unfold=_unfold,
    ),
)

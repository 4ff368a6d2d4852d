"""Huawei 2025, requests of day 30 (Joosen et al., EuroSys 2025).

Layout read from sir-lab/data-release (README_data_release_2025.md). All costs are seconds. What instant the
two stamps are of is not documented (that of the frontend comes after that of the worker, so they look like
times of logging); arrival is ``time_worker`` as it stands. Frontend columns are null for some rows.
``cpu_usage`` and ``memory_usage`` are those of the whole pod, averaged over the request.
"""

from __future__ import annotations

import polars as pl

from .format import Context, Field, Format
from .huawei_runtime import identity, region_of, with_functions

_COSTS = (
    "totalCost_worker",
    "workerCost",
    "frontendCost",
    "busCost",
    "readBodyCost",
    "writeRspCost",
)


def _canonical(frame: pl.DataFrame, context: Context) -> pl.DataFrame:
    if frame.height:
        context.note("log-times",
            "the source does not say of what instant its stamps are; arrival is the worker's stamp", "arrival_ns",
        )  # fmt: skip
    out = frame.select(
        pl.col("time_worker").alias("arrival_ns"),
        pl.col("requestID").alias("request_id"),
        *identity(),
        pl.lit(region_of(context.path), pl.String).alias("region"),
        pl.col("runtimeCost").alias("duration_s"),
        pl.col("totalCost_frontend").alias("e2e_s"),
        pl.col("cpu_usage").alias("cpu_cores"),
        pl.col("memory_usage").alias("memory_mb"),
        # written 2.0: a whole number
        pl.col("requestBodySize").cast(pl.Int64, strict=False).alias("request_bytes"),
        pl.lit("unknown").alias("status"),
        pl.struct(*_COSTS, pl.col("time_frontend").alias("time_frontend_ns"))
        .struct.json_encode()
        .alias("extra"),
    )
    return with_functions(out, context)


FIELDS = (
    Field("time_worker", "clock", "s", "arrival_ns"),
    Field("time_frontend", "clock", "s", required=False),
    Field("requestID", "text", "", "request_id", required=False),
    Field("clusterName", "text", "", "cluster", required=False),
    Field("funcName", "text", "", "func_id"),
    Field("podID", "text", "", "pod_id", required=False),
    Field("userID", "text", "", "owner_id"),
    *(Field(n, "seconds", "s", required=False) for n in _COSTS),
    Field("runtimeCost", "seconds", "s", "duration_s", required=False),
    Field("totalCost_frontend", "seconds", "s", "e2e_s", required=False),
    Field("cpu_usage", "number", "cores", "cpu_cores", required=False),
    Field("memory_usage", "number", "MB", "memory_mb", required=False),
    Field("requestBodySize", "number", "B", "request_bytes", required=False),
)

FORMATS = (
    Format(
        name="huawei_request",
        title="Huawei serverless requests (2025)",
        table="invocations",
        syntax=("csv",),
        fields=FIELDS,
        canonical=_canonical,
        clock="relative",
        source="sir-lab/data-release (CC-BY-4.0), README_data_release_2025.md",
        evidence="real file",
        quirks=(
            "arrival is the worker's stamp, which looks like a time of logging",
            "duration_s is the time in the runtime, e2e_s what the frontend saw; the other costs are in extra",
            "no status is recorded",
        ),
        matches=lambda head: (
            {"time_worker", "totalCost_worker", "runtimeCost", "funcName", "userID"}
            <= set(head.names)
        ),
        family="huawei_2025",
    ),
)

"""IBM Code Engine, configurations of applications (EuroSys 2026, ubc-cirrus-lab/ibm-cloud-code-engine-traces, MIT).

A change log: a row for an application and a day (0 to 61) on which its configuration changed; blank cells
where it was absent. CPU is vCPUs and memory GB, both as requested. The source keeps these as a pickle, which
is never loaded; this reads the table that it was rewritten to.
"""

from __future__ import annotations

import polars as pl

from ..units import DAY_NS
from .format import Context, Field, Format, json_object

_DAYS = 2**63 // DAY_NS


def _canonical(frame: pl.DataFrame, context: Context) -> pl.DataFrame:
    renamed = frame.rename({"AppContainerRequestMemory": "memory_asked_gb"})
    return frame.select(
        pl.col("AppHash").alias("func_id"),
        pl.col("AppHash").alias("app_id"),
        pl.col("NamespaceHash").alias("owner_id"),
        pl.when(pl.col("day") < _DAYS).then(pl.col("day") * DAY_NS).alias("arrival_ns"),
        (pl.col("AppContainerRequestCpu") * 1000)
        .round(0)
        .cast(pl.Int32, strict=False)
        .alias("cpu_request_mcore"),
        pl.col("AppMinScale").cast(pl.Int32).alias("min_scale"),
        pl.col("AppContainerConcurrency").cast(pl.Int32).alias("concurrency"),
        json_object(renamed, ("memory_asked_gb",), context).alias("extra"),
    )


FIELDS = (
    Field("NamespaceHash", "text", "", "owner_id"),
    Field("AppHash", "text", "", "func_id"),
    Field("day", "integer", "d", "arrival_ns"),
    Field("AppContainerRequestCpu", "number", "vCPU", "cpu_request_mcore", required=False),
    Field("AppContainerRequestMemory", "number", "GB", required=False),
    Field("AppContainerConcurrency", "tokens", "", "concurrency", required=False),
    Field("AppMinScale", "tokens", "", "min_scale", required=False),
)

FORMATS = (
    Format(
        name="ibm_code_engine",
        title="IBM Code Engine: configurations of applications",
        table="functions",
        syntax=("csv",),
        fields=FIELDS,
        canonical=_canonical,
        clock="relative",
        source="ubc-cirrus-lab/ibm-cloud-code-engine-traces (MIT), compressed_data/app_configs",
        evidence="real file",
        quirks=(
            "a row is a change: it holds until the application's next row",
            "blank cells: the application was absent",
            "memory as requested is in extra (GB)",
        ),
        matches=lambda head: {"AppHash", "AppMinScale", "day", "NamespaceHash"} <= set(head.names),
    ),
)

"""Huawei 2025 cold starts: five regions, 31 days (Joosen et al., EuroSys 2025).

Layout read from sir-lab/data-release (README, notebooks). The region stands only in the path. All costs
are seconds (Table 1 of the paper says µs, which is their resolution). ``podID`` carries pool, CPU limit
(millicores) and memory limit (MB): ``pool22-300-128-0000618412``. One request may start several pods, so
``requestID`` is not unique. A function is ``funcName---userID---poolName``, as in the released runtime
table; its pool name includes the limits.
"""

from __future__ import annotations

import polars as pl

from .format import Context, Field, Format
from .huawei_runtime import identity, pod_part, region_of, with_functions

_PARTS = ("podAllocationCost", "deployCodeCost", "deployDependencyCost", "schedulingCost")


def _canonical(frame: pl.DataFrame, context: Context) -> pl.DataFrame:
    region = region_of(context.path)
    out = [
        pl.col("time").alias("arrival_ns"),
        pl.col("requestID").alias("request_id"),
        *identity(),
        pod_part(2).alias("pool"),
        pl.col("totalCost_cold_start").alias("total_s"),
        pl.col("podAllocationCost").alias("pod_alloc_s"),
        pl.col("deployCodeCost").alias("deploy_code_s"),
        pl.col("deployDependencyCost").alias("deploy_dep_s"),
        pl.col("schedulingCost").alias("scheduling_s"),
        (pl.col("totalCost_cold_start") - pl.sum_horizontal(_PARTS, ignore_nulls=False)).alias(
            "residual_s"
        ),
    ]
    if region is not None:
        out.append(pl.lit(region).alias("region"))
    return with_functions(frame.select(out), context)


FIELDS = (
    Field("day", "integer", "d", required=False),
    Field("time", "clock", "s", "arrival_ns"),
    Field("clusterName", "text", "", "cluster", required=False),
    Field("funcName", "text", "", "func_id"),
    Field("userID", "text", "", "owner_id"),
    Field("requestID", "text", "", "request_id", required=False),
    Field("totalCost_cold_start", "seconds", "s", "total_s"),
    Field("podAllocationCost", "seconds", "s", "pod_alloc_s", required=False),
    Field("deployCodeCost", "seconds", "s", "deploy_code_s", required=False),
    Field("deployDependencyCost", "seconds", "s", "deploy_dep_s", required=False),
    Field("schedulingCost", "seconds", "s", "scheduling_s", required=False),
    Field("podID", "text", "", "pod_id"),
)

FORMATS = (
    Format(
        name="huawei_cold_start",
        title="Huawei serverless cold starts (2025)",
        table="cold_starts",
        syntax=("csv",),
        fields=FIELDS,
        canonical=_canonical,
        clock="relative",
        source="sir-lab/data-release (CC-BY-4.0), src/demo_cold_start.ipynb; EuroSys 2025, section 3",
        evidence="real file",
        quirks=(
            "the region is a folder R1 to R5 of the path, never a column",
            "costs are seconds; a dependency cost of 0 means that the function has no layers",
            "read with the table of functions, cold starts of R2 get their runtime and trigger",
            "day is not kept: it is the whole days of time",
        ),
        family="huawei_2025",
    ),
)

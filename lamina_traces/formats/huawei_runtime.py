"""Huawei 2025, the table of functions: runtime, triggers and CPU request (Joosen et al., EuroSys 2025).

Layout read from sir-lab/data-release (README_data_release_2025.md). The table is of region R2 alone. Triggers
are separated by SPACES, each with its invocation type: ``APIG-S TIMER-A`` (S synchronous, A asynchronous).
Read together with cold starts, it gives those of R2 (or of no named region) their runtime and trigger.
"""

from __future__ import annotations

import re

import polars as pl

from .format import Context, Field, Format

REGION = re.compile(r"(?:^|[/\\])(R[1-5])(?=[/\\])")
"""the region in the path of a file of the release."""
FUNCTION = r"^\d+---\d+---((pool\d+)-(\d+)-(\d+))$"
_POD = r"^((pool\d+)-(\d+)-(\d+))-\d+$"
"""name of the pool with its limits, pool, millicores and MB in a pod's id."""
_TABLE_OF = "R2"
_TYPED = r"-[SA]$"


def region_of(path: str) -> str | None:
    """R1 to R5 where a folder of the path is called so."""
    m = REGION.search(path)
    return m[1] if m else None


def pod_part(number: int) -> pl.Expr:
    """A part of ``podID``: 1 the name of the pool with its limits, 2 the pool, 3 millicores, 4 MB."""
    return pl.col("podID").str.extract(_POD, number)


def identity() -> list[pl.Expr]:
    """The function, customer, cluster and pod of a record, and the pod's limits.

    Without a readable pod id the pool is unknown, and so is that part of the function's name.
    """
    return [
        pl.coalesce(
            pl.format("{}---{}---{}", "funcName", "userID", pod_part(1)),
            pl.format("{}---{}", "funcName", "userID"),
        ).alias("func_id"),
        pl.col("userID").alias("owner_id"),
        pl.col("clusterName").alias("cluster"),
        pl.col("podID").alias("pod_id"),
        pod_part(3).cast(pl.Int32, strict=False).alias("cpu_limit_mcore"),
        pod_part(4).cast(pl.Int32, strict=False).alias("memory_limit_mb"),
    ]


def _canonical(frame: pl.DataFrame, context: Context) -> pl.DataFrame:
    pool = pl.col("funcID").str.extract_groups(FUNCTION).struct
    triggers = pl.col("triggerType-invocationType").str.strip_chars().str.split(" ")
    out = frame.select(
        pl.col("funcID").alias("func_id"),
        pl.col("funcID").str.extract(r"^\d+---(\d+)---").alias("owner_id"),
        pl.lit(region_of(context.path) or _TABLE_OF).alias("region"),
        pool.field("2").alias("pool"),
        pl.col("runtime"),
        triggers.list.eval(pl.element().filter(pl.element() != "")).alias("triggers"),
        pl.col("cpu_request").alias("cpu_request_mcore"),
        pool.field("3").cast(pl.Int32, strict=False).alias("cpu_limit_mcore"),
        pool.field("4").cast(pl.Int32, strict=False).alias("memory_limit_mb"),
    )
    known = context.state.setdefault("huawei functions", {})
    for func, runtime, found in out.select("func_id", "runtime", "triggers").iter_rows():
        known[func] = (runtime, found)
    return out


def with_functions(out: pl.DataFrame, context: Context) -> pl.DataFrame:
    """Runtime, trigger and invocation type of the functions whose table was read before."""
    known = context.state.get("huawei functions")
    if not known or region_of(context.path) not in (None, _TABLE_OF):
        return out
    met = out["func_id"].unique(maintain_order=True).to_list()
    pairs = [(f, *known[f]) for f in met if f in known]
    table = pl.DataFrame(
        pairs,
        schema={"func_id": pl.String, "runtime": pl.String, "triggers": pl.List(pl.String)},
        orient="row",
    ).with_columns(
        pl.col("triggers").list.join(" ").alias("trigger"),
        _synchronous().alias("synchronous"),
    )
    return out.join(table.drop("triggers"), on="func_id", how="left", maintain_order="left")


def _synchronous() -> pl.Expr:
    """True where all triggers are synchronous, False where none is; null for both, or for an unknown one."""
    triggers = pl.col("triggers")
    every = triggers.list.eval(pl.element().str.ends_with("-S")).list.all()
    none = triggers.list.eval(pl.element().str.ends_with("-A")).list.all()
    return (
        pl.when(triggers.list.len() == 0).then(None).when(every).then(True).when(none).then(False)
    )


FIELDS = (
    Field("funcID", "text", "", "func_id"),
    Field("cpu_request", "tokens", "mcore", "cpu_request_mcore", required=False),
    Field("runtime", "text", "", "runtime", required=False),
    Field("triggerType-invocationType", "text", "", "triggers", required=False),
)

FORMATS = (
    Format(
        name="huawei_runtime",
        title="Huawei serverless functions: runtime and triggers (2025)",
        table="functions",
        syntax=("csv",),
        fields=FIELDS,
        canonical=_canonical,
        clock="none",
        source="sir-lab/data-release (CC-BY-4.0), README_data_release_2025.md",
        evidence="real file",
        quirks=(
            "triggers are separated by spaces; -S is synchronous, -A asynchronous",
            "the table is of region R2; read with cold starts of R2 it gives them runtime and trigger",
        ),
        matches=lambda head: {"funcID", "triggerType-invocationType"} <= set(head.names),
        family="huawei_2025",
        rank=-1,
    ),
)

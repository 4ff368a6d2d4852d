"""AcmeTrace's power and utilization (InternLM/AcmeTrace, Hu et al., NSDI 2024): IPMI, and DCGM as wide tables.

Layout from README.md, data/utils.py and data/generate_utilization_pkl.ipynb of the repository, which holds
the code and the curves; the tables are published apart. An IPMI file (``GPU_AB_Power.csv``) has the columns
Time, node, Sys_Total_Power, CPU_Power, Memory_Power, PSU1_PIN … PSU6_PIN, PSU_IN_SUM: they are DOMAINS of
one server, not servers. A DCGM file (``POWER_USAGE.csv``) has one column a server or GPU, named by its
address; its metric is the file's name alone. Stamps carry their offset. The ``*_ACTIVE`` and
``*_OCCUPANCY`` series were published as percent. How a column names a GPU of a server (``HOST-3``) is
assumed.
"""

from __future__ import annotations

import re
from pathlib import PurePath

import polars as pl

from .format import Binding, Context, Field, Format, Head, Request, bind_by_name, json_object
from .hosts import host_name, host_names

_SUPPLY = re.compile(r"PSU(\d+)_PIN")
_METRICS = frozenset(
    [
        "XID_ERRORS",
        "GPU_TEMP",
        "MEMORY_TEMP",
        "MEM_CLOCK",
        "MEM_COPY_UTIL",
        "FB_FREE",
        "FB_USED",
        "DRAM_ACTIVE",
        "POWER_USAGE",
        "GPU_UTIL",
        "PIPE_TENSOR_ACTIVE",
        "SM_ACTIVE",
        "SM_OCCUPANCY",
        "SM_CLOCK",
        "NODE_CPU_UTILIZATION",
        "NODE_MEMORY_UTILIZATION",
        "NODE_IB_SEND",
        "NODE_IB_RECEIVE",
    ]
)
_COLUMN = re.compile(r"(?P<host>(?:\d{1,3}\.){3}\d{1,3}|[\w.]+?)(?:-(?P<part>mlx\w+|(?:gpu)?\d+))?")
POWER = "POWER_USAGE"

_IPMI = (
    Field("Time", "instant", "", "arrival_ns", minimum=None),
    Field("node", "text", "", "host", required=False),
    Field("Sys_Total_Power", "number", "W", "power_w", required=False),
    Field("CPU_Power", "number", "W", "power_w", required=False),
    Field("Memory_Power", "number", "W", "power_w", required=False),
    Field("PSU_IN_SUM", "number", "W", required=False),
)


def _bind_ipmi(fmt: Format, head: Head, request: Request) -> Binding:
    supplies = {n: f"psu{m[1]}" for n in head.names if (m := _SUPPLY.fullmatch(n))}
    domains = {
        "Sys_Total_Power": ("server", "server"),
        "CPU_Power": ("cpu", "cpu"),
        "Memory_Power": ("dram", "dram"),
        **{n: (device, "psu") for n, device in supplies.items()},
    }

    def canonical(frame: pl.DataFrame, context: Context) -> pl.DataFrame:
        rows = frame.with_row_index("line")
        rows = rows.with_columns(host_names(rows["node"], context).alias("node"))
        extra = json_object(rows, ("PSU_IN_SUM",), context)
        nothing = pl.lit(None, pl.String)
        parts = [
            rows.select(
                "line",
                pl.col("Time").alias("arrival_ns"),
                pl.col("node").alias("host"),
                pl.lit(device).alias("device"),
                pl.lit(domain).alias("domain"),
                pl.col(name).alias("power_w"),
                (extra if name == "Sys_Total_Power" else nothing).alias("extra"),
            ).filter(pl.col("power_w").is_not_null() | (name == "Sys_Total_Power"))
            for name, (device, domain) in domains.items()
        ]
        return pl.concat(parts).sort("line", maintain_order=True).drop("line")

    fields = (*_IPMI, *(Field(n, "number", "W", "power_w", required=False) for n in supplies))
    return bind_by_name(fmt, head, request, fields=fields, canonical=canonical)


IPMI = Format(
    name="acme_ipmi",
    title="AcmeTrace server power (IPMI)",
    table="power_samples",
    syntax=("csv",),
    fields=_IPMI,
    canonical=lambda frame, _context: frame,
    clock="utc",
    source="InternLM/AcmeTrace (CC-BY-4.0), README.md and data/generate_utilization_pkl.ipynb",
    evidence="importer's loader",
    quirks=(
        "columns are domains of one server (server, cpu, dram, psu), not servers",
        "PSU_IN_SUM is kept in extra: it is the supplies once more",
    ),
    bind=_bind_ipmi,
    matches=lambda head: {"Time", "Sys_Total_Power", "PSU_IN_SUM"} <= set(head.names),
)


def _metric(path: str) -> str:
    """The metric that a file's name stands for, '' for none: ``POWER_USAGE-2023-07.csv``."""
    stem = PurePath(path).name.split(".")[0]
    stem = re.sub(r"-\d{4}-.*$", "", stem)
    return stem if stem in _METRICS else ""


def _is_wide(head: Head) -> bool:
    return len(head.names) > 1 and head.names[0] == "Time" and _metric(head.path) != ""


def _bind_wide(fmt: Format, head: Head, request: Request) -> Binding:
    columns = [n for n in head.names if n != "Time"]
    metric = _metric(head.path)
    # text, and parsed here: a reject would show the column's name, which is an address
    fields = (
        Field("Time", "instant", "", "arrival_ns", minimum=None),
        *(Field(n, "text", required=False) for n in columns),
    )

    def canonical(frame: pl.DataFrame, context: Context) -> pl.DataFrame:
        named = {}
        for n in columns:
            m = _COLUMN.fullmatch(n)
            part = m["part"] if m else None
            named[n] = (
                host_name(m["host"] if m else n, context),
                f"gpu{part}" if part and part.isdigit() else part or "all",
            )
        long = frame.unpivot(columns, index="Time").with_columns(pl.col("value").cast(pl.String))
        long = long.with_columns(
            pl.col("value").str.strip_chars().cast(pl.Float64, strict=False).alias("number")
        )
        long = long.with_columns(
            pl.when(pl.col("number").is_finite()).then("number").alias("number")
        )
        bad = long["number"].is_null() & long["value"].is_not_null()
        bad = bad & ~long["value"].str.strip_chars().str.to_lowercase().is_in(
            ["nan", "null", "none"]
        )
        if bad.any():
            context.note(
                "unreadable",
                "some cells are no numbers and were taken for not recorded",
                metric,
            )
        long = long.drop_nulls("number").sort("Time", maintain_order=True)
        name = long["variable"]
        host = name.replace_strict(
            {n: h for n, (h, _) in named.items()}, default=None, return_dtype=pl.String
        )
        device = name.replace_strict(
            {n: d for n, (_, d) in named.items()}, default=None, return_dtype=pl.String
        )
        out = long.select(
            pl.col("Time").alias("arrival_ns"), host.alias("host"), device.alias("device")
        )
        if metric == POWER:
            return out.with_columns(pl.lit("gpu").alias("domain"), long["number"].alias("power_w"))
        return out.with_columns(pl.lit(metric).alias("metric"), pl.lit("gauge").alias("type"), long["number"].alias("value"))  # fmt: skip

    return bind_by_name(fmt, head, request, fields=fields, canonical=canonical)


def _wide(name: str, title: str, table: str, power: bool) -> Format:
    return Format(
        name=name,
        title=title,
        table=table,
        syntax=("csv",),
        fields=(Field("Time", "instant", "", "arrival_ns", minimum=None),),
        canonical=lambda frame, _context: frame,
        clock="utc",
        source="InternLM/AcmeTrace (CC-BY-4.0), README.md, data/utils.py and data/generate_utilization_pkl.ipynb",
        evidence="importer's loader",
        quirks=(
            "the metric is the file's name alone",
            "columns are addresses of servers: they become host1, host2…",
            "ACTIVE and OCCUPANCY series are percent here, ratios in DCGM",
        ),
        bind=_bind_wide,
        matches=lambda head: _is_wide(head) and (_metric(head.path) == POWER) == power,
        family="acme_wide",
        rank=0 if power else 1,
    )


WIDE_POWER = _wide("dcgm_wide", "AcmeTrace GPU power (DCGM, a column a GPU)", "power_samples", True)
WIDE_METRICS = _wide("dcgm_wide_metrics", "AcmeTrace utilization (DCGM and node metrics, wide)", "metric_series", False)  # fmt: skip
FORMATS = (IPMI, WIDE_POWER, WIDE_METRICS)

"""Zeus (ml-energy/zeus, Apache-2.0): the log of a ZeusMonitor, and the power-limit sweeps of its paper.

Layout from tests/profile_data and examples/research_reproducibility/zeus_nsdi23/trace in the repository.
A log has a row a window; each counter (``gpu0_energy``, ``cpu0_energy``, ``dram0_energy``; J) is a row here.
Its start_time is seconds of whatever clock the program gave: a monotonic one in the released files, so the
clock is relative; values from 10^9 on are taken for seconds since 1970. The names of CPU and DRAM counters
are assumed to follow those of the GPUs.
"""

from __future__ import annotations

import re
from dataclasses import replace

import polars as pl

from ..errors import DataError
from .format import Binding, Context, Field, Format, Head, Request, bind_by_name, json_object

_COUNTER = re.compile(r"(gpu|cpu|dram)(\d+)_energy")
_EPOCH_S = 1e9
_SWEEP = re.compile(r"summary_power_(\w+)\.csv")


def _counters(head: Head) -> dict[str, re.Match[str]]:
    return {n: m for n in head.names if (m := _COUNTER.fullmatch(n))}


def _bind(fmt: Format, head: Head, request: Request) -> Binding:
    counters = _counters(head)
    if not counters:
        raise DataError(
            "zeus_log needs a column such as gpu0_energy",
            f"columns here: {', '.join(head.names)}",
            path=head.path,
        )

    def canonical(frame: pl.DataFrame, _context: Context) -> pl.DataFrame:
        rows = frame.with_row_index("line")
        parts = [
            rows.select(
                "line",
                pl.col("start_time").alias("arrival_ns"),
                pl.col("window_name").alias("label"),
                pl.lit(m[1] + m[2]).alias("device"),
                pl.lit(m[1]).alias("domain"),
                pl.col("elapsed_time").alias("duration_s"),
                pl.col(name).alias("energy_j"),
                pl.when(pl.col("elapsed_time") > 0)
                .then(pl.col(name) / pl.col("elapsed_time"))
                .alias("mean_power_w"),
            )
            for name, m in counters.items()
        ]
        return pl.concat(parts).sort("line", maintain_order=True).drop("line")

    fields = (*fmt.fields, *(Field(n, "number", "J", "energy_j", required=False) for n in counters))
    starts = [float(v) for r in head.rows[:1] if (v := r.get("start_time")) and _is_number(v)]
    epoch = any(s >= _EPOCH_S for s in starts)
    bound = bind_by_name(fmt, head, request, fields=fields, canonical=canonical, absolute=epoch)
    return replace(bound, clock="utc" if epoch else "relative")


def _is_number(text: str) -> bool:
    return re.fullmatch(r"\d+(\.\d*)?", text) is not None


LOG = Format(
    name="zeus_log",
    title="ZeusMonitor log (CSV)",
    table="power_windows",
    syntax=("csv",),
    fields=(
        Field("start_time", "clock", "s", "arrival_ns"),
        Field("window_name", "text", "", "label"),
        Field("elapsed_time", "seconds", "s", "duration_s"),
    ),
    canonical=lambda frame, _context: frame,
    clock="relative",
    source="ml-energy/zeus (Apache-2.0), tests/profile_data",
    evidence="real file",
    quirks=(
        "start_time is a monotonic clock in the released files; from 10^9 on it is taken for Unix seconds",
        "a counter is a row: a window of four GPUs gives four",
    ),
    bind=_bind,
    matches=lambda head: (
        {"start_time", "window_name", "elapsed_time"} <= set(head.names) and bool(_counters(head))
    ),
)


def _sweep(frame: pl.DataFrame, context: Context) -> pl.DataFrame:
    device = _SWEEP.search(context.path)
    return frame.select(
        pl.lit(device[1] if device else None, pl.String).alias("device_name"),
        pl.col("network").alias("model"),
        pl.col("dataset").alias("workload"),
        pl.col("batch_size"),
        pl.col("power_limit").alias("power_limit_w"),
        pl.col("average_power").alias("mean_power_w"),
        pl.col("time_per_epoch").alias("duration_s"),
        (pl.col("average_power") * pl.col("time_per_epoch")).alias("energy_j"),
        json_object(frame, ("optimizer",), context).alias("extra"),
    )


SWEEP = Format(
    name="zeus_sweep",
    title="Zeus power-limit sweep (NSDI 2023)",
    table="operating_points",
    syntax=("csv",),
    fields=(
        Field("dataset", "text", "", "workload"),
        Field("network", "text", "", "model"),
        Field("batch_size", "tokens", "", "batch_size"),
        Field("optimizer", "text", required=False),
        Field("power_limit", "number", "W", "power_limit_w"),
        Field("time_per_epoch", "seconds", "s", "duration_s"),
        Field("average_power", "number", "W", "mean_power_w"),
    ),
    canonical=_sweep,
    clock="none",
    source="ml-energy/zeus (Apache-2.0), examples/research_reproducibility/zeus_nsdi23/trace",
    evidence="real file",
    quirks=(
        "duration_s is one epoch, energy_j that of one epoch (average power times its time)",
        "the average power may lie above the limit",
        "the GPU stands in the file's name alone",
    ),
)
FORMATS = (LOG, SWEEP)

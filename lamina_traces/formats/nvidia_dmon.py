"""nvidia-smi dmon: ``nvidia-smi dmon -s pucm -o DT`` and ``--format csv``, one line a GPU and second.

Layout from the output of nvidia-smi 580.159 on an H100. A line that begins with ``#`` names the columns,
the next one their units; both are repeated now and then. ``-`` is null. With ``-o DT`` the date is written
``YYYYMMDD``, in local time without a zone; without a date there is no clock. What dmon calls MB was, read
beside a query log of the same seconds, the figure that the query log calls MiB. ``pwr`` is in whole watts, and
nothing says whether it is an average.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

import polars as pl

from .durations import over
from .format import Binding, Context, Field, Format, Head, Request, bind_by_name
from .nvidia_smi import MB_PER_MIB

_MARKS = ("gpu", "date", "time")
_DAY, _TIME = 8, "00:00:00"


def _cells(line: str) -> list[str]:
    return [c.strip() for c in line.split(",")] if "," in line else line.split()


def _names(line: str) -> list[str] | None:
    """The names of the columns, where a line gives them."""
    if not line.startswith("#"):
        return None
    names = [n.lower() for n in _cells(line[1:])]
    return names if names and names[0] in _MARKS and "gpu" in names else None


def _unfold(value: Any, context: Context) -> Iterator[Mapping[str, Any]]:
    line = value.strip()
    if line.startswith("#"):
        names = _names(line)
        if names is not None:
            context.state["file"] = names
        return
    names = context.state.get("file")
    if names is None:
        raise ValueError("no line above it names the columns (#gpu pwr …)")
    cells = _cells(line)
    if len(cells) != len(names):
        raise ValueError(f"{len(cells)} cells, not {len(names)} as its columns")
    row: dict[str, Any] = {n: c for n, c in zip(names, cells, strict=True) if c != "-"}
    day, time = row.pop("date", ""), row.pop("time", None)
    if len(day) == _DAY:
        row["stamp"] = f"{day[:4]}-{day[4:6]}-{day[6:]} {time or _TIME}"
    elif time is not None:
        row["time"] = time
    yield row


def _canonical(frame: pl.DataFrame, _context: Context) -> pl.DataFrame:
    return frame.select(
        pl.col("stamp").alias("arrival_ns"),
        ("gpu" + pl.col("gpu").str.strip_chars()).alias("device"),
        pl.lit("gpu").alias("domain"),
        pl.col("pwr").alias("power_w"),
        over(pl.col("sm"), 100).alias("util_frac"),
        over(pl.col("mem"), 100).alias("mem_util_frac"),
        (pl.col("fb") * MB_PER_MIB).alias("mem_used_mb"),
        pl.col("pclk").alias("sm_clock_mhz"),
        pl.col("mclk").alias("mem_clock_mhz"),
        pl.col("gtemp").alias("temp_c"),
    )


def _bind(fmt: Format, head: Head, request: Request) -> Binding:
    dated = any("date" in (_names(line.strip()) or ()) for line in head.lines)
    bound = bind_by_name(fmt, head, request, absolute=dated)
    return bound if dated else replace(bound, clock="none")


FORMATS = (
    Format(
        name="nvidia_dmon",
        title="nvidia-smi dmon log",
        table="power_samples",
        syntax=("text",),
        fields=(
            Field("stamp", "instant", "local", "arrival_ns", required=False, minimum=None),
            Field("gpu", "text", "", "device"),
            Field("pwr", "number", "W", "power_w", required=False),
            Field("gtemp", "number", "C", "temp_c", required=False, minimum=None),
            Field("sm", "number", "%", "util_frac", required=False),
            Field("mem", "number", "%", "mem_util_frac", required=False),
            Field("mclk", "number", "MHz", "mem_clock_mhz", required=False),
            Field("pclk", "number", "MHz", "sm_clock_mhz", required=False),
            Field("fb", "number", "MiB", "mem_used_mb", required=False),
        ),
        canonical=_canonical,
        clock="local",
        source="nvidia-smi 580.159 on an H100: the output of dmon -s pucm, -o DT and --format csv",
        evidence="real file",
        quirks=(
            "a dash means not recorded",
            "without -o D there is no date, and so no clock: rows keep their order",
            "fb is labelled MB and is MiB",
        ),
        bind=_bind,
        matches=lambda head: any(_names(line.strip()) for line in head.lines[:50]),
        unfold=_unfold,
    ),
)

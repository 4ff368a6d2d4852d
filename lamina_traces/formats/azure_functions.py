"""Azure Functions 2019 (Shahrad et al., ATC 2020) and 2021 (Zhang et al., SOSP 2021).

Layout read from Azure/AzurePublicDataset (AzureFunctionsDataset2019.md, AzureFunctionsInvocationTrace2021.md)
and the samples of vhive-serverless/invitro.

2019: three tables. Invocations are counts a minute, one column a minute named 1 to 1440; a sample may hold
480 to 959 alone, so a column's name gives its minute (1 begins at 0:00). Durations are ms, without cold
starts; their percentiles are of 30-second averages weighted by count, minimum and maximum are true. Memory
is MB, of an application (of a function in some samples). The day is in the file's name (``d01`` to ``d14``);
without it the file is of day 1. There are no cold starts in this trace.

2021: app, func, end_timestamp, duration, all in SECONDS (the repository's README says ms; the page of the
data set and the values say s). ``func`` is unique in its app only. Rows are ordered by start = end - duration.
"""

from __future__ import annotations

import re

import polars as pl

from ..errors import DataError
from ..units import DAY_NS
from .durations import as_seconds
from .format import Binding, Context, Field, Format, Head, Request, bind_by_name

_DAY = re.compile(r"\.d(\d{2})(?:\.csv|$|\.)")
_MINUTE_NS = 60 * 10**9
_MINUTE = re.compile(r"[1-9]\d{0,3}")
_KEYS = (
    Field("HashOwner", "text", "", "owner_id"),
    Field("HashApp", "text", "", "app_id"),
)
_SOURCE = "Azure/AzurePublicDataset (CC-BY-4.0), AzureFunctionsDataset2019.md; vhive-serverless/invitro, data/traces"


def _day_ns(path: str) -> int:
    m = _DAY.search(path)
    return (int(m[1]) - 1) * DAY_NS if m and int(m[1]) > 0 else 0


def _minutes(head: Head) -> list[str]:
    return [n for n in head.names if _MINUTE.fullmatch(n) and int(n) <= 1440]


def _bind_counts(fmt: Format, head: Head, request: Request) -> Binding:
    minutes = _minutes(head)
    if not minutes:
        raise DataError(
            "azure_functions_2019 needs a column a minute, named 1 to 1440",
            f"columns here: {', '.join(head.names)[:300]}",
            path=head.path,
        )
    first, last = min(map(int, minutes)), max(map(int, minutes))

    def canonical(frame: pl.DataFrame, context: Context) -> pl.DataFrame:
        start = _day_ns(context.path)
        context.note("observed",
            f"minutes {first} to {last} of a day were observed; a minute without a row held no invocation", "invocations",
        )  # fmt: skip
        rows = frame.with_row_index("line")
        long = rows.unpivot(
            minutes, index=["line", "HashOwner", "HashApp", "HashFunction", "Trigger"]
        )
        # the nulls of an empty cell are not recorded, its zeros are implicit
        long = long.filter(pl.col("value") > 0).with_columns(
            ((pl.col("variable").cast(pl.Int64) - 1) * _MINUTE_NS + start).alias("arrival_ns")
        )
        return long.sort("arrival_ns", "line", maintain_order=True).select(
            pl.col("HashFunction").alias("func_id"),
            pl.col("HashApp").alias("app_id"),
            pl.col("HashOwner").alias("owner_id"),
            pl.col("Trigger").alias("trigger"),
            "arrival_ns",
            pl.lit(60.0).alias("bin_s"),
            pl.col("value").alias("invocations"),
        )

    fields = (*fmt.fields, *(Field(n, "integer", required=False) for n in minutes))
    return bind_by_name(fmt, head, request, fields=fields, canonical=canonical)


COUNTS = Format(
    name="azure_functions_2019",
    title="Azure Functions 2019: invocations a minute",
    table="invocation_counts",
    syntax=("csv",),
    fields=(
        *_KEYS,
        Field("HashFunction", "text", "", "func_id"),
        Field("Trigger", "text", "", "trigger", required=False),
    ),
    canonical=lambda frame, _context: frame,
    clock="relative",
    source=_SOURCE,
    evidence="real file",
    quirks=(
        "a column's name is its minute of the day, from 1; samples may begin at 480",
        "counts stay counts; zeros are implicit, the observed minutes are in a notice",
        "counted when they completed; there are no cold starts in this trace",
        "the day is the dNN of the file's name",
    ),
    bind=_bind_counts,
    matches=lambda head: (
        {"HashOwner", "HashApp", "HashFunction", "Trigger"} <= set(head.names)
        and bool(_minutes(head))
    ),
    family="azure_functions_2019",
)

_STATS = "function_stats"
_DURATIONS = {
    "Average": ("duration_s", "mean"),
    "Minimum": ("duration_s", "min"),
    "Maximum": ("duration_s", "max"),
    **{
        f"percentile_Average_{p}": ("duration_30s_mean_s", f"p{p}")
        for p in (0, 1, 25, 50, 75, 99, 100)
    },
}
_MEMORY = {
    "AverageAllocatedMb": ("memory_mb", "mean"),
    **{
        f"AverageAllocatedMb_pct{p}": ("memory_mb", f"p{p}")
        for p in (1, 5, 25, 50, 75, 95, 99, 100)
    },
}


def _stats(
    frame: pl.DataFrame, context: Context, found: dict[str, tuple[str, str]], samples: str
) -> pl.DataFrame:
    """One row a statistic. Durations come in seconds already: their cells are read so."""
    keys = ["line", "HashOwner", "HashApp", "HashFunction", samples]
    there = [n for n in found if n in frame.columns]
    long = frame.with_row_index("line").unpivot(there, index=keys).drop_nulls("value")
    name = long["variable"]
    return long.select(
        "line",
        pl.col("HashFunction").alias("func_id"),
        pl.col("HashApp").alias("app_id"),
        pl.col("HashOwner").alias("owner_id"),
        pl.lit(_day_ns(context.path)).alias("arrival_ns"),
        name.replace_strict({n: m for n, (m, _) in found.items()}, return_dtype=pl.String).alias("metric"),
        name.replace_strict({n: s for n, (_, s) in found.items()}, return_dtype=pl.String).alias("stat"),
        pl.col("value"),
        pl.col(samples).alias("samples"),
    ).sort("line", maintain_order=True).drop("line")  # fmt: skip


def _statistics(
    name: str, title: str, found: dict[str, tuple[str, str]], samples: str, seconds: bool
) -> Format:
    unit = "ms" if seconds else "MB"
    return Format(
        name=name,
        title=title,
        table=_STATS,
        syntax=("csv",),
        fields=(
            *_KEYS,
            Field("HashFunction", "text", "", "func_id", required=seconds),
            Field(samples, "integer", "", "samples", required=False),
            *(
                Field(n, "seconds" if seconds else "number", unit, "value", required=False)
                for n in found
            ),
        ),
        canonical=lambda frame, context: _stats(frame, context, found, samples),
        clock="relative",
        source=_SOURCE,
        evidence="real file",
        quirks=(
            "ms become s; cold starts are not in them",
            "percentiles are of 30-second averages (duration_30s_mean_s); minimum and maximum are true",
        )
        if seconds
        else ("of an application; of a function where the table names one",),
        matches=lambda head: (
            {"HashOwner", "HashApp", next(iter(found)), samples, list(found)[-1]} <= set(head.names)
        ),
        family="azure_functions_2019",
        rank=1,
    )


DURATIONS = _statistics(
    "azure_functions_2019_durations", "Azure Functions 2019: durations", _DURATIONS, "Count", True
)
MEMORY = _statistics(
    "azure_functions_2019_memory", "Azure Functions 2019: memory", _MEMORY, "SampleCount", False
)


def _events(frame: pl.DataFrame, _context: Context) -> pl.DataFrame:
    return frame.select(
        (pl.col("end_timestamp") - pl.col("duration")).alias("arrival_ns"),
        pl.format("{}/{}", "app", "func").alias("func_id"),
        pl.col("app").alias("app_id"),
        as_seconds(pl.col("duration")).alias("duration_s"),
        pl.lit("unknown").alias("status"),
    )


EVENTS = Format(
    name="azure_functions_2021",
    title="Azure Functions 2021: invocations",
    table="invocations",
    syntax=("csv",),
    fields=(
        Field("app", "text", "", "app_id"),
        Field("func", "text", "", "func_id"),
        Field("end_timestamp", "clock", "s", "arrival_ns"),
        Field("duration", "clock", "s", "duration_s"),
    ),
    canonical=_events,
    clock="relative",
    source="Azure/AzurePublicDataset (CC-BY-4.0), AzureFunctionsInvocationTrace2021.md",
    evidence="real file",
    quirks=(
        "seconds, whatever the repository's README says",
        "a function is app/func: func is unique in its app only",
        "arrival is end - duration, in which the file is ordered; a duration may be 0",
    ),
    closed=True,
)
FORMATS = (COUNTS, DURATIONS, MEMORY, EVENTS)

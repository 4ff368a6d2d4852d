"""Huawei 2023 and 2025, a column a function: metrics by minute or second.

Layout read from sir-lab/data-release (README_data_release_2023.md and _2025.md). Columns are day, time
(seconds from the start of the data set) and one for each function, a number in 2023
(SoCC 2023) and ``funcName---userID---poolName`` in 2025 (EuroSys 2025). The metric is the folder:
``requests_minute/day_000.csv``, ``quantiles/R2/requests/day_00.csv``; in 2023 it also says the width of a
bin, in 2025 all are minutes. NaN, or nothing, is "no data", and differs from 0. Requests are counts; pods,
cold starts and everything else are series of a metric.
"""

from __future__ import annotations

import json
import re
from pathlib import PurePath

import polars as pl

from ..errors import DataError
from .format import Binding, Context, Field, Format, Head, Request, bind_by_name
from .huawei_runtime import region_of

_COLUMN = {"2023": re.compile(r"\d+"), "2025": re.compile(r"\d+---\d+---pool\d+-\d+-\d+")}
_FOLDER_2023 = re.compile(
    r"(requests|function_delay|platform_delay|cpu_usage|memory_usage|cpu_limit|memory_limit|instances)_(minute|second)"
)
_FOLDER_2025 = re.compile(r"[A-Za-z][A-Za-z_]*?(_avg|_std|_quantile_\d{3})?")
_BIN_S = {"minute": 60.0, "second": 1.0}
COUNTED = "requests"


_DATASET = re.compile(r"(private|public)_dataset")


def _dataset(path: str) -> str | None:
    """Of 2023: functions of the two data sets are numbered from 0 in each, so the set stands as their region."""
    found = _DATASET.search(path)
    return found[1] if found else None


def _is(head: Head, year: str) -> bool:
    names = head.names
    return (
        len(names) > 2
        and names[:2] == ("day", "time")
        and all(_COLUMN[year].fullmatch(n) for n in names[2:])
    )


def _metric(path: str, year: str) -> tuple[str, float] | None:
    """(metric, seconds a bin) of a file, by its folder."""
    folder = PurePath(path).parent.name
    if year == "2023":
        m = _FOLDER_2023.fullmatch(folder)
        return (m[1], _BIN_S[m[2]]) if m else None
    return (folder, 60.0) if _FOLDER_2025.fullmatch(folder) else None


def _bind(fmt: Format, head: Head, request: Request) -> Binding:
    year = "2023" if fmt.name.startswith("huawei_2023") else "2025"
    if not _is(head, year):
        raise DataError(
            f"{fmt.name} needs the columns day, time and one for each function",
            f"columns here: {', '.join(head.names)[:300]}",
            path=head.path,
        )
    found = _metric(head.path, year)
    if found is None:
        raise DataError(
            "the folder of this file does not say what its numbers are",
            "keep it in the folder of the release: requests_minute/day_000.csv (2023), requests/day_00.csv (2025)",
            path=head.path,
        )
    metric, bin_s = found
    functions = list(head.names[2:])
    fields = (*fmt.fields, *(Field(n, "number", required=False, minimum=None) for n in functions))

    def canonical(frame: pl.DataFrame, context: Context) -> pl.DataFrame:
        long = (
            frame.unpivot(functions, index="time")
            .drop_nulls("value")
            .sort("time", maintain_order=True)
        )
        region = region_of(context.path) if year == "2025" else _dataset(context.path)
        if metric != COUNTED:
            labels = {
                n: json.dumps(
                    {"bin_s": bin_s, "func_id": n, **({"region": region} if region else {})}
                )
                for n in functions
            }
            return long.select(
                pl.col("time").alias("arrival_ns"),
                pl.lit(metric).alias("metric"),
                pl.lit("gauge").alias("type"),
                long["variable"]
                .replace_strict(labels, default=None, return_dtype=pl.String)
                .alias("labels"),
                pl.col("value"),
            )
        whole = long["value"].is_between(0, 2**53) & (long["value"] == long["value"].round(0))
        if not whole.all():
            context.note(
                "not-counts",
                "some numbers of requests are no counts and were left out",
                "invocations",
            )
            long = long.filter(whole)
        out = long.select(
            pl.col("variable").alias("func_id"),
            pl.col("time").alias("arrival_ns"),
            pl.lit(bin_s).alias("bin_s"),
            pl.col("value").cast(pl.Int64).alias("invocations"),
        )
        if year == "2025":
            owner = pl.col("func_id").str.extract(r"^\d+---(\d+)---")
            out = out.with_columns(
                owner.alias("owner_id"), pl.lit(region, pl.String).alias("region")
            )
        return out

    return bind_by_name(fmt, head, request, fields=fields, canonical=canonical)


def _made(year: str, counted: bool) -> Format:
    found = "requests" if counted else "metrics"
    return Format(
        name=f"huawei_{year}_{found}",
        title=f"Huawei serverless {found} by function ({year}, wide)",
        table="invocation_counts" if counted else "metric_series",
        syntax=("csv",),
        fields=(
            Field("day", "integer", "d", required=False),
            Field("time", "clock", "s", "arrival_ns"),
        ),
        canonical=lambda frame, _context: frame,
        clock="relative",
        source=f"sir-lab/data-release (CC-BY-4.0), README_data_release_{year}.md",
        evidence="real file",
        quirks=(
            "the metric is the folder, never a column",
            "NaN is no data and differs from 0: a bin without a row was not observed",
            "minutes or seconds by the folder's name" if year == "2023" else "bins are minutes",
        ),
        bind=_bind,
        matches=lambda head: (
            _is(head, year) and ((_metric(head.path, year) or ("",))[0] == COUNTED) == counted
        ),
        family=f"huawei_{year}",
        rank=0 if counted else 1,
    )


FORMATS = tuple(_made(year, counted) for year in ("2025", "2023") for counted in (True, False))

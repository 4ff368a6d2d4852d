"""lambda-perf: daily cold starts of AWS Lambda, ten a configuration (maxday/lambda-perf, Apache-2.0, data/).

A document a day: metadata.generatedAt, and runtimeData, a configuration each, with long keys until 2023 (the
first without displayName and architecture) and short ones later. Init Durations are ms: AWS Lambda's own
figure, of the runtime's init alone, so ``total_s`` is null. Every sample is a row. When each one began is
not recorded: arrival is the day's generatedAt for all. Some days are empty, some configurations have fewer
than ten samples.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

import polars as pl

from .format import Binding, Context, Field, Format, Head, Request, bind_by_name

_LONG = {
    "r": "runtime", "d": "displayName", "i": "initDurations", "m": "memorySize", "a": "architecture", "p": "packageType",
    "mu": "averageMemoryUsed", "ad": "averageDuration", "acd": "averageColdStartDuration",
}  # fmt: skip
_PREFIX = "lambda-perf-"
_MEANS = ("mu", "ad", "acd")


def _unfold(value: Any, _context: Context) -> Iterator[Mapping[str, Any]]:
    if not isinstance(value, dict) or not isinstance(value.get("runtimeData"), list):
        raise ValueError("no list runtimeData in it")
    stamp = value["metadata"]["generatedAt"]
    for found in value["runtimeData"]:
        config = {k: found.get(k, found.get(long)) for k, long in _LONG.items()}
        shared = {
            "generatedAt": stamp,
            "func": config["r"],
            "runtime": config["d"] or _plain(config["r"]),
            "memory": config["m"],
            "arch": config["a"],
            "package": config["p"],
            **{_LONG[k]: config[k] for k in _MEANS if config[k] is not None},
        }
        for sample in config["i"] or ():
            yield {**shared, "init": sample}


def _plain(name: Any) -> Any:
    """The runtime in the identifier of the first files: ``lambda-perf-go1x`` → ``go1x``."""
    return name.removeprefix(_PREFIX) if isinstance(name, str) else name


def _canonical(frame: pl.DataFrame, context: Context) -> pl.DataFrame:
    if frame.height:
        context.note("stamp-of-the-day", "the start of each cold start is not recorded: arrival is when its day's file was made", "arrival_ns")  # fmt: skip
    return frame.select(
        pl.col("generatedAt").alias("arrival_ns"),
        pl.col("func").alias("func_id"),
        pl.col("runtime"),
        pl.col("init").alias("init_s"),
        pl.col("memory").alias("memory_limit_mb"),
        pl.col("arch"),
        pl.col("package").alias("package_type"),
    )


def _bind(fmt: Format, head: Head, request: Request) -> Binding:
    short = "runtimeData.i" in head.keys
    return replace(bind_by_name(fmt, head, request), version="short keys" if short else "long keys")


FORMATS = (
    Format(
        name="lambda_perf",
        title="lambda-perf: AWS Lambda init durations",
        table="cold_starts",
        syntax=("json",),
        fields=(
            Field("generatedAt", "instant", "UTC", "arrival_ns", minimum=None),
            Field("func", "text", "", "func_id"),
            Field("runtime", "text", "", "runtime", required=False),
            Field("init", "seconds", "ms", "init_s"),
            Field("memory", "tokens", "MB", "memory_limit_mb", required=False),
            Field("arch", "text", "", "arch", required=False),
            Field("package", "text", "", "package_type", required=False),
        ),
        canonical=_canonical,
        clock="utc",
        source="maxday/lambda-perf (Apache-2.0), data/",
        evidence="real file",
        quirks=(
            "Init Duration alone (ms): no scheduling, no allocation; total_s is null",
            "a row a sample; arrival is the day's stamp for all of them",
            "two generations of keys; days may be empty",
        ),
        bind=_bind,
        matches=lambda head: {"metadata.generatedAt", "runtimeData"} <= head.keys,
        unfold=_unfold,
    ),
)

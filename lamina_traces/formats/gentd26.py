"""GenTD26: model loads and utilization of a serverless image-generation service (Alibaba, SoCC 2025).

Layout read from alibaba/clusterdata, cluster-trace-v2026-GenAI/README.md. Every file has timestamp_anon (s),
value and container_ip (a hash of the address; "NULL" or None where there was none), in varying order; what
the value is stands in the file's name alone. Loads are ms and become cold starts with ``model_load_s``, all
else series of a metric.
"""

from __future__ import annotations

from pathlib import PurePath

import polars as pl

from ..errors import DataError
from .durations import over
from .format import Binding, Context, Field, Format, Head, Request, bind_by_name
from .hosts import host_names

_LOADS = {
    "pipeline_update_latency": "pipeline",
    "base_model_update_latency": "base_model",
    "lora_update_latency": "lora",
    "controlnet_latency": "controlnet",
}
_SERIES = {
    "qps": "qps", "queue_size": "queue_size", "queue_rt": "queue_rt_ms", "pod_memory_util": "memory_util_percent",
    "pod_gpu_duty_cycle": "gpu_duty_cycle_percent", "pod_gpu_memory_used_bytes": "gpu_memory_used_bytes",
    "model_predict": "predict_ms", "pipeline_inference": "pipeline_inference_ms",
}  # fmt: skip
_NAMES = {"timestamp_anon", "value", "container_ip"}
_FIELDS = (
    Field("timestamp_anon", "clock", "s", "arrival_ns"),
    Field("value", "number", required=False, minimum=None),
    Field("container_ip", "text", required=False),
    Field("request_type", "text", required=False),
)


def _what(path: str, known: dict[str, str]) -> str | None:
    stem = PurePath(path).name
    return next((what for start, what in known.items() if stem.startswith(start)), None)


def _containers(frame: pl.DataFrame, context: Context) -> pl.Series:
    name = frame["container_ip"].str.strip_chars()
    return host_names(name.set(name.is_in(["NULL", "None", ""]).fill_null(False), None), context)


def _loads(frame: pl.DataFrame, context: Context) -> pl.DataFrame:
    return frame.select(
        pl.col("timestamp_anon").alias("arrival_ns"),
        pl.lit(_what(context.path, _LOADS)).alias("func_id"),
        _containers(frame, context).alias("pod_id"),
        over(pl.col("value"), 1000).alias("model_load_s"),
    )


def _series(frame: pl.DataFrame, context: Context) -> pl.DataFrame:
    return frame.select(
        pl.col("timestamp_anon").alias("arrival_ns"),
        pl.lit(_what(context.path, _SERIES)).alias("metric"),
        pl.lit("gauge").alias("type"),
        pl.when(pl.col("request_type").is_not_null())
        .then(pl.struct("request_type").struct.json_encode())
        .alias("labels"),
        _containers(frame, context).alias("host"),
        pl.col("value"),
    )


def _bind(fmt: Format, head: Head, request: Request) -> Binding:
    if _what(head.path, {**_LOADS, **_SERIES}) is None:
        raise DataError(
            "this file's name does not say what its values are",
            "keep the names of the release, for instance lora_update_latency_anon.csv",
            path=head.path,
        )
    return bind_by_name(fmt, head, request)


def _made(name: str, title: str, table: str, loads: bool) -> Format:
    return Format(
        name=name,
        title=title,
        table=table,
        syntax=("csv",),
        fields=_FIELDS,
        canonical=_loads if loads else _series,
        clock="relative",
        source="alibaba/clusterdata, cluster-trace-v2026-GenAI/README.md",
        evidence="documentation",
        quirks=(
            "what a value is stands in the file's name",
            "loads are ms and are not whole cold starts"
            if loads
            else "the unit is in the metric's name",
        ),
        bind=_bind,
        matches=lambda head: (
            set(head.names) >= _NAMES and (_what(head.path, _SERIES) is None) == loads
        ),
        family="gentd26",
        rank=0 if loads else 1,
    )


LOADS = _made("gentd26_loads", "GenTD26: loads of models and adapters", "cold_starts", True)
SERIES = _made(
    "gentd26_series", "GenTD26: queues, latencies and utilization", "metric_series", False
)
FORMATS = (LOADS, SERIES)

"""OpenAI usage exports: what an organization used, summed over buckets of time.

Layout read from the API reference of OpenAI's organization usage endpoint (completions): a page of buckets
(``start_time``, ``end_time`` in Unix seconds) with results by whatever the export was grouped. Sums are no
requests: there is no arrival, length or latency of any one of them. So each count becomes a sample of
``metric_series`` at the start of its bucket, whose width is a label.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

import polars as pl

from .format import Context, Field, Format

_RESULT = "organization.usage.completions.result"
_COUNTS = (
    "num_model_requests", "input_tokens", "input_cached_tokens", "input_audio_tokens",
    "output_tokens", "output_audio_tokens",
)  # fmt: skip
_LABELS = ("batch", "model", "project_id", "user_id")


def _unfold(value: Any, _context: Context) -> Iterator[Mapping[str, Any]]:
    if not isinstance(value, dict) or not isinstance(value.get("data"), list):
        raise ValueError("no list of buckets in it")
    for bucket in value["data"]:
        start, end = bucket.get("start_time"), bucket.get("end_time")
        for result in bucket.get("results") or []:
            if result.get("object") not in (None, _RESULT):
                continue
            labels = {k: str(result[k]) for k in _LABELS if result.get(k) is not None}
            if type(start) is int and type(end) is int:
                labels["window_s"] = str(end - start)
            for name in _COUNTS:
                if result.get(name) is not None:
                    yield {
                        "start": start,
                        "metric": f"openai_usage_{name}",
                        "labels": json.dumps(dict(sorted(labels.items()))),
                        "model": result.get("model"),
                        "value": result[name],
                    }


def _canonical(frame: pl.DataFrame, _context: Context) -> pl.DataFrame:
    return frame.select(
        pl.col("start").alias("arrival_ns"),
        pl.col("metric"),
        pl.lit("gauge").alias("type"),
        pl.col("labels"),
        pl.col("model"),
        pl.col("value"),
    )


FORMATS = (
    Format(
        name="openai_usage",
        title="OpenAI usage export (sums by bucket)",
        table="metric_series",
        syntax=("json", "jsonl"),
        fields=(
            Field("start", "clock", "s", "arrival_ns"),
            Field("metric", "text", "", "metric"),
            Field("labels", "text", "", "labels"),
            Field("model", "text", "", "model", required=False),
            Field("value", "number", "", "value"),
        ),
        canonical=_canonical,
        unfold=_unfold,
        matches=lambda head: {"data.start_time", "data.results.num_model_requests"} <= head.keys,
        clock="utc",
        absolute=True,
        source="OpenAI API reference, organization usage: completions",
        evidence="documentation",
        quirks=(
            "sums over buckets, not requests: no arrivals or lengths can be fitted to them",
            "the width of the bucket is the label window_s; ids of keys are left out",
        ),
    ),
)

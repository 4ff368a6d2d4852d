"""inference-perf's per-request report: per_request_lifecycle_metrics.json.

Layout read from inference-perf 0.7.0 (inference_perf/reportgen/base.py: build_per_request_lifecycle_entry,
inference_perf/apis/base.py), and older reports that keep counts and token times in ``info`` itself. Stamps
are a monotonic clock: they are moved so that the first request of the file starts at 0. ``request`` and
``response`` are text and left out. ttft_s and tpot_s equal the report's own computed_metrics.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import polars as pl

from .durations import as_seconds, per_token
from .format import ROW_EXTRA, Context, Field, Format, Head

_TEXT = ("request", "response")


def _unfold(value: Any, context: Context) -> Iterator[Mapping[str, Any]]:
    if not isinstance(value, dict) or "start_time" not in value:
        raise ValueError("no start_time in it")
    info, error = value.get("info") or {}, value.get("error") or {}
    sent, got = info.get("request_metrics") or {}, info.get("response_metrics") or info
    times = got.get("output_token_times") or []
    usage = got.get("server_usage") or {}
    details = usage.get("prompt_tokens_details") or {}
    yield {
        **context.private(
            {k: value.get(k) for k in _TEXT} | {"error.error_msg": error.get("error_msg")}
        ),
        "start": value["start_time"],
        "end": value.get("end_time"),
        "first": times[0] if times else None,
        "last": times[-1] if times else None,
        "input": (sent.get("text") or {}).get("input_tokens", info.get("input_tokens")),
        "output": None if error else got.get("output_tokens"),
        "cached": details.get("cached_tokens"),
        "adapter": info.get("lora_adapter"),
        "code": error.get("error_type"),
        "failed": bool(error),
    }


def _held(frame: pl.DataFrame, context: Context) -> pl.DataFrame:
    """Keep the rows of a file, since the earliest may come last."""
    if frame.height:
        files = context.state.setdefault("measured files", {})
        files.setdefault(context.path, []).append(frame)
    return _requests(frame.clear())


def _rest(context: Context) -> pl.DataFrame:
    files = context.state.pop("measured files", {})
    if not files:
        return pl.DataFrame()
    return pl.concat([_requests(pl.concat(f)) for f in files.values()])


def _requests(frame: pl.DataFrame) -> pl.DataFrame:
    zero = pl.col("start").min()
    start, first = pl.col("start"), pl.col("first")
    last = pl.coalesce("last", "end")
    code = pl.col("code").str.to_lowercase()
    good = ~pl.col("failed")
    return frame.select(
        (start - zero).alias("arrival_ns"),
        pl.col("adapter"),
        pl.col("input").alias("input_tokens"),
        pl.col("output").alias("output_tokens"),
        pl.col("cached").alias("cached_input_tokens"),
        pl.when(pl.col("failed") & code.str.contains("timeout"))
        .then(pl.lit("timeout"))
        .when("failed")
        .then(pl.lit("error"))
        .otherwise(pl.lit("ok"))
        .alias("status"),
        pl.col("code").alias("error_code"),
        (first - zero).alias("first_token_ns"),
        (last - zero).alias("last_token_ns"),
        as_seconds(first - start).alias("ttft_s"),
        per_token(as_seconds(last - first), "output").alias("tpot_s"),
        pl.when(good).then(as_seconds(last - start)).alias("e2e_s"),
        pl.col(ROW_EXTRA).alias("extra"),
    )


def _matches(head: Head) -> bool:
    info = ("info.response_metrics", "info.output_token_times", "info.input_tokens")
    return {"start_time", "end_time", "info"} <= head.keys and bool(set(info) & head.keys)


FORMATS = (
    Format(
        name="inference_perf",
        title="inference-perf per-request report",
        table="llm_requests",
        syntax=("json", "jsonl"),
        fields=(
            Field("start", "clock", "s", "arrival_ns"),
            Field("end", "clock", "s", "last_token_ns", required=False),
            Field("first", "clock", "s", "first_token_ns", required=False),
            Field("last", "clock", "s", "last_token_ns", required=False),
            Field("input", "tokens", "tokens", "input_tokens", required=False),
            Field("output", "tokens", "tokens", "output_tokens", required=False),
            Field("cached", "tokens", "tokens", "cached_input_tokens", required=False),
            Field("adapter", "text", "", "adapter", required=False),
            Field("code", "text", "", "error_code", required=False),
            Field("failed", "flag", "", "status"),
        ),
        canonical=_held,
        rest=_rest,
        unfold=_unfold,
        matches=_matches,
        clock="relative",
        nature="measured",
        source="inference-perf 0.7.0 (Apache-2.0), inference_perf/reportgen/base.py and apis/base.py",
        evidence="importer's loader",
        quirks=(
            "a monotonic clock: arrivals count from the first request of each file",
            "measured by the client; a scheduled time is not in the report",
            "with a single token time inference-perf gives no time to first token, here it is ttft_s",
            "output tokens are the client's count, which may differ from the server's",
        ),
    ),
)

"""SGLang's request metrics export: one JSON object a finished request.

Layout read from sglang 0.5.23 (srt/observability/request_metrics_exporter.py, req_time_stats.py,
managers/tokenizer_manager.py), written with --export-metrics-to-file to
``sglang-request-metrics-<hour>.log``. Stamps are Unix seconds, durations seconds from the reception of the
request. ``request_parameters`` is the request as text, prompt included where the log level says so.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import polars as pl

from .durations import as_ns, per_token
from .format import Context, Field, Format

_FIELD_KEYS = (
    "id", "request_received_ts", "request_finished_ts", "forward_entry_time", "prompt_tokens",
    "completion_tokens", "image_tokens", "audio_tokens", "video_tokens", "reasoning_tokens",
    "cached_tokens", "queue_time", "first_token_latency", "e2e_latency", "num_retractions",
)  # fmt: skip
_EXTRA = (
    "weight_version", "dp_rank", "decode_throughput", "cached_tokens_details", "prefill_finished_time",
    "response_sent_to_client_ts", "api_server_dispatch_finish_ts", "spec_accept_rate",
    "spec_accept_length", "spec_num_correct_drafts", "spec_num_proposed_drafts", "spec_verify_ct",
)  # fmt: skip
"""other keys may hold anything that a deployment adds, and are taken for text"""


def _unfold(value: Any, context: Context) -> Iterator[Mapping[str, Any]]:
    if not isinstance(value, dict):
        raise ValueError("not a JSON object")
    known = {*_FIELD_KEYS, *_EXTRA, "finish_reason"}
    reason = value.get("finish_reason")
    told = reason if isinstance(reason, dict) else {"type": reason}
    yield {
        **{k: value[k] for k in (*_FIELD_KEYS, *_EXTRA) if value.get(k) is not None},
        **context.private(
            {k: v for k, v in value.items() if k not in known}
            | {"finish_reason.message": told.get("message")}
        ),
        "finish": told.get("type"),
        "error": told.get("err_type") or told.get("status_code"),
    }


def _instant(name: str, after: pl.Expr) -> pl.Expr:
    """A stamp as recorded, else the arrival and a duration."""
    later = pl.col("request_received_ts") + as_ns(after)
    return pl.coalesce(name, later)


def _canonical(frame: pl.DataFrame, _context: Context) -> pl.DataFrame:
    ttft, e2e = pl.col("first_token_latency"), pl.col("e2e_latency")
    aborted = pl.col("finish") == "abort"
    return frame.select(
        pl.col("id").alias("request_id"),
        pl.col("request_received_ts").alias("arrival_ns"),
        pl.col("prompt_tokens").alias("input_tokens"),
        pl.col("completion_tokens").alias("output_tokens"),
        pl.col("image_tokens"),
        pl.col("audio_tokens"),
        pl.col("video_tokens"),
        pl.col("reasoning_tokens"),
        pl.col("cached_tokens").alias("cached_input_tokens"),
        pl.when(aborted & pl.col("error").is_not_null())
        .then(pl.lit("error"))
        .when(aborted)
        .then(pl.lit("cancelled"))
        .when(pl.col("finish").is_null())
        .then(pl.lit("unknown"))
        .otherwise(pl.lit("ok"))
        .alias("status"),
        pl.col("error").alias("error_code"),
        pl.col("finish").alias("finish_reason"),
        pl.col("forward_entry_time").alias("scheduled_ns"),
        (pl.col("request_received_ts") + as_ns(ttft)).alias("first_token_ns"),
        _instant("request_finished_ts", e2e).alias("last_token_ns"),
        pl.col("queue_time").alias("queue_s"),
        ttft.alias("ttft_s"),
        per_token(e2e - ttft, "completion_tokens").alias("tpot_s"),
        e2e.alias("e2e_s"),
        pl.col("num_retractions").alias("preemptions"),
    )


FORMATS = (
    Format(
        name="sglang_metrics",
        title="SGLang request metrics export",
        table="llm_requests",
        syntax=("jsonl",),
        fields=(
            Field("id", "text", "", "request_id"),
            Field("request_received_ts", "clock", "s", "arrival_ns", required=False),
            Field("request_finished_ts", "clock", "s", "last_token_ns", required=False),
            Field("forward_entry_time", "clock", "s", "scheduled_ns", required=False),
            Field("prompt_tokens", "tokens", "tokens", "input_tokens"),
            Field("completion_tokens", "tokens", "tokens", "output_tokens"),
            Field("image_tokens", "tokens", "tokens", "image_tokens", required=False),
            Field("audio_tokens", "tokens", "tokens", "audio_tokens", required=False),
            Field("video_tokens", "tokens", "tokens", "video_tokens", required=False),
            Field("reasoning_tokens", "tokens", "tokens", "reasoning_tokens", required=False),
            Field("cached_tokens", "tokens", "tokens", "cached_input_tokens", required=False),
            Field("finish", "text", "", "finish_reason", required=False),
            Field("error", "text", "", "error_code", required=False),
            Field("queue_time", "seconds", "s", "queue_s", required=False, minimum=None),
            Field("first_token_latency", "seconds", "s", "ttft_s", required=False, minimum=None),
            Field("e2e_latency", "seconds", "s", "e2e_s", required=False, minimum=None),
            Field("num_retractions", "tokens", "", "preemptions", required=False),
        ),
        canonical=_canonical,
        unfold=_unfold,
        matches=lambda head: (
            {"request_parameters", "prompt_tokens", "e2e_latency"} <= set(head.names)
        ),
        clock="utc",
        absolute=True,
        source="sglang 0.5.23 (Apache-2.0), srt/observability/request_metrics_exporter.py",
        evidence="documentation",
        quirks=(
            "stamps are there with --enable-metrics only; else the rows have lengths and no arrivals",
            "lines are in the order in which requests finished",
            "a finish_reason of abort is an error where it names one, else cancelled",
        ),
    ),
)

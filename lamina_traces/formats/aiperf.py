"""aiperf's per-request records: profile_export.jsonl.

Layout read from aiperf 0.13.0 (aiperf/common/models/record_models.py: MetricRecordInfo; aiperf/metrics/types).
Stamps are Unix nanoseconds of the client; each metric is an object of value and unit. aiperf's
inter_token_latency divides by the tokens after the first chunk, which may hold several; tpot_s here divides
by all tokens but one. Error messages are left out.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from decimal import Decimal, InvalidOperation
from typing import Any

import polars as pl

from .durations import as_ns, per_token
from .format import Context, Field, Format, Head

_PER_SECOND = {"ns": 10**9, "us": 10**6, "ms": 10**3, "sec": 1, "s": 1}
_TIMES = {"ttft": "time_to_first_token", "e2e": "request_latency"}
_COUNTS = {
    "input": "input_sequence_length",
    "output": "output_sequence_length",
    "reasoning": "reasoning_token_count",
    "cached": "usage_prompt_cache_read_tokens",
}


def _seconds(metric: Any) -> str | None:
    """A metric of time in seconds, exactly. Raises ValueError for an unknown unit."""
    if not isinstance(metric, dict) or metric.get("value") is None:
        return None
    per = _PER_SECOND.get(str(metric.get("unit")))
    if per is None:
        raise ValueError("a time metric without a known unit")
    try:
        return str(Decimal(str(metric["value"])) / per)
    except InvalidOperation:
        raise ValueError("a time metric that is no number") from None


def _unfold(value: Any, context: Context) -> Iterator[Mapping[str, Any]]:
    if not isinstance(value, dict) or not isinstance(value.get("metadata"), dict):
        raise ValueError("no metadata in it")
    meta, metrics, error = value["metadata"], value.get("metrics") or {}, value.get("error") or {}
    turn = meta.get("turn_index")
    counts = {
        k: (metrics.get(m) or {}).get("value") if isinstance(metrics.get(m), dict) else None
        for k, m in _COUNTS.items()
    }
    row = {
        **context.private({"error.message": error.get("message")}),
        **counts,
        **{k: _seconds(metrics.get(m)) for k, m in _TIMES.items()},
        "request": meta.get("x_request_id"),
        "session": meta.get("x_correlation_id") or meta.get("conversation_id"),
        "turn": turn + 1 if type(turn) is int else None,
        "start": meta.get("request_start_ns"),
        "end": meta.get("request_end_ns"),
        "cancelled": bool(meta.get("was_cancelled")),
        "failed": bool(error),
        "code": error.get("type") or error.get("code"),
        "phase": meta.get("benchmark_phase"),
        "issued_ns": meta.get("credit_issued_ns"),
        "agent_depth": meta.get("agent_depth") or None,
    }
    yield {k: v for k, v in row.items() if v is not None}


def _canonical(frame: pl.DataFrame, _context: Context) -> pl.DataFrame:
    code = pl.col("code").str.to_lowercase()
    return frame.select(
        pl.col("request").alias("request_id"),
        pl.col("start").alias("arrival_ns"),
        pl.col("session").alias("session_id"),
        pl.col("turn"),
        pl.col("input").alias("input_tokens"),
        pl.col("output").alias("output_tokens"),
        pl.col("reasoning").alias("reasoning_tokens"),
        pl.col("cached").alias("cached_input_tokens"),
        pl.when("cancelled")
        .then(pl.lit("cancelled"))
        .when(pl.col("failed") & code.str.contains("timeout"))
        .then(pl.lit("timeout"))
        .when("failed")
        .then(pl.lit("error"))
        .otherwise(pl.lit("ok"))
        .alias("status"),
        pl.col("code").alias("error_code"),
        (pl.col("start") + as_ns(pl.col("ttft"))).alias("first_token_ns"),
        pl.col("end").alias("last_token_ns"),
        pl.col("ttft").alias("ttft_s"),
        per_token(pl.col("e2e") - pl.col("ttft"), "output").alias("tpot_s"),
        pl.col("e2e").alias("e2e_s"),
    )


def _matches(head: Head) -> bool:
    return {"metadata.request_start_ns", "metadata.request_end_ns", "metrics"} <= head.keys


FORMATS = (
    Format(
        name="aiperf",
        title="aiperf per-request records (profile_export.jsonl)",
        table="llm_requests",
        syntax=("jsonl",),
        fields=(
            Field("request", "text", "", "request_id", required=False),
            Field("session", "text", "", "session_id", required=False),
            Field("turn", "tokens", "", "turn", required=False),
            Field("start", "clock", "ns", "arrival_ns"),
            Field("end", "clock", "ns", "last_token_ns", required=False),
            Field("input", "tokens", "tokens", "input_tokens", required=False),
            Field("output", "tokens", "tokens", "output_tokens", required=False),
            Field("reasoning", "tokens", "tokens", "reasoning_tokens", required=False),
            Field("cached", "tokens", "tokens", "cached_input_tokens", required=False),
            Field("ttft", "seconds", "s", "ttft_s", required=False),
            Field("e2e", "seconds", "s", "e2e_s", required=False),
            Field("cancelled", "flag", "", "status"),
            Field("failed", "flag", "", "status"),
            Field("code", "text", "", "error_code", required=False),
        ),
        canonical=_canonical,
        unfold=_unfold,
        matches=_matches,
        clock="utc",
        absolute=True,
        nature="measured",
        source="aiperf 0.13.0 (Apache-2.0), aiperf/common/models/record_models.py and aiperf/metrics/types",
        evidence="importer's loader",
        quirks=(
            "measured by the client; arrivals are the instants of sending",
            "inter_token_latency is replaced by tpot_s, which divides by all output tokens but one",
            "records of the warm-up, where exported, have phase warmup in extra",
        ),
    ),
)

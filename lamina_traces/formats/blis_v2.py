"""BLIS TraceV2: the CSV of inference-sim, beside its YAML header.

Layout read from inference-sim/inference-sim, sim/workload/tracev2.go: 27 columns and optional ones at the
end, times in microseconds. Its writer puts 0 for what was not recorded, and says that this loses
information: 0 is read as null in the stamps after the arrival, the deadline and the counts by
modality. Columns without a canonical one are kept in extra as they were written. The YAML header is not read.
"""

from __future__ import annotations

import polars as pl

from .durations import as_seconds, per_token
from .format import Context, Field, Format
from .links import next_index

_STATUS = ("ok", "error", "timeout", "incomplete")
_ZERO_IS_NULL = {
    "deadline_us": "deadline_ns",
    "send_time_us": "send_ns",
    "first_chunk_time_us": "first_token_ns",
    "last_chunk_time_us": "last_token_ns",
    "text_tokens": "text_tokens",
    "image_tokens": "image_tokens",
    "audio_tokens": "audio_tokens",
    "video_tokens": "video_tokens",
}


def _canonical(frame: pl.DataFrame, _context: Context) -> pl.DataFrame:
    def some(name: str) -> pl.Expr:
        return pl.when(pl.col(name) != 0).then(pl.col(name))

    def since(name: str) -> pl.Expr:
        return as_seconds(some(name) - pl.col("arrival_time_us"))

    ratio = pl.when((pl.col("reason_ratio") > 0) & (pl.col("reason_ratio") <= 1)).then(
        "reason_ratio"
    )
    status = pl.col("status").str.to_lowercase()
    first, last = since("first_chunk_time_us"), since("last_chunk_time_us")
    text = {
        "client_id": "client_id", "tenant_id": "tenant_id", "slo_class": "slo_class",
        "session_id": "session_id", "finish_reason": "finish_reason",
    }  # fmt: skip
    return frame.select(
        pl.col("request_id"),
        pl.col("arrival_time_us").alias("arrival_ns"),
        pl.col("model"),
        pl.col("model").alias("model_raw"),
        *(pl.when(pl.col(n) != "").then(n).alias(to) for n, to in text.items()),
        pl.when(pl.col("session_id") != "").then(next_index("round_index")).alias("turn"),
        pl.col("input_tokens"),
        pl.col("output_tokens"),
        *(some(n).alias(to) for n, to in _ZERO_IS_NULL.items()),
        # the ratio is of the output
        (pl.col("output_tokens") * ratio).round(0).cast(pl.Int32).alias("reasoning_tokens"),
        pl.when(status.is_in(_STATUS)).then(status).otherwise(pl.lit("unknown")).alias("status"),
        first.alias("ttft_s"),
        per_token(last - first, "output_tokens").alias("tpot_s"),
        last.alias("e2e_s"),
        pl.col("streaming"),
        pl.col("vllm_priority").alias("priority"),
        pl.col("adapter"),
    )  # fmt: skip


_FIELDS = (
    Field("request_id", "text", "", "request_id"),
    Field("client_id", "text", "", "client_id", required=False),
    Field("tenant_id", "text", "", "tenant_id", required=False),
    Field("slo_class", "text", "", "slo_class", required=False),
    Field("session_id", "text", "", "session_id", required=False),
    Field("round_index", "tokens", "", "turn"),
    Field("streaming", "flag", "", "streaming", required=False),
    Field("input_tokens", "tokens", "tokens", "input_tokens"),
    Field("output_tokens", "tokens", "tokens", "output_tokens"),
    Field("text_tokens", "tokens", "tokens", "text_tokens", required=False),
    Field("image_tokens", "tokens", "tokens", "image_tokens", required=False),
    Field("audio_tokens", "tokens", "tokens", "audio_tokens", required=False),
    Field("video_tokens", "tokens", "tokens", "video_tokens", required=False),
    Field("reason_ratio", "number", "", "reasoning_tokens", required=False),
    Field("model", "text", "", "model", required=False),
    Field("deadline_us", "clock", "us", "deadline_ns", required=False),
    Field("arrival_time_us", "clock", "us", "arrival_ns"),
    Field("send_time_us", "clock", "us", "send_ns", required=False),
    Field("first_chunk_time_us", "clock", "us", "first_token_ns", required=False),
    Field("last_chunk_time_us", "clock", "us", "last_token_ns", required=False),
    Field("status", "text", "", "status", required=False),
    Field("finish_reason", "text", "", "finish_reason", required=False),
    Field("vllm_priority", "tokens", "", "priority", required=False, minimum=None),
    Field("adapter", "text", "", "adapter", required=False),
)

FORMATS = (
    Format(
        name="blis_v2",
        title="BLIS TraceV2 (inference-sim)",
        table="llm_requests",
        syntax=("csv",),
        fields=_FIELDS,
        canonical=_canonical,
        clock="relative",
        source="inference-sim/inference-sim (Apache-2.0), sim/workload/tracev2.go",
        evidence="importer's loader",
        matches=lambda head: (
            {"slo_class", "round_index", "arrival_time_us", "last_chunk_time_us", "input_tokens"}
            <= set(head.names)
        ),
        quirks=(
            "microseconds; 0 stands for not recorded in stamps, deadlines and counts by modality",
            "round_index counts from 0; error messages are left out",
            "the YAML header beside the CSV is not read",
        ),
    ),
)

"""Dynamo request traces: ``request_end`` records of NVIDIA Dynamo's frontend, with prefix hashes.

Layout read from ai-dynamo/dynamo (lib/llm/src/request_trace/types.rs, lib/llm/src/agents/trace/types.rs,
docs/agents/agent-tracing.md): schemas dynamo.request.trace.v1 and dynamo.agent.trace.v1, bare or wrapped in
``event`` by the sink. Stamps are Unix milliseconds, durations milliseconds. Hashes are chained over blocks
of ``trace_block_size`` tokens and 64 bits wide. Tool events and payload records are no requests; payloads are
left out.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import polars as pl

from .durations import as_ns, per_token
from .format import Context, Field, Format, Head

_SCHEMAS = ("dynamo.request.trace.v1", "dynamo.agent.trace.v1")
_MEASURES = ("prefill_time_ms", "kv_hit_rate", "kv_transfer_estimated_latency_ms", "queue_depth", "avg_itl_ms")  # fmt: skip
_STATUS = {"error": "error", "cancelled": "cancelled", "canceled": "cancelled"}


def _unfold(value: Any, _context: Context) -> Iterator[Mapping[str, Any]]:
    if not isinstance(value, dict):
        raise ValueError("not a JSON object")
    inner = value.get("event")
    event: Mapping[str, Any] = inner if isinstance(inner, dict) else value
    if event.get("schema") not in _SCHEMAS:
        raise ValueError("no record of a known Dynamo schema")
    if event.get("event_type") != "request_end":
        return
    request, who = event["request"], event.get("agent_context") or {}
    replay = request.get("replay") or {}
    reason = (request.get("finish_reason_metadata") or {}).get("finish_reason")
    chain = who.get("trajectory_id") or who.get("program_id")
    run = who.get("session_id") if chain else None
    worker = request.get("worker") or {}
    row = {
        **{k: request.get(k) for k in _MEASURES if request.get(k) is not None},
        **{f"worker.{k}": v for k, v in worker.items()},
        "request_id": request.get("request_id"),
        "caller": request.get("x_request_id"),
        "model": request.get("model"),
        "workload": who.get("session_type_id") or who.get("workflow_type_id"),
        "session": chain or who.get("session_id"),
        "parent": who.get("parent_trajectory_id") or who.get("parent_program_id") or who.get("parent_session_id"),
        "run": run or who.get("workflow_id"),
        "received": request.get("request_received_ms"),
        "ended": event.get("event_time_unix_ms"),
        "input": request.get("input_tokens", replay.get("input_length")),
        "output": request.get("output_tokens"),
        "cached": request.get("cached_tokens"),
        "block": replay.get("trace_block_size"),
        "hashes": replay.get("input_sequence_hashes"),
        "reason": reason if isinstance(reason, str) else None,
        "queue": request.get("prefill_wait_time_ms"),
        "ttft": request.get("ttft_ms"),
        "total": request.get("total_time_ms"),
    }  # fmt: skip
    yield {k: v for k, v in row.items() if v is not None}


def _canonical(frame: pl.DataFrame, _context: Context) -> pl.DataFrame:
    lasted = as_ns(pl.col("total"))
    arrival = pl.coalesce("received", pl.col("ended") - lasted)
    ttft, e2e = pl.col("ttft"), pl.col("total")
    reason = pl.col("reason").str.to_lowercase()
    return frame.select(
        pl.col("request_id"),
        arrival.alias("arrival_ns"),
        pl.col("workload"),
        pl.col("model"),
        pl.col("model").alias("model_raw"),
        pl.col("session").alias("session_id"),
        pl.col("run").alias("workflow_id"),
        pl.col("input").alias("input_tokens"),
        pl.col("output").alias("output_tokens"),
        pl.col("cached").alias("cached_input_tokens"),
        pl.when(pl.col("hashes").is_not_null()).then("block").alias("prefix_block_size"),
        pl.col("hashes").alias("prefix_hashes"),
        pl.when(reason.is_null())
        .then(pl.lit("unknown"))
        .otherwise(reason.replace_strict(_STATUS, default="ok"))
        .alias("status"),
        pl.col("reason").alias("finish_reason"),
        (arrival + as_ns(ttft)).alias("first_token_ns"),
        (arrival + lasted).alias("last_token_ns"),
        pl.col("queue").alias("queue_s"),
        ttft.alias("ttft_s"),
        per_token(e2e - ttft, "output").alias("tpot_s"),
        e2e.alias("e2e_s"),
    )


def _matches(head: Head) -> bool:
    base = {"schema", "event_type", "event_time_unix_ms"}
    return base <= head.keys or {f"event.{k}" for k in base} <= head.keys


FORMATS = (
    Format(
        name="dynamo",
        title="Dynamo request and agent trace",
        table="llm_requests",
        syntax=("jsonl",),
        fields=(
            Field("request_id", "text", "", "request_id"),
            Field("model", "text", "", "model", required=False),
            Field("workload", "text", "", "workload", required=False),
            Field("session", "text", "", "session_id", required=False),
            Field("run", "text", "", "workflow_id", required=False),
            Field("received", "clock", "ms", "arrival_ns", required=False),
            Field("ended", "clock", "ms", "last_token_ns"),
            Field("input", "tokens", "tokens", "input_tokens", required=False),
            Field("output", "tokens", "tokens", "output_tokens", required=False),
            Field("cached", "tokens", "tokens", "cached_input_tokens", required=False),
            Field("block", "tokens", "tokens", "prefix_block_size", required=False, minimum=1),
            Field("hashes", "ids", "", "prefix_hashes", required=False),
            Field("reason", "text", "", "finish_reason", required=False),
            Field("queue", "seconds", "ms", "queue_s", required=False),
            Field("ttft", "seconds", "ms", "ttft_s", required=False),
            Field("total", "seconds", "ms", "e2e_s", required=False),
        ),
        canonical=_canonical,
        unfold=_unfold,
        matches=_matches,
        clock="utc",
        absolute=True,
        source="ai-dynamo/dynamo (Apache-2.0), lib/llm/src/request_trace and lib/llm/src/agents/trace; docs/agents",
        evidence="importer's loader",
        quirks=(
            "without request_received_ms, the arrival is the event's time less total_time_ms",
            "request_end is written for dropped streams, too: without a finish reason the status is unknown",
            "hashes are chained, of trace_block_size tokens, and keep all 64 bits",
            "tool events are counted as other records, not read",
        ),
    ),
)

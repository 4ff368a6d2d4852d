"""guidellm's report: benchmarks.json with the requests of each benchmark.

Layout read from guidellm 0.8.1 (guidellm/benchmark/schemas/report.py, guidellm/schemas/base/request_stats.py
and info.py). Stamps are Unix seconds of the client. guidellm's time_per_output_token counts from the start of
the request over all tokens, its inter_token_latency is (last - first)/(output - 1): tpot_s is the latter.
Prompts, outputs and error texts are left out. A report may hold a sample of the requests only.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import polars as pl

from .durations import as_seconds, per_token
from .format import Context, Field, Format

_STATUS = {"successful": "ok", "errored": "error", "incomplete": "incomplete"}
_TOKENS = ("text_tokens", "image_tokens", "video_tokens", "audio_tokens")
_TEXT = ("request_args", "output", "reasoning_output", "tool_calls")


def _total(metrics: Mapping[str, Any]) -> int | None:
    """All tokens of a side, whatever their kind; None when none was counted."""
    known = [metrics[k] for k in _TOKENS if type(metrics.get(k)) is int]
    return sum(known) if known else None


def _unfold(value: Any, context: Context) -> Iterator[Mapping[str, Any]]:
    if not isinstance(value, dict) or not isinstance(value.get("benchmarks"), list):
        raise ValueError("no list of benchmarks in it")
    for number, benchmark in enumerate(value["benchmarks"], 1):
        for group, status in _STATUS.items():
            for request in benchmark["requests"].get(group) or []:
                error = (request.get("info") or {}).get("error")
                text = {k: request.get(k) for k in _TEXT} | {"info.error": error}
                yield _row(request, status, number) | context.private(text)


def _row(request: Mapping[str, Any], status: str, number: int) -> dict[str, Any]:
    info = request.get("info") or {}
    times = info.get("timings") or {}
    sent, got = request.get("input_metrics") or {}, request.get("output_metrics") or {}
    start = times.get("request_start")
    turn = info.get("turn_index")
    return {
        "benchmark": number,
        "request": request.get("request_id"),
        "session": info.get("conversation_id"),
        "turn": turn + 1 if type(turn) is int and info.get("conversation_id") else None,
        "status": "cancelled" if info.get("status") == "cancelled" else status,
        "start": times.get("resolve_start") if start is None else start,
        "first": times.get("first_token_iteration"),
        "last": times.get("last_token_iteration") or times.get("request_end"),
        "input": _total(sent),
        "output": _total(got),
        "image": sent.get("image_tokens"),
        "cached": sent.get("cached_tokens"),
    }


def _canonical(frame: pl.DataFrame, _context: Context) -> pl.DataFrame:
    start, first, last = pl.col("start"), pl.col("first"), pl.col("last")
    return frame.select(
        pl.col("request").alias("request_id"),
        start.alias("arrival_ns"),
        pl.col("session").alias("session_id"),
        pl.col("turn"),
        pl.col("input").alias("input_tokens"),
        pl.col("output").alias("output_tokens"),
        pl.col("image").alias("image_tokens"),
        pl.col("cached").alias("cached_input_tokens"),
        pl.col("status"),
        first.alias("first_token_ns"),
        last.alias("last_token_ns"),
        as_seconds(first - start).alias("ttft_s"),
        per_token(as_seconds(last - first), "output").alias("tpot_s"),
        as_seconds(last - start).alias("e2e_s"),
    )


FORMATS = (
    Format(
        name="guidellm",
        title="guidellm report (benchmarks.json)",
        table="llm_requests",
        syntax=("json",),
        fields=(
            Field("request", "text", "", "request_id", required=False),
            Field("session", "text", "", "session_id", required=False),
            Field("turn", "tokens", "", "turn", required=False),
            Field("status", "text", "", "status"),
            Field("start", "clock", "s", "arrival_ns", required=False),
            Field("first", "clock", "s", "first_token_ns", required=False),
            Field("last", "clock", "s", "last_token_ns", required=False),
            Field("input", "tokens", "tokens", "input_tokens", required=False),
            Field("output", "tokens", "tokens", "output_tokens", required=False),
            Field("image", "tokens", "tokens", "image_tokens", required=False),
            Field("cached", "tokens", "tokens", "cached_input_tokens", required=False),
        ),
        canonical=_canonical,
        unfold=_unfold,
        matches=lambda head: "benchmarks.requests.successful" in head.keys,
        clock="utc",
        absolute=True,
        nature="measured",
        source="guidellm 0.8.1 (Apache-2.0), guidellm/schemas/base/request_stats.py and info.py",
        evidence="importer's loader",
        quirks=(
            "measured by the client; arrivals are the instants of sending",
            "e2e_s ends with the last token, not with the end of the connection",
            "time_per_output_token_ms is not tpot_s: it counts from the start of the request",
            "the number of the benchmark in the report is in extra",
        ),
    ),
)

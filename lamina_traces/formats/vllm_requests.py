"""vLLM per-request timings, as LLMServingSim's bench writes them: one object a request, two clocks.

Layout read from casys-kaist/LLMServingSim (bench/, examples/*/vllm/requests.jsonl). ``arrival_time`` is
Unix seconds; ``queued_ts``, ``scheduled_ts``, ``first_token_ts`` and ``last_token_ts`` are the engine's
monotonic clock. The second clock is moved by one offset for each file, the least of queued - arrival in its
first block, so that no request of that block is queued before it arrives. Durations are differences on the
monotonic clock and do not depend on the offset: ttft_s = first - queued, e2e_s = last - queued, as the bench
reports them.
"""

from __future__ import annotations

import polars as pl

from .durations import per_token, seconds_between
from .format import Context, Field, Format

_NS = 1e9


def _canonical(frame: pl.DataFrame, context: Context) -> pl.DataFrame:
    ahead = frame["queued_ts"] - frame["arrival_time"]
    offset = _offset(ahead, context)
    stamps = ("queued", "scheduled", "first_token", "last_token")
    return frame.select(
        pl.col("request_id"),
        pl.col("arrival_time").alias("arrival_ns"),
        pl.col("input_toks").alias("input_tokens"),
        pl.col("output_toks").alias("output_tokens"),
        pl.when(pl.col("last_token_ts").is_null())
        .then(pl.lit("incomplete"))
        .otherwise(pl.lit("ok"))
        .alias("status"),
        *((pl.col(f"{s}_ts") - offset).alias(f"{s}_ns") for s in stamps),
        seconds_between("queued_ts", "scheduled_ts").alias("queue_s"),
        seconds_between("queued_ts", "first_token_ts").alias("ttft_s"),
        per_token(seconds_between("first_token_ts", "last_token_ts"), "output_toks").alias(
            "tpot_s"
        ),
        seconds_between("queued_ts", "last_token_ts").alias("e2e_s"),
    )


def _offset(ahead: pl.Series, context: Context) -> int:
    """Monotonic minus Unix clock of this file, ns; and the range of it over its rows."""
    low, high = ahead.min(), ahead.max()
    file = context.state.setdefault("file", {})
    if low is None or high is None:
        return int(file.get("offset", 0))
    least, most = int(low), int(high)  # type: ignore[arg-type]
    offset = int(file.setdefault("offset", least))
    clocks = context.state.setdefault("clock offsets", {})
    known = clocks.get(context.path, (offset, least, most))
    clocks[context.path] = (offset, min(known[1], least), max(known[2], most))
    return offset


def _rest(context: Context) -> pl.DataFrame:
    for offset, least, most in context.state.get("clock offsets", {}).values():
        context.note("two-clocks", f"engine stamps are on a monotonic clock: {-offset / _NS:.6f} s were added to them; queued - arrival varies by {(most - least) / 1e6:.0f} ms over the file; ttft, e2e and queueing count from queued, as the engine reports them", "queued_ns")  # fmt: skip
    return pl.DataFrame()


FORMATS = (
    Format(
        name="vllm_requests",
        title="vLLM per-request timings (LLMServingSim bench)",
        table="llm_requests",
        syntax=("jsonl",),
        fields=(
            Field("request_id", "text", "", "request_id", required=False),
            Field("input_toks", "tokens", "tokens", "input_tokens"),
            Field("output_toks", "tokens", "tokens", "output_tokens"),
            Field("arrival_time", "clock", "s", "arrival_ns"),
            Field("queued_ts", "clock", "s", "queued_ns"),
            Field("scheduled_ts", "clock", "s", "scheduled_ns", required=False),
            Field("first_token_ts", "clock", "s", "first_token_ns", required=False),
            Field("last_token_ts", "clock", "s", "last_token_ns", required=False),
        ),
        canonical=_canonical,
        rest=_rest,
        clock="utc",
        absolute=True,
        nature="measured",
        matches=lambda head: (
            {"arrival_time", "queued_ts", "first_token_ts", "last_token_ts"} <= set(head.names)
        ),
        source="casys-kaist/LLMServingSim (MIT), bench/examples/*/vllm/requests.jsonl; vLLM 0.19.0",
        evidence="real file",
        quirks=(
            "arrivals are Unix seconds, the other stamps a monotonic clock: aligned by the least difference",
            "ttft_s and e2e_s count from queued_ts, as the bench reports them, not from arrival_time",
            "a request without a last token is incomplete",
        ),
    ),
)

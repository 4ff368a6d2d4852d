"""AIBrix workload files: one instant a line, with the requests sent at it.

Layout read from vllm-project/aibrix, benchmarks/generator: ``timestamp`` in milliseconds and ``requests``
with ``prompt`` (left out), ``prompt_length`` or ``Prompt Length``, ``output_length`` or ``Output Length``,
``session_id``.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import polars as pl

from .format import Context, Field, Format, Head
from .turns import with_turns

_LENGTHS = {
    "Prompt Length": "prompt_length",
    "Output Length": "output_length",
    "prompt_length": "prompt_length",
    "output_length": "output_length",
}


def _unfold(value: Any, _context: Context) -> Iterator[Mapping[str, Any]]:
    if not isinstance(value, dict) or not isinstance(value.get("requests"), list):
        raise ValueError("no list of requests in it")
    for request in value["requests"]:
        row = {_LENGTHS.get(k, k): v for k, v in request.items()}
        row["timestamp"] = value.get("timestamp")
        yield row


def _canonical(frame: pl.DataFrame, context: Context) -> pl.DataFrame:
    out = frame.select(
        pl.col("timestamp").alias("arrival_ns"),
        pl.col("session_id"),
        pl.col("prompt_length").alias("input_tokens"),
        pl.col("output_length").alias("output_tokens"),
        pl.lit("unknown").alias("status"),
        pl.lit(None, pl.Int64).alias("delay_after_parent_ns"),
    )
    return with_turns(out, context).drop("delay_after_parent_ns")


def _matches(head: Head) -> bool:
    lengths = {f"requests.{n}" for n in ("prompt_length", "Prompt Length")}
    return "timestamp" in head.keys and bool(lengths & head.keys)


FORMATS = (
    Format(
        name="aibrix",
        title="AIBrix workload",
        table="llm_requests",
        syntax=("jsonl", "json"),
        fields=(
            Field("timestamp", "clock", "ms", "arrival_ns"),
            Field("session_id", "text", "", "session_id", required=False),
            Field("prompt_length", "tokens", "tokens", "input_tokens", required=False),
            Field("output_length", "tokens", "tokens", "output_tokens", required=False),
        ),
        canonical=_canonical,
        unfold=_unfold,
        matches=_matches,
        clock="relative",
        nature="synthetic",
        source="vllm-project/aibrix (Apache-2.0), benchmarks/generator",
        evidence="documentation",
        quirks=(
            "many requests a line; milliseconds",
            "lengths may be absent, and prompts are left out",
            "no status recorded: failures are unknown, not absent",
        ),
    ),
)

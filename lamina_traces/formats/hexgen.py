"""HexGen-Flow workflows: text-to-SQL requests as lists of LLM calls (Peng et al., 2025).

Layout read from Relaxed-System-Lab/Hexgen-Flow: a JSON list of objects whose one key
(``Text2SQLRequest``) holds the calls of a workflow. There are no arrivals, ids or edges: a call is taken to
wait for the one before it in its list, and that is said.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import polars as pl

from .format import Context, Field, Format
from .links import joined, resolved

_KEY = "Text2SQLRequest"


def _unfold(value: Any, context: Context) -> Iterator[Mapping[str, Any]]:
    if not isinstance(value, dict) or not isinstance(value.get(_KEY), list):
        raise ValueError(f"no list {_KEY} in it")
    number = context.state["workflows"] = context.state.get("workflows", 0) + 1
    for i, call in enumerate(value[_KEY]):
        after = joined([i - 1] if i else [])
        yield {**call, "group": str(number), "key": i, "after": after}


def _canonical(frame: pl.DataFrame, context: Context) -> pl.DataFrame:
    if frame.height:
        text = "no edges are recorded: each call is taken to wait for the one before it in its workflow"
        context.note("chain-assumed", text, "depends_on")
    links = frame.with_columns(pl.col("key").cast(pl.String), pl.col("after").fill_null(""))
    return frame.select(
        pl.col("group").alias("workflow_id"),
        pl.col("step").alias("stage"),
        pl.col("key").alias("step_index"),
        resolved(links, context),
        pl.col("input_length").alias("input_tokens"),
        pl.col("output_length").alias("output_tokens"),
        pl.lit("unknown").alias("status"),
    )


FORMATS = (
    Format(
        name="hexgen",
        title="HexGen-Flow text-to-SQL workflows",
        table="llm_requests",
        syntax=("json", "jsonl"),
        fields=(
            Field("step", "text", "", "stage", required=False),
            Field("input_length", "tokens", "tokens", "input_tokens"),
            Field("output_length", "tokens", "tokens", "output_tokens"),
            Field("group", "text", "", "workflow_id"),
            Field("key", "tokens", "", "step_index"),
            Field("after", "text", "", "depends_on", required=False),
        ),
        canonical=_canonical,
        unfold=_unfold,
        matches=lambda head: {f"{_KEY}.input_length", f"{_KEY}.output_length"} <= head.keys,
        clock="none",
        source="Relaxed-System-Lab/Hexgen-Flow, trace files (layout only)",
        evidence="documentation",
        quirks=(
            "no arrivals: supply them with --arrivals",
            "no edges: the calls of a workflow are taken for a chain",
            "no status recorded: failures are unknown, not absent",
        ),
    ),
)

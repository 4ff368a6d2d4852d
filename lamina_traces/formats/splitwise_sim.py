"""Request files of splitwise-sim (Patel et al., ISCA 2024).

Layout read from Mutinifni/splitwise-sim, trace.py and request.py. ``request_type`` 2 is an LLM request.
"""

from __future__ import annotations

import polars as pl

from .format import Context, Field, Format


def _canonical(frame: pl.DataFrame, _context: Context) -> pl.DataFrame:
    return frame.select(
        pl.col("request_id"),
        pl.col("arrival_timestamp").alias("arrival_ns"),
        pl.col("application_id").alias("service"),
        pl.col("prompt_size").alias("input_tokens"),
        pl.col("token_size").alias("output_tokens"),
        pl.lit("unknown").alias("status"),
    )


_FIELDS = (
    Field("request_id", "text", "", "request_id"),
    Field("arrival_timestamp", "clock", "s", "arrival_ns"),
    Field("application_id", "text", "", "service", required=False),
    Field("prompt_size", "tokens", "tokens", "input_tokens"),
    Field("token_size", "tokens", "tokens", "output_tokens"),
)

FORMATS = (
    Format(
        name="splitwise_sim",
        title="splitwise-sim request file",
        table="llm_requests",
        syntax=("csv",),
        fields=_FIELDS,
        canonical=_canonical,
        clock="relative",
        source="Mutinifni/splitwise-sim (MIT), trace.py and request.py",
        evidence="importer's loader",
        quirks=(
            "request_type and batch_size are kept in extra",
            "no status recorded: failures are unknown, not absent",
        ),
    ),
)

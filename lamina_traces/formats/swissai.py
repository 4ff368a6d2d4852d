"""SwissAI serving trace: requests to an academic inference service (eth-easl/swissai-serving-trace).

Layout read from the data set's card and a loader (keys id, status, created_at, finished_at, model,
model_parameters, reported_token_input, reported_token_output). -1 means that a count is not known. The
bucket files add ``token_count`` and ``bucket_ids`` (16-token buckets of the prompt).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import polars as pl

from .durations import as_seconds
from .format import Context, Field, Format

BUCKET_TOKENS = 16


def _unfold(value: Any, context: Context) -> Iterator[Mapping[str, Any]]:
    if not isinstance(value, dict):
        raise ValueError("not a JSON object")
    parameters = value.get("model_parameters")
    row = {k: v for k, v in value.items() if k != "model_parameters"}
    if isinstance(parameters, dict):
        row["limit"] = parameters.get("max_tokens")
        row |= context.private({"model_parameters.stop": parameters.get("stop")})
    yield row


def _canonical(frame: pl.DataFrame, _context: Context) -> pl.DataFrame:
    lasted = pl.col("finished_at") - pl.col("created_at")
    total = pl.when(pl.col("reported_token_input") >= 0).then("reported_token_input")
    limit = pl.when(pl.col("limit").is_between(1, 2**31 - 1)).then("limit")
    return frame.select(
        pl.col("id").alias("request_id"),
        pl.col("created_at").alias("arrival_ns"),
        pl.col("model"),
        pl.col("model").alias("model_raw"),
        pl.coalesce(total, "token_count").cast(pl.Int32).alias("input_tokens"),
        pl.when(pl.col("reported_token_output") >= 0)
        .then("reported_token_output")
        .cast(pl.Int32)
        .alias("output_tokens"),
        limit.cast(pl.Int32).alias("max_output_tokens"),
        pl.when(pl.col("bucket_ids").is_not_null())
        .then(pl.lit(BUCKET_TOKENS, pl.Int32))
        .alias("prefix_block_size"),
        pl.col("bucket_ids").alias("prefix_hashes"),
        pl.when(pl.col("status").str.to_uppercase() == "ERROR")
        .then(pl.lit("error"))
        .when(pl.col("status").str.to_uppercase() == "DEFAULT")
        .then(pl.lit("ok"))
        .otherwise(pl.lit("unknown"))
        .alias("status"),
        pl.col("finished_at").alias("last_token_ns"),
        as_seconds(lasted).alias("e2e_s"),
    )


FORMATS = (
    Format(
        name="swissai",
        title="SwissAI serving trace",
        table="llm_requests",
        syntax=("jsonl",),
        fields=(
            Field("id", "text", "", "request_id", required=False),
            Field("status", "text", "", "status", required=False),
            Field("created_at", "instant", "UTC", "arrival_ns", minimum=None),
            Field("finished_at", "instant", "UTC", "last_token_ns", required=False, minimum=None),
            Field("model", "text", "", "model", required=False),
            Field("limit", "integer", "tokens", "max_output_tokens", required=False, minimum=None),
            Field("reported_token_input", "tokens", "tokens", "input_tokens", minimum=-1),
            Field("reported_token_output", "tokens", "tokens", "output_tokens", minimum=-1),
            Field("token_count", "tokens", "tokens", "input_tokens", required=False),
            Field("bucket_ids", "ids", "", "prefix_hashes", required=False),
        ),
        canonical=_canonical,
        unfold=_unfold,
        matches=lambda head: (
            {"created_at", "finished_at", "reported_token_input", "reported_token_output"}
            <= set(head.names)
        ),
        clock="utc",
        source="eth-easl/swissai-serving-trace, data set card (layout only)",
        evidence="documentation",
        quirks=(
            "-1 means not recorded",
            "status ERROR is an error, DEFAULT is not",
            "whether bucket ids are chained is not documented: match leading runs",
        ),
    ),
)

"""LiteLLM spend logs: one row a call through the proxy, exported from its database or its API.

Layout read from litellm 1.109.1 (litellm/proxy/schema.prisma, LiteLLM_SpendLogs; rows as CSV, JSON or JSON
lines). Stamps are UTC. ``completionStartTime`` is the first chunk of a streamed answer and equals
``endTime`` otherwise: then there is no ttft_s. Messages, responses, keys, addresses and the free-form
metadata are left out unless text is kept.
"""

from __future__ import annotations

from dataclasses import replace

import polars as pl

from .durations import as_seconds, per_token
from .format import Binding, Context, Field, Format, Head, Request, bind_by_name
from .hosts import without_addresses

_PRIVATE = frozenset(
    ("metadata", "request_tags", "api_key", "api_base", "cache_key", "proxy_server_request", "messages", "response", "requester_ip_address")
)  # fmt: skip
_FIELDS = (
    Field("request_id", "text", "", "request_id"),
    Field("startTime", "instant", "UTC", "arrival_ns", minimum=None),
    Field("endTime", "instant", "UTC", "last_token_ns", required=False, minimum=None),
    Field("completionStartTime", "instant", "UTC", "first_token_ns", required=False, minimum=None),
    Field("model", "text", "", "model", required=False),
    Field("prompt_tokens", "tokens", "tokens", "input_tokens", required=False),
    Field("completion_tokens", "tokens", "tokens", "output_tokens", required=False),
    Field("total_tokens", "tokens", "tokens", "total_tokens", required=False),
    Field("team_id", "text", "", "tenant_id", required=False),
    Field("organization_id", "text", "", "tenant_id", required=False),
    Field("user", "text", "", "user_id", required=False),
    Field("end_user", "text", "", "user_id", required=False),
    Field("session_id", "text", "", "session_id", required=False),
    Field("status", "text", "", "status", required=False),
)


def _canonical(frame: pl.DataFrame, context: Context) -> pl.DataFrame:
    frame = without_addresses(
        frame, ("user", "end_user", "team_id", "organization_id", "session_id"), context
    )
    start, first, end = (pl.col(c) for c in ("startTime", "completionStartTime", "endTime"))
    lasted = as_seconds(end - start)
    streamed = (first > start) & (first < end)
    ttft = pl.when(streamed).then(as_seconds(first - start))
    failed = pl.col("status").str.to_lowercase() == "failure"
    nothing = (failed & (pl.col("prompt_tokens") == 0) & (pl.col("completion_tokens") == 0)).fill_null(False)  # fmt: skip

    def some(name: str) -> pl.Expr:
        return pl.when(pl.col(name) != "").then(pl.col(name))

    return frame.select(
        pl.col("request_id"),
        start.alias("arrival_ns"),
        some("model").alias("model"),
        some("model").alias("model_raw"),
        pl.coalesce(some("team_id"), some("organization_id")).alias("tenant_id"),
        pl.coalesce(some("end_user"), some("user")).alias("user_id"),
        some("session_id").alias("session_id"),
        pl.when(~nothing).then("prompt_tokens").alias("input_tokens"),
        pl.when(~nothing).then("completion_tokens").alias("output_tokens"),
        pl.when(~nothing).then("total_tokens").alias("total_tokens"),
        pl.when(failed)
        .then(pl.lit("error"))
        .when(pl.col("status").str.to_lowercase() == "success")
        .then(pl.lit("ok"))
        .otherwise(pl.lit("unknown"))
        .alias("status"),
        pl.when(streamed).then(first).alias("first_token_ns"),
        end.alias("last_token_ns"),
        ttft.alias("ttft_s"),
        per_token(lasted - ttft, "completion_tokens").alias("tpot_s"),
        lasted.alias("e2e_s"),
    )


def _bind(fmt: Format, head: Head, request: Request) -> Binding:
    """JSON in a quoted cell may hold line breaks."""
    return replace(bind_by_name(fmt, head, request), multiline=True)


FORMATS = (
    Format(
        name="litellm",
        title="LiteLLM spend logs",
        table="llm_requests",
        syntax=("csv", "jsonl", "json"),
        fields=_FIELDS,
        canonical=_canonical,
        private=_PRIVATE,
        bind=_bind,
        matches=lambda head: (
            {"request_id", "startTime", "endTime", "prompt_tokens", "completion_tokens"}
            <= set(head.names)
        ),
        clock="utc",
        source="litellm 1.109.1 (MIT), litellm/proxy/schema.prisma: LiteLLM_SpendLogs",
        evidence="documentation",
        quirks=(
            "measured at the proxy: its time is in e2e_s and ttft_s",
            "ttft_s only where the answer was streamed",
            "answers from the proxy's cache have cache_hit True in extra: no engine saw them",
            "a failure with 0 tokens has unknown lengths; rows without a status are unknown",
        ),
    ),
)

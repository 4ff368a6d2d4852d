"""Vidur's processed traces: requests with an arrival, or lengths alone (Agrawal et al., MLSys 2024).

Layout read from microsoft/vidur, data/processed_traces and
vidur/request_generator/trace_replay_request_generator.py. ``arrived_at`` counts seconds from the first
request; files for the length generator have no arrival and carry the ratio of prefill to decode instead.
"""

from __future__ import annotations

from dataclasses import replace

import polars as pl

from .format import Binding, Context, Field, Format, Head, Request, bind_by_name


def _canonical(frame: pl.DataFrame, _context: Context) -> pl.DataFrame:
    return frame.select(
        pl.col("arrived_at").alias("arrival_ns"),
        pl.col("num_prefill_tokens").alias("input_tokens"),
        pl.col("num_decode_tokens").alias("output_tokens"),
        pl.col("num_total_tokens").alias("total_tokens"),
        pl.lit("unknown").alias("status"),
    )


def _bind(fmt: Format, head: Head, request: Request) -> Binding:
    bound = bind_by_name(fmt, head, request)
    timed = any(to == "arrival_ns" for _, to, _ in bound.mapping)
    return bound if timed else replace(bound, clock="none", version="lengths")


def _matches(head: Head) -> bool:
    """Lengths under these names stand in other tools' files, too, so a name of Vidur's own is wanted."""
    names = set(head.names)
    own = {f.name for f in _FIELDS}
    return {"num_prefill_tokens", "num_decode_tokens"} <= names and (
        bool({"arrived_at", "pd_ratio"} & names) or names <= own
    )


_FIELDS = (
    Field("arrived_at", "clock", "s", "arrival_ns", required=False),
    Field("num_prefill_tokens", "tokens", "tokens", "input_tokens"),
    Field("num_decode_tokens", "tokens", "tokens", "output_tokens"),
    Field("num_total_tokens", "tokens", "tokens", "total_tokens", required=False),
)

FORMATS = (
    Format(
        name="vidur",
        title="Vidur processed trace, timed or lengths only",
        table="llm_requests",
        syntax=("csv",),
        fields=_FIELDS,
        canonical=_canonical,
        clock="relative",
        source="microsoft/vidur (MIT), data/processed_traces and trace_replay_request_generator.py",
        evidence="real file",
        quirks=(
            "files for the length generator have no arrivals",
            "the splitwise files are the Azure 2023 traces, rebased to the first request",
            "no status recorded: failures are unknown, not absent",
        ),
        bind=_bind,
        matches=_matches,
        version=lambda _head: "timed",
    ),
)

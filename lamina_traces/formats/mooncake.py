"""Mooncake traces: prompt and answer lengths with prefix block ids (Qin et al., FAST 2025).

Layout read from kvcache-ai/Mooncake (README, FAST25-release/traces) and the loaders of aiperf, vLLM,
SGLang and guidellm. ``hash_ids`` are chained ids of 512-token blocks: equal id means equal whole
prefix. Rows that share a ``session_id`` (aiperf) are one conversation in file order; its later turns
may carry a ``delay`` after the turn before them and no timestamp. Mooncake's own stamps are whole
milliseconds; some tools write seconds into the same key, so stamps with a fraction that advance by less than
10 a row are taken for seconds, and that is said.
"""

from __future__ import annotations

import itertools
import statistics
from dataclasses import replace

import polars as pl

from ..errors import Notice
from .format import Binding, Context, Field, Format, Head, Request, bind_by_name
from .turns import with_turns

BLOCK_TOKENS = 512
"""tokens per prefix block in Mooncake's own traces (README); the last block of a prompt is partial."""

_FIELDS = (
    Field("timestamp", "clock", "ms", "arrival_ns", unless=("delay", "session_id")),
    Field("input_length", "tokens", "tokens", "input_tokens"),
    Field("output_length", "tokens", "tokens", "output_tokens"),
    Field("hash_ids", "ids", "", "prefix_hashes", required=False),
    Field("session_id", "text", "", "session_id", required=False),
    Field("delay", "clock", "ms", "delay_after_parent_ns", required=False),
)


def _canonical(frame: pl.DataFrame, context: Context) -> pl.DataFrame:
    size = pl.when(pl.col("hash_ids").is_not_null()).then(pl.lit(BLOCK_TOKENS, pl.Int32))
    out = frame.with_columns(
        *(pl.col(f.name).alias(f.to) for f in _FIELDS),
        size.alias("prefix_block_size"),
        pl.lit("unknown").alias("status"),
    ).select(*(f.to for f in _FIELDS), "prefix_block_size", "status")
    return with_turns(out, context)


def _seconds_guessed(head: Head) -> bool:
    """Stamps with a fraction whose typical step is below 10: seconds, or over 100 requests/s in ms."""
    if "delay" in head.names:  # aiperf's own, and those are milliseconds
        return False
    texts = [v for r in head.rows if (v := r.get("timestamp"))]
    try:
        stamps = [float(t) for t in texts]
    except ValueError:
        return False
    steps = [b - a for a, b in itertools.pairwise(stamps) if b > a]
    written = any("." in t and t.split(".")[1].strip("0") for t in texts)
    return written and bool(steps) and statistics.median(steps) < 10


def _bind(fmt: Format, head: Head, request: Request) -> Binding:
    unit = request.time_unit
    notices: tuple[Notice, ...] = ()
    if unit is None:
        unit = "s" if _seconds_guessed(head) else "ms"
        if unit == "s":
            notices = (
                Notice(
                    "time-unit-guessed",
                    "the stamps have fractions and small steps: read as seconds; --time-unit ms says otherwise",
                    "arrival_ns",
                ),
            )
    fields = [replace(f, unit=unit) if f.name == "timestamp" else f for f in fmt.fields]
    return bind_by_name(fmt, head, request, fields=fields, notices=notices)


FORMATS = (
    Format(
        name="mooncake",
        title="Mooncake request trace, and its relatives (aiperf, vLLM, SGLang, guidellm)",
        table="llm_requests",
        syntax=("jsonl",),
        fields=_FIELDS,
        canonical=_canonical,
        clock="relative",
        # Bailian: seconds, other blocks and hashes; RAGPulse: parts of a prompt
        excludes=frozenset(("chat_id", "parent_chat_id", "hash_ids.passages_ids")),
        source="kvcache-ai/Mooncake (Apache-2.0), README and FAST25-release/traces; arXiv 2407.00079",
        evidence="real file",
        quirks=(
            "milliseconds by default; stamps with fractions and small steps are taken for seconds",
            "rows of one session_id are its turns in file order; turn and depends_on are derived",
            "hash ids are chained over 512-token blocks and stay 64-bit",
            "no status recorded: failures are unknown, not absent",
            "the published conversation trace ticks every 3 s: its gaps below that are artefacts",
        ),
        bind=_bind,
    ),
)

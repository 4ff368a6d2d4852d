"""RAGPulse: requests of a university's question service, with the parts of each prompt (Wang et al., 2025).

Layout read from flashserve/RAGPulse (README, data/). ``timestamp`` is the text of whole seconds from the
start of the trace at noon. ``hash_ids`` names what the prompt is made of, by kind; the side files give the
tokens of each part. The ids go to ``extra`` (``parts.<kind>_ids``), and with side files the tokens by kind
(``parts.<kind>_tokens``): parts have no block size, so they are no prefix hashes. The parts sum up to 6 to
12 tokens less than ``input_length``, which counts the template.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import polars as pl

from .format import Context, Field, Format, Head

_PARTS = {
    "sys_prompt": "system",
    "passages_ids": "passage",
    "history": "history",
    "web_search": "search",
    "user_input": "user",
}


def _unfold(value: Any, context: Context) -> Iterator[Mapping[str, Any]]:
    parts = value["hash_ids"]
    tokens: Mapping[int, int] = context.state.get("part tokens", {})
    row = {k: v for k, v in value.items() if k != "hash_ids"}
    for key, kind in _PARTS.items():
        ids = parts.get(key) or []
        if not isinstance(ids, list) or not all(type(i) is int for i in ids):
            raise ValueError("hash_ids is not an object of lists of ids")
        row[f"parts.{kind}_ids"] = ids
        if tokens:
            known = [tokens.get(i) for i in ids]
            if None not in known:
                row[f"parts.{kind}_tokens"] = sum(t or 0 for t in known)
    yield row


def _canonical(frame: pl.DataFrame, _context: Context) -> pl.DataFrame:
    return frame.select(
        pl.col("timestamp").alias("arrival_ns"),
        pl.col("session_id"),
        pl.col("input_length").alias("input_tokens"),
        pl.col("output_length").alias("output_tokens"),
        pl.lit("unknown").alias("status"),
    )


def _side_rows(value: Any, _context: Context) -> Iterator[Mapping[str, Any]]:
    found = [k for k in value if k.endswith("_id")]
    if len(found) != 1:
        raise ValueError("not an id and its token_length")
    ids = value[found[0]]
    for i in ids if isinstance(ids, list) else [ids]:
        yield {"part": i, "token_length": value.get("token_length")}


def _side(frame: pl.DataFrame, context: Context) -> Mapping[str, pl.DataFrame]:
    known = context.state.setdefault("part tokens", {})
    known.update(zip(frame["part"].to_list(), frame["token_length"].to_list(), strict=True))
    return {}


def _is_side(head: Head) -> bool:
    names = set(head.names) - {"token_length"}
    return "token_length" in head.names and len(names) == 1 and next(iter(names)).endswith("_id")


_SOURCE = "flashserve/RAGPulse (MIT), README and data/"

FORMATS = (
    Format(
        name="ragpulse",
        title="RAGPulse request trace (0_trace.jsonl)",
        table="llm_requests",
        syntax=("jsonl",),
        fields=(
            Field("timestamp", "clock", "s", "arrival_ns"),
            Field("input_length", "tokens", "tokens", "input_tokens"),
            Field("output_length", "tokens", "tokens", "output_tokens"),
            Field("session_id", "text", "", "session_id", required=False),
        ),
        canonical=_canonical,
        unfold=_unfold,
        matches=lambda head: "hash_ids.passages_ids" in head.keys,
        clock="relative",
        source=_SOURCE,
        evidence="documentation",
        family="ragpulse",
        quirks=(
            "stamps are text; one pair of rows is out of order",
            "the parts of a prompt are in extra, with their tokens where the side files are read along",
            "no status recorded: failures are unknown, not absent",
        ),
    ),
    Format(
        name="ragpulse_parts",
        title="RAGPulse side file: tokens of a prompt's parts",
        table="llm_requests",
        syntax=("jsonl",),
        fields=(
            Field("part", "integer", "", ""),
            Field("token_length", "tokens", "tokens", ""),
        ),
        canonical=_side,
        unfold=_side_rows,
        matches=_is_side,
        clock="none",
        source=_SOURCE,
        evidence="documentation",
        family="ragpulse",
        rank=-1,
        quirks=("read together with 0_trace.jsonl: name the folder",),
    ),
)

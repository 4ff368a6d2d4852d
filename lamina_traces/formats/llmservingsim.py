"""LLMServingSim workloads: flat requests and agentic sessions, also mixed in one file.

Layout read from casys-kaist/LLMServingSim, serving/core/router.py and workloads/. A flat line is one
request (``arrival_time_ns``). A session line holds ``sub_requests``: the first arrives at the line's
``arrival_time_ns``, each later one ``tool_duration_ns`` of the one before it after that one's end. A line
with an empty list is skipped, as the tool does.

Token ids never get in. They are hashed block by block where they are read: the hash of a full block of 16
ids covers everything before it in the prompt (BLAKE2b over the hash before it and the ids, 64 bits), so equal
hash means equal whole prefix. A partial last block has no hash.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from typing import Any

import polars as pl

from .format import Context, Field, Format, Head
from .turns import with_turns

BLOCK_TOKENS = 16


def block_hashes(ids: Any) -> list[int] | None:
    """Chained 64-bit hashes of the full blocks of a list of token ids; None for anything else."""
    if not isinstance(ids, list) or not all(type(i) is int and 0 <= i < 2**32 for i in ids):
        return None
    out, state = [], b""
    for at in range(0, len(ids) - BLOCK_TOKENS + 1, BLOCK_TOKENS):
        block = b"".join(i.to_bytes(4, "little") for i in ids[at : at + BLOCK_TOKENS])
        state = hashlib.blake2b(state + block, digest_size=8).digest()
        out.append(int.from_bytes(state, "little"))
    return out


def _unfold(value: Any, context: Context) -> Iterator[Mapping[str, Any]]:
    if not isinstance(value, dict):
        raise ValueError("not a JSON object")
    subs = value.get("sub_requests")
    if subs is None:
        yield _row(value, value.get("session_id"), value.get("arrival_time_ns"), None)
        return
    if not isinstance(subs, list) or not all(isinstance(s, dict) for s in subs):
        raise ValueError("sub_requests is not a list of objects")
    if value.get("arrival_time_ns") is None:
        raise ValueError("a session without arrival_time_ns")
    lines = context.state["session lines"] = context.state.get("session lines", 0) + 1
    session = value.get("session_id")
    name = f"line {lines}" if session is None else str(session)
    delay = None
    for i, sub in enumerate(subs):
        yield _row(sub, name, None if i else value["arrival_time_ns"], delay if i else None)
        delay = sub.get("tool_duration_ns") or 0


_OWN = frozenset(
    ("input_tok_ids", "output_tok_ids", "tool_duration_ns", "sub_requests", "session_id", "arrival_time_ns")
)  # fmt: skip


def _row(request: Mapping[str, Any], session: Any, arrival: Any, delay: Any) -> dict[str, Any]:
    rest = {k: v for k, v in request.items() if k not in _OWN}
    if arrival is None and delay is None:
        raise ValueError("a request without arrival_time_ns")
    return {
        **rest,
        "session": session,
        "arrival_time_ns": arrival,
        "delay": delay,
        "hashes": block_hashes(request.get("input_tok_ids")),
        "outputs": block_hashes(request.get("output_tok_ids")),
    }


def _canonical(frame: pl.DataFrame, context: Context) -> pl.DataFrame:
    hashed = pl.col("hashes").is_not_null()
    if frame["hashes"].count():
        text = f"token ids were hashed in blocks of {BLOCK_TOKENS} and left out; equal hash means equal whole prefix"
        context.note("ids-hashed", text, "prefix_hashes")
    out = frame.select(
        pl.col("session").alias("session_id"),
        pl.col("arrival_time_ns").alias("arrival_ns"),
        pl.col("delay").alias("delay_after_parent_ns"),
        pl.when(pl.col("delay").is_not_null()).then(pl.lit("tool")).alias("delay_kind"),
        pl.col("input_toks").alias("input_tokens"),
        pl.col("output_toks").alias("output_tokens"),
        pl.when(hashed).then(pl.lit(BLOCK_TOKENS, pl.Int32)).alias("prefix_block_size"),
        pl.col("hashes").alias("prefix_hashes"),
        pl.col("outputs").alias("output_hashes"),
        pl.lit("unknown").alias("status"),
    )
    return with_turns(out, context)


def _matches(head: Head) -> bool:
    flat = {"input_toks", "output_toks", "arrival_time_ns"} <= head.keys
    agentic = {"sub_requests.input_toks", "sub_requests.output_toks"} <= head.keys
    return (flat or agentic) and "queued_ts" not in head.keys


FORMATS = (
    Format(
        name="llmservingsim",
        title="LLMServingSim workload, flat and agentic",
        table="llm_requests",
        syntax=("jsonl",),
        fields=(
            Field("input_toks", "tokens", "tokens", "input_tokens"),
            Field("output_toks", "tokens", "tokens", "output_tokens"),
            Field("arrival_time_ns", "clock", "ns", "arrival_ns", required=False),
            Field("session", "text", "", "session_id", required=False),
            Field("delay", "clock", "ns", "delay_after_parent_ns", required=False),
            Field("hashes", "ids", "", "prefix_hashes", required=False),
            Field("outputs", "ids", "", "output_hashes", required=False),
        ),
        canonical=_canonical,
        unfold=_unfold,
        matches=_matches,
        clock="relative",
        nature="synthetic",
        source="casys-kaist/LLMServingSim (MIT), serving/core/router.py and workloads/",
        evidence="real file",
        quirks=(
            "a line is one request, or a session of sub_requests; both may stand in one file",
            "tool_duration_ns is the delay of the next sub-request after the end of its own",
            f"token ids become chained 64-bit hashes of blocks of {BLOCK_TOKENS}; the ids stay out",
        ),
    ),
)

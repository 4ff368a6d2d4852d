"""Weka agentic coding traces: one JSON object a session, with nested subagents; and its flat tables.

Layout read from aiperf 0.13.0 (aiperf/dataset/loader/weka_trace_models.py) and the data cards of
semianalysisai/cc-traces-weka. ``t`` counts seconds from the start of its session, so sessions share no clock.
A request waits for the one before it in its session, and for the subagents between them unless these were
launched asynchronously; a subagent's first request waits for the request that launched it. ``think_time``
is the client's delay before a request. Block ids mean something inside their session only
(``hash_id_scope: local``), so they are mixed with the session's name: equal hashes are of one session.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import polars as pl

from .durations import per_token
from .format import Context, Field, Format
from .links import joined, next_index, resolved

_MASK = 2**64 - 1
_KINDS = ("n", "s")
_ASYNC = "async_launched"
_OWN = frozenset(("t", "type", "model", "in", "out", "hash_ids", "api_time", "think_time", "ttft", "stop"))  # fmt: skip


def scoped(ids: Any, session: str) -> Any:
    """Ids of a session as ids of the trace: a bijection for each session (splitmix64 on id xor name)."""
    if not isinstance(ids, list) or not all(type(i) is int and 0 <= i <= _MASK for i in ids):
        return ids
    key = int.from_bytes(hashlib.blake2b(session.encode(), digest_size=8).digest(), "little")
    with np.errstate(over="ignore"):
        x = (np.array(ids, dtype=np.uint64) ^ np.uint64(key)) + np.uint64(0x9E3779B97F4A7C15)
        x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return (x ^ (x >> np.uint64(31))).tolist()


def _unfold(value: Any, _context: Context) -> Iterator[Mapping[str, Any]]:
    if not isinstance(value, dict) or not isinstance(value.get("requests"), list):
        raise ValueError("no list of requests in it")
    session = value.get("id")
    if not isinstance(session, str | int) or isinstance(session, bool):
        raise ValueError("a session without an id")
    local = value.get("hash_id_scope", "local") == "local"
    shared = {"session": str(session), "block": value.get("block_size"), "local": local}
    waiting: list[str] = []
    for i, request in enumerate(value["requests"]):
        if request.get("type") == "subagent":
            last = None
            for j, inner in enumerate(request.get("requests") or []):
                key = f"{i}.{j}"
                agent = {
                    **shared,
                    "agent": request.get("subagent_type"),
                    "agent.id": request.get("agent_id"),
                }
                yield _row(inner, agent, key, [last] if last else waiting[:1])
                last = key
            if last is not None and request.get("status") != _ASYNC:
                waiting.append(last)
            continue
        yield _row(request, shared, str(i), waiting)
        waiting = [str(i)]


def _row(
    request: Mapping[str, Any], shared: Mapping[str, Any], key: str, after: list[str]
) -> dict[str, Any]:
    kind = request.get("type")
    ids = request.get("hash_ids")
    return {
        **{k: v for k, v in request.items() if k not in _OWN and not k.endswith("_types")},
        **{k: v for k, v in shared.items() if k != "local"},
        "key": key,
        "after": joined(after),
        "root": not after,
        "t": request.get("t"),
        "stream": {"s": True, "n": False}.get(str(kind)),
        "model": request.get("model"),
        "in": request.get("in"),
        "out": request.get("out"),
        "hashes": scoped(ids, shared["session"]) if shared["local"] else ids,
        "api_time": request.get("api_time"),
        "think_time": request.get("think_time"),
        "ttft": request.get("ttft"),
        "stop": request.get("stop") or None,
    }


def _canonical(frame: pl.DataFrame, context: Context) -> pl.DataFrame:
    links = frame.select(
        pl.col("session").alias("group"), "key", pl.col("after").fill_null("").alias("after")
    )
    return frame.select(
        pl.col("t").alias("arrival_ns"),
        pl.col("model"),
        pl.col("model").alias("model_raw"),
        pl.col("session").alias("session_id"),
        pl.col("session").alias("workflow_id"),
        pl.col("agent").alias("stage"),
        resolved(links, context),
        pl.when(~pl.col("root")).then("think_time").alias("delay_after_parent_ns"),
        pl.when(~pl.col("root") & pl.col("think_time").is_not_null()).then(pl.lit("think")).alias("delay_kind"),
        pl.col("in").alias("input_tokens"),
        pl.col("out").alias("output_tokens"),
        pl.when(pl.col("hashes").is_not_null()).then("block").alias("prefix_block_size"),
        pl.col("hashes").alias("prefix_hashes"),
        pl.lit("unknown").alias("status"),
        pl.col("stop").alias("finish_reason"),
        pl.col("ttft").alias("ttft_s"),
        per_token(pl.col("api_time") - pl.col("ttft"), "out").alias("tpot_s"),
        pl.col("api_time").alias("e2e_s"),
        pl.col("stream").alias("streaming"),
    )  # fmt: skip


def _flat(frame: pl.DataFrame, _context: Context) -> pl.DataFrame:
    kind = pl.col("request_type")
    thought = pl.col("think_time_s").is_not_null()
    return frame.select(
        pl.col("request_arrival_delta_s").alias("arrival_ns"),
        pl.col("model_id").alias("model"),
        pl.col("model_id").alias("model_raw"),
        pl.col("session_id"),
        next_index("turn_index").alias("turn"),
        pl.col("think_time_s").alias("delay_after_parent_ns"),
        pl.when(thought).then(pl.lit("think")).alias("delay_kind"),
        pl.col("input_tokens"),
        pl.col("output_tokens"),
        pl.lit("unknown").alias("status"),
        pl.col("ttft_s"),
        per_token(pl.col("api_time_s") - pl.col("ttft_s"), "output_tokens").alias("tpot_s"),
        pl.col("api_time_s").alias("e2e_s"),
        pl.when(kind.is_in(_KINDS)).then(kind == "s").alias("streaming"),
    )


_FLAT = (
    Field("session_id", "text", "", "session_id"),
    Field("turn_index", "tokens", "", "turn", required=False),
    Field("request_arrival_delta_s", "clock", "s", "arrival_ns"),
    Field("model_id", "text", "", "model", required=False),
    Field("request_type", "text", "", "streaming", required=False),
    Field("input_tokens", "tokens", "tokens", "input_tokens"),
    Field("output_tokens", "tokens", "tokens", "output_tokens"),
    Field("api_time_s", "seconds", "s", "e2e_s"),
    Field("think_time_s", "clock", "s", "delay_after_parent_ns", required=False, minimum=None),
    Field("ttft_s", "seconds", "s", "ttft_s", required=False),
)


FORMATS = (
    Format(
        name="weka",
        title="Weka agentic coding trace (Claude Code sessions)",
        table="llm_requests",
        syntax=("json", "jsonl"),
        fields=(
            Field("session", "text", "", "session_id"),
            Field("key", "text", "", ""),
            Field("after", "text", "", "depends_on", required=False),
            Field("root", "flag", "", ""),
            Field("t", "clock", "s", "arrival_ns"),
            Field("stream", "flag", "", "streaming", required=False),
            Field("model", "text", "", "model", required=False),
            Field("agent", "text", "", "stage", required=False),
            Field("in", "tokens", "tokens", "input_tokens"),
            Field("out", "tokens", "tokens", "output_tokens"),
            Field("block", "tokens", "tokens", "prefix_block_size", required=False, minimum=1),
            Field("hashes", "ids", "", "prefix_hashes", required=False),
            Field("api_time", "seconds", "s", "e2e_s", required=False),
            Field(
                "think_time", "clock", "s", "delay_after_parent_ns", required=False, minimum=None
            ),
            Field("ttft", "seconds", "s", "ttft_s", required=False),
            Field("stop", "text", "", "finish_reason", required=False),
        ),
        canonical=_canonical,
        unfold=_unfold,
        matches=lambda head: {"id", "block_size", "requests.t", "requests.type"} <= head.keys,
        clock="session",
        source="aiperf 0.13.0, aiperf/dataset/loader/weka_trace_models.py; semianalysisai/cc-traces-weka",
        evidence="importer's loader",
        quirks=(
            "stamps count from the start of their session: there is no common arrival process",
            "type s streams and may have a ttft, type n does not",
            "subagents are steps of their session's workflow; the next request waits for them unless async_launched",
            "block ids are mixed with the session's name, since they mean nothing outside of it",
        ),
    ),
    Format(
        name="weka_flat",
        title="Weka agentic coding trace, one row a request",
        table="llm_requests",
        syntax=("csv", "jsonl", "parquet"),
        fields=_FLAT,
        canonical=_flat,
        clock="session",
        source="normalised cc-traces-weka tables (column list of a public ingestion script)",
        evidence="documentation",
        quirks=("stamps count from the start of their session", "turn_index counts from 0"),
    ),
)

"""OpenWhisk activation records, as ``wsk activation list`` and ``get`` print them.

Annotations read from apache/openwhisk, docs/annotations.md: path, kind, limits (MB), waitTime and initTime
(ms). initTime is there for a cold start alone. That start and end are milliseconds since 1970, duration
milliseconds, and a statusCode of 0 a success is assumed from memory. Results, logs and the subject are left
out unless text is kept.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import polars as pl

from .format import Context, Field, Format
from .hosts import is_address

_STATUSES = {0: "ok", 1: "error", 2: "error", 3: "error"}
_WORDS = {
    "success": 0, "application error": 1, "action developer error": 2, "developer error": 2, "whisk internal error": 3,
}  # fmt: skip


def _public(value: Any) -> str | None:
    return value if isinstance(value, str) and value and not is_address(value) else None


def _unfold(value: Any, context: Context) -> Iterator[Mapping[str, Any]]:
    if "activationId" not in value:
        raise ValueError("no activationId in it")
    notes = {a["key"]: a.get("value") for a in value.get("annotations") or () if "key" in a}
    response = value.get("response") or {}
    code = value.get("statusCode", response.get("statusCode"))
    if code is None and isinstance(response.get("status"), str):
        code = _WORDS.get(response["status"].lower())
    limits = notes.get("limits")
    row = {
        "id": value["activationId"],
        "start": value.get("start"),
        "duration": value.get("duration"),
        "function": _public(notes.get("path")) or _public(value.get("name")),
        "owner": _public(value.get("namespace")),
        "kind": notes.get("kind"),
        "wait": notes.get("waitTime"),
        "init": notes.get("initTime"),
        "memory": limits.get("memory") if isinstance(limits, dict) else None,
        "status": _STATUSES.get(code, "error") if isinstance(code, int) else "unknown",
        "code": str(code) if isinstance(code, int) and code else None,
    }
    more = {"version": value.get("version"), "cause": value.get("cause")}
    text = {"response.result": response.get("result"), "logs": value.get("logs"), "subject": value.get("subject")}  # fmt: skip
    yield row | {k: v for k, v in more.items() if v is not None} | context.private(text)


def _canonical(frame: pl.DataFrame, _context: Context) -> pl.DataFrame:
    return frame.select(
        pl.col("start").alias("arrival_ns"),
        pl.col("id").alias("request_id"),
        pl.col("function").alias("func_id"),
        pl.col("owner").alias("owner_id"),
        pl.col("kind").alias("runtime"),
        pl.col("duration").alias("duration_s"),
        pl.col("wait").alias("queue_s"),
        pl.col("init").alias("init_s"),
        pl.col("init").is_not_null().alias("is_cold"),
        pl.col("memory").alias("memory_limit_mb"),
        pl.col("status"),
        pl.col("code").alias("error_code"),
    )


FORMATS = (
    Format(
        name="openwhisk",
        title="OpenWhisk activation records",
        table="invocations",
        syntax=("json", "jsonl"),
        fields=(
            Field("id", "text", "", "request_id"),
            Field("start", "clock", "ms", "arrival_ns"),
            Field("function", "text", "", "func_id"),
            Field("owner", "text", "", "owner_id", required=False),
            Field("kind", "text", "", "runtime", required=False),
            Field("duration", "seconds", "ms", "duration_s", required=False),
            Field("wait", "seconds", "ms", "queue_s", required=False),
            Field("init", "seconds", "ms", "init_s", required=False),
            Field("memory", "tokens", "MB", "memory_limit_mb", required=False),
            Field("status", "text", "", "status"),
            Field("code", "text", "", "error_code", required=False),
        ),
        canonical=_canonical,
        clock="utc",
        source="apache/openwhisk (Apache-2.0), docs/annotations.md; the units of start, end and duration are assumed",
        evidence="documentation",
        quirks=(
            "initTime is there for a cold start alone",
            "duration is as recorded: whether it holds the init is not documented",
            "results, logs and the subject are left out unless text is kept",
        ),
        absolute=True,
        matches=lambda head: {"activationId", "annotations.key", "start"} <= head.keys,
        unfold=_unfold,
    ),
)

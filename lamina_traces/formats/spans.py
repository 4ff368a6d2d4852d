"""OpenTelemetry spans as rows: what the attributes of a span say about an LLM call.

Attribute names are those of OpenTelemetry's semantic conventions for generative AI, both generations
(``gen_ai.usage.prompt_tokens`` and ``gen_ai.usage.input_tokens``), and those that vLLM and SGLang set
(``gen_ai.latency.*``, vllm/tracing; sglang/srt/observability/trace.py). Only attributes of the table
below are read. Messages, prompts and bodies, in attributes, events and the message of the status, are left
out unless text is kept. calls.py makes requests of the rows.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from .format import Context, Field
from .redaction import is_private, looks_private

_TEXT = (
    "trace", "span", "parent", "kind", "code", "host", "program", "op", "agent", "model",
    "response_model", "request", "session", "user", "finish", "error", "sampled",
)  # fmt: skip
COUNTS = ("input", "output", "cached", "limit", "sequences")
SECONDS = ("ttft", "queue", "e2e")
ATTRIBUTES: dict[str, str] = {
    "gen_ai.operation.name": "op",
    "gen_ai.agent.name": "agent",
    "gen_ai.request.model": "model",
    "gen_ai.response.model": "response_model",
    "gen_ai.request.id": "request",
    "gen_ai.response.id": "request",
    "gen_ai.usage.input_tokens": "input",
    "gen_ai.usage.prompt_tokens": "input",
    "gen_ai.usage.output_tokens": "output",
    "gen_ai.usage.completion_tokens": "output",
    "gen_ai.usage.cached_tokens": "cached",
    "gen_ai.usage.cache_read.input_tokens": "cached",
    "gen_ai.request.max_tokens": "limit",
    "gen_ai.request.n": "sequences",
    "gen_ai.usage.num_sequences": "sequences",
    "gen_ai.response.finish_reasons": "finish",
    "gen_ai.latency.time_to_first_token": "ttft",
    "gen_ai.latency.time_in_queue": "queue",
    "gen_ai.latency.e2e": "e2e",
    "error.type": "error",
    "gen_ai.conversation.id": "session",
    "session.id": "session",
    "exgentic.session.id": "session",
    "enduser.id": "user",
    "user.id": "user",
}
"""attribute → what it says; of several for one thing the first in a span counts."""
_HOSTS = ("host.name", "k8s.pod.name", "service.instance.id", "service.name")
_THRESHOLD = re.compile(r"(?:^|[,;])\s*ot=(?:[^,]*?;)?th:([0-9a-f]{1,14})(?:[;,]|$)")


def fields(start: Field, end: Field) -> tuple[Field, ...]:
    """The fields of a span's row; formats differ in how they write instants."""
    return (
        start,
        end,
        *(Field(n, "text", required=n in ("trace", "span")) for n in _TEXT),
        *(Field(n, "tokens", "tokens", required=False) for n in COUNTS),
        *(Field(n, "seconds", "s", required=False, minimum=None) for n in SECONDS),
    )


def span_row(
    attributes: Mapping[str, Any],
    resource: Mapping[str, Any],
    events: Iterable[Mapping[str, Any]],
    message: Any,
    context: Context,
) -> dict[str, Any]:
    """What a span says, by the names of ``fields``: its attributes, those of its resource and of its events,
    and the message of its status."""
    row: dict[str, Any] = {}
    text: dict[str, Any] = {"status.message": message}
    for key, value in attributes.items():
        name = ATTRIBUTES.get(key)
        if name is None:
            if _is_text(key):
                text[key] = value
        elif row.get(name) is None:
            row[name] = _plain(value)
    for event in events:
        for key, value in event.items():
            if _is_text(key):
                text.setdefault(f"events.{key}", []).append(value)
    row |= context.private(text)
    row["program"] = _plain(resource.get("service.name"))
    row["host"] = next((v for k in _HOSTS if (v := _plain(resource.get(k)))), None)
    return row


def _is_text(key: str) -> bool:
    return is_private(key.rpartition(".")[2])


def _plain(value: Any) -> Any:
    if isinstance(value, list):
        value = ",".join(str(v) for v in value)
    if isinstance(value, dict) or (isinstance(value, str) and looks_private(value)):
        return None
    return value


def sampling_probability(trace_state: Any) -> str | None:
    """The probability that W3C tracestate's ``ot=th:`` (rejection threshold, hexadecimal) stands for."""
    found = _THRESHOLD.search(trace_state) if isinstance(trace_state, str) else None
    if found is None:
        return None
    return repr(1 - int(found[1].ljust(14, "0"), 16) / 2**56)


def flat_rows(
    spans: Any, context: Context, shared: Mapping[str, Any] | None = None
) -> Iterator[dict[str, Any]]:
    """Rows of a list of spans with plain attributes (``span_id``, ``start_time``, ``attributes``)."""
    for span in spans:
        attributes = span.get("attributes") or {}
        status = span.get("status") or {}
        code, message = status, None
        if isinstance(status, dict):
            code, message = status.get("code"), status.get("message")
        events = [e.get("attributes") or {} for e in span.get("events") or ()]
        resource = span.get("resource_attributes") or {}
        row = span_row(attributes, resource, events, message, context)
        yield {
            **row,
            "trace": span.get("trace_id") or (shared or {}).get("trace_id"),
            "span": span.get("span_id"),
            "parent": span.get("parent_span_id"),
            "kind": span.get("kind"),
            "code": code,
            "start": span.get("start_time") or span.get("start_time_iso"),
            "end": span.get("end_time") or span.get("end_time_iso"),
            "sampled": sampling_probability(span.get("trace_state")),
        }

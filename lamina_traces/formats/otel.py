"""OpenTelemetry traces of LLM calls: OTLP/JSON as collectors write it, and plain lists of spans.

OTLP/JSON: opentelemetry-proto (trace/v1/trace.proto and the JSON mapping of the OTLP specification):
camelCase keys, 64-bit numbers as strings, attributes as lists of key and value; the collector's file
exporter writes one ``resourceSpans`` object a line. Plain lists: kubernetes-sigs/inference-perf
(examples/otel/test_traces) and Exgentic/agent-llm-traces: ``spans`` with attributes as an object and ISO
stamps, naive ones taken for UTC. What spans mean is in spans.py and calls.py.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from .calls import held, merged
from .format import Context, Field, Format, Head
from .spans import fields, flat_rows, sampling_probability, span_row

_VALUES = ("stringValue", "intValue", "doubleValue", "boolValue")
_GROUPS = ("scopeSpans", "instrumentationLibrarySpans")
"""the second name is that of OTLP before 0.15"""


def _value(value: Any) -> Any:
    """An OTLP AnyValue as a plain one."""
    for name in _VALUES:
        if name in value:
            return value[name]
    if "arrayValue" in value:
        return [_value(v) for v in value["arrayValue"].get("values", [])]
    if "kvlistValue" in value:
        return _attributes(value["kvlistValue"].get("values"))
    return None


def _attributes(pairs: Any) -> dict[str, Any]:
    return {p["key"]: _value(p.get("value") or {}) for p in pairs or []}


def _otlp_rows(value: Any, context: Context) -> Iterator[Mapping[str, Any]]:
    if not isinstance(value, dict) or not isinstance(value.get("resourceSpans"), list):
        if isinstance(value, dict) and ("resourceMetrics" in value or "resourceLogs" in value):
            return
        raise ValueError("no resourceSpans in it")
    for group in value["resourceSpans"]:
        resource = _attributes((group.get("resource") or {}).get("attributes"))
        for name in _GROUPS:
            for scope in group.get(name) or []:
                for span in scope.get("spans") or []:
                    yield _otlp_row(span, resource, context)


def _otlp_row(span: Mapping[str, Any], resource: Mapping[str, Any], context: Context) -> dict[str, Any]:  # fmt: skip
    attributes = _attributes(span.get("attributes"))
    events = [_attributes(e.get("attributes")) for e in span.get("events") or ()]
    status = span.get("status") or {}
    return {
        **span_row(attributes, resource, events, status.get("message"), context),
        "trace": span.get("traceId"),
        "span": span.get("spanId"),
        "parent": span.get("parentSpanId"),
        "kind": span.get("kind"),
        "code": status.get("code"),
        "start": span.get("startTimeUnixNano"),
        "end": span.get("endTimeUnixNano"),
        "sampled": sampling_probability(span.get("traceState")),
    }


def _flat(value: Any, context: Context) -> Iterator[Mapping[str, Any]]:
    if not isinstance(value, dict):
        raise ValueError("not a JSON object")
    if isinstance(value.get("spans"), list):
        return flat_rows(value["spans"], context, value)
    if "span_id" not in value:
        raise ValueError("no spans in it")
    return flat_rows([value], context)


def _is_otlp(head: Head) -> bool:
    return any(f"resourceSpans.{g}.spans.spanId" in head.keys for g in _GROUPS)


def _is_flat(head: Head) -> bool:
    listed = {"spans.span_id", "spans.start_time", "spans.attributes"} <= head.keys
    return listed or (
        {"span_id", "attributes"} <= head.keys
        and bool({"start_time", "start_time_iso"} & head.keys)
    )


_QUIRKS = (
    "spans of one request (client, gateway, engine) become one row; the engine's span gives arrival and latencies",
    "without an engine span, e2e_s is the duration of the outermost span and there is no ttft_s",
    "clock skew between hosts is estimated and reported, and no stamp is changed",
    "a sampling probability in tracestate (ot=th:) is kept in extra and reported",
    "all spans are held until the last is read, since those of one request may be anywhere",
)

FORMATS = (
    Format(
        name="otlp",
        title="OpenTelemetry OTLP/JSON traces (resourceSpans)",
        table="llm_requests",
        syntax=("json", "jsonl"),
        fields=fields(
            Field("start", "clock", "ns", "arrival_ns"),
            Field("end", "clock", "ns", "last_token_ns"),
        ),
        canonical=held,
        rest=merged,
        unfold=_otlp_rows,
        matches=_is_otlp,
        clock="utc",
        absolute=True,
        source="opentelemetry-proto trace/v1; vllm/tracing and sglang/srt/observability/trace.py (0.5.23) for attributes",
        evidence="documentation",
        quirks=(*_QUIRKS, "64-bit numbers come as strings; status code 2 is an error"),
    ),
    Format(
        name="otel",
        title="OpenTelemetry spans as plain JSON lists",
        table="llm_requests",
        syntax=("json", "jsonl"),
        fields=fields(
            Field("start", "instant", "UTC", "arrival_ns", minimum=None),
            Field("end", "instant", "UTC", "last_token_ns", minimum=None),
        ),
        canonical=held,
        rest=merged,
        unfold=_flat,
        matches=_is_flat,
        clock="utc",
        absolute=True,
        source="kubernetes-sigs/inference-perf (Apache-2.0), examples/otel; Exgentic/agent-llm-traces",
        evidence="real file",
        quirks=(
            *_QUIRKS,
            "naive stamps are taken for UTC, also beside stamps with an offset",
            "a failed span with 0 tokens has unknown lengths",
            "where no parents are recorded, the order of a workflow's calls is unknown",
        ),
    ),
)

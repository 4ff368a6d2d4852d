"""What is built in, as rows: formats, targets, gpus, models, presets, queries."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from .errors import UnknownName

Row = dict[str, Any]


def _formats() -> list[Row]:
    from .formats import FORMATS

    return [
        {
            "name": f.name,
            "kind": f.kind,
            "table": f.table,
            "reads": f.title,
            "evidence": f.evidence,
            "source": f.source,
        }
        for f in FORMATS.values()
    ]


def _targets() -> list[Row]:
    from .formats import TARGETS

    return [
        {
            "name": t.name,
            "writes": t.title,
            "tools": t.tools,
            "file": t.suffix or "folder",
            "from": " or ".join("any" if i.table == "*" else i.table for i in t.intakes),
            "needs": ", ".join(t.needs),
            "carries": "all" if t.carries is None else ", ".join(t.carries),
        }
        for t in TARGETS.values()
    ]


def _presets() -> list[Row]:
    from .profile import Profile, library_names

    rows = []
    for name in library_names():
        p = Profile.library(name)
        rows.append(
            {
                "name": name,
                "kind": p.source.get("kind"),
                "fitted_on": p.source.get("trace"),
                "rows": p.source.get("rows"),
                "span_s": p.source.get("span_s"),
                "aspects": ", ".join(
                    a for part in p.parts.values() for a in part.streams[0].aspects
                ),
                "licence": p.source.get("licence"),
            }
        )
    return rows


def _queries() -> list[Row]:
    from .store import query

    return [
        {
            "name": q.name,
            "asks": q.doc,
            "parameters": ", ".join(q.parameters),
            "columns": ", ".join(q.columns),
        }
        for q in map(query.load, query.names())
    ]


def _gpus() -> list[Row]:
    from .hardware import all_devices

    return [
        {
            "name": d.name,
            "bf16_tflop_s": d.flops_per_s("bf16") / 1e12,
            "memory_gb": d.memory_bytes / 1e9,
            "memory_gb_s": d.bytes_per_s / 1e9,
            "link_gb_s": d.link_bytes_per_s / 1e9,
            "tdp_w": d.tdp_w.value,
            "idle_w": d.idle_w.value,
            "basis": d.tdp_w.basis,
            "source": d.tdp_w.source,
        }
        for d in all_devices().values()
    ]


def _models() -> list[Row]:
    from .hardware import all_models

    return [
        {
            "name": m.name,
            "params_b": m.params / 1e9,
            "active_b": m.active_params / 1e9,
            "layers": m.layers,
            "hidden": m.hidden,
            "heads": m.heads,
            "kv_heads": m.kv_heads,
            "experts": m.experts,
            "max_context": m.max_context,
        }
        for m in all_models().values()
    ]


def _techniques() -> list[Row]:
    from .techniques import TECHNIQUES

    return [
        {
            "name": t.name,
            "what": t.what,
            "parameters": ", ".join(
                f"{k}={q.value:g} ({q.basis})" for k, q in t.parameters.items()
            ),
            "limits": t.limits,
            "paper": t.paper,
        }
        for t in TECHNIQUES.values()
    ]


TOPICS: Mapping[str, Callable[[], list[Row]]] = {
    "formats": _formats,
    "targets": _targets,
    "gpus": _gpus,
    "models": _models,
    "techniques": _techniques,
    "presets": _presets,
    "queries": _queries,
}


def rows(topic: str) -> list[Row]:
    """The rows of a topic. Raises UnknownName."""
    if topic not in TOPICS:
        raise UnknownName("topic", topic, TOPICS)
    return TOPICS[topic]()

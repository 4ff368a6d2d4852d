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
            "needs": ", ".join(t.needs),
            "carries": ", ".join(t.carries),
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


TOPICS: Mapping[str, Callable[[], list[Row]]] = {
    "formats": _formats,
    "targets": _targets,
    "presets": _presets,
    "queries": _queries,
}


def rows(topic: str) -> list[Row]:
    """The rows of a topic. Raises UnknownName."""
    if topic not in TOPICS:
        raise UnknownName("topic", topic, TOPICS)
    return TOPICS[topic]()

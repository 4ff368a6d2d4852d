"""Every distance: what the score card, its floors and the held-out evaluation share."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..aspects import ASPECTS, Line
from ..aspects.rows import Rows
from .downstream import queue_lines, simulator_lines
from .streams import stream_lines

if TYPE_CHECKING:
    from ..store import Trace


def distances(a: Rows, b: Rows) -> list[Line]:
    """Lines of b against a that need nothing but rows, by the fixed limits: as many, in the same order, for every b. Those that cannot be computed
    have no value and say why."""
    lines = []
    for module in ASPECTS.values():
        if a.table in module.TABLES and hasattr(module, "distances"):
            lines += module.distances(a, b)
    if a.table == "llm_requests":
        lines += stream_lines(a, b)
        lines += queue_lines(a, b)
        lines += simulator_lines(a, b)
    return lines


def trace_distances(a: Trace, b: Trace) -> list[Line]:
    """Lines of b against a that aspects measure on whole traces: sessions, prefixes, failures, power…"""
    lines = []
    for module in ASPECTS.values():
        if a.main_table in module.TABLES and hasattr(module, "score"):
            lines += module.score(a, b)
    return lines

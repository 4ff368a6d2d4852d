"""Every distance that needs nothing but rows: what the score card, its floors and the held-out evaluation share."""

from __future__ import annotations

from ..aspects import ASPECTS, Line
from ..aspects.rows import Rows
from .downstream import queue_lines, simulator_lines
from .streams import stream_lines


def distances(a: Rows, b: Rows) -> list[Line]:
    """Lines of b against a, by the fixed limits: as many, in the same order, for every b. Those that cannot be computed
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

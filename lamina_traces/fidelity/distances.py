"""Every distance that needs nothing but rows: what the score card, its floors and the held-out evaluation share."""

from __future__ import annotations

from ..aspects import Line, arrival_distances, length_distances
from ..aspects.rows import Rows
from .downstream import queue_lines


def distances(a: Rows, b: Rows) -> list[Line]:
    """Lines of b against a, by the fixed limits. Workloads without lengths have those of arrivals alone."""
    lines = arrival_distances.distances(a, b)
    lines += length_distances.distances(a, b)
    lines += queue_lines(a, b)
    return lines

"""Export targets: one module a tool or family, each with its ``TARGETS``."""

from __future__ import annotations

from ..exporting import Target
from . import azure, burstgpt, mooncake, simulators, trace_synthetic

TARGETS: dict[str, Target] = {
    t.name: t
    for t in sorted(
        (t for m in (azure, burstgpt, mooncake, simulators, trace_synthetic) for t in m.TARGETS),
        key=lambda t: t.name,
    )
}
"""export targets by name."""

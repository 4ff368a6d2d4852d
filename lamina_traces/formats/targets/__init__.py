"""Export targets: one module a tool or family, each with its ``TARGETS``."""

from __future__ import annotations

from ..exporting import Target
from . import (
    azure,
    blis,
    burstgpt,
    conversations,
    mooncake,
    plain,
    rates,
    servegen,
    serverless,
    simulators,
    trace_synthetic,
)

_MODULES = (
    azure, blis, burstgpt, conversations, mooncake, plain, rates, servegen, serverless, simulators, trace_synthetic,
)  # fmt: skip
TARGETS: dict[str, Target] = {
    t.name: t for t in sorted((t for m in _MODULES for t in m.TARGETS), key=lambda t: t.name)
}
"""export targets by name."""

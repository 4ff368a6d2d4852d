"""Fidelity: how far a second trace is from a first, aspect by aspect. A loop over aspects.

The limits are the fixed thresholds proposed by the fidelity research; they are not calibrated on held-out
data, so a gate is a tripwire and not a proof.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ..aspects import ASPECTS, Line
from ..errors import ModelError

if TYPE_CHECKING:
    from ..store import Trace


@dataclass(frozen=True)
class ScoreCard:
    """Distances of trace ``b`` from trace ``a``; every line is 0 when they agree."""

    a: str
    b: str
    lines: tuple[Line, ...]

    @property
    def judged(self) -> tuple[Line, ...]:
        """Lines with a limit whose distance could be computed."""
        return tuple(x for x in self.lines if x.passed is not None)

    @property
    def failed(self) -> tuple[Line, ...]:
        """Lines over their limit."""
        return tuple(x for x in self.judged if not x.passed)

    @property
    def passed(self) -> bool | None:
        """None when not one line could be judged."""
        return not self.failed if self.judged else None

    def to_dict(self) -> dict[str, Any]:
        return {
            "a": self.a,
            "b": self.b,
            "passed": self.passed,
            "lines": [
                {
                    "aspect": x.aspect,
                    "metric": x.metric,
                    "value": x.value,
                    "limit": x.limit,
                    "passed": x.passed,
                    "unit": x.unit,
                    "note": x.note,
                }
                for x in self.lines
            ],
        }


def compare(a: Trace, b: Trace) -> ScoreCard:
    """Score every aspect that both traces have the table for. Raises ModelError when there is none."""
    shared = [t for t in a.tables if t in b.tables]
    lines: list[Line] = []
    for module in ASPECTS.values():
        if any(t in shared and t == a.main_table for t in module.TABLES):
            lines.extend(module.score(a, b))
    if not lines:
        raise ModelError(
            f"{a.name!r} holds {', '.join(a.tables)} and {b.name!r} holds {', '.join(b.tables)}: nothing to compare",
            "compare two traces of one kind",
        )
    return ScoreCard(a.name, b.name, tuple(lines))

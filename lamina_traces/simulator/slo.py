"""Service-level objectives: limits on latencies, as text and as numbers."""

from __future__ import annotations

import re
from dataclasses import dataclass

from ..errors import UnknownName, UsageError
from ..units import parse_duration_ns

LATENCIES = ("ttft", "tpot", "e2e", "queue")
TARGET = 0.99
"""of the requests that have to meet limits without a statistic."""
STATS = ("mean", "p50", "p90", "p95", "p99", "p99.9")
_TERM = re.compile(r"\s*([\w]+)(?:\.([\w.]+))?\s*(?:<=|=|<)\s*(\S+)\s*")


@dataclass(frozen=True, slots=True)
class Limit:
    """``latency`` of a request (or its ``stat`` over all) is at most ``limit_s``."""

    latency: str
    stat: str | None
    limit_s: float

    @property
    def key(self) -> str:
        """The metric it is about, such as ``ttft_p99_s``; '' for a limit on each request alone."""
        return f"{self.latency}_{self.stat}_s" if self.stat else ""

    def __str__(self) -> str:
        stat = f".{self.stat}" if self.stat else ""
        return f"{self.latency}{stat}={self.limit_s:g}s"


@dataclass(frozen=True, slots=True)
class Slo:
    """Limits that hold together: those with a statistic when their metric is within them, the others when at least ``target`` of the
    requests meet all of these at once."""

    limits: tuple[Limit, ...]
    target: float = TARGET

    @property
    def each(self) -> tuple[Limit, ...]:
        """What each request is held to for attainment: limits without a statistic; where there are none, all of them."""
        return tuple(x for x in self.limits if x.stat is None) or self.limits

    def __str__(self) -> str:
        return ",".join(map(str, self.limits))


def parse_slo(text: str, target: float | None = None) -> Slo:
    """``"ttft.p99=2s,tpot.p99=100ms"`` → Slo. Without a stat the limit is on each request alone; ``target`` of them have to
    meet these (None: ``TARGET``).

    Raises UnknownName (latency, stat) or UsageError (form, duration, a target that is no share).
    """
    if target is not None and not 0 < target <= 1:
        raise UsageError(f"target {target:g} is no share", "give a number above 0, up to 1")
    limits: list[Limit] = []
    for term in text.split(","):
        match = _TERM.fullmatch(term)
        if match is None:
            raise UsageError(
                f"SLO {term.strip()!r} is not LATENCY[.STAT]=DURATION",
                "as in ttft.p99=2s,tpot.p99=100ms",
            )
        latency, stat, duration = match[1].lower(), match[2], match[3]
        if latency not in LATENCIES:
            raise UnknownName("latency", match[1], LATENCIES)
        if stat is not None and stat.lower() not in STATS:
            raise UnknownName("statistic", stat, STATS)
        limit = Limit(latency, stat.lower() if stat else None, parse_duration_ns(duration) / 1e9)
        if any((x.latency, x.stat) == (limit.latency, limit.stat) for x in limits):
            raise UsageError(
                f"SLO {text!r} limits {term.strip().split('=')[0]} twice", "give each limit once"
            )
        limits.append(limit)
    return Slo(tuple(limits), TARGET if target is None else target)

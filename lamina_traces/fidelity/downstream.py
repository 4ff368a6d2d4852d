"""What two workloads do to a system behind them: the test that no statistic of a trace replaces.

A plain queue sees bursts, lengths and how the two go together; the serving simulator sees what a batching engine
makes of them.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ..aspects import Line
from ..aspects.rows import Rows
from ..units import NS_PER_S
from .queueing import waits_s

Array = npt.NDArray[np.float64]

SERVERS = 8
LOADS = (0.5, 0.7, 0.9)
PER_INPUT_S = 1e-4
PER_OUTPUT_S = 2e-2
"""service time of a token, before it is scaled to the load."""
FEWEST = 1000
"""requests below which a p99 has fewer than ten beyond it."""
NEGLIGIBLE = 0.01
"""of a mean service time: added to every wait, so that two waits that nobody feels do not differ without bounds."""
LIMIT = 0.25


@dataclass(frozen=True)
class Offered:
    """Requests with an arrival and both lengths: ``arrival_s`` [n] ascending, ``input_tokens``, ``output_tokens`` [n]."""

    arrival_s: Array
    input_tokens: Array
    output_tokens: Array
    span_s: float

    @classmethod
    def of(cls, rows: Rows) -> Offered:
        """Rows without an arrival or a length are left out."""
        x, y = rows.input_tokens[: rows.timed], rows.output_tokens[: rows.timed]
        whole = ~(np.isnan(x) | np.isnan(y))
        return cls(rows.arrival_ns[whole] / NS_PER_S, x[whole], y[whole], rows.span_s)

    @property
    def work_s(self) -> Array:
        """[n] service times before they are scaled."""
        return PER_INPUT_S * self.input_tokens + PER_OUTPUT_S * self.output_tokens

    def slowness(self, load: float) -> float:
        """What service times are multiplied by so that this much of the servers is asked for."""
        return load * SERVERS * self.span_s / float(self.work_s.sum())


def queue_lines(a: Rows, b: Rows) -> list[Line]:
    """|ln ratio| of the p99 wait behind 8 servers, first come first served, for each of LOADS.

    ``at load``: one speed serves both, that at which a offers the load, so a workload that asks for more waits longer.
    ``at equal load``: each is served at the speed at which it offers the load itself: what is left is how requests
    come, how heavy they are and how the two go together.
    """
    first, second = Offered.of(a), Offered.of(b)
    note = ""
    if min(len(first.arrival_s), len(second.arrival_s)) < FEWEST:
        note = f"fewer than {FEWEST:,} requests with an arrival and both lengths"
    elif min(first.span_s, second.span_s, first.work_s.sum(), second.work_s.sum()) <= 0:
        note = "no load"
    shared: list[Line] = []
    equal: list[Line] = []
    for load in LOADS:
        values: tuple[float | None, float | None] = (None, None)
        if not note:
            mine, theirs = first.slowness(load), second.slowness(load)
            here = _tail(first, mine)
            values = (
                abs(math.log(_tail(second, mine) / here)),
                abs(math.log(_tail(second, theirs) / theirs * mine / here)),
            )
        for lines, value, name in zip((shared, equal), values, ("load", "equal load"), strict=True):
            metric = f"p99 wait at {name} {load:g}"
            lines.append(Line("queue", metric, value, LIMIT, "|ln ratio|", note))
    return shared + equal


def _tail(offered: Offered, slowness: float) -> float:
    """p99 of the wait in seconds, a negligible one added."""
    service = offered.work_s * slowness
    waits = waits_s(offered.arrival_s, service, SERVERS)
    return float(np.quantile(waits, 0.99)) + NEGLIGIBLE * float(service.mean())

"""What two workloads do to a system behind them: the test that no statistic of a trace replaces.

A plain queue sees bursts, lengths and how the two go together; the serving simulator sees what a batching engine
makes of them.
"""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from .. import simulator, specs
from ..aspects import Line
from ..aspects.rows import Rows
from ..errors import ModelError
from ..schema import Requests
from ..units import NS_PER_S, format_seconds
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
MODEL, GPU = "llama-3.1-8b", "a100-80-sxm"
"""what the simulator serves with; only the number of replicas follows the load."""
BUSY = 0.7
MOST_REPLICAS = 256
MOST_SIMULATED = 50_000
"""requests of the first workload that are simulated, and of the second those of as much time."""


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
    ``at equal load``: each is served at the speed at which it offers the load itself, and waits count in its own mean
    service times: what is left is how requests come, how heavy they are and how the two go together.
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
            means = mine * float(first.work_s.mean()), theirs * float(second.work_s.mean())
            values = (
                abs(math.log(_tail(second, mine) / here)),
                abs(math.log(_tail(second, theirs) / means[1] * means[0] / here)),
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


def simulator_lines(a: Rows, b: Rows) -> list[Line]:
    """|ln ratio| of the p99 TTFT on one deployment for both: Llama 3.1 8B on A100s, the fewest replicas (1, 2, 4, …) that
    a keeps busy for at most 70 % of the time. Recorded arrivals, open loop; requests without tokens are left out."""
    value, first = None, _deployment(a)
    note = first if isinstance(first, str) else ""
    if not isinstance(first, str):
        end = a.span_ns if a.timed <= MOST_SIMULATED else int(a.arrival_ns[MOST_SIMULATED])
        try:
            second = _p99_ttft_s(_simulated(_until(b, end), first.replicas))
        except ModelError as e:
            note = e.message
        else:
            value = abs(math.log(second / first.p99_ttft_s))
            times = f"{format_seconds(first.p99_ttft_s)}, {format_seconds(second)}"
            note = f"{MODEL} on {first.replicas} × {GPU}: {times}"
            if end < a.span_ns:
                note += f"; the first {MOST_SIMULATED:,} requests, and as much time of the other"
    return [Line("simulator", "p99 TTFT", value, LIMIT, "|ln ratio|", note)]


@dataclass(frozen=True)
class Deployed:
    """How many replicas a workload is given, and the p99 TTFT that it sees there."""

    replicas: int
    p99_ttft_s: float


@functools.lru_cache(maxsize=1)  # one workload is held against many
def _deployment(a: Rows) -> Deployed | str:
    """What a is served on, or why it cannot be."""
    if a.timed > MOST_SIMULATED:
        a = _until(a, int(a.arrival_ns[MOST_SIMULATED]))
    replicas = 1
    try:
        while replicas <= MOST_REPLICAS:
            result = _simulated(a, replicas)
            if (result.metrics["busy_frac"] or 0.0) <= BUSY:
                return Deployed(replicas, _p99_ttft_s(result))
            replicas *= 2
    except ModelError as e:
        return e.message
    return f"{MOST_REPLICAS} replicas are not enough for this load"


def _until(rows: Rows, end_ns: int) -> Rows:
    return rows if end_ns >= rows.span_ns else rows.between(0, end_ns)


def _simulated(rows: Rows, replicas: int) -> simulator.Result:
    """Raises ModelError where too few requests can be simulated."""
    offered = Offered.of(rows)
    whole = (offered.input_tokens >= 1) & (offered.output_tokens >= 1)
    if whole.sum() < FEWEST:
        raise ModelError(f"fewer than {FEWEST:,} requests with an arrival and tokens both ways")
    requests = Requests.make(
        np.round(offered.arrival_s[whole] * NS_PER_S),
        offered.input_tokens[whole],
        offered.output_tokens[whole],
    )
    spec = specs.simple(MODEL, GPU, replicas=replicas, route="least-outstanding")
    return simulator.simulate(requests, spec)


def _p99_ttft_s(result: simulator.Result) -> float:
    rows = result.rows
    served = rows.first_token_ns >= 0
    if served.sum() < FEWEST:
        raise ModelError(f"fewer than {FEWEST:,} requests fit into the memory of the deployment")
    return float(np.quantile((rows.first_token_ns - rows.arrival_ns)[served], 0.99)) / NS_PER_S

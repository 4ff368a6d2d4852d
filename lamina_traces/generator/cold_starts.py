"""Makes ``cold_starts``: when pods start, how long each step takes, and what kind of pod it is.

Each stream's starts come by its arrivals (a renewal process in operational time, in equilibrium); what a start is like is
drawn by ``aspects.cold_start_draws``. Every random number is keyed by (stream, number of the start), so rows do not depend
on how time is cut.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import polars as pl

from ..aspects import arrivals as arrivals_aspect
from ..aspects import cold_starts as cold_starts_aspect
from ..aspects.arrivals import Arrivals
from ..aspects.cold_start_draws import Draws
from ..aspects.cold_starts import ColdStarts
from ..distributions import QuantileCurve
from ..errors import ModelError
from ..profile import Part, Stream
from ..units import NS_PER_S
from .maker import Made, State
from .randomness import key, uniforms
from .renewals import OperationalTime, Renewals

Array = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

BLOCK_ROWS = 65_536


@dataclass(frozen=True, eq=False)
class _Source:
    """One stream: what it draws from, its clock, its starts, and the step in which they are stamped."""

    draws: Draws
    clock: OperationalTime
    starts: Renewals
    quantum_ns: int
    rate_per_s: float
    of: int
    where: dict[str, str]
    name: str


class ColdStartMaker:
    """``cold_starts`` from the aspects ``arrivals`` and ``cold_starts`` of a part's streams; ``factor`` multiplies their rates.

    Raises ModelError where no stream has cold starts, or one of those that have does not say when they come.
    """

    table = "cold_starts"

    def __init__(self, part: Part, seed: int, *, factor: float = 1.0) -> None:
        self._sources = [
            found
            for i, stream in enumerate(part.streams)
            if (found := _source(stream, key(seed, "cold_starts", i), factor)) is not None
        ]
        if not self._sources:
            raise ModelError(
                f"the profile has no cold starts for {part.table}", "fit a trace that holds them"
            )
        rate = math.fsum(s.rate_per_s for s in self._sources)
        self.block_ns = 2 ** int(np.clip(round(math.log2(BLOCK_ROWS / rate * NS_PER_S)), 10, 55))

    def expected_rows(self, duration_ns: int) -> float:
        """E[rows] of a trace of this length, exactly: rate × operational time."""
        return math.fsum(
            s.rate_per_s * s.clock.passed(duration_ns) / NS_PER_S for s in self._sources
        )

    def start(self) -> State:
        first = [s.starts.start() for s in self._sources]
        return {
            "next_ns": np.concatenate([f[0] for f in first]),
            "number": np.concatenate([f[1] for f in first]),
        }

    def make(self, block: int, end_ns: int, state: State) -> Made:  # noqa: ARG002 (the state says where the walk is)
        """The starts of a block; when they come is walked at once, what they are like is drawn when asked for."""
        next_ns, number = state["next_ns"].copy(), state["number"].copy()
        stream: list[Ints] = []
        numbers: list[Ints] = []
        arrival: list[Ints] = []
        for i, s in enumerate(self._sources):
            own = slice(i, i + 1)
            _, n, at, next_ns[own], number[own] = s.starts.until(
                s.clock.passed(end_ns), next_ns[own], number[own]
            )
            stream.append(np.full(len(n), i, dtype=np.int64))
            numbers.append(n)
            arrival.append(s.clock.wall(at) // s.quantum_ns * s.quantum_ns)
        of, n, at = (np.concatenate(x) for x in (stream, numbers, arrival))
        order = np.lexsort((n, of, at))
        of, n, at = of[order], n[order], at[order]
        after: State = {"next_ns": next_ns, "number": number}
        return Made(len(at), lambda: self._frame(of, n, at), after)

    def _frame(self, of: Ints, number: Ints, at: Ints) -> pl.DataFrame:
        frames = []
        for i, s in enumerate(self._sources):
            mine = np.flatnonzero(of == i)
            u = np.stack([uniforms(s.of, number[mine], 10 + k) for k in range(s.draws.numbers)])
            seconds, named = s.draws.seconds(u)
            columns: dict[str, pl.Series | Array | Ints] = {
                "place": mine,
                "arrival_ns": at[mine],
                "func_id": _all(s.where.get("func_id", s.name), len(mine)),
                **seconds,
            }
            for by, which in named.items():
                columns[by] = pl.Series("", [*s.draws.groups[by].names, None], dtype=pl.String).gather(which)  # fmt: skip
            columns |= {k: _all(v, len(mine)) for k, v in s.where.items()}
            frames.append(pl.DataFrame(columns))
        return pl.concat(frames, how="diagonal").sort("place").drop("place")


def _all(value: str, rows: int) -> pl.Series:
    return pl.Series("", [value], dtype=pl.String).new_from_index(0, rows)


def _source(stream: Stream, of: int, factor: float) -> _Source | None:
    law = stream.aspects.get(cold_starts_aspect.NAME)
    if not isinstance(law, ColdStarts):
        return None
    arrivals = stream.aspects.get(arrivals_aspect.NAME)
    if not isinstance(arrivals, Arrivals):
        raise ModelError(
            f"the profile does not say when the cold starts of {stream.name!r} come",
            "supply their rate: --arrivals poisson --rate 2/s",
        )
    rate = arrivals.rate_per_s * factor
    gaps = QuantileCurve.of(arrivals.unit_gaps)
    gap_ns = np.array([NS_PER_S / rate if rate > 0 else math.inf])
    starts = Renewals((gaps,), np.zeros(1, dtype=np.int64), gap_ns, of)
    clock = OperationalTime.of(arrivals.generating_curve, arrivals.window_s)
    quantum = max(1, round(arrivals.quantum_s * NS_PER_S))
    return _Source(Draws.of(law), clock, starts, quantum, rate, of, dict(stream.where), stream.name)

"""Makes ``cold_starts``: when pods start, how long each step takes, and what kind of pod it is.

Each stream's starts come by its arrivals (see ``process``, as requests do); what a start is like is drawn by
``aspects.cold_start_draws``, from numbers that are keyed by (stream, number of the start).
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
from ..errors import ModelError
from ..profile import Part, Stream
from .maker import Made, State
from .plan import block_length
from .process import MAX_RATE_PER_S, Process
from .randomness import key, uniforms

Array = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

BLOCK_ROWS = 65_536


@dataclass(frozen=True, eq=False)
class _Source:
    """One stream: what it draws from, when its starts come, and the key of its numbers."""

    draws: Draws
    process: Process
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
            if (found := _source(stream, seed, i, factor)) is not None
        ]
        if not self._sources:
            raise ModelError(
                f"the profile has no cold starts for {part.table}", "fit a trace that holds them"
            )
        rate = math.fsum(s.process.per_s for s in self._sources)
        self.block_ns = block_length(rate, BLOCK_ROWS)

    def expected_rows(self, duration_ns: int) -> float:
        """E[rows] of a trace of this length."""
        return math.fsum(s.process.expected(duration_ns) for s in self._sources)

    def start(self) -> State:
        state: State = {f"{i}.left": s.process.start() for i, s in enumerate(self._sources)}
        return state | {"number": np.zeros(len(self._sources), dtype=np.int64)}

    def make(self, block: int, end_ns: int, state: State) -> Made:
        """The starts of a block; when they come is walked at once, what they are like is drawn when asked for."""
        number = state["number"].copy()
        after: State = {"number": number}
        stream: list[Ints] = []
        numbers: list[Ints] = []
        arrival: list[Ints] = []
        for i, s in enumerate(self._sources):
            at, after[f"{i}.left"] = s.process.arrivals(
                block, block * self.block_ns, end_ns, state[f"{i}.left"]
            )
            stream.append(np.full(len(at), i, dtype=np.int64))
            numbers.append(number[i] + np.arange(len(at)))
            arrival.append(at)
            number[i] += len(at)
        of, n, at = (np.concatenate(x) for x in (stream, numbers, arrival))
        order = np.lexsort((n, of, at))
        of, n, at = of[order], n[order], at[order]
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
                "func_id": pl.repeat(
                    s.where.get("func_id", s.name), len(mine), dtype=pl.String, eager=True
                ),
                **seconds,
            }
            for by, which in named.items():
                columns[by] = pl.Series("", [*s.draws.groups[by].names, None], dtype=pl.String).gather(which)  # fmt: skip
            columns |= {
                k: pl.repeat(v, len(mine), dtype=pl.String, eager=True) for k, v in s.where.items()
            }
            frames.append(pl.DataFrame(columns))
        return pl.concat(frames, how="diagonal").sort("place").drop("place")


def _source(stream: Stream, seed: int, i: int, factor: float) -> _Source | None:
    law = stream.aspects.get(cold_starts_aspect.NAME)
    if not isinstance(law, ColdStarts):
        return None
    arrivals = stream.aspects.get(arrivals_aspect.NAME)
    if not isinstance(arrivals, Arrivals):
        raise ModelError(
            f"the profile does not say when the cold starts of {stream.name!r} come",
            "supply their rate: --arrivals poisson --rate 2/s",
        )
    if not 0 < arrivals.rate_per_s * factor <= MAX_RATE_PER_S:
        raise ModelError(
            f"cold starts at {arrivals.rate_per_s * factor:g} per second cannot be generated",
            f"rates are positive and go up to {MAX_RATE_PER_S:g}/s",
        )
    process = Process(arrivals, seed, i, rate=factor)
    return _Source(
        Draws.of(law), process, key(seed, "cold_starts", i), dict(stream.where), stream.name
    )

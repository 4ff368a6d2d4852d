"""Many renewal processes at once, and the clock that bends their time.

Each process has gaps of one law and a mean gap of its own; it starts in equilibrium, so E[N(t)] is rate × t from the first
instant on. Events are known by (process, number), and every gap is a hash of that: whoever walks how far at a time, the
events are the same.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ..distributions import QuantileCurve
from ..errors import ModelError
from ..units import NS_PER_S
from .randomness import uniforms

Array = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

NUMBER_BITS = 36
"""events of one process, of which there can be 2²⁸."""
SHORTEST_NS = 1.0
"""shortest mean gap of one process."""
LONGEST_NS = 2**56
"""no gap is longer than two years: sums of them stay whole numbers of 64 bits."""


def named(process: Ints, number: Ints) -> npt.NDArray[np.uint64]:
    """One whole number for each event."""
    return (process.astype(np.uint64) << np.uint64(NUMBER_BITS)) | number.astype(np.uint64)


@dataclass(frozen=True, eq=False)
class Renewals:
    """``curves``: laws of gaps; ``law`` [processes]: which of them each has; ``gap_ns`` [processes]: mean gap in
    operational ns; ``of``: a ``key``. Raises ModelError where a law has no mean or a rate is none."""

    curves: tuple[QuantileCurve, ...]
    law: Ints
    gap_ns: Array
    of: int

    def __post_init__(self) -> None:
        for curve in self.curves:
            if not (math.isfinite(curve.mean) and curve.mean > 0 and curve.values[0] >= 0):
                raise ModelError(
                    "a law of gaps in the profile has no positive mean", "fit the profile again"
                )
        if not (np.isfinite(self.gap_ns).all() and (self.gap_ns >= SHORTEST_NS).all()):
            raise ModelError(
                "a rate of the profile, or what it is multiplied by, cannot be generated",
                f"rates are positive and go up to {NS_PER_S / SHORTEST_NS:g}/s",
            )

    def start(self) -> tuple[Ints, Ints]:
        """([processes] operational ns of the next event, its number)."""
        size = len(self.law)
        ids = np.arange(size, dtype=np.int64)
        u, v = uniforms(self.of, ids, 1), uniforms(self.of, ids, 2)
        at = np.empty(size)
        for i, curve in enumerate(self.curves):
            mine = self.law == i
            at[mine] = curve.rests(u[mine], v[mine]) / curve.mean
        first = np.minimum(at * self.gap_ns, LONGEST_NS).astype(np.int64)
        return first, np.zeros(size, dtype=np.int64)

    def until(
        self, end_ns: int, next_ns: Ints, number: Ints
    ) -> tuple[Ints, Ints, Ints, Ints, Ints]:
        """(process, number, operational ns) of the events before ``end_ns``, and the next ones after it. Events come
        process by process, in no order between them."""
        next_ns, number = next_ns.copy(), number.copy()
        found: list[tuple[Ints, Ints, Ints]] = []
        while True:
            active = np.flatnonzero(next_ns < end_ns)
            if not len(active):
                break
            expected = (end_ns - next_ns[active]) / self.gap_ns[active]
            size = np.ceil(expected + 3 * np.sqrt(expected) + 2).astype(np.int64)
            last = np.cumsum(size) - 1
            first = last - size + 1
            process = np.repeat(active, size)
            k = np.arange(len(process)) - np.repeat(first, size)
            numbers = number[process] + k
            gaps = self._gaps(process, numbers)
            # sums run over all processes and wrap; their differences within one do not
            total = np.cumsum(gaps)
            after = next_ns[process] + total - np.repeat(total[first] - gaps[first], size)
            at = after - gaps
            inside = at < end_ns
            found.append((process[inside], numbers[inside], at[inside]))
            n = np.add.reduceat(inside.astype(np.int64), first)
            number[active] += n
            next_ns[active] = after[first + n - 1]
        if not found:
            none = np.zeros(0, dtype=np.int64)
            return none, none, none, next_ns, number
        process, numbers, at = (np.concatenate(x) for x in zip(*found, strict=True))
        return process, numbers, at, next_ns, number

    def _gaps(self, process: Ints, number: Ints) -> Ints:
        u = uniforms(self.of, named(process, number))
        law = self.law[process]
        out = np.empty(len(u))
        for i in np.unique(law):
            mine = law == i
            curve = self.curves[i]
            out[mine] = curve.quantile(u[mine]) / curve.mean
        return np.minimum(np.rint(out * self.gap_ns[process]), LONGEST_NS).astype(np.int64)


@dataclass(frozen=True, eq=False)
class OperationalTime:
    """Λ of a rate curve that repeats, its mean 1: operational ns, of which as many pass as the rate is high."""

    edges_ns: Array
    passed_ns: Array

    @classmethod
    def of(cls, curve: Array, window_s: float) -> OperationalTime:
        """From multiples of the mean rate in windows of ``window_s``."""
        window_ns = window_s * NS_PER_S
        edges = np.round(np.arange(len(curve) + 1) * window_ns)
        passed = np.concatenate([[0.0], np.cumsum(curve / curve.mean())]) * window_ns
        passed[-1] = edges[-1]
        return cls(edges, np.maximum.accumulate(passed))

    @classmethod
    def steady(cls) -> OperationalTime:
        return cls.of(np.ones(1), 3600.0)

    def passed(self, t_ns: int) -> int:
        """Operational ns until a wall instant."""
        period = int(self.edges_ns[-1])
        turns, rest = divmod(t_ns, period)
        return turns * period + round(float(np.interp(rest, self.edges_ns, self.passed_ns)))

    def wall(self, at: Ints) -> Ints:
        """Wall instants of operational ones."""
        period = int(self.edges_ns[-1])
        turns, rest = np.divmod(at, period)
        inside = np.interp(rest.astype(np.float64), self.passed_ns, self.edges_ns)
        return np.asarray(turns * period + inside.astype(np.int64))

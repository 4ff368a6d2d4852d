"""When the requests of one stream arrive: a rate in pieces, and renewal processes on the clocks that it drives.

The rate is either the source's own curve, played again and again (``replay``), or a new course: season × modulation (see
``aspects.modulation``). Either way it is a list of pieces for any stretch of time, drawn without the past. A clock of
each class of levels runs with the rate while the level is in its class; arrivals are an equilibrium renewal process on
each clock, so their expected number is the integral of the rate. What one block hands to the next is what is left of
the gap that crosses the border, on each clock.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ..aspects import renewal
from ..aspects.arrivals import Arrivals
from ..aspects.modulation import Modulation
from ..units import NS_PER_S
from .levels import Levels
from .randomness import key, stream, uniforms

Array = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

MIN_RATE_PER_S, MAX_RATE_PER_S = 1e-9, 1e9
"""of all streams together."""
SEASON_STEP_S = 900.0
"""longest piece where a season changes the rate inside a window."""


@dataclass(frozen=True)
class Pieces:
    """A rate that is constant on pieces: ``edges_ns`` [p + 1], ``gaps`` expected arrivals on each, ``kind`` its class."""

    edges_ns: Array
    gaps: Array
    kind: npt.NDArray[np.int64]


class Process:
    """Arrivals of one stream. ``rate``: multiplies the rate; ``speed``: makes all times so many times shorter. ``starts``: how
    the rate swings where not rows arrive but what makes several of them. ``clock``: whose steps all stamps are at, one log having
    one clock."""

    def __init__(
        self, law: Arrivals, seed: int, index: int, *, rate: float = 1.0, speed: float = 1.0, replay: bool = False,
        starts: Modulation | None = None, clock: Arrivals | None = None,
    ) -> None:  # fmt: skip
        self.seed, self.index = seed, index
        self.per_s = law.rate_per_s * rate
        self.replay = replay
        self.speed = speed
        logged = clock or law
        self.quantum_ns = max(1, round(logged.quantum_s / speed * NS_PER_S))
        self.jitter_ns = logged.jitter_s / speed * NS_PER_S
        self.tick_ns = max(1, round(logged.tick_s / speed * NS_PER_S))
        self.stamps = key(seed, "stamps")
        self.curve = law.generating_curve
        self.curve_ns = law.window_s / speed * NS_PER_S
        self.new = new = starts or law.modulated
        at_curve = starts.unit_gaps[len(starts.cuts) // 2] if starts else law.unit_gaps
        self.laws: tuple[renewal.Gaps, ...] = (at_curve,) if replay else new.unit_gaps
        self.cuts = np.array(() if replay else new.cuts)
        self.window_ns = new.window_s / speed * NS_PER_S
        steps = 1 if new.season is None else math.ceil(new.window_s / SEASON_STEP_S)
        self.piece_ns = self.curve_ns if replay else self.window_ns / steps
        """length of a stretch of steady rate"""
        self.steps = steps
        self.levels = Levels(new.parts, self.window_ns, seed, "levels", index)
        self.first_ns = self.levels.first_ns

    def start(self) -> Array:
        """[classes] of the first gap on each clock."""
        rng = stream(self.seed, "arrivals", self.index)
        return np.array([renewal.first_gap(g, rng) for g in self.laws])

    def expected(self, duration_ns: int) -> float:
        """Expected arrivals: Λ(T)."""
        total, at = 0.0, 0
        step = max(duration_ns // 64, 2**40)
        while at < duration_ns:
            end = min(at + step, duration_ns)
            total += float(self._mean_gaps(at, end))
            at = end
        return total

    def _mean_gaps(self, a: int, b: int) -> float:
        """Expected arrivals on a stretch, over all courses that the modulation may take."""
        if self.replay:
            return float(self._replayed(a, b).gaps.sum())
        if self.new.season is None:
            return self.per_s * (b - a) / NS_PER_S
        count = max(1, math.ceil((b - a) / (SEASON_STEP_S * NS_PER_S)))
        edges = np.linspace(a, b, count + 1)
        middle = (edges[1:] + edges[:-1]) / 2 / NS_PER_S * self.speed
        return float((self.new.expected(middle) * np.diff(edges)).sum() * self.per_s / NS_PER_S)

    def pieces(self, a: int, b: int) -> Pieces:
        """The rate on [a, b) ns."""
        return self._replayed(a, b) if self.replay else self._drawn(a, b)

    def _replayed(self, a: int, b: int) -> Pieces:
        first, last = math.floor(a / self.curve_ns), math.ceil(b / self.curve_ns)
        windows = np.arange(first, max(last, first + 1))
        edges = np.asarray(np.append(windows, windows[-1] + 1) * self.curve_ns, dtype=np.float64)
        edges[0], edges[-1] = a, b
        gaps = self.curve[windows % len(self.curve)] * np.diff(edges) * (self.per_s / NS_PER_S)
        return Pieces(edges, gaps, np.zeros(len(gaps), dtype=np.int64))

    def _drawn(self, a: int, b: int) -> Pieces:
        first = math.floor((a + self.first_ns) / self.piece_ns)
        last = max(math.ceil((b + self.first_ns) / self.piece_ns), first + 1)
        pieces = np.arange(first, last)
        edges = np.asarray(np.arange(first, last + 1) * self.piece_ns - self.first_ns, dtype=np.float64)  # fmt: skip
        edges[0], edges[-1] = a, b
        level = self._levels(first // self.steps, (last - 1) // self.steps + 1)
        kind = np.searchsorted(self.cuts, level, side="right") if len(self.cuts) else np.zeros(len(level), dtype=np.int64)  # fmt: skip
        if self.steps > 1:
            at = pieces // self.steps - first // self.steps
            level, kind = level[at], kind[at]
        if self.new.season is not None:
            middle = np.maximum((edges[1:] + edges[:-1]) / 2, 0.0) / NS_PER_S * self.speed
            level = level * self.new.expected(middle)
        return Pieces(edges, level * np.diff(edges) * (self.per_s / NS_PER_S), kind)

    def _levels(self, first: int, last: int) -> Array:
        """Levels of the windows from ``first`` to before ``last``."""
        from scipy.special import ndtr

        if self.new.levels[0] == self.new.levels[-1]:
            return np.ones(last - first)
        return self.new.level(ndtr(self.levels.z(first, last)))

    def arrivals(self, block: int, a: int, b: int, left: Array) -> tuple[Ints, Array]:
        """(sorted instants in [a, b), what is left on each clock after them)."""
        pieces = self.pieces(a, b)
        found = []
        after = np.empty_like(left)
        for c in range(len(self.laws)):
            gaps = pieces.gaps if len(self.laws) == 1 else np.where(pieces.kind == c, pieces.gaps, 0.0)  # fmt: skip
            clock = np.concatenate([[0.0], np.cumsum(gaps)])
            at, after[c] = self._renewals(c, block, float(left[c]), float(clock[-1]))
            if len(at):
                found.append(np.interp(at, clock, pieces.edges_ns))
        t = np.concatenate(found) if found else np.zeros(0)
        if len(found) > 1:
            t.sort()
        ns = np.clip(t.astype(np.int64), a, b - 1)
        return self._stamped(ns), after

    def _stamped(self, ns: Ints) -> Ints:
        """As a coarse clock logs them: at its steps, which jitter by whole ticks. A step has one stamp, whatever block and
        stream its arrivals are in, so stamps rise with time."""
        if self.quantum_ns <= 1:
            return ns
        step = ns // self.quantum_ns
        out = step * self.quantum_ns
        if self.jitter_ns > 0:
            from scipy.special import ndtri

            most = self.quantum_ns // (2 * self.tick_ns)
            off = np.rint(ndtri(uniforms(self.stamps, step)) * (self.jitter_ns / self.tick_ns))
            out += np.clip(off.astype(np.int64), -most, most) * self.tick_ns
        return np.asarray(np.maximum(out, 0))

    def _renewals(self, c: int, block: int, first: float, length: float) -> tuple[Array, float]:
        """(positions on a clock that runs for ``length``, what is left of the gap that reaches beyond)."""
        if first >= length:
            return np.zeros(0), first - length
        rng = stream(self.seed, "arrivals", self.index, c, block)
        out, at = [np.array([first])], first
        while True:
            more = length - at
            size = int(more + 4 * math.sqrt(more + 1)) + 16
            ends = renewal.sample(self.laws[c], rng, size)
            np.cumsum(ends, out=ends)
            ends += at
            inside = int(np.searchsorted(ends, length, side="left"))
            out.append(ends[:inside])
            if inside < size:
                return np.concatenate(out), float(ends[inside]) - length
            at = float(ends[-1])

"""Gaps between arrivals, as rows go by in time order: their frequency table, their sums by window, the longest."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import polars as pl

from ..counts import Binning, Counts, count_into
from ..distributions.families import gamma_shape
from ..units import NS_PER_S, short
from .dispersion import WindowCounts
from .timeline import Timeline, instants

if TYPE_CHECKING:
    from ..store import Trace

Array = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

LONGEST = 20
FEWEST = 20
"""gaps in a window that carry a law of their own."""


class Pass:
    """One pass over ``arrival_ns``. Gaps across a mask count nowhere."""

    columns: Mapping[str, str] = {"arrival_ns": "arrival_ns"}

    def __init__(self, trace: Trace, timeline: Timeline) -> None:
        self.timeline = timeline
        self.tick_ns = max(trace.manifest.tick_ns or 1, 1)
        self.windows = WindowCounts(timeline, self.tick_ns)
        self.fine = Binning(11, self.tick_ns / NS_PER_S, "s")
        self.n = np.zeros(self.fine.size, dtype=np.int64)
        self.total = np.zeros(self.fine.size)
        """ticks, of the bins that hold several values"""
        self.coarse = Binning(6, self.tick_ns / NS_PER_S, "s")
        self._looked_up = self.coarse.index(np.arange(1 << 16, dtype=np.int64))
        shape = (timeline.windows, self.coarse.size)
        self.window_n = np.zeros(shape, dtype=np.int64)
        self.window_total = np.zeros(shape)
        """ticks"""
        self.rows = np.zeros(timeline.windows)
        """arrivals per window"""
        self.longest: list[tuple[int, int]] = []
        self.borders: list[tuple[int, int]] = []
        """gaps whose ends lie in different windows, as (start, end) in ns: at most one a window."""
        self.lagged = 0.0
        """Σ gᵢ·gᵢ₊₁ and Σ of the pairs' left and right members, in ticks, for the memory coefficient."""
        self.pairs = np.zeros(5)
        self.moments = np.zeros(3)
        """gaps, Σ and Σ² of them in ticks"""
        self._last: int | None = None
        self._last_gap: float | None = None

    def add(self, rows: Mapping[str, pl.Series]) -> None:
        t = instants(rows)
        if not len(t):
            return
        self.windows.add(t)
        for window, a, b in self.timeline.cuts(t):
            self.rows[window] += b - a
        last = int(t[-1])
        if self._last is not None:
            before = np.empty_like(t)
            before[0], before[1:] = self._last, t[:-1]
        else:
            before, t = t[:-1], t[1:]
        self._last = last
        if self.timeline.masks and len(t):
            known = ~self.timeline.crosses(before, t)
            t, before = t[known], before[known]
        if len(t):
            self._gaps(t, before)

    def _gaps(self, t: Ints, before: Ints) -> None:
        g = t - before
        if self.tick_ns > 1:
            g //= self.tick_ns
        self._remember_longest(g, before, t)
        x = g.astype(np.float64)
        at = self.fine.index(g)
        count_into(self.n, at)
        big = g >= 1 << self.fine.bits
        if big.any():
            count_into(self.total, at[big], x[big])
        coarse = self._coarse_of(g)
        for window, a, b in self.timeline.cuts(t):
            count_into(self.window_n[window], coarse[a:b])
            count_into(self.window_total[window], coarse[a:b], x[a:b])
            if before[a] < self.timeline.first_ns + window * self.timeline.width_ns:
                self.borders.append((int(before[a]), int(t[a])))
        self.moments += np.array([len(x), x.sum(), x @ x])
        left = x[:-1] if self._last_gap is None else np.concatenate([[self._last_gap], x[:-1]])
        right = x[1:] if self._last_gap is None else x
        self.pairs += np.array([len(right), left.sum(), right.sum(), left @ left, right @ right])
        self.lagged += float(left @ right)
        self._last_gap = float(x[-1])

    def _coarse_of(self, g: Ints) -> npt.NDArray[Any]:
        """Coarse bins; those of gaps up to 65,535 ticks are looked up."""
        small = g < len(self._looked_up)
        if small.all():
            return self._looked_up[g]
        out = self._looked_up[np.where(small, g, 0)]
        out[~small] = self.coarse.index(g[~small])
        return out

    def _remember_longest(self, g: Ints, before: Ints, t: Ints) -> None:
        least = (
            (self.longest[-1][1] - self.longest[-1][0]) // self.tick_ns
            if len(self.longest) == LONGEST
            else -1
        )
        at = np.flatnonzero(g > least)
        if len(at) > LONGEST:
            at = at[np.argpartition(g[at], len(at) - LONGEST)[-LONGEST:]]
        self.longest += [(int(before[i]), int(t[i])) for i in at]
        self.longest = sorted(self.longest, key=lambda s: s[0] - s[1])[:LONGEST]

    def gaps(self) -> Counts:
        """Gaps in seconds; exact below 2,048 ticks."""
        exact = np.arange(len(self.n)) < 1 << self.fine.bits
        return self.fine.counts(
            self.n, np.where(exact, np.arange(len(self.n)) * self.n, self.total)
        )

    def cv(self) -> float:
        """Population standard deviation / mean of the gaps."""
        n, total, squares = self.moments
        mean = total / n
        return math.sqrt(max(squares / n - mean * mean, 0.0)) / mean

    def memory(self) -> float | None:
        """Goh & Barabási's M: correlation of successive gaps; None where gaps do not vary."""
        k, left, right, left2, right2 = self.pairs
        if k < 2:
            return None
        covariance = self.lagged / k - left / k * right / k
        spread = math.sqrt(
            max(left2 / k - (left / k) ** 2, 0) * max(right2 / k - (right / k) ** 2, 0)
        )
        return short(covariance / spread, 4) if spread > 0 else None

    def window_sums(self) -> Array:
        """[windows, 3]: gaps, their sum and their sum of squares, in seconds, of the gaps that end in each window."""
        unit = self.coarse.unit
        x = self._means()
        return np.stack(
            [self.window_n.sum(axis=1), self.window_total.sum(axis=1) * unit, (self.window_n * x * x).sum(axis=1)],
            axis=1,
        )  # fmt: skip

    def _means(self) -> Array:
        """Mean gap of each window's bins, in seconds."""
        return np.asarray(self.window_total / np.maximum(self.window_n, 1) * self.coarse.unit)

    def unit_gaps(self, rates: Array) -> Counts:
        """Gaps in operational time for a rate (1/s) in each window: a gap inside a window is multiplied by its
        rate, one across a border is the integral of the rate along it."""
        n = self.window_n.astype(np.float64)
        total = self.window_total.copy()
        across = np.array(self.borders, dtype=np.int64).reshape(-1, 2)
        ticks = (across[:, 1] - across[:, 0]) // self.tick_ns
        cells = (self.timeline.window(across[:, 1]), self.coarse.index(ticks))
        np.subtract.at(n, cells, 1.0)
        np.subtract.at(total, cells, ticks.astype(np.float64))
        used = n > 0.5
        mean = (total / np.maximum(n, 1) * self.coarse.unit * rates[:, None])[used]
        whole = np.concatenate([[0.0], np.cumsum(rates) * self.timeline.width_s])
        edges = np.arange(len(rates) + 1, dtype=np.float64) * self.timeline.width_ns
        at = np.interp((across - self.timeline.first_ns).astype(np.float64), edges, whole)
        values = np.concatenate([np.maximum(mean, 0.0), at[:, 1] - at[:, 0]])
        weights = np.concatenate([n[used], np.ones(len(across))])
        return Counts.exact(values, weights, "mean gaps").coarse(128)

    def window_laws(self) -> tuple[list[float | None], list[float | None]]:
        """(gamma shape by maximum likelihood, CV) of the gaps of each window, None below 20 gaps: how BurstGPT and
        ServeGen describe a trace. Zero gaps stand for a quarter of a tick."""
        x = np.maximum(self._means(), self.coarse.unit / 4)
        n = self.window_n
        rows = n.sum(axis=1)
        shapes: list[float | None] = []
        cvs: list[float | None] = []
        for k in range(len(n)):
            if rows[k] < FEWEST:
                shapes.append(None)
                cvs.append(None)
                continue
            mean = float(n[k] @ x[k] / rows[k])
            s = math.log(mean) - float(n[k] @ np.log(x[k]) / rows[k])
            var = float(n[k] @ (x[k] - mean) ** 2 / rows[k])
            shapes.append(short(gamma_shape(s), 4) if s > 1e-9 else None)
            cvs.append(short(math.sqrt(var) / mean, 4))
        return shapes, cvs

    def drawn(self, weights: Array) -> list[Counts]:
        """The gap table of each draw of windows (see ``intervals.Blocks``)."""
        n = weights @ self.window_n
        total = weights @ self.window_total
        return [self.coarse.counts(a, b) for a, b in zip(n, total, strict=True)]

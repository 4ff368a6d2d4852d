"""Times between things, counted per window of the timeline: what ``durations.describe`` needs, without the rows."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import numpy.typing as npt

from ..counts import Binning, Counts
from ..units import NS_PER_S
from .durations import Durations, Windowed, describe

Ints = npt.NDArray[np.int64]

BINS = Binning(7, 1 / NS_PER_S, "s")
"""at most 1.6 % wide."""
LAWS = ("lognormal", "weibull", "lognormal-mixture")
FEWEST = 20
KNOTS = 65


class Timings:
    """Non-negative times in ns. ``windows`` of the timeline, 0 where there is none."""

    def __init__(self, windows: int) -> None:
        self.windows = windows
        self._n = np.zeros(max(windows, 1) * BINS.size)
        self._total = np.zeros_like(self._n)

    def add(self, ns: Ints, window: Ints | None) -> None:
        """Count times, each in its ``window``."""
        cell = BINS.index(ns)
        if window is not None:
            cell = cell + window * BINS.size
        self._n += np.bincount(cell, minlength=len(self._n))
        self._total += np.bincount(cell, ns, len(self._total))

    @property
    def counts(self) -> Counts:
        """In seconds."""
        shape = (-1, BINS.size)
        return BINS.counts(
            self._n.reshape(shape).sum(axis=0), self._total.reshape(shape).sum(axis=0)
        )

    def described(self, tick_ns: int | None = None) -> Durations | None:
        """Their law; None below 20 of them. ``tick_ns``: of the clock; a coarse one makes intervals of short times.
        Without windows there are no intervals."""
        counts = self.counts
        if counts.rows < FEWEST:
            return None
        windowed = None
        if self.windows:
            n, total = (x.reshape(-1, BINS.size) for x in (self._n, self._total))
            used = n.sum(axis=0) > 0
            windowed = Windowed(n[:, used], total[:, used] / NS_PER_S)
        tick_s = (tick_ns or 0) / NS_PER_S
        coarse = tick_s > 0 and float(counts.quantile(0.1)) < 10 * tick_s
        return describe(
            counts,
            tick_s=tick_s if coarse else 0.0,
            names=LAWS,
            knots=KNOTS,
            windowed=windowed,
        )


def shortened(d: Durations | None) -> Durations | None:
    """What one stream among many keeps: half the knots, the best law."""
    if d is None:
        return None
    grid = d.grid.thinned(KNOTS // 2 + 1) if d.grid else None
    return replace(d, grid=grid, families=d.families[:1])

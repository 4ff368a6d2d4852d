"""Intervals that hold for dependent data: moving blocks over windows of time, and Wilson's for shares.

Rows of a trace depend on each other: counts per minute that vary 70 times as much as a Poisson process's leave
far more doubt about a mean than their number suggests. So a trace is cut into windows in time order, blocks
of consecutive windows are drawn with replacement (circularly: Politis & Romano 1992), and an estimate is
computed again from the sums of each draw. Every estimate here is a function of sums over windows, so a draw is a
row of whole-number weights and costs one matrix product, whatever the number of rows.

The block length is Politis & White's (2004, corrected by Patton, Politis & White 2009). Blocks of one window are
drawn only where independence is not rejected.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import special

from .errors import ModelError
from .units import format_number, short

Array = npt.NDArray[np.float64]

LEVEL = 0.95
REPLICATES = 400
SEED = 20_041
"""draws are the same on every machine, so that a profile is a function of its trace."""
FEWEST_WINDOWS = 16
"""fewer windows carry no interval by moving blocks."""


@dataclass(frozen=True, slots=True)
class Interval:
    """``low`` to ``high`` at 95 %. ``method``: moving blocks, independent windows, independent rows, Wilson,
    exact. ``n_eff``: independent rows that would leave as much doubt about the mean, where that was computed.
    """

    low: float
    high: float
    method: str
    n_eff: float | None = None

    def __str__(self) -> str:
        """``[2.4, 2.7]``."""
        return f"[{format_number(self.low)}, {format_number(self.high)}]"

    def to_dict(self) -> dict[str, Any]:
        out: dict[str, Any] = {"low": self.low, "high": self.high, "method": self.method}
        return out if self.n_eff is None else out | {"n_eff": self.n_eff}

    @classmethod
    def from_dict(cls, d: dict[str, Any] | None) -> Interval | None:
        if d is None:
            return None
        low, high = float(d["low"]), float(d["high"])
        if math.isnan(low) or math.isnan(high) or low > high:
            raise ModelError(f"an interval runs from {low} to {high}", "fit the profile again")
        n_eff = d.get("n_eff")
        return cls(low, high, str(d["method"]), None if n_eff is None else float(n_eff))


def read_intervals(d: Mapping[str, Any]) -> dict[str, Interval]:
    """Intervals by name from a profile. Raises ModelError."""
    found = {str(k): Interval.from_dict(v) for k, v in d.items()}
    return {k: i for k, i in found.items() if i is not None}


def wilson(k: float, n: float) -> Interval:
    """Wilson's score interval of a share, k of n independent trials (Wilson 1927)."""
    if n <= 0:
        return Interval(0.0, 1.0, "Wilson")
    z = float(special.ndtri(0.5 + LEVEL / 2))
    p = k / n
    centre = (p + z * z / (2 * n)) / (1 + z * z / n)
    half = z / (1 + z * z / n) * math.sqrt(p * (1 - p) / n + z * z / (4 * n * n))
    return Interval(max(0.0, centre - half), min(1.0, centre + half), "Wilson", float(n))


def poisson(k: float) -> Interval:
    """Exact interval of the mean of one Poisson count (Garwood 1936), for few independent events."""
    tail = (1 - LEVEL) / 2
    low = float(special.gammaincinv(k, tail)) if k > 0 else 0.0
    return Interval(low, float(special.gammaincinv(k + 1, 1 - tail)), "exact")


def autocorrelation(x: Array, lags: int) -> Array:
    """Biased autocorrelation at lags 0 … ``lags`` around the global mean (1, then 0 for a constant)."""
    d = np.asarray(x, dtype=np.float64) - np.mean(x)
    power = float(d @ d)
    lags = min(lags, len(d) - 1)
    if power <= 0:
        return np.concatenate([[1.0], np.zeros(lags)])
    size = 1 << (2 * len(d) - 1).bit_length()
    f = np.fft.rfft(d, size)
    return np.asarray(np.fft.irfft(f * np.conj(f), size)[: lags + 1] / power)


def block_length(series: Array) -> int:
    """Politis & White's (2004) automatic length of circular blocks, in entries of ``series``."""
    n = len(series)
    if n < FEWEST_WINDOWS:
        return 1
    run = max(5, math.ceil(math.sqrt(math.log10(n))))
    most = min(math.ceil(math.sqrt(n)) + run, n - 1)
    rho = autocorrelation(series, most)
    small = np.abs(rho[1:]) < 2 * math.sqrt(math.log10(n) / n)
    quiet = [m for m in range(len(small) - run + 1) if small[m : m + run].all()]
    if quiet:
        reach = quiet[0]
    else:
        loud = np.flatnonzero(~small)
        reach = int(loud[-1]) + 1 if len(loud) else 0
    reach = min(2 * max(reach, 1), most)
    k = np.arange(1, reach + 1)
    taper = np.minimum(1.0, 2 * (1 - k / reach))  # the flat-top window of Politis & Romano (1995)
    g = 2 * float((taper * k * rho[1 : reach + 1]).sum())
    spectrum = 1 + 2 * float((taper * rho[1 : reach + 1]).sum())
    if spectrum <= 0:
        return 1
    length = (2 * g * g / (4 / 3 * spectrum**2)) ** (1 / 3) * n ** (1 / 3)
    return int(np.clip(math.ceil(length), 1, max(1, min(3 * math.sqrt(n), n / 3))))


def ljung_box(series: Array, lags: int = 10) -> float:
    """p-value of the hypothesis that successive entries are uncorrelated (Ljung & Box 1978)."""
    n = len(series)
    h = max(1, min(lags, n // 5))
    rho = autocorrelation(series, h)[1:]
    q = n * (n + 2) * float((rho**2 / (n - np.arange(1, len(rho) + 1))).sum())
    return float(special.gammaincc(len(rho) / 2, q / 2))


def homogeneous(rows: Array, sums: Array, variance: float) -> float:
    """p-value of the hypothesis that windows of ``rows`` values with these ``sums`` share one mean, the values
    being independent with this ``variance``: a χ² test of the windows' means."""
    used = rows > 0
    if variance <= 0 or used.sum() < 2:
        return 1.0
    mean = sums[used].sum() / rows[used].sum()
    q = float(((sums[used] - rows[used] * mean) ** 2 / (rows[used] * variance)).sum())
    return float(special.gammaincc((used.sum() - 1) / 2, q / 2))


@dataclass(frozen=True, eq=False)
class Blocks:
    """Draws of blocks of windows. ``weights[r, k]``: how often draw r holds window k; ``length`` in windows;
    ``p_independent``: smallest p-value of the tests of independence, which decided on blocks of one."""

    weights: Array
    length: int
    p_independent: float
    wider: float = 1.0
    """by how much the draws are too much alike: what an AR(1) with the series' own lag-1 correlation says
    beyond blocks of this length (blocks of K windows cannot hold a memory of K/10)."""
    free: float = 1.0
    """degrees of freedom of Student's t: independent pieces of the trace, less one."""

    @classmethod
    def of(cls, series: Array, p_independent: float | None = None) -> Blocks | None:
        """Blocks for windows whose own statistic is ``series`` (rows, or a mean, per window). None with fewer
        than 16 windows. ``p_independent``: a further test's p-value (see ``homogeneous``)."""
        n = len(series)
        if n < FEWEST_WINDOWS:
            return None
        p = min(ljung_box(series), 1.0 if p_independent is None else p_independent)
        if p >= 1 - LEVEL:
            return cls(_weights(n, 1), 1, p, math.sqrt(n / (n - 1)), n - 1)
        length = block_length(series)
        rho = autocorrelation(series, max(length, 2))
        phi = min(0.97, rho[1] + (1 + 3 * rho[1]) / n)  # Kendall's (1954) correction of its bias
        k = np.arange(1, length)
        seen = 1 + 2 * float(((1 - k / length) * rho[1:length]).sum())
        wider = math.sqrt(
            n / (n - length)
        )  # circular blocks miss the variance between blocks by L/K
        pieces = n / length
        if phi > 0:
            wider = max(wider, math.sqrt((1 + phi) / (1 - phi) / max(seen, 1e-9)))
            pieces = min(pieces, max(2.0, n * (1 - phi) / (1 + phi)))
        return cls(_weights(n, length), length, p, wider, pieces - 1)

    @property
    def method(self) -> str:
        return "independent windows" if self.p_independent >= 1 - LEVEL else "moving blocks"

    @property
    def windows(self) -> int:
        return int(self.weights.shape[1])

    def sums(self, per_window: Array) -> Array:
        """Sums over the windows of each draw: [draws, …] from [windows, …]."""
        flat = np.asarray(per_window, dtype=np.float64).reshape(self.windows, -1)
        out = self.weights @ flat
        return np.asarray(out.reshape(len(self.weights), *np.shape(per_window)[1:]))

    def interval(
        self, estimate: float, draws: Array, variance: float | None = None, *, logs: bool = True
    ) -> Interval | None:
        """The interval of an ``estimate`` from its values on the draws: Student's t with as many degrees of
        freedom as there are blocks beyond one, on a log scale for what is positive. ``variance``: of the
        rows, where the estimate is their mean; the effective sample size follows. None where fewer than half of
        the draws give a finite value.
        """
        found = draws[np.isfinite(draws)]
        if not math.isfinite(estimate) or len(found) < len(draws) / 2:
            return None
        t = float(special.stdtrit(self.free, 0.5 + LEVEL / 2))
        n_eff = None
        error = self.wider * float(found.std(ddof=1))
        if variance is not None and error > 0:
            n_eff = short(variance / error**2, 4)
        if logs and estimate > 0 and float(found.min()) > 0:
            factor = math.exp(min(700.0, t * self.wider * float(np.log(found).std(ddof=1))))
            low, high = estimate / factor, estimate * factor
        else:
            low, high = estimate - t * error, estimate + t * error
        return Interval(short(low, 4), short(high, 4), self.method, n_eff)


@functools.lru_cache(maxsize=8)
def _weights(windows: int, length: int) -> Array:
    rng = np.random.default_rng([SEED, windows, length])
    count = math.ceil(windows / length)
    starts = rng.integers(0, windows, size=(REPLICATES, count))
    out = np.zeros((REPLICATES, windows))
    rows = np.arange(REPLICATES)[:, None]
    for step in range(length):
        # the last block is cut so that every draw has as many windows as the trace
        cut = starts if (count - 1) * length + step < windows else starts[:, :-1]
        np.add.at(out, (rows, (cut + step) % windows), 1.0)
    out.setflags(write=False)
    return out


def independent_rows(n: Array) -> Array:
    """Draws of a frequency table whose rows are independent: [draws, bins] from [bins]."""
    rng = np.random.default_rng([SEED, len(n)])
    rows = float(n.sum())
    return np.asarray(rng.multinomial(round(rows), n / rows, size=REPLICATES).astype(np.float64))

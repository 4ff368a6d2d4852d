"""Counts in windows of many widths: dispersion, its trend-blind twin, memory, peaks.

IDC(w) = var N(w) / mean N(w) over full windows of width w, empty ones included (the Fano factor): 1 for a Poisson
process. Allan(w) = E(N₂ − N₁)² / (2·E N) of neighbouring windows: slow trends cancel, so where IDC is far above it
the rate drifts, and where both are high arrivals come in bursts. CV of the gaps sees neither (a few idle gaps rule
it).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from ..intervals import Blocks, Interval
from ..units import NS_PER_S, short
from .timeline import Timeline

Array = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

NAMED_S = (0.1, 1.0, 10.0, 60.0, 120.0, 300.0, 600.0, 3600.0)
"""widths that are always quoted, where the span holds five of them."""
LAGS = (1, 2, 5, 10, 60)
MIN_WINDOWS = 5
FEW_WINDOWS = 30
"""below this many windows an IDC is uncertain by more than ±25 % (s.e. ≈ IDC·√(2/K))."""

_BASES_S = (0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 60.0, 600.0, 3600.0)
"""finest widths, of which the named ones are multiples."""
_MOST_BINS = 1 << 24
_GROUPS = 256


@dataclass(frozen=True)
class Scale:
    """Counts at one window width. ``idc``, ``allan`` are None with fewer than MIN_WINDOWS windows;
    ``peak_to_mean`` grows with the span."""

    window_s: float
    windows: int
    idc: float | None
    allan: float | None
    peak_to_mean: float | None
    interval: Interval | None = None

    def to_dict(self) -> dict[str, Any]:
        return {
            "window_s": self.window_s,
            "windows": self.windows,
            "idc": self.idc,
            "allan": self.allan,
            "peak_to_mean": self.peak_to_mean,
            "interval": self.interval.to_dict() if self.interval else None,
        }

    @classmethod
    def from_dict(cls, d: Mapping[str, Any]) -> Scale:
        def maybe(x: Any) -> float | None:
            return None if x is None else float(x)

        return cls(
            float(d["window_s"]), int(d["windows"]), maybe(d["idc"]), maybe(d.get("allan")),
            maybe(d["peak_to_mean"]), Interval.from_dict(d.get("interval")),
        )  # fmt: skip


class WindowCounts:
    """Arrivals per bin of a fine fixed width, as rows go by; every wider window is a sum of bins."""

    def __init__(self, timeline: Timeline, tick_ns: int) -> None:
        self.timeline = timeline
        span_s = timeline.span_ns / NS_PER_S
        # finer than a quarter of the mean gap, or than the clock, a window holds one arrival or none
        mean_gap_s = span_s / max(timeline.timed, 1)
        finest = max(min(mean_gap_s / 4, 1.0), tick_ns / NS_PER_S, span_s / _MOST_BINS)
        self.base_s = next((b for b in _BASES_S if b >= finest), _BASES_S[-1])
        self.base_ns = round(self.base_s * NS_PER_S)
        self.n = np.zeros(timeline.span_ns // self.base_ns + 1, dtype=np.int32)
        self._sums: dict[int, npt.NDArray[Any]] = {}

    def add(self, t_ns: Ints) -> None:
        at = (t_ns - self.timeline.first_ns) // self.base_ns
        first = int(at[0])
        found = np.bincount(at - first)
        self.n[first : first + len(found)] += found.astype(np.int32)

    def widths_s(self) -> list[float]:
        """Powers of two of the base, and the named widths, of which the span holds five."""
        top = self.timeline.span_ns / NS_PER_S / MIN_WINDOWS
        out = {
            w
            for w in NAMED_S
            if self.base_s <= w <= top and round(w * NS_PER_S) % self.base_ns == 0
        }
        w = self.base_s
        while w <= top:
            out.add(round(w, 9))
            w *= 2
        return sorted(out)

    def counts(
        self, window_s: float, shift: int = 0
    ) -> tuple[npt.NDArray[Any], npt.NDArray[np.bool_]]:
        """Counts of the full windows of one width from the first arrival, or ``shift`` bins later, and which of them no
        mask touches."""
        step = round(window_s / self.base_s)
        width_ns = step * self.base_ns
        if shift:
            windows = (len(self.n) - 1 - shift) // step
            out = self.n[shift : shift + windows * step].reshape(windows, step).sum(axis=1)
            return out, self._seen(windows, width_ns, self.timeline.first_ns + shift * self.base_ns)
        windows = self.timeline.span_ns // width_ns
        # windows of windows: the widest that were summed before and divide this width
        part = max((w for w in self._sums if step % w == 0), default=1)
        fine = self._sums.get(part, self.n)
        times = step // part
        if times == 1 and part > 1:
            out = fine
        else:
            whole = fine[: windows * times].reshape(windows, times)
            out = whole[:, 0].copy()
            for i in range(
                1, times
            ):  # column by column: numpy's sum over short rows is ten times slower
                out += whole[:, i]
            self._sums[step] = out
        return out, self._seen(windows, width_ns, self.timeline.first_ns)

    def _seen(self, windows: int, width_ns: int, first_ns: int) -> npt.NDArray[np.bool_]:
        """Which of the windows from ``first_ns`` on no mask touches."""
        seen = np.ones(windows, dtype=bool)
        for a, b in self.timeline.masks:
            seen[max((a - first_ns) // width_ns, 0) : (b - 1 - first_ns) // width_ns + 1] = False
        return seen

    def scales(self) -> list[Scale]:
        """Dispersion at every width, with intervals by moving blocks."""
        return [scale(w, *self.counts(w)) for w in self.widths_s()]

    def acf(self) -> tuple[float, dict[int, float]]:
        """(window in seconds, autocorrelation of its counts by lag); windows of a second where the clock allows."""
        window_s = max(1.0, self.base_s)
        n, seen = self.counts(window_s)
        whole = seen.all()
        if not seen.any():
            return window_s, {}
        d = n - (n.mean() if whole else n[seen].mean())
        if not whole:
            d[~seen] = 0.0
        power = float(d @ d)
        if power <= 0:
            return window_s, {}
        found = {k: float(d[:-k] @ d[k:]) / power for k in LAGS if k < len(d) / 4}
        return window_s, {k: short(v, 4) for k, v in found.items()}


def scale(window_s: float, n: npt.NDArray[Any], seen: npt.NDArray[np.bool_]) -> Scale:
    """Dispersion of the counts ``n`` of successive windows, those not ``seen`` left out."""
    sums = _sums(n, seen)
    k, total, squares, pairs, steps = (float(x) for x in sums[:, :5].sum(axis=0))
    if k == 0 or total <= 0:
        return Scale(window_s, int(k), None, None, None)
    mean = total / k
    idc = allan = interval = None
    if k >= MIN_WINDOWS:
        idc = (squares - k * mean * mean) / (k - 1) / mean
        allan = steps / pairs / 2 / mean if pairs else None
        interval = _interval(sums, idc) if k >= FEW_WINDOWS else None
    peak = _rounded(float(sums[:, 5].max()) / mean)
    return Scale(window_s, int(k), _rounded(idc), _rounded(allan), peak, interval)


def _sums(n: npt.NDArray[Any], seen: npt.NDArray[np.bool_]) -> Array:
    """[groups, 6] over groups of successive windows: windows, ΣN, ΣN², pairs of neighbours, Σ(N₂ − N₁)², max N.

    In pieces that stay in the processor's cache: the finest width has ten million windows.
    """
    step = max(1, math.ceil(len(n) / _GROUPS))
    out = np.zeros((math.ceil(len(n) / step), 6))
    all_seen = bool(seen.all())
    for g, a in enumerate(range(0, len(n), step)):
        x = n[a : a + step + 1].astype(
            np.float64
        )  # and the first of the next group: its step is ours
        d = np.diff(x)
        x = x[:step]
        if all_seen:
            out[g] = (len(x), x.sum(), x @ x, len(d), d @ d, x.max())
            continue
        there = seen[a : a + step + 1]
        d = d[there[1:] & there[:-1]]
        x = x[there[:step]]
        out[g] = (len(x), x.sum(), x @ x, len(d), d @ d, x.max(initial=0.0))
    return out


def _interval(sums: Array, idc: float) -> Interval | None:
    """Of an IDC, from groups of windows drawn in blocks."""
    blocks = Blocks.of(sums[:, 1])
    if blocks is None:
        return None
    d = blocks.sums(sums[:, :3])
    with np.errstate(divide="ignore", invalid="ignore"):
        mean = d[:, 1] / d[:, 0]
        draws = (d[:, 2] - d[:, 0] * mean * mean) / (d[:, 0] - 1) / mean
    return blocks.interval(idc, draws)


def _rounded(x: float | None) -> float | None:
    return None if x is None else short(x, 10)


def hurst(scales: list[Scale]) -> dict[str, float] | None:
    """Slope of ln IDC over ln w, as H = (1 + slope)/2, and the range it is of: 0.5 for a Poisson process. A drift
    of the rate looks like long memory, so it is a label with a range and nothing is decided by it. None below
    a decade of widths with 30 windows each."""
    used = [(s.window_s, s.idc) for s in scales if s.idc and s.windows >= FEW_WINDOWS]
    if len(used) < 4 or used[-1][0] < 10 * used[0][0]:
        return None
    w, idc = np.log([u[0] for u in used]), np.log([u[1] for u in used])
    slope = float(np.polyfit(w, idc, 1)[0])
    return {"h": short((1 + slope) / 2, 3), "from_s": used[0][0], "to_s": used[-1][0]}

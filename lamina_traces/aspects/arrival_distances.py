"""How far the arrivals of two workloads are apart: their gaps, and their counts at many widths.

Gaps alone mislead both ways: a generator may match their law and lose every burst, and a clock may hide the law. So
the dispersion of counts from 0.1 s to 1 h, their memory and their peak are judged beside them.
"""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from ..units import NS_PER_S, format_seconds
from . import Line
from .arrival_process import NAME
from .dispersion import FEW_WINDOWS
from .rows import Rows, ks_distance, wasserstein

Array = npt.NDArray[np.float64]

CURVE_WINDOWS_S = (0.1, 0.3, 1.0, 3.0, 10.0, 30.0, 60.0, 100.0, 300.0, 600.0, 1000.0, 3600.0)
"""widths of the scored IDC curve; a width is used when both spans hold FEW_WINDOWS of it."""
LAGS_S = (1, 2, 5, 10, 60)
PEAK_WINDOWS_S = (60.0, 1.0)
"""width of the peak: the first that both spans hold FEW_WINDOWS of."""
FLOOR_S = 1e-4
"""added to gaps before their logarithm is taken: gaps below it count as equal."""
MOST_SECONDS = 20_000_000
"""spans beyond this are not counted by the second."""
FEWEST = 20
"""arrivals below which nothing is judged."""

LIMITS = {
    "rate": 0.02,
    "peak-to-mean": 0.25,
    "gap KS D": 0.05,
    "gap W1": 0.05,
    "IDC-curve distance": 0.20,
    "count ACF distance": 0.06,
}
"""fixed limits proposed by the fidelity research (of the peak: ours); a card raises them to 1.5 times the floor."""
UNITS = {
    "rate": "relative",
    "peak-to-mean": "|ln ratio|",
    "gap W1": "decades",
    "IDC-curve distance": "mean |ln ratio|",
    "count ACF distance": "mean |difference|",
}


def distances(a: Rows, b: Rows) -> list[Line]:
    """Rate, peak-to-mean, gap law (KS D, W1 of log10(gap + 0.1 ms)), IDC curve and autocorrelation of counts of b
    against a. Lines that cannot be computed say why."""
    if min(a.timed, b.timed) < FEWEST or min(a.span_ns, b.span_ns) <= 0:
        note = f"fewer than {FEWEST} arrivals, or no span"
        return [_line(metric, None, note) for metric in LIMITS]
    gaps = a.gap_s, b.gap_s
    logs = [np.log10(g + FLOOR_S) for g in gaps]
    rate = (b.timed / b.span_s) / (a.timed / a.span_s)
    return [
        _line("rate", abs(rate - 1)),
        _peak(a, b),
        _line("gap KS D", ks_distance(*gaps)),
        _line("gap W1", wasserstein(*logs)),
        _curve(a, b),
        _memory(a, b),
    ]


def _line(metric: str, value: float | None, note: str = "") -> Line:
    return Line(NAME, metric, value, LIMITS[metric], UNITS.get(metric, ""), note)


def _shared(a: Rows, b: Rows, windows_s: tuple[float, ...]) -> list[float]:
    """Widths that both spans hold FEW_WINDOWS of."""
    short = min(a.span_ns, b.span_ns)
    return [w for w in windows_s if short // round(w * NS_PER_S) >= FEW_WINDOWS]


def dispersion(rows: Rows, window_s: float) -> tuple[float, float]:
    """(IDC, peak-to-mean) of the counts in full windows from the start of the observation, empty ones included."""
    width = round(window_s * NS_PER_S)
    windows = rows.span_ns // width
    at = rows.arrival_ns // width
    _, n = np.unique(at[at < windows], return_counts=True)
    mean = float(n.sum()) / windows
    if mean == 0:
        return math.nan, math.nan
    squares = float(n.astype(np.float64) @ n)
    return (squares - windows * mean * mean) / (windows - 1) / mean, float(n.max()) / mean


def _peak(a: Rows, b: Rows) -> Line:
    widths = _shared(a, b, PEAK_WINDOWS_S)
    if not widths:
        return _line("peak-to-mean", None, "spans too short")
    x, y = (dispersion(r, widths[0])[1] for r in (a, b))
    value = abs(math.log(y / x)) if x > 0 and y > 0 else None
    return _line("peak-to-mean", value, f"windows of {format_seconds(widths[0])}")


def _curve(a: Rows, b: Rows) -> Line:
    widths = _shared(a, b, CURVE_WINDOWS_S)
    ratios = []
    for w in widths:
        x, y = (dispersion(r, w)[0] for r in (a, b))
        if x > 0 and y > 0:
            ratios.append(abs(math.log(y / x)))
    note = f"windows {', '.join(map(format_seconds, widths))}" if widths else "spans too short"
    value = float(np.mean(ratios)) if ratios else None
    return _line("IDC-curve distance", value, note)


def autocorrelation(rows: Rows, lag_s: int) -> float | None:
    """Of the counts of seconds; None where they do not vary."""
    n = _seconds(rows)
    n = n - n.mean()
    power = float(n @ n)
    return float(n[:-lag_s] @ n[lag_s:]) / power if power > 0 else None


def _seconds(rows: Rows) -> Array:
    windows = rows.span_ns // NS_PER_S
    at = rows.arrival_ns // NS_PER_S
    return np.bincount(at[at < windows], minlength=windows).astype(np.float64)


def _memory(a: Rows, b: Rows) -> Line:
    metric = "count ACF distance"
    short, long = sorted((a.span_ns // NS_PER_S, b.span_ns // NS_PER_S))
    lags = [lag for lag in LAGS_S if short >= FEW_WINDOWS * lag]
    if not lags or long > MOST_SECONDS:
        return _line(metric, None, "spans too short" if not lags else "spans too long")
    apart = []
    for lag in lags:
        x, y = (autocorrelation(r, lag) for r in (a, b))
        if x is not None and y is not None:
            apart.append(abs(x - y))
    note = f"counts of 1 s at lags {', '.join(map(str, lags))}"
    return _line(metric, float(np.mean(apart)) if apart else None, note)

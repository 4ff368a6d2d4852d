"""Arrivals: rate curve × renewal in operational time.

The rate curve λ(t) gives the slow part. With Λ(t) = ∫λ, the arrivals mapped to operational time Λ(tᵢ) have
unit rate, and their gaps eᵢ = Λ(tᵢ₊₁) − Λ(tᵢ) follow one law: a quantile grid for generation, a family for
description. Counts per window are never rescaled to fixed numbers.

CV alone misleads both ways (a few idle gaps rule it; drift hides from it), so the index of dispersion
IDC(w) = var N(w) / mean N(w) over full windows of width w, empty ones included, stands beside it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from ..counts import Counts
from ..distributions import (
    FAMILIES,
    GRID_KNOTS,
    K_ANONYMITY,
    Fitted,
    Grid,
    fit_families,
    significant,
    w1_log10,
)
from ..errors import ModelError, Notice
from ..units import NS_PER_S, format_number, format_seconds
from . import Finding, Line

if TYPE_CHECKING:
    from ..store import Trace

NAME = "arrivals"
VERSION = 1
TABLES = ("llm_requests", "cold_starts")

Array = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

NAMED_WINDOWS_S = (1.0, 10.0, 60.0, 600.0)
"""widths at which IDC and peak-to-mean are always quoted."""

CURVE_WINDOWS_S = (0.1, 0.3, 1.0, 3.0, 10.0, 30.0, 60.0, 100.0, 300.0, 600.0, 1000.0, 3600.0)
"""widths of the IDC curve; a width is used when the span holds at least MIN_WINDOWS of it."""

MIN_WINDOWS = 5
FEW_WINDOWS = 30
"""below this many windows an IDC is uncertain by more than ±25 % (s.e. ≈ IDC·√(2/K))."""

RATE_WINDOWS_S = (
    1,
    2,
    5,
    10,
    20,
    30,
    60,
    120,
    300,
    600,
    900,
    1800,
    3600,
    7200,
    14400,
    43200,
    86400,
)
MAX_RATE_WINDOWS = 300
MIN_PER_WINDOW = 20.0

COARSE_TICK = 0.1
"""a tick above this share of the mean gap: the clock, not the workload, shapes the gaps."""
MAX_PER_TICK = 10.0
"""requests a tick above which gap fits are refused."""


@dataclass(frozen=True)
class Dispersion:
    """IDC and peak-to-mean at one window width. ``idc`` is None with fewer than MIN_WINDOWS windows."""

    window_s: float
    windows: int
    idc: float | None
    peak_to_mean: float | None


@dataclass(frozen=True)
class Arrivals:
    """``rate_per_s``: events / span. ``cv``: population sd / mean of the gaps. ``rate_curve``: multiples of
    the mean rate, one per ``window_s``, as counted; ``rate_signal``: how much of its swings is not noise. ``unit_gaps``: quantile grid of gaps in operational time (mean 1).
    ``families``: gap laws in calendar time, best first; empty where the clock is too coarse. ``quantum_s``: the
    step in which a coarse or batched log stamps its arrivals, 0 for a fine clock; with it ``unit_gaps`` is a
    gamma law with the local dispersion of the counts, and what is generated is stamped in the same steps.
    """

    events: int
    span_s: float
    rate_per_s: float
    tick_s: float
    quantum_s: float
    zero_gap_share: float
    cv: float
    cv_without_longest: float
    dispersion: tuple[Dispersion, ...]
    window_s: float
    rate_curve: Array
    rate_signal: float
    unit_gaps: Grid
    families: tuple[Fitted, ...]

    def to_dict(self) -> dict[str, Any]:
        return {
            "version": VERSION,
            "events": self.events,
            "span_s": self.span_s,
            "rate_per_s": self.rate_per_s,
            "tick_s": self.tick_s,
            "quantum_s": self.quantum_s,
            "zero_gap_share": self.zero_gap_share,
            "cv": self.cv,
            "cv_without_longest": self.cv_without_longest,
            "dispersion": [
                {
                    "window_s": d.window_s,
                    "windows": d.windows,
                    "idc": d.idc,
                    "peak_to_mean": d.peak_to_mean,
                }
                for d in self.dispersion
            ],
            "rate_curve": {
                "window_s": self.window_s,
                "multiple_of_mean": self.rate_curve.tolist(),
                "signal": self.rate_signal,
            },
            "unit_gaps": self.unit_gaps.to_dict(),
            "families": [f.to_dict() for f in self.families],
        }

    @property
    def generating_curve(self) -> Array:
        """The rate curve less the noise of its own estimate: its swings to the power ``rate_signal``, mean 1."""
        return _damped(self.rate_curve, self.rate_signal)

    def idc(self, window_s: float) -> float | None:
        """IDC at a named width, None where it was not computed."""
        return next((d.idc for d in self.dispersion if d.window_s == window_s), None)

    def findings(self) -> list[Finding]:
        if not self.events:
            return [
                Finding(
                    NAME,
                    f"Arrivals are not recorded: a Poisson process of {format_number(self.rate_per_s)} per second is assumed.",
                )
            ]
        out = [
            Finding(
                NAME,
                f"{self.events:,} arrivals over {format_seconds(self.span_s)}: {format_number(self.rate_per_s)} per second on average.",
            )
        ]
        wide = [
            (d, d.idc) for d in self.dispersion if d.idc is not None and d.window_s in (10.0, 60.0)
        ]
        if wide:
            d, idc = wide[-1]
            few = f", from {d.windows} windows" if d.windows < FEW_WINDOWS else ""
            how = (
                f"vary {format_number(idc)} times as much as a Poisson process's would"
                if idc >= 1.25
                else "vary as a Poisson process's would"
                if idc >= 0.8
                else "are more even than a Poisson process's"
            )
            out.append(
                Finding(
                    NAME,
                    f"Counts per {format_seconds(d.window_s)} {how} (IDC {format_number(idc)}{few}); "
                    f"the busiest such window holds {format_number(d.peak_to_mean)} times the mean.",
                )
            )
        if self.families:
            best = self.families[0]
            out.append(
                Finding(
                    NAME,
                    f"Gaps between arrivals have CV {format_number(self.cv)}"
                    + (
                        f" ({format_number(self.cv_without_longest)} without the ten longest)"
                        if self.events > 100
                        else ""
                    )
                    + f"; of {len(self.families)} laws the {best.family} is the most likely.",
                    model=f"{best.family}({', '.join(f'{k}={format_number(v)}' for k, v in best.params.items())})",
                    effect=f"KS D {best.ks_d:.3f}, W1 {best.w1_log10:.3f} decades",
                )
            )
        else:
            why = (
                f"The log stamps in steps of {format_seconds(self.quantum_s)} ({self.zero_gap_share:.1%} of the gaps are zero): "
                "the clock hides the gap law, so none is fitted; counts and IDC lead."
                if self.quantum_s > 0
                else "All gaps are equal: there is no law to fit."
            )
            out.append(Finding(NAME, why))
        return out


def from_dict(d: dict[str, Any]) -> Arrivals:
    """Inverse of ``Arrivals.to_dict``; nonsense (NaN, negative rates, empty curve) is a ModelError."""
    curve = np.array(d["rate_curve"]["multiple_of_mean"], dtype=np.float64)
    a = Arrivals(
        events=int(d["events"]),
        span_s=float(d["span_s"]),
        rate_per_s=float(d["rate_per_s"]),
        tick_s=float(d["tick_s"]),
        quantum_s=float(d["quantum_s"]),
        zero_gap_share=float(d["zero_gap_share"]),
        cv=float(d["cv"]),
        cv_without_longest=float(d["cv_without_longest"]),
        dispersion=tuple(
            Dispersion(
                float(x["window_s"]), int(x["windows"]), _maybe(x["idc"]), _maybe(x["peak_to_mean"])
            )
            for x in d["dispersion"]
        ),
        window_s=float(d["rate_curve"]["window_s"]),
        rate_curve=curve,
        rate_signal=float(d["rate_curve"]["signal"]),
        unit_gaps=Grid.from_dict(d["unit_gaps"]),
        families=tuple(Fitted.from_dict(f) for f in d["families"]),
    )
    sane = (
        len(curve) > 0
        and bool(np.isfinite(curve).all())
        and float(curve.min()) >= 0
        and float(curve.max()) > 0
        and math.isfinite(a.rate_per_s)
        and a.rate_per_s > 0
        and a.window_s > 0
        and 0 <= a.quantum_s < a.span_s
        and 0 <= a.rate_signal <= 1
        and float(a.unit_gaps.values[0]) >= 0
        and float(a.unit_gaps.values[-1]) > 0
    )
    if not sane:
        raise ModelError(
            "arrivals of the profile: rates and gaps must be positive and finite",
            "fit the profile again",
        )
    return a


def _maybe(x: Any) -> float | None:
    return None if x is None else float(x)


# --- measuring -------------------------------------------------------------------------------------


def gap_counts(trace: Trace) -> Counts:
    """Gaps between successive arrivals, in seconds, as Counts."""
    t = trace.query("arrivals/gap_counts")
    return Counts.exact(t["gap_ns"].to_numpy() / NS_PER_S, t["n"].to_numpy(), "s")


def dispersion(
    trace: Trace, origin_ns: int, span_ns: int, windows_s: tuple[float, ...]
) -> list[Dispersion]:
    """IDC = sample variance / mean of counts in full windows from the first arrival, empty ones included."""
    widths = [round(w * NS_PER_S) for w in windows_s if span_ns // round(w * NS_PER_S) >= 1]
    if not widths:
        return []
    t = trace.query("arrivals/window_sums", origin_ns=origin_ns, span_ns=span_ns, widths_ns=widths)
    out = []
    for row in t.to_pylist():
        k = span_ns // row["width_ns"]
        mean = row["arrivals"] / k
        idc = None
        if k >= MIN_WINDOWS and mean > 0:
            idc = (row["squares"] - k * mean * mean) / (k - 1) / mean
        out.append(
            Dispersion(row["width_ns"] / NS_PER_S, k, idc, row["peak"] / mean if mean > 0 else None)
        )
    return out


def choose_window_s(span_s: float, events: int) -> float:
    """Width of the rate curve: at most 300 windows, and 20 events in a mean window."""
    for w in RATE_WINDOWS_S:
        if span_s / w <= MAX_RATE_WINDOWS and events * w / span_s >= MIN_PER_WINDOW:
            return float(w)
    return float(max(span_s, 1.0))


def fit(trace: Trace, notices: list[Notice]) -> Arrivals | None:
    """Fit the arrivals of a trace's main table. Needs a clock and at least 20 arrivals."""
    extent = trace.query("arrivals/extent").to_pylist()[0]
    events = int(extent["with_arrival"])
    if events < int(extent["events"]):
        notices.append(
            Notice(
                "no-arrival",
                f"{int(extent['events']) - events:,} rows have no arrival time and are left out",
                NAME,
            )
        )
    if events < 20:
        what = (
            f"{events} arrivals are too few to fit" if events else "no arrival times are recorded"
        )
        if trace.main_table == "llm_requests":
            what += "; supply them with: --arrivals poisson --rate 2/s"
        notices.append(Notice("too-few-rows", what, NAME))
        return None
    first, last = int(extent["first_ns"]), int(extent["last_ns"])
    span_ns = last - first
    if span_ns <= 0:
        notices.append(
            Notice("no-span", "all arrivals share one instant: there is no rate to fit", NAME)
        )
        return None
    span_s = span_ns / NS_PER_S
    gaps = gap_counts(trace)
    tick_s = (trace.manifest.tick_ns or 0) / NS_PER_S
    zero_share = float(gaps.n[gaps.x == 0].sum() / gaps.rows)
    instants = 1 + round((1 - zero_share) * gaps.rows)
    if instants < 20:
        text = f"{events:,} rows share {instants} instants: the log stamps batches, not arrivals"
        notices.append(Notice("few-instants", text, NAME))
        return None
    per_tick = events * tick_s / span_s if tick_s else 0.0
    batched = zero_share > 0.5
    coarse = tick_s > COARSE_TICK * gaps.mean and zero_share > 0  # a periodic load has no zero gaps
    if batched or coarse:
        text = (
            f"{zero_share:.1%} of the gaps are zero"
            if batched
            else f"the clock ticks every {format_seconds(tick_s)}, {format_number(per_tick)} arrivals a tick"
        )
        notices.append(
            Notice(
                "quantised-clock",
                f"{text}: gap laws, CV and IDC below a few steps of the clock describe the logger, not the workload; read IDC at wider windows",
                NAME,
            )
        )
    quantum_s = _quantum_s(gaps, tick_s) if batched or coarse else 0.0
    families: list[Fitted] = []
    if not batched and per_tick <= MAX_PER_TICK:
        families = fit_families(gaps, tick=tick_s or float(gaps.x[gaps.x > 0].min()))
    named = tuple(sorted(set(NAMED_WINDOWS_S) | set(CURVE_WINDOWS_S)))
    spread = dispersion(trace, first, span_ns, named)
    if span_s / 60 < FEW_WINDOWS:
        notices.append(
            Notice(
                "short-span",
                f"{format_seconds(span_s)} of trace: IDC at windows with fewer than {FEW_WINDOWS} of them is uncertain by ±25 % and more",
                NAME,
            )
        )

    # windows of equal width that end with the last arrival: a stub of a window would carry no rate
    windows = max(1, round(span_s / choose_window_s(span_s, events)))
    width_ns = span_ns // windows + 1
    counts = trace.query("arrivals/window_counts", origin_ns=first, width_ns=width_ns)
    per_window = np.zeros(windows)
    per_window[counts["k"].to_numpy()] = counts["n"].to_numpy()
    mean_rate = events / span_s
    raw = significant(per_window / (width_ns / NS_PER_S) / mean_rate, 6)
    if (
        quantum_s > 0
    ):  # the gaps are the logger's: a law of the counts' own dispersion takes their place
        below = _allan(trace, first, span_ns, 8 * quantum_s)
        unit_gaps = _gamma_grid(below, events)
        signal = _signal(per_window, below)
    else:
        below = _squared_cv(Grid.of(_unit_gaps(trace, first, width_ns, raw * mean_rate)))
        signal = _signal(per_window, below)
        slow = _damped(raw, signal) * mean_rate
        unit_gaps = Grid.of(_unit_gaps(trace, first, width_ns, slow))
    longer = np.cumsum(gaps.n[::-1])[::-1] - gaps.n  # rows longer than each value
    keep = gaps.n - np.clip(10 - longer, 0, gaps.n)
    trimmed = Counts.exact(gaps.x, keep, "s")
    return Arrivals(
        events=events,
        span_s=span_s,
        rate_per_s=mean_rate,
        tick_s=tick_s,
        quantum_s=quantum_s,
        zero_gap_share=zero_share,
        cv=math.sqrt(gaps.var()) / gaps.mean,
        cv_without_longest=math.sqrt(trimmed.var()) / trimmed.mean if len(trimmed) > 1 else 0.0,
        dispersion=tuple(spread),
        window_s=width_ns / NS_PER_S,
        rate_curve=raw,
        rate_signal=signal,
        unit_gaps=unit_gaps,
        families=tuple(families),
    )


def _quantum_s(gaps: Counts, tick_s: float) -> float:
    """The step of the log: the median positive gap where positive gaps hardly vary (a batched release whose
    stamps jitter), else the tick."""
    positive = gaps.where(gaps.x > 0)
    median = float(positive.quantile(0.5))
    spread = positive.quantile(np.array([0.05, 0.95]))
    regular = (spread[1] - spread[0]) < 0.2 * median
    return median if regular else tick_s


def _allan(trace: Trace, first_ns: int, span_ns: int, window_s: float) -> float:
    """Allan factor E[(N₂ − N₁)²] / (2·E N) of neighbouring windows: a dispersion that is blind to trends."""
    w_ns = max(1, min(round(window_s * NS_PER_S), span_ns // 4))
    t = trace.query("arrivals/window_counts", origin_ns=first_ns, width_ns=w_ns)
    windows = span_ns // w_ns  # mostly empty ones on a sparse trace, which are not laid out
    k, n = t["k"].to_numpy(), t["n"].to_numpy().astype(np.float64)
    k, n = k[k < windows], n[k < windows]
    if windows < 2 or not n.sum():
        return 1.0
    ends = (n[k == 0] ** 2).sum() + (n[k == windows - 1] ** 2).sum()
    neighbours = (n[:-1] * n[1:])[np.diff(k) == 1].sum()
    squares = 2 * (n**2).sum() - ends - 2 * neighbours
    return float(squares / (windows - 1) / (2 * n.sum() / windows))


def _signal(per_window: Array, below: float) -> float:
    """How much of the rate curve is not the noise of its own estimate: √(1 − below/IDC), 0 to 1.

    Counts per window vary with IDC = signal + ``below``, the dispersion that the gaps alone bring. Generation
    brings ``below`` again, so a raw curve would count it twice: a Poisson trace would come back with twice its
    variance.
    """
    if len(per_window) < 2:
        return 0.0
    idc = float(per_window.var(ddof=1) / per_window.mean())
    return float(f"{math.sqrt(max(0.0, 1 - below / idc)):.4g}") if idc > 0 else 0.0


def _damped(curve: Array, signal: float) -> Array:
    """The curve's swings to a power between 0 (flat) and 1 (as it is), mean 1; silences stay silent."""
    if signal == 0.0:
        return np.ones(len(curve))
    out = curve**signal
    return np.asarray(out / out.mean())


def _squared_cv(grid: Grid) -> float:
    """Squared CV of the law that a grid samples: second moment of its piecewise-linear quantile function."""
    v = grid.values
    second = float(((v[1:] ** 2 + v[1:] * v[:-1] + v[:-1] ** 2) / 3).mean())
    return second / _grid_mean(grid) ** 2 - 1


def _gamma_grid(dispersion_: float, events: int) -> Grid:
    """Unit gaps of a gamma renewal process: its long-run IDC is the squared CV of its gaps, 1/shape."""
    shape = 1 / max(dispersion_, 0.02)
    q = np.clip(np.linspace(0, 1, GRID_KNOTS), 0.0, 1 - K_ANONYMITY / events)
    return Grid(
        significant(FAMILIES["gamma"].quantile(q, {"shape": shape, "scale": 1 / shape}), 7),
        1.0,
        events,
    )


_BINS_PER_OCTAVE = 128
_LOWEST = -40
_OCTAVES = 80


def _unit_gaps(trace: Trace, first_ns: int, width_ns: int, rates: Array) -> Counts:
    """Gaps in operational time on log bins (128 an octave, bin means kept), one streaming pass."""
    edges_ns = np.arange(len(rates) + 1, dtype=np.float64) * width_ns
    cumulative = np.concatenate([[0.0], np.cumsum(rates) * (width_ns / NS_PER_S)])
    bins = _OCTAVES * _BINS_PER_OCTAVE + 1
    n = np.zeros(bins)
    total = np.zeros(bins)
    last: float | None = None
    for batch in trace.batches(columns=["arrival_ns"]):
        column = batch.column(0)
        t = column.drop_null().to_numpy(zero_copy_only=False).astype(np.int64) - first_ns
        if not len(t):
            continue
        rel = t.astype(np.float64)
        op = np.interp(rel, edges_ns, cumulative)
        gaps = np.diff(op, prepend=op[0] if last is None else last)
        if last is None:
            gaps = gaps[1:]
        last = float(op[-1])
        gaps = np.maximum(gaps, 0.0)
        index = np.zeros(len(gaps), dtype=np.int64)
        positive = gaps > 0
        scaled = (np.log2(gaps[positive]) - _LOWEST) * _BINS_PER_OCTAVE
        index[positive] = np.clip(scaled, 0, bins - 2).astype(np.int64) + 1
        n += np.bincount(index, minlength=bins)
        total += np.bincount(index, weights=gaps, minlength=bins)
    used = n > 0
    mean = total[used] / n[used]
    return Counts(mean, mean, n[used], total[used], "mean gaps")


# --- generating ------------------------------------------------------------------------------------


def sample(arrivals: Arrivals, rng: np.random.Generator, size: int) -> Array:
    """``size`` gaps in operational time, scaled so that their long-run mean is exactly 1."""
    return arrivals.unit_gaps.quantile(rng.random(size)) / _grid_mean(arrivals.unit_gaps)


def poisson(rate_per_s: float) -> Arrivals:
    """Arrivals that were not measured: a Poisson process, for traces and profiles that record none."""
    q = np.clip(np.linspace(0.0, 1.0, GRID_KNOTS), 0.0, 1 - 1e-4)
    grid = Grid(significant(-np.log1p(-q), 7), 1.0, 0.0)
    return Arrivals(
        events=0,
        span_s=3600.0,
        rate_per_s=rate_per_s,
        tick_s=0.0,
        quantum_s=0.0,
        zero_gap_share=0.0,
        cv=1.0,
        cv_without_longest=1.0,
        dispersion=(),
        window_s=3600.0,
        rate_curve=np.ones(1),
        rate_signal=1.0,
        unit_gaps=grid,
        families=(),
    )


def first_gap(arrivals: Arrivals, rng: np.random.Generator) -> float:
    """Operational time to the first arrival of an equilibrium renewal process: a uniform part of a
    length-biased gap. With it the expected number of arrivals until t is exactly Λ(t) (Cox 1962, §2.2)."""
    v = arrivals.unit_gaps.values
    area = np.cumsum((v[1:] + v[:-1]) / 2)
    i = int(min(np.searchsorted(area, rng.random() * area[-1], side="right"), len(area) - 1))
    a, b = float(v[i]), float(v[i + 1])
    # inside a segment the biased density is a + (b - a)·x on [0, 1]: invert its integral
    y = rng.random() * (a + b) / 2
    gap = math.sqrt(a * a + 2 * (b - a) * y) if b > a else a
    return float(rng.random() * gap / _grid_mean(arrivals.unit_gaps))


def _grid_mean(grid: Grid) -> float:
    """Mean of the law that the grid samples: the area under its piecewise-linear quantile function."""
    v = grid.values
    return float((v[1:] + v[:-1]).mean() / 2)


# --- scoring ---------------------------------------------------------------------------------------

LIMITS = {"gap KS D": 0.05, "gap W1": 0.05, "IDC-curve distance": 0.20, "rate": 0.02}
"""proposed gates of the fidelity research; not calibrated on held-out data."""


def score(a: Trace, b: Trace) -> list[Line]:
    """Gap law (KS D, W1 in decades), IDC curve (mean |ln ratio|), and mean rate, of b against a."""
    measured = []
    for trace in (a, b):
        extent = trace.query("arrivals/extent").to_pylist()[0]
        if int(extent["with_arrival"]) < 20 or extent["last_ns"] <= extent["first_ns"]:
            return [
                Line(NAME, m, None, limit, note="fewer than 20 arrivals, or no span")
                for m, limit in LIMITS.items()
            ]
        span = int(extent["last_ns"]) - int(extent["first_ns"])
        measured.append((extent, span, gap_counts(trace)))
    (ea, span_a, ga), (eb, span_b, gb) = measured
    widths = tuple(
        w for w in CURVE_WINDOWS_S if min(span_a, span_b) // round(w * NS_PER_S) >= FEW_WINDOWS
    )
    curve_a = {d.window_s: d.idc for d in dispersion(a, int(ea["first_ns"]), span_a, widths)}
    curve_b = {d.window_s: d.idc for d in dispersion(b, int(eb["first_ns"]), span_b, widths)}
    ratios = [
        abs(math.log(x / y))
        for w in widths
        if (x := curve_a.get(w)) is not None
        and (y := curve_b.get(w)) is not None
        and x > 0
        and y > 0
    ]
    rate_a = int(ea["with_arrival"]) / span_a
    rate_b = int(eb["with_arrival"]) / span_b
    note = (
        f"windows {', '.join(format_seconds(w) for w in widths)}" if widths else "spans too short"
    )
    return [
        Line(NAME, "rate", abs(rate_b / rate_a - 1), LIMITS["rate"], "relative"),
        Line(NAME, "gap KS D", two_sample_ks(ga, gb), LIMITS["gap KS D"]),
        Line(
            NAME,
            "gap W1",
            w1_log10(_plus(ga, 1e-4), _plus(gb, 1e-4), 1e-4),
            LIMITS["gap W1"],
            "decades",
        ),
        Line(
            NAME,
            "IDC-curve distance",
            float(np.mean(ratios)) if ratios else None,
            LIMITS["IDC-curve distance"],
            "mean |ln ratio|",
            note,
        ),
    ]


def _plus(c: Counts, floor: float) -> Any:
    return lambda q: c.quantile(q) + floor


def two_sample_ks(a: Counts, b: Counts) -> float:
    """Largest distance between two empirical cdfs."""
    at = np.union1d(a.x, b.x)
    return float(np.abs(a.cdf(at) - b.cdf(at)).max())

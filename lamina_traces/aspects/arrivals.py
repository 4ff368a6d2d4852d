"""Arrivals: rate curve × renewal in operational time, and what their counts and gaps are like.

The rate curve λ(t) gives the slow part. With Λ(t) = ∫λ, the arrivals mapped to operational time Λ(tᵢ) have
unit rate, and their gaps eᵢ = Λ(tᵢ₊₁) − Λ(tᵢ) follow one law: a quantile grid for generation, families for
description. Counts per window are never rescaled to fixed numbers.

Counts and their dispersion lead (``dispersion``); the gap law comes after them, since a clock that rounds or
batches hides it, and CV is ruled by a few idle gaps.
"""

from __future__ import annotations

import math
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from ..counts import Counts, significant
from ..distributions import (
    FAMILIES,
    POSITIVE,
    Fitted,
    Grid,
    fit_families,
    fit_jittered,
    fit_triangular,
    with_intervals,
)
from ..errors import Notice
from ..intervals import Blocks, Interval
from ..units import NS_PER_S, format_number, format_seconds, short
from . import renewal
from .arrival_distances import distances as distances
from .arrival_process import NAME as NAME
from .arrival_process import VERSION as VERSION
from .arrival_process import Arrivals as Arrivals
from .arrival_process import from_dict as from_dict
from .arrival_process import poisson as poisson
from .dispersion import FEW_WINDOWS as FEW_WINDOWS
from .dispersion import MIN_WINDOWS, Scale, hurst
from .gaps import Pass as Pass
from .rate_levels import daily_course, modulation_of
from .rates import change_points, origin_of_day_ns, silences
from .timeline import Timeline, scan

if TYPE_CHECKING:
    from ..store import Trace

TABLES = ("llm_requests", "cold_starts", "invocations", "jobs")
NEEDS = ("arrival_ns",)
RECORD = "log when each request arrived, in UTC, to the millisecond or finer"
COUNT_KEYS = frozenset({"events", "rows"})

Array = npt.NDArray[np.float64]

COARSE_TICK = 0.1
"""a tick above this share of the mean gap: the clock, not the workload, shapes the gaps."""
MAX_PER_TICK = 10.0
"""requests a tick above which gap fits are refused."""
FITS_DRAWN = 100
"""draws that a family is fitted to again for the intervals of its parameters."""


# --- measuring -------------------------------------------------------------------------------------


def fit(trace: Trace, notices: list[Notice], seen: Pass | None = None) -> Arrivals | None:
    """Fit the arrivals of a trace's main table. Needs a clock and at least 20 arrivals."""
    timeline = seen.timeline if seen else Timeline.of(trace)
    if not _enough(trace, timeline, notices) or timeline is None:
        return None
    if seen is None:
        seen = Pass(trace, timeline)
        scan(trace, [seen])
    return of_pass(trace, seen, notices)


def _enough(trace: Trace, timeline: Timeline | None, notices: list[Notice]) -> bool:
    if timeline is None:
        extent = trace.query("arrivals/extent").to_pylist()[0]
        timed = int(extent["with_arrival"])
        if timed >= 20:
            text = "all arrivals share one instant: there is no rate to fit"
            notices.append(Notice("no-span", text, NAME))
            return False
    else:
        timed = timeline.timed
        if timed < timeline.rows:
            text = f"{timeline.rows - timed:,} rows have no arrival time and are left out"
            notices.append(Notice("no-arrival", text, NAME))
    if timed > 20:  # twenty gaps
        return True
    what = f"{timed} arrivals are too few to fit" if timed else "no arrival times are recorded"
    if trace.main_table == "llm_requests":
        what += "; supply them with: --arrivals poisson --rate 2/s"
    notices.append(Notice("too-few-rows", what, NAME))
    return False


def of_pass(trace: Trace, seen: Pass, notices: list[Notice]) -> Arrivals | None:
    """Arrivals from a finished pass."""
    t = seen.timeline
    gaps = seen.gaps()
    tick_s = (trace.manifest.tick_ns or 0) / NS_PER_S
    zero_share = float(gaps.n[gaps.x == 0].sum() / gaps.rows)
    instants = 1 + round((1 - zero_share) * gaps.rows)
    if instants < 20:
        text = f"{t.timed:,} rows share {instants} instants: the log stamps batches, not arrivals"
        notices.append(Notice("few-instants", text, NAME))
        return None
    share = trace.manifest.sampled
    share = share if share is not None and share < 1 else None
    quantum_s, fits = _clock(gaps, tick_s, zero_share, notices)
    scales = [_thinned(s, share) for s in seen.windows.scales()]
    widest = [s for s in scales if s.windows >= FEW_WINDOWS]
    if not widest or widest[-1].window_s < 60:
        text = f"{format_seconds(t.observed_s)} of trace: IDC at windows with fewer than {FEW_WINDOWS} of them is uncertain by ±25 % and more"
        notices.append(Notice("short-span", text, NAME))
    covered = t.covered_s
    known = covered > 0.01 * t.width_s
    mean_rate = t.timed / t.observed_s
    raw = np.where(known, seen.rows / np.maximum(covered, 1e-9) / mean_rate, 0.0)
    if not known.all():  # what a mask hides is given the mean rate: it was not silence
        raw[~known] = 1.0
    raw = significant(raw, 6)
    if quantum_s > 0 or share is not None:
        # the gaps are the logger's: a law of the counts' own dispersion takes their place
        below = _local(scales, max(8 * quantum_s, 8 / mean_rate))
        unit_gaps, unit_families = renewal.gamma_grid(below, t.timed), []
        signal = renewal.rate_signal(seen.rows, below)
    else:
        below = renewal.squared_cv(Grid.of(seen.unit_gaps(raw * mean_rate)))
        signal = renewal.rate_signal(seen.rows, below)
        table = seen.unit_gaps(renewal.damped(raw, signal) * mean_rate)
        unit_gaps = Grid.of(table)
        steady = seen.cv() < 1e-6 or len(gaps) < 2
        unit_families = [] if steady else fit_families(table, tick=max(tick_s * mean_rate, 1e-9))
    origin = origin_of_day_ns(trace)
    daily, starts_s = daily_course(seen.windows, origin)
    steps = (quantum_s, unit_gaps) if quantum_s > 0 or share is not None else None
    new_days = modulation_of(
        seen.windows, gaps, daily, starts_s, tick_s, lambda unit: scan(trace, [unit]), steps
    )
    families: list[Fitted] = []
    rounded: dict[str, tuple[float, float]] = {}
    if fits and share is None:
        law_tick = tick_s or float(gaps.x[gaps.x > 0].min())
        families = fit_families(gaps, (*POSITIVE, "hyperexponential"), tick=law_tick)
        if quantum_s > 0:
            rounded = _bracketed(gaps, tick_s)
    if share is not None:
        text = f"the trace is a random sample of {share:g} of the requests: the rate is scaled and IDC corrected by 1 + (IDC − 1)/{share:g}; gap laws, sessions and prefix reuse cannot be seen through it"
        notices.append(Notice("sampled-trace", text, NAME))
    a = Arrivals(
        events=t.timed,
        span_s=t.span_ns / NS_PER_S,
        rate_per_s=mean_rate / (share or 1.0),
        tick_s=tick_s,
        quantum_s=quantum_s,
        jitter_s=_jitter_s(gaps, quantum_s, tick_s),
        zero_gap_share=zero_share,
        cv=seen.cv(),
        cv_without_longest=_cv_without_longest(gaps),
        scales=tuple(scales),
        window_s=t.width_s,
        rate_curve=raw,
        rate_signal=signal,
        unit_gaps=unit_gaps,
        families=tuple(families),
        unit_families=tuple(unit_families),
        memory=seen.memory(),
        hurst=None if quantum_s else hurst(scales),
        rounded=rounded,
        changes=tuple(change_points(seen.rows / (share or 1.0), covered, t.width_s)),
        seasons=None if origin is None else daily,
        modulation=new_days,
        silences=tuple(silences(seen.longest, gaps.mean, gaps.rows)),
        masked_s=sum(b - a for a, b in t.masks) / NS_PER_S,
        sampled=share,
    )
    acf_window_s, acf = seen.windows.acf()
    shapes, cvs = seen.window_laws() if not quantum_s and share is None else ([], [])
    a = replace(
        a, acf_window_s=acf_window_s, acf=acf, window_shapes=tuple(shapes), window_cvs=tuple(cvs)
    )
    if a.silences:
        n = len(a.silences)
        text = f"{n} silence{'s' if n > 1 else ''} longer than a Poisson process would bring: idle, or the collector was down; --mask START..END leaves one out"
        notices.append(Notice("silences", text, NAME))
    return _with_intervals(a, seen, known)


def _clock(
    gaps: Counts, tick_s: float, zero_share: float, notices: list[Notice]
) -> tuple[float, bool]:
    """(the step of a coarse or batched clock, 0 for a fine one; whether gap laws can be fitted)."""
    per_tick = tick_s / gaps.mean if gaps.mean > 0 else 0.0
    batched = zero_share > 0.5
    coarse = tick_s > COARSE_TICK * gaps.mean and zero_share > 0  # a periodic load has no zero gaps
    if not (batched or coarse):
        return 0.0, True
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
    quantum = _quantum_s(gaps, tick_s)
    # a release in batches leaves no gap law; a clock that rounds does, up to ten arrivals a tick
    released = batched and quantum > 2 * tick_s
    return quantum, not released and per_tick <= MAX_PER_TICK


def _quantum_s(gaps: Counts, tick_s: float) -> float:
    """The step of the log: the mean of the regular gaps where positive gaps hardly vary (a batched release whose stamps
    jitter), else the tick."""
    regular = _regular(gaps)
    return tick_s if regular is None else short(regular.mean, 9)


def _regular(gaps: Counts) -> Counts | None:
    """Positive gaps near their median, where nine tenths of them are."""
    positive = gaps.where(gaps.x > 0)
    median = float(positive.quantile(0.5))
    spread = positive.quantile(np.array([0.05, 0.95]))
    if (spread[1] - spread[0]) >= 0.2 * median:
        return None
    return positive.where(np.abs(positive.x - median) < 0.2 * median)


def _jitter_s(gaps: Counts, quantum_s: float, tick_s: float) -> float:
    """Standard deviation of stamps about the steps of a clock that is coarser than the tick: a gap has two of them."""
    regular = _regular(gaps) if quantum_s > tick_s else None
    return short(math.sqrt(regular.var() / 2), 4) if regular is not None else 0.0


def _thinned(s: Scale, share: float | None) -> Scale:
    """Dispersion of all requests, from that of a random ``share`` of them: D = 1 + (D′ − 1)/share."""
    if share is None:
        return s

    def whole(x: float | None) -> float | None:
        return None if x is None else short(1 + (x - 1) / share, 6)

    i = s.interval
    interval = None if i is None else Interval(whole(i.low) or 0.0, whole(i.high) or 0.0, i.method)
    # the busiest window of a sample is busy by the sampling, too
    return replace(s, idc=whole(s.idc), allan=whole(s.allan), interval=interval, peak_to_mean=None)


def _local(scales: list[Scale], window_s: float) -> float:
    """Dispersion that is blind to trends, at the width next to ``window_s``."""
    known = [
        (abs(math.log(s.window_s / window_s)), s.allan)
        for s in scales
        if s.allan is not None and s.windows >= MIN_WINDOWS
    ]
    return max(min(known)[1], 0.0) if known else 1.0


def _cv_without_longest(gaps: Counts) -> float:
    longer = np.cumsum(gaps.n[::-1])[::-1] - gaps.n  # rows longer than each value
    keep = gaps.n - np.clip(10 - longer, 0, gaps.n)
    trimmed = Counts.exact(gaps.x, keep, "s")
    return math.sqrt(trimmed.var()) / trimmed.mean if len(trimmed) > 1 else 0.0


def _bracketed(gaps: Counts, tick_s: float) -> dict[str, tuple[float, float]]:
    """Shapes by jitter and by the triangular kernel: the truth was between them on real traces, or beyond."""
    table = gaps.coarse(32)
    return {
        name: (
            short(fit_jittered(table, tick_s, FAMILIES[name].fit)["shape"], 4),
            short(fit_triangular(table, tick_s, name)["shape"], 4),
        )
        for name in ("gamma", "weibull")
    }


def _with_intervals(a: Arrivals, seen: Pass, known: npt.NDArray[np.bool_]) -> Arrivals:
    """Intervals of rate, CV and the best gap law, by blocks of the rate curve's windows."""
    covered = seen.timeline.covered_s
    blocks = Blocks.of(seen.rows[known])
    if blocks is None:
        return a
    found: dict[str, Interval | None] = {}
    share = a.sampled or 1.0
    d = blocks.sums(np.stack([seen.rows[known], covered[known]], axis=1))
    i = blocks.interval(a.rate_per_s, d[:, 0] / d[:, 1] / share)
    if i is not None:
        # as many independent arrivals leave the same doubt: a Poisson count N is known to ±1/√N
        draws = d[:, 0] / d[:, 1]
        error = blocks.wider * float(draws.std(ddof=1)) / float(draws.mean())
        i = replace(i, n_eff=min(short(1 / error**2, 4), float(a.events)) if error > 0 else None)
    found["rate_per_s"] = i
    if not a.quantum_s and a.sampled is None:
        d = blocks.sums(seen.window_sums()[known])
        with np.errstate(invalid="ignore", divide="ignore"):
            mean = d[:, 1] / d[:, 0]
            cv = np.sqrt(np.maximum(d[:, 2] / d[:, 0] - mean**2, 0)) / mean
        found["cv"] = blocks.interval(a.cv, cv)
    families = a.families
    if families and known.all() and not a.quantum_s:
        best = with_intervals(
            families[0], blocks, seen.drawn(blocks.weights[:FITS_DRAWN]), tick=a.tick_s
        )
        families = (best, *families[1:])
    return replace(
        a, families=families, intervals={k: v for k, v in found.items() if v is not None}
    )


def two_sample_ks(a: Counts, b: Counts) -> float:
    """Largest distance between two empirical cdfs."""
    at = np.union1d(a.x, b.x)
    return float(np.abs(a.cdf(at) - b.cdf(at)).max())

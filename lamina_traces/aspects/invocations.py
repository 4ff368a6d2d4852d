"""Invocations of functions: who makes them, their gaps, how long they run, and what keeping instances alive would do.

From rows (``invocations``) or from counts per bin (``invocation_counts``, whose grain blurs every gap). The gap law is
told twice: over all gaps, which the busiest function rules, and with every function weighing the same.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from ..counts import Counts
from ..errors import ModelError, Notice
from ..intervals import Blocks, Interval
from ..units import NS_PER_S, format_number, format_seconds, short
from . import Finding, Line
from .durations import (
    FEWEST_ROWS,
    Durations,
    Windowed,
    binned,
    describe,
    grid_ks,
)
from .idle_times import bin_gap_counts, curves, function_cold, function_gaps, idle_counts
from .keep_alive import KeepAlive, beyond
from .populations import Population, of_counts, of_rows
from .shares import per_window, share_interval
from .timeline import Timeline

if TYPE_CHECKING:
    from ..store import Trace

NAME = "invocations"
VERSION = 1
TABLES = ("invocations", "invocation_counts")
NEEDS = ("func_id", "arrival_ns")
RECORD = "one row per function call with its start and duration; counts per minute answer keep-alive to a minute"

Array = npt.NDArray[np.float64]

_ENDLESS_NS = 2**62


@dataclass(frozen=True)
class Bins:
    """Invocations of all functions per bin of ``width_s``: ``idc`` = var/mean of the counts, empty bins included."""

    width_s: float
    bins: int
    idc: float
    idc_interval: Interval | None
    peak_to_mean: float

    def to_dict(self) -> dict[str, Any]:
        i = self.idc_interval
        return {
            "width_s": self.width_s,
            "bins": self.bins,
            "idc": self.idc,
            "idc_interval": i.to_dict() if i else None,
            "peak_to_mean": self.peak_to_mean,
        }

    @classmethod
    def from_dict(cls, d: dict[str, Any]) -> Bins:
        return cls(
            float(d["width_s"]), int(d["bins"]), float(d["idc"]), Interval.from_dict(d["idc_interval"]), float(d["peak_to_mean"])
        )  # fmt: skip


@dataclass(frozen=True)
class Invocations:
    """``top_share``: of the busiest function; ``functions_for_90``: fewest functions that make 90 % of the invocations;
    ``gini`` of invocations over functions. ``gaps``: between the starts of a function's invocations, those of all
    functions together (between any two invocations: the arrivals aspect); ``gaps_per_function_s``: quantiles with every function weighing the same. ``keep_alive``: by
    function, and by application where recorded. ``function_cold``: by seconds of keep-alive, quantiles over functions
    of their own P(cold). ``concurrency_*``: invocations that run at once. ``cold_share``: as recorded.
    """

    invocations: int
    functions: int
    span_s: float
    top_share: float
    functions_for_90: int
    gini: float
    bins: Bins | None = None
    gaps: Durations | None = None
    gaps_per_function_s: Mapping[str, float] = field(default_factory=dict)
    keep_alive: tuple[KeepAlive, ...] = ()
    function_cold: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    times: Mapping[str, Durations] = field(default_factory=dict)
    """duration, queue, init, where recorded."""
    concurrency_peak: int | None = None
    concurrency_mean: float | None = None
    cold_known: int = 0
    cold_share: float | None = None
    cold_interval: Interval | None = None
    population: Population | None = None
    """the functions as a generator makes them; None in profiles of older tools and of a trace without times."""

    def p_cold(self, k_s: float, per: str = "function") -> tuple[float, float] | None:
        """``KeepAlive.p_cold`` of functions or applications; None where that was not fitted."""
        found = self.kept(per)
        return found.p_cold(k_s) if found else None

    def idle_s(self, k_s: float, per: str = "function") -> tuple[float, float] | None:
        """``KeepAlive.idle``: seconds kept idle per invocation."""
        found = self.kept(per)
        return found.idle(k_s) if found else None

    def kept(self, per: str) -> KeepAlive | None:
        return next((k for k in self.keep_alive if k.per == per), None)

    def to_dict(self) -> dict[str, Any]:
        def one(x: Any) -> Any:
            return None if x is None else x.to_dict()

        return {
            "version": VERSION,
            "invocations": self.invocations,
            "functions": self.functions,
            "span_s": self.span_s,
            "top_share": self.top_share,
            "functions_for_90": self.functions_for_90,
            "gini": self.gini,
            "bins": one(self.bins),
            "gaps": one(self.gaps),
            "gaps_per_function_s": dict(self.gaps_per_function_s),
            "keep_alive": [k.to_dict() for k in self.keep_alive],
            "function_cold": {k: dict(v) for k, v in self.function_cold.items()},
            "times": {k: v.to_dict() for k, v in self.times.items()},
            "concurrency_peak": self.concurrency_peak,
            "concurrency_mean": self.concurrency_mean,
            "cold_known": self.cold_known,
            "cold_share": self.cold_share,
            "cold_interval": one(self.cold_interval),
            "population": one(self.population),
        }

    def findings(self) -> list[Finding]:
        n = self.functions
        over = f" over {format_seconds(self.span_s)}" if self.span_s else ""
        out = [
            Finding(
                NAME,
                f"{self.invocations:,} invocations of {n:,} function{'s' * (n != 1)}{over}; "
                f"the busiest makes {self.top_share:.1%} of them, {self.functions_for_90:,} "
                f"{'make' if self.functions_for_90 != 1 else 'makes'} 90 %.",
                effect=f"Gini {self.gini:.3f}",
            )
        ]
        if self.bins is not None:
            b = self.bins
            out.append(
                Finding(
                    NAME,
                    f"Counts per {format_seconds(b.width_s)} of all functions have an index of dispersion of "
                    f"{_with(format_number(b.idc), b.idc_interval)} (Poisson: 1) and peak at {format_number(b.peak_to_mean)} times the mean.",
                    effect=f"{b.bins:,} bins",
                )
            )
        out += [f for k in self.keep_alive if (f := _keep_finding(k)) is not None]
        if self.gaps is not None and (best := self.gaps.best):
            own = self.gaps_per_function_s.get("p50")
            out.append(
                Finding(
                    NAME,
                    f"Gaps between invocations of one function: {self.gaps.told('p50')} over all gaps"
                    + (f", {format_seconds(own)} when every function weighs the same." if own is not None else "."),
                    best.family, best.parameters(), best.effect(),
                )
            )  # fmt: skip
        if "duration" in self.times:
            d = self.times["duration"]
            law = d.best
            text = f"Invocations run for {d.told('p50')}, {d.told('mean')}"
            if self.concurrency_peak is not None and self.concurrency_mean is not None:
                text += f"; {format_number(self.concurrency_mean)} run at once on average, {self.concurrency_peak:,} at most"
            out.append(
                Finding(
                    NAME, text + ".",
                    law.family if law else "", law.parameters() if law else "", law.effect() if law else "",
                )
            )  # fmt: skip
        if self.cold_share is not None:
            known = _with(f"{self.cold_share:.2%}", self.cold_interval, 100, "%")
            out.append(
                Finding(
                    NAME, f"{known} of the invocations started a pod, as the platform recorded it."
                )
            )
        return out


def _with(text: str, i: Interval | None, scale: float = 1.0, unit: str = "") -> str:
    if i is None:
        return text
    return f"{text} [{format_number(scale * i.low)}{unit}, {format_number(scale * i.high)}{unit}]"


def _keep_finding(k: KeepAlive) -> Finding | None:
    told = [v for v in (600.0, 300.0, 60.0) if v in k.knots_s] or [float(k.knots_s[-1])]
    at = told[0]
    share, _ = k.p_cold(at)
    low, high = k.bounds(at)
    idle, _ = k.idle(at)
    i = k.intervals.get(f"{at:g}")
    what = "bins with a later request" if k.grain_s else "later requests"
    text = (
        f"Kept for {format_seconds(at)} after the end of its last request, one instance per {k.per} would start cold for "
        f"{_with(f'{share:.2%}', i, 100, '%')} of the {what} and stand idle {format_seconds(idle)} per invocation."
    )
    grain = (
        f", from {low:.2%} to {high:.2%} at a grain of {format_seconds(k.grain_s)}"
        if k.grain_s
        else ""
    )
    busy = f"; {k.busy_share:.1%} came while another ran" if k.busy_share and not k.grain_s else ""
    return Finding(NAME, text, "one instance, fixed keep-alive", f"K {format_seconds(at)}", f"{k.entities:,} {k.per}s{busy}{grain}")  # fmt: skip


def from_dict(d: dict[str, Any]) -> Invocations:
    """Inverse of ``Invocations.to_dict``."""

    def maybe(x: Any, read: Any) -> Any:
        return None if x is None else read(x)

    found = Invocations(
        invocations=int(d["invocations"]),
        functions=int(d["functions"]),
        span_s=float(d["span_s"]),
        top_share=float(d["top_share"]),
        functions_for_90=int(d["functions_for_90"]),
        gini=float(d["gini"]),
        bins=maybe(d["bins"], Bins.from_dict),
        gaps=maybe(d["gaps"], Durations.from_dict),
        gaps_per_function_s={str(k): float(v) for k, v in d["gaps_per_function_s"].items()},
        keep_alive=tuple(KeepAlive.from_dict(k) for k in d["keep_alive"]),
        function_cold={
            str(k): {str(a): float(b) for a, b in v.items()} for k, v in d["function_cold"].items()
        },
        times={str(k): Durations.from_dict(v) for k, v in d["times"].items()},
        concurrency_peak=maybe(d["concurrency_peak"], int),
        concurrency_mean=maybe(d["concurrency_mean"], float),
        cold_known=int(d["cold_known"]),
        cold_share=maybe(d["cold_share"], float),
        cold_interval=Interval.from_dict(d["cold_interval"]),
        population=Population.from_dict(d.get("population")),
    )
    shares = [found.top_share, found.gini]
    shares += [found.cold_share] if found.cold_share is not None else []
    shares += [s for q in found.function_cold.values() for s in q.values()]
    numbers = [found.span_s, *found.gaps_per_function_s.values(), found.concurrency_mean or 0.0]
    numbers += [found.bins.idc, found.bins.peak_to_mean, found.bins.width_s] if found.bins else []
    sane = (
        all(0 <= s <= 1 for s in shares)
        and all(math.isfinite(v) and v >= 0 for v in numbers)
        and 0 < found.functions_for_90 <= found.functions <= found.invocations
    )
    if not sane:
        raise ModelError(
            "invocations of the profile: a share is outside 0 … 1, or a count is none",
            "fit the profile again",
        )
    return found


# --- measuring -------------------------------------------------------------------------------------


def fit(trace: Trace, notices: list[Notice]) -> Invocations | None:
    """Fit the invocations of a trace, from rows or from counts."""
    counted = trace.main_table == "invocation_counts"
    totals = trace.query("invocations/function_totals", binned=counted)
    size = totals["invocations"].to_numpy().astype(np.float64)
    functions = totals["functions"].to_numpy().astype(np.float64)
    whole = float(size @ functions)
    if whole < FEWEST_ROWS:
        notices.append(Notice("too-few-rows", f"{whole:.0f} invocations are too few to fit", NAME))
        return None
    timeline = Timeline.of(trace)
    basic = _concentration(size, functions)
    span_s = timeline.span_ns / NS_PER_S if timeline else 0.0
    if counted:
        return _of_counts(trace, timeline, basic, span_s, notices)
    return _of_rows(trace, timeline, basic, span_s, notices)


def _concentration(size: Array, functions: Array) -> dict[str, Any]:
    order = np.argsort(-size)
    s, f = size[order], functions[order]
    whole, many = float(s @ f), float(f.sum())
    made = np.cumsum(s * f)
    i = int(np.searchsorted(made, 0.9 * whole - 1e-9))
    before = float(made[i - 1]) if i else 0.0
    needed = float(f[:i].sum()) + math.ceil((0.9 * whole - before) / s[i] - 1e-12)
    # mean rank of an invocation among functions in order of size, by groups of equal size
    ranks = np.cumsum(f[::-1]) - f[::-1] / 2 + 0.5
    gini = 2 * float((ranks * s[::-1] * f[::-1]).sum()) / (many * whole) - (many + 1) / many
    return {
        "invocations": int(whole),
        "functions": int(many),
        "top_share": short(s[0] / whole, 5),
        "functions_for_90": int(needed),
        "gini": max(0.0, short(gini, 4)),
    }


def _of_counts(
    trace: Trace, timeline: Timeline | None, basic: dict[str, Any], span_s: float, notices: list[Notice]
) -> Invocations:  # fmt: skip
    widths = trace.query("invocations/bin_widths").to_pylist()
    width = float(widths[0]["bin_s"])
    if len(widths) > 1:
        notices.append(
            Notice("bin-widths", f"bins have {len(widths)} widths; what needs one width uses {format_seconds(width)}", NAME)
        )  # fmt: skip
    notices.append(
        Notice(
            "counted-in-bins",
            f"counts per {format_seconds(width)}: idle times are known to a bin at either side, durations and concurrency are not recorded",
            NAME,
        )
    )
    bins = _bins(trace, width)
    kept: list[KeepAlive] = []
    for per, per_app in (("function", False), ("application", True)):
        if per_app and not trace.has("app_id"):
            continue
        idle, entities = bin_gap_counts(trace, per_app)
        if per_app and kept and entities == kept[0].entities:
            continue
        found = KeepAlive.of(idle, entities, basic["invocations"], per=per, grain_s=width)
        if found is not None:
            kept.append(found)
    population = of_counts(trace, timeline, width) if timeline and len(widths) == 1 else None
    return Invocations(
        span_s=span_s + width, bins=bins, keep_alive=tuple(kept), population=population, **basic
    )


def _bins(trace: Trace, width_s: float) -> Bins | None:
    """IDC of the totals per bin from the first to the last one that holds a request; masked bins are left out."""
    t = trace.query("invocations/bin_totals", bin_s=width_s)
    at, n = t["arrival_ns"].to_numpy(), t["invocations"].to_numpy().astype(np.float64)
    w = round(width_s * NS_PER_S)
    k = (at - at[0]) // w
    if k[-1] > 5_000_000:
        return None
    row = np.zeros(int(k[-1]) + 1)
    np.add.at(row, k, n)
    start = at[0] + np.arange(len(row)) * w
    seen = np.ones(len(row), dtype=bool)
    for a, b in trace.masks:
        seen &= (start + w <= a) | (start >= b)
    row = row[seen]
    if len(row) < 5 or row.mean() <= 0:
        return None
    idc = float(row.var(ddof=1) / row.mean())
    group = max(1, len(row) // 2000)
    cut = len(row) // group * group
    sums = (
        np.stack([np.ones(cut), row[:cut], row[:cut] ** 2], axis=1)
        .reshape(-1, group, 3)
        .sum(axis=1)
    )
    blocks = Blocks.of(sums[:, 1] / group)
    interval = None
    if blocks is not None:
        m, first, second = blocks.sums(sums).T
        with np.errstate(divide="ignore", invalid="ignore"):
            interval = blocks.interval(idc, (second / m - (first / m) ** 2) / (first / m))
    return Bins(width_s, len(row), short(idc, 6), interval, short(row.max() / row.mean(), 5))


def _of_rows(
    trace: Trace, timeline: Timeline | None, basic: dict[str, Any], span_s: float, notices: list[Notice]
) -> Invocations:  # fmt: skip
    timed_durations = trace.has("duration_s")
    if not timed_durations:
        notices.append(
            Notice(
                "no-durations",
                "durations are not recorded: keep-alive is counted from the start of the last request, not from its end",
                NAME,
            )
        )
    times = _times(trace, timeline)
    cold = _cold_share(trace, timeline)
    if timeline is None:
        notices.append(
            Notice(
                "no-arrival", "no start times are recorded: gaps and keep-alive are not known", NAME
            )
        )
        return Invocations(span_s=0.0, times=times, **basic, **cold)
    running = trace.query("invocations/concurrency").to_pylist()[0] if timed_durations else {}
    tick = (trace.manifest.tick_ns or 0) / NS_PER_S
    gaps, per_function = function_gaps(trace, timeline, tick)
    kept = curves(trace, timeline, int(basic["invocations"]), running.get("last_end_ns"))
    return Invocations(
        span_s=span_s,
        gaps=gaps,
        gaps_per_function_s=per_function,
        keep_alive=kept,
        function_cold=function_cold(trace, kept),
        times=times,
        concurrency_peak=running.get("peak"),
        population=of_rows(trace, timeline),
        concurrency_mean=short(running['busy_s'] / timeline.observed_s, 5) if running.get("busy_s") is not None else None,
        **basic,
        **cold,
    )  # fmt: skip


def _times(trace: Trace, timeline: Timeline | None) -> dict[str, Durations]:
    t = trace.query("invocations/time_counts")
    measure = np.array(t["measure"].to_pylist())
    out = {}
    for name in ("duration", "queue", "init"):
        c = binned(t, measure == name) if len(measure) else Counts.exact([], [])
        if c.rows < FEWEST_ROWS:
            continue
        windows = None
        if name == "duration" and timeline is not None:
            rows = trace.query(
                "invocations/time_windows", origin_ns=timeline.first_ns, width_ns=timeline.width_ns
            )
            windows = Windowed.of(rows, timeline.windows)
        out[name] = describe(c, windowed=windows, clock=timeline is not None)
    return out


def _cold_share(trace: Trace, timeline: Timeline | None) -> dict[str, Any]:
    if not trace.has("is_cold"):
        return {}
    origin, width, windows = (timeline.first_ns, timeline.width_ns, timeline.windows) if timeline else (0, _ENDLESS_NS, 1)  # fmt: skip
    t = trace.query("invocations/cold_share", origin_ns=origin, width_ns=width)
    known, cold = int(t["n"].to_numpy().sum()), int(t["cold"].to_numpy().sum())
    if not known:
        return {}
    sums = per_window(t, ("cold", "n"), windows)
    share = cold / known
    return {
        "cold_known": known,
        "cold_share": short(share, 6),
        "cold_interval": share_interval(sums[:, 0], sums[:, 1], share) if cold else None,
    }


# --- scoring ---------------------------------------------------------------------------------------


def score(a: Trace, b: Trace) -> list[Line]:
    """Idle times by KS D, P(cold) at 10 min by difference, durations by KS D."""
    if a.main_table != b.main_table:
        return [Line(NAME, "idle time KS D", None, None, note="rows against counts")]
    measure = bin_gap_counts if a.main_table == "invocation_counts" else idle_counts
    ca, cb = measure(a)[0], measure(b)[0]
    if min(ca.rows, cb.rows) < FEWEST_ROWS:
        return [
            Line(NAME, "idle time KS D", None, None, note="too few invocations of one function")
        ]
    at = np.array([600.0])
    cold = [float(beyond(c, at)[0] / c.rows) for c in (ca, cb)]
    out = [
        Line(NAME, "idle time KS D", grid_ks(ca, cb), None),
        Line(NAME, "P(cold) at 10 min", abs(cold[0] - cold[1]), None, "share"),
    ]
    if a.has("duration_s") and b.has("duration_s"):
        da, db = (_measured(t, "duration") for t in (a, b))
        out.append(Line(NAME, "duration KS D", grid_ks(da, db), None))
    return out


def _measured(trace: Trace, name: str) -> Counts:
    t = trace.query("invocations/time_counts")
    return binned(t, np.array(t["measure"].to_pylist()) == name)

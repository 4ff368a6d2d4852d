"""The functions of a platform: how large they are, which keep a period, and what the gaps of the others are like.

The largest functions have laws of their own. The others are classes: those of one period, and those of none, whose sizes
are a grid. A function keeps a period when four fifths of its gaps are within a tenth of a multiple of its median gap (or,
where only counts per bin are known, its counts hardly vary); it is told with how exactly it is kept, and at which part of
the period it runs: timers that fire together make peaks that no rate shows.

Gaps are told in mean gaps (span / invocations), those of a class pooled; the time before a function's first and after its
last invocation counts as one, so that gaps add up to the span. From counts per bin only a dispersion is known: Allan's,
which is blind to slow changes. What all functions have in common over time is the ``course``.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from ..counts import Counts, significant
from ..distributions import K_ANONYMITY, Grid
from ..errors import ModelError
from ..units import NS_PER_S, short
from . import renewal
from .durations import FEWEST_ROWS, binned
from .timeline import Timeline

if TYPE_CHECKING:
    from ..store import Trace

Array = npt.NDArray[np.float64]

MOST_OWN = 12
"""functions with laws of their own, of twenty invocations or more."""
KNOTS = 65
KEEPS = 0.8
"""share of the gaps near a multiple of the period."""
FEWEST_GAPS = 4
KEEPS_PHASE = 0.5
"""length of the mean direction of a function's calls from which it keeps a phase of its period."""
STEADY = 0.2
"""index of dispersion over sixteen bins below which counts keep a period."""
MOST_WINDOWS = 96
WINDOW_ROWS = 20
"""mean invocations of a window of the course."""


@dataclass(frozen=True)
class FunctionClass:
    """``functions`` that are alike, with ``share`` of all invocations. ``triggers``: shares of the functions by what
    starts them, where recorded. ``sizes``: invocations in multiples of their mean; None: all alike. ``period_s`` of those
    that keep one, each tick off by ``jitter_s`` (standard deviation), at ``phase`` of the period from the trace's start, as
    alike among functions as the length ``together`` of their mean direction says (0: at any time, 1: at once).
    ``gaps``, ``dispersion``, ``durations``: own laws; None: those of the population."""

    functions: int
    share: float
    triggers: Mapping[str, float] = field(default_factory=dict)
    sizes: Grid | None = None
    period_s: float | None = None
    jitter_s: float = 0.0
    phase: float = 0.0
    together: float = 0.0
    gaps: Grid | None = None
    dispersion: float | None = None
    durations: Grid | None = None

    def to_dict(self) -> dict[str, Any]:
        out = dict(self.__dict__)
        for name in ("sizes", "gaps", "durations"):
            out[name] = _dict(out[name])
        return out | {"triggers": dict(self.triggers)}

    @classmethod
    def from_dict(cls, d: Mapping[str, Any]) -> FunctionClass:
        def maybe(x: Any) -> float | None:
            return None if x is None else float(x)

        out = cls(
            int(d["functions"]), float(d["share"]), {str(k): float(v) for k, v in d["triggers"].items()},
            _grid(d["sizes"]), maybe(d["period_s"]), float(d["jitter_s"]), float(d["phase"]), float(d["together"]),
            _grid(d["gaps"]), maybe(d["dispersion"]), _grid(d["durations"]),
        )  # fmt: skip
        sane = (
            out.functions > 0
            and 0 <= out.share <= 1
            and all(0 <= v <= 1 for v in out.triggers.values())
            and (out.period_s is None or 1e-3 <= out.period_s < math.inf)
            and 0 <= out.jitter_s < math.inf
            and 0 <= out.phase <= 1
            and 0 <= out.together <= 1
            and (out.dispersion is None or 0 <= out.dispersion < math.inf)
        )
        if not sane:
            raise ModelError(
                "a class of functions of the profile has no size, share or period",
                "fit the profile again",
            )
        return out


@dataclass(frozen=True)
class Population:
    """The classes, the largest functions first. ``gaps``, ``dispersion``, ``durations``: of the functions without laws of
    their own; ``within``: share of the variance of ln(duration) that is within these functions and not between them.
    ``course``: multiples of the mean rate of those that keep no period, in windows of ``window_s``."""

    classes: tuple[FunctionClass, ...]
    gaps: Grid | None = None
    dispersion: float | None = None
    durations: Grid | None = None
    within: float = 1.0
    window_s: float = 0.0
    course: tuple[float, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        return {
            "classes": [c.to_dict() for c in self.classes],
            "gaps": _dict(self.gaps),
            "dispersion": self.dispersion,
            "durations": _dict(self.durations),
            "within": self.within,
            "course": {"window_s": self.window_s, "multiple_of_mean": list(self.course)},
        }

    @classmethod
    def from_dict(cls, d: Mapping[str, Any] | None) -> Population | None:
        if d is None:
            return None
        course = d["course"]
        out = cls(
            tuple(FunctionClass.from_dict(c) for c in d["classes"]),
            _grid(d["gaps"]),
            None if d["dispersion"] is None else float(d["dispersion"]),
            _grid(d["durations"]),
            float(d["within"]),
            float(course["window_s"]),
            tuple(float(x) for x in course["multiple_of_mean"]),
        )
        curve = np.array(out.course)
        sane = (
            0 <= out.within <= 1
            and (not len(curve) or (out.window_s > 0 and curve.mean() > 0))
            and bool(np.isfinite(curve).all() and (curve >= 0).all())
            and math.isclose(sum(c.share for c in out.classes), 1.0, abs_tol=0.01)
        )
        if not sane:
            raise ModelError("the functions of the profile do not add up", "fit the profile again")
        return out


def _dict(grid: Grid | None) -> dict[str, Any] | None:
    return None if grid is None else grid.to_dict()


def _grid(d: Mapping[str, Any] | None) -> Grid | None:
    if d is None:
        return None
    found = Grid.from_dict(dict(d))
    if not (found.values[0] >= 0 and 0 <= found.mean < math.inf):
        raise ModelError(
            "a size, gap or duration of the functions of the profile is negative",
            "fit the profile again",
        )
    return found


# --- measuring -------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class _Seen:
    """One entry a function, by size. ``period``: seconds, NaN where none is kept; ``turn``, ``spread``: part of the period
    at which it runs and its standard deviation in turns; ``allan``: of counts, NaN from rows."""

    name: list[str]
    n: Array
    trigger: list[str | None]
    period: Array
    jitter: Array
    turn: Array
    spread: Array
    allan: Array

    @property
    def timers(self) -> npt.NDArray[np.bool_]:
        return np.isfinite(self.period)


def of_rows(trace: Trace, timeline: Timeline) -> Population | None:
    """From invocations; None where they span no time."""
    t = trace.query("invocations/functions")
    span_s = timeline.observed_s
    if span_s <= 0 or not t.num_rows:
        return None
    n, near = _column(t, "n"), _column(t, "near")
    keeps = (n > FEWEST_GAPS) & (near >= KEEPS) & (_column(t, "period_s") > 0)
    # a normal law's median is 0.6745 of its spread; a gap has the jitter of both its ends
    off = np.nan_to_num(_column(t, "off")) / 0.6745 / math.sqrt(2)
    seen = _Seen(
        t["func_id"].to_pylist(), n, t["trigger"].to_pylist(),
        np.where(keeps, _column(t, "period_s"), np.nan), np.where(keeps, off, 0.0), *_turns(t),
        np.full(len(n), np.nan),
    )  # fmt: skip
    own = [seen.name[i] for i in _own(seen)]
    gaps = trace.query("invocations/unit_gaps", named=own or [""], span_s=span_s)
    laws = _grids(gaps, ["", *own])
    times = _grids(trace.query("invocations/function_durations", named=own or [""]), ["", *own]) if trace.has("duration_s") else {}  # fmt: skip
    rest = ~np.isin(np.arange(len(n)), _own(seen))
    classes = _classes(seen, laws, times)
    dispersion = float(
        sum(c.share * c.gaps.curve.squared_cv for c in classes if c.gaps and c.period_s is None)
    )  # fmt: skip
    free = sum(c.share for c in classes if c.period_s is None)
    pooled = laws.get("")
    left = free - sum(c.share for c in classes if c.gaps and c.period_s is None)
    dispersion += left * (pooled.curve.squared_cv if pooled else 1.0)
    width_s, course = _course(trace, timeline, seen, dispersion / free if free > 0 else 1.0)
    return Population(
        classes, pooled, None, times.get(""), _within(t, rest), width_s, course
    )  # fmt: skip


def of_counts(trace: Trace, timeline: Timeline, bin_s: float) -> Population | None:
    """From counts per bin: of the gaps only their dispersion is known."""
    width_ns = round(bin_s * NS_PER_S)
    t = trace.query(
        "invocations/counted_functions", bin_s=bin_s, width_ns=width_ns, origin_ns=timeline.first_ns
    )
    bins = timeline.span_ns // width_ns + 1
    if not t.num_rows or bins < 2:
        return None
    n, active = _column(t, "n"), _column(t, "active")
    allan = np.maximum((_column(t, "squares") - _column(t, "lagged") * bins / (bins - 1)) / n, 0.0)
    # over 16 bins a timer's counts vary by a call or two, whatever its place in the bin
    wide = bins / 16
    mean = n / wide
    steady = (mean >= 5) & ((_column(t, "wide") / wide - mean**2) / mean < STEADY)
    slow = (active > FEWEST_GAPS) & (_column(t, "near") >= KEEPS) & (n < 1.1 * active)
    often = np.round(bins * bin_s / n, 3)
    whole = np.round(often)
    often = np.where((whole >= 1) & (np.abs(often - whole) < 0.005 * often), whole, often)
    period = np.where(steady & (n > 0.9 * bins), often, np.where(slow, _column(t, "period_s"), np.nan))  # fmt: skip
    turn, spread = _turns(t)
    # within a bin nobody knows where a timer is
    spread = np.where(period > 1.5 * bin_s, spread, np.inf)
    seen = _Seen(
        t["func_id"].to_pylist(), n, t["trigger"].to_pylist(), period, np.zeros(len(n)), turn, spread, allan
    )  # fmt: skip
    classes = _classes(seen, {}, {})
    rest = np.setdiff1d(np.flatnonzero(~seen.timers), _own(seen))
    free = ~seen.timers
    pooled = float(allan[rest] @ n[rest] / n[rest].sum()) if n[rest].sum() else None
    below = float(allan[free] @ n[free] / n[free].sum()) if n[free].sum() else 1.0
    width_s, course = _course(trace, timeline, seen, below, bin_s)
    return Population(
        classes, None, None if pooled is None else short(pooled, 5), None, 1.0, width_s, course
    )


def _column(t: pa.Table, name: str) -> Array:
    return np.array(
        [math.nan if v is None else float(v) for v in t[name].to_pylist()], dtype=np.float64
    )


def _turns(t: pa.Table) -> tuple[Array, Array]:
    """(part of the period, its standard deviation), from the start or the middle of the period, whichever scatters less: a
    function that runs around its start is at 0.99 as well as at 0.01."""
    phase, turned = _column(t, "phase"), _column(t, "turned")
    a, b = _column(t, "phase_var"), _column(t, "turned_var")
    return np.where(a <= b, phase, (turned + 0.5) % 1.0), np.sqrt(np.nan_to_num(np.fmin(a, b)))


def _own(seen: _Seen) -> list[int]:
    """The largest functions, in order of size: the source is sorted by it."""
    return [i for i in range(min(MOST_OWN, len(seen.n))) if seen.n[i] >= FEWEST_ROWS]


def _classes(
    seen: _Seen, gaps: Mapping[str, Grid], durations: Mapping[str, Grid]
) -> tuple[FunctionClass, ...]:
    whole = float(seen.n.sum())
    own = _own(seen)
    out = []
    for i in own:
        timer = bool(seen.timers[i])
        known = not math.isnan(seen.allan[i])
        out.append(
            _class(
                seen, [i], whole, timer,
                gaps=None if timer else gaps.get(seen.name[i]),
                dispersion=short(seen.allan[i], 5) if known and not timer else None,
                durations=durations.get(seen.name[i]),
            )
        )  # fmt: skip
    left = np.ones(len(seen.n), dtype=bool)
    left[own] = False
    for period in np.unique(seen.period[left & seen.timers]):
        alike = np.flatnonzero(left & (seen.period == period))
        if seen.n[alike].sum() >= K_ANONYMITY:
            out.append(_class(seen, alike.tolist(), whole, timer=True))
            left[alike] = False
    rest = np.flatnonzero(left)
    if len(rest):
        out.append(_class(seen, rest.tolist(), whole, timer=False))
    return tuple(out)


def _class(
    seen: _Seen, of: Sequence[int], whole: float, timer: bool, *, gaps: Grid | None = None,
    dispersion: float | None = None, durations: Grid | None = None,
) -> FunctionClass:  # fmt: skip
    n = seen.n[list(of)]
    rows: dict[str, float] = {}
    many: dict[str, int] = {}
    for i in of:
        if (trigger := seen.trigger[i]) is not None:
            rows[trigger] = rows.get(trigger, 0.0) + float(seen.n[i])
            many[trigger] = many.get(trigger, 0) + 1
    told = {k: short(many[k] / len(n), 5) for k in sorted(many) if rows[k] >= K_ANONYMITY}
    sizes = None
    if len(n) >= 2 * K_ANONYMITY and not timer:
        sizes = Grid.of(Counts.of(n / n.mean()), KNOTS)
    share = short(n.sum() / whole, 6)
    if not timer:
        return FunctionClass(len(n), share, told, sizes, gaps=gaps, dispersion=dispersion, durations=durations)  # fmt: skip
    turn, spread = seen.turn[list(of)], seen.spread[list(of)]
    # the mean direction of a function that scatters normally is exp(−(2πσ)²/2) long; one that keeps no phase has none
    length = np.exp(-((2 * np.pi * spread) ** 2) / 2)
    mean = complex(np.where(length > KEEPS_PHASE, np.exp(2j * np.pi * turn), 0.0).mean())
    return FunctionClass(
        len(n), share, told, None, short(seen.period[of[0]], 6), short(float(np.median(seen.jitter[list(of)])), 4),
        short(math.atan2(mean.imag, mean.real) / (2 * math.pi) % 1.0, 5), short(min(abs(mean), 1.0), 5), durations=durations,
    )  # fmt: skip


def _grids(t: pa.Table, names: Sequence[str]) -> dict[str, Grid]:
    """A grid by name, of the names with twenty values."""
    name = np.array(t["name"].to_pylist(), dtype=object)
    out = {}
    for k in names:
        mine = name == k
        c = binned(t, mine) if mine.any() else Counts.exact([], [])
        if c.rows >= FEWEST_ROWS:
            out[k] = Grid.of(c, KNOTS)
    return out


def _within(t: pa.Table, rest: npt.NDArray[np.bool_]) -> float:
    """Share of the variance of ln(duration) within functions, of those without laws of their own: one-way analysis of
    variance, with the degrees of freedom that the functions' means take."""
    n, mean, var = (_column(t, c) for c in ("timed", "log_mean", "log_var"))
    used = rest & (n > 0)
    n, mean, var = n[used], mean[used], var[used]
    freedom = n.sum() - len(n)
    if len(n) < 2 or freedom < 1:
        return 1.0
    inside = float(n @ var / freedom)
    centre = float(n @ mean / n.sum())
    between = max(0.0, float(n @ (mean - centre) ** 2 / n.sum()) - inside * len(n) / n.sum())
    return short(inside / (inside + between), 4) if inside + between > 0 else 1.0


def _course(
    trace: Trace, timeline: Timeline, seen: _Seen, below: float, bin_s: float = 0.0
) -> tuple[float, tuple[float, ...]]:
    """(window in seconds, multiples of the mean rate) of the functions that keep no period: what the timers bring is taken
    off, and what the gaps alone make of the counts is taken for noise (``renewal.rate_signal``)."""
    free = float(seen.n[~seen.timers].sum())
    span_ns = timeline.span_ns + round(bin_s * NS_PER_S)
    windows = min(MOST_WINDOWS, int(free / max(WINDOW_ROWS, 4 * below)))
    if windows < 8 or timeline.masks:
        return 0.0, ()
    width_ns = -(-(span_ns + 1) // windows)  # the last invocation lies in the last window
    if bin_s > 0:  # whole bins, and the windows that are full
        step = round(bin_s * NS_PER_S)
        width_ns = -(-(span_ns // windows) // step) * step
        windows = span_ns // width_ns
    t = trace.query(
        "invocations/window_totals", origin_ns=timeline.first_ns, width_ns=width_ns, binned=bin_s > 0
    )  # fmt: skip
    n = np.zeros(windows)
    k = t["k"].to_numpy()
    inside = (k >= 0) & (k < windows)
    n[k[inside]] = t["n"].to_numpy()[inside]
    timed = float(seen.n[seen.timers].sum()) / span_ns * width_ns
    n = np.maximum(n - timed, 0.0)
    if windows < 8 or n.mean() <= 0:
        return 0.0, ()
    curve = n / n.mean()
    signal = renewal.rate_signal(n, below)
    if signal == 0:
        return 0.0, ()
    return short(width_ns / NS_PER_S, 9), tuple(float(x) for x in significant(renewal.damped(curve, signal), 5))  # fmt: skip

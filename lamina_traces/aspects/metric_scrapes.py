"""Reading scrapes: the clock of a trace of metrics, counters with resets by scrape interval, histograms, gauges."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from ..distributions import K_ANONYMITY
from ..intervals import Blocks, Interval
from ..units import NS_PER_S, short
from .dispersion import MIN_WINDOWS, Scale, scale
from .metric_laws import Histogram, mean_of
from .metric_names import COUNTERS, GAUGES, HISTOGRAMS, Found
from .timeline import WIDTHS_S

if TYPE_CHECKING:
    from ..store import Trace

Array = npt.NDArray[np.float64]

GAP_STEPS = 3
MOST_WINDOWS = 120
COUNTED_BY = ("arrivals", "ttft", "completions", "input_length", "e2e")
"""what requests are counted by, the nearest to their arrival first; of histograms their count of values."""


@dataclass(frozen=True)
class Curve:
    """A figure over time, one value a window, None where nothing was scraped. ``highest``: of single scrapes."""

    metric: str
    mean: float
    highest: float
    values: tuple[float | None, ...]

    def to_dict(self) -> dict[str, Any]:
        return self.__dict__ | {"values": list(self.values)}


@dataclass(frozen=True)
class Clock:
    """The scrapes: ``cell_ns`` apart, from ``first_ns`` on; windows of ``fold`` cells."""

    first_ns: int
    last_ns: int
    cell_ns: int
    fold: int
    longest_ns: int
    masks: tuple[tuple[int, int], ...]

    @property
    def cells(self) -> int:
        return (self.last_ns - self.first_ns + self.cell_ns // 2) // self.cell_ns + 1

    @property
    def windows(self) -> int:
        return max(1, -(-(self.cells - 1) // self.fold))

    @property
    def width_ns(self) -> int:
        return self.fold * self.cell_ns

    def masked(self) -> npt.NDArray[np.bool_]:
        """[cells] whether a mask lies in the interval that ends with each."""
        out = np.zeros(self.cells, dtype=bool)
        for a, b in self.masks:
            low = (a - self.first_ns) // self.cell_ns
            high = -((self.first_ns - b) // self.cell_ns) + 1
            out[max(0, low) : max(0, high)] = True
        return out


@dataclass(frozen=True)
class Counted:
    """A counter by cell: ``n``, and where all its series were ``seen`` without a gap, reset or mask; ``total`` with gaps."""

    n: Array
    seen: npt.NDArray[np.bool_]
    total: float
    resets: int

    def windows(self, clock: Clock) -> tuple[Array, Array]:
        """[windows] counts and cells that were seen, of each."""
        # what a scrape finds was counted in the interval that ends with it
        k = np.maximum(np.arange(clock.cells) - 1, 0) // clock.fold
        n = np.bincount(k[self.seen], self.n[self.seen], minlength=clock.windows)
        seen = np.bincount(k[self.seen], minlength=clock.windows)
        return n.astype(np.float64), seen.astype(np.float64)


def clock_of(trace: Trace, found: Mapping[str, Found]) -> Clock | None:
    """From the metric with the most samples a series: the others are of the same scrapes."""
    best: Mapping[str, Any] | None = None
    for role in (*COUNTED_BY, *COUNTERS, *GAUGES, *HISTOGRAMS):
        if role not in found:
            continue
        f = found[role]
        rows = trace.query("metrics/scrapes", metric=_series(f, role), label=f.label).to_pylist()
        if rows and rows[0]["step_ns"]:
            best = rows[0]
            break
    if best is None or not best["step_ns"]:
        return None
    cell = max(1, round(best["step_ns"]))
    first, last = int(best["first_ns"]), int(best["last_ns"])
    span_s = (last - first) / NS_PER_S
    cell_s = cell / NS_PER_S
    width = next((w for w in WIDTHS_S if w >= cell_s and span_s / w <= MOST_WINDOWS), None)
    fold = max(1, round(width / cell_s)) if width else max(1, math.ceil(span_s / cell_s / MOST_WINDOWS))  # fmt: skip
    return Clock(first, last, cell, fold, GAP_STEPS * cell, trace.masks)


def _series(f: Found, role: str) -> str:
    """The name under which a role's samples stand."""
    if role in HISTOGRAMS:
        return f.series("_bucket")
    return f.series("_total") if "_total" in f.suffixes else f.metric


def counted(trace: Trace, f: Found, clock: Clock, series: str | None = None) -> Counted:
    rows = trace.query(
        "metrics/counter_cells", metric=series or _series(f, f.name.role), label=f.label,
        origin_ns=clock.first_ns, cell_ns=clock.cell_ns, longest_ns=clock.longest_ns,
    ).to_pylist()  # fmt: skip
    n, got, bad = np.zeros(clock.cells), np.zeros(clock.cells), np.zeros(clock.cells)
    total = 0.0
    for r in rows:
        total += r["n"]
        if r["k"] is not None and 0 <= r["k"] < clock.cells:
            n[r["k"]] += r["n"] * f.name.scale
            got[r["k"]] += r["series"]
            bad[r["k"]] += r["resets"]
    whole = got.max() if len(got) else 0.0
    seen = (got >= whole) & (got > 0) & (bad == 0) & ~clock.masked()
    return Counted(n, seen, total * f.name.scale, int(sum(r["resets"] for r in rows)))


def histogram(trace: Trace, f: Found, clock: Clock) -> Histogram | None:
    # without masks what a gap hides was still counted: the steps across it count, too
    longest = clock.longest_ns if clock.masks else clock.last_ns - clock.first_ns + 1
    rows = trace.query(
        "metrics/buckets", metric=f.series("_bucket"), label=f.label,
        origin_ns=clock.first_ns, width_ns=clock.width_ns, longest_ns=longest,
    ).to_pylist()  # fmt: skip
    return Histogram.of(rows, clock.windows, f.name.scale)


def requests_of(
    trace: Trace,
    found: Mapping[str, Found],
    counters: Mapping[str, Counted],
    histograms: Mapping[str, Histogram],
    clock: Clock,
) -> tuple[str, Counted | None]:
    """The role that requests are counted by, and their counts."""
    for role in COUNTED_BY:
        if role in counters and counters[role].total > 0:
            return role, counters[role]
        if role in histograms and "_count" in found[role].suffixes:
            f = found[role]
            values = counted(trace, f, clock, f.series("_count"))
            if values.total > 0:
                # a count of values has no unit
                each = 1 / f.name.scale
                return role, replace(values, n=values.n * each, total=values.total * each)
    return "", None


def scales_of(requests: Counted, clock: Clock) -> list[Scale]:
    """Dispersion at the scrape interval and its doublings, over windows of cells that were all seen."""
    out = []
    step = 1
    each, known = requests.n[1:], requests.seen[1:]  # before the first scrape nothing is known
    while len(each) // step >= MIN_WINDOWS:
        k = len(each) // step
        n = each[: k * step].reshape(k, step).sum(axis=1)
        seen = np.asarray(known[: k * step].reshape(k, step).all(axis=1), dtype=bool)
        if seen.sum() < MIN_WINDOWS:
            break
        out.append(scale(short(step * clock.cell_ns / NS_PER_S, 9), n, seen))
        step *= 2
    return out


def sum_of(trace: Trace, f: Found, clock: Clock) -> Counted | None:
    """The histogram's sum of values, a counter of its own."""
    return counted(trace, f, clock, f.series("_sum")) if "_sum" in f.suffixes else None


def mean_value(total: Counted | None, h: Histogram) -> float | None:
    return mean_of([total.total], h.n) if total is not None and total.total > 0 else None


def mean_interval(
    total: Counted | None,
    h: Histogram,
    blocks: Blocks | None,
    clock: Clock,
    used: npt.NDArray[np.bool_],
) -> Interval | None:
    """Of the mean value, from draws of the windows that are ``used``: sums of values over counts of values."""
    mean = mean_value(total, h)
    if total is None or mean is None or blocks is None:
        return None
    sums, _ = total.windows(clock)
    d = blocks.sums(np.stack([sums[used], h.windows.sum(axis=1)], axis=1))
    with np.errstate(divide="ignore", invalid="ignore"):
        return blocks.interval(mean, d[:, 0] / d[:, 1])


def tokens_each(tokens: Counted | None, requests: Counted | None) -> float | None:
    if tokens is None or requests is None or requests.total < 2 * K_ANONYMITY:
        return None
    return short(tokens.total / requests.total)


def curves_of(
    trace: Trace, found: Mapping[str, Found], counters: Mapping[str, Counted], clock: Clock
) -> dict[str, Curve]:
    out = {}
    for role in GAUGES:
        if role not in found:
            continue
        f = found[role]
        rows = trace.query(
            "metrics/gauges", metric=_series(f, role), label=f.label, origin_ns=clock.first_ns, width_ns=clock.width_ns
        ).to_pylist()  # fmt: skip
        rows = [r for r in rows if 0 <= r["k"] < clock.windows]
        if not rows:
            continue
        # requests and rates of several engines add up; shares do not
        times = max(r["series"] for r in rows) if role not in ("kv_usage", "hit_rate") else 1
        unit = f.name.scale
        if role in ("kv_usage", "hit_rate") and max(r["highest"] for r in rows) * unit > 1.5:
            unit /= 100  # in percent, whatever its name says
        values: list[float | None] = [None] * clock.windows
        for r in rows:
            values[r["k"]] = short(max(r["mean"], 0.0) * unit * times, 5)
        samples = sum(r["samples"] for r in rows)
        mean = sum(r["mean"] * r["samples"] for r in rows) / samples * unit * times
        highest = max(r["highest"] for r in rows) * unit * (1 if times == 1 else times)
        if times > 1:  # the highest of one engine says nothing of their sum
            highest = max(v for v in values if v is not None)
        out[role] = Curve(f.metric, short(max(mean, 0.0)), short(max(highest, 0.0)), tuple(values))
    for role, rate in (("prompt_tokens", "prompt_rate"), ("output_tokens", "output_rate")):
        if role in counters and rate not in out:
            n, cells = counters[role].windows(clock)
            seconds = cells * clock.cell_ns / NS_PER_S
            per_s = [short(a / s, 5) if s > 0 else None for a, s in zip(n, seconds, strict=True)]
            known = [x for x in per_s if x is not None]
            if known:
                mean = float(n.sum() / seconds.sum())
                out[rate] = Curve(found[role].metric, short(mean), max(known), tuple(per_s))
    return out


def hits_of(counters: Mapping[str, Counted], curves: Mapping[str, Curve]) -> tuple[float | None, str]:  # fmt: skip
    """Share of tokens that the prefix cache gave, and its definition."""
    for hits, of, text in (
        ("prefix_hits", "prefix_queries", "tokens looked up in the prefix cache were found"),
        ("cached_tokens", "prompt_tokens", "prompt tokens were found in the cache"),
    ):
        if hits in counters and of in counters and counters[of].total > 0:
            ratio = counters[hits].total / counters[of].total
            return short(min(ratio, 1.0), 6), text
    if "hit_rate" in curves:
        return min(curves["hit_rate"].mean, 1.0), "lookups hit, as the server's own gauge says"
    return None, ""

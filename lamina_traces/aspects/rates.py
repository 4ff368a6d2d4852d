"""The slow part of arrivals: where the rate changes, its daily and weekly shape, and its silences."""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from ..errors import ModelError
from ..units import DAY_NS, NS_PER_S, short
from .timeline import Timeline

if TYPE_CHECKING:
    from ..store import Trace

Array = npt.NDArray[np.float64]

HOUR_NS = 3600 * NS_PER_S
DAILY_SPAN_NS = 2 * DAY_NS
WEEKLY_SPAN_NS = 14 * DAY_NS
LEAST_STEP = 1.25
"""a change of rate by a smaller factor is not named."""
MOST_CHANGES = 12


@dataclass(frozen=True)
class Change:
    """The rate steps from ``before`` to ``after`` (1/s) at ``at_s`` after the first arrival."""

    at_s: float
    before_per_s: float
    after_per_s: float

    def to_dict(self) -> dict[str, float]:
        return dict(self.__dict__)


@dataclass(frozen=True)
class Silence:
    """No arrival from ``start_s`` (of the trace's clock) on, for ``length_s``. ``times_mean``: of the mean gap."""

    start_s: float
    length_s: float
    times_mean: float

    def to_dict(self) -> dict[str, float]:
        return dict(self.__dict__)


@dataclass(frozen=True)
class Seasons:
    """Multiples of the mean rate by hour of the day (24) and by day of the week (7, from Monday; None where the
    span is shorter than two weeks). ``explained``: share of the variance of hourly rates that they account for.
    """

    hours: tuple[float, ...]
    days: tuple[float, ...] | None
    explained: float

    def to_dict(self) -> dict[str, Any]:
        return {
            "hours": list(self.hours),
            "days": None if self.days is None else list(self.days),
            "explained": self.explained,
        }

    @classmethod
    def from_dict(cls, d: dict[str, Any] | None) -> Seasons | None:
        if d is None:
            return None
        days = None if d["days"] is None else tuple(map(float, d["days"]))
        out = cls(tuple(map(float, d["hours"])), days, float(d["explained"]))
        for factors, n in ((out.hours, 24), (out.days, 7)):
            # hours that were seen more often than others may take the plain mean off 1
            if factors is not None and not (len(factors) == n and min(factors) >= 0 and n / 4 <= sum(factors) <= n * 4):  # fmt: skip
                raise ModelError(
                    f"the season of the profile has no {n} factors of a mean of about 1",
                    "state multiples of the mean rate by hour (24) and day (7), or fit the profile again",
                )
        return out


def change_points(counts: Array, covered_s: Array, width_s: float) -> list[Change]:
    """Steps of the rate by exact optimal partitioning (Jackson et al. 2005) of Anscombe's 2·√(N + 3/8), which has
    unit variance for Poisson counts; the noise is measured, so bursty counts need a larger step.

    The cost of a change is 3·σ²·ln K; steps below a quarter are joined. Windows under a mask count for nothing.
    """
    used = covered_s > 0.5 * width_s
    y = 2 * np.sqrt(counts[used] / covered_s[used] * width_s + 0.375)
    n = len(y)
    if n < 8:
        return []
    steps = np.diff(y)
    sigma2 = max((float(np.median(np.abs(steps))) / 0.6745) ** 2 / 2, float(steps.var()) / 4, 0.25)
    penalty = 3 * sigma2 * math.log(n) * _memory(y)
    s1 = np.concatenate([[0.0], np.cumsum(y)])
    s2 = np.concatenate([[0.0], np.cumsum(y * y)])
    best = np.full(n + 1, np.inf)
    best[0] = -penalty
    origin = np.zeros(n + 1, dtype=np.int64)
    for j in range(2, n + 1):
        i = np.arange(0, j - 1)  # segments of two windows at least
        cost = s2[j] - s2[i] - (s1[j] - s1[i]) ** 2 / (j - i)
        total = best[i] + cost + penalty
        k = int(total.argmin())
        best[j], origin[j] = total[k], k
    cuts: list[int] = []
    j = n
    while j > 0:
        j = int(origin[j])
        if j > 0:
            cuts.append(j)
    cuts.reverse()
    return _named(cuts, np.flatnonzero(used), counts, covered_s, width_s)


def _memory(y: Array) -> float:
    """What the penalty is raised by where successive windows depend on each other after a moving median: long-run
    over plain variance of an AR(1)."""
    if len(y) < 16:
        return 1.0
    half = 5
    padded = np.pad(y, half, mode="edge")
    smooth = np.median(np.lib.stride_tricks.sliding_window_view(padded, 2 * half + 1), axis=1)
    r = y - smooth
    power = float(r @ r)
    phi = min(max(float(r[1:] @ r[:-1]) / power, 0.0), 0.9) if power > 0 else 0.0
    return (1 + phi) / (1 - phi)


def _named(cuts: list[int], at: npt.NDArray[np.int64], counts: Array, covered_s: Array, width_s: float) -> list[Change]:  # fmt: skip
    while True:
        edges = [0, *cuts, len(at)]
        rates = [
            float(counts[at[a:b]].sum() / covered_s[at[a:b]].sum())
            for a, b in itertools.pairwise(edges)
        ]
        steps = [abs(math.log((y + 1e-12) / (x + 1e-12))) for x, y in itertools.pairwise(rates)]
        if not steps or (min(steps) >= math.log(LEAST_STEP) and len(steps) <= MOST_CHANGES):
            break
        del cuts[steps.index(min(steps))]
    return [
        Change(short(at[c] * width_s, 6), short(x, 4), short(y, 4))
        for c, x, y in zip(cuts, rates, rates[1:], strict=False)
    ]


def origin_of_day_ns(trace: Trace) -> int | None:
    """ns from a Monday's midnight to the trace's instant 0, on the clock of its people; None without a calendar."""
    m = trace.manifest
    if m.clock == "local" and m.origin_local:
        when = datetime.fromisoformat(m.origin_local).replace(tzinfo=None)
        midnight = datetime(when.year, when.month, when.day)
        passed = when - midnight
        return when.weekday() * DAY_NS + (passed.seconds * NS_PER_S + passed.microseconds * 1000)
    if m.clock == "utc" and m.origin_ns is not None:
        return (m.origin_ns + 3 * DAY_NS) % (7 * DAY_NS)  # the epoch was a Thursday
    return None


def seasons(origin: int, timeline: Timeline, n: Array, bin_ns: int) -> Seasons | None:
    """Hourly and daily factors from counts ``n`` per bin of ``bin_ns`` (an hour or less); ``origin``: ns from a midnight
    (a Monday's, where it is known) to the trace's instant 0. None where the span is shorter than two days."""
    if timeline.span_ns < DAILY_SPAN_NS or bin_ns > HOUR_NS or not len(n):
        return None
    start = timeline.first_ns + np.arange(len(n), dtype=np.int64) * bin_ns
    covered = np.full(len(n), float(bin_ns))
    covered[-1] = min(max(timeline.last_ns - int(start[-1]), 0), bin_ns)
    for a, b in timeline.masks:
        covered -= np.clip(np.minimum(start + bin_ns, b) - np.maximum(start, a), 0, None)
    clock = origin + start
    hour, day = (clock // HOUR_NS) % 24, (clock // DAY_NS) % 7
    mean = n.sum() / covered.sum()
    by_hour = _factors(n, covered, hour, 24, mean)
    days = None
    expected = by_hour[hour]
    if timeline.span_ns >= WEEKLY_SPAN_NS:
        by_day = _factors(n, covered * expected, day, 7, mean)
        days = tuple(short(f, 4) for f in by_day)
        expected = expected * by_day[day]
    slot = ((clock - clock[0]) // HOUR_NS).astype(np.int64)
    seen = np.bincount(slot, weights=covered)
    full = seen > 0.9 * HOUR_NS
    real = np.bincount(slot, weights=n)[full] / seen[full]
    model = np.bincount(slot, weights=expected * covered * mean)[full] / seen[full]
    power = float(((real - real.mean()) ** 2).sum())
    explained = 1 - float(((real - model) ** 2).sum()) / power if power > 0 else 0.0
    hours = tuple(short(f, 4) for f in by_hour)
    return Seasons(hours, days, short(max(explained, 0.0), 3))


def _factors(n: Array, weight: Array, key: npt.NDArray[np.int64], size: int, mean: float) -> Array:
    total = np.bincount(key, weights=weight, minlength=size)
    found = np.bincount(key, weights=n, minlength=size)
    return np.where(total > 0, found / np.maximum(total, 1e-300) / mean, 1.0)


def silences(longest: list[tuple[int, int]], mean_gap_s: float, gaps: float) -> list[Silence]:
    """The gaps (start, end in ns) that are ten times as long as the longest of a Poisson process would be: mean
    gap times ln(gaps). Either nobody asked, or the collector was down; longest first."""
    limit = 10 * mean_gap_s * math.log(max(gaps, 3.0))
    out = []
    for a, b in longest:
        length = (b - a) / NS_PER_S
        if length <= max(limit, 1.0):
            continue
        # inside the silence, to two digits of its length: no row's time is told, and a mask of it hides none
        step = 10.0 ** (math.floor(math.log10(length)) - 1)
        start, end = math.floor(a / NS_PER_S / step) + 1, math.ceil(b / NS_PER_S / step) - 1
        if end > start:
            times = short(length / mean_gap_s, 2)
            out.append(Silence(round(start * step, 6), round((end - start) * step, 6), times))
    return sorted(out, key=lambda s: -s.length_s)

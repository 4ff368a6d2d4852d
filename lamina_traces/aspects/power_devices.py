"""One power source by itself: its energy by three routes, its peaks and rises, and whether it ran into a cap."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from ..units import NS_PER_S, short
from .power_groups import figures, watts
from .power_readings import AS_LONG, PEAK_WINDOWS_S, RISES_S, Pass, Sums

CAP_SHARE = 0.02
"""share of the readings at the limit from which a device counts as capped."""


@dataclass(frozen=True)
class Counter:
    """What a device's energy counter says. ``ratio``: of its energy to the integral of the readings over the same
    spans; ``gap_energy_j``: counted while no reading was taken; a ``reset`` loses what was counted meanwhile."""

    energy_j: float
    covered_s: float
    ratio: float | None
    resets: int
    gap_energy_j: float

    @property
    def mean_w(self) -> float | None:
        return self.energy_j / self.covered_s if self.covered_s else None


@dataclass(frozen=True)
class Cap:
    """A limit that the device ran into for ``share`` of its readings. ``how``: limit (recorded with the readings) or
    flat top (its highest readings repeat)."""

    limit_w: float
    share: float
    how: str


@dataclass(frozen=True)
class Device:
    """One device of one host and kind of reading. ``mean_w`` is time-weighted; ``sample_mean_w`` is the plain mean of readings.

    ``energy_j`` by trapezoid, ``energy_left_j`` by left rectangles. ``max_rise_w`` is the largest from one reading to
    the next, ``max_ramp_w_per_s`` the steepest, up or down. Windows and rises as in ``courses.Group``.
    """

    host: str
    device: str
    domain: str
    samples: int
    sample_mean_w: float
    mean_w: float | None
    min_w: float
    max_w: float
    covered_s: float
    energy_j: float
    max_rise_w: float
    reading: str = "unknown"
    period_s: float | None = None
    gaps: int = 0
    energy_left_j: float | None = None
    max_ramp_w_per_s: float | None = None
    peaks_w: Mapping[str, float | None] = field(default_factory=dict)
    rises_w: Mapping[str, float | None] = field(default_factory=dict)
    rises_at_least_w: Mapping[str, float | None] = field(default_factory=dict)
    counter: Counter | None = None
    cap: Cap | None = None

    @property
    def name(self) -> str:
        """Host and device."""
        return " ".join(x for x in (self.host, self.device) if x)

    @property
    def load_factors(self) -> dict[str, float | None]:
        """Mean / peak, of the readings (``native``) and of each window."""
        mean = self.sample_mean_w if self.mean_w is None else self.mean_w
        return {
            k: mean / v if v else None for k, v in {"native": self.max_w, **self.peaks_w}.items()
        }

    def to_dict(self) -> dict[str, Any]:
        out: dict[str, Any] = {
            k: dict(v) if isinstance(v, Mapping) else v for k, v in self.__dict__.items()
        }
        return out | {
            "counter": self.counter.__dict__ if self.counter else None,
            "cap": self.cap.__dict__ if self.cap else None,
        }


def from_dict(x: Mapping[str, Any]) -> Device:
    """Inverse of ``Device.to_dict``; version 1 has its first eleven fields."""
    counter, cap = x.get("counter"), x.get("cap")
    return Device(
        host=str(x["host"]),
        device=str(x["device"]),
        domain=str(x["domain"]),
        samples=int(x["samples"]),
        sample_mean_w=watts(x["sample_mean_w"]),
        mean_w=_maybe(x["mean_w"]),
        min_w=watts(x["min_w"]),
        max_w=watts(x["max_w"]),
        covered_s=watts(x["covered_s"]),
        energy_j=watts(x["energy_j"]),
        max_rise_w=watts(x["max_rise_w"]),
        reading=str(x.get("reading", "unknown")),
        period_s=_maybe(x.get("period_s")),
        gaps=int(x.get("gaps", 0)),
        energy_left_j=_maybe(x.get("energy_left_j")),
        max_ramp_w_per_s=_maybe(x.get("max_ramp_w_per_s")),
        peaks_w=figures(x.get("peaks_w", {})),
        rises_w=figures(x.get("rises_w", {})),
        rises_at_least_w=figures(x.get("rises_at_least_w", {})),
        counter=None
        if counter is None
        else Counter(
            watts(counter["energy_j"]),
            watts(counter["covered_s"]),
            _maybe(counter["ratio"]),
            int(counter["resets"]),
            watts(counter["gap_energy_j"]),
        ),
        cap=None
        if cap is None
        else Cap(watts(cap["limit_w"]), watts(cap["share"]), str(cap["how"])),
    )


def _maybe(x: Any) -> float | None:
    return None if x is None else watts(x)


def describe(seen: Pass, i: int, tops: Mapping[str, Mapping[str, Any]]) -> Device:
    s, of = seen.sums, seen.sources[i]
    period_s = of.period_ns / NS_PER_S if of.period_ns else None
    covered = float(s.covered_s[i])
    highest = float(s.highest_w[i])
    peaks: dict[str, float | None] = {}
    for k, w in enumerate(PEAK_WINDOWS_S):
        value = float(s.peak_w[i, k])
        if period_s is not None and period_s <= w * AS_LONG <= period_s * AS_LONG**2:
            value = highest  # a reading stands for its own period
        peaks[str(w)] = short(value) if math.isfinite(value) else None
    rises: dict[str, float | None] = {}
    least: dict[str, float | None] = {}
    for k, d in enumerate(RISES_S):
        known = period_s is not None and period_s <= d
        rises[str(d)] = short(float(s.rise_w[i, k])) if known else None
        if period_s is not None and not known:
            least[str(d)] = short(max(0.0, float(s.rise_at_least_w[i, k])))
    return Device(
        host=of.host,
        device=of.device,
        domain=of.domain,
        samples=of.readings,
        sample_mean_w=short(float(s.watts[i] / s.readings[i]), 9),
        mean_w=short(float(s.trapezoid_j[i]) / covered, 9) if covered else None,
        min_w=short(float(s.lowest_w[i])),
        max_w=short(highest),
        covered_s=short(covered, 9),
        energy_j=short(float(s.trapezoid_j[i]), 9),
        max_rise_w=short(max(0.0, float(s.largest_step_w[i]))) if covered else 0.0,
        reading=of.reading,
        period_s=period_s,
        gaps=int(s.gaps[i]),
        energy_left_j=short(float(s.left_j[i]), 9),
        max_ramp_w_per_s=short(float(s.steepest_w_per_s[i])) if covered else None,
        peaks_w=peaks,
        rises_w=rises,
        rises_at_least_w=least,
        counter=_counter(s, i) if of.counted > 1 else None,
        cap=_cap(s, i, tops.get(of.key)),
    )


def _counter(s: Sums, i: int) -> Counter:
    integrated = float(s.counter_trapezoid_j[i])
    energy = float(s.counter_j[i])
    return Counter(
        short(energy, 9),
        short(float(s.counter_s[i]), 9),
        short(energy / integrated) if integrated > 0 else None,
        int(s.counter_resets[i]),
        short(float(s.counter_gap_j[i]), 9),
    )


def _cap(s: Sums, i: int, top: Mapping[str, Any] | None) -> Cap | None:
    """The cap that a device ran into, or None.

    With a recorded limit: at least ``CAP_SHARE`` of the readings within 1 % of it or above. Without one: the highest
    reading itself repeats, and within 1 % of it lie five times as many readings as in the next 2 % by their width,
    which a load that is merely steady does not do; half of the readings must lie lower than 90 % of it or it is the load.
    """
    if s.limited[i]:
        share = float(s.at_limit[i] / s.limited[i])
        return Cap(short(float(s.limit_w[i])), short(share), "limit") if share >= CAP_SHARE else None  # fmt: skip
    if top is None or top["readings"] < 100:
        return None
    n, within = int(top["readings"]), int(top["within_1"])
    beside = (int(top["within_3"]) - within) / 2
    flat = (
        within >= CAP_SHARE * n
        and within >= 5 * beside
        and top["at_top"] >= max(3, 0.02 * within)
        and int(top["within_10"]) <= 0.9 * n
    )
    return Cap(short(float(top["top_w"])), short(within / n), "flat top") if flat else None

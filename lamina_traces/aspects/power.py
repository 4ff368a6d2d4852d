"""Power: mean, energy, peaks and rise of each device, and the load-duration curve.

Energy is the trapezoid over steps no longer than three median periods; a longer step is a gap in the log
and counts for nothing. Where a trace reads a whole and its parts (a server and its power supplies), only the
whole is described: adding both would count the parts twice. The time-weighted mean is energy over the seconds so covered. Averaged readings
(``power.draw`` on recent GPUs) hide what is shorter than their window, and are never mixed with instants.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from ..counts import Counts
from ..distributions import Grid
from ..errors import ModelError, Notice
from ..units import NS_PER_S, format_number, format_seconds
from . import Finding, Line
from .arrivals import two_sample_ks

if TYPE_CHECKING:
    from ..store import Trace

NAME = "power"
VERSION = 1
TABLES = ("power_samples",)

GAP_PERIODS = 3
WHOLES = ("row", "rack", "server", "psu")
"""domains that hold the others, outermost first; gpu, cpu and dram lie beside each other."""


@dataclass(frozen=True)
class Device:
    """One device of one host. ``mean_w`` is time-weighted; ``sample_mean_w`` is the plain mean of readings."""

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

    def to_dict(self) -> dict[str, Any]:
        return dict(self.__dict__)


@dataclass(frozen=True)
class Power:
    """``load_duration``: grid of readings over all devices (None below 20). ``load_factor``: mean / peak of readings."""

    period_s: float
    devices: tuple[Device, ...]
    load_factor: float
    load_duration: Grid | None

    def to_dict(self) -> dict[str, Any]:
        return {
            "version": VERSION,
            "period_s": self.period_s,
            "devices": [d.to_dict() for d in self.devices],
            "load_factor": self.load_factor,
            "load_duration": self.load_duration.to_dict() if self.load_duration else None,
        }

    def findings(self) -> list[Finding]:
        energy = sum(d.energy_j for d in self.devices)
        means = [d.mean_w if d.mean_w is not None else d.sample_mean_w for d in self.devices]
        n = len(self.devices)
        kind = self.devices[0].domain if self.devices[0].domain in WHOLES else "device"
        return [
            Finding(
                NAME,
                f"{n} {kind}{'s' if n != 1 else ''} drew {format_number(float(np.mean(means)))} W{' each' if n != 1 else ''} on average, "
                f"{format_number(max(d.max_w for d in self.devices))} W at most, and {format_number(energy / 3600)} Wh in all; "
                f"one reading every {format_seconds(self.period_s)}.",
                effect=f"load factor {self.load_factor:.2f}",
            )
        ]


def from_dict(d: dict[str, Any]) -> Power:
    """Inverse of ``Power.to_dict``."""

    def device(x: dict[str, Any]) -> Device:
        numbers = {
            k: float(x[k])
            for k in ("sample_mean_w", "min_w", "max_w", "covered_s", "energy_j", "max_rise_w")
        }
        mean_w = None if x["mean_w"] is None else float(x["mean_w"])
        return Device(
            host=str(x["host"]),
            device=str(x["device"]),
            domain=str(x["domain"]),
            samples=int(x["samples"]),
            mean_w=mean_w,
            **numbers,
        )

    devices = tuple(device(x) for x in d["devices"])
    if not devices:
        raise ModelError("power of the profile names no device", "fit the profile again")
    return Power(
        float(d["period_s"]),
        devices,
        float(d["load_factor"]),
        Grid.from_dict(d["load_duration"]) if d["load_duration"] else None,
    )


def outermost(trace: Trace, notices: list[Notice] | None = None) -> Trace:
    """The part of a trace in its outermost domain; the trace where no domain holds another."""
    domains = trace.scan("power_samples").select("domain").unique().collect()["domain"].to_list()
    whole = next((d for d in WHOLES if d in domains), None)
    if whole is None or len(domains) == 1:
        return trace
    if notices is not None:
        inside = ", ".join(sorted(set(domains) - {whole}))
        notices.append(
            Notice("parts-left-out", f"{inside} lie inside {whole} and are not added to it", NAME)
        )
    return trace.select(where=f"domain = '{whole}'")


def watt_counts(trace: Trace) -> Counts:
    """Counts of readings, in watts to two decimals."""
    t = trace.query("power/watt_counts")
    return Counts.exact(t["centiwatts"].to_numpy() / 100, t["n"].to_numpy(), "W")


def fit(trace: Trace, notices: list[Notice]) -> Power | None:
    """Fit ``power_samples``. Needs two readings of one device."""
    trace = outermost(trace, notices)
    steps = trace.query("power/step_counts")
    if not steps.num_rows:
        notices.append(
            Notice("too-few-rows", "no device has two readings at different times", NAME)
        )
        return None
    period_ns = float(
        Counts.exact(steps["step_ns"].to_numpy(), steps["n"].to_numpy()).quantile(0.5)
    )
    rows = trace.query("power/device_sums", max_step_ns=int(GAP_PERIODS * period_ns)).to_pylist()
    gaps = int(steps["n"].to_numpy()[steps["step_ns"].to_numpy() > GAP_PERIODS * period_ns].sum())
    if gaps:
        notices.append(
            Notice(
                "gaps",
                f"{gaps:,} gaps longer than {GAP_PERIODS} periods are left out of the energy",
                NAME,
            )
        )
    devices = tuple(
        Device(
            host=r["host"] or "",
            device=r["device"],
            domain=r["domain"],
            samples=r["samples"],
            sample_mean_w=r["mean_w"],
            mean_w=r["energy_j"] / r["covered_s"] if r["covered_s"] else None,
            min_w=r["min_w"],
            max_w=r["max_w"],
            covered_s=r["covered_s"] or 0.0,
            energy_j=r["energy_j"] or 0.0,
            max_rise_w=max(r["max_rise_w"] or 0.0, 0.0),
        )
        for r in rows
    )
    watts = watt_counts(trace)
    peak = float(watts.x.max())
    return Power(
        period_ns / NS_PER_S,
        devices,
        watts.mean / peak if peak > 0 else 0.0,
        Grid.of(watts) if watts.rows >= 20 else None,
    )


def score(a: Trace, b: Trace) -> list[Line]:
    """KS D of the readings and the relative difference of their means."""
    wa, wb = watt_counts(outermost(a)), watt_counts(outermost(b))
    if not len(wa) or not len(wb):
        return []
    return [
        Line(NAME, "reading KS D", two_sample_ks(wa, wb), None),
        Line(NAME, "mean power", abs(wb.mean / wa.mean - 1) if wa.mean else None, None, "relative"),
    ]

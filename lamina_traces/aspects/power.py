"""Power: mean, energy, peaks and rises of each device and of groups of them, and how they go over time.

Fixed by definition (docs/statistics.md): the mean is time-weighted, energy over the seconds covered, with the plain
mean of the readings beside it; energy is the trapezoid, with the left rectangle and the energy counter beside it. A
step longer than three median periods is a gap and splits every integral, rise and correlation; so does a mask.
Averaged readings (``power.draw`` on recent GPUs) hide what is shorter than their window and are never mixed with
instants: a trace with both has separate figures. Where a trace reads a whole and its parts (a server and its
power supplies), only the whole is added up.

Sources that exist only as named windows (Zeus, CodeCarbon) or as cumulative curves (AcmeTrace) are described by what
they hold; ``evidence`` says which.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from ..counts import Counts
from ..distributions import Grid
from ..errors import ModelError, Notice
from ..units import NS_PER_S, format_seconds, short
from . import Finding, Line, power_devices
from .arrivals import two_sample_ks
from .power_devices import Device as Device
from .power_findings import device_findings, group_findings, mean_finding
from .power_groups import KNOTS, Group, measure, watts
from .power_readings import GAP_PERIODS, RISES_S
from .power_readings import Pass as Pass
from .power_sources import MOST_CELLS, MOST_HOSTS, Together, key, outermost, usual_period_ns
from .power_windows import (
    Curve,
    Window,
    curve_finding,
    curves_of,
    totals_findings,
    totals_of,
    window_finding,
    window_from_dict,
    windows_of,
)
from .timeline import Timeline, scan

if TYPE_CHECKING:
    from ..store import Trace

NAME = "power"
VERSION = 2
TABLES = ("power_samples", "power_windows", "cdf_points")
NEEDS = ("arrival_ns", "power_w")
RECORD = (
    "nvidia-smi --query-gpu=timestamp,index,name,power.draw.instant,enforced.power.limit "
    "--format=csv -lms 100, or a dcgm-exporter scraped with stamps"
)

MOST_DEVICES = 12
"""devices described one by one, those with the most energy; the others are in the groups."""


@dataclass(frozen=True)
class Power:
    """``load_duration``: grid of readings over the devices of the most frequent kind (None below 20). ``load_factor``:
    plain mean / peak of these readings. ``groups``: the aligned sums, those of all devices first, one for each kind
    of reading, with their course. ``devices`` are the ``MOST_DEVICES`` with the most energy of ``device_count``.
    ``idle_w``: a device's level when idle, by ``idle_from``: p1, phase (recorded) or declared. ``phase_levels``: mean
    and spread by recorded phase. Of evidence other than samples there are ``windows`` or ``curves`` only."""

    period_s: float
    devices: tuple[Device, ...]
    load_factor: float
    load_duration: Grid | None
    groups: tuple[Group, ...] = ()
    windows: tuple[Window, ...] = ()
    curves: tuple[Curve, ...] = ()
    device_count: int = 0
    idle_w: float | None = None
    idle_from: str = ""
    phase_levels: Mapping[str, tuple[float, float, float]] = field(default_factory=dict)
    """phase → mean W, sd W, share of the readings."""
    evidence: str = "samples"

    @property
    def whole(self) -> Group | None:
        """All devices of the most frequent kind of reading together."""
        return next((g for g in self.groups if g.scope == "all"), None)

    @property
    def highest_w(self) -> float:
        """The highest reading of any device of the most frequent kind of reading, described or not."""
        end = float(self.load_duration.values[-1]) if self.load_duration is not None else 0.0
        kinds = {d.reading for d in self.devices}
        return max(end, *(d.max_w for d in self.devices)) if len(kinds) == 1 else end

    @property
    def energy_j(self) -> float:
        """Of all devices."""
        if self.groups:
            return sum(g.energy_j for g in self.groups if g.scope == "all")
        outer = outermost(w.domain for w in self.windows)
        listed = [w.energy_j or 0.0 for w in self.windows if not w.label and w.domain in outer]
        return sum(d.energy_j for d in self.devices) if self.devices else sum(listed)

    def brief(self) -> Power:
        """What one stream among many keeps: figures, and no course over time."""
        groups = tuple(replace(g, course=None) for g in self.groups if g.scope == "all")
        return replace(self, groups=groups, devices=self.devices[:2])

    def nameless(self) -> Power:
        """Hosts, devices, windows and curves numbered."""
        hosts = [d.host for d in self.devices] + [g.name for g in self.groups if g.scope == "host"]
        hosts += [w.host for w in self.windows]
        name = {h: f"host{i}" for i, h in enumerate(dict.fromkeys(h for h in hosts if h), 1)}
        return replace(
            self,
            devices=tuple(
                replace(d, host=name.get(d.host, ""), device=f"{d.domain}{i}")
                for i, d in enumerate(self.devices)
            ),
            groups=tuple(
                replace(g, name=name[g.name]) if g.scope == "host" and g.name else g
                for g in self.groups
            ),
            windows=tuple(
                replace(w, label=f"window{i}" if w.label else "", host=name.get(w.host, ""), device=f"{w.domain}{i}")
                for i, w in enumerate(self.windows, 1)
            ),
            curves=tuple(replace(c, series=f"curve{i}") for i, c in enumerate(self.curves, 1)),
        )  # fmt: skip

    def to_dict(self) -> dict[str, Any]:
        return {
            "version": VERSION,
            "evidence": self.evidence,
            "period_s": self.period_s,
            "device_count": self.device_count,
            "devices": [d.to_dict() for d in self.devices],
            "load_factor": self.load_factor,
            "load_duration": self.load_duration.to_dict() if self.load_duration else None,
            "idle": {"w": self.idle_w, "from": self.idle_from},
            "phase_levels": {
                k: {"mean_w": m, "sd_w": s, "share": p}
                for k, (m, s, p) in self.phase_levels.items()
            },
            "groups": [g.to_dict() for g in self.groups],
            "windows": [w.to_dict() for w in self.windows],
            "curves": [
                {"quantity": c.quantity, "series": c.series, "grid": c.grid.to_dict()}
                for c in self.curves
            ],
        }

    def findings(self) -> list[Finding]:
        if self.evidence == "curves":
            return [curve_finding(c) for c in self.curves]
        if self.evidence == "windows":
            return totals_findings(self.windows)
        out = [mean_finding(self), *map(window_finding, self.windows)]
        if self.whole is not None:
            out += group_findings(self.whole)
        return out + device_findings(self.devices)


def from_dict(d: dict[str, Any]) -> Power:
    """Inverse of ``Power.to_dict``; version 1 has no groups, windows or curves."""
    evidence = str(d.get("evidence", "samples"))
    devices = tuple(power_devices.from_dict(x) for x in d["devices"])
    idle = d.get("idle", {"w": None, "from": ""})
    out = Power(
        watts(d["period_s"]),
        devices,
        watts(d["load_factor"]),
        Grid.from_dict(d["load_duration"]) if d["load_duration"] else None,
        tuple(Group.from_dict(g) for g in d.get("groups", ())),
        tuple(window_from_dict(w) for w in d.get("windows", ())),
        tuple(
            Curve(str(c["quantity"]), str(c["series"]), Grid.from_dict(c["grid"]))
            for c in d.get("curves", ())
        ),
        int(d.get("device_count", len(devices))),
        None if idle["w"] is None else watts(idle["w"]),
        str(idle["from"]),
        {
            str(k): (watts(v["mean_w"]), watts(v["sd_w"]), watts(v["share"]))
            for k, v in d.get("phase_levels", {}).items()
        },
        evidence,
    )
    needed = {"samples": out.devices, "windows": out.windows, "curves": out.curves}
    if not needed.get(evidence):
        raise ModelError(
            f"power of the profile has the evidence {evidence!r} and holds nothing of it",
            "fit the profile again",
        )
    shares = [s for _, _, s in out.phase_levels.values()] + [d.cap.share for d in devices if d.cap]
    if any(s > 1 for s in shares) or out.device_count < len(devices):
        raise ModelError("power of the profile: a share is above 1", "fit the profile again")
    return out


# --- measuring -------------------------------------------------------------------------------------


def watt_counts(trace: Trace) -> dict[str, Counts]:
    """Counts of readings of the outermost domain, in watts to two decimals, by kind of reading; the most frequent
    kind first."""
    t = trace.query("power/watt_counts").to_pydict()
    domain, reading = np.array(t["domain"]), np.array(t["reading"])
    level, n = np.array(t["centiwatts"], dtype=np.float64) / 100, np.array(t["n"], dtype=np.float64)
    mine = np.isin(domain, list(outermost(t["domain"]))) & (level >= 0)
    kinds = {r: mine & (reading == r) for r in sorted(set(t["reading"]))}
    found = {r: Counts.exact(level[m], n[m], "W") for r, m in kinds.items() if m.any()}
    return dict(sorted(found.items(), key=lambda kv: (-kv[1].rows, kv[0])))


def fit(
    trace: Trace, notices: list[Notice], seen: Pass | None = None, *, idle_w: float | None = None
) -> Power | None:
    """Fit the power of a trace: its samples (two readings of one device at different times), else its windows, else
    its curves. ``idle_w`` declares the level of an idle device."""
    if trace.main_table == "power_windows":
        totals = totals_of(trace, notices)
        return _without_samples("windows", windows=totals) if totals else None
    if trace.main_table == "cdf_points":
        curves = curves_of(trace)
        return _without_samples("curves", curves=curves) if curves else None
    if seen is None:
        seen = Pass(trace)
        scan(trace, [seen])
    if not any(g.scope == "all" for g in seen.groups):
        notices.append(Notice("too-few-rows", "no device has two readings at different times", NAME))  # fmt: skip
        return None
    seen.finish()
    outer = outermost(s.domain for s in seen.sources)
    mine = [i for i, s in enumerate(seen.sources) if s.domain in outer]
    _warn(seen, mine, outer, notices)
    tops = {
        key(r["host"], r["device"], r["domain"], r["reading"]): r
        for r in trace.query("power/top_counts").to_pylist()
    }
    devices = [power_devices.describe(seen, i, tops) for i in mine]
    if any(d.cap for d in devices):
        n = sum(d.cap is not None for d in devices)
        notices.append(
            Notice("capped", f"{n} of {len(devices)} devices ran into a cap: demand above it was not seen", NAME)
        )  # fmt: skip
    timeline = seen.timeline or Timeline.of(trace)
    groups = tuple(
        g
        for t in seen.groups
        if t.scope != "device" and (g := _together(seen, t, timeline)) is not None
    )
    counts = watt_counts(trace)
    reading, pooled = next(iter(counts.items()))
    apart = [g for g in groups if g.scope == "all" and not g.together]
    if apart:
        text = f"only for {apart[0].complete:.0%} of the time do all {apart[0].devices} devices report: sums are of those that do"
        notices.append(Notice("devices-apart", text, NAME))
    levels = _phase_levels(trace, outer, reading)
    period = usual_period_ns([seen.sources[i] for i in mine if seen.sources[i].reading == reading])
    peak = float(pooled.x.max())
    idle, idle_from = (idle_w, "declared") if idle_w is not None else (None, "")
    if idle is None and "idle" in levels:
        idle, idle_from = levels["idle"][0], "phase"
    if idle is None and pooled.rows >= 20:
        idle, idle_from = short(float(pooled.quantile(0.01))), "p1"
    return Power(
        (period or 0.0) / NS_PER_S,
        tuple(sorted(devices, key=lambda d: (-d.energy_j, d.host, d.device))[:MOST_DEVICES]),
        short(pooled.mean / peak) if peak > 0 else 0.0,
        Grid.of(pooled, KNOTS, k=1) if pooled.rows >= 20 else None,
        groups,
        tuple(windows_of(trace, seen)),
        (),
        len(devices),
        idle,
        idle_from,
        levels,
    )


def _without_samples(
    evidence: str, *, windows: tuple[Window, ...] = (), curves: tuple[Curve, ...] = ()
) -> Power:
    return Power(
        0.0, (), 0.0, None, windows=windows, curves=curves, device_count=len(windows), evidence=evidence
    )  # fmt: skip


def _warn(seen: Pass, mine: Sequence[int], outer: set[str], notices: list[Notice]) -> None:
    """What limits the figures of the sources ``mine``, those that are added up."""
    of = [seen.sources[i] for i in mine]
    inside = sorted({s.domain for s in seen.sources} - outer)
    if inside:
        text = f"{', '.join(inside)} lie inside {', '.join(sorted(outer))} and are not added to it"
        notices.append(Notice("parts-left-out", text, NAME))
    gaps = int(seen.sums.gaps[list(mine)].sum())
    if gaps:
        text = f"{gaps:,} gaps longer than {GAP_PERIODS} periods are left out of the energy"
        notices.append(Notice("gaps", text, NAME))
    kinds = sorted({s.reading for s in of})
    if len(kinds) > 1:
        text = f"the readings are of several kinds ({', '.join(kinds)}), which are never mixed: each has figures of its own"
        notices.append(Notice("mixed-readings", text, NAME))
    slow = [s for s in of if s.period_ns and s.period_ns > RISES_S[0] * NS_PER_S]
    if slow:
        text = (
            f"{len(slow)} of {len(of)} devices are read more rarely than every {RISES_S[0]} s: "
            "peaks over shorter windows are not known, and rises have only a lower bound"
        )
        notices.append(Notice("slow-sampling", text, NAME))
    single = sum(s.period_ns is None for s in of)
    if single:
        text = (
            f"{single} of {len(of)} devices have readings at one instant only: they have no energy"
        )
        notices.append(Notice("no-span", text, NAME))
    partly = [g for g in seen.groups if g.scope == "all" and g.grid.coarse]
    if partly:
        text = f"the trace is longer than {MOST_CELLS:,} sampling periods: sums are taken every {format_seconds(partly[0].grid.step_s)}"
        notices.append(Notice("coarse-grid", text, NAME))
    hosts = len({s.host for s in of})
    if hosts > MOST_HOSTS:
        text = f"of {hosts} hosts the {MOST_HOSTS} with the most readings have figures of their own"
        notices.append(Notice("hosts-left-out", text, NAME))


def _together(seen: Pass, t: Together, timeline: Timeline | None) -> Group | None:
    members = t.grid.members
    s = seen.sums
    energy, covered = float(s.trapezoid_j[members].sum()), float(s.covered_s[members].sum())
    return measure(
        t.grid,
        scope=t.scope,
        name=t.name,
        reading=t.reading,
        peaks_w=s.highest_w[members],
        energy_j=energy,
        mean_w=energy / covered if members.sum() == 1 and covered else None,
        masks=seen.masks,
        timeline=timeline if t.scope == "all" else None,
    )


def _phase_levels(
    trace: Trace, outer: set[str], reading: str
) -> dict[str, tuple[float, float, float]]:
    if not trace.has("phase", "power_samples"):
        return {}
    rows = [
        r
        for r in trace.query("power/phase_levels").to_pylist()
        if r["domain"] in outer and r["reading"] == reading
    ]
    total = sum(r["readings"] for r in rows)
    out = {}
    for phase in sorted({r["phase"] for r in rows}):
        of = [r for r in rows if r["phase"] == phase]
        n = sum(r["readings"] for r in of)
        mean = sum(r["readings"] * r["mean_w"] for r in of) / n
        square = sum(r["readings"] * (r["sd_w"] ** 2 + (r["mean_w"] - mean) ** 2) for r in of) / n
        out[phase] = (short(mean), short(math.sqrt(square)), short(n / total))
    return out


def score(a: Trace, b: Trace) -> list[Line]:
    """KS D of the readings of the kind that both have, and relative differences of their mean, highest and p99."""
    ca, cb = watt_counts(a), watt_counts(b)
    reading = next((r for r in ca if r in cb), None)
    if reading is None:
        return []
    wa, wb = ca[reading], cb[reading]
    lines = [Line(NAME, "reading KS D", two_sample_ks(wa, wb), None)]
    for name, x, y in (
        ("mean power", wa.mean, wb.mean),
        ("p99 power", float(wa.quantile(0.99)), float(wb.quantile(0.99))),
        ("highest power", float(wa.x[-1]), float(wb.x[-1])),
    ):
        lines.append(Line(NAME, name, abs(y / x - 1) if x else None, None, "relative"))
    return lines

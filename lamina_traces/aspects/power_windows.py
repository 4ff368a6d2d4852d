"""Named windows of power, and published curves: sources that say how much was used, or how often, but not when."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from ..counts import significant
from ..distributions import Grid
from ..errors import ModelError, Notice
from ..intervals import Interval
from ..units import NS_PER_S, format_number, format_seconds, short
from . import Finding
from .power_groups import autocorrelation, inside, mean_interval, positive, watts
from .power_readings import Pass
from .power_sources import MOST_WINDOWS, key, outermost

if TYPE_CHECKING:
    from ..store import Trace

NAME = "power"
MOST_TOTALS = 24
CURVE_KNOTS = 401


@dataclass(frozen=True)
class Window:
    """A named window, or all windows of a device where ``windows`` is more than 1. ``mean_w``: as the source defines
    it (MLPerf: the plain mean of the readings above 0 strictly inside, computed again here), else energy / time.
    ``highest_w``: of the means of several windows; ``recorded_w``: as stored; ``outside_w``: plain mean of the device's readings outside of it; ``acf1``: lag-1
    autocorrelation inside, on the regular grid."""

    label: str
    host: str
    device: str
    domain: str
    windows: int
    duration_s: float
    energy_j: float | None
    mean_w: float
    recorded_w: float | None = None
    peak_w: float | None = None
    highest_w: float | None = None
    samples: int | None = None
    outside_w: float | None = None
    acf1: float | None = None
    tokens: int | None = None
    requests: int | None = None
    energy_per_token_j: float | None = None
    energy_per_sample_j: float | None = None
    emissions_kg: float | None = None
    interval: Interval | None = None
    """of ``mean_w``, by moving blocks of the regular grid."""

    def to_dict(self) -> dict[str, Any]:
        return self.__dict__ | {"interval": self.interval.to_dict() if self.interval else None}


@dataclass(frozen=True)
class Curve:
    """A published cumulative curve of power. ``grid``: quantiles of the curve, whose ``rows`` are its points."""

    quantity: str
    series: str
    grid: Grid

    def share_above(self, level_w: float) -> float:
        """Share of the readings above a level."""
        return 1 - float(self.grid.rank(np.array([level_w]))[0])


def window_from_dict(x: Mapping[str, Any]) -> Window:
    numbers = (
        "energy_j", "recorded_w", "peak_w", "highest_w", "outside_w", "energy_per_token_j", "energy_per_sample_j",
        "emissions_kg",
    )  # fmt: skip
    acf1 = x.get("acf1")
    out = Window(
        str(x["label"]),
        str(x["host"]),
        str(x["device"]),
        str(x["domain"]),
        int(x["windows"]),
        positive(x["duration_s"]),
        mean_w=watts(x["mean_w"]),
        samples=_whole(x.get("samples")),
        acf1=None if acf1 is None else float(acf1),
        tokens=_whole(x.get("tokens")),
        requests=_whole(x.get("requests")),
        interval=Interval.from_dict(x.get("interval")),
        **{k: None if x.get(k) is None else watts(x[k]) for k in numbers},
    )
    if out.acf1 is not None and not abs(out.acf1) <= 1 + 1e-9:
        raise ModelError("power of the profile: an autocorrelation is beyond ±1", "fit it again")
    return out


def _whole(x: Any) -> int | None:
    return None if x is None else int(watts(x))


def windows_of(trace: Trace, seen: Pass) -> list[Window]:
    """The named windows, each with the official average computed again from the readings inside."""
    if not trace.has("duration_s", "power_windows"):
        return []
    grids = {g.name: g.grid for g in seen.groups if g.scope == "device"}
    out = []
    for r in trace.query("power/window_readings", most=MOST_WINDOWS).to_pylist():
        if not r["inside"] or not r["duration_s"] > 0:
            continue
        grid = grids.get(key(r["host"], r["device"], r["domain"], r["reading"]))
        x = inside(grid, r["begin_ns"], r["end_ns"]) if grid else np.zeros(0)
        enough = np.isfinite(x).sum() >= 3
        acf1 = float(autocorrelation(x, [1])[0]) if enough else None
        out.append(
            Window(
                r["label"], r["host"], r["device"], r["domain"], 1, short(r["duration_s"], 9), _maybe(r["energy_j"], 9),
                short(r["mean_w"], 9), _maybe(r["recorded_w"], 9), _maybe(r["peak_w"]), samples=int(r["inside"]),
                outside_w=_maybe(r["outside_w"]), acf1=None if acf1 is None else short(acf1, 4),
                interval=mean_interval(x) if enough else None,
                energy_per_sample_j=_per_sample(r["extra"], r["mean_w"]),
            )
        )  # fmt: skip
    return out


def totals_of(trace: Trace, notices: list[Notice]) -> tuple[Window, ...]:
    """All windows of each device as one, of the devices with the most energy; for traces without samples."""
    rows = trace.query("power/window_totals").to_pylist()
    if not rows:
        notices.append(Notice("too-few-rows", "no window has both an energy and a width", NAME))
        return ()
    for r in rows:
        span_s = (r["last_ns"] - r["first_ns"]) / NS_PER_S if r["last_ns"] is not None else None
        if span_s is not None and r["duration_s"] > 1.01 * span_s:
            text = (
                f"windows of {r['device']} overlap: their energies, added, count some of it twice"
            )
            notices.append(Notice("windows-overlap", text, NAME))
            break
    outer = outermost(r["domain"] for r in rows)
    parts = sorted({r["domain"] for r in rows} - outer)
    if parts:
        text = f"{', '.join(parts)} lie inside {', '.join(sorted(outer))} and are not added to it"
        notices.append(Notice("parts-left-out", text, NAME))
    order = sorted(
        rows, key=lambda r: (r["domain"] not in outer, -r["energy_j"], r["host"], r["device"])
    )
    if len(order) > MOST_TOTALS:
        text = f"of {len(order)} devices the {MOST_TOTALS} with the most energy are described"
        notices.append(Notice("devices-left-out", text, NAME))
    return tuple(
        Window(
            "", r["host"], r["device"], r["domain"], int(r["windows"]), short(r["duration_s"], 9), short(r["energy_j"], 9),
            short(r["energy_j"] / r["duration_s"], 9), peak_w=_maybe(r["peak_w"]), highest_w=_maybe(r["most_w"]),
            tokens=r["tokens"], requests=r["requests"],
            energy_per_token_j=short(r["token_energy_j"] / r["tokens"]) if r["tokens"] and r["token_energy_j"] else None,
            emissions_kg=_maybe(r["emissions_kg"]),
        )
        for r in order[:MOST_TOTALS]
    )  # fmt: skip


def curves_of(trace: Trace) -> tuple[Curve, ...]:
    """The cumulative curves of power; none where the trace's curves are of something else."""
    t = trace.query("power/curve_points").to_pydict()
    keys = list(zip(t["figure"], t["quantity"], t["series"], strict=True))
    x, cdf = np.array(t["x"], dtype=np.float64), np.array(t["cdf"], dtype=np.float64)
    found = []
    for curve in sorted(set(keys)):
        mine = np.array([k == curve for k in keys])
        at, share = np.maximum(x[mine], 0.0), cdf[mine]
        if len(at) < 2 or share[-1] <= share[0]:
            continue
        knots = np.interp(np.linspace(0, 1, CURVE_KNOTS), share, at)
        mean = float(np.trapezoid(at, share) / (share[-1] - share[0]))
        grid = Grid(significant(np.maximum.accumulate(knots), 6), short(mean), float(len(at)))
        found.append(Curve(curve[1], curve[2], grid))
    return tuple(found)


def _per_sample(extra: str | None, mean_w: float) -> float | None:
    """MLPerf: official average power / samples per second, where LoadGen's result is known."""
    try:
        rate = float(json.loads(extra or "{}").get("samples_per_s", 0))
    except (ValueError, TypeError, AttributeError):
        return None
    return short(mean_w / rate) if rate > 0 and mean_w / rate > 0 else None


def _maybe(x: float | None, digits: int = 7) -> float | None:
    return None if x is None else short(x, digits)


def curve_finding(c: Curve) -> Finding:
    p50, p90, p99 = (float(v) for v in c.grid.quantile(np.array([0.5, 0.9, 0.99])))
    return Finding(
        NAME,
        f"{c.series}: half of the readings are at most {format_number(p50)} W, one in ten is above {format_number(p90)} W and one in a hundred "
        f"above {format_number(p99)} W; the mean is {format_number(c.grid.mean)} W.",
        model=f"cumulative curve of {c.grid.rows:.0f} points",
    )


def window_finding(w: Window) -> Finding:
    """What the official average of one window is."""
    outside = (
        f", and {format_number(w.outside_w)} W outside of it" if w.outside_w is not None else ""
    )
    i = w.interval
    per = f"; {format_number(w.energy_per_sample_j)} J a sample" if w.energy_per_sample_j else ""
    return Finding(
        NAME,
        f"Over the window {w.label or 'without a name'} ({format_seconds(w.duration_s)}) the official average, the plain mean of the "
        f"{w.samples or 0:,} readings inside, is {w.mean_w:,.2f} W{outside}{per}.",
        parameters=f"mean {w.mean_w:,.1f} W [{i.low:,.5g}, {i.high:,.5g}]" if i else "",
        effect="" if w.acf1 is None else f"ACF(1) {w.acf1:.2f} inside",
    )  # fmt: skip


def totals_findings(totals: tuple[Window, ...]) -> list[Finding]:
    """What windows say where there are no samples."""
    outer = outermost(w.domain for w in totals)
    whole = [w for w in totals if w.domain in outer]
    energy = sum(w.energy_j or 0.0 for w in whole)
    n = sum(w.windows for w in whole)
    means = [w.mean_w for w in whole]
    drew = f"{format_number(min(means))} to {format_number(max(means))} W" if len(means) > 1 else f"{format_number(means[0])} W"  # fmt: skip
    out = [
        Finding(
            NAME,
            f"{n:,} windows of {len(whole)} device{'s' if len(whole) != 1 else ''} used {format_number(energy / 3600)} Wh in all, {drew} on average; "
            "nothing is known of the power within a window.",
        )
    ]
    tokens = [(w.tokens, w.energy_per_token_j) for w in whole if w.tokens and w.energy_per_token_j]
    if tokens:
        joules = sum(t * e for t, e in tokens) / sum(t for t, _ in tokens)
        out.append(Finding(NAME, f"One token took {format_number(joules)} J."))
    emitted = [w.emissions_kg for w in whole if w.emissions_kg is not None]
    if emitted:
        text = f"The source counts {format_number(sum(emitted))} kg of CO2 equivalent."
        out.append(Finding(NAME, text))
    return out

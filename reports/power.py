"""Power on the page: its course with the levels it moves between, the load-duration curve, its memory, the devices."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from lamina_traces.aspects.phases import Phases
from lamina_traces.aspects.power import Power
from lamina_traces.aspects.power_devices import Device
from lamina_traces.aspects.power_groups import Course, Group
from lamina_traces.aspects.power_windows import Curve, Window
from lamina_traces.distributions import Grid
from lamina_traces.intervals import Interval
from lamina_traces.units import format_count, format_number, format_seconds

from . import figures as fig
from .blocks import NOTHING, Block, Figure, Method, Section, Table, Tile, fixed, percent, thinned

MOST_DEVICES = 20

METHODS = (
    Method(
        "Energy and mean power",
        "Trapezoids between readings no further apart than three median periods; a longer step is a gap in the log and counts for nothing. "
        "The mean is energy over the seconds so covered; the plain mean of the readings and the left rectangles stand beside it. "
        "An energy counter is compared over the same spans, and a span in which it falls counts for nothing.",
        "E = Σ (Pᵢ + Pᵢ₊₁)/2 · Δtᵢ",
    ),
    Method(
        "Sums of devices",
        "Each device holds its last reading (as-of) on a regular grid of the median period, for one period at most before a gap; "
        "figures are over the instants at which all devices report. Averaged and instant readings are never added.",
        "P(t) = Σ Pᵈ(last reading of d before t)",
    ),
    Method(
        "Peaks and rises",
        "The highest mean of any window that ends at a reading, and the largest rise from one reading to a later one no further away than d. "
        "Where readings are further apart than d only a bound is known: of a rise over a longer step, one of its pieces of length d has its share.",
        "max P(t + s) − P(t), 0 ≤ s ≤ d",
    ),
    Method(
        "Levels of power",
        "A Gaussian hidden Markov model on a grid of one second, two to four levels by BIC against one level with an AR(1) residual, "
        "so that a slow drift is not cut into levels.",
        "",
        "Rabiner, Proceedings of the IEEE 77(2), 1989",
    ),
    Method(
        "Autocorrelation",
        "Biased, around the global mean, on the regular grid and never on the readings' own stamps.",
        "r(k) = Σ d(t)·d(t + k) / Σ d(t)²",
    ),
)


def section(p: Power, id_: str, subtitle: str) -> Section:
    if p.evidence == "curves":
        blocks: list[Block] = [_published(p.curves, id_)]
        return Section(id_, "Power", (), tuple(blocks), subtitle)
    if p.evidence == "windows":
        return Section(id_, "Power", (), (_totals(p.windows),), subtitle)
    blocks = []
    whole = p.whole
    course = whole.course if whole else None
    if whole is not None and course is not None:
        if sum(x is not None for x in course.curve_mean_w) > 1:
            blocks.append(_over_time(whole, course, id_))
        if course.phases is not None:
            blocks.append(_levels(course.phases))
    if p.load_duration is not None:
        blocks.append(_load_duration(p, id_))
    if course is not None and len(course.acf) > 2:
        blocks.append(_memory(course, id_))
    if p.windows:
        blocks.append(_windows(p.windows))
    if whole is not None:
        blocks.append(_in_numbers(p, whole))
    parts = [g for g in p.groups if g is not whole]
    if parts:
        blocks.append(_groups(p.groups))
    if p.devices:
        blocks.append(_devices(p))
    if any(d.counter for d in p.devices):
        blocks.append(_counters(p.devices))
    return Section(id_, "Power", (), tuple(blocks), subtitle)


def tiles(p: Power) -> list[Tile]:
    """Key numbers of power."""
    if p.evidence == "curves":
        grid = p.curves[0].grid
        return [
            Tile("median power", f"{format_number(float(grid.quantile(np.array([0.5]))[0]))} W", p.curves[0].series),
            Tile("mean power", f"{format_number(grid.mean)} W", p.curves[0].series),
        ]  # fmt: skip
    energy = Tile("energy", f"{format_number(p.energy_j / 3600)} Wh", "all devices")
    if p.evidence == "windows":
        return [energy, Tile("windows", format_count(sum(w.windows for w in p.windows)), "named")]
    means = [d.mean_w if d.mean_w is not None else d.sample_mean_w for d in p.devices]
    whole = p.whole
    together = whole is not None and whole.together
    mean = whole.mean_w / whole.devices if whole and together else float(np.mean(means))
    n = p.device_count or len(p.devices)
    highest = p.highest_w or max(d.max_w for d in p.devices)
    out = [
        Tile("mean power", f"{format_number(mean)} W", f"per device, {n} of them"),
        Tile("highest reading", f"{format_number(highest)} W", "one device"),
    ]
    if whole is not None and together and whole.devices > 1:
        out.append(Tile("highest sum", f"{format_number(whole.peak_w)} W", f"{whole.devices} devices together"))  # fmt: skip
    out += [energy, Tile("load factor", fixed(p.load_factor, 2), "mean over peak")]
    return out


def _over_time(g: Group, c: Course, id_: str) -> Figure:
    there = [i for i, x in enumerate(c.curve_mean_w) if x is not None]
    mean = np.array([c.curve_mean_w[i] for i in there], dtype=np.float64)
    most = np.array([c.curve_max_w[i] for i in there], dtype=np.float64)
    div, unit = fig.time_unit(c.curve_s * len(c.curve_mean_w))
    x = (np.array(there) + 0.5) * c.curve_s / div
    what = "power" if g.devices == 1 else f"power of {g.devices} devices"
    sentence = (
        f"Means over {format_seconds(c.curve_s)} run from {format_number(float(mean.min()))} to {format_number(float(mean.max()))} W; "
        f"the highest instant is {format_number(g.peak_w)} W."
    )
    data = [
        fig.line(x, most, "highest", fig.ORANGE, width=1, hovertemplate=f"%{{x:.4g}} {unit}: at most %{{y:.5g}} W<extra></extra>"),
        fig.line(x, mean, "mean", fig.BLUE, width=1.5, fill="tozeroy", fillcolor=fig.FILL,
                 hovertemplate=f"%{{x:.4g}} {unit}: %{{y:.5g}} W<extra></extra>"),
    ]  # fmt: skip
    levels = [x.mean_w for x in c.phases.levels] if c.phases else []
    if levels:
        sentence += " Dashed: the levels that it moves between."
    layout = fig.layout(
        fig.axis(f"time since the first reading ({unit})", range=[0, c.curve_s * len(c.curve_mean_w) / div], showgrid=False),
        fig.axis(f"{what} (W)", rangemode="tozero"),
        shapes=[fig.reference("y", w) for w in levels],
    )  # fmt: skip
    rows = [
        (
            format_seconds(i * c.curve_s),
            f"{format_number(float(m))} W",
            f"{format_number(float(h))} W",
        )
        for i, m, h in zip(there, mean, most, strict=True)
    ]
    table = thinned(("from", "mean", "highest"), rows, "rrr")
    return Figure(f"{id_}-course", "Power over time", sentence, data, layout, table, wide=True)


def _levels(p: Phases) -> Table:
    rows = tuple(
        (
            f"{format_number(x.mean_w)} W",
            f"± {format_number(x.sd_w)} W",
            percent(x.share),
            format_seconds(x.dwell_s),
            " · ".join(percent(q, 2) for q in row),
        )
        for x, row in zip(p.levels, p.transitions, strict=True)
    )
    columns = (
        "level",
        "spread",
        "of the time",
        "mean stay",
        f"goes to, in {format_seconds(float(f'{p.step_s:.3g}'))}",
    )
    note = f"Hidden Markov model on {p.points:,} points; beside its level the power has a lag-1 correlation of {p.phi:.2f}."
    return Table(columns, rows, "rrrrl", "Levels of power", (note,))


def _load_duration(p: Power, id_: str) -> Figure:
    grid = p.load_duration
    if grid is None:
        raise ValueError("no load duration")
    watts = grid.values[::-1]
    share = np.linspace(0, 100, len(watts))
    q = np.array([0.01, 0.05, 0.1, 0.25, 0.5, 0.75, 0.9])
    at = grid.quantile(1 - q)
    sentence = (
        f"A device draws more than {format_number(float(at[4]))} W half of the time and more than "
        f"{format_number(float(at[1]))} W for 5% of it."
    )
    data = [
        fig.line(share, watts, "one device", fig.BLUE, fill="tozeroy", fillcolor=fig.FILL,
                 hovertemplate="%{x:.1f}% of readings draw %{y:.4g} W or more<extra></extra>"),
        fig.line([0, 100], [grid.mean] * 2, "mean", fig.ORANGE, dash="dash", width=1.5, hoverinfo="skip"),
    ]  # fmt: skip
    whole = p.whole
    total = whole.course.load_duration if whole and whole.course and whole.devices > 1 else None
    columns: tuple[str, ...] = ("of the time", "a device draws at least")
    cells = [[percent(float(a), 0), f"{format_number(float(v))} W"] for a, v in zip(q, at, strict=True)]  # fmt: skip
    if total is not None and whole is not None:
        per_device = total.values[::-1] / whole.devices
        data.append(
            fig.line(np.linspace(0, 100, len(per_device)), per_device, "all together, per device", fig.GREEN, dash="dot",
                     hovertemplate="%{x:.1f}% of the time they draw %{y:.4g} W each or more<extra></extra>")
        )  # fmt: skip
        sentence += " The sum of all devices swings less than one of them."
        columns = (*columns, "all together at least")
        for row, v in zip(cells, total.quantile(1 - q), strict=True):
            row.append(f"{format_number(float(v))} W")
    layout = fig.layout(
        fig.axis("of the time (%)", range=[0, 100], dtick=25),
        fig.axis("power per device (W)", rangemode="tozero"),
    )
    table = Table(columns, tuple(map(tuple, cells)), "r" * len(columns))
    return Figure(f"{id_}-duration", "Load-duration curve", sentence, data, layout, table)


def _memory(c: Course, id_: str) -> Figure:
    x, y = np.array(c.lags_s), np.array(c.acf)
    below = next((lag for lag, r in zip(c.lags_s, c.acf, strict=True) if r < 0.5), None)
    sentence = f"The autocorrelation is {c.acf[0]:.2f} at {format_seconds(c.lags_s[0])}" + (
        f" and below a half from {format_seconds(below)} on."
        if below is not None
        else " and stays above a half."
    )
    data = [
        fig.line([float(x[0]), float(x[-1])], [0, 0], "none", fig.GREY, width=1, hoverinfo="skip", showlegend=False),
        fig.line(x, y, "autocorrelation", fig.BLUE, mode="lines+markers", marker={"size": 5, "color": fig.BLUE}, showlegend=False,
                 hovertemplate="%{x:.3g} s: %{y:.3f}<extra></extra>"),
    ]  # fmt: skip
    lo, hi = float(x[0]), float(x[-1])
    layout = fig.layout(
        fig.axis("lag", log=True, range=fig.log_range(lo, hi), **fig.duration_ticks(lo, hi)),
        fig.axis("autocorrelation", range=[min(-0.1, float(y.min()) - 0.05), 1.05]),
    )
    rows = tuple((format_seconds(a), fixed(b, 3)) for a, b in zip(c.lags_s, c.acf, strict=True))
    table = thinned(("lag", "autocorrelation"), rows, "rr")
    return Figure(f"{id_}-acf", "Memory of the power", sentence, data, layout, table)


def _in_numbers(p: Power, g: Group) -> Table:
    course = g.course
    intervals: Mapping[str, Interval] = course.intervals if course else {}
    rows = [
        ("devices", format_count(g.devices)),
        ("one reading every", format_seconds(p.period_s)),
        ("mean", f"{format_number(g.mean_w)} W{_between(intervals.get('mean'))}"),
        *(
            (f"{k} of the time", f"{format_number(v)} W{_between(intervals.get(k))}")
            for k, v in (course.quantiles_w if course else {}).items()
        ),
        ("highest instant", f"{format_number(g.peak_w)} W"),
        *(
            (f"highest mean of {k} s", f"{format_number(v)} W, load factor {fixed(g.load_factors.get(k) or 0.0, 2)}" if v is not None else NOTHING)
            for k, v in g.peaks_w.items()
        ),
        *((f"largest rise within {k} s", _rise(g, k)) for k in g.rises_w),
        ("energy", f"{format_number(g.energy_j / 3600)} Wh"),
    ]  # fmt: skip
    if g.devices > 1:
        rows.append(("diversity factor", fixed(g.diversity, 3)))
        rows.append(("instants at which all report", percent(g.complete)))
    if p.idle_w is not None:
        rows.append((f"idle device ({p.idle_from})", f"{format_number(p.idle_w)} W"))
    return Table(("", ""), tuple(rows), "lr", "Power in numbers", plain=True)


def _between(i: Interval | None) -> str:
    return f" [{format_number(i.low)}, {format_number(i.high)}]" if i else ""


def _rise(x: Group | Device, d: str) -> str:
    """The rise, or what is known of it."""
    value, least = x.rises_w.get(d), x.rises_at_least_w.get(d)
    if value is not None:
        return f"{format_number(value)} W"
    return NOTHING if least is None else f"≥ {format_number(least)} W"


def _groups(groups: tuple[Group, ...]) -> Table:
    rows = tuple(
        (
            {"all": "all", "domain": f"domain {g.name}", "host": f"host {g.name}"}[g.scope],
            g.reading,
            format_count(g.devices),
            format_number(g.mean_w),
            format_number(g.peak_w),
            format_number(g.peaks_w.get("10")),
            format_number(g.peaks_w.get("60")),
            _rise(g, "2"),
            _rise(g, "40"),
            fixed(g.diversity, 3),
            format_number(g.energy_j / 3600),
        )
        for g in groups
        if g.scope in ("all", "domain", "host")
    )
    columns = (
        "group", "readings are", "devices", "mean, W", "highest, W", "10 s, W", "60 s, W", "rise in 2 s", "in 40 s", "diversity", "energy, Wh",
    )  # fmt: skip
    return Table(columns, rows, "ll" + "r" * 9, "Groups", wide=True)


def _devices(p: Power) -> Table:
    rows = tuple(
        (
            d.name,
            d.domain,
            d.reading,
            format_count(d.samples),
            format_number(d.mean_w if d.mean_w is not None else d.sample_mean_w),
            format_number(d.min_w),
            format_number(d.max_w),
            format_number(d.peaks_w.get("10")),
            format_number(d.peaks_w.get("60")),
            _rise(d, "2") if d.rises_w else format_number(d.max_rise_w),
            _rise(d, "40"),
            format_number(d.energy_j / 3600),
            format_seconds(d.covered_s),
            percent(d.cap.share) if d.cap else NOTHING,
        )
        for d in p.devices[:MOST_DEVICES]
    )
    columns = (
        "device", "domain", "readings are", "readings", "mean, W", "lowest, W", "highest, W", "10 s, W", "60 s, W",
        "rise in 2 s", "in 40 s", "energy, Wh", "covered", "at its cap",
    )  # fmt: skip
    rest = max(p.device_count, len(p.devices)) - len(rows)
    notes = (f"{rest} more devices are in the groups only.",) if rest > 0 else ()
    return Table(columns, rows, "lll" + "r" * 11, "Devices", notes, wide=True)


def _counters(devices: tuple[Device, ...]) -> Table:
    rows = tuple(
        (
            d.name,
            format_number(d.counter.energy_j / 3600),
            format_number(d.counter.mean_w),
            fixed(d.counter.ratio, 4) if d.counter.ratio is not None else NOTHING,
            format_count(d.counter.resets),
            format_number(d.counter.gap_energy_j / 3600),
        )
        for d in devices
        if d.counter is not None
    )
    columns = ("device", "counted, Wh", "mean, W", "of the integral", "resets", "in gaps, Wh")
    return Table(columns, rows, "lrrrrr", "Energy counters", wide=True)


def _windows(windows: tuple[Window, ...]) -> Table:
    rows = tuple(
        (
            w.label or NOTHING,
            format_seconds(w.duration_s),
            format_count(w.samples),
            f"{w.mean_w:,.2f} W" + (f" [{w.interval.low:,.5g}, {w.interval.high:,.5g}]" if w.interval else ""),
            f"{w.recorded_w:,.2f} W" if w.recorded_w is not None else NOTHING,
            f"{format_number(w.peak_w)} W",
            f"{format_number(w.outside_w)} W" if w.outside_w is not None else NOTHING,
            fixed(w.acf1, 2) if w.acf1 is not None else NOTHING,
            format_number(w.energy_j / 3600) if w.energy_j is not None else NOTHING,
            format_number(w.energy_per_sample_j),
        )
        for w in windows
    )  # fmt: skip
    columns = (
        "window", "width", "readings", "official average", "as recorded", "highest", "outside", "ACF(1)", "energy, Wh", "J a sample",
    )  # fmt: skip
    note = "The official average is the plain mean of the readings above 0 strictly inside the window (mlcommons/power-dev)."
    return Table(columns, rows, "l" + "r" * 9, "Named windows", (note,), wide=True)


def _totals(windows: tuple[Window, ...]) -> Table:
    rows = tuple(
        (
            " ".join(x for x in (w.host, w.device) if x),
            w.domain,
            format_count(w.windows),
            format_seconds(w.duration_s),
            format_number((w.energy_j or 0.0) / 3600),
            format_number(w.mean_w),
            format_number(w.highest_w),
            format_count(w.tokens),
            format_number(w.energy_per_token_j),
        )
        for w in windows
    )
    columns = ("device", "domain", "windows", "in all", "energy, Wh", "mean, W", "highest mean, W", "tokens", "J a token")  # fmt: skip
    return Table(columns, rows, "ll" + "r" * 7, "Energy of the named windows", wide=True)


def _published(curves: tuple[Curve, ...], id_: str) -> Figure:
    data: list[dict[str, Any]] = []
    rows = []
    q = np.array([0.1, 0.25, 0.5, 0.75, 0.9, 0.99])
    styles = ((fig.BLUE, "solid"), *fig.LINES)
    for c, (colour, dash) in zip(curves, styles, strict=False):
        share = np.linspace(100, 0, len(c.grid.values))
        hover = f"{fig.plain(c.series)}: %{{y:.1f}}% above %{{x:.4g}} W<extra></extra>"
        data.append(
            fig.line(c.grid.values, share, c.series, colour, dash=dash, hovertemplate=hover)
        )
        rows.append((c.series, *(f"{format_number(float(v))} W" for v in c.grid.quantile(q)), f"{format_number(c.grid.mean)} W"))  # fmt: skip
    first = curves[0]
    median = float(_at(first.grid, 0.5))
    sentence = f"{first.series}: half of the readings are above {format_number(median)} W, one in ten above {format_number(_at(first.grid, 0.9))} W."
    layout = fig.layout(
        fig.axis("power (W)", rangemode="tozero"),
        fig.axis("readings above (%)", range=[0, 101], dtick=25),
    )
    table = Table(("curve", *(percent(float(p), 0) for p in q), "mean"), tuple(rows), "l" + "r" * 7)
    return Figure(
        f"{id_}-curves", "Published curves of power", sentence, data, layout, table, wide=True
    )


def _at(grid: Grid, q: float) -> float:
    return float(grid.quantile(np.array([q]))[0])

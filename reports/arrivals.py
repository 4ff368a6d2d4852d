"""Arrivals on the page: rate over time, burstiness across time scales, laws of the gaps."""

from __future__ import annotations

from typing import Any

import numpy as np

from lamina_traces.aspects.arrivals import FEW_WINDOWS, Arrivals
from lamina_traces.aspects.dispersion import NAMED_S
from lamina_traces.distributions import Fitted
from lamina_traces.units import format_count, format_number, format_seconds

from . import figures as fig
from .blocks import NOTHING, Block, Figure, Section, Table, fixed, percent, thinned

MOST = 1e15
"""a width or an IDC beyond it is damage, not a workload."""


def section(a: Arrivals, id_: str, subtitle: str, noun: str) -> Section:
    blocks: list[Block] = [_rate_curve(a, id_, noun)]
    idc = _idc_curve(a, id_)
    if idc is not None:
        blocks.append(idc)
    blocks.append(_numbers(a, noun))
    if a.families:
        blocks.append(laws("Laws of the gaps between arrivals, in seconds", a.families))
    else:
        blocks.append(_counts(a))
    if a.seasons:
        blocks.append(_hours(a, id_))
    if a.unit_families:
        blocks.append(
            laws("The same at a steady rate (operational time), in mean gaps", a.unit_families)
        )
    if a.changes or a.silences:
        blocks.append(_events(a))
    return Section(id_, "Arrivals", (), tuple(blocks), subtitle)


def _numbers(a: Arrivals, noun: str) -> Table:
    ends = a.intervals.get("rate_per_s")
    cv = a.intervals.get("cv")
    rows = [
        (noun, format_count(a.events)),
        ("span", format_seconds(a.span_s)),
        ("mean rate", rate(a.rate_per_s)),
    ]
    if ends is not None:
        rows.append(("its 95 % interval", f"{rate(ends.low)} to {rate(ends.high)}"))
        if ends.n_eff is not None:
            rows.append(("as much doubt as independent arrivals", format_count(ends.n_eff)))
    rows.append(
        ("coefficient of variation of the gaps", format_number(a.cv) + (f" {cv}" if cv else ""))
    )
    rows.append(("the same without the ten longest", format_number(a.cv_without_longest)))
    rows.append(
        (
            "burstiness B and memory M of the gaps",
            f"{fixed(a.burstiness, 2)}, {NOTHING if a.memory is None else fixed(a.memory, 2)}",
        )
    )
    if a.acf:
        lags = ", ".join(f"{fixed(v, 2)} at {k}" for k, v in a.acf.items())
        rows.append((f"autocorrelation of counts per {fig.tick(a.acf_window_s)}, by lag", lags))
    if a.hurst:
        h = a.hurst
        rows.append(
            (
                "slope of the IDC as a Hurst exponent",
                f"{fixed(h['h'], 2)}, from {fig.tick(h['from_s'])} to {fig.tick(h['to_s'])}; a drifting rate raises it",
            )
        )
    rows.append(("gaps of zero", percent(a.zero_gap_share)))
    rows.append(("tick of the clock", format_seconds(a.tick_s) if a.tick_s > 0 else NOTHING))
    for name, (jitter, kernel) in a.rounded.items():
        rows.append(
            (
                f"{name} shape behind the rounded clock",
                f"{format_number(jitter)} by jitter, {format_number(kernel)} by the triangular kernel",
            )
        )
    shapes = [x for x in a.window_shapes if x is not None]
    if len(shapes) >= 10:
        low, mid, high = np.quantile(shapes, [0.1, 0.5, 0.9])
        rows.append(
            (
                f"gamma shape of the gaps per {format_seconds(a.window_s)}: p10, median, p90",
                f"{format_number(low)}, {format_number(mid)}, {format_number(high)}",
            )
        )
    if a.masked_s:
        rows.append(("left out by --mask", format_seconds(a.masked_s)))
    return Table(("", ""), tuple(rows), "lr", "Arrivals in numbers", plain=True)


def _hours(a: Arrivals, id_: str) -> Figure:
    hours = np.array(a.seasons.hours if a.seasons else ())
    peak, low = int(hours.argmax()), int(hours.argmin())
    sentence = (
        f"The rate peaks between {peak}:00 and {peak + 1}:00 at {format_number(float(hours[peak]))} times its mean and is lowest "
        f"between {low}:00 and {low + 1}:00 at {format_number(float(hours[low]))} times."
    )
    data = [
        {
            "type": "bar",
            "x": list(range(24)),
            "y": fig.numbers(hours),
            "marker": {"color": fig.BLUE},
            "hovertemplate": "%{x}:00: %{y:.3g} × mean<extra></extra>",
        }
    ]
    layout = fig.layout(
        fig.axis("hour of the day", dtick=6, showgrid=False),
        fig.axis("multiple of the mean rate", rangemode="tozero"),
    )
    rows = [(f"{h}:00", f"{format_number(float(v))} ×") for h, v in enumerate(hours)]
    if a.seasons and a.seasons.days:
        names = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")
        rows += [(n, f"{format_number(v)} ×") for n, v in zip(names, a.seasons.days, strict=True)]
    table = Table(("hour or day", "of the mean rate"), tuple(rows), "lr")
    return Figure(f"{id_}-hours", "Rate by hour of the day", sentence, data, layout, table)


def _events(a: Arrivals) -> tuple[Table, ...]:
    """Steps of the rate, and silences."""
    out: list[Table] = []
    if a.changes:
        rows = tuple(
            (
                format_seconds(c.at_s),
                rate(c.before_per_s),
                rate(c.after_per_s),
                f"{format_number(c.after_per_s / c.before_per_s)} ×" if c.before_per_s else NOTHING,
            )
            for c in a.changes
        )
        out.append(
            Table(
                ("after the first arrival", "rate before", "after", ""),
                rows,
                "rrrr",
                "Steps of the rate",
            )
        )
    if a.silences:
        silent = tuple(
            (
                format_seconds(x.start_s),
                format_seconds(x.length_s),
                f"{format_number(x.times_mean)} ×",
            )
            for x in a.silences[:8]
        )
        note = (
            "Idle, or the collector was down: fit --mask START..END leaves a time out of every estimate.",
        )
        out.append(Table(("from", "for", "mean gaps"), silent, "rrr", "Longest silences", note))
    return tuple(out)


def rate(per_s: float) -> str:
    """A rate for people: ``"2.57 /s"``, ``"30.9 /h"``."""
    div, unit, _ = fig.rate_unit(per_s)
    return f"{format_number(per_s * div)} /{unit}"


def _counts(a: Arrivals) -> Table:
    """What stands in place of the laws where the clock hides the gaps."""
    rows = tuple(
        (
            fig.tick(d.window_s),
            f"{d.windows:,}",
            format_number(d.idc),
            f"{format_number(d.peak_to_mean)} ×",
        )
        for d in a.scales
        if d.window_s in NAMED_S
    )
    notes = ("No law is fitted to the gaps; counts lead.",)
    return Table(
        ("window", "windows", "IDC", "peak to mean"), rows, "rrrr", "Counts per window", notes
    )


def _rate_curve(a: Arrivals, id_: str, noun: str) -> Figure:
    per, letter, name = fig.rate_unit(a.rate_per_s)
    with np.errstate(all="ignore"):
        y = a.rate_curve * a.rate_per_s * per
    mean = a.rate_per_s * per
    div, unit = fig.time_unit(a.window_s * len(y))
    edges = np.arange(len(y) + 1) * a.window_s
    x = edges / div
    sentence = (
        f"In windows of {format_seconds(a.window_s)} the rate runs from {format_number(float(y.min()))} to "
        f"{format_number(float(y.max()))} {noun} per {name}; its mean is {format_number(mean)}."
    )
    data = [
        fig.line(x, np.append(y, y[-1]), "rate", fig.BLUE, line={"color": fig.BLUE, "width": 1.5, "shape": "hv"}, fill="tozeroy",
                 fillcolor=fig.FILL, hovertemplate=f"%{{x:.4g}} {unit}: %{{y:.3g}} /{letter}<extra></extra>"),
        *_level(a, x, div, per),
    ]  # fmt: skip
    layout = fig.layout(
        fig.axis(f"time since the first arrival ({unit})", range=[0, float(x[-1])], showgrid=False),
        fig.axis(f"{noun} per {name}", rangemode="tozero"),
    )
    rows = [
        (
            format_seconds(float(s)),
            format_seconds(float(e)),
            format_number(float(v)),
            f"{format_number(float(m))} ×",
        )
        for s, e, v, m in zip(edges[:-1], edges[1:], y, a.rate_curve, strict=True)
    ]
    table = thinned(("from", "to", f"{noun} per {name}", "of the mean"), rows, "rrrr")
    return Figure(f"{id_}-rate", "Rate over time", sentence, data, layout, table)


def _level(a: Arrivals, x: Any, div: float, per: float) -> list[dict[str, Any]]:
    """The mean rate, or the levels between its steps."""
    if not a.changes:
        mean = a.rate_per_s * per
        return [
            fig.line(
                [x[0], x[-1]],
                [mean, mean],
                "mean",
                fig.ORANGE,
                dash="dash",
                width=1.5,
                hoverinfo="skip",
            )
        ]
    at = [x[0], *(c.at_s / div for c in a.changes), x[-1]]
    levels = [a.changes[0].before_per_s, *(c.after_per_s for c in a.changes)]
    return [
        fig.line(at, [v * per for v in [*levels, levels[-1]]], "level", fig.ORANGE, hoverinfo="skip",
                 line={"color": fig.ORANGE, "width": 1.5, "dash": "dash", "shape": "hv"})
    ]  # fmt: skip


def _idc_curve(a: Arrivals, id_: str) -> Figure | None:
    points = [
        (d.window_s, d.idc, d.windows, d.peak_to_mean)
        for d in a.scales
        if d.idc is not None and 0 < d.idc < MOST and 0 < d.window_s < MOST
    ]
    if not points:
        return None
    x = np.array([p[0] for p in points])
    y = np.array([p[1] for p in points])
    many = np.array([p[2] >= FEW_WINDOWS for p in points])
    tick = fig.tick
    first, last = points[0], points[-1]
    sentence = (
        f"The index of dispersion of counts goes from {format_number(first[1])} in windows of {tick(first[0])} to "
        f"{format_number(last[1])} in windows of {tick(last[0])}; a Poisson process stays at 1."
        if len(points) > 1
        else f"The index of dispersion of counts is {format_number(first[1])} in windows of {tick(first[0])}; a Poisson process's is 1."
    )
    if not many.all():
        sentence += f" Open circles rest on fewer than {FEW_WINDOWS} windows."
    lo, hi = float(x.min()), float(x.max())
    bottom, top = min(0.5, float(y.min())), max(2.0, float(y.max()))
    hover = "windows of %{text}: IDC %{y:.3g}<extra></extra>"
    data = [
        fig.line(10 ** np.array(fig.log_range(lo, hi)), [1, 1], "Poisson", fig.ORANGE, dash="dash", width=1.5, hoverinfo="skip"),
        *_trendless(a),
        *_whiskers(a),
        fig.line(x, y, "measured", fig.BLUE, showlegend=False, hoverinfo="skip"),
        _dots(x[many], y[many], "measured", "circle", hover),
        _dots(x[~many], y[~many], "few windows", "circle-open", hover),
    ]  # fmt: skip
    layout = fig.layout(
        fig.axis("width of the window", log=True, range=fig.log_range(lo, hi), **fig.duration_ticks(lo, hi)),
        fig.axis("IDC of counts (1 = Poisson)", log=True, range=fig.log_range(bottom, top), **fig.decade_ticks(bottom, top)),
    )  # fmt: skip
    rows = tuple(
        (
            tick(w),
            f"{k:,}",
            format_number(v),
            f"{format_number(peak)} ×",
            "" if k >= FEW_WINDOWS else "uncertain",
        )
        for w, v, k, peak in points
    )
    table = Table(("window", "windows", "IDC", "peak to mean", ""), rows, "rrrrl")
    return Figure(
        f"{id_}-idc",
        "Burstiness across time scales",
        sentence,
        [d for d in data if d["x"]],
        layout,
        table,
    )


def _trendless(a: Arrivals) -> list[dict[str, Any]]:
    """The Allan factor: what is left of the dispersion without drift."""
    points = [
        (s.window_s, s.allan)
        for s in a.scales
        if s.allan and s.windows >= FEW_WINDOWS and 0 < s.allan < MOST
    ]
    if len(points) < 2:
        return []
    x, y = zip(*points, strict=True)
    hover = "Allan factor %{y:.3g}<extra></extra>"
    return [
        fig.line(
            x, y, "without drift (Allan)", fig.GREEN, dash="dot", width=1.5, hovertemplate=hover
        )
    ]


def _whiskers(a: Arrivals) -> list[dict[str, Any]]:
    """95 % intervals, where there are any."""
    found = [
        (s.window_s, s.interval) for s in a.scales if s.interval and s.idc and s.interval.low > 0
    ]
    x = [v for w, _ in found for v in (w, w, None)]
    y = [v for _, i in found for v in ((i.low, min(i.high, MOST), None) if i else ())]
    if not found:
        return []
    made = fig.line([], [], "95 % interval", fig.BLUE, width=1, hoverinfo="skip", showlegend=False)
    return [made | {"x": x, "y": y, "connectgaps": False}]


def _dots(x: Any, y: Any, name: str, symbol: str, hover: str) -> dict[str, Any]:
    marker = {
        "symbol": symbol,
        "size": 8,
        "color": fig.BLUE,
        "line": {"color": fig.BLUE, "width": 1.5},
    }
    text = [fig.tick(float(v)) for v in x]
    return fig.line(
        x, y, name, fig.BLUE, mode="markers", marker=marker, text=text, hovertemplate=hover
    )


def laws(caption: str, families: tuple[Fitted, ...]) -> Table:
    best = min(f.aic_per_row for f in families)
    rows = tuple(
        (
            f.family,
            f.parameters(),
            fixed(f.ks_d, 3),
            fixed(f.w1_log10, 3),
            "0" if f.aic_per_row == best else f"+{format_number(f.aic_per_row - best)}",
        )
        for f in families
    )
    return Table(("law", "parameters", "KS D", "W1", "ΔAIC/row"), rows, "llrrr", caption)

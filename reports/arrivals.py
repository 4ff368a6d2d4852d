"""Arrivals on the page: rate over time, burstiness across time scales, laws of the gaps."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from lamina_traces.aspects.arrivals import FEW_WINDOWS, Arrivals
from lamina_traces.distributions import Fitted
from lamina_traces.units import format_count, format_number, format_seconds

from . import figures as fig
from .blocks import NOTHING, Block, Figure, Section, Table, percent, thinned


def section(a: Arrivals, id_: str, subtitle: str, noun: str) -> Section:
    blocks: list[Block] = [_rate_curve(a, id_, noun)]
    idc = _idc_curve(a, id_)
    if idc is not None:
        blocks.append(idc)
    numbers = Table(
        ("", ""),
        (
            (noun, format_count(a.events)),
            ("span", format_seconds(a.span_s)),
            ("mean rate", f"{format_number(a.rate_per_s)} /s"),
            ("coefficient of variation of the gaps", format_number(a.cv)),
            ("the same without the ten longest", format_number(a.cv_without_longest)),
            ("gaps of zero", percent(a.zero_gap_share)),
            ("tick of the clock", format_seconds(a.tick_s) if a.tick_s > 0 else NOTHING),
        ),
        "lr",
        "Arrivals in numbers",
        plain=True,
    )
    blocks.append(numbers)
    if a.families:
        blocks.append(laws("Laws of the gaps between arrivals, in seconds", a.families))
    return Section(id_, "Arrivals", (), tuple(blocks), subtitle)


def _rate_curve(a: Arrivals, id_: str, noun: str) -> Figure:
    rate = a.rate_curve * a.rate_per_s
    div, unit = fig.time_unit(a.window_s * len(rate))
    edges = np.arange(len(rate) + 1) * a.window_s
    x, y = edges / div, np.append(rate, rate[-1])
    mean = a.rate_per_s
    sentence = (
        f"In windows of {format_seconds(a.window_s)} the rate runs from {format_number(float(rate.min()))} to "
        f"{format_number(float(rate.max()))} {noun} per second; its mean is {format_number(mean)}."
    )
    data = [
        fig.line(x, y, "rate", fig.BLUE, line={"color": fig.BLUE, "width": 1.5, "shape": "hv"}, fill="tozeroy", fillcolor="rgba(58,127,196,0.14)",
                 hovertemplate=f"%{{x:.4g}} {unit}: %{{y:.3g}} /s<extra></extra>"),
        fig.line([x[0], x[-1]], [mean, mean], "mean", fig.ORANGE, dash="dash", width=1.5, hoverinfo="skip"),
    ]  # fmt: skip
    layout = fig.layout(
        fig.axis(f"time since the first arrival ({unit})", range=[0, float(x[-1])], showgrid=False),
        fig.axis(f"{noun} per second", rangemode="tozero"),
    )
    rows = [
        (
            format_seconds(float(s)),
            format_seconds(float(e)),
            format_number(float(r)),
            f"{format_number(float(m))} ×",
        )
        for s, e, r, m in zip(edges[:-1], edges[1:], rate, a.rate_curve, strict=True)
    ]
    table = thinned(("from", "to", f"{noun} per second", "of the mean"), rows, "rrrr")
    return Figure(f"{id_}-rate", "Rate over time", sentence, data, layout, table)


def _idc_curve(a: Arrivals, id_: str) -> Figure | None:
    points = [
        (d.window_s, d.idc, d.windows, d.peak_to_mean)
        for d in a.dispersion
        if d.idc is not None and math.isfinite(d.idc) and d.idc > 0 and d.window_s > 0
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
            ", ".join(f"{k} {format_number(v)}" for k, v in f.params.items()),
            f"{f.ks_d:.3f}",
            f"{f.w1_log10:.3f}",
            "0" if f.aic_per_row == best else f"+{format_number(f.aic_per_row - best)}",
        )
        for f in families
    )
    return Table(("law", "parameters", "KS D", "W1", "ΔAIC/row"), rows, "llrrr", caption)

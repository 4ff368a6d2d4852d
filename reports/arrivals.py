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
    numbers = Table(
        ("", ""),
        (
            (noun, format_count(a.events)),
            ("span", format_seconds(a.span_s)),
            ("mean rate", rate(a.rate_per_s)),
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
    if not a.families:
        blocks.append(_counts(a))
    else:
        blocks.append(laws("Laws of the gaps between arrivals, in seconds", a.families))
    return Section(id_, "Arrivals", (), tuple(blocks), subtitle)


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
        fig.line([x[0], x[-1]], [mean, mean], "mean", fig.ORANGE, dash="dash", width=1.5, hoverinfo="skip"),
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
            fixed(f.ks_d, 3),
            fixed(f.w1_log10, 3),
            "0" if f.aic_per_row == best else f"+{format_number(f.aic_per_row - best)}",
        )
        for f in families
    )
    return Table(("law", "parameters", "KS D", "W1", "ΔAIC/row"), rows, "llrrr", caption)

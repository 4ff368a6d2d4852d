"""Figures as Plotly JSON: plain dictionaries of aggregates, at most 3,000 points each.

Text that comes from a file goes through ``plain``: Plotly reads markup in labels. Colours that depend on
the theme, and the font, are tokens (``$ink``, ``$soft``, ``$grid``, ``$paper``, ``$middle``, ``$sans``) that the page replaces by
its CSS variables when it draws, so that one figure serves light, dark and paper.
"""

from __future__ import annotations

import html
import itertools
import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from lamina_traces.distributions import Grid
from lamina_traces.units import format_seconds

Array = npt.NDArray[np.float64]

PLOT_CONFIG: dict[str, Any] = {
    "responsive": True,
    "displaylogo": False,
    "showSendToCloud": False,
    "showEditInChartStudio": False,
    "plotlyServerURL": "",
    "modeBarButtonsToRemove": ["lasso2d", "select2d", "autoScale2d"],
}
"""Plotly shows a button that uploads the figure unless it is told not to; no page may have it."""

MAX_POINTS = 3000
MOST_TICKS = 7
"""of a log axis: more would run into each other on a phone."""

BLUE, ORANGE, GREEN, PURPLE, GREY = "#3a7fc4", "#d1661a", "#23926a", "#a565b3", "#80858b"
"""at least 3.5 to 1 against both backgrounds; told apart with every common colour blindness, and lines
that cross also differ in dash."""
FILL = "rgba(58,127,196,0.16)"
LINES = ((ORANGE, "dash"), (GREEN, "dot"), (PURPLE, "dashdot"), (GREY, "longdash"))
DIVERGING = ((0.0, BLUE), (0.5, "$middle"), (1.0, ORANGE))


def plain(text: str, limit: int = 40) -> str:
    """Text as Plotly shall show it, letter by letter; cut to ``limit`` characters."""
    cut = text if len(text) <= limit else text[: limit - 1] + "…"
    return html.escape(cut, quote=False).replace("%{", "%&#123;")


def axis(title: str, *, log: bool = False, **more: Any) -> dict[str, Any]:
    """An axis in the page's style; ``title`` carries the unit."""
    made: dict[str, Any] = {
        "title": {"text": title, "standoff": 8},
        "type": "log" if log else "linear",
        "automargin": True,
        "showline": True,
        "linecolor": "$soft",
        "linewidth": 1,
        "ticks": "outside",
        "ticklen": 4,
        "tickcolor": "$soft",
        "tickangle": 0,
        "gridcolor": "$grid",
        "zeroline": False,
    }
    return made | more


def layout(x: dict[str, Any], y: dict[str, Any], **more: Any) -> dict[str, Any]:
    """A layout in the page's style with one pair of axes."""
    made: dict[str, Any] = {
        "autosize": True,
        "margin": {"l": 52, "r": 16, "t": 30, "b": 44},
        "paper_bgcolor": "rgba(0,0,0,0)",
        "plot_bgcolor": "rgba(0,0,0,0)",
        "font": {"family": "$sans", "size": 12, "color": "$soft"},
        "hoverlabel": {"bgcolor": "$paper", "bordercolor": "$grid", "font": {"color": "$ink"}},
        "legend": {"orientation": "h", "x": 0, "xanchor": "left", "y": 1.02, "yanchor": "bottom", "font": {"color": "$ink"}},
        "modebar": {"bgcolor": "rgba(0,0,0,0)", "color": "$soft", "activecolor": "$ink"},
        "hovermode": "closest",
        "xaxis": x,
        "yaxis": y,
    }  # fmt: skip
    return made | more


def line(
    x: Any, y: Any, name: str, colour: str, *, dash: str = "solid", width: float = 2, **more: Any
) -> dict[str, Any]:
    """One line. Points that are not finite are left out."""
    xs, ys = finite(x, y)
    made: dict[str, Any] = {
        "type": "scatter",
        "mode": "lines",
        "name": plain(name),
        "x": numbers(xs),
        "y": numbers(ys),
        "line": {"color": colour, "dash": dash, "width": width},
    }
    return made | more


def finite(x: Any, y: Any) -> tuple[Array, Array]:
    """Both columns without the points at which either is not finite."""
    xs, ys = np.asarray(x, dtype=np.float64), np.asarray(y, dtype=np.float64)
    keep = np.isfinite(xs) & np.isfinite(ys)
    return xs[keep], ys[keep]


def numbers(x: Array, digits: int = 5) -> list[float]:
    """JSON numbers of a few significant digits: a screen shows no more, and the page stays small."""
    return [_short(float(v), digits) for v in np.ravel(x)]


def _short(v: float, digits: int) -> float:
    r = float(f"{v:.{digits}g}")
    return int(r) if r == int(r) and abs(r) < 1e15 else r


# --- cumulative curves -----------------------------------------------------------------------------


def grid_cdf(grid: Grid) -> tuple[Array, Array]:
    """(value, share of rows up to it in percent), where a log axis can show the value."""
    share = np.linspace(0, 100, len(grid.values))
    keep = grid.values > 0
    return grid.values[keep], share[keep]


def cdf_layout(
    title: str, rows: str, lo: float, hi: float, ticks: dict[str, Any]
) -> dict[str, Any]:
    """The layout of cumulative curves over a log axis from ``lo`` to ``hi``."""
    return layout(
        axis(title, log=True, range=log_range(lo, hi), **ticks),
        axis(rows, range=[0, 101], dtick=25),
    )


# --- fewer points ----------------------------------------------------------------------------------


def min_max(x: Array, y: Array, points: int) -> tuple[Array, Array]:
    """At most ``points`` points of a series in order: of each bucket the lowest and the highest, where they
    stood. Peaks survive, which strides and means lose."""
    n = len(x)
    buckets = max(1, points // 2)
    if n <= 2 * buckets:
        return x, y
    edges = np.linspace(0, n, buckets + 1).astype(np.int64)
    picked = set()
    for a, b in itertools.pairwise(edges):
        part = y[a:b]
        picked.add(int(a + part.argmin()))
        picked.add(int(a + part.argmax()))
    index = np.array(sorted(picked))
    return x[index], y[index]


def quantile_curve(values: Array, points: int = 400) -> tuple[Array, Array]:
    """(value, share) of an empirical cdf, with a third of the points in the upper tenth."""
    v = np.sort(values[np.isfinite(values)])
    if not len(v):
        return v, v
    body, tail = np.linspace(0, 0.9, points * 2 // 3), 1 - np.logspace(-1, -4, points // 3)
    q = np.unique(np.concatenate([body, tail, [1.0]]))
    at = np.minimum((q * len(v)).astype(np.int64), len(v) - 1)
    return v[at], (at + 1) / len(v)


# --- ticks -----------------------------------------------------------------------------------------

_STEPS_S = (
    1e-6, 1e-5, 1e-4, 1e-3, 1e-2, 0.1, 1.0, 10.0, 60.0, 600.0, 3600.0, 36000.0, 86400.0, 864000.0, 8640000.0,
)  # fmt: skip


def duration_ticks(lo: float, hi: float) -> dict[str, Any]:
    """Ticks of a log axis of seconds in human units (1 ms, 10 s, 10 min, 1 h)."""
    return _ticks([s for s in _STEPS_S if lo <= s <= hi], lo, hi, tick)


def decade_ticks(lo: float, hi: float) -> dict[str, Any]:
    """Ticks of a log axis of plain numbers: 1, 10, 100, 1,000, 10k."""
    return _ticks([], lo, hi, _plain_number)


_MARKS: tuple[tuple[float, ...], ...] = (
    (1,), (1, 3), (1, 2, 5), (1, 1.5, 2, 3, 4, 5, 6, 8), tuple(m / 20 for m in range(20, 200)),
)  # fmt: skip


def _ticks(at: list[float], lo: float, hi: float, text: Callable[[float], str]) -> dict[str, Any]:
    """Three ticks or more from ``lo`` to ``hi``, on the coarsest marks a decade that give so many."""
    decades = range(math.floor(math.log10(lo)), math.ceil(math.log10(hi)) + 1)
    for marks in _MARKS:
        if len(at) < 3:
            at = [v for e in decades for m in marks if lo <= (v := float(f"{m}e{e}")) <= hi]
    at = at[:: max(1, math.ceil(len(at) / MOST_TICKS))]
    return {"tickmode": "array", "tickvals": at, "ticktext": [text(v) for v in at]}


def tick(s: float) -> str:
    if s == 60.0:
        return "1 min"
    if s == 3600.0:
        return "1 h"
    if s == 86400.0:
        return "1 d"
    return format_seconds(s)


def _plain_number(v: float) -> str:
    for limit, unit in ((1e9, "G"), (1e6, "M"), (1e4, "k")):
        if v >= limit:
            return f"{v / {'G': 1e9, 'M': 1e6, 'k': 1e3}[unit]:g}{unit}"
    return f"{v:,.12g}"


def log_range(lo: float, hi: float, pad: float = 0.04) -> list[float]:
    """The range of a log axis, as exponents, with a little air."""
    a, b = math.log10(lo), math.log10(hi)
    air = max(pad * (b - a), 0.01)
    return [a - air, b + air]


def rate_unit(per_s: float) -> tuple[float, str, str]:
    """Seconds in the unit in which a rate is best read, the unit, and its name: at least one in two."""
    for div, unit, name in ((1.0, "s", "second"), (60.0, "min", "minute"), (3600.0, "h", "hour")):
        if per_s * div >= 0.5:
            return div, unit, name
    return 86400.0, "d", "day"


def time_unit(span_s: float) -> tuple[float, str]:
    """Seconds in the unit in which a span of time is best read, and its name."""
    for limit, div, unit in ((180.0, 1.0, "s"), (10800.0, 60.0, "min"), (259200.0, 3600.0, "h")):
        if span_s <= limit:
            return div, unit
    return 86400.0, "d"


def reference(axis_name: str, at: float) -> dict[str, Any]:
    """A thin straight line across the figure at one value of the x or y axis."""
    across = {"xref": "paper", "x0": 0, "x1": 1, "yref": "y", "y0": at, "y1": at}
    if axis_name == "x":
        across = {"yref": "paper", "y0": 0, "y1": 1, "xref": "x", "x0": at, "x1": at}
    return {"type": "line", "line": {"color": "$soft", "width": 1, "dash": "dash"}} | across


def points(data: Sequence[dict[str, Any]]) -> int:
    """How many points a figure draws."""
    return sum(np.size(d["z"]) if "z" in d else len(d.get("x", ())) for d in data)

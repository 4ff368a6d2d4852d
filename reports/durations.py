"""Durations on the page: how many last longer than a time, with laws beside, and their quantiles in a table."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from lamina_traces.aspects.durations import Durations
from lamina_traces.distributions import Fitted
from lamina_traces.intervals import Interval
from lamina_traces.survival import Survival
from lamina_traces.units import format_count, format_number, format_seconds

from . import figures as fig
from .blocks import NOTHING, Figure, Table, percent, thinned

Array = npt.NDArray[np.float64]

STATS = ("p10", "p50", "p90", "p99")
OVERLAID = 3
"""laws drawn over a measured curve, best first."""


def survival_figure(d: Durations, id_: str, title: str, what: str) -> Figure | None:
    """The share of ``what`` that lasts longer than a time: as measured, with the best laws. None without a curve."""
    t, s, band = _measured(d)
    if len(t) < 2:
        return None
    low, high = float(t[0]), float(t[-1])
    low = max(low, high / 1e7)
    high = max(high, 1.2 * low)
    x = np.geomspace(low, high, 200)
    data: list[dict[str, Any]] = []
    if band is not None:
        data += confidence_band(t, 100 * band[0], 100 * band[1])
    name = "measured" if d.survival is None else "Kaplan–Meier"
    shape = "hv" if d.survival is not None else "linear"
    data.append(
        fig.line(
            t, 100 * s, name, fig.BLUE, line={"color": fig.BLUE, "width": 2, "shape": shape},
            hovertemplate="%{y:.3g}% last longer than %{x:.3g} s<extra></extra>",
        )
    )  # fmt: skip
    laws = d.families[:OVERLAID]
    skipped = 1 - d.zero_share if _positive_only(d) else 1.0
    for law, (colour, dash) in zip(laws, fig.LINES, strict=False):
        with np.errstate(all="ignore"):
            y = 100 * skipped * (1 - law.cdf(x))
        data.append(fig.line(x, y, law.family, colour, dash=dash, width=1.5, hoverinfo="skip"))
    cut = f"; {_cut(d)} not seen to the end and count as longer" if d.censored else ""
    sentence = (
        f"Half of the {what} last longer than {format_seconds(d.quantiles_s.get('p50'))}, one in ten longer than "
        f"{format_seconds(d.quantiles_s.get('p90'))}{cut}."
    )
    layout = fig.layout(
        fig.axis("duration", log=True, range=fig.log_range(low, high), **fig.duration_ticks(low, high)),
        fig.axis("last longer (%)", range=[0, 101], dtick=25),
    )  # fmt: skip
    layout["legend"]["traceorder"] = "normal"
    rows = [(format_seconds(float(a)), percent(float(b))) for a, b in zip(t, s, strict=True)]
    return Figure(id_, title, sentence, data, layout, thinned(("time", "last longer"), rows, "rr"))


def confidence_band(x: Any, low: Any, high: Any) -> list[dict[str, Any]]:
    """The shaded steps between two curves, without an outline."""
    edge: dict[str, Any] = {"line": {"width": 0, "shape": "hv"}, "hoverinfo": "skip"}
    return [
        fig.line(x, high, "", fig.BLUE, showlegend=False, **edge),
        fig.line(x, low, "95 %", fig.BLUE, fill="tonexty", fillcolor=fig.FILL, **edge),
    ]


def _positive_only(d: Durations) -> bool:
    """Whether the laws leave zeros out: their rows then add up to those above zero."""
    return bool(d.families) and d.families[0].rows < d.rows


def _cut(d: Durations) -> str:
    return "1 was" if d.censored == 1 else f"{format_count(d.censored)} were"


def _measured(d: Durations) -> tuple[Array, Array, tuple[Array, Array] | None]:
    curve: Survival | None = d.survival
    if curve is not None and len(curve.t) > 1:
        keep = curve.t > 0
        return curve.t[keep], curve.survival[keep], (curve.low[keep], curve.high[keep])
    if d.grid is None:
        return np.zeros(0), np.zeros(0), None
    x, share = fig.grid_cdf(d.grid)
    return x, 1 - share / 100, None


def quantiles(named: dict[str, Durations], caption: str, head: str) -> Table:
    """Rows of durations: how many, mean, CV, quantiles with their intervals."""
    rows = tuple(
        (
            name,
            format_count(d.rows),
            format_count(d.censored) if d.censored else NOTHING,
            with_interval(d.mean_s, d.intervals.get("mean")),
            format_number(d.cv),
            *(with_interval(d.quantiles_s.get(k), d.intervals.get(k)) for k in STATS),
            percent(d.zero_share),
        )
        for name, d in named.items()
    )
    notes = tuple(
        f"95 % intervals by {m}." for m in dict.fromkeys(i.method for d in named.values() for i in d.intervals.values())
    )  # fmt: skip
    columns = (head, "seen to the end", "longer", "mean", "CV", *STATS, "zero")
    return Table(columns, rows, "l" + "r" * 9, caption, notes, wide=True)


def with_interval(s: float | None, i: Interval | None) -> str:
    """``2.2 s [2.1 s, 2.3 s]``."""
    ends = f" [{format_seconds(i.low)}, {format_seconds(i.high)}]" if i and s is not None else ""
    return f"{format_seconds(s)}{ends}"


def laws(caption: str, families: tuple[Fitted, ...]) -> Table:
    """Fitted laws, best first, each with its parameters and distances."""
    best = min(f.aic_per_row for f in families)
    rows = tuple(
        (
            f.family,
            f.parameters(),
            f"{f.ks_d:.3f}",
            f"{f.w1_log10:.3f}",
            "0" if f.aic_per_row == best else f"+{format_number(f.aic_per_row - best)}",
        )
        for f in families
    )
    return Table(("law", "parameters", "KS D", "W1", "ΔAIC/row"), rows, "llrrr", caption)

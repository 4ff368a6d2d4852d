"""Whole numbers on the page: how many sessions have so many turns, or workflows so many calls, with laws beside."""

from __future__ import annotations

import numpy as np

from lamina_traces.aspects.tallies import Tally
from lamina_traces.distributions import Fitted
from lamina_traces.intervals import Interval
from lamina_traces.units import format_count, format_number

from . import figures as fig
from .blocks import Figure, Table, percent

OVERLAID = 3


def tally_figure(t: Tally, id_: str, title: str, each: str, unit: str) -> Figure | None:
    """The share of ``each`` (sessions) that have at least so many of ``unit`` (turns). None where all have one."""
    low = np.array([c[0] for c in t.cells], dtype=np.float64)
    n = np.array([c[2] for c in t.cells], dtype=np.float64)
    if len(low) < 2:
        return None
    share = np.cumsum(n[::-1])[::-1] / n.sum()
    high = float(low[-1])
    data = [
        fig.line(
            low, 100 * share, "measured", fig.BLUE, mode="lines+markers", marker={"size": 5, "color": fig.BLUE},
            hovertemplate=f"%{{y:.3g}}% have %{{x:,.4g}} {unit} or more<extra></extra>",
        )
    ]  # fmt: skip
    x = np.unique(np.rint(np.geomspace(1, high, 80)))
    for law, (colour, dash) in zip(t.families[:OVERLAID], fig.LINES, strict=False):
        data.append(
            fig.line(x, 100 * _at_least(law, x), law.family, colour, dash=dash, width=1.5, hoverinfo="skip")
        )  # fmt: skip
    bottom = float(100 * share[-1])
    layout = fig.layout(
        fig.axis(f"{unit} or more", log=True, range=fig.log_range(1, high), **fig.decade_ticks(1, high)),
        fig.axis(f"{each} (%)", log=True, range=fig.log_range(bottom, 100), **fig.decade_ticks(bottom, 100)),
    )  # fmt: skip
    sentence = f"{each.capitalize()} have {format_number(t.mean)} {unit} on average, the median {format_number(t.quantiles.get('p50'))}"
    if "p99" in t.quantiles:
        sentence += f", one in a hundred {format_number(t.quantiles['p99'])} or more"
    if t.censored:
        sentence += f". {format_count(t.censored)} of them may have more, behind an edge of the trace; the laws know that, the curve does not"
    rows = tuple(
        (str(a) if a == b else f"{a}–{b}", format_count(k), percent(k / t.rows))
        for a, b, k in t.cells
    )
    table = Table((unit, each, "share"), rows, "rrr")
    return Figure(id_, title, f"{sentence}.", data, layout, table)


def _at_least(law: Fitted, x: np.ndarray) -> np.ndarray:
    """P(X ≥ x); the negative binomial is of the number beyond the first."""
    below = x - 2 if law.family == "negative-binomial" else x - 1
    with np.errstate(all="ignore"):
        return np.asarray(np.where(x > 1, 1 - law.cdf(np.maximum(below, 0)), 1.0))


def tallies(named: dict[str, Tally], caption: str) -> Table:
    """Rows of tallies: mean with its interval, and quantiles."""
    rows = tuple(
        (
            name,
            format_count(t.rows),
            with_ends(format_number(t.mean), t.interval),
            *(format_number(t.quantiles.get(k)) for k in ("p50", "p90", "p99")),
        )
        for name, t in named.items()
    )
    return Table(("", "of", "mean", "p50", "p90", "p99"), rows, "lrrrrr", caption)


def with_ends(text: str, i: Interval | None) -> str:
    """``3.2 [3.1, 3.4]``."""
    return f"{text} [{format_number(i.low)}, {format_number(i.high)}]" if i else text


def percent_with_ends(value: float, i: Interval | None, digits: int = 1) -> str:
    """``37.3% [35.3%, 39.5%]``."""
    ends = f" [{percent(i.low, digits)}, {percent(i.high, digits)}]" if i else ""
    return f"{percent(value, digits)}{ends}"

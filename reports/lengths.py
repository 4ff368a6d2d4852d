"""Lengths on the page: input and output laws, and how the two go together."""

from __future__ import annotations

from typing import Any

import numpy as np

from lamina_traces.aspects.lengths import SIDES, Lengths, Margin
from lamina_traces.aspects.mix import Slice
from lamina_traces.distributions import Atoms, Fitted
from lamina_traces.units import format_number

from . import figures as fig
from .arrivals import laws
from .blocks import NOTHING, Block, Figure, Section, Table, fixed, percent, thinned

QUANTILES = ("p10", "p25", "p50", "p75", "p90", "p95", "p99")
OVERLAID = 3
"""fitted laws drawn over a measured curve, best first; the table holds all."""


def section(n: Lengths, id_: str, subtitle: str) -> Section:
    blocks: list[Block] = [_length_cdf(getattr(n, side), side, id_) for side in SIDES]
    margins = {**{side: getattr(n, side) for side in SIDES}, **n.others}
    rows = tuple(
        (
            name.replace("_", " "),
            format_number(m.grid.mean),
            *(format_number(m.quantiles.get(k)) for k in QUANTILES),
        )
        for name, m in margins.items()
    )
    notes = tuple(
        f"{side.capitalize()}: mean {m.intervals['mean']}, p99 {m.intervals['p99']} (95 % intervals)."
        for side in SIDES
        if {"mean", "p99"} <= set((m := margins[side]).intervals)
    )
    quantiles = Table(("", "mean", *QUANTILES), rows, "l" + "r" * 8, "Tokens per request", notes)
    atoms = tuple(
        (side, what, format_number(v), percent(s))
        for side in SIDES
        for what, v, s in _atoms(getattr(n, side).atoms)
    )
    beside = [quantiles]
    if atoms:
        beside.append(
            Table(
                ("", "", "tokens", "share of requests"),
                atoms,
                "llrr",
                "Lengths that many requests share",
            )
        )
    if len(n.copula) > 1:
        blocks.append(_rank_map(n, id_))
    blocks.append(tuple(beside))
    if n.mix and len(n.mix.by_load) > 2:
        blocks.append(_by(n.mix.by_load, f"{id_}-load", "load"))
    if n.mix and len(n.mix.by_time) > 3:
        blocks.append(_by(n.mix.by_time, f"{id_}-time", "time"))
    for side in SIDES:
        own: Margin = margins[side]
        if own.families:
            blocks.append(laws(f"Laws of the {side} length, in tokens", own.families))
    return Section(id_, "Lengths", (), tuple(blocks), subtitle)


def _atoms(a: Atoms) -> list[tuple[str, float, float]]:
    """Spikes, heaviest first, and the cap."""
    spikes = sorted(zip(a.shares, a.values, strict=True), reverse=True)[:8]
    out = [("spike", v, s) for s, v in spikes]
    return out if a.cap is None else [("cap", a.cap, a.cap_share), *out]


def _length_cdf(m: Margin, side: str, id_: str) -> Figure:
    x, share = fig.grid_cdf(m.grid)
    q = m.quantiles
    best = m.families[0] if m.families else None
    sentence = (
        f"Half of the {side}s have at most {format_number(q.get('p50'))} tokens, 99% at most {format_number(q.get('p99'))}"
        + (
            f"; the likeliest law, {best.family}, is off by at most {fixed(100 * best.ks_d, 1)} points."
            if best
            else "."
        )
    )
    data = [_measured(x, share)]
    lo, hi = (float(x[0]), float(x[-1])) if len(x) else (1.0, 10.0)
    hi = max(hi, lo * 1.2)
    data += _overlays(m.families, lo, hi, half_step=0.5)
    layout = fig.cdf_layout(
        f"{side} tokens per request", "share of requests (%)", lo, hi, fig.decade_ticks(lo, hi)
    )
    table = _quantile_table(m, side)
    return Figure(f"{id_}-{side}", f"{side.capitalize()} length", sentence, data, layout, table)


def _quantile_table(m: Margin, side: str) -> Table:
    """Measured quantiles beside those of the laws drawn; a law of whole numbers is read half a step lower."""
    shown = m.families[:OVERLAID]
    q = np.array([int(name[1:]) / 100 for name in QUANTILES])
    with np.errstate(all="ignore"):
        laws = [np.maximum(f.quantile(q) - 0.5, 0.0) for f in shown]
    rows = tuple(
        (
            percent(float(q[i]), 0),
            format_number(m.quantiles.get(name)),
            *(format_number(float(law[i])) for law in laws),
        )
        for i, name in enumerate(QUANTILES)
    )
    columns = ("of the requests", f"have at most, {side} tokens", *(f.family for f in shown))
    return Table(columns, rows, "r" * len(columns))


def _by(slices: tuple[Slice, ...], id_: str, what: str) -> Figure:
    """Median and p10 to p90 of both lengths over load or time."""
    div, unit = fig.time_unit(slices[-1].at[1]) if what == "time" else (1.0, "")
    x = [sum(s.at) / 2 / div for s in slices]
    data = []
    for side, colour, dash in (("input", fig.BLUE, "solid"), ("output", fig.ORANGE, "dash")):
        q = [getattr(s, side) for s in slices]
        known = [i for i, v in enumerate(q) if len(v) == 9 and v[0] > 0]
        hover = f"median {side} %{{y:,.4g}} tokens<extra></extra>"
        xs = [x[i] for i in known]
        data.append(
            fig.line(
                xs,
                [q[i][4] for i in known],
                f"{side}: median",
                colour,
                dash=dash,
                hovertemplate=hover,
            )
        )
        data += [
            fig.line(
                xs,
                [q[i][k] for i in known],
                f"{side}: {name}",
                colour,
                dash="dot",
                width=1,
                showlegend=False,
                hoverinfo="skip",
            )
            for k, name in ((1, "p12.5"), (7, "p87.5"))
        ]
    y = [v for d in data for v in d["y"]]
    lo, hi = (min(y), max(y)) if y else (1.0, 10.0)
    title = (
        f"time since the first arrival ({unit})"
        if what == "time"
        else "rate of the window (multiple of the mean)"
    )
    layout = fig.layout(
        fig.axis(title, showgrid=False),
        fig.axis(
            "tokens per request",
            log=True,
            range=fig.log_range(lo, max(hi, lo * 1.2)),
            **fig.decade_ticks(lo, max(hi, lo * 1.2)),
        ),
    )
    first, last = slices[0], slices[-1]
    ends = (
        ("at the start", "at the end")
        if what == "time"
        else ("in the quietest windows", "in the busiest")
    )
    sentence = (
        f"Mean input goes from {format_number(first.input_mean)} tokens {ends[0]} to {format_number(last.input_mean)} {ends[1]}, "
        f"mean output from {format_number(first.output_mean)} to {format_number(last.output_mean)}. Dotted: the middle three quarters."
    )
    rows = [
        (
            f"{format_number(s.at[0] / div)} to {format_number(s.at[1] / div)}",
            f"{s.rows:,}",
            format_number(s.input_mean),
            format_number(s.output_mean),
            NOTHING if s.spearman is None else fixed(s.spearman, 2),
        )
        for s in slices
    ]
    table = thinned(
        (unit or "× mean rate", "requests", "mean input", "mean output", "Spearman"), rows, "rrrrr"
    )
    return Figure(id_, f"Lengths by {what}", sentence, data, layout, table)


def _rank_map(n: Lengths, id_: str) -> Figure:
    cells = n.copula.shape[0]
    ratio = (n.copula / n.copula.sum() * cells * cells).T  # rows are output ranks
    with np.errstate(divide="ignore"):
        z = np.log2(ratio)
    seen = np.abs(z[np.isfinite(z)])
    top = float(np.clip(np.quantile(seen, 0.98) if len(seen) else 1.0, 1.0, 4.0))
    centres = (np.arange(cells) + 0.5) * 100 / cells
    marks = [k for k in range(-4, 5) if abs(k) <= top]
    data = [
        {
            "type": "heatmap",
            "x": fig.numbers(centres),
            "y": fig.numbers(centres),
            "z": [fig.numbers(row, 3) for row in np.clip(z, -top, top)],
            "customdata": [fig.numbers(row, 3) for row in ratio],
            "zmin": -top,
            "zmax": top,
            "colorscale": [list(stop) for stop in fig.DIVERGING],
            "colorbar": {
                "title": {"text": "× independent", "side": "right"},
                "thickness": 10,
                "outlinewidth": 0,
                "tickvals": marks,
                "ticktext": [f"{2**k} ×" if k >= 0 else f"1/{2**-k} ×" for k in marks],
            },
            "hovertemplate": "input rank %{x:.0f}%, output rank %{y:.0f}%: %{customdata:.3g} × independent<extra></extra>",
        }
    ]
    layout = fig.layout(
        fig.axis(
            "rank of the input length (%)",
            range=[0, 100],
            dtick=25,
            showgrid=False,
            constrain="domain",
        ),
        fig.axis("rank of the output length (%)", range=[0, 100], dtick=25, showgrid=False),
        margin={"l": 52, "r": 16, "t": 12, "b": 44},
    )
    said = f"Spearman {n.spearman:+.3f}"
    text = next(f.text for f in n.findings() if f.text.startswith("Input and output"))
    sentence = f"{text.rstrip('.')} ({said}). Orange cells hold more requests than independent lengths would put there, blue cells fewer."
    edges = np.linspace(0, cells, 5)
    cumulative = np.zeros((cells + 1, cells + 1))
    cumulative[1:, 1:] = (ratio / (cells * cells)).cumsum(0).cumsum(1)
    at = np.arange(cells + 1)
    by_x = np.array([np.interp(edges, at, row) for row in cumulative])
    quarters = 16 * np.diff(
        np.diff(np.array([np.interp(edges, at, c) for c in by_x.T]).T, axis=0), axis=1
    )
    names = ("lowest quarter", "second", "third", "highest quarter")
    rows = tuple(
        (f"output: {k}", *(f"{v:.2f} ×" for v in row))
        for k, row in zip(names, quarters, strict=True)
    )
    table = Table(("", *(f"input: {k}" for k in names)), rows, "lrrrr", notes=("Requests in each cell, as a multiple of what independent lengths would give.",))  # fmt: skip
    return Figure(f"{id_}-ranks", "How lengths go together", sentence, data, layout, table)


def _measured(x: Any, share: Any) -> dict[str, Any]:
    hover = "%{y:.1f}% have at most %{x:,.4g} tokens<extra></extra>"
    return fig.line(x, share, "measured", fig.BLUE, width=2.5, hovertemplate=hover)


def _overlays(
    families: tuple[Fitted, ...], lo: float, hi: float, half_step: float = 0.0
) -> list[dict[str, Any]]:
    x = np.geomspace(lo, hi, 200)
    out = []
    with np.errstate(all="ignore"):
        for f, (colour, dash) in zip(families[:OVERLAID], fig.LINES, strict=False):
            out.append(
                fig.line(
                    x,
                    100 * f.cdf(x + half_step),
                    f.family,
                    colour,
                    dash=dash,
                    width=1.5,
                    hoverinfo="skip",
                )
            )
    return out

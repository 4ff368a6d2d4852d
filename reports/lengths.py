"""Lengths on the page: input and output laws, and how the two go together."""

from __future__ import annotations

from typing import Any

import numpy as np

from lamina_traces.aspects.lengths import SIDES, Lengths, Margin
from lamina_traces.distributions import Atoms, Fitted
from lamina_traces.units import format_number

from . import figures as fig
from .arrivals import laws
from .blocks import Block, Figure, Section, Table, fixed, percent

QUANTILES = ("p10", "p25", "p50", "p75", "p90", "p95", "p99")
OVERLAID = 3
"""fitted laws drawn over a measured curve, best first; the table holds all."""


def section(n: Lengths, id_: str, subtitle: str) -> Section:
    blocks: list[Block] = [_length_cdf(getattr(n, side), side, id_) for side in SIDES]
    rows = tuple(
        (
            side,
            format_number(getattr(n, side).grid.mean),
            *(format_number(getattr(n, side).quantiles.get(k)) for k in QUANTILES),
        )
        for side in SIDES
    )
    quantiles = Table(("", "mean", *QUANTILES), rows, "l" + "r" * 8, "Tokens per request")
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
    for side in SIDES:
        m: Margin = getattr(n, side)
        if m.families:
            blocks.append(laws(f"Laws of the {side} length, in tokens", m.families))
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
    finding = n.findings()[-1]
    sentence = f"{finding.text.rstrip('.')} ({finding.effect}). Orange cells hold more requests than independent lengths would put there, blue cells fewer."
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

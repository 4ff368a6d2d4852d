"""Cold starts on the page: how long they take, and which step takes the time."""

from __future__ import annotations

import math

import numpy as np

from lamina_traces.aspects.cold_starts import ColdStarts, Component
from lamina_traces.units import format_count, format_seconds

from . import figures as fig
from .arrivals import laws
from .blocks import NOTHING, Block, Figure, Section, Table, percent


def section(c: ColdStarts, id_: str, subtitle: str) -> Section:
    blocks: list[Block] = []
    drawn = {
        k: v for k, v in c.components.items() if v.grid is not None and (v.grid.values > 0).any()
    }
    order = sorted(drawn, key=lambda k: (k != c.main, -drawn[k].mean_s))[:5]
    if order:
        blocks.append(_cold_start_cdf({k: drawn[k] for k in order}, id_))
    stats = ("p10", "p50", "p90", "p99")
    rows = tuple(
        (
            k.replace("_", " "),
            format_count(v.rows),
            format_seconds(v.mean_s),
            *(format_seconds(v.quantiles_s.get(s)) for s in stats),
            percent(v.zero_share),
            percent(v.share_of_sum) if v.share_of_sum is not None else NOTHING,
        )
        for k, v in c.components.items()
    )
    columns = ("step", "cold starts", "mean", *stats, "skip it", "share of the summed time")
    notes = (
        ("A p99 needs 1,000 cold starts.",)
        if any("p99" not in v.quantiles_s for v in c.components.values())
        else ()
    )
    total = c.components[c.main]
    if total.families:
        what = "the whole cold start" if c.main == "total" else f"the {c.main.replace('_', ' ')}"
        blocks.append(laws(f"Laws of {what}, in seconds", total.families))
    blocks.append(Table(columns, rows, "l" + "r" * 8, "Time by step", notes, wide=True))
    return Section(id_, "Cold starts", (), tuple(blocks), subtitle)


def _cold_start_cdf(components: dict[str, Component], id_: str) -> Figure:
    data, rows = [], []
    colours = ((fig.BLUE, "solid"), *fig.LINES)
    low, high = math.inf, 0.0
    q = np.array([0.1, 0.25, 0.5, 0.75, 0.9])
    for (k, c), (colour, dash) in zip(components.items(), colours, strict=False):
        if c.grid is None:
            continue
        x, share = fig.grid_cdf(c.grid)
        low, high = min(low, float(x[0])), max(high, float(x[-1]))
        hover = f"{fig.plain(k)}: %{{y:.1f}}% within %{{x:.3g}} s<extra></extra>"
        data.append(fig.line(x, share, k.replace("_", " "), colour, dash=dash, hovertemplate=hover))
        rows.append((k.replace("_", " "), *(format_seconds(float(v)) for v in c.grid.quantile(q))))
    low = max(low, high / 1e6)
    total = next(iter(components.values()))
    sentence = f"Half of the cold starts take at most {format_seconds(total.quantiles_s.get('p50'))}, nine of ten at most {format_seconds(total.quantiles_s.get('p90'))}."
    layout = fig.cdf_layout(
        "duration",
        "share of cold starts (%)",
        low,
        max(high, 1.2 * low),
        fig.duration_ticks(low, max(high, 1.2 * low)),
    )
    table = Table(("step", *(percent(float(p), 0) for p in q)), tuple(rows), "lrrrrr")
    return Figure(f"{id_}-cdf", "How long each step takes", sentence, data, layout, table)

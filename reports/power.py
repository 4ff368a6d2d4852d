"""Power on the page: the load-duration curve and the devices."""

from __future__ import annotations

import numpy as np

from lamina_traces.aspects.power import Power
from lamina_traces.distributions import Grid
from lamina_traces.units import format_count, format_number, format_seconds

from . import figures as fig
from .blocks import Block, Figure, Section, Table, percent

MOST_DEVICES = 20


def section(p: Power, id_: str, subtitle: str) -> Section:
    blocks: list[Block] = []
    if p.load_duration is not None:
        blocks.append(_load_duration(p.load_duration, id_))
    rows = tuple(
        (
            " ".join(x for x in (d.host, d.device) if x),
            d.domain,
            format_count(d.samples),
            format_number(d.mean_w if d.mean_w is not None else d.sample_mean_w),
            format_number(d.min_w),
            format_number(d.max_w),
            format_number(d.max_rise_w),
            format_number(d.energy_j / 3600),
            format_seconds(d.covered_s),
        )
        for d in p.devices[:MOST_DEVICES]
    )
    columns = (
        "device",
        "domain",
        "readings",
        "mean, W",
        "lowest, W",
        "highest, W",
        "largest rise, W",
        "energy, Wh",
        "covered",
    )
    rest = len(p.devices) - len(rows)
    notes = (f"{rest} more devices are in the download.",) if rest > 0 else ()
    blocks.append(Table(columns, rows, "ll" + "r" * 7, "Devices", notes, wide=True))
    return Section(id_, "Power", (), tuple(blocks), subtitle)


def _load_duration(grid: Grid, id_: str) -> Figure:
    watts = grid.values[::-1]
    share = np.linspace(0, 100, len(watts))
    q = np.array([0.01, 0.05, 0.1, 0.25, 0.5, 0.75, 0.9])
    at = grid.quantile(1 - q)
    sentence = (
        f"A device draws more than {format_number(float(at[4]))} W half of the time and more than "
        f"{format_number(float(at[1]))} W for 5% of it."
    )
    data = [
        fig.line(share, watts, "readings", fig.BLUE, fill="tozeroy", fillcolor=fig.FILL,
                 hovertemplate="%{x:.1f}% of readings draw %{y:.4g} W or more<extra></extra>"),
        fig.line([0, 100], [grid.mean] * 2, "mean", fig.ORANGE, dash="dash", width=1.5, hoverinfo="skip"),
    ]  # fmt: skip
    layout = fig.layout(
        fig.axis("readings at or above (%)", range=[0, 100], dtick=25),
        fig.axis("power per device (W)", rangemode="tozero"),
    )
    rows = tuple(
        (percent(float(a), 0), f"{format_number(float(v))} W") for a, v in zip(q, at, strict=True)
    )
    table = Table(("of the readings", "draw at least"), rows, "rr")
    return Figure(
        f"{id_}-duration", "Load-duration curve", sentence, data, layout, table, wide=True
    )

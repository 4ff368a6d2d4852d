"""Operating points on the page: what a power limit saves and costs, what a token takes by batch, rated power used."""

from __future__ import annotations

from typing import Any

import numpy as np

from lamina_traces.aspects.operating_points import Batches, Cap, Fraction, OperatingPoints
from lamina_traces.intervals import Interval
from lamina_traces.units import format_count, format_number

from . import figures as fig
from .blocks import NOTHING, Block, Figure, Method, Section, Table, Tile, fixed, percent

MOST_LINES = 5

METHODS = (
    Method(
        "Power limits",
        "For each configuration measured at several limits, its energy and time at the limit with the least energy over those at the highest limit; "
        "means over configurations, with Student's interval as if they were independent.",
        "",
        "You, Chung and Chowdhury, Zeus, NSDI 2023",
    ),
    Method(
        "Energy of a token",
        "Power of all devices over output tokens per second, by batch size, within groups of configurations that differ in nothing else that is recorded.",
        "J/token = W / (tokens/s)",
    ),
)


def section(p: OperatingPoints, id_: str, subtitle: str) -> Section:
    blocks: list[Block] = []
    if p.caps:
        blocks.append(_trade_off(p.caps, id_))
        blocks.append(_cap_table(p.caps))
    curves = [b for b in p.batches if len(b.curve) > 1]
    if curves:
        blocks.append(_by_batch(curves, id_))
    if p.batches:
        blocks.append(_batch_table(p.batches))
    if p.fractions:
        blocks.append(_fractions(p.fractions))
    if p.devices:
        rows = tuple(
            (
                d.device_name or NOTHING,
                format_count(d.configurations),
                format_number(d.median_w),
                format_number(d.least_j_per_token),
                f"{d.over_limit} of {d.limited}" if d.limited else NOTHING,
            )
            for d in p.devices
        )
        columns = ("device", "configurations", "median W a device", "least J a token", "above their limit")  # fmt: skip
        blocks.append(Table(columns, rows, "lrrrr", "Devices"))
    return Section(id_, "Operating points", (), tuple(blocks), subtitle)


def tiles(p: OperatingPoints) -> list[Tile]:
    """Key numbers of a table of operating points."""
    out = []
    for c in p.caps[:1]:
        out.append(Tile("energy saved", percent(-c.energy_change), f"at the best limit of {c.device_name or 'the device'}"))  # fmt: skip
        out.append(Tile("time", f"{fixed(c.time_ratio, 3)} ×", "at that limit"))
    out += [
        Tile("least energy a token", f"{format_number(b.least_j_per_token)} J", b.model)
        for b in p.batches[:1]
    ]
    out += [
        Tile("median power", f"{format_number(d.median_w)} W", "per device")
        for d in p.devices[:1]
        if d.median_w is not None
    ]
    return out


def _trade_off(caps: tuple[Cap, ...], id_: str) -> Figure:
    styles = ((fig.BLUE, "solid"), *fig.LINES)
    data: list[dict[str, Any]] = []
    rows = []
    for c, (colour, dash) in zip(caps[:MOST_LINES], styles, strict=False):
        limit = np.array([p[0] for p in c.curve])
        energy, time = np.array([p[1] for p in c.curve]), np.array([p[2] for p in c.curve])
        text = [f"limit {percent(float(v), 0)} of the highest" for v in limit]
        name = c.device_name or "device"
        data.append(
            fig.line(time, energy, name, colour, dash=dash, mode="lines+markers", marker={"size": 6, "color": colour}, text=text,
                     hovertemplate="%{text}: energy %{y:.3f}, time %{x:.3f}<extra></extra>")
        )  # fmt: skip
        rows += [
            (name, percent(p[0], 0), fixed(p[1], 3), fixed(p[2], 3), format_count(p[3]))
            for p in c.curve
        ]
    first = caps[0]
    sentence = (
        f"On {first.device_name or 'the device'} the best limit of each configuration saves {percent(-first.energy_change)} of the energy on average "
        f"and takes {fixed(first.time_ratio, 3)} times as long. The points are means at one limit for all."
    )
    layout = fig.layout(
        fig.axis("time, of that at the highest limit"),
        fig.axis("energy, of that at the highest limit"),
        shapes=[fig.reference("y", 1.0)],
    )
    table = Table(("device", "limit, of the highest", "energy", "time", "configurations"), tuple(rows[:80]), "lrrrr")  # fmt: skip
    return Figure(f"{id_}-limits", "Power limits: energy against time", sentence, data, layout, table)  # fmt: skip


def _cap_table(caps: tuple[Cap, ...]) -> Table:
    rows = tuple(
        (
            c.device_name or NOTHING,
            format_count(c.configurations),
            f"{format_number(c.highest_limit_w)} W",
            fixed(c.limit_frac, 2),
            _share(c.energy_change, c.energy_interval),
            f"{fixed(c.time_ratio, 3)}{_ends(c.time_interval)}",
        )
        for c in caps
    )
    columns = ("device", "configurations", "highest limit", "best, of it", "energy", "time, ×")
    return Table(columns, rows, "lrrrrr", "The limit with the least energy", wide=True)


def _share(x: float, i: Interval | None) -> str:
    return f"{x:+.1%}" + (f" [{i.low:+.1%}, {i.high:+.1%}]" if i else "")


def _ends(i: Interval | None) -> str:
    return f" [{i.low:.3f}, {i.high:.3f}]" if i else ""


def _by_batch(batches: list[Batches], id_: str) -> Figure:
    styles = ((fig.BLUE, "solid"), *fig.LINES)
    # one curve a model, so that the lines say something different each
    picked = list({b.model: b for b in reversed(batches)}.values())[::-1][:MOST_LINES]
    data, rows = [], []
    low, high, least, most = 1e300, 0.0, 1e300, 0.0
    for b, (colour, dash) in zip(picked, styles, strict=False):
        x, y = np.array([p[0] for p in b.curve], dtype=np.float64), np.array([p[1] for p in b.curve])  # fmt: skip
        low, high = min(low, float(x.min())), max(high, float(x.max()))
        least, most = min(least, float(y.min())), max(most, float(y.max()))
        name = b.model.rsplit("/", 1)[-1]
        data.append(
            fig.line(x, y, name, colour, dash=dash, mode="lines+markers", marker={"size": 5, "color": colour},
                     hovertemplate="batch %{x}: %{y:.3g} J a token<extra></extra>")
        )  # fmt: skip
        rows += [(name, b.workload, format_count(int(p[0])), format_number(p[1])) for p in b.curve]
    best = picked[0]
    sentence = f"{best.model} takes {best.least_j_per_token:.3g} J a token at batch {best.at_batch:,}, the least of all."
    high, most = max(high, 1.2 * low), max(most, 1.2 * least)
    layout = fig.layout(
        fig.axis("batch size", log=True, range=fig.log_range(low, high), **fig.decade_ticks(low, high)),
        fig.axis("energy of a token (J)", log=True, range=fig.log_range(least, most), **fig.decade_ticks(least, most)),
    )  # fmt: skip
    table = Table(("model", "task", "batch", "J a token"), tuple(rows[:80]), "llrr")
    return Figure(f"{id_}-batch", "Energy of a token by batch", sentence, data, layout, table)


def _batch_table(batches: tuple[Batches, ...]) -> Table:
    rows = tuple(
        (
            b.model or NOTHING,
            b.workload or NOTHING,
            b.device_name or NOTHING,
            format_count(b.devices),
            format_count(b.at_batch),
            format_number(b.least_j_per_token),
            fixed(b.spearman, 2) if b.spearman is not None else NOTHING,
        )
        for b in batches[:12]
    )
    columns = (
        "model",
        "task",
        "device",
        "devices",
        "best batch",
        "J a token",
        "Spearman with batch",
    )
    rest = len(batches) - len(rows)
    notes = (f"{rest} more groups are in the download.",) if rest > 0 else ()
    return Table(columns, rows, "lllrrrr", "Least energy a token", notes, wide=True)


def _fractions(fractions: tuple[Fraction, ...]) -> Table:
    rows = tuple(
        (
            f.device_name or NOTHING,
            f.dimension.replace("_", " "),
            format_number(f.level),
            format_number(f.peak_frac),
            format_number(f.mean_frac),
            format_count(f.runs),
        )
        for f in fractions[:40]
    )
    columns = ("device", "by", "value", "peak, of rated", "mean, of rated", "runs")
    return Table(columns, rows, "llrrrr", "Rated power used")

"""Cold starts on the page: how long they take, by which step and for whom, and what the pods were good for."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from lamina_traces.aspects.cold_starts import (
    GROUPED,
    SCOPES,
    ColdStarts,
    Component,
    Group,
    scope_of,
)
from lamina_traces.aspects.pod_utility import CURVE, PodUtility
from lamina_traces.units import format_count, format_number, format_seconds

from . import figures as fig
from .blocks import NOTHING, Block, Figure, Method, Section, Table, Tile, percent, thinned
from .durations import laws, with_interval

METHODS = (
    Method(
        "Cold starts",
        "Durations as the platform reports them. Every figure has a scope (platform total with its steps, replica ready, init only, model load), and scopes are never pooled. "
        "Steps are told with the cold starts that skip them and without. Quantiles with fewer than ten samples beyond them are left out.",
    ),
    Method(
        "Shares of steps",
        "Two definitions that rank the steps differently. The share of the summed time weighs long cold starts more; the mean of the shares weighs every cold start alike.",
        "Σ xᵢ / Σ tᵢ   and   mean of xᵢ / tᵢ",
    ),
    Method(
        "Pod utility",
        "How long a pod was of use after it was ready, over the time that it took to start. A pod that may live on past the end is right-censored, and pods that ended are weighed by the inverse of the chance of being seen to the end. "
        "The median of the pods' ratios and the ratio of the sums differ: a few pods live long.",
        "U = (end of the last request − ready) / cold start time",
        "Joosen et al., EuroSys 2025, section 4.5",
    ),
)

STATS = ("p10", "p50", "p90", "p99")


def section(c: ColdStarts, id_: str, subtitle: str) -> Section:
    blocks: list[Block] = []
    for whole, names in ((n[0], n) for n in c.scopes.values()):
        drawn = {
            k: c.components[k]
            for k in names
            if (g := c.components[k].grid) is not None and (g.values > 0).any()
        }
        order = sorted(drawn, key=lambda k: (k != whole, -drawn[k].mean_s))[:5]
        if order:
            suffix = "" if whole == c.main else f"-{whole}"
            blocks.append(
                _cold_start_cdf({k: drawn[k] for k in order}, f"{id_}{suffix}", c.evidence)
            )
    if any(v.mean_share is not None for v in c.components.values()):
        blocks.append(_shares(c, id_))
    if c.utility is not None and len(c.utility.ratios) > 1:
        blocks.append(_utility(c.utility, id_))
    blocks.append(_steps(c))
    for by in GROUPED:
        for scope in SCOPES:
            mine = [g for g in c.groups if g.by == by and g.scope == scope]
            if mine:
                blocks.append(_groups(mine, by, scope))
    for name in _told(c):
        v = c.components[name]
        what = SCOPES.get(name, f"step {name.replace('_', ' ')} where it takes time")
        blocks.append(laws(f"Laws of {what}, in seconds", v.families))
    text: tuple[str, ...] = ()
    if c.evidence != "rows":
        text = (
            "Read off a published curve: how many cold starts it is of is not known, so there are no intervals.",
        )
    return Section(id_, "Cold starts", text, tuple(blocks), subtitle)


def _told(c: ColdStarts) -> list[str]:
    """Components whose laws are shown: every scope's whole, and the longest steps."""
    wholes = [n[0] for n in c.scopes.values()]
    steps = sorted(
        (k for k in c.components if k not in wholes), key=lambda k: -c.components[k].mean_s
    )
    return [k for k in (*wholes, *steps[:2]) if c.components[k].families]


def _steps(c: ColdStarts) -> Table:
    known = c.evidence == "rows"

    def share(v: Component, name: str) -> str:
        value = getattr(v, name)
        i = v.intervals.get(name)
        ends = f" [{percent(i.low, 0)}, {percent(i.high, 0)}]" if i else ""
        return NOTHING if value is None else f"{percent(value)}{ends}"

    rows = []
    for names in c.scopes.values():
        for k in names:
            v = c.components[k]
            q = v.quantiles_s
            rows.append(
                (
                    k.replace("_", " "), scope_of(k), format_count(v.rows) if known else NOTHING,
                    with_interval(v.mean_s, v.intervals.get("mean")),
                    *(with_interval(q.get(s), v.intervals.get(s)) for s in STATS),
                    percent(v.zero_share), share(v, "share_of_sum"), share(v, "mean_share"),
                )
            )  # fmt: skip
            if v.positive_quantiles_s:
                p = v.positive_quantiles_s
                rows.append(
                    (f"{k.replace('_', ' ')}, where not 0", scope_of(k), format_count(v.rows * (1 - v.zero_share)), NOTHING,
                     *(format_seconds(p.get(s)) for s in STATS), NOTHING, NOTHING, NOTHING)
                )  # fmt: skip
    columns = (
        "step",
        "scope",
        "cold starts",
        "mean",
        *STATS,
        "skip it",
        "share of the sums",
        "mean of the shares",
    )
    methods = dict.fromkeys(i.method for v in c.components.values() for i in v.intervals.values())
    notes = [f"95 % intervals by {m}." for m in methods]
    if known and any("p99" not in v.quantiles_s for v in c.components.values()):
        notes.append("A p99 needs 1,000 cold starts.")
    return Table(columns, tuple(rows), "ll" + "r" * 9, "Time by step", tuple(notes), wide=True)


def _groups(groups: list[Group], by: str, scope: str) -> Table:
    rows = tuple(
        (
            g.name,
            format_count(g.rows),
            format_seconds(g.mean_s),
            *(format_seconds(g.quantiles_s.get(s)) for s in STATS),
        )
        for g in groups
    )
    return Table((by, "cold starts", "mean", *STATS), rows, "l" + "r" * 6, f"By {by} ({SCOPES[scope]})")  # fmt: skip


def _shares(c: ColdStarts, id_: str) -> Figure:
    told = [(k, v) for k, v in c.components.items() if v.mean_share is not None]
    told.sort(key=lambda x: -(x[1].share_of_sum or 0.0))
    names = [k.replace("_", " ") for k, _ in told]

    def bar(key: str, label: str, colour: str) -> dict[str, Any]:
        y = np.array([100 * (getattr(v, key) or 0.0) for _, v in told])
        ends = [v.intervals.get(key) for _, v in told]
        up = np.array([100 * i.high - a if i else 0.0 for i, a in zip(ends, y, strict=True)])
        down = np.array([a - 100 * i.low if i else 0.0 for i, a in zip(ends, y, strict=True)])
        return {
            "type": "bar", "name": label, "x": names, "y": fig.numbers(y), "marker": {"color": colour},
            "error_y": {"type": "data", "symmetric": False, "array": fig.numbers(np.maximum(up, 0)), "arrayminus": fig.numbers(np.maximum(down, 0)), "thickness": 1, "width": 3, "color": "$ink"},
            "hovertemplate": "%{x}: %{y:.1f}%<extra>" + label + "</extra>",
        }  # fmt: skip

    data = [
        bar("share_of_sum", "share of the summed time", fig.BLUE),
        bar("mean_share", "mean of the shares", fig.ORANGE),
    ]
    first = names[0]
    other = max(told, key=lambda x: x[1].mean_share or 0.0)[0].replace("_", " ")
    sentence = (
        f"Of the summed time {first} has the most, and so it has on average over cold starts."
        if first == other
        else f"Of the summed time {first} has the most, but on average over cold starts {other} has: the two definitions rank the steps differently."
    )
    layout = fig.layout(
        {**fig.axis("step"), "type": "category"}, fig.axis("share of the cold start (%)", rangemode="tozero"), barmode="group"
    )  # fmt: skip
    rows = tuple(
        (k.replace("_", " "), percent(v.share_of_sum), percent(v.mean_share)) for k, v in told
    )
    table = Table(("step", "share of the sums", "mean of the shares"), rows, "lrr")
    return Figure(f"{id_}-shares", "Which step takes the time", sentence, data, layout, table)


def _utility(u: PodUtility, id_: str) -> Figure:
    x = np.array(u.ratios)
    share = 100 * CURVE[: len(x)]
    keep = x > 0
    x, share = x[keep], 100 - share[keep]
    low, high = min(float(x.min(initial=0.5)), 0.5), max(float(x.max(initial=2.0)), 2.0)
    data = [
        fig.line(x, share, "pods", fig.BLUE, showlegend=False, hovertemplate="%{y:.3g}% of the pods have a ratio above %{x:.3g}<extra></extra>")
    ]  # fmt: skip
    middle = u.quantiles.get("p50")
    sentence = (
        f"Half of the pods are of use for more than {format_number(middle)} times as long as they took to start, "
        f"{percent(u.below_one, 0)} for less than that time; over all pods together it is {format_number(u.ratio_of_sums)} times."
    )
    layout = fig.layout(
        fig.axis("useful life over cold start time", log=True, range=fig.log_range(low, high), **fig.decade_ticks(low, high)),
        fig.axis("pods above it (%)", range=[0, 101], dtick=25),
        shapes=[fig.reference("x", 1)],
    )  # fmt: skip
    rows = [(format_number(float(a)), f"{b:.1f}%") for a, b in zip(x, share, strict=True)]
    return Figure(
        f"{id_}-utility", "What pods were good for", sentence, data, layout, thinned(("ratio", "pods above it"), rows, "rr")
    )  # fmt: skip


def _cold_start_cdf(components: dict[str, Component], id_: str, evidence: str) -> Figure:
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
    name, total = next(iter(components.items()))
    source = "" if evidence == "rows" else " (read off a published curve)"
    sentence = f"Half of the cold starts ({scope_of(name)}) take at most {format_seconds(total.quantiles_s.get('p50'))}, nine of ten at most {format_seconds(total.quantiles_s.get('p90'))}{source}."
    layout = fig.cdf_layout(
        "duration",
        "share of cold starts (%)",
        low,
        max(high, 1.2 * low),
        fig.duration_ticks(low, max(high, 1.2 * low)),
    )
    table = Table(("step", *(percent(float(p), 0) for p in q)), tuple(rows), "lrrrrr")
    title = f"How long each step takes ({scope_of(name)})" if len(components) > 1 else f"How long it takes ({scope_of(name)})"  # fmt: skip
    return Figure(f"{id_}-cdf", title, sentence, data, layout, table)


def tiles(c: ColdStarts) -> list[Tile]:
    """Key numbers of cold starts, their scope named."""
    total = c.components[c.main]
    scope = SCOPES[c.main]
    many = f"of {format_count(total.rows)}" if c.evidence == "rows" else "off a curve"
    out = []
    if "p50" in total.quantiles_s:
        median = format_seconds(total.quantiles_s["p50"])
        out.append(Tile("median cold start", median, f"{scope}, {many}"))
    if "p99" in total.quantiles_s:
        out.append(Tile("p99 cold start", format_seconds(total.quantiles_s["p99"]), scope))
    out.append(Tile("mean cold start", format_seconds(total.mean_s), scope))
    if c.utility is not None and "p50" in c.utility.quantiles:
        out.append(Tile("pod utility", format_number(c.utility.quantiles["p50"]), f"median; {format_number(c.utility.ratio_of_sums)} over all"))  # fmt: skip
    return out

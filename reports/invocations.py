"""Invocations on the page: what a keep-alive buys and costs, who calls, how long calls run."""

from __future__ import annotations

import numpy as np

from lamina_traces.aspects.invocations import Invocations
from lamina_traces.aspects.keep_alive import NAMED_S, KeepAlive
from lamina_traces.units import format_count, format_number, format_seconds

from . import figures as fig
from .blocks import NOTHING, Block, Figure, Method, Section, Table, Tile, percent, thinned
from .durations import laws, quantiles, survival_figure

METHODS = (
    Method(
        "Keep-alive",
        "An instance is kept for K from the end of its last request; a later request starts cold. One instance per function takes any number of requests at "
        "once. The first request of a function is left out of the share, since nobody knows what ran before the trace. Idle time is what an instance "
        "stands idle between requests and, up to the end of the trace, behind the last one.",
        "P(cold) = P(G > K),   idle = E[min(G, K)],   G the idle time before a request",
        "fixed keep-alive of Shahrad et al., USENIX ATC 2020, section 5",
    ),
    Method(
        "Concurrency",
        "Invocations that run at one instant; one that ends as another starts frees its place. The mean is the sum of all durations over the time observed.",
        "L = λ·W",
        "Little, Operations Research 9(3), 1961",
    ),
)

SHOWN_S = (1.0, 10.0, *NAMED_S)


def section(i: Invocations, id_: str, subtitle: str) -> Section:
    blocks: list[Block] = []
    if i.keep_alive:
        blocks.append(_trade_off(i.keep_alive, id_))
        blocks.append(_by_time(i.keep_alive, id_))
    for name, d in i.times.items():
        drawn = survival_figure(
            d, f"{id_}-{name}", f"{_TITLES[name]} of invocations", "invocations"
        )
        blocks += [drawn] if drawn else []
    blocks.append(_numbers(i))
    tables = [_kept(k) for k in i.keep_alive]
    if i.function_cold:
        tables.append(_functions(i))
    if tables:
        blocks.append(tuple(tables))
    times = dict(i.times) | ({"between starts of a function": i.gaps} if i.gaps is not None else {})
    if times:
        blocks.append(quantiles(times, "Times of invocations", "time"))
    if "duration" in i.times and i.times["duration"].families:
        blocks.append(laws("Laws of the duration, in seconds", i.times["duration"].families))
    if i.gaps is not None and i.gaps.families:
        blocks.append(
            laws("Laws of the gaps between invocations of a function, in seconds", i.gaps.families)
        )
    return Section(id_, "Invocations", (), tuple(blocks), subtitle)


_TITLES = {"duration": "Duration", "queue": "Waiting", "init": "Init"}


def _numbers(i: Invocations) -> Table:
    rows = [
        ("invocations", format_count(i.invocations)),
        ("functions", format_count(i.functions)),
        ("share of the busiest function", percent(i.top_share)),
        ("functions that make 90 %", format_count(i.functions_for_90)),
        ("Gini coefficient over functions", format_number(i.gini)),
    ]
    if i.bins is not None:
        b = i.bins
        ends = (
            f" [{format_number(b.idc_interval.low)}, {format_number(b.idc_interval.high)}]"
            if b.idc_interval
            else ""
        )
        rows.append(
            (
                f"index of dispersion per {format_seconds(b.width_s)}",
                f"{format_number(b.idc)}{ends}",
            )
        )
        rows.append(("peak to mean", f"{format_number(b.peak_to_mean)} ×"))
    if i.concurrency_peak is not None:
        rows.append(
            (
                "run at once, mean and most",
                f"{format_number(i.concurrency_mean)}, {format_count(i.concurrency_peak)}",
            )
        )
    if i.cold_share is not None:
        c = i.cold_interval
        ends = f" [{percent(c.low, 2)}, {percent(c.high, 2)}]" if c else ""
        rows.append(("started a pod, as recorded", f"{percent(i.cold_share, 2)}{ends}"))
    if i.gaps_per_function_s:
        rows.append(
            ("median gap, every function alike", format_seconds(i.gaps_per_function_s.get("p50")))
        )
    return Table(("", ""), tuple(rows), "lr", "Invocations in numbers", plain=True)  # fmt: skip


def _plural(per: str) -> str:
    return f"{per}s"


def _trade_off(curves: tuple[KeepAlive, ...], id_: str) -> Figure:
    data = []
    colours = ((fig.BLUE, "solid"), *fig.LINES)
    tops = [1e-12]
    for k, (colour, dash) in zip(curves, colours, strict=False):
        x = np.array([k.idle(float(v))[0] for v in k.knots_s])
        y = 100 * k.cold
        tops.append(float(x.max()))
        data.append(
            fig.line(x, y, f"one instance per {k.per}", colour, dash=dash, text=[format_seconds(float(v)) for v in k.knots_s],
                     hovertemplate="kept for %{text}: %{y:.3g}% cold, %{x:.3g} s idle<extra></extra>")
        )  # fmt: skip
        named = [v for v in SHOWN_S if v in k.knots_s]
        marker = {"symbol": "circle", "size": 8, "color": colour}
        data.append(
            fig.line([k.idle(v)[0] for v in named], [100 * k.p_cold(v)[0] for v in named], "", colour, mode="markers+text",
                     marker=marker, text=[fig.tick(v) for v in named], textposition="top right", showlegend=False, hoverinfo="skip")
        )  # fmt: skip
    k = curves[0]
    at = next((v for v in (600.0, 300.0, 60.0) if v in k.knots_s), float(k.knots_s[-1]))
    what = "bins with a later request" if k.grain_s else "later requests"
    sentence = (
        f"Kept for {format_seconds(at)}, one instance per {k.per} starts cold for {percent(k.p_cold(at)[0], 2)} of the {what} "
        f"and stands idle {format_seconds(k.idle(at)[0])} per invocation. Dots are named keep-alives."
    )
    layout = fig.layout(
        fig.axis(
            "seconds kept idle per invocation", rangemode="tozero", range=[0, 1.06 * max(tops)]
        ),
        fig.axis("start cold (%)", range=[0, 105]),
    )
    rows = [
        (
            format_seconds(float(v)),
            percent(float(c), 2),
            format_seconds(k.idle(float(v))[0]),
        )
        for v, c in zip(k.knots_s, k.cold, strict=True)
    ]
    table = thinned(("kept for", "start cold", "idle per invocation"), rows, "rrr")
    return Figure(f"{id_}-trade", "What a keep-alive buys and costs", sentence, data, layout, table)


def _by_time(curves: tuple[KeepAlive, ...], id_: str) -> Figure:
    data = []
    colours = ((fig.BLUE, "solid"), *fig.LINES)
    low, high = 1e9, 0.0
    for k, (colour, dash) in zip(curves, colours, strict=False):
        keep = k.knots_s > 0
        x, y = k.knots_s[keep], 100 * k.cold[keep]
        if not len(x):
            continue
        low, high = min(low, float(x[0])), max(high, float(x[-1]))
        shape = {"color": colour, "dash": dash, "width": 2}
        data.append(fig.line(x, y, f"per {k.per}", colour, line=shape, hovertemplate="kept for %{x:.3g} s: %{y:.3g}% cold<extra></extra>"))  # fmt: skip
    high = max(high, 1.2 * low)
    k = curves[0]
    sentence = (
        f"Without any keep-alive {percent(float(k.cold[0]), 1)} of the {'bins' if k.grain_s else 'later requests'} would start cold; the longest "
        f"idle times told are {format_seconds(float(k.knots_s[-1]))}."
    )
    if k.grain_s:
        sentence += f" Counts per {format_seconds(k.grain_s)} blur every idle time by as much."
    layout = fig.layout(
        fig.axis(
            "keep-alive", log=True, range=fig.log_range(low, high), **fig.duration_ticks(low, high)
        ),
        fig.axis("start cold (%)", range=[0, 105]),
    )
    rows = [(c.per, format_seconds(float(v)), percent(float(s), 2)) for c in curves for v, s in zip(c.knots_s, c.cold, strict=True)]  # fmt: skip
    return Figure(f"{id_}-cold", "Cold starts by keep-alive", sentence, data, layout, thinned(("one instance per", "kept for", "start cold"), rows, "lrr"))  # fmt: skip


def _kept(k: KeepAlive) -> Table:
    rows = []
    for v in NAMED_S:
        if v > k.knots_s[-1]:
            continue
        share, error = k.p_cold(v)
        low, high = k.bounds(v)
        i = k.intervals.get(f"{v:g}")
        rows.append(
            (
                format_seconds(v),
                percent(share, 2)
                + (f" ({percent(low, 2)} – {percent(high, 2)})" if error > 5e-5 else ""),
                f"{percent(i.low, 2)} – {percent(i.high, 2)}" if i else NOTHING,
                percent(k.cold_share(v), 2),
                format_seconds(k.idle(v)[0]),
            )
        )
    notes = [f"In brackets is what the stored curve leaves open.{' Counts per bin leave a bin at either side.' if k.grain_s else ''}"]  # fmt: skip
    if k.busy_share:
        notes.append(f"{percent(k.busy_share)} of the later requests came while another ran: instances that take one request at a time start cold for those, too.")  # fmt: skip
    columns = (
        "kept for",
        "cold, of later",
        "95 %",
        "cold, of all with the first",
        "idle per invocation",
    )
    return Table(columns, tuple(rows), "rrrrr", f"One instance per {k.per} ({k.entities:,} {_plural(k.per)})", tuple(notes))  # fmt: skip


def _functions(i: Invocations) -> Table:
    stats = ("p10", "p25", "p50", "p75", "p90")
    rows = tuple(
        (format_seconds(float(k)), *(percent(q.get(s), 0) for s in stats))
        for k, q in i.function_cold.items()
    )
    return Table(
        ("kept for", *stats),
        rows,
        "r" * 6,
        "Share of cold starts over functions, every function alike",
    )


def tiles(i: Invocations) -> list[Tile]:
    """Key numbers of invocations."""
    out = [
        Tile("invocations", format_count(i.invocations), f"of {i.functions:,} functions"),
        Tile("busiest function", percent(i.top_share), "of the invocations"),
    ]
    for k in i.keep_alive[:1]:
        at = next((v for v in (600.0, 300.0, 60.0) if v in k.knots_s), float(k.knots_s[-1]))
        out.append(
            Tile(
                f"cold when kept {fig.tick(at)}",
                percent(k.p_cold(at)[0], 2),
                f"one instance per {k.per}",
            )
        )
        out.append(
            Tile("idle per invocation", format_seconds(k.idle(at)[0]), f"kept {fig.tick(at)}")
        )
    if i.concurrency_peak is not None:
        out.append(
            Tile(
                "run at once",
                format_count(i.concurrency_peak),
                f"mean {format_number(i.concurrency_mean)}",
            )
        )
    return out

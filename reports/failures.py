"""Failures on the page: how many and of which kind, over time, against load, in clusters, and how far apart."""

from __future__ import annotations

from typing import Any

import numpy as np

from lamina_traces.aspects.failure_rates import Cell
from lamina_traces.aspects.failures import Failures
from lamina_traces.units import format_count, format_number, format_seconds

from . import figures as fig
from .blocks import NOTHING, Block, Figure, Method, Section, Table, percent
from .durations import confidence_band, laws, survival_figure

METHODS = (
    Method(
        "Rate of failures",
        "The interval is Wilson's where neither the order of successes and failures nor their counts per window reject independence; "
        "else it is by moving blocks of windows. Cells of a table hold ten failures or none; theirs is Wilson's with rows counted over the "
        "design effect, by how much failures per window vary more than binomial ones.",
        "",
        "Wilson, JASA 22, 1927; Rao and Scott, JASA 76, 1981; Politis and White, Econometric Reviews 23, 2004",
    ),
    Method(
        "Clusters of failures",
        "Windows of equal width hold n requests and k failures. Independent failures of one rate p have a ratio of 1 at every width. "
        "A two-state Markov chain over the requests in order of arrival tells runs; independent failures of rate r run for 1/(1 − r) on average.",
        "overdispersion = Σ(k − n·p)² / (p(1 − p)(N − Σn²/N)),   p = P(fail | succeeded),   q = P(succeed | failed),   mean run = 1/q",
        "Gilbert, Bell System Technical Journal 39, 1960",
    ),
    Method(
        "Time between failures",
        "The stretches before the first and after the last failure, and those that a mask cuts, are right-censored.",
        "S(t) = Π (1 − ended/at risk)",
        "Kaplan and Meier, JASA 53, 1958",
    ),
)


def section(f: Failures, id_: str, subtitle: str) -> Section:
    blocks: list[Block] = []
    if len(f.over_time) > 1:
        blocks.append(_over_time(f, id_))
    if len(f.by_load) > 1:
        blocks.append(_by_load(f, id_))
    if len(f.overdispersion) > 1:
        blocks.append(_clusters(f, id_))
    if f.between is not None:
        drawn = survival_figure(
            f.between, f"{id_}-between", "Time between failures", "times between failures"
        )
        blocks += [drawn] if drawn else []
    blocks.append(_numbers(f))
    beside: list[Table] = []
    if f.causes:
        beside.append(_causes(f))
    if f.kinds:
        rows = tuple((k, percent(s), percent(w)) for k, (s, w) in f.kinds.items())
        beside.append(
            Table(
                ("status", "share of failures", "without lengths"),
                rows,
                "lrr",
                "Failures by status",
            )
        )
    if f.retries is not None:
        beside.append(_retries(f))
    if beside:
        blocks.append(tuple(beside))
    if f.between is not None and f.between.families:
        blocks.append(laws("Laws of the time between failures, in seconds", f.between.families))
    return Section(id_, "Failures", (), tuple(blocks), subtitle)


def _numbers(f: Failures) -> Table:
    def chain(name: str, value: float, scale: float = 100, unit: str = "%") -> str:
        i = f.chain_intervals.get(name)
        text = percent(value, 2) if unit else format_number(value)
        return text + (
            f" [{format_number(scale * i.low)}{unit}, {format_number(scale * i.high)}{unit}]"
            if i
            else ""
        )

    rows = [
        ("requests with a recorded status", format_count(f.requests)),
        ("failed", f"{format_count(f.failed)} ({percent(f.rate, 2)})"),
        (f"95 % interval ({f.rate_method})", f"{percent(f.rate_low, 2)} to {percent(f.rate_high, 2)}"),
        ("P(fail | the last succeeded)", chain("p_fail_after_ok", f.p_fail_after_ok)),
        ("P(succeed | the last failed)", chain("p_ok_after_fail", f.p_ok_after_fail) if f.failed else NOTHING),
        ("mean run of failures", f"{chain('mean_run', f.mean_run, 1, '')}; {format_number(f.independent_run)} if independent" if f.failed else NOTHING),
        ("longest run", format_count(f.longest_run)),
    ]  # fmt: skip
    if f.n_eff:
        rows.insert(3, ("effective sample size", format_count(f.n_eff)))
    if f.filtered:
        rows.append(("answers with status ok that a content filter cut", format_count(f.filtered)))
    if f.load is not None:
        load = f.load
        for name, text in (
            ("top_to_bottom", "rate in the busiest cell over the quietest"),
            ("spearman", "Spearman ρ of load and rate"),
            ("explained", "share of the overdispersion that load explains"),
        ):
            value, i = getattr(load, name), getattr(load, f"{name}_interval")
            if value is not None:
                ends = f" [{format_number(i.low)}, {format_number(i.high)}]" if i else ""
                rows.append((text, f"{format_number(value)}{ends}"))
    return Table(("", ""), tuple(rows), "lr", "Failures in numbers", plain=True)


def _causes(f: Failures) -> Table:
    rows = tuple(
        (
            kind,
            format_count(n),
            percent(n / f.failed),
            percent(n / f.requests, 2)
            + (f" [{percent(i.low, 2)}, {percent(i.high, 2)}]" if i else ""),
        )
        for kind, (n, i) in f.causes.items()
    )
    return Table(("kind", "failures", "share", "rate"), rows, "lrrr", "Kinds of failure")


def _retries(f: Failures) -> Table:
    r = f.retries
    if r is None:
        raise AssertionError("only called with retries")
    rows = [
        ("failures with a known sender and length", format_count(r.failures)),
        (f"followed within {format_seconds(r.within_s)}", f"{percent(r.share)} [{percent(r.interval.low)}, {percent(r.interval.high)}]"),
        ("successes so followed", percent(r.share_after_success)),
        ("followers that succeeded", percent(r.success)),
        *((f"delay, {k}", format_seconds(v)) for k, v in r.delays_s.items()),
    ]  # fmt: skip
    note = (
        "A heuristic: the same sender, model and prompt length. What follows successes is chance."
    )
    return Table(("", ""), tuple(rows), "lr", "Retries, by a heuristic", (note,), plain=True)


def _bars(cells: tuple[Cell, ...]) -> dict[str, Any]:
    y = np.array([c.rate for c in cells])
    return {
        "type": "data",
        "symmetric": False,
        "array": fig.numbers(np.array([100 * (c.interval.high - r) for c, r in zip(cells, y, strict=True)])),
        "arrayminus": fig.numbers(np.array([100 * (r - c.interval.low) for c, r in zip(cells, y, strict=True)])),
        "thickness": 1,
        "width": 0,
        "color": "$soft",
    }  # fmt: skip


def _over_time(f: Failures, id_: str) -> Figure:
    cells = f.over_time
    div, unit = fig.time_unit(cells[-1].high)
    y = np.array([100 * c.rate for c in cells])
    edges = np.array([cells[0].low, *(c.high for c in cells)]) / div
    low, high = (np.array([100 * getattr(c.interval, k) for c in cells]) for k in ("low", "high"))
    data = [
        *confidence_band(edges, np.append(low, low[-1]), np.append(high, high[-1])),
        fig.line(edges, np.append(y, y[-1]), "rate", fig.BLUE, line={"color": fig.BLUE, "width": 1.5, "shape": "hv"},
                 hovertemplate=f"%{{x:.4g}} {unit}: %{{y:.3g}}%<extra></extra>"),
        fig.line(edges[[0, -1]], [100 * f.rate] * 2, "mean", fig.ORANGE, dash="dash", width=1.5, hoverinfo="skip"),
    ]  # fmt: skip
    worst = max(cells, key=lambda c: c.rate)
    sentence = (
        f"The rate of failures runs from {percent(min(c.rate for c in cells), 2)} to {percent(worst.rate, 2)} of the requests; "
        f"its mean is {percent(f.rate, 2)}. Stretches are as long as it takes for ten failures."
    )
    layout = fig.layout(
        fig.axis(f"time since the first arrival ({unit})", range=[float(edges[0]), float(edges[-1])], showgrid=False),
        fig.axis("requests that fail (%)", rangemode="tozero"),
    )  # fmt: skip
    layout["legend"]["traceorder"] = "normal"
    rows = tuple(
        (
            format_seconds(c.low),
            format_seconds(c.high),
            format_count(c.requests),
            format_count(c.failed),
            percent(c.rate, 2),
            f"{percent(c.interval.low, 2)} – {percent(c.interval.high, 2)}",
        )
        for c in cells
    )
    table = Table(("from", "to", "requests", "failed", "rate", "95 %"), rows, "rrrrrr")
    return Figure(f"{id_}-time", "Failures over time", sentence, data, layout, table)


def _by_load(f: Failures, id_: str) -> Figure:
    cells = f.by_load
    x = np.array([np.sqrt(max(c.low, 1e-12) * c.high) for c in cells])
    y = np.array([100 * c.rate for c in cells])
    per, letter, name = fig.rate_unit(float(np.median(x)))
    x = x * per
    marker = {"symbol": "circle", "size": 8, "color": fig.BLUE}
    data = [
        fig.line(x, y, "rate", fig.BLUE, mode="markers", marker=marker, error_y=_bars(cells), showlegend=False,
                 hovertemplate=f"%{{x:.3g}} requests /{letter}: %{{y:.3g}}% fail<extra></extra>"),
        fig.line([float(x[0]), float(x[-1])], [100 * f.rate] * 2, "mean", fig.ORANGE, dash="dash", width=1.5, hoverinfo="skip"),
    ]  # fmt: skip
    sentence = (
        f"From the quietest to the busiest windows the rate of failures goes from {percent(cells[0].rate, 2)} to "
        f"{percent(cells[-1].rate, 2)}."
    )
    if f.load is not None and f.load.spearman is not None:
        sentence += f" Over windows of {format_seconds(f.load.window_s)}, load and rate have a Spearman correlation of {format_number(f.load.spearman)}."
    low, high = float(x.min()), max(float(x.max()), 1.2 * float(x.min()))
    layout = fig.layout(
        fig.axis(f"requests per {name}, windows in deciles", log=True, range=fig.log_range(low, high), **fig.decade_ticks(low, high)),
        fig.axis("requests that fail (%)", rangemode="tozero"),
    )  # fmt: skip
    rows = tuple(
        (
            f"{format_number(c.low * per)} – {format_number(c.high * per)}",
            format_count(c.requests),
            format_count(c.failed),
            percent(c.rate, 2),
            f"{percent(c.interval.low, 2)} – {percent(c.interval.high, 2)}",
        )
        for c in cells
    )
    table = Table((f"requests /{letter}", "requests", "failed", "rate", "95 %"), rows, "rrrrr")
    return Figure(f"{id_}-load", "Failures against load", sentence, data, layout, table)


def _clusters(f: Failures, id_: str) -> Figure:
    points = f.overdispersion
    x = np.array([o.window_s for o in points])
    y = np.array([o.ratio for o in points])
    ends = [(o.interval.low, o.interval.high) if o.interval else (o.ratio, o.ratio) for o in points]
    bars = {
        "type": "data", "symmetric": False, "thickness": 1, "width": 0, "color": "$soft",
        "array": fig.numbers(np.array([h - r for (_, h), r in zip(ends, y, strict=True)])),
        "arrayminus": fig.numbers(np.array([r - lo for (lo, _), r in zip(ends, y, strict=True)])),
    }  # fmt: skip
    low, high = float(x.min()), float(x.max())
    span = fig.log_range(low, high)
    top = max(2.0, max(h for _, h in ends))
    bottom = min(0.5, *(max(lo, 1e-3) for lo, _ in ends))
    data = [
        fig.line(10 ** np.array(span), [1, 1], "independent", fig.ORANGE, dash="dash", width=1.5, hoverinfo="skip"),
        fig.line(x, y, "measured", fig.BLUE, mode="lines+markers", error_y=bars,
                 hovertemplate="windows of %{x} s: %{y:.3g}<extra></extra>"),
    ]  # fmt: skip
    sentence = (
        f"Failures per window vary {format_number(y[0])} times as much as independent ones in windows of {fig.tick(low)}, "
        f"{format_number(y[-1])} times in windows of {fig.tick(high)}."
    )
    layout = fig.layout(
        fig.axis("width of the window", log=True, range=span, **fig.duration_ticks(low, high)),
        fig.axis("overdispersion (1 = independent)", log=True, range=fig.log_range(bottom, top), **fig.decade_ticks(bottom, top)),
    )  # fmt: skip
    rows = tuple(
        (
            fig.tick(o.window_s),
            f"{o.windows:,}",
            format_number(o.ratio),
            f"{format_number(o.interval.low)} – {format_number(o.interval.high)}"
            if o.interval
            else NOTHING,
        )
        for o in points
    )
    table = Table(("window", "windows", "overdispersion", "95 %"), rows, "rrrr")
    return Figure(f"{id_}-clusters", "Clusters of failures", sentence, data, layout, table)

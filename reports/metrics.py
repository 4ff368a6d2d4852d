"""Metrics on the page: the rate and the queue over time, lengths and latencies by bucket, and what is not known."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from lamina_traces.aspects.metric_laws import Law, Quantile
from lamina_traces.aspects.metric_names import ROLES
from lamina_traces.aspects.metric_scrapes import Curve
from lamina_traces.aspects.metrics import Metrics
from lamina_traces.units import format_count, format_number, format_seconds

from . import figures as fig
from .arrivals import laws, rate
from .blocks import NOTHING, Block, Figure, Method, Section, Table, Tile, fixed, percent, thinned

METHODS = (
    Method(
        "Counters",
        "A value below the one before is a reset and counts from 0; what was counted between the last scrape and the reset is lost. "
        "Steps longer than three scrape intervals count for the mean rate only.",
    ),
    Method(
        "Laws from buckets",
        "A bucket (a, b] enters the likelihood by F(b) − F(a), the last, which has no end, by 1 − F(a). Tokens of a bucket stand for a + ½ to b + ½. "
        "KS D is at the bounds of the buckets, where alone the data's distribution is known.",
        "ln L = Σ nᵢ · ln(F(bᵢ) − F(aᵢ))",
    ),
    Method(
        "Quantiles from buckets",
        "A quantile lies somewhere in its bucket, so the bucket's bounds are the honest interval; the value that dashboards draw is a straight line within it. "
        "In 95 % of the draws of blocks of windows it lies between the outer bounds.",
    ),
)

_UNITS = {
    "running": "requests",
    "waiting": "requests",
    "prompt_rate": "tokens/s",
    "output_rate": "tokens/s",
}


def section(m: Metrics, id_: str, subtitle: str) -> Section:
    blocks: list[Block] = []
    if sum(x is not None for x in m.rate_curve) > 1 and m.rate_per_s:
        blocks.append(_rate(m, id_))
    queue = {k: c for k, c in m.curves.items() if k in ("running", "waiting")}
    if any(_drawn(c) for c in queue.values()):
        blocks.append(_queue(queue, m, id_))
    tokens = {k: c for k, c in m.curves.items() if k in ("prompt_rate", "output_rate")}
    if any(_drawn(c) for c in tokens.values()):
        blocks.append(_tokens(tokens, m, id_))
    shares = {k: c for k, c in m.curves.items() if k in ("kv_usage", "hit_rate")}
    if any(_drawn(c) for c in shares.values()):
        blocks.append(_shares(shares, m, id_))
    for side in ("input", "output"):
        found: Law | None = getattr(m, side)
        if found is not None:
            if len(found.buckets) > 2:
                blocks.append(_length(side, found, id_))
            if found.families:
                blocks.append(laws(f"Laws of {side} lengths, in tokens", found.families))
    if m.latencies:
        blocks.append(_latencies(m))
    blocks.append(_numbers(m))
    if m.unknowable:
        rows = tuple((u.what, u.why, u.assumption) for u in m.unknowable)
        blocks.append(
            Table(("not known", "because", "assumed instead"), rows, "lll", "What metrics do not say", wide=True)
        )  # fmt: skip
    return Section(id_, "Metrics", (), tuple(blocks), subtitle)


def tiles(m: Metrics) -> list[Tile]:
    """Key numbers of a scraped server."""
    out = []
    if m.rate_per_s:
        out.append(Tile("mean rate", rate(m.rate_per_s), f"by {m.counted_by}"))
        known = [s for s in m.scales if s.idc is not None]
        if known:
            out.append(Tile(f"IDC at {fig.tick(known[0].window_s)}", format_number(known[0].idc), "Poisson is 1"))  # fmt: skip
    for side, found, mean in (
        ("input", m.input, m.mean_input),
        ("output", m.output, m.mean_output),
    ):
        value = found.mean if found is not None and found.mean is not None else mean
        if value is not None:
            out.append(Tile(f"mean {side}", f"{format_number(value)} tokens", "per request"))
    ttft = m.latencies.get("ttft")
    p99 = ttft.quantile("p99") if ttft else None
    if p99 is not None:
        out.append(Tile("p99 time to first token", _bounds(p99), "by its bucket"))
    if m.hit_ratio is not None:
        out.append(Tile("cache hits", percent(m.hit_ratio), "of the tokens"))
    return out


def _drawn(c: Curve) -> bool:
    return sum(x is not None for x in c.values) > 1


def _at(m: Metrics, n: int) -> tuple[Any, float, str]:
    div, unit = fig.time_unit(m.window_s * n)
    return (np.arange(n) + 0.5) * m.window_s / div, m.window_s * n / div, unit


def _rate(m: Metrics, id_: str) -> Figure:
    mean = m.rate_per_s or 0.0
    per, letter, name = fig.rate_unit(mean)
    y = np.array([np.nan if v is None else v * per for v in m.rate_curve])
    x, end, unit = _at(m, len(y))
    known = y[np.isfinite(y)]
    sentence = (
        f"In windows of {format_seconds(m.window_s)} the rate runs from {format_number(float(known.min()))} to {format_number(float(known.max()))} requests per {name}; "
        f"its mean is {format_number(mean * per)}. Nothing is known below the {format_seconds(m.scrape_s)} between scrapes."
    )
    data = [
        fig.line(x, y, "rate", fig.BLUE, line={"color": fig.BLUE, "width": 1.5, "shape": "hvh"}, fill="tozeroy", fillcolor=fig.FILL,
                 hovertemplate=f"%{{x:.4g}} {unit}: %{{y:.3g}} /{letter}<extra></extra>"),
        fig.line([0, end], [mean * per] * 2, "mean", fig.ORANGE, dash="dash", width=1.5, hoverinfo="skip"),
    ]  # fmt: skip
    layout = fig.layout(
        fig.axis(f"time since the first scrape ({unit})", range=[0, end], showgrid=False),
        fig.axis(f"requests per {name}", rangemode="tozero"),
    )
    rows = [
        (format_seconds(i * m.window_s), format_number(float(v)))
        for i, v in enumerate(y)
        if math.isfinite(v)
    ]
    table = thinned(("from", f"requests per {name}"), rows, "rr")
    return Figure(
        f"{id_}-rate", "Rate over time, from counters", sentence, data, layout, table, wide=True
    )


def _lines(
    curves: dict[str, Curve], m: Metrics, times: float
) -> tuple[list[dict[str, Any]], list[tuple[str, ...]], float, str]:
    data: list[dict[str, Any]] = []
    rows: list[tuple[str, ...]] = []
    end, unit = 1.0, "s"
    styles = ((fig.BLUE, "solid"), (fig.ORANGE, "dash"))
    for (role, c), (colour, dash) in zip(curves.items(), styles, strict=False):
        x, end, unit = _at(m, len(c.values))
        y = np.array([np.nan if v is None else v * times for v in c.values])
        hover = f"%{{x:.4g}} {unit}: %{{y:.4g}}<extra></extra>"
        data.append(fig.line(x, y, ROLES[role], colour, dash=dash, width=1.5, hovertemplate=hover))
        rows.append((ROLES[role], format_number(c.mean * times), format_number(c.highest * times)))
    return data, rows, end, unit


def _queue(curves: dict[str, Curve], m: Metrics, id_: str) -> Figure:
    data, rows, end, unit = _lines(curves, m, 1.0)
    sentence = "; ".join(f"{r[0]}: {r[1]} on average, {r[2]} at most" for r in rows) + "."
    layout = fig.layout(
        fig.axis(f"time since the first scrape ({unit})", range=[0, end], showgrid=False),
        fig.axis("requests", rangemode="tozero"),
    )
    table = Table(("", "mean", "highest"), tuple(rows), "lrr")
    return Figure(f"{id_}-queue", "Running and waiting", _sentence(sentence), data, layout, table)


def _tokens(curves: dict[str, Curve], m: Metrics, id_: str) -> Figure:
    data, rows, end, unit = _lines(curves, m, 1.0)
    sentence = "; ".join(f"{r[0]}: {r[1]} on average, {r[2]} at most" for r in rows) + "."
    layout = fig.layout(
        fig.axis(f"time since the first scrape ({unit})", range=[0, end], showgrid=False),
        fig.axis("tokens per second", rangemode="tozero"),
    )
    table = Table(("", "mean", "highest"), tuple(rows), "lrr")
    return Figure(f"{id_}-tokens", "Tokens over time", _sentence(sentence), data, layout, table)


def _shares(curves: dict[str, Curve], m: Metrics, id_: str) -> Figure:
    data, rows, end, unit = _lines(curves, m, 100.0)
    sentence = "; ".join(f"{r[0]}: {r[1]}% on average, {r[2]}% at most" for r in rows) + "."
    layout = fig.layout(
        fig.axis(f"time since the first scrape ({unit})", range=[0, end], showgrid=False),
        fig.axis("%", range=[0, 101], dtick=25),
    )
    table = Table(("", "mean, %", "highest, %"), tuple(rows), "lrr")
    return Figure(f"{id_}-shares", "Cache over time", _sentence(sentence), data, layout, table)


def _sentence(text: str) -> str:
    return f"{text[0].upper()}{text[1:]}"


def _length(side: str, found: Law, id_: str) -> Figure:
    bounds = np.array([b for b, _ in found.buckets if b is not None])
    n = np.array([k for b, k in found.buckets if b is not None])
    share = np.cumsum(n) / found.rows * 100
    best = found.families[0] if found.families else None
    lo, hi = max(float(bounds[0]), 0.5), float(bounds[-1])
    data = []
    if best is not None:
        x = np.geomspace(lo, hi, 300)
        data.append(
            fig.line(x, 100 * best.cdf(x + 0.5), best.family, fig.ORANGE, dash="dash", hovertemplate="%{y:.1f}% up to %{x:.4g}<extra></extra>")
        )  # fmt: skip
    data.append(
        fig.line(bounds, share, "buckets", fig.BLUE, mode="markers", marker={"size": 8, "color": fig.BLUE},
                 hovertemplate="%{y:.1f}% up to %{x:.4g} tokens<extra></extra>")
    )  # fmt: skip
    median = next((q for q in found.quantiles if q.name == "p50"), None)
    sentence = (
        f"Half of the requests have at most {format_number(median.low)} to {format_number(median.high)} {side} tokens; "
        if median is not None and median.high is not None
        else ""
    ) + "between the bounds of the buckets nothing is known."
    layout = fig.cdf_layout(f"{side} tokens", "requests up to (%)", lo, hi, fig.decade_ticks(lo, hi))  # fmt: skip
    rows = tuple(
        (format_number(b), format_count(round(k)), percent(float(s) / 100))
        for b, k, s in zip(bounds, n, share, strict=True)
    )
    table = thinned(("up to", "requests in the bucket", "in all"), rows, "rrr")
    return Figure(
        f"{id_}-{side}",
        f"{side.capitalize()} lengths by bucket",
        _sentence(sentence),
        data,
        layout,
        table,
    )


def _latencies(m: Metrics) -> Table:
    rows = tuple(
        (
            ROLES[role],
            format_count(round(x.rows)),
            format_seconds(x.mean_s),
            *(_bounds(x.quantile(name)) for name in ("p50", "p90", "p95", "p99")),
        )
        for role, x in m.latencies.items()
    )
    note = "A quantile lies in its bucket; nothing more is known of it. The mean is exact: a histogram keeps its sum."
    columns = ("latency", "values", "mean", "p50", "p90", "p95", "p99")
    return Table(columns, rows, "l" + "r" * 6, "Latencies, by the bounds of their buckets", (note,), wide=True)  # fmt: skip


def _bounds(q: Quantile | None) -> str:
    if q is None:
        return NOTHING
    if q.high is None:
        return f"≥ {format_seconds(q.low)}"
    return f"{format_seconds(q.low)} to {format_seconds(q.high)}"


def _numbers(m: Metrics) -> Table:
    i = m.rate_interval
    rows = [
        ("scraped every", format_seconds(m.scrape_s)),
        ("over", format_seconds(m.span_s)),
        ("requests", format_count(round(m.requests))),
    ]
    if m.rate_per_s:
        ends = f" [{format_number(i.low)}, {format_number(i.high)}]" if i else ""
        rows += [("rate", f"{format_number(m.rate_per_s)} /s{ends}"), ("counted by", m.counted_by)]
    rows += [
        (f"IDC at {fig.tick(s.window_s)}", f"{format_number(s.idc)} from {s.windows:,} windows")
        for s in m.scales
        if s.idc is not None
    ][:8]
    if m.hit_ratio is not None:
        rows.append((m.hit_definition, fixed(m.hit_ratio, 4)))
    if m.resets:
        rows.append(("counter resets", format_count(m.resets)))
    return Table(("", ""), tuple(rows), "lr", "Metrics in numbers", plain=True)

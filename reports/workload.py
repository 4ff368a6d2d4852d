"""The sections of a workload profile: arrivals, lengths, failures, cold starts, power."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from lamina_traces.aspects.arrivals import FEW_WINDOWS, Arrivals
from lamina_traces.aspects.cold_starts import ColdStarts, Component
from lamina_traces.aspects.failures import Failures
from lamina_traces.aspects.lengths import SIDES, Lengths, Margin
from lamina_traces.aspects.power import Power
from lamina_traces.distributions import Fitted, Grid
from lamina_traces.profile import Part, Profile, Stream
from lamina_traces.units import format_count, format_number, format_seconds

from . import figures as fig
from .blocks import NOTHING, Figure, Section, Sentence, Table, Tile, percent, thinned

NOUNS = {"llm_requests": "requests", "cold_starts": "cold starts", "power_samples": "readings"}
OVERLAID = 3
"""fitted laws drawn over a measured curve, best first; the table holds all."""
MOST_STREAMS = 6
MOST_DEVICES = 20


def sections(profile: Profile) -> list[Section]:
    """The sections of every part, its first stream in figures."""
    out = []
    for i, part in enumerate(profile.parts.values()):
        if not part.streams:
            continue
        suffix = "" if i == 0 else f"-{i + 1}"
        noun = NOUNS.get(part.table, "rows")
        if len(part.streams) > 1:
            out.append(_streams(part, suffix, noun))
        stream = part.streams[0]
        subtitle = stream.name if len(part.streams) > 1 else ""
        for name, aspect in stream.aspects.items():
            if isinstance(aspect, Arrivals):
                out.append(_arrivals(aspect, f"arrivals{suffix}", subtitle, noun))
            elif isinstance(aspect, Lengths):
                out.append(_lengths(aspect, f"lengths{suffix}", subtitle))
            elif isinstance(aspect, Failures):
                out.append(_failures(aspect, f"failures{suffix}", subtitle))
            elif isinstance(aspect, ColdStarts):
                out.append(_cold_starts(aspect, f"cold-starts{suffix}", subtitle))
            elif isinstance(aspect, Power):
                out.append(_power(aspect, f"power{suffix}", subtitle))
            else:
                texts = tuple(f.text for f in aspect.findings())
                out.append(Section(f"{name}{suffix}", name.replace("_", " ").capitalize(), texts))
        if part.table == "llm_requests" and "failures" not in stream.aspects:
            out.append(_no_failures(profile, f"failures{suffix}", subtitle))
    return out


def findings(profile: Profile) -> list[Sentence]:
    """What the profile says; of several streams, what the first says."""
    out = []
    for part in profile.parts.values():
        if len(part.streams) > 1:
            first = part.streams[0]
            noun = NOUNS.get(part.table, "rows")
            out.append(
                Sentence(
                    f"The profile has {len(part.streams)} streams; what follows is of the first, "
                    f"“{first.name}”, which has {percent(first.weight)} of the {noun}."
                )
            )
        for stream in part.streams[:1]:
            for aspect in stream.aspects.values():
                out += [
                    Sentence(f.text, " · ".join(x for x in (f.model, f.effect) if x))
                    for f in aspect.findings()
                ]
    return out


def tiles(profile: Profile) -> list[Tile]:
    """Key numbers, the most telling first."""
    part = next((p for p in profile.parts.values() if p.streams), None)
    if part is None:
        return []
    aspects = part.streams[0].aspects
    noun = NOUNS.get(part.table, "rows")
    a, n, f, c, p = (aspects.get(k) for k in ("arrivals", "lengths", "failures", "cold_starts", "power"))
    out = []
    if isinstance(a, Arrivals):
        out.append(Tile("mean rate", f"{format_number(a.rate_per_s)} /s", f"{a.events:,} {noun} in {format_seconds(a.span_s)}"))
        spread = [d for d in a.dispersion if d.idc is not None and d.window_s in (10.0, 60.0)]
        if spread:
            d = spread[-1]
            out.append(Tile(f"IDC at {fig.tick(d.window_s)}", format_number(d.idc), "Poisson is 1"))
            out.append(Tile("peak to mean", f"{format_number(d.peak_to_mean)} ×", f"busiest {fig.tick(d.window_s)}"))
    if isinstance(n, Lengths):
        for side in SIDES:
            q = getattr(n, side).quantiles
            out.append(Tile(f"median {side}", f"{format_number(q.get('p50'))} tokens", f"p99 {format_number(q.get('p99'))}"))
    if isinstance(f, Failures):
        out.append(Tile("failed", percent(f.rate, 2), f"{f.failed:,} of {f.requests:,}"))
    if isinstance(c, ColdStarts):
        total = c.components["total"]
        out.append(Tile("median cold start", format_seconds(total.quantiles_s.get("p50")), f"of {format_count(total.rows)}"))
        if "p99" in total.quantiles_s:
            out.append(Tile("p99 cold start", format_seconds(total.quantiles_s["p99"])))
        out.append(Tile("mean cold start", format_seconds(total.mean_s)))
    if isinstance(p, Power):
        means = [d.mean_w if d.mean_w is not None else d.sample_mean_w for d in p.devices]
        out.append(Tile("mean power", f"{format_number(float(np.mean(means)))} W", f"per device, {len(p.devices)} of them"))
        out.append(Tile("highest reading", f"{format_number(max(d.max_w for d in p.devices))} W"))
        out.append(Tile("energy", f"{format_number(sum(d.energy_j for d in p.devices) / 3600)} Wh", "all devices"))
        out.append(Tile("load factor", f"{p.load_factor:.2f}", "mean over peak"))
    return out


def _streams(part: Part, suffix: str, noun: str) -> Section:
    rows = []
    for s in part.streams[:MOST_STREAMS]:
        a, n, f = (s.aspects.get(k) for k in ("arrivals", "lengths", "failures"))
        rows.append((
            s.name,
            percent(s.weight),
            format_count(a.events) if isinstance(a, Arrivals) else NOTHING,
            format_number(a.rate_per_s) if isinstance(a, Arrivals) else NOTHING,
            format_number(a.idc(60.0)) if isinstance(a, Arrivals) else NOTHING,
            format_number(n.input.quantiles.get("p50")) if isinstance(n, Lengths) else NOTHING,
            format_number(n.output.quantiles.get("p50")) if isinstance(n, Lengths) else NOTHING,
            percent(f.rate, 2) if isinstance(f, Failures) else NOTHING,
        ))  # fmt: skip
    rest = len(part.streams) - len(rows)
    notes = (f"{rest} more streams are in the download.",) if rest > 0 else ()
    table = Table(
        ("stream", f"share of {noun}", noun, "rate, 1/s", "IDC at 1 min", "median input, tokens", "median output, tokens", "failed"),
        tuple(rows), "lrrrrrrr", notes=notes, wide=True,
    )  # fmt: skip
    text = f"{len(part.streams)} streams, each with aspects of its own. The figures below show the first, “{part.streams[0].name}”."
    return Section(f"streams{suffix}", "Streams", (text,), (table,))


# --- arrivals --------------------------------------------------------------------------------------


def _arrivals(a: Arrivals, id_: str, subtitle: str, noun: str) -> Section:
    blocks: list[Table | Figure] = [_rate_curve(a, id_, noun)]
    idc = _idc_curve(a, id_)
    if idc is not None:
        blocks.append(idc)
    numbers = Table(
        ("", ""),
        (
            (noun, format_count(a.events)),
            ("span", format_seconds(a.span_s)),
            ("mean rate", f"{format_number(a.rate_per_s)} /s"),
            ("coefficient of variation of the gaps", format_number(a.cv)),
            ("the same without the ten longest", format_number(a.cv_without_longest)),
            ("gaps of zero", percent(a.zero_gap_share)),
            ("tick of the clock", format_seconds(a.tick_s) if a.tick_s > 0 else NOTHING),
        ),
        "lr",
        "Arrivals in numbers",
        plain=True,
    )
    blocks.append(numbers)
    if a.families:
        blocks.append(_laws("Laws of the gaps between arrivals, in seconds", a.families))
    paragraphs = tuple(f.text for f in a.findings())
    return Section(id_, "Arrivals", paragraphs, tuple(blocks), subtitle)


def _rate_curve(a: Arrivals, id_: str, noun: str) -> Figure:
    rate = a.rate_curve * a.rate_per_s
    div, unit = fig.time_unit(a.window_s * len(rate))
    edges = np.arange(len(rate) + 1) * a.window_s
    x, y = edges / div, np.append(rate, rate[-1])
    mean = a.rate_per_s
    sentence = (
        f"In windows of {format_seconds(a.window_s)} the rate runs from {format_number(float(rate.min()))} to "
        f"{format_number(float(rate.max()))} {noun} per second; its mean is {format_number(mean)}."
    )
    data = [
        fig.line(x, y, "rate", fig.BLUE, line={"color": fig.BLUE, "width": 1.5, "shape": "hv"}, fill="tozeroy", fillcolor="rgba(58,127,196,0.14)",
                 hovertemplate=f"%{{x:.4g}} {unit}: %{{y:.3g}} /s<extra></extra>"),
        fig.line([x[0], x[-1]], [mean, mean], "mean", fig.ORANGE, dash="dash", width=1.5, hoverinfo="skip"),
    ]  # fmt: skip
    layout = fig.layout(
        fig.axis(f"time since the first arrival ({unit})", range=[0, float(x[-1])], showgrid=False),
        fig.axis(f"{noun} per second", rangemode="tozero"),
    )
    rows = [
        (format_seconds(float(s)), format_seconds(float(e)), format_number(float(r)), f"{format_number(float(m))} ×")
        for s, e, r, m in zip(edges[:-1], edges[1:], rate, a.rate_curve, strict=True)
    ]
    table = thinned(("from", "to", f"{noun} per second", "of the mean"), rows, "rrrr")
    return Figure(f"{id_}-rate", "Rate over time", sentence, data, layout, table)


def _idc_curve(a: Arrivals, id_: str) -> Figure | None:
    points = [
        (d.window_s, d.idc, d.windows, d.peak_to_mean)
        for d in a.dispersion
        if d.idc is not None and math.isfinite(d.idc) and d.idc > 0 and d.window_s > 0
    ]
    if not points:
        return None
    x = np.array([p[0] for p in points])
    y = np.array([p[1] for p in points])
    many = np.array([p[2] >= FEW_WINDOWS for p in points])
    tick = fig.tick
    first, last = points[0], points[-1]
    sentence = (
        f"The index of dispersion of counts goes from {format_number(first[1])} in windows of {tick(first[0])} to "
        f"{format_number(last[1])} in windows of {tick(last[0])}; a Poisson process stays at 1."
        if len(points) > 1
        else f"The index of dispersion of counts is {format_number(first[1])} in windows of {tick(first[0])}; a Poisson process's is 1."
    )
    lo, hi = float(x.min()), float(x.max())
    bottom, top = min(0.5, float(y.min())), max(2.0, float(y.max()))
    hover = "windows of %{text}: IDC %{y:.3g}<extra></extra>"
    data = [
        fig.line(10 ** np.array(fig.log_range(lo, hi)), [1, 1], "Poisson", fig.ORANGE, dash="dash", width=1.5, hoverinfo="skip"),
        fig.line(x, y, "measured", fig.BLUE, showlegend=False, hoverinfo="skip"),
        _dots(x[many], y[many], f"measured, {FEW_WINDOWS} windows or more", "circle", hover),
        _dots(x[~many], y[~many], "fewer windows: uncertain", "circle-open", hover),
    ]  # fmt: skip
    layout = fig.layout(
        fig.axis("width of the window", log=True, range=fig.log_range(lo, hi), **fig.duration_ticks(lo, hi)),
        fig.axis("variance / mean of counts (IDC)", log=True, range=fig.log_range(bottom, top), **fig.decade_ticks(bottom, top)),
    )  # fmt: skip
    rows = tuple(
        (tick(w), f"{k:,}", format_number(v), f"{format_number(peak)} ×", "" if k >= FEW_WINDOWS else "uncertain")
        for w, v, k, peak in points
    )
    table = Table(("window", "windows", "IDC", "peak to mean", ""), rows, "rrrrl")
    return Figure(f"{id_}-idc", "Burstiness across time scales", sentence, [d for d in data if d["x"]], layout, table)


def _dots(x: Any, y: Any, name: str, symbol: str, hover: str) -> dict[str, Any]:
    marker = {"symbol": symbol, "size": 8, "color": fig.BLUE, "line": {"color": fig.BLUE, "width": 1.5}}
    text = [fig.tick(float(v)) for v in x]
    return fig.line(x, y, name, fig.BLUE, mode="markers", marker=marker, text=text, hovertemplate=hover)


def _laws(caption: str, families: tuple[Fitted, ...], side: str = "") -> Table:
    best = min(f.aic_per_row for f in families)
    rows = tuple(
        (
            f.family,
            ", ".join(f"{k} {format_number(v)}" for k, v in f.params.items()),
            f"{f.ks_d:.3f}",
            f"{f.w1_log10:.3f}",
            "0" if f.aic_per_row == best else f"+{format_number(f.aic_per_row - best)}",
        )
        for f in families
    )
    return Table(("law", "parameters", "KS D", "W1, decades", "ΔAIC per row"), rows, "llrrr", caption + side)


# --- lengths ---------------------------------------------------------------------------------------


def _lengths(n: Lengths, id_: str, subtitle: str) -> Section:
    blocks: list[Table | Figure] = [
        _length_cdf(getattr(n, side), side, id_) for side in SIDES
    ]
    blocks.append(_rank_map(n, id_))
    names = ("p10", "p25", "p50", "p75", "p90", "p95", "p99")
    rows = tuple(
        (side, format_number(getattr(n, side).grid.mean), *(format_number(getattr(n, side).quantiles.get(k)) for k in names))
        for side in SIDES
    )
    quantiles = Table(("", "mean", *names), rows, "l" + "r" * 8, "Tokens per request")
    atoms = tuple(
        (side, format_number(v), percent(s)) for side in SIDES for v, s in getattr(n, side).atoms
    )
    blocks.append(quantiles)
    for side in SIDES:
        m: Margin = getattr(n, side)
        if m.families:
            blocks.append(_laws(f"Laws of the {side} length, in tokens", m.families))
    if atoms:
        blocks.append(
            Table(("", "tokens", "share of requests"), atoms, "lrr", "Atoms: single lengths that many requests share")
        )
    return Section(id_, "Lengths", tuple(f.text for f in n.findings()), tuple(blocks), subtitle)


def _length_cdf(m: Margin, side: str, id_: str) -> Figure:
    x, share = _positive(m.grid)
    q = m.quantiles
    best = m.families[0] if m.families else None
    sentence = (
        f"Half of the {side}s have at most {format_number(q.get('p50'))} tokens, 99 % at most {format_number(q.get('p99'))}"
        + (f"; the likeliest law, {best.family}, is off by at most {100 * best.ks_d:.1f} points." if best else ".")
    )
    data = [_measured(x, share, "tokens")]
    lo, hi = (float(x[0]), float(x[-1])) if len(x) else (1.0, 10.0)
    hi = max(hi, lo * 2)
    data += _overlays(m.families, lo, hi, half_step=0.5)
    layout = _cdf_layout(f"{side} tokens per request", "requests", lo, hi, fig.decade_ticks(lo, hi))
    table = _cdf_table(m.grid, m.families, f"{side} tokens", 0.5, format_number)
    return Figure(f"{id_}-{side}", f"{side.capitalize()} length", sentence, data, layout, table)


def _positive(grid: Grid) -> tuple[Any, Any]:
    """(value, share of rows up to it in percent) where a log axis can show it."""
    share = np.linspace(0, 100, len(grid.values))
    keep = grid.values > 0
    return grid.values[keep], share[keep]


def _measured(x: Any, share: Any, unit: str, name: str = "measured", colour: str = fig.BLUE) -> dict[str, Any]:
    hover = f"%{{y:.1f}} % have at most %{{x:,.4g}} {unit}<extra></extra>"
    return fig.line(x, share, name, colour, width=2.5, hovertemplate=hover)


def _overlays(families: tuple[Fitted, ...], lo: float, hi: float, half_step: float = 0.0) -> list[dict[str, Any]]:
    x = np.geomspace(lo, hi, 200)
    out = []
    with np.errstate(all="ignore"):
        for f, (colour, dash) in zip(families[:OVERLAID], fig.LINES, strict=False):
            out.append(fig.line(x, 100 * f.cdf(x + half_step), f.family, colour, dash=dash, width=1.5, hoverinfo="skip"))
    return out


def _cdf_layout(title: str, noun: str, lo: float, hi: float, ticks: dict[str, Any]) -> dict[str, Any]:
    return fig.layout(
        fig.axis(title, log=True, range=fig.log_range(lo, hi), **ticks),
        fig.axis(f"{noun} up to it (%)", range=[0, 101], dtick=25),
    )


def _cdf_table(grid: Grid, families: tuple[Fitted, ...], what: str, half_step: float, form: Any) -> Table:
    q = np.array([0.01, 0.05, 0.1, 0.25, 0.5, 0.75, 0.9, 0.95, 0.99])
    shown = families[:OVERLAID]
    with np.errstate(all="ignore"):
        laws = [f.quantile(q) - half_step for f in shown]
    rows = tuple(
        (percent(float(p), 0), form(float(v)), *(form(max(0.0, float(law[i]))) if math.isfinite(law[i]) else NOTHING for law in laws))
        for i, (p, v) in enumerate(zip(q, grid.quantile(q), strict=True))
    )
    columns = ("of the rows", f"at most, {what}", *(f.family for f in shown))
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
            "hovertemplate": "input rank %{x:.0f} %, output rank %{y:.0f} %: %{customdata:.3g} × independent<extra></extra>",
        }
    ]
    layout = fig.layout(
        fig.axis("rank of the input length (%)", range=[0, 100], dtick=25, showgrid=False, constrain="domain"),
        fig.axis("rank of the output length (%)", range=[0, 100], dtick=25, showgrid=False),
        margin={"l": 52, "r": 16, "t": 12, "b": 44},
    )
    finding = n.findings()[-1]
    sentence = f"{finding.text.rstrip('.')} ({finding.effect}). Blue cells hold fewer requests than if they did not, orange ones more."
    edges = np.linspace(0, cells, 5)
    cumulative = np.zeros((cells + 1, cells + 1))
    cumulative[1:, 1:] = (ratio / (cells * cells)).cumsum(0).cumsum(1)
    at = np.arange(cells + 1)
    by_x = np.array([np.interp(edges, at, row) for row in cumulative])
    quarters = 16 * np.diff(np.diff(np.array([np.interp(edges, at, c) for c in by_x.T]).T, axis=0), axis=1)
    names = ("lowest quarter", "second", "third", "highest quarter")
    rows = tuple((f"output: {k}", *(f"{v:.2f} ×" for v in row)) for k, row in zip(names, quarters, strict=True))
    table = Table(("", *(f"input: {k}" for k in names)), rows, "lrrrr", notes=("Requests in each cell, as a multiple of what independent lengths would give.",))  # fmt: skip
    return Figure(f"{id_}-ranks", "How lengths go together", sentence, data, layout, table)


# --- failures --------------------------------------------------------------------------------------


def _failures(f: Failures, id_: str, subtitle: str) -> Section:
    independent = 1 / (1 - f.rate) if f.rate < 1 else math.inf
    numbers = Table(
        ("", ""),
        (
            ("requests with a recorded status", format_count(f.requests)),
            ("failed", f"{format_count(f.failed)} ({percent(f.rate, 2)})"),
            ("95 % interval, were they independent", f"{percent(f.rate_low, 2)} to {percent(f.rate_high, 2)}"),
            ("P(fail | the last succeeded)", percent(f.p_fail_after_ok, 2)),
            ("P(fail | the last failed)", percent(1 - f.p_ok_after_fail, 2) if f.failed else NOTHING),
            ("mean run of failures", f"{format_number(f.mean_run)} ({format_number(independent)} if independent)" if f.failed else NOTHING),
            ("longest run", format_count(f.longest_run)),
        ),
        "lr",
        "Failures in numbers",
        plain=True,
    )  # fmt: skip
    blocks: tuple[Table | Figure, ...] = (numbers,)
    if f.kinds:
        rows = tuple((k, percent(s), percent(w)) for k, (s, w) in f.kinds.items())
        blocks = (numbers, Table(("status", "share of failures", "without lengths"), rows, "lrr", "Kinds of failure"))
    return Section(id_, "Failures", tuple(x.text for x in f.findings()), blocks, subtitle)


def _no_failures(profile: Profile, id_: str, subtitle: str) -> Section:
    said = [n.text for n in profile.notices if n.subject == "failures"]
    text = said[0] if said else "the profile holds no failures; log a status for each request"
    return Section(id_, "Failures", (f"Not known: {text}.",), (), subtitle)


# --- cold starts -----------------------------------------------------------------------------------


def _cold_starts(c: ColdStarts, id_: str, subtitle: str) -> Section:
    blocks: list[Table | Figure] = []
    drawn = {k: v for k, v in c.components.items() if v.grid is not None and (v.grid.values > 0).any()}
    order = sorted(drawn, key=lambda k: (k != "total", -drawn[k].mean_s))[:5]
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
    notes = ("A p99 needs 1,000 cold starts.",) if any("p99" not in v.quantiles_s for v in c.components.values()) else ()
    blocks.append(Table(columns, rows, "l" + "r" * 8, "Time by step", notes, wide=not order))
    total = c.components["total"]
    if total.families:
        blocks.append(_laws("Laws of the whole cold start, in seconds", total.families))
    return Section(id_, "Cold starts", tuple(f.text for f in c.findings()), tuple(blocks), subtitle)


def _cold_start_cdf(components: dict[str, Component], id_: str) -> Figure:
    data, rows = [], []
    colours = ((fig.BLUE, "solid"), *fig.LINES)
    low, high = math.inf, 0.0
    q = np.array([0.1, 0.25, 0.5, 0.75, 0.9])
    for (k, c), (colour, dash) in zip(components.items(), colours, strict=False):
        if c.grid is None:
            continue
        x, share = _positive(c.grid)
        low, high = min(low, float(x[0])), max(high, float(x[-1]))
        hover = f"{fig.plain(k)}: %{{y:.1f}} % within %{{x:.3g}} s<extra></extra>"
        data.append(fig.line(x, share, k.replace("_", " "), colour, dash=dash, hovertemplate=hover))
        rows.append((k.replace("_", " "), *(format_seconds(float(v)) for v in c.grid.quantile(q))))
    low = max(low, high / 1e6)
    total = next(iter(components.values()))
    sentence = f"Half of the cold starts take at most {format_seconds(total.quantiles_s.get('p50'))}, nine of ten at most {format_seconds(total.quantiles_s.get('p90'))}."
    layout = _cdf_layout("time", "cold starts", low, max(high, 2 * low), fig.duration_ticks(low, max(high, 2 * low)))
    table = Table(("step", *(percent(float(p), 0) for p in q)), tuple(rows), "lrrrrr")
    return Figure(f"{id_}-cdf", "How long each step takes", sentence, data, layout, table)


# --- power -----------------------------------------------------------------------------------------


def _power(p: Power, id_: str, subtitle: str) -> Section:
    blocks: list[Table | Figure] = []
    if p.load_duration is not None:
        blocks.append(_load_duration(p, p.load_duration, id_))
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
    columns = ("device", "domain", "readings", "mean, W", "lowest, W", "highest, W", "largest rise, W", "energy, Wh", "covered")
    rest = len(p.devices) - len(rows)
    notes = (f"{rest} more devices are in the download.",) if rest > 0 else ()
    blocks.append(Table(columns, rows, "ll" + "r" * 7, "Devices", notes, wide=True))
    return Section(id_, "Power", tuple(f.text for f in p.findings()), tuple(blocks), subtitle)


def _load_duration(p: Power, grid: Grid, id_: str) -> Figure:
    watts = grid.values[::-1]
    share = np.linspace(0, 100, len(watts))
    q = np.array([0.01, 0.05, 0.1, 0.25, 0.5, 0.75, 0.9])
    at = grid.quantile(1 - q)
    sentence = (
        f"A device draws more than {format_number(float(at[4]))} W half of the time and more than "
        f"{format_number(float(at[1]))} W for 5 % of it."
    )
    data = [
        fig.line(share, watts, "readings", fig.BLUE, fill="tozeroy", fillcolor="rgba(58,127,196,0.14)", showlegend=False,
                 hovertemplate="%{x:.1f} % of readings draw %{y:.4g} W or more<extra></extra>"),
        fig.line([0, 100], [grid.mean] * 2, "mean", fig.ORANGE, dash="dash", width=1.5, hoverinfo="skip"),
    ]  # fmt: skip
    layout = fig.layout(
        fig.axis("readings at or above (%)", range=[0, 100], dtick=25), fig.axis("power per device (W)", rangemode="tozero")
    )
    rows = tuple((percent(float(a), 0), f"{format_number(float(v))} W") for a, v in zip(q, at, strict=True))
    table = Table(("of the readings", "draw at least"), rows, "rr")
    return Figure(f"{id_}-duration", "Load-duration curve", sentence, data, layout, table, wide=True)


def streams_of(profile: Profile) -> list[Stream]:
    """The first stream of each part: those whose figures are on the page."""
    return [p.streams[0] for p in profile.parts.values() if p.streams]

"""A simulated run on the page: latencies, the engine over time, what binds, the bill."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from lamina_traces.units import NS_PER_S, format_number, format_seconds

from . import figures as fig
from .blocks import (
    NOTHING,
    Block,
    Figure,
    Section,
    Sentence,
    Table,
    Tile,
    joined,
    number,
    percent,
    shown,
    thinned,
)

if TYPE_CHECKING:
    from lamina_traces.runs import Run

LATENCIES = {
    "ttft": "first token",
    "tpot": "per output token",
    "e2e": "whole request",
    "queue": "in the queue",
}
STATISTICS = ("mean", "p50", "p90", "p95", "p99", "p99.9")

_Rows = tuple[tuple[str, str, str], ...]  # metric, words, how it is shown
SERVED: _Rows = (
    ("requests_offered", "requests offered", "count"),
    ("requests_completed", "completed", "count"),
    ("requests_failed", "failed, as recorded", "count"),
    ("requests_rejected", "rejected", "count"),
    ("requests_unfinished", "unfinished", "count"),
    ("requests_preempted", "preempted at least once", "count"),
    ("requests_per_s", "requests per second", "number"),
    ("input_tokens_per_s", "input tokens per second", "number"),
    ("output_tokens_per_s", "output tokens per second", "number"),
    ("slo_attainment", "met their limits", "share"),
    ("goodput_req_s", "goodput, requests per second", "number"),
)
ENGINE: _Rows = (
    ("busy_frac", "time in iterations", "share"),
    ("iterations", "iterations", "count"),
    ("batch_mean", "sequences in a mean iteration", "number"),
    ("kv_mean_frac", "KV cache in use, mean", "share"),
    ("kv_peak_frac", "KV cache in use, highest", "share"),
    ("preemptions", "preemptions", "count"),
    ("mfu_busy_mean", "of peak FLOP/s while busy", "share"),
    ("mbu_busy_mean", "of peak bandwidth while busy", "share"),
)
BILL: _Rows = (
    ("devices", "devices", "count"),
    ("device_hours", "device-hours", "number"),
    ("usd_per_hour", "price per hour", "usd"),
    ("usd", "money", "usd"),
    ("usd_per_m_total_tokens", "per million tokens, input and output", "usd"),
    ("usd_per_m_output_tokens", "per million output tokens", "usd"),
    ("energy_j", "energy", "energy"),
    ("power_mean_w", "mean power", "watt"),
    ("energy_per_total_token_j", "energy per token", "joule"),
    ("energy_per_output_token_j", "energy per output token", "joule"),
)


def section(run: Run) -> Section:
    """The simulation: what was simulated, latencies, the engine over time, what binds, the bill."""
    w = run.workload
    how, _, most = str(w.get("replay")).partition(", ")
    replay = (
        "requests wait for the turns before them" if how == "session" else "arrivals as recorded"
    )
    replay += f", {most}" if most else ""
    if w.get("failures") == "recorded":
        replay += "; requests that failed as recorded load the engine and fail"
    text = f"{shown(w.get('requests'))} requests of “{w.get('name')}”, a {shown(w.get('source'))} trace; {replay}. "
    text += (
        f"Techniques: {', '.join(run.techniques)}." if run.techniques else "No technique applied."
    )
    latencies, time = _latency_cdf(run), _over_time(run)
    blocks: list[Block] = [] if latencies is None else [latencies]
    blocks.append((_latencies(run), _limits(run)) if run.slo else _latencies(run))
    if time is not None:
        blocks.append(time)
    blocks += [
        t
        for t in (
            _numbers("Served", SERVED, run.metrics),
            _numbers("The engine", ENGINE, run.metrics),
            _numbers("The bill, over provisioned device-hours", BILL, run.metrics),
            _groups(run),
            _deployment(run),
        )
        if t is not None
    ]
    if run.explain:
        blocks.append(_explain(run))
    return Section(
        "simulation", "Simulation", (text,), tuple(blocks), str(run.deployment.get("text") or "")
    )


def findings(run: Run) -> list[Sentence]:
    """The run in sentences: latency and load, then memory and preemptions, then money and energy."""
    m = run.metrics
    out = [Sentence(run.headline())]
    if m.get("saturated"):
        out.append(
            Sentence("Its latencies grow with the length of the trace, so no percentile is given.")
        )
    kv, preempted = number(m.get("kv_peak_frac")), number(m.get("preemptions"))
    if kv is not None:
        text = f"At most {percent(kv, 0)} of the KV cache is in use"
        if preempted is not None:
            text += (
                f"; {preempted:,.0f} preemption{'s' if preempted != 1 else ''}"
                if preempted
                else "; no request is preempted"
            )
        out.append(Sentence(text + "."))
    usd, joule, watt = (
        number(m.get(k))
        for k in ("usd_per_m_total_tokens", "energy_per_output_token_j", "power_mean_w")
    )
    if usd is not None:
        text = f"A million tokens, input and output together, cost ${_cents(usd)}"
        if joule is not None:
            text += f", an output token {format_number(joule)} J"
        if watt is not None:
            text += f"; the devices draw {format_number(watt)} W on average"
        out.append(Sentence(text + "."))
    for v in run.slo:
        observed, share = number(v.get("observed_s")), number(v.get("share"))
        held = "holds" if v.get("ok") else "does not hold"
        if v.get("each") and share is not None:
            text = f"The limit {v.get('limit')} {held}: {share:.1%} of the requests are within it"
        elif observed is None:
            text = f"The limit {v.get('limit')} counts as missed: its percentile is not given"
        else:
            text = f"The limit {v.get('limit')} {held}: {format_seconds(observed)} was observed"
        out.append(Sentence(text + "."))
    return out


def tiles(run: Run) -> list[Tile]:
    """Key numbers of the run; of a saturated one what it serves, since it has no percentiles."""
    m = run.metrics
    seconds = {
        k: format_seconds(number(m.get(f"{k}_s")))
        for k in ("ttft_p50", "ttft_p99", "tpot_p50", "tpot_p99")
    }
    usd, busy = number(m.get("usd_per_m_total_tokens")), number(m.get("busy_frac"))
    price = f"${_cents(usd)}" if usd is not None else NOTHING
    bill = Tile("million tokens", price, f"engine busy {percent(busy, 0)}")
    if m.get("saturated"):
        served, arriving = number(m.get("requests_per_s")), number(run.workload.get("rate_per_s"))
        return [
            Tile("steady state", "none", "saturated"),
            Tile("served", f"{format_number(served)} /s", f"{format_number(arriving)} /s arrive"),
            bill,
        ]
    return [
        Tile("p99 first token", seconds["ttft_p99"], f"median {seconds['ttft_p50']}"),
        Tile("median output token", seconds["tpot_p50"], f"p99 {seconds['tpot_p99']}"),
        bill,
    ]


def _cents(usd: float) -> str:
    return f"{usd:,.2f}" if usd >= 0.1 else format_number(usd)


def _value(kind: str, x: Any) -> str:
    v = number(x)
    if v is None:
        return NOTHING if x is None else shown(x)
    if kind == "energy":
        return f"{format_number(v / 3.6e6)} kWh" if v >= 3.6e5 else f"{format_number(v)} J"
    forms = {
        "count": f"{v:,.0f}", "share": percent(v), "usd": f"${_cents(v)}",
        "watt": f"{format_number(v)} W", "joule": f"{format_number(v)} J",
    }  # fmt: skip
    return forms.get(kind, format_number(v))


def _numbers(caption: str, wanted: _Rows, metrics: Mapping[str, Any]) -> Table | None:
    """The metrics that the run has; one that is None says why below the table."""
    rows, notes = [], []
    for key, words, kind in wanted:
        if key not in metrics:
            continue
        rows.append((words, _value(kind, metrics[key])))
        why = metrics.get(f"{key}_why")
        if metrics[key] is None and why:
            notes.append(f"{words}: {why}")
    return Table(("", ""), tuple(rows), "lr", caption, tuple(notes), plain=True) if rows else None


def _latencies(run: Run) -> Table:
    m = run.metrics
    rows = tuple(
        (words, *(format_seconds(number(m.get(f"{k}_{s}_s"))) for s in STATISTICS))
        for k, words in LATENCIES.items()
    )
    reasons: dict[str, list[tuple[str, str]]] = {}
    for k in LATENCIES:
        for s in STATISTICS:
            why = m.get(f"{k}_{s}_s_why")
            if why is not None:
                reasons.setdefault(str(why), []).append((k, s))
    notes = tuple(f"No {_which(missing)}: {why}." for why, missing in reasons.items())
    return Table(
        ("", *STATISTICS), rows, "l" + "r" * len(STATISTICS), "Latencies, as simulated", notes
    )


def _which(missing: list[tuple[str, str]]) -> str:
    """``"p99 or p99.9 of any latency"`` where every latency misses the same, else each by name."""
    latencies = list(dict.fromkeys(k for k, _ in missing))
    statistics = list(dict.fromkeys(s for _, s in missing))
    if len(missing) < len(latencies) * len(statistics):
        return joined(f"{k} {s}" for k, s in missing)
    of = (
        "any latency"
        if len(latencies) == len(LATENCIES)
        else joined(LATENCIES[k] for k in latencies)
    )
    return f"{joined(statistics, 'or')} of {of}"


MOST_GROUPS = 20


def _groups(run: Run) -> Table | None:
    """Latencies by group, the largest ones."""
    rows = run.group_rows()[:MOST_GROUPS]
    if not rows:
        return None
    more = len(run.groups) - len(rows)
    notes = (
        (f"The {MOST_GROUPS} largest groups; {more:,} more are in the run's JSON.",) if more else ()
    )
    columns = tuple(rows[0])
    cells = tuple(tuple(r.values()) for r in rows)
    return Table(columns, cells, "l" + "r" * (len(columns) - 1), f"By {run.by}", notes, wide=True)


def _limits(run: Run) -> Table:
    rows = tuple(
        (
            str(v.get("limit")),
            format_seconds(number(v.get("observed_s"))),
            "holds" if v.get("ok") else "missed",
        )
        for v in run.slo
    )
    return Table(("limit", "observed", ""), rows, "lrl", "Limits")


def _deployment(run: Run) -> Table | None:
    pools = run.deployment.get("pools", ())
    hidden = {"text", "pools"} | ({"gpu", "tp"} if len(pools) > 1 else set())
    rows = tuple(
        (str(k).replace("_", " "), shown(v)) for k, v in run.deployment.items() if k not in hidden
    )
    if len(pools) > 1:
        rows += tuple(("pool", str(p["text"])) for p in pools)
    return Table(("", ""), rows, "lr", "The deployment", plain=True) if rows else None


def _explain(run: Run) -> Table:
    pools = run.deployment.get("pools", ())
    several = len(pools) > 1
    rows = tuple(
        (
            *((str(pools[e["pool"]]["text"]),) if several else ()),
            str(e.get("op")),
            percent(number(e.get("share"))),
            format_number(number(e.get("ms"))),
            shown(e.get("binds")),
            format_number(number(e.get("gflop"))),
            format_number(number(e.get("gb"))),
            format_number(number(e.get("net_gb"))),
        )
        for e in run.explain
    )
    columns = (
        *(("pool",) if several else ()),
        "operator",
        "of busy time",
        "time, ms",
        "bound by",
        "GFLOP",
        "memory, GB",
        "network, GB",
    )
    notes = ("FLOPs, bytes and times of the mean busy iteration; the share is of the whole run.",)
    return Table(
        columns,
        rows,
        "l" * several + "lrrlrrr",
        "Where the time of an iteration goes",
        notes,
        wide=True,
    )


# --- figures ---------------------------------------------------------------------------------------


def _latency_cdf(run: Run) -> Figure | None:
    data = []
    low, high = np.inf, 0.0
    colours = {"ttft": (fig.BLUE, "solid"), "tpot": (fig.GREEN, "dot"), "e2e": (fig.ORANGE, "dash")}
    names = {"ttft": "first token", "tpot": "per output token", "e2e": "whole request"}
    rows = []
    q = np.array([0.01, 0.1, 0.25, 0.5, 0.75, 0.9, 0.95, 0.99])
    for key, (colour, dash) in colours.items():
        if f"{key}_s" not in run.rows.columns:
            continue
        values = run.rows[f"{key}_s"].drop_nulls().to_numpy().astype(np.float64)
        values = values[np.isfinite(values) & (values > 0)]
        if len(values) < 2:
            continue
        x, share = fig.quantile_curve(values)
        low, high = min(low, float(x[0])), max(high, float(x[-1]))
        hover = f"{names[key]}: %{{y:.4g}}% within %{{x:.3g}} s<extra></extra>"
        data.append(fig.line(x, 100 * share, names[key], colour, dash=dash, hovertemplate=hover))
        rows.append((names[key], *(format_seconds(float(v)) for v in np.quantile(values, q))))
    if not data:
        return None
    high = max(high, 2 * low)
    m = run.metrics
    sentence = "Shares of requests within a time, for the first token, each later token and the whole request"
    p50, p99 = number(m.get("ttft_p50_s")), number(m.get("ttft_p99_s"))
    if p50 is not None and p99 is not None and p50 > 0:
        sentence = f"The slowest hundredth of the requests waits {format_number(p99 / p50)} times as long for its first token as the median one"
    if m.get("saturated"):
        sentence = "No steady state: these times grow with the length of the trace"
    layout = fig.cdf_layout(
        "latency", "share of requests (%)", low, high, fig.duration_ticks(low, high)
    )
    table = Table(("", *(percent(float(p), 0) for p in q)), tuple(rows), "l" + "r" * len(q))
    return Figure("simulation-latency", "Latencies", sentence + ".", data, layout, table)


def _over_time(run: Run) -> Figure | None:
    """Batch, time in iterations, KV cache and power, one above the other over one time axis."""
    w = run.windows
    if not w.height:
        return None
    starts, window = np.unique(w["arrival_ns"].to_numpy(), return_inverse=True)
    width = float(w["window_s"].to_numpy().max())
    t = (starts - starts[0]) / NS_PER_S

    def mean(values: Any) -> fig.Array:
        # numpy sums in the order of the rows: the same rows give the same bytes
        return np.bincount(window, weights=values) / np.bincount(window)

    busy = 100 * mean((w["busy_s"] / w["window_s"]).to_numpy())
    panels: list[tuple[str, fig.Array, fig.Array, str]] = [
        ("sequences in the batch", t, mean(w["mean_batch"].to_numpy()), "{y:.3g}"),
        ("time in iterations (%)", t, busy, "{y:.3g}%"),
        ("KV cache in use (%)", t, 100 * mean(w["mean_kv_frac"].to_numpy()), "{y:.3g}%"),
    ]
    if run.power.height:
        at, sample = np.unique(run.power["arrival_ns"].to_numpy(), return_inverse=True)
        watts = np.bincount(sample, weights=run.power["power_w"].to_numpy()).astype(np.float64)
        panels.append(("power, all devices (W)", (at - starts[0]) / NS_PER_S, watts, "{y:.4g} W"))
    full = float((busy > 95).mean())
    sentence = f"Means over windows of {format_seconds(width)} and over replicas. " + (
        f"In {percent(full, 0)} of the windows the engine is in iterations 95% of the time or more."
        if full
        else "In no window is the engine in iterations 95% of the time or more."
    )
    end = float(t[-1]) + width
    data, layout = _stacked(panels, end)
    rows = [
        (
            format_seconds(float(s)),
            *(format_number(float(np.interp(s, x, y))) for _, x, y, _ in panels),
        )
        for s in t
    ]
    table = thinned(("from", *(name for name, *_ in panels)), rows, "r" * (len(panels) + 1))
    return Figure(
        "simulation-time",
        "The engine over time",
        sentence,
        data,
        layout,
        table,
        wide=True,
        tall=True,
    )


def _stacked(
    panels: list[tuple[str, fig.Array, fig.Array, str]], end_s: float
) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """Small panels (name, seconds, values, how a value is shown) over one time axis, top to bottom."""
    div, unit = fig.time_unit(end_s)
    n, gap = len(panels), 0.075
    height = (1 - gap * (n - 1)) / n
    data, names = [], []
    axes: dict[str, Any] = {}
    for i, (name, seconds, values, form) in enumerate(panels):
        k = "" if i == 0 else str(i + 1)
        top = 1 - i * (height + gap)
        x, y = fig.min_max(seconds / div, values, fig.MAX_POINTS // n)
        hover = f"%{{x:.4g}} {unit}: %{form}<extra></extra>"
        more: dict[str, Any] = {
            "xaxis": "x",
            "yaxis": f"y{k}",
            "showlegend": False,
            "hovertemplate": hover,
        }
        data.append(fig.line(x, y, name, fig.BLUE, width=1.3, **more))
        axes[f"yaxis{k}"] = fig.axis(
            "", domain=[max(0.0, top - height), top], rangemode="tozero", nticks=4
        )
        names.append({
            "text": name, "xref": "paper", "yref": "paper", "x": 0, "y": top, "xanchor": "left", "yanchor": "bottom",
            "showarrow": False, "font": {"color": "$ink", "size": 12},
        })  # fmt: skip
    time = fig.axis(
        f"time since the first arrival ({unit})",
        anchor=f"y{n if n > 1 else ''}",
        showgrid=False,
        range=[0, end_s / div],
    )
    margin = {"l": 52, "r": 16, "t": 26, "b": 44}
    return data, fig.layout(time, {}, annotations=names, showlegend=False, margin=margin) | axes

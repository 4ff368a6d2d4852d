"""Sessions on the page: turns, the times between them, contexts that grow."""

from __future__ import annotations

from typing import Any

import numpy as np

from lamina_traces.aspects.sessions import Sessions
from lamina_traces.units import format_count, format_number, format_seconds

from . import figures as fig
from .blocks import NOTHING, Block, Figure, Method, Section, Table, Tile, percent
from .durations import laws, quantiles
from .tallies import percent_with_ends, tally_figure, with_ends

METHODS = (
    Method(
        "Turns of a session",
        "A session that begins or ends within the 90th percentile of the time between turns of an edge of the trace (or of a mask) may go on "
        "behind it. Laws are of the sessions that begin inside; those that end at an edge enter as survivors. The negative binomial is of the turns beyond the first.",
        "L = Π P(turns = k) · Π P(turns ≥ k, cut at the end)",
    ),
    Method(
        "Time between turns",
        "Think time runs from the last token of an answer to the next turn's arrival; the turn gap from arrival to arrival, service included. "
        "A turn that arrives before the answer before it has ended has no think time; how many do is stated.",
    ),
    Method(
        "Contexts",
        "A later prompt is cumulative where it is no shorter than the prompt and the answer before it. What a turn adds is the difference.",
    ),
)
NAMES = {
    "think_time": "think time",
    "turn_gap": "turn gap",
    "recorded_delay": "delay as stated",
    "duration": "whole session",
}
CURVES = (("think_time", fig.BLUE, "solid"), ("turn_gap", fig.GREEN, "dash"), ("recorded_delay", fig.PURPLE, "dot"))  # fmt: skip


def section(s: Sessions, id_: str, subtitle: str) -> Section:
    blocks: list[Block] = []
    turns = tally_figure(s.turns, f"{id_}-turns", "Turns per session", "sessions", "turns")
    if turns is not None:
        blocks.append(turns)
    if s.between is not None and s.between[1].grid is not None:
        blocks.append(_times(s, id_))
    if len(s.by_turn) > 1:
        blocks.append(_contexts(s, id_))
    blocks.append(_numbers(s))
    known = {text: d for k, text in NAMES.items() if (d := getattr(s, k)) is not None}
    if known:
        blocks.append(quantiles(known, "Times of sessions", ""))
    if s.turns.families:
        blocks.append(laws("Laws of the turns of a session", s.turns.families))
    if s.between is not None and s.between[1].families:
        name, d = s.between
        blocks.append(laws(f"Laws of the {NAMES[name]}, in seconds", d.families))
    return Section(id_, "Sessions", (), tuple(blocks), subtitle)


def tiles(s: Sessions) -> list[Tile]:
    """Key numbers."""
    return [
        Tile("turns a session", format_number(s.turns.mean), f"{format_count(s.sessions)} sessions"),
        *([Tile(f"median {NAMES[s.between[0]]}", format_seconds(s.between[1].quantiles_s["p50"]))] if s.between else []),
    ]  # fmt: skip


def _numbers(s: Sessions) -> Table:
    about = "" if s.share == 1 else f" (estimated from {percent(s.share)} of them)"
    rows = [
        ("sessions", f"{format_count(s.sessions)}{about}"),
        ("requests in them", format_count(s.requests)),
        ("turns per session", with_ends(format_number(s.turns.mean), s.turns.interval)),
        ("sessions of one turn", percent_with_ends(s.single.value, s.single.interval)),
        ("requests in longer sessions", percent_with_ends(s.multi_turn_requests.value, s.multi_turn_requests.interval)),
        ("sessions cut by an edge", percent(s.censored)),
        ("turns that come before the answer has ended", percent(s.overlapping)),
        ("open at a time, mean", format_number(s.open_mean)),
        ("open at a time, most", format_number(s.open_peak)),
    ]  # fmt: skip
    if s.context is not None:
        c = s.context
        rows += [
            ("later prompts that hold prompt and answer before", percent_with_ends(c.cumulative.value, c.cumulative.interval)),
            ("later prompts no shorter than the prompt before", percent_with_ends(c.growing.value, c.growing.interval)),
            ("tokens that a later turn adds, median", format_number(float(c.new_tokens.quantile(np.array([0.5]))[0])) if c.new_tokens else NOTHING),
        ]  # fmt: skip
    return Table(("", ""), tuple(rows), "lr", "Sessions in numbers", plain=True)


def _times(s: Sessions, id_: str) -> Figure:
    data: list[dict[str, Any]] = []
    ends: list[float] = []
    rows = []
    for name, colour, dash in CURVES:
        d = getattr(s, name)
        if d is None or d.grid is None:
            continue
        x, share = fig.grid_cdf(d.grid)
        if len(x) < 2:
            continue
        ends += [float(x[0]), float(x[-1])]
        hover = f"%{{y:.1f}}% of the {NAMES[name]}s are at most %{{x:.3g}} s<extra></extra>"
        data.append(fig.line(x, share, NAMES[name], colour, dash=dash, hovertemplate=hover))
        rows += [(NAMES[name], k, format_seconds(v)) for k, v in d.quantiles_s.items()]
    best = s.between[1].best if s.between else None
    lo, hi = max(min(ends), max(ends) / 1e7), max(ends)
    if best is not None:
        at = np.geomspace(lo, hi, 200)
        data.append(
            fig.line(at, 100 * best.cdf(at), best.family, fig.ORANGE, dash="dashdot", width=1.5, hoverinfo="skip")
        )  # fmt: skip
    said = [
        f"half of the {NAMES[k]}s are at most {format_seconds(getattr(s, k).quantiles_s['p50'])}"
        for k, _, _ in CURVES
        if getattr(s, k) is not None
    ]
    sentence = "; ".join(said)
    layout = fig.cdf_layout(
        "time between turns", "up to it (%)", lo, hi, fig.duration_ticks(lo, hi)
    )
    table = Table(("", "quantile", "time"), tuple(rows), "lrr")
    return Figure(
        f"{id_}-times",
        "Time between turns",
        sentence[:1].upper() + sentence[1:] + ".",
        data,
        layout,
        table,
    )


def _contexts(s: Sessions, id_: str) -> Figure:
    data = []
    values: list[float] = []
    for side, colour, dash in (("input", fig.BLUE, "solid"), ("output", fig.ORANGE, "dash")):
        points = [(t.turn, v) for t in s.by_turn if (v := getattr(t, f"{side}_tokens"))]
        if points:
            x, y = zip(*points, strict=True)
            values += y
            hover = f"turn %{{x}}: median {side} %{{y:,.4g}} tokens<extra></extra>"
            data.append(
                fig.line(x, y, side, colour, dash=dash, mode="lines+markers", marker={"size": 5, "color": colour}, hovertemplate=hover)
            )  # fmt: skip
    lo, hi = (min(values), max(values)) if values else (1.0, 10.0)
    hi = max(hi, 1.2 * lo)
    first, last = s.by_turn[0], s.by_turn[-1]
    sentence = (
        f"The median prompt goes from {format_number(first.input_tokens)} tokens at turn {first.turn} to "
        f"{format_number(last.input_tokens)} at turn {last.turn}."
    )
    layout = fig.layout(
        fig.axis("turn", showgrid=False),
        fig.axis("median tokens", log=True, range=fig.log_range(lo, hi), **fig.decade_ticks(lo, hi)),
    )  # fmt: skip
    rows = tuple(
        (
            str(t.turn),
            format_count(t.requests),
            format_number(t.input_tokens),
            format_number(t.output_tokens),
        )
        for t in s.by_turn
    )
    table = Table(("turn", "requests", "median input", "median output"), rows, "rrrr")
    return Figure(f"{id_}-contexts", "Lengths by turn", sentence, data, layout, table)

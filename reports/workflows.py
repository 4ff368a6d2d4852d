"""Workflows on the page: calls per task, shapes, delays, names of stages."""

from __future__ import annotations

import numpy as np

from lamina_traces.aspects.workflows import Workflows
from lamina_traces.distributions import Grid
from lamina_traces.units import format_count, format_number

from .blocks import NOTHING, Block, Method, Section, Table, Tile, percent
from .durations import laws, quantiles, survival_figure
from .tallies import percent_with_ends, tallies, tally_figure

METHODS = (
    Method(
        "Graphs of calls",
        "Where the source records what a call waits for, figures follow these edges. Where it does not, a call is taken to wait for all calls of its "
        "workflow that had ended before it began: depth is then an upper bound, and the widest level a lower one. Shapes of fewer than ten workflows are pooled.",
        "level(call) = 1 + max level(parents)",
    ),
    Method(
        "Times of workflows",
        "The makespan runs from the first arrival to the last end; it is busy while at least one call runs. The model path is the longest sum of calls' own times along the edges, what tools without delay would leave.",
    ),
)
NAMES = {
    "calls_per_workflow": "calls",
    "depth": "calls on the longest path",
    "width": "calls of the widest level",
    "parallel": "calls that run at once",
    "fan_out": "calls that wait for one (of those any wait for)",
    "fan_in": "calls that one waits for (of those that wait)",
}
ORDERS = {"edges": "recorded edges", "times": "times alone", "none": NOTHING}
DELAYS = {
    "think": "think",
    "tool": "tool",
    "unnamed": "stated, without a name",
    "derived": "from ends and arrivals",
}


def section(w: Workflows, id_: str, subtitle: str) -> Section:
    if not w.tallies:
        text = f"{w.calls:,} calls of {w.workflows:,} workflows: too few to say more without telling of single ones."
        return Section(id_, "Workflows", (text,), (), subtitle)
    blocks: list[Block] = []
    calls = w.tallies.get("calls_per_workflow")
    if calls is not None:
        drawn = tally_figure(calls, f"{id_}-calls", "Calls per workflow", "workflows", "calls")
        blocks += [drawn] if drawn is not None else []
    if w.makespan is not None:
        whole = survival_figure(
            w.makespan, f"{id_}-makespan", "Makespan of a workflow", "workflows"
        )
        blocks += [whole] if whole is not None else []
    if w.shapes:
        rows = tuple((s.label, format_count(s.workflows), percent(s.share)) for s in w.shapes)
        notes = () if w.order == "edges" else ("Levels by times alone: edges are not recorded.",)
        blocks.append(Table(("shape", "workflows", "share"), rows, "lrr", "Shapes", notes))
    counted = tallies({NAMES[k]: t for k, t in w.tallies.items()}, "Calls in numbers")
    blocks.append((_numbers(w), counted))
    times = {DELAYS[k]: d for k, d in w.delays.items()}
    whole_times = {"makespan": w.makespan, "model path": w.model_path}
    known = {k: d for k, d in whole_times.items() if d is not None} | times
    if known:
        blocks.append(quantiles(known, "Times of workflows, and delays between calls", ""))
    if calls is not None and calls.families:
        blocks.append(laws("Laws of the calls of a workflow", calls.families))
    for kind, d in w.delays.items():
        if d.families:
            blocks.append(laws(f"Laws of the delays ({DELAYS[kind]}), in seconds", d.families))
    if w.stages:
        stages = tuple((n, percent(s)) for n, s in w.stages)
        blocks.append(Table(("stage", "share of the calls"), stages, "lr", "Stages"))
    return Section(id_, "Workflows", (), tuple(blocks), subtitle)


def tiles(w: Workflows) -> list[Tile]:
    """Key numbers."""
    calls = w.tallies.get("calls_per_workflow")
    if calls is None:
        return []
    return [
        Tile(
            "calls a workflow", format_number(calls.mean), f"{format_count(w.workflows)} workflows"
        )
    ]


def _numbers(w: Workflows) -> Table:
    about = "" if w.share == 1 else f" (estimated from {percent(w.share)} of them)"
    rows = [
        ("workflows", f"{format_count(w.workflows)}{about}"),
        ("calls", format_count(w.calls)),
        ("calls are ordered by", ORDERS[w.order]),
        ("sequential workflows", percent_with_ends(w.sequential.value, w.sequential.interval) if w.sequential else NOTHING),
        ("share of the makespan with a call running", percent(w.busy_share)),
        ("input tokens of a workflow, median", _median(w.input_tokens)),
        ("output tokens of a workflow, median", _median(w.output_tokens)),
    ]  # fmt: skip
    return Table(("", ""), tuple(rows), "lr", "Workflows in numbers", plain=True)


def _median(g: Grid | None) -> str:
    return format_number(float(g.quantile(np.array([0.5]))[0])) if g else NOTHING

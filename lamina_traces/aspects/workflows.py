"""Workflows: how many calls an agent's task makes, how they hang together, and what it waits for beside the model.

Where the source records what a call waits for (``depends_on``), figures follow these edges. Where it does not, times stand
in: a call is taken to wait for all calls of its workflow that had ended before it began, of which those that ended last
say it all (``dags.edges_by_time``). That makes the longest paths that times allow, so depth is an upper bound and width
a lower one; ``order`` says which of the two was used.

- ``depth``: calls on the longest path; ``width``: most calls of one level (as many edges or calls before them);
- ``parallel``: most calls that run at once, from times alone;
- ``model_path``: the longest sum of calls' own times along a path, what tools without delay would leave;
- ``busy_share``: of the time from first arrival to last end, how much has at least one call running.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from ..counts import Counts
from ..distributions import K_ANONYMITY, Fitted, Grid
from ..errors import ModelError, Notice
from ..units import format_number, format_seconds, short
from . import Finding, Line, dags, templates
from .call_graphs import (
    KINDS,
    ORDERS,
    Graphs,
    Shape,
    delays,
    graphs,
    inferred,
    law,
    shapes,
    stages,
    timed,
)
from .calls import Calls, read
from .conversations import NONE
from .dags import Flags, Ints
from .durations import Durations
from .modulation import Modulation
from .rate_levels import of_instants
from .rates import origin_of_day_ns
from .ratios import Ratio, Units, rounded_share, share_of
from .tallies import Tally, tally
from .templates import Template
from .timeline import Timeline
from .timings import shortened

if TYPE_CHECKING:
    from ..store import Trace

NAME = "workflows"
VERSION = 1
TABLES = ("llm_requests",)
NEEDS = ("workflow_id",)
RECORD = "log a trace id that all calls of a task share, and the call that each of them waits for"

TALLIES = ("calls_per_workflow", "depth", "width", "parallel", "fan_out", "fan_in")
KNOTS = 33


@dataclass(frozen=True)
class Workflows:
    """``calls`` of the trace belong to ``workflows``, told apart by the column ``by``; ``share`` of them were looked at.
    ``order``: edges | times | none, what the graph rests on; ``ordered``: workflows it is of. ``sequential``: share of
    the workflows whose calls follow one another. ``delays``: by kind. ``stages``: names of calls and their shares,
    those of fewer than ten calls under ``other``. ``templates``: what a generator unfolds; ``starts``: how often tasks begin. With fewer than ten workflows all
    but the counts is None or empty.
    """

    workflows: int
    calls: int
    by: str
    share: float
    order: str
    ordered: int
    tallies: Mapping[str, Tally]
    sequential: Ratio | None
    model_path: Durations | None
    makespan: Durations | None
    busy_share: float | None
    delays: Mapping[str, Durations]
    stages: tuple[tuple[str, float], ...]
    input_tokens: Grid | None
    output_tokens: Grid | None
    shapes: tuple[Shape, ...]
    templates: tuple[Template, ...] = ()
    starts: Modulation | None = None

    def nameless(self) -> Workflows:
        """Stages, templates and their steps numbered."""
        numbers = {n: f"stage{i}" for i, (n, _) in enumerate(self.stages, 1)}
        return replace(
            self,
            stages=tuple((numbers[n], s) for n, s in self.stages),
            templates=tuple(t.renamed(numbers, i) for i, t in enumerate(self.templates, 1)),
        )

    def to_dict(self) -> dict[str, Any]:
        return {
            "version": VERSION,
            "workflows": self.workflows,
            "calls": self.calls,
            "by": self.by,
            "share": self.share,
            "order": self.order,
            "ordered": self.ordered,
            "tallies": {k: t.to_dict() for k, t in self.tallies.items()},
            "sequential": self.sequential.to_dict() if self.sequential else None,
            "model_path": self.model_path.to_dict() if self.model_path else None,
            "makespan": self.makespan.to_dict() if self.makespan else None,
            "busy_share": self.busy_share,
            "delays": {k: d.to_dict() for k, d in self.delays.items()},
            "stages": [list(s) for s in self.stages],
            "input_tokens": self.input_tokens.to_dict() if self.input_tokens else None,
            "output_tokens": self.output_tokens.to_dict() if self.output_tokens else None,
            "shapes": [s.to_dict() for s in self.shapes],
            **({"templates": [t.to_dict() for t in self.templates]} if self.templates else {}),
            **({"starts": self.starts.to_dict()} if self.starts else {}),
        }

    def brief(self) -> Workflows:
        """What one stream among many keeps."""
        return replace(
            self,
            tallies={k: t.brief() for k, t in self.tallies.items()},
            model_path=None,
            makespan=shortened(self.makespan),
            delays={k: d for k, v in self.delays.items() if (d := shortened(v)) is not None},
            shapes=self.shapes[:6],
            templates=self.templates[:2],
            starts=self.starts.brief() if self.starts else None,
        )

    def laws(self) -> list[tuple[str, tuple[Fitted, ...]]]:
        """What is fitted, with its unit, and the laws, best first."""
        calls = self.tallies.get("calls_per_workflow")
        out = [("calls a workflow", calls.families)] if calls is not None else []
        if self.makespan is not None:
            out.append(("makespan, s", self.makespan.families))
        return [*out, *((f"delays ({k}), s", d.families) for k, d in self.delays.items())]

    def findings(self) -> list[Finding]:
        out = [self._size()]
        graph = self._graph()
        if graph is not None:
            out.append(graph)
        if self.makespan is not None:
            text = f"A workflow takes {self.makespan.told('p50')}"
            if self.busy_share is not None:
                text += f"; {100 * self.busy_share:.3g}% of that time has a call running, the rest is tools and clients"
            best = self.makespan.best
            out.append(
                Finding(
                    NAME,
                    text + ".",
                    model=best.family if best else "",
                    parameters=best.parameters() if best else "",
                    effect=best.effect() if best else "",
                )
            )
        for kind, d in self.delays.items():
            best = d.best
            basis = ", by times alone" if self.order == "times" else ""
            name = {"derived": f"between a call and those it waits for{basis}", "unnamed": "as stated"}.get(kind, f"for {kind}")  # fmt: skip
            out.append(
                Finding(
                    NAME,
                    f"Delays {name}: {d.told('p50')}, p90 {format_seconds(d.quantiles_s.get('p90'))}.",
                    model=best.family if best else "",
                    parameters=best.parameters() if best else "",
                    effect=best.effect() if best else "",
                )
            )
        return out

    def _size(self) -> Finding:
        if not self.workflows and self.templates:
            named = (
                f"“{t.name}” of {len(t.steps)} step{'s' if len(t.steps) > 1 else ''}"
                for t in self.templates
            )
            return Finding(
                NAME, f"Stated, not counted: workflows follow {' or '.join(named)}.", "templates"
            )
        t = self.tallies.get("calls_per_workflow")
        about = "about " if self.share < 1 else ""
        text = f"{self.calls:,} calls belong to {about}{self.workflows:,} workflows"
        if t is None:
            return Finding(NAME, f"{text}, too few to say more.", warning="few-workflows")
        i = t.interval
        ends = f" [{format_number(i.low)}, {format_number(i.high)}]" if i else ""
        best = t.best
        shape = self.shapes[0] if self.shapes and self.shapes[0].label != "other" else None
        return Finding(
            NAME,
            f"{text}, {format_number(t.mean)} each on average"
            + (f"; {100 * shape.share:.3g}% have the shape “{shape.label}”." if shape else "."),
            model=best.family if best else "",
            parameters=f"mean {format_number(t.mean)}{ends}" + (f"; {best.parameters()}" if best else ""),
            effect=best.effect() if best else "",
        )  # fmt: skip

    def _graph(self) -> Finding | None:
        depth, width = self.tallies.get("depth"), self.tallies.get("width")
        if depth is None or width is None or self.sequential is None:
            return None
        basis = "by recorded edges" if self.order == "edges" else "by times alone"
        text = f"The longest path has {format_number(depth.mean)} calls on average and the widest level {format_number(width.mean)}, {basis}; {100 * self.sequential.value:.3g}% of the workflows are sequential."
        return Finding(
            NAME,
            text,
            model=self.order,
            parameters=f"sequential {self.sequential}",
            warning="" if self.order == "edges" else "edges-inferred",
        )


def from_dict(d: dict[str, Any]) -> Workflows:
    """Inverse of ``Workflows.to_dict``."""

    def times(x: Any) -> Durations | None:
        return Durations.from_dict(x) if x else None

    def grid(x: Any) -> Grid | None:
        return Grid.from_dict(x) if x else None

    out = Workflows(
        workflows=int(d["workflows"]),
        calls=int(d["calls"]),
        by=str(d["by"]),
        share=share_of(d["share"]),
        order=str(d["order"]),
        ordered=int(d["ordered"]),
        tallies={k: Tally.from_dict(d["tallies"][k]) for k in TALLIES if k in d["tallies"]},
        sequential=Ratio.from_dict(d["sequential"]) if d["sequential"] else None,
        model_path=times(d["model_path"]),
        makespan=times(d["makespan"]),
        busy_share=None if d["busy_share"] is None else share_of(d["busy_share"]),
        delays={k: Durations.from_dict(d["delays"][k]) for k in KINDS if k in d["delays"]},
        stages=tuple((str(n), share_of(s)) for n, s in d["stages"]),
        input_tokens=grid(d["input_tokens"]),
        output_tokens=grid(d["output_tokens"]),
        shapes=tuple(
            Shape(str(s["label"]), int(s["workflows"]), share_of(s["share"])) for s in d["shapes"]
        ),
        templates=tuple(map(Template.from_dict, d.get("templates", ()))),
        starts=Modulation.from_dict(d.get("starts")),
    )
    counts = [out.workflows, out.calls, out.ordered, *(s.workflows for s in out.shapes)]
    if min(counts) < 0 or out.order not in ORDERS or not out.share:
        raise ModelError(
            "workflows of the profile: counts must be positive and the order be known",
            "fit the profile again",
        )
    return out


# --- measuring -------------------------------------------------------------------------------------


def fit(trace: Trace, notices: list[Notice]) -> Workflows | None:
    """Fit the workflows of ``llm_requests``. Needs workflow ids, or what each call waits for. Where calls are linked only
    as turns of sessions (no workflow ids, no tool delays), they are the aspect ``sessions``."""
    if not (trace.has("workflow_id") or trace.has("depends_on")):
        notices.append(Notice("not-recorded", f"no workflows are recorded; {RECORD}", NAME))
        return None
    share = trace.manifest.sampled
    whole = trace.manifest.format in WHOLE_WHEN_SAMPLED
    if share is not None and share < 1 and not whole:
        text = f"the trace is a sample of {share:g} of the requests: workflows with missing calls are no workflows, so none are fitted"
        notices.append(Notice("sampled-trace", text, NAME))
        return None
    calls = read(trace)
    if calls is None:
        return None
    if (
        calls.by != "workflow_id"
        and trace.has("session_id")
        and not (calls.delay_kind == "tool").any()
    ):
        text = "calls are linked as turns of sessions alone: see the aspect sessions"
        notices.append(Notice("turns-not-workflows", text, NAME))
        return None
    if calls.share < 1:
        text = f"a random {calls.share:.3g} of the workflows was looked at; numbers of workflows are estimates"
        notices.append(Notice("sampled-workflows", text, NAME))
    if calls.outside:
        text = f"{calls.outside:,} links lead to calls that are not in the workflow or not in the trace, and are left out"
        notices.append(Notice("links-outside", text, NAME))
    if calls.workflows < K_ANONYMITY:
        text = f"{calls.workflows} workflows are too few to say more than how many they are"
        notices.append(Notice("few-workflows", text, NAME))
        return _only_counts(calls)
    timeline = Timeline.of(trace) if trace.manifest.clock != "session" else None
    found = measure(calls, timeline, trace.manifest.tick_ns, origin_of_day_ns(trace))
    if found.order == "times":
        text = "what a call waits for is not recorded: it is inferred from times, as the calls of its workflow that ended last before it began"
        notices.append(Notice("edges-inferred", text, NAME))
    if not found.templates:
        why = (
            "neither what calls wait for nor when they end is recorded"
            if found.order == "none"
            else "no ten workflows show the same graph"
        )
        text = f"{why}: generated tasks are chains of as many calls, without stages and without calls side by side"
        notices.append(Notice("no-templates", text, NAME))
    elif found.templates[-1].name == templates.OTHERS:
        text = f"{100 * found.templates[-1].share:.3g}% of the workflows have another number of calls than the {len(found.templates) - 1} templates: their like are generated as chains of as many calls"
        notices.append(Notice("few-templates", text, NAME))
    return found


WHOLE_WHEN_SAMPLED = ("otel", "otlp")
"""formats whose sampling goes by trace: a workflow is kept whole or not at all."""


def _only_counts(c: Calls) -> Workflows:
    return Workflows(
        c.workflows, c.rows, c.by, c.share, "none", 0, {}, None, None, None, None, {}, (), None, None, ()
    )  # fmt: skip


def measure(
    c: Calls, timeline: Timeline | None, tick_ns: int | None, origin_ns: int | None = None
) -> Workflows:
    """All figures of ten workflows or more."""
    g = graphs(c)
    if g.order == "times":
        c, g = inferred(c, g)
    sizes = c.sizes
    begin = np.where(c.arrival_ns == NONE, np.iinfo(np.int64).max, c.arrival_ns)
    starts = np.minimum.reduceat(begin, c.first)
    stamped = bool((starts < np.iinfo(np.int64).max).all())
    units = Units.of(starts, timeline if stamped else None)
    mean = units.interval(sizes, np.ones(len(sizes)))
    tallies = {"calls_per_workflow": tally(Counts.of(sizes), mean)}
    sequential: Ratio | None = None
    found: tuple[Shape, ...] = ()
    if g.order != "none" and g.ordered.sum() >= K_ANONYMITY:
        graph, sequential, found = _graphs(c, g, units)
        tallies |= graph
    makespan, busy, model = None, None, None
    ran = timed(c)
    if ran.sum() >= K_ANONYMITY:
        tallies["parallel"], makespan, busy, model = _times(c, g, units, starts, ran, tick_ns)
    names = stages(c.stage)
    return Workflows(
        workflows=c.workflows if c.share == 1 else round(short(c.workflows / c.share, 3)),
        calls=c.rows,
        by=c.by,
        share=c.share,
        order=g.order,
        ordered=int(g.ordered.sum()) if g.order != "none" else 0,
        tallies={k: t for k, t in tallies.items() if t is not None},
        sequential=sequential,
        model_path=model,
        makespan=makespan,
        busy_share=busy,
        delays=delays(c, timeline, tick_ns),
        stages=names,
        input_tokens=_totals(c, c.input_tokens),
        output_tokens=_totals(c, c.output_tokens),
        shapes=found,
        templates=templates.fit(c, g, frozenset(n for n, _ in names)),
        starts=of_instants(starts, timeline, origin_ns, tick_ns)
        if stamped and c.share == 1
        else None,
    )


def _graphs(
    c: Calls, g: Graphs, units: Units
) -> tuple[dict[str, Tally | None], Ratio, tuple[Shape, ...]]:
    """Tallies of the graphs, the share that are sequential, and their shapes."""
    inside = g.ordered[c.workflow]
    depth = np.maximum.reduceat(g.level, c.first)[g.ordered] + 1
    per_level = dags.widths(c.workflow[inside], g.level[inside])
    width = np.maximum.reduceat(per_level[2], np.flatnonzero(np.diff(per_level[0], prepend=-1)))
    out = {
        "depth": tally(Counts.of(depth), laws=False),
        "width": tally(Counts.of(width), laws=False),
    }
    if g.order == "edges":
        for name, end in (("fan_out", c.parent), ("fan_in", c.child)):
            fan = np.bincount(end, minlength=len(c.workflow))[inside]
            out[name] = tally(Counts.of(fan[fan > 0]), laws=False)
    chosen = Units(units.window[g.ordered] if units.window is not None else None, units.windows)
    return out, chosen.ratio(width == 1, np.ones(len(width))), shapes(c, g, per_level)


def _times(
    c: Calls, g: Graphs, units: Units, starts: Ints, ran: Flags, tick_ns: int | None
) -> tuple[Tally | None, Durations | None, float, Durations | None]:
    """Of the workflows whose calls all have ends (``ran``): calls at once, makespan, busy share, model path."""
    rows = ran[c.workflow]
    number = np.cumsum(ran) - 1
    most, running = dags.busy(number[c.workflow[rows]], c.arrival_ns[rows], c.end_ns[rows])
    whole = np.maximum.reduceat(c.end_ns, c.first)[ran] - starts[ran]
    busy = rounded_share(float(running.sum()) / max(float(whole.sum()), 1.0))
    model = None
    if g.order == "edges":
        both = ran & g.ordered
        longest = np.maximum.reduceat(g.path, c.first)[both]
        model = law(longest.astype(np.int64), units, both, tick_ns)
    return tally(Counts.of(most), laws=False), law(whole, units, ran, tick_ns), busy, model


def _totals(c: Calls, tokens: Ints) -> Grid | None:
    """Tokens of a workflow, over those whose calls all record them."""
    whole = np.bincount(c.workflow[tokens == NONE], minlength=c.workflows) == 0
    sums = np.add.reduceat(tokens, c.first)[whole]
    return Grid.of(Counts.of(sums), KNOTS) if len(sums) >= 2 * K_ANONYMITY else None


def score(a: Trace, b: Trace) -> list[Line]:
    """Calls per workflow, depth, width and sequential share of b against a; informative."""
    x, y = (fit(t, []) for t in (a, b))
    x, y = (w if w is not None and w.tallies else None for w in (x, y))
    if x is None and y is None:
        return []
    if x is None or y is None:
        note = "only one of them has workflows enough"
        return [Line(NAME, "calls per workflow ratio", None, None, "|ln|", note)]
    lines = []
    for key in ("calls_per_workflow", "depth", "width"):
        one, two = x.tallies.get(key), y.tallies.get(key)
        if (
            one is not None
            and two is not None
            and (key == "calls_per_workflow" or x.order == y.order)
        ):
            label = f"{key.replace('_', ' ')} ratio"
            lines.append(Line(NAME, label, abs(math.log(one.mean / two.mean)), None, "|ln|"))
    if x.sequential and y.sequential:
        value = abs(x.sequential.value - y.sequential.value)
        lines.append(Line(NAME, "sequential share difference", value, None, "share"))
    return lines

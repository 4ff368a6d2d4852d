"""The sections of a workload profile: arrivals, lengths, failures, cold starts, power."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from lamina_traces.aspects.arrivals import Arrivals
from lamina_traces.aspects.cold_starts import ColdStarts
from lamina_traces.aspects.failures import Failures
from lamina_traces.aspects.incidents import Incidents
from lamina_traces.aspects.invocations import Invocations
from lamina_traces.aspects.jobs import Jobs
from lamina_traces.aspects.lengths import SIDES, Lengths
from lamina_traces.aspects.metrics import Metrics
from lamina_traces.aspects.operating_points import OperatingPoints
from lamina_traces.aspects.power import Power
from lamina_traces.aspects.prefixes import Prefixes
from lamina_traces.aspects.sessions import Sessions
from lamina_traces.aspects.workflows import Workflows
from lamina_traces.profile import Part, Profile, Stream
from lamina_traces.units import format_count, format_number, format_seconds

from . import (
    arrivals,
    cold_starts,
    failures,
    invocations,
    jobs,
    lengths,
    metrics,
    operating_points,
    power,
    prefixes,
    sessions,
    workflows,
)
from .arrivals import rate
from .blocks import NOTHING, Section, Sentence, Table, Tile, percent
from .figures import tick

NOUNS = {
    "llm_requests": "requests", "cold_starts": "cold starts", "power_samples": "readings",
    "invocations": "invocations", "jobs": "jobs", "incidents": "incidents",
}  # fmt: skip
MOST_STREAMS = 6
SECTIONS: dict[type, Callable[[Any, str, str], Section]] = {
    Lengths: lengths.section,
    Sessions: sessions.section,
    Workflows: workflows.section,
    Prefixes: prefixes.section,
    Failures: failures.section,
    ColdStarts: cold_starts.section,
    Power: power.section,
    Invocations: invocations.section,
    Jobs: jobs.section,
    Incidents: jobs.incidents_section,
    Metrics: metrics.section,
    OperatingPoints: operating_points.section,
}
"""the section of each aspect; arrivals have theirs apart, which names what arrives."""


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
        if part.concentration or part.tail:
            out.append(_concentration(part, f"concentration{suffix}"))
        for name, aspect in stream.aspects.items():
            id_ = name.replace("_", "-") + suffix
            if isinstance(aspect, Arrivals):
                out.append(arrivals.section(aspect, id_, subtitle, noun))
            elif type(aspect) in SECTIONS:
                out.append(SECTIONS[type(aspect)](aspect, id_, subtitle))
            else:
                texts = tuple(f.text for f in aspect.findings())
                out.append(Section(id_, name.replace("_", " ").capitalize(), texts))
        if part.table == "llm_requests" and "failures" not in stream.aspects:
            out.append(_no_failures(profile, f"failures{suffix}", subtitle))
    if profile.unanswered:
        out.append(_unanswered(profile))
    return out


def _concentration(part: Part, id_: str) -> Section:
    """How the rows are spread over streams, by every column that names some."""
    rows = tuple(
        (
            c.column.removesuffix("_id"),
            format_count(c.streams),
            percent(c.top_1),
            percent(c.top_10),
            format_count(c.for_half),
            format_count(c.for_90),
            f"{c.gini:.2f}",
        )
        for c in part.concentration
    )
    columns = ("by", "streams", "largest", "largest ten", "for half", "for 90%", "Gini")
    table = Table(
        columns, rows, "lrrrrrr", "Share of the requests, and streams that it takes", wide=True
    )
    texts: tuple[str, ...] = ()
    if part.tail:
        t = part.tail
        most = format_number(float(t.rows.values[-1]))
        text = f"{t.streams:,} smaller streams share {percent(t.share)} of the rows; the largest has {most} times their mean."
        texts = (text,)
    return Section(id_, "Who asks", texts, (table,) if rows else ())


def _unanswered(profile: Profile) -> Section:
    rows = tuple(
        (u.aspect.replace("_", " "), ", ".join(u.needs), u.record) for u in profile.unanswered
    )
    table = Table(("aspect", "needs", "what would record it"), rows, "lll", wide=True)
    return Section("unanswered", "What the trace cannot say", (), (table,))


def findings(profile: Profile) -> list[Sentence]:
    """What the profile says; of several streams, what the first says."""
    out = []
    for part in profile.parts.values():
        out += [Sentence(c.text(), c.parameters()) for c in part.concentration if c.streams > 1]
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
                    Sentence(f.text, " · ".join(x for x in (f.model, f.parameters, f.effect) if x))
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
    a, n, f, c, p = (
        aspects.get(k) for k in ("arrivals", "lengths", "failures", "cold_starts", "power")
    )
    out = []
    if isinstance(a, Arrivals):
        out.append(
            Tile(
                "mean rate",
                rate(a.rate_per_s),
                f"{a.events:,} {noun} in {format_seconds(a.span_s)}",
            )
        )
        spread = [d for d in a.scales if d.idc is not None and d.window_s in (10.0, 60.0)]
        if spread:
            d = spread[-1]
            out.append(Tile(f"IDC at {tick(d.window_s)}", format_number(d.idc), "Poisson is 1"))
            out.append(
                Tile(
                    "peak to mean",
                    f"{format_number(d.peak_to_mean)} ×",
                    f"busiest {tick(d.window_s)}",
                )
            )
    if isinstance(n, Lengths):
        for side in SIDES:
            q = getattr(n, side).quantiles
            out.append(
                Tile(
                    f"median {side}",
                    f"{format_number(q.get('p50'))} tokens",
                    f"p99 {format_number(q.get('p99'))}",
                )
            )
    if isinstance(talks := aspects.get("sessions"), Sessions):
        out += sessions.tiles(talks)
    if isinstance(tasks := aspects.get("workflows"), Workflows):
        out += workflows.tiles(tasks)
    if isinstance(reuse := aspects.get("prefixes"), Prefixes):
        out += prefixes.tiles(reuse)
    if isinstance(f, Failures):
        out.append(Tile("failed", percent(f.rate, 2), f"{f.failed:,} of {f.requests:,}"))
    if isinstance(c, ColdStarts):
        out += cold_starts.tiles(c)
    if isinstance(i := aspects.get("invocations"), Invocations):
        out += invocations.tiles(i)
    if isinstance(j := aspects.get("jobs"), Jobs):
        out += jobs.tiles(j)
    if isinstance(broken := aspects.get("incidents"), Incidents):
        out += jobs.incident_tiles(broken)
    if isinstance(p, Power):
        out += power.tiles(p)
    if isinstance(scraped := aspects.get("metrics"), Metrics):
        out += metrics.tiles(scraped)
    if isinstance(points := aspects.get("operating_points"), OperatingPoints):
        out += operating_points.tiles(points)
    return out


def _streams(part: Part, suffix: str, noun: str) -> Section:
    rows = []
    for s in part.streams[:MOST_STREAMS]:
        a, n, f = (s.aspects.get(k) for k in ("arrivals", "lengths", "failures"))
        rows.append((
            s.name,
            percent(s.weight),
            format_count(a.events) if isinstance(a, Arrivals) else NOTHING,
            rate(a.rate_per_s) if isinstance(a, Arrivals) else NOTHING,
            format_number(a.idc(60.0)) if isinstance(a, Arrivals) else NOTHING,
            format_number(n.input.quantiles.get("p50")) if isinstance(n, Lengths) else NOTHING,
            format_number(n.output.quantiles.get("p50")) if isinstance(n, Lengths) else NOTHING,
            percent(f.rate, 2) if isinstance(f, Failures) else NOTHING,
        ))  # fmt: skip
    rest = len(part.streams) - len(rows)
    notes = (f"{rest} more streams are in the download.",) if rest > 0 else ()
    table = Table(
        ("stream", f"share of {noun}", noun, "rate", "IDC at 1 min", "median input, tokens", "median output, tokens", "failed"),
        tuple(rows), "lrrrrrrr", notes=notes, wide=True,
    )  # fmt: skip
    text = f"{len(part.streams)} streams, each with aspects of its own. The figures below show the first, “{part.streams[0].name}”."
    return Section(f"streams{suffix}", "Streams", (text,), (table,))


def _no_failures(profile: Profile, id_: str, subtitle: str) -> Section:
    said = [n.text for n in profile.notices if n.subject == "failures"]
    text = said[0] if said else "the profile holds no failures; log a status for each request"
    return Section(id_, "Failures", (f"Not known: {text}.",), (), subtitle)


def streams_of(profile: Profile) -> list[Stream]:
    """The first stream of each part: those whose figures are on the page."""
    return [p.streams[0] for p in profile.parts.values() if p.streams]

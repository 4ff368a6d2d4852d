"""Characterization: trace → one pass and the queries → each aspect's fit → Profile. A loop over aspects."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import polars as pl

from .aspects import ASPECTS, Aspect, Unanswered, clients, cold_start_curves, edges, metrics
from .aspects.timeline import Timeline, scan
from .errors import ModelError, Notice, UnknownName
from .profile import Part, Profile, Stream
from .schema import TABLES
from .sql import quoted
from .streams import FEWEST_ROWS, MOST_HEAVY, Tail, concentrations, tail_law
from .units import NS_PER_S

if TYPE_CHECKING:
    from .store import Trace


FEW_STREAMS = 4
"""streams that a profile holds in full detail; of more, each keeps less."""


def characterize(trace: Trace, *, by: str | None = None, name: str | None = None) -> Profile:
    """Fit every aspect that the trace's main table can answer, and return the workload profile.

    ``by`` names a text column (model, service, tenant_id…): its heaviest values become streams with their own
    aspects, the others are pooled and described by the law of their parameters. What the trace cannot answer is
    said in ``unanswered`` and in the notices. Raises ModelError when nothing can be fitted.
    """
    table = trace.main_table
    if not table:
        raise ModelError(
            f"trace {trace.name!r} of kind {trace.manifest.kind} has no table to fit",
            "lamina-traces show TRACE lists its tables",
        )
    if trace.is_part and not trace.rows():
        raise ModelError(
            f"the selection leaves 0 of {trace.manifest.rows:,} rows of trace {trace.name!r}",
            "widen --where, --from, --to or --mask",
        )
    notices: list[Notice] = [n for n in trace.manifest.notices if n.code not in ("sorted",)]
    known = _known_streams(trace, table, notices)
    if known is not None:
        return _profile(trace, table, known, name, notices, Timeline.of(trace))
    trace = edges.trimmed(trace, notices)
    tail = None
    timeline = Timeline.of(trace)
    if by is None:
        streams = [Stream("all", 1.0, {}, _aspects(trace, table, timeline, notices))]
    else:
        streams, tail = _streams_by(trace, table, by, notices)
    if not any(s.aspects for s in streams):
        why = "; ".join(n.text for n in notices if n.subject in ASPECTS)
        raise ModelError(
            f"nothing can be fitted to trace {trace.name!r}: "
            + (why or f"no aspect describes the table {table}"),
            f"look at it: lamina-traces show {shlex.quote(trace.name)}; question it: lamina-traces sql",
        )
    spread = concentrations(trace)
    lost = [c for c in spread if c.streams > 1 and c.column != by]
    if lost:
        named = ", ".join(f"{c.column} ({c.streams:,} values)" for c in lost)
        text = f"not kept apart, and not generated: {named}; fit --by {lost[0].column if len(lost) == 1 else 'COLUMN'} keeps one"
        notices.append(Notice("mixed-streams", text, lost[0].column))
    parts = {table: Part(table, tuple(streams), tail, spread)}
    for stream in streams:
        found = stream.aspects.get(metrics.NAME)
        if isinstance(found, metrics.Metrics):  # requests that are known by their metrics alone
            parts |= _requests_of(found)
    return _profile(trace, table, parts, name, notices, timeline)


def _known_streams(trace: Trace, table: str, notices: list[Notice]) -> dict[str, Part] | None:
    """The parts of a source that describes its streams instead of listing rows: clients by windows, cold starts by
    curves. None for other sources."""
    if table == clients.TABLE:
        streams = [Stream(c, w, {"client_id": c}, a) for c, w, a in clients.fit(trace, notices)]
        return {"llm_requests": Part("llm_requests", tuple(_fitting(streams)))}
    if table == "cdf_points":
        curves = cold_start_curves.fit_cdf(trace, notices)
        streams = [Stream(k, 1 / len(curves), {}, {"cold_starts": c}) for k, c in curves.items()]
        return {"cold_starts": Part("cold_starts", tuple(streams))} if streams else None
    return None


def _requests_of(found: metrics.Metrics) -> dict[str, Part]:
    arrivals, lengths = found.to_arrivals_and_lengths()
    aspects: dict[str, Aspect] = {}
    if arrivals is not None:
        aspects["arrivals"] = arrivals
    if lengths is not None:
        aspects["lengths"] = lengths
    return (
        {"llm_requests": Part("llm_requests", (Stream("all", 1.0, {}, aspects),))}
        if aspects
        else {}
    )


def _profile(
    trace: Trace,
    table: str,
    parts: dict[str, Part],
    name: str | None,
    notices: list[Notice],
    timeline: Timeline | None,
) -> Profile:
    fitted = {k for p in parts.values() for s in p.streams for k in s.aspects}
    return Profile(
        name=name or trace.name,
        parts=parts,
        source=_source(trace, table, timeline),
        notices=tuple(dict.fromkeys(notices)),
        unanswered=unanswered(trace, fitted, notices),
    )


def unanswered(
    trace: Trace, fitted: Iterable[str] = (), notices: Iterable[Notice] = ()
) -> tuple[Unanswered, ...]:
    """The aspects of the trace's main table that it cannot answer: which columns are missing, and what would record
    them. Aspects in ``fitted`` have been answered; those that ``notices`` call not recorded have not, even where
    the column is there (a status that is always unknown)."""
    table = trace.main_table
    empty = {n.subject for n in notices if n.code == "not-recorded"}
    out = []
    for name, module in ASPECTS.items():
        if table not in module.TABLES or name in fitted:
            continue
        known = [c for c in module.NEEDS if c in TABLES[table]]
        missing = tuple(c for c in known if not trace.has(c) or name in empty)
        if missing:
            out.append(Unanswered(name, missing, module.RECORD))
    return tuple(out)


def _aspects(
    trace: Trace,
    table: str,
    timeline: Timeline | None,
    notices: list[Notice],
    kept: dict[str, list[tuple[Aspect, Any]]] | None = None,
) -> dict[str, Aspect]:
    """Every aspect of the table that the trace answers. ``kept`` takes those, each with its pass, that streams are fitted to
    together."""
    modules = {k: m for k, m in ASPECTS.items() if table in m.TABLES}
    # one scan feeds every aspect that reads rows in time order
    passes = {
        k: m.Pass(trace, timeline) for k, m in modules.items() if hasattr(m, "Pass") and timeline
    }
    scan(trace, passes.values())
    aspects: dict[str, Aspect] = {}
    for key, module in modules.items():
        seen = (passes[key],) if key in passes else ()
        fitted = module.fit(trace, notices, *seen)
        if fitted is not None:
            aspects[key] = fitted
            if kept is not None and seen and hasattr(module, "together"):
                kept.setdefault(key, []).append((fitted, *seen))
    return aspects


def _together(streams: list[Stream], kept: dict[str, list[tuple[Aspect, Any]]]) -> list[Stream]:
    """Streams, what they have in common fitted to all of them."""
    for key, pairs in kept.items():
        fitted, passes = zip(*pairs, strict=True)
        found = dict(zip(map(id, fitted), ASPECTS[key].together(fitted, passes), strict=True))
        streams = [
            replace(s, aspects={**s.aspects, key: found[id(a)]})
            if id(a := s.aspects.get(key)) in found
            else s
            for s in streams
        ]
    return streams


def _streams_by(
    trace: Trace, table: str, by: str, notices: list[Notice]
) -> tuple[list[Stream], Tail | None]:
    text = [c.name for c in TABLES[table].columns if c.type == "VARCHAR" and c.name != "extra"]
    if by not in text:
        raise UnknownName("column to split by", by, text)
    if not trace.has(by):
        raise ModelError(
            f"trace {trace.name!r} does not record {by}",
            "leave --by out, or name a recorded column",
        )
    from sqlglot import exp

    lengths = [c for c in ("input_tokens", "output_tokens") if c in TABLES[table]]
    means = "".join(f", AVG({c}) AS {c}" for c in lengths)
    sizes = pl.DataFrame(
        trace.sql(
            f"SELECT {quoted(by)} AS stream, COUNT(*) AS rows{means} FROM {quoted(table)} "
            f"GROUP BY {quoted(by)} ORDER BY rows DESC, stream"
        )
    )
    total = int(sizes["rows"].sum())
    named = sizes.filter(pl.col("stream").is_not_null())
    heavy = named.filter(pl.col("rows") >= FEWEST_ROWS).head(MOST_HEAVY)
    streams = []
    kept: dict[str, list[tuple[Aspect, Any]]] = {}
    column = exp.column(by, quoted=True)
    for value, n in heavy.select("stream", "rows").iter_rows():
        chosen = trace.select(where=column.eq(value).sql("duckdb"))
        found = _aspects(chosen, table, Timeline.of(chosen), notices, kept)
        streams.append(Stream(value, n / total, {by: value}, found))
    rest = total - int(heavy["rows"].sum())
    if rest:
        large = heavy["stream"].to_list()
        other = (
            exp.or_(column.is_(exp.null()), exp.not_(column.isin(*large))) if large else exp.true()
        )
        chosen = trace.select(where=other.sql("duckdb"))
        found = _aspects(chosen, table, Timeline.of(chosen), notices, kept)
        streams.append(Stream("other", rest / total, {}, found))
        pooled = named.height - heavy.height
        text_ = f"{pooled:,} value{'s' if pooled != 1 else ''} of {by} with fewer than {FEWEST_ROWS} rows, or beyond the {MOST_HEAVY} largest, are pooled as 'other'"
        notices.append(Notice("pooled-streams", text_, by))
    small = named.tail(named.height - heavy.height)
    for c in lengths:
        small = small.with_columns(pl.col(c).cast(pl.Float64))
    tail = tail_law(small, total) if len(lengths) == 2 else None
    return _fitting(_together([s for s in streams if s.aspects], kept)), tail


def _fitting(streams: list[Stream]) -> list[Stream]:
    """The streams, with less detail each where there are many: a profile is passed around."""
    if len(streams) <= FEW_STREAMS:
        return streams
    return [replace(s, aspects={k: _brief(a) for k, a in s.aspects.items()}) for s in streams]


def _brief(aspect: Aspect) -> Aspect:
    brief: Callable[[], Aspect] | None = getattr(aspect, "brief", None)
    return brief() if brief else aspect


def _source(trace: Trace, table: str, timeline: Timeline | None) -> dict[str, Any]:
    m = trace.manifest
    return {
        "trace": trace.name,
        "kind": m.kind,
        "nature": m.nature,
        "clock": m.clock,
        "tick_ns": m.tick_ns,
        "table": table,
        "rows": timeline.rows if timeline else trace.rows(),
        "selection": trace.selection,
        "span_s": timeline.span_ns / NS_PER_S if timeline else None,
        "format": m.format,
        "licence": m.provenance.get("licence"),
        "inputs": [{"name": i.name, "sha256": i.sha256} for i in m.inputs],
    }

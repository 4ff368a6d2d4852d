"""The characterization layer: store → queries → each aspect's fit → Profile. A loop over aspects."""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING, Any

from sqlglot import exp

from .aspects import ASPECTS
from .errors import ModelError, Notice, UnknownName
from .profile import Part, Profile, Stream
from .schema import TABLES
from .units import NS_PER_S

if TYPE_CHECKING:
    from .store import Trace

MIN_STREAM_ROWS = 100
"""with ``by``, a smaller stream is pooled into 'other'."""


def characterize(trace: Trace, *, by: str | None = None, name: str | None = None) -> Profile:
    """Fit every aspect that the trace's main table can answer, and return the workload profile.

    ``by`` names a text column (model, service, tenant_id…): each of its values becomes a stream with its
    own aspects, values with fewer than 100 rows are pooled. What the trace cannot answer is said in the
    profile's notices. Raises ModelError when nothing can be fitted.
    """
    table = trace.main_table
    if not table:
        raise ModelError(
            f"trace {trace.name!r} of kind {trace.manifest.kind} has no table to fit",
            "lamina-traces show TRACE lists its tables",
        )
    notices: list[Notice] = [n for n in trace.manifest.notices if n.code not in ("sorted",)]
    if by is None:
        streams = [_fit_stream(trace, table, "all", 1.0, {}, notices)]
    else:
        streams = _streams_by(trace, table, by, notices)
    if not any(s.aspects for s in streams):
        why = "; ".join(n.text for n in notices if n.subject in ASPECTS)
        raise ModelError(
            f"nothing can be fitted to trace {trace.name!r}: "
            + (why or f"no aspect describes the table {table}"),
            f"look at it: lamina-traces show {shlex.quote(trace.name)}; question it: lamina-traces sql",
        )
    return Profile(
        name=name or trace.name,
        parts={table: Part(table, tuple(streams))},
        source=_source(trace, table),
        notices=tuple(dict.fromkeys(notices)),
    )


def _fit_stream(
    trace: Trace, table: str, name: str, weight: float, where: dict[str, str], notices: list[Notice]
) -> Stream:
    aspects = {}
    for key, module in ASPECTS.items():
        if table in module.TABLES:
            fitted = module.fit(trace, notices)
            if fitted is not None:
                aspects[key] = fitted
    return Stream(name, weight, where, aspects)


def _streams_by(trace: Trace, table: str, by: str, notices: list[Notice]) -> list[Stream]:
    text = [c.name for c in TABLES[table].columns if c.type == "VARCHAR" and c.name != "extra"]
    if by not in text:
        raise UnknownName("column to split by", by, text)
    if not trace.has(by):
        raise ModelError(
            f"trace {trace.name!r} does not record {by}",
            "leave --by out, or name a recorded column",
        )
    sizes = (
        trace.scan(table).group_by(by).len().sort(["len", by], descending=[True, False]).collect()
    )
    total = int(sizes["len"].sum())
    large = [(v, n) for v, n in sizes.iter_rows() if v is not None and n >= MIN_STREAM_ROWS]
    streams = []
    column = exp.column(by, quoted=True)
    for value, n in large:
        chosen = trace.select(where=column.eq(value).sql("duckdb"))
        streams.append(_fit_stream(chosen, table, value, n / total, {by: value}, notices))
    rest = total - sum(n for _, n in large)
    if rest:
        other = (
            exp.or_(column.is_(exp.null()), exp.not_(column.isin(*[v for v, _ in large])))
            if large
            else exp.true()
        )
        streams.append(
            _fit_stream(
                trace.select(where=other.sql("duckdb")), table, "other", rest / total, {}, notices
            )
        )
    return [s for s in streams if s.aspects]


def _source(trace: Trace, table: str) -> dict[str, Any]:
    m = trace.manifest
    extent = trace.query("arrivals/extent").to_pylist()[0]
    span = None
    if extent["first_ns"] is not None:
        span = (int(extent["last_ns"]) - int(extent["first_ns"])) / NS_PER_S
    return {
        "trace": trace.name,
        "kind": m.kind,
        "nature": m.nature,
        "clock": m.clock,
        "tick_ns": m.tick_ns,
        "table": table,
        "rows": int(extent["events"]),
        "selection": trace.selection,
        "span_s": span,
        "format": m.format,
        "licence": m.provenance.get("licence"),
        "inputs": [{"name": i.name, "sha256": i.sha256} for i in m.inputs],
    }

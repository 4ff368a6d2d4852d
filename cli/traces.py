"""Commands on traces: ingest, ls, show, sql, export, rm."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from .options import (
    Arrivals,
    As,
    From,
    Map,
    OutputFormat,
    PoissonRate,
    Replace,
    Seed,
    StoreAt,
    TimeUnitOption,
    TimeZone,
    To,
    TraceArgument,
    Where,
    Yes,
    poisson_rate,
    reference,
)
from .output import clean, clean_lines, emit, emit_batches, emit_object, say, table, warn, write
from .progress import reading

if TYPE_CHECKING:
    from lamina_traces.formats import Preview
    from lamina_traces.store import Trace


def ingest(
    paths: Annotated[
        list[str],
        typer.Argument(
            metavar="PATH...",
            help="Trace files, plain, .gz or .zst, or folders of them; - is standard input.",
        ),
    ],
    name: Annotated[
        str | None, typer.Option("--name", help="Name of the trace [default: from the file].")
    ] = None,
    as_: As = None,
    map_: Map = None,
    time_unit: TimeUnitOption = None,
    tz: TimeZone = None,
    replace: Replace = False,
    append: Annotated[
        bool,
        typer.Option(
            "--append", help="Add the files to the trace --name; each file is taken once."
        ),
    ] = False,
    anonymize: Annotated[
        bool,
        typer.Option(
            "--anonymize",
            help="Replace ids of users, sessions and prefix blocks by pseudonyms of this store.",
        ),
    ] = False,
    sampled: Annotated[
        float | None,
        typer.Option(
            "--sampled",
            metavar="SHARE",
            help="The source recorded this share of the requests, at random (0.1).",
        ),
    ] = None,
    keep_text: Annotated[
        bool, typer.Option("--keep-text", help="Keep prompts, completions and other text fields.")
    ] = False,
    nature: Annotated[
        Literal["real", "synthetic", "measured", "derived"] | None,
        typer.Option(
            "--nature", help="What the rows are [default: as the format implies, mostly real]."
        ),
    ] = None,
    licence: Annotated[
        str | None,
        typer.Option("--licence", help="Licence of the data, kept with the trace and its profile."),
    ] = None,
    limits: Annotated[
        str | None,
        typer.Option(
            "--limits",
            metavar="NAME=N,...",
            help="Raise what is refused as damage: line=64MB, document=2GB, growth=1000 (of compressed files).",
        ),
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Show mapping, units and time range; store nothing.")
    ] = False,
    fmt: OutputFormat = "table",
    store: StoreAt = None,
) -> None:
    """Read trace files into the store.

    Example: lamina-traces ingest AzureLLMInferenceTrace_code.csv --name azure
    """
    from lamina_traces.schema import FITTED_TABLES
    from lamina_traces.store import Store

    options: dict[str, Any] = {
        "as_format": as_,
        "mapping": map_,
        "time_unit": time_unit,
        "tz": tz,
        "keep_text": keep_text,
    }
    if limits is not None:
        from lamina_traces.formats import Limits

        options["limits"] = Limits.parse(limits)
    if dry_run:
        from lamina_traces import formats

        preview = formats.preview(paths, **options)
        _print_preview(preview, fmt)
        return
    with reading() as progress:
        trace = Store(store).ingest(
            paths,
            name,
            replace=replace,
            append=append,
            anonymize=anonymize,
            sampled=sampled,
            nature=nature,
            provenance={"licence": licence} if licence else None,
            progress=progress,
            **options,
        )
    warn(trace.manifest.notices)
    if fmt in ("json", "jsonl"):
        emit_object(trace.manifest.to_dict(), fmt)
    else:
        write(clean(f"{trace.name}: {_size(trace)}; {trace.manifest.summary_line()}") + "\n")
    verb = "fit" if trace.main_table in FITTED_TABLES else "show"
    say(f"next: lamina-traces {verb} {reference(trace.name)}")


def _print_preview(p: Preview, fmt: str) -> None:
    from lamina_traces.units import format_seconds

    mapping = [{"column": a, "becomes": b, "unit": u or "–"} for a, b, u in p.mapping]
    span_s = None if p.first_ns is None or p.last_ns is None else (p.last_ns - p.first_ns) / 1e9
    if fmt in ("json", "jsonl"):
        facts: dict[str, Any] = {
            "format": p.format,
            "kind": p.kind,
            "table": p.table,
            "clock": p.clock,
            "mapping": mapping,
        }
        facts |= {"extra": p.extra, "dropped_fields": p.dropped_fields, "rows_seen": p.rows_seen}
        facts |= {
            "first_ns": p.first_ns,
            "last_ns": p.last_ns,
            "origin_ns": p.origin_ns,
            "head": p.rows.to_dicts(),
        }
        emit_object(facts, fmt)
        return
    write(clean(f"{p.title} ({p.format}), table {p.table}, clock {p.clock}") + "\n")
    write(f"the first {p.rows_seen:,} rows span {format_seconds(span_s)}; nothing is stored\n\n")
    emit(mapping, fmt)
    if p.extra:
        write(clean(f"kept in extra: {', '.join(p.extra)}") + "\n")
    if p.dropped_fields:
        write(clean(f"dropped: {', '.join(p.dropped_fields)} (text; --keep-text keeps it)") + "\n")
    write("\n")
    emit(p.rows.to_dicts(), fmt)
    if p.rejects.height:
        write(f"\nrejected lines ({min(5, p.rejects.height)} of {p.rejects.height:,} seen):\n")
        emit(p.rejects.head(5).to_dicts(), fmt)
    warn(p.notices)


def ls(fmt: OutputFormat = "table", store: StoreAt = None) -> None:
    """List the traces of the store.

    Example: lamina-traces ls --format json
    """
    from lamina_traces.store import Store

    opened = Store(store)
    rows = [
        {
            "name": t.name,
            "kind": t.manifest.kind,
            "nature": t.manifest.nature,
            "rows": t.manifest.rows,
            "span_s": t.manifest.span_s,
            "format": t.manifest.format,
        }
        for t in opened.traces()
    ]
    warn(opened.damaged())
    emit(rows, fmt, ["name", "kind", "nature", "rows", "span_s", "format"])
    if not rows:
        say("the store is empty; add a trace with: lamina-traces ingest FILE")


def show(
    what: Annotated[
        str,
        typer.Argument(
            metavar="TRACE|PROFILE",
            help="A trace (stored name or file) or a workload profile (.json or library name).",
        ),
    ],
    rows: Annotated[int, typer.Option("--rows", min=0, help="How many rows to show.")] = 5,
    where: Where = None,
    from_: From = None,
    to: To = None,
    fmt: OutputFormat = "table",
    store: StoreAt = None,
) -> None:
    """Show a trace or a workload profile.

    Example: lamina-traces show azure-code
    """
    from lamina_traces import workloads

    thing = workloads.resolve(what, store=store, say=say)
    if isinstance(thing, workloads.Profile):
        from .profiles import print_profile

        print_profile(thing, fmt)
        return
    trace = workloads.selected(thing, where, from_, to)
    if fmt in ("json", "jsonl"):
        from lamina_traces.characterization import unanswered

        missing = [u.to_dict() for u in unanswered(trace)]
        facts = {"unanswered": missing, "head": _head(trace, rows)}
        emit_object(trace.manifest.to_dict() | facts, fmt)
        return
    _print_trace(trace, rows, fmt)


def _print_trace(trace: Trace, rows: int, fmt: str) -> None:
    from lamina_traces.schema import TABLES
    from lamina_traces.units import format_count, format_seconds

    m = trace.manifest
    origin = f", origin {m.origin_ns} unix ns" if m.origin_ns is not None else ""
    if m.origin_local:
        origin = f", origin {m.origin_local} local time"
    facts = [
        ("trace", clean(trace.name)),
        ("kind", f"{m.kind}, {m.nature}, format {m.format or '–'}"),
        ("rows", f"{format_count(m.rows)} over {format_seconds(m.span_s)}"),
        (
            "clock",
            f"{m.clock}{origin}, tick {format_seconds(None if m.tick_ns is None else m.tick_ns / 1e9)}",
        ),
        ("lines", m.summary_line()),
    ]
    if m.dropped_fields:
        facts.append(
            ("dropped", clean(", ".join(m.dropped_fields)) + " (text; --keep-text keeps it)")
        )
    if m.row_hash:
        facts.append(("row hash", m.row_hash))
    if m.sampled is not None:
        facts.append(("sampled", f"{m.sampled:g} of the requests were recorded"))
    facts += [
        ("from", clean(f"{k}: {v}"))
        for k, v in m.provenance.items()
        if v is not None and not isinstance(v, dict)
    ]
    facts += [
        (
            "input",
            f"{clean(i.name)}, {i.bytes:,} bytes"
            + (f", sha256 {i.sha256[:16]}…" if i.sha256 else ""),
        )
        for i in m.inputs
    ]
    write("".join(f"{k:9} {v}\n" for k, v in facts))
    if "run" in m.provenance:
        from lamina_traces.runs import Run

        from .decide import print_run

        run = Run.load(trace)
        write("\n")
        print_run(run, fmt, explain=False)
        write("\nspec (TOML, for --spec):\n" + clean_lines(run.spec))
    for name in trace.tables:
        spec = TABLES[name]
        recorded = set(trace.columns(name))
        write(f"\n{name}: {spec.doc}\n")
        shown = [c for c in spec.columns if c.name in recorded]
        write(
            table(
                [[c.name, c.type, c.unit or "–", c.doc] for c in shown],
                ["column", "type", "unit", "meaning"],
                md=fmt == "md",
            )
        )
    head = _head(trace, rows)
    if head:
        write("\n")
        emit(head, fmt)
        total = trace.rows()
        if len(head) < total:
            say(f"showing {len(head)} of {total:,} rows; --rows N for more")
    from lamina_traces.characterization import unanswered

    from .profiles import cannot_say

    write(cannot_say(unanswered(trace)))
    rejected = trace.rejects()
    if rejected.height:
        write(f"\nrejected lines ({rejected.height:,}):\n")
        emit(rejected.head(max(rows, 1)).to_dicts(), fmt)
    warn(m.notices)


def _head(trace: Trace, rows: int) -> list[dict[str, Any]]:
    return trace.scan().head(rows).collect().to_dicts() if rows and trace.main_table else []


def sql(
    query: Annotated[
        str,
        typer.Argument(
            metavar="QUERY",
            help="One SELECT; traces are tables of their names. - reads standard input.",
        ),
    ],
    fmt: OutputFormat = "table",
    store: StoreAt = None,
) -> None:
    """Run one read-only SQL query.

    Example: lamina-traces sql "select trace, count(*) as n from llm_requests group by trace"
    """
    from lamina_traces.store import Store

    with Store(store).sql_reader(sys.stdin.read() if query == "-" else query) as reader:
        emit_batches(reader, fmt)


def export(
    trace: TraceArgument,
    to_target: Annotated[
        str, typer.Option("--to", metavar="TARGET", help="What to write (see: catalog targets).")
    ],
    output: Annotated[Path, typer.Option("--output", "-o", help="File or folder to write.")],
    where: Where = None,
    arrivals: Arrivals = None,
    rate: PoissonRate = None,
    seed: Seed = 0,
    fmt: OutputFormat = "table",
    store: StoreAt = None,
) -> None:
    """Write a trace for another tool to import.

    Example: lamina-traces export azure-code --to mooncake -o azure.jsonl
    """
    from lamina_traces import workloads
    from lamina_traces.units import format_number

    poisson = poisson_rate(arrivals, rate)
    chosen = workloads.selected(workloads.trace(trace, store=store, say=say), where, None, None)
    if poisson is not None:
        chosen = workloads.with_poisson(chosen, poisson, seed, say=say)
    summary = workloads.export(chosen, to_target, output)
    cv = workloads.gap_cv(chosen) if chosen.main_table == "llm_requests" else None
    equivalent = 1 / cv**2 if cv else None
    if fmt in ("json", "jsonl"):
        emit_object(summary.to_dict() | {"gap_cv": cv, "vllm_burstiness": equivalent}, fmt)
    else:
        write(
            clean(
                f"{output}: {summary.written:,} of {summary.rows:,} {_what(summary.table)} as {summary.target}, sha256 {summary.sha256[:16]}…"
            )
            + "\n"
        )
        for reason, n in summary.skipped.items():
            write(clean(f"  left out {n:,} rows: {reason}") + "\n")
        for column, n in summary.losses.items():
            write(clean(f"  not carried: {column} ({n:,} values)") + "\n")
        for note in summary.notes:
            write(clean(f"  note: {note}") + "\n")
        if equivalent is not None:
            write(
                f"  gaps CV {format_number(cv)}; tools that draw gamma gaps by CV alone: --burstiness {equivalent:.3g} (vLLM, 1/CV²)\n"
            )
    say(f"import it with: {summary.command}")


def _what(table: str) -> str:
    return "requests" if table == "llm_requests" else f"rows of {table}"


def rm(
    name: Annotated[str, typer.Argument(metavar="TRACE", help="A stored name.")],
    yes: Yes = False,
    store: StoreAt = None,
) -> None:
    """Remove a trace from the store.

    Example: lamina-traces rm azure --yes
    """
    from lamina_traces.errors import UsageError
    from lamina_traces.store import Store

    opened = Store(store)
    if not opened.has(name):
        opened.remove(name)  # says what names there are
    if not yes:
        if not (sys.stdin.isatty() and sys.stderr.isatty()):
            raise UsageError(f"will not remove {name!r} without being asked twice", "add --yes")
        if not typer.confirm(f"remove {clean(name)}?", err=True):
            raise typer.Abort
    opened.remove(name)
    say(f"removed {name}")


def _size(trace: Trace) -> str:
    from lamina_traces.units import format_count, format_seconds

    m = trace.manifest
    span = f" over {format_seconds(m.span_s)}" if m.span_s else ""
    rows = f"{format_count(m.rows)} row{'' if m.rows == 1 else 's'} of {m.main_table}"
    others = [
        f"{format_count(t.rows)} of {name}" for name, t in m.tables.items() if name != m.main_table
    ]
    return f"{rows}{span}{', ' if others else ''}{', '.join(others)}, read as {m.format}"

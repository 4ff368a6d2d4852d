"""Commands on models of workloads: fit, generate, compare."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from .decide import compiling
from .options import (
    Arrivals,
    From,
    OutputFormat,
    Replace,
    Seed,
    StoreAt,
    To,
    TraceArgument,
    Where,
    absolute,
    reference,
)
from .output import clean, emit, emit_object, say, write, write_file
from .profiles import print_profile
from .progress import counting

if TYPE_CHECKING:
    from lamina_traces.fidelity import ScoreCard
    from lamina_traces.runs import Run


def fit(
    trace: TraceArgument,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="Write the workload profile here (.json).")
    ] = None,
    by: Annotated[
        str | None,
        typer.Option(
            "--by",
            metavar="COLUMN",
            help="A stream for each heavy value of this column (model, tenant_id, client_id…), a law for the rest.",
        ),
    ] = None,
    mask: Annotated[
        list[str] | None,
        typer.Option(
            "--mask",
            metavar="START..END",
            help="Leave this time out of every estimate: the collector was down, not the workload (repeatable).",
        ),
    ] = None,
    sampled: Annotated[
        float | None,
        typer.Option(
            "--sampled",
            metavar="SHARE",
            help="The trace is a random sample of this share of the requests [default: as ingested].",
        ),
    ] = None,
    relative: Annotated[
        bool,
        typer.Option("--relative", help="Write rates and counts as multiples of the mean rate."),
    ] = False,
    hide_names: Annotated[
        bool, typer.Option("--hide-names", help="Replace the names of trace, files and streams.")
    ] = False,
    name: Annotated[
        str | None, typer.Option("--name", help="Name inside the profile [default: the trace's].")
    ] = None,
    where: Where = None,
    from_: From = None,
    to: To = None,
    fmt: Annotated[
        Literal["table", "md", "csv", "json", "jsonl", "latex"],
        typer.Option("--format", "-f", help="How to print."),
    ] = "table",
    store: StoreAt = None,
) -> None:
    """Fit a workload profile to a trace.

    Example: lamina-traces fit azure-code -o azure.json
    """
    from lamina_traces import disclosure, workloads
    from lamina_traces.characterization import characterize

    chosen = workloads.selected(
        workloads.trace(trace, store=store, say=say),
        where,
        from_,
        to,
        masks=mask or [],
        sampled=sampled,
    )
    profile = characterize(chosen, by=by, name=name)
    if relative:
        profile = disclosure.relative(profile)
    if hide_names:
        profile = disclosure.nameless(profile)
    if output is not None:
        write_file(output, profile.dumps())
        quoted = shlex.quote(str(output))
        follow = (
            f"generate {quoted} --rate x2 --name load"
            if "llm_requests" in profile.parts
            else f"report {quoted}"
        )
        say(f"wrote {output}; next: lamina-traces {follow}")
    print_profile(profile, fmt)


def generate(
    profile: Annotated[
        str,
        typer.Argument(
            metavar="PROFILE",
            help="A workload profile: .json file or library name (see: catalog presets).",
        ),
    ],
    rows: Annotated[int | None, typer.Option("--rows", "-n", help="How many requests.")] = None,
    duration: Annotated[
        str | None,
        typer.Option(
            "--duration", help="How long, as in 90s, 10m, 2h [default: the source's own span]."
        ),
    ] = None,
    rate: Annotated[
        str | None,
        typer.Option("--rate", help="Mean rate: 12/s, 300/min, or x2 for twice the profile's own."),
    ] = None,
    arrivals: Arrivals = None,
    seed: Seed = 0,
    shard: Annotated[
        str | None,
        typer.Option(
            "--shard",
            metavar="i/n",
            help="Only the i-th of n contiguous parts; parts in order are the whole.",
        ),
    ] = None,
    threads: Annotated[
        int, typer.Option("--threads", min=1, help="Threads; the rows do not depend on it.")
    ] = 1,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="Write one Parquet file.")
    ] = None,
    name: Annotated[
        str | None, typer.Option("--name", help="Store the trace under this name.")
    ] = None,
    replace: Replace = False,
    fmt: OutputFormat = "table",
    store: StoreAt = None,
) -> None:
    """Make a synthetic trace from a profile.

    Example: lamina-traces generate azure-code --rate x2 --duration 10m --name load
    """
    from lamina_traces import generator, workloads
    from lamina_traces.errors import UsageError
    from lamina_traces.store import Store
    from lamina_traces.units import format_seconds, parse_duration_ns, parse_rate

    if (output is None) == (name is None):
        raise UsageError(
            "say where the trace goes: -o FILE.parquet or --name NAME", "for example: --name load"
        )
    if output is not None and output.suffix != ".parquet":
        raise UsageError(
            f"{output} is not a .parquet file",
            "store it with --name, then: lamina-traces export NAME --to TARGET -o FILE",
        )
    if rows is not None and duration is not None:
        raise UsageError("-n and --duration both say how much", "give one of them")
    asked = None if rate is None else parse_rate(rate)
    law = workloads.open_profile(profile, store=store, say=say)
    if arrivals is not None:
        law = generator.with_poisson(law, absolute(asked))
    part = None if shard is None else generator.Shard.parse(shard)
    plan = generator.plan(
        law,
        duration_ns=None if duration is None else parse_duration_ns(duration),
        rows=rows,
        rate=None if arrivals is not None else asked,
        seed=seed,
    )
    blocks = generator.shard_blocks(plan, part)
    expected = int(plan.row_from[blocks.stop] - plan.row_from[blocks.start])
    with counting("generated", expected, "rows") as tick:
        if output is not None:
            made = workloads.write_parquet(output, plan, shard=part, threads=threads, progress=tick)
            n, digest, last_ns = made.rows, made.row_hash, made.last_ns
        else:
            trace = workloads.store_generated(
                Store(store),
                str(name),
                plan,
                shard=part,
                threads=threads,
                replace=replace,
                progress=tick,
            )
            n, digest = trace.manifest.rows, str(trace.manifest.row_hash)
            last_ns = trace.manifest.arrival_last_ns
    # with -n the trace ends with its last request, with --duration when the time is over
    duration_s = (plan.duration_ns if rows is None else last_ns or 0) / 1e9
    facts = {
        "name": name,
        "path": None if output is None else str(output),
        "rows": n,
        "duration_s": duration_s,
        "requests_per_s": plan.rows / duration_s if duration_s > 0 and part is None else None,
        "seed": seed,
        "shard": shard,
        "row_hash": digest,
        "profile": law.name,
        "profile_sha256": generator.profile_sha256(law),
    }
    if fmt in ("json", "jsonl"):
        emit_object(facts, fmt)
    else:
        what = f"{n:,} request{'' if n == 1 else 's'} over {format_seconds(duration_s)} from {law.name}"
        cut = f", shard {shard}" if shard else ""
        write(clean(f"{name or output}: {what}{cut}, seed {seed}, row hash {digest}") + "\n")
    if not n:
        say("warning: no request falls into this time; raise --duration or --rate [empty]")
        return
    target = reference(name) if name is not None else shlex.quote(str(output))
    say(
        f"next: lamina-traces export {target} --to mooncake -o {shlex.quote(Path(name or str(output)).stem)}.jsonl"
    )


def compare(
    a: Annotated[
        str,
        typer.Argument(
            metavar="A", help="The reference: a stored name, a trace file or a library profile."
        ),
    ],
    b: Annotated[
        str,
        typer.Argument(
            metavar="B", help="What is judged against it; a workload profile is generated."
        ),
    ],
    gate: Annotated[
        bool, typer.Option("--gate", help="Exit 3 when a line is over its limit.")
    ] = False,
    seeds: Annotated[
        int,
        typer.Option(
            "--seeds", min=1, max=100, help="Traces that are generated where B is a profile."
        ),
    ] = 5,
    where: Where = None,
    from_: From = None,
    to: To = None,
    fmt: OutputFormat = "table",
    store: StoreAt = None,
) -> None:
    """Score one trace against another, or two runs.

    Example: lamina-traces compare azure load
    """
    from lamina_traces import runs, workloads
    from lamina_traces.errors import CheckFailed
    from lamina_traces.fidelity import compare as score

    first = workloads.selected(workloads.trace(a, store=store, say=say), where, from_, to)
    found = workloads.resolve(b, store=store, say=say)
    if isinstance(found, workloads.Trace) or where or from_ or to:
        whole = found if isinstance(found, workloads.Trace) else workloads.generated(found, say=say)
        second: Any = workloads.selected(whole, where, from_, to)
    else:
        second = found
        say(f"generating {seeds} traces of profile {found.name} [seeds 0 to {seeds - 1}]")
    if runs.is_run(first) and isinstance(second, workloads.Trace) and runs.is_run(second):
        _compare_runs(runs.Run.load(first), runs.Run.load(second), gate, fmt)
        return
    with compiling():
        card = score(first, second, seeds=seeds)
    if fmt == "json":
        emit_object(card.to_dict())
    else:
        emit(_card_rows(card), fmt)
    for note in card.notes:
        say(f"note: {note}")
    say(card.verdict)
    if card.unjudged:
        gated = len(card.judged) + len(card.unjudged)
        say(f"not judged: {len(card.unjudged)} of {gated} lines with a limit (see the notes)")
    if gate and not card.judged:
        raise CheckFailed(
            f"{card.b} cannot be judged against {card.a}",
            "the traces are too small, or record nothing that has a limit",
        )
    if gate and card.failed:
        raise CheckFailed(
            f"{card.b} is not like {card.a}: " + ", ".join(x.metric for x in card.failed),
            "fit a longer trace, or look at both with: lamina-traces report B --against A",
        )


def _card_rows(card: ScoreCard) -> list[dict[str, Any]]:
    """The lines as a table: unjudged ones last, columns that no line has left out."""
    rows = []
    for x in sorted(card.lines, key=lambda x: x.limit is None):
        low, high = x.seed_range or (None, None)
        rows.append(
            {
                "aspect": x.aspect,
                "metric": x.metric,
                "distance": x.value,
                "limit": x.limit,
                "verdict": {True: "ok", False: "over", None: "–"}[x.passed],
                "floor": x.floor,
                "seeds_min": low,
                "seeds_max": high,
                "unit": x.unit,
                "note": x.note if x.value is not None else f"not computed: {x.note}",
            }
        )
    if card.seeds is None:
        for row in rows:
            del row["seeds_min"], row["seeds_max"]
    return rows


def _compare_runs(a: Run, b: Run, gate: bool, fmt: str) -> None:
    from lamina_traces import runs
    from lamina_traces.errors import UsageError
    from lamina_traces.units import format_number

    if gate:
        raise UsageError(
            "--gate judges traces, not runs", "hold a run to limits with: simulate --slo"
        )
    say(f"a: {a.headline()}")
    say(f"b: {b.headline()}")
    rows = runs.side_by_side(a, b)
    if fmt == "json":
        emit_object({"a": a.name, "b": b.name, "lines": rows})
    elif fmt in ("table", "md"):
        shown = [
            {
                "metric": r["metric"],
                "a": runs.shown(r["metric"], r["a"]),
                "b": runs.shown(r["metric"], r["b"]),
                "b over a": format_number(r["b_over_a"]),
            }
            for r in rows
        ]
        emit(shown, fmt)
    else:
        emit(rows, fmt)

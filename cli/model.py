"""Commands on models of workloads: fit, compare."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from .decide import compiling
from .options import (
    From,
    OutputFormat,
    StoreAt,
    To,
    TraceArgument,
    Where,
)
from .output import emit, emit_object, say, write_file
from .profiles import print_profile

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

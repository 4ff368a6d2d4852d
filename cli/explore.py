"""Commands that look into traces: slices, similar."""

from __future__ import annotations

import math
from typing import Annotated

import typer

from .options import From, OutputFormat, StoreAt, To, TraceArgument, Where, WorkloadArgument
from .output import clean, emit, emit_object, say, write


def slices(
    trace: TraceArgument,
    metric: Annotated[
        str,
        typer.Option(
            "--metric",
            help="What deviates: failed, input_tokens, output_tokens, ttft_s, tpot_s, e2e_s.",
        ),
    ] = "output_tokens",
    by: Annotated[
        list[str] | None,
        typer.Option(
            "--by",
            metavar="DIMENSION",
            help="Slice by this alone (repeatable) [default: all that are recorded].",
        ),
    ] = None,
    against: Annotated[
        str | None,
        typer.Option(
            "--against",
            metavar="TRACE",
            help="Show what makes the metric differ from this trace's.",
        ),
    ] = None,
    where: Where = None,
    from_: From = None,
    to: To = None,
    fmt: OutputFormat = "table",
    store: StoreAt = None,
) -> None:
    """Find parts whose metric deviates.

    Example: lamina-traces slices burst --metric failed
    """
    from lamina_traces import slices as search
    from lamina_traces import workloads
    from lamina_traces.units import format_number

    chosen = workloads.selected(workloads.trace(trace, store=store, say=say), where, from_, to)
    share = metric in search.SHARES

    def shown(x: float) -> str:
        return f"{x:.1%}" if share else format_number(x)

    if against is not None:
        other = workloads.trace(against, store=store, say=say)
        difference, parts = search.shift(other, chosen, metric, by)
        if fmt in ("json", "jsonl"):
            emit_object(
                {
                    "metric": metric,
                    "difference": difference,
                    "slices": [p.to_dict() for p in parts],
                },
                fmt,
            )
            return

        def change(x: float) -> str:
            return f"{x:+.2%}" if share else f"×{math.exp(x):.3f}"

        how = f"{difference:+.2%} points" if share else f"{change(difference)} (geometric means)"
        write(clean(f"{metric} of {chosen.name} against {other.name}: {how}") + "\n\n")
        rows = [
            {
                "slice": p.name,
                "share before": f"{p.share[0]:.1%}",
                "share now": f"{p.share[1]:.1%}",
                "by its share": change(p.mix),
                "by itself": change(p.within),
            }
            for p in parts
        ]
        emit(rows, fmt)
        return
    found = search.find(chosen, metric, by)
    if fmt in ("json", "jsonl", "csv"):
        emit([f.to_dict() for f in found], fmt)
        return
    rows = [
        {
            "slice": f.name,
            "rows": f"{f.rows:,}",
            "share": f"{f.share:.1%}",
            metric if share else f"{metric}, geometric mean": shown(f.mean),
            "elsewhere": shown(f.rest),
            "effect d": f"{f.effect:+.2f}",
            "q": f"{f.q:.2g}",
        }
        for f in found
    ]
    emit(rows, fmt)
    if not rows:
        say(
            f"no slice of half a per cent or more deviates in {metric} by {search.LEAST_EFFECT} standard deviations"
        )


def similar(
    workload: WorkloadArgument,
    other: Annotated[
        str | None,
        typer.Argument(metavar="[TRACE]", help="Compare with this trace instead of the library."),
    ] = None,
    fmt: OutputFormat = "table",
    store: StoreAt = None,
) -> None:
    """Find what a workload is most like.

    Example: lamina-traces similar azure-code
    """
    from lamina_traces import similarity, workloads
    from lamina_traces.characterization import characterize
    from lamina_traces.errors import ModelError

    first = workloads.resolve(workload, store=store, say=say)
    profile = first if isinstance(first, workloads.Profile) else characterize(first)
    if other is None:
        found = similarity.nearest(profile)
        if fmt == "table":
            rows = [
                {"profile": f.name, "distance": f"{f.distance:.2f}"}
                | {k: f.parts.get(k) for k in similarity.SCALES}
                for f in found
            ]
            emit(rows, fmt)
            write(
                "distance: root mean square of the others, each over the scale at which workloads are plainly different\n"
            )
        else:
            emit([f.to_dict() for f in found], fmt)
        return
    second = workloads.resolve(other, store=store, say=say)
    own = second if isinstance(second, workloads.Profile) else characterize(second)
    like = similarity.between(profile, own)
    if like is None:
        raise ModelError(
            f"{profile.name!r} and {own.name!r} have no aspect in common",
            "name two workloads of requests",
        )
    facts = like.to_dict()
    if not isinstance(first, workloads.Profile) and not isinstance(second, workloads.Profile):
        facts["compression_distance"] = round(similarity.compression_distance(first, second), 4)
    if fmt in ("json", "jsonl"):
        emit_object(facts, fmt)
        return
    rows = [
        {
            "distance": k,
            "value": v,
            "what it is": similarity.SCALES[k][1] if k in similarity.SCALES else "",
        }
        for k, v in facts.items()
        if k not in ("profile", "distance")
    ]
    emit(rows, fmt)
    say(f"overall distance {like.distance:.2f}")

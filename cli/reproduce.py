"""What papers say, measured with this model: reproduce."""

from __future__ import annotations

from typing import Annotated

import typer

from .decide import compiling
from .options import OutputFormat
from .output import emit, emit_object, say, write


def reproduce(
    names: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="NAME",
            help="Claims, or the first words of several, as in nanoflow [default: list them].",
        ),
    ] = None,
    all_: Annotated[
        bool, typer.Option("--all", help="All of them, and what cannot be reproduced.")
    ] = False,
    fmt: OutputFormat = "table",
) -> None:
    """Measure what papers claim.

    A miss is a result like any other: the exit code is 0.

    Example: lamina-traces reproduce nanoflow
    """
    from time import perf_counter

    from lamina_traces import catalogs, claims
    from lamina_traces.claims.unreproducible import UNREPRODUCIBLE
    from lamina_traces.errors import UsageError
    from lamina_traces.simulator import warm_up

    if names and all_:
        raise UsageError("--all names every claim, and so do names", "leave one of them out")
    if not names and not all_:
        emit(catalogs.rows("claims"), fmt)
        say("measure them with: lamina-traces reproduce --all")
        return
    chosen = list(claims.claims().values()) if all_ else claims.named(names or [])
    if any(c.clock for c in chosen):
        begun = perf_counter()
        with compiling():
            warm_up()
        say(f"the serving clock was ready after {perf_counter() - begun:.1f} s, which do not count")
    begun = perf_counter()
    results = [claims.measured(c) for c in chosen]
    say(f"measured {len(results)} in {perf_counter() - begun:.1f} s")
    if fmt in ("csv", "jsonl"):
        emit([r.to_dict() for r in results], fmt)
        return
    if fmt == "json":
        impossible = {"unreproducible": [vars(u) for u in UNREPRODUCIBLE]} if all_ else {}
        emit_object({"claims": [r.to_dict() for r in results], "summary": claims.summary(results), **impossible})  # fmt: skip
        return
    emit([claims.shown(r) for r in results], fmt)
    write("\n")
    for r in results:
        if r.status != "reproduced" and r.claim.note:
            write(f"{r.claim.name}: {r.claim.note}\n")
    write(claims.summary(results) + "\n")
    if all_:
        write("\nnot reproducible with a model of this kind\n\n")
        emit([vars(u) for u in UNREPRODUCIBLE], fmt)

"""Commands that decide: simulate, catalog."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from .options import From, OutputFormat, StoreAt, To, Where, WorkloadArgument
from .output import clean, emit, emit_object, say, warn, write

Replay = Literal["session", "open"]
Route = Literal["round-robin", "least-outstanding"]

Model = Annotated[str, typer.Option("--model", help="Model shape (see: catalog models).")]
Gpu = Annotated[str, typer.Option("--gpu", help="Accelerator (see: catalog gpus).")]
Tp = Annotated[int, typer.Option("--tp", min=1, help="Tensor-parallel devices in a replica.")]
Replicas = Annotated[int, typer.Option("--replicas", min=1, help="Copies of the engine.")]


def simulate(
    workload: WorkloadArgument,
    model: Model = "llama-3.1-8b",
    gpu: Gpu = "h100-sxm",
    tp: Tp = 1,
    replicas: Replicas = 1,
    dtype: Annotated[
        str, typer.Option("--dtype", help="Type of weights and arithmetic: bf16, fp16, fp8.")
    ] = "bf16",
    route: Annotated[
        Route, typer.Option("--route", help="How requests are spread over replicas.")
    ] = "round-robin",
    spec: Annotated[
        Path | None,
        typer.Option(
            "--spec", help="A TOML file that states the deployment; replaces the flags above."
        ),
    ] = None,
    with_: Annotated[
        list[str] | None,
        typer.Option(
            "--with",
            metavar="TECHNIQUE[:p=v,…]",
            help="Switch a technique on (see: catalog techniques); may be repeated.",
        ),
    ] = None,
    replay: Annotated[
        Replay,
        typer.Option(
            "--replay",
            help="session: a later turn waits for the one before it; open: recorded arrivals.",
        ),
    ] = "session",
    slo: Annotated[
        str | None,
        typer.Option("--slo", metavar="ttft.p99=2s,…", help="Limits; exit 3 when one is missed."),
    ] = None,
    explain: Annotated[
        bool,
        typer.Option("--explain", help="Print every operator of a mean iteration and what binds."),
    ] = False,
    save: Annotated[
        str | None, typer.Option("--save", metavar="NAME", help="Store the run as a trace.")
    ] = None,
    replace: Annotated[
        bool, typer.Option("--replace", help="Replace the trace of this name.")
    ] = False,
    where: Where = None,
    from_: From = None,
    to: To = None,
    fmt: OutputFormat = "table",
    store: StoreAt = None,
) -> None:
    """Serve a workload on a modelled deployment.

    Example: lamina-traces simulate azure-code --model llama-3.1-8b --gpu h100-sxm --explain
    """
    from lamina_traces import runs, techniques, workloads
    from lamina_traces.errors import CheckFailed
    from lamina_traces.store import Store

    deployment = runs.deployment(
        spec, model, gpu, tp=tp, replicas=replicas, dtype=dtype, route=route
    )
    limits = runs.parse_slo(slo) if slo else None
    using = [techniques.parse(t) for t in with_ or []]
    trace = workloads.selected(workloads.trace(workload, store=store, say=say), where, from_, to)
    run = runs.simulate(
        trace,
        deployment,
        replay=replay,
        slo=limits,
        using=using,
        name=save or f"{trace.name} on {deployment.model}",
    )
    warn(run.notices)
    if save is not None:
        run.save(Store(store), save, replace=replace)
        say(f"saved the run; next: lamina-traces report {save} -o {save}.html")
    if fmt in ("json", "jsonl"):
        emit_object(run.to_dict())
    else:
        print_run(run, fmt, explain=explain)
    if limits and not run.slo_met:
        raise CheckFailed(
            f"the SLO is missed: {run.slo_text}",
            "more replicas, a faster GPU, or a larger --tp may meet it",
        )


def print_run(run: Any, fmt: str, *, explain: bool) -> None:
    """The tables of a run."""
    if fmt in ("table", "md"):
        write(clean(run.headline()) + "\n\n")
        emit(run.latency_rows(), fmt)
        for line in run.missing():
            say(f"note: {line}")
        write("\n")
        emit(run.metric_rows(), fmt)
    else:
        emit(
            [{"metric": k, "value": v} for k, v in run.metrics.items() if not k.endswith("_why")],
            fmt,
        )
    if explain:
        write("\n")
        emit(run.explain_rows() if fmt in ("table", "md") else run.explain, fmt)


Topic = Literal["formats", "targets", "gpus", "models", "techniques", "presets", "queries"]


def catalog(
    topic: Annotated[Topic, typer.Argument(help="What to list.")],
    fmt: OutputFormat = "table",
) -> None:
    """List what is built in.

    Example: lamina-traces catalog gpus
    """
    from lamina_traces import catalogs

    emit(catalogs.rows(topic), fmt)

"""Commands that decide: simulate, catalog."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from .calibration import calibrated, refuse, run_backtest
from .options import (
    Arrivals,
    From,
    OutputFormat,
    PoissonRate,
    Replace,
    Seed,
    StoreAt,
    To,
    Where,
    WorkloadArgument,
    poisson_rate,
    reference,
)
from .output import clean, emit, emit_object, say, warn, write

Replay = Literal["session", "open"]
Route = Literal["round-robin", "least-outstanding"]

Model = Annotated[
    str,
    typer.Option(
        "--model", help="Model shape (see: catalog models), or the path of a config.json."
    ),
]
Gpu = Annotated[str, typer.Option("--gpu", help="Accelerator (see: catalog gpus).")]
Tp = Annotated[int, typer.Option("--tp", min=1, help="Tensor-parallel devices in a replica.")]
Pp = Annotated[int, typer.Option("--pp", min=1, help="Pipeline stages in a replica.")]
Dp = Annotated[
    int, typer.Option("--dp", min=1, help="Data-parallel attention ranks in a replica (experts).")
]
Ep = Annotated[int, typer.Option("--ep", min=1, help="Devices that whole experts are spread over.")]
KvDtype = Annotated[
    str | None, typer.Option("--kv-dtype", help="Type of the KV cache: bf16, fp8 [default: bf16].")
]
Era = Annotated[str, typer.Option("--era", help="Software overheads: 2025, 2025-sync or 2023.")]
Replicas = Annotated[
    int, typer.Option("--replicas", min=1, max=10_000, help="Copies of the engine.")
]
Spec = Annotated[
    Path | None,
    typer.Option(
        "--spec",
        help="A TOML file that states the deployment, in place of the flags; a saved run shows one (show RUN).",
    ),
]
CalibrationFile = Annotated[
    Path | None,
    typer.Option(
        "--calibration",
        metavar="FILE",
        help="Efficiencies that calibrate wrote, in place of the era's.",
    ),
]
BacktestFlag = Annotated[
    bool,
    typer.Option(
        "--backtest", help="Hold the simulator against the latencies that the trace records."
    ),
]
Propose = Annotated[
    Path | None,
    typer.Option(
        "--propose",
        metavar="FILE",
        help="With --backtest: write the calibration fitted on the log's first half.",
    ),
]
SloOption = Annotated[
    str | None,
    typer.Option(
        "--slo",
        metavar="ttft.p99=2s,…",
        help="Limits on ttft, tpot, e2e, queue; exit 3 when one is missed.",
    ),
]


def simulate(
    workload: WorkloadArgument,
    model: Model = "llama-3.1-8b",
    gpu: Gpu = "h100-sxm",
    tp: Tp = 1,
    pp: Pp = 1,
    dp: Dp = 1,
    ep: Ep = 1,
    replicas: Replicas = 1,
    dtype: Annotated[
        str,
        typer.Option(
            "--dtype",
            help="Type of the weights: bf16, fp8, fp4, int4…; auto: as the model is published.",
        ),
    ] = "auto",
    kv_dtype: KvDtype = None,
    era: Era = "2025",
    route: Annotated[
        Route, typer.Option("--route", help="How requests are spread over replicas.")
    ] = "round-robin",
    spec: Spec = None,
    calibration: CalibrationFile = None,
    backtest: BacktestFlag = False,
    propose: Propose = None,
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
    arrivals: Arrivals = None,
    rate: PoissonRate = None,
    seed: Seed = 0,
    slo: SloOption = None,
    explain: Annotated[
        bool,
        typer.Option("--explain", help="Print every operator of a mean iteration and what binds."),
    ] = False,
    save: Annotated[
        str | None, typer.Option("--save", metavar="NAME", help="Store the run as a trace.")
    ] = None,
    replace: Replace = False,
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
    from lamina_traces.errors import CheckFailed, UsageError
    from lamina_traces.store import Store

    deployment = serving_spec(
        spec,
        model=model,
        gpu=gpu,
        tp=tp,
        pp=pp,
        dp=dp,
        ep=ep,
        replicas=replicas,
        dtype=dtype,
        kv_dtype=kv_dtype,
        era=era,
        route=route,
    )
    if calibration is not None:
        deployment = calibrated(deployment, calibration)
    if propose is not None and not backtest:
        raise UsageError("--propose goes with --backtest", "add --backtest")
    if backtest:
        given = {"--with": with_, "--slo": slo, "--save": save, "--explain": explain, "--arrivals": arrivals}  # fmt: skip
        refuse(given, "--backtest", "it replays the recorded requests as they came")
        trace = workloads.trace(workload, store=store, say=say)
        run_backtest(workloads.selected(trace, where, from_, to), deployment, propose, fmt)
        return
    limits = runs.parse_slo(slo) if slo else None
    using = [techniques.parse(t) for t in with_ or []]
    poisson = poisson_rate(arrivals, rate)
    trace = workloads.selected(workloads.trace(workload, store=store, say=say), where, from_, to)
    if poisson is not None:
        trace = workloads.with_poisson(trace, poisson, seed, say=say)
    with compiling():
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
        say(f"saved the run; next: lamina-traces report {reference(save)}")
    if fmt in ("json", "jsonl"):
        emit_object(run.to_dict(), fmt)
    else:
        print_run(run, fmt, explain=explain)
    if limits and not run.slo_met:
        raise CheckFailed(
            f"the SLO is missed: {run.slo_text}",
            "more replicas, a faster GPU, or a larger --tp may meet it",
        )


_FLAGS = {
    "model": "llama-3.1-8b",
    "gpu": "h100-sxm",
    "tp": 1,
    "pp": 1,
    "dp": 1,
    "ep": 1,
    "replicas": 1,
    "dtype": "auto",
    "kv_dtype": None,
    "era": "2025",
    "route": "round-robin",
}
"""defaults of the flags that state a deployment."""


def serving_spec(spec: Path | None, **flags: Any) -> Any:
    """The serving spec of a file or of the flags, not of both."""
    from lamina_traces import runs
    from lamina_traces.errors import UsageError

    flags = {**_FLAGS, **flags}
    given = [f"--{n.replace('_', '-')}" for n, default in _FLAGS.items() if flags[n] != default]
    if spec is not None and given:
        raise UsageError(
            f"--spec states the deployment, and so do {', '.join(given)}",
            "change the file, or leave it out",
        )
    return runs.deployment(spec, **flags)


@contextmanager
def compiling() -> Iterator[None]:
    """Says so when the serving clock must be compiled first, and when the result cannot be kept."""
    from lamina_traces import compiled
    from lamina_traces.simulator import serving

    if not compiled.is_kept(serving.advance):
        say("compiling the serving clock, once: about ten seconds")
    yield
    if compiled.outcome()["unsaved"]:
        say(
            f"warning: compiled code cannot be kept in {compiled.cache_folder()}; set LAMINA_CACHE_DIR to a writable folder [compile-cache]"
        )


def print_run(run: Any, fmt: str, *, explain: bool) -> None:
    """The tables of a run."""
    if fmt in ("table", "md"):
        write(clean(run.headline()) + "\n\n")
        emit(run.latency_rows(), fmt)
        for line in run.missing():
            say(f"note: {line}")
        write("\n")
        rows = run.metric_rows()
        emit(
            rows,
            fmt,
            ["metric", "value", "note"] if any(r["note"] for r in rows) else ["metric", "value"],
        )
    else:
        emit(
            [{"metric": k, "value": v} for k, v in run.metrics.items() if not k.endswith("_why")],
            fmt,
        )
    if explain:
        write("\n")
        emit(run.explain_rows() if fmt in ("table", "md") else run.explain, fmt)


Topic = Literal[
    "formats", "targets", "gpus", "links", "models", "techniques", "presets", "knobs", "queries"
]


def catalog(
    topic: Annotated[Topic, typer.Argument(help="What to list.")],
    name: Annotated[
        str | None,
        typer.Argument(
            metavar="[NAME]",
            help="One format, with its columns and quirks, or one preset, with its numbers.",
        ),
    ] = None,
    fmt: OutputFormat = "table",
) -> None:
    """List what is built in.

    Example: lamina-traces catalog gpus
    """
    from lamina_traces import catalogs
    from lamina_traces.errors import UsageError

    if name is None:
        short = topic == "presets" and fmt in ("table", "md")
        emit(catalogs.rows(topic), fmt, catalogs.PRESET_COLUMNS if short else None)
        return
    if topic == "presets":
        _preset(catalogs.preset_details(name), fmt)
        return
    if topic != "formats":
        raise UsageError(
            f"catalog {topic} takes no name", "for instance: lamina-traces catalog formats burstgpt"
        )
    details = catalogs.format_details(name)
    if fmt in ("json", "jsonl"):
        emit_object(details, fmt)
        return
    columns, quirks = details.pop("columns"), details.pop("quirks")
    for key, value in details.items():
        if value:
            shown = ", ".join(value) if isinstance(value, list) else value
            write(f"{key.replace('_', ' '):9} {shown}\n")
    write("\n")
    emit(columns, fmt)
    write("".join(f"- {q}\n" for q in quirks))


def _preset(details: dict[str, Any], fmt: str) -> None:
    if fmt in ("json", "jsonl"):
        emit_object(details, fmt)
        return
    numbers = details.pop("quantities")
    if fmt == "csv":
        emit(numbers, fmt)
        return
    shown = ("name", "title", "paper", "models", "limits", "basis", "fitted_on", "evidence", "aspects", "licence")  # fmt: skip
    write("".join(f"{k.replace('_', ' '):9} {details[k]}\n" for k in shown if details[k]) + "\n")
    if numbers:
        emit(numbers, fmt)
    else:
        write(f"its numbers are fitted: lamina-traces show {details['name']}\n")

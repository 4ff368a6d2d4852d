"""The command that decides: simulate."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from .calibration import calibrated, refuse, run_backtest
from .options import (
    ArrivalRate,
    Arrivals,
    From,
    OutputFormat,
    Replace,
    Seed,
    StoreAt,
    To,
    Where,
    WorkloadArgument,
    arrival_rate,
    reference,
)
from .output import clean, emit, emit_object, say, warn, write

Replay = Literal["session", "open"]
Failures = Literal["served", "recorded"]

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
        help="Limits on ttft, tpot, e2e, queue: of a statistic, or without one of each request (see --target); exit 3 when one is missed.",
    ),
]


def simulate(
    context: typer.Context,
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
        str,
        typer.Option(
            "--route",
            metavar="NAME|FILE.py:FUNCTION",
            help="How requests are spread over replicas: round-robin, least-outstanding, least-kv, power-of-two, session-affinity, prefix-affinity, or a function of your own.",
        ),
    ] = "round-robin",
    rank: Annotated[
        str,
        typer.Option(
            "--rank",
            metavar="NAME|FILE.py:FUNCTION",
            help="Whose turn it is in a queue: fcfs, priority, least-slack (which needs --slo ttft.…=…), or a function of your own.",
        ),
    ] = "fcfs",
    prefill: Annotated[
        str,
        typer.Option(
            "--prefill",
            metavar="chunked|first|apart:N",
            help="Prompts in chunks beside decodes; first, whole and alone; or by N of the replicas, which hand over to the others.",
        ),
    ] = "chunked",
    preempt: Annotated[
        Literal["recompute", "swap"],
        typer.Option("--preempt", help="What becomes of the KV of who must give way."),
    ] = "recompute",
    reuse: Annotated[
        Literal["none", "prefix", "auto"],
        typer.Option(
            "--reuse",
            help="prefix: a cache of the blocks that prompts begin with (prefix_hashes); auto: where the trace records them.",
        ),
    ] = "none",
    scale: Annotated[
        str | None,
        typer.Option(
            "--scale",
            metavar="MIN..MAX[:load=60s,…]",
            help="As many replicas as have requests=32 each, looked at every period=15s, ready after load=60s; start=MIN.",
        ),
    ] = None,
    max_num_seqs: Annotated[
        int, typer.Option("--max-num-seqs", min=1, help="Most sequences of an iteration.")
    ] = 256,
    max_num_batched_tokens: Annotated[
        int, typer.Option("--max-num-batched-tokens", min=1, help="Most tokens of an iteration.")
    ] = 2048,
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
    failures: Annotated[
        Failures,
        typer.Option(
            "--failures",
            help="Requests that failed: served as the others; or recorded: they load the engine, then fail as they did.",
        ),
    ] = "served",
    concurrency: Annotated[
        int | None,
        typer.Option(
            "--concurrency",
            min=1,
            help="At most so many under way: the next in the order of arrival is sent when fewer are, and not before it arrived.",
        ),
    ] = None,
    arrivals: Arrivals = None,
    rate: ArrivalRate = None,
    seed: Seed = 0,
    slo: SloOption = None,
    engine_args: Annotated[
        str | None,
        typer.Option(
            "--engine-args",
            metavar="'vllm serve …'",
            help="The command line that starts vLLM or SGLang, in place of the flags that it says.",
        ),
    ] = None,
    warmup: Annotated[
        str | None,
        typer.Option(
            "--warmup", metavar="60s", help="Serve what arrives first; do not measure it."
        ),
    ] = None,
    cooldown: Annotated[
        str | None,
        typer.Option(
            "--cooldown", metavar="60s", help="Serve what arrives last; do not measure it."
        ),
    ] = None,
    by: Annotated[
        str | None,
        typer.Option(
            "--by",
            metavar="COLUMN",
            help="Latency and attainment by tenant, model, class, length (quartiles of input tokens) or any column.",
        ),
    ] = None,
    repeats: Annotated[
        int | None,
        typer.Option(
            "--repeats", min=1, metavar="N", help="N seeds from --seed on: medians with intervals."
        ),
    ] = None,
    capacity: Annotated[
        bool,
        typer.Option(
            "--capacity", help="Find the highest rate that meets --slo, in at most 12 runs."
        ),
    ] = False,
    target: Annotated[
        float | None,
        typer.Option(
            "--target",
            help="Share of the requests that must meet the limits without a statistic, all at once [default: 0.99].",
        ),
    ] = None,
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

    from .studies import find_capacity, refuse_single, repeat

    deployment, with_ = serving_spec(
        context,
        spec,
        engine_args,
        with_ or [],
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
        rank=rank,
        prefill=prefill,
        preempt=preempt,
        reuse=reuse,
        scale=scale,
        max_num_seqs=max_num_seqs,
        max_num_batched_tokens=max_num_batched_tokens,
    )
    if calibration is not None:
        deployment = calibrated(deployment, calibration)
    if save is not None:
        workloads.checked_name(save)
    using = [techniques.parse(t) for t in with_]
    techniques.check(using)
    if propose is not None and not backtest:
        raise UsageError("--propose goes with --backtest", "add --backtest")
    if propose is not None and using:
        raise UsageError(f"--propose does not go with {using[0].technique.name}", "points of a log know no technique; leave it out")  # fmt: skip
    if backtest:
        given = {
            "--slo": slo, "--save": save, "--explain": explain, "--arrivals": arrivals, "--concurrency": concurrency,
            "--warmup": warmup, "--cooldown": cooldown, "--by": by, "--repeats": repeats, "--capacity": capacity, "--target": target,
            "--failures": failures != "served",
        }  # fmt: skip
        refuse(given, "--backtest", "it replays the recorded requests as they came")
        trace = workloads.trace(workload, store=store, say=say)
        run_backtest(workloads.selected(trace, where, from_, to), deployment, using, propose, fmt)
        return
    if target is not None and slo is None:
        raise UsageError("--target goes with --slo", "say what they have to meet: --slo ttft=2s")
    limits = None if slo is None else runs.parse_slo(slo, target)
    source = workloads.Source(
        workloads.resolve(workload, store=store, say=say), *arrival_rate(arrivals, rate), where, from_, to, say=say
    )  # fmt: skip
    options: dict[str, Any] = {
        "concurrency": concurrency,
        "replay": replay,
        "failures": failures,
        "using": using,
        "warmup_s": _seconds(warmup),
        "cooldown_s": _seconds(cooldown),
    }
    if capacity or repeats is not None:
        refuse_single(capacity=capacity, save=save, explain=explain, by=by)
    if capacity:
        find_capacity(source, deployment, limits, seed, repeats, options, fmt)
        return
    if repeats is not None:
        repeat(source, deployment, limits, seed, repeats, options, fmt)
        return
    trace, faster = source.at(seed)
    with compiling():
        run = runs.simulate(
            trace,
            deployment,
            slo=limits,
            by=by,
            name=save or f"{trace.name} on {deployment.model}",
            faster=faster,
            **options,
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
        unseen = not run.metrics["saturated"] and all(v["ok"] or (v["observed_s"] is None and not v["each"]) for v in run.slo)  # fmt: skip
        raise CheckFailed(
            f"the SLO is missed: {run.slo_text}",
            "simulate more requests, or limit each of them, as in ttft=2s"
            if unseen
            else "more replicas, a faster GPU, or a larger --tp may meet it",
        )


def _seconds(duration: str | None) -> float:
    from lamina_traces.units import parse_duration_ns

    return 0.0 if duration is None else parse_duration_ns(duration) / 1e9


def written_out(context: typer.Context, names: Iterable[str]) -> list[str]:
    """Those flags that the command line states, if only with their defaults."""
    return [n for n in names if getattr(context.get_parameter_source(n), "name", "") == "COMMANDLINE"]  # fmt: skip


def serving_spec(
    context: typer.Context,
    spec: Path | None,
    engine_args: str | None,
    with_: list[str],
    **flags: Any,
) -> tuple[Any, list[str]]:
    """The serving spec of a file, of the command line of an engine with flags beside it, or of the flags alone, and the
    techniques ``with_`` and the engine's. Those flags count as given that are written out, if only with their defaults."""
    from lamina_traces import runs
    from lamina_traces.errors import UsageError

    given = written_out(context, flags)
    if spec is not None and (given or engine_args is not None):
        also = [f"--{n.replace('_', '-')}" for n in given] + ["--engine-args"] * (
            engine_args is not None
        )
        raise UsageError(
            f"--spec states the deployment, and so do {', '.join(also)}",
            "change the file, or leave it out",
        )
    if engine_args is None:
        return runs.deployment(spec, **flags), with_
    beside = {n: flags[n] for n in given if n != "gpu"}
    deployment, using, notices = runs.deployment_of_engine(engine_args, flags["gpu"], beside, with_)
    warn(notices)
    return deployment, using


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


MOST_GROUPS = 20
"""shown to people."""


def print_run(run: Any, fmt: str, *, explain: bool) -> None:
    """The tables of a run."""
    if fmt in ("table", "md"):
        write(clean(run.headline()) + "\n\n")
        emit(run.latency_rows(), fmt)
        for line in run.missing():
            say(f"note: {line}")
        write("\n")
        if run.groups:
            emit(run.group_rows()[:MOST_GROUPS], fmt)
            if len(run.groups) > MOST_GROUPS:
                say(
                    f"note: the {MOST_GROUPS} largest of {len(run.groups):,} groups; --format json has all"
                )
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

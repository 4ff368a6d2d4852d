"""Commands that share results: report, demo."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path
from typing import Annotated

import typer

from .decide import Gpu, Model, Replicas, SloOption, Spec, Tp, compiling, serving_spec, written_out
from .options import From, StoreAt, To, Where
from .output import clean, say, warn, write


def report(
    context: typer.Context,
    what: Annotated[
        str,
        typer.Argument(
            metavar="TRACE|PROFILE|RUN",
            help="A trace (stored name or file), a workload profile, or a saved run.",
        ),
    ],
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="File to write [default: NAME.html].")
    ] = None,
    against: Annotated[
        str | None,
        typer.Option(
            "--against", metavar="TRACE", help="Score this trace against TRACE and show it."
        ),
    ] = None,
    model: Model = "llama-3.1-8b",
    gpu: Gpu = "h100-sxm",
    tp: Tp = 1,
    replicas: Replicas = 1,
    spec: Spec = None,
    slo: SloOption = None,
    where: Where = None,
    from_: From = None,
    to: To = None,
    store: StoreAt = None,
) -> None:
    """Write a report: one offline HTML page.

    Example: lamina-traces report azure-code -o azure.html
    """
    from lamina_traces import fidelity, runs, workloads
    from lamina_traces.characterization import characterize
    from lamina_traces.errors import CheckFailed, ModelError, UsageError
    from lamina_traces.reports import write_report

    found = workloads.resolve(what, store=store, say=say)
    if isinstance(found, workloads.Profile):
        profile = found
        trace = workloads.generated(found, say=say) if "llm_requests" in found.parts else None
    else:
        trace = workloads.selected(found, where, from_, to)
        profile = characterize(trace)
    run = None
    if trace is not None and runs.is_run(trace):
        wrong = written_out(context, ("model", "gpu", "tp", "replicas", "spec", "slo"))
        if wrong:
            raise UsageError(f"{what} is a run and was simulated: {', '.join(f'--{n}' for n in wrong)} has no use", "simulate again, or report the workload itself")  # fmt: skip
        run = runs.Run.load(trace)
    elif trace is not None and "llm_requests" in trace.tables:
        deployment, _ = serving_spec(
            context, spec, None, [], model=model, gpu=gpu, tp=tp, replicas=replicas
        )
        try:
            with compiling():
                run = runs.simulate(trace, deployment, slo=runs.parse_slo(slo) if slo else None)
        except ModelError as e:
            say(f"warning: no simulation: {e.message} [not-simulated]")
    card = None
    if against is not None and trace is not None:
        card = fidelity.compare(workloads.trace(against, store=store, say=say), trace)
    path = output if output is not None else Path(f"{_stem(what)}.html")
    size = write_report(
        path,
        profile=profile,
        run=run,
        card=card,
        command=shlex.join(["lamina-traces", *sys.argv[1:]]),
    )
    warn(profile.notices)
    for f in profile.findings():
        write(clean(f.text) + "\n")
    if run is not None:
        write(clean(run.headline()) + "\n")
    write(clean(f"report: {path} ({_size(size)})") + "\n")
    if slo is not None and run is not None and not run.slo_met:
        raise CheckFailed(f"the SLO is missed: {run.slo_text}", "the page shows by how much")


def _size(n: int) -> str:
    return f"{n / 1e6:.1f} MB" if n >= 1e6 else f"{n / 1e3:.0f} kB"


_SUFFIXES = {".gz", ".zst", ".csv", ".jsonl", ".json", ".parquet", ".txt", ".log"}


def _stem(what: str) -> str:
    """A file name for the page: the trace's own name, or the file's without its suffixes."""
    path = Path(
        Path(what).name
        if Path(what).exists()
        else what.removeprefix("store:").removeprefix("library:")
    )
    while path.suffix in _SUFFIXES:
        path = path.with_suffix("")
    return (
        "".join(c if c.isalnum() or c in "._- " else "_" for c in path.name).strip(". ") or "report"
    )


def demo(
    folder: Annotated[
        Path | None,
        typer.Argument(metavar="DIR", help="Where to work [default: a temporary folder, kept]."),
    ] = None,
) -> None:
    """Run the whole path on sample data.

    Example: lamina-traces demo
    """
    import tempfile

    from lamina_traces.errors import LaminaError
    from lamina_traces.samples import sample_path

    from .app import run

    where = folder if folder is not None else Path(tempfile.mkdtemp(prefix="lamina-demo-"))
    where.mkdir(parents=True, exist_ok=True)
    store = ["--store", str(where / "store")]
    sample = sample_path("requests.csv")
    page = where / "report.html"
    for command in (
        ["ingest", str(sample), "--name", "sample", "--nature", "synthetic", "--replace", *store],
        ["fit", "sample", "-o", str(where / "profile.json"), *store],
        [
            "generate",
            str(where / "profile.json"),
            "--rate",
            "x2",
            "--seed",
            "3",
            "--name",
            "twice",
            "--replace",
            *store,
        ],
        [
            "generate",
            str(where / "profile.json"),
            "--replay-rate",
            "--seed",
            "1",
            "--name",
            "synthetic",
            "--replace",
            *store,
        ],
        ["compare", "sample", "synthetic", *store],
        ["export", "twice", "--to", "mooncake", "-o", str(where / "twice.jsonl"), *store],
        ["simulate", "sample", "--model", "llama-3.1-8b", "--gpu", "h100-sxm", "--explain", *store],
        [
            "simulate",
            "twice",
            "--model",
            "llama-3.1-8b",
            "--gpu",
            "h100-sxm",
            "--save",
            "twice-run",
            "--replace",
            *store,
        ],
        ["report", "synthetic", "--against", "sample", "-o", str(page), *store],
    ):
        write(f"\n$ lamina-traces {shlex.join(command)}\n")
        sys.stdout.flush()
        code = run(command)
        if code:
            raise LaminaError(
                f"the demo stopped at: {command[0]} (exit {code})",
                "please report this with the lines above",
            )
    write(f"\nThe report: {page.resolve()}\n")

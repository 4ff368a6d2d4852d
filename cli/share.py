"""Commands that share results: report, demo."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path
from typing import Annotated

import typer

from .decide import Gpu, Model, Replicas, Tp
from .options import StoreAt
from .output import clean, say, warn, write


def report(
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
    store: StoreAt = None,
) -> None:
    """Write a report: one offline HTML page.

    Example: lamina-traces report azure-code -o azure.html
    """
    from lamina_traces import fidelity, runs, workloads
    from lamina_traces.characterization import characterize
    from lamina_traces.reports import write_report

    found = workloads.resolve(what, store=store, say=say)
    if isinstance(found, workloads.Profile):
        profile, trace = found, workloads.trace(what, store=store)
    else:
        trace = found
        profile = characterize(trace)
    run = None
    if runs.is_run(trace):
        run = runs.Run.load(trace)
    elif (
        "llm_requests" in trace.tables and profile.aspect("arrivals") and profile.aspect("lengths")
    ):
        run = runs.simulate(trace, runs.deployment(None, model, gpu, tp=tp, replicas=replicas))
    card = None
    if against is not None:
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
    write(clean(f"report: {path} ({size / 1e6:.1f} MB)") + "\n")


def _stem(what: str) -> str:
    name = Path(what.split(":", 1)[-1]).name
    return Path(name).stem or "report"


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
            "1",
            "--name",
            "twice",
            "--replace",
            *store,
        ],
        [
            "generate",
            str(where / "profile.json"),
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

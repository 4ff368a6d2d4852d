"""Commands that hold the cost model against measurements: calibrate, and simulate --backtest."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from .options import OutputFormat, Seed, StoreAt, Where, reference
from .output import clean, emit, emit_object, say, warn, write, write_file

Device = Literal["cpu", "cuda"]


def calibrate(
    points: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[POINTS]...",
            help="Measured points: a table (operating_points.csv), or traces and result files of benchmarks.",
        ),
    ] = None,
    device: Annotated[
        Device | None,
        typer.Option(
            "--device",
            help="Instead of points: measure this machine (cuda needs the extra torch), held against --gpu.",
        ),
    ] = None,
    requests: Annotated[
        str | None,
        typer.Option(
            "--requests",
            metavar="TRACE",
            help="Instead of points: a log of requests; with --power, watts of the site by phase.",
        ),
    ] = None,
    power: Annotated[
        str | None,
        typer.Option("--power", metavar="TRACE", help="A power log of the same hours."),
    ] = None,
    window: Annotated[
        str | None,
        typer.Option("--window", help="With --power: its windows, as in 2s [default: 5 samples]."),
    ] = None,
    model: Annotated[
        str | None,
        typer.Option("--model", help="Only this model; of a log of requests: what was served."),
    ] = None,
    gpu: Annotated[
        str | None,
        typer.Option("--gpu", help="Only this accelerator; of a log: what it ran on."),
    ] = None,
    tp: Annotated[
        int | None,
        typer.Option("--tp", min=1, help="Only this degree; of a log: tensor-parallel devices."),
    ] = None,
    dtype: Annotated[
        str | None, typer.Option("--dtype", help="Only this type of the weights; of a log: theirs.")
    ] = None,
    engine: Annotated[
        str | None, typer.Option("--engine", help="Only engines whose name has this in it.")
    ] = None,
    era: Annotated[
        str | None,
        typer.Option("--era", help="Prior: 2025, 2025-sync or 2023 [default: the points' own]."),
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", metavar="FILE", help="Write the calibration as TOML."),
    ] = None,
    seed: Seed = 0,
    where: Where = None,
    fmt: OutputFormat = "table",
    store: StoreAt = None,
) -> None:
    """Fit efficiencies to measured points.

    Example: lamina-traces calibrate points.csv --gpu h100-sxm --model llama-3.1-70b -o mine.toml
    """
    from lamina_traces import measurements
    from lamina_traces.errors import UsageError
    from lamina_traces.store.manifest import created_now

    joined = requests is not None or power is not None
    if (device is not None) + bool(points) + joined != 1:
        raise UsageError(
            "calibrate takes measured points, or --requests with --power, or --device to measure this machine",
            "for instance: lamina-traces calibrate points.csv --gpu h100-sxm",
        )
    stating = {"--model": model, "--tp": tp, "--dtype": dtype, "--engine": engine, "--where": where, "--era": era}  # fmt: skip
    if joined:
        refuse({**stating, "--gpu": gpu, "-o": output}, "--power", "it fits watts, which no spec takes")  # fmt: skip
        _print_power(requests, power, window, store, fmt)
        return
    if window is not None:
        raise UsageError("--window goes with --power", "leave it out")
    if device is not None:
        refuse(stating, "--device", "it measures the machine, not a model or an engine")
        _measure(device, gpu, output, fmt)
        return
    stated = measurements.Stated(model, gpu, tp, dtype, engine)
    found = measurements.read(points or [], stated, where=where, store=store, say=say)
    fit, calibration, notices = measurements.calibrate(
        found, era=era, date=created_now()[:10], seed=seed
    )
    warn(notices)
    _print_fit(found, fit, calibration, fmt)
    if output is not None:
        _write(output, calibration)


def _measure(kind: Device, gpu: str | None, output: Path | None, fmt: str) -> None:
    """calibrate --device: figures of this machine, as shares of a catalogue device's peaks."""
    from lamina_traces import hardware, specs
    from lamina_traces.costs.probe import probe
    from lamina_traces.errors import UnknownName
    from lamina_traces.store.manifest import created_now

    known = None if gpu is None else hardware.device(gpu)
    found = probe(kind)
    if known is None:
        try:
            known = hardware.device(found.name)
        except UnknownName:
            say(f"note: {found.name} is not in the catalogue, so there are figures and no efficiencies; --gpu names one")  # fmt: skip
    shares = {} if known is None else found.shares(known)
    calibration = specs.Calibration(
        efficiency=shares,
        basis="measured",
        date=created_now()[:10],
        deployments=()
        if known is None
        else (specs.deployment_name("any model", known.name, "any type"),),
        measured=found.figures,
        about=f"{found.name}, {found.dtype}: {found.about}",
    )
    if fmt in ("json", "jsonl"):
        about = {"device": found.name, "about": found.about, "dtype": found.dtype, "date": calibration.date}  # fmt: skip
        emit_object({**about, **found.figures, "efficiency": shares}, fmt)
    else:
        if fmt in ("table", "md"):
            write(f"{clean(found.name)}, {found.dtype}: {clean(found.about)}\n\n")
        rows = [{"figure": k, "measured": f"{v:.4g}"} for k, v in found.figures.items()]
        emit(rows + [{"figure": f"{k}, of the peak", "measured": f"{v:.4g}"} for k, v in shares.items()], fmt)  # fmt: skip
    if output is not None:
        _write(output, calibration)


def _print_power(
    requests: str | None, power: str | None, window: str | None, store: Path | None, fmt: str
) -> None:
    """calibrate --requests TRACE --power TRACE: watts of the site by phase, with errors."""
    from lamina_traces import phase_power, workloads
    from lamina_traces.errors import UsageError
    from lamina_traces.units import NS_PER_S, parse_duration_ns

    if requests is None or power is None:
        raise UsageError("--requests and --power go together", "give both logs")
    width = None if window is None else parse_duration_ns(window) / NS_PER_S
    if width is not None and width <= 0:
        raise UsageError(f"--window {window} is no width", "write it like 2s")
    logs = [workloads.trace(name, store=store, say=say) for name in (requests, power)]
    found = phase_power.fit(logs[0], logs[1], window_s=width)
    warn(found.notices)
    rows = [
        {"phase": p, "share_of_time": found.shares[p], "watts": w} for p, w in found.watts.items()
    ]
    later = found.later
    errors = [
        {"fitted_on": "all", "scored_on": "all, the same", "error": found.error, "bias": found.bias},
        {"fitted_on": "first half", "scored_on": "second half", "error": later and later[0], "bias": later and later[1]},
    ]  # fmt: skip
    if fmt in ("json", "jsonl"):
        about = {"windows": found.windows, "window_s": found.window_s, "domain": found.domain, "devices": found.devices}  # fmt: skip
        emit_object({**about, "phases": rows, "errors": errors}, fmt)
        return
    if fmt == "csv":
        emit(rows, fmt)
        return
    write(
        f"{found.windows:,} windows of {found.window_s:g} s; power of {found.devices} {clean(found.domain)} devices together.\n\n"
    )
    emit(
        [
            {
                "phase": p,
                "share of time": _share(found.shares[p]),
                "watts": "–" if w is None else f"{w:.4g}",
            }
            for p, w in found.watts.items()
        ],
        fmt,
    )
    write("\n")
    scores = (
        ("all", "all, the same", (found.error, found.bias)),
        ("first half", "second half", later),
    )
    emit(
        [
            {
                "fitted_on": on,
                "scored_on": at,
                "error": _share(e and e[0]),
                "bias": _share(e and e[1], sign=True),
            }
            for on, at, e in scores
        ],
        fmt,
    )


def _write(path: Path, calibration: Any) -> None:
    import shlex

    write_file(path, calibration.dumps())
    say(f"wrote {path}; next: lamina-traces simulate … --calibration {shlex.quote(str(path))}")


def _print_fit(found: Any, fit: Any, calibration: Any, fmt: str) -> None:
    from lamina_traces.costs.points import RULES

    rejected = [
        {"rule": r, "rows": n, "why": RULES[r]}
        for r, n in sorted(found.points.rejected.items(), key=lambda x: -x[1])
    ]
    values = [
        {"value": n, "unit": q.unit, "prior": q.value, "fitted": calibration.efficiency[n]}
        for n, q in fit.prior.quantities().items()
        if n in calibration.efficiency
    ]
    errors = _errors(fit)
    if fmt in ("json", "jsonl"):
        emit_object(
            {
                "rows": found.rows,
                "matching": found.points.rows,
                "points": len(fit.points),
                "deployments": list(calibration.deployments),
                "era": calibration.era,
                "rejected": rejected,
                "factors": fit.factors,
                "values": values,
                "errors": errors,
                "inputs": [{"name": n, "sha256": d} for n, d in calibration.inputs],
            },
            fmt,
        )
        return
    if fmt == "csv":
        emit(values, fmt)
        return
    left = "" if found.points.rows == found.rows else f" of {found.rows:,}"
    write(
        f"{len(fit.points):,} points with a TPOT, from {found.points.rows:,}{left} rows: "
        f"{clean('; '.join(calibration.deployments[:4]))}; era {calibration.era}.\n\n"
    )
    if rejected:
        emit(rejected, fmt)
        write("\n")
    emit([{**v, "prior": f"{v['prior']:.3g}", "fitted": f"{v['fitted']:.3g}"} for v in values], fmt)
    write("\n")
    emit([{**e, "tpot_error": _share(e["tpot_error"])} for e in errors], fmt)


def _errors(fit: Any) -> list[dict[str, Any]]:
    """Mean |error| of TPOT: of the prior, by number of points on the others, of all points."""
    import numpy as np

    def mean(e: Any) -> float | None:
        return None if e is None else float(np.abs(e).mean())

    few = [
        {"fitted_on": f"{k} points", "scored_on": "the others, ten draws", "tpot_error": e}
        for k, e in fit.few.items()
    ]
    return [
        {"fitted_on": "none: the prior", "scored_on": "all", "tpot_error": mean(fit.before)},
        *few,
        {"fitted_on": "all but one", "scored_on": "the one", "tpot_error": mean(fit.left_out)},
        {"fitted_on": "all", "scored_on": "all, the same", "tpot_error": mean(fit.inside)},
    ]


def _share(x: float | None, *, sign: bool = False) -> str:
    return "–" if x is None else f"{x:+.1%}" if sign else f"{x:.1%}"


# --- in simulate -----------------------------------------------------------------------------------


def calibrated(spec: Any, path: Path) -> Any:
    """The spec under a calibration's efficiencies; says where it was made for another deployment."""
    from lamina_traces import specs

    found = specs.load_calibration(path)
    if not found.is_of(spec):
        of = " and ".join(found.deployments) or "no deployment that it states"
        say(f"warning: the calibration is of {clean(of)} [other-deployment]")
    return found.apply(spec)


def refuse(given: Mapping[str, Any], flag: str, why: str) -> None:
    """UsageError for the flags among ``given`` that are set and that ``flag`` has no use for."""
    from lamina_traces.errors import UsageError

    wrong = [name for name, value in given.items() if value]
    if wrong:
        raise UsageError(f"{flag} does not go with {', '.join(wrong)}", f"{why}; leave these out")


def run_backtest(trace: Any, spec: Any, using: Any, propose: Path | None, fmt: str) -> None:
    """simulate TRACE --backtest: measured beside simulated latencies, what is off, a proposed calibration."""
    from lamina_traces.backtest import backtest
    from lamina_traces.errors import ModelError
    from lamina_traces.store.manifest import created_now

    from .decide import compiling

    with compiling():
        found = backtest(trace, spec, using=using, date=created_now()[:10])
    warn(found.notices)
    if fmt in ("json", "jsonl"):
        emit_object(found.to_dict(), fmt)
    elif fmt == "csv":
        emit(found.overall, fmt)
    else:
        _print_backtest(found, fmt, reference(trace.name))
    if propose is not None:
        if found.proposal is None:
            raise ModelError(
                found.why or "there is no calibration to write", "see what the log lacks"
            )
        _write(propose, found.proposal.calibration)


def _print_backtest(found: Any, fmt: str, name: str) -> None:
    from lamina_traces.units import format_seconds

    left = f" ({found.left_out:,} rows without latencies or lengths left out)" if found.left_out else ""  # fmt: skip
    write(f"{found.requests:,} requests of {clean(name)}{left}: {found.verdict()}\n\n")
    emit(
        [
            {
                "latency": r["latency"],
                "stat": r["stat"],
                "measured": format_seconds(r["measured_s"]),
                "simulated": format_seconds(r["simulated_s"]),
                "error": _share(r["error"], sign=True),
            }
            for r in found.overall
        ],
        fmt,
    )
    if found.by_load:
        write("\nmeans by requests in flight at arrival: measured, simulated, error\n")
        emit([_load_row(r, format_seconds) for r in found.by_load], fmt)
    if found.parts:
        write("\n")
        emit(
            [
                {
                    "part of e2e": p.name,
                    "measured": format_seconds(p.measured_s),
                    "simulated": format_seconds(p.simulated_s),
                }
                for p in found.parts
            ],
            fmt,
        )
    if found.alone is not None:
        n, e = found.alone
        write(f"\n{n:,} requests had the engine to themselves: e2e {e:+.1%} without any queue.\n")
    _print_proposal(found, fmt)


def _load_row(r: Mapping[str, Any], seconds: Any) -> dict[str, Any]:
    cells = {
        k: f"{seconds(r[f'{k}_measured_s'])}, {seconds(r[f'{k}_simulated_s'])}, {_share(r[f'{k}_error'], sign=True)}"
        for k in ("ttft", "tpot", "e2e")
    }
    return {
        "in flight": f"{r['in_flight_min']}–{r['in_flight_max']}",
        "requests": r["requests"],
        **cells,
    }


def _print_proposal(found: Any, fmt: str) -> None:
    p = found.proposal
    if p is None:
        write(f"\n{clean(found.why)}\n")
        return
    moved = ", ".join(f"{k} × {v:.2f}" for k, v in p.fit.factors.items())
    helps = "it helps" if p.helps else "it does not help: keep the prior"
    write(
        f"\nfitted on the first half ({len(p.fit.points)} points): {moved}; on the second half {helps}\n"
    )
    emit(
        [
            {
                "latency": k,
                "error of the mean": f"{_share(p.before[k][0], sign=True)} → {_share(p.after[k][0], sign=True)}",
                "mean |error| of a request": f"{_share(p.before[k][1])} → {_share(p.after[k][1])}",
            }
            for k in p.before
            if k in p.after
        ],
        fmt,
    )

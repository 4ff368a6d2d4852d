"""The command that makes synthetic traces."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from .options import OutputFormat, Seed, StoreAt, reference
from .output import clean, emit_object, say, warn, write
from .progress import counting

if TYPE_CHECKING:
    from lamina_traces.generator import Plan
    from lamina_traces.generator.observed import Observed


def generate(
    profile: Annotated[
        str | None,
        typer.Argument(
            metavar="[PROFILE]",
            help="A workload profile: .json file or library name (see: catalog presets).",
        ),
    ] = None,
    like: Annotated[
        str | None,
        typer.Option(
            "--like", metavar="TRACE", help="Fit this trace (stored name or file) and generate."
        ),
    ] = None,
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
    scale_by: Annotated[
        Literal["rate", "time", "clients"],
        typer.Option(
            "--scale-by",
            help="What another rate means: rate, each stream busier; time, everything faster; clients, copies of each stream.",
        ),
    ] = "rate",
    replay_rate: Annotated[
        bool,
        typer.Option(
            "--replay-rate", help="Play the source's own course of the rate instead of new days."
        ),
    ] = False,
    arrivals: Annotated[
        str | None,
        typer.Option(
            "--arrivals",
            metavar="LAW",
            help="Steady arrivals instead of the fitted ones: poisson, constant, gamma:CV, weibull:CV, lognormal:CV.",
        ),
    ] = None,
    idc_scale: Annotated[
        float | None,
        typer.Option(
            "--idc-scale",
            metavar="X",
            help="Multiply the excess dispersion IDC - 1 of arrivals at every window; 0 is Poisson. The rate and its daily course stay.",
        ),
    ] = None,
    without: Annotated[
        str | None,
        typer.Option(
            "--without", metavar="ASPECT,…", help="Leave aspects out: failures, sessions, prefixes…"
        ),
    ] = None,
    set_: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            metavar="KNOB=VALUE",
            help="Turn one thing (repeatable), as in lengths.output=x2 (see: catalog knobs).",
        ),
    ] = None,
    block_tokens: Annotated[
        int | None,
        typer.Option(
            "--block-tokens", help="Tokens of a prefix block, as 16, 64, 512 [default: as fitted]."
        ),
    ] = None,
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
    replace: Annotated[
        bool, typer.Option("--replace", help="Replace the trace of this name, or the file.")
    ] = False,
    fmt: OutputFormat = "table",
    store: StoreAt = None,
) -> None:
    """Make a synthetic trace from a profile.

    Interrupted, the same command goes on where it stopped.

    Example: lamina-traces generate azure-code --rate x2 --duration 10m --name load
    """
    from lamina_traces import generator, workloads
    from lamina_traces.errors import UsageError
    from lamina_traces.store import Store
    from lamina_traces.units import format_seconds, parse_duration_ns, parse_rate

    source = like if profile is None else profile
    if source is None or (profile is not None and like is not None):
        both = "a PROFILE and --like TRACE are both given" if source else "nothing to generate from"
        raise UsageError(
            f"{both}: say what to generate from: a PROFILE, or --like TRACE",
            "for example: lamina-traces generate azure-code --name load",
        )
    if (output is None) == (name is None):
        raise UsageError(
            "say where the trace goes: -o FILE.parquet or --name NAME", "for example: --name load"
        )
    if output is not None and output.suffix != ".parquet":
        raise UsageError(
            f"{output} is not a .parquet file",
            "store it with --name, then: lamina-traces export NAME --to TARGET -o FILE",
        )
    if output is not None:
        workloads.checked_file(output, replace=replace)
    if name is not None:
        workloads.checked_name(name)
    if rows is not None and duration is not None:
        raise UsageError("-n and --duration both say how much", "give one of them")
    law = workloads.open_profile(source, store=store, say=say)
    part = None if shard is None else generator.Shard.parse(shard)
    plan = generator.plan(
        law,
        duration_ns=None if duration is None else parse_duration_ns(duration),
        rows=rows,
        rate=None if rate is None else parse_rate(rate),
        seed=seed,
        options=generator.Options(
            replay=replay_rate,
            scale_by=scale_by,
            arrivals=arrivals,
            idc_scale=idc_scale,
            without=frozenset(x for x in (without or "").split(",") if x),
            knobs=tuple(set_ or ()),
            block_tokens=block_tokens,
        ),
    )
    warn(plan.notices)
    if part is not None and part.count > plan.block_count:
        blocks = f"{plan.block_count:,} block{'' if plan.block_count == 1 else 's'}"
        say(
            f"warning: shards are whole blocks of {format_seconds(plan.maker.block_ns / 1e9)}, and this trace has {blocks}: "
            f"{part.count - plan.block_count:,} of {part.count:,} shards are empty [few-blocks]"
        )
    expected = round(plan.expected_rows / (part.count if part else 1))
    with counting("generated", expected, "rows") as tick:
        job = workloads.Job(plan, part, threads, tick)
        if output is not None:
            made = workloads.write_parquet(output, job, replace=replace, say=say)
        else:
            made = workloads.store_generated(Store(store), str(name), job, replace=replace, say=say)
    _tell(plan, made, name=name, output=output, shard=shard, fmt=fmt)
    if not made.rows:
        if part is None:
            say("warning: no request falls into this time; raise --duration or --rate [empty]")
        else:
            say(f"warning: no request falls into shard {shard} [empty]")
        return
    if plan.table != "llm_requests":
        return
    target = reference(name) if name is not None else shlex.quote(str(output))
    say(
        f"next: lamina-traces export {target} --to mooncake -o {shlex.quote(Path(name or str(output)).stem)}.jsonl"
    )


def _tell(
    plan: Plan, made: Observed, *, name: str | None, output: Path | None, shard: str | None, fmt: str
) -> None:  # fmt: skip
    """What was made, and how bursty it is beside what was to be expected and the profile."""
    from lamina_traces import generator
    from lamina_traces.units import format_number, format_seconds

    # with -n the trace ends with its last request, with --duration when the time is over
    duration_s = (max(made.last_ns, 0) if plan.duration_ns is None else plan.duration_ns) / 1e9
    own, due = generator.profile_burstiness(plan), generator.expected_burstiness(plan)
    found: dict[str, float | None] = {}
    if plan.table != "power_samples":  # a meter is read, it does not arrive
        found = {"gap_cv": made.cv, "idc_1s": made.idc(1), "idc_60s": made.idc(60)}
    if fmt in ("json", "jsonl"):
        facts = {
            "name": name,
            "path": None if output is None else str(output),
            "rows": made.rows,
            "expected_rows": plan.expected_rows,
            "duration_s": duration_s,
            "requests_per_s": made.rows / duration_s if duration_s > 0 and shard is None else None,
            "seed": plan.seed,
            "options": dict(plan.options),
            "rate_factor": plan.factor,
            "shard": shard,
            "row_hash": made.row_hash,
            "profile": plan.profile.name,
            "profile_sha256": generator.profile_sha256(plan.profile),
            "burstiness": found,
            "expected_burstiness": due,
            "profile_burstiness": own,
        }
        emit_object(facts, fmt)
        return
    plural = "" if made.rows == 1 else "s"
    of = "" if plan.table == "llm_requests" else f" of {plan.table}"
    counted = f"{made.rows:,} {'row' if of else 'request'}{plural}{of}"
    expected = plan.expected_rows
    if (
        plan.rows is None
        and shard is None
        and expected > 1
        and abs(made.rows / expected - 1) > 0.05
    ):
        counted += f" ({expected:,.0f} are expected; days vary)"
    what = f"{counted} over {format_seconds(duration_s)} from {plan.profile.name}"
    cut = f", shard {shard}" if shard else ""
    options = "".join(f", {k.replace('_', ' ')} {v}" for k, v in plan.options)
    head = f"{name or output}: {what}{cut}, seed {plan.seed}{options}, row hash {made.row_hash}"
    write(clean(head) + "\n")
    labels = {"gap_cv": "gaps CV", "idc_1s": "IDC(1 s)", "idc_60s": "IDC(60 s)"}
    told = []
    for key, label in labels.items():
        if found.get(key) is not None:
            beside = [f"{what} {format_number(x)}" for what, x in (("expected", due.get(key)), ("profile", own.get(key))) if x is not None]  # fmt: skip
            told.append(f"{label} {format_number(found[key])}" + (f" ({', '.join(beside)})" if beside else ""))  # fmt: skip
    if told:
        write("; ".join(told) + "\n")

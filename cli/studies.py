"""What ``simulate`` does with several runs: repeats over seeds, capacity by bisection."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from .output import clean, emit, emit_object, say, warn, write

if TYPE_CHECKING:
    from lamina_traces.runs import Slo
    from lamina_traces.specs import Serving
    from lamina_traces.workloads import Source


def refuse_single(*, capacity: bool, **flags: Any) -> None:
    """Flags that are of one run go with neither --repeats nor --capacity."""
    from lamina_traces.errors import UsageError

    given = [f"--{n}" for n, v in flags.items() if v]
    if given:
        raise UsageError(
            f"{', '.join(given)}: of one run, and {'--capacity' if capacity else '--repeats'} makes several",
            "leave one of them out",
        )


def repeat(
    source: Source,
    spec: Serving,
    slo: Slo | None,
    seed: int,
    n: int,
    options: dict[str, Any],
    fmt: str,
) -> None:
    """Print medians and intervals over ``n`` seeds; CheckFailed when a limit is missed with one of them."""
    from lamina_traces import studies
    from lamina_traces.errors import CheckFailed

    from .decide import compiling

    with compiling():
        found = studies.repeats(source, spec, n, seed=seed, slo=slo, **options)
    warn(found.notices)
    if fmt in ("json", "jsonl"):
        emit_object(found.to_dict(), fmt)
    else:
        if fmt != "csv":
            write(clean(found.headline()) + "\n\n")
        rows = found.rows()
        noted = any(r["note"] for r in rows)
        emit(rows, fmt, ["metric", "median", "interval", *(["note"] if noted else [])])
    missed = [s for s, met in zip(found.seeds, found.slo_met, strict=True) if not met]
    if slo is not None and missed:
        raise CheckFailed(
            f"the SLO is missed with {len(missed)} of {n} seeds, such as {missed[0]}",
            f"look at it with: --seed {missed[0]}",
        )


def find_capacity(
    source: Source,
    spec: Serving,
    slo: Slo | None,
    seed: int,
    repeats: int | None,
    options: dict[str, Any],
    fmt: str,
) -> None:
    """Print the highest rate that meets the limits; CheckFailed where none does."""
    from lamina_traces import studies
    from lamina_traces.errors import CheckFailed, UsageError

    from .decide import compiling

    if slo is None:
        raise UsageError("--capacity needs limits to meet", "add --slo ttft=2s,tpot=100ms")
    if repeats is not None and not source.random:
        raise UsageError(
            f"{source.name!r} is a recorded trace: it cannot be repeated", "leave --repeats out"
        )
    with compiling():
        found = studies.capacity(
            source,
            spec,
            slo,
            seeds=range(seed, seed + (repeats or 1)),
            **options,
        )
    if fmt in ("json", "jsonl"):
        emit_object(found.to_dict(), fmt)
    else:
        if fmt != "csv":
            write(clean(found.headline()) + "\n\n")
        emit(found.rows(), fmt)
    if found.why:
        raise CheckFailed(found.why, "loosen the limits, or choose a faster deployment")
    say(f"tried {len(found.probes) + 1} rates, the first with everything at once")

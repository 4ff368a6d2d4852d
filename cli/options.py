"""Options that several commands share, so that a name means one thing everywhere."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

import typer

Format = Literal["table", "md", "csv", "json", "jsonl"]

StoreAt = Annotated[
    Path | None,
    typer.Option(
        "--store",
        envvar="LAMINA_STORE",
        show_envvar=True,
        help="Folder of the trace store [default: ./lamina-store].",
    ),
]
OutputFormat = Annotated[Format, typer.Option("--format", "-f", help="How to print.")]
TraceArgument = Annotated[
    str,
    typer.Argument(
        metavar="TRACE",
        help="A stored name, a trace file, or a library profile (store:NAME and library:NAME settle a tie).",
    ),
]
WorkloadArgument = Annotated[
    str,
    typer.Argument(
        metavar="WORKLOAD",
        help="A trace (stored name or file) or a workload profile (.json file or library name).",
    ),
]
Where = Annotated[
    str | None,
    typer.Option(
        "--where",
        metavar="CONDITION",
        help="Only rows for which this SQL condition holds, as in \"model = 'GPT-4'\".",
    ),
]
From = Annotated[
    str | None,
    typer.Option(
        "--from",
        metavar="TIME",
        help="Only arrivals from here on: a duration after the trace's origin (10m), or an ISO instant.",
    ),
]
To = Annotated[
    str | None,
    typer.Option(
        "--to",
        metavar="TIME",
        help="Only arrivals before this: a duration after the trace's origin (2h), or an ISO instant.",
    ),
]
As = Annotated[
    str | None,
    typer.Option(
        "--as", metavar="FORMAT", help="Read files as this format (see: catalog formats)."
    ),
]
Map = Annotated[
    str | None,
    typer.Option(
        "--map",
        metavar="arrival=COL,…",
        help="Columns of an unknown file: arrival=COL,input=COL,output=COL and any canonical column.",
    ),
]
TimeUnitOption = Annotated[
    Literal["s", "ms", "us", "ns"] | None,
    typer.Option("--time-unit", help="Unit of a numeric arrival column."),
]
TimeZone = Annotated[
    str | None,
    typer.Option(
        "--tz",
        metavar="ZONE",
        help="Zone of naive time stamps, as in Europe/Berlin [default: UTC assumed, and said].",
    ),
]
Seed = Annotated[int, typer.Option("--seed", min=0, help="Seed of everything random.")]
Arrivals = Annotated[
    Literal["poisson"] | None,
    typer.Option("--arrivals", help="Poisson arrivals at --rate in place of recorded ones."),
]
PoissonRate = Annotated[
    str | None, typer.Option("--rate", help="With --arrivals: the mean rate, as in 2/s.")
]
ArrivalRate = Annotated[
    str | None,
    typer.Option(
        "--rate",
        help="x2 for twice the workload's own rate; with --arrivals the mean rate, as in 2/s.",
    ),
]
Replace = Annotated[bool, typer.Option("--replace", help="Replace the trace of this name.")]
Yes = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")]


def poisson_rate(arrivals: str | None, rate: str | None) -> float | None:
    """What --arrivals poisson --rate R asks for, per second; None without --arrivals."""
    from lamina_traces.errors import UsageError
    from lamina_traces.units import parse_rate

    if arrivals is None:
        if rate is not None:
            raise UsageError(
                "--rate goes with --arrivals poisson",
                "scale a workload with: lamina-traces generate PROFILE --rate x2",
            )
        return None
    return absolute(None if rate is None else parse_rate(rate))


def arrival_rate(arrivals: str | None, rate: str | None) -> tuple[float | None, float]:
    """(what --arrivals poisson --rate R asks for, per second, what --rate xN multiplies the workload's own rate by)."""
    from lamina_traces.errors import UsageError
    from lamina_traces.units import parse_rate

    if arrivals is not None or rate is None:
        return poisson_rate(arrivals, rate), 1.0
    asked = parse_rate(rate)
    if asked.factor is None:
        raise UsageError(
            f"--rate {rate} needs --arrivals poisson",
            "scale the workload's own rate with --rate x2",
        )
    return None, asked.factor


def absolute(rate: Any) -> float:
    """The rate that --arrivals needs, per second; a factor has nothing to multiply."""
    from lamina_traces.errors import UsageError

    if rate is None or rate.per_s is None:
        raise UsageError("--arrivals needs a rate of its own", "add --rate 2/s")
    return float(rate.per_s)


def reference(name: str) -> str:
    """How to name a stored trace on a command line: quoted, and with its scope where the name alone would
    mean a file or a library profile."""
    import shlex

    from lamina_traces.profile import library_names
    from lamina_traces.workloads import is_path

    plain = not (
        is_path(name) or name.startswith(("-", "store:", "library:")) or name in library_names()
    )
    return shlex.quote(name if plain else f"store:{name}")

"""The command catalog: lists of what is built in, and one entry in full."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import typer

from .options import OutputFormat
from .output import cell, emit, emit_object, write

Topic = Literal[
    "formats", "targets", "gpus", "links", "models", "techniques", "presets", "knobs", "queries", "claims"
]  # fmt: skip


def catalog(
    topic: Annotated[Topic, typer.Argument(help="What to list.")],
    name: Annotated[
        str | None,
        typer.Argument(
            metavar="[NAME]",
            help="One format, preset, GPU, link, technique or model (or the path of its config.json), in full.",
        ),
    ] = None,
    fmt: OutputFormat = "table",
) -> None:
    """List what is built in, or show one in full.

    Example: lamina-traces catalog gpus h100
    """
    from lamina_traces import catalogs
    from lamina_traces.errors import UsageError

    if name is None:
        short = catalogs.COLUMNS.get(topic) if fmt in ("table", "md") else None
        emit(catalogs.rows(topic), fmt, short)
        return
    if topic not in catalogs.ENTRIES:
        raise UsageError(
            f"catalog {topic} takes no name",
            f"these do: {', '.join(catalogs.ENTRIES)}; for instance: lamina-traces catalog gpus h100",
        )
    entry = catalogs.ENTRIES[topic](name)
    if fmt in ("json", "jsonl"):
        emit_object(entry, fmt)
    elif topic == "presets":
        _preset(entry, fmt)
    else:
        _entry(entry, fmt, "columns" if topic == "formats" else "numbers")


def _entry(entry: dict[str, Any], fmt: str, rows: str) -> None:
    """What it is, a line each, and its rows; csv has the rows alone."""
    table, quirks = entry.pop(rows), entry.pop("quirks", [])
    if fmt == "csv":
        emit(table, fmt)
        return
    width = max(9, *(len(k) for k, v in entry.items() if v))
    for key, value in entry.items():
        if value:
            shown = ", ".join(value) if isinstance(value, list) else cell(value)
            write(f"{key.replace('_', ' '):{width}} {shown}\n")
    write("\n")
    emit(table, fmt)
    write("".join(f"- {q}\n" for q in quirks))


def _preset(entry: dict[str, Any], fmt: str) -> None:
    numbers = entry.pop("quantities")
    if fmt == "csv":
        emit(numbers, fmt)
        return
    shown = ("name", "title", "paper", "models", "limits", "basis", "fitted_on", "evidence", "aspects", "licence")  # fmt: skip
    write("".join(f"{k.replace('_', ' '):9} {entry[k]}\n" for k in shown if entry[k]) + "\n")
    if numbers:
        emit(numbers, fmt)
    else:
        write(f"its numbers are fitted: lamina-traces show {entry['name']}\n")

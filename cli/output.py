"""Printing: data on stdout in the format asked for, narration on stderr. The same bytes on a terminal and
in a pipe; nothing is cut."""

from __future__ import annotations

import json
import math
import re
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from lamina_traces import __version__
from lamina_traces.errors import SCHEMA_VERSION, Notice

Row = Mapping[str, Any]


def emit(rows: Iterable[Row], fmt: str, columns: Sequence[str] | None = None) -> None:
    """Print rows as table, md, csv, json (a list of objects) or jsonl."""
    listed = [dict(r) for r in rows]
    names = (
        list(columns) if columns is not None else list(dict.fromkeys(k for r in listed for k in r))
    )
    if fmt == "json":
        write(
            json.dumps(
                [{k: plain(r.get(k)) for k in names} for r in listed], indent=1, ensure_ascii=False
            )
            + "\n"
        )
    elif fmt == "jsonl":
        for r in listed:
            write(json.dumps({k: plain(r.get(k)) for k in names}, ensure_ascii=False) + "\n")
    elif fmt == "csv":
        import csv
        import io

        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow(names)
        writer.writerows(
            [
                ["" if (v := plain(r.get(k))) is None else _cell_csv(v) for k in names]
                for r in listed
            ]
        )
        write(text.getvalue())
    else:
        write(table([[cell(r.get(k)) for k in names] for r in listed], names, md=fmt == "md"))


def emit_object(facts: Mapping[str, Any]) -> None:
    """Print one JSON object, with the schema and tool version first."""
    head = {"schema_version": SCHEMA_VERSION, "tool": f"lamina-traces {__version__}"}
    write(
        json.dumps(
            {k: plain(v) for k, v in (head | dict(facts)).items()}, indent=1, ensure_ascii=False
        )
        + "\n"
    )


def table(rows: Sequence[Sequence[str]], names: Sequence[str], *, md: bool = False) -> str:
    """Aligned text: numbers to the right, words to the left, two spaces between; or a Markdown table."""
    if md:
        rows = [[c.replace("|", "\\|") for c in r] for r in rows]
    grid = [list(names), *(list(r) for r in rows)]
    widths = [max(len(r[i]) for r in grid) for i in range(len(names))]
    right = [bool(rows) and all(_numeric(r[i]) for r in rows) for i in range(len(names))]

    def line(r: Sequence[str]) -> list[str]:
        return [
            c.rjust(w) if to_right else c.ljust(w)
            for c, w, to_right in zip(r, widths, right, strict=True)
        ]

    if md:
        rule = [
            "-" * (w - 1) + ":" if to_right else "-" * w
            for w, to_right in zip(widths, right, strict=True)
        ]
        body = [line(grid[0]), rule, *(line(r) for r in grid[1:])]
        return "".join("| " + " | ".join(r) + " |\n" for r in body)
    return "".join("  ".join(line(r)).rstrip() + "\n" for r in grid)


_NUMBER = re.compile(r"[-+]?[\d,]*\.?\d+(e[-+]?\d+)?( ?(%|[a-zµ]{1,3}))?")


def _numeric(text: str) -> bool:
    """Whether a cell is a number, with or without a unit, or holds none."""
    return text in ("", "–") or _NUMBER.fullmatch(text) is not None


def cell(value: Any) -> str:
    """One value for people: no control characters, numbers with at most six digits after the point."""
    v = plain(value)
    if v is None:
        return "–"
    if isinstance(v, bool):
        return "yes" if v else "no"
    if isinstance(v, float):
        return f"{v:.6g}" if abs(v) < 1e6 else f"{v:.6f}".rstrip("0").rstrip(".")
    if isinstance(v, list | dict):
        v = json.dumps(v, ensure_ascii=False)
    return clean(str(v))


def _cell_csv(v: Any) -> str:
    return json.dumps(v, ensure_ascii=False) if isinstance(v, list | dict) else str(v)


def clean(text: str) -> str:
    """Text from a trace without control characters, which could drive a terminal."""
    return "".join(c if c.isprintable() else f"\\x{ord(c):02x}" for c in text)


def plain(value: Any) -> Any:
    """A JSON value: not-a-number becomes null, containers are walked, other objects become text."""
    if value is None or isinstance(value, str | bool | int):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {str(k): plain(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [plain(v) for v in value]
    if hasattr(value, "item") and getattr(value, "ndim", 0) == 0:
        return plain(value.item())
    return str(value)


def write(text: str) -> None:
    sys.stdout.write(text)


def say(text: str) -> None:
    """Narration, on stderr, behind the data printed so far."""
    sys.stdout.flush()
    print(clean_lines(text), file=sys.stderr)


def clean_lines(text: str) -> str:
    return "\n".join(clean(line) for line in text.split("\n"))


def warn(notices: Iterable[Notice]) -> None:
    """Typed warnings, on stderr."""
    for n in notices:
        say(f"warning: {f'{n.subject}: ' if n.subject else ''}{n.text} [{n.code}]")


def write_file(path: Path, text: str) -> None:
    """Write a whole text file or none of it."""
    import os
    import tempfile

    try:
        handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
        with os.fdopen(handle, "w", encoding="utf-8", newline="\n") as f:
            f.write(text)
        mask = os.umask(0)
        os.umask(mask)
        Path(temporary).chmod(0o666 & ~mask)
        Path(temporary).replace(path)
    except OSError as e:
        from lamina_traces.errors import DataError

        raise DataError(
            f"cannot be written: {e.strerror}",
            "name a file in an existing, writable folder",
            path=path,
        ) from e

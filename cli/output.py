"""Printing: data on stdout in the format asked for, narration on stderr. The same bytes on a terminal and
in a pipe; nothing is cut."""

from __future__ import annotations

import json
import math
import re
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lamina_traces import __version__
from lamina_traces.errors import SCHEMA_VERSION, Notice

if TYPE_CHECKING:
    import polars as pl
    import pyarrow as pa

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


MOST_ALIGNED = 10_000
"""rows of a streamed answer that are shown as a table, whose columns are as wide as their widest cell."""
_BATCH_BYTES = 8 << 20
"""about as much of a streamed answer is turned into text at once."""


def emit_batches(reader: pa.RecordBatchReader, fmt: str) -> None:
    """``emit`` for an answer of any length: csv, json and jsonl are printed while it is read, column by
    column; of a table or md the first ``MOST_ALIGNED`` rows. A plan of EXPLAIN is printed as it is drawn."""
    names = list(reader.schema.names)
    if fmt in ("table", "md"):
        _emit_aligned(reader, fmt, names)
    elif fmt == "csv":
        import polars as pl

        write(
            pl.DataFrame({n: [n] for n in names}).write_csv(include_header=False) if names else ""
        )
        for columns in _pieces(reader):
            frame = pl.DataFrame([_texts(c, csv=True).alias(str(i)) for i, c in enumerate(columns)])
            # An empty line would be no row: a lone empty cell is quoted, others are left empty.
            empty = pl.lit(None if len(names) > 1 else "", pl.String)
            cells = pl.col(pl.String)
            frame = frame.with_columns(
                pl.when(cells.is_null() | (cells == "")).then(empty).otherwise(cells).name.keep()
            )
            write(frame.write_csv(include_header=False))
    else:
        _emit_json(reader, names, lines=fmt == "jsonl")


def _emit_aligned(reader: pa.RecordBatchReader, fmt: str, names: list[str]) -> None:
    rows: list[list[Any]] = []
    for columns in _pieces(reader):
        rows += map(list, zip(*map(_values, columns), strict=True))
        if len(rows) > MOST_ALIGNED:
            break
    if names == ["explain_key", "explain_value"]:
        plan = clean_lines("\n".join(str(value).rstrip("\n") for _, value in rows))
        write(f"```\n{plan}\n```\n" if fmt == "md" else f"{plan}\n")
        return
    write(table([[cell(v) for v in r] for r in rows[:MOST_ALIGNED]], names, md=fmt == "md"))
    if len(rows) > MOST_ALIGNED:
        say(f"showing the first {MOST_ALIGNED:,} rows; --format csv gives all")


def _emit_json(reader: pa.RecordBatchReader, names: list[str], *, lines: bool) -> None:
    """Objects of a line each, or one list laid out as ``json.dumps(…, indent=1)`` does."""
    import polars as pl

    start, end, between = ("{", "}", ", ") if lines else (" {\n  ", "\n }", ",\n  ")
    keys = [json.dumps(n, ensure_ascii=False) + ": " for n in names]
    first = True
    for columns in _pieces(reader):
        parts = [pl.lit(start)]
        for i, key in enumerate(keys):
            parts += [pl.lit((between if i else "") + key), pl.col(str(i)).fill_null("null")]
        frame = pl.DataFrame(
            [
                _texts(c, indent=None if lines else 1).alias(str(i)).cast(pl.String)
                for i, c in enumerate(columns)
            ]
        )
        rows = frame.select(pl.concat_str(*parts, pl.lit(end))).to_series()
        if lines:
            write("\n".join(rows) + "\n")
        else:
            write(("[\n" if first else ",\n") + ",\n".join(rows))
        first = False
    if not lines:
        write("[]\n" if first else "\n]\n")


def _pieces(reader: pa.RecordBatchReader) -> Iterator[list[pa.Array]]:
    """The columns of the rows, a bounded number of bytes at a time."""
    for batch in reader:
        step = max(1, batch.num_rows * _BATCH_BYTES // max(batch.nbytes, _BATCH_BYTES))
        for at in range(0, batch.num_rows, step):
            yield list(batch.slice(at, step).columns)


def _values(column: pa.Array) -> list[Any]:
    """The cells of a column as JSON values: whole decimals as integers, times as ISO text, no NaN."""
    import pyarrow as pa
    import pyarrow.compute as pc

    kind = column.type
    if pa.types.is_temporal(kind) and not pa.types.is_interval(kind):
        # Through Arrow's own text, since Python's datetime knows neither nanoseconds nor the year 20000.
        text = pc.cast(column, pa.string())
        for pattern, iso in (
            (r"(\d) (\d)", r"\1T\2"),
            (r"(\.\d*?)0+([Z+-].*)?$", r"\1\2"),
            (r"\.([Z+-].*)?$", r"\1"),
            (r"\+0000$", "Z"),
        ):
            text = pc.replace_substring_regex(text, pattern, iso)
        return list(text.to_pylist())
    if pa.types.is_map(kind):
        return [None if v is None else plain(dict(v)) for v in column.to_pylist()]
    return [plain(v) for v in column.to_pylist()]


def _texts(column: pa.Array, *, csv: bool = False, indent: int | None = None) -> pl.Series:
    """The cells of a column as text for csv (integers are left as they are) or JSON, null where null;
    plain numbers and text without a loop over the cells."""
    import polars as pl
    import pyarrow as pa

    kind = column.type
    if pa.types.is_integer(kind):
        return pl.Series(column) if csv else pl.Series(column).cast(pl.String)
    if pa.types.is_float64(kind):
        values = pl.Series(column)
        values = values.set(~values.is_finite(), None)
        texts = values.cast(pl.String)
        small = (values.abs() < 1e-4) & (values != 0)
        if not small.any():
            return texts
        # Python's spelling of these, as everywhere: 1e-05, not 0.00001.
        spelled = pl.Series([repr(v) for v in values.filter(small)], dtype=pl.String)
        return texts.scatter(small.fill_null(False).arg_true(), spelled)
    if pa.types.is_string(kind):
        values = pl.Series(column)
        if csv:
            return values
        if not values.str.contains(r'["\\\x00-\x1f]').any():
            return '"' + values + '"'
    dumped = [
        None
        if v is None
        else str(v)
        if csv and not isinstance(v, list | dict)
        else json.dumps(v, ensure_ascii=False, indent=indent)
        for v in _values(column)
    ]
    if indent and pa.types.is_nested(kind):
        dumped = [None if t is None else t.replace("\n", "\n  ") for t in dumped]
    return pl.Series(dumped, dtype=pl.String)


def emit_object(facts: Mapping[str, Any], fmt: str = "json") -> None:
    """Print one JSON object, with the schema and tool version first; on one line for jsonl."""
    head = {"schema_version": SCHEMA_VERSION, "tool": f"lamina-traces {__version__}"}
    whole = {k: plain(v) for k, v in (head | dict(facts)).items()}
    write(json.dumps(whole, indent=1 if fmt == "json" else None, ensure_ascii=False) + "\n")


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
    if isinstance(value, tuple) and hasattr(value, "months"):
        return _iso_duration(*value)
    if isinstance(value, list | tuple):
        return [plain(v) for v in value]
    if hasattr(value, "item") and getattr(value, "ndim", 0) == 0:
        return plain(value.item())
    from datetime import date, datetime, time, timedelta  # rare values; --help stays light
    from decimal import Decimal

    if isinstance(value, Decimal):  # DuckDB's sum of integers is one of no digits after the point
        return int(value) if value == value.to_integral_value() else float(value)
    if isinstance(value, datetime | date | time):
        return value.isoformat()
    if isinstance(value, timedelta):
        return _iso_duration(0, value.days, value.seconds * 10**9 + value.microseconds * 1000)
    if isinstance(value, bytes):
        return value.decode("utf-8", "backslashreplace")
    return str(value)


def _iso_duration(months: int, days: int, nanoseconds: int) -> str:
    """An interval as ISO 8601 writes it: P1Y2M3DT4.5S; P0D for none."""
    years, months = (abs(months) // 12, abs(months) % 12) if months >= 0 else (0, months)
    sign = "-" if nanoseconds < 0 else ""
    seconds, rest = divmod(abs(nanoseconds), 10**9)
    fraction = f".{rest:09d}".rstrip("0") if rest else ""
    parts = "".join(f"{n}{unit}" for n, unit in ((years, "Y"), (months, "M"), (days, "D")) if n)
    clock = f"T{sign}{seconds}{fraction}S" if nanoseconds else ""
    return f"P{parts}{clock}" if parts or clock else "P0D"


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

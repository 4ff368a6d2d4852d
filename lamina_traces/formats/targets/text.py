"""Text targets: lines made by column expressions, no Python object per row."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import polars as pl

from ..exporting import NO_LENGTH, Writing, without

Lines = Callable[[pl.DataFrame, Writing], pl.DataFrame]
"""canonical rows → the rows of a CSV file, or one column of ready lines."""
Write = Callable[[Iterator[pl.DataFrame], Path, Writing], int]


def csv(make: Lines, header: str) -> Write:
    """A target of delimited text: ``make`` gives the columns in the order of ``header``."""

    def write(rows: Iterator[pl.DataFrame], place: Path, state: Writing) -> int:
        written = 0
        with place.open("wb") as out:
            out.write(f"{header}\n".encode())
            for frame in rows:
                table = make(frame, state)
                table.write_csv(out, include_header=False)
                written += table.height
        return written

    return write


def jsonl(make: Lines) -> Write:
    """A target of JSON lines: ``make`` gives one column, ready made by ``json_lines``."""

    def write(rows: Iterator[pl.DataFrame], place: Path, state: Writing) -> int:
        written = 0
        with place.open("wb") as out:
            for frame in rows:
                written += put(make(frame, state), out)
        return written

    return write


def put(lines: pl.DataFrame, out: object) -> int:
    """Append ready lines; returns how many."""
    lines.write_csv(out, include_header=False, quote_style="never")  # type: ignore[call-overload]
    return lines.height


def json_lines(height: int, fields: Mapping[str, pl.Series]) -> pl.DataFrame:
    """One JSON object a row; a null leaves its key out. Values are numbers or JSON text."""
    if not height:
        return pl.DataFrame({"line": []}, schema={"line": pl.String})
    frame = pl.DataFrame(fields)
    if not any(frame[name].null_count() for name in frame.columns):
        parts: list[pl.Expr] = []
        for i, name in enumerate(frame.columns):
            parts += [pl.lit(f"{', ' if i else '{'}{json.dumps(name)}: "), pl.col(name)]
        return frame.select(pl.concat_str([*parts, pl.lit("}")]).alias("line"))
    pairs = [pl.concat_str([pl.lit(f"{json.dumps(n)}: "), pl.col(n)]) for n in frame.columns]
    inner = pl.concat_str(pairs, separator=", ", ignore_nulls=True)
    return frame.select(pl.concat_str([pl.lit("{"), inner, pl.lit("}")]).alias("line"))


def json_text(texts: pl.Series) -> pl.Series:
    """Strings as JSON strings; null stays null."""
    encoded = pl.DataFrame({"x": texts}).select(pl.struct("x").struct.json_encode())["x"]
    return encoded.str.slice(len('{"x":')).str.head(-1).set(texts.is_null(), None)


def seconds(ns: pl.Series, *, point: bool = False) -> pl.Series:
    """Nanoseconds (not negative) as decimal seconds, exactly, without trailing zeros: ``5``, ``5.25``.

    With ``point`` whole seconds keep one decimal (``5.0``), for loaders that tell integers apart.
    """
    return _decimals(ns, 10**9, 9, point)


def milliseconds(ns: pl.Series) -> pl.Series:
    """Nanoseconds as milliseconds with every digit, no more than needed: 1500000 → 1.5; negative as 0."""
    return _decimals(ns.clip(0), 10**6, 6, False)


def _decimals(ns: pl.Series, unit: int, digits: int, point: bool) -> pl.Series:
    rest = (ns % unit).cast(pl.String).str.zfill(digits).str.strip_chars_end("0")
    text = (ns // unit).cast(pl.String) + "." + rest
    if point:
        return text.zip_with(rest != "", text + "0")
    return text.str.strip_suffix(".")


def numbers(height: int, state: Writing) -> pl.Series:
    """The next ``height`` rows' numbers in the file, from 0."""
    first: int = state.options.get("rows", 0)
    state.options["rows"] = first + height
    return pl.int_range(first, first + height, dtype=pl.Int64, eager=True)


def since_first(frame: pl.DataFrame, state: Writing, unit: str) -> pl.Series:
    """Arrivals from the first request, ns; noted where that moves them."""
    if state.first_ns:
        state.note(f"times are rebased: the first request is at 0 {unit}")
    return frame["arrival_ns"] - (state.first_ns or 0)


def with_lengths(frame: pl.DataFrame, state: Writing) -> pl.DataFrame:
    """The rows that record both lengths; the others are counted."""
    bad = frame["input_tokens"].is_null() | frame["output_tokens"].is_null()
    return without(frame, bad, NO_LENGTH, state)


def rounded(ns: pl.Series, unit: int, name: str, state: Writing) -> pl.Series:
    """``ns`` in whole ``unit``s, half up; what that changes is counted as below ``name``."""
    whole = (ns + unit // 2) // unit
    state.losses[f"arrival_ns (below {name}, rounded)"] += int((whole * unit != ns).sum())
    return whole


def column(frame: pl.DataFrame, name: str, dtype: pl.DataType | type[pl.DataType]) -> pl.Series:
    """A column, or nulls where the trace does not record it."""
    if name in frame.columns:
        return frame[name]
    return pl.Series(name, [None], dtype=dtype).new_from_index(0, frame.height)


def filled(frame: pl.DataFrame, name: str, default: str, state: Writing) -> pl.Series:
    """A text column without nulls or line breaks; what had to be made up is noted or counted."""
    if name not in frame.columns:
        state.note(f"no {name} is recorded: every row says {default!r}")
        return pl.Series(name, [default], dtype=pl.String).new_from_index(0, frame.height)
    texts = frame[name]
    if texts.null_count():
        state.note(f"rows without a {name} say {default!r}")
        texts = texts.fill_null(default)
    broken = texts.str.contains(r"[\r\n]")
    state.losses[f"{name} (line breaks become spaces)"] += int(broken.sum())
    return texts.str.replace_all(r"[\r\n]+", " ") if broken.any() else texts

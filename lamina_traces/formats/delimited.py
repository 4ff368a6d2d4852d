"""Delimited text (CSV): a fast reader, and an exact one for blocks in which anything is odd.

The fast reader hands a whole block to polars with the format's own types and then counts: as many rows
as lines, as many delimiters as rows need, no quote, no NUL, no value that breaks a rule of its cell.
When a count is off the block is read again line by line, and each bad line is rejected with its
number, column and reason while the good ones stay.
"""

from __future__ import annotations

import csv
import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass, field

import polars as pl

from .cells import explained, fast_type, finished, parsed
from .format import Binding, Context
from .inputs import count_byte
from .redaction import masked_cells


@dataclass
class Rejects:
    """Rejected lines: file, line (from 1), column, reason, and the line with its text masked."""

    file: list[str] = field(default_factory=list)
    line: list[int] = field(default_factory=list)
    column: list[str | None] = field(default_factory=list)
    reason: list[str] = field(default_factory=list)
    text: list[str] = field(default_factory=list)

    def add(self, file: str, line: int, column: str | None, reason: str, text: str) -> None:
        self.file.append(file)
        self.line.append(line)
        self.column.append(column)
        self.reason.append(reason)
        self.text.append(text)

    def frame(self) -> pl.DataFrame:
        """In the order of the lines."""
        table = pl.DataFrame(
            {
                "file": self.file,
                "line": self.line,
                "column": self.column,
                "reason": self.reason,
                "text": self.text,
            },
            schema=REJECTS_SCHEMA,
        )
        return table.sort("line", maintain_order=True)

    def __len__(self) -> int:
        return len(self.line)


REJECTS_SCHEMA = {
    "file": pl.String,
    "line": pl.Int64,
    "column": pl.String,
    "reason": pl.String,
    "text": pl.String,
}


@dataclass
class Counted:
    """Lines (or records) of one input; lines = kept + rejected + blank + header + other always holds."""

    lines: int = 0
    kept: int = 0
    rejected: int = 0
    blank: int = 0
    header: int = 0
    other: int = 0
    """lines of a log that are no records of the format."""

    def add(self, more: Counted) -> None:
        for f in dataclasses.fields(self):
            setattr(self, f.name, getattr(self, f.name) + getattr(more, f.name))


def read_fast(
    block: bytes,
    lines: int,
    names: Sequence[str],
    delimiter: str,
    binding: Binding,
    context: Context,
) -> pl.DataFrame | None:
    """The block of ``lines`` lines as a typed source frame, or None when it must be read with care."""
    if b'"' in block or b"\0" in block:
        return None
    fields = {f.name: f for f in binding.fields}
    schema = {n: fast_type(fields[n]) if n in fields else pl.String for n in names}
    try:
        frame = pl.read_csv(
            block,
            has_header=False,
            schema=schema,
            columns=[i for i, n in enumerate(names) if n in fields],
            separator=delimiter,
            quote_char=None,
        )
    except pl.exceptions.PolarsError:
        return None
    if frame.height != lines or count_byte(block, ord(delimiter)) != lines * (len(names) - 1):
        return None
    if len(names) == 1 and frame.to_series(0).null_count():  # may be blank lines
        return None
    columns = []
    tally = context.tally.copy()
    for f in binding.fields:
        column = finished(f, frame[f.name], context)
        if column is None:
            context.tally = tally  # the block is read again, and must not be counted twice
            return None
        columns.append(column.alias(f.name))
    return pl.DataFrame(columns)


def read_careful(
    block: bytes,
    first_line: int,
    header: bytes,
    names: Sequence[str],
    delimiter: str,
    binding: Binding,
    context: Context,
    line_limit: int,
) -> tuple[pl.DataFrame, Rejects, Counted]:
    """The block line by line: the good rows, the rejected lines, and the count of both."""
    names = tuple(names)
    counted, rejects = Counted(), Rejects()
    at: list[int] = []
    rows: list[list[str]] = []
    for number, raw in _records(block, first_line, binding.multiline):
        counted.lines += 1
        line = raw.removesuffix(b"\r")
        if not line.strip():
            counted.blank += 1
            continue
        if line == header and header:  # files that were joined end to end
            counted.header += 1
            continue
        cells: list[str] = []
        problem = None
        if len(line) > line_limit:
            problem = f"longer than {line_limit:,} bytes"
            line = line[:400]
        elif b"\0" in line:
            problem = "a NUL byte"
        try:
            text = line.decode("utf-8")
        except UnicodeDecodeError:
            text = line.decode("utf-8", "replace")
            problem = problem or "not UTF-8 text"
        if problem is None:
            if '"' in text:
                try:
                    cells = next(csv.reader([text], delimiter=delimiter, strict=True))
                except (csv.Error, StopIteration):
                    problem = "a quote out of place or never closed"
            else:
                cells = text.split(delimiter)
            if problem is None and len(cells) != len(names):
                than = "fewer" if len(cells) < len(names) else "more"
                problem = f"{than} cells than the header: {len(cells)}, not {len(names)}"
        if problem is not None:
            shown = _shown(text, cells, names, delimiter, context)
            rejects.add(context.path, number, None, problem, shown)
            continue
        at.append(number)
        rows.append(cells)
    frame, flags, bad = _columns(rows, names, binding, context)
    if bad.any():
        _explain(flags, bad, rows, at, names, delimiter, binding, context, rejects)
        frame = frame.filter(~bad)
    counted.rejected = len(rejects)
    counted.kept = frame.height
    return frame, rejects, counted


def _columns(
    rows: list[list[str]], names: tuple[str, ...], binding: Binding, context: Context
) -> tuple[pl.DataFrame, list[pl.Series], pl.Series]:
    """Typed columns; per field, which of its cells are bad; and which rows have any bad cell."""
    columns, flags = [], []
    bad = pl.Series([False], dtype=pl.Boolean).new_from_index(0, len(rows))
    for f in binding.fields:
        i = names.index(f.name)
        text = pl.Series(f.name, [r[i] or None for r in rows], dtype=pl.String)
        values, wrong = parsed(f, text, context)
        columns.append(values.alias(f.name))
        flags.append(wrong)
        bad = bad | wrong
    return pl.DataFrame(columns), flags, bad


def _explain(
    flags: list[pl.Series],
    bad: pl.Series,
    rows: list[list[str]],
    at: list[int],
    names: tuple[str, ...],
    delimiter: str,
    binding: Binding,
    context: Context,
    rejects: Rejects,
) -> None:
    position = {n: k for k, n in enumerate(names)}
    marked = [(f, w.to_list()) for f, w in zip(binding.fields, flags, strict=True) if w.any()]
    for i in bad.arg_true().to_list():
        first = next(f for f, wrong in marked if wrong[i])
        cells = rows[i]
        reason = explained(first, cells[position[first.name]])
        shown = _shown(delimiter.join(cells), cells, names, delimiter, context)
        rejects.add(context.path, at[i], first.name, reason, shown)


def _shown(
    text: str, cells: list[str], names: tuple[str, ...], delimiter: str, context: Context
) -> str:
    if context.request.keep_text:
        return text[:1000]
    return masked_cells(cells or text.split(delimiter), names, delimiter)


def _records(block: bytes, first_line: int, multiline: bool) -> list[tuple[int, bytes]]:
    """(line number, bytes without the newline) of each record; a number is that of its first line.

    With ``multiline``, lines are joined until their quotes pair up. A quote that never closes spoils
    its own line only: reading goes on with the next.
    """
    lines = block.split(b"\n")
    if lines and lines[-1] == b"":
        lines.pop()
    if not multiline or b'"' not in block:
        return [(first_line + i, line) for i, line in enumerate(lines)]
    odd = [line.count(b'"') % 2 == 1 for line in lines]
    # position of the next line with an odd number of quotes, from each line on
    after = [len(lines)] * (len(lines) + 1)
    for i in range(len(lines) - 1, -1, -1):
        after[i] = i if odd[i] else after[i + 1]
    out, i = [], 0
    while i < len(lines):
        end = after[i + 1] if odd[i] else i
        if end == len(lines):  # never closed
            end = i
        out.append((first_line + i, b"\n".join(lines[i : end + 1])))
        i = end + 1
    return out

"""JSON and log lines: one object a line, whole documents, lines of a log; read exactly.

Numbers keep the digits they were written with (a stamp of 0.1 becomes 100,000,000 ns, an id above 2^53
keeps every bit); NaN and Infinity, which Python's parser admits, reach the cells as text and are
refused there. Keys without a field are kept in ``extra``, less text and secrets.
"""

from __future__ import annotations

import itertools
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa

from ..errors import DataError
from .cells import explained, parsed
from .delimited import Counted, Rejects
from .format import ROW_EXTRA, Binding, Context, Field
from .inputs import Stream
from .jsonfast import read_block
from .redaction import masked_json, without_private


class _Number(str):
    """A JSON number as it was written."""

    __slots__ = ()


def _number_back(value: Any) -> Any:
    """Numbers as JSON can write them again."""
    if isinstance(value, _Number):
        x = float(value)
        return x if x - x == 0 else None
    if isinstance(value, dict):
        return {k: _number_back(v) for k, v in value.items()}
    if isinstance(value, list):
        return [_number_back(v) for v in value]
    return value


Piece = tuple[pl.DataFrame, Rejects, Counted]
_PIECE_ROWS = 65_536
_SPACE = re.compile(r"\s*")
_DECODER = json.JSONDecoder(parse_float=_Number, parse_constant=_Number)


def parse_line(line: str) -> Any:
    """One line of JSON with float numbers as text. Raises ValueError or RecursionError."""
    return json.loads(line, parse_float=_Number, parse_constant=_Number)


class _Gathered:
    """Rows on their way to a typed frame: values by field, extra, and where each came from."""

    def __init__(self, binding: Binding, context: Context) -> None:
        self.binding, self.context = binding, context
        self.names = [f.name for f in binding.fields]
        self.known = set(self.names)
        self.counted, self.rejects = Counted(), Rejects()
        self._clear()

    def _clear(self) -> None:
        self.values: list[list[Any]] = [[] for _ in self.names]
        self.extra: list[str | None] = []
        self.at: list[int] = []
        self.raw: list[bytes | Mapping[str, Any]] = []

    def reject(self, number: int, problem: str, raw: bytes) -> None:
        self.counted.lines += 1
        self.counted.rejected += 1
        shown = _shown(raw, self.context)
        self.rejects.add(self.context.path, number, None, problem, shown)

    def add(self, row: Mapping[str, Any], number: int, raw: bytes | Mapping[str, Any]) -> None:
        for column, name in zip(self.values, self.names, strict=True):
            column.append(row.get(name))
        more = len(row) > len(self.known) or row.keys() - self.known
        self.extra.append(self._extra(row) if more else None)
        self.at.append(number)
        self.raw.append(raw)
        self.counted.lines += 1

    def _extra(self, row: Mapping[str, Any]) -> str | None:
        """What a row holds beyond the fields as JSON, less text and secrets unless they are kept."""
        rest = {k: v for k, v in row.items() if k not in self.known}
        if private := self.binding.private & rest.keys():
            self.context.dropped.update(k for k in private if rest[k])
            rest = {k: v for k, v in rest.items() if k not in private}
        if not self.context.request.keep_text:
            rest = without_private(rest, self.context.dropped)
        if not rest:
            return None
        return json.dumps(_number_back(rest), ensure_ascii=False, separators=(",", ":"))

    def value(self, value: Any, number: int, raw: bytes) -> None:
        """One JSON value, or one line of text, with its rows."""
        unfold = self.binding.unfold
        if unfold is None:
            if isinstance(value, dict):
                self.add(value, number, raw)
            else:
                self.reject(number, "not a JSON object", raw)
            return
        before = len(self.at)
        try:
            for row in unfold(value, self.context):
                self.add(row, number, row)
        except ValueError as e:
            self.reject(number, str(e), raw)
        except (TypeError, AttributeError, KeyError, IndexError, RecursionError):
            self.reject(number, "not laid out as this format is", raw)
        else:
            if len(self.at) == before:
                self.counted.lines += 1
                self.counted.other += 1

    def __len__(self) -> int:
        return len(self.at)

    def piece(self) -> tuple[pl.DataFrame, Rejects, Counted]:
        """The good rows as a typed source frame; what was refused; and the count of both."""
        fields, context = self.binding.fields, self.context
        columns: list[pl.Series] = []
        bad = pl.Series([False], dtype=pl.Boolean).new_from_index(0, len(self.at))
        flags: list[pl.Series] = []
        for f, column in zip(fields, self.values, strict=True):
            asked = replace(f, required=False) if f.unless else f
            series, wrong = (
                _id_lists(f, column) if f.cell == "ids" else _scalars(asked, column, context)
            )
            if f.unless and f.required and series.null_count():
                wrong = wrong | (series.is_null() & ~_given(f.unless, self.names, self.values))
            columns.append(series.alias(f.name))
            flags.append(wrong)
            bad = bad | wrong
        frame = pl.DataFrame([*columns, pl.Series(ROW_EXTRA, self.extra, dtype=pl.String)])
        if bad.any():
            marked = [(k, w.to_list()) for k, w in enumerate(flags) if w.any()]
            for i in bad.arg_true().to_list():
                k = next(j for j, wrong in marked if wrong[i])
                reason = explained(fields[k], _text(self.values[k][i]))
                if isinstance(self.values[k][i], (dict, list)) and fields[k].cell != "ids":
                    reason = "an object or a list where a single value is needed"
                shown = _shown(self.raw[i], context)
                self.rejects.add(context.path, self.at[i], fields[k].name, reason, shown)
                self.counted.rejected += 1
            frame = frame.filter(~bad)
        self.counted.kept = frame.height
        out = frame, self.rejects, self.counted
        self.counted, self.rejects = Counted(), Rejects()
        self._clear()
        return out


def _lines_of(block: bytes) -> list[bytes]:
    lines = block.split(b"\n")
    if lines and lines[-1] == b"":
        lines.pop()
    return lines


def read_json(
    block: bytes, first_line: int, binding: Binding, context: Context, line_limit: int
) -> Iterator[Piece]:
    """A block of JSON lines: the good rows as typed source frames, rejects, counts."""
    fast = read_block(block, binding, context)
    if fast is not None:
        yield fast, Rejects(), Counted(lines=fast.height, kept=fast.height)
        return
    rows = _Gathered(binding, context)
    for number, raw in enumerate(_lines_of(block), first_line):
        if not raw.strip():
            if binding.unfold is None:
                rows.counted.lines += 1
                rows.counted.blank += 1
            continue
        if len(raw) > line_limit:
            rows.reject(number, f"longer than {line_limit:,} bytes", b"")
            continue
        try:
            value = parse_line(raw.decode("utf-8"))
        except (ValueError, RecursionError) as e:
            rows.reject(number, _why_not_json(e), raw)
            continue
        rows.value(value, number, raw)
        if len(rows) >= _PIECE_ROWS:
            yield rows.piece()
    yield rows.piece()


def read_text(
    block: bytes, first_line: int, binding: Binding, context: Context, line_limit: int
) -> Iterator[Piece]:
    """A block of log lines: rows where the format's ``unfold`` finds them, the other lines counted."""
    rows = _Gathered(binding, context)
    for number, raw in enumerate(_lines_of(block), first_line):
        if not raw.strip():
            rows.counted.lines += 1
            rows.counted.blank += 1
        elif len(raw) > line_limit:
            rows.reject(number, f"longer than {line_limit:,} bytes", b"")
        elif b"\0" in raw:
            rows.reject(number, "a NUL byte", raw)
        else:
            try:
                rows.value(raw.removesuffix(b"\r").decode("utf-8"), number, raw)
            except UnicodeDecodeError:
                rows.reject(number, "not UTF-8 text", raw)
    yield rows.piece()


def read_documents(stream: Stream, binding: Binding, context: Context) -> Iterator[Piece]:
    """A file that is one JSON document, an array of them, or several one after the other.

    Rejects are numbered by record. Raises DataError for a file beyond ``limits.document_bytes``.
    """
    limit, parts, size = stream.limits.document_bytes, [], 0
    for block in stream.blocks(lines=False):
        size += len(block)
        if size > limit:
            raise DataError(
                f"a JSON document of more than {limit:,} bytes",
                "turn it into JSON lines, which are read a line at a time, or raise it: --limits document=4GB",
                path=stream.name,
            )
        parts.append(block)
    rows = _Gathered(binding, context)
    for number, value in enumerate(documents(b"".join(parts)), 1):
        if isinstance(value, Broken):
            rows.reject(number, value.why, value.text)
        else:
            rows.value(value, number, b"")
        if len(rows) >= _PIECE_ROWS:
            yield rows.piece()
    yield rows.piece()


@dataclass(frozen=True)
class Broken:
    """What is left of a document that is not JSON."""

    why: str
    text: bytes


def documents(data: bytes) -> Iterator[Any]:
    """The values of a JSON text: the elements of a top-level array, else the values one after the other.

    Where it breaks off, a last ``Broken`` says how.
    """
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError:
        yield Broken("not UTF-8 text", data[:4000])
        return
    at = _SPACE.match(text, 0).end()  # type: ignore[union-attr]
    inside = text[at : at + 1] == "["
    at += inside
    while True:
        at = _SPACE.match(text, at).end()  # type: ignore[union-attr]
        if inside and text[at : at + 1] == "]":
            return
        if not inside and at >= len(text):
            return
        try:
            value, at = _DECODER.raw_decode(text, at)
        except (ValueError, RecursionError) as e:
            line = text.count("\n", 0, getattr(e, "pos", at)) + 1
            yield Broken(
                f"{_why_not_json(e)} (line {line} of the file)", text[at : at + 4000].encode()
            )
            return
        yield value
        at = _SPACE.match(text, at).end()  # type: ignore[union-attr]
        if inside and text[at : at + 1] not in ",]":
            yield Broken(
                "not JSON: no comma between the values of the list", text[at : at + 400].encode()
            )
            return
        at += text[at : at + 1] == ","


def _why_not_json(e: BaseException) -> str:
    if isinstance(e, UnicodeDecodeError):
        return "not UTF-8 text"
    if isinstance(e, RecursionError):
        return "nested too deeply"
    if isinstance(e, json.JSONDecodeError):
        return f"not JSON: {e.msg.lower()} at character {e.pos + 1}"
    return "a number too long to read"


def _given(wanted: Sequence[str], names: list[str], values: list[list[Any]]) -> pl.Series:
    """Whether a row holds a value for any of the wanted names."""
    columns = [values[names.index(n)] for n in wanted if n in names]
    given = [any(v is not None and v != "" for v in row) for row in zip(*columns, strict=True)]
    return pl.Series(given, dtype=pl.Boolean)


def _shown(raw: bytes | Mapping[str, Any], context: Context) -> str:
    if not isinstance(raw, bytes):
        raw = json.dumps(_number_back(dict(raw)), ensure_ascii=False, default=str).encode()
    text = raw[:4000].decode("utf-8", "replace")
    return text[:1000] if context.request.keep_text else masked_json(text)


def _text(value: Any) -> str | None:
    if value is None or isinstance(value, str):
        return value
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int):
        return str(value)
    return json.dumps(_number_back(value), ensure_ascii=False)


def _scalars(field: Field, column: list[Any], context: Context) -> tuple[pl.Series, pl.Series]:
    kinds = set(map(type, column))
    if field.cell in ("tokens", "integer") and kinds <= {int}:
        try:
            out = pl.Series(column, dtype=pl.Int32 if field.cell == "tokens" else pl.Int64)
        except (OverflowError, TypeError, pl.exceptions.PolarsError):
            pass
        else:
            low = out < field.minimum if field.minimum is not None else None
            return out, low if low is not None else out.is_null()
    texts = [_text(v) or None for v in column]
    out, bad = parsed(field, pl.Series(texts, dtype=pl.String), context)
    if kinds & {dict, list} and field.cell != "text":
        bad = bad | pl.Series([isinstance(v, (dict, list)) for v in column], dtype=pl.Boolean)
    return out, bad


def _id_lists(field: Field, column: list[Any]) -> tuple[pl.Series, pl.Series]:
    """Lists of 64-bit ids, unsigned, bit for bit."""
    wrong = [v is not None and not _is_ids(v) for v in column]
    if field.required:
        wrong = [w or v is None for w, v in zip(wrong, column, strict=True)]
    if any(wrong):
        column = [None if w else v for w, v in zip(wrong, column, strict=True)]
    ends = np.cumsum([0, *(0 if v is None else len(v) for v in column)], dtype=np.int64)
    flat = list(itertools.chain.from_iterable(v for v in column if v is not None))
    array = pa.LargeListArray.from_arrays(
        pa.array(ends),
        pa.array(np.array(flat, dtype=np.uint64)),
        mask=pa.array([v is None for v in column], type=pa.bool_()),
    )
    out = pl.from_arrow(array)
    return pl.Series(out, dtype=pl.List(pl.UInt64)), pl.Series(wrong, dtype=pl.Boolean)


def _is_ids(value: Any) -> bool:
    if not isinstance(value, list):
        return False
    if not value:
        return True
    return set(map(type, value)) == {int} and min(value) >= 0 and max(value) < 2**64

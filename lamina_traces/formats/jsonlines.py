"""JSON lines: one object a line, read exactly.

Numbers keep the digits they were written with (a stamp of 0.1 becomes 100,000,000 ns, an id above 2^53
keeps every bit); NaN and Infinity, which Python's parser admits, reach the cells as text and are
refused there. Keys without a field are kept in ``extra``, less text and secrets.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa

from .cells import explained, parsed
from .delimited import Counted, Rejects
from .format import ROW_EXTRA, Binding, Context, Field
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


def parse_line(line: str) -> Any:
    """One line of JSON with float numbers as text. Raises ValueError or RecursionError."""
    return json.loads(line, parse_float=_Number, parse_constant=_Number)


def read_json(
    block: bytes, first_line: int, binding: Binding, context: Context, line_limit: int
) -> tuple[pl.DataFrame, Rejects, Counted]:
    """A block of JSON lines: the good rows as a typed source frame, rejects, counts."""
    counted, rejects = Counted(), Rejects()
    fields = binding.fields
    names = [f.name for f in fields]
    known = set(names)
    values: list[list[Any]] = [[] for _ in fields]
    extra: list[str | None] = []
    at: list[int] = []
    lines = block.split(b"\n")
    if lines and lines[-1] == b"":
        lines.pop()
    for number, raw in enumerate(lines, first_line):
        counted.lines += 1
        if not raw.strip():
            counted.blank += 1
            continue
        if len(raw) > line_limit:
            rejects.add(context.path, number, None, f"longer than {line_limit:,} bytes", "")
            continue
        try:
            row = parse_line(raw.decode("utf-8"))
        except UnicodeDecodeError:
            problem = "not UTF-8 text"
        except RecursionError:
            problem = "nested too deeply"
        except json.JSONDecodeError as e:
            problem = f"not JSON: {e.msg.lower()} at character {e.pos + 1}"
        except ValueError:
            problem = "a number too long to read"
        else:
            problem = "" if isinstance(row, dict) else "not a JSON object"
        if problem:
            rejects.add(context.path, number, None, problem, _shown(raw, context))
            continue
        for column, name in zip(values, names, strict=True):
            column.append(row.get(name))
        if len(row) > len(known) or row.keys() - known:
            extra.append(_extra(row, known, context))
        else:
            extra.append(None)
        at.append(number)
    columns: list[pl.Series] = []
    bad = pl.Series([False], dtype=pl.Boolean).new_from_index(0, len(at))
    flags: list[pl.Series] = []
    for f, column in zip(fields, values, strict=True):
        asked = replace(f, required=False) if f.unless else f
        series, wrong = (
            _id_lists(f, column) if f.cell == "ids" else _scalars(asked, column, context)
        )
        if f.unless and f.required and series.null_count():
            wrong = wrong | (series.is_null() & ~_given(f.unless, names, values))
        columns.append(series.alias(f.name))
        flags.append(wrong)
        bad = bad | wrong
    frame = pl.DataFrame([*columns, pl.Series(ROW_EXTRA, extra, dtype=pl.String)])
    if bad.any():
        marked = [(k, w.to_list()) for k, w in enumerate(flags) if w.any()]
        for i in bad.arg_true().to_list():
            k = next(j for j, wrong in marked if wrong[i])
            reason = explained(fields[k], _text(values[k][i]))
            if isinstance(values[k][i], (dict, list)) and fields[k].cell != "ids":
                reason = "an object or a list where a single value is needed"
            raw = lines[at[i] - first_line]
            rejects.add(context.path, at[i], fields[k].name, reason, _shown(raw, context))
        frame = frame.filter(~bad)
    counted.rejected = len(rejects)
    counted.kept = frame.height
    return frame, rejects, counted


def _given(wanted: Sequence[str], names: list[str], values: list[list[Any]]) -> pl.Series:
    """Whether a row holds a value for any of the wanted names."""
    columns = [values[names.index(n)] for n in wanted if n in names]
    given = [any(v is not None and v != "" for v in row) for row in zip(*columns, strict=True)]
    return pl.Series(given, dtype=pl.Boolean)


def _shown(raw: bytes, context: Context) -> str:
    text = raw[:4000].decode("utf-8", "replace")
    return text[:1000] if context.request.keep_text else masked_json(text)


def _extra(row: dict[str, Any], known: set[str], context: Context) -> str | None:
    rest = {k: v for k, v in row.items() if k not in known}
    if not context.request.keep_text:
        rest = without_private(rest, context.dropped)
    if not rest:
        return None
    return json.dumps(_number_back(rest), ensure_ascii=False, separators=(",", ":"))


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

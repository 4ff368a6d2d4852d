"""Blocks of JSON lines at once, by two parsers that are fast and refuse what they could get wrong.

Where every line has the same keys in the same order and holds whole numbers alone (Mooncake's own files), the
bytes other than digits and brackets are one pattern repeated; that is checked, and DuckDB's parser, which
would also take 1.5 for 2, sees no such line. Anything else goes to Arrow's parser with the format's schema,
which stops at a key that is no field and at a value of another kind. What neither takes is read exactly,
line by line (``jsonlines``). All three give the same values.
"""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import duckdb
import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.json as pj

from ..sql import text
from ..units import TIME_UNITS
from .cells import fast_type, finished
from .format import ROW_EXTRA, Binding, Context, Field
from .inputs import NEWLINE

_GIVE_UP = 3
"""so many blocks in a row with something for the exact reader: the rest goes there at once."""
_ARROW = {
    "tokens": pa.int32(),
    "integer": pa.int64(),
    "seconds": pa.float64(),
    "number": pa.float64(),
    "ids": pa.list_(pa.uint64()),
    "flag": pa.bool_(),
}
_DUCKDB: dict[str, Any] = {
    "tokens": "INTEGER", "integer": "BIGINT", "clock": "BIGINT", "seconds": "DOUBLE", "number": "DOUBLE",
    "ids": ["UBIGINT"],
}  # fmt: skip
_OF_NUMBERS = b"0123456789-,[] \t\r"


def read_block(block: bytes, binding: Binding, context: Context) -> pl.DataFrame | None:
    """The block as a typed source frame, or None when anything in it must be read with care."""
    missed: int = context.state.get("json misses", 0)
    if binding.unfold is not None or missed >= _GIVE_UP:
        return None
    context.state["json misses"] = missed + 1
    tally = context.tally.copy()
    frame = _whole_numbers(block, binding, context) or _strict(block, binding)
    columns = None if frame is None else _finished(frame, binding, context)
    if columns is None:
        context.tally = tally  # the block is read again, and must not be counted twice
        return None
    context.state["json misses"] = 0
    rows = len(columns[0])
    nothing = pl.Series(ROW_EXTRA, [None], dtype=pl.String).new_from_index(0, rows)
    return pl.DataFrame([*columns, nothing])


Columns = dict[str, pl.Series]


def _whole_numbers(block: bytes, binding: Binding, context: Context) -> Columns | None:
    """By DuckDB, where all lines are alike and hold whole numbers and lists of them."""
    if not block.endswith(b"\n"):
        block += b"\n"
    end = block.index(b"\n") + 1
    try:
        first = json.loads(block[:end])
    except (ValueError, RecursionError):
        return None
    fields = {f.name: f for f in binding.fields}
    if not isinstance(first, dict) or not all(
        k in fields and fields[k].cell in _DUCKDB and _is_whole(v) for k, v in first.items()
    ):
        return None  # and no line below can have what the first has not: a point, a word, a quote
    pattern = block[:end].translate(None, _OF_NUMBERS)
    rest = block.translate(None, _OF_NUMBERS)
    rows, odd = divmod(len(rest), len(pattern))
    if odd or pattern.count(b'"') != 2 * len(first) or rest != pattern * rows:
        return None
    data = np.frombuffer(block, np.uint8)
    ends = np.flatnonzero(data == NEWLINE).astype(np.int32) + 1
    offsets = np.concatenate([np.zeros(1, np.int32), ends])
    buffers = [None, pa.py_buffer(offsets), pa.py_buffer(block)]
    lines = pa.Array.from_buffers(pa.string(), rows, buffers)
    structure = text(json.dumps({k: _DUCKDB[fields[k].cell] for k in first}))
    try:
        relation = _connection(context).from_arrow(pa.table({"line": lines}))
        table = relation.project(f"unnest(json_transform_strict(line, {structure}))")
        given = pl.from_arrow(table.to_arrow_table())
    except duckdb.Error:
        return None
    if not isinstance(given, pl.DataFrame) or given.columns != list(first) or given.height != rows:
        return None
    out: Columns = {}
    for f in binding.fields:
        if f.name not in first:
            out[f.name] = pl.Series(f.name, [None], dtype=_type(f)).new_from_index(0, rows)
            continue
        column = given[f.name]
        if f.cell == "clock":
            factor = TIME_UNITS[f.unit]
            if column.null_count() or max(-column.min(), column.max()) > (2**63 - 1) // factor:  # type: ignore[operator, type-var]
                return None
            column = column * factor
        out[f.name] = column
    return out


def _is_whole(value: Any) -> bool:
    if isinstance(value, list):
        return all(type(v) is int for v in value)
    return type(value) is int


def _type(field: Field) -> Any:
    if field.cell == "ids":
        return pl.List(pl.UInt64)
    return pl.Int64 if field.cell == "clock" else fast_type(field)


def _connection(context: Context) -> duckdb.DuckDBPyConnection:
    """A connection that can reach no file, one for the reading."""
    if "json parser" not in context.state:
        connection = duckdb.connect(
            config={"threads": 1, "autoinstall_known_extensions": "false", "autoload_known_extensions": "false"}
        )  # fmt: skip
        connection.execute("SET enable_external_access = false")
        context.state["json parser"] = connection
    found: duckdb.DuckDBPyConnection = context.state["json parser"]
    return found


def _strict(block: bytes, binding: Binding) -> Columns | None:
    """By Arrow, with the types of the fields."""
    rows = _objects(block)
    if rows is None:
        return None
    schema = pa.schema([(f.name, _arrow_type(f)) for f in binding.fields])
    try:
        table = pj.read_json(
            pa.BufferReader(block),
            parse_options=pj.ParseOptions(
                explicit_schema=schema, unexpected_field_behavior="error"
            ),
            read_options=pj.ReadOptions(use_threads=False, block_size=len(block) + 1),
        )
    except (pa.ArrowException, UnicodeDecodeError):
        return None
    if table.num_rows != rows:
        return None
    out: Columns = {}
    for f in binding.fields:
        if f.cell == "ids" and any(chunk.values.null_count for chunk in table[f.name].chunks):
            return None
        column: Any = pl.from_arrow(table[f.name])
        if column.dtype == pl.String and (column == "").any():
            column = column.set((column == "").fill_null(False), None)
        out[f.name] = column
    return out


def _objects(block: bytes) -> int | None:
    """How many lines the block has, when each begins and ends with a brace; None otherwise.

    Where no value is an object, as many objects as lines then means one a line.
    """
    data = np.frombuffer(block, np.uint8)
    ends = np.flatnonzero(data == NEWLINE)
    if not len(data) or data[-1] != NEWLINE:
        ends = np.append(ends, len(data))
    starts = np.concatenate([[0], ends[:-1] + 1])
    whole = (ends > starts).all() and (data[starts] == 123).all() and (data[ends - 1] == 125).all()
    return len(ends) if whole else None


def _arrow_type(field: Field) -> pa.DataType:
    if field.cell == "clock":
        decimal = fast_type(field)
        return pa.decimal128(decimal.precision, decimal.scale)
    return _ARROW.get(field.cell, pa.string())


def _finished(given: Columns, binding: Binding, context: Context) -> list[pl.Series] | None:
    """The columns in their final types, or None where a value breaks a rule of its cell."""
    out = []
    for f in binding.fields:
        asked = replace(f, required=False) if f.unless else f
        if f.cell == "clock" and given[f.name].dtype == pl.Int64:
            asked = replace(asked, cell="integer")  # in ns already
        column = finished(asked, given[f.name], context)
        if column is None:
            return None
        out.append(column.alias(f.name))
    frame = pl.DataFrame(out)
    stood_in_for = (f for f in binding.fields if f.unless and f.required)
    return out if all(_given_somewhere(f, frame) for f in stood_in_for) else None


def _given_somewhere(field: Field, frame: pl.DataFrame) -> bool:
    """Whether each row has the field or one of those that stand in for it."""
    names = [n for n in (field.name, *field.unless) if n in frame.columns]
    return bool(
        frame.select(pl.any_horizontal(pl.col(n).is_not_null() for n in names).all()).item()
    )

"""The generic reader: any CSV, JSON lines or Parquet file, with ``--map`` saying what is what.

``--map arrival=ts,input=prompt_tokens,output=completion_tokens`` names source columns for canonical
ones; short names stand for the common ones, and every canonical column name is accepted. A time column
may carry its unit (``arrival=ts:ms``), and a value in single quotes is a constant for all rows
(``device='gpu0'``). Keys inside other keys of a JSON object have dotted names (``input=usage.prompt_tokens``).
Columns that are not mapped are kept in ``extra``, less text and secrets. Files that have our own names of
columns need no map (formats/lamina.py).

A numeric arrival whose values lie between 2001 and 2100 as Unix time is taken for Unix time, and that
is said; other numbers are relative. Status words are folded to the canonical ones.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

import polars as pl

from ..errors import Notice, UnknownName, UsageError
from ..schema import STATUSES, TABLES, Clock, Column, Table
from ..units import TIME_UNITS
from .detection import dated, guessed_command, guessed_time_unit, numeric
from .format import (
    Binding,
    Context,
    Field,
    Format,
    Head,
    Request,
    polars_type,
    with_extra,
)
from .links import held_rows, linked
from .redaction import is_private

SHORT: dict[str, str] = {
    "arrival": "arrival_ns",
    "input": "input_tokens",
    "output": "output_tokens",
    "total": "total_tokens",
    "session": "session_id",
    "tenant": "tenant_id",
    "user": "user_id",
    "client": "client_id",
    "parent": "parent_request_id",
    "delay": "delay_after_parent_ns",
    "ttft": "ttft_s",
    "tpot": "tpot_s",
    "e2e": "e2e_s",
    "queue": "queue_s",
    "function": "func_id",
    "app": "app_id",
    "duration": "total_s",
    "power": "power_w",
    "energy": "energy_j",
}
"""short names of --map, beside the canonical column names themselves."""

_UNIX_S = (1e9, 4.1e9)
_WORDS = {
    "ok": ["ok", "success", "succeeded", "successful", "completed", "complete", "done", "finished", "default", "true", "stop", "length"],
    "timeout": ["timeout", "timed_out", "timedout", "deadline_exceeded", "408", "504"],
    "cancelled": ["cancelled", "canceled", "aborted", "abort", "499"],
    "incomplete": ["incomplete", "truncated", "partial"],
    "unknown-failure": ["unknown-failure"],
    "unknown": ["unknown"],
    "error": ["error", "failed", "failure", "fail", "false", "exception"],
}  # fmt: skip
_FOLDED = {w: status for status, words in _WORDS.items() for w in words}


def canonical_status(text: pl.Series) -> pl.Series:
    """Status words and HTTP codes as canonical statuses; what is not understood is ``unknown``."""
    folded = text.str.strip_chars().str.to_lowercase().str.replace_all(" ", "_")
    out = folded.replace_strict(_FOLDED, default=None, return_dtype=pl.String)
    code = folded.cast(pl.Int32, strict=False)
    by_code = pl.select(
        pl.when(code.is_between(200, 299))
        .then(pl.lit("ok"))
        .when(code.is_between(400, 599))
        .then(pl.lit("error"))
    ).to_series()
    if len(by_code) != len(out):  # no rows: the literals alone decide the length
        return out
    return out.fill_null(by_code).fill_null("unknown")


def _split_unit(value: str, names: tuple[str, ...]) -> tuple[str, str | None]:
    column, colon, unit = value.rpartition(":")
    if colon and value not in names and unit in TIME_UNITS:
        return column, unit
    return value, None


def _table(keys: set[str], request: Request) -> Table:
    """The first table, of the kind that was asked for, that has all the columns."""
    of_kind = [t for t in TABLES.values() if request.kind in (None, t.kind)]
    return next((t for t in of_kind if all(k in t for k in keys)), of_kind[0])


def _field(column: Column, name: str, unit: str | None, head: Head, request: Request) -> Field:
    """How a source column is read for a canonical one."""
    if column.name.endswith("_ns"):
        if column.is_instant and (
            dated(head, name) or isinstance(head.dtypes.get(name), pl.Datetime)
        ):
            return Field(name, "instant", "", column.name, minimum=None)
        known = unit or (request.time_unit if column.is_instant else None)
        guess = guessed_time_unit(head, name) if column.is_instant else None
        floor = None if column.is_instant else 0
        return Field(name, "clock", known or guess or "s", column.name, minimum=floor)
    if column.type == "DOUBLE" and column.unit == "s":
        floor = None if column.name == "residual_s" else 0
        return Field(name, "seconds", unit or "s", column.name, minimum=floor)
    if unit is not None:
        raise UsageError(
            f"{column.name} is no time, so {name}:{unit} means nothing", "leave out the unit"
        )
    if column.type == "DOUBLE":
        return Field(name, "number", column.unit, column.name, minimum=None)
    if column.type == "INTEGER":
        return Field(name, "tokens", column.unit, column.name, minimum=None if column.name == "priority" else 0)  # fmt: skip
    if column.type == "BOOLEAN":
        return Field(name, "flag", "", column.name)
    if column.type == "UBIGINT[]":
        return Field(name, "ids", "", column.name)
    if column.type == "VARCHAR" or column.name == "depends_on":
        return Field(name, "text", "", column.name)
    raise UsageError(f"{column.name} cannot be mapped", "it is filled by the readers themselves")


def _bind(_fmt: Format, head: Head, request: Request) -> Binding:
    if not request.mapping:
        raise UsageError("the columns reader needs --map", "for instance: " + guessed_command(head))
    wanted = {SHORT.get(k, k): v for k, v in request.mapping.items()}
    names = (*head.names, *sorted(k for k in head.keys if "." in k))
    table = _table(set(wanted), request)
    fields: list[Field] = []
    constants: dict[str, pl.Series] = {}
    for key, value in wanted.items():
        if key not in table or key in ("row_id", "extra"):
            raise UnknownName(f"column of {table.name}", key, [*SHORT, *table.names])
        if len(value) >= 2 and value[0] == value[-1] == "'":
            constants[key] = _constant(table[key], value[1:-1])
            continue
        name, unit = _split_unit(value, names)
        if name not in names:
            raise UnknownName("source column", name, names)
        if any(f.name == name for f in fields):
            raise UsageError(f"column {name!r} is mapped twice", "give each name its own column")
        fields.append(_field(table[key], name, unit, head, request))
    missing = [
        c.name for c in table.columns
        if c.required and c.name not in wanted and c.name not in ("row_id", "status")
    ]  # fmt: skip
    if missing:
        raise UsageError(
            f"{table.name} needs {', '.join(missing)}",
            f"map them, or give a constant in single quotes: --map \"{missing[0]}='…'\"",
        )
    if not fields:
        raise UsageError("no source column is mapped", "for instance: " + guessed_command(head))
    fields = [replace(f, required=_needed(f, table, wanted)) for f in fields]
    return _bound(head, request, table, fields, constants)


def _flattened(value: Any, _context: Context) -> Iterator[Mapping[str, Any]]:
    """The row of a JSON object with nested keys: dotted names."""
    if not isinstance(value, dict):
        raise ValueError("not a JSON object")

    def walk(inner: Mapping[str, Any], path: str) -> Iterator[tuple[str, Any]]:
        for key, v in inner.items():
            if isinstance(v, dict):
                yield from walk(v, f"{path}{key}.")
            else:
                yield f"{path}{key}", v

    yield dict(walk(value, ""))


def _constant(column: Column, text: str) -> pl.Series:
    """A constant of --map in the type of its column."""
    try:
        value = pl.Series(column.name, [text], dtype=pl.String).cast(polars_type(column))
    except pl.exceptions.PolarsError:
        raise UsageError(
            f"{text!r} is no value for {column.name} ({column.type})",
            "give one of its type, or map a column",
        ) from None
    return value


def _needed(field: Field, table: Table, wanted: dict[str, str]) -> bool:
    """Arrivals and lengths must be there on every row; lengths may be absent where a status says why."""
    if field.to in ("input_tokens", "output_tokens"):
        return "status" not in wanted
    return field.to == "arrival_ns" or (table[field.to].required and field.to != "status")


def _bound(
    head: Head,
    request: Request,
    table: Table,
    fields: list[Field],
    constants: dict[str, pl.Series],
) -> Binding:
    mapped = {f.name for f in fields}
    rest = [n for n in head.names if n not in mapped]
    dropped = tuple(n for n in rest if not request.keep_text and is_private(n))
    json = head.syntax in ("jsonl", "json")
    extra = tuple(n for n in rest if n not in dropped) if not json else ()
    clock, absolute, notices = _clock(head, request, fields)

    def canonical(frame: pl.DataFrame, context: Context) -> pl.DataFrame:
        out = frame.select(pl.col(f.name).alias(f.to) for f in fields)
        n = out.height
        out = out.with_columns(c.new_from_index(0, n) for c in constants.values())
        if table.name == "llm_requests":
            if "model" in out.columns and "model_raw" not in out.columns:
                out = out.with_columns(pl.col("model").alias("model_raw"))
            out = _with_status(out)
        elif "status" in out.columns:
            out = out.with_columns(canonical_status(out["status"]).alias("status"))
        out = with_extra(out, frame, extra, context)
        return linked(out, context) if "depends_on" in out.columns else out

    order = {c: i for i, c in enumerate(table.names)}
    return Binding(
        fields=(*fields, *(Field(n, "text", required=False) for n in extra)),
        table=table.name,
        clock=clock,
        canonical=canonical,
        extra=extra,
        dropped=dropped if not json else (),
        rest=held_rows if "depends_on" in {f.to for f in fields} else None,
        unfold=_flattened if mapped - set(head.names) else None,
        notices=notices,
        mapping=tuple(sorted(((f.name, f.to, f.unit) for f in fields), key=lambda m: order[m[1]])),
        absolute=absolute,
        multiline=True,
    )


def _with_status(out: pl.DataFrame) -> pl.DataFrame:
    if "status" not in out.columns:
        return out.with_columns(pl.lit("unknown").alias("status"))
    status = canonical_status(out["status"])
    if "error_code" not in out.columns:
        raw = out["status"].set(status.is_in(["ok", "unknown"]), None)
        raw = raw.set(raw.is_in(list(STATUSES)).fill_null(False), None)
        out = out.with_columns(raw.alias("error_code"))
    return out.with_columns(status.alias("status"))


def _clock(
    head: Head, request: Request, fields: list[Field]
) -> tuple[Clock, bool, tuple[Notice, ...]]:
    """(clock, whether arrivals are absolute, what was assumed)."""
    arrival = next((f for f in fields if f.to == "arrival_ns"), None)
    if arrival is None:
        return "none", False, ()
    if arrival.cell == "instant":
        return "utc", True, ()
    notices = []
    stated = request.time_unit or (
        request.mapping
        and any(v == f"{arrival.name}:{arrival.unit}" for v in request.mapping.values())
    )
    if not stated:
        notices.append(
            Notice(
                "time-unit-guessed",
                f"{arrival.name} was read as {arrival.unit}; --time-unit s|ms|us|ns says otherwise",
                "arrival_ns",
            )
        )
    if unix_time(head, arrival.name, arrival.unit):
        notices.append(
            Notice(
                "unix-time",
                f"{arrival.name} lies in the range of Unix time and was read as such",
                "arrival_ns",
            )
        )
        return "utc", True, tuple(notices)
    return "relative", False, tuple(notices)


def unix_time(head: Head, name: str, unit: str) -> bool:
    """Whether all numbers of a column in the head lie in the range of Unix time, 2001 to 2100."""
    values = [float(v) for r in head.rows if (v := r.get(name)) and numeric_text(v)]
    scale = TIME_UNITS[unit] / 1e9
    return bool(values) and all(_UNIX_S[0] <= v * scale <= _UNIX_S[1] for v in values)


def numeric_text(text: str) -> bool:
    """Whether a text is a finite number."""
    return numeric(Head("csv", ("x",), ({"x": text},)), "x")


FORMATS = (
    Format(
        name="columns",
        title="Any CSV, JSON or Parquet file, with --map",
        table="llm_requests",
        syntax=("csv", "jsonl", "parquet"),
        fields=(),
        canonical=lambda frame, _context: frame,
        clock="relative",
        source="the user's --map",
        evidence="documentation",
        quirks=(
            "columns that are not mapped are kept in extra, less text and secrets",
            "numbers in the range of Unix time are taken for Unix time",
            "rows without a length are rejected, unless a status column is mapped",
            "depends_on is a list (in CSV as JSON text, or names with commas between): of names in request_id where that is mapped, unique in their workflow; else of rows of the file, from 0. [] waits for none, an empty cell is unknown",
        ),
        bind=_bind,
        matches=lambda _head: False,
    ),
)

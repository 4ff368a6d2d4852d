"""Canonical columns: our own names, as ``generate -o FILE.parquet``, ``export`` and the store write them, or as a
user's own file has them, in Parquet, CSV or JSON lines.

Parquet of ours describes itself in its metadata under ``lamina_traces`` (JSON: clock, origin_ns, nature); what has no
such facts is derived, and relative unless ``arrival_ns`` lies in the range of Unix time. ``row_id`` is kept as
recorded, since ``depends_on`` names rows by it; the rows of a later file are shifted past those before when they would
collide. Without ``row_id``, ``depends_on`` names the ``request_id`` of requests, or where there is none their row in
the file, from 0. Columns of other names are kept in ``extra``, less text and secrets.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, get_args

import polars as pl

from ..errors import DataError
from ..schema import TABLES, Clock, Column, Nature, Table
from .columns import canonical_status, unix_time
from .format import ROW_EXTRA, Binding, Cell, Context, Field, Format, Head, Request, with_extra
from .links import held_rows, linked, listed
from .redaction import is_private

_CELLS: dict[str, Cell] = {
    "BIGINT": "integer",
    "INTEGER": "integer",
    "DOUBLE": "number",
    "VARCHAR": "text",
    "BOOLEAN": "flag",
    "UBIGINT[]": "ids",
    "BIGINT[]": "ids",
    "VARCHAR[]": "text",
}
_MADE = frozenset(("row_id", "status"))
"""required columns that can be absent: rows are numbered, and their status is unknown."""


def _table(names: Sequence[str]) -> Table | None:
    """The table with nothing but whose columns the names are; else the one with most of them, if one leads and what it
    needs is there (its time, for requests also both lengths), and room for the others."""
    given = set(names)
    found: list[tuple[int, Table]] = []
    for table in TABLES.values():
        needed = {c.name for c in table.columns if c.required}
        if table.time is not None and table.time not in given:
            continue
        if needed <= given <= set(table.names):
            return table
        lengths = {"input_tokens", "output_tokens"} if table.name == "llm_requests" else set()
        holds_all = "extra" in table or given <= set(table.names)
        if table.time is not None and holds_all and (needed - _MADE) | lengths <= given:
            found.append((len(given & set(table.names)), table))
    most = max((n for n, _ in found), default=0)
    leading = [t for n, t in found if n == most]
    return leading[0] if len(leading) == 1 else None


def _field(c: Column, given: Sequence[str]) -> Field:
    free = c.is_instant or c.name in ("priority", "residual_s", "temp_c") or c.type == "BIGINT"
    by_name = c.name == "depends_on" and "row_id" not in given
    return Field(
        c.name,
        "text" if by_name else _CELLS[c.type],
        c.unit if c.unit == "s" else "",
        c.name,
        required=c.required and c.name != "status",
        minimum=None if free else 0,
    )


def _bind(_fmt: Format, head: Head, request: Request) -> Binding:
    table = _table(head.names)
    if table is None:
        raise DataError(
            "its columns are not those of a canonical table",
            "read it with --as columns --map …",
            path=head.path,
        )
    fields = [_field(c, head.names) for c in table.columns if c.name in head.names]
    time = next((f for f in fields if f.to == table.time), None)
    others = [n for n in head.names if n not in table]
    dropped = tuple(n for n in others if not request.keep_text and is_private(n))
    json = head.syntax in ("jsonl", "json")
    extra = tuple(n for n in others if n not in dropped) if not json else ()
    own = head.metadata
    absolute = "clock" not in own and time is not None and unix_time(head, time.name, "ns")
    clock: Any = own.get("clock") if own.get("clock") in get_args(Clock) else "utc" if absolute else "relative"  # fmt: skip
    nature: Any = own.get("nature") if own.get("nature") in get_args(Nature) else "derived"
    least = own.get("row_id_min", 0)

    def canonical(frame: pl.DataFrame, context: Context) -> pl.DataFrame:
        if isinstance(own.get("origin_ns"), int):
            context.state.setdefault("origin_ns", own["origin_ns"])
        out = _whole(frame, [f.name for f in fields], extra, context)
        if "status" in table:
            given = out["status"] if "status" in out.columns else pl.Series([None] * out.height, dtype=pl.String)  # fmt: skip
            out = out.with_columns(canonical_status(given).fill_null("unknown").alias("status"))
        out = out.with_columns(
            listed(out[c.name]).alias(c.name)
            for c in table.columns
            if c.type == "VARCHAR[]" and c.name in out.columns
        )
        if "row_id" not in out.columns:
            return linked(out, context) if "depends_on" in out.columns else out
        return _numbered(out, least, context) if out.height else out

    return Binding(
        fields=(*fields, *(Field(n, "text", required=False) for n in extra)),
        table=table.name,
        clock=clock,
        canonical=canonical,
        rest=held_rows if "depends_on" in head.names and "row_id" not in head.names else None,
        extra=extra,
        dropped=dropped if not json else (),
        mapping=tuple((c.name, c.name, c.unit) for c in table.columns if c.name in head.names),
        absolute=absolute,
        nature=nature,
        multiline=True,
    )


def _whole(
    frame: pl.DataFrame, names: Sequence[str], extra: Sequence[str], context: Context
) -> pl.DataFrame:
    """The canonical columns, and in ``extra`` what it held with the columns of other names."""
    out = frame.select(names)
    if not extra and ROW_EXTRA not in frame.columns:
        return out
    others = with_extra(out.drop("extra", strict=False), frame, extra, context)["extra"]
    if "extra" not in names:
        return out.with_columns(others) if extra or others.null_count() < len(others) else out
    inner = pl.concat_str(
        (pl.col(c).str.strip_prefix("{").str.strip_suffix("}") for c in ("extra", "others")),
        separator=",",
        ignore_nulls=True,
    )
    both = pl.DataFrame({"extra": frame["extra"], "others": others}).select(
        pl.when(pl.any_horizontal(pl.all().is_not_null())).then("{" + inner + "}").alias("extra")
    )
    return out.with_columns(both["extra"])


def _numbered(out: pl.DataFrame, least: int, context: Context) -> pl.DataFrame:
    """Rows by their own ``row_id``, shifted past those of earlier files where they would collide."""
    if "file" not in context.state:
        top = context.state.get("row_max", -1)
        context.state["file"] = 0 if least > top else top + 1 - least
    shift = context.state["file"]
    if shift:
        out = out.with_columns(pl.col("row_id") + shift)
        if "depends_on" in out.columns:
            out = out.with_columns(pl.col("depends_on").list.eval(pl.element() + shift))
    top = out["row_id"].max()
    context.state["row_max"] = max(context.state.get("row_max", -1), int(top))  # type: ignore[arg-type]
    return out


FORMATS = (
    Format(
        name="lamina",
        title="Our own columns, in Parquet, CSV or JSON lines",
        table="llm_requests",
        syntax=("parquet", "csv", "jsonl"),
        fields=(),
        canonical=lambda frame, _context: frame,
        clock="relative",
        source="lamina_traces.schema",
        evidence="real file",
        quirks=(
            "row_id is kept as recorded; later files are shifted past earlier ones",
            "without row_id, depends_on names request_id where that is a column, else rows of the file, from 0",
            "columns of other names are kept in extra, less text and secrets",
        ),
        bind=_bind,
        matches=lambda head: _table(head.names) is not None,
    ),
)

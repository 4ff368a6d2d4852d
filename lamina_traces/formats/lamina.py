"""Canonical Parquet: our own columns, as ``generate -o FILE.parquet`` and the store write them.

The file describes itself in its Parquet metadata under ``lamina_traces`` (JSON: clock, origin_ns,
nature); without that it is read as relative and derived. ``row_id`` is kept as recorded, since
``depends_on`` names rows by it; the rows of a later file are shifted past those before when they
would collide.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, get_args

import polars as pl

from ..errors import DataError
from ..schema import TABLES, Clock, Nature, Table
from .columns import canonical_status
from .format import Binding, Cell, Context, Field, Format, Head, Request

_CELLS: dict[str, Cell] = {
    "BIGINT": "integer",
    "INTEGER": "integer",
    "DOUBLE": "number",
    "VARCHAR": "text",
    "BOOLEAN": "flag",
    "UBIGINT[]": "ids",
    "BIGINT[]": "ids",
}


def _table(names: Sequence[str]) -> Table | None:
    """The table all of whose required columns, and only whose columns, are there."""
    for table in TABLES.values():
        needed = {c.name for c in table.columns if c.required}
        if needed <= set(names) <= set(table.names) and (table.time is None or table.time in names):
            return table
    return None


def _bind(_fmt: Format, head: Head, _request: Request) -> Binding:
    table = _table(head.names)
    if table is None:
        raise DataError(
            "its columns are not those of a canonical table",
            "read it with --as columns --map …",
            path=head.path,
        )
    fields = []
    for c in table.columns:
        if c.name not in head.names:
            continue
        free = c.is_instant or c.name in ("priority", "residual_s", "temp_c") or c.type == "BIGINT"  # fmt: skip
        fields.append(
            Field(c.name, _CELLS[c.type], c.unit if c.unit == "s" else "", c.name, required=c.required, minimum=None if free else 0)
        )  # fmt: skip
    own = head.metadata
    clock: Any = own.get("clock") if own.get("clock") in get_args(Clock) else "relative"
    nature: Any = own.get("nature") if own.get("nature") in get_args(Nature) else "derived"
    least = own.get("row_id_min", 0)

    def canonical(frame: pl.DataFrame, context: Context) -> pl.DataFrame:
        if isinstance(own.get("origin_ns"), int):
            context.state.setdefault("origin_ns", own["origin_ns"])
        if "status" in frame.columns and frame.height:
            frame = frame.with_columns(canonical_status(frame["status"]).alias("status"))
        if not frame.height:
            return frame
        if "file" not in context.state:
            top = context.state.get("row_max", -1)
            context.state["file"] = 0 if least > top else top + 1 - least
        shift = context.state["file"]
        if shift:
            frame = frame.with_columns(pl.col("row_id") + shift)
            if "depends_on" in frame.columns:
                frame = frame.with_columns(pl.col("depends_on").list.eval(pl.element() + shift))
        top = frame["row_id"].max()
        context.state["row_max"] = max(context.state.get("row_max", -1), int(top))  # type: ignore[arg-type]
        return frame

    return Binding(
        fields=tuple(fields),
        table=table.name,
        clock=clock,
        canonical=canonical,
        mapping=tuple((c.name, c.name, c.unit) for c in table.columns if c.name in head.names),
        nature=nature,
    )


FORMATS = (
    Format(
        name="lamina",
        title="Canonical Parquet of lamina-traces",
        table="llm_requests",
        syntax=("parquet",),
        fields=(),
        canonical=lambda frame, _context: frame,
        clock="relative",
        source="lamina_traces.schema",
        evidence="real file",
        quirks=("row_id is kept as recorded; later files are shifted past earlier ones",),
        bind=_bind,
        matches=lambda head: _table(head.names) is not None,
    ),
)

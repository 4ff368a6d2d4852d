"""Columns and keys that a source may lack: read where they appear, null where they do not."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import polars as pl

from .format import Binding, Context, Field, Format, Head, Request, bind_by_name
from .redaction import SECRET_PATTERN

_TYPES: dict[str, Any] = {
    "tokens": pl.Int32,
    "integer": pl.Int64,
    "clock": pl.Int64,
    "instant": pl.Int64,
    "text": pl.String,
    "ids": pl.List(pl.UInt64),
    "flag": pl.Boolean,
}


def with_absent(frame: pl.DataFrame, fields: Sequence[Field]) -> pl.DataFrame:
    """A typed block with a null column for each field that its source does not have."""
    have = set(frame.columns)
    return frame.with_columns(
        pl.lit(None, _TYPES.get(f.cell, pl.Float64)).alias(f.name)
        for f in fields
        if f.name not in have
    )


def every_field(fmt: Format, head: Head, request: Request) -> Binding:
    """Bind JSON lines by name (a format's ``bind``), so that keys count that only later lines have; the
    mapping names those seen."""
    seen = {n.strip().casefold() for n in head.names}
    unseen = (f.name for f in fmt.fields if not f.required and f.name.casefold() not in seen)
    bound = bind_by_name(fmt, replace(head, names=(*head.names, *unseen)), request)
    return replace(bound, mapping=tuple(m for m in bound.mapping if m[0] in head.names))


def next_index(name: str) -> pl.Expr:
    """A column counted from 0, from 1; null where 32 bits cannot hold it."""
    return (pl.col(name).cast(pl.Int64) + 1).cast(pl.Int32, strict=False)


def without_addresses(frame: pl.DataFrame, names: Sequence[str], context: Context) -> pl.DataFrame:
    """Identifiers that are mail or network addresses, or keys, are left out."""
    out = frame
    for name in names:
        bad = frame[name].str.contains(SECRET_PATTERN).fill_null(False)
        if bad.any():
            context.dropped.add(name)
            out = out.with_columns(frame[name].set(bad, None))
    return out

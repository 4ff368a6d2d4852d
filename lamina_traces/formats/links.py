"""Which request waits for which, in formats that nest requests or name the one before: keys to row ids."""

from __future__ import annotations

from typing import Any

import polars as pl

from .format import Context

SEPARATOR = "\x1f"
"""between the keys in a cell"""


def first_row(frame: pl.DataFrame, context: Context) -> int:
    """The row_id of the frame's first row; the next frame's rows come after it."""
    first: int = context.state.get("rows", 0)
    context.state["rows"] = first + frame.height
    return first


def resolved(frame: pl.DataFrame, context: Context) -> pl.Series:
    """``depends_on`` from the columns ``group``, ``key`` (unique in its group) and ``after``.

    ``after`` holds keys of the same group (empty: waits for none; null: unknown). Rows of a group follow
    each other; only the last group of a frame can go on in the next. A row that waits for nothing but
    rejected rows waits for something unknown.
    """
    first = first_row(frame, context)
    group, known = context.state.get("group", (None, {}))
    out: list[list[int] | None] = []
    rows = frame.select("group", "key", "after").iter_rows()
    for row, (name, key, after) in enumerate(rows, first):
        if name != group:
            group, known = name, {}
        found = None if after is None else [known[k] for k in after.split(SEPARATOR) if k in known]
        out.append(None if after and not found else found)
        known[key] = row
    context.state["group"] = (group, known)
    return pl.Series("depends_on", out, dtype=pl.List(pl.Int64))


def joined(keys: list[Any]) -> str:
    """Keys as one cell of ``after``."""
    return SEPARATOR.join(map(str, keys))


def next_index(name: str) -> pl.Expr:
    """A column counted from 0, from 1; null where 32 bits cannot hold it."""
    return (pl.col(name).cast(pl.Int64) + 1).cast(pl.Int32, strict=False)

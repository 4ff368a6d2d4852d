"""Which request waits for which, in formats that nest requests or name those before: keys to row ids."""

from __future__ import annotations

from typing import Any

import polars as pl

from ..errors import DataError
from .format import Context
from .summary import many

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


def listed(cells: pl.Series) -> pl.Series:
    """Lists in text: ``["a","b"]``, ``[1, 2]``, or names with commas between them; null where a cell is."""
    inner = cells.str.strip_chars().str.strip_prefix("[").str.strip_suffix("]").str.strip_chars()
    names = pl.element().str.strip_chars(" \"'")
    return inner.str.split(",").list.eval(names.filter(names != ""))


def linked(out: pl.DataFrame, context: Context) -> pl.DataFrame:
    """Rows whose ``depends_on`` comes as text: names of requests, or the numbers of rows in their file, from 0.

    Rows with a ``request_id`` are held until all names are known (``held_rows`` gives them), since a name may
    stand before its request. Raises DataError where numbers are no numbers, or rejected lines have shifted them.
    """
    out = out.with_columns(listed(out["depends_on"]))
    if "request_id" in out.columns:
        if out.height:
            context.state.setdefault("held", []).append(out)
        return _with_links(out.clear(), context, 0)
    shift = context.state.setdefault("file", context.state.get("rows", 0))
    first_row(out, context)
    rows = out["depends_on"].list.eval(pl.element().cast(pl.Int64, strict=False))
    if rows.list.eval(pl.element().is_null()).list.any().any():
        wrong = "depends_on holds names, and no request_id says which requests have them"
        raise DataError(wrong, "map the column of these names: --map request_id=COLUMN,…", path=context.path)  # fmt: skip
    if context.state.get("rejected") and rows.list.len().sum():
        moved = "depends_on counts rows, and rejected lines would make it name others"
        raise DataError(moved, "mend the rejected lines, or name requests: --map request_id=COLUMN,…", path=context.path)  # fmt: skip
    return out.with_columns(rows.list.eval(pl.element() + shift).alias("depends_on"))


def held_rows(context: Context) -> pl.DataFrame:
    """The rows that ``linked`` has held, in source order."""
    blocks = context.state.pop("held", [])
    if not blocks:
        return pl.DataFrame()
    return _with_links(pl.concat(blocks, how="diagonal"), context, context.state.get("rows", 0))


def _with_links(out: pl.DataFrame, context: Context, first: int) -> pl.DataFrame:
    """Names of ``request_id``, which need only be unique in their workflow, as row ids; ``first`` is the first row's."""
    key = [c for c in ("workflow_id",) if c in out.columns]
    rows = out.with_columns(pl.int_range(first, first + pl.len(), dtype=pl.Int64).alias("row"))
    named = rows.select(*key, pl.col("request_id").alias("name"), pl.col("row").alias("found"))
    links = rows.select(*key, "row", pl.col("depends_on").alias("name"))
    links = links.filter(pl.col("name").list.len() > 0).explode("name")
    links = links.join(
        named.unique([*key, "name"], keep="first"), on=[*key, "name"], how="left",
        nulls_equal=True, maintain_order="left",
    )  # fmt: skip
    lost = links["found"].null_count()
    if lost and lost == links.height:
        raise DataError(
            "depends_on names no request_id of its workflow",
            "map the ids that it names as request_id=COLUMN; leave request_id out where it counts rows from 0",
            path=context.path,
        )
    if lost:
        context.note("unknown-parents", f"{many(lost, 'name', 'names')} in depends_on are no request_id of the workflow, and were left out", "depends_on")  # fmt: skip
    found = links.drop_nulls("found").group_by("row", maintain_order=True).agg("found")
    met = rows.select("row").join(found, on="row", how="left", maintain_order="left")["found"]
    none = out["depends_on"].list.len() == 0
    empty = pl.lit([], dtype=pl.List(pl.Int64))
    return out.with_columns(pl.when(none).then(empty).otherwise(met).alias("depends_on"))


def joined(keys: list[Any]) -> str:
    """Keys as one cell of ``after``."""
    return SEPARATOR.join(map(str, keys))


def next_index(name: str) -> pl.Expr:
    """A column counted from 0, from 1; null where 32 bits cannot hold it."""
    return (pl.col(name).cast(pl.Int64) + 1).cast(pl.Int32, strict=False)

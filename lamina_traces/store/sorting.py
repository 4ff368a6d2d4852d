"""Putting the rows of a table in time order."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa

from ..errors import StoreError
from ..schema import Table
from . import engine
from .clockwork import too_far

_MEMORY = "512MB"
"""above this DuckDB sorts on disk, in a folder beside the parts."""


def in_time_order(
    files: Sequence[Path],
    table: Table,
    columns: Sequence[str],
    shift: int,
    *,
    sort: bool,
    rows: int,
) -> Iterator[pa.Table]:
    """The rows of Parquet parts, instants less ``shift``, in pieces of about ``rows`` rows.

    With ``sort`` they come by time, ties by row_id, rows without a time last. Raises StoreError, DataError.
    """
    shown = [
        f"{engine.quoted(c)} - {shift} AS {engine.quoted(c)}"
        if c in table.instants and shift
        else engine.quoted(c)
        for c in columns
    ]
    order = (
        f" ORDER BY {engine.quoted(table.time)} NULLS LAST, row_id" if sort and table.time else ""
    )
    text = f"SELECT {', '.join(shown)} FROM {engine.parquet(files)}{order}"
    spill = files[0].parent.with_name("spill")
    try:
        with engine.connect(files, memory_limit=_MEMORY, spill=spill) as connection:
            yield from _gathered(engine.batches(connection, text, "sort the rows", rows=rows), rows)
    except StoreError as e:
        if isinstance(e.__cause__, duckdb.OutOfRangeException):
            raise too_far(f"an instant of {table.name} is centuries from the first") from e
        raise
    finally:
        shutil.rmtree(spill, ignore_errors=True)


def _gathered(batches: Any, rows: int) -> Iterator[pa.Table]:
    """Batches joined to tables of ``rows`` rows or a little more."""
    held: list[pa.RecordBatch] = []
    n = 0
    for batch in batches:
        held.append(batch)
        n += batch.num_rows
        if n >= rows:
            yield pa.Table.from_batches(held)
            held, n = [], 0
    if held:
        yield pa.Table.from_batches(held)

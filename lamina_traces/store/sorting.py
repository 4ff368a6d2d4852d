"""Putting the rows of a table in time order: in memory while they fit, else by DuckDB on disk."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import numpy.typing as npt
import polars as pl
import pyarrow as pa

from .. import sql
from ..errors import StoreError
from ..formats.format import polars_type
from ..schema import Table
from . import engine
from .clockwork import too_far

_REPEATS = 20
"""text that repeats so often in the first block is held as a dictionary."""
_MEMORY = "512MB"
"""above this DuckDB sorts on disk, in a folder beside the parts."""
HELD_BYTES = 512 << 20
"""rows out of order are held in memory up to this, dictionaries for repeating text."""


class Held:
    """Rows that came out of order, in memory, not yet encoded: writing them twice would cost more than sorting.

    Their row_ids are consecutive, so that they need not be held and position is the tie-break.
    """

    def __init__(self) -> None:
        self.bytes = 0
        self._frames: list[pl.DataFrame] = []
        self._first = self._rows = 0
        self._repeating: set[str] = set()

    def add(self, block: pl.DataFrame) -> bool:
        """Whether the block could be taken: its row_ids go on where those before ended."""
        ids = block["row_id"]
        if not self._frames:
            self._first = int(ids[0])
            self._repeating = {
                c for c, t in block.schema.items()
                if t == pl.String and block[c].n_unique() * _REPEATS <= len(block)
            }  # fmt: skip
        start = self._first + self._rows
        if not ids.equals(pl.int_range(start, start + len(block), dtype=pl.Int64, eager=True)):
            return False
        block = block.drop("row_id").with_columns(
            pl.col(c).cast(pl.Categorical) for c in self._repeating if c in block.columns
        )
        self._frames.append(block)
        self._rows += len(block)
        self.bytes += int(block.estimated_size())
        return True

    def rows(self) -> Iterator[pl.DataFrame]:
        """What is held, as it came."""
        at = self._first
        for frame in self._frames:
            ids = pl.int_range(at, at + len(frame), dtype=pl.Int64, eager=True).alias("row_id")
            at += len(frame)
            yield frame.insert_column(0, ids)

    def in_time_order(
        self, table: Table, columns: Sequence[str], shift: int, rows: int
    ) -> Iterator[pa.Table]:
        """All rows in order, as the function ``in_time_order`` gives them. They are gone then."""
        whole = []
        for name in columns:
            if name == "row_id":
                continue
            chunks = []
            for i, frame in enumerate(self._frames):
                given = name in frame.columns
                nothing = pl.Series(name, [None], dtype=polars_type(table[name]))
                chunks.append(frame[name] if given else nothing.new_from_index(0, len(frame)))
                if given and frame.width > 1:  # what is not yet in one piece is there twice
                    self._frames[i] = frame.drop(name)
            if len({c.dtype for c in chunks}) > 1:
                chunks = [c.cast(polars_type(table[name])) for c in chunks]
            column = pl.concat(chunks, rechunk=True)
            whole.append(column - shift if shift and name in table.instants else column)
        self._frames = []
        frame = pl.DataFrame(whole)
        places = pl.Series(time_order(frame[str(table.time)]), dtype=pl.UInt32)
        for start in range(0, len(places), rows):
            part = places[start : start + rows]
            piece = frame.select(
                (part.cast(pl.Int64) + self._first).alias("row_id"), pl.all().gather(part)
            )
            yield piece.select(columns).to_arrow(compat_level=pl.CompatLevel.oldest())


def time_order(time: pl.Series) -> npt.NDArray[np.uint32]:
    """Positions of the rows by time, ties in the order they stand in, nulls last."""
    missing = time.is_null().arg_true().to_numpy()
    known = time.is_not_null().arg_true().to_numpy() if len(missing) else None
    t = (time.drop_nulls() if len(missing) else time).to_numpy()
    order = np.argsort(t).astype(np.uint32)  # not stable, and several times as fast
    tied = _ties(t[order])
    if len(tied):
        inside = order[tied]
        order[tied] = inside[np.lexsort((inside, t[inside]))]
    if known is None:
        return order
    return np.concatenate([known[order], missing]).astype(np.uint32)


def _ties(by_time: npt.NDArray[np.int64]) -> npt.NDArray[np.intp]:
    """Where a sorted array holds a value more than once."""
    first = np.flatnonzero(by_time[1:] == by_time[:-1])
    return np.union1d(first, first + 1)


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
        f"{sql.quoted(c)} - {shift} AS {sql.quoted(c)}"
        if c in table.instants and shift
        else sql.quoted(c)
        for c in columns
    ]
    order = f" ORDER BY {sql.quoted(table.time)} NULLS LAST, row_id" if sort and table.time else ""
    text = f"SELECT {', '.join(shown)} FROM {sql.parquet(files)}{order}"
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

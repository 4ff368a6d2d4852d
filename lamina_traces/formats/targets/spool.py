"""Rows set aside on disk, for targets that need a second look or another order.

The rows lie in Parquet files beside the export and are gone after it, so memory stays bounded.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import duckdb
import polars as pl
import pyarrow as pa

from ...sql import parquet
from ..exporting import Writing

BATCH_ROWS = 1 << 16
MEMORY = "400MB"
"""of DuckDB for one query; what does not fit goes to the disk."""


@contextmanager
def disk_errors() -> Iterator[None]:
    """Failures of polars and DuckDB to write or to find room, as the OSError that they stand for."""
    try:
        yield
    except (pl.exceptions.PolarsError, duckdb.Error, pa.ArrowException) as e:
        raise OSError(str(e).splitlines()[0]) from e


class Spool:
    """Frames in files, in the order in which they came; ``query`` sees them as the table ``spool``."""

    def __init__(self, state: Writing, name: str = "rows") -> None:
        self.folder = state.scratch / name
        self.folder.mkdir(parents=True)
        self.files: list[Path] = []
        self._connection: duckdb.DuckDBPyConnection | None = None

    def add(self, frame: pl.DataFrame) -> None:
        file = self.folder / f"{len(self.files):08}.parquet"
        with disk_errors():
            frame.write_parquet(file, compression="lz4", statistics=False)
        self.files.append(file)

    def take(self, rows: Iterable[pl.DataFrame]) -> Spool:
        for frame in rows:
            self.add(frame)
        return self

    def __iter__(self) -> Iterator[pl.DataFrame]:
        for file in self.files:
            yield pl.read_parquet(file, glob=False)

    def query(self, sql: str) -> Iterator[pl.DataFrame]:
        """The result of a statement over the table ``spool``, frame by frame."""
        with disk_errors():
            reader = self._cursor().sql(sql).to_arrow_reader(BATCH_ROWS)
        while True:
            with disk_errors():
                batch = next(reader, None)
            if batch is None:
                return
            yield _frame(batch)

    def table(self, sql: str) -> pl.DataFrame:
        """A result whole, for small ones."""
        with disk_errors():
            return _frame(self._cursor().sql(sql).to_arrow_table())

    def _cursor(self) -> duckdb.DuckDBPyConnection:
        if self._connection is None:
            self._connection = duckdb.connect(
                config={"temp_directory": str(self.folder / "spill"), "memory_limit": MEMORY}
            )
            self._connection.execute(f"CREATE VIEW spool AS SELECT * FROM {parquet(self.files)}")
        return self._connection.cursor()


def _frame(arrow: Any) -> pl.DataFrame:
    frame = pl.from_arrow(arrow)
    assert isinstance(frame, pl.DataFrame)  # noqa: S101 - a batch or a table, never a column
    return frame

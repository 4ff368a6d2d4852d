"""DuckDB below the store: locked in-memory connections that see the files of a trace and nothing else.

Every table of a trace is a view with all canonical columns of ``schema.TABLES`` in their order; what the
source did not record is null. Configuration is locked and file access limited to the Parquet parts before
any query text runs.
"""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import duckdb
import polars as pl
import pyarrow as pa

from ..errors import StoreError, UsageError
from ..schema import Table

_AGAIN = "remove the trace and ingest its source again"

POLARS_TYPES: dict[str, pl.DataType] = {
    "BIGINT": pl.Int64(),
    "INTEGER": pl.Int32(),
    "DOUBLE": pl.Float64(),
    "VARCHAR": pl.String(),
    "BOOLEAN": pl.Boolean(),
    "BIGINT[]": pl.List(pl.Int64()),
    "UBIGINT[]": pl.List(pl.UInt64()),
}
"""the schema's (DuckDB's) type names → polars."""


def quoted(name: str | None) -> str:
    """A name as a quoted SQL identifier."""
    return '"' + str(name).replace('"', '""') + '"'


def text(value: str | Path) -> str:
    """Text as an SQL string literal."""
    return "'" + str(value).replace("'", "''") + "'"


def parquet(files: Sequence[Path]) -> str:
    """A table expression over Parquet files in their order, columns matched by name."""
    listed = ", ".join(map(text, files))  # a path that exists is not taken for a wildcard
    return f"read_parquet([{listed}], union_by_name = true)"


def view(table: Table, files: Sequence[Path], recorded: Iterable[str]) -> str:
    """SELECT of all canonical columns of ``table`` from ``files``; typed nulls for those not ``recorded``."""
    there = set(recorded) if files else set()
    columns = ", ".join(
        quoted(c.name) if c.name in there else f"CAST(NULL AS {c.type}) AS {quoted(c.name)}"
        for c in table.columns
    )
    return f"SELECT {columns} FROM {parquet(files)}" if files else f"SELECT {columns} WHERE false"


@contextlib.contextmanager
def connect(
    files: Iterable[Path],
    *,
    setup: Iterable[str] = (),
    threads: int | None = None,
    memory_limit: str | None = None,
    spill: Path | None = None,
    users_text: bool = False,
) -> Iterator[duckdb.DuckDBPyConnection]:
    """A connection that can read ``files`` and nothing else, once ``setup`` (views) has run.

    No extension is found or loaded, Python variables are not seen as tables, and no setting can be
    changed any more. ``spill`` is where DuckDB may put what does not fit into memory; ``users_text`` says
    that ``setup`` holds conditions of the user's.
    """
    config: dict[str, str | bool | int | float | list[str]] = {
        "autoinstall_known_extensions": "false",
        "autoload_known_extensions": "false",
        "allow_community_extensions": "false",
        "python_enable_replacements": "false",
    }
    if threads is not None:
        config["threads"] = threads
    if memory_limit is not None:
        config["memory_limit"] = memory_limit
    with translated("open"):
        connection = duckdb.connect(":memory:", config=config)
    try:
        with translated("read the trace", users_text=users_text):
            place = (
                spill
                or Path(tempfile.gettempdir()) / f"lamina-traces-{os.getpid()}-{id(connection):x}"
            )
            connection.execute(f"SET temp_directory = {text(place)}")
            connection.execute(f"SET allowed_paths = [{', '.join(text(f) for f in files)}]")
            connection.execute("SET enable_external_access = false")
            for statement in setup:
                connection.execute(statement)
            connection.execute("SET lock_configuration = true")
        yield connection
    finally:
        connection.close()


@contextlib.contextmanager
def translated(doing: str, *, users_text: bool = False) -> Iterator[None]:
    """Turn DuckDB's errors into ours; with ``users_text`` the user's own SQL is to blame for most."""
    try:
        yield
    except duckdb.InterruptException as e:
        raise KeyboardInterrupt from e
    except duckdb.OutOfMemoryException as e:
        raise StoreError(
            f"cannot {doing}: not enough memory", "ask for fewer rows or columns, or aggregate"
        ) from e
    except duckdb.PermissionException as e:
        if not users_text:  # our own text names only files that should be there
            raise StoreError(f"cannot {doing}: {_first_line(e)}", _AGAIN) from e
        raise UsageError(
            f"cannot {doing}: {_first_line(e)}",
            "SQL sees the traces of the store and no other file",
        ) from e
    except (duckdb.IOException, duckdb.InvalidInputException) as e:
        if users_text and isinstance(e, duckdb.InvalidInputException) and ".parquet'" not in str(e):
            raise UsageError(f"cannot {doing}: {_first_line(e)}") from e
        raise StoreError(f"cannot {doing}: {_first_line(e)}", _AGAIN) from e
    except duckdb.Error as e:
        if users_text:
            raise UsageError(f"cannot {doing}: {_first_line(e)}", _rest(e)) from e
        raise StoreError(f"cannot {doing}: {_first_line(e)}") from e


def _first_line(error: Exception) -> str:
    return str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__


def _rest(error: Exception) -> str | None:
    """DuckDB's own suggestions ('Did you mean…', 'Candidate bindings…') make good hints."""
    lines = [x.strip() for x in str(error).strip().splitlines()[1:]]
    useful = [x for x in lines if x.startswith(("Did you mean", "Candidate"))]
    return useful[0] if useful else None


def arrow(connection: duckdb.DuckDBPyConnection, sql: str) -> pa.Table:
    """Run one reading statement and give the whole result."""
    relation = connection.sql(sql)  # execute() would keep the rows and copy them to Arrow
    return relation.to_arrow_table()

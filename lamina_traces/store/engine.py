"""DuckDB below the store: locked in-memory connections that see the files of a trace and nothing else.

For queries/ every table of a trace is a view with all canonical columns of ``schema.TABLES`` in their
order, and what the source did not record is null; a user's own SQL sees the recorded ones. Configuration is locked and file access limited to the Parquet parts before
any query text runs.
"""

from __future__ import annotations

import contextlib
import os
import re
import tempfile
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import TypeVar

import duckdb
import pyarrow as pa

from ..errors import StoreError, UsageError
from ..schema import Table
from ..sql import parquet, quoted, text
from . import names

T = TypeVar("T")

EVENTS = "events"
"""in a query: the main table of the trace, whatever its kind."""


def view(
    table: Table, files: Sequence[Path], recorded: Iterable[str], shown: Iterable[str] | None = None
) -> str:
    """SELECT of the ``shown`` columns of ``table`` (default: all canonical ones) from ``files``; typed
    nulls for those not ``recorded``."""
    there = set(recorded) if files else set()
    wanted = set(table.names if shown is None else shown)
    columns = ", ".join(
        quoted(c.name) if c.name in there else f"CAST(NULL AS {c.type}) AS {quoted(c.name)}"
        for c in table.columns
        if c.name in wanted
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
        _close(connection)


def _close(connection: duckdb.DuckDBPyConnection) -> None:
    """Close, stopping a statement that Ctrl-C left running in its thread."""
    for _ in range(500):
        try:
            connection.close()
            return
        except duckdb.Error:  # busy: it refuses instead of waiting
            connection.interrupt()
            time.sleep(0.02)


@contextlib.contextmanager
def translated(doing: str, *, users_text: bool = False) -> Iterator[None]:
    """Turn DuckDB's errors into ours; with ``users_text`` the user's own SQL is to blame for most."""
    try:
        yield
    except duckdb.InterruptException as e:
        raise KeyboardInterrupt from e
    except RuntimeError as e:  # what DuckDB raises when Ctrl-C stops a statement
        if "interrupt" in str(e).lower():
            raise KeyboardInterrupt from e
        raise
    except duckdb.OutOfMemoryException as e:
        raise StoreError(
            f"cannot {doing}: not enough memory", "ask for fewer rows or columns, or aggregate"
        ) from e
    except duckdb.PermissionException as e:
        if not users_text:  # our own text names only files that should be there
            raise StoreError(f"cannot {doing}: {_first_line(e)}", _remedy(e)) from e
        raise UsageError(
            f"cannot {doing}: {_first_line(e)}",
            "SQL sees the traces of the store and no other file",
        ) from e
    except (duckdb.IOException, duckdb.InvalidInputException) as e:
        if users_text and isinstance(e, duckdb.InvalidInputException) and ".parquet'" not in str(e):
            raise UsageError(f"cannot {doing}: {_first_line(e)}", _sql_help(e)) from e
        raise StoreError(f"cannot {doing}: {_first_line(e)}", _remedy(e)) from e
    except duckdb.Error as e:
        if users_text:
            raise UsageError(f"cannot {doing}: {_first_line(e)}", _sql_help(e)) from e
        raise StoreError(f"cannot {doing}: {_first_line(e)}", _remedy(e)) from e


def _first_line(error: Exception) -> str:
    return str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__


def _sql_help(error: Exception) -> str:
    """DuckDB's own suggestions ('Did you mean…', 'Candidate bindings…') make good hints."""
    lines = [x.strip() for x in str(error).strip().splitlines()[1:]]
    useful = [x for x in lines if x.startswith(("Did you mean", "Candidate"))]
    if useful:
        return useful[0]
    if str(error).startswith("Conversion Error"):
        return "TRY_CAST(x AS type) gives null where a value cannot be converted"
    return (
        'names of other characters than letters, digits and _ go in double quotes: "azure-code"; '
        "describe TRACE lists its columns"
    )


def _remedy(error: Exception) -> str:
    """What to do about files that cannot be read; DuckDB names the file, and its path the trace."""
    found = re.search(r"traces/([a-z0-9-]+)/g\d+/", str(error))
    if found is not None:
        return names.again(found[1])
    return "lamina-traces ls tells which traces are damaged"


_STREAMED: dict[str, type[duckdb.Error]] = {
    "INTERRUPT Error": duckdb.InterruptException,
    "Out of Memory Error": duckdb.OutOfMemoryException,
    "Permission Error": duckdb.PermissionException,
    "IO Error": duckdb.IOException,
    "Out of Range Error": duckdb.OutOfRangeException,
    "Invalid Input Error": duckdb.InvalidInputException,
}


def _unwrapped(error: Exception) -> duckdb.Error:
    """DuckDB's error again, which comes through an Arrow stream as the text of another."""
    kind = _STREAMED.get(str(error).split(":", 1)[0], duckdb.Error)
    return kind(str(error))


_NO_ARROW_TYPE = re.compile(r"UHUGEINT|BIGNUM|BIT|TIME WITH TIME ZONE")
"""DuckDB's types that Arrow has no like of: what comes out is another number, or bytes."""


def batches(
    connection: duckdb.DuckDBPyConnection,
    sql: str,
    doing: str,
    *,
    rows: int = 65_536,
    users_text: bool = False,
) -> pa.RecordBatchReader:
    """Run one reading statement while its rows are read, in batches of at most ``rows``. Errors of the
    statement come as those of ``translated``, also from the midst of the stream.

    Columns have different names: ``n``, ``n_1``. The reader lasts as long as ``connection``.
    """
    with translated(doing, users_text=users_text):
        relation = connection.sql(sql)
        types = [str(t) for t in relation.types]
        if any(map(_NO_ARROW_TYPE.fullmatch, types)):
            relation = relation.project(
                ", ".join(
                    f"CAST(#{i} AS VARCHAR) AS {quoted(name)}"
                    if _NO_ARROW_TYPE.fullmatch(kind)
                    else f"#{i} AS {quoted(name)}"
                    for i, (name, kind) in enumerate(
                        zip(distinct(relation.columns), types, strict=True), start=1
                    )
                )
            )
        source = _awaited(connection, lambda: relation.to_arrow_reader(rows))
    renamed = pa.schema(
        f.with_name(name)
        for f, name in zip(source.schema, distinct(source.schema.names), strict=True)
    )

    def stream() -> Iterator[pa.RecordBatch]:
        while True:
            with translated(doing, users_text=users_text):
                try:
                    batch = _awaited(connection, lambda: next(source, None))
                except (OSError, pa.ArrowException) as e:
                    raise _unwrapped(e) from e
            if batch is None:
                return
            yield pa.RecordBatch.from_arrays(batch.columns, schema=renamed)

    return pa.RecordBatchReader.from_batches(renamed, stream())


def distinct(columns: Sequence[str]) -> list[str]:
    """Column names made unique: the second ``n`` becomes ``n_1``, or the next that is free."""
    taken, out = set(columns), []
    seen: set[str] = set()
    for column in columns:
        name, i = column, 0
        while name in seen or (i and name in taken):
            i += 1
            name = f"{column}_{i}"
        seen.add(name)
        out.append(name)
    return out


def arrow(connection: duckdb.DuckDBPyConnection, sql: str) -> pa.Table:
    """Run one reading statement and give the whole result."""
    relation = connection.sql(sql)  # execute() would keep the rows and copy them to Arrow
    return _awaited(connection, relation.to_arrow_table)


def _awaited(connection: duckdb.DuckDBPyConnection, work: Callable[[], T]) -> T:
    """``work()`` of ``connection``, which Ctrl-C stops. DuckDB looks at signals between tasks that it does
    in the calling thread; while its own threads have them all it would wait and not notice."""
    if threading.current_thread() is not threading.main_thread():
        return work()
    done: list[T] = []
    failed: list[BaseException] = []
    ended = threading.Event()  # a join that a signal breaks off may take the thread for ended

    def go() -> None:
        try:
            done.append(work())
        except BaseException as e:
            failed.append(e)
        finally:
            ended.set()

    threading.Thread(target=go, daemon=True).start()
    try:
        # In short waits: polars asks the kernel to resume what a signal broke off, a lock among it.
        while not ended.wait(0.1):
            pass
    except KeyboardInterrupt:
        while not ended.is_set():  # again, since the statement may not have begun
            connection.interrupt()
            ended.wait(0.05)
        raise
    if failed:
        raise failed[0]
    return done[0]

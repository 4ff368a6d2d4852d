"""Our own columns as CSV, JSON lines, Parquet or a DuckDB file: nothing is lost but what a type cannot say.

Any trace has these. CSV and JSON lines hold the main table; its lists are JSON text in CSV. Parquet carries
clock, origin and nature in its metadata under ``lamina_traces``, so that it is read back as it was; the other two are
read back without these (formats/lamina.py); the DuckDB file holds every table.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import duckdb
import polars as pl

from ...schema import TABLES
from ..exporting import ANY, Intake, Target, Writing
from ..parquet import ParquetSink
from .spool import disk_errors


def _csv(rows: Iterator[pl.DataFrame], place: Path, _state: Writing) -> int:
    written = 0
    with place.open("wb") as out:
        for frame in rows:
            lists = [n for n, t in frame.schema.items() if isinstance(t, pl.List)]
            table = frame.with_columns(
                ("[" + pl.col(n).cast(pl.List(pl.String)).list.join(",") + "]").alias(n)
                for n in lists
            )
            table.write_csv(out, include_header=written == 0)
            written += frame.height
    return written


def _jsonl(rows: Iterator[pl.DataFrame], place: Path, _state: Writing) -> int:
    written = 0
    with place.open("wb") as out:
        for frame in rows:
            frame.write_ndjson(out)
            written += frame.height
    return written


def _facts(state: Writing) -> dict[str, Any]:
    return {"clock": state.clock, "origin_ns": state.origin_ns, "nature": state.nature}


def _parquet(rows: Iterator[pl.DataFrame], place: Path, state: Writing) -> int:
    with ParquetSink(place) as sink:
        for frame in rows:
            sink.add(frame)
        sink.finish(_facts(state))
    return sink.rows


def _duckdb(rows: Iterator[pl.DataFrame], place: Path, state: Writing) -> int:
    """One table of each name, with the schema's types, and ``trace`` with the facts of the clock."""
    written = 0
    place.unlink(missing_ok=True)
    with disk_errors():
        connection = duckdb.connect(str(place))
    try:
        connection.execute("CREATE TABLE trace (fact VARCHAR, value VARCHAR)")
        facts = [(k, None if v is None else str(v)) for k, v in _facts(state).items()]
        with disk_errors():
            connection.executemany("INSERT INTO trace VALUES (?, ?)", facts)
        written = _load(connection, state.table, rows)
        for name, frames in state.beside.items():
            n = _load(connection, name, iter(frames))
            state.note(f"the table {name} is in the file, too: {n:,} rows")
        with disk_errors():
            connection.execute("CHECKPOINT")
    finally:
        connection.close()
        place.with_name(f"{place.name}.wal").unlink(missing_ok=True)
    return written


def _load(connection: Any, name: str, frames: Iterator[pl.DataFrame]) -> int:
    n = 0
    for frame in frames:
        connection.register("incoming", frame.to_arrow())
        if n == 0:
            types = {c.name: c.type for c in TABLES[name].columns}
            columns = ", ".join(f'"{c}" {types[c]}' for c in frame.columns)
            connection.execute(f'CREATE TABLE "{name}" ({columns})')
        with disk_errors():
            connection.execute(f'INSERT INTO "{name}" SELECT * FROM incoming')
        connection.unregister("incoming")
        n += frame.height
    return n


_ALL = (Intake(ANY, (), None),)

TARGETS = (
    Target(
        name="csv",
        title="canonical columns as CSV; lists as JSON text",
        tools="anything",
        suffix=".csv",
        intakes=_ALL,
        resolution_ns=1,
        command=lambda path, _state: f"duckdb -c \"SELECT * FROM read_csv('{path}') LIMIT 5\"",
        write=_csv,
        source="lamina_traces.schema",
        unstamped=True,
    ),
    Target(
        name="duckdb",
        title="a DuckDB database with the trace's tables",
        tools="DuckDB",
        suffix=".duckdb",
        intakes=_ALL,
        resolution_ns=1,
        command=lambda path, state: f'duckdb {path} -c "SELECT * FROM {state.table} LIMIT 5"',
        write=_duckdb,
        source="lamina_traces.schema",
        unstamped=True,
    ),
    Target(
        name="jsonl",
        title="canonical columns as JSON lines",
        tools="anything",
        suffix=".jsonl",
        intakes=_ALL,
        resolution_ns=1,
        command=lambda path, _state: f"duckdb -c \"SELECT * FROM read_json('{path}') LIMIT 5\"",
        write=_jsonl,
        source="lamina_traces.schema",
        unstamped=True,
    ),
    Target(
        name="parquet",
        title="canonical Parquet, read back as it was",
        tools="lamina-traces, and anything that reads Parquet",
        suffix=".parquet",
        intakes=_ALL,
        resolution_ns=1,
        command=lambda path, _state: f"lamina-traces ingest {path}",
        write=_parquet,
        source="lamina_traces.schema, formats/lamina.py",
        unstamped=True,
    ),
)

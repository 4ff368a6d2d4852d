"""A stored trace as readers see it: one generation, held by a lease, whole or a part of it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import polars as pl
import pyarrow as pa
from polars.io.plugins import register_io_source

from .. import sql
from ..errors import StoreError, UnknownName, UsageError
from ..formats.format import polars_type
from ..schema import TABLES, Table
from . import engine, names
from .generations import Lock
from .manifest import Manifest, TableInfo

BATCH_ROWS = 262_144

REJECTS: Mapping[str, pl.DataType] = {
    "file": pl.String(),
    "line": pl.Int64(),
    "column": pl.String(),
    "reason": pl.String(),
    "text": pl.String(),
}


@dataclass(frozen=True)
class Trace:
    """A trace, or the part of it that ``select`` left. Made by ``Store.trace``.

    The lease keeps the generation's files in place even when the trace is replaced or removed; it lasts
    as long as this object, a selection or a lazy frame of it does.
    """

    manifest: Manifest
    path: Path
    """directory of the generation."""
    lease: Lock
    where: tuple[str, ...] = ()
    """conditions on the main table, as DuckDB text."""
    start_ns: int | None = None
    end_ns: int | None = None
    masks: tuple[tuple[int, int], ...] = ()
    """times that are left out, as (start, end) in ns, in order and apart: see ``mask``."""
    threads: int | None = None
    """threads of the SQL engine; None leaves it to DuckDB."""

    @property
    def name(self) -> str:
        return self.manifest.name

    @property
    def kind(self) -> str:
        return self.manifest.kind

    @property
    def tables(self) -> tuple[str, ...]:
        return tuple(self.manifest.tables)

    @property
    def main_table(self) -> str:
        return self.manifest.main_table

    @property
    def is_part(self) -> bool:
        """Whether a selection stands between this object and the whole trace."""
        return (
            bool(self.where or self.masks) or self.start_ns is not None or self.end_ns is not None
        )

    @property
    def selection(self) -> dict[str, Any] | None:
        """What ``select`` was asked, for provenance; None for the whole trace."""
        if not self.is_part:
            return None
        masked = {"masks_ns": [list(m) for m in self.masks]} if self.masks else {}
        return {"where": list(self.where), "from_ns": self.start_ns, "to_ns": self.end_ns} | masked

    def columns(self, table: str | None = None) -> tuple[str, ...]:
        """The recorded columns of a table (default: the main one), in canonical order."""
        return self._info(table)[1].columns

    def has(self, column: str, table: str | None = None) -> bool:
        """Whether ``column`` is recorded: the table has it and not every value is null."""
        name = table or self.main_table
        info = self.manifest.tables.get(name)
        return info is not None and column in info.columns

    def rows(self, table: str | None = None) -> int:
        """Number of rows; counted where this is a part of the trace."""
        name, info = self._info(table)
        if not self.is_part:
            return info.rows
        return int(self.sql(f"SELECT count(*) AS n FROM {sql.quoted(name)}")["n"][0].as_py())

    def select(
        self, where: str | None = None, start_ns: int | None = None, end_ns: int | None = None
    ) -> Trace:
        """The part of the trace with start_ns ≤ arrival < end_ns (every table that has a clock; rows
        without an arrival are left out) and where the condition holds (main table only).

        ``where`` is one SQL condition on canonical columns, without subquery, aggregate or table function.
        Instants are ns from the trace's origin. Raises UsageError.
        """
        conditions = self.where
        if where is not None:
            from . import lint  # sqlglot is only loaded where a query is

            conditions = (*conditions, lint.render(lint.check_condition(where, self.main_table)))
        if start_ns is not None and end_ns is not None and end_ns <= start_ns:
            raise UsageError(
                "the selected time range is empty: it ends before it starts",
                "give --from a time before --to",
            )
        starts = [t for t in (self.start_ns, start_ns) if t is not None]
        ends = [t for t in (self.end_ns, end_ns) if t is not None]
        part = replace(
            self,
            where=conditions,
            start_ns=max(starts, default=None),
            end_ns=min(ends, default=None),
        )
        if where is not None:
            part.sql(f"SELECT 1 FROM {sql.quoted(self.main_table)} LIMIT 1")
        return part

    def mask(self, start_ns: int, end_ns: int) -> Trace:
        """The trace without what arrived in start_ns ≤ t < end_ns, a time in which the collector, not the
        workload, was silent. Unlike a selection it stays known: no gap, window or interval across it counts
        (``masks``). Raises UsageError where it ends before it starts."""
        if end_ns <= start_ns:
            raise UsageError("a masked time ends before it starts", "write it START..END")
        apart: list[tuple[int, int]] = []
        for start, end in sorted([*self.masks, (start_ns, end_ns)]):
            if apart and start <= apart[-1][1]:
                apart[-1] = (apart[-1][0], max(end, apart[-1][1]))
            else:
                apart.append((start, end))
        return replace(self, masks=tuple(apart))

    def scan(self, table: str | None = None) -> pl.LazyFrame:
        """The recorded columns as a lazy frame in time order. It holds the lease too."""
        name, info = self._info(table)
        types = {c.name: polars_type(c) for c in TABLES[name].columns}
        schema = {c: types[c] for c in info.columns}

        # A source of our own, not scan_parquet alone, since its closure is what holds the lease.
        def source(
            columns: list[str] | None, predicate: pl.Expr | None, rows: int | None, size: int | None
        ) -> Iterator[pl.DataFrame]:
            if self.is_part or not info.parts:
                frames = self._frames(name, list(schema), rows)
                yield from (_narrowed(f.lazy(), columns, predicate).collect() for f in frames)
                return
            whole = pl.scan_parquet(
                self.files(name),
                glob=False,
                schema=schema,
                missing_columns="insert",
                extra_columns="ignore",
            )
            whole = whole if rows is None else whole.head(rows)
            try:
                yield from _narrowed(whole, columns, predicate).collect_batches(chunk_size=size)
            except (pl.exceptions.ComputeError, OSError) as e:
                raise StoreError(
                    f"trace {self.name!r}: cannot read {name}: {str(e).splitlines()[0]}",
                    names.again(self.name),
                ) from e

        return register_io_source(source, schema=schema)

    def _frames(
        self, table: str, columns: Sequence[str], rows: int | None
    ) -> Iterator[pl.DataFrame]:
        left = rows
        for batch in self.batches(table, columns):
            frame = pl.DataFrame(pa.Table.from_batches([batch]))
            if left is not None:
                frame = frame.head(left)
                left -= len(frame)
            yield frame
            if left == 0:
                return

    def batches(
        self,
        table: str | None = None,
        columns: Sequence[str] | None = None,
        *,
        rows: int = BATCH_ROWS,
    ) -> Iterator[pa.RecordBatch]:
        """Arrow record batches of at most ``rows`` rows in time order; any canonical columns (those that
        are not recorded hold nulls), by default the recorded ones."""
        name, info = self._info(table)
        wanted = list(info.columns) if columns is None else list(columns)
        for column in wanted:
            TABLES[name][column]
        listed = ", ".join(map(sql.quoted, wanted))
        with self._connect() as connection:
            yield from engine.batches(
                connection,
                f"SELECT {listed} FROM {sql.quoted(name)}",
                "read the trace",
                rows=rows,
                users_text=bool(self.where),
            )

    def rejects(self) -> pl.DataFrame:
        """The lines that were not taken: file, line, column, reason, text (redacted)."""
        parts = self.reject_files()
        if not parts:
            return pl.DataFrame(schema=REJECTS)
        try:
            return pl.concat(pl.read_parquet(p, glob=False) for p in parts)
        except (pl.exceptions.PolarsError, OSError) as e:
            raise StoreError(
                f"trace {self.name!r}: cannot read its rejects: {str(e).splitlines()[0]}",
                names.again(self.name),
            ) from e

    def stream(
        self, columns: Mapping[str, str], table: str | None = None, *, rows: int = BATCH_ROWS
    ) -> Iterator[dict[str, pl.Series]]:
        """The rows of a table in time order, those without a time last, in batches: trusted SQL expressions over
        its canonical columns, by the names that the batches give them. Memory is one batch."""
        name, _ = self._info(table)
        listed = ", ".join(f"{text} AS {sql.quoted(key)}" for key, text in columns.items())
        with self._connect([name]) as connection:
            for batch in engine.batches(
                connection,
                f"SELECT {listed} FROM {sql.quoted(name)}",
                "read the trace",
                rows=rows,
                users_text=bool(self.where),
            ):
                frame = pl.DataFrame(pa.Table.from_batches([batch]))
                yield {c: frame[c] for c in frame.columns}

    def query(self, name: str, /, **parameters: Any) -> pa.Table:
        """Run ``queries/<name>.sql`` on the trace; columns have the names and types of its header.

        Raises UnknownName (query, parameter), UsageError (a value that cannot be a parameter).
        """
        from . import query  # sqlglot is only loaded where a query is

        found = query.load(name)
        return self.sql(found.bind(parameters), found.tables)

    def sql(self, text: str, tables: Iterable[str] | None = None) -> pa.Table:
        """Run trusted SQL on the views of this trace: its tables, and ``events`` for the main one. ``tables``: those
        that the text names; without it every one has its view."""
        # What fails on a part is the user's condition (text compared with a number), not our query.
        with (
            self._connect(tables) as connection,
            engine.translated("run the query", users_text=bool(self.where)),
        ):
            return engine.arrow(connection, text)

    def files(self, table: str) -> list[Path]:
        """The Parquet parts of a table, in time order."""
        parts = self.manifest.tables[table].parts
        return [self.path / table / f"part-{i:05d}.parquet" for i in range(parts)]

    def reject_files(self) -> list[Path]:
        """The Parquet parts of the rejected lines; none where every line was taken."""
        return sorted((self.path / "rejects").glob("part-*.parquet"))

    def view(self, table: str) -> str:
        """SELECT of all canonical columns of a table, the selection applied."""
        info = self.manifest.tables.get(table)
        spec = TABLES[table]
        text = engine.view(spec, self.files(table) if info else [], info.columns if info else ())
        conditions = self._window(spec)
        if table == self.main_table:
            conditions += [f"({w})" for w in self.where]
        return f"SELECT * FROM ({text}) WHERE {' AND '.join(conditions)}" if conditions else text

    def _window(self, table: Table) -> list[str]:
        if table.time is None:
            return []
        time, out = sql.quoted(table.time), []
        if self.start_ns is not None:
            out.append(f"{time} >= {int(self.start_ns)}")
        if self.end_ns is not None:
            out.append(f"{time} < {int(self.end_ns)}")
        out += [
            f"({time} IS NULL OR {time} < {int(a)} OR {time} >= {int(b)})" for a, b in self.masks
        ]
        return out

    def _info(self, table: str | None) -> tuple[str, TableInfo]:
        name = table or self.main_table
        if name not in self.manifest.tables:
            raise UnknownName(f"table of trace {self.name!r}:", name, self.manifest.tables)
        return name, self.manifest.tables[name]

    def _connect(self, tables: Iterable[str] | None = None) -> Any:
        # A query may name any canonical table: those that the trace does not have are empty.
        named = set(TABLES if tables is None else tables)
        if engine.EVENTS in named:
            named.add(self.main_table)
        setup = [f"CREATE VIEW {t} AS {self.view(t)}" for t in TABLES if t in named]
        if self.main_table and (tables is None or engine.EVENTS in named):
            setup.append(
                f"CREATE VIEW {engine.EVENTS} AS SELECT * FROM {sql.quoted(self.main_table)}"
            )
        files = [f for t in self.tables for f in self.files(t)]
        return engine.connect(files, setup=setup, threads=self.threads, users_text=bool(self.where))


def _narrowed(
    frame: pl.LazyFrame, columns: list[str] | None, predicate: pl.Expr | None
) -> pl.LazyFrame:
    frame = frame if predicate is None else frame.filter(predicate)
    return frame if columns is None else frame.select(columns)


def opened(path: Path, lease: Lock, name: str, threads: int | None) -> Trace:
    """Read the manifest of a leased generation. Raises StoreError where it cannot be trusted."""
    try:
        text = (path / "trace.json").read_text(encoding="utf-8", errors="replace")
    except OSError as e:
        raise StoreError(
            f"trace {name!r}: cannot read its manifest: {e.strerror}",
            names.again(name),
        ) from e
    manifest = Manifest.from_json(text, name)
    unknown = [t for t in manifest.tables if t not in TABLES]
    if unknown:
        raise StoreError(f"trace {name!r}: unknown table {unknown[0]!r}", "upgrade lamina-traces")
    return Trace(manifest, path, lease, threads=threads)

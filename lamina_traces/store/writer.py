"""Writing a trace: blocks in, Parquet parts out, whole or not at all.

What a commit has to know about a table (rows, order, range, tick, which columns hold anything) is counted
while the blocks go by, so that a source in time order is written once and never read back.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path
from types import TracebackType
from typing import Any

import duckdb
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq

from ..errors import DataError, LaminaError, Notice, StoreError, UnknownName
from ..formats.format import polars_type
from ..formats.parquet import ROW_GROUP_ROWS, encoding
from ..schema import TABLES, Table
from ..units import DAY_NS
from .clockwork import Clockwork, too_far
from .generations import Layout, Lock, disk_errors, replace_text, sync_tree
from .manifest import Manifest, TableInfo, created_now
from .sorting import HELD_BYTES, Held, in_time_order
from .trace import REJECTS, Trace

PART_ROWS = 8 * ROW_GROUP_ROWS
_PENDING_ROWS = ROW_GROUP_ROWS // 4
_PENDING_BYTES = 32 << 20
"""small blocks are gathered up to one of these before they are encoded; large ones go at once."""


class TableWriter:
    """One table of a trace on its way to the disk: a directory of Parquet parts and what was counted."""

    def __init__(self, name: str, columns: Mapping[str, pl.DataType], directory: Path) -> None:
        self.name = name
        self.types = columns
        self.directory = directory
        self.rows = 0
        self.parts = 0
        self.filled: dict[str, bool] = {}
        """columns that were given → whether any value was not null."""
        self._schema: pa.Schema | None = None
        self._writer: pq.ParquetWriter | None = None
        self._part_rows = 0
        self._pending: list[pl.DataFrame] = []
        self._pending_rows = 0
        self._pending_bytes = 0
        self.held: Held | None = None
        """rows out of order, to be sorted before they are encoded."""
        self._may_hold = True

    def hold(self) -> None:
        """Say that the rows come out of order: they are kept in memory as long as they fit."""
        if self._may_hold and self.parts == 0 and self.held is None:
            self.held = Held()

    def spill(self) -> None:
        """Encode what is held, as it stands; then nothing is held any more."""
        if self.held is None:
            return
        held, self.held, self._may_hold = self.held, None, False
        for frame in held.rows():
            self._encode(frame.to_arrow(compat_level=pl.CompatLevel.oldest()))

    def write(self, frame: pl.DataFrame) -> pl.DataFrame:
        """Append a block; gives it back in the table's own column order and types."""
        unknown = [c for c in frame.columns if c not in self.types]
        if unknown:
            raise UnknownName(f"column of {self.name}", unknown[0], self.types)
        wanted = {c: t for c, t in self.types.items() if c in frame.columns}
        try:
            block = frame.select(
                pl.col(c) if _kept(frame.schema[c], t) else pl.col(c).cast(t)
                for c, t in wanted.items()
            )
        except pl.exceptions.PolarsError as e:
            raise DataError(
                f"table {self.name}: {str(e).splitlines()[0]}",
                "the types of the columns: lamina-traces sql 'describe " + self.name + "'",
            ) from e
        for column, type_ in wanted.items():
            values = block.get_column(column)
            if type_ == pl.Float64 and not values.is_finite().all():
                raise DataError(
                    "NaN or infinite",
                    "leave a value that is not recorded empty",
                    column=column,
                )
            if not self.filled.get(column):
                self.filled[column] = values.null_count() < len(values)
        self.rows += len(block)
        if self._pending and self._pending[0].columns != block.columns:
            self._flush()
        self._pending.append(block)
        self._pending_rows += len(block)
        self._pending_bytes += int(block.estimated_size())
        if self._pending_rows >= _PENDING_ROWS or self._pending_bytes >= _PENDING_BYTES:
            self._flush()
        return block

    def adopt(self, files: Iterable[Path], rows: int, filled: Mapping[str, bool]) -> None:
        """Begin with parts of a table that is continued: they are linked, not copied. Before the first write."""
        self.directory.mkdir(exist_ok=True)
        for file in files:
            place = self.directory / f"part-{self.parts:05d}.parquet"
            try:
                os.link(file, place)
            except OSError:  # a file system without links
                shutil.copyfile(file, place)
            self.parts += 1
        self.rows += rows
        self.filled.update(filled)

    def write_arrow(self, data: pa.Table) -> None:
        """Append rows that have this table's types already and were counted before (a sorted rewrite)."""
        self.rows += data.num_rows
        self._encode(data)

    def _flush(self) -> None:
        pending = [f for f in self._pending if len(f)] or self._pending[:1]
        self._pending, self._pending_rows, self._pending_bytes = [], 0, 0
        if pending:
            frame = pl.concat(pending, rechunk=False) if len(pending) > 1 else pending[0]
            if self.held is not None and self.held.add(frame):
                if self.held.bytes > HELD_BYTES:
                    self.spill()
                return
            self.spill()
            self._encode(frame.to_arrow(compat_level=pl.CompatLevel.oldest()))

    def _encode(self, data: pa.Table) -> None:
        # A block with other columns than the one before starts a new part: parts are read by column name.
        if self._writer is None or self._part_rows >= PART_ROWS or self._schema != data.schema:
            self._close_part()
            self.directory.mkdir(exist_ok=True)
            path = self.directory / f"part-{self.parts:05d}.parquet"
            self._schema = data.schema
            self._writer = pq.ParquetWriter(path, data.schema, **encoding(data.schema))
            self.parts += 1
        # Copying to contiguous memory first is what the encoder would do for each row group anyway.
        self._writer.write_table(data, row_group_size=ROW_GROUP_ROWS)
        self._part_rows += data.num_rows

    def _close_part(self) -> None:
        if self._writer is not None:
            writer, self._writer, self._part_rows = self._writer, None, 0
            writer.close()

    def close(self) -> None:
        self._flush()
        self._close_part()

    def abandon(self) -> None:
        self._pending, self.held = [], None
        self._close_part()

    @property
    def files(self) -> list[Path]:
        return [self.directory / f"part-{i:05d}.parquet" for i in range(self.parts)]

    def info(self, required: Iterable[str]) -> TableInfo:
        keep = set(required)
        columns = tuple(
            c for c in self.types if self.filled.get(c) or (c in keep and c in self.filled)
        )
        return TableInfo(self.rows, columns, self.parts, sum(f.stat().st_size for f in self.files))


def _kept(given: pl.DataType, wanted: pl.DataType) -> bool:
    """Whether a column is encoded as it comes. Text that comes as a dictionary is written as one, which
    costs a quarter of looking up every string; on the disk there is no difference."""
    return given == wanted or (wanted == pl.String and isinstance(given, pl.Categorical | pl.Enum))


class TraceWriter:
    """Writes one trace; made by ``Store.writer`` and used in a ``with`` block.

    Leaving the block without ``commit`` leaves nothing behind. Not for several threads at once.
    """

    def __init__(
        self,
        layout: Layout,
        name: str,
        slug: str,
        *,
        kind: str,
        nature: str,
        replace: bool,
        opened: Callable[[str], Trace],
    ) -> None:
        self.name, self.kind, self.nature = name, kind, nature
        self._layout, self._slug, self._replace, self._opened = layout, slug, replace, opened
        self._tables: dict[str, tuple[TableWriter, Clockwork]] = {}
        self._rejects: TableWriter | None = None
        self._after: Trace | None = None
        self._staging: Path | None = None
        self._lock: Lock | None = None

    def __enter__(self) -> TraceWriter:
        self._staging, self._lock = self._layout.stage()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for writer, _ in self._tables.values():
            _quietly(writer.abandon)
        if self._rejects is not None:
            _quietly(self._rejects.abandon)
        if self._staging is not None and self._lock is not None:
            self._layout.discard(self._staging, self._lock)
            self._staging = self._lock = None

    def _generation(self) -> Path:
        if self._staging is None:
            raise StoreError(
                f"trace {self.name!r}: this writer is closed", "write inside its with block"
            )
        return self._staging / "generation"

    def _table(self, name: str) -> tuple[TableWriter, Clockwork]:
        directory = self._generation() / name
        if name not in self._tables:
            types = {c.name: polars_type(c) for c in TABLES[name].columns}
            self._tables[name] = TableWriter(name, types, directory), Clockwork()
        return self._tables[name]

    def write(self, table: str, frame: pl.DataFrame | pa.Table) -> None:
        """Append rows to ``table``: any of its canonical columns, always those that are required. A table
        that was given only empty blocks is stored without rows (a shard may hold none).

        Rows may come in any order; ``commit`` sorts where it must. Raises DataError on a value that the
        column cannot hold (NaN included), StoreError when the disk refuses.
        """
        if table not in TABLES:
            raise UnknownName("table", table, TABLES)
        spec = TABLES[table]
        writer, clock = self._table(table)
        block = frame if isinstance(frame, pl.DataFrame) else pl.DataFrame(frame)
        missing = [c.name for c in spec.columns if c.required and c.name not in block.columns]
        if missing:
            raise DataError(
                f"table {table}: the required column {missing[0]!r} is missing",
                f"{missing[0]}: {spec[missing[0]].doc}; say which field holds it with --map",
            )
        with disk_errors("write the trace", self._layout.root):
            block = writer.write(block)
        if spec.time is not None and spec.time in block.columns:
            clock.see(block.get_column(spec.time), block.get_column("row_id"))
            if not clock.sorted:
                writer.hold()
            clock.check_span(f"{table}.{spec.time}")

    def resume(self, trace: Trace) -> dict[str, int]:
        """Begin with what ``trace`` holds, so that what is written comes after it; the least free row_id of
        each table. The commit fails where the trace was replaced meanwhile."""
        self._after = trace
        free: dict[str, int] = {}
        with disk_errors("continue the trace", self._layout.root):
            for name, info in trace.manifest.tables.items():
                columns = dict.fromkeys(info.columns, True)
                free[name] = self.adopt(name, trace.files(name), info.rows, columns)
            refused = trace.reject_files()
            if refused:
                self._rejects = TableWriter("rejects", REJECTS, self._generation() / "rejects")
                self._rejects.adopt(refused, 0, dict.fromkeys(REJECTS, True))
        return free

    def adopt(
        self, table: str, files: Sequence[Path], rows: int, columns: Mapping[str, bool]
    ) -> int:
        """Begin a table with Parquet parts, linked where the file system can. ``columns`` → whether any value is not null.
        The least free row_id."""
        spec = TABLES[table]
        writer, clock = self._table(table)
        writer.adopt(files, rows, columns)
        free = 0
        wanted = [c for c in ("row_id", spec.time) if c in columns]
        for file in files:
            for frame in _columns_of(file, [c for c in wanted if c]):
                ids = frame["row_id"]
                free = max(free, int(ids.max()) + 1 if len(ids) else 0)  # type: ignore[arg-type]
                if spec.time in frame.columns:
                    clock.see(frame[str(spec.time)], ids)
        return free

    def rejects(self, frame: pl.DataFrame) -> None:
        """Append rejected lines: ``file, line, column, reason, text``."""
        if self._rejects is None:
            self._rejects = TableWriter("rejects", REJECTS, self._generation() / "rejects")
        if len(frame):
            with disk_errors("write the rejects", self._layout.root):
                self._rejects.write(frame)

    def commit(self, **fields: Any) -> Trace:
        """Sort where needed, write the manifest, sync, and make the trace visible; returns the Trace.

        ``fields`` are those of Manifest that the writer cannot know: nature, clock, origin_ns, inputs, counts,
        format, mapping, dropped_fields, notices, row_hash, provenance. With an absolute clock
        (``origin_ns`` given) instants are moved so that the earliest arrival is 0, and the origin with
        them. Raises StoreError where another writer was faster, unless the trace is to be replaced.
        """
        generation = self._generation()
        try:
            with disk_errors("store the trace", self._layout.root):
                manifest = self._finish(fields)
                replace_text(generation / "trace.json", manifest.to_json())
                sync_tree(generation)
        except (pa.ArrowException, duckdb.Error) as e:
            raise StoreError(
                f"{self._layout.root}: cannot store the trace: {str(e).splitlines()[0]}",
                "try again; if it stays, choose another store with --store or LAMINA_STORE",
            ) from e
        after = self._after.path if self._after is not None else None
        if (
            self._layout.publish(generation.parent, self._slug, replace=self._replace, after=after)
            is None
        ):
            raise StoreError(
                f"trace {self.name!r} was {'changed' if after else 'created'} by somebody else meanwhile",
                "run the same command again"
                if after
                else "replace it (--replace), or choose another name",
            )
        self.__exit__(None, None, None)
        return self._opened(self.name)

    def _finish(self, fields: Mapping[str, Any]) -> Manifest:
        if self._rejects is not None:
            self._rejects.close()
        for writer, _ in self._tables.values():
            writer.close()
        if not self._tables:
            raise DataError(
                f"trace {self.name!r}: nothing was written",
                "the source holds no line that could be read; see why with --dry-run",
            )
        manifest = replace(
            Manifest(self.name, self.kind, self.nature, created=created_now()), **fields
        )
        starts = [c.first for _, c in self._tables.values() if c.first is not None]
        shift = min(starts, default=0)
        if (
            manifest.origin_ns is None
        ):  # a local clock begins at a midnight, others where the source says
            shift = min(shift, 0) // DAY_NS * DAY_NS if manifest.origin_local else 0
        notices = list(manifest.notices)
        was_sorted = True
        for name, (writer, clock) in list(self._tables.items()):
            if clock.sorted and (not shift or clock.first is None):
                continue
            if not clock.sorted:
                was_sorted = False
                said = Notice("sorted", "the source was not in time order; rows were sorted", name)
                if said not in notices:
                    notices.append(said)
            self._tables[name] = (
                _rewritten(writer, TABLES[name], shift, sort=not clock.sorted),
                clock,
            )
        tables = {
            name: writer.info(c.name for c in TABLES[name].columns if c.required)
            for name, (writer, _) in self._tables.items()
        }
        manifest = replace(
            manifest, tables=tables, notices=tuple(notices), sorted_by_us=not was_sorted
        )
        for _, clock in self._tables.values():
            for instant in (clock.first, clock.last):
                # Readers subtract the origin in 64 bits too; where that wraps, the sum does not fit.
                if (
                    instant is not None
                    and not -(2**63) <= instant + (manifest.origin_ns or 0) < 2**63
                ):
                    raise too_far(f"trace {self.name!r}: the times are centuries apart")
        # Of the main table alone: a run's power is sampled after its last arrival too.
        main = self._tables.get(manifest.main_table)
        clock = main[1] if main else Clockwork()
        return replace(
            manifest,
            origin_ns=None if manifest.origin_ns is None else manifest.origin_ns + shift,
            origin_local=_later(manifest.origin_local, shift),
            arrival_first_ns=None if clock.first is None else clock.first - shift,
            arrival_last_ns=None if clock.last is None else clock.last - shift,
            tick_ns=clock.tick or None,
        )


def _rewritten(source: TableWriter, table: Table, shift: int, *, sort: bool) -> TableWriter:
    """The same rows in time order (ties by row_id, rows without a time last), instants less ``shift``."""
    directory = source.directory.with_name(source.directory.name + ".sorted")
    target = TableWriter(source.name, source.types, directory)
    target.filled = source.filled
    columns = [c for c in source.types if c in source.filled]
    if source.held is not None:
        pieces = source.held.in_time_order(table, columns, shift, ROW_GROUP_ROWS)
    else:
        pieces = in_time_order(source.files, table, columns, shift, sort=sort, rows=ROW_GROUP_ROWS)
    for data in pieces:
        target.write_arrow(data)
    target.close()
    if source.directory.exists():
        shutil.rmtree(source.directory)
    directory.rename(source.directory)
    target.directory = source.directory
    return target


def _later(local: str | None, by_ns: int) -> str | None:
    """A local time moved by whole days."""
    if local is None or not by_ns:
        return local
    moved = datetime.fromisoformat(local) + timedelta(days=by_ns // DAY_NS)
    return moved.isoformat()


def _columns_of(file: Path, names: list[str]) -> Iterable[pl.DataFrame]:
    """Some columns of a Parquet part, a row group at a time."""
    with pq.ParquetFile(file) as part:
        for batch in part.iter_batches(batch_size=ROW_GROUP_ROWS, columns=names):
            yield pl.DataFrame(pl.from_arrow(pa.Table.from_batches([batch])))


def _quietly(action: Callable[[], None]) -> None:
    """Closing a half-written file may fail on a full disk; the error worth telling came before."""
    try:
        action()
    except (OSError, pa.ArrowException, LaminaError):
        return

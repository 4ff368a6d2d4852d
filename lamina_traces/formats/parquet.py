"""Parquet: sources read batch by batch through the same cells as text, so the same rules hold; and files
written in one encoding, by the store, the generator and the exports.

A line of a Parquet source is a row. Whole-number columns go straight to their type; everything else
passes through its exact text, which costs a little time and needs no second set of rules.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import polars as pl
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from ..errors import DataError, UsageError
from .cells import divided, explained, parsed
from .delimited import Counted, Rejects
from .format import Binding, Context, Field, Head
from .inputs import STDIN, Stream
from .redaction import is_private, masked

METADATA_KEY = "lamina_traces"
"""file metadata under which canonical Parquet files describe themselves (a JSON object)."""
ROW_GROUP_ROWS = 1_000_000
ROW_GROUP_BYTES = 32 << 20
"""in memory: rows with long lists make shorter row groups, since the encoder lays out the levels of a whole one."""
_BATCH = 131_072


def parquet_head(path: str | Path) -> Head:
    """Columns, types, first rows and own metadata of a Parquet file. Raises DataError when damaged."""
    if str(path) == STDIN:
        raise UsageError("Parquet cannot be read from standard input", "name the file")
    try:
        with pq.ParquetFile(path) as file:
            schema = file.schema_arrow
            if file.metadata.num_rows == 0:
                raise DataError(
                    "the file has columns and no rows",
                    "does it come from a failed export or an empty query?",
                    path=path,
                )
            first = next(file.iter_batches(batch_size=200))
    except (pa.ArrowException, OSError, ValueError) as e:
        raise DataError(
            f"damaged Parquet file ({_first_line(e)})", "fetch it again", path=path
        ) from e
    frame = _polars(first)
    rows = tuple(
        {k: None if v is None else str(v) for k, v in row.items()}
        for row in frame.iter_rows(named=True)
    )
    own: Any = {}
    least = _least_row_id(path) if "row_id" in frame.columns else None
    try:
        own = json.loads((schema.metadata or {}).get(METADATA_KEY.encode(), b"{}"))
    except ValueError:
        own = {}
    return Head(
        "parquet",
        tuple(frame.columns),
        rows,
        path=str(path),
        dtypes=dict(frame.schema),
        metadata={**(own if isinstance(own, dict) else {}), "row_id_min": least or 0},
    )


def _least_row_id(path: str | Path) -> int | None:
    """The smallest row_id, from the file's statistics, or from the column when there are none."""
    with pq.ParquetFile(path) as file:
        at = file.schema_arrow.names.index("row_id")
        least = []
        for g in range(file.metadata.num_row_groups):
            statistics = file.metadata.row_group(g).column(at).statistics
            if statistics is None or not statistics.has_min_max:
                return int(pc.min(file.read(columns=["row_id"])["row_id"]).as_py() or 0)
            least.append(int(statistics.min))
    return min(least, default=None)


def read_parquet(
    path: str | Path, stream: Stream, binding: Binding, context: Context
) -> Iterator[tuple[pl.DataFrame, Rejects, Counted]]:
    """Typed source frames of the bound columns. The stream is read out for its checksum first."""
    for _ in stream.blocks() if stream.sha256 is not None else ():
        pass
    number = 1
    try:
        with pq.ParquetFile(path) as file:
            names = [f.name for f in binding.fields]
            for batch in file.iter_batches(batch_size=_BATCH, columns=names):
                frame = _polars(batch)
                yield _typed(frame, number, binding, context)
                number += frame.height
    except (pa.ArrowException, OSError) as e:
        raise DataError(
            f"damaged Parquet file after row {number - 1:,} ({_first_line(e)})",
            "nothing was stored; fetch it again",
            path=path,
        ) from e


def _first_line(e: BaseException) -> str:
    return (str(e).splitlines() or [type(e).__name__])[0][:200]


def _polars(batch: pa.RecordBatch) -> pl.DataFrame:
    out = pl.from_arrow(pa.Table.from_batches([batch]))
    if not isinstance(out, pl.DataFrame):
        raise DataError("damaged Parquet file (no table in it)", "fetch it again")
    return out


def _typed(
    frame: pl.DataFrame, first: int, binding: Binding, context: Context
) -> tuple[pl.DataFrame, Rejects, Counted]:
    rejects = Rejects()
    columns, flags = [], []
    bad = pl.Series([False], dtype=pl.Boolean).new_from_index(0, frame.height)
    for f in binding.fields:
        values, wrong = _cells(f, frame[f.name], context)
        columns.append(values.alias(f.name))
        flags.append(wrong)
        bad = bad | wrong
    out = pl.DataFrame(columns)
    if bad.any():
        marked = [(k, w.to_list()) for k, w in enumerate(flags) if w.any()]
        for i in bad.arg_true().to_list():
            k = next(j for j, wrong in marked if wrong[i])
            field, value = binding.fields[k], frame[binding.fields[k].name][i]
            reason = explained(field, None if value is None else str(value))
            row = {
                n: masked(str(v), is_private(n)) if v is not None else None
                for n, v in zip(frame.columns, frame.row(i), strict=True)
            }
            rejects.add(context.path, first + i, field.name, reason, json.dumps(row)[:1000])
        out = out.filter(~bad)
    counted = Counted(lines=frame.height, kept=out.height, rejected=len(rejects))
    return out, rejects, counted


def _cells(field: Field, column: pl.Series, context: Context) -> tuple[pl.Series, pl.Series]:
    dtype = column.dtype
    no = pl.Series([False], dtype=pl.Boolean).new_from_index(0, len(column))
    empty = column.is_null() if field.required else no
    if field.cell == "instant" and isinstance(dtype, pl.Datetime):
        return _datetime(field, column, dtype, context, empty)
    if field.cell in ("seconds", "clock") and isinstance(dtype, pl.Duration):
        ns = column.dt.total_nanoseconds()
        free = field.minimum is None or field.cell == "seconds"  # counted by the reading
        low = no if free else (ns < field.minimum).fill_null(False)
        return (divided(ns.cast(pl.Float64), 1e9) if field.cell == "seconds" else ns), low | empty
    if field.cell == "ids" and isinstance(dtype, pl.List):
        ids = column.cast(pl.List(pl.UInt64), strict=False)
        holes = column.list.len() != ids.list.drop_nulls().list.len()
        wrong = holes.fill_null(False)
        return ids.set(wrong, None) if wrong.any() else ids, wrong | empty
    if field.cell == "clock" and field.unit == "ns" and dtype == pl.Int64 and field.minimum is None:
        return column, empty
    if field.cell in ("tokens", "integer") and dtype.is_integer():
        out = column.cast(pl.Int32 if field.cell == "tokens" else pl.Int64, strict=False)
        wrong = out.is_null() & column.is_not_null()
        if field.minimum is not None:
            wrong = wrong | (out < field.minimum).fill_null(False)
        return out, wrong | empty
    if field.cell in ("seconds", "number") and dtype == pl.Float64 and field.unit in ("s", ""):
        finite = column.is_finite().fill_null(True)
        wrong = ~finite & (~column.is_nan()).fill_null(False) if not field.required else ~finite
        if field.minimum is not None and field.cell != "seconds":
            wrong = wrong | (column < field.minimum).fill_null(False)
        return column.set(~finite, None), wrong | empty
    if field.cell == "flag" and dtype == pl.Boolean:
        return column, empty
    if dtype.is_nested():
        text = column.to_frame("x").select(pl.struct("x").struct.json_encode())["x"]
        text = text.str.slice(5).str.head(-1)  # {"x":…}
        text = text.set(column.is_null(), None)
    elif dtype == pl.Binary:
        text = column.bin.encode("base64")
    elif isinstance(dtype, pl.Duration):
        text = pl.Series([None if v is None else str(v) for v in column], dtype=pl.String)
    else:
        text = column.cast(pl.String, strict=False)
    return parsed(field, text, context)


def _datetime(
    field: Field, column: pl.Series, dtype: pl.Datetime, context: Context, empty: pl.Series
) -> tuple[pl.Series, pl.Series]:
    if dtype.time_zone is None and context.request.tz:
        return parsed(field, column.dt.strftime("%Y-%m-%d %H:%M:%S%.9f"), context)
    if dtype.time_zone is None:
        context.tally["naive stamps"] += len(column) - column.null_count()
    return column.dt.epoch("ns"), empty


def encoding(schema: pa.Schema) -> dict[str, Any]:
    """Arguments of ``pq.ParquetWriter``: deltas for integers and lists of them, dictionaries for text: measured
    at 10^7 rows as both the smallest and the cheapest. Statistics only where a filter can use them; on text
    they double the CPU time."""
    integers = [f.name for f in schema if pa.types.is_signed_integer(f.type)]
    lists = [f for f in schema if pa.types.is_list(f.type) or pa.types.is_large_list(f.type)]
    of_integers = [
        f"{f.name}.list.element" for f in lists if pa.types.is_integer(f.type.value_type)
    ]
    text = [f for f in schema if f not in lists and f.name not in integers]
    return {
        "compression": "zstd",
        "compression_level": 1,
        "column_encoding": dict.fromkeys([*integers, *of_integers], "DELTA_BINARY_PACKED"),
        "use_dictionary": [
            *(f.name for f in text if not pa.types.is_floating(f.type)),
            *(
                f"{f.name}.list.element"
                for f in lists
                if pa.types.is_large_string(f.type.value_type)
            ),
        ],
        "write_statistics": integers,
        "store_schema": False,
    }


class ParquetSink:
    """One canonical Parquet file; frames are gathered into row groups of about a million rows or 32 MiB."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.held: list[pa.Table] = []
        self.held_rows = self.held_bytes = 0
        self.rows = 0
        self.file: pq.ParquetWriter | None = None

    def __enter__(self) -> ParquetSink:
        return self

    def __exit__(self, *_: object) -> None:
        if self.file is not None:
            self.file.close()

    def add(self, frame: pl.DataFrame) -> None:
        """Append rows, with the columns of the first frame and values that its types can hold."""
        self.add_table(frame.to_arrow(compat_level=pl.CompatLevel.oldest()))

    def add_table(self, data: pa.Table) -> None:
        """Append rows that come in Arrow's memory."""
        if self.file is None:
            self.file = pq.ParquetWriter(self.path, data.schema, **encoding(data.schema))
        self.held.append(data.cast(self.file.schema))
        self.rows += data.num_rows
        self.held_rows += data.num_rows
        self.held_bytes += data.nbytes
        if self.held_rows >= ROW_GROUP_ROWS or self.held_bytes >= ROW_GROUP_BYTES:
            self._write(self.file)

    def finish(self, facts: Mapping[str, Any]) -> None:
        """Write what is held, and what the file says of itself."""
        if self.file is not None:
            self._write(self.file)
            self.file.add_key_value_metadata({METADATA_KEY: json.dumps(facts)})

    def _write(self, file: pq.ParquetWriter) -> None:
        if self.held:
            file.write_table(pa.concat_tables(self.held), row_group_size=ROW_GROUP_ROWS)
        self.held, self.held_rows, self.held_bytes = [], 0, 0

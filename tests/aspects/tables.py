"""Small traces made in a test, through the real store."""

from __future__ import annotations

from pathlib import Path

import polars as pl

from lamina_traces.schema import TABLES
from lamina_traces.store import Store, Trace


def stored(path: Path, table: str, frame: pl.DataFrame, name: str = "t") -> Trace:
    if "row_id" not in frame.columns:
        frame = frame.with_row_index("row_id").with_columns(pl.col("row_id").cast(pl.Int64))
    with Store(path).writer(name, kind=TABLES[table].kind, nature="synthetic", replace=True) as w:
        w.write(table, frame)
        return w.commit(clock="relative", format="test")

"""Small traces made in a test, through the real store."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl

from lamina_traces.aspects.lengths import Lengths, Margin
from lamina_traces.distributions import Grid
from lamina_traces.schema import TABLES
from lamina_traces.store import Store, Trace


def stored(path: Path, table: str, frame: pl.DataFrame, name: str = "t") -> Trace:
    if "row_id" not in frame.columns:
        frame = frame.with_row_index("row_id").with_columns(pl.col("row_id").cast(pl.Int64))
    with Store(path).writer(name, kind=TABLES[table].kind, nature="synthetic", replace=True) as w:
        w.write(table, frame)
        return w.commit(clock="relative", format="test")


def lengths_of_tens() -> Lengths:
    """Every request has ten tokens in and ten out."""
    ten = Margin(Grid(np.array([10.0, 10.0]), 10.0, 100), 10.0, {"p50": 10.0, "p99": 10.0}, ())
    return Lengths(ten, ten, 100, 0.0, 0.0, np.ones((1, 1)))

"""Small traces made in a test, through the real store."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl

from lamina_traces.aspects.lengths import Lengths, Margin
from lamina_traces.counts import Counts
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


# --- the route by SQL: what streaming passes and arrays are checked against -------------------------


def gap_counts(trace: Trace) -> Counts:
    """Gaps between successive arrivals, in seconds, as Counts."""
    t = trace.query("arrivals/gap_counts")
    return Counts.exact(t["gap_ns"].to_numpy() / 1e9, t["n"].to_numpy(), "s")


def token_counts(trace: Trace) -> dict[str, Counts]:
    """Counts of input and of output tokens."""
    t = trace.query("lengths/token_counts").to_pydict()
    side = np.array(t["side"])
    tokens, n = np.array(t["tokens"], dtype=np.float64), np.array(t["n"], dtype=np.float64)
    return {s: Counts.exact(tokens[side == s], n[side == s], "tokens") for s in ("input", "output")}


def idc_curve(
    trace: Trace, origin_ns: int, span_ns: int, windows_s: tuple[float, ...]
) -> dict[float, float]:
    """IDC by width, over full windows from the first arrival."""
    widths = [round(w * 1e9) for w in windows_s]
    t = trace.query("arrivals/window_sums", origin_ns=origin_ns, span_ns=span_ns, widths_ns=widths)
    out = {}
    for row in t.to_pylist():
        k = span_ns // row["width_ns"]
        mean = row["arrivals"] / k
        out[row["width_ns"] / 1e9] = (row["squares"] - k * mean * mean) / (k - 1) / mean
    return out

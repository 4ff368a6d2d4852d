"""Who asks, and whether each asks for the same: the shares of models, clients and tenants, and the lengths of each."""

from __future__ import annotations

import numpy as np
import polars as pl

from ..aspects import Line
from ..aspects.rows import NAMES, Rows, spearman

SHARE_LIMIT = 0.05
DEPENDENCE_LIMIT = 0.10
FEWEST_PAIRS = 100
"""rows with both lengths below which the correlation of a stream is not looked at."""


def stream_lines(a: Rows, b: Rows) -> list[Line]:
    """For each column that names streams and that a records: total variation of the shares of its values, and the mean
    |difference| of the Spearman correlations of input and output within each, weighted by a's rows."""
    lines = []
    for column in NAMES:
        if column not in a.names:
            continue
        label = column.removesuffix("_id")
        if column not in b.names:
            note = "only one of them records it"
            lines.append(
                Line("streams", f"{label} shares", None, SHARE_LIMIT, "total variation", note)
            )
            lines.append(
                Line(
                    "streams",
                    f"{label} rank correlations",
                    None,
                    DEPENDENCE_LIMIT,
                    "mean |difference|",
                    note,
                )
            )
            continue
        tables = [_streams(r, column) for r in (a, b)]
        lines += [_shares(label, *tables), _dependence(label, *tables)]
    return lines


def _streams(r: Rows, column: str) -> pl.DataFrame:
    """One row per stream: name, rows, and its lengths, as lists, where both are known."""
    frame = pl.DataFrame(
        {"name": r.names[column].cast(pl.String), "x": r.input_tokens, "y": r.output_tokens},
        nan_to_null=True,
    )
    both = pl.col("x").is_not_null() & pl.col("y").is_not_null()
    return frame.group_by("name").agg(pl.len().alias("rows"), pl.col("x", "y").filter(both))


def _shares(label: str, a: pl.DataFrame, b: pl.DataFrame) -> Line:
    both = a.join(b, on="name", how="full", nulls_equal=True, suffix="_b", coalesce=True)
    p, q = (both[c].fill_null(0).to_numpy().astype(np.float64) for c in ("rows", "rows_b"))
    common = int(((p > 0) & (q > 0)).sum())
    value = float(np.abs(p / p.sum() - q / q.sum()).sum()) / 2 if p.sum() and q.sum() else None
    note = f"{common} of {a.height} names in both" if value is not None else "no rows"
    return Line("streams", f"{label} shares", value, SHARE_LIMIT, "total variation", note)


def _dependence(label: str, a: pl.DataFrame, b: pl.DataFrame) -> Line:
    both = a.join(b, on="name", how="inner", nulls_equal=True, suffix="_b").filter(
        (pl.col("x").list.len() >= FEWEST_PAIRS) & (pl.col("x_b").list.len() >= FEWEST_PAIRS)
    )
    apart, weights = [], []
    for row in both.select("rows", "x", "y", "x_b", "y_b").iter_rows():
        rho = [spearman(np.array(row[i]), np.array(row[i + 1])) for i in (1, 3)]
        if rho[0] is not None and rho[1] is not None:
            apart.append(abs(rho[0] - rho[1]))
            weights.append(row[0])
    value = float(np.average(apart, weights=weights)) if apart else None
    note = (
        f"{len(apart)} streams"
        if apart
        else f"no stream has {FEWEST_PAIRS} rows with both lengths in both"
    )
    return Line(
        "streams", f"{label} rank correlations", value, DEPENDENCE_LIMIT, "mean |difference|", note
    )

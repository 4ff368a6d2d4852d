"""Small frames that the store's tests write."""

from __future__ import annotations

from collections.abc import Sequence

import polars as pl


def requests(
    arrival_ns: Sequence[int | None], *, first_row: int = 0, status: str = "ok"
) -> pl.DataFrame:
    """Requests with the given arrivals; input_tokens is row_id + 1."""
    n = len(arrival_ns)
    return pl.DataFrame(
        {
            "row_id": pl.Series(range(first_row, first_row + n), dtype=pl.Int64),
            "arrival_ns": pl.Series(arrival_ns, dtype=pl.Int64),
            "input_tokens": pl.Series(range(first_row + 1, first_row + n + 1), dtype=pl.Int32),
            "status": pl.Series([status] * n, dtype=pl.String),
        }
    )

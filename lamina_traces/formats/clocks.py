"""Clocks of several hosts in one trace: what parents and children say about their difference.

A call lies inside the call that made it. Where the two were stamped by different hosts, child - parent
must be between (end of child - end of parent) and (start of child - start of parent); stamps outside of
that are evidence of skew. The skew is estimated and reported, and no stamp is changed by it.
"""

from __future__ import annotations

import polars as pl

from ..errors import Notice
from .redaction import looks_private


def skew_notices(calls: pl.DataFrame) -> list[Notice]:
    """One notice for each pair of hosts whose stamps contradict each other.

    ``calls`` has a row for each call across hosts: ``parent_host``, ``child_host``, ``parent_start``,
    ``parent_end``, ``child_start``, ``child_end`` (ns).
    """
    after = pl.col("child_start") - pl.col("parent_start")
    before = pl.col("child_end") - pl.col("parent_end")
    pairs = (
        calls.filter((pl.col("parent_host") != pl.col("child_host")).fill_null(False))
        .group_by("parent_host", "child_host", maintain_order=True)
        .agg(
            pl.len().alias("calls"),
            ((after < 0) | (before > 0)).sum().alias("broken"),
            before.max().alias("least"),
            after.min().alias("most"),
            ((after + before) / 2).median().alias("middle"),
        )
        .filter(pl.col("broken") > 0)
    )
    return [_notice(row) for row in pairs.iter_rows(named=True)]


def _notice(row: dict[str, object]) -> Notice:
    least, most, middle = (float(row[k]) / 1e6 for k in ("least", "most", "middle"))  # type: ignore[arg-type]
    if least <= most:
        size = f"between {least:.3f} and {most:.3f} ms"
    else:
        size = f"about {middle:.3f} ms, and not constant"
    child, parent = _host(row["child_host"]), _host(row["parent_host"])
    text = f"the clock of {child} less that of {parent}: {size} ({row['broken']:,} of {row['calls']:,} calls do not lie inside their caller); no stamp was changed"
    return Notice("clock-skew", text, "arrival_ns")


def _host(name: object) -> str:
    return "a host" if looks_private(str(name)) else str(name)

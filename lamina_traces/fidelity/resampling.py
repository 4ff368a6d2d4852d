"""Traces made of drawn rows: what aspects that need a whole trace are judged on.

Rows that a bootstrap drew know where they were copied from. Here they get their other columns back and are stored.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import polars as pl

from .. import workloads
from ..aspects.rows import Rows
from ..store import Trace

Ints = npt.NDArray[np.int64]

DROPPED = ("row_id", "depends_on", "extra")
"""columns that mean nothing once rows are drawn: they name other rows, or need not be copied."""
BROKEN = ("session_id", "turn", "delay_after_parent_ns", "prefix_hashes", "prefix_block_size")
TABLE = "llm_requests"


def columns_of(trace: Trace) -> pl.DataFrame:
    """The rows that drawn ones are taken from, in time order, as ``Rows.of`` counts them."""
    kept = [c for c in trace.columns(TABLE) if c not in DROPPED]
    return trace.scan(TABLE).select(kept).collect()


def of_rows(frame: pl.DataFrame, rows: Rows) -> Trace:
    """A trace of drawn rows, without what drawing breaks: blocks cut sessions apart, and a prompt that is drawn twice would
    find itself in the cache."""
    made = frame[rows.places].with_columns(pl.Series("arrival_ns", _padded(rows)))
    return _stored(made.drop(BROKEN, strict=False))


def of_sessions(frame: pl.DataFrame, rng: np.random.Generator) -> Trace:
    """A trace of whole sessions drawn with replacement, each draw a session of its own at its own time; rows without a
    session are drawn alone."""
    named = frame.with_row_index("place").with_columns(
        pl.coalesce("session_id", pl.format("row {}", "place")).alias("session_id")
    )
    by_session = named.group_by("session_id", maintain_order=True).agg("place")
    drawn = by_session[rng.integers(0, by_session.height, by_session.height)]
    of = drawn.with_row_index("draw").explode("place")
    made = frame[of["place"]].with_columns(of["draw"].cast(pl.String).alias("session_id"))
    return _stored(made.sort("arrival_ns", nulls_last=True, maintain_order=True))


def _padded(rows: Rows) -> pl.Series:
    """Arrivals of all rows: those without one are null, and last."""
    return pl.Series(rows.arrival_ns, dtype=pl.Int64).extend_constant(None, len(rows) - rows.timed)


def _stored(frame: pl.DataFrame) -> Trace:
    numbered = frame.with_columns(pl.int_range(pl.len(), dtype=pl.Int64).alias("row_id"))
    store = workloads.temporary_store()
    with store.writer("drawn rows", kind="llm", nature="derived", replace=True) as writer:
        writer.write(TABLE, numbered)
        return writer.commit(clock="relative", format="lamina")

"""Calls of agent workflows in memory: their workflow, what they wait for, when they ran.

Calls of one ``workflow_id``, or, where none is recorded, calls connected by ``depends_on``. Rows that are linked must fit
into memory, about 100 bytes each: of more than ``MOST_ROWS`` a random sample of whole workflows is kept, and of calls
without workflow ids the first ones.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import polars as pl
import pyarrow as pa

from .conversations import END, NONE
from .dags import Flags, Ints
from .whole_groups import WholeGroups, named

if TYPE_CHECKING:
    from ..store import Trace

MOST_ROWS = 1 << 21
COLUMNS = (
    "row_id", "workflow_id", "depends_on", "arrival_ns", "last_token_ns", "e2e_s", "stage", "delay_after_parent_ns",
    "delay_kind", "input_tokens", "output_tokens",
)  # fmt: skip


@dataclass(frozen=True, eq=False)
class Calls:
    """[calls] columns, workflows one after the other, their calls by arrival; ``NONE`` where not recorded. ``known``:
    whether what a call waits for is recorded. ``parent``, ``child``: [edges] indices of calls. ``outside``: edges to
    calls that are not in the workflow, or not in the trace. ``share`` of the workflows are here; ``by`` the column that
    tells them apart; ``rows`` of the trace belong to workflows.
    """

    workflow: Ints
    arrival_ns: Ints
    end_ns: Ints
    delay_ns: Ints
    input_tokens: Ints
    output_tokens: Ints
    stage: pl.Series
    delay_kind: pl.Series
    known: Flags
    parent: Ints
    child: Ints
    outside: int
    workflows: int
    rows: int
    share: float
    by: str

    @property
    def first(self) -> Ints:
        """[workflows] index of the first call."""
        return np.flatnonzero(np.diff(self.workflow, prepend=-1))

    @property
    def sizes(self) -> Ints:
        """[workflows] calls."""
        return np.diff(self.first, append=len(self.workflow))


def read(trace: Trace, most: int = MOST_ROWS) -> Calls | None:
    """The calls of a trace; None where no row belongs to a workflow."""
    by = next((c for c in ("workflow_id", "depends_on") if trace.has(c)), None)
    if by is None:
        return None
    groups = WholeGroups(most)
    part = trace if by != "workflow_id" else trace.select(where="workflow_id IS NOT NULL")
    for batch in part.batches("llm_requests", COLUMNS):
        rows = pl.DataFrame(pa.Table.from_batches([batch]))
        if by == "workflow_id":
            groups.add(rows.select(named("workflow_id"), *_MEASURED))
        else:
            first = rows.head(most - groups.rows)
            groups.add(first.select(pl.lit(0, pl.UInt64).alias("group"), *_MEASURED))
    frame = groups.frame()
    if frame is None:
        return None
    if by != "workflow_id":
        frame = _connected(frame)
    return collected(frame, rows=groups.rows if by == "workflow_id" else frame.height, share=groups.share, by=by)  # fmt: skip


_MEASURED = (
    "row_id", "depends_on", "arrival_ns", END.alias("end_ns"), "delay_after_parent_ns", "delay_kind",
    "stage", "input_tokens", "output_tokens",
)  # fmt: skip


def _edges(frame: pl.DataFrame) -> tuple[Ints, Ints, int]:
    """(parent, child) as places in the frame, and how many parents are not in it."""
    linked = frame.select(
        pl.int_range(pl.len()).alias("child"), pl.col("depends_on").alias("row_id")
    )
    linked = linked.filter(pl.col("row_id").list.len() > 0).explode("row_id").drop_nulls()
    at = frame.select("row_id", pl.int_range(pl.len()).alias("parent"))
    found = linked.join(at, on="row_id", how="left", maintain_order="left")
    inside = found.drop_nulls("parent")
    return inside["parent"].to_numpy(), inside["child"].to_numpy(), found.height - inside.height


def _connected(frame: pl.DataFrame) -> pl.DataFrame:
    """The rows whose parents are recorded, and these; the group is the component that edges connect."""
    from scipy.sparse import coo_matrix, csgraph  # few traces need it

    parent, child, _ = _edges(frame)
    n = frame.height
    graph = coo_matrix((np.ones(len(parent), dtype=np.int8), (parent, child)), (n, n))
    _, component = csgraph.connected_components(graph, directed=False)
    taken = frame["depends_on"].is_not_null().to_numpy().copy()
    taken[parent] = True
    return frame.with_columns(pl.Series("group", component.astype(np.uint64))).filter(pl.Series(taken))  # fmt: skip


def collected(
    frame: pl.DataFrame, *, rows: int, share: float = 1.0, by: str = "workflow_id"
) -> Calls:
    """Calls from rows with ``group`` and the measured columns."""
    frame = frame.sort("group", "arrival_ns", "row_id", nulls_last=True, maintain_order=True)
    group = frame["group"].to_numpy()
    workflow = np.cumsum(np.concatenate([[False], group[1:] != group[:-1]])).astype(np.int64)
    parent, child, outside = _edges(frame)
    same = workflow[parent] == workflow[child]

    def column(name: str) -> Ints:
        return frame[name].cast(pl.Int64).fill_null(NONE).to_numpy()

    return Calls(
        workflow,
        column("arrival_ns"),
        column("end_ns"),
        column("delay_after_parent_ns"),
        column("input_tokens"),
        column("output_tokens"),
        frame["stage"],
        frame["delay_kind"],
        frame["depends_on"].is_not_null().to_numpy(),
        parent[same],
        child[same],
        outside + int((~same).sum()),
        int(workflow[-1]) + 1,
        rows,
        share,
        by,
    )

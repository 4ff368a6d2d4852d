"""Turns of sessions in order: the rows of a trace that belong to sessions, each with the turn before it.

A session is a ``session_id``; where none is recorded, the requests linked by ``parent_request_id``, named by the one at
their root. Turns go by their recorded number, then by arrival, then by their place in the source.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import polars as pl
import pyarrow as pa

from ..units import NS_PER_S
from .whole_groups import WholeGroups, named

if TYPE_CHECKING:
    from ..store import Trace
    from .timeline import Timeline

Array = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
Flags = npt.NDArray[np.bool_]

MOST_ROWS = 1 << 21
"""turns that are looked at."""
NONE = np.iinfo(np.int64).min
"""an instant, a delay or a count that is not recorded."""
COLUMNS = (
    "row_id", "session_id", "request_id", "parent_request_id", "turn", "arrival_ns", "last_token_ns", "e2e_s",
    "delay_after_parent_ns", "input_tokens", "output_tokens",
)  # fmt: skip
_STEPS = 64
"""doublings of the steps towards the root; what is linked in a circle ends there."""

END = pl.coalesce(
    "last_token_ns", pl.col("arrival_ns") + (pl.col("e2e_s") * NS_PER_S).round().cast(pl.Int64)
)
"""when a request's last token left the engine."""


@dataclass(frozen=True, eq=False)
class Turns:
    """[turns] columns, sessions one after the other; ``NONE`` where not recorded. ``session``: number from 0;
    ``place``: from 1; ``number``: the recorded one, else the place. ``share`` of all sessions are here."""

    session: Ints
    place: Ints
    number: Ints
    arrival_ns: Ints
    end_ns: Ints
    delay_ns: Ints
    input_tokens: Ints
    output_tokens: Ints
    sessions: int
    rows: int
    """rows of the trace that belong to sessions, those of sessions that were left out included."""
    share: float
    by: str
    """the column that tells the sessions apart."""

    @property
    def first(self) -> Ints:
        """[sessions] index of the first turn."""
        return np.flatnonzero(self.place == 1)

    @property
    def sizes(self) -> Ints:
        """[sessions] turns."""
        return np.diff(self.first, append=len(self.session))

    def later(self, timeline: Timeline | None) -> Ints:
        """Indices of the turns with one before them, which stands at the index before; none behind a mask, where
        others may have been between the two."""
        i = np.flatnonzero(self.place > 1)
        if timeline is None or not timeline.masks:
            return i
        return i[~timeline.crosses(self.arrival_ns[i - 1], self.arrival_ns[i])]

    def bounds(self) -> tuple[Ints, Ints]:
        """[sessions] the first arrival, and the last end (arrival, where that is later or no end is recorded);
        ``NONE`` where no turn has an arrival."""
        far = np.iinfo(np.int64).max
        begin = np.minimum.reduceat(np.where(self.arrival_ns == NONE, far, self.arrival_ns), self.first)  # fmt: skip
        end = np.maximum.reduceat(np.maximum(self.arrival_ns, self.end_ns), self.first)
        return np.where(begin == far, NONE, begin), end


def known(*columns: Ints) -> Flags:
    """Whether all of them are recorded."""
    return np.asarray(np.logical_and.reduce([c != NONE for c in columns]))


def times_between(t: Turns, timeline: Timeline | None) -> dict[str, tuple[Ints, Ints]]:
    """For each kind of time between turns, the indices of the later turns and the times in ns. Think times below 0
    are of turns that came before the answer before them had ended."""
    i = t.later(timeline)
    now, before, ended, stated = (
        t.arrival_ns[i],
        t.arrival_ns[i - 1],
        t.end_ns[i - 1],
        t.delay_ns[i],
    )
    think, gap, delay = known(now, ended), known(now, before), known(stated)
    return {
        "think_time": (i[think], (now - ended)[think]),
        "turn_gap": (i[gap], (now - before)[gap]),
        "recorded_delay": (i[delay], stated[delay]),
    }


def cut(t: Turns, timeline: Timeline, edge_ns: int, numbered: bool) -> tuple[Flags, Flags]:
    """[sessions] whether turns may be hidden before the first and behind the last: it is less than ``edge_ns`` from an
    edge of the trace or of a mask. Where turns are ``numbered`` by the source, the first one's number says it."""
    begin, end = t.bounds()
    before = begin - timeline.first_ns < edge_ns
    after = timeline.last_ns - end < edge_ns
    for a, b in timeline.masks:
        before |= (begin >= b) & (begin - b < edge_ns)
        after |= ((end < a) & (a - end < edge_ns)) | ((begin < a) & (end >= b))
    if numbered:
        before = t.number[t.first] > 1
    timed = begin != NONE
    return before & timed, after & timed


def open_at_once(begin_ns: Ints, end_ns: Ints) -> int:
    """The most half-open intervals [begin, end) that share an instant."""
    lasting = end_ns > begin_ns
    begin, end = np.sort(begin_ns[lasting]), np.sort(end_ns[lasting])
    begun = np.arange(1, len(begin) + 1)
    return int((begun - np.searchsorted(end, begin, side="right")).max(initial=0))


def read(trace: Trace, most: int = MOST_ROWS) -> Turns | None:
    """The turns of a trace; None where no row belongs to a session. Of more than ``most`` rows a sample of whole
    sessions; linked requests have no names, so of those the first ``most``."""
    by = next((c for c in ("session_id", "parent_request_id") if trace.has(c)), None)
    if by is None:
        return None
    groups = WholeGroups(most)
    measured = [c for c in COLUMNS if c in _OWN or by != "session_id"]
    for batch in trace.select(where=_WITH[by]).batches("llm_requests", measured):
        rows = pl.DataFrame(pa.Table.from_batches([batch]))
        if by == "session_id":
            groups.add(rows.select(named("session_id"), *_MEASURED))
        else:
            first = rows.head(most - groups.rows)
            groups.add(first.select(pl.lit(0, pl.UInt64).alias("group"), *_MEASURED, *_LINKS))
    frame = groups.frame()
    if frame is None:
        return None
    if by != "session_id":
        frame = frame.with_columns(pl.Series("group", _roots(frame)))
    return ordered(frame, rows=groups.rows, share=groups.share, by=by)


_WITH = {
    "session_id": "session_id IS NOT NULL",
    "parent_request_id": "request_id IS NOT NULL OR parent_request_id IS NOT NULL",
}
_OWN = frozenset(COLUMNS) - {"request_id", "parent_request_id"}
_MEASURED = ("row_id", "turn", "arrival_ns", END.alias("end_ns"), "delay_after_parent_ns", "input_tokens", "output_tokens")  # fmt: skip
_LINKS = (named("request_id").alias("request"), named("parent_request_id").alias("parent"))


def ordered(frame: pl.DataFrame, *, rows: int, share: float = 1.0, by: str = "session_id") -> Turns:
    """Turns from rows with ``group``, ``row_id``, ``turn``, ``arrival_ns``, ``end_ns``, ``delay_after_parent_ns``,
    ``input_tokens``, ``output_tokens``."""
    names = ("row_id", "turn", "arrival_ns", "end_ns", "delay_after_parent_ns", "input_tokens", "output_tokens")  # fmt: skip
    column = {c: frame[c].cast(pl.Int64).fill_null(NONE).to_numpy() for c in names}
    group = frame["group"].to_numpy()
    late = np.where(column["arrival_ns"] == NONE, np.iinfo(np.int64).max, column["arrival_ns"])
    order = np.lexsort((column["row_id"], late, column["turn"], group))
    group = group[order]
    new = np.ones(len(group), dtype=bool)
    np.not_equal(group[1:], group[:-1], out=new[1:])
    session = np.cumsum(new) - 1
    place = np.arange(len(group)) - np.flatnonzero(new)[session] + 1
    number = column["turn"][order]
    return Turns(
        session,
        place,
        np.where(number == NONE, place, number),
        column["arrival_ns"][order],
        column["end_ns"][order],
        column["delay_after_parent_ns"][order],
        column["input_tokens"][order],
        column["output_tokens"][order],
        int(new.sum()),
        rows,
        share,
        by,
    )


def _roots(frame: pl.DataFrame) -> npt.NDArray[np.uint64]:
    """[rows] the name of the request at the root of each; of a parent that is not in the trace, that parent's."""
    at = np.arange(frame.height)
    known = frame.select("request", pl.Series("at", at)).drop_nulls("request")
    known = known.unique("request", keep="last", maintain_order=True)
    links = frame.select("parent").join(
        known, left_on="parent", right_on="request", how="left", maintain_order="left"
    )
    above = links["at"].fill_null(-1).to_numpy()
    top = np.where(above >= 0, above, at)
    for _ in range(_STEPS):
        further = top[top]
        if (further == top).all():
            break
        top = further
    return frame.select(pl.coalesce("parent", "request"))["parent"].to_numpy()[top]

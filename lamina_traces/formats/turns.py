"""Turns of sessions in row-by-row formats: derived when reading, kept in order when writing.

A Mooncake file tells a conversation by nothing but ``session_id`` and the order of its rows: rows that
share it are one conversation, each sent after the one before it has ended, and a ``delay`` later
(aiperf 0.13.0, MooncakeTrace). Canonical rows say the same with ``turn`` and ``depends_on``.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

import polars as pl

from ..errors import Notice
from .exporting import NO_ARRIVAL, NO_LENGTH
from .format import Context
from .links import first_row

RENUMBERED = "turn (numbered otherwise in the file)"
NO_TURN_BEFORE = "without an arrival, or a turn of its session before it"


def with_turns(frame: pl.DataFrame, context: Context) -> pl.DataFrame:
    """Add ``turn`` (from 1) and ``depends_on`` (the row before it in its session) to canonical rows.

    A row depends on the one before it when it carries a delay or has no arrival; a later turn with an
    arrival alone is replayed at that instant, so its parent stays unknown. Sessions go on over blocks
    and files: one entry is kept for each session met.
    """
    first = first_row(frame, context)
    if not frame["session_id"].count():
        return frame.with_columns(
            pl.lit(None, pl.Int32).alias("turn"),
            pl.lit(None, pl.List(pl.Int64)).alias("depends_on"),
        )
    rows = frame.select("session_id", "arrival_ns", "delay_after_parent_ns").with_columns(
        pl.int_range(first, first + frame.height, dtype=pl.Int64).alias("row")
    )
    known = _known_sessions(context)
    if context.before is not None:
        rows = rows.with_columns(context.before.pseudonyms(rows["session_id"]))
    met = rows["session_id"].drop_nulls().unique(maintain_order=True)
    before = [known.get(s, (None, 0)) for s in met]
    carried = pl.DataFrame(
        {"session_id": met, "row_before": [r for r, _ in before], "turns": [t for _, t in before]},
        schema={"session_id": pl.String, "row_before": pl.Int64, "turns": pl.Int32},
    )
    rows = rows.join(carried, on="session_id", how="left", maintain_order="left").with_columns(
        (pl.col("row").cum_count().over("session_id").cast(pl.Int32) + pl.col("turns")).alias(
            "turn"
        ),
        pl.col("row").shift(1).over("session_id").fill_null(pl.col("row_before")).alias("parent"),
    )
    back = (pl.col("arrival_ns") < pl.col("arrival_ns").shift(1)).over("session_id").sum()
    if rows.drop_nulls("session_id").select(back).item():
        context.note(
            "turns-back-in-time",
            "turns of a session stand in another order than their arrivals: the file's order was taken",
            "turn",
        )
    delayed = pl.col("delay_after_parent_ns").is_not_null()
    rows = rows.with_columns(
        pl.when(pl.col("turn").is_null())
        .then(None)
        .when((pl.col("turn") == 1) & ~delayed)
        .then(pl.lit([], dtype=pl.List(pl.Int64)))
        .when((pl.col("turn") > 1) & (delayed | pl.col("arrival_ns").is_null()))
        .then(pl.concat_list("parent"))
        .otherwise(None)
        .alias("depends_on")
    )
    last = rows.filter(pl.col("turn").is_not_null()).group_by("session_id").last()
    known.update((s, (r, t)) for s, r, t in last.select("session_id", "row", "turn").iter_rows())
    if last.height and not context.state.get("turns derived"):
        context.state["turns derived"] = True
        context.state.setdefault("notices", []).append(
            Notice(
                "turns-derived",
                "turn and depends_on are derived: the rows of a session are its turns, in their order",
                "depends_on",
            )
        )
    return frame.with_columns(rows["turn"], rows["depends_on"])


def _known_sessions(context: Context) -> dict[str, tuple[int, int]]:
    """Sessions met so far → (row_id of the last row, turns), those of the trace that is added to included."""
    if "sessions" not in context.state:
        known: dict[str, tuple[int, int]] = {}
        if context.before is not None:
            rows = context.before.rows(("session_id", "row_id")).drop_nulls("session_id")
            ends = rows.group_by("session_id").agg(pl.max("row_id"), pl.len().cast(pl.Int32))
            known = {s: (row, n) for s, row, n in ends.iter_rows()}
        context.state["sessions"] = known
    found: dict[str, tuple[int, int]] = context.state["sessions"]
    return found


@dataclass(slots=True)
class _Session:
    """Where a session stands in the file being written."""

    turn: int = 0
    row: int = -1
    written: int | None = None
    """row_id of its last row in the file."""
    place: int = 0
    """how many of its rows are in the file."""


@dataclass(frozen=True)
class Placed:
    """Rows that can be written now, in order."""

    frame: pl.DataFrame
    parent: pl.Series
    """row_id of the row before it in its session and in the file; null for a session's first."""
    turn: pl.Series
    """place in its session in the file, from 1; null for rows without a session."""
    skipped: dict[str, int]

    @property
    def renumbered(self) -> int:
        """Rows whose recorded turn is another than their place in the file."""
        if "turn" not in self.frame.columns:
            return 0
        other = (self.frame["turn"].cast(pl.Int32) != self.turn).fill_null(True)
        return int((other & self.frame["turn"].is_not_null()).sum())


@dataclass
class Turns:
    """Puts the rows of each session in the order of their turns, for rows that come by arrival.

    A turn whose predecessor has not come yet (rows without an arrival come last) is held back to the
    end, with the turns after it. Everything else is passed on at once, so what is held in memory is an
    entry for each session and the rows that are out of order.
    """

    sessions: dict[str, _Session] = field(default_factory=dict)
    held: set[str] = field(default_factory=set)
    waiting: list[pl.DataFrame] = field(default_factory=list)
    rows: int = 0
    late: bool = False
    """whether rows were held back to the end; known when all were placed."""

    def placed(self, frames: Iterable[pl.DataFrame]) -> Iterator[Placed]:
        """All rows, frame by frame, and last what was held back: by turn and by the source's order."""
        for frame in frames:
            yield self._place(frame)
        if self.waiting:
            self.late = True
            frame = pl.concat(self.waiting, how="diagonal")
            self.waiting, self.held = [], set()
            order = [c for c in ("turn", "row_id") if c in frame.columns]
            yield self._place(
                frame.sort(order, maintain_order=True) if order else frame, final=True
            )

    def _place(self, frame: pl.DataFrame, final: bool = False) -> Placed:
        """Take rows; with ``final`` hold nothing back."""
        if "session_id" not in frame.columns or not frame["session_id"].count():
            return _alone(frame)
        n = frame.height
        short = (frame["input_tokens"].is_null() | frame["output_tokens"].is_null()).to_list()
        unstamped = frame["arrival_ns"].is_null().to_list()
        session = _list(frame, "session_id")
        turn, parents = _list(frame, "turn"), _list(frame, "depends_on")
        row = _list(frame, "row_id")
        keep: list[int] = []
        hold: list[int] = []
        parent: list[int | None] = []
        place: list[int | None] = []
        skipped: dict[str, int] = {}
        for i in range(n):
            s = session[i]
            why = NO_LENGTH if short[i] else None
            if s is None:
                why = why or (NO_ARRIVAL if unstamped[i] else None)
                before, at = None, None
            else:
                known = self.sessions.get(s)
                if not final and (s in self.held or not _follows(known, turn[i], parents[i])):
                    self.held.add(s)
                    hold.append(i)
                    continue
                if known is None:
                    known = self.sessions[s] = _Session()
                before, at = known.written, known.place + 1
                if unstamped[i] and before is None:
                    why = why or NO_TURN_BEFORE
                known.turn = known.turn + 1 if turn[i] is None else turn[i]
                known.row = self.rows + i if row[i] is None else row[i]
                if why is None:
                    known.written, known.place = known.row, at
            if why is not None:
                skipped[why] = skipped.get(why, 0) + 1
                continue
            keep.append(i)
            parent.append(before)
            place.append(at)
        self.rows += n
        if hold:
            self.waiting.append(frame[hold])
        return Placed(
            frame if len(keep) == n else frame[keep],
            pl.Series(parent, dtype=pl.Int64),
            pl.Series(place, dtype=pl.Int32),
            skipped,
        )


def _alone(frame: pl.DataFrame) -> Placed:
    """Rows without sessions: those with an arrival and both lengths."""
    short = frame["input_tokens"].is_null() | frame["output_tokens"].is_null()
    unstamped = frame["arrival_ns"].is_null() & ~short
    skipped = {NO_LENGTH: int(short.sum()), NO_ARRIVAL: int(unstamped.sum())}
    out = frame.filter(~(short | unstamped))
    nothing = pl.Series([None], dtype=pl.Int64).new_from_index(0, out.height)
    return Placed(out, nothing, nothing.cast(pl.Int32), {why: n for why, n in skipped.items() if n})


def _list(frame: pl.DataFrame, name: str) -> list[Any]:
    return frame[name].to_list() if name in frame.columns else [None] * frame.height


def _follows(known: _Session | None, turn: int | None, parents: list[int] | None) -> bool:
    """Whether the turn before has come; where the trace does not say which that is, it has."""
    if turn is not None:
        return turn <= 1 or (known is not None and known.turn >= turn - 1)
    if parents:
        return known is not None and known.row >= max(parents)
    return True

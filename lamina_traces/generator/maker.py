"""What makes a table: a Maker walks blocks of equal time in order and says what each block holds.

A maker splits its work in two. What later blocks depend on (gaps that cross a border, how many rows there are,
sessions that are still open) is done at once, in ``make``, and handed on as ``State``. What only this block
needs is put into ``Made.frame``, a pure function that may be called in any thread, later, or never: shards call it
for their own blocks alone. State is a flat dictionary of numpy arrays, so that a generation that was interrupted
goes on from a file.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy.typing as npt
import polars as pl

State = dict[str, npt.NDArray[Any]]
"""what one block hands on to the next: arrays of numbers (single numbers have no dimension)."""


def within(name: str, state: State) -> State:
    """A part's state as it stands in that of the whole: under names that begin with the part's."""
    return {f"{name}.{k}": v for k, v in state.items()}


def split(state: State) -> dict[str, State]:
    """The states of all parts, by their names: the inverse of ``within``."""
    out: dict[str, State] = {}
    for k, v in state.items():
        part, dot, own = k.partition(".")
        if dot:
            out.setdefault(part, {})[own] = v
    return out


@dataclass(frozen=True)
class Made:
    """``rows`` of one block, how to draw them (canonical columns without ``row_id``, sorted by the table's time), and the
    state after it. ``part`` draws the rows from one to before another alone, and ``cuts`` are the rows before which a frame
    should end since it would be large, where there is such a thing; what the rows are does not depend on it."""

    rows: int
    frame: Callable[[], pl.DataFrame]
    state: State
    part: Callable[[int, int], pl.DataFrame] | None = None
    cuts: Sequence[int] = ()

    def drawn(self, first: int, stop: int) -> pl.DataFrame:
        """Rows ``first`` to before ``stop``."""
        if self.part is not None:
            return self.part(first, stop)
        return self.frame().slice(first, stop - first)


class Maker(Protocol):
    """Makes one canonical table. A pure function of what it was built from (profile, seed, options)."""

    table: str
    block_ns: int
    """length of a block: a power of two."""

    def start(self) -> State:
        """The state before block 0."""
        ...

    def make(self, block: int, end_ns: int, state: State) -> Made:
        """What lies in [block · block_ns, end_ns), where end_ns is the end of the block or, in the last block, of
        the trace. ``state`` is left as it is."""
        ...

    def expected_rows(self, duration_ns: int) -> float:
        """Rows that a trace of this length will have, about: what progress is told against."""
        ...

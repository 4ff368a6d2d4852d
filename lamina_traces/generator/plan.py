"""What is generated, and the walk over its blocks: whole, cut to a number of rows, in shards, or from where it stopped."""

from __future__ import annotations

import hashlib
import itertools
import json
import math
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import polars as pl

from ..errors import ModelError, Notice, UsageError
from ..profile import Profile
from ..units import NS_PER_S
from .maker import Made, Maker, State

LONGEST_NS = 2**62
"""more than a century."""


@dataclass(frozen=True)
class Shard:
    """Shard ``index`` of ``count``, from 1."""

    index: int = 1
    count: int = 1

    @classmethod
    def parse(cls, text: str) -> Shard:
        """``"2/8"``. Raises UsageError."""
        i, slash, n = text.partition("/")
        if not (slash and i.isdigit() and n.isdigit() and 1 <= int(i) <= int(n)):
            raise UsageError(f"shard {text!r} is not i/n with 1 ≤ i ≤ n", "write it like 2/8")
        return cls(int(i), int(n))


@dataclass(frozen=True)
class Plan:
    """What is generated: ``maker``'s table over ``duration_ns``, or its first ``rows`` rows (one of them is None).
    ``factor``: what all rates are multiplied by; ``options``: what else was asked for, in words; ``notices``: what of it
    could not be had."""

    profile: Profile
    maker: Maker
    seed: int
    duration_ns: int | None
    rows: int | None
    factor: float = 1.0
    options: tuple[tuple[str, str], ...] = ()
    notices: tuple[Notice, ...] = ()

    @property
    def table(self) -> str:
        return self.maker.table

    @property
    def expected_rows(self) -> float:
        """About how many rows there will be."""
        if self.rows is not None:
            return float(self.rows)
        return self.maker.expected_rows(self.duration_ns or 0)

    @property
    def blocks(self) -> int | None:
        """How many blocks, None where a number of rows says when to stop."""
        return None if self.duration_ns is None else -(-self.duration_ns // self.maker.block_ns)

    @cached_property
    def block_count(self) -> int:
        """As ``blocks``; where a number of rows says when to stop, by a walk that draws none."""
        return self.blocks if self.blocks is not None else sum(1 for _ in _made(self, None, start(self)))  # fmt: skip


@dataclass(frozen=True)
class Piece:
    """The rows of one block, or some of them where they are large, and where to go on after it: ``block`` is the next one,
    ``rows`` those before it. ``last``: no more rows of the block come."""

    frame: pl.DataFrame
    block: int
    rows: int
    state: State
    last: bool = True


@dataclass(frozen=True)
class Place:
    """Before block ``block``, with ``rows`` rows behind."""

    block: int
    rows: int
    state: State


def start(plan: Plan) -> Place:
    """Before the first block."""
    return Place(0, 0, plan.maker.start())


def walk(
    plan: Plan, *, shard: Shard | None = None, threads: int = 1, place: Place | None = None
) -> Iterator[Piece]:
    """The rows of a plan or of one shard of it, a piece or more for each block that has rows; ``threads`` changes the speed
    and nothing else, and memory holds ``threads`` + 1 pieces. ``place``: where an earlier walk of the same shard stopped."""
    blocks = _blocks(plan, shard)
    with ThreadPoolExecutor(threads) as pool:
        ahead: list[tuple[Future[pl.DataFrame], Place, bool]] = []
        for made, before, after in _made(plan, blocks.stop, place or start(plan)):
            if after.block <= blocks.start or after.rows == before.rows:
                continue
            rows = after.rows - before.rows
            ends = [*(c for c in made.cuts if c < rows), rows]
            for first, stop in itertools.pairwise([0, *ends]):
                draw = _numbered(made, before.rows, first, stop)
                if threads <= 1:
                    yield Piece(draw(), after.block, after.rows, after.state, stop == rows)
                    continue
                ahead.append((pool.submit(draw), after, stop == rows))
                if len(ahead) > threads:
                    frame, done, last = ahead.pop(0)
                    yield Piece(frame.result(), done.block, done.rows, done.state, last)
        for frame, done, last in ahead:
            yield Piece(frame.result(), done.block, done.rows, done.state, last)


def frames(plan: Plan, *, shard: Shard | None = None, threads: int = 1) -> Iterator[pl.DataFrame]:
    """Canonical frames, sorted by time: one or more for each block that has rows, or one empty frame."""
    pieces = walk(plan, shard=shard, threads=threads)
    first = next(pieces, None)
    if first is None:
        yield empty(plan)
        return
    yield first.frame
    for piece in pieces:
        yield piece.frame


def empty(plan: Plan) -> pl.DataFrame:
    """The columns of a plan that has no rows."""
    made = plan.maker.make(0, min(plan.maker.block_ns, LONGEST_NS), plan.maker.start())
    return _numbered(made, 0, 0, min(made.rows, 1))().clear()


def count(plan: Plan) -> int:
    """How many rows there are: the walk without drawing them."""
    place = start(plan)
    for _, _, after in _made(plan, plan.blocks, place):
        place = after
    return place.rows


def _blocks(plan: Plan, shard: Shard | None) -> range:
    """The contiguous run of blocks of a shard; without one all of them, however many."""
    if shard is None or shard.count == 1:
        return range(plan.blocks if plan.blocks is not None else 2**62)
    whole = plan.block_count
    return range(whole * (shard.index - 1) // shard.count, whole * shard.index // shard.count)


def _made(plan: Plan, stop: int | None, place: Place) -> Iterator[tuple[Made, Place, Place]]:
    """(a block, before it, after it) in order."""
    maker, limit = plan.maker, plan.duration_ns or LONGEST_NS
    for block in itertools.count(place.block):
        if (stop is not None and block >= stop) or block * maker.block_ns >= limit:
            if (
                plan.rows is not None
                and plan.duration_ns is None
                and (stop is None or block < stop)
            ):
                raise ModelError("the trace would span more than a century", "raise --rate or lower -n")  # fmt: skip
            return
        if plan.rows is not None and place.rows >= plan.rows:
            return
        made = maker.make(block, min((block + 1) * maker.block_ns, limit), place.state)
        rows = place.rows + made.rows
        if plan.rows is not None:
            rows = min(rows, plan.rows)
        after = Place(block + 1, rows, made.state)
        yield made, place, after
        place = after


def _numbered(made: Made, before: int, first: int, stop: int) -> Callable[[], pl.DataFrame]:
    """Rows of a block with their numbers: those of the block begin with ``before``."""

    def draw() -> pl.DataFrame:
        frame = made.drawn(first, stop)
        ids = pl.Series("row_id", np.arange(before + first, before + stop, dtype=np.int64))
        return frame.insert_column(0, ids)

    return draw


def block_length(rate_per_s: float, rows: int) -> int:
    """A power of two ns that holds about ``rows`` rows."""
    wanted = math.log2(rows / rate_per_s * NS_PER_S)
    return int(2 ** min(max(round(wanted), 10), 55))


def profile_sha256(profile: Profile) -> str:
    """Identity of a profile: sha256 of its canonical JSON."""
    text = json.dumps(profile.to_dict(), sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()

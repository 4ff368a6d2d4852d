"""The prefix blocks of a trace's requests, read once and kept as keys of whole prefixes.

A key takes 8 bytes, so ``MOST`` of them a quarter of a gigabyte. Where a trace has more, every second block of each
prompt is forgotten, again and again until the rest fits: what is left are the blocks of a cache whose blocks are
2, 4, … times as large, whose hits fall short of the finer one's by less than one such block a request.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import polars as pl
import pyarrow as pa

from .stack_distances import Index, Ints, Keys, mixed, places, prefix_keys

if TYPE_CHECKING:
    from ..store import Trace

MOST = 1 << 25
"""blocks that are kept."""
MOST_IDS = 1 << 22
"""ids as recorded that are kept beside their keys; of more a sample by hash."""
BATCH_ROWS = 16_384
"""rows read at a time: a row may hold thousands of ids."""

COLUMNS = ("prefix_hashes", "prefix_block_size", "input_tokens", "arrival_ns")


@dataclass(frozen=True, eq=False)
class Ids:
    """Ids as recorded: of all blocks, or of those whose hash falls below a threshold. Blocks of one request stand
    together and requests in order."""

    ids: Keys
    keys: Keys
    request: Index

    @property
    def chained(self) -> bool:
        """Whether an id stands for the whole prefix up to its block: it always ends the same one."""
        order = np.argsort(self.ids, kind="stable")
        ids, keys = self.ids[order], self.keys[order]
        return not bool(((ids[1:] == ids[:-1]) & (keys[1:] != keys[:-1])).any())

    @property
    def seen(self) -> npt.NDArray[np.bool_]:
        """Of each id, whether an earlier request held it anywhere."""
        order = np.argsort(self.ids, kind="stable")
        ids, request = self.ids[order], self.request[order]
        new = np.ones(len(ids), dtype=bool)
        np.not_equal(ids[1:], ids[:-1], out=new[1:])
        first = request[np.flatnonzero(new)][np.cumsum(new) - 1]
        out = np.empty(len(ids), dtype=bool)
        out[order] = request > first
        return out


@dataclass
class References:
    """Requests in time order and their blocks. ``tokens``: prompt tokens, −1 where they are not recorded;
    ``arrival_ns`` is 0 throughout where there is no clock; one block in ``every`` of a prompt was kept."""

    most: int = MOST
    most_ids: int = MOST_IDS
    every: int = field(default=1, init=False)
    requests: int = field(default=0, init=False)
    blocks: int = field(default=0, init=False)
    _held: int = field(default=0, init=False)
    _keys: Keys = field(default_factory=lambda: np.zeros(0, dtype=np.uint64), init=False)
    _sizes: list[Ints] = field(default_factory=list, init=False)
    _tokens: list[Ints] = field(default_factory=list, init=False)
    _arrival: list[Ints] = field(default_factory=list, init=False)
    _ids: list[tuple[Keys, Keys, Index]] = field(default_factory=list, init=False)
    _held_ids: int = field(default=0, init=False)
    _halvings: int = field(default=0, init=False)

    def add(self, ids: Keys, sizes: Ints, tokens: Ints, arrival_ns: Ints) -> None:
        """Take ``sizes[i]`` blocks of each request from ``ids``."""
        keys = prefix_keys(ids, sizes)
        after = self.requests + len(sizes)
        request = np.repeat(np.arange(self.requests, after, dtype=np.int32), sizes)
        self._add_ids(ids, keys, request)
        if self.every > 1:
            keys = keys[(places(sizes) + 1) % self.every == 0]
        while self._held + len(keys) > self.most:
            keys = keys[places(sizes // self.every) % 2 == 1]
            self._thin()
        if not len(self._keys):
            self._keys = np.empty(self.most, dtype=np.uint64)  # takes memory only as it is filled
        self._keys[self._held : self._held + len(keys)] = keys
        self._held += len(keys)
        self.requests = after
        self.blocks += len(ids)
        self._sizes.append(sizes)
        self._tokens.append(tokens)
        self._arrival.append(arrival_ns)

    def _thin(self) -> None:
        if self._held:
            kept = self._keys[: self._held][places(self.sizes // self.every) % 2 == 1]
            self._held = len(kept)
            self._keys[: self._held] = kept
        self.every *= 2

    def _add_ids(self, ids: Keys, keys: Keys, request: Index) -> None:
        kept = self._below(ids)
        self._ids.append((ids[kept], keys[kept], request[kept]))
        self._held_ids += len(self._ids[-1][0])
        while self._held_ids > self.most_ids:
            self._halvings += 1
            for i, (a, b, c) in enumerate(self._ids):
                kept = self._below(a)
                self._ids[i] = (a[kept], b[kept], c[kept])
            self._held_ids = sum(len(a) for a, _, _ in self._ids)

    def _below(self, ids: Keys) -> npt.NDArray[np.bool_]:
        return mixed(ids) >> np.uint64(64 - self._halvings) == 0 if self._halvings else np.ones(len(ids), dtype=bool)  # fmt: skip

    @property
    def ids_share(self) -> float:
        """Share of the ids that are kept as recorded."""
        return 0.5**self._halvings

    def ids(self) -> Ids:
        """The ids as recorded. They can be asked for once."""
        columns = [np.concatenate(c) for c in zip(*self._ids, strict=True)]
        self._ids = []
        return Ids(columns[0], columns[1], columns[2])

    def keys(self) -> Keys:
        """Keys of the kept blocks, in prompt order. They can be asked for once."""
        out, self._keys = self._keys[: self._held], np.zeros(0, dtype=np.uint64)
        return out

    @property
    def sizes(self) -> Ints:
        """[requests] blocks as recorded; ``sizes // every`` of them are kept."""
        return np.concatenate(self._sizes)

    @property
    def tokens(self) -> Ints:
        return np.concatenate(self._tokens)

    @property
    def arrival_ns(self) -> Ints:
        return np.concatenate(self._arrival)


def read(trace: Trace, block_tokens: int | None, most: int = MOST) -> References:
    """All requests with recorded blocks of ``block_tokens``. Rows without an arrival are left out where others
    have one; where none has, the source's order stands for time."""
    out = References(most)
    wanted = pl.col("prefix_hashes").is_not_null() & pl.col("prefix_block_size").eq_missing(
        block_tokens
    )
    if trace.has("arrival_ns"):
        wanted &= pl.col("arrival_ns").is_not_null()
    for batch in trace.batches("llm_requests", COLUMNS, rows=BATCH_ROWS):
        rows = pl.DataFrame(pa.Table.from_batches([batch])).filter(wanted)
        if len(rows):
            lists = rows["prefix_hashes"]
            sizes = lists.list.len().to_numpy().astype(np.int64)
            ids = lists.filter(sizes > 0).explode().fill_null(0)
            out.add(
                ids.cast(pl.UInt64).to_numpy(),
                sizes,
                rows["input_tokens"].fill_null(-1).to_numpy().astype(np.int64),
                rows["arrival_ns"].fill_null(0).to_numpy(),
            )
    return out

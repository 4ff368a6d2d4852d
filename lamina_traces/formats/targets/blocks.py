"""Prefix blocks as importers want them: hash lists that cover the prompt, private last blocks.

Three rules, read in the loaders (aiperf 0.13.0 dataset/synthesis, guidellm 0.8.1 trace_mooncake.py,
vLLM 0.33.0 TimedTrace):

- a file has one block size B, given on the command line, and k ids stand for (k-1)·B < tokens ≤ k·B;
- a partial last block must not be shared: aiperf takes every shared id for a whole block and fails,
  guidellm gives an id as many tokens as its first use needs. An id that ends a prompt inside a block
  and occurs elsewhere, too, gets a private id there; ids of whole blocks stay as they are, 64 bit;
- where an id must fit a smaller type, all ids are numbered densely in the order of their values.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path
from typing import BinaryIO, Literal

import numpy as np
import numpy.typing as npt
import polars as pl
import pyarrow as pa
import pyarrow.compute as pc

from ...errors import DataError
from ..exporting import Writing
from .spool import disk_errors
from .text import column, json_lines

BLOCK_TOKENS = 512
"""tokens per prefix block in Mooncake's own traces (README); taken where a trace records none."""
Ids = npt.NDArray[np.uint64]
Lengths = npt.NDArray[np.int64]
CELLS = 1 << 27
"""bytes that tell which ids occur; ids below it have a byte of their own."""
SLICE_ROWS = 1 << 14
"""rows at a time where there are lists: they are long."""
JOINED_IDS = 1 << 26
"""ids made into text at a time: of 20 digits and a separator, below 2 GiB."""
_UNFIT = "prefix_hashes (do not cover input_tokens)"
_MENDED = "prefix_hashes (did not cover input_tokens: cut, or filled up with private ids)"
_SIZE = "prefix_hashes (in blocks of another size than the file's)"
_TAIL = "prefix_hashes (a partial last block that others share: private id)"


@dataclass(frozen=True)
class BlockRule:
    """What a dialect wants: hash lists that do not cover are dropped or mended (rows without one then get
    private ids); ids up to ``largest``; one fixed block size, or the one that most rows of the trace have."""

    unfit: Literal["drop", "mend"]
    largest: int = 2**64 - 1
    block_tokens: int | None = None


@dataclass
class _Plan:
    """What the second pass needs to know of the first."""

    size: int
    shared: Ids
    """ids of partial last blocks that occur elsewhere, too, in order."""
    ids: Ids | None
    """every id in order, where they are numbered densely."""
    private: int
    """the next private id."""


def with_blocks(
    rows: Iterator[pl.DataFrame], rule: BlockRule, state: Writing
) -> Iterator[pl.DataFrame]:
    """Rows with ``prefix_hashes`` by the rule. ``state.options['block_tokens']`` says the block size.

    A trace that records hash lists is read twice (from a temporary file), since whether a block is shared
    shows only at its end. Memory then holds a byte for each id below 2^27 (the others share these bytes, and
    those that seem shared are read once more), the shared partial blocks, and all ids if they are renumbered.
    """
    rows = (frame for frame in rows if frame.height)
    first = next(rows, None)
    if first is None:
        return
    rows = chain([first], rows)
    if "prefix_hashes" not in first.columns:
        size = rule.block_tokens or BLOCK_TOKENS
        state.options["block_tokens"] = size
        plan = _Plan(size, np.empty(0, np.uint64), None, 0)
    else:
        kept = _Kept(state.scratch / "blocks")
        plan = _plan(rows, kept, rule, state)
        state.options["block_tokens"] = plan.size
        rows = _slices(kept)
    if rule.unfit == "mend" and "prefix_hashes" not in first.columns:
        state.note(
            "no prefix blocks are recorded: every request has private block ids, so that nothing is shared"
        )
    for frame in rows:
        if "prefix_hashes" in frame.columns:
            yield _by_plan(frame, rule, plan, state)
        else:
            yield frame if rule.unfit == "drop" else _all_private(frame, plan)


class _Kept:
    """Frames in Arrow files, in the order in which they came: larger than Parquet, and read as they lie."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True)
        self.folder = folder
        self.files: list[Path] = []

    def add(self, frame: pl.DataFrame) -> None:
        file = self.folder / f"{len(self.files):08}.arrow"
        with disk_errors():
            frame.write_ipc(file, compression="uncompressed")
        self.files.append(file)

    def __iter__(self) -> Iterator[pl.DataFrame]:
        for file in self.files:
            with disk_errors():
                frame = pl.read_ipc(file)
            yield frame


def _slices(frames: Iterable[pl.DataFrame]) -> Iterator[pl.DataFrame]:
    return (part for frame in frames for part in frame.iter_slices(SLICE_ROWS))


# --- first pass: which partial last blocks are shared ----------------------------------------------


@dataclass
class _Census:
    """Occurrences of ids, for lists of blocks of ``size`` tokens.

    A cell of ``seen`` has bit 0 for an id of a partial last block, bit 1 for another occurrence. Ids below
    its length have a cell of their own; larger ones share cells.
    """

    rule: BlockRule
    size: int
    seen: npt.NDArray[np.uint8] = field(default_factory=lambda: np.zeros(CELLS, np.uint8))
    top: int = -1
    blocks: int = 0
    """that cover all prompts."""

    def take(self, frame: pl.DataFrame) -> None:
        tails, others = _used(frame, self.rule, self.size)
        self.blocks += int((-(-frame["input_tokens"].cast(pl.Int64) // self.size)).sum())
        for ids in (tails, others):
            if len(ids):
                self.top = max(self.top, int(ids.max()))
        _mark(self.seen, _cells(tails), _cells(others))

    def shared(self, kept: _Kept) -> Ids:
        """Ids of partial last blocks that occur more than once, in order."""
        if self.top < CELLS:
            return np.flatnonzero(self.seen[: self.top + 1] == 3).astype(np.uint64)
        known = _union(self._suspect(tails) for tails, _ in self.used(kept))
        seen = np.zeros(len(known), np.uint8)
        for tails, others in self.used(kept):
            _mark(
                seen,
                *(at[ok] for at, ok in (_find(known, self._suspect(x)) for x in (tails, others))),
            )
        shared: Ids = known[seen == 3]
        return shared

    def _suspect(self, ids: Ids) -> Ids:
        suspect: Ids = ids[self.seen[_cells(ids)] == 3]
        return suspect

    def used(self, kept: _Kept) -> Iterator[tuple[Ids, Ids]]:
        return (_used(frame, self.rule, self.size) for frame in _slices(kept))


def _union(parts: Iterable[Ids]) -> Ids:
    """What occurs in any of them, in order."""
    known = np.empty(0, np.uint64)
    fresh: list[Ids] = []
    for part in parts:
        fresh.append(np.unique(part))
        if sum(map(len, fresh)) > len(known):
            known, fresh = np.unique(np.concatenate([known, *fresh])), []
    return np.unique(np.concatenate([known, *fresh]))


def _cells(ids: Ids) -> npt.NDArray[np.int64]:
    """Ids below CELLS as they are, larger ones scattered over the same cells (Fibonacci hashing)."""
    if not len(ids) or ids.max() < CELLS:
        return ids.view(np.int64)
    mixed = (ids * np.uint64(0x9E3779B97F4A7C15)) >> np.uint64(64 - CELLS.bit_length() + 1)
    return np.where(ids < CELLS, ids, mixed).view(np.int64)


def _find(known: Ids, ids: Ids) -> tuple[npt.NDArray[np.intp], npt.NDArray[np.bool_]]:
    """Where each id stands in ``known`` (in order), and whether it does."""
    at = np.searchsorted(known, ids)
    ok = at < len(known)
    ok[ok] = known[at[ok]] == ids[ok]
    return at, ok


def _mark(
    seen: npt.NDArray[np.uint8], tails: npt.NDArray[np.int64], others: npt.NDArray[np.int64]
) -> None:
    seen[others] |= 2
    cells, n = np.unique(tails, return_counts=True)
    again = (n > 1) | (seen[cells] & 1 > 0)
    seen[cells] |= np.where(again, np.uint8(3), np.uint8(1))


def _used(frame: pl.DataFrame, rule: BlockRule, size: int) -> tuple[Ids, Ids]:
    """Ids of the lists that the rule keeps, as far as they cover prompts: partial last blocks, others."""
    if "prefix_hashes" not in frame.columns:
        return np.empty(0, np.uint64), np.empty(0, np.uint64)
    given, flat = _flat(frame["prefix_hashes"])
    first = np.cumsum(given) - given
    n = frame["input_tokens"].cast(pl.Int64).fill_null(0).to_numpy()
    wanted = -(-n // size)
    able = frame["prefix_hashes"].is_not_null() & frame["input_tokens"].is_not_null()
    able &= _sizes(frame) == size
    fits = able.to_numpy() & ((given == wanted) & (wanted > 0) if rule.unfit == "drop" else True)
    partial = fits & (n % size != 0) & (given >= wanted)
    kept = np.where(fits, np.minimum(given, wanted), 0)
    tail = (first + kept)[partial] - 1
    other = np.ones(len(flat), bool)
    other[_ranges(first + kept, given - kept)] = False
    other[tail] = False
    return flat[tail], flat[other]


def _sizes(frame: pl.DataFrame) -> pl.Series:
    return column(frame, "prefix_block_size", pl.Int32).fill_null(BLOCK_TOKENS)


def _plan(rows: Iterator[pl.DataFrame], kept: _Kept, rule: BlockRule, state: Writing) -> _Plan:
    sizes: Counter[int] = Counter()
    census: _Census | None = None
    for frame in rows:
        kept.add(frame)
        if "prefix_hashes" in frame.columns:
            some = _sizes(frame).filter(frame["prefix_hashes"].list.len().fill_null(0) > 0)
            sizes.update(dict(some.value_counts().iter_rows()))
        census = census or _Census(rule, _most(sizes, rule))
        for part in frame.iter_slices(SLICE_ROWS):
            census.take(part)
    size = _most(sizes, rule)
    if census is None or census.size != size:
        census = _Census(rule, size)
        for part in _slices(kept):
            census.take(part)
    top, blocks, ids = census.top, census.blocks, None
    if rule.largest < 2**64 - 1 and top + 1 + blocks > rule.largest:
        ids = _union(chain.from_iterable(census.used(kept)))
        state.note(
            "prefix block ids are numbered anew from 0, since the tool takes only small ones"
        )
        if len(ids) + blocks > rule.largest:
            raise DataError(
                f"more prefix blocks than ids up to {rule.largest:,}",
                "export a part of it: --where …",
            )
        private = len(ids)
    else:
        private = _free(census, kept)
    return _Plan(size, census.shared(kept), ids, private)


def _most(sizes: Counter[int], rule: BlockRule) -> int:
    """The block size of the file: that of most lists, the smaller one of two."""
    found = min(sizes, key=lambda size: (-sizes[size], size), default=BLOCK_TOKENS)
    return rule.block_tokens or found


def _free(census: _Census, kept: _Kept) -> int:
    """The first of as many ids as there are blocks that the trace does not use, below 2^63."""
    top, n = census.top, census.blocks

    def taken(start: int) -> bool:
        if start > top:
            return False
        used = chain.from_iterable(census.used(kept))
        return any(bool(((ids >= start) & (ids <= start + n)).any()) for ids in used)

    start, step = top + 1, 0
    while start + n >= 2**63 or taken(start):
        step += 1
        start = 2**62 - step * (n + 1)
        if start < 0:
            raise DataError(
                "no room for private block ids", "export a part of the trace: --where …"
            )
    return start


# --- second pass -----------------------------------------------------------------------------------


def _all_private(frame: pl.DataFrame, plan: _Plan) -> pl.DataFrame:
    """Rows of a trace without blocks: as many private ids as cover each prompt."""
    wanted = -(-frame["input_tokens"].cast(pl.Int64) // plan.size)
    end = plan.private + wanted.cum_sum()
    plan.private = int(end[-1])
    own = pl.DataFrame({"from": end - wanted, "to": end}).select(pl.int_ranges("from", "to"))
    return frame.with_columns(own.to_series().alias("prefix_hashes"))


def _by_plan(frame: pl.DataFrame, rule: BlockRule, plan: _Plan, state: Writing) -> pl.DataFrame:
    lists = frame["prefix_hashes"]
    told = lists.is_not_null().to_numpy()
    lengths, flat = _flat(lists)
    able = (frame["input_tokens"].is_not_null() & frame["output_tokens"].is_not_null()).to_numpy()
    n = frame["input_tokens"].cast(pl.Int64).fill_null(0).to_numpy()
    wanted = -(-n // plan.size)
    alien = (_sizes(frame) != plan.size).to_numpy() & (lengths > 0)
    state.losses[_SIZE] += int((alien & able).sum())
    if rule.unfit == "drop":
        fits = (lengths == wanted) & ~alien & (wanted > 0) & told
        state.losses[_UNFIT] += int((told & ~fits & ~alien & able).sum())
        given, wanted, none = np.where(fits, lengths, 0), np.where(fits, wanted, 0), ~fits
    else:
        state.losses[_MENDED] += int((told & (lengths != wanted) & ~alien & able).sum())
        given, none = np.where(alien, 0, lengths), ~told & (wanted == 0)
    kept = np.minimum(given, wanted)
    partial = np.flatnonzero((n % plan.size != 0) & (given >= wanted) & (wanted > 0))
    tails = flat[(np.cumsum(lengths) - lengths + wanted)[partial] - 1]
    shared = partial[_find(plan.shared, tails)[1]]
    state.losses[_TAIL] += int(able[shared].sum())
    kept[shared] -= 1
    if plan.ids is not None:
        flat = np.searchsorted(plan.ids, flat).astype(np.uint64)
    made = _filled_up(lengths, flat, kept, wanted, plan)
    if none.any():
        made = made.set(pl.Series(none), None)
    return frame.with_columns(
        made.alias("prefix_hashes"), pl.lit(plan.size, pl.Int32).alias("prefix_block_size")
    )


def _filled_up(given: Lengths, flat: Ids, kept: Lengths, wanted: Lengths, plan: _Plan) -> pl.Series:
    """The first ``kept`` ids of each list, then private ids up to ``wanted``."""
    ends = np.cumsum(wanted)
    own = _ranges(ends - wanted + kept, wanted - kept)
    left_out = _ranges(np.cumsum(given) - given + kept, given - kept)
    out = np.empty(int(wanted.sum()), np.uint64)
    is_kept = np.ones(len(out), bool)
    is_kept[own] = False
    out[is_kept] = np.delete(flat, left_out)
    out[own] = np.arange(plan.private, plan.private + len(own), dtype=np.uint64)
    plan.private += len(own)
    return _lists(wanted, out)


# --- lists as lengths and flat ids -----------------------------------------------------------------


def _flat(lists: pl.Series) -> tuple[Lengths, Ids]:
    """Length of each list (0 of null) and the ids of all. Here and below polars stands between Arrow and numpy,
    since Arrow's own way imports pandas."""
    if lists.dtype != pl.List(pl.UInt64):
        lists = lists.cast(pl.List(pl.UInt64))
    arrow = (lists.fill_null([]) if lists.null_count() else lists).to_arrow()
    ends = pl.Series(arrow.offsets).to_numpy()
    values = pl.Series(arrow.values)[int(ends[0]) : int(ends[-1])]
    if values.null_count():
        raise DataError(
            "a prefix block id is null", "ingest the trace into the store, which rejects such rows"
        )
    return np.diff(ends), values.to_numpy()


def _lists(lengths: Lengths, flat: Ids) -> pl.Series:
    ends = np.concatenate([[0], np.cumsum(lengths)])
    return pl.Series(
        pa.LargeListArray.from_arrays(pl.Series(ends).to_arrow(), pl.Series(flat).to_arrow()),
        dtype=pl.List(pl.UInt64),
    )


def _ranges(start: Lengths, n: Lengths) -> Lengths:
    """start[i], start[i] + 1, … (n[i] of them), for each i in turn."""
    some = n > 0
    start, n = start[some], n[some]
    inside = np.arange(int(n.sum()), dtype=np.int64)
    inside += np.repeat(start - (np.cumsum(n) - n), n)
    return inside


def split(lists: pl.Series, pieces: int, most: Lengths) -> pl.Series:
    """Each id i as ``pieces`` ids from pieces·i on; the first ``most`` of each list."""
    given, flat = _flat(lists)
    kept = np.minimum(given * pieces, most)
    small = (flat[:, None] * np.uint64(pieces) + np.arange(pieces, dtype=np.uint64)).reshape(-1)
    first = (np.cumsum(given) - given) * pieces
    return _lists(kept, np.delete(small, _ranges(first + kept, given * pieces - kept)))


def grouped(lists: pl.Series, group: int, most: Lengths) -> pl.Series:
    """The last id of each ``group`` ids (at the end: of those left); the first ``most`` of each list."""
    given, flat = _flat(lists)
    kept = np.minimum(-(-given // group), most)
    ends = np.repeat(np.cumsum(given), kept)
    nth = _ranges(np.ones_like(kept), kept)
    return _lists(
        kept, flat[np.minimum(np.repeat(np.cumsum(given) - given, kept) + nth * group, ends) - 1]
    )


# --- lists as text ---------------------------------------------------------------------------------


def put_with_ids(fields: Mapping[str, pl.Series], lists: pl.Series, out: BinaryIO) -> int:
    """Append one JSON object a row: the fields, of which some is never null, then ``hash_ids`` unless null.

    The text is joined by Arrow and written as it lies in memory; rows with many ids are taken by halves, since
    Arrow joins at most 2 GiB. Returns how many rows.
    """
    lengths, flat = _flat(lists)
    rows = len(lengths)
    if rows > 1 and len(flat) > JOINED_IDS:
        halves = (slice(0, rows // 2), slice(rows // 2, rows))
        return sum(
            put_with_ids({k: v[h] for k, v in fields.items()}, lists[h], out) for h in halves
        )
    heads = json_lines(rows, fields)["line"].str.strip_suffix("}")
    with disk_errors():
        comma, begin, end, no_end, nothing = _strings(
            pl.Series([", ", ', "hash_ids": [', "]}\n", "}\n", ""])
        )
        ends = pl.Series(np.concatenate([[0], np.cumsum(lengths)]), dtype=pl.Int32).to_arrow()
        texts = pc.cast(pl.Series(flat).to_arrow(), pa.string())
        told = lists.is_not_null().to_arrow()
        text = pc.binary_join_element_wise(
            _strings(heads),
            pc.if_else(told, begin, nothing),
            pc.binary_join(pa.ListArray.from_arrays(ends, texts), comma),
            pc.if_else(told, end, no_end),
            nothing,
        )
    _, starts, characters = text.buffers()
    if rows:
        out.write(memoryview(characters)[: np.frombuffer(starts, np.int32)[rows]])
    return rows


def _strings(texts: pl.Series) -> pa.StringArray:
    return texts.to_arrow(compat_level=pl.CompatLevel.oldest()).cast(pa.string())

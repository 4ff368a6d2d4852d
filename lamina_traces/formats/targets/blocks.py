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

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import chain
from typing import Literal

import numpy as np
import numpy.typing as npt
import polars as pl
import pyarrow as pa

from ...errors import DataError
from ..exporting import Writing
from .spool import Spool
from .text import column

BLOCK_TOKENS = 512
"""tokens per prefix block in Mooncake's own traces (README); taken where a trace records none."""
SLICE_ROWS = 1 << 15
"""rows at a time where there are lists: they are long."""
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
    shared: pl.Series
    ids: npt.NDArray[np.uint64] | None
    """every id in order, where they are numbered densely."""
    private: int
    """the next private id."""


def with_blocks(
    rows: Iterator[pl.DataFrame], rule: BlockRule, state: Writing
) -> Iterator[pl.DataFrame]:
    """Rows with ``prefix_hashes`` by the rule. ``state.options['block_tokens']`` says the block size.

    A trace that records hash lists is read twice (from a temporary file), since whether a block is shared
    shows only at its end; memory then holds the shared partial blocks, and all ids if they are renumbered.
    """
    rows = (frame for frame in rows if frame.height)
    first = next(rows, None)
    if first is None:
        return
    rows = chain([first], rows)
    if "prefix_hashes" not in first.columns:
        size = rule.block_tokens or BLOCK_TOKENS
        state.options["block_tokens"] = size
        plan = _Plan(size, pl.Series(dtype=pl.UInt64), None, 0)
    else:
        spool = Spool(state, "blocks").take(rows)
        plan = _plan(spool, rule, state)
        state.options["block_tokens"] = plan.size
        rows = (part for frame in spool for part in frame.iter_slices(SLICE_ROWS))
    if rule.unfit == "mend" and "prefix_hashes" not in first.columns:
        state.note(
            "no prefix blocks are recorded: every request has private block ids, so that nothing is shared"
        )
    for frame in rows:
        if "prefix_hashes" in frame.columns:
            yield _by_plan(frame, rule, plan, state)
        else:
            yield frame if rule.unfit == "drop" else _all_private(frame, plan)


def _plan(spool: Spool, rule: BlockRule, state: Writing) -> _Plan:
    columns = set(next(iter(spool)).columns)
    recorded = (
        f"coalesce(prefix_block_size, {BLOCK_TOKENS})"
        if "prefix_block_size" in columns
        else str(BLOCK_TOKENS)
    )
    sizes = spool.table(
        f"SELECT {recorded} AS size FROM spool WHERE len(prefix_hashes) > 0 GROUP BY size ORDER BY count(*) DESC, size"
    )
    size = rule.block_tokens or (int(sizes["size"][0]) if sizes.height else BLOCK_TOKENS)
    fits = f"len(h) = m AND m > 0 AND size = {size}" if rule.unfit == "drop" else f"size = {size}"
    used = f"""
        WITH given AS (
            SELECT prefix_hashes AS h, {recorded} AS size, input_tokens AS n, (input_tokens + {size - 1}) // {size} AS m
            FROM spool WHERE input_tokens IS NOT NULL AND prefix_hashes IS NOT NULL
        ), used AS (
            SELECT h[:m] AS h, n % {size} <> 0 AND len(h) >= m AS partial FROM given WHERE {fits}
        )"""
    shared = spool.table(f"""
        {used}, tails AS (SELECT h[-1] AS id, count(*) AS n FROM used WHERE partial GROUP BY ALL),
        whole AS (SELECT unnest(CASE WHEN partial THEN h[:-2] ELSE h END) AS id FROM used)
        SELECT id FROM tails WHERE n > 1
        UNION SELECT id FROM whole WHERE id IN (SELECT id FROM tails)""")["id"]
    top = spool.table(f"{used} SELECT max(list_max(h)) AS top FROM used")["top"][0]
    blocks = (
        spool.table(f"SELECT sum((input_tokens + {size - 1}) // {size})::BIGINT AS n FROM spool")[
            "n"
        ][0]
        or 0
    )
    top = -1 if top is None else int(top)
    ids = None
    if rule.largest < 2**64 - 1 and top + 1 + blocks > rule.largest:
        ids = np.sort(
            spool.table(f"{used} SELECT DISTINCT unnest(h) AS id FROM used")["id"].to_numpy()
        )
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
        private = _free(spool, used, top, int(blocks))
    return _Plan(size, shared.sort(), ids, private)


def _free(spool: Spool, used: str, top: int, n: int) -> int:
    """The first of ``n`` ids that the trace does not use, below 2^63."""

    def taken(start: int) -> bool:
        within = f"id BETWEEN {start} AND {start + n}"
        ids = f"{used} SELECT count(*) AS n FROM (SELECT unnest(h) AS id FROM used) WHERE {within}"
        return start <= top and bool(spool.table(ids)["n"][0])

    start, step = top + 1, 0
    while start + n >= 2**63 or taken(start):
        step += 1
        start = 2**62 - step * (n + 1)
        if start < 0:
            raise DataError(
                "no room for private block ids", "export a part of the trace: --where …"
            )
    return start


def _all_private(frame: pl.DataFrame, plan: _Plan) -> pl.DataFrame:
    """Rows of a trace without blocks: as many private ids as cover each prompt."""
    wanted = -(-frame["input_tokens"].cast(pl.Int64) // plan.size)
    end = plan.private + wanted.cum_sum()
    plan.private = int(end[-1])
    own = pl.DataFrame({"from": end - wanted, "to": end}).select(pl.int_ranges("from", "to"))
    return frame.with_columns(own.to_series().alias("prefix_hashes"))


def _by_plan(frame: pl.DataFrame, rule: BlockRule, plan: _Plan, state: Writing) -> pl.DataFrame:
    lists = column(frame, "prefix_hashes", pl.List(pl.UInt64)).cast(pl.List(pl.UInt64))
    able = frame["input_tokens"].is_not_null() & frame["output_tokens"].is_not_null()
    n = frame["input_tokens"].cast(pl.Int64).fill_null(0)
    wanted = -(-n // plan.size)
    given = lists.list.len().cast(pl.Int64).fill_null(0)
    sizes = column(frame, "prefix_block_size", pl.Int32).fill_null(BLOCK_TOKENS)
    alien = (sizes != plan.size) & (given > 0)
    state.losses[_SIZE] += int((alien & able).sum())
    fits = (given == wanted) & ~alien & (wanted > 0) & lists.is_not_null()
    if rule.unfit == "drop":
        unfit = lists.is_not_null() & ~fits & ~alien & able
        state.losses[_UNFIT] += int(unfit.sum())
        lists, given = lists.set(~fits, None), given.set(~fits, 0)
        wanted = wanted.set(~fits, 0)
    else:
        unfit = lists.is_not_null() & (given != wanted) & ~alien & able
        state.losses[_MENDED] += int(unfit.sum())
        given = given.set(alien, 0)
    kept = _least(given, wanted)
    if len(plan.shared):
        tail = pl.DataFrame({"h": lists, "k": wanted}).select(
            pl.when(pl.col("k") > 0).then(pl.col("h").list.get(pl.col("k") - 1, null_on_oob=True))
        )["h"]
        partial = (n % plan.size != 0) & (given >= wanted) & (wanted > 0)
        shared = (partial & tail.is_in(plan.shared.implode())).fill_null(False)
        state.losses[_TAIL] += int((shared & able).sum())
        kept = kept - shared.cast(pl.Int64)
    return _filled_up(frame, lists, kept, wanted, plan)


def _filled_up(
    frame: pl.DataFrame, lists: pl.Series, kept: pl.Series, wanted: pl.Series, plan: _Plan
) -> pl.DataFrame:
    """The first ``kept`` ids of each list, then private ids up to ``wanted``; no list where none is wanted
    and none was recorded."""
    none = lists.is_null() & (wanted == 0)
    if lists.null_count():
        lists = lists.fill_null([])
    flat = lists.explode(empty_as_null=False).to_numpy()
    if plan.ids is not None:
        flat = np.searchsorted(plan.ids, flat).astype(np.uint64)
    given, keep, want = (x.cast(pl.Int64).to_numpy() for x in (lists.list.len(), kept, wanted))
    private = int((want - keep).sum())
    own = np.arange(plan.private, plan.private + private, dtype=np.uint64)
    plan.private += private
    ends = np.concatenate([[0], np.cumsum(want)])
    out = np.empty(ends[-1], dtype=np.uint64)
    is_own = np.arange(len(out)) - np.repeat(ends[:-1], want) >= np.repeat(keep, want)
    first = np.cumsum(given) - given
    out[~is_own] = flat[np.arange(len(flat)) - np.repeat(first, given) < np.repeat(keep, given)]
    out[is_own] = own
    made = pl.Series(pa.LargeListArray.from_arrays(ends, out), dtype=pl.List(pl.UInt64))
    return frame.with_columns(
        made.set(none, None).alias("prefix_hashes"),
        pl.lit(plan.size, pl.Int32).alias("prefix_block_size"),
    )


def _least(a: pl.Series, b: pl.Series) -> pl.Series:
    return a.zip_with(a <= b, b)

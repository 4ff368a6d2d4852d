"""The identity of rows: a hash that does not depend on how they were cut into frames or shards."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable

import numpy as np
import polars as pl

from ..compiled import kernel
from . import digests
from .randomness import RUN, mix


def row_hash(frames: Iterable[pl.DataFrame]) -> tuple[int, str]:
    """(rows, hash) over canonical columns. Sums of per-row hashes modulo 2⁶⁴, so the hash of a whole is the
    sum of its shards' hashes.
    """
    total = 0
    rows = 0
    for frame in frames:
        total = (total + frame_hash(frame)) % 2**64
        rows += frame.height
    return rows, f"{total:016x}"


def frame_hash(frame: pl.DataFrame) -> int:
    """Sum of the row hashes of one frame, modulo 2⁶⁴."""
    if not frame.height:
        return 0
    columns = [(_words(frame[name]), _salt(name)) for name in sorted(frame.columns)]
    total = 0
    with np.errstate(over="ignore"):
        for start in range(0, frame.height, RUN):
            h = np.zeros(min(RUN, frame.height - start), dtype=np.uint64)
            for words, salt in columns:
                h *= digests.GOLDEN
                h ^= words[start : start + RUN] + salt
                h = mix(h)
            total += int(h.sum(dtype=np.uint64))
    return total % 2**64


def _salt(name: str) -> np.uint64:
    return np.uint64(int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], "little"))


def _words(column: pl.Series) -> np.ndarray[tuple[int], np.dtype[np.uint64]]:
    """One word a row: the bits of numbers, a digest of texts, a chained hash of lists; nulls have one of their own."""
    if isinstance(column.dtype, pl.List):
        return _of_lists(column)
    if isinstance(column.dtype, pl.String | pl.Enum):
        if isinstance(column.dtype, pl.Enum):
            texts = column.dtype.categories
        else:
            texts = column.drop_nulls().unique().sort()
            column = column.cast(pl.Enum(texts))
        digests = [hashlib.sha256(v.encode()).digest()[:8] for v in texts]
        codes = [int.from_bytes(d, "little") for d in digests] + [0]  # the last is for null
        at = column.to_physical().fill_null(len(texts)).to_numpy()
        return np.asarray(np.array(codes, dtype=np.uint64)[at], dtype=np.uint64)
    if column.dtype.is_float():
        bits = column.cast(pl.Float64).fill_null(float("nan")).to_numpy()
        return np.ascontiguousarray(bits + 0.0).view(np.uint64)
    if column.dtype == pl.UInt64:
        return np.asarray(column.fill_null(2**64 - 1).to_numpy(), dtype=np.uint64)
    whole = column.cast(pl.Int64).fill_null(-(2**63)).to_numpy()
    return whole.astype(np.int64).view(np.uint64)


def _of_lists(column: pl.Series) -> np.ndarray[tuple[int], np.dtype[np.uint64]]:
    """Σ of the members' words, each mixed with its place, and of their number."""
    sizes = column.list.len().fill_null(digests.NULL).to_numpy()
    members = _words(column.drop_nulls().explode(empty_as_null=False).rename(""))
    out = np.empty(len(column), dtype=np.uint64)
    kernel(digests, "of_lists")(members, sizes, out)
    return out

"""What is seen of generated rows as they go by: how many, their hash, how bursty they are."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl

from ..units import NS_PER_S
from .hashing import frame_hash

WIDTHS_S = (1, 60)


@dataclass
class Observed:
    """``rows``, the sum of their hashes modulo 2⁶⁴, the last arrival (ns), moments of gaps, and of counts per window."""

    rows: int = 0
    hash_sum: int = 0
    first_ns: int = -1
    last_ns: int = -1
    gaps: npt.NDArray[np.float64] = field(default_factory=lambda: np.zeros(3))
    """number, sum (s) and sum of squares"""
    filled: frozenset[str] = frozenset()
    """columns that hold a value"""
    windows: npt.NDArray[np.float64] = field(default_factory=lambda: np.zeros((len(WIDTHS_S), 4)))
    """by width: number of the open window, its count, Σ n and Σ n² of those before"""

    def add(self, frame: pl.DataFrame) -> None:
        """Count one more frame, later than those before."""
        self.rows += frame.height
        self.hash_sum = (self.hash_sum + frame_hash(frame)) % 2**64
        if not frame.height:
            return
        self.filled |= {c.name for c in frame if c.null_count() < frame.height}
        if "arrival_ns" not in frame.columns:
            return
        column = frame["arrival_ns"]
        t = (column.drop_nulls() if column.null_count() else column).to_numpy()
        if not len(t):
            return
        if self.first_ns < 0:
            self.first_ns = self.last_ns = int(t[0])
            self.gaps -= np.array([1.0, 0.0, 0.0])  # the first one has no gap
        gaps = np.empty(len(t))
        gaps[0] = int(t[0]) - self.last_ns
        gaps[1:] = t[1:] - t[:-1]
        gaps /= NS_PER_S
        self.last_ns = int(t[-1])
        self.gaps += np.array(
            [len(gaps), gaps.sum(), np.square(gaps).sum()]
        )  # not @: BLAS wakes its threads
        since = t - self.first_ns
        for k, width in enumerate(WIDTHS_S):
            self._count(k, since // (width * NS_PER_S))

    def _count(self, k: int, at: npt.NDArray[np.int64]) -> None:
        """Rows by the number of their window, rising: windows without a row add nothing to the sums."""
        begins = np.append(0, np.flatnonzero(at[1:] != at[:-1]) + 1)
        n = np.diff(np.append(begins, len(at))).astype(np.float64)
        number, held, total, squares = self.windows[k]
        if int(at[0]) == int(number):
            n[0] += held
        else:
            total, squares = total + held, squares + held * held
        full = n[:-1]
        self.windows[k] = (at[-1], n[-1], total + full.sum(), squares + np.square(full).sum())

    @property
    def row_hash(self) -> str:
        return f"{self.hash_sum:016x}"

    @property
    def cv(self) -> float | None:
        """Of the gaps; None below two, or where all are zero."""
        n, total, squares = (float(x) for x in self.gaps)
        if n < 2 or total <= 0:
            return None
        mean = total / n
        return math.sqrt(max(squares / n - mean * mean, 0.0)) / mean

    def idc(self, width_s: int) -> float | None:
        """Variance over mean of the counts of full windows; None with fewer than 30."""
        k, _, total, squares = self.windows[WIDTHS_S.index(width_s)]
        if k < 30 or total <= 0:
            return None
        mean = total / k
        return float((squares - k * mean * mean) / (k - 1) / mean)

    def state(self) -> dict[str, Any]:
        """As arrays, for a journal."""
        whole = np.array([self.rows, self.first_ns, self.last_ns], dtype=np.int64)
        hashed = np.array(self.hash_sum, dtype=np.uint64)
        filled = np.array(sorted(self.filled))
        return {"whole": whole, "hash": hashed, "gaps": self.gaps, "windows": self.windows, "filled": filled}  # fmt: skip

    @classmethod
    def of_state(cls, d: dict[str, Any]) -> Observed:
        rows, first, last = (int(x) for x in d["whole"])
        filled = frozenset(map(str, d["filled"]))
        return cls(rows, int(d["hash"]), first, last, d["gaps"].copy(), filled, d["windows"].copy())

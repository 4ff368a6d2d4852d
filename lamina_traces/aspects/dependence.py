"""How input and output lengths depend on each other: rank correlations, and the copula on a square grid.

One pass with tables of ranks that the margins' counts give beforehand, so no row is sorted: mid-ranks make
Spearman's ρ exact, and ties are spread over the ranks they share by a hash of the row's number, so that spikes
neither pile up in one cell nor make the sides depend on each other.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl

from ..counts import Binning
from ..distributions import K_ANONYMITY
from ..intervals import Blocks, Interval
from ..units import short

Array = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

CELLS = 32
"""cells a side of the copula on large traces; small traces get fewer."""
FINE = 256
"""cells a side of the table that Kendall's τ is computed on; exact where a side has no more distinct values."""
_STEPS = (1103515245, 1597334677)
_MODULUS = 1 << 31


def rank_correlation(weights: Array, x: Array, y: Array) -> Array:
    """[draws] weighted Spearman correlation of ``x`` and ``y`` [points] by mid-ranks; ``weights`` [draws, points]. NaN
    where a side is constant."""
    ranks = []
    for v in (x, y):
        _, group = np.unique(v, return_inverse=True)
        held = np.zeros((len(weights), int(group.max()) + 1))
        np.add.at(held.T, group, weights.T)
        ranks.append((np.cumsum(held, axis=1) - held / 2)[:, group])
    whole = weights.sum(axis=1, keepdims=True)
    a, b = (r - (weights * r).sum(axis=1, keepdims=True) / whole for r in ranks)
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.asarray(
            (weights * a * b).sum(axis=1)
            / np.sqrt((weights * a * a).sum(axis=1) * (weights * b * b).sum(axis=1))
        )


class _Side:
    """Tables by bin of one side: mid-rank, first rank and width as shares, cell of the fine table."""

    def __init__(self, n: Array, cells: int) -> None:
        total = float(n.sum())
        upto = np.cumsum(n)
        self.mid = (upto - n / 2) / total - 0.5
        self.low = (upto - n) / total * cells
        self.width = n / total * cells / _MODULUS
        self.last = cells - 1
        used = np.flatnonzero(n)
        self.fine = np.zeros(len(n), dtype=np.int64)
        if len(used) <= FINE:
            self.fine[used] = np.arange(len(used))
        else:
            self.fine[used] = np.minimum(((upto - n / 2) / total * FINE)[used], FINE - 1).astype(
                np.int64
            )

    def cell(self, at: Ints, seed: Ints, step: int) -> Ints:
        """The cell of each row, ties spread over the ranks they share by a hash of the row's place."""
        hashed = ((seed & (_MODULUS - 1)) * step + 12345) & (_MODULUS - 1)
        rank = self.low[at] + self.width[at] * hashed
        out: Ints = np.minimum(rank, self.last).astype(np.int64)
        return out


def _sums(x: Array, y: Array) -> Array:
    return np.array([len(x), x.sum(), y.sum(), x @ x, y @ y, x @ y])


class Ranks:
    """A pass over input and output tokens alone. ``margins``: rows by bin of each side, of rows that have both lengths;
    ``window_rows``: rows of each window, which a pass before has counted, so that no time need be read again.

    ``pairs`` rows fill a grid of at most CELLS a side, less on small traces.
    """

    columns: Mapping[str, str] = {"input_tokens": "input_tokens", "output_tokens": "output_tokens"}

    def __init__(self, binning: Binning, margins: tuple[Array, Array], window_rows: Ints) -> None:
        pairs = float(margins[0].sum())
        self.cells = min(CELLS, 2 ** int(math.log2(max(1.0, math.sqrt(pairs / (2 * K_ANONYMITY))))))
        self.binning = binning
        self.sides = tuple(_Side(n, self.cells) for n in margins)
        self.grid = np.zeros(self.cells * self.cells)
        self.fine = np.zeros(FINE * FINE)
        self.sums = np.zeros((len(window_rows) + 1, 6))
        """per window, and in the end of the rows without a time: pairs, Σr, Σs, Σr², Σs², Σrs of the global mid-ranks r, s"""
        self.raw = np.zeros(6)
        """the same of the lengths themselves, for Pearson's correlation"""
        self._ends = np.cumsum(window_rows)
        self._at = 0

    def add(self, rows: Mapping[str, pl.Series]) -> None:
        x, y = rows["input_tokens"], rows["output_tokens"]
        first, self._at = self._at, self._at + len(x)
        inside = self._ends[(self._ends > first) & (self._ends < self._at)] - first
        edges = np.concatenate([[0], inside, [len(x)]])
        window = int(np.searchsorted(self._ends, first, side="right"))
        place = np.arange(first, self._at)
        if x.null_count() or y.null_count():
            both = x.is_not_null() & y.is_not_null()
            edges = np.concatenate([[0], np.cumsum(both.to_numpy())])[edges]
            x, y, place = x.filter(both), y.filter(both), place[both.to_numpy()]
        if not len(x):
            return
        xs, ys = x.to_numpy(), y.to_numpy()
        a, b = self.binning.index(xs), self.binning.index(ys)
        left, right = self.sides
        at = left.cell(a, place, _STEPS[0]) * self.cells + right.cell(b, place, _STEPS[1])
        self.grid += np.bincount(at, minlength=self.cells**2)
        self.fine += np.bincount(left.fine[a] * FINE + right.fine[b], minlength=FINE * FINE)
        self.raw += _sums(xs.astype(np.float64), ys.astype(np.float64))
        r, s = left.mid[a], right.mid[b]
        for k, (start, end) in enumerate(itertools.pairwise(edges.tolist()), window):
            self.sums[k] += _sums(r[start:end], s[start:end])

    @property
    def pairs(self) -> int:
        return int(self.raw[0])

    def spearman(self) -> float:
        return correlation(self.sums.sum(axis=0))

    def pearson(self) -> float:
        return correlation(self.raw)

    def kendall(self) -> float:
        """τ-b on the fine table: exact where both sides have at most 256 distinct values."""
        n = self.fine.reshape(FINE, FINE)
        before = np.zeros((FINE + 1, FINE + 1))
        before[1:, 1:] = n.cumsum(axis=0).cumsum(axis=1)
        concordant = float((n * before[:-1, :-1]).sum())
        mirrored = n[:, ::-1]
        before[1:, 1:] = mirrored.cumsum(axis=0).cumsum(axis=1)
        discordant = float((mirrored * before[:-1, :-1]).sum())
        total = float(n.sum())
        whole = total * (total - 1) / 2
        ties = [float((m * (m - 1)).sum()) / 2 for m in (n.sum(axis=1), n.sum(axis=0))]
        scale = math.sqrt(max(whole - ties[0], 0.0) * max(whole - ties[1], 0.0))
        return (concordant - discordant) / scale if scale > 0 else 0.0

    def copula(self) -> Array:
        """Counts of pairs by cell of the rank grid."""
        return self.grid.reshape(self.cells, self.cells)


class PartRanks:
    """A pass over further counts and the whole that each is part of. ``parts``: name → its whole; ``tables``: rows by bin of
    every column."""

    def __init__(
        self, binning: Binning, parts: Mapping[str, str], tables: Mapping[str, npt.NDArray[Any]]
    ) -> None:
        self.binning, self.parts = binning, parts
        self.columns: Mapping[str, str] = {c: c for c in dict.fromkeys((*parts, *parts.values()))}
        self.mid = {c: _Side(tables[c].astype(np.float64), 1).mid for c in self.columns}
        self.sums = {name: np.zeros(6) for name in parts}

    def add(self, rows: Mapping[str, pl.Series]) -> None:
        for name, whole in self.parts.items():
            both = rows[name].is_not_null() & rows[whole].is_not_null()
            if both.any():
                x, y = (
                    self.mid[c][self.binning.index(rows[c].filter(both).to_numpy())]
                    for c in (name, whole)
                )
                self.sums[name] += _sums(x, y)

    def spearman(self) -> dict[str, float]:
        """By name."""
        return {name: short(correlation(s), 3) for name, s in self.sums.items()}


def correlation(sums: Array) -> float:
    """From n, Σx, Σy, Σx², Σy², Σxy; of constants there is no dependence: 0."""
    n, x, y, xx, yy, xy = (float(v) for v in sums)
    if n < 2:
        return 0.0
    spread = (xx - x * x / n) * (yy - y * y / n)
    return (xy - x * y / n) / math.sqrt(spread) if spread > 1e-12 * xx * yy else 0.0


def correlations(sums: Array) -> Array:
    """``correlation`` of each row."""
    n, x, y, xx, yy, xy = np.moveaxis(sums, -1, 0)
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.asarray((xy - x * y / n) / np.sqrt((xx - x * x / n) * (yy - y * y / n)))


def correlation_interval(blocks: Blocks, r: float, sums: Array) -> Interval | None:
    """Of a correlation, on Fisher's scale, from its ``sums`` by window."""
    z = np.arctanh(np.clip(correlations(blocks.sums(sums)), -0.99999, 0.99999))
    found = blocks.interval(math.atanh(min(max(r, -0.99999), 0.99999)), z, logs=False)
    if found is None:
        return None
    low, high = math.tanh(found.low), math.tanh(found.high)
    return Interval(short(low, 4), short(high, 4), found.method)


def gaussian_copula(rho: float, cells: int) -> Array:
    """[cells, cells] shares of a Gaussian copula with Spearman's ρ: its Pearson correlation is 2·sin(π·ρ/6) (Kruskal 1958)."""
    from scipy import special

    r = 2 * math.sin(math.pi * min(max(rho, -0.999), 0.999) / 6)
    points = 64
    z = special.ndtri((np.arange(cells * points) + 0.5) / (cells * points))
    upto = special.ndtr((special.ndtri(np.linspace(0, 1, cells + 1))[None, :] - r * z[:, None]) / math.sqrt(1 - r * r))  # fmt: skip
    return np.asarray(np.diff(upto, axis=1).reshape(cells, points, cells).mean(axis=1) / cells)


def shrunk(shares: Array, pairs: float, rho: float) -> Array:
    """Shares of a copula's cells, nearer to the Gaussian copula of their ρ the more they are the chance of ``pairs`` rows: the
    weight that minimises the squared error in the mean (James & Stein 1961)."""
    target = gaussian_copula(rho, len(shares))
    apart = float(((shares - target) ** 2).sum())
    chance = float((shares * (1 - shares)).sum()) / max(pairs, 1.0)
    kept = max(0.0, 1 - chance / apart) if apart > 0 else 0.0
    return kept * shares + (1 - kept) * target


def suppressed(grid: Array) -> Array:
    """Cells that fewer than k rows share are averaged with their neighbours: in blocks of 2×2, and where that
    is not enough of 4×4 and so on, so that no single row can be read and dependence stays in its place. Empty
    cells hold no row and stay empty unless their block is averaged. The side is a power of two.
    """
    out = grid.copy()
    group = grid.copy()  # rows that share each cell's value
    side = 2
    while side <= len(grid):
        n = len(grid) // side
        blocks = out.reshape(n, side, n, side)
        shared = group.reshape(n, side, n, side)
        rare = np.asarray(((shared > 0) & (shared < K_ANONYMITY)).any(axis=(1, 3)))
        total = blocks.sum(axis=(1, 3))
        spread = rare[:, None, :, None]
        out = np.where(spread, total[:, None, :, None] / side**2, blocks).reshape(grid.shape)
        group = np.where(spread, total[:, None, :, None], shared).reshape(grid.shape)
        side *= 2
    return out

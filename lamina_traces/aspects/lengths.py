"""Lengths: input and output tokens, how they depend on each other, and how both change with time and load.

Families describe; a quantile grid a side and the empirical copula of their ranks generate. Values that many
requests share are atoms, the longest may be a cap, and an output that ended by ``length`` says only that it would
have been longer than its limit.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import polars as pl

from ..counts import Binning, Counts, count_into, significant
from ..distributions import (
    K_ANONYMITY,
    POSITIVE,
    Atoms,
    Grid,
    find_atoms,
    fit_families,
)
from ..errors import Notice
from ..intervals import Blocks, Interval, homogeneous
from ..units import short
from .dependence import PartRanks, Ranks, correlation_interval, shrunk, suppressed
from .length_distances import distances as distances
from .length_laws import NAME as NAME
from .length_laws import OTHERS as OTHERS
from .length_laws import SIDES as SIDES
from .length_laws import VERSION as VERSION
from .length_laws import Lengths as Lengths
from .length_laws import Margin as Margin
from .length_laws import Tail as Tail
from .length_laws import from_dict as from_dict
from .length_laws import whole_of
from .mix import mix_of
from .timeline import Timeline, scan

if TYPE_CHECKING:
    from ..store import Trace

TABLES = ("llm_requests",)
NEEDS = ("input_tokens", "output_tokens")
RECORD = "log prompt and completion tokens of each request, as every OpenAI-compatible server returns them in 'usage'"
COUNT_KEYS = frozenset({"rows", "pairs"})

Array = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

SHOWN = {"p10": 0.1, "p25": 0.25, "p50": 0.5, "p75": 0.75, "p90": 0.9, "p95": 0.95, "p99": 0.99}
TAIL_FROM = 0.95

_FINE = Binning(14, 1.0, "tokens")
_COARSE = Binning(4, 1.0, "tokens")
_COARSE_BINS = 256
"""enough for any INTEGER."""


_COARSE_OF_SMALL = _COARSE.index(np.arange(1 << 16, dtype=np.int64))


def _coarse_of(x: npt.NDArray[Any]) -> Ints:
    """Coarse bins; those of lengths up to 65,535 are looked up."""
    found: Ints = _COARSE_OF_SMALL[x] if x.max() < 1 << 16 else _COARSE.index(x.astype(np.int64))
    return found


# --- measuring -------------------------------------------------------------------------------------


class Pass:
    """Frequency tables of every recorded count, and coarse ones by window for input and output."""

    def __init__(self, trace: Trace, timeline: Timeline | None) -> None:
        self.timeline = timeline
        self.names = tuple(c for c in ("input_tokens", "output_tokens", *OTHERS) if trace.has(c))
        self.ends = trace.has("finish_reason") and trace.has("output_tokens")
        self.columns: Mapping[str, str] = {"arrival_ns": "arrival_ns"} | {c: c for c in self.names}
        if self.ends:
            self.columns = {**self.columns, "cut": "COALESCE(finish_reason = 'length', FALSE)"}
        self.n = {c: np.zeros(_FINE.size, dtype=np.int64) for c in self.names}
        self.total = {c: np.zeros(_FINE.size) for c in self.names}
        self.alone = {s: np.zeros(_FINE.size, dtype=np.int64) for s in SIDES}
        """rows that have this side and not the other."""
        self.cut = np.zeros(_FINE.size, dtype=np.int64)
        windows = timeline.windows if timeline else 1
        self.window_n = {s: np.zeros((windows, _COARSE_BINS)) for s in SIDES}
        self.window_rows = np.zeros(timeline.windows if timeline else 0, dtype=np.int64)

    def add(self, rows: Mapping[str, pl.Series]) -> None:
        whole = len(rows["arrival_ns"])
        timed = whole - rows["arrival_ns"].null_count() if self.timeline else 0
        cuts = (
            self.timeline.cuts(rows["arrival_ns"].head(timed).to_numpy()) if self.timeline else []
        )
        for window, a, b in cuts:
            self.window_rows[window] += b - a
        columns = {name: rows[name] for name in self.names}
        for name, column in columns.items():
            missing = column.null_count()
            x = (column.drop_nulls() if missing else column).to_numpy()
            if not len(x):
                continue
            at = _FINE.index(x)
            count_into(self.n[name], at)
            big = x >= 1 << _FINE.bits
            if big.any():
                count_into(self.total[name], at[big], x[big])
            side = name.removesuffix("_tokens")
            if side in SIDES and cuts:
                there = (
                    np.concatenate([[0], np.cumsum(column.is_not_null().to_numpy())])
                    if missing
                    else None
                )
                coarse = _coarse_of(x)
                for window, a, b in cuts:
                    if there is not None:
                        a, b = there[a], there[b]
                    count_into(self.window_n[side][window], coarse[a:b])
            if name == "output_tokens" and self.ends:
                cut = rows["cut"].filter(column.is_not_null()).to_numpy()
                count_into(self.cut, at[cut])
        self._pair(columns)

    def _pair(self, columns: Mapping[str, pl.Series]) -> None:
        """Rows that have one length alone, so that those with both are the difference."""
        x, y = columns.get("input_tokens"), columns.get("output_tokens")
        if x is None or y is None or not (x.null_count() or y.null_count()):
            return
        alone = x.is_null() != y.is_null()
        if alone.any():
            for s, column in zip(SIDES, (x, y), strict=True):
                found = column.filter(alone & column.is_not_null()).to_numpy().astype(np.int64)
                if len(found):
                    count_into(self.alone[s], _FINE.index(found))

    def counts(self, name: str) -> Counts:
        """Counts of one recorded column."""
        n = self.n[name]
        exact = np.arange(len(n)) < 1 << _FINE.bits
        total = np.where(exact, np.arange(len(n)) * n, self.total[name])
        return _FINE.counts(n.astype(np.float64), total)

    def pairs(self) -> tuple[Array, Array]:
        """Rows by bin of each side, of rows that have both."""
        left, right = (self.n[f"{s}_tokens"] - self.alone[s] for s in SIDES)
        return left.astype(np.float64), right.astype(np.float64)


def fit(trace: Trace, notices: list[Notice], seen: Pass | None = None) -> Lengths | None:
    """Fit the lengths of ``llm_requests``. Needs 20 rows with both lengths."""
    if seen is None:
        seen = Pass(trace, Timeline.of(trace))
        scan(trace, [seen])
    enough = (
        all(f"{s}_tokens" in seen.n for s in SIDES)
        and float(seen.pairs()[0].sum()) >= 2 * K_ANONYMITY
    )
    if not enough:
        text = "fewer than 20 requests record both lengths: lengths are not fitted"
        notices.append(Notice("too-few-rows", text, NAME))
        return None
    further = {name: c for name in seen.names[2:] if (c := seen.counts(name)).rows >= 2 * K_ANONYMITY}  # fmt: skip
    ranks = Ranks(_FINE, seen.pairs(), seen.window_rows)
    of_whole = PartRanks(_FINE, {name: whole_of(name) for name in further}, seen.n)
    scan(trace, [ranks, of_whole] if further else [ranks])
    margins = {s: _margin(s, seen, notices) for s in SIDES}
    blocks = _blocks(ranks.sums[:-1])
    rho = ranks.spearman()
    interval = None if blocks is None else correlation_interval(blocks, rho, ranks.sums[:-1])
    return Lengths(
        input=margins["input"],
        output=margins["output"],
        pairs=ranks.pairs,
        spearman=rho,
        pearson=ranks.pearson(),
        copula=significant(shrunk(suppressed(ranks.copula()) / ranks.pairs, ranks.pairs, rho), 4),
        kendall=short(ranks.kendall(), 5),
        spearman_interval=interval,
        others={name: _plain(c) for name, c in further.items()},
        of_whole=of_whole.spearman(),
        mix=mix_of(seen.timeline, {s: seen.window_n[s] for s in SIDES}, _COARSE, ranks.sums[:-1]) if seen.timeline else None,
    )  # fmt: skip


def _blocks(sums: Array) -> Blocks | None:
    """Blocks over the windows' mean product of ranks."""
    with np.errstate(divide="ignore", invalid="ignore"):
        product = sums[:, 5] / sums[:, 0]
    known = sums[:, 0] > 0
    if known.sum() < 2:
        return None
    return Blocks.of(np.where(known, product, product[known].mean()))


def _plain(c: Counts) -> Margin:
    """A margin that is described and not fitted."""
    return Margin(
        grid=Grid.of(c, knots=65),
        minimum=_least(c),
        quantiles=_quantiles(c),
        families=(),
        zero_share=short(float(c.n[c.x <= 0].sum() / c.rows), 5),
    )


def _least(c: Counts) -> float:
    return float(c.quantile(np.array([(K_ANONYMITY - 1) / (c.rows - 1)]))[0])


def _quantiles(c: Counts) -> dict[str, float]:
    """Those with ten rows beyond them on either side: others would tell single rows."""
    told = {k: q for k, q in SHOWN.items() if min(q, 1 - q) * c.rows >= K_ANONYMITY}
    if not told:
        return {}
    found = c.quantile(np.array(list(told.values())))
    return {k: float(v) for k, v in zip(told, found, strict=True)}


def _margin(side: str, seen: Pass, notices: list[Notice]) -> Margin:
    c = seen.counts(f"{side}_tokens")
    zeros = float(c.n[c.x <= 0].sum())
    if zeros:
        text = f"{zeros:,.0f} requests have 0 {side} tokens; the families describe the others, the grid keeps all"
        notices.append(Notice("zero-length", text, NAME))
    cut = None
    if side == "output" and seen.cut.any():
        cut = _FINE.counts(seen.cut.astype(np.float64), np.zeros(len(seen.cut)))
    m = margin_of(c, cut)
    low, high = m.minimum, float(m.grid.values[-1])
    inside = {
        k: replace(i, low=max(i.low, low), high=min(i.high, high)) if low < high else i
        for k, i in _intervals(c, seen.window_n[side]).items()
    }
    return replace(m, intervals=inside)


def margin_of(c: Counts, cut: Counts | None = None) -> Margin:
    """A margin from its counts. ``cut``: those of them that ended by their limit, so would have been longer."""
    zeros = float(c.n[c.x <= 0].sum())
    positive = c.where(c.x > 0)
    right = None
    if cut is not None:
        right, positive = _cut_apart(cut, positive)
    atoms = find_atoms(positive)
    families = fit_families(
        positive, (*POSITIVE, "lognormal-mixture"), whole_numbers=True, right=right, atoms=atoms
    )
    return Margin(
        grid=Grid.of(c),
        minimum=_least(c),
        quantiles=_quantiles(c),
        families=tuple(families),
        atoms=atoms,
        zero_share=short(zeros / c.rows, 5),
        cut_share=short(right.rows / c.rows, 5) if right is not None else 0.0,
        tail=_tail(positive, atoms),
    )


def _cut_apart(cut: Counts, positive: Counts) -> tuple[Counts, Counts]:
    """(outputs that ended by their limit, the others)."""
    at = np.searchsorted(positive.lo, cut.lo)
    right = Counts.exact(positive.x[at], cut.n, "tokens")
    n = positive.n.copy()
    n[at] -= cut.n
    rest = Counts(positive.lo, positive.hi, n, n * positive.x, positive.unit)
    return right, rest.where(n > 0)


def _tail(c: Counts, atoms: Atoms) -> Tail | None:
    """Beyond the 95th percentile, with 100 rows at least; none where a cap cuts it."""
    if atoms.cap is not None or c.rows * (1 - TAIL_FROM) < 100:
        return None
    threshold = math.floor(float(c.quantile(np.array([TAIL_FROM]))[0]))
    above = c.where(c.x >= threshold + 1)
    # whole numbers beyond u, each standing for the half below and above it
    excess = Counts.exact(above.x - threshold - 0.5, above.n, "tokens")
    found = fit_families(excess, ("gpd",))
    return Tail(float(threshold), short(above.rows / c.rows, 4), found[0]) if found else None


def _intervals(c: Counts, windows: Array) -> dict[str, Interval]:
    """Of the mean and the quantiles, by moving blocks over the windows' coarse tables."""
    rows = windows.sum(axis=1)
    if rows.sum() < 2 * K_ANONYMITY:
        return {}
    centre = _centres(c)
    logs = np.log(np.maximum(centre, 0.5))
    sums = windows @ logs
    mean = float(sums.sum() / rows.sum())
    spread = float((windows.sum(axis=0) @ (logs - mean) ** 2) / rows.sum())
    series = np.where(rows > 0, sums / np.maximum(rows, 1), mean)
    blocks = Blocks.of(series, homogeneous(rows, sums, spread))
    if blocks is None:
        return {}
    draws = blocks.sums(windows)
    total = draws.sum(axis=1)
    out = {"mean": blocks.interval(c.mean, draws @ centre / total, c.var())}
    whole = windows.sum(axis=0)
    for name in ("p50", "p90", "p99"):
        q = SHOWN[name]
        if (1 - q) * c.rows < 10:
            continue
        exact = float(c.quantile(np.array([q]))[0])
        own = _coarse_quantile(whole[None, :], q)[0]
        if exact > 0 and own > 0:  # the draws' coarse tables say by what factor they differ
            out[name] = blocks.interval(exact, exact * _coarse_quantile(draws, q) / own)
    return {k: i for k, i in out.items() if i is not None}


def _centres(c: Counts) -> Array:
    """Mean value of each coarse bin."""
    at = _COARSE.index(np.rint(c.x).astype(np.int64))
    n = np.bincount(at, weights=c.n, minlength=_COARSE_BINS)
    total = np.bincount(at, weights=c.total, minlength=_COARSE_BINS)
    return np.asarray(total / np.maximum(n, 1e-300) * (n > 0))


def _coarse_quantile(tables: Array, q: float) -> Array:
    """Quantile of each row's table of coarse bins, linear inside a bin."""
    upto = np.cumsum(tables, axis=1)
    want = q * upto[:, -1]
    at = np.minimum((upto < want[:, None]).sum(axis=1), _COARSE_BINS - 1)
    lo, hi = _COARSE.edges(at)
    before = (
        np.take_along_axis(upto, at[:, None], axis=1)[:, 0]
        - np.take_along_axis(tables, at[:, None], axis=1)[:, 0]
    )
    inside = np.take_along_axis(tables, at[:, None], axis=1)[:, 0]
    return np.asarray(lo + (want - before) / np.maximum(inside, 1e-300) * (hi + 1 - lo))

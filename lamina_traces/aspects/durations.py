"""Durations: what jobs, repairs, cold starts and invocations have in common, so that each is described alike.

Quantiles come from the rows, with Kaplan & Meier's estimate where some were not seen to their end; laws are fitted by
maximum likelihood, censored rows as survivors; intervals come from blocks of windows of time (see ``intervals``).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
from scipy import special

from ..counts import Counts
from ..distributions import K_ANONYMITY, POSITIVE, Fitted, Grid, fit_families, with_intervals
from ..errors import ModelError
from ..intervals import FEWEST_WINDOWS, LEVEL, Blocks, Interval, homogeneous, read_intervals
from ..survival import Survival, quantile_interval
from ..units import LONGEST_S, format_seconds, short

if TYPE_CHECKING:
    import pyarrow as pa

    from ..store import Trace

Array = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

LEVELS = {"p10": 0.1, "p25": 0.25, "p50": 0.5, "p75": 0.75, "p90": 0.9, "p99": 0.99}
FEWEST_ROWS = 20
"""rows below which no law is fitted and no grid is kept."""
KNOTS = 129
FEW_CENSORED = 0.01
"""share of censored rows up to which they hardly move a mean or an interval."""


@dataclass(frozen=True)
class Durations:
    """Seconds. ``rows`` were seen to their end, ``censored`` were not. ``zero_share``, ``mean_s``, ``cv`` are of those
    seen to their end, zeros included; ``quantiles_s`` are of all, by Kaplan & Meier where some are censored.
    ``families`` describe what is longer than 0, best AIC first. ``intervals``: of the mean and of quantiles, by name.
    """

    rows: float
    censored: float
    zero_share: float
    mean_s: float
    cv: float
    quantiles_s: Mapping[str, float]
    grid: Grid | None
    families: tuple[Fitted, ...] = ()
    survival: Survival | None = None
    intervals: Mapping[str, Interval] = field(default_factory=dict)

    @property
    def best(self) -> Fitted | None:
        return self.families[0] if self.families else None

    def to_dict(self) -> dict[str, Any]:
        return {
            "rows": self.rows,
            "censored": self.censored,
            "zero_share": self.zero_share,
            "mean_s": self.mean_s,
            "cv": self.cv,
            "quantiles_s": dict(self.quantiles_s),
            "grid": self.grid.to_dict() if self.grid else None,
            "families": [f.to_dict() for f in self.families],
            "survival": self.survival.to_dict() if self.survival else None,
            "intervals": {k: i.to_dict() for k, i in self.intervals.items()},
        }

    @classmethod
    def from_dict(cls, d: dict[str, Any]) -> Durations:
        found = cls(
            float(d["rows"]), float(d["censored"]), float(d["zero_share"]), float(d["mean_s"]), float(d["cv"]),
            {str(k): float(v) for k, v in d["quantiles_s"].items()},
            Grid.from_dict(d["grid"]) if d["grid"] else None,
            tuple(Fitted.from_dict(f) for f in d["families"]),
            Survival.from_dict(d["survival"]) if d["survival"] else None,
            read_intervals(d["intervals"]),
        )  # fmt: skip
        numbers = [found.rows, found.censored, found.mean_s, found.cv, *found.quantiles_s.values()]
        ordered = [found.quantiles_s[k] for k in LEVELS if k in found.quantiles_s]
        sane = (
            all(math.isfinite(v) and v >= 0 for v in numbers)
            and all(s <= LONGEST_S for s in (found.mean_s, *found.quantiles_s.values()))
            and (found.grid is None or found.grid.curve.values[-1] <= LONGEST_S)
            and 0 <= found.zero_share <= 1
            and ordered == sorted(ordered)
        )
        if not sane:
            raise ModelError(
                "durations of the profile must be finite, positive and in order",
                "fit the profile again",
            )
        return found

    def told(self, name: str) -> str:
        """``median 12 s [11 s, 13 s]``: a quantile or the mean with its interval."""
        value = self.mean_s if name == "mean" else self.quantiles_s.get(name)
        i = self.intervals.get(name)
        ends = f" [{format_seconds(i.low)}, {format_seconds(i.high)}]" if i else ""
        return f"{'median' if name == 'p50' else name} {format_seconds(value)}{ends}"

    def middle(self) -> str:
        """Median and mean for a sentence. With more than a hundredth censored the mean of the others is too short, so
        it is the best law's."""
        if self.censored <= FEW_CENSORED * self.rows:
            return f"{self.told('p50')}, {self.told('mean')}"
        law = self.best
        mean = law.mean if law else math.inf
        return self.told("p50") + (
            f", mean {format_seconds(mean)} by the {law.family} law"
            if law and math.isfinite(mean)
            else ""
        )


def describe(
    ended: Counts,
    censored: Counts | None = None,
    *,
    tick_s: float = 0.0,
    names: Sequence[str] = POSITIVE,
    knots: int = KNOTS,
    windowed: Windowed | None = None,
    clock: bool = True,
) -> Durations:
    """Durations from their Counts in seconds. ``tick_s``: step in which they are recorded; zeros then stand for less
    than half of it, without it zeros are left out of the laws. ``windowed``: the ended ones by window of time, for
    intervals; without it there are none, unless the trace has no ``clock``: then rows pass for independent.
    Raises ModelError where none was seen to its end.
    """
    hidden = censored if censored is not None and censored.rows else None
    curve = Survival.of(ended, hidden) if hidden is not None else None
    rows = ended.rows + (hidden.rows if hidden is not None else 0.0)
    quantiles = {}
    for name, p in tellable(LEVELS, rows).items():
        value = float(ended.quantile(p)) if curve is None else curve.quantile(p)
        if value is not None:
            quantiles[name] = short(value, 6)
    whole = ended.mean
    laws: list[Fitted] = []
    if ended.rows >= FEWEST_ROWS:
        positive = ended if tick_s > 0 else ended.where(ended.x > 0)
        longer = hidden.where(hidden.x > 0) if hidden is not None else None
        laws = fit_families(positive, names, tick=tick_s, right=longer) if len(positive) else []
    found = Durations(
        rows=ended.rows,
        censored=rows - ended.rows,
        zero_share=short(ended.n[ended.x == 0].sum() / ended.rows, 6),
        mean_s=short(whole),
        cv=short(math.sqrt(ended.var()) / whole, 5) if whole > 0 else 0.0,
        quantiles_s=quantiles,
        grid=Grid.of(ended, knots) if ended.rows >= FEWEST_ROWS else None,
        families=tuple(rounded(f) for f in laws),
        survival=curve.thinned(32) if curve is not None and rows >= FEWEST_ROWS else None,
    )
    return _with_intervals(found, ended, curve, windowed, tick_s, clock)


def tellable(levels: Mapping[str, float], rows: float) -> dict[str, float]:
    """The quantiles that ten rows lie beyond, on either side: what fewer share is not told."""
    return {k: p for k, p in levels.items() if min(p, 1 - p) * rows >= K_ANONYMITY - 1e-9}


def rounded(f: Fitted) -> Fitted:
    """A fit as a profile stores it."""
    return replace(
        f,
        params={k: short(v) for k, v in f.params.items()} if "w1" not in f.params else f.params,
        aic_per_row=short(f.aic_per_row),
        ks_d=short(f.ks_d, 5),
        w1_log10=short(f.w1_log10, 5),
    )  # fmt: skip


def _with_intervals(
    d: Durations, c: Counts, curve: Survival | None, windowed: Windowed | None, tick_s: float, clock: bool
) -> Durations:  # fmt: skip
    blocks = windowed.blocks() if windowed is not None else None
    alike = not clock if windowed is None else blocks is None and windowed.alike()
    if c.rows < FEWEST_ROWS or (blocks is None and not alike):
        return d
    rows = d.rows + d.censored
    found: dict[str, Interval | None] = {}
    if windowed is not None and blocks is not None:
        found["mean"] = windowed.mean_interval(blocks, d.mean_s)
    else:
        half = float(special.ndtri(0.5 + LEVEL / 2)) * math.sqrt(c.var() / c.rows)
        low, high = (short(max(0.0, d.mean_s + s * half), 4) for s in (-1, 1))
        found["mean"] = Interval(low, high, "independent rows", c.rows)
    for name in ("p50", "p90", "p99"):
        if name not in d.quantiles_s:
            continue
        if curve is not None and d.censored > FEW_CENSORED * rows:
            found[name] = curve.quantile_interval(LEVELS[name])
        elif windowed is not None and blocks is not None:
            found[name] = windowed.quantile_interval(blocks, c, LEVELS[name])
        else:
            found[name] = quantile_interval(c, LEVELS[name])
    laws = d.families
    if laws and windowed is not None and blocks is not None:
        drawn = windowed.drawn(blocks, tick_s > 0)
        laws = (with_intervals(laws[0], blocks, drawn, tick=tick_s), *laws[1:])
    return replace(d, families=laws, intervals={k: i for k, i in found.items() if i is not None})


@dataclass(frozen=True, eq=False)
class Windowed:
    """A frequency table cut into windows of time: ``n`` values and their ``total`` seconds, [windows, bins]."""

    n: Array
    total: Array

    @classmethod
    def of(cls, table: pa.Table, windows: int) -> Windowed:
        """From rows (k, bin, n, total_s) of a query; a window without a row held none."""
        k, n = table["k"].to_numpy().astype(np.int64), table["n"].to_numpy().astype(np.float64)
        inside = (k >= 0) & (k < windows)
        _, bins = np.unique(table["bin"].to_numpy(), return_inverse=True)
        shape = (windows, int(bins.max(initial=-1)) + 1)
        out = cls(np.zeros(shape), np.zeros(shape))
        np.add.at(out.n, (k[inside], bins[inside]), n[inside])
        np.add.at(out.total, (k[inside], bins[inside]), table["total_s"].to_numpy()[inside])
        return out

    @property
    def counts(self) -> Counts:
        """All windows together, a value a bin."""
        return _table(self.n.sum(axis=0), self.total.sum(axis=0))

    def blocks(self) -> Blocks | None:
        """Blocks by how the windows' sums swing around the mean; None where fewer than 16 windows hold a value."""
        rows, sums = self.n.sum(axis=1), self.total.sum(axis=1)
        if (rows > 0).sum() < FEWEST_WINDOWS:
            return None
        all_ = self.counts
        return Blocks.of(sums - all_.mean * rows, homogeneous(rows, sums, all_.var()))

    def alike(self) -> bool:
        """Whether the windows could share one mean: then, few as they are, rows may pass for independent."""
        rows, sums = self.n.sum(axis=1), self.total.sum(axis=1)
        return homogeneous(rows, sums, self.counts.var()) >= 1 - LEVEL

    def mean_interval(self, blocks: Blocks, mean: float) -> Interval | None:
        """95 % of the mean."""
        drawn = blocks.sums(np.stack([self.total.sum(axis=1), self.n.sum(axis=1)], axis=1))
        with np.errstate(divide="ignore", invalid="ignore"):
            return blocks.interval(mean, drawn[:, 0] / drawn[:, 1], self.counts.var())

    def quantile_interval(self, blocks: Blocks, c: Counts, p: float) -> Interval | None:
        """95 % of the ``p`` quantile of the finer table ``c``."""
        columns = self.n.sum(axis=0) > 0
        x = self.total.sum(axis=0)[columns] / self.n.sum(axis=0)[columns]
        beyond = self.n[:, columns][:, x > float(c.quantile(p))].sum(axis=1)
        rows = self.n.sum(axis=1)
        if beyond.sum() <= 0:
            return None
        # bins are coarser than ``c``: the share beyond the quantile is p's own, its doubt is the bins'
        return quantile_interval(c, p, blocks, beyond * ((1 - p) * rows.sum() / beyond.sum()), rows)

    def drawn(self, blocks: Blocks, zeros: bool = True) -> list[Counts]:
        """A table for each draw of blocks, for fits; without the zeros where those are no part of a law."""
        n, total = blocks.sums(self.n), blocks.sums(self.total)
        if not zeros:
            n = np.where(total > 0, n, 0.0)
        return [_table(a, b).coarse(8) for a, b in zip(n, total, strict=True) if a.sum() > 1]


def _table(n: Array, total: Array) -> Counts:
    used = n > 0
    x = total[used] / n[used]
    order = np.argsort(x, kind="stable")
    return Counts(x[order], x[order], n[used][order], total[used][order], "s")


def binned(table: pa.Table, rows: npt.NDArray[np.bool_] | None = None) -> Counts:
    """Counts from rows (lo_s, hi_s, n, total_s) of a query, each a bin; ``rows`` picks some."""
    keep = np.ones(table.num_rows, dtype=bool) if rows is None else rows
    lo, hi, n, total = (
        table[c].to_numpy()[keep].astype(np.float64) for c in ("lo_s", "hi_s", "n", "total_s")
    )
    order = np.argsort(lo, kind="stable")
    lo, hi, n, total = lo[order], hi[order], n[order], total[order]
    return Counts(lo, hi, n, np.where(lo == hi, n * lo, total), "s")


def resolution_s(c: Counts) -> float:
    """The coarsest of 1 s, 1 ms, 1 µs in whose steps all values are recorded; 0 for none of them."""
    for step in (1.0, 1e-3, 1e-6):
        ends = np.concatenate([c.lo, c.hi]) / step
        if bool((np.abs(ends - np.round(ends)) < 1e-6 * np.maximum(1.0, ends * 1e-6)).all()):
            return step
    return 0.0


def segments(trace: Trace) -> list[Trace]:
    """The parts of a trace between its masks, in order: what is counted inside them crosses none."""
    ends = [None, *(b for _, b in trace.masks)]
    starts = [*(a for a, _ in trace.masks), None]
    if len(ends) == 1:
        return [trace]
    bare = replace(trace, masks=())
    return [bare.select(start_ns=a, end_ns=b) for a, b in zip(ends, starts, strict=True)]


def grid_ks(a: Counts, b: Counts) -> float:
    """Largest distance between two distribution functions at the edges of bins of 256 a factor of e, to which both
    tables keep; 0 counts as an edge."""
    x = np.concatenate([a.lo, b.lo])
    edges = np.exp(np.unique(np.floor(np.log(x[x > 0]) * 256) + 1) / 256)
    at = np.concatenate([[0.0], edges])
    shares = []
    for c in (a, b):
        below = np.concatenate([[0.0], np.cumsum(c.n)])
        shares.append(below[np.searchsorted(c.hi, at * (1 + 1e-12), side="right")] / c.rows)
    return float(np.abs(shares[0] - shares[1]).max())

"""Histograms of exporters: laws of what they count, fitted by interval, and quantiles as far as the bounds allow.

A bucket (a, b] says how many values lay in it and nothing of where, so a law enters by F(b) − F(a), and the last
bucket, which has no end, by 1 − F(a) (right-censored). A quantile is known to lie in its bucket. Where sources have
different bounds only those that all have are used: at these the sums are exact.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from ..counts import Counts, significant
from ..distributions import K_ANONYMITY, Fitted, Grid, fit_families, w1_log10
from ..errors import ModelError
from ..intervals import Blocks, Interval
from ..units import short

Array = npt.NDArray[np.float64]

KNOTS = 129
DRAWN = 60
"""draws that the best law is fitted to again for the intervals of its parameters."""
QUANTILES = {"p50": 0.5, "p90": 0.9, "p95": 0.95, "p99": 0.99}


@dataclass(frozen=True)
class Histogram:
    """``n[i]`` values in (bounds[i − 1], bounds[i]], the last beyond all bounds; the first from 0. ``windows``: the
    same by window of time, [windows, bounds + 1]."""

    bounds: Array
    n: Array
    windows: Array
    inconsistent: int = 0
    """buckets that were lower than the one before, and were taken for empty."""

    @classmethod
    def of(
        cls, rows: Iterable[Mapping[str, Any]], windows: int, scale: float = 1.0
    ) -> Histogram | None:
        """From rows (source, le, k, n) of cumulative buckets; None where no source has +Inf and a bound, or nothing
        was counted."""
        cumulative: dict[tuple[str, float], Array] = {}
        for r in rows:
            key = (r["source"], math.inf if r["le"] is None else float(r["le"]) * scale)
            table = cumulative.setdefault(key, np.zeros(windows))
            table[min(max(int(r["k"]), 0), windows - 1)] += float(r["n"])
        layouts: dict[str, set[float]] = {}
        for source, le in cumulative:
            layouts.setdefault(source, set()).add(le)
        whole = [s for s, found in layouts.items() if math.inf in found and len(found) > 1]
        if not whole:
            return None
        shared = sorted(set.intersection(*(layouts[s] for s in whole)))
        if len(shared) < 2:
            return None
        table = np.stack([sum(cumulative[s, le] for s in whole) for le in shared], axis=1)
        each = np.diff(np.concatenate([np.zeros((windows, 1)), table], axis=1), axis=1)
        inconsistent = int((each < -1e-6).any(axis=0).sum())
        each = np.maximum(each, 0.0)
        if each.sum() <= 0:
            return None
        return cls(np.array(shared[:-1]), each.sum(axis=0), each, inconsistent)

    @property
    def rows(self) -> float:
        return float(self.n.sum())

    def suppressed(self) -> Histogram:
        """Without the bounds that would tell fewer than ten values apart."""
        keep: list[int] = []
        held = 0.0
        for i, n in enumerate(self.n[:-1]):
            held += float(n)
            if held == 0 or held >= K_ANONYMITY:
                keep.append(i)
                held = 0.0
        last = held + float(self.n[-1])
        while keep and 0 < last < K_ANONYMITY:
            i = keep.pop()
            before = keep[-1] if keep else -1
            last += float(self.n[before + 1 : i + 1].sum())
        edges = [0, *(i + 1 for i in keep)]
        return Histogram(
            self.bounds[keep],
            np.add.reduceat(self.n, edges),
            np.add.reduceat(self.windows, edges, axis=1),
            self.inconsistent,
        )

    def quantile_bounds(self, q: float, n: Array | None = None) -> tuple[float, float]:
        """Between which bounds the quantile lies; the upper is infinite in the last bucket."""
        c = np.cumsum(self.n if n is None else n)
        i = int(min(np.searchsorted(c, q * c[-1] * (1 - 1e-12)), len(c) - 1))
        low = float(self.bounds[i - 1]) if i else 0.0
        return low, float(self.bounds[i]) if i < len(self.bounds) else math.inf

    def interpolated(self, q: float) -> float:
        """As Prometheus' histogram_quantile gives it: straight within a bucket, the last bound beyond all."""
        low, high = self.quantile_bounds(q)
        if math.isinf(high):
            return low
        c = np.concatenate([[0.0], np.cumsum(self.n)])
        i = int(np.searchsorted(self.bounds, high))
        inside = float(self.n[i])
        share = (q * c[-1] - c[i]) / inside if inside > 0 else 1.0
        return low + (high - low) * min(1.0, max(0.0, share))

    def counts(self, whole_numbers: bool, n: Array | None = None) -> Counts:
        """As intervals to fit to. Tokens of the bucket (a, b] are a + 1 … b, so they stand for a + ½ to b + ½."""
        half = 0.5 if whole_numbers else 0.0
        n = self.n if n is None else n
        lo = np.concatenate([[0.0], self.bounds + half])
        hi = np.concatenate([self.bounds + half, [np.inf]])
        used = n > 0
        lo, hi, n = lo[used], hi[used], n[used]
        inside = np.where(lo > 0, np.sqrt(lo * np.where(np.isinf(hi), lo * 2, hi)), hi / 2)
        return Counts(lo, hi, n, n * inside)


@dataclass(frozen=True)
class Law:
    """A length: its ``buckets`` (bound, values up to it and above the one before; the last bound None), the recorded
    ``mean``, families by interval likelihood, best first, and a quantile grid that has the buckets' shares, shaped
    by the best family within each."""

    metric: str
    rows: float
    mean: float | None
    mean_interval: Interval | None
    buckets: tuple[tuple[float | None, float], ...]
    families: tuple[Fitted, ...]
    grid: Grid | None
    quantiles: tuple[Quantile, ...]

    def to_dict(self) -> dict[str, Any]:
        return {
            "metric": self.metric,
            "rows": self.rows,
            "mean": self.mean,
            "mean_interval": self.mean_interval.to_dict() if self.mean_interval else None,
            "buckets": [list(b) for b in self.buckets],
            "families": [f.to_dict() for f in self.families],
            "grid": self.grid.to_dict() if self.grid else None,
            "quantiles": [q.to_dict() for q in self.quantiles],
        }

    @classmethod
    def from_dict(cls, d: Mapping[str, Any]) -> Law:
        bounds = [b for b, _ in d["buckets"] if b is not None]
        if any(not 0 <= float(n) < math.inf for _, n in d["buckets"]) or bounds != sorted(bounds):
            raise ModelError("metrics of the profile: buckets are none", "fit the profile again")
        return cls(
            str(d["metric"]),
            number(d["rows"]),
            None if d["mean"] is None else number(d["mean"]),
            Interval.from_dict(d["mean_interval"]),
            tuple((None if b is None else float(b), float(n)) for b, n in d["buckets"]),
            tuple(Fitted.from_dict(f) for f in d["families"]),
            Grid.from_dict(d["grid"]) if d["grid"] else None,
            tuple(Quantile.from_dict(q) for q in d["quantiles"]),
        )


@dataclass(frozen=True)
class Quantile:
    """``low`` to ``high``: the bucket that it lies in, ``high`` None beyond all bounds. ``interpolated``: as dashboards
    draw it. ``doubt``: the bounds between which it lies in 95 % of the draws of windows; None for a short trace."""

    name: str
    low: float
    high: float | None
    interpolated: float
    doubt: tuple[float, float | None] | None = None

    def to_dict(self) -> dict[str, Any]:
        return self.__dict__ | {"doubt": list(self.doubt) if self.doubt else None}

    @classmethod
    def from_dict(cls, d: Mapping[str, Any]) -> Quantile:
        doubt = d.get("doubt")
        out = cls(
            str(d["name"]),
            number(d["low"]),
            None if d["high"] is None else number(d["high"]),
            number(d["interpolated"]),
            None
            if doubt is None
            else (number(doubt[0]), None if doubt[1] is None else number(doubt[1])),
        )
        if out.high is not None and out.high < out.low:
            raise ModelError(
                "metrics of the profile: a quantile ends before it starts", "fit again"
            )
        return out


@dataclass(frozen=True)
class Latency:
    """A latency histogram in seconds."""

    metric: str
    rows: float
    mean_s: float | None
    quantiles: tuple[Quantile, ...] = field(default_factory=tuple)

    def to_dict(self) -> dict[str, Any]:
        return {
            "metric": self.metric,
            "rows": self.rows,
            "mean_s": self.mean_s,
            "quantiles": [q.to_dict() for q in self.quantiles],
        }

    @classmethod
    def from_dict(cls, d: Mapping[str, Any]) -> Latency:
        mean = d["mean_s"]
        return cls(
            str(d["metric"]),
            number(d["rows"]),
            None if mean is None else number(mean),
            tuple(Quantile.from_dict(q) for q in d["quantiles"]),
        )

    def quantile(self, name: str) -> Quantile | None:
        return next((q for q in self.quantiles if q.name == name), None)


def number(x: Any) -> float:
    """A finite number ≥ 0 of a profile. Raises ModelError."""
    value = float(x)
    if not 0 <= value < math.inf:
        raise ModelError(f"metrics of the profile: {x!r} is none", "fit the profile again")
    return value


def quantiles(h: Histogram, blocks: Blocks | None) -> tuple[Quantile, ...]:
    """Those that ten values or more lie beyond."""
    out = []
    drawn = blocks.sums(h.windows) if blocks is not None else None
    for name, q in QUANTILES.items():
        if (1 - q) * h.rows < K_ANONYMITY:
            continue
        low, high = h.quantile_bounds(q)
        doubt = None
        if drawn is not None:
            ends = [h.quantile_bounds(q, d) for d in drawn if d.sum() > 0]
            least = float(np.quantile([a for a, _ in ends], 0.025, method="lower"))
            most = float(np.quantile([b for _, b in ends], 0.975, method="higher"))
            doubt = (short(least), None if math.isinf(most) else short(most))
        out.append(
            Quantile(name, short(low), None if math.isinf(high) else short(high), short(h.interpolated(q)), doubt)
        )  # fmt: skip
    return tuple(out)


def law(
    h: Histogram, metric: str, mean: float | None, blocks: Blocks | None, mean_interval: Interval | None = None
) -> Law:  # fmt: skip
    """The law of a length in tokens."""
    told = h.suppressed()
    families = fit_families(h.counts(True)) if h.rows >= 2 * K_ANONYMITY else []
    if families and blocks is not None:
        families[0] = _with_intervals(families[0], h, blocks)
    best = families[0] if families else None
    shaped = grid(told, best) if best is not None else None
    if shaped is not None:
        # within a bucket nothing is known, so errors of quantiles are not; W1 is to the grid that keeps the shares
        families = [
            replace(f, quantile_errors={}, w1_log10=w1_log10(shaped.quantile, f.quantile, 0.5))
            for f in families
        ]
    buckets = [(float(b), float(n)) for b, n in zip([*told.bounds, math.inf], told.n, strict=True)]
    return Law(
        metric,
        float(round(h.rows, 3)),
        None if mean is None else short(mean),
        mean_interval,
        tuple((None if math.isinf(b) else b, short(n)) for b, n in buckets),
        tuple(families),
        shaped,
        quantiles(h, blocks),
    )


def _with_intervals(best: Fitted, h: Histogram, blocks: Blocks) -> Fitted:
    """The fit with intervals of its parameters, from the same law fitted to draws of windows."""
    found: dict[str, list[float]] = {name: [] for name in best.params}
    for n in blocks.sums(h.windows)[:DRAWN]:
        again = fit_families(h.counts(True, n), (best.family,))
        for name, value in again[0].params.items() if again else ():
            found[name].append(value)
    intervals = {
        name: i
        for name, values in found.items()
        if values and (i := blocks.interval(best.params[name], np.array(values))) is not None
    }
    return replace(best, intervals=intervals)


def grid(h: Histogram, best: Fitted) -> Grid:
    """Quantiles of whole numbers of tokens: each bucket has its share, and within it the shape of the law. Ends are
    the tenth extremes."""
    share = np.concatenate([[0.0], np.cumsum(h.n)]) / h.rows
    edges = np.concatenate([[0.5], h.bounds + 0.5, [np.inf]])
    law_at = np.concatenate([best.cdf(edges[:-1]), [1.0]])
    m = int(min(KNOTS, h.rows // K_ANONYMITY + 1))
    edge = (K_ANONYMITY - 1) / max(h.rows - 1, 1.0)
    u = np.clip(np.linspace(0, 1, m), edge, 1 - edge)
    i = np.clip(np.searchsorted(share, u, side="left") - 1, 0, len(h.n) - 1)
    while (empty := h.n[i] <= 0).any():  # a quantile never lies in an empty bucket
        i = np.where(empty, i - 1, i)
    part = (u - share[i]) / np.maximum(share[i + 1] - share[i], 1e-12)
    mass = law_at[i + 1] - law_at[i]
    shaped = best.quantile(np.clip(law_at[i] + part * mass, 1e-12, 1 - 1e-12))
    finite = np.where(np.isinf(edges[i + 1]), 2 * edges[i] + 1, edges[i + 1])
    # where the law has no mass to speak of, or leaves the bucket by rounding, a straight line will do
    straight = edges[i] + part * (finite - edges[i])
    usable = (mass > 1e-9) & np.isfinite(shaped)
    x = np.where(usable, np.clip(shaped, edges[i], edges[i + 1]), straight)
    values = np.maximum.accumulate(np.maximum(x, 0.0))
    mean = float((values[1:] + values[:-1]).mean() / 2) if len(values) > 1 else float(values[0])
    return Grid(significant(values, 6), short(mean), h.rows)


def mean_of(total: Sequence[float] | Array, n: Sequence[float] | Array) -> float | None:
    """Σ total / Σ n; None without any."""
    count = float(np.sum(n))
    return float(np.sum(total)) / count if count > 0 else None

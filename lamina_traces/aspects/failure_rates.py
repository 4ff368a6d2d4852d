"""The rate of failures: its interval, over time, against load, and how much more it varies than by chance.

All of it rests on sums per window: requests n and failures k. Independent failures of one rate p leave k binomial.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from ..distributions import K_ANONYMITY
from ..errors import ModelError
from ..intervals import FEWEST_WINDOWS, LEVEL, Blocks, Interval, homogeneous, wilson
from ..units import NS_PER_S, short
from .dependence import rank_correlation
from .failure_windows import Pass, WidthSums
from .shares import design_effect, pooled, share_interval, wilson_of

Array = npt.NDArray[np.float64]

MOST_CELLS = 48
DECILES = 10


@dataclass(frozen=True)
class Cell:
    """A share of the requests of a time, or of a load: ``low`` to ``high`` are seconds from the first arrival, or
    requests per second. ``interval``: Wilson's, over the design effect where failures cluster."""

    low: float
    high: float
    requests: int
    failed: int
    interval: Interval

    @property
    def rate(self) -> float:
        return self.failed / self.requests if self.requests else 0.0


def cells_to_dict(cells: tuple[Cell, ...]) -> dict[str, Any]:
    """Cells as columns."""
    return {
        "low": [c.low for c in cells],
        "high": [c.high for c in cells],
        "requests": [c.requests for c in cells],
        "failed": [c.failed for c in cells],
        "rate_low": [short(c.interval.low, 4) for c in cells],
        "rate_high": [short(c.interval.high, 4) for c in cells],
        "method": cells[0].interval.method if cells else "",
    }


def cells_from_dict(d: dict[str, Any] | None) -> tuple[Cell, ...]:
    """Inverse of ``cells_to_dict``; raises ModelError on more failures than requests."""
    if not d:
        return ()
    out = []
    columns = (d["low"], d["high"], d["requests"], d["failed"], d["rate_low"], d["rate_high"])
    for low, high, requests, failed, rate_low, rate_high in zip(*columns, strict=True):
        i = Interval.from_dict({"low": rate_low, "high": rate_high, "method": d["method"]})
        if i is None or not (
            0 <= failed <= requests and 0 <= low <= high < math.inf and i.low >= 0 and i.high <= 1
        ):
            raise ModelError(
                "a cell of failures holds more failures than requests", "fit the profile again"
            )
        out.append(Cell(float(low), float(high), int(requests), int(failed), i))
    return tuple(out)


@dataclass(frozen=True)
class Overdispersion:
    """Σ(k − n·p)² over its expectation for independent failures, p(1 − p)(N − Σn²/N), over ``windows`` of ``window_s``
    with n requests and k failures: 1 for independent failures."""

    window_s: float
    windows: int
    ratio: float
    interval: Interval | None

    def to_dict(self) -> dict[str, Any]:
        return {
            "window_s": self.window_s,
            "windows": self.windows,
            "ratio": self.ratio,
            "interval": self.interval.to_dict() if self.interval else None,
        }

    @classmethod
    def from_dict(cls, d: dict[str, Any]) -> Overdispersion:
        return cls(
            float(d["window_s"]),
            int(d["windows"]),
            float(d["ratio"]),
            Interval.from_dict(d["interval"]),
        )


@dataclass(frozen=True)
class Load:
    """The rate against the load of windows of ``window_s``. ``top_to_bottom``: ratio of the rates of the busiest and the
    quietest cell; ``spearman``: of requests and failure rate over windows; ``explained``: share of the variance of
    failures per window beyond the binomial one that goes when each decile of load has its own rate."""

    window_s: float
    top_to_bottom: float | None
    top_to_bottom_interval: Interval | None
    spearman: float | None
    spearman_interval: Interval | None
    explained: float | None
    explained_interval: Interval | None

    def to_dict(self) -> dict[str, Any]:
        out: dict[str, Any] = {"window_s": self.window_s}
        for name in ("top_to_bottom", "spearman", "explained"):
            i = getattr(self, f"{name}_interval")
            out[name] = getattr(self, name)
            out[f"{name}_interval"] = i.to_dict() if i else None
        return out

    @classmethod
    def from_dict(cls, d: dict[str, Any]) -> Load:
        values: list[Any] = []
        for name in ("top_to_bottom", "spearman", "explained"):
            values += [
                None if d[name] is None else float(d[name]),
                Interval.from_dict(d[f"{name}_interval"]),
            ]
        return cls(float(d["window_s"]), *values)


# --- measuring -------------------------------------------------------------------------------------


def chance(requests: float, failed: float, runs: float) -> tuple[float, float]:
    """(ρ, p) of the requests in order: the correlation of one outcome with the next, P(fail | failed) − P(fail | ok),
    and the p-value of the hypothesis that there is none (n·ρ² is χ² with one degree of freedom)."""
    ok = requests - failed
    if not failed or not ok:
        return 0.0, 1.0
    rho = (1 - runs / failed) - min(1.0, runs / ok)
    return rho, math.erfc(math.sqrt(requests * rho * rho / 2))


def rate_interval(
    requests: float, failed: float, rows: Array, per_window: Array, chain: tuple[float, float]
) -> Interval:
    """95 % of the failure rate: Wilson's where neither the order of outcomes nor windows of time reject independence, else
    by blocks of windows; without enough of them Wilson's over the chain's design effect (1 + ρ)/(1 − ρ)."""
    rate = failed / requests
    rho, p = chain
    used = rows > 0
    if used.sum() >= 2 and 0 < rate < 1:
        p = min(p, homogeneous(rows, per_window, rate * (1 - rate)))
    if p >= 1 - LEVEL or not 0 < rate < 1:
        return wilson(failed, requests)
    found = share_interval(per_window, rows, rate)
    if found is not None:
        return found
    return wilson_of(failed, requests, (1 + rho) / (1 - rho) if 0 < rho < 1 else 1.0)


def over_time(seen: Pass) -> tuple[Cell, ...]:
    """At most 48 stretches of time, as long as it takes for ten failures or none."""
    t = seen.timeline
    if t is None or t.windows < 2:
        return ()
    groups = np.arange(t.windows) * min(MOST_CELLS, t.windows) // t.windows
    effect = design_effect(seen.rows, seen.per_window, groups)
    n, k = (np.bincount(groups, weights=x).astype(np.float64) for x in (seen.rows, seen.per_window))
    width = t.width_ns / NS_PER_S
    edges = np.searchsorted(groups, np.arange(len(n) + 1)) * width
    out = []
    for a, b in pooled(k, n):
        rows, marked = float(n[a:b].sum()), float(k[a:b].sum())
        out.append(
            Cell(
                short(edges[a], 6),
                short(edges[b], 6),
                int(rows),
                int(marked),
                wilson_of(marked, rows, effect),
            )
        )
    return tuple(out)


def deciles(rows: Array) -> list[npt.NDArray[np.int64]]:
    """Windows that hold requests, in ten groups from the quietest to the busiest; none below 20 windows."""
    used = np.flatnonzero(rows > 0)
    if len(used) < 2 * DECILES:
        return []
    return list(np.array_split(used[np.argsort(rows[used], kind="stable")], DECILES))


def by_load(seen: Pass) -> tuple[Cell, ...]:
    t = seen.timeline
    if t is None:
        return ()
    groups = deciles(seen.rows)
    if not groups:
        return ()
    n = np.array([seen.rows[g].sum() for g in groups])
    k = np.array([seen.per_window[g].sum() for g in groups])
    rate = seen.rows / np.maximum(t.covered_s, 1e-9)
    member = np.zeros(len(seen.rows), dtype=np.int64)
    for i, g in enumerate(groups):
        member[g] = i
    effect = design_effect(seen.rows, seen.per_window, member)
    out = []
    for a, b in pooled(k, n):
        windows = np.concatenate(groups[a:b])
        rows, marked = float(n[a:b].sum()), float(k[a:b].sum())
        out.append(
            Cell(
                short(rate[windows].min(), 6), short(rate[windows].max(), 6), int(rows), int(marked), wilson_of(marked, rows, effect)
            )
        )  # fmt: skip
    return tuple(out)


def load(seen: Pass, cells: tuple[Cell, ...]) -> Load | None:
    t = seen.timeline
    if t is None or len(cells) < 2 or seen.failed < K_ANONYMITY:
        return None
    n, k = seen.rows, seen.per_window
    groups = deciles(n)
    blocks = Blocks.of(k - n * (k.sum() / n.sum()), homogeneous(n, k, max(1e-12, float(k.sum() * (n.sum() - k.sum()) / n.sum() ** 2))))  # fmt: skip
    told = pooled(np.array([k[g].sum() for g in groups]), np.array([n[g].sum() for g in groups]))
    bottom, top = (np.concatenate(groups[a:b]) for a, b in (told[0], told[-1]))
    ratio = ratio_interval_ = None
    if k[bottom].sum() > 0:
        ratio = float((k[top].sum() / n[top].sum()) / (k[bottom].sum() / n[bottom].sum()))
        if blocks is not None:
            member = np.zeros((len(n), 4))
            member[top, 0], member[top, 1] = k[top], n[top]
            member[bottom, 2], member[bottom, 3] = k[bottom], n[bottom]
            a, b, c, d = blocks.sums(member).T
            with np.errstate(divide="ignore", invalid="ignore"):
                ratio_interval_ = blocks.interval(ratio, a / b / (c / d))
    rho, rho_interval = spearman(n, k, blocks)
    part, part_interval = explained(n, k, groups, blocks)
    return Load(t.width_s, maybe(ratio), ratio_interval_, rho, rho_interval, part, part_interval)


def spearman(
    n: Array, k: Array, blocks: Blocks | None = None
) -> tuple[float | None, Interval | None]:
    """Spearman's ρ of requests and failure rate over the windows that hold requests, ties by mean rank; ranks are taken
    anew in every draw of blocks."""
    used = n > 0
    x, y = n[used], k[used] / n[used]
    if len(x) < 3:
        return None, None
    point = rank_correlation(np.ones((1, len(x))), x, y)[0]
    if not math.isfinite(point):
        return None, None
    interval = None
    if blocks is not None:
        draws = rank_correlation(blocks.weights[:, used], x, y)
        interval = blocks.interval(float(point), draws, logs=False)
        if interval is not None:
            interval = Interval(max(-1.0, interval.low), min(1.0, interval.high), interval.method)
    return short(point, 6), interval


def explained(
    n: Array, k: Array, groups: list[npt.NDArray[np.int64]], blocks: Blocks | None = None
) -> tuple[float | None, Interval | None]:
    """Share of the overdispersion of failures per window that goes when every group of windows has a rate of its own:
    1 − (D_groups − 1)/(D − 1), D the overdispersion ratio with the degrees of freedom that the rates take. None where
    there is hardly any to explain."""
    used = np.concatenate(groups)
    member = np.zeros((len(n), len(groups)))
    for i, g in enumerate(groups):
        member[g, i] = 1.0
    columns = np.stack([n, k, n * n, n * k, k * k], axis=1)
    per_group = member[:, :, None] * columns[:, None, :]

    def share(sums: Array) -> Array:  # [draws, groups, 5]
        with np.errstate(divide="ignore", invalid="ignore"):
            whole = _swing(sums.sum(axis=1))
            num, den = (x.sum(axis=1) for x in _parts(sums))
            return np.asarray(1 - (num / den - 1) / (whole - 1))

    total = per_group[used].sum(axis=0)[None]
    swing = float(_swing(total.sum(axis=1))[0])
    if not swing > 1.2:
        return None, None
    point = float(share(total)[0])
    if not math.isfinite(point):
        return None, None
    value = min(1.0, max(0.0, point))
    interval = None
    if blocks is not None:
        interval = blocks.interval(point, share(blocks.sums(per_group)), logs=False)
        if interval is not None:
            low, high = (min(1.0, max(0.0, v)) for v in (interval.low, interval.high))
            interval = Interval(low, high, interval.method)
    return short(value, 6), interval


def _parts(sums: Array) -> tuple[Array, Array]:
    """Σ(k − n·p)² and its expectation for independent failures, from sums (n, k, n², n·k, k²) in the last axis."""
    n, k, nn, nk, kk = np.moveaxis(sums, -1, 0)
    with np.errstate(divide="ignore", invalid="ignore"):
        p = np.where(n > 0, k / n, 0.0)
        return kk - 2 * p * nk + p * p * nn, p * (1 - p) * np.where(n > 0, n - nn / n, 0.0)


def _swing(sums: Array) -> Array:
    above, below = _parts(sums)
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.asarray(above / below)


def overdispersion(w: WidthSums) -> Overdispersion | None:
    """The overdispersion ratio at one width, its interval by blocks of neighbouring windows; None below ten failures."""
    total = w.sums.sum(axis=0)
    if total[1] < K_ANONYMITY or total[0] - total[1] < 1:
        return None
    ratio = float(_swing(total))
    if not math.isfinite(ratio):
        return None
    interval = None
    n = w.sums[:, 0]
    if (n > 0).sum() >= FEWEST_WINDOWS:
        p = total[1] / total[0]
        squares = w.sums[:, 4] - 2 * p * w.sums[:, 3] + p * p * w.sums[:, 2]
        blocks = Blocks.of(squares - ratio * p * (1 - p) * n)
        if blocks is not None:
            interval = blocks.interval(ratio, _swing(blocks.sums(w.sums)))
    return Overdispersion(w.width_s, w.windows, short(ratio, 6), interval)


def maybe(x: float | None) -> float | None:
    return None if x is None or not math.isfinite(x) else short(x, 6)

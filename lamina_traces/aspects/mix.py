"""How the mix of requests changes with time and with load: lengths and their dependence by slices of windows.

On one public trace the mean work of a request falls as the rate rises (correlation −0.84), and lengths drawn
independently of the load overstate the p99 wait fourfold; on another it does not matter. So it is measured.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt

from ..counts import Binning
from ..distributions import K_ANONYMITY, Grid
from ..errors import ModelError
from ..intervals import Blocks, Interval, read_intervals
from ..units import format_number, short
from .dependence import correlation, correlation_interval
from .timeline import Timeline

Array = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

KNOTS = 9
"""quantiles of a slice, equally spaced from the tenth smallest value to the tenth largest."""
BY_TIME = 48
BY_LOAD = 10
WARP_KNOTS = 129
"""ranks at which a slice's move is tabulated."""
FEWEST = 100
"""rows of a slice that carries quantiles of its own; smaller ones are joined to their neighbour."""


@dataclass(frozen=True)
class Slice:
    """Windows of a time or a load. ``at``: (from, to) in seconds after the first arrival, or in multiples of the mean
    rate. ``input``, ``output``: nine quantiles; ``spearman``: of the rows in it, by global ranks."""

    at: tuple[float, float]
    rows: int
    input: tuple[float, ...]
    output: tuple[float, ...]
    input_mean: float
    output_mean: float
    spearman: float | None

    def to_dict(self) -> dict[str, Any]:
        return {
            "at": list(self.at), "rows": self.rows, "input": list(self.input), "output": list(self.output),
            "input_mean": self.input_mean, "output_mean": self.output_mean, "spearman": self.spearman,
        }  # fmt: skip

    @classmethod
    def from_dict(cls, d: Mapping[str, Any]) -> Slice:
        out = cls(
            (float(d["at"][0]), float(d["at"][1])), int(d["rows"]),
            tuple(map(float, d["input"])), tuple(map(float, d["output"])),
            float(d["input_mean"]), float(d["output_mean"]),
            None if d["spearman"] is None else float(d["spearman"]),
        )  # fmt: skip
        if out.rows < 0 or any(
            not np.isfinite(v).all() or (np.diff(v) < 0).any() for v in (out.input, out.output)
        ):
            raise ModelError(
                "lengths by time or load in the profile are no quantiles", "fit the profile again"
            )
        return out


@dataclass(frozen=True)
class Mix:
    """``load_input``, ``load_output``: correlation of a window's rate with the mean log length in it, with interval."""

    by_time: tuple[Slice, ...]
    by_load: tuple[Slice, ...]
    load_input: float | None
    load_output: float | None
    intervals: Mapping[str, Interval]

    def to_dict(self) -> dict[str, Any]:
        return {
            "by_time": [s.to_dict() for s in self.by_time],
            "by_load": [s.to_dict() for s in self.by_load],
            "load_input": self.load_input,
            "load_output": self.load_output,
            "intervals": {k: i.to_dict() for k, i in self.intervals.items()},
        }

    @classmethod
    def from_dict(cls, d: Mapping[str, Any] | None) -> Mix | None:
        if d is None:
            return None
        return cls(
            tuple(Slice.from_dict(s) for s in d["by_time"]),
            tuple(Slice.from_dict(s) for s in d["by_load"]),
            None if d["load_input"] is None else float(d["load_input"]),
            None if d["load_output"] is None else float(d["load_output"]),
            read_intervals(d["intervals"]),
        )

    def said(self) -> list[tuple[str, str, str]]:
        """(sentence, model, parameters) on what depends on the load, where something does."""
        out = []
        for side, r in (("input", self.load_input), ("output", self.load_output)):
            i = self.intervals.get(side)
            if r is None or len(self.by_load) < 2:
                continue
            low, high = self.by_load[0], self.by_load[-1]
            a, b = getattr(low, f"{side}_mean"), getattr(high, f"{side}_mean")
            clear = i is not None and (i.low > 0 or i.high < 0)
            if not clear or a <= 0 or max(a, b) / max(min(a, b), 1e-9) < 1.1:
                continue
            text = (
                f"{side.capitalize()} lengths follow the load: {format_number(a)} tokens on average in the quietest "
                f"tenth of the time, {format_number(b)} in the busiest."
            )
            ends = f" [{i.low:+.2f}, {i.high:+.2f}]" if i else ""
            out.append((text, "lengths by load", f"correlation with the rate {r:+.2f}{ends}"))
        return out


def mix_of(
    timeline: Timeline, windows: Mapping[str, Array], binning: Binning, ranks: Array
) -> Mix | None:
    """From coarse tables [windows, bins] of each side, and sums of ranks by window (see ``dependence.Ranks``)."""
    rows = windows["input"].sum(axis=1)
    covered = timeline.covered_s
    used = covered > 0.5 * timeline.width_s
    if used.sum() < 4:
        return None
    lo, hi = binning.edges(np.arange(windows["input"].shape[1]))
    centre = (lo + hi) / 2
    at = np.flatnonzero(used)
    rate = rows / np.maximum(covered, 1e-9)
    mean_rate = float(rows[used].sum() / covered[used].sum())

    def cut(
        groups: list[npt.NDArray[np.int64]], ends: list[tuple[float, float]]
    ) -> tuple[Slice, ...]:
        return tuple(
            _slice(g, e, windows, centre, lo, hi, ranks) for g, e in zip(groups, ends, strict=True)
        )

    width = timeline.width_s
    times = _groups(at, rows, BY_TIME)
    by_time = cut(times, [(round(g[0] * width, 3), round((g[-1] + 1) * width, 3)) for g in times])
    order = at[np.argsort(rate[at], kind="stable")]
    loads = _groups(order, rows, BY_LOAD)
    by_load = cut(
        loads,
        [(short(rate[g].min() / mean_rate, 4), short(rate[g].max() / mean_rate, 4)) for g in loads],
    )
    found: dict[str, float | None] = {}
    intervals: dict[str, Interval] = {}
    for side in ("input", "output"):
        found[side], interval = _load_correlation(rate[at], windows[side][at], centre)
        if interval is not None:
            intervals[side] = interval
    return Mix(by_time, by_load, found["input"], found["output"], intervals)


def _groups(order: npt.NDArray[np.int64], rows: Array, most: int) -> list[npt.NDArray[np.int64]]:
    """Windows in order, cut into at most ``most`` groups of as many windows, each with FEWEST rows at least."""
    out: list[npt.NDArray[np.int64]] = []
    for part in np.array_split(order, min(most, len(order))):
        if out and rows[out[-1]].sum() < FEWEST:
            out[-1] = np.concatenate([out[-1], part])
        else:
            out.append(part)
    if len(out) > 1 and rows[out[-1]].sum() < FEWEST:
        last = out.pop()
        out[-1] = np.concatenate([out[-1], last])
    return out


def _slice(group: npt.NDArray[np.int64], at: tuple[float, float], windows: Mapping[str, Array], centre: Array, lo: Array, hi: Array, ranks: Array) -> Slice:  # fmt: skip
    tables = {side: w[group].sum(axis=0) for side, w in windows.items()}
    rows = float(tables["input"].sum())
    q: dict[str, tuple[float, ...]] = {}
    for side, n in tables.items():
        total = float(n.sum())
        if total < 2 * K_ANONYMITY:
            q[side] = ()
            continue
        edge = (K_ANONYMITY - 1) / (total - 1)
        u = np.clip(np.linspace(0, 1, KNOTS), edge, 1 - edge) * total
        upto = np.cumsum(n)
        b = np.minimum(np.searchsorted(upto, u), len(n) - 1)
        inside = (u - (upto[b] - n[b])) / np.maximum(n[b], 1e-300)
        q[side] = tuple(short(v, 5) for v in lo[b] + inside * (hi[b] - lo[b]))
    sums = ranks[group].sum(axis=0)
    means = {s: short(float(n @ centre) / max(float(n.sum()), 1.0), 5) for s, n in tables.items()}
    rho = short(correlation(sums), 4) if sums[0] >= FEWEST else None
    return Slice(at, int(rows), q["input"], q["output"], means["input"], means["output"], rho)


def _load_correlation(
    rate: Array, tables: Array, centre: Array
) -> tuple[float | None, Interval | None]:
    """Pearson's correlation of windows' rates with their mean log lengths, weighted by nothing: a window is a
    moment of the system, however many requests it holds."""
    rows = tables.sum(axis=1)
    full = rows >= K_ANONYMITY
    if full.sum() < 8:
        return None, None
    x = rate[full]
    y = tables[full] @ np.log(np.maximum(centre, 0.5)) / rows[full]
    if x.std() == 0 or y.std() == 0:
        return None, None
    dx, dy = (x - x.mean()) / x.std(), (y - y.mean()) / y.std()
    sums = np.stack([np.ones(len(dx)), dx, dy, dx * dx, dy * dy, dx * dy], axis=1)
    r = correlation(sums.sum(axis=0))
    blocks = Blocks.of(dx * dy)
    if blocks is None:
        return short(r, 4), None
    return short(r, 4), correlation_interval(blocks, r, sums)


# --- generating ------------------------------------------------------------------------------------


class Warp:
    """Moves ranks of lengths so that requests of a slice have its quantiles, and all together those of the whole.

    A rank u becomes the whole's rank of the slice's u-quantile, h(u); what the slices together make of uniform ranks,
    G = Σ share·P(h ≤ ·), is then undone, so that the margins, spikes and caps included, stay as they are.
    """

    def __init__(self, slices: Sequence[Slice], grids: Mapping[str, Grid]) -> None:
        self.slices = slices
        share = np.array([float(s.rows) for s in slices])
        share /= share.sum()
        self.tables = {}
        u = np.linspace(0, 1, WARP_KNOTS)
        for side, grid in grids.items():
            knots = [_ranks_of(grid, getattr(s, side)) for s in slices]
            moved = np.stack([np.interp(u, np.linspace(0, 1, len(k)), k) for k in knots])
            at = np.linspace(0, 1, 8 * WARP_KNOTS)
            whole = sum(
                w * np.interp(at, m + 1e-9 * u, u) for w, m in zip(share, moved, strict=True)
            )
            self.tables[side] = np.interp(moved, at, np.asarray(whole))

    def ranks(self, side: str, slice_: Ints, u: Array) -> Array:
        """Ranks in the whole of ranks ``u`` in slices."""
        table = self.tables[side]
        at = u * (WARP_KNOTS - 1)
        i = np.minimum(at.astype(np.int64), WARP_KNOTS - 2)
        low, high = table[slice_, i], table[slice_, i + 1]
        return np.asarray(low + (at - i) * (high - low))

    def by_load(self, load: Array) -> Ints:
        """The slice of each load, a multiple of the mean rate."""
        ends = [(a.at[1] + b.at[0]) / 2 for a, b in pairwise(self.slices)]
        return np.searchsorted(np.maximum.accumulate(ends), load, side="right") if ends else np.zeros(len(load), dtype=np.int64)  # fmt: skip

    def by_time(self, t_s: Array) -> Ints:
        """The slice of each instant of a course that is played again and again."""
        starts = np.array([s.at[0] for s in self.slices])
        into = t_s % self.slices[-1].at[1]
        return np.maximum(np.searchsorted(starts, into, side="right") - 1, 0)


def warp(mix: Mix | None, grids: Mapping[str, Grid], *, replay: bool) -> Warp | None:
    """By time where the source's own course is played, by load where the lengths clearly follow it, else None."""
    if mix is None:
        return None
    found = mix.by_time if replay else mix.by_load
    clear = replay or any(i.low > 0 or i.high < 0 for i in mix.intervals.values())
    told = [s for s in found if len(s.input) > 1 and len(s.output) > 1]
    return Warp(told, grids) if clear and len(told) == len(found) > 1 else None


def _ranks_of(grid: Grid, values: Sequence[float]) -> Array:
    """Ranks of values in the law of a grid; in the middle of a spike's ranks."""
    return np.maximum.accumulate(grid.rank(np.asarray(values, dtype=np.float64)))

"""Shares and ratios of what was counted per window of time: their intervals, and cells of a table.

A share of rows is only Wilson's where rows are independent. Where its windows swing more than independent rows would, the
rows count for as few as would swing so (Rao & Scott 1981, JASA 76: k and n over the design effect).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
from scipy import special

from ..distributions import K_ANONYMITY
from ..intervals import FEWEST_WINDOWS, LEVEL, Blocks, Interval, homogeneous, wilson
from ..units import short

if TYPE_CHECKING:
    import pyarrow as pa

Array = npt.NDArray[np.float64]


def per_window(table: pa.Table, names: Sequence[str], windows: int) -> Array:
    """[windows, names] from rows (k, …) of a query; a window without a row holds zeros."""
    k = table["k"].to_numpy().astype(np.int64)
    inside = (k >= 0) & (k < windows)
    out = np.zeros((windows, len(names)))
    for i, name in enumerate(names):
        np.add.at(out[:, i], k[inside], table[name].to_numpy()[inside].astype(np.float64))
    return out


def ratio_interval(
    above: Array, below: Array, estimate: float | None = None, variance: float | None = None
) -> Interval | None:
    """95 % of Σ above / Σ below, both per window; None where fewer than 16 windows hold something.

    ``estimate``: the same ratio by a finer route, around which the interval lies. ``variance``: of one row, where
    ``below`` counts rows and ``above`` sums their values; it adds a test of independence and the effective size.
    Without it blocks are always taken as long as the windows' memory: a few heavy rows hide it from tests.
    """
    if (below > 0).sum() < FEWEST_WINDOWS or above.sum() <= 0:
        return None
    point = float(above.sum() / below.sum())
    p = 0.0 if variance is None else homogeneous(below, above, variance)
    blocks = Blocks.of(above - point * below, p)
    if blocks is None:
        return None
    drawn = blocks.sums(np.stack([above, below], axis=1))
    estimate = point if estimate is None else estimate
    with np.errstate(divide="ignore", invalid="ignore"):
        return blocks.interval(estimate, drawn[:, 0] / drawn[:, 1] * (estimate / point), variance)


def share_interval(above: Array, below: Array, estimate: float | None = None) -> Interval | None:
    """``ratio_interval`` of a share of rows: its ends stay within 0 and 1."""
    point = float(above.sum() / max(below.sum(), 1.0))
    found = ratio_interval(above, below, estimate, point * (1 - point))
    return found and Interval(max(0.0, found.low), min(1.0, found.high), found.method, found.n_eff)


def wilson_of(k: float, n: float, design_effect: float = 1.0) -> Interval:
    """Wilson's interval of k of n; ``design_effect``: by how much the share varies more than independent rows' would."""
    if design_effect <= 1.0:
        return wilson(k, n)
    i = wilson(k / design_effect, n / design_effect)
    low, high, n_eff = (short(v, 4) for v in (i.low, i.high, n / design_effect))
    return Interval(low, high, f"Wilson, design effect {design_effect:.3g}", n_eff)


def design_effect(rows: Array, marked: Array, group: npt.NDArray[np.int64] | None = None) -> float:
    """By how much the marked rows of windows vary more than those of independent rows would, where that is not
    chance: Σ(k − n·p)² over its binomial expectation. 1 where independence is not rejected. ``group``: windows of one
    group share a rate of their own, and only what varies within groups counts."""
    used = rows > 0
    n, k = rows[used], marked[used]
    g = np.zeros(len(n), dtype=np.int64) if group is None else group[used]
    if len(n) < 2 or not 0 < k.sum() < n.sum():
        return 1.0
    whole, hits = (np.bincount(g, weights=x)[g] for x in (n, k))
    p = hits / whole
    inside = (p > 0) & (p < 1) & (n < whole)
    n, k, p, whole = n[inside], k[inside], p[inside], whole[inside]
    freedom = len(n) - len(np.unique(g[inside]))
    if freedom < 1:
        return 1.0
    chi = float(((k - n * p) ** 2 / (n * p * (1 - p))).sum())
    if special.gammaincc(freedom / 2, chi / 2) >= 1 - LEVEL:
        return 1.0
    expected = float((p * (1 - p) * n * (1 - n / whole)).sum())
    return max(1.0, float(((k - n * p) ** 2).sum()) / expected)


def pooled(k: Array, n: Array, least: int = K_ANONYMITY) -> list[tuple[int, int]]:
    """Neighbouring cells joined, as (first, behind the last), until none or ``least`` of their ``n`` rows are marked
    (``k``), and none or ``least`` are not: what fewer share is not told. Empty where all together do not come to that.
    """

    def told(a: int, b: int) -> bool:
        marked, rows = float(k[a:b].sum()), float(n[a:b].sum())
        return rows >= least and not (0 < marked < least) and not (0 < rows - marked < least)

    out: list[tuple[int, int]] = []
    first = 0
    for i in range(1, len(k) + 1):
        if told(first, i):
            out.append((first, i))
            first = i
    while first < len(k) and n[first:].sum() > 0:  # what is left over joins the last cells
        if not out:
            return []
        first, _ = out.pop()
        if told(first, len(k)):
            return [*out, (first, len(k))]
    return out

"""Cold starts from published curves: points of a cumulative distribution (table ``cdf_points``) instead of rows.

Each step of a curve is a bin that holds its share of the cold starts, as many as are assumed (``ROWS``; a curve does not say how
many there were, so nothing here has an interval). Curves of different figures are of different functions and stay apart.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from ..counts import Counts, significant
from ..distributions import Grid
from ..errors import Notice
from ..units import short
from .cold_starts import KNOTS, NAME, WHOLES, ColdStarts, Component, component_of

if TYPE_CHECKING:
    from ..store import Trace

Array = npt.NDArray[np.float64]

ROWS = 10_000.0
"""cold starts that a curve is taken to be of."""
EVIDENCE = "CDF points"
QUANTITIES = {
    "cold_start_time_s": "total",
    "total_s": "total",
    "replica_ready_s": "ready",
    "init_s": "init",
    "model_load_s": "model_load",
    "pod_alloc_s": "pod_alloc",
    "deploy_code_s": "deploy_code",
    "deploy_dep_s": "deploy_dep",
    "scheduling_s": "scheduling",
}
"""components by the first word of a curve's quantity."""
FITTED = "fit"
"""the series that a figure's authors fitted; it is no measurement."""
LEVELS = {"p10": 0.1, "p25": 0.25, "p50": 0.5, "p75": 0.75, "p90": 0.9, "p99": 0.99}


def fit_cdf(trace: Trace, notices: list[Notice]) -> dict[str, ColdStarts]:
    """Cold starts by the series of a figure (region, runtime), each from its own curves; empty where none is of cold starts."""
    t = trace.query("cold_starts/cdf_points")
    quantity, figure, series = (
        np.array(t[c].to_pylist(), dtype=object) for c in ("quantity", "figure", "series")
    )
    x, cdf = t["x"].to_numpy().astype(np.float64), t["cdf"].to_numpy().astype(np.float64)
    component = np.array([QUANTITIES.get(str(q).split(" ")[0], "") for q in quantity], dtype=object)
    told = (component != "") & (series != FITTED)
    keys = list(dict.fromkeys(zip(figure[told].tolist(), series[told].tolist(), strict=True)))
    names = [s for _, s in keys]
    out: dict[str, ColdStarts] = {}
    for f, s in keys:
        mine = told & (figure == f) & (series == s)
        curves = {
            str(c): curve_component(
                x[mine & (component == c)], cdf[mine & (component == c)], c in WHOLES
            )
            for c in dict.fromkeys(component[mine].tolist())
        }
        if not any(w in curves for w in WHOLES):
            notices.append(
                Notice("no-whole", f"{s}: steps of a cold start without the whole; left out", NAME)
            )
            continue
        name = str(s) if names.count(s) == 1 else f"{s} (figure {f})"
        out[name] = ColdStarts(curves, evidence=EVIDENCE)
    if out:
        notices.append(
            Notice("cdf-points", f"cold starts are read off published curves; {ROWS:,.0f} cold starts a curve are assumed, and there are no intervals; steps that a figure leaves out where they are 0 are those of the others", NAME)
        )  # fmt: skip
    return out


def curve_counts(x: Array, cdf: Array, rows: float = ROWS) -> Counts:
    """A curve as bins, each a step of it cut so fine (a factor of 1.1) that its mean will do; within a step a law that is
    flat in the logarithm is taken. What lies before the first point or behind the last one is put on it.

    Points are sorted, shares kept rising and between 0 and 1 (a digitised curve overshoots by a line's width)."""
    order = np.lexsort((cdf, x))
    x = x[order]
    share = np.maximum.accumulate(np.clip(cdf[order], 0.0, 1.0))
    share[-1] = 1.0
    pieces = np.maximum(1, np.ceil(np.diff(np.log(x)) / np.log(1.1))).astype(np.int64)
    at = np.concatenate([[0.0], np.repeat(np.arange(len(pieces)), pieces) + _within(pieces)])
    fine = np.exp(np.interp(at, np.arange(len(x)), np.log(x)))
    mass = np.diff(np.interp(at, np.arange(len(x)), share), prepend=0.0)
    lo = np.concatenate([fine[:1], fine[:-1]])
    keep = mass > 0
    lo, hi, n = lo[keep], fine[keep], mass[keep] * rows
    with np.errstate(divide="ignore", invalid="ignore"):
        mean = np.where(hi > lo, (hi - lo) / np.log(hi / lo), hi)
    return Counts(lo, hi, n, n * mean, "s")


def _within(pieces: npt.NDArray[np.int64]) -> Array:
    """1/m, 2/m … 1 for each step cut into m pieces."""
    ends = np.cumsum(pieces)
    first = np.repeat(ends - pieces, pieces)
    return np.asarray(
        (np.arange(int(ends[-1]) if len(ends) else 0) - first + 1) / np.repeat(pieces, pieces)
    )


def curve_quantile(x: Array, cdf: Array, p: Array) -> Array:
    """Quantiles of a curve, linear in the logarithm between its points; its ends beyond them."""
    order = np.lexsort((cdf, x))
    share = np.maximum.accumulate(np.clip(cdf[order], 0.0, 1.0))
    rising = np.concatenate([[True], np.diff(share) > 0])
    return np.asarray(np.exp(np.interp(p, share[rising], np.log(x[order][rising]))))


def curve_component(x: Array, cdf: Array, whole: bool = True) -> Component:
    """A component from the points of its curve; quantiles as ``curve_quantile`` has them."""
    laws = component_of(curve_counts(x, cdf), whole=whole)
    top = min(1.0, float(np.clip(cdf, 0.0, 1.0).max()))
    q = {k: short(curve_quantile(x, cdf, np.array(p)), 6) for k, p in LEVELS.items() if p <= top}
    grid = significant(curve_quantile(x, cdf, np.linspace(0.0, 1.0, KNOTS[whole])), 7)
    return Component(
        rows=ROWS,
        mean_s=laws.mean_s,
        zero_share=0.0,
        quantiles_s=q,
        grid=Grid(np.maximum.accumulate(grid), laws.mean_s, ROWS),
        families=laws.families,
        share_of_sum=None,
    )

"""How far the lengths of two workloads are apart: each side alone, and how the sides depend on each other."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from . import Line
from .length_laws import NAME
from .rows import Rows, ks_distance, spearman

Array = npt.NDArray[np.float64]

CELLS = 16
QUANTILES = (0.5, 0.9, 0.99)
FEWEST = 20
"""rows below which nothing is judged."""
FEWEST_PAIRS = 10 * CELLS
"""rows with both lengths below which no copula is."""

LIMITS = {
    "input KS D": 0.015,
    "output KS D": 0.015,
    "input quantiles": 0.10,
    "output quantiles": 0.10,
    "input mean": 0.05,
    "output mean": 0.05,
    "rank correlation difference": 0.03,
    "copula L1": 0.10,
}
"""fixed limits proposed by the fidelity research (of quantiles and means: ours); a card raises them to 1.5 times the floor."""


def distances(a: Rows, b: Rows) -> list[Line]:
    """KS D of each side, the largest |ln ratio| of its p50, p90 and p99, the |ln ratio| of its mean, the difference of the Spearman correlations,
    and L1 of the copulas on a grid of 16 × 16, of b against a. Lines that cannot be computed say why."""
    lines = []
    for side in ("input", "output"):
        x, y = (_known(getattr(r, f"{side}_tokens")) for r in (a, b))
        lines += _side(side, x, y)
    pairs = [_pairs(r) for r in (a, b)]
    fewest = min(len(p[0]) for p in pairs)
    rho = [spearman(*p) if len(p[0]) >= FEWEST else None for p in pairs]
    if rho[0] is None or rho[1] is None:
        note = "fewer than 20 rows with both lengths" if fewest < FEWEST else "one side is constant"
        lines.append(_line("rank correlation difference", None, "Spearman", note))
    else:
        lines.append(_line("rank correlation difference", abs(rho[0] - rho[1]), "Spearman"))
    if fewest < FEWEST_PAIRS:
        note = f"fewer than {FEWEST_PAIRS} rows with both lengths"
        lines.append(_line("copula L1", None, "", note))
    else:
        apart = float(np.abs(copula(*pairs[0]) - copula(*pairs[1])).sum())
        lines.append(_line("copula L1", apart, "", f"{CELLS} × {CELLS} ranks"))
    return lines


def _line(metric: str, value: float | None, unit: str = "", note: str = "") -> Line:
    return Line(NAME, metric, value, LIMITS[metric], unit, note)


def _known(x: Array) -> Array:
    return x[~np.isnan(x)]


def _pairs(r: Rows) -> tuple[Array, Array]:
    both = ~(np.isnan(r.input_tokens) | np.isnan(r.output_tokens))
    return r.input_tokens[both], r.output_tokens[both]


def _side(side: str, x: Array, y: Array) -> list[Line]:
    if min(len(x), len(y)) < FEWEST:
        note = f"fewer than {FEWEST} rows record it"
        return [
            _line(f"{side} KS D", None, "", note),
            _line(f"{side} quantiles", None, "|ln ratio|", note),
            _line(f"{side} mean", None, "|ln ratio|", note),
        ]
    # a quantile with fewer than ten rows beyond it is an accident
    known = [q for q in QUANTILES if min(len(x), len(y)) * (1 - q) >= 10 or q == QUANTILES[0]]
    p, q = (np.quantile(v, known, method="inverted_cdf") for v in (x, y))
    apart = np.abs(np.log((q + 1) / (p + 1)))
    note = ", ".join(f"p{100 * k:g} {d:.3f}" for k, d in zip(known, apart, strict=True))
    return [
        _line(f"{side} KS D", ks_distance(x, y)),
        _line(f"{side} quantiles", float(apart.max()), "|ln ratio|", note),
        _line(f"{side} mean", abs(float(np.log((y.mean() + 1) / (x.mean() + 1)))), "|ln ratio|"),
    ]


def copula(x: Array, y: Array) -> Array:
    """[CELLS, CELLS] shares of the pairs by rank of each side. Ties are spread over the ranks they share, by numbers
    that are the same for every trace."""
    rng = np.random.default_rng(0)
    at = []
    for v in (x, y):
        _, group, n = np.unique(v, return_inverse=True, return_counts=True)
        first = np.cumsum(n) - n
        ranks = (first[group] + n[group] * rng.random(len(v))) / len(v)
        at.append(np.minimum((ranks * CELLS).astype(np.int64), CELLS - 1))
    cells = np.bincount(at[0] * CELLS + at[1], minlength=CELLS * CELLS)
    return np.asarray(cells.reshape(CELLS, CELLS) / len(x))

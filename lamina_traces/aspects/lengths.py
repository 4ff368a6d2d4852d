"""Lengths: input and output tokens, and how they depend on each other.

Families describe; a quantile grid a side and the empirical copula of their ranks generate. Values that many
requests share (caps, templates) are atoms: the grid keeps their mass, and they are named.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from ..counts import Counts
from ..distributions import K_ANONYMITY, Fitted, Grid, fit_families, significant
from ..errors import ModelError, Notice
from ..units import format_number
from . import Finding, Line
from .arrivals import two_sample_ks

if TYPE_CHECKING:
    from ..store import Trace

NAME = "lengths"
VERSION = 1
TABLES = ("llm_requests",)

Array = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

SIDES = ("input", "output")
CELLS = 32
"""cells a side of the rank grid on large traces; small traces get fewer."""
ATOM_SHARE = 0.01
"""a value held by more than this share of the rows, and by far more than its neighbours, is an atom."""


@dataclass(frozen=True)
class Margin:
    """One side: quantile grid, quantiles, families best first, atoms as (tokens, share)."""

    grid: Grid
    minimum: float
    quantiles: dict[str, float]
    families: tuple[Fitted, ...]
    atoms: tuple[tuple[float, float], ...]

    def to_dict(self) -> dict[str, Any]:
        return {
            "grid": self.grid.to_dict(),
            "minimum": self.minimum,
            "quantiles": self.quantiles,
            "families": [f.to_dict() for f in self.families],
            "atoms": [{"tokens": v, "share": s} for v, s in self.atoms],
        }


@dataclass(frozen=True)
class Lengths:
    """``copula[i, j]``: share of requests whose input rank falls in the i-th of equal rank cells and whose
    output rank falls in the j-th; rows and columns each sum to about 1/cells.
    """

    input: Margin
    output: Margin
    pairs: int
    spearman: float
    pearson: float
    copula: Array

    def to_dict(self) -> dict[str, Any]:
        return {
            "version": VERSION,
            "input": self.input.to_dict(),
            "output": self.output.to_dict(),
            "pairs": self.pairs,
            "spearman": self.spearman,
            "pearson": self.pearson,
            "copula": self.copula.tolist(),
        }

    def findings(self) -> list[Finding]:
        out = []
        for side in SIDES:
            m: Margin = getattr(self, side)
            q = m.quantiles
            text = (
                f"{side.capitalize()} lengths: mean {format_number(m.grid.mean)} tokens, median {format_number(q['p50'])}, "
                f"p99 {format_number(q['p99'])}."
            )
            if m.atoms:
                v, s = m.atoms[0]
                text += f" {s:.1%} of the requests have exactly {v:,.0f} tokens."
            best = m.families[0] if m.families else None
            out.append(
                Finding(
                    NAME,
                    text,
                    model=f"{best.family}({', '.join(f'{k}={format_number(v)}' for k, v in best.params.items())})"
                    if best
                    else "",
                    effect=f"KS D {best.ks_d:.3f}, W1 {best.w1_log10:.3f} decades" if best else "",
                )
            )
        size = abs(self.spearman)
        word = (
            "hardly depend"
            if size < 0.1
            else "depend weakly"
            if size < 0.3
            else "depend"
            if size < 0.6
            else "depend strongly"
        )
        out.append(
            Finding(
                NAME,
                f"Input and output lengths {word} on each other.",
                effect=f"Spearman {self.spearman:+.3f}",
            )
        )
        return out


def from_dict(d: dict[str, Any]) -> Lengths:
    """Inverse of ``Lengths.to_dict``."""

    def margin(m: dict[str, Any]) -> Margin:
        return Margin(
            Grid.from_dict(m["grid"]),
            float(m["minimum"]),
            {str(k): float(v) for k, v in m["quantiles"].items()},
            tuple(Fitted.from_dict(f) for f in m["families"]),
            tuple((float(a["tokens"]), float(a["share"])) for a in m["atoms"]),
        )

    copula = np.array(d["copula"], dtype=np.float64)
    out = Lengths(
        margin(d["input"]),
        margin(d["output"]),
        int(d["pairs"]),
        float(d["spearman"]),
        float(d["pearson"]),
        copula,
    )
    square = copula.ndim == 2 and copula.shape[0] == copula.shape[1] >= 1
    if not square or not np.isfinite(copula).all() or (copula < 0).any() or copula.sum() <= 0:
        raise ModelError(
            "lengths of the profile: the copula must be a square of shares", "fit the profile again"
        )
    if min(out.input.grid.values[0], out.output.grid.values[0]) < 0:
        raise ModelError("lengths of the profile: a length is negative", "fit the profile again")
    return out


def token_counts(trace: Trace) -> dict[str, Counts]:
    """Counts of input and of output tokens."""
    t = trace.query("lengths/token_counts").to_pydict()
    side = np.array(t["side"])
    tokens, n = np.array(t["tokens"], dtype=np.float64), np.array(t["n"], dtype=np.float64)
    return {s: Counts.exact(tokens[side == s], n[side == s], "tokens") for s in SIDES}


def fit(trace: Trace, notices: list[Notice]) -> Lengths | None:
    """Fit the lengths of ``llm_requests``. Needs 20 rows with both lengths."""
    counts = token_counts(trace)
    if min(c.rows for c in counts.values()) < 2 * K_ANONYMITY:
        notices.append(
            Notice(
                "too-few-rows",
                "fewer than 20 requests record both lengths: lengths are not fitted",
                NAME,
            )
        )
        return None
    margins = {}
    for side, c in counts.items():
        zeros = float(c.n[c.x <= 0].sum())
        positive = c.where(c.x > 0)
        if zeros:
            notices.append(
                Notice(
                    "zero-length",
                    f"{zeros:,.0f} requests have 0 {side} tokens; the families describe the others, the grid keeps all",
                    NAME,
                )
            )
        q = c.quantile(np.array([0.1, 0.25, 0.5, 0.75, 0.9, 0.95, 0.99]))
        names = ("p10", "p25", "p50", "p75", "p90", "p95", "p99")
        shown = {k: float(v) for k, v in zip(names, q, strict=True)}
        margins[side] = Margin(
            grid=Grid.of(c),
            minimum=float(c.quantile(np.array([(K_ANONYMITY - 1) / (c.rows - 1)]))[0]),
            quantiles=shown,
            families=tuple(fit_families(positive, whole_numbers=True)),
            atoms=_atoms(c),
        )
    dependence = trace.query("lengths/rank_correlation").to_pylist()[0]
    pairs = int(dependence["pairs"])
    cells = min(CELLS, 2 ** int(math.log2(max(1.0, math.sqrt(pairs / (2 * K_ANONYMITY))))))
    t = trace.query("lengths/rank_grid", cells=cells)
    grid = np.zeros((cells, cells))
    grid[np.minimum(t["i"].to_numpy(), cells - 1), np.minimum(t["j"].to_numpy(), cells - 1)] = t[
        "n"
    ].to_numpy()
    return Lengths(
        input=margins["input"],
        output=margins["output"],
        pairs=pairs,
        spearman=_finite(dependence["spearman"]),
        pearson=_finite(dependence["pearson"]),
        copula=significant(_suppress(grid) / pairs, 4),
    )


def _finite(x: float | None) -> float:
    """A correlation of constants is undefined; as a dependence it is none."""
    return 0.0 if x is None or not math.isfinite(x) else float(x)


def _suppress(grid: Array) -> Array:
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


def _atoms(c: Counts) -> tuple[tuple[float, float], ...]:
    """Values with more than 1 % of the rows and five times the mean mass of their ten neighbours; heaviest first."""
    if len(c) < 12:
        return ()
    kernel = np.ones(11)
    kernel[5] = 0.0
    around = np.convolve(c.n, kernel, "same") / np.convolve(np.ones(len(c)), kernel, "same")
    found = (c.n / c.rows > ATOM_SHARE) & (c.n > 5 * around)
    order = np.argsort(-c.n[found], kind="stable")
    return tuple(
        (float(v), float(n / c.rows))
        for v, n in zip(c.x[found][order][:8], c.n[found][order][:8], strict=True)
    )


def sample(lengths: Lengths, rng: np.random.Generator, size: int) -> tuple[Ints, Ints]:
    """``size`` pairs (input, output): a copula cell, a point in it, and both grids inverted and rounded."""
    cells = lengths.copula.shape[0]
    edges = np.cumsum(lengths.copula.ravel())
    cell = np.minimum(
        np.searchsorted(edges, rng.random(size) * edges[-1], side="right"), cells * cells - 1
    )
    u = (cell // cells + rng.random(size)) / cells
    v = (cell % cells + rng.random(size)) / cells
    return (
        np.rint(lengths.input.grid.quantile(u)).astype(np.int64),
        np.rint(lengths.output.grid.quantile(v)).astype(np.int64),
    )


LIMITS = {"input KS D": 0.015, "output KS D": 0.015, "rank correlation difference": 0.03}


def score(a: Trace, b: Trace) -> list[Line]:
    """KS D of each side and the difference of the Spearman correlations."""
    ca, cb = token_counts(a), token_counts(b)
    lines = []
    for side in SIDES:
        enough = ca[side].rows >= 20 and cb[side].rows >= 20
        value = two_sample_ks(ca[side], cb[side]) if enough else None
        lines.append(
            Line(
                NAME,
                f"{side} KS D",
                value,
                LIMITS[f"{side} KS D"],
                note="" if enough else "too few rows",
            )
        )
    rho = [t.query("lengths/rank_correlation").to_pylist()[0]["spearman"] for t in (a, b)]
    known = all(r is not None and math.isfinite(r) for r in rho)
    name = "rank correlation difference"
    difference = abs(rho[0] - rho[1]) if known else None
    lines.append(
        Line(NAME, name, difference, LIMITS[name], "Spearman", "" if known else "undefined")
    )
    return lines

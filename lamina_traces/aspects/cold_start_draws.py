"""Cold starts drawn from what a profile says of them: steps that add up to a whole, and what the pods were.

Steps are drawn together, by a normal copula with the recorded rank correlations. Their sum, at the share p of all sums,
takes the value that the whole has at p, and the steps are stretched alike to fit: so the whole has its own law, tails and
modes included, and is the sum of its steps plus what is not recorded of them. Where no correlation was recorded (a
published curve), the one that all steps share is that by which their sums come closest to the whole. Where the steps are
but a small part of the whole, it is drawn by itself and they are shortened only where they would be longer.

Published curves leave zeros out (Joosen et al. 2025, section 4): where the means of the steps are more than the
whole's, so many cold starts skip the dependencies as makes up for it.

Runtime, trigger, pool and region are drawn given how long the whole took, each by itself: a group is the likelier, the
more of its cold starts lie at that share of all.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import special

from ..distributions import QuantileCurve
from ..errors import ModelError
from .cold_starts import GROUPED, PARTS, SCOPES, ColdStarts, Component

Array = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

SUMS = 1 << 15
"""sums of steps that their law is taken from."""
SHARED = tuple(np.linspace(0.0, 0.95, 20))
"""correlations tried where none was recorded."""
DEPENDENCIES = "deploy_dep"
MOST_OF_IT = 0.9
"""share of the whole from which the steps make it."""
MOST_SKIPPED = 0.95
LEVELS = {"p10": 0.1, "p50": 0.5, "p90": 0.9, "p99": 0.99}
COLUMNS = {"total": "total_s", "init": "init_s", "model_load": "model_load_s", "ready": "total_s"}
"""of the wholes; a published time until a replica is ready is told as the whole."""


@dataclass(frozen=True, eq=False)
class Law:
    """Seconds of one component: 0 for ``zero_share`` of the cold starts, the others by ``curve``."""

    curve: QuantileCurve
    zero_share: float
    least_s: float

    @classmethod
    def of(cls, c: Component, skipped: float = 0.0) -> Law | None:
        """None where a profile keeps neither a grid nor that all skip the step. ``skipped``: share that skips it beside
        those that the component tells of."""
        if c.grid is None:
            if c.zero_share < 1:
                return None
            return cls(QuantileCurve(np.array([0.0, 1.0]), np.zeros(2)), 1.0, 0.0)
        curve = c.grid.curve
        positive = curve.values[curve.values > 0]
        least = float(positive[0]) if len(positive) else 0.0
        if skipped > 0:
            at = np.concatenate([[0.0], skipped + (1 - skipped) * curve.at])
            curve = QuantileCurve(at, np.concatenate([[least], curve.values]))
        return cls(curve, skipped + (1 - skipped) * c.zero_share, least)

    def seconds(self, u: Array) -> Array:
        x = np.maximum(self.curve.quantile(u), self.least_s)
        return np.where(u < self.zero_share, 0.0, x)


@dataclass(frozen=True, eq=False)
class Groups:
    """One column: ``names``, and the chance of each given the share of all at which the whole lies: rows of ``chance``
    are cumulative over names, for shares between ``edges``. Behind the last name nothing is recorded."""

    names: tuple[str, ...]
    edges: Array
    chance: Array

    def drawn(self, p: Array, u: Array) -> Ints:
        """Positions in ``names``, or their number for none."""
        k = np.clip(np.searchsorted(self.edges, p, side="right") - 1, 0, len(self.chance) - 1)
        return np.asarray((u[:, None] >= self.chance[k]).sum(axis=1))


@dataclass(frozen=True, eq=False)
class Draws:
    """What ``cold_starts`` are drawn from. ``whole`` is the component that stands for the cold start, ``column`` where it
    is told; ``recorded``: rank correlations of steps; ``known``: how much of the whole the steps account for; ``others``:
    components of other scopes, by column."""

    whole: Law
    column: str
    steps: Mapping[str, Law]
    recorded: Mapping[str, float]
    known: float
    others: Mapping[str, Law]
    groups: Mapping[str, Groups]

    @classmethod
    def of(cls, law: ColdStarts) -> Draws:
        """From the aspect. Raises ModelError where it keeps no law of the whole."""
        main = law.main
        whole = Law.of(law.components[main])
        if whole is None:
            raise ModelError(
                "cold starts of the profile are too few to draw from",
                "fit a trace of 20 cold starts or more",
            )
        names = [p for p in (PARTS if main == "total" else ()) if p in law.components]
        mean = law.components[main].mean_s
        part = math.fsum(law.components[p].mean_s for p in names)
        skipped = 0.0
        if law.evidence != "rows" and DEPENDENCIES in names:
            longest = law.components[DEPENDENCIES].mean_s
            skipped = min(max(part - mean, 0.0) / longest, MOST_SKIPPED) if longest > 0 else 0.0
        steps = {
            p: s
            for p in names
            if (s := Law.of(law.components[p], skipped * (p == DEPENDENCIES))) is not None
        }
        known = 0.0
        if steps:
            # four steps are all there are: what their means lack is rounding
            known = 1.0 if len(steps) == len(PARTS) else min(1.0, part / mean if mean > 0 else 1.0)
        others = {
            COLUMNS[w]: o
            for w in SCOPES
            if w != main and w in law.components and (o := Law.of(law.components[w])) is not None
        }
        return cls(
            whole, COLUMNS[main], steps, law.rank_correlations, known, others, _groups(law, whole)
        )

    @functools.cached_property
    def copula(self) -> tuple[Array, Array]:
        """([steps, steps] what makes normal numbers correlated, quantiles of the sum of the steps)."""
        return _copula(self.steps, self.recorded, self.whole, self.known)

    @property
    def numbers(self) -> int:
        """Uniform numbers that a cold start needs."""
        return 1 + len(self.steps) + len(self.others) + len(self.groups)

    def seconds(self, u: Array) -> tuple[dict[str, Array], dict[str, Ints]]:
        """From uniform numbers [``numbers``, n]: seconds by column, and positions in the names of each group."""
        k = 1 + len(self.steps)
        out: dict[str, Array] = {}
        p = u[0]
        parts = np.zeros((0, u.shape[1]))
        if self.steps:
            mixing, sums = self.copula
            parts = _parts(self.steps, mixing, u[1:k])
        total = parts.sum(axis=0)
        made = len(self.steps) > 0 and self.known >= MOST_OF_IT
        if made:
            p = np.interp(total, sums, (np.arange(len(sums)) + 0.5) / len(sums))
        whole = self.whole.seconds(p)
        out[self.column] = whole
        if self.steps:
            with np.errstate(divide="ignore", invalid="ignore"):
                fits = np.where(total > 0, (self.known if made else 1.0) * whole / total, 0.0)
            parts = parts * (fits if made else np.minimum(fits, 1.0))
            out |= {f"{name}_s": x for name, x in zip(self.steps, parts, strict=True)}
            out["residual_s"] = whole - parts.sum(axis=0)
        for i, (column, law) in enumerate(self.others.items()):
            out[column] = law.seconds(u[k + i])
        first = k + len(self.others)
        named = {by: g.drawn(p, u[first + i]) for i, (by, g) in enumerate(self.groups.items())}
        return out, named


def _parts(steps: Mapping[str, Law], mixing: Array, u: Array) -> Array:
    """[steps, n] seconds of the steps from uniform numbers."""
    normal = special.ndtri(u)
    out = []
    for law, row in zip(steps.values(), mixing, strict=True):
        # by hand: a matrix product's last digit depends on how many columns it has
        z = np.zeros(u.shape[1])
        for weight, x in zip(row, normal, strict=True):
            z += weight * x
        out.append(law.seconds(special.ndtr(z)))
    return np.stack(out)


def _copula(
    steps: Mapping[str, Law], recorded: Mapping[str, float], whole: Law, known: float
) -> tuple[Array, Array]:
    """(what makes normal numbers correlated, quantiles of the sum of the steps)."""
    u = np.random.Generator(np.random.Philox(key=1)).random((len(steps), SUMS))
    if any(f"{a}~{b}" in recorded for a in steps for b in steps):
        mixing = _root(steps, recorded)
        return mixing, np.sort(_parts(steps, mixing, u).sum(axis=0))
    wanted = np.log(np.maximum(known * whole.seconds((np.arange(199) + 0.5) / 199), 1e-6))
    tried = []
    for r in SHARED:
        mixing = _root(steps, {f"{a}~{b}": r for a in steps for b in steps})
        sums = np.sort(_parts(steps, mixing, u).sum(axis=0))
        found = np.log(np.maximum(sums[(np.arange(199) * SUMS + SUMS // 2) // 199], 1e-6))
        tried.append((float(np.abs(found - wanted).mean()), mixing, sums))
    _, mixing, sums = min(tried, key=lambda t: t[0])
    return mixing, sums


def _root(steps: Mapping[str, Law], rank: Mapping[str, float]) -> Array:
    """A square root of the normal copula's matrix: ρ = 2·sin(π·r/6) of Spearman's r (Pearson 1907), negative
    eigenvalues put to 0."""
    names = list(steps)
    r = np.eye(len(names))
    for i, a in enumerate(names):
        for j, b in enumerate(names):
            if i < j:
                r[i, j] = r[j, i] = rank.get(f"{a}~{b}", rank.get(f"{b}~{a}", 0.0))
    values, vectors = np.linalg.eigh(2 * np.sin(np.pi * r / 6))
    root = vectors * np.sqrt(np.maximum(values, 0.0))
    return np.asarray(root / np.sqrt((root**2).sum(axis=1, keepdims=True)))


def _groups(law: ColdStarts, whole: Law) -> dict[str, Groups]:
    """The columns that the profile tells groups of."""
    out = {}
    fine = (np.arange(2000) + 0.5) / 2000
    seconds = whole.seconds(fine)
    for by in GROUPED:
        mine = [g for g in law.groups if g.by == by and g.scope == law.main]
        if not mine:
            continue
        rows = np.array([g.rows for g in mine], dtype=np.float64)
        # a group's quantiles as shares of all: between those its law is taken to be flat
        levels, shares = [], []
        for g in mine:
            told = [(q, g.quantiles_s[k]) for k, q in LEVELS.items() if k in g.quantiles_s]
            at = np.searchsorted(seconds, [x for _, x in told]) / len(seconds)
            q = np.array([q for q, _ in told])
            low, high = 0.0, 1.0
            if len(q) > 1:  # beyond the last quantiles told it is as dense as before them
                low = max(0.0, at[0] - (at[1] - at[0]) * q[0] / (q[1] - q[0]))
                high = min(1.0, at[-1] + (at[-1] - at[-2]) * (1 - q[-1]) / (q[-1] - q[-2]))
            levels.append(np.concatenate([[0.0], q, [1.0]]))
            shares.append(np.maximum.accumulate(np.concatenate([[low], at, [high]])))
        edges = np.unique(np.concatenate([np.linspace(0, 1, 65), *shares]))
        edges = edges[np.concatenate([[True], np.diff(edges) > 1e-9])]
        mass = np.stack([_mass(edges, s, q) for s, q in zip(shares, levels, strict=True)], axis=1)
        joint = mass * rows
        recorded = min(1.0, float(rows.sum()) / max(law.components[law.main].rows, 1.0))
        known = joint.sum(axis=1, keepdims=True)
        chance = np.where(known > 0, joint / np.maximum(known, 1e-300), rows / rows.sum())
        names = tuple(g.name for g in mine)
        out[by] = Groups(names, edges, np.cumsum(chance, axis=1) * recorded)
    return out


def _mass(edges: Array, shares: Array, levels: Array) -> Array:
    """How much of a group lies between neighbouring ``edges``, from its quantiles ``shares`` at ``levels``; quantiles that
    share a value are spread over a millionth."""
    spread = shares + np.arange(len(shares)) * 1e-6
    return np.diff(np.interp(edges, spread, levels, left=0.0, right=1.0))

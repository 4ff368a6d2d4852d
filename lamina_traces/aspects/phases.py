"""Phase levels of a power curve: a small Gaussian hidden Markov model on a regular grid.

A serving GPU idles, prefills and decodes at levels of its own, and stays in each for a while. Two to four
levels are fitted by Baum & Welch's algorithm (Rabiner 1989, Proc. IEEE 77(2), equations 18 to 40b), from levels at
quantiles, so that a fit is a function of its data. What is left of the power beside its level is correlated in
time: its lag-1 correlation is given, so that ``sample`` makes level + AR(1).

The number of levels is that of the least BIC, with an AR(1) beside the levels whatever their number: else a slow
drift is cut into levels that nobody set. One more level must gain at least ``LEAST_GAIN`` of BIC a point: with 10⁴
points BIC alone takes all that it may. Levels closer to each other than twice the wider's spread are no levels.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from ..errors import ModelError
from ..units import short

Array = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

MOST_POINTS = 20_000
MOST_LEVELS = 4
PIECE = 256
"""points of a piece; pieces run side by side, so an iteration costs this many small steps whatever the length."""
FEWEST_POINTS = 60
LEAST_GAIN = 0.04
"""of BIC per point, for one more level."""
LEAST_SHARE = 0.01
"""of the time; a rarer level is a few odd readings."""
LEAST_SD = 2e-3
"""smallest spread of a level, of the whole range: a level that repeats one reading would have an infinite likelihood."""
ITERATIONS = 100


@dataclass(frozen=True)
class Level:
    """``mean_w`` ± ``sd_w``; ``share`` of the time spent there; ``dwell_s``: mean stay, of a geometric law."""

    mean_w: float
    sd_w: float
    share: float
    dwell_s: float

    def to_dict(self) -> dict[str, Any]:
        return dict(self.__dict__)


@dataclass(frozen=True)
class Phases:
    """Levels from low to high on a grid of ``step_s``. ``transitions[i][j]``: probability of going from i to j
    in one step. ``phi``: lag-1 correlation of what is left beside the level. ``gain``: BIC per point that the levels
    are better by than one level with an AR(1)."""

    step_s: float
    points: int
    levels: tuple[Level, ...]
    transitions: tuple[tuple[float, ...], ...]
    phi: float
    gain: float

    def to_dict(self) -> dict[str, Any]:
        return {
            "step_s": self.step_s,
            "points": self.points,
            "levels": [x.to_dict() for x in self.levels],
            "transitions": [list(row) for row in self.transitions],
            "phi": self.phi,
            "gain": self.gain,
        }

    @classmethod
    def from_dict(cls, d: dict[str, Any]) -> Phases:
        """Inverse of ``to_dict``. Raises ModelError where shares or probabilities are none."""
        levels = tuple(
            Level(float(x["mean_w"]), float(x["sd_w"]), float(x["share"]), float(x["dwell_s"]))
            for x in d["levels"]
        )
        rows = tuple(tuple(float(p) for p in row) for row in d["transitions"])
        out = cls(float(d["step_s"]), int(d["points"]), levels, rows, float(d["phi"]), float(d["gain"]))  # fmt: skip
        k = len(levels)
        sane = (
            2 <= k <= MOST_LEVELS
            and out.step_s > 0
            and abs(out.phi) <= 1
            and math.isfinite(out.gain)
            and all(
                math.isfinite(x.mean_w) and 0 <= x.sd_w < math.inf and 0 < x.dwell_s < math.inf
                and 0 <= x.share <= 1 for x in levels
            )
            and len(rows) == k
            and all(len(r) == k and abs(sum(r) - 1) < 1e-3 and min(r) >= 0 for r in rows)
        )  # fmt: skip
        if not sane:
            raise ModelError(
                "phases of the profile: levels, shares or transitions are none",
                "fit the profile again",
            )
        return out


@dataclass(frozen=True)
class Chain:
    """A fitted chain: ``means`` and ``sds`` in W, ``start`` [K], ``step`` [K, K], ``loglik`` in nats."""

    means: Array
    sds: Array
    start: Array
    step: Array
    loglik: float


def fit_phases(runs: Sequence[Array], step_s: float) -> Phases | None:
    """Levels of the power in ``runs``, each an unbroken stretch of a grid of ``step_s`` in W. None where one level
    with an AR(1) says as much, or there are fewer than 60 points."""
    x, there = pieces(runs)
    values = x[there]
    n = len(values)
    if n < FEWEST_POINTS or float(values.max()) <= float(values.min()):
        return None
    one = _bic(x, there, _one_level(x, there))[0]
    best: tuple[Chain, float, float, Array] | None = None
    for k in range(2, MOST_LEVELS + 1):
        chain = baum_welch(x, there, k)
        bic, phi = _bic(x, there, chain)
        last = best[1] if best else one
        if bic >= last:
            break
        share = _posterior(x, there, chain)[there].sum(axis=0) / n
        if (last - bic) / n >= LEAST_GAIN and _apart(chain, share, n):
            best = (chain, bic, phi, share)
    if best is None:
        return None
    chain, bic, phi, share = best
    return Phases(
        step_s=step_s,
        points=n,
        levels=tuple(
            Level(short(m, 6), short(s, 6), short(p, 6), short(step_s / max(1 - a, 1e-9), 6))
            for m, s, p, a in zip(chain.means, chain.sds, share, chain.step.diagonal(), strict=True)
        ),
        transitions=tuple(tuple(round(float(p), 6) for p in row) for row in chain.step),
        phi=round(phi, 4),
        gain=short((one - bic) / n, 6),
    )


def sample(phases: Phases, rng: np.random.Generator, points: int) -> Array:
    """``points`` of power in W on a grid of ``phases.step_s``: a walk over the levels and an AR(1) beside them."""
    step = np.cumsum(np.array(phases.transitions), axis=1)
    share = np.cumsum([x.share for x in phases.levels])
    state = np.empty(points, dtype=np.int64)
    u = rng.random(points)
    last = len(share) - 1
    for i in range(points):
        edges = share / share[-1] if i == 0 else step[state[i - 1]]
        state[i] = min(int(np.searchsorted(edges, u[i], side="right")), last)
    noise = rng.standard_normal(points)
    phi = phases.phi
    for i in range(1, points):
        noise[i] = phi * noise[i - 1] + math.sqrt(1 - phi * phi) * noise[i]
    means = np.array([x.mean_w for x in phases.levels])
    sds = np.array([x.sd_w for x in phases.levels])
    out: Array = means[state] + sds[state] * noise
    return np.maximum(out, 0.0)


def pieces(runs: Sequence[Array]) -> tuple[Array, npt.NDArray[np.bool_]]:
    """[pieces, PIECE] the points, and which are there. Of more than ``MOST_POINTS``, pieces spread evenly."""
    cut = [r[i : i + PIECE] for r in runs for i in range(0, len(r), PIECE) if len(r) - i > 1]
    most = MOST_POINTS // PIECE
    if len(cut) > most:
        cut = [cut[i * len(cut) // most] for i in range(most)]
    x = np.zeros((len(cut), PIECE))
    there = np.zeros((len(cut), PIECE), dtype=bool)
    for i, piece in enumerate(cut):
        x[i, : len(piece)] = piece
        there[i, : len(piece)] = True
    return x, there


def baum_welch(x: Array, there: npt.NDArray[np.bool_], k: int) -> Chain:
    """The chain of ``k`` levels, from low to high, that makes ``x`` most likely, from levels at its quantiles."""
    values = x[there]
    floor = LEAST_SD * float(values.max() - values.min())
    means = np.quantile(values, (np.arange(k) + 0.5) / k)
    for _ in range(20):  # Lloyd's algorithm
        edges = (means[1:] + means[:-1]) / 2
        cell = np.searchsorted(edges, values)
        size = np.bincount(cell, minlength=k)
        means = np.where(size > 0, np.bincount(cell, values, minlength=k) / np.maximum(size, 1), means)  # fmt: skip
    spread = np.bincount(cell, (values - means[cell]) ** 2, minlength=k)
    sds = np.maximum(np.sqrt(spread / np.maximum(size, 1)), max(floor, 1e-9))
    chain = Chain(means, sds, np.full(k, 1 / k), np.full((k, k), 0.1 / k) + 0.9 * np.eye(k), -math.inf)  # fmt: skip
    for _ in range(ITERATIONS):
        density, scale = _density(x, there, chain)
        forward, norms = _forward(density, chain)
        backward = _backward(density, norms, chain)
        loglik = float((np.log(norms) + scale)[there].sum())
        if loglik - chain.loglik < 1e-6 * len(values):
            break
        gamma = forward * backward
        weight = gamma * there[:, :, None]
        inside = (density * backward / norms[:, :, None])[:, 1:] * there[:, 1:, None]
        moves = chain.step * np.einsum("sti,stj->ij", forward[:, :-1], inside) + 1e-12
        total = weight.sum(axis=(0, 1)) + 1e-12
        means = (weight * x[:, :, None]).sum(axis=(0, 1)) / total
        spread = (weight * (x[:, :, None] - means) ** 2).sum(axis=(0, 1)) / total
        start = gamma[:, 0].sum(axis=0)
        chain = Chain(
            means,
            np.maximum(np.sqrt(spread), floor),
            start / start.sum(),
            moves / moves.sum(axis=1, keepdims=True),
            loglik,
        )
    order = np.argsort(chain.means)
    return Chain(
        chain.means[order],
        chain.sds[order],
        chain.start[order],
        chain.step[order][:, order],
        loglikelihood(x, there, chain),
    )


def loglikelihood(x: Array, there: npt.NDArray[np.bool_], chain: Chain) -> float:
    """ln P(x) of the pieces under the chain."""
    density, scale = _density(x, there, chain)
    return float((np.log(_forward(density, chain)[1]) + scale)[there].sum())


def _posterior(x: Array, there: npt.NDArray[np.bool_], chain: Chain) -> Array:
    """[pieces, PIECE, levels] probability of each level given all points of the piece."""
    density, _ = _density(x, there, chain)
    forward, norms = _forward(density, chain)
    return forward * _backward(density, norms, chain)


def _density(x: Array, there: npt.NDArray[np.bool_], chain: Chain) -> tuple[Array, Array]:
    """Densities of each point at each level, divided by the largest, and the logarithm of that. A point that
    is not there has density 1 everywhere and so says nothing."""
    z = (x[:, :, None] - chain.means) / chain.sds
    log = -0.5 * z * z - np.log(chain.sds * math.sqrt(2 * math.pi))
    log = np.where(there[:, :, None], log, 0.0)
    scale = log.max(axis=2)
    return np.maximum(np.exp(log - scale[:, :, None]), 1e-300), scale


def _forward(density: Array, chain: Chain) -> tuple[Array, Array]:
    alpha = np.empty_like(density)
    norms = np.empty(density.shape[:2])
    now = chain.start * density[:, 0]
    for t in range(density.shape[1]):
        if t:
            now = (now @ chain.step) * density[:, t]
        norms[:, t] = now.sum(axis=1)
        now = now / norms[:, t, None]
        alpha[:, t] = now
    return alpha, norms


def _backward(density: Array, norms: Array, chain: Chain) -> Array:
    beta = np.empty_like(density)
    now = np.ones_like(density[:, 0])
    beta[:, -1] = now
    for t in range(density.shape[1] - 2, -1, -1):
        now = (now * density[:, t + 1] / norms[:, t + 1, None]) @ chain.step.T
        beta[:, t] = now
    return beta


def _one_level(x: Array, there: npt.NDArray[np.bool_]) -> Chain:
    values = x[there]
    mean, sd = float(values.mean()), float(values.std())
    chain = Chain(np.array([mean]), np.array([sd]), np.ones(1), np.ones((1, 1)), 0.0)
    return replace(chain, loglik=loglikelihood(x, there, chain))


def _bic(x: Array, there: npt.NDArray[np.bool_], chain: Chain) -> tuple[float, float]:
    """BIC of levels with an AR(1) beside them, and its lag-1 correlation φ.

    Beside what the chain explains, each step within a stay gains −½·ln of the share that φ leaves of the variance:
    exact for one level, and for several as if the most likely levels were known. Without it a slow drift would be
    worth more levels.
    """
    state = _posterior(x, there, chain).argmax(axis=2)
    z = (x - chain.means[state]) / chain.sds[state]
    stay = there[:, 1:] & there[:, :-1] & (state[:, 1:] == state[:, :-1])
    a, b = z[:, :-1][stay], z[:, 1:][stay]
    before, power = float((a * a).sum()), float((b * b).sum())
    phi, gain = 0.0, 0.0
    if before > 0 and power > 0:
        phi = max(-1.0, min(1.0, float((a * b).sum()) / before))
        left = b - phi * a
        gain = -0.5 * len(a) * math.log(max(float((left * left).sum()) / power, 1e-12))
    k = len(chain.means)
    return -2 * (chain.loglik + gain) + (k * k + k + 1) * math.log(int(there.sum())), phi


def _apart(chain: Chain, share: Array, points: int) -> bool:
    """Whether neighbouring levels differ by twice the wider's spread, and each has been seen often enough."""
    wider = np.maximum(chain.sds[1:], chain.sds[:-1])
    return bool(
        (np.diff(chain.means) >= 2 * wider).all() and share.min() >= max(LEAST_SHARE, 10 / points)
    )

"""Fits efficiencies to measured points, toward a prior.

With times that add up (``sum``) a prediction is a sum of terms, each a time at peak over a share, and of
overheads times a count. So all predictions are arithmetic on one table, made once, and a fit takes seconds.

The fit is a maximum a posteriori: log errors with a robust loss, of standard deviation ``NOISE``, and a normal prior on
the logarithm of every factor.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
from scipy.optimize import least_squares

from .efficiency import Efficiency, ideal, is_share
from .points import Point, tpot_states

Floats = npt.NDArray[np.float64]
NOISE = 0.07
"""relative spread of one engine's measurements around any model of it (assumed)."""

KNOBS: Mapping[str, tuple[str, ...]] = {
    "compute": ("compute", "compute_8", "attention"),
    "memory": ("memory", "memory_4"),
    "overhead": ("vocab_s", "hops", "operator_s", "step_s", "sequence_s"),
}
"""what a few points can tell apart: one factor each on all shares of compute, of memory, and on all overheads."""

ERA_KNOBS = {"2025-sync": ("step_s", "vocab_s"), "2023": ("step_s", "sequence_s")}
"""what a software era has of its own."""


@dataclass(frozen=True)
class Design:
    """Predictions of TPOT as arithmetic. peak [points, shares]: seconds at peak, to be divided by each of ``shares``;
    counts [points, overheads]: times each overhead occurs."""

    shares: tuple[str, ...]
    peak: Floats
    overheads: tuple[str, ...]
    counts: Floats
    measured: Floats

    @classmethod
    def of(cls, points: Sequence[Point], *, by_era: bool = False) -> Design:
        """The table of points that have a TPOT (``tpot_s``) and are no open loops. ``by_era``: the host's overheads
        of each software era but 2025 have names of their own (``step_s@2023``)."""
        base = ideal()
        shares = tuple(n for n, q in base.quantities().items() if not q.unit)
        known = tuple(n for n, q in base.quantities().items() if q.unit)
        eras = sorted({p.era for p in points} - {"2025"}) if by_era else []
        overheads = known + tuple(f"{n}@{e}" for e in eras for n in ERA_KNOBS[e])
        peak = np.zeros((len(points), len(shares)))
        counts = np.zeros((len(points), len(overheads)))
        for i, p in enumerate(points):
            whole = _tpot(p, base)

            def added(name: str, value: float, p: Point = p, whole: float = whole) -> float:
                return _tpot(p, base.with_values({name: value}, "one", "derived")) - whole

            peak[i] = [added(n, 0.5) for n in shares]  # half the share takes twice the time
            for name in known:
                own = p.era in eras and name in ERA_KNOBS[p.era]
                counts[i, overheads.index(f"{name}@{p.era}" if own else name)] = added(name, 1.0)
        measured = np.array([p.measured["tpot_s"] for p in points])
        return cls(shares, peak, overheads, counts, measured)

    def predict(self, values: Mapping[str, float]) -> Floats:
        """[points] seconds under these efficiencies."""
        factor = [1.0 / values[n] for n in self.shares]
        over = [values[n] for n in self.overheads]
        return np.asarray(self.peak @ np.array(factor) + self.counts @ np.array(over))

    def take(self, rows: npt.NDArray[np.int64]) -> Design:
        """Some of its points."""
        return Design(
            self.shares, self.peak[rows], self.overheads, self.counts[rows], self.measured[rows]
        )


def _tpot(p: Point, efficiency: Efficiency) -> float:
    step = p.step(efficiency)
    return sum(weight * step.seconds(x) for weight, x in tpot_states(p))


def values_of(efficiency: Efficiency) -> dict[str, float]:
    return {n: q.value for n, q in efficiency.quantities().items()}


def fit(
    design: Design,
    prior: Mapping[str, float],
    free: Iterable[Sequence[str]],
    *,
    spread: float = 0.2,
    weights: Floats | None = None,
) -> dict[str, float]:
    """Efficiencies that bring the predictions near the measured times.

    ``free``: groups of names; each group is multiplied by one factor, whose logarithm has a normal prior of mean 0
    and standard deviation ``spread``. ``weights`` [points]: how many measurements a point stands for. Shares stay
    at most 1.
    """
    groups = [tuple(g) for g in free]
    w = np.ones(len(design.measured)) if weights is None else weights

    def values(z: Floats) -> dict[str, float]:
        out = dict(prior)
        for names, factor in zip(groups, np.exp(z), strict=True):
            for n in names:
                out[n] = prior[n] * float(factor)
                if "@" not in n and is_share(n):
                    out[n] = min(1.0, out[n])
        return out

    def residuals(z: Floats) -> Floats:
        error = np.log(design.predict(values(z)) / design.measured) / NOISE
        # robust: beyond two standard deviations an error counts by its size, not by its square
        error = np.sign(error) * np.sqrt(8.0 * (np.sqrt(1.0 + error**2 / 4.0) - 1.0))
        return np.concatenate([np.sqrt(w) * error, z / spread])

    found = least_squares(residuals, np.zeros(len(groups)), max_nfev=60)
    return values(found.x)


def calibrate(points: Sequence[Point], prior: Efficiency, source: str) -> Efficiency:
    """The prior moved toward a few points by ``KNOBS``: three numbers, however few the points."""
    design = Design.of(points)
    return prior.with_values(fit(design, values_of(prior), KNOBS.values()), source, "fitted")


FEW = (2, 4, 8)
DRAWS = 10
"""random choices of so many points, each scored on the points that were not chosen."""
FOLDS = 60
"""most fits of a leave-one-out: of more points, several are left out at once."""


def timed(p: Point) -> Point | None:
    """The point with a TPOT: measured, or from tokens per second where N sequences are always under way
    (N / throughput, Little); None where it has neither, or is an open loop, which no sum of terms predicts."""
    if p.mode == "open":
        return None
    if "tpot_s" in p.measured:
        return p
    rate = p.measured.get("output_tok_s")
    if rate is None or p.mode not in ("closed", "throughput"):
        return None
    return replace(p, measured={**p.measured, "tpot_s": p.load / rate})


@dataclass(frozen=True)
class Calibrated:
    """A fit to ``points``, with relative errors of TPOT (predicted / measured − 1) for judging it.

    ``before``, ``inside`` [points]: by the prior, by the fit to all. ``left_out`` [points]: by fits without the
    point, None for fewer than two. ``few``: by number of points, mean |error| on the others over DRAWS choices;
    None where fewer than twice as many points exist.
    """

    points: tuple[Point, ...]
    prior: Efficiency
    efficiency: Efficiency
    before: Floats
    inside: Floats
    left_out: Floats | None
    few: Mapping[int, float | None]

    @property
    def factors(self) -> dict[str, float]:
        """By knob: what its values were multiplied by (before shares are cut at 1)."""
        old, new = values_of(self.prior), values_of(self.efficiency)
        return {k: new[names[-1]] / old[names[-1]] for k, names in KNOBS.items()}

    def moved(self) -> dict[str, float]:
        """The values that the fit could move."""
        new = values_of(self.efficiency)
        return {n: new[n] for names in KNOBS.values() for n in names}


def assess(points: Sequence[Point], prior: Efficiency, source: str, *, seed: int = 0) -> Calibrated:
    """``calibrate`` on points that have a TPOT, and how far to trust it."""
    design, start = Design.of(points), values_of(prior)
    n, rng = len(points), np.random.default_rng(seed)

    def errors(values: Mapping[str, float], rows: npt.NDArray[np.int64]) -> Floats:
        part = design.take(rows)
        return np.asarray(part.predict(values) / part.measured - 1)

    def fitted(rows: npt.NDArray[np.int64]) -> dict[str, float]:
        return fit(design.take(rows), start, KNOBS.values())

    every = np.arange(n)
    whole = fitted(every)
    left_out = None
    if n > 1:
        left_out = np.zeros(n)
        for part in np.array_split(rng.permutation(n), min(n, FOLDS)):
            left_out[part] = errors(fitted(np.setdiff1d(every, part)), part)
    few: dict[int, float | None] = {}
    for k in FEW:
        if n < 2 * k:
            few[k] = None
            continue
        scores = []
        for _ in range(DRAWS):
            chosen = rng.choice(n, k, replace=False)
            scores.append(np.abs(errors(fitted(chosen), np.setdiff1d(every, chosen))).mean())
        few[k] = float(np.mean(scores))
    return Calibrated(
        tuple(points),
        prior,
        prior.with_values(whole, source, "fitted"),
        errors(start, every),
        errors(whole, every),
        left_out,
        few,
    )

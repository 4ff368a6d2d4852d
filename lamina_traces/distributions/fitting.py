"""Fitting families to Counts: complete, binned, right-censored or truncated, with atoms or without."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ..counts import Counts
from ..errors import ModelError
from ..intervals import Blocks, Interval, read_intervals
from ..units import format_number, short
from .atoms import NO_ATOMS, Atoms
from .discrete import DISCRETE
from .families import CONTINUOUS, Array, Family, Params
from .mixtures import LEAST_SIGMA, LEAST_WEIGHT, MIXTURES, components
from .search import newton, simplex

FAMILIES: dict[str, Family] = {**CONTINUOUS, **DISCRETE, **MIXTURES}
"""all families by name."""

POSITIVE = ("exponential", "lognormal", "gamma", "weibull", "loglogistic", "inverse-gaussian")
"""the families tried on durations, gaps and lengths, when none are named."""

SMALL = 64.0
"""whole numbers below it are judged by F(k + ½) − F(k − ½), above it the density is as good."""
WIDE_BIN = 1.25
"""a bin whose ends differ by more than this factor enters by its interval and not by its mean."""


@dataclass(frozen=True)
class Fitted:
    """One family fitted to Counts, with effect sizes. At 10⁷ rows every p-value is 0, so none is given.

    ``params`` describe the continuous part; ``atoms`` carry their own shares, and ``cap`` is a value that all
    beyond it were cut to. ``ks_d``: largest distance between the two distribution functions. ``w1_log10``: mean
    distance between the quantile curves, in powers of ten. ``aic_per_row``: −2·log-likelihood + 2·parameters,
    by rows; lower is better. ``quantile_errors``: model/data − 1. ``intervals``: of the parameters, where dependence allows.
    """

    family: str
    params: Params
    rows: float
    aic_per_row: float
    ks_d: float
    w1_log10: float
    quantile_errors: Mapping[str, float] = field(default_factory=dict)
    atoms: Atoms = NO_ATOMS
    intervals: Mapping[str, Interval] = field(default_factory=dict)

    def cdf(self, x: Array) -> Array:
        """Of the whole law, atoms and cap included."""
        return self.atoms.cdf(np.asarray(x, dtype=np.float64), self._cdf)

    def quantile(self, q: Array) -> Array:
        """Of the whole law, atoms and cap included."""
        law = FAMILIES[self.family]
        return self.atoms.quantile(
            np.asarray(q, dtype=np.float64), self._cdf, lambda u: law.quantile(u, self.params)
        )

    def _cdf(self, x: Array) -> Array:
        law = FAMILIES[self.family]
        return law.cdf(
            x if law.real else np.maximum(x, 0.0 if law.discrete else 1e-300), self.params
        )

    @property
    def mean(self) -> float:
        """Of the part without atoms; infinite for the heaviest tails."""
        return FAMILIES[self.family].mean(self.params)

    def parameters(self) -> str:
        """``shape 0.42 [0.40, 0.44], scale 0.3 [0.28, 0.33]``; of a mixture ``0.3·(mu −8.5, sigma 0.4) + …``."""
        law = FAMILIES[self.family]
        if law.mixture:
            own = [name for name in law.parameters if name != "w"]
            parts = range(1, 1 + sum(k.startswith("w") for k in self.params))
            return " + ".join(
                f"{format_number(self.params[f'w{i}'])}·("
                + ", ".join(f"{name} {format_number(self.params[f'{name}{i}'])}" for name in own)
                + ")"
                for i in parts
            )
        out = []
        for name, value in self.params.items():
            interval = self.intervals.get(name)
            ends = f" {interval}" if interval else ""
            out.append(f"{name} {format_number(value)}{ends}")
        return ", ".join(out)

    def effect(self) -> str:
        """``KS D 0.013, W1 0.021 decades``."""
        return f"KS D {self.ks_d:.3f}, W1 {self.w1_log10:.3f} decades"

    def to_dict(self) -> dict[str, Any]:
        out: dict[str, Any] = {
            "family": self.family,
            "params": dict(self.params),
            "rows": self.rows,
            "aic_per_row": self.aic_per_row,
            "ks_d": self.ks_d,
            "w1_log10": self.w1_log10,
        }
        if self.quantile_errors:
            out["quantile_errors"] = dict(self.quantile_errors)
        if self.atoms:
            out["atoms"] = self.atoms.to_dict()
        if self.intervals:
            out["intervals"] = {k: i.to_dict() for k, i in self.intervals.items()}
        return out

    @classmethod
    def from_dict(cls, d: dict[str, Any]) -> Fitted:
        if d["family"] not in FAMILIES:
            raise ModelError(
                f"unknown family {d['family']!r} in a profile", "it comes from a newer version"
            )
        params = {str(k): float(v) for k, v in d["params"].items()}
        _check(FAMILIES[d["family"]], params)
        return cls(
            d["family"],
            params,
            float(d["rows"]),
            float(d["aic_per_row"]),
            float(d["ks_d"]),
            float(d["w1_log10"]),
            {str(k): float(v) for k, v in d.get("quantile_errors", {}).items()},
            Atoms.from_dict(d["atoms"]) if d.get("atoms") else NO_ATOMS,
            read_intervals(d.get("intervals", {})),
        )


def _check(law: Family, params: Params) -> None:
    """Raises ModelError on parameters that are not the family's, or out of their range."""
    bare = [re.sub(r"\d+$", "", k) for k in params] if law.mixture else list(params)
    whole = law.mixture and len(bare) % len(law.parameters) == 0
    if (set(bare) != set(law.parameters)) or not (whole or len(params) == len(law.parameters)):
        raise ModelError(
            f"parameters of {law.name} are {sorted(params)}", f"expected {law.parameters}"
        )
    if not all(
        math.isfinite(v) and (k in law.signed or v > 0)
        for k, v in zip(bare, params.values(), strict=True)
    ):
        raise ModelError(
            f"parameters of {law.name} must be positive and finite: {params}",
            "fit the profile again",
        )
    weights = [v for k, v in zip(bare, params.values(), strict=True) if k == "w" and law.mixture]
    if weights and abs(sum(weights) - 1) > 2e-3:
        raise ModelError(f"weights of {law.name} add up to {sum(weights)}", "fit the profile again")


# --- distances -------------------------------------------------------------------------------------

_MIDPOINTS = (np.arange(1000) + 0.5) / 1000


def ks_distance(c: Counts, cdf: Callable[[Array], Array], half_step: float = 0.0) -> float:
    """max |E(v) − F(v + half_step)| over the counted values, from above and from below.

    ``half_step`` is 0.5 for whole numbers (the discrete cdf; then only from above), 0 otherwise.
    """
    x = c.x
    above = np.cumsum(c.n) / c.rows
    model = cdf(x + half_step)
    distance = float(np.abs(above - model).max())
    if half_step == 0.0:
        distance = max(distance, float(np.abs(model - (above - c.n / c.rows)).max()))
    return distance


def w1_log10(a: Callable[[Array], Array], b: Callable[[Array], Array], floor: float) -> float:
    """Mean |log10 Qa(u) − log10 Qb(u)| over u at 1,000 midpoints; values below ``floor`` count as it."""
    qa = np.maximum(a(_MIDPOINTS), floor)
    qb = np.maximum(b(_MIDPOINTS), floor)
    return float(np.abs(np.log10(qa) - np.log10(qb)).mean())


# --- likelihood ------------------------------------------------------------------------------------


def log_mass(law: Family, lo: Array, hi: Array, params: Params) -> Array:
    """ln P(lo < X ≤ hi), from whichever tail is the shorter: one minus one has no digits left."""
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        below, above = law.cdf(lo, params), law.cdf(hi, params)
        direct = np.log(np.maximum(above - below, 1e-300))
        slo, shi = law.logsf(lo, params), law.logsf(hi, params)
        tail = slo + np.log(-np.expm1(np.minimum(shi - slo, -1e-300)))
    out = np.where(below > 0.5, tail, direct)
    return np.asarray(np.maximum(np.where(np.isfinite(out), out, -690.0), -690.0))


@dataclass(frozen=True)
class _Data:
    """A table split by how its entries are known."""

    exact: Counts
    """values, or bins so narrow that their mean will do."""
    lo: Array
    hi: Array
    n: Array
    """bins that enter by their interval."""
    width: Array
    """what turns the mass of a bin into a density, so that AIC does not depend on the unit; 1 for open bins."""
    right: Counts | None
    truncated: tuple[float, float] | None

    @property
    def plain(self) -> bool:
        return not len(self.n) and self.right is None and self.truncated is None

    def loglik(self, law: Family, p: Params) -> float:
        value = 0.0
        with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
            if len(self.exact):
                value += float(self.exact.n @ law.logpdf(self.exact.x, p))
            if len(self.n):
                value += float(self.n @ (log_mass(law, self.lo, self.hi, p) - np.log(self.width)))
            if self.right is not None:
                value += float(self.right.n @ np.maximum(law.logsf(self.right.x, p), -690.0))
            if self.truncated is not None:
                a, b = self.truncated
                rows = (
                    self.exact.rows + float(self.n.sum()) + (self.right.rows if self.right else 0.0)
                )
                value -= rows * float(log_mass(law, np.array([a]), np.array([b]), p)[0])
        return value


def _split(c: Counts, tick: float, right: Counts | None, truncated: tuple[float, float] | None) -> tuple[Counts, _Data]:  # fmt: skip
    """The table as points (for a first fit), and as what the likelihood needs."""
    x = c.x
    lo, hi = c.lo, c.hi
    by_interval = (hi > WIDE_BIN * lo) & (hi > lo)
    point = np.where(
        by_interval & np.isfinite(hi),
        np.where(lo > 0, np.sqrt(np.maximum(lo, 1e-300) * hi), hi / 2),
        x,
    )
    if tick > 0:
        coarse = x < 10 * tick
        lo = np.where(coarse, np.maximum(x - tick / 2, 0.0), lo)
        hi = np.where(coarse, x + tick / 2, hi)
        point = np.where(coarse & (x < tick / 2), tick / 4, point)
        by_interval |= coarse
    if float(point.min()) <= 0:
        raise ModelError("a positive law cannot be fitted to zeros", "give the clock's tick")
    start = Counts(point, point, c.n, point * c.n, c.unit)
    if right is not None and right.rows:
        start = start + Counts.exact(right.x, right.n)
    else:
        right = None
    width = np.where(np.isfinite(hi), hi - lo, 1.0)[by_interval]
    kept = start if right is None and not by_interval.any() else c.where(~by_interval)
    return start, _Data(
        kept, lo[by_interval], hi[by_interval], c.n[by_interval], width, right, truncated
    )


def fit_families(
    c: Counts,
    names: Sequence[str] = POSITIVE,
    *,
    whole_numbers: bool = False,
    tick: float = 0.0,
    right: Counts | None = None,
    truncated: tuple[float, float] | None = None,
    atoms: Atoms = NO_ATOMS,
) -> list[Fitted]:
    """Fit each family by maximum likelihood; best (lowest AIC) first.

    ``c`` holds positive values, or bins of them; bins that are wide enter by their interval (an infinite ``hi`` is
    allowed). Zeros are never dropped: with a clock of resolution ``tick`` (same unit) a value below ten ticks
    stands for the interval ± half a tick around it. ``right``: values that are only known to be larger. ``truncated``:
    values outside (low, high) could not be seen at all. ``atoms``: found by ``find_atoms``; the families then
    describe the rest, the cap's rows being right-censored at it. ``whole_numbers``: judged by the mass of each
    number; the parameters are those of the density.

    A family that cannot be fitted (all values equal) is left out; the list may be empty. Raises ModelError on
    zeros without a tick.
    """
    if len(c) < 2:
        return []
    rest, survivors = c, right if right is not None and right.rows else None
    if atoms:
        rest, capped = atoms.taken_out(c)
        if capped is not None:
            survivors = capped if survivors is None else survivors + capped
        if len(rest) < 2:
            return []
    rows = c.rows + (right.rows if right is not None else 0.0)
    start, data = _split(rest, tick, survivors, truncated)
    brief = data  # a simplex asks hundreds of times; 64 bins an octave move a parameter by less than 1e-4
    if not data.plain and len(rest) > 2000:
        brief = _split(rest.coarse(64), tick, survivors, truncated)[1]
    fits = []
    for name in names:
        law = FAMILIES[name]
        try:
            with np.errstate(all="ignore"):
                params = law.fit(start)
        except (ZeroDivisionError, ValueError, OverflowError):
            continue
        if not all(math.isfinite(v) for v in params.values()):
            continue
        if law.mixture and (
            components(params) == 1 or (survivors is not None and survivors.rows > 0.005 * rows)
        ):
            continue  # it is its own family; and the EM would take rows at a cap for a component
        try:
            _check(law, params)
        except ModelError:
            continue
        if not data.plain and not (law.mixture and not _few(data)):
            params = refine(law, params, brief.loglik)
        value = (
            _judged(law, params, data)
            if whole_numbers and not law.discrete
            else data.loglik(law, params)
        )
        if not math.isfinite(value):
            continue
        value += atoms.loglik(c)
        size = len(params) - (1 if law.mixture else 0) + len(atoms)
        fit = Fitted(name, params, rows, (2 * size - 2 * value) / rows, 0.0, 0.0, atoms=atoms)
        fits.append(_held_against(fit, c, right, whole_numbers, tick))
    return sorted(fits, key=lambda f: f.aic_per_row)


def _few(data: _Data) -> bool:
    """Whether a simplex may be let loose on a mixture: few entries, each costly to be wrong about."""
    return len(data.exact) + len(data.n) <= 200


def _judged(law: Family, params: Params, data: _Data) -> float:
    """Log-likelihood of whole numbers: the small ones by their mass."""
    small = data.exact.x < SMALL
    if not small.any():
        return data.loglik(law, params)
    tiny = data.exact.where(small)
    others = _Data(data.exact.where(~small), data.lo, data.hi, data.n, data.width, data.right, None)
    value = others.loglik(law, params) + float(
        tiny.n @ log_mass(law, np.maximum(tiny.x - 0.5, 0.0), tiny.x + 0.5, params)
    )
    if data.truncated is not None:
        a, b = data.truncated
        rows = data.exact.rows + float(data.n.sum())
        value -= rows * float(log_mass(law, np.array([a]), np.array([b]), params)[0])
    return value


def _held_against(
    fit: Fitted, c: Counts, right: Counts | None, whole_numbers: bool, tick: float
) -> Fitted:
    """The fit with its distances from the data; censored rows enter by the product-limit estimate."""
    discrete = FAMILIES[fit.family].discrete
    half = 0.0 if discrete else 0.5 if whole_numbers else tick / 2
    floor = 0.5 if whole_numbers or discrete else max(tick, min(1e-4, 1e-3 * c.mean))
    if right is not None and right.rows:
        c = _product_limit(c, right)
    elif len(c) and not np.isfinite(c.hi[-1]):
        c = c.where(np.isfinite(c.hi))
    bins = bool((c.hi > WIDE_BIN * c.lo).any())
    at = (
        c if not bins else Counts(c.hi, c.hi, c.n, c.hi * c.n, c.unit)
    )  # a bin's share is known at its end
    whole = fit.rows
    model = fit.cdf(at.x + half)
    above = np.cumsum(at.n) / whole
    ks = float(np.abs(above - model).max())
    if half == 0.0 and not bins and not discrete:
        ks = max(ks, float(np.abs(model - (above - at.n / whole)).max()))
    seen = float(above[-1])
    u = _MIDPOINTS[seen >= _MIDPOINTS]
    data_q = np.maximum(c.quantile(np.minimum(u / seen, 1.0)), floor)
    with np.errstate(over="ignore"):
        model_q = np.maximum(np.minimum(fit.quantile(u), 1e300), floor)
    w1 = float(np.abs(np.log10(model_q) - np.log10(data_q)).mean()) if len(u) else math.nan
    errors = {}
    for name, q in (("p50", 0.5), ("p90", 0.9), ("p99", 0.99)):
        if q <= seen and (1 - q) * whole >= 10:
            real = float(c.quantile(np.array([q / seen]))[0])
            if real > 0:
                errors[name] = short(float(fit.quantile(np.array([q]))[0]) / real - 1, 4)
    # beyond these digits the processor's own rounding begins, and a refit elsewhere would differ
    params = {k: short(v, 12) for k, v in fit.params.items()}
    aic, ks, w1 = (short(v) for v in (fit.aic_per_row, ks, w1))
    return Fitted(fit.family, params, fit.rows, aic, ks, w1, errors, fit.atoms)


def _product_limit(c: Counts, right: Counts) -> Counts:
    """The table with masses as Kaplan & Meier (1958) estimate them: of all rows, those that live on left out."""
    later = np.cumsum(c.n[::-1])[::-1]
    censored = np.cumsum(np.concatenate([[0.0], right.n]))
    still = right.rows - censored[np.searchsorted(right.x, c.x, side="left")]
    whole = c.rows + right.rows
    survival = np.cumprod(1 - c.n / (later + still))
    mass = -np.diff(np.concatenate([[1.0], survival])) * whole
    return Counts(c.lo, c.hi, mass, mass * c.x, c.unit)


def refine(law: Family, start: Params, loglik: Callable[[Family, Params], float]) -> Params:
    """Newton's method or a simplex from a first fit; what is positive moves in logs, weights by their odds."""
    names = list(start)
    bare = [re.sub(r"\d+$", "", n) if law.mixture else n for n in names]
    weights = [i for i, b in enumerate(bare) if b == "w" and law.mixture]
    logs = [b not in law.signed for b in bare]

    def unpack(v: Array) -> Params:
        out = {n: math.exp(x) if lg else float(x) for n, x, lg in zip(names, v, logs, strict=True)}
        for i in weights:  # the floors of the EM hold here, too: a component of nothing is none
            out[names[i]] = max(out[names[i]], LEAST_WEIGHT)
            spread = names[i].replace("w", "sigma")
            if spread in out:
                out[spread] = max(out[spread], LEAST_SIGMA)
        whole = sum(out[names[i]] for i in weights)
        for i in weights:
            out[names[i]] /= whole
        return out

    def loss(v: Array) -> float:
        if np.abs(v).max() > 300:
            return 1e300
        value = loglik(law, unpack(v))
        return -value if math.isfinite(value) else 1e300

    x0 = np.array(
        [math.log(start[n]) if lg else start[n] for n, lg in zip(names, logs, strict=True)]
    )
    found = None if law.mixture else newton(loss, x0)
    best = unpack(simplex(loss, x0) if found is None else found)
    return best if loglik(law, best) >= loglik(law, start) else start


def with_intervals(
    fit: Fitted, blocks: Blocks, tables: Sequence[Counts], *, tick: float = 0.0
) -> Fitted:
    """The fit with intervals of its parameters, from the same family fitted to each of the draws' ``tables``."""
    law = FAMILIES[fit.family]
    if law.mixture:
        return fit
    found: dict[str, list[float]] = {name: [] for name in fit.params}
    for table in tables:
        start, _ = _split(table, tick, None, None)
        try:
            params = law.fit(start)
        except (ZeroDivisionError, ValueError, OverflowError):
            continue
        for name, value in params.items():
            found[name].append(value)
    intervals = {}
    for name, values in found.items():
        interval = blocks.interval(fit.params[name], np.array(values))
        if interval is not None:
            intervals[name] = interval
    return Fitted(
        fit.family, fit.params, fit.rows, fit.aic_per_row, fit.ks_d, fit.w1_log10, fit.quantile_errors, fit.atoms, intervals
    )  # fmt: skip

"""Families of laws for positive values, fitted by maximum likelihood on Counts.

A fit is weighted by the counts, so its cost depends on distinct values and not on rows, and a fit on merged
Counts equals the fit on the whole. ``loc`` is never fitted: a free location on token counts returns garbage
(shape 0.0015 for a gamma of shape 0.77).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import special

from ..counts import Counts
from .search import golden, root

Array = npt.NDArray[np.float64]
Params = dict[str, float]


@dataclass(frozen=True)
class Family:
    """One law. ``fit`` takes Counts; ``cdf``, ``logpdf`` (or log mass, where ``discrete``), ``logsf`` and
    ``quantile`` take values and params. ``signed``: parameters that may be negative. A family of mixtures has
    its parameters once a component (``mu1``, ``mu2``…), named in ``parameters`` without the number.
    """

    name: str
    parameters: tuple[str, ...]
    formula: str
    fit: Callable[[Counts], Params]
    cdf: Callable[[Array, Params], Array]
    logpdf: Callable[[Array, Params], Array]
    logsf: Callable[[Array, Params], Array]
    quantile: Callable[[Array, Params], Array]
    mean: Callable[[Params], float]
    signed: tuple[str, ...] = ()
    discrete: bool = False
    mixture: bool = False
    real: bool = False
    """its support is all numbers; the others' are the positive ones (from 0 for the discrete)."""


# --- exponential -----------------------------------------------------------------------------------


def _exponential_fit(c: Counts) -> Params:
    return {"scale": c.mean}


# --- normal ----------------------------------------------------------------------------------------


def _normal_fit(c: Counts) -> Params:
    return {"mu": c.mean, "sigma": math.sqrt(c.var())}


def _normal_logpdf(x: Array, p: Params) -> Array:
    z = (x - p["mu"]) / p["sigma"]
    return np.asarray(-0.5 * z * z - math.log(p["sigma"] * math.sqrt(2 * math.pi)))


# --- lognormal -------------------------------------------------------------------------------------


def log_moments(c: Counts) -> tuple[float, float]:
    """Mean and variance of ln x."""
    logs = np.log(c.x)
    mean = float(c.n @ logs / c.rows)
    d = logs - mean
    return mean, float(c.n @ (d * d) / c.rows)


def _lognormal_fit(c: Counts) -> Params:
    mu, var = log_moments(c)
    return {"mu": mu, "sigma": math.sqrt(var)}


def _lognormal_logpdf(x: Array, p: Params) -> Array:
    z = (np.log(x) - p["mu"]) / p["sigma"]
    return np.asarray(-0.5 * z * z - np.log(x * p["sigma"] * math.sqrt(2 * math.pi)))


# --- gamma -----------------------------------------------------------------------------------------


def gamma_shape(s: float) -> float:
    """The shape whose ln(mean) − mean(ln) is ``s``: Minka (2002), "Estimating a Gamma distribution"."""
    k = (3 - s + math.sqrt((s - 3) ** 2 + 24 * s)) / (12 * s)
    for _ in range(100):
        step = (math.log(k) - special.digamma(k) - s) / (k * k * (1 / k - special.zeta(2, k)))
        new = 1 / (1 / k + step)
        if not math.isfinite(new) or new <= 0:
            break
        done = abs(new - k) <= 1e-14 * k
        k = float(new)
        if done:
            break
    return k


def _gamma_fit(c: Counts) -> Params:
    mean = c.mean
    k = gamma_shape(math.log(mean) - log_moments(c)[0])
    return {"shape": k, "scale": mean / k}


def _gamma_logpdf(x: Array, p: Params) -> Array:
    k, t = p["shape"], p["scale"]
    return np.asarray((k - 1) * np.log(x) - x / t - special.gammaln(k) - k * math.log(t))


def _log(x: Array) -> Array:
    with np.errstate(divide="ignore"):
        return np.asarray(np.log(x))


# --- Weibull ---------------------------------------------------------------------------------------


def _weibull_fit(c: Counts) -> Params:
    """Newton on the profile score Σn·x^k·ln x / Σn·x^k − 1/k − mean(ln x), in logs scaled by the largest."""
    logs = np.log(c.x)
    top = float(logs.max())
    mean_log, var_log = log_moments(c)
    k = math.pi / math.sqrt(6 * var_log)  # method of moments for ln x
    for _ in range(200):
        w = c.n * np.exp(k * (logs - top))
        total = float(w.sum())
        wl = w * logs
        m1 = float(wl.sum()) / total
        m2 = float(wl @ logs) / total
        score = m1 - 1 / k - mean_log
        slope = m2 - m1 * m1 + 1 / (k * k)
        new = k - score / slope
        new = k / 2 if new <= 0 else new
        done = abs(new - k) <= 1e-13 * k
        k = new
        if done:
            break
    total = float((c.n * np.exp(k * (logs - top))).sum())
    return {"shape": k, "scale": math.exp(top + math.log(total / c.rows) / k)}


def _weibull_power(x: Array, p: Params) -> Array:
    """(x/scale)^shape, by logs: a power of seconds overflows."""
    with np.errstate(divide="ignore", over="ignore"):
        return np.asarray(np.exp(p["shape"] * (np.log(x) - math.log(p["scale"]))))


def _weibull_logpdf(x: Array, p: Params) -> Array:
    k, s = p["shape"], p["scale"]
    lz = np.log(x) - math.log(s)
    return np.asarray(math.log(k / s) + (k - 1) * lz - np.exp(k * lz))


# --- log-logistic ----------------------------------------------------------------------------------


def _loglogistic_fit(c: Counts) -> Params:
    """ln x is logistic(m, s): damped Newton on (m, ln s)."""
    y = np.log(c.x)
    m, var = log_moments(c)
    s = math.sqrt(3 * var) / math.pi

    def loglik(m: float, s: float) -> float:
        z = (y - m) / s
        return float(c.n @ (-z - 2 * np.logaddexp(0.0, -z)) - c.rows * math.log(s))

    best = loglik(m, s)
    for _ in range(200):
        z = (y - m) / s
        f = special.expit(z)
        g = 2 * f - 1
        d = 2 * f * (1 - f)
        zd = z * d
        gm = float(c.n @ g) / s
        gs = float(c.n @ (z * g - 1))  # derivative by ln s
        hmm = -float(c.n @ d) / (s * s)
        hms = -float(c.n @ (g + zd)) / s
        hss = -float(c.n @ (z * (g + zd)))
        det = hmm * hss - hms * hms
        if det <= 0 or hmm >= 0:
            dm, ds = gm * s * s / c.rows, gs / c.rows
        else:
            dm, ds = -(hss * gm - hms * gs) / det, -(hmm * gs - hms * gm) / det
        step = 1.0
        while step > 1e-10:
            m2, s2 = m + step * dm, s * math.exp(max(-2.0, min(2.0, step * ds)))
            value = loglik(m2, s2)
            if value >= best:
                break
            step /= 2
        else:
            break
        gain, m, s, best = value - best, m2, s2, value
        if gain <= 1e-13 * abs(best) and max(abs(dm) / s, abs(ds)) < 1e-7:
            break
    return {"shape": 1 / s, "scale": math.exp(m)}


def _loglogistic_z(x: Array, p: Params) -> Array:
    return np.asarray(p["shape"] * (_log(x) - math.log(p["scale"])))


def _loglogistic_logpdf(x: Array, p: Params) -> Array:
    z = _loglogistic_z(x, p)
    return np.asarray(math.log(p["shape"]) - np.log(x) - z - 2 * np.logaddexp(0.0, -z))


# --- inverse Gaussian ------------------------------------------------------------------------------


def _inverse_gaussian_fit(c: Counts) -> Params:
    mu = c.mean
    return {"mean": mu, "shape": 1 / (float((c.n / c.x).sum()) / c.rows - 1 / mu)}


def _inverse_gaussian_cdf(x: Array, p: Params) -> Array:
    mu, lam = p["mean"], p["shape"]
    with np.errstate(divide="ignore", over="ignore"):
        r = np.sqrt(lam / x)
        tail = np.exp(2 * lam / mu + special.log_ndtr(-r * (x / mu + 1)))
    return np.asarray(np.clip(special.ndtr(r * (x / mu - 1)) + tail, 0, 1))


def _inverse_gaussian_logsf(x: Array, p: Params) -> Array:
    """ln(Φ(a) − e^(2λ/µ)·Φ(b)) with a = −√(λ/x)(x/µ − 1), b = −√(λ/x)(x/µ + 1)."""
    mu, lam = p["mean"], p["shape"]
    with np.errstate(divide="ignore", over="ignore", invalid="ignore"):
        r = np.sqrt(lam / x)
        first = special.log_ndtr(-r * (x / mu - 1))
        second = 2 * lam / mu + special.log_ndtr(-r * (x / mu + 1))
        out = first + np.log1p(-np.exp(np.minimum(second - first, 0.0)))
    return np.asarray(np.where(x > 0, np.maximum(out, -745.0), 0.0))


def _inverse_gaussian_logpdf(x: Array, p: Params) -> Array:
    mu, lam = p["mean"], p["shape"]
    return np.asarray(
        0.5 * (math.log(lam) - math.log(2 * math.pi) - 3 * np.log(x))
        - lam * (x - mu) ** 2 / (2 * mu * mu * x)
    )


def by_bisection(cdf: Callable[[Array, Params], Array]) -> Callable[[Array, Params], Array]:
    """Quantiles of a law on (0, ∞): regula falsi would stall on steep laws, so bisection in ln x; ~1e-11."""

    def quantile(q: Array, p: Params) -> Array:
        q = np.asarray(q, dtype=np.float64)
        grid = np.linspace(-60.0, 60.0, 1201)  # one look at the whole range narrows 1,400 to 0.1
        at = np.clip(np.searchsorted(cdf(np.exp(grid), p), q), 1, len(grid) - 1)
        lo, hi = grid[at - 1], grid[at]
        for _ in range(34):
            mid = 0.5 * (lo + hi)
            below = cdf(np.exp(mid), p) < q
            lo, hi = np.where(below, mid, lo), np.where(below, hi, mid)
        return np.asarray(np.exp(0.5 * (lo + hi)))

    return quantile


# --- tails -----------------------------------------------------------------------------------------


def _pareto_fit(c: Counts) -> Params:
    """Hill's (1975) estimate; the least value is the known minimum."""
    xm = float(c.x[0])
    return {"shape": c.rows / float(c.n @ np.log(c.x / xm)), "minimum": xm}


def _gpd_fit(c: Counts) -> Params:
    """Grimshaw (1993): ξ = mean ln(1 + θx) for θ = ξ/σ, so the likelihood is a function of θ alone."""
    top = float(c.x[-1])
    mean = c.mean

    def loss(theta: float) -> float:
        if abs(theta) < 1e-9 / mean:
            return math.log(mean) + 1
        xi = float(c.n @ np.log1p(theta * c.x)) / c.rows
        return math.log(xi / theta) + xi + 1 if xi / theta > 0 else math.inf

    # θ > −1/max; a scan over both signs, then a closer look around the best
    grid = np.concatenate(
        [-(1 - np.geomspace(1e-4, 0.999, 30)) / top, [0.0], np.geomspace(1e-5, 1e3, 60) / mean]
    )
    grid.sort()
    values = np.array([loss(t) for t in grid])
    i = int(np.clip(values.argmin(), 1, len(grid) - 2))
    theta = golden(loss, float(grid[i - 1]), float(grid[i + 1]), 1e-13)
    if loss(theta) > values[i]:
        theta = float(grid[i])
    if abs(theta) < 1e-9 / mean:
        return {"xi": 0.0, "sigma": mean}
    xi = float(c.n @ np.log1p(theta * c.x)) / c.rows
    return {"xi": xi, "sigma": xi / theta}


def _gpd_logsf(x: Array, p: Params) -> Array:
    xi, sigma = p["xi"], p["sigma"]
    if abs(xi) < 1e-12:
        return np.asarray(-x / sigma)
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.asarray(-np.log(np.maximum(1 + xi * x / sigma, 0.0)) / xi)


def _gpd_logpdf(x: Array, p: Params) -> Array:
    return np.asarray((1 + p["xi"]) * _gpd_logsf(x, p) - math.log(p["sigma"]))


def _gpd_quantile(q: Array, p: Params) -> Array:
    xi, sigma = p["xi"], p["sigma"]
    e = -np.log1p(-np.asarray(q, dtype=np.float64))
    return np.asarray(sigma * (e if abs(xi) < 1e-12 else np.expm1(xi * e) / xi))


def _weibull_mean(p: Params) -> float:
    try:
        return p["scale"] * math.gamma(1 + 1 / p["shape"])
    except OverflowError:
        return math.inf


def _lognormal_mean(p: Params) -> float:
    try:
        return math.exp(p["mu"] + p["sigma"] ** 2 / 2)
    except OverflowError:
        return math.inf


CONTINUOUS: dict[str, Family] = {
    f.name: f
    for f in (
        Family(
            "exponential", ("scale",), "F(x) = 1 − exp(−x/scale)", _exponential_fit,
            lambda x, p: np.asarray(-np.expm1(-x / p["scale"])),
            lambda x, p: np.asarray(-x / p["scale"] - math.log(p["scale"])),
            lambda x, p: np.asarray(-x / p["scale"]),
            lambda q, p: np.asarray(-p["scale"] * np.log1p(-q)),
            lambda p: p["scale"],
        ),
        Family(
            "lognormal", ("mu", "sigma"), "F(x) = Φ((ln x − mu)/sigma)", _lognormal_fit,
            lambda x, p: np.asarray(special.ndtr((_log(x) - p["mu"]) / p["sigma"])),
            _lognormal_logpdf,
            lambda x, p: np.asarray(special.log_ndtr((p["mu"] - _log(x)) / p["sigma"])),
            lambda q, p: np.asarray(np.exp(p["mu"] + p["sigma"] * special.ndtri(q))),
            _lognormal_mean, signed=("mu",),
        ),
        Family(
            "gamma", ("shape", "scale"), "F(x) = P(shape, x/scale)", _gamma_fit,
            lambda x, p: np.asarray(special.gammainc(p["shape"], x / p["scale"])),
            _gamma_logpdf,
            lambda x, p: _log(special.gammaincc(p["shape"], x / p["scale"])),
            lambda q, p: np.asarray(special.gammaincinv(p["shape"], q) * p["scale"]),
            lambda p: p["shape"] * p["scale"],
        ),
        Family(
            "weibull", ("shape", "scale"), "F(x) = 1 − exp(−(x/scale)^shape)", _weibull_fit,
            lambda x, p: np.asarray(-np.expm1(-_weibull_power(x, p))),
            _weibull_logpdf,
            lambda x, p: -_weibull_power(x, p),
            lambda q, p: np.asarray(p["scale"] * (-np.log1p(-q)) ** (1 / p["shape"])),
            _weibull_mean,
        ),
        Family(
            "loglogistic", ("shape", "scale"), "F(x) = 1/(1 + (x/scale)^−shape)", _loglogistic_fit,
            lambda x, p: np.asarray(special.expit(_loglogistic_z(x, p))),
            _loglogistic_logpdf,
            lambda x, p: np.asarray(-np.logaddexp(0.0, _loglogistic_z(x, p))),
            lambda q, p: np.asarray(p["scale"] * np.exp(special.logit(q) / p["shape"])),
            lambda p: (p["scale"] * math.pi / p["shape"]) / math.sin(math.pi / p["shape"]) if p["shape"] > 1 else math.inf,
        ),
        Family(
            "inverse-gaussian", ("mean", "shape"), "Wald: first passage of a drifting Brownian motion", _inverse_gaussian_fit,
            _inverse_gaussian_cdf, _inverse_gaussian_logpdf, _inverse_gaussian_logsf, by_bisection(_inverse_gaussian_cdf),
            lambda p: p["mean"],
        ),
        Family(
            "normal", ("mu", "sigma"), "F(x) = Φ((x − mu)/sigma)", _normal_fit,
            lambda x, p: np.asarray(special.ndtr((x - p["mu"]) / p["sigma"])),
            _normal_logpdf,
            lambda x, p: np.asarray(special.log_ndtr((p["mu"] - x) / p["sigma"])),
            lambda q, p: np.asarray(p["mu"] + p["sigma"] * special.ndtri(q)),
            lambda p: p["mu"], signed=("mu",), real=True,
        ),
        Family(
            "pareto", ("shape", "minimum"), "F(x) = 1 − (minimum/x)^shape for x ≥ minimum", _pareto_fit,
            lambda x, p: np.asarray(-np.expm1(-p["shape"] * np.log(np.maximum(x / p["minimum"], 1.0)))),
            lambda x, p: np.asarray(np.where(x >= p["minimum"], math.log(p["shape"] / p["minimum"]) - (p["shape"] + 1) * np.log(x / p["minimum"]), -np.inf)),
            lambda x, p: np.asarray(-p["shape"] * np.log(np.maximum(x / p["minimum"], 1.0))),
            lambda q, p: np.asarray(p["minimum"] * np.exp(-np.log1p(-q) / p["shape"])),
            lambda p: p["minimum"] * p["shape"] / (p["shape"] - 1) if p["shape"] > 1 else math.inf,
        ),
        Family(
            "gpd", ("xi", "sigma"), "F(x) = 1 − (1 + xi·x/sigma)^(−1/xi), of excesses over a threshold", _gpd_fit,
            lambda x, p: np.asarray(-np.expm1(_gpd_logsf(x, p))),
            _gpd_logpdf, _gpd_logsf, _gpd_quantile,
            lambda p: p["sigma"] / (1 - p["xi"]) if p["xi"] < 1 else math.inf, signed=("xi",),
        ),
    )
}  # fmt: skip


def lognormal_by_moments(mean: float, sd: float) -> Params:
    """The lognormal with this mean and standard deviation. Papers that print "LogNormal mean 3.24, sd 7.10"
    give these and not mu and sigma, which are 0.2965 and 1.326 then."""
    var = math.log1p((sd / mean) ** 2)
    return {"mu": math.log(mean) - var / 2, "sigma": math.sqrt(var)}


def weibull_by_moments(mean: float, sd: float) -> Params:
    """The Weibull with this mean and standard deviation: Γ(1 + 2/k)/Γ(1 + 1/k)² = 1 + (sd/mean)²."""
    target = math.log1p((sd / mean) ** 2)

    def excess(log_k: float) -> float:
        k = math.exp(log_k)
        return float(special.gammaln(1 + 2 / k) - 2 * special.gammaln(1 + 1 / k) - target)

    k = math.exp(root(excess, math.log(0.02), math.log(1e3)))
    return {"shape": k, "scale": mean / math.exp(float(special.gammaln(1 + 1 / k)))}


def gamma_by_moments(mean: float, sd: float) -> Params:
    """The gamma with this mean and standard deviation."""
    return {"shape": (mean / sd) ** 2, "scale": sd * sd / mean}

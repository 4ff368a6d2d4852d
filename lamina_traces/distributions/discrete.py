"""Laws of whole numbers: turns of a session, references of a block, calls of a workflow."""

from __future__ import annotations

import math

import numpy as np
from scipy import special

from ..counts import Counts
from .families import Array, Family, Params
from .search import golden, root

# --- geometric: 1, 2, 3… ---------------------------------------------------------------------------


def _geometric_fit(c: Counts) -> Params:
    return {"p": 1 / c.mean}


def _geometric_logsf(x: Array, p: Params) -> Array:
    with np.errstate(divide="ignore", invalid="ignore"):
        out = np.floor(np.maximum(x, 0.0)) * np.log1p(-p["p"])
    return np.asarray(np.where(np.isnan(out), 0.0, out))


def _geometric_logpmf(x: Array, p: Params) -> Array:
    with np.errstate(divide="ignore", invalid="ignore"):
        rest = np.where(x > 1, (x - 1) * np.log1p(-p["p"]), 0.0)
    return np.asarray(rest + math.log(p["p"]))


# --- zeta: 1, 2, 3… --------------------------------------------------------------------------------


def _log_zeta_slope(a: float) -> float:
    """d ln ζ(a)/da by a central difference of ln ζ, good to 1e-9."""
    h = 1e-5 * a if a > 1.1 else 1e-5 * (a - 1)
    return float((math.log(special.zeta(a + h)) - math.log(special.zeta(a - h))) / (2 * h))


def _zeta_fit(c: Counts) -> Params:
    """−ζ′(a)/ζ(a) = mean ln x."""
    mean_log = float(c.n @ np.log(c.x)) / c.rows
    if mean_log <= 0:
        raise ValueError("all values are 1")
    return {"a": root(lambda a: -_log_zeta_slope(a) - mean_log, 1 + 1e-6, 60.0)}


def _zeta_logsf(x: Array, p: Params) -> Array:
    tail = special.zeta(p["a"], np.floor(np.maximum(x, 0.0)) + 1)
    with np.errstate(divide="ignore"):
        return np.asarray(np.log(tail / special.zeta(p["a"])))


# --- Zipf: ranks 1 … size --------------------------------------------------------------------------


def harmonic(size: float, a: float) -> float:
    """Σ k^−a for k = 1 … size, for any a: 1,000 terms, the rest by Euler and Maclaurin."""
    head = int(min(size, 1000))
    total = float((np.arange(1, head + 1, dtype=np.float64) ** -a).sum())
    if size <= head:
        return total
    lo, hi = head + 1.0, float(size)
    area = math.log(hi / lo) if abs(a - 1) < 1e-12 else (hi ** (1 - a) - lo ** (1 - a)) / (1 - a)
    ends = (lo**-a + hi**-a) / 2
    return float(total + area + ends + a / 12 * (lo ** (-a - 1) - hi ** (-a - 1)))


def _zipf_fit(c: Counts) -> Params:
    """Exponent over the ranks up to the largest value that occurs."""
    size = float(c.x[-1])
    mean_log = float(c.n @ np.log(c.x)) / c.rows
    a = golden(lambda a: a * mean_log + math.log(harmonic(size, a)), 0.0, 20.0)
    return {"a": a, "size": size}


def _zipf_cdf(x: Array, p: Params) -> Array:
    at = np.clip(np.floor(np.asarray(x, dtype=np.float64)), 0, p["size"])
    whole = harmonic(p["size"], p["a"])
    distinct, inverse = np.unique(at, return_inverse=True)
    sums = np.array([harmonic(v, p["a"]) / whole for v in distinct])
    return np.asarray(sums[inverse].reshape(at.shape))


def _zipf_mean(p: Params) -> float:
    return harmonic(p["size"], p["a"] - 1) / harmonic(p["size"], p["a"])


# --- negative binomial: 0, 1, 2… -------------------------------------------------------------------


def _negative_binomial_fit(c: Counts) -> Params:
    """Size r by the profile likelihood in ln r; p = r/(r + mean)."""
    mean = c.mean

    def loss(log_r: float) -> float:
        r = math.exp(log_r)
        terms = special.gammaln(c.x + r) - special.gammaln(r)
        return -float(c.n @ terms) - c.rows * (
            r * math.log(r / (r + mean)) + mean * math.log(mean / (r + mean))
        )

    extra = c.var() - mean
    guess = math.log(mean * mean / extra) if extra > 0 else 8.0
    r = math.exp(golden(loss, guess - 6, min(guess + 6, 18)))
    return {"size": r, "p": r / (r + mean)}


def _negative_binomial_logpmf(x: Array, p: Params) -> Array:
    r = p["size"]
    return np.asarray(
        special.gammaln(x + r) - special.gammaln(r) - special.gammaln(x + 1) + r * math.log(p["p"]) + special.xlog1py(x, -p["p"])
    )  # fmt: skip


def _negative_binomial_cdf(x: Array, p: Params) -> Array:
    return np.asarray(
        np.where(x < 0, 0.0, special.betainc(p["size"], np.floor(np.maximum(x, 0.0)) + 1, p["p"]))
    )


def _negative_binomial_logsf(x: Array, p: Params) -> Array:
    with np.errstate(divide="ignore"):
        return np.asarray(
            np.where(
                x < 0,
                0.0,
                np.log(special.betaincc(p["size"], np.floor(np.maximum(x, 0.0)) + 1, p["p"])),
            )
        )


def _by_steps(cdf, first: float):  # type: ignore[no-untyped-def]
    """Least whole number whose cdf reaches q: doubling, then bisection."""

    def quantile(q: Array, p: Params) -> Array:
        q = np.minimum(np.asarray(q, dtype=np.float64), 1 - 1e-15)
        lo = np.full(q.shape, first - 1.0)
        hi = np.full(q.shape, first + 1.0)
        for _ in range(52):
            short = cdf(hi, p) < q
            if not short.any():
                break
            lo, hi = np.where(short, hi, lo), np.where(short, 2 * hi + 1, hi)
        for _ in range(53):
            mid = np.floor((lo + hi) / 2)
            short = cdf(mid, p) < q
            lo, hi = np.where(short, mid, lo), np.where(short, hi, mid)
            if (hi - lo <= 1).all():
                break
        return np.asarray(hi)

    return quantile


def _zeta_cdf(x: Array, p: Params) -> Array:
    return np.asarray(-np.expm1(_zeta_logsf(x, p)))


def _geometric_cdf(x: Array, p: Params) -> Array:
    return np.asarray(-np.expm1(_geometric_logsf(x, p)))


def _zipf_logsf(x: Array, p: Params) -> Array:
    with np.errstate(divide="ignore"):
        return np.asarray(np.log(1 - _zipf_cdf(x, p)))


DISCRETE: dict[str, Family] = {
    f.name: f
    for f in (
        Family(
            "geometric", ("p",), "P(k) = p·(1 − p)^(k−1), k = 1, 2…", _geometric_fit,
            _geometric_cdf, _geometric_logpmf, _geometric_logsf, _by_steps(_geometric_cdf, 1),
            lambda p: 1 / p["p"], discrete=True,
        ),
        Family(
            "zeta", ("a",), "P(k) = k^−a/ζ(a), k = 1, 2…", _zeta_fit,
            _zeta_cdf, lambda x, p: np.asarray(-p["a"] * np.log(x) - math.log(special.zeta(p["a"]))), _zeta_logsf, _by_steps(_zeta_cdf, 1),
            lambda p: float(special.zeta(p["a"] - 1) / special.zeta(p["a"])) if p["a"] > 2 else math.inf, discrete=True,
        ),
        Family(
            "zipf", ("a", "size"), "P(k) = k^−a/H(size, a), k = 1 … size", _zipf_fit,
            _zipf_cdf, lambda x, p: np.asarray(-p["a"] * np.log(x) - math.log(harmonic(p["size"], p["a"]))), _zipf_logsf, _by_steps(_zipf_cdf, 1),
            _zipf_mean, discrete=True,
        ),
        Family(
            "negative-binomial", ("size", "p"), "P(k) = Γ(k + size)/(k!·Γ(size))·p^size·(1 − p)^k, k = 0, 1…", _negative_binomial_fit,
            _negative_binomial_cdf, _negative_binomial_logpmf, _negative_binomial_logsf, _by_steps(_negative_binomial_cdf, 0),
            lambda p: p["size"] * (1 - p["p"]) / p["p"], discrete=True,
        ),
    )
}  # fmt: skip

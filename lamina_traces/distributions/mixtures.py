"""Mixtures of exponentials, lognormals or gammas, fitted by EM on Counts; how many by BIC with a floor."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
from scipy import special

from ..counts import Counts
from .families import CONTINUOUS, Array, Family, Params, by_bisection, gamma_shape

FEWEST_GAIN = 0.001
"""nats a row that a further component must bring: at ten million rows BIC alone would take any number."""
LEAST_SIGMA = 0.01
"""floor of a component's spread (of ln x): without it a spike takes a component of its own."""
LEAST_WEIGHT = 0.005
ITERATIONS = 500


def components(params: Params) -> int:
    """How many components the parameters describe."""
    return sum(1 for name in params if name.startswith("w") and name[1:].isdigit())


def component(params: Params, i: int, names: tuple[str, ...]) -> Params:
    """The parameters of component ``i``, from 1, under the names of its own family."""
    return {name: params[f"{name}{i}"] for name in names}


def _flat(weights: Array, columns: dict[str, Array]) -> Params:
    """Components in order of their means, numbered from 1."""
    out: Params = {}
    for i in range(len(weights)):
        out[f"w{i + 1}"] = float(weights[i])
        for name, values in columns.items():
            out[f"{name}{i + 1}"] = float(values[i])
    return out


def _parts(p: Params, base: Family) -> list[tuple[float, Params]]:
    return [(p[f"w{i}"], component(p, i, base.parameters)) for i in range(1, components(p) + 1)]


def _sum_cdf(base: Family) -> Callable[[Array, Params], Array]:
    def cdf(x: Array, p: Params) -> Array:
        return np.asarray(sum(w * base.cdf(x, q) for w, q in _parts(p, base)))

    return cdf


def _sum_log(what: str, base: Family) -> Callable[[Array, Params], Array]:
    def log_sum(x: Array, p: Params) -> Array:
        logs = [math.log(w) + getattr(base, what)(x, q) for w, q in _parts(p, base)]
        return np.asarray(np.logaddexp.reduce(logs))

    return log_sum


def _mean(base: Family) -> Callable[[Params], float]:
    return lambda p: sum(w * base.mean(q) for w, q in _parts(p, base))


Log = Callable[[Array, dict[str, Array]], Array]
"""log densities [components, values] of values under columns of parameters."""


def _em(x: Array, n: Array, start: dict[str, Array], log_density: Log, maximise: Callable[[Array, Array], dict[str, Array]]) -> tuple[Array, dict[str, Array], float]:  # fmt: skip
    """EM on a table; (weights, columns, log-likelihood). Weights stay above a floor."""
    k = len(next(iter(start.values())))
    weights, columns = np.full(k, 1 / k), start
    rows, last = float(n.sum()), -math.inf
    for _ in range(ITERATIONS):
        logs = log_density(x, columns) + np.log(weights)[:, None]
        whole = np.logaddexp.reduce(logs, axis=0)
        value = float(n @ whole)
        if value - last <= 1e-9 * rows:
            break
        last = value
        shares = np.exp(logs - whole) * n
        weights = np.maximum(shares.sum(axis=1) / rows, LEAST_WEIGHT)
        weights /= weights.sum()
        columns = maximise(x, shares)
    return weights, columns, last


def _groups(n: Array, k: int) -> list[Array]:
    """Masks of k groups of about equal mass, in order."""
    at = (np.cumsum(n) - n / 2) / n.sum()
    return [(at >= i / k) & (at < (i + 1) / k) for i in range(k)]


# --- lognormal -------------------------------------------------------------------------------------


def _lognormal_log(x: Array, c: dict[str, Array]) -> Array:
    z = (np.log(x)[None, :] - c["mu"][:, None]) / c["sigma"][:, None]
    return np.asarray(
        -0.5 * z * z - np.log(c["sigma"])[:, None] - 0.5 * math.log(2 * math.pi) - np.log(x)
    )


def _lognormal_step(x: Array, shares: Array) -> dict[str, Array]:
    y = np.log(x)
    mass = np.maximum(shares.sum(axis=1), 1e-12)
    mu = shares @ y / mass
    var = shares @ (y * y) / mass - mu * mu
    return {"mu": mu, "sigma": np.sqrt(np.maximum(var, LEAST_SIGMA**2))}


def _lognormal_start(x: Array, n: Array, k: int) -> dict[str, Array]:
    y = np.log(x)
    spread = math.sqrt(float(n @ (y - n @ y / n.sum()) ** 2 / n.sum()))
    found = [
        (float(n[g] @ y[g] / n[g].sum()) if n[g].sum() else float(y.mean())) for g in _groups(n, k)
    ]
    return {"mu": np.array(found), "sigma": np.full(k, max(spread / k, LEAST_SIGMA))}


# --- gamma -----------------------------------------------------------------------------------------


def _gamma_log(x: Array, c: dict[str, Array]) -> Array:
    k, t = c["shape"][:, None], c["scale"][:, None]
    return np.asarray((k - 1) * np.log(x) - x / t - special.gammaln(k) - k * np.log(t))


def _gamma_step(x: Array, shares: Array) -> dict[str, Array]:
    y = np.log(x)
    mass = np.maximum(shares.sum(axis=1), 1e-12)
    mean = shares @ x / mass
    gap = np.log(mean) - shares @ y / mass
    # ln(mean) − mean(ln) of a law whose ln x spreads by the floor is half its square
    shape = np.array([gamma_shape(max(float(s), LEAST_SIGMA**2 / 2)) for s in gap])
    return {"shape": shape, "scale": mean / shape}


def _gamma_start(x: Array, n: Array, k: int) -> dict[str, Array]:
    shares = np.stack([np.where(g, n, 0.02 * n) for g in _groups(n, k)])
    return _gamma_step(x, shares)


# --- exponential -----------------------------------------------------------------------------------


def _exponential_log(x: Array, c: dict[str, Array]) -> Array:
    return np.asarray(-x[None, :] / c["scale"][:, None] - np.log(c["scale"])[:, None])


def _exponential_step(x: Array, shares: Array) -> dict[str, Array]:
    return {"scale": shares @ x / np.maximum(shares.sum(axis=1), 1e-12)}


def _exponential_start(x: Array, n: Array, k: int) -> dict[str, Array]:
    found = [
        float(n[g] @ x[g] / n[g].sum()) if n[g].sum() else float(x.mean()) for g in _groups(n, k)
    ]
    return {"scale": np.array(found)}


_EM = {
    "exponential": (_exponential_log, _exponential_step, _exponential_start),
    "lognormal": (_lognormal_log, _lognormal_step, _lognormal_start),
    "gamma": (_gamma_log, _gamma_step, _gamma_start),
}


def fit_k(c: Counts, base: str, k: int) -> tuple[Params, float]:
    """The mixture of ``k`` components of the family ``base`` and its log-likelihood on the table."""
    log_density, step, start = _EM[base]
    table = c.coarse()
    x, n = table.x, table.n
    weights, columns, value = _em(x, n, start(x, n, k), log_density, step)
    order = np.argsort(
        [CONTINUOUS[base].mean({a: float(v[i]) for a, v in columns.items()}) for i in range(k)],
        kind="stable",
    )
    return _flat(weights[order], {name: v[order] for name, v in columns.items()}), value


def fit_best(c: Counts, base: str, most: int) -> Params:
    """The mixture with the lowest BIC among 1 … ``most`` components, each of which brings FEWEST_GAIN a row."""
    per = len(CONTINUOUS[base].parameters) + 1
    best, value = fit_k(c, base, 1)
    for k in range(2, most + 1):
        if c.rows < 20 * k:
            break
        more, found = fit_k(c, base, k)
        gain = found - value
        if gain <= per / 2 * math.log(c.rows) or gain <= FEWEST_GAIN * c.rows:
            break
        best, value = more, found
    return best


def _mixture(name: str, base: str, most: int) -> Family:
    f = CONTINUOUS[base]
    cdf = _sum_cdf(f)
    return Family(
        name, ("w", *f.parameters), f"F(x) = Σ w·{base}(x)", lambda c: fit_best(c, base, most),
        cdf, _sum_log("logpdf", f), _sum_log("logsf", f), by_bisection(cdf), _mean(f),
        signed=f.signed, mixture=True,
    )  # fmt: skip


MOST = 4
MIXTURES: dict[str, Family] = {
    m.name: m
    for m in (
        _mixture("hyperexponential", "exponential", 3),
        _mixture("lognormal-mixture", "lognormal", MOST),
        _mixture("gamma-mixture", "gamma", MOST),
    )
}

"""Families, mixtures, tails; complete, censored, binned, rounded."""

from __future__ import annotations

import numpy as np

from lamina_traces.counts import Counts
from lamina_traces.distributions import FAMILIES, fit_families, fit_triangular

from . import Recovered, recovered

TRUTHS: dict[str, tuple[dict[str, float], str]] = {
    "exponential": ({"scale": 2.0}, "scale"),
    "lognormal": ({"mu": 1.0, "sigma": 1.3}, "sigma"),
    "gamma": ({"shape": 0.5, "scale": 2.0}, "shape"),
    "weibull": ({"shape": 0.6, "scale": 2.0}, "shape"),
    "loglogistic": ({"shape": 1.8, "scale": 2.0}, "shape"),
    "inverse-gaussian": ({"mean": 2.0, "shape": 1.0}, "shape"),
    "pareto": ({"shape": 1.5, "minimum": 1.0}, "shape"),
    "gpd": ({"xi": 0.3, "sigma": 2.0}, "xi"),
    "geometric": ({"p": 0.3}, "p"),
    "zeta": ({"a": 2.2}, "a"),
    "negative-binomial": ({"size": 1.5, "p": 0.2}, "size"),
}


def recovery(replications: int) -> list[Recovered]:
    out = []
    n = 2000
    for name, (truth, parameter) in TRUTHS.items():

        def draw(rng: np.random.Generator, name: str = name, truth: dict[str, float] = truth, parameter: str = parameter) -> tuple[float, None]:  # fmt: skip
            rows = FAMILIES[name].quantile(rng.random(n), truth)
            return FAMILIES[name].fit(Counts.of(rows))[parameter], None

        out.append(
            recovered(f"{name} {parameter}", f"{n:,} rows", truth[parameter], draw, replications)
        )

    def censored(rng: np.random.Generator) -> tuple[float, None]:
        t = 10 * rng.weibull(0.7, n)
        limit = rng.exponential(10, n)
        seen = t <= limit
        fit = fit_families(Counts.of(t[seen]), ("weibull",), right=Counts.of(limit[~seen]))[0]
        return fit.params["shape"], None

    out.append(
        recovered(
            "weibull shape, censored",
            "half of 2,000 rows right-censored",
            0.7,
            censored,
            replications,
        )
    )

    def truncated(rng: np.random.Generator) -> tuple[float, None]:
        t = rng.lognormal(2, 0.8, 2 * n)
        t = t[(t > 2) & (t <= 30)][:n]
        return fit_families(Counts.of(t), ("lognormal",), truncated=(2.0, 30.0))[0].params[
            "sigma"
        ], None

    out.append(
        recovered(
            "lognormal sigma, truncated",
            "2,000 rows seen between 2 and 30",
            0.8,
            truncated,
            replications,
        )
    )

    def binned(rng: np.random.Generator) -> tuple[float, None]:
        edges = np.array([0, 1, 4, 16, 64, 128, 256, 512, 1024, 1e9])
        k = np.histogram(rng.lognormal(5, 1.1, n), edges)[0].astype(float)
        used = k > 0
        lo, hi = edges[:-1][used], edges[1:][used]
        c = Counts(lo, hi, k[used], k[used] * (lo + np.minimum(hi, 2048)) / 2)
        return fit_families(c, ("lognormal",))[0].params["sigma"], None

    out.append(
        recovered(
            "lognormal sigma, from 9 buckets",
            "2,000 rows in a histogram",
            1.1,
            binned,
            replications,
        )
    )

    def mixture(rng: np.random.Generator) -> tuple[float, None]:
        rows = np.where(rng.random(n) < 0.3, rng.lognormal(-3, 0.5, n), rng.lognormal(1, 0.8, n))
        p = FAMILIES["lognormal-mixture"].fit(Counts.of(rows))
        return p["w1"], None

    out.append(
        recovered(
            "lognormal mixture, weight of the first",
            "two of 2,000 rows",
            0.3,
            mixture,
            replications,
        )
    )

    def rounded(rng: np.random.Generator) -> tuple[float, None]:
        d = np.diff(np.floor(np.cumsum(rng.gamma(0.5, 2.0, 10_000))))
        return fit_triangular(Counts.of(d), 1.0, "gamma")["shape"], None

    out.append(
        recovered(
            "gamma shape behind a rounded clock",
            "triangular kernel, 10,000 gaps, one arrival a tick",
            0.5,
            rounded,
            min(replications, 60),
        )
    )
    return out

"""Rates, dispersion and gap laws of arrivals, with intervals by moving blocks."""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np

from lamina_traces.aspects import arrivals
from lamina_traces.intervals import Blocks
from tests.aspects.test_arrivals import trace

from . import Recovered, recovered


def modulated(rng: np.random.Generator, hours: float = 2.0) -> np.ndarray:
    """Arrivals whose rate wanders as a log-AR(1) by minute around 2 a second: autocorrelated counts."""
    minutes = int(hours * 60)
    level = np.zeros(minutes + 200)
    for i in range(1, len(level)):
        level[i] = 0.8 * level[i - 1] + rng.normal(0, 0.25)
    spread = 0.25**2 / (1 - 0.8**2)
    rate = 2 * np.exp(level[200:] - spread / 2)
    n = rng.poisson(rate * 60)
    return np.sort(np.repeat(np.arange(minutes) * 60.0, n) + 60 * rng.random(n.sum()))


def modulated_idc(window_s: float = 60.0) -> float:
    """IDC of the counts per minute of ``modulated``: 1 + mean count·(e^var − 1)."""
    return 1 + 120 * float(np.expm1(0.25**2 / (1 - 0.8**2)))


def recovery(replications: int) -> list[Recovered]:
    out: list[Recovered] = []
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)

        def fitted(t: np.ndarray) -> arrivals.Arrivals:
            a = arrivals.fit(trace(place, t), [])
            assert a is not None
            return a

        def ends(a: arrivals.Arrivals, name: str) -> tuple[float, float] | None:
            i = a.intervals.get(name)
            return (i.low, i.high) if i else None

        few = max(20, replications // 2)

        def poisson_rate(rng: np.random.Generator) -> tuple[float, tuple[float, float] | None]:
            a = fitted(np.cumsum(rng.exponential(0.5, 6000)))
            return a.rate_per_s, ends(a, "rate_per_s")

        out.append(recovered("rate", "Poisson, 6,000 arrivals", 2.0, poisson_rate, few))

        def wandering_rate(rng: np.random.Generator) -> tuple[float, tuple[float, float] | None]:
            a = fitted(modulated(rng))
            return a.rate_per_s, ends(a, "rate_per_s")

        out.append(
            recovered("rate", "rate wanders by minute (AR(1) 0.8), 2 h", 2.0, wandering_rate, few)
        )

        def wandering_idc(rng: np.random.Generator) -> tuple[float, tuple[float, float] | None]:
            s = fitted(modulated(rng, 6.0)).scale(60.0)
            assert s is not None
            assert s.idc is not None
            return s.idc, (s.interval.low, s.interval.high) if s.interval else None

        out.append(
            recovered(
                "IDC at 1 min",
                "rate wanders by minute (AR(1) 0.8), 6 h",
                modulated_idc(),
                wandering_idc,
                few,
            )
        )

        def renewal_cv(rng: np.random.Generator) -> tuple[float, tuple[float, float] | None]:
            a = fitted(np.cumsum(rng.gamma(0.25, 2.0, 8000)))
            return a.cv, ends(a, "cv")

        out.append(
            recovered("CV of gaps", "gamma renewal, shape 0.25, 8,000 gaps", 2.0, renewal_cv, few)
        )

        def gamma_shape(rng: np.random.Generator) -> tuple[float, tuple[float, float] | None]:
            a = fitted(np.cumsum(rng.gamma(0.25, 2.0, 8000)))
            best = next(f for f in a.families if f.family == "gamma")
            i = best.intervals.get("shape")
            return best.params["shape"], (i.low, i.high) if i else None

        out.append(
            recovered(
                "gamma shape of gaps",
                "gamma renewal, shape 0.25, 8,000 gaps",
                0.25,
                gamma_shape,
                few,
            )
        )

        def thinned(rng: np.random.Generator) -> tuple[float, tuple[float, float] | None]:
            from dataclasses import replace

            t = modulated(rng, 6.0)
            made = trace(place, t[rng.random(len(t)) < 0.2])
            a = arrivals.fit(replace(made, manifest=replace(made.manifest, sampled=0.2)), [])
            assert a is not None
            s = a.scale(60.0)
            assert s is not None
            assert s.idc is not None
            return s.idc, (s.interval.low, s.interval.high) if s.interval else None

        out.append(
            recovered(
                "IDC at 1 min from a sample of 20 %",
                "rate wanders by minute (AR(1) 0.8), 6 h",
                modulated_idc(),
                thinned,
                few,
            )
        )

    for phi in (0.0, 0.5, 0.8, 0.9, 0.95):

        def mean(
            rng: np.random.Generator, phi: float = phi
        ) -> tuple[float, tuple[float, float] | None]:
            from scipy.signal import lfilter

            x = lfilter([1], [1, -phi], rng.normal(size=456))[200:] + 10
            b = Blocks.of(x)
            assert b is not None
            d = b.sums(np.stack([x, np.ones(256)], axis=1))
            i = b.interval(float(x.mean()), d[:, 0] / d[:, 1])
            return float(x.mean()), (i.low, i.high) if i else None

        out.append(
            recovered(
                "mean of a series", f"AR(1) {phi:g}, 256 windows", 10.0, mean, 4 * replications
            )
        )
    return out

"""Means, quantiles and dependence of lengths that drift."""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np

from lamina_traces.aspects import lengths
from tests.aspects.test_lengths import trace

from . import Draw, Recovered, recovered


def drifting(rng: np.random.Generator, n: int = 12_000) -> tuple[np.ndarray, np.ndarray]:
    """Log lengths around a level that wanders by hundred requests (AR(1) 0.7)."""
    level = np.zeros(n // 100 + 100)
    for i in range(1, len(level)):
        level[i] = 0.7 * level[i - 1] + rng.normal(0, 0.15)
    z = rng.multivariate_normal([0, 0], [[1, 0.4], [0.4, 1]], n)
    x = np.exp(6 + np.repeat(level[100:], 100) + 0.8 * z[:, 0])
    return np.ceil(x), np.ceil(np.exp(4 + z[:, 1]))


SD = float(np.sqrt(0.8**2 + 0.15**2 / (1 - 0.7**2)))
"""of the log input."""


def recovery(replications: int) -> list[Recovered]:
    out = []
    few = max(20, replications // 2)
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)

        def of(name: str) -> Draw:
            def draw(rng: np.random.Generator) -> tuple[float, tuple[float, float] | None]:
                f = lengths.fit(trace(place, *drifting(rng)), [])
                assert f is not None
                value = f.input.grid.mean if name == "mean" else f.input.quantiles[name]
                i = f.input.intervals.get(name)
                return value, (i.low, i.high) if i else None

            return draw

        setting = "12,000 requests, level wanders (AR(1) 0.7)"
        out.append(
            recovered("mean input", setting, float(np.exp(6 + SD**2 / 2)) + 0.5, of("mean"), few)
        )
        out.append(recovered("median input", setting, float(np.exp(6)) + 0.5, of("p50"), few))
        out.append(
            recovered("p99 input", setting, float(np.exp(6 + 2.3263 * SD)) + 0.5, of("p99"), few)
        )

        def rho(rng: np.random.Generator) -> tuple[float, tuple[float, float] | None]:
            f = lengths.fit(trace(place, *drifting(rng)), [])
            assert f is not None
            i = f.spearman_interval
            return f.spearman, (i.low, i.high) if i else None

        pearson = 0.8 * 0.4 / SD
        out.append(
            recovered(
                "Spearman of input and output",
                setting,
                float(6 / np.pi * np.arcsin(pearson / 2)),
                rho,
                few,
            )
        )
    return out

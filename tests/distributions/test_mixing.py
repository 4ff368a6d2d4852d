"""Levels behind counts: what was mixed comes back, and counts are not taken for levels."""

from __future__ import annotations

import numpy as np
import pytest

from lamina_traces.distributions import Mixing


@pytest.mark.parametrize("noise", [0.4, 1.0, 3.0])
def test_two_levels_come_back(noise: float) -> None:
    """Levels 0.25 and 1.75 with a mean of 6 arrivals: a quarter of the low windows is empty, and none has level 0."""
    rng = np.random.default_rng(1)
    level = rng.choice([0.25, 1.75], 40_000)
    mean = 6 * level
    if noise == 1.0:
        n = rng.poisson(mean)
    elif noise > 1:
        excess = (noise - 1) * mean.mean() / (mean**2).mean()
        n = rng.negative_binomial(1 / excess, 1 / (1 + excess * mean))
    else:
        n = np.rint(rng.gamma(mean / noise, noise)).astype(np.int64)
    found = Mixing.of(n, np.full(len(n), 6.0), noise)
    assert found.weights @ found.levels == pytest.approx(1, abs=0.03)
    variance = found.weights @ found.levels**2 - (found.weights @ found.levels) ** 2
    assert variance == pytest.approx(0.75**2, rel=0.1)
    assert found.weights[found.levels < 0.1].sum() < 0.12
    assert found.weights[found.levels < 0.8].sum() == pytest.approx(0.5, abs=0.06)
    back = found.posterior(n, np.full(len(n), 6.0))
    assert ((back - level) ** 2).mean() < ((n / 6 - level) ** 2).mean() * 0.8


def test_expected_counts_that_differ() -> None:
    """Nights with a twentieth of the day's arrivals: their empty windows say little."""
    rng = np.random.default_rng(2)
    expected = np.where(np.arange(60_000) % 2, 10.0, 0.5)
    level = rng.gamma(4, 1 / 4, len(expected))
    found = Mixing.of(rng.poisson(level * expected), expected, 1.0)
    q = np.interp([0.1, 0.5, 0.9], np.cumsum(found.weights), found.levels)
    assert q == pytest.approx(np.quantile(level, [0.1, 0.5, 0.9]), rel=0.15)
    back = found.posterior(np.array([0, 0]), np.array([0.5, 10.0]))
    assert back[0] > 0.5
    assert back[1] < 0.4


def test_counts_beyond_all_bins() -> None:
    rng = np.random.default_rng(3)
    level = rng.lognormal(-0.125, 0.5, 20_000)
    n = rng.poisson(1e5 * level)
    found = Mixing.of(n, np.full(len(n), 1e5), 1.0)
    assert found.posterior(n, np.full(len(n), 1e5)) == pytest.approx(n / 1e5, rel=0.02)

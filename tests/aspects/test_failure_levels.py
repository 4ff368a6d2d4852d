"""Levels of the odds of failing: what is told from counts, by second routes; chains alone are no levels."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
from scipy import stats

from lamina_traces.aspects import failure_levels, failures
from lamina_traces.aspects.failure_levels import OddsLevels
from lamina_traces.aspects.failure_windows import FineWindows
from lamina_traces.aspects.modulation import FACTOR
from lamina_traces.aspects.timeline import Timeline
from lamina_traces.errors import ModelError
from lamina_traces.generator.levels import Levels
from tests.generator.outages import BASE, IN_OUTAGE, OUTAGE_S, outages, poisson
from tests.recovery.failures import seen

LAW = OddsLevels(10.0, (0.5, 1.0, 90.0), (0.3, 0.699, 0.001), (0.2, 0.5, 0.3), 0.8)
WHOLE = failures.Failures(1000, 20, 0.02, 0.01, 0.03, 0.01, 0.5, 2.0, 9, {"error": (1.0, 0.0)}, modulation=LAW)  # fmt: skip


def told(t: np.ndarray, failed: np.ndarray) -> OddsLevels | None:
    p = seen(t, failed)
    assert p.windows is not None
    rate = failed.mean()
    return failure_levels.fit(p.windows, p.runs, lambda b: np.full(len(p.windows.number(b)), rate))  # type: ignore[union-attr]


def test_recovers_outages() -> None:
    rng = np.random.default_rng(24)
    t = poisson(rng, 12, 10.0)
    down = outages(rng, t)
    failed = rng.random(len(t)) < np.where(down, IN_OUTAGE, BASE)
    found = told(t, failed)
    assert found is not None
    share, bad, good = found.split(failed.mean())
    assert share == pytest.approx(down.mean(), rel=0.1)
    assert bad == pytest.approx(IN_OUTAGE, rel=0.1)
    assert good == pytest.approx(BASE, rel=0.2)
    assert found.lasting_s(failed.mean()) == pytest.approx(OUTAGE_S, rel=0.25)


@pytest.mark.parametrize(("p", "q"), [(0.02, 0.2), (0.001, 0.05), (0.03, 0.97)])
def test_chains_and_independent_failures_have_no_levels(p: float, q: float) -> None:
    alarms = 0
    for seed in range(20):
        rng = np.random.default_rng([seed, 7])
        t = poisson(rng, 2, 10.0)
        alarms += told(t, failures.chained(rng.random(len(t)), 0, p, q)[0]) is not None
    assert alarms <= 1


def test_a_chain_whose_chances_change_equals_its_definition() -> None:
    rng = np.random.default_rng(2)
    u, p, q = rng.random((3, 5000))
    state, want = 1, []
    for x, a, b in zip(u, p, q, strict=True):
        state = int(x < (1 - b if state else a))
        want.append(bool(state))
    assert failures.chained(u, 1, p, q)[0].tolist() == want


def test_covariances_of_steps_are_orthant_chances() -> None:
    """Steps up by 0.2 at z = 1, and by 0.5 at 3.1, which one window in a thousand reaches."""
    at, rise = np.array([1.0, 3.1]), np.array([0.2, 0.5])
    r, known = failure_levels.covariances(at, rise)
    beyond = stats.norm.sf(at)
    for x in (0.1, 0.5, 0.9, 0.99):
        law = stats.multivariate_normal(cov=[[1, x], [x, 1]])
        want = sum(a * b * (law.cdf([-s, -t]) - v * w) for s, a, v in zip(at, rise, beyond, strict=True) for t, b, w in zip(at, rise, beyond, strict=True))  # fmt: skip
        assert np.interp(x, r, known) == pytest.approx(want, rel=0.01)
    both = np.minimum.outer(beyond, beyond) - np.outer(beyond, beyond)
    assert known[-1] == pytest.approx(rise @ both @ rise, rel=0.01)


def test_made_levels_have_the_covariance_that_their_parts_state() -> None:
    """Of the indicator of a level that one window in a thousand has."""
    n = 1 << 20
    share, lags = np.zeros((40, 4)), np.array([1, 3, 8, 30])
    for seed in range(len(share)):
        z = Levels((0.1, 0.3, 0.6), 1.0, seed, "failure levels").z(0, n)
        high = (z > stats.norm.isf(1e-3)).astype(float)
        share[seed] = [(high[:-i] * high[i:]).mean() for i in lags]
    r, known = failure_levels.covariances(np.array([stats.norm.isf(1e-3)]), np.ones(1))
    longer = np.interp([1.0, 0.9, 0.6, 0.0], r, known)
    same = np.maximum(0, 1 - lags[:, None] / FACTOR ** np.arange(3))
    # a part in common nearly always comes with the longer ones
    np.testing.assert_allclose(share.mean(axis=0), same @ -np.diff(longer) + 1e-6, rtol=0.2, atol=3e-6)  # fmt: skip


@pytest.mark.parametrize("rate", [0.001, 0.02, 0.5, 0.99])
def test_mean_chance_is_the_rate(rate: float) -> None:
    chain = failures.Chain.of(replace(WHOLE, rate=rate))
    rng = np.random.default_rng(1)
    failed, _ = chain.sample(rng.random(400_000), 0, None, rng.random(400_000))
    assert failed.mean() == pytest.approx(rate, rel=0.1)
    assert 0 <= chain.rho < 1


def test_windows_equal_counts_of_the_rows_in_any_batches() -> None:
    rng = np.random.default_rng(3)
    t = np.cumsum(rng.integers(1, 10**9, 5000)) + 12_345_678_901
    failed = rng.random(5000) < 0.2
    timeline = Timeline(5000, 5000, int(t[0]), int(t[-1]), 10**10, 300)
    one = FineWindows.of(timeline, 10**6)
    for a, b in ((0, 1), (1, 1700), (1700, 5000)):
        one.add(t[a:b], np.flatnonzero(failed[a:b]))
    bits = one.bits + 5
    number = one.number(bits)
    n, k = one.wider(bits)
    assert (t[0] >> bits, t[-1] >> bits) == (number[0], number[-1])
    np.testing.assert_array_equal(n, np.bincount((t >> bits) - number[0]))
    np.testing.assert_array_equal(k, np.bincount((t >> bits) - number[0], failed))
    halves = one.halves(bits)[1]
    np.testing.assert_array_equal(halves.sum(axis=1), k)
    np.testing.assert_array_equal(halves[:, 1], np.bincount((t >> bits) - number[0], failed & ((t >> (bits - 1)) % 2 == 1)))  # fmt: skip
    # of two traces of one clock
    mine = t % 3 == 0
    parts = []
    for own in (mine, ~mine):
        span = Timeline(1, 1, int(t[own][0]), int(t[own][-1]), 10**10, 300)
        parts.append(FineWindows.of(span, 10**6))
        parts[-1].add(t[own], np.flatnonzero(failed[own]))
    both = FineWindows.sum(parts)
    np.testing.assert_array_equal(both.wider(bits)[1], k)


def test_round_trip_and_nonsense() -> None:
    d = json.loads(json.dumps(WHOLE.to_dict()))
    assert failures.from_dict(d).modulation == LAW
    del d["modulation"]
    assert failures.from_dict(d).modulation is None
    wrong: list[dict[str, object]] = [
        {"window_s": 0.0}, {"levels": [1.0, 0.5, 2.0]}, {"levels": [-1.0, 0.5, 2.0]}, {"levels": [1.0, 2.0]}, {"levels": [], "shares": []},
        {"shares": [0.3, 0.6, 0.3]}, {"shares": [0.3, float("nan"), 0.3]}, {"parts": [0.5, 0.2]}, {"parts": []}, {"shared": 1.5},
        {"levels": [0.5, 1.0, float("inf")]}, {"window_s": float("nan")},
    ]  # fmt: skip
    for change in wrong:
        with pytest.raises(ModelError, match="modulation of failures"):
            OddsLevels.from_dict(LAW.to_dict() | change)


def test_outages_are_told() -> None:
    text = next(f.text for f in WHOLE.findings() if "outages" in f.text)
    assert text.startswith("Failures come in outages: in 1 of a thousand windows of 10 s 68 % fail")

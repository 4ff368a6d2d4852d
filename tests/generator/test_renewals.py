"""Renewal processes: counts against rate × time, the equilibrium start against its law, and cuts that change nothing."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import integrate, stats

from lamina_traces.counts import Counts
from lamina_traces.distributions import Grid, QuantileCurve
from lamina_traces.generator.randomness import key
from lamina_traces.generator.renewals import OperationalTime, Renewals

S = 10**9
CURVES = {
    "exponential": QuantileCurve.exponential(),
    "regular": QuantileCurve.gamma(0.05),
    "bursty": QuantileCurve.gamma(30.0),
    "uniform": QuantileCurve(np.array([0.0, 1.0]), np.array([0.0, 2.0])),
}


@pytest.mark.parametrize("law", CURVES)
@pytest.mark.parametrize("rate_per_s", [0.01, 0.2, 1.0, 100.0])
def test_expected_counts_are_rate_times_time(law: str, rate_per_s: float) -> None:
    """Cox 1962, §2.2: in equilibrium E[N(t)] = t / mean gap from the start on, for any law of gaps; 400 seeds, and a time
    that holds one event on average: what an ordinary renewal process gets most wrong."""
    counts = []
    for seed in range(400):
        r = Renewals((CURVES[law],), np.zeros(20, dtype=np.int64), np.full(20, S / rate_per_s), key(seed, law))  # fmt: skip
        process, *_ = r.until(round(S / rate_per_s), *r.start())
        counts.append(len(process) / 20)
    error = np.std(counts, ddof=1) / np.sqrt(len(counts))
    assert np.mean(counts) == pytest.approx(1.0, abs=4 * error)
    assert error < 0.08


def test_the_first_event_has_the_equilibrium_law() -> None:
    """P(first > x) = ∫ₓ (1 − F) / mean: for uniform gaps on [0, 2] it is (1 − x/2)²."""
    rng = np.random.default_rng(1)
    first = CURVES["uniform"].rests(rng.random(4000), rng.random(4000))
    assert stats.kstest(first, lambda x: 1 - (1 - np.clip(x, 0, 2) / 2) ** 2).pvalue > 0.001
    assert CURVES["uniform"].silent(np.array([0.5])) == pytest.approx([0.75**2], rel=1e-12)


def test_silence_of_a_gamma_law_by_integration() -> None:
    for dispersion in (0.5, 2.0):
        law = stats.gamma(1 / dispersion, scale=dispersion)
        for x in (0.1, 1.0, 3.0):
            wanted, _ = integrate.quad(law.sf, x, np.inf)
            found = QuantileCurve.gamma(dispersion).silent(np.array([x]))[0]
            assert found == pytest.approx(wanted, rel=2e-3)


def test_cuts_change_nothing() -> None:
    """One walk to the end, and walks to a thousand places: the same events."""
    r = Renewals(
        tuple(CURVES.values()), np.arange(40) % 4, np.geomspace(1e6, 1e11, 40), key(7, "cuts")
    )
    end = 20 * S
    whole = r.until(end, *r.start())
    state = r.start()
    parts: list[tuple[int, int, int]] = []
    for to in [*np.sort(np.random.default_rng(0).integers(0, end, 1000)).tolist(), end]:
        process, number, at, *after = r.until(to, *state)
        state = (after[0], after[1])
        parts += zip(process.tolist(), number.tolist(), at.tolist(), strict=True)
    assert sorted(parts) == sorted(zip(*(x.tolist() for x in whole[:3]), strict=True))
    assert (state[0] == whole[3]).all()
    assert (state[1] == whole[4]).all()
    assert len(parts) > 20_000


def test_dispersion_is_the_squared_cv_of_the_gaps() -> None:
    """Var N(t) / t → CV² (Cox 1962, §4.2)."""
    for name in ("regular", "exponential", "bursty"):
        curve = CURVES[name]
        r = Renewals((curve,), np.zeros(4000, dtype=np.int64), np.full(4000, 1e9), key(3, name))
        process, *_ = r.until(1000 * S, *r.start())
        n = np.bincount(process, minlength=4000)
        assert n.var() / 1000 == pytest.approx(curve.squared_cv, rel=0.1)


def test_operational_time_bends_and_back() -> None:
    clock = OperationalTime.of(np.array([0.5, 0.0, 2.5, 1.0]), 10.0)
    assert clock.passed(40 * S) == 40 * S
    assert clock.passed(15 * S) == clock.passed(18 * S) == 5 * S
    assert clock.passed(165 * S) == 120 * S + 40 * S + round(2.5 * S)
    at = np.random.default_rng(2).integers(0, 400 * S, 1000)
    assert np.abs(np.array([clock.passed(int(t)) for t in clock.wall(at)]) - at).max() <= 4


def test_a_curve_has_the_mean_and_the_spread_of_its_source() -> None:
    """The grid of heavy-tailed values loses a tenth of the mean to its ends and its last step; the curve does not."""
    rng = np.random.default_rng(4)
    for x in (rng.lognormal(0, 2, 5000), rng.exponential(1, 300), rng.gamma(0.05, 20, 800)):
        curve = Grid.of(Counts.of(x), 65).curve
        assert curve.mean == pytest.approx(x.mean(), rel=0.03)
        assert curve.squared_cv == pytest.approx(x.var() / x.mean() ** 2, rel=0.4)
        q = np.linspace(0.02, 0.95, 50)
        assert curve.quantile(q) == pytest.approx(np.quantile(x, q), rel=0.2, abs=0.05)

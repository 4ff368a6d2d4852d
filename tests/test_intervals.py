"""Intervals: coverage on independent and on dependent data, and the parts against other implementations."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from lamina_traces import intervals
from lamina_traces.intervals import Blocks, autocorrelation, block_length, ljung_box, wilson


def ar1(phi: float, n: int, rng: np.random.Generator) -> np.ndarray:
    from scipy.signal import lfilter

    return np.asarray(lfilter([1], [1, -phi], rng.normal(size=n + 200))[200:])


@pytest.mark.parametrize(
    ("phi", "least"), [(0.0, 0.91), (0.5, 0.91), (0.8, 0.90), (0.9, 0.88), (0.95, 0.84)]
)
def test_intervals_of_a_mean_cover_it_on_dependent_data(phi: float, least: float) -> None:
    rng = np.random.default_rng(1)
    hit = naive = 0
    runs = 200
    for _ in range(runs):
        x = ar1(phi, 256, rng) + 10
        blocks = Blocks.of(x)
        assert blocks is not None
        draws = blocks.sums(np.stack([x, np.ones(256)], axis=1))
        i = blocks.interval(float(x.mean()), draws[:, 0] / draws[:, 1], float(x.var()))
        assert i is not None
        hit += i.low <= 10 <= i.high
        half = 1.96 * x.std() / 16
        naive += abs(x.mean() - 10) <= half
    assert hit / runs >= least
    if phi >= 0.8:
        assert naive / runs < 0.6  # what taking the windows as independent would claim to be 95 %


def test_effective_sample_size_is_that_of_an_ar1() -> None:
    """n·(1 − φ)/(1 + φ) for the mean of an AR(1)."""
    rng = np.random.default_rng(2)
    found = []
    for _ in range(40):
        x = ar1(0.6, 512, rng)
        b = Blocks.of(x)
        assert b is not None
        d = b.sums(np.stack([x + 50, np.ones(512)], axis=1))
        i = b.interval(float(x.mean() + 50), d[:, 0] / d[:, 1], float(x.var()))
        assert i is not None
        found.append(i.n_eff)
    assert np.median(found) == pytest.approx(512 * 0.4 / 1.6, rel=0.25)  # type: ignore[arg-type]


def test_independent_windows_are_taken_as_such() -> None:
    rng = np.random.default_rng(3)
    taken = [Blocks.of(rng.normal(size=200)) for _ in range(200)]
    share = np.mean([b.length == 1 and b.method == "independent windows" for b in taken if b])
    assert share == pytest.approx(0.95, abs=0.05)
    dependent = Blocks.of(ar1(0.8, 300, rng))
    assert dependent is not None
    assert dependent.length > 3
    assert dependent.method == "moving blocks"


def test_a_drift_of_the_mean_is_dependence() -> None:
    """Windows whose rows have another mean than the others are not independent rows of one law."""
    rng = np.random.default_rng(4)
    rows = np.full(100, 50.0)
    same = np.array([rng.normal(0, 1, 50).sum() for _ in range(100)])
    assert intervals.homogeneous(rows, same, 1.0) > 0.01
    assert (
        intervals.homogeneous(rows, same + 50 * np.where(np.arange(100) < 50, 0.3, -0.3), 1.0)
        < 1e-6
    )


def test_ljung_box_is_uniform_under_independence() -> None:
    rng = np.random.default_rng(5)
    p = [ljung_box(rng.normal(size=300)) for _ in range(400)]
    assert stats.kstest(p, "uniform").statistic < 0.08


def test_autocorrelation_equals_numpy() -> None:
    x = np.random.default_rng(6).normal(size=100).cumsum()
    d = x - x.mean()
    want = [(d[: len(d) - k] * d[k:]).sum() / (d * d).sum() for k in range(6)]
    np.testing.assert_allclose(autocorrelation(x, 5), want, rtol=1e-9)
    assert autocorrelation(np.ones(10), 3).tolist() == [1, 0, 0, 0]


def test_block_length_grows_with_memory() -> None:
    rng = np.random.default_rng(7)
    lengths = [
        np.mean([block_length(ar1(phi, 500, rng)) for _ in range(20)]) for phi in (0.0, 0.5, 0.9)
    ]
    assert lengths[0] < 4 < lengths[1] < lengths[2]


def test_draws_hold_as_many_windows_as_the_trace() -> None:
    for windows, length in ((100, 7), (33, 4), (256, 1)):
        w = intervals._weights(windows, length)
        assert (w.sum(axis=1) == windows).all()
        assert w.mean() == pytest.approx(1, abs=0.01)


def test_wilson_equals_scipy() -> None:
    want = stats.binomtest(1, 10).proportion_ci(method="wilson")
    got = wilson(1, 10)
    assert (got.low, got.high) == pytest.approx((want.low, want.high), abs=1e-12)


def test_poisson_equals_its_chi_square_form() -> None:
    got = intervals.poisson(7)
    assert (got.low, got.high) == pytest.approx(
        (stats.chi2.ppf(0.025, 14) / 2, stats.chi2.ppf(0.975, 16) / 2)
    )


def test_few_windows_carry_no_interval() -> None:
    assert Blocks.of(np.arange(15.0)) is None

"""Phase levels: the likelihood by enumeration, recovery, and what is no phase."""

from __future__ import annotations

import itertools
import math

import numpy as np
import numpy.typing as npt
import pytest
from scipy import stats

from lamina_traces.aspects import phases
from lamina_traces.aspects.phases import Chain, Level, Phases, fit_phases, sample

Array = npt.NDArray[np.float64]

TRUTH = Phases(
    1.0, 0,
    (Level(80.0, 5.0, 0.4, 50.0), Level(250.0, 20.0, 0.4, 20.0), Level(400.0, 30.0, 0.2, 10.0)),
    ((0.98, 0.01, 0.01), (0.01, 0.95, 0.04), (0.02, 0.08, 0.90)), 0.0, 0.0,
)  # fmt: skip


def enumerated(x: Array, chain: Chain) -> float:
    """ln of the sum over all paths."""
    total = 0.0
    for path in itertools.product(range(len(chain.means)), repeat=len(x)):
        p = chain.start[path[0]]
        for a, b in itertools.pairwise(path):
            p *= chain.step[a, b]
        total += p * math.prod(
            stats.norm.pdf(v, chain.means[s], chain.sds[s]) for v, s in zip(x, path, strict=True)
        )
    return math.log(total)


def test_likelihood_equals_the_sum_over_all_paths() -> None:
    rng = np.random.default_rng(0)
    chain = Chain(
        np.array([1.0, 2.5, 4.0]), np.array([0.5, 0.4, 1.0]), np.array([0.2, 0.5, 0.3]),
        np.array([[0.7, 0.2, 0.1], [0.3, 0.4, 0.3], [0.1, 0.1, 0.8]]), 0.0,
    )  # fmt: skip
    runs = [rng.normal(2, 1.5, n) for n in (7, 4, 2)]
    x, there = phases.pieces(runs)
    want = sum(enumerated(r, chain) for r in runs)
    assert phases.loglikelihood(x, there, chain) == pytest.approx(want, rel=1e-12)


def test_each_iteration_gains() -> None:
    """Baum & Welch never lose likelihood; the fit is at least as likely as the truth."""
    x, there = phases.pieces([sample(TRUTH, np.random.default_rng(1), 3000)])
    found = phases.baum_welch(x, there, 3)
    truth = Chain(
        np.array([v.mean_w for v in TRUTH.levels]), np.array([v.sd_w for v in TRUTH.levels]),
        np.array([v.share for v in TRUTH.levels]), np.array(TRUTH.transitions), 0.0,
    )  # fmt: skip
    assert found.loglik >= phases.loglikelihood(x, there, truth)


@pytest.mark.parametrize("phi", [0.0, 0.6])
def test_levels_dwells_and_residual_are_recovered(phi: float) -> None:
    truth = Phases(1.0, 0, TRUTH.levels, TRUTH.transitions, phi, 0.0)
    found = fit_phases([sample(truth, np.random.default_rng(2), 20_000)], 1.0)
    assert found is not None
    assert len(found.levels) == 3
    stationary = np.linalg.matrix_power(np.array(TRUTH.transitions), 500)[0]
    for got, want, share in zip(found.levels, TRUTH.levels, stationary, strict=True):
        assert got.mean_w == pytest.approx(want.mean_w, abs=0.1 * want.sd_w)
        assert got.sd_w == pytest.approx(want.sd_w, rel=0.05)
        assert got.dwell_s == pytest.approx(want.dwell_s, rel=0.25)
        assert got.share == pytest.approx(share, abs=0.08)
    assert found.phi == pytest.approx(phi, abs=0.03)
    np.testing.assert_allclose(found.transitions, TRUTH.transitions, atol=0.02)


def test_dwell_times_are_in_seconds() -> None:
    x = sample(TRUTH, np.random.default_rng(3), 8000)
    one, half = fit_phases([x], 1.0), fit_phases([x], 0.5)
    assert one is not None
    assert half is not None
    for a, b in zip(one.levels, half.levels, strict=True):
        assert b.dwell_s == pytest.approx(a.dwell_s / 2, rel=1e-5)


def test_drift_noise_and_constants_are_no_phases() -> None:
    rng = np.random.default_rng(4)
    noise = rng.standard_normal(8000)
    drift = np.zeros(8000)
    for i in range(1, 8000):
        drift[i] = 0.98 * drift[i - 1] + noise[i]
    assert fit_phases([300 + 5 * noise], 1.0) is None
    assert fit_phases([300 + 5 * drift], 1.0) is None
    assert fit_phases([300 + 50 * np.sin(np.arange(3000) / 300) + 0.1 * noise[:3000]], 1.0) is None
    assert fit_phases([np.full(500, 300.0)], 1.0) is None
    assert fit_phases([rng.exponential(50, 5000)], 1.0) is None
    assert fit_phases([np.tile([1.0, 9.0], 20)], 1.0) is None, "fewer than 60 points"


def test_a_level_that_repeats_one_reading_has_a_spread() -> None:
    x = np.where(np.arange(2000) // 50 % 2, 400.0, 90.0)
    found = fit_phases([x], 1.0)
    assert found is not None
    assert [v.mean_w for v in found.levels] == pytest.approx([90, 400])
    assert all(v.sd_w > 0 for v in found.levels)
    assert found.levels[0].dwell_s == pytest.approx(50, rel=0.05)


def test_gaps_are_no_steps() -> None:
    """Two stretches, one at each level: no transition is seen between them."""
    rng = np.random.default_rng(5)
    found = fit_phases([90 + rng.standard_normal(500), 400 + rng.standard_normal(500)], 1.0)
    assert found is not None
    assert found.transitions[0][1] < 1e-6


def test_long_traces_are_thinned_to_whole_pieces_in_order() -> None:
    x = np.arange(60_000, dtype=np.float64)
    cut, there = phases.pieces([x])
    assert there.all()
    assert cut.size <= phases.MOST_POINTS
    assert (np.diff(cut, axis=1) == 1).all()
    assert (np.diff(cut[:, 0]) > 0).all()
    assert cut[-1, -1] > 59_000


def test_a_fit_is_a_function_of_its_data() -> None:
    x = sample(TRUTH, np.random.default_rng(6), 4000)
    assert fit_phases([x], 1.0) == fit_phases([x.copy()], 1.0)
    found = fit_phases([x], 1.0)
    assert found is not None
    assert Phases.from_dict(found.to_dict()) == found

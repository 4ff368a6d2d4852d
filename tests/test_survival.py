"""Kaplan & Meier's estimate against lifelines, and intervals of quantiles against simulation."""

from __future__ import annotations

import math

import numpy as np
import pytest
from lifelines import (
    ExponentialFitter,
    KaplanMeierFitter,
    LogNormalFitter,
    WeibullFitter,
)
from lifelines.utils import median_survival_times, restricted_mean_survival_time

from lamina_traces.counts import Counts
from lamina_traces.distributions import fit_families
from lamina_traces.errors import ModelError
from lamina_traces.intervals import Blocks
from lamina_traces.survival import Survival, quantile_interval


def censored(n: int, seed: int = 1) -> tuple[np.ndarray, np.ndarray]:
    """Weibull lifetimes in whole units, some cut off: (time, seen to the end)."""
    rng = np.random.default_rng(seed)
    life, cut = np.ceil(rng.weibull(0.7, n) * 50), np.ceil(rng.exponential(60, n))
    return np.minimum(life, cut), life <= cut


def curve(t: np.ndarray, ended: np.ndarray) -> Survival:
    return Survival.of(Counts.of(t[ended]), Counts.of(t[~ended]))


@pytest.mark.parametrize("n", [30, 500])
def test_equals_lifelines(n: int) -> None:
    t, ended = censored(n)
    ours, theirs = curve(t, ended), KaplanMeierFitter().fit(t, ended)
    np.testing.assert_allclose(
        ours.survival, theirs.survival_function_at_times(ours.t).to_numpy(), rtol=0, atol=1e-12
    )
    band = theirs.confidence_interval_.loc[ours.t].to_numpy()
    np.testing.assert_allclose(ours.low, np.nan_to_num(band[:, 0]), rtol=0, atol=1e-12)
    np.testing.assert_allclose(ours.high, np.nan_to_num(band[:, 1]), rtol=0, atol=1e-12)
    assert ours.quantile(0.5) == theirs.median_survival_time_
    ends = median_survival_times(theirs.confidence_interval_).to_numpy().ravel()
    interval = ours.quantile_interval(0.5)
    assert interval is not None
    assert (interval.low, interval.high) == tuple(ends)
    assert ours.mean_until(40) == pytest.approx(restricted_mean_survival_time(theirs, t=40))


def test_without_censoring_it_is_the_empirical_curve() -> None:
    x = np.array([1.0, 1.0, 2.0, 5.0])
    s = Survival.of(Counts.of(x))
    np.testing.assert_allclose(s.survival, [0.5, 0.25, 0.0])
    np.testing.assert_allclose(s.at(np.array([0.5, 1.0, 4.9, 9.0])), [1.0, 0.5, 0.25, 0.0])
    assert s.quantile(0.9) == 5.0


def test_a_quantile_that_was_not_seen_is_none() -> None:
    s = Survival.of(Counts.exact([1.0], [2.0]), Counts.exact([3.0], [8.0]))
    assert s.survival[-1] == pytest.approx(0.8)
    assert s.quantile(0.5) is None
    assert s.quantile_interval(0.5) is None


@pytest.mark.parametrize(
    ("family", "fitter", "params"),
    [
        ("weibull", WeibullFitter, {"shape": "rho_", "scale": "lambda_"}),
        ("lognormal", LogNormalFitter, {"mu": "mu_", "sigma": "sigma_"}),
        ("exponential", ExponentialFitter, {"scale": "lambda_"}),
    ],
)
def test_right_censored_laws_equal_lifelines(
    family: str, fitter: type, params: dict[str, str]
) -> None:
    t, ended = censored(800, seed=3)
    ours = fit_families(Counts.of(t[ended]), (family,), right=Counts.of(t[~ended]))[0]
    theirs = fitter().fit(t, ended)
    for name, attribute in params.items():
        assert ours.params[name] == pytest.approx(getattr(theirs, attribute), rel=2e-4), name


def test_what_is_stored_tells_nothing_of_fewer_than_ten() -> None:
    t, ended = censored(600, seed=5)
    whole = curve(t, ended)
    thin = whole.thinned()
    assert 5 < len(thin.t) <= 48
    np.testing.assert_allclose(thin.survival, whole.at(thin.t), rtol=1e-4)
    ends = np.sort(t[ended])
    assert thin.t[0] >= ends[9]
    assert ((ends[:, None] <= thin.t).sum(axis=0)[1:] - (ends[:, None] <= thin.t).sum(axis=0)[:-1] >= 10).all()  # fmt: skip
    assert (t > thin.t[-1]).sum() >= 10
    again = Survival.from_dict(thin.to_dict())
    assert again.to_dict() == thin.to_dict()


@pytest.mark.parametrize(
    "change",
    [
        {"survival": [0.5, 0.7, 0.1]},
        {"t": [3.0, 2.0, 5.0]},
        {"high": [2.0, 1.0, 1.0]},
        {"low": [0.0, 0.0]},
        {"ended": -1.0},
        {"t": [math.nan, 2.0, 5.0]},
    ],
)
def test_damage_is_refused(change: dict[str, object]) -> None:
    good = Survival.of(Counts.exact([1.0, 2.0, 5.0], [3.0, 3.0, 3.0])).to_dict()
    Survival.from_dict(good)
    with pytest.raises(ModelError, match="survival curve"):
        Survival.from_dict(good | change)


def test_intervals_of_quantiles_hold_what_they_promise() -> None:
    """Woodruff's interval of independent rows covers the median of a lognormal law, and p90."""
    rng = np.random.default_rng(7)
    hits = {0.5: 0, 0.9: 0}
    truth = {0.5: 1.0, 0.9: math.exp(1.2815515655)}
    for _ in range(1000):
        c = Counts.of(rng.lognormal(0, 1, 400))
        for p in hits:
            i = quantile_interval(c, p)
            assert i is not None
            assert i.method == "independent rows"
            hits[p] += i.low <= truth[p] <= i.high
    assert all(0.925 <= h / 1000 <= 0.97 for h in hits.values()), hits


def test_intervals_of_quantiles_widen_with_dependence() -> None:
    """Windows whose level wanders: rows taken as independent would claim far too much."""
    rng = np.random.default_rng(8)
    level = np.zeros(250)
    for i in range(1, 250):
        level[i] = 0.8 * level[i - 1] + rng.normal(0, 0.5)
    x = np.exp(level[50:, None] + rng.normal(0, 0.5, (200, 100)))
    c = Counts.of(x.ravel())
    median = float(c.quantile(0.5))
    blocks = Blocks.of(x.mean(axis=1) - c.mean, 0.0)
    wide = quantile_interval(
        c, 0.5, blocks, (x > median).sum(axis=1).astype(float), np.full(200, 100.0)
    )
    narrow = quantile_interval(c, 0.5)
    assert wide is not None
    assert narrow is not None
    assert wide.high - wide.low > 4 * (narrow.high - narrow.low)
    assert wide.method == "moving blocks"
    assert wide.low < median < wide.high

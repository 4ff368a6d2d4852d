"""Fits on Counts against scipy on the rows, lifelines, closed forms, and truth that was drawn."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from lamina_traces.counts import Counts
from lamina_traces.distributions import (
    FAMILIES,
    Fitted,
    Grid,
    fit_families,
    ks_distance,
    lognormal_by_moments,
    weibull_by_moments,
)
from lamina_traces.errors import ModelError

SCIPY = {
    "exponential": stats.expon,
    "lognormal": stats.lognorm,
    "gamma": stats.gamma,
    "weibull": stats.weibull_min,
    "loglogistic": stats.fisk,
    "inverse-gaussian": stats.invgauss,
}

FROZEN = {
    "exponential": ({"scale": 1.7}, stats.expon(scale=1.7)),
    "lognormal": ({"mu": 0.4, "sigma": 1.3}, stats.lognorm(1.3, scale=np.exp(0.4))),
    "gamma": ({"shape": 0.6, "scale": 3.0}, stats.gamma(0.6, scale=3.0)),
    "weibull": ({"shape": 0.6, "scale": 3.0}, stats.weibull_min(0.6, scale=3.0)),
    "loglogistic": ({"shape": 1.6, "scale": 3.0}, stats.fisk(1.6, scale=3.0)),
    "inverse-gaussian": ({"mean": 2.0, "shape": 3.0}, stats.invgauss(2.0 / 3.0, scale=3.0)),
    "normal": ({"mu": 2.0, "sigma": 3.0}, stats.norm(2.0, 3.0)),
    "pareto": ({"shape": 1.6, "minimum": 0.01}, stats.pareto(1.6, scale=0.01)),
    "gpd": ({"xi": 0.4, "sigma": 3.0}, stats.genpareto(0.4, scale=3.0)),
    "geometric": ({"p": 0.3}, stats.geom(0.3)),
    "zeta": ({"a": 2.3}, stats.zipf(2.3)),
    "zipf": ({"a": 0.8, "size": 5000.0}, stats.zipfian(0.8, 5000)),
    "negative-binomial": ({"size": 1.7, "p": 0.3}, stats.nbinom(1.7, 0.3)),
}


@pytest.fixture(scope="module")
def tokens() -> np.ndarray:
    rng = np.random.default_rng(7)
    return np.ceil(
        np.where(
            rng.random(30_000) < 0.7, rng.lognormal(6, 1.1, 30_000), rng.gamma(0.8, 900, 30_000)
        )
    )


@pytest.mark.parametrize("name", SCIPY)
def test_likelihood_reaches_scipy(name: str, tokens: np.ndarray) -> None:
    """Our weighted fit is at least as likely as scipy's fit of the rows with the location at 0."""
    law = SCIPY[name]
    params = FAMILIES[name].fit(Counts.of(tokens))
    ours = float(FAMILIES[name].logpdf(tokens, params).sum())
    theirs = float(law.logpdf(tokens, *law.fit(tokens, floc=0)).sum())
    assert ours >= theirs - 1e-3
    assert ours <= theirs + 1.0  # scipy's simplex stops early, but not by a nat in 30,000 rows


@pytest.mark.parametrize("name", FROZEN)
def test_functions_agree_with_scipy(name: str) -> None:
    """cdf, survival, density and quantile of our parameters are those of scipy's parameters."""
    ours, theirs = FROZEN[name]
    family = FAMILIES[name]
    if family.discrete:
        x = np.array([1.0, 2.0, 7.0, 40.0, 900.0])
        density = theirs.logpmf(x)
    else:
        x = np.array([0.01, 0.3, 1.0, 2.5, 40.0])
        density = theirs.logpdf(x)
    np.testing.assert_allclose(family.cdf(x, ours), theirs.cdf(x), rtol=1e-8, atol=1e-12)
    np.testing.assert_allclose(family.logsf(x, ours), theirs.logsf(x), rtol=1e-6, atol=1e-8)
    np.testing.assert_allclose(family.logpdf(x, ours), density, rtol=1e-8)
    q = np.array([0.001, 0.3, 0.5, 0.99])
    np.testing.assert_allclose(family.quantile(q, ours), theirs.ppf(q), rtol=1e-6)
    assert family.mean(ours) == pytest.approx(theirs.mean(), rel=1e-6, nan_ok=True)


def test_every_family_is_compared_with_another_implementation() -> None:
    assert set(FROZEN) == {n for n, f in FAMILIES.items() if not f.mixture}


def test_deep_tails_keep_their_digits() -> None:
    """ln of the mass between 50 and 51 standard deviations out, where one minus one has no digits left."""
    from lamina_traces.distributions.fitting import log_mass

    got = log_mass(FAMILIES["exponential"], np.array([50.0]), np.array([51.0]), {"scale": 1.0})
    assert got[0] == pytest.approx(-50 + np.log(-np.expm1(-1.0)), rel=1e-12)


@pytest.mark.parametrize(
    ("name", "law"),
    [
        ("normal", stats.norm(5, 2)),
        ("pareto", stats.pareto(1.4, scale=2.0)),
        ("gpd", stats.genpareto(0.3, scale=2.0)),
        ("gpd", stats.genpareto(-0.2, scale=2.0)),
        ("geometric", stats.geom(0.2)),
        ("zeta", stats.zipf(1.8)),
        ("negative-binomial", stats.nbinom(0.8, 0.1)),
    ],
)
def test_the_others_reach_the_likelihood_of_the_truth(name: str, law: object) -> None:
    """No parameters are more likely than the fitted ones, the true ones among them; and they lie close."""
    rng = np.random.default_rng(5)
    rows = law.rvs(20_000, random_state=rng)  # type: ignore[attr-defined]
    truth = float((law.logpmf if FAMILIES[name].discrete else law.logpdf)(rows).sum())  # type: ignore[attr-defined]
    c = Counts.of(rows)
    params = FAMILIES[name].fit(c)
    got = float(c.n @ FAMILIES[name].logpdf(c.x, params))
    assert truth <= got <= truth + 8


def test_gpd_equals_scipy() -> None:
    rng = np.random.default_rng(8)
    rows = stats.genpareto(0.25, scale=3).rvs(5000, random_state=rng)
    ours = FAMILIES["gpd"].fit(Counts.of(rows))
    theirs = stats.genpareto.fit(rows, floc=0)
    assert ours["xi"] == pytest.approx(theirs[0], abs=2e-4)
    assert ours["sigma"] == pytest.approx(theirs[2], rel=2e-4)


def test_moments_are_not_parameters() -> None:
    """The paper's LogNormal(3.24, 7.10) and Weibull(1.25, 3.66) are means and standard deviations."""
    p = lognormal_by_moments(3.24, 7.10)
    assert (round(p["mu"], 4), round(p["sigma"], 3)) == (0.2965, 1.326)
    w = weibull_by_moments(1.25, 3.66)
    assert (round(w["shape"], 4), round(w["scale"], 4)) == (0.4176, 0.4217)
    frozen = stats.weibull_min(w["shape"], scale=w["scale"])
    assert (frozen.mean(), frozen.std()) == pytest.approx((1.25, 3.66), rel=1e-9)


def test_weibull_equals_lifelines(tokens: np.ndarray) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # lifelines' own deprecations
        from lifelines import WeibullFitter

        theirs = WeibullFitter().fit(tokens)
    ours = FAMILIES["weibull"].fit(Counts.of(tokens))
    assert ours["shape"] == pytest.approx(theirs.rho_, rel=1e-5)
    assert ours["scale"] == pytest.approx(theirs.lambda_, rel=1e-5)


def test_merged_partitions_give_the_same_fit(tokens: np.ndarray) -> None:
    whole = Counts.of(tokens)
    parts = [
        Counts.of(p) for p in np.array_split(np.random.default_rng(0).permutation(tokens), 100)
    ]
    merged = parts[0]
    for p in parts[1:]:
        merged = merged + p
    np.testing.assert_array_equal(merged.n, whole.n)
    np.testing.assert_array_equal(merged.lo, whole.lo)
    a, b = fit_families(whole, whole_numbers=True), fit_families(merged, whole_numbers=True)
    assert [(f.family, f.params) for f in a] == [(f.family, f.params) for f in b]


@given(st.lists(st.integers(0, 500), min_size=2, max_size=400))
@settings(max_examples=60, deadline=None)
def test_counts_equal_numpy_on_rows(rows: list[int]) -> None:
    c = Counts.of(rows)
    q = np.linspace(0, 1, 21)
    np.testing.assert_allclose(c.quantile(q), np.quantile(rows, q), rtol=1e-12, atol=1e-12)
    assert c.mean == pytest.approx(np.mean(rows))
    assert c.var() == pytest.approx(np.var(rows), abs=1e-9)
    at = np.array([0.0, 3.0, 250.0, 600.0])
    np.testing.assert_allclose(c.cdf(at), [(np.array(rows) <= v).mean() for v in at])


@pytest.mark.parametrize(("shape", "per_tick"), [(0.5, 0.05), (0.5, 0.02), (0.9, 0.05)])
def test_zero_gaps_of_a_fine_clock_do_not_bend_the_fit(shape: float, per_tick: float) -> None:
    """Arrivals floored to a tick well below the mean gap: the shape comes back within 5 %."""
    rng = np.random.default_rng(3)
    t = np.cumsum(rng.gamma(shape, 1 / (shape * per_tick), 100_000))
    gaps = np.diff(np.floor(t))
    assert (gaps == 0).any()
    fits = {f.family: f for f in fit_families(Counts.of(gaps), ("gamma", "exponential"), tick=1.0)}
    assert fits["gamma"].params["shape"] == pytest.approx(shape, rel=0.12 if shape < 0.6 else 0.05)
    assert fits["gamma"].aic_per_row < fits["exponential"].aic_per_row


def test_zeros_without_a_tick_are_refused() -> None:
    with pytest.raises(ModelError, match="zeros"):
        fit_families(Counts.of([0, 1, 2]))


def test_a_constant_has_no_law() -> None:
    assert fit_families(Counts.of([5] * 100)) == []


def test_best_family_is_the_true_one_and_its_distances_are_small() -> None:
    rng = np.random.default_rng(11)
    best = fit_families(Counts.of(rng.lognormal(1, 0.7, 40_000)))[0]
    assert best.family == "lognormal"
    assert best.params["mu"] == pytest.approx(1, abs=0.02)
    assert best.ks_d < 0.01
    assert best.w1_log10 < 0.01
    again = Fitted.from_dict(best.to_dict())
    assert again == best


def test_ks_equals_scipy() -> None:
    rng = np.random.default_rng(2)
    x = rng.exponential(2.0, 500)
    ours = ks_distance(Counts.of(x), lambda v: 1 - np.exp(-v / 2.0))
    assert ours == pytest.approx(stats.kstest(x, stats.expon(scale=2.0).cdf).statistic, abs=1e-12)


def test_grid_holds_ten_rows_a_step_and_reproduces_the_law(tokens: np.ndarray) -> None:
    c = Counts.of(tokens)
    g = Grid.of(c)
    assert len(g.values) == 257
    ordered = np.sort(tokens)
    assert g.values[0] == ordered[9]  # the tenth smallest, not the smallest
    assert g.values[-1] == ordered[-10]
    small = Grid.of(Counts.of(tokens[:95]))
    assert len(small.values) == 10
    made = np.rint(g.quantile(np.random.default_rng(0).random(200_000)))
    assert stats.ks_2samp(made, tokens).statistic < 0.008
    assert (Grid.from_dict(g.to_dict()).values == g.values).all()


@pytest.mark.parametrize("values", [[3, 2, 1], [1.0], [1, float("nan")]])
def test_damaged_grid_is_refused(values: list[float]) -> None:
    with pytest.raises(ModelError):
        Grid.from_dict({"values": values, "mean": 1, "rows": 10})


def test_grid_needs_twenty_rows() -> None:
    with pytest.raises(ModelError, match="too few"):
        Grid.of(Counts.of(range(19)))

"""Mixtures: truth that was drawn, the likelihood of the truth, and how many components."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from lamina_traces.counts import Counts
from lamina_traces.distributions import FAMILIES, Fitted, fit_families


def test_two_lognormals_come_back() -> None:
    rng = np.random.default_rng(1)
    n = 40_000
    first = rng.random(n) < 0.3
    rows = np.where(first, rng.lognormal(-8.5, 0.4, n), rng.lognormal(0.5, 0.9, n))
    p = FAMILIES["lognormal-mixture"].fit(Counts.of(rows))
    assert set(p) == {"w1", "mu1", "sigma1", "w2", "mu2", "sigma2"}
    got = [p[k] for k in ("w1", "mu1", "sigma1", "w2", "mu2", "sigma2")]
    assert got == pytest.approx([0.3, -8.5, 0.4, 0.7, 0.5, 0.9], abs=0.02)


@pytest.mark.parametrize(
    ("name", "law"), [("lognormal-mixture", stats.lognorm(1.2, scale=3)), ("gamma-mixture", stats.gamma(0.7, scale=3))]
)  # fmt: skip
def test_one_component_is_enough_for_one_law(name: str, law: object) -> None:
    rows = law.rvs(20_000, random_state=np.random.default_rng(2))  # type: ignore[attr-defined]
    assert sum(k.startswith("w") for k in FAMILIES[name].fit(Counts.of(rows))) == 1


def test_hyperexponential_comes_back_and_has_its_moments() -> None:
    rng = np.random.default_rng(3)
    rows = np.where(
        rng.random(40_000) < 0.9, rng.exponential(0.05, 40_000), rng.exponential(4.0, 40_000)
    )
    p = FAMILIES["hyperexponential"].fit(Counts.of(rows))
    assert (p["w1"], p["scale1"], p["scale2"]) == pytest.approx((0.9, 0.05, 4.0), rel=0.05)
    assert FAMILIES["hyperexponential"].mean(p) == pytest.approx(rows.mean(), rel=1e-3)


@pytest.mark.parametrize("name", ["lognormal-mixture", "gamma-mixture", "hyperexponential"])
def test_functions_of_a_mixture_agree_with_each_other(name: str) -> None:
    rng = np.random.default_rng(4)
    rows = np.where(
        rng.random(9000) < 0.5, rng.lognormal(0, 0.3, 9000), rng.lognormal(3, 0.3, 9000)
    )
    law = FAMILIES[name]
    p = law.fit(Counts.of(rows))
    q = np.array([0.01, 0.3, 0.6, 0.99])
    x = law.quantile(q, p)
    np.testing.assert_allclose(law.cdf(x, p), q, rtol=1e-6)
    np.testing.assert_allclose(np.exp(law.logsf(x, p)), 1 - q, rtol=1e-6)
    slope = (law.cdf(x * 1.0001, p) - law.cdf(x * 0.9999, p)) / (x * 2e-4)
    np.testing.assert_allclose(np.exp(law.logpdf(x, p)), slope, rtol=1e-3)


def test_ten_million_rows_do_not_take_all_components() -> None:
    """The table of one lognormal, slightly off: BIC alone would split it at any number of rows."""
    x = np.exp(np.linspace(-3, 3, 400))
    n = np.round(1e7 * np.exp(-(np.log(x) ** 2) / 2) * (1 + 0.01 * np.sin(5 * np.log(x))) / 166)
    p = FAMILIES["lognormal-mixture"].fit(Counts.exact(x, n))
    assert sum(k.startswith("w") for k in p) == 1


def test_a_mixture_survives_its_dictionary() -> None:
    rng = np.random.default_rng(6)
    rows = np.where(
        rng.random(5000) < 0.5, rng.lognormal(0, 0.3, 5000), rng.lognormal(3, 0.3, 5000)
    )
    fit = fit_families(Counts.of(rows), ("lognormal-mixture", "lognormal"))[0]
    assert fit.family == "lognormal-mixture"
    assert fit.ks_d < 0.02
    assert Fitted.from_dict(fit.to_dict()) == fit

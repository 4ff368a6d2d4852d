"""Censored, binned and truncated data, atoms and caps, clocks that round: against lifelines, scipy and truth."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
from scipy import stats

from lamina_traces.counts import Binning, Counts
from lamina_traces.distributions import (
    FAMILIES,
    Atoms,
    Fitted,
    find_atoms,
    fit_families,
    fit_jittered,
    fit_triangular,
)


@pytest.mark.parametrize("name", ["weibull", "lognormal", "loglogistic", "exponential"])
def test_right_censored_fits_equal_lifelines(name: str) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import lifelines

    rng = np.random.default_rng(1)
    t = rng.weibull(0.7, 4000) * 100
    limit = rng.exponential(200, 4000)
    seen = t <= limit
    x = np.minimum(t, limit)
    ours = fit_families(Counts.of(x[seen]), (name,), right=Counts.of(x[~seen]))[0]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        theirs = {
            "weibull": lifelines.WeibullFitter, "lognormal": lifelines.LogNormalFitter,
            "loglogistic": lifelines.LogLogisticFitter, "exponential": lifelines.ExponentialFitter,
        }[name]().fit(x, seen)  # fmt: skip
    got, want = {
        "weibull": (("shape", "scale"), ("rho_", "lambda_")),
        "lognormal": (("mu", "sigma"), ("mu_", "sigma_")),
        "loglogistic": (("shape", "scale"), ("beta_", "alpha_")),
        "exponential": (("scale",), ("lambda_",)),
    }[name]
    for a, b in zip(got, want, strict=True):
        assert ours.params[a] == pytest.approx(getattr(theirs, b), rel=2e-4), a
    loglik = (2 * len(got) - ours.aic_per_row * ours.rows) / 2
    assert loglik >= theirs.log_likelihood_ - 1e-3


def test_censoring_is_not_ignored() -> None:
    """Half of the values are cut: leaving them out, or taking them as they are, is far off."""
    rng = np.random.default_rng(2)
    t = rng.exponential(10, 20_000)
    x = np.minimum(t, 7.0)
    ours = fit_families(Counts.of(t[t <= 7]), ("exponential",), right=Counts.of(x[t > 7]))[0]
    assert ours.params["scale"] == pytest.approx(10, rel=0.02)
    assert ours.ks_d < 0.02
    assert ours.rows == 20_000
    assert fit_families(Counts.of(x), ("exponential",))[0].params["scale"] < 6


@pytest.mark.parametrize("name", ["lognormal", "gamma", "weibull"])
def test_histogram_buckets_give_the_law_back(name: str) -> None:
    """Powers of two as in a Prometheus histogram, the last bucket open."""
    rng = np.random.default_rng(3)
    rows = {"lognormal": rng.lognormal(5, 1.1, 50_000), "gamma": rng.gamma(0.8, 300, 50_000), "weibull": 200 * rng.weibull(0.8, 50_000)}[name]  # fmt: skip
    edges = np.array([0, 1, 4, 16, 64, 128, 256, 512, 1024, np.inf])
    n = np.histogram(rows, edges)[0].astype(float)
    used = n > 0
    lo, hi = edges[:-1][used], edges[1:][used]
    x = np.where(np.isfinite(hi), (lo + np.minimum(hi, 1e9)) / 2, lo)
    c = Counts(lo, hi, n[used], n[used] * x, "tokens")
    ours = fit_families(c, (name,))[0]
    exact = FAMILIES[name].fit(Counts.of(rows))
    for key, value in exact.items():
        assert ours.params[key] == pytest.approx(value, rel=0.03), key
    assert ours.ks_d < 0.01


def test_truncated_values() -> None:
    """Only what lies between 2 and 30 was recorded."""
    rng = np.random.default_rng(4)
    rows = rng.lognormal(2, 0.8, 60_000)
    seen = rows[(rows > 2) & (rows <= 30)]
    ours = fit_families(Counts.of(seen), ("lognormal",), truncated=(2.0, 30.0))[0]
    assert (ours.params["mu"], ours.params["sigma"]) == pytest.approx((2, 0.8), rel=0.03)
    blind = fit_families(Counts.of(seen), ("lognormal",))[0]
    assert blind.params["sigma"] < 0.65


def test_hdr_bins_cost_no_accuracy() -> None:
    rng = np.random.default_rng(5)
    ns = np.floor(rng.gamma(0.5, 2e9, 100_000)).astype(np.int64)
    b = Binning(8, 1e-9, "s")
    i = b.index(ns)
    c = b.counts(np.bincount(i, minlength=b.size), np.bincount(i, weights=ns, minlength=b.size))
    assert c.rows == len(ns)
    assert c.sum == pytest.approx(ns.sum() * 1e-9, rel=1e-12)
    assert len(c) < 4000
    binned = fit_families(c, tick=1e-9)
    exact = fit_families(Counts.of(ns * 1e-9, "s"), tick=1e-9)
    for a, b_ in zip(binned, exact, strict=True):
        assert a.family == b_.family
        assert a.params == pytest.approx(b_.params, rel=2e-4)


@pytest.mark.parametrize("bits", [3, 8, 11])
def test_bins_hold_what_they_say(bits: int) -> None:
    rng = np.random.default_rng(6)
    v = np.unique(
        np.concatenate([np.arange(5000), (2 ** (62 * rng.random(5000))).astype(np.int64)])
    )
    b = Binning(bits)
    i = b.index(v)
    assert (np.diff(i) >= 0).all()
    assert i[-1] < b.size
    c = b.counts(
        np.bincount(i, minlength=b.size), np.bincount(i, weights=v.astype(float), minlength=b.size)
    )
    lo, hi = np.repeat(c.lo, c.n.astype(int)), np.repeat(c.hi, c.n.astype(int))
    assert (lo <= v).all()
    assert (v <= np.maximum(hi, lo * (1 + 2.0 ** (1 - bits)))).all()


def test_coarse_bins_keep_sums() -> None:
    rows = np.random.default_rng(7).lognormal(0, 3, 30_000)
    c = Counts.of(rows)
    few = c.coarse(16)
    assert len(few) < 700
    assert (few.rows, few.sum) == pytest.approx((c.rows, c.sum))


# --- atoms and caps --------------------------------------------------------------------------------


def lengths(seed: int, cap: float = 7436.0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    x = np.ceil(rng.lognormal(7.2, 1.1, 30_000))
    x[rng.random(30_000) < 0.03] = 181
    x[rng.random(30_000) < 0.02] = 396
    return np.minimum(x, cap)


def test_spikes_and_the_cap_are_found() -> None:
    x = lengths(1)
    a = find_atoms(Counts.of(x))
    assert a.values == (181, 396)
    assert a.shares == pytest.approx((0.03, 0.02), abs=0.004)
    assert a.cap == 7436
    assert a.cap_share == pytest.approx((x == 7436).mean(), abs=1e-3)


@pytest.mark.parametrize("seed", range(3))
def test_a_smooth_law_has_no_atoms(seed: int) -> None:
    rng = np.random.default_rng(seed)
    assert not find_atoms(Counts.of(np.ceil(rng.lognormal(6, 1, 20_000))))
    assert not find_atoms(Counts.of(rng.geometric(0.1, 20_000)))
    assert not find_atoms(Counts.of(np.ceil(rng.gamma(0.7, 80, 20_000))))


def test_a_law_with_atoms_and_a_cap_is_recovered() -> None:
    """Cut at 7436, 5 % of it in spikes: the continuous part comes back, and the whole law fits."""
    c = Counts.of(lengths(2))
    atoms = find_atoms(c)
    fit = fit_families(c, ("lognormal",), whole_numbers=True, atoms=atoms)[0]
    assert (fit.params["mu"], fit.params["sigma"]) == pytest.approx((7.2, 1.1), rel=0.01)
    assert fit.ks_d < 0.01
    blind = fit_families(c, ("lognormal",), whole_numbers=True)[0]
    assert blind.ks_d > 5 * fit.ks_d
    assert fit.aic_per_row < blind.aic_per_row
    q = np.linspace(0.001, 0.999, 500)
    np.testing.assert_allclose(np.quantile(lengths(2), q), fit.quantile(q), rtol=0.06)
    x = np.array([100.0, 180.0, 181.0, 395.0, 396.0, 7435.0, 7436.0])
    assert (np.diff(fit.cdf(x)) > 0).all()
    assert fit.cdf(x)[-1] == 1
    assert Fitted.from_dict(fit.to_dict()) == fit


def test_quantiles_of_a_law_with_atoms_invert_its_cdf() -> None:
    fit = Fitted(
        "exponential", {"scale": 10.0}, 1, 0, 0, 0, atoms=Atoms((5.0, 20.0), (0.2, 0.1), 40.0, 0.01)
    )
    q = np.linspace(0.0005, 0.9995, 2000)
    x = fit.quantile(q)
    assert (fit.cdf(x) >= q - 1e-12).all()
    assert (fit.cdf(x - 1e-6)[x > 1e-6] <= q[x > 1e-6] + 1e-12).all()
    assert ((x == 5).mean(), (x == 20).mean()) == pytest.approx((0.2, 0.1), abs=2e-3)


# --- clocks that round -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("family", "shape", "per_tick"),
    [("gamma", 0.5, 0.05), ("gamma", 0.5, 1.0), ("gamma", 0.25, 3.0), ("weibull", 0.6, 1.0), ("weibull", 0.6, 10.0)],
)  # fmt: skip
def test_the_triangular_kernel_recovers_the_shape(
    family: str, shape: float, per_tick: float
) -> None:
    """The research's table: within 5.1 % where dropping zeros is up to a thousand times off."""
    rng = np.random.default_rng(9)
    n = 200_000
    if family == "gamma":
        gaps = rng.gamma(shape, 1 / (shape * per_tick), n)
    else:
        gaps = rng.weibull(shape, n) / (per_tick * stats.weibull_min(shape).mean())
    d = np.diff(np.floor(np.cumsum(gaps)))
    ours = fit_triangular(Counts.of(d), 1.0, family)
    assert ours["shape"] == pytest.approx(shape, rel=0.051)
    jitter = fit_jittered(Counts.of(d), 1.0, FAMILIES[family].fit)
    if per_tick >= 1:
        assert jitter["shape"] > 1.1 * shape  # jitter errs towards a Poisson process


def test_masses_of_rounded_gaps_add_up() -> None:
    from lamina_traces.distributions.rounded import log_masses

    for family, p in (("gamma", {"shape": 0.5, "scale": 3.0}), ("weibull", {"shape": 0.7, "scale": 2.0}), ("exponential", {"scale": 2.0})):  # fmt: skip
        k = np.arange(0, 400.0)
        masses = np.exp(log_masses(family, k, p))
        assert masses.sum() == pytest.approx(1, abs=1e-6)
        mean = FAMILIES[family].mean(p)
        assert (k * masses).sum() == pytest.approx(mean, rel=1e-5)  # rounding keeps the mean

"""Arrivals: closed forms for laws we know, and the same numbers by a second route."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl
import pytest

from lamina_traces.aspects import arrivals
from lamina_traces.errors import Notice
from lamina_traces.store import Trace

from .tables import stored


def trace(path: Path, t_s: np.ndarray, tick_s: float = 1e-9) -> Trace:
    tick_ns = round(tick_s * 1e9)
    ns = np.round(np.sort(t_s) * 1e9).astype(np.int64) // tick_ns * tick_ns
    n = len(ns)
    return stored(path, "llm_requests", pl.DataFrame({"arrival_ns": ns, "status": ["unknown"] * n}))


def fitted(t: Trace) -> tuple[arrivals.Arrivals, list[Notice]]:
    notices: list[Notice] = []
    a = arrivals.fit(t, notices)
    assert a is not None
    return a, notices


def test_poisson_has_idc_one_and_exponential_gaps(tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    a, _ = fitted(trace(tmp_path, np.cumsum(rng.exponential(0.2, 60_000))))
    assert a.rate_per_s == pytest.approx(5, rel=0.02)
    assert a.cv == pytest.approx(1, rel=0.02)
    for d in a.scales:
        if d.idc is not None and d.windows >= 30:
            assert d.idc == pytest.approx(1, abs=5 * np.sqrt(2 / d.windows)), d
    exponential = next(f for f in a.families if f.family == "exponential")
    assert exponential.ks_d < 0.01
    assert exponential.aic_per_row - a.families[0].aic_per_row < 1e-3


def test_gamma_renewal_recovers_its_shape_and_long_run_idc(tmp_path: Path) -> None:
    """The IDC of a renewal process tends to the squared CV of its gaps: 1/shape for a gamma law."""
    rng = np.random.default_rng(2)
    a, _ = fitted(trace(tmp_path, np.cumsum(rng.gamma(0.25, 0.8, 60_000))))
    assert a.families[0].family == "gamma"
    assert a.families[0].params["shape"] == pytest.approx(0.25, rel=0.03)
    assert a.cv == pytest.approx(2, rel=0.03)
    assert a.idc(60.0) == pytest.approx(4, rel=0.25)


def test_empty_windows_count(tmp_path: Path) -> None:
    """Bursts of ten every 100 s: nine of ten 10 s windows are empty, and IDC says so."""
    t = np.repeat(np.arange(0, 5000, 100.0), 10) + np.tile(np.arange(10) * 0.01, 50)
    a, _ = fitted(trace(tmp_path, t))
    k = int(t[-1] // 10)
    counts = np.bincount((t // 10).astype(int), minlength=k)[:k]
    assert a.idc(10.0) == pytest.approx(counts.var(ddof=1) / counts.mean(), rel=1e-9)
    assert a.idc(10.0) > 8  # type: ignore[operator]


def test_rate_curve_integrates_to_the_events(tmp_path: Path) -> None:
    rng = np.random.default_rng(3)
    t = np.concatenate([rng.uniform(0, 1000, 3000), rng.uniform(1000, 3600, 1000)])
    a, _ = fitted(trace(tmp_path, t))
    assert a.rate_curve.sum() * a.window_s * a.rate_per_s == pytest.approx(a.events, rel=1e-5)
    early = a.rate_curve[: int(900 / a.window_s)].mean() * a.rate_per_s
    assert early == pytest.approx(3, rel=0.1)
    law = a.unit_gaps
    assert law.mean == pytest.approx(1, rel=0.01)


def test_a_coarse_clock_is_said_and_gap_laws_are_refused(tmp_path: Path) -> None:
    rng = np.random.default_rng(4)
    t = np.cumsum(rng.exponential(0.05, 5000))
    a, notices = fitted(trace(tmp_path, t, tick_s=1.0))
    assert a.tick_s == 1.0
    assert a.zero_gap_share > 0.9
    assert a.families == ()
    assert [n.code for n in notices if n.code == "quantised-clock"]
    fine, none = fitted(trace(tmp_path, t, tick_s=1e-3))
    assert fine.families
    assert not [n for n in none if n.code == "quantised-clock"]


@pytest.mark.parametrize(
    ("times", "code"), [([1.0] * 50, "no-span"), (list(range(10)), "too-few-rows")]
)
def test_what_cannot_be_fitted_is_said(tmp_path: Path, times: list[float], code: str) -> None:
    notices: list[Notice] = []
    assert arrivals.fit(trace(tmp_path, np.array(times, dtype=float)), notices) is None
    assert [n.code for n in notices] == [code]


@pytest.mark.parametrize(("shape", "idc"), [(1.0, 1.0), (0.25, 4.0), (4.0, 0.25)])
def test_a_renewal_process_comes_back_with_its_own_dispersion(
    tmp_path: Path, shape: float, idc: float
) -> None:
    """Fit, generate, measure: IDC at 10 and 60 s is 1/shape again. A rate curve that kept the noise of its
    own estimate would give twice the variance (for Poisson, 2 instead of 1)."""
    from lamina_traces.generator import generate
    from lamina_traces.profile import Part, Profile, Stream

    from .tables import lengths_of_tens

    rng = np.random.default_rng(8)
    a, _ = fitted(trace(tmp_path, np.cumsum(rng.gamma(shape, 0.2 / shape, 30_000))))
    stream = Stream("all", 1.0, {}, {"arrivals": a, "lengths": lengths_of_tens()})
    profile = Profile("renewal", {"llm_requests": Part("llm_requests", (stream,))}, {})
    found: dict[int, list[float]] = {10: [], 60: []}
    for seed in range(6):
        t = pl.concat(list(generate(profile, seed=seed)))["arrival_ns"].to_numpy()
        for width, values in found.items():
            k = int((t[-1] - t[0]) // (width * 10**9))
            n = np.bincount(((t - t[0]) // (width * 10**9)).astype(int), minlength=k)[:k]
            values.append(n.var(ddof=1) / n.mean())
    for width, values in found.items():
        windows = 6 * 6000 / width
        assert np.mean(values) == pytest.approx(idc, rel=4 * np.sqrt(2 / windows) + 0.1), width


def test_two_sample_ks_equals_scipy(tmp_path: Path) -> None:
    from scipy import stats

    from lamina_traces.counts import Counts

    rng = np.random.default_rng(6)
    x, y = rng.integers(0, 30, 500), rng.integers(3, 40, 700)
    ours = arrivals.two_sample_ks(Counts.of(x), Counts.of(y))
    assert ours == pytest.approx(stats.ks_2samp(x, y).statistic, abs=1e-12)

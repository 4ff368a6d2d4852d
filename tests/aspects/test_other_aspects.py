"""Lengths, failures, cold starts, power: numbers by a second route, and what cannot be answered."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl
import pytest
from scipy import stats

from lamina_traces.aspects import cold_starts, failures, lengths, power
from lamina_traces.characterization import characterize
from lamina_traces.errors import ModelError, Notice
from lamina_traces.profile import Profile

from .tables import stored


def requests(n: int, **columns: object) -> pl.DataFrame:
    base: dict[str, object] = {"arrival_ns": np.arange(n) * 10**9, "status": ["ok"] * n}
    frame = pl.DataFrame(base | columns)
    return frame.with_columns(
        pl.col(c).cast(pl.Int32) for c in ("input_tokens", "output_tokens") if c in frame.columns
    )


def test_lengths_equal_scipy_and_copula_keeps_dependence(tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    z = rng.multivariate_normal([0, 0], [[1, 0.7], [0.7, 1]], 20_000)
    x, y = np.ceil(np.exp(6 + z[:, 0])), np.ceil(np.exp(4 + 0.5 * z[:, 1]))
    found = lengths.fit(
        stored(tmp_path, "llm_requests", requests(20_000, input_tokens=x, output_tokens=y)), []
    )
    assert found is not None
    assert found.spearman == pytest.approx(stats.spearmanr(x, y).statistic, rel=1e-9)
    assert found.pearson == pytest.approx(np.corrcoef(x, y)[0, 1], rel=1e-9)
    assert found.input.families[0].family == "lognormal"
    assert found.input.families[0].params["sigma"] == pytest.approx(1, rel=0.02)
    np.testing.assert_allclose(found.copula.sum(axis=0) * found.copula.shape[0], 1, rtol=0.1)
    made = lengths.sample(found, np.random.default_rng(2), 40_000)
    assert stats.spearmanr(*made).statistic == pytest.approx(found.spearman, abs=0.02)
    assert stats.ks_2samp(made[0], x).statistic < 0.015
    assert stats.ks_2samp(made[1], y).statistic < 0.015


def test_spikes_do_not_make_dependence(tmp_path: Path) -> None:
    """Two independent columns of three values each: ties are spread, and the copula stays flat."""
    rng = np.random.default_rng(3)
    x, y = rng.choice([5, 50, 500], 30_000), rng.choice([1, 2, 3], 30_000)
    found = lengths.fit(
        stored(tmp_path, "llm_requests", requests(30_000, input_tokens=x, output_tokens=y)), []
    )
    assert found is not None
    assert abs(found.spearman) < 0.02
    cells = found.copula.size
    assert np.abs(found.copula * cells - 1).mean() < 0.25
    made = lengths.sample(found, np.random.default_rng(1), 30_000)
    assert set(made[0]) <= set(range(5, 501))
    assert (made[0] == 50).mean() == pytest.approx((x == 50).mean(), abs=0.02)


def test_atoms_are_named(tmp_path: Path) -> None:
    rng = np.random.default_rng(4)
    x = np.ceil(rng.lognormal(6, 1, 10_000))
    x[rng.random(10_000) < 0.05] = 4096
    found = lengths.fit(
        stored(
            tmp_path,
            "llm_requests",
            requests(10_000, input_tokens=x, output_tokens=np.ceil(rng.exponential(50, 10_000))),
        ),
        [],
    )
    assert found is not None
    assert found.input.atoms[0][0] == 4096
    assert found.input.atoms[0][1] == pytest.approx((x == 4096).mean())


@pytest.mark.parametrize("seed", range(3))
def test_failures_recover_the_chain(tmp_path: Path, seed: int) -> None:
    truth = failures.Failures(1, 1, 0.1, 0, 1, 0.02, 0.2, 5, 9, {"timeout": (1.0, 0.0)})
    flags, _ = failures.sample_chain(truth, np.random.default_rng(seed), 40_000, 0)
    frame = requests(40_000, status=np.where(flags == 1, "timeout", "ok").tolist())
    found = failures.fit(stored(tmp_path, "llm_requests", frame), [])
    assert found is not None
    assert found.failed == flags.sum()
    assert found.p_fail_after_ok == pytest.approx(0.02, rel=0.15)
    assert found.p_ok_after_fail == pytest.approx(0.2, rel=0.1)
    runs = np.diff(np.flatnonzero(np.diff(np.concatenate([[0], flags, [0]]))))[::2]
    assert found.mean_run == pytest.approx(runs.mean())
    assert found.longest_run == runs.max()
    assert found.rate_low < found.rate < found.rate_high


def test_wilson_equals_the_published_example() -> None:
    low, high = failures.wilson(1, 10)  # Wilson's interval for 1 of 10, as in scipy's proportion_ci
    want = stats.binomtest(1, 10).proportion_ci(method="wilson")
    assert (low, high) == pytest.approx((want.low, want.high), abs=1e-12)


@pytest.mark.parametrize(("statuses", "failed"), [(["ok"] * 100, 0), (["error"] * 100, 100)])
def test_all_or_none_failed(tmp_path: Path, statuses: list[str], failed: int) -> None:
    found = failures.fit(stored(tmp_path, "llm_requests", requests(100, status=statuses)), [])
    assert found is not None
    assert found.failed == failed
    flags, _ = failures.sample_chain(found, np.random.default_rng(0), 50, int(failed > 0))
    assert flags.sum() == (50 if failed else 0)
    assert failures.from_dict(found.to_dict()) == found


def test_unrecorded_status_is_not_a_failure_rate_of_zero(tmp_path: Path) -> None:
    notices: list[Notice] = []
    assert (
        failures.fit(
            stored(tmp_path, "llm_requests", requests(100, status=["unknown"] * 100)), notices
        )
        is None
    )
    assert [n.code for n in notices] == ["not-recorded"]


def test_cold_starts(tmp_path: Path) -> None:
    rng = np.random.default_rng(5)
    n = 5000
    alloc, code = (
        rng.lognormal(-1, 1, n),
        np.where(rng.random(n) < 0.3, 0.0, rng.lognormal(-2, 0.5, n)),
    )
    frame = pl.DataFrame(
        {
            "func_id": ["f"] * n,
            "arrival_ns": np.cumsum(rng.exponential(1e9, n)).astype(np.int64),
            "total_s": alloc + code,
            "pod_alloc_s": alloc,
            "deploy_code_s": code,
        }
    )
    trace = stored(tmp_path, "cold_starts", frame)
    profile = characterize(trace)
    assert Profile.loads(profile.dumps()).dumps() == profile.dumps()
    found = profile.aspect("cold_starts", "cold_starts")
    total, part = found.components["total"], found.components["deploy_code"]
    assert total.quantiles_s["p50"] == pytest.approx(np.median(alloc + code), abs=1e-6)
    assert total.mean_s == pytest.approx((alloc + code).mean(), abs=1e-6)
    assert part.zero_share == pytest.approx((code == 0).mean())
    assert part.share_of_sum == pytest.approx(code.sum() / (alloc + code).sum(), rel=1e-4)
    assert found.components["pod_alloc"].families[0].family == "lognormal"
    assert found.components["pod_alloc"].families[0].params["sigma"] == pytest.approx(1, rel=0.03)
    assert profile.aspect("arrivals", "cold_starts").rate_per_s == pytest.approx(1, rel=0.05)
    assert cold_starts.score(trace, trace)[0].value == 0


def test_power_equals_the_trapezoid(tmp_path: Path) -> None:
    rng = np.random.default_rng(6)
    t = np.cumsum(rng.uniform(0.9e9, 1.1e9, 600)).astype(np.int64)
    t[300:] += 10**11  # a gap of 100 s counts for nothing
    w = 200 + 50 * np.sin(np.arange(600) / 20)
    frame = pl.concat(
        pl.DataFrame(
            {
                "arrival_ns": t,
                "device": [f"gpu{i}"] * 600,
                "domain": ["gpu"] * 600,
                "power_w": w * (i + 1),
            }
        )
        for i in range(2)
    ).sort("arrival_ns", "device")
    profile = characterize(stored(tmp_path, "power_samples", frame))
    found = profile.aspect("power", "power_samples")
    steps = np.diff(t) / 1e9
    ok = steps < 3
    energy = (((w[1:] + w[:-1]) / 2) * steps)[ok].sum()
    gpu0 = found.devices[0]
    assert gpu0.energy_j == pytest.approx(energy, rel=1e-9)
    assert gpu0.mean_w == pytest.approx(energy / steps[ok].sum(), rel=1e-9)
    assert gpu0.max_rise_w == pytest.approx(np.diff(w)[ok].max(), rel=1e-9)
    assert found.devices[1].energy_j == pytest.approx(2 * energy, rel=1e-9)
    assert found.period_s == pytest.approx(np.median(np.diff(t)) / 1e9, rel=1e-6)
    assert "gaps" in [n.code for n in profile.notices]
    assert power.from_dict(found.to_dict()).devices == found.devices
    assert (
        power.score(
            stored(tmp_path, "power_samples", frame, "u"),
            stored(tmp_path, "power_samples", frame, "v"),
        )[0].value
        == 0
    )


def test_nothing_to_fit_is_an_error_that_says_why(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="too few"):
        characterize(
            stored(
                tmp_path,
                "llm_requests",
                requests(
                    3, input_tokens=[1, 2, 3], output_tokens=[1, 2, 3], status=["unknown"] * 3
                ),
            )
        )


def test_power_of_a_whole_is_not_added_to_that_of_its_parts(tmp_path: Path) -> None:
    """A server that draws 300 W through two supplies uses 300 J in a second, not 600."""
    readings = [
        (second * 10**9, device, domain, watts)
        for second in range(11)
        for device, domain, watts in (("server", "server", 300.0), ("psu1", "psu", 200.0), ("psu2", "psu", 100.0))
    ]  # fmt: skip
    frame = pl.DataFrame(
        readings, schema=["arrival_ns", "device", "domain", "power_w"], orient="row"
    )
    trace = stored(tmp_path, "power_samples", frame)
    profile = characterize(trace)
    found = profile.aspect("power", "power_samples")
    assert sum(d.energy_j for d in found.devices) == pytest.approx(3000)
    assert [d.device for d in found.devices] == ["server"]
    assert "1 server drew 300 W on average" in found.findings()[0].text
    assert [n.code for n in profile.notices] == ["parts-left-out"]
    supplies = trace.select(where="domain = 'psu'")
    without = characterize(supplies).aspect("power", "power_samples")
    assert sum(d.energy_j for d in without.devices) == pytest.approx(3000)


def test_rows_that_share_a_few_instants_have_no_arrival_process(tmp_path: Path) -> None:
    day = 86_400 * 10**9
    frame = pl.DataFrame(
        {
            "arrival_ns": [d * day for d in range(19) for _ in range(50)],
            "func_id": ["f"] * 950,
            "init_s": [0.1 + 0.001 * i for i in range(950)],
        }
    )
    profile = characterize(stored(tmp_path, "cold_starts", frame))
    assert set(profile.parts["cold_starts"].streams[0].aspects) == {"cold_starts"}
    assert [n.code for n in profile.notices] == ["few-instants"]

"""Jobs: run and waiting times with censoring, two rates of failure, sizes, the published figures of Philly."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from lifelines import KaplanMeierFitter, WeibullFitter
from scipy import stats

from lamina_traces.aspects import jobs
from lamina_traces.aspects.durations import binned
from lamina_traces.characterization import characterize
from lamina_traces.distributions import fit_families
from lamina_traces.errors import ModelError, Notice
from lamina_traces.profile import Profile
from lamina_traces.store import Store, Trace

from .tables import stored

S = 10**9
DAY = 86_400 * S


def cluster(n: int = 8000, days: int = 20, seed: int = 3) -> pl.DataFrame:
    """Jobs of 1 to 32 GPUs; large ones fail more often and sooner, and some still run or wait at the end."""
    rng = np.random.default_rng(seed)
    arrival = np.sort(rng.uniform(0, days * DAY, n)).astype(np.int64)
    gpus = 2.0 ** rng.choice(6, n, p=[0.6, 0.15, 0.1, 0.08, 0.05, 0.02])
    failed = rng.random(n) < 0.1 + 0.1 * np.log2(gpus)
    run = rng.weibull(0.6, n) * 20_000 * np.where(failed, 0.2, 1.0)
    wait = rng.exponential(1800, n) + 3000 * (gpus >= 16)
    start, last = arrival + (wait * 1e9).astype(np.int64), days * DAY
    end = start + (run * 1e9).astype(np.int64)
    waiting, running = start > last, end > last
    state = np.where(failed, "failed", np.where(rng.random(n) < 0.1, "cancelled", "completed"))
    state = np.where(running | waiting, "censored", state)

    def known(x: Any, hidden: np.ndarray) -> pl.Series:
        return pl.Series(x).zip_with(
            pl.Series(~hidden), pl.Series([None] * n, dtype=pl.Series(x).dtype)
        )

    return pl.DataFrame(
        {
            "row_id": np.arange(n),
            "job_id": [f"j{i}" for i in range(n)],
            "arrival_ns": arrival,
            "start_ns": known(start, waiting),
            "end_ns": known(end, running | waiting),
            "duration_s": known(np.round(run, 3), running | waiting),
            "queue_s": known(np.round(wait, 3), waiting),
            "gpus": gpus,
            "nodes": pl.Series(np.maximum(1, gpus / 8)).cast(pl.Int32),
            "attempts": pl.Series(rng.geometric(0.8, n)).cast(pl.Int32),
            "state": state.tolist(),
        }
    )


def fitted(trace: Trace) -> tuple[jobs.Jobs, list[Notice]]:
    notices: list[Notice] = []
    f = jobs.fit(trace, notices)
    assert f is not None
    return f, notices


def test_both_rates_of_failure_equal_numpy(tmp_path: Path) -> None:
    frame = cluster()
    found, _ = fitted(stored(tmp_path, "jobs", frame))
    ended = frame.filter(pl.col("state") != "censored")
    bad = (ended["state"] == "failed").to_numpy()
    gpu_s = (ended["gpus"] * ended["duration_s"]).to_numpy()
    assert found.ended == len(ended)
    by_jobs, by_time = found.failed_by_jobs, found.failed_by_gpu_time
    assert by_jobs is not None
    assert by_time is not None
    assert by_jobs.value == pytest.approx(bad.mean(), rel=1e-5)
    assert by_time.value == pytest.approx(gpu_s[bad].sum() / gpu_s.sum(), rel=1e-5)
    assert by_time.value < 0.7 * by_jobs.value, "the two definitions differ"
    for share in (by_jobs, by_time):
        assert share.interval is not None
        assert share.interval.low < share.value < share.interval.high
    per = found.gpu_hours_per_failure
    assert per is not None
    assert per[0] == pytest.approx(gpu_s.sum() / 3600 / bad.sum(), rel=1e-5)
    assert per[1] is not None
    assert per[1].low < per[0] < per[1].high
    nodes = (ended["nodes"] * ended["duration_s"]).sum() / 3600 / bad.sum()
    assert found.node_hours_per_failure is not None
    assert found.node_hours_per_failure[0] == pytest.approx(nodes, rel=1e-5)
    assert found.hours_to_failure(4) == pytest.approx(nodes / 4, rel=1e-5)
    assert found.states["failed"][0] == pytest.approx((frame["state"] == "failed").mean(), rel=1e-4)
    assert found.attempts_mean == pytest.approx(frame["attempts"].mean(), rel=1e-4)
    assert found.attempts["1"] == pytest.approx((frame["attempts"] == 1).mean(), rel=1e-4)


def test_sizes_equal_numpy(tmp_path: Path) -> None:
    frame = cluster()
    found, _ = fitted(stored(tmp_path, "jobs", frame))
    assert [s.label for s in found.sizes] == ["1", "2", "3–4", "5–8", "9–16", "17–32"]
    gpu_s = (frame["gpus"] * frame["duration_s"]).fill_null(0).to_numpy()
    for s, gpus in zip(found.sizes, 2.0 ** np.arange(6), strict=True):
        mine = (frame["gpus"] == gpus).to_numpy()
        assert s.jobs_share == pytest.approx(mine.mean(), rel=1e-4)
        assert s.gpu_time_share == pytest.approx(gpu_s[mine].sum() / gpu_s.sum(), rel=1e-4)
        over = frame.filter(pl.Series(mine) & (frame["state"] != "censored"))["state"]
        assert s.ended == len(over)
        assert s.failed is not None
        assert s.failed.value == pytest.approx((over == "failed").mean(), rel=1e-4)
        assert s.failed.interval is not None
        assert s.failed.interval.low < s.failed.value < s.failed.interval.high
    assert found.sizes[-1].failed.value > 2 * found.sizes[0].failed.value  # type: ignore[union-attr]


def test_running_and_waiting_jobs_are_right_censored(tmp_path: Path) -> None:
    """A short log of long jobs: taking those that ended alone makes them look far shorter than they are."""
    frame = cluster(4000, days=1)
    found, _ = fitted(stored(tmp_path, "jobs", frame))
    run, wait = found.duration, found.queue
    assert run is not None
    assert wait is not None
    last = max(frame[c].max() for c in ("arrival_ns", "start_ns", "end_ns"))  # type: ignore[type-var]
    running = (frame["state"] == "censored") & frame["start_ns"].is_not_null()
    waiting = (frame["state"] == "censored") & frame["start_ns"].is_null()
    assert (run.rows, run.censored) == (
        int((frame["state"] != "censored").sum()),
        int(running.sum()),
    )
    assert wait.censored == int(waiting.sum())
    ended = frame["duration_s"].drop_nulls().to_numpy()
    cut = (last - frame["start_ns"].filter(running).to_numpy()) / 1e9
    t = np.concatenate([ended, cut])
    over = np.arange(len(t)) < len(ended)
    km = KaplanMeierFitter().fit(t, over)
    assert run.quantiles_s["p50"] == pytest.approx(km.median_survival_time_, rel=5e-3)
    assert run.quantiles_s["p50"] > 1.2 * np.median(ended)
    theirs = WeibullFitter().fit(t, over)
    ours = next(f for f in run.families if f.family == "weibull")
    assert ours.params["shape"] == pytest.approx(theirs.rho_, rel=3e-3)
    assert ours.params["scale"] == pytest.approx(theirs.lambda_, rel=3e-3)
    assert run.survival is not None
    np.testing.assert_allclose(
        run.survival.survival, km.survival_function_at_times(run.survival.t).to_numpy(), atol=4e-3
    )
    texts = " ".join(f.text for f in found.findings())
    assert "still running at the end and count as longer" in texts
    assert "by the" in next(f.text for f in found.findings() if "run for" in f.text)


def test_gaps_by_two_zero_policies(tmp_path: Path) -> None:
    """A clock of a second: zero gaps are less than half a tick, or left out; both are told."""
    rng = np.random.default_rng(4)
    t = np.floor(np.cumsum(rng.exponential(6.0, 6000))).astype(np.int64) * S
    frame = cluster(6000).with_columns(arrival_ns=pl.Series(t)).drop("start_ns", "end_ns")
    path = tmp_path / "s"
    with Store(path).writer("t", kind="failures", nature="synthetic", replace=True) as w:
        w.write("jobs", frame)
        trace = w.commit(clock="relative", format="test", tick_ns=S)
    found, _ = fitted(trace)
    gaps = np.diff(t) / 1e9
    assert found.gaps is not None
    assert found.gaps.zero_share == pytest.approx((gaps == 0).mean(), rel=1e-5)
    assert found.gaps.mean_s == pytest.approx(gaps.mean(), rel=1e-6)
    law = next(f for f in found.gaps.families if f.family == "exponential")
    assert law.params["scale"] == pytest.approx(6.0, rel=0.04)
    apart = {f.family: f for f in found.gaps_apart}
    k, _, scale = stats.weibull_min.fit(gaps[gaps > 0], floc=0)
    assert apart["weibull"].params["shape"] == pytest.approx(k, rel=1e-3)
    assert apart["weibull"].params["scale"] == pytest.approx(scale, rel=1e-3)
    assert "mean" in found.gaps.intervals


def test_unknown_states_say_nothing_of_failures(tmp_path: Path) -> None:
    frame = cluster(500).with_columns(state=pl.lit("unknown"))
    found, notices = fitted(stored(tmp_path, "jobs", frame))
    assert "not-recorded" in [n.code for n in notices]
    assert (found.ended, found.failed_by_jobs, found.failed_by_gpu_time) == (0, None, None)
    assert found.gpu_hours_per_failure is None
    assert all(s.failed is None for s in found.sizes)


def test_few_jobs_are_not_fitted(tmp_path: Path) -> None:
    notices: list[Notice] = []
    assert jobs.fit(stored(tmp_path, "jobs", cluster(12)), notices) is None
    assert [n.code for n in notices] == ["too-few-rows"]


def test_sizes_of_few_are_joined(tmp_path: Path) -> None:
    gpus = [0.0] * 40 + [0.5] * 3 + [1.0] * 100 + [8.0] * 30 + [64.0] * 4
    frame = cluster(len(gpus)).with_columns(gpus=pl.Series(gpus))
    found, _ = fitted(stored(tmp_path, "jobs", frame))
    assert [s.label for s in found.sizes] == ["none", "1", "2–64"]
    assert sum(s.jobs_share for s in found.sizes) == pytest.approx(1, abs=1e-4)
    assert all(round(s.jobs_share * len(gpus)) >= 10 for s in found.sizes)


def test_a_profile_comes_back_and_is_small(tmp_path: Path) -> None:
    trace = stored(tmp_path, "jobs", cluster())
    profile = characterize(trace)
    text = profile.dumps()
    again = Profile.loads(text)
    assert again.dumps() == text
    found = again.aspect("jobs", "jobs")
    assert len(json.dumps(found.to_dict())) < 20_000
    assert len(found.findings()) >= 5
    assert all(line.value == 0 for line in jobs.score(trace, trace))


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What a profile stores, to be damaged."""
    return fitted(stored(tmp_path_factory.mktemp("whole"), "jobs", cluster(2000)))[0].to_dict()


@pytest.mark.parametrize(
    "change",
    [
        lambda d: d["failed_by_jobs"].update(value=1.5),
        lambda d: d.update(ended=10**9),
        lambda d: d["sizes"][0].update(jobs_share=-0.1),
        lambda d: d["gpu_hours_per_failure"].update(hours=math.nan),
        lambda d: d["states"]["failed"].update(gpu_time=2.0),
        lambda d: d["duration"]["quantiles_s"].update(p10=1e9),
    ],
)
def test_damage_is_refused(whole: dict[str, Any], change: Any) -> None:
    d = json.loads(json.dumps(whole))
    jobs.from_dict(d)
    change(d)
    with pytest.raises(ModelError):
        jobs.from_dict(d)


@pytest.mark.real_data
def test_philly(real_data: Path, tmp_path: Path) -> None:
    """The figures of the research notes, of this very file, and scipy's fits with floc=0."""
    path = real_data / "failures/philly/philly_jobs_clusters_a.csv"
    trace = Store(tmp_path).ingest([path], "p")
    found, notices = fitted(trace)
    raw = pl.read_csv(path)
    x = raw["duration"].to_numpy()
    run = found.duration
    assert run is not None
    assert found.jobs == len(x) == 55_652
    assert run.mean_s == pytest.approx(13_591, abs=0.5)
    assert run.mean_s == pytest.approx(x.mean(), rel=1e-6)
    assert run.cv == pytest.approx(6.8, abs=0.05)
    assert run.quantiles_s["p50"] == pytest.approx(1681.5, rel=4e-3)
    laws = {f.family: f for f in run.families}
    sigma, _, scale = stats.lognorm.fit(x, floc=0)
    assert (round(math.log(scale), 4), round(sigma, 4)) == (7.2057, 1.9154)
    assert laws["lognormal"].params["mu"] == pytest.approx(7.2057, abs=1e-4)
    assert laws["lognormal"].params["sigma"] == pytest.approx(1.9154, abs=1e-4)
    assert laws["lognormal"].ks_d == pytest.approx(0.063, abs=1e-3)
    k, _, scale = stats.weibull_min.fit(x, floc=0)
    assert laws["weibull"].params["shape"] == pytest.approx(k, rel=1e-4)
    assert laws["weibull"].params["scale"] == pytest.approx(scale, rel=1e-4)
    assert laws["weibull"].params["shape"] == pytest.approx(0.478, abs=5e-4)
    assert laws["weibull"].ks_d == pytest.approx(0.122, abs=1e-3)
    gaps = {f.family: f for f in found.gaps_apart}
    assert gaps["weibull"].params["shape"] == pytest.approx(0.4347, abs=5e-5)
    assert gaps["weibull"].params["scale"] == pytest.approx(29.51, abs=6e-3)
    assert found.gaps is not None
    assert found.gaps.zero_share == pytest.approx(0.068, abs=5e-4)
    assert "not-recorded" in [n.code for n in notices]
    table = trace.query("jobs/time_counts", end_ns=0)
    exact = fit_families(binned(table), ("lognormal",))[0]
    assert exact.params["mu"] == pytest.approx(np.log(x).mean(), abs=1e-5)
    one = next(s for s in found.sizes if s.label == "1")
    assert one.jobs_share == pytest.approx((raw["num_gpus"] == 1).mean(), rel=1e-4)
    gpu_s, alone = raw["gpu_time"].to_numpy(), (raw["num_gpus"] == 1).to_numpy()
    assert one.gpu_time_share == pytest.approx(gpu_s[alone].sum() / gpu_s.sum(), rel=1e-4)
    # independent rows would claim a median known to a percent; the jobs come in waves
    i = run.intervals["p50"]
    assert i.method == "moving blocks"
    assert i.high / i.low > 1.5

"""Cold starts: scopes apart, both shares, zeros with and without, modes, groups, pods, and curves of a paper."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from lamina_traces.aspects import cold_starts, pod_utility
from lamina_traces.aspects.cold_start_curves import curve_counts, curve_quantile, fit_cdf
from lamina_traces.aspects.pod_utility import KEEP_ALIVE_S
from lamina_traces.characterization import characterize
from lamina_traces.distributions import fit_families, lognormal_by_moments, weibull_by_moments
from lamina_traces.errors import ModelError, Notice
from lamina_traces.profile import Profile
from lamina_traces.store import Store, Trace

from .tables import stored

S = 10**9
GOLDEN = Path(__file__).parents[1] / "golden" / "cold_starts-1.json"


def starts(n: int = 5000, seed: int = 5) -> pl.DataFrame:
    """Most skip the dependencies, which take seconds where they do not; allocation has three modes."""
    rng = np.random.default_rng(seed)
    mode = rng.choice(3, n, p=[0.6, 0.25, 0.15])
    alloc = np.exp(rng.normal(np.log([2e-4, 0.013, 3.0])[mode], np.array([0.4, 0.3, 0.6])[mode]))
    dep = np.where(rng.random(n) < 0.7, 0.0, rng.lognormal(1, 1, n))
    code = rng.lognormal(-3, 0.6, n)
    sched = rng.lognormal(-1, 0.5, n)
    runtime = rng.choice(["Python3", "Java", "C#"], n, p=[0.6, 0.396, 0.004])
    return pl.DataFrame(
        {
            "func_id": [f"f{i}" for i in rng.integers(0, 60, n)],
            "region": rng.choice(["R1", "R2"], n).tolist(),
            "runtime": runtime.tolist(),
            "pool": [f"pool{i}" for i in rng.integers(0, 20, n)],
            "pod_id": [f"p{i}" for i in range(n)],
            "arrival_ns": np.cumsum(rng.exponential(8e9, n)).astype(np.int64),
            "total_s": (alloc + dep + code + sched) * np.where(runtime == "Java", 2.0, 1.0),
            "pod_alloc_s": alloc,
            "deploy_code_s": code,
            "deploy_dep_s": dep,
            "scheduling_s": sched,
        }
    )


def fitted(trace: Trace) -> tuple[cold_starts.ColdStarts, list[Notice]]:
    notices: list[Notice] = []
    f = cold_starts.fit(trace, notices)
    assert f is not None
    return f, notices


def test_components_equal_numpy(tmp_path: Path) -> None:
    frame = starts()
    trace = stored(tmp_path, "cold_starts", frame)
    profile = characterize(trace)
    assert Profile.loads(profile.dumps()).dumps() == profile.dumps()
    found = profile.aspect("cold_starts", "cold_starts")
    assert found.scopes == {"platform total": ("total", "pod_alloc", "deploy_code", "deploy_dep", "scheduling")}  # fmt: skip
    for name, c in found.components.items():
        x = frame[f"{name}_s"].to_numpy()
        assert c.mean_s == pytest.approx(x.mean(), rel=1e-6)
        assert c.zero_share == pytest.approx((x == 0).mean(), abs=1e-6)
        for k, p in (("p10", 10), ("p50", 50), ("p90", 90), ("p99", 99)):
            assert c.quantiles_s[k] == pytest.approx(np.percentile(x, p), rel=1e-5, abs=1e-9)
        i = c.intervals["mean"]
        assert i.low < x.mean() < i.high
    dep = frame["deploy_dep_s"].to_numpy()
    apart = found.components["deploy_dep"].positive_quantiles_s
    assert found.components["deploy_dep"].quantiles_s["p50"] == 0
    assert apart["p50"] == pytest.approx(np.median(dep[dep > 0]), rel=1e-5)
    law = next(f for f in found.components["deploy_dep"].families if f.family == "lognormal")
    assert law.params["sigma"] == pytest.approx(1, rel=0.06)
    assert found.components["scheduling"].positive_quantiles_s == {}
    assert profile.aspect("arrivals", "cold_starts").rate_per_s == pytest.approx(1 / 8, rel=0.05)
    assert len(json.dumps(found.to_dict())) < 20_000
    assert all(x.value == 0 for x in cold_starts.score(trace, trace))


def test_both_definitions_of_shares(tmp_path: Path) -> None:
    frame = starts()
    parts = ("pod_alloc", "deploy_code", "deploy_dep", "scheduling")
    x = frame.select(f"{p}_s" for p in parts).to_numpy()
    found, _ = fitted(stored(tmp_path, "cold_starts", frame))
    of_sum = x.sum(axis=0) / x.sum()
    mean = (x / x.sum(axis=1, keepdims=True)).mean(axis=0)
    for i, p in enumerate(parts):
        c = found.components[p]
        assert c.share_of_sum == pytest.approx(of_sum[i], rel=1e-5)
        assert c.mean_share == pytest.approx(mean[i], rel=1e-5)
        for name, value in (("share_of_sum", of_sum[i]), ("mean_share", mean[i])):
            assert c.intervals[name].low < value < c.intervals[name].high
    # the definitions rank the steps differently, and the page says so
    assert parts[int(of_sum.argmax())] == "deploy_dep"
    assert parts[int(mean.argmax())] == "scheduling"
    texts = [f.text for f in found.findings()]
    first = {t.split(",")[0]: t.split(" is ")[1].split(",")[0] for t in texts if " is " in t}
    assert first["Of the summed time"] == "deploy dep"
    assert first["On average over cold starts"] == "scheduling"


def test_modes_of_the_allocation_are_found(tmp_path: Path) -> None:
    """0.2 ms, 13 ms and seconds: a mixture of three, which no single law fits."""
    found, _ = fitted(stored(tmp_path, "cold_starts", starts(8000)))
    best, second = found.components["pod_alloc"].families[:2]
    assert best.family == "lognormal-mixture"
    assert best.ks_d < 0.03 < second.ks_d
    modes = {k: math.exp(v) for k, v in best.params.items() if k.startswith("mu")}
    assert sorted(modes.values()) == pytest.approx([2e-4, 0.013, 3.0], rel=0.1)
    weights = sorted(v for k, v in best.params.items() if k.startswith("w"))
    assert weights == pytest.approx([0.15, 0.25, 0.6], abs=0.03)


def test_groups(tmp_path: Path) -> None:
    frame = starts()
    found, _ = fitted(stored(tmp_path, "cold_starts", frame))
    by_runtime = {g.name: g for g in found.groups if g.by == "runtime"}
    few = int((frame["runtime"] == "C#").sum())
    assert 10 <= few < 40
    assert set(by_runtime) == ({"Python3", "Java"} if few < 20 else {"Python3", "Java", "C#"})
    java = frame.filter(pl.col("runtime") == "Java")["total_s"]
    assert by_runtime["Java"].rows == len(java)
    assert by_runtime["Java"].quantiles_s["p50"] == pytest.approx(java.median(), rel=6e-3)
    assert by_runtime["Java"].mean_s == pytest.approx(java.mean(), rel=1e-3)
    pools = [g for g in found.groups if g.by == "pool"]
    assert len(pools) == 13
    assert pools[-1].name == "other"
    assert sum(g.rows for g in pools) == len(frame)
    assert all(g.rows >= 20 and g.scope == "total" for g in found.groups)
    assert not [g for g in found.groups if g.by == "trigger"]


def test_scopes_are_never_pooled(tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    n = 3000
    which = rng.choice(3, n)
    x = rng.lognormal(0, 0.5, n)
    columns = {
        c: pl.Series(np.where(which == i, x * 10.0**i, np.nan)).fill_nan(None)
        for i, c in enumerate(("total_s", "init_s", "model_load_s"))
    }
    frame = pl.DataFrame(
        {
            "func_id": ["f"] * n,
            "runtime": rng.choice(["a", "b"], n).tolist(),
            "arrival_ns": (np.arange(n) * S).tolist(),
            **columns,
        }
    )
    found, notices = fitted(stored(tmp_path, "cold_starts", frame))
    assert found.scopes == {"platform total": ("total",), "init only": ("init",), "model load": ("model_load",)}  # fmt: skip
    assert "several-scopes" in [n.code for n in notices]
    for i, name in enumerate(("total", "init", "model_load")):
        own = x[which == i] * 10.0**i
        assert found.components[name].rows == len(own)
        assert found.components[name].quantiles_s["p50"] == pytest.approx(np.median(own), rel=1e-5)
    assert {g.scope for g in found.groups} == {"total", "init", "model_load"}
    texts = [f.text for f in found.findings()]
    for scope in ("platform total", "init only", "model load"):
        assert any(f"({scope})" in t for t in texts)
    assert found.to_dict()["components"]["init"]["scope"] == "init only"


def test_few_cold_starts_have_no_laws(tmp_path: Path) -> None:
    found, notices = fitted(stored(tmp_path, "cold_starts", starts(12)))
    assert [n.code for n in notices] == ["too-few-rows"]
    assert found.components["total"].families == ()
    assert found.components["total"].grid is None


def test_rows_that_share_a_few_instants_have_no_arrival_process(tmp_path: Path) -> None:
    day = 86_400 * S
    frame = pl.DataFrame(
        {
            "arrival_ns": [d * day for d in range(19) for _ in range(50)],
            "func_id": ["f"] * 950,
            "init_s": [0.1 + 0.001 * i for i in range(950)],
        }
    )
    profile = characterize(stored(tmp_path, "cold_starts", frame))
    assert set(profile.parts["cold_starts"].streams[0].aspects) == {"cold_starts"}
    assert "few-instants" in [n.code for n in profile.notices]


# --- pods ------------------------------------------------------------------------------------------


def pods(
    path: Path, n: int = 2000, seed: int = 3
) -> tuple[Trace, np.ndarray, np.ndarray, np.ndarray]:
    """Cold starts and the requests of their pods: (trace, useful seconds, cold seconds, last ends) by pod."""
    rng = np.random.default_rng(seed)
    arrival = np.cumsum(rng.exponential(5.0, n))
    cold = rng.lognormal(0, 0.8, n)
    requests = rng.geometric(0.2, n)
    pod = np.repeat(np.arange(n), requests)
    offset = np.concatenate([np.cumsum(rng.exponential(3.0, k)) for k in requests])
    duration = rng.lognormal(-2, 1, len(pod))
    t = ((arrival + cold)[pod] + offset) * 1e9
    order = np.argsort(t, kind="stable")
    ends = np.zeros(n)
    np.maximum.at(ends, pod, t / 1e9 + duration)
    cold_table = pl.DataFrame(
        {
            "row_id": np.arange(n),
            "func_id": ["f"] * n,
            "pod_id": [f"p{i}" for i in range(n)],
            "arrival_ns": (arrival * 1e9).astype(np.int64),
            "total_s": cold,
        }
    )
    calls = pl.DataFrame(
        {
            "row_id": np.arange(len(pod)),
            "func_id": ["f"] * len(pod),
            "pod_id": [f"p{i}" for i in pod[order]],
            "arrival_ns": t[order].astype(np.int64),
            "duration_s": duration[order],
            "status": ["ok"] * len(pod),
        }
    )
    with Store(path).writer("pods", kind="serverless", nature="synthetic", replace=True) as w:
        w.write("cold_starts", cold_table)
        w.write("invocations", calls)
        trace = w.commit(clock="relative", format="test")
    return trace, ends - arrival - cold, cold, ends


def test_pod_utility_in_both_readings(tmp_path: Path) -> None:
    trace, useful, cold, ends = pods(tmp_path)
    found = pod_utility.fit(trace, [], "cold_starts")
    assert found is not None
    alive = ends > ends.max() - KEEP_ALIVE_S
    assert (found.pods, found.censored) == (2000, int(alive.sum()))
    assert found.censored > 0
    ratio = np.maximum(useful, 0) / cold
    assert found.median_uncensored == pytest.approx(np.median(ratio[~alive]), rel=5e-3)
    assert found.quantiles["p50"] == pytest.approx(np.median(ratio), rel=0.03)
    assert found.quantiles["p50"] >= found.median_uncensored
    assert found.ratio_of_sums == pytest.approx(np.maximum(useful, 0).sum() / cold.sum(), rel=1e-4)
    assert found.below_one == pytest.approx((ratio < 1).mean(), abs=0.01)
    assert found.median_interval is not None
    assert found.median_interval.low < found.quantiles["p50"] < found.median_interval.high
    profile = characterize(trace)
    assert Profile.loads(profile.dumps()).dumps() == profile.dumps()
    texts = [f.text for f in profile.aspect("cold_starts", "cold_starts").findings()]
    assert any("times as long as they took to start" in t for t in texts)


def test_pods_without_requests_have_no_utility(tmp_path: Path) -> None:
    found, _ = fitted(stored(tmp_path, "cold_starts", starts(200)))
    assert found.utility is None


# --- the profile -----------------------------------------------------------------------------------


def test_version_1_is_read() -> None:
    old = json.loads(GOLDEN.read_text())
    found = cold_starts.from_dict(old)
    assert set(found.components) == {"total", "pod_alloc", "deploy_code"}
    assert (
        found.components["pod_alloc"].share_of_sum == old["components"]["pod_alloc"]["share_of_sum"]
    )
    assert found.components["pod_alloc"].mean_share is None
    assert (found.groups, found.utility, found.evidence) == ((), None, "rows")
    again = found.to_dict()
    assert again["version"] == 2
    assert cold_starts.from_dict(again).to_dict() == again
    assert found.findings()


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What a profile stores, to be damaged."""
    return fitted(stored(tmp_path_factory.mktemp("whole"), "cold_starts", starts(1000)))[
        0
    ].to_dict()


@pytest.mark.parametrize(
    "change",
    [
        lambda d: d["components"].pop("total"),
        lambda d: d["components"]["total"].update(mean_s=-1.0),
        lambda d: d["components"]["deploy_dep"].update(zero_share=2.0),
        lambda d: d["components"]["deploy_dep"].update(mean_share=math.nan),
        lambda d: d["groups"][0].update(scope="everything"),
        lambda d: d["components"]["total"]["quantiles_s"].update(p50=math.inf),
    ],
)
def test_damage_is_refused(whole: dict[str, Any], change: Any) -> None:
    d = json.loads(json.dumps(whole))
    cold_starts.from_dict(d)
    change(d)
    with pytest.raises(ModelError):
        cold_starts.from_dict(d)


# --- curves and moments ----------------------------------------------------------------------------


def test_moments_are_not_parameters() -> None:
    """ "LogNormal mean 3.24, sd 7.10" and "Weibull mean 1.25, sd 3.66" of the paper are moments of the law."""
    law = lognormal_by_moments(3.24, 7.10)
    assert law["mu"] == pytest.approx(0.2965, abs=5e-5)
    assert law["sigma"] == pytest.approx(1.326, abs=5e-4)
    gaps = weibull_by_moments(1.25, 3.66)
    assert gaps["shape"] == pytest.approx(0.4176, abs=5e-5)
    assert gaps["scale"] == pytest.approx(0.4217, abs=5e-5)


def test_a_law_comes_back_from_its_curve() -> None:
    """Fifty points of a lognormal curve give its parameters again."""
    from scipy import special

    x = np.geomspace(0.01, 100, 50)
    cdf = special.ndtr((np.log(x) - 0.25) / 1.373)
    c = curve_counts(x, cdf)
    assert c.rows == pytest.approx(10_000)
    fit = fit_families(c, ("lognormal", "weibull", "gamma"))[0]
    assert fit.family == "lognormal"
    assert fit.params["mu"] == pytest.approx(0.25, abs=0.02)
    assert fit.params["sigma"] == pytest.approx(1.373, rel=0.02)
    q = curve_quantile(x, cdf, np.array([0.1, 0.5, 0.9]))
    want = np.exp(0.25 + 1.373 * special.ndtri(np.array([0.1, 0.5, 0.9])))
    np.testing.assert_allclose(q, want, rtol=0.02)


def test_a_curve_that_overshoots_stays_a_curve() -> None:
    c = curve_counts(np.array([1.0, 2.0, 4.0]), np.array([0.003, 0.6, 1.003]))
    assert c.rows == pytest.approx(10_000)
    assert (c.n > 0).all()
    assert curve_quantile(np.array([1.0, 2.0, 4.0]), np.array([0.003, 0.6, 1.003]), np.array(1.0)) == pytest.approx(4)  # fmt: skip


PUBLISHED = {
    "all regions": (0.196, 0.558, 1.301, 2.904, 7.11, 36.0),
    "R1": (0.528, 0.920, 2.177, 3.80, 8.04, 39.1),
    "R2": (0.240, 0.483, 0.832, 1.73, 10.5, 14.5),
    "R3": (0.0235, 0.0269, 0.102, 0.278, 0.433, 1.06),
    "R4": (0.070, 0.290, 0.902, 1.71, 2.71, 11.0),
    "R5": (0.117, 0.216, 0.453, 0.644, 1.53, 7.7),
}
"""p10, p25, p50, p75, p90, p99 of the total cold start time, digitised from figure 10 of the paper."""


@pytest.mark.real_data
def test_curves_of_the_paper(real_data: Path, tmp_path: Path) -> None:
    trace = Store(tmp_path).ingest([real_data / "serverless/huawei-2025/paper_cdf_curves.csv"], "c")
    notices: list[Notice] = []
    found = fit_cdf(trace, notices)
    assert "cdf-points" in [n.code for n in notices]
    for name, figures in PUBLISHED.items():
        total = found[name].components["total"]
        got = [total.quantiles_s[k] for k in ("p10", "p25", "p50", "p75", "p90", "p99")]
        assert got == pytest.approx(list(figures), rel=0.008), name
        assert total.families[0].family == "lognormal-mixture"
        assert not total.intervals
        assert found[name].evidence == "CDF points"
        assert len(json.dumps(found[name].to_dict())) < 8_000
    runtimes = {"C#": 0.741, "Custom": 11.14, "Go1.x": 0.632, "Java": 0.748, "Node.js": 1.197, "PHP7.3": 0.392, "Python2": 0.506, "Python3": 0.706, "http": 10.9}  # fmt: skip
    for name, median in runtimes.items():
        assert found[name].components["total"].quantiles_s["p50"] == pytest.approx(
            median, rel=0.008
        )
    alloc = found["http"].components["pod_alloc"].families[0]
    modes = sorted(math.exp(v) for k, v in alloc.params.items() if k.startswith("mu"))
    assert modes[0] == pytest.approx(2e-4, rel=0.15)
    assert modes[1] == pytest.approx(10.5, rel=0.03)
    assert "fit" not in found
    profile = Profile.loads(_profile(found["R1"]).dumps())
    assert profile.aspect("cold_starts", "cold_starts").evidence == "CDF points"


def _profile(c: cold_starts.ColdStarts) -> Profile:
    from lamina_traces.profile import Part, Stream

    return Profile(
        "p", {"cold_starts": Part("cold_starts", (Stream("R1", 1.0, {}, {"cold_starts": c}),))}, {}
    )


@pytest.mark.real_data
def test_lambda_perf(real_data: Path, tmp_path: Path) -> None:
    """2026-02-02: p50 120.9 ms, p90 312.8, p99 515.2; lognormal mu 4.724 of ms, sigma .857, KS .056; init only."""
    path = real_data / "serverless/lambda-perf/2026-02-02.json"
    found, _ = fitted(Store(tmp_path).ingest([path], "l"))
    assert list(found.scopes) == ["init only"]
    c = found.components["init"]
    assert c.rows == 5878
    for k, ms in (("p50", 120.9), ("p90", 312.8), ("p99", 515.2)):
        assert c.quantiles_s[k] * 1e3 == pytest.approx(ms, abs=0.06)
    law = next(f for f in c.families if f.family == "lognormal")
    assert law.params["mu"] + math.log(1000) == pytest.approx(4.724, abs=1e-3)
    assert law.params["sigma"] == pytest.approx(0.857, abs=1e-3)
    assert law.ks_d == pytest.approx(0.056, abs=1e-3)
    assert [g for g in found.groups if g.by == "runtime"]


@pytest.mark.real_data
def test_huawei_rows(real_data: Path, tmp_path: Path) -> None:
    """total = sum of the four components, so the shares add up; the two definitions differ already in ten rows."""
    trace = Store(tmp_path).ingest([real_data / "serverless/huawei-2025/cold_start"], "h")
    found, _ = fitted(trace)
    parts = [found.components[p] for p in cold_starts.PARTS]
    assert sum(p.share_of_sum or 0 for p in parts) == pytest.approx(1, abs=1e-4)
    assert sum(p.mean_share or 0 for p in parts) == pytest.approx(1, abs=1e-4)
    sched = found.components["scheduling"]
    assert sched.mean_share is not None
    assert sched.share_of_sum is not None
    assert sched.mean_share > sched.share_of_sum + 0.1

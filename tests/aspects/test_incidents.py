"""Incidents: time between failures of a system and of its nodes, repair, and the arithmetic of published figures."""

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

from lamina_traces.aspects import incidents
from lamina_traces.characterization import characterize
from lamina_traces.errors import ModelError, Notice
from lamina_traces.profile import Profile
from lamina_traces.store import Store, Trace

from .tables import stored

S = 10**9
DAY = 86_400 * S


def nodes(n: int = 60, days: int = 60, seed: int = 1, shape: float = 0.7) -> pl.DataFrame:
    """Renewal failures of nodes, Weibull apart, with lognormal repairs; some last past the end."""
    rng = np.random.default_rng(seed)
    rows = []
    for node in range(n):
        t = float(rng.uniform(0, 2e5))
        while True:
            t += float(rng.weibull(shape)) * 4e5
            if t > days * 86_400:
                break
            repair = float(np.exp(rng.normal(7, 1)))
            rows.append((int(t * 1e9), int((t + repair) * 1e9), f"n{node}"))
            t += repair
    rows.sort()
    arrival, end, entity = (list(c) for c in zip(*rows, strict=True))
    late = [e > days * DAY for e in end]
    return pl.DataFrame(
        {
            "row_id": np.arange(len(rows)),
            "arrival_ns": arrival,
            "end_ns": pl.Series(
                [None if x else e for x, e in zip(late, end, strict=True)], dtype=pl.Int64
            ),
            "entity_type": ["node"] * len(rows),
            "entity_id": entity,
            "kind": rng.choice(["hw_error", "node_fail"], len(rows), p=[0.8, 0.2]).tolist(),
            "component": rng.choice(
                ["gpu", "hbm", "nic", "psu"], len(rows), p=[0.6, 0.25, 0.14, 0.01]
            ).tolist(),
            "lost_gpu_s": [3600.0] * len(rows),
            "censored": late,
        }
    )


def fitted(trace: Trace) -> tuple[incidents.Incidents, list[Notice]]:
    notices: list[Notice] = []
    f = incidents.fit(trace, notices)
    assert f is not None
    return f, notices


def test_mean_time_to_interrupt_of_llama_3_1() -> None:
    """419 unplanned interrupts in 54 days of 16,384 GPUs: 3.09 h, 50,700 GPU hours each."""
    r = incidents.rate(419, 54 * 86_400.0)
    assert r.mtbf_s / 3600 == pytest.approx(3.09, abs=5e-3)
    assert r.device_hours(16_384) == pytest.approx(50_700, rel=5e-3)
    assert r.interval is not None
    low, high = (
        54 * 24 / stats.chi2.ppf(q, df) * 2 for q, df in ((0.975, 2 * 420), (0.025, 2 * 419))
    )
    assert (r.interval.low / 3600, r.interval.high / 3600) == pytest.approx((low, high), rel=1e-3)
    assert r.interval.method == "exact"


def test_between_incidents_equals_numpy_and_lifelines(tmp_path: Path) -> None:
    frame = nodes()
    found, _ = fitted(stored(tmp_path, "incidents", frame))
    t = frame["arrival_ns"].to_numpy() / 1e9
    system = found.between
    assert system is not None
    assert system.rows == len(t) - 1
    assert system.mean_s == pytest.approx(np.diff(t).mean(), rel=1e-6)
    # of one node: from the first instant on record to its first failure, and from its last to the end, are longer
    end = max(frame["arrival_ns"].max(), frame["end_ns"].max()) / 1e9  # type: ignore[type-var,operator]
    durations, over = [], []
    for _, part in frame.group_by("entity_id", maintain_order=True):
        own = part["arrival_ns"].to_numpy() / 1e9
        durations += [*np.diff(own), own[0] - t[0], end - own[-1]]
        over += [*[True] * (len(own) - 1), False, False]
    x, seen = np.array(durations), np.array(over)
    x, seen = x[x > 0], seen[x > 0]
    own_ = found.between_own
    assert own_ is not None
    assert (own_.rows, own_.censored) == (int(seen.sum()), int((~seen).sum()))
    theirs = WeibullFitter().fit(x, seen)
    ours = next(f for f in own_.families if f.family == "weibull")
    assert ours.params["shape"] == pytest.approx(theirs.rho_, rel=3e-3)
    assert ours.params["scale"] == pytest.approx(theirs.lambda_, rel=3e-3)
    assert own_.quantiles_s["p50"] == pytest.approx(KaplanMeierFitter().fit(x, seen).median_survival_time_, rel=5e-3)  # fmt: skip
    assert "hazard falls with time" in " ".join(f.text for f in found.findings())


def test_repair_kinds_and_components(tmp_path: Path) -> None:
    frame = nodes()
    found, _ = fitted(stored(tmp_path, "incidents", frame))
    repair = found.repair
    assert repair is not None
    known = frame.filter(~pl.col("censored"))
    x = (known["end_ns"] - known["arrival_ns"]).to_numpy() / 1e9
    assert repair.rows == len(x)
    assert repair.censored == frame["censored"].sum()
    law = next(f for f in repair.families if f.family == "lognormal")
    assert law.params["mu"] == pytest.approx(np.log(x).mean(), abs=0.02)
    assert found.all.incidents == len(frame)
    assert sum(r.incidents for r in found.kinds.values()) == len(frame)
    assert found.kinds["hw_error"].incidents == (frame["kind"] == "hw_error").sum()
    assert set(found.components) <= {"gpu", "hbm", "nic", "psu", "other"}
    few = int((frame["component"] == "psu").sum())
    assert ("other" in found.components) == (0 < few < 10)
    assert found.lost_gpu_hours == pytest.approx(len(frame))
    assert found.entities == {"node": len(frame)}


def test_clusters_widen_the_interval(tmp_path: Path) -> None:
    """Incidents in storms: a Poisson count's interval would be far too narrow."""
    rng = np.random.default_rng(5)
    storms = rng.uniform(0, 60 * 86_400, 25)
    t = np.sort(np.concatenate([s + rng.exponential(900, 20).cumsum() for s in storms]))
    n = len(t)
    frame = pl.DataFrame(
        {"row_id": np.arange(n), "arrival_ns": (t * 1e9).astype(np.int64), "entity_type": ["service"] * n, "entity_id": ["s"] * n, "kind": ["failed"] * n}
    )  # fmt: skip
    found, _ = fitted(stored(tmp_path, "incidents", frame))
    i = found.all.interval
    assert i is not None
    assert i.method != "exact"
    plain = incidents.rate(n, found.observed_s).interval
    assert plain is not None
    assert math.log(i.high / i.low) > 2 * math.log(plain.high / plain.low)
    assert "dispersion" in found.kinds["failed"].interval.method  # type: ignore[union-attr]
    assert incidents.dispersion(np.random.default_rng(1).poisson(20, 60).astype(float)) == 1.0


def test_no_time_is_across_a_mask(tmp_path: Path) -> None:
    n = 60
    frame = pl.DataFrame(
        {"row_id": np.arange(n), "arrival_ns": [i * 100 * S for i in range(n)], "entity_type": ["node"] * n, "entity_id": ["n0"] * n, "kind": ["failed"] * n}
    )  # fmt: skip
    trace = stored(tmp_path, "incidents", frame).mask(2050 * S, 3950 * S)
    ended, cut = incidents.between(trace, 0, 5900 * S, whole=True)
    assert ended.x.tolist() == [100.0]
    assert ended.rows == 20 + 19
    assert sorted(np.repeat(cut.x, cut.n.astype(int)).tolist()) == [50.0, 50.0]
    found, _ = fitted(trace)
    assert found.observed_s == pytest.approx(5900 - 1900)


def test_incidents_of_jobs_are_over_the_time_of_the_jobs(tmp_path: Path) -> None:
    from .test_jobs import cluster

    jobs = cluster(3000, days=10)
    bad = jobs.filter(pl.col("state") == "failed")
    table = pl.DataFrame(
        {"row_id": np.arange(len(bad)), "arrival_ns": bad["end_ns"], "entity_type": ["job"] * len(bad), "entity_id": bad["job_id"], "kind": ["failed"] * len(bad), "lost_gpu_s": bad["gpus"] * bad["duration_s"]}
    ).sort("arrival_ns")  # fmt: skip
    with Store(tmp_path).writer("t", kind="failures", nature="synthetic", replace=True) as w:
        w.write("jobs", jobs)
        w.write("incidents", table)
        trace = w.commit(clock="relative", format="test")
    profile = characterize(trace)
    assert Profile.loads(profile.dumps()).dumps() == profile.dumps()
    found = profile.aspect("incidents", "jobs")
    first = jobs["arrival_ns"].min()
    assert found.observed_s == pytest.approx((10 * DAY - first) / 1e9, rel=0.01)  # type: ignore[operator]
    assert found.between_own is None
    assert found.repair is None
    assert found.lost_gpu_hours == pytest.approx(
        (bad["gpus"] * bad["duration_s"]).sum() / 3600, rel=1e-4
    )
    part = trace.select(where="gpus > 1")
    assert "condition-not-applied" in [n.code for n in fitted(part)[1]]


def test_a_profile_comes_back_and_is_small(tmp_path: Path) -> None:
    trace = stored(tmp_path, "incidents", nodes())
    found, _ = fitted(trace)
    text = json.dumps(found.to_dict())
    assert len(text) < 14_000
    assert json.dumps(incidents.from_dict(json.loads(text)).to_dict()) == text
    assert all(x.value == 0 for x in incidents.score(trace, trace))


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What a profile stores, to be damaged."""
    return fitted(stored(tmp_path_factory.mktemp("whole"), "incidents", nodes()))[0].to_dict()


@pytest.mark.parametrize(
    "change",
    [
        lambda d: d["all"].update(mtbf_s=-1.0),
        lambda d: d["kinds"]["hw_error"].update(incidents=-5),
        lambda d: d.update(observed_s=math.inf),
        lambda d: d["repair"].update(cv=-2.0),
    ],
)
def test_damage_is_refused(whole: dict[str, Any], change: Any) -> None:
    d = json.loads(json.dumps(whole))
    incidents.from_dict(d)
    change(d)
    with pytest.raises(ModelError):
        incidents.from_dict(d)


def test_few_incidents_are_not_fitted(tmp_path: Path) -> None:
    notices: list[Notice] = []
    assert incidents.fit(stored(tmp_path, "incidents", nodes().head(8)), notices) is None
    assert [n.code for n in notices] == ["too-few-rows"]

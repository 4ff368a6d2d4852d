"""Invocations and keep-alive: brute force over rows, the published figures of two Azure traces, what is not told."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from lamina_traces.aspects import invocations
from lamina_traces.aspects.idle_times import idle_counts
from lamina_traces.aspects.keep_alive import KeepAlive, beyond, kept
from lamina_traces.characterization import characterize
from lamina_traces.counts import Counts
from lamina_traces.distributions import fit_families
from lamina_traces.errors import ModelError, Notice
from lamina_traces.profile import Profile
from lamina_traces.store import Store, Trace

from .tables import stored

S = 10**9


def calls(n: int = 6000, functions: int = 40, seed: int = 1) -> pl.DataFrame:
    """Functions of very different rates, some with timers, that run for milliseconds to seconds."""
    rng = np.random.default_rng(seed)
    weights = rng.pareto(1.0, functions) + 0.1
    func = rng.choice(functions, n, p=weights / weights.sum())
    t = np.cumsum(rng.exponential(2.0, n))
    t = np.where(func % 7 == 0, np.round(t / 60) * 60 + rng.random(n) * 0.01, t)
    frame = pl.DataFrame(
        {
            "func_id": [f"f{f}" for f in func],
            "app_id": [f"a{f % 9}" for f in func],
            "arrival_ns": (t * 1e9).astype(np.int64),
            "duration_s": rng.lognormal(-1, 1.5, n),
            "status": ["ok"] * n,
            "is_cold": rng.random(n) < 0.08,
        }
    )
    return frame.sort("arrival_ns", maintain_order=True)


def fitted(trace: Trace) -> tuple[invocations.Invocations, list[Notice]]:
    notices: list[Notice] = []
    f = invocations.fit(trace, notices)
    assert f is not None
    return f, notices


def brute(frame: pl.DataFrame, by: str, k_s: float) -> tuple[int, int, float]:
    """(first requests, later cold starts, idle seconds between requests) with one instance per ``by``."""
    first = cold = 0
    idle = 0.0
    end: dict[str, float] = {}
    for name, t, d in frame.select(by, "arrival_ns", "duration_s").rows():
        # whole nanoseconds, as the query has them
        stop = t + math.floor(d * 1e9)
        if name not in end:
            first += 1
            end[name] = stop
            continue
        gap = max(0.0, (t - end[name]) / 1e9)
        cold += gap > k_s
        idle += min(gap, k_s)
        end[name] = max(end[name], stop)
    return first, cold, idle


@pytest.mark.parametrize("per", ["function", "application"])
def test_keep_alive_equals_a_walk_over_the_rows(tmp_path: Path, per: str) -> None:
    frame = calls()
    trace = stored(tmp_path, "invocations", frame)
    idle, entities = idle_counts(trace, per == "application")
    for k_s in (0.0, 1.0, 10.0, 60.0, 600.0, 1200.0):
        first, cold, seconds = brute(frame, "func_id" if per == "function" else "app_id", k_s)
        at = np.array([k_s])
        assert entities == first
        assert beyond(idle, at)[0] == pytest.approx(cold, abs=1e-6), k_s
        assert kept(idle, at)[0] == pytest.approx(seconds, rel=1e-9), k_s
    found, _ = fitted(trace)
    curve = found.kept(per)
    assert curve is not None
    for k_s in curve.knots_s[:: max(1, len(curve.knots_s) // 12)].tolist():
        first, cold, seconds = brute(frame, "func_id" if per == "function" else "app_id", k_s)
        share, error = curve.p_cold(k_s)
        assert error == 0
        assert share == pytest.approx(cold / (len(frame) - first), abs=4e-3)
        assert curve.cold_starts(k_s) == pytest.approx(first + share * (len(frame) - first))


def test_between_knots_the_truth_is_within_the_error(tmp_path: Path) -> None:
    trace = stored(tmp_path, "invocations", calls(seed=3))
    idle, _ = idle_counts(trace)
    curve = KeepAlive.of(idle, 40, idle.rows + 40)
    assert curve is not None
    rng = np.random.default_rng(1)
    for k_s in np.exp(rng.uniform(math.log(1e-3), math.log(5e3), 300)):
        at = np.array([k_s])
        share, error = curve.p_cold(float(k_s))
        assert abs(share - beyond(idle, at)[0] / idle.rows) <= error + 1e-6
        seconds, off = curve.idle(float(k_s))
        assert abs(seconds - kept(idle, at)[0] / (idle.rows + 40)) <= off + 3e-6 * seconds
    with pytest.raises(ModelError):
        curve.p_cold(-1.0)


def test_exponential_gaps_have_the_closed_form() -> None:
    """P(cold) = exp(−K/µ), idle = µ(1 − exp(−K/µ))."""
    rng = np.random.default_rng(2)
    idle = Counts.of(rng.exponential(100.0, 200_000))
    curve = KeepAlive.of(idle, 1, 200_001)
    assert curve is not None
    for k_s in (10.0, 60.0, 300.0):
        assert curve.p_cold(k_s)[0] == pytest.approx(math.exp(-k_s / 100), abs=0.004)
        assert curve.idle(k_s)[0] == pytest.approx(100 * (1 - math.exp(-k_s / 100)), rel=0.01)


def test_knots_tell_of_ten_idle_times_or_none(tmp_path: Path) -> None:
    trace = stored(tmp_path, "invocations", calls(800, seed=5))
    idle, _ = idle_counts(trace)
    curve = KeepAlive.of(idle, 40, idle.rows + 40)
    assert curve is not None
    steps = -np.diff(np.append(beyond(idle, curve.knots_s), 0.0))
    assert all(s < 0.5 or s > 9.5 for s in steps), steps
    assert KeepAlive.of(Counts.of(np.arange(1.0, 12.0)), 1, 12) is None


def test_counts_by_function_equal_numpy(tmp_path: Path) -> None:
    frame = calls(seed=7)
    found, _ = fitted(stored(tmp_path, "invocations", frame))
    size = np.sort(frame.group_by("func_id").len()["len"].to_numpy())[::-1].astype(float)
    assert (found.invocations, found.functions) == (len(frame), len(size))
    assert found.top_share == pytest.approx(size[0] / size.sum(), rel=1e-4)
    assert found.functions_for_90 == int(np.searchsorted(np.cumsum(size), 0.9 * size.sum())) + 1
    asc = size[::-1]
    m = len(asc)
    gini = 2 * (np.arange(1, m + 1) * asc).sum() / (m * asc.sum()) - (m + 1) / m
    assert found.gini == pytest.approx(gini, rel=1e-3)
    starts = frame["arrival_ns"].to_numpy()
    ends = starts + (frame["duration_s"].to_numpy() * 1e9).astype(np.int64)
    steps = np.concatenate(
        [np.stack([starts, np.ones_like(starts)]), np.stack([ends, -np.ones_like(ends)])], axis=1
    )
    order = np.lexsort((steps[1], steps[0]))
    assert found.concurrency_peak == np.cumsum(steps[1][order]).max()
    span = (starts[-1] - starts[0]) / 1e9
    assert found.concurrency_mean == pytest.approx(frame["duration_s"].sum() / span, rel=1e-4)
    assert found.cold_share == pytest.approx(frame["is_cold"].mean(), rel=1e-5)
    assert found.cold_interval is not None
    assert found.cold_interval.low < 0.08 < found.cold_interval.high
    gaps = frame.with_columns(gap=pl.col("arrival_ns").diff().over("func_id") / 1e9).drop_nulls(
        "gap"
    )
    assert found.gaps is not None
    assert found.gaps.rows == len(gaps)
    assert found.gaps.quantiles_s["p50"] == pytest.approx(gaps["gap"].median(), rel=5e-3)
    own = gaps.with_columns(w=1 / pl.len().over("func_id")).sort("gap")
    share = own["w"].cum_sum().to_numpy() / own["w"].sum()
    want = own["gap"][int(np.searchsorted(share, 0.5))]
    assert found.gaps_per_function_s["p50"] == pytest.approx(want, rel=0.01)
    # every function's own share of cold starts
    cold = [
        (gap > 60).mean()
        for _, part in frame.group_by("func_id", maintain_order=True)
        if len(gap := _idle(part))
    ]
    assert found.function_cold["60"]["p50"] == pytest.approx(float(np.median(cold)), abs=0.02)


def _idle(part: pl.DataFrame) -> np.ndarray:
    t = part["arrival_ns"].to_numpy()
    ends = np.maximum.accumulate(t + (part["duration_s"].to_numpy() * 1e9).astype(np.int64))
    return np.asarray((t[1:] - ends[:-1]) / 1e9)


def test_no_idle_time_is_across_a_mask(tmp_path: Path) -> None:
    frame = pl.DataFrame(
        {
            "func_id": ["f"] * 60,
            "arrival_ns": [i * 10 * S for i in range(60)],
            "duration_s": [1.0] * 60,
            "status": ["ok"] * 60,
        }
    )
    trace = stored(tmp_path, "invocations", frame).mask(205 * S, 395 * S)
    idle, first = idle_counts(trace)
    assert first == 1
    assert idle.x.tolist() == [9.0]
    assert idle.rows == 20 + 19


def test_counts_per_bin_blur_by_a_bin(tmp_path: Path) -> None:
    """The same calls as rows and as counts per minute: the shares from counts hold those from rows."""
    frame = calls(8000, seed=11).with_columns(duration_s=pl.lit(0.0))
    rows = stored(tmp_path / "a", "invocations", frame)
    bins = frame.with_columns(arrival_ns=pl.col("arrival_ns") // (60 * S) * (60 * S))
    counted = (
        bins.group_by("func_id", "app_id", "arrival_ns")
        .len("invocations")
        .sort("arrival_ns", "func_id")
        .with_columns(bin_s=pl.lit(60.0), invocations=pl.col("invocations").cast(pl.Int64))
    )
    trace = stored(tmp_path / "b", "invocation_counts", counted)
    a, b = fitted(rows)[0], fitted(trace)[0]
    assert (a.invocations, a.functions, a.top_share) == (b.invocations, b.functions, b.top_share)
    fine, coarse = a.kept("function"), b.kept("function")
    assert fine is not None
    assert coarse is not None
    for k_s in (300.0, 600.0, 1200.0):
        share, error = coarse.p_cold(k_s)
        exact = fine.p_cold(k_s)[0] * fine.later  # cold starts, of rows
        assert (share - error) * coarse.later - 10 <= exact <= (share + error) * coarse.later + 10
    totals = bins.group_by("arrival_ns").len().sort("arrival_ns")
    k = ((totals["arrival_ns"] - totals["arrival_ns"][0]) // (60 * S)).to_numpy()
    series = np.zeros(k[-1] + 1)
    series[k] = totals["len"].to_numpy()
    assert b.bins is not None
    assert b.bins.idc == pytest.approx(series.var(ddof=1) / series.mean(), rel=1e-5)
    assert "counted-in-bins" in [n.code for n in fitted(trace)[1]]


def test_without_durations_it_is_said(tmp_path: Path) -> None:
    frame = calls(500).drop("duration_s", "app_id", "is_cold")
    found, notices = fitted(stored(tmp_path, "invocations", frame))
    assert "no-durations" in [n.code for n in notices]
    assert found.times == {}
    assert found.concurrency_peak is None
    assert [k.per for k in found.keep_alive] == ["function"]


def test_few_invocations_are_not_fitted(tmp_path: Path) -> None:
    notices: list[Notice] = []
    assert invocations.fit(stored(tmp_path, "invocations", calls(12)), notices) is None
    assert [n.code for n in notices] == ["too-few-rows"]


def test_a_profile_comes_back_and_is_small(tmp_path: Path) -> None:
    trace = stored(tmp_path, "invocations", calls())
    profile = characterize(trace)
    text = profile.dumps()
    again = Profile.loads(text)
    assert again.dumps() == text
    found = again.aspect("invocations", "invocations")
    assert len(json.dumps(found.to_dict())) < 20_000
    assert len(found.findings()) >= 5
    assert all(line.value == 0 for line in invocations.score(trace, trace))


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What a profile stores, to be damaged."""
    return fitted(stored(tmp_path_factory.mktemp("whole"), "invocations", calls()))[0].to_dict()


@pytest.mark.parametrize(
    "change",
    [
        lambda d: d.update(top_share=1.5),
        lambda d: d.update(functions=0),
        lambda d: d["keep_alive"][0]["cold"].__setitem__(0, 1.5),
        lambda d: d["keep_alive"][0]["knots_s"].__setitem__(0, -1.0),
        lambda d: d["keep_alive"][0]["idle_s"].__setitem__(-1, math.nan),
        lambda d: d["keep_alive"][0]["cold"].pop(),
        lambda d: d["times"]["duration"]["quantiles_s"].update(p10=math.inf),
    ],
)
def test_damage_is_refused(whole: dict[str, Any], change: Any) -> None:
    d = json.loads(json.dumps(whole))
    invocations.from_dict(d)
    change(d)
    with pytest.raises(ModelError):
        invocations.from_dict(d)


def test_score_sees_another_keep_alive_curve(tmp_path: Path) -> None:
    a = stored(tmp_path / "a", "invocations", calls())
    slow = calls().with_columns(arrival_ns=pl.col("arrival_ns") * 20)
    lines = {
        x.metric: x.value for x in invocations.score(a, stored(tmp_path / "b", "invocations", slow))
    }
    assert lines["P(cold) at 10 min"] > 0.05  # type: ignore[operator]
    assert lines["idle time KS D"] > 0.05  # type: ignore[operator]
    assert lines["duration KS D"] == 0


# --- published figures -----------------------------------------------------------------------------


@pytest.mark.real_data
def test_azure_2019(real_data: Path, tmp_path: Path) -> None:
    path = real_data / "serverless/azure-functions-2019/sample_100/invocations.csv"
    found, _ = fitted(Store(tmp_path).ingest([path], "az"))
    assert (found.invocations, found.functions) == (339_657, 100)
    assert found.top_share == pytest.approx(0.805, abs=5e-4)
    assert found.bins is not None
    assert found.bins.idc == pytest.approx(8.83, abs=5e-3)
    assert found.bins.bins == 480
    curve = found.kept("function")
    assert curve is not None
    assert curve.entities + curve.later == 11_485
    for minutes, cold in {1: 4215, 5: 734, 10: 481, 20: 248, 60: 123}.items():
        assert curve.cold_starts(60.0 * minutes) == pytest.approx(cold, abs=0.05)


@pytest.mark.real_data
def test_azure_2021(real_data: Path, tmp_path: Path) -> None:
    path = (
        real_data / "serverless/azure-functions-2021/AzureFunctionsInvocationTrace2021_head500.csv"
    )
    trace = Store(tmp_path).ingest([path], "az")
    found, _ = fitted(trace)
    assert found.concurrency_peak == 23
    for per_app, figures in ((True, (99, 20, 18)), (False, (234, 50, 47))):
        idle, first = idle_counts(trace, per_app)
        cold = first + beyond(idle, np.array([60.0, 600.0, 1200.0]))
        assert tuple(np.round(cold, 6)) == figures
    t = trace.query("arrivals/gap_counts")
    gaps = Counts.exact(t["gap_ns"].to_numpy() / S, t["n"].to_numpy(), "s")
    assert math.sqrt(gaps.var()) / gaps.mean == pytest.approx(2.00, abs=6e-3)
    laws = {f.family: f for f in fit_families(gaps, ("weibull", "exponential"))}
    weibull = laws["weibull"]
    assert weibull.params["shape"] == pytest.approx(0.2533, abs=5e-5)
    assert weibull.params["scale"] == pytest.approx(0.4667, abs=1e-4)
    assert weibull.ks_d == pytest.approx(0.117, abs=6e-4)
    assert laws["exponential"].ks_d == pytest.approx(0.557, abs=6e-4)

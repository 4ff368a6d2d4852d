"""Repeats and capacity against closed forms."""

from __future__ import annotations

from dataclasses import replace
from math import comb
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from lamina_traces import runs, specs, studies, workloads
from lamina_traces.errors import ModelError, UsageError
from lamina_traces.profile import Profile
from lamina_traces.specs import Serving
from lamina_traces.store import Store, Trace

MS = 1_000_000
SPEC = specs.simple("llama-3.1-8b", "h100-sxm")


def one_at_a_time(replicas: int = 1) -> Serving:
    """Serves one sequence at a time, so that prompts of one length with one token are a queue with constant service."""
    spec = specs.simple("llama-3.1-8b", "h100-sxm", replicas=replicas)
    replica = replace(spec.pools[0].replica, batch=specs.Batch(max_num_seqs=1))
    return replace(spec, pools=(replace(spec.pools[0], replica=replica),))


def recorded(folder: Path, gaps_s: np.ndarray) -> workloads.Source:
    """A trace of prompts of 1,000 tokens and one output token with these gaps."""
    n = len(gaps_s)
    frame = pl.DataFrame(
        {
            "row_id": np.arange(n),
            "arrival_ns": (np.cumsum(gaps_s) * 1e9).astype(np.int64),
            "input_tokens": np.full(n, 1000, np.int32),
            "output_tokens": np.ones(n, np.int32),
            "status": ["ok"] * n,
        }
    )
    store = Store(folder / "store")
    with store.writer("t", kind="llm", nature="synthetic") as writer:
        writer.write("llm_requests", frame)
        writer.commit(clock="relative", format="lamina")
    return workloads.Source(store.trace("t"))


@pytest.fixture
def service_s(tmp_path: Path) -> float:
    """Of one such prompt."""
    (tmp_path / "lone").mkdir()
    trace, _ = recorded(tmp_path / "lone", np.ones(2)).at(0)
    return float(runs.simulate(trace, one_at_a_time()).requests()["e2e_s"][0])


def test_intervals_of_medians() -> None:
    # by hand: with 6 values the range misses the median when all lie on one side: 2 / 2^6
    assert studies.median_interval([3, 1, 2, 6, 5, 4]) == (3.5, 1, 6, 1 - 2 / 64)
    assert studies.median_interval([1.0, 2.0])[3] == 0.5
    assert studies.median_interval([7.0])[1:] == (7.0, 7.0, 0.0)
    # the textbook's n = 20: the 6th and 15th value, 95.9 %
    middle, low, high, level = studies.median_interval([float(i) for i in range(1, 21)])
    assert (middle, low, high) == (10.5, 6.0, 15.0)
    assert level == pytest.approx(1 - 2 * sum(comb(20, i) for i in range(6)) / 2**20)
    rng = np.random.default_rng(0)
    hits = 0
    for _ in range(2000):
        _, low, high, level = studies.median_interval(rng.exponential(size=12).tolist())
        hits += low <= np.log(2) <= high
    assert hits / 2000 == pytest.approx(level, abs=0.015)


def test_repeats_pair_seeds_across_deployments() -> None:
    source = workloads.Source(Profile.library("azure-code"))
    one = studies.repeats(source, SPEC, 3, seed=5)
    two = studies.repeats(source, specs.simple("llama-3.1-8b", "h100-sxm", replicas=2), 3, seed=5)
    assert one.seeds == two.seeds == (5, 6, 7)
    assert one.row_hashes == two.row_hashes
    assert len(set(one.row_hashes)) == 3
    means = [m["ttft_mean_s"] for m in one.metrics]
    assert one.summary()["ttft_mean_s"] == (float(np.median(means)), min(means), max(means))
    told = one.to_dict()
    assert told["ttft_mean_s"] == float(np.median(means))
    assert told["intervals"]["ttft_mean_s"] == [min(means), max(means)]
    assert told["interval_level"] == 0.75
    assert [r["seed"] for r in told["runs"]] == [5, 6, 7]
    ratio = studies.paired(one, two)
    assert ratio["usd_per_hour"] == (2.0, 2.0, 2.0)
    assert ratio["ttft_mean_s"][2] < 1
    again = studies.repeats(source, SPEC, 3, seed=6)
    with pytest.raises(UsageError, match="not run on the same seeds"):
        studies.paired(one, again)


def test_a_recorded_trace_happened_once(tmp_path: Path) -> None:
    source = recorded(tmp_path, np.ones(10))
    with pytest.raises(UsageError, match="cannot be repeated"):
        studies.repeats(source, SPEC, 3)
    drawn = studies.repeats(replace(source, poisson=2.0), SPEC, 3)
    assert len({m["span_s"] for m in drawn.metrics}) == 3


def test_capacity_of_a_clocked_queue_is_one_over_its_service(
    tmp_path: Path, service_s: float
) -> None:
    """D/D/1 never waits below a load of one; above, the wait of the i-th is i times what the gap is short of."""
    source = recorded(tmp_path, np.full(2000, 5.0))
    slo = runs.parse_slo(f"e2e={1.5 * service_s * 1e6:.0f}us")
    for replicas in (1, 2):
        got = studies.capacity(source, one_at_a_time(replicas), slo)
        assert got.req_s_per_gpu == pytest.approx(1 / service_s, rel=0.035)
        assert got.high_req_s is not None
        assert got.low_req_s is not None
        assert got.high_req_s / got.low_req_s <= studies.CLOSE + 0.001
        assert len(got.probes) < studies.MOST_RUNS
        assert "recorded time" in got.headline()


def test_capacity_of_md1_under_a_limit_on_waiting(tmp_path: Path, service_s: float) -> None:
    """An arrival of M/D/1 finds the server idle with probability 1 − ρ: half do not wait at ρ = ½."""
    gaps = np.random.default_rng(3).exponential(1.0, 20_000)
    limit = runs.parse_slo("queue=1us", 0.5)
    source = recorded(tmp_path, gaps)
    got = studies.capacity(source, one_at_a_time(), limit)
    assert got.req_s_per_gpu == pytest.approx(0.5 / service_s, rel=0.05)
    for probe in got.probes:
        if not probe.saturated:
            assert probe.attainment == pytest.approx(1 - probe.rate_req_s * service_s, abs=0.03)
    # which says the same of the median
    median = studies.capacity(source, one_at_a_time(), runs.parse_slo("queue.p50=1us"))
    assert median.req_s_per_gpu == got.req_s_per_gpu
    # the mean wait is ρ·s / 2(1 − ρ): half a service time at ρ = ½
    mean = runs.parse_slo(f"queue.mean={service_s / 2 * 1e3:g}ms")
    on_mean = studies.capacity(source, one_at_a_time(), mean)
    assert on_mean.req_s_per_gpu == pytest.approx(0.5 / service_s, rel=0.05)


def test_limits_out_of_reach_are_said(tmp_path: Path) -> None:
    source = recorded(tmp_path, np.ones(50))
    got = studies.capacity(source, SPEC, runs.parse_slo("ttft=1us"))
    assert got.req_s_per_gpu is None
    assert got.why is not None
    assert "out of reach" in got.why
    assert got.to_dict()["capacity_req_s_per_gpu_why"] == got.why
    assert len(got.probes) < studies.MOST_RUNS
    with pytest.raises(UsageError, match="no share"):
        runs.parse_slo("ttft=1s", 99)
    with pytest.raises(ModelError, match="no rate"):
        studies.capacity(replace(source, where="row_id = 1"), SPEC, runs.parse_slo("ttft=1s"))


def test_a_profile_is_scaled_by_the_generator() -> None:
    source = workloads.Source(Profile.library("azure-code"), poisson=None)
    one, left = source.at(1)
    three, also = source.at(1, 3.0)
    assert (left, also) == (1.0, 1.0)
    assert three.manifest.rows / one.manifest.rows == pytest.approx(3, rel=0.2)


def test_groups_of_a_column_are_kept_with_the_run(tmp_path: Path) -> None:
    source = recorded(tmp_path, np.full(90, 0.01))
    trace = source.found
    assert isinstance(trace, Trace)
    store = Store(tmp_path / "other")
    rows = trace.scan("llm_requests").collect()
    who = pl.Series("tenant_id", ["a", "a", None] * 30, dtype=pl.String)
    with store.writer("t", kind="llm", nature="synthetic") as writer:
        writer.write("llm_requests", rows.with_columns(who))
        writer.commit(clock="relative", format="lamina")
    run = runs.simulate(store.trace("t"), SPEC, by="tenant", slo=runs.parse_slo("e2e=10s"))
    assert [(g["group"], g["requests"]) for g in run.groups] == [("a", 60), ("not recorded", 30)]
    e2e = run.requests().group_by("tenant_id").agg(pl.col("e2e_s").mean())
    means = dict(e2e.iter_rows())
    assert run.groups[0]["e2e_mean_s"] == pytest.approx(means["a"])
    assert run.groups[1]["e2e_mean_s"] == pytest.approx(means[None])
    run.save(store, "r")
    again = runs.Run.load(store.trace("r"))
    assert (again.by, [dict(g) for g in again.groups]) == ("tenant", [dict(g) for g in run.groups])
    assert again.requests().height == 90
    many = rows.with_columns(pl.int_range(rows.height).cast(pl.String).alias("tenant_id"))
    with store.writer("many", kind="llm", nature="synthetic") as writer:
        for i in range(12):
            writer.write(
                "llm_requests",
                many.with_columns(pl.col("row_id") + 90 * i, pl.col("tenant_id") + f"-{i}"),
            )
        writer.commit(clock="relative", format="lamina")
    with pytest.raises(UsageError, match="1,080 values"):
        runs.simulate(store.trace("many"), SPEC, by="tenant")

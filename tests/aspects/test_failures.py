"""Failures: every number by a second route from the rows, kinds, masks, load, retries, and what is not told."""

from __future__ import annotations

import itertools
import json
import math
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import polars as pl
import pytest
from lifelines import WeibullFitter
from scipy import stats

from lamina_traces.aspects import dependence, failure_rates, failures
from lamina_traces.aspects.durations import describe
from lamina_traces.aspects.failure_windows import KINDS, Pass
from lamina_traces.aspects.shares import design_effect, pooled
from lamina_traces.aspects.timeline import Timeline, scan
from lamina_traces.errors import ModelError, Notice
from lamina_traces.intervals import Blocks
from lamina_traces.store import Store, Trace

from .tables import stored

S = 10**9
GOLDEN = Path(__file__).parents[1] / "golden" / "failures-1.json"


def requests(n: int, **columns: object) -> pl.DataFrame:
    base: dict[str, object] = {"arrival_ns": np.arange(n) * S, "status": ["ok"] * n}
    frame = pl.DataFrame(base | columns)
    return frame.with_columns(
        pl.col(c).cast(pl.Int32) for c in ("input_tokens", "output_tokens") if c in frame.columns
    )


def chain(n: int, seed: int, p: float = 0.02, q: float = 0.2) -> np.ndarray:
    truth = failures.Failures(1, 1, 0.1, 0, 1, p, q, 1 / q, 9, {"timeout": (1.0, 0.0)})
    return failures.Chain.of(truth).sample(np.random.default_rng(seed).random(n), 0)[0]


def fitted(trace: Trace) -> tuple[failures.Failures, list[Notice]]:
    notices: list[Notice] = []
    f = failures.fit(trace, notices)
    assert f is not None
    return f, notices


# --- the chain, as before --------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(3))
def test_recovers_the_chain(tmp_path: Path, seed: int) -> None:
    flags = chain(40_000, seed)
    frame = requests(40_000, status=np.where(flags == 1, "timeout", "ok").tolist())
    found, _ = fitted(stored(tmp_path, "llm_requests", frame))
    assert found.failed == flags.sum()
    assert found.p_fail_after_ok == pytest.approx(0.02, rel=0.15)
    assert found.p_ok_after_fail == pytest.approx(0.2, rel=0.1)
    runs = np.diff(np.flatnonzero(np.diff(np.concatenate([[0], flags, [0]]))))[::2]
    assert found.mean_run == pytest.approx(runs.mean())
    assert found.longest_run == runs.max()
    assert found.rate_low < found.rate < found.rate_high
    assert found.rate_method == "moving blocks" or found.rate_method == "independent windows"
    assert found.n_eff is not None
    assert found.n_eff < 40_000 / 4
    i = found.chain_intervals["p_ok_after_fail"]
    assert i.low < found.p_ok_after_fail < i.high


@pytest.mark.parametrize(("statuses", "failed"), [(["ok"] * 100, 0), (["error"] * 100, 100)])
def test_all_or_none_failed(tmp_path: Path, statuses: list[str], failed: int) -> None:
    found, _ = fitted(stored(tmp_path, "llm_requests", requests(100, status=statuses)))
    assert found.failed == failed
    flags, _ = failures.Chain.of(found).sample(np.random.default_rng(0).random(50), int(failed > 0))
    assert flags.sum() == (50 if failed else 0)
    assert failures.from_dict(found.to_dict()).to_dict() == found.to_dict()


def test_unrecorded_status_is_not_a_failure_rate_of_zero(tmp_path: Path) -> None:
    notices: list[Notice] = []
    trace = stored(tmp_path, "llm_requests", requests(100, status=["unknown"] * 100))
    assert failures.fit(trace, notices) is None
    assert [n.code for n in notices] == ["not-recorded"]


def test_without_a_clock_runs_are_told_in_source_order(tmp_path: Path) -> None:
    statuses = ["ok", "error", "error", "ok", "error"] * 40
    frame = requests(200, status=statuses).with_columns(arrival_ns=pl.lit(None, pl.Int64))
    found, _ = fitted(stored(tmp_path, "llm_requests", frame))
    assert (found.requests, found.failed, found.longest_run) == (200, 120, 2)
    assert found.mean_run == pytest.approx(120 / 80)
    assert (found.over_time, found.between, found.load) == ((), None, None)


# --- by a second route -----------------------------------------------------------------------------


def bursty(n: int = 20_000, seed: int = 4) -> pl.DataFrame:
    """Runs of failures, a load that swings, unknown statuses between them, on a clock of microseconds."""
    rng = np.random.default_rng(seed)
    flags = chain(n, seed, 0.01, 0.3)
    gaps = rng.exponential(0.5, n) / (1 + 0.8 * np.sin(np.arange(n) / 1500))
    status = np.where(flags == 1, np.where(rng.random(n) < 0.4, "timeout", "error"), "ok")
    status[rng.random(n) < 0.02] = "unknown"
    t = (np.cumsum(gaps) * 1e6).astype(np.int64) * 1000
    return requests(n, arrival_ns=t, status=status.tolist())


def test_windows_runs_and_gaps_equal_those_of_the_rows(tmp_path: Path) -> None:
    frame = bursty()
    trace = stored(tmp_path, "llm_requests", frame)
    timeline = Timeline.of(trace)
    assert timeline is not None
    seen = Pass(trace, timeline)
    scan(trace, [seen])
    f = failures.fit(trace, [], seen)
    assert f is not None
    known = frame.filter(pl.col("status") != "unknown")
    t = known["arrival_ns"].to_numpy()
    bad = (known["status"] != "ok").to_numpy()
    w = (t - timeline.first_ns) // timeline.width_ns
    np.testing.assert_array_equal(seen.rows, np.bincount(w, minlength=timeline.windows))
    np.testing.assert_array_equal(seen.per_window, np.bincount(w[bad], minlength=timeline.windows))
    begins = bad & ~np.concatenate([[False], bad[:-1]])
    assert seen.runs == begins.sum()
    np.testing.assert_array_equal(seen.starts, np.bincount(w[begins], minlength=timeline.windows))
    # times between failures: the ends are known to be longer only
    at = t[bad]
    ended, cut = seen.between()
    assert ended.rows == bad.sum() - 1
    assert ended.sum == pytest.approx((at[-1] - at[0]) / 1e9)
    ends = sorted([(at[0] - t[0]) / 1e9, (timeline.last_ns - at[-1]) / 1e9])
    np.testing.assert_allclose(np.repeat(cut.x, cut.n.astype(int)), [e for e in ends if e > 0])
    np.testing.assert_allclose(
        ended.quantile(np.array([0.1, 0.5, 0.9])),
        np.percentile(np.diff(at) / 1e9, [10, 50, 90]),
        rtol=2e-3,
    )
    # overdispersion at every width: var of k given n over the binomial one
    assert [o.window_s for o in f.overdispersion] == [10.0, 60.0]
    for o in f.overdispersion:
        width = round(o.window_s * S)
        k_of = (t - timeline.first_ns) // width
        windows = timeline.span_ns // width
        n, k = (
            np.bincount(k_of[m], minlength=windows)[:windows].astype(float)
            for m in (slice(None), bad)
        )
        p = k.sum() / n.sum()
        want = ((k - n * p) ** 2).sum() / (p * (1 - p) * (n.sum() - (n**2).sum() / n.sum()))
        assert o.ratio == pytest.approx(want, rel=1e-5)
        assert o.windows == windows
        assert o.interval is not None
        assert o.interval.low < o.ratio < o.interval.high
        assert o.ratio > 1.2


def test_a_pass_does_not_depend_on_its_batches(tmp_path: Path) -> None:
    trace = stored(tmp_path, "llm_requests", bursty(5000)).mask(500 * S, 700 * S)
    timeline = Timeline.of(trace)
    one, many = Pass(trace, timeline), Pass(trace, timeline)
    scan(trace, [one])
    for rows in trace.stream(many.columns, rows=7):
        many.add(rows)
    one.close()
    many.close()
    for name in ("rows", "by_kind", "starts", "gap_n", "gap_total", "window_n", "kinds"):
        np.testing.assert_array_equal(getattr(one, name), getattr(many, name), err_msg=name)
    assert (one.runs, one.longest_run, one.cut) == (many.runs, many.longest_run, many.cut)
    for a, b in zip(one.widths, many.widths, strict=True):
        np.testing.assert_array_equal(a.sums, b.sums)


def test_nothing_is_counted_across_a_mask(tmp_path: Path) -> None:
    """Failures at 10, 11 and 20, 21 s, and a mask from 12 to 20 s: two runs, no gap of 9 s."""
    bad = (10, 11, 20, 21)
    status = ["error" if i in bad else "ok" for i in range(40)]
    trace = stored(tmp_path, "llm_requests", requests(40, status=status)).mask(12 * S, 20 * S)
    seen = Pass(trace, Timeline.of(trace))
    scan(trace, [seen])
    seen.close()
    ended, cut = seen.between()
    assert seen.runs == 2
    assert ended.x.tolist() == [1.0]
    assert ended.n.tolist() == [2.0]
    assert np.repeat(cut.x, cut.n.astype(int)).tolist() == [
        1.0,
        10.0,
        18.0,
    ]  # to and from the mask, and the edges
    whole = stored(tmp_path, "llm_requests", requests(40, status=status), "u")
    other = Pass(whole, Timeline.of(whole))
    scan(whole, [other])
    assert other.between()[0].x.tolist() == [1.0, 9.0]


def test_kinds(tmp_path: Path) -> None:
    told: dict[str, list[tuple[str, str | None, str | None]]] = {
        "content filter": [("error", "content_filter", None), ("error", None, "content_filter"), ("error", "content_policy_violation", None)],
        "rate-limited": [("error", "429", None), ("error", "RateLimitError", None), ("error", "rate limit exceeded", None), ("timeout", "429 Too Many Requests", None), ("error", "insufficient_quota", None)],
        "timeout": [("timeout", None, None), ("error", "504", None), ("error", "APITimeoutError", None), ("error", "deadline exceeded", None)],
        "client cancel": [("cancelled", None, None), ("error", "499", None), ("error", "client disconnected", None)],
        "server error": [("error", "500", None), ("error", "503", None), ("error", "InternalServerError", None), ("error", "overloaded_error", None), ("error", "CUDA out of memory", None)],
        "client error": [("error", "400", None), ("error", "404", None), ("error", "invalid_request_error", None)],
        "unknown failure": [("unknown-failure", None, None), ("error", None, None), ("error", "E17", None), ("incomplete", None, "stop")],
        "": [("ok", None, "stop"), ("ok", None, None)],
        "filtered": [("ok", None, "content_filter"), ("ok", None, "content_filter")],
    }  # fmt: skip
    rows = [(kind, *row) for kind, listed in told.items() for row in listed for _ in range(10)]
    kind, status, code, reason = (list(c) for c in zip(*rows, strict=True))
    frame = requests(
        len(rows),
        status=status,
        error_code=pl.Series(code, dtype=pl.String),
        finish_reason=pl.Series(reason, dtype=pl.String),
    )
    found, _ = fitted(stored(tmp_path, "llm_requests", frame))
    assert {k: n for k, (n, _) in found.causes.items()} == {
        k: 10 * len(v) for k, v in told.items() if k in KINDS.values()
    }
    assert found.filtered == 20
    assert found.failed == sum(10 * len(v) for k, v in told.items() if k in KINDS.values())
    assert kind.count("filtered") == 20
    assert "cut by a content filter" in " ".join(f.text for f in found.findings())
    # the pass sees what the query sees
    trace = stored(tmp_path, "llm_requests", frame)
    seen = Pass(trace, Timeline.of(trace))
    scan(trace, [seen])
    by_query = {r["kind"]: 0 for r in trace.query("failures/kind_counts").to_pylist()}
    for r in trace.query("failures/kind_counts").to_pylist():
        by_query[r["kind"]] += r["n"]
    assert {k: int(n) for k, n in enumerate(seen.kinds) if n} == by_query


# --- intervals -------------------------------------------------------------------------------------


def test_wilson_only_where_independence_is_not_rejected(tmp_path: Path) -> None:
    rng = np.random.default_rng(11)
    alone = np.where(rng.random(20_000) < 0.05, "error", "ok").tolist()
    a, _ = fitted(stored(tmp_path, "llm_requests", requests(20_000, status=alone), "a"))
    assert a.rate_method == "Wilson"
    want = stats.binomtest(a.failed, a.requests).proportion_ci(method="wilson")
    assert (a.rate_low, a.rate_high) == pytest.approx((want.low, want.high), abs=1e-12)
    runs = np.where(chain(20_000, 5, 0.005, 0.1) == 1, "error", "ok").tolist()
    b, _ = fitted(stored(tmp_path, "llm_requests", requests(20_000, status=runs), "b"))
    assert "Wilson" not in b.rate_method
    narrow = stats.binomtest(b.failed, b.requests).proportion_ci(method="wilson")
    assert b.rate_high - b.rate_low > 2 * (narrow.high - narrow.low)


def test_few_windows_fall_back_on_the_chain() -> None:
    """Without windows, the interval is Wilson's over (1 + ρ)/(1 − ρ)."""
    flags = chain(5000, 3, 0.02, 0.2)
    failed = float(flags.sum())
    runs = float((np.diff(np.concatenate([[0], flags])) == 1).sum())
    found = failure_rates.chance(5000, failed, runs)
    rho = np.corrcoef(flags[:-1], flags[1:])[0, 1]
    assert found[0] == pytest.approx(rho, abs=0.01)
    assert found[1] < 1e-6
    i = failure_rates.rate_interval(5000, failed, np.zeros(0), np.zeros(0), found)
    effect = (1 + found[0]) / (1 - found[0])
    want = stats.binomtest(500, 5000).proportion_ci(method="wilson")
    assert i.n_eff == pytest.approx(5000 / effect, rel=1e-3)
    assert i.high - i.low > (want.high - want.low) * 1.5


def test_design_effect_counts_what_varies_within_groups_alone() -> None:
    rng = np.random.default_rng(3)
    n = np.full(400, 500.0)
    group = np.repeat(np.arange(4), 100)
    k = rng.binomial(500, np.array([0.02, 0.05, 0.1, 0.2])[group]).astype(float)
    assert design_effect(n, k) > 10
    assert design_effect(n, k, group) == pytest.approx(1, abs=0.25)
    beta = rng.beta(2, 38, 400)
    clustered = rng.binomial(500, beta).astype(float)
    want = 1 + (500 - 1) / (2 + 38 + 1)  # beta-binomial: 1 + (n − 1)/(α + β + 1)
    assert design_effect(n, clustered) == pytest.approx(want, rel=0.25)


def test_cells_tell_of_ten_failures_or_none() -> None:
    rng = np.random.default_rng(5)
    for _ in range(200):
        n = rng.integers(0, 60, 30).astype(float)
        k = rng.binomial(n.astype(int), rng.choice([0.0, 0.02, 0.3])).astype(float)
        cells = pooled(k, n)
        for a, b in cells:
            assert n[a:b].sum() >= 10
            assert k[a:b].sum() == 0 or k[a:b].sum() >= 10
        if cells:
            assert sum(n[a:b].sum() for a, b in cells) == n.sum()
            assert all(x[1] == y[0] for x, y in itertools.pairwise(cells))


# --- load ------------------------------------------------------------------------------------------


def test_load(tmp_path: Path) -> None:
    """Every request fails with a probability that its window's load sets."""
    rng = np.random.default_rng(9)
    n = 60_000
    swing = 1 + 0.6 * np.sin(np.arange(n) / 900)
    t = (np.cumsum(rng.exponential(0.5, n) / swing) * 1e9).astype(np.int64)
    status = np.where(rng.random(n) < 0.05 * swing**2, "error", "ok").tolist()
    trace = stored(tmp_path, "llm_requests", requests(n, arrival_ns=t, status=status))
    timeline = Timeline.of(trace)
    assert timeline is not None
    found, _ = fitted(trace)
    load = found.load
    assert load is not None
    w = (t - t[0]) // timeline.width_ns
    rows = np.bincount(w, minlength=timeline.windows).astype(float)
    bad = np.bincount(w[np.array(status) == "error"], minlength=timeline.windows).astype(float)
    assert load.spearman == pytest.approx(stats.spearmanr(rows, bad / rows).statistic, rel=1e-5)
    order = np.argsort(rows, kind="stable")
    low, high = np.array_split(order, 10)[0], np.array_split(order, 10)[-1]
    ratio = (bad[high].sum() / rows[high].sum()) / (bad[low].sum() / rows[low].sum())
    first, last = found.by_load[0], found.by_load[-1]
    assert last.rate / first.rate == pytest.approx(load.top_to_bottom, rel=1e-5)
    if len(found.by_load) == 10:
        assert load.top_to_bottom == pytest.approx(ratio, rel=1e-5)
    assert load.top_to_bottom_interval is not None
    assert load.top_to_bottom_interval.low > 3
    assert load.spearman_interval is not None
    assert load.spearman_interval.low > 0.5
    assert load.explained is not None
    assert load.explained > 0.8
    assert sum(c.requests for c in found.by_load) == n
    for c in (*found.by_load, *found.over_time):
        assert c.failed == 0 or c.failed >= 10
        assert c.interval.low <= c.rate <= c.interval.high
    assert len(found.over_time) <= 48


def test_clusters_in_time_are_not_explained_by_load(tmp_path: Path) -> None:
    rng = np.random.default_rng(10)
    n = 60_000
    t = (np.cumsum(rng.exponential(0.5, n)) * 1e9).astype(np.int64)
    down = ((np.arange(n) // 2000) % 5) == 2
    status = np.where(rng.random(n) < np.where(down, 0.3, 0.01), "error", "ok").tolist()
    found, _ = fitted(stored(tmp_path, "llm_requests", requests(n, arrival_ns=t, status=status)))
    assert found.load is not None
    assert found.load.explained is not None
    assert found.load.explained < 0.15
    assert found.load.spearman_interval is not None
    assert found.load.spearman_interval.low < 0 < found.load.spearman_interval.high


def test_weighted_rank_correlation_is_that_of_repeated_rows() -> None:
    rng = np.random.default_rng(2)
    x, y = rng.integers(0, 9, 40).astype(float), rng.integers(0, 9, 40).astype(float)
    weights = rng.integers(0, 4, (5, 40)).astype(float)
    got = dependence.rank_correlation(weights, x, y)
    for w, value in zip(weights, got, strict=True):
        again = w.astype(int)
        want = stats.spearmanr(np.repeat(x, again), np.repeat(y, again)).statistic
        assert value == pytest.approx(want, rel=1e-10)


def test_independent_failures_show_nothing(tmp_path: Path) -> None:
    rng = np.random.default_rng(12)
    t = (np.cumsum(rng.exponential(0.5, 40_000)) * 1e9).astype(np.int64)
    status = np.where(rng.random(40_000) < 0.05, "error", "ok").tolist()
    found, _ = fitted(
        stored(tmp_path, "llm_requests", requests(40_000, arrival_ns=t, status=status))
    )
    assert found.mean_run == pytest.approx(1 / 0.95, rel=0.03)
    for o in found.overdispersion:
        assert o.ratio == pytest.approx(1, abs=4 * math.sqrt(2 / o.windows))
        assert o.interval is not None
        assert o.interval.low < 1 < o.interval.high
    assert found.between is not None
    shape = next(x for x in found.between.families if x.family == "weibull").params["shape"]
    assert shape == pytest.approx(1, abs=0.05)
    texts = " ".join(x.text for x in found.findings())
    assert "no more frequent than by chance" in texts


# --- time between failures -------------------------------------------------------------------------


def test_time_between_failures_equals_lifelines(tmp_path: Path) -> None:
    rng = np.random.default_rng(6)
    at = np.cumsum(rng.weibull(0.6, 500) * 60)
    fails = (at * 1e9).astype(np.int64)
    fine = np.sort(
        np.concatenate([fails, (rng.random(5000) * at[-1] * 1.02 * 1e9).astype(np.int64)])
    )
    status = np.where(np.isin(fine, fails), "error", "ok").tolist()
    found, _ = fitted(
        stored(tmp_path, "llm_requests", requests(len(fine), arrival_ns=fine, status=status))
    )
    between = found.between
    assert between is not None
    gaps = np.diff(fails) / 1e9
    edges = np.array([fails[0] - fine[0], fine[-1] - fails[-1]]) / 1e9
    t = np.concatenate([gaps, edges])
    theirs = WeibullFitter().fit(t, np.arange(len(t)) < len(gaps))
    ours = next(x for x in between.families if x.family == "weibull")
    assert ours.params["shape"] == pytest.approx(theirs.rho_, rel=2e-3)
    assert ours.params["scale"] == pytest.approx(theirs.lambda_, rel=2e-3)
    assert between.families[0].family == "weibull"
    assert (between.rows, between.censored) == (499, 2)
    assert between.survival is not None
    assert "likeliest right after one" in " ".join(x.text for x in found.findings())


# --- retries ---------------------------------------------------------------------------------------


def test_retries_are_found_and_chance_is_told(tmp_path: Path) -> None:
    """Of 200 failures 120 are sent again after 5 s, 90 of those succeed; other traffic never repeats a length."""
    rows: list[dict[str, Any]] = []
    for i in range(200):
        user, length, at = f"u{i}", 1000 + i, i * 1000
        rows.append({"at": at, "user": user, "n": length, "status": "error"})
        if i < 120:
            rows.append(
                {"at": at + 5, "user": user, "n": length, "status": "ok" if i < 90 else "error"}
            )
            if i < 20:  # a success that is asked again at once, by chance
                rows.append({"at": at + 30, "user": user, "n": length, "status": "ok"})
        elif i < 150:
            rows.append({"at": at + 90, "user": user, "n": length, "status": "ok"})  # too late
        else:
            rows.append(
                {"at": at + 5, "user": f"v{i}", "n": length, "status": "ok"}
            )  # another sender
    frame = requests(
        len(rows),
        arrival_ns=[r["at"] * S for r in rows],
        status=[r["status"] for r in rows],
        input_tokens=[r["n"] for r in rows],
        user_id=[r["user"] for r in rows],
    )
    found, notices = fitted(stored(tmp_path, "llm_requests", frame.sort("arrival_ns")))
    r = found.retries
    assert r is not None
    assert r.failures == 230  # 30 retries failed, too, and are failures of their own
    assert r.share == pytest.approx(120 / 230, rel=1e-5)
    assert r.success == pytest.approx(90 / 120)
    assert r.delays_s["p50"] == pytest.approx(5)
    successes = 90 + 20 + 30  # of senders and lengths that ever failed
    assert r.share_after_success == pytest.approx(20 / successes, rel=1e-5)
    assert [n.code for n in notices if "retr" in n.code] == ["retry-heuristic"]
    assert any(x.warning == "retry-heuristic" for x in found.findings())


def test_retries_that_cannot_be_told_are_said(tmp_path: Path) -> None:
    status = (["ok"] * 9 + ["error"]) * 50
    found, notices = fitted(stored(tmp_path, "llm_requests", requests(500, status=status)))
    assert found.retries is None
    assert "no-retries" in [n.code for n in notices]
    lost = requests(
        500,
        status=status,
        user_id=["u"] * 500,
        input_tokens=pl.Series([None if s == "error" else 5 for s in status], dtype=pl.Int32),
    )
    found, notices = fitted(stored(tmp_path, "llm_requests", lost, "u"))
    assert found.retries is None
    assert "no-retries" in [n.code for n in notices]


# --- the profile -----------------------------------------------------------------------------------


def test_version_1_is_read() -> None:
    old = json.loads(GOLDEN.read_text())
    found = failures.from_dict(old)
    assert (found.requests, found.failed, found.rate_method) == (4000, 362, "Wilson")
    assert found.over_time == ()
    again = found.to_dict()
    assert again["version"] == 2
    assert failures.from_dict(again) == found
    assert all(again[k] == v for k, v in old.items() if k != "version")


def test_a_profile_is_small_and_comes_back(tmp_path: Path) -> None:
    found, _ = fitted(stored(tmp_path, "llm_requests", bursty(20_000)))
    text = json.dumps(found.to_dict())
    assert len(text) < 14_000
    again = failures.from_dict(json.loads(text))
    assert json.dumps(again.to_dict()) == text
    assert len(again.findings()) >= 4


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What a profile stores, to be damaged."""
    return fitted(stored(tmp_path_factory.mktemp("whole"), "llm_requests", bursty(20_000)))[
        0
    ].to_dict()


@pytest.mark.parametrize(
    ("change", "match"),
    [
        (lambda d: d.update(rate=1.5), "outside"),
        (lambda d: d.update(failed=10**9), "in range"),
        (lambda d: d["kinds"].update(gremlins={"share": 0.1, "without_lengths": 0}), "gremlins"),
        (lambda d: d["over_time"]["failed"].__setitem__(0, 10**9), "more failures"),
        (lambda d: d["by_load"]["rate_high"].__setitem__(0, math.nan), "interval"),
        (lambda d: d["overdispersion"][0].update(ratio=-1.0), "in range"),
        (lambda d: d["between"].update(mean_s=-1.0), "durations"),
        (lambda d: d["between"]["survival"]["survival"].__setitem__(0, 7.0), "survival"),
    ],
)
def test_damage_is_refused(whole: dict[str, Any], change: Any, match: str) -> None:
    d = json.loads(json.dumps(whole))
    change(d)
    with pytest.raises(ModelError, match=match):
        failures.from_dict(d)


def test_statuses_of_few_are_pooled(tmp_path: Path) -> None:
    status = (
        ["ok"] * 900 + ["error"] * 80 + ["timeout"] * 15 + ["cancelled"] * 3 + ["incomplete"] * 2
    )
    found, _ = fitted(stored(tmp_path, "llm_requests", requests(1000, status=status)))
    assert set(found.kinds) == {"error", "timeout", "unknown-failure"}
    assert found.kinds["unknown-failure"][0] == pytest.approx(0.05)
    assert sum(s for s, _ in found.kinds.values()) == pytest.approx(1)
    assert set(found.causes) == {"unknown failure", "timeout"}


def test_score_is_zero_for_itself_and_sees_clustering(tmp_path: Path) -> None:
    a = stored(tmp_path / "a", "llm_requests", bursty(20_000))
    alone = np.where(np.random.default_rng(1).random(20_000) < 0.03, "error", "ok").tolist()
    b = stored(tmp_path / "b", "llm_requests", bursty(20_000).with_columns(status=pl.Series(alone)))
    assert all(x.value == 0 for x in failures.score(a, a))
    lines = {x.metric: x.value for x in failures.score(a, b)}
    assert lines["mean run of failures"] > 0.5  # type: ignore[operator]
    assert lines["overdispersion"] > 0.5  # type: ignore[operator]
    assert lines["kinds, total variation"] == pytest.approx(0.4, abs=0.1)


def test_explained_is_none_where_there_is_nothing_to_explain() -> None:
    rng = np.random.default_rng(3)
    n = np.full(200, 400.0)
    k = rng.binomial(400, 0.05, 200).astype(float)
    groups = failure_rates.deciles(n + rng.random(200))
    assert failure_rates.explained(n, k, groups, Blocks.of(k)) == (None, None)


def test_the_pass_needs_no_more_than_two_columns() -> None:
    fake = SimpleNamespace(manifest=SimpleNamespace(tick_ns=1))
    seen = Pass(fake, None)  # type: ignore[arg-type]
    assert set(seen.columns) == {"arrival_ns", "failure_kind"}


def test_describe_takes_zero_gaps_as_less_than_a_tick() -> None:
    """A clock of 1 s: a tenth of the gaps are zero, and the exponential law is still found."""
    from lamina_traces.counts import Counts

    rng = np.random.default_rng(4)
    t = np.floor(np.cumsum(rng.exponential(8.0, 5000)))
    d = describe(Counts.of(np.diff(t)), tick_s=1.0)
    assert d.zero_share > 0.05
    scale = next(f for f in d.families if f.family == "exponential").params["scale"]
    assert scale == pytest.approx(8.0, rel=0.05)


@pytest.mark.real_data
def test_burstgpt(real_data: Path, tmp_path: Path) -> None:
    """A failure is a request without response tokens: 17 of the first 400, 4.25 %."""
    import csv

    path = real_data / "llm" / "BurstGPT_1.head400.csv"
    with path.open(newline="") as file:
        rows = list(csv.DictReader(file))
    bad = np.array([r["Response tokens"] == "0" for r in rows])
    found, notices = fitted(Store(tmp_path).ingest([path], "b"))
    assert (found.requests, found.failed) == (400, int(bad.sum())) == (400, 17)
    assert set(found.causes) == {"unknown failure"}
    starts = int((np.diff(np.concatenate([[0], bad.astype(int)])) == 1).sum())
    assert found.mean_run == pytest.approx(17 / starts)
    assert "no-retries" in [n.code for n in notices]
    assert "design effect" in found.rate_method or found.rate_method == "Wilson" or "w" in found.rate_method  # fmt: skip

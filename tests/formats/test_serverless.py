"""Serverless formats: units, bins, nulls, several tables, and the figures of the real files."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from scipy import stats

from lamina_traces.errors import DataError
from lamina_traces.store import Store
from tests.formats.fixtures_serverless import FIXTURES, PATHS
from tests.formats.reads import write
from tests.formats.tables import Fixtures, read_tables

S, MINUTE, DAY = 10**9, 60 * 10**9, 86_400 * 10**9


FIXED = Fixtures(FIXTURES, PATHS)
placed, fixture = FIXED.placed, FIXED.read


# Azure


def test_azure_minutes_have_their_column_s_name(tmp_path: Path) -> None:
    got = fixture(tmp_path, "azure_functions_2019")
    rows = got["invocation_counts"].select("func_id", "arrival_ns", "invocations").rows()
    assert rows == [
        ("f2", DAY + 479 * MINUTE, 9), ("f1", DAY + 480 * MINUTE, 1),
        ("f1", DAY + 485 * MINUTE, 1), ("f2", DAY + 488 * MINUTE, 3),
    ]  # fmt: skip
    assert "observed" in got.codes
    text = FIXTURES["azure_functions_2019"].replace(b"f1,timer,0", b"f1,timer,-1")
    assert read_tables(placed(tmp_path, "azure_functions_2019", text)).rejects[
        "line"
    ].to_list() == [2]


def test_azure_statistics(tmp_path: Path) -> None:
    got = fixture(
        tmp_path,
        "azure_functions_2019_durations",
        "azure_functions_2019_memory",
        "azure_functions_2019",
    )
    assert got.summary.format == "azure_functions_2019"
    table = got["function_stats"]
    f1 = {(r["metric"], r["stat"]): r for r in table.filter(func_id="f1").iter_rows(named=True)}
    assert f1["duration_s", "mean"]["value"] == 0.071
    assert f1["duration_s", "max"]["value"] == 1.458
    assert f1["duration_30s_mean_s", "p99"]["value"] == 1.265
    assert f1["duration_s", "min"]["samples"] == 288
    f2 = table.filter(func_id="f2", metric="duration_s")
    assert f2["stat"].to_list() == ["mean"], "a minimum that is missing is no row"
    memory = table.filter(pl.col("func_id").is_null())
    assert memory.filter(stat="p50")["value"].to_list() == [9.75]
    assert set(memory["app_id"]) == {"a1"}


@pytest.mark.real_data
def test_azure_2019_figures(real_data: Path) -> None:
    base = real_data / "serverless/azure-functions-2019"
    got = read_tables(base / "sample_100")
    counts = got["invocation_counts"]
    assert (counts["invocations"].sum(), counts.height) == (339_657, 11_485)
    by_function = counts.group_by("func_id").agg(pl.col("invocations").sum())["invocations"]
    assert by_function.max() / by_function.sum() == pytest.approx(0.805, abs=5e-4)  # type: ignore[operator]
    minutes = counts.group_by("arrival_ns").agg(pl.col("invocations").sum())
    per = np.zeros(480)
    per[: minutes.height] = minutes["invocations"].to_numpy()
    assert per.var(ddof=1) / per.mean() == pytest.approx(8.83, abs=0.02)
    assert counts["arrival_ns"].min() == 479 * MINUTE
    assert counts["arrival_ns"].max() <= 958 * MINUTE  # type: ignore[operator]
    cold = {k: _keep_alive(counts, k) for k in (1, 5, 10, 20, 60)}
    assert cold == {1: 4215, 5: 734, 10: 481, 20: 248, 60: 123}
    full = read_tables(base / "full_day_layout_3fn")["invocation_counts"]
    assert full["arrival_ns"].min() == 0
    plain = [
        line.split(",")
        for line in (base / "full_day_layout_3fn/invocations.csv").read_text().split()
    ]
    last = max(int(plain[0][i]) for row in plain[1:] for i in range(4, 1444) if int(row[i]))
    assert full["arrival_ns"].max() == (last - 1) * MINUTE
    assert full["invocations"].sum() == sum(int(c) for row in plain[1:] for c in row[4:])
    assert full.columns == counts.columns
    assert got["function_stats"].filter(metric="memory_mb")["func_id"].null_count() == 0


def _keep_alive(counts: pl.DataFrame, minutes: int) -> int:
    """Cold minutes of a fixed keep-alive at the grain of a minute."""
    gaps = counts.sort("func_id", "arrival_ns").select(
        (pl.col("arrival_ns") - pl.col("arrival_ns").shift(1).over("func_id")).alias("gap")
    )["gap"]
    return int((gaps.is_null() | (gaps > minutes * MINUTE)).sum())


def test_azure_2021_starts_are_ends_less_durations(tmp_path: Path) -> None:
    got = fixture(tmp_path, "azure_functions_2021")["invocations"]
    assert got["arrival_ns"].to_list() == [1_490_900, 3_860_041, 57_200_000_000]
    assert got["func_id"].to_list() == ["a1/f1", "a2/f1", "a1/f2"]
    assert got["duration_s"].to_list() == [0.078, 57.154, 0.0]


@pytest.mark.real_data
def test_azure_2021_figures(real_data: Path) -> None:
    got = read_tables(next((real_data / "serverless/azure-functions-2021").iterdir()))[
        "invocations"
    ]
    assert (got.height, (got["duration_s"] == 0).sum()) == (500, 37)
    assert got["arrival_ns"].is_sorted()
    ends = got["arrival_ns"] + (got["duration_s"] * 1e9).round(0).cast(pl.Int64)
    assert not ends.is_sorted()
    gaps = np.diff(got["arrival_ns"].to_numpy()) / 1e9
    assert gaps.mean() == pytest.approx(5.41, abs=5e-3)
    assert np.median(gaps) == pytest.approx(0.0287, abs=5e-5)
    assert gaps.std(ddof=1) / gaps.mean() == pytest.approx(2.00, abs=5e-3)
    shape, _, scale = stats.weibull_min.fit(gaps, floc=0)
    assert (shape, scale) == pytest.approx((0.2533, 0.4667), rel=5e-4)
    assert stats.kstest(gaps, stats.weibull_min(shape, 0, scale).cdf).statistic == pytest.approx(
        0.117, abs=6e-4
    )
    assert stats.kstest(gaps, stats.expon(0, gaps.mean()).cdf).statistic == pytest.approx(
        0.557, abs=6e-4
    )
    begins = got["arrival_ns"].to_list()
    calls = list(zip(begins, ends.to_list(), strict=True))
    steps = sorted([(t, 1) for t, _ in calls] + [(t, -1) for _, t in calls])
    assert max(np.cumsum([step for _, step in steps])) == 23
    for key, cold in (("app_id", [99, 20, 18]), ("func_id", [234, 50, 47])):
        assert [_cold_starts(got[key].to_list(), calls, t) for t in (60, 600, 1200)] == cold


def _cold_starts(keys: list[str], calls: list[tuple[int, int]], keep_alive_s: int) -> int:
    """Cold starts of one instance a key that is kept for a while after its last end."""
    until: dict[str, int] = {}
    cold = 0
    for key, (begin, end) in zip(keys, calls, strict=True):
        cold += key not in until or begin > until[key]
        until[key] = max(until.get(key, 0), end + keep_alive_s * S)
    return cold


# AWS Lambda


def test_lambda_perf_generations(tmp_path: Path) -> None:
    got = fixture(tmp_path, "lambda_perf")
    rows = got["cold_starts"]
    assert rows["init_s"].to_list() == [0.13125, 0.1315]
    assert "total_s" not in rows.columns, "an init is no whole cold start"
    assert rows.select("runtime", "memory_limit_mb", "arch", "package_type").row(0) == (
        "go",
        256,
        "arm64",
        "zip",
    )
    assert got.summary.version == "short keys"
    long = {
        "metadata": {"generatedAt": "2022-09-04T05:35:33.929Z"},
        "runtimeData": [{"runtime": "lambda-perf-go1x", "initDurations": [69.75], "memorySize": 128, "averageDuration": 4.0}],
    }  # fmt: skip
    older = read_tables(write(tmp_path / "l.json", json.dumps(long, indent=1)))
    row = older["cold_starts"].row(0, named=True)
    assert (row["runtime"], row["arch"], row["init_s"]) == ("go1x", None, 0.06975)
    assert older["cold_starts"].columns == rows.columns
    empty = write(
        tmp_path / "e.json",
        '{"metadata":{"generatedAt":"2025-09-29T14:00:07.069Z"},"runtimeData":[]}',
    )
    assert read_tables([empty, placed(tmp_path, "lambda_perf")]).summary.other == 1
    with pytest.raises(DataError, match="no rows"):
        read_tables(empty)


@pytest.mark.real_data
def test_lambda_perf_figures(real_data: Path) -> None:
    base = real_data / "serverless/lambda-perf"
    got = read_tables(base / "2026-02-02.json")["cold_starts"]
    x = got["init_s"].to_numpy() * 1000
    assert (got["func_id"].n_unique(), len(x)) == (588, 5878)
    assert np.quantile(x, [0.5, 0.9, 0.99]) == pytest.approx([120.9, 312.8, 515.2], abs=0.06)
    logs = np.log(x)
    assert (logs.mean(), logs.std()) == pytest.approx((4.724, 0.857), abs=6e-4)
    law = stats.lognorm(logs.std(), 0, math.exp(logs.mean()))
    assert stats.kstest(x, law.cdf).statistic == pytest.approx(0.056, abs=6e-4)
    means = got.with_columns(
        pl.col("extra")
        .str.json_path_match("$.averageColdStartDuration")
        .cast(pl.Float64)
        .alias("acd")
    )
    means = means.group_by("func_id").agg(pl.col("init_s").mean() * 1000, pl.col("acd").first())
    assert (means["init_s"] - means["acd"]).abs().max() <= 0.0005 + 1e-9  # type: ignore[operator]
    days = read_tables(base)
    assert days.summary.other == 1, "the empty day"
    assert days["cold_starts"].height == days.summary.kept


def test_cold_starts_without_a_total_are_fitted_by_what_they_record(tmp_path: Path) -> None:
    from lamina_traces.characterization import characterize
    from lamina_traces.profile import Profile

    for part in ("init", "model_load"):
        rows = {
            "row_id": range(40),
            "func_id": ["f"] * 40,
            "arrival_ns": [i * 10**9 for i in range(40)],
            f"{part}_s": [0.1 + 0.01 * (i % 7) for i in range(40)],
        }
        with Store(tmp_path / part).writer("t", kind="serverless", nature="synthetic") as w:
            w.write("cold_starts", pl.DataFrame(rows))
            trace = w.commit(clock="relative", format="test")
        profile = characterize(trace)
        found = profile.aspect("cold_starts", "cold_starts")
        assert found.main == part
        again = Profile.from_dict(json.loads(json.dumps(profile.to_dict())))
        assert again.aspect("cold_starts", "cold_starts").main == part


@pytest.mark.real_data
def test_init_only_cold_starts_can_be_fitted(real_data: Path, tmp_path: Path) -> None:
    from lamina_traces.characterization import characterize

    trace = Store(tmp_path / "s").ingest(
        real_data / "serverless/lambda-perf/2026-02-02.json", "day"
    )
    found = characterize(trace).aspect("cold_starts", "cold_starts")
    assert list(found.components) == ["init"]
    assert found.components["init"].quantiles_s["p50"] == pytest.approx(0.1209, abs=1e-4)
    assert "(init only)" in found.findings()[0].text


def test_lambda_reports(tmp_path: Path) -> None:
    got = fixture(tmp_path, "lambda_report")
    first, second = got["invocations"].rows(named=True)
    assert (first["arrival_ns"], first["duration_s"], first["init_s"], first["is_cold"]) == (
        0,
        0.03399,
        0.05575,
        True,
    )
    assert (first["memory_limit_mb"], first["memory_mb"], first["status"]) == (128, 57.0, "unknown")
    assert (second["arrival_ns"], second["status"], second["is_cold"]) == (
        1_900_000_000,
        "timeout",
        False,
    )
    assert json.loads(first["extra"]) == {"billed_duration_ms": "100"}
    assert (first["func_id"], got.summary.other, got.summary.kept) == ("orders", 3, 2)
    plain = "REPORT RequestId: 1-a Init Duration: 1943.50 ms\tDuration: 1.25 ms\tBilled Duration: 2 ms\tMemory Size: 1536 MB\tMax Memory Used: 10 MB\n"
    row = read_tables(write(tmp_path / "x.log", plain + "\n"))["invocations"].row(0, named=True)
    assert (row["duration_s"], row["init_s"], row["arrival_ns"]) == (0.00125, 1.9435, None)
    restored = plain.replace(
        "Max Memory Used: 10 MB",
        "Max Memory Used: 10 MB\tRestore Duration: 283.5 ms\tBilled Restore Duration: 41 ms",
    )
    row = read_tables(write(tmp_path / "y.log", restored))["invocations"].row(0, named=True)
    assert json.loads(row["extra"])["restore_duration_ms"] == "283.5"
    assert row["duration_s"] == 0.00125


# Loaders and platforms


def test_invitro(tmp_path: Path) -> None:
    got = fixture(tmp_path, "invitro")
    rows = got["invocations"]
    assert rows["status"].to_list() == ["ok", "ok", "timeout", "error"]
    assert rows["duration_s"].to_list() == [0.0012, 0.0011, None, None], "0 is not a measurement"
    assert rows["init_s"].to_list() == [0.015, None, None, None]
    assert rows["is_cold"].to_list() == [True, False, None, False]
    assert rows["func_id"].to_list() == ["trace-func-0", "trace-func-0", "unknown", "trace-func-1"]
    assert (got.summary.clock, got.summary.origin_ns) == ("utc", 1_715_335_200_000_100_000)
    knative = b"phase,instance,invocationID,startTime,requestedDuration,grpcConnEstablish,responseTime,actualDuration,connectionTimeout,functionTimeout,actualMemoryUsage,memoryAllocationTimeout,timeToSubmitMs,userCodeExecutionMs,timeToGetResponseMs\n2,f,i,5,1000,1,2000,1000,false,false,20,true,0,0,0\n"
    got = read_tables(write(tmp_path / "k.csv", knative))
    assert (got["invocations"]["status"][0], got.summary.clock) == ("timeout", "relative")
    assert got["invocations"]["arrival_ns"].to_list() == [5000]


def test_openwhisk(tmp_path: Path) -> None:
    got = fixture(tmp_path, "openwhisk")
    cold, warm = got["invocations"].rows(named=True)
    assert (cold["arrival_ns"], cold["duration_s"], cold["queue_s"], cold["init_s"]) == (
        0,
        0.057,
        0.066,
        0.05,
    )
    assert (cold["is_cold"], warm["is_cold"]) == (True, False)
    assert (cold["func_id"], cold["runtime"], cold["memory_limit_mb"]) == (
        "guest/echo",
        "nodejs:20",
        256,
    )
    assert (cold["status"], warm["status"], warm["error_code"]) == ("ok", "error", "1")
    assert got.summary.origin_ns == 1_715_335_200_123_000_000


def test_code_engine_is_a_log_of_changes(tmp_path: Path) -> None:
    rows = fixture(tmp_path, "ibm_code_engine")["functions"]
    assert rows["arrival_ns"].to_list() == [0, 3 * DAY, 9 * DAY]
    assert rows["cpu_request_mcore"].to_list() == [1000, 250, None]
    assert rows["min_scale"].to_list() == [0, 1, None]
    assert json.loads(rows["extra"][1]) == {"memory_asked_gb": 0.5}


@pytest.mark.real_data
def test_code_engine_figures(real_data: Path) -> None:
    rows = read_tables(real_data / "serverless/ibm-code-engine-2026/app_config_changes.csv")[
        "functions"
    ]
    assert (rows.height, rows["func_id"].n_unique()) == (1043, 890)
    last = rows.drop_nulls("min_scale").group_by("func_id").last()
    assert (last["min_scale"] > 0).mean() == pytest.approx(0.588, abs=5e-4)
    assert (last["concurrency"] == 100).sum() == 834


def test_gentd26(tmp_path: Path) -> None:
    loads = fixture(tmp_path, "gentd26_loads")["cold_starts"]
    assert loads["model_load_s"].to_list() == [22.7, 3.1005]
    assert loads["func_id"].to_list() == ["base_model"] * 2
    assert loads["pod_id"].to_list() == ["d41d8cd98f00b204e9800998ecf8427e", None]
    assert "total_s" not in loads.columns
    series = fixture(tmp_path, "gentd26_series")["metric_series"]
    assert series["value"].to_list() == [24.7, None]
    assert set(series["metric"]) == {"gpu_duty_cycle_percent"}
    with pytest.raises(DataError, match="name"):
        read_tables(write(tmp_path / "x.csv", FIXTURES["gentd26_loads"]))
    assert math.isclose(loads["arrival_ns"][1] / S, 114.0)

"""Huawei's serverless traces of 2023 and 2025."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from lamina_traces.errors import DataError
from tests.formats.fixtures_serverless import FIXTURES, PATHS
from tests.formats.reads import write
from tests.formats.tables import Fixtures, read_tables

S, MINUTE = 10**9, 60 * 10**9
FIXED = Fixtures(FIXTURES, PATHS)
placed, fixture = FIXED.placed, FIXED.read


def test_huawei_cold_starts_take_runtime_and_trigger_from_the_table(tmp_path: Path) -> None:
    got = fixture(tmp_path, "huawei_cold_start", "huawei_runtime")
    starts = got["cold_starts"]
    assert starts["runtime"].to_list() == ["Python3", "Node.js"]
    assert starts["trigger"].to_list() == ["workflow-S", "APIG-S TIMER-A"]
    assert starts["synchronous"].to_list() == [True, None], "one of each is neither"
    assert starts["request_id"].to_list() == ["aaaa", "aaaa"], "one request may start several pods"
    functions = got["functions"]
    assert functions["triggers"].to_list() == [["workflow-S"], ["APIG-S", "TIMER-A"]]
    assert functions["cpu_request_mcore"].to_list() == [100, 100]
    assert functions["cpu_limit_mcore"].to_list() == [300, 300]
    assert got.summary.format == "huawei_cold_start"


def test_the_table_is_of_region_2_alone(tmp_path: Path) -> None:
    table = placed(tmp_path, "huawei_runtime")
    other = write(tmp_path / "cold_start/R1/day_00.csv", FIXTURES["huawei_cold_start"])
    assert "runtime" not in read_tables([table, other])["cold_starts"].columns
    plain = write(tmp_path / "day_00.csv", FIXTURES["huawei_cold_start"])
    assert read_tables([table, plain])["cold_starts"]["runtime"].null_count() == 0


def test_huawei_requests(tmp_path: Path) -> None:
    got = fixture(tmp_path, "huawei_request", "huawei_runtime")
    first, second = got["invocations"].rows(named=True)
    assert first["arrival_ns"] == 2_592_000_020_000_000
    assert (first["duration_s"], first["e2e_s"], first["request_bytes"]) == (0.000829, 0.002367, 2)
    assert (first["runtime"], first["region"], first["func_id"]) == (
        "Python3",
        "R2",
        "400---418---pool22-300-128",
    )
    assert (first["status"], first["cpu_cores"]) == ("unknown", 0.059806)
    assert (second["e2e_s"], second["request_bytes"], second["runtime"]) == (None, None, None)
    assert second["cpu_cores"] == 0.0, "a recorded 0 stays"
    costs = json.loads(first["extra"])
    assert (costs["readBodyCost"], costs["time_frontend_ns"]) == (0.000025, 2_592_000_021_000_000)
    assert "log-times" in got.codes


def test_huawei_wide_tables_tell_nothing_from_zero(tmp_path: Path) -> None:
    got = fixture(tmp_path, "huawei_2023_requests")["invocation_counts"]
    assert got.select("func_id", "arrival_ns", "bin_s", "invocations").rows() == [
        ("4", 0, 1.0, 6), ("199", 0, 1.0, 0), ("4", S, 1.0, 7), ("199", S, 1.0, 2),
    ]  # fmt: skip
    got = fixture(tmp_path, "huawei_2025_requests")["invocation_counts"]
    assert got["invocations"].to_list() == [1, 3]
    assert got["bin_s"].to_list() == [60.0, 60.0]
    assert got["owner_id"].to_list() == ["418", "1077"]
    assert set(got["region"]) == {"R2"}


def test_huawei_metrics_are_series(tmp_path: Path) -> None:
    got = fixture(tmp_path, "huawei_2023_metrics")["metric_series"]
    assert got["value"].to_list() == [0.45, 1.95, 0.45]
    assert set(got["metric"]) == {"cpu_limit"}
    assert json.loads(got["labels"][0]) == {"bin_s": 60.0, "func_id": "4", "region": "private"}
    both = fixture(tmp_path, "huawei_2025_metrics", "huawei_2025_requests")
    assert set(both.frames) == {"metric_series", "invocation_counts"}
    assert both["metric_series"]["metric"][0] == "totalCost_worker_quantile_050"
    cold = write(
        tmp_path / "quantiles/R2/num_cold_starts/day_00.csv", FIXTURES["huawei_2025_requests"]
    )
    assert set(read_tables(cold).frames) == {"metric_series"}, (
        "pods and cold starts are no invocations"
    )


def test_a_wide_table_out_of_its_folder_is_refused(tmp_path: Path) -> None:
    path = write(tmp_path / "mine/day_000.csv", FIXTURES["huawei_2023_metrics"])
    with pytest.raises(DataError, match="folder"):
        read_tables(path)


@pytest.mark.real_data
def test_huawei_real_files(real_data: Path) -> None:
    base = real_data / "serverless/huawei-2025"
    for region in ("R1", "R5"):
        got = read_tables(next((base / "cold_start" / region).iterdir()))["cold_starts"]
        assert got["residual_s"].abs().max() <= 1e-15  # type: ignore[operator]
        assert set(got["region"]) == {region}
    assert got["arrival_ns"].max() <= 2_678_400 * S  # type: ignore[operator]
    request = read_tables(base / "per_request/R5/part_000.csv")["invocations"]
    assert request["arrival_ns"][0] == 2_592_000_020_000_000
    assert request["e2e_s"].null_count() == sum(
        line.split(",")[10] in ("", "NaN")
        for line in (base / "per_request/R5/part_000.csv").read_text().splitlines()[1:]
    )
    table = read_tables(next((base / "runtime_triggerType").iterdir()))["functions"]
    assert table.height == 10
    counts = read_tables(base / "quantiles/R2/requests/day_00.csv")["invocation_counts"]
    text = (base / "quantiles/R2/requests/day_00.csv").read_text().splitlines()[1:]
    assert counts["invocations"].sum() == sum(
        float(c) for line in text for c in line.split(",")[2:] if c
    )


@pytest.mark.real_data
def test_huawei_2023_real_files(real_data: Path) -> None:
    base = real_data / "serverless/huawei-2023"
    got = read_tables(
        [p for p in (base / "private_dataset").rglob("*.csv") if "second" not in str(p)]
    )
    assert set(got["metric_series"]["metric"]) == {"cpu_usage", "cpu_limit", "instances"}
    assert set(got["invocation_counts"]["bin_s"]) == {60.0}
    seconds = read_tables(base / "private_dataset/requests_second/day_000.csv")["invocation_counts"]
    assert seconds.filter(func_id="75", arrival_ns=0)["invocations"].to_list() == [22359]
    public = read_tables(base / "public_dataset/requests_minute/day_00.csv")["invocation_counts"]
    assert public.filter(func_id="3", arrival_ns=MINUTE)["invocations"].to_list() == [7244]


@pytest.mark.real_data
def test_curves_of_the_cold_start_paper(real_data: Path) -> None:
    got = read_tables(real_data / "serverless/huawei-2025/paper_cdf_curves.csv")["cdf_points"]
    assert got.height == 10_139
    printed = {
        "R1": (0.528, 2.177, 8.04), "R2": (0.240, 0.832, 10.5), "R3": (0.0235, 0.102, 0.433),
        "R4": (0.070, 0.902, 2.71), "R5": (0.117, 0.453, 1.53),
    }  # fmt: skip
    for region, quantiles in printed.items():
        curve = got.filter(figure="10a", series=region)
        found = [float(np.interp(q, curve["cdf"], curve["x"])) for q in (0.1, 0.5, 0.9)]
        assert found == pytest.approx(list(quantiles), rel=6e-3)

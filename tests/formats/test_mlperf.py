"""PTDaemon logs and the windows of MLPerf power runs."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from tests.formats.fixtures_power import FIXTURES, PATHS
from tests.formats.reads import write
from tests.formats.tables import Fixtures, Tables, read_tables

MLPERF = "power/mlperf-inference-v1.0"
SERVER = "nvidia__a100-pciex8_trt_maxq__bert-99__server"
OFFLINE = "nvidia__a100-pciex8_trt_maxq__bert-99__offline"
FIXED = Fixtures(FIXTURES, PATHS)
placed, fixture = FIXED.placed, FIXED.read


def test_ptdaemon_channels_and_minus_one(tmp_path: Path) -> None:
    got = fixture(tmp_path, "ptdaemon")
    rows = got["power_samples"]
    server = rows.filter(pl.col("domain") == "server")
    assert server["power_w"].to_list() == [500.0, 600.5, None, 700.0], "-1 is not a power"
    assert server["extra"][0] == '{"Mark":"run_testing"}', "-1 is not a voltage either"
    channels = rows.filter(pl.col("device") == "ch2")
    assert channels["power_w"].drop_nulls().to_list() == [200.0, 250.0, 300.0]
    assert got.summary.lines == 4, "a line with channels is one line"
    assert got.summary.origin_local == "2021-03-04T00:00:00", "month first"
    assert "power_windows" not in got.frames


def test_the_official_average_is_strictly_inside_the_window(tmp_path: Path) -> None:
    got = fixture(tmp_path, "ptdaemon", "mlperf_detail")
    window = got["power_windows"].row(0, named=True)
    assert (window["samples"], window["mean_power_w"]) == (2, (600.5 + 700.0) / 2)
    assert (window["arrival_ns"], window["duration_s"]) == (36_000_100_000_000, 3.5)
    assert window["peak_power_w"] == 700.0
    assert window["energy_j"] == pytest.approx(3.5 * 650.25)
    assert json.loads(window["extra"])["samples_per_s"] == "17497.7"


def test_runs_that_are_read_together_stay_apart(tmp_path: Path) -> None:
    paths = [
        write(tmp_path / f"{n}/bert/Server/performance/run_1/spl.txt", FIXTURES["ptdaemon"])
        for n in "ab"
    ]
    rows = read_tables(paths)["power_samples"].filter(device="server")
    assert rows["host"].to_list() == ["a/bert/Server"] * 4 + ["b/bert/Server"] * 4


def test_a_detail_log_alone_gives_its_window(tmp_path: Path) -> None:
    got = fixture(tmp_path, "mlperf_detail")
    assert got["power_windows"]["mean_power_w"].to_list() == [None]
    assert got.codes == ["no-samples"]


def test_ptdaemon_bad_lines(tmp_path: Path) -> None:
    data = (
        FIXTURES["ptdaemon"]
        + b"Time,2021-03-04 10:00:04.1,Watts,5\nTime,03-04-2021 10:00:05.1,Watts,x,Volts,1\nTime,03-04-2021 10:00:06.1,Watts,5,Ch1,Watts,1e999\nnoise\n"
    )
    got = read_tables(placed(tmp_path, "ptdaemon", data))
    assert got.rejects["line"].to_list() == [5, 6, 7]
    assert got.summary.other == 1


@pytest.mark.real_data
def test_mlperf_figures(real_data: Path) -> None:
    def run(name: str) -> Tables:
        folder = real_data / MLPERF / name
        return read_tables([folder / "spl.txt", folder / "mlperf_log_detail.txt"])

    got = run(SERVER)
    window = got["power_windows"].row(0, named=True)
    assert window["mean_power_w"] == pytest.approx(2308.858, abs=5e-4)
    assert window["peak_power_w"] == 2427.4
    assert window["mean_power_w"] / 17497.7 == pytest.approx(0.1320, abs=5e-5)
    samples = got["power_samples"]
    server = samples.filter(pl.col("domain") == "server")
    t, w = server["arrival_ns"].to_numpy() / 1e9, server["power_w"].to_numpy()
    assert len(w) == 704
    assert w.mean() == pytest.approx(2095.95, abs=5e-3)
    assert np.trapezoid(w, t) == pytest.approx(1_474_921, abs=1)
    assert w.mean() / w.max() == pytest.approx(0.863, abs=5e-4)
    assert np.abs(np.diff(w) / np.diff(t)).max() == pytest.approx(1252, abs=0.5)
    assert _acf1(got) == pytest.approx(0.20, abs=5e-3)
    begin = window["arrival_ns"] / 1e9
    outside = w[(t <= begin) | (t >= begin + window["duration_s"])]
    assert outside.mean() == pytest.approx(867.6, abs=0.05)
    sums = (
        samples.filter(pl.col("domain") == "psu")
        .group_by("arrival_ns")
        .agg(pl.col("power_w").sum())
    )
    both = server.join(sums, on="arrival_ns")
    assert (both["power_w"] - both["power_w_right"]).abs().max() < 1e-9  # type: ignore[operator]
    offline = run(OFFLINE)
    assert offline["power_windows"]["mean_power_w"][0] == pytest.approx(2289.98, abs=5e-3)
    assert _acf1(offline) == pytest.approx(0.84, abs=5e-3)
    single = read_tables(
        real_data / MLPERF / "nvidia__agx_xavier_trt_maxq__bert-99__offline/spl.txt"
    )
    assert single["power_samples"].schema == samples.schema, "one channel or three: one table"


def _acf1(run: Tables) -> float:
    """Autocorrelation of successive readings in the window, biased, around their mean."""
    window = run["power_windows"].row(0, named=True)
    end = window["arrival_ns"] + int(window["duration_s"] * 1e9)
    inside = pl.col("arrival_ns").is_between(window["arrival_ns"], end, closed="none")
    watts = (
        run["power_samples"].filter((pl.col("domain") == "server") & inside)["power_w"].to_numpy()
    )
    off = watts - watts.mean()
    return float((off[1:] * off[:-1]).sum() / (off**2).sum())


@pytest.mark.real_data
def test_mlperf_runs_against_a_plain_reading_of_their_definition(real_data: Path) -> None:
    folders = sorted((real_data / MLPERF).iterdir())
    assert len(folders) == 6
    paths = [f / n for f in folders for n in ("spl.txt", "mlperf_log_detail.txt")]
    windows = {r["label"]: r for r in read_tables(paths)["power_windows"].iter_rows(named=True)}
    for folder in folders:
        marks = {
            k: json.loads(line.split(" ", 1)[1])["value"]
            for line in (folder / "mlperf_log_detail.txt").read_text().splitlines()
            for k in ("power_begin", "power_end")
            if f'"{k}"' in line
        }
        watts = [
            float(c[3])
            for c in (line.split(",") for line in (folder / "spl.txt").read_text().splitlines())
            if _sortable(marks["power_begin"]) < _sortable(c[1]) < _sortable(marks["power_end"])
            and float(c[3]) > 0
        ]
        window = windows[folder.name]
        assert window["samples"] == len(watts)
        assert window["mean_power_w"] == pytest.approx(sum(watts) / len(watts), rel=1e-12)


def _sortable(stamp: str) -> str:
    """MM-DD-YYYY… as text that sorts as time does."""
    return stamp[6:10] + stamp[0:2] + stamp[3:5] + stamp[11:]

"""Power formats: units, nulls, domains, windows, and the figures of the real files."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from scipy import stats

from lamina_traces.errors import DataError, UnknownFormat
from tests.formats.fixtures_power import PATHS, POWER
from tests.formats.reads import write
from tests.formats.tables import Fixtures, read_tables

FIXED = Fixtures(POWER, PATHS)
placed, fixture = FIXED.placed, FIXED.read


# nvidia-smi


def test_smi_takes_the_instant_and_the_enforced_limit(tmp_path: Path) -> None:
    first, second = fixture(tmp_path, "nvidia_smi")["power_samples"].rows(named=True)
    assert (first["power_w"], first["power_limit_w"], first["is_average"]) == (310.2, 650.0, False)
    assert (first["sm_clock_mhz"], first["mem_clock_mhz"], first["device"]) == (
        1410.0,
        2619.0,
        "gpu0",
    )
    assert second["power_w"] is None, "[N/A] is not 0"
    assert json.loads(first["extra"])["power.draw.average [W]"].strip() == "300.10"


@pytest.mark.parametrize(
    ("column", "power", "average", "domain"),
    [
        ("power.draw [W]", 5.0, None, "gpu"),
        ("power.draw.average [W]", 5.0, True, "gpu"),
        ("gpu.power.draw.average [mW]", 0.005, True, "gpu"),
        ("gpu.power.draw.instant", 5.0, False, "gpu"),
        ("module.power.draw.average [W]", 5.0, True, "server"),
        ("module.power.draw.instant [W]", 5.0, False, "server"),
    ],
)
def test_smi_power_columns(
    tmp_path: Path, column: str, power: float, average: bool | None, domain: str
) -> None:
    text = f"timestamp, index, {column}\n2026/03/04 10:00:00.250, 0, 5\n"
    row = read_tables(write(tmp_path / "p.csv", text))["power_samples"].row(0, named=True)
    assert (row["power_w"], row["is_average"], row["domain"]) == (power, average, domain)


@pytest.mark.parametrize(
    ("product", "average"),
    [
        ("NVIDIA H100 80GB HBM3", True), ("NVIDIA L40S", True), ("NVIDIA A40", True), ("NVIDIA A10G", True),
        ("NVIDIA GeForce RTX 4090", True), ("NVIDIA RTX 6000 Ada Generation", True), ("NVIDIA B200", True),
        ("Tesla V100-SXM2-16GB", False), ("Tesla T4", False), ("NVIDIA A100-SXM4-80GB", None),
        ("NVIDIA A30", None), ("Something New", None), ("[N/A]", None),
    ],
)  # fmt: skip
def test_smi_plain_power_is_an_average_on_some_products(
    tmp_path: Path, product: str, average: bool | None
) -> None:
    text = f"timestamp, name, index, power.draw [W]\n2026/03/04 10:00:00.250, {product}, 0, 5 W\n"
    got = read_tables(write(tmp_path / "p.csv", text))["power_samples"]
    assert got["is_average"].to_list() == [average]


def test_smi_without_a_header_says_what_is_missing(tmp_path: Path) -> None:
    text = "2026/03/04 10:00:00.250, 0, 72.48, 0\n2026/03/04 10:00:00.500, 0, 72.50, 0\n"
    with pytest.raises(UnknownFormat, match="nvidia-smi log without a header") as e:
        read_tables(write(tmp_path / "p.csv", text))
    assert "noheader" in str(e.value.hint)


def test_dmon_in_its_three_layouts(tmp_path: Path) -> None:
    got = fixture(tmp_path, "nvidia_dmon")
    rows = got["power_samples"]
    assert rows["device"].to_list() == ["gpu0", "gpu1", "gpu0"]
    assert rows["power_w"].to_list() == [310.0, None, 412.0]
    assert rows["arrival_ns"].to_list() == [36_000_000_000_000] * 2 + [36_001_000_000_000]
    assert rows["mem_used_mb"][0] == pytest.approx(104.8576)
    assert got.summary.clock == "local"
    assert got.summary.origin_local == "2026-03-04T00:00:00"
    zoned = read_tables(placed(tmp_path, "nvidia_dmon"), tz="Europe/Berlin")
    assert zoned.summary.clock == "utc"
    table = "#gpu, pwr, gtemp, sm, mem, mclk, pclk, fb\n#Idx, W, C, %, %, MHz, MHz, MB\n 0, 698, 61, 100, 31, 2619, 1365, 1011\n"
    got = read_tables(write(tmp_path / "d.csv", table))
    assert got["power_samples"]["util_frac"].to_list() == [1.0]
    assert (got.summary.clock, got["power_samples"]["arrival_ns"].to_list()) == ("none", [None])
    bad = table + " 0, 698, 61\n 0, x, 61, 100, 31, 2619, 1365, 1011\n"
    got = read_tables(write(tmp_path / "e.csv", bad))
    assert got.rejects["line"].to_list() == [4, 5]


# Zeus, CodeCarbon


def test_zeus_log(tmp_path: Path) -> None:
    got = fixture(tmp_path, "zeus_log")
    rows = got["power_windows"]
    assert rows["device"].to_list() == ["gpu0", "gpu1"] * 2
    assert rows["arrival_ns"][0] == 13_586_410_284_991_832, "no float in between"
    assert rows["mean_power_w"].to_list() == [125.0, 135.0, 200.0, None]
    assert got.summary.clock == "relative"
    data = POWER["zeus_log"].replace(b"13586410", b"1772618410").replace(b"13586420", b"1772618420")
    got = read_tables(placed(tmp_path, "zeus_log", data))
    assert (got.summary.clock, got.summary.origin_ns) == ("utc", 1_772_618_410_284_991_832)


@pytest.mark.real_data
@pytest.mark.parametrize(
    ("gpu", "energy", "time", "over"), [("v100", -0.214, 1.165, 8), ("rtx6000", -0.201, 1.162, 0)]
)
def test_zeus_sweep_figures(
    real_data: Path, gpu: str, energy: float, time: float, over: int
) -> None:
    rows = read_tables(real_data / f"power/zeus-nsdi23/summary_power_{gpu}.csv")["operating_points"]
    assert set(rows["device_name"]) == {gpu}
    assert (rows["mean_power_w"] > rows["power_limit_w"]).sum() == over
    found = []
    for _, points in rows.group_by("workload", "model", "batch_size", "extra"):
        most = points.filter(pl.col("power_limit_w") == pl.col("power_limit_w").max())
        best = points.sort("energy_j").head(1)
        found.append(
            (
                best["energy_j"][0] / most["energy_j"][0] - 1,
                best["duration_s"][0] / most["duration_s"][0],
            )
        )
    assert np.mean(found, axis=0) == pytest.approx([energy, time], abs=5e-4)


def test_codecarbon_cumulative_rows_become_windows(tmp_path: Path) -> None:
    got = fixture(tmp_path, "codecarbon")
    whole = got["power_windows"].filter(pl.col("domain") == "server")
    assert whole["energy_j"].to_list() == pytest.approx([0.0035 * 3.6e6, 0.0065 * 3.6e6, None])
    assert whole["duration_s"].to_list() == [10.0, 20.0, 20.0]
    assert whole["mean_power_w"][0] == pytest.approx(1260.0), "energy over duration, not a reading"
    assert whole["emissions_kg"].to_list() == pytest.approx([0.002, 0.003, 0.001])
    ten = 36_000_000_000_000
    assert whole["arrival_ns"].to_list() == [ten, ten + 10 * 10**9, ten + 40 * 10**9]
    assert "cumulative" in got.codes
    parts = got["power_windows"].filter(pl.col("domain") != "server")
    assert set(parts["device"]) == {"cpu", "gpu", "dram"}
    assert parts.filter(pl.col("domain") == "cpu").height == 2, (
        "an energy that was not measured is no row"
    )
    assert json.loads(whole["extra"][0])["gpu_power"] == "100.0"
    assert "longitude" in got.summary.dropped_fields


@pytest.mark.real_data
def test_codecarbon_figures(real_data: Path) -> None:
    for version, rows in (("2", 14), ("3", 1)):
        file = "emissions_v2.csv" if version == "2" else "emissions_v3_headers.csv"
        got = read_tables(real_data / "power/codecarbon" / file)
        assert (got.summary.version, got.summary.kept) == (version, rows)
        wide = got["power_windows"].pivot(
            "domain", index="arrival_ns", values="energy_j", aggregate_function="first"
        )
        wide = wide.drop_nulls()
        parts = wide["cpu"] + wide["gpu"] + wide["dram"]
        assert (parts - wide["server"]).abs().max() < 1e-9  # type: ignore[operator]
    v2 = read_tables(real_data / "power/codecarbon/emissions_v2.csv")["power_windows"]
    assert v2.schema == got["power_windows"].schema
    whole = v2.filter(pl.col("domain") == "server")
    assert whole.height == 14
    assert whole["duration_s"].min() > 0  # type: ignore[operator]
    six = whole["extra"].str.json_path_match("$.run_id") == "8a1d9822-56c9-4c52-8497-5a2e32dd5b03"
    assert whole.filter(six)["energy_j"].sum() == pytest.approx(6.403828607971138e-05 * 3.6e6)
    assert whole.filter(six)["duration_s"].sum() == pytest.approx(91.82258701324464)


# AcmeTrace


def test_acme_columns_are_domains_and_hosts_have_no_address(tmp_path: Path) -> None:
    got = fixture(tmp_path, "acme_ipmi")
    rows = got["power_samples"]
    assert rows["device"].to_list() == [
        "server",
        "cpu",
        "dram",
        "psu1",
        "psu2",
        "server",
        "cpu",
        "psu1",
        "psu2",
    ]
    assert rows.filter(pl.col("domain") == "server")["power_w"].to_list() == [2520.0, 1512.0]
    assert set(rows["host"]) == {"host1"}
    assert json.loads(rows["extra"][0]) == {"PSU_IN_SUM": 2600.0}
    assert got.summary.origin_ns == 1_688_169_600_000_000_000, "offset +08:00"
    assert "10.140" not in got.shown()


def test_acme_wide_tables(tmp_path: Path) -> None:
    got = fixture(tmp_path, "dcgm_wide", "dcgm_wide_metrics")
    power = got["power_samples"]
    assert power["power_w"].to_list() == [96.5, 395.0, 97.0, 401.2, 60.1]
    assert power.select("host", "device").unique().height == 3
    series = got["metric_series"]
    assert series["value"].to_list() == [8.101, 8.034, 0.437]
    assert set(series["metric"]) == {"NODE_CPU_UTILIZATION"}
    assert set(series["host"]) <= set(power["host"]), "one address is one host in both files"
    data = POWER["dcgm_wide"] + b"2023-07-01 08:00:30+08:00,x,1,2\n"
    got = read_tables(placed(tmp_path, "dcgm_wide", data))
    assert "unreadable" in got.codes
    assert "10.140" not in got.shown()


# Tables of operating points, curves


def test_splitwise_zero_is_not_measured(tmp_path: Path) -> None:
    a100, h100 = fixture(tmp_path, "splitwise_perf")["operating_points"].rows(named=True)
    assert (a100["peak_power_frac"], a100["ttft_s"], a100["e2e_s"]) == (1.0000125, 0.19625, 7.16875)
    assert (h100["peak_power_frac"], h100["mean_power_frac"]) == (None, None)


@pytest.mark.real_data
def test_splitwise_figures(real_data: Path) -> None:
    rows = read_tables(real_data / "power/splitwise-sim/perf_model_llama2-70b.csv")[
        "operating_points"
    ]
    assert (rows.height, rows["peak_power_frac"].null_count()) == (945, 750)
    power = rows.drop_nulls("peak_power_frac")
    assert set(power["device_name"]) == {"a100-80gb"}
    means = (
        power.group_by("tensor_parallel")
        .agg(pl.col("peak_power_frac", "mean_power_frac").mean())
        .sort("tensor_parallel")
    )
    assert np.array(means.rows()) == pytest.approx(
        np.array([(2, 1.037, 0.694), (4, 0.971, 0.563), (8, 0.823, 0.412)]), abs=6e-4
    )
    by_prompt = dict(
        power.group_by("input_tokens").agg(pl.col("peak_power_frac").mean()).iter_rows()
    )
    assert [by_prompt[n] for n in (128, 512, 2048, 4096)] == pytest.approx(
        [0.70, 0.96, 1.02, 1.05], abs=5e-3
    )
    a100 = rows.filter(pl.col("device_name") == "a100-80gb")
    ratio = a100.with_columns(
        (
            pl.col("e2e_s") / (pl.col("ttft_s") + pl.col("tpot_s") * (pl.col("output_tokens") - 1))
        ).alias("r")
    )
    median = dict(ratio.group_by("output_tokens").agg(pl.col("r").median()).iter_rows())
    assert [median[n] for n in (128, 256, 512)] == pytest.approx([1.0] * 3, abs=1e-3)
    assert 1 / median[1024] == pytest.approx(1.75, abs=0.03)
    assert 1 / median[8192] == pytest.approx(14, abs=0.1)
    odd = ratio.filter((pl.col("tensor_parallel") == 2) & (pl.col("batch_size") == 64))
    assert odd["e2e_s"].to_list() == pytest.approx([160.0] * 5, abs=0.6)


def test_ml_energy_document_and_table_agree(tmp_path: Path) -> None:
    document = fixture(tmp_path, "mlenergy")["operating_points"]
    table = fixture(tmp_path, "mlenergy_csv")["operating_points"]
    assert document.drop("extra").equals(table.drop("extra"))
    row = document.row(0, named=True)
    assert (row["mean_power_w"], row["itl_p50_s"], row["batch_size"], row["devices"]) == (
        500.0,
        0.008,
        16,
        2,
    )
    assert json.loads(row["extra"])["p99_itl_ms"] == 12.0


@pytest.mark.real_data
def test_ml_energy_figures(real_data: Path) -> None:
    rows = read_tables(real_data / "power/ml-energy-v3/llm_configurations_H100.csv")[
        "operating_points"
    ]
    assert rows.height == 405
    identity = rows["mean_power_w"] / rows["throughput_tps"] - rows["energy_per_token_j"]
    assert identity.abs().max() < 1e-14  # type: ignore[operator]
    assert (rows["mean_power_w"] / rows["devices"]).median() == pytest.approx(496, abs=0.5)
    least = rows.group_by("model", "workload").agg(pl.col("energy_per_token_j").min())
    by = {(m, w): e for m, w, e in least.iter_rows()}
    groups = rows.group_by("model", "workload", "devices", "tensor_parallel")
    falls = [
        stats.spearmanr(g["batch_size"], g["energy_per_token_j"]).statistic
        for _, g in groups
        if g.height > 2
    ]
    assert np.median(falls) == -1.0
    assert by["openai/gpt-oss-20b", "gpqa"] == pytest.approx(0.0442, abs=5e-5)
    assert by["meta-llama/Llama-3.1-8B-Instruct", "lm-arena-chat"] == pytest.approx(
        0.0702, abs=5e-5
    )


@pytest.mark.real_data
def test_curves_of_acme(real_data: Path) -> None:
    def at(file: str, *shares: float) -> list[float]:
        rows = read_tables(real_data / "power/acmetrace" / file)["cdf_points"]
        assert rows.height == 1000
        return [float(np.interp(s, rows["cdf"], rows["x"])) for s in shares]

    assert at("gpu_power_seren_cdf.csv", 0.5, 0.9, 0.99) == pytest.approx([96.5, 395, 437], abs=0.5)
    rows = read_tables(real_data / "power/acmetrace/gpu_power_seren_cdf.csv")["cdf_points"]
    assert float(np.trapezoid(rows["x"], rows["cdf"])) == pytest.approx(169, abs=0.6)
    assert 1 - float(np.interp(400, rows["x"], rows["cdf"])) == pytest.approx(0.080, abs=5e-4)
    assert at("server_power_seren_gpu_node_cdf.csv", 0.05, 0.5, 0.99, 1.0) == pytest.approx(
        [1512, 2520, 5418, 6554], abs=0.5
    )


def test_a_percent_beyond_100_is_refused_only_where_it_is_no_number(tmp_path: Path) -> None:
    with pytest.raises(DataError):
        read_tables(write(tmp_path / "x_cdf.csv", "gpu_power_w,cdf_pct\nabc,0.0\n"))

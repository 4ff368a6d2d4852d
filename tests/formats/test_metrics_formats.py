"""Scraped metrics: exposition text, DCGM's readings, answers of the query API."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from lamina_traces import formats
from lamina_traces.errors import DataError
from tests.formats.fixtures_power import METRICS
from tests.formats.reads import write
from tests.formats.tables import Tables, read_tables

S = 10**9


def fixture(folder: Path, name: str, data: bytes | None = None, **options: object) -> Tables:
    path = write(folder / f"{name}.txt", METRICS[name] if data is None else data)
    return read_tables(path, **options)


def test_exposition_text(tmp_path: Path) -> None:
    got = fixture(tmp_path, "openmetrics")
    rows = got["metric_series"]
    assert rows["type"].to_list() == [
        "gauge",
        "histogram",
        "histogram",
        "histogram",
        "counter",
        None,
        None,
    ]
    assert rows["value"].to_list() == [8.0, 0.0, 12.0, 3.25, 12.0, 1.7e9, None]
    assert rows["le"].to_list() == [None, 0.001, None, None, None, None, None]
    assert rows["model"][0] == "org/model-8b"
    assert (
        rows["labels"][4] == '{"engine":"0","finished_reason":"stop","model_name":"org/model-8b"}'
    )
    assert rows["arrival_ns"].null_count() == 7
    assert (got.summary.clock, got.summary.kept, got.summary.other) == ("none", 7, 5)
    assert "not-finite" in got.codes


def test_labels_with_escapes_and_braces(tmp_path: Path) -> None:
    line = r'a{x="say \"hi\", {now}\n",y="b\\c",} 1' + "\n"
    got = fixture(tmp_path, "x", b"# TYPE a gauge\n" + line.encode())
    assert json.loads(got["metric_series"]["labels"][0]) == {"x": 'say "hi", {now}\n', "y": "b\\c"}
    broken = fixture(tmp_path, "y", b'# TYPE a gauge\na 1\na{x=1} 2\na{x="1" y="2"} 3\na{} nope\n')
    assert broken.rejects["line"].to_list() == [3, 4, 5]


@pytest.mark.parametrize(
    ("stamp", "ns"),
    [
        ("1772618400123", 1_772_618_400_123_000_000),
        ("1772618400.123456789", 1_772_618_400_123_456_789),
    ],
)
def test_stamps_are_milliseconds_or_seconds(tmp_path: Path, stamp: str, ns: int) -> None:
    got = fixture(tmp_path, "x", f"# TYPE a gauge\na 1 {stamp}\n# EOF\n".encode())
    assert (got.summary.clock, got.summary.origin_ns) == ("utc", ns)
    assert got["metric_series"]["arrival_ns"].to_list() == [0]


def test_dcgm_readings_are_power_samples(tmp_path: Path) -> None:
    for limits in (formats.Limits(), formats.Limits(block_bytes=300)):
        got = fixture(tmp_path, "dcgm", limits=limits)
        rows = got["power_samples"]
        assert rows["device"].to_list() == ["gpu0", "gpu1", "gpu0"]
        assert rows["power_w"].to_list() == [310.5, 71.5, 320.5]
        assert rows["energy_j"].to_list() == [None, 123.456, None], (
            "mJ, and a blank that is no energy"
        )
        assert rows["util_frac"].to_list() == [0.57, None, None]
        assert rows["mem_used_mb"][0] == pytest.approx(104.8576)
        assert rows["sm_clock_mhz"].to_list() == [1410.0, 345.0, None]
        assert rows["arrival_ns"].to_list() == [0, 0, S]
        assert (rows["host"][0], rows["device_name"][0]) == ("node-1", "NVIDIA H100 80GB HBM3")
        assert got["metric_series"].height == 10
        blank = got["metric_series"].filter(metric="DCGM_FI_DEV_TOTAL_ENERGY_CONSUMPTION")
        assert blank["value"].to_list() == [None, 123456.0]


def test_dcgm_scrapes_without_stamps_stay_apart(tmp_path: Path) -> None:
    lines = METRICS["dcgm"].replace(b" 1772618400000", b"").splitlines(keepends=True)
    one = b"".join(lines[:-1])
    got = fixture(tmp_path, "dcgm", one + one)
    assert got["power_samples"]["power_w"].to_list() == [310.5, 71.5] * 2
    assert got["power_samples"]["arrival_ns"].null_count() == 4
    assert got.summary.clock == "none"


def test_query_range(tmp_path: Path) -> None:
    got = fixture(tmp_path, "prometheus")
    rows = got["metric_series"]
    assert rows["value"].to_list() == [8.0, None, 12.0, None, 0.25]
    assert rows["arrival_ns"].to_list() == [0, 15 * S, 0, 15 * S, -781_000_000]
    assert rows["metric"][4] == "expression"
    assert rows["host"].to_list() == ["host1", "host1", "host2", "host2", None]
    assert json.loads(rows["labels"][0]) == {
        "instance": "host1",
        "job": "vllm",
        "model_name": "org/model-8b",
    }
    assert rows["le"].null_count() == 5
    assert got.summary.origin_ns == 1_772_618_400_781_000_000
    vector = b'{"status":"success","data":{"resultType":"vector","result":[{"metric":{"__name__":"up"},"value":[1772618400.5,"1"]}]}}'
    assert fixture(tmp_path, "v", vector)["metric_series"]["value"].to_list() == [1.0]


def test_an_answer_that_failed(tmp_path: Path) -> None:
    text = b'{"status":"error","errorType":"bad_data","error":"x","data":{"resultType":"matrix","result":[]}}'
    with pytest.raises(DataError, match="no success"):
        fixture(tmp_path, "f", text)
    scalar = b'{"status":"success","data":{"resultType":"scalar","result":[1772618400.5,"1"]}}'
    with pytest.raises(DataError, match="neither"):
        fixture(tmp_path, "s", scalar)


def test_no_two_formats_claim_a_fixture() -> None:
    for name, data in METRICS.items():
        assert formats.detect(data).name == name

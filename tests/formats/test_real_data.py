"""The real files: counts and values measured independently of this reader (research notes, section 3)."""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from lamina_traces import formats
from tests.formats.reads import read

pytestmark = pytest.mark.real_data


@pytest.fixture(scope="module")
def real() -> Path:
    root = os.environ.get("LAMINA_TRACES_REAL_DATA")
    if not root:
        pytest.skip("LAMINA_TRACES_REAL_DATA is not set")
    return Path(root)


def test_azure_code(real: Path) -> None:
    got = read(real / "llm/AzureLLMInferenceTrace_code.csv")
    assert got.summary.line() == "8,820 lines = 8,819 kept + 0 rejected + 0 blank + 1 header"
    assert got.summary.origin_ns == 1_700_158_623_979_960_000
    assert got.column("arrival_ns")[-1] == 3_435_948_056_000
    assert got.frame["input_tokens"].mean() == pytest.approx(2047.85, abs=5e-3)
    assert got.frame["output_tokens"].mean() == pytest.approx(27.88, abs=5e-3)
    gaps = np.diff(np.sort(got.frame["arrival_ns"].to_numpy()))
    assert gaps.std() / gaps.mean() == pytest.approx(13.1513, abs=5e-5)
    assert set(got.column("status")) == {"unknown"}
    assert [n.code for n in got.summary.notices] == ["naive-utc"]


def test_azure_equals_vidurs_copy_of_it_to_the_ns(real: Path) -> None:
    """Another project's conversion of the same trace, through the generic reader."""
    ours = read(real / "llm/AzureLLMInferenceTrace_code.csv").frame
    theirs = read(
        real / "llm/vidur_splitwise_code.csv",
        mapping="arrival=arrived_at,input=num_prefill_tokens,output=num_decode_tokens",
        time_unit="s",
    ).frame
    for name in ("arrival_ns", "input_tokens", "output_tokens"):
        assert ours[name].equals(theirs[name]), name


def test_mooncake_conversation(real: Path, tmp_path: Path) -> None:
    path = real / "llm/mooncake_conversation_trace.jsonl"
    got = read(path)
    ids = got.frame["prefix_hashes"].explode(empty_as_null=False)
    assert (got.frame.height, len(ids), ids.n_unique()) == (12_031, 288_500, 182_790)
    assert ids.dtype == pl.UInt64
    assert got.column("arrival_ns")[-1] == 3_536_999_000_000
    assert got.frame["arrival_ns"].n_unique() == 1_180
    assert got.frame["input_tokens"].mean() == pytest.approx(12035.06, abs=5e-3)
    assert got.frame["output_tokens"].mean() == pytest.approx(342.62, abs=5e-3)
    written = tmp_path / "again.jsonl"
    done = formats.export([got.frame], "mooncake", written)
    changed = 0
    for old, new in zip(
        path.read_text().splitlines(), written.read_text().splitlines(), strict=True
    ):
        if (
            old != new
        ):  # the whole prompt is that of another request: its partial last block gets its own id
            a, b = json.loads(old), json.loads(new)
            assert a["input_length"] % 512
            assert a["hash_ids"][:-1] == b["hash_ids"][:-1]
            assert a["hash_ids"][-1] != b["hash_ids"][-1]
            assert {k: v for k, v in a.items() if k != "hash_ids"} == {
                k: v for k, v in b.items() if k != "hash_ids"
            }
            changed += 1
    assert (
        changed == done.losses["prefix_hashes (a partial last block that others share: private id)"]
    )
    assert 0 < changed < 500


def test_burstgpt_head(real: Path, tmp_path: Path) -> None:
    path = real / "llm/BurstGPT_1.head400.csv"
    got = read(path)
    failed = got.frame.filter(pl.col("status") == "unknown-failure")
    assert (got.frame.height, failed.height) == (400, 17)
    assert failed["input_tokens"].null_count() == failed["output_tokens"].null_count() == 17
    kept = got.frame.filter(pl.col("status") == "ok")
    assert (kept["arrival_ns"][-1] - got.frame["arrival_ns"][0]) == 37_269 * 10**9
    # the research notes count the lengths of failed requests as 0
    assert got.frame["input_tokens"].fill_null(0).mean() == pytest.approx(520.47, abs=5e-3)
    assert got.frame["output_tokens"].fill_null(0).mean() == pytest.approx(276.53, abs=5e-3)
    assert (got.summary.clock, got.summary.origin_ns) == ("local", None)
    assert got.column("arrival_ns")[0] == 5 * 10**9
    written = tmp_path / "again.csv"
    formats.export([got.frame], "burstgpt", written)
    assert written.read_bytes() == path.read_bytes()


@pytest.mark.parametrize(("region", "day"), [("R1", "day_00"), ("R5", "day_30")])
def test_huawei_cold_starts(real: Path, region: str, day: str) -> None:
    got = read(real / f"serverless/huawei-2025/cold_start/{region}/{day}.csv")
    assert got.frame.height == 5
    assert set(got.column("region")) == {region}
    assert got.summary.table == "cold_starts"
    # the published identity: total = sum of the four components
    assert got.frame["residual_s"].abs().max() < 1e-12  # type: ignore[operator]
    assert got.frame["cpu_limit_mcore"].null_count() == 0
    first = got.frame.row(0, named=True)
    assert first["func_id"].count("---") == 2
    assert first["func_id"].endswith(
        f"{first['pool']}-{first['cpu_limit_mcore']}-{first['memory_limit_mb']}"
    )


def test_measured_vllm_run_through_the_generic_reader(real: Path) -> None:
    """Two clocks in one file: Unix arrival, monotonic engine stamps; arrivals keep every digit."""
    got = read(
        real / "llm/vllm_bench_rtxpro6000_Qwen3-32B.requests.jsonl",
        mapping="arrival=arrival_time,input=input_toks,output=output_toks",
    )
    assert got.frame.height == 300
    assert got.summary.clock == "utc"
    assert np.ptp(got.frame["arrival_ns"].to_numpy()) / 1e9 == pytest.approx(29.12221, abs=5e-6)
    assert got.frame["input_tokens"].mean() == pytest.approx(862.30, abs=5e-3)


@pytest.mark.parametrize(
    "name",
    ["llm/vllm_bench_rtxpro6000_Qwen3-32B.timeseries.csv", "failures/acmetrace/cluster_summary.csv", "llm/vllm_bench_rtxpro6000_Qwen3-32B.meta.json"],
)  # fmt: skip
def test_other_real_files_are_refused_with_help(real: Path, name: str) -> None:
    from lamina_traces.errors import UnknownFormat

    with pytest.raises(UnknownFormat) as caught:
        formats.open_reading([real / name])
    assert caught.value.hint

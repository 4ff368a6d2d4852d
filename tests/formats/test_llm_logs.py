"""Logs of engines and proxies, and results of benchmarks: their clocks, units and failures."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from lamina_traces.store import Store
from tests.formats.fixtures_llm import (
    AIPERF,
    DYNAMO,
    FIXTURES,
    GUIDELLM,
    LITELLM_HEADER,
    SGLANG,
    VLLM_BENCH,
    document,
    lines,
)
from tests.formats.reads import Whole, read, write


def fixture(tmp_path: Path, name: str) -> Whole:
    return read(write(tmp_path / f"{name}.dat", FIXTURES[name]))


def test_vllm_requests_two_clocks(tmp_path: Path) -> None:
    got = fixture(tmp_path, "vllm_requests")
    assert got.column("queued_ns")[0] == got.column("arrival_ns")[0] == 0
    assert got.column("queue_s")[0] == 4.2243e-05  # exact: 479894.581091843 - 479894.5810496
    assert got.column("ttft_s") == [0.509798887, 0.444177119]
    assert got.column("tpot_s")[1] is None  # one token
    unfinished = {**json.loads(FIXTURES["vllm_requests"].splitlines()[0]), "last_token_ts": None}
    cut = read(write(tmp_path / "c.jsonl", lines(unfinished)))
    assert (cut.column("status"), cut.column("e2e_s")) == (["incomplete"], [None])


def test_vllm_requests_stamps_in_reverse_are_counted(tmp_path: Path) -> None:
    row = {**json.loads(FIXTURES["vllm_requests"].splitlines()[0]), "first_token_ts": 479894.5}
    got = read(write(tmp_path / "r.jsonl", lines(row)))
    assert "negative-durations" in [n.code for n in got.summary.notices]
    assert got.column("ttft_s") == [None]
    assert got.column("first_token_ns")[0] < got.column("queued_ns")[0]


def test_vllm_requests_each_file_has_its_own_clock(tmp_path: Path) -> None:
    first = json.loads(FIXTURES["vllm_requests"].splitlines()[0])
    keys = ("queued_ts", "scheduled_ts", "first_token_ts", "last_token_ts")
    other = {**first, "arrival_time": 1777142994.5786855, **{k: first[k] - 479000 for k in keys}}
    got = read(write(tmp_path / "1.jsonl", lines(first)), write(tmp_path / "2.jsonl", lines(other)))
    assert got.column("queued_ns") == got.column("arrival_ns") == [0, 10_000_000_000]
    assert [n.code for n in got.summary.notices] == ["two-clocks", "two-clocks"]


def test_litellm(tmp_path: Path) -> None:
    got = fixture(tmp_path, "litellm")
    assert (got.summary.lines, got.summary.kept) == (3, 2)  # one record has a line break in a cell
    assert got.column("ttft_s") == [0.5, None]  # the second was not streamed
    assert got.column("e2e_s") == [2.5, 1.0]
    assert got.column("tpot_s")[0] == pytest.approx(0.2)
    assert got.column("status") == ["ok", "error"]
    assert got.column("input_tokens") == [100, None]
    assert (got.column("tenant_id"), got.column("user_id")) == (["team", None], ["u1", "e1"])
    assert json.loads(got.column("extra")[0])["spend"] == "0.01"


def test_litellm_as_json_with_mail_addresses(tmp_path: Path) -> None:
    row = {"request_id": "a", "startTime": "2026-01-01T00:00:00.000Z", "endTime": "2026-01-01T00:00:01.5Z", "prompt_tokens": 3, "completion_tokens": 4, "user": "jane@corp.example", "model": "", "metadata": {"user_api_key_alias": "alias"}, "status": None}  # fmt: skip
    got = read(
        write(tmp_path / "l.json", document([row, {**row, "endTime": "2025-12-31T23:59:59Z"}]))
    )
    assert got.column("user_id") == got.column("model") == [None, None]
    assert got.column("status") == ["unknown", "unknown"]
    assert got.column("e2e_s") == [1.5, None]
    assert "jane" not in repr(got.frame.to_dicts())
    assert "alias" not in repr(got.frame.to_dicts())
    assert {"user", "metadata"} <= set(got.summary.dropped_fields)
    assert "negative-durations" in [n.code for n in got.summary.notices]


def test_litellm_naive_stamps_in_a_zone(tmp_path: Path) -> None:
    """The clocks went forward between the two stamps: it took an hour, not two."""
    row = "r,acompletion,k,0,2,1,1,2026-03-29 01:30:00,2026-03-29 03:30:00,,m,u,{},,,,{},{},,success\n"
    got = read(write(tmp_path / "z.csv", LITELLM_HEADER + row), tz="Europe/Berlin")
    assert got.column("e2e_s") == [3600.0]
    assert got.summary.origin_ns == 1_774_744_200_000_000_000


def test_sglang_metrics(tmp_path: Path) -> None:
    got = fixture(tmp_path, "sglang_metrics")
    assert got.column("arrival_ns") == [0, -1_000_000_000]  # in the order of finishing
    assert got.column("status") == ["ok", "error"]
    assert got.column("scheduled_ns")[0] == 250_000_000
    assert got.column("last_token_ns") == [2_000_000_000, -750_000_000]
    assert (got.column("ttft_s")[0], got.column("tpot_s")[0], got.column("queue_s")[0]) == (0.5, 0.375, 0.125)  # fmt: skip
    assert (got.column("cached_input_tokens"), got.column("preemptions")) == ([16, 0], [1, None])
    trace = Store(tmp_path / "s").ingest(tmp_path / "sglang_metrics.dat", "s")
    assert trace.scan().collect()["arrival_ns"].to_list() == [0, 1_000_000_000]
    assert trace.manifest.origin_ns == 1_777_142_984_250_000_000


def test_sglang_metrics_without_stamps(tmp_path: Path) -> None:
    row = {k: v for k, v in SGLANG[0].items() if not k.endswith(("_ts", "_time"))}
    got = read(write(tmp_path / "n.log", lines(row)))
    assert (got.column("arrival_ns"), got.column("input_tokens")) == ([None], [30])


def test_dynamo(tmp_path: Path) -> None:
    got = fixture(tmp_path, "dynamo")
    assert (got.summary.kept, got.summary.other) == (2, 1)  # the tool event
    assert got.column("arrival_ns") == [0, -500_250_000]
    assert got.column("prefix_hashes")[0] == [14879255164371896291, 274632075616497421]
    assert got.column("prefix_block_size") == [64, None]
    assert got.column("input_tokens") == [128, 40]
    assert got.column("status") == ["ok", "unknown"]
    assert (got.column("ttft_s")[0], got.column("queue_s")[0], got.column("e2e_s")) == (0.0825, 0.0125, [1.0, 1.00025])  # fmt: skip
    assert got.column("session_id") == ["run:researcher", "run:planner"]
    assert got.column("workflow_id") == [None, "run"]
    assert json.loads(got.column("extra")[0])["worker.decode_worker_id"] == 7587890000000000001
    other = {**DYNAMO[0], "schema": "dynamo.request.trace.v9"}
    assert read(write(tmp_path / "d.jsonl", lines(DYNAMO[0], other))).summary.rejected == 1


def test_vllm_bench(tmp_path: Path) -> None:
    got = fixture(tmp_path, "vllm_bench")
    assert got.summary.nature == "measured"
    assert got.column("arrival_ns") == [168_950_400, 0, 418_950_400]
    assert got.column("ttft_s") == [0.5, 0.25, None]
    assert got.column("e2e_s") == [0.75, 0.25, None]
    assert got.column("tpot_s") == [0.125, None, None]
    assert (got.column("status"), got.column("output_tokens")) == (
        ["ok", "ok", "error"],
        [3, 1, None],
    )
    assert {"generated_texts", "errors"} <= set(got.summary.dropped_fields)


def test_vllm_bench_of_older_versions(tmp_path: Path) -> None:
    old = {k: v for k, v in VLLM_BENCH.items() if k not in ("latencies", "start_times", "queue_times", "errors")}  # fmt: skip
    got = read(write(tmp_path / "o.json", document(old)))
    assert got.summary.clock == "none"
    assert got.column("e2e_s")[0] == 0.7  # 0.5 + 0.1 + 0.1
    assert set(got.column("status")) == {"unknown"}
    uneven = {**VLLM_BENCH, "ttfts": [0.5]}
    both = read(write(tmp_path / "u.jsonl", lines(VLLM_BENCH, uneven)))
    assert (both.summary.kept, both.summary.rejected) == (3, 1)


def test_aiperf(tmp_path: Path) -> None:
    got = fixture(tmp_path, "aiperf")
    assert got.column("arrival_ns") == [0, 5]
    assert (got.column("ttft_s"), got.column("e2e_s")) == ([0.5, None], [2.0, None])
    assert got.column("tpot_s")[0] == pytest.approx(0.15)  # not the 0.14 that aiperf reports
    assert (got.column("status"), got.column("turn")) == (["ok", "timeout"], [1, None])
    assert got.column("reasoning_tokens") == [4, None]
    metrics: dict[str, Any] = {"time_to_first_token": {"value": 1, "unit": "fortnight"}}
    odd = read(write(tmp_path / "x.jsonl", lines(AIPERF[0], {**AIPERF[0], "metrics": metrics})))
    assert (odd.summary.kept, odd.summary.rejected) == (1, 1)


def test_guidellm(tmp_path: Path) -> None:
    got = fixture(tmp_path, "guidellm")
    assert got.column("request_id") == ["g0", "g1", "g3"]
    assert got.column("status") == ["ok", "error", "incomplete"]
    assert (got.column("ttft_s")[0], got.column("tpot_s")[0], got.column("e2e_s")[0]) == (0.5, 0.5, 2.0)  # fmt: skip
    assert got.column("output_tokens") == [4, None, 4]
    assert got.column("cached_input_tokens")[0] == 16
    assert got.summary.origin_ns == 100_125_000_000
    empty = {**GUIDELLM, "benchmarks": [*GUIDELLM["benchmarks"], {"requests": {"successful": []}}]}
    assert read(write(tmp_path / "e.json", document(empty))).frame.height == 3


def test_inference_perf(tmp_path: Path) -> None:
    got = fixture(tmp_path, "inference_perf")
    assert got.column("arrival_ns") == [249_000_000, 0]  # the earliest comes last
    assert (got.column("ttft_s"), got.column("e2e_s")) == ([0.5, None], [2.0, None])
    assert got.column("tpot_s")[0] == 0.75
    assert got.column("status") == ["ok", "timeout"]
    assert (got.column("input_tokens"), got.column("cached_input_tokens")) == ([591, 7], [64, None])


def test_openai_usage_is_a_series_and_no_requests(tmp_path: Path) -> None:
    got = fixture(tmp_path, "openai_usage")
    assert (got.summary.table, got.summary.kind) == ("metric_series", "metrics")
    assert dict(zip(got.column("metric"), got.column("value"), strict=True)) == {
        "openai_usage_num_model_requests": 470, "openai_usage_input_tokens": 141201,
        "openai_usage_input_cached_tokens": 0, "openai_usage_output_tokens": 9756,
    }  # fmt: skip
    assert json.loads(got.column("labels")[0]) == {"batch": "False", "model": "m", "project_id": "p", "window_s": "86400"}  # fmt: skip
    assert got.summary.origin_ns == 1_730_419_200_000_000_000
    assert "key_1" not in repr(got.frame.to_dicts())


@pytest.mark.parametrize(
    ("name", "old", "new", "column", "stamp"),
    [
        ("blis_v2", b"501000,901000", b"501000,500", "e2e_s", "last_token_ns"),
        ("litellm", b"00:00:01Z,2026-01-01T00:00:02Z", b"00:00:01Z,2026-01-01T00:00:00Z", "e2e_s", "last_token_ns"),
        ("sglang_metrics", b'"e2e_latency": 0.25', b'"e2e_latency": -0.25', "e2e_s", "last_token_ns"),
        ("guidellm", b'"first_token_iteration": 100.625', b'"first_token_iteration": 99.5', "ttft_s", "first_token_ns"),
        ("inference_perf", b"1394.0,", b"1393.0,", "ttft_s", "first_token_ns"),
        ("swissai", b"13:56:50.527", b"13:56:40.527", "e2e_s", "last_token_ns"),
        ("weka", b'"ttft": 1.0', b'"ttft": 3.0', "tpot_s", "arrival_ns"),
    ],
)  # fmt: skip
def test_negative_durations_are_counted_and_stamps_kept(
    name: str, old: bytes, new: bytes, column: str, stamp: str, tmp_path: Path
) -> None:
    assert old in FIXTURES[name]
    before = fixture(tmp_path, name)
    got = read(write(tmp_path / "changed.dat", FIXTURES[name].replace(old, new)))
    assert got.frame.height == before.frame.height
    assert got.frame[column].null_count() >= before.frame[column].null_count()
    assert (got.frame[column].drop_nulls() >= 0).all()
    assert got.frame[stamp].null_count() == before.frame[stamp].null_count()
    assert "negative-durations" in [n.code for n in got.summary.notices]
    assert "negative-durations" not in [n.code for n in before.summary.notices]

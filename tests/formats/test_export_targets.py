"""The rules of single targets, worked out by hand from what their loaders were read to do."""

from __future__ import annotations

import ast
import csv
import io
import itertools
import json
import math
from collections import Counter
from pathlib import Path
from typing import Any

import duckdb
import polars as pl
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lamina_traces import formats
from lamina_traces.errors import DataError, LaminaError, UsageError

S = 10**9
TYPES: dict[str, Any] = {
    "row_id": pl.Int64, "arrival_ns": pl.Int64, "session_id": pl.String, "turn": pl.Int32,
    "depends_on": pl.List(pl.Int64), "delay_after_parent_ns": pl.Int64, "client_id": pl.String,
    "input_tokens": pl.Int32, "output_tokens": pl.Int32, "prefix_block_size": pl.Int32,
    "prefix_hashes": pl.List(pl.UInt64), "e2e_s": pl.Float64, "stage": pl.String, "streaming": pl.Boolean, "status": pl.String,
}  # fmt: skip


def rows(*values: dict[str, Any]) -> pl.DataFrame:
    """Requests with what is given; lengths 10 and 2 unless told."""
    filled = [
        {"row_id": i, "input_tokens": 10, "output_tokens": 2, "status": "ok"} | v
        for i, v in enumerate(values)
    ]
    names = [n for n in TYPES if any(n in v for v in filled)]
    return pl.DataFrame(filled, schema={n: TYPES[n] for n in names})


TALK = rows(
    {"arrival_ns": 5 * S, "session_id": "a", "turn": 1, "depends_on": [], "e2e_s": 1.5, "client_id": "x"},
    {"arrival_ns": 6 * S, "input_tokens": 600, "client_id": "y"},
    {"arrival_ns": 9 * S, "session_id": "a", "turn": 2, "depends_on": [0], "input_tokens": 30, "client_id": "x"},
    {"session_id": "a", "turn": 3, "depends_on": [2], "delay_after_parent_ns": 7, "input_tokens": 40, "client_id": "x"},
)  # fmt: skip


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(x) for x in path.read_text(encoding="utf-8").splitlines()]


def cells(path: Path) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(path.read_text(encoding="utf-8"))))


# --- all targets -----------------------------------------------------------------------------------

LLM = [n for n, t in formats.TARGETS.items() if {"llm_requests", "*"} & set(t.tables)]


@st.composite
def requests(draw: st.DrawFn) -> pl.DataFrame:
    """Any requests at all: nulls, zeros, lists that do not fit, sessions out of order."""
    out = []
    clock = draw(st.integers(-(10**12), 10**15))
    for _ in range(draw(st.integers(1, 10))):
        clock += draw(st.sampled_from([0, 1, 10**6, 10**9, 10**13]))
        out.append(
            {
                "arrival_ns": clock,
                "session_id": draw(st.sampled_from([None, None, "a", "b\n"])),
                "turn": draw(st.sampled_from([None, 1, 2])),
                "delay_after_parent_ns": draw(st.sampled_from([None, 0, -5, 10**9])),
                "client_id": draw(st.sampled_from([None, "c", "7", "é,\n\""])),
                "input_tokens": draw(st.sampled_from([None, 0, 1, 16, 512, 513, 1500])),
                "output_tokens": draw(st.sampled_from([None, 0, 1, 700])),
                "prefix_block_size": draw(st.sampled_from([None, 16, 512])),
                "prefix_hashes": draw(st.one_of(st.none(), st.lists(st.sampled_from([0, 1, 5, 2**63, 2**64 - 1]), max_size=4))),
                "e2e_s": draw(st.sampled_from([None, 0.0, 2.5])),
                "status": draw(st.sampled_from(["ok", "error", "unknown"])),
            }
        )  # fmt: skip
    for row in out[len(out) - draw(st.integers(0, 2)) :]:
        row["arrival_ns"] = None
    return rows(*out)


@pytest.mark.parametrize("name", LLM)
def test_every_row_is_written_or_counted(
    name: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    @settings(max_examples=12, deadline=None, suppress_health_check=list(HealthCheck))
    @given(frame=requests(), cut=st.integers(0, 10))
    def check(frame: pl.DataFrame, cut: int) -> None:
        folder = tmp_path_factory.mktemp(name)
        try:
            done = formats.export([frame[:cut], frame[cut:]], name, folder / "out")
        except LaminaError as e:
            if "nothing to write" not in e.message or not e.hint:
                raise
            assert list(folder.iterdir()) == []
            return
        assert done.rows == frame.height == done.written + sum(done.skipped.values())
        assert [p.name for p in folder.iterdir()] == ["out"]
        assert all(n > 0 for n in done.losses.values())

    check()


def test_a_folder_appears_whole_or_not_at_all(tmp_path: Path) -> None:
    frame = rows({"arrival_ns": 1}, {"arrival_ns": 2})
    place = tmp_path / "talks"
    with pytest.raises(DataError, match="not sorted"):
        formats.export([frame, frame], "weka", place)
    assert list(tmp_path.iterdir()) == []
    place.mkdir()
    done = formats.export([frame], "weka", place)  # an empty folder is as good as none
    assert sorted(p.name for p in place.iterdir()) == ["00000000.json", "00000001.json"]
    assert done.bytes == sum(p.stat().st_size for p in place.iterdir())
    again = formats.export([frame], "weka", tmp_path / "twice")
    assert again.sha256 == done.sha256
    with pytest.raises(UsageError, match="not empty") as caught:
        formats.export([frame], "weka", place)
    assert "new folder" in str(caught.value.hint)
    (tmp_path / "file").touch()
    with pytest.raises(UsageError, match="is a folder"):
        formats.export([frame], "weka", tmp_path / "file")


def test_a_trace_of_another_kind_is_refused(tmp_path: Path) -> None:
    power = pl.DataFrame(
        {"row_id": [0], "arrival_ns": [0], "device": ["gpu0"], "domain": ["gpu"], "power_w": [1.0]}
    )
    with pytest.raises(
        UsageError, match="made from llm_requests; this trace holds power_samples"
    ) as caught:
        formats.export({"power_samples": [power]}, "vidur", tmp_path / "x.csv")
    assert "catalog targets" in str(caught.value.hint)
    done = formats.export({"power_samples": [power]}, "csv", tmp_path / "x.csv")
    assert (done.table, done.written) == ("power_samples", 1)


def test_session_clocks_are_named(tmp_path: Path) -> None:
    """Where every session begins at 0 there is no common arrival process to replay."""
    frame = rows({"arrival_ns": 0, "session_id": "a"}, {"arrival_ns": 0, "session_id": "b"})
    done = formats.export([frame], "vidur", tmp_path / "v", clock="session")
    assert any("clock for each session" in n for n in done.notes)
    assert not any(
        "session" in n
        for n in formats.export([frame], "weka", tmp_path / "w", clock="session").notes
    )


# --- prefix blocks ---------------------------------------------------------------------------------


@settings(max_examples=30, deadline=None, suppress_health_check=list(HealthCheck))
@given(frame=requests(), name=st.sampled_from(["mooncake-guidellm", "mooncake-vllm"]))
def test_blocks_cover_every_prompt(
    tmp_path_factory: pytest.TempPathFactory, frame: pl.DataFrame, name: str
) -> None:
    path = tmp_path_factory.mktemp("blocks") / "t.jsonl"
    frame = frame.filter(pl.col("arrival_ns").is_not_null())
    able = frame.filter(pl.col("input_tokens").is_not_null(), pl.col("output_tokens").is_not_null())
    if not able.height:
        return
    done = formats.export([frame], name, path)
    got = lines(path)
    flag = ["hash_id_block_size=16", "--timed-trace-chunk-hash-size 16"]
    size = 16 if any(f in done.command for f in flag) else 512
    uses = Counter(i for r in got for i in r["hash_ids"])
    largest = 2**31 if name == "mooncake-guidellm" else 2**64
    for row in got:
        ids, n = row["hash_ids"], row["input_length"]
        assert len(ids) == math.ceil(n / size)
        assert all(0 <= i < largest for i in ids)
        if n % size:
            assert uses[ids[-1]] == 1, "a partial last block is shared"
    # what the trace shares in whole blocks stays shared, what it does not share stays apart
    given = [
        (h or [], s or 512, n)
        for h, s, n in able.select("prefix_hashes", "prefix_block_size", "input_tokens").iter_rows()
    ]
    names: dict[int, int] = {}
    for (hashes, own, n), row in zip(given, got, strict=True):
        for h, g in zip(hashes if own == size else [], row["hash_ids"][: n // size], strict=False):
            assert names.setdefault(h, g) == g
    assert len(set(names.values())) == len(names)


def test_private_ids_are_free_ids(tmp_path: Path) -> None:
    """Also where the trace's own ids fill both ends of the range."""
    ids = [2**64 - 1, 2**62 - 4, 2**62 - 5]
    frame = rows(
        *(
            {
                "arrival_ns": i,
                "prefix_block_size": 512,
                "prefix_hashes": [h, 9],
                "input_tokens": 600,
            }
            for i, h in enumerate(ids)
        )
    )
    done = formats.export([frame], "mooncake", tmp_path / "m.jsonl")
    got = [r["hash_ids"] for r in lines(tmp_path / "m.jsonl")]
    assert [h[0] for h in got] == ids
    private = {h[1] for h in got}
    assert len(private) == 3
    assert not private & {*ids, 9}
    assert done.losses["prefix_hashes (a partial last block that others share: private id)"] == 3


def test_sglang_gets_as_many_blocks_as_words_need(tmp_path: Path) -> None:
    frame = rows(
        {"arrival_ns": 0, "input_tokens": 1024, "prefix_block_size": 512, "prefix_hashes": [7, 8]},
        {"arrival_ns": 1, "input_tokens": 700, "prefix_block_size": 512, "prefix_hashes": [7, 9]},
    )
    formats.export([frame], "mooncake-sglang", tmp_path / "s.jsonl")
    a, b = (r["hash_ids"] for r in lines(tmp_path / "s.jsonl"))
    assert (len(a), len(b)) == (8, 5)
    assert a[:4] == b[:4]
    assert not set(a[4:]) & set(b)
    small = rows(
        {
            "arrival_ns": 0,
            "input_tokens": 264,
            "prefix_block_size": 16,
            "prefix_hashes": list(range(17)),
        }
    )
    formats.export([small], "mooncake-sglang", tmp_path / "t.jsonl")
    assert lines(tmp_path / "t.jsonl")[0]["hash_ids"] == [7, 15]


# --- simulators ------------------------------------------------------------------------------------


def test_simulators(tmp_path: Path) -> None:
    for name in ("apex", "splitwise-sim", "llmservingsim", "vidur", "llmservingsim-agentic"):
        done = formats.export([TALK], name, tmp_path / name)
        assert (done.written, dict(done.skipped)) == (
            (4, {}) if name.endswith("agentic") else (3, {"without an arrival": 1})
        )
    assert lines(tmp_path / "apex")[2] == {
        "StartTimeOffset": 4 * S,
        "ContextTokens": 30,
        "GeneratedTokens": 2,
    }
    assert lines(tmp_path / "llmservingsim")[1] == {
        "input_toks": 600,
        "output_toks": 2,
        "arrival_time_ns": S,
    }
    assert (tmp_path / "splitwise-sim").read_text().splitlines() == [
        "request_id,request_type,application_id,arrival_timestamp,batch_size,prompt_size,token_size",
        "0,2,0,0,1,10,2",
        "1,2,0,1,1,600,2",
        "2,2,0,4,1,30,2",
    ]
    assert (tmp_path / "vidur").read_text().splitlines()[2] == "2023-08-21,1,600,2,1,600,2"
    # 9 s - 5 s - 1.5 s of serving is the wait of the second turn; the third records its own
    assert lines(tmp_path / "llmservingsim-agentic") == [
        {
            "session_id": "a", "arrival_time_ns": 0,
            "sub_requests": [
                {"input_toks": 10, "output_toks": 2, "tool_duration_ns": 2_500_000_000},
                {"input_toks": 30, "output_toks": 2, "tool_duration_ns": 7},
                {"input_toks": 40, "output_toks": 2},
            ],
        },
        {"arrival_time_ns": S, "sub_requests": [{"input_toks": 600, "output_toks": 2}]},
    ]  # fmt: skip


def test_blis_parses_every_cell(tmp_path: Path) -> None:
    done = formats.export([TALK[:3]], "blis", tmp_path / "b")
    assert (tmp_path / "b" / "b.yaml").read_text().splitlines()[:3] == [
        "trace_version: 2",
        "time_unit: microseconds",
        "mode: generated",
    ]
    table = cells(tmp_path / "b" / "b.csv")
    assert [r["session_id"] for r in table] == ["a", "", "a"]
    assert [r["round_index"] for r in table] == ["0", "0", "1"]
    assert [r["arrival_time_us"] for r in table] == ["0", "1000000", "4000000"]
    assert len(table[0]) == 27
    integers = (
        "request_id",
        "round_index",
        "prefix_length",
        "input_tokens",
        "output_tokens",
        "text_tokens",
        "deadline_us",
        "server_input_tokens",
        "send_time_us",
        "first_chunk_time_us",
        "num_chunks",
    )
    for row in table:
        assert all(int(row[c]) >= 0 for c in integers)
        assert row["streaming"] in ("true", "false")
        assert 0 <= float(row["reason_ratio"]) <= 1
    assert done.losses["streaming (not recorded, written as false)"] == 3
    assert "--trace-header" in done.command


def test_weka_subagents_are_nested(tmp_path: Path) -> None:
    """Calls with a stage beside a main line: a chain is one subagent; the call that waits for it says so."""
    a = {"session_id": "s", "e2e_s": 0.5, "streaming": False}
    talk = rows(
        a | {"arrival_ns": 0, "depends_on": [], "input_tokens": 1},
        a | {"arrival_ns": 1 * S, "depends_on": [0], "stage": "Explore", "input_tokens": 2},
        a | {"arrival_ns": 2 * S, "depends_on": [0], "stage": "Plan", "input_tokens": 3},
        a | {"arrival_ns": 3 * S, "depends_on": [1], "stage": "Explore", "input_tokens": 4, "delay_after_parent_ns": S // 4},
        a | {"arrival_ns": 5 * S, "depends_on": [0, 3], "input_tokens": 5},
    )  # fmt: skip
    done = formats.export([talk], "weka", tmp_path / "w")
    document = json.loads((tmp_path / "w" / "00000000.json").read_text())
    main, explore, plan, last = document["requests"]
    assert (main["in"], last["in"], last["t"]) == (1, 5, 5.0)
    assert (explore["type"], explore["subagent_type"], explore["status"]) == (
        "subagent",
        "Explore",
        "completed",
    )
    assert [(r["in"], r.get("think_time")) for r in explore["requests"]] == [(2, None), (4, 0.25)]
    assert (plan["subagent_type"], plan["status"], len(plan["requests"])) == ("Plan", "async_launched", 1)  # fmt: skip
    assert explore["agent_id"] != plan["agent_id"]
    assert not [k for k in done.losses if k.startswith(("depends_on", "stage"))]


# --- rates -----------------------------------------------------------------------------------------


@settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))
@given(gaps=st.lists(st.integers(0, 10**12), min_size=1, max_size=40), cut=st.integers(0, 40))
def test_rates_hold_as_many_arrivals(
    tmp_path_factory: pytest.TempPathFactory, gaps: list[int], cut: int
) -> None:
    folder = tmp_path_factory.mktemp("rates")
    at = [sum(gaps[: i + 1]) for i in range(len(gaps))]
    frame = rows(*({"arrival_ns": a} for a in at))
    formats.export([frame[:cut], frame[cut:]], "rate-series", folder / "r")
    document = json.loads((folder / "r").read_text())
    assert set(document) == {"points"}
    points = [(p["time_s"], p["qps"]) for p in document["points"]]
    assert len(points) >= 2
    assert all(a[0] < b[0] for a, b in itertools.pairwise(points))
    assert all(q > 0 for _, q in points)
    area = sum((b[0] - a[0]) * (a[1] + b[1]) / 2 for a, b in itertools.pairwise(points))
    assert area == pytest.approx(len(at), rel=0.01, abs=0.02)
    formats.export([frame[:cut], frame[cut:]], "k6", folder / "k")
    (scenario,) = json.loads((folder / "k").read_text())["scenarios"].values()
    unit = int(scenario["timeUnit"][:-1])
    total, rate = 0.0, scenario["startRate"]
    for stage in scenario["stages"]:
        assert isinstance(stage["target"], int)
        total += int(stage["duration"][:-1]) * (rate + stage["target"]) / 2 / unit
        rate = stage["target"]
    assert total == len(at)
    assert len(scenario["stages"]) <= 4001


# --- ServeGen --------------------------------------------------------------------------------------


def pool(
    folder: Path, client: int
) -> tuple[list[list[str]], dict[str, dict[str, dict[int, float]]]]:
    windows = [
        x.split(",") for x in (folder / f"chunk-{client}-trace.csv").read_text().splitlines()
    ]
    document = json.loads((folder / f"chunk-{client}-dataset.json").read_text())
    return windows, {
        at: {f: ast.literal_eval(t) for f, t in d.items()} for at, d in document.items()
    }


def test_servegen_from_requests(tmp_path: Path) -> None:
    frame = rows(
        *({"arrival_ns": i * S, "client_id": "x", "input_tokens": 5 + i % 2} for i in range(11)),
        {"arrival_ns": 1300 * S, "client_id": "y", "input_tokens": 7},
    )
    done = formats.export([frame], "servegen", tmp_path / "p")
    windows, lengths = pool(tmp_path / "p", 0)
    assert [w[0] for w in windows] == ["0", "600", "1200"]
    rate, cv, law, shape, scale = windows[0][1:]
    assert (float(rate), float(cv), law) == (11 / 600, 0.0, "Gamma")
    assert float(shape) * float(scale) == pytest.approx(1 / float(rate))
    assert windows[1][1:] == ["0", "0", "", "0", "0"]
    assert lengths["0"]["input_tokens"] == {5: pytest.approx(6 / 11), 6: pytest.approx(5 / 11)}
    late, _ = pool(tmp_path / "p", 1)
    assert [w[3] for w in late] == ["", "", "Gamma"]
    assert done.losses["client_id (numbered anew)"] == 2


def test_servegen_tables_come_out_as_they_are(tmp_path: Path) -> None:
    windows = pl.DataFrame(
        {
            "row_id": [0, 1, 2, 3], "client_id": ["14", "3", "14", "3"], "arrival_ns": [0, 0, 600 * S, 600 * S],
            "window_s": [600.0] * 4, "rate_rps": [19.053333333333335, 0.0, 14.16, 0.25], "gap_cv": [5.3046940625043915, None, 4.5, 1.0],
            "law": ["weibull", None, "weibull", "gamma"], "shape": [0.405171048754724, None, 0.5, 1.0], "scale_s": [0.02819138519386574, None, 0.04, 4.0],
        }
    )  # fmt: skip
    laws = pl.DataFrame(
        {"row_id": [0, 1, 2], "client_id": ["14", "14", "3"], "arrival_ns": [0, 0, 0], "field": ["input_tokens", "input_tokens", "reason_ratio"], "value": [18.0, 19.0, 0.25], "prob": [0.25, 0.75, 1.0]}
    )  # fmt: skip
    done = formats.export(
        {"client_windows": [windows], "client_pmf": [laws]}, "servegen", tmp_path / "p"
    )
    assert done.written == 4
    assert (tmp_path / "p" / "chunk-14-trace.csv").read_text().splitlines()[0] == (
        "0,19.053333333333335,5.3046940625043915,Weibull,0.405171048754724,0.02819138519386574"
    )
    idle, ratio = pool(tmp_path / "p", 3)
    assert idle[0][3:] == ["", "0", "0"]
    assert float(idle[0][1]) == float(idle[0][2]) == 0
    assert ratio["0"]["reason_ratio"] == {0.25: 1.0}
    assert pool(tmp_path / "p", 14)[1]["0"]["input_tokens"] == {18: 0.25, 19: 0.75}
    with pytest.raises(UsageError, match="client_windows with client_pmf or llm_requests"):
        formats.export({"client_windows": [windows]}, "servegen", tmp_path / "q")


# --- serverless ------------------------------------------------------------------------------------

F = "f" * 20


def test_invitro_from_counts(tmp_path: Path) -> None:
    counts = pl.DataFrame(
        {
            "row_id": [0, 1, 2], "func_id": [F, "g", F], "owner_id": ["o", "o", "o"], "app_id": ["a", "b", "a"],
            "trigger": ["timer", "http", "timer"], "arrival_ns": [480 * 60 * S, 481 * 60 * S, 483 * 60 * S],
            "bin_s": [60.0] * 3, "invocations": [3, 5, 7],
        }
    )  # fmt: skip
    stats = pl.DataFrame(
        {
            "row_id": range(5), "func_id": [F, F, None, F, F], "app_id": ["a", "a", "b", "a", "a"],
            "metric": ["duration_s", "duration_30s_mean_s", "memory_mb", "duration_s", "duration_s"],
            "stat": ["mean", "p99", "mean", "p99", "p50"], "value": [0.0715, 1.265, 9.5, 7.0, 0.5], "samples": [288, 288, 22, 288, 288],
        }
    )  # fmt: skip
    done = formats.export(
        {"invocation_counts": [counts], "function_stats": [stats]}, "invitro", tmp_path / "i"
    )
    assert done.written == 3
    made = {p.stem: cells(p) for p in (tmp_path / "i").iterdir()}
    f, g = made["invocations"]
    assert [f[str(m)] for m in range(1, 5)] == ["3", "0", "0", "7"]
    assert [g[str(m)] for m in range(1, 5)] == ["0", "5", "0", "0"]
    assert (g["HashFunction"], g["Trigger"]) == ("g" + "0" * 17, "http")
    assert made["durations"][0]["Average"] == "71.5"
    assert made["durations"][0]["percentile_Average_99"] == "1265"
    assert made["durations"][0]["percentile_Average_50"] == "500"
    assert made["durations"][0]["Count"] == "288"
    assert made["memory"][1]["AverageAllocatedMb"] == "9.5"
    assert {r["HashFunction"] for r in made["memory"]} == {f["HashFunction"], g["HashFunction"]}
    assert done.losses["func_id (shorter than 18 characters: zeros added)"] == 1
    assert done.losses["memory_mb statistics (not recorded, written as 0)"] == 2 * 10 - 2


def test_invitro_and_faas_profiler_from_invocations(tmp_path: Path) -> None:
    calls = pl.DataFrame(
        {"row_id": range(4), "func_id": [F, "g", F, F], "arrival_ns": [S, 2 * S, 2 * S + 5, 70 * S], "duration_s": [0.1, None, 0.2, 0.3], "status": ["ok"] * 4}
    )  # fmt: skip
    formats.export({"invocations": [calls]}, "invitro", tmp_path / "i")
    made = {p.stem: cells(p) for p in (tmp_path / "i").iterdir()}
    assert [(r["1"], r["2"]) for r in made["invocations"]] == [("2", "1"), ("1", "0")]
    assert made["durations"][0]["Average"] == "200"
    done = formats.export(
        {"invocations": [calls[:2], calls[2:]]}, "faas-profiler", tmp_path / "f.json"
    )
    document = json.loads((tmp_path / "f.json").read_text())
    assert {n: i["interarrivals_list"] for n, i in document["instances"].items()} == {
        F: [0, 1.000000005, 67.999999995], "g": [1],
    }  # fmt: skip
    assert all(
        sum(i["interarrivals_list"]) <= document["test_duration_in_seconds"]
        for i in document["instances"].values()
    )
    assert document["blocking_cli"] is False
    assert done.written == 4


# --- our own columns -------------------------------------------------------------------------------


def test_plain_files_hold_every_value(tmp_path: Path) -> None:
    frame = TALK.with_columns(
        pl.Series("prefix_hashes", [[2**64 - 1, 1], None, [], [3]], dtype=pl.List(pl.UInt64))
    )
    for name in ("csv", "jsonl", "duckdb", "parquet"):
        done = formats.export([frame[:2], frame[2:]], name, tmp_path / name)
        assert (done.written, dict(done.losses), dict(done.skipped)) == (4, {}, {})
    rows_ = frame.rows(named=True)
    assert lines(tmp_path / "jsonl") == rows_
    with duckdb.connect(str(tmp_path / "duckdb"), read_only=True) as c:
        got = pl.DataFrame(pl.from_arrow(c.sql("SELECT * FROM llm_requests").to_arrow_table()))
        assert got.rows(named=True) == rows_
        assert c.sql("SELECT value FROM trace WHERE fact = 'clock'").fetchall() == [("relative",)]
    assert not list(tmp_path.glob("*.wal"))
    assert pl.read_parquet(tmp_path / "parquet").rows(named=True) == rows_
    table = cells(tmp_path / "csv")
    assert [r["prefix_hashes"] for r in table] == ["[18446744073709551615,1]", "", "[]", "[3]"]
    assert [r["arrival_ns"] for r in table] == ["5000000000", "6000000000", "9000000000", ""]


def test_a_database_holds_every_table(tmp_path: Path) -> None:
    windows = pl.DataFrame({"row_id": [0], "arrival_ns": [0], "iterations": [5]})
    done = formats.export(
        {"llm_requests": [TALK], "batch_windows": [windows]}, "duckdb", tmp_path / "d"
    )
    with duckdb.connect(str(tmp_path / "d"), read_only=True) as c:
        assert c.sql("SELECT iterations FROM batch_windows").fetchall() == [(5,)]
    assert (done.rows, done.written) == (4, 4)
    assert any("batch_windows" in n for n in done.notes)


# --- the disk --------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["mooncake", "weka", "servegen", "duckdb"])
def test_a_disk_that_fails_is_an_error_with_a_hint(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """polars and DuckDB report a full disk by errors of their own."""
    frame = TALK[:3].with_columns(
        pl.Series("prefix_hashes", [[1], [2, 3], [4]], dtype=pl.List(pl.UInt64))
    )

    def full(*_args: Any, **_options: Any) -> None:
        raise pl.exceptions.ComputeError("no space left")

    for write in ("write_parquet", "write_ipc"):
        monkeypatch.setattr(pl.DataFrame, write, full)
    if name == "duckdb":
        monkeypatch.setattr("lamina_traces.formats.targets.plain.duckdb.connect", full)
    with pytest.raises(DataError, match="no space left") as caught:
        formats.export([frame], name, tmp_path / "out")
    assert "free space" in str(caught.value.hint)
    assert list(tmp_path.iterdir()) == []

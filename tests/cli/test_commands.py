"""Every command as its user runs it: what goes to stdout, what to stderr, and the exit code."""

from __future__ import annotations

import csv
import io
import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from lamina_traces.cli.app import app
from lamina_traces.samples import sample_path

ROWS = len(sample_path("requests.csv").read_text().splitlines()) - 1
Lamina = Callable[..., "Ran"]
from ..conftest import Ran  # noqa: E402


@pytest.fixture
def store(sample_store: Path) -> list[str]:
    return ["--store", str(sample_store)]


def test_ingest_says_what_it_kept(lamina: Lamina) -> None:
    done = lamina("ingest", sample_path("requests.csv"), "--name", "mine")
    assert done.code == 0
    assert f"{ROWS + 1:,} lines = {ROWS:,} kept + 1 header" in done.out
    assert re.search(
        rf"mine: {ROWS:,} rows of llm_requests over (29\.\d|30) min, read as azure", done.out
    )
    assert "next: lamina-traces fit mine" in done.err
    listed = json.loads(lamina("ls", "--format", "json").out)
    assert [set(x) for x in listed] == [{"name", "kind", "nature", "rows", "span_s", "format"}]
    assert listed[0]["name"] == "mine"
    assert listed[0]["rows"] == ROWS
    again = lamina("ingest", sample_path("requests.csv"), "--name", "mine")
    assert again.code == 2
    assert again.err.startswith("error: trace 'mine' exists\nhint: ")


def test_ingest_json_is_the_manifest(lamina: Lamina) -> None:
    d = json.loads(
        lamina(
            "ingest",
            sample_path("requests.csv"),
            "--name",
            "m",
            "--format",
            "json",
            "--licence",
            "CC0",
        ).out
    )
    assert d["schema_version"] == 1
    assert d["counts"]["lines"] == ROWS + 1
    assert d["inputs"][0]["name"] == "requests.csv"
    assert len(d["inputs"][0]["sha256"]) == 64
    assert d["provenance"]["licence"] == "CC0"


def test_dry_run_shows_mapping_and_stores_nothing(lamina: Lamina) -> None:
    done = lamina("ingest", sample_path("requests.csv"), "--dry-run")
    assert done.code == 0
    assert "ContextTokens    input_tokens   tokens" in done.out
    assert "nothing is stored" in done.out
    assert lamina("ls", "--format", "csv").out == "name,kind,nature,rows,span_s,format\n"


@pytest.mark.parametrize("fmt", ["table", "md", "csv", "json", "jsonl"])
def test_ls_in_every_format(lamina: Lamina, store: list[str], fmt: str) -> None:
    done = lamina("ls", "--format", fmt, *store)
    assert done.code == 0
    assert "sample" in done.out
    if fmt == "csv":
        assert next(csv.DictReader(io.StringIO(done.out)))["rows"] == str(ROWS)


def test_show_trace_and_profile(lamina: Lamina, store: list[str]) -> None:
    done = lamina("show", "sample", "--rows", "2", *store)
    assert done.code == 0
    assert "arrival_ns" in done.out
    assert f"showing 2 of {ROWS:,} rows" in done.err
    profile = lamina("show", "azure-code", *store)
    assert profile.code == 0
    assert "8,819 arrivals over 57.3 min" in profile.out


def test_sql_reads_and_does_not_write(lamina: Lamina, store: list[str]) -> None:
    done = lamina(
        "sql",
        "select count(*) as n, max(input_tokens) as top from sample",
        "--format",
        "json",
        *store,
    )
    assert json.loads(done.out)[0]["n"] == ROWS
    assert (
        lamina(
            "sql",
            "select trace, count(*) as n from llm_requests group by all",
            "--format",
            "csv",
            *store,
        ).out
        == f"trace,n\nsample,{ROWS}\n"
    )
    for bad in (
        "drop view sample",
        "copy sample to 'x.csv'",
        "select * from '/etc/passwd'",
        "select 1; select 2",
    ):
        refused = lamina("sql", bad, *store)
        assert refused.code in (1, 2), bad
        assert refused.err.startswith("error: ")
        assert "Traceback" not in refused.err


def test_fit_writes_a_profile_that_generates(
    lamina: Lamina, store: list[str], tmp_path: Path
) -> None:
    done = lamina("fit", "sample", "-o", "p.json", *store)
    assert done.code == 0
    assert "weibull" in done.out
    d = json.loads((tmp_path / "p.json").read_text())
    assert d["format"] == "lamina-profile/1"
    assert json.loads(lamina("fit", "sample", "--format", "json", *store).out)["parts"].keys() == {
        "llm_requests"
    }
    made = lamina(
        "generate", "p.json", "-n", "1000", "--seed", "3", "-o", "x.parquet", "--format", "json"
    )
    assert made.code == 0
    facts = json.loads(made.out)
    assert facts["rows"] == 1000
    assert facts["seed"] == 3
    assert pl.read_parquet(tmp_path / "x.parquet").height == 1000
    stored = lamina(
        "generate",
        "p.json",
        "-n",
        "1000",
        "--seed",
        "3",
        "--name",
        "made",
        "--threads",
        "2",
        "--format",
        "json",
    )
    assert json.loads(stored.out)["row_hash"] == facts["row_hash"]
    again = json.loads(lamina("ingest", "x.parquet", "--name", "again", "--format", "json").out)
    assert (again["nature"], again["clock"], again["format"]) == ("synthetic", "relative", "lamina")
    same = json.loads(lamina("compare", "made", "again", "--format", "json").out)
    gated = [x["value"] for x in same["lines"] if x["passed"] is not None]
    assert len(gated) > 15
    assert gated == pytest.approx([0.0] * len(gated), abs=1e-12)


def test_generate_duration_rate_and_shards(lamina: Lamina) -> None:
    done = json.loads(
        lamina(
            "generate",
            "azure-code",
            "--duration",
            "10m",
            "--rate",
            "12/s",
            "--name",
            "a",
            "--format",
            "json",
        ).out
    )
    assert done["duration_s"] == 600
    assert 4000 < done["rows"] < 11000
    parts = [
        json.loads(
            lamina(
                "generate",
                "azure-code",
                "--duration",
                "10m",
                "--rate",
                "12/s",
                "--shard",
                f"{i}/3",
                "--name",
                f"s{i}",
                "--format",
                "json",
            ).out
        )
        for i in (1, 2, 3)
    ]
    assert sum(p["rows"] for p in parts) == done["rows"]
    assert f"{sum(int(p['row_hash'], 16) for p in parts) % 2**64:016x}" == done["row_hash"]


@pytest.mark.parametrize(
    ("argv", "what"),
    [
        (["--rate", "0/s", "--name", "x"], "rate '0/s' is not positive"),
        (["--rate", "fast", "--name", "x"], "rate 'fast'"),
        (["--duration", "10", "--name", "x"], "has no unit"),
        (["-n", "0", "--name", "x"], "asks for no rows"),
        (["-n", "5"], "say where the trace goes"),
        (["-n", "5", "-o", "x.csv"], "not a .parquet file"),
        (["-n", "5", "--duration", "1m", "--name", "x"], "both say how much"),
        (["-n", "5", "--name", "x", "--shard", "9/3"], "is not i/n"),
        (["-n", "five", "--name", "x"], "--rows"),
        (["-n", "5", "--name", "mooncake-conversation"], "is a library profile"),
        (["-n", "5", "-o", "folder.parquet"], "is a folder"),
        (["-n", "5", "-o", "there.parquet"], "there.parquet exists"),
        (["-n", "5", "--name", "x", "--block-tokens", "16"], "cuts prefix blocks"),
        (["-n", "5", "--name", "x", "--scale-by", "clients"], "no --rate is given"),
    ],
)
def test_generate_usage_errors(lamina: Lamina, tmp_path: Path, argv: list[str], what: str) -> None:
    (tmp_path / "folder.parquet").mkdir()
    (tmp_path / "there.parquet").write_text("mine")
    done = lamina("generate", "azure-code", *argv)
    assert done.code == 2
    assert done.err.startswith("error: ")
    assert what in done.err
    assert "hint: " in done.err
    assert done.out == ""


def test_generate_replaces_a_file_where_it_may(lamina: Lamina, tmp_path: Path) -> None:
    (tmp_path / "x.parquet").write_text("old")
    assert lamina("generate", "azure-code", "-n", "5", "-o", "x.parquet", "--replace").code == 0
    assert pl.read_parquet(tmp_path / "x.parquet").height == 5


def test_shards_beyond_the_blocks_are_told(lamina: Lamina) -> None:
    done = lamina("generate", "azure-code", "-n", "500", "--name", "x", "--shard", "2/8")
    assert done.code == 0
    assert "this trace has 1 block: 7 of 8 shards are empty [few-blocks]" in done.err
    assert "no request falls into shard 2/8 [empty]" in done.err
    assert "--duration" not in done.err
    many = lamina("generate", "azure-code", "-n", "500", "--name", "y", "--shard", "2/100000")
    assert "99,999 of 100,000 shards are empty" in many.err


def test_a_name_that_looks_like_an_option_has_commands_that_work(lamina: Lamina) -> None:
    assert lamina("generate", "azure-code", "-n", "500", "--name=-x").code == 0
    again = lamina("generate", "azure-code", "-n", "500", "--name=-x")
    assert "lamina-traces rm --yes -- -x" in again.err
    assert lamina("rm", "--yes", "--", "-x").code == 0


def test_columns_that_a_fit_mixes_are_told(lamina: Lamina, tmp_path: Path) -> None:
    head = "arrival_ns,input_tokens,output_tokens,tenant_id,adapter,model\n"
    rows = "".join(f"{i * 10**9},{100 + i % 7},{5 + i % 3},t{i % 40},a{i % 3},m\n" for i in range(3000))  # fmt: skip
    (tmp_path / "t.csv").write_text(head + rows)
    whole = lamina("fit", "t.csv", "-o", "p.json")
    said = "not kept apart, and not generated: adapter (3 values), tenant_id (40 values); fit --by COLUMN keeps one [mixed-streams]"
    assert said in whole.err
    assert "adapter (3 values); fit --by adapter" in lamina("fit", "t.csv", "--by", "tenant_id", "-o", "q.json").err  # fmt: skip


def test_compare_gate(lamina: Lamina, store: list[str]) -> None:
    assert lamina("compare", "sample", "sample", "--gate", *store).code == 0
    other = lamina("compare", "sample", "mooncake-conversation", "--gate", *store)
    assert other.code == 3
    assert "error: " in other.err
    assert "generating 5 traces" in other.err
    assert "over" in other.out


def test_compare_with_a_profile_tells_the_range_over_seeds(
    lamina: Lamina, store: list[str]
) -> None:
    done = lamina("compare", "sample", "azure-code", "--seeds", "2", "--format", "json", *store)
    card = json.loads(done.out)
    assert card["seeds"] == 2
    judged = [x for x in card["lines"] if x["passed"] is not None]
    assert len(judged) > 15
    for x in judged:
        assert x["seed_range"][0] <= x["value"] <= x["seed_range"][1]
        assert x["limit"] >= 1.5 * x["floor"]
        assert x["passed"] == (x["value"] <= x["limit"])
    assert {x["aspect"] for x in card["lines"] if x["limit"] is None} >= {
        "privacy", "classifier", "compression",
    }  # fmt: skip
    assert card["verdict"] in done.err


@pytest.mark.parametrize("target", ["mooncake", "burstgpt", "azure"])
def test_export_reads_back(lamina: Lamina, store: list[str], target: str, tmp_path: Path) -> None:
    done = lamina("export", "sample", "--to", target, "-o", "out.txt", *store)
    assert done.code == 0
    assert f"{ROWS:,} of {ROWS:,} requests" in done.out
    assert "import it with: " in done.err
    back = lamina("ingest", "out.txt", "--name", "back", "--format", "json")
    assert json.loads(back.out)["format"] == target
    lines = json.loads(
        lamina("compare", str(sample_path("requests.csv")), "back", "--format", "json").out
    )["lines"]
    lengths = [x["value"] for x in lines if x["aspect"] == "lengths"]
    assert lengths == pytest.approx([0.0] * 8, abs=1e-12)  # sums in another order


def test_simulate_keys_and_saved_run(lamina: Lamina, tmp_path: Path, sample_store: Path) -> None:
    shutil.copytree(sample_store, tmp_path / "mine")
    at = ["--store", str(tmp_path / "mine")]
    done = lamina(
        "simulate",
        "sample",
        "--model",
        "llama-3.1-8b",
        "--gpu",
        "h100-sxm",
        "--save",
        "r",
        "--format",
        "json",
        *at,
    )
    assert done.code == 0
    d = json.loads(done.out)
    for key in (
        "ttft_p99_s",
        "tpot_mean_s",
        "power_mean_w",
        "usd_per_m_total_tokens",
        "requests_per_s",
        "schema_version",
    ):
        assert key in d, key
    assert d["workload"]["replay"] == "open"
    kinds = {x["name"]: x["nature"] for x in json.loads(lamina("ls", "--format", "json", *at).out)}
    assert kinds == {"sample": "real", "r": "simulated"}
    p50 = json.loads(
        lamina("sql", "select median(ttft_s) as p50 from r", "--format", "json", *at).out
    )[0]["p50"]
    assert p50 == pytest.approx(d["ttft_p50_s"], rel=1e-9)
    shown = lamina("show", "r", *at)
    assert "half see their first token" in shown.out
    (tmp_path / "same.toml").write_text(
        shown.out.split("spec (TOML, for --spec):\n")[1].split("\n\nllm_requests:")[0]
    )
    again = lamina(
        "simulate", "sample", "--spec", "same.toml", "--save", "s", "--format", "json", *at
    )
    assert json.loads(again.out)["ttft_p99_s"] == d["ttft_p99_s"]
    both = json.loads(lamina("compare", "r", "s", "--format", "json", *at).out)["lines"]
    assert {x["b_over_a"] for x in both if x["a"]} == {1.0}
    assert lamina("compare", "r", "s", "--gate", *at).code == 2
    lamina("rm", "s", "--yes", *at)
    assert lamina("export", "r", "--to", "azure", "-o", "r.csv", *at).code == 0
    assert "power_w" in lamina("sql", "select * from r.power_samples limit 1", *at).out


def test_simulate_slo_and_explain(lamina: Lamina, store: list[str]) -> None:
    met = lamina(
        "simulate",
        "sample",
        "--replicas",
        "4",
        "--route",
        "least-outstanding",
        "--slo",
        "tpot.p50=10s",
        "--explain",
        *store,
    )
    assert met.code == 0
    assert "decode_attention" in met.out
    missed = lamina("simulate", "sample", "--slo", "ttft.p99=1ms", *store)
    assert missed.code == 3
    assert "the SLO is missed" in missed.err


@pytest.mark.parametrize(
    ("argv", "code", "what"),
    [
        (["--gpu", "h100-sxn"], 2, "h100-sxm"),
        (["--model", "llama-3.1-9b"], 2, "llama-3.1-8b"),
        (["--model", "llama-3.1-70b"], 1, "GB"),
        (["--model", "llama-3.1-8b", "--tp", "3"], 1, "tp"),
        (["--slo", "tftt.p99=2s"], 2, "ttft"),
        (["--with", "speculative-decodin"], 2, "speculative-decoding"),
        (["--replay", "closed"], 2, "closed"),
        (["--spec", "none.toml"], 1, "none.toml"),
    ],
)
def test_simulate_errors(
    lamina: Lamina, store: list[str], argv: list[str], code: int, what: str
) -> None:
    done = lamina("simulate", "sample", *argv, *store)
    assert done.code == code, done.err
    assert done.err.startswith("error: ")
    assert what in done.err
    assert "hint: " in done.err
    assert done.out == ""


@pytest.mark.parametrize(
    "topic", ["formats", "targets", "gpus", "models", "techniques", "presets", "queries"]
)
def test_catalog(lamina: Lamina, topic: str) -> None:
    done = lamina("catalog", topic, "--format", "json")
    rows = json.loads(done.out)
    assert rows
    assert all(r["name"] for r in rows)


def test_catalog_tells_the_basis_of_each_number(lamina: Lamina) -> None:
    rows = json.loads(lamina("catalog", "gpus", "--format", "json").out)
    h100 = {r["name"]: r for r in rows}["h100-sxm"]
    assert h100["basis"]["bf16_tflop_s"] == "datasheet"
    assert (h100["basis"]["idle_w"], h100["basis"]["memory_gb"]) == ("measured", "assumed")
    assert h100["source"]["memory_gb"] == "driver's total of 81,559 MiB, from memory"
    # all but INT8 and memory, of eight: it has no FP4 rate
    assert (h100["published"], h100["fp4_tflop_s"]) == ("6 of 8", None)
    assert "fp4_tflop_s" not in h100["basis"]
    nvlink = {r["name"]: r for r in json.loads(lamina("catalog", "links", "-f", "json").out)}[
        "nvlink4"
    ]
    assert nvlink["latency_us"] == 2
    assert nvlink["basis"] == {
        "gb_s": "datasheet",
        "latency_us": "fitted",
        "collective_share": "derived",
    }


def test_catalog_shows_one_entry_in_full(lamina: Lamina) -> None:
    def numbers(*argv: str) -> dict[str, dict[str, Any]]:
        entry = json.loads(lamina("catalog", *argv, "-f", "json").out)
        return {n.pop("number"): n for n in entry["numbers"]}

    gpu = numbers("gpus", "NVIDIA H100 80GB HBM3")
    assert (gpu["memory_gb"]["value"], gpu["memory_gb"]["unit"]) == (85.52, "GB")
    assert (gpu["memory_gb"]["basis"], gpu["memory_gb_s"]["basis"]) == ("assumed", "datasheet")
    assert gpu["peers"] == {
        "value": 8,
        "unit": "devices",
        "source": "the usual server",
        "basis": "assumed",
    }
    link = numbers("links", "nvlink4")
    assert link["latency_s"]["basis"] == "fitted"
    m = numbers("models", "Qwen/Qwen3-30B-A3B-FP8")
    assert [m[k]["value"] for k in ("head_dim", "ffn", "experts_per_token")] == [128, 768, 8]
    assert m["kv_bytes_per_token.bf16"]["value"] == 48 * 2 * 4 * 128 * 2
    assert m["weight_bytes.bf16"]["value"] == 2 * m["parameters"]["value"]
    assert m["weight_bytes.fp8"]["basis"] == "derived"
    entry = json.loads(lamina("catalog", "models", "Qwen/Qwen3-30B-A3B-FP8", "-f", "json").out)
    assert (entry["name"], entry["weights"], entry["quantized"]) == ("qwen3-30b-a3b", "fp8", "all")
    shown = lamina("catalog", "models", "qwen3-8b").out
    assert "weights   bf16" in shown
    assert "quantized" not in shown
    assert "kv_bytes_per_token.fp8" in shown
    csv = lamina("catalog", "links", "nvlink4", "-f", "csv").out
    assert csv.startswith("number,value,unit,source,basis\ngb_s,450.0,GB/s,")
    for argv in (("gpus", "h1000"), ("models", "gpt5"), ("links", "nvlnk"), ("knobs", "x")):
        done = lamina("catalog", *argv)
        assert (done.code, done.out) == (2, "")
        assert "hint: " in done.err


def test_rm_asks(lamina: Lamina) -> None:
    lamina("ingest", sample_path("requests.csv"), "--name", "mine")
    assert lamina("rm", "mine").code == 2
    assert lamina("rm", "mine", "--yes").code == 0
    assert lamina("rm", "mine", "--yes").code == 2


def test_names_of_two_kinds_are_ambiguous(lamina: Lamina) -> None:
    lamina("ingest", sample_path("requests.csv"), "--name", "azure-code")
    done = lamina("show", "azure-code")
    assert done.code == 2
    assert "store:azure-code or library:azure-code" in done.err
    assert lamina("show", "store:azure-code").code == 0
    assert lamina("show", "library:azure-code").code == 0
    unknown = lamina("fit", "azure-cod")
    assert unknown.code == 2
    assert "azure-code" in unknown.err


def test_selection(lamina: Lamina, store: list[str]) -> None:
    def rows(*argv: str) -> int:
        d = json.loads(lamina("fit", "sample", "--format", "json", *argv, *store).out)
        return int(d["source"]["rows"])

    assert rows() == ROWS
    early, late = rows("--to", "15m"), rows("--from", "15m")
    assert early + late == ROWS
    assert rows("--where", "input_tokens > 2000 and output_tokens < 100") < ROWS
    assert rows("--from", "2023-11-16T00:10:00+00:00", "--to", "2023-11-16T00:20:00+00:00") < early
    for bad in (
        ["--where", "1; drop table x"],
        ["--where", "input_tokens in (select 1)"],
        ["--from", "soon"],
        ["--from", "2023-11-16T00:10:00"],
    ):
        done = lamina("fit", "sample", *bad, *store)
        assert done.code == 2, bad
        assert done.err.startswith("error: ")


def test_every_command_has_help_and_an_example() -> None:
    for command in app.registered_commands:
        assert command.callback is not None
        text = command.callback.__doc__ or ""
        assert "Example: lamina-traces " in text, command.callback
        first = text.splitlines()[0]
        assert len(first) <= 45, first


def test_errors_of_the_command_line_itself(lamina: Lamina) -> None:
    unknown = lamina("igest", "x")
    assert unknown.code == 2
    assert "ingest" in unknown.err
    assert lamina().code in (0, 2)
    assert lamina("--version").out.startswith("lamina-traces 0.1.0")


def test_arrivals_can_be_supplied(lamina: Lamina, tmp_path: Path) -> None:
    """Lengths without arrivals: each command that needs arrivals says how to supply them, and that works."""
    (tmp_path / "len.csv").write_text(
        "p,d\n" + "".join(f"{i % 90 + 10},{i % 7 + 1}\n" for i in range(3000))
    )
    assert lamina("ingest", "len.csv", "--map", "input=p,output=d", "--name", "len").code == 0
    refused = lamina("simulate", "len")
    assert refused.code == 1
    assert "--arrivals poisson --rate 2/s" in refused.err
    run = lamina("simulate", "len", "--arrivals", "poisson", "--rate", "2/s", "--format", "json")
    d = json.loads(run.out)
    assert d["requests_completed"] == 3000
    assert d["workload"]["rate_per_s"] == pytest.approx(2, rel=0.1)
    assert (
        lamina(
            "export",
            "len",
            "--to",
            "azure",
            "-o",
            "x.csv",
            "--arrivals",
            "poisson",
            "--rate",
            "2/s",
        ).code
        == 0
    )
    assert lamina("fit", "len", "-o", "len.json").code == 0
    assert lamina("generate", "len.json", "--name", "g").code == 1
    made = lamina(
        "generate",
        "len.json",
        "--arrivals",
        "poisson",
        "--rate",
        "5/s",
        "-n",
        "2000",
        "--name",
        "g",
        "--format",
        "json",
    )
    assert json.loads(made.out)["requests_per_s"] == pytest.approx(5, rel=0.1)
    assert lamina("simulate", "len", "--arrivals", "poisson").code == 2
    assert lamina("simulate", "len", "--rate", "2/s").code == 2


def test_a_rate_holds_over_the_time_asked_for(lamina: Lamina) -> None:
    rows = [
        json.loads(
            lamina(
                "generate",
                "azure-code",
                "--rate",
                "12/s",
                "--duration",
                "1m",
                "--replay-rate",
                "--seed",
                str(s),
                "--name",
                f"g{s}",
                "--format",
                "json",
            ).out
        )["rows"]
        for s in range(12)
    ]
    assert sum(rows) / len(rows) == pytest.approx(720, rel=0.15)


def test_empty_selections_and_small_traces_are_errors_with_hints(
    lamina: Lamina, store: list[str]
) -> None:
    for argv in (
        ["simulate", "sample", "--where", "1 = 0"],
        ["fit", "sample", "--where", "input_tokens < 0"],
    ):
        done = lamina(*argv, *store)
        assert done.code == 1
        assert done.err.splitlines()[-1].startswith("hint: ")
    assert lamina("generate", "azure-code", "-n", "1", "--name", "one").code == 0
    gate = lamina("compare", "one", "one", "--gate")
    assert gate.code == 0 or "cannot be judged" in gate.err


def test_sessions_are_replayed_and_kept(lamina: Lamina, tmp_path: Path) -> None:
    """A later turn waits for the end of the one before it and its delay, whatever arrival it was given."""
    rows = [
        {"timestamp": 0, "input_length": 100, "output_length": 20, "session_id": "a"},
        {
            "timestamp": 10,
            "input_length": 140,
            "output_length": 5,
            "session_id": "a",
            "delay": 5000,
        },
        {"timestamp": 20, "input_length": 100, "output_length": 20, "session_id": "b"},
    ]
    (tmp_path / "s.jsonl").write_text("".join(json.dumps(r) + "\n" for r in rows))
    assert lamina("ingest", "s.jsonl", "--name", "s").code == 0
    lamina("simulate", "s", "--save", "closed")
    lamina("simulate", "s", "--replay", "open", "--save", "open")
    query = "select session_id, arrival_ns, last_token_ns from {} order by row_id"
    closed = json.loads(lamina("sql", query.format("closed"), "--format", "json").out)
    assert closed[1]["arrival_ns"] == closed[0]["last_token_ns"] + 5_000_000_000
    assert [r["session_id"] for r in closed] == ["a", "a", "b"]
    opened = json.loads(lamina("sql", query.format('"open"'), "--format", "json").out)
    assert opened[1]["arrival_ns"] == 10_000_000


def test_report_of_a_part_says_so(lamina: Lamina, store: list[str], tmp_path: Path) -> None:
    done = lamina("report", "sample", "--from", "5m", "--to", "15m", "-o", "part.html", *store)
    assert done.code == 0
    d = json.loads(lamina("fit", "sample", "--to", "5m", "--format", "json", *store).out)
    assert d["source"]["selection"] == {"where": [], "from_ns": None, "to_ns": 300 * 10**9}


def test_a_spec_and_flags_do_not_mix(lamina: Lamina, store: list[str], tmp_path: Path) -> None:
    (tmp_path / "s.toml").write_text('model = "llama-3.1-8b"\n')
    done = lamina("simulate", "sample", "--spec", "s.toml", "--tp", "4", *store)
    assert done.code == 2
    assert "--tp" in done.err

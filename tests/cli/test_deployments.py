"""Flags that state a deployment: degrees of parallelism, types, eras, a model's own config.json."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

CONFIG = {
    "architectures": ["LlamaForCausalLM"], "num_hidden_layers": 16, "hidden_size": 2048,
    "num_attention_heads": 32, "num_key_value_heads": 8, "head_dim": 64, "intermediate_size": 8192,
    "vocab_size": 128256, "max_position_embeddings": 131072, "tie_word_embeddings": True,
    "torch_dtype": "bfloat16",
}  # fmt: skip


def run(lamina: Any, *flags: str) -> dict[str, Any]:
    done = lamina("simulate", "azure-code", "--format", "json", *flags)
    assert done.code == 0, done.err
    out: dict[str, Any] = json.loads(done.out)
    return out


def test_a_config_file_serves_as_the_catalogue_does(lamina: Any, tmp_path: Path) -> None:
    path = tmp_path / "config.json"
    path.write_text(json.dumps(CONFIG))
    own, known = (run(lamina, "--model", m) for m in (str(path), "llama-3.2-1b"))
    for key in ("ttft_mean_s", "tpot_mean_s", "power_mean_w"):
        assert own[key] == known[key]
    path.write_text(json.dumps({**CONFIG, "architectures": ["RwkvForCausalLM"]}))
    refused = lamina("simulate", "azure-code", "--model", str(path))
    assert refused.code == 1
    assert "RwkvForCausalLM is not known" in refused.err


def test_flags_reach_the_spec(lamina: Any) -> None:
    done = run(
        lamina, "--model", "deepseek-r1", "--gpu", "NVIDIA-H200", "--dp", "8", "--ep", "8", "--kv-dtype", "fp8", "--era",
        "2025-sync",
    )  # fmt: skip
    spec = done["spec"]
    for line in ("n = 8", "dp = 8", "ep = 8", 'dtype = "fp8"', 'era = "2025-sync"'):
        assert line in spec
    assert {r["op"] for r in done["explain"]} >= {
        "all_to_all",
        "decode_attention",
        "up_gate_shared",
    }


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (("--dp", "2"), "no experts to share"),
        (("--pp", "64"), "64 stages for 32 layers"),
        (("--era", "1999"), "software era"),
        (("--kv-dtype", "fp3"), "dtype"),
        (("--model", "deepseek-r1"), "tp=16 would fit"),
    ],
)
def test_what_is_impossible_is_said(lamina: Any, flags: tuple[str, ...], said: str) -> None:
    done = lamina("simulate", "azure-code", *flags)
    assert done.code in (1, 2)
    assert said in done.err
    assert "Traceback" not in done.err


def test_an_engine_s_command_line_states_the_deployment(lamina: Any) -> None:
    line = "vllm serve meta-llama/Llama-3.1-70B-Instruct --tensor-parallel-size 4 --max-num-seqs 64 --enforce-eager --port 80"
    done = lamina("simulate", "azure-code", "--engine-args", line, "--replicas", "2", "--format", "json")  # fmt: skip
    assert done.code == 0
    told = json.loads(done.out)
    assert (told["model"] if "model" in told else told["deployment"]["model"]) == "llama-3.1-70b"
    assert "max_num_seqs = 64" in told["spec"]
    assert (told["deployment"]["tp"], told["deployment"]["replicas"]) == (4, 2)
    assert "not modelled: --enforce-eager; without effect on costs: --port" in done.err
    for flags in (("--tp", "1"), ("--model", "llama-3.1-8b")):  # its default, written out
        done = lamina("simulate", "azure-code", "--engine-args", line, *flags)
        assert done.code == 2
        assert f"so does {flags[0]}" in done.err
    done = lamina("simulate", "azure-code", "--engine-args", line, "--spec", "x.toml")
    assert done.code == 2


def test_drafts_of_an_engine_s_command_line(lamina: Any) -> None:
    line = "vllm serve meta-llama/Llama-3.1-8B-Instruct --no-enable-prefix-caching --speculative-config.num_speculative_tokens 4"
    told = run(lamina, "--engine-args", line)
    same = run(lamina, "--with", "speculative-decoding:draft_tokens=4")
    assert told["techniques"] == [
        "speculative-decoding:acceptance=0.7,draft_tokens=4,draft_size=0.02"
    ]
    assert told["tpot_mean_s"] == same["tpot_mean_s"] < run(lamina)["tpot_mean_s"]
    own = lamina("simulate", "azure-code", "--engine-args", line, "--with", "speculative-decoding:acceptance=0.9", "--format", "json")  # fmt: skip
    assert "acceptance=0.9,draft_tokens=4" in json.loads(own.out)["techniques"][0]
    assert "draft_size = 0.02 is assumed" in own.err
    assert "acceptance =" not in own.err


def test_an_engine_s_prefix_cache(lamina: Any) -> None:
    line = "vllm serve meta-llama/Llama-3.1-8B-Instruct"
    done = lamina("simulate", "azure-code", "--engine-args", line)
    assert done.code == 0
    assert "the requests carry no prefix ids, so prefix caching saves nothing here" in done.err
    assert lamina("generate", "mooncake-conversation", "-n", "300", "--name", "asked").code == 0

    def prefixes(*flags: str) -> dict[str, Any]:
        done = lamina("simulate", "asked", "--format", "json", *flags)
        assert done.code == 0, done.err
        assert "saves nothing" not in done.err
        out: dict[str, Any] = json.loads(done.out)
        return out

    cached = prefixes("--engine-args", line)
    assert (
        cached["cached_prompt_tokens"] == prefixes("--reuse", "prefix")["cached_prompt_tokens"] > 0
    )
    for off in (("--engine-args", f"{line} --no-enable-prefix-caching"), ()):
        assert "cached_prompt_tokens" not in prefixes(*off)
    done = lamina("simulate", "asked", "--engine-args", f"{line} --block-size 48")
    assert done.code == 0
    assert "no whole blocks of 48, so prefix caching saves nothing" in done.err


def test_every_result_says_how_it_was_replayed(lamina: Any, tmp_path: Path) -> None:
    rows = ["0,100,5,ok,a,1.0", f"{10**9},100,,error,b,1.0", f"{3 * 10**9},100,5,ok,b,1.0"]
    text = "arrival_ns,input_tokens,output_tokens,status,session_id,e2e_s\n" + "\n".join(rows)
    (tmp_path / "few.csv").write_text(text + "\n")
    for flags, mode in (
        ((), "open"),
        (("--concurrency", "4"), "open, 4 at a time"),
        (("--failures", "recorded"), "session, failures as recorded"),
        (("--failures", "recorded", "--replay", "open"), "open, failures as recorded"),
        (("--capacity", "--slo", "e2e=1m", "--target", "0.5", "--failures", "recorded"), "session, failures as recorded"),
    ):  # fmt: skip
        assert f" (replay {mode}) " in lamina("simulate", "few.csv", *flags).out
        told = json.loads(lamina("simulate", "few.csv", "-f", "json", *flags).out)
        how = told["replay"] if "--capacity" in flags else told["workload"]["replay"]
        assert mode.startswith(how)
    assert "(replay open) on " in lamina("simulate", "azure-code", "--repeats", "2").out
    done = lamina("simulate", "few.csv", "--failures", "recorded")
    assert "requests failed, as recorded 1 " in " ".join(done.out.split())
    assert "1 requests are taken for retries" in done.err
    by = lamina("simulate", "few.csv", "--failures", "recorded", "--by", "session").out
    assert [line.split()[:3] for line in by.splitlines() if line[:2] in ("a ", "b ")] == [["b", "2", "1"], ["a", "1", "0"]]  # fmt: skip
    assert lamina("simulate", "few.csv", "--failures", "recorded", "--save", "few").code == 0
    assert lamina("report", "few", "-o", "few.html").code == 0
    page = (tmp_path / "few.html").read_text()
    assert "requests that failed as recorded load the engine and fail" in page


def test_every_pool_is_explained(lamina: Any, tmp_path: Path) -> None:
    flags = ("--replicas", "3", "--prefill", "apart:1", "--to", "2m")
    told = run(lamina, *flags)
    ops = {i: {r["op"] for r in told["explain"] if r["pool"] == i and r["ms"] > 0} for i in (0, 1)}
    assert "prefill_attention" in ops[0] - ops[1]
    assert "decode_attention" in ops[1] - ops[0]
    assert sum(r["share"] for r in told["explain"]) == pytest.approx(1)
    pools = told["deployment"]["pools"]
    assert [(p["role"], p["devices"]) for p in pools] == [("prefill", 1), ("decode", 2)]
    done = lamina("simulate", "azure-code", "--explain", "--save", "apart", *flags)
    for text in ("1 × h100-sxm (1 replica, to prefill)", "2 × h100-sxm (2 replicas, to decode)"):
        assert text in done.out.splitlines()[0]
        assert any(line.startswith(text) and "qkv" in line for line in done.out.splitlines())
    assert lamina("report", "apart", "-o", "apart.html").code == 0
    page = (tmp_path / "apart.html").read_text()
    assert page.count("2 × h100-sxm (2 replicas, to decode)") > len(ops[1])
    single = lamina("simulate", "azure-code", "--explain", "--to", "2m")
    assert single.out.split("\n\n")[-1].startswith("operator")


def test_the_power_of_a_run_is_a_power_log(lamina: Any, tmp_path: Path) -> None:
    flags = ("--to", "5m", "--scale", "1..3:load=20s,requests=4", "--save", "watts")
    told = run(lamina, *flags)
    assert told["deployment"]["text"].endswith("scaled from 1 to 3")
    kept = lamina("sql", "select * from watts.power_samples", "--format", "csv")
    (tmp_path / "watts.csv").write_text(kept.out)
    done = lamina("ingest", "watts.csv", "--name", "log")
    assert done.code == 0, done.err
    joules = "select 3 * avg(power_w) * (max(arrival_ns) - min(arrival_ns)) / 1e9 as j from log.power_samples"
    (row,) = json.loads(lamina("sql", joules, "--format", "json").out)
    assert row["j"] == pytest.approx(told["energy_j"], rel=0.02)


def test_ends_that_are_not_measured_and_groups(lamina: Any) -> None:
    told = run(lamina, "--warmup", "60s", "--cooldown", "1m", "--by", "length", "--slo", "ttft=60s,e2e=60s")  # fmt: skip
    parts = [told[f"requests_{n}"] for n in ("measured", "warmup", "cooldown")]
    assert sum(parts) == told["requests_offered"]
    assert min(parts) > 0
    assert told["by"] == "length"
    assert len(told["groups"]) == 4
    assert sum(g["requests"] for g in told["groups"]) == told["requests_measured"]
    assert {g["slo_attainment"] for g in told["groups"]} == {1.0}
    assert sum(g["goodput_req_s"] for g in told["groups"]) == pytest.approx(told["goodput_req_s"])
    done = lamina("simulate", "azure-code", "--by", "length", "--warmup", "60s")
    assert "requests of the warm-up and 0 of the cool-down are served and not measured" in done.err
    assert "input tokens" in done.out
    for flags, said in (
        (("--by", "tenants"), "tenant"),
        (("--by", "tenant"), "records no tenant_id"),
        (("--warmup", "40m", "--cooldown", "40m"), "leave no request"),
        (("--warmup", "60"), "60"),
    ):
        done = lamina("simulate", "azure-code", *flags)
        assert (done.code, said in done.err) == (2, True), done.err


def test_repeats_and_capacity_on_the_command_line(lamina: Any) -> None:
    told = run(lamina, "--repeats", "2", "--seed", "3")
    assert told["seeds"] == [3, 4]
    low, high = told["intervals"]["ttft_p50_s"]
    assert low <= told["ttft_p50_s"] <= high
    assert "medians with 50% intervals" in lamina("simulate", "azure-code", "--repeats", "2").out
    told = run(lamina, "--capacity", "--slo", "ttft=10s,tpot=200ms", "--target", "0.9")
    low, high = told["bracket_req_s"]
    assert told["capacity_req_s_per_gpu"] == low < high
    assert 1 < len(told["probes"]) < 12
    missed = lamina("simulate", "azure-code", "--repeats", "2", "--slo", "ttft=1ms")
    assert (missed.code, "missed with 2 of 2 seeds" in missed.err) == (3, True)
    missed = lamina("simulate", "azure-code", "--capacity", "--slo", "ttft=1us")
    assert (missed.code, "out of reach" in missed.err) == (3, True)
    for flags, said in (
        (("--capacity",), "needs limits"),
        (("--target", "0.9"), "goes with --slo"),
        (("--repeats", "1"), "no spread"),
        (("--repeats", "3", "--save", "x"), "--save: of one run"),
        (("--slo", "tftt.p99=2s"), "did you mean ttft"),
        (("--slo", "ttft.p98=2s"), "did you mean p"),
    ):
        done = lamina("simulate", "azure-code", *flags)
        assert (done.code, said in done.err) == (2, True), done.err


def test_a_report_says_how_limits_came_out(lamina: Any, tmp_path: Path) -> None:
    flags = ("--slo", "ttft.p50=1ns,e2e=1h")
    assert lamina("simulate", "azure-code", "--to", "5m", *flags, "--save", "r").code == 3
    done = lamina("report", "r", "-o", "r.html")
    assert done.code == 0
    page = (tmp_path / "r.html").read_text()
    assert "The limit e2e=3600s holds: 100.0% of the requests are within it" in page
    assert "The limit ttft.p50=1e-09s does not hold" in page
    assert lamina("report", "r", "--slo", "ttft=1s", "-o", "again.html").code == 2
    assert lamina("report", "azure-code", *flags, "-o", "code.html").code == 3
    assert (tmp_path / "code.html").exists()

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

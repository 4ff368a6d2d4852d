"""Reading a config.json: the catalogue's shapes come back, what is not known is refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from lamina_traces.errors import DataError, LaminaError, ModelError, UsageError
from lamina_traces.hardware import ARCHITECTURES, Model, model

LLAMA: dict[str, Any] = {
    "architectures": ["LlamaForCausalLM"], "num_hidden_layers": 32, "hidden_size": 4096,
    "num_attention_heads": 32, "num_key_value_heads": 8, "intermediate_size": 14336,
    "vocab_size": 128256, "max_position_embeddings": 131072, "torch_dtype": "bfloat16",
}  # fmt: skip
DEEPSEEK: dict[str, Any] = {
    "architectures": ["DeepseekV3ForCausalLM"], "num_hidden_layers": 61, "hidden_size": 7168,
    "num_attention_heads": 128, "num_key_value_heads": 128, "intermediate_size": 18432, "vocab_size": 129280,
    "max_position_embeddings": 163840, "kv_lora_rank": 512, "q_lora_rank": 1536, "qk_rope_head_dim": 64,
    "qk_nope_head_dim": 128, "v_head_dim": 128, "n_routed_experts": 256, "num_experts_per_tok": 8,
    "n_shared_experts": 1, "moe_intermediate_size": 2048, "first_k_dense_replace": 3,
    "quantization_config": {"quant_method": "fp8", "weight_block_size": [128, 128]},
}  # fmt: skip
GPT_OSS: dict[str, Any] = {
    "architectures": ["GptOssForCausalLM"], "num_hidden_layers": 4, "hidden_size": 2880,
    "num_attention_heads": 64, "num_key_value_heads": 8, "head_dim": 64, "intermediate_size": 2880,
    "vocab_size": 201088, "max_position_embeddings": 131072, "num_local_experts": 128,
    "num_experts_per_tok": 4, "sliding_window": 128,
    "layer_types": ["sliding_attention", "full_attention"] * 2,
    "quantization_config": {"quant_method": "mxfp4", "modules_to_not_convert": ["self_attn"]},
}  # fmt: skip


def read(tmp_path: Path, config: Any, **more: Any) -> Model:
    path = tmp_path / "config.json"
    path.write_text(json.dumps({**config, **more} if isinstance(config, dict) else config))
    return model(str(path))


def same(ours: Model, name: str) -> None:
    known = model(name)
    for field in [
        "layers",
        "hidden",
        "heads",
        "kv_heads",
        "head_dim",
        "ffn",
        "vocab",
        "experts",
        "experts_per_token",
        "shared_ffn",
        "dense_layers",
        "dense_ffn",
        "kv_lora_rank",
        "q_lora_rank",
        "qk_rope_dim",
        "qk_nope_dim",
        "v_head_dim",
        "window",
        "full_layers",
        "native",
        "tied",
        "matrices",
        "params",
    ]:
        assert getattr(ours, field) == getattr(known, field), field


def test_shapes_equal_the_catalogue(tmp_path: Path) -> None:
    same(read(tmp_path, LLAMA), "llama-3.1-8b")
    same(read(tmp_path, DEEPSEEK), "deepseek-v3")
    oss = read(tmp_path, GPT_OSS, num_hidden_layers=36, layer_types=GPT_OSS["layer_types"] * 9)
    same(oss, "gpt-oss-120b")
    assert oss.quantized == "experts"
    opt = {
        "architectures": ["OPTForCausalLM"], "num_hidden_layers": 32, "hidden_size": 4096, "ffn_dim": 16384,
        "num_attention_heads": 32, "vocab_size": 50272, "max_position_embeddings": 2048, "torch_dtype": "float16",
    }  # fmt: skip
    assert read(tmp_path, opt).params == model("opt-6.7b").params
    assert read(tmp_path, opt).native == "fp16"


def test_a_folder_is_enough_and_numbers_say_where_they_are_from(tmp_path: Path) -> None:
    read(tmp_path, LLAMA)
    m = model(str(tmp_path))
    q = m.quantities()["layers"]
    assert (q.value, q.basis) == (32, "datasheet")
    assert "config.json" in q.source
    with pytest.raises(UsageError, match="does not exist"):
        model(str(tmp_path / "other.json"))


def test_windows_and_hybrids(tmp_path: Path) -> None:
    assert read(tmp_path, LLAMA, sliding_window=4096).window == 4096
    assert read(tmp_path, LLAMA, sliding_window=4096, use_sliding_window=False).window == 0
    gemma = {**LLAMA, "architectures": ["Gemma3ForConditionalGeneration"]}
    nested = {"architectures": gemma.pop("architectures"), "text_config": gemma}
    m = read(
        tmp_path, nested, text_config={**gemma, "sliding_window": 512, "sliding_window_pattern": 4}
    )
    assert (m.window, m.full_layers, m.window_layers, m.tied) == (512, 8, 24, True)
    hybrid = {
        **LLAMA, "architectures": ["Qwen3NextForCausalLM"], "layer_types": ["linear_attention"] * 24 + ["full_attention"] * 8,
        "linear_num_key_heads": 16, "linear_key_head_dim": 128, "linear_num_value_heads": 32,
        "linear_value_head_dim": 128, "num_experts": 512, "num_experts_per_tok": 10, "moe_intermediate_size": 512,
        "shared_expert_intermediate_size": 512,
    }  # fmt: skip
    m = read(tmp_path, hybrid)
    assert (m.linear_layers, m.attention_layers, m.linear_value_width) == (24, 8, 4096)
    with pytest.raises(ModelError, match="linear layers of LlamaForCausalLM"):
        read(tmp_path, LLAMA, layer_types=["linear_attention"] * 32)
    with pytest.raises(ModelError, match="layer types mamba are not known"):
        read(tmp_path, LLAMA, layer_types=["mamba"] * 32)


@pytest.mark.parametrize(
    ("config", "native"),
    [
        ({"quant_method": "awq", "bits": 4}, "int4"),
        ({"quant_method": "gptq", "bits": 8}, "int8"),
        ({"quant_method": "fbgemm_fp8"}, "fp8"),
        ({"quant_method": "compressed-tensors", "config_groups": {"g": {"weights": {"num_bits": 8, "type": "float"}}}}, "fp8"),
        ({"quant_method": "compressed-tensors", "config_groups": {"g": {"weights": {"num_bits": 4, "type": "int"}}}}, "int4"),
        ({"quant_method": "modelopt", "quant_algo": "NVFP4"}, "fp4"),
    ],
)  # fmt: skip
def test_quantizations(tmp_path: Path, config: dict[str, Any], native: str) -> None:
    assert read(tmp_path, LLAMA, quantization_config=config).native == native


def test_a_quantization_beside_the_config(tmp_path: Path) -> None:
    beside = {"quantization": {"quant_algo": "FP8", "kv_cache_quant_algo": "FP8"}}
    (tmp_path / "hf_quant_config.json").write_text(json.dumps(beside))
    m = read(tmp_path, LLAMA)
    assert (m.native, m.kv_native) == ("fp8", "fp8")


@pytest.mark.parametrize(
    ("config", "error", "said"),
    [
        ({**LLAMA, "architectures": ["MambaForCausalLM"]}, ModelError, "MambaForCausalLM is not known"),
        ({**LLAMA, "architectures": []}, ModelError, "is not known"),
        ([1], DataError, "not a JSON object"),
        ({**LLAMA, "num_hidden_layers": None}, DataError, "no num_hidden_layers"),
        ({**LLAMA, "hidden_size": "big"}, DataError, "hidden_size = 'big' is not a number"),
        ({**LLAMA, "num_attention_heads": 0}, DataError, "heads"),
        ({**LLAMA, "quantization_config": {"quant_method": "ternary"}}, ModelError, "ternary is not known"),
        ({**LLAMA, "layer_types": 3, "text_config": 4}, DataError, "text_config"),
    ],
)  # fmt: skip
def test_what_is_not_known_is_refused(
    tmp_path: Path, config: Any, error: type[LaminaError], said: str
) -> None:
    with pytest.raises(error, match=said):
        read(tmp_path, config)


def test_what_is_not_json_is_refused(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{")
    with pytest.raises(DataError, match="cannot be read as JSON"):
        model(str(tmp_path / "config.json"))
    assert "LlamaForCausalLM" in ARCHITECTURES

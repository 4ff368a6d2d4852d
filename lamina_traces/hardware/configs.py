"""Reads a model's ``config.json`` (Hugging Face). An architecture that is not listed here is refused: a guess would
be taken for a dense model."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..errors import DataError, ModelError
from .models import Model, model_of_shape

# What a family adds to the plain decoder (grouped queries, gated feed-forward, rotary positions).
_PLAIN = frozenset(
    [
        "LlamaForCausalLM",
        "MistralForCausalLM",
        "Qwen2ForCausalLM",
        "Qwen3ForCausalLM",
        "Phi3ForCausalLM",
        "GemmaForCausalLM",
        "Gemma2ForCausalLM",
        "Gemma3ForCausalLM",
        "Gemma3TextModel",
        "SmolLM3ForCausalLM",
        "InternLM2ForCausalLM",
        "Olmo2ForCausalLM",
        "GraniteForCausalLM",
        "ArceeForCausalLM",
    ]
)
_UNGATED = frozenset(["OPTForCausalLM", "BloomForCausalLM", "PhiForCausalLM"])
_MOE = frozenset(
    [
        "MixtralForCausalLM",
        "PhimoeForCausalLM",
        "PhiMoEForCausalLM",
        "Qwen2MoeForCausalLM",
        "Qwen3MoeForCausalLM",
        "GptOssForCausalLM",
        "Glm4MoeForCausalLM",
        "Qwen3NextForCausalLM",
    ]
)
_MLA = frozenset(["DeepseekV2ForCausalLM", "DeepseekV3ForCausalLM", "KimiK2ForCausalLM"])
_WRAPPED = frozenset(
    [
        "Gemma3ForConditionalGeneration",
        "Mistral3ForConditionalGeneration",
        "Llama4ForConditionalGeneration",
    ]
)
ARCHITECTURES = tuple(sorted(_PLAIN | _UNGATED | _MOE | _MLA | _WRAPPED))
"""those that are read; of a multimodal one, the text model."""


def read_config(path: Path) -> Model:
    """The model of a ``config.json``; a ``hf_quant_config.json`` beside it is read too.

    Raises DataError (no JSON object, a dimension missing), ModelError (an architecture, a quantization or a kind of
    layer that is not known).
    """
    config = _object(path)
    architecture = str((config.get("architectures") or ["none"])[0])
    if architecture not in ARCHITECTURES:
        raise ModelError(
            f"{path}: architecture {architecture} is not known",
            "known: " + ", ".join(ARCHITECTURES),
        )
    text = config.get("text_config", config)
    if not isinstance(text, dict):
        raise DataError("text_config is not an object", "is it a model's config?", path=path)
    text = {**text, "quantization_config": config.get("quantization_config")}
    values = _shape(architecture, text, path)
    flags = []
    # what the classes of transformers take where the file is silent
    tied = architecture in ("OPTForCausalLM", "BloomForCausalLM") or "Gemma" in architecture
    if text.get("tie_word_embeddings", config.get("tie_word_embeddings", tied)):
        flags.append("tied")
    if architecture in _UNGATED:
        flags.append("plain-ffn")
    if architecture == "Qwen3NextForCausalLM":
        flags.append("gated-attention")
    if architecture.startswith(("Qwen3", "Gemma3", "Olmo2")) or text.get("use_qk_norm"):
        flags.append("qk-norm")
    if architecture.startswith(("Gemma2", "Gemma3")):
        flags.append("post-norm")
    native, quantized, kv = _quantization(text, path)
    name = path.parent.name if path.name == "config.json" else path.stem
    built = model_of_shape(
        str(path),
        f"{name}: {path.name}",
        values,
        flags=tuple(flags),
        native=native,
        quantized=quantized,
        kv_native=kv,
    )
    if built.heads < 1 or built.layers < 1 or built.attention_layers < 0:
        raise DataError("has no layers or no heads", "is it a model's config?", path=path)
    return built


def _object(path: Path) -> dict[str, Any]:
    try:
        data = json.loads(path.read_text("utf-8"))
    except (OSError, UnicodeDecodeError, json.JSONDecodeError) as e:
        raise DataError(
            f"cannot be read as JSON: {e}", "give a model's config.json", path=path
        ) from e
    if not isinstance(data, dict):
        raise DataError("is not a JSON object", "give a model's config.json", path=path)
    return data


def _shape(architecture: str, c: Mapping[str, Any], path: Path) -> dict[str, int]:
    def get(*names: str, default: int | None = None) -> int:
        for n in names:
            v = c.get(n)
            if isinstance(v, int) and not isinstance(v, bool) and v >= 0:
                return v
            if v is not None and not (isinstance(v, int) and v < 0):
                raise DataError(f"{n} = {v!r} is not a number", "is it a config.json?", path=path)
        if default is None:
            raise DataError(f"has no {names[0]}", "is it a whole config.json?", path=path)
        return default

    layers, hidden = get("num_hidden_layers", "n_layer"), get("hidden_size", "n_embed")
    heads = get("num_attention_heads", "n_head")
    kv_heads = get("num_key_value_heads", default=heads)
    if not heads or hidden < heads:
        raise DataError(f"{heads} heads of width {hidden}", "is it a model's config?", path=path)
    out = {
        "layers": layers,
        "hidden": hidden,
        "heads": heads,
        "kv_heads": kv_heads,
        "head_dim": get("head_dim", default=hidden // heads),
        "vocab": get("vocab_size"),
        "max_context": get("max_position_embeddings", "seq_length", default=2048),
        "ffn": get("intermediate_size_mlp", "intermediate_size", "ffn_dim", default=4 * hidden),
    }
    if architecture == "OPTForCausalLM":
        out["positions"] = out["max_context"] + 2
        if get("word_embed_proj_dim", default=hidden) != hidden:
            raise ModelError(f"{path}: projected embeddings are not known", "use another OPT size")
    out |= _attention(architecture, c, get, out, path)
    out |= _experts(architecture, get, layers)
    return out


def _attention(
    architecture: str, c: Mapping[str, Any], get: Any, out: Mapping[str, int], path: Path
) -> dict[str, int]:
    found: dict[str, int] = {}
    layers = out["layers"]
    if architecture in _MLA:
        found = {
            "kv_lora_rank": get("kv_lora_rank"),
            "q_lora_rank": get("q_lora_rank", default=0),
            "qk_rope_dim": get("qk_rope_head_dim"),
            "qk_nope_dim": get("qk_nope_head_dim"),
            "v_head_dim": get("v_head_dim"),
        }
        found["head_dim"] = found["qk_nope_dim"] + found["qk_rope_dim"]
    kinds = c.get("layer_types")
    if isinstance(kinds, list):
        known = {"full_attention", "sliding_attention", "chunked_attention", "linear_attention"}
        if set(kinds) - known:
            raise ModelError(
                f"{path}: layer types {', '.join(sorted(set(map(str, kinds)) - known))} are not known",
                "known: " + ", ".join(sorted(known)),
            )
        full = sum(k == "full_attention" for k in kinds)
        linear = sum(k == "linear_attention" for k in kinds)
    else:
        every = get("full_attention_interval", default=0)  # Qwen3-Next
        linear = layers - layers // every if every else 0
        full = layers - linear
        pattern = get("sliding_window_pattern", "_sliding_window_pattern", default=0)
        if pattern:
            full = layers // pattern
        elif architecture == "Gemma2ForCausalLM":
            full = layers // 2
        elif "Gemma3" in architecture:
            full = layers // 6
        elif get("sliding_window", default=0) and c.get("use_sliding_window", True):
            # Qwen slides only above max_window_layers; the rest slide everywhere
            full = get("max_window_layers", default=0) if "Qwen" in architecture else 0
    if linear:
        if architecture != "Qwen3NextForCausalLM":
            raise ModelError(f"{path}: linear layers of {architecture} are not known", "none known")
        heads, dim = get("linear_num_key_heads"), get("linear_key_head_dim")
        found["linear_layers"] = linear
        found["linear_key_width"] = heads * dim
        found["linear_value_width"] = get("linear_num_value_heads") * get("linear_value_head_dim")
        found["linear_head_dim"] = dim
    window = get("sliding_window", "attention_chunk_size", default=0)
    if window and full < layers - linear and c.get("use_sliding_window", True):
        found |= {"window": window, "full_layers": full}
    return found


def _experts(architecture: str, get: Any, layers: int) -> dict[str, int]:
    if architecture == "Llama4ForConditionalGeneration":
        every = get("interleave_moe_layer_step", default=1)
        dense = layers - layers // every
        return {
            "experts": get("num_local_experts"),
            "experts_per_token": get("num_experts_per_tok"),
            "ffn": get("intermediate_size"),
            "shared_ffn": get("intermediate_size"),
            **({"dense_layers": dense, "dense_ffn": get("intermediate_size_mlp")} if dense else {}),
        }
    if architecture not in _MOE | _MLA:
        return {}
    width = get("moe_intermediate_size", "intermediate_size")
    shared = get("shared_expert_intermediate_size", default=0)
    shared = shared or get("n_shared_experts", default=0) * width
    dense = get("first_k_dense_replace", default=0)
    found = {
        "experts": get("num_local_experts", "n_routed_experts", "num_experts"),
        "experts_per_token": get("num_experts_per_tok", "experts_per_token"),
        "ffn": width,
    }
    if shared:
        found["shared_ffn"] = shared
    if dense:
        found |= {"dense_layers": dense, "dense_ffn": get("intermediate_size")}
    return found


def _quantization(c: Mapping[str, Any], path: Path) -> tuple[str, str, str | None]:
    """(dtype of weights, which of them, dtype of the KV cache) as published."""
    beside = path.with_name("hf_quant_config.json")
    q = c.get("quantization_config")
    kv = None
    if not q and beside.is_file():
        stated = _object(beside).get("quantization", {})
        q = {"quant_method": str(stated.get("quant_algo", "")).lower()}
        kv = "fp8" if str(stated.get("kv_cache_quant_algo")).upper() == "FP8" else None
    if not q:
        own = str(c.get("torch_dtype", c.get("dtype", "bfloat16")))
        return {"float32": "fp32", "float16": "fp16"}.get(own, "bf16"), "all", None
    method, bits = str(q.get("quant_method", "")).lower(), q.get("bits", 4)
    text = json.dumps(q).lower()
    if method == "mxfp4":
        return "mxfp4", "experts", kv
    if method in ("awq", "gptq") and bits in (4, 8):
        return ("int4" if bits == 4 else "int8"), "all", kv
    if method == "compressed-tensors":
        kind = '"type": "float"' in text
        if '"num_bits": 8' in text:
            return ("fp8" if kind else "int8"), "all", kv
        if '"num_bits": 4' in text:
            return ("fp4" if kind else "int4"), "all", kv
    if "fp4" in method or ("modelopt" in method and "nvfp4" in text):
        return "fp4", "all", kv
    if "fp8" in method or ("modelopt" in method and "fp8" in text):
        return "fp8", "all", kv
    raise ModelError(
        f"{path}: quantization {method or 'without a method'} is not known",
        "known: fp8, fbgemm_fp8, awq, gptq, mxfp4, compressed-tensors, modelopt fp8 and nvfp4",
    )

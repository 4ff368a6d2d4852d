"""The catalogue: every number has a source, names are found, and prices are input."""

from __future__ import annotations

from pathlib import Path

import pytest

from lamina_traces.errors import DataError, ModelError, UnknownName
from lamina_traces.hardware import (
    all_devices,
    all_links,
    all_models,
    device,
    link,
    load_prices,
    model,
)
from lamina_traces.hardware.catalogue import fold, quantities


def test_every_number_has_a_source_and_a_basis() -> None:
    rows = [(d.name, d.quantities()) for d in all_devices().values()]
    rows += [(m.name, m.quantities()) for m in all_models().values()]
    rows += [(x.name, x.quantities()) for x in all_links().values()]
    for key, numbers in rows:
        assert numbers
        for name, q in numbers.items():
            assert q.source, (key, name)
            assert q.value > 0, (key, name)
            assert q.basis in ("datasheet", "paper", "measured", "fitted", "derived", "assumed")
    # what was not read anywhere says so
    assert device("a10").fp16_tflops.basis == "assumed"
    assert device("h200-sxm").idle_w.basis == "assumed"
    assert device("h100-sxm").idle_w.basis == "measured"


SPARSE = {
    # what vendors print with 2:4 sparsity: no row may carry them
    "a100": (624, 1248), "a10": (250,), "a40": (299.4,), "l4": (242, 485), "l40s": (733, 1466),
    "h100-sxm": (1979, 3958), "h100-pcie": (1513, 3026), "h20": (296, 592), "h200": (1979, 3958),
    "gh200": (1979, 3958), "b200": (4500, 9000, 18000), "gb200": (5000, 10000, 20000),
    "b300": (4500, 9000), "mi300x": (2614.9, 5229.8), "rtx-pro-6000": (1872,),
}  # fmt: skip


def test_flop_rates_are_dense() -> None:
    assert device("h100-sxm").flops_per_s("bf16") == 989e12
    assert device("l40s").flops_per_s("fp8") == 733e12
    assert device("b200").flops_per_s("fp4") == 9000e12
    for name, figures in SPARSE.items():
        d = device(name)
        # a sparse figure of a type is the dense one of the next smaller type: compare type by type
        for rate, sparse in zip((d.fp16_tflops, d.fp8_tflops, d.fp4_tflops), figures, strict=False):
            assert rate is None or abs(rate.value / sparse - 1) > 0.2, name
        if d.int8_tops is not None and len(figures) > 1:
            assert d.int8_tops.value < 0.8 * figures[1], name
    for d in all_devices().values():
        # half the bits, twice the rate; Gaudi 3 alone has one rate for both
        if d.fp8_tflops is not None and d.name != "gaudi3":
            assert 1.9 < d.fp8_tflops.value / d.fp16_tflops.value < 2.1, d.name
        if d.fp4_tflops is not None and d.fp8_tflops is not None:
            # GeForce halves FP8 (float32 accumulation), not FP4
            most = 4.1 if d.name == "rtx-5090" else 3.2
            assert 1.9 < d.fp4_tflops.value / d.fp8_tflops.value < most, d.name
        if d.int8_tops is not None:
            # twice FP16; GeForce halves FP16 (float32 accumulation), not INT8
            times = (
                4 if d.name.startswith("rtx-") and d.names[0].startswith("NVIDIA GeForce") else 2
            )
            assert d.int8_tops.value / d.fp16_tflops.value == pytest.approx(times, rel=0.02), d.name


def test_links_are_one_direction_of_all_links_of_a_device() -> None:
    gbit = 1 / 8
    for name, gb_s in (
        ("h100-sxm", 18 * 25.0), ("a100", 12 * 25.0), ("b200", 18 * 50.0),
        ("gaudi2", 21 * 100 * gbit), ("gaudi3", 21 * 200 * gbit),
        ("tpu-v5e", 1600 * gbit), ("tpu-v5p", 4800 * gbit), ("tpu-v6e", 3584 * gbit),
    ):  # fmt: skip
        assert device(name).link_gb_s.value == gb_s, name


def test_names_are_found_in_any_spelling() -> None:
    assert device("NVIDIA H100 80GB HBM3").name == "h100-sxm"
    assert device("nvidia h100 80gb hbm3").name == "h100-sxm"
    assert device("H100").name == "h100-sxm"
    assert device("A100_80_SXM").name == "a100-80-sxm"
    # labels of Kubernetes (nvidia.com/gpu.product) and of nvidia-smi
    for label, name in (
        ("NVIDIA-H100-80GB-HBM3", "h100-sxm"),
        ("NVIDIA-A100-SXM4-80GB", "a100-80-sxm"),
        ("NVIDIA-A100-SXM4-40GB", "a100-40-sxm"),
        ("NVIDIA-A100-PCIE-40GB", "a100-40-pcie"),
        ("Tesla-V100-SXM2-16GB", "v100-16-sxm"),
        ("NVIDIA-L40S", "l40s"),
        ("NVIDIA-H200", "h200-sxm"),
        ("AMD Instinct MI300X", "mi300x"),
    ):
        assert device(label).name == name
    assert link("NVLink 4").name == "nvlink4"
    assert model("meta-llama/Llama-3.1-8B-Instruct").name == "llama-3.1-8b"
    assert model("LLAMA-3.1-70B").name == "llama-3.1-70b"


def test_no_name_means_two_things() -> None:
    for rows in (all_devices(), all_models(), all_links()):
        spellings = [fold(n) for key, row in rows.items() for n in (key, *row.names)]
        assert sorted(spellings) == sorted(set(spellings))


def test_an_unknown_name_offers_close_ones_and_the_listing() -> None:
    with pytest.raises(UnknownName, match="unknown GPU 'h10-sxm'") as e:
        device("h10-sxm")
    assert "h100-sxm" in str(e.value.hint)
    assert "lamina-traces catalog gpus" in str(e.value.hint)
    with pytest.raises(UnknownName) as e:
        model("llama-3.1-9b")
    assert "llama-3.1-8b" in str(e.value.hint)
    assert "catalog models" in str(e.value.hint)


def hint(name: str) -> str:
    with pytest.raises(UnknownName) as e:
        model(name)
    return str(e.value.hint)


def test_suggestions_begin_alike_or_are_nearly_the_same() -> None:
    assert "did you mean gpt-oss-20b?" in hint("gpt5")
    assert "did you mean llama-3.1-8b or" in hint("lama-3.1-8b")
    assert "did you mean qwen3-32b or" in hint("Qwen/Qwen3-33B-AWQ")
    # nothing is like it: no list of what it is not
    for name in ("someone/Mystery-7B-AWQ", "claude"):
        assert hint(name).startswith("list them with: lamina-traces catalog models")


def test_the_organisation_does_not_count() -> None:
    assert model("unsloth/Meta-Llama-3.1-8B-Instruct") is model("llama-3.1-8b")
    assert model("Llama-3.3-70B-Instruct") is model("llama-3.3-70b")
    parts: dict[str, str] = {}
    for key, m in all_models().items():
        for n in m.names:
            assert parts.setdefault(n.rpartition("/")[2].removesuffix("-hf").casefold(), key) == key


def test_a_type_is_said_once_and_what_is_not_known_is_refused() -> None:
    # the catalogue lists no checkpoints of other types: their names' ends say it
    for m in all_models().values():
        assert not any(n.casefold().endswith(("-fp8", "-fp4", "-awq", "-int4")) for n in m.names)
    # bitsandbytes has codes of its own
    assert "llama-3.3-70b" in hint("unsloth/Llama-3.3-70B-Instruct-bnb-4bit")
    assert hint("Qwen/Qwen3-8B-GGUF").startswith("did you mean qwen3-8b")
    with pytest.raises(UnknownName):
        model("Qwen/Qwen3-8B-dynamic")


# billions of parameters as model cards and papers give them: total, and active per token where they say so
PUBLISHED: dict[str, tuple[float, float | None]] = {
    "llama-7b": (6.74, None), "llama-13b": (13.02, None), "llama-33b": (32.53, None), "llama-65b": (65.29, None),
    "llama-2-7b": (6.74, None), "llama-2-13b": (13.02, None), "llama-2-70b": (68.98, None),
    "codellama-34b": (33.74, None), "llama-3-8b": (8.03, None), "llama-3-70b": (70.55, None),
    "llama-3.1-8b": (8.03, None), "llama-3.1-70b": (70.55, None), "llama-3.1-405b": (405.85, None),
    "llama-3.2-1b": (1.236, None), "llama-3.2-3b": (3.213, None), "llama-3.3-70b": (70.55, None),
    "llama-4-scout": (107.8, 17.2), "llama-4-maverick": (400.7, 17.2), "mistral-7b": (7.25, None),
    "mistral-7b-v0.1": (7.24, None), "mistral-nemo-12b": (12.25, None), "mistral-small-24b": (23.57, None),
    "mistral-large-123b": (122.6, None), "mixtral-8x7b": (46.70, 12.9), "mixtral-8x22b": (140.6, 39.1),
    "qwen1.5-moe-a2.7b": (14.3, 2.7), "qwen2-7b": (7.62, None), "qwen2-57b-a14b": (57.4, 14.2),
    "qwen2-72b": (72.71, None), "qwen2.5-0.5b": (0.494, None), "qwen2.5-1.5b": (1.54, None),
    "qwen2.5-3b": (3.09, None), "qwen2.5-7b": (7.62, None), "qwen2.5-14b": (14.77, None),
    "qwen2.5-32b": (32.76, None), "qwen2.5-72b": (72.71, None), "qwen3-0.6b": (0.596, None),
    "qwen3-1.7b": (1.72, None), "qwen3-4b": (4.02, None), "qwen3-8b": (8.19, None), "qwen3-14b": (14.77, None),
    "qwen3-32b": (32.76, None), "qwen3-30b-a3b": (30.5, 3.35), "qwen3-235b-a22b": (235, 22),
    "qwen3-coder-480b-a35b": (480, 35), "qwen3-next-80b-a3b": (80, None), "deepseek-67b": (67.4, None),
    "deepseek-v2-lite": (15.7, 2.45), "deepseek-v2": (236, 21), "deepseek-v3": (671, 37),
    "deepseek-r1": (671, 37), "kimi-k2": (1026, 32), "gpt-oss-20b": (20.91, 3.61), "gpt-oss-120b": (116.83, 5.13),
    "glm-4.5": (355, None), "glm-4.5-air": (106, None), "bloom-7b1": (7.07, None), "bloom-176b": (176.25, None),
    "opt-125m": (0.125, None), "opt-1.3b": (1.316, None), "opt-6.7b": (6.66, None), "opt-13b": (12.85, None),
    "opt-30b": (29.97, None), "opt-66b": (65.7, None), "opt-175b": (174.6, None), "yi-6b": (6.06, None),
    "yi-9b": (8.83, None), "yi-34b": (34.39, None), "phi-2": (2.78, None), "phi-3-mini": (3.82, None),
    "phi-3-medium": (13.96, None), "phi-3.5-moe": (41.9, 6.6), "phi-4": (14.66, None), "phi-4-mini": (3.84, None),
    "smollm2-135m": (0.1345, None), "smollm2-360m": (0.362, None), "smollm2-1.7b": (1.711, None),
    "smollm3-3b": (3.08, None), "tinyllama-1.1b": (1.10, None), "gemma-2b": (2.506, None), "gemma-7b": (8.54, None),
    "gemma-2-2b": (2.614, None), "gemma-2-9b": (9.24, None), "gemma-2-27b": (27.23, None), "gemma-3-1b": (1.0, None),
    "gemma-3-4b": (3.88, None), "gemma-3-12b": (11.77, None), "gemma-3-27b": (27.01, None),
}  # fmt: skip


def test_parameters_are_those_of_the_model_cards() -> None:
    assert set(PUBLISHED) == set(all_models())
    for name, (total, active) in PUBLISHED.items():
        m = model(name)
        assert m.params / 1e9 == pytest.approx(total, rel=0.01), name
        if active is not None:
            # cards count active parameters with or without the embedding, and round to the billion
            ours = (m.active_params / 1e9, (m.active_params + m.embedding_params) / 1e9)
            rounded = 0.5 if float(active).is_integer() else 0.0
            assert any(abs(x - active) <= max(0.01 * active, rounded) for x in ours), (name, ours)


def test_bytes_follow_from_parts_and_types() -> None:
    assert model("llama-2-70b").kv_bytes_per_token("bf16") == 327_680
    assert model("llama-3.1-8b").kv_bytes_per_token("bf16") == 131_072
    # eight key/value heads on sixteen devices are held twice
    assert model("llama-3.1-8b").kv_bytes_per_token("bf16", tp=16) == 2 * 131_072
    # latent attention: 512 + 64 numbers a layer, on every device
    assert model("deepseek-v3").kv_bytes_per_token("bf16") == 61 * 576 * 2
    assert model("deepseek-v3").kv_bytes_per_token("bf16", tp=8) == 8 * 61 * 576 * 2
    # linear layers hold a state, not a cache
    assert model("qwen3-next-80b-a3b").kv_bytes_per_token("bf16") == 12 * 2 * 2 * 256 * 2
    assert model("qwen3-next-80b-a3b").state_bytes == 4 * 36 * 32 * 128 * 128
    # GPT-OSS: 4.25 bits a weight of the experts, two bytes the rest; as published, 65 GB (61 GiB)
    assert model("gpt-oss-120b").weight_bytes("mxfp4") / 1e9 == pytest.approx(65.2, rel=0.01)
    assert model("gpt-oss-120b").part_dtypes("mxfp4")["attention"] == "bf16"
    # DeepSeek-V3: a byte a weight, 4-bit checkpoints keep attention at eight bits
    assert model("deepseek-v3").weight_bytes("fp8") / 1e9 == pytest.approx(673, rel=0.01)
    assert model("deepseek-v3").part_dtypes("fp4")["attention"] == "fp8"
    assert model("llama-3.1-70b").weight_bytes("int4") / 1e9 == pytest.approx(40.6, rel=0.01)


def test_a_rate_that_the_device_lacks_is_refused() -> None:
    with pytest.raises(ModelError, match="a100-80-sxm has no fp8 rate"):
        device("a100").flops_per_s("fp8")


def test_a_row_without_source_is_refused() -> None:
    with pytest.raises(DataError, match="no source"):
        quantities({"tdp_w": 3, "basis": "datasheet"}, {"tdp_w": "W"}, "here")
    with pytest.raises(DataError, match="not a positive number"):
        quantities({"tdp_w": 0, "basis": "datasheet", "source": "x"}, {"tdp_w": "W"}, "here")


def test_prices_are_an_example_that_a_file_replaces(tmp_path: Path) -> None:
    assert load_prices().date == "2026-11-23"
    assert all(q.basis == "assumed" for q in load_prices().usd_per_h.values())
    assert load_prices().of("mi300x") is None
    own = tmp_path / "own.toml"
    own.write_text("date = '2027-01-01'\n[usd_per_h]\nH100 = 3.5\n")
    price = load_prices(own).of("h100-sxm")
    assert price is not None
    assert (price.value, price.unit) == (3.5, "USD/h")
    for text, what in (
        ("x", "not TOML"),
        ("a = 1", "usd_per_h"),
        ("[usd_per_h]\nh100 = -1", "positive"),
    ):
        own.write_text(text)
        with pytest.raises(DataError, match=what):
            load_prices(own)
    own.write_text("[usd_per_h]\nh1000 = 1")
    with pytest.raises(UnknownName):
        load_prices(own)
    with pytest.raises(DataError, match="cannot be read"):
        load_prices(tmp_path / "none.toml")


def test_clock_and_power_limits() -> None:
    h100 = device("h100-sxm")
    assert h100.limited(clock=0.5).flops_per_s("bf16") == 0.5 * h100.flops_per_s("bf16")
    assert h100.limited(clock=0.5).bytes_per_s == h100.bytes_per_s
    with pytest.raises(ModelError, match="clock"):
        h100.limited(clock=0)
    with pytest.raises(ModelError, match="not above the 75 W of an idle"):
        h100.limited(cap_w=50)

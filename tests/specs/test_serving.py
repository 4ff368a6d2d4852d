"""Serving specs: TOML there and back, and what is refused."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from lamina_traces import specs
from lamina_traces.errors import DataError, LaminaError, ModelError, UnknownName, UsageError

FULL = specs.Serving(
    model="mixtral-8x7b",
    pools=(
        specs.Pool(
            specs.Replica(
                (specs.Group("h100-sxm", n=4, tp=4),),
                kv=specs.Kv(block_size=32, utilisation=0.85, dtype="fp8"),
                batch=specs.Batch(max_num_seqs=64, max_num_batched_tokens=512, max_context=8192),
            ),
            count=3,
        ),
        specs.Pool(specs.Replica((specs.Group("h200-sxm", n=2, tp=2),))),
    ),
    dtype="fp8",
    era="2023",
    efficiency={"step_s": 0.002, "memory": 0.9},
    combine="max",
    route="least-outstanding",
    prices={"h100-sxm": 1.5, "NVIDIA H200": 2.5},
)


def test_toml_there_and_back() -> None:
    for spec in (FULL, specs.simple("llama-3.1-8b", "l40s", tp=2, replicas=5)):
        assert specs.loads(specs.dumps(spec)) == spec


def test_defaults_are_left_out_and_filled_in() -> None:
    spec = specs.loads(
        """
        model = "meta-llama/Llama-3.1-8B"
        [[pools]]
        [pools.replica]
        [[pools.replica.groups]]
        gpu = "h100"
        """
    )
    assert spec.pools[0].replica.batch == specs.Batch(256, 2048, True, None)
    assert spec.pools[0].replica.kv == specs.Kv(16, 0.9, 2.0, 0.01, None)
    assert (spec.replicas, spec.devices, spec.shape.name) == (1, 1, "llama-3.1-8b")


def test_counts_run_over_pools() -> None:
    assert (FULL.replicas, FULL.devices) == (4, 14)
    assert specs.kv_of(FULL, 0).blocks > specs.kv_of(replace(FULL, dtype="bf16"), 0).blocks
    assert specs.efficiency(FULL).step_s.value == 0.002
    assert specs.efficiency(FULL).step_s.source == "the spec"
    assert specs.efficiency(FULL).compute.basis == "fitted"


GOOD = specs.dumps(specs.simple("llama-3.1-70b", "h100-sxm", tp=4))


@pytest.mark.parametrize(
    ("old", "new", "error", "said", "hint"),
    [
        ('model = "', 'modle = "', UnknownName, "unknown key of spec 'modle'", "model"),
        (
            "max_num_seqs",
            "max_num_seq",
            UnknownName,
            "key of spec.pools[0].replica.batch",
            "max_num_seqs",
        ),
        ("llama-3.1-70b", "llama-3.1-7b", UnknownName, "unknown model", "catalog models"),
        ('"h100-sxm"', '"h1000"', UnknownName, "unknown GPU", "catalog gpus"),
        ("tp = 4", "tp = 2", ModelError, "4 devices for tp = 2", "n = tp"),
        ("n = 4\ntp = 4", "n = 1\ntp = 1", ModelError, "55.6 GB short", "tp=2 would fit"),
        (
            "n = 4\ntp = 4",
            "n = 6\ntp = 6",
            ModelError,
            "does not divide the 64 heads",
            "--tp 1, 2, 4, 8",
        ),
        ("pp = 1", "pp = 2", ModelError, "4 devices for tp = 4, pp = 2", "n = tp·pp·dp"),
        ("ep = 1", "ep = 4", ModelError, "llama-3.1-70b has no experts", "--ep 1"),
        ("clock = 1.0", "clock = 1.5", ModelError, "a clock of 1.5", "0.1 to 1"),
        ("clock = 1.0", "cap_w = 20.0", ModelError, "not above the 75 W", "700 W"),
        ('"both"', '"decode"', ModelError, "need each other", "one pool or more of each"),
        ('"both"', '"bath"', UnknownName, "role", "both"),
        ('"main"', '"attention"', ModelError, "groups (attention)", "main"),
        (
            'control = "none"',
            'control = "autoscale"',
            UnknownName,
            "control 'autoscale'",
            "scale",
        ),
        (
            "chunked_prefill = true",
            "chunked_prefill = 1",
            DataError,
            "is not true or false",
            "true or false",
        ),
        ("count = 1", "count = 0", UsageError, "count = 0", "≥ 1"),
        ("count = 1", "count = true", DataError, "truth value", "number"),
        ("count = 1", "count = 1.5", DataError, "is not a whole number", "whole"),
        ("utilisation = 0.9", "utilisation = 1.9", UsageError, "utilisation 1.9", "≤ 1"),
        (
            "utilisation = 0.9",
            "utilisation = nan",
            DataError,
            "utilisation = nan is not finite",
            None,
        ),
        ("reserve_gb = 2.0", "reserve_gb = inf", DataError, "reserve_gb = inf is not finite", None),
        ("reserve_gb = 2.0", "reserve_gb = 1e9", UsageError, "reserve 1e+09 GB", None),
        ("count = 1", "count = 99999999999", UsageError, "99,999,999,999 replicas", "10,000"),
        (
            "block_size = 16",
            "block_size = 1000000000000",
            UsageError,
            "block_size = 1,000,000,000,000",
            "131,072",
        ),
        (
            "max_num_batched_tokens = 2048",
            "max_num_batched_tokens = 1000000000",
            UsageError,
            "max_num_batched_tokens",
            "10,000,000",
        ),
        (
            "max_num_batched_tokens = 2048",
            "max_num_batched_tokens = 8",
            UsageError,
            "exceeds",
            "budget",
        ),
        (
            "max_num_batched_tokens = 2048",
            "max_context = 1000000",
            UsageError,
            "max_context",
            "131072",
        ),
        ('dtype = "bf16"', 'dtype = "int3"', UnknownName, "dtype", "int4"),
        ('era = "2025"', 'era = "1999"', UnknownName, "software era", "2023"),
        ('combine = "sum"', 'combine = "min"', UnknownName, "combine", "max"),
        ("[[pools]]", "[pools]", DataError, "spec.pools is not a list", "[[pools]]"),
        ("[[pools]]", "[[pools]", DataError, "not TOML", None),
        (
            'rank = "fcfs"',
            'rank = "fcfs"\nprices = {h100-sxm = -1.0}',
            UsageError,
            "price of h100-sxm",
            "USD",
        ),
        (
            'rank = "fcfs"',
            'rank = "fcfs"\nprices = {h99 = 1.0}',
            UnknownName,
            "unknown GPU",
            "catalog",
        ),
        (
            'rank = "fcfs"',
            'rank = "fcfs"\nefficiency = {memory = 0.0}',
            ModelError,
            "impossible",
            "0.001 to 1",
        ),
        (
            'rank = "fcfs"',
            'rank = "fcfs"\nefficiency = {operator_s = 999.0}',
            ModelError,
            "impossible",
            "0 to 1 s",
        ),
        (
            'rank = "fcfs"',
            'rank = "fcfs"\nlinks = [{source = "prefill", target = "decode", gb_s = 0.0}]',
            UsageError,
            "a link of 0 GB/s",
            "0.001",
        ),
        (
            'rank = "fcfs"',
            'rank = "fcfs"\nefficiency = {memroy = 0.5}',
            UnknownName,
            "efficiency",
            "memory",
        ),
    ],
)
def test_what_is_wrong_is_named(
    old: str, new: str, error: type[LaminaError], said: str, hint: str | None
) -> None:
    assert old in GOOD
    with pytest.raises(error) as e:
        specs.loads(GOOD.replace(old, new, 1))
    assert said in str(e.value)
    if hint:
        assert hint in str(e.value.hint)


def test_a_file_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="cannot be read"):
        specs.load(tmp_path / "none.toml")
    (tmp_path / "bad.toml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(DataError, match=r"bad\.toml.*cannot be read"):
        specs.load(tmp_path / "bad.toml")
    (tmp_path / "good.toml").write_text(GOOD)
    assert specs.load(tmp_path / "good.toml") == specs.loads(GOOD)
    with pytest.raises(DataError, match="spec has no model"):
        specs.loads("[[pools]]\n")


def test_the_flags_of_the_command_line() -> None:
    spec = specs.simple(
        "meta-llama/Llama-3.1-70B",
        "NVIDIA H100 80GB HBM3",
        tp=4,
        replicas=2,
        route="least-outstanding",
    )
    assert spec.model == "llama-3.1-70b"
    assert spec.pools[0].replica.groups == (specs.Group("h100-sxm", n=4, tp=4),)
    assert (spec.pools[0].count, spec.route) == (2, "least-outstanding")
    with pytest.raises(ModelError):
        specs.simple("llama-3.1-70b", "h100", tp=1)
    with pytest.raises(UsageError):
        specs.simple("llama-3.1-8b", "h100", replicas=0)


CHECKPOINTS = [
    ("Qwen/Qwen3-32B-FP8", "qwen3-32b", "fp8"),
    ("nvidia/Llama-3.3-70B-Instruct-FP8", "llama-3.3-70b", "fp8"),
    ("nvidia/DeepSeek-R1-0528-FP4", "deepseek-r1", "fp4"),
    ("nvidia/DeepSeek-R1-0528-NVFP4", "deepseek-r1", "fp4"),
    ("Qwen/Qwen3-32B-AWQ", "qwen3-32b", "int4"),
    ("RedHatAI/Meta-Llama-3.1-70B-Instruct-FP8-dynamic", "llama-3.1-70b", "fp8"),
    ("RedHatAI/Meta-Llama-3.1-70B-Instruct-quantized.w4a16", "llama-3.1-70b", "int4"),
    ("RedHatAI/Meta-Llama-3.1-70B-Instruct-quantized.w8a8", "llama-3.1-70b", "int8"),
    ("hugging-quants/Meta-Llama-3.1-70B-Instruct-AWQ-INT4", "llama-3.1-70b", "int4"),
    ("Qwen/Qwen2.5-72B-Instruct-GPTQ-Int4", "qwen2.5-72b", "int4"),
    ("Qwen/Qwen2.5-72B-Instruct-GPTQ-Int8", "qwen2.5-72b", "int8"),
    ("TheBloke/Llama-2-70B-Chat-AWQ", "llama-2-70b", "int4"),
    ("qwen3-32b-fp8", "qwen3-32b", "fp8"),
    ("unsloth/DeepSeek-V3-bf16", "deepseek-v3", "bf16"),
    ("deepseek-ai/DeepSeek-V3", "deepseek-v3", "fp8"),
]


@pytest.mark.parametrize(("name", "key", "dtype"), CHECKPOINTS)
def test_a_checkpoint_is_served_in_the_type_that_its_name_says(
    name: str, key: str, dtype: str
) -> None:
    spec = specs.simple(name, "b200", tp=16)
    assert (spec.model, spec.dtype) == (key, dtype)
    assert specs.parse_engine_args(f"vllm serve {name} -tp 16").spec("b200").dtype == dtype
    # a file that does not state the type has the name's too
    text = specs.dumps(spec).replace(f'model = "{key}"', f'model = "{name}"')
    assert specs.loads(text.replace(f'dtype = "{dtype}"\n', "", 1)).dtype == dtype
    assert specs.loads(text.replace(f'dtype = "{dtype}"', 'dtype = "fp16"', 1)).dtype == "fp16"
    assert specs.simple(name, "b200", tp=16, dtype="fp16").dtype == "fp16"
    # weights: all matrices but embedding and head are of that type
    one = {"fp8": 1, "int8": 1, "int4": 4.25 / 8, "fp4": 4.5 / 8, "bf16": 2}[dtype]
    m = spec.shape
    ends = 2 * (m.head_params + m.embedding_params + m.router_params)
    rest = m.params - m.head_params - m.embedding_params - m.router_params
    eight = m.attention_params if m.mla and one < 1 else 0
    assert specs.kv_of(spec).weight_bytes == pytest.approx(ends + (rest - eight) * one + eight)


def test_a_cache_of_eight_bits_in_the_name() -> None:
    spec = specs.simple("amd/Llama-3.1-70B-Instruct-FP8-KV", "mi300x")
    assert (spec.dtype, spec.pools[0].replica.kv.dtype) == ("fp8", "fp8")
    assert specs.simple("llama-3.1-70b", "mi300x").pools[0].replica.kv.dtype is None


def test_scaling_on_one_flag() -> None:
    spec = specs.simple("llama-3.1-8b", "h100", scale="2..6:load=90s,requests=12.5,period=500ms,start=3")  # fmt: skip
    assert (spec.replicas, spec.control) == (6, "scale")
    assert spec.scale == specs.Scale(12.5, least=2, start=3, period_s=0.5, load_s=90)
    plain = specs.simple("llama-3.1-8b", "h100", scale="2..6")
    assert plain.scale == specs.Scale(least=2, start=2)
    assert specs.loads(specs.dumps(spec)) == spec
    for text, said in (
        ("4", "is not MIN..MAX"), ("0..4", "from 0 to 4"), ("4..2", "from 4 to 2"), ("1..4:load=30", "30"),
        ("1..4:requests=many", "is no number"), ("1..4:lod=3s", "lod"), ("1..4:requests=0", "requests = 0"),
        ("1..4:requests=nan", "requests = nan"), ("1..4:start=5", "start = 5"), ("1..4:period=0s", "period_s = 0"),
    ):  # fmt: skip
        with pytest.raises(UsageError, match=said):
            specs.simple("llama-3.1-8b", "h100", scale=text)
    with pytest.raises(UsageError, match="so does --replicas 2"):
        specs.simple("llama-3.1-8b", "h100", scale="1..4", replicas=2)

"""Operators: latent attention, windows, experts, types, and ways to share a model."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from lamina_traces.costs import (
    Coverage,
    Op,
    OpCost,
    Parallel,
    State,
    StepModel,
    compute_dtype,
    era,
    ideal,
    transformer,
)
from lamina_traces.errors import ModelError, UnknownName, UsageError
from lamina_traces.hardware import all_models, device, model


def step(name: str, gpu: str = "h200", **how: Any) -> StepModel:
    return transformer(model(name), device(gpu), ideal(), **how)


def row(s: StepModel, op: str, state: State) -> OpCost:
    return next(r for r in s.explain(state) if r.op == op)


def test_every_model_of_the_catalogue_has_a_step_that_lowers() -> None:
    state = State.decode(8, 500) + State.prefill(100)
    for name, m in all_models().items():
        s = transformer(m, device("b200"), era("2025"), dtype=m.native)
        rows = s.lower(256)
        assert rows.seconds(state) == pytest.approx(s.seconds(state)), name
        # every weight is read once by a step that visits all experts (embeddings are looked up, not read)
        many = State.decode(1e10, 1)
        weights = sum(row.bytes for row in s.explain(many)) - sum(
            row.bytes
            for row in replace(s, ops=tuple(_weightless(op) for op in s.ops)).explain(many)
        )
        read = m.weight_bytes(m.native) - m.embedding_params * 2.0
        assert weights == pytest.approx(read, rel=1e-6), name


def _weightless(op: Op) -> Op:
    return replace(op, bytes=replace(op.bytes, one=0.0, tables={}))


def test_latent_attention_is_absorbed_in_decode_and_plain_in_prefill() -> None:
    s = step("deepseek-v3", dtype="fp8")
    decode = row(s, "decode_attention", State.decode(1, 1000))
    # per context token, layer and head: 576 products with the latent, 512 back
    assert decode.flops == 1000 * 61 * 128 * 2 * (576 + 512)
    cache = 61 * 576 * 2.0
    assert decode.bytes == pytest.approx(1001 * cache, rel=0.1)
    prefill = row(s, "prefill_attention", State.prefill(1000))
    assert prefill.flops == 500_500 * 61 * 128 * 2 * (192 + 128)
    # one latent serves all heads: an eighth of what grouped keys and values of as many heads would be
    assert cache < model("llama-3.1-405b").kv_bytes_per_token("bf16") / 7


def test_windows_are_read_whole_where_the_usual_context_reaches_them() -> None:
    m = model("gpt-oss-120b")
    per_layer = 2.0 * 8 * 64 * 2
    for context, read in ((4096.0, 18 * 4000 + 18 * 128), (100.0, 36 * 4000)):
        s = transformer(m, device("h100"), ideal(), dtype="mxfp4", context=context)
        got = row(s, "decode_attention", State.decode(1, 4000)).bytes
        new_and_io = 36 * per_layer + 2 * 4096 * 2 * 36
        assert got == read * per_layer + new_and_io
    # no model's window makes a step dearer
    full = transformer(replace(m, window=0, full_layers=0), device("h100"), ideal(), dtype="mxfp4")
    slid = transformer(m, device("h100"), ideal(), dtype="mxfp4")
    assert slid.seconds(State.decode(8, 8000)) < full.seconds(State.decode(8, 8000))


def test_types_of_parts_and_of_arithmetic() -> None:
    h100, a100, b200 = device("h100"), device("a100"), device("b200")
    assert [compute_dtype(d, "fp8") for d in (h100, a100)] == ["fp8", "bf16"]
    assert [compute_dtype(d, "mxfp4") for d in (h100, b200)] == ["bf16", "fp4"]
    assert compute_dtype(b200, "int4") == "bf16"
    # 4-bit weights on a device without: a quarter of the bytes, arithmetic in two bytes
    wide, narrow = (
        step("llama-3.1-70b", "h100", parallel=Parallel(tp=4), dtype=t) for t in ("bf16", "int4")
    )
    at = State.decode(1, 100)
    up = [row(s, "up_gate", at) for s in (wide, narrow)]
    assert up[1].memory_s / up[0].memory_s == pytest.approx(0.2656, rel=0.01)
    assert up[1].compute_s == up[0].compute_s
    # the output matrix of a quantized checkpoint stays at two bytes
    assert row(narrow, "lm_head", at).bytes == row(wide, "lm_head", at).bytes
    half = row(
        step("llama-3.1-70b", "h100", parallel=Parallel(tp=4), kv_dtype="fp8"),
        "decode_attention",
        at,
    )
    assert half.bytes / row(wide, "decode_attention", at).bytes < 0.7
    with pytest.raises(UnknownName, match="dtype"):
        step("llama-3.1-8b", dtype="int3")


def test_a_full_pipeline_reads_weights_once_for_each_micro_batch() -> None:
    m, at = model("llama-3.1-70b"), State.decode(64, 1000)
    one, four = (transformer(m, device("h100"), ideal(), Parallel(tp=2, pp=pp)) for pp in (1, 4))
    weights = {r.op: r for r in one.explain(at)}
    for r in four.explain(at):
        if r.op in ("qkv", "up_gate", "down"):
            # four stages share the FLOPs; each stage reads its quarter four times
            assert r.compute_s == pytest.approx(weights[r.op].compute_s / 4)
            assert r.memory_s == pytest.approx(weights[r.op].memory_s, rel=0.05)
    kv = [row(s, "decode_attention", at).memory_s for s in (one, four)]
    assert kv[1] == pytest.approx(kv[0] / 4)
    assert "pipeline" in {op.name for op in four.ops}
    # throughput gains, latency of a lone sequence does not
    lone = State.decode(1, 1000)
    assert four.seconds(at) < one.seconds(at)
    assert four.seconds(lone) == pytest.approx(one.seconds(lone), rel=0.02)


def test_data_parallel_attention_copies_attention_and_not_the_cache() -> None:
    at = State.decode(64, 4000)
    tensor = step("deepseek-v3", parallel=Parallel(tp=8), dtype="fp8")
    data = step("deepseek-v3", parallel=Parallel(dp=8, ep=8), dtype="fp8")
    assert row(tensor, "decode_attention", at).bytes > 7 * row(data, "decode_attention", at).bytes
    assert row(data, "o", at).bytes > 4 * row(tensor, "o", at).bytes
    names = {op.name for op in data.ops}
    assert "all_to_all" in names
    assert "all_reduce" not in names
    # the slowest of eight devices has more than its share of experts
    assert row(data, "up_gate", at).bytes > row(tensor, "up_gate", at).bytes


def test_coverage_of_ranks_is_between_the_mean_and_one() -> None:
    n = np.arange(0.0, 4096.0)
    mean, slowest = Coverage(256, 8).at(n), Coverage(256, 8, ranks=32).at(n)
    assert (slowest >= mean).all()
    assert (slowest <= 1).all()
    assert slowest[-1] == pytest.approx(1)
    assert Coverage(8, 2, stages=2).at(10) == Coverage(8, 2).at(5)


@pytest.mark.parametrize(
    ("name", "how", "error", "said"),
    [
        ("llama-3.1-8b", {"dp": 2}, ModelError, "no experts to share"),
        ("llama-3.1-8b", {"ep": 2, "tp": 2}, ModelError, "has no experts"),
        ("llama-3.1-8b", {"pp": 33}, ModelError, "33 stages for 32 layers"),
        ("llama-3.1-8b", {"pp": 0}, UsageError, "pp = 0"),
        ("mixtral-8x7b", {"tp": 2, "ep": 4}, ModelError, "ep = 4 does not divide 2 devices"),
        ("llama-3.1-8b", {"tp": 3}, ModelError, "does not divide the 32 heads"),
    ],
)
def test_what_cannot_be_shared_is_refused(
    name: str, how: dict[str, int], error: type[Exception], said: str
) -> None:
    with pytest.raises(error, match=said):
        step(name, parallel=Parallel(**how))


def test_groups_wider_than_a_server_take_the_network() -> None:
    inside, across = (
        step("deepseek-v3", gpu, parallel=Parallel(dp=16, ep=16), dtype="fp8")
        for gpu in ("gb200", "h200")
    )
    at = State.decode(512, 1000)
    slow, fast = (row(s, "all_to_all", at).network_s for s in (across, inside))
    assert slow / fast == pytest.approx(900 / 50)


@pytest.mark.parametrize(
    ("name", "launches"),
    [
        ("llama-3.1-70b", 80 * 5),  # qkv, attention, o, up and gate, down
        ("qwen3-32b", 64 * 7),  # and norms of queries and of keys
        ("gemma-3-27b", 62 * 9),  # and two norms behind
        ("mixtral-8x7b", 32 * 6),  # and a router
        # two projections down and up, absorbed products before and after, o, attention; shared experts
        ("deepseek-v3", 61 * 6 + 3 * 2 + 58 * 5),
    ],
)
def test_each_operator_of_a_layer_is_launched(name: str, launches: int) -> None:
    s = transformer(model(name), device("b200"), era("2025"), Parallel(tp=8))
    overhead = row(s, "layer_overhead", State.decode(1, 1)).seconds
    assert overhead == pytest.approx(launches * era("2025").operator_s.value)

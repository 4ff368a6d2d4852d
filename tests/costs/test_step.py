"""The step model: NanoFlow's table, TP's limits, and that numbers equal operators."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lamina_traces.costs import (
    Coverage,
    Form,
    Lanes,
    Op,
    Parallel,
    Rates,
    State,
    StepModel,
    era,
    ideal,
    transformer,
)
from lamina_traces.errors import ModelError, UnknownName, UsageError
from lamina_traces.hardware import device, model
from lamina_traces.units import Quantity

# NanoFlow (arXiv 2408.12757), Table 2: LLaMA-2-70B on 8 × A100-80, 2,048 tokens per iteration.
# operator: GFLOP, GB moved, GB over the network, estimated ms
NANOFLOW = {
    "qkv": (27487.8, 19.5, 0.0, 11.01),
    "o": (21990.2, 16.1, 0.0, 8.81),
    "up_gate": (153931.6, 96.6, 0.0, 61.67),
    "down": (76965.8, 49.7, 0.0, 30.84),
    "decode_attention": (3665.9, 462.2, 0.0, 28.89),
    "all_reduce": (0.0, 0.0, 75.2, 31.33),
}


def nanoflow() -> StepModel:
    # the paper counts 2.0 TB/s and no losses
    a100 = replace(device("a100-80-sxm"), memory_gb_s=Quantity(2000, "GB/s", "NanoFlow", "paper"))
    return transformer(model("llama-2-70b"), a100, ideal(), Parallel(tp=8), combine="max")


def nanoflow_state() -> State:
    """Requests of 512 prompt and 1,024 output tokens: a third of the 2,048 tokens prefill."""
    decode = 2048 * 1024 / 1536
    prefill = 2048 - decode
    # the paper counts all p² pairs of a prompt; a causal kernel needs half of them
    return State(D=decode, S=decode * 1024, p=prefill, Q=prefill * 512 / 2, C=prefill)


def test_nanoflow_table_2() -> None:
    rows = {r.op: r for r in nanoflow().explain(nanoflow_state())}
    for op, (gflop, gb, net_gb, ms) in NANOFLOW.items():
        r = rows[op]
        assert r.flops / 1e9 == pytest.approx(gflop, rel=5e-4), op
        assert r.bytes / 1e9 == pytest.approx(gb, rel=3e-3), op
        assert r.net_bytes / 1e9 == pytest.approx(net_gb, rel=1e-3), op
        assert r.seconds * 1e3 == pytest.approx(ms, rel=1e-3), op
    # the paper's 916.3 GFLOP of prefill attention are not causal: ours are half
    assert 2 * rows["prefill_attention"].flops / 1e9 == pytest.approx(916.3, rel=5e-4)
    assert [rows[op].binds for op in ("qkv", "decode_attention", "all_reduce")] == [
        "compute",
        "memory",
        "network",
    ]


def test_sum_is_never_faster_than_max() -> None:
    args = (model("llama-3.1-8b"), device("h100-sxm"), era("2025"))
    a, b = transformer(*args, combine="sum"), transformer(*args, combine="max")
    for state in (State.decode(1, 10), State.decode(64, 1000), State.prefill(2048), State()):
        assert a.seconds(state) >= b.seconds(state)


RESOURCES3 = ("compute", "memory", "network")
APART = Lanes("resource", RESOURCES3, ((1.0, 0.0, 0.0), (0.0, 1.0, 0.0), (0.0, 0.0, 1.0)))


def test_lanes_from_taking_turns_to_overlapping_wholly() -> None:
    step = transformer(model("llama-3.1-70b"), device("h100-sxm"), era("2025"), Parallel(tp=4))
    state = State.decode(200, 1500) + State.prefill(1000)
    rows = step.explain(state)
    by = [sum(getattr(r, f"{name}_s") for r in rows) for name in RESOURCES3]
    extra = step.seconds(state) - sum(by)  # host work; latencies stand in the network's time
    latency = rows[[r.op for r in rows].index("all_reduce")]
    latency_s = latency.network_s - latency.net_bytes / step.rates["main"].net_bytes_per_s
    turns = replace(step, combine=Lanes("resource", RESOURCES3, ((1.0, 1.0, 1.0),)))
    assert turns.seconds(state) == pytest.approx(step.seconds(state), rel=1e-12)
    apart = replace(step, combine=APART)
    longest = max(by[0], by[1], by[2] - latency_s)
    assert apart.seconds(state) == pytest.approx(longest + latency_s + extra, rel=1e-12)
    groups = replace(step, combine=Lanes("group", ("main", "attention"), ((1.0, 0.0), (0.0, 1.0))))
    # whole operators, latencies and host work too
    on_attention = sum(r.seconds for r, op in zip(rows, step.ops, strict=True) if op.on == "attention")  # fmt: skip
    others = step.seconds(state) - on_attention
    assert groups.seconds(state) == pytest.approx(max(on_attention, others), rel=1e-12)


GROUPS = Lanes("group", ("main", "attention"), ((0.5, 0.5), (1.0, 0.0), (0.0, 1.0)))


@pytest.mark.parametrize(
    "combine", ["sum", "max", APART, GROUPS], ids=["sum", "max", "resources", "groups"]
)
@pytest.mark.parametrize("name", ["llama-3.1-70b", "mixtral-8x7b"])
def test_lowered_numbers_equal_the_operators(name: str, combine: Any) -> None:
    args = (model(name), device("h100-sxm"), era("2025"), Parallel(tp=4))
    step = replace(transformer(*args), combine=combine)
    rows = step.lower(2048)
    rng = np.random.default_rng(3)
    for _ in range(200):
        d, p, before = (
            int(rng.integers(0, 257)),
            int(rng.integers(0, 1700)),
            int(rng.integers(0, 5000)),
        )
        state = State.decode(d, float(rng.integers(1, 4000))) + State.prefill(p, before)
        explained = step.explain(state)
        assert rows.seconds(state) == pytest.approx(step.seconds(state), rel=1e-12)
        x = rows.x(state)
        assert rows.flops @ x == pytest.approx(sum(r.flops for r in explained), rel=1e-12)
        assert rows.bytes @ x == pytest.approx(sum(r.bytes for r in explained), rel=1e-12)
        assert rows.net_bytes @ x == pytest.approx(sum(r.net_bytes for r in explained), rel=1e-12)
        for resource in ("compute", "memory", "network", "overhead"):
            spent = sum(getattr(r, f"{resource}_s") for r in explained)
            assert rows.seconds_on(resource) @ x == pytest.approx(spent, rel=1e-12)
        if combine == "sum":
            assert rows.part_coef.sum(axis=0) @ x == pytest.approx(step.seconds(state), rel=1e-12)


def test_a_chunked_prefill_costs_the_pairs_of_the_whole() -> None:
    whole = State.prefill(1000)
    parts = State.prefill(300) + State.prefill(700, before=300)
    assert (parts.p, parts.Q) == (whole.p, whole.Q)
    assert parts.C > whole.C  # the first 300 tokens are read again


def test_expert_coverage_between_one_token_and_all_experts() -> None:
    cover = Coverage(8, 2)
    assert cover.at(0) == 0
    assert cover.at(1) == 0.25
    # some experts are visited rarely: of 200 tokens' 400 visits a Beta(1, 3) leaves 6 in 406
    assert cover.at(200) == pytest.approx(400 / 406)
    rng = np.random.default_rng(1)
    drawn = 1 - (1 - rng.beta(1, 3, 400_000)) ** 20
    assert cover.at(20) == pytest.approx(drawn.mean(), abs=3e-3)
    step = transformer(model("mixtral-8x7b"), device("h100-sxm"), era("2025"), Parallel(tp=2))
    one = {r.op: r for r in step.explain(State.decode(1, 100))}["up_gate"]
    many = {r.op: r for r in step.explain(State.decode(256, 100))}["up_gate"]
    assert many.bytes / one.bytes == pytest.approx(4, rel=0.02)  # all experts' weights against two
    assert many.flops == 256 * one.flops
    # a visited expert's weights are read, and cost the arithmetic of 64 rows beside its tokens
    e, weights = era("2025"), 2 * 32 * 4096 * 2 * 14336
    tile = 64 * 2 * weights / (2 * 989e12 * e.compute.value)
    assert one.memory_s == pytest.approx(weights * 2 / (2 * 3350e9 * e.memory.value) + tile)


@given(t=st.sampled_from([1, 2, 4, 8]), d=st.integers(1, 256), context=st.integers(1, 8000))
@settings(max_examples=50, deadline=None)
def test_work_is_shared_and_only_communication_is_added(t: int, d: int, context: int) -> None:
    m, state = model("llama-3.1-70b"), State.decode(d, context)
    one = transformer(m, device("h100-sxm"), era("2025"), Parallel())
    many = transformer(m, device("h100-sxm"), era("2025"), Parallel(tp=t))
    assert sum(r.flops for r in many.explain(state)) == pytest.approx(
        sum(r.flops for r in one.explain(state))
    )
    assert ("all_reduce" in {r.op for r in many.explain(state)}) == (t > 1)
    # all but the copies of what is hidden wide: two norms a layer (8 widths), and an end of each of four matrices
    copies = d * 2 * 80 * 8192 * (t - 1) * (8 + 4)
    at = {r.op: r for r in many.explain(state)}["elementwise"]
    alone = {r.op: r for r in one.explain(state)}["elementwise"]
    assert at.bytes - alone.bytes == pytest.approx(copies)
    shared = sum(r.compute_s + r.memory_s for r in many.explain(state)) - at.memory_s
    whole = sum(r.compute_s + r.memory_s for r in one.explain(state)) - alone.memory_s
    assert shared * t == pytest.approx(whole)


def test_software_eras_are_named() -> None:
    args = (model("llama-2-70b"), device("h100-sxm"))
    old, new = (
        transformer(*args, era(e), Parallel(tp=8)).seconds(State.decode(1, 100))
        for e in ("2023", "2025")
    )
    # one sequence: the step's and the sequence's host work of 2023 instead of 2025
    a, b = era("2023"), era("2025")
    host = [e.step_s.value + e.sequence_s.value for e in (a, b)]
    assert old - new == pytest.approx(host[0] - host[1])
    with pytest.raises(UnknownName):
        era("1999")


def test_tp_must_divide_the_heads() -> None:
    for tp in (3, 128):
        with pytest.raises(ModelError, match=f"tp = {tp} does not divide the 64 heads") as e:
            transformer(model("llama-3.1-70b"), device("h100-sxm"), era("2025"), Parallel(tp=tp))
        assert "1, 2, 4, 8, 16" in str(e.value.hint)
    with pytest.raises(UsageError):
        transformer(model("llama-3.1-70b"), device("h100-sxm"), era("2025"), Parallel(tp=0))


def test_a_zero_rate_is_refused_not_divided_by() -> None:
    rates = Rates(1e12, 0.0, 1e9, 1e12, 1e12)
    step = StepModel((Op("read", "memory", bytes=Form(one=1e9)),), {"main": rates})
    with pytest.raises(ModelError, match="read: the memory rate is 0"):
        step.lower(10)
    negative = StepModel(
        (Op("read", "memory", seconds=Form(one=-1.0)),), {"main": replace(rates, bytes_per_s=1.0)}
    )
    with pytest.raises(ModelError, match="read"):
        negative.lower(10)


def test_forms_add_and_scale() -> None:
    a = Form(one=1, D=2, tables={"t": 3}) + Form(D=1, C=4, tables={"u": 5})
    assert a == Form(one=1, D=3, C=4, tables={"t": 3, "u": 5})
    assert a * 2 == Form(one=2, D=6, C=8, tables={"t": 6, "u": 10})
    assert Form().is_zero
    assert not Form(tables={"t": 1}).is_zero

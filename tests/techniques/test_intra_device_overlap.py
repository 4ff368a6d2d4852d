"""Overlap inside a device: the dual against the primal, its limits, and what it does to a step and to a run."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import linprog
from scipy.spatial import ConvexHull

from lamina_traces import techniques, workloads
from lamina_traces.costs import Form, Lanes, Op, Rates, State, StepModel
from lamina_traces.errors import UsageError
from lamina_traces.hardware import device, model
from lamina_traces.runs import simulate
from lamina_traces.specs import simple, step_model
from lamina_traces.techniques.intra_device_overlap import PERFORMANCE, combinations, vertices

from ..conftest import Ran

TABLE = [{share: float(p) for share, p in PERFORMANCE[r].items()} for r in PERFORMANCE]
TENTHS = [i / 10 for i in range(11)]
STATE = State.decode(900, 1200) + State.prefill(1100)
times = st.tuples(*[st.floats(0.0, 1.0)] * 3).filter(any)


def with_(text: str, step: StepModel) -> StepModel:
    return techniques.apply_step([techniques.parse(f"intra-device-overlap:{text}")], step)


def longest(tables: list[dict[float, float]], t: tuple[float, ...]) -> float:
    return max(float(np.dot(y, t)) for y in vertices(tables))


def step(name: str = "llama-2-70b", tp: int = 8) -> StepModel:
    return step_model(simple(name, "a100-80-sxm", tp=tp))


@st.composite
def tables(draw: st.DrawFn) -> list[dict[float, float]]:
    """Performances that grow with the share, from 0 to 1, of two or three resources."""
    out = []
    for _ in range(draw(st.integers(2, 3))):
        shares = draw(st.lists(st.integers(1, 9), unique=True, max_size=4).map(sorted))
        grown = sorted(draw(st.lists(st.integers(0, 100), min_size=len(shares), max_size=len(shares))))  # fmt: skip
        inside = dict(zip((s / 10 for s in shares), (p / 100 for p in grown), strict=True))
        out.append({0.0: 0.0, **inside, 1.0: 1.0})
    return out


# times below linprog's own tolerance would be nothing to it
@given(tables(), st.lists(st.integers(0, 1000).map(lambda n: n / 1000), min_size=3, max_size=3))
@settings(max_examples=150, deadline=None)
def test_the_dual_is_the_optimum_of_the_primal(found: list[dict[float, float]], t: list[float]) -> None:  # fmt: skip
    """scipy chooses how long each combination runs; every combination is offered to it, beaten ones too."""
    n = len(found)
    rows: list[list[tuple[float, float]]] = [[]]
    for table in found:
        rows = [[*r, point] for r in rows for point in table.items()]
    at_once = np.array([[p for _, p in r] for r in rows if sum(s for s, _ in r) < 1 + 1e-6])
    best = linprog(np.ones(len(at_once)), A_ub=-at_once.T, b_ub=-np.array(t[:n]))
    assert best.success
    assert longest(found, tuple(t[:n])) == pytest.approx(best.fun, rel=1e-6, abs=1e-7)


def test_vertices_are_the_facets_of_what_can_be_had_at_once() -> None:
    """Qhull's facets of the combinations and all below them are the constraints' duals."""
    at_once = combinations(TABLE)
    below = np.vstack([at_once * mask for mask in np.ndindex(2, 2, 2)])
    facets = ConvexHull(below).equations
    outer = facets[facets[:, 3] < -1e-9]
    duals = np.unique((outer[:, :3] / -outer[:, 3:]).round(9), axis=0) + 0.0
    ours = np.array(vertices(TABLE))
    assert len(ours) <= 60
    for y in ours:
        assert np.abs(duals - y).max(axis=1).min() < 1e-8, y
    for y in duals:  # Qhull also gives those that another beats
        assert (ours >= y - 1e-8).all(axis=1).any(), y


@given(times)
def test_no_gain_where_performance_is_the_share(t: tuple[float, ...]) -> None:
    linear = [{s: s for s in table} for table in TABLE]
    assert vertices(linear) == ((1.0, 1.0, 1.0),)
    assert longest(linear, t) == pytest.approx(sum(t))


@given(times)
def test_full_overlap_where_any_share_is_enough(t: tuple[float, ...]) -> None:
    free = [{s: float(s > 0) for s in TENTHS}] * 3
    assert longest(free, t) == pytest.approx(max(t))


@given(times, st.floats(0.0, 1.0))
def test_faster_than_taking_turns_slower_than_the_longest(t: tuple[float, ...], strength: float) -> None:  # fmt: skip
    between = [{s: s + strength * (p - s) for s, p in table.items()} for table in TABLE]
    assert max(t) <= longest(between, t) * (1 + 1e-9)
    assert longest(between, t) <= sum(t) * (1 + 1e-9)
    assert longest(between, t) >= longest(TABLE, t) * (1 - 1e-9)


def test_neutral_is_the_same_step() -> None:
    own = step()
    assert with_("strength=0,nano_batches=1,penalty=1", own) is own
    assert with_("nano_batches=1", own) is own  # one whole batch: nothing beside it
    assert with_("strength=0", own).combine == "sum"


def test_without_overlap_the_matrices_pay_and_nothing_else_does() -> None:
    """Nano-batches one by one: each reads the weights, and the matrices take 1.126 times as long."""
    own, split = step(), with_("strength=0", step())
    before = {r.op: r for r in own.explain(STATE)}
    after = {r.op: r for r in split.explain(STATE)}
    matrices = {"qkv", "o", "up_gate", "down"}
    shape = model("llama-2-70b")
    assert set(before) == set(after)
    for name, row in after.items():
        if name not in matrices:
            assert row == before[name]
            continue
        assert row.flops == pytest.approx(1.126 * before[name].flops)
        assert row.bytes > 1.126 * before[name].bytes
    again = sum(after[n].bytes - 1.126 * before[n].bytes for n in matrices)
    weights = 2 * (shape.params - 2 * shape.vocab * shape.hidden)  # of the layers, in two bytes
    assert again == pytest.approx(1.126 * weights, rel=0.01)
    # the paper's whole iteration is 1106/982 times as long
    assert split.seconds(STATE) / own.seconds(STATE) == pytest.approx(1106 / 982, rel=0.02)


def test_experts_are_visited_by_each_nano_batch() -> None:
    own, split = step("mixtral-8x7b", 2), with_("strength=0,penalty=1", step("mixtral-8x7b", 2))
    up = [{r.op: r for r in s.explain(State.decode(8, 100))}["up_gate"] for s in (own, split)]
    half = {r.op: r for r in own.explain(State.decode(4, 100))}["up_gate"]
    assert up[1].bytes == pytest.approx(2 * half.bytes, rel=1e-9)
    assert up[0].bytes < up[1].bytes < 2 * up[0].bytes


@given(
    st.integers(1, 2048),
    st.integers(1, 4000),
    st.integers(0, 2000),
    st.sampled_from(["strength=1", "strength=0.4", "penalty=1.3,nano_batches=4"]),
    st.sampled_from(["llama-2-70b", "mixtral-8x7b"]),
)
@settings(max_examples=40, deadline=None)
def test_lowered_numbers_equal_the_operators(d: int, context: int, p: int, text: str, name: str) -> None:  # fmt: skip
    found = with_(text, step(name))
    state = State.decode(d, context) + State.prefill(p)
    assert found.lower(4096).seconds(state) == pytest.approx(found.seconds(state), rel=1e-9)


@given(st.integers(0, 2048), st.integers(1, 4000))
@settings(max_examples=40, deadline=None)
def test_no_throughput_beyond_the_arithmetic(d: int, context: int) -> None:
    """NanoFlow's optimum: peak FLOP/s over two FLOPs a parameter of the layers."""
    a100, shape = device("a100-80-sxm"), model("llama-2-70b")
    layers = shape.params - 2 * shape.vocab * shape.hidden
    state = State.decode(d, context) + State.prefill(2048 - d)
    rate = 2048 / with_("penalty=1", step()).seconds(state) / 8
    assert rate <= a100.fp16_tflops.value * 1e12 / (2 * layers * 0.999)


def test_by_hand() -> None:
    """7 s of arithmetic, 4 of memory: on shares 0.6 and 0.4 the memory's 4 s take 5, in which arithmetic does 3 of
    its 7. Alone it takes 4 more: 9 s for 11."""
    ops = (Op("gemm", "compute", flops=Form(one=7)), Op("kv", "memory", bytes=Form(one=4), on="attention"))  # fmt: skip
    unit = Rates(1.0, 1.0, 1.0, 1.0, 1.0)
    found = with_("penalty=1", StepModel(ops, {"main": unit, "attention": unit}))
    assert found.seconds(State()) == pytest.approx(9)


def test_a_step_that_overlaps_already_is_refused() -> None:
    for combine in ("max", Lanes("group", ("main", "attention"), ((1.0, 0.0), (0.0, 1.0)))):
        with pytest.raises(UsageError, match="overlap already"):
            with_("", replace(step(), combine=combine))
    with pytest.raises(UsageError, match="whole number"):
        with_("nano_batches=2.5", step())


def test_a_full_engine_gains_and_an_idle_one_loses() -> None:
    """The library's code workload, all at once and as single sequences: what NanoFlow is for, and what it is not."""
    spec = simple("llama-2-70b", "a100-80-sxm", tp=8)
    using = [techniques.parse("intra-device-overlap")]
    found = workloads.resolve("azure-code")
    full, _ = workloads.Source(found, 20.0, end="20m").at(0)
    rate = [simulate(full, spec, using=u).metrics["total_tokens_per_s"] for u in ([], using)]
    assert 1.05 < rate[1] / rate[0] < 1.28  # below the gain of whole iterations of 2,048 tokens
    idle, _ = workloads.Source(found, 0.2, end="2m").at(0)
    own, overlapped = (simulate(idle, spec, using=u).metrics for u in ([], using))
    assert overlapped["tpot_p50_s"] > 1.3 * own["tpot_p50_s"]  # the weights are read twice
    assert overlapped["ttft_p50_s"] < own["ttft_p50_s"]  # prompts are arithmetic and network


def test_explain_shows_what_overlaps(lamina: object) -> None:
    args = ("simulate", "azure-code", "--to", "2m", "--gpu", "a100-80-sxm", "--tp", "8", "--model", "llama-2-70b", "--format", "json")  # fmt: skip
    ops = []
    for more in ((), ("--with", "intra-device-overlap")):
        ran: Ran = lamina(*args, *more)  # type: ignore[operator]
        assert ran.code == 0, ran.err
        ops.append({row["op"]: row for row in json.loads(ran.out)["explain"]})
    alone, beside = (o["all_reduce"]["ms"] / o["all_reduce"]["net_gb"] for o in ops)
    assert beside < 0.7 * alone  # its latencies stay
    assert ops[1]["up_gate"]["gb"] > 1.5 * ops[0]["up_gate"]["gb"]

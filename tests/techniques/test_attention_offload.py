"""Attention offload against the paper's equations, and what must hold of any such replica."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lamina_traces import specs, techniques
from lamina_traces.costs import AWAY, State, era
from lamina_traces.errors import ModelError, UnknownName, UsageError
from lamina_traces.hardware import device, model
from lamina_traces.schema import Requests
from lamina_traces.simulator import simulate
from lamina_traces.techniques.attention_offload import least_gb_s

BASE = specs.simple("llama-65b", "h100-sxm", tp=4)


def with_(text: str, spec: specs.Serving = BASE) -> specs.Serving:
    return specs.check(techniques.apply_spec([techniques.parse(f"attention-offload:{text}")], spec))


def test_no_devices_change_nothing() -> None:
    assert with_("devices=0") == BASE


def test_what_crosses_the_link() -> None:
    """(2 + 2/G)·e·d·B·L bytes and two round trips a layer (section 3 of the paper)."""
    for name, groups in (("llama-65b", 1), ("llama-3-70b", 8)):
        spec = with_("devices=4,staggered=0", specs.simple(name, "h100-sxm", tp=4))
        rows = {r.op: r for r in specs.step_model(spec).explain(State.decode(300, 1000))}
        shape = model(name)
        per_token = (2 + 2 / groups) * 2 * shape.hidden * shape.layers
        link = rows["attention_link"]
        assert link.net_bytes == pytest.approx(300 * per_token)
        expected = link.net_bytes / (4 * 45.7e9) + 2 * 33e-6 * shape.layers
        assert link.seconds == pytest.approx(expected)
    # of the smaller side's network cards
    few = with_("devices=2,staggered=0")
    rows = {r.op: r for r in specs.step_model(few).explain(State.decode(300, 0))}
    slower = rows["attention_link"].net_bytes / (2 * 45.7e9) + 2 * 33e-6 * 80
    assert rows["attention_link"].seconds == pytest.approx(slower)


def test_keys_and_values_fill_the_other_devices() -> None:
    spec = with_("devices=4")
    each = 2 * 8192 * 80 * 2  # keys and values of 80 layers in two bytes
    assert specs.kv_of(spec).tokens == pytest.approx(
        4 * (0.9 * 97_871 * 2**20 - 2e9) / each, rel=1e-4
    )
    assert specs.kv_of(spec).tokens > 1.3 * specs.kv_of(BASE).tokens
    # weights that leave no room for keys and values beside them
    group = specs.Group("h100-sxm", 2, tp=2)
    two = replace(BASE, pools=(specs.Pool(specs.Replica((group,), kv=specs.Kv(utilisation=0.84))),))
    with pytest.raises(ModelError, match="short"):
        specs.check(replace(two, model="llama-3-70b"))
    assert with_("devices=4", replace(two, model="llama-3-70b")).devices == 6


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 2000), st.integers(1, 8000))
def test_half_batches_last_the_longer_side_or_one_pass(batch: int, context: int) -> None:
    state, half = State.decode(batch, context), State.decode(batch / 2, context)
    plain = specs.step_model(with_("devices=4,staggered=0"))
    rows = plain.explain(half)
    there = sum(r.seconds for r, op in zip(rows, plain.ops, strict=True) if op.on == AWAY)
    here = plain.seconds(half) - there
    both = specs.step_model(with_("devices=4"))
    assert both.seconds(state) == pytest.approx(max(here + there, 2 * here, 2 * there), rel=1e-9)
    assert both.lower(2048).seconds(state) == pytest.approx(both.seconds(state), rel=1e-9)


def test_the_same_devices_over_a_perfect_link_lose_nothing() -> None:
    """Decode attention on as many of the same devices, no link: the same work in the same time."""
    spec = with_("devices=4,gpu=h100-sxm,link_gb_s=1e4,round_trip_s=0,staggered=0")
    state = State.decode(64, 1500)
    assert specs.step_model(spec).seconds(state) == pytest.approx(specs.step_model(BASE).seconds(state), rel=2e-3)  # fmt: skip


def test_more_of_anything_is_never_slower() -> None:
    state = State.decode(400, 1200)

    def seconds(text: str) -> float:
        return specs.step_model(with_(text)).seconds(state)

    for name, values in (("link_gb_s", (1, 5, 20, 45.7, 200)), ("devices", (1, 2, 4, 8))):
        times = [seconds(f"{'' if name == 'devices' else 'devices=4,'}{name}={v}") for v in values]
        assert times == sorted(times, reverse=True)
        assert times[0] > times[-1]
    assert seconds("devices=4,round_trip_s=1e-4") > seconds("devices=4")


def test_least_bandwidth_of_the_paper() -> None:
    """At most 30 GB/s for LLaMA3-70B on an H100 and an H20 up to 300 sequences (figure 4); more for larger batches, less for longer
    contexts, and bounded where both times grow with the batch."""
    shape, e = model("llama-3-70b"), era("2025")

    def least(batch: int, context: int) -> float:
        h100, h20 = device("h100-sxm"), device("h20")
        flops = 2 * shape.params * batch / (h100.flops_per_s("bf16") * e.compute.value)
        read = shape.params * 2 / (h100.bytes_per_s * e.memory.value)
        kv = (
            batch
            * context
            * shape.kv_bytes_per_token("bf16", 1)
            / (h20.bytes_per_s * e.memory.value)
        )
        return least_gb_s(shape, batch, max(flops, read) + kv)

    curve = [least(b, 4096) for b in (1, 25, 100, 200, 300, 1000)]
    assert (np.diff(curve) > -1e-9).all()
    assert curve[4] < 30
    assert curve[5] < 1.3 * curve[4]  # it saturates
    assert least(300, 8192) < least(300, 4096)
    assert least_gb_s(shape, 300, 0.1, 0.4) == pytest.approx(least_gb_s(shape, 300, 0.1) / 2)


def test_watts_and_dollars_are_of_both_kinds_of_devices() -> None:
    load = Requests.make(np.arange(200) * 2 * 10**8, np.full(200, 900), np.full(200, 120))
    run = simulate(load, replace(with_("devices=2"), prices={"h100-sxm": 11.06, "h20": 4.63}))
    m = run.metrics
    assert m["devices"] == 6
    assert m["usd_per_hour"] == pytest.approx(4 * 11.06 + 2 * 4.63)
    assert m["requests_completed"] == 200
    power = run.power_w
    idle = 4 * device("h100-sxm").idle_w.value + 2 * device("h20").idle_w.value
    assert power.min() >= idle - 1e-6
    assert power.max() <= 4 * 700 + 2 * 400
    assert {"attention_link", "decode_attention"} <= {r.op for r in run.explain()}


@pytest.mark.parametrize(
    ("text", "error", "match"),
    [
        ("gpu=h21", UnknownName, "GPU 'h21'"),
        ("devices=3", ModelError, "does not divide"),
        ("devices=2.5", UsageError, "devices=2.5"),
        ("devices=-1", UsageError, "out of bounds"),
        ("link_gb_s=0", UsageError, "out of bounds"),
    ],
)
def test_bad_settings_are_named(text: str, error: type[Exception], match: str) -> None:
    with pytest.raises(error, match=match):
        with_(text)


def test_what_it_does_not_know_is_refused() -> None:
    with pytest.raises(ModelError, match="latent"):
        with_("devices=4", specs.simple("deepseek-v2-lite", "h100-sxm"))
    with pytest.raises(UsageError, match="attention group of its own"):
        with_("devices=4", with_("devices=4"))
    with pytest.raises(ModelError, match="without swapping"):
        with_("devices=4", specs.simple("llama-65b", "h100-sxm", tp=4, preempt="swap"))
    with pytest.raises(ModelError, match="staggered"):
        specs.check(replace(BASE, pools=(replace(BASE.pools[0], replica=replace(BASE.pools[0].replica, staggered=True)),)))  # fmt: skip


def test_a_spec_with_an_attention_group_reads_back() -> None:
    spec = with_("devices=4")
    assert specs.loads(specs.dumps(spec)) == spec
    assert math.isfinite(specs.step_model(spec).seconds(State.prefill(1000)))

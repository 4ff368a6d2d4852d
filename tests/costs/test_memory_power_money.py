"""KV blocks, watts, dollars."""

from __future__ import annotations

import csv
import os
from collections import defaultdict
from pathlib import Path

import numpy as np
import pytest

from lamina_traces.costs import (
    FITTED_POWER,
    Parallel,
    State,
    bill,
    era,
    kv_memory,
    throttled,
    time_shares,
    transformer,
)
from lamina_traces.costs.power import CLOCK_EXPONENT
from lamina_traces.errors import ModelError
from lamina_traces.hardware import device, model
from lamina_traces.units import Quantity


def test_blocks_are_what_is_left() -> None:
    kv = kv_memory(model("llama-3.1-8b"), device("h100-sxm"))
    # 81,559 MiB = 85.52 GB; 85.52·0.9 − 16.06 − 2 = 58.91 GB; a block of 16 tokens has 2,097,152 bytes
    assert device("h100-sxm").memory_gb.value == round(81_559 * 2**20 / 1e9, 2)
    assert kv.blocks == int((76.968e9 - 16_059_990_016 - 2e9) // 2_097_152) == 28_089
    assert kv.tokens == 28_089 * 16 == 449_424
    half = kv_memory(model("llama-3.1-8b"), device("h100-sxm"), kv_dtype="fp8")
    assert half.blocks in (2 * kv.blocks, 2 * kv.blocks + 1)


def test_a_model_that_does_not_fit_says_what_would() -> None:
    with pytest.raises(
        ModelError, match=r"needs 141\.1 GB of bf16 weights on 1 × 85\.52 GB .* 55\.6 GB short"
    ) as e:
        kv_memory(model("llama-3.1-70b"), device("h100-sxm"))
    assert "tp=2 would fit" in str(e.value.hint)
    # at 0.9 two have 2·(76.97 − 2) = 149.9 GB for 141.1 GB of weights; 8.8 GB are left, of 5.24 MB a block
    two = kv_memory(model("llama-3.1-70b"), device("h100-sxm"), Parallel(tp=2))
    assert two.blocks * 16 * 327_680 == pytest.approx(8.8e9, rel=0.01)
    # at 0.8 two have 2·(68.42 − 2) = 132.8 GB, 8.3 too few
    with pytest.raises(ModelError, match=r"8\.3 GB short of any room for the KV cache"):
        kv_memory(model("llama-3.1-70b"), device("h100-sxm"), Parallel(tp=2), utilisation=0.8)
    with pytest.raises(ModelError) as e:
        kv_memory(model("llama-3.1-70b"), device("h100-sxm"), utilisation=0.8)
    assert "tp=4 would fit, tp=2 leaves no room for KV" in str(e.value.hint)
    assert (
        kv_memory(model("llama-3.1-70b"), device("h100-sxm"), Parallel(tp=2), dtype="fp8").blocks
        > 0
    )
    with pytest.raises(ModelError) as e:
        kv_memory(model("llama-3.1-70b"), device("l4"))
    assert "tp=8 would fit" in str(e.value.hint)


def test_memory_of_parallel_groups() -> None:
    v3, h200 = model("deepseek-v3"), device("h200-sxm")
    tensor = kv_memory(v3, h200, Parallel(tp=8), dtype="fp8")
    shared = kv_memory(v3, h200, Parallel(dp=8, ep=8), dtype="fp8")
    # attention is copied on every rank, experts are not; the latent is copied under tp, not under dp
    assert shared.weight_bytes - tensor.weight_bytes == pytest.approx(
        7 * (v3.weight_bytes("fp8") - 256 * v3.expert_params)
    )
    assert shared.bytes_per_token == tensor.bytes_per_token / 8
    assert shared.tokens > 4 * tensor.tokens
    # stages hold their share of layers: as much room as tensor parallelism gives
    staged = kv_memory(model("llama-3.1-70b"), device("h100"), Parallel(tp=2, pp=2))
    assert staged.blocks == kv_memory(model("llama-3.1-70b"), device("h100"), Parallel(tp=4)).blocks
    # half of GPT-OSS's layers keep 128 of 4,096 tokens
    m = model("gpt-oss-120b")
    kv = kv_memory(m, device("h100"), Parallel(tp=2), dtype="mxfp4")
    assert kv.bytes_per_token == m.kv_bytes_per_token("bf16") * (0.5 + 0.5 / 32)
    # linear layers' states come off
    m = model("qwen3-next-80b-a3b")
    few, many = (kv_memory(m, device("h200"), Parallel(tp=2), sequences=n).blocks for n in (0, 256))
    assert (few - many) * 16 * kv_memory(
        m, device("h200"), Parallel(tp=2)
    ).bytes_per_token == pytest.approx(256 * m.state_bytes, rel=1e-3)


def test_power_between_idle_and_tdp() -> None:
    h100 = device("h100-sxm")
    c, m = np.meshgrid(np.linspace(0, 1, 11), np.linspace(0, 1, 11))
    watts = FITTED_POWER.busy_w(h100, c.ravel(), m.ravel())
    assert watts.max() == 700
    assert watts.min() == 75
    one = FITTED_POWER.busy_w(h100, np.array([0.09]), np.array([0.5]))
    assert one[0] == pytest.approx(
        700 * (FITTED_POWER.compute.value * 0.3 + FITTED_POWER.other.value * 0.5)
    )
    idle = FITTED_POWER.mean_w(h100, np.zeros(1), np.zeros(1), np.zeros(1))
    assert idle[0] == 75
    half = FITTED_POWER.mean_w(h100, np.array([0.5]), np.zeros(1), np.ones(1))
    assert half[0] == pytest.approx((75 + FITTED_POWER.other.value * 700) / 2)


def test_a_power_cap_slows_prefill_and_hardly_decode() -> None:
    m, h100, e = model("llama-3.1-8b"), device("h100"), era("2025")
    free = transformer(m, h100, e)
    prefill, decode = State.prefill(2048), State.decode(32, 1000)
    before = 1.0
    for cap in (700.0, 500.0, 350.0, 250.0):
        own = throttled(h100.limited(cap_w=cap), free)
        assert own.clock <= before
        before = own.clock
        slow = transformer(m, own, e)
        assert slow.seconds(prefill) >= free.seconds(prefill)
        shares = [np.array([x]) for x in time_shares(slow, prefill)]
        assert FITTED_POWER.busy_w(own, *shares)[0] <= cap + 1e-6
    # at 250 of 700 W prefill takes nearly twice as long, decode a tenth more
    assert 1.5 < slow.seconds(prefill) / free.seconds(prefill) < 2.5
    assert slow.seconds(decode) / free.seconds(decode) < 1.15
    # a locked clock: work at half the rate, power above idle a quarter
    half = h100.limited(clock=0.5)
    ones = np.ones(1)
    assert FITTED_POWER.busy_w(half, ones, ones)[0] == pytest.approx(75 + 625 / 4)


REAL = os.environ.get("LAMINA_TRACES_REAL_DATA")


@pytest.mark.real_data
@pytest.mark.skipif(REAL is None, reason="LAMINA_TRACES_REAL_DATA is not set")
@pytest.mark.parametrize(("gpu", "limit"), [("v100", 0.06), ("rtx6000", 0.09)])
def test_speed_under_power_caps_of_real_trainings(gpu: str, limit: float) -> None:
    """Zeus (NSDI 2023): trainings, bound by compute, under caps of 100 to 250 W."""
    runs = defaultdict(list)
    with (Path(str(REAL)) / f"power/zeus-nsdi23/summary_power_{gpu}.csv").open(newline="") as f:
        for r in csv.DictReader(f):
            key = (r["dataset"], r["network"], r["batch_size"], r["optimizer"])
            runs[key].append(
                [float(r[c]) for c in ("power_limit", "time_per_epoch", "average_power")]
            )
    errors = []
    for rows in runs.values():
        *capped, (_, fastest, watts) = sorted(rows)
        for cap, seconds, _ in capped:
            room = min(1.0, (cap - 30) / (watts - 30))  # 30 W: idle
            errors.append(room ** (1 / CLOCK_EXPONENT.value) / (fastest / seconds) - 1)
    print(f"{gpu}: {len(errors)} runs, mean |error| of speed {np.mean(np.abs(errors)):.1%}")
    assert len(errors) > 300
    assert np.mean(np.abs(errors)) < limit


def test_money_over_provisioned_hours() -> None:
    price = Quantity(2.0, "USD/h", "here", "assumed")
    b = bill([(4, price), (2, Quantity(1.0, "USD/h", "here", "assumed"))], hours=0.5)
    assert (b.device_hours, b.usd_per_hour, b.usd) == (3.0, 10.0, 5.0)
    assert b.per_million(2_000_000) == 2.5
    assert b.per_million(0) is None
    open_bill = bill([(4, price), (1, None)], hours=0.5)
    assert (open_bill.usd, open_bill.usd_per_hour, open_bill.per_million(10)) == (None, None, None)
    assert open_bill.device_hours == 2.5

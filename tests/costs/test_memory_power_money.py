"""KV blocks, watts, dollars."""

from __future__ import annotations

import numpy as np
import pytest

from lamina_traces.costs import FITTED_POWER, bill, kv_memory
from lamina_traces.errors import ModelError
from lamina_traces.hardware import device, model
from lamina_traces.units import Quantity


def test_blocks_are_what_is_left() -> None:
    kv = kv_memory(model("llama-3.1-8b"), device("h100-sxm"))
    # 80·0.9 − 16.06 − 2 = 53.94 GB; a block of 16 tokens has 2,097,152 bytes
    assert kv.blocks == int((72e9 - 16_059_990_016 - 2e9) // 2_097_152) == 25_720
    assert kv.tokens == 25_720 * 16
    half = kv_memory(model("llama-3.1-8b"), device("h100-sxm"), kv_dtype="fp8")
    assert half.blocks in (2 * kv.blocks, 2 * kv.blocks + 1)


def test_a_model_that_does_not_fit_says_what_would() -> None:
    with pytest.raises(
        ModelError, match=r"needs 141\.1 GB of bf16 weights on 1 × 80 GB .* 61\.1 GB short"
    ) as e:
        kv_memory(model("llama-3.1-70b"), device("h100-sxm"))
    assert "tp=4 would fit, tp=2 leaves no room for KV" in str(e.value.hint)
    with pytest.raises(ModelError, match="room for the KV cache"):
        kv_memory(model("llama-3.1-70b"), device("h100-sxm"), tp=2)
    assert kv_memory(model("llama-3.1-70b"), device("h100-sxm"), tp=4).blocks > 0
    assert kv_memory(model("llama-3.1-70b"), device("h100-sxm"), tp=2, dtype="fp8").blocks > 0
    with pytest.raises(ModelError) as e:
        kv_memory(model("llama-3.1-70b"), device("l4"))
    assert "tp=8 would fit" in str(e.value.hint)


def test_power_between_idle_and_tdp() -> None:
    h100 = device("h100-sxm")
    mfu, mbu = np.meshgrid(np.linspace(0, 1, 11), np.linspace(0, 1, 11))
    watts = FITTED_POWER.busy_w(h100, mfu.ravel(), mbu.ravel())
    assert watts.max() == 700
    assert watts.min() == pytest.approx(0.486 * 700)
    one = FITTED_POWER.busy_w(h100, np.array([0.09]), np.array([0.5]))
    assert one[0] == pytest.approx(700 * (0.486 + 0.815 * 0.3 + 0.130 * 0.5))
    idle = FITTED_POWER.mean_w(h100, np.zeros(1), np.zeros(1), np.zeros(1))
    assert idle[0] == 75
    half = FITTED_POWER.mean_w(h100, np.array([0.5]), np.zeros(1), np.zeros(1))
    assert half[0] == pytest.approx((75 + 0.486 * 700) / 2)


def test_money_over_provisioned_hours() -> None:
    price = Quantity(2.0, "USD/h", "here", "assumed")
    b = bill([(4, price), (2, Quantity(1.0, "USD/h", "here", "assumed"))], hours=0.5)
    assert (b.device_hours, b.usd_per_hour, b.usd) == (3.0, 10.0, 5.0)
    assert b.per_million(2_000_000) == 2.5
    assert b.per_million(0) is None
    open_bill = bill([(4, price), (1, None)], hours=0.5)
    assert (open_bill.usd, open_bill.usd_per_hour, open_bill.per_million(10)) == (None, None, None)
    assert open_bill.device_hours == 2.5

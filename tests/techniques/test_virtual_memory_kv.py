"""Pages behind a contiguous cache: what they hold and waste, and what is left of the paged kernel."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lamina_traces import techniques
from lamina_traces.costs import State, StepModel
from lamina_traces.errors import ModelError, UnknownName
from lamina_traces.hardware import all_models, model
from lamina_traces.schema import Requests
from lamina_traces.simulator import simulate
from lamina_traces.specs import Serving, kv_of, simple, step_model
from lamina_traces.techniques.virtual_memory_kv import tokens_per_page

SPEC = simple("yi-6b", "a100-80-sxm", max_num_seqs=1024)
PLAIN = [m.name for m in all_models().values() if not m.mla and not m.linear_layers and not m.window_layers]  # fmt: skip


def with_(text: str) -> list[techniques.Applied]:
    return [techniques.parse(f"virtual-memory-kv:{text}")]


def paged(text: str) -> Serving:
    return techniques.apply_spec(with_(text), SPEC)


def size(spec: Serving) -> int:
    return spec.pools[0].replica.kv.block_size


def test_neutral_is_the_same_spec_and_step() -> None:
    own = step_model(SPEC)
    assert paged("page_kb=0") is SPEC
    assert techniques.apply_step(with_("page_kb=2048"), own) is own


def test_a_page_of_one_token_allocates_tokens() -> None:
    exact = paged("page_kb=1")  # Yi-6B: 4 KV heads · 128 · 2 bytes
    assert size(exact) == 1
    memory = kv_of(exact)
    assert memory.tokens == memory.blocks
    assert memory.tokens >= kv_of(SPEC).tokens
    with pytest.raises(ModelError, match="holds no token"):
        paged("page_kb=0.9")


@given(st.sampled_from(PLAIN), st.sampled_from([64, 128, 256, 2048]), st.integers(1, 100_000))
def test_waste_is_less_than_a_page_of_each_range(name: str, page_kb: int, length: int) -> None:
    """2L pages on the device: keys and values of L layers."""
    m = model(name)
    held = tokens_per_page(m, 1, page_kb * 1024)
    pages = math.ceil(length / held)
    used = length * m.kv_bytes_per_token("bf16")
    ranges = 2 * m.attention_layers
    # a page that tokens do not fill exactly keeps the rest
    rest = page_kb * 1024 - held * m.kv_heads * m.head_dim * 2
    assert 0 <= rest < m.kv_heads * m.head_dim * 2
    mapped = pages * ranges * page_kb * 1024
    assert 0 <= mapped - used - pages * ranges * rest < ranges * page_kb * 1024


def test_coarser_allocation_serves_fewer_at_once() -> None:
    """Token by token, blocks of 16, pages of 64 KB and 2 MB, and a whole context for each, as before paging."""
    n = 3000
    requests = Requests.make(np.zeros(n, np.int64), np.full(n, 300), np.full(n, 300))
    specs = [paged(t) for t in ("page_kb=1", "page_kb=0", "page_kb=64", "page_kb=2048", "allocation=static")]  # fmt: skip
    assert [size(s) for s in specs] == [1, 16, 64, 2048, 4096]
    batch = [simulate(requests, s).metrics["batch_mean"] or 0.0 for s in specs]
    assert batch[0] == pytest.approx(batch[1], rel=0.01)
    assert batch[2] < 1.001 * batch[1]
    assert batch[3] < 0.7 * batch[2]
    assert batch[4] < 0.7 * batch[3]
    assert batch[4] == pytest.approx(kv_of(specs[4]).blocks, rel=0.1)


def slow(own: StepModel, times: float) -> StepModel:
    return own.with_ops(
        [replace(op, bytes=op.bytes * times) if op.name == "decode_attention" else op for op in own.ops]
    )  # fmt: skip


@given(st.floats(1.0, 5.0), st.integers(1, 256), st.integers(1, 20_000))
def test_the_slowness_of_a_paged_kernel_is_taken_away(times: float, batch: int, context: int) -> None:  # fmt: skip
    own = step_model(SPEC)
    mapped = techniques.apply_step(with_(f"paged_slowdown={times}"), slow(own, times))
    state = State.decode(batch, context)
    assert mapped.seconds(state) == pytest.approx(own.seconds(state), rel=1e-9)
    gain = slow(own, times).seconds(state) / mapped.seconds(state)
    assert 1 - 1e-9 <= gain <= times * (1 + 1e-9)


def test_the_gain_grows_with_what_is_read() -> None:
    own = step_model(SPEC)
    mapped = techniques.apply_step(with_("paged_slowdown=2.8"), slow(own, 2.8))
    gains = [slow(own, 2.8).seconds(s) / mapped.seconds(s) for s in (State.decode(b, c) for b, c in ((1, 1), (1, 16384), (8, 16384), (32, 16384)))]  # fmt: skip
    assert gains == sorted(gains)
    assert gains[0] == pytest.approx(1, abs=1e-3)


def test_mapping_takes_time_where_nothing_hides_it() -> None:
    """A token of Yi-6B has 64 KB; an A100 maps 0.017 · 2,039 GB/s."""
    own = step_model(SPEC)
    state = State.decode(100, 1000) + State.prefill(900)
    for exposed in (1.0, 0.25):
        mapped = techniques.apply_step(with_(f"exposed={exposed}"), own)
        took = mapped.seconds(state) - own.seconds(state)
        assert took == pytest.approx(exposed * 1000 * 65536 / (0.017 * 2039e9))
    hidden = techniques.apply_step(with_("exposed=0"), own)
    assert hidden.seconds(state) == own.seconds(state)


def test_unknown_allocation() -> None:
    with pytest.raises(UnknownName):
        with_("allocation=dynamic")

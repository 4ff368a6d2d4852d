"""Global prefix sharing on batches whose best saving is known by counting."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from lamina_traces import specs, techniques
from lamina_traces.claims.batchllm import documents
from lamina_traces.schema import Requests
from lamina_traces.simulator import Result, simulate
from lamina_traces.techniques.global_prefix_sharing import order

UNIT = 100


def spec(gb: float | None = None) -> specs.Serving:
    """``gb``: memory of the cache that is left."""
    plain = specs.simple("llama-3.1-8b", "h100-sxm", reuse="prefix")
    kv = replace(plain.pools[0].replica.kv, block_size=20)
    if gb is not None:
        memory = specs.kv_of(plain)
        kv = replace(kv, reserve_gb=(memory.usable_bytes - memory.weight_bytes) / 1e9 - gb)
    return replace(plain, pools=(replace(plain.pools[0], replica=replace(plain.pools[0].replica, kv=kv)),))  # fmt: skip


def served(load: Requests, on: specs.Serving, text: str | None = None) -> Result:
    using = [] if text is None else [techniques.parse(f"global-prefix-sharing:{text}")]
    return simulate(techniques.apply_requests(using, load), techniques.apply_spec(using, on))


def saved(run: Result) -> float:
    cached = run.metrics["cached_prompt_tokens"]
    assert cached is not None
    return float(cached / run.input_tokens.sum())


def test_each_prefix_is_computed_once_whatever_the_cache() -> None:
    load = documents(300, 3, seed=1)
    best = 2 * 2000 / (3 * 2300)
    lru, grouped = served(load, spec(12.0)), served(load, spec(12.0), "token_batching=0")
    assert saved(grouped) == pytest.approx(best, abs=0.01)
    assert saved(lru) < 0.2  # 12 GB hold a seventh of the documents
    assert saved(lru) < saved(served(load, spec())) < best  # and all memory not all of them
    for run in (lru, grouped):
        assert run.metrics["preemptions"] == 0
        assert run.metrics["requests_completed"] == 900
        assert run.windows.decode_tokens.sum() == load.output_tokens.sum()
    end = [r.rows.last_token_ns.max() for r in (grouped, lru)]
    assert end[0] < 0.6 * end[1]  # prompts are most of the work


def test_the_order_is_the_same_for_any_order_of_the_batch() -> None:
    load = documents(40, 3, seed=2)
    assert load.ids is not None
    heads = load.ids[load.ids_from[:-1]]
    assert len(np.flatnonzero(np.diff(heads[order(load)].astype(float)))) == 39  # groups stay whole
    rng = np.random.default_rng(0)
    shuffled = rng.permutation(120)
    lists = [load.ids[load.ids_from[i] : load.ids_from[i + 1]] for i in shuffled]
    other = replace(
        load, row_id=np.arange(120), ids=np.concatenate(lists), ids_from=np.concatenate([[0], np.cumsum([len(x) for x in lists])]),
        input_tokens=load.input_tokens[shuffled], output_tokens=load.output_tokens[shuffled], steps=load.steps[shuffled],
    )  # fmt: skip
    prompts = [tuple(lists[i].tolist()) for i in order(other)]
    assert prompts == [tuple(load.ids[load.ids_from[i] : load.ids_from[i + 1]].tolist()) for i in order(load)]  # fmt: skip


def test_groups_that_generate_much_go_first() -> None:
    load = documents(20, 3, seed=3)
    long = replace(load, output_tokens=np.where(np.arange(60) == order(load)[-1], 2000, load.output_tokens))  # fmt: skip
    assert order(long)[0] in order(load)[-3:]
    assert set(order(long)[:3]) == set(order(load)[-3:])


def test_nothing_in_common_saves_nothing_and_costs_nothing() -> None:
    load = documents(200, 1, seed=4)
    plain, grouped = served(load, spec()), served(load, spec(), "token_batching=0")
    assert saved(plain) == saved(grouped) == 0
    ends = [r.rows.last_token_ns.max() for r in (plain, grouped)]
    assert ends[1] == pytest.approx(ends[0], rel=0.02)
    without = replace(load, ids=None, ids_from=np.zeros(1, np.int64), id_tokens=None)
    assert (order(without) == np.arange(200)).all()


def test_a_batch_as_large_as_the_cache() -> None:
    """Short prompts, long answers: 256 sequences leave most of the cache empty."""
    load = Requests.make(np.zeros(2000), np.full(2000, 40), np.full(2000, 200))
    plain = simulate(load, specs.simple("llama-3.1-8b", "h100-sxm"))
    using = [techniques.parse("global-prefix-sharing:grouping=0")]
    wide = simulate(load, techniques.apply_spec(using, specs.simple("llama-3.1-8b", "h100-sxm")))
    assert wide.metrics["kv_peak_frac"] > 2 * plain.metrics["kv_peak_frac"]  # type: ignore[operator]
    assert wide.metrics["output_tokens_per_s"] > 1.3 * plain.metrics["output_tokens_per_s"]  # type: ignore[operator]

"""What users switch on, held against what can be worked out by hand."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lamina_traces import specs
from lamina_traces.costs import State
from lamina_traces.errors import ModelError, UnknownName, UsageError
from lamina_traces.schema import Requests
from lamina_traces.simulator.result import Result, simulate
from lamina_traces.simulator.simulation import own_policy

ROOT = Path(__file__).parents[2]
S = 10**9


def served(requests: Requests, **flags: Any) -> Result:
    spec = specs.simple("llama-3.1-8b", "h100-sxm", **flags)
    return simulate(requests, spec, window_s=1.0)


def poisson(
    n: int, per_s: float, seed: int = 1, inputs: int = 1000, outputs: int = 100
) -> Requests:
    rng = np.random.default_rng(seed)
    t = np.cumsum(rng.exponential(S / per_s, n)).astype(np.int64)
    return Requests.make(t, np.full(n, inputs), np.full(n, outputs))


def test_hand_over_takes_the_links_time() -> None:
    one = Requests.make([0], [4000], [3])
    spec = specs.simple("llama-3.1-8b", "h100-sxm", replicas=2, prefill="apart:1")
    spec = replace(spec, links=(specs.Link("prefill", "decode", 10.0, 0.001),))
    rows = simulate(one, spec).rows
    step = specs.step_model(spec)
    first, second = (step.seconds(State.prefill(c, b)) for c, b in ((2048, 0), (4000 - 2048, 2048)))
    assert rows.first_token_ns[0] / S == pytest.approx(first + second, rel=1e-6)
    moved = 0.001 + 4000 * specs.kv_of(spec).bytes_per_token / 10e9
    decode = sum(step.seconds(State.decode(1, 4000 + i)) for i in (1, 2))
    assert rows.last_token_ns[0] / S == pytest.approx(first + second + moved + decode, rel=1e-5)


def test_pools_need_each_other() -> None:
    spec = specs.simple("llama-3.1-8b", "h100-sxm", replicas=2, prefill="apart:1")
    with pytest.raises(ModelError, match="need each other"):
        specs.check(replace(spec, pools=spec.pools[:1]))
    with pytest.raises(UsageError, match="cannot prefill for the others"):
        specs.simple("llama-3.1-8b", "h100-sxm", prefill="apart:1")
    with pytest.raises(UnknownName, match="chunks"):
        specs.simple("llama-3.1-8b", "h100-sxm", prefill="chunks")


def test_prefill_first_stalls_who_decodes() -> None:
    """The first request decodes; when the second comes, its whole prompt is computed in an iteration of its own."""
    two = Requests.make([0, S // 10], [100, 8000], [100, 1])
    gaps = {}
    for how in ("chunked", "first"):
        run = served(two, prefill=how)
        gaps[how] = run.metrics["itl_p50_s"], run.rows.last_token_ns - run.rows.arrival_ns
    step = specs.step_model(specs.simple("llama-3.1-8b", "h100-sxm"))
    alone = step.seconds(State.prefill(8000))
    assert gaps["first"][1][1] / S == pytest.approx(alone, rel=0.2)  # and the rest of an iteration
    assert gaps["first"][1][1] < gaps["chunked"][1][1]


def test_a_prompt_that_is_known_needs_one_token() -> None:
    ids = np.arange(125, dtype=np.uint64)
    twice = Requests.make([0, 5 * S], [2000, 2000], [2, 2])
    twice = replace(twice, ids_from=np.array([0, 125, 250]), ids=np.concatenate([ids, ids]), id_tokens=16)  # fmt: skip
    run = served(twice, reuse="prefix")
    assert run.metrics["cached_prompt_tokens"] == 1999
    ttft = run.rows.first_token_ns - run.rows.arrival_ns
    step = specs.step_model(run.spec)
    assert ttft[1] / S == pytest.approx(step.seconds(State.prefill(1, 1999)), rel=1e-6)
    with pytest.raises(ModelError, match="no ids of prefix blocks"):
        served(poisson(10, 1.0), reuse="prefix")
    with pytest.raises(ModelError, match="whole blocks"):
        served(replace(twice, id_tokens=24), reuse="prefix")


def test_a_closed_loop_has_no_more_under_way() -> None:
    requests = poisson(300, 1000.0)
    spec = specs.simple("llama-3.1-8b", "h100-sxm")
    rows = simulate(requests, spec, concurrency=7).rows
    events = np.concatenate([np.stack([rows.release_ns, np.ones(300)]), np.stack([rows.last_token_ns, -np.ones(300)])], axis=1)  # fmt: skip
    order = np.lexsort((events[1], events[0]))  # who ends makes room for who begins
    under_way = np.cumsum(events[1][order])
    assert under_way.max() == 7
    late = rows.release_ns > rows.arrival_ns
    assert late.mean() > 0.9


def test_replicas_come_and_go_with_the_load() -> None:
    rng = np.random.default_rng(3)
    quiet, busy = np.sort(rng.uniform(0, 600, 300)), np.sort(rng.uniform(600, 900, 9000))
    t = (np.concatenate([quiet, busy, np.sort(rng.uniform(900, 1500, 300))]) * S).astype(np.int64)
    requests = Requests.make(t, np.full(len(t), 1000), np.full(len(t), 100))
    spec = specs.simple("llama-3.1-8b", "h100-sxm", replicas=6, route="least-outstanding")
    scaled = replace(spec, control="scale", scale=specs.Scale(requests=16, load_s=20, period_s=5))
    all_on, some = simulate(requests, spec).metrics, simulate(requests, scaled).metrics
    assert some["usd"] < 0.6 * all_on["usd"]  # type: ignore[operator]
    assert some["requests_completed"] == len(t)
    assert some["ttft_mean_s"] > all_on["ttft_mean_s"]  # type: ignore[operator]
    # shares are of what is provisioned, and the power curve holds the energy of no more
    run = simulate(requests, scaled)
    up_s = 3600 * float(some["device_hours"] or 0)
    assert some["busy_frac"] == pytest.approx(run.windows.busy_s.sum() / up_s)
    covered = float(run.power_w.sum()) * run.windows.window_ns / S
    assert covered == pytest.approx(some["energy_j"], rel=0.01)
    fixed = simulate(requests, replace(scaled, scale=specs.Scale(requests=16, least=6, start=6)))
    assert fixed.metrics["usd"] == pytest.approx(all_on["usd"], rel=0.02)
    assert (fixed.rows.last_token_ns == simulate(requests, spec).rows.last_token_ns).all()


def test_affinities() -> None:
    requests = poisson(2000, 20.0)
    rng = np.random.default_rng(5)
    session, head = rng.integers(0, 200, 2000), rng.zipf(1.5, 2000) % 50
    requests = replace(requests, extra={"session": session, "head": head.astype(np.int64)})
    rows = served(requests, replicas=4, route="session-affinity").rows
    homes = {s: set(rows.replica[session == s].tolist()) for s in np.unique(session)}
    assert all(len(h) == 1 for h in homes.values())
    rows = served(requests, replicas=4, route="prefix-affinity").rows
    shares = np.bincount(rows.replica, minlength=4) / 2000
    assert shares.max() < 0.5  # the commonest head alone is a third of all and more
    most = np.bincount(rows.replica[head == 1], minlength=4) / (head == 1).sum()
    assert most.max() > 0.5


def test_two_choices_are_nearly_the_best_and_far_from_chance() -> None:
    """Mitzenmacher: the longest queue of two choices is log log n, of one log n / log log n."""
    requests = poisson(6000, 60.0, inputs=2000)
    waits = {r: served(requests, replicas=8, route=r).metrics["queue_p99_s"] for r in ("least-outstanding", "power-of-two", "round-robin")}  # fmt: skip
    best, two = waits["least-outstanding"], waits["power-of-two"]
    assert best is not None
    assert two is not None
    assert best <= two < 4 * best + 0.2


def test_least_slack_serves_who_must_begin_first() -> None:
    """A long prompt comes first; behind it two wait, of which the later has less time."""
    requests = Requests.make([0, 1, 2], [30_000, 1000, 1000], [1, 1, 1])
    requests = replace(requests, extra={"deadline_ns": np.array([S, 60 * S, 2 * S])})
    spec = specs.simple("llama-3.1-8b", "h100-sxm")
    for rank, first in (("fcfs", 1), ("least-slack", 2)):
        rows = simulate(requests, replace(spec, rank=rank)).rows
        assert rows.scheduled_ns[first] <= rows.scheduled_ns[3 - first]


def test_swapping_pays_the_link_and_recomputing_the_prompt(tmp_path: Path) -> None:
    spec = specs.simple("llama-3.1-8b", "l4", prefill="chunked", dtype="fp8")
    requests = poisson(60, 50.0, inputs=1500, outputs=900)
    again = simulate(requests, spec)
    kv = replace(spec.pools[0].replica.kv, preemption="swap")
    pool = replace(spec.pools[0], replica=replace(spec.pools[0].replica, kv=kv))
    swapped = simulate(requests, replace(spec, pools=(pool,)))
    assert again.metrics["preemptions"] > 0  # type: ignore[operator]
    assert swapped.windows.moved_tokens.sum() > 0
    assert again.windows.moved_tokens.sum() == 0
    assert swapped.windows.prefill_tokens.sum() < again.windows.prefill_tokens.sum()
    assert swapped.windows.prefill_tokens.sum() == 60 * 1500


def test_the_policy_of_the_docs_runs(tmp_path: Path) -> None:
    text = (ROOT / "docs" / "policies.md").read_text(encoding="utf-8")
    code = re.findall(r"```python\n(.*?)```", text, re.S)
    assert len(code) == 1
    file = tmp_path / "pack.py"
    file.write_text(code[0])
    rows = served(poisson(400, 5.0), replicas=3, route=f"{file}:pack").rows
    counts = np.bincount(rows.replica, minlength=3)
    assert counts[0] > 200 > counts[2]
    assert len(code[0].strip().splitlines()) <= 30


@pytest.mark.parametrize(
    ("content", "name", "match"),
    [
        ("x = 1", "pack", "no function 'pack'"),
        ("def pack(", "pack", "does not run: SyntaxError"),
        ("raise ValueError('no')", "pack", "does not run: ValueError: no"),
    ],
)
def test_a_policy_that_is_none(content: str, name: str, match: str, tmp_path: Path) -> None:
    file = tmp_path / "own.py"
    file.write_text(content)
    with pytest.raises(UsageError, match=match):
        own_policy(f"{file}:{name}")
    with pytest.raises(UsageError, match="no such file"):
        own_policy(f"{tmp_path}/none.py:pack")


def test_replicas_that_are_there_from_the_start_serve() -> None:
    """A burst that finds four replicas is spread over them before any is given up."""
    load = Requests.make(np.zeros(64), np.full(64, 1000), np.full(64, 100))
    spec = specs.simple("llama-3.1-8b", "h100-sxm", replicas=4)
    scaled = replace(
        spec, control="scale", scale=specs.Scale(requests=8, start=4, load_s=1, period_s=1)
    )
    rows, fixed = simulate(load, scaled).rows, simulate(load, spec).rows
    assert np.bincount(rows.replica, minlength=4).tolist() == [16] * 4
    assert (rows.last_token_ns == fixed.last_token_ns).all()

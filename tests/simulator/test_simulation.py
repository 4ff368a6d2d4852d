"""Feeding, memory, policies, windows: what the oracle's cases do not reach."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from lamina_traces import specs
from lamina_traces.costs import Form, Op, Rates, StepModel
from lamina_traces.errors import ModelError
from lamina_traces.schema import Requests
from lamina_traces.simulator import Engine, Simulation, chunks, run, simulate
from lamina_traces.simulator import serving as k

S = 1_000_000_000


def engine(**changes: Any) -> Engine:
    """1 ms per iteration, and 10 µs per token."""
    rates = Rates(1.0, 1.0, 1.0, 1.0, 1.0)
    step = StepModel(
        (Op("op", "overhead", seconds=Form(one=1e-3) + Form.tokens(1e-5)),), {"main": rates}
    )
    given: dict[str, Any] = {
        "blocks": 1000,
        "max_num_seqs": 32,
        "max_num_batched_tokens": 256,
        **changes,
    }
    return Engine(step.lower(given["max_num_batched_tokens"]), **given)


def sessions(n: int, users: int, turns: int, rate: float, seed: int = 0) -> Requests:
    """Users come at ``rate``; each has ``turns`` requests, one after the other with a second between."""
    rng = np.random.default_rng(seed)
    start = np.sort(rng.uniform(0, n / rate, users))
    arrival = (start[:, None] + np.arange(turns) * 1.0).ravel()
    user = np.repeat(np.arange(users), turns)
    turn = np.tile(np.arange(turns), users)
    order = np.lexsort((user, turn, np.rint(arrival * S)))
    position = np.empty(len(order), np.int64)
    position[order] = np.arange(len(order))
    parents: list[list[int]] = [[] for _ in order]
    for i, at in enumerate(order):
        if turn[at]:
            parents[i] = [int(position[at - 1])]
    return Requests.make(
        np.rint(arrival * S)[order],
        rng.integers(1, 300, len(order)),
        rng.integers(1, 100, len(order)),
        delay_ns=np.where(turn[order] > 0, S, 0),
        parents=parents,
    )


def test_memory_is_bounded_by_what_is_in_flight() -> None:
    load = sessions(200_000, users=40_000, turns=5, rate=20.0)
    sim = Simulation([engine()])
    n = 0
    for chunk in chunks(load, 2_000):
        n += len(sim.feed(chunk))
    n += len(sim.finish())
    assert n == len(load) == 200_000
    assert sim.dependent_releases == 160_000
    # one chunk, what is in flight, and the parents of later turns; a fiftieth of the workload
    assert sim.slots < 6_000
    assert k.REQUEST.itemsize <= 200  # bytes a request in flight
    assert sim.free_blocks.tolist() == [1000]


def test_a_parent_that_was_not_announced_is_an_error_not_a_guess() -> None:
    def cut(load: Requests) -> Iterator[Requests]:
        for c in chunks(load, 1):
            yield replace(c, extra={})

    load = Requests.make([0, S, 10 * S], [5] * 3, [5] * 3, parents=[[], [], [0]])
    with pytest.raises(ModelError, match="position 0 ended in an earlier chunk") as e:
        run(Simulation([engine()]), cut(load))
    assert "children" in str(e.value.hint)
    assert run(Simulation([engine()]), chunks(load, 1)).status.tolist() == [0] * 3


def test_delays_count_from_the_end_of_the_last_parent() -> None:
    load = Requests.make(
        [0, 0, 0, 5],
        [10, 200, 10, 10],
        [10, 50, 3, 3],
        delay_ns=[0, 0, 7, 0],
        parents=[[], [], [0, 1], [2]],
    )
    done = run(Simulation([engine()]), load)
    assert done.release_ns[2] == max(done.last_token_ns[:2]) + 7
    assert done.release_ns[3] == done.last_token_ns[2]  # the same instant
    assert done.scheduled_ns[3] == done.release_ns[3]


def test_a_closed_loop_never_holds_more_than_its_users() -> None:
    users, n = 4, 400
    parents: list[list[int]] = [[] if i < users else [i - users] for i in range(n)]
    load = Requests.make(np.zeros(n), np.full(n, 20), np.full(n, 10), parents=parents)
    sim = Simulation([engine()], window_s=0.1)
    done = run(sim, load)
    assert (done.status == 0).all()
    edges = np.concatenate([done.release_ns, done.last_token_ns])
    change = np.concatenate([np.ones(n), -np.ones(n)])
    order = np.lexsort((change, edges))  # an end frees its user before the next begins
    assert np.cumsum(change[order]).max() == users
    windows = sim.windows()
    assert windows.sequence_s.sum() / windows.busy_s.sum() == pytest.approx(users, rel=0.05)


def test_routes_spread_requests() -> None:
    load = Requests.make(np.arange(12) * 1000, np.full(12, 100), [200, 1, 1] * 4)
    turns = run(Simulation([engine(replicas=3)]), load)
    assert turns.replica.tolist() == [0, 1, 2] * 4
    load = Requests.make(np.arange(12) * 20_000_000, np.full(12, 100), [200, 1, 1] * 4)
    fewest = run(Simulation([engine(replicas=3)], route="least-outstanding"), load)
    counts = np.bincount(fewest.replica[::3], minlength=3)  # the long ones
    assert counts.max() - counts.min() <= 1


def test_priority_goes_before_arrival() -> None:
    n = 40
    urgent = np.arange(n) % 4 == 0
    load = Requests.make(
        np.arange(n), np.full(n, 250), np.full(n, 2), priority=np.where(urgent, 0, 1)
    )
    fcfs, ranked = (run(Simulation([engine()], rank=rank), load) for rank in ("fcfs", "priority"))
    assert (np.diff(fcfs.scheduled_ns) >= 0).all()
    # all but the first, which was alone when it came
    assert ranked.scheduled_ns[urgent].max() < ranked.scheduled_ns[~urgent].min() or (
        ranked.scheduled_ns[urgent][1:].max() < np.sort(ranked.scheduled_ns[~urgent])[1]
    )
    assert ranked.scheduled_ns[urgent].mean() < fcfs.scheduled_ns[urgent].mean()


def shortest_first(now, slot, replica, req, rep, mem, par):  # type: ignore[no-untyped-def]
    return req[slot].output


def to_last(now, slot, replica, req, rep, mem, par):  # type: ignore[no-untyped-def]
    mem[16] += 1
    return rep.shape[0] - 1


def all_but_ten(now, slot, replica, req, rep, mem, par):  # type: ignore[no-untyped-def]
    return req[slot].input - 10


def every_ms(now, slot, replica, req, rep, mem, par):  # type: ignore[no-untyped-def]
    mem[17] += 1
    mem[18] = max(mem[18], rep[0].waiting)
    return now + int(par[0])


def test_a_callers_policies_are_called() -> None:
    n = 50
    rng = np.random.default_rng(0)
    load = Requests.make(np.arange(n), np.full(n, 200), rng.integers(1, 60, n))
    mem, par = np.zeros(64, np.int64), np.array([1e6])
    sim = Simulation(
        [engine(replicas=2, max_num_seqs=1)],
        route=to_last,
        rank=shortest_first,
        reuse=all_but_ten,
        tick=every_ms,
        first_tick_ns=0,
        mem=mem,
        par=par,
    )
    done = run(sim, load)
    assert (done.replica == 1).all()
    assert mem[16] == n
    ran_ms = int(done.last_token_ns.max()) // 1_000_000
    assert mem[17] == ran_ms + 1  # at 0, 1, 2, … ms
    assert sim.windows().prefill_tokens.sum() == 10 * n
    served = np.argsort(done.scheduled_ns)[1:]
    assert (np.diff(load.output_tokens[served]) >= 0).all()


def test_ticks_do_not_keep_a_finished_run_alive() -> None:
    mem, par = np.zeros(64, np.int64), np.array([1e6])
    sim = Simulation([engine()], tick=every_ms, first_tick_ns=0, mem=mem, par=par)
    run(sim, Requests.make([0, 50_000_000], [10, 10], [1, 1]))
    assert mem[17] == 52  # until the last token, not beyond


def test_windows_cover_gaps_and_long_iterations() -> None:
    load = Requests.make([3 * S, 5000 * S], [100, 100], [3, 3])
    sim = Simulation([engine()], window_s=1.0)
    run(sim, load)
    w = sim.windows()
    assert w.window.tolist() == list(range(3, 5001))
    assert w.iterations.sum() == 6
    assert w.busy_s[w.window == 3] > 0
    assert w.busy_s[(w.window > 3) & (w.window < 5000)].sum() == 0
    # one iteration over many windows: its time is split, its tokens count where it ends
    slow = Simulation([engine()], window_s=1e-6)
    run(slow, Requests.make([0], [100], [1]))
    w = slow.windows()
    assert len(w) == 2000
    assert w.busy_s == pytest.approx(np.full(2000, 1e-6))
    assert w.prefill_tokens.tolist() == [0] * 1999 + [100]
    assert w.x[:, k.X_P].sum() == pytest.approx(100)


def test_too_many_windows_is_an_error() -> None:
    with pytest.raises(ModelError, match="windows of 1e-06 s"):
        run(Simulation([engine()], window_s=1e-6), Requests.make([0, 100 * S], [1, 1], [1, 1]))


def test_preempted_requests_recompute_and_finish() -> None:
    # each needs 300 + 200 tokens: 32 blocks; 70 blocks hold two at the end and three at first
    n = 20
    load = Requests.make(np.arange(n), np.full(n, 300), np.full(n, 200))
    sim = Simulation([engine(blocks=70)])
    done = run(sim, load)
    assert (done.status == 0).all()
    assert done.preemptions.sum() == sim.preemptions.sum() > 0
    assert sim.peak_blocks.max() <= 70
    assert sim.windows().prefill_tokens.sum() > 300 * n
    assert sim.windows().decode_tokens.sum() == 200 * n
    roomy = run(Simulation([engine(blocks=1000)]), load)
    assert roomy.preemptions.sum() == 0
    assert roomy.last_token_ns.max() < done.last_token_ns.max()


def test_several_pools_of_unlike_devices() -> None:
    fast, slow = (specs.simple("llama-3.1-8b", g).pools[0] for g in ("h200-sxm", "l40s"))
    spec = replace(specs.simple("llama-3.1-8b", "h200-sxm"), pools=(fast, replace(slow, count=2)))
    load = Requests.make(np.arange(300) * S // 3, np.full(300, 500), np.full(300, 50))
    out = simulate(load, spec)
    assert out.metrics["devices"] == 3
    e2e = out.rows.last_token_ns - out.rows.release_ns
    by_replica = [float(e2e[out.rows.replica == r].mean()) for r in range(3)]
    assert by_replica[0] < 0.5 * by_replica[1]
    assert out.kv_blocks[0] > out.kv_blocks[1] == out.kv_blocks[2]


def test_experts_make_steps_depend_on_tokens() -> None:
    spec = specs.simple("mixtral-8x7b", "h100-sxm", tp=2)
    one = simulate(Requests.make([0], [100], [50]), spec)
    many = simulate(Requests.make(np.zeros(16), np.full(16, 100), np.full(16, 50)), spec)
    few_s, all_s = (r.metrics["tpot_mean_s"] for r in (one, many))
    assert few_s is not None
    assert all_s is not None
    # sixteen tokens visit nearly all experts, one visits a quarter of them
    assert 2.0 < all_s / few_s < 4.0


def test_impossible_engines_are_refused() -> None:
    for name in ("blocks", "max_num_seqs", "max_num_batched_tokens", "replicas", "block_size"):
        with pytest.raises(ModelError, match=name):
            engine(**{name: 0})
    with pytest.raises(ModelError, match="watermark"):
        engine(watermark_blocks=1000)
    with pytest.raises(ModelError, match="exceeds max_num_batched_tokens"):
        engine(max_num_seqs=300)
    with pytest.raises(ModelError, match="no pool"):
        Simulation([])


def test_a_workload_given_in_chunks_is_the_same_workload() -> None:
    load = sessions(2_000, users=400, turns=5, rate=10.0)
    spec = specs.simple("llama-3.1-8b", "h100-sxm", replicas=2, route="least-outstanding")
    whole = simulate(load, spec, window_s=5.0)
    cut = simulate(chunks(load, 77), spec, window_s=5.0)
    assert whole.metrics == cut.metrics
    assert (whole.rows.last_token_ns == cut.rows.last_token_ns).all()
    assert (whole.windows.x == cut.windows.x).all()
    assert (whole.input_tokens == cut.input_tokens).all()


def wrong(now, slot):  # type: ignore[no-untyped-def]
    return 0


def test_a_policy_of_another_form_is_refused() -> None:
    with pytest.raises(ModelError, match="policy 'wrong' does not compile") as e:
        Simulation([engine()], rank=wrong)
    assert "now, slot, replica" in str(e.value.hint)


def beyond(now, slot, replica, req, rep, mem, par):  # type: ignore[no-untyped-def]
    return rep.shape[0]


def test_a_route_to_nowhere_is_refused() -> None:
    sim = Simulation([engine(replicas=2)], route=beyond)
    with pytest.raises(ModelError, match="names replica 2 of 2"):
        run(sim, Requests.make([0], [10], [2]))


def test_numbers_that_do_not_fit_a_record_are_refused_and_sessions_folded() -> None:
    with pytest.raises(ModelError, match="row_id 0 has a priority beyond 2 billion"):
        run(Simulation([engine()]), Requests.make([0], [10], [2], priority=[2**31]))
    twice = Requests.make([0, S], [10, 10], [2, 2])
    for session in (2**40 + 5, 5):
        load = replace(twice, extra={"session": np.full(2, session)})
        done = run(Simulation([engine(replicas=7)], route="session-affinity"), load)
        assert len(set(done.replica)) == 1
    none = replace(twice, extra={"session": np.full(2, -1)})
    assert run(
        Simulation([engine(replicas=7)], route="session-affinity"), none
    ).replica.tolist() == [0, 0]


def no_such_field(now, slot, replica, req, rep, mem, par):  # type: ignore[no-untyped-def]
    return req[slot].nosuch


def a_half(now, slot, replica, req, rep, mem, par):  # type: ignore[no-untyped-def]
    return 0.5


def stops(now, slot, replica, req, rep, mem, par):  # type: ignore[no-untyped-def]
    if req[slot].input > 5:
        raise ValueError("five is enough")
    return 0


@pytest.mark.parametrize(
    ("function", "match"),
    [
        (no_such_field, "'no_such_field' does not compile"),
        (a_half, "'a_half' returns float64"),
        (stops, "of your own stopped: ValueError: five is enough"),
    ],
)
def test_what_is_wrong_with_a_policy_is_the_callers(function: Any, match: str) -> None:
    with pytest.raises(ModelError, match=match):
        run(Simulation([engine(replicas=2)], route=function), Requests.make([0], [10], [2]))


def test_more_may_end_at_once_than_a_chunk_has() -> None:
    n = 70_014
    many = engine(blocks=2 * n, max_num_seqs=n, max_num_batched_tokens=n)
    done = run(Simulation([many]), Requests.make(np.zeros(n), np.ones(n), np.full(n, 2)))
    assert (done.status == 0).all()
    assert len(np.unique(done.last_token_ns)) == 1

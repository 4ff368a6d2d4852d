"""Backlog drift against queues of known load, and waits against their closed form."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from lamina_traces import specs
from lamina_traces.schema import Requests
from lamina_traces.simulator import Finished, simulate
from lamina_traces.simulator import metrics as m

MS = 1_000_000


def one_server(n: int, load: float, seed: int, cv: float = 1.0) -> Finished:
    """``n`` requests at a server that takes 1 ms each: gamma gaps of that CV, waits by Lindley's recursion."""
    rng = np.random.default_rng(seed)
    shape = 1 / cv**2
    arrival = np.cumsum(rng.gamma(shape, 1 / (shape * load), n))
    turn = np.arange(n)
    start = np.maximum.accumulate(arrival - turn) + turn
    columns = {name: np.zeros(n, np.int64) for name in Finished.__dataclass_fields__}
    for name, x in (
        ("release_ns", arrival),
        ("scheduled_ns", start),
        ("first_token_ns", start + 1),
    ):
        columns[name] = (x * MS).astype(np.int64)
    columns["last_token_ns"] = columns["first_token_ns"]
    return Finished(**columns)


def flagged(n: int, load: float, cv: float = 1.0, seeds: int = 100) -> float:
    """Share of seeds in which the run is called saturated."""
    found = 0
    for seed in range(seeds):
        done = one_server(n, load, seed, cv)
        found += m.saturation(done, m.measured(done, 1.0)) is not None
    return found / seeds


@pytest.mark.parametrize(
    ("load", "n", "least", "most"),
    [
        (0.8, 2_000, 0.0, 0.0),
        (0.8, 20_000, 0.0, 0.0),
        (0.95, 2_000, 0.0, 0.01),
        (0.95, 20_000, 0.0, 0.0),
        (1.05, 2_000, 0.4, 0.8),  # 5 % of 2,000 is twice the drift of a queue at full load
        (1.05, 5_000, 0.8, 1.0),
        (1.05, 20_000, 0.99, 1.0),
        (1.2, 1_000, 0.99, 1.0),
    ],
)
def test_false_alarms_and_misses_by_load(load: float, n: int, least: float, most: float) -> None:
    assert least <= flagged(n, load) <= most


def test_bursts_are_not_taken_for_saturation() -> None:
    """Gaps with a variance of eight: below capacity no more than 2 % are flagged, well above it nearly all."""
    assert flagged(5_000, 0.8, cv=8**0.5) == 0
    assert flagged(5_000, 0.95, cv=8**0.5) <= 0.02
    assert flagged(5_000, 1.2, cv=8**0.5) >= 0.95


ONE = specs.simple("llama-3.1-8b", "h100-sxm")
ONE = replace(
    ONE,
    pools=(
        replace(
            ONE.pools[0], replica=replace(ONE.pools[0].replica, batch=specs.Batch(max_num_seqs=1))
        ),
    ),
)


def poisson(n: int, load: float, seed: int) -> Requests:
    """Prompts of 1,000 tokens with one output token, one at a time: service takes one iteration, always the same."""
    lone = simulate(Requests.make([0], [1000], [1]), ONE)
    service_ns = int(lone.rows.last_token_ns[0])
    rng = np.random.default_rng(seed)
    arrival = np.cumsum(rng.exponential(service_ns / load, n)).astype(np.int64)
    return Requests.make(arrival, np.full(n, 1000), np.full(n, 1))


@pytest.mark.parametrize("load", [0.5, 0.8])
def test_waits_of_one_sequence_at_a_time_are_those_of_md1(load: float) -> None:
    """Mean wait of M/D/1: ρ·service / (2·(1 − ρ)) (Pollaczek 1930, Khinchine 1932)."""
    waits = []
    for seed in range(5):
        load_of = poisson(100_000, load, seed)
        run = simulate(load_of, ONE, window_s=60.0)
        service_ns = int(run.rows.last_token_ns[0] - run.rows.scheduled_ns[0])
        turn = np.arange(100_000) * service_ns
        start = np.maximum.accumulate(load_of.arrival_ns - turn) + turn
        assert (run.rows.scheduled_ns == start).all()  # Lindley's recursion, to the nanosecond
        assert not run.metrics.saturated
        waits.append(run.metrics["queue_mean_s"] * 1e9 / service_ns)  # type: ignore[operator]
    assert np.mean(waits) == pytest.approx(load / (2 * (1 - load)), rel=0.04)


def test_a_simulated_queue_is_flagged_as_its_load_says() -> None:
    for load, saturated in ((0.8, False), (0.95, False), (1.05, True)):
        for seed in range(3):
            run = simulate(poisson(10_000, load, seed), ONE, window_s=60.0)
            assert run.metrics.saturated == saturated, (load, seed)
            assert (run.metrics["ttft_p50_s"] is None) == saturated

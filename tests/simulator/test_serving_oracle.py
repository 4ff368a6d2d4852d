"""The compiled clock against the plain one: the same event order, the same nanoseconds."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest

from lamina_traces.costs import Rows
from lamina_traces.schema import Requests
from lamina_traces.simulator.serving import POLICY  # noqa: F401  (the signature that policies have)
from lamina_traces.simulator.simulation import Engine, Finished, Simulation, chunks

from . import oracle

CASES = 1_000


def rows_from(coef: np.ndarray, ends: np.ndarray, tables: np.ndarray) -> Rows:
    n, width = coef.shape
    return Rows(
        coef=coef,
        ends=ends,
        tables=tables,
        part_row=np.arange(n),
        part_op=("op",) * n,
        part_resource=("compute",) * n,
        part_coef=coef,
        flops=np.zeros(width),
        bytes=np.zeros(width),
        net_bytes=np.zeros(width),
    )


@dataclass
class Case:
    requests: Requests
    engines: list[Engine]
    route: str
    rank: str
    cached_share: int
    chunk: int
    window_s: float

    @property
    def machines(self) -> list[oracle.Machine]:
        tables = max(e.rows.tables.shape[0] for e in self.engines)
        out = []
        for e in self.engines:
            pad = tables - e.rows.tables.shape[0]
            m = oracle.Machine(
                rows=[[float(v) for v in r] + [0.0] * pad for r in e.rows.coef * 1e9],
                ends=[int(v) for v in e.rows.ends],
                tables=[[float(v) for v in t] for t in e.rows.tables] + [[0.0]] * pad,
                blocks=e.blocks,
                block_size=e.block_size,
                watermark=e.watermark_blocks,
                max_seqs=e.max_num_seqs,
                max_batched=e.max_num_batched_tokens,
                max_context=e.max_context,
            )
            out += [m] * e.replicas
        return out


def random_case(seed: int) -> Case:
    rng = np.random.default_rng(seed)
    n = int(rng.integers(1, 64))
    grid = int(rng.choice([1, 1, 10, 100]))  # a coarse grid makes ties
    arrival = np.sort(rng.integers(0, int(rng.choice([1, 20, 50, 2000])), n) * grid)
    # row_ids are not the positions: only within an instant do they ascend
    row_id = np.empty(n, np.int64)
    labels = rng.permutation(n)
    for a in np.unique(arrival):
        at = np.flatnonzero(arrival == a)
        row_id[at] = np.sort(labels[at])
    long = int(rng.choice([4, 4, 20, 120]))
    inputs = rng.integers(1, long + 1, n)
    outputs = rng.integers(1, int(rng.choice([2, 20, 80])), n)
    speculative = rng.random() < 0.3
    steps = np.array([rng.integers(1, o + 1) for o in outputs]) if speculative else outputs
    kind = rng.choice(["none", "dag", "sessions", "closed"])
    parents: list[list[int]] = [[] for _ in range(n)]
    if kind == "dag":
        for i in range(1, n):
            if rng.random() < 0.6:
                parents[i] = [
                    int(p)
                    for p in rng.choice(i, size=min(i, int(rng.integers(1, 4))), replace=False)
                ]
    elif kind == "sessions":
        width = int(rng.integers(1, 6))
        for i in range(width, n):
            parents[i] = [i - width]
    elif kind == "closed":  # a fixed number of users, arrivals all at the origin
        arrival[:] = 0
        row_id = np.arange(n)
        users = int(rng.integers(1, 5))
        for i in range(users, n):
            parents[i] = [i - users]
    delay = np.where(rng.random(n) < 0.5, 0, rng.integers(0, 300, n) * grid)
    requests = Requests.make(
        arrival,
        inputs,
        outputs,
        row_id=row_id,
        steps=steps,
        delay_ns=delay,
        parents=parents,
        priority=rng.integers(0, 3, n),
    )
    pools = int(rng.integers(1, 3))
    n_tables = int(rng.integers(0, 2))
    engines = []
    for _ in range(pools):
        seqs = int(rng.integers(1, 24))
        batched = seqs + int(rng.integers(0, 40))
        block = int(rng.choice([1, 2, 4, 16]))
        blocks = int(rng.integers(2, 60))
        if rng.random() < 0.6:  # room for the longest request and little more: preemption
            longest = int(np.max(inputs + outputs))
            blocks = -(-longest // block) + int(rng.integers(0, 4))
        n_rows = int(rng.integers(1, 6))
        scale = float(rng.choice([1e-9, 1e-8, 0.25e-9]))  # few distinct durations: ties
        coef = np.round(rng.integers(0, 6, (n_rows, 6 + n_tables)) * scale, 12)
        coef[:, 3] *= 0.1
        ends = rng.integers(0, 2, n_rows)
        ends[-1] = 1
        tables = np.round(rng.random((n_tables, batched + 1)) * 50, 3)
        engines.append(
            Engine(
                rows_from(coef, ends.astype(np.int64), tables),
                blocks=blocks,
                block_size=block,
                watermark_blocks=int(rng.integers(0, max(1, blocks // 4))),
                max_num_seqs=seqs,
                max_num_batched_tokens=batched,
                max_context=int(rng.choice([10**9, 100])),
                replicas=int(rng.choice([1, 1, 2, 3])),
            )
        )
    return Case(
        requests,
        engines,
        route=str(rng.choice(["round-robin", "least-outstanding"])),
        rank=str(rng.choice(["fcfs", "priority"])),
        cached_share=int(rng.choice([0, 0, 2, 5])),
        chunk=int(rng.choice([1, 3, 7, 1000])),
        window_s=float(rng.choice([333e-9, 1e-6, 1e-5, 1e-3])),
    )


def half(now, slot, replica, req, rep, mem, par):  # type: ignore[no-untyped-def]
    return req[slot, 7] // mem[20] if mem[20] > 0 else 0


def simulate(case: Case) -> tuple[Simulation, Finished]:
    mem = np.zeros(64, np.int64)
    mem[20] = case.cached_share
    sim = Simulation(
        case.engines, route=case.route, rank=case.rank, reuse=half, window_s=case.window_s, mem=mem
    )
    parts = [sim.feed(c) for c in chunks(case.requests, case.chunk)]
    parts.append(sim.finish())
    columns = zip(*(vars(p).values() for p in parts), strict=True)
    return sim, Finished(*(np.concatenate(c) for c in columns))


def rows_of(done: Finished) -> list[tuple[int, ...]]:
    order = np.argsort(done.position)
    columns = (
        done.row_id,
        done.release_ns,
        done.scheduled_ns,
        done.first_token_ns,
        done.last_token_ns,
        done.replica,
        done.preemptions,
        done.status,
    )
    return list(zip(*(c[order].tolist() for c in columns), strict=True))


def test_the_clock_equals_the_oracle_in_every_event_and_nanosecond() -> None:
    preemptions = ties = dependent = rejected = several = speculative = recomputed = 0
    for seed in range(CASES):
        case = random_case(seed)
        report = oracle.simulate(
            case.requests, case.machines, case.route, case.rank, case.cached_share
        )
        sim, done = simulate(case)
        assert done.row_id.tolist() == report.ended, f"seed {seed}"
        assert rows_of(done) == oracle.rows_of(report), f"seed {seed}"
        windows = sim.windows()
        assert int(windows.iterations.sum()) == report.iterations, f"seed {seed}"
        assert round(windows.busy_s.sum() * 1e9) == report.busy_ns, f"seed {seed}"
        assert int(windows.prefill_tokens.sum()) == report.prefill_tokens, f"seed {seed}"
        assert windows.x[:, 1].sum() == pytest.approx(report.decode_seqs, rel=1e-9), f"seed {seed}"
        assert windows.x[:, 3].sum() == pytest.approx(report.pairs, rel=1e-9), f"seed {seed}"
        assert windows.x[:, 4].sum() == pytest.approx(report.contexts, rel=1e-9), f"seed {seed}"
        assert int(sim.peak_blocks.max()) == report.peak_blocks, f"seed {seed}"
        assert sim.preemptions.sum() == report.preemptions, f"seed {seed}"
        assert sim.ties == report.ties, f"seed {seed}"
        # nothing is lost: blocks return, each offered token is emitted
        total = np.repeat([e.blocks for e in case.engines], [e.replicas for e in case.engines])
        assert (sim.free_blocks == total).all(), f"seed {seed}"
        assert report.free_in_the_end == total.tolist(), f"seed {seed}"
        ok = done.status == 0
        if (case.requests.steps == case.requests.output_tokens).all():
            assert (
                windows.decode_tokens.sum() == case.requests.output_tokens[done.position[ok]].sum()
            ), f"seed {seed}"
        else:
            speculative += 1
        preemptions += report.preemptions
        recomputed += int((done.preemptions[ok] > 0).sum())
        ties += report.ties
        dependent += report.dependent
        rejected += int((~ok).sum())
        several += len(case.machines) > 1
    print(
        f"{CASES} cases: {preemptions=} {recomputed=} {ties=} {dependent=} {rejected=} {several=} {speculative=}"
    )
    assert preemptions > 3_000
    assert ties > 5_000
    assert dependent > 5_000
    assert rejected > 500
    assert several > 500
    assert speculative > 150


def test_any_cutting_into_chunks_gives_the_same_rows() -> None:
    for seed in range(60):
        case = random_case(10_000 + seed)
        rows = []
        for size in (1, 2, 5, 1000):
            case.chunk = size
            rows.append(rows_of(simulate(case)[1]))
        assert all(r == rows[0] for r in rows)

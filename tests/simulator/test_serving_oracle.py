"""The compiled clock against the plain one: the same event order, the same nanoseconds."""

from __future__ import annotations

import os
from collections import Counter
from dataclasses import dataclass, replace
from itertools import combinations
from typing import Any

import numpy as np
import pytest

from lamina_traces.costs import Rows
from lamina_traces.schema import Requests
from lamina_traces.simulator import serving as k
from lamina_traces.simulator.serving import POLICY  # noqa: F401  (the signature that policies have)
from lamina_traces.simulator.simulation import RANKS, ROUTES, Engine, Finished, Simulation, chunks

from . import oracle

CASES = int(os.environ.get("LAMINA_TRACES_CLOCK_CASES", "1000"))
"""``make fuzz`` takes fifty times as many."""
PARTS = 4
"""they are tested in, side by side where there are processes."""


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
    policies: oracle.Policies
    chunk: int
    window_s: float
    replay: str
    reuse: str

    @property
    def choices(self) -> dict[str, str]:
        """What was chosen of what users can switch on."""
        first, told = self.engines[0], self.policies
        return {
            "route": told.route, "rank": told.rank, "replay": self.replay, "reuse": self.reuse,
            "prefill": "apart" if first.role == "prefill" else "chunked" if first.chunked_prefill else "first",
            "preempt": "recompute" if first.swap_s_per_token is None else "swap",
            "pools": "equal" if len(self.engines) == 1 else "unlike",
            "control": "scale" if told.scale else "none",
            "concurrency": "limited" if told.concurrency else "any",
            "steps": "speculative" if (self.requests.steps < self.requests.output_tokens).any() else "each",
            "watermark": "some" if first.watermark_blocks else "none",
        }  # fmt: skip

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
                chunked=e.chunked_prefill,
                swaps=e.swap_s_per_token is not None,
                role=e.role,
                unit=e.prefix_unit,
                move_ns=(e.swap_s_per_token or 0.0) * 1e9,
                hand_over=(e.hand_over_s[0] * 1e9, e.hand_over_s[1] * 1e9),
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
    requests.extra.update(  # type: ignore[attr-defined]
        session=rng.integers(-1, 5, n), head=rng.integers(-1, 4, n),
        deadline_ns=np.where(rng.random(n) < 0.3, k.NEVER, rng.integers(0, 500, n)),
    )  # fmt: skip
    keyed = rng.random() < 0.5  # prompts that share what they begin with
    if keyed:
        family = rng.integers(0, 3, n)
        common = rng.integers(0, 6, n)
        unit_tokens = int(rng.choice([1, 2, 4, 8]))
        lists = [
            [
                hash((int(family[i]), j)) if j < common[i] else hash((int(family[i]), i, j))
                for j in range(inputs[i] // unit_tokens)
            ]
            for i in range(n)
        ]
        requests = replace(
            requests, ids_from=np.concatenate([[0], np.cumsum([len(x) for x in lists])]),
            ids=np.array([x & (2**64 - 1) for y in lists for x in y], dtype=np.uint64),
        )  # fmt: skip
    pools = int(rng.integers(1, 3))
    apart = rng.random() < 0.2  # prefill and decode pools
    roles = ["prefill", "decode"] if apart else ["both"] * pools
    pools = len(roles)
    scaled = not apart and rng.random() < 0.25
    n_tables = int(rng.integers(0, 2))
    engines = []
    for role in roles:
        seqs = int(rng.integers(1, 24))
        batched = seqs + int(rng.integers(0, 40))
        block = int(rng.choice([b for b in (1, 2, 4, 16) if not keyed or unit_tokens % b == 0]))
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
                chunked_prefill=bool(rng.random() < 0.7),
                swap_s_per_token=float(rng.choice([0.0, 1e-9, 3e-9]))
                if rng.random() < 0.4
                else None,
                role=role,
                prefix_unit=unit_tokens // block if keyed and rng.random() < 0.8 else 0,
                hand_over_s=(
                    float(rng.choice([0, 5e-9, 50e-9])),
                    float(rng.choice([0.0, 1e-9, 0.3e-9])),
                ),
            )
        )
    replicas = sum(e.replicas for e in engines)
    return Case(
        requests,
        engines,
        oracle.Policies(
            route=str(rng.choice(list(ROUTES))),
            rank=str(rng.choice(list(RANKS))),
            cached_share=int(rng.choice([0, 0, 2, 5])),
            ns_per_token=float(rng.choice([0.0, 1.5, 10.0])),
            concurrency=int(rng.integers(1, 8)) if rng.random() < 0.2 else None,
            scale=(
                int(rng.choice([7, 50, 300])),
                float(rng.choice([0.5, 2.0, 5.0])),
                int(rng.integers(1, replicas + 1)),
                int(rng.choice([0, 5, 100])),
                int(rng.integers(1, replicas + 1)),
            )
            if scaled
            else None,
        ),
        chunk=int(rng.choice([1, 3, 7, 1000])),
        window_s=float(rng.choice([333e-9, 1e-6, 1e-5, 1e-3])),
        replay=str(kind),
        reuse="prefix" if any(e.prefix_unit for e in engines) else "none",
    )


def half(now, slot, replica, req, rep, mem, par):  # type: ignore[no-untyped-def]
    return req[slot].input // mem[20] if mem[20] > 0 else 0


def simulate(case: Case) -> tuple[Simulation, Finished]:
    told = case.policies
    mem, par = np.zeros(64, np.int64), np.zeros(8)
    mem[20] = told.cached_share
    par[0] = told.ns_per_token
    control: dict[str, Any] = {}
    if told.scale:
        par[1:5] = told.scale[:4]
        control = {"tick": k.tick_scale, "first_tick_ns": 0, "start_on": told.scale[4]}
    sim = Simulation(
        case.engines, route=told.route, rank=told.rank, reuse=half, window_s=case.window_s, mem=mem, par=par,
        concurrency=told.concurrency, **control,
    )  # fmt: skip
    parts = [sim.feed(c) for c in chunks(case.requests, case.chunk)]
    parts.append(sim.finish())
    columns = zip(*(vars(p).values() for p in parts), strict=True)
    return sim, Finished(*(np.concatenate(c) for c in columns))


def gap_bin(ns: int) -> int:
    """Sixteen bins for each power of two."""
    power = max(ns, 1).bit_length() - 1
    return int(16 * power + 16 * max(ns, 1) // 2**power - 16)


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


def test_cases_have_every_policy_and_every_pair_of_policies() -> None:
    pairs: Counter[tuple[tuple[str, str], ...]] = Counter()
    offered: dict[str, set[str]] = {}
    for seed in range(CASES):
        chosen = random_case(seed).choices
        for name, value in chosen.items():
            offered.setdefault(name, set()).add(value)
        pairs.update(combinations(chosen.items(), 2))
    assert offered["route"] == set(ROUTES)
    assert offered["rank"] == set(RANKS)
    impossible = {
        (("prefill", "apart"), ("pools", "equal")),  # they are two pools
        (("prefill", "apart"), ("control", "scale")),
    }
    missing = []
    for one, other in combinations(offered, 2):
        for a in offered[one]:
            for b in offered[other]:
                pair = ((one, a), (other, b))
                if pairs[pair] == 0 and pair not in impossible:
                    missing.append(pair)
    assert not missing
    rarest = min((n, p) for p, n in pairs.items())
    print(f"{len(pairs)} pairs of choices in {CASES} cases, the rarest {rarest[1]} in {rarest[0]}")


@pytest.mark.parametrize("part", range(PARTS))
def test_the_clock_equals_the_oracle_in_every_event_and_nanosecond(part: int) -> None:
    preemptions = ties = dependent = rejected = several = speculative = recomputed = 0
    seen: Counter[str] = Counter()
    for seed in range(part, CASES, PARTS):
        case = random_case(seed)
        report = oracle.simulate(case.requests, case.machines, case.policies)
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
        assert windows.moved_tokens.sum() == report.moved, f"seed {seed}"
        assert int(sim.cached_tokens.sum()) == report.cached, f"seed {seed}"
        counted = sim.gaps_between_tokens[1]
        expected = np.bincount(list(map(gap_bin, report.gaps)), minlength=counted.shape[1])
        assert (counted.sum(axis=0) == expected).all(), f"seed {seed}"
        # nothing is lost: blocks return, each offered token is emitted
        total = np.repeat([e.blocks for e in case.engines], [e.replicas for e in case.engines])
        assert (sim.free_blocks == total).all(), f"seed {seed}"
        assert report.free_in_the_end == total.tolist(), f"seed {seed}"
        ok = done.status == 0
        if (case.requests.steps == case.requests.output_tokens).all():
            begun = int(
                (~ok & (done.first_token_ns >= 0)).sum()
            )  # handed over to where they do not fit
            offered = int(case.requests.output_tokens[done.position[ok]].sum())
            assert int(windows.decode_tokens.sum()) == offered + begun, f"seed {seed}"
        else:
            speculative += 1
        preemptions += report.preemptions
        recomputed += int((done.preemptions[ok] > 0).sum())
        ties += report.ties
        dependent += report.dependent
        for name in ("moved", "handed", "stalls", "scaled", "cached", "shared", "evicted"):
            seen[name] += getattr(report, name)
        rejected += int((~ok).sum())
        several += len(case.machines) > 1
    seen.update(preemptions=preemptions, recomputed=recomputed, ties=ties, dependent=dependent, rejected=rejected, several=several, speculative=speculative)  # fmt: skip
    print(f"{len(range(part, CASES, PARTS))} of {CASES} cases: {dict(seen)}")
    least = {
        "preemptions": 3_000, "ties": 5_000, "dependent": 5_000, "rejected": 500, "several": 500, "speculative": 150,
        "moved": 5_000, "handed": 1_000, "stalls": 5_000, "scaled": 400, "cached": 20_000, "shared": 500, "evicted": 1_000,
    }  # fmt: skip
    assert all(seen[k] > n * CASES / 2000 / PARTS for k, n in least.items()), seen


def test_any_cutting_into_chunks_gives_the_same_rows() -> None:
    for seed in range(60):
        case = random_case(10_000 + seed)
        rows = []
        for size in (1, 2, 5, 1000):
            case.chunk = size
            rows.append(rows_of(simulate(case)[1]))
        assert all(r == rows[0] for r in rows)

"""The serving clock written plainly: lists, one iteration at a time, everything recounted.

Written from the text at the head of ``lamina_traces/simulator/serving.py`` and from nothing else. It
shares no code with the kernel: contexts are summed anew in each iteration, blocks are held one number
per request, queues are sorted lists.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

from lamina_traces.schema import Requests


@dataclass
class Machine:
    """What a replica is able to do: plain numbers."""

    rows: list[list[float]]
    ends: list[int]
    tables: list[list[float]]
    blocks: int
    block_size: int
    watermark: int
    max_seqs: int
    max_batched: int
    max_context: int


@dataclass
class Req:
    position: int
    row_id: int
    arrival: int
    input: int
    output: int
    steps: int
    delay: int
    priority: int
    parents: list[int]
    release: int = -1
    scheduled: int = -1
    first: int = -1
    end: int = -1
    replica: int = -1
    preempted: int = 0
    status: int = 3
    done: int = 0
    order: int = -1
    blocks: int = 0
    to_prefill: int = 0
    prefilled: int = 0
    surplus: int = 0
    kv: int = 0  # tokens that blocks are counted for
    seen: int = 0  # decode iterations since it joined


@dataclass
class Replica:
    machine: Machine
    waiting: list[Req] = field(default_factory=list)
    held: list[Req] = field(default_factory=list)  # admission order
    decoding: list[Req] = field(default_factory=list)
    ending: list[Req] = field(default_factory=list)  # prefills that end in this iteration
    partial: Req | None = None
    end: int | None = None
    free: int = 0
    now_decoding: list[Req] = field(default_factory=list)


@dataclass
class Report:
    requests: list[Req]
    iterations: int = 0
    preemptions: int = 0
    ties: int = 0
    dependent: int = 0
    busy_ns: int = 0
    decode_seqs: int = 0
    prefill_tokens: int = 0
    contexts: int = 0
    pairs: int = 0
    peak_blocks: int = 0
    ended: list[int] = field(default_factory=list)  # row_ids in the order of their end
    free_in_the_end: list[int] = field(default_factory=list)


def emitted(r: Req, steps: int) -> int:
    return steps * r.output // r.steps


def simulate(
    requests: Requests, machines: list[Machine], route: str, rank: str, cached_share: int = 0
) -> Report:
    """``machines``: one per replica. ``cached_share``: reuse gives input // cached_share tokens (0: none)."""
    everyone = [
        Req(
            i,
            int(requests.row_id[i]),
            int(requests.arrival_ns[i]),
            int(requests.input_tokens[i]),
            int(requests.output_tokens[i]),
            int(requests.steps[i]),
            int(requests.delay_ns[i]),
            int(requests.priority[i]),
            [
                int(p)
                for p in requests.parents[requests.parents_from[i] : requests.parents_from[i + 1]]
            ],
        )
        for i in range(len(requests))
    ]
    replicas = [Replica(m, free=m.blocks) for m in machines]
    report = Report(everyone)
    unreleased = list(everyone)
    turn = 0
    admitted = 0

    def release_of(r: Req) -> int | None:
        if not r.parents:
            return r.arrival
        ends = [everyone[p].end for p in r.parents]
        return None if min(ends) < 0 else max(r.arrival, max(ends) + r.delay)

    def queue_key(r: Req) -> tuple[int, int, int]:
        return (r.priority if rank == "priority" else 0, r.release, r.row_id)

    while True:
        instants = [x.end for x in replicas if x.end is not None]
        instants += [t for t in map(release_of, unreleased) if t is not None]
        if not instants:
            break
        now = min(instants)
        events = 0
        # 1
        for x in replicas:
            if x.end != now:
                continue
            events += 1
            x.end = None
            for r in x.now_decoding:
                r.done += 1
                r.seen += 1
                r.kv += 1
            for r in x.ending:
                r.done += 1
                if r.first < 0:
                    r.first = now
                x.decoding.append(r)
                r.seen = 0
                r.kv = r.to_prefill + r.surplus
            x.ending = []
            for r in list(x.held):
                if r in x.decoding and r.done == r.steps:
                    x.held.remove(r)
                    x.decoding.remove(r)
                    x.free += r.blocks
                    assert r.kv == r.input + r.output - 1, "the final footprint"
                    assert r.blocks == math.ceil(r.kv / x.machine.block_size)
                    r.blocks = 0
                    r.end = now
                    r.status = 0
                    report.ended.append(r.row_id)
        # 3
        while True:
            due = [r for r in unreleased if release_of(r) == now]
            if not due:
                break
            r = min(due, key=lambda r: r.row_id)
            events += 1
            report.dependent += bool(r.parents)
            unreleased.remove(r)
            r.release = now
            if route == "round-robin":
                r.replica = turn % len(replicas)
                turn += 1
            else:
                loads = [len(x.waiting) + len(x.held) for x in replicas]
                r.replica = loads.index(min(loads))
            x = replicas[r.replica]
            m = x.machine
            if r.input + r.output > m.max_context:
                r.status, r.end = 2, now
            elif math.ceil((r.input + r.output - 1) / m.block_size) > m.blocks:
                r.status, r.end = 1, now
            else:
                x.waiting.append(r)
            if r.end >= 0:
                report.ended.append(r.row_id)
        report.ties += events > 1
        # 4
        for x in replicas:
            if x.end is not None or not (x.held or x.waiting):
                continue
            m = x.machine
            preempted = False
            while True:
                needy = [r for r in x.decoding if r.kv == r.blocks * m.block_size]
                if len(needy) <= x.free:
                    break
                victim = x.held.pop()
                preempted = True
                report.preemptions += 1
                victim.preempted += 1
                x.free += victim.blocks
                victim.blocks = 0
                if victim in x.decoding:
                    x.decoding.remove(victim)
                if victim is x.partial:
                    x.partial = None
                x.waiting.append(victim)
            for r in needy:
                r.blocks += 1
                x.free -= 1
            x.now_decoding = list(x.decoding)
            budget = m.max_batched - len(x.decoding)
            p = q = c = 0
            contexts = sum(r.to_prefill + 1 + r.surplus // 2 + r.seen for r in x.decoding)

            def chunk(r: Req, budget: int, x: Replica = x) -> tuple[int, int, int, int]:
                m = min(budget, r.to_prefill - r.prefilled)
                pairs = sum(range(r.prefilled + 1, r.prefilled + m + 1))
                r.prefilled += m
                if r.prefilled == r.to_prefill:
                    x.ending.append(r)
                    x.partial = None
                else:
                    x.partial = r
                return budget - m, m, pairs, r.prefilled

            if x.partial is not None and budget > 0:
                budget, dp, dq, dc = chunk(x.partial, budget)
                p, q, c = p + dp, q + dq, c + dc
            while (
                not preempted
                and budget > 0
                and x.partial is None
                and x.waiting
                and len(x.held) < m.max_seqs
            ):
                x.waiting.sort(key=queue_key)
                r = x.waiting[0]
                tokens = emitted(r, r.done)
                to_prefill = r.input + tokens
                surplus = (r.output - tokens) - (r.steps - r.done)
                blocks = math.ceil((to_prefill + surplus) / m.block_size)
                if x.free - blocks < (m.watermark if x.held else 0):
                    break
                x.waiting.pop(0)
                r.to_prefill, r.surplus, r.blocks = to_prefill, surplus, blocks
                x.free -= blocks
                r.order = admitted
                admitted += 1
                x.held.append(r)
                if r.scheduled < 0:
                    r.scheduled = now
                cached = r.input // cached_share if cached_share else 0
                r.prefilled = max(0, min(cached, to_prefill - 1))
                budget, dp, dq, dc = chunk(r, budget)
                p, q, c = p + dp, q + dq, c + dc
            d = len(x.now_decoding)
            state = [1.0, d, p, q, contexts, c] + [t[min(d + p, len(t) - 1)] for t in m.tables]
            total, best = 0.0, None
            for coefficients, ends in zip(m.rows, m.ends, strict=True):
                v = 0.0
                for a, b in zip(coefficients, state, strict=True):
                    v += a * float(b)
                best = v if best is None or v > best else best
                if ends:
                    total += best
                    best = None
            ns = max(1, int(total + 0.5))
            x.end = now + ns
            assert d + p > 0, "an iteration without work"
            assert x.free >= 0
            assert x.free + sum(r.blocks for r in x.held) == m.blocks, "blocks are lost"
            report.iterations += 1
            report.busy_ns += ns
            report.decode_seqs += d
            report.prefill_tokens += p
            report.contexts += contexts
            report.pairs += q
            report.peak_blocks = max(report.peak_blocks, m.blocks - x.free)
    report.free_in_the_end = [x.free for x in replicas]
    return report


def rows_of(report: Report) -> list[tuple[Any, ...]]:
    """(row_id, release, scheduled, first, last, replica, preemptions, status) in workload order."""
    return [
        (
            r.row_id,
            r.release,
            r.scheduled,
            r.first,
            r.end if r.status == 0 else -1,
            r.replica,
            r.preempted,
            r.status,
        )
        for r in report.requests
    ]

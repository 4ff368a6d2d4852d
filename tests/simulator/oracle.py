"""The serving clock written plainly: lists, one iteration at a time, everything recounted.

Written from the text at the head of ``lamina_traces/simulator/serving.py`` and from nothing else. It
shares no code with the kernel: contexts are summed anew in each iteration, blocks are held one number
per request, queues are sorted lists.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from fractions import Fraction
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
    chunked: bool = True
    swaps: bool = False
    role: str = "both"
    hand_over: tuple[float, float] = (0.0, 0.0)
    move_ns: float = 0.0
    unit: int = 0  # blocks of a unit of the prefix cache


@dataclass
class Policies:
    """What the stock policies are told, by name."""

    route: str = "round-robin"
    rank: str = "fcfs"
    cached_share: int = 0
    """reuse gives input // cached_share tokens (0: none)."""
    ns_per_token: float = 0.0
    concurrency: int | None = None
    scale: tuple[int, float, int, int, int] | None = None
    """(period, requests of a replica, least replicas, ns to load one, replicas at the start)."""


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
    session: int
    head: int
    deadline: int
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
    comes_with: str = ""  # "host" or "link": where its keys and values are
    last_token: int = -1
    fresh: bool = False  # joined the decode while it stalled
    moving_until: int | None = None
    ids: list[int] = field(default_factory=list)
    kept: int = 0  # leading ids of which it holds the cache's entries


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
    cache: dict[int, int] = field(default_factory=dict)
    """by id: how many requests hold it."""
    unused: list[int] = field(default_factory=list)
    """ids that nobody holds, the longest unused first."""
    refused: tuple[Req, int] | None = None
    now_decoding: list[Req] = field(default_factory=list)
    stalled: bool = False
    prefilled_at: int = -1
    open: bool = True
    loaded_at: int | None = None
    since: int | None = 0
    paid: int = 0


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
    moved: int = 0
    handed: int = 0
    stalls: int = 0
    scaled: int = 0
    cached: int = 0
    evicted: int = 0
    shared: int = 0
    gaps: list[int] = field(default_factory=list)
    """between emissions of a request; in pools where prefills go first, of those that ended their prefill since the last decode
    from the end of the last prefills."""
    paid: list[int] = field(default_factory=list)
    ended: list[int] = field(default_factory=list)  # row_ids in the order of their end
    free_in_the_end: list[int] = field(default_factory=list)


def emitted(r: Req, steps: int) -> int:
    return steps * r.output // r.steps


def scrambled(x: int) -> int:
    """SplitMix64's finaliser, its top 63 bits."""
    two = (1 << 64) - 1
    z = (x + 0x9E3779B97F4A7C15) & two
    z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & two
    z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & two
    return (z ^ (z >> 31)) >> 1


def simulate(requests: Requests, machines: list[Machine], policies: Policies) -> Report:
    """``machines``: one per replica."""
    extra = requests.extra
    none = [-1] * len(requests)
    never = 2**63 - 1
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
            int(extra.get("session", none)[i]),
            int(extra.get("head", none)[i]),
            int(extra["deadline_ns"][i]) if "deadline_ns" in extra else never,
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
    moving: list[Req] = []
    turn = 0
    drawn = 0
    admitted = 0
    flight = 0
    now = 0
    tick = None
    rescale = 0
    if policies.scale:
        tick = 0
        for x in replicas[policies.scale[4] :]:
            x.open, x.since = False, None

    def release_of(r: Req) -> int | None:
        if not r.parents:
            if policies.concurrency is not None:
                first = next(x for x in unreleased if not x.parents)
                if flight >= policies.concurrency or r is not first:
                    return None
            return max(r.arrival, now) if policies.concurrency is not None else r.arrival
        ends = [everyone[p].end for p in r.parents]
        return None if min(ends) < 0 else max(r.arrival, max(ends) + r.delay)

    def queue_key(r: Req) -> tuple[float, int, int]:
        key: float = 0
        if policies.rank == "priority":
            key = r.priority
        if policies.rank == "least-slack":
            key = (
                never
                if r.deadline == never
                else r.release + r.deadline - int(policies.ns_per_token * r.input)
            )
        return (key, r.release, r.row_id)

    for r in everyone:
        if requests.ids is not None:
            r.ids = [
                int(i)
                for i in requests.ids[
                    requests.ids_from[r.position] : requests.ids_from[r.position + 1]
                ]
            ]

    def evict(x: Replica) -> None:
        """What nobody holds stays as long as it finds room."""
        while x.unused and len(x.unused) * x.machine.unit > x.free:
            del x.cache[x.unused.pop(0)]
            report.evicted += 1

    def give(x: Replica, r: Req) -> None:
        """Blocks go back, but for those of units that others hold."""
        x.free += r.blocks
        r.blocks = 0
        for i in reversed(r.ids[: r.kept]):
            x.cache[i] -= 1
            if x.cache[i]:
                x.free -= x.machine.unit
            else:
                x.unused.append(i)
        r.kept = 0

    def known(x: Replica, r: Req) -> tuple[int, int]:
        """(leading units that the cache has, those of them that others hold)."""
        if not x.machine.unit:
            return 0, 0
        n = next((j for j, i in enumerate(r.ids) if i not in x.cache), len(r.ids))
        return n, sum(x.cache[i] > 0 for i in r.ids[:n])

    def load(x: Replica) -> int:
        return len(x.waiting) + len(x.held)

    def takes(x: Replica, handed: bool) -> bool:
        return (x.machine.role == "decode") if handed else (x.machine.role != "decode" and x.open)

    def routed(r: Req, handed: bool) -> int:
        nonlocal turn, drawn
        n = len(replicas)
        may = [i for i, x in enumerate(replicas) if takes(x, handed)]
        assert may, "somebody takes it"

        def from_here(i: int) -> int:
            return next(j % n for j in range(i % n, i % n + n) if j % n in may)

        def lightest() -> int:
            return min(may, key=lambda i: (load(replicas[i]), i))

        match policies.route:
            case "round-robin":
                chosen = from_here(turn)
                turn = chosen + 1
            case "least-kv":
                chosen = min(
                    may,
                    key=lambda i: (
                        1 - Fraction(replicas[i].free, replicas[i].machine.blocks),
                        load(replicas[i]),
                        i,
                    ),
                )
            case "power-of-two":
                a, b = from_here(scrambled(drawn) % n), from_here(scrambled(drawn + 1) % n)
                drawn += 2
                chosen = b if load(replicas[b]) < load(replicas[a]) else a
            case "session-affinity":
                chosen = lightest() if r.session < 0 else from_here(scrambled(r.session) % n)
            case "prefix-affinity" if r.head >= 0:
                total = sum(load(replicas[i]) for i in may)
                chosen = from_here(scrambled(r.head) % n)
                while load(replicas[chosen]) * len(may) > Fraction(5, 4) * (total + 1):
                    chosen = from_here(chosen + 1)
            case _:
                chosen = lightest()
        return chosen

    def scale(now: int) -> int:
        """The policy's next instant."""
        nonlocal rescale
        assert policies.scale
        period, each, least, to_load, _ = policies.scale
        for x in replicas:
            if x.loaded_at is not None and x.loaded_at <= now:
                x.open, x.loaded_at = True, None
        on = [x for x in replicas if x.open or x.loaded_at is not None]
        total = sum(load(x) for x in replicas)
        for x in replicas:
            if x not in on and x.since is not None and load(x) == 0:
                x.paid, x.since = x.paid + now - x.since, None
        if rescale <= now:
            rescale = now + period
            wanted = min(max(math.ceil(total / each), least), len(replicas))
            draining = [x for x in replicas if x not in on and x.since is not None]
            for x in draining[: max(wanted - len(on), 0)]:
                x.open = True
            count = len(on) + min(len(draining), max(wanted - len(on), 0))
            for x in replicas:
                if count < wanted and x.since is None:
                    x.since, x.loaded_at, count = now, now + to_load, count + 1
                    report.scaled += 1
            for x in reversed(replicas):
                if count > wanted and (x.open or x.loaded_at is not None):
                    x.open, x.loaded_at, count = False, None, count - 1
                    report.scaled += 1
        return min([rescale, *(x.loaded_at for x in replicas if x.loaded_at is not None)])

    while True:
        instants = [x.end for x in replicas if x.end is not None]
        instants += [t for t in map(release_of, unreleased) if t is not None]
        instants += [r.moving_until for r in moving if r.moving_until is not None]
        if not instants:
            break
        now = min(instants + ([tick] if tick is not None else []))
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
                report.gaps.append(now - (x.prefilled_at if r.fresh else r.last_token))
                r.last_token, r.fresh = now, False
            for r in x.ending:
                r.done += 1
                if r.first < 0:
                    r.first = now
                else:
                    report.gaps.append(now - r.last_token)
                r.last_token = now
                if r.done < r.steps and x.machine.role == "prefill":
                    x.held.remove(r)
                    base, each = x.machine.hand_over
                    r.moving_until = now + int(base + each * r.to_prefill + 0.5)
                    moving.append(r)
                    continue
                x.decoding.append(r)
                r.fresh = x.stalled
                r.seen = 0
                r.kv = r.to_prefill + r.surplus
            if x.stalled:
                x.prefilled_at = now
            x.ending = []
            for r in list(x.held):
                if r in x.decoding and r.done == r.steps:
                    x.held.remove(r)
                    x.decoding.remove(r)
                    if x.machine.role != "prefill":
                        assert r.kv == r.input + r.output - 1, "the final footprint"
                        assert r.blocks == math.ceil(r.kv / x.machine.block_size)
                    give(x, r)
                    r.end = now
                    r.status = 0
                    flight -= 1
                    report.ended.append(r.row_id)
        # 2
        if tick == now:
            tick = max(now + 1, scale(now))
        # 3
        while True:
            due = [r for r in unreleased if release_of(r) == now]
            due += [r for r in moving if r.moving_until == now]
            if not due:
                break
            r = min(due, key=lambda r: r.row_id)
            events += 1
            handed = r in moving
            if handed:
                moving.remove(r)
                r.moving_until = None
                give(replicas[r.replica], r)
                r.comes_with = "link"
                report.handed += 1
            else:
                report.dependent += bool(r.parents)
                unreleased.remove(r)
                r.release = now
                flight += 1
            r.replica = routed(r, handed)
            x = replicas[r.replica]
            m = x.machine
            footprint = r.input if m.role == "prefill" else r.input + r.output - 1
            if r.input + r.output > m.max_context:
                r.status, r.end = 2, now
            elif math.ceil(footprint / m.block_size) > m.blocks:
                r.status, r.end = 1, now
            else:
                x.waiting.append(r)
            if r.end >= 0:
                flight -= 1
                report.ended.append(r.row_id)
        report.ties += events > 1
        # 4
        for x in replicas:
            if x.end is not None or not (x.held or x.waiting):
                continue
            m = x.machine
            p = q = c = 0
            moved = 0
            preempted = False

            def chunk(r: Req, budget: int, x: Replica = x) -> tuple[int, int, int, int]:
                m = min(budget, r.to_prefill - r.prefilled)
                pairs = sum(range(r.prefilled + 1, r.prefilled + m + 1))
                r.prefilled += m
                if x.machine.unit:
                    computed = r.prefilled // (x.machine.unit * x.machine.block_size)
                    for i in r.ids[r.kept : computed]:
                        if i in x.cache:
                            break
                        x.cache[i] = 1
                        r.kept += 1
                if r.prefilled == r.to_prefill:
                    x.ending.append(r)
                    x.partial = None
                else:
                    x.partial = r
                return budget - m, m, pairs, r.prefilled

            def shape(r: Req, x: Replica = x) -> tuple[int, int, int]:
                """(tokens to hold, surplus, blocks) of the head of the queue."""
                m = x.machine
                tokens = emitted(r, r.done)
                surplus = (r.output - tokens) - (r.steps - r.done)
                hold = r.input + tokens
                if r.comes_with:
                    return hold - 1, surplus, math.ceil((hold + surplus) / m.block_size)
                if m.role == "prefill":
                    surplus = 0
                return hold, surplus, math.ceil((hold + surplus) / m.block_size)

            def admit(r: Req, room: int | None, x: Replica = x, now: int = now) -> bool:
                """``room``: tokens that whole prompts may still have, None: as many as they like."""
                nonlocal admitted
                hold, surplus, blocks = shape(r)
                units, shared = (0, 0) if r.comes_with else known(x, r)
                unit = x.machine.unit
                looked = bool(unit and r.ids and not r.comes_with)
                if looked and x.refused and x.refused[0] is r and x.free <= x.refused[1]:
                    return False
                if x.free - blocks + shared * unit < (x.machine.watermark if x.held else 0):
                    x.refused = (r, x.free) if not r.comes_with else x.refused
                    return False
                computed = min(units * unit * x.machine.block_size, hold - 1)
                if room is not None and hold - computed > room:
                    return False
                x.waiting.remove(r)
                r.to_prefill, r.surplus, r.blocks = hold, surplus, blocks
                x.free -= blocks - shared * unit
                if not r.comes_with:
                    x.refused = None
                for i in r.ids[:units]:
                    if not x.cache[i]:
                        x.unused.remove(i)
                    x.cache[i] += 1
                r.kept = units
                report.shared += shared
                evict(x)
                r.order = admitted
                admitted += 1
                x.held.append(r)
                if r.scheduled < 0:
                    r.scheduled = now
                if not r.comes_with:
                    cached = r.input // policies.cached_share if policies.cached_share else 0
                    cached = max(cached, units * unit * x.machine.block_size)
                    r.prefilled = max(0, min(cached, hold - 1))
                    report.cached += r.prefilled
                return True

            x.stalled = False
            if not m.chunked:  # prefills first
                budget = m.max_batched
                while x.waiting and len(x.held) < m.max_seqs:
                    r = min(x.waiting, key=queue_key)
                    if r.comes_with or not admit(r, budget if p > 0 else None):
                        break
                    budget, dp, dq, dc = chunk(r, max(budget, r.to_prefill - r.prefilled))
                    p, q, c = p + dp, q + dq, c + dc
                    x.stalled = True
            contexts = 0
            if x.stalled:
                x.now_decoding = []
                report.stalls += 1
            else:
                while True:
                    needy = [r for r in x.decoding if r.kv == r.blocks * m.block_size]
                    if len(needy) <= x.free:
                        break
                    victim = x.held.pop()
                    preempted = True
                    report.preemptions += 1
                    victim.preempted += 1
                    give(x, victim)
                    victim.fresh = False
                    if victim in x.decoding:
                        x.decoding.remove(victim)
                        if m.swaps:
                            victim.comes_with = "host"
                            moved += victim.input + emitted(victim, victim.done) - 1
                    if victim is x.partial:
                        x.partial = None
                    x.waiting.append(victim)
                for r in needy:
                    r.blocks += 1
                    x.free -= 1
                evict(x)
                budget = m.max_batched - len(x.decoding)
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
                    r = min(x.waiting, key=queue_key)
                    if not r.comes_with and not m.chunked:
                        break
                    if not admit(r, None):
                        break
                    if r.comes_with:
                        if r.comes_with == "host":
                            moved += r.to_prefill
                        r.comes_with = ""
                        r.kv, r.seen = r.to_prefill + r.surplus, 0
                        x.decoding.append(r)
                        budget -= 1
                        continue
                    budget, dp, dq, dc = chunk(r, budget)
                    p, q, c = p + dp, q + dq, c + dc
                x.now_decoding = list(x.decoding)
                contexts = sum(r.to_prefill + 1 + r.surplus // 2 + r.seen for r in x.decoding)
            d = len(x.now_decoding)
            if d + p == 0:
                assert not x.held
                continue
            state = [1.0, d, p, q, contexts, c] + [t[min(d + p, len(t) - 1)] for t in m.tables]
            total, best = moved * m.move_ns, None
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
            assert x.free >= 0
            here = [*x.held, *(r for r in moving if replicas[r.replica] is x)]
            own = sum(r.blocks - r.kept * m.unit for r in here)
            held = {i for r in here for i in r.ids[: r.kept]}
            assert held == {i for i, n in x.cache.items() if n}, "who holds what"
            assert x.free + own + len(held) * m.unit == m.blocks, "blocks are lost"
            assert len(x.unused) * m.unit <= x.free
            report.iterations += 1
            report.busy_ns += ns
            report.decode_seqs += d
            report.prefill_tokens += p
            report.contexts += contexts
            report.pairs += q
            report.moved += moved
            report.peak_blocks = max(report.peak_blocks, m.blocks - x.free)
    report.free_in_the_end = [x.free for x in replicas]
    report.paid = [x.paid + (now - x.since if x.since is not None else 0) for x in replicas]
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

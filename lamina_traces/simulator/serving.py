"""The serving clock: every request through replicas that batch continuously, one compiled loop.

Times are int64 nanoseconds from the trace's origin. This text is
the definition; ``tests/simulator/oracle.py`` is written from it and must agree to the nanosecond.

**Instants.** At an instant t, in this order:

1. iterations ending at t, replicas in index order; the requests that complete in one iteration
   complete in the order in which they were admitted;
2. the ``tick`` policy, if it is due;
3. releases at t, always the smallest row_id next (a child that is released by 1, or by a rejection
   inside 3, takes part);
4. idle replicas, in index order, start an iteration if they hold or await any request.

A request that arrives while its replica iterates waits for the next iteration.

**Release.** A request is released at max(arrival, end of its last parent + delay). At its release
``route`` names its replica, which it keeps. If its final KV footprint exceeds the replica's blocks, or
input + output exceeds the longest context, it is rejected: it ends at its release.

**Waiting.** Each replica's queue is ordered by (``rank``, release, row_id), lowest first. ``rank`` is
asked when the request enters the queue (again when it was preempted).

**Iteration.** D decoding requests take one token each from ``max_num_batched_tokens``. Then:

1. *Growth.* Each decoding request whose blocks are full needs one more. While too few are free, the
   request admitted last (still in prefill, or decoding) is preempted: its blocks are freed, it goes
   back to the queue, and will recompute its input and the tokens that it had generated.
2. *The request in prefill* (there is never more than one whose prefill is unfinished) takes
   min(its rest, the rest of the token budget).
3. *Admission*, unless 1 preempted somebody: the head of the queue is admitted while token budget and
   sequences (``max_num_seqs``) remain and its blocks are free with ``watermark`` blocks to spare (the
   spare is waived when the replica holds no request). Blocks for the whole prefill are taken at once;
   ``reuse`` says how many of its first tokens need no computing (at most all but one). The head that
   does not fit blocks those behind it. It takes its tokens as in 2.

The iteration's state is x = (1, D, p, Q, S, C, tables…): p prefill tokens; Q pairs that prefill
attention computes (a chunk after ``a`` tokens of m tokens: a·m + m(m+1)/2); S the sum of the decoding
contexts, the token being computed included; C the sum over chunks of a + m; each table is read at
D + p. It lasts Σ over blocks of max over the block's rows of coefficient · x nanoseconds, rounded half
up, at least 1.

At its end each request in decode has emitted one step; a request whose prefill ended emits its first
step (or, recomputed, its next one) and joins the decode. A request ends with its last step; the last
token is never written to the KV cache, so n + output − 1 tokens is the final footprint.

**Steps and tokens.** When a request needs fewer steps than tokens (speculative decoding), j steps have
emitted ⌊j·output/steps⌋ tokens. The surplus over one token per step still to come is reserved in blocks
at admission, and half of it is counted in its context from the start: exact in the end and in the mean,
and O(1) per iteration. With steps = output this changes nothing.

**O(1) per iteration.** Completions wait in a ring indexed by their finishing iteration; block growth is
a counter per residue of the iteration number (a request grows every ``block_size`` iterations); the
contexts are one running sum; the victims are a linked list in admission order; the queue is a pairing
heap linked through the requests themselves. Where an iteration can only be followed by its like (all decode,
nobody ends, nothing arrives), a shorter loop goes on to the same nanosecond (``_coast``).

**Policies** are four functions of one signature (``POLICY``), passed as typed first-class functions:
``(now, slot, replica, req, rep, mem, par) → int64``. ``route`` returns the replica, ``rank`` a key (lower
first), ``reuse`` a number of tokens, ``tick`` the next instant at which it wants to be called (``NEVER``
for no more). ``req`` (one row per request, columns below) is to be read, ``rep`` (one row per replica)
too; ``mem`` (int64) and ``par`` (float64) are the policies' own state and parameters, theirs to write:
mem[0] is the round-robin counter, mem[16:] is free for others (hash tables of a prefix cache, a random
state).
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numba import types

from ..compiled import called, hot

NEVER = 2**63 - 1
"""the instant after all others."""

# Columns of req: one row per request the clock knows (int64). -1 is "none" for links and instants.
POS = 0  # position in the workload, over all chunks
ROW = 1  # row_id
ARRIVAL = 2
RELEASE = 3
SCHEDULED = 4
FIRST = 5
END = 6
INPUT = 7
OUTPUT = 8
STEPS = 9
DELAY = 10
PRIORITY = 11
REPLICA = 12
PREEMPTED = 13  # how often
STATE = 14
PENDING = 15  # parents not yet ended
LAST_PARENT = 16  # latest end of a parent so far
EDGE = 17  # first edge to a child
UNSEEN = 18  # children in chunks that have not come yet
DONE = 19  # steps emitted before its present stay in the batch
TOTAL = 20  # tokens to hold after prefill
PROGRESS = 21  # of them computed; at its end: blocks held
AHEAD = 22  # tokens reserved beyond one per step
JOINED = 23  # first iteration in decode
FINISH = 24  # iteration that emits the last step
ORDER = 25  # admission number
PREV = 26  # admitted before, on this replica
NEXT = 27  # admitted after; waiting: first child in the heap
RING_PREV = 28
RING_NEXT = 29
SIBLING = 30  # waiting: next sibling in the heap; in prefill: next one whose prefill ended
KEY = 31  # rank
READY = 32  # its keys and values come with it: SWAPPED from the host, MOVED from a prefill replica, 0 neither
TOKEN = 33  # when it emitted last, before its present stay in the decode
SESSION = 34  # what keeps requests together on a replica; -1: nothing
HEAD = 35  # what its prompt begins with; -1: unknown
DEADLINE = 36  # when its first token is due, after its release; NEVER: at no time
IDS = 37  # where the ids of its prompt's full units begin in ids
UNITS = 38  # how many there are
KEPT = 39  # of them, from the first on, entries of the cache that it holds
REQ_COLUMNS = 40

# READY
SWAPPED, MOVED = 1, 2

# STATE
PLANNED, WAITING, PREFILL, DECODE, OVER, MOVING = 0, 1, 2, 3, 4, 5

# Columns of rep: one row per replica (int64).
R_END = 0  # when its iteration ends, NEVER when idle
R_START = 1
R_ITER = 2  # number of the current (or next) iteration
R_DECODE = 3  # D
R_CONTEXT = 4  # S
R_HELD = 5  # admitted requests
R_FREE = 6  # free blocks
R_QUEUE = 7  # root of the waiting heap
R_WAITING = 8  # how many wait
R_LAST = 9  # admitted last
R_PARTIAL = 10  # the request whose prefill is unfinished
R_ENDED = 11  # first request whose prefill ends in this iteration
R_ENDED_LAST = 12
R_RATE = 13  # tokens per step summed over D, in 1/65536
R_TOKENS = 14  # tokens emitted by this iteration, in 1/65536
R_PEAK = 15  # most blocks ever in use
R_POOL = 16
R_WON = 17  # bit mask of the rows that were the longest of their block
R_PREEMPTIONS = 18
R_BATCH = 19  # sequences taking part in this iteration
R_PHASE = 20  # R_ITER modulo the block size
R_WINDOW = 21  # a window number that R_START lay in
R_WINDOW_END = 22  # and the end of that window
R_COASTS = 23  # this iteration may be followed by others like it
R_TAKES = 24  # NEW requests, those HANDED over, or none
R_BLOCKS = 25  # all its blocks
R_STALLED = 26  # this iteration only prefills, and who decodes waits
R_DECODED = 27  # when the last iteration ended in which it decoded
R_FRESH = 28  # how many have joined the decode in stalled iterations since
R_JOINED = (
    29  # first request whose keys and values came with it, of those that joined in this iteration
)
R_SINCE = 30  # since when it is provisioned, NEVER where it is not
R_PAID = 31  # ns for which it was provisioned before
R_LOADED = 32  # when it takes requests that is being loaded, NEVER where it is not
R_MOVED = 33  # tokens whose keys and values this iteration moves to the host or from it
R_LOW = 34  # fewest free blocks since the cache was last looked at
R_EVICTABLE = 35  # entries of the cache that no request holds
R_OLDEST = 36  # of them, the first to go
R_NEWEST = 37
R_ENTRY = 38  # first unused entry
R_REFUSED = 39  # the head of the queue that found no blocks
R_REFUSED_AT = 40  # and how many were free
R_CACHED = 41  # tokens of prompts that needed no computing
REP_COLUMNS = 42

# Columns of ent: one row per entry of a replica's prefix cache (int64).
E_ID = 0
E_CHAIN = 1  # next in its bucket; unused: next unused
E_HELD = 2  # by how many requests
E_OLDER = 3
E_NEWER = 4
ENT_COLUMNS = 5

# R_TAKES
NEW, HANDED = 1, 2

# Columns of pool: one row per pool (int64).
P_BLOCKS = 0
P_BLOCK_SIZE = 1
P_WATERMARK = 2
P_MAX_SEQS = 3
P_MAX_BATCHED = 4
P_MAX_CONTEXT = 5
P_ROW_FROM = 6  # its rows of coef
P_ROW_TO = 7
P_CHUNKED = 8  # 0: prefills go first, alone and whole
P_SWAPS = 9  # preempts by moving to the host
P_ROLE = 10  # BOTH, PREFILLS or DECODES
P_UNIT = 11  # blocks of a unit of the prefix cache, 0: there is none
POOL_COLUMNS = 12

# P_ROLE
BOTH, PREFILLS, DECODES = 0, 1, 2

# Entries of g, the scalars (int64).
G_NOW = 0
G_LIMIT = 1  # instants at or after this are not processed yet
G_FED = 2  # next entry of fed
G_FED_TO = 3
G_HEAP = 4  # entries of the release heap
G_OUT = 5  # rows written to out
G_FREE = 6  # free slots on the stack
G_EDGE_FREE = 7  # first free edge
G_WINDOW_NS = 8
G_WINDOW_BASE = 9  # window number of win[:, 0]
G_NEEDED = 10  # window number that did not fit
G_TICK = 11  # next call of tick
G_ADMITTED = 12  # admission numbers given
G_TIES = 13  # instants with more than one iteration end or release
G_DEPENDENT = 14  # releases that waited for a parent
G_WINDOW_LIMIT = 15  # end of the last window that fits into win
G_CONCURRENCY = 16  # most requests in flight when one without parents is released
G_FLIGHT = 17  # released and not over
G_SIZE = 18

# Columns of win: accumulators of one replica and window (float64), then one per entry of x.
W_ITERATIONS, W_BUSY_NS, W_GENERATED, W_PREFILL, W_SEQ_NS, W_BLOCK_NS, W_MOVED = 0, 1, 2, 3, 4, 5, 6
WINDOW_COLUMNS = 7

# The state x.
X_ONE, X_D, X_P, X_Q, X_S, X_C, X_TABLES = 0, 1, 2, 3, 4, 5, 6

# What advance returns.
PAUSED, NEEDS_WINDOWS = 0, 1

# Status of a finished row.
OK, REJECTED_MEMORY, REJECTED_CONTEXT, UNFINISHED = 0, 1, 2, 3

# Columns of out, the finished rows (int64).
O_POS, O_ROW, O_ARRIVAL, O_RELEASE, O_SCHEDULED = 0, 1, 2, 3, 4
O_FIRST, O_LAST, O_REPLICA, O_PREEMPTIONS, O_STATUS = 5, 6, 7, 8, 9
OUT_COLUMNS = 10

_I1 = types.Array(types.int64, 1, "C")
_I2 = types.Array(types.int64, 2, "C")
_I3 = types.Array(types.int64, 3, "C")
_F1 = types.Array(types.float64, 1, "C")
_F2 = types.Array(types.float64, 2, "C")
_F3 = types.Array(types.float64, 3, "C")

POLICY = types.int64(types.int64, types.int64, types.int64, _I2, _I2, _I1, _F1)
_POLICY_TYPE = types.FunctionType(POLICY)

ADVANCE = types.int64(
    *(_I1, _I2, _I2, _I2, _I2, _I2, _I2, _I2, _I1, _I1, _I2),  # g … out
    *(_I3, _I2, _I1),  # ent, buckets, ids
    *(_F2, _I1, _F3, _F2, _F2, _F3, _F2, _I2, _I1, _F1),  # coef … par
    *(_POLICY_TYPE, _POLICY_TYPE, _POLICY_TYPE, _POLICY_TYPE),
)
FEED = types.void(_I1, _I2, _I2, _I2, _I1, _I1, _I1, _I1, _I1)


# ---------------------------------------------------------------------------- policies


@hot
def _takes(slot: int, r: int, req: Any, rep: Any) -> Any:
    """May the request go to the replica?"""
    return rep[r, R_TAKES] & (HANDED if req[slot, STATE] == MOVING else NEW) != 0


@hot
def _load(rep: Any, r: int) -> Any:
    """Requests that wait or are admitted."""
    return rep[r, R_WAITING] + rep[r, R_HELD]


@called
def _next(slot: int, r: int, req: Any, rep: Any) -> Any:
    """The replica ``r`` or the first after it, in a ring, that takes the request; 0 where none does."""
    for i in range(rep.shape[0]):
        at = (r + i) % rep.shape[0]
        if _takes(slot, at, req, rep):
            return at
    return 0


@called
def _lightest(slot: int, req: Any, rep: Any) -> Any:
    best = -1
    for r in range(rep.shape[0]):
        if _takes(slot, r, req, rep) and (best < 0 or _load(rep, r) < _load(rep, best)):
            best = r
    return max(best, 0)


@called
def _mixed(x: int) -> Any:
    """A whole number from 0 on that looks like chance (the finaliser of SplitMix64; Steele, Lea, Flood 2014)."""
    z = np.uint64(x) + np.uint64(0x9E3779B97F4A7C15)
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return int((z ^ (z >> np.uint64(31))) >> np.uint64(1))


def route_round_robin(now, slot, replica, req, rep, mem, par):  # type: ignore[no-untyped-def] # noqa: ARG001
    """Replica 0, 1, 2, … in the order of release, those left out that take none."""
    r = _next(slot, mem[0] % rep.shape[0], req, rep)
    mem[0] = r + 1
    return r


def route_least_outstanding(now, slot, replica, req, rep, mem, par):  # type: ignore[no-untyped-def] # noqa: ARG001
    """The replica with the fewest requests waiting or admitted; ties to the lowest index."""
    return _lightest(slot, req, rep)


def route_least_kv(now, slot, replica, req, rep, mem, par):  # type: ignore[no-untyped-def] # noqa: ARG001
    """The replica with the smallest share of its KV blocks in use, then with the fewest requests; ties to the lowest index."""
    best = -1
    for r in range(rep.shape[0]):
        if not _takes(slot, r, req, rep):
            continue
        if best < 0:
            best = r
            continue
        mine = (rep[r, R_BLOCKS] - rep[r, R_FREE]) * rep[best, R_BLOCKS]
        least = (rep[best, R_BLOCKS] - rep[best, R_FREE]) * rep[r, R_BLOCKS]
        if mine < least or (mine == least and _load(rep, r) < _load(rep, best)):
            best = r
    return max(best, 0)


def route_power_of_two(now, slot, replica, req, rep, mem, par):  # type: ignore[no-untyped-def] # noqa: ARG001
    """Of two replicas drawn at random the one with fewer requests; ties to the first drawn (Mitzenmacher 2001)."""
    n = rep.shape[0]
    a = _next(slot, _mixed(mem[1]) % n, req, rep)
    b = _next(slot, _mixed(mem[1] + 1) % n, req, rep)
    mem[1] += 2
    return b if _load(rep, b) < _load(rep, a) else a


def route_session_affinity(now, slot, replica, req, rep, mem, par):  # type: ignore[no-untyped-def] # noqa: ARG001
    """All requests of a session to one replica, named by a hash; others to the replica with the fewest requests."""
    if req[slot, SESSION] < 0:
        return _lightest(slot, req, rep)
    return _next(slot, _mixed(req[slot, SESSION]) % rep.shape[0], req, rep)


def route_prefix_affinity(now, slot, replica, req, rep, mem, par):  # type: ignore[no-untyped-def] # noqa: ARG001
    """Requests that begin alike to one replica, named by a hash of the first block, or to the first after it that has no more
    than 5/4 of its share of the requests (bounded loads; Mirrokni, Thorup, Zadimoghaddam 2018)."""
    if req[slot, HEAD] < 0:
        return _lightest(slot, req, rep)
    n, total, some = rep.shape[0], 0, 0
    for r in range(n):
        if _takes(slot, r, req, rep):
            total += _load(rep, r)
            some += 1
    r = _next(slot, _mixed(req[slot, HEAD]) % n, req, rep)
    for _ in range(n):
        if 4 * some * _load(rep, r) <= 5 * (total + 1):
            break
        r = _next(slot, (r + 1) % n, req, rep)
    return r


def rank_fcfs(now, slot, replica, req, rep, mem, par):  # type: ignore[no-untyped-def] # noqa: ARG001
    """First come, first served: equal keys, so that the order is the order of release."""
    return 0


def rank_priority(now, slot, replica, req, rep, mem, par):  # type: ignore[no-untyped-def] # noqa: ARG001
    """By the request's priority (lower first), then first come, first served."""
    return req[slot, PRIORITY]


def rank_least_slack(now, slot, replica, req, rep, mem, par):  # type: ignore[no-untyped-def] # noqa: ARG001
    """By when its prefill must begin at the latest: its deadline less par[0] ns for each token of its prompt. What is to spare
    shrinks for all alike, so the order stays."""
    if req[slot, DEADLINE] == NEVER:
        return NEVER
    return req[slot, RELEASE] + req[slot, DEADLINE] - int(par[0] * req[slot, INPUT])


def reuse_none(now, slot, replica, req, rep, mem, par):  # type: ignore[no-untyped-def] # noqa: ARG001
    """Nothing is cached."""
    return 0


def tick_scale(now, slot, replica, req, rep, mem, par):  # type: ignore[no-untyped-def] # noqa: ARG001
    """As many replicas as keep par[2] requests each, every par[1] ns, from par[3] to all: those missing are loaded at once and
    take requests par[4] ns later, the lowest index first; those too many take no more, the highest index first,
    and are given up when they are empty."""
    n, load, on = rep.shape[0], 0, 0
    for r in range(n):
        load += _load(rep, r)
        if rep[r, R_LOADED] <= now:
            rep[r, R_TAKES], rep[r, R_LOADED] = NEW, NEVER
        if rep[r, R_TAKES] != 0 or rep[r, R_LOADED] != NEVER:
            on += 1
        elif rep[r, R_SINCE] != NEVER and _load(rep, r) == 0:
            rep[r, R_PAID] += now - rep[r, R_SINCE]
            rep[r, R_SINCE] = NEVER
    due = NEVER
    if mem[2] <= now:
        mem[2] = now + int(par[1])
        wanted = min(max(math.ceil(load / par[2]), int(par[3])), n)
        for r in range(n):  # who is being emptied is taken back before others are loaded
            if (
                on < wanted
                and rep[r, R_SINCE] != NEVER
                and rep[r, R_TAKES] == 0
                and rep[r, R_LOADED] == NEVER
            ):
                rep[r, R_TAKES] = NEW
                on += 1
        for r in range(n):
            if on < wanted and rep[r, R_SINCE] == NEVER:
                rep[r, R_SINCE], rep[r, R_LOADED] = now, now + int(par[4])
                on += 1
        for r in range(n - 1, -1, -1):
            if on > wanted and (rep[r, R_TAKES] != 0 or rep[r, R_LOADED] != NEVER):
                rep[r, R_TAKES], rep[r, R_LOADED] = 0, NEVER
                on -= 1
    for r in range(n):
        due = min(due, rep[r, R_LOADED])
    return min(due, mem[2])


def tick_never(now, slot, replica, req, rep, mem, par):  # type: ignore[no-untyped-def] # noqa: ARG001
    """No periodic control."""
    return NEVER


# ---------------------------------------------------------------------------- waiting queue


@hot
def _before(req: Any, a: int, b: int) -> Any:
    """Does ``a`` come before ``b`` in the queue?"""
    if req[a, KEY] != req[b, KEY]:
        return req[a, KEY] < req[b, KEY]
    if req[a, RELEASE] != req[b, RELEASE]:
        return req[a, RELEASE] < req[b, RELEASE]
    return req[a, ROW] < req[b, ROW]


@hot
def _meld(req: Any, a: int, b: int) -> Any:
    """Two pairing heaps into one; either may be -1. Both roots have no sibling."""
    if a < 0:
        return b
    if b < 0:
        return a
    if _before(req, b, a):
        a, b = b, a
    req[b, SIBLING] = req[a, NEXT]
    req[a, NEXT] = b
    return a


@called
def _pop(req: Any, root: int) -> Any:
    """Remove the root; returns the new root. Pairs from left to right, then melds from right to left."""
    paired = -1
    child = req[root, NEXT]
    while child >= 0:
        a = child
        b = req[a, SIBLING]
        child = req[b, SIBLING] if b >= 0 else -1
        req[a, SIBLING] = -1
        if b >= 0:
            req[b, SIBLING] = -1
        m = _meld(req, a, b)
        req[m, SIBLING] = paired
        paired = m
    top = -1
    while paired >= 0:
        following = req[paired, SIBLING]
        req[paired, SIBLING] = -1
        top = _meld(req, top, paired)
        paired = following
    return top


@called
def _enqueue(req: Any, rep: Any, r: int, slot: int) -> None:
    req[slot, STATE] = WAITING
    req[slot, NEXT] = -1
    req[slot, SIBLING] = -1
    rep[r, R_QUEUE] = _meld(req, rep[r, R_QUEUE], slot)
    rep[r, R_WAITING] += 1
    rep[r, R_COASTS] = 0  # who comes may be admitted at the next start


# ---------------------------------------------------------------------------- releases


@hot
def _heap_less(heap: Any, i: int, j: int) -> Any:
    if heap[i, 0] != heap[j, 0]:
        return heap[i, 0] < heap[j, 0]
    return heap[i, 1] < heap[j, 1]


@called
def _heap_swap(heap: Any, i: int, j: int) -> None:
    for c in range(3):
        held = heap[i, c]
        heap[i, c] = heap[j, c]
        heap[j, c] = held


@called
def _heap_push(g: Any, heap: Any, when: int, row: int, slot: int) -> None:
    i = g[G_HEAP]
    g[G_HEAP] += 1
    heap[i, 0] = when
    heap[i, 1] = row
    heap[i, 2] = slot
    while i > 0 and _heap_less(heap, i, (i - 1) // 2):
        _heap_swap(heap, i, (i - 1) // 2)
        i = (i - 1) // 2


@called
def _heap_pop(g: Any, heap: Any) -> Any:
    """Remove the earliest (ties: lowest row_id); returns its slot."""
    slot = heap[0, 2]
    g[G_HEAP] -= 1
    n = g[G_HEAP]
    _heap_swap(heap, 0, n)
    i = 0
    while True:
        least = i
        for child in (2 * i + 1, 2 * i + 2):
            if child < n and _heap_less(heap, child, least):
                least = child
        if least == i:
            return slot
        _heap_swap(heap, i, least)
        i = least


@called
def _plan_release(g: Any, req: Any, heap: Any, slot: int) -> None:
    """All parents have ended: put the request into the release heap."""
    g[G_DEPENDENT] += 1
    when = max(req[slot, ARRIVAL], req[slot, LAST_PARENT] + req[slot, DELAY])
    _heap_push(g, heap, when, req[slot, ROW], slot)


@called
def _free_slot(g: Any, req: Any, free: Any, slot: int) -> None:
    req[slot, POS] = -1
    free[g[G_FREE]] = slot
    g[G_FREE] += 1


def feed(g, req, edges, heap, free, slots, fed, parents_from, parent_slots):  # type: ignore[no-untyped-def]
    """Link newly written rows: ``slots`` in workload order, parents as slots.

    Rows without parents are appended to ``fed``. A parent that has already ended counts at once.
    """
    for i in range(len(slots)):
        slot = slots[i]
        first, last = parents_from[i], parents_from[i + 1]
        if first == last:
            fed[g[G_FED_TO]] = slot
            g[G_FED_TO] += 1
            continue
        for e in range(first, last):
            parent = parent_slots[e]
            req[parent, UNSEEN] -= 1
            if req[parent, STATE] == OVER:
                req[slot, LAST_PARENT] = max(req[slot, LAST_PARENT], req[parent, END])
                if req[parent, UNSEEN] == 0:
                    _free_slot(g, req, free, parent)
            else:
                req[slot, PENDING] += 1
                edge = g[G_EDGE_FREE]
                g[G_EDGE_FREE] = edges[edge, 1]
                edges[edge, 0] = slot
                edges[edge, 1] = req[parent, EDGE]
                req[parent, EDGE] = edge
        if req[slot, PENDING] == 0:
            _plan_release(g, req, heap, slot)


@called
def _over(
    g: Any, req: Any, edges: Any, heap: Any, free: Any, out: Any, slot: int, now: int, status: int
) -> None:
    """The request ends now: write its row, tell its children, give its slot back."""
    o = g[G_OUT]
    g[G_OUT] += 1
    out[o, O_POS] = req[slot, POS]
    out[o, O_ROW] = req[slot, ROW]
    out[o, O_ARRIVAL] = req[slot, ARRIVAL]
    out[o, O_RELEASE] = req[slot, RELEASE]
    out[o, O_SCHEDULED] = req[slot, SCHEDULED]
    out[o, O_FIRST] = req[slot, FIRST]
    out[o, O_LAST] = now if status == OK else -1
    out[o, O_REPLICA] = req[slot, REPLICA]
    out[o, O_PREEMPTIONS] = req[slot, PREEMPTED]
    out[o, O_STATUS] = status
    req[slot, STATE] = OVER
    req[slot, END] = now
    g[G_FLIGHT] -= 1
    edge = req[slot, EDGE]
    while edge >= 0:
        child = edges[edge, 0]
        req[child, LAST_PARENT] = now
        req[child, PENDING] -= 1
        if req[child, PENDING] == 0:
            _plan_release(g, req, heap, child)
        following = edges[edge, 1]
        edges[edge, 1] = g[G_EDGE_FREE]
        g[G_EDGE_FREE] = edge
        edge = following
    req[slot, EDGE] = -1
    if req[slot, UNSEEN] == 0:
        _free_slot(g, req, free, slot)


# ---------------------------------------------------------------------------- the prefix cache


@hot
def _bucket(buckets: Any, key: int) -> Any:
    return _mixed(key) & (buckets.shape[1] - 1)


@called
def _find(ent: Any, buckets: Any, r: int, key: int) -> Any:
    """The entry of an id, -1 where there is none."""
    e = buckets[r, _bucket(buckets, key)]
    while e >= 0 and ent[r, e, E_ID] != key:
        e = ent[r, e, E_CHAIN]
    return e


@called
def _aside(rep: Any, ent: Any, r: int, e: int) -> None:
    """Out of the list of those that may go."""
    older, newer = ent[r, e, E_OLDER], ent[r, e, E_NEWER]
    if older >= 0:
        ent[r, older, E_NEWER] = newer
    else:
        rep[r, R_OLDEST] = newer
    if newer >= 0:
        ent[r, newer, E_OLDER] = older
    else:
        rep[r, R_NEWEST] = older
    rep[r, R_EVICTABLE] -= 1


@called
def _evict(rep: Any, ent: Any, buckets: Any, r: int, unit: int) -> None:
    """Those that may go and had no room go, the longest unused first."""
    while rep[r, R_EVICTABLE] * unit > rep[r, R_LOW]:
        e = rep[r, R_OLDEST]
        _aside(rep, ent, r, e)
        at = _bucket(buckets, ent[r, e, E_ID])
        if buckets[r, at] == e:
            buckets[r, at] = ent[r, e, E_CHAIN]
        else:
            before = buckets[r, at]
            while ent[r, before, E_CHAIN] != e:
                before = ent[r, before, E_CHAIN]
            ent[r, before, E_CHAIN] = ent[r, e, E_CHAIN]
        ent[r, e, E_CHAIN] = rep[r, R_ENTRY]
        rep[r, R_ENTRY] = e
    rep[r, R_LOW] = rep[r, R_FREE]


@called
def _known(
    req: Any, rep: Any, ent: Any, buckets: Any, ids: Any, slot: int, r: int, unit: int
) -> Any:
    """(leading units of the prompt that the cache has, those of them that other requests hold)."""
    _evict(rep, ent, buckets, r, unit)
    known, shared = 0, 0
    while known < req[slot, UNITS]:
        e = _find(ent, buckets, r, ids[req[slot, IDS] + known])
        if e < 0:
            break
        shared += ent[r, e, E_HELD] > 0
        known += 1
    return known, shared


@called
def _hold(
    req: Any, rep: Any, ent: Any, buckets: Any, ids: Any, slot: int, r: int, known: int
) -> None:
    """The request holds the first units, which the cache has."""
    for i in range(known):
        e = _find(ent, buckets, r, ids[req[slot, IDS] + i])
        if ent[r, e, E_HELD] == 0:
            _aside(rep, ent, r, e)
        ent[r, e, E_HELD] += 1
    req[slot, KEPT] = known


@called
def _enter(
    req: Any, rep: Any, ent: Any, buckets: Any, ids: Any, slot: int, r: int, unit: int
) -> None:
    """The prompt is computed: its units are known from now on, up to one that is known already."""
    _evict(rep, ent, buckets, r, unit)
    while req[slot, KEPT] < req[slot, UNITS]:
        key = ids[req[slot, IDS] + req[slot, KEPT]]
        if _find(ent, buckets, r, key) >= 0:
            return
        e = rep[r, R_ENTRY]
        rep[r, R_ENTRY] = ent[r, e, E_CHAIN]
        at = _bucket(buckets, key)
        ent[r, e, E_ID], ent[r, e, E_HELD], ent[r, e, E_CHAIN] = key, 1, buckets[r, at]
        buckets[r, at] = e
        req[slot, KEPT] += 1


@called
def _let_go(
    req: Any, rep: Any, ent: Any, buckets: Any, ids: Any, slot: int, r: int, unit: int
) -> None:
    """Of the blocks that the request gave back those of units that others hold are not free; of the others the deepest go
    first."""
    for i in range(req[slot, KEPT] - 1, -1, -1):
        e = _find(ent, buckets, r, ids[req[slot, IDS] + i])
        ent[r, e, E_HELD] -= 1
        if ent[r, e, E_HELD] > 0:
            rep[r, R_FREE] -= unit
            continue
        newest = rep[r, R_NEWEST]
        ent[r, e, E_OLDER], ent[r, e, E_NEWER] = newest, -1
        if newest >= 0:
            ent[r, newest, E_NEWER] = e
        else:
            rep[r, R_OLDEST] = e
        rep[r, R_NEWEST] = e
        rep[r, R_EVICTABLE] += 1
    req[slot, KEPT] = 0


@hot
def _give(
    req: Any, rep: Any, pool: Any, ent: Any, buckets: Any, ids: Any, slot: int, r: int, blocks: int
) -> None:
    """The request gives its blocks back."""
    if req[slot, KEPT] == 0:
        rep[r, R_FREE] += blocks
        return
    unit = pool[rep[r, R_POOL], P_UNIT]
    _evict(rep, ent, buckets, r, unit)
    rep[r, R_FREE] += blocks
    _let_go(req, rep, ent, buckets, ids, slot, r, unit)
    rep[r, R_LOW] = rep[r, R_FREE]


# ---------------------------------------------------------------------------- the batch


@hot
def _blocks(tokens: int, size: int) -> Any:
    return (tokens + size - 1) // size


@hot
def _emitted(req: Any, slot: int, steps: int) -> Any:
    """Tokens that ``steps`` steps of this request have emitted."""
    return steps * req[slot, OUTPUT] // req[slot, STEPS]


@hot
def _context(req: Any, slot: int, iteration: int) -> Any:
    """Tokens that the request attends to when it decodes in ``iteration``."""
    return req[slot, TOTAL] + 1 + req[slot, AHEAD] // 2 + iteration - req[slot, JOINED]


@hot
def _rate(req: Any, slot: int) -> Any:
    return (req[slot, OUTPUT] * 65536) // req[slot, STEPS]


@hot
def _bin(gap: int) -> Any:
    """Of a gap between emissions, ns: sixteen bins for each power of two, the exponent and four bits of a double."""
    return (np.float64(max(gap, 1)).view(np.int64) >> 48) - (1023 << 4)


@hot
def _unlink(req: Any, rep: Any, r: int, slot: int) -> None:
    """Out of the list of admitted requests."""
    before, after = req[slot, PREV], req[slot, NEXT]
    if after >= 0:
        req[after, PREV] = before
    else:
        rep[r, R_LAST] = before
    if before >= 0:
        req[before, NEXT] = after
    rep[r, R_HELD] -= 1


@hot
def _join(
    req: Any, rep: Any, ring: Any, grow: Any, r: int, slot: int, iteration: int, size: int
) -> None:
    """Into the decode, from ``iteration`` on."""
    req[slot, STATE], req[slot, READY] = DECODE, 0
    req[slot, JOINED] = iteration
    finish = iteration + req[slot, STEPS] - req[slot, DONE] - 1
    req[slot, FINISH] = finish
    bucket = finish & (ring.shape[1] - 1)
    head = ring[r, bucket]
    req[slot, RING_PREV] = -1
    req[slot, RING_NEXT] = head
    if head >= 0:
        req[head, RING_PREV] = slot
    ring[r, bucket] = slot
    grow[r, (iteration - req[slot, TOTAL] - req[slot, AHEAD]) % size] += 1
    rep[r, R_DECODE] += 1
    rep[r, R_CONTEXT] += _context(req, slot, iteration)
    rep[r, R_RATE] += _rate(req, slot)


@hot
def _leave(
    req: Any, rep: Any, ring: Any, grow: Any, r: int, slot: int, iteration: int, size: int
) -> Any:
    """Out of the decode, before ``iteration``; returns the blocks held."""
    before, after = req[slot, RING_PREV], req[slot, RING_NEXT]
    if before >= 0:
        req[before, RING_NEXT] = after
    else:
        ring[r, req[slot, FINISH] & (ring.shape[1] - 1)] = after
    if after >= 0:
        req[after, RING_PREV] = before
    held = req[slot, TOTAL] + req[slot, AHEAD]
    grow[r, (req[slot, JOINED] - held) % size] -= 1
    rep[r, R_DECODE] -= 1
    rep[r, R_CONTEXT] -= _context(req, slot, iteration)
    rep[r, R_RATE] -= _rate(req, slot)
    return _blocks(held + iteration - req[slot, JOINED], size)


@hot
def _account(
    g: Any, req: Any, rep: Any, xs: Any, pool: Any, win: Any, rowacc: Any, hist: Any, r: int
) -> None:
    """Add the iteration that ends now to its windows (split by time where it spans several), and the gaps between emissions."""
    start, end = rep[r, R_START], rep[r, R_END]
    if rep[r, R_STALLED] == 0:
        p, old = rep[r, R_POOL], rep[r, R_DECODE] - rep[r, R_FRESH]
        slot = rep[r, R_JOINED]
        while slot >= 0:
            hist[p, _bin(end - req[slot, TOKEN])] += 1
            old -= 1
            slot = req[slot, SIBLING]
        if rep[r, R_FRESH] > 0:
            hist[p, _bin(end - start)] += rep[r, R_FRESH]
        if old > 0:
            hist[p, _bin(end - rep[r, R_DECODED])] += old
        rep[r, R_JOINED], rep[r, R_FRESH], rep[r, R_DECODED] = -1, 0, end
    width = g[G_WINDOW_NS]
    if start >= rep[r, R_WINDOW_END]:  # iterations are far shorter than windows: divide rarely
        rep[r, R_WINDOW] = start // width
        rep[r, R_WINDOW_END] = (rep[r, R_WINDOW] + 1) * width
    p = rep[r, R_POOL]
    used = pool[p, P_BLOCKS] - rep[r, R_FREE]
    n = xs.shape[1]
    i = rep[r, R_WINDOW] - g[G_WINDOW_BASE]
    begin, until = start, rep[r, R_WINDOW_END]
    while True:
        part = min(end, until) - begin
        share = part / (end - start)
        win[r, i, W_BUSY_NS] += part
        win[r, i, W_SEQ_NS] += rep[r, R_BATCH] * part
        win[r, i, W_BLOCK_NS] += used * part
        for k in range(n):
            win[r, i, WINDOW_COLUMNS + k] += share * xs[r, k]
        if end <= until:
            break
        begin, until, i = until, until + width, i + 1
    win[r, i, W_ITERATIONS] += 1
    win[r, i, W_GENERATED] += rep[r, R_TOKENS] / 65536.0
    win[r, i, W_PREFILL] += xs[r, X_P]
    win[r, i, W_MOVED] += rep[r, R_MOVED]
    _credit(rep, xs, pool, rowacc, r)


@hot
def _credit(rep: Any, xs: Any, pool: Any, rowacc: Any, r: int) -> None:
    """Add the state to the rows that were the longest of their block."""
    won = rep[r, R_WON]
    row = pool[rep[r, R_POOL], P_ROW_FROM]
    while won > 0:
        if won & 1:
            for k in range(xs.shape[1]):
                rowacc[row, k] += xs[r, k]
        won >>= 1
        row += 1


@hot
def _duration(rep: Any, xs: Any, pool: Any, coef: Any, ends: Any, moving_ns: float, r: int) -> Any:
    """How long an iteration in the replica's state lasts, ns, of which moving takes ``moving_ns``; notes which rows were the
    longest."""
    p = rep[r, R_POOL]
    total_ns = moving_ns
    won = 0
    best = 0.0
    best_row = -1
    for row in range(pool[p, P_ROW_FROM], pool[p, P_ROW_TO]):
        v = 0.0
        for i in range(xs.shape[1]):
            v += coef[row, i] * xs[r, i]
        if best_row < 0 or v > best:
            best = v
            best_row = row
        if ends[row] == 1:
            total_ns += best
            won |= 1 << (best_row - pool[p, P_ROW_FROM])
            best_row = -1
    rep[r, R_WON] = won
    return max(1, int(total_ns + 0.5))


@called
def _coast(
    g: Any,
    rep: Any,
    pool: Any,
    ring: Any,
    grow: Any,
    xs: Any,
    win: Any,
    rowacc: Any,
    hist: Any,
    coef: Any,
    ends: Any,
    r: int,
    horizon: int,
) -> None:
    """End and start iterations of one replica as long as each is its predecessor with longer contexts.

    That is: it only decodes, nobody completes, nobody is preempted, nothing else happens before
    ``horizon``, and it stays in one window. Who waits cannot be admitted: no block and no place came free.
    The result is that of the full path, step by step, at a tenth of its cost.
    """
    p = rep[r, R_POOL]
    size = pool[p, P_BLOCK_SIZE]
    decode = rep[r, R_DECODE]
    latest = min(horizon - 1, min(rep[r, R_WINDOW_END], g[G_WINDOW_LIMIT]))
    mask = ring.shape[1] - 1
    k, phase = rep[r, R_ITER], rep[r, R_PHASE]
    start, end = rep[r, R_START], rep[r, R_END]
    free, context = rep[r, R_FREE], rep[r, R_CONTEXT]
    begin, first = start, k
    contexts, block_ns = 0, 0
    while end <= latest and ring[r, k & mask] < 0:
        following = 0 if phase + 1 == size else phase + 1
        if free < grow[r, following]:
            break
        contexts += context
        block_ns += (pool[p, P_BLOCKS] - free) * (end - start)
        _credit(rep, xs, pool, rowacc, r)
        hist[p, _bin(end - start)] += decode
        for i in range(X_TABLES, xs.shape[1]):
            win[r, rep[r, R_WINDOW] - g[G_WINDOW_BASE], WINDOW_COLUMNS + i] += xs[r, i]
        k += 1
        phase = following
        context += decode
        free -= grow[r, phase]
        xs[r, X_S] = context
        start = end
        end = start + _duration(rep, xs, pool, coef, ends, 0.0, r)
    n = k - first
    if n == 0:
        return
    i = rep[r, R_WINDOW] - g[G_WINDOW_BASE]
    win[r, i, W_ITERATIONS] += n
    win[r, i, W_BUSY_NS] += start - begin
    win[r, i, W_SEQ_NS] += decode * (start - begin)
    win[r, i, W_BLOCK_NS] += block_ns
    win[r, i, W_GENERATED] += n * rep[r, R_TOKENS] / 65536.0
    win[r, i, WINDOW_COLUMNS + X_ONE] += n
    win[r, i, WINDOW_COLUMNS + X_D] += n * decode
    win[r, i, WINDOW_COLUMNS + X_S] += contexts
    rep[r, R_ITER], rep[r, R_PHASE] = k, phase
    rep[r, R_START], rep[r, R_END] = start, end
    rep[r, R_DECODED] = start
    rep[r, R_FREE], rep[r, R_CONTEXT] = free, context
    rep[r, R_LOW] = min(rep[r, R_LOW], free)
    rep[r, R_PEAK] = max(rep[r, R_PEAK], pool[p, P_BLOCKS] - free)
    g[G_NOW] = start


@called
def _end_iteration(
    g: Any,
    req: Any,
    rep: Any,
    pool: Any,
    link: Any,
    edges: Any,
    heap: Any,
    ring: Any,
    grow: Any,
    hist: Any,
    ent: Any,
    buckets: Any,
    ids: Any,
    free: Any,
    out: Any,
    r: int,
) -> None:
    now = g[G_NOW]
    p = rep[r, R_POOL]
    size = pool[p, P_BLOCK_SIZE]
    rep[r, R_END] = NEVER
    done = -1
    if rep[r, R_STALLED] == 0:
        k = rep[r, R_ITER]
        rep[r, R_ITER] = k + 1
        rep[r, R_PHASE] = 0 if rep[r, R_PHASE] + 1 == size else rep[r, R_PHASE] + 1
        rep[r, R_CONTEXT] += rep[r, R_DECODE]
        # Completions are gathered in admission order, linked through SIBLING (free outside the queue).
        slot = ring[r, k & (ring.shape[1] - 1)]
        while slot >= 0:
            following = req[slot, RING_NEXT]
            if (
                req[slot, FINISH] == k
            ):  # others in this bucket finish a whole turn of the ring later
                req[slot, PROGRESS] = _leave(req, rep, ring, grow, r, slot, k + 1, size)
                done = _in_order(req, done, slot)
            slot = following
    slot = rep[r, R_ENDED]
    while slot >= 0:
        following = req[slot, SIBLING]
        if req[slot, FIRST] < 0:
            req[slot, FIRST] = now
        else:
            hist[p, _bin(now - req[slot, TOKEN])] += 1
        req[slot, DONE] += 1
        req[slot, TOKEN] = now
        if req[slot, KEPT] < req[slot, UNITS] and pool[p, P_UNIT] > 0:
            _enter(req, rep, ent, buckets, ids, slot, r, pool[p, P_UNIT])
        if req[slot, DONE] == req[slot, STEPS]:
            req[slot, PROGRESS] = _blocks(req[slot, TOTAL] + req[slot, AHEAD], size)
            done = _in_order(req, done, slot)
        elif pool[p, P_ROLE] == PREFILLS:
            _unlink(req, rep, r, slot)
            req[slot, STATE] = MOVING
            takes = int(link[p, 0] + link[p, 1] * req[slot, TOTAL] + 0.5)
            _heap_push(g, heap, now + takes, req[slot, ROW], slot)
        else:
            _join(req, rep, ring, grow, r, slot, rep[r, R_ITER], size)
            rep[r, R_FRESH] += rep[r, R_STALLED]
        slot = following
    rep[r, R_ENDED] = -1
    rep[r, R_ENDED_LAST] = -1
    while done >= 0:
        following = req[done, SIBLING]
        _unlink(req, rep, r, done)
        _give(req, rep, pool, ent, buckets, ids, done, r, req[done, PROGRESS])
        _over(g, req, edges, heap, free, out, done, now, OK)
        done = following


@called
def _in_order(req: Any, head: int, slot: int) -> Any:
    """Insert into a list sorted by admission number; returns its head."""
    if head < 0 or req[slot, ORDER] < req[head, ORDER]:
        req[slot, SIBLING] = head
        return slot
    at = head
    while req[at, SIBLING] >= 0 and req[req[at, SIBLING], ORDER] < req[slot, ORDER]:
        at = req[at, SIBLING]
    req[slot, SIBLING] = req[at, SIBLING]
    req[at, SIBLING] = slot
    return head


@hot
def _chunk(req: Any, rep: Any, xs: Any, r: int, slot: int, budget: int) -> Any:
    """The prefill takes its share of the budget; returns what is left of it."""
    rest = req[slot, TOTAL] - req[slot, PROGRESS]
    m = min(rest, budget)
    a = req[slot, PROGRESS]
    req[slot, PROGRESS] += m
    xs[r, X_P] += m
    xs[r, X_Q] += a * m + m * (m + 1) // 2
    xs[r, X_C] += a + m
    rep[r, R_BATCH] += 1
    if m < rest:
        rep[r, R_PARTIAL] = slot
        return 0
    rep[r, R_PARTIAL] = -1
    req[slot, SIBLING] = -1
    if rep[r, R_ENDED] < 0:
        rep[r, R_ENDED] = slot
    else:
        req[rep[r, R_ENDED_LAST], SIBLING] = slot
    rep[r, R_ENDED_LAST] = slot
    # Tokens this prefill will emit: one step's worth.
    rep[r, R_TOKENS] += _rate(req, slot)
    return budget - m


@hot
def _admit(
    now: int, slot: int, r: int, total: int, ahead: int, blocks: int, g: Any, req: Any, rep: Any
) -> None:
    """The head of the queue gets its blocks, and a place among those admitted."""
    rep[r, R_QUEUE] = _pop(req, slot)
    rep[r, R_WAITING] -= 1
    rep[r, R_FREE] -= blocks
    rep[r, R_LOW] = min(rep[r, R_LOW], rep[r, R_FREE])
    req[slot, TOTAL] = total
    req[slot, AHEAD] = ahead
    req[slot, ORDER] = g[G_ADMITTED]
    g[G_ADMITTED] += 1
    if req[slot, SCHEDULED] < 0:
        req[slot, SCHEDULED] = now
    before = rep[r, R_LAST]
    req[slot, PREV] = before
    req[slot, NEXT] = -1
    if before >= 0:
        req[before, NEXT] = slot
    rep[r, R_LAST] = slot
    rep[r, R_HELD] += 1


@hot
def _fits(rep: Any, pool: Any, r: int, blocks: int) -> Any:
    spare = pool[rep[r, R_POOL], P_WATERMARK] if rep[r, R_HELD] > 0 else 0
    return rep[r, R_FREE] - blocks >= spare


@called
def _prefill(
    now: int,
    slot: int,
    r: int,
    budget: int,
    more: bool,
    g: Any,
    req: Any,
    rep: Any,
    pool: Any,
    xs: Any,
    mem: Any,
    par: Any,
    ent: Any,
    buckets: Any,
    ids: Any,
    reuse: Any,
) -> Any:
    """Admit the head of the queue and begin its prefill; returns what is left of the budget, -1 where it is not admitted: for
    want of blocks or, whole prompts going first, of budget where there are ``more`` in the iteration."""
    p = rep[r, R_POOL]
    size, unit = pool[p, P_BLOCK_SIZE], pool[p, P_UNIT]
    emitted = _emitted(req, slot, req[slot, DONE])
    total = req[slot, INPUT] + emitted
    ahead = req[slot, OUTPUT] - emitted - (req[slot, STEPS] - req[slot, DONE])
    if pool[p, P_ROLE] == PREFILLS:
        ahead = 0
    blocks = _blocks(total + ahead, size)
    known, shared = 0, 0
    if unit > 0 and req[slot, UNITS] > 0:
        if rep[r, R_REFUSED] == slot and rep[r, R_FREE] <= rep[r, R_REFUSED_AT]:
            return -1
        known, shared = _known(req, rep, ent, buckets, ids, slot, r, unit)
        blocks -= shared * unit
    if not _fits(rep, pool, r, blocks):
        rep[r, R_REFUSED], rep[r, R_REFUSED_AT] = slot, rep[r, R_FREE]
        return -1
    cached = min(known * unit * size, total - 1)
    if more and total - cached > budget:
        return -1
    _admit(now, slot, r, total, ahead, blocks, g, req, rep)
    rep[r, R_REFUSED] = -1
    if known > 0:
        _hold(req, rep, ent, buckets, ids, slot, r, known)
        _evict(rep, ent, buckets, r, unit)
    req[slot, STATE] = PREFILL
    cached = max(cached, min(reuse(now, slot, r, req, rep, mem, par), total - 1))
    req[slot, PROGRESS] = cached
    if pool[p, P_CHUNKED] == 0:  # the first is taken however long it is
        budget = max(budget, total - cached)
    rep[r, R_CACHED] += cached
    return _chunk(req, rep, xs, r, slot, budget)


@called
def _resume(
    now: int,
    slot: int,
    r: int,
    g: Any,
    req: Any,
    rep: Any,
    pool: Any,
    ring: Any,
    grow: Any,
) -> Any:
    """Admit the head of the queue, whose keys and values come with it, to this iteration's decode; False where it finds no
    blocks."""
    p = rep[r, R_POOL]
    size = pool[p, P_BLOCK_SIZE]
    emitted = _emitted(req, slot, req[slot, DONE])
    total = req[slot, INPUT] + emitted - 1
    ahead = req[slot, OUTPUT] - emitted - (req[slot, STEPS] - req[slot, DONE])
    blocks = _blocks(total + ahead + 1, size)  # this iteration's growth is over
    if not _fits(rep, pool, r, blocks):
        return False
    _admit(now, slot, r, total, ahead, blocks, g, req, rep)
    if req[slot, READY] == SWAPPED:
        rep[r, R_MOVED] += total
    _join(req, rep, ring, grow, r, slot, rep[r, R_ITER], size)
    req[slot, SIBLING] = rep[r, R_JOINED]
    rep[r, R_JOINED] = slot
    rep[r, R_BATCH] += 1
    return True


@called
def _arrive(
    g: Any,
    req: Any,
    rep: Any,
    pool: Any,
    edges: Any,
    heap: Any,
    free: Any,
    out: Any,
    slot: int,
    r: int,
) -> Any:
    """The request comes to replica ``r``. Returns whether it is to wait there; else it was rejected."""
    p = rep[r, R_POOL]
    now = g[G_NOW]
    req[slot, REPLICA] = r
    tokens = (
        req[slot, INPUT]
        if pool[p, P_ROLE] == PREFILLS
        else req[slot, INPUT] + req[slot, OUTPUT] - 1
    )
    if req[slot, INPUT] + req[slot, OUTPUT] > pool[p, P_MAX_CONTEXT]:
        _over(g, req, edges, heap, free, out, slot, now, REJECTED_CONTEXT)
        return False
    if _blocks(tokens, pool[p, P_BLOCK_SIZE]) > pool[p, P_BLOCKS]:
        _over(g, req, edges, heap, free, out, slot, now, REJECTED_MEMORY)
        return False
    return True


@called
def _preempt(
    req: Any, rep: Any, pool: Any, ring: Any, grow: Any, ent: Any, buckets: Any, ids: Any, r: int
) -> Any:
    """Take the request that was admitted last off the replica; returns its slot."""
    p = rep[r, R_POOL]
    size = pool[p, P_BLOCK_SIZE]
    k = rep[r, R_ITER]
    victim = rep[r, R_LAST]
    if req[victim, STATE] == DECODE:
        req[victim, DONE] += k - req[victim, JOINED]
        if req[victim, JOINED] < k:
            req[victim, TOKEN] = rep[r, R_DECODED]
        else:
            rep[r, R_FRESH] -= rep[r, R_FRESH] > 0
        held = _leave(req, rep, ring, grow, r, victim, k, size)
        if pool[p, P_SWAPS] == 1:
            req[victim, READY] = SWAPPED
            rep[r, R_MOVED] += req[victim, INPUT] + _emitted(req, victim, req[victim, DONE]) - 1
    else:
        held = _blocks(req[victim, TOTAL] + req[victim, AHEAD], size)
        rep[r, R_PARTIAL] = -1
    _give(req, rep, pool, ent, buckets, ids, victim, r, held)
    _unlink(req, rep, r, victim)
    req[victim, PREEMPTED] += 1
    rep[r, R_PREEMPTIONS] += 1
    return victim


def advance(  # type: ignore[no-untyped-def]
    g,
    req,
    rep,
    pool,
    edges,
    heap,
    ring,
    grow,
    free,
    fed,
    out,
    ent,
    buckets,
    ids,
    coef,
    ends,
    tables,
    link,
    xs,
    win,
    rowacc,
    hist,
    mem,
    par,
    route,
    rank,
    reuse,
    tick,
):
    """Process all instants before g[G_LIMIT]; returns PAUSED, or NEEDS_WINDOWS when ``win`` is too short.

    ent [replicas, entries], buckets [replicas, buckets] (first entry of each) and ids (of the prompts' units) are the prefix
    cache's; coef [rows, x] in ns, ends [rows] (1 ends a block), tables [pools, tables, tokens], link [pools, 3] (ns that
    handing a request over takes, ns for each of its tokens, and ns for each token moved to the host or from it), xs [replicas, x], win [replicas, windows, columns], rowacc
    [rows, x] (sum of x over the iterations in which the row was the longest of its block), hist [pools, bins] (gaps between emissions).
    """
    replicas = rep.shape[0]
    n_x = xs.shape[1]
    while True:
        # -- the next instant
        now = NEVER
        soonest = -1
        others = NEVER  # the first event that is not the end of soonest's iteration
        for r in range(replicas):
            if rep[r, R_END] < now:
                others = now
                now = rep[r, R_END]
                soonest = r
            else:
                others = min(others, rep[r, R_END])
        if g[G_FED] < g[G_FED_TO] and g[G_FLIGHT] < g[G_CONCURRENCY]:
            others = min(others, max(req[fed[g[G_FED]], ARRIVAL], g[G_NOW]))
        if g[G_HEAP] > 0:
            others = min(others, heap[0, 0])
        if soonest >= 0 and rep[soonest, R_COASTS] == 1 and now < others:
            horizon = min(min(others, g[G_TICK]), g[G_LIMIT])
            _coast(g, rep, pool, ring, grow, xs, win, rowacc, hist, coef, ends, soonest, horizon)
            now = rep[soonest, R_END]
        now = min(now, others)
        if now == NEVER:  # tick alone does not keep the clock running
            return PAUSED
        now = min(now, g[G_TICK])
        if now >= g[G_LIMIT]:
            return PAUSED
        happened = 0
        for r in range(replicas):
            if rep[r, R_END] == now:
                happened += 1
                if now > g[G_WINDOW_LIMIT]:
                    g[G_NEEDED] = (now - 1) // g[G_WINDOW_NS]
                    return NEEDS_WINDOWS
        g[G_NOW] = now
        # -- 1. iterations that end
        if happened > 0:
            for r in range(replicas):
                if rep[r, R_END] == now:
                    _account(g, req, rep, xs, pool, win, rowacc, hist, r)
                    _end_iteration(
                        g,
                        req,
                        rep,
                        pool,
                        link,
                        edges,
                        heap,
                        ring,
                        grow,
                        hist,
                        ent,
                        buckets,
                        ids,
                        free,
                        out,
                        r,
                    )
        # -- 2. tick
        if g[G_TICK] == now:
            g[G_TICK] = max(now + 1, tick(now, -1, -1, req, rep, mem, par))
        # -- 3. releases
        while True:
            slot = -1
            if (
                g[G_FED] < g[G_FED_TO]
                and g[G_FLIGHT] < g[G_CONCURRENCY]
                and req[fed[g[G_FED]], ARRIVAL] <= now
            ):
                slot = fed[g[G_FED]]
            if g[G_HEAP] > 0 and heap[0, 0] == now and (slot < 0 or heap[0, 1] < req[slot, ROW]):
                slot = _heap_pop(g, heap)
            elif slot >= 0:
                g[G_FED] += 1
            else:
                break
            happened += 1
            if req[slot, STATE] == MOVING:
                r = req[slot, REPLICA]
                held = _blocks(
                    req[slot, TOTAL] + req[slot, AHEAD], pool[rep[r, R_POOL], P_BLOCK_SIZE]
                )
                _give(req, rep, pool, ent, buckets, ids, slot, r, held)
                rep[r, R_COASTS] = 0
                req[slot, READY] = MOVED
            else:
                req[slot, RELEASE] = now
                g[G_FLIGHT] += 1
            r = route(now, slot, -1, req, rep, mem, par)
            if _arrive(g, req, rep, pool, edges, heap, free, out, slot, r):
                req[slot, KEY] = rank(now, slot, r, req, rep, mem, par)
                _enqueue(req, rep, r, slot)
        if happened > 1:
            g[G_TIES] += 1
        # -- 4. idle replicas start
        for r in range(replicas):
            if rep[r, R_END] != NEVER or (rep[r, R_HELD] == 0 and rep[r, R_QUEUE] < 0):
                continue
            p = rep[r, R_POOL]
            phase = rep[r, R_PHASE]
            for i in range(n_x):
                xs[r, i] = 0.0
            rep[r, R_BATCH], rep[r, R_TOKENS], rep[r, R_MOVED] = 0, 0, 0
            chunked = pool[p, P_CHUNKED] == 1
            # prefills first: whole prompts, and who decodes waits
            stalled = False
            if not chunked:
                budget = pool[p, P_MAX_BATCHED]
                while rep[r, R_QUEUE] >= 0 and rep[r, R_HELD] < pool[p, P_MAX_SEQS]:
                    slot = rep[r, R_QUEUE]
                    if req[slot, READY] > 0:
                        break
                    rest = _prefill(
                        now,
                        slot,
                        r,
                        budget,
                        stalled,
                        g,
                        req,
                        rep,
                        pool,
                        xs,
                        mem,
                        par,
                        ent,
                        buckets,
                        ids,
                        reuse,
                    )
                    if rest < 0:
                        break
                    budget = rest
                    stalled = True
            # growth, by preempting from the youngest
            preempted = False
            joined = 0
            if not stalled:
                while rep[r, R_FREE] < grow[r, phase]:
                    victim = _preempt(req, rep, pool, ring, grow, ent, buckets, ids, r)
                    preempted = True
                    req[victim, KEY] = rank(now, victim, r, req, rep, mem, par)
                    _enqueue(req, rep, r, victim)
                rep[r, R_FREE] -= grow[r, phase]
                rep[r, R_LOW] = min(rep[r, R_LOW], rep[r, R_FREE])
                rep[r, R_BATCH] += rep[r, R_DECODE]
                budget = pool[p, P_MAX_BATCHED] - rep[r, R_DECODE]
                if rep[r, R_PARTIAL] >= 0 and budget > 0:
                    budget = _chunk(req, rep, xs, r, rep[r, R_PARTIAL], budget)
                while (
                    not preempted
                    and budget > 0
                    and rep[r, R_PARTIAL] < 0
                    and rep[r, R_QUEUE] >= 0
                    and rep[r, R_HELD] < pool[p, P_MAX_SEQS]
                ):
                    slot = rep[r, R_QUEUE]
                    if req[slot, READY] > 0:
                        if not _resume(now, slot, r, g, req, rep, pool, ring, grow):
                            break
                        budget -= 1
                        joined += 1
                        continue
                    if not chunked:
                        break
                    budget = _prefill(
                        now,
                        slot,
                        r,
                        budget,
                        False,
                        g,
                        req,
                        rep,
                        pool,
                        xs,
                        mem,
                        par,
                        ent,
                        buckets,
                        ids,
                        reuse,
                    )
                    if budget < 0:
                        break
                rep[r, R_TOKENS] += rep[r, R_RATE]
            if not stalled and rep[r, R_DECODE] == 0 and xs[r, X_P] == 0.0:
                continue  # blocks that are being handed over are what the head waits for
            # its length
            decode = 0 if stalled else rep[r, R_DECODE]
            xs[r, X_ONE] = 1.0
            xs[r, X_D] = decode
            xs[r, X_S] = 0 if stalled else rep[r, R_CONTEXT]
            n = min(decode + int(xs[r, X_P]), tables.shape[2] - 1)
            for i in range(X_TABLES, n_x):
                xs[r, i] = tables[p, i - X_TABLES, n]
            rep[r, R_START] = now
            rep[r, R_STALLED] = 1 if stalled else 0
            rep[r, R_END] = now + _duration(
                rep, xs, pool, coef, ends, rep[r, R_MOVED] * link[p, 2], r
            )
            # With D >= the token budget a prefill may be waiting: it stays so until somebody leaves.
            even = rep[r, R_FRESH] == 0 and rep[r, R_DECODED] == now
            rep[r, R_COASTS] = (
                1 if xs[r, X_P] == 0.0 and not preempted and joined == 0 and even else 0
            )
            used = pool[p, P_BLOCKS] - rep[r, R_FREE]
            rep[r, R_PEAK] = max(rep[r, R_PEAK], used)

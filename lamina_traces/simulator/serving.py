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

**Release.** A request is released at max(arrival, end of its last parent + delay); with a limit of ``concurrency`` one without
parents not before fewer than so many are released and not over, in the order of arrivals. At its release
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

*Prefills first* (not ``chunked``): an iteration admits heads of the queue for as long as their whole prompts fit the token budget, the
first whatever its length, and sequences and blocks remain. If there is one, the iteration computes these prompts alone, and who
decodes waits. Else it decodes as above, without 2 and 3.

At its end each request in decode has emitted one step; a request whose prefill ended emits its first
step (or, recomputed, its next one) and joins the decode. A request ends with its last step; the last
token is never written to the KV cache, so n + output − 1 tokens is the final footprint.

**The prefix cache.** Prompts are cut into units of ``unit`` blocks, each with an id for its content and all before it. A unit is
known from the start of the iteration that computes its last token. Who is admitted needs no computing for its leading known units (at
most all tokens but one), and takes no blocks for those of them that others hold; it holds them all, and those that it
computes, up to one that is known already. When a request gives its blocks back, those of units that others hold stay
taken; units that nobody holds any more stay known, the deepest of a request first to go, then the longest
unheld, for as long as all of them together fit into the free blocks. A head that found no blocks is looked at again when more are free.

**Swapping.** With ``swaps`` a decoding request that is preempted takes its keys and values to the host and, admitted again, back: it
needs no prefill and decodes in the iteration that admits it, for one token of the budget. Each token moved makes
the iteration longer by ``link[2]`` ns.

**Prefill and decode pools.** A request's prompt, and its first token, come from a replica of role PREFILLS, where it takes blocks for
its prompt alone. After that iteration its keys and values travel for ``link[0]`` + ``link[1]`` · tokens ns, rounded half up, and
keep their blocks meanwhile; when they are there, ``route`` names the replica of role DECODES, where it waits as one that needs no
prefill. What fits on the one and not on the other is rejected there.

**Gaps.** From one emission of a request to its next: in hist, sixteen bins for each power of two.

**Steps and tokens.** When a request needs fewer steps than tokens (speculative decoding), j steps have
emitted ⌊j·output/steps⌋ tokens. The surplus over one token per step still to come is reserved in blocks
at admission, and half of it is counted in its context from the start: exact in the end and in the mean,
and O(1) per iteration. With steps = output this changes nothing.

**O(1) per iteration.** Completions wait in a ring indexed by their finishing iteration; block growth is
a counter per residue of the iteration number (a request grows every ``block_size`` iterations); the
contexts are one running sum; the victims are a linked list in admission order; the queue is a line of those that came in their
order, beside a pairing heap of the others, both linked through the requests; a tree holds which replica's iteration ends
first. Where an iteration can only be followed by its like (all decode, nobody ends, nothing arrives), a shorter loop goes on
to the same nanosecond (``_coast``).

**Memory.** A request without parents and children takes a record (``REQUEST``, 200 bytes) from its release to its end, and comes
from a row of its chunk (fed). Others have theirs from the chunk on, and keep it until their last child is known.

**Policies** are four functions of one signature (``POLICY``), passed as typed first-class functions:
``(now, slot, replica, req, rep, mem, par) → int64``. ``route`` returns the replica, ``rank`` a key (lower
first), ``reuse`` a number of tokens, ``tick`` the next instant at which it wants to be called (``NEVER``
for no more). ``req`` (records ``REQUEST``) is to be read, ``rep`` (records ``REPLICA``)
too; ``mem`` (int64) and ``par`` (float64) are the policies' own state and parameters, theirs to write:
mem[0] is the round-robin counter, mem[16:] is free for others (hash tables of a prefix cache, a random
state).

**What a call costs.** numba hands an array over in seven words or more, a record in one: what is called for every iteration is
inlined (``hot``), functions take the records of their replica and pool, and stock policies that would say the
same for every request are not called.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numba import from_dtype, types

from ..compiled import called, hot

NEVER = 2**63 - 1
"""the instant after all others."""

# A row of req: a request that the clock knows, in three lines of the cache (what the batch asks, what the queue asks, the
# rest). Instants and times are ns; -1 is "none" for links and instants. What is read before a release and what is
# written after it share a field.
REQUEST = np.dtype(
    [
        ("joined", np.int64),  # first iteration in decode
        ("order", np.int64),  # admission number
        ("input", np.int32),
        ("output", np.int32),
        ("steps", np.int32),
        ("done", np.int32),  # steps emitted before its present stay in the batch
        ("total", np.int32),  # tokens to hold after prefill
        ("ahead", np.int32),  # tokens reserved beyond one per step
        ("prev", np.int32),  # admitted before, on this replica
        (
            "next",
            np.int32,
        ),  # admitted after; before that: the next in a line, first child in a heap
        ("ring_prev", np.int32),
        ("ring_next", np.int32),
        ("sibling", np.int32),  # in a heap: next sibling; in prefill: next one whose prefill ended
        ("state", np.int32),
        ("ready", np.int32),  # its keys and values come with it: SWAPPED, MOVED, 0 neither
        ("row", np.int64),  # row_id
        ("pos", np.int64),  # position in the workload, over all chunks
        ("arrival", np.int64),
        ("release", np.int64),
        ("key", np.int64),  # delay after the last parent; then when it is due; then its rank
        ("scheduled", np.int64),
        ("first", np.int64),
        (
            "last",
            np.int64,
        ),  # end of a parent; then of its emissions before its stay in the decode; then its end
        ("deadline", np.int64),  # when its first token is due, after its release; NEVER: at no time
        ("head", np.int64),  # what its prompt begins with; -1: unknown
        ("ids", np.int64),  # where the ids of its prompt's full units begin in ids
        ("units", np.int32),  # how many there are
        ("kept", np.int32),  # of them, from the first on, entries of the cache that it holds
        ("progress", np.int32),  # of total computed; at its end: blocks held
        ("replica", np.int32),
        ("preempted", np.int32),  # how often
        ("priority", np.int32),
        ("session", np.int32),  # what keeps requests together on a replica; -1: nothing
        ("pending", np.int32),  # parents not yet ended
        ("unseen", np.int32),  # children in chunks that have not come yet
        ("edge", np.int32),  # first edge to a child
    ],
    align=True,
)

# ready
SWAPPED, MOVED = 1, 2

# state
PLANNED, WAITING, PREFILL, DECODE, OVER, MOVING = 0, 1, 2, 3, 4, 5

# A row of rep: a replica. Instants and times are ns.
REPLICA = np.dtype(
    [
        (name, np.int64)
        for name in (
            "takes",  # NEW requests, those HANDED over, or none
            "waiting",  # how many wait
            "held",  # admitted requests
            "free",  # free blocks
            "blocks",  # all its blocks
            "end",  # when its iteration ends, NEVER when idle
            "start",
            "iter",  # number of the current (or next) iteration
            "phase",  # of it, modulo the block size
            "decode",  # D
            "context",  # S
            "rate",  # tokens per step summed over D, in 1/65536
            "tokens",  # tokens emitted by this iteration, in 1/65536
            "batch",  # sequences taking part in this iteration
            "coasts",  # this iteration may be followed by others like it
            "stalled",  # this iteration only prefills, and who decodes waits
            "decoded",  # when the last iteration ended in which it decoded
            "fresh",  # how many have joined the decode in stalled iterations since
            "joined",  # first request whose keys and values came with it, of those that joined in this iteration
            "last",  # admitted last
            "partial",  # the request whose prefill is unfinished
            "ended",  # first request whose prefill ends in this iteration
            "ended_last",
            "queue",  # who is next of those that wait
            "line",  # first of those that came in their order
            "line_last",
            "heap",  # root of the others
            "pool",
            "window",  # a window number that start lay in
            "window_end",  # and the end of that window
            "won",  # bit mask of the rows that were the longest of their block
            "moved",  # tokens whose keys and values this iteration moves to the host or from it
            "peak",  # most blocks ever in use
            "preemptions",
            "todo",  # something happened to it at this instant
            "since",  # since when it is provisioned, NEVER where it is not
            "paid",  # for how long it was provisioned before
            "loaded",  # when it takes requests that is being loaded, NEVER where it is not
            "low",  # fewest free blocks since the cache was last looked at
            "evictable",  # entries of the cache that no request holds
            "oldest",  # of them, the first to go
            "newest",
            "entry",  # first unused entry
            "refused",  # the head of the queue that found no blocks
            "refused_at",  # and how many were free
            "cached",  # tokens of prompts that needed no computing
        )
    ]
)

# A row of pool.
POOL = np.dtype(
    [
        (name, np.int64)
        for name in (
            "blocks",
            "block_size",
            "watermark",
            "max_seqs",
            "max_batched",
            "max_context",
            "row_from",  # its rows of coef
            "row_to",
            "chunked",  # 0: prefills go first, alone and whole
            "swaps",  # preempts by moving to the host
            "role",  # BOTH, PREFILLS or DECODES
            "unit",  # blocks of a unit of the prefix cache, 0: there is none
        )
    ]
)

# Columns of ent: one row per entry of a replica's prefix cache (int64).
E_ID = 0
E_CHAIN = 1  # next in its bucket; unused: next unused
E_HELD = 2  # by how many requests
E_OLDER = 3
E_NEWER = 4
ENT_COLUMNS = 5

# takes
NEW, HANDED = 1, 2

# role
BOTH, PREFILLS, DECODES = 0, 1, 2

# Entries of g, the scalars (int64).
G_NOW = 0
G_LIMIT = 1  # instants at or after this are not processed yet
G_LINE = 2  # first of those without parents that are known and not yet released
G_LINE_LAST = 3
G_HEAP = 4  # root of the heap of those that are due otherwise
G_OUT = 5  # rows written to out
G_FREE = 6  # first free slot
G_ROOM = 7  # how many there are
G_EDGE_FREE = 8  # first free edge
G_WINDOW_NS = 9
G_WINDOW_BASE = 10  # window number of win[:, 0]
G_NEEDED = 11  # window number that did not fit
G_TICK = 12  # next call of tick
G_ADMITTED = 13  # admission numbers given
G_TIES = 14  # instants with more than one iteration end or release
G_HAPPENED = 15  # iteration ends and releases of this instant
G_DEPENDENT = 16  # releases that waited for a parent
G_WINDOW_LIMIT = 17  # end of the last window that fits into win
G_CONCURRENCY = 18  # most requests in flight when one without parents is released
G_FLIGHT = 19  # released and not over
G_TODO = 20  # entries of todo
G_POS = 21  # position in the workload of the first row of fed
G_CURSOR = 22  # first row of fed that is not known yet
# What the policies would say, without a call: a call hands each array over in seven words or more.
G_ONE = 23  # there is one replica, and route is a stock one
G_FCFS = 24  # rank is rank_fcfs
G_NO_REUSE = 25  # reuse is reuse_none
G_SIZE = 26

# Columns of fed, the rows of a chunk as they come (int64).
F_ROW, F_ARRIVAL, F_INPUT, F_OUTPUT, F_STEPS, F_DELAY, F_PRIORITY = 0, 1, 2, 3, 4, 5, 6
F_SESSION, F_HEAD, F_DEADLINE, F_CHILDREN, F_IDS, F_UNITS = 7, 8, 9, 10, 11, 12
FED_COLUMNS = 13

# Columns of win: accumulators of one replica and window (float64), then one per entry of x.
W_ITERATIONS, W_BUSY_NS, W_GENERATED, W_PREFILL, W_SEQ_NS, W_BLOCK_NS, W_MOVED = 0, 1, 2, 3, 4, 5, 6
WINDOW_COLUMNS = 7

# The state x.
X_ONE, X_D, X_P, X_Q, X_S, X_C, X_TABLES = 0, 1, 2, 3, 4, 5, 6

# What advance returns.
PAUSED, NEEDS_WINDOWS, FULL, LOST = 0, 1, 2, 3

# Status of a finished row.
OK, REJECTED_MEMORY, REJECTED_CONTEXT, UNFINISHED = 0, 1, 2, 3

# Rows of out: a column for each that is over (int64).
O_POS, O_ROW, O_ARRIVAL, O_RELEASE, O_SCHEDULED = 0, 1, 2, 3, 4
O_FIRST, O_LAST, O_REPLICA, O_PREEMPTIONS, O_STATUS = 5, 6, 7, 8, 9
OUT_COLUMNS = 10

_I1 = types.Array(types.int64, 1, "C")
_I2 = types.Array(types.int64, 2, "C")
_I3 = types.Array(types.int64, 3, "C")
_N2 = types.Array(types.int32, 2, "C")
_F1 = types.Array(types.float64, 1, "C")
_F2 = types.Array(types.float64, 2, "C")
_F3 = types.Array(types.float64, 3, "C")
_REQ, _REP, _POOL = (types.Array(from_dtype(t), 1, "C") for t in (REQUEST, REPLICA, POOL))

POLICY = types.int64(types.int64, types.int64, types.int64, _REQ, _REP, _I1, _F1)
_POLICY_TYPE = types.FunctionType(POLICY)

ADVANCE = types.int64(
    *(_I1, _I2, _REQ, _REP, _POOL, _I2, _I1, _I1, _N2, _I2, _I2),  # g … out
    *(_I3, _I2, _I1),  # ent, buckets, ids
    *(_F2, _I1, _F3, _F2, _F2, _F3, _F2, _I2, _I1, _F1),  # coef … par
    *(_POLICY_TYPE, _POLICY_TYPE, _POLICY_TYPE, _POLICY_TYPE),
)
FEED = types.void(_I1, _REQ, _I2, _I1)
PLACE = types.void(_I2, types.Array(types.int64, 2, "A"), types.int64)
LINK = types.void(_I1, _REQ, _I2, _I1, _I1, _I1)


# ---------------------------------------------------------------------------- policies


@hot
def _takes(slot: int, r: int, req: Any, rep: Any) -> Any:
    """May the request go to the replica?"""
    return rep[r].takes & (HANDED if req[slot].state == MOVING else NEW) != 0


@hot
def _load(rep: Any, r: int) -> Any:
    """Requests that wait or are admitted."""
    return rep[r].waiting + rep[r].held


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
        mine = (rep[r].blocks - rep[r].free) * rep[best].blocks
        least = (rep[best].blocks - rep[best].free) * rep[r].blocks
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
    if req[slot].session < 0:
        return _lightest(slot, req, rep)
    return _next(slot, _mixed(req[slot].session) % rep.shape[0], req, rep)


def route_prefix_affinity(now, slot, replica, req, rep, mem, par):  # type: ignore[no-untyped-def] # noqa: ARG001
    """Requests that begin alike to one replica, named by a hash of the first block, or to the first after it that has no more
    than 5/4 of its share of the requests (bounded loads; Mirrokni, Thorup, Zadimoghaddam 2018)."""
    if req[slot].head < 0:
        return _lightest(slot, req, rep)
    n, total, some = rep.shape[0], 0, 0
    for r in range(n):
        if _takes(slot, r, req, rep):
            total += _load(rep, r)
            some += 1
    r = _next(slot, _mixed(req[slot].head) % n, req, rep)
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
    return req[slot].priority


def rank_least_slack(now, slot, replica, req, rep, mem, par):  # type: ignore[no-untyped-def] # noqa: ARG001
    """By when its prefill must begin at the latest: its deadline less par[0] ns for each token of its prompt. What is to spare
    shrinks for all alike, so the order stays."""
    if req[slot].deadline == NEVER:
        return NEVER
    return req[slot].release + req[slot].deadline - int(par[0] * req[slot].input)


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
        if rep[r].loaded <= now:
            rep[r].takes, rep[r].loaded = NEW, NEVER
        if rep[r].takes != 0 or rep[r].loaded != NEVER:
            on += 1
        elif rep[r].since != NEVER and _load(rep, r) == 0:
            rep[r].paid += now - rep[r].since
            rep[r].since = NEVER
    due = NEVER
    if mem[2] <= now:
        mem[2] = now + int(par[1])
        wanted = min(max(math.ceil(load / par[2]), int(par[3])), n)
        for r in range(n):  # who is being emptied is taken back before others are loaded
            if (
                on < wanted
                and rep[r].since != NEVER
                and rep[r].takes == 0
                and rep[r].loaded == NEVER
            ):
                rep[r].takes = NEW
                on += 1
        for r in range(n):
            if on < wanted and rep[r].since == NEVER:
                rep[r].since, rep[r].loaded = now, now + int(par[4])
                on += 1
        for r in range(n - 1, -1, -1):
            if on > wanted and (rep[r].takes != 0 or rep[r].loaded != NEVER):
                rep[r].takes, rep[r].loaded = 0, NEVER
                on -= 1
    for r in range(n):
        due = min(due, rep[r].loaded)
    return min(due, mem[2])


def tick_never(now, slot, replica, req, rep, mem, par):  # type: ignore[no-untyped-def] # noqa: ARG001
    """No periodic control."""
    return NEVER


# ---------------------------------------------------------------------------- heaps and the waiting queue


@hot
def _before(req: Any, a: int, b: int, waiting: int) -> Any:
    """Does ``a`` come before ``b``, in the queue or (``waiting`` 0) among those that are due?"""
    if req[a].key != req[b].key:
        return req[a].key < req[b].key
    if waiting and req[a].release != req[b].release:
        return req[a].release < req[b].release
    return req[a].row < req[b].row


@hot
def _meld(req: Any, a: int, b: int, waiting: int) -> Any:
    """Two pairing heaps into one; either may be -1. Both roots have no sibling."""
    if a < 0:
        return b
    if b < 0:
        return a
    if _before(req, b, a, waiting):
        a, b = b, a
    req[b].sibling = req[a].next
    req[a].next = b
    return a


@called
def _pop(req: Any, root: int, waiting: int) -> Any:
    """Remove the root; returns the new root. Pairs from left to right, then melds from right to left."""
    paired = -1
    child = req[root].next
    while child >= 0:
        a = child
        b = req[a].sibling
        child = req[b].sibling if b >= 0 else -1
        req[a].sibling = -1
        if b >= 0:
            req[b].sibling = -1
        m = _meld(req, a, b, waiting)
        req[m].sibling = paired
        paired = m
    top = -1
    while paired >= 0:
        following = req[paired].sibling
        req[paired].sibling = -1
        top = _meld(req, top, paired, waiting)
        paired = following
    return top


@called
def _enqueue(req: Any, me: Any, slot: int) -> None:
    """Into the queue: a line of those that came in their order, as all do under FCFS, and a heap of the others."""
    req[slot].state = WAITING
    req[slot].next = -1
    if me.line < 0:
        me.line = me.line_last = slot
    elif _before(req, me.line_last, slot, 1):
        req[me.line_last].next = slot
        me.line_last = slot
    else:
        req[slot].sibling = -1
        me.heap = _meld(req, me.heap, slot, 1)
    if me.queue < 0 or _before(req, slot, me.queue, 1):
        me.queue = slot
    me.waiting += 1
    me.coasts = 0  # who comes may be admitted at the next start


@called
def _dequeue(req: Any, me: Any) -> None:
    """The head leaves the queue."""
    slot = me.queue
    if slot == me.line:
        me.line = req[slot].next
    else:
        me.heap = _pop(req, slot, 1)
    a, b = me.line, me.heap
    me.queue = b if a < 0 or (b >= 0 and _before(req, b, a, 1)) else a
    me.waiting -= 1


# ---------------------------------------------------------------------------- the next end of an iteration


@hot
def _sooner(rep: Any, a: int, b: int) -> Any:
    return a if rep[a].end < rep[b].end or (rep[a].end == rep[b].end and a < b) else b


@hot
def _set_end(rep: Any, tree: Any, r: int, when: int) -> None:
    """The replica's iteration ends ``when``: tree[1] is the replica whose does first, the lowest index of equals; tree[replicas
    + r] is r, and each node the sooner of its two children."""
    rep[r].end = when
    node = (rep.shape[0] + r) >> 1
    while node > 0:
        tree[node] = _sooner(rep, tree[2 * node], tree[2 * node + 1])
        node >>= 1


@hot
def _second_end(rep: Any, tree: Any, r: int) -> Any:
    """When the first iteration of another replica ends, NEVER where none does."""
    soonest = NEVER
    node = rep.shape[0] + r
    while node > 1:
        soonest = min(soonest, rep[tree[node ^ 1]].end)
        node >>= 1
    return soonest


@hot
def _touch(g: Any, me: Any, todo: Any, r: int) -> None:
    """The replica may start an iteration at this instant: into todo, in the order of the index."""
    if me.todo == 1:
        return
    me.todo = 1
    i = g[G_TODO]
    g[G_TODO] += 1
    while i > 0 and todo[i - 1] > r:
        todo[i] = todo[i - 1]
        i -= 1
    todo[i] = r


# ---------------------------------------------------------------------------- releases


@called
def _due(g: Any, req: Any, slot: int, when: int) -> None:
    """The request is released, or has been handed over, ``when``."""
    req[slot].key = when
    req[slot].next = -1
    req[slot].sibling = -1
    g[G_HEAP] = _meld(req, g[G_HEAP], slot, 0)


@called
def _plan_release(g: Any, req: Any, slot: int) -> None:
    """All parents have ended."""
    g[G_DEPENDENT] += 1
    _due(g, req, slot, max(req[slot].arrival, req[slot].last + req[slot].key))


@hot
def _free_slot(g: Any, req: Any, slot: int) -> None:
    req[slot].pos = -1
    req[slot].next = g[G_FREE]
    g[G_FREE] = slot
    g[G_ROOM] += 1


@hot
def _recorded(g: Any, req: Any, fed: Any, i: int) -> Any:
    """A slot for the row ``i`` of fed, from here on a request that the clock knows."""
    slot = g[G_FREE]
    q = req[slot]
    g[G_FREE] = q.next
    g[G_ROOM] -= 1
    q.joined = q.order = -1
    q.input, q.output, q.steps, q.done = fed[i, F_INPUT], fed[i, F_OUTPUT], fed[i, F_STEPS], 0
    q.total = q.ahead = 0
    q.prev = q.next = q.ring_prev = q.ring_next = q.sibling = -1
    q.state, q.ready = PLANNED, 0
    q.row, q.pos = fed[i, F_ROW], g[G_POS] + i
    q.arrival, q.key = fed[i, F_ARRIVAL], fed[i, F_DELAY]
    q.release = q.scheduled = q.first = q.last = -1
    q.deadline, q.head, q.session = fed[i, F_DEADLINE], fed[i, F_HEAD], fed[i, F_SESSION]
    q.ids, q.units, q.kept = fed[i, F_IDS], fed[i, F_UNITS], 0
    q.progress, q.replica, q.preempted, q.priority = 0, -1, 0, fed[i, F_PRIORITY]
    q.pending, q.unseen, q.edge = 0, fed[i, F_CHILDREN], -1
    return slot


def feed(g, req, fed, slots):  # type: ignore[no-untyped-def]
    """All rows of fed that are not yet known become so; ``slots`` gets where."""
    for i in range(len(slots)):
        slots[i] = _recorded(g, req, fed, g[G_CURSOR])
        g[G_CURSOR] += 1


def link(g, req, edges, slots, parents_from, parent_slots):  # type: ignore[no-untyped-def]
    """What is fed waits for its parents, given as slots, or goes into the line of those without. A parent that has already
    ended counts at once."""
    for i in range(len(slots)):
        slot = slots[i]
        first, last = parents_from[i], parents_from[i + 1]
        if first == last:
            if g[G_LINE] < 0:
                g[G_LINE] = slot
            else:
                req[g[G_LINE_LAST]].next = slot
            g[G_LINE_LAST] = slot
            continue
        for e in range(first, last):
            parent = parent_slots[e]
            req[parent].unseen -= 1
            if req[parent].state == OVER:
                req[slot].last = max(req[slot].last, req[parent].last)
                if req[parent].unseen == 0:
                    _free_slot(g, req, parent)
            else:
                req[slot].pending += 1
                edge = g[G_EDGE_FREE]
                g[G_EDGE_FREE] = edges[edge, 1]
                edges[edge, 0] = slot
                edges[edge, 1] = req[parent].edge
                req[parent].edge = edge
        if req[slot].pending == 0:
            _plan_release(g, req, slot)


@called
def _over(g: Any, req: Any, edges: Any, out: Any, slot: int, now: int, status: int) -> None:
    """The request ends now: write its row, tell its children, give its slot back."""
    o = g[G_OUT]
    g[G_OUT] += 1
    out[O_POS, o] = req[slot].pos
    out[O_ROW, o] = req[slot].row
    out[O_ARRIVAL, o] = req[slot].arrival
    out[O_RELEASE, o] = req[slot].release
    out[O_SCHEDULED, o] = req[slot].scheduled
    out[O_FIRST, o] = req[slot].first
    out[O_LAST, o] = now if status == OK else -1
    out[O_REPLICA, o] = req[slot].replica
    out[O_PREEMPTIONS, o] = req[slot].preempted
    out[O_STATUS, o] = status
    req[slot].state = OVER
    req[slot].last = now
    g[G_FLIGHT] -= 1
    edge = req[slot].edge
    while edge >= 0:
        child = edges[edge, 0]
        req[child].last = now
        req[child].pending -= 1
        if req[child].pending == 0:
            _plan_release(g, req, child)
        following = edges[edge, 1]
        edges[edge, 1] = g[G_EDGE_FREE]
        g[G_EDGE_FREE] = edge
        edge = following
    req[slot].edge = -1
    if req[slot].unseen == 0:
        _free_slot(g, req, slot)


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
def _aside(me: Any, ent: Any, r: int, e: int) -> None:
    """Out of the list of those that may go."""
    older, newer = ent[r, e, E_OLDER], ent[r, e, E_NEWER]
    if older >= 0:
        ent[r, older, E_NEWER] = newer
    else:
        me.oldest = newer
    if newer >= 0:
        ent[r, newer, E_OLDER] = older
    else:
        me.newest = older
    me.evictable -= 1


@called
def _evict(me: Any, ent: Any, buckets: Any, r: int, unit: int) -> None:
    """Those that may go and had no room go, the longest unused first."""
    while me.evictable * unit > me.low:
        e = me.oldest
        _aside(me, ent, r, e)
        at = _bucket(buckets, ent[r, e, E_ID])
        if buckets[r, at] == e:
            buckets[r, at] = ent[r, e, E_CHAIN]
        else:
            before = buckets[r, at]
            while ent[r, before, E_CHAIN] != e:
                before = ent[r, before, E_CHAIN]
            ent[r, before, E_CHAIN] = ent[r, e, E_CHAIN]
        ent[r, e, E_CHAIN] = me.entry
        me.entry = e
    me.low = me.free


@called
def _known(
    req: Any, me: Any, ent: Any, buckets: Any, ids: Any, slot: int, r: int, unit: int
) -> Any:
    """(leading units of the prompt that the cache has, those of them that other requests hold)."""
    _evict(me, ent, buckets, r, unit)
    known, shared = 0, 0
    while known < req[slot].units:
        e = _find(ent, buckets, r, ids[req[slot].ids + known])
        if e < 0:
            break
        shared += ent[r, e, E_HELD] > 0
        known += 1
    return known, shared


@called
def _hold(
    req: Any, me: Any, ent: Any, buckets: Any, ids: Any, slot: int, r: int, known: int
) -> None:
    """The request holds the first units, which the cache has."""
    for i in range(known):
        e = _find(ent, buckets, r, ids[req[slot].ids + i])
        if ent[r, e, E_HELD] == 0:
            _aside(me, ent, r, e)
        ent[r, e, E_HELD] += 1
    req[slot].kept = known


@called
def _enter(
    req: Any, me: Any, own: Any, ent: Any, buckets: Any, ids: Any, slot: int, r: int
) -> None:
    """The units of the prompt that are computed are known from now on, up to one that is known already."""
    _evict(me, ent, buckets, r, own.unit)
    computed = min(req[slot].units, req[slot].progress // (own.unit * own.block_size))
    while req[slot].kept < computed:
        key = ids[req[slot].ids + req[slot].kept]
        if _find(ent, buckets, r, key) >= 0:
            return
        e = me.entry
        me.entry = ent[r, e, E_CHAIN]
        at = _bucket(buckets, key)
        ent[r, e, E_ID], ent[r, e, E_HELD], ent[r, e, E_CHAIN] = key, 1, buckets[r, at]
        buckets[r, at] = e
        req[slot].kept += 1


@called
def _let_go(
    req: Any, me: Any, ent: Any, buckets: Any, ids: Any, slot: int, r: int, unit: int
) -> None:
    """Of the blocks that the request gave back those of units that others hold are not free; of the others the deepest go
    first."""
    for i in range(req[slot].kept - 1, -1, -1):
        e = _find(ent, buckets, r, ids[req[slot].ids + i])
        ent[r, e, E_HELD] -= 1
        if ent[r, e, E_HELD] > 0:
            me.free -= unit
            continue
        newest = me.newest
        ent[r, e, E_OLDER], ent[r, e, E_NEWER] = newest, -1
        if newest >= 0:
            ent[r, newest, E_NEWER] = e
        else:
            me.oldest = e
        me.newest = e
        me.evictable += 1
    req[slot].kept = 0


@hot
def _give(
    req: Any, me: Any, own: Any, ent: Any, buckets: Any, ids: Any, slot: int, r: int, blocks: int
) -> None:
    """The request gives its blocks back."""
    if req[slot].kept == 0:
        me.free += blocks
        return
    unit = own.unit
    _evict(me, ent, buckets, r, unit)
    me.free += blocks
    _let_go(req, me, ent, buckets, ids, slot, r, unit)
    me.low = me.free


# ---------------------------------------------------------------------------- the batch


@hot
def _blocks(tokens: int, size: int) -> Any:
    return (tokens + size - 1) // size


@hot
def _emitted(req: Any, slot: int, steps: int) -> Any:
    """Tokens that ``steps`` steps of this request have emitted."""
    return steps * req[slot].output // req[slot].steps


@hot
def _context(req: Any, slot: int, iteration: int) -> Any:
    """Tokens that the request attends to when it decodes in ``iteration``."""
    return req[slot].total + 1 + req[slot].ahead // 2 + iteration - req[slot].joined


@hot
def _finish(req: Any, slot: int) -> Any:
    """The iteration that emits its last step."""
    return req[slot].joined + req[slot].steps - req[slot].done - 1


@hot
def _rate(req: Any, slot: int) -> Any:
    return (req[slot].output * 65536) // req[slot].steps


@hot
def _bin(gap: int) -> Any:
    """Of a gap between emissions, ns: sixteen bins for each power of two, the exponent and four bits of a double."""
    return (np.float64(max(gap, 1)).view(np.int64) >> 48) - (1023 << 4)


@hot
def _unlink(req: Any, me: Any, slot: int) -> None:
    """Out of the list of admitted requests."""
    before, after = req[slot].prev, req[slot].next
    if after >= 0:
        req[after].prev = before
    else:
        me.last = before
    if before >= 0:
        req[before].next = after
    me.held -= 1


@hot
def _join(
    req: Any, me: Any, ring: Any, grow: Any, r: int, slot: int, iteration: int, size: int
) -> None:
    """Into the decode, from ``iteration`` on."""
    req[slot].state, req[slot].ready = DECODE, 0
    req[slot].joined = iteration
    bucket = _finish(req, slot) & (ring.shape[1] - 1)
    head = ring[r, bucket]
    req[slot].ring_prev = -1
    req[slot].ring_next = head
    if head >= 0:
        req[head].ring_prev = slot
    ring[r, bucket] = slot
    grow[r, (iteration - req[slot].total - req[slot].ahead) % size] += 1
    me.decode += 1
    me.context += _context(req, slot, iteration)
    me.rate += _rate(req, slot)


@hot
def _leave(
    req: Any, me: Any, ring: Any, grow: Any, r: int, slot: int, iteration: int, size: int
) -> Any:
    """Out of the decode, before ``iteration``; returns the blocks held."""
    before, after = req[slot].ring_prev, req[slot].ring_next
    if before >= 0:
        req[before].ring_next = after
    else:
        ring[r, _finish(req, slot) & (ring.shape[1] - 1)] = after
    if after >= 0:
        req[after].ring_prev = before
    held = req[slot].total + req[slot].ahead
    grow[r, (req[slot].joined - held) % size] -= 1
    me.decode -= 1
    me.context -= _context(req, slot, iteration)
    me.rate -= _rate(req, slot)
    return _blocks(held + iteration - req[slot].joined, size)


@hot
def _account(
    g: Any, req: Any, me: Any, xs: Any, own: Any, win: Any, rowacc: Any, hist: Any, r: int
) -> None:
    """Add the iteration that ends now to its windows (split by time where it spans several), and the gaps between emissions."""
    start, end = me.start, me.end
    if me.stalled == 0:
        p, old = me.pool, me.decode - me.fresh
        slot = me.joined
        while slot >= 0:
            hist[p, _bin(end - req[slot].last)] += 1
            old -= 1
            slot = req[slot].sibling
        if me.fresh > 0:
            hist[p, _bin(end - start)] += me.fresh
        if old > 0:
            hist[p, _bin(end - me.decoded)] += old
        me.joined, me.fresh, me.decoded = -1, 0, end
    width = g[G_WINDOW_NS]
    if start >= me.window_end:  # iterations are far shorter than windows: divide rarely
        me.window = start // width
        me.window_end = (me.window + 1) * width
    p = me.pool
    used = own.blocks - me.free
    n = xs.shape[1]
    i = me.window - g[G_WINDOW_BASE]
    begin, until = start, me.window_end
    while True:
        part = min(end, until) - begin
        share = part / (end - start)
        win[r, i, W_BUSY_NS] += part
        win[r, i, W_SEQ_NS] += me.batch * part
        win[r, i, W_BLOCK_NS] += used * part
        for k in range(n):
            win[r, i, WINDOW_COLUMNS + k] += share * xs[r, k]
        if end <= until:
            break
        begin, until, i = until, until + width, i + 1
    win[r, i, W_ITERATIONS] += 1
    win[r, i, W_GENERATED] += me.tokens / 65536.0
    win[r, i, W_PREFILL] += xs[r, X_P]
    win[r, i, W_MOVED] += me.moved
    _credit(me, xs, own, rowacc, r)


@hot
def _credit(me: Any, xs: Any, own: Any, rowacc: Any, r: int) -> None:
    """Add the state to the rows that were the longest of their block."""
    won = me.won
    row = own.row_from
    while won > 0:
        if won & 1:
            for k in range(xs.shape[1]):
                rowacc[row, k] += xs[r, k]
        won >>= 1
        row += 1


@hot
def _duration(me: Any, xs: Any, own: Any, coef: Any, ends: Any, moving_ns: float, r: int) -> Any:
    """How long an iteration in the replica's state lasts, ns, of which moving takes ``moving_ns``; notes which rows were the
    longest."""
    total_ns = moving_ns
    won = 0
    best = 0.0
    best_row = -1
    for row in range(own.row_from, own.row_to):
        v = 0.0
        for i in range(xs.shape[1]):
            v += coef[row, i] * xs[r, i]
        if best_row < 0 or v > best:
            best = v
            best_row = row
        if ends[row] == 1:
            total_ns += best
            won |= 1 << (best_row - own.row_from)
            best_row = -1
    me.won = won
    return max(1, int(total_ns + 0.5))


@hot
def _completes(req: Any, ring: Any, r: int, k: int) -> Any:
    """Does a request end in iteration ``k``? Others in its bucket do a whole turn of the ring later."""
    slot = ring[r, k & (ring.shape[1] - 1)]
    while slot >= 0 and _finish(req, slot) != k:
        slot = req[slot].ring_next
    return slot >= 0


@hot
def _coast(
    g: Any,
    req: Any,
    me: Any,
    own: Any,
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
    p = me.pool
    size = own.block_size
    decode = me.decode
    latest = min(horizon - 1, min(me.window_end, g[G_WINDOW_LIMIT]))
    k, phase = me.iter, me.phase
    start, end = me.start, me.end
    free, context = me.free, me.context
    begin, first = start, k
    contexts, block_ns = 0, 0
    row = own.row_from
    single = own.row_to == row + 1
    fixed = 0.0  # of a single row's time, what comes before the contexts; p, Q and C are 0
    for i in range(X_S):
        fixed += coef[row, i] * xs[r, i]
    while end <= latest and not _completes(req, ring, r, k):
        following = 0 if phase + 1 == size else phase + 1
        if free < grow[r, following]:
            break
        contexts += context
        block_ns += (own.blocks - free) * (end - start)
        hist[p, _bin(end - start)] += decode
        k += 1
        phase = following
        context += decode
        free -= grow[r, phase]
        start = end
        if single:
            v = fixed + coef[row, X_S] * context
            for i in range(X_TABLES, xs.shape[1]):
                v += coef[row, i] * xs[r, i]
            end = start + max(1, int(v + 0.5))
        else:
            _credit(me, xs, own, rowacc, r)
            xs[r, X_S] = context
            end = start + _duration(me, xs, own, coef, ends, 0.0, r)
    n = k - first
    if n == 0:
        return
    xs[r, X_S] = context
    if single:
        rowacc[row, X_ONE] += n
        rowacc[row, X_D] += n * decode
        rowacc[row, X_S] += contexts
    i = me.window - g[G_WINDOW_BASE]
    win[r, i, W_ITERATIONS] += n
    win[r, i, W_BUSY_NS] += start - begin
    win[r, i, W_SEQ_NS] += decode * (start - begin)
    win[r, i, W_BLOCK_NS] += block_ns
    win[r, i, W_GENERATED] += n * me.tokens / 65536.0
    win[r, i, WINDOW_COLUMNS + X_ONE] += n
    win[r, i, WINDOW_COLUMNS + X_D] += n * decode
    win[r, i, WINDOW_COLUMNS + X_S] += contexts
    for x in range(X_TABLES, xs.shape[1]):
        win[r, i, WINDOW_COLUMNS + x] += n * xs[r, x]
        rowacc[row, x] += single * n * xs[r, x]
    me.iter, me.phase = k, phase
    me.start, me.end = start, end
    me.decoded = start
    me.free, me.context = free, context
    me.low = min(me.low, free)
    me.peak = max(me.peak, own.blocks - free)
    g[G_NOW] = start


@hot
def _end_iteration(
    g: Any,
    req: Any,
    me: Any,
    own: Any,
    link: Any,
    edges: Any,
    ring: Any,
    grow: Any,
    hist: Any,
    ent: Any,
    buckets: Any,
    ids: Any,
    out: Any,
    r: int,
) -> None:
    now = g[G_NOW]
    p = me.pool
    size = own.block_size
    done = -1
    if me.stalled == 0:
        k = me.iter
        me.iter = k + 1
        me.phase = 0 if me.phase + 1 == size else me.phase + 1
        me.context += me.decode
        # Completions are gathered in admission order, linked through SIBLING (free outside the queue).
        slot = ring[r, k & (ring.shape[1] - 1)]
        while slot >= 0:
            following = req[slot].ring_next
            if _finish(req, slot) == k:  # others in this bucket do a whole turn of the ring later
                req[slot].progress = _leave(req, me, ring, grow, r, slot, k + 1, size)
                done = _in_order(req, done, slot)
            slot = following
    slot = me.ended
    while slot >= 0:
        following = req[slot].sibling
        if req[slot].first < 0:
            req[slot].first = now
        else:
            hist[p, _bin(now - req[slot].last)] += 1
        req[slot].done += 1
        req[slot].last = now
        if req[slot].done == req[slot].steps:
            req[slot].progress = _blocks(req[slot].total + req[slot].ahead, size)
            done = _in_order(req, done, slot)
        elif own.role == PREFILLS:
            _unlink(req, me, slot)
            req[slot].state = MOVING
            takes = int(link[p, 0] + link[p, 1] * req[slot].total + 0.5)
            _due(g, req, slot, now + takes)
        else:
            _join(req, me, ring, grow, r, slot, me.iter, size)
            me.fresh += me.stalled
        slot = following
    me.ended = -1
    me.ended_last = -1
    while done >= 0:
        following = req[done].sibling
        _unlink(req, me, done)
        _give(req, me, own, ent, buckets, ids, done, r, req[done].progress)
        _over(g, req, edges, out, done, now, OK)
        done = following


@called
def _in_order(req: Any, head: int, slot: int) -> Any:
    """Insert into a list sorted by admission number; returns its head."""
    if head < 0 or req[slot].order < req[head].order:
        req[slot].sibling = head
        return slot
    at = head
    while req[at].sibling >= 0 and req[req[at].sibling].order < req[slot].order:
        at = req[at].sibling
    req[slot].sibling = req[at].sibling
    req[at].sibling = slot
    return head


@hot
def _chunk(
    req: Any, me: Any, own: Any, ent: Any, buckets: Any, ids: Any, xs: Any, r: int, slot: int, budget: int
) -> Any:  # fmt: skip
    """The prefill takes its share of the budget; returns what is left of it."""
    rest = req[slot].total - req[slot].progress
    m = min(rest, budget)
    a = req[slot].progress
    req[slot].progress += m
    xs[r, X_P] += m
    xs[r, X_Q] += a * m + m * (m + 1) // 2
    xs[r, X_C] += a + m
    me.batch += 1
    if own.unit > 0 and req[slot].kept < req[slot].units:
        _enter(req, me, own, ent, buckets, ids, slot, r)
    if m < rest:
        me.partial = slot
        return 0
    me.partial = -1
    req[slot].sibling = -1
    if me.ended < 0:
        me.ended = slot
    else:
        req[me.ended_last].sibling = slot
    me.ended_last = slot
    # Tokens this prefill will emit: one step's worth.
    me.tokens += _rate(req, slot)
    return budget - m


@hot
def _admit(
    now: int, slot: int, total: int, ahead: int, blocks: int, g: Any, req: Any, me: Any
) -> None:
    """The head of the queue gets its blocks, and a place among those admitted."""
    _dequeue(req, me)
    me.free -= blocks
    me.low = min(me.low, me.free)
    req[slot].total = total
    req[slot].ahead = ahead
    req[slot].order = g[G_ADMITTED]
    g[G_ADMITTED] += 1
    if req[slot].scheduled < 0:
        req[slot].scheduled = now
    before = me.last
    req[slot].prev = before
    req[slot].next = -1
    if before >= 0:
        req[before].next = slot
    me.last = slot
    me.held += 1


@hot
def _fits(me: Any, own: Any, blocks: int) -> Any:
    spare = own.watermark if me.held > 0 else 0
    return me.free - blocks >= spare


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
    me: Any,
    own: Any,
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
    size, unit = own.block_size, own.unit
    emitted = _emitted(req, slot, req[slot].done)
    total = req[slot].input + emitted
    ahead = req[slot].output - emitted - (req[slot].steps - req[slot].done)
    if own.role == PREFILLS:
        ahead = 0
    blocks = _blocks(total + ahead, size)
    known, shared = 0, 0
    if unit > 0 and req[slot].units > 0:
        if me.refused == slot and me.free <= me.refused_at:
            return -1
        known, shared = _known(req, me, ent, buckets, ids, slot, r, unit)
        blocks -= shared * unit
    if not _fits(me, own, blocks):
        me.refused, me.refused_at = slot, me.free
        return -1
    cached = min(known * unit * size, total - 1)
    if more and total - cached > budget:
        return -1
    _admit(now, slot, total, ahead, blocks, g, req, me)
    me.refused = -1
    if known > 0:
        _hold(req, me, ent, buckets, ids, slot, r, known)
        _evict(me, ent, buckets, r, unit)
    req[slot].state = PREFILL
    if g[G_NO_REUSE] == 0:
        cached = max(cached, min(reuse(now, slot, r, req, rep, mem, par), total - 1))
    req[slot].progress = cached
    if own.chunked == 0:  # the first is taken however long it is
        budget = max(budget, total - cached)
    me.cached += cached
    return _chunk(req, me, own, ent, buckets, ids, xs, r, slot, budget)


@called
def _resume(
    now: int,
    slot: int,
    r: int,
    g: Any,
    req: Any,
    me: Any,
    own: Any,
    ring: Any,
    grow: Any,
) -> Any:
    """Admit the head of the queue, whose keys and values come with it, to this iteration's decode; False where it finds no
    blocks."""
    size = own.block_size
    emitted = _emitted(req, slot, req[slot].done)
    total = req[slot].input + emitted - 1
    ahead = req[slot].output - emitted - (req[slot].steps - req[slot].done)
    blocks = _blocks(total + ahead + 1, size)  # this iteration's growth is over
    if not _fits(me, own, blocks):
        return False
    _admit(now, slot, total, ahead, blocks, g, req, me)
    if req[slot].ready == SWAPPED:
        me.moved += total
    _join(req, me, ring, grow, r, slot, me.iter, size)
    req[slot].sibling = me.joined
    me.joined = slot
    me.batch += 1
    return True


@hot
def _arrive(g: Any, req: Any, own: Any, edges: Any, out: Any, slot: int) -> Any:
    """The request comes to a replica. Returns whether it is to wait there; else it was rejected."""
    now = g[G_NOW]
    tokens = req[slot].input if own.role == PREFILLS else req[slot].input + req[slot].output - 1
    if req[slot].input + req[slot].output > own.max_context:
        _over(g, req, edges, out, slot, now, REJECTED_CONTEXT)
        return False
    if _blocks(tokens, own.block_size) > own.blocks:
        _over(g, req, edges, out, slot, now, REJECTED_MEMORY)
        return False
    return True


@called
def _preempt(
    req: Any, me: Any, own: Any, ring: Any, grow: Any, ent: Any, buckets: Any, ids: Any, r: int
) -> Any:
    """Take the request that was admitted last off the replica; returns its slot."""
    size = own.block_size
    k = me.iter
    victim = me.last
    if req[victim].state == DECODE:
        held = _leave(req, me, ring, grow, r, victim, k, size)
        req[victim].done += k - req[victim].joined
        if req[victim].joined < k:
            req[victim].last = me.decoded
        else:
            me.fresh -= me.fresh > 0
        if own.swaps == 1:
            req[victim].ready = SWAPPED
            me.moved += req[victim].input + _emitted(req, victim, req[victim].done) - 1
    else:
        held = _blocks(req[victim].total + req[victim].ahead, size)
        me.partial = -1
    _give(req, me, own, ent, buckets, ids, victim, r, held)
    _unlink(req, me, victim)
    req[victim].preempted += 1
    me.preemptions += 1
    return victim


def place(rows, out, first):  # type: ignore[no-untyped-def]
    """Finished rows to where their positions, from ``first`` on, say in ``rows`` [columns, requests]."""
    for i in range(out.shape[1]):
        at = out[O_POS, i] - first
        for c in range(OUT_COLUMNS):
            rows[c, at] = out[c, i]


@hot
def _start(
    now: int, r: int, g: Any, req: Any, rep: Any, me: Any, own: Any, link: Any, ring: Any, grow: Any, ent: Any, buckets: Any,
    ids: Any, coef: Any, ends: Any, tables: Any, xs: Any, mem: Any, par: Any, rank: Any, reuse: Any,
) -> None:  # fmt: skip
    """An idle replica that holds or awaits a request starts an iteration, unless what it waits for has not come."""
    p = me.pool
    phase = me.phase
    for x in range(xs.shape[1]):
        xs[r, x] = 0.0
    me.batch, me.tokens, me.moved = 0, 0, 0
    chunked = own.chunked == 1
    # prefills first: whole prompts, and who decodes waits
    stalled = False
    if not chunked:
        budget = own.max_batched
        while me.queue >= 0 and me.held < own.max_seqs:
            slot = me.queue
            if req[slot].ready > 0:
                break
            rest = _prefill(
                now, slot, r, budget, stalled, g, req, rep, me, own, xs, mem, par, ent, buckets, ids, reuse
            )  # fmt: skip
            if rest < 0:
                break
            budget = rest
            stalled = True
    # growth, by preempting from the youngest
    preempted = False
    joined = 0
    if not stalled:
        while me.free < grow[r, phase]:
            victim = _preempt(req, me, own, ring, grow, ent, buckets, ids, r)
            preempted = True
            req[victim].key = rank(now, victim, r, req, rep, mem, par)
            _enqueue(req, me, victim)
        me.free -= grow[r, phase]
        me.low = min(me.low, me.free)
        me.batch += me.decode
        budget = own.max_batched - me.decode
        if me.partial >= 0 and budget > 0:
            budget = _chunk(req, me, own, ent, buckets, ids, xs, r, me.partial, budget)
        while (
            not preempted
            and budget > 0
            and me.partial < 0
            and me.queue >= 0
            and me.held < own.max_seqs
        ):
            slot = me.queue
            if req[slot].ready > 0:
                if not _resume(now, slot, r, g, req, me, own, ring, grow):
                    break
                budget -= 1
                joined += 1
                continue
            if not chunked:
                break
            budget = _prefill(
                now, slot, r, budget, False, g, req, rep, me, own, xs, mem, par, ent, buckets, ids, reuse
            )  # fmt: skip
            if budget < 0:
                break
        me.tokens += me.rate
    if not stalled and me.decode == 0 and xs[r, X_P] == 0.0:
        return  # blocks that are being handed over are what the head waits for
    # its length
    decode = 0 if stalled else me.decode
    xs[r, X_ONE] = 1.0
    xs[r, X_D] = decode
    xs[r, X_S] = 0 if stalled else me.context
    n = min(decode + int(xs[r, X_P]), tables.shape[2] - 1)
    for x in range(X_TABLES, xs.shape[1]):
        xs[r, x] = tables[p, x - X_TABLES, n]
    me.start = now
    me.stalled = 1 if stalled else 0
    me.end = now + _duration(me, xs, own, coef, ends, me.moved * link[p, 2], r)
    # With D >= the token budget a prefill may be waiting: it stays so until somebody leaves.
    even = me.fresh == 0 and me.decoded == now
    me.coasts = 1 if xs[r, X_P] == 0.0 and not preempted and joined == 0 and even else 0
    used = own.blocks - me.free
    me.peak = max(me.peak, used)


def advance(  # type: ignore[no-untyped-def]
    g,
    fed,
    req,
    rep,
    pool,
    edges,
    tree,
    todo,
    ring,
    grow,
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
    """Process all instants before g[G_LIMIT]; returns PAUSED, NEEDS_WINDOWS when ``win`` is too short, FULL when ``out`` is (it
    has room for those that one replica holds), LOST when route names a replica, G_NEEDED, that does not exist.

    fed [rows, columns] what may come, tree [2 replicas] as ``_set_end`` says, todo [replicas]. ent [replicas, entries], buckets [replicas, buckets] (first entry of each) and ids (of the prompts' units) are the prefix
    cache's; coef [rows, x] in ns, ends [rows] (1 ends a block), tables [pools, tables, tokens], link [pools, 3] (ns that
    handing a request over takes, ns for each of its tokens, and ns for each token moved to the host or from it), xs [replicas, x], win [replicas, windows, columns], rowacc
    [rows, x] (sum of x over the iterations in which the row was the longest of its block), hist [pools, bins] (gaps between emissions).
    """
    while True:
        # -- the next instant
        soonest = tree[1]
        me = rep[soonest]
        now = me.end
        others = _second_end(rep, tree, soonest)  # first what is not the end of soonest's iteration
        if g[G_FLIGHT] < g[G_CONCURRENCY]:
            if g[G_LINE] >= 0:
                others = min(others, max(req[g[G_LINE]].arrival, g[G_NOW]))
            elif g[G_CURSOR] < fed.shape[0]:
                others = min(others, max(fed[g[G_CURSOR], F_ARRIVAL], g[G_NOW]))
        if g[G_HEAP] >= 0:
            others = min(others, req[g[G_HEAP]].key)
        if me.coasts == 1 and now < others:
            horizon = min(min(others, g[G_TICK]), g[G_LIMIT])
            _coast(
                g,
                req,
                me,
                pool[me.pool],
                ring,
                grow,
                xs,
                win,
                rowacc,
                hist,
                coef,
                ends,
                soonest,
                horizon,
            )
            now = me.end
            _set_end(rep, tree, soonest, now)
        now = min(now, others)
        if now == NEVER:  # tick alone does not keep the clock running
            return PAUSED
        now = min(now, g[G_TICK])
        if now >= g[G_LIMIT]:
            return PAUSED
        if now > g[G_NOW]:
            g[G_HAPPENED] = 0
        # -- 1. iterations that end
        while rep[tree[1]].end == now:
            r = tree[1]
            me = rep[r]
            own = pool[me.pool]
            if now > g[G_WINDOW_LIMIT]:
                g[G_NEEDED] = (now - 1) // g[G_WINDOW_NS]
                return NEEDS_WINDOWS
            if g[G_OUT] + me.held > out.shape[1]:
                return FULL
            g[G_NOW] = now
            g[G_HAPPENED] += 1
            _account(g, req, me, xs, own, win, rowacc, hist, r)
            _end_iteration(
                g, req, me, own, link, edges, ring, grow, hist, ent, buckets, ids, out, r
            )
            _set_end(rep, tree, r, NEVER)
            _touch(g, me, todo, r)
        g[G_NOW] = now
        # -- 2. tick
        if g[G_TICK] == now:
            g[G_TICK] = max(now + 1, tick(now, -1, -1, req, rep, mem, par))
        # -- 3. releases
        while True:
            slot, row = g[G_LINE], NEVER
            if g[G_FLIGHT] < g[G_CONCURRENCY]:
                if slot >= 0:
                    if req[slot].arrival <= now:
                        row = req[slot].row
                elif g[G_CURSOR] < fed.shape[0] and fed[g[G_CURSOR], F_ARRIVAL] <= now:
                    row = fed[g[G_CURSOR], F_ROW]
            due = g[G_HEAP]
            is_due = due >= 0 and req[due].key == now and req[due].row < row
            if not is_due and row == NEVER:
                break
            if g[G_OUT] == out.shape[1]:
                return FULL
            if is_due:
                slot = due
                g[G_HEAP] = _pop(req, due, 0)
            elif slot >= 0:
                g[G_LINE] = req[slot].next
            else:
                slot = _recorded(g, req, fed, g[G_CURSOR])
                g[G_CURSOR] += 1
            g[G_HAPPENED] += 1
            if req[slot].state == MOVING:
                r = req[slot].replica
                me = rep[r]
                own = pool[me.pool]
                held = _blocks(req[slot].total + req[slot].ahead, own.block_size)
                _give(req, me, own, ent, buckets, ids, slot, r, held)
                me.coasts = 0
                req[slot].ready = MOVED
                _touch(g, me, todo, r)
            else:
                req[slot].release = now
                g[G_FLIGHT] += 1
            r = 0 if g[G_ONE] == 1 else route(now, slot, -1, req, rep, mem, par)
            if r < 0 or r >= rep.shape[0]:
                g[G_NEEDED] = r
                return LOST
            me = rep[r]
            req[slot].replica = r
            if _arrive(g, req, pool[me.pool], edges, out, slot):
                req[slot].key = 0 if g[G_FCFS] == 1 else rank(now, slot, r, req, rep, mem, par)
                _enqueue(req, me, slot)
                _touch(g, me, todo, r)
        if g[G_HAPPENED] > 1:
            g[G_TIES] += 1
        # -- 4. idle replicas start
        for i in range(g[G_TODO]):
            r = todo[i]
            me = rep[r]
            me.todo = 0
            if me.end == NEVER and (me.held > 0 or me.queue >= 0):
                _start(
                    now, r, g, req, rep, me, pool[me.pool], link, ring, grow, ent, buckets, ids, coef, ends, tables, xs, mem, par,
                    rank, reuse,
                )  # fmt: skip
                _set_end(rep, tree, r, me.end)
        g[G_TODO] = 0

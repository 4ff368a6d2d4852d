"""The compiled loop of prefix trees: whom a prompt shares its first blocks with, and the ids of its blocks.

What is kept is a radix tree of the prompts that are not colder than a cache can hold, and a list of them by recency:

- ``nodes``: [nodes, 4] runs of blocks that the same requests hold (columns ``PARENT`` … ``OWNER``); the ids of a run are
  hashes of successive numbers from ``BASE`` on;
- ``paths``: [places, 4] the prompts, the latest last (columns ``TIP`` … ``ROOT``). A block is *owned* by the latest prompt
  that holds it, so that the blocks that later prompts own are those above it in an LRU stack;
- ``owned``: the blocks that each prompt owns, then their sums over ``SPREAD`` prompts, over ``SPREAD``² …; floor i of them
  lies from ``floors[i]`` to ``floors[i + 1]`` and is filled up to a multiple of ``SPREAD``. Sums and the place at a given
  stack distance take a short run of each floor;
- ``near``: [places, 2] what the search around a place reads of each prompt, close together (columns ``REACH``, ``TAKEN``).

A prompt owns its deepest blocks longest. So whoever owns any block at all owns its own tip, and what it shares with
a newcomer stood at a distance that is known before anything is drawn.
"""

from __future__ import annotations

import numpy as np
from numba import types

from ..compiled import called, hot
from .jitted import FACTOR_A, FACTOR_B, fraction, mix

# Columns of a node.
PARENT = 0  # −1: the node begins a prompt
COUNT = 1
BASE = 2
OWNER = 3  # place of the latest prompt that holds it
NODE_COLUMNS = 4

# Columns of a path.
TIP = 0  # deepest node; −1: no full block
LENGTH = 1  # full blocks
ROW = 2  # of the stream
ROOT = 3  # which first block it begins with, where they are told apart
PATH_COLUMNS = 4

# Columns of what is read of a prompt by its neighbours.
REACH = 0  # full blocks; −1: a later prompt owns them all
TAKEN = 1  # of them owned by later prompts
NEAR_COLUMNS = 2

# numbers
NODES = 0
PATHS = 1
COUNTER = 2  # blocks that were given a number so far
ROWS = 3  # rows of the stream so far
TOTAL = 4  # blocks owned
SEEN = 5  # first blocks that have been, a bit each, where they are told apart
LATEST = 6  # for each first block, where they are told apart: one more than the place of the latest prompt with it
MOST_ROOTS = 64
NUMBERS = LATEST + MOST_ROOTS

SPREAD_BITS = 3
SPREAD = 1 << SPREAD_BITS
"""sums that one sum of the next floor is over."""
NEAR = 24
"""prompts looked at around a place before the best fit is good enough."""
MOST = 8 * NEAR
"""the same, before any fit will do."""
FAR = 4096
"""places looked at, at most."""
_HELD, _SHORT, _OTHER, _NONE = 1 << 28, 1 << 30, 1 << 40, 1 << 62
"""how much worse a prompt is for each, beside blocks that it has beyond those shared."""

_I1 = types.Array(types.int64, 1, "C")
_I2 = types.Array(types.int64, 2, "C")
_U1 = types.Array(types.uint64, 1, "C")
_S2 = types.Array(types.int32, 2, "C")
WEAVE = types.void(
    *(_I1,) * 6, types.int64, types.int64, types.int64, _I2, _I2, _S2, *(_I1,) * 8
)  # fmt: skip
WRITE = types.void(_I2, _I1, _I1, _I1, types.float64, types.uint64, types.uint64, _U1)
GATHER = types.void(_I2, _I2, *(_I1,) * 3, types.int64, types.int64)


@hot
def _block(salt, again, number):  # type: ignore[no-untyped-def]
    """The id of block ``number``: the number itself, since small numbers that follow one another take a tenth of the room of
    random ones. With chance ``again`` its content stood somewhere before, in another prompt: it has the id of a block
    that was numbered earlier, any of them alike."""
    while again > 0.0 and number > 0:
        x = mix(np.uint64(number) + (salt ^ FACTOR_A))
        if fraction(x) >= again:
            break
        number = int(fraction(mix(np.uint64(number) + (salt ^ FACTOR_B))) * number)
    return np.uint64(number)


@hot
def _add(owned, floors, place, blocks):  # type: ignore[no-untyped-def]
    for floor in range(len(floors) - 1):
        owned[floors[floor] + place] += blocks
        place >>= SPREAD_BITS


@called
def _upto(owned, floors, place):  # type: ignore[no-untyped-def]
    """Blocks owned at ``place`` and before."""
    total = 0
    for floor in range(len(floors) - 1):
        first = place & -SPREAD
        for i in range(first, place + (floor == 0)):
            total += owned[floors[floor] + i]
        place >>= SPREAD_BITS
    return total


@called
def _at(owned, floors, blocks):  # type: ignore[no-untyped-def]
    """The first place up to which more than ``blocks`` are owned; there are more in all."""
    i = 0
    for floor in range(len(floors) - 2, -1, -1):
        i <<= SPREAD_BITS
        first, upto, below, n = floors[floor] + i, 0, 0, 0
        for k in range(SPREAD):  # to the end: a jump out cannot be foreseen, and costs more
            upto += owned[first + k]
            if upto <= blocks:
                below = upto
                n += 1
        i += n
        blocks -= below
    return i


@called
def _of_row(paths, count, row):  # type: ignore[no-untyped-def]
    """The place of a row's prompt, −1 where it is forgotten."""
    low, high = 0, count
    while low < high:
        middle = (low + high) >> 1
        if paths[middle, ROW] < row:
            low = middle + 1
        else:
            high = middle
    return low if low < count and paths[low, ROW] == row else -1


@called
def _fitting(paths, near, count, place, want, root, heads):  # type: ignore[no-untyped-def]
    """Near ``place``, the prompt that owns its block number ``want`` and is longer by the least; else one whose block
    there is owned by a later prompt, else the longest. Where ``heads`` alone are shared, any that is long enough. Prompts
    of another ``root`` come last, if it is not −1."""
    best, best_score = -1, _NONE
    looked = 0
    for step in range(FAR):
        q = place + ((step + 1) >> 1) * (1 - 2 * (step & 1))
        reach = near[q, REACH] if 0 <= q < count else -1
        surplus = reach - want
        score = surplus if surplus >= 0 else _SHORT - surplus
        if reach < 0:  # no jump: which prompts are left cannot be foreseen
            score = _NONE
        if score < best_score:
            if root >= 0 and paths[q, ROOT] != root:
                score += _OTHER
            if surplus >= 0 and want > 1 and not heads and near[q, TAKEN] >= want:
                score += _HELD
            if score < best_score:
                best, best_score = q, score
                if score == 0 or ((want == 1 or heads) and score < _SHORT):
                    break
        looked += reach >= 0
        if looked >= NEAR and best_score <= max(1, want >> 3):
            break
        if looked >= MOST and best_score < (_SHORT if looked < 2 * MOST else _OTHER):
            break
    return best


@called
def _branching(paths, nodes, q, want):  # type: ignore[no-untyped-def]
    """Of the places where others have branched off prompt ``q``, the one nearest to ``want`` blocks; ``want`` itself where
    none is within a factor of two."""
    node, end, best = paths[q, TIP], paths[q, LENGTH], 0
    while node >= 0:
        end -= nodes[node, COUNT]
        node = nodes[node, PARENT]
        if abs(end - want) < abs(best - want):
            best = end
    return best if want <= 2 * best and best <= 2 * want else want


@called
def _split(nodes, paths, numbers, q, h):  # type: ignore[no-untyped-def]
    """The node that ends the first ``h`` blocks of prompt ``q``, cut there if it is longer."""
    node, end = paths[q, TIP], paths[q, LENGTH]
    while end - nodes[node, COUNT] >= h:
        end -= nodes[node, COUNT]
        node = nodes[node, PARENT]
    if end == h:
        return node
    upper = numbers[NODES]
    numbers[NODES] += 1
    above = h - (end - nodes[node, COUNT])
    nodes[upper, PARENT] = nodes[node, PARENT]
    nodes[upper, COUNT] = above
    nodes[upper, BASE] = nodes[node, BASE]
    nodes[upper, OWNER] = nodes[node, OWNER]
    nodes[node, PARENT] = upper
    nodes[node, COUNT] -= above
    nodes[node, BASE] += above
    return upper


@called
def _measure(nodes, owned, floors, tip, total, capacities, curve):  # type: ignore[no-untyped-def]
    """Add to ``curve`` the blocks down to ``tip`` that LRU caches of the ``capacities`` hit."""
    node = tip
    while node >= 0:
        owner, run = nodes[node, OWNER], 0
        while node >= 0 and nodes[node, OWNER] == owner:
            run += nodes[node, COUNT]
            node = nodes[node, PARENT]
        above = total - _upto(owned, floors, owner)
        for k in range(len(capacities)):
            curve[k] += min(max(capacities[k] - above, 0), run)


@called
def _touch(nodes, near, owned, floors, tip, blocks, place):  # type: ignore[no-untyped-def]
    """The ``blocks`` down to ``tip`` go over to the prompt at ``place``."""
    node, end = tip, blocks
    while node >= 0:
        owner, run = nodes[node, OWNER], 0
        while node >= 0 and nodes[node, OWNER] == owner:
            run += nodes[node, COUNT]
            nodes[node, OWNER] = place
            node = nodes[node, PARENT]
        near[owner, TAKEN] = end
        if near[owner, REACH] == end:
            near[owner, REACH] = -1
        _add(owned, floors, owner, -run)
        end -= run


@called
def _begin(nodes, paths, near, count):  # type: ignore[no-untyped-def]
    """``near`` of the prompts before ``count``."""
    for q in range(count):
        node, end = paths[q, TIP], paths[q, LENGTH]
        near[q, REACH] = end if node >= 0 and nodes[node, OWNER] == q else -1
        while node >= 0 and nodes[node, OWNER] == q:
            end -= nodes[node, COUNT]
            node = nodes[node, PARENT]
        near[q, TAKEN] = end


def weave(tokens, parent, own, want, distance, root, block, heads, head, nodes, paths, near, owned, floors, numbers, hits, tips, partial, capacities, curve):  # type: ignore[no-untyped-def]  # fmt: skip
    """Give every prompt its blocks.

    ``tokens``: of the prompts. Those with a ``parent`` (a row of the stream that is still known) share ``own`` tokens
    with it, the others ``want`` blocks with a prompt at the stack ``distance`` (in blocks). Where not so much is known yet, the
    cache is cold and only the ``head`` is shared. Partial blocks never are.
    ``heads``: 1 where turns of a session are told apart, so that all others share what prompts begin with, down to where
    others have branched off, and not what a session holds. ``near``: filled here. ``hits``: full blocks that a prompt shares;
    ``tips``, ``partial``: the node that ends it, and the number of a partial last block (−1: none).
    """
    _begin(nodes, paths, near, numbers[PATHS])
    for i in range(len(tokens)):
        full = tokens[i] // block
        place = numbers[PATHS]
        count = place
        q, h = -1, 0
        if parent[i] >= 0 and own[i] >= block:
            q = _of_row(paths, count, parent[i])
            if q >= 0:
                h = min(own[i] // block, full, paths[q, LENGTH])
        new = root[i] >= 0 and not (numbers[SEEN] >> root[i]) & 1
        if q < 0 and min(want[i], full) > 0 and numbers[TOTAL] > 0 and not new:
            h = min(want[i], full)
            if distance[i] > numbers[TOTAL] and not heads:
                h = min(h, head)  # whom it would follow came before the trace
            at = _at(owned, floors, max(numbers[TOTAL] - distance[i], 0))
            q = _fitting(paths, near, count, at, h, root[i], heads)
            if (
                root[i] >= 0
                and numbers[LATEST + root[i]] > 0
                and (q < 0 or paths[q, ROOT] != root[i])
            ):
                q = numbers[LATEST + root[i]] - 1  # what begins alike is farther away
            if q >= 0 and heads:
                h = min(_branching(paths, nodes, q, h), full)
            if q >= 0:
                h = min(h, paths[q, LENGTH])
        tip = -1
        if h > 0 and q >= 0:
            tip = _split(nodes, paths, numbers, q, h)
            if len(capacities):
                _measure(nodes, owned, floors, tip, numbers[TOTAL], capacities, curve)
            _touch(nodes, near, owned, floors, tip, h, place)
            paths[place, ROOT] = paths[q, ROOT]
        else:
            h = 0
            paths[place, ROOT] = root[i]
            if full > 0 and root[i] >= 0:
                numbers[SEEN] |= 1 << root[i]
        hits[i] = h
        if full > h:
            fresh = numbers[NODES]
            numbers[NODES] += 1
            nodes[fresh, PARENT] = tip
            nodes[fresh, COUNT] = full - h
            nodes[fresh, BASE] = numbers[COUNTER]
            nodes[fresh, OWNER] = place
            numbers[COUNTER] += full - h
            numbers[TOTAL] += full - h
            tip = fresh
        _add(owned, floors, place, full)
        paths[place, TIP], paths[place, LENGTH] = tip, full
        paths[place, ROW] = numbers[ROWS]
        near[place, REACH], near[place, TAKEN] = full if tip >= 0 else -1, 0
        if paths[place, ROOT] >= 0 and tip >= 0:
            numbers[LATEST + paths[place, ROOT]] = place + 1
        numbers[PATHS] += 1
        numbers[ROWS] += 1
        tips[i], partial[i] = tip, -1
        if tokens[i] > full * block:  # a partial last block, which nobody shares
            partial[i] = numbers[COUNTER]
            numbers[COUNTER] += 1


def write(nodes, tips, partial, begins, again, salt, first, ids):  # type: ignore[no-untyped-def]
    """The ids of prompts, from ``begins[i]`` on in ``ids``; ``first``: of the stream's block 0. Nodes that were cut since still
    lead to the same blocks."""
    for i in range(len(tips)):
        at = begins[i + 1]
        if partial[i] >= 0:
            at -= 1
            ids[at] = first + _block(salt, again, partial[i])
        node = tips[i]
        while node >= 0:
            run, base = nodes[node, COUNT], nodes[node, BASE]
            at -= run
            if again > 0.0:
                for k in range(run):
                    ids[at + k] = first + _block(salt, again, base + k)
            else:
                for k in range(run):
                    ids[at + k] = first + np.uint64(base + k)
            node = nodes[node, PARENT]


def gather(nodes, paths, numbers, renamed, places, coldest, idle):  # type: ignore[no-untyped-def]
    """Forget the prompts before the place ``coldest``, those that own nothing too unless ``idle`` ones are kept, and the
    nodes that none of the others holds. ``renamed``, ``places``: room for a number for each node and path."""
    kept = 0
    for node in range(numbers[NODES]):
        renamed[node] = -1
    for q in range(numbers[PATHS]):
        places[q] = -1
    for q in range(coldest, numbers[PATHS]):
        tip = paths[q, TIP]
        if tip < 0 or not (idle or nodes[tip, OWNER] == q):
            continue
        node = tip
        while node >= 0 and renamed[node] < 0:
            renamed[node] = 0
            node = nodes[node, PARENT]
        places[q] = kept
        for c in range(PATH_COLUMNS):
            paths[kept, c] = paths[q, c]
        kept += 1
    left = 0
    for node in range(numbers[NODES]):
        if renamed[node] == 0:
            renamed[node] = left
            left += 1
    total = 0
    for node in range(numbers[NODES]):
        to = renamed[node]
        if to >= 0:
            above = nodes[node, PARENT]
            total += nodes[node, COUNT]
            nodes[to, COUNT], nodes[to, BASE] = nodes[node, COUNT], nodes[node, BASE]
            nodes[to, PARENT] = renamed[above] if above >= 0 else -1
            nodes[to, OWNER] = places[nodes[node, OWNER]]
    for q in range(kept):
        paths[q, TIP] = renamed[paths[q, TIP]]
    for root in range(MOST_ROOTS):
        if numbers[LATEST + root] > 0:
            numbers[LATEST + root] = places[numbers[LATEST + root] - 1] + 1
    numbers[PATHS], numbers[NODES], numbers[TOTAL] = kept, left, total

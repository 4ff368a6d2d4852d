"""LRU stack distances of prefix blocks: what an LRU cache of any capacity would hit, from one look at the trace.

A prefix cache keeps key-value blocks by the whole prefix that they end, and works as vLLM's does: when a request
arrives, its longest leading run of cached blocks is the hit; then all of its blocks are the most recently used,
touched deepest first, so that the tail of a prompt is evicted before its head. What is touched does not depend
on the capacity, hence LRU has the inclusion property (Mattson et al., IBM Systems Journal 9(2), 1970): a block
is cached at capacity C exactly where it is among the C blocks on top of the stack. Along a prefix that depth
only grows, so the leading run needs no further care.

The depth of a block whose last reference is at position p, looked up by a request that begins at position s, is
the number of different blocks in [p, s). In terms of prev(j), the reference before j of the same block (−1: none),

    depth = #{j < s: prev(j) < p} − p

which is a count of pairs out of order and takes n·log n without a loop over references (``smaller_before``).
Blocks that were referenced by exactly the same requests move through the stack together: they are one *node* of
the radix tree, and enter as one reference with a weight.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Ints = npt.NDArray[np.int64]
Index = npt.NDArray[np.int32]
"""positions in the string of references, of which there are less than 2³¹."""
Keys = npt.NDArray[np.uint64]

_STEP = 1 << 20


def mixed(x: Keys) -> Keys:
    """The finaliser of splitmix64 (Steele, Lea & Flood, OOPSLA 2014): a bijection that spreads ids."""
    with np.errstate(over="ignore"):
        x = x + np.uint64(0x9E3779B97F4A7C15)
        x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        return x ^ (x >> np.uint64(31))


def places(sizes: Ints) -> Index:
    """0 … size − 1 for each of the groups, one after the other."""
    ends = np.cumsum(sizes)
    n = int(ends[-1]) if len(ends) else 0
    return np.arange(n, dtype=np.int32) - np.repeat((ends - sizes).astype(np.int32), sizes)


def prefix_keys(ids: Keys, sizes: Ints) -> Keys:
    """A key of the whole prefix that each block ends, from the ``ids`` of requests that have ``sizes`` blocks.

    Sums of hashes of (id, place), so equal ids in equal order give equal keys; of n different prefixes some two
    share a key with probability n²/2⁶⁵. Where a source's ids stand for whole prefixes, keys and ids go one to
    one.
    """
    if not len(ids):
        return ids
    step = ids ^ mixed(np.arange(int(sizes.max()), dtype=np.uint64))[places(sizes)]
    step = mixed(step)
    filled = sizes > 0
    first = (np.cumsum(sizes) - sizes)[filled]
    with np.errstate(over="ignore"):
        before = -step[first]
        np.cumsum(step, out=step)  # wraps around, and so do differences of it
        before += step[first]
        step -= np.repeat(before, sizes[filled])
    return mixed(step)


def previous(keys: Keys) -> tuple[Index, Index]:
    """For each reference the one before it of the same key (−1: none), and how many its key has in all."""
    n = len(keys)
    order, new = _by_key(keys)
    before = np.empty(n, dtype=np.int32)
    before[order[:1]] = -1
    before[order[1:]] = np.where(new[1:], np.int32(-1), order[:-1])
    each = np.diff(np.flatnonzero(new), append=n).astype(np.int32)
    times = np.empty(n, dtype=np.int32)
    times[order] = np.repeat(each, each)
    return before, times


def _by_key(keys: Keys) -> tuple[Index, npt.NDArray[np.bool_]]:
    """The order of well mixed keys, those of one key in their own order; and where in it a new key begins.

    Leading bits of the key and the index are sorted as one number, which is several times as fast as an argsort;
    the few groups in which two keys share their leading bits are sorted again.
    """
    n = len(keys)
    low = np.uint64(max(1, (n - 1).bit_length()))
    packed = keys >> low
    packed <<= low
    for at in range(0, n, _STEP):
        packed[at : at + _STEP] |= np.arange(at, min(at + _STEP, n), dtype=np.uint64)
    packed.sort()
    order = packed.astype(np.uint32)
    order &= np.uint32((1 << int(low)) - 1)
    packed >>= low
    new = np.ones(n, dtype=bool)
    np.not_equal(packed[1:], packed[:-1], out=new[1:])
    packed = keys[order]
    clash = np.flatnonzero(~new[1:] & (packed[1:] != packed[:-1]))
    if len(clash):
        runs = np.append(np.flatnonzero(new), n)
        for i in np.unique(np.searchsorted(runs, clash, side="right") - 1).tolist():
            mine = order[runs[i] : runs[i + 1]]
            mine[:] = mine[np.lexsort((mine, keys[mine]))]
            packed[runs[i] : runs[i + 1]] = keys[mine]
    np.not_equal(packed[1:], packed[:-1], out=new[1:])
    return order.view(np.int32), new


def smaller_before(rank: Index, weight: Index) -> Index:
    """For each i the sum of weight[j] over j < i with rank[j] < rank[i]; ``rank`` is a permutation.

    From the whole down to pairs: a block of 2ᵏ⁺¹ indices stands in order of rank, each of its right half gets the
    weights of the left ones that stand before it, and the block is split.
    """
    m = len(rank)
    out = np.zeros(m, dtype=np.int32)
    at: Index = np.empty(m, dtype=np.int32)
    at[rank] = np.arange(m, dtype=np.int32)
    for k in range((m - 1).bit_length() - 1, -1, -1):
        size = 1 << k
        right = (at & size) != 0
        w = weight[at]
        w[right] = 0
        total = np.cumsum(w, dtype=np.int32)
        base = total[:: 2 * size] - w[:: 2 * size]
        left, moved = at[~right], at[right]
        out[moved] += total[right] - base[moved >> (k + 1)]
        split = (
            m >> (k + 1) << k
        )  # entries of either half in blocks that are full; the last may not be
        pairs = np.empty((split >> k, 2, size), dtype=np.int32)
        pairs[:, 0] = left[:split].reshape(-1, size)
        pairs[:, 1] = moved[:split].reshape(-1, size)
        at = np.concatenate([pairs.ravel(), left[split:], moved[split:]])
    return out


@dataclass(frozen=True, eq=False)
class Depths:
    """Where blocks that had been seen before stood in the LRU stack; a node of the radix tree is an entry.

    ``blocks[i]`` blocks of request ``request[i]`` stood at depths ``above[i]`` + 1 … ``above[i]`` + ``blocks[i]``.
    """

    request: Index
    above: Index
    blocks: Index

    def hits(self, capacity: int) -> Index:
        """[entries] blocks that an LRU cache of ``capacity`` blocks hits."""
        hit: Index = np.clip(np.int32(capacity) - self.above, 0, self.blocks)
        return hit

    @property
    def deepest(self) -> int:
        """The least capacity that hits all that an infinite cache does."""
        return int((self.above + self.blocks).max()) if len(self.above) else 0


def depths(before: Index, times: Index, sizes: Ints) -> Depths:
    """Depths of all blocks seen before. ``before`` and ``times`` of the blocks' keys as ``previous`` gives them,
    request after request, each from its first block on; ``sizes``: blocks of each request."""
    # A block that has as many references as the one before it has them from the same requests.
    head = np.ones(len(before), dtype=bool)
    np.not_equal(times[1:], times[:-1], out=head[1:])
    head[(np.cumsum(sizes) - sizes)[sizes > 0]] = True
    nodes = np.flatnonzero(head)
    blocks = np.diff(nodes, append=len(before)).astype(np.int32)
    request = np.repeat(np.arange(len(sizes), dtype=np.int32), sizes)[nodes]
    return _depths(among(head, before[nodes]), request, blocks)


def among(chosen: npt.NDArray[np.bool_], before: Index) -> Index:
    """Positions in the whole string (−1: none) as positions among the ``chosen``, which hold them all."""
    place = np.cumsum(chosen, dtype=np.int32) - np.int32(1)
    return np.where(before >= 0, place[before], np.int32(-1))


def _depths(before: Index, request: Index, blocks: Index) -> Depths:
    """From references of nodes, in prompt order, with the one before of the same node (−1: none)."""
    # Touched deepest first: each request's nodes backwards. That turns itself round.
    sizes = np.bincount(request)
    turned = np.repeat((np.cumsum(sizes) - 1).astype(np.int32), sizes) - places(sizes)
    start = np.repeat((np.cumsum(sizes) - sizes).astype(np.int32), sizes)
    before = np.where(before >= 0, turned[before], np.int32(-1))[turned]
    blocks = blocks[turned]
    again = before >= 0
    ahead = np.cumsum(blocks, dtype=np.int32) - blocks
    first = np.where(again, np.int32(0), blocks)
    new = np.cumsum(first, dtype=np.int32) - first
    known = ahead - new
    t = np.flatnonzero(again)
    p, s = before[t], start[t]
    taken = np.zeros(len(before), dtype=np.int32)
    taken[p] = 1
    rank = np.cumsum(taken, dtype=np.int32)[p] - np.int32(1)
    # Those of one request that come before are of deeper blocks, whose last references were earlier.
    inverted = smaller_before(rank, blocks[t]) - (known[t] - known[s])
    above = new[s] + inverted - ahead[p] - blocks[t]
    return Depths(request[turned[t]], above, blocks[t])

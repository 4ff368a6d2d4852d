"""Prefix blocks of generated requests: a tree of prompts whose cache hits are those of the source.

A request's prompt shares its first blocks with an earlier one and has new ids behind them. How many it shares is
drawn from the law of depths (by the size of the prompt); with whom, from the law of LRU stack distances: the prompt that stands at the drawn
distance, or of its neighbours the one that the depth fits best, since most prompts go on where one ended.
A later turn of a session shares what it has in common with the turn before. A partial last block is never shared. Where ids
are of single blocks, those of new blocks may have stood elsewhere before, as often as in the source.

Depths and distances are drawn from laws that are *rehearsed*: a profile knows the outcome (hit ratios, an LRU curve) and
not its causes, so a stream of the source's size is generated, its outcome is compared with the profile, and the
causes are moved by the difference, a few times over. What a cold cache at the beginning costs is thus part of it.
"""

from __future__ import annotations

import copy
import functools
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl
import pyarrow as pa

from ..aspects.block_reuse import MOST_BLOCKS, MOST_HEADS, Reuse
from ..compiled import kernel
from ..distributions import Grid
from ..errors import ModelError
from . import trees
from .maker import State
from .randomness import key, salts, uniforms

Array = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

ASSUMED_BLOCK_TOKENS = 16
"""where the source does not record the size of a block."""
REHEARSED_ROWS = 1 << 15
ROUNDS = 10
STEP = 0.5
"""of the difference by which the distances are moved in a round."""
STEPS = 4096
"""equal steps of probability in which depths and distances are drawn."""
LEAST_BLOCKS = 1024
"""to be remembered, where no LRU curve says how many."""
MOST_PATHS = 1 << 20
"""prompts that are remembered."""
STREAM_BITS = 48
"""a stream's blocks are numbered in so many bits."""
OF_DEPTH, OF_DISTANCE, OF_PART, OF_ROOT, OF_NEW = range(5)


@dataclass(frozen=True, eq=False)
class Woven:
    """The prompts of a block of time. The i-th has the ids from ``begins[i]`` to ``begins[i + 1]``, ⌈input/block⌉ of them;
    ``shared_blocks``: [n] full blocks that it shares with earlier ones. The ids themselves are many: they are written when they
    are asked for, in any thread."""

    begins: Ints
    shared_blocks: Ints
    nodes: Ints
    tips: Ints
    partial: Ints
    again: float
    salt: np.uint64
    first: np.uint64
    """of the stream's block 0: streams share no blocks"""

    def ids(self) -> npt.NDArray[np.uint64]:
        """Of all prompts, one after the other."""
        out = np.empty(self.begins[-1], dtype=np.uint64)
        told = self.nodes, self.tips, self.partial, self.begins, self.again, self.salt, self.first
        kernel(trees, "write")(*told, out)
        return out

    def chosen(self, rows: slice | Ints) -> Woven:
        """Some of the prompts."""
        begins = np.concatenate([[0], np.cumsum(np.diff(self.begins)[rows])])
        return replace(
            self, begins=begins, shared_blocks=self.shared_blocks[rows], tips=self.tips[rows], partial=self.partial[rows],
        )  # fmt: skip

    def lists(self) -> pl.Series:
        """[n] the column ``prefix_hashes``."""
        return pl.Series(pa.LargeListArray.from_arrays(self.begins, self.ids()))


class PrefixStage:
    """Prefix blocks for the rows of one stream.

    ``rehearsal``: columns of typical rows in order: ``input_tokens`` and, where there are sessions, ``parent`` and
    ``shared_tokens``, as ``SessionStage`` gives them. ``block_tokens``: of the generated blocks; other blocks than the
    source's cut the same shared lengths anew (where they are smaller, a uniform part of the next block of the
    source is shared too).
    """

    def __init__(
        self,
        law: Reuse,
        rehearsal: Mapping[str, Ints],
        seed: int,
        stream: int = 0,
        *,
        block_tokens: int | None = None,
    ) -> None:
        recorded = law.block_tokens or ASSUMED_BLOCK_TOKENS
        self.block_tokens = block_tokens or recorded
        self.seed = seed
        if self.block_tokens < 1:
            raise ModelError("a block of no tokens", "give a positive number")
        self._number(stream)
        self.sessions = "parent" in rehearsal
        alone = float((rehearsal["parent"] < 0).mean()) if self.sessions else 1.0
        self.roots = _popularity(law)
        self.variety = 0.0 if len(self.roots) else _variety(law.roots, law.requests, alone)
        self.few = law.roots <= MOST_HEADS
        self.head = _head(law)
        self.heads: _Heads | None = None
        if len(law.heads) > 1:
            first = rehearsal["parent"] < 0 if self.sessions else slice(None)
            self.heads = _Heads(law.heads, rehearsal["input_tokens"][first] // recorded)
        self.unit = recorded
        block, anywhere = (law.ratios[k].value if k in law.ratios else 0.0 for k in ("block_hit_ratio", "any_block_hit_ratio"))  # fmt: skip
        self.again = (
            0.0 if law.chained or block >= 1 else max(0.0, (anywhere - block) / (1 - block))
        )
        self.laws = _Laws.of(law, recorded * law.every)
        self._rehearse(law, rehearsal)

    def _number(self, stream: int) -> None:
        """Draw as this stream of the seed."""
        self.of = key(self.seed, "prefixes", stream)
        self.salt = salts(key(self.seed, "blocks", stream), 1)[0]
        self.first = np.uint64(stream << STREAM_BITS)

    def copied(self, stream: int) -> PrefixStage:
        """The same laws for another stream: they are rehearsed once."""
        out = copy.copy(self)
        out._number(stream)
        return out

    def start(self) -> State:
        """No prompt is known: the cache is cold, as the source's was."""
        return {
            "nodes": np.zeros((0, trees.NODE_COLUMNS), dtype=np.int64),
            "paths": np.zeros((0, trees.PATH_COLUMNS), dtype=np.int64),
            "numbers": np.zeros(trees.NUMBERS, dtype=np.int64),
        }

    def rows(self, columns: Mapping[str, Any], state: State) -> tuple[Woven, State]:
        """Blocks of the rows of a block, in order. ``columns`` as ``rehearsal``; ``parent`` counts the stream's rows
        from 0 over all blocks, as this stage does."""
        none = np.zeros(0, dtype=np.int64)
        woven, kept = self._weave(columns, state, self.block_tokens, none, none)
        return woven, kept()

    def _weave(
        self, columns: Mapping[str, Any], state: State, block: int, capacities: Ints, curve: Ints
    ) -> tuple[Woven, Callable[[], State]]:
        tokens = np.require(columns["input_tokens"], np.int64, ["C", "W"])
        n = len(tokens)
        first = int(state["numbers"][trees.ROWS])
        want, distance, root = self._drawn(tokens, np.arange(first, first + n), block)
        none = np.full(n, -1, dtype=np.int64)
        parent = np.require(columns["parent"], np.int64, ["C", "W"]) if self.sessions else none
        own = np.require(columns["shared_tokens"], np.int64, ["C", "W"]) if self.sessions else none
        hits, tips, partial = (np.empty(n, dtype=np.int64) for _ in range(3))
        known, held = len(state["paths"]), len(state["nodes"])
        nodes = np.empty((held + 2 * n, trees.NODE_COLUMNS), dtype=np.int64)
        paths = np.empty((known + n, trees.PATH_COLUMNS), dtype=np.int64)
        nodes[:held], paths[:known] = state["nodes"], state["paths"]
        numbers = state["numbers"].copy()
        near = np.empty((known + n, trees.NEAR_COLUMNS), dtype=np.int32)
        owned, floors = _sums(nodes[:held], known + n)
        kernel(trees, "weave")(
            tokens, parent, own, want, distance, root, block, int(self.sessions), self._heads(block), nodes, paths, near, owned, floors, numbers,
            hits, tips, partial, capacities, curve,
        )  # fmt: skip
        held = int(numbers[trees.NODES])
        begins = np.zeros(n + 1, dtype=np.int64)
        np.cumsum((tokens + block - 1) // block, out=begins[1:])
        woven = Woven(
            begins, hits, nodes[:held].copy(), tips, partial, self.again, self.salt, self.first
        )
        return woven, functools.partial(self._kept, nodes, paths, owned, numbers, block)

    def _drawn(self, tokens: Ints, rows: Ints, block: int) -> tuple[Ints, Ints, Ints]:
        """Blocks that each row would share, at which distance, and the first block that it begins with (−1: any)."""
        blocks = (tokens + self.unit - 1) // self.unit
        want = np.maximum(self.laws.depths(blocks, uniforms(self.of, rows, OF_DEPTH)), 1)
        root = np.full(len(rows), -1)
        if self.heads is not None:
            root = self.heads.drawn(tokens // self.unit, uniforms(self.of, rows, OF_ROOT))
        elif len(self.roots):
            root = np.searchsorted(self.roots, uniforms(self.of, rows, OF_ROOT) * self.roots[-1])
        if self.sessions and self.few:
            # what a first turn shares is what all begin with, not what sessions hold
            common = self.head if self.heads is None else self.heads.blocks[root]
            want = np.full(
                len(rows), np.maximum(np.rint(common * self.laws.stretch), 1), dtype=np.int64
            )
        if self.variety:
            # Ewens: the i-th prompt begins like none before with probability θ/(θ + i)
            want[uniforms(self.of, rows, OF_NEW) * (self.variety + rows) < self.variety] = 0
        if block != self.unit:
            part = uniforms(self.of, rows, OF_PART) * self.unit if block < self.unit else 0.0
            want = np.where(want > 0, (want * self.unit + part) // block, 0).astype(np.int64)
        distance = self.laws.distances(uniforms(self.of, rows, OF_DISTANCE)) // block
        return want, np.maximum(distance, 1), root

    def _heads(self, block: int) -> int:
        """Blocks of ``block`` tokens that a cold cache knows of a prompt."""
        return max(1, self.head * self.unit // block)

    def _kept(self, nodes: Ints, paths: Ints, owned: Ints, numbers: Ints, block: int) -> State:
        """Without the prompts that are colder than any distance drawn."""
        count = int(numbers[trees.PATHS])
        owned = owned[:count]
        above = np.cumsum(owned[::-1])[::-1] - owned
        cold = np.flatnonzero(above > 2.0 ** self.laws.at[-1] / block)
        coldest = int(cold[-1]) + 1 if len(cold) else 0
        coldest = max(coldest, count - MOST_PATHS)
        renamed = np.empty(int(numbers[trees.NODES]), dtype=np.int64)
        places = np.empty(count, dtype=np.int64)
        kernel(trees, "gather")(nodes, paths, numbers, renamed, places, coldest, int(self.sessions))
        return {
            "nodes": nodes[: numbers[trees.NODES]].copy(),
            "paths": paths[: numbers[trees.PATHS]].copy(),
            "numbers": numbers,
        }

    def _rehearse(self, law: Reuse, rehearsal: Mapping[str, Ints]) -> None:
        """Move the laws until what comes out is what the profile states, in blocks of its own."""
        size = min(len(rehearsal["input_tokens"]), max(law.requests, 1), REHEARSED_ROWS)
        some = {k: np.asarray(v)[:size] for k, v in rehearsal.items()}
        tokens = some["input_tokens"]
        capacities = np.array([c.blocks * law.every for c in law.lru], dtype=np.int64)
        target = np.array([c.hit_ratio.value for c in law.lru])
        ratio = law.ratios.get("prefix_hit_ratio") or law.ratios["block_hit_ratio"]
        each = (tokens + self.unit - 1) // self.unit
        whole = float(tokens.sum()) / self.unit if law.block_tokens else float(each.sum())
        if not whole:
            return
        best, least = (self.laws.stretch, self.laws.upto), math.inf
        for _ in range(ROUNDS):
            curve = np.zeros(len(capacities), dtype=np.int64)
            made, _ = self._weave(some, self.start(), self.unit, capacities, curve)
            got = float(made.shared_blocks.sum()) / whole
            missing = target - curve / whole
            off = max(float(np.abs(missing).max(initial=0.0)), abs(ratio.value - got))
            if off < least:
                best, least = (self.laws.stretch, self.laws.upto), off
            if got > 0:
                factor = ratio.value / got
                if len(target) and ratio.value > 0:
                    self.laws.move(target - curve / whole * factor, ratio.value)
                self.laws.stretch *= float(np.clip(factor, 0.5, 2.0))
        self.laws.stretch, self.laws.upto = best


def _popularity(law: Reuse) -> Array:
    """Cumulated shares of the first blocks that prompts begin with, by Zipf's law with the source's commonest; none where
    they are too many to be told apart."""
    top = law.top_root
    if not 1 < law.roots <= MOST_HEADS or top is None:
        return np.zeros(0)
    rank = np.arange(1, law.roots + 1.0)
    low, high = 0.0, 50.0
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if 1 / (rank**-middle).sum() < top else (low, middle)
    return np.cumsum(rank**-high)


class _Heads:
    """With which of few first blocks a prompt begins: with one whose common blocks it can hold, such that each has its share.
    ``heads``: (share, blocks), as of ``Reuse``; ``full``: [rows] full blocks of typical first prompts."""

    def __init__(self, heads: Sequence[tuple[float, int]], full: Ints) -> None:
        share, self.blocks = (np.array(x, dtype=np.float64) for x in zip(*heads, strict=True))
        self.rising = np.sort(self.blocks)
        fits = self.blocks <= self.rising[:, None]  # [classes of sizes, heads]
        of = np.bincount(self._class(full), minlength=len(share)) / max(len(full), 1)
        weight = share / share.sum()
        for _ in range(ROUNDS * ROUNDS):  # iterative proportional fitting
            each = fits * weight
            each /= each.sum(axis=1, keepdims=True)
            weight = weight * (share / share.sum()) / np.maximum(of @ each, 1e-9)
            weight = np.maximum(weight / weight.sum(), 1e-9)
        self.upto = np.cumsum(each, axis=1)
        self.upto[:, -1] = 1.0

    def _class(self, full: Ints) -> Ints:
        """The longest head that fits, by its place among the ``rising``; what is shorter than all takes the shortest."""
        return np.maximum(np.searchsorted(self.rising, full, side="right") - 1, 0)

    def drawn(self, full: Ints, u: Array) -> Ints:
        """Places of heads, at numbers in (0, 1)."""
        klass = self._class(full)
        out = np.empty(len(full), dtype=np.int64)
        for k in np.flatnonzero(np.bincount(klass)):
            mine = klass == k
            out[mine] = np.searchsorted(self.upto[k], u[mine])
        return out


def _head(law: Reuse) -> int:
    """Blocks that prompts with the same first block all begin with, in the mean: so many blocks for each first block have
    a tenth of its references or more."""
    if law.roots > MOST_HEADS:
        return 1
    ranks = [rank for rank, _ in law.popularity.curve]
    often = sum(n * law.roots >= 0.1 * law.requests for _, n in law.popularity.curve)
    if not often:
        return 1
    last = math.sqrt(
        ranks[often - 1] * ranks[min(often, len(ranks) - 1)]
    )  # somewhere between two points
    return max(1, min(round(last / max(law.roots, 1)), MOST_BLOCKS))


def _variety(roots: int, requests: int, alone: float) -> float:
    """θ of Ewens's law, under which ``requests`` have so many ``roots`` in the mean, if a share of them can begin one:
    alone·θ·ln(1 + n/θ) = roots (Ewens 1972)."""
    low, high = 1e-9, 1e12
    for _ in range(100):
        middle = math.sqrt(low * high)
        if alone * middle * math.log1p(requests / middle) < roots:
            low = middle
        else:
            high = middle
    return high


def _sums(nodes: Ints, places: int) -> tuple[Ints, Ints]:
    """``owned`` and ``floors`` of trees, up to one floor of at most ``SPREAD`` sums."""
    sizes = [_full(places)]
    while sizes[-1] > trees.SPREAD:
        sizes.append(_full(sizes[-1] // trees.SPREAD))
    floors = np.cumsum([0, *sizes])
    sums = np.zeros(floors[-1], dtype=np.int64)
    owner, count = nodes[:, trees.OWNER], nodes[:, trees.COUNT]
    for floor, (begin, size) in enumerate(zip(floors, sizes, strict=False)):
        sums[begin : begin + size] = np.bincount(owner >> (floor * trees.SPREAD_BITS), count, size)
    return sums, floors


def _full(places: int) -> int:
    return -(-places // trees.SPREAD) * trees.SPREAD


def _beyond_none(depth: Grid, at: Array) -> Array:
    """Quantiles of the depths of those that share any block: who shares none is told by the first blocks."""
    none = float(depth.rank(np.array([0.5]))[0])
    return depth.quantile(none + (1 - none) * at) if none < 1 else np.ones(len(at))


class _Laws:
    """What a request's depth and distance are drawn from. ``depth``: [sizes, STEPS] quantiles of the blocks shared, for
    prompts of at most ``sizes`` blocks; ``stretch`` multiplies what is shared beyond the first. ``at``: log₂ of distances in
    tokens, ``upto``: share of the distances up to each."""

    def __init__(self, sizes: Ints, depth: Array, at: Array, upto: Array) -> None:
        self.sizes, self.depth, self.at, self.upto = sizes, depth, at, upto
        self.stretch = 1.0

    @classmethod
    def of(cls, law: Reuse, unit: int) -> _Laws:
        """Distances as the LRU curve has them; without a curve all orders of them up to the source's blocks are alike."""
        by_size = law.depth_by_size or ((1, law.depth),)
        steps = (np.arange(STEPS) + 0.5) / STEPS
        depth = np.stack([_beyond_none(g, steps) for _, g in by_size])
        sizes = np.array([n for n, _ in by_size[:-1]], dtype=np.int64)
        if not law.lru:
            at = np.log2([unit, unit * max(law.distinct, LEAST_BLOCKS)])
            return cls(sizes, depth, at, np.array([0.0, 1.0]))
        at = np.log2([c.blocks * unit for c in law.lru])
        hits = np.array([c.hit_ratio.value for c in law.lru])
        rising = np.maximum.accumulate(hits) - hits[0]  # the least cache hits what all begin with
        return cls(sizes, depth, at, rising / max(rising[-1], 1e-300))

    def depths(self, blocks: Ints, u: Array) -> Ints:
        """Blocks that prompts of so many ``blocks`` would share."""
        table = self.depth.copy()
        table[table > 1] = 1 + (table[table > 1] - 1) * self.stretch
        rows = np.searchsorted(
            self.sizes, np.arange(int(self.sizes[-1]) + 2 if len(self.sizes) else 1)
        )
        row = rows[np.minimum(blocks, len(rows) - 1)]
        return np.rint(table).astype(np.int64).ravel()[row * STEPS + (u * STEPS).astype(np.int64)]

    def distances(self, u: Array) -> Ints:
        """In tokens."""
        steps = (np.arange(STEPS) + 0.5) / STEPS
        table = np.exp2(np.interp(steps, self.upto, self.at)).astype(np.int64)
        return table[(u * STEPS).astype(np.int64)]

    def move(self, missing: Array, whole: float) -> None:
        """By half of what is ``missing`` of the ``whole`` hits at each capacity."""
        upto = self.upto + STEP * (missing - missing[0]) / whole
        upto[-1] = 1.0
        self.upto = np.maximum.accumulate(np.clip(upto, 0.0, 1.0))

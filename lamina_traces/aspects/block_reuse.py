"""Reuse of prefix blocks: hit ratios of an infinite cache and of LRU caches, popularity, time to reuse.

What the aspect ``prefixes`` stores of block ids, and how it is measured on ``References``. Definitions of the ratios
stand in ``prefixes``.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from ..counts import Counts
from ..distributions import K_ANONYMITY, Fitted, Grid, fit_families
from ..errors import ModelError
from ..intervals import Blocks
from ..units import short
from .block_references import Ids, References
from .durations import Durations, rounded
from .ratios import Ratio, Units, rounded_share, share_of, within
from .stack_distances import Depths, Index, Keys, among, depths, places, previous
from .timeline import Timeline
from .timings import Timings

Array = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

RATIOS = (
    "prefix_hit_ratio",
    "block_hit_ratio",
    "mean_request_hit_ratio",
    "request_hit_ratio",
    "any_block_hit_ratio",
)
FEWEST_REQUESTS = 20
KNOTS = 129
SIZE_KNOTS = 33
MOST_HEADS = 62
"""first blocks that are told apart: the generator has a bit for each."""
MOST_BLOCKS = 1 << 31
"""more than any prompt has."""
FEWEST_OF_A_SIZE = 100
"""requests from which prompts of one size have depths of their own."""


@dataclass(frozen=True)
class Capacity:
    """An LRU cache of ``blocks`` blocks hits ``hit_ratio`` of the prompt tokens (of the blocks where their size is
    not recorded)."""

    blocks: int
    hit_ratio: Ratio

    def to_dict(self) -> dict[str, Any]:
        return {"blocks": self.blocks} | self.hit_ratio.to_dict()


@dataclass(frozen=True)
class Popularity:
    """How references spread over blocks. ``once``: share of the blocks that are referenced once. ``zipf``: law of the
    rank of the block that a reference goes to (references fall as rank^−a). ``counts``: zeta law of a block's
    number of references. ``curve``: (rank, references of the block there), where ten requests or ten blocks share
    them."""

    once: float
    zipf: Fitted | None
    counts: Fitted | None
    curve: tuple[tuple[int, int], ...]

    def to_dict(self) -> dict[str, Any]:
        return {
            "once": self.once,
            "zipf": self.zipf.to_dict() if self.zipf else None,
            "counts": self.counts.to_dict() if self.counts else None,
            "curve": [list(p) for p in self.curve],
        }

    @classmethod
    def from_dict(cls, d: dict[str, Any]) -> Popularity:
        curve = tuple((int(r), int(n)) for r, n in d["curve"])
        if any(r < 1 or n < 0 for r, n in curve):
            raise ModelError(
                "prefixes of the profile: a rank or a count is negative", "fit the profile again"
            )
        laws = [Fitted.from_dict(d[k]) if d[k] else None for k in ("zipf", "counts")]
        return cls(share_of(d["once"]), laws[0], laws[1], curve)


@dataclass(frozen=True)
class Reuse:
    """What block ids say. ``block_tokens``: tokens of a block, None where not recorded; ``every`` > 1: only each such
    block of a prompt was looked at, so ratios are lower bounds. ``chained``: an id stands for its whole prefix.
    ``later_half``: prefix_hit_ratio of the second half of the requests, whose cache the first has filled.
    ``lru``: by rising capacity; ``working_sets``: blocks that reach 50, 90, 99 % of the infinite cache's hits.
    ``depth``: leading blocks seen before, per request; ``depth_by_size``: (blocks, depths of the prompts of at most so many
    that are longer than those of the entry before), since what is shared goes with what there is. ``reuse``: seconds since a block was last referenced.
    ``roots``: different first blocks; ``top_root``: share of the requests that begin with the commonest. ``heads``: (share of
    the requests, blocks that half of them or more have in common) for each first block, the commonest first; empty where
    those are more than MOST_HEADS, or one of them is of fewer than ten requests.
    """

    requests: int
    prompt_tokens: int
    block_tokens: int | None
    every: int
    chained: bool
    blocks: int
    distinct: int
    ratios: Mapping[str, Ratio]
    later_half: float
    lru: tuple[Capacity, ...]
    working_sets: Mapping[str, int]
    popularity: Popularity
    depth: Grid
    reuse: Durations | None
    roots: int
    top_root: float | None
    depth_by_size: tuple[tuple[int, Grid], ...] = ()
    heads: tuple[tuple[float, int], ...] = ()

    def to_dict(self) -> dict[str, Any]:
        by_size = [{"blocks": n, "depth": g.to_dict()} for n, g in self.depth_by_size]
        return {
            "requests": self.requests,
            "prompt_tokens": self.prompt_tokens,
            "block_tokens": self.block_tokens,
            "every": self.every,
            "chained": self.chained,
            "blocks": self.blocks,
            "distinct": self.distinct,
            "ratios": {k: r.to_dict() for k, r in self.ratios.items()},
            "later_half": self.later_half,
            "lru": [c.to_dict() for c in self.lru],
            "working_sets": dict(self.working_sets),
            "popularity": self.popularity.to_dict(),
            "depth": self.depth.to_dict(),
            **({"depth_by_size": by_size} if by_size else {}),
            "reuse": self.reuse.to_dict() if self.reuse else None,
            "roots": self.roots,
            "top_root": self.top_root,
            **({"heads": [list(h) for h in self.heads]} if self.heads else {}),
        }

    @classmethod
    def from_dict(cls, d: dict[str, Any]) -> Reuse:
        whole = ("requests", "prompt_tokens", "every", "blocks", "distinct", "roots")
        counts = {k: int(d[k]) for k in whole}
        size = None if d["block_tokens"] is None else int(d["block_tokens"])
        lru = tuple(Capacity(int(c["blocks"]), Ratio.from_dict(c)) for c in d["lru"])
        sets = {str(k): int(v) for k, v in d["working_sets"].items()}
        by_size = tuple((int(e["blocks"]), Grid.from_dict(e["depth"])) for e in d.get("depth_by_size", ()))  # fmt: skip
        if not {"prefix_hit_ratio", "block_hit_ratio"} & d["ratios"].keys():
            raise ModelError(
                "prefixes of the profile tell neither prefix_hit_ratio nor block_hit_ratio",
                "state one of them under ratios, or fit the profile again",
            )
        positive = [*counts.values(), *sets.values(), 1 if size is None else size]
        if (
            min(positive) < 0
            or counts["every"] < 1
            or size == 0
            or counts["distinct"] > counts["blocks"]
            or any(a.blocks >= b.blocks for a, b in itertools.pairwise(lru))
            or (lru and lru[0].blocks < 1)
            or any(a >= b for (a, _), (b, _) in itertools.pairwise(by_size))
            or any(not 1 <= int(n) <= MOST_BLOCKS for _, n in d.get("heads", ()))
            or len(d.get("heads", ())) > MOST_HEADS
        ):
            raise ModelError(
                "prefixes of the profile: sizes must be positive and capacities must rise",
                "fit the profile again",
            )
        return cls(
            **counts,
            block_tokens=size,
            chained=bool(d["chained"]),
            ratios={k: Ratio.from_dict(d["ratios"][k]) for k in RATIOS if k in d["ratios"]},
            later_half=share_of(d["later_half"]),
            lru=lru,
            working_sets=sets,
            popularity=Popularity.from_dict(d["popularity"]),
            depth=Grid.from_dict(d["depth"]),
            reuse=Durations.from_dict(d["reuse"]) if d["reuse"] else None,
            top_root=None if d["top_root"] is None else share_of(d["top_root"]),
            depth_by_size=by_size,
            heads=tuple((share_of(s), int(n)) for s, n in d.get("heads", ())),
        )


# --- measuring -------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class _Requests:
    """[requests] arrays. ``hits`` are leading blocks seen before; ``full`` and ``full_hits`` leave a partial last block
    out; ``weight``: what a full block counts, and ``whole`` what a request does: tokens, or blocks where the size of
    a block is not recorded."""

    sizes: Ints
    hits: Ints
    full: Ints
    full_hits: Ints
    weight: int
    whole: Ints
    units: Units


def measure(
    refs: References, block_tokens: int | None, timeline: Timeline | None, *, ordered: bool = True
) -> Reuse:
    """All figures of one reading, which holds blocks. ``timeline``: None where there is no clock, or one a session
    (then not ``ordered`` either: what stood in an LRU cache is not known)."""
    ids = refs.ids()
    chained = ids.chained
    keys = refs.keys()
    sizes = refs.sizes // refs.every
    first_blocks = (np.cumsum(sizes) - sizes)[sizes > 0]
    first_keys = keys[first_blocks]
    before, times = previous(keys)
    del keys
    request = np.repeat(np.arange(len(sizes), dtype=np.int32), sizes)
    hits = np.bincount(request[before >= 0], minlength=len(sizes))
    r = _requests(refs, block_tokens, timeline, sizes, hits)
    ratios = _ratios(r, refs, block_tokens is not None)
    ratios["any_block_hit_ratio"] = ratios["block_hit_ratio"] if chained else _any_block(r, ids)
    del ids
    reuse = _times(before, request, refs.arrival_ns, timeline) if timeline is not None else None
    del request
    half = len(sizes) // 2
    later = float(r.full_hits[half:].sum() * r.weight / max(int(r.whole[half:].sum()), 1))
    popularity = _popularity(np.bincount(times[before < 0]))
    roots = int((before[first_blocks] < 0).sum())
    top = int(times[first_blocks].max(initial=0))
    few = roots <= MOST_HEADS and refs.every == 1
    heads = _heads(first_keys, times, sizes[sizes > 0]) if few else ()
    stack = None
    if ordered:
        before, times = _full(before, times, r)
        stack = depths(before, times, r.full)
    return Reuse(
        requests=len(sizes),
        prompt_tokens=int(r.whole.sum()) if block_tokens else 0,
        block_tokens=block_tokens,
        every=refs.every,
        chained=chained,
        blocks=refs.blocks,
        distinct=refs.blocks - int(hits.sum()) * refs.every,
        ratios=ratios,
        later_half=rounded_share(later),
        lru=_curve(stack, r) if stack is not None else (),
        working_sets=_working_sets(stack) if stack is not None else {},
        popularity=popularity,
        depth=Grid.of(_whole_numbers(hits * refs.every), KNOTS),
        reuse=reuse,
        roots=roots,
        top_root=rounded_share(top / len(sizes)) if top >= K_ANONYMITY else None,
        depth_by_size=_by_size(refs.sizes, hits * refs.every),
        heads=heads,
    )


def _requests(
    refs: References, block_tokens: int | None, timeline: Timeline | None, sizes: Ints, hits: Ints
) -> _Requests:
    weight = (block_tokens or 1) * refs.every
    whole = np.where(refs.tokens >= 0, refs.tokens, refs.sizes * (block_tokens or 1)) if block_tokens else refs.sizes  # fmt: skip
    full = np.minimum(sizes, whole // weight)
    units = Units.of(refs.arrival_ns, timeline)
    return _Requests(sizes, hits, full, np.minimum(hits, full), weight, whole, units)


def _ratios(r: _Requests, refs: References, tokens: bool) -> dict[str, Ratio]:
    hits, blocks = r.hits * refs.every, refs.sizes
    out = {"prefix_hit_ratio": r.units.ratio(r.full_hits * r.weight, r.whole)} if tokens else {}
    out["block_hit_ratio"] = r.units.ratio(hits, blocks)
    out["mean_request_hit_ratio"] = r.units.ratio(hits / np.maximum(blocks, 1), blocks > 0)
    out["request_hit_ratio"] = r.units.ratio(hits > 0, np.ones(len(blocks)))
    return out


def _by_size(sizes: Ints, depth: Ints) -> tuple[tuple[int, Grid], ...]:
    """Depths of prompts by their blocks, in classes half an octave wide; those of few are joined to the next."""
    edges = np.unique(np.rint(2 ** (np.arange(1, 62) / 2)).astype(np.int64)) - 1
    kind = np.searchsorted(edges, sizes)
    out: list[tuple[int, Grid]] = []
    chosen = np.zeros(len(sizes), dtype=bool)
    for k in range(int(kind.max(initial=0)) + 1):
        chosen |= (kind == k) & (sizes > 0)
        rest = (sizes > edges[k]).sum()
        if chosen.sum() >= FEWEST_OF_A_SIZE and (rest >= FEWEST_OF_A_SIZE or not rest):
            out.append((int(edges[k]), Grid.of(_whole_numbers(depth[chosen]), SIZE_KNOTS)))
            chosen[:] = False
    return tuple(out)


def _heads(first: Keys, times: Index, sizes: Ints) -> tuple[tuple[float, int], ...]:
    """As ``Reuse.heads``. ``first``: keys of the first blocks; ``times``: references of each block; ``sizes``: of the
    requests with blocks."""
    _, kind, n = np.unique(first, return_inverse=True, return_counts=True)
    if not len(n) or n.min() < K_ANONYMITY:
        return ()
    ends = np.cumsum(sizes)
    least = np.maximum(n, 2 * K_ANONYMITY).astype(np.int32)
    rare = np.flatnonzero(2 * times < np.repeat(least[kind], sizes))
    at = np.append(rare, len(times))[np.searchsorted(rare, ends - sizes)]
    common = np.minimum(at, ends) - (ends - sizes)
    longest = np.zeros(len(n), dtype=np.int64)
    np.maximum.at(longest, kind, common)
    return tuple(
        (rounded_share(n[i] / len(first)), int(longest[i])) for i in np.argsort(-n, kind="stable")
    )


def _any_block(r: _Requests, ids: Ids) -> Ratio:
    seen = np.bincount(ids.request, ids.seen, len(r.sizes))
    return r.units.ratio(seen, np.bincount(ids.request, minlength=len(r.sizes)))


def _whole_numbers(values: Ints) -> Counts:
    n = np.bincount(values)
    return Counts.exact(np.arange(len(n)), n, "blocks")


def _times(before: Index, request: Index, arrival: Ints, timeline: Timeline) -> Durations | None:
    """Seconds between a reference of a block and the one before it, none across a mask."""
    out = Timings(timeline.windows)
    step = 1 << 22
    for at in range(0, len(before), step):
        again = np.flatnonzero(before[at : at + step] >= 0) + at
        now, then = arrival[request[again]], arrival[request[before[again]]]
        if timeline.masks:
            near = ~timeline.crosses(then, now)
            now, then = now[near], then[near]
        out.add(now - then, timeline.window(now))
    return out.described()


# --- popularity ------------------------------------------------------------------------------------


def _popularity(blocks: Ints) -> Popularity:
    """From how many ``blocks`` have 0, 1, 2… references."""
    times = np.flatnonzero(blocks)
    zeta = fit_families(Counts.exact(times, blocks[times], "references"), ("zeta",))
    # in order of rank: blocks up to rank ends[i] have falling[i] references or more
    falling = times[::-1]
    ends = np.cumsum(blocks[falling])
    zipf = fit_families(_ranks(falling, ends), ("zipf",))
    size = int(ends[-1])
    shown = np.unique(np.rint(2 ** np.arange(0, math.log2(size) + 0.5, 0.5)).astype(np.int64))
    shown = np.unique(np.minimum(shown, size))
    at = falling[np.searchsorted(ends, shown)]
    told = (at >= K_ANONYMITY) | (blocks[at] >= K_ANONYMITY)
    return Popularity(
        once=rounded_share(float(blocks[1] / blocks.sum())),
        zipf=rounded(zipf[0]) if zipf else None,
        counts=rounded(zeta[0]) if zeta else None,
        curve=tuple((int(a), int(b)) for a, b in zip(shown[told], at[told], strict=True)),
    )


def _ranks(falling: Ints, ends: Ints) -> Counts:
    """References by the rank of their block: each of the first ranks, then 32 bins an octave."""
    size = int(ends[-1])
    last = np.unique(np.rint(2 ** (np.arange(math.ceil(32 * math.log2(size))) / 32)).astype(np.int64)) if size > 1 else np.zeros(0, dtype=np.int64)  # fmt: skip
    last = np.append(last[last < size], size)
    so_far = np.interp(last, np.append(0, ends), np.append(0, np.cumsum(falling * np.diff(ends, prepend=0))))  # fmt: skip
    middle = (np.append(0, last[:-1]) + 1 + last) / 2
    middle[-1] = size  # where the law ends
    return Counts.exact(middle, np.diff(so_far, prepend=0), "rank")


# --- caches of bounded size ------------------------------------------------------------------------


def _full(before: Index, times: Index, r: _Requests) -> tuple[Index, Index]:
    """Of full blocks, which alone are cached, the one before and the number of references."""
    if (r.full == r.sizes).all():
        return before, times
    chosen = places(r.sizes) < np.repeat(r.full.astype(np.int32), r.sizes)
    back = before[chosen]
    odd = np.flatnonzero((back >= 0) & ~chosen[back])
    if not len(odd):
        return among(chosen, back), times[chosen]
    while len(odd):  # blocks that are full in one request and partial in another
        back[odd] = before[back[odd]]
        odd = odd[(back[odd] >= 0) & ~chosen[back[odd]]]
    return among(chosen, back), np.arange(len(back), dtype=np.int32)  # each a node of its own


def _curve(stack: Depths, r: _Requests) -> tuple[Capacity, ...]:
    """Hit ratios at capacities half an octave apart, from the first at which ten requests hit to the one that misses
    nothing; of a stretch that does not rise its ends."""
    whole = float(r.whole.sum())
    blocks, below = None, np.zeros(0)
    found = Units(None)
    if r.units.window is not None:
        found = Units(r.units.window[stack.request], r.units.windows)
        tokens = r.units.sums(r.whole)
        most = found.sums(stack.blocks) * r.weight
        blocks = Blocks.of(most - most.sum() / whole * tokens)
        below = blocks.sums(tokens) if blocks is not None else below
    out: list[Capacity] = []
    for capacity in np.unique(np.rint(2 ** (np.arange(62) / 2)).astype(np.int64)).tolist():
        hits = stack.hits(capacity)
        if len(hits) and int((hits > 0).sum()) >= K_ANONYMITY:
            value = float(hits.sum(dtype=np.int64)) * r.weight / whole
            interval = None
            if blocks is not None:
                sums = blocks.sums(found.sums(hits) * r.weight)
                interval = within(blocks.interval(value, sums / below))
            if len(out) > 1 and value - out[-2].hit_ratio.value < 0.001:
                out.pop()
            out.append(Capacity(capacity, Ratio(rounded_share(value), interval)))
        if capacity >= stack.deepest:
            break
    return tuple(out)


def _working_sets(stack: Depths) -> dict[str, int]:
    """The least capacities, to three digits, that reach shares of the infinite cache's hits."""
    whole = float(stack.blocks.sum(dtype=np.int64))
    out: dict[str, int] = {}
    for share in (0.5, 0.9, 0.99) if len(stack.blocks) >= K_ANONYMITY else ():
        low, high = 0, stack.deepest
        while high - low > max(1, high >> 11):
            middle = (low + high) // 2
            enough = stack.hits(middle).sum(dtype=np.int64) >= share * whole
            low, high = (low, middle) if enough else (middle, high)
        out[f"{share:g}"] = int(short(high, 3))
    return out

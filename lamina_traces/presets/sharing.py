"""Sharing: what prompts have in common, as a preset states it, and the hits that follow from it."""

from __future__ import annotations

import itertools

import numpy as np

from ..aspects.block_reuse import Capacity, Popularity, Reuse
from ..aspects.prefixes import Prefixes
from ..aspects.ratios import Ratio, rounded_share
from ..distributions import Grid
from ..units import short
from .rehearsal import NOMINAL, Rehearsed
from .statements import Table


def prefixes(t: Table, seen: Rehearsed) -> Prefixes:
    """``heads`` beginnings of ``head_tokens`` that prompts have in common, by Zipf's law; ``hit_ratio``: of all prompt tokens in an
    infinite cache; without it, what the heads (and the turns of sessions) make of it."""
    size = round(t.number("block_tokens", "tokens", most=1 << 16))
    tokens = t.number("head_tokens", "tokens", above_zero=False)
    heads = max(round(t.number("heads", "prompts", most=NOMINAL)), 1) if t.has("heads") else 1
    zipf = t.number("zipf", "", above_zero=False) if t.has("zipf") else 0.0
    requests = round(t.number("requests", "requests")) if t.has("requests") else NOMINAL
    head = max(int(tokens) // size, 1)
    full = seen.inputs // size
    first = seen.shared < 0
    shared = np.where(first, np.minimum(full, head), np.minimum(seen.shared // size, full))
    begun = float(first.mean()) * requests  # each head is new once
    cold = max(1 - heads / max(begun, heads), 0.0)
    hits = np.where(first, shared * cold, shared)
    ratio = float(hits.sum() * size / max(seen.inputs.sum(), 1.0))
    depth = np.full(2, float(head))
    if t.has("hit_ratio"):
        stated = t.number("hit_ratio", "share of prompt tokens", most=1.0)
        beyond = max(stated - ratio, 0.0) * float(seen.inputs.mean()) / size / max(first.mean(), 1e-9)  # fmt: skip
        u = np.linspace(0, 1, 65)
        depth = head - beyond * np.log1p(-np.minimum(u, 1 - 1 / 256)) if beyond > 0 else depth
        ratio = stated
    anywhere = t.number("anywhere_ratio", "share of blocks", most=1.0) if t.has("anywhere_ratio") else None  # fmt: skip
    lru = []
    for point in t.tables("lru"):
        at = round(point.number("cache_tokens", "tokens") / size)
        hit = point.number("hit_ratio", "share of prompt tokens", most=1.0, above_zero=False)
        lru.append(Capacity(max(at, 1), Ratio(rounded_share(hit))))
        point.close()
    if any(a.blocks >= b.blocks for a, b in itertools.pairwise(lru)):
        raise t.fault("lru", "does not rise", "list caches from the smallest on")
    t.close()
    blocks = np.ceil(seen.inputs / size).sum()
    of_blocks = min(ratio * seen.inputs.sum() / size / max(blocks, 1.0), 1.0)
    ratios = {"prefix_hit_ratio": ratio, "block_hit_ratio": of_blocks}
    if anywhere is not None:
        ratios["any_block_hit_ratio"] = max(anywhere, of_blocks)
    rank = np.arange(1, heads + 1.0)
    each = requests / len(seen.inputs)
    return Prefixes(
        Reuse(
            requests=requests,
            prompt_tokens=round(float(seen.inputs.sum()) * each),
            block_tokens=size,
            every=1,
            chained=anywhere is None,
            blocks=round(float(blocks) * each),
            distinct=round(float(blocks) * each * (1 - of_blocks)),
            ratios={k: Ratio(rounded_share(v)) for k, v in ratios.items()},
            later_half=rounded_share(ratio),
            lru=tuple(lru),
            working_sets={},
            popularity=Popularity(0.0, None, None, ((heads * head, max(requests // heads, 1)),)),
            depth=Grid(np.array([short(v) for v in depth]), short(float(depth.mean())), 0.0),
            reuse=None,
            roots=heads,
            top_root=rounded_share(float(1 / (rank**-zipf).sum())),
        ),
        None,
    )

"""Prefix reuse on the page: hit ratios by name, what caches of each size would hit, which blocks are popular."""

from __future__ import annotations

import numpy as np

from lamina_traces.aspects.block_reuse import Popularity, Reuse
from lamina_traces.aspects.prefixes import Prefixes
from lamina_traces.units import format_count, format_number

from . import figures as fig
from .blocks import NOTHING, Block, Figure, Method, Section, Table, Tile, percent
from .durations import confidence_band, laws, quantiles, survival_figure
from .tallies import percent_with_ends

METHODS = (
    Method(
        "Prefix hit ratios",
        "An infinite cache that is empty when the trace begins. A block is a hit where its whole prefix was seen in an earlier request. "
        "prefix_hit_ratio counts tokens of full blocks; the others count blocks or requests, and are named because tools print each of them without one.",
        "prefix_hit_ratio = Σ tokens of full leading blocks seen before / Σ prompt tokens",
        "Kwon et al., SOSP 2023 (vLLM); Qin et al., FAST 2025 (Mooncake); mean_request_hit_ratio is what aiperf 0.13 prints",
    ),
    Method(
        "LRU caches of bounded size",
        "Full blocks alone are cached. A request looks its longest cached prefix up, then all of its blocks become the most recently used, the deepest touched first. "
        "One look at the trace gives every capacity, exactly: a block is hit where it is among the capacity's many on top of the LRU stack.",
        "depth = #{j < s: prev(j) < p} − p,   hit at capacity C if depth ≤ C",
        "Mattson et al., IBM Systems Journal 9(2), 1970",
    ),
    Method(
        "Popularity of blocks",
        "References by the rank of their block, where ten requests or ten blocks share their number.",
        "references(rank) ∝ rank^−a",
        "Breslau et al., INFOCOM 1999",
    ),
)
WORDS = {
    "prefix_hit_ratio": "prompt tokens in full leading blocks seen before",
    "block_hit_ratio": "leading blocks seen before, of all blocks",
    "mean_request_hit_ratio": "mean over requests of that share",
    "request_hit_ratio": "requests whose first block was seen before",
    "any_block_hit_ratio": "blocks whose id was seen before anywhere",
    "recorded_hit_ratio": "prompt tokens that the engine reported as cached",
}


def section(p: Prefixes, id_: str, subtitle: str) -> Section:
    blocks: list[Block] = []
    ratios = {**(p.blocks.ratios if p.blocks else {})}
    if p.recorded:
        ratios["recorded_hit_ratio"] = p.recorded.ratio
    rows = tuple(
        (name, WORDS[name], percent_with_ends(r.value, r.interval, 2)) for name, r in ratios.items()
    )
    named = Table(("ratio", "what it is", "value"), rows, "llr", "Hit ratios by name", wide=True)
    if p.blocks is None:
        return Section(id_, "Prefix reuse", (), (named,), subtitle)
    b = p.blocks
    if len(b.lru) > 1:
        blocks.append(_curve(b, id_))
    if len(b.popularity.curve) > 2:
        blocks.append(_popularity(b.popularity, b.distinct, id_))
    depth = _depth(b, id_)
    if depth is not None:
        blocks.append(depth)
    if b.reuse is not None:
        again = survival_figure(b.reuse, f"{id_}-reuse", "Time to reuse", "times to reuse")
        blocks += [again] if again is not None else []
    blocks += [named, _numbers(b)]
    if b.reuse is not None:
        if b.reuse.families:
            blocks.append(laws("Laws of the time to reuse, in seconds", b.reuse.families))
        named_times = {"since the last reference": b.reuse}
        blocks.append(quantiles(named_times, "Time to reuse of a block", ""))
    return Section(id_, "Prefix reuse", (), tuple(blocks), subtitle)


def tiles(p: Prefixes) -> list[Tile]:
    """Key numbers."""
    out = []
    if p.blocks and (ratio := p.blocks.ratios.get("prefix_hit_ratio")):
        out.append(
            Tile("prefix hit ratio", percent(ratio.value), "infinite cache, of prompt tokens")
        )
    if p.recorded:
        out.append(
            Tile("cached, by the engine", percent(p.recorded.ratio.value), "of prompt tokens")
        )
    return out


def _numbers(b: Reuse) -> Table:
    unit = (b.block_tokens or 1) * b.every
    size = f"{b.block_tokens} tokens" if b.block_tokens else NOTHING
    rows = [
        ("requests with recorded blocks", format_count(b.requests)),
        ("prompt tokens", format_count(b.prompt_tokens) if b.block_tokens else NOTHING),
        ("size of a block", size + (f", one in {b.every} was looked at" if b.every > 1 else "")),
        ("an id stands for", "its whole prefix" if b.chained else "its own block"),
        ("blocks", format_count(b.blocks)),
        ("different ones", format_count(b.distinct)),
        ("referenced once", percent(b.popularity.once)),
        ("different first blocks", format_count(b.roots)),
        ("requests that begin with the commonest", percent(b.top_root)),
        ("hit ratio of the second half of the requests", percent(b.later_half)),
    ]
    rows += [
        (f"LRU cache for {float(k):.0%} of an infinite one's hits", f"{format_count(v)} blocks" + (f", {_tokens(v * unit)} tokens" if b.block_tokens else ""))
        for k, v in b.working_sets.items()
    ]  # fmt: skip
    return Table(("", ""), tuple(rows), "lr", "Prefix reuse in numbers", plain=True)


def _tokens(x: float) -> str:
    return f"{format_number(x / 1e6)} M" if x >= 1e6 else format_number(x)


def _curve(b: Reuse, id_: str) -> Figure:
    unit = (b.block_tokens or 1) * b.every
    x = np.array([c.blocks * unit for c in b.lru], dtype=np.float64)
    y = np.array([100 * c.hit_ratio.value for c in b.lru])
    what = "prompt tokens" if b.block_tokens else "blocks"
    size = "tokens" if b.block_tokens else "blocks"
    data = []
    ends = [c.hit_ratio.interval for c in b.lru]
    if all(i is not None for i in ends):
        low, high = (np.array([100 * getattr(i, k) for i in ends]) for k in ("low", "high"))
        band = confidence_band(x, low, high)
        for curve in band:
            curve["line"]["shape"] = "linear"
        data += band
    data.append(
        fig.line(x, y, "LRU", fig.BLUE, mode="lines+markers", marker={"size": 4, "color": fig.BLUE},
                 hovertemplate=f"%{{x:,.4g}} {size}: %{{y:.3g}}% hit<extra></extra>")
    )  # fmt: skip
    most = float(y[-1])
    data.append(
        fig.line([x[0], x[-1]], [most, most], "infinite cache", fig.ORANGE, dash="dash", width=1.5, hoverinfo="skip")
    )  # fmt: skip
    half = b.working_sets.get("0.5")
    sentence = f"An infinite cache hits {percent(most / 100)} of the {what}"
    if half is not None:
        sentence += f"; half of that needs {_tokens(half * unit)} {size}, 90% needs {_tokens(b.working_sets['0.9'] * unit)}"
    lo, hi = float(x[0]), float(x[-1])
    layout = fig.layout(
        fig.axis(f"capacity ({size})", log=True, range=fig.log_range(lo, hi), **fig.decade_ticks(lo, hi)),
        fig.axis(f"{what} that hit (%)", rangemode="tozero"),
    )  # fmt: skip
    layout["legend"]["traceorder"] = "normal"
    rows = tuple(
        (
            format_count(c.blocks),
            _tokens(c.blocks * unit) if b.block_tokens else NOTHING,
            percent_with_ends(c.hit_ratio.value, c.hit_ratio.interval),
        )
        for c in b.lru
    )
    table = Table(("blocks", "tokens", "hit ratio"), rows, "rrr")
    return Figure(f"{id_}-lru", "What an LRU cache hits", f"{sentence}.", data, layout, table)


def _popularity(p: Popularity, distinct: int, id_: str) -> Figure:
    x = np.array([r for r, _ in p.curve], dtype=np.float64)
    y = np.array([n for _, n in p.curve], dtype=np.float64)
    data = [
        fig.line(x, y, "measured", fig.BLUE, mode="lines+markers", marker={"size": 5, "color": fig.BLUE},
                 hovertemplate="rank %{x:,}: %{y:,} references<extra></extra>")
    ]  # fmt: skip
    sentence = f"{percent(p.once)} of the {format_count(distinct)} different blocks are referenced once; the commonest {format_count(int(y[0]))} times"
    low = float(y.min())
    if p.zipf is not None:
        a, size = p.zipf.params["a"], p.zipf.params["size"]
        at = np.geomspace(1, float(x[-1]), 60)
        share = at**-a / float((np.arange(1, int(min(size, 1e6)) + 1, dtype=np.float64) ** -a).sum())  # fmt: skip
        drawn = p.zipf.rows * share
        data.append(
            fig.line(
                at, drawn, f"rank^−{a:.2f}", fig.ORANGE, dash="dash", width=1.5, hoverinfo="skip"
            )
        )
        sentence += (
            f". References fall as rank to the power −{format_number(a)} (KS D {p.zipf.ks_d:.3f})"
        )
        low = min(low, float(drawn.min()))
    hi, top = float(x[-1]), float(y.max())
    layout = fig.layout(
        fig.axis("rank of the block", log=True, range=fig.log_range(1, hi), **fig.decade_ticks(1, hi)),
        fig.axis("references", log=True, range=fig.log_range(low, top), **fig.decade_ticks(low, top)),
    )  # fmt: skip
    rows = tuple((format_count(r), format_count(n)) for r, n in p.curve)
    table = Table(("rank", "references"), rows, "rr", notes=("Where ten requests or ten blocks share the number.",))  # fmt: skip
    return Figure(f"{id_}-popularity", "Popularity of blocks", f"{sentence}.", data, layout, table)


def _depth(b: Reuse, id_: str) -> Figure | None:
    """How many leading blocks of a prompt were known."""
    x, share = fig.grid_cdf(b.depth)
    if len(x) < 2 or x[0] == x[-1]:
        return None
    unit = b.block_tokens or 1
    x = x * unit
    size = "tokens" if b.block_tokens else "blocks"
    lo, hi = float(x[0]), float(x[-1])
    q = b.depth.quantile(np.array([0.5, 0.9])) * unit
    sentence = (
        f"Half of the prompts begin with at least {format_number(float(q[0]))} {size} that were seen before, "
        f"one in ten with {format_number(float(q[1]))} or more."
    )
    data = [
        fig.line(x, 100 - share, "measured", fig.BLUE, line={"color": fig.BLUE, "width": 2, "shape": "hv"},
                 hovertemplate=f"%{{y:.1f}}% begin with more than %{{x:,.4g}} known {size}<extra></extra>")
    ]  # fmt: skip
    layout = fig.layout(
        fig.axis(f"known at the beginning of a prompt ({size})", log=True, range=fig.log_range(lo, hi), **fig.decade_ticks(lo, hi)),
        fig.axis("prompts with more (%)", range=[0, 101], dtick=25),
    )  # fmt: skip
    at = np.array([0.1, 0.25, 0.5, 0.75, 0.9])
    rows = tuple(
        (percent(float(p), 0), format_number(float(v)))
        for p, v in zip(at, b.depth.quantile(at) * unit, strict=True)
    )
    table = Table(("of the prompts", f"know at most, {size}"), rows, "rr")
    return Figure(f"{id_}-depth", "How far prompts are known", sentence, data, layout, table)

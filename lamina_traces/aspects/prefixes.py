"""Prefixes: how much of the prompts has been computed before, and how large a cache must be to know it.

All ratios below suppose that a block is reusable where its whole prefix is the same (as in vLLM, SGLang, Mooncake),
and an infinite cache that is empty when the trace begins. Names of definitions that others print without one:

==============================  ============================================================  =====================
name here                       what it is                                                    who prints it
==============================  ============================================================  =====================
``prefix_hit_ratio``            prompt tokens in full leading blocks seen before, of all       vLLM's counters of
                                prompt tokens; the default                                    hits and queries
``block_hit_ratio``             leading blocks seen before, of all blocks, partial last ones
                                included
``mean_request_hit_ratio``      mean over requests of the share of their blocks; requests      aiperf, Dynamo
                                weigh alike, so short prompts count for more                   (0.3843 on Mooncake)
``request_hit_ratio``           requests whose first block was seen before
``any_block_hit_ratio``         blocks whose id stood anywhere in an earlier request; above    set membership
                                ``block_hit_ratio`` only where ids are of single blocks
==============================  ============================================================  =====================

vLLM always computes the last token of a prompt anew, so of a prompt that is known to its end it hits one block less.
A finite cache is LRU over full blocks: see ``stack_distances``.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from ..distributions import Fitted
from ..errors import Notice
from ..units import format_number, format_seconds
from . import Finding, Line
from .block_references import read
from .block_reuse import FEWEST_REQUESTS, RATIOS, Reuse, measure
from .ratios import Ratio, rounded_share, within
from .shares import ratio_interval
from .timeline import Timeline
from .timings import shortened

if TYPE_CHECKING:
    from ..store import Trace

NAME = "prefixes"
VERSION = 1
TABLES = ("llm_requests",)
NEEDS = ("prefix_hashes",)
RECORD = "log the ids of each prompt's prefix blocks: a hash of every full block and of all before it, as Mooncake's hash_ids"

LIMIT = 0.02
"""difference of prefix hit ratios that passes a gate."""


@dataclass(frozen=True)
class Recorded:
    """``recorded_hit_ratio``: prompt tokens that the engine itself reported as cached, of those of the requests
    that report it. It is of the engine's own cache, whatever its size."""

    requests: int
    prompt_tokens: int
    ratio: Ratio

    def to_dict(self) -> dict[str, Any]:
        return {
            "requests": self.requests,
            "prompt_tokens": self.prompt_tokens,
            "recorded_hit_ratio": self.ratio.to_dict(),
        }

    @classmethod
    def from_dict(cls, d: dict[str, Any]) -> Recorded:
        return cls(
            int(d["requests"]),
            int(d["prompt_tokens"]),
            Ratio.from_dict(d["recorded_hit_ratio"]),
        )


@dataclass(frozen=True)
class Prefixes:
    """What was computed by the ids of blocks, and what the engine reported; either may be None."""

    blocks: Reuse | None
    recorded: Recorded | None

    def to_dict(self) -> dict[str, Any]:
        return {
            "version": VERSION,
            "blocks": self.blocks.to_dict() if self.blocks else None,
            "recorded": self.recorded.to_dict() if self.recorded else None,
        }

    def brief(self) -> Prefixes:
        """What one stream among many keeps."""
        b = self.blocks
        if b is None:
            return self
        popularity = replace(b.popularity, curve=b.popularity.curve[::2])
        few = replace(
            b,
            popularity=popularity,
            depth=b.depth.thinned(33),
            reuse=shortened(b.reuse),
            depth_by_size=tuple((n, g.thinned(9)) for n, g in b.depth_by_size),
        )
        return replace(self, blocks=replace(few, lru=b.lru[::-2][::-1]))

    def laws(self) -> list[tuple[str, tuple[Fitted, ...]]]:
        """What is fitted, with its unit, and the laws, best first."""
        if self.blocks is None:
            return []
        p, reuse = self.blocks.popularity, self.blocks.reuse
        ranks = [("rank of the block of a reference", (p.zipf,))] if p.zipf else []
        counts = [("references a block", (p.counts,))] if p.counts else []
        return [*ranks, *counts, *([("time to reuse, s", reuse.families)] if reuse else [])]

    def findings(self) -> list[Finding]:
        out = _findings(self.blocks) if self.blocks else []
        if self.recorded:
            r = self.recorded
            out.append(
                Finding(
                    NAME,
                    f"The engine reported {_percent(r.ratio.value)} of {_amount(r.prompt_tokens)} prompt tokens as cached.",
                    parameters=f"recorded_hit_ratio {r.ratio}",
                )
            )
        return out


def _findings(b: Reuse) -> list[Finding]:
    main = b.ratios.get("prefix_hit_ratio") or b.ratios["block_hit_ratio"]
    unit = (
        f"{_amount(b.prompt_tokens)} prompt tokens"
        if b.block_tokens
        else f"{_amount(b.blocks)} blocks"
    )
    kind = "block" if b.block_tokens is None else f"{b.block_tokens * b.every}-token block"
    warm = abs(b.later_half - main.value) > LIMIT
    out = [
        Finding(
            NAME,
            f"An infinite prefix cache of {kind}s would know {_percent(main.value)} of {unit}"
            + (f", and {_percent(b.later_half)} in the second half of the requests, when it has filled." if warm else "."),
            model="infinite cache, " + ("chained ids" if b.chained else "ids of single blocks"),
            parameters=", ".join(f"{k} {r}" for k, r in b.ratios.items()),
            warning="coarse-blocks" if b.every > 1 else "",
        )
    ]  # fmt: skip
    if b.working_sets:
        sets = {k: _capacity(v, b) for k, v in b.working_sets.items()}
        out.append(
            Finding(
                NAME,
                f"Half of what an infinite cache hits needs an LRU cache of {sets['0.5']}; 90% needs {sets['0.9']}.",
                model="LRU",
                parameters=", ".join(f"{float(k):.0%} at {v} blocks" for k, v in b.working_sets.items()),
            )
        )  # fmt: skip
    p = b.popularity
    law = p.zipf
    if p.once or law:  # neither is stated by presets
        out.append(
            Finding(
                NAME,
                f"{_percent(p.once)} of {b.distinct:,} different blocks are referenced once"
                + (f"; references fall with a block's rank to the power −{format_number(law.params['a'])}." if law else "."),
                model="zipf" if law else "",
                parameters=law.parameters() if law else "",
                effect=f"KS D {law.ks_d:.3f}" if law else "",
            )
        )  # fmt: skip
    if b.reuse:
        q = b.reuse.quantiles_s
        out.append(
            Finding(
                NAME,
                f"A block that comes back does so after a median of {format_seconds(q['p50'])} (p90 {format_seconds(q['p90'])}).",
                model=b.reuse.best.family if b.reuse.best else "",
                parameters=b.reuse.best.parameters() if b.reuse.best else "",
                effect=b.reuse.best.effect() if b.reuse.best else "",
            )
        )
    return out


def _capacity(blocks: int, b: Reuse) -> str:
    if b.block_tokens is None:
        return f"{_amount(blocks)} blocks"
    return f"{_amount(blocks * b.block_tokens * b.every)} tokens"


def _amount(x: float) -> str:
    """``4.04 million``."""
    return f"{format_number(x / 1e6)} million" if x >= 1e6 else format_number(x)


def _percent(x: float) -> str:
    return f"{100 * x:.3g}%"


def from_dict(d: dict[str, Any]) -> Prefixes:
    """Inverse of ``Prefixes.to_dict``."""
    return Prefixes(
        Reuse.from_dict(d["blocks"]) if d["blocks"] else None,
        Recorded.from_dict(d["recorded"]) if d["recorded"] else None,
    )


# --- measuring -------------------------------------------------------------------------------------


def fit(trace: Trace, notices: list[Notice]) -> Prefixes | None:
    """Fit prefix reuse of ``llm_requests``. Needs the ids of prefix blocks, or what the engine found in its cache.
    Reuse cannot be seen in a sample of the requests."""
    share = trace.manifest.sampled
    recorded = trace.has("cached_input_tokens")
    ids = trace.has("prefix_hashes")
    if not (ids or recorded):
        notices.append(Notice("not-recorded", f"no prefix blocks are recorded; {RECORD}", NAME))
        return None
    if ids and share is not None and share < 1:
        text = f"the trace is a sample of {share:g} of the requests: what the others left in a cache is not known, so reuse is not fitted"
        notices.append(Notice("sampled-trace", text, NAME))
        ids = False
    timeline = Timeline.of(trace) if trace.manifest.clock != "session" else None
    found = Prefixes(
        _reuse(trace, timeline, notices) if ids else None,
        _recorded(trace, timeline) if recorded else None,
    )
    return found if found.blocks or found.recorded else None


def _recorded(trace: Trace, timeline: Timeline | None) -> Recorded | None:
    origin, width = (timeline.first_ns, timeline.width_ns) if timeline else (0, 1 << 62)
    t = trace.query("prefixes/cached_sums", origin_ns=origin, width_ns=width)
    requests, cached, tokens = (int(np.sum(t[c].to_numpy())) for c in ("requests", "cached_tokens", "input_tokens"))  # fmt: skip
    if requests < FEWEST_REQUESTS or tokens <= 0:
        return None
    interval = None
    if timeline is not None:
        timed = t.filter(t["k"].is_valid())
        sums = np.zeros((timeline.windows, 2))
        sums[timed["k"].to_numpy()] = np.stack([timed[c].to_numpy() for c in ("cached_tokens", "input_tokens")], axis=1)  # fmt: skip
        interval = within(ratio_interval(sums[:, 0], sums[:, 1]))
    return Recorded(requests, tokens, Ratio(rounded_share(cached / tokens), interval))


def _block_size(trace: Trace, notices: list[Notice]) -> tuple[bool, int | None]:
    """Whether enough requests record blocks, and the size that most of them have."""
    rows = trace.query("prefixes/block_sizes").to_pylist()
    timed = trace.has("arrival_ns")
    for r in rows:
        r["used"] = r["with_arrival"] if timed else r["requests"]
    best = max(rows, key=lambda r: r["used"], default=None)
    if best is None or best["used"] < FEWEST_REQUESTS:
        n = best["used"] if best else 0
        notices.append(Notice("too-few-rows", f"{n} requests record prefix blocks: reuse is not fitted", NAME))  # fmt: skip
        return False, None
    left_out = sum(r["requests"] for r in rows) - best["used"]
    if left_out:
        text = f"{left_out:,} requests have blocks of another size than {best['block_tokens']} tokens, or no arrival, and are left out"
        notices.append(Notice("left-out", text, NAME))
    size = best["block_tokens"]
    if size is None:
        text = "the size of the blocks is not recorded: ratios are of blocks, not of tokens"
        notices.append(Notice("no-block-size", text, NAME))
    if best["with_input"] < best["requests"]:
        text = f"{best['requests'] - best['with_input']:,} requests do not record their input tokens; their blocks count as full"
        notices.append(Notice("no-input-length", text, NAME))
    return True, None if size is None else int(size)


def _reuse(trace: Trace, timeline: Timeline | None, notices: list[Notice]) -> Reuse | None:
    enough, size = _block_size(trace, notices)
    if not enough:
        return None
    refs = read(trace, size)
    if not refs.blocks:
        notices.append(
            Notice("no-blocks", "no prompt fills a block: there is nothing to reuse", NAME)
        )
        return None
    if refs.every > 1:
        text = (
            f"{refs.blocks:,} blocks are more than are kept: one in {refs.every} of each prompt was looked at, "
            f"so hits fall short by up to {refs.every - 1} blocks a request"
        )
        notices.append(Notice("coarse-blocks", text, NAME))
    if trace.manifest.clock == "session":
        text = "times count from the start of each session, so requests of different sessions have no order: reuse within sessions is right, LRU curves are not computed"
        notices.append(Notice("session-clock", text, NAME))
    found = measure(refs, size, timeline, ordered=trace.manifest.clock != "session")
    if refs.ids_share < 1 and not found.chained:
        text = f"any_block_hit_ratio is of a random {refs.ids_share:.3g} of the ids, as many as are kept"
        notices.append(Notice("sampled-ids", text, NAME))
    return found


def score(a: Trace, b: Trace) -> list[Line]:
    """Difference of prefix hit ratios, of the other ratios, and the largest distance of the two LRU curves."""
    found = [fit(t, []) for t in (a, b)]
    ra, rb = (f.blocks if f else None for f in found)
    if ra is None and rb is None:
        return []
    if ra is None or rb is None:
        note = "only one of them records prefix blocks"
        return [Line(NAME, "prefix hit ratio difference", None, LIMIT, "share", note)]
    lines = []
    for key in RATIOS:
        limit = LIMIT if key == "prefix_hit_ratio" else None
        label = f"{key.replace('_', ' ')} difference"
        if key in ra.ratios and key in rb.ratios:
            value = abs(ra.ratios[key].value - rb.ratios[key].value)
            lines.append(Line(NAME, label, value, limit, "share"))
    lines.append(_curve_distance(ra, rb))
    return lines


def _curve_distance(a: Reuse, b: Reuse) -> Line:
    label = "LRU curve distance"
    sizes = [c.block_tokens for c in (a, b)]
    if not a.lru or not b.lru or (sizes[0] is None) != (sizes[1] is None):
        return Line(NAME, label, None, LIMIT, "share", "no curves to compare")
    tokens, ratios = [], []
    for r in (a, b):
        unit = (r.block_tokens or 1) * r.every
        tokens.append(np.log2([c.blocks * unit for c in r.lru]))
        ratios.append(np.array([c.hit_ratio.value for c in r.lru]))
    at = np.linspace(min(t[0] for t in tokens), max(t[-1] for t in tokens), 64)
    both = [np.interp(at, t, y, left=0.0) for t, y in zip(tokens, ratios, strict=True)]
    return Line(NAME, label, float(np.abs(both[0] - both[1]).max()), LIMIT, "share")

"""vAttention (Prabhu et al. 2024, arXiv 2405.04437): what pages hold and waste, and what a kernel without pages gains."""

from __future__ import annotations

from dataclasses import replace

from ..costs import State
from ..hardware import model
from ..specs import simple, step_model
from ..techniques import apply_spec, apply_step, parse
from . import Claim

PAPER = "vAttention, arXiv 2405.04437"
PAGES_KB = (64, 128, 256, 2048)
TOKENS = {
    ("yi-6b", 1): (64, 128, 256, 2048),
    ("llama-3-8b", 2): (64, 128, 256, 2048),
    ("yi-34b", 2): (64, 128, 256, 2048),
    ("llama-3-8b", 1): (32, 64, 128, 1024),
}
"""model and tensor parallel degree → tokens of pages of ``PAGES_KB``, by the equation of the published code."""
SLOWER = 2.8
"""vLLM's paged kernel of 2024 against one on contiguous memory, at most."""


def _block(name: str, tp: int, page_kb: int) -> int:
    paged = apply_spec([parse(f"virtual-memory-kv:page_kb={page_kb}")], simple(name, "a100-80-sxm", tp=tp))  # fmt: skip
    return paged.pools[0].replica.kv.block_size


def _farthest_page() -> float:
    """Ours ÷ theirs, of the page where they differ most."""
    ratios = [
        _block(*on, kb) / tokens
        for on, listed in TOKENS.items()
        for kb, tokens in zip(PAGES_KB, listed, strict=True)
    ]
    return max(ratios, key=lambda r: abs(r - 1))


def _waste_mb() -> float:
    """The most that a request of up to 4,096 tokens has mapped beside what it needs."""
    size, each = _block("yi-6b", 1, 2048), model("yi-6b").kv_bytes_per_token("bf16")
    return max(-length % size for length in range(1, 4097)) * each / 1e6


def _decode_gain() -> float:
    own = step_model(simple("yi-6b", "a100-80-sxm"))
    paged = own.with_ops([replace(op, bytes=op.bytes * SLOWER) if op.name == "decode_attention" else op for op in own.ops])  # fmt: skip
    mapped = apply_step([parse(f"virtual-memory-kv:paged_slowdown={SLOWER}")], paged)
    states = [State.decode(batch, 16384) for batch in (1, 2, 4, 8, 16, 32)]
    return max(paged.seconds(s) / mapped.seconds(s) for s in states)


CLAIMS = [
    Claim(
        name="vattention-tokens-per-page",
        paper=PAPER,
        says="tokens of a page of 64 KB to 2 MB, of the page that is farthest off",
        config="Yi-6B and Llama-3-8B on one device, Llama-3-8B and Yi-34B on two",
        reported=1.0,
        unit="ours ÷ theirs",
        band=(1.0, 1.0),
        tier="A",
        measure=_farthest_page,
        technique="virtual-memory-kv",
        neutral=None,
        note="theirs by the equation of the published code",
    ),
    Claim(
        name="vattention-waste",
        paper=PAPER,
        says="the most that a request wastes: a page of each of 2 · 32 ranges",
        config="Yi-6B on one device, pages of 2 MB",
        reported=134.2,
        unit="MB",
        band=(134.2 * 0.99, 134.2 * 1.01),
        tier="A",
        measure=_waste_mb,
        technique="virtual-memory-kv",
        neutral=None,
        note="theirs by the equation of the published code",
    ),
    Claim(
        name="vattention-decode-gain",
        paper=PAPER,
        says="tokens up to 1.97 times as fast as with vLLM's paged kernel",
        config="Yi-6B on one A100-80, 16,384 tokens of context, 1 to 32 sequences: the largest",
        reported=1.97,
        unit="×",
        band=(1.7, 2.4),
        tier="C",
        measure=_decode_gain,
        technique="virtual-memory-kv",
        note="that the paged kernel is 2.8 times as slow is from memory of the paper, and an upper bound: weak evidence",
    ),
]

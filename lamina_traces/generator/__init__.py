"""The generator: Profile → each aspect's sample → canonical rows, in blocks."""

from __future__ import annotations

from .requests import (
    GENERATOR_VERSION,
    Plan,
    Shard,
    block_frame,
    frame_hash,
    frames,
    generate,
    plan,
    profile_sha256,
    row_hash,
    shard_blocks,
    with_poisson,
)

__all__ = [
    "GENERATOR_VERSION", "Plan", "Shard", "block_frame", "frame_hash", "frames", "generate", "plan", "profile_sha256",
    "row_hash", "shard_blocks", "with_poisson",
]  # fmt: skip

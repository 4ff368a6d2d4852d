"""Made up conversations with the ids of their prompts' blocks: system prompts that sessions share, and growing contexts."""

from __future__ import annotations

import numpy as np
import polars as pl

from lamina_traces.aspects.stack_distances import mixed
from tests.recovery.conversations import World, rows

BLOCK = 16


def with_blocks(world: World, seed: int, prompts: int = 8) -> pl.DataFrame:
    """Sessions of ``world``, each behind one of the system ``prompts`` (Zipf; 4 to 32 blocks), of which every turn holds all
    the session's turns before."""
    rng = np.random.default_rng(seed)
    frame = rows(world, rng, ends=False)
    number = frame["session_id"].str.slice(1).cast(pl.Int64).to_numpy()
    share = np.arange(1, prompts + 1.0) ** -1.2
    which = rng.choice(prompts, int(number.max()) + 1, p=share / share.sum())[number]
    blocks = rng.integers(4, 33, prompts)[which]
    tokens = frame["input_tokens"].to_numpy() + blocks * BLOCK
    ids = []
    for i, n in enumerate(tokens.tolist()):
        place = np.arange(-(-n // BLOCK))
        owner = np.where(place < blocks[i], which[i], 1000 + number[i])
        key = owner * 2**20 + place
        if n % BLOCK:
            key[-1] = 2**50 + i  # a partial block is nobody else's
        ids.append(mixed(key.astype(np.uint64)))
    return frame.with_columns(
        pl.Series("input_tokens", tokens.astype(np.int32)),
        pl.Series("prefix_hashes", ids, dtype=pl.List(pl.UInt64)),
        pl.lit(BLOCK, pl.Int32).alias("prefix_block_size"),
    )

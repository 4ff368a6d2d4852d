"""Device memory: weights, and the KV blocks that are left."""

from __future__ import annotations

import math
from dataclasses import dataclass

from ..errors import ModelError
from ..hardware import Device, Model
from .operators import check_tp


@dataclass(frozen=True)
class KvMemory:
    """What a group of ``devices`` has left for keys and values, in blocks of ``block_tokens``."""

    weight_bytes: float
    usable_bytes: float
    reserve_bytes: float
    block_tokens: int
    bytes_per_token: float
    blocks: int

    @property
    def tokens(self) -> int:
        return self.blocks * self.block_tokens


def kv_memory(
    model: Model,
    device: Device,
    *,
    tp: int = 1,
    dtype: str = "bf16",
    kv_dtype: str | None = None,
    utilisation: float = 0.9,
    reserve_gb: float = 2.0,
    block_tokens: int = 16,
) -> KvMemory:
    """blocks = ⌊(memory·utilisation − weights − reserve) / (block_tokens · bytes per token)⌋, over the group.

    ``reserve_gb`` per device is for activations and graphs. ModelError when nothing is left, saying
    which tensor parallel degree would do.
    """

    def left(t: int) -> float:
        usable = t * device.memory_bytes * utilisation
        return usable - model.weight_bytes(dtype) - t * reserve_gb * 1e9

    check_tp(model, tp)
    weights = model.weight_bytes(dtype)
    per_token = model.kv_bytes_per_token(kv_dtype or "bf16", tp)
    blocks = math.floor(left(tp) / (block_tokens * per_token))
    if blocks < 1:
        total = tp * device.memory_bytes
        gb = f"{weights / 1e9:.1f} GB of {dtype} weights on {tp} × {device.memory_gb.value:g} GB ({device.name})"
        if weights > total:
            what = f"{model.name} needs {gb}: {(weights - total) / 1e9:.1f} GB short"
        else:
            short = -left(tp) / 1e9
            what = (
                f"{model.name} needs {gb}: {short:.1f} GB short of any room for the KV cache "
                f"at utilisation {utilisation:g} with {reserve_gb:g} GB reserved"
            )
        tries = [t for t in (1, 2, 4, 8, 16) if t > tp and model.heads % t == 0]
        works = [
            t
            for t in tries
            if left(t) >= block_tokens * model.kv_bytes_per_token(kv_dtype or "bf16", t)
        ]
        no_room = [t for t in tries if t not in works and weights <= t * device.memory_bytes]
        hint = (
            f"tp={works[0]} would fit" if works else "no tensor parallel degree up to 16 would fit"
        )
        if no_room:
            hint += ", " + " and ".join(f"tp={t}" for t in no_room) + " leaves no room for KV"
        raise ModelError(what, hint + "; or take a larger device or a smaller dtype")
    return KvMemory(
        weight_bytes=weights,
        usable_bytes=tp * device.memory_bytes * utilisation,
        reserve_bytes=tp * reserve_gb * 1e9,
        block_tokens=block_tokens,
        bytes_per_token=per_token,
        blocks=blocks,
    )

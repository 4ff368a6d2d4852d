"""Device memory: weights, and the KV blocks that are left."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

from ..errors import ModelError
from ..hardware import BYTES, Device, Model
from .operators import Parallel


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
    parallel: Parallel = Parallel(),
    *,
    dtype: str = "bf16",
    kv_dtype: str | None = None,
    utilisation: float = 0.9,
    reserve_gb: float = 2.0,
    block_tokens: int = 16,
    sequences: int = 0,
    context: float | None = None,
) -> KvMemory:
    """blocks = ⌊(memory·utilisation − weights − reserve) / (block_tokens · bytes per token)⌋, over the group.

    ``reserve_gb`` per device is for activations and graphs, and the states of linear layers for ``sequences``
    come off too. With dp every rank holds its own copy of all weights but the experts. Layers with a window
    keep min(window, ``context``) of ``context`` tokens (default 4,096), so a token takes that share of them.
    ModelError when nothing is left, saying which tensor parallel degree would do.
    """
    kv_type = kv_dtype or model.kv_native or "bf16"
    usual = 4096.0 if context is None else max(1.0, context)
    parts = {k: BYTES[t] for k, t in model.part_dtypes(dtype).items()}
    experts = model.experts * model.expert_params * parts["experts"] if model.experts > 1 else 0.0
    whole = model.weight_bytes(dtype)

    def weights_of(copies: int) -> float:
        return experts + copies * (whole - experts)

    def per_token(t: int) -> float:
        return _per_token(model, kv_type, t, usual)

    def left(t: int) -> float:
        n = replace(parallel, tp=t).devices
        states = sequences * model.state_bytes
        return (
            n * (device.memory_bytes * utilisation - reserve_gb * 1e9)
            - weights_of(parallel.dp)
            - states
        )

    parallel.check(model)
    tp, devices, weights = parallel.tp, parallel.devices, weights_of(parallel.dp)
    blocks = math.floor(left(tp) / (block_tokens * per_token(tp)))
    if blocks < 1:
        total = devices * device.memory_bytes
        gb = f"{weights / 1e9:.1f} GB of {dtype} weights on {devices} × {device.memory_gb.value:g} GB ({device.name})"
        if weights > total:
            what = f"{model.name} needs {gb}: {(weights - total) / 1e9:.1f} GB short"
        else:
            short = -left(tp) / 1e9
            what = (
                f"{model.name} needs {gb}: {short:.1f} GB short of any room for the KV cache "
                f"at utilisation {utilisation:g} with {reserve_gb:g} GB reserved"
            )
        tries = [t for t in (1, 2, 4, 8, 16) if t > tp and model.heads % t == 0]
        works = [t for t in tries if left(t) >= block_tokens * per_token(t)]
        held = {t: replace(parallel, tp=t).devices * device.memory_bytes for t in tries}
        no_room = [t for t in tries if t not in works and weights <= held[t]]
        hint = (
            f"tp={works[0]} would fit" if works else "no tensor parallel degree up to 16 would fit"
        )
        if no_room:
            hint += ", " + " and ".join(f"tp={t}" for t in no_room) + " leaves no room for KV"
        raise ModelError(what, hint + "; or take a larger device or a smaller dtype")
    return KvMemory(
        weight_bytes=weights,
        usable_bytes=devices * device.memory_bytes * utilisation,
        reserve_bytes=devices * reserve_gb * 1e9,
        block_tokens=block_tokens,
        bytes_per_token=per_token(tp),
        blocks=blocks,
    )


def attention_memory(
    model: Model,
    device: Device,
    devices: int,
    *,
    kv_dtype: str | None = None,
    utilisation: float = 0.9,
    reserve_gb: float = 2.0,
    block_tokens: int = 16,
    context: float | None = None,
) -> KvMemory:
    """As ``kv_memory``, of a group that holds keys and values only and shares their heads. ModelError when nothing is left."""
    usual = 4096.0 if context is None else max(1.0, context)
    each = _per_token(model, kv_dtype or model.kv_native or "bf16", devices, usual)
    left = devices * (device.memory_bytes * utilisation - reserve_gb * 1e9)
    blocks = math.floor(left / (block_tokens * each))
    if blocks < 1:
        raise ModelError(
            f"{devices} × {device.memory_gb.value:g} GB ({device.name}) at utilisation {utilisation:g} with {reserve_gb:g} GB "
            "reserved leave no room for the KV cache",
            "take a larger device, or reserve less",
        )
    return KvMemory(
        weight_bytes=0.0,
        usable_bytes=devices * device.memory_bytes * utilisation,
        reserve_bytes=devices * reserve_gb * 1e9,
        block_tokens=block_tokens,
        bytes_per_token=each,
        blocks=blocks,
    )


def _per_token(model: Model, kv_dtype: str, tp: int, usual: float) -> float:
    """Bytes that a token takes in the cache, where layers with a window keep their share of ``usual`` tokens."""
    windowed = model.window_layers / max(1, model.attention_layers)
    kept = 1.0 - windowed + windowed * min(1.0, model.window / usual)
    return model.kv_bytes_per_token(kv_dtype, tp) * kept

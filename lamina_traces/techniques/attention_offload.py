"""Attention offload, or model-attention disaggregation (Lamina; Chen et al. 2024, arXiv 2405.01814 v2).

Decode attention is bound by memory however large the batch, the matrices are not. So a replica keeps its weights on devices
for computing, and its keys and values on cheaper ones for memory, where decode attention runs. What this buys is room for a
larger batch; what it costs is two crossings of a link for every layer. Two staggered half batches let both kinds of
devices work at the same time.
"""

from __future__ import annotations

from dataclasses import replace

from ..errors import UsageError
from ..hardware import Model, device
from ..specs import Group, Link, Pool, Serving, attention_group, main_group, stated_link
from ..units import Quantity
from . import Choice, Params, Technique

_PAPER = "Lamina (arXiv 2405.01814 v2)"


def _spec(spec: Serving, p: Params) -> Serving:
    n = int(p["devices"])
    if n == 0:
        return spec
    if n != p["devices"]:
        raise UsageError(f"attention-offload: devices={p['devices']:g}", "give a whole number")
    if stated_link(spec, "main", "attention") or any(map(attention_group, spec.pools)):  # fmt: skip
        raise UsageError("the spec has an attention group of its own", "leave attention-offload out")  # fmt: skip

    def offloading(pool: Pool) -> Pool:
        if pool.role == "prefill":
            return pool
        away = Group(p["gpu"], n=n, part="attention")
        replica = replace(pool.replica, groups=(*pool.replica.groups, away), staggered=p["staggered"] > 0)  # fmt: skip
        return replace(pool, replica=replica)

    sides = [min(main_group(pool).n, n) for pool in spec.pools if pool.role != "prefill"]
    over = Link("main", "attention", p["link_gb_s"] * min(sides), p["round_trip_s"])
    return replace(spec, pools=tuple(map(offloading, spec.pools)), links=(*spec.links, over))


def least_gb_s(model: Model, batch: float, step_s: float, slower: float = 0.2) -> float:
    """GB/s in one direction, over the whole replica, below which the crossings make a step of ``batch`` sequences that takes
    ``step_s`` without them longer than by the share ``slower``: (2 + 2/G)·e·d·B·L / (α·t), the paper's BW_min."""
    sent = (model.q_width + model.o_width) * 2.0 * model.attention_layers
    sent += model.kv_bytes_per_token("bf16", 1)
    return sent * batch / (slower * step_s) / 1e9


TECHNIQUE = Technique(
    name="attention-offload",
    paper=_PAPER,
    what="keys, values and decode attention on other devices than the weights",
    parameters={
        "devices": Quantity(4, "devices a replica", f"{_PAPER}: DOP(2, 4) of its 70B models", "paper"),
        "staggered": Quantity(1, "0 or 1: half batches that take turns", f"{_PAPER}: two batches", "paper"),
        "link_gb_s": Quantity(45.7, "GB/s for each device of the smaller side", f"{_PAPER}: measured on 400 Gbit/s", "paper"),
        "round_trip_s": Quantity(33e-6, "s", f"{_PAPER}: host-bypassed RDMA", "paper"),
    },
    choices={
        "gpu": Choice("h20", "the device that holds keys and values", lambda name: device(name).name)
    },
    bounds={
        "devices": (0.0, 64.0),
        "staggered": (0.0, 1.0),
        "link_gb_s": (1e-3, 1e4),
        "round_trip_s": (0.0, 1.0),
    },
    neutral={"devices": 0.0},
    limits="prompts are computed with the main devices' attention and their keys and values sent at no cost in time for "
    "chunks before; queries do not go ahead of keys and values; the link's load does not slow it; a request's blocks are shared "
    "evenly among the attention devices",
    spec=_spec,
)  # fmt: skip

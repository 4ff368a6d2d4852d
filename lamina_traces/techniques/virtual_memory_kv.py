"""The KV cache in virtual memory (vAttention; Prabhu et al. 2024, arXiv 2405.04437).

Each layer's keys, and its values, are one range of virtual addresses per sequence, to which the driver maps physical pages as it grows. So kernels need not know of
pages, and memory is handed out in pages of a layer:

    tokens per page = page bytes / (KV heads of a device · head size · bytes of an element)

A token needs room in all 2L ranges of a device, so a request wastes less than 2L pages on each.

The step stands for an engine with a paged kernel. ``paged_slowdown`` says how many times as long that kernel reads as one on contiguous memory
does; the technique takes this away. It is 1 for kernels of today, which the efficiencies were fitted on, so that by default only memory changes.
"""

from __future__ import annotations

from dataclasses import replace

from ..costs import Form, Op, StepModel
from ..errors import ModelError, UnknownName
from ..hardware import Model
from ..specs import Pool, Serving, main_group
from ..units import Quantity
from . import Choice, Params, Technique

KIB = 1024.0


def tokens_per_page(model: Model, tp: int, page_bytes: float, kv_dtype: str | None = None) -> int:
    """Whole tokens of one layer's keys (or latents) that a page of a device holds. ModelError when it holds none."""
    dtype = kv_dtype or model.kv_native or "bf16"
    ranges = (1 if model.mla else 2) * model.attention_layers
    each = model.kv_bytes_per_token(dtype, tp) / (ranges * tp)
    if page_bytes < each:
        raise ModelError(
            f"a page of {page_bytes:g} bytes holds no token: {model.name} keeps {each:g} bytes of one in a layer on a device",
            f"give pages of {each / KIB:g} KB or more",
        )
    return int(page_bytes // each)


def _allocation(name: str) -> str:
    if name not in ("pages", "static"):
        raise UnknownName("allocation", name, ("pages", "static"))
    return name


def _spec(spec: Serving, p: Params) -> Serving:
    def of(pool: Pool) -> Pool:
        kv, batch = pool.replica.kv, pool.replica.batch
        if p["allocation"] == "static":
            size = batch.max_context or spec.shape.max_context
        else:
            size = tokens_per_page(spec.shape, main_group(pool).tp, p["page_kb"] * KIB, kv.dtype)
        return replace(pool, replica=replace(pool.replica, kv=replace(kv, block_size=size)))

    if not p["page_kb"] and p["allocation"] == "pages":
        return spec
    return replace(spec, pools=tuple(map(of, spec.pools)))


def _step(model: StepModel, p: Params) -> StepModel:
    if p["paged_slowdown"] == 1 and not p["exposed"]:
        return model
    ops = [
        replace(op, bytes=op.bytes * (1 / p["paged_slowdown"])) if op.name == "decode_attention" else op
        for op in model.ops
    ]  # fmt: skip
    reads = [op for op in model.ops if op.name == "decode_attention"]
    for op in reads if p["exposed"] else []:
        # a token's keys and values, as decode reads them, are what is mapped for a new one
        rate = model.rates[op.on].peak_bytes_per_s * p["mapping_share"]
        ops.append(
            Op(
                "map_pages",
                "overhead",
                seconds=Form.tokens(p["exposed"] * op.bytes.S / rate),
                on=op.on,
            )
        )
    return model.with_ops(ops)


_PAPER = "vAttention, arXiv 2405.04437"

TECHNIQUE = Technique(
    name="virtual-memory-kv",
    paper="Prabhu et al. 2024 (vAttention), arXiv 2405.04437",
    what="the driver maps pages behind a contiguous KV cache; kernels know no blocks",
    parameters={
        "page_kb": Quantity(2048.0, "KB", f"{_PAPER}: the driver's own pages; 64, 128, 256 need a changed driver; 0: the engine's blocks", "paper"),
        "paged_slowdown": Quantity(1.0, "times as long", "paged kernels of today; up to 2.8 with vLLM's of 2024, from memory of the paper", "assumed"),
        "exposed": Quantity(0.0, "share of mapping that computing does not hide", f"{_PAPER}: mapped an iteration ahead", "paper"),
        "mapping_share": Quantity(0.017, "of the memory's bandwidth", "35 GB/s on an A100 with pages of 2 MB, from memory of the paper; 7.6 GB/s with 64 KB", "assumed"),
    },
    bounds={"page_kb": (0.0, 1 << 20), "paged_slowdown": (1.0, 100.0), "exposed": (0.0, 1.0), "mapping_share": (1e-6, 1.0)},
    neutral={"page_kb": 0.0, "paged_slowdown": 1.0, "exposed": 0.0, "mapping_share": 0.017, "allocation": "pages"},
    limits="pages that a sequence leaves are free at once; virtual addresses never run out; layers with a window keep all tokens' pages or none as blocks do; "
    "pages hold whole tokens; prompts' kernels are as fast either way",
    choices={
        "allocation": Choice("pages", "pages as they are needed, or static: a whole context of the longest kind for each sequence, as before paging", _allocation)
    },
    spec=_spec,
    step=_step,
)  # fmt: skip

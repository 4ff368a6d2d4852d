"""The operators of a decoder-only transformer as forms over the iteration's state.

GEMM of shape (tokens × n) · (n × k), L layers, b bytes per element: 2·tokens·n·k·L FLOPs and
(n·k + tokens·n + tokens·k)·b·L bytes (NanoFlow, arXiv 2408.12757, section 3). Decode attention reads
every sequence's keys and values once. All work is summed over the group of devices.
"""

from __future__ import annotations

from typing import Literal

from ..errors import ModelError, UsageError
from ..hardware import BYTES, Device, Model
from .efficiency import Efficiency
from .step import Coverage, Form, Op, Rates, StepModel


def check_tp(model: Model, tp: int) -> None:
    """ModelError unless ``tp`` devices can share the model's heads.

    Query heads are divided; key/value heads are divided or, where there are fewer of them, replicated.
    """
    if tp < 1:
        raise UsageError(f"tp = {tp} is not a number of devices", "use --tp 1 or more")
    kv_ok = model.kv_heads % tp == 0 or tp % model.kv_heads == 0
    if model.heads % tp or not kv_ok:
        fits = [t for t in range(1, model.heads + 1) if not model.heads % t]
        fits = [t for t in fits if model.kv_heads % t == 0 or t % model.kv_heads == 0]
        raise ModelError(
            f"tp = {tp} does not divide the {model.heads} heads ({model.kv_heads} for keys and values) of {model.name}",
            "use --tp " + ", ".join(map(str, fits[:8])),
        )


def rates(device: Device, devices: int, efficiency: Efficiency, dtype: str) -> Rates:
    """What ``devices`` of a kind sustain together."""
    flops, size = device.flops_per_s(dtype) * devices, device.bytes_per_s * devices
    return Rates(
        flops_per_s=flops * efficiency.compute.value,
        bytes_per_s=size * efficiency.memory.value,
        net_bytes_per_s=device.link_bytes_per_s * devices * efficiency.network.value,
        peak_flops_per_s=flops,
        peak_bytes_per_s=size,
    )


def transformer(
    model: Model,
    device: Device,
    efficiency: Efficiency,
    *,
    tp: int = 1,
    dtype: str = "bf16",
    kv_dtype: str | None = None,
    combine: Literal["sum", "max"] = "sum",
) -> StepModel:
    """The step of ``model`` on ``tp`` devices (tensor parallel).

    ``dtype`` is that of weights and arithmetic; activations have two bytes; ``kv_dtype`` is the KV
    cache's (by default two-byte: engines keep it so unless told otherwise). Left out as negligible: norms,
    embedding lookup, sampling, and the output matrix's work for prefills that end.
    """
    check_tp(model, tp)
    if dtype not in BYTES:
        raise UsageError(f"dtype {dtype!r} is not known", "use bf16, fp16 or fp8")
    L, h, b, act = model.layers, model.hidden, BYTES[dtype], 2.0
    q, kv = model.q_width, model.kv_width
    kv_token = model.kv_bytes_per_token(kv_dtype or "bf16", tp)

    def gemm(name: str, n: int, k: int) -> Op:
        return Op(
            name,
            "compute",
            flops=Form.tokens(2.0 * n * k * L),
            bytes=Form(one=n * k * b * L) + Form.tokens((n + k) * act * L),
        )

    ops = [gemm("qkv", h, q + 2 * kv), gemm("o", q, h)]
    tables = {}
    if model.experts == 1:
        ops += [gemm("up_gate", h, 2 * model.ffn), gemm("down", model.ffn, h)]
    else:
        tables["experts"] = Coverage(model.experts, model.experts_per_token)
        ops.append(gemm("router", h, model.experts))
        for name, n, k in (("up_gate", h, 2 * model.ffn), ("down", model.ffn, h)):
            each = model.experts_per_token
            ops.append(
                Op(
                    name,
                    "compute",
                    flops=Form.tokens(2.0 * n * k * L * each),
                    bytes=Form(tables={"experts": model.experts * n * k * b * L})
                    + Form.tokens((n + k) * act * L * each),
                )
            )
    ops += [
        Op(
            "decode_attention",
            "memory",
            flops=Form(S=4.0 * q * L),
            # keys and values of the context, the new ones written, queries read, outputs written
            bytes=Form(S=kv_token, D=kv_token + 2 * q * act * L),
        ),
        Op(
            "prefill_attention",
            "compute",
            flops=Form(Q=4.0 * q * L),
            bytes=Form(C=kv_token, p=2 * q * act * L),
        ),
        Op(
            "lm_head",
            "memory",
            flops=Form(D=2.0 * model.head_params),
            bytes=Form(one=model.head_params * b, D=(h + model.vocab) * act),
        ),
    ]
    if tp > 1:
        # Two all-reduces per layer; a ring moves 2(t − 1)/t of the message per device, t devices.
        ops.append(
            Op(
                "all_reduce",
                "network",
                net_bytes=Form.tokens(4.0 * (tp - 1) * h * act * L),
                seconds=Form(one=2.0 * L * efficiency.all_reduce_s.value),
            )
        )
    ops += [
        Op("layer_overhead", "overhead", seconds=Form(one=L * efficiency.layer_s.value)),
        Op(
            "step_overhead",
            "overhead",
            seconds=Form(one=efficiency.step_s.value, D=efficiency.sequence_s.value),
        ),
    ]
    return StepModel(tuple(ops), {"main": rates(device, tp, efficiency, dtype)}, combine, tables)

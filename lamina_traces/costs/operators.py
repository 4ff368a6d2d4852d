"""The operators of a decoder-only transformer as forms over the iteration's state.

GEMM of shape (tokens × n) · (n × k), L layers, b bytes per element: 2·tokens·n·k·L FLOPs and
(n·k + tokens·n + tokens·k)·b·L bytes (NanoFlow, arXiv 2408.12757, section 3). Decode attention reads
every sequence's keys and values once. All work is summed over the group of devices.

Latent attention (MLA) is modelled as engines run it: decode in the absorbed form (each head multiplies
with the latent itself, which is read once for all heads), prefill in the plain form (keys and values are
expanded from the latent by ``kv_up``).
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Literal

from ..errors import ModelError, UnknownName, UsageError
from ..hardware import BYTES, Device, Link, Model, link
from ..units import Quantity
from .efficiency import Efficiency
from .step import AWAY, Coverage, Form, Lanes, Op, Rates, StepModel

ACTIVATION = 2.0
"""bytes of one element of an activation."""
TILE_ROWS = Quantity(
    64.0,
    "rows",
    "a grouped kernel multiplies whole tiles; of 0, 32, 48, 64 and 96 rows, chosen by left-out errors",
    "assumed",
)
"""what an expert that is visited costs in arithmetic beside the tokens it gets. As this goes with its weights' bytes,
it counts as time of the memory."""


@dataclass(frozen=True)
class Parallel:
    """How a group of tp·pp·dp devices shares one model.

    ``tp`` devices share every matrix; ``pp`` stages share the layers; ``dp`` ranks hold copies of attention
    and plain layers, each for its own sequences. Experts are sharded over all tp·dp devices of a stage:
    each matrix over them where ``ep`` = 1, else whole experts over ``ep`` of them.
    """

    tp: int = 1
    pp: int = 1
    dp: int = 1
    ep: int = 1

    @property
    def devices(self) -> int:
        return self.tp * self.pp * self.dp

    def check(self, model: Model) -> None:
        """ModelError unless the model can be shared so; UsageError for a degree below one."""
        for name in ("tp", "pp", "dp", "ep"):
            if getattr(self, name) < 1:
                raise UsageError(
                    f"{name} = {getattr(self, name)} is not a number of devices",
                    f"use --{name} 1 or more",
                )
        check_tp(model, self.tp)
        if self.pp > model.layers:
            raise ModelError(
                f"pp = {self.pp} stages for {model.layers} layers of {model.name}",
                f"use --pp 1 to {model.layers}",
            )
        if self.dp > 1 and model.experts == 1:
            raise ModelError(
                f"dp = {self.dp}: {model.name} has no experts to share",
                "copies of a dense model are replicas: use --replicas",
            )
        if self.ep > 1:
            if model.experts == 1:
                raise ModelError(f"ep = {self.ep}: {model.name} has no experts", "use --ep 1")
            if (self.tp * self.dp) % self.ep or model.experts % self.ep:
                raise ModelError(
                    f"ep = {self.ep} does not divide {self.tp * self.dp} devices and {model.experts} experts",
                    f"use --ep {self.tp * self.dp} or a divisor of it",
                )


def check_tp(model: Model, tp: int) -> None:
    """ModelError unless ``tp`` devices can share the model's heads.

    Query heads are divided; key/value heads are divided or, where there are fewer of them, replicated.
    """
    if tp < 1:
        raise UsageError(f"tp = {tp} is not a number of devices", "use --tp 1 or more")

    def shared(t: int) -> bool:
        kv = model.kv_heads % t == 0 or t % model.kv_heads == 0 or model.mla
        return model.heads % t == 0 and kv

    if not shared(tp):
        fits = [t for t in range(1, model.heads + 1) if shared(t)]
        raise ModelError(
            f"tp = {tp} does not divide the {model.heads} heads ({model.kv_heads} for keys and values) of {model.name}",
            "use --tp " + ", ".join(map(str, fits[:8])),
        )


def compute_dtype(device: Device, weights: str) -> str:
    """The type that matrices of ``weights`` are multiplied in: their own where the device has it, else bf16
    (the weights are widened on the way: they cost their bytes and two-byte arithmetic)."""
    own = {"mxfp4": "fp4", "int4": "bf16", "fp32": "bf16"}.get(weights, weights)
    return own if device.computes(own) else "bf16"


def shares(device: Device, weights: str, experts: bool = False) -> tuple[str, str]:
    """Names of the efficiencies that apply to FLOPs, and to bytes, of matrices of type ``weights``, or of
    "attention" (kernels that read the cache and compute in two bytes)."""
    if weights == "attention":
        return "attention", "memory"
    own = compute_dtype(device, weights)
    compute = "compute" if own in ("bf16", "fp16") else "compute_8"
    return compute, "memory_4" if own == "fp4" and not experts else "memory"


def rates(
    device: Device, devices: int, efficiency: Efficiency, weights: str, *, experts: bool = False
) -> Rates:
    """What ``devices`` of a kind sustain together on matrices of type ``weights``, or on "attention"."""
    compute, memory = (getattr(efficiency, n).value for n in shares(device, weights, experts))
    own = "bf16" if weights == "attention" else compute_dtype(device, weights)
    flops, size = device.flops_per_s(own) * devices, device.bytes_per_s * devices
    net = device.link_bytes_per_s * device.link.collective_share.value
    reached = flops * compute * device.gemm_share.value
    tile = 2.0 * TILE_ROWS.value / BYTES[weights] / reached if experts else 0.0
    return Rates(
        flops_per_s=reached,
        bytes_per_s=1.0 / (1.0 / (size * memory) + tile),
        net_bytes_per_s=net * devices * efficiency.network.value,
        peak_flops_per_s=flops,
        peak_bytes_per_s=size,
    )


def transformer(
    model: Model,
    device: Device,
    efficiency: Efficiency,
    parallel: Parallel = Parallel(),
    *,
    dtype: str = "bf16",
    kv_dtype: str | None = None,
    combine: Literal["sum", "max"] = "sum",
    context: float | None = None,
    network: Link | None = None,
) -> StepModel:
    """The step of ``model`` on ``parallel.devices`` of a kind.

    ``dtype`` is the weights'; each part's own follows from ``Model.part_dtypes``, and arithmetic is in that
    type where the device has it (``compute_dtype``). Activations have two bytes; ``kv_dtype`` is the KV
    cache's (by default two bytes, unless the model's publisher states another).

    A pipeline is taken to be full: pp micro-batches are under way, and a step brings all their sequences one token
    on. Each micro-batch reads the weights, so they are read pp times in a step.

    Layers with a window of w tokens read min(context, w) per sequence, which is not affine. They are charged w
    where the usual ``context`` (tokens; default 4,096) reaches it, else the whole context.

    ``network``: what joins devices beyond ``device.peers`` (default InfiniBand NDR). Left out as negligible:
    embedding lookup, and the output matrix's work for prefills that end.
    """
    parallel.check(model)
    tp, pp, dp, ep = parallel.tp, parallel.pp, parallel.dp, parallel.ep
    if dtype not in BYTES:
        raise UnknownName("dtype", dtype, BYTES)
    parts = model.part_dtypes(dtype)
    kv_dtype = kv_dtype or model.kv_native or "bf16"
    n = parallel.devices
    groups: dict[str, Rates] = {}

    def on(part: str) -> str:
        """The rates of a part's matrices."""
        experts = part == "experts"
        name = "experts" if experts else parts[part]
        groups[name] = rates(device, n, efficiency, parts[part], experts=experts)
        return name

    def gemm(
        name: str,
        inputs: int,
        outputs: int,
        layers: int,
        part: str,
        copies: int = 1,
        rate: float = 1.0,
    ) -> Op:
        size = float(inputs * outputs * layers)
        return Op(
            name,
            "compute",
            flops=Form.tokens(2.0 * size * rate),
            bytes=Form(one=size * BYTES[parts[part]] * pp * copies)
            + Form.tokens((inputs + outputs) * ACTIVATION * layers * rate),
            on=on(part),
        )

    def ffn(suffix: str, width: int, layers: int) -> list[Op]:
        up = model.matrices - 1
        return [
            gemm("up_gate" + suffix, model.hidden, up * width, layers, "ffn", dp),
            gemm("down" + suffix, width, model.hidden, layers, "ffn", dp),
        ]

    h = model.hidden
    ops = [
        gemm(name, a, b, layers, "attention", dp * (tp if name == "qkv_down" else 1))
        for name, a, b, layers in model.attention_gemms
    ]
    tables: dict[str, Coverage] = {}
    if model.experts == 1:
        ops += ffn("", model.ffn, model.layers)
    else:
        if model.dense_layers:
            ops += ffn("_dense", model.dense_ffn, model.dense_layers)
        if model.shared_ffn:
            ops += ffn("_shared", model.shared_ffn, model.moe_layers)
        tables["experts"] = Coverage(model.experts, model.experts_per_token, pp, ep)
        ops.append(gemm("router", h, model.experts, model.moe_layers, "head", dp * tp))
        for name, a, b in (
            ("up_gate", h, (model.matrices - 1) * model.ffn),
            ("down", model.ffn, h),
        ):
            each = gemm(name, a, b, model.moe_layers, "experts", 1, model.experts_per_token)
            held = model.experts * a * b * model.moe_layers * BYTES[parts["experts"]] * pp
            ops.append(replace(each, bytes=Form(tables={"experts": held})))
    ops += _attention(model, tp, kv_dtype, 4096.0 if context is None else context)
    groups["attention"] = rates(device, n, efficiency, "attention")
    groups["bf16"] = rates(device, n, efficiency, "bf16")
    ops.append(
        Op(
            "elementwise",
            "memory",
            bytes=Form.tokens(_elements(model, parallel) * ACTIVATION),
            on="bf16",
        )
    )
    head = gemm("lm_head", h, model.vocab, 1, "head", dp)
    # only tokens that are sampled pass the output matrix; it is on one stage of a pipeline
    head = replace(head, resource="memory", flops=replace(head.flops, p=0.0))
    ops.append(replace(head, bytes=replace(head.bytes, p=0.0)))
    ops += _communication(model, device, efficiency, parallel, parts["experts"])
    ops += [
        Op(
            "layer_overhead",
            "overhead",
            seconds=Form(one=_launches(model) * efficiency.operator_s.value),
        ),
        Op(
            "step_overhead",
            "overhead",
            seconds=Form(
                one=efficiency.step_s.value,
                D=efficiency.sequence_s.value / dp + efficiency.vocab_s.value * model.vocab / dp,
            ),
        ),
    ]
    groups["main"] = groups["experts" if model.experts > 1 else parts["ffn"]]
    wide = tp * dp > device.peers.value
    if wide:
        rate = (network or link("ib-ndr")).gb_s.value * 1e9 * n * efficiency.network.value
        groups = {k: replace(r, net_bytes_per_s=rate) for k, r in groups.items()}
    return StepModel(tuple(ops), groups, combine, tables)


def _launches(model: Model) -> float:
    """Operators of all layers that are kernels of their own: matrices, attention (or a linear layer's state), routers,
    norms that no other kernel takes in. The absorbed form of MLA applies ``kv_up`` in two."""
    plain = model.layers - model.moe_layers
    experts = model.moe_layers * (5 if model.shared_ffn else 3)
    attention = sum(layers for *_, layers in model.attention_gemms) + model.layers
    norms = 2 * sum(flag in model.flags for flag in ("qk-norm", "post-norm")) * model.layers
    return attention + (model.attention_layers if model.mla else 0) + 2 * plain + experts + norms


def _elements(model: Model, parallel: Parallel) -> float:
    """Elements per token that pass the memory beside what the matrices' own forms count: norms and residuals (two a
    layer: the sum and the residual, read and written), activation functions, experts' ends and the sum over them; and of what is
    hidden wide, the copies that tensor parallel devices read and write."""
    h, tp, k = model.hidden, parallel.tp, model.experts_per_token
    moe = model.moe_layers
    plain = model.layers - moe
    sides = sum(layers for _, a, b, layers in model.attention_gemms if h in (a, b))
    sides += 2 * (plain + (moe if model.shared_ffn else 0))
    out = 8.0 * h * model.layers * tp + (tp - 1) * h * sides
    out += 3.0 * (plain * (model.dense_ffn if moe else model.ffn) + moe * model.shared_ffn)
    if moe:
        split = parallel.tp * parallel.dp // parallel.ep  # devices that share an expert
        ends = 2 * h + model.matrices * model.ffn
        out += moe * (3.0 * k * model.ffn + (k + 1) * h * tp + k * (ends + (split - 1) * 2 * h))
        if parallel.dp == 1:
            # no all-to-all: each device's buffers hold all tokens' choices
            out += moe * (parallel.ep - 1) * k * (5 * model.ffn + h)
    return out


def _attention(model: Model, tp: int, kv_dtype: str, context: float) -> list[Op]:
    """Reading and writing the cache, and the products with it; linear layers' states."""
    layers = model.attention_layers
    windowed = model.window_layers if context >= model.window else 0
    full = layers - windowed
    kv = model.kv_bytes_per_token(kv_dtype, tp) / max(1, layers)
    q, o = model.q_width, model.o_width
    if model.mla:
        wide = model.heads * (2.0 * model.kv_width + 2.0 * model.kv_lora_rank)
        plain = 2.0 * q + 2.0 * o
    else:
        wide = plain = 4.0 * q
    inout = (q + o) * ACTIVATION * layers
    w = float(model.window * windowed)
    ops = [
        Op(
            "decode_attention",
            "memory",
            flops=Form(S=wide * full, D=wide * w),
            # keys and values of the context, the new ones written, queries read, outputs written
            bytes=Form(S=kv * full, D=kv * (layers + w) + inout),
            on="attention",
        ),
        Op(
            "prefill_attention",
            "compute",
            flops=Form(Q=plain * full, p=plain * w),
            bytes=Form(C=kv * full, p=kv * layers + inout + kv * windowed),
            on="attention",
        ),
    ]
    if model.linear_layers:
        width = model.linear_value_width * model.linear_head_dim * model.linear_layers
        ops.append(
            Op(
                "linear_attention",
                "memory",
                flops=Form.tokens(6.0 * width),
                bytes=Form(D=2.0 * model.state_bytes),  # read and written once a token
                on="attention",
            )
        )
    return ops


def _communication(
    model: Model, device: Device, efficiency: Efficiency, parallel: Parallel, experts: str
) -> list[Op]:
    """Collectives, alpha–beta: a latency per call, and bytes over the links of all devices.

    An all-reduce moves 2(t − 1)/t of the message per device (ring), on t devices.
    """
    ops = []
    h, L, tp = model.hidden, model.layers, parallel.tp
    alpha = all_reduce_latency(device, efficiency, tp)
    if tp > 1:
        # behind attention and behind the feed-forward layer; with dp the experts exchange tokens instead
        calls = 2.0 * L - (model.moe_layers if parallel.dp > 1 else 0)
        ops.append(
            Op(
                "all_reduce",
                "network",
                net_bytes=Form.tokens(2.0 * (tp - 1) * h * ACTIVATION * calls),
                seconds=Form(one=calls * alpha),
            )
        )
    if parallel.dp > 1:
        n = tp * parallel.dp
        visited = n * (1.0 - (1.0 - 1.0 / n) ** model.experts_per_token)
        # tokens go out in the experts' type (at least a byte) and come back in two bytes
        each = h * (max(1.0, min(2.0, BYTES[experts])) + ACTIVATION) * visited * (n - 1) / n
        ops.append(
            Op(
                "all_to_all",
                "network",
                net_bytes=Form.tokens(each * model.moe_layers),
                seconds=Form(
                    one=2.0 * model.moe_layers * all_reduce_latency(device, efficiency, n)
                ),
            )
        )
    if parallel.pp > 1:
        stages = parallel.pp - 1
        ops.append(
            Op(
                "pipeline",
                "network",
                net_bytes=Form.tokens(stages * h * ACTIVATION),
                seconds=Form(one=parallel.pp * all_reduce_latency(device, efficiency, 2)),
            )
        )
    return ops


def offloaded(
    step: StepModel,
    model: Model,
    device: Device,
    devices: int,
    efficiency: Efficiency,
    *,
    link_bytes_per_s: float,
    round_trip_s: float,
    staggered: bool,
    kv_dtype: str | None = None,
    context: float | None = None,
) -> StepModel:
    """``step`` with decode attention on ``devices`` of another kind, which share the heads and hold the cache (Lamina, arXiv
    2405.01814): queries, keys and values go there for every layer, outputs come back, over a link of so many bytes
    a second in one direction and two round trips a layer.

    ``staggered``: two half batches take turns, so that a step of both lasts the longer of both groups' work, and at least
    one pass through both with half the batch; weights are read twice. Prompts are computed on the main devices, and their
    keys and values sent after.
    """
    if model.mla:
        raise ModelError(f"{model.name}: attention in a latent space is not offloaded", "take a model with plain keys and values")  # fmt: skip
    check_tp(model, devices)
    kv_dtype = kv_dtype or model.kv_native or "bf16"
    here = _attention(model, devices, kv_dtype, 4096.0 if context is None else context)
    decode = replace(here[0], on=AWAY)
    sent = (model.q_width + model.o_width) * ACTIVATION * model.attention_layers
    kv = model.kv_bytes_per_token(kv_dtype, 1)
    over = Op(
        "attention_link",
        "network",
        net_bytes=Form(D=sent + kv, p=kv),
        seconds=Form(one=2.0 * round_trip_s * model.attention_layers),
        on=AWAY,
    )
    own = replace(rates(device, devices, efficiency, "attention"), net_bytes_per_s=link_bytes_per_s)
    ops = [decode if op.name == decode.name else op for op in step.ops] + [over]
    made = replace(step, ops=tuple(ops), rates={**step.rates, AWAY: own})
    if not staggered:
        return made
    if step.combine != "sum":
        raise ModelError("staggered half batches know one way to add times", "set combine = 'sum'")
    return replace(
        made,
        ops=tuple(_twice(op) for op in ops),
        tables={n: replace(t, stages=2 * t.stages) for n, t in step.tables.items()},
        combine=Lanes("group", ("main", AWAY), ((0.5, 0.5), (1.0, 0.0), (0.0, 1.0))),
    )


def _twice(op: Op) -> Op:
    """For two half batches: what does not depend on the batch, twice."""

    def doubled(form: Form) -> Form:
        return replace(
            form, one=2.0 * form.one, tables={n: 2.0 * v for n, v in form.tables.items()}
        )

    return replace(
        op,
        flops=doubled(op.flops),
        bytes=doubled(op.bytes),
        net_bytes=doubled(op.net_bytes),
        seconds=doubled(op.seconds),
    )


def all_reduce_latency(device: Device, efficiency: Efficiency, n: int) -> float:
    """Seconds that a small all-reduce of ``n`` devices takes, the wait for the slowest included: so many of the link's
    latencies per doubling."""
    return device.link.latency_s.value * efficiency.hops.value * math.log2(max(2, n))

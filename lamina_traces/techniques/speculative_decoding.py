"""Speculative decoding (Leviathan, Kalman, Matias 2023, arXiv 2211.17192).

A draft model proposes γ tokens, the target checks them in one iteration. With an acceptance rate α per
token, independent over tokens, an iteration yields E = (1 − α^(γ+1)) / (1 − α) tokens on average (their
equation 1). The iteration works on γ + 1 tokens of a sequence, but reads its KV cache once; the draft model
reads its own weights γ times.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from ..costs import Form, Op, StepModel
from ..schema import Requests
from ..units import Quantity
from . import Params, Technique


def tokens_per_step(acceptance: float, draft_tokens: float) -> float:
    """Expected tokens of one iteration: equation 1 of the paper; γ + 1 when all are accepted."""
    if acceptance >= 1:
        return draft_tokens + 1
    return float((1 - acceptance ** (draft_tokens + 1)) / (1 - acceptance))


def _requests(requests: Requests, p: Params) -> Requests:
    each = tokens_per_step(p["acceptance"], p["draft_tokens"])
    later = np.ceil((requests.steps - 1) / each).astype(np.int64)
    return replace(requests, steps=1 + later)


def _step(model: StepModel, p: Params) -> StepModel:
    more = 1 + p["draft_tokens"]
    cost = p["draft_tokens"] * p["draft_size"]

    def verifying(op: Op) -> Op:
        flops = replace(op.flops, D=op.flops.D * more, S=op.flops.S * more)
        size = replace(op.bytes, D=op.bytes.D * more)
        net = replace(op.net_bytes, D=op.net_bytes.D * more)
        return replace(op, flops=flops, bytes=size, net_bytes=net)

    ops = [verifying(op) for op in model.ops]
    if cost > 0:
        ops.append(
            Op(
                "draft_model",
                "memory",
                flops=Form(D=cost * sum(op.flops.D for op in model.ops)),
                bytes=Form(one=cost * sum(op.bytes.one for op in model.ops)),
            )
        )
    return model.with_ops(ops)


TECHNIQUE = Technique(
    name="speculative-decoding",
    paper="Leviathan, Kalman, Matias 2023, arXiv 2211.17192",
    what="a small model drafts tokens, the large one checks several an iteration",
    parameters={
        "acceptance": Quantity(
            0.7, "", "typical of the paper's table 2, not of your models", "assumed"
        ),
        "draft_tokens": Quantity(3, "tokens", "a common engine setting", "assumed"),
        "draft_size": Quantity(
            0.02, "share of the target's weights", "a 1.5B draft for a 70B target", "assumed"
        ),
    },
    bounds={"acceptance": (0.0, 1.0), "draft_tokens": (0.0, 64.0), "draft_size": (0.0, 1.0)},
    neutral={"acceptance": 0.0, "draft_tokens": 0.0, "draft_size": 0.0},
    limits="every request has the mean number of iterations; the draft model's memory and KV cache are left out; "
    "its weights are read in every iteration, even in one that only prefills; with mixture-of-experts targets the "
    "experts that the draft tokens add are left out",
    requests=_requests,
    step=_step,
)

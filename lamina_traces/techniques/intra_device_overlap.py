"""Overlap inside a device (NanoFlow; Zhu et al. 2024, arXiv 2408.12757).

A batch is split into nano-batches, so that operators bound by arithmetic, by memory and by the network run at the same time
on shares R of a device. A memory or network kernel with a share R of it reaches P(R) of its own best, more than R: this is the
gain. Which kernels run beside which, on what shares and how long, is the linear programme

    minimise Σ_k τ_k   such that   Σ_k τ_k P_r(k) ≥ T_r for each resource r

over all combinations k of shares with Σ_r R_r(k) ≤ 1, where T_r is what the operators spend on r alone. Its optimum is the
maximum of Σ_r y_r T_r over the vertices of the dual {y ≥ 0, Σ_r y_r P_r(k) ≤ 1 for each k}; these are the step's ``Lanes``.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import lru_cache

import numpy as np

from ..costs import RESOURCES, Form, Lanes, Op, StepModel
from ..costs.step import Floats
from ..errors import UsageError
from ..units import Quantity
from . import Params, Technique

_PAPER = "NanoFlow, arXiv 2408.12757"


def _table(*points: tuple[float, float], source: str = "") -> dict[float, Quantity]:
    said = f"{_PAPER}, {source or 'table of interference, A100'}"
    return {share: Quantity(p, "of its best", said, "paper") for share, p in points}


PERFORMANCE: Mapping[str, Mapping[float, Quantity]] = {
    "compute": {
        i / 10: Quantity(i / 10, "of its best", f"{_PAPER}: the share of a GEMM is measured by what it loses", "derived")
        for i in range(11)
    },
    "memory": _table((0.0, 0.0), (0.1, 0.2), (0.2, 0.3), (0.8, 0.85), (0.9, 0.95), (1.0, 1.0))
    | _table((0.4, 0.8), source="pipeline of LLaMA-2-70B"),
    "network": _table((0.0, 0.0), (0.1, 0.3), (0.2, 0.5), (0.8, 0.9), (0.9, 1.0), (1.0, 1.0)),
}  # fmt: skip
"""By resource: share of the device → performance P. No combination between the measured points is assumed."""


def combinations(tables: Sequence[Mapping[float, float]]) -> Floats:
    """[combinations, resources] the performances that can be had at once: Σ of the shares ≤ 1, none that another beats."""
    chosen = [
        [p for _, p in points]
        for points in itertools.product(*(t.items() for t in tables))
        if sum(share for share, _ in points) <= 1 + 1e-9
    ]
    return _undominated(np.unique(np.array(chosen), axis=0))


def vertices(tables: Sequence[Mapping[float, float]]) -> tuple[tuple[float, ...], ...]:
    """Of the dual: points where as many constraints bind as there are resources, all others hold, and none is beaten
    (times are never negative)."""
    at_once = combinations(tables)
    n = at_once.shape[1]
    left = np.vstack([at_once, -np.eye(n)])
    right = np.concatenate([np.ones(len(at_once)), np.zeros(n)])
    binding = np.array(list(itertools.combinations(range(len(left)), n)))
    binding = binding[np.abs(np.linalg.det(left[binding])) > 1e-9]
    y = np.linalg.solve(left[binding], right[binding][..., None])[..., 0]
    y = np.unique(y[(y @ left.T <= right + 1e-9).all(axis=1)].round(12), axis=0)
    return tuple(tuple(map(float, v)) for v in _undominated(y) + 0.0)


def _undominated(points: Floats) -> Floats:
    """Those that no other reaches everywhere and passes somewhere."""
    beaten = [((points >= p - 1e-9).all(1) & (points > p + 1e-9).any(1)).any() for p in points]
    return np.asarray(points[~np.array(beaten)])


@lru_cache(maxsize=64)
def _lanes(strength: float) -> Lanes:
    """P between the share itself (0: kernels only take turns) and the table (1)."""
    tables = [{r: r + strength * (p.value - r) for r, p in PERFORMANCE[k].items()} for k in PERFORMANCE]  # fmt: skip
    return Lanes("resource", RESOURCES[:3], vertices(tables))


def _step(model: StepModel, p: Params) -> StepModel:
    n, penalty = p["nano_batches"], p["penalty"]
    if n == 1:
        return model  # nothing is split, and a layer's operators wait for each other
    if n != int(n):
        raise UsageError(f"intra-device-overlap: nano_batches={n:g} is no whole number", "for instance 2")  # fmt: skip
    if model.combine != "sum":
        raise UsageError(
            "intra-device-overlap needs operators that take turns, and those of this step overlap already",
            'set combine = "sum" in the spec, or leave the technique out',
        )

    def split(op: Op) -> Op:
        if op.resource != "compute" or op.on == "attention":
            return op
        weights = Form(one=op.bytes.one, tables=op.bytes.tables)
        return replace(op, flops=op.flops * penalty, bytes=(op.bytes + weights * (n - 1)) * penalty)

    return replace(
        model.with_ops([split(op) for op in model.ops]),
        tables={k: replace(t, stages=t.stages * int(n)) for k, t in model.tables.items()},
        combine=_lanes(p["strength"]) if p["strength"] else "sum",
    )


TECHNIQUE = Technique(
    name="intra-device-overlap",
    paper="Zhu et al. 2024 (NanoFlow), arXiv 2408.12757",
    what="nano-batches overlap arithmetic, memory and network inside each device",
    parameters={
        "strength": Quantity(
            1.0, "of what kernels gain beside each other", f"{_PAPER}, table of interference, A100", "paper"
        ),
        "nano_batches": Quantity(2.0, "parts of a batch, each of which reads the weights", _PAPER, "paper"),
        "penalty": Quantity(
            1.126, "times as long", f"{_PAPER}, ablation: 1106 tokens/s/GPU whole, 982 in nano-batches one by one", "paper"
        ),
    },
    bounds={"strength": (0.0, 1.0), "nano_batches": (1.0, 16.0), "penalty": (1.0, 4.0)},
    neutral={"strength": 0.0, "nano_batches": 1.0, "penalty": 1.0},
    limits="the best schedule there is: the order of operators does not bind it; each resource's time is one whole, so "
    "an operator's bytes may pass beside its own FLOPs; interference as measured on an A100; a penalty as large at all batch sizes; "
    "latencies, launches and host work always add, and grow with no nano-batch; the split is made where it costs, too",
    excludes=frozenset({"attention-offload"}),
    step=_step,
)  # fmt: skip

"""How much of its hardware an engine uses, and what its software adds: the knobs, with their sources."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from ..errors import UnknownName
from ..units import Quantity

_FIT = "fitted on public H100 operating points (splitwise-sim, InferenceX via aiconfigurator, ML.ENERGY, APEX)"


@dataclass(frozen=True)
class Efficiency:
    """Shares of peak and additive overheads of one software stack.

    ``compute``, ``compute_8``, ``compute_4``: sustained share of the peak FLOP rate of matrices in two bytes, one
    byte, half a byte; ``attention``: of attention kernels; ``memory``, ``network``: of bandwidths;
    ``all_reduce_s``: what the engine adds to each collective (waits, launches); ``hops``: link latencies that one
    takes per doubling of its devices; ``layer_s``: kernels' ramps and
    launches of a layer; ``moe_layer_s``: what a layer with experts adds (routing, permutation, more kernels);
    ``step_s``, ``sequence_s``: host time per iteration, and per decoding sequence.
    """

    compute: Quantity
    compute_8: Quantity
    compute_4: Quantity
    attention: Quantity
    memory: Quantity
    network: Quantity
    all_reduce_s: Quantity
    hops: Quantity
    layer_s: Quantity
    moe_layer_s: Quantity
    step_s: Quantity
    sequence_s: Quantity

    def quantities(self) -> dict[str, Quantity]:
        return dict(self.__dict__)

    def compute_share(self, dtype: str) -> float:
        """The share of peak of matrices in ``dtype``, or of "attention"."""
        own = {"attention": self.attention, "fp8": self.compute_8, "int8": self.compute_8}
        return {**own, "fp4": self.compute_4}.get(dtype, self.compute).value


def _share(value: float) -> Quantity:
    return Quantity(value, "", _FIT, "fitted")


def _seconds(value: float) -> Quantity:
    return Quantity(value, "s", _FIT, "fitted")


_2025 = Efficiency(
    compute=_share(0.66),
    compute_8=_share(0.5),
    compute_4=_share(0.4),
    attention=_share(0.5),
    memory=_share(0.85),
    network=Quantity(0.8, "", "share that aiconfigurator applies to link bandwidth", "assumed"),
    all_reduce_s=_seconds(5e-6),
    hops=Quantity(1.0, "link latencies", "a tree", "assumed"),
    layer_s=_seconds(35e-6),
    moe_layer_s=_seconds(20e-6),
    step_s=_seconds(1.3e-3),
    sequence_s=_seconds(5e-6),
)

ERAS: Mapping[str, Efficiency] = {
    "2025": _2025,
    "2023": replace(
        _2025,
        step_s=Quantity(24e-3, "s", "fitted on splitwise-sim's tables (vLLM of 2023)", "fitted"),
    ),
}
"""software eras: what engines of that year spend per step."""


def era(name: str) -> Efficiency:
    """A named preset. Raises UnknownName."""
    if name not in ERAS:
        raise UnknownName("software era", name, ERAS)
    return ERAS[name]


def ideal() -> Efficiency:
    """No loss at all: the roofline itself (used to check operators against published tables)."""
    q = {
        name: Quantity(0.0 if known.unit else 1.0, known.unit, "by definition", "derived")
        for name, known in _2025.quantities().items()
    }
    return Efficiency(**q)

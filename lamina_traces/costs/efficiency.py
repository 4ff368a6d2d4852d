"""How much of its hardware an engine uses, and what its software adds: the knobs, with their sources."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from ..errors import UnknownName
from ..units import Basis, Quantity

_FIT = "fitted on public operating points (InferenceX via aiconfigurator, ML.ENERGY, splitwise-sim): make accuracy"


@dataclass(frozen=True)
class Efficiency:
    """Shares of peak and additive overheads of one software stack.

    Of the peak FLOP rate: ``compute``, ``compute_8``, ``compute_4`` (matrices in two bytes, one byte, half a byte),
    ``attention`` (its kernels). Of the bandwidth: ``memory`` (weights), ``expert_memory`` (weights of experts),
    ``kv_memory`` (the cache), ``network`` (links). Factors: ``expert_compute`` (grouped matrices against plain ones),
    ``widened`` (reading weights of a type that the device does not compute in).

    Seconds: ``all_reduce_s``, what the engine adds to each collective (waits, launches), and ``hops``, link latencies
    that one takes per doubling of its devices; ``layer_s``, kernels' ramps and launches of a layer;
    ``moe_layer_s``, what a layer with experts adds (routing, permutation, more kernels); ``step_s``,
    ``sequence_s``: host time per iteration, and per decoding sequence.
    """

    compute: Quantity
    compute_8: Quantity
    compute_4: Quantity
    attention: Quantity
    memory: Quantity
    expert_memory: Quantity
    kv_memory: Quantity
    network: Quantity
    expert_compute: Quantity
    widened: Quantity
    all_reduce_s: Quantity
    hops: Quantity
    layer_s: Quantity
    moe_layer_s: Quantity
    step_s: Quantity
    sequence_s: Quantity

    def quantities(self) -> dict[str, Quantity]:
        return dict(self.__dict__)

    def with_values(self, values: Mapping[str, float], source: str, basis: Basis) -> Efficiency:
        """The same with other values. UnknownName for a name that is none of its fields."""
        known = self.quantities()
        for name in values:
            if name not in known:
                raise UnknownName("efficiency", name, known)
        new = {n: Quantity(float(v), known[n].unit, source, basis) for n, v in values.items()}
        return replace(self, **new)


def is_share(name: str) -> bool:
    """Whether the field is a share (above 0, at most 1), not seconds or a count."""
    return not _2025.quantities()[name].unit


def _share(value: float) -> Quantity:
    return Quantity(value, "", _FIT, "fitted")


def _seconds(value: float) -> Quantity:
    return Quantity(value, "s", _FIT, "fitted")


_2025 = Efficiency(
    compute=_share(0.84),
    compute_8=_share(0.55),
    compute_4=_share(0.6),
    attention=_share(0.53),
    memory=_share(0.9),
    expert_memory=_share(0.82),
    kv_memory=_share(0.92),
    network=Quantity(0.75, "", "NCCL tables of aiconfigurator, H100, large messages", "fitted"),
    expert_compute=_share(0.26),
    widened=_share(0.85),
    all_reduce_s=_seconds(2.3e-6),
    hops=Quantity(2.8, "link latencies", _FIT, "fitted"),
    layer_s=_seconds(35e-6),
    moe_layer_s=_seconds(17e-6),
    step_s=_seconds(0.2e-3),
    sequence_s=_seconds(7e-6),
)

_SYNC = "fitted on ML.ENERGY leaderboard points (vLLM, H100, streamed to clients)"
_OLD = "fitted on splitwise-sim's tables (vLLM of 2023, A100 and H100)"
ERAS: Mapping[str, Efficiency] = {
    "2025": _2025,
    "2025-sync": replace(
        _2025,
        step_s=Quantity(1.0e-3, "s", _SYNC, "fitted"),
        sequence_s=Quantity(33e-6, "s", _SYNC, "fitted"),
    ),
    "2023": replace(
        _2025,
        step_s=Quantity(18.3e-3, "s", _OLD, "fitted"),
        sequence_s=Quantity(39e-6, "s", _OLD, "fitted"),
    ),
}
"""software eras. 2025: schedulers that work while the devices do. 2025-sync: host work of each sequence adds to the
step. 2023: tens of milliseconds of host work per step."""


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

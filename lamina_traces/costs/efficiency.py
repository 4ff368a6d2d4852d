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

    Of the peak FLOP rate: ``compute``, ``compute_8`` (matrices in two bytes, in one byte or less), ``attention`` (its
    kernels). Of the bandwidth: ``memory`` (weights, cache, activations), ``memory_4`` (weights multiplied in four
    bits, but experts'), ``network`` (links).

    ``hops``: link latencies that a collective takes per doubling of its devices, waits included. Seconds:
    ``operator_s``, kernels' ramps and launches of an operator of a layer; ``step_s``, ``sequence_s``, host time per
    iteration, and per decoding sequence; ``vocab_s``, sampling, per entry of the vocabulary and sequence.
    """

    compute: Quantity
    compute_8: Quantity
    attention: Quantity
    memory: Quantity
    memory_4: Quantity
    network: Quantity
    hops: Quantity
    operator_s: Quantity
    step_s: Quantity
    sequence_s: Quantity
    vocab_s: Quantity

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
    compute=_share(0.97),
    compute_8=_share(0.65),
    attention=_share(0.77),
    memory=_share(0.96),
    memory_4=_share(0.6),
    network=Quantity(0.68, "", "NCCL and vLLM tables of aiconfigurator, H100, from 4 MB", "fitted"),
    hops=Quantity(2.8, "link latencies", _FIT, "fitted"),
    operator_s=_seconds(7.4e-6),
    step_s=_seconds(0.22e-3),
    sequence_s=_seconds(15e-6),
    vocab_s=Quantity(0.0, "s", "greedy decoding, or sampling that the devices hide", "assumed"),
)

_SYNC = "fitted on ML.ENERGY leaderboard points (vLLM, H100, streamed to clients)"
_OLD = "fitted on splitwise-sim's tables (vLLM of 2023, A100 and H100)"
ERAS: Mapping[str, Efficiency] = {
    "2025": _2025,
    "2025-sync": replace(
        _2025,
        step_s=Quantity(1.3e-3, "s", _SYNC, "fitted"),
        vocab_s=Quantity(1.5e-10, "s", _SYNC, "fitted"),
    ),
    "2023": replace(
        _2025,
        step_s=Quantity(18.4e-3, "s", _OLD, "fitted"),
        sequence_s=Quantity(220e-6, "s", _OLD, "fitted"),
    ),
}
"""software eras. 2025: schedulers that work while the devices do. 2025-sync: host work adds to the step, and
sampling (top-p) sorts the vocabulary of each sequence. 2023: tens of milliseconds of host work per step."""


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

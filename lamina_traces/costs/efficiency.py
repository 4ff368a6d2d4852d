"""How much of its hardware an engine uses, and what its software adds: the knobs, with their sources."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from ..errors import UnknownName
from ..units import Quantity

_FIT = "fitted on public H100 operating points (splitwise-sim, InferenceX via aiconfigurator, ML.ENERGY, APEX)"


@dataclass(frozen=True)
class Efficiency:
    """Shares of peak and additive overheads of one software stack.

    ``compute``, ``memory``, ``network``: sustained share of peak; ``all_reduce_s``: latency of one
    all-reduce; ``layer_s``, ``step_s``, ``sequence_s``: host and launch time per layer, per iteration, and
    per decoding sequence.
    """

    compute: Quantity
    memory: Quantity
    network: Quantity
    all_reduce_s: Quantity
    layer_s: Quantity
    step_s: Quantity
    sequence_s: Quantity

    def quantities(self) -> dict[str, Quantity]:
        return dict(self.__dict__)


def _era(step_s: Quantity) -> Efficiency:
    return Efficiency(
        compute=Quantity(0.66, "", _FIT, "fitted"),
        memory=Quantity(0.85, "", _FIT, "fitted"),
        network=Quantity(0.8, "", "share that aiconfigurator applies to link bandwidth", "assumed"),
        all_reduce_s=Quantity(9e-6, "s", _FIT, "fitted"),
        layer_s=Quantity(35e-6, "s", _FIT, "fitted"),
        step_s=step_s,
        sequence_s=Quantity(0.0, "s", _FIT, "fitted"),
    )


ERAS: Mapping[str, Efficiency] = {
    "2025": _era(Quantity(1.3e-3, "s", _FIT, "fitted")),
    "2023": _era(Quantity(24e-3, "s", "fitted on splitwise-sim's tables (vLLM of 2023)", "fitted")),
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
        name: Quantity(
            1.0 if name in ("compute", "memory", "network") else 0.0, "", "by definition", "derived"
        )
        for name in Efficiency.__dataclass_fields__
    }
    return Efficiency(**q)

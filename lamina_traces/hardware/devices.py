"""Accelerators: what they compute, hold, move and draw."""

from __future__ import annotations

import functools
from dataclasses import dataclass, replace

from ..errors import DataError, ModelError
from ..units import Quantity
from .catalogue import find, quantities, rows
from .links import Link, link

_UNITS = {
    "fp16_tflops": "TFLOP/s",
    "fp8_tflops": "TFLOP/s",
    "fp4_tflops": "TFLOP/s",
    "int8_tops": "TOP/s",
    "memory_gb": "GB",
    "memory_gb_s": "GB/s",
    "link_gb_s": "GB/s",
    "tdp_w": "W",
    "idle_w": "W",
    "peers": "devices",
    "gemm_share": "",
}
_OPTIONAL = {"fp8_tflops", "fp4_tflops", "int8_tops", "idle_w", "peers", "gemm_share"}
_PEERS = 8
"""devices in a server, where a row does not say."""
_IDLE_SHARE = 0.12
"""of the TDP, for devices whose idle power is not known: between the known 63/400 W and 75/700 W."""


@dataclass(frozen=True)
class Device:
    """One accelerator. Dense FLOP rates; GB = 1e9 bytes, of memory as its driver shows it; link = one direction to peers in the server."""

    name: str
    names: tuple[str, ...]
    fp16_tflops: Quantity
    fp8_tflops: Quantity | None
    fp4_tflops: Quantity | None
    int8_tops: Quantity | None
    memory_gb: Quantity
    memory_gb_s: Quantity
    link_gb_s: Quantity
    tdp_w: Quantity
    idle_w: Quantity
    peers: Quantity
    """devices that the link joins; beyond them traffic takes the network."""
    link: Link
    gemm_share: Quantity
    """of its FLOP rates that its libraries reach where NVIDIA's reach all that the efficiencies say."""
    clock: float = 1.0
    """share of the highest clock that it is locked to: scales FLOP rates, not the memory."""
    cap_w: float | None = None
    """its power limit, below the TDP."""

    def limited(self, clock: float = 1.0, cap_w: float | None = None) -> Device:
        """The device under a locked clock or a power limit. ModelError for one that it cannot run under."""
        if not 0.1 <= clock <= 1:
            raise ModelError(f"a clock of {clock:g} of the highest", "give a share from 0.1 to 1")
        if cap_w is not None and not self.idle_w.value < cap_w < 1e5:
            raise ModelError(
                f"a power limit of {cap_w:g} W is not above the {self.idle_w.value:g} W of an idle {self.name}",
                f"its TDP is {self.tdp_w.value:g} W",
            )
        return replace(self, clock=clock, cap_w=cap_w)

    def computes(self, dtype: str) -> bool:
        """Whether its matrix units take ``dtype``; other types are widened to two bytes first."""
        return self._rate(dtype) is not None

    def _rate(self, dtype: str) -> Quantity | None:
        if dtype in ("fp16", "bf16"):
            return self.fp16_tflops
        return {"fp8": self.fp8_tflops, "fp4": self.fp4_tflops, "int8": self.int8_tops}.get(dtype)

    def flops_per_s(self, dtype: str) -> float:
        """Peak dense FLOP/s at its clock for ``dtype`` (fp16, bf16, fp8, fp4, int8). ModelError where the device lacks it."""
        rate = self._rate(dtype)
        if rate is None:
            has = [t for t in ("bf16", "fp8", "fp4", "int8") if self._rate(t) is not None]
            raise ModelError(
                f"{self.name} has no {dtype} rate in the catalogue",
                "it computes in " + ", ".join(has),
            )
        return rate.value * self.clock * 1e12

    @property
    def memory_bytes(self) -> float:
        return self.memory_gb.value * 1e9

    @property
    def bytes_per_s(self) -> float:
        return self.memory_gb_s.value * 1e9

    @property
    def link_bytes_per_s(self) -> float:
        return self.link_gb_s.value * 1e9

    def quantities(self) -> dict[str, Quantity]:
        """Its numbers by name, for listings."""
        found = {name: getattr(self, name) for name in _UNITS}
        return {name: q for name, q in found.items() if q is not None}


@functools.cache
def all_devices() -> dict[str, Device]:
    """All accelerators of the catalogue by canonical name."""
    data, where = rows("devices.toml")
    out = {}
    for name, row in data.items():
        q = quantities(row, _UNITS, f"{where} [{name}]")
        missing = set(_UNITS) - _OPTIONAL - set(q)
        if missing or "link" not in row:
            raise DataError(
                f"{where} [{name}] lacks {', '.join(sorted(missing)) or 'link'}", "complete the row"
            )
        idle = Quantity(
            round(_IDLE_SHARE * q["tdp_w"].value, 1),
            "W",
            f"{_IDLE_SHARE:.0%} of TDP: no figure found",
            "assumed",
        )
        numbers = {
            **dict.fromkeys(_OPTIONAL),
            "idle_w": idle,
            "peers": Quantity(_PEERS, "devices", "the usual server", "assumed"),
            "gemm_share": Quantity(1.0, "", "the reference", "derived"),
            **q,
        }
        out[name] = Device(
            name=name,
            names=tuple(row.get("names", ())),
            link=link(row["link"]),
            **numbers,  # type: ignore[arg-type]
        )
    return out


def device(name: str) -> Device:
    """By canonical name, vendor name, nvidia-smi name or Kubernetes label, in any spelling. Raises UnknownName."""
    known = all_devices()
    return known[
        find("GPU", name, {k: d.names for k, d in known.items()}, "lamina-traces catalog gpus")
    ]

"""Accelerators: what they compute, hold, move and draw."""

from __future__ import annotations

import functools
from dataclasses import dataclass

from ..errors import DataError, ModelError
from ..units import Quantity
from .catalogue import find, quantities, read_toml

_UNITS = {
    "fp16_tflops": "TFLOP/s",
    "fp8_tflops": "TFLOP/s",
    "memory_gb": "GB",
    "memory_gb_s": "GB/s",
    "link_gb_s": "GB/s",
    "tdp_w": "W",
    "idle_w": "W",
}
_IDLE_SHARE = 0.12
"""of the TDP, for devices whose idle power is not known: between the known 63/400 W and 75/700 W."""


@dataclass(frozen=True)
class Device:
    """One accelerator. Dense FLOP rates; GB = 1e9 bytes; link = one direction to peers in the server."""

    name: str
    names: tuple[str, ...]
    fp16_tflops: Quantity
    fp8_tflops: Quantity | None
    memory_gb: Quantity
    memory_gb_s: Quantity
    link_gb_s: Quantity
    tdp_w: Quantity
    idle_w: Quantity

    def flops_per_s(self, dtype: str) -> float:
        """Peak dense FLOP/s for ``dtype`` (fp16, bf16, fp8). ModelError where the device lacks it."""
        if dtype in ("fp16", "bf16"):
            return self.fp16_tflops.value * 1e12
        if dtype == "fp8" and self.fp8_tflops is not None:
            return self.fp8_tflops.value * 1e12
        raise ModelError(
            f"{self.name} has no {dtype} rate in the catalogue",
            "use --dtype bf16" + ("" if self.fp8_tflops is None else " or fp8"),
        )

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
    data, where = read_toml(None, "devices.toml")
    out = {}
    for name, row in data.items():
        q = quantities(row, _UNITS, f"{where} [{name}]")
        missing = {"fp16_tflops", "memory_gb", "memory_gb_s", "link_gb_s", "tdp_w"} - set(q)
        if missing:
            raise DataError(
                f"{where} [{name}] lacks {', '.join(sorted(missing))}", "complete the row"
            )
        idle = q.get("idle_w") or Quantity(
            round(_IDLE_SHARE * q["tdp_w"].value, 1),
            "W",
            f"{_IDLE_SHARE:.0%} of TDP: no figure found",
            "assumed",
        )
        out[name] = Device(
            name,
            tuple(row.get("names", ())),
            q["fp16_tflops"],
            q.get("fp8_tflops"),
            q["memory_gb"],
            q["memory_gb_s"],
            q["link_gb_s"],
            q["tdp_w"],
            idle,
        )
    return out


def device(name: str) -> Device:
    """By canonical name, vendor name or nvidia-smi name, in any case. Raises UnknownName."""
    rows = all_devices()
    return rows[
        find("GPU", name, {k: d.names for k, d in rows.items()}, "lamina-traces catalog gpus")
    ]

"""What joins devices to each other, to other servers, and to the memory of a host."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import Literal

from ..errors import DataError
from ..units import Quantity
from .catalogue import find, quantities, rows

_UNITS = {"gb_s": "GB/s", "latency_s": "s"}


@dataclass(frozen=True)
class Link:
    """One direction, per device. ``peers``: inside a server; ``network``: between servers; ``tier``: to memory
    that is not the device's own. ``latency_s``: of one transfer, its launch included."""

    name: str
    names: tuple[str, ...]
    kind: Literal["peers", "network", "tier"]
    gb_s: Quantity
    latency_s: Quantity

    def quantities(self) -> dict[str, Quantity]:
        return {"gb_s": self.gb_s, "latency_s": self.latency_s}


@functools.cache
def all_links() -> dict[str, Link]:
    """All links of the catalogue by canonical name."""
    data, where = rows("links.toml")
    out = {}
    for name, row in data.items():
        q = quantities(row, _UNITS, f"{where} [{name}]")
        if set(q) != set(_UNITS) or row.get("kind") not in ("peers", "network", "tier"):
            raise DataError(f"{where} [{name}] lacks kind, gb_s or latency_s", "complete the row")
        names = tuple(row.get("names", ()))
        out[name] = Link(name, names, row["kind"], q["gb_s"], q["latency_s"])
    return out


def link(name: str) -> Link:
    """By canonical or other name, in any spelling. Raises UnknownName."""
    known = all_links()
    return known[
        find("link", name, {k: x.names for k, x in known.items()}, "lamina-traces catalog links")
    ]

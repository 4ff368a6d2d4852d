"""What joins devices to each other, to other servers, and to the memory of a host."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import Literal

from ..errors import DataError
from ..units import Quantity
from .catalogue import find, quantities, rows

_UNITS = {"gb_s": "GB/s", "latency_s": "s", "collective_share": ""}


@dataclass(frozen=True)
class Link:
    """One direction, per device. ``peers``: inside a server; ``network``: between servers; ``tier``: to memory
    that is not the device's own. ``latency_s``: of one transfer, its launch included. ``collective_share``: of what
    collectives reach on NVLink, relative to the link (over PCIe they are staged through the host's memory)."""

    name: str
    names: tuple[str, ...]
    kind: Literal["peers", "network", "tier"]
    gb_s: Quantity
    latency_s: Quantity
    collective_share: Quantity

    def quantities(self) -> dict[str, Quantity]:
        return {name: getattr(self, name) for name in _UNITS}


@functools.cache
def all_links() -> dict[str, Link]:
    """All links of the catalogue by canonical name."""
    data, where = rows("links.toml")
    out = {}
    for name, row in data.items():
        q = {
            "collective_share": Quantity(1.0, "", "the reference", "derived"),
            **quantities(row, _UNITS, f"{where} [{name}]"),
        }
        if set(q) != set(_UNITS) or row.get("kind") not in ("peers", "network", "tier"):
            raise DataError(f"{where} [{name}] lacks kind, gb_s or latency_s", "complete the row")
        names = tuple(row.get("names", ()))
        out[name] = Link(name, names, row["kind"], **q)
    return out


def link(name: str) -> Link:
    """By canonical or other name, in any spelling. Raises UnknownName."""
    known = all_links()
    return known[
        find("link", name, {k: x.names for k, x in known.items()}, "lamina-traces catalog links")
    ]

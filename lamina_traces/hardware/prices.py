"""Price files: what an accelerator-hour costs. User input with a dated example, never a constant."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from ..errors import DataError
from ..units import Quantity
from .catalogue import quantities, read_toml
from .devices import device


@dataclass(frozen=True)
class Prices:
    """US dollars per hour of one accelerator, by canonical device name."""

    date: str
    usd_per_h: Mapping[str, Quantity] = field(default_factory=dict)

    def of(self, name: str) -> Quantity | None:
        """None where the file has no price for the device."""
        return self.usd_per_h.get(device(name).name)


def load_prices(path: Path | None = None) -> Prices:
    """Read a price file; without a path, the dated example that ships.

    Raises DataError for a file of another form, UnknownName for a device that the catalogue lacks.
    """
    data, where = read_toml(path, "prices.toml")
    if data.get("currency", "USD") != "USD":
        raise DataError(
            f"{where}: currency {data['currency']!r} is not supported", "convert it to USD"
        )
    rows = data.get("usd_per_h")
    if not isinstance(rows, dict):
        raise DataError(
            f"{where} has no table [usd_per_h]", "write: [usd_per_h] and a line h100-sxm = 2.00"
        )
    out = {}
    for name, row in rows.items():
        if not isinstance(row, dict):
            row = {
                "value": row,
                "basis": "assumed",
                "source": f"{where}, {data.get('date', 'undated')}",
            }
        q = quantities(row, {"value": "USD/h"}, f"{where} [usd_per_h] {name}")
        if "value" not in q:
            raise DataError(f"{where} [usd_per_h] {name} has no value", "write: h100-sxm = 2.00")
        out[device(name).name] = q["value"]
    return Prices(str(data.get("date", "undated")), out)

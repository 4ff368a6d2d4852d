"""Money: provisioned device-hours times a price, over what was delivered."""

from __future__ import annotations

from dataclasses import dataclass

from ..units import Quantity


@dataclass(frozen=True)
class Bill:
    """US dollars for devices that were provisioned, used or not. None where no price is known."""

    device_hours: float
    usd: float | None
    usd_per_hour: float | None

    def per_million(self, tokens: int) -> float | None:
        """US dollars per million ``tokens``; None without a price or without tokens."""
        return None if self.usd is None or tokens <= 0 else 1e6 * self.usd / tokens


def bill(devices: list[tuple[float, Quantity | None]], hours: float) -> Bill:
    """``devices``: (number in the mean, price per hour) by kind. One missing price leaves the whole bill open."""
    device_hours = hours * sum(n for n, _ in devices)
    rate = 0.0
    for n, price in devices:
        if price is None:
            return Bill(device_hours, None, None)
        rate += n * price.value
    return Bill(device_hours, rate * hours, rate)

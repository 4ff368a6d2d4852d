"""A ratio with its 95 % interval, of things that each belong to a window of the timeline."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from ..errors import ModelError
from ..intervals import Interval, wilson
from ..units import short
from .shares import ratio_interval
from .timeline import Timeline

Array = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Ratio:
    """A share, and its interval by blocks of windows where there is a clock."""

    value: float
    interval: Interval | None = None

    def to_dict(self) -> dict[str, Any]:
        return {"value": self.value, "interval": self.interval.to_dict() if self.interval else None}

    @classmethod
    def from_dict(cls, d: dict[str, Any]) -> Ratio:
        return cls(share_of(d["value"]), Interval.from_dict(d["interval"]))

    def __str__(self) -> str:
        i = self.interval
        ends = f" [{i.low:.4f}, {i.high:.4f}]" if i else ""
        return f"{self.value:.4f}{ends}"


@dataclass(frozen=True, eq=False)
class Units:
    """Requests, sessions or turns: the ``window`` that each is in, of ``windows``; None without a clock."""

    window: Ints | None
    windows: int = 0

    @classmethod
    def of(cls, t_ns: Ints, timeline: Timeline | None) -> Units:
        """By the instants of the units."""
        if timeline is None:
            return cls(None)
        return cls(timeline.window(t_ns), timeline.windows)

    def sums(self, values: npt.NDArray[Any]) -> Array:
        """[windows] sums of one value a unit; nothing without a clock."""
        if self.window is None:
            return np.zeros(0)
        return np.asarray(
            np.bincount(self.window, values.astype(np.float64), self.windows), dtype=np.float64
        )

    def ratio(self, above: npt.NDArray[Any], below: npt.NDArray[Any]) -> Ratio:
        """Σ above / Σ below, a share. Where no unit counts for more than one, its variance says whether windows
        could be alike."""
        whole = float(below.sum())
        value = rounded_share(float(above.sum()) / whole) if whole > 0 else 0.0
        return Ratio(value, within(self.interval(above, below)))

    def interval(self, above: npt.NDArray[Any], below: npt.NDArray[Any]) -> Interval | None:
        """95 % of Σ above / Σ below."""
        if self.window is None or not below.any():
            return None
        single = bool((below <= 1).all())
        variance = float(np.var(above[below > 0])) if single else None
        if variance == 0 and above.max() in (0, 1):  # all or none: no window can tell more
            return wilson(float(above.sum()), float(below.sum()))
        return ratio_interval(self.sums(above), self.sums(below), variance=variance)


def within(interval: Interval | None) -> Interval | None:
    """Of a share: within 0 and 1."""
    if interval is None:
        return None
    low, high = (max(0.0, min(1.0, x)) for x in (interval.low, interval.high))
    return Interval(low, high, interval.method, interval.n_eff)


def rounded_share(x: float) -> float:
    """Of six digits, within 0 and 1."""
    return short(min(1.0, max(0.0, x)), 6)


def share_of(x: Any) -> float:
    """A share out of a profile. Raises ModelError."""
    value = float(x)
    if not 0 <= value <= 1:
        raise ModelError(
            f"{value} in the profile is no share", "shares lie in 0 … 1; fit the profile again"
        )
    return value

"""What a table's time column does while its blocks go by: order, range, and the tick of its clock."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import polars as pl

from ..errors import DataError

_YEAR_NS = 31_556_952_000_000_000


class Clockwork:
    """What the time column of a table was seen to do: order, range, and the tick of its clock."""

    def __init__(self) -> None:
        self.sorted = True
        self.first: int | None = None
        self.last: int | None = None
        self.tick = 0
        """gcd of all differences so far; 0 while all instants are equal. It does not depend on order."""
        self._previous: tuple[int, int] | None = None
        self._nulls = False

    def see(self, instants: pl.Series, row_ids: pl.Series) -> None:
        if not len(instants):
            return
        nulls = instants.null_count()
        if nulls:
            known = instants.is_not_null()
            if not bool(known[: len(instants) - nulls].all()):
                self.sorted = False
            instants, row_ids = instants.filter(known), row_ids.filter(known)
        if len(instants):
            if self._nulls:
                self.sorted = False
            self._see(instants.to_numpy(), row_ids.to_numpy())
        self._nulls = self._nulls or nulls > 0

    def check_span(self, where: str) -> None:
        """Raises DataError where the difference of two instants would not fit 64 bits."""
        span_ns = 0 if self.first is None or self.last is None else self.last - self.first
        if span_ns > 2**63 - 1:
            raise too_far(f"{where} spans {span_ns / _YEAR_NS:.0f} years")

    def _see(self, t: npt.NDArray[np.int64], row: npt.NDArray[np.int64]) -> None:
        if self._previous is not None:
            t0, row0 = self._previous
            t, row = np.concatenate([[t0], t]), np.concatenate([[row0], row])
        step = np.diff(t)
        if len(step) and (step.min() < 0 or np.any(np.diff(row)[step == 0] <= 0)):
            self.sorted = False
        low, high = int(t.min()), int(t.max())
        self.first = low if self.first is None else min(self.first, low)
        self.last = high if self.last is None else max(self.last, high)
        self.tick = _gcd(self.tick, step)
        self._previous = int(t[-1]), int(row[-1])


def too_far(what: str) -> DataError:
    """The error of instants whose differences need more than 64 bits."""
    return DataError(
        f"{what}; 64 bits of nanoseconds hold 292 years",
        "some times are wrong: see the column and its unit with --dry-run, set them with "
        "--map arrival=COLUMN and --time-unit s, ms, us or ns, or remove the stray lines",
    )


def _gcd(so_far: int, steps: npt.NDArray[np.int64]) -> int:
    """gcd of ``so_far`` and all steps. Once the divisor is known, the check that it holds is one vector
    division; only steps that it does not divide go through Euclid's loop."""
    if so_far == 1 or not len(steps):
        return so_far
    if so_far == 0:
        so_far = int(np.gcd.reduce(np.abs(steps[:64])))
    if so_far:
        rest = steps - (steps // so_far) * so_far
        steps = rest[rest != 0]
    for chunk in np.array_split(steps, max(1, len(steps) // 4096)):
        if so_far == 1:
            break
        so_far = int(np.gcd(so_far, np.gcd.reduce(np.abs(chunk)))) if len(chunk) else so_far
    return so_far

"""What papers say of serving systems, as things that this model measures: one file per paper.

A claim needs no file from outside: numbers that a paper measured are facts in it. Its status is computed, never stated, and misses
are published (docs/claims.md).

Tiers: A, nothing is fitted to the target; B, one published number is calibrated and another predicted; C, constants are
assumed with the target in view, so only order and sign count.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal

Status = Literal["reproduced", "direction-only", "not-reproduced"]
Tier = Literal["A", "B", "C"]


@dataclass(frozen=True)
class Claim:
    """``reported``: the paper's number, in ``unit``. ``band``: what of ours counts as reproduced, both ends included. ``neutral``: the
    number without the technique (1 for a ratio), by which the direction is told; None where there is none. ``config``: model,
    hardware, lengths, seeds. ``calibrated``: which constant was set by which published number, of tier B. ``measure`` takes no argument and
    always gives the same."""

    name: str
    paper: str
    says: str
    config: str
    reported: float
    unit: str
    band: tuple[float, float]
    tier: Tier
    measure: Callable[[], float]
    technique: str | None = None
    neutral: float | None = 1.0
    calibrated: str | None = None
    note: str = ""


@dataclass(frozen=True)
class Reproduced:
    """A claim measured: ``value`` in the claim's unit."""

    claim: Claim
    value: float

    @property
    def status(self) -> Status:
        low, high = self.claim.band
        if low <= self.value <= high:
            return "reproduced"
        neutral = self.claim.neutral
        same = neutral is not None and (self.value - neutral) * (self.claim.reported - neutral) > 0
        return "direction-only" if same else "not-reproduced"


@dataclass(frozen=True)
class Unreproducible:
    """A number that no analytic model of this kind can give, and why."""

    paper: str
    says: str
    why: str


_MODULES = ("nanoflow",)


def claims() -> Mapping[str, Claim]:
    """All by name."""
    found = [c for m in _MODULES for c in importlib.import_module(f".{m}", __name__).CLAIMS]
    return {c.name: c for c in found}


def measured(claim: Claim) -> Reproduced:
    return Reproduced(claim, claim.measure())

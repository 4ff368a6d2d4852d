"""What papers say of serving systems, as things that this model measures: one file per paper.

A claim needs no file from outside: numbers that a paper measured are facts in it. Its status is computed, never stated, and misses
are published (docs/claims.md).

Tiers: A, nothing is fitted to the target; B, one published number is calibrated and another predicted; C, constants are
assumed with the target in view, so only order and sign count.
"""

from __future__ import annotations

import importlib
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from ..errors import UnknownName
from ..units import short

Status = Literal["reproduced", "direction-only", "not-reproduced"]
Tier = Literal["A", "B", "C"]


@dataclass(frozen=True)
class Claim:
    """``reported``: the paper's number, in ``unit``. ``band``: what of ours counts as reproduced, both ends included. ``neutral``: the
    number without the technique (1 for a ratio), by which the direction is told; None where there is none. ``config``: model,
    hardware, lengths, seeds. ``calibrated``: which constant was set by which published number, of tier B. ``measure`` takes no argument and
    always gives the same. ``clock``: it serves requests on the compiled clock."""

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
    clock: bool = False


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

    def to_dict(self) -> dict[str, Any]:
        c = self.claim
        return {
            "claim": c.name,
            "says": c.says,
            "reported": c.reported,
            "measured": short(self.value, 5),
            "unit": c.unit,
            "band_low": short(c.band[0], 5),
            "band_high": short(c.band[1], 5),
            "tier": c.tier,
            "status": self.status,
            "technique": c.technique,
            "calibrated": c.calibrated,
            "config": c.config,
            "note": c.note or None,
            "paper": c.paper,
        }


@dataclass(frozen=True)
class Unreproducible:
    """A number that no analytic model of this kind can give, and why."""

    paper: str
    says: str
    why: str


_MODULES = ("lamina", "nanoflow", "vattention", "batchllm")


def claims() -> Mapping[str, Claim]:
    """All by name."""
    found = [c for m in _MODULES for c in importlib.import_module(f".{m}", __name__).CLAIMS]
    return {c.name: c for c in found}


def named(names: Sequence[str]) -> list[Claim]:
    """The claims of these names, in their own order; the first words of several stand for all of them, as ``nanoflow`` does.
    Raises UnknownName."""
    known = claims()
    chosen: set[str] = set()
    for name in names:
        found = {n for n in known if n == name or n.startswith(f"{name}-")}
        if not found:
            raise UnknownName("claim", name, known, "lamina-traces reproduce")
        chosen |= found
    return [c for n, c in known.items() if n in chosen]


def shown(result: Reproduced) -> dict[str, str]:
    """A row for people."""
    c = result.claim
    low, high = c.band
    return {
        "claim": c.name,
        "says": c.says,
        "paper": f"{c.reported:.4g}",
        "ours": f"{result.value:.4g}",
        "unit": c.unit,
        "band": f"{low:.4g} to {high:.4g}",
        "tier": c.tier,
        "status": result.status,
    }


def measured(claim: Claim) -> Reproduced:
    return Reproduced(claim, claim.measure())


def summary(results: Sequence[Reproduced]) -> str:
    """``20 reproduced, 1 direction only, 1 not``."""
    n = Counter(r.status for r in results)
    return f"{n['reproduced']} reproduced, {n['direction-only']} direction only, {n['not-reproduced']} not"

"""Recovery by simulation: what each estimator gives back of a truth that was drawn, printed in docs/statistics.md.

A module here offers ``recovery(replications) -> list[Recovered]``. ``python -m tests.recovery`` (``make statistics``)
runs them all and writes the page; the tests run a few replications of each and hold them to the page's promise.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Recovered:
    """One estimator on one truth: mean and spread of the estimates, and how often the 95 % interval held the truth (None
    where it gives no interval)."""

    estimator: str
    setting: str
    truth: float
    mean: float
    sd: float
    coverage: float | None
    replications: int

    @property
    def bias(self) -> float:
        """Relative to the truth; absolute where that is 0."""
        return (self.mean - self.truth) / (abs(self.truth) or 1.0)

    @property
    def noise(self) -> float:
        """Standard error of the bias, in its unit."""
        return self.sd / math.sqrt(self.replications) / (abs(self.truth) or 1.0)


Draw = Callable[[np.random.Generator], tuple[float, tuple[float, float] | None]]
"""One replication: the estimate, and its interval where there is one."""


def recovered(
    estimator: str, setting: str, truth: float, draw: Draw, replications: int, seed: int = 1
) -> Recovered:
    """Run one estimator ``replications`` times."""
    rng = np.random.default_rng([seed, *estimator.encode()])
    values, hits, intervals = [], 0, 0
    for _ in range(replications):
        value, ends = draw(rng)
        values.append(value)
        if ends is not None:
            intervals += 1
            hits += ends[0] <= truth <= ends[1]
    coverage = hits / intervals if intervals else None
    return Recovered(
        estimator, setting, truth, float(np.mean(values)), float(np.std(values, ddof=1)), coverage, replications
    )  # fmt: skip


def table(rows: Iterable[Recovered]) -> str:
    """Markdown."""
    out = [
        "| estimator | setting | truth | mean estimate | bias | ± | coverage of the 95 % interval | runs |",
        "|---|---|---:|---:|---:|---:|---:|---:|",
    ]
    for r in rows:
        coverage = "–" if r.coverage is None else f"{r.coverage:.0%}"
        name = r.estimator.replace("|", "\\|")
        out.append(
            f"| {name} | {r.setting} | {r.truth:.4g} | {r.mean:.4g} | {r.bias:+.1%} | {r.noise:.1%} | {coverage} | {r.replications} |"
        )
    return "\n".join(out) + "\n"

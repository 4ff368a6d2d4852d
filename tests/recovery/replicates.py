"""Several estimators on the same replications: a made up trace is costlier than an estimate."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

import numpy as np

from lamina_traces.intervals import Interval

from . import Recovered

T = TypeVar("T")


@dataclass(frozen=True)
class Estimator(Generic[T]):
    """``of``: the estimate and its interval from one replication; an estimate that could not be made is NaN."""

    name: str
    truth: float
    of: Callable[[T], tuple[float, Interval | None]]


def held_against(
    setting: str, estimators: Sequence[Estimator[T]], made: Sequence[T]
) -> list[Recovered]:
    """Each estimator on all of ``made``."""
    out = []
    for e in estimators:
        found = [(v, i) for v, i in map(e.of, made) if not math.isnan(v)]
        values = np.array([v for v, _ in found])
        hits = [i.low <= e.truth <= i.high for _, i in found if i is not None]
        coverage = float(np.mean(hits)) if hits else None
        out.append(
            Recovered(
                e.name, setting, e.truth, float(values.mean()), float(values.std(ddof=1)), coverage, len(values)
            )
        )  # fmt: skip
    return out

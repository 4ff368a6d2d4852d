"""The empirical quantile grid: what generates, since one family misses real lengths by KS 0.03–0.16."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from ..counts import Counts, significant
from ..errors import ModelError
from .families import Array

K_ANONYMITY = 10
"""nothing that fewer rows share is written into a profile: ends of a grid are the k-th extreme."""

GRID_KNOTS = 257
"""knots of a quantile grid: KS below 0.003 in sample on six real length columns."""


@dataclass(frozen=True)
class Grid:
    """Empirical quantile grid: ``values[i]`` is the quantile at i/(len − 1), linear in between.

    The ends are the k-th extremes and every step holds at least k rows (k = 10), so no single row of the
    source can be read from it. ``mean`` is the source's own mean, for reference.
    """

    values: Array
    mean: float
    rows: float

    @classmethod
    def of(cls, c: Counts, knots: int = GRID_KNOTS, k: int = K_ANONYMITY) -> Grid:
        """From Counts of any values. Raises ModelError below 2k rows."""
        if c.rows < 2 * k:
            raise ModelError(
                f"{c.rows:.0f} rows are too few for a quantile grid", f"at least {2 * k} are needed"
            )
        m = int(min(knots, c.rows // k + 1))
        q = np.linspace(0.0, 1.0, m)
        edge = (k - 1) / (c.rows - 1)
        return cls(significant(c.quantile(np.clip(q, edge, 1 - edge)), 7), c.mean, c.rows)

    def quantile(self, u: Array) -> Array:
        """Values at ``u`` in [0, 1]."""
        m = len(self.values) - 1
        h = np.clip(np.asarray(u, dtype=np.float64), 0.0, 1.0) * m
        i = np.minimum(h.astype(np.int64), m - 1)
        return np.asarray(self.values[i] + (h - i) * (self.values[i + 1] - self.values[i]))

    def drawn(self, u: Array) -> Array:
        """Values at numbers ``u`` in [0, 1], which are used up: what ``quantile`` gives, at two thirds of the cost."""
        u *= len(self.values) - 1
        i = np.minimum(u.astype(np.int64), len(self.values) - 2)
        u -= i
        u *= np.diff(self.values)[i]
        u += self.values[i]
        return u

    def thinned(self, knots: int) -> Grid:
        """The same law with fewer knots."""
        if len(self.values) <= knots:
            return self
        return Grid(significant(self.quantile(np.linspace(0, 1, knots)), 7), self.mean, self.rows)

    def to_dict(self) -> dict[str, Any]:
        return {
            "values": [int(v) if v == int(v) else float(v) for v in self.values],
            "mean": self.mean,
            "rows": self.rows,
        }

    @classmethod
    def from_dict(cls, d: dict[str, Any]) -> Grid:
        values = np.array(d["values"], dtype=np.float64)
        if len(values) < 2 or not np.isfinite(values).all() or (np.diff(values) < 0).any():
            raise ModelError(
                "a quantile grid in the profile is not an increasing list of numbers",
                "fit the profile again",
            )
        return cls(values, float(d["mean"]), float(d["rows"]))

"""Rows of whole groups (sessions, workflows) in memory, however many a trace has: of too many a sample of groups.

Groups are kept or left out by a hash of their name, so a group is whole or absent wherever its rows stand, one
reading is enough, and what is left is a random sample of groups.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import polars as pl

from .stack_distances import mixed

SEED = 20_412


def named(column: str) -> pl.Expr:
    """The number under which a group of that name is kept; null without a name."""
    return pl.when(pl.col(column).is_not_null()).then(pl.col(column).hash(SEED)).alias("group")


@dataclass
class WholeGroups:
    """Frames with a column ``group``, of which at most ``most`` rows are kept; ``share`` of all groups were."""

    most: int
    halvings: int = 0
    rows: int = 0
    """rows that came, kept or not."""
    _frames: list[pl.DataFrame] = field(default_factory=list)
    _kept: int = 0

    def add(self, frame: pl.DataFrame) -> None:
        self.rows += frame.height
        self._frames.append(self._chosen(frame))
        self._kept += self._frames[-1].height
        while self._kept > self.most:
            self.halvings += 1
            self._frames = [self._chosen(f) for f in self._frames]
            self._kept = sum(f.height for f in self._frames)

    def _chosen(self, frame: pl.DataFrame) -> pl.DataFrame:
        if not self.halvings:
            return frame
        high = mixed(frame["group"].to_numpy()) >> np.uint64(64 - self.halvings)
        return frame.filter(pl.Series(high == 0))

    @property
    def share(self) -> float:
        return 0.5**self.halvings

    def frame(self) -> pl.DataFrame | None:
        """All kept rows as they came; None where no row came."""
        return pl.concat(self._frames) if self._frames else None

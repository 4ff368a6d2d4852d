"""Atoms: values that far more rows share than their neighbourhood explains, and caps that longer ones are cut to.

A law of lengths is Σ shares of atoms + (1 − Σ)·continuous part; rows at a cap say only that they would have been
longer, so they enter the continuous part as survivors.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..counts import Counts
from ..errors import ModelError
from ..units import short
from .families import Array

LEAST_SHARE = 0.005
"""an atom holds at least this share of the rows, and ten rows."""
TIMES = 4.0
"""an atom holds more than this many times what its neighbourhood explains."""
MOST = 12


@dataclass(frozen=True)
class Atoms:
    """``values`` and their ``shares`` of all rows beyond what the neighbourhood explains. ``cap``: the value that
    longer ones were cut to, held by ``cap_share`` of the rows; None where there is none."""

    values: tuple[float, ...] = ()
    shares: tuple[float, ...] = ()
    cap: float | None = None
    cap_share: float = 0.0

    def __len__(self) -> int:
        return len(self.values)

    def __bool__(self) -> bool:
        return bool(self.values) or self.cap is not None

    def taken_out(self, c: Counts) -> tuple[Counts, Counts | None]:
        """The table without the atoms' rows, and the rows at the cap."""
        n = c.n.copy()
        at = np.searchsorted(c.x, self.values)
        for i, share in zip(at, self.shares, strict=True):
            n[i] = max(n[i] - share * c.rows, 0.0)
        capped = None
        if self.cap is not None:
            above = c.x >= self.cap
            capped = Counts.exact([self.cap], [float(n[above].sum())], c.unit)
            n[above] = 0.0
        rest = Counts(c.lo, c.hi, n, n * c.x, c.unit)
        return rest.where(n > 0), capped

    def loglik(self, c: Counts) -> float:
        """Of which rows are atoms, which not."""
        if not self.values:
            return 0.0
        shares = np.array([*self.shares, max(1 - sum(self.shares), 0.0)])
        shares = shares[shares > 0]
        return float(c.rows * (shares @ np.log(shares)))

    def cdf(self, x: Array, rest: Callable[[Array], Array]) -> Array:
        """Of the whole law, from that of the continuous part."""
        if not self:
            return rest(x)
        sums = np.concatenate([[0.0], np.cumsum(self.shares)])
        out = sums[np.searchsorted(self.values, x, side="right")] + (1 - sums[-1]) * rest(x)
        return np.asarray(out if self.cap is None else np.where(x >= self.cap, 1.0, out))

    def quantile(
        self, q: Array, cdf: Callable[[Array], Array], rest: Callable[[Array], Array]
    ) -> Array:
        """Of the whole law, from cdf and quantile of the continuous part."""
        if not self:
            return rest(q)
        sums = np.concatenate([[0.0], np.cumsum(self.shares)])
        free = 1 - sums[-1]
        values = np.array(self.values)
        below = (
            sums[:-1] + free * cdf(values) if len(values) else np.zeros(0)
        )  # F just before each atom
        i = np.searchsorted(below, q, side="right")  # atoms that begin at or before q
        inside = (i > 0) & (q <= np.concatenate([[0.0], below + np.array(self.shares)])[i])
        u = np.clip((q - sums[i]) / max(free, 1e-300), 0.0, 1 - 1e-16)
        out = np.where(inside, np.concatenate([[0.0], values])[i], rest(np.where(inside, 0.5, u)))
        return np.asarray(out if self.cap is None else np.minimum(out, self.cap))

    def to_dict(self) -> dict[str, Any]:
        out: dict[str, Any] = {"values": list(self.values), "shares": list(self.shares)}
        return out if self.cap is None else out | {"cap": self.cap, "cap_share": self.cap_share}

    @classmethod
    def from_dict(cls, d: dict[str, Any]) -> Atoms:
        values = tuple(map(float, d["values"]))
        shares = tuple(map(float, d["shares"]))
        cap = None if d.get("cap") is None else float(d["cap"])
        sane = (
            len(values) == len(shares)
            and all(math.isfinite(v) for v in values)
            and list(values) == sorted(set(values))
            and all(s > 0 for s in shares)
            and sum(shares) <= 1.0001
            and (cap is None or math.isfinite(cap))
        )
        if not sane:
            raise ModelError(
                "atoms in the profile are no values with shares", "fit the profile again"
            )
        return cls(values, shares, cap, float(d.get("cap_share", 0.0)))


NO_ATOMS = Atoms()


def find_atoms(c: Counts) -> Atoms:
    """Spikes and the cap of whole numbers.

    What a value's neighbourhood explains is the mean mass of the numbers within 3 % of it (at least five on
    each side), the value left out, others of the neighbourhood that stand out alike left out too. The cap: the
    top half per cent of the range holds ten times the density of the five per cent below it.
    """
    if c.rows < 200:
        return NO_ATOMS
    if len(c) < 12:  # so few values are all atoms
        held = c.n >= max(LEAST_SHARE * c.rows, 10)
        shares = tuple(short(s, 5) for s in c.n[held] / c.rows)
        return Atoms(tuple(float(v) for v in c.x[held]), shares)
    x, n = c.x, c.n
    cap, cap_share = _cap(c)
    reach = np.maximum(np.floor(0.03 * x), 5.0)
    lo, hi = np.maximum(x - reach, max(0.0, x[0])), np.minimum(x + reach, x[-1])
    a, b = np.searchsorted(x, lo, side="left"), np.searchsorted(x, hi, side="right")
    mass = n
    explained = np.zeros(len(x))
    for _ in range(2):  # the second time without the other spikes
        sums = np.concatenate([[0.0], np.cumsum(mass)])
        explained = np.maximum(sums[b] - sums[a] - mass, 0.0) / np.maximum(hi - lo, 1.0)
        mass = np.minimum(n, TIMES * np.maximum(explained, 1.0))
    excess = n - explained
    found = (excess >= max(LEAST_SHARE * c.rows, 10)) & (n > TIMES * explained)
    if cap is not None:
        found &= x < cap
    order = np.flatnonzero(found)
    order = np.sort(order[np.argsort(-excess[order], kind="stable")[:MOST]])
    values = tuple(float(v) for v in x[order])
    shares = tuple(short(s, 5) for s in excess[order] / c.rows)
    return Atoms(values, shares, cap, cap_share)


def _cap(c: Counts) -> tuple[float | None, float]:
    x, n = c.x, c.n
    top = float(x[-1])
    edge = min(0.995 * top, top - 2)
    if edge <= x[0] or top < 16:
        return None, 0.0
    at_top = x >= edge
    below = (x >= 0.95 * top) & ~at_top
    held = float(n[at_top].sum())
    density = float(n[below].sum()) / max(edge - 0.95 * top, 1.0)
    if held < max(LEAST_SHARE * c.rows, 10) or held <= 10 * density * (top - edge + 1):
        return None, 0.0
    # the least value that begins the pile
    heavy = at_top & (n >= 0.05 * held)
    cap = float(x[heavy][0])
    return cap, short(float(n[x >= cap].sum()) / c.rows, 5)

"""Tallies: a whole number per session or workflow (turns, calls, depth), as a table that names nobody and as a law."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from ..counts import Counts
from ..distributions import FAMILIES, K_ANONYMITY, Family, Fitted, fit_families
from ..distributions.families import Params
from ..distributions.fitting import refine
from ..errors import ModelError
from ..intervals import Interval
from ..survival import Survival
from ..units import short
from .durations import rounded

SINGLE = 16
"""numbers up to here have cells of their own where enough share them; above it cells are an eighth wide or more."""
LAWS = ("geometric", "zeta")


@dataclass(frozen=True)
class Tally:
    """``rows`` whole numbers ≥ 1. ``cells``: (from, to, rows), every one of ten rows or more. ``censored`` rows are only
    known to be at least what they are; ``mean`` takes them as they are. ``families``: laws of the number, lowest AIC
    first; the negative binomial is of the number beyond the first.
    """

    rows: int
    mean: float
    interval: Interval | None
    quantiles: Mapping[str, float]
    cells: tuple[tuple[int, int, int], ...]
    censored: int = 0
    families: tuple[Fitted, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        return {
            "rows": self.rows,
            "mean": self.mean,
            "interval": self.interval.to_dict() if self.interval else None,
            "quantiles": dict(self.quantiles),
            "cells": [list(c) for c in self.cells],
            "censored": self.censored,
            "families": [f.to_dict() for f in self.families],
        }

    @classmethod
    def from_dict(cls, d: dict[str, Any]) -> Tally:
        cells = tuple((int(a), int(b), int(n)) for a, b, n in d["cells"])
        out = cls(
            int(d["rows"]), float(d["mean"]), Interval.from_dict(d["interval"]),
            {str(k): float(v) for k, v in d["quantiles"].items()}, cells, int(d["censored"]),
            tuple(Fitted.from_dict(f) for f in d["families"]),
        )  # fmt: skip
        apart = all(a <= b and n >= 0 for a, b, n in cells) and all(
            one[1] < two[0] for one, two in itertools.pairwise(cells)
        )
        numbers = [out.mean, *out.quantiles.values(), float(out.censored)]
        if out.rows < 0 or not apart or not all(math.isfinite(v) and v >= 0 for v in numbers):
            raise ModelError(
                "a tally of the profile: cells must rise and numbers be positive",
                "fit the profile again",
            )
        return out

    def brief(self) -> Tally:
        """What one stream among many keeps."""
        return replace(self, families=self.families[:1])

    @property
    def best(self) -> Fitted | None:
        return self.families[0] if self.families else None

    def share(self, value: int) -> float | None:
        """Share of the rows that have exactly this value; None where too few share it."""
        return next((n / self.rows for a, b, n in self.cells if a == b == value), None)


def tally(
    counts: Counts,
    interval: Interval | None = None,
    *,
    laws: bool = True,
    complete: Counts | None = None,
    survivors: Counts | None = None,
) -> Tally | None:
    """The tally of all ``counts``, with ``laws`` or without; None below 2·k rows. Where some are only known to be at least what they are, laws are
    fitted to the ``complete`` ones, and to the ``survivors`` among the others; what is neither takes no part in them.
    """
    if counts.rows < 2 * K_ANONYMITY:
        return None
    q = {"p50": 0.5, "p90": 0.9, "p99": 0.99}
    quantiles = {
        k: float(counts.quantile(p)) for k, p in q.items() if (1 - p) * counts.rows >= K_ANONYMITY
    }
    known = counts if complete is None else complete
    hidden = survivors if survivors is not None and survivors.rows else None
    return Tally(
        rows=round(counts.rows),
        mean=short(counts.mean, 6),
        interval=interval,
        quantiles=quantiles,
        cells=tuple(cells(counts)),
        censored=round(counts.rows - known.rows),
        families=tuple(map(rounded, _laws(known, hidden)))
        if laws and known.rows >= K_ANONYMITY
        else (),
    )


def cells(c: Counts) -> list[tuple[int, int, int]]:
    """Neighbours joined until ten rows share each cell; what is left at the end joins the last."""
    out: list[tuple[int, int, int]] = []
    low, held = 0, 0
    for value, n in zip(c.x.astype(np.int64).tolist(), c.n.tolist(), strict=True):
        low = low if held else value
        held += round(n)
        if held >= K_ANONYMITY and (value <= SINGLE or value >= low * 1.125):
            out.append((low, value, held))
            held = 0
    if held:
        last = int(c.x[-1])
        if held < K_ANONYMITY and out:
            low, _, before = out.pop()
            held += before
        out.append((low, last, held))
    return out


def _laws(counts: Counts, survivors: Counts | None) -> list[Fitted]:
    """Survivors exceed the number below theirs, so those of 1 say nothing."""
    right = None
    if survivors is not None:
        more = survivors.where(survivors.x > 1)
        right = Counts.exact(more.x - 1, more.n) if len(more) else None
    if len(counts) < 2:
        return []
    found = fit_families(counts, LAWS, right=right)
    extra = _negative_binomial(counts, right)
    return sorted([*found, *([extra] if extra else [])], key=lambda f: f.aic_per_row)


def _negative_binomial(counts: Counts, right: Counts | None) -> Fitted | None:
    """Of the number less one, which may be 0; the censored ones exceed ``right``."""
    law = FAMILIES["negative-binomial"]
    beyond = Counts.exact(counts.x - 1, counts.n)
    least = Counts.exact(right.x - 1, right.n) if right is not None else None
    start = beyond if least is None else beyond + least
    if start.var() <= start.mean:
        return None  # no wider than a Poisson law: the likelihood has no maximum

    def loglik(_law: Family, p: Params) -> float:
        value = float(beyond.n @ law.logpdf(beyond.x, p))
        return value + (float(least.n @ law.logsf(least.x, p)) if least is not None else 0.0)

    params = law.fit(start)
    if least is not None:
        params = refine(law, params, loglik)
    value = loglik(law, params)
    if not (math.isfinite(value) and 0 < params["p"] < 1):
        return None
    seen = Survival.of(counts, right)
    below = 1 - seen.survival
    u = (np.arange(1000) + 0.5) / 1000
    u = u[u < below[-1]]
    data = seen.t[np.searchsorted(below, u)]
    return Fitted(
        law.name,
        params,
        start.rows,
        (4 - 2 * value) / start.rows,
        ks_d=float(np.abs(below - law.cdf(seen.t - 1, params)).max()),
        w1_log10=float(np.abs(np.log10(data) - np.log10(law.quantile(u, params) + 1)).mean()),
    )

"""Durations that were partly not seen to their end: Kaplan & Meier's estimate, and intervals of quantiles.

A job that still runs when the log ends, a pod that is still alive, the silence after the last failure: each says
only that a duration is longer than what was seen. Leaving them out makes everything look shorter.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import special

from .counts import Counts, significant
from .errors import ModelError
from .intervals import LEVEL, Blocks, Interval, wilson
from .units import short

Array = npt.NDArray[np.float64]

FEWEST = 10
"""a stored curve has no step of fewer ends, nor one with fewer at risk."""
MOST_KNOTS = 48


@dataclass(frozen=True, eq=False)
class Survival:
    """The share that lasts longer than ``t``, one entry per distinct end, in order, in the unit of the Counts.

    S(t) = Π over ends up to t of (1 − ended/at risk) (Kaplan & Meier 1958, JASA 53). What is censored at t is still at
    risk there. ``low``, ``high``: 95 % by Greenwood's variance on the scale of ln(−ln S) (Kalbfleisch & Prentice
    1980, section 1.4), which holds for independent durations. ``thinned`` keeps S at its own knots.
    """

    t: Array
    survival: Array
    low: Array
    high: Array
    at_risk: Array
    ended: float
    censored: float

    @classmethod
    def of(cls, ended: Counts, censored: Counts | None = None) -> Survival:
        """From durations that were seen to their end and those that were not. Raises ModelError without an end."""
        if not len(ended):
            raise ModelError("no duration was seen to its end", "a longer trace would show some")
        t, d = ended.x, ended.n
        later = np.cumsum(d[::-1])[::-1]
        if censored is not None and len(censored):
            gone = np.concatenate([[0.0], np.cumsum(censored.n)])
            n = later + censored.rows - gone[np.searchsorted(censored.x, t, side="left")]
        else:
            n = later
        s = np.cumprod(1 - d / n)
        s = np.where(n - d > 0, s, 0.0)
        with np.errstate(divide="ignore", invalid="ignore"):
            variance = np.cumsum(d / (n * (n - d)))
            log = np.log(s)
            spread = float(special.ndtri(0.5 + LEVEL / 2)) * np.sqrt(variance) / log
            low, high = s ** np.exp(-spread), s ** np.exp(spread)
        inside = (s > 0) & (s < 1)
        low, high = np.where(inside, low, s), np.where(inside, high, s)
        return cls(t, s, low, high, n, ended.rows, censored.rows if censored is not None else 0.0)

    def at(self, t: Array) -> Array:
        """S(t): right-continuous, 1 before the first end."""
        steps = np.concatenate([[1.0], self.survival])
        return np.asarray(steps[np.searchsorted(self.t, t, side="right")])

    def quantile(self, p: float) -> float | None:
        """The first t by which the share ``p`` has ended; None where that was not seen."""
        return _first(self.t, self.survival, 1 - p)

    def quantile_interval(self, p: float) -> Interval | None:
        """95 % of ``quantile(p)``: where the curve's own interval holds 1 − p (Brookmeyer & Crowley 1982,
        Biometrics 38). None where an end was not seen."""
        low, high = _first(self.t, self.low, 1 - p), _first(self.t, self.high, 1 - p)
        return None if low is None or high is None else Interval(low, high, "Kaplan–Meier")

    def mean_until(self, horizon: float) -> float:
        """Restricted mean: the mean of min(duration, horizon), the area below S up to ``horizon``."""
        t = np.concatenate([[0.0], self.t[self.t < horizon], [horizon]])
        return float((np.diff(t) * self.at(t[:-1])).sum())

    def thinned(self, most: int = MOST_KNOTS, k: int = FEWEST) -> Survival:
        """The curve at no more than ``most`` ends, each step of which ``k`` rows share, ended where fewer than ``k``
        are at risk. Between its knots S is known to within a step."""
        before = np.concatenate([[1.0], self.survival[:-1]])
        ended = self.at_risk * (1 - self.survival / np.maximum(before, 1e-300))
        gone = np.cumsum(ended)
        kept: list[int] = []
        last, step = 0.0, max(float(k), self.ended / most)
        for i in range(len(self.t)):
            if gone[i] - last >= step - 1e-6 and self.at_risk[i] - ended[i] >= k:
                kept.append(i)
                last = float(gone[i])
        at = np.array(kept, dtype=np.int64)
        return Survival(
            significant(self.t[at], 5), significant(self.survival[at], 5), significant(self.low[at], 5), significant(self.high[at], 5),
            self.at_risk[at], self.ended, self.censored,
        )  # fmt: skip

    def to_dict(self) -> dict[str, Any]:
        return {
            "t": self.t.tolist(),
            "survival": self.survival.tolist(),
            "low": self.low.tolist(),
            "high": self.high.tolist(),
            "at_risk": [round(v) for v in self.at_risk],
            "ended": self.ended,
            "censored": self.censored,
        }

    @classmethod
    def from_dict(cls, d: dict[str, Any]) -> Survival:
        columns = [
            np.array(d[k], dtype=np.float64) for k in ("t", "survival", "low", "high", "at_risk")
        ]
        t, s, low, high, risk = columns
        ended, censored = float(d["ended"]), float(d["censored"])
        sane = (
            len({len(c) for c in columns}) == 1
            and all(bool(np.isfinite(c).all()) for c in columns)
            and bool((np.diff(t) > 0).all() and (np.diff(s) <= 0).all())
            and bool(((low >= 0) & (low <= s) & (s <= high) & (high <= 1)).all())
            and bool((risk >= 0).all())
            and 0 <= ended < math.inf
            and 0 <= censored < math.inf
        )
        if not sane:
            raise ModelError(
                "a survival curve of the profile is not falling from 1 to 0",
                "fit the profile again",
            )
        return cls(t, s, low, high, risk, ended, censored)


def _first(t: Array, s: Array, level: float) -> float | None:
    below = np.flatnonzero(s <= level + 1e-12)
    return float(t[below[0]]) if len(below) else None


def quantile_interval(
    c: Counts, p: float, blocks: Blocks | None = None, beyond: Array | None = None, rows: Array | None = None
) -> Interval | None:  # fmt: skip
    """95 % of the ``p`` quantile of ``c``: the interval of the share beyond it, carried through the quantile function
    (Woodruff 1952, JASA 47). With ``blocks``, ``beyond`` and ``rows`` are, per window, the rows above the quantile and
    all rows; without them rows are taken as independent. Its ends have ten rows beyond them; None below 20 rows.
    """
    n = c.rows
    if n < 2 * FEWEST:
        return None
    share: Interval | None
    if blocks is None or beyond is None or rows is None:
        share = wilson((1 - p) * n, n)
        method, n_eff = "independent rows", None
    else:
        drawn = blocks.sums(np.stack([beyond, rows], axis=1))
        point = float(beyond.sum() / rows.sum())
        with np.errstate(divide="ignore", invalid="ignore"):
            share = blocks.interval(point, drawn[:, 0] / drawn[:, 1], variance=point * (1 - point))
        if share is None:
            return None
        method, n_eff = share.method, share.n_eff
    edge = (FEWEST - 1) / (n - 1)
    levels = np.clip(np.array([1 - share.high, 1 - share.low, p]), edge, 1 - edge)
    low, high, middle = (short(v, 4) for v in c.quantile(levels))
    return Interval(min(low, middle), max(high, middle), method, n_eff)

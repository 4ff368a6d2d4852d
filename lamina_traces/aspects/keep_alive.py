"""Keep-alive: how often a request finds no instance, and what keeping one costs, for any time it is kept.

An instance is kept for K seconds from the END of the last request that it served; a request that comes later starts
cold. One curve answers for every K: with the idle times G before requests, P(cold) = P(G > K) and the idle cost of a
request is E[min(G, K)], the area under that curve (the fixed keep-alive of Shahrad et al., ATC 2020, section 5).

Assumed: one instance per function (or application) that takes any number of requests at once. Where an instance takes
one request, those that come while another runs (``busy_share``) start instances of their own as well.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from ..counts import Counts, significant
from ..distributions import K_ANONYMITY
from ..errors import ModelError
from ..intervals import Interval, read_intervals
from ..units import short
from .durations import Windowed
from .shares import share_interval

Array = npt.NDArray[np.float64]

NAMED_S = (60.0, 300.0, 600.0, 1200.0, 3600.0)
"""the keep-alives that are quoted, with intervals."""
PER_DECADE = 12


@dataclass(frozen=True, eq=False)
class KeepAlive:
    """``per``: function or application; ``entities`` of them made ``invocations``. ``later`` requests came after
    another of their own (with counts per bin of ``grain_s``: bins in which there was one). At ``knots_s``, exactly:
    ``cold``, the share of the later ones that had idled longer; ``idle_s``, the mean of min(idle time, K) over them;
    ``tail_s``, the mean over entities of what K holds between the last request and the end of the trace (null where
    fewer than ten). Ten idle times or none lie between neighbouring knots. ``intervals`` of ``cold`` by seconds.
    """

    per: str
    grain_s: float
    entities: int
    invocations: float
    later: float
    busy_share: float
    knots_s: Array
    cold: Array
    idle_s: Array
    tail_s: Array | None
    intervals: Mapping[str, Interval] = field(default_factory=dict)

    @classmethod
    def of(
        cls, idle: Counts, entities: int, invocations: float, tails: Counts | None = None, *,
        per: str = "function", grain_s: float = 0.0, windowed: Windowed | None = None,
    ) -> KeepAlive | None:  # fmt: skip
        """From idle times in seconds, 0 for requests that came while another ran; None below ten of them.
        ``tails``: from each entity's last request to the end of the trace; ``windowed``: the idle times by window."""
        if idle.rows < 2 * K_ANONYMITY:
            return None
        knots = _knots(idle, grain_s)
        keep = tails is not None and tails.rows >= K_ANONYMITY
        return cls(
            per=per,
            grain_s=grain_s,
            entities=entities,
            invocations=float(invocations),
            later=idle.rows,
            busy_share=short(idle.n[idle.x <= 0].sum() / idle.rows, 6),
            knots_s=knots,
            cold=significant(beyond(idle, knots) / idle.rows, 6),
            idle_s=significant(kept(idle, knots) / idle.rows, 6),
            tail_s=significant(kept(tails, knots) / tails.rows, 6)
            if keep and tails is not None
            else None,
            intervals=_intervals(idle, windowed, knots),
        )

    def p_cold(self, k_s: float) -> tuple[float, float]:
        """(share of the later requests that start cold when kept for ``k_s``, how far off it can be at most)."""
        low, high = self.bounds(k_s)
        value = self._read(k_s)
        return value, max(high - value, value - low)

    def bounds(self, k_s: float) -> tuple[float, float]:
        """The lowest and the highest that the share can be: at a knot they are one; between knots a step of the curve lies
        between them, beyond the last one what is left. Counts per bin blur every idle time by a bin to either side."""
        self._check(k_s)
        return self._at(k_s + self.grain_s)[0], self._at(k_s - self.grain_s)[1]

    def cold_starts(self, k_s: float) -> float:
        """How many requests start cold, the first one of each entity among them (with counts: bins)."""
        return self.entities + self.later * self.p_cold(k_s)[0]

    def cold_share(self, k_s: float) -> float:
        """Cold starts by invocation, the first request of each entity counted as one: the other reading."""
        return self.cold_starts(k_s) / self.invocations

    def idle(self, k_s: float) -> tuple[float, float]:
        """(seconds that an instance is kept idle per invocation when kept for ``k_s``, half the range it can lie in);
        with the time after each entity's last request where ``tail_s`` is known."""
        self._check(k_s)
        value, error = self._area(self.idle_s, k_s, self.cold)
        total = value * self.later
        if self.tail_s is not None:
            total += float(np.interp(k_s, self.knots_s, self.tail_s)) * self.entities
        return total / self.invocations, error * self.later / self.invocations

    def _check(self, k_s: float) -> None:
        if not (math.isfinite(k_s) and k_s >= 0):
            raise ModelError(f"a keep-alive of {k_s} s is no time", "give seconds from 0")

    def _at(self, k_s: float) -> tuple[float, float]:
        """The lowest and the highest that P(idle > k) can be."""
        if k_s < 0:
            return 1.0, 1.0
        i = int(np.searchsorted(self.knots_s, k_s, side="right")) - 1
        high = float(self.cold[i])
        if self.knots_s[i] == k_s:
            return high, high
        return (float(self.cold[i + 1]) if i + 1 < len(self.cold) else 0.0), high

    def _read(self, k_s: float) -> float:
        low, high = self._at(k_s)
        i = int(np.searchsorted(self.knots_s, k_s, side="right")) - 1
        if low == high or i + 1 >= len(self.knots_s):
            return (low + high) / 2
        a, b = math.log1p(self.knots_s[i]), math.log1p(self.knots_s[i + 1])
        return high + (low - high) * (math.log1p(k_s) - a) / (b - a)

    def _area(self, at: Array, k_s: float, slope: Array) -> tuple[float, float]:
        i = int(np.searchsorted(self.knots_s, k_s, side="right")) - 1
        step = k_s - float(self.knots_s[i])
        if step == 0:
            return float(at[i]), 0.0
        # the curve is concave with slopes between the shares at its ends
        low = float(at[i]) + step * (float(slope[i + 1]) if i + 1 < len(slope) else 0.0)
        high = float(at[i]) + step * float(slope[i])
        if i + 1 < len(at):
            width = float(self.knots_s[i + 1] - self.knots_s[i])
            low = max(low, float(at[i]) + step / width * float(at[i + 1] - at[i]))
            high = min(high, float(at[i + 1]) - (width - step) * float(slope[i + 1]))
        return (low + high) / 2, max(0.0, (high - low) / 2)

    def to_dict(self) -> dict[str, Any]:
        return {
            "per": self.per,
            "grain_s": self.grain_s,
            "entities": self.entities,
            "invocations": self.invocations,
            "later": self.later,
            "busy_share": self.busy_share,
            "knots_s": self.knots_s.tolist(),
            "cold": self.cold.tolist(),
            "idle_s": self.idle_s.tolist(),
            "tail_s": None if self.tail_s is None else self.tail_s.tolist(),
            "intervals": {k: i.to_dict() for k, i in self.intervals.items()},
        }

    @classmethod
    def from_dict(cls, d: dict[str, Any]) -> KeepAlive:
        def column(name: str) -> Array:
            return np.array(d[name], dtype=np.float64)

        found = cls(
            str(d["per"]), float(d["grain_s"]), int(d["entities"]), float(d["invocations"]), float(d["later"]),
            float(d["busy_share"]), column("knots_s"), column("cold"), column("idle_s"),
            None if d["tail_s"] is None else column("tail_s"), read_intervals(d["intervals"]),
        )  # fmt: skip
        columns = [found.knots_s, found.cold, found.idle_s]
        columns += [] if found.tail_s is None else [found.tail_s]
        sane = (
            len({len(c) for c in columns}) == 1
            and len(found.knots_s) > 0
            and all(bool(np.isfinite(c).all() and (c >= 0).all()) for c in columns)
            and found.knots_s[0] == 0
            and bool((np.diff(found.knots_s) > 0).all() and (np.diff(found.cold) <= 0).all())
            and bool((np.diff(found.idle_s) >= 0).all())
            and float(found.cold.max()) <= 1
            and 0 <= found.busy_share <= 1
            and found.grain_s >= 0
            and 0 < found.later <= found.invocations < math.inf
            and 0 < found.entities <= found.invocations
        )
        if not sane:
            raise ModelError(
                "a keep-alive curve of the profile is not one of shares that fall with time",
                "fit the profile again",
            )
        return found


def beyond(c: Counts, k_s: Array) -> Array:
    """How many values are above each of ``k_s``; a bin that straddles one is split in proportion."""
    above = np.concatenate([np.cumsum(c.n[::-1])[::-1], [0.0]])
    first = np.searchsorted(c.hi, k_s, side="right")  # the first bin that is not wholly at or below
    out = above[first]
    for j, i in enumerate(first):
        if i < len(c) and c.lo[i] <= k_s[j] < c.hi[i]:
            out[j] -= c.n[i] * (k_s[j] - c.lo[i]) / (c.hi[i] - c.lo[i])
    return np.asarray(out)


def kept(c: Counts, k_s: Array) -> Array:
    """The sum of min(value, k) over the values, for each of ``k_s``."""
    below = np.concatenate([[0.0], np.cumsum(c.total)])
    above = np.concatenate([np.cumsum(c.n[::-1])[::-1], [0.0]])
    first = np.searchsorted(c.hi, k_s, side="right")
    out = below[first] + k_s * above[first]
    for j, i in enumerate(first):
        if i < len(c) and c.lo[i] < k_s[j] < c.hi[i]:
            share = (k_s[j] - c.lo[i]) / (c.hi[i] - c.lo[i])
            out[j] -= c.n[i] * share * (k_s[j] - c.lo[i]) / 2
    return np.asarray(out)


def _knots(idle: Counts, grain_s: float) -> Array:
    """Keep-alives at which the curve is kept: 0, the named ones, twelve a decade (bins with counts), as far apart that
    ten idle times or none lie between two."""
    top = float(idle.hi[-1])
    if grain_s > 0:
        most = math.ceil(top / grain_s)
        steps = np.unique(np.round(np.geomspace(1, 2 ** math.ceil(math.log2(max(most, 2))), 60)))
        wanted = steps * grain_s
    else:
        low = math.floor(math.log10(max(float(idle.x[idle.x > 0].min(initial=top)), 1e-6)))
        decades = math.ceil(math.log10(max(top, 1e-5))) - low
        wanted = np.logspace(low, low + decades, decades * PER_DECADE + 1)
        wanted = significant(wanted, 3)
    named = np.array([1.0, 5.0, 10.0, 20.0, 30.0, 120.0, 900.0, 1800.0, 7200.0, *NAMED_S])
    named = named[np.isclose(named % grain_s, 0)] if grain_s > 0 else named
    wanted = np.unique(np.concatenate([wanted, named[named < top]]))
    above = beyond(idle, np.concatenate([[0.0], wanted]))
    loved = set(named.tolist())
    out, last = [0.0], float(above[0])
    for i, (k, left) in enumerate(zip(wanted, above[1:], strict=True)):
        enough = last - left >= K_ANONYMITY or last == left
        if not enough or 0 < left < K_ANONYMITY:
            continue
        after = wanted[i + 1 :]
        soon = [v for v in after[:3] if v in loved and v < 1.25 * k]
        if k not in loved and soon:  # a named one is worth more than its neighbour
            continue
        if last == left and left == 0:
            break
        out.append(float(k))
        last = float(left)
    told = np.array(out)
    share = beyond(idle, told)
    flat = np.zeros(len(told), dtype=bool)
    flat[1:-1] = (share[:-2] == share[1:-1]) & (share[1:-1] == share[2:])
    return told[~flat | np.isin(told, named)]


def _intervals(idle: Counts, windowed: Windowed | None, knots: Array) -> dict[str, Interval]:
    if windowed is None:
        return {}
    rows, total = windowed.n.sum(axis=0), windowed.total.sum(axis=0)
    middle = np.divide(total, rows, out=np.zeros_like(total), where=rows > 0)
    found = {}
    for k in (k for k in NAMED_S if k in knots):
        share = float(beyond(idle, np.array([k]))[0] / idle.rows)
        cold = windowed.n[:, middle > k].sum(axis=1)
        if share > 0 and cold.sum() > 0:  # bins are coarser than the curve
            interval = share_interval(cold, windowed.n.sum(axis=1), share)
            if interval is not None:
                found[f"{k:g}"] = interval
    return found

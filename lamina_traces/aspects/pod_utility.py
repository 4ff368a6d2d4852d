"""Pod utility: how long a pod was of use for the time that it took to start (Joosen et al., EuroSys 2025, section 4.5).

U = (lifetime − keep-alive) / cold start time. A pod lives from ready until a keep-alive after the end of its last request, so
the keep-alive cancels: U = (end of its last request − ready) / cold start time. Below 1 it took longer to start than it was of
use. Two readings that differ much: the middle of the pods' own ratios, and the ratio of the sums, which long-lived pods
rule.

A pod whose last request ends within a keep-alive of the trace's end may live on: it is right-censored. Its useful time is cut at
random, its ratio is not (a slow start makes both it and its limit small), so Kaplan & Meier's estimate on ratios would be biased;
pods that ended are weighed by the inverse of the chance of being seen to the end for so long (Robins & Rotnitzky 1992).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
from scipy import special

from ..distributions import K_ANONYMITY
from ..errors import ModelError, Notice
from ..intervals import LEVEL, Interval, independent_rows
from ..units import NS_PER_S, format_number, format_seconds, short
from . import Finding
from .durations import FEWEST_ROWS, tellable

if TYPE_CHECKING:
    from ..store import Trace

Array = npt.NDArray[np.float64]

KEEP_ALIVE_S = 60.0
"""the platform's keep-alive in the paper; it only decides which pods may still live at the end."""
LEVELS = {"p25": 0.25, "p50": 0.5, "p75": 0.75, "p90": 0.9}
CURVE = np.arange(1, 40) / 40


@dataclass(frozen=True)
class PodUtility:
    """Of ``pods``, ``censored`` of which may live on. ``quantiles``: of the pods' own ratios, with ``median_interval``;
    ``median_uncensored``: of those that surely ended, which is too low. ``ratio_of_sums``: useful over cold-start seconds of
    all pods, of the censored ones what was seen. ``below_one``: share of pods with U < 1. ``ratios``: quantiles at
    1/40, 2/40 …, as far as they were seen."""

    pods: int
    censored: int
    keep_alive_s: float
    quantiles: Mapping[str, float]
    median_interval: Interval | None
    median_uncensored: float
    ratio_of_sums: float
    below_one: float
    ratios: tuple[float, ...]

    def to_dict(self) -> dict[str, Any]:
        return {
            "pods": self.pods,
            "censored": self.censored,
            "keep_alive_s": self.keep_alive_s,
            "quantiles": dict(self.quantiles),
            "median_interval": self.median_interval.to_dict() if self.median_interval else None,
            "median_uncensored": self.median_uncensored,
            "ratio_of_sums": self.ratio_of_sums,
            "below_one": self.below_one,
            "ratios": list(self.ratios),
        }

    @classmethod
    def from_dict(cls, d: dict[str, Any]) -> PodUtility:
        found = cls(
            int(d["pods"]), int(d["censored"]), float(d["keep_alive_s"]), {str(k): float(v) for k, v in d["quantiles"].items()},
            Interval.from_dict(d["median_interval"]), float(d["median_uncensored"]), float(d["ratio_of_sums"]),
            float(d["below_one"]), tuple(float(v) for v in d["ratios"]),
        )  # fmt: skip
        numbers = (
            *found.quantiles.values(),
            *found.ratios,
            found.median_uncensored,
            found.ratio_of_sums,
        )
        sane = (
            all(math.isfinite(v) and v >= 0 for v in (*numbers, found.keep_alive_s))
            and list(found.ratios) == sorted(found.ratios)
            and len(found.ratios) <= len(CURVE)
            and 0 <= found.below_one <= 1
            and 0 <= found.censored <= found.pods
        )
        if not sane:
            raise ModelError("pod utility of the profile is no ratio", "fit the profile again")
        return found

    def finding(self, aspect: str) -> Finding:
        i = self.median_interval
        ends = f" [{format_number(i.low)}, {format_number(i.high)}]" if i else ""
        middle = self.quantiles.get("p50")
        told = f"{format_number(middle)}{ends}" if middle is not None else "more than was seen"
        return Finding(
            aspect,
            f"Pods are of use for {told} times as long as they took to start (median of {self.pods:,} pods), and for "
            f"{format_number(self.ratio_of_sums)} times over all pods together; {self.below_one:.0%} for less than their start.",
            "inverse probability of censoring",
            f"{self.censored:,} pods may live on past the end (keep-alive {format_seconds(self.keep_alive_s)})",
        )


@dataclass(frozen=True, eq=False)
class Pods:
    """``n`` pods a cell, with their useful seconds and ratio on average, and whether they ended; sorted by useful
    seconds."""

    n: Array
    useful_s: Array
    ratio: Array
    ended: npt.NDArray[np.bool_]

    @classmethod
    def of(cls, n: Array, useful_s: Array, ratio: Array, ended: npt.NDArray[np.bool_]) -> Pods:
        order = np.lexsort((ratio, useful_s))
        return cls(n[order], useful_s[order], ratio[order], ended[order])

    def shares(self, n: Array | None = None) -> tuple[Array, Array]:
        """(ratios in order, share of pods up to each), the latter of as many draws as ``n`` has rows ([draws, cells])."""
        n = self.n[None, :] if n is None else n
        times, at = np.unique(self.useful_s, return_inverse=True)
        gone, cut = np.zeros((len(n), len(times))), np.zeros((len(n), len(times)))
        np.add.at(gone.T, at[self.ended], n.T[self.ended])
        np.add.at(cut.T, at[~self.ended], n.T[~self.ended])
        later = np.cumsum((gone + cut)[:, ::-1], axis=1)[:, ::-1]
        with np.errstate(divide="ignore", invalid="ignore"):
            stay = np.where(later - gone > 0, 1 - cut / (later - gone), 1.0)
        before = np.concatenate([np.ones((len(n), 1)), np.cumprod(stay, axis=1)[:, :-1]], axis=1)
        with np.errstate(divide="ignore", invalid="ignore"):
            weight = np.where(before[:, at] > 0, n / before[:, at], 0.0)[:, self.ended]
        order = np.argsort(self.ratio[self.ended], kind="stable")
        share = np.cumsum(weight[:, order], axis=1) / n.sum(axis=1, keepdims=True)
        return self.ratio[self.ended][order], np.minimum(share, 1.0)

    def quantile(self, p: float) -> float | None:
        """The ratio that a share ``p`` of the pods does not exceed; None where so many were not seen to the end."""
        x, share = self.shares()
        i = int(np.searchsorted(share[0], p - 1e-12))
        return float(x[i]) if i < len(x) else None

    def quantile_interval(self, p: float) -> Interval | None:
        """95 % of it, pods being independent: of draws of cells, on a log scale."""
        point = self.quantile(p)
        if point is None or point <= 0:
            return None
        x, share = self.shares(independent_rows(self.n))
        at = (share < p - 1e-12).sum(axis=1)
        if (at >= len(x)).any():
            return None
        found = x[at]
        if not (found > 0).all():
            return None
        half = float(special.ndtri(0.5 + LEVEL / 2)) * float(np.log(found).std(ddof=1))
        low, high = (short(point * math.exp(s * half), 4) for s in (-1, 1))
        return Interval(low, high, "independent pods", float(self.n.sum()))


def fit(trace: Trace, notices: list[Notice], aspect: str) -> PodUtility | None:
    """Pod utility of cold starts whose pods also served recorded invocations; None, silently, without a pod in common, and
    with a Notice below twenty."""
    if "invocations" not in trace.tables or not trace.has("pod_id") or not trace.has("total_s"):
        return None
    extent = trace.query("invocations/concurrency").to_pylist()[0]
    last = extent["last_end_ns"]
    if last is None:
        return None
    t = trace.query("cold_starts/pod_utility", alive_ns=int(last) - round(KEEP_ALIVE_S * NS_PER_S))
    n = t["n"].to_numpy().astype(np.float64)
    useful, ratio, cold = (
        t[c].to_numpy().astype(np.float64) for c in ("useful_s", "ratio", "cold_s")
    )
    over = t["ended"].to_numpy() == 1
    if n[over].sum() < FEWEST_ROWS:
        if n.sum():
            notices.append(
                Notice("few-pods", f"{n[over].sum():.0f} pods have their cold start and their last request on record: too few for their utility", aspect)
            )  # fmt: skip
        return None
    pods = Pods.of(n, useful / n, ratio / n, over)
    return of_pods(pods, float(useful.sum() / cold.sum()))


def of_pods(pods: Pods, ratio_of_sums: float) -> PodUtility:
    """The aspect of pods in cells."""
    whole, cut = float(pods.n.sum()), float(pods.n[~pods.ended].sum())
    quantiles = {k: pods.quantile(p) for k, p in tellable(LEVELS, whole).items()}
    x, share = pods.shares()
    below = x < 1
    edge = K_ANONYMITY / whole
    curve = [pods.quantile(float(p)) for p in np.clip(CURVE, edge, 1 - edge)]
    alone = pods.ratio[pods.ended], pods.n[pods.ended]
    order = np.argsort(alone[0], kind="stable")
    middle = np.searchsorted(np.cumsum(alone[1][order]), alone[1].sum() / 2)
    return PodUtility(
        pods=int(whole),
        censored=int(cut),
        keep_alive_s=KEEP_ALIVE_S,
        quantiles={k: short(v, 6) for k, v in quantiles.items() if v is not None},
        median_interval=pods.quantile_interval(0.5),
        median_uncensored=short(alone[0][order][middle], 6),
        ratio_of_sums=short(ratio_of_sums, 6),
        below_one=short(share[0][below][-1], 6) if below.any() else 0.0,
        ratios=tuple(short(v, 4) for v in curve if v is not None),
    )

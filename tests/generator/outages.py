"""Sources whose requests fail in outages, and how much failures per window vary, counted from the rows."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import polars as pl

Array = npt.NDArray[np.float64]

S = 10**9
BASE, IN_OUTAGE = 0.01, 0.5
OUTAGE_S, BETWEEN_S = 60.0, 1200.0


def outages(rng: np.random.Generator, t: Array) -> npt.NDArray[np.bool_]:
    """Which instants (s) lie in outages of a minute, exponential gaps of 20 min on average between them."""
    begins = np.cumsum(rng.exponential(BETWEEN_S, int(t[-1] / 400) + 20) + OUTAGE_S) - OUTAGE_S
    at = np.searchsorted(begins, t, side="right") - 1
    return (at >= 0) & (t < begins[np.maximum(at, 0)] + OUTAGE_S)


def poisson(rng: np.random.Generator, hours: float, per_s: float) -> Array:
    return np.asarray(np.sort(rng.random(rng.poisson(hours * 3600 * per_s))) * hours * 3600)


def rows(t: Array, failed: npt.NDArray[np.bool_], **more: object) -> pl.DataFrame:
    """A table of requests at ``t`` (s)."""
    n = len(t)
    tokens = pl.Series(np.full(n, 100), dtype=pl.Int32)
    base: dict[str, object] = {
        "arrival_ns": (t * S).astype(np.int64),
        "status": np.where(failed, "error", "ok").tolist(),
        "input_tokens": tokens,
        "output_tokens": tokens,
    }
    return pl.DataFrame(base | more)


def swing(t_ns: npt.NDArray[np.int64], failed: npt.NDArray[np.bool_], width_s: float) -> float:
    """Variance of failures per window over that of independent ones, given the requests."""
    w = ((t_ns - t_ns[0]) // round(width_s * S)).astype(np.int64)
    n, k = np.bincount(w).astype(float), np.bincount(w, failed)
    p = k.sum() / n.sum()
    return float(((k - n * p) ** 2).sum() / (p * (1 - p) * n.sum()))


def mean_run(failed: npt.NDArray[np.bool_]) -> float:
    begins = np.diff(failed.astype(np.int8), prepend=0) > 0
    return float(failed.sum() / max(begins.sum(), 1))

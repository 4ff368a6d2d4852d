"""Site watts by phase: a log of requests and a power log on one clock, joined by windows.

A window of w seconds is idle, in prefill (some request is between its first schedule and its first token) or in decode
(none is, and some request is between its first and last token) for shares of its time. Mean power is a sum of these
shares times watts of the phase, found by least squares without negative watts.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import polars as pl
from scipy.optimize import nnls

from . import measurements
from .errors import ModelError, Notice, UsageError
from .units import NS_PER_S

if TYPE_CHECKING:
    from .store import Trace

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
PHASES = ("idle", "prefill", "decode")
DOMAINS = ("row", "rack", "server", "psu", "gpu")
"""whose power is taken, the first that the log has: what stands higher holds what is below it."""
FEWEST = 20
"""windows that a fit takes."""
LEAST = 1.0
"""windows' worth of time that a phase needs for watts of its own."""


@dataclass(frozen=True)
class PhasePower:
    """``watts``: of all devices of ``domain`` by phase, None for a phase that hardly occurs. ``shares``: of the time.
    ``error``, ``bias``: mean |relative error| and mean relative error over windows; ``later``: the same of the second
    half by watts fitted on the first, None where a phase lacks in either."""

    windows: int
    window_s: float
    domain: str
    devices: int
    watts: dict[str, float | None]
    shares: dict[str, float]
    error: float
    bias: float
    later: tuple[float, float] | None
    notices: tuple[Notice, ...]


def fit(requests: Trace, power: Trace, *, window_s: float | None = None) -> PhasePower:
    """Join the logs and fit. ``window_s`` None: five power samples, one second at least.

    UsageError where a log lacks what is needed, ModelError where they do not overlap for FEWEST windows.
    """
    if "power_samples" not in power.tables or not power.has("power_w", "power_samples"):
        raise UsageError(
            f"trace {power.name!r} holds no power samples", "give an nvidia-smi, DCGM or IPMI log"
        )
    log = measurements.requests(requests).filter(pl.col("ttft_s").is_not_null() & pl.col("e2e_s").is_not_null())  # fmt: skip
    shift, notices = _shift(requests, power)
    wanted = [c for c in ("arrival_ns", "device", "host", "domain", "power_w", "is_average") if power.has(c, "power_samples")]  # fmt: skip
    samples = power.scan("power_samples").select(wanted).drop_nulls(["arrival_ns", "power_w"]).collect()  # fmt: skip
    found = set(samples["domain"].to_list()) if "domain" in samples.columns else {"gpu"}
    domain = next((d for d in DOMAINS if d in found), sorted(found)[0] if found else "gpu")
    if "domain" in samples.columns:
        samples = samples.filter(pl.col("domain") == domain)
    averages = "is_average" in samples.columns and bool(
        samples["is_average"].fill_null(False).all()
    )
    key = [c for c in ("host", "device") if c in samples.columns]
    gap = (
        samples.sort("arrival_ns")
        .with_columns(d=pl.col("arrival_ns").diff().over(key))["d"]
        .median()
    )
    if window_s is None:
        window_s = max(1.0, 5 * float(gap or 0) / NS_PER_S)  # type: ignore[arg-type]
    width = round(window_s * NS_PER_S)
    if not log.height or not samples.height:
        raise ModelError("a log is empty", "look at both with: lamina-traces show")
    at = samples["arrival_ns"].to_numpy() + shift
    start, first, last = _instants(log)
    low = max(int(at.min()), int(start.min()) - 10 * width)
    high = min(int(at.max()), int(last.max()) + 10 * width)
    n = (high - low) // width
    if n < FEWEST:
        raise ModelError(
            f"the logs overlap for {max(0, high - low) / NS_PER_S:.3g} s, {max(0, n)} windows of {window_s:g} s",
            f"give logs of the same hours, {FEWEST} windows or more",
        )
    samples = samples.with_columns(window=(at - low) // width).filter(pl.col("window").is_between(0, n - 1))  # fmt: skip
    means = samples.group_by([*key, "window"]).agg(pl.col("power_w").mean())
    devices = means.select(key).n_unique() if key else 1
    whole = means.group_by("window").agg(pl.len(), pl.col("power_w").sum()).sort("window")
    whole = whole.filter(pl.col("len") == devices)
    rows = whole["window"].to_numpy()
    # an instant's reading stands for the time around it, an average for the time from it on
    early_ns = 0 if averages else round(float(gap or 0) / 2)  # type: ignore[arg-type]
    edges = low - early_ns + width * np.arange(n + 1)
    prefill = np.diff(_covered(start, first, edges))[rows] / width
    busy = np.diff(_covered(start, last, edges))[rows] / width
    x = np.stack([1 - busy, prefill, busy - prefill], axis=1)
    y = whole["power_w"].to_numpy()
    if len(y) < FEWEST:
        raise ModelError(
            f"only {len(y)} windows of {window_s:g} s have samples of all {devices} devices",
            "give a wider --window",
        )
    watts, error = _solve(x, y)
    half = len(y) // 2
    early, _ = _solve(x[:half], y[:half])
    known = all((early[i] is None) == (w is None) for i, w in enumerate(watts))
    return PhasePower(
        windows=len(y),
        window_s=window_s,
        domain=domain,
        devices=devices,
        watts=dict(zip(PHASES, watts, strict=True)),
        shares=dict(zip(PHASES, x.mean(axis=0).tolist(), strict=True)),
        error=float(np.abs(error).mean()),
        bias=float(error.mean()),
        later=_scored(early, x[half:], y[half:]) if known else None,
        notices=notices,
    )


def _shift(requests: Trace, power: Trace) -> tuple[int, tuple[Notice, ...]]:
    """ns to add to the power log's instants for the requests' clock."""
    a, b = requests.manifest.origin_ns, power.manifest.origin_ns
    if a is not None and b is not None:
        return b - a, ()
    text = "a log has no date: both are taken to start at the same instant"
    return 0, () if requests.name == power.name else (Notice("clocks-assumed", text, "power"),)


def _instants(log: pl.DataFrame) -> tuple[Ints, Ints, Ints]:
    """[requests] first scheduled (or start, where the queue is not recorded), first token, last token."""
    start = log["start_ns"].to_numpy()

    def after(column: str) -> Ints:
        seconds = log[column].fill_null(0.0).to_numpy()
        return np.asarray(start + np.rint(seconds * NS_PER_S), np.int64)

    return after("queue_s"), after("ttft_s"), after("e2e_s")


def _covered(start: Ints, end: Ints, at: Ints) -> Floats:
    """[at] ns before each instant that lie in at least one of the intervals."""
    order = np.argsort(start)
    s, e = start[order], np.maximum.accumulate(end[order])
    head = np.concatenate([[True], s[1:] > e[:-1]])
    left = s[head]
    right = e[np.concatenate([np.flatnonzero(head)[1:] - 1, [len(e) - 1]])]
    before = np.concatenate([[0], np.cumsum(right - left)])
    i = np.searchsorted(left, at, side="right")
    inside = np.where(i > 0, np.clip(at - left[i - 1], 0, (right - left)[i - 1]), 0)
    return np.asarray(np.where(i > 0, before[i - 1] + inside, 0), np.float64)


def _solve(x: Floats, y: Floats) -> tuple[list[float | None], Floats]:
    """Watts by phase (least squares of watts), and each window's relative error."""
    use = x.sum(axis=0) >= LEAST
    found = nnls(x[:, use], y)[0]
    out: list[float | None] = [None] * x.shape[1]
    for i, w in zip(np.flatnonzero(use), found, strict=True):
        out[int(i)] = float(w)
    return out, x[:, use] @ found / y - 1


def _scored(watts: list[float | None], x: Floats, y: Floats) -> tuple[float, float]:
    error = x @ np.array([w or 0.0 for w in watts]) / y - 1
    return float(np.abs(error).mean()), float(error.mean())

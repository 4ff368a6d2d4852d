"""Retries of failed requests, by a heuristic that is labelled as one: no source says which request repeats which."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from ..counts import Counts
from ..distributions import K_ANONYMITY
from ..errors import Notice
from ..intervals import Interval, wilson
from ..units import NS_PER_S, format_seconds, short
from . import Finding
from .durations import binned, tellable
from .shares import wilson_of

if TYPE_CHECKING:
    from ..store import Trace

WITHIN_S = 60.0


@dataclass(frozen=True)
class Retries:
    """A HEURISTIC: a request of the same sender, model and prompt length within ``within_s`` of a failure is taken for its
    retry. ``share`` of ``failures`` is so followed, ``share_after_success`` of the successes of the same senders and
    lengths (what would be followed anyway); ``success`` of the retries succeed. ``delays_s``: quantiles."""

    within_s: float
    failures: int
    share: float
    interval: Interval
    share_after_success: float | None
    success: float | None
    delays_s: Mapping[str, float]

    def to_dict(self) -> dict[str, Any]:
        return {
            "within_s": self.within_s,
            "failures": self.failures,
            "share": self.share,
            "interval": self.interval.to_dict(),
            "share_after_success": self.share_after_success,
            "success": self.success,
            "delays_s": dict(self.delays_s),
        }

    @classmethod
    def from_dict(cls, d: dict[str, Any]) -> Retries:
        def maybe(x: Any) -> float | None:
            return None if x is None else float(x)

        return cls(
            float(d["within_s"]), int(d["failures"]), float(d["share"]), Interval.from_dict(d["interval"]) or wilson(0, 0),
            maybe(d["share_after_success"]), maybe(d["success"]), {str(k): float(v) for k, v in d["delays_s"].items()},
        )  # fmt: skip

    def finding(self, aspect: str) -> Finding:
        r = self
        text = (
            f"As a heuristic (same sender, model and prompt length within {format_seconds(r.within_s)}), {r.share:.1%} of "
            f"{r.failures:,} failures were retried"
        )
        if r.success is not None:
            text += f", {r.success:.0%} of them with success"
        if "p50" in r.delays_s:
            text += f", after a median of {format_seconds(r.delays_s['p50'])}"
        if r.share_after_success is not None:
            text += f"; {r.share_after_success:.1%} of successes were followed likewise"
        return Finding(
            aspect,
            text + ".",
            "heuristic",
            f"share {r.share:.3g} [{r.interval.low:.3g}, {r.interval.high:.3g}]",
            warning="retry-heuristic",
        )


def fit(
    trace: Trace, notices: list[Notice], failed: int, aspect: str, design_effect: float
) -> Retries | None:
    """Retries of the ``failed`` requests of a trace with arrival times; None, with a Notice, where they cannot be told."""
    if failed < K_ANONYMITY:
        return None
    needed = [c for c in ("session_id", "client_id", "user_id") if trace.has(c)]
    if not needed or not trace.has("input_tokens"):
        notices.append(
            Notice("no-retries", "retries cannot be told: they need a session, client or user, input lengths and arrival times", aspect)
        )  # fmt: skip
        return None
    t = trace.query("failures/retries", within_ns=round(WITHIN_S * NS_PER_S))
    failing, after = t["failed"].to_numpy() == 1, t["next"].to_numpy()
    n = t["n"].to_numpy().astype(np.float64)
    failures = float(n[failing].sum())
    if failures < K_ANONYMITY:
        notices.append(
            Notice("no-retries", "failed requests carry no sender or no input length, so that their retries cannot be told", aspect)
        )  # fmt: skip
        return None
    again = failing & (after > 0)
    retried = float(n[again].sum())
    successes = float(n[~failing].sum())
    delays = binned(t, again)
    notices.append(
        Notice("retry-heuristic", f"a retry is taken to be a request of the same sender, model and prompt length within {format_seconds(WITHIN_S)}; chance does that, too", aspect)
    )  # fmt: skip
    return Retries(
        within_s=WITHIN_S,
        failures=int(failures),
        share=short(retried / failures, 6),
        interval=wilson_of(retried, failures, design_effect),
        share_after_success=short(float(n[~failing & (after > 0)].sum()) / successes, 6) if successes >= K_ANONYMITY else None,
        success=short(float(n[again & (after == 2)].sum()) / retried, 6) if retried >= K_ANONYMITY else None,
        delays_s=_quantiles(delays),
    )  # fmt: skip


def _quantiles(c: Counts) -> dict[str, float]:
    levels = tellable({"p10": 0.1, "p50": 0.5, "p90": 0.9}, c.rows)
    return {k: short(float(c.quantile(p)), 4) for k, p in levels.items()}

"""Failures: how many requests fail, and whether failures come in runs.

Model: a two-state Markov chain over the requests in order of arrival (Gilbert 1960), with
p = P(fail | previous succeeded) and q = P(succeed | previous failed). Independent failures have
q = 1 − p; a mean run of 1/q longer than that is clustering. A status that the source does not record is
neither a failure nor a success.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from ..errors import ModelError, Notice
from ..schema import FAILED
from . import Finding, Line

if TYPE_CHECKING:
    from ..store import Trace

NAME = "failures"
VERSION = 1
TABLES = ("llm_requests",)


@dataclass(frozen=True)
class Failures:
    """``kinds``: share of the failures by status, and the share of those that carry no lengths.
    ``rate_low``/``rate_high``: 95 % Wilson interval of the rate, as if failures were independent.
    """

    requests: int
    failed: int
    rate: float
    rate_low: float
    rate_high: float
    p_fail_after_ok: float
    p_ok_after_fail: float
    mean_run: float
    longest_run: int
    kinds: dict[str, tuple[float, float]]

    def to_dict(self) -> dict[str, Any]:
        return {
            "version": VERSION,
            "requests": self.requests,
            "failed": self.failed,
            "rate": self.rate,
            "rate_low": self.rate_low,
            "rate_high": self.rate_high,
            "p_fail_after_ok": self.p_fail_after_ok,
            "p_ok_after_fail": self.p_ok_after_fail,
            "mean_run": self.mean_run,
            "longest_run": self.longest_run,
            "kinds": {k: {"share": s, "without_lengths": w} for k, (s, w) in self.kinds.items()},
        }

    def findings(self) -> list[Finding]:
        if not self.failed:
            return [Finding(NAME, f"None of {self.requests:,} requests failed.")]
        independent = 1 / (1 - self.rate) if self.rate < 1 else math.inf
        times = self.mean_run / independent
        text = f"{self.failed:,} of {self.requests:,} requests failed ({self.rate:.2%})."
        if self.failed >= 10 and self.rate < 1:
            text += " They come " + (
                f"in runs {times:.2g} times as long as independent failures would."
                if times > 1.2
                else "as singly as independent failures would."
            )
        return [
            Finding(
                NAME,
                text,
                model=f"two-state(p={self.p_fail_after_ok:.3g}, q={self.p_ok_after_fail:.3g})",
                effect=f"mean run {self.mean_run:.2f}, rate {self.rate_low:.2%}–{self.rate_high:.2%}",
            )
        ]


def from_dict(d: dict[str, Any]) -> Failures:
    """Inverse of ``Failures.to_dict``."""
    f = Failures(
        int(d["requests"]), int(d["failed"]), float(d["rate"]), float(d["rate_low"]), float(d["rate_high"]),
        float(d["p_fail_after_ok"]), float(d["p_ok_after_fail"]), float(d["mean_run"]), int(d["longest_run"]),
        {str(k): (float(v["share"]), float(v["without_lengths"])) for k, v in d["kinds"].items()},
    )  # fmt: skip
    probabilities = [
        f.rate,
        f.p_fail_after_ok,
        f.p_ok_after_fail,
        *(x for v in f.kinds.values() for x in v),
    ]
    if not all(0 <= p <= 1 for p in probabilities) or (
        f.rate > 0 and f.p_ok_after_fail == 0 and f.rate < 1
    ):
        raise ModelError(
            "failures of the profile: a probability is outside 0 … 1", "fit the profile again"
        )
    if set(f.kinds) - set(FAILED):
        raise ModelError(
            f"failures of the profile: unknown kinds {sorted(set(f.kinds) - set(FAILED))}",
            "fit the profile again",
        )
    return f


def wilson(k: float, n: float, z: float = 1.959963984540054) -> tuple[float, float]:
    """Wilson score interval of k of n (Wilson 1927)."""
    if n == 0:
        return 0.0, 1.0
    p = k / n
    centre = (p + z * z / (2 * n)) / (1 + z * z / n)
    half = z / (1 + z * z / n) * math.sqrt(p * (1 - p) / n + z * z / (4 * n * n))
    return max(0.0, centre - half), min(1.0, centre + half)


def fit(trace: Trace, notices: list[Notice]) -> Failures | None:
    """Fit failures of ``llm_requests``. Needs rows whose status is recorded."""
    statuses = trace.query("failures/status_counts").to_pylist()
    known = [r for r in statuses if r["status"] != "unknown"]
    requests = sum(r["n"] for r in known)
    if not requests:
        notices.append(
            Notice(
                "not-recorded",
                "the source does not record whether requests failed; log a status for each request",
                NAME,
            )
        )
        return None
    failures = [r for r in known if r["status"] in FAILED]
    failed = sum(r["n"] for r in failures)
    runs = [r for r in trace.query("failures/run_lengths").to_pylist() if r["failed"]]
    starts = sum(r["n"] for r in runs)
    ok = requests - failed
    low, high = wilson(failed, requests)
    return Failures(
        requests=requests,
        failed=failed,
        rate=failed / requests,
        rate_low=low,
        rate_high=high,
        p_fail_after_ok=min(1.0, starts / ok) if ok else 1.0,
        p_ok_after_fail=starts / failed if failed and ok else float(not failed),
        mean_run=failed / starts if starts else 0.0,
        longest_run=max((r["length"] for r in runs), default=0),
        kinds={r["status"]: (r["n"] / failed, r["without_tokens"] / r["n"]) for r in failures},
    )


def sample_chain(
    failures: Failures, rng: np.random.Generator, size: int, state: int
) -> tuple[npt.NDArray[np.int64], int]:
    """The chain over ``size`` requests from ``state`` (0 ok, 1 failed): failed flags, and the last state.

    Runs alternate with geometric lengths, so the cost follows the number of runs and not of requests.
    """
    out = np.zeros(size, dtype=np.int64)
    leave = (failures.p_fail_after_ok, failures.p_ok_after_fail)
    at = 0
    while at < size:
        p = leave[state]
        stay = size - at if p <= 0 else int(min(rng.geometric(p) - 1, size - at))
        out[at : at + stay] = state
        at += stay
        if at < size:
            state = 1 - state
            out[at] = state
            at += 1
    return out, int(out[-1]) if size else state


def score(a: Trace, b: Trace) -> list[Line]:
    """Difference of failure rates; informative only where a trace records none."""
    rates = []
    for t in (a, b):
        f = fit(t, [])
        rates.append(None if f is None else f.rate)
    if rates[0] is None or rates[1] is None:
        return [Line(NAME, "failure rate difference", None, None, note="not recorded")]
    return [Line(NAME, "failure rate difference", abs(rates[0] - rates[1]), None, "share")]

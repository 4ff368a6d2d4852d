"""Jobs of a cluster: how long they run and wait, how large they are, how often they fail.

A rate of failure has two definitions that differ several times over (a third of a cluster's jobs may fail while they
use a tenth of its GPU time), so both are given: by jobs that ended, and by the GPU time that those used.
Jobs that still ran when the log ended are right-censored; jobs that their user cancelled ended by their user.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from ..counts import Counts
from ..distributions import K_ANONYMITY, Fitted, fit_families
from ..errors import ModelError, Notice
from ..formats.job_states import FAILURES
from ..intervals import FEWEST_WINDOWS, Interval, poisson
from ..units import NS_PER_S, format_number, format_seconds, short
from . import Finding, Line
from .durations import (
    FEWEST_ROWS,
    Array,
    Durations,
    Windowed,
    binned,
    describe,
    grid_ks,
    resolution_s,
    rounded,
    segments,
)
from .shares import design_effect, per_window, ratio_interval, share_interval, wilson_of
from .timeline import Timeline

if TYPE_CHECKING:
    from ..store import Trace

NAME = "jobs"
VERSION = 1
TABLES = ("jobs",)
NEEDS = ("duration_s", "state")
RECORD = "one row per job with submission, start, end, GPUs and final state (sacct of Slurm, the job log of a scheduler)"

ENDED = (*FAILURES, "completed", "cancelled")
"""states of jobs that ended; ``censored`` ones did not, ``unknown`` ones say nothing."""
_ENDLESS_NS = 2**62


@dataclass(frozen=True)
class Share:
    """A share with its interval, None where neither blocks nor Wilson apply."""

    value: float
    interval: Interval | None

    def to_dict(self) -> dict[str, Any]:
        return {"value": self.value, "interval": self.interval.to_dict() if self.interval else None}

    @classmethod
    def from_dict(cls, d: dict[str, Any] | None) -> Share | None:
        return None if d is None else cls(float(d["value"]), Interval.from_dict(d["interval"]))

    def told(self) -> str:
        i = self.interval
        ends = f" [{format_number(100 * i.low)}%, {format_number(100 * i.high)}%]" if i else ""
        return f"{self.value:.2%}{ends}"


@dataclass(frozen=True)
class Size:
    """Jobs of more than ``above`` and at most ``gpus`` GPUs: their share of the jobs and of the GPU time, how many of
    them ended, and the share of those that failed."""

    above: float
    gpus: float
    jobs_share: float
    gpu_time_share: float
    ended: int
    failed: Share | None

    def to_dict(self) -> dict[str, Any]:
        return {
            "above": self.above,
            "gpus": self.gpus,
            "jobs_share": self.jobs_share,
            "gpu_time_share": self.gpu_time_share,
            "ended": self.ended,
            "failed": self.failed.to_dict() if self.failed else None,
        }

    @property
    def label(self) -> str:
        """``"5–8"``, ``"1"``, ``"none"``, ``"under 1"``, ``"up to 2"``."""
        if self.gpus <= 0:
            return "none"
        if self.gpus < 1:
            return "under 1"
        if self.above < 0:
            return f"up to {self.gpus:g}"
        low = math.floor(self.above) + 1
        return f"{low:g}" if low == self.gpus else f"{low:g}–{self.gpus:g}"


@dataclass(frozen=True)
class Jobs:
    """``states``: share of all jobs and of their GPU time by final state. ``failed_by_jobs``, ``failed_by_gpu_time``: of
    what ended, the share that failed (states failed, timeout, node_fail, evicted). ``gaps`` take submissions of one
    instant as less than half a tick apart, ``gaps_apart`` are the laws of the other gaps alone. ``attempts``: share of jobs
    started so often. ``gpu_hours_per_failure``, ``node_hours_per_failure``: time of all jobs by failure, with interval.
    """

    jobs: int
    span_s: float
    states: Mapping[str, tuple[float, float]]
    ended: int
    failed_by_jobs: Share | None
    failed_by_gpu_time: Share | None
    sizes: tuple[Size, ...]
    duration: Durations | None
    queue: Durations | None
    gaps: Durations | None
    gaps_apart: tuple[Fitted, ...] = ()
    attempts: Mapping[str, float] = field(default_factory=dict)
    attempts_mean: float | None = None
    gpu_hours_per_failure: tuple[float, Interval | None] | None = None
    node_hours_per_failure: tuple[float, Interval | None] | None = None

    def hours_to_failure(self, nodes: float) -> float | None:
        """Mean hours until a job on ``nodes`` nodes fails, were every node as likely to fail as those of this trace
        and independent of the others: node hours per failure over nodes (Kokolis et al., arXiv 2410.21680)."""
        return self.node_hours_per_failure[0] / nodes if self.node_hours_per_failure else None

    def to_dict(self) -> dict[str, Any]:
        def one(x: Any) -> Any:
            return None if x is None else x.to_dict()

        def pair(x: tuple[float, Interval | None] | None) -> Any:
            return None if x is None else {"hours": x[0], "interval": one(x[1])}

        return {
            "version": VERSION,
            "jobs": self.jobs,
            "span_s": self.span_s,
            "states": {k: {"jobs": a, "gpu_time": b} for k, (a, b) in self.states.items()},
            "ended": self.ended,
            "failed_by_jobs": one(self.failed_by_jobs),
            "failed_by_gpu_time": one(self.failed_by_gpu_time),
            "sizes": [s.to_dict() for s in self.sizes],
            "duration": one(self.duration),
            "queue": one(self.queue),
            "gaps": one(self.gaps),
            "gaps_apart": [f.to_dict() for f in self.gaps_apart],
            "attempts": dict(self.attempts),
            "attempts_mean": self.attempts_mean,
            "gpu_hours_per_failure": pair(self.gpu_hours_per_failure),
            "node_hours_per_failure": pair(self.node_hours_per_failure),
        }

    def findings(self) -> list[Finding]:
        over = f" over {format_seconds(self.span_s)}" if self.span_s else ""
        out = [Finding(NAME, f"{self.jobs:,} jobs{over}.")]
        for what, d in (("run", self.duration), ("wait", self.queue)):
            if d is None:
                continue
            law = d.best
            text = f"Jobs {what} for {d.middle()} (CV {format_number(d.cv)})"
            if d.censored:
                still = "still running" if what == "run" else "still waiting"
                text += f"; {d.censored:,.0f} {'was' if d.censored == 1 else 'were'} {still} at the end and count as longer"
            out.append(
                Finding(
                    NAME, text + ".", law.family if law else "", law.parameters() if law else "", law.effect() if law else ""
                )
            )  # fmt: skip
        if self.failed_by_jobs is not None:
            text = f"Of the {self.ended:,} jobs that ended, {self.failed_by_jobs.told()} failed"
            if self.failed_by_gpu_time is not None:
                text += f"; of the GPU time that they used, {self.failed_by_gpu_time.told()} was of jobs that failed"
            method = self.failed_by_jobs.interval.method if self.failed_by_jobs.interval else ""
            out.append(Finding(NAME, text + ".", parameters=method))
        if self.gaps is not None and (best := self.gaps.best):
            zero = f"; {self.gaps.zero_share:.1%} of them are zero" if self.gaps.zero_share else ""
            out.append(
                Finding(
                    NAME,
                    f"Submissions come {format_seconds(self.gaps.mean_s)} apart on average (CV {format_number(self.gaps.cv)}){zero}.",
                    best.family, best.parameters(), best.effect(),
                )
            )  # fmt: skip
        for what, each in (
            ("GPU", self.gpu_hours_per_failure),
            ("node", self.node_hours_per_failure),
        ):
            if each is not None:
                hours, i = each
                ends = f" [{format_number(i.low)}, {format_number(i.high)}]" if i else ""
                method = i.method if i else ""
                out.append(
                    Finding(
                        NAME,
                        f"Jobs fail once in {format_number(hours)}{ends} {what} hours of running.",
                        parameters=method,
                    )
                )
        return out


def from_dict(d: dict[str, Any]) -> Jobs:
    """Inverse of ``Jobs.to_dict``."""

    def times(x: Any) -> Durations | None:
        return None if x is None else Durations.from_dict(x)

    def pair(x: Any) -> tuple[float, Interval | None] | None:
        return None if x is None else (float(x["hours"]), Interval.from_dict(x["interval"]))

    found = Jobs(
        jobs=int(d["jobs"]),
        span_s=float(d["span_s"]),
        states={str(k): (float(v["jobs"]), float(v["gpu_time"])) for k, v in d["states"].items()},
        ended=int(d["ended"]),
        failed_by_jobs=Share.from_dict(d["failed_by_jobs"]),
        failed_by_gpu_time=Share.from_dict(d["failed_by_gpu_time"]),
        sizes=tuple(
            Size(
                float(s["above"]), float(s["gpus"]), float(s["jobs_share"]), float(s["gpu_time_share"]), int(s["ended"]), Share.from_dict(s["failed"])
            )
            for s in d["sizes"]
        ),
        duration=times(d["duration"]),
        queue=times(d["queue"]),
        gaps=times(d["gaps"]),
        gaps_apart=tuple(Fitted.from_dict(f) for f in d["gaps_apart"]),
        attempts={str(k): float(v) for k, v in d["attempts"].items()},
        attempts_mean=None if d["attempts_mean"] is None else float(d["attempts_mean"]),
        gpu_hours_per_failure=pair(d["gpu_hours_per_failure"]),
        node_hours_per_failure=pair(d["node_hours_per_failure"]),
    )  # fmt: skip
    rates = (found.failed_by_jobs, found.failed_by_gpu_time, *(s.failed for s in found.sizes))
    shares = [r.value for r in rates if r is not None] + list(found.attempts.values())
    shares += [x for pair_ in found.states.values() for x in pair_]
    shares += [x for s in found.sizes for x in (s.jobs_share, s.gpu_time_share)]
    each = [h[0] for h in (found.gpu_hours_per_failure, found.node_hours_per_failure) if h]
    sane = (
        all(0 <= s <= 1 for s in shares)
        and all(math.isfinite(v) and v >= 0 for v in (found.span_s, *each))
        and 0 <= found.ended <= found.jobs
        and all(math.isfinite(s.gpus) and s.ended >= 0 for s in found.sizes)
    )
    if not sane:
        raise ModelError("jobs of the profile: a share is outside 0 … 1", "fit the profile again")
    return found


# --- measuring -------------------------------------------------------------------------------------


def fit(trace: Trace, notices: list[Notice]) -> Jobs | None:
    """Fit ``jobs``; what the source does not record (states, GPUs, waiting) is left out and said."""
    extent = trace.query("jobs/extent").to_pylist()[0]
    jobs = int(extent["jobs"])
    if jobs < FEWEST_ROWS:
        notices.append(Notice("too-few-rows", f"{jobs} jobs are too few to fit", NAME))
        return None
    timeline = Timeline.of(trace)
    first, end = int(extent["first_ns"] or 0), int(extent["last_ns"] or 0)
    times = _times(trace, timeline, end)
    by_window = trace.query(
        "jobs/state_windows",
        origin_ns=timeline.first_ns if timeline else 0,
        width_ns=timeline.width_ns if timeline else _ENDLESS_NS,
    )
    state = np.array(by_window["state"].to_pylist())
    n, gpu_s = by_window["n"].to_numpy().astype(np.float64), by_window["gpu_s"].to_numpy()
    over, bad = np.isin(state, ENDED), np.isin(state, FAILURES)
    ended, failed = float(n[over].sum()), float(n[bad].sum())
    if not ended:
        notices.append(
            Notice("not-recorded", "the source does not record how jobs ended: nothing is said about failures", NAME)
        )  # fmt: skip
    windows = timeline.windows if timeline else 0
    sums = {
        name: np.stack([_windows(by_window, pick, name, windows) for pick in (bad, over)], axis=1)
        for name in ("n", "gpu_s", "node_s")
    }
    gaps, gaps_apart = _gaps(trace, timeline)
    attempts = trace.query("jobs/attempt_counts")
    tries, many = attempts["attempts"].to_numpy(), attempts["n"].to_numpy().astype(np.float64)
    return Jobs(
        jobs=jobs,
        span_s=(end - first) / NS_PER_S,
        states=_states(state, n, gpu_s),
        ended=int(ended),
        failed_by_jobs=_by_jobs(sums["n"], failed, ended, notices) if ended else None,
        failed_by_gpu_time=_by_gpu_time(sums["gpu_s"], float(gpu_s[bad].sum()), float(gpu_s[over].sum())) if failed else None,
        sizes=_sizes(trace, sums["n"]),
        duration=times.get("duration"),
        queue=times.get("queue"),
        gaps=gaps,
        gaps_apart=gaps_apart,
        attempts=_attempts(tries, many),
        attempts_mean=short((tries @ many) / many.sum(), 5) if many.sum() >= K_ANONYMITY else None,
        gpu_hours_per_failure=_per_failure(sums["gpu_s"], sums["n"], float(gpu_s.sum()), failed),
        node_hours_per_failure=_per_failure(sums["node_s"], sums["n"], float(by_window["node_s"].to_numpy().sum()), failed),
    )  # fmt: skip


def _gaps(trace: Trace, timeline: Timeline | None) -> tuple[Durations | None, tuple[Fitted, ...]]:
    """Gaps between submissions, zeros as less than half a tick; and the laws of the others alone."""
    gaps = Counts.exact([], [], "s")
    for part in segments(trace):
        gaps = gaps + binned(part.query("jobs/gap_counts"))
    if timeline is None or gaps.rows < FEWEST_ROWS:
        return None, ()
    windowed = None
    if not timeline.masks:
        t = trace.query("jobs/gap_windows", origin_ns=timeline.first_ns, width_ns=timeline.width_ns)
        windowed = Windowed.of(t, timeline.windows)
    tick = (trace.manifest.tick_ns or 0) / NS_PER_S
    apart = gaps.where(gaps.x > 0)
    laws = fit_families(apart, ("exponential", "weibull", "lognormal", "gamma"))
    return describe(gaps, tick_s=tick, knots=33, windowed=windowed), tuple(map(rounded, laws))


def _times(trace: Trace, timeline: Timeline | None, end_ns: int) -> dict[str, Durations]:
    t = trace.query("jobs/time_counts", end_ns=end_ns)
    measure, ended = np.array(t["measure"].to_pylist()), t["ended"].to_numpy()
    by_window = None
    if timeline is not None:
        by_window = trace.query(
            "jobs/time_windows", origin_ns=timeline.first_ns, width_ns=timeline.width_ns
        )
    out = {}
    for name in ("duration", "queue"):
        c = binned(t, (measure == name) & (ended == 1))
        longer = binned(t, (measure == name) & (ended == 0))
        if c.rows < FEWEST_ROWS:
            continue
        windowed = None
        if timeline is not None and by_window is not None:
            rows = by_window.filter(np.array(by_window["measure"].to_pylist()) == name)
            windowed = Windowed.of(rows, timeline.windows)
        step = resolution_s(c)
        zeros = float(c.n[c.x == 0].sum()) > 0
        out[name] = describe(
            c, longer, tick_s=step if zeros else 0.0, windowed=windowed, clock=timeline is not None
        )
    return out


def _windows(table: Any, pick: Any, name: str, windows: int) -> Array:
    return per_window(table.filter(pick), (name,), windows)[:, 0]


def _states(state: Any, n: Array, gpu_s: Array) -> dict[str, tuple[float, float]]:
    """Shares of jobs and of GPU time; states of fewer than ten jobs are one."""
    found: dict[str, tuple[float, float]] = {}
    whole, time = float(n.sum()), max(float(gpu_s.sum()), 1e-300)
    for name in sorted(set(state.tolist())):
        rows = float(n[state == name].sum())
        key = name if rows >= K_ANONYMITY else "other"
        jobs, spent = found.get(key, (0.0, 0.0))
        found[key] = (jobs + rows / whole, spent + float(gpu_s[state == name].sum()) / time)
    return {k: (short(a, 5), short(b, 5)) for k, (a, b) in found.items()}


def _by_jobs(sums: Array, failed: float, ended: float, notices: list[Notice]) -> Share:
    share = failed / ended
    value = short(share, 6)
    if not failed or len(sums) < FEWEST_WINDOWS:
        return Share(value, wilson_of(failed, ended))
    if design_effect(sums[:, 1], sums[:, 0]) == 1.0:
        return Share(value, wilson_of(failed, ended))
    notices.append(
        Notice("clustered-failures", "failures of jobs come in clusters: intervals are by blocks of time", NAME)
    )  # fmt: skip
    return Share(value, share_interval(sums[:, 0], sums[:, 1], share))


def _by_gpu_time(sums: Array, failed: float, ended: float) -> Share | None:
    if ended <= 0:
        return None
    share = failed / ended
    found = ratio_interval(sums[:, 0], sums[:, 1], share) if len(sums) else None
    inside = found and Interval(max(0.0, found.low), min(1.0, found.high), found.method)
    return Share(short(share, 6), inside)


def _per_failure(
    time: Array, jobs: Array, whole_s: float, failed: float
) -> tuple[float, Interval | None] | None:
    """Hours of all jobs by failure. ``time``, ``jobs``: [windows, (failed, ended)]."""
    if failed < K_ANONYMITY or whole_s <= 0:
        return None
    hours = whole_s / 3600 / failed
    found = ratio_interval(time[:, 1], jobs[:, 0] * 3600, hours) if len(time) else None
    if found is None:
        i = poisson(failed)
        found = Interval(hours * failed / i.high, hours * failed / i.low, i.method)
    return short(hours, 6), found


def _sizes(trace: Trace, sums: Array) -> tuple[Size, ...]:
    t = trace.query("jobs/size_counts")
    octave = t["octave"].to_numpy().astype(np.int64)
    state = np.array(t["state"].to_pylist())
    n, gpu_s = t["n"].to_numpy().astype(np.float64), t["gpu_s"].to_numpy()
    whole, time = float(n.sum()), max(float(gpu_s.sum()), 1e-300)
    effect = design_effect(sums[:, 1], sums[:, 0]) if len(sums) else 1.0
    out: list[Size] = []
    below, held = -math.inf, np.zeros(len(n), dtype=bool)
    octaves = np.unique(octave).tolist()
    for i, o in enumerate(octaves):
        held |= octave == o
        left = sum(float(n[octave == later].sum()) for later in octaves[i + 1 :])
        if n[held].sum() < K_ANONYMITY or 0 < left < K_ANONYMITY:
            continue  # too few to be told apart from the next
        top = octaves[-1] if left == 0 else o
        ended = float(n[held & np.isin(state, ENDED)].sum())
        failed = float(n[held & np.isin(state, FAILURES)].sum())
        told = ended >= K_ANONYMITY and (failed == 0 or failed >= K_ANONYMITY)
        out.append(
            Size(
                above=_gpus(below) if out else -1.0 if octaves[0] == -2 else 0.0,
                gpus=_gpus(top),
                jobs_share=short(n[held].sum() / whole, 5),
                gpu_time_share=short(gpu_s[held].sum() / time, 5),
                ended=int(ended),
                failed=Share(short(failed / ended, 5), wilson_of(failed, ended, effect)) if told else None,
            )
        )  # fmt: skip
        below, held = top, np.zeros(len(n), dtype=bool)
    return tuple(out)


def _gpus(octave: float) -> float:
    """The largest number of GPUs of an octave; under 1 is written 0.999."""
    if octave <= -2:
        return 0.0
    return 0.999 if octave == -1 else 2.0**octave


def _attempts(tries: Any, many: Array) -> dict[str, float]:
    whole = float(many.sum())
    if whole < K_ANONYMITY:
        return {}
    out: dict[str, float] = {}
    for t, n in zip(tries.tolist(), many, strict=True):
        key = str(t) if n >= K_ANONYMITY else "other"
        out[key] = out.get(key, 0.0) + float(n) / whole
    return {k: short(v, 5) for k, v in out.items()}


# --- scoring ---------------------------------------------------------------------------------------


def score(a: Trace, b: Trace) -> list[Line]:
    """Run and queue times by KS D, gaps by KS D, the failure rates by difference."""
    fitted = [fit(t, []) for t in (a, b)]
    tables = [t.query("jobs/time_counts", end_ns=int(t.query("jobs/extent").to_pylist()[0]["last_ns"] or 0)) for t in (a, b)]  # fmt: skip
    out = []
    for name in ("duration", "queue"):
        ca, cb = (
            binned(t, (np.array(t["measure"].to_pylist()) == name) & (t["ended"].to_numpy() == 1))
            for t in tables
        )
        enough = min(ca.rows, cb.rows) >= FEWEST_ROWS
        out.append(Line(NAME, f"{name} KS D", grid_ks(ca, cb) if enough else None, None))
    fa, fb = fitted
    if fa is None or fb is None:
        return out
    for what in ("failed_by_jobs", "failed_by_gpu_time"):
        x, y = getattr(fa, what), getattr(fb, what)
        value = None if x is None or y is None else abs(x.value - y.value)
        note = "" if value is not None else "not recorded"
        out.append(Line(NAME, what.replace("_", " "), value, None, "share", note))
    return out

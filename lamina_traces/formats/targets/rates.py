"""Arrival rates over time, for load generators that take a rate instead of a trace.

aiperf 0.13.0 config/rate_series.py: points of (time_s, qps), times strictly increasing, rates above 0,
linear in between, nothing but ``points``. k6 (ramping-arrival-rate, grafana.com/docs/k6; the executor's source
in grafana/k6 lib/executor/ramping_arrival_rate.go): stages of (target, duration), integers for each timeUnit,
linear from target to target; a stage of no duration is a jump.

Both are written as steps, so that each bin holds as many expected arrivals as the trace has.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import polars as pl

from ..exporting import Intake, Target, Writing

BINS_S = (1, 10, 60, 600, 3600, 86_400)
"""widths of bins, s: the narrowest with which a trace has at most ``MOST_BINS``."""
MOST_BINS = 2000
STEP_S = 0.001
"""how much earlier than its end the rate of a bin is given, since times must differ."""
LEAST_QPS = 1e-6
"""for empty bins: aiperf wants rates above 0."""


def _binned(rows: Iterator[pl.DataFrame], state: Writing) -> tuple[int, list[int], int]:
    """(width in s, arrivals in each bin from the first, rows)."""
    counts: Counter[int] = Counter()
    level = written = 0
    for frame in rows:
        since = frame["arrival_ns"] - (state.first_ns or 0)
        weight = (
            frame["invocations"]
            if "invocations" in frame.columns
            else pl.Series([1], dtype=pl.Int64).new_from_index(0, frame.height)
        )
        while (int(since[-1]) // 10**9) // BINS_S[level] >= MOST_BINS and level + 1 < len(BINS_S):
            level += 1
            wide, narrow = BINS_S[level], BINS_S[level - 1]
            coarse: Counter[int] = Counter()
            for k, n in counts.items():
                coarse[k * narrow // wide] += n
            counts = coarse
        keyed = pl.DataFrame({"bin": since // (BINS_S[level] * 10**9), "n": weight})
        for k, n in keyed.group_by("bin").agg(pl.col("n").sum()).iter_rows():
            counts[k] += n
        written += frame.height
    if state.first_ns:
        state.note("times are rebased: the first arrival is at 0 s")
    state.note(
        f"arrivals are counted in bins of {BINS_S[level]} s: what happens inside a bin, "
        "and everything but arrivals, is left out"
    )
    last = max(counts, default=-1)
    state.options["width"] = BINS_S[level]
    return BINS_S[level], [counts[k] for k in range(last + 1)], written


def _rate_series(rows: Iterator[pl.DataFrame], place: Path, state: Writing) -> int:
    width, counts, written = _binned(rows, state)
    points: list[dict[str, float]] = []
    for i, n in enumerate(counts):
        qps = n / width if n else LEAST_QPS
        points.append({"time_s": i * width, "qps": qps})
        points.append({"time_s": round((i + 1) * width - STEP_S, 3), "qps": qps})
    state.losses["bins without arrivals (written as 1e-6 per second)"] += counts.count(0)
    place.write_text(json.dumps({"points": points}) + "\n", encoding="utf-8")
    return written


def _k6(rows: Iterator[pl.DataFrame], place: Path, state: Writing) -> int:
    width, counts, written = _binned(rows, state)
    stages: list[dict[str, object]] = []
    for n in counts:
        if stages and stages[-1]["target"] == n:
            seconds = int(str(stages[-1]["duration"])[:-1]) + width
            stages[-1]["duration"] = f"{seconds}s"
            continue
        if stages:
            stages.append({"target": n, "duration": "0s"})
        stages.append({"target": n, "duration": f"{width}s"})
    peak = max(counts, default=1)
    scenario = {
        "executor": "ramping-arrival-rate",
        "startRate": counts[0] if counts else 0,
        "timeUnit": f"{width}s",
        "preAllocatedVUs": max(1, -(-peak // width)),
        "maxVUs": max(1, 100 * -(-peak // width)),
        "stages": stages,
    }
    state.note(
        "preAllocatedVUs is the peak rate per second, enough for requests of 1 s; maxVUs is 100 times that"
    )
    place.write_text(json.dumps({"scenarios": {state.name: scenario}}, indent=1) + "\n", "utf-8")
    return written


_TIMED = ("llm_requests", "invocations", "invocation_counts", "cold_starts", "jobs")
_INTAKES = tuple(
    Intake(t, ("arrival_ns", "invocations") if t == "invocation_counts" else ("arrival_ns",))
    for t in _TIMED
)

TARGETS = (
    Target(
        name="k6",
        title="k6 options with a ramping-arrival-rate scenario",
        tools="k6",
        suffix=".json",
        intakes=_INTAKES,
        resolution_ns=10**9,
        command=lambda path, _state: f"k6 run --config {path} script.js",
        write=_k6,
        source="grafana/k6 documentation and lib/executor/ramping_arrival_rate.go",
    ),
    Target(
        name="rate-series",
        title="aiperf request-rate series, points of (s, requests/s)",
        tools="aiperf",
        suffix=".json",
        intakes=_INTAKES,
        resolution_ns=10**9,
        command=lambda path, _state: (
            f"aiperf profile -m MODEL --url URL --endpoint-type chat --request-rate-series {path}"
        ),
        write=_rate_series,
        source="aiperf 0.13.0, config/rate_series.py",
    ),
)

"""Several runs of one workload: repeats over seeds, and the rate that a deployment carries.

Seeds are paired: the same seed is the same workload on every deployment, so that differences between
deployments are not differences between workloads.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from . import runs
from .errors import ModelError, Notice, UsageError
from .runs import Run, shown
from .simulator import Limit, Slo
from .specs import Serving
from .units import format_number
from .workloads import Source

LEVEL = 0.95
"""of the intervals of medians; fewer than six seeds cannot reach it, and then say what they reach."""
MOST_RUNS = 12
CLOSE = 1.03
"""a bracket whose ends differ by less is done."""
FEW = 100
"""requests of a profile: a rate that brings fewer is not lowered further."""
CAPACITY_ROWS = 100_000
"""requests of a profile at one rate: more would be exact beyond need."""


def median_interval(x: Sequence[float]) -> tuple[float, float, float, float]:
    """Median of a sample, its interval from order statistics, and the level that the interval has.

    The interval from the i-th smallest to the i-th largest holds the median unless fewer than i values lie on
    one side of it: level 1 − 2·P(Binomial(n, ½) < i) (David and Nagaraja, Order Statistics, 7.1). The narrowest with
    ``LEVEL`` is taken, or the whole range.
    """
    values, n = sorted(x), len(x)
    i, tail = 0, 2.0 * 0.5**n
    while i + 1 < (n + 1) // 2:
        further = tail + 2.0 * math.comb(n, i + 1) * 0.5**n
        if 1.0 - further < LEVEL:
            break
        i, tail = i + 1, further
    return float(np.median(values)), values[i], values[n - 1 - i], max(0.0, 1.0 - tail)


@dataclass(frozen=True)
class Repeats:
    """One run per seed. ``first`` is the run of the first seed; ``metrics`` [seeds] those of each."""

    first: Run
    seeds: tuple[int, ...]
    metrics: tuple[Mapping[str, Any], ...]
    slo_met: tuple[bool, ...]
    row_hashes: tuple[str | None, ...]
    notices: tuple[Notice, ...]

    @property
    def level(self) -> float:
        return median_interval([0.0] * len(self.seeds))[3]

    def summary(self) -> dict[str, tuple[float, float, float] | None]:
        """By metric: median and interval over the seeds; None where a seed has none."""
        out: dict[str, tuple[float, float, float] | None] = {}
        for key in self.metrics[0]:
            if key.endswith("_why") or key == "saturated":
                continue
            values = [m.get(key) for m in self.metrics]
            out[key] = None if any(v is None for v in values) else median_interval(values)[:3]  # type: ignore[arg-type]
        return out

    def to_dict(self) -> dict[str, Any]:
        """The medians at the top level, as a run has its metrics; ``intervals``; the metrics of each seed."""
        facts = self.first.facts()
        for key in ("metrics", "slo", "explain", "binding", "notices", "by", "groups"):
            del facts[key]
        medians: dict[str, Any] = {"saturated": any(m["saturated"] for m in self.metrics)}
        intervals = {}
        for key, found in self.summary().items():
            medians[key] = None if found is None else found[0]
            if found is None:
                medians[f"{key}_why"] = self.why(key)
            else:
                intervals[key] = list(found[1:])
        return {
            **medians,
            **facts,
            "repeats": len(self.seeds),
            "seeds": list(self.seeds),
            "intervals": intervals,
            "interval_level": self.level,
            "slo_met": list(self.slo_met),
            "runs": [
                {"seed": s, "row_hash": h, **m}
                for s, h, m in zip(self.seeds, self.row_hashes, self.metrics, strict=True)
            ],
            "notices": [n.to_dict() for n in self.notices],
        }

    def why(self, key: str) -> str:
        """Why a metric has no median."""
        reasons = [m.get(f"{key}_why") for m in self.metrics if m.get(key) is None]
        text = next((str(r) for r in reasons if r), "undefined")
        return f"{len(reasons)} of {len(self.seeds)} seeds have none, such as: {text}"

    def rows(self) -> list[dict[str, str]]:
        """For people: the median and interval of latencies and of the main metrics."""
        latencies = {f"{n}_{s}_s": f"{n} {s}" for n in ("ttft", "tpot", "e2e", "queue") for s in ("mean", "p50", "p99")}  # fmt: skip
        summary = self.summary()
        out = []
        for key, label in {**latencies, **runs.MAIN_METRICS}.items():
            if key not in summary:
                continue
            found = summary[key]
            if key == "requests_failed" and found and not found[2]:  # none with any seed
                continue
            value, low, high = found if found is not None else (None, None, None)
            out.append(
                {
                    "metric": label,
                    "median": shown(key, value),
                    "interval": "–"
                    if found is None
                    else f"{shown(key, low)} to {shown(key, high)}",
                    "note": self.why(key) if found is None else "",
                }
            )
        return out

    def headline(self) -> str:
        sat = sum(bool(m["saturated"]) for m in self.metrics)
        seeds = f"seeds {self.seeds[0]} to {self.seeds[-1]}"
        text = f"{self.first.workload['name']} ({self.first.mode}) on {self.first.deployment['text']}: {len(self.seeds)} repeats, {seeds}; medians with {self.level:.0%} intervals"
        return f"{text}; {sat} of them saturated." if sat else f"{text}."


def repeats(source: Source, spec: Serving, n: int, *, seed: int = 0, **options: Any) -> Repeats:
    """Runs of ``source`` with seeds ``seed`` … ``seed + n − 1``; ``options`` as ``runs.simulate`` takes them.

    Raises UsageError where another seed would be the same workload.
    """
    if n < 2:
        raise UsageError(f"{n} repeats have no spread", "give 2 or more")
    if not source.random:
        raise UsageError(
            f"{source.name!r} is a recorded trace: it happened once and cannot be repeated",
            "fit it and simulate the profile, or draw arrivals: --arrivals poisson --rate 2/s",
        )
    seeds = tuple(range(seed, seed + n))
    done, hashes = [], []
    for s in seeds:
        trace, _ = source.at(s)
        done.append(runs.simulate(trace, spec, **options))
        hashes.append(trace.manifest.row_hash)
    notices = {notice.code: notice for run in reversed(done) for notice in run.notices}
    return Repeats(
        done[0],
        seeds,
        tuple(run.metrics for run in done),
        tuple(run.slo_met for run in done),
        tuple(hashes),
        tuple(notices.values()),
    )


def paired(a: Repeats, b: Repeats) -> dict[str, tuple[float, float, float]]:
    """By metric: median and interval of b / a over their seeds, where both are positive.

    Raises UsageError unless both served the same workloads.
    """
    if a.seeds != b.seeds or a.row_hashes != b.row_hashes:
        raise UsageError(
            "the two were not run on the same seeds of the same workload",
            "repeat both with the same workload and --seed",
        )
    out = {}
    for key in a.metrics[0]:
        x, y = ([m.get(key) or 0 for m in r.metrics] for r in (a, b))
        if key != "saturated" and not key.endswith("_why") and min(x) > 0 and min(y) > 0:
            out[key] = median_interval([v / u for u, v in zip(x, y, strict=True)])[:3]
    return out


@dataclass(frozen=True)
class Probe:
    """One rate that was tried: requests per second offered, requests of all seeds, attainment over all seeds, whether any was saturated."""

    rate_req_s: float
    requests: int
    attainment: float
    saturated: bool
    ok: bool


@dataclass(frozen=True)
class Capacity:
    """The highest rate that was carried. ``low``, ``high``: the bracket, requests per second; None where no rate was
    carried, or none was too high."""

    low_req_s: float | None
    high_req_s: float | None
    devices: int
    target: float
    slo: str
    seeds: tuple[int, ...]
    scaling: str
    probes: tuple[Probe, ...]
    workload: str
    mode: str
    """how it was replayed, for people."""
    deployment: str

    @property
    def req_s_per_gpu(self) -> float | None:
        return None if self.low_req_s is None else self.low_req_s / self.devices

    @property
    def why(self) -> str | None:
        """Why there is no figure."""
        if self.low_req_s is not None:
            return None
        least = min(self.probes, key=lambda p: p.rate_req_s)
        return (
            f"even at {format_number(least.rate_req_s)} requests per second {least.attainment:.1%} meet {self.slo}: "
            "the limits are out of reach whatever the load"
        )

    def headline(self) -> str:
        n = len(self.seeds)
        seeds = f"seed {self.seeds[0]}" if n == 1 else f"seeds {self.seeds[0]} to {self.seeds[-1]}"
        tail = f"{len(self.probes)} rates tried, {seeds}; another rate is {self.scaling}."
        head = f"{self.workload} ({self.mode}) on {self.deployment}"
        if self.low_req_s is None:
            return f"{head}: {self.why}. {tail}"
        above = (
            f"{format_number(self.high_req_s)} are too many"
            if self.high_req_s is not None
            else "no rate tried was too high"
        )
        return (
            f"{head} carries {format_number(self.low_req_s)} requests per second within {self.slo}, "
            f"{format_number(self.req_s_per_gpu)} per GPU; {above}. {tail}"
        )

    def to_dict(self) -> dict[str, Any]:
        return {
            "capacity_req_s_per_gpu": self.req_s_per_gpu,
            **({"capacity_req_s_per_gpu_why": self.why} if self.why else {}),
            "capacity_req_s": self.low_req_s,
            "bracket_req_s": [self.low_req_s, self.high_req_s],
            "devices": self.devices,
            "target": self.target,
            "slo": self.slo,
            "seeds": list(self.seeds),
            "rate_scaling": self.scaling,
            "workload": self.workload,
            "replay": self.mode.removeprefix("replay "),
            "deployment": self.deployment,
            "probes": [
                {"rate_req_s": p.rate_req_s, "requests": p.requests, "slo_attainment": p.attainment, "saturated": p.saturated, "ok": p.ok}
                for p in self.probes
            ],
        }  # fmt: skip

    def rows(self) -> list[dict[str, str]]:
        """For people: the rates that were tried, lowest first."""
        return [
            {
                "requests per second": format_number(p.rate_req_s),
                "meet all limits": f"{p.attainment:.2%}",
                "": "carried" if p.ok else "saturated" if p.saturated else "too many miss",
            }
            for p in sorted(self.probes, key=lambda p: p.rate_req_s)
        ]


def _holds(limit: Limit, value: float) -> bool:
    """``value``: the mean of a limit on the mean, else the share of the requests within it; the joint share is another matter."""
    if limit.stat == "mean":
        return value <= limit.limit_s
    return limit.stat is None or value >= float(limit.stat.removeprefix("p")) / 100


def capacity(
    source: Source,
    spec: Serving,
    slo: Slo,
    *,
    seeds: Sequence[int] = (0,),
    **options: Any,
) -> Capacity:
    """The highest rate at which the limits hold and no run is saturated, by bisection on the logarithm of the rate: percentiles as shares
    of the requests of all seeds, means as means over them, limits without a statistic by the target.

    The first run offers everything at once: what it serves per second is where the search starts. At most
    ``MOST_RUNS`` rates, each with every seed. Raises ModelError where the workload has no rate.
    """
    source = replace(source, most=min(source.most, CAPACITY_ROWS))
    trace, _ = source.at(seeds[0])
    source = replace(source, say=lambda _text: None)
    flood = runs.simulate(trace, spec, faster=1e6, **options)
    served, rate = flood.metrics["requests_per_s"], flood.workload["rate_per_s"]
    if not served:
        raise ModelError(
            f"nothing of {source.name!r} is completed, at whatever rate: {flood.metrics['requests_rejected']:,} of its requests are "
            f"rejected, {flood.metrics['requests_failed']:,} fail as recorded",
            "see the context of the model and the memory of the device",
        )
    if not rate:
        raise ModelError(
            f"{source.name!r} has no rate to scale: its requests do not arrive at different times",
            "give a workload with two requests or more",
        )
    lost = flood.metrics["requests_failed"] / flood.metrics["requests_offered"]
    if any(x.stat is None for x in slo.limits) and 1 - lost < slo.target:
        raise ModelError(
            f"{lost:.1%} of the requests fail as recorded, so at no rate {slo.target:.1%} of them meet the limits",
            "give a --target below the share that does not fail, or --failures served",
        )
    own = rate / 1e6
    probes: list[Probe] = []

    def carried(factor: float) -> bool:
        good = total = span_s = 0.0
        arrived = 0
        saturated = False
        within = dict.fromkeys(slo.limits, 0.0)
        for seed in seeds:
            made, faster = source.at(seed, factor)
            run = runs.simulate(made, spec, slo=slo, faster=faster, **options)
            n = run.metrics["requests_measured"]
            good, total = good + (run.metrics["slo_attainment"] or 0.0) * n, total + n
            arrived, span_s = arrived + run.workload["requests"], span_s + run.workload["span_s"]
            saturated |= bool(run.metrics["saturated"])
            for limit, v in zip(slo.limits, run.slo, strict=True):
                value = v["observed_s"] if limit.stat == "mean" else v["share"] or 0.0
                within[limit] += n * (math.inf if value is None else value)
        share = good / total if total else 0.0
        ok = total > 0 and not saturated and all(_holds(x, v / total) for x, v in within.items())
        if any(x.stat is None for x in slo.limits):
            ok &= share >= slo.target
        probes.append(Probe(arrived / span_s if span_s else 0.0, arrived, share, saturated, ok))
        return ok

    low: float | None = None
    high: float | None = None
    factor, step = served / own, 0.8
    while len(probes) < MOST_RUNS - 1:
        if carried(factor):
            low = factor
        else:
            high = factor
        if low is not None and high is not None:
            if high / low <= CLOSE:
                break
            factor = math.sqrt(low * high)
        elif low is None:
            idle = step == 0.1 and probes[-1].attainment == probes[-2].attainment
            if idle:  # a tenth of the rate changed nothing
                break
            factor, step = factor * step, max(step / 2, 0.1)
            if probes[-1].requests < len(seeds) * min(FEW, flood.workload["requests"]):
                break
        else:
            factor, step = factor / step, max(step / 2, 0.1)
    ok = [p.rate_req_s for p in probes if p.ok]
    best = max(ok) if ok else None
    over = [p.rate_req_s for p in probes if not p.ok and (best is None or p.rate_req_s > best)]
    return Capacity(
        low_req_s=best,
        high_req_s=min(over) if over else None,
        devices=spec.devices,
        target=slo.target,
        slo=str(slo),
        seeds=tuple(seeds),
        scaling=source.scaling,
        probes=tuple(probes),
        workload=source.name,
        mode=flood.mode,
        deployment=flood.deployment["text"],
    )

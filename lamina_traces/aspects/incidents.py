"""Incidents: what breaks in a cluster, how long it holds between failures, and how long a repair takes.

Two times between failures, both named: of the whole system (between any two incidents), and of one node, GPU or service
(between those of the same one, its first and last stretch right-censored; what never failed is not in the table).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from ..counts import Counts
from ..distributions import K_ANONYMITY
from ..errors import ModelError, Notice
from ..intervals import FEWEST_WINDOWS, LEVEL, Blocks, Interval, homogeneous, ljung_box, poisson
from ..units import NS_PER_S, format_number, format_seconds, short
from . import Finding, Line
from .durations import (
    FEWEST_ROWS,
    Array,
    Durations,
    binned,
    describe,
    grid_ks,
    resolution_s,
    segments,
)
from .shares import per_window

if TYPE_CHECKING:
    from ..store import Trace

NAME = "incidents"
VERSION = 1
TABLES = ("jobs", "incidents")
NEEDS = ("arrival_ns",)
RECORD = "one row per failure with its start, its end and what failed (node, GPU, service)"

LAWS = ("exponential", "weibull", "lognormal", "gamma")
REPAIRED = 60
"""windows into which the span is cut for intervals."""


@dataclass(frozen=True)
class Rate:
    """``incidents`` in ``observed_s``: ``mtbf_s`` is their quotient, the mean time between failures of the system."""

    incidents: int
    mtbf_s: float
    interval: Interval | None

    def device_hours(self, devices: float) -> float:
        """Device hours per failure, were ``devices`` in service all the time."""
        return self.mtbf_s * devices / 3600

    def to_dict(self) -> dict[str, Any]:
        return {
            "incidents": self.incidents,
            "mtbf_s": self.mtbf_s,
            "interval": self.interval.to_dict() if self.interval else None,
        }

    @classmethod
    def from_dict(cls, d: dict[str, Any]) -> Rate:
        return cls(int(d["incidents"]), float(d["mtbf_s"]), Interval.from_dict(d["interval"]))


@dataclass(frozen=True)
class Incidents:
    """``all``: of every incident; ``kinds``: by how it failed; ``entities``, ``components``: how many by what failed.
    ``between``: time between incidents of the system, ``between_own`` of one node, GPU or service; ``repair``: start to
    end. ``lost_gpu_hours``: spent in vain, where recorded."""

    observed_s: float
    all: Rate
    kinds: Mapping[str, Rate]
    entities: Mapping[str, int]
    components: Mapping[str, int]
    between: Durations | None
    between_own: Durations | None
    repair: Durations | None
    lost_gpu_hours: float | None

    def to_dict(self) -> dict[str, Any]:
        def one(d: Durations | None) -> Any:
            return None if d is None else d.to_dict()

        return {
            "version": VERSION,
            "observed_s": self.observed_s,
            "all": self.all.to_dict(),
            "kinds": {k: r.to_dict() for k, r in self.kinds.items()},
            "entities": dict(self.entities),
            "components": dict(self.components),
            "between": one(self.between),
            "between_own": one(self.between_own),
            "repair": one(self.repair),
            "lost_gpu_hours": self.lost_gpu_hours,
        }

    def findings(self) -> list[Finding]:
        i = self.all.interval
        ends = f" [{format_seconds(i.low)}, {format_seconds(i.high)}]" if i else ""
        out = [
            Finding(
                NAME,
                f"{self.all.incidents:,} incidents in {format_seconds(self.observed_s)}: one every {format_seconds(self.all.mtbf_s)}{ends}"
                + (f"; {format_number(self.lost_gpu_hours)} GPU hours were spent in vain." if self.lost_gpu_hours else "."),
                parameters=i.method if i else "",
            )
        ]  # fmt: skip
        for d, text in (
            (self.between, "Between incidents of the system pass"),
            (self.between_own, "Between failures of one node, GPU or service pass"),
            (self.repair, "An incident lasts"),
        ):
            if d is None:
                continue
            law = d.best
            cut = f"{d.censored:,.0f} {'was' if d.censored == 1 else 'were'}"
            many = f"; {cut} not seen to the end" if d.censored else ""
            memory = ""
            shape = (
                law.params.get("shape")
                if law is not None and law.family in ("weibull", "gamma")
                else None
            )
            if shape is not None and d is not self.repair:
                memory = (
                    "; failures cluster, the hazard falls with time" if shape < 0.9
                    else "; they come more evenly than at random" if shape > 1.1
                    else "; they have no memory"
                )  # fmt: skip
            out.append(
                Finding(
                    NAME, f"{text} {d.middle()}{many}{memory}.",
                    law.family if law else "", law.parameters() if law else "", law.effect() if law else "",
                )
            )  # fmt: skip
        return out


def from_dict(d: dict[str, Any]) -> Incidents:
    """Inverse of ``Incidents.to_dict``."""

    def times(x: Any) -> Durations | None:
        return None if x is None else Durations.from_dict(x)

    found = Incidents(
        float(d["observed_s"]),
        Rate.from_dict(d["all"]),
        {str(k): Rate.from_dict(v) for k, v in d["kinds"].items()},
        {str(k): int(v) for k, v in d["entities"].items()},
        {str(k): int(v) for k, v in d["components"].items()},
        times(d["between"]),
        times(d["between_own"]),
        times(d["repair"]),
        None if d["lost_gpu_hours"] is None else float(d["lost_gpu_hours"]),
    )
    rates = [found.all, *found.kinds.values()]
    numbers = [found.observed_s, found.lost_gpu_hours or 0.0, *(r.mtbf_s for r in rates)]
    counts = [*(r.incidents for r in rates), *found.entities.values(), *found.components.values()]
    if not all(math.isfinite(v) and v >= 0 for v in numbers) or min(counts) < 0:
        raise ModelError("incidents of the profile: a time is negative", "fit the profile again")
    return found


# --- measuring -------------------------------------------------------------------------------------


def fit(trace: Trace, notices: list[Notice]) -> Incidents | None:
    """Fit ``incidents``, of a trace of jobs over the time in which jobs were seen."""
    if "incidents" not in trace.tables:
        return None
    if trace.where and trace.main_table != "incidents":
        notices.append(
            Notice("condition-not-applied", "the condition is on jobs: incidents of all jobs are counted", NAME)
        )  # fmt: skip
    extent = trace.query("incidents/extent").to_pylist()[0]
    if int(extent["timed"]) < FEWEST_ROWS:
        notices.append(
            Notice(
                "too-few-rows", f"{extent['timed']} incidents with a time are too few to fit", NAME
            )
        )
        return None
    start, end = _observed(trace, extent)
    ended, longer = between(trace, start, end, whole=True)
    own, own_longer = between(trace, start, end, whole=False)
    repaired = trace.query("incidents/repair_counts", end_ns=end)
    over = repaired["ended"].to_numpy() == 1
    repair, lasting = binned(repaired, over), binned(repaired, ~over)
    seen_s = (end - start) / NS_PER_S - sum(
        max(0, min(b, end) - max(a, start)) for a, b in trace.masks
    ) / NS_PER_S
    kinds, entities, components, lost = _kinds(trace)
    per_window = _windows(trace, start, end)
    swing = dispersion(per_window)
    alone = swing == 1.0
    tick = (trace.manifest.tick_ns or 0) / NS_PER_S

    def told(c: Counts, hidden: Counts, tick_s: float, names: tuple[str, ...]) -> Durations | None:
        if c.rows < FEWEST_ROWS:
            return None
        return describe(c, hidden, tick_s=tick_s, names=names, clock=not alone)

    return Incidents(
        observed_s=seen_s,
        all=rate(sum(kinds.values()), seen_s, swing, per_window),
        kinds={k: rate(n, seen_s, swing) for k, n in kinds.items()},
        entities=entities,
        components=components,
        between=told(ended, longer, tick, LAWS),
        between_own=told(own, own_longer, tick, LAWS),
        repair=told(repair, lasting, resolution_s(repair), (*LAWS, "loglogistic")),
        lost_gpu_hours=lost,
    )


def dispersion(per_window: Array) -> float:
    """Variance over mean of counts per window where that is not rejected as a Poisson process's, which has 1."""
    if len(per_window) < FEWEST_WINDOWS or per_window.sum() < K_ANONYMITY:
        return 1.0
    mean = float(per_window.mean())
    alike = homogeneous(np.ones(len(per_window)), per_window, mean)
    if min(alike, ljung_box(per_window)) >= 1 - LEVEL:
        return 1.0
    return max(1.0, float(per_window.var(ddof=1)) / mean)


def rate(
    incidents: int, observed_s: float, swing: float = 1.0, per_window: Array | None = None
) -> Rate:
    """Mean time between failures. The interval is Garwood's for a Poisson count; with a dispersion ``swing`` above 1 it is
    by blocks of windows where those are given, else the count weighs as that many fewer."""
    mtbf = observed_s / incidents
    p = poisson(incidents / swing)
    method = p.method if swing == 1.0 else f"exact, dispersion {swing:.3g}"
    interval: Interval | None = Interval(
        short(observed_s / (p.high * swing), 4),
        short(observed_s / (p.low * swing), 4) if p.low > 0 else 1e300,
        method,
    )
    if per_window is not None and swing > 1.0:
        ones = np.ones(len(per_window))
        blocks = Blocks.of(per_window, 0.0)
        if blocks is not None:
            drawn = blocks.sums(np.stack([ones, per_window], axis=1))
            with np.errstate(divide="ignore", invalid="ignore"):
                draws = drawn[:, 0] / drawn[:, 1] * (observed_s / len(per_window))
            interval = blocks.interval(mtbf, draws) or interval
    return Rate(incidents, short(mtbf, 6), interval)


def between(trace: Trace, start_ns: int, end_ns: int, *, whole: bool) -> tuple[Counts, Counts]:
    """Times between incidents in seconds, of the system (``whole``) or of one node, GPU or service: seen to their end,
    and cut off by the edges of what was observed or by a mask."""
    ended, longer = Counts.exact([], [], "s"), Counts.exact([], [], "s")
    edges = [start_ns, *(x for m in trace.masks for x in m), end_ns]
    for part, a, b in zip(segments(trace), edges[::2], edges[1::2], strict=True):
        if b <= a:
            continue
        t = part.query("incidents/gap_counts", start_ns=a, end_ns=b)
        mine = t["whole"].to_numpy() == int(whole)
        over = t["ended"].to_numpy() == 1
        ended, longer = ended + binned(t, mine & over), longer + binned(t, mine & ~over)
    return ended, longer


def _observed(trace: Trace, extent: dict[str, Any]) -> tuple[int, int]:
    """Where jobs are recorded they tell when the log was running; else the incidents themselves do."""
    if "jobs" in trace.tables:
        jobs = trace.query("jobs/extent").to_pylist()[0]
        if jobs["first_ns"] is not None:
            first = min(int(jobs["first_ns"]), int(extent["first_ns"]))
            return first, max(int(jobs["last_ns"]), int(extent["end_ns"]))
    return int(extent["first_ns"]), int(extent["end_ns"])


def _windows(trace: Trace, start_ns: int, end_ns: int) -> Array:
    """Incidents per window; masked windows are left out."""
    width = max(1, (end_ns - start_ns) // REPAIRED + 1)
    t = trace.query("incidents/window_counts", origin_ns=start_ns, width_ns=width)
    n = per_window(t, ("n",), REPAIRED)[:, 0]
    edges = start_ns + np.arange(REPAIRED + 1) * width
    seen = np.ones(REPAIRED, dtype=bool)
    for a, b in trace.masks:
        seen &= (edges[1:] <= a) | (edges[:-1] >= b)
    return n[seen]


def _kinds(trace: Trace) -> tuple[dict[str, int], dict[str, int], dict[str, int], float | None]:
    """Counts by kind, entity and component, those of fewer than ten pooled, and the GPU hours lost."""
    t = trace.query("incidents/kind_counts").to_pylist()
    lost = [r["lost_gpu_s"] for r in t if r["lost_gpu_s"] is not None]
    return (
        _counted(t, "kind"),
        _counted(t, "entity_type"),
        _counted([r for r in t if r["component"] is not None], "component"),
        short(sum(lost) / 3600, 6) if lost else None,
    )


def _counted(rows: list[dict[str, Any]], column: str) -> dict[str, int]:
    found: dict[str, int] = {}
    for r in rows:
        found[r[column]] = found.get(r[column], 0) + int(r["n"])
    out: dict[str, int] = {}
    for name, n in sorted(found.items(), key=lambda x: (-x[1], x[0])):
        key = name if n >= K_ANONYMITY else "other"
        out[key] = out.get(key, 0) + n
    return out


# --- scoring ---------------------------------------------------------------------------------------


def score(a: Trace, b: Trace) -> list[Line]:
    """Times between incidents by KS D, the mean time between failures by ratio."""
    fitted, gaps = [], []
    for t in (a, b):
        f = fit(t, [])
        if f is None:
            return [Line(NAME, "time between incidents KS D", None, None, note="too few incidents")]
        fitted.append(f)
        gaps.append(
            between(t, *_observed(t, t.query("incidents/extent").to_pylist()[0]), whole=True)[0]
        )
    ratio = fitted[1].all.mtbf_s / fitted[0].all.mtbf_s
    return [
        Line(NAME, "time between incidents KS D", grid_ks(*gaps), None),
        Line(NAME, "mean time between failures", abs(math.log(ratio)), None, "|ln ratio|"),
    ]

"""Cold starts: how long a pod takes to become ready, and which step takes the time.

Every figure has a scope: the whole start as the platform sees it (``total`` and its steps), the runtime's init alone
(``init``), until a replica answers (``ready``), the loading of a model (``model_load``). Scopes are never pooled. Two
definitions of a step's share rank the steps differently, so both are given: the share of the summed time, and the mean
over cold starts of the share in each. Steps that many cold starts skip are told with those zeros and without.
When cold starts come is what the arrivals aspect says.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from ..counts import Counts
from ..distributions import K_ANONYMITY, POSITIVE, Fitted, Grid
from ..errors import ModelError, Notice
from ..intervals import Interval, read_intervals
from ..units import format_number, format_seconds, short
from . import Finding, Line, pod_utility
from .durations import (
    FEWEST_ROWS,
    Durations,
    Windowed,
    binned,
    describe,
    grid_ks,
    resolution_s,
    tellable,
)
from .pod_utility import PodUtility
from .shares import per_window, ratio_interval
from .timeline import Timeline

if TYPE_CHECKING:
    from ..store import Trace

NAME = "cold_starts"
VERSION = 2
TABLES = ("cold_starts",)
NEEDS = ("total_s", "init_s", "model_load_s")
RECORD = "one row per cold start with its duration; on AWS Lambda the Init Duration of REPORT lines"

Array = npt.NDArray[np.float64]

PARTS = ("pod_alloc", "deploy_code", "deploy_dep", "scheduling")
WHOLES = ("total", "ready", "init", "model_load")
"""what a trace can say of a cold start as one figure, best first; the later ones are of their scope alone."""
SCOPES = {
    "total": "platform total",
    "ready": "replica ready",
    "init": "init only",
    "model_load": "model load",
}
LAWS = (*POSITIVE, "lognormal-mixture")
GROUPED = ("region", "runtime", "trigger", "pool")
MOST_GROUPS = 12
EXACT_ROWS = 20_000
"""up to so many cold starts values are kept to a millionth, above to a five-hundredth."""
KNOTS = {True: 129, False: 65}
"""of the grid of a whole cold start, and of a step."""
STEP_LAWS = 3
"""laws that are kept of a step, best first; of a whole all are."""


def scope_of(component: str) -> str:
    """The scope of a component, in words: ``platform total`` for the steps of the whole."""
    return SCOPES.get(component, SCOPES["total"])


@dataclass(frozen=True)
class Component:
    """Seconds. ``zero_share``: cold starts that skip this step. ``mean_s``, ``quantiles_s`` and ``grid`` are of all,
    ``positive_quantiles_s`` and ``families`` of those that do not skip it. ``share_of_sum``: of the summed time of all
    steps; ``mean_share``: mean over cold starts of its share in each. ``intervals``: of ``mean``, ``p50``, ``p90``, ``p99``,
    ``share_of_sum`` and ``mean_share``."""

    rows: float
    mean_s: float
    zero_share: float
    quantiles_s: dict[str, float]
    grid: Grid | None
    families: tuple[Fitted, ...]
    share_of_sum: float | None
    mean_share: float | None = None
    positive_quantiles_s: Mapping[str, float] = field(default_factory=dict)
    intervals: Mapping[str, Interval] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        return {
            "rows": self.rows,
            "mean_s": self.mean_s,
            "zero_share": self.zero_share,
            "quantiles_s": dict(self.quantiles_s),
            "positive_quantiles_s": dict(self.positive_quantiles_s),
            "grid": self.grid.to_dict() if self.grid else None,
            "families": [f.to_dict() for f in self.families],
            "share_of_sum": self.share_of_sum,
            "mean_share": self.mean_share,
            "intervals": {k: i.to_dict() for k, i in self.intervals.items()},
        }

    @classmethod
    def from_dict(cls, c: dict[str, Any]) -> Component:
        def maybe(x: Any) -> float | None:
            return None if x is None else float(x)

        found = cls(
            float(c["rows"]), float(c["mean_s"]), float(c["zero_share"]),
            {str(a): float(b) for a, b in c["quantiles_s"].items()},
            Grid.from_dict(c["grid"]) if c["grid"] else None,
            tuple(Fitted.from_dict(f) for f in c["families"]),
            maybe(c["share_of_sum"]),
            maybe(c.get("mean_share")),
            {str(a): float(b) for a, b in c.get("positive_quantiles_s", {}).items()},
            read_intervals(c.get("intervals", {})),
        )  # fmt: skip
        shares = [found.zero_share, found.share_of_sum or 0.0, found.mean_share or 0.0]
        numbers = [found.rows, found.mean_s, *found.quantiles_s.values(), *found.positive_quantiles_s.values()]  # fmt: skip
        sane = (
            all(0 <= s <= 1 for s in shares)
            and all(math.isfinite(v) and v >= 0 for v in numbers)
            and (found.grid is None or float(found.grid.values[0]) >= 0)
        )
        if not sane:
            raise ModelError(
                "cold starts of the profile: times must be finite and positive, shares from 0 to 1",
                "fit the profile again",
            )
        return found

    def told(self, name: str) -> str:
        """``median 2.2 s [2.1 s, 2.3 s]``."""
        value = self.mean_s if name == "mean" else self.quantiles_s.get(name)
        i = self.intervals.get(name)
        ends = f" [{format_seconds(i.low)}, {format_seconds(i.high)}]" if i else ""
        return f"{'median' if name == 'p50' else name} {format_seconds(value)}{ends}"


@dataclass(frozen=True)
class Group:
    """Cold starts of one ``scope`` that share a region, runtime, trigger or pool (``by``); the smaller ones are ``other``."""

    scope: str
    by: str
    name: str
    rows: int
    mean_s: float
    quantiles_s: Mapping[str, float]

    def to_dict(self) -> dict[str, Any]:
        return {
            "scope": self.scope,
            "by": self.by,
            "name": self.name,
            "rows": self.rows,
            "mean_s": self.mean_s,
            "quantiles_s": dict(self.quantiles_s),
        }

    @classmethod
    def from_dict(cls, d: dict[str, Any]) -> Group:
        found = cls(
            str(d["scope"]), str(d["by"]), str(d["name"]), int(d["rows"]), float(d["mean_s"]),
            {str(k): float(v) for k, v in d["quantiles_s"].items()},
        )  # fmt: skip
        numbers = (found.mean_s, *found.quantiles_s.values())
        if found.scope not in SCOPES or not all(math.isfinite(v) and v >= 0 for v in numbers):
            raise ModelError(
                "a group of cold starts has no scope or no time", "fit the profile again"
            )
        return found


@dataclass(frozen=True)
class ColdStarts:
    """Components by name; one of ``WHOLES`` is always there. ``evidence``: ``rows``, or ``CDF points`` of a published
    curve, whose ``rows`` are then a number assumed and which carries no interval."""

    components: dict[str, Component]
    groups: tuple[Group, ...] = ()
    utility: PodUtility | None = None
    evidence: str = "rows"
    rank_correlations: Mapping[str, float] = field(default_factory=dict)
    """Spearman's, of two steps: ``pod_alloc~scheduling``."""

    @property
    def main(self) -> str:
        """The component that stands for the cold start: the whole one, else the widest that is recorded."""
        return next(name for name in WHOLES if name in self.components)

    @property
    def scopes(self) -> dict[str, tuple[str, ...]]:
        """Component names by scope in words: the whole first, then its steps. Never to be pooled."""
        out = {}
        for whole in WHOLES:
            if whole in self.components:
                steps = PARTS if whole == "total" else ()
                out[SCOPES[whole]] = (whole, *(p for p in steps if p in self.components))
        return out

    def nameless(self) -> ColdStarts:
        """Regions, pools and other groups numbered; runtimes are no secret."""
        groups = tuple(
            g if g.by == "runtime" or g.name == "other" else replace(g, name=f"{g.by}{i}")
            for i, g in enumerate(self.groups, 1)
        )
        return replace(self, groups=groups)

    def to_dict(self) -> dict[str, Any]:
        return {
            "version": VERSION,
            "evidence": self.evidence,
            "components": {k: {"scope": scope_of(k), **c.to_dict()} for k, c in self.components.items()},
            "groups": [g.to_dict() for g in self.groups],
            "utility": self.utility.to_dict() if self.utility else None,
            "rank_correlations": dict(self.rank_correlations),
        }  # fmt: skip

    def findings(self) -> list[Finding]:
        out = []
        rows = self.evidence == "rows"
        for scope, names in self.scopes.items():
            whole = self.components[names[0]]
            best = whole.families[0] if whole.families else None
            many = (
                f"{whole.rows:,.0f} cold starts"
                if rows
                else "Cold starts, read off a published curve"
            )
            told = [
                whole.told(k)
                for k in ("p50", "mean", "p99")
                if k == "mean" or k in whole.quantiles_s
            ]
            out.append(
                Finding(
                    NAME,
                    f"{many} ({scope}): {', '.join(told)}.",
                    best.family if best else "", best.parameters() if best else "", best.effect() if best else "",
                )
            )  # fmt: skip
        out += self._shares()
        for by in GROUPED:
            mine = [
                g for g in self.groups if g.by == by and g.scope == self.main and g.name != "other"
            ]
            if len(mine) > 1 and all("p50" in g.quantiles_s for g in mine):
                low, high = (f(mine, key=lambda g: g.quantiles_s["p50"]) for f in (min, max))
                times = high.quantiles_s["p50"] / max(low.quantiles_s["p50"], 1e-12)
                out.append(
                    Finding(
                        NAME,
                        f"By {by}, the median {SCOPES[self.main]} time runs from {format_seconds(low.quantiles_s['p50'])} ({low.name}) "
                        f"to {format_seconds(high.quantiles_s['p50'])} ({high.name}).",
                        effect=f"ratio {format_number(times)}",
                    )
                )  # fmt: skip
        if self.utility is not None:
            out.append(self.utility.finding(NAME))
        return out

    def _shares(self) -> list[Finding]:
        out = []
        for text, share in (
            ("Of the summed time", "share_of_sum"),
            ("On average over cold starts", "mean_share"),
        ):
            told = sorted(
                (
                    (v, k)
                    for k, c in self.components.items()
                    if (v := getattr(c, share)) is not None
                ),
                reverse=True,
            )
            if told:
                parts = []
                for v, k in told:
                    i = self.components[k].intervals.get(share)
                    ends = f" [{i.low:.0%}, {i.high:.0%}]" if i else ""
                    parts.append(f"{v:.0%}{ends} is {k.replace('_', ' ')}")
                out.append(Finding(NAME, f"{text}, {', '.join(parts)}."))
        return out


def from_dict(d: dict[str, Any]) -> ColdStarts:
    """Inverse of ``ColdStarts.to_dict``; version 1 has components alone."""
    found = ColdStarts(
        {str(k): Component.from_dict(c) for k, c in d["components"].items()},
        tuple(Group.from_dict(g) for g in d.get("groups", ())),
        PodUtility.from_dict(d["utility"]) if d.get("utility") else None,
        str(d.get("evidence", "rows")),
        {str(k): float(r) for k, r in d.get("rank_correlations", {}).items()},
    )
    if not all(abs(r) <= 1 for r in found.rank_correlations.values()):
        raise ModelError(
            "cold starts of the profile: a correlation is beyond ±1", "fit the profile again"
        )
    if not any(name in found.components for name in WHOLES):
        raise ModelError("cold starts of the profile have no duration", "fit the profile again")
    return found


# --- measuring -------------------------------------------------------------------------------------


def component_counts(trace: Trace, per_e: float = 256.0) -> dict[str, Counts]:
    """Counts of each recorded component in seconds, ``per_e`` bins a factor of e."""
    t = trace.query("cold_starts/component_counts", per_e=float(per_e))
    name = np.array(t["component"].to_pylist())
    return {str(k): binned(t, name == k) for k in dict.fromkeys(name.tolist())}


def fit(trace: Trace, notices: list[Notice]) -> ColdStarts | None:
    """Fit ``cold_starts``: quantiles, families, mixtures and shares of the total and of each recorded component."""
    counts = component_counts(trace, 1e6 if trace.rows("cold_starts") <= EXACT_ROWS else 512.0)
    main = next((name for name in WHOLES if name in counts), None)
    if main is None:
        notices.append(Notice("not-recorded", "no cold start carries a duration", NAME))
        return None
    rows = counts[main].rows
    if rows < FEWEST_ROWS:
        notices.append(
            Notice(
                "too-few-rows",
                f"{rows:.0f} cold starts are too few for quantiles and laws",
                NAME,
            )
        )
    if rows < K_ANONYMITY:
        return None
    scopes = [w for w in WHOLES if w in counts]
    if len(scopes) > 1:
        told = ", ".join(SCOPES[w] for w in scopes)
        notices.append(
            Notice(
                "several-scopes",
                f"cold starts of several scopes ({told}) are described apart",
                NAME,
            )
        )
    timeline = Timeline.of(trace)
    windows = None
    if timeline is not None:
        windows = trace.query(
            "cold_starts/component_windows", origin_ns=timeline.first_ns, width_ns=timeline.width_ns
        )
    component = np.array(windows["component"].to_pylist()) if windows is not None else np.zeros(0)
    found = {}
    for name, c in counts.items():
        mine = None
        if timeline is not None and windows is not None:
            mine = Windowed.of(windows.filter(component == name), timeline.windows)
        found[name] = component_of(c, mine, whole=name in WHOLES, clock=timeline is not None)
    return ColdStarts(
        _with_shares(trace, timeline, found),
        groups_of(trace),
        pod_utility.fit(trace, notices, NAME),
        rank_correlations=_correlations(trace, found),
    )


def _correlations(trace: Trace, components: Mapping[str, Component]) -> dict[str, float]:
    """Spearman's correlation of the steps that both vary, over at least twenty cold starts."""
    if sum(p in components for p in PARTS) < 2:
        return {}
    return {
        f"{row['a']}~{row['b']}": short(row["r"], 4)
        for row in trace.query("cold_starts/rank_correlations").to_pylist()
        if row["n"] >= FEWEST_ROWS and row["r"] is not None and math.isfinite(row["r"])
    }


def component_of(
    c: Counts, windowed: Windowed | None = None, *, whole: bool = True, clock: bool = True
) -> Component:
    """One component from its Counts in seconds: a ``whole`` cold start, or a step of one."""
    if c.rows < FEWEST_ROWS:
        return Component(c.rows, c.mean, float(c.n[c.x == 0].sum() / c.rows), {}, None, (), None)
    zeros = c.n[c.x == 0].sum()
    positive = c.where(c.x > 0)
    if not len(positive):
        return Component(c.rows, 0.0, 1.0, {"p50": 0.0}, None, (), None)
    # of all for the quantiles, of those that take time for the laws
    d = describe(c, names=(), knots=KNOTS[whole], windowed=windowed, clock=clock)
    law = _laws(positive, windowed, clock)
    apart = positive.rows >= FEWEST_ROWS and zeros
    return Component(
        rows=d.rows,
        mean_s=d.mean_s,
        zero_share=d.zero_share,
        quantiles_s=dict(d.quantiles_s),
        grid=d.grid,
        families=law.families[: None if whole else STEP_LAWS] if law else (),
        share_of_sum=None,
        positive_quantiles_s=dict(law.quantiles_s) if law and apart else {},
        intervals=d.intervals,
    )


def _laws(c: Counts, windowed: Windowed | None, clock: bool) -> Durations | None:
    if c.rows < FEWEST_ROWS:
        return None
    some = None
    if windowed is not None:
        some = Windowed(np.where(windowed.total > 0, windowed.n, 0.0), windowed.total)
    return describe(c, tick_s=_tick_s(c), names=LAWS, knots=9, windowed=some, clock=clock)


def _tick_s(c: Counts) -> float:
    """Values of few steps of their clock stand for an interval; where the clock is fine, nothing changes."""
    step = resolution_s(c)
    return step if step >= 1e-6 and float(c.x[0]) < 10 * step else 0.0


def _with_shares(
    trace: Trace, timeline: Timeline | None, components: dict[str, Component]
) -> dict[str, Component]:
    parts = [p for p in PARTS if p in components]
    if not parts:
        return components
    origin, width, windows = (timeline.first_ns, timeline.width_ns, timeline.windows) if timeline else (0, 2**62, 0)  # fmt: skip
    t = trace.query("cold_starts/share_windows", origin_ns=origin, width_ns=width)
    n, whole = float(t["n"].to_numpy().sum()), float(t["whole_s"].to_numpy().sum())
    if n < K_ANONYMITY or whole <= 0:
        return components
    out = dict(components)
    for p in parts:
        of_sum = float(t[f"{p}_s"].to_numpy().sum()) / whole
        mean = float(t[f"{p}_shares"].to_numpy().sum()) / n
        found = {}
        for key, above, below, value in (
            ("share_of_sum", f"{p}_s", "whole_s", of_sum),
            ("mean_share", f"{p}_shares", "n", mean),
        ):
            sums = per_window(t, (above, below), windows)
            i = ratio_interval(sums[:, 0], sums[:, 1], value) if windows and value > 0 else None
            if i is not None:
                found[key] = Interval(max(0.0, i.low), min(1.0, i.high), i.method)
        c = out[p]
        out[p] = replace(
            c,
            share_of_sum=short(of_sum, 6),
            mean_share=short(mean, 6),
            intervals={**c.intervals, **found},
        )
    return out


def groups_of(trace: Trace) -> tuple[Group, ...]:
    """Quantiles by region, runtime, trigger and pool, each scope apart: the twelve largest groups of at least twenty cold
    starts, the others pooled."""
    t = trace.query("cold_starts/group_counts")
    scope, by, name = (
        np.array(t[c].to_pylist(), dtype=object) for c in ("scope", "dimension", "name")
    )
    out: list[Group] = []
    for s in dict.fromkeys(scope.tolist()):
        for g in GROUPED:
            mine = (scope == s) & (by == g)
            names = list(dict.fromkeys(name[mine].tolist()))
            rows = {x: float(t["n"].to_numpy()[mine & (name == x)].sum()) for x in names}
            ranked = sorted(names, key=lambda x: (-rows[x], x))
            large = [x for x in ranked[:MOST_GROUPS] if rows[x] >= FEWEST_ROWS]
            rest = binned(t, mine & ~np.isin(name, large))
            if len(large) + (rest.rows >= FEWEST_ROWS) < 2:
                continue  # a group of its own says what all say
            out += [_group(s, g, x, binned(t, mine & (name == x))) for x in large]
            if rest.rows >= FEWEST_ROWS:
                out.append(_group(s, g, "other", rest))
    return tuple(out)


def _group(scope: str, by: str, name: str, c: Counts) -> Group:
    levels = tellable({"p10": 0.1, "p50": 0.5, "p90": 0.9, "p99": 0.99}, c.rows)
    told = {k: short(float(c.quantile(p)), 4) for k, p in levels.items()}
    return Group(scope, by, name, int(c.rows), short(c.mean, 4), told)


# --- scoring ---------------------------------------------------------------------------------------


def score(a: Trace, b: Trace) -> list[Line]:
    """KS D of the total and of each component that both record; scopes are compared with themselves alone."""
    ca, cb = component_counts(a), component_counts(b)
    return [
        Line(NAME, f"{k} KS D", grid_ks(ca[k], cb[k]), None, note=scope_of(k))
        for k in ca
        if k in cb
    ]

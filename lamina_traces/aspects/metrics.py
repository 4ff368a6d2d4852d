"""Metrics only: what counters, histograms and gauges of a server say of its workload, and what they cannot.

From scrapes (Prometheus text or its query API) come the request rate and its dispersion from the scrape interval
upwards, laws of input and output lengths (fitted to buckets by interval), latencies between bucket bounds, cache hits,
KV use and queue lengths over time. What lies below a scrape, and what ties one figure of a request to
another, is gone: ``unknowable`` lists it with the assumption put in its place, and ``to_arrivals_and_lengths`` makes
the two aspects that a generator needs under these assumptions.

A counter that falls was reset and counts from 0 again. Steps longer than three scrape intervals are gaps: what was
counted in them counts for the mean rate and for nothing else.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from ..counts import significant
from ..distributions import K_ANONYMITY, Fitted, Grid
from ..errors import ModelError, Notice
from ..intervals import Blocks, Interval
from ..units import NS_PER_S, format_number, format_seconds, short
from . import Finding, Line, renewal
from .arrivals import Arrivals
from .dispersion import Scale
from .lengths import Lengths, Margin
from .metric_laws import KNOTS, Latency, Law, law, number, quantiles
from .metric_limits import BURSTY, Unknowable, unknowable, warn
from .metric_names import COUNTERS, HISTOGRAMS, ROLES, Found, recognised
from .metric_scrapes import (
    Curve,
    clock_of,
    counted,
    curves_of,
    histogram,
    hits_of,
    mean_interval,
    mean_value,
    requests_of,
    scales_of,
    sum_of,
    tokens_each,
)

if TYPE_CHECKING:
    from ..store import Trace

NAME = "metrics"
VERSION = 1
TABLES = ("metric_series",)
NEEDS = ("arrival_ns", "value")
RECORD = (
    "scrape the server's /metrics with stamps (Prometheus' query_range, or curl in a loop with a date), request "
    "counter and histograms included; for what metrics cannot say, log each request"
)

LATENCIES = ("ttft", "tpot", "itl", "e2e", "queue")


@dataclass(frozen=True)
class Metrics:
    """``scrape_s``: median time between samples of a series. ``sources``: role → metric that was taken for it.
    ``requests``: counted over ``span_s``, by ``counted_by``; ``rate_curve``: per second, by windows of ``window_s``, None where nothing
    was scraped; ``scales``: dispersion of the counts from the scrape interval up;
    ``resets``: of the counter's series that were reset the most often. ``curves``: by role, gauges and rates of
    counters. ``hit_ratio``: cached / looked-up tokens, by ``hit_definition``."""

    scrape_s: float
    span_s: float
    sources: Mapping[str, str]
    requests: float
    counted_by: str
    rate_per_s: float | None
    rate_interval: Interval | None
    resets: int
    window_s: float
    rate_curve: tuple[float | None, ...]
    scales: tuple[Scale, ...]
    input: Law | None
    output: Law | None
    mean_input: float | None
    """prompt tokens a request by counters, where there is no histogram."""
    mean_output: float | None
    latencies: Mapping[str, Latency]
    curves: Mapping[str, Curve]
    hit_ratio: float | None
    hit_definition: str
    unknowable: tuple[Unknowable, ...]
    evidence: str = "metrics"

    def to_dict(self) -> dict[str, Any]:
        return {
            "version": VERSION,
            "evidence": self.evidence,
            "scrape_s": self.scrape_s,
            "span_s": self.span_s,
            "sources": dict(self.sources),
            "requests": self.requests,
            "counted_by": self.counted_by,
            "rate_per_s": self.rate_per_s,
            "rate_interval": self.rate_interval.to_dict() if self.rate_interval else None,
            "resets": self.resets,
            "rate_curve": {"window_s": self.window_s, "per_s": list(self.rate_curve)},
            "dispersion": [s.to_dict() for s in self.scales],
            "input": self.input.to_dict() if self.input else None,
            "output": self.output.to_dict() if self.output else None,
            "mean_input": self.mean_input,
            "mean_output": self.mean_output,
            "latencies": {k: v.to_dict() for k, v in self.latencies.items()},
            "curves": {k: c.to_dict() for k, c in self.curves.items()},
            "hit_ratio": self.hit_ratio,
            "hit_definition": self.hit_definition,
            "unknowable": [u.to_dict() for u in self.unknowable],
        }

    def findings(self) -> list[Finding]:
        out = [self._rate()]
        for side in ("input", "output"):
            found: Law | None = getattr(self, side)
            if found is not None:
                out.append(_length(side, found))
        for role, latency in self.latencies.items():
            said = _latency(role, latency)
            if said is not None:
                out.append(said)
        if self.hit_ratio is not None:
            out.append(Finding(NAME, f"{self.hit_ratio:.1%} of the {self.hit_definition}."))
        queue = [
            f"{ROLES[k]}: {format_number(c.mean)} on average, {format_number(c.highest)} at most"
            for k, c in self.curves.items()
            if k in ("running", "waiting")
        ]
        if queue:
            text = "; ".join(queue)
            out.append(Finding(NAME, f"{text[0].upper()}{text[1:]}."))
        kv = self.curves.get("kv_usage")
        if kv is not None:
            text = f"The KV cache is {kv.mean:.0%} in use on average, {kv.highest:.0%} at most."
            out.append(Finding(NAME, text))
        if self.unknowable:
            lost = ", ".join(u.what for u in self.unknowable)
            out.append(
                Finding(
                    NAME,
                    f"Metrics alone do not say: {lost}; what is assumed instead is listed.",
                    warning="metrics-only",
                )
            )
        return out

    def _rate(self) -> Finding:
        if self.rate_per_s is None:
            return Finding(NAME, f"Requests were not counted over {format_seconds(self.span_s)} of scrapes every {format_seconds(self.scrape_s)}.")  # fmt: skip
        known = [s for s in self.scales if s.idc is not None]
        spread = ""
        if known:
            first, last = known[0], known[-1]
            spread = (
                f"; counts per {format_seconds(first.window_s)} vary {format_number(first.idc)} times as much as a Poisson process's"
                + (
                    f", per {format_seconds(last.window_s)} {format_number(last.idc)} times"
                    if last is not first
                    else ""
                )
            )
        i = self.rate_interval
        return Finding(
            NAME,
            f"{self.requests:,.0f} requests over {format_seconds(self.span_s)}, {format_number(self.rate_per_s)} per second, counted by {self.counted_by}"
            f"{spread}; nothing is known below the {format_seconds(self.scrape_s)} between scrapes.",
            parameters=f"rate {format_number(self.rate_per_s)}/s [{format_number(i.low)}, {format_number(i.high)}]"
            if i
            else "",
            effect=f"{self.resets} counter resets" if self.resets else "",
        )

    def laws(self) -> list[tuple[str, tuple[Fitted, ...]]]:
        """What is fitted, with its unit, and the laws, best first."""
        sides = (("input", self.input), ("output", self.output))
        return [(f"{side}, tokens", found.families) for side, found in sides if found is not None]

    # --- what a generator needs ---------------------------------------------------------------

    def to_arrivals_and_lengths(self) -> tuple[Arrivals | None, Lengths | None]:
        """The aspects that a generator needs, where the metrics give them, under the assumptions of ``unknowable``.

        Arrivals: the rate curve, and within a window a renewal process with the dispersion between neighbouring scrapes
        (Poisson where that is about 1). Lengths: each side by itself; independent of each other.
        """
        return self._arrivals(), self._lengths()

    def _arrivals(self) -> Arrivals | None:
        if not self.rate_per_s:
            return None
        known = np.array([np.nan if x is None else x for x in self.rate_curve], dtype=np.float64)
        curve = np.where(np.isfinite(known), known / self.rate_per_s, 1.0)
        if not len(curve) or curve.sum() <= 0:
            curve = np.ones(1)
        curve = significant(curve / curve.mean(), 6)
        below = self.local_dispersion
        events = max(int(self.requests), 1)
        poisson = below is None or below < BURSTY
        unit_gaps = renewal.poisson_grid() if poisson else renewal.gamma_grid(below or 1.0, events)
        counts = curve * self.rate_per_s * self.window_s
        cv = 1.0 if poisson else math.sqrt(renewal.squared_cv(unit_gaps))
        return Arrivals(
            events=events,
            span_s=self.span_s,
            rate_per_s=self.rate_per_s,
            tick_s=0.0,
            quantum_s=0.0,
            zero_gap_share=0.0,
            cv=cv,
            cv_without_longest=cv,
            scales=self.scales,
            window_s=self.window_s,
            rate_curve=curve,
            rate_signal=renewal.rate_signal(counts, 1.0 if poisson else below or 1.0),
            unit_gaps=unit_gaps,
            families=(),
            intervals={"rate_per_s": self.rate_interval} if self.rate_interval else {},
            evidence="metrics",
        )

    @property
    def local_dispersion(self) -> float | None:
        """Allan's dispersion between neighbouring scrapes; None where there are too few."""
        return next((s.allan for s in self.scales if s.allan is not None), None)

    def _lengths(self) -> Lengths | None:
        margins = []
        for found, mean in ((self.input, self.mean_input), (self.output, self.mean_output)):
            margin = _margin(found, mean, self.requests)
            if margin is None:
                return None
            margins.append(margin)
        pairs = int(min(m.grid.rows for m in margins))
        return Lengths(margins[0], margins[1], pairs, 0.0, 0.0, np.ones((1, 1)), evidence="metrics")


def _margin(found: Law | None, mean: float | None, requests: float) -> Margin | None:
    """A side's margin: of its buckets, or an exponential of its mean where only that is known."""
    if found is not None and found.grid is not None:
        grid, families = found.grid, found.families
    elif mean is not None and mean > 0 and requests >= 2 * K_ANONYMITY:
        q = np.clip(np.linspace(0, 1, KNOTS), 0.0, 1 - K_ANONYMITY / requests)
        grid, families = Grid(significant(0.5 - mean * np.log1p(-q), 6), mean, requests), ()
    else:
        return None
    names = {"p10": 0.1, "p25": 0.25, "p50": 0.5, "p75": 0.75, "p90": 0.9, "p95": 0.95, "p99": 0.99}
    shown = {k: short(float(grid.quantile(np.array([q]))[0]), 6) for k, q in names.items()}
    return Margin(grid, float(grid.values[0]), shown, families)


def _length(side: str, found: Law) -> Finding:
    told = []
    for q in found.quantiles:
        end = f"{format_number(q.high)}" if q.high is not None else "beyond all buckets"
        told.append(f"{q.name} {format_number(q.low)} to {end}")
    mean = f"mean {format_number(found.mean)} tokens" if found.mean is not None else "mean unknown"
    best = found.families[0] if found.families else None
    i = found.mean_interval
    return Finding(
        NAME,
        f"{side.capitalize()} lengths of {found.rows:,.0f} requests: {mean}; by their buckets {', '.join(told) or 'no quantile'}.",
        model=best.family if best else "",
        parameters=(best.parameters() if best else "")
        + (f"; mean [{format_number(i.low)}, {format_number(i.high)}]" if i else ""),
        effect=f"KS D {best.ks_d:.3f} at the bounds" if best else "",
    )


def _latency(role: str, latency: Latency) -> Finding | None:
    told = []
    for name in ("p50", "p99"):
        q = latency.quantile(name)
        if q is not None:
            end = f"and {format_seconds(q.high)}" if q.high is not None else "and no bound"
            told.append(f"{name} between {format_seconds(q.low)} {end}")
    if latency.mean_s is not None:
        told.insert(0, f"mean {format_seconds(latency.mean_s)}")
    text = f"{ROLES[role].capitalize()}: {', '.join(told)} ({latency.rows:,.0f} values)."
    return Finding(NAME, text) if told else None


def from_dict(d: Mapping[str, Any]) -> Metrics:
    """Inverse of ``Metrics.to_dict``."""

    def maybe(x: Any) -> float | None:
        return None if x is None else number(x)

    curve = d["rate_curve"]
    out = Metrics(
        scrape_s=number(d["scrape_s"]),
        span_s=number(d["span_s"]),
        sources={str(k): str(v) for k, v in d["sources"].items()},
        requests=number(d["requests"]),
        counted_by=str(d["counted_by"]),
        rate_per_s=maybe(d["rate_per_s"]),
        rate_interval=Interval.from_dict(d["rate_interval"]),
        resets=int(d["resets"]),
        window_s=number(curve["window_s"]),
        rate_curve=tuple(maybe(x) for x in curve["per_s"]),
        scales=tuple(Scale.from_dict(s) for s in d["dispersion"]),
        input=Law.from_dict(d["input"]) if d["input"] else None,
        output=Law.from_dict(d["output"]) if d["output"] else None,
        mean_input=maybe(d["mean_input"]),
        mean_output=maybe(d["mean_output"]),
        latencies={str(k): Latency.from_dict(v) for k, v in d["latencies"].items()},
        curves={
            str(k): Curve(
                str(c["metric"]),
                number(c["mean"]),
                number(c["highest"]),
                tuple(maybe(x) for x in c["values"]),
            )
            for k, c in d["curves"].items()
        },
        hit_ratio=maybe(d["hit_ratio"]),
        hit_definition=str(d["hit_definition"]),
        unknowable=tuple(
            Unknowable(str(u["what"]), str(u["why"]), str(u["assumption"])) for u in d["unknowable"]
        ),
        evidence=str(d["evidence"]),
    )
    sane = (
        out.scrape_s > 0
        and out.window_s > 0
        and out.span_s > 0
        and (out.hit_ratio is None or out.hit_ratio <= 1)
        and set(out.latencies) <= set(LATENCIES)
        and set(out.curves) <= set(ROLES)
    )
    if not sane:
        raise ModelError(
            "metrics of the profile: a width, a share or a name is none", "fit the profile again"
        )
    return out


# --- measuring -------------------------------------------------------------------------------------


def fit(trace: Trace, notices: list[Notice]) -> Metrics | None:
    """Fit a scraped server. Needs known metrics (``metric_names.NAMES``) and two scrapes."""
    names = [r["metric"] for r in trace.query("metrics/names").to_pylist()]
    found = recognised(names)
    if not found:
        shown = ", ".join(names[:4]) + (", …" if len(names) > 4 else "")
        text = f"none of the {len(names)} metrics ({shown}) is known to say something of requests"
        notices.append(Notice("unknown-metrics", text, NAME))
        return None
    clock = clock_of(trace, found)
    if clock is None:
        text = "no known metric was scraped twice with a stamp: counters say nothing alone"
        notices.append(Notice("too-few-rows", text, NAME))
        return None
    counters = {r: counted(trace, found[r], clock) for r in COUNTERS if r in found}
    histograms = {r: h for r in HISTOGRAMS if r in found and (h := histogram(trace, found[r], clock)) is not None}  # fmt: skip
    by, requests = requests_of(trace, found, counters, histograms, clock)
    blocks = None
    rate = interval = None
    curve: tuple[float | None, ...] = ()
    scales: list[Scale] = []
    used = np.ones(clock.windows, dtype=bool)
    window_s = clock.width_ns / NS_PER_S
    span_s = (clock.last_ns - clock.first_ns) / NS_PER_S
    if requests is not None and requests.total > 0:
        per_window, cells = requests.windows(clock)
        observed_s = span_s
        if clock.masks:
            observed_s = max(float(cells.sum()), 1.0) * clock.cell_ns / NS_PER_S
        rate = (float(per_window.sum()) if clock.masks else requests.total) / observed_s
        covered = cells * clock.cell_ns / NS_PER_S
        used = cells > 0
        curve = tuple(short(n / s, 5) if s > 0 else None for n, s in zip(per_window, covered, strict=True))  # fmt: skip
        blocks = Blocks.of(per_window[used] / covered[used]) if used.any() else None
        if blocks is not None:
            d = blocks.sums(np.stack([per_window[used], covered[used]], axis=1))
            interval = blocks.interval(rate, d[:, 0] / d[:, 1])
        scales = scales_of(requests, clock)
        histograms = {k: replace(h, windows=h.windows[used]) for k, h in histograms.items()}
    sums = {r: sum_of(trace, found[r], clock) for r in histograms}
    laws = {
        r: law(
            h,
            found[r].metric,
            mean_value(sums[r], h),
            blocks,
            mean_interval(sums[r], h, blocks, clock, used),
        )
        for r, h in histograms.items()
        if r in ("input_length", "output_length")
    }
    latencies = {
        r: Latency(
            found[r].metric,
            float(round(histograms[r].rows, 3)),
            None if (m := mean_value(sums[r], histograms[r])) is None else short(m),
            quantiles(histograms[r], blocks),
        )
        for r in LATENCIES
        if r in histograms
    }
    curves = curves_of(trace, found, counters, clock)
    hit_ratio, hits = hits_of(counters, curves)
    total = requests.total if requests is not None else 0.0
    out = Metrics(
        scrape_s=short(clock.cell_ns / NS_PER_S),
        span_s=short(span_s, 9),
        sources={r: f.metric for r, f in found.items()},
        requests=float(round(total, 3)),
        counted_by=by,
        rate_per_s=None if rate is None or rate <= 0 else short(rate),
        rate_interval=interval,
        resets=max(
            [c.resets for c in counters.values()] + [requests.resets if requests is not None else 0]
        ),
        window_s=short(window_s, 9),
        rate_curve=curve,
        scales=tuple(scales),
        input=laws.get("input_length"),
        output=laws.get("output_length"),
        mean_input=tokens_each(counters.get("prompt_tokens"), requests),
        mean_output=tokens_each(counters.get("output_tokens"), requests),
        latencies=latencies,
        curves=curves,
        hit_ratio=hit_ratio,
        hit_definition=hits,
        unknowable=(),
    )
    out = replace(out, counted_by=_counted_by(by, found), unknowable=tuple(unknowable(out, by)))
    warn(out, found, histograms, requests, clock, notices)
    return out


def _counted_by(role: str, found: Mapping[str, Found]) -> str:
    if not role:
        return ""
    what = {"arrivals": "arrivals", "completions": "completions", "ttft": "first tokens"}
    return f"{what.get(role, 'finished requests')} ({found[role].metric})"


def score(a: Trace, b: Trace) -> list[Line]:
    """Relative difference of rates and mean lengths, distance of the hit ratios. Informative only."""
    fits = [fit(t, []) for t in (a, b)]
    x, y = fits
    if x is None or y is None:
        return []
    lines = []
    for name, p, q in (
        ("request rate", x.rate_per_s, y.rate_per_s),
        ("mean input", x.input.mean if x.input else x.mean_input, y.input.mean if y.input else y.mean_input),
        ("mean output", x.output.mean if x.output else x.mean_output, y.output.mean if y.output else y.mean_output),
    ):  # fmt: skip
        if p is not None and q is not None and p > 0:
            lines.append(Line(NAME, name, abs(q / p - 1), None, "relative"))
    if x.hit_ratio is not None and y.hit_ratio is not None:
        lines.append(Line(NAME, "hit ratio", abs(x.hit_ratio - y.hit_ratio), None, "share"))
    return lines

"""Failures of requests: how many fail and how, when and under which load, whether they cluster, and what comes after.

Clustering is told four ways: the variance of failures per window against the binomial one (overdispersion), runs against
those of independent failures, a two-state Markov chain over the requests (Gilbert 1960), and the law of the time between
failures (a Weibull shape below 1 is clustering). Where the chance of failing swings over time, as in outages,
``failure_levels`` has its law. A status that the source does not record is neither a failure nor a success. Retries are a heuristic, labelled as one: no source says which request repeats which.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from ..distributions import K_ANONYMITY
from ..errors import ModelError, Notice
from ..intervals import Interval, read_intervals, wilson
from ..schema import FAILED
from ..units import NS_PER_S, format_number, format_seconds, short
from . import Finding, Line, failure_levels, failure_rates, failure_retries
from .durations import FEWEST_ROWS, Durations, describe, grid_ks
from .failure_levels import LEAST_ODDS, OddsLevels, odds_of
from .failure_rates import (
    Cell,
    Load,
    Overdispersion,
    cells_from_dict,
    cells_to_dict,
    chance,
    overdispersion,
    rate_interval,
)
from .failure_retries import Retries
from .failure_windows import KINDS, FineWindows, Pass
from .shares import design_effect, share_interval
from .timeline import Timeline, scan

if TYPE_CHECKING:
    from ..store import Trace

NAME = "failures"
VERSION = 2
TABLES = ("llm_requests",)
NEEDS = ("status",)
RECORD = "log a status (or the HTTP code) for each request, failed ones included"

Array = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

LAWS = ("weibull", "lognormal", "gamma", "exponential")
MOST_RHO = 0.9999
CLUSTERED = 1.2
"""a mean run this many times as long as that of independent failures is called clustering."""
RARE, CLEARLY = 0.2, 3.0
"""outages take fewer windows than this share, and their chance of failing is so many times as high as outside."""


@dataclass(frozen=True)
class Failures:
    """``kinds``: share of the failures by status, and the share of those that carry no lengths (what is generated).
    ``rate_low``/``rate_high``: 95 % by ``rate_method`` with ``n_eff``; the chain's ``p_fail_after_ok`` and
    ``p_ok_after_fail`` are runs of failures over successes and over failures. ``causes``: failures by kind, with the
    interval of their rate. ``filtered``: answers that a content filter cut although their status is ok; not in the
    rate. ``between``: time between failures in seconds.
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
    rate_method: str = "Wilson"
    n_eff: float | None = None
    chain_intervals: Mapping[str, Interval] = field(default_factory=dict)
    """of p_fail_after_ok, p_ok_after_fail and mean_run."""
    causes: Mapping[str, tuple[int, Interval | None]] = field(default_factory=dict)
    filtered: int = 0
    over_time: tuple[Cell, ...] = ()
    by_load: tuple[Cell, ...] = ()
    load: Load | None = None
    overdispersion: tuple[Overdispersion, ...] = ()
    between: Durations | None = None
    retries: Retries | None = None
    modulation: OddsLevels | None = None
    """how the chance of failing swings beside the load; None: as even as the two-state chain."""

    @property
    def independent_run(self) -> float:
        """Mean run of independent failures of this rate, 1/(1 − rate)."""
        return 1 / (1 - self.rate) if self.rate < 1 else math.inf

    def to_dict(self) -> dict[str, Any]:
        def one(x: Any) -> Any:
            return None if x is None else x.to_dict()

        return {
            "version": VERSION,
            "requests": self.requests,
            "failed": self.failed,
            "rate": self.rate,
            "rate_low": self.rate_low,
            "rate_high": self.rate_high,
            "rate_method": self.rate_method,
            "n_eff": self.n_eff,
            "p_fail_after_ok": self.p_fail_after_ok,
            "p_ok_after_fail": self.p_ok_after_fail,
            "mean_run": self.mean_run,
            "longest_run": self.longest_run,
            "chain_intervals": {k: i.to_dict() for k, i in self.chain_intervals.items()},
            "kinds": {k: {"share": s, "without_lengths": w} for k, (s, w) in self.kinds.items()},
            "causes": {k: {"failed": n, "rate": one(i)} for k, (n, i) in self.causes.items()},
            "filtered": self.filtered,
            "over_time": cells_to_dict(self.over_time),
            "by_load": cells_to_dict(self.by_load),
            "load": one(self.load),
            "overdispersion": [o.to_dict() for o in self.overdispersion],
            "between": one(self.between),
            "retries": one(self.retries),
            "modulation": one(self.modulation),
        }

    def findings(self) -> list[Finding]:
        if not self.requests:
            text = f"Stated, not counted: {self.rate:.2%} of the requests fail, {format_number(self.mean_run)} in a row on average."
            return [Finding(NAME, text, "two-state chain")]
        if not self.failed:
            return [
                Finding(
                    NAME,
                    f"None of {self.requests:,} requests failed: the rate is at most {self.rate_high:.2%}.",
                )
            ]
        out = [
            Finding(
                NAME,
                f"{self.failed:,} of {self.requests:,} requests failed ({self.rate:.2%} [{self.rate_low:.2%}, {self.rate_high:.2%}]).",
                parameters=self.rate_method,
                effect=f"effective sample size {format_number(self.n_eff)}" if self.n_eff else "",
            )
        ]  # fmt: skip
        if len(self.causes) > 1:
            told = [f"{n / self.failed:.0%} {k}" for k, (n, _) in self.causes.items()]
            out.append(Finding(NAME, f"By kind: {', '.join(told)}."))
        if self.filtered:
            out.append(
                Finding(NAME, f"{self.filtered:,} answers with status ok were cut by a content filter; they are not in the rate.")
            )  # fmt: skip
        if self.failed >= K_ANONYMITY and self.rate < 1:
            out.append(self._clustering())
        if self.modulation is not None and 0 < self.rate < 1:
            out.append(self._swinging(self.modulation))
        if self.load is not None and self.load.top_to_bottom is not None:
            out.append(self._loaded(self.load))
        if self.between is not None and (law := self.between.best):
            shape = law.params.get("shape")
            clustered = law.family in ("weibull", "gamma") and shape is not None and shape < 0.9
            out.append(
                Finding(
                    NAME,
                    f"Between failures pass {self.between.middle()}"
                    + ("; a shape below 1: the next failure is likeliest right after one." if clustered else "."),
                    law.family, law.parameters(), law.effect(),
                )
            )  # fmt: skip
        if self.retries is not None:
            out.append(self.retries.finding(NAME))
        return out

    def _clustering(self) -> Finding:
        times = self.mean_run / self.independent_run
        text = (
            f"They come in runs {times:.2g} times as long as independent failures would"
            if times > CLUSTERED
            else "One failure after another is no more frequent than by chance"
        )
        wide = [o for o in self.overdispersion if o.window_s in (60.0, 600.0)] or list(
            self.overdispersion
        )
        if wide:
            o = wide[0]
            ends = (
                f" [{format_number(o.interval.low)}, {format_number(o.interval.high)}]"
                if o.interval
                else ""
            )
            text += f"; failures per {format_seconds(o.window_s)} vary {format_number(o.ratio)}{ends} times as much"
        p, q = (
            _ends(self.chain_intervals.get(k), v)
            for k, v in (
                ("p_fail_after_ok", self.p_fail_after_ok),
                ("p_ok_after_fail", self.p_ok_after_fail),
            )
        )
        return Finding(NAME, text + ".", "two-state", f"p {p}, q {q}", f"mean run {self.mean_run:.2f} ({self.independent_run:.2f} if independent)")  # fmt: skip

    def _swinging(self, m: OddsLevels) -> Finding:
        share, bad, good = m.split(self.rate)
        lead = "Failures come in outages" if share < RARE and bad > CLEARLY * good else "The chance of failing swings"  # fmt: skip
        text = (
            f"{lead}: in {format_number(1000 * share)} of a thousand windows of {format_seconds(m.window_s)} {_percent(bad)} fail, "
            f"in the others {_percent(good)}; such times last about {format_seconds(m.lasting_s(self.rate))}"
        )
        return Finding(NAME, text + ".", f"{len(m.levels)} levels of the odds", f"shared with other streams {m.shared:.2g}" if m.shared < 1 else "")  # fmt: skip

    def _loaded(self, load: Load) -> Finding:
        ratio, i = load.top_to_bottom or 0.0, load.top_to_bottom_interval
        ends = f" [{format_number(i.low)}, {format_number(i.high)}]" if i else ""
        unclear = i is not None and i.low <= 1 <= i.high
        text = f"The busiest windows of {format_seconds(load.window_s)} fail {format_number(ratio)}{ends} times as often as the quietest"
        if unclear:
            text += ", which chance alone may do"
        if load.explained is not None:
            text += f"; load explains {load.explained:.0%} of what failures per window vary beyond chance"
        rho = (
            ""
            if load.spearman is None
            else f"Spearman ρ {_ends(load.spearman_interval, load.spearman)}"
        )
        return Finding(NAME, text + ".", effect=rho)


def _percent(p: float) -> str:
    return f"{100 * p:.2g} %"


def _ends(i: Interval | None, value: float) -> str:
    return f"{value:.3g}" + (f" [{i.low:.3g}, {i.high:.3g}]" if i else "")


def from_dict(d: dict[str, Any]) -> Failures:
    """Inverse of ``Failures.to_dict``; version 1 lacks all but the rate, the chain and the kinds."""
    f = Failures(
        int(d["requests"]), int(d["failed"]), float(d["rate"]), float(d["rate_low"]), float(d["rate_high"]),
        float(d["p_fail_after_ok"]), float(d["p_ok_after_fail"]), float(d["mean_run"]), int(d["longest_run"]),
        {str(k): (float(v["share"]), float(v["without_lengths"])) for k, v in d["kinds"].items()},
        rate_method=str(d.get("rate_method", "Wilson")),
        n_eff=None if d.get("n_eff") is None else float(d["n_eff"]),
        chain_intervals=read_intervals(d.get("chain_intervals", {})),
        causes={str(k): (int(v["failed"]), Interval.from_dict(v["rate"])) for k, v in d.get("causes", {}).items()},
        filtered=int(d.get("filtered", 0)),
        over_time=cells_from_dict(d.get("over_time")),
        by_load=cells_from_dict(d.get("by_load")),
        load=Load.from_dict(d["load"]) if d.get("load") else None,
        overdispersion=tuple(Overdispersion.from_dict(o) for o in d.get("overdispersion", ())),
        between=Durations.from_dict(d["between"]) if d.get("between") else None,
        retries=Retries.from_dict(d["retries"]) if d.get("retries") else None,
        modulation=OddsLevels.from_dict(d.get("modulation")),
    )  # fmt: skip
    probabilities = [
        f.rate,
        f.p_fail_after_ok,
        f.p_ok_after_fail,
        *(x for v in f.kinds.values() for x in v),
        *((f.retries.share,) if f.retries else ()),
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
    numbers = [
        f.mean_run,
        *(o.ratio for o in f.overdispersion),
        *(o.window_s for o in f.overdispersion),
    ]
    if not all(math.isfinite(v) and v >= 0 for v in numbers) or not 0 <= f.failed <= f.requests:
        raise ModelError(
            "failures of the profile: counts must be finite and in range", "fit the profile again"
        )
    return f


# --- measuring -------------------------------------------------------------------------------------


def fit(
    trace: Trace, notices: list[Notice], seen: Pass | None = None, *, levels: bool = True
) -> Failures | None:
    """Fit failures of ``llm_requests``. Needs rows whose status is recorded. ``levels``: also how the chance of failing swings."""
    statuses = trace.query("failures/kind_counts").to_pylist()
    known = [r for r in statuses if r["kind"] is not None]
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
    if seen is None:
        seen = Pass(trace, Timeline.of(trace))
        scan(trace, [seen])
    seen.close()
    failed = sum(r["n"] for r in known if 0 < r["kind"] < 8)
    ok = requests - failed
    rate = failed / requests
    chain = chance(requests, failed, seen.runs)
    interval = rate_interval(requests, failed, seen.rows, seen.per_window, chain)
    effect = design_effect(seen.rows, seen.per_window)
    by_load = failure_rates.by_load(seen)
    found = Failures(
        requests=requests,
        failed=failed,
        rate=rate,
        rate_low=interval.low,
        rate_high=interval.high,
        p_fail_after_ok=min(1.0, seen.runs / ok) if ok else 1.0,
        p_ok_after_fail=seen.runs / failed if failed and ok else float(not failed),
        mean_run=failed / seen.runs if seen.runs else 0.0,
        longest_run=seen.longest_run,
        kinds=_statuses([r for r in known if 0 < r["kind"] < 8], failed),
        rate_method=interval.method,
        n_eff=interval.n_eff,
        chain_intervals=_chain_intervals(seen),
        causes=_causes(known, seen, requests, interval),
        filtered=sum(r["n"] for r in known if r["kind"] == 8),
        over_time=failure_rates.over_time(seen),
        by_load=by_load,
        load=failure_rates.load(seen, by_load),
        overdispersion=tuple(o for w in seen.widths if (o := overdispersion(w)) is not None),
        between=_between(seen),
        retries=failure_retries.fit(trace, notices, failed, NAME, effect)
        if seen.timeline
        else None,
    )
    return replace(found, modulation=modulation_of(found, seen)) if levels else found


def modulation_of(failures: Failures, seen: Pass, bits: int | None = None) -> OddsLevels | None:
    """How the chance of failing swings beside the load, on windows of 2**``bits`` ns; None: the finest that tell."""
    fine = seen.windows
    if fine is None:
        return None
    return failure_levels.fit(fine, seen.runs, lambda b: expected(failures, seen, fine.number(b), b), bits)  # fmt: skip


def together(fitted: Sequence[Failures], passes: Sequence[Pass]) -> list[Failures]:
    """Failures of the streams of one trace: where those of several swing, on the same windows, and how far together."""
    own = [(f, p, p.windows) for f, p in zip(fitted, passes, strict=True) if f.modulation and p.windows]  # fmt: skip
    if len(own) < 2:
        return list(fitted)
    whole = FineWindows.sum([w for _, _, w in own])
    rate = whole.k.sum() / whole.n.sum()
    bits = failure_levels.window(whole, sum(p.runs for _, p, _ in own), lambda _: rate)
    if bits is None:
        most = max((f for f, _, _ in own), key=lambda f: f.failed).modulation
        bits = round(math.log2(most.window_s * NS_PER_S)) if most else 0
    bits = max(bits, whole.bits + 1)
    found = {id(f): m for f, p, _ in own if (m := modulation_of(f, p, bits))}
    seen = [
        (f.rate, found[id(f)], w, expected(f, p, w.number(bits), bits)) for f, p, w in own if id(f) in found
    ]  # fmt: skip
    joined = iter(failure_levels.together(seen, whole.number(bits), bits))
    return [replace(f, modulation=next(joined) if id(f) in found else None) for f in fitted]


def expected(failures: Failures, seen: Pass, number: Ints, bits: int) -> Array:
    """The rate of failures that the load lets expect in windows of 2**``bits`` ns of these numbers."""
    t = seen.timeline
    if t is None or not follows_load(failures):
        return np.full(len(number), failures.rate)
    middle = np.clip((number << bits) + (1 << bits) // 2, t.first_ns, t.last_ns)
    load = seen.rows / np.maximum(t.covered_s, 1e-9)
    return _rate_at(failures, load[np.minimum(t.window(middle), t.windows - 1)])


def _statuses(rows: list[dict[str, Any]], failed: int) -> dict[str, tuple[float, float]]:
    """Shares by status; statuses of fewer than ten requests are told as unknown-failure."""
    sums: dict[str, list[int]] = {}
    for r in rows:
        n = sum(x["n"] for x in rows if x["status"] == r["status"])
        told = n >= K_ANONYMITY and r["status"] in FAILED
        into = sums.setdefault(r["status"] if told else "unknown-failure", [0, 0])
        into[0] += r["n"]
        into[1] += r["without_tokens"]
    return {k: (n / failed, without / n) for k, (n, without) in sorted(sums.items())}


def _chain_intervals(seen: Pass) -> dict[str, Interval]:
    failed = seen.per_window
    ok = seen.rows - failed
    found = {
        "p_fail_after_ok": share_interval(seen.starts, ok) if ok.sum() > 0 else None,
        "p_ok_after_fail": share_interval(seen.starts, failed) if failed.sum() > 0 else None,
    }
    q = found["p_ok_after_fail"]
    found["mean_run"] = (
        Interval(short(1 / q.high, 6), short(1 / q.low, 6), q.method) if q and q.low > 0 else None
    )
    return {k: i for k, i in found.items() if i is not None}


def _causes(
    known: list[dict[str, Any]], seen: Pass, requests: int, whole: Interval
) -> dict[str, tuple[int, Interval | None]]:
    """Failures by kind, the commonest first, with the interval of their rate; of fewer than ten failures none are told."""
    sums = {k: sum(r["n"] for r in known if r["kind"] == k) for k in KINDS}
    out: dict[str, tuple[int, Interval | None]] = {}
    other = 0
    for k, n in sorted(sums.items(), key=lambda x: (-x[1], x[0])):
        if n < K_ANONYMITY:
            other += n
            continue
        if whole.method == "Wilson":
            out[KINDS[k]] = n, wilson(n, requests)
        else:
            out[KINDS[k]] = n, share_interval(seen.by_kind[:, k], seen.rows, n / requests)
    if other >= K_ANONYMITY:
        out["other kinds"] = other, None
    return out


def _between(seen: Pass) -> Durations | None:
    if seen.timeline is None or seen.failed < 2 * FEWEST_ROWS:
        return None
    ended, cut = seen.between()
    if ended.rows < FEWEST_ROWS:
        return None
    return describe(
        ended,
        cut,
        tick_s=seen.tick_ns / NS_PER_S,
        names=LAWS,
        knots=65,
        windowed=seen.between_windows(),
    )


# --- generating ------------------------------------------------------------------------------------


def failing_after_ok(rate: Any, ending: float) -> Any:
    """P(fail | ok) of the chain whose failures have this rate (a number or an array), and whose runs end with P(ok | fail) =
    ``ending``; at most 1."""
    return np.minimum(rate * ending / np.maximum(1 - rate, 1e-9), 1.0)


@dataclass(frozen=True)
class Chain:
    """The chain over requests. ``scale`` of the odds at each load and level keeps the mean rate; ``rho``: correlation of one
    outcome with the next at a steady chance of failing."""

    failures: Failures
    scale: float = 1.0
    rho: float = 0.0
    levels: OddsLevels | None = None

    @classmethod
    def of(cls, failures: Failures) -> Chain:
        """With levels, runs of failures are as long as fitted where the levels alone do not make them longer:
        1 − ρ = runs/(requests·(E p − E p²))."""
        levels, rate = failures.modulation, failures.rate
        if levels is None or not 0 < rate < 1 or not failures.p_ok_after_fail:
            return cls(failures)
        rates, requests = _by_load(failures) if follows_load(failures) else (np.array([rate]), np.ones(1))  # fmt: skip
        scale, p = levels.chances(rates, requests, rate)
        share = np.outer(levels.shares, requests / requests.sum())
        apart = float((share * p * (1 - p)).sum())
        rho = 1 - failures.p_ok_after_fail * rate / max(apart, 1e-300)
        return cls(failures, scale, float(np.clip(rho, 0.0, MOST_RHO)), levels)

    def sample(
        self, uniform: Array, state: int, load: Array | None = None, u: Array | None = None
    ) -> tuple[npt.NDArray[np.bool_], int]:
        """With numbers ``uniform`` in [0, 1), from ``state`` (0 ok, 1 failed): which requests fail, and the last state. ``load``:
        the rate at each request (1/s), where failures follow it; ``u``: rank of the level at each, where there are levels."""
        f = self.failures
        if self.levels is not None and u is not None:
            rate = f.rate if load is None else _rate_at(f, load)
            odds = np.maximum(self.levels.at(u) * odds_of(np.asarray(rate)), LEAST_ODDS)
            p = odds * self.scale / (1 + odds * self.scale)
            return chained(uniform, state, p * (1 - self.rho), (1 - p) * (1 - self.rho))
        q = f.p_ok_after_fail
        return chained(uniform, state, f.p_fail_after_ok if load is None else failing_after_ok(_rate_at(f, load), q), q)  # fmt: skip


def chained(uniform: Array, state: int, p: Any, q: Any) -> tuple[npt.NDArray[np.bool_], int]:
    """A two-state chain with numbers ``uniform``, from ``state``; p = P(fail | ok) and q = P(ok | fail), of all or of each.

    Below both p and 1 − q a request fails whatever was before it, from both on it does not; in between it does as the
    one before (p < 1 − q: runs) or the opposite (p > 1 − q). So each depends on the last request outside and on how often the
    chain turned since, which needs no loop.
    """
    if not len(uniform):
        return np.zeros(0, dtype=bool), state
    fails = uniform < np.minimum(p, 1 - q)
    decided = fails | (uniform >= np.maximum(p, 1 - q))
    at = np.maximum.accumulate(np.where(decided, np.arange(len(uniform)), -1))
    turns = np.cumsum(~decided & (p > 1 - q))
    since = turns - np.where(at >= 0, turns[at], 0)
    out = np.where(at >= 0, fails[at], bool(state)) ^ (since % 2 == 1)
    return out, int(out[-1])


def follows_load(failures: Failures) -> bool:
    """Whether the rate clearly differs between the busiest and the quietest times."""
    ends = failures.load.top_to_bottom_interval if failures.load else None
    return len(failures.by_load) > 1 and ends is not None and not ends.low <= 1 <= ends.high


def _rate_at(failures: Failures, load: Array) -> Array:
    """The rate of failures at each load, by the fitted cells, their mean kept at the overall rate."""
    cells = failures.by_load
    ends = np.array([(a.high + b.low) / 2 for a, b in itertools.pairwise(cells)])
    return np.asarray(_by_load(failures)[0][np.searchsorted(ends, load, side="right")])


def _by_load(failures: Failures) -> tuple[Array, Array]:
    """(rates, requests) of the cells of load."""
    rates = np.array([c.rate for c in failures.by_load])
    requests = np.array([c.requests for c in failures.by_load], dtype=np.float64)
    mean = float(rates @ requests / max(requests.sum(), 1))
    return np.minimum(rates * (failures.rate / mean if mean > 0 else 1.0), 0.999), requests


# --- scoring ---------------------------------------------------------------------------------------


LIMITS = {
    "failure rate difference": 0.01,
    "mean run of failures": 0.25,
    "overdispersion": 0.5,
}
"""proposed here, not by the research, and not calibrated; other lines inform."""


def score(a: Trace, b: Trace) -> list[Line]:
    """Failure rates by difference, clustering by |ln ratio| of mean runs and of overdispersion at the widest common
    window up to 10 min, kinds by total variation, times between failures by KS D."""
    fitted, gaps = [], []
    for trace in (a, b):
        seen = Pass(trace, Timeline.of(trace))
        scan(trace, [seen])
        f = fit(trace, [], seen, levels=False)
        if f is None:
            return [_line("failure rate difference", None, "share", "not recorded")]
        fitted.append(f)
        gaps.append(seen.between()[0])
    fa, fb = fitted
    out = [_line("failure rate difference", abs(fa.rate - fb.rate), "share")]
    if min(fa.failed, fb.failed) < K_ANONYMITY:
        return out
    out.append(
        _line("mean run of failures", abs(math.log(fa.mean_run / fb.mean_run)), "|ln ratio|")
    )
    swings = [
        {o.window_s: o.ratio for o in f.overdispersion if o.window_s <= 600 and o.ratio > 0}
        for f in fitted
    ]
    shared = sorted(set(swings[0]) & set(swings[1]))
    if shared:
        w = shared[-1]
        value = abs(math.log(swings[0][w] / swings[1][w]))
        out.append(_line("overdispersion", value, "|ln ratio|", f"windows of {format_seconds(w)}"))
    shares = [{k: n / f.failed for k, (n, _) in f.causes.items()} for f in fitted]
    apart = sum(
        abs(shares[0].get(k, 0.0) - shares[1].get(k, 0.0)) for k in {*shares[0], *shares[1]}
    )
    out.append(_line("kinds, total variation", apart / 2, "share"))
    if min(g.rows for g in gaps) >= FEWEST_ROWS:
        out.append(_line("time between failures KS D", grid_ks(*gaps)))
    return out


def _line(metric: str, value: float | None, unit: str = "", note: str = "") -> Line:
    return Line(NAME, metric, value, LIMITS.get(metric), unit, note)

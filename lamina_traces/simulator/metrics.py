"""What a run achieved: latencies, throughput, memory, money, energy, from finished rows and windows.

Definitions (measured at the engine, no client and no network):

- a request arrives at the server when it is released; TTFT = first token leaving the engine − release,
  queue included; queue = first scheduled − release; e2e = last token − release;
  TPOT = (e2e − TTFT)/(output − 1), null for one token;
- percentiles interpolate linearly; with fewer than 10 samples beyond it a percentile is null, with a reason;
- the run's span is from the first release to the last token; rates, money and energy are over it;
- attainment counts offered requests: rejected and unfinished ones, and those that failed as recorded, are misses;
- a request that fails as recorded loads the engine; its tokens count neither as throughput nor under money and energy, and
  it has no latency, but the gaps between its tokens are among all gaps;
- requests of a warm-up or cool-down are served and not measured: latencies, attainment and goodput are of the
  others, while throughput, gaps between tokens, memory, money and energy are of the whole run;
- money and energy are over provisioned device-hours: idle devices cost, too.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, fields

import numpy as np
import numpy.typing as npt

from ..errors import ModelError, Notice, UsageError
from ..units import format_seconds
from . import serving as k
from .simulation import NOT_RELEASED, Finished
from .slo import Limit, Slo

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

PERCENTILES = (50.0, 90.0, 95.0, 99.0, 99.9)
FAILED = -1
"""status of a request that was served as far as it had come when it failed, as recorded."""
BEYOND = 10
"""samples that a percentile needs beyond it."""


@dataclass(frozen=True)
class Metrics:
    """``values`` by name (the unit ends the name); None where undefined, and then ``reasons`` says why.

    Never NaN. ``measured``: where (all of these are simulated, at the engine).
    """

    values: Mapping[str, float | int | None]
    reasons: Mapping[str, str]
    notices: tuple[Notice, ...] = ()
    measured: str = "simulated"

    def __getitem__(self, name: str) -> float | int | None:
        return self.values[name]

    @property
    def saturated(self) -> bool:
        return any(n.code == "saturated" for n in self.notices)

    def to_dict(self) -> dict[str, object]:
        """Flat, JSON-ready: the values, then ``reasons``, ``notices``, ``measured``."""
        return {
            **self.values,
            "reasons": dict(self.reasons),
            "notices": [n.to_dict() for n in self.notices],
            "measured": self.measured,
        }


@dataclass(frozen=True)
class Measured:
    """Which requests are measured: those released from ``first_ns`` to ``last_ns``, both included.

    ``mask`` [requests]; ``warmup``, ``cooldown``: how many were released before and after. ``span_s``: what
    goodput is over: to ``last_ns`` where a cooldown is left out, else to the end of the run.
    """

    mask: npt.NDArray[np.bool_]
    first_ns: int
    last_ns: int
    warmup: int
    cooldown: int
    span_s: float

    @property
    def whole(self) -> bool:
        return not (self.warmup or self.cooldown)

    def notice(self) -> Notice | None:
        """How many requests were served and not measured; None where all are measured."""
        if self.whole:
            return None
        return Notice(
            "not-measured",
            f"{self.warmup:,} requests of the warm-up and {self.cooldown:,} of the cool-down are served and not measured: "
            f"latencies, attainment and goodput are of the other {int(self.mask.sum()):,}",
        )


def measured(
    done: Finished, span_s: float, *, warmup_s: float = 0.0, cooldown_s: float = 0.0
) -> Measured:
    """What a warm-up (from the first release on) and a cool-down (until the last release) leave.

    Raises UsageError where they leave nothing.
    """
    released = done.status != NOT_RELEASED
    if not released.any():
        return Measured(released, 0, 0, 0, 0, span_s)
    release = done.release_ns
    start, end = int(release[released].min()), int(release[released].max())
    first, last = start + round(warmup_s * 1e9), end - round(cooldown_s * 1e9)
    before, after = released & (release < first), released & (release > last)
    mask = released & ~before & ~after
    if not mask.any() or first > last:
        raise UsageError(
            f"a warm-up of {format_seconds(warmup_s)} and a cool-down of {format_seconds(cooldown_s)} leave no request of a "
            f"run whose requests arrive over {format_seconds((end - start) / 1e9)}",
            "shorten them, or simulate more",
        )
    span_s = (last - first) / 1e9 if cooldown_s > 0 else max(0.0, span_s - warmup_s)
    return Measured(mask, first, last, int(before.sum()), int(after.sum()), span_s)


def part(done: Finished, of: npt.NDArray[np.bool_] | Ints) -> Finished:
    """The rows that a mask [requests] or positions choose."""
    return Finished(*(getattr(done, f.name)[of] for f in fields(done)))


def latencies_of(done: Finished, output_tokens: Ints) -> dict[str, Floats]:
    """[requests] seconds by latency; NaN for those that did not complete, and tpot of those with one token."""
    ok = done.status == k.OK
    ttft = done.first_token_ns - done.release_ns
    e2e = done.last_token_ns - done.release_ns
    return {
        "ttft": np.where(ok, ttft / 1e9, np.nan),
        "tpot": np.where(ok & (output_tokens > 1), (e2e - ttft) / np.maximum(output_tokens - 1, 1) / 1e9, np.nan),
        "e2e": np.where(ok, e2e / 1e9, np.nan),
        "queue": np.where(ok, (done.scheduled_ns - done.release_ns) / 1e9, np.nan),
    }  # fmt: skip


def latencies(done: Finished, output_tokens: Ints) -> dict[str, Floats]:
    """Seconds by latency for the completed ones (in row order); tpot only of those with ≥ 2 tokens."""
    ok = done.status == k.OK
    if not ok.all():
        done, output_tokens = part(done, ok), output_tokens[ok]
    release, first, last = done.release_ns, done.first_token_ns, done.last_token_ns
    return {
        "ttft": _seconds(first, release),
        "tpot": _seconds(last, first, output_tokens - 1),
        "e2e": _seconds(last, release),
        "queue": _seconds(done.scheduled_ns, release),
    }


def _seconds(until: Ints, since: Ints, parts: Ints | None = None) -> Floats:
    """until − since over parts, where there are any; a piece at a time, since fresh memory costs more than arithmetic."""
    out = np.empty(len(until))
    n, size = 0, 1 << 16
    for a in range(0, len(out), size):
        piece = slice(a, a + size)
        x = (until[piece] - since[piece]) / 1e9
        if parts is not None:
            some = parts[piece] > 0
            x = x[some] / parts[piece][some]
        out[n : n + len(x)] = x
        n += len(x)
    return out[:n]


def _lacking(n: int, q: float, what: str, saturated: bool) -> str | None:
    """Why there is no percentile ``q`` of ``n`` samples; None where there is one."""
    if saturated:
        return "the run is saturated: there is no steady state"
    if n * (100.0 - q) / 100.0 < BEYOND - 1e-9:
        return f"{n} {what}: fewer than {BEYOND} samples beyond it"
    return None


def latency_metrics(
    done: Finished, output_tokens: Ints, saturated: bool
) -> tuple[dict[str, float | int | None], dict[str, str]]:
    """Mean and percentiles of every latency, with reasons for those that are None."""
    values: dict[str, float | int | None] = {}
    reasons: dict[str, str] = {}
    for name, x in latencies(done, output_tokens).items():
        what = "requests with two tokens or more" if name == "tpot" else "completed requests"
        _set(values, reasons, f"{name}_mean_s", float(x.mean()) if len(x) else None, f"no {what}")
        wanted = []
        for q in PERCENTILES:
            key = f"{name}_p{q:g}_s"
            why = _lacking(len(x), q, what, saturated)
            if why is None:
                wanted.append((key, q))
            else:
                _set(values, reasons, key, None, why)
        if wanted:
            found = np.percentile(x, [q for _, q in wanted], overwrite_input=True)
            values.update({key: float(v) for (key, _), v in zip(wanted, found, strict=True)})
    # in the order of the list above, whatever is None
    order = [
        f"{name}_{s}_s" for name in ("ttft", "tpot", "e2e", "queue") for s in ("mean", *_names())
    ]
    return {key: values[key] for key in order}, reasons


def gap_metrics(
    edges_s: Floats, counts: Ints, saturated: bool, total_s: float | None = None
) -> tuple[dict[str, float | int | None], dict[str, str]]:
    """``itl``: mean and percentiles of the gaps between emissions of a request, from their bins (``edges_s`` [bins] lower edges,
    ``counts`` [pools, bins]), to a thirty-second; the mean is exact where their sum ``total_s`` is known."""
    values: dict[str, float | int | None] = {}
    reasons: dict[str, str] = {}
    n = counts.sum(axis=0)
    total = int(n.sum())
    middle = edges_s * (1 + 1 / 64)
    summed = float(n @ middle) if total_s is None else total_s
    _set(values, reasons, "itl_mean_s", summed / total if total else None, "no gaps between tokens")
    upto = np.cumsum(n)
    for q in PERCENTILES:
        why = (
            _lacking(total, q, "gaps between tokens", saturated)
            if total
            else "no gaps between tokens"
        )
        at = int(np.searchsorted(upto, q / 100 * total)) if total else 0
        _set(values, reasons, f"itl_p{q:g}_s", float(middle[at]) if why is None else None, why or "")  # fmt: skip
    return values, reasons


def _names() -> list[str]:
    return [f"p{q:g}" for q in PERCENTILES]


def _set(
    values: dict[str, float | int | None],
    reasons: dict[str, str],
    key: str,
    value: float | None,
    why: str,
) -> None:
    values[key] = value
    if value is None:
        reasons[key] = why


def attains(done: Finished, output_tokens: Ints, slo: Slo) -> npt.NDArray[np.bool_]:
    """[requests] which meet every limit of ``Slo.each`` at once; rejected, failed and unfinished ones do not.

    A request of one token has no TPOT and so cannot miss a limit on it.
    """
    good = done.status == k.OK
    ttft = done.first_token_ns - done.release_ns
    e2e = done.last_token_ns - done.release_ns
    for limit in slo.each:
        if limit.latency == "tpot":
            x = (e2e - ttft) / np.maximum(output_tokens - 1, 1)
        else:
            x = {"ttft": ttft, "e2e": e2e, "queue": done.scheduled_ns - done.release_ns}[
                limit.latency
            ].astype(float)
        good = good & (x <= limit.limit_s * 1e9)
    return np.asarray(good)


@dataclass(frozen=True)
class Verdict:
    """How a limit came out; ``ok`` None where the metric is undefined. ``share``: of the offered requests, within this limit
    alone."""

    limit: Limit
    observed_s: float | None
    ok: bool | None
    share: float | None


def judge(slo: Slo, metrics: Metrics, done: Finished, output_tokens: Ints) -> list[Verdict]:
    """Each limit against the metric it names; a limit without a stat against the share of the requests (``done``) that are
    within it: ok from the target on."""
    offered = int((done.status != NOT_RELEASED).sum())
    out = []
    for limit in slo.limits:
        within = int(attains(done, output_tokens, Slo((limit,))).sum())
        share = within / offered if offered else None
        if not limit.key:
            out.append(Verdict(limit, None, None if share is None else share >= slo.target, share))
            continue
        seen = metrics.values.get(limit.key)
        ok = (False if metrics.saturated else None) if seen is None else seen <= limit.limit_s
        out.append(Verdict(limit, None if seen is None else float(seen), ok, share))
    return out


def saturation(done: Finished, measured: Measured) -> Notice | None:
    """Does the queue keep growing while requests arrive?

    Waiting requests (released, not yet scheduled) are counted at 65 instants over the measured span of
    releases. The run is saturated when their mean rises from the second quarter of the span to the third to
    the fourth, and those added over the whole span are at least 20, at least 1 % of what was released, and at least
    twice the standard deviation of a sum of 64 such steps: what a queue at full load drifts by alone.
    ``tests/simulator/test_saturation.py`` measures false alarms and misses on queues of known load.
    """
    offered = done.status <= k.UNFINISHED
    in_queue = offered & (done.status != k.REJECTED_MEMORY) & (done.status != k.REJECTED_CONTEXT)
    release = np.sort(done.release_ns[in_queue])
    if int((in_queue & measured.mask).sum()) < 100:
        return None
    scheduled = done.scheduled_ns[in_queue]
    scheduled = np.sort(scheduled[scheduled >= 0])
    first, last = measured.first_ns, measured.last_ns
    at = first + (np.arange(65) * ((last - first) / 64.0)).astype(np.int64)
    came = np.searchsorted(release, at, side="right")
    waiting = came - np.searchsorted(scheduled, at, side="right")
    second, third, fourth = (float(waiting[i : i + 16].mean()) for i in (17, 33, 49))
    added, arrived = int(waiting[-1] - waiting[0]), int(came[-1] - came[0])
    drift = 8.0 * float(np.diff(waiting).std(ddof=1))
    if not (second < third < fourth and added >= max(20, 0.01 * arrived, 2.0 * drift)):
        return None
    return Notice(
        "saturated",
        f"arrivals outpace completions: in {format_seconds((last - first) / 1e9)} {arrived:,} requests were "
        f"released and {arrived - added:,} scheduled; {int(waiting[-1]):,} wait at the end. "
        "Latencies depend on how long the trace is; percentiles are withheld",
    )


def spanned_s(done: Finished, until_ns: int | None) -> float:
    """First release to last token (or to ``until_ns`` if requests were left unfinished), seconds."""
    offered = done.status <= k.UNFINISHED
    if not offered.any():
        return 0.0
    first = int(done.release_ns[offered].min())
    last = max(int(done.last_token_ns.max()), int(done.release_ns[offered].max()))
    if until_ns is not None and (done.status == k.UNFINISHED).any():
        last = max(last, until_ns)
    return max(0, last - first) / 1e9


def counts(done: Finished, measured: Measured) -> dict[str, float | int | None]:
    """Requests by what became of them. Offered = released; those after the end of a cut run are not."""
    s = done.status
    return {
        "requests_measured": int(measured.mask.sum()),
        "requests_warmup": measured.warmup,
        "requests_cooldown": measured.cooldown,
        "requests_offered": int((s != NOT_RELEASED).sum()),
        "requests_completed": int((s == k.OK).sum()),
        "requests_failed": int((s == FAILED).sum()),
        "requests_rejected": int(((s == k.REJECTED_MEMORY) | (s == k.REJECTED_CONTEXT)).sum()),
        "requests_rejected_memory": int((s == k.REJECTED_MEMORY).sum()),
        "requests_rejected_context": int((s == k.REJECTED_CONTEXT).sum()),
        "requests_unfinished": int((s == k.UNFINISHED).sum()),
        "preemptions": int(done.preemptions.sum()),
        "requests_preempted": int((done.preemptions > 0).sum()),
    }


def throughput(
    done: Finished, input_tokens: Ints, output_tokens: Ints, span_s: float
) -> tuple[dict[str, float | int | None], dict[str, str]]:
    """Completed requests and their tokens, per second of the span."""
    ok = done.status == k.OK
    offered = int((done.status != NOT_RELEASED).sum())
    tokens_in, tokens_out = int(input_tokens[ok].sum()), int(output_tokens[ok].sum())
    values: dict[str, float | int | None] = {
        "span_s": span_s,
        "input_tokens": tokens_in,
        "output_tokens": tokens_out,
    }
    reasons: dict[str, str] = {}
    for name, amount in (
        ("requests_per_s", int(ok.sum())),
        ("offered_requests_per_s", offered),
        ("input_tokens_per_s", tokens_in),
        ("output_tokens_per_s", tokens_out),
        ("total_tokens_per_s", tokens_in + tokens_out),
    ):
        _set(values, reasons, name, amount / span_s if span_s > 0 else None, "the run has no span")
    return values, reasons


def attainment(
    done: Finished, output_tokens: Ints, slo: Slo, span_s: float
) -> tuple[dict[str, float | int | None], dict[str, str]]:
    """``slo_attainment`` (share of offered requests) and ``goodput_req_s``."""
    good = int(attains(done, output_tokens, slo).sum())
    offered = int((done.status != NOT_RELEASED).sum())
    values: dict[str, float | int | None] = {}
    reasons: dict[str, str] = {}
    _set(
        values,
        reasons,
        "slo_attainment",
        good / offered if offered else None,
        "no requests were offered",
    )
    _set(
        values,
        reasons,
        "goodput_req_s",
        good / span_s if span_s > 0 else None,
        "the run has no span",
    )
    return values, reasons


def by_group(
    done: Finished,
    output_tokens: Ints,
    measured: Measured,
    labels: npt.NDArray[np.str_],
    *,
    slo: Slo | None,
    saturated: bool,
) -> list[dict[str, float | int | str | None]]:
    """Latencies, and attainment and goodput under ``slo``, of the measured requests by their label [requests]; one row
    per label, the one with most requests first. None, with the reason under ``<key>_why``, where a percentile has too few
    samples. Gaps between tokens are not told apart by request."""
    out: list[dict[str, float | int | str | None]] = []
    at = np.flatnonzero(measured.mask)
    names, inverse, n = np.unique(labels[at], return_inverse=True, return_counts=True)
    members = np.split(at[np.argsort(inverse, kind="stable")], np.cumsum(n)[:-1])
    for i in sorted(range(len(names)), key=lambda i: (-n[i], names[i])):
        rows, output = part(done, members[i]), output_tokens[members[i]]
        values, why = latency_metrics(rows, output, saturated)
        if slo is not None:
            met = attainment(rows, output, slo, measured.span_s)
            values, why = {**values, **met[0]}, {**why, **met[1]}
        out.append(
            {
                "group": str(names[i]),
                "requests": int(n[i]),
                "completed": int((rows.status == k.OK).sum()),
                "failed": int((rows.status == FAILED).sum()),
                **values,
                **{f"{key}_why": reason for key, reason in why.items()},
            }
        )
    return out


def finite(values: Mapping[str, float | int | None]) -> None:
    """The rule that no result holds NaN or infinity, kept by the one place that makes results."""
    for name, v in values.items():
        if v is not None and not math.isfinite(v):
            raise ModelError(
                f"{name} came out as {v}", "a number of the spec or workload is absurdly large"
            )

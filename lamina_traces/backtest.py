"""Backtests: a measured log of requests replayed on a spec, measured latencies beside simulated ones.

Three questions: how far off is the simulator on this deployment, is it the service time or the queueing, and does a
calibration fitted on the first half of the log help on the second.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import polars as pl

from . import measurements, specs, techniques
from .costs import State, StepModel
from .costs.calibration import NOISE, Calibrated, assess, timed
from .costs.points import chunks, points_of
from .errors import ModelError, Notice, UsageError
from .schema import Requests
from .simulator import simulate
from .simulator.metrics import BEYOND, latencies_of
from .specs import Calibration, Serving
from .units import NS_PER_S

if TYPE_CHECKING:
    from .store import Trace

Floats = npt.NDArray[np.float64]
LATENCIES = ("ttft", "tpot", "e2e")
STATS: Mapping[str, float | None] = {"mean": None, "p50": 0.5, "p90": 0.9, "p99": 0.99}
ALONE = 1.5
"""mean requests in flight below which a request had the engine to itself."""


@dataclass(frozen=True)
class Part:
    """Mean e2e seconds of one part: measured, simulated."""

    name: str
    measured_s: float
    simulated_s: float


@dataclass(frozen=True)
class Proposal:
    """A calibration fitted on the first half, and mean relative errors of the second half's latencies before and
    after: (of the mean, mean of |error| of each request) by latency."""

    fit: Calibrated
    calibration: Calibration
    before: Mapping[str, tuple[float, float]]
    after: Mapping[str, tuple[float, float]]

    @property
    def helps(self) -> bool:
        """Whether e2e of single requests is nearer."""
        return self.after["e2e"][1] < self.before["e2e"][1]


@dataclass(frozen=True)
class Backtest:
    """``overall``: rows of latency, stat, measured_s, simulated_s, error. ``by_load``: one row for each tenth of the
    requests by how many were in flight when they arrived. ``parts``: e2e as queue and service, estimated
    where the log records no queue, () without TTFT. ``at_load``: mean error of TPOT with the load as it was measured, so that no queue feeds back; None
    where TPOT is not recorded. ``alone``: (requests that had the engine to themselves, mean e2e error of them), None below
    ten of them. ``why``: in place of a proposal."""

    requests: int
    left_out: int
    overall: list[dict[str, Any]]
    by_load: list[dict[str, Any]]
    parts: tuple[Part, ...]
    at_load: float | None
    alone: tuple[int, float] | None
    proposal: Proposal | None
    why: str
    notices: tuple[Notice, ...]

    def error(self, latency: str, stat: str = "mean") -> float | None:
        """Simulated / measured − 1."""
        for r in self.overall:
            if (r["latency"], r["stat"]) == (latency, stat):
                found: float | None = r["error"]
                return found
        return None

    @property
    def blame(self) -> str:
        """``none`` (e2e and its parts are within the noise of an engine, of e2e), ``service`` or ``queueing``."""
        e2e = self.error("e2e")
        if e2e is None:
            return "none"
        if self.parts:
            queue, service = (abs(p.simulated_s - p.measured_s) for p in self.parts)
            # parts that cancel are off too
            if max(queue, service) > NOISE * sum(p.measured_s for p in self.parts):
                return "service" if service >= queue else "queueing"
        if abs(e2e) <= NOISE:
            return "none"
        if self.parts:
            return "service" if service >= queue else "queueing"
        return "service" if abs(self.at_load or 0.0) >= abs(e2e) / 2 else "queueing"

    def verdict(self) -> str:
        """What is off, in one or two sentences."""
        e2e = self.error("e2e")
        if e2e is None:
            return "the log records no e2e, so service and queue cannot be told apart."
        off = "" if self.at_load is None else f"{self.at_load:+.1%} at the measured load"
        if self.blame == "none":
            return (
                f"mean e2e is within the noise of an engine ({e2e:+.1%}; {NOISE:.0%} is assumed)."
            )
        if abs(e2e) <= NOISE:
            return f"mean e2e is {e2e:+.1%} off, but its parts cancel: {self.blame.replace('service', 'service time')} is off the most."
        if self.blame == "service":
            return f"mean e2e is {e2e:+.1%} off, and it is the service time (TPOT {off or 'at the measured load is not known'})."
        text = f"mean e2e is {e2e:+.1%} off, and it is queueing"
        if self.at_load is not None and abs(self.at_load) > NOISE:
            return f"{text}, which a service time that is off feeds (TPOT {off})."
        return f"{text}: arrivals, limits of the batch or KV memory differ from the spec (TPOT {off or 'at the measured load is not known'})."

    def to_dict(self) -> dict[str, Any]:
        p = self.proposal
        return {
            "requests": self.requests,
            "left_out": self.left_out,
            "blame": self.blame,
            "verdict": self.verdict(),
            "latencies": self.overall,
            "by_load": self.by_load,
            "parts": [dict(x.__dict__) for x in self.parts],
            "tpot_error_at_measured_load": self.at_load,
            "alone": None if self.alone is None else {"requests": self.alone[0], "e2e_error": self.alone[1]},
            "proposal": None
            if p is None
            else {
                "points": len(p.fit.points),
                "factors": p.fit.factors,
                "efficiency": dict(p.calibration.efficiency),
                "before": {k: list(v) for k, v in p.before.items()},
                "after": {k: list(v) for k, v in p.after.items()},
                "helps": p.helps,
            },
            "proposal_why": self.why or None,
            "notices": [n.to_dict() for n in self.notices],
        }  # fmt: skip


def backtest(
    trace: Trace, spec: Serving, *, using: Sequence[techniques.Applied] = (), date: str = ""
) -> Backtest:
    """Replay a measured log at its recorded starts (open loop: what a user waited for before is in them) on ``spec`` with
    techniques applied in order.

    Failed requests and rows without lengths are left out. ``date``: of the proposal. UsageError where no latency is recorded,
    or where the spec needs limits, sessions or prefix ids, which are not replayed.
    """
    for what, name in (("rank", spec.rank), ("route", spec.route), ("reuse", spec.reuse)):
        if name in ("least-slack", "session-affinity", "prefix-affinity", "prefix"):
            raise UsageError(f"{what} {name} needs what a backtest does not replay: limits, sessions or prefix ids", f"choose another {what}")  # fmt: skip
    frame = measurements.requests(trace)
    if trace.has("priority", "llm_requests"):
        given = trace.scan("llm_requests").select("row_id", pl.col("priority").fill_null(0)).collect()  # fmt: skip
        frame = frame.join(given, on="row_id", how="left", maintain_order="left")
    spec, made = techniques.apply_spec(using, spec), tuple(using)
    log = frame.filter((pl.col("input_tokens") >= 1) & (pl.col("output_tokens") >= 1))
    if not log.height:
        raise ModelError(
            f"no completed request of {trace.name!r} has an arrival and both lengths",
            "look at it with: lamina-traces show, and at --where",
        )
    notices = [Notice("cached-prompts", "the log has cached prompt tokens, which the spec's engine computes again", "cached_input_tokens")] if trace.has("cached_input_tokens", "llm_requests") else []  # fmt: skip
    mine = _replayed(log, spec, made)
    fits = ~np.isnan(mine["e2e"])
    rejected = int((~fits).sum())
    if not fits.any():
        raise ModelError(
            f"none of the {rejected:,} requests fits on this spec",
            "see the context of the model and the memory of the device",
        )
    if rejected:
        notices.append(Notice("rejected", f"{rejected:,} requests can never fit on this spec and are not compared", "requests"))  # fmt: skip
        log, mine = log.filter(pl.Series(fits)), {k: v[fits] for k, v in mine.items()}
    theirs = {c: log[f"{c}_s"].to_numpy() for c in (*LATENCIES, "queue")}
    found: Proposal | None = None
    why = ""
    try:
        if made:
            raise ModelError(f"no calibration: points know no technique, as {made[0].technique.name}", "")  # fmt: skip
        found = _proposal(trace, log, spec, mine, theirs, date)
    except ModelError as e:
        why = e.message
    return Backtest(
        requests=log.height,
        left_out=trace.rows("llm_requests") - log.height - rejected,
        overall=_overall(theirs, mine),
        by_load=_by_load(log, theirs, mine),
        parts=_parts(log, theirs, mine),
        at_load=None if made else _at_load(log, spec),
        alone=None if made else _alone(log, spec),
        proposal=found,
        why=why,
        notices=tuple(notices),
    )


def _replayed(
    log: pl.DataFrame, spec: Serving, using: Sequence[techniques.Applied] = ()
) -> dict[str, Floats]:
    """[requests] simulated seconds by latency, NaN for requests that the spec rejects; in the log's order."""
    requests = Requests.make(
        log["start_ns"].to_numpy(),
        log["input_tokens"].to_numpy(),
        log["output_tokens"].to_numpy(),
        row_id=log["row_id"].to_numpy(),
        priority=log["priority"].to_numpy() if "priority" in log.columns else None,
    )
    requests = techniques.apply_requests(using, requests)
    steps = [techniques.apply_step(using, specs.step_model(spec, i)) for i in range(len(spec.pools))]  # fmt: skip
    return latencies_of(simulate(requests, spec, steps).rows, requests.output_tokens)


def _both(theirs: Floats, mine: Floats) -> npt.NDArray[np.bool_]:
    return ~(np.isnan(theirs) | np.isnan(mine))


def _overall(theirs: Mapping[str, Floats], mine: Mapping[str, Floats]) -> list[dict[str, Any]]:
    out = []
    for name in LATENCIES:
        ok = _both(theirs[name], mine[name])
        a, b = theirs[name][ok], mine[name][ok]
        for stat, q in STATS.items():
            enough = len(a) and (q is None or len(a) * (1 - q) >= BEYOND)
            x, y = ((np.mean(v) if q is None else np.quantile(v, q)) for v in (a, b)) if enough else (None, None)  # fmt: skip
            row = {"latency": name, "stat": stat, **_compared(x, y)}
            out.append(row)
    return out


def _compared(measured: Any, simulated: Any) -> dict[str, float | None]:
    known = measured is not None and simulated is not None
    return {
        "measured_s": float(measured) if known else None,
        "simulated_s": float(simulated) if known else None,
        "error": float(simulated / measured - 1) if known and measured > 0 else None,
    }


def _by_load(
    log: pl.DataFrame, theirs: Mapping[str, Floats], mine: Mapping[str, Floats]
) -> list[dict[str, Any]]:
    """Means by tenth of the load at arrival; [] where e2e is not recorded."""
    ok = _both(theirs["e2e"], mine["e2e"])
    if not ok.any():
        return []
    at = _load(log, theirs, ok)
    part = measurements.tenths(at)
    out = []
    for i in np.unique(part):
        rows = part == i
        row: dict[str, Any] = {
            "in_flight_min": int(at[rows].min()),
            "in_flight_max": int(at[rows].max()),
            "requests": int(rows.sum()),
        }
        for name in LATENCIES:
            a, b = theirs[name][ok][rows], mine[name][ok][rows]
            both = _both(a, b)
            means = (a[both].mean(), b[both].mean()) if both.any() else (None, None)
            row |= {f"{name}_{k}": v for k, v in _compared(*means).items()}
        out.append(row)
    return out


def _parts(
    log: pl.DataFrame, theirs: Mapping[str, Floats], mine: Mapping[str, Floats]
) -> tuple[Part, ...]:
    """Queue (arrival to first scheduled) and service of requests. Where the log does not record the queue it is
    estimated on both sides: mean TTFT above that of the least loaded tenth, which hardly queued."""
    ok = _both(theirs["e2e"], mine["e2e"]) & _both(theirs["queue"], mine["queue"])
    if ok.any():
        means = [(float(x["queue"][ok].mean()), float(x["e2e"][ok].mean())) for x in (theirs, mine)]
        names = ("queue", "service")
    else:
        ok = _both(theirs["e2e"], mine["e2e"]) & _both(theirs["ttft"], mine["ttft"])
        if not ok.any():
            return ()
        idle = measurements.tenths(_load(log, theirs, ok)) == 0
        means = [
            (float(x["ttft"][ok].mean() - x["ttft"][ok][idle].mean()), float(x["e2e"][ok].mean()))
            for x in (theirs, mine)
        ]
        names = ("queue, estimated", "service, estimated")
    (queue, e2e), (our_queue, our_e2e) = means
    return Part(names[0], queue, our_queue), Part(names[1], e2e - queue, our_e2e - our_queue)


def _load(
    log: pl.DataFrame, theirs: Mapping[str, Floats], ok: npt.NDArray[np.bool_]
) -> npt.NDArray[np.int64]:
    """[requests that are ok] measured requests in flight at arrival."""
    start = log["start_ns"].to_numpy()[ok]
    end = start + np.rint(theirs["e2e"][ok] * NS_PER_S).astype(np.int64)
    return measurements.in_flight(start, end)[0]


def _on(spec: Serving, source: str) -> dict[str, str]:
    """The spec's first pool as cells of a point. ModelError for what a point cannot say."""
    group = specs.main_group(spec.pools[0])
    if group.pp > 1 or len(spec.pools) > 1 or group.clock < 1 or group.cap_w or spec.combine != "sum":  # fmt: skip
        raise ModelError(
            "no calibration: points know one pool without pipeline stages, limits of power or clock, and combine = 'sum'",
            "calibrate a plain deployment of the same model and GPU",
        )
    return {
        "source": source,
        "model": spec.model,
        "gpu": group.gpu,
        "n_gpus": str(group.tp * group.dp),
        "tp": str(group.tp),
        "dp": str(group.dp),
        "ep": str(group.ep),
        "engine": "",
        "precision": spec.dtype,
    }


def _fit(log: pl.DataFrame, spec: Serving, source: str, before_ns: int | None = None) -> Calibrated:
    rows = measurements.log_rows(
        log, _on(spec, source), replicas=spec.replicas, before_ns=before_ns
    )
    found = points_of(rows)
    points = [p for p in map(timed, found.kept) if p is not None]
    if not points:
        raise ModelError(
            f"no calibration: all {len(rows)} points of the log are rejected ({', '.join(found.rejected)})",
            "see whether the spec is what the log ran on",
        )
    return assess(points, specs.efficiency(spec), source)


def _at_load(log: pl.DataFrame, spec: Serving) -> float | None:
    try:
        return float(_fit(log, spec, "log").before.mean())
    except ModelError:
        return None


def _alone(log: pl.DataFrame, spec: Serving) -> tuple[int, float] | None:
    """Requests that had the engine to themselves against prefill and decode of one sequence."""
    known = log.filter(pl.col("e2e_s") > 0)
    if not known.height:
        return None
    start = known["start_ns"].to_numpy()
    end = start + np.rint(known["e2e_s"].to_numpy() * NS_PER_S).astype(np.int64)
    known = known.filter(pl.Series(measurements.in_flight(start, end)[1] < ALONE)).head(1000)
    if known.height < BEYOND:
        return None
    step = specs.step_model(spec)
    chunk = spec.pools[0].replica.batch.max_num_batched_tokens
    ours = [
        _lone_s(step, i, o, chunk)
        for i, o in zip(known["input_tokens"], known["output_tokens"], strict=True)
    ]
    return known.height, float(np.mean(ours) / known["e2e_s"].mean() - 1)  # type: ignore[operator]


def _lone_s(step: StepModel, inputs: int, outputs: int, chunk: int) -> float:
    decode = step.seconds(State.decode(1, inputs + outputs / 2))
    return sum(map(step.seconds, chunks(inputs, chunk=chunk))) + (outputs - 1) * decode


def _proposal(
    trace: Trace,
    log: pl.DataFrame,
    spec: Serving,
    mine: Mapping[str, Floats],
    theirs: Mapping[str, Floats],
    date: str,
) -> Proposal:
    start = log["start_ns"].to_numpy()
    half = int(start[len(start) // 2])
    fit = _fit(log, spec, trace.name, before_ns=half)
    group = specs.main_group(spec.pools[0])
    proposed = Calibration(
        efficiency={**spec.efficiency, **fit.moved()},
        basis="fitted",
        date=date,
        era=spec.era,
        points=len(fit.points),
        deployments=(specs.deployment_name(spec.model, group.gpu, spec.dtype),),
        errors={"tpot_before": float(np.abs(fit.before).mean())}
        | ({} if fit.left_out is None else {"tpot_left_out": float(np.abs(fit.left_out).mean())}),
        inputs=tuple((Path(i.name).name, i.sha256) for i in trace.manifest.inputs if i.sha256),
        about="first half of the log's requests",
    )
    again = _replayed(log, proposed.apply(replace(spec, efficiency={}, calibration=None)))
    later = start >= half

    def errors(run: Mapping[str, Floats]) -> dict[str, tuple[float, float]]:
        out = {}
        for name in LATENCIES:
            ok = later & _both(theirs[name], run[name]) & (theirs[name] > 0)
            if ok.any():
                a, b = theirs[name][ok], run[name][ok]
                out[name] = float(b.mean() / a.mean() - 1), float(np.abs(b / a - 1).mean())
        return out

    before, after = errors(mine), errors(again)
    if "e2e" not in before or "e2e" not in after:
        raise ModelError(
            "no calibration: the second half has no e2e to score it on", "log each request's end"
        )
    return Proposal(fit, proposed, before, after)

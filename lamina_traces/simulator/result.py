"""One simulated run: a workload and a spec in, rows, windows, metrics and what binds out."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from .. import specs
from ..costs import (
    AWAY,
    FITTED_POWER,
    POWERED,
    RESOURCES,
    OpCost,
    PowerModel,
    Rows,
    State,
    StepModel,
    bill,
)
from ..errors import ModelError, Notice
from ..hardware import Prices, load_prices
from ..schema import Requests
from ..specs import Serving
from ..units import Quantity
from . import metrics as m
from . import serving as k
from .metrics import Metrics
from .simulation import NOT_RELEASED, Engine, Finished, Simulation, Windows, run
from .slo import Slo

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

STATUS: Mapping[int, str] = {
    k.OK: "ok",
    m.FAILED: "error",
    k.REJECTED_MEMORY: "error",
    k.REJECTED_CONTEXT: "error",
    k.UNFINISHED: "incomplete",
    NOT_RELEASED: "incomplete",
}
"""the canonical status of a row's code."""
ERROR_CODE: Mapping[int, str] = {
    k.REJECTED_MEMORY: "kv-memory",
    k.REJECTED_CONTEXT: "context-length",
}


@dataclass(frozen=True)
class Result:
    """``rows``: one per request, in the workload's order, with ``input_tokens`` and ``output_tokens`` beside
    it. ``windows``: accumulators per (window, replica), with ``power_w`` of the replica (all its devices).
    ``time_shares``: share of all busy time by resource; ``op_shares``: by operator, of each pool.
    """

    spec: Serving
    step_models: tuple[StepModel, ...]
    rows: Finished
    input_tokens: Ints
    output_tokens: Ints
    windows: Windows
    power_w: Floats
    kv_blocks: Ints
    """[replicas]"""
    metrics: Metrics
    time_shares: Mapping[str, float]
    op_shares: tuple[Mapping[str, float], ...]
    mean_states: tuple[State | None, ...]
    """by pool: the mean iteration; None for a pool that did nothing."""
    measured: m.Measured
    verdicts: tuple[m.Verdict, ...] = ()
    until_ns: int | None = None

    def explain(self, pool: int = 0) -> list[OpCost]:
        """Every operator of the pool's mean iteration and what binds it; [] for a pool that did nothing."""
        state = self.mean_states[pool]
        return [] if state is None else self.step_models[pool].explain(state)

    @property
    def binding(self) -> str | None:
        """The resource that takes most of the busy time; None for a run without work."""
        return (
            max(self.time_shares, key=lambda r: self.time_shares[r]) if self.time_shares else None
        )

    def status(self) -> list[str]:
        """[requests] canonical status."""
        return [STATUS[s] for s in self.rows.status.tolist()]

    def batch_windows(self) -> dict[str, npt.NDArray[np.float64] | npt.NDArray[np.int64]]:
        """Columns of the canonical table ``batch_windows`` (idle windows have a mean batch of 0)."""
        w = self.windows
        width = w.window_ns / 1e9
        return {
            "row_id": np.arange(len(w)),
            "arrival_ns": w.start_ns,
            "replica": w.replica,
            "window_s": np.full(len(w), width),
            "iterations": w.iterations,
            "busy_s": w.busy_s,
            "decode_tokens": w.decode_tokens,
            "prefill_tokens": w.prefill_tokens,
            "mean_batch": _ratio(w.sequence_s, w.busy_s),
            "mean_kv_frac": w.block_s / (width * self.kv_blocks[w.replica]),
        }


def engines(
    spec: Serving, step_models: Sequence[StepModel], id_tokens: int | None = None
) -> list[Engine]:
    """The spec's pools as the clock sees them. ``id_tokens``: of the prompts' ids, by which a prefix cache knows them."""
    out = []
    for i, (pool, step) in enumerate(zip(spec.pools, step_models, strict=True)):
        batch, kv = pool.replica.batch, specs.kv_of(spec, i)
        out.append(
            Engine(
                step.lower(batch.max_num_batched_tokens),
                blocks=kv.blocks,
                block_size=kv.block_tokens,
                watermark_blocks=int(kv.blocks * pool.replica.kv.watermark),
                max_num_seqs=batch.max_num_seqs,
                max_num_batched_tokens=batch.max_num_batched_tokens,
                max_context=batch.max_context or spec.shape.max_context,
                replicas=pool.count,
                chunked_prefill=batch.chunked_prefill,
                swap_s_per_token=specs.swap_s_per_token(spec, i),
                prefix_unit=_unit(id_tokens, kv.block_tokens) if spec.reuse == "prefix" else 0,
                role=pool.role,
                hand_over_s=specs.hand_over_s(spec, i),
            )
        )
    return out


def _reused(spec: Serving, id_tokens: int | None) -> tuple[Serving, Notice | None]:
    """The spec with ``reuse = "auto"`` settled, and why nothing is reused where it is not."""
    if spec.reuse != "auto":
        return spec, None
    sizes = [p.replica.kv.block_size for p in spec.pools]
    why = (
        "the requests carry no prefix ids"
        if id_tokens is None
        else f"prefix ids are of {id_tokens} tokens, which are no whole blocks of {max(sizes)}"
        if any(id_tokens % size for size in sizes)
        else None
    )
    if why is None:
        return replace(spec, reuse="prefix"), None
    told = Notice("prefix-caching", f"{why}, so prefix caching saves nothing here", "reuse")
    return replace(spec, reuse="none"), told


def _unit(id_tokens: int | None, block: int) -> int:
    """Blocks of a unit of the prefix cache."""
    if id_tokens is None:
        raise ModelError("the requests carry no ids of prefix blocks to reuse", "simulate a trace with prefix_hashes, or set reuse = 'none'")  # fmt: skip
    if id_tokens % block:
        raise ModelError(f"ids of {id_tokens} tokens are not of whole blocks of {block}", f"set kv.block_size to a divisor of {id_tokens}")  # fmt: skip
    return id_tokens // block


def simulate(
    requests: Requests | Iterable[Requests],
    spec: Serving,
    step_model: StepModel | Sequence[StepModel] | None = None,
    *,
    slo: Slo | None = None,
    window_s: float | None = None,
    until_s: float | None = None,
    concurrency: int | None = None,
    warmup_s: float = 0.0,
    cooldown_s: float = 0.0,
    prices: Prices | None = None,
    power: PowerModel = FITTED_POWER,
) -> Result:
    """Serve ``requests`` on ``spec``.

    ``requests``: one workload, or its chunks in order (then give ``window_s``, default 10 s; a whole
    workload gets about 600 windows). ``step_model``: one per pool, if techniques changed it; None derives it
    from the spec. ``concurrency``: most requests in flight when one without parents is released. ``until_s``: seconds
    from the origin after which nothing is simulated. ``warmup_s``, ``cooldown_s``: requests released in the first and last
    seconds of the releases are served and not measured. ``extra["failed"]`` [requests] of the workload: served as the rest,
    and then failed. ``prices``: None takes the example file that ships, and says so.

    Raises ModelError for a request or spec that cannot be simulated.
    """
    specs.check(spec)
    if step_model is None:
        models = tuple(specs.step_model(spec, i) for i in range(len(spec.pools)))
    else:
        models = (step_model,) if isinstance(step_model, StepModel) else tuple(step_model)
        if len(models) == 1:
            models *= len(spec.pools)
    if len(models) != len(spec.pools):
        raise ModelError(
            f"{len(models)} step models for {len(spec.pools)} pools", "give one for each pool"
        )
    whole = requests if isinstance(requests, Requests) else None
    if window_s is None and whole:
        window_s = _window(whole.span_ns / 1e9, spec.replicas)
    until_ns = None if until_s is None else round(until_s * 1e9)
    spec, not_reused = _reused(spec, whole.id_tokens if whole else None)
    lowered = engines(spec, models, whole.id_tokens if whole else None)
    scale = spec.scale
    first = int(whole.arrival_ns[0]) if whole and len(whole) else 0
    scaled: dict[str, Any] = {}
    if spec.control == "scale":  # looked at first when who arrived has been routed
        scaled = {
            "tick": k.tick_scale,
            "first_tick_ns": first + round(scale.period_s * 1e9),
            "start_on": scale.start,
            "since_ns": first,
        }
    prefill = State(p=1.0, Q=1.0, C=1.0)
    fastest_s = min(s.seconds(prefill) - s.seconds(State(p=0.0)) for s in models)
    sim = Simulation(
        lowered,
        par=np.array(
            [fastest_s * 1e9, scale.period_s * 1e9, scale.requests, scale.least, scale.load_s * 1e9]
        ),
        concurrency=concurrency,
        **scaled,
        route=spec.route,
        rank=spec.rank,
        window_s=10.0 if window_s is None else window_s,
        until_ns=until_ns,
    )
    columns: list[tuple[Ints, Ints, Any]] = []

    def noted(chunk: Requests) -> Requests:
        columns.append(_columns(chunk))
        return chunk

    rows = run(sim, noted(requests) if isinstance(requests, Requests) else map(noted, requests))
    if not len(rows):
        raise ModelError(
            "there are no requests to simulate", "look at the trace, or at --where, --from and --to"
        )
    inputs, outputs, failed = columns[0] if whole else (np.concatenate(c) for c in zip(*columns, strict=True))  # fmt: skip
    if failed.any():
        rows = replace(rows, status=np.where(failed & (rows.status == k.OK), m.FAILED, rows.status))
    windows = sim.windows()
    blocks = np.repeat([e.blocks for e in lowered], [e.replicas for e in lowered])
    span_s = m.spanned_s(rows, until_ns)
    provisioned = (
        np.minimum(sim.provisioned_s, span_s) if scaled else np.full(spec.replicas, span_s)
    )
    power_w, busy_j = _power(spec, lowered, windows, power, provisioned if scaled else None)
    notices = [] if not_reused is None else [not_reused]
    measured = m.measured(rows, span_s, warmup_s=warmup_s, cooldown_s=cooldown_s)
    seen, output = (rows, outputs) if measured.mask.all() else (m.part(rows, measured.mask), outputs[measured.mask])  # fmt: skip
    left_out = measured.notice()
    if left_out:
        notices.append(left_out)
    saturated = m.saturation(rows, measured)
    if saturated:
        notices.append(saturated)
    if prices is None:
        prices = load_prices()
        used = [specs.group_device(g).name for p in spec.pools for g in p.replica.groups]
        if not all(name in _own_prices(spec) for name in used):
            notices.append(
                Notice(
                    "example-prices",
                    f"prices are the example file of {prices.date}; give your own",
                    "money",
                )
            )
    values: dict[str, float | int | None] = {}
    reasons: dict[str, str] = {}
    for part in (
        (m.counts(rows, measured), {}),
        m.throughput(rows, inputs, outputs, span_s),
        m.latency_metrics(seen, output, saturated is not None),
        m.gap_metrics(*sim.gaps_between_tokens, saturated is not None, _emitting_s(rows)),
        _usage(sim, lowered, models, windows, blocks, provisioned),
        _energy(spec, windows, busy_j, span_s, provisioned, inputs, outputs, rows),
        _money(spec, prices, span_s, provisioned, inputs, outputs, rows),
        m.attainment(seen, output, slo, measured.span_s) if slo else ({}, {}),
    ):
        values.update(part[0])
        reasons.update(part[1])
    m.finite(values)
    rejected = values["requests_rejected"]
    if rejected:
        notices.append(
            Notice(
                "rejected",
                f"{rejected:,} requests can never fit: {values['requests_rejected_context']:,} exceed the context, "
                f"{values['requests_rejected_memory']:,} the KV memory",
            )
        )
    times, ops = _shares(lowered, sim.row_x)
    metrics = Metrics(values, reasons, tuple(notices))
    return Result(
        spec=spec,
        step_models=models,
        rows=rows,
        input_tokens=inputs,
        output_tokens=outputs,
        windows=windows,
        power_w=power_w,
        kv_blocks=blocks,
        metrics=metrics,
        time_shares=times,
        op_shares=ops,
        mean_states=_mean_states(lowered, windows),
        measured=measured,
        verdicts=tuple(m.judge(slo, metrics, seen, output)) if slo else (),
        until_ns=until_ns,
    )


def _columns(requests: Requests) -> tuple[Ints, Ints, Any]:
    """Input and output tokens, and which fail as recorded."""
    failed = requests.extra.get("failed", np.zeros(len(requests), bool))
    return requests.input_tokens, requests.output_tokens, failed


def _emitting_s(rows: Finished) -> float | None:
    """Seconds from first to last tokens, over all; None where one that had begun did not end."""
    begun, over = rows.first_token_ns >= 0, rows.last_token_ns >= 0
    if not (begun == over).all():
        return None
    return float((rows.last_token_ns - rows.first_token_ns)[over].sum() / 1e9)


def _window(span_s: float, replicas: int) -> float:
    """A round width that makes about 600 windows of the span, fewer for many replicas."""
    steps = (0.1, 0.2, 0.5, 1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600)
    most = max(1, min(600, 600_000 // replicas))
    return next((float(w) for w in steps if span_s / w <= most), max(3600.0, span_s / most))


def _ratio(a: Floats, b: Floats) -> Floats:
    """a / b, 0 where b is 0."""
    return np.divide(a, b, out=np.zeros_like(a), where=b > 0)


def _work(
    lowered: Sequence[Engine], models: Sequence[StepModel], windows: Windows
) -> tuple[Floats, Floats]:
    """[rows of windows] MFU and MBU while busy: work over what the replica's devices could do on paper."""
    pool_of = np.repeat(np.arange(len(lowered)), [e.replicas for e in lowered])[windows.replica]
    mfu, mbu = np.zeros(len(windows)), np.zeros(len(windows))
    for i, (e, model) in enumerate(zip(lowered, models, strict=True)):
        at = pool_of == i
        x = windows.x[at][:, : len(e.rows.flops)]
        rates = [model.rates[g] for g in ("main", AWAY) if g in model.rates]
        busy = windows.busy_s[at]
        mfu[at] = _ratio(x @ e.rows.flops, busy * sum(r.peak_flops_per_s for r in rates))
        mbu[at] = _ratio(x @ e.rows.bytes, busy * sum(r.peak_bytes_per_s for r in rates))
    return mfu, mbu


def _power(
    spec: Serving,
    lowered: Sequence[Engine],
    windows: Windows,
    power: PowerModel,
    provisioned: Floats | None,
) -> tuple[Floats, Floats]:
    """[rows of windows] mean watts of each replica's devices, and joules above nothing while busy. ``provisioned``: seconds
    of replicas that come and go; when they did is not known, so their idle watts are spread over all time without work."""
    pool_of = np.repeat(np.arange(len(lowered)), [e.replicas for e in lowered])[windows.replica]
    mean, busy_j = np.zeros(len(windows)), np.zeros(len(windows))
    for i, (pool, e) in enumerate(zip(spec.pools, lowered, strict=True)):
        at = pool_of == i
        x = windows.x[at][:, : len(e.rows.flops)]
        busy = windows.busy_s[at] / (windows.window_ns / 1e9)
        off = np.zeros(len(x))
        if provisioned is not None:
            width, who = windows.window_ns / 1e9, windows.replica[at]
            worked = np.bincount(who, windows.busy_s[at], len(provisioned))
            free = np.asarray(np.bincount(who, minlength=len(provisioned)) * width - worked, float)
            off = (1.0 - np.clip(_ratio(provisioned - worked, free), 0.0, 1.0))[who]
        for g in pool.replica.groups:
            device, group = specs.group_device(g), AWAY if g.part == "attention" else "main"
            shares = [
                np.minimum(1.0, _ratio(x @ e.rows.seconds_on(*r, group=group), windows.busy_s[at]))
                for r in POWERED
            ]
            mean[at] += g.n * power.mean_w(device, np.minimum(busy, 1.0), *shares)
            mean[at] -= g.n * (1.0 - np.minimum(busy, 1.0)) * off * device.idle_w.value
            busy_j[at] += g.n * power.busy_w(device, *shares) * windows.busy_s[at]
    return mean, busy_j


def _usage(
    sim: Simulation,
    lowered: Sequence[Engine],
    models: Sequence[StepModel],
    windows: Windows,
    blocks: Ints,
    provisioned: Floats,
) -> tuple[dict[str, float | int | None], dict[str, str]]:
    """``provisioned``: seconds of each replica."""
    busy = float(windows.busy_s.sum())
    mfu, mbu = _work(lowered, models, windows)
    room, up_s = float(blocks @ provisioned), float(provisioned.sum())
    why = "there was no iteration" if up_s > 0 else "the run has no span"
    values: dict[str, float | int | None] = {
        "iterations": int(windows.iterations.sum()),
        "busy_frac": busy / up_s if up_s > 0 else None,
        "batch_mean": float(windows.sequence_s.sum()) / busy if busy > 0 else None,
        "kv_mean_frac": float(windows.block_s.sum()) / room if room > 0 else None,
        "kv_peak_frac": float((sim.peak_blocks / blocks).max()),
        "kv_tokens": sum(e.blocks * e.block_size * e.replicas for e in lowered),
        "mfu_busy_mean": float(mfu @ windows.busy_s) / busy if busy > 0 else None,
        "mbu_busy_mean": float(mbu @ windows.busy_s) / busy if busy > 0 else None,
    }
    if any(e.prefix_unit for e in lowered):
        values["cached_prompt_tokens"] = int(sim.cached_tokens.sum())
    return values, {name: why for name, v in values.items() if v is None}


def _tokens(inputs: Ints, outputs: Ints, rows: Finished) -> tuple[int, int]:
    ok = rows.status == k.OK
    out = int(outputs[ok].sum())
    return int(inputs[ok].sum()) + out, out


def _energy(
    spec: Serving,
    windows: Windows,
    busy_j: Floats,
    span_s: float,
    provisioned: Floats,
    inputs: Ints,
    outputs: Ints,
    rows: Finished,
) -> tuple[dict[str, float | int | None], dict[str, str]]:
    """Joules of all provisioned devices over the span: busy power while busy, idle power otherwise."""
    energy = float(busy_j.sum())
    replica = 0
    for pool in spec.pools:
        idle_w = sum(g.n * specs.group_device(g).idle_w.value for g in pool.replica.groups)
        for _ in range(pool.count):
            busy = float(windows.busy_s[windows.replica == replica].sum())
            energy += idle_w * max(0.0, float(provisioned[replica]) - busy)
            replica += 1
    total, out = _tokens(inputs, outputs, rows)
    values: dict[str, float | int | None] = {
        "energy_j": energy,
        "power_mean_w": energy / span_s if span_s > 0 else None,
        "energy_per_total_token_j": energy / total if total else None,
        "energy_per_output_token_j": energy / out if out else None,
    }
    return values, {n: "nothing was completed" for n, v in values.items() if v is None}


def _own_prices(spec: Serving) -> dict[str, Quantity]:
    from ..hardware import device

    return {
        device(n).name: Quantity(p, "USD/h", "the spec", "assumed") for n, p in spec.prices.items()
    }


def _money(
    spec: Serving,
    prices: Prices,
    span_s: float,
    provisioned: Floats,
    inputs: Ints,
    outputs: Ints,
    rows: Finished,
) -> tuple[dict[str, float | int | None], dict[str, str]]:
    """``provisioned``: seconds of each replica."""
    own = replace(prices, usd_per_h={**prices.usd_per_h, **_own_prices(spec)})
    of_pool = np.repeat(np.arange(len(spec.pools)), [p.count for p in spec.pools])
    replicas = np.bincount(of_pool, provisioned, len(spec.pools)) / span_s if span_s > 0 else np.array([p.count for p in spec.pools])  # fmt: skip
    groups = [(float(n), g) for p, n in zip(spec.pools, replicas, strict=True) for g in p.replica.groups]  # fmt: skip
    kinds = [(n * g.n, own.of(g.gpu)) for n, g in groups]
    b = bill(kinds, span_s / 3600.0)
    total, out = _tokens(inputs, outputs, rows)
    values: dict[str, float | int | None] = {
        "devices": spec.devices,
        "device_hours": b.device_hours,
        "usd_per_hour": b.usd_per_hour,
        "usd": b.usd,
        "usd_per_m_total_tokens": b.per_million(total),
        "usd_per_m_output_tokens": b.per_million(out),
    }
    missing = sorted({g.gpu for _, g in groups if own.of(g.gpu) is None})
    why = f"no price for {', '.join(missing)}" if missing else "nothing was completed"
    return values, {n: why for n, v in values.items() if v is None}


def _mean_states(lowered: Sequence[Engine], windows: Windows) -> tuple[State | None, ...]:
    """[pools] the state averaged over iterations."""
    pool_of = np.repeat(np.arange(len(lowered)), [e.replicas for e in lowered])[windows.replica]
    out: list[State | None] = []
    for i in range(len(lowered)):
        one, d, p, q, s, c = windows.x[pool_of == i, : k.X_TABLES].sum(axis=0).tolist()
        out.append(State(d / one, p / one, q / one, s / one, c / one) if one > 0 else None)
    return tuple(out)


def _shares(
    lowered: Sequence[Engine], row_x: Floats
) -> tuple[dict[str, float], tuple[dict[str, float], ...]]:
    """Shares of all busy time by resource, and by operator of each pool: each part's coefficients times the state its row
    won with."""
    by_resource = dict.fromkeys(RESOURCES, 0.0)
    by_op: tuple[dict[str, float], ...] = tuple({} for _ in lowered)
    first = 0
    for e, ops in zip(lowered, by_op, strict=True):
        r: Rows = e.rows
        width = r.part_coef.shape[1]
        for i, row in enumerate(r.part_row.tolist()):
            seconds = float(r.part_coef[i] @ row_x[first + row, :width])
            by_resource[r.part_resource[i]] += seconds
            ops[r.part_op[i]] = ops.get(r.part_op[i], 0.0) + seconds
        first += len(r.ends)
    total = sum(by_resource.values())
    if total <= 0:
        return {}, tuple({} for _ in lowered)
    return {n: v / total for n, v in by_resource.items()}, tuple(
        {n: v / total for n, v in ops.items()} for ops in by_op
    )

"""Measured operating points (the ``operating_points.csv`` layout), the rules by which rows are rejected, and what
the cost model says of the rest.

A point is one configuration under one load with what was measured. TPOT under a closed loop is not a bare decode
step: while a sequence decodes, others arrive and prefill beside it.

==========  ==================================================================================================
static      one batch: a prefill of all prompts, then decode steps
closed      N users, each sends the next prompt when the last answer ends: TPOT = t(N decode) + (N − 1)/o · prefill
open        requests at a rate λ: TPOT = t(D)/(1 − λ · prefill), D = λ · o · TPOT (Little)
saturated   a mean batch of N, median gap between tokens: t(N decode), no prefill in the median step
==========  ==================================================================================================
"""

from __future__ import annotations

import csv
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from ..errors import DataError, LaminaError
from ..hardware import Device, Model, device, model
from .efficiency import Efficiency, ideal
from .memory import kv_memory
from .operators import transformer
from .step import State, StepModel

Mode = Literal["static", "closed", "open", "saturated", "throughput"]
MODES: Mapping[str, Mode] = {
    "static_batch": "static",
    "closed_loop_agg": "closed",
    "open_loop_poisson_trace": "open",
    "saturated_max_num_seqs": "saturated",
    "mlperf_offline_closed": "throughput",
    "mlperf_offline_open": "throughput",
}
METRICS = {
    "tpot_ms": "tpot_s",
    "tpot_ms_median": "tpot_s",
    "tpot_ms_mean": "tpot_s",
    "itl_ms_p50": "tpot_s",
    "ttft_ms": "ttft_s",
    "ttft_ms_mean": "ttft_s",
    "prefill_time_ms": "ttft_s",
    "output_tok_per_s": "output_tok_s",
    "gpu_power_w_total": "power_w",
}
DTYPES = {"": None, "bf16": "bf16", "bfloat16": "bf16", "fp16": "fp16", "float16": "fp16"}
CHUNK = 2048
"""prompt tokens that one iteration takes."""
INPUT_TOKENS = {"lm-arena-chat": 200, "gpqa": 250, "": 250}
"""assumed where a source publishes no input lengths (ML.ENERGY): by task."""
OPEN_ORCA = (155, 294)
"""mean input and output tokens of MLPerf's Llama-2-70B data set (assumed, from memory)."""

RULES = {
    "suspect": "the collection marks the row as suspect",
    "metric": "a metric or mode that the model does not predict",
    "unknown": "a model or GPU that the catalogue lacks",
    "incomplete": "load, lengths or value are missing or not positive",
    "parallel": "a parallel degree that is impossible: not a power of two, does not divide heads, more ways than GPUs",
    "duplicate": "the same configuration, load and metric again with the same value",
    "memory": "the weights, or a single sequence, do not fit",
    "overfull": "more sequences than the KV memory holds: the engine queued or preempted",
    "faster-than-light": "TPOT below weights and caches over peak bandwidth: speculative decoding or mislabelled",
}
"""why rows are left out, in the order in which the rules are applied."""


@dataclass(frozen=True)
class Point:
    """One configuration under one load. ``measured``: seconds, tokens/s, watts (all GPUs) by name."""

    source: str
    model: Model
    device: Device
    tp: int
    dp: int
    ep: int
    replicas: int
    """copies of the tp·dp devices; the load is spread over them."""
    engine: str
    dtype: str
    mode: Mode
    load: float
    input: float
    output: float
    measured: Mapping[str, float] = field(default_factory=dict)

    @property
    def era(self) -> str:
        return "2023" if "2023" in self.engine else "2025"

    @property
    def gpus(self) -> int:
        return self.tp * self.dp * self.replicas

    @property
    def moe(self) -> bool:
        return self.model.experts > 1

    @property
    def context(self) -> float:
        return self.input + self.output / 2

    def step(self, efficiency: Efficiency, combine: Literal["sum", "max"] = "max") -> StepModel:
        return transformer(
            self.model,
            self.device,
            efficiency,
            tp=self.tp,
            dp=self.dp,
            ep=self.ep,
            dtype=self.dtype,
            combine=combine,
            context=self.context,
        )

    @property
    def users(self) -> float:
        """Load of one copy."""
        return self.load / self.replicas


@dataclass(frozen=True)
class Points:
    """``kept`` points and how many rows each rule rejected."""

    kept: list[Point]
    rows: int
    rejected: Mapping[str, int]


def read_points(path: Path) -> Points:
    """Read a table of operating points. Raises DataError for a file that lacks the columns."""
    try:
        with path.open(newline="", encoding="utf-8") as f:
            rows = list(csv.DictReader(f))
    except (OSError, UnicodeDecodeError, csv.Error) as e:
        raise DataError(f"cannot be read: {e}", "give an operating_points.csv", path=path) from e
    needed = {"model", "gpu", "tp", "metric", "value", "mode", "load"}
    if not rows or needed - set(rows[0]):
        raise DataError(
            f"lacks the columns {', '.join(sorted(needed - set(rows[0] if rows else ())))}",
            "see the layout in docs/cost-model.md",
            path=path,
        )
    rejected: Counter[str] = Counter()
    found: dict[tuple[object, ...], dict[str, list[float]]] = {}
    about: dict[tuple[object, ...], Point] = {}
    for row in rows:
        got = _point(row)
        if isinstance(got, str):
            rejected[got] += 1
            continue
        metric, value = METRICS[row["metric"]], float(row["value"])
        scale = 1e-3 if metric.endswith("_s") and metric != "output_tok_s" else 1.0
        key = tuple(getattr(got, n) for n in got.__dataclass_fields__ if n != "measured")
        key = tuple(x.name if isinstance(x, Model | Device) else x for x in key)
        values = found.setdefault(key, {}).setdefault(metric, [])
        if value * scale in values:
            rejected["duplicate"] += 1
        else:
            values.append(value * scale)
        about.setdefault(key, got)
    kept = []
    for key, metrics in found.items():
        p = about[key]
        why = _impossible(p, metrics)
        if why:
            rejected[why] += sum(map(len, metrics.values()))
            continue
        # repeated runs of one configuration are one point: their mean
        measured = {m: sum(v) / len(v) for m, v in metrics.items()}
        kept.append(Point(**{**p.__dict__, "measured": measured}))
    return Points(kept, len(rows), dict(rejected))


def _number(row: Mapping[str, str], name: str, default: float = 0.0) -> float:
    try:
        v = float(row.get(name) or default)
    except ValueError:
        return default
    return v if v == v and abs(v) < 1e15 else default


def _point(row: Mapping[str, str]) -> Point | str:
    """The row's configuration, or the rule that rejects it."""
    if "SUSPECT" in (row.get("extra") or ""):
        return "suspect"
    if row["metric"] not in METRICS or row["mode"] not in MODES:
        return "metric"
    mode = MODES[row["mode"]]
    try:
        m = model(row["model"].removesuffix("-99.9").removesuffix("-99"))
        d = device(row["gpu"])
    except LaminaError:
        return "unknown"
    precision = row.get("precision") or ""
    dtype = DTYPES.get(precision, precision) or "bf16"
    if dtype == "UNSET":
        dtype = "fp8"
    if dtype == "fp4" and m.native == "mxfp4":
        dtype = "mxfp4"
    load, inp, out = (_number(row, n) for n in ("load", "input_tokens", "output_tokens"))
    tp, dp, ep = (int(_number(row, n, 1.0)) or 1 for n in ("tp", "dp", "ep"))
    gpus = int(_number(row, "n_gpus", tp)) or tp
    if mode == "throughput":
        inp, out = OPEN_ORCA
        tp = next((t for t in (1, 2, 4, 8) if m.weight_bytes(dtype) < 0.7 * t * d.memory_bytes), 8)
        load = 1024.0 * gpus / tp
    if mode == "saturated":
        task = (row.get("extra") or "").partition("task=")[2].partition(";")[0]
        inp = inp or INPUT_TOKENS.get(task, INPUT_TOKENS[""])
    if load <= 0 or inp <= 0 or out <= 0 or _number(row, "value") <= 0:
        return "incomplete"
    # With data-parallel attention a source may write its width as tp and again as dp.
    if dp > 1 and tp == gpus:
        tp = max(1, gpus // dp)
    if m.experts == 1:
        dp = ep = 1
    if ep > 1 and tp * dp < ep <= gpus:
        # experts over all GPUs: attention is copied on those that it does not share (ML.ENERGY)
        dp = ep // tp
    bad = any(x & (x - 1) for x in (tp, dp, ep)) or tp * dp > gpus or gpus % (tp * dp)
    if bad or m.heads % tp or tp > d.peers.value:
        return "parallel"
    return Point(
        source=row.get("source") or "",
        model=m,
        device=d,
        tp=tp,
        dp=dp,
        ep=ep if ep <= tp * dp else 1,
        replicas=gpus // (tp * dp),
        engine=row.get("engine") or "",
        dtype=dtype,
        mode=mode,
        load=load,
        input=inp,
        output=out,
    )


def _impossible(p: Point, metrics: Mapping[str, Iterable[float]]) -> str | None:
    try:
        kv = kv_memory(
            p.model,
            p.device,
            tp=p.tp,
            dp=p.dp,
            ep=p.ep,
            dtype=p.dtype,
            utilisation=0.95,
            reserve_gb=1.0,
            context=p.context,
        )
        floor = p.step(ideal())
    except LaminaError:
        return "memory"
    if p.mode in ("closed", "static") and p.users * p.context > 1.1 * kv.tokens:
        return "overfull"
    for value in metrics.get("tpot_s", ()):
        if value < floor.seconds(State.decode(p.users, p.context)):
            return "faster-than-light"
    return None


def prefill_s(step: StepModel, tokens: float, chunk: int = CHUNK) -> float:
    """Seconds of one prompt alone, in chunks, each an iteration of its own."""
    total, done = 0.0, 0.0
    while done < tokens:
        part = min(chunk, tokens - done)
        total += step.seconds(State.prefill(part, done))
        done += part
    return total


def beside_s(step: StepModel, decoding: State, tokens: float, chunk: int = CHUNK) -> float:
    """Seconds that one prompt's chunks add to the decode steps that carry them."""
    alone = step.seconds(decoding)
    total, done = 0.0, 0.0
    while done < tokens:
        part = min(chunk, tokens - done)
        total += step.seconds(decoding + State.prefill(part, done)) - alone
        done += part
    return total


def predict(p: Point, efficiency: Efficiency) -> dict[str, float]:
    """tpot_s, ttft_s, output_tok_s, and the mean iteration's mfu and mbu, of one copy's share of the load."""
    return predict_step(p, p.step(efficiency))


def predict_step(p: Point, step: StepModel) -> dict[str, float]:
    n, i, o = p.users, p.input, p.output
    if p.mode == "static":
        batch = State(p=n * i, Q=n * i * (i + 1) / 2, C=n * i)
        return {"ttft_s": step.seconds(batch), "tpot_s": step.seconds(State.decode(n, p.context))}
    if p.mode == "open":
        prefill, tpot = prefill_s(step, i), 0.0
        for _ in range(20):
            d = max(1.0, n * o * tpot)
            tpot = step.seconds(State.decode(d, p.context)) / max(0.05, 1 - n * prefill)
        return {"ttft_s": prefill + tpot / 2, "tpot_s": tpot}
    decode = State.decode(n, p.context)
    t = step.seconds(decode)
    if p.mode == "saturated":
        # the median gap is a plain decode step; tokens per second count prefills too
        beside = beside_s(step, decode, i)
        return {"tpot_s": t, "output_tok_s": p.replicas * n / (t + n / o * beside)}
    beside = beside_s(step, decode, i)
    tpot = t + (n - 1) / o * beside
    return {
        "tpot_s": tpot,
        "ttft_s": prefill_s(step, i) + t / 2,
        "output_tok_s": p.replicas * n / tpot,
    }

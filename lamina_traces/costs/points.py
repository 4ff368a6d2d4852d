"""Measured operating points (the ``operating_points.csv`` layout), the rules by which rows are rejected, and what
the cost model says of the rest.

A point is one configuration under one load with what was measured. TPOT under a closed loop is not a bare decode
step: while a sequence decodes, others arrive and prefill beside it.

==========  ==================================================================================================
static      one batch: a prefill of all prompts, then decode steps
closed      N users, each sends the next prompt when the last answer ends: TPOT = t(N decode) + (N − 1)/o · prefill
burst       N requests at once: TTFT = (N + 1)/2 · prefill, TPOT = t(N decode) + (N − 1)/2o · prefill
open        requests at a rate λ: TPOT = t(D)/(1 − λ · prefill), D = λ · o · TPOT (Little)
saturated   a mean batch of N, median gap between tokens: t(N decode) and the prefills of a median step
==========  ==================================================================================================
"""

from __future__ import annotations

import csv
import math
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

from ..errors import DataError, LaminaError
from ..hardware import BYTES, Device, Model, device, model
from ..units import Quantity
from .efficiency import ERAS, Efficiency, ideal
from .memory import kv_memory
from .operators import Parallel, transformer
from .step import State, StepModel

Mode = Literal["static", "closed", "burst", "open", "saturated", "throughput"]
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
FRONT_END_S = Quantity(
    0.02,
    "s",
    "fitted on InferenceX TTFTs: parsing, tokenizing and streaming, as seen by a client",
    "fitted",
)
STARTERS = Quantity(
    0.1, "", "InferenceX sends ten requests a user, all users start at once; from memory", "assumed"
)
"""share of the requests of a closed loop that are a user's first."""
INPUT_TOKENS = {"lm-arena-chat": 200, "gpqa": 250, "sourcegraph-fim": 1500, "": 250}
"""assumed where a source publishes no input lengths (ML.ENERGY): by task."""
OPEN_ORCA = (155, 294)
"""mean input and output tokens of MLPerf's Llama-2-70B data set (assumed, from memory)."""

RULES = {
    "suspect": "the collection marks the row as suspect",
    "logged": "requests/ has the log of every request: it is replayed in the simulator instead",
    "metric": "a metric or mode that the model does not predict",
    "unknown": "a model or GPU that the catalogue lacks",
    "incomplete": "load, lengths or value are missing or not positive",
    "parallel": "a parallel degree that is impossible: not a power of two, does not divide heads, more GPUs than a server joins",
    "duplicate": "the same configuration, load and metric again with the same value",
    "memory": "the weights, or a single sequence, do not fit",
    "overfull": "more sequences than the KV memory holds: the engine queued or preempted",
    "queued": "more than half of a request's time passed before its first token: the stated load did not run",
    "speculative": "the model is published with a head for further tokens, and this version of the engine is 1.4 times as "
    "fast as another on the same configurations: speculative decoding, which the source does not record",
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
    kv_dtype: str | None
    mode: Mode
    load: float
    input: float
    output: float
    measured: Mapping[str, float] = field(default_factory=dict)

    @property
    def era(self) -> str:
        """The software era by what is known of the source: splitwise-sim is of 2023; ML.ENERGY and APEX measured
        vLLM at clients, with synchronous schedulers."""
        if "2023" in self.engine:
            return "2023"
        return "2025-sync" if self.source.startswith(("ml.energy", "apex")) else "2025"

    @property
    def parallel(self) -> Parallel:
        return Parallel(self.tp, dp=self.dp, ep=self.ep)

    @property
    def gpus(self) -> int:
        return self.tp * self.dp * self.replicas

    @property
    def moe(self) -> bool:
        return self.model.experts > 1

    @property
    def context(self) -> float:
        return self.input + self.output / 2

    def step(self, efficiency: Efficiency) -> StepModel:
        return transformer(
            self.model,
            self.device,
            efficiency,
            self.parallel,
            dtype=self.dtype,
            kv_dtype=self.kv_dtype,
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


COLUMNS = ("model", "gpu", "tp", "metric", "value", "mode", "load")
"""what a table of operating points cannot do without."""


def read_points(path: Path) -> Points:
    """Read a table of operating points. Raises DataError for a file that lacks the columns."""
    return points_of(read_rows(path))


def read_rows(path: Path) -> list[dict[str, str]]:
    """The rows of a table of operating points. Raises DataError for a file that lacks the columns."""
    try:
        with path.open(newline="", encoding="utf-8") as f:
            rows = list(csv.DictReader(f))
    except (OSError, UnicodeDecodeError, csv.Error) as e:
        raise DataError(f"cannot be read: {e}", "give an operating_points.csv", path=path) from e
    lacking = sorted(set(COLUMNS) - set(rows[0] if rows else ()))
    if lacking:
        raise DataError(
            f"lacks the columns {', '.join(lacking)}",
            "see the layout in docs/cost-model.md",
            path=path,
        )
    return rows


def points_of(rows: Sequence[Mapping[str, str]]) -> Points:
    """The points of rows in the ``operating_points.csv`` layout, and what the rules reject."""
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
    speculative = _speculative({k: (about[k], v) for k, v in found.items()})
    kept = []
    for key, metrics in found.items():
        p = about[key]
        # repeated runs of one configuration are one point: their mean
        measured = {m: sum(v) / len(v) for m, v in metrics.items()}
        p = replace(p, measured=measured)
        fast = (*_family(p), p.engine) in speculative
        why = "speculative" if fast else _impossible(p)
        if why:
            rejected[why] += sum(map(len, metrics.values()))
        else:
            kept.append(_burst(p))
    return Points(kept, len(rows), dict(rejected))


def _family(p: Point) -> tuple[str, ...]:
    return (p.source, p.model.name, p.device.name, p.dtype, engine_family(p.engine))


def engine_family(engine: str) -> str:
    return re.split(r"[-\s]", engine.lower(), maxsplit=1)[0]


def _speculative(
    found: Mapping[tuple[object, ...], tuple[Point, Mapping[str, list[float]]]],
) -> set[tuple[str, ...]]:
    """(family, engine version) of runs that are 1.4 times as fast as another version's on the same configurations
    (geometric mean), for models that are published with a head for further tokens."""
    alike: dict[tuple[object, ...], dict[str, float]] = {}
    for p, metrics in found.values():
        if "mtp" in p.model.flags and "tpot_s" in metrics:
            key = (*_family(p), p.tp, p.dp, p.gpus, p.load, p.input, p.output)
            mean = sum(metrics["tpot_s"]) / len(metrics["tpot_s"])
            alike.setdefault(key, {})[p.engine] = mean
    ratios: dict[tuple[object, ...], list[float]] = {}
    for key, by in alike.items():
        for fast in by:
            for slow in by:
                if fast != slow:
                    pair = (*key[:5], fast, slow)
                    ratios.setdefault(pair, []).append(math.log(by[slow] / by[fast]))
    return {pair[:6] for pair, r in ratios.items() if sum(r) / len(r) > math.log(1.4)}  # type: ignore[misc]


def _burst(p: Point) -> Point:
    """A closed loop whose TTFT says that all users start at once (0.7 of what a burst would give)."""
    if p.mode == "closed" and "ttft_s" in p.measured and p.users >= 16:
        whole = predict_step(replace(p, mode="burst"), p.step(ERAS["2025"]))
        if p.measured["ttft_s"] > 0.7 * whole["ttft_s"]:
            return replace(p, mode="burst")
    return p


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
    if "per-request file" in (row.get("extra") or ""):
        return "logged"
    if row["metric"] not in METRICS or row["mode"] not in MODES:
        return "metric"
    mode = MODES[row["mode"]]
    try:
        m = model(row["model"].removesuffix("-99.9").removesuffix("-99"))
        d = device(row["gpu"])
    except LaminaError:
        return "unknown"
    precision = row.get("precision") or ""
    dtype = DTYPES.get(precision, precision) or m.native
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
        # vLLM's experts are spread over tp·dp devices: a width beyond dp is the attention's tensor parallelism
        tp = ep // dp
    bad = any(x & (x - 1) for x in (tp, dp, ep)) or tp * dp > gpus or gpus % (tp * dp)
    if bad or m.heads % tp or (gpus > d.peers.value and mode != "throughput"):
        return "parallel"
    engine = (row.get("engine") or "").lower()
    # TensorRT-LLM's quantized checkpoints state an 8-bit KV cache; vLLM keeps two bytes unless told otherwise
    eight = BYTES[dtype] < 2 and ("tensorrt" in engine or "trtllm" in engine)
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
        kv_dtype="fp8" if eight else None,
        mode=mode,
        load=load,
        input=inp,
        output=out,
    )


def _impossible(p: Point) -> str | None:
    """The rule by which the point is left out, if any."""
    tpot, ttft = p.measured.get("tpot_s"), p.measured.get("ttft_s")
    if tpot and ttft and p.mode == "closed" and ttft > p.output * tpot:
        return "queued"
    try:
        kv = kv_memory(
            p.model,
            p.device,
            p.parallel,
            dtype=p.dtype,
            kv_dtype=p.kv_dtype,
            utilisation=0.95,
            reserve_gb=1.0,
            context=p.context,
        )
        rows = p.step(ideal()).explain(State.decode(p.users, p.context))
    except LaminaError:
        return "memory"
    if p.mode in ("closed", "static") and p.users * p.context > 1.1 * kv.tokens:
        return "overfull"
    peak = p.device.bytes_per_s * p.parallel.devices
    if tpot and tpot < sum(r.bytes for r in rows) / peak:
        return "faster-than-light"
    return None


Weighted = list[tuple[float, State]]
"""seconds of a step in each state, times its weight, added up."""


def chunks(tokens: float, beside: State | None = None, chunk: int = CHUNK) -> list[State]:
    """The iterations that take one prompt, each beside what decodes meanwhile."""
    out, done = [], 0.0
    while done < tokens:
        part = min(chunk, tokens - done)
        out.append((beside or State()) + State.prefill(part, done))
        done += part
    return out


def tpot_states(p: Point, decoding: float | None = None) -> Weighted:
    """TPOT as a weighted sum of iterations (the table above). ``decoding``: sequences of an open loop."""
    n, i, o = p.users, p.input, p.output
    decode = State.decode(n if decoding is None else decoding, p.context)
    if p.mode == "burst":
        return [(1.0, decode), *(((n - 1) / (2 * o), c) for c in chunks(i))]
    if p.mode == "closed":
        share = (n - 1) / o
    elif p.mode == "saturated":
        # n/o prompts arrive in a mean step, so many in the median one
        share = math.floor(n / o + 1 / 3)
    elif p.mode == "throughput":
        share = n / o
    else:
        return [(1.0, decode)]
    beside = chunks(i, decode)
    return [(1.0 - share * len(beside), decode), *((share, c) for c in beside)]


def predict(p: Point, efficiency: Efficiency) -> dict[str, float]:
    """tpot_s, ttft_s and, for closed loops, output_tok_s."""
    return predict_step(p, p.step(efficiency))


def predict_step(p: Point, step: StepModel) -> dict[str, float]:
    def seconds(states: Weighted) -> float:
        return sum(weight * step.seconds(x) for weight, x in states)

    n, i, o = p.users, p.input, p.output
    prefill = sum(map(step.seconds, chunks(i)))
    if p.mode == "static":
        batch = State(p=n * i, Q=n * i * (i + 1) / 2, C=n * i)
        return {"ttft_s": step.seconds(batch), "tpot_s": seconds(tpot_states(p))}
    if p.mode == "open":
        tpot = 0.0
        for _ in range(20):
            d = min(256.0, max(1.0, n * o * tpot))
            tpot = seconds(tpot_states(p, d)) / max(0.05, 1 - n * prefill)
        return {"ttft_s": prefill + tpot / 2, "tpot_s": tpot}
    tpot = seconds(tpot_states(p))
    if p.mode == "burst":
        return {"tpot_s": tpot, "ttft_s": (n + 1) / 2 * prefill}
    if p.mode == "saturated":
        mean = seconds(tpot_states(replace(p, mode="throughput")))
        return {"tpot_s": tpot, "output_tok_s": p.replicas * n / mean}
    # A prompt waits for the step under way, for prompts before it (M/D/1), and runs beside the others' decoding; engines
    # that schedule a step ahead show the token a step later. All users start at once, so the first of a user's prompts
    # waits for half of them.
    beside = sum(map(step.seconds, chunks(i, State.decode(n - 1, p.context))))
    first = STARTERS.value
    busy = min(0.9, prefill * n / (o * tpot))
    wait = 1.5 * step.seconds(State.decode(n, p.context)) + busy / (2 * (1 - busy)) * prefill
    return {
        "tpot_s": tpot,
        "ttft_s": first * (n + 1) / 2 * prefill + (1 - first) * (wait + beside) + FRONT_END_S.value,
        "output_tok_s": p.replicas * n / tpot,
    }

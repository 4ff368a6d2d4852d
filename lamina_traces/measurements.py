"""Measured speed of serving engines, from traces and files, as operating points of the cost model.

Three kinds of sources: a table in the ``operating_points.csv`` layout (docs/cost-model.md), a trace with
``operating_points`` (ML.ENERGY, Splitwise), and a log of requests with latencies (vLLM bench, aiperf, guidellm, an
engine's log), which becomes one point for each tenth of its requests by load. A log does not say what it ran on:
the caller does (``Stated``).
"""

from __future__ import annotations

import csv
import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import polars as pl

from . import workloads
from .costs import ERAS
from .costs import era as known_era
from .costs.calibration import Calibrated, assess, timed
from .costs.points import COLUMNS, Point, Points, points_of, read_rows
from .errors import LaminaError, ModelError, Notice, UsageError
from .hardware import device, model
from .specs import Calibration, deployment_name
from .units import NS_PER_S

if TYPE_CHECKING:
    from .store import Trace

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
Row = dict[str, str]

FEWEST = 5
"""requests of a log that make one point."""
_ENGINES = {"mlenergy": ("ml.energy", "vllm"), "mlenergy_csv": ("ml.energy", "vllm")}
_ENGINES["splitwise_perf"] = ("splitwise-sim", "vllm-2023")
"""source and engine of formats that do not write them (from their papers)."""
_DGX = {"a100-80gb": "a100-80-sxm", "h100-80gb": "h100-sxm"}
"""GPUs as Splitwise names them: of DGX servers (ISCA 2024, section 5)."""


@dataclass(frozen=True)
class Stated:
    """What the caller says of the points: a filter where a source says it too, a fact where it does not."""

    model: str | None = None
    gpu: str | None = None
    tp: int | None = None
    dtype: str | None = None
    engine: str | None = None
    """text in the engine's name."""


@dataclass(frozen=True)
class Measured:
    """``points``: kept and rejected; ``rows``: all rows read; ``inputs``: (file name, sha256); ``names``: the models
    and GPUs of all rows, as their source spells them."""

    points: Points
    rows: int
    inputs: tuple[tuple[str, str], ...]
    names: tuple[str, ...] = ()


def read(
    sources: Sequence[str],
    stated: Stated,
    *,
    where: str | None = None,
    store: Path | None = None,
    say: Callable[[str], None] = lambda _: None,
) -> Measured:
    """The operating points of files and traces. UsageError where a log lacks model or GPU and the caller states none."""
    rows: list[Row] = []
    inputs: list[tuple[str, str]] = []
    names: dict[str, None] = {}
    total = 0
    for source in sources:
        path = Path(source)
        if where is None and path.is_file() and _is_table(path):
            found = [dict(r) for r in read_rows(path)]
            inputs.append((path.name, hashlib.sha256(path.read_bytes()).hexdigest()))
        else:
            trace = workloads.selected(
                workloads.trace(source, store=store, say=say), where, None, None
            )
            found = rows_of(trace, stated)
            inputs += [(i.name, i.sha256) for i in trace.manifest.inputs if i.sha256]
        total += len(found)
        names |= dict.fromkeys(f"{r['model']} on {r['gpu']}" for r in found)
        rows += [r for r in found if _is_stated(r, stated)]
    return Measured(points_of(rows), total, tuple(inputs), tuple(names))


def calibrate(
    measured: Measured, *, era: str | None = None, date: str = "", seed: int = 0
) -> tuple[Calibrated, Calibration, tuple[Notice, ...]]:
    """Efficiencies of the points that were read, toward the prior of their software era (``era`` None: theirs, if all
    are of one). ModelError where no point is left or they are of several eras."""
    points = [p for p in map(timed, measured.points.kept) if p is not None]
    if not points:
        rejected = ", ".join(f"{n} {r}" for r, n in sorted(measured.points.rejected.items()))
        raise ModelError(
            f"no point has a TPOT: of {measured.rows:,} rows {measured.points.rows:,} match what was asked for"
            + (f", rejected: {rejected}" if rejected else ""),
            f"there are {', '.join(measured.names[:8])}{', …' if len(measured.names) > 8 else ''}"
            if measured.names and not measured.points.rows
            else "see the rules in docs/cost-model.md, and --model, --gpu, --tp, --dtype, --engine",
        )
    eras = sorted({p.era for p in points})
    if era is None and len(eras) > 1:
        raise ModelError(
            f"the points are of several software eras: {', '.join(eras)}",
            f"add --era {eras[0]}, or --engine to take some of them",
        )
    prior = known_era(era or eras[0])
    deployments = tuple(sorted({_deployment(p) for p in points}))
    notices = []
    if len(deployments) > 1:
        notices.append(
            Notice(
                "several-deployments",
                f"three factors are fitted to {len(deployments)} deployments at once: {', '.join(deployments[:4])}"
                + (", …" if len(deployments) > 4 else ""),
                "points",
            )
        )
    fit = assess(points, prior, f"{len(points)} points, {date}", seed=seed)
    errors = {"tpot_before": float(np.abs(fit.before).mean())}
    if fit.left_out is not None:
        errors["tpot_left_out"] = float(np.abs(fit.left_out).mean())
    return (
        fit,
        Calibration(
            efficiency=fit.moved(),
            basis="fitted",
            date=date,
            era=next(n for n, e in ERAS.items() if e is prior),
            points=len(points),
            deployments=deployments,
            errors=errors,
            inputs=measured.inputs,
        ),
        tuple(notices),
    )


def _deployment(p: Point) -> str:
    return deployment_name(p.model.name, p.device.name, p.dtype)


def rows_of(trace: Trace, stated: Stated) -> list[Row]:
    """A trace's points as rows of the ``operating_points.csv`` layout. UsageError for a trace without any."""
    if "operating_points" in trace.tables:
        return _table_rows(trace)
    if "llm_requests" in trace.tables:
        return log_rows(requests(trace), facts(stated, trace.name))
    raise UsageError(
        f"trace {trace.name!r} holds no operating points and no requests",
        "give an operating_points.csv, or a benchmark's result",
    )


def requests(trace: Trace) -> pl.DataFrame:
    """The completed requests of a trace with their measured latencies, by start: row_id, start_ns, input_tokens,
    output_tokens, and in seconds queue_s, ttft_s, tpot_s, e2e_s (null where not recorded).

    ``start_ns``: when the engine queued it, where that is recorded, since latencies then count from there; else its
    arrival. UsageError where no latency is recorded.
    """
    measured = [c for c in ("ttft_s", "tpot_s", "e2e_s") if trace.has(c, "llm_requests")]
    if not measured:
        raise UsageError(
            f"trace {trace.name!r} records no latencies",
            "log the first and the last token's time of each request, or map ttft_s, tpot_s, e2e_s",
        )
    if not trace.has("arrival_ns", "llm_requests"):
        raise UsageError(
            f"trace {trace.name!r} records no arrivals, so the load is unknown",
            "log when each request was sent; vLLM bench writes start_times with --save-detailed",
        )
    wanted = ("row_id", "arrival_ns", "queued_ns", "input_tokens", "output_tokens", "status")
    columns = [c for c in (*wanted, "queue_s", *measured) if trace.has(c, "llm_requests")]
    frame = trace.scan("llm_requests").select(columns).collect()
    frame = frame.filter(
        pl.col("status").is_in(["ok", "unknown"]) & pl.col("arrival_ns").is_not_null()
    )
    for name in ("queue_s", "ttft_s", "tpot_s", "e2e_s", "queued_ns"):
        if name not in frame.columns:
            kind = pl.Int64 if name == "queued_ns" else pl.Float64
            frame = frame.with_columns(pl.lit(None, dtype=kind).alias(name))
    # what two of the three latencies say of the third
    gaps = pl.col("output_tokens") - 1
    return (
        frame.with_columns(
            pl.coalesce("queued_ns", "arrival_ns").alias("start_ns"),
            pl.coalesce("e2e_s", pl.col("ttft_s") + pl.col("tpot_s") * gaps).alias("e2e_s"),
        )
        .with_columns(
            pl.when(gaps > 0)
            .then(pl.coalesce("tpot_s", (pl.col("e2e_s") - pl.col("ttft_s")) / gaps))
            .alias("tpot_s")
        )
        .drop("arrival_ns", "queued_ns", "status")
        .sort("start_ns", "row_id")
    )


def in_flight(start: Ints, end: Ints) -> tuple[Ints, Floats]:
    """[requests] how many requests were under way when each started (itself included), and on average over its life.
    ``start`` is sorted; both in ns."""
    ends = np.sort(end)
    at = np.arange(1, len(start) + 1) - np.searchsorted(ends, start, side="right")
    # requests that start together all count
    at = at[np.searchsorted(start, start, side="right") - 1]
    times = np.concatenate([start, ends])
    order = np.argsort(times, kind="stable")
    times, change = times[order], np.repeat([1, -1], len(start))[order]
    level = np.cumsum(change)[:-1]
    area = np.concatenate([[0.0], np.cumsum(level * np.diff(times).astype(float))])

    def upto(t: Ints) -> Floats:
        return np.asarray(np.interp(t - times[0], times - times[0], area))

    life = np.maximum(end - start, 1)
    return np.maximum(at, 1), np.maximum(1.0, (upto(end) - upto(start)) / life)


def tenths(load: npt.NDArray[Any]) -> Ints:
    """[requests] 0 to 9: in which tenth by load a request is; equal loads are in the same one."""
    rank = np.searchsorted(np.sort(load), load, side="left")
    return np.asarray(np.minimum(9, rank * 10 // max(1, len(load))), np.int64)


def facts(stated: Stated, source: str) -> Row:
    """What a log's points run on, as cells of the layout. UsageError where it is not stated."""
    if stated.model is None or stated.gpu is None:
        raise UsageError(
            f"{source} is a log of requests, which does not say what it ran on",
            "add --model and --gpu (and --tp, --dtype)",
        )
    tp = str(stated.tp or 1)
    return {
        "source": source,
        "model": stated.model,
        "gpu": stated.gpu,
        "n_gpus": tp,
        "tp": tp,
        "engine": stated.engine or "",
        "precision": stated.dtype or model(stated.model).native,
    }


def log_rows(
    frame: pl.DataFrame, on: Row, *, replicas: int = 1, before_ns: int | None = None
) -> list[Row]:
    """One row for each tenth by load of a log (``requests``): the mean TPOT of its requests, at the mean number of
    requests that decode during theirs (of each replica), one of which a new prompt replaces when it ends (mode closed).

    ``on``: the cells that say what it ran on. ``before_ns``: only requests that started before; the load counts all.
    """
    first = pl.col("start_ns") + (pl.col("ttft_s") * NS_PER_S).round().cast(pl.Int64)
    long = ((pl.col("e2e_s") - pl.col("ttft_s")) * NS_PER_S).round().cast(pl.Int64)
    known = (
        frame.filter(
            pl.all_horizontal(pl.col("ttft_s", "e2e_s", "tpot_s", "input_tokens").is_not_null())
            & (pl.col("e2e_s") > pl.col("ttft_s"))
            & (pl.col("tpot_s") > 0)
        )
        .with_columns(first.alias("first"), (first + long).alias("last"))
        .sort("first")
    )
    if known.height < FEWEST:
        raise ModelError(
            f"{on['source']} has {known.height} requests with ttft_s and e2e_s, too few for a point",
            f"give {FEWEST} or more",
        )
    load = in_flight(known["first"].to_numpy(), known["last"].to_numpy())[1] / replicas
    known = known.with_columns(load=np.maximum(1.0, load))
    if before_ns is not None:
        known = known.filter(pl.col("start_ns") < before_ns)
    known = known.with_columns(part=tenths(known["load"].to_numpy()))
    means = known.group_by("part").agg(
        pl.len(), pl.col("load", "input_tokens", "output_tokens", "tpot_s").mean()
    )
    return [
        {
            **on,
            "mode": "closed_loop_agg",
            **{c: repr(r[c]) for c in ("load", "input_tokens", "output_tokens")},
            "metric": "tpot_ms_mean",
            "value": repr(r["tpot_s"] * 1e3),
        }
        for r in means.sort("part").iter_rows(named=True)
        if r["len"] >= FEWEST
    ]


def _is_table(path: Path) -> bool:
    try:
        with path.open(newline="", encoding="utf-8") as f:
            return set(COLUMNS) <= set(next(csv.reader(f), ()))
    except (OSError, UnicodeDecodeError, csv.Error):
        return False


def _is_stated(row: Mapping[str, str], stated: Stated) -> bool:
    """Whether a row is of what the caller asks for."""
    for key, find in (("model", model), ("gpu", device)):
        wanted = getattr(stated, key)
        if wanted is not None:
            try:
                found = find(row[key])
            except LaminaError:
                return False
            if found.name != find(wanted).name:
                return False
    if stated.tp is not None and float(row.get("tp") or 1) != stated.tp:
        return False
    precision = {"bfloat16": "bf16", "float16": "fp16"}.get(row.get("precision", ""), row.get("precision"))  # fmt: skip
    if stated.dtype is not None and precision and precision != stated.dtype:
        return False
    return stated.engine is None or stated.engine.lower() in (row.get("engine") or "").lower()


def _table_rows(trace: Trace) -> list[Row]:
    """One row a metric of the table ``operating_points``."""
    source, engine = _ENGINES.get(trace.manifest.format, (trace.name, ""))
    out: list[Row] = []
    for r in trace.scan("operating_points").collect().iter_rows(named=True):
        extra = json.loads(r.get("extra") or "{}")

        def text(value: Any) -> str:
            return "" if value is None else str(value)

        base = {
            "source": source,
            "engine": engine,
            "model": text(r.get("model")),
            "gpu": _DGX.get(text(r.get("device_name")), text(r.get("device_name"))),
            "n_gpus": text(r.get("devices")),
            "tp": text(r.get("tensor_parallel")),
            "dp": text(extra.get("data_parallel")),
            "ep": text(extra.get("expert_parallel")),
            "precision": text(extra.get("weight_precision")),
            "input_tokens": text(r.get("input_tokens")),
            "output_tokens": text(r.get("output_tokens")),
            "extra": f"task={text(r.get('workload'))}",
            # ML.ENERGY writes the mean batch; elsewhere the batch is what ran
            "load": text(extra.get("avg_batch_size") or r.get("batch_size")),
            "mode": "saturated_max_num_seqs" if "avg_batch_size" in extra else "static_batch",
        }
        for column, metric, scale in (
            ("tpot_s", "tpot_ms_mean", 1e3),
            ("itl_p50_s", "itl_ms_p50", 1e3),
            ("ttft_s", "ttft_ms", 1e3),
            ("throughput_tps", "output_tok_per_s", 1.0),
            ("mean_power_w", "gpu_power_w_total", 1.0),
        ):
            if r.get(column) is not None:
                out.append({**base, "metric": metric, "value": repr(r[column] * scale)})
    return out

"""Measured power and speed of configurations: the ML.ENERGY leaderboard, and Splitwise's table.

ML.ENERGY (ml-energy/leaderboard, public/data/models/*.json): a document a model and task, a configuration
an object of its list; also flattened to CSV, a configuration a row. Power is of all GPUs together, steady
state. Configurations of diffusion models have other keys and are no rows of this format.

Splitwise (Mutinifni/splitwise-sim, MIT, data/perf_model.csv): peak and average power are FRACTIONS of the
GPU's rated power and 0 means not measured; times are ms. Runs of nominally 1024 and more output tokens
ended early (their e2e_time stays at 20 to 22 s), so their lengths do not hold.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import polars as pl

from .format import Context, Evidence, Field, Format

_NAMES: dict[str, tuple[str, str, str]] = {
    # name in the CSV: (cell, unit, canonical column)
    "model_id": ("text", "", "model"),
    "task": ("text", "", "workload"),
    "gpu_model": ("text", "", "device_name"),
    "num_gpus": ("tokens", "", "devices"),
    "tensor_parallel": ("tokens", "", "tensor_parallel"),
    "max_num_seqs": ("tokens", "", "batch_size"),
    "avg_output_len": ("number", "tokens", "output_tokens"),
    "avg_power_watts": ("number", "W", "mean_power_w"),
    "energy_per_token_joules": ("number", "J/token", "energy_per_token_j"),
    "output_throughput_tokens_per_sec": ("number", "tokens/s", "throughput_tps"),
    "median_itl_ms": ("seconds", "ms", "itl_p50_s"),
}
_NEEDED = ("avg_power_watts", "energy_per_token_joules", "output_throughput_tokens_per_sec")
_MORE = (
    "avg_batch_size", "weight_precision", "expert_parallel", "data_parallel",
    "p90_itl_ms", "p95_itl_ms", "p99_itl_ms", "total_params_billions", "activated_params_billions",
)  # fmt: skip
_OUTER = (
    "model_id",
    "task",
    "total_params_billions",
    "activated_params_billions",
    "weight_precision",
)
_ML_ENERGY = (
    *(
        Field(n, cell, unit, to, required=n in _NEEDED)  # type: ignore[arg-type]
        for n, (cell, unit, to) in _NAMES.items()
    ),
    # energy per token times the mean output, so it has no column
    Field("energy_per_request_joules", "number", "J", required=False),
)


def _ml_energy(frame: pl.DataFrame, _context: Context) -> pl.DataFrame:
    return frame.select(pl.col(n).alias(to) for n, (_, _, to) in _NAMES.items())


def _configurations(value: Any, _context: Context) -> Iterator[Mapping[str, Any]]:
    if not isinstance(value, dict) or not isinstance(value.get("configurations"), list):
        raise ValueError("no list of configurations in it")
    outer = {n: value[n] for n in _OUTER if value.get(n) is not None}
    for found in value["configurations"]:
        layout = found.get("parallelization") or {}
        row = {**outer, **{n: found[n] for n in (*_NAMES, *_MORE) if n in found}}
        row.update(
            {
                n: layout[n]
                for n in ("tensor_parallel", "expert_parallel", "data_parallel")
                if n in layout
            }
        )
        yield row


def _made(name: str, layout: str, syntax: str, evidence: Evidence, **more: Any) -> Format:
    return Format(
        name=name,
        title=f"ML.ENERGY leaderboard: LLM configurations ({layout})",
        table="operating_points",
        syntax=(syntax,),  # type: ignore[arg-type]
        fields=_ML_ENERGY,
        canonical=_ml_energy,
        clock="none",
        source="ml-energy/leaderboard, public/data/models (data: Apache-2.0)",
        evidence=evidence,
        quirks=(
            "avg_power_watts is of all GPUs",
            "batch_size is the limit max_num_seqs; the mean is in extra",
            "input lengths are not published",
        ),
        **more,
    )


ML_ENERGY = _made(
    "mlenergy",
    "a document a model and task",
    "json",
    "documentation",
    matches=lambda head: (
        {"configurations.avg_power_watts", "configurations.energy_per_token_joules"} <= head.keys
    ),
    unfold=_configurations,
)
ML_ENERGY_CSV = _made("mlenergy_csv", "flattened to CSV", "csv", "real file")


_SPLITWISE = (
    Field("model", "text", "", "model"),
    Field("hardware", "text", "", "device_name"),
    Field("prompt_size", "tokens", "tokens", "input_tokens"),
    Field("batch_size", "tokens", "", "batch_size"),
    Field("token_size", "tokens", "tokens", "output_tokens"),
    Field("peak_power", "number", "of the rated power", "peak_power_frac", required=False),
    Field("average_power", "number", "of the rated power", "mean_power_frac", required=False),
    Field("prompt_time", "seconds", "ms", "ttft_s", required=False),
    Field("token_time", "seconds", "ms", "tpot_s", required=False),
    Field("e2e_time", "seconds", "ms", "e2e_s", required=False),
    Field("tensor_parallel", "tokens", "", "tensor_parallel", required=False),
)


def _unmeasured(name: str) -> pl.Expr:
    return pl.when(pl.col(name) > 0).then(name)


def _splitwise(frame: pl.DataFrame, _context: Context) -> pl.DataFrame:
    return frame.select(
        "model",
        pl.col("hardware").alias("device_name"),
        pl.col("tensor_parallel").alias("devices"),
        "tensor_parallel",
        "batch_size",
        pl.col("prompt_size").cast(pl.Float64).alias("input_tokens"),
        pl.col("token_size").cast(pl.Float64).alias("output_tokens"),
        _unmeasured("peak_power").alias("peak_power_frac"),
        _unmeasured("average_power").alias("mean_power_frac"),
        pl.col("prompt_time").alias("ttft_s"),
        pl.col("token_time").alias("tpot_s"),
        pl.col("e2e_time").alias("e2e_s"),
    )


SPLITWISE = Format(
    name="splitwise_perf",
    title="Splitwise performance and power table",
    table="operating_points",
    syntax=("csv",),
    fields=_SPLITWISE,
    canonical=_splitwise,
    clock="none",
    source="Mutinifni/splitwise-sim (MIT), data/perf_model.csv",
    evidence="real file",
    quirks=(
        "power is a fraction of the GPU's rated power; 0 means not measured",
        "runs of nominally 1024 and more output tokens ended early: their lengths do not hold",
        "h100-80gb-pcap rows are computed from the h100 rows, not measured",
    ),
    matches=lambda head: (
        {"peak_power", "average_power", "prompt_time", "prompt_size", "token_size"}
        <= set(head.names)
    ),
)
FORMATS = (ML_ENERGY, ML_ENERGY_CSV, SPLITWISE)

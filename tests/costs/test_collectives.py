"""All-reduces against measured tables (folder in LAMINA_TRACES_GROUND_TRUTH): vLLM's own kernel, NCCL, DGX H100."""

from __future__ import annotations

import csv
import os
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from lamina_traces.costs import all_reduce_latency, era
from lamina_traces.hardware import device

FOLDER = os.environ.get("LAMINA_TRACES_GROUND_TRUTH")
pytestmark = [
    pytest.mark.real_data,
    pytest.mark.skipif(FOLDER is None, reason="LAMINA_TRACES_GROUND_TRUTH is not set"),
]
H100 = device("h100-sxm")


def ours_s(n: int, size: float) -> float:
    """Latency, and 2(n − 1)/n of the message over the link."""
    rate = H100.link_bytes_per_s * era("2025").network.value
    return all_reduce_latency(H100, era("2025"), n) + 2 * (n - 1) / n * size / rate


def test_large_messages_go_at_the_links_share() -> None:
    """The sizes of prefills, from 4 MB: NCCL and vLLM's own kernel on aiconfigurator's H100, Vidur's DGX."""
    folder = Path(str(FOLDER)) / "kernels"
    nccl = pl.read_parquet(folder / "aic_h100_sxm__comm__nccl__2.29.2__nccl_perf.parquet").filter(
        (pl.col("op_name") == "all_reduce") & (pl.col("nccl_dtype") == "half")
    )
    own = pl.read_parquet(
        folder / "aic_h100_sxm__comm__vllm__0.24.0__custom_allreduce_perf.parquet"
    ).filter(pl.col("backend") == "vllm_graph")
    # message_size counts elements of two bytes, as the bandwidth that would follow from bytes shows
    measured = [
        (int(n), 2.0 * size, ms / 1e3)
        for t in (nccl, own)
        for n, size, ms in t.select("num_gpus", "message_size", "latency").iter_rows()
    ]
    with (folder / "vidur_h100_dgx_all_reduce.csv").open(newline="") as f:
        measured += [
            (
                int(r["num_workers"]),
                float(r["size"]),
                float(r["time_stats.all_reduce.median"]) / 1e3,
            )
            for r in csv.DictReader(f)
        ]
    by_n: dict[int, list[float]] = {}
    for n, size, seconds in measured:
        if size >= 4e6:
            by_n.setdefault(n, []).append(ours_s(n, size) / seconds)
    for n, ratios in by_n.items():
        error = np.abs(np.array(ratios) - 1)
        print(
            f"{n} GPUs: {len(ratios)} sizes, median ratio {np.median(ratios):.2f}, mean |error| {error.mean():.0%}"
        )
        assert 0.75 < np.median(ratios) < 1.25, n
        assert error.mean() < 0.25, n


def test_latency_is_between_the_kernel_alone_and_a_launch_from_the_host() -> None:
    """Inside an engine devices wait for each other: more than the kernel in a graph, about what a launch costs."""
    own = pl.read_parquet(
        Path(str(FOLDER))
        / "kernels/aic_h100_sxm__comm__vllm__0.24.0__custom_allreduce_perf.parquet"
    ).filter(pl.col("message_size") <= 4096)
    for n in (2, 4, 8):
        at = own.filter(pl.col("num_gpus") == n)
        graph, eager = (
            float(at.filter(pl.col("backend") == f"vllm_{b}")["latency"].to_numpy().mean()) / 1e3
            for b in ("graph", "eager")
        )
        got = all_reduce_latency(H100, era("2025"), n)
        print(
            f"{n} GPUs: graph {graph * 1e6:.1f} µs, ours {got * 1e6:.1f} µs, eager {eager * 1e6:.1f} µs"
        )
        assert graph < got < eager

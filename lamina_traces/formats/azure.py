"""Azure LLM inference traces 2023 and 2024 (Patel et al., ISCA 2024; Stojkovic et al., HPCA 2025).

Layout read from Azure/AzurePublicDataset and the files. The stamps are naive with 7 digits (2023) or
carry +00:00 with 6 digits or none, mixed in one file (2024); naive ones are UTC by assumption. The
source records no status, so nothing can be said about failures.
"""

from __future__ import annotations

import polars as pl

from .exporting import Target, Writing, without
from .format import Context, Field, Format


def _canonical(frame: pl.DataFrame, _context: Context) -> pl.DataFrame:
    return frame.select(
        pl.col("TIMESTAMP").alias("arrival_ns"),
        pl.col("ContextTokens").alias("input_tokens"),
        pl.col("GeneratedTokens").alias("output_tokens"),
        pl.lit("unknown").alias("status"),
    )


DEFAULT_ORIGIN_NS = 1_700_092_800_000_000_000
"""2023-11-16T00:00:00Z, the day of the 2023 traces, for traces without a calendar."""


def _write(frame: pl.DataFrame, state: Writing) -> tuple[bytes, int]:
    """Three columns, naive UTC stamps with 7 fractional digits (apex_plus cuts off the last one)."""
    lengths = frame["input_tokens"].is_null() | frame["output_tokens"].is_null()
    frame = without(frame, lengths, "without a recorded length", state)
    if state.origin_ns is None:
        state.note("the trace has no calendar: arrival 0 is written as 2023-11-16T00:00:00Z")
    ns = frame["arrival_ns"] + (DEFAULT_ORIGIN_NS if state.origin_ns is None else state.origin_ns)
    ticks = (ns + 50) // 100 * 100
    state.losses["arrival_ns (below 100 ns, rounded)"] += int((ticks != ns).sum())
    if "status" in frame.columns:
        told = ~frame["status"].is_in(["unknown"])
        state.losses["status (not recorded in this format)"] += int(told.sum())
    stamp = ticks.cast(pl.Datetime("ns")).dt.strftime("%Y-%m-%d %H:%M:%S%.9f").str.head(-2)
    out = pl.DataFrame({"t": stamp, "in": frame["input_tokens"], "out": frame["output_tokens"]})
    return out.write_csv(include_header=False).encode(), out.height


TARGET = Target(
    name="azure",
    title="Azure LLM inference CSV",
    tools="inference-perf, apex_plus",
    suffix=".csv",
    table="llm_requests",
    needs=("arrival_ns", "input_tokens", "output_tokens"),
    carries=("arrival_ns", "input_tokens", "output_tokens"),
    resolution_ns=100,
    command=lambda path, _state: (
        "inference-perf -c cfg.yml   # cfg.yml: load: {type: trace_replay, trace: {file: "
        f"{path}, format: AzurePublicDataset}}}}; data: {{type: random, trace: {{file: {path}, "
        "format: AzurePublicDataset}}"
    ),
    write=_write,
    source="inference-perf 0.7.0 utils/trace_reader.py; apex_plus simulator/trace.py",
    header=b"TIMESTAMP,ContextTokens,GeneratedTokens\n",
)


FORMAT = Format(
    name="azure",
    title="Azure LLM inference trace (2023, 2024)",
    table="llm_requests",
    syntax=("csv",),
    fields=(
        Field("TIMESTAMP", "instant", "UTC", "arrival_ns", minimum=None),
        Field("ContextTokens", "tokens", "tokens", "input_tokens"),
        Field("GeneratedTokens", "tokens", "tokens", "output_tokens"),
    ),
    canonical=_canonical,
    clock="utc",
    source="Azure/AzurePublicDataset (CC-BY-4.0), AzureLLMInferenceDataset2023.md and 2024.md",
    evidence="real file",
    closed=True,
    quirks=(
        "naive stamps are taken for UTC",
        "0 to 9 fractional digits, also mixed within a file",
        "no status recorded: failures are unknown, not absent",
    ),
)

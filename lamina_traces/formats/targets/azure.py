"""Azure's LLM inference CSV: naive UTC stamps with 7 fractional digits.

Read in inference-perf 0.7.0 utils/trace_reader.py (takes 6 digits, the first row is time 0) and apex_plus
8769096 apex_plus/simulator/trace.py (cuts off the last character of each stamp, so 7 digits are right).
"""

from __future__ import annotations

import polars as pl

from ..exporting import REQUEST, Intake, Target, Writing
from .text import csv, with_lengths

DEFAULT_ORIGIN_NS = 1_700_092_800_000_000_000
"""2023-11-16T00:00:00Z, the day of the 2023 traces, for traces without a calendar."""


def _columns(frame: pl.DataFrame, state: Writing) -> pl.DataFrame:
    frame = with_lengths(frame, state)
    if state.origin_ns is None:
        state.note("the trace has no calendar: arrival 0 is written as 2023-11-16T00:00:00Z")
    ns = frame["arrival_ns"] + (DEFAULT_ORIGIN_NS if state.origin_ns is None else state.origin_ns)
    ticks = (ns + 50) // 100 * 100
    state.losses["arrival_ns (below 100 ns, rounded)"] += int((ticks != ns).sum())
    stamp = ticks.cast(pl.Datetime("ns")).dt.strftime("%Y-%m-%d %H:%M:%S%.9f").str.head(-2)
    return pl.DataFrame({"t": stamp, "in": frame["input_tokens"], "out": frame["output_tokens"]})


def _command(path: str, _state: Writing) -> str:
    return (
        "inference-perf -c cfg.yml   # cfg.yml: load: {type: trace_replay, trace: {file: "
        f"{path}, format: AzurePublicDataset}}}}; data: {{type: random, trace: {{file: {path}, "
        "format: AzurePublicDataset}}"
    )


TARGETS = (
    Target(
        name="azure",
        title="Azure LLM inference CSV",
        tools="inference-perf, apex_plus",
        suffix=".csv",
        intakes=(Intake("llm_requests", REQUEST, REQUEST),),
        resolution_ns=100,
        command=_command,
        write=csv(_columns, "TIMESTAMP,ContextTokens,GeneratedTokens"),
        source="inference-perf 0.7.0 utils/trace_reader.py; apex_plus simulator/trace.py",
    ),
)

"""BurstGPT's six columns, the layout that both vLLM and aiperf load; a failure is 0 response tokens.

Read in aiperf 0.13.0 dataset/loader/burst_gpt.py (columns by name, counts as integers) and vLLM 0.33.0
benchmarks/datasets/datasets.py (BurstGPTDataset: columns by position, GPT-4 rows only, arrivals unused).
"""

from __future__ import annotations

import polars as pl

from ...schema import FAILED
from ..exporting import REQUEST, Intake, Target, Writing, without
from .text import csv, filled, seconds

_LOG_TYPE = {"conversation": "Conversation log", "api": "API log"}
DEFAULT_MODEL = "GPT-4"
"""for rows without a model: vLLM's BurstGPT loader takes only these."""


def _columns(frame: pl.DataFrame, state: Writing) -> pl.DataFrame:
    n = frame.height
    failed = (
        frame["status"].is_in(list(FAILED))
        if "status" in frame.columns
        else pl.Series([False], dtype=pl.Boolean).new_from_index(0, n)
    )
    lengths = frame["input_tokens"].is_null() | frame["output_tokens"].is_null()
    bad = lengths & ~failed
    failed = failed.filter(~bad)
    frame = without(frame, bad, "without a recorded length, and not failed", state)
    if "status" in frame.columns:
        status = frame["status"]
        state.losses["status (other failures read back as unknown-failure)"] += int(
            (failed & (status != "unknown-failure")).sum()
        )
        state.losses["status (unknown reads back as ok)"] += int((status == "unknown").sum())
    silent = (~failed) & (frame["output_tokens"] == 0)
    state.losses["status (no output tokens: reads back as failed)"] += int(silent.sum())
    output = frame["output_tokens"].fill_null(0)
    state.losses["output_tokens (of failed requests)"] += int((failed & (output > 0)).sum())
    output = output.set(failed, 0)
    n_in = frame["input_tokens"].fill_null(0)
    total = n_in + output
    if "total_tokens" in frame.columns:
        total = frame["total_tokens"].fill_null(total)
    arrival = frame["arrival_ns"]
    if (state.first_ns or 0) < 0:
        arrival = arrival - (state.first_ns or 0)
        state.note("times are rebased: the first request is at 0 s")
    return pl.DataFrame(
        {
            "t": seconds(arrival),
            "model": filled(frame, "model", DEFAULT_MODEL, state),
            "in": n_in,
            "out": output,
            "total": total,
            "log": filled(frame, "service", "api", state).replace(_LOG_TYPE),
        }
    )


def _command(path: str, _state: Writing) -> str:
    return (
        f"aiperf profile -m MODEL --url URL --endpoint-type completions --input-file {path} "
        "--custom-dataset-type burst_gpt_trace --fixed-schedule"
    )


TARGETS = (
    Target(
        name="burstgpt",
        title="BurstGPT six-column CSV",
        tools="aiperf, vLLM",
        suffix=".csv",
        intakes=(
            Intake(
                "llm_requests",
                REQUEST,
                (
                    "arrival_ns",
                    "model",
                    "service",
                    "input_tokens",
                    "output_tokens",
                    "total_tokens",
                    "status",
                ),
            ),
        ),
        resolution_ns=1,
        command=_command,
        write=csv(_columns, "Timestamp,Model,Request tokens,Response tokens,Total tokens,Log Type"),
        source="aiperf 0.13.0 loader/burst_gpt.py; vLLM 0.33.0 benchmarks/datasets (columns by position)",
    ),
)

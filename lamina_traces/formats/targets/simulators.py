"""Traces for simulators: vidur, splitwise-sim, apex_plus, LLMServingSim.

Read in vidur 0.0.26 request_generator/trace_replay_request_generator.py (``Date``, ``Time``…) and vidur
7d47513 (``arrived_at``…: one CSV with both sets loads in both); splitwise-sim 8f99e7d trace.py and
request.py (an unknown column is a TypeError); apex_plus 8769096 simulator/trace.py; LLMServingSim 5daddb2
serving/core/router.py.
"""

from __future__ import annotations

import polars as pl

from ..exporting import REQUEST, Intake, Target, Writing
from .text import csv, json_lines, jsonl, numbers, seconds, since_first, with_lengths

VIDUR_DATE = "2023-08-21"
"""what the wheel's default configuration asks the ``Date`` column for."""


def _vidur(frame: pl.DataFrame, state: Writing) -> pl.DataFrame:
    frame = with_lengths(frame, state)
    tiny = (frame["input_tokens"] < 1) | (frame["output_tokens"] < 1)
    state.losses["lengths of 0 (vidur's wheel reads them as 1)"] += int(tiny.sum())
    since = seconds(since_first(frame, state, "s"))
    n_in, n_out = frame["input_tokens"], frame["output_tokens"]
    return pl.DataFrame(
        {
            "Date": pl.Series([VIDUR_DATE], dtype=pl.String).new_from_index(0, frame.height),
            "Time": since, "PromptTokenCount": n_in, "CompletionTokenCount": n_out,
            "arrived_at": since, "num_prefill_tokens": n_in, "num_decode_tokens": n_out,
        }
    )  # fmt: skip


def _vidur_command(path: str, _state: Writing) -> str:
    flag = "--trace_request_generator_config"
    return (
        f"python -m vidur.main --request_generator_config_type trace_replay {flag}_trace_file {path} "
        f"{flag}_date {VIDUR_DATE} {flag}_prefill_scale_factor 1 {flag}_decode_scale_factor 1 "
        f"{flag}_time_scale_factor 1 {flag}_max_tokens 1000000"
    )


def _splitwise(frame: pl.DataFrame, state: Writing) -> pl.DataFrame:
    frame = with_lengths(frame, state)
    constant = {
        k: pl.Series([v], dtype=pl.Int64).new_from_index(0, frame.height)
        for k, v in (("request_type", 2), ("application_id", 0), ("batch_size", 1))
    }
    return pl.DataFrame(
        {
            "request_id": numbers(frame.height, state), "request_type": constant["request_type"],
            "application_id": constant["application_id"],
            "arrival_timestamp": seconds(since_first(frame, state, "s")),
            "batch_size": constant["batch_size"], "prompt_size": frame["input_tokens"],
            "token_size": frame["output_tokens"],
        }
    )  # fmt: skip


def _splitwise_command(path: str, state: Writing) -> str:
    return f"cp {path} traces/{state.name}.csv && python run.py trace.filename={state.name}"


def _apex(frame: pl.DataFrame, state: Writing) -> pl.DataFrame:
    frame = with_lengths(frame, state)
    return json_lines(
        frame.height,
        {
            "StartTimeOffset": since_first(frame, state, "ns"),
            "ContextTokens": frame["input_tokens"],
            "GeneratedTokens": frame["output_tokens"],
        },
    )


def _servingsim(frame: pl.DataFrame, state: Writing) -> pl.DataFrame:
    frame = with_lengths(frame, state)
    return json_lines(
        frame.height,
        {
            "input_toks": frame["input_tokens"],
            "output_toks": frame["output_tokens"],
            "arrival_time_ns": since_first(frame, state, "ns"),
        },
    )


_INTAKES = (Intake("llm_requests", REQUEST, REQUEST),)

TARGETS = (
    Target(
        name="apex",
        title="apex_plus JSON lines, nanoseconds",
        tools="apex_plus",
        suffix=".jsonl",
        intakes=_INTAKES,
        resolution_ns=1,
        command=lambda path, _state: (
            f"python main.py --model MODEL --num-gpus-per-node N --trace-file {path}"
        ),
        write=jsonl(_apex),
        source="apex_plus 8769096, apex_plus/simulator/trace.py",
    ),
    Target(
        name="llmservingsim",
        title="LLMServingSim JSON lines, one request a line, nanoseconds",
        tools="LLMServingSim",
        suffix=".jsonl",
        intakes=_INTAKES,
        resolution_ns=1,
        command=lambda path, _state: f"python -m serving --dataset {path}",
        write=jsonl(_servingsim),
        source="LLMServingSim 5daddb2, serving/core/router.py",
    ),
    Target(
        name="splitwise-sim",
        title="splitwise-sim CSV, seven columns, seconds",
        tools="splitwise-sim",
        suffix=".csv",
        intakes=_INTAKES,
        resolution_ns=1,
        command=_splitwise_command,
        write=csv(
            _splitwise,
            "request_id,request_type,application_id,arrival_timestamp,batch_size,prompt_size,token_size",
        ),
        source="splitwise-sim 8f99e7d, trace.py and request.py",
    ),
    Target(
        name="vidur",
        title="vidur CSV, seven columns that its wheel and its main branch load, seconds",
        tools="vidur",
        suffix=".csv",
        intakes=_INTAKES,
        resolution_ns=1,
        command=_vidur_command,
        write=csv(
            _vidur,
            "Date,Time,PromptTokenCount,CompletionTokenCount,arrived_at,num_prefill_tokens,num_decode_tokens",
        ),
        source="vidur 0.0.26 and 7d47513, request_generator/trace_replay_request_generator.py",
    ),
)

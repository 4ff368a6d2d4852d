"""BLIS (inference-sim) TraceV2: a YAML header and a CSV of 27 columns, microseconds.

Read in inference-sim/inference-sim sim/workload/tracev2.go (strict header keys; every numeric cell must parse,
so that what is not recorded has to be written as 0 or false) and replay.go (round indices of a session count
from 0 without a gap; a send time of 0 means the arrival; 0 server tokens mean not recorded).
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import polars as pl

from ..exporting import REQUEST, Intake, Target, Writing
from ..turns import RENUMBERED, Placed, Turns
from .text import column, numbers, rounded, since_first

COLUMNS = (
    "request_id", "client_id", "tenant_id", "slo_class", "session_id", "round_index", "prefix_group",
    "prefix_length", "streaming", "input_tokens", "output_tokens", "text_tokens", "image_tokens",
    "audio_tokens", "video_tokens", "reason_ratio", "model", "deadline_us", "server_input_tokens",
    "arrival_time_us", "send_time_us", "first_chunk_time_us", "last_chunk_time_us", "num_chunks", "status",
    "error_message", "finish_reason",
)  # fmt: skip
_STATUS = {
    "ok": "ok", "unknown": "ok", "error": "error", "unknown-failure": "error", "cancelled": "error",
    "timeout": "timeout", "incomplete": "incomplete",
}  # fmt: skip
_HEADER = "trace_version: 2\ntime_unit: microseconds\nmode: generated\nwarm_up_requests: 0\n"
_NOT_STREAMING = "streaming (not recorded, written as false)"
_ZERO = "not recorded, written as 0"


def _write(rows: Iterator[pl.DataFrame], place: Path, state: Writing) -> int:
    (place / f"{state.name}.yaml").write_text(_HEADER, encoding="utf-8")
    written = 0
    with (place / f"{state.name}.csv").open("wb") as out:
        out.write((",".join(COLUMNS) + "\n").encode())
        for placed in Turns().placed(rows):
            table = _columns(placed, state)
            table.write_csv(out, include_header=False)
            written += table.height
    return written


def _columns(placed: Placed, state: Writing) -> pl.DataFrame:
    frame = placed.frame
    state.skipped.update(placed.skipped)
    n = frame.height
    state.losses[RENUMBERED] += placed.renumbered
    since = since_first(frame, state, "us")
    zero = pl.Series([0], dtype=pl.Int64).new_from_index(0, n)
    reasoning = column(frame, "reasoning_tokens", pl.Int32)
    ratio = (reasoning / frame["output_tokens"].clip(1)).clip(0, 1)
    deadline = column(frame, "deadline_ns", pl.Int64) - (state.first_ns or 0)
    out: dict[str, pl.Series] = {
        "request_id": numbers(n, state),
        "round_index": placed.turn.fill_null(1) - 1,
        "prefix_length": zero,
        "streaming": _or(column(frame, "streaming", pl.Boolean), False, _NOT_STREAMING, state),
        "input_tokens": frame["input_tokens"],
        "output_tokens": frame["output_tokens"],
        "reason_ratio": _or(ratio.round(9), 0.0, f"reason_ratio ({_ZERO})", state),
        "deadline_us": rounded(deadline, 1000, "1 us", state).fill_null(0).clip(0),
        "server_input_tokens": zero,
        "arrival_time_us": rounded(since, 1000, "1 us", state),
        "send_time_us": zero,
        "num_chunks": zero,
    }  # fmt: skip
    for name in ("text_tokens", "image_tokens", "audio_tokens", "video_tokens"):
        out[name] = _or(column(frame, name, pl.Int32), 0, f"{name} ({_ZERO})", state)
    for name, source in (
        ("first_chunk_time_us", "first_token_ns"),
        ("last_chunk_time_us", "last_token_ns"),
    ):
        instants = (column(frame, source, pl.Int64) - (state.first_ns or 0)) // 1000
        out[name] = _or(instants, 0, f"{source} ({_ZERO})", state)
    out["status"] = _status(frame, state)
    for name in ("client_id", "tenant_id", "slo_class", "session_id", "model", "finish_reason"):
        texts = column(frame, name, pl.String)
        out[name] = texts.str.replace_all(r"[\r\n]+", " ").fill_null("")
    empty = pl.Series([""], dtype=pl.String).new_from_index(0, n)
    return pl.DataFrame({c: out.get(c, empty) for c in COLUMNS})


def _or(values: pl.Series, default: object, loss: str, state: Writing) -> pl.Series:
    state.losses[loss] += values.null_count()
    return values.fill_null(default)


def _status(frame: pl.DataFrame, state: Writing) -> pl.Series:
    status = column(frame, "status", pl.String).fill_null("unknown")
    state.losses["status (not recorded, written as ok)"] += int((status == "unknown").sum())
    other = status.is_in(["cancelled", "unknown-failure"])
    state.losses["status (cancelled and unknown failures become error)"] += int(other.sum())
    return status.replace(_STATUS)


TARGETS = (
    Target(
        name="blis",
        title="BLIS TraceV2: a folder with a YAML header and a CSV, microseconds",
        tools="BLIS (inference-sim)",
        suffix="",
        intakes=(
            Intake(
                "llm_requests",
                REQUEST,
                (
                    "arrival_ns", "input_tokens", "output_tokens", "client_id", "tenant_id", "slo_class",
                    "session_id", "turn", "streaming", "text_tokens", "image_tokens", "audio_tokens",
                    "video_tokens", "model", "deadline_ns", "status", "finish_reason", "reasoning_tokens",
                    "first_token_ns", "last_token_ns",
                ),
            ),
        ),
        resolution_ns=1000,
        command=lambda path, state: (
            f"blis replay --trace-header {path}/{state.name}.yaml --trace-data {path}/{state.name}.csv --model MODEL"
        ),
        write=_write,
        source="inference-sim/inference-sim, sim/workload/tracev2.go and replay.go",
    ),
)  # fmt: skip

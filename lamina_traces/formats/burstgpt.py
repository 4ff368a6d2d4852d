"""BurstGPT: requests to ChatGPT and GPT-4 at a campus, 213 days (Wang et al., KDD 2025).

Columns and rules read from HPMLL/BurstGPT (README and release files). Releases 1 and 2 have six
columns, release 3 inserts ``Session ID`` and ``Elapsed time`` after the first, so columns are bound by
name. The clock counts seconds from 00:00 local time of the first day, in an unnamed zone, and is not
rebased, so that ``arrival_ns`` mod one day is the time of day. A failed request has no response
tokens; in the real files it then also records 0 request tokens, which means that its length is unknown.
"""

from __future__ import annotations

import polars as pl

from ..schema import FAILED
from .exporting import Target, Writing, without
from .format import Context, Field, Format

_SERVICE = {"conversation log": "conversation", "api log": "api"}


def _canonical(frame: pl.DataFrame, _context: Context) -> pl.DataFrame:
    n_in, n_out, total = "Request tokens", "Response tokens", "Total tokens"
    log = pl.col("Log Type")
    empty = (pl.col(n_in) == 0) & (pl.col(n_out) == 0)
    service: pl.Expr = (
        pl.when(log == "API log")
        .then(pl.lit("api"))
        .when(log == "Conversation log")
        .then(pl.lit("conversation"))
    )
    if not frame["Log Type"].is_in(["API log", "Conversation log"]).all():  # folding costs time
        service = log.str.to_lowercase().replace(_SERVICE)
    out = [
        pl.col("Timestamp").alias("arrival_ns"),
        service.alias("service"),
        pl.col("Model").alias("model"),
        pl.col("Model").alias("model_raw"),
        pl.when(~empty).then(pl.col(n_in)).alias("input_tokens"),
        pl.when(~empty).then(pl.col(n_out)).alias("output_tokens"),
        pl.when(~empty).then(pl.col(total)).alias("total_tokens"),
        pl.when(pl.col(n_out) == 0)
        .then(pl.lit("unknown-failure"))
        .otherwise(pl.lit("ok"))
        .alias("status"),
    ]
    if "Session ID" in frame.columns:
        out.append(pl.col("Session ID").alias("session_id"))
    if "Elapsed time" in frame.columns:
        out.append(pl.col("Elapsed time").alias("e2e_s"))
    return frame.select(out)


_LOG_TYPE = {"conversation": "Conversation log", "api": "API log"}
_HEADER = b"Timestamp,Model,Request tokens,Response tokens,Total tokens,Log Type\n"
DEFAULT_MODEL = "GPT-4"
"""for rows without a model: vLLM's BurstGPT loader takes only these."""


def _write(frame: pl.DataFrame, state: Writing) -> tuple[bytes, int]:
    """Six columns, the layout that both vLLM and aiperf load; a failure is 0 response tokens."""
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
        state.losses["status (other failures read back as unknown-failure)"] += int((failed & (status != "unknown-failure")).sum())  # fmt: skip
        state.losses["status (unknown reads back as ok)"] += int((status == "unknown").sum())
    silent = (~failed) & (frame["output_tokens"] == 0)
    state.losses["status (no output tokens: reads back as failed)"] += int(silent.sum())
    output = frame["output_tokens"].fill_null(0)
    state.losses["output_tokens (of failed requests)"] += int((failed & (output > 0)).sum())
    output = output.set(failed, 0)
    n_in = frame["input_tokens"].fill_null(0)
    if "total_tokens" in frame.columns:
        total = frame["total_tokens"].fill_null(n_in + output)
    else:
        total = n_in + output
    arrival = frame["arrival_ns"]
    if (state.first_ns or 0) < 0:
        arrival = arrival - (state.first_ns or 0)
        state.note("times are rebased: the first request is at 0 s")
    out = pl.DataFrame(
        {
            "t": _seconds(arrival),
            "model": _filled(frame, "model", DEFAULT_MODEL, state),
            "in": n_in,
            "out": output,
            "total": total,
            "log": _filled(frame, "service", "api", state).replace(_LOG_TYPE),
        }
    )
    return out.write_csv(include_header=False).encode(), out.height


def _seconds(ns: pl.Series) -> pl.Series:
    """Nanoseconds as decimal seconds, exactly, without trailing zeros: ``5``, ``5.25``."""
    whole, rest = (ns // 10**9).cast(pl.String), ns % 10**9
    decimals = rest.cast(pl.String).str.pad_start(9, "0").str.strip_chars_end("0")
    return (whole + "." + decimals).str.strip_chars_end(".")


def _filled(frame: pl.DataFrame, name: str, default: str, state: Writing) -> pl.Series:
    if name not in frame.columns:
        state.note(f"no {name} is recorded: every row says {default!r}")
        return pl.Series(name, [default], dtype=pl.String).new_from_index(0, frame.height)
    column = frame[name]
    if column.null_count():
        state.note(f"rows without a {name} say {default!r}")
        column = column.fill_null(default)
    broken = column.str.contains(r"[\r\n]")
    state.losses[f"{name} (line breaks become spaces)"] += int(broken.sum())
    return column.str.replace_all(r"[\r\n]+", " ") if broken.any() else column


TARGET = Target(
    name="burstgpt",
    title="BurstGPT six-column CSV",
    tools="aiperf, vLLM",
    suffix=".csv",
    table="llm_requests",
    needs=("arrival_ns", "input_tokens", "output_tokens"),
    carries=(
        "arrival_ns",
        "model",
        "service",
        "input_tokens",
        "output_tokens",
        "total_tokens",
        "status",
    ),
    resolution_ns=1,
    command=lambda path, _state: (
        f"aiperf profile -m MODEL --url URL --endpoint-type completions --input-file {path} "
        "--custom-dataset-type burst_gpt_trace --fixed-schedule"
    ),
    write=_write,
    source="aiperf 0.13.0 loader/burst_gpt.py; vLLM 0.33.0 benchmarks/datasets (columns by position)",
    header=_HEADER,
)


FORMAT = Format(
    name="burstgpt",
    title="BurstGPT request log (releases 1, 2 and 3)",
    table="llm_requests",
    syntax=("csv",),
    fields=(
        Field("Timestamp", "clock", "s", "arrival_ns"),
        Field("Session ID", "text", "", "session_id", required=False),
        Field("Elapsed time", "seconds", "s", "e2e_s", required=False),
        Field("Model", "text", "", "model"),
        Field("Request tokens", "tokens", "tokens", "input_tokens"),
        Field("Response tokens", "tokens", "tokens", "output_tokens"),
        Field("Total tokens", "tokens", "tokens", "total_tokens"),
        Field("Log Type", "text", "", "service"),
    ),
    canonical=_canonical,
    clock="local",
    source="HPMLL/BurstGPT (CC-BY-4.0), README and BurstGPT_1.csv; arXiv 2401.17644",
    evidence="real file",
    quirks=(
        "seconds since local midnight of the first day, in an unnamed zone; not rebased",
        "no response tokens = failed (unknown-failure); 0,0,0 rows keep null lengths",
        "identical rows are distinct requests; nothing is de-duplicated",
    ),
    version=lambda head: "3" if "Elapsed time" in head.names else "1-2",
)

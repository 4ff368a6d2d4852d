"""Mooncake traces: prompt and answer lengths with prefix block ids (Qin et al., FAST 2025).

Layout read from kvcache-ai/Mooncake (README, FAST25-release/traces) and the loaders of aiperf, vLLM,
SGLang and guidellm. ``hash_ids`` are chained ids of 512-token blocks: equal id means equal whole
prefix. Mooncake's own stamps are whole milliseconds; some tools write seconds into the same key, so
stamps with a fraction that advance by less than 10 a row are taken for seconds, and that is said.
"""

from __future__ import annotations

import itertools
import statistics

import polars as pl

from ..errors import Notice
from .exporting import Target, Writing, without
from .format import Binding, Context, Field, Format, Head, Request, bind_by_name

BLOCK_TOKENS = 512
"""tokens per prefix block in Mooncake's own traces (README); the last block of a prompt is partial."""

_FIELDS = (
    Field("timestamp", "clock", "ms", "arrival_ns"),
    Field("input_length", "tokens", "tokens", "input_tokens"),
    Field("output_length", "tokens", "tokens", "output_tokens"),
    Field("hash_ids", "ids", "", "prefix_hashes", required=False),
    Field("session_id", "text", "", "session_id", required=False),
    Field("delay", "clock", "ms", "delay_after_parent_ns", required=False),
)


def _canonical(frame: pl.DataFrame, _context: Context) -> pl.DataFrame:
    out = [pl.col(f.name).alias(f.to) for f in _FIELDS if f.name in frame.columns]
    if "hash_ids" in frame.columns:
        size = pl.when(pl.col("hash_ids").is_not_null()).then(pl.lit(BLOCK_TOKENS, pl.Int32))
        out.append(size.alias("prefix_block_size"))
    return frame.select(*out, pl.lit("unknown").alias("status"))


def _seconds_guessed(head: Head) -> bool:
    """Stamps with a fraction whose typical step is below 10: seconds, or over 100 requests/s in ms."""
    texts = [v for r in head.rows if (v := r.get("timestamp"))]
    try:
        stamps = [float(t) for t in texts]
    except ValueError:
        return False
    steps = [b - a for a, b in itertools.pairwise(stamps) if b > a]
    written = any("." in t and t.split(".")[1].strip("0") for t in texts)
    return written and bool(steps) and statistics.median(steps) < 10


def _bind(fmt: Format, head: Head, request: Request) -> Binding:
    unit = request.time_unit
    notices: tuple[Notice, ...] = ()
    if unit is None:
        unit = "s" if _seconds_guessed(head) else "ms"
        if unit == "s":
            notices = (
                Notice(
                    "time-unit-guessed",
                    "the stamps have fractions and small steps: read as seconds; --time-unit ms says otherwise",
                    "arrival_ns",
                ),
            )
    fields = []
    for f in fmt.fields:
        if f.name in ("session_id", "delay", "hash_ids") and f.name not in head.names:
            continue
        if f.name == "timestamp":
            # a later turn of a session may carry a delay instead (aiperf)
            f = Field(f.name, f.cell, unit, f.to, required="delay" not in head.names)
        fields.append(f)
    return bind_by_name(fmt, head, request, fields=fields, notices=notices)


def _write(frame: pl.DataFrame, state: Writing) -> tuple[bytes, int]:
    """One JSON object a request: whole milliseconds from the first request, lengths, block ids."""
    lengths = frame["input_tokens"].is_null() | frame["output_tokens"].is_null()
    frame = without(frame, lengths, "without a recorded length", state)
    since = frame["arrival_ns"] - (state.first_ns or 0)
    stamps = (since + 500_000) // 1_000_000
    state.losses["arrival_ns (below 1 ms, rounded)"] += int((stamps * 1_000_000 != since).sum())
    if state.first_ns:
        state.note("times are rebased: the first request is at 0 ms")
    state.losses["status (failures read back as requests)"] += _failures(frame)
    head = pl.format(
        '{"timestamp": {}, "input_length": {}, "output_length": {}'.replace("{\"", "{{\""),
        pl.lit(stamps), "input_tokens", "output_tokens",
    )  # fmt: skip
    lines = frame.select(head.alias("line"))["line"]
    if "prefix_hashes" in frame.columns:
        lines = lines + _hashes(frame, state)
    text = (lines + "}\n").str.join("")
    return (text[0] or "").encode(), frame.height


def _failures(frame: pl.DataFrame) -> int:
    return (
        int((~frame["status"].is_in(["ok", "unknown"])).sum()) if "status" in frame.columns else 0
    )


def _hashes(frame: pl.DataFrame, state: Writing) -> pl.Series:
    """``, "hash_ids": […]`` where the ids cover the prompt at the block size; loaders refuse others.

    k ids need (k - 1)·B < input_length ≤ k·B (aiperf's mooncake_trace, guidellm's mooncake).
    """
    if "prefix_block_size" in frame.columns:
        size = frame["prefix_block_size"].fill_null(BLOCK_TOKENS)
    else:
        size = pl.Series([BLOCK_TOKENS], dtype=pl.Int32).new_from_index(0, frame.height)
    k = frame["prefix_hashes"].list.len().cast(pl.Int64)
    n = frame["input_tokens"].cast(pl.Int64)
    sizes = set(size.unique().to_list()) | set(state.options.get("sizes", ()))
    state.options["sizes"] = sorted(sizes)
    fits = ((k - 1) * size < n) & (n <= k * size) & (k > 0)
    state.losses["prefix_hashes (do not cover input_tokens)"] += int((~fits).fill_null(False).sum())
    ids = frame["prefix_hashes"].cast(pl.List(pl.String)).list.join(", ")
    text = ', "hash_ids": [' + ids + "]"
    return text.set((~fits).fill_null(True), "")


def _command(path: str, state: Writing) -> str:
    line = (
        f"aiperf profile -m MODEL --url URL --endpoint-type completions --input-file {path} "
        "--custom-dataset-type mooncake_trace --fixed-schedule --fixed-schedule-auto-offset"
    )
    sizes = state.options.get("sizes", [BLOCK_TOKENS])
    if len(sizes) > 1:
        state.note(f"blocks of several sizes in one file: {', '.join(map(str, sizes))} tokens")
    return line if sizes == [BLOCK_TOKENS] else f"{line} --isl-block-size {sizes[0]}"


TARGET = Target(
    name="mooncake",
    title="Mooncake JSON lines for aiperf",
    tools="aiperf, and tools that read milliseconds",
    suffix=".jsonl",
    table="llm_requests",
    needs=("arrival_ns", "input_tokens", "output_tokens"),
    carries=("arrival_ns", "input_tokens", "output_tokens", "prefix_hashes"),
    resolution_ns=1_000_000,
    command=_command,
    write=_write,
    source="aiperf 0.13.0, aiperf/dataset/loader/models.py (MooncakeTrace)",
)


FORMAT = Format(
    name="mooncake",
    title="Mooncake request trace, and its relatives (aiperf, vLLM, SGLang, guidellm)",
    table="llm_requests",
    syntax=("jsonl",),
    fields=_FIELDS,
    canonical=_canonical,
    clock="relative",
    excludes=frozenset(("chat_id", "parent_chat_id")),  # Bailian: seconds, other blocks and hashes
    source="kvcache-ai/Mooncake (Apache-2.0), README and FAST25-release/traces; arXiv 2407.00079",
    evidence="real file",
    quirks=(
        "milliseconds by default; stamps with fractions and small steps are taken for seconds",
        "hash ids are chained over 512-token blocks and stay 64-bit",
        "no status recorded: failures are unknown, not absent",
        "the published conversation trace ticks every 3 s: its gaps below that are artefacts",
    ),
    bind=_bind,
)

"""Mooncake traces: prompt and answer lengths with prefix block ids (Qin et al., FAST 2025).

Layout read from kvcache-ai/Mooncake (README, FAST25-release/traces) and the loaders of aiperf, vLLM,
SGLang and guidellm. ``hash_ids`` are chained ids of 512-token blocks: equal id means equal whole
prefix. Rows that share a ``session_id`` (aiperf) are one conversation in file order; its later turns
may carry a ``delay`` after the turn before them and no timestamp. Mooncake's own stamps are whole milliseconds; some tools write seconds into the same key, so
stamps with a fraction that advance by less than 10 a row are taken for seconds, and that is said.
"""

from __future__ import annotations

import itertools
import statistics
from dataclasses import replace

import polars as pl

from ..errors import Notice
from .exporting import Target, Writing
from .format import Binding, Context, Field, Format, Head, Request, bind_by_name
from .turns import Placed, Turns, with_turns

BLOCK_TOKENS = 512
"""tokens per prefix block in Mooncake's own traces (README); the last block of a prompt is partial."""

_FIELDS = (
    Field("timestamp", "clock", "ms", "arrival_ns", unless=("delay", "session_id")),
    Field("input_length", "tokens", "tokens", "input_tokens"),
    Field("output_length", "tokens", "tokens", "output_tokens"),
    Field("hash_ids", "ids", "", "prefix_hashes", required=False),
    Field("session_id", "text", "", "session_id", required=False),
    Field("delay", "clock", "ms", "delay_after_parent_ns", required=False),
)


def _canonical(frame: pl.DataFrame, context: Context) -> pl.DataFrame:
    size = pl.when(pl.col("hash_ids").is_not_null()).then(pl.lit(BLOCK_TOKENS, pl.Int32))
    out = frame.with_columns(
        *(pl.col(f.name).alias(f.to) for f in _FIELDS),
        size.alias("prefix_block_size"),
        pl.lit("unknown").alias("status"),
    ).select(*(f.to for f in _FIELDS), "prefix_block_size", "status")
    return with_turns(out, context)


def _seconds_guessed(head: Head) -> bool:
    """Stamps with a fraction whose typical step is below 10: seconds, or over 100 requests/s in ms."""
    if "delay" in head.names:  # aiperf's own, and those are milliseconds
        return False
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
    # all keys are looked for, since the head may hold first turns only; the mapping names those seen
    fields = [replace(f, unit=unit) if f.name == "timestamp" else f for f in fmt.fields]
    seen = {n.strip().casefold() for n in head.names}
    unseen = (f.name for f in fields if f.name not in seen and (f.unless or not f.required))
    whole = replace(head, names=(*head.names, *unseen))
    bound = bind_by_name(fmt, whole, request, fields=fields, notices=notices)
    return replace(bound, mapping=tuple(m for m in bound.mapping if m[0] in head.names))


def _write(frame: pl.DataFrame, state: Writing) -> tuple[bytes, int]:
    """One JSON object a request: whole milliseconds from the first request, lengths, block ids.

    A later turn of a session carries its delay (ms, exact) where the trace records one.
    """
    turns: Turns = state.options.setdefault("turns", Turns())
    return _lines(turns.place(frame), state)


def _rest(state: Writing) -> tuple[bytes, int]:
    """The turns that had to wait for the ones before them."""
    placed = state.options.get("turns", Turns()).rest()
    return _lines(placed, state) if placed is not None else (b"", 0)


def _lines(placed: Placed, state: Writing) -> tuple[bytes, int]:
    frame = placed.frame
    state.skipped.update(placed.skipped)
    if not frame.height:
        return b"", 0
    delay = frame["delay_after_parent_ns"] if "delay_after_parent_ns" in frame.columns else pl.Series([None], dtype=pl.Int64).new_from_index(0, frame.height)  # fmt: skip
    waits = placed.parent.is_not_null() & delay.is_not_null()
    since = frame["arrival_ns"] - (state.first_ns or 0)
    stamps = ((since + 500_000) // 1_000_000).set(waits, None)
    rounded = (stamps * 1_000_000 != since).fill_null(False)
    state.losses["arrival_ns (below 1 ms, rounded)"] += int(rounded.sum())
    if state.first_ns:
        state.note("times are rebased: the first request is at 0 ms")
    state.losses["status (failures read back as requests)"] += _failures(frame)
    _count_turns(placed, waits, delay, state)
    parts = [
        '"timestamp": ' + stamps.cast(pl.String) + ", ",
        _sessions(frame),
        '"delay": ' + _milliseconds(delay.set(~waits, None)) + ", ",
    ]
    line = pl.Series(["{"], dtype=pl.String).new_from_index(0, frame.height)
    for part in parts:
        line = line + part.fill_null("")
    lengths = pl.format('"input_length": {}, "output_length": {}', "input_tokens", "output_tokens")
    line = line + frame.select(lengths.alias("x"))["x"]
    if "prefix_hashes" in frame.columns:
        line = line + _hashes(frame, state)
    text = (line + "}\n").str.join("")
    return (text[0] or "").encode(), frame.height


def _count_turns(placed: Placed, waits: pl.Series, delay: pl.Series, state: Writing) -> None:
    """What a reader of the file will see differently of sessions."""
    frame, later = placed.frame, placed.parent.is_not_null()
    lost = state.losses
    lost["arrival_ns (of later turns, which carry their delay instead)"] += int((waits & frame["arrival_ns"].is_not_null()).sum())  # fmt: skip
    lost["delay_after_parent_ns (the turn before is not in the file)"] += int((delay.is_not_null() & ~waits).sum())  # fmt: skip
    lost["delay_after_parent_ns (negative, written as 0)"] += int((waits & (delay < 0)).sum())
    if "turn" in frame.columns:
        other = (frame["turn"].cast(pl.Int32) != placed.turn).fill_null(True)
        lost["turn (numbered otherwise in the file)"] += int((other & frame["turn"].is_not_null()).sum())  # fmt: skip
    if "depends_on" in frame.columns:
        some = (frame["depends_on"].list.len() > 0).fill_null(False)
        chained = (frame["depends_on"].list.len() == 1) & (frame["depends_on"].list.first() == placed.parent)  # fmt: skip
        told = chained.fill_null(False) & (waits | frame["arrival_ns"].is_null())
        lost["depends_on (not the turn before it in its session)"] += int((some & ~told).sum())
    if waits.any() or (later & frame["arrival_ns"].is_null()).any():
        state.note("later turns carry a delay and no timestamp: load the file with aiperf, other tools want a timestamp on every row")  # fmt: skip


def _sessions(frame: pl.DataFrame) -> pl.Series:
    """``"session_id": "…", `` as JSON, null without a session."""
    if "session_id" not in frame.columns:
        return pl.Series([None], dtype=pl.String).new_from_index(0, frame.height)
    ids = frame["session_id"]
    text = frame.select(pl.struct("session_id").struct.json_encode().alias("x"))["x"]
    inner = '"session_id": ' + text.str.slice(len('{"session_id":')).str.head(-1) + ", "
    return inner.set(ids.is_null(), None)


def _milliseconds(ns: pl.Series) -> pl.Series:
    """Nanoseconds as milliseconds with every digit, no more than needed: 1500000 → 1.5."""
    ns = ns.clip(0)
    fraction = (ns % 1_000_000).cast(pl.String).str.zfill(6).str.strip_chars_end("0")
    return ((ns // 1_000_000).cast(pl.String) + "." + fraction).str.strip_suffix(".")


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
    carries=(
        "arrival_ns",
        "input_tokens",
        "output_tokens",
        "prefix_hashes",
        "session_id",
        "delay_after_parent_ns",
        "turn",
        "depends_on",
    ),
    resolution_ns=1_000_000,
    command=_command,
    write=_write,
    rest=_rest,
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
    # Bailian: seconds, other blocks and hashes; RAGPulse: parts of a prompt
    excludes=frozenset(("chat_id", "parent_chat_id", "hash_ids.passages_ids")),
    source="kvcache-ai/Mooncake (Apache-2.0), README and FAST25-release/traces; arXiv 2407.00079",
    evidence="real file",
    quirks=(
        "milliseconds by default; stamps with fractions and small steps are taken for seconds",
        "rows of one session_id are its turns in file order; turn and depends_on are derived",
        "hash ids are chained over 512-token blocks and stay 64-bit",
        "no status recorded: failures are unknown, not absent",
        "the published conversation trace ticks every 3 s: its gaps below that are artefacts",
    ),
    bind=_bind,
)

"""Mooncake JSON lines in four dialects: one shape, four sets of rules.

Read in the loaders: aiperf 0.13.0 dataset/loader/models.py (MooncakeTrace), guidellm 0.8.1
data/deserializers/trace_mooncake.py and trace_common.py, vLLM 0.33.0 benchmarks/datasets/datasets.py
(TimedTrace), SGLang 0.5.23 benchmark/datasets/mooncake.py.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

import polars as pl

from ...schema import FAILED
from ..exporting import REQUEST, Intake, Target, Writing
from ..turns import RENUMBERED, Placed, Turns
from .blocks import BLOCK_TOKENS, BlockRule, grouped, put_with_ids, split, with_blocks
from .text import (
    Write,
    column,
    json_lines,
    json_text,
    milliseconds,
    put,
    rounded,
    seconds,
    since_first,
    with_lengths,
)

# --- aiperf: milliseconds, sessions ----------------------------------------------------------------


def _write_aiperf(rows: Iterator[pl.DataFrame], place: Path, state: Writing) -> int:
    """Whole milliseconds from the first request, lengths, block ids; a later turn of a session carries its
    delay (ms, exact) where the trace records one."""
    frames = with_blocks(rows, BlockRule("drop"), state)
    with place.open("wb") as out:
        return sum(_put_aiperf(placed, out, state) for placed in Turns().placed(frames))


def _put_aiperf(placed: Placed, out: BinaryIO, state: Writing) -> int:
    frame = placed.frame
    state.skipped.update(placed.skipped)
    delay = column(frame, "delay_after_parent_ns", pl.Int64)
    waits = placed.parent.is_not_null() & delay.is_not_null()
    since = since_first(frame, state, "ms").set(waits, None)
    stamps = rounded(since, 10**6, "1 ms", state)
    if "status" in frame.columns:
        failed = frame["status"].is_in(list(FAILED)).sum()
        state.losses["status (failures become plain requests)"] += int(failed)
    _count_turns(placed, waits, delay, state)
    fields = {"timestamp": stamps}
    if "session_id" in frame.columns:
        fields["session_id"] = json_text(frame["session_id"])
    if waits.any():
        fields["delay"] = milliseconds(delay.set(~waits, None))
    fields |= {"input_length": frame["input_tokens"], "output_length": frame["output_tokens"]}
    if "prefix_hashes" not in frame.columns:
        return put(json_lines(frame.height, fields), out)
    return put_with_ids(fields, frame["prefix_hashes"], out)


def _count_turns(placed: Placed, waits: pl.Series, delay: pl.Series, state: Writing) -> None:
    """What a reader of the file will see differently of sessions."""
    frame, later = placed.frame, placed.parent.is_not_null()
    lost = state.losses
    lost["arrival_ns (of later turns, which carry their delay instead)"] += int(
        (waits & frame["arrival_ns"].is_not_null()).sum()
    )
    lost["delay_after_parent_ns (the turn before is not in the file)"] += int(
        (delay.is_not_null() & ~waits).sum()
    )
    lost["delay_after_parent_ns (negative, written as 0)"] += int((waits & (delay < 0)).sum())
    lost[RENUMBERED] += placed.renumbered
    if "depends_on" in frame.columns:
        some = (frame["depends_on"].list.len() > 0).fill_null(False)
        chained = (frame["depends_on"].list.len() == 1) & (
            frame["depends_on"].list.first() == placed.parent
        )
        told = chained.fill_null(False) & (waits | frame["arrival_ns"].is_null())
        lost["depends_on (not the turn before it in its session)"] += int((some & ~told).sum())
    if waits.any() or (later & frame["arrival_ns"].is_null()).any():
        state.note(
            "later turns carry a delay and no timestamp: load the file with aiperf, "
            "other tools want a timestamp on every row"
        )


def _aiperf_command(path: str, state: Writing) -> str:
    size = state.options.get("block_tokens", BLOCK_TOKENS)
    return (
        f"aiperf profile -m MODEL --url URL --endpoint-type completions --input-file {path} "
        "--custom-dataset-type mooncake_trace --fixed-schedule --fixed-schedule-auto-offset"
        + ("" if size == BLOCK_TOKENS else f" --isl-block-size {size}")
    )


# --- guidellm, vLLM: seconds, every prompt covered by blocks ---------------------------------------


def _covered(largest: int) -> Write:
    def write(rows: Iterator[pl.DataFrame], place: Path, state: Writing) -> int:
        """Seconds from the first request, every digit; block ids that cover every prompt."""
        written = 0
        kept = (with_lengths(frame, state) for frame in rows)
        with place.open("wb") as out:
            for frame in with_blocks(kept, BlockRule("mend", largest), state):
                lists = frame["prefix_hashes"].fill_null([])
                written += put_with_ids(_covered_fields(frame, state), lists, out)
        return written

    return write


def _covered_fields(frame: pl.DataFrame, state: Writing) -> dict[str, pl.Series]:
    return {
        "timestamp": seconds(since_first(frame, state, "s"), point=True),
        "input_length": frame["input_tokens"],
        "output_length": frame["output_tokens"],
    }


def _guidellm_command(path: str, state: Writing) -> str:
    size = state.options["block_tokens"]
    return (
        'guidellm run --backend "kind=openai_http,target=URL" --profile kind=replay --data '
        f'"kind=mooncake,source.kind=json_file,source.path={path}'
        + ("" if size == BLOCK_TOKENS else f",hash_id_block_size={size}")
        + '"'
    )


def _vllm_command(path: str, state: Writing) -> str:
    return (
        f"PYTHONHASHSEED=0 vllm bench serve --model MODEL --dataset-name timed_trace --dataset-path {path} "
        f"--self-timed --timed-trace-chunk-hash-size {state.options['block_tokens']} "
        f"--timed-trace-sec-multiplier 1 --num-prompts {state.rows - sum(state.skipped.values())}"
    )


# --- SGLang: milliseconds, prompts made of 128-word blocks -----------------------------------------

SGLANG_WORDS = 128
"""words per id in the prompts that SGLang makes; ``input_length`` is not read."""


def _write_sglang(rows: Iterator[pl.DataFrame], place: Path, state: Writing) -> int:
    """Whole milliseconds; as many ids as 128-word blocks come closest to the prompt."""
    written = 0
    kept = (with_lengths(frame, state) for frame in rows)
    with place.open("wb") as out:
        for frame in with_blocks(kept, BlockRule("mend", 2**31 - 1), state):
            written += _put_sglang(frame, out, state)
    state.note(
        "SGLang ignores input_length: a prompt is its ids, each followed by 128 words, so lengths are near, not exact"
    )
    return written


def _put_sglang(frame: pl.DataFrame, out: BinaryIO, state: Writing) -> int:
    tokens = frame["input_tokens"].cast(pl.Int64)
    wanted = ((tokens + SGLANG_WORDS // 2) // SGLANG_WORDS).clip(1)
    state.losses["input_tokens (rounded to 128-word blocks)"] += int(
        (wanted * SGLANG_WORDS != tokens).sum()
    )
    fields = {
        "timestamp": rounded(since_first(frame, state, "ms"), 10**6, "1 ms", state),
        "input_length": frame["input_tokens"],
        "output_length": frame["output_tokens"],
    }
    size = state.options["block_tokens"]
    if size % SGLANG_WORDS:
        state.note(
            f"the trace's blocks of {size} tokens are put together to blocks of "
            f"{SGLANG_WORDS}, by the last id of each group: right for chained ids"
        )
        lists = grouped(frame["prefix_hashes"], max(1, SGLANG_WORDS // size), wanted.to_numpy())
    else:
        lists = split(frame["prefix_hashes"], size // SGLANG_WORDS, wanted.to_numpy())
    return put_with_ids(fields, lists, out)


def _sglang_command(path: str, state: Writing) -> str:
    return (
        f"python -m sglang.bench_serving --backend sglang --dataset-name mooncake --dataset-path {path} "
        "--use-trace-timestamps --mooncake-slowdown-factor 1 --mooncake-num-rounds 1 "
        f"--num-prompts {state.rows - sum(state.skipped.values())}"
    )


_PLAIN = (Intake("llm_requests", REQUEST, (*REQUEST, "prefix_hashes")),)

TARGETS = (
    Target(
        name="mooncake",
        title="Mooncake JSON lines, milliseconds, with sessions (mooncake_trace)",
        tools="aiperf, and tools that read milliseconds",
        suffix=".jsonl",
        intakes=(
            Intake(
                "llm_requests",
                REQUEST,
                (
                    *REQUEST,
                    "prefix_hashes",
                    "session_id",
                    "delay_after_parent_ns",
                    "turn",
                    "depends_on",
                    "status",
                ),
            ),
        ),
        resolution_ns=10**6,
        command=_aiperf_command,
        write=_write_aiperf,
        unstamped=True,
        source="aiperf 0.13.0, dataset/loader/models.py (MooncakeTrace), dataset/synthesis",
    ),
    Target(
        name="mooncake-guidellm",
        title="Mooncake JSON lines, seconds, blocks cover every prompt, 32-bit ids",
        tools="guidellm",
        suffix=".jsonl",
        intakes=_PLAIN,
        resolution_ns=1,
        command=_guidellm_command,
        write=_covered(2**31 - 1),
        source="guidellm 0.8.1, data/deserializers/trace_mooncake.py",
    ),
    Target(
        name="mooncake-sglang",
        title="Mooncake JSON lines, milliseconds, as many ids as 128-word blocks",
        tools="SGLang bench_serving",
        suffix=".jsonl",
        intakes=(
            Intake("llm_requests", REQUEST, ("arrival_ns", "output_tokens", "prefix_hashes")),
        ),
        resolution_ns=10**6,
        command=_sglang_command,
        write=_write_sglang,
        source="SGLang 0.5.23, benchmark/datasets/mooncake.py",
    ),
    Target(
        name="mooncake-vllm",
        title="Mooncake JSON lines, seconds, blocks cover every prompt (timed_trace)",
        tools="vLLM bench serve",
        suffix=".jsonl",
        intakes=_PLAIN,
        resolution_ns=1,
        command=_vllm_command,
        write=_covered(2**64 - 1),
        source="vLLM 0.33.0, benchmarks/datasets/datasets.py (TimedTrace)",
    ),
)

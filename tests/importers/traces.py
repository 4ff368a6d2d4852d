"""The traces that the importers load: one generated from a library profile, one with sessions and blocks."""

from __future__ import annotations

from typing import Any

import numpy as np
import polars as pl

ROWS = 1000
BLOCK = 512


def generated() -> pl.DataFrame:
    """1,000 requests of the library profile azure-code: no sessions, no blocks."""
    from lamina_traces import generator
    from lamina_traces.profile import Profile

    plan = generator.plan(Profile.library("azure-code"), seed=11, rows=ROWS)
    return pl.concat(generator.frames(plan))


def conversations() -> pl.DataFrame:
    """1,000 requests, most in conversations, with 64-bit chained blocks of 512 tokens.

    A system prompt of three blocks is shared by all; a turn repeats the blocks of the turn before; some
    requests repeat a whole prompt, so that their partial last block is shared.
    """
    rng = np.random.default_rng(5)

    def ids(n: int) -> list[int]:
        return [int(x) for x in rng.integers(0, 2**64, n, dtype=np.uint64)]

    system = ids(3)
    rows: list[dict[str, Any]] = []
    number = 0
    while len(rows) < ROWS:
        number += 1
        turns = int(rng.integers(1, 7)) if number % 3 else 1
        whole = [*system, *ids(int(rng.integers(0, 4)))]
        at = int(rng.integers(0, 3_600 * 10**9))
        for turn in range(1, turns + 1):
            extra = int(rng.integers(1, BLOCK + 1))
            tokens = len(whole) * BLOCK + extra
            full = extra == BLOCK
            hashes = [*whole, *ids(1)]
            rows.append(_row(number if turns > 1 else None, turn, at, tokens, hashes, rng))
            if number % 10 == 0:  # the same prompt again
                rows.append(_row(None, 1, at + 1_234_567, tokens, hashes, rng))
            whole = [*hashes, *ids(1)] if full else [*whole, *ids(2)]
            at += int(rng.integers(10**9, 60 * 10**9))
    frame = pl.DataFrame(rows[:ROWS], schema_overrides=TYPES, infer_schema_length=None)
    frame = frame.sort("arrival_ns").with_row_index("row_id").cast({"row_id": pl.Int64})
    parent = pl.col("row_id").shift(1).over("session_id", order_by="turn")
    first = pl.col("session_id").is_null() | parent.is_null()
    return frame.with_columns(
        pl.when(first).then(pl.lit([], dtype=pl.List(pl.Int64))).otherwise(pl.concat_list(parent)).alias("depends_on"),
        pl.when(~first).then("delay_after_parent_ns").alias("delay_after_parent_ns"),
    )  # fmt: skip


TYPES: dict[str, Any] = {
    "turn": pl.Int32, "input_tokens": pl.Int32, "output_tokens": pl.Int32, "prefix_block_size": pl.Int32,
    "prefix_hashes": pl.List(pl.UInt64),
}  # fmt: skip


def _row(
    session: int | None, turn: int, at: int, tokens: int, hashes: list[int], rng: Any
) -> dict[str, Any]:
    return {
        "arrival_ns": at,
        "session_id": None if session is None else f"chat {session}",
        "turn": None if session is None else turn,
        "delay_after_parent_ns": int(rng.integers(0, 10**10)),
        "service": ["text", "search"][int(rng.integers(0, 2))],
        "model": "some-model",
        "input_tokens": tokens,
        "output_tokens": int(rng.integers(1, 900)),
        "e2e_s": round(float(rng.uniform(0.1, 9)), 6),
        "prefix_block_size": BLOCK,
        "prefix_hashes": hashes,
        "status": "ok",
    }


def in_small_blocks(frame: pl.DataFrame) -> pl.DataFrame:
    """The same conversations in blocks of 16 tokens, for Bailian: block i of 512 becomes blocks 32·i … 32·i + 31."""
    lists = [
        [(h * 32 + j) % 2**64 for h in hashes for j in range(32)][: -(-n // 16)]
        for hashes, n in frame.select("prefix_hashes", "input_tokens").iter_rows()
    ]
    return frame.with_columns(
        pl.Series("prefix_hashes", lists, dtype=pl.List(pl.UInt64)),
        pl.lit(16, pl.Int32).alias("prefix_block_size"),
    )

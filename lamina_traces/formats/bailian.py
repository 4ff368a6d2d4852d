"""Qwen-Bailian usage traces: requests of chats, linked by the request before (Wang et al., ATC 2025).

Layout read from alibaba-edu/qwen-bailian-usagetraces-anon (README) and aiperf 0.13.0
(aiperf/dataset/loader/models.py, BailianTrace). ``chat_id`` names a request and ``parent_chat_id`` the one
before it in its chat (-1 for the first): the session is the chat_id at the root. A parent may stand far
before its child. ``input_length`` is the whole prompt, not what a turn added. ``hash_ids`` are salted hashes
of 16-token blocks, each on its own and not chained: only leading runs of equal ids are a shared prefix.
"""

from __future__ import annotations

import polars as pl

from .format import Context, Field, Format
from .links import first_row

BLOCK_TOKENS = 16
_KNOWN = {"chat_id": pl.Int64, "root": pl.Int64, "row": pl.Int64}
_LONGEST = 40
"""doublings of the steps towards the root; chains of more than 2^40 requests are circles."""


def _canonical(frame: pl.DataFrame, context: Context) -> pl.DataFrame:
    first = first_row(frame, context)
    chats = frame.select(
        "chat_id",
        pl.when(pl.col("parent_chat_id") >= 0).then("parent_chat_id").alias("parent"),
    ).with_columns(pl.int_range(first, first + frame.height, dtype=pl.Int64).alias("row"))
    known = _known(context)
    rooted = _roots(chats, known)
    new = rooted.select("chat_id", "root", "row").unique(
        "chat_id", keep="last", maintain_order=True
    )
    context.state["chats"] = pl.concat([known.join(new, on="chat_id", how="anti"), new])
    rows = context.state["chats"].select(
        pl.col("chat_id").alias("parent"), pl.col("row").alias("before")
    )
    before = rooted.join(rows, on="parent", how="left", maintain_order="left")
    if frame.height:
        text = "prefix hashes are of single blocks, not chained: only leading runs of equal hashes are a shared prefix"
        context.note("hashes-independent", text, "prefix_hashes")
    return frame.select(
        pl.col("chat_id").cast(pl.String).alias("request_id"),
        pl.col("timestamp").alias("arrival_ns"),
        pl.col("type").alias("service"),
        before["root"].cast(pl.String).alias("session_id"),
        before["parent"].cast(pl.String).alias("parent_request_id"),
        pl.col("turn"),
        before.select(
            pl.when(pl.col("parent").is_null())
            .then(pl.lit([], dtype=pl.List(pl.Int64)))
            .when(pl.col("before").is_not_null() & (pl.col("before") != pl.col("row")))
            .then(pl.concat_list("before"))
            .alias("depends_on")
        )["depends_on"],
        pl.col("input_length").alias("input_tokens"),
        pl.col("output_length").alias("output_tokens"),
        pl.when(pl.col("hash_ids").is_not_null())
        .then(pl.lit(BLOCK_TOKENS, pl.Int32))
        .alias("prefix_block_size"),
        pl.col("hash_ids").alias("prefix_hashes"),
        pl.lit("unknown").alias("status"),
    )


def _known(context: Context) -> pl.DataFrame:
    """The chats met so far, those of the trace that is added to included (where its ids are not pseudonyms)."""
    if "chats" in context.state:
        found: pl.DataFrame = context.state["chats"]
        return found
    if context.before is None:
        return pl.DataFrame(schema=_KNOWN)
    rows = context.before.rows(("request_id", "session_id", "row_id"))
    ids = rows.select(
        pl.col("request_id").cast(pl.Int64, strict=False).alias("chat_id"),
        pl.col("session_id").cast(pl.Int64, strict=False).alias("root"),
        pl.col("row_id").alias("row"),
    ).drop_nulls()
    return ids.sort("row").unique("chat_id", keep="last", maintain_order=True)


def _roots(chats: pl.DataFrame, known: pl.DataFrame) -> pl.DataFrame:
    """Add ``root``, the first request of each chat; of a parent that is not in the trace, the parent."""
    start = pl.coalesce("parent", "chat_id").alias("root")
    out = chats.with_columns(start)
    steps = pl.concat(
        [
            chats.select("chat_id", start).unique("chat_id", keep="last"),
            known.select("chat_id", "root"),
        ]
    ).unique("chat_id", keep="first")
    for _ in range(_LONGEST):
        further = steps.rename({"chat_id": "root", "root": "next"})
        step = pl.coalesce("next", "root").alias("root")
        steps_on = steps.join(further, on="root", how="left").select("chat_id", step)
        moved = (
            out.join(further, on="root", how="left", maintain_order="left")
            .with_columns(step)
            .drop("next")
        )
        if moved["root"].equals(out["root"]):
            break
        out, steps = moved, steps_on
    return out


FORMATS = (
    Format(
        name="bailian",
        title="Qwen-Bailian usage trace",
        table="llm_requests",
        syntax=("jsonl",),
        fields=(
            Field("chat_id", "integer", "", "request_id", minimum=None),
            Field("parent_chat_id", "integer", "", "parent_request_id", minimum=-1),
            Field("timestamp", "clock", "s", "arrival_ns"),
            Field("input_length", "tokens", "tokens", "input_tokens"),
            Field("output_length", "tokens", "tokens", "output_tokens"),
            Field("type", "text", "", "service", required=False),
            Field("turn", "tokens", "", "turn", required=False, minimum=1),
            Field("hash_ids", "ids", "", "prefix_hashes", required=False),
        ),
        canonical=_canonical,
        matches=lambda head: (
            {"chat_id", "parent_chat_id", "timestamp", "input_length"} <= set(head.names)
        ),
        clock="relative",
        source="alibaba-edu/qwen-bailian-usagetraces-anon (Apache-2.0), README; aiperf 0.13.0, BailianTrace",
        evidence="importer's loader",
        quirks=(
            "seconds; the session is the chat_id at the root of the parents",
            "input_length is the whole prompt of a turn",
            "blocks of 16 tokens, hashed each on its own: match leading runs, not sets",
            "no status recorded: failures are unknown, not absent",
        ),
    ),
)

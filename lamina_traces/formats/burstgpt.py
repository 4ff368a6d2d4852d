"""BurstGPT: requests to ChatGPT and GPT-4 at a campus, 213 days (Wang et al., KDD 2025).

Columns and rules read from HPMLL/BurstGPT (README and release files). Releases 1 and 2 have six
columns, release 3 inserts ``Session ID`` and ``Elapsed time`` after the first, so columns are bound by
name. The clock counts seconds from 00:00 local time of the first day, in an unnamed zone, and is not
rebased, so that ``arrival_ns`` mod one day is the time of day. A failed request has no response
tokens; in the real files it then also records 0 request tokens, which means that its length is unknown.
"""

from __future__ import annotations

from collections.abc import Mapping

import polars as pl

from .format import Context, Field, Format
from .links import first_row

_SERVICE = {"conversation log": "conversation", "api log": "api"}


def _canonical(frame: pl.DataFrame, context: Context) -> Mapping[str, pl.DataFrame]:
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
    requests = frame.select(
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
        pl.col("Session ID").alias("session_id"),
        pl.col("Elapsed time").alias("e2e_s"),
    )
    return {"llm_requests": requests, "incidents": _incidents(requests, context)}


def _incidents(requests: pl.DataFrame, context: Context) -> pl.DataFrame:
    """The failed requests as failures; ``entity_id`` is their row_id."""
    first = first_row(requests, context)
    failed = (requests["status"] == "unknown-failure").arg_true()
    return requests[failed].select(
        "arrival_ns",
        pl.lit("request").alias("entity_type"),
        (failed.cast(pl.Int64) + first).cast(pl.String).alias("entity_id"),
        pl.lit("failed").alias("kind"),
    )


FORMATS = (
    Format(
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
            "failed requests stand in the table incidents, too",
            "identical rows are distinct requests; nothing is de-duplicated",
        ),
        others=("incidents",),
        version=lambda head: "3" if "Elapsed time" in head.names else "1-2",
    ),
)

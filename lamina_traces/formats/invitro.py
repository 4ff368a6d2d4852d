"""In-Vitro loader output: one row an invocation that it sent (vhive-serverless/invitro, pkg/common records).

Layout read from the loader's record types: phase, instance, invocationID, startTime and measurements in
microseconds, then memory and asynchronous timings (Knative) or activation, start type and waits (OpenWhisk).
startTime is taken for microseconds since 1970 from 10^14 on, else for a relative clock. An invocation that
timed out has no duration: its 0 is not a measurement. ``instance`` is the name of what answered, empty where
nothing did.
"""

from __future__ import annotations

import re
from dataclasses import replace

import polars as pl

from .format import Binding, Context, Field, Format, Head, Request, bind_by_name
from .hosts import without_addresses

_FIELDS = (
    Field("phase", "integer", required=False),
    Field("instance", "text", "", "func_id", required=False),
    Field("invocationID", "text", "", "request_id", required=False),
    Field("startTime", "clock", "us", "arrival_ns"),
    Field("requestedDuration", "seconds", "us", required=False),
    Field("grpcConnEstablish", "seconds", "us", required=False, minimum=None),
    Field("responseTime", "seconds", "us", "e2e_s", required=False),
    Field("actualDuration", "seconds", "us", "duration_s", required=False),
    Field("connectionTimeout", "flag", required=False),
    Field("functionTimeout", "flag", required=False),
    Field("memoryAllocationTimeout", "flag", required=False),
    Field("activationID", "text", "", "request_id", required=False),
    Field("startType", "text", "", "is_cold", required=False),
    Field("httpStatusCode", "integer", "", "error_code", required=False),
    Field("waitTime", "seconds", "us", "queue_s", required=False),
    Field("initTime", "seconds", "us", "init_s", required=False),
)
_TIMEOUTS = ("connectionTimeout", "functionTimeout", "memoryAllocationTimeout")
_FAILURE = 400
_EPOCH_US = 10**14


def _canonical(frame: pl.DataFrame, context: Context) -> pl.DataFrame:
    late = pl.any_horizontal(pl.col(n).fill_null(False) for n in _TIMEOUTS)
    failed = (pl.col("httpStatusCode") >= _FAILURE).fill_null(False)
    cold = pl.col("startType").str.to_lowercase()
    return without_addresses(frame, ("instance",), context).select(
        pl.col("startTime").alias("arrival_ns"),
        pl.coalesce("invocationID", "activationID").alias("request_id"),
        pl.col("instance").fill_null("unknown").alias("func_id"),
        pl.when(~late & (pl.col("actualDuration") > 0)).then("actualDuration").alias("duration_s"),
        pl.when(pl.col("responseTime") > 0).then("responseTime").alias("e2e_s"),
        pl.col("waitTime").alias("queue_s"),
        pl.when(cold != "hot").then("initTime").alias("init_s"),
        pl.when(cold == "cold").then(True).when(cold == "hot").then(False).alias("is_cold"),
        pl.when(late)
        .then(pl.lit("timeout"))
        .when(failed)
        .then(pl.lit("error"))
        .otherwise(pl.lit("ok"))
        .alias("status"),
        pl.when(failed).then(pl.col("httpStatusCode").cast(pl.String)).alias("error_code"),
        pl.struct(
            "phase",
            pl.col("requestedDuration").alias("requested_duration_s"),
            pl.col("grpcConnEstablish").alias("grpc_connect_s"),
        )
        .struct.json_encode()
        .alias("extra"),
    )


def _bind(fmt: Format, head: Head, request: Request) -> Binding:
    starts = [r.get("startTime") or "" for r in head.rows[:1]]
    epoch = any(re.fullmatch(r"\d+", s) and int(s) >= _EPOCH_US for s in starts)
    bound = bind_by_name(fmt, head, request, absolute=epoch)
    return replace(bound, clock="utc" if epoch else "relative")


FORMATS = (
    Format(
        name="invitro",
        title="In-Vitro loader: invocations sent",
        table="invocations",
        syntax=("csv",),
        fields=_FIELDS,
        canonical=_canonical,
        clock="relative",
        source="vhive-serverless/invitro (MIT), the record types that its loader writes",
        evidence="importer's loader",
        quirks=(
            "times are microseconds",
            "a timeout has no duration: 0 is not a measurement",
            "the file does not name functions: func_id is the instance that answered, unknown where none did",
        ),
        bind=_bind,
        matches=lambda head: (
            {"invocationID", "startTime", "responseTime", "actualDuration"} <= set(head.names)
        ),
    ),
)

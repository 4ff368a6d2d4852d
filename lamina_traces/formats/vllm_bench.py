"""Detailed results of serving benchmarks: ``vllm bench serve --save-result --save-detailed``, SGLang's too.

Layout read from vllm-project/vllm (vllm/benchmarks/serve.py; SGLang's bench_serving writes the same lists):
one object a run, with lists that hold one entry a request. ``start_times`` are a monotonic clock, read as
seconds since the first request of the run; without them there are no arrivals. Latencies are the client's,
from sending. Answers and error texts are left out.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from decimal import Decimal, InvalidOperation
from typing import Any

import polars as pl

from .durations import as_ns, per_token
from .format import Binding, Context, Field, Format, Head, Request, bind_by_name

_LISTS = ("input_lens", "output_lens", "ttfts", "itls", "latencies", "start_times", "queue_times", "errors")  # fmt: skip
_TEXTS = ("generated_texts", "errors")


def _unfold(value: Any, context: Context) -> Iterator[Mapping[str, Any]]:
    if not isinstance(value, dict) or not isinstance(value.get("input_lens"), list):
        raise ValueError("no detailed lists in it (--save-detailed)")
    lists = {k: value[k] for k in _LISTS if isinstance(value.get(k), list)}
    n = len(lists["input_lens"])
    if "output_lens" not in lists or any(len(v) != n for v in lists.values()):
        raise ValueError("its lists have different lengths")
    texts = {k: value[k] for k in _TEXTS if isinstance(value.get(k), list) and len(value[k]) == n}
    starts = [_exact(s) for s in lists.get("start_times", [])]
    origin = min((s for s in starts if s is not None), default=Decimal(0))
    run = context.state["runs"] = context.state.get("runs", 0) + 1
    for i in range(n):
        one = {k: v[i] for k, v in lists.items()}
        itl = one.get("itls")
        gaps = [_exact(g) for g in itl] if isinstance(itl, list) else []
        failed = bool(one.get("errors"))
        yield {
            "run": run,
            "start": _since(starts[i], origin, one["start_times"]) if starts else None,
            "model": value.get("model_id"),
            "input": one["input_lens"],
            "output": None if failed else one["output_lens"],
            "ttft": None if failed else one.get("ttfts"),
            "latency": None if failed else one.get("latencies"),
            "gaps": _total(gaps) if gaps and not failed else None,
            "client_queue": one.get("queue_times"),
            "failed": failed,
            "errors": "errors" in one,
            **context.private({k: v[i] for k, v in texts.items()}),
        }


def _exact(value: Any) -> Decimal | None:
    """A JSON number without rounding; None for anything else."""
    if isinstance(value, bool):
        return None
    try:
        number = Decimal(str(value))
    except InvalidOperation:
        return None
    return number if number.is_finite() else None


def _since(start: Decimal | None, origin: Decimal, raw: Any) -> Any:
    return raw if start is None else str(start - origin)


def _total(gaps: list[Decimal | None]) -> str | None:
    known = [g for g in gaps if g is not None]
    return str(sum(known)) if len(known) == len(gaps) else "not numbers"


def _canonical(frame: pl.DataFrame, _context: Context) -> pl.DataFrame:
    # a request that never streamed has a ttft of 0
    ttft = pl.when(pl.col("ttft") > 0).then(pl.col("ttft"))
    e2e = pl.coalesce("latency", ttft + pl.col("gaps").fill_null(0.0))
    return frame.select(
        pl.col("start").alias("arrival_ns"),
        pl.col("model"),
        pl.col("model").alias("model_raw"),
        pl.col("input").alias("input_tokens"),
        pl.col("output").alias("output_tokens"),
        pl.when("failed")
        .then(pl.lit("error"))
        .when("errors")
        .then(pl.lit("ok"))
        .otherwise(pl.lit("unknown"))
        .alias("status"),
        (pl.col("start") + as_ns(ttft)).alias("first_token_ns"),
        (pl.col("start") + as_ns(e2e)).alias("last_token_ns"),
        ttft.alias("ttft_s"),
        per_token(e2e - ttft, "output").alias("tpot_s"),
        e2e.alias("e2e_s"),
    )


def _bind(fmt: Format, head: Head, request: Request) -> Binding:
    bound = bind_by_name(fmt, head, request)
    return bound if "start_times" in head.keys else replace(bound, clock="none")


FORMATS = (
    Format(
        name="vllm_bench",
        title="vLLM and SGLang serving benchmark, detailed result",
        table="llm_requests",
        syntax=("json", "jsonl"),
        fields=(
            Field("start", "clock", "s", "arrival_ns", required=False),
            Field("model", "text", "", "model", required=False),
            Field("input", "tokens", "tokens", "input_tokens"),
            Field("output", "tokens", "tokens", "output_tokens", required=False),
            Field("ttft", "seconds", "s", "ttft_s", required=False),
            Field("latency", "seconds", "s", "e2e_s", required=False),
            Field("gaps", "seconds", "s", "", required=False),
            Field("failed", "flag", "", "status"),
            Field("errors", "flag", "", ""),
        ),
        canonical=_canonical,
        unfold=_unfold,
        bind=_bind,
        matches=lambda head: {"input_lens", "output_lens", "ttfts", "itls"} <= head.keys,
        clock="relative",
        nature="measured",
        source="vllm-project/vllm (Apache-2.0), vllm/benchmarks/serve.py",
        evidence="documentation",
        quirks=(
            "start_times are a monotonic clock: arrivals count from the first request of each run",
            "ttft_s and e2e_s are the client's, from sending; waiting in the client is client_queue in extra",
            "results without latencies (older versions): e2e_s is ttft plus the gaps between chunks",
            "a failed request has unknown output and latencies (the tool writes 0)",
        ),
    ),
)

"""Scrapes of a server whose requests were drawn from known laws: cumulative counters and buckets, with resets."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import polars as pl

Array = npt.NDArray[np.float64]
S = 10**9

TTFT_S = (0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0, 20.0, 40.0)  # fmt: skip
"""vLLM's bounds."""


def one_two_five(most: int) -> list[float]:
    """1, 2, 5, 10 … as vLLM's bounds of token counts."""
    out: list[float] = []
    scale = 1
    while scale <= most:
        out += [float(m * scale) for m in (1, 2, 5) if m * scale <= most]
        scale *= 10
    return out


@dataclass(frozen=True)
class Requests:
    """When each was counted, in s from 0 and in order, its lengths and its time to first token."""

    t: Array
    input: Array
    output: Array
    ttft_s: Array


def drawn(
    rng: np.random.Generator, n: int, rate_per_s: float, mu: float = 6.0, sigma: float = 1.2
) -> Requests:
    """Poisson arrivals, lognormal lengths and times."""
    return Requests(
        np.cumsum(rng.exponential(1 / rate_per_s, n)),
        np.maximum(1.0, np.rint(rng.lognormal(mu, sigma, n))),
        np.maximum(1.0, np.rint(rng.lognormal(5.0, 0.8, n))),
        rng.lognormal(-1.0, 0.7, n),
    )


def scrapes(
    r: Requests,
    *,
    every_s: float = 15.0,
    span_s: float | None = None,
    resets_s: Sequence[float] = (),
    missing: Iterable[int] = (),
    prefix: str = "vllm:",
    host: str = "a",
    offset: float = 0.0,
    bounds: Sequence[float] | None = None,
) -> pl.DataFrame:
    """Rows of ``metric_series``: what a scrape every ``every_s`` finds. Counters start from 0 at each of ``resets_s``;
    scrapes that are ``missing`` were not made; ``offset``: counted before the first scrape."""
    end = float(r.t[-1]) if span_s is None else span_s
    at = np.arange(0.0, end + every_s, every_s)
    at = np.delete(at, [i for i in missing if i < len(at)])
    rows: list[tuple[int, str, str, str, str, float | None, float]] = []
    labels = json.dumps({"model_name": "m"}, separators=(",", ":"))

    def put(name: str, kind: str, values: Array, le: float | None = None) -> None:
        rows.extend(
            (round(a * S), prefix + name, kind, labels, host, le, float(v))
            for a, v in zip(at, values, strict=True)
        )

    def counter(times: Array, weights: Array | None = None) -> Array:
        c = np.concatenate([[0.0], np.cumsum(np.ones(len(times)) if weights is None else weights)])
        values = c[np.searchsorted(times, at, side="right")] + offset
        for reset in sorted(resets_s):
            lost = c[np.searchsorted(times, reset, side="right")]
            values = np.where(at >= reset, c[np.searchsorted(times, at, side="right")] - lost, values)  # fmt: skip
        return np.asarray(values)

    def histogram(name: str, values: Array, uppers: Sequence[float]) -> None:
        for le in (*uppers, None):
            inside = values <= (np.inf if le is None else le)
            put(name + "_bucket", "histogram", counter(r.t[inside]), le)
        put(name + "_sum", "histogram", counter(r.t, values))
        put(name + "_count", "histogram", counter(r.t))

    put("request_success_total", "counter", counter(r.t))
    put("prompt_tokens_total", "counter", counter(r.t, r.input))
    put("generation_tokens_total", "counter", counter(r.t, r.output))
    put("prefix_cache_queries_total", "counter", counter(r.t, r.input))
    put("prefix_cache_hits_total", "counter", counter(r.t, 0.25 * r.input))
    histogram("request_prompt_tokens", r.input, one_two_five(32768) if bounds is None else bounds)
    histogram("request_generation_tokens", r.output, one_two_five(32768))
    histogram("time_to_first_token_seconds", r.ttft_s, TTFT_S)
    put("num_requests_running", "gauge", 5 + 3 * np.sin(at / 100))
    put("num_requests_waiting", "gauge", np.zeros(len(at)))
    put("kv_cache_usage_perc", "gauge", 0.4 + 0.1 * np.sin(at / 50))
    names = ["arrival_ns", "metric", "type", "labels", "host", "le", "value"]
    frame = pl.DataFrame(rows, schema=names, orient="row", infer_schema_length=None)
    return frame.with_columns(pl.col("le").cast(pl.Float64)).sort("arrival_ns", maintain_order=True)


def exposition(frame: pl.DataFrame, unix_s: int = 1_700_000_000) -> str:
    """The frame as Prometheus text, a scrape after the other, with stamps in ms."""
    lines = []
    for row in frame.iter_rows(named=True):
        labels = json.loads(row["labels"]) | {"instance": row["host"]}
        if row["metric"].endswith("_bucket"):
            labels["le"] = "+Inf" if row["le"] is None else f"{row['le']:g}"
        pairs = ",".join(f'{k}="{v}"' for k, v in labels.items())
        stamp = unix_s * 1000 + row["arrival_ns"] // 10**6
        lines.append(f"{row['metric']}{{{pairs}}} {row['value']!r} {stamp}")
    return "# TYPE vllm:request_success counter\n" + "\n".join(lines) + "\n"

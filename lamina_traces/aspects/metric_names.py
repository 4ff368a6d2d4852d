"""Which metric of which server says what: the names that exporters give to counts, lengths, latencies and queues.

Names were read in the exporters' sources and documents (vllm v1/metrics/loggers.py; sglang srt/metrics/collector.py;
text-generation-inference docs/source/reference/metrics.md; NVIDIA Dynamo's metrics catalogue; NIM's observability
page; tensorrtllm_backend's README; llm-d's list of model server metrics), except those marked ``memory``.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

ROLES: dict[str, str] = {
    "arrivals": "requests received",
    "completions": "requests finished",
    "prompt_tokens": "prompt tokens",
    "output_tokens": "generated tokens",
    "input_length": "prompt tokens of a request",
    "output_length": "generated tokens of a request",
    "ttft": "time to first token",
    "tpot": "time per output token of a request",
    "itl": "time between tokens",
    "e2e": "whole request",
    "queue": "time in the queue",
    "running": "requests running",
    "waiting": "requests waiting",
    "kv_usage": "KV cache in use",
    "prefix_queries": "tokens looked up in the prefix cache",
    "prefix_hits": "tokens found in the prefix cache",
    "cached_tokens": "prompt tokens found in the cache",
    "hit_rate": "cache hit rate as the server reports it",
    "preemptions": "requests preempted",
    "prompt_rate": "prompt tokens per second",
    "output_rate": "generated tokens per second",
}
HISTOGRAMS = ("input_length", "output_length", "ttft", "tpot", "itl", "e2e", "queue")
COUNTERS = ("arrivals", "completions", "prompt_tokens", "output_tokens", "prefix_queries", "prefix_hits", "cached_tokens", "preemptions")  # fmt: skip
GAUGES = ("running", "waiting", "kv_usage", "hit_rate", "prompt_rate", "output_rate")


@dataclass(frozen=True)
class Name:
    """``name`` without the suffixes of its series (_total, _bucket, _sum, _count). ``label``: a pair that the labels
    must hold; ``scale``: what a value is times to be in seconds, tokens or a share. ``read``: where the name was."""

    engine: str
    role: str
    name: str
    scale: float = 1.0
    label: str = ""
    read: bool = True


def _names(text: str) -> tuple[Name, ...]:
    """Rows ``engine role name [scale] [label] [memory]``."""
    out = []
    for line in text.strip().splitlines():
        engine, role, name, *more = line.split()
        read = "memory" not in more
        rest = [m for m in more if m != "memory"]
        label = next((m for m in rest if "=" in m), "")
        scale = next((float(m) for m in rest if "=" not in m), 1.0)
        out.append(Name(engine, role, name, scale, label, read))
    return tuple(out)


NAMES = _names("""
dynamo   arrivals        dynamo_frontend_requests_started
dynamo   completions     dynamo_frontend_requests
dynamo   input_length    dynamo_frontend_input_sequence_tokens
dynamo   output_length   dynamo_frontend_output_sequence_tokens
dynamo   output_tokens   dynamo_frontend_output_tokens
dynamo   ttft            dynamo_frontend_time_to_first_token_seconds
dynamo   itl             dynamo_frontend_inter_token_latency_seconds
dynamo   e2e             dynamo_frontend_request_duration_seconds
dynamo   running         dynamo_frontend_inflight_requests
dynamo   waiting         dynamo_frontend_queued_requests
dynamo   kv_usage        dynamo_component_gpu_cache_usage_percent
dynamo   kv_usage        dynamo_component_kvstats_gpu_cache_usage_percent
vllm     completions     vllm_request_success
vllm     prompt_tokens   vllm_prompt_tokens
vllm     output_tokens   vllm_generation_tokens
vllm     input_length    vllm_request_prompt_tokens
vllm     output_length   vllm_request_generation_tokens
vllm     ttft            vllm_time_to_first_token_seconds
vllm     tpot            vllm_request_time_per_output_token_seconds
vllm     itl             vllm_inter_token_latency_seconds
vllm     itl             vllm_time_per_output_token_seconds
vllm     e2e             vllm_e2e_request_latency_seconds
vllm     queue           vllm_request_queue_time_seconds
vllm     running         vllm_num_requests_running
vllm     waiting         vllm_num_requests_waiting
vllm     kv_usage        vllm_kv_cache_usage_perc
vllm     kv_usage        vllm_gpu_cache_usage_perc
vllm     prefix_queries  vllm_prefix_cache_queries
vllm     prefix_queries  vllm_gpu_prefix_cache_queries
vllm     prefix_hits     vllm_prefix_cache_hits
vllm     prefix_hits     vllm_gpu_prefix_cache_hits
vllm     preemptions     vllm_num_preemptions
sglang   arrivals        sglang_num_requests_received
sglang   completions     sglang_num_requests
sglang   prompt_tokens   sglang_prompt_tokens
sglang   output_tokens   sglang_generation_tokens
sglang   cached_tokens   sglang_cached_tokens
sglang   input_length    sglang_prompt_tokens_histogram
sglang   output_length   sglang_generation_tokens_histogram
sglang   ttft            sglang_time_to_first_token_seconds
sglang   itl             sglang_inter_token_latency_seconds
sglang   e2e             sglang_e2e_request_latency_seconds
sglang   queue           sglang_queue_time_seconds
sglang   running         sglang_num_running_reqs
sglang   waiting         sglang_num_queue_reqs
sglang   kv_usage        sglang_token_usage
sglang   hit_rate        sglang_cache_hit_rate
sglang   output_rate     sglang_gen_throughput
trtllm   completions     trtllm_request_success
trtllm   ttft            trtllm_time_to_first_token_seconds
trtllm   tpot            trtllm_time_per_output_token_seconds     memory
trtllm   e2e             trtllm_e2e_request_latency_seconds
trtllm   queue           trtllm_request_queue_time_seconds
trtllm   running         trtllm_num_requests_running
trtllm   waiting         trtllm_num_requests_waiting
trtllm   kv_usage        trtllm_kv_cache_utilization
trtllm   hit_rate        trtllm_kv_cache_hit_rate
tgi      arrivals        tgi_request_count
tgi      completions     tgi_request_success
tgi      input_length    tgi_request_input_length
tgi      output_length   tgi_request_generated_tokens
tgi      tpot            tgi_request_mean_time_per_token_duration
tgi      e2e             tgi_request_duration
tgi      queue           tgi_request_queue_duration
tgi      running         tgi_batch_current_size
tgi      waiting         tgi_queue_size
nim      completions     request_finish
nim      completions     request_success
nim      prompt_tokens   prompt_tokens
nim      output_tokens   generation_tokens
nim      input_length    request_prompt_tokens
nim      output_length   request_generation_tokens
nim      ttft            time_to_first_token_seconds
nim      tpot            time_per_output_token_seconds
nim      e2e             e2e_request_latency_seconds
nim      running         num_requests_running
nim      waiting         num_requests_waiting
nim      kv_usage        gpu_cache_usage_perc
triton   completions     nv_inference_request_success
triton   ttft            nv_inference_first_response_histogram_ms 0.001  memory
triton   running         nv_trt_llm_request_metrics               request_type=scheduled
triton   waiting         nv_trt_llm_request_metrics               request_type=waiting
triton   kv_usage        nv_trt_llm_kv_cache_block_metrics        kv_cache_block_type=fraction
series   prompt_rate     prompt_throughput
series   output_rate     gen_throughput
series   running         running
series   waiting         waiting
series   kv_usage        kv_cache_pct                             0.01
""")
"""the first name of a role that a trace has is taken: a frontend's before an engine's, the present one before the older.
``series``: columns of the CSV that casys-kaist/LLMServingSim's bench writes of a vLLM run."""


@dataclass(frozen=True)
class Found:
    """A metric of the trace: ``metric`` as recorded with its suffixes cut, ``series`` that it has by suffix."""

    name: Name
    metric: str
    suffixes: tuple[str, ...]

    @property
    def label(self) -> str:
        """What the labels, as JSON text, must be like in SQL."""
        if not self.name.label:
            return "%"
        key, _, value = self.name.label.partition("=")
        return f'%"{key}":"{value}"%'

    def series(self, suffix: str) -> str:
        return self.metric + suffix


SUFFIXES = ("_bucket", "_sum", "_count", "_total", "_created", "")


def split(metric: str) -> tuple[str, str]:
    """A metric's name without the suffix of its series, and the suffix."""
    for suffix in SUFFIXES:
        if suffix and metric.endswith(suffix):
            return metric[: -len(suffix)], suffix
    return metric, ""


def recognised(metrics: Iterable[str]) -> dict[str, Found]:
    """The metric that is taken for each role. A colon and an underscore after the engine's name are one."""
    by_name: dict[str, dict[str, str]] = {}
    for metric in metrics:
        base, suffix = split(metric)
        by_name.setdefault(base.replace(":", "_"), {})[suffix] = base
        # tgi_request_count and its like end as series of histograms do
        by_name.setdefault(metric.replace(":", "_"), {})[""] = metric
    plain = {"prompt_throughput", "gen_throughput"} & set(by_name)
    found: dict[str, Found] = {}
    for name in NAMES:
        if name.engine == "series" and not plain:
            continue  # "running" alone may be anything
        have = by_name.get(name.name, {})
        wanted = "_bucket" if name.role in HISTOGRAMS else None
        if name.role in found or not have or (wanted and wanted not in have):
            continue
        if not wanted and not ({"", "_total"} & set(have)):
            continue
        found[name.role] = Found(name, next(iter(have.values())), tuple(sorted(have)))
    return found

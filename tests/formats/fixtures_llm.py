"""Small sources of every LLM format, true to its layout and invented; and the same with planted secrets."""

from __future__ import annotations

import json
from typing import Any

SECRET = "PLANTED-SECRET"


def lines(*values: Any) -> bytes:
    return "".join(json.dumps(v) + "\n" for v in values).encode()


def document(value: Any, indent: int | None = 1) -> bytes:
    return json.dumps(value, indent=indent).encode()


def attribute(key: str, value: Any) -> dict[str, Any]:
    """A key and a value as OTLP/JSON writes them: 64-bit numbers as strings."""
    if isinstance(value, bool):
        return {"key": key, "value": {"boolValue": value}}
    if isinstance(value, int):
        return {"key": key, "value": {"intValue": str(value)}}
    if isinstance(value, float):
        return {"key": key, "value": {"doubleValue": value}}
    if isinstance(value, list):
        return {
            "key": key,
            "value": {"arrayValue": {"values": [{"stringValue": v} for v in value]}},
        }
    return {"key": key, "value": {"stringValue": value}}


T0 = 1_772_000_000_000_000_000


def span(
    trace: str, name: str, parent: str, start_ms: float, end_ms: float, *, code: int = 0,
    state: str = "", kind: int = 1, **attributes: Any,
) -> dict[str, Any]:  # fmt: skip
    """An OTLP span ``start_ms`` after T0; names of attributes are given with __ for a dot."""
    out = {
        "traceId": trace, "spanId": name, "parentSpanId": parent, "name": "POST /v1", "kind": kind,
        "startTimeUnixNano": str(T0 + round(start_ms * 1e6)), "endTimeUnixNano": str(T0 + round(end_ms * 1e6)),
        "attributes": [attribute(k.replace("__", "."), v) for k, v in attributes.items()],
        "status": {"code": code} if code else {},
    }  # fmt: skip
    if state:
        out["traceState"] = state
    return out


def resource(host: str, service: str, *spans: dict[str, Any]) -> dict[str, Any]:
    return {
        "resource": {"attributes": [attribute("service.name", service), attribute("host.name", host)]},
        "scopeSpans": [{"scope": {"name": "x"}, "spans": list(spans)}],
    }  # fmt: skip


def engine(**more: Any) -> dict[str, Any]:
    """Attributes of an engine's span, first generation of the names."""
    return {
        "gen_ai__request__id": "cmpl-1", "gen_ai__response__model": "m", "gen_ai__usage__prompt_tokens": 100,
        "gen_ai__usage__completion_tokens": 11, "gen_ai__latency__time_to_first_token": 0.25,
        "gen_ai__latency__e2e": 1.25, "gen_ai__latency__time_in_queue": 0.05,
        "gen_ai__usage__num_sequences": 1,
    } | more  # fmt: skip


CLIENT: Any = {
    "gen_ai__operation__name": "chat", "gen_ai__request__model": "m", "gen_ai__request__max_tokens": 64,
    "gen_ai__usage__input_tokens": 98, "gen_ai__usage__output_tokens": 11,
    "gen_ai__response__finish_reasons": ["stop"],
}  # fmt: skip

OTLP: Any = [
    {
        "resourceSpans": [
            resource("app", "shop", span("t1", "a", "", 0, 1400, kind=3, **CLIENT)),
            resource("gw", "router", span("t1", "b", "a", 10, 1390)),
        ]
    },
    {
        "resourceSpans": [
            resource("gpu0", "vllm", span("t1", "c", "b", 100, 1360, kind=2, **engine())),
            resource("app", "shop", span("t2", "d", "", 3000, 3005, code=2, error__type="TimeoutError", **CLIENT)),
        ]
    },
]  # fmt: skip

OTEL: Any = {
    "trace_id": "w1",
    "span_count": 3,
    "spans": [
        {
            "trace_id": "w1", "span_id": "s1", "parent_span_id": None, "name": "chat m",
            "start_time": "2026-02-25T10:00:00.000000", "end_time": "2026-02-25T10:00:02.000000",
            "attributes": {"gen_ai.request.model": "m", "gen_ai.usage.input_tokens": 10, "gen_ai.usage.output_tokens": "5", "session.id": "s"},
            "resource_attributes": {"service.name": "planner"}, "status": {"code": 1},
        },
        {
            "trace_id": "w1", "span_id": "s2", "parent_span_id": "s1", "name": "chat m",
            "start_time": "2026-02-25T11:00:03.500000+01:00", "end_time": "2026-02-25T10:00:05Z",
            "attributes": {"gen_ai.request.model": "m", "gen_ai.usage.input_tokens": 20, "gen_ai.usage.output_tokens": 5},
            "resource_attributes": {"service.name": "worker"}, "status": {"code": 1},
        },
        {
            "trace_id": "w1", "span_id": "s3", "parent_span_id": None, "name": "chat m",
            "start_time": "2026-02-25T10:00:06", "end_time": "2026-02-25T10:00:06",
            "attributes": {"gen_ai.request.model": "m", "gen_ai.usage.input_tokens": 0, "gen_ai.usage.output_tokens": 0},
            "resource_attributes": {}, "status": {"code": 2, "message": "boom"},
        },
    ],
}  # fmt: skip

WEKA: Any = {
    "id": "c1", "models": ["opus"], "block_size": 64, "hash_id_scope": "local", "tool_tokens": 10, "system_tokens": 5,
    "requests": [
        {"t": 0.0, "type": "s", "model": "opus", "in": 130, "out": 11, "hash_ids": [1, 2, 3], "input_types": ["text"], "output_types": ["tool_use"], "stop": "tool_use", "api_time": 2.0, "ttft": 1.0},
        {"t": 3.5, "type": "subagent", "agent_id": "agent_001", "subagent_type": "Explore", "duration_ms": 900, "total_tokens": 90, "tool_use_count": 1, "status": "completed", "models": ["haiku"], "tool_tokens": 1, "system_tokens": 1,
         "requests": [{"t": 3.6, "type": "n", "model": "haiku", "in": 64, "out": 2, "hash_ids": [9]}, {"t": 4.0, "type": "n", "model": "haiku", "in": 70, "out": 3, "hash_ids": [9, 10]}]},
        {"t": 5.0, "type": "n", "model": "opus", "in": 200, "out": 4, "hash_ids": [1, 2, 3, 4], "stop": "", "api_time": 1.5, "think_time": 0.25},
    ],
}  # fmt: skip

VLLM_BENCH: dict[str, Any] = {
    "date": "20260101-000000", "model_id": "m", "num_prompts": 3, "duration": 2.0, "completed": 2, "failed": 1,
    "input_lens": [10, 20, 30], "output_lens": [3, 1, 0], "ttfts": [0.5, 0.25, 0.0], "itls": [[0.1, 0.1], [], []],
    "latencies": [0.75, 0.25, 0.0], "start_times": [479894.75, 479894.5810496, 479895.0], "queue_times": [0.0, 0.0, 0.1],
    "generated_texts": ["a b c", "a", ""], "errors": ["", "", "boom"],
}  # fmt: skip

AIPERF: Any = [
    {
        "metadata": {"session_num": 0, "x_request_id": "r0", "x_correlation_id": "c0", "conversation_id": "s0", "turn_index": 0, "request_start_ns": T0, "request_end_ns": T0 + 2 * 10**9, "worker_id": "w", "record_processor_id": "p", "benchmark_phase": "profiling", "was_cancelled": False},
        "metrics": {"time_to_first_token": {"value": 500.0, "unit": "ms"}, "request_latency": {"value": 2_000_000_000, "unit": "ns"}, "inter_token_latency": {"value": 140.0, "unit": "ms"}, "input_sequence_length": {"value": 100, "unit": "tokens"}, "output_sequence_length": {"value": 11, "unit": "tokens"}, "reasoning_token_count": {"value": 4, "unit": "tokens"}},
        "error": None,
    },
    {
        "metadata": {"session_num": 1, "x_request_id": "r1", "request_start_ns": T0 + 5, "request_end_ns": T0 + 10**9, "worker_id": "w", "record_processor_id": "p", "benchmark_phase": "profiling"},
        "metrics": {}, "error": {"code": 504, "type": "RequestTimeoutError", "message": "took too long"},
    },
]  # fmt: skip


def guide_request(n: int, **more: Any) -> dict[str, Any]:
    return {
        "type_": "generative_request_stats", "request_id": f"g{n}", "request_args": "{}", "output": "words",
        "info": {"request_id": f"g{n}", "status": "completed", "timings": {"targeted_start": 99.0, "resolve_start": 100.0 + n, "request_start": 100.125 + n, "first_token_iteration": 100.625 + n, "last_token_iteration": 102.125 + n, "request_end": 102.2 + n, "resolve_end": 102.3 + n}},
        "input_metrics": {"text_tokens": 50, "image_tokens": None, "cached_tokens": 16}, "output_metrics": {"text_tokens": 4},
    } | more  # fmt: skip


GUIDELLM: Any = {
    "metadata": {"version": 1},
    "config": {},
    "benchmarks": [
        {"requests": {"successful": [guide_request(0)], "incomplete": [], "errored": [], "total": None}},
        {"requests": {"successful": [], "incomplete": [guide_request(3)], "errored": [guide_request(1, output_metrics={}, info={"status": "errored", "error": "boom", "timings": {"resolve_start": 7.5, "resolve_end": 8.0}})]}},
    ],
}  # fmt: skip

INFERENCE_PERF: Any = [
    {
        "start_time": 1393.5, "end_time": 1396.0, "request": '{"prompt": "x"}', "response": "y",
        "info": {"request_metrics": {"text": {"input_tokens": 591}}, "response_metrics": {"output_tokens": 3, "server_usage": {"prompt_tokens": 591, "prompt_tokens_details": {"cached_tokens": 64}}, "chunk_times": [], "output_token_times": [1394.0, 1394.5, 1395.5]}, "lora_adapter": None, "input_tokens": 591},
        "error": None,
    },
    {"start_time": 1393.251, "end_time": 1393.5, "request": "{}", "info": {"input_tokens": 7, "output_tokens": 0, "output_token_times": []}, "error": {"error_type": "ServerTimeoutError", "error_msg": "late"}},
]  # fmt: skip

SGLANG: Any = [
    {"request_parameters": '{"text": "hello"}', "id": "a1", "finish_reason": {"type": "stop", "matched": 2}, "prompt_tokens": 30, "weight_version": "d", "num_retractions": 1, "reasoning_tokens": 2, "completion_tokens": 5, "cached_tokens": 16, "queue_time": 0.125, "forward_entry_time": 1777142985.5, "request_received_ts": 1777142985.25, "first_token_latency": 0.5, "request_finished_ts": 1777142987.25, "e2e_latency": 2.0},
    {"request_parameters": "{}", "id": "a0", "finish_reason": {"type": "abort", "message": "client gone", "err_type": "BadRequestError", "status_code": 400}, "prompt_tokens": 3, "completion_tokens": 0, "cached_tokens": 0, "request_received_ts": 1777142984.25, "e2e_latency": 0.25},
]  # fmt: skip

DYNAMO: Any = [
    {"schema": "dynamo.request.trace.v1", "event_type": "request_end", "event_time_unix_ms": 1777312801000, "event_source": "dynamo", "agent_context": {"session_id": "run:researcher", "parent_session_id": "run:planner"},
     "request": {"request_id": "d1", "x_request_id": "call", "model": "m", "output_tokens": 16, "cached_tokens": 64, "request_received_ms": 1777312800000, "prefill_wait_time_ms": 12.5, "ttft_ms": 82.5, "total_time_ms": 1000.0, "queue_depth": 3, "worker": {"decode_worker_id": 7587890000000000001}, "replay": {"trace_block_size": 64, "input_length": 128, "input_sequence_hashes": [14879255164371896291, 274632075616497421]}, "finish_reason_metadata": {"finish_reason": "tool_calls"}}},
    {"schema": "dynamo.request.trace.v1", "event_type": "tool_end", "event_time_unix_ms": 1777312801500, "agent_context": {"session_id": "run:researcher"}, "tool": {"tool_call_id": "x", "tool_class": "web_search", "duration_ms": 420.5}},
    {"timestamp": 5, "event": {"schema": "dynamo.agent.trace.v1", "event_type": "request_end", "event_time_unix_ms": 1777312800500, "agent_context": {"session_type_id": "deep_research", "session_id": "run", "trajectory_id": "run:planner"}, "request": {"request_id": "d0", "model": "m", "input_tokens": 40, "output_tokens": 2, "total_time_ms": 1000.25}}},
]  # fmt: skip

LITELLM_HEADER = "request_id,call_type,api_key,spend,total_tokens,prompt_tokens,completion_tokens,startTime,endTime,completionStartTime,model,user,metadata,cache_hit,team_id,end_user,messages,response,session_id,status\n"  # fmt: skip
LITELLM = (
    LITELLM_HEADER
    + 'l1,acompletion,hashed,0.01,111,100,11,2026-01-01 00:00:00.5,2026-01-01 00:00:03,2026-01-01 00:00:01,m,u1,"{""a"": ""line\nbreak""}",False,team,,{},{},s1,success\n'
    + "l2,acompletion,hashed,0,0,0,0,2026-01-01T00:00:01Z,2026-01-01T00:00:02Z,2026-01-01T00:00:02Z,m,u1,{},None,,e1,{},{},,failure\n"
)

BLIS_HEADER = "request_id,client_id,tenant_id,slo_class,session_id,round_index,prefix_group,prefix_length,streaming,input_tokens,output_tokens,text_tokens,image_tokens,audio_tokens,video_tokens,reason_ratio,model,deadline_us,server_input_tokens,arrival_time_us,send_time_us,first_chunk_time_us,last_chunk_time_us,num_chunks,status,error_message,finish_reason"  # fmt: skip

FIXTURES: dict[str, bytes] = {
    "azure_lmm": b"TIMESTAMP,NumImages,ContextTokens,GeneratedTokens\n2024-10-15T12:00:00.269Z,2,1500,20\n2024-10-15T12:00:00.500Z,0,7,3\n",
    "bailian": lines(
        {"chat_id": 159, "parent_chat_id": -1, "timestamp": 61.114, "input_length": 33, "output_length": 132, "type": "text", "turn": 1, "hash_ids": [1089, 1090, 1091]},
        {"chat_id": 160, "parent_chat_id": -1, "timestamp": 61.2, "input_length": 5, "output_length": 1, "type": "search", "turn": 1, "hash_ids": [7]},
        {"chat_id": 161, "parent_chat_id": 159, "timestamp": 90.001, "input_length": 50, "output_length": 80, "type": "text", "turn": 2, "hash_ids": [1089, 1090, 18446744073709551615, 6]},
        {"chat_id": 162, "parent_chat_id": 161, "timestamp": 120, "input_length": 60, "output_length": 8, "type": "text", "turn": 3, "hash_ids": [1089, 1090, 18446744073709551615, 6]},
        {"chat_id": 170, "parent_chat_id": 5, "timestamp": 121, "input_length": 60, "output_length": 8, "type": "text", "turn": 4, "hash_ids": [2, 3, 4, 5]},
    ),
    "ragpulse": lines(
        {"timestamp": "27", "input_length": 3861, "output_length": 127, "hash_ids": {"sys_prompt": [1, 2], "passages_ids": [3, 4], "history": [], "web_search": [5], "user_input": [6]}, "session_id": "x-1"},
        {"timestamp": "26", "input_length": 100, "output_length": 1, "hash_ids": {"sys_prompt": [1], "passages_ids": [], "history": [], "web_search": [], "user_input": [7]}, "session_id": "x-2"},
    ) + b"\n",
    "ragpulse_parts": lines(*({"passage_id": i, "token_length": 10 * i} for i in range(1, 7))),
    "weka": document(WEKA),
    "weka_flat": b"session_id,turn_index,request_arrival_delta_s,model_id,input_tokens,output_tokens,block_hashes_count,api_time_s,think_time_s,ttft_s,request_type\nc1,0,0.0,opus,130,11,3,2.0,,1.0,s\nc1,1,5.0,opus,200,4,4,1.5,0.25,,n\n",
    "vidur": b"arrived_at,num_prefill_tokens,num_decode_tokens\n0.0,4808,10\n0.052,3180,8\n",
    "llmservingsim": lines(
        {"input_toks": 17, "output_toks": 4, "arrival_time_ns": 46926808, "input_tok_ids": list(range(17)), "output_tok_ids": [1, 2, 3, 4]},
        {"session_id": "s", "arrival_time_ns": 50, "sub_requests": [{"input_toks": 5, "output_toks": 2, "tool_duration_ns": 700}, {"input_toks": 9, "output_toks": 3}, {"input_toks": 12, "output_toks": 1, "tool_duration_ns": 5}]},
        {"session_id": "none", "arrival_time_ns": 60, "sub_requests": []},
        {"input_toks": 33, "output_toks": 4, "arrival_time_ns": 9007199254740993, "input_tok_ids": [*range(16), 99, *range(16)], "output_tok_ids": []},
    ),
    "hexgen": document([
        {"Text2SQLRequest": [{"step": "Information Retriever", "input_length": 600, "output_length": 40}, {"step": "revise", "input_length": 900, "output_length": 80}]},
        {"Text2SQLRequest": [{"step": "evaluate", "input_length": 10, "output_length": 4}]},
    ]),
    "splitwise_sim": b"request_id,request_type,application_id,arrival_timestamp,batch_size,prompt_size,token_size\n0,2,0,0.0,1,128,5\n1,2,0,0.3,1,64,2\n",
    "blis_v2": (
        BLIS_HEADER + "\n"
        "0,c1,t1,standard,s1,0,,0,true,10,5,10,0,0,0,0.4,m,0,10,1000,1100,501000,901000,10,ok,,stop\n"
        "1,c1,t1,critical,s1,1,g,3,false,12,5,12,0,0,0,0.0,,90000000,0,100000,100000,0,0,0,timeout,late,\n"
    ).encode(),
    "swissai": lines(
        {"id": "a", "status": "DEFAULT", "created_at": "2024-07-17 13:56:49.399", "finished_at": "2024-07-17 13:56:50.527", "model": "m", "model_parameters": {"max_tokens": 256, "stop": ["x"]}, "reported_token_input": 23, "reported_token_output": 38},
        {"id": "b", "status": "ERROR", "created_at": "2024-07-17 13:56:49.4", "finished_at": "2024-07-17 13:56:49.4", "model": "m", "model_parameters": {}, "reported_token_input": -1, "reported_token_output": -1},
    ),
    "aibrix": lines(
        {"timestamp": 0, "requests": [{"prompt": "hello", "prompt_length": 5, "output_length": 2, "session_id": "1"}, {"prompt": "x", "prompt_length": 7, "output_length": None}]},
        {"timestamp": 1500, "requests": [{"Prompt Length": 6, "Output Length": 3, "session_id": "1"}]},
    ),
    "vllm_requests": lines(
        {"request_id": "bench-0", "input_toks": 2361, "output_toks": 532, "arrival_time": 1777142984.5786855, "queued_ts": 479894.5810496, "scheduled_ts": 479894.581091843, "first_token_ts": 479895.090848487, "last_token_ts": 479942.844225393},
        {"request_id": "bench-1", "input_toks": 1128, "output_toks": 1, "arrival_time": 1777142984.8662388, "queued_ts": 479895.000621165, "scheduled_ts": 479895.0006304, "first_token_ts": 479895.444798284, "last_token_ts": 479895.444798284},
    ),
    "servegen": b"0,2.5,1.03,Gamma,0.94,0.017\n600,0,0,,0,0\n1200,1.5,8.0,Weibull,0.5,0.2\n",
    "servegen_dataset": document({"0": {"input_tokens": "{34: 0.25, 35: 7.5e-1}", "output_tokens": "{1: 1.0}"}, "21600": {"input_tokens": "{}", "output_tokens": "{}"}}),
    "otlp": lines(*OTLP),
    "otel": document(OTEL),
    "litellm": LITELLM.encode(),
    "sglang_metrics": lines(*SGLANG),
    "dynamo": lines(*DYNAMO),
    "vllm_bench": document(VLLM_BENCH, None),
    "aiperf": lines(*AIPERF),
    "guidellm": document(GUIDELLM),
    "inference_perf": document(INFERENCE_PERF),
    "openai_usage": document({"object": "page", "data": [{"object": "bucket", "start_time": 1730419200, "end_time": 1730505600, "results": [{"object": "organization.usage.completions.result", "input_tokens": 141201, "output_tokens": 9756, "input_cached_tokens": 0, "num_model_requests": 470, "project_id": "p", "user_id": None, "api_key_id": "key_1", "model": "m", "batch": False}]}, {"object": "bucket", "start_time": 1730505600, "end_time": 1730592000, "results": []}], "has_more": False, "next_page": None}),
}  # fmt: skip

_MESSAGES = json.dumps([{"role": "user", "content": SECRET}])
SECRETS: dict[str, bytes] = {
    "otlp": lines({"resourceSpans": [resource("app", "shop", span("t", "a", "", 0, 5, gen_ai__prompt=SECRET, gen_ai__input__messages=_MESSAGES, gen_ai__completion__0__content=SECRET, http__request__header__authorization=["Bearer " + SECRET], server__address=SECRET, exception__message=SECRET, **CLIENT))]}),
    "otel": document({"trace_id": "t", "spans": [{**OTEL["spans"][0], "attributes": {**OTEL["spans"][0]["attributes"], "gen_ai.input.messages": _MESSAGES, "gen_ai.output.text": SECRET, "api_key": SECRET}, "status": {"code": 2, "message": SECRET}, "events": [{"name": SECRET}]}]}),
    "litellm": (LITELLM_HEADER + f'l1,acompletion,{SECRET},0.01,2,1,1,2026-01-01T00:00:00Z,2026-01-01T00:00:03Z,,m,me@{SECRET}.example,"{{""user_api_key_user_email"": ""{SECRET}"", ""note"": ""{SECRET}""}}",False,team,,"[{{""content"": ""{SECRET}""}}]","{{""x"": ""{SECRET}""}}",s1,success\n').encode(),
    "sglang_metrics": lines({**SGLANG[0], "request_parameters": json.dumps({"text": SECRET}), "finish_reason": {"type": "abort", "message": SECRET}, "output_token_logprobs": [[0.0, 1, SECRET]], "customized_info": [SECRET]}),
    "dynamo": lines({**DYNAMO[0], "request": {**DYNAMO[0]["request"], "io_text": {"input": SECRET, "output": SECRET}, "finish_reason_metadata": {"finish_reason": "stop", "stop_reason": SECRET}}, "payload": {"request": SECRET, "http_request_headers": {"authorization": SECRET}}}, {"schema": "dynamo.request.trace.v1", "event_type": "request_payload", "event_time_unix_ms": 1, "payload": {"request": {"messages": SECRET}}}),
    "vllm_bench": document({**VLLM_BENCH, "generated_texts": [SECRET] * 3, "errors": ["", "", SECRET]}),
    "aiperf": lines(AIPERF[0], {**AIPERF[1], "error": {"code": 500, "type": "HTTPError", "message": SECRET, "cause": SECRET, "details": {"body": SECRET}}, "trace_data": {"request_headers": {"authorization": SECRET}}}),
    "guidellm": document({**GUIDELLM, "benchmarks": [{"requests": {"successful": [guide_request(0, output=SECRET, request_args=SECRET, reasoning_output=SECRET, tool_calls=[SECRET])], "incomplete": [], "errored": [guide_request(1, info={"status": "errored", "error": SECRET, "traceback": SECRET, "timings": {"request_start": 1.0}})]}}]}),
    "inference_perf": document([{**INFERENCE_PERF[0], "request": SECRET, "response": SECRET}, {**INFERENCE_PERF[1], "error": {"error_type": "HTTPError", "error_msg": SECRET}}]),
    "aibrix": lines({"timestamp": 0, "requests": [{"prompt": SECRET, "completion": SECRET, "prompt_length": 5, "output_length": 2, "api_key": SECRET}]}),
    "swissai": lines({"id": "a", "status": "DEFAULT", "created_at": "2024-07-17 13:56:49.399", "finished_at": "2024-07-17 13:56:50.527", "model": "m", "model_parameters": {"max_tokens": 256, "stop": [SECRET]}, "reported_token_input": 23, "reported_token_output": 38, "prompt": SECRET, "messages": [SECRET]}),
    "blis_v2": (BLIS_HEADER + f"\n0,c1,t1,standard,s1,0,,0,true,10,5,10,0,0,0,0.4,m,0,10,0,0,500000,900000,10,error,{SECRET},stop\n").encode(),
    "hexgen": document([{"Text2SQLRequest": [{"step": "revise", "input_length": 1, "output_length": 2, "prompt": SECRET, "response": SECRET}]}]),
    "weka": document({**WEKA, "requests": [{**WEKA["requests"][0], "messages": [SECRET], "prompt": SECRET}]}),
    "bailian": lines({"chat_id": 1, "parent_chat_id": -1, "timestamp": 1, "input_length": 3, "output_length": 1, "type": "text", "turn": 1, "hash_ids": [1], "prompt": SECRET}),
    "ragpulse": lines({"timestamp": "27", "input_length": 3861, "output_length": 127, "hash_ids": {"passages_ids": [3]}, "session_id": "x", "question": SECRET, "answer": SECRET}),
    "llmservingsim": lines({"input_toks": 1, "output_toks": 4, "arrival_time_ns": 4, "prompt": SECRET}, {"arrival_time_ns": 4, "sub_requests": [{"input_toks": 5, "output_toks": 2, "text": SECRET}]}),
    "vllm_requests": lines({"request_id": "b", "input_toks": 1, "output_toks": 2, "arrival_time": 1.0, "queued_ts": 1.0, "scheduled_ts": 1.0, "first_token_ts": 2.0, "last_token_ts": 3.0, "prompt": SECRET, "output": SECRET}),
}  # fmt: skip
"""the same with SECRET in every place for text; none of it may come out"""

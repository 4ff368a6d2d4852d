"""Engines' command lines as specs. Each says after which page it is written, or that it is ours."""

from __future__ import annotations

from typing import Any

import pytest

from lamina_traces import specs
from lamina_traces.errors import LaminaError, ModelError, UnknownName, UsageError

parse = specs.parse_engine_args


@pytest.mark.parametrize(
    ("line", "deployment", "batch", "kv"),
    [
        # after docs.vllm.ai, "Parallelism and Scaling", with a model that the catalogue has
        (
            "vllm serve meta-llama/Llama-3.1-70B-Instruct --tensor-parallel-size 4 --pipeline-parallel-size 2",
            {"tp": 4, "pp": 2}, {}, {},
        ),
        # after docs.redhat.com, "Key vLLM server arguments"
        (
            ("podman run --rm -it --device nvidia.com/gpu=all -p 8000:8000 -v ./cache:/opt/app-root/src/.cache "
            "vllm/vllm-openai:latest --model meta-llama/Llama-3.1-8B-Instruct --tensor-parallel-size 2 "
            "--gpu-memory-utilization 0.8 --max-model-len 8192 --max-num-batched-tokens 4096"),
            {"tp": 2}, {"max_context": 8192, "max_num_batched_tokens": 4096}, {"utilisation": 0.8},
        ),
        # after docs.vllm.ai, "Expert Parallel Deployment"
        (
            "vllm serve deepseek-ai/DeepSeek-V3 --tensor-parallel-size 1 --data-parallel-size 8 --enable-expert-parallel",
            {"tp": 1, "dp": 8, "ep": 8}, {}, {},
        ),
        # ours: variables, underscores, equals signs, short names, lines that go on, sizes with letters
        (
            ("CUDA_VISIBLE_DEVICES=0,1 python3 -m vllm.entrypoints.openai.api_server --model=meta-llama/Llama-3.1-8B-Instruct \\\n"
            " -tp 2 -dp=3 --max_num_seqs 64 --max-model-len 8K --block-size=32 --kv-cache-dtype fp8_e5m2 -q fp8 --enable_chunked_prefill"),
            {"tp": 2, "replicas": 3, "dtype": "fp8", "kv_dtype": "fp8", "prefill": "chunked"},
            {"max_num_seqs": 64, "max_context": 8192}, {"block_size": 32},
        ),
        ("vllm serve Qwen/Qwen2.5-7B-Instruct --dtype half", {"dtype": "fp16"}, {}, {}),
        # ours: the type of a quantized checkpoint's weights is its own; --dtype is that of its arithmetic
        ("vllm serve Qwen/Qwen3-32B-AWQ --dtype half", {}, {}, {}),
        ("vllm serve Qwen/Qwen2.5-72B-Instruct-GPTQ-Int8 -q gptq_marlin --max-num-seqs 8", {"dtype": "auto"}, {"max_num_seqs": 8}, {}),
        ("vllm serve deepseek-ai/DeepSeek-V3 --dtype bfloat16 -tp 8", {"tp": 8}, {}, {}),
        ("vllm serve Qwen/Qwen2.5-7B-Instruct --quantization awq_marlin --dtype auto", {"dtype": "int4"}, {}, {}),
        # after docs.sglang.io, "Server Arguments"
        ("python -m sglang.launch_server --model-path meta-llama/Meta-Llama-3-8B-Instruct --tp 2", {"tp": 2}, {}, {}),
        (
            "python -m sglang_router.launch_server --model-path meta-llama/Meta-Llama-3-8B-Instruct --dp 2 --tp 2",
            {"tp": 2, "replicas": 2}, {}, {},
        ),
        (
            ("python -m sglang.launch_server --model-path meta-llama/Meta-Llama-3-8B-Instruct --mem-fraction-static 0.7 "
            "--chunked-prefill-size 4096 --kv-cache-dtype fp8_e5m2"),
            {"kv_dtype": "fp8"}, {"max_num_batched_tokens": 4096}, {"utilisation": 0.7},
        ),
        # after docs.sglang.io, DeepSeek usage: attention in 8 copies over 8 devices
        (
            "sglang serve --model-path deepseek-ai/DeepSeek-R1 --tp 8 --dp 8 --enable-dp-attention --ep-size 8 --page-size 64",
            {"tp": 1, "dp": 8, "ep": 8}, {}, {"block_size": 64},
        ),
        # ours: no chunks; SGLang then bounds prompts that come together by another flag
        (
            "sglang serve --model-path Qwen/Qwen2.5-7B-Instruct --max-running-requests 4096 --chunked-prefill-size -1",
            {"prefill": "first"}, {"max_num_seqs": 4096}, {},
        ),
        (
            "sglang serve --model-path Qwen/Qwen2.5-7B-Instruct --max-prefill-tokens 16384 --chunked-prefill-size -1",
            {"prefill": "first"}, {"max_num_batched_tokens": 16384}, {},
        ),
        # after docs.vllm.ai, "Engine Arguments", scheduler and cache
        (
            ("vllm serve meta-llama/Llama-3.1-8B-Instruct --no-enable-prefix-caching --no-enable-chunked-prefill "
            "--scheduling-policy priority --preemption-mode swap"),
            {"reuse": "none", "prefill": "first", "rank": "priority", "preempt": "swap"}, {}, {},
        ),
        (
            "vllm serve meta-llama/Llama-3.1-8B-Instruct --enable-prefix-caching --scheduling-policy=fcfs",
            {"reuse": "auto", "rank": "fcfs"}, {}, {},
        ),
        # after docs.sglang.io, "Server Arguments", memory and scheduling
        (
            ("sglang serve --model-path Qwen/Qwen2.5-7B-Instruct --enable-mixed-chunk --disable-radix-cache "
            "--schedule-policy fcfs --enable-priority-scheduling"),
            {"reuse": "none", "prefill": "chunked", "rank": "priority"}, {}, {},
        ),
    ],
)  # fmt: skip
def test_command_lines(
    line: str, deployment: dict[str, Any], batch: dict[str, Any], kv: dict[str, Any]
) -> None:
    read = parse(line)
    assert {k: v for k, v in read.deployment.items() if k != "model"} == deployment
    assert (read.batch, read.kv) == (batch, kv)
    assert not read.unknown
    spec = read.spec("h200")
    assert specs.loads(specs.dumps(spec)) == spec
    replica = spec.pools[0].replica
    assert all(getattr(replica.batch, n) == v for n, v in batch.items())
    assert all(getattr(replica.kv, n) == v for n, v in kv.items())
    assert replica.groups[0].tp == deployment.get("tp", 1)
    assert spec.reuse == deployment.get("reuse", "auto")
    assert spec.rank == deployment.get("rank", "fcfs")
    assert replica.kv.preemption == deployment.get("preempt", "recompute")
    usual = "chunked" if read.engine == "vllm" else "first"
    assert replica.batch.chunked_prefill == (deployment.get("prefill", usual) == "chunked")


def test_the_plain_line_is_the_plain_spec() -> None:
    line = "vllm serve meta-llama/Llama-3.1-8B-Instruct"
    assert parse(line).spec("h100-sxm") == specs.simple("llama-3.1-8b", "h100-sxm", reuse="auto")
    assert parse(line).notices() == ()
    flags: dict[str, Any] = {"replicas": 2, "route": "least-outstanding", "reuse": "none"}
    assert parse(line).spec("h100-sxm", **flags) == specs.simple(
        "llama-3.1-8b", "h100-sxm", **flags
    )
    line = "sglang serve --model-path meta-llama/Llama-3.1-8B-Instruct"
    flags = {"reuse": "auto", "prefill": "first"}
    assert parse(line).spec("h100-sxm") == specs.simple("llama-3.1-8b", "h100-sxm", **flags)


def test_mixed_chunks_of_sglang_leave_room_for_decodes() -> None:
    line = "sglang serve --model-path Qwen/Qwen2.5-7B-Instruct --chunked-prefill-size 128"
    batch = parse(f"{line} --enable-mixed-chunk").spec("h200").pools[0].replica.batch
    assert (batch.chunked_prefill, batch.max_num_batched_tokens) == (True, 256)
    batch = parse(line).spec("h200").pools[0].replica.batch
    assert (batch.chunked_prefill, batch.max_num_batched_tokens) == (False, 128)


def test_prefill_apart_keeps_the_line_in_both_pools() -> None:
    line = "vllm serve meta-llama/Llama-3.1-8B-Instruct --max-num-seqs 64 --block-size 32"
    spec = parse(line).spec("h100-sxm", replicas=3, prefill="apart:1")
    assert [p.role for p in spec.pools] == ["prefill", "decode"]
    assert [p.replica.batch.max_num_seqs for p in spec.pools] == [64, 64]
    assert [p.replica.kv.block_size for p in spec.pools] == [32, 32]


@pytest.mark.parametrize(
    ("line", "drafts"),
    [
        ("vllm serve {m}", None),
        # after docs.vllm.ai, "Speculative Decoding"
        ("""vllm serve {m} --speculative-config '{{"method": "ngram", "num_speculative_tokens": 5, "prompt_lookup_max": 4}}'""", {"draft_tokens": 5, "draft_size": 0}),
        ("""vllm serve {m} -sc '{{"method": "eagle", "model": "yuhuili/EAGLE-LLaMA3.1-Instruct-8B", "num_speculative_tokens": 2}}'""", {"draft_tokens": 2}),
        ("vllm serve {m} --speculative-config.method mtp", {}),
        ("vllm serve {m} --speculative-config.num_speculative_tokens 4", {"draft_tokens": 4}),
        ("vllm serve {m} --spec-method ngram --spec-tokens 4", {"draft_tokens": 4, "draft_size": 0}),
        ("vllm serve {m} --speculative-model [ngram] --num-speculative-tokens 3", {"draft_tokens": 3, "draft_size": 0}),
        # a draft model of the catalogue: 1.2358 of 8.0303 billion parameters
        ("vllm serve {m} --speculative-model meta-llama/Llama-3.2-1B-Instruct --num-speculative-tokens 3", {"draft_tokens": 3, "draft_size": 1.2358 / 8.0303}),
        # after docs.sglang.io, "Speculative Decoding": a chain of three steps checks four tokens, one of them accepted before
        ("sglang serve --model-path {m} --speculative-algorithm EAGLE3 --speculative-num-steps 3 --speculative-eagle-topk 1 --speculative-num-draft-tokens 4", {"draft_tokens": 3}),
        ("sglang serve --model-path {m} --speculative-algorithm NGRAM --speculative-num-draft-tokens 16", {"draft_tokens": 15, "draft_size": 0}),
        ("sglang serve --model-path {m} --speculative-algorithm STANDALONE --speculative-draft-model-path meta-llama/Llama-3.2-1B-Instruct", {"draft_size": 1.2358 / 8.0303}),
    ],
)  # fmt: skip
def test_drafted_tokens(line: str, drafts: dict[str, float] | None) -> None:
    read = parse(line.format(m="meta-llama/Llama-3.1-8B-Instruct"))
    assert read.drafts == (drafts if drafts is None else pytest.approx(drafts, rel=1e-4))
    assert read.notices() == ()


def test_a_drafted_tree_is_not_modelled() -> None:
    line = "sglang serve --model-path Qwen/Qwen2.5-7B-Instruct --speculative-num-steps 5 --speculative-eagle-topk 4 --speculative-num-draft-tokens 8"
    read = parse(line)
    assert read.drafts == {"draft_tokens": 5}
    assert read.unmodelled == ("--speculative-eagle-topk 4",)


def test_what_is_not_modelled_is_listed_in_one_line() -> None:
    read = parse(
        "vllm serve meta-llama/Llama-3.1-8B-Instruct --port 8000 --trust-remote-code --enforce-eager "
        "--swap-space 16 --warp-drive 9 --shiny "
        "--compilation-config.level 3 --quantization aqlm extra"
    )
    assert read.unmodelled == (
        "--enforce-eager",
        "--compilation-config.level 3",
        "--quantization aqlm",
    )
    assert read.unknown == ("--warp-drive 9", "--shiny", "extra")
    assert read.harmless == ("--port", "--trust-remote-code", "--swap-space")
    (notice,) = read.notices()
    assert "\n" not in notice.text
    for word in (
        "not modelled: --enforce-eager",
        "unknown: --warp-drive 9",
        "--port",
    ):
        assert word in notice.text
    swapping = parse("vllm serve Qwen/Qwen2.5-7B-Instruct --preemption-mode swap --swap-space 16")
    assert swapping.unmodelled == ("--swap-space 16",)  # our host has room for everything
    assert parse("sglang serve --model-path Qwen/Qwen2.5-7B-Instruct --schedule-policy lpm --max-prefill-tokens 8192").unmodelled == (
        "--max-prefill-tokens 8192", "--schedule-policy lpm",
    )  # fmt: skip


@pytest.mark.parametrize(
    ("line", "error", "said"),
    [
        ("", UsageError, "no engine"),
        ("llama-server -m x.gguf", UsageError, "no engine that is known"),
        ("vllm serve --port 80", UsageError, "no model"),
        ("vllm serve 'Llama", UsageError, "close the quote|split"),
        ("vllm serve meta-llama/Llama-3.1-8B-Instruct --tensor-parallel-size four", UsageError, "no whole number"),
        ("vllm serve meta-llama/Llama-3.1-8B-Instruct --tensor-parallel-size", UsageError, "has no value"),
        ("vllm serve meta-llama/Llama-3.1-8B-Instruct -tp 2 --tensor-parallel-size 4", UsageError, "-tp 2 and"),
        ("vllm serve meta-llama/Llama-3.1-8B-Instruct --gpu-memory-utilization lots", UsageError, "no number"),
        ("vllm serve meta-llama/Llama-3.1-8B-Instruct --dtype bf61", UnknownName, "dtype"),
        ("vllm serve meta-llama/Llama-3.1-8B-Instruct --kv-cache-dtype fp3", UnknownName, "KV cache"),
        ("vllm serve meta-llama/Lama-3.1-8B", UnknownName, "model"),
        ("vllm serve meta-llama/Llama-3.1-8B-Instruct --max-num-seqs 4096", UsageError, "max_num_batched_tokens"),
        ("vllm serve meta-llama/Llama-3.1-8B-Instruct --gpu-memory-utilization nan", UsageError, "utilisation"),
        ("vllm serve meta-llama/Llama-3.1-8B-Instruct --max-model-len 10m", UsageError, "max_context"),
        ("vllm serve meta-llama/Llama-3.1-70B-Instruct", ModelError, "short"),
        ("sglang serve --model-path deepseek-ai/DeepSeek-R1 --tp 8 --dp 3 --enable-dp-attention", UsageError, "does not divide"),
        ("vllm serve Qwen/Qwen2.5-7B-Instruct --scheduling-policy sjf", UnknownName, "scheduling policy"),
        ("vllm serve Qwen/Qwen2.5-7B-Instruct --max-num-seqs infk", UsageError, "no whole number"),
        ("vllm serve Qwen/Qwen2.5-7B-Instruct --num-speculative-tokens 0", UsageError, "drafts no tokens"),
        ("sglang serve --model-path Qwen/Qwen2.5-7B-Instruct --speculative-num-draft-tokens 1", UsageError, "drafts no tokens"),
        ("vllm serve Qwen/Qwen2.5-7B-Instruct --preemption-mode drop", UnknownName, "preemption mode"),
        ("sglang serve --model-path Qwen/Qwen2.5-7B-Instruct --schedule-policy lru", UnknownName, "scheduling policy"),
        ("vllm serve Qwen/Qwen2.5-7B-Instruct --speculative-config ngram", UsageError, "no JSON object"),
        ("""vllm serve Qwen/Qwen2.5-7B-Instruct --speculative-config '{"num_speculative_tokens": -1}'""", UsageError, "no number of tokens"),
        ("""vllm serve Qwen/Qwen2.5-7B-Instruct --speculative-config '{"num_speculative_tokens": 2}' --num-speculative-tokens 3""", UsageError, "and --num-speculative-tokens 3"),
    ],
)  # fmt: skip
def test_errors_name_what_is_wrong(line: str, error: type[LaminaError], said: str) -> None:
    with pytest.raises(error, match=said):
        parse(line).spec("h100-sxm")


def test_a_flag_given_both_ways_is_an_error() -> None:
    read = parse("vllm serve meta-llama/Llama-3.1-8B-Instruct -tp 4 -dp 2")
    for flag in ({"tp": 4}, {"replicas": 2}, {"model": "llama-3.1-8b"}):
        with pytest.raises(UsageError, match="and so does"):
            read.spec("h100-sxm", **flag)
    read = parse("vllm serve meta-llama/Llama-3.1-8B-Instruct --max-num-seqs 64 --no-enable-prefix-caching")  # fmt: skip
    for flag, said in (({"max_num_seqs": 64}, "--max-num-seqs 64"), ({"reuse": "auto"}, "--no-enable-prefix-caching")):  # fmt: skip
        with pytest.raises(UsageError, match=f"{said}, and so does"):
            read.spec("h100-sxm", **flag)

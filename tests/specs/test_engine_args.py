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
            {"tp": 2, "replicas": 3, "dtype": "fp8", "kv_dtype": "fp8"},
            {"max_num_seqs": 64, "max_context": 8192, "chunked_prefill": True}, {"block_size": 32},
        ),
        ("vllm serve Qwen/Qwen2.5-7B-Instruct --dtype half", {"dtype": "fp16"}, {}, {}),
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
        # ours: more sequences than tokens of a chunk; no chunks
        (
            "sglang serve --model-path Qwen/Qwen2.5-7B-Instruct --max-running-requests 4096 --chunked-prefill-size -1",
            {}, {"max_num_seqs": 4096, "max_num_batched_tokens": 4096}, {},
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


def test_the_plain_line_is_the_plain_spec() -> None:
    line = "vllm serve meta-llama/Llama-3.1-8B-Instruct"
    assert parse(line).spec("h100-sxm") == specs.simple("llama-3.1-8b", "h100-sxm")
    assert parse(line).notices() == ()
    two = parse(line).spec("h100-sxm", replicas=2, route="least-outstanding")
    assert two == specs.simple("llama-3.1-8b", "h100-sxm", replicas=2, route="least-outstanding")


def test_what_is_not_modelled_is_listed_in_one_line() -> None:
    read = parse(
        "vllm serve meta-llama/Llama-3.1-8B-Instruct --port 8000 --trust-remote-code --enable-prefix-caching "
        '--no-enable-prefix-caching --swap-space 16 --speculative-config \'{"method": "ngram"}\' --warp-drive 9 --shiny '
        "--compilation-config.level 3 --quantization aqlm extra"
    )
    assert read.unmodelled == (
        "--enable-prefix-caching",
        "--no-enable-prefix-caching",
        "--swap-space 16",
        '--speculative-config {"method": "ngram"}',
        "--compilation-config.level 3",
        "--quantization aqlm",
    )
    assert read.unknown == ("--warp-drive 9", "--shiny", "extra")
    assert read.harmless == ("--port", "--trust-remote-code")
    (notice,) = read.notices()
    assert "\n" not in notice.text
    for word in (
        "not modelled: --enable-prefix-caching",
        "unknown: --warp-drive 9",
        "--port",
        "--with speculative-decoding",
    ):
        assert word in notice.text


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

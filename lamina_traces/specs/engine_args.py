"""The command lines by which engines are started, as serving specs: ``vllm serve …``, ``python -m sglang.launch_server …``.

One table per engine says which flag means which part of the spec. Flags that a table knows and the cost model does not
are listed as not modelled; those that concern the API server, loading or logs are listed as without effect on
costs; the rest is unknown. Sources: docs.vllm.ai, "Engine Arguments" (v0.8.5 and latest); docs.sglang.io, "Server
Arguments" and "Speculative Decoding". What is not given keeps our defaults, except what ``Engine.usual`` says.
"""

from __future__ import annotations

import contextlib
import json
import re
import shlex
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from ..errors import LaminaError, Notice, UnknownName, UsageError
from ..hardware import BYTES, Model, model
from .serving import Serving, check, simple

INT, FLOAT, TEXT, SWITCH = "int", "float", "text", "switch"


@dataclass(frozen=True)
class Engine:
    """``flags``: name → (what of the spec, kind of value); ``short``: other spellings. ``unmodelled`` and ``harmless``:
    names, those that are switches end in ``!``. ``usual``: keywords of ``specs.simple`` that hold unless the line or the
    caller says otherwise."""

    name: str
    flags: Mapping[str, tuple[str, str]]
    short: Mapping[str, str]
    usual: Mapping[str, str]
    unmodelled: frozenset[str]
    harmless: frozenset[str]

    def kind(self, flag: str) -> str | None:
        """Of the value that the flag takes; None for an unknown flag."""
        if flag in self.flags:
            return self.flags[flag][1]
        known = self.unmodelled | self.harmless
        return TEXT if flag in known else SWITCH if f"{flag}!" in known else None


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


VLLM = Engine(
    "vllm",
    {
        "model": ("model", TEXT),
        "tensor-parallel-size": ("tp", INT),
        "pipeline-parallel-size": ("pp", INT),
        "data-parallel-size": ("dp", INT),
        "enable-expert-parallel": ("experts", SWITCH),
        "dtype": ("dtype", TEXT),
        "quantization": ("quantization", TEXT),
        "kv-cache-dtype": ("kv_dtype", TEXT),
        "block-size": ("block_size", INT),
        "gpu-memory-utilization": ("utilisation", FLOAT),
        "max-num-seqs": ("max_num_seqs", INT),
        "max-num-batched-tokens": ("max_num_batched_tokens", INT),
        "max-model-len": ("max_context", INT),
        "enable-chunked-prefill": ("mixed", SWITCH),
        "enable-prefix-caching": ("caching", SWITCH),
        "scheduling-policy": ("rank", TEXT),
        "preemption-mode": ("preempt", TEXT),
        "swap-space": ("swap_space", FLOAT),
        "speculative-config": ("speculative", TEXT),
        "num-speculative-tokens": ("draft_tokens", INT),
        "speculative-model": ("draft_model", TEXT),
        "spec-method": ("draft_method", TEXT),
    },
    {
        "tp": "tensor-parallel-size", "pp": "pipeline-parallel-size", "dp": "data-parallel-size", "q": "quantization",
        "sc": "speculative-config", "spec-tokens": "num-speculative-tokens", "spec-model": "speculative-model",
    },
    {"reuse": "auto"},
    _words(
        """cpu-offload-gb
        enforce-eager! enable-lora! max-loras max-lora-rank lora-modules num-gpu-blocks-override
        kv-transfer-config compilation-config async-scheduling! num-scheduler-steps max-num-partial-prefills
        max-long-partial-prefills long-prefill-token-threshold disable-custom-all-reduce! decode-context-parallel-size
        data-parallel-size-local max-seq-len-to-capture enable-eplb! all2all-backend disable-sliding-window!
        hf-overrides rope-scaling kv-cache-memory-bytes enable-dbo! disable-cascade-attn! calculate-kv-scales!
        attention-backend performance-mode optimization-level"""
    ),
    _words(
        """host port api-key served-model-name trust-remote-code! tokenizer tokenizer-mode download-dir load-format revision
        seed chat-template enable-auto-tool-choice! tool-call-parser reasoning-parser enable-reasoning! disable-log-requests!
        disable-log-stats! uvicorn-log-level ssl-keyfile ssl-certfile root-path generation-config override-generation-config
        limit-mm-per-prompt task runner max-logprobs guided-decoding-backend distributed-executor-backend
        enable-log-requests! allowed-local-media-path code-revision tokenizer-revision config-format hf-config-path
        data-parallel-address data-parallel-rpc-port data-parallel-start-rank data-parallel-backend headless! api-server-count
        response-role return-tokens-as-token-ids! middleware disable-frontend-multiprocessing! enable-server-load-tracking!
        enable-prompt-tokens-details! max-log-len otlp-traces-endpoint model-impl use-tqdm-on-load! nnodes node-rank
        master-addr master-port worker-use-ray! engine-use-ray! enable-request-id-headers! chat-template-content-format"""
    ),
)  # fmt: skip

SGLANG = Engine(
    "sglang",
    {
        "model-path": ("model", TEXT),
        "tensor-parallel-size": ("tp", INT),
        "pipeline-parallel-size": ("pp", INT),
        "data-parallel-size": ("dp", INT),
        "expert-parallel-size": ("ep", INT),
        "enable-ep-moe": ("experts", SWITCH),
        "enable-dp-attention": ("dp_attention", SWITCH),
        "dtype": ("dtype", TEXT),
        "quantization": ("quantization", TEXT),
        "kv-cache-dtype": ("kv_dtype", TEXT),
        "page-size": ("block_size", INT),
        "mem-fraction-static": ("utilisation", FLOAT),
        "max-running-requests": ("max_num_seqs", INT),
        "chunked-prefill-size": ("max_num_batched_tokens", INT),
        "max-prefill-tokens": ("max_prefill", INT),
        "context-length": ("max_context", INT),
        "enable-mixed-chunk": ("mixed", SWITCH),
        "disable-radix-cache": ("uncached", SWITCH),
        "schedule-policy": ("rank", TEXT),
        "enable-priority-scheduling": ("by_priority", SWITCH),
        "speculative-algorithm": ("draft_method", TEXT),
        "speculative-draft-model-path": ("draft_model", TEXT),
        "speculative-num-steps": ("draft_steps", INT),
        "speculative-eagle-topk": ("draft_topk", INT),
        "speculative-num-draft-tokens": ("draft_tokens", INT),
    },
    {
        "model": "model-path", "tp": "tensor-parallel-size", "tp-size": "tensor-parallel-size",
        "pp": "pipeline-parallel-size", "pp-size": "pipeline-parallel-size", "dp": "data-parallel-size",
        "dp-size": "data-parallel-size", "ep": "expert-parallel-size", "ep-size": "expert-parallel-size",
        "speculative-draft-model": "speculative-draft-model-path",
    },
    {"reuse": "auto", "prefill": "first"},
    _words(
        """max-total-tokens schedule-conservativeness cpu-offload-gb
        disable-cuda-graph! disable-overlap-schedule! enable-torch-compile! torch-compile-max-bs
        cuda-graph-max-bs cuda-graph-bs torchao-config speculative-token-map disable-mla!
        schedule-low-priority-values-first! priority-scheduling-preemption-threshold disable-priority-preemption!
        enable-deepep-moe! deepep-mode moe-a2a-backend attention-backend sampling-backend disable-custom-all-reduce!
        disaggregation-mode disaggregation-transfer-backend lora-paths max-loras-per-batch lora-backend enable-lora!
        load-balance-method enable-hierarchical-cache! hicache-ratio hicache-size enable-two-batch-overlap! enable-eplb!
        json-model-override-args enable-double-sparsity! chunked-prefill! moe-dense-tp-size enable-dp-lm-head!
        disable-chunked-prefix-cache! max-queued-requests prefill-max-requests num-continuous-decode-steps"""
    ),
    _words(
        """host port api-key served-model-name trust-remote-code! tokenizer-path tokenizer-mode load-format revision
        chat-template log-level log-level-http log-requests! log-requests-level show-time-cost! enable-metrics! random-seed
        dist-init-addr nnodes node-rank device is-embedding! skip-tokenizer-init! download-dir base-gpu-id watchdog-timeout
        tool-call-parser reasoning-parser enable-p2p-check! stream-interval grammar-backend file-storage-path
        enable-cache-report! allow-auto-truncate! decode-log-interval enable-multimodal! nccl-port weight-version
        delete-ckpt-after-loading! skip-server-warmup! warmups admin-api-key mm-attention-backend"""
    ),
)  # fmt: skip

_DTYPES = {
    "half": "fp16",
    "float16": "fp16",
    "bfloat16": "bf16",
    "float": "fp32",
    "float32": "fp32",
}
_QUANTIZATIONS = {
    "fp8": "fp8", "w8a8_fp8": "fp8", "fbgemm_fp8": "fp8", "modelopt": "fp8", "modelopt_fp8": "fp8", "ptpc_fp8": "fp8",
    "w8a8_int8": "int8", "awq": "int4", "awq_marlin": "int4", "gptq": "int4", "gptq_marlin": "int4", "marlin": "int4",
    "moe_wna16": "int4", "modelopt_fp4": "fp4", "nvfp4": "fp4", "mxfp4": "mxfp4", "compressed-tensors": "auto",
}  # fmt: skip
"""types of the weights by method; ``compressed-tensors`` says that the checkpoint states it."""
_ANY_BITS = ("gptq", "gptq_marlin", "marlin", "moe_wna16", "modelopt")
"""methods whose checkpoints have four or eight bits: one that states its type has that."""
_KV_DTYPES = {"auto": None, "fp8": "fp8", "fp8_e4m3": "fp8", "fp8_e5m2": "fp8", **_DTYPES, "bf16": "bf16"}  # fmt: skip
_BATCH = ("max_num_seqs", "max_num_batched_tokens", "max_context")
_KV = ("block_size", "utilisation")
_SETS = {"dp": "replicas", "max_num_batched_tokens": "prefill", "mixed": "prefill", "caching": "reuse", "uncached": "reuse", "by_priority": "rank"}  # fmt: skip
"""keywords of ``specs.simple`` by what the tables call them, where they differ."""
_SPECULATIVE = {"num_speculative_tokens": "draft_tokens", "method": "draft_method", "model": "draft_model"}  # fmt: skip
"""keys of vLLM's speculative configuration."""
_SGLANG_POLICIES = ("fcfs", "lpm", "random", "dfs-weight", "lof", "priority", "routing-key")
_FACTORS = {"k": 1000, "m": 1000**2, "g": 1000**3, "K": 1024, "M": 1024**2, "G": 1024**3}


@dataclass(frozen=True)
class EngineArgs:
    """A command line, read. ``deployment``: keywords of ``specs.simple``, ``usual``: those that the engine does unless it is
    told otherwise; ``batch``, ``kv``: fields of those; ``given``: flags as they were written, by what they set.
    ``drafts``: parameters of the technique speculative-decoding, None where the line drafts nothing."""

    engine: str
    deployment: Mapping[str, Any]
    usual: Mapping[str, Any]
    batch: Mapping[str, Any]
    kv: Mapping[str, Any]
    given: Mapping[str, str]
    drafts: Mapping[str, float] | None = None
    unmodelled: tuple[str, ...] = ()
    harmless: tuple[str, ...] = ()
    unknown: tuple[str, ...] = ()

    def spec(self, gpu: str, **flags: Any) -> Serving:
        """The spec on that GPU; ``flags``: what else ``specs.simple`` takes. UsageError where both say the same."""
        twice = [f for f in flags if f in self.deployment or f in self.batch]
        if twice:
            raise UsageError(
                f"--engine-args says {', '.join(self.given.get(f, f) for f in twice)}, and so does --{twice[0].replace('_', '-')}",
                "give it in one place",
            )
        said = {"model_name" if n == "model" else n: v for n, v in self.deployment.items()}
        made = simple(gpu=gpu, **{**self.usual, **flags, **said})
        pools = []
        for pool in made.pools:
            batch, kv = (
                replace(pool.replica.batch, **self.batch),
                replace(pool.replica.kv, **self.kv),
            )
            if self.engine == "sglang" and batch.chunked_prefill:
                # its chunk bounds prompts only, ours the decodes beside them as well
                room = max(batch.max_num_seqs, batch.max_num_batched_tokens)
                batch = replace(batch, max_num_batched_tokens=room)
            pools.append(replace(pool, replica=replace(pool.replica, batch=batch, kv=kv)))
        return check(replace(made, pools=tuple(pools)))

    def notices(self) -> tuple[Notice, ...]:
        """One line that lists what has no part in the model."""
        parts = [
            f"{what}: {', '.join(flags)}"
            for what, flags in (
                ("not modelled", self.unmodelled),
                ("unknown", self.unknown),
                ("without effect on costs", self.harmless),
            )
            if flags
        ]
        return (Notice("engine-args", f"{self.engine}: {'; '.join(parts)}"),) if parts else ()


def parse(text: str) -> EngineArgs:
    """``vllm serve MODEL --tensor-parallel-size 4 …`` or ``python -m sglang.launch_server --model-path MODEL …``.

    What stands before the engine (variables, ``docker run …``) is passed over. Raises UsageError (no engine, no model, a
    value that does not fit its flag, a flag given twice with different values).
    """
    try:
        words = shlex.split(text.replace("\\\n", " "))
    except ValueError as e:
        raise UsageError(f"--engine-args cannot be split into words: {e}", "close the quote") from e
    engine, rest = _engine(words)
    read = _Read(engine)
    read.all(rest)
    return read.result()


def _engine(words: list[str]) -> tuple[Engine, list[str]]:
    for i, word in enumerate(words):
        name = word.rsplit("/", 1)[-1]
        after = words[i + 1] if i + 1 < len(words) else ""
        if name in ("vllm", "sglang") and after == "serve":
            return (VLLM if name == "vllm" else SGLANG), words[i + 2 :]
        if re.fullmatch(r"vllm\.entrypoints\.(openai\.)?api_server", word) or "vllm-openai" in name:
            return VLLM, words[i + 1 :]
        if word in ("sglang.launch_server", "sglang_router.launch_server"):
            return SGLANG, words[i + 1 :]
    raise UsageError(
        "--engine-args starts no engine that is known",
        "it begins like 'vllm serve MODEL' or 'python -m sglang.launch_server --model-path MODEL'",
    )


class _Read:
    """What has been read of one command line."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self.values: dict[str, Any] = {}
        self.given: dict[str, str] = {}
        self.unmodelled: list[str] = []
        self.harmless: list[str] = []
        self.unknown: list[str] = []

    def all(self, words: list[str]) -> None:
        i = 0
        while i < len(words):
            word = words[i]
            i += 1
            if not word.startswith("-") or word == "-":
                if self.engine is VLLM and "model" not in self.values:
                    self.set("model", word, word)
                else:
                    self.unknown.append(word)
                continue
            name, equals, value = word.lstrip("-").partition("=")
            name, off = self.name(name)
            part, _, key = name.partition(".")
            kind = TEXT if key else self.engine.kind(name)
            follows = i < len(words) and (not words[i].startswith("-") or _is_number(words[i]))
            if not equals and follows and kind != SWITCH:
                value, equals = words[i], "="
                i += 1
            shown = f"{word.partition('=')[0]} {value}" if equals else word
            known = {n.removesuffix("!") for n in self.engine.unmodelled}
            if name in self.engine.flags:
                self.modelled(name, shown, value if equals else None, off)
            elif part == "speculative-config" and self.engine is VLLM:
                self.drafting({key.replace("-", "_"): value}, shown)
            elif part in known:
                self.unmodelled.append(shown)
            elif kind is None or (kind == TEXT and self.engine.kind(name) is None):
                self.unknown.append(shown)
            else:
                self.harmless.append(word.partition("=")[0])

    def name(self, written: str) -> tuple[str, bool]:
        """The table's spelling of a flag, and whether it is switched off (``--no-…``)."""
        name = written.replace("_", "-")
        name = self.engine.short.get(name, name)
        on = name.removeprefix("no-")
        if on != name and self.engine.kind(on) is not None:
            return on, True
        return name, False

    def modelled(self, name: str, shown: str, value: str | None, off: bool) -> None:
        what, kind = self.engine.flags[name]
        if kind == SWITCH:
            on = not off and (value is None or value.lower() not in ("false", "0"))
            self.set(what, on, shown)
            return
        if value is None:
            raise UsageError(f"--engine-args: {shown} has no value", f"write --{name} VALUE")
        if what == "speculative":
            try:
                config = json.loads(value)
            except ValueError:
                config = None
            if not isinstance(config, dict):
                raise UsageError(
                    f"--engine-args: {shown} is no JSON object",
                    """write --speculative-config '{"num_speculative_tokens": 3}'""",
                )
            self.drafting(config, shown)
        elif kind == TEXT:
            self.set(what, value, shown)
        else:
            read: Callable[[str], float] = _whole if kind == INT else float
            try:
                self.set(what, read(value), shown)
            except (ValueError, OverflowError):
                raise UsageError(
                    f"--engine-args: {shown}: {value!r} is no {'whole number' if kind == INT else 'number'}",
                    f"write it like --{name} {'8' if kind == INT else '0.9'}",
                ) from None

    def set(self, what: str, value: Any, shown: str) -> None:
        if what in self.values and self.values[what] != value:
            raise UsageError(
                f"--engine-args says {self.given[what]} and {shown}", "give one of them"
            )
        self.values[what], self.given[what] = value, shown

    def result(self) -> EngineArgs:
        v = dict(self.values)
        if "model" not in v:
            where = "vllm serve MODEL" if self.engine is VLLM else "--model-path MODEL"
            raise UsageError("--engine-args names no model", f"write {where}")
        experts = model(v["model"]).experts > 1
        deployment: dict[str, Any] = {"model": v.pop("model")}
        tp, dp = v.pop("tp", None), v.pop("dp", None)
        spread, attention = v.pop("experts", False), v.pop("dp_attention", False)
        if self.engine is SGLANG and attention and dp and experts:
            # tp counts all devices; attention is copied dp times over them
            if (tp or 1) % dp:
                raise UsageError(
                    f"--engine-args: dp {dp} does not divide tp {tp or 1}, over whose devices attention is copied",
                    "give a divisor",
                )
            tp, deployment["dp"] = (tp or 1) // dp, dp
        elif dp:
            # copies of the whole model, except that vLLM's copies share experts
            deployment["dp" if experts and self.engine is VLLM else "replicas"] = dp
        if tp:
            deployment["tp"] = tp
        if spread and experts:
            deployment["ep"] = (tp or 1) * deployment.get("dp", 1)
        for name in ("pp", "ep"):
            if name in v:
                deployment[name] = v.pop(name)
        self.types(v, deployment)
        self.policies(v, deployment)
        return EngineArgs(
            self.engine.name,
            deployment,
            {n: x for n, x in self.engine.usual.items() if n not in deployment},
            {n: v[n] for n in _BATCH if n in v and not (n == "max_context" and v[n] == -1)},
            {n: v[n] for n in _KV if n in v},
            {**{n: self.given[w] for w, n in _SETS.items() if w in self.given}, **self.given},
            self.drafts(v, model(deployment["model"])),
            tuple(self.unmodelled),
            tuple(self.harmless),
            tuple(self.unknown),
        )

    def drafting(self, config: Mapping[str, Any], shown: str) -> None:
        """Keys of vLLM's speculative configuration; those without a part in the model are left. UsageError for a count that
        is none."""
        for key, what in _SPECULATIVE.items():
            if config.get(key) is None:
                continue
            value = config[key]
            if what == "draft_tokens":
                if isinstance(value, bool) or not re.fullmatch(r"\d+", str(value)):
                    raise UsageError(
                        f"--engine-args: {shown}: {value!r} is no number of tokens",
                        "give 1 or more",
                    )
                value = int(value)
            self.set(what, value if what == "draft_tokens" else str(value), shown)
        self.values.setdefault("speculative", True)

    def policies(self, v: dict[str, Any], deployment: dict[str, Any]) -> None:
        """Prefix cache, chunks, whose turn it is, who must give way, as keywords of ``specs.simple``. Raises UnknownName."""
        caching = v["caching"] if "caching" in v else not v["uncached"] if "uncached" in v else None
        if caching is not None:
            deployment["reuse"] = "auto" if caching else "none"
        if "mixed" in v:
            deployment["prefill"] = "chunked" if v["mixed"] else "first"
        if self.engine is SGLANG and v.get("max_num_batched_tokens", 1) < 0:
            # -1: prompts whole, several at a time up to another limit
            del v["max_num_batched_tokens"]
            deployment["prefill"] = "first"
            if "max_prefill" in v:
                v["max_num_batched_tokens"] = v["max_prefill"]
        elif "max_prefill" in v:
            self.unmodelled.append(self.given["max_prefill"])
        if "rank" in v:
            known = ("fcfs", "priority") if self.engine is VLLM else _SGLANG_POLICIES
            if v["rank"] not in known:
                raise UnknownName("scheduling policy", v["rank"], known)
            if v["rank"] in ("fcfs", "priority"):
                deployment["rank"] = v["rank"]
            else:
                self.unmodelled.append(self.given["rank"])
        if v.get("by_priority"):
            deployment["rank"] = "priority"
        if "preempt" in v:
            if v["preempt"] not in ("recompute", "swap"):
                raise UnknownName("preemption mode", v["preempt"], ("recompute", "swap"))
            deployment["preempt"] = v["preempt"]
        if "swap_space" in v:
            if deployment.get("preempt") == "swap":  # our host has room
                self.unmodelled.append(self.given["swap_space"])
            else:
                self.harmless.append(self.given["swap_space"].split()[0].partition("=")[0])

    def drafts(self, v: Mapping[str, Any], target: Model) -> dict[str, float] | None:
        """Parameters of the technique speculative-decoding that the line says; what it does not say is left out."""
        named = [
            n
            for n in ("speculative", "draft_tokens", "draft_steps", "draft_method", "draft_model")
            if n in v
        ]
        if not named:
            return None
        out: dict[str, float] = {}
        if self.engine is SGLANG:
            # of the tokens that are checked one is the last that was accepted; of a tree only a branch is modelled
            many = v.get("draft_steps") or (v["draft_tokens"] - 1 if "draft_tokens" in v else None)
            if v.get("draft_topk", 1) > 1:
                self.unmodelled.append(self.given["draft_topk"])
        else:
            many = v.get("draft_tokens")
        if many is not None:
            if many < 1:
                shown = self.given.get("draft_steps") or self.given["draft_tokens"]
                raise UsageError(f"--engine-args: {shown} drafts no tokens", "leave it out, or give more")  # fmt: skip
            out["draft_tokens"] = many
        method, draft = str(v.get("draft_method", "")).lower(), str(v.get("draft_model", ""))
        if method in ("ngram", "suffix") or draft.strip("[]") == "ngram":
            out["draft_size"] = 0.0
        elif draft:
            # else a head, as EAGLE's, or a model that the catalogue has not
            with contextlib.suppress(LaminaError):
                out["draft_size"] = model(draft).params / target.params
        return out

    def types(self, v: dict[str, Any], deployment: dict[str, Any]) -> None:
        """The types of weights and KV cache. ``--dtype`` is that of the arithmetic where the checkpoint is quantized. Raises
        UnknownName."""
        quantized = BYTES[model(deployment["model"]).native] < 2
        dtype, method = v.pop("dtype", "auto"), v.pop("quantization", None)
        if dtype != "auto" and dtype not in _DTYPES:
            raise UnknownName("dtype", dtype, ["auto", *_DTYPES])
        if method is not None and method.lower() in _QUANTIZATIONS:
            stated = quantized and method.lower() in _ANY_BITS
            deployment["dtype"] = "auto" if stated else _QUANTIZATIONS[method.lower()]
        elif method is not None and method.lower() not in ("none", ""):
            self.unmodelled.append(self.given["quantization"])
        elif dtype != "auto" and not quantized:
            deployment["dtype"] = _DTYPES[dtype]
        kv = v.pop("kv_dtype", "auto")
        if kv not in _KV_DTYPES:
            raise UnknownName("type of the KV cache", kv, _KV_DTYPES)
        if _KV_DTYPES[kv] is not None:
            deployment["kv_dtype"] = _KV_DTYPES[kv]


def _is_number(text: str) -> bool:
    return re.fullmatch(r"-?\d+(\.\d+)?", text) is not None


def _whole(text: str) -> int:
    """``8192``, ``8k`` (8,000), ``8K`` (8,192), ``25.6k``: as vLLM reads numbers. ValueError for anything else."""
    if text[-1:] in _FACTORS:
        return round(float(text[:-1]) * _FACTORS[text[-1]])
    return int(text)

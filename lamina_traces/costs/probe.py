"""What the local device does, measured in under two minutes: matrices, memory bandwidth, attention, launches.

``cpu`` runs through numpy in float32, ``cuda`` through torch in bfloat16 (extra ``torch``). Each figure is the median
over repetitions after a warm-up. They are kernels alone, without an engine: an upper bound of what serving reaches.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from ..errors import ModelError, UsageError
from ..hardware import Device

DeviceKind = Literal["cpu", "cuda"]


@dataclass(frozen=True)
class Size:
    """``matrix``: edge of the square matrices. ``copied``: bytes. Attention: ``heads`` of width ``head``; a ``prompt``
    against itself; ``sequences`` decoding at ``context``. ``seconds``: per figure, at most."""

    matrix: int
    copied: int
    heads: int
    head: int
    prompt: int
    sequences: int
    context: int
    seconds: float = 5.0


SIZES: Mapping[str, Size] = {
    "cpu": Size(1024, 1 << 27, 4, 64, 512, 8, 8192, 2.0),
    "cuda": Size(8192, 1 << 31, 32, 128, 4096, 64, 4096, 10.0),
}


@dataclass(frozen=True)
class Probe:
    """Figures of one device: ``name`` as it calls itself, ``about`` driver and versions, and by figure
    gemm_tflops, memory_gb_s (a copy, read and written bytes), attention_tflops (a prompt, causal half
    counted), kv_gb_s (decode, bytes of keys and values), launch_s (of the smallest operation)."""

    name: str
    about: str
    dtype: str
    figures: Mapping[str, float]

    def shares(self, device: Device) -> dict[str, float]:
        """Efficiencies against a catalogue device's peaks, cut at 1. Launches are left out: engines capture graphs."""
        flops = device.flops_per_s("bf16") * device.gemm_share.value / 1e12
        memory = device.bytes_per_s / 1e9
        f = self.figures
        found = {
            "compute": f["gemm_tflops"] / flops,
            "attention": f["attention_tflops"] / flops,
            "memory": f["memory_gb_s"] / memory,
        }
        return {k: min(1.0, v) for k, v in found.items()}


def probe(kind: DeviceKind, size: Size | None = None) -> Probe:
    """Measure the local device. UsageError where torch is missing, ModelError where there is no such device."""
    s = size or SIZES[kind]
    lib: _Numpy | _Torch = _Numpy() if kind == "cpu" else _Torch()
    a, b = lib.random(s.matrix, s.matrix), lib.random(s.matrix, s.matrix)
    gemm = _median(lambda: a @ b, lib, s.seconds)
    source = lib.random(s.copied // lib.width)
    target = source + 0
    copy = _median(lambda: lib.copy(target, source), lib, s.seconds)
    q = lib.random(1, s.heads, s.prompt, s.head)
    prompt = _median(lambda: lib.attention(q, q, q, causal=True), lib, s.seconds)
    one = lib.random(s.sequences, s.heads, 1, s.head)
    kv = lib.random(s.sequences, s.heads, s.context, s.head)
    kv2 = kv + 0
    decode = _median(lambda: lib.attention(one, kv, kv2, causal=False), lib, s.seconds)
    tiny = lib.random(1)
    launch = _median(lambda: tiny + tiny, lib, s.seconds / 5, batch=100)
    pairs = s.prompt * (s.prompt + 1) / 2
    return Probe(
        lib.name,
        lib.about,
        lib.dtype,
        {
            "gemm_tflops": 2 * s.matrix**3 / gemm / 1e12,
            "memory_gb_s": 2 * lib.width * (s.copied // lib.width) / copy / 1e9,
            "attention_tflops": 4 * s.heads * s.head * pairs / prompt / 1e12,
            "kv_gb_s": 2 * lib.width * math.prod(kv.shape) / decode / 1e9,
            "launch_s": launch,
        },
    )


def _median(call: Callable[[], Any], lib: _Numpy | _Torch, seconds: float, batch: int = 1) -> float:
    """Median seconds of a call: three to thirty rounds of ``batch`` calls after one to warm up."""
    call()
    lib.wait()
    times: list[float] = []
    end = time.perf_counter() + seconds
    while len(times) < 3 or (len(times) < 30 and time.perf_counter() < end):
        start = time.perf_counter()
        for _ in range(batch):
            call()
        lib.wait()
        times.append((time.perf_counter() - start) / batch)
    return float(np.median(times))


class _Numpy:
    width, dtype = 4, "fp32"

    def __init__(self) -> None:
        import os
        import platform

        self.name = platform.processor() or platform.machine()
        threads = os.environ.get("OPENBLAS_NUM_THREADS", "all")
        self.about = f"numpy {np.__version__}, {os.cpu_count()} cores, {threads} BLAS threads, {platform.system()} {platform.release()}"
        self._rng = np.random.default_rng(0)

    def random(self, *shape: int) -> Any:
        return self._rng.standard_normal(shape, dtype=np.float32)

    def wait(self) -> None:
        return None

    def copy(self, target: Any, source: Any) -> None:
        np.copyto(target, source)

    def attention(self, q: Any, k: Any, v: Any, *, causal: bool) -> Any:
        """Softmax(q·kᵀ/√d)·v; a causal mask is applied to the full square of scores."""
        scores = q @ np.swapaxes(k, -1, -2) / math.sqrt(q.shape[-1])
        if causal:
            n = scores.shape[-1]
            scores[..., np.triu(np.ones((n, n), bool), 1)] = -np.inf
        scores = np.exp(scores - scores.max(axis=-1, keepdims=True))
        return (scores / scores.sum(axis=-1, keepdims=True)) @ v


class _Torch:
    width, dtype = 2, "bf16"

    def __init__(self) -> None:
        try:
            import torch  # type: ignore[import-not-found,unused-ignore]
        except ImportError as e:
            raise UsageError(
                "--device cuda needs torch, which is not installed",
                "pip install 'lamina-traces[torch]', or --device cpu",
            ) from e
        if not torch.cuda.is_available():
            raise ModelError(
                "torch sees no CUDA device", "look at nvidia-smi and at torch's CUDA version"
            )
        self._torch = torch
        self.name = torch.cuda.get_device_name()
        self.about = f"torch {torch.__version__}, CUDA {torch.version.cuda}, driver {_driver()}"

    def random(self, *shape: int) -> Any:
        return self._torch.randn(*shape, device="cuda", dtype=self._torch.bfloat16)

    def wait(self) -> None:
        self._torch.cuda.synchronize()

    def copy(self, target: Any, source: Any) -> None:
        target.copy_(source)

    def attention(self, q: Any, k: Any, v: Any, *, causal: bool) -> Any:
        return self._torch.nn.functional.scaled_dot_product_attention(q, k, v, is_causal=causal)


def _driver() -> str:
    """The NVIDIA driver's version, as the kernel module says it."""
    from pathlib import Path

    try:
        words = Path("/proc/driver/nvidia/version").read_text().split()
    except OSError:
        return "unknown"
    return next((w for w in words if w[:1].isdigit() and w.count(".") >= 1), "unknown")

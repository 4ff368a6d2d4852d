"""Lamina (Chen et al. 2024, arXiv 2405.01814 v2): attention on other devices than the weights, decoding only.

Four traces and three models of its tables 3 to 5; the same engine and shares of peak on both sides, memory used to 90 % and nothing
kept in reserve, a batch as large as the cache holds, prices of its hardware table.
"""

from __future__ import annotations

from statistics import mean

from .. import specs, techniques
from ..costs import State
from ..hardware import device, model
from . import Claim

_PAPER = "Lamina (arXiv 2405.01814 v2)"
TRACES = {
    "Azure-Conv": (1154.7, 211.1),
    "Azure-Code": (2047.8, 27.9),
    "Kimi-Conv": (12035.1, 342.6),
    "Kimi-TA": (8560.0, 182.1),
}
"""mean tokens of prompts and of answers, as the paper states them."""
SYSTEMS = {"llama-30b": (2, 1, 2), "llama-65b": (4, 2, 4), "llama-3-70b": (4, 2, 4)}
"""GPUs of the homogeneous system; GPUs for the weights and devices for attention, the paper's DOP."""
TABLE_GB = 80e9 / device("h100-sxm").memory_bytes
"""the paper's hardware table counts 80 and 96 GB, which is this share of what drivers show on both."""
PRICES = {"h100-sxm": 11.06, "h20": 4.63}
"""USD per hour of a device, the paper's table."""


def _plain(name: str, tp: int) -> specs.Serving:
    group = specs.Group("h100-sxm", n=tp, tp=tp)
    kv = specs.Kv(utilisation=0.9 * TABLE_GB, reserve_gb=0.0)
    return specs.Serving(name, (specs.Pool(specs.Replica((group,), kv=kv)),), dtype="bf16")


def _pair(name: str) -> tuple[specs.Serving, specs.Serving]:
    """The homogeneous system and the one with attention offloaded."""
    gpus, weights, attention = SYSTEMS[name]
    offload = techniques.parse(f"attention-offload:devices={attention}")
    return _plain(name, gpus), techniques.apply_spec([offload], _plain(name, weights))


def batch(spec: specs.Serving, trace: str) -> float:
    """Sequences that the cache holds when they are half generated."""
    prompt, answer = TRACES[trace]
    return specs.kv_of(spec).tokens / (prompt + answer / 2)


def throughput(spec: specs.Serving, trace: str) -> float:
    """Tokens per second with that batch."""
    prompt, answer = TRACES[trace]
    n = batch(spec, trace)
    return n / specs.step_model(spec).seconds(State.decode(n, prompt + answer / 2))


def gain(name: str, trace: str) -> float:
    """Throughput with attention offloaded over that without."""
    plain, offloaded = _pair(name)
    return throughput(offloaded, trace) / throughput(plain, trace)


def _usd(spec: specs.Serving) -> float:
    return sum(g.n * PRICES[g.gpu] for p in spec.pools for g in p.replica.groups)


def cost_ratio() -> float:
    plain, offloaded = _pair("llama-3-70b")
    return _usd(offloaded) / _usd(plain)


def batch_ratio() -> float:
    """Mean over models and traces."""
    ratios = []
    for name in SYSTEMS:
        plain, offloaded = _pair(name)
        ratios += [batch(offloaded, t) / batch(plain, t) for t in TRACES]
    return mean(ratios)


def least_bandwidth() -> float:
    """GB/s of one H100 and one H20 with 300 sequences of 4,096 tokens, a fifth slower allowed."""
    spec = techniques.apply_spec(
        [techniques.parse("attention-offload:devices=1,staggered=0")], _plain("llama-3-70b", 1)
    )
    state = State.decode(300, 4096)
    step = specs.step_model(spec)
    without = step.seconds(state) - next(
        r.seconds for r in step.explain(state) if r.op == "attention_link"
    )
    return techniques.attention_offload.least_gb_s(model("llama-3-70b"), 300, without)


def _gain_claim(name: str, trace: str) -> Claim:
    gpus, weights, attention = SYSTEMS[name]
    saturated = name == "llama-3-70b" and trace.startswith("Azure")
    return Claim(
        name=f"lamina-gain-{name}-{trace.lower()}",
        paper=_PAPER,
        technique="attention-offload",
        says="decode throughput rises by 16.1 to 90.1 % at similar cost",
        config=f"{name}, {gpus} × H100 against {weights} × H100 and {attention} × H20, lengths of {trace}",
        reported=1.161,
        unit="× throughput",
        band=(1.161, 1.901),
        tier="A",
        measure=lambda: gain(name, trace),
        note="a batch of 500 to 840 saturates two H100s, as the paper says itself" if saturated else "reported is the paper's lowest gain, the band its lowest to its highest",
    )  # fmt: skip


CLAIMS: tuple[Claim, ...] = (
    Claim(
        name="lamina-batch-ratio",
        paper=_PAPER,
        technique="attention-offload",
        says="batches are 2.39 times as large in the mean",
        config="three models, four traces",
        reported=2.39,
        unit="× sequences",
        band=(2.15, 2.45),
        tier="A",
        measure=batch_ratio,
    ),
    Claim(
        name="lamina-batch-70b",
        paper=_PAPER,
        technique="attention-offload",
        says="the attainable batch reaches 800",
        config="llama-3-70b, 2 × H100 and 4 × H20, lengths of Azure-Conv",
        reported=800,
        unit="sequences",
        band=(720, 880),
        tier="A",
        measure=lambda: batch(_pair("llama-3-70b")[1], "Azure-Conv"),
        neutral=None,
    ),
    Claim(
        name="lamina-cost-ratio",
        paper=_PAPER,
        technique="attention-offload",
        says="two H100s and four H20s cost $40.64 an hour, four H100s $44.24",
        config="the paper's prices",
        reported=0.9186,
        unit="× USD",
        band=(0.918, 0.919),
        tier="A",
        measure=cost_ratio,
    ),
    Claim(
        name="lamina-least-bandwidth",
        paper=_PAPER,
        technique="attention-offload",
        says="at most 30 GB/s are needed, even with 300 sequences (figure 4)",
        config="llama-3-70b, one H100 and one H20, 4,096 tokens, a fifth slower allowed",
        reported=30,
        unit="GB/s",
        band=(0, 30),
        tier="A",
        measure=least_bandwidth,
        neutral=None,
    ),
    *(_gain_claim(name, trace) for name in SYSTEMS for trace in TRACES),
    Claim(
        name="lamina-largest-gain",
        paper=_PAPER,
        technique="attention-offload",
        says="decode throughput rises by up to 90.1 %",
        config="the largest of the twelve cells",
        reported=1.901,
        unit="× throughput",
        band=(1.80, 2.00),
        tier="A",
        measure=lambda: max(gain(name, t) for name in SYSTEMS for t in TRACES),
        note="no share of peak brings the model above 1.4; a slower engine on the homogeneous side would",
    ),
)

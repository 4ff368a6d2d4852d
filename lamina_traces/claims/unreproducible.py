"""Numbers of the papers that no analytic model of this kind can give."""

from __future__ import annotations

from . import Unreproducible

UNREPRODUCIBLE = (
    Unreproducible(
        "Lamina v1, arXiv 2405.01814",
        "12.1 times the estimated throughput per dollar",
        "belongs to the hardware of the first version; the second reports 16 to 90 %",
    ),
    Unreproducible(
        "Lamina, arXiv 2405.01814 v2",
        "90 % more decode throughput at equal cost",
        "first principles end at 32 % over all settings tried; the rest would be a slower baseline engine, which is a guess",
    ),
    Unreproducible(
        "vAttention, arXiv 2405.04437",
        "prompts 3.92 times as fast as paged FlashAttention",
        "a property of that kernel and of how it appends to the cache, not of where memory lies",
    ),
    Unreproducible(
        "NanoFlow, arXiv 2408.12757",
        "4.18 times the throughput of vLLM 0.5.3",
        "mixes overlap with the quality of another engine; the gain over the same engine is 1.14 to 1.22",
    ),
    Unreproducible(
        "BatchLLM, arXiv 2412.03594",
        "10.8 times the throughput of vLLM",
        "the largest of a grid, and with the quality of kernels in it",
    ),
    Unreproducible(
        "FastSwitch, arXiv 2411.18424",
        "P99.9 of the time between tokens 11.2 times as short",
        "an extreme tail of one run: it depends on when priorities change, which is not published",
    ),
    Unreproducible(
        "Llumnix, arXiv 2406.03243",
        "P99 of prefill 15 times as short as with INFaaS++",
        "noise between seeds: a heavy tail's P99 moves by more than ten times from seed to seed, and its median over paired seeds is near 1",
    ),
    Unreproducible(
        "Llumnix, arXiv 2406.03243",
        "36 % less cost",
        "needs thresholds of the scaling rule that are not published; only its sign can be tested",
    ),
)

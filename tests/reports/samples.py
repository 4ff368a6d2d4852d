"""Profiles, runs and score cards to report on, made from numbers drawn here; no file is read."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import polars as pl

from lamina_traces.aspects import Line
from lamina_traces.aspects.arrivals import Arrivals
from lamina_traces.aspects.cold_starts import ColdStarts, Component
from lamina_traces.aspects.dispersion import Scale
from lamina_traces.aspects.failures import Failures
from lamina_traces.aspects.lengths import Lengths, Margin
from lamina_traces.aspects.power import Device, Power
from lamina_traces.counts import Counts
from lamina_traces.distributions import Atoms, Grid, fit_families
from lamina_traces.errors import Notice
from lamina_traces.fidelity import ScoreCard
from lamina_traces.profile import Part, Profile, Stream
from lamina_traces.runs import Run

HOSTILE = (
    "<script>alert(1)</script>", "</script><script>alert(2)</script>", '"><img src=x onerror=alert(3)>',
    "'; alert(4); //", "{{ 7 * 7 }}", "<!-- ", "]]>", "x" * 500, "שלום עולם", "\u202eevil\u202c", "🔥🧪 名前",
    "nul\0 and \ud800 half", "%{x}<br><b>bold</b>", "line\u2028separator",
)  # fmt: skip


def arrivals(rng: np.random.Generator, n: int = 5000) -> Arrivals:
    gaps = rng.weibull(0.5, n) + 1e-3
    counts = Counts.of(np.round(gaps, 3))
    span = float(gaps.sum())
    times = np.cumsum(gaps)
    spread = []
    for w in (0.1, 1.0, 10.0, 60.0, 600.0, 3600.0):
        k = int(span // w)
        if k < 1:
            continue
        c = np.bincount((times / w).astype(int), minlength=k)[:k]
        idc = float(c.var(ddof=1) / c.mean()) if k >= 5 else None
        spread.append(Scale(w, k, idc, None, float(c.max() / c.mean())))
    curve = np.histogram(times, bins=120)[0] / (n / 120)
    return Arrivals(
        n, span, n / span, 1e-3, 0.0, 0.01, float(gaps.std() / gaps.mean()), 1.8, tuple(spread), span / 120, curve, 1.0,
        Grid.of(Counts.of(gaps / gaps.mean())), tuple(fit_families(counts, tick=1e-3)),
    )  # fmt: skip


def lengths(rng: np.random.Generator, n: int = 5000) -> Lengths:
    z = rng.standard_normal((2, n))
    x = np.ceil(np.exp(7 + 0.9 * z[0]))
    y = np.ceil(np.exp(3 + 1.1 * (0.6 * z[0] + 0.8 * z[1])))
    x[:300] = 7436.0
    cells = 16
    ranks = [np.argsort(np.argsort(v, kind="stable"), kind="stable") * cells // n for v in (x, y)]
    grid = np.zeros((cells, cells))
    np.add.at(grid, (ranks[0], ranks[1]), 1.0)

    def margin(v: np.ndarray[Any, Any], atoms: Atoms) -> Margin:
        c = Counts.of(v)
        q = {f"p{k}": float(np.percentile(v, k)) for k in (10, 25, 50, 75, 90, 95, 99)}
        return Margin(
            Grid.of(c), float(v.min()), q, tuple(fit_families(c, whole_numbers=True)), atoms
        )

    return Lengths(
        margin(x, Atoms((), (), 7436.0, 0.06)), margin(y, Atoms()), n, 0.55, 0.4, grid / n
    )


def failures() -> Failures:
    return Failures(
        5000,
        210,
        0.042,
        0.037,
        0.048,
        0.03,
        0.7,
        1.43,
        9,
        {"unknown-failure": (0.9, 1.0), "timeout": (0.1, 0.4)},
    )


def profile(
    name: str = "sample", *, streams: int = 1, with_failures: bool = True, seed: int = 0
) -> Profile:
    rng = np.random.default_rng(seed)
    aspects: dict[str, Any] = {"arrivals": arrivals(rng), "lengths": lengths(rng)}
    if with_failures:
        aspects["failures"] = failures()
    made = tuple(
        Stream(
            f"stream {i}" if streams > 1 else "all",
            1 / streams,
            {"model": f"m{i}"} if streams > 1 else {},
            aspects,
        )
        for i in range(streams)
    )
    source = {
        "trace": name, "kind": "llm", "nature": "real", "clock": "utc", "tick_ns": 100, "table": "llm_requests",
        "rows": 5000, "span_s": 10000.0, "format": "azure-llm", "inputs": [{"name": f"{name}.csv", "sha256": "0f" * 32}],
    }  # fmt: skip
    notices = (
        Notice("short-span", "2 h of trace: IDC at wide windows is uncertain", "arrivals"),
        Notice(
            "not-recorded",
            "the source does not record whether requests failed; log a status for each request",
            "failures",
        ),
    )
    return Profile(
        name,
        {"llm_requests": Part("llm_requests", made)},
        source,
        notices[: 1 + (not with_failures)],
    )


def serverless(name: str = "cold") -> Profile:
    rng = np.random.default_rng(1)
    components = {}
    for k, scale in {"total": 1.2, "pod_alloc": 0.1, "scheduling": 0.9, "deploy_code": 0.2}.items():
        c = Counts.of(
            np.round(scale * rng.lognormal(0, 0.8, 2000), 6)
            * (rng.random(2000) > (0.3 if k == "deploy_code" else -1))
        )
        positive = c.where(c.x > 0)
        components[k] = Component(
            c.rows, c.mean, float(c.n[c.x == 0].sum() / c.rows),
            dict(zip(("p10", "p50", "p90", "p99"), map(float, c.quantile(np.array([0.1, 0.5, 0.9, 0.99]))), strict=True)),
            Grid.of(c), tuple(fit_families(positive, tick=1e-6)), None if k == "total" else scale / 1.2,
        )  # fmt: skip
    stream = Stream(
        "all", 1.0, {}, {"arrivals": arrivals(rng), "cold_starts": ColdStarts(components)}
    )
    return Profile(
        name, {"cold_starts": Part("cold_starts", (stream,))}, {"kind": "serverless", "rows": 2000}
    )


def power(name: str = "watts") -> Profile:
    rng = np.random.default_rng(2)
    devices = tuple(
        Device(
            "host",
            f"gpu{i}",
            "gpu",
            1000,
            350.0,
            351.0 if i else None,
            70.0,
            690.0,
            100.0,
            35000.0,
            400.0,
        )
        for i in range(3)
    )
    grid = Grid.of(Counts.of(np.round(70 + 600 * rng.beta(2, 3, 1000), 1)))
    stream = Stream("all", 1.0, {}, {"power": Power(0.1, devices, 0.51, grid)})
    return Profile(
        name, {"power_samples": Part("power_samples", (stream,))}, {"kind": "power", "rows": 3000}
    )


def run(name: str = "sample", *, n: int = 4000, seed: int = 3, **metrics: Any) -> Run:
    rng = np.random.default_rng(seed)
    arrival = np.sort(rng.integers(0, 3600 * 10**9, n))
    ttft = rng.lognormal(-3, 0.9, n)
    tpot = rng.lognormal(-4.4, 0.3, n)
    output = rng.integers(1, 400, n)
    requests = pl.DataFrame({
        "row_id": np.arange(n), "arrival_ns": arrival, "input_tokens": rng.integers(1, 8000, n), "output_tokens": output,
        "ttft_s": ttft, "tpot_s": pl.Series(tpot).zip_with(pl.Series(output > 1), pl.Series([None], dtype=pl.Float64).new_from_index(0, n)),
        "e2e_s": ttft + tpot * (output - 1), "queue_s": ttft / 3, "status": ["ok"] * n, "replica": rng.integers(0, 2, n).astype(np.int32),
    })  # fmt: skip
    w = 720
    start = np.repeat(np.arange(w) * 5 * 10**9, 2)
    load = 0.5 + 0.4 * np.sin(np.arange(2 * w) / 90)
    windows = pl.DataFrame({
        "row_id": np.arange(2 * w), "arrival_ns": start, "replica": np.tile([0, 1], w), "window_s": 5.0, "iterations": 100,
        "busy_s": 5 * load, "decode_tokens": (load * 4000).astype(int), "prefill_tokens": (load * 9000).astype(int),
        "mean_batch": 40 * load, "mean_kv_frac": 0.5 * load,
    })  # fmt: skip
    watts = pl.DataFrame(
        {"arrival_ns": start, "device": np.tile(["gpu0", "gpu1"], w), "power_w": 120 + 500 * load}
    )
    shown: dict[str, Any] = {
        "saturated": False, "requests_offered": n, "requests_completed": n, "requests_rejected": 0, "requests_unfinished": 0,
        "preemptions": 3, "requests_per_s": 2.57, "output_tokens_per_s": 71.0, "ttft_mean_s": 0.07, "ttft_p50_s": 0.043,
        "ttft_p90_s": 0.2, "ttft_p99_s": 2.1, "tpot_p50_s": 0.012, "tpot_p99_s": 0.03, "e2e_p50_s": 1.9, "e2e_p99_s": 7.3,
        "queue_p99_s": None, "queue_p99_s_why": "fewer than 10 samples lie beyond it", "busy_frac": 0.61, "kv_mean_frac": 0.12,
        "kv_peak_frac": 0.61, "energy_j": 1.2e6, "power_mean_w": 333.0, "energy_per_output_token_j": 4.9, "usd_per_hour": 3.2,
        "usd_per_m_total_tokens": 0.42, "usd_per_m_output_tokens": 12.1, "slo_attainment": None, "slo_attainment_why": "no limit was given",
    }  # fmt: skip
    explain = [
        {
            "op": op,
            "about": binds,
            "binds": binds,
            "gflop": gflop,
            "gb": gb,
            "net_gb": net,
            "ms": ms,
            "share": share,
        }
        for op, binds, gflop, gb, net, ms, share in (
            ("qkv", "compute", 900.0, 4.2, 0.0, 2.1, 0.31),
            ("decode_attention", "memory", 12.0, 9.9, 0.0, 3.3, 0.5),
            ("all_reduce", "network", 0.0, 0.1, 0.4, 0.9, 0.19),
        )
    ]
    return Run(
        name=f"{name} on llama-3.1-8b",
        workload={"name": name, "source": "real", "requests": n, "rate_per_s": 2.57, "span_s": 3600.0, "replay": "open"},
        deployment={"text": "2 × h100-sxm (2 replicas) serving llama-3.1-8b", "model": "llama-3.1-8b", "gpu": "h100-sxm", "replicas": 2},
        spec="model = 'llama-3.1-8b'",
        techniques=(),
        metrics=shown | metrics,
        slo=({"limit": "ttft.p99=1s", "limit_s": 1.0, "observed_s": 2.1, "ok": False},),
        rows=requests,
        windows=windows,
        power=watts,
        explain=explain,
        binding="memory",
        notices=(Notice("example-prices", "prices are the example file; give your own", "money"),),
    )  # fmt: skip


def card() -> ScoreCard:
    return ScoreCard("real", "synthetic", (
        Line("arrivals", "rate", 0.004, 0.02, "relative"),
        Line("arrivals", "IDC-curve distance", 0.41, 0.2, "mean |ln ratio|", "windows 1 s, 10 s"),
        Line("lengths", "input KS D", None, 0.015, note="too few rows"),
        Line("failures", "failure rate difference", 0.001, None, "share"),
    ))  # fmt: skip


def hostile() -> tuple[Profile, Run, ScoreCard]:
    """Everything that a file may name, named by an attacker."""
    p = profile("".join(HOSTILE), streams=3)
    part = p.parts["llm_requests"]
    streams = tuple(
        replace(s, name=h, where={h: h}) for s, h in zip(part.streams, HOSTILE, strict=False)
    )
    source = {
        k: (HOSTILE[i % len(HOSTILE)] if isinstance(v, str) else v)
        for i, (k, v) in enumerate(p.source.items())
    }
    source["inputs"] = [{"name": h, "sha256": h} for h in HOSTILE]
    bad = tuple(Notice(h, h, h) for h in HOSTILE)
    p = Profile(
        p.name, {"llm_requests": Part("llm_requests", streams)}, source, bad, tool=HOSTILE[0]
    )
    r = run(HOSTILE[2])
    r = replace(
        r,
        workload=dict.fromkeys(r.workload, HOSTILE[1]) | {"requests": 4000},
        deployment={h: h for h in HOSTILE} | {"text": HOSTILE[0]},
        techniques=HOSTILE,
        metrics=dict(r.metrics) | {"ttft_p50_s_why": HOSTILE[0], HOSTILE[0]: HOSTILE[1]},
        slo=({"limit": HOSTILE[0], "limit_s": 1.0, "observed_s": None, "ok": True},),
        binding=HOSTILE[1],
        explain=[dict.fromkeys(e, h) for e, h in zip(r.explain, HOSTILE, strict=False)],
        notices=bad,
    )
    lines = tuple(Line(h, h, 0.1, 0.2, h, h) for h in HOSTILE)
    return p, r, ScoreCard(HOSTILE[0], HOSTILE[1], lines)

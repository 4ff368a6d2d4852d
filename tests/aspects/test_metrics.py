"""Metrics only: what is recovered from scrapes of a server whose requests were drawn from known laws, and what is said of
the rest."""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from lamina_traces.aspects import arrivals, from_dict, length_draws, lengths, metrics
from lamina_traces.aspects.metric_laws import Histogram, grid, law
from lamina_traces.aspects.metric_names import HISTOGRAMS, NAMES, ROLES, recognised, split
from lamina_traces.aspects.metrics import Metrics
from lamina_traces.distributions import fit_families
from lamina_traces.errors import ModelError, Notice
from lamina_traces.store import Store, Trace
from tests.recovery.scrapes import S, drawn, exposition, one_two_five, scrapes

from .tables import stored

N, RATE = 12_000, 4.0


def fitted(trace: Trace, notices: list[Notice] | None = None) -> Metrics:
    found = metrics.fit(trace, [] if notices is None else notices)
    assert found is not None
    assert (
        from_dict("metrics", json.loads(json.dumps(found.to_dict()))).to_dict() == found.to_dict()
    )
    return found


def codes(notices: list[Notice]) -> set[str]:
    return {n.code for n in notices}


@pytest.fixture(scope="module")
def served() -> Any:
    return drawn(np.random.default_rng(0), N, RATE)


@pytest.fixture(scope="module")
def scraped(served: Any, tmp_path_factory: pytest.TempPathFactory) -> tuple[Metrics, list[Notice]]:
    frame = scrapes(served, resets_s=(1000.0,), offset=500.0)
    notices: list[Notice] = []
    return fitted(stored(tmp_path_factory.mktemp("m"), "metric_series", frame), notices), notices


def test_rate_and_dispersion(served: Any, scraped: tuple[Metrics, list[Notice]]) -> None:
    m, notices = scraped
    # requests between the scrape at 990 s and the reset at 1000 s are lost, and said
    lost = int(((served.t > 990) & (served.t <= 1000)).sum())
    assert m.requests == N - lost
    assert m.rate_per_s == pytest.approx((N - lost) / m.span_s, rel=1e-6)
    assert m.rate_interval is not None
    assert m.rate_interval.low < RATE < m.rate_interval.high
    assert m.resets == 1
    assert {"counter-resets", "metrics-only", "scrape-gaps"} <= codes(notices)
    assert m.scrape_s == 15
    assert m.scales[0].window_s == 15
    counts = np.histogram(served.t, np.arange(0, m.span_s + 1, 15))[0].astype(float)
    counts = np.delete(counts, 66)  # the interval of the reset
    assert m.scales[0].idc == pytest.approx(counts.var(ddof=1) / counts.mean(), rel=1e-6)
    assert 0.7 < (m.scales[0].idc or 0) < 1.4, "a Poisson process"
    known = np.array([np.nan if x is None else x for x in m.rate_curve], dtype=float)
    edges = np.arange(len(known) + 1) * m.window_s
    rates = np.histogram(served.t, edges)[0] / m.window_s
    inner = np.ones(len(known), dtype=bool)
    inner[[0, int(1000 // m.window_s), -1]] = False
    np.testing.assert_allclose(known[inner], rates[inner], rtol=1e-4)
    assert np.nanmean(known) == pytest.approx(RATE, rel=0.05)


def test_length_laws(served: Any, scraped: tuple[Metrics, list[Notice]]) -> None:
    m, _ = scraped
    for found, x, mu, sigma in (
        (m.input, served.input, 6.0, 1.2),
        (m.output, served.output, 5.0, 0.8),
    ):
        assert found is not None
        best = found.families[0]
        assert best.family == "lognormal"
        assert best.params["mu"] == pytest.approx(mu, abs=0.04)
        assert best.params["sigma"] == pytest.approx(sigma, abs=0.03)
        for name, truth in (("mu", mu), ("sigma", sigma)):
            i = best.intervals[name]
            assert i.high - i.low < 0.2
            assert i.low - 0.02 < truth < i.high + 0.02
        assert found.mean == pytest.approx(x.mean(), rel=0.01)
        assert found.mean_interval is not None
        assert found.mean_interval.low < x.mean() < found.mean_interval.high
        for q in found.quantiles:
            truth = float(np.quantile(x, float(q.name[1:]) / 100))
            assert q.low <= truth <= (q.high or math.inf)
        assert found.grid is not None
        u = np.linspace(0.05, 0.95, 19)
        np.testing.assert_allclose(found.grid.quantile(u), np.quantile(x, u), rtol=0.1, atol=1.0)
    assert m.hit_ratio == pytest.approx(0.25, rel=1e-3)
    ttft = m.latencies["ttft"]
    assert ttft.mean_s == pytest.approx(served.ttft_s.mean(), rel=0.01)
    for q in ttft.quantiles:
        truth = float(np.quantile(served.ttft_s, float(q.name[1:]) / 100))
        assert q.low <= truth <= (q.high or math.inf)
        assert q.low <= q.interpolated <= (q.high or math.inf)
        assert q.doubt is not None
        assert q.doubt[0] <= q.low


def test_curves(scraped: tuple[Metrics, list[Notice]], served: Any) -> None:
    m, _ = scraped
    assert m.curves["running"].mean == pytest.approx(5, abs=0.3)
    assert m.curves["running"].highest == pytest.approx(8, abs=0.1)
    assert m.curves["kv_usage"].mean == pytest.approx(0.4, abs=0.02)
    tokens = served.input.sum() / served.t[-1]
    assert m.curves["prompt_rate"].mean == pytest.approx(tokens, rel=0.03)


def test_what_is_unknowable_has_an_assumption(scraped: tuple[Metrics, list[Notice]]) -> None:
    m, _ = scraped
    text = " | ".join(f"{u.what}: {u.assumption}" for u in m.unknowable)
    for said in ("burstiness below 15 s: a Poisson process", "depend on each other: independent", "sessions", "clients", "when requests arrived"):  # fmt: skip
        assert said in text
    assert m.evidence == "metrics"
    assert any(f.warning == "metrics-only" for f in m.findings())
    assert len(json.dumps(m.to_dict())) < 20_000


def test_what_a_generator_gets(served: Any, scraped: tuple[Metrics, list[Notice]]) -> None:
    m, _ = scraped
    a, n = m.to_arrivals_and_lengths()
    assert a is not None
    assert n is not None
    assert (a.evidence, n.evidence) == ("metrics", "metrics")
    assert arrivals.from_dict(json.loads(json.dumps(a.to_dict()))).to_dict() == a.to_dict()
    assert lengths.from_dict(json.loads(json.dumps(n.to_dict()))).to_dict() == n.to_dict()
    assert a.findings()
    assert n.findings()
    x, y = length_draws.Sampler(n).pairs(np.random.default_rng(1), 20_000)
    assert x.mean() == pytest.approx(served.input.mean(), rel=0.07)
    assert np.median(y) == pytest.approx(np.median(served.output), rel=0.03)
    assert abs(np.corrcoef(x, y)[0, 1]) < 0.03
    assert a.rate_per_s == pytest.approx(RATE, rel=0.05)


def test_bursts_between_scrapes_are_handed_on(tmp_path: Path) -> None:
    """Batches of five requests at once: between neighbouring scrapes five times as dispersed as Poisson."""
    rng = np.random.default_rng(3)
    r = drawn(rng, 12_000, RATE)
    batched = np.repeat(np.cumsum(rng.exponential(5 / RATE, 2400)), 5)
    r = type(r)(batched, r.input, r.output, r.ttft_s)
    m = fitted(stored(tmp_path, "metric_series", scrapes(r)))
    assert m.local_dispersion == pytest.approx(5, rel=0.35)
    a, _ = m.to_arrivals_and_lengths()
    assert a is not None
    assert a.cv**2 == pytest.approx(m.local_dispersion, rel=0.15)
    assert "renewal process" in next(u.assumption for u in m.unknowable if "burst" in u.what)


def test_gaps_count_for_the_mean_and_nothing_else(served: Any, tmp_path: Path) -> None:
    whole = fitted(stored(tmp_path, "metric_series", scrapes(served)))
    frame = scrapes(served, missing=range(50, 80))
    notices: list[Notice] = []
    cut = fitted(stored(tmp_path, "metric_series", frame, "cut"), notices)
    assert cut.requests == whole.requests
    assert cut.rate_per_s == whole.rate_per_s
    assert None in cut.rate_curve
    assert "scrape-gaps" in codes(notices)
    assert cut.scales[0].windows == whole.scales[0].windows - 31
    assert (cut.scales[0].peak_to_mean or 9) < 2, "the gap's requests are no burst"


def test_masks(served: Any, tmp_path: Path) -> None:
    trace = stored(tmp_path, "metric_series", scrapes(served))
    m = fitted(trace.mask(750 * S, 1200 * S))
    outside = ((served.t < 735) | (served.t > 1200)).sum()
    assert m.rate_per_s == pytest.approx(RATE, rel=0.05)
    assert m.input is not None
    assert m.input.rows <= outside
    assert m.input.rows >= 0.97 * outside


def test_servers_add_up(tmp_path: Path) -> None:
    """Two servers with bounds of their own: only bounds that both have are used, and sums there are exact."""
    rng = np.random.default_rng(4)
    one, two = drawn(rng, 3000, 2.0), drawn(rng, 3000, 2.0)
    bounds = [10.0, 50.0, 100.0, 1000.0, 5000.0, 7777.0]
    span = min(one.t[-1], two.t[-1])
    frames = [
        scrapes(one, span_s=span),
        scrapes(two, host="b", bounds=bounds, span_s=span).with_columns(pl.col("arrival_ns") + 3 * S),
    ]  # fmt: skip
    frame = pl.concat(frames).sort("arrival_ns", maintain_order=True)
    m = fitted(stored(tmp_path, "metric_series", frame))
    assert m.rate_per_s == pytest.approx(4.0, rel=0.05)
    assert m.input is not None
    shared = [b for b, _ in m.input.buckets if b is not None]
    assert set(shared) <= set(bounds) & set(one_two_five(32768))
    ends = np.array([*shared, np.inf])
    at = np.ceil(span / 15) * 15
    both = np.concatenate([r.input[r.t <= at] for r in (one, two)])
    want = np.histogram(both, np.concatenate([[-1], ends]) + 0.5)[0]
    assert [n for _, n in m.input.buckets] == want.tolist()
    assert m.curves["running"].mean == pytest.approx(10, rel=0.1), "requests of both"
    assert m.curves["kv_usage"].mean == pytest.approx(0.4, abs=0.03), "a share is not added"


def test_through_prometheus_text(served: Any, tmp_path: Path) -> None:
    frame = scrapes(served, every_s=60.0)
    path = tmp_path / "scrapes.prom"
    path.write_text(exposition(frame))
    read = fitted(Store(tmp_path / "s").ingest([path], "p"))
    direct = fitted(stored(tmp_path / "d", "metric_series", frame))
    assert read.rate_per_s == direct.rate_per_s
    assert read.input is not None
    assert direct.input is not None
    assert read.input.buckets == direct.input.buckets
    assert read.input.families[0].params == direct.input.families[0].params
    assert read.scrape_s == 60


def test_counters_alone_give_means(tmp_path: Path) -> None:
    r = drawn(np.random.default_rng(5), 3000, 2.0)
    frame = scrapes(r).filter(pl.col("metric").str.ends_with("_total"))
    m = fitted(stored(tmp_path, "metric_series", frame))
    assert m.input is None
    assert m.mean_input == pytest.approx(r.input.mean(), rel=0.01)
    assert m.counted_by.startswith("completions")
    a, n = m.to_arrivals_and_lengths()
    assert a is not None
    assert n is not None
    x, _ = length_draws.Sampler(n).pairs(np.random.default_rng(0), 20_000)
    assert x.mean() == pytest.approx(r.input.mean(), rel=0.05)
    assumed = next(u for u in m.unknowable if "law of input" in u.what)
    assert "exponential" in assumed.assumption


def test_no_counter_of_requests_no_rate(tmp_path: Path) -> None:
    frame = scrapes(drawn(np.random.default_rng(6), 500, 2.0))
    m = fitted(stored(tmp_path, "metric_series", frame.filter(pl.col("type") == "gauge")))
    assert m.rate_per_s is None
    assert m.to_arrivals_and_lengths() == (None, None)
    assert any("request rate" in u.what for u in m.unknowable)


def test_unknown_metrics_and_single_scrapes_are_said(tmp_path: Path) -> None:
    frame = scrapes(drawn(np.random.default_rng(7), 100, 2.0))
    notices: list[Notice] = []
    other = frame.with_columns(pl.lit("node_load1").alias("metric"))
    assert metrics.fit(stored(tmp_path, "metric_series", other), notices) is None
    once = frame.filter(pl.col("arrival_ns") == 0)
    assert metrics.fit(stored(tmp_path, "metric_series", once, "once"), notices) is None
    assert codes(notices) == {"unknown-metrics", "too-few-rows"}


# --- buckets ---------------------------------------------------------------------------------------


def histogram(x: Any, bounds: list[float], windows: int = 1) -> Histogram:
    rows = [
        {
            "source": "s",
            "le": b if math.isfinite(b) else None,
            "k": k,
            "n": float((part <= b).sum()),
        }
        for k, part in enumerate(np.array_split(x, windows))
        for b in (*bounds, math.inf)
    ]
    made = Histogram.of(rows, windows)
    assert made is not None
    return made


def test_the_last_bucket_is_right_censored() -> None:
    """A third of the values lie beyond the last bound; the law does not take the bound for their value."""
    x = np.rint(np.random.default_rng(8).lognormal(6, 1.2, 20_000))
    h = histogram(x, one_two_five(700))
    assert h.n[-1] / h.rows > 0.3
    best = fit_families(h.counts(True), ("lognormal",))[0]
    assert best.params["mu"] == pytest.approx(6, abs=0.03)
    assert best.params["sigma"] == pytest.approx(1.2, abs=0.03)
    found = law(h, "m", None, None)
    assert [q.high for q in found.quantiles] == [500.0, None, None, None]


def test_whole_numbers_of_small_buckets() -> None:
    """Tokens of the bucket (1, 2] are 2: intervals are shifted by a half, or small lengths come out biased."""
    x = np.maximum(1, np.rint(np.random.default_rng(9).gamma(2.0, 3.0, 50_000)))
    h = histogram(x, [1.0, 2.0, 5.0, 10.0, 20.0, 50.0])
    best = fit_families(h.counts(True), ("gamma",))[0]
    assert best.mean == pytest.approx(x.mean(), rel=0.01)


def test_grid_keeps_the_shares_of_the_buckets() -> None:
    rng = np.random.default_rng(10)
    x = np.rint(np.concatenate([rng.lognormal(3, 0.3, 5000), rng.lognormal(8, 0.3, 5000)]))
    h = histogram(x, one_two_five(20_000)).suppressed()
    best = fit_families(h.counts(True))[0]  # far off: two humps
    g = grid(h, best)
    for bound, share in zip(h.bounds, np.cumsum(h.n) / h.rows, strict=False):
        made = (np.rint(g.quantile(np.linspace(0, 1, 20_001))) <= bound).mean()
        assert made == pytest.approx(share, abs=0.012)


def test_few_values_are_not_told_apart() -> None:
    x = np.array([1.0] * 3 + [10.0] * 40 + [900.0] * 4 + [5000.0] * 2)
    h = histogram(x, one_two_five(10_000)).suppressed()
    assert all(n == 0 or n >= 10 for n in h.n)
    assert h.rows == len(x)
    alone = histogram(np.array([5.0] * 4), [1.0, 10.0]).suppressed()
    assert len(alone.bounds) == 0 or all(n == 0 or n >= 10 for n in alone.n)


def test_quantiles_lie_in_their_bucket() -> None:
    rng = np.random.default_rng(11)
    x = rng.lognormal(0, 1, 999)
    bounds = [0.1, 0.3, 1.0, 3.0, 10.0]
    h = histogram(x, bounds)
    for q in (0.001, 0.1, 0.5, 0.9, 0.999):
        low, high = h.quantile_bounds(q)
        value = np.quantile(x, q, method="inverted_cdf")
        assert low < value <= high


def test_buckets_that_fall_are_empty_and_said(tmp_path: Path) -> None:
    rows = [
        {"source": "s", "le": b, "k": 0, "n": n}
        for b, n in ((1.0, 30.0), (2.0, 20.0), (5.0, 60.0), (None, 60.0))
    ]
    h = Histogram.of(rows, 1)
    assert h is not None
    assert (h.n.tolist(), h.inconsistent) == ([30.0, 0.0, 40.0, 0.0], 1)
    assert Histogram.of(rows[:-1], 1) is None, "without +Inf nobody knows how many there are"
    del tmp_path


# --- names -----------------------------------------------------------------------------------------


def test_names() -> None:
    assert {n.role for n in NAMES} <= set(ROLES)
    assert split("vllm:time_to_first_token_seconds_bucket") == ("vllm:time_to_first_token_seconds", "_bucket")  # fmt: skip
    for name in NAMES:
        suffix = "_bucket" if name.role in HISTOGRAMS else "_total"
        others = ["gen_throughput"] if name.engine == "series" else []
        found = recognised([name.name + suffix, *others])
        assert name.role in found or name.engine == "series", name
    both = recognised(["vllm:kv_cache_usage_perc", "vllm:gpu_cache_usage_perc"])
    assert both["kv_usage"].metric == "vllm:kv_cache_usage_perc"
    assert recognised(["vllm_request_success_total"])["completions"].series("_total") == "vllm_request_success_total"  # fmt: skip
    assert "running" not in recognised(["running"]), "that may be anything"
    tgi = recognised(["tgi_request_count", "tgi_request_duration_count", "tgi_request_duration_bucket"])  # fmt: skip
    assert tgi["arrivals"].metric == "tgi_request_count"


def test_label_of_a_metric_decides(tmp_path: Path) -> None:
    rows = [
        (k * 10 * S, "nv_trt_llm_request_metrics", f'{{"request_type":"{kind}"}}', value)
        for k in range(40)
        for kind, value in (("waiting", 2.0), ("scheduled", 7.0), ("max", 512.0))
    ]
    frame = pl.DataFrame(rows, schema=["arrival_ns", "metric", "labels", "value"], orient="row")
    m = fitted(stored(tmp_path, "metric_series", frame))
    assert (m.curves["running"].mean, m.curves["waiting"].mean) == (7.0, 2.0)


@pytest.mark.parametrize(
    "damage",
    [
        lambda d: d.update(scrape_s=0.0),
        lambda d: d.update(hit_ratio=1.5),
        lambda d: d.update(rate_per_s=float("nan")),
        lambda d: d["input"]["buckets"][0].__setitem__(1, -4.0),
        lambda d: d["input"]["buckets"].reverse(),
        lambda d: d["latencies"]["ttft"]["quantiles"][0].update(low=9e9),
        lambda d: d["latencies"].update(mood=d["latencies"]["ttft"]),
        lambda d: d["curves"]["running"].update(highest=-1.0),
    ],
)
def test_a_damaged_profile_is_refused(
    scraped: tuple[Metrics, list[Notice]], damage: Callable[[dict[str, Any]], None]
) -> None:
    d = json.loads(json.dumps(scraped[0].to_dict()))
    damage(d)
    with pytest.raises(ModelError):
        from_dict("metrics", d)


def test_score(served: Any, tmp_path: Path) -> None:
    one = stored(tmp_path, "metric_series", scrapes(served))
    lines = metrics.score(one, one)
    assert len(lines) == 4
    assert all(x.value == 0 for x in lines)


@pytest.mark.real_data
def test_timeseries_of_a_vllm_run(real_data: Path, tmp_path: Path) -> None:
    """The CSV that a bench wrote of a vLLM run, one row a second: throughputs and queues, no counter of requests."""
    file = real_data / "llm/vllm_bench_rtxpro6000_Qwen3-32B.timeseries.csv"
    with file.open() as f:
        table = list(csv.DictReader(f))
    rows = [
        (round(float(r["t"]) * S), name, float(r[name]))
        for r in table
        for name in ("prompt_throughput", "gen_throughput", "running", "waiting", "kv_cache_pct")
    ]
    frame = pl.DataFrame(rows, schema=["arrival_ns", "metric", "value"], orient="row")
    m = fitted(stored(tmp_path, "metric_series", frame))
    assert m.scrape_s == 1
    assert m.rate_per_s is None
    columns = {k: np.array([float(r[k]) for r in table]) for k in ("gen_throughput", "running")}
    assert m.curves["output_rate"].mean == pytest.approx(columns["gen_throughput"].mean(), rel=1e-6)
    assert m.curves["running"].highest == columns["running"].max()

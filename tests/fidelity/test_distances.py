"""Distances of rows, against scipy, closed forms and brute force."""

from __future__ import annotations

import heapq
import math
from dataclasses import replace

import numpy as np
import polars as pl
import pytest
from scipy import stats

from lamina_traces.aspects import arrival_distances, length_distances
from lamina_traces.aspects.rows import Rows, ks_distance, mid_ranks, spearman, wasserstein
from lamina_traces.fidelity.distances import distances
from lamina_traces.fidelity.downstream import queue_lines
from lamina_traces.fidelity.queueing import waits_s
from lamina_traces.fidelity.streams import stream_lines

from .workloads import drawn, values


@pytest.mark.parametrize("ties", [True, False])
def test_sample_distances_equal_scipy(ties: bool) -> None:
    rng = np.random.default_rng(0)
    x, y = rng.gamma(2, 3, 400), rng.gamma(2.5, 3, 700)
    if ties:
        x, y = np.round(x), np.round(y)
    assert ks_distance(x, y) == pytest.approx(stats.ks_2samp(x, y).statistic, abs=1e-12)
    assert wasserstein(x, y) == pytest.approx(stats.wasserstein_distance(x, y), rel=1e-9)
    z = x + np.round(rng.normal(0, 2, 400))
    assert spearman(x, z) == pytest.approx(stats.spearmanr(x, z).statistic, abs=1e-12)
    assert mid_ranks(x) * len(x) + 0.5 == pytest.approx(stats.rankdata(x))
    assert spearman(x, np.ones(400)) is None


def test_everything_is_zero_for_itself() -> None:
    a = drawn(1)
    found = distances(a, a)
    assert {x.value for x in found} == {0.0}
    assert {x.aspect for x in found} == {"arrivals", "lengths", "queue", "simulator"}


def test_dispersion_equals_counts_by_histogram() -> None:
    a = drawn(2, shape=0.3)
    for width in (1.0, 10.0, 60.0):
        k = int(a.span_s // width)
        n = np.histogram(a.arrival_ns / 1e9, bins=np.arange(k + 1) * width)[0]
        idc, peak = arrival_distances.dispersion(a, width)
        assert idc == pytest.approx(n.var(ddof=1) / n.mean(), rel=1e-9)
        assert peak == pytest.approx(n.max() / n.mean(), rel=1e-9)


def test_arrival_lines_have_their_closed_forms() -> None:
    """Of two renewal processes with gamma gaps: KS of the two gamma laws, ln of the ratio of their IDC 1/shape."""
    a, b = drawn(3, 40_000), drawn(4, 40_000, rate=3.0, shape=0.25)
    found = values(arrival_distances.distances(a, b))
    x = np.geomspace(1e-6, 20, 4000)
    ks = np.abs(stats.gamma.cdf(x, 1, scale=1 / 2) - stats.gamma.cdf(x, 0.25, scale=1 / 0.75)).max()
    assert found["gap KS D"] == pytest.approx(ks, abs=3 * math.sqrt(0.5 / 40_000))
    # the mean count is known to sqrt(IDC/N): 0.5 % and 1 %
    assert found["rate"] == pytest.approx(0.5, abs=3 * 1.5 * 0.011)
    # IDC reaches 4 only at widths of several gaps, so the mean over widths from 0.1 s is below ln 4
    assert 0.9 < found["IDC-curve distance"] < math.log(4) * 1.1  # type: ignore[operator]


def test_gaps_alone_do_not_see_memory_and_counts_do() -> None:
    """The same gaps, sorted within each two-hundredth of the trace: their law is untouched."""
    a = drawn(5, 20_000)
    gaps = np.diff(a.arrival_ns, prepend=0)
    again = np.concatenate([np.sort(part) for part in np.array_split(gaps, 200)])
    b = replace(a, arrival_ns=np.cumsum(again))
    found = values(arrival_distances.distances(a, b))
    assert found["gap KS D"] == pytest.approx(0, abs=1e-3)
    assert found["count ACF distance"] > 0.15  # type: ignore[operator]
    assert found["IDC-curve distance"] > 0.4  # type: ignore[operator]


def test_copula_sees_dependence_and_not_margins() -> None:
    """L1 of two bivariate normal copulas by their cell masses; margins are changed by a monotone map on the way."""
    a, b = drawn(6, 60_000, correlated=0.0), drawn(7, 60_000, correlated=0.8)
    b = replace(b, input_tokens=b.input_tokens**2)
    edges = stats.norm.ppf(np.linspace(0, 1, length_distances.CELLS + 1))
    edges[[0, -1]] = -9, 9
    grid = np.array([[x, y] for x in edges for y in edges])
    cdf = stats.multivariate_normal([0, 0], [[1, 0.8], [0.8, 1]]).cdf(grid)
    cdf = cdf.reshape(len(edges), len(edges))
    mass = np.diff(np.diff(cdf, axis=0), axis=1)
    expected = float(np.abs(mass - 1 / length_distances.CELLS**2).sum())
    found = values(length_distances.distances(a, b))
    # each of 256 cells is known to sqrt(p/n) in either sample
    noise = length_distances.CELLS * math.sqrt(2 * 2 / math.pi / 60_000)
    assert found["copula L1"] == pytest.approx(expected, abs=noise)
    rho = 6 / math.pi * math.asin(0.8 / 2)
    assert found["rank correlation difference"] == pytest.approx(rho, abs=3 / math.sqrt(60_000))


def test_quantile_errors_are_those_of_the_worst() -> None:
    a = drawn(8)
    b = replace(
        a, output_tokens=np.where(a.output_tokens > 400, 10 * a.output_tokens, a.output_tokens)
    )
    line = next(x for x in length_distances.distances(a, b) if x.metric == "output quantiles")
    p99 = np.quantile(a.output_tokens, 0.99, method="inverted_cdf")
    assert line.value == pytest.approx(math.log((10 * p99 + 1) / (p99 + 1)), rel=1e-12)
    assert values(length_distances.distances(a, b))["input quantiles"] == 0


def brute_force(arrival: np.ndarray, service: np.ndarray, servers: int) -> list[float]:
    """Waits by a heap of the instants at which servers are free."""
    free = [0.0] * servers
    out = []
    for t, s in zip(arrival.tolist(), service.tolist(), strict=True):
        start = max(t, heapq.heappop(free))
        out.append(start - t)
        heapq.heappush(free, start + s)
    return out


def test_queue_equals_a_heap() -> None:
    rng = np.random.default_rng(9)
    t = np.cumsum(rng.exponential(1, 3000))
    s = rng.lognormal(1, 1, 3000)
    assert waits_s(t, s, 8).tolist() == brute_force(t, s, 8)


def test_queue_waits_as_erlang_says() -> None:
    """M/M/8 at load 0.9: P(wait > x) = C(8, 7.2)·exp(−0.8·x) (Erlang C, unit service)."""
    rng = np.random.default_rng(10)
    n, servers, load = 2_000_000, 8, 0.9
    offered = servers * load
    waits = waits_s(np.cumsum(rng.exponential(1 / offered, n)), rng.exponential(1, n), servers)
    top = offered**servers / math.factorial(servers) / (1 - load)
    c = top / (sum(offered**k / math.factorial(k) for k in range(servers)) + top)
    assert (waits > 0).mean() == pytest.approx(c, rel=0.02)
    assert np.quantile(waits, 0.99) == pytest.approx(math.log(c / 0.01) / 0.8, rel=0.05)


def test_queue_lines_tell_load_from_shape() -> None:
    """Service times 20 % longer: the shared speed sees them, the equal load does not."""
    a = drawn(11, 20_000)
    b = replace(a, input_tokens=1.2 * a.input_tokens, output_tokens=1.2 * a.output_tokens)
    found = values(queue_lines(a, b))
    assert found["p99 wait at load 0.7"] > 0.2  # type: ignore[operator]
    for load in (0.5, 0.7, 0.9):
        assert found[f"p99 wait at equal load {load:g}"] == pytest.approx(0, abs=1e-9)


def named(shares: dict[str, float], rho: dict[str, float], n: int = 20_000, seed: int = 0) -> Rows:
    rng = np.random.default_rng(seed)
    name = rng.choice(list(shares), n, p=list(shares.values()))
    z = rng.standard_normal((2, n))
    r = np.array([rho[k] for k in name])
    frame = pl.DataFrame(
        {
            "arrival_ns": np.arange(n), "input_tokens": np.exp(5 + z[0]),
            "output_tokens": np.exp(5 + r * z[0] + np.sqrt(1 - r**2) * z[1]), "model": name,
        }
    )  # fmt: skip
    return Rows.of_frame(frame, n)


def test_streams_by_share_and_within() -> None:
    a = named({"x": 0.7, "y": 0.3}, {"x": 0.0, "y": 0.0})
    b = named({"x": 0.5, "y": 0.4, "z": 0.1}, {"x": 0.6, "y": 0.0, "z": 0.0}, seed=1)
    found = {x.metric: x for x in stream_lines(a, b)}
    assert found["model shares"].value == pytest.approx(0.2, abs=3 * math.sqrt(0.25 / 10_000))
    rho = 6 / math.pi * math.asin(0.3)
    # weighted by a's rows: 0.7 of it is stream x; |difference| of y is noise above 0
    assert found["model rank correlations"].value == pytest.approx(0.7 * rho, abs=0.02)
    assert found["model shares"].passed is False
    nobody = stream_lines(a, replace(b, names={}))
    assert [(x.value, x.note) for x in nobody] == [(None, "only one of them records it")] * 2
    assert stream_lines(replace(a, names={}), b) == []


@pytest.mark.parametrize(
    "b",
    [
        Rows.of_frame(pl.DataFrame({"arrival_ns": [5], "input_tokens": [1], "output_tokens": [1]}), 10),
        Rows.of_frame(pl.DataFrame({"arrival_ns": pl.Series([], dtype=pl.Int64)}), None),
        Rows.of_frame(pl.DataFrame({"arrival_ns": pl.Series([None] * 5, dtype=pl.Int64)}), None),
        replace(drawn(1), input_tokens=np.full(6000, np.nan), output_tokens=np.full(6000, np.nan)),
    ],
    ids=["one row", "no row", "no arrivals", "no lengths"],
)  # fmt: skip
def test_what_cannot_be_computed_says_why(b: Rows) -> None:
    a = drawn(1)
    both = [distances(a, b), distances(b, a), distances(b, b)]
    for lines in both:
        keys = [(x.aspect, x.metric) for x in lines]
        assert keys == [(x.aspect, x.metric) for x in distances(a, a)]
        for x in lines:
            assert (x.value is None) == (x.passed is None)
            assert x.value is not None or x.note, x.metric
            assert x.value is None or math.isfinite(x.value)

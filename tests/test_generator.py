"""The generator is a pure function of (profile, seed, rate): whatever the shards, threads or cuts."""

from __future__ import annotations

import hashlib
from dataclasses import replace

import numpy as np
import polars as pl
import pytest

from lamina_traces.aspects import Aspect
from lamina_traces.aspects.arrivals import Arrivals
from lamina_traces.aspects.failures import Failures
from lamina_traces.aspects.lengths import Lengths, Margin
from lamina_traces.aspects.modulation import Modulation
from lamina_traces.distributions import Grid
from lamina_traces.errors import ModelError, UsageError
from lamina_traces.generator import (
    Options,
    Place,
    Shard,
    count,
    frame_hash,
    generate,
    plan,
    requests,
    row_hash,
    start,
    walk,
)
from lamina_traces.generator.randomness import mix
from lamina_traces.profile import Part, Profile, Stream
from lamina_traces.units import Rate, parse_rate

HOUR_NS = 3600 * 10**9


def margin(values: list[float]) -> Margin:
    return Margin(
        Grid(np.array(values, dtype=float), float(np.trapezoid(values)) / (len(values) - 1), 1000),
        values[0],
        {"p50": values[1], "p99": values[-1]},
        (),
    )


def profile(
    rate_per_s: float = 5.0,
    curve: list[float] | None = None,
    gaps: list[float] | None = None,
    failures: Failures | None = None,
    streams: int = 1,
    quantum_s: float = 0.0,
) -> Profile:
    """A small profile made by hand. The default gap law is uniform on [0, 2]: no Poisson shortcut holds."""
    arrivals = Arrivals(
        events=18_000,
        span_s=3600.0,
        rate_per_s=rate_per_s,
        tick_s=0.0,
        quantum_s=quantum_s,
        zero_gap_share=0.0,
        cv=1.0,
        cv_without_longest=1.0,
        scales=(),
        window_s=360.0,
        rate_curve=np.array(curve or [0.5, 1.5, 1.0, 0.2, 1.8, 1.0, 1.0, 1.0, 1.2, 0.8]),
        rate_signal=1.0,
        unit_gaps=Grid(np.array(gaps or [0.0, 2.0]), 1.0, 1000),
        families=(),
    )
    lengths = Lengths(
        margin([10, 100, 1000]),
        margin([1, 20, 50]),
        1000,
        0.5,
        0.4,
        np.array([[0.4, 0.1], [0.1, 0.4]]),
    )
    aspects: dict[str, Aspect] = {"arrivals": arrivals, "lengths": lengths}
    if failures:
        aspects["failures"] = failures
    parts = tuple(
        Stream(f"s{i}", 1 / streams, {"model": f"m{i}"} if streams > 1 else {}, aspects)
        for i in range(streams)
    )
    return Profile("handmade", {"llm_requests": Part("llm_requests", parts)}, {"kind": "llm"})


FAILING = Failures(
    1000,
    100,
    0.1,
    0.08,
    0.12,
    0.02,
    0.18,
    5.5,
    20,
    {"timeout": (0.25, 0.0), "unknown-failure": (0.75, 1.0)},
)


def whole(p: Profile, **how: object) -> pl.DataFrame:
    return pl.concat(list(generate(p, **how)))  # type: ignore[arg-type]


@pytest.mark.parametrize("streams", [1, 3])
def test_same_rows_for_any_threads_and_shards(streams: int) -> None:
    p = profile(streams=streams, failures=FAILING)
    how = {"rate": Rate(factor=120.0), "seed": 4, "options": Options(replay=streams == 3)}
    one = whole(p, **how)
    assert (plan(p, **how).blocks or 0) > 8  # type: ignore[arg-type]
    assert one.equals(whole(p, threads=3, **how))
    shards = [whole(p, shard=Shard(i, 4), **how) for i in range(1, 5)]
    assert pl.concat(shards).equals(one)
    assert sum(frame_hash(s) for s in shards) % 2**64 == frame_hash(one)
    assert row_hash(iter([one])) == row_hash(generate(p, **how))  # type: ignore[arg-type]
    assert one["row_id"].to_list() == list(range(one.height))
    assert one["arrival_ns"].is_sorted()


def test_a_walk_goes_on_from_any_place() -> None:
    p = plan(profile(failures=FAILING, streams=2), rate=Rate(factor=60.0), seed=9)
    pieces = list(walk(p))
    for at in (1, 4):
        place = Place(pieces[at].block, pieces[at].rows, pieces[at].state)
        rest = list(walk(p, place=place, threads=2))
        assert all(x.frame.equals(y.frame) for x, y in zip(rest, pieces[at + 1 :], strict=True))
    assert start(p).block == 0


@pytest.mark.parametrize(
    ("name", "scale_by", "column"),
    [
        ("mooncake-conversation", "clients", "prefix_hashes"),
        ("coding-agents", "rate", "depends_on"),
    ],
)
def test_a_block_in_pieces_has_the_same_rows(
    name: str, scale_by: str, column: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    how = {"rows": 2000, "rate": Rate(factor=2.0), "options": Options(scale_by=scale_by)}
    p = plan(Profile.library(name), **how)  # type: ignore[arg-type]
    monkeypatch.setattr(requests, "PIECE_IDS", 1 << 40)
    (one,) = [piece.frame for piece in walk(p)]
    assert one[column].list.len().fill_null(0).sum() > 0
    monkeypatch.setattr(
        requests, "PIECE_IDS", int(float(one["prefix_hashes"].list.len().sum()) / 6.5)
    )
    for threads in (1, 2):
        pieces = list(walk(p, threads=threads))
        assert [piece.last for piece in pieces] == [False] * 6 + [True]
        assert pl.concat([piece.frame for piece in pieces]).equals(one)
        assert sum(frame_hash(piece.frame) for piece in pieces) % 2**64 == frame_hash(one)


def test_hash_of_lists() -> None:
    golden, least = 0x9E3779B97F4A7C15, 2**64
    lists = [[5, 2**63], None, [], [7]]

    def mixed(x: int) -> int:
        return int(mix(np.array([x % least], dtype=np.uint64))[0])

    def word(members: list[int] | None) -> int:
        found = sum(mixed(m + i * golden) for i, m in enumerate(members or []))
        return mixed(found + (2**32 - 1 if members is None else len(members)))

    column = pl.Series("ids", lists, dtype=pl.List(pl.UInt64))
    digest = hashlib.sha256(b"ids").digest()[:8]
    want = [mixed(word(x) + int.from_bytes(digest, "little")) for x in lists]
    assert frame_hash(column.to_frame()) == sum(want) % least
    assert frame_hash(column.slice(1, 3).to_frame()) == sum(want[1:]) % least
    parts = pl.concat([column[:1].to_frame(), column[1:].to_frame()], rechunk=False)
    assert frame_hash(parts) == sum(want) % least


def test_seed_changes_rows_and_rows_option_is_a_prefix() -> None:
    p = profile()
    assert not whole(p, seed=1).equals(whole(p, seed=2))
    long = whole(p, rows=5000, seed=1)
    assert long.height == 5000
    assert whole(p, rows=1234, seed=1).equals(long.head(1234))
    assert (
        whole(p, rows=40_000, seed=1).height == 40_000
    )  # longer than the source: the rate curve repeats


def test_hash_sees_every_column_and_the_order() -> None:
    one = whole(profile(), rows=500)
    assert frame_hash(one) != frame_hash(one.with_columns(pl.col("output_tokens") + 1))
    assert frame_hash(one) != frame_hash(one.with_columns(pl.lit("ok").alias("status")))
    assert frame_hash(one) != frame_hash(one.with_columns(pl.col("arrival_ns").reverse()))


SWINGING = Modulation(
    30.0,
    np.array([0.0, 0.0, 0.5, 1.0, 3.5]) / 0.8125,
    (0.1, 0.4, 0.5),
    (0.4, 1.5),
    (Grid(np.array([0.0, 2.0]), 1.0, 1000), Grid(np.array([0.0, 0.1, 0.2, 0.5, 4.0]), 1.0, 1000), Grid(np.array([1.0, 1.0]), 1.0, 1000)),
)  # fmt: skip
"""half of a third of the time silent, and another law of gaps in each class of levels"""


@pytest.mark.parametrize("course", ["replayed", "new", "modulated"])
@pytest.mark.parametrize("rate_per_s", [0.01, 0.2, 1.0, 100.0])
def test_expected_counts_equal_the_integral_of_the_rate(rate_per_s: float, course: str) -> None:
    """An equilibrium renewal process has E[N(0, t)] = Λ(t) exactly, for any gap law (Cox 1962, §2.2), and the mean
    of the levels is 1 at every instant: no small stream vanishes and none is rounded up. 400 seeds; the interval is four
    standard errors."""
    p = profile(rate_per_s=rate_per_s, gaps=[0.0, 0.1, 0.2, 0.5, 4.0])
    a = p.aspect("arrivals")
    if course == "modulated":
        p = with_arrivals(p, replace(a, modulation=SWINGING))
    hours = HOUR_NS if rate_per_s < 10 else HOUR_NS // 20
    plans = [
        plan(p, duration_ns=hours, seed=s, options=Options(replay=course == "replayed"))
        for s in range(400)
    ]
    counts = np.array([count(x) for x in plans], dtype=float)
    expected = rate_per_s * hours / 1e9
    if course == "replayed":
        t = np.arange(len(a.rate_curve) + 1) * a.window_s
        upto = np.concatenate([[0], np.cumsum(a.rate_curve * a.rate_per_s * a.window_s)])
        expected = float(np.interp(hours / 1e9, t, upto))
    assert plans[0].expected_rows == pytest.approx(expected, rel=1e-9)
    error = counts.std(ddof=1) / np.sqrt(len(counts))
    assert abs(counts.mean() - expected) < 4 * error + 1e-9
    assert error / expected < 0.2


def test_long_counts_are_within_half_a_percent() -> None:
    """The same over a time that is long enough for the error of 200 seeds to be below the bound."""
    for rate_per_s in (0.01, 0.2, 1.0, 100.0):
        p = profile(rate_per_s=rate_per_s)
        swinging = replace(SWINGING, window_s=3.0 if rate_per_s < 10 else 0.1)
        p = with_arrivals(p, replace(p.aspect("arrivals"), modulation=swinging))
        t = round(max(2e4 / rate_per_s, 4e5) * 1e9) if rate_per_s < 10 else HOUR_NS
        counts = [count(plan(p, duration_ns=t, seed=s)) for s in range(200)]
        error = np.std(counts, ddof=1) / np.sqrt(200) / np.mean(counts)
        assert error < 0.0025
        assert abs(np.mean(counts) / (rate_per_s * t / 1e9) - 1) < 0.005


def with_arrivals(p: Profile, law: Arrivals) -> Profile:
    part = p.part("llm_requests")
    streams = tuple(replace(s, aspects={**s.aspects, "arrivals": law}) for s in part.streams)
    return replace(p, parts={"llm_requests": replace(part, streams=streams)})


def test_counts_are_not_rescaled_to_a_fixed_number() -> None:
    """Poisson gaps give Poisson counts: variance equal to the mean, window by window."""
    q = (np.arange(257)) / 256
    gaps = list(-np.log1p(-np.clip(q, 0, 1 - 1 / 512)))
    p = profile(rate_per_s=5.0, curve=[1.0] * 10, gaps=gaps)
    a = whole(p, duration_ns=50 * HOUR_NS)["arrival_ns"].to_numpy()
    counts = np.bincount(a // (10 * 10**9), minlength=18_000)
    assert counts.mean() == pytest.approx(50, rel=0.01)
    law = np.asarray(gaps)
    mean = (law[1:] + law[:-1]).mean() / 2
    second = ((law[1:] ** 2 + law[1:] * law[:-1] + law[:-1] ** 2) / 3).mean()
    assert counts.var() / counts.mean() == pytest.approx(
        second / mean**2 - 1, rel=0.05
    )  # → CV² of the gaps


def test_rate_curve_is_followed() -> None:
    p = profile(rate_per_s=200.0)
    a = whole(p, duration_ns=HOUR_NS, options=Options(replay=True))["arrival_ns"].to_numpy() / 360e9
    seen = np.bincount(a.astype(int), minlength=10) / (200 * 360)
    np.testing.assert_allclose(seen, p.aspect("arrivals").rate_curve, rtol=0.03)


def test_lengths_follow_grid_and_dependence() -> None:
    d = whole(profile(rate_per_s=50.0))
    x, y = d["input_tokens"].to_numpy(), d["output_tokens"].to_numpy()
    assert x.min() >= 10
    assert x.max() <= 1000
    assert np.median(x) == pytest.approx(100, rel=0.05)
    both_low = ((x <= 100) & (y <= 20)).mean()
    assert both_low == pytest.approx(0.4, abs=0.01)


def test_failures_cluster_as_the_chain_says() -> None:
    d = whole(profile(rate_per_s=50.0, failures=FAILING))
    failed = (d["status"] != "ok").to_numpy()
    assert failed.mean() == pytest.approx(0.1, abs=0.01)
    starts = (failed[1:] & ~failed[:-1]).sum()
    assert failed.sum() / starts == pytest.approx(1 / 0.18, rel=0.08)
    lost = d.filter(pl.col("status") == "unknown-failure")
    assert lost["input_tokens"].null_count() == lost.height
    assert lost.height / failed.sum() == pytest.approx(0.75, abs=0.03)
    assert d.filter(pl.col("status") == "timeout")["input_tokens"].null_count() == 0


def test_streams_keep_their_columns_and_shares() -> None:
    d = whole(profile(streams=3, rate_per_s=20.0))
    assert set(d["model"].unique()) == {"m0", "m1", "m2"}
    assert min(d["model"].value_counts()["count"].to_list()) > 0.3 * d.height


def test_a_coarse_clock_stamps_in_its_steps() -> None:
    fine, coarse = whole(profile(rate_per_s=50.0)), whole(profile(rate_per_s=50.0, quantum_s=3.0))
    assert (coarse["arrival_ns"] == fine["arrival_ns"] // (3 * 10**9) * (3 * 10**9)).all()
    assert coarse["arrival_ns"].is_sorted()
    assert coarse["input_tokens"].equals(fine["input_tokens"])


def test_statuses_are_unknown_where_the_profile_has_no_failures() -> None:
    assert whole(profile(), rows=100)["status"].unique().to_list() == ["unknown"]


@pytest.mark.parametrize("bad", ["0/4", "5/4", "x", "1/", "-1/3"])
def test_bad_shard(bad: str) -> None:
    with pytest.raises(UsageError):
        Shard.parse(bad)


def test_impossible_rates_and_profiles() -> None:
    with pytest.raises(ModelError, match="cannot be generated"):
        plan(profile(), rate=parse_rate("1000000000000/s"))
    with pytest.raises(UsageError, match="no rows"):
        plan(profile(), rows=0)
    empty = Profile("x", {"llm_requests": Part("llm_requests", (Stream("all", 1.0, {}, {}),))}, {})
    with pytest.raises(ModelError, match="no arrivals"):
        plan(empty)
    with pytest.raises(ModelError, match="describes nothing"):
        plan(Profile("x", {}, {}))

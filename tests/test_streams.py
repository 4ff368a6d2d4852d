"""Streams: concentration against its definition, the heavy ones, the law of the small; what is disclosed."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from scipy import stats

from lamina_traces import disclosure
from lamina_traces.characterization import characterize, unanswered
from lamina_traces.errors import ModelError, UsageError
from lamina_traces.generator import generate
from lamina_traces.profile import Profile
from lamina_traces.store import Trace
from lamina_traces.streams import concentration, expected_sizes
from lamina_traces.units import parse_rate

from .aspects.tables import stored


@pytest.fixture(scope="module")
def tenants(tmp_path_factory: pytest.TempPathFactory) -> tuple[Trace, np.ndarray]:
    """300 tenants whose sizes follow Zipf's law, larger ones with longer prompts."""
    rng = np.random.default_rng(1)
    weight = np.arange(1, 301) ** -1.2
    who = rng.choice(300, 20_000, p=weight / weight.sum())
    n = len(who)
    frame = pl.DataFrame(
        {
            "arrival_ns": np.cumsum(rng.exponential(2e8, n)).astype(np.int64),
            "tenant_id": [f"tenant-{i}" for i in who],
            "model": ["m"] * n,
            "input_tokens": np.ceil(rng.lognormal(7 - 0.005 * who, 0.5)).astype(np.int32),
            "output_tokens": np.ceil(rng.lognormal(4, 1, n)).astype(np.int32),
            "status": ["ok"] * n,
        }
    )
    return stored(tmp_path_factory.mktemp("tenants"), "llm_requests", frame), who


@pytest.mark.parametrize("seed", range(4))
def test_concentration_equals_its_definition(seed: int) -> None:
    rng = np.random.default_rng(seed)
    sizes = np.ceil(rng.pareto(1.1, 700) * 5 + 1)
    size, streams = np.unique(sizes, return_counts=True)
    c = concentration("tenant_id", size, streams, int(sizes.sum()))
    total = sizes.sum()
    pairs = np.abs(sizes[:, None] - sizes[None, :]).sum() / (2 * 700**2 * sizes.mean())
    assert c.gini == pytest.approx(pairs, abs=1e-5)
    ordered = np.sort(sizes)[::-1]
    shares = np.cumsum(ordered) / total
    tens = 5.1 / total  # shares are told to whole tens of rows
    assert c.top_1 == pytest.approx(shares[0], abs=tens)
    assert c.top_10 == pytest.approx(shares[9], abs=tens)
    assert c.top_percent == pytest.approx(shares[6], abs=tens)
    assert c.for_half == int(np.searchsorted(shares, 0.5 - 1e-12)) + 1
    assert c.for_90 == int(np.searchsorted(shares, 0.9 - 1e-12)) + 1
    assert c.streams == 700


def test_equal_streams_are_not_concentrated() -> None:
    c = concentration("model", [50], [4], 400)
    assert c.gini == 0
    assert c.recorded == 0.5
    assert (c.for_half, c.for_90) == (2, 4)


def test_zipf_of_tenants_comes_back(tenants: tuple[Trace, np.ndarray]) -> None:
    trace, who = tenants
    profile = characterize(trace)
    found = {c.column: c for c in profile.part("llm_requests").concentration}
    assert set(found) == {"tenant_id", "model"}
    assert found["tenant_id"].zipf_a == pytest.approx(1.2, abs=0.1)
    assert found["tenant_id"].top_1 == pytest.approx((who == 0).mean(), abs=3e-4)


def test_heavy_streams_and_a_tail(tenants: tuple[Trace, np.ndarray]) -> None:
    trace, who = tenants
    profile = characterize(trace, by="tenant_id")
    part = profile.part("llm_requests")
    names = [s.name for s in part.streams]
    assert names[0] == "tenant-0"
    assert names[-1] == "other"
    assert len(names) == 13
    assert sum(s.weight for s in part.streams) == pytest.approx(1)
    assert part.tail is not None
    sizes = np.bincount(who, minlength=300)
    heavy = np.sort(sizes)[::-1][:12].sum()
    assert part.tail.share == pytest.approx(1 - heavy / len(who), abs=1e-5)
    assert part.tail.streams == pytest.approx((sizes > 0).sum() - 12, abs=3)
    assert part.tail.rank_correlations["rows~input_tokens"] > 0.3
    again = Profile.loads(profile.dumps())
    assert again.dumps() == profile.dumps()
    assert len(profile.dumps()) < 300_000
    rows = pl.concat(list(generate(profile, rows=4000)))
    made = rows["tenant_id"].value_counts(sort=True)
    named = made.filter(pl.col("tenant_id").str.starts_with("tenant-"))
    assert named.height == 12
    # the small ones are as many, and as unequal, as they were
    assert rows["tenant_id"].null_count() == 0
    small = made.filter(pl.col("tenant_id").str.starts_with("small-"))["count"].to_numpy()
    assert small.sum() / 4000 == pytest.approx(part.tail.share, abs=0.04)
    real = np.sort(sizes)[::-1][12:]
    assert small[:20].sum() / small.sum() == pytest.approx(real[:20].sum() / real.sum(), abs=0.05)


@pytest.mark.parametrize(("tenants_", "a", "n"), [(2000, 1.1, 20_000), (300, 0.0, 900)])
def test_as_many_small_streams_are_seen_again(tenants_: int, a: float, n: int) -> None:
    """Streams that are in a trace, and streams with one row, over twenty traces of the same tenants, and over those made of
    the sizes that the first shows."""
    rng = np.random.default_rng(3)
    weight = np.arange(1, tenants_ + 1) ** -a
    source = [rng.multinomial(n, weight / weight.sum()) for _ in range(20)]
    law = expected_sizes(np.sort(source[0][source[0] > 0]).astype(np.float64))
    made = [rng.multinomial(n, law / law.sum()) for _ in range(20)]
    for most in (n, 1):
        was, now = ([int(((x > 0) & (x <= most)).sum()) for x in some] for some in (source, made))
        assert np.mean(now) == pytest.approx(was[0], abs=max(3 * float(np.std(was)), 0.02 * was[0]))
    assert len(law) == pytest.approx(tenants_, rel=0.15)
    assert law.sum() == pytest.approx(n, rel=0.01)


def test_skewed_small_streams_lie_as_far_apart_as_they_did(tmp_path: Path) -> None:
    """Two thousand tenants of Zipf sizes whose lognormal prompts differ by a factor of five: the spread of their mean logarithm."""
    rng = np.random.default_rng(1)
    n, tenants = 20_000, 1000
    weight = 1 / np.arange(1, tenants + 1)
    who = rng.choice(tenants, n, p=weight / weight.sum())
    prompt = np.exp(rng.normal(rng.normal(6, 0.8, tenants)[who], 0.5)).astype(int) + 1
    source = pl.DataFrame({
        "arrival_ns": np.sort(rng.integers(0, 3600 * 10**9, n)), "status": "ok", "tenant_id": [f"t{i}" for i in who],
        "input_tokens": pl.Series(prompt, dtype=pl.Int32), "output_tokens": pl.Series(np.full(n, 50), dtype=pl.Int32),
    })  # fmt: skip

    def spread(frame: pl.DataFrame) -> float:
        each = frame.group_by("tenant_id").agg(pl.len().alias("n"), pl.col("input_tokens").cast(pl.Float64).log().mean().alias("m"))  # fmt: skip
        return float(np.std(each.filter(pl.col("n").is_between(5, 100))["m"].to_numpy()))

    profile = characterize(stored(tmp_path, "llm_requests", source), by="tenant_id")
    made = [pl.concat(generate(profile, rows=n, seed=s)) for s in (1, 2, 3)]  # fmt: skip
    assert np.median([spread(f) for f in made]) == pytest.approx(spread(source), rel=0.12)


def test_small_streams_lie_as_far_apart_as_they_did(tmp_path: Path) -> None:
    """120 tenants of one size whose prompts differ by a factor of two: means by tenant, and the lengths of all together."""
    rng = np.random.default_rng(5)
    who = rng.integers(0, 120, 24_000)
    own = np.exp(rng.normal(0, 0.7, 120))
    inputs = np.rint(400 * own[who] * rng.lognormal(0, 0.5, len(who)) + 1).astype(int)
    frame = pl.DataFrame(
        {
            "arrival_ns": np.sort(rng.integers(0, 10**13, len(who))), "input_tokens": inputs, "status": "ok",
            "output_tokens": rng.integers(10, 300, len(who)), "tenant_id": [f"t{i}" for i in who],
        }
    )  # fmt: skip
    profile = characterize(stored(tmp_path, "llm_requests", frame), by="tenant_id")
    made = pl.concat(list(generate(profile, rows=24_000)))
    spread = [
        np.log(d.group_by("tenant_id").agg(pl.col("input_tokens").mean())["input_tokens"].to_numpy()).std()
        for d in (frame, made)
    ]  # fmt: skip
    assert spread[0] > 0.6
    assert spread[1] / spread[0] == pytest.approx(1, abs=0.2)
    assert stats.ks_2samp(frame["input_tokens"], made["input_tokens"]).statistic < 0.02
    assert made["tenant_id"].n_unique() == 120
    per = made["tenant_id"].value_counts()["count"].to_numpy()
    assert per.std() / per.mean() < 0.12


def test_what_cannot_be_said_is_said(tenants: tuple[Trace, np.ndarray]) -> None:
    trace, _ = tenants
    missing = {u.aspect: u for u in unanswered(trace)}
    assert missing["prefixes"].needs == ("prefix_hashes",)
    assert missing["prefixes"].record
    assert "arrivals" not in missing
    assert {u.aspect for u in characterize(trace).unanswered} >= {"prefixes"}


def test_relative_profiles_hide_the_volume(tenants: tuple[Trace, np.ndarray]) -> None:
    trace, _ = tenants
    whole = characterize(trace)
    hidden = disclosure.relative(whole)
    a, b = whole.aspect("arrivals"), hidden.aspect("arrivals")
    assert b.rate_per_s == pytest.approx(1)
    assert b.events == pytest.approx(b.span_s, rel=0.001)
    assert b.families[0].mean == pytest.approx(a.families[0].mean * a.rate_per_s, rel=1e-3)
    assert np.abs(b.rate_curve - a.rate_curve).max() <= 0.026  # to twentieths of the mean
    assert [s.peak_to_mean for s in b.scales] == [None] * len(b.scales)
    text = hidden.dumps()
    for number in ("20000", "19999", "20,000", f"{a.rate_per_s:.4f}"):
        assert not re.search(rf"(?<![\d.]){re.escape(number)}(?!\d)", text), number
    assert Profile.loads(text).dumps() == text
    assert "multiples of the mean" in b.findings()[0].text
    with pytest.raises(UsageError, match="multiples of a mean"):
        next(iter(generate(hidden, rows=100)))
    assert next(iter(generate(hidden, rows=100, rate=parse_rate("3/s")))).height


def test_no_fraction_in_a_relative_profile_tells_the_rows(
    tenants: tuple[Trace, np.ndarray],
) -> None:
    """No number is a fraction of 20,000 or 19,999 rows with more digits than the fraction of any other size."""
    text = disclosure.relative(characterize(tenants[0])).dumps()
    keys = (
        "mean",
        "zero_share",
        "zero_gap_share",
        "cv",
        "peak_to_mean",
        "idc",
        "top_1",
        "spearman",
    )
    for key, number in re.findall(r'"(\w+)": (-?\d+\.\d+(?:e-?\d+)?)', text):
        if key in keys:
            assert float(f"{float(number):.4g}") == float(number), (key, number)


def test_few_streams_do_not_tell_a_small_one() -> None:
    c = concentration("model", [5, 2995], [1, 1], 3000)
    assert (c.streams, c.top_1, c.recorded) == (1, 1.0, 1.0)


def test_nameless_profiles_hide_names(tenants: tuple[Trace, np.ndarray]) -> None:
    trace, _ = tenants
    hidden = disclosure.nameless(characterize(trace, by="tenant_id", name="acme"))
    text = hidden.dumps()
    assert "tenant-0" not in text
    assert "acme" not in text
    assert [s.name for s in hidden.part("llm_requests").streams][:2] == ["stream-1", "stream-2"]
    assert Profile.loads(text).dumps() == text


def test_relative_needs_arrivals(tmp_path: Path) -> None:
    n = 100
    frame = pl.DataFrame(
        {
            "input_tokens": np.arange(1, n + 1, dtype=np.int32),
            "output_tokens": np.arange(1, n + 1, dtype=np.int32),
            "status": ["ok"] * n,
        }
    )
    with pytest.raises(ModelError, match="no arrivals"):
        disclosure.relative(characterize(stored(tmp_path, "llm_requests", frame)))

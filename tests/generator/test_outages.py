"""Outages: made traces have the source's swings of failures, also where streams share them, and where knobs are turned."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl
import pytest

from lamina_traces.aspects.failures import Failures
from lamina_traces.characterization import characterize
from lamina_traces.generator import Options, Shard, generate, row_hash
from lamina_traces.generator.knobs import turned
from lamina_traces.profile import Profile
from lamina_traces.units import parse_rate

from ..aspects.tables import stored
from .outages import BASE, IN_OUTAGE, mean_run, outages, poisson, rows, swing

HOURS, PER_S = 6.0, 10.0
SPAN_NS = round(HOURS * 3600e9)
SHARES = (0.4, 0.3, 0.2, 0.1)


def source(seed: int) -> pl.DataFrame:
    rng = np.random.default_rng(seed)
    t = poisson(rng, HOURS, PER_S)
    return rows(t, rng.random(len(t)) < np.where(outages(rng, t), IN_OUTAGE, BASE))


def tenants(seed: int, *, shared: bool) -> pl.DataFrame:
    rng = np.random.default_rng(seed)
    t = poisson(rng, HOURS, PER_S)
    who = rng.choice(len(SHARES), len(t), p=SHARES)
    down = outages(rng, t)
    if not shared:
        for w in range(len(SHARES)):
            down[who == w] = outages(rng, t[who == w])
    failed = rng.random(len(t)) < np.where(down, IN_OUTAGE, BASE)
    return rows(t, failed, tenant_id=[f"t{w}" for w in who])


def figures(frame: pl.DataFrame) -> list[float]:
    """Swings at 10, 60 and 600 s, rate, mean run."""
    t, failed = frame["arrival_ns"].to_numpy(), (frame["status"] != "ok").to_numpy()
    return [*(swing(t, failed, w) for w in (10, 60, 600)), failed.mean(), mean_run(failed)]


def made(p: Profile, seeds: int = 9, duration_ns: int = SPAN_NS, **how: object) -> np.ndarray:
    """[seeds, figures]"""
    out = [
        figures(pl.concat(list(generate(p, duration_ns=duration_ns, seed=s, **how))))  # type: ignore[arg-type]
        for s in range(50, 50 + seeds)
    ]
    return np.array(out)


def failures_of(p: Profile) -> list[Failures]:
    found = [s.aspects["failures"] for s in p.part("llm_requests").streams]
    assert all(isinstance(f, Failures) for f in found)
    return found  # type: ignore[return-value]


@pytest.fixture(scope="module")
def outage(tmp_path_factory: pytest.TempPathFactory) -> tuple[np.ndarray, Profile]:
    frame = source(24)
    return np.array(figures(frame)), characterize(
        stored(tmp_path_factory.mktemp("outage"), "llm_requests", frame)
    )


def test_outages_come_back(outage: tuple[np.ndarray, Profile]) -> None:
    """Half of the requests fail for a minute, every 20 minutes."""
    want, p = outage
    got = made(p)
    middle, spread = np.median(got, axis=0), got.std(axis=0)
    np.testing.assert_allclose(middle[:3], want[:3], rtol=0.25)
    assert abs(middle[3] - want[3]) < spread[3]
    assert middle[4] == pytest.approx(want[4], rel=0.1)


@pytest.mark.parametrize("shared", [True, False])
def test_tenants_share_outages_or_not(tmp_path: Path, shared: bool) -> None:
    frame = tenants(1, shared=shared)
    p = characterize(stored(tmp_path, "llm_requests", frame), by="tenant_id")
    levels = [f.modulation for f in failures_of(p)]
    correlation = [m.shared for m in levels if m]
    assert len(correlation) == len(SHARES)
    assert min(correlation) > 0.9 if shared else max(correlation) < 0.25
    want, got = np.array(figures(frame)), np.median(made(p, 7), axis=0)
    np.testing.assert_allclose(got[:3], want[:3], rtol=0.3)
    assert got[3] == pytest.approx(want[3], rel=0.2)


def test_copies_of_a_stream_have_its_outages(outage: tuple[np.ndarray, Profile]) -> None:
    """Failures beyond chance go with the square of the requests, so four times as many swing four times as much."""
    want, p = outage
    four = parse_rate("x4")
    got = np.median(made(p, 5, rate=four, options=Options(scale_by="clients")), axis=0)
    np.testing.assert_allclose(got[:3] - 1, 4 * (want[:3] - 1), rtol=0.25)


def test_faster_outages_are_shorter(outage: tuple[np.ndarray, Profile]) -> None:
    want, p = outage
    how = {"rate": parse_rate("x4"), "options": Options(scale_by="time")}
    slow, fast = (
        pl.concat(list(generate(p, duration_ns=d, seed=3, **more)))  # type: ignore[arg-type]
        for d, more in ((SPAN_NS, {}), (SPAN_NS // 4, how))
    )
    swings = [
        swing(f["arrival_ns"].to_numpy(), (f["status"] != "ok").to_numpy(), width_s)
        for f, width_s in ((slow, 60.0), (fast, 15.0))
    ]
    assert swings[1] == pytest.approx(swings[0], rel=0.2)
    assert figures(fast)[4] == pytest.approx(want[4], rel=0.1)


def test_same_rows_whatever_the_shards(outage: tuple[np.ndarray, Profile]) -> None:
    _, p = outage
    whole = pl.concat(list(generate(p, duration_ns=SPAN_NS * 3, seed=5)))
    shards = [pl.concat(list(generate(p, duration_ns=SPAN_NS * 3, seed=5, shard=Shard(i + 1, 3), threads=2))) for i in range(3)]  # fmt: skip
    assert pl.concat(shards).equals(whole)
    read = Profile.from_dict(p.to_dict())
    assert row_hash(generate(read, rows=20_000)) == row_hash(generate(p, rows=20_000))


@pytest.mark.parametrize("rate", [0.001, 0.3, 0.99])
def test_rate_knob(outage: tuple[np.ndarray, Profile], rate: float) -> None:
    _, p = outage
    got = made(turned(p, f"failures.rate={rate:%}"), 5)
    assert got[:, 3].mean() == pytest.approx(rate, rel=0.3)
    assert np.median(got[:, 1]) > 3
    if rate > 0.5:
        assert got[:, 3].mean() == pytest.approx(rate, abs=0.01)


def test_runs_knob(outage: tuple[np.ndarray, Profile]) -> None:
    """Runs inside outages change; how much failures swing over ten minutes hardly does."""
    want, p = outage
    got = np.median(made(turned(p, "failures.runs=x3"), 5), axis=0)
    assert got[4] == pytest.approx(3 * want[4], rel=0.1)
    assert got[3] == pytest.approx(want[3], rel=0.2)
    assert got[2] == pytest.approx(want[2], rel=0.3)
    shorter = np.median(made(turned(p, "failures.runs=x0.1"), 5), axis=0)
    assert shorter[4] == pytest.approx(want[4], rel=0.1)  # the outages' own

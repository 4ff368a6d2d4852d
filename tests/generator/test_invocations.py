"""Invocations made from populations: counts, timers, cold starts against a walk, functions that do not vanish, real traces."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from lamina_traces.aspects.function_draws import functions
from lamina_traces.aspects.invocations import Invocations
from lamina_traces.aspects.keep_alive import KeepAlive
from lamina_traces.aspects.populations import FunctionClass, Population
from lamina_traces.characterization import characterize
from lamina_traces.counts import Counts
from lamina_traces.distributions import Grid
from lamina_traces.errors import ModelError
from lamina_traces.generator.invocations import InvocationMaker
from lamina_traces.generator.maker import Maker
from lamina_traces.profile import Part, Profile, Stream
from lamina_traces.store import Store

from ..aspects.tables import stored
from .walks import in_blocks, resumes, walked

S = 10**9
HOUR_S = 3600.0


def grid(x: list[float]) -> Grid:
    return Grid(np.array(x), float(np.mean(x)), 1000)


BURSTY = Grid.of(Counts.of(np.random.default_rng(0).gamma(0.3, 1 / 0.3, 4000)), 65)
POPULATION = Population(
    (
        FunctionClass(1, 0.5, {"http": 1.0}, gaps=BURSTY, durations=grid([0.1, 0.2, 0.4])),
        FunctionClass(3, 0.1, {"timer": 1.0}, None, 60.0, 0.05, 0.25, 0.999),
        FunctionClass(60, 0.4, {"http": 0.5, "queue": 0.5}, grid([0.01, 0.02, 0.5, 3.0])),
    ),
    gaps=BURSTY,
    durations=grid([0.0, 0.5, 1.0, 40.0, 90.0]),
    within=0.3,
    window_s=600.0,
    course=(0.5, 1.5, 1.0, 2.0, 0.2, 0.8),
)
CURVE = KeepAlive.of(Counts.of(np.random.default_rng(1).exponential(60, 5000)), 64, 5064)


def calls(population: Population = POPULATION, invocations: int = 1800, **more: object) -> Part:
    """Calls within an hour; the three timers make 180."""
    law = Invocations(invocations, 64, HOUR_S, 0.5, 10, 0.6, population=population, **more)  # type: ignore[arg-type]
    return Part("invocations", (Stream("all", 1.0, {}, {"invocations": law}),))


def cold(share: float) -> Part:
    assert CURVE is not None
    return calls(keep_alive=(CURVE,), cold_known=1800, cold_share=share)


@pytest.mark.parametrize(("rate_per_s", "span_s"), [(0.01, 300.0), (0.2, 20.0), (1.0, 5.0), (100.0, 0.1)])  # fmt: skip
def test_expected_rows(rate_per_s: float, span_s: float) -> None:
    """E[N] = rate × time for 300 seeds of bursty functions and timers at any phase, from the first instant on."""
    timer = FunctionClass(2, 0.25, {}, None, 8.0 / rate_per_s, 0.0, 0.0, 0.0)
    free = FunctionClass(25, 0.75, {}, grid([0.5, 1.0, 1.5]))
    part = calls(Population((timer, free), BURSTY), round(rate_per_s * HOUR_S) or 36)
    found = []
    for seed in range(300):
        maker = InvocationMaker(part, seed)
        assert maker.expected_rows(round(span_s * S)) == pytest.approx(rate_per_s * span_s, rel=1e-3)  # fmt: skip
        found.append(maker.make(0, round(span_s * S), maker.start()).rows)
    error = float(np.std(found, ddof=1)) / math.sqrt(len(found))
    assert np.mean(found) == pytest.approx(rate_per_s * span_s, abs=4 * error)


def test_the_factor_multiplies_all_rates() -> None:
    for factor in (0.25, 8.0):
        maker = InvocationMaker(calls(), 1, factor=factor)
        assert maker.expected_rows(3600 * S) == pytest.approx(1800 * factor, rel=1e-3)
        made = walked(maker, 36_000 * S)
        timers = made.filter(pl.col("trigger") == "timer")
        assert len(timers) == pytest.approx(1800 * factor, rel=0.01)


@pytest.mark.parametrize("part", [calls(), cold(0.05)], ids=["warm", "cold"])
def test_rows_do_not_depend_on_how_time_is_cut(part: Part) -> None:
    streams = tuple(replace(part.streams[0], name=n, where={"region": n}) for n in ("R1", "R2"))
    for p in (part, Part(part.table, streams)):
        whole = in_blocks(InvocationMaker(p, 9), 50, 5000 * S)
        for bits in (35, 39):
            assert in_blocks(InvocationMaker(p, 9), bits, 5000 * S).equals(whole)
        shorter = walked(InvocationMaker(p, 9), 2000 * S)
        assert shorter.equals(whole.head(shorter.height))
        assert 0 < shorter.height < whole.height
    resumes(lambda: InvocationMaker(part, 9), 39, 3)


def test_timers_tick() -> None:
    """Three functions every 60 s, at a quarter of the minute all, off by 50 ms."""
    made = walked(InvocationMaker(calls(), 4), 36_000 * S)
    timers = made.filter(pl.col("trigger") == "timer")
    assert timers["func_id"].n_unique() == 3
    for _, own in timers.group_by("func_id"):
        t = own["arrival_ns"].to_numpy() / S
        assert len(t) == 600
        phase = np.mod(t, 60)
        # phases of functions scatter with a mean direction of 0.999: √(−2·ln 0.999)·60/2π = 0.43 s
        assert abs(phase.mean() - 15) < 4 * 0.43
        assert phase.std() == pytest.approx(0.05, rel=0.15)
        assert np.diff(t).std() == pytest.approx(0.05 * math.sqrt(2), rel=0.15)


def test_cold_calls_equal_a_walk() -> None:
    """One instance a function, kept for K after the end of its last call; K from the curve: exp(−K/60) cold of the later
    ones, of 5,000 in 5,064."""
    part = cold(0.1)
    maker = InvocationMaker(part, 2)
    keep_s = maker._sources[0].keep_ns / S  # type: ignore[operator]
    assert (64 + 5000 * math.exp(-keep_s / 60)) / 5064 == pytest.approx(0.1, abs=0.01)
    made = in_blocks(maker, 34, 7200 * S)  # calls of up to 90 s outlast four blocks
    end: dict[str, int] = {}
    wanted = []
    for name, t, d in made.select("func_id", "arrival_ns", "duration_s").rows():
        last = end.get(name)
        wanted.append(last is None or t - last > round(keep_s * S))
        end[name] = max(last or 0, t + math.floor(d * S))
    assert made["is_cold"].to_list() == wanted
    assert 0.02 < np.mean(wanted) < 0.3


def test_small_functions_do_not_vanish() -> None:
    """Four hundred functions of one call and a hundred of two: over 200 seeds as many are seen, not the 63 % and 86 % of as
    many Poisson processes; and calls in all are what they were."""
    few = FunctionClass(500, 1.0, {}, Grid(np.array([1.0] * 33 + [2.0] * 8) / 1.2, 1.0, 500))
    part = calls(Population((few,)), 600)
    made = functions(Population((few,)), 600, HOUR_S)
    assert made.rate_per_s.sum() * HOUR_S == pytest.approx(600)
    assert len(made.klass) > 1000
    seen, rows = [], []
    for seed in range(200):
        maker = InvocationMaker(part, seed)
        frame = maker.make(0, round(HOUR_S) * S, maker.start()).frame()
        seen.append(frame["func_id"].n_unique())
        rows.append(frame.height)
    assert np.mean(seen) == pytest.approx(500, rel=0.01)
    assert np.mean(rows) == pytest.approx(600, abs=4 * math.sqrt(600 / 200))


def test_a_population_is_recognised(tmp_path: Path) -> None:
    """Fitted on what was made of a known population: timers with period, jitter and phase; sizes; durations within and
    between functions; bursts; the course."""
    made = walked(InvocationMaker(calls(invocations=9000), 3), 3600 * S)
    law = characterize(stored(tmp_path, "invocations", made)).aspect("invocations", "invocations")
    p = law.population
    assert p is not None
    timers = [c for c in p.classes if c.period_s is not None]
    assert [c.period_s for c in timers] == [60.0] * len(timers)
    assert sum(c.functions for c in timers) == 3
    assert {k for c in timers for k in c.triggers} == {"timer"}
    for c in timers:
        assert c.jitter_s == pytest.approx(0.05, rel=0.3)
        assert c.phase == pytest.approx(0.25, abs=0.03)
        assert c.together > 0.99
    top = p.classes[0]
    assert top.share == pytest.approx(0.5, abs=0.1)
    assert top.gaps is not None
    assert top.durations is not None
    assert top.durations.quantile(np.array([0.5]))[0] == pytest.approx(0.2, rel=0.1)
    x = top.gaps.quantile(np.linspace(0, 1, 1001))
    assert np.median(x) == pytest.approx(float(np.median(BURSTY.values)), rel=0.5)
    again = Population.from_dict(p.to_dict())
    assert again is not None
    assert again.to_dict() == p.to_dict()
    course = np.array(p.course)
    at = (np.arange(len(course)) + 0.5) * p.window_s // 600
    means = [course[at == k].mean() for k in range(6)]
    assert np.corrcoef(means, POPULATION.course)[0, 1] > 0.9


def test_library_profiles_are_made() -> None:
    """The profiles that ship make their traces: as many calls and functions, the busiest function's share."""
    for name, table in (("azure-functions-2019", "invocation_counts"), ("azure-functions-2021", "invocations")):  # fmt: skip
        profile = Profile.library(name)
        law = profile.aspect("invocations", table)
        made = walked(InvocationMaker(profile.part(table), 1), round(law.span_s * S))
        assert made.height == pytest.approx(law.invocations, rel=0.1)
        sizes = made.group_by("func_id").len()["len"].to_numpy()
        assert len(sizes) == pytest.approx(law.functions, rel=0.1)
        assert sizes.max() / made.height == pytest.approx(law.top_share, abs=0.03)


# --- real traces -----------------------------------------------------------------------------------


def figures(a: Invocations) -> dict[str, float]:
    kept = a.kept("function")
    assert kept is not None
    out = {"invocations": a.invocations, "functions": a.functions, "top": a.top_share, "gini": a.gini}  # fmt: skip
    out |= {f"cold {k}": kept.p_cold(k)[0] for k in (60, 300, 600, 1200)}
    return out


def over_seeds(maker: type[InvocationMaker], part: Part, a: Invocations, path: Path, counts: bool) -> Mapping[str, list[float]]:  # fmt: skip
    found: dict[str, list[float]] = {}
    for seed in range(6):
        one: Maker = maker(part, seed)
        made = walked(one, round(a.span_s * S))
        table = "invocations"
        if counts:
            table, bin_ns = "invocation_counts", 60 * S
            made = (
                made.group_by("func_id", "trigger", (pl.col("arrival_ns") // bin_ns * bin_ns).alias("arrival_ns"))
                .agg(pl.len().cast(pl.Int64).alias("invocations"))
                .with_columns(pl.lit(60.0).alias("bin_s"))
                .sort("arrival_ns", "func_id")
            )  # fmt: skip
        again = characterize(stored(path, table, made)).aspect("invocations", table)
        for k, v in figures(again).items():
            found.setdefault(k, []).append(v)
    return found


def test_azure_2021_comes_back(real_data: Path, tmp_path: Path) -> None:
    """500 calls of 44 functions: means over six seeds. Tolerances are a few standard errors of 500 calls (shares) and of the
    means (counts); P(cold) at 5 min hangs on timers of exactly 5 min and their durations, and is only bounded."""
    file = real_data / "serverless/azure-functions-2021/AzureFunctionsInvocationTrace2021_head500.csv"  # fmt: skip
    source = characterize(Store(tmp_path / "real").ingest([file], "x"))
    a = source.aspect("invocations", "invocations")
    assert a.population is not None
    periods = {c.period_s for c in a.population.classes if c.period_s}
    assert {60.0, 120.0, 180.0, 300.0, 600.0} <= periods
    found = over_seeds(InvocationMaker, source.part("invocations"), a, tmp_path / "made", False)
    wanted = figures(a)
    mean = {k: float(np.mean(v)) for k, v in found.items()}
    assert mean["invocations"] == pytest.approx(500, rel=0.06)
    assert mean["functions"] == pytest.approx(44, abs=3)
    assert mean["top"] == pytest.approx(wanted["top"], abs=0.02)
    assert mean["gini"] == pytest.approx(wanted["gini"], abs=0.03)
    assert mean["cold 60"] == pytest.approx(wanted["cold 60"], abs=0.05)
    assert wanted["cold 600"] <= mean["cold 300"] <= wanted["cold 60"]
    assert mean["cold 600"] == pytest.approx(wanted["cold 600"], abs=0.02)
    assert mean["cold 1200"] == pytest.approx(wanted["cold 1200"], abs=0.015)


def test_azure_2019_comes_back(real_data: Path, tmp_path: Path) -> None:
    """340 thousand calls of a hundred functions, from counts a minute to calls and back to counts."""
    folder = real_data / "serverless/azure-functions-2019/sample_100"
    source = characterize(Store(tmp_path / "real").ingest([folder], "x"))
    a = source.aspect("invocations", "invocation_counts")
    part = source.part("invocation_counts")
    found = over_seeds(InvocationMaker, part, a, tmp_path / "made", True)
    wanted = figures(a)
    mean = {k: float(np.mean(v)) for k, v in found.items()}
    assert mean["invocations"] == pytest.approx(wanted["invocations"], rel=0.01)
    assert mean["functions"] == pytest.approx(100, abs=6)
    assert mean["top"] == pytest.approx(wanted["top"], abs=0.01)
    assert mean["gini"] == pytest.approx(wanted["gini"], abs=0.005)
    for k, most in ((60, 0.04), (300, 0.025), (600, 0.012), (1200, 0.006)):
        assert mean[f"cold {k}"] == pytest.approx(wanted[f"cold {k}"], abs=most)
    made = walked(InvocationMaker(part, 1), round(a.span_s * S))
    share = dict(made.group_by("trigger").agg(pl.len() / made.height).rows())
    assert share["queue"] == pytest.approx(0.805, abs=0.02)
    assert share["timer"] == pytest.approx(0.106, abs=0.02)


def test_what_invocations_cannot_be_made_from() -> None:
    old = calls()
    law = old.streams[0].aspects["invocations"]
    assert isinstance(law, Invocations)
    bare = replace(old.streams[0], aspects={"invocations": replace(law, population=None)})
    with pytest.raises(ModelError, match="does not tell the functions"):
        InvocationMaker(Part("invocations", (bare,)), 1)
    for damage in ({"share": 2.0}, {"period_s": 0.0}, {"functions": 0}, {"together": math.nan}):
        with pytest.raises(ModelError):
            FunctionClass.from_dict(FunctionClass(1, 1.0).to_dict() | damage)
    for x in (0.0, -1.0, math.nan, math.inf, 1e12):
        with pytest.raises(ModelError):
            InvocationMaker(old, 1, factor=x)
    for grids in ({"gaps": grid([0.0, 0.0])}, {"dispersion": 0.0, "gaps": grid([0.0, 0.0])}):
        with pytest.raises(ModelError, match="no positive mean"):
            InvocationMaker(calls(replace(POPULATION, **grids)), 1)
    with pytest.raises(ModelError, match="too many"):
        InvocationMaker(calls(Population((FunctionClass(10**9, 1.0),))), 1)
    below = POPULATION.to_dict()
    below["durations"] = below["durations"] | {"values": [-1.0, 2.0]}
    with pytest.raises(ModelError, match="negative"):
        Population.from_dict(below)
    half = POPULATION.to_dict() | {"classes": POPULATION.to_dict()["classes"][:1]}
    with pytest.raises(ModelError, match="do not add up"):
        Population.from_dict(half)


def test_profiles_without_a_population_are_read() -> None:
    """Version 1 of the aspect had none."""
    law = calls().streams[0].aspects["invocations"]
    d = law.to_dict()
    d.pop("population")
    profile = Profile.from_dict(
        {"format": "lamina-profile/1", "name": "old", "source": {}, "parts": {"invocations": {"streams": [
            {"name": "all", "weight": 1.0, "where": {}, "aspects": {"invocations": d}}]}}}
    )  # fmt: skip
    assert profile.aspect("invocations", "invocations").population is None

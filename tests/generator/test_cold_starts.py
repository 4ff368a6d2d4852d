"""Cold starts made from profiles: when they come, steps that add up, groups, published curves, AWS Lambda's own."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import polars as pl
import pytest
from scipy import stats

from lamina_traces.aspects import arrivals
from lamina_traces.aspects.cold_starts import PARTS, ColdStarts
from lamina_traces.characterization import characterize
from lamina_traces.errors import ModelError
from lamina_traces.generator.cold_starts import ColdStartMaker
from lamina_traces.profile import Part, Profile, Stream
from lamina_traces.store import Store

from ..aspects.tables import stored
from .walks import in_blocks, resumes, walked

S = 10**9


def with_poisson(part: Part, rate_per_s: float, names: Sequence[str] = ()) -> Part:
    """Every stream (or those named) at this rate."""
    streams = [s for s in part.streams if not names or s.name in names]
    law = arrivals.poisson(rate_per_s)
    return Part(part.table, tuple(replace(s, aspects={**s.aspects, "arrivals": law}) for s in streams))  # fmt: skip


def share_beyond(frame: pl.DataFrame, seconds: float) -> float:
    return float((frame["total_s"].to_numpy() > seconds).mean())


def pods(n: int = 20_000, seed: int = 1) -> pl.DataFrame:
    """Starts like Huawei's (EuroSys'25, section 4): allocation from a pool or from scratch, in two modes; dependencies that
    half of them skip; steps that share a cause; three runtimes of which one has no pool."""
    rng = np.random.default_rng(seed)
    runtime = rng.choice(["Python3", "Node.js", "http"], n, p=[0.6, 0.3, 0.1])
    common = rng.normal(size=n)

    def step(mu: float, sigma: float, shared: float) -> npt.NDArray[np.float64]:
        z = shared * common + math.sqrt(1 - shared**2) * rng.normal(size=n)
        return np.asarray(np.exp(mu + sigma * z))

    alloc = np.where(runtime == "http", rng.normal(10.5, 0.3, n), step(math.log(0.013), 0.3, 0.2))
    dep = np.where(rng.random(n) < 0.5, 0.0, step(math.log(0.6), 0.5, 0.5))
    code, scheduling = step(math.log(0.05), 0.8, 0.6), step(math.log(0.4), 0.6, 0.7)
    t = np.cumsum(rng.weibull(0.6, n))
    return pl.DataFrame(
        {
            "arrival_ns": (t * S).astype(np.int64),
            "func_id": ["f"] * n,
            "runtime": runtime,
            "pod_alloc_s": alloc,
            "deploy_code_s": code,
            "deploy_dep_s": dep,
            "scheduling_s": scheduling,
            "total_s": alloc + code + dep + scheduling,
        }
    )


@pytest.fixture(scope="module")
def fitted(tmp_path_factory: pytest.TempPathFactory) -> Profile:
    return characterize(stored(tmp_path_factory.mktemp("pods"), "cold_starts", pods()))


@pytest.mark.parametrize(("rate_per_s", "span_s"), [(0.01, 1000), (0.2, 50), (1.0, 10), (100.0, 0.2)])  # fmt: skip
def test_expected_rows(fitted: Profile, rate_per_s: float, span_s: float) -> None:
    """E[N] = rate × time for 300 seeds; the gaps are the bursty ones of the source."""
    part = fitted.part("cold_starts")
    law = part.streams[0].aspects["arrivals"]
    assert isinstance(law, arrivals.Arrivals)
    own = replace(law, rate_curve=np.ones(4), rate_signal=1.0, modulation=None)
    part = Part(part.table, (replace(part.streams[0], aspects={**part.streams[0].aspects, "arrivals": own}),))  # fmt: skip
    found = []
    for seed in range(300):
        maker = ColdStartMaker(part, seed, factor=rate_per_s / law.rate_per_s)
        assert maker.expected_rows(round(span_s * S)) == pytest.approx(rate_per_s * span_s)
        found.append(maker.make(0, round(span_s * S), maker.start()).rows)
    error = float(np.std(found, ddof=1)) / math.sqrt(len(found))
    assert np.mean(found) == pytest.approx(rate_per_s * span_s, abs=4 * error)
    assert np.std(found) > math.sqrt(rate_per_s * span_s)  # not Poisson


def test_rows_are_a_function_of_profile_and_seed(fitted: Profile) -> None:
    streams = fitted.part("cold_starts").streams
    part = Part("cold_starts", tuple(replace(streams[0], name=n, where={"region": n}) for n in ("R1", "R2")))  # fmt: skip
    whole = in_blocks(ColdStartMaker(part, 3), 38, 3000 * S)
    shorter = in_blocks(ColdStartMaker(part, 3), 38, 1000 * S)
    assert shorter.equals(whole.filter(pl.col("arrival_ns") < 1000 * S))
    assert 100 < len(shorter) < len(whole)
    assert not in_blocks(ColdStartMaker(part, 4), 38, 3000 * S).equals(whole)
    assert set(whole["region"].unique()) == {"R1", "R2"}
    resumes(lambda: ColdStartMaker(part, 3), 38, 3)


def test_what_was_fitted_comes_back(fitted: Profile, tmp_path: Path) -> None:
    source = pods()
    made = walked(ColdStartMaker(fitted.part("cold_starts"), 11), 30_000 * S)
    n = min(len(made), len(source))
    steps = made.select(f"{p}_s" for p in PARTS).sum_horizontal()
    assert (steps + made["residual_s"]).to_numpy() == pytest.approx(made["total_s"].to_numpy(), abs=1e-9)  # fmt: skip
    assert np.abs(made["residual_s"].to_numpy()).max() < 1e-9
    # two samples of n differ by 1.95·√(2/n) once in a thousand; the grids of 129 and 65 knots add half a step of theirs
    noise = 1.95 * math.sqrt(2 / n)
    assert stats.ks_2samp(source["total_s"], made["total_s"]).statistic < noise + 0.5 / 128
    for p in PARTS:
        d = stats.ks_2samp(source[f"{p}_s"], made[f"{p}_s"]).statistic
        assert d < noise + 1 / 64, p
        means = [f[f"{p}_s"].to_numpy().mean() for f in (source, made)]
        assert means[1] == pytest.approx(means[0], rel=0.05), p
    slow = share_beyond(source, 10)
    assert share_beyond(made, 10) == pytest.approx(slow, abs=4 * math.sqrt(0.2 / n) + 0.004)
    for a, b in (("scheduling", "deploy_code"), ("scheduling", "deploy_dep"), ("pod_alloc", "deploy_code")):  # fmt: skip
        r = [stats.spearmanr(f[f"{a}_s"], f[f"{b}_s"]).statistic for f in (source, made)]
        assert r[1] == pytest.approx(r[0], abs=0.05), (a, b)
    for runtime in ("Python3", "Node.js", "http"):
        x, y = (f.filter(pl.col("runtime") == runtime)["total_s"] for f in (source, made))
        assert len(y) / len(made) == pytest.approx(len(x) / len(source), abs=0.015)
        assert y.quantile(0.5) == pytest.approx(x.quantile(0.5), rel=0.05)
    assert share_beyond(made.filter(pl.col("runtime") == "http"), 9) > 0.95
    again = characterize(stored(tmp_path, "cold_starts", made)).aspect("cold_starts", "cold_starts")
    law = fitted.aspect("cold_starts", "cold_starts")
    for p in PARTS:
        for share in ("share_of_sum", "mean_share"):
            a, b = (getattr(x.components[p], share) for x in (law, again))
            assert b == pytest.approx(a, abs=0.02), (p, share)


PUBLISHED = {
    "R1": (0.528, 2.177, 8.04, 39.1),
    "R2": (0.240, 0.832, 10.5, 14.5),
    "R3": (0.0235, 0.102, 0.433, 1.06),
    "R4": (0.070, 0.902, 2.71, 11.0),
    "R5": (0.117, 0.453, 1.53, 7.7),
    "all regions": (0.196, 1.301, 7.11, 36.0),
}
"""p10, p50, p90, p99 in seconds, read off figure 10 of Joosen et al., EuroSys 2025, by another hand than the profile's."""


def test_published_curves_come_back() -> None:
    part = Profile.library("huawei-cold-starts-2025").part("cold_starts")
    for name, wanted in PUBLISHED.items():
        made = walked(ColdStartMaker(with_poisson(part, 10.0, [name]), 1), 4000 * S)[
            "total_s"
        ].to_numpy()
        n = len(made)
        for q, x in zip((0.1, 0.5, 0.9, 0.99), wanted, strict=True):
            # the share below the published quantile: sampling, 1 % of the axis and half a knot
            error = 4 * math.sqrt(q * (1 - q) / n) + 0.5 / 128
            low, high = (float((made < x * f).mean()) for f in (0.97, 1.03))
            assert low - error <= q <= high + error, (name, q)


def test_slow_runtimes_of_a_published_figure() -> None:
    """Custom and http have no reserved pool: about 10.5 s of allocation (section 4.3)."""
    part = Profile.library("huawei-cold-starts-2025").part("cold_starts")
    for name, least, most in (("Custom", 0.9, 1.0), ("http", 0.7, 0.9), ("Python3", 0.0, 0.02)):
        made = walked(ColdStartMaker(with_poisson(part, 5.0, [name]), 1), 2000 * S)
        assert least <= share_beyond(made, 10) <= most
        steps = made.select(f"{p}_s" for p in PARTS if f"{p}_s" in made.columns).sum_horizontal()
        assert (steps <= made["total_s"] + 1e-9).all()


def test_lambda_inits_come_back(real_data: Path, tmp_path: Path) -> None:
    """Ten days of AWS Lambda's own init durations: quantiles within the noise of 20,000 rows and half a knot; the runtimes'
    shares and medians."""
    trace = Store(tmp_path).ingest([real_data / "serverless/lambda-perf"], "x")
    profile = characterize(trace)
    law = profile.aspect("cold_starts", "cold_starts")
    made = walked(ColdStartMaker(with_poisson(profile.part("cold_starts"), 1.0), 1), 20_000 * S)
    x = made["init_s"].to_numpy()
    for name, q in (("p10", 0.1), ("p50", 0.5), ("p90", 0.9), ("p99", 0.99)):
        below = float((x < law.components["init"].quantiles_s[name]).mean())
        assert below == pytest.approx(q, abs=4 * math.sqrt(q * (1 - q) / len(x)) + 0.5 / 128)
    assert x.mean() == pytest.approx(law.components["init"].mean_s, rel=0.03)
    rows = law.components["init"].rows
    for g in law.groups:
        own = made.filter(pl.col(g.by) == g.name)
        assert len(own) / len(made) == pytest.approx(g.rows / rows, abs=0.006)
        assert own["init_s"].quantile(0.5) == pytest.approx(g.quantiles_s["p50"], rel=0.3)


def test_what_cold_starts_cannot_be_made_from(fitted: Profile) -> None:
    with pytest.raises(ModelError, match="does not say when"):
        ColdStartMaker(Profile.library("lambda-perf").part("cold_starts"), 1)
    with pytest.raises(ModelError, match="no cold starts"):
        ColdStartMaker(Part("cold_starts", (Stream("all", 1.0, {}, {}),)), 1)
    for x in (0.0, -1.0, math.nan, math.inf, 1e12):
        with pytest.raises(ModelError, match="cannot be generated"):
            ColdStartMaker(fitted.part("cold_starts"), 1, factor=x)
    stream = fitted.part("cold_starts").streams[0]
    law = stream.aspects["cold_starts"]
    assert isinstance(law, ColdStarts)
    bare = {k: replace(c, grid=None) for k, c in law.components.items()}
    few = replace(stream, aspects={**stream.aspects, "cold_starts": replace(law, components=bare)})
    with pytest.raises(ModelError, match="too few"):
        ColdStartMaker(Part("cold_starts", (few,)), 1)

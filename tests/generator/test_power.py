"""Power over time: levels, what is beside them, rises, devices; against closed forms and against nine real runs."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import polars as pl
import pytest

from lamina_traces.aspects.phases import Level, Phases
from lamina_traces.aspects.power import Power
from lamina_traces.aspects.power_devices import Device
from lamina_traces.aspects.power_groups import Course, Group
from lamina_traces.characterization import characterize
from lamina_traces.counts import Counts
from lamina_traces.distributions import Grid
from lamina_traces.errors import ModelError, UsageError
from lamina_traces.generator.power import PowerMaker
from lamina_traces.profile import Part, Profile, Stream
from lamina_traces.store import Store

from ..aspects.tables import stored
from .walks import in_blocks, resumes, walked

S = 10**9
Array = npt.NDArray[np.float64]

LEVELS = Phases(
    1.0, 5000,
    (Level(100.0, 4.0, 0.6, 100.0), Level(300.0, 9.0, 0.4, 66.67)),
    ((0.99, 0.01), (0.015, 0.985)), 0.5, 1.0,
)  # fmt: skip


def watts(rng: np.random.Generator, n: int = 60_000) -> Array:
    """The stationary law of ``LEVELS``."""
    low = rng.random(n) < 0.6
    return np.where(low, rng.normal(100, 4, n), rng.normal(300, 9, n))


def power(
    phases: Phases | None = LEVELS, step_s: float = 1.0, devices: int = 1, diversity: float = 1.0,
    rises: dict[str, float | None] | None = None, lags: tuple[float, ...] = (), acf: tuple[float, ...] = (),
) -> Power:  # fmt: skip
    x = watts(np.random.default_rng(0))
    grid = Grid.of(Counts.of(np.round(x, 2)), 201, k=1)
    course = Course({}, {}, grid, step_s, lags, acf, 10.0, (), (), phases)
    group = Group(
        "all", "", "instant", devices, step_s, 1.0, grid.mean, grid.mean * 5000, float(x.max()), {}, rises or {}, {}, {},
        diversity, course,
    )  # fmt: skip
    own = tuple(
        Device("h1", f"gpu{i}", "gpu", 5000, w := grid.mean * (i + 4) / sum(range(4, devices + 4)), w, 0.0, 1e4, 5000.0, w * 5000, 0.0, reading="instant")
        for i in range(devices)
    )  # fmt: skip
    return Power(step_s, own, 0.5, grid, (group,), device_count=devices)


def both_readings() -> Power:
    """A device whose averages are read every second and whose instants every tenth of one."""
    slow, fast = power(), power(step_s=0.1)
    own = (replace(slow.devices[0], reading="average"), *fast.devices)
    groups = (replace(slow.groups[0], reading="average"), *fast.groups)
    return replace(slow, devices=own, groups=groups, device_count=2)


def part(law: Power) -> Part:
    return Part("power_samples", (Stream("all", 1.0, {}, {"power": law}),))


@pytest.mark.parametrize("law", [power(), power(step_s=0.1, devices=3, diversity=1.2, rises={"2": 150.0, "40": 190.0}), both_readings()])  # fmt: skip
def test_rows_do_not_depend_on_how_time_is_cut(law: Power) -> None:
    """Down to blocks that hold one reading or none, and blocks that cut a step of the levels in two."""
    length = 1000 * S if len(law.groups) == 1 and law.period_s >= 1 else 120 * S
    whole = in_blocks(PowerMaker(part(law), 5), 45, length)
    assert whole.height == PowerMaker(part(law), 5).expected_rows(length)
    for bits in (29, 31, 34):
        assert in_blocks(PowerMaker(part(law), 5), bits, length).equals(whole)
    shorter = in_blocks(PowerMaker(part(law), 5), 34, length // 3)
    assert shorter.equals(whole.head(shorter.height))
    assert not in_blocks(PowerMaker(part(law), 6), 45, length).equals(whole)
    resumes(lambda: PowerMaker(part(law), 5), 32, 4)


def test_levels_are_kept_as_long_as_the_chain_says() -> None:
    """A chain of two levels: share of the upper one 0.4, correlation at lag k of (1 − 0.01 − 0.015)^k, mean stays of 100 and
    66.67 s; the watts are the load-duration curve's."""
    n = 300_000
    x = walked(PowerMaker(part(power()), 1), n * S)["power_w"].to_numpy()
    rho = 0.975
    # standard error of a share of a chain: p(1 − p)(1 + ρ)/(1 − ρ)/n
    error = math.sqrt(0.24 * (1 + rho) / (1 - rho) / n)
    high = x > 161  # as far from either level, in its own spreads
    assert high.mean() == pytest.approx(0.4, abs=4 * error)
    assert x.mean() == pytest.approx(180.0, abs=4 * 200 * error + 0.5)
    edges = np.flatnonzero(np.diff(high.astype(int)))
    stays = np.diff(edges)
    up = high[edges[0] + 1]
    for first, mean in ((0, 66.67 if up else 100.0), (1, 100.0 if up else 66.67)):
        own = stays[first::2]
        assert own.mean() == pytest.approx(mean, abs=4 * mean / math.sqrt(len(own)))
    for k in (1, 10, 40):
        r = np.corrcoef(high[:-k], high[k:])[0, 1]
        assert r == pytest.approx(rho**k, abs=0.03)
    assert np.quantile(x, [0.1, 0.9]) == pytest.approx([96.1, 306.1], abs=0.8)
    # beside the level: AR(1) of 0.5
    inside = ~high[1:] & ~high[:-1]
    assert np.corrcoef(x[:-1][inside], x[1:][inside])[0, 1] == pytest.approx(0.5, abs=0.02)


def test_without_levels_the_autocorrelation_is_the_profiles() -> None:
    """0.7 of the variance decays by 0.9 a step, the rest is noise."""
    lags = tuple(float(k) for k in (1, 2, 3, 5, 8, 13, 21, 34, 55))
    law = power(None, lags=lags, acf=tuple(0.7 * 0.9**k for k in lags))
    wide = Grid(np.array([100.0, 300.0]), 200.0, 5000)  # flat: ranks and watts have one correlation
    group = law.groups[0]
    assert group.course is not None
    group = replace(group, course=replace(group.course, load_duration=wide))
    x = walked(PowerMaker(part(replace(law, groups=(group,))), 1), 200_000 * S)["power_w"].to_numpy()  # fmt: skip
    assert x.min() >= 100
    assert x.max() <= 300
    assert x.mean() == pytest.approx(200, abs=2.5)
    for k in (1, 3, 8, 21):
        # of normal scores put on a flat curve: 6/π·asin(ρ/2) (Pearson 1907)
        wanted = 6 / math.pi * math.asin(0.7 * 0.9**k / 2)
        assert np.corrcoef(x[:-k], x[k:])[0, 1] == pytest.approx(wanted, abs=0.03)


@pytest.mark.parametrize("fast", [40.0, 120.0])
def test_no_rise_is_steeper_than_the_sources(fast: float) -> None:
    """By brute force, over everything in the window. A rise of 40 W in 2 s takes ten seconds from level to level."""
    law = power(rises={"2": fast, "40": 170.0})
    x = walked(PowerMaker(part(law), 2), 20_000 * S)["power_w"].to_numpy()
    for cells, most in ((2, fast), (40, 170.0)):
        rise = max(float(x[i] - x[max(0, i - cells) : i].min()) for i in range(1, len(x)))
        assert rise <= most + 0.002  # written to a milliwatt
        assert rise > 0.98 * most
    free = walked(PowerMaker(part(power()), 2), 20_000 * S)["power_w"].to_numpy()
    assert max(np.diff(free)) > 180
    assert (x <= free + 1e-9).all()


def test_devices_add_up_and_their_peaks_do_not(tmp_path: Path) -> None:
    """Three devices whose sum is the group's; what each has of its own makes their peaks add up to the diversity, to a third
    of what it is above 1 (it hangs on the highest of some thousand readings)."""
    law = power(devices=3, diversity=1.1)
    frame = walked(PowerMaker(part(law), 3), 5000 * S)
    assert frame["device"].head(3).to_list() == ["gpu0", "gpu1", "gpu2"]
    one = walked(PowerMaker(part(replace(power(), groups=(replace(law.groups[0], devices=1),))), 3), 5000 * S)  # fmt: skip
    total = frame.group_by("arrival_ns", maintain_order=True).agg(pl.col("power_w").sum())
    assert total["power_w"].to_numpy() == pytest.approx(one["power_w"].to_numpy(), abs=0.01)
    again = characterize(stored(tmp_path, "power_samples", frame)).aspect("power", "power_samples")
    whole = again.whole
    assert whole is not None
    assert whole.diversity == pytest.approx(1.1, abs=0.033)
    means = sorted(d.sample_mean_w for d in again.devices)
    assert means == pytest.approx(sorted(d.sample_mean_w * whole.mean_w / law.groups[0].mean_w for d in law.devices), rel=0.03)  # fmt: skip
    assert {d.reading for d in again.devices} == {"instant"}


def test_library_profiles_are_made() -> None:
    """Twenty spans of a server that answers BERT queries: the load-duration curve of the profile. The mean is known to 10 %
    (three standard errors of the idle share, which forty stays make)."""
    for name in ("mlperf-a100-bert99-server", "mlperf-a100-bert99-offline"):
        profile = Profile.library(name)
        law = profile.aspect("power", "power_samples").whole
        x = walked(PowerMaker(profile.part("power_samples"), 1), 14_000 * S)["power_w"].to_numpy()
        assert x.mean() == pytest.approx(law.mean_w, rel=0.1)
        assert np.median(x) == pytest.approx(law.course.quantiles_w["p50"], rel=0.01)
        assert 0.98 * law.peak_w < x.max() <= law.peak_w + 0.01


RUNS = "power/mlperf-inference-v1.0"


@pytest.mark.parametrize(
    "run",
    [
        "dellemc__r7525_a100_pcie-40gbx3_trt__resnet50__server",
        "dellemc__xe2420_datacenter_t4x4_trt__rnnt__server",
        "nvidia__a100-pciex8_trt_maxq__bert-99__offline",
        "nvidia__a100-pciex8_trt_maxq__bert-99__server",
        "nvidia__agx_xavier_trt_maxq__bert-99__offline",
        "nvidia__dgx-station-a100_a100-sxm-80gbx4_trt_maxq__bert-99__offline",
    ],
)
def test_real_runs_come_back(run: str, real_data: Path, tmp_path: Path) -> None:
    """Fit, make thirty times the span, fit again. The mean is known to the variance of its levels' shares (closed form for a
    chain, the slowest eigenvalue bounds it); quantiles, peaks and rises to the tolerances below."""
    source = characterize(Store(tmp_path / "real").ingest([real_data / RUNS / run], "x"))
    law = source.aspect("power", "power_samples")
    maker = PowerMaker(source.part("power_samples"), 1)
    span_ns = round(30 * source.source["span_s"] * S)
    again = characterize(stored(tmp_path / "made", "power_samples", walked(maker, span_ns)))
    a, b = law.whole, again.aspect("power", "power_samples").whole
    assert a.course is not None
    assert b.course is not None
    values = a.course.load_duration.values
    rho = 0.9
    if a.course.phases is not None:
        eigen = np.linalg.eigvals(np.array(a.course.phases.transitions))
        rho = float(np.sort(np.abs(eigen))[-2])
    n = span_ns / S / a.step_s
    error = float(values.std()) * math.sqrt((1 + rho) / (1 - rho) / n)
    assert b.mean_w == pytest.approx(a.mean_w, abs=4 * error)
    assert b.energy_j / 30 == pytest.approx(a.energy_j, rel=4 * error / a.mean_w + 1e-3)
    for q in ("p50", "p90"):
        assert b.course.quantiles_w[q] == pytest.approx(a.course.quantiles_w[q], rel=0.01)
    assert b.course.quantiles_w["p99"] == pytest.approx(a.course.quantiles_w["p99"], rel=0.02)
    assert 0.98 * a.peak_w <= b.peak_w <= a.peak_w + 0.01
    for w in ("1", "10", "60"):
        assert b.peaks_w[w] == pytest.approx(a.peaks_w[w], rel=0.04)
    for d in ("2", "40"):
        assert 0.9 * a.rises_w[d] <= b.rises_w[d] <= a.rises_w[d] * 1.001 + 0.01
    assert b.course.acf[0] == pytest.approx(a.course.acf[0], abs=0.06)


def test_what_power_cannot_be_made_from() -> None:
    with pytest.raises(UsageError, match="no rate"):
        PowerMaker(part(power()), 1, factor=2.0)
    with pytest.raises(ModelError, match="windows only"):
        PowerMaker(Profile.library("zeus-a40").part("power_windows"), 1)
    with pytest.raises(ModelError, match="curves only"):
        PowerMaker(Profile.library("acme-seren-power").part("cdf_points"), 1)
    with pytest.raises(ModelError, match="no course"):
        PowerMaker(part(power().brief()), 1)
    with pytest.raises(ModelError, match="no power"):
        PowerMaker(Part("power_samples", (Stream("all", 1.0, {}, {}),)), 1)

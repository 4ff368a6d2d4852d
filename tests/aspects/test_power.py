"""Power: every figure by a second route on raw readings, what may not be mixed, and the published figures of real files."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl
import pytest

from lamina_traces.aspects import from_dict, power, power_groups, power_readings
from lamina_traces.aspects.power import Power
from lamina_traces.aspects.power_devices import Cap
from lamina_traces.aspects.power_sources import Aligned, sources
from lamina_traces.aspects.timeline import scan
from lamina_traces.characterization import characterize
from lamina_traces.errors import ModelError, Notice
from lamina_traces.store import Store, Trace

from .tables import stored

Array = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
S = 10**9
GOLDEN = Path(__file__).parent.parent / "golden" / "power-1.json"


def samples(t_ns: Any, watts: Any, device: str = "gpu0", **more: Any) -> pl.DataFrame:
    n = len(t_ns)
    columns = {k: v if hasattr(v, "__len__") and not isinstance(v, str) else [v] * n for k, v in more.items()}  # fmt: skip
    return pl.DataFrame(
        {
            "arrival_ns": np.asarray(t_ns, dtype=np.int64),
            "device": [device] * n,
            "domain": ["gpu"] * n,
            "power_w": np.asarray(watts, dtype=np.float64),
        }
        | columns
    )


def traced(path: Path, *frames: pl.DataFrame, name: str = "t") -> Trace:
    frame = pl.concat(frames, how="diagonal").sort("arrival_ns", "device")
    return stored(path, "power_samples", frame, name)


def fitted(trace: Trace, notices: list[Notice] | None = None) -> Power:
    found = power.fit(trace, [] if notices is None else notices)
    assert found is not None
    return found


def codes(notices: list[Notice]) -> list[str]:
    return [n.code for n in notices]


def jittered(rng: np.random.Generator, n: int, period_s: float = 0.5) -> Ints:
    t = np.cumsum(rng.uniform(0.7 * period_s, 1.3 * period_s, n)) * S
    return t.astype(np.int64)


def stretches(t: Ints) -> list[slice]:
    """Runs without a step longer than three median steps."""
    step = np.diff(t)
    cuts = np.flatnonzero(step > 3 * np.median(step)) + 1
    edges = [0, *cuts, len(t)]
    return [slice(a, b) for a, b in itertools.pairwise(edges)]


def brute_rise(t: Ints, w: Array, seconds: float) -> float:
    most = 0.0
    for s in stretches(t):
        for i in range(s.start, s.stop):
            for j in range(i, s.start - 1, -1):
                if t[i] - t[j] > seconds * S:
                    break
                most = max(most, w[i] - w[j])
    return most


def brute_peak(t: Ints, w: Array, seconds: float) -> float:
    """The highest mean of the straight lines between readings over windows that end at a reading."""
    most = -np.inf
    for s in stretches(t):
        x, y = t[s] / S, w[s]
        energy = np.concatenate([[0.0], np.cumsum(np.diff(x) * (y[1:] + y[:-1]) / 2)])
        for i in range(len(x)):
            start = x[i] - seconds
            if start < x[0]:
                continue
            fine = np.unique(np.concatenate([[start], x[(x > start) & (x <= x[i])]]))
            most = max(most, np.trapezoid(np.interp(fine, x, y), fine) / seconds)
        assert energy[-1] >= 0
    return float(most)


@pytest.fixture(scope="module")
def rough() -> tuple[Ints, Array]:
    """600 jittered readings with a gap of 100 s and steep steps."""
    rng = np.random.default_rng(6)
    t = jittered(rng, 600)
    t[300:] += 100 * S
    w = 200 + 150 * (np.sin(np.arange(600) / 20) > 0.3) + 20 * rng.standard_normal(600)
    return t, np.round(w, 2)


def test_a_device_by_brute_force(tmp_path: Path, rough: tuple[Ints, Array]) -> None:
    t, w = rough
    notices: list[Notice] = []
    d = fitted(traced(tmp_path, samples(t, w)), notices).devices[0]
    step = np.diff(t) / S
    ok = step <= 3 * np.median(step)
    assert (d.samples, d.gaps) == (600, 1)
    assert "gaps" in codes(notices)
    assert d.covered_s == pytest.approx(step[ok].sum(), rel=1e-8)
    assert d.energy_j == pytest.approx(((w[1:] + w[:-1]) / 2 * step)[ok].sum(), rel=1e-8)
    assert d.energy_left_j == pytest.approx((w[:-1] * step)[ok].sum(), rel=1e-8)
    assert d.mean_w == pytest.approx(((w[1:] + w[:-1]) / 2 * step)[ok].sum() / step[ok].sum())
    assert d.sample_mean_w == pytest.approx(w.mean(), rel=1e-8)
    assert (d.min_w, d.max_w) == (w.min(), w.max())
    assert d.max_rise_w == pytest.approx(np.diff(w)[ok].max())
    assert d.max_ramp_w_per_s == pytest.approx((np.abs(np.diff(w)) / step)[ok].max(), rel=1e-6)
    for seconds in (2, 40):
        assert d.rises_w[str(seconds)] == pytest.approx(brute_rise(t, w, seconds), abs=1e-4)
    for seconds in (1, 10, 60):
        assert d.peaks_w[str(seconds)] == pytest.approx(brute_peak(t, w, seconds), rel=1e-6)
    assert d.load_factors["10"] == pytest.approx((d.mean_w or 0) / (d.peaks_w["10"] or 1))


@pytest.mark.parametrize("rows", [7, 64])
def test_batches_do_not_matter(tmp_path: Path, rough: tuple[Ints, Array], rows: int) -> None:
    t, w = rough
    rng = np.random.default_rng(1)
    counter = np.cumsum(rng.uniform(1, 300, 600))
    frames = [
        samples(t, w, "gpu0", energy_j=counter, is_average=False, power_limit_w=400.0),
        samples(t + 10**7, w[::-1] / 2, "gpu1", energy_j=counter[::-1], is_average=True),
    ]
    trace = traced(tmp_path, *frames)

    def through(rows: int) -> power_readings.Pass:
        seen = power_readings.Pass(trace)
        for batch in trace.stream(seen.columns, rows=rows):
            seen.add(batch)
        seen.finish()
        return seen

    whole, cut = through(10_000), through(rows)
    for name, value in whole.sums.__dict__.items():
        np.testing.assert_allclose(getattr(cut.sums, name), value, rtol=1e-9, atol=1e-9)
    for a, b in zip(whole.grids, cut.grids, strict=True):
        np.testing.assert_array_equal(a.milliwatts, b.milliwatts)
        np.testing.assert_array_equal(a.present, b.present)
    assert whole.sums.counter_resets.tolist() == [0.0, 599.0]


def test_sums_of_devices_hold_the_last_reading(tmp_path: Path) -> None:
    """The aligned sum against searchsorted, device by device; gpu1 falls silent for a while, gpu2 ends early."""
    rng = np.random.default_rng(2)
    parts = []
    for i in range(3):
        t = jittered(rng, 400, 1.0) + rng.integers(0, S)
        keep = np.ones(400, dtype=bool)
        if i == 1:
            keep[100:150] = False
        if i == 2:
            keep[300:] = False
        parts.append((t[keep], np.round(rng.uniform(50, 400, keep.sum()), 3)))
    trace = traced(tmp_path, *(samples(t, w, f"gpu{i}") for i, (t, w) in enumerate(parts)))
    seen = power_readings.Pass(trace)
    scan(trace, [seen])
    seen.finish()
    grid = seen.grids[0]
    found, present = grid.series()
    at = grid.origin_ns + np.arange(len(found)) * grid.step_ns
    total, count = np.zeros(len(at)), np.zeros(len(at), dtype=int)
    for s, (t, w) in zip(seen.sources, parts, strict=True):
        period = s.period_ns or 0
        limit = np.floor(3 * period)
        last = np.searchsorted(t, at, side="right") - 1
        after = np.append(t, 2**62)[last + 1]
        end = np.where(after - t[last] <= limit, after, t[last] + int(period))
        there = (last >= 0) & (at < end)
        total += np.where(there, w[np.maximum(last, 0)], 0.0)
        count += there
    np.testing.assert_array_equal(present, count)
    np.testing.assert_allclose(found[count > 0], total[count > 0], rtol=1e-9)
    assert np.isnan(found[count == 0]).all()
    # figures are over the instants at which all three report
    group = fitted(trace).whole
    assert group is not None
    every = total[count == 3]
    assert group.complete == pytest.approx((count == 3).sum() / (count > 0).sum(), rel=1e-6)
    assert group.mean_w == pytest.approx(every.mean(), rel=1e-6)
    assert group.peak_w == pytest.approx(every.max(), rel=1e-6)
    peaks = sum(w.max() for _, w in parts)
    assert group.diversity == pytest.approx(peaks / every.max(), rel=1e-6)
    assert group.diversity >= 1


def test_devices_that_never_report_together(tmp_path: Path) -> None:
    """Two runs, a day apart: nothing is added up, and that is said."""
    t = np.arange(300) * S
    frames = [samples(t, np.full(300, 100.0)), samples(t + 86_400 * S, np.full(300, 300.0), "gpu1")]
    notices: list[Notice] = []
    p = fitted(traced(tmp_path, *frames), notices)
    assert "devices-apart" in codes(notices)
    assert "2 devices drew 200 W each on average" in p.findings()[0].text
    assert "Together" not in p.findings()[0].text
    assert not any("diversity" in f.text for f in p.findings())
    assert p.whole is not None
    assert p.whole.peak_w == 300


def test_autocorrelation_by_its_definition() -> None:
    rng = np.random.default_rng(3)
    x = np.cumsum(rng.standard_normal(500))
    x[100:120] = np.nan
    d = np.where(np.isnan(x), 0.0, x - np.nanmean(x))
    want = [float((d[k:] * d[:-k]).sum() / (d * d).sum()) for k in (1, 5, 50)]
    np.testing.assert_allclose(power_groups.autocorrelation(x, [1, 5, 50]), want, rtol=1e-10)


def test_least_of_stretches_against_numpy() -> None:
    rng = np.random.default_rng(4)
    x = rng.standard_normal(300)
    first = rng.integers(0, 300, 500)
    last = np.minimum(first + rng.integers(0, 200, 500), 299)
    want = [x[a : b + 1].min() for a, b in zip(first, last, strict=True)]
    np.testing.assert_array_equal(power_readings.lowest(x, first, last), want)


def test_averaged_and_instant_readings_are_never_mixed(tmp_path: Path) -> None:
    t = np.arange(200) * S
    rng = np.random.default_rng(5)
    w = np.where(rng.random(200) < 0.2, 700.0, 100.0)
    both = [samples(t, w, is_average=False), samples(t, np.full(200, 220.0), is_average=True)]
    notices: list[Notice] = []
    p = fitted(traced(tmp_path, *both), notices)
    assert "mixed-readings" in codes(notices)
    alone = [fitted(traced(tmp_path, f, name=f"only{i}")) for i, f in enumerate(both)]
    assert {d.reading: d.energy_j for d in p.devices} == {
        d.reading: d.energy_j for q in alone for d in q.devices
    }
    groups = {g.reading: g for g in p.groups if g.scope == "all"}
    assert set(groups) == {"average", "instant"}
    assert (groups["average"].peak_w, groups["instant"].peak_w) == (220.0, 700.0)
    assert groups["instant"].devices == 1
    assert p.load_duration is not None
    assert set(p.load_duration.values) <= {220.0} or 220.0 not in p.load_duration.values


def test_energy_counters_with_resets(tmp_path: Path) -> None:
    """A counter 2 % above the integral, reset twice; the steps of the resets count for nothing."""
    rng = np.random.default_rng(7)
    t = jittered(rng, 500, 1.0)
    w = 300 + 50 * np.sin(np.arange(500) / 9)
    used = np.concatenate([[0.0], np.cumsum(np.diff(t) / S * (w[1:] + w[:-1]) / 2)]) * 1.02
    counter = used.copy()
    for at in (150, 400):
        counter[at:] = used[at:] - used[at]
    counter[200:210] = np.nan  # not every reading has one
    frame = samples(t, w).with_columns(pl.Series("energy_j", counter).fill_nan(None))
    c = fitted(traced(tmp_path, frame)).devices[0].counter
    assert c is not None
    assert c.resets == 2
    lost = sum(used[at] - used[at - 1] for at in (150, 400))
    assert c.energy_j == pytest.approx(used[-1] - lost, rel=1e-6)
    assert c.ratio == pytest.approx(1.02, rel=1e-6)
    assert c.covered_s == pytest.approx((t[-1] - t[0] - sum(t[a] - t[a - 1] for a in (150, 400))) / S)  # fmt: skip
    assert c.mean_w == pytest.approx(c.energy_j / c.covered_s)


def test_what_a_counter_saw_in_a_gap_is_not_compared_with_readings(tmp_path: Path) -> None:
    t = np.arange(100) * S
    t[50:] += 1000 * S
    counter = 200.0 * t / S
    frame = samples(t, np.full(100, 200.0), energy_j=counter)
    c = fitted(traced(tmp_path, frame)).devices[0].counter
    assert c is not None
    assert c.gap_energy_j == pytest.approx(200.0 * 1001)
    assert c.ratio == pytest.approx(1.0)
    masked = traced(tmp_path, frame, name="m").mask(60 * S, 900 * S)
    c = fitted(masked).devices[0].counter
    assert c is not None
    assert c.gap_energy_j == 0


def test_slow_sampling_gives_only_a_bound_on_rises(tmp_path: Path) -> None:
    """A signal of 0.1 s read every 15 s: the bound holds, and no value is given for 2 s."""
    fine = np.arange(0, 6000, 0.1)
    truth = 200 + 100 * np.sin(fine / 7) + 80 * (np.sin(fine / 90) > 0)
    for offset in (0, 40, 110):
        t, w = fine[offset::150], truth[offset::150]
        notices: list[Notice] = []
        p = fitted(traced(tmp_path, samples(t * S, w)), notices)
        assert "slow-sampling" in codes(notices)
        d, whole = p.devices[0], p.whole
        assert whole is not None
        for x in (d, whole):
            assert x.rises_w["2"] is None
            assert x.rises_w["40"] is not None
            assert set(x.rises_at_least_w) == {"2"}
            most = (truth[20:] - truth[:-20]).max()  # within 2 s exactly; shorter is less here
            assert 0 < (x.rises_at_least_w["2"] or 0) <= most
            assert (x.peaks_w["1"], x.peaks_w["10"]) == (None, None)
            assert x.peaks_w["60"] is not None


def test_a_mask_splits_steps_even_where_it_is_short(tmp_path: Path) -> None:
    t = np.arange(120) * S
    w = np.where(np.arange(120) < 60, 100.0, 500.0)
    plain = traced(tmp_path, samples(t, w))
    masked = plain.mask(int(59.5 * S), int(59.6 * S))  # no row lies in it
    a, b = fitted(plain).devices[0], fitted(masked).devices[0]
    assert (a.rises_w["2"], b.rises_w["2"]) == (400.0, 0.0)
    assert a.covered_s - b.covered_s == 1
    assert (a.gaps, b.gaps) == (0, 1)
    wide = fitted(plain.mask(30 * S, 90 * S))
    assert wide.devices[0].covered_s == 29 + 29
    assert wide.devices[0].rises_w["40"] == 0
    assert wide.whole is not None
    assert wide.whole.rises_w["40"] == 0


def capped_share(tmp_path: Path, watts: Array, **more: Any) -> Cap | None:
    notices: list[Notice] = []
    p = fitted(traced(tmp_path, samples(np.arange(len(watts)) * S, watts, **more)), notices)
    cap = p.devices[0].cap
    assert ("capped" in codes(notices)) == (cap is not None)
    assert any(f.warning == "capped" for f in p.findings()) == (cap is not None)
    return cap


def test_caps_are_seen_by_the_limit_or_by_a_flat_top(tmp_path: Path) -> None:
    rng = np.random.default_rng(8)
    demand = 150 + 150 * rng.beta(2, 2, 1500) + 20 * rng.standard_normal(1500)
    cut = np.minimum(demand, 250.0)
    cap = capped_share(tmp_path, cut)
    assert cap is not None
    assert (cap.how, cap.limit_w) == ("flat top", 250.0)
    assert cap.share == pytest.approx((cut >= 247.5).mean(), abs=1e-6)
    cap = capped_share(tmp_path, np.minimum(demand, 250 + rng.normal(0, 1, 1500)), power_limit_w=250.0)  # fmt: skip
    assert cap is not None
    assert cap.how == "limit"
    # no cap: an open top, a steady load, a limit far away
    assert capped_share(tmp_path, np.round(demand, 1)) is None
    assert capped_share(tmp_path, np.full(1500, 250.0)) is None
    assert capped_share(tmp_path, np.round(250 + rng.standard_normal(1500), 1)) is None
    assert capped_share(tmp_path, demand, power_limit_w=700.0) is None


def test_idle_is_p1_unless_a_phase_or_the_user_says(tmp_path: Path) -> None:
    w = np.concatenate([np.full(300, 60.0), np.full(700, 300.0)])
    phase = ["idle"] * 300 + ["token"] * 700
    trace = traced(tmp_path, samples(np.arange(1000) * S, w))
    p = fitted(trace)
    assert (p.idle_w, p.idle_from) == (60.0, "p1")
    declared = power.fit(trace, [], idle_w=42.0)
    assert declared is not None
    assert (declared.idle_w, declared.idle_from) == (42.0, "declared")
    noisy = w + np.tile([-5.0, 5.0], 500)
    p = fitted(traced(tmp_path, samples(np.arange(1000) * S, noisy, phase=phase), name="p"))
    assert (p.idle_w, p.idle_from) == (60.0, "phase")
    assert p.phase_levels == {"idle": (60.0, 5.0, 0.3), "token": (300.0, 5.0, 0.7)}


def test_power_of_a_whole_is_not_added_to_that_of_its_parts(tmp_path: Path) -> None:
    """A server that draws 300 W through two supplies uses 300 J in a second, not 600."""
    readings = [
        (second * S, device, domain, watts)
        for second in range(11)
        for device, domain, watts in (("server", "server", 300.0), ("psu1", "psu", 200.0), ("psu2", "psu", 100.0))
    ]  # fmt: skip
    frame = pl.DataFrame(
        readings, schema=["arrival_ns", "device", "domain", "power_w"], orient="row"
    )
    trace = stored(tmp_path, "power_samples", frame)
    profile = characterize(trace)
    found = profile.aspect("power", "power_samples")
    assert sum(d.energy_j for d in found.devices) == pytest.approx(3000)
    assert found.energy_j == pytest.approx(3000)
    assert [d.device for d in found.devices] == ["server"]
    assert "1 server drew 300 W on average" in found.findings()[0].text
    assert "parts-left-out" in [n.code for n in profile.notices]
    parts = {g.name: g for g in found.groups if g.scope == "domain"}
    assert (parts["psu"].mean_w, parts["psu"].devices) == (300.0, 2)
    supplies = trace.select(where="domain = 'psu'")
    without = characterize(supplies).aspect("power", "power_samples")
    assert sum(d.energy_j for d in without.devices) == pytest.approx(3000)


def test_two_thousand_devices_fit_into_a_profile(tmp_path: Path) -> None:
    rng = np.random.default_rng(9)
    n, k = 2000, 30
    frame = pl.DataFrame(
        {
            "arrival_ns": np.repeat(np.arange(k) * 15 * S, n),
            "host": [f"node{i // 8}" for i in range(n)] * k,
            "device": [f"gpu{i % 8}" for i in range(n)] * k,
            "domain": ["gpu"] * (n * k),
            "power_w": rng.uniform(60, 700, n * k),
        }
    )
    notices: list[Notice] = []
    p = fitted(stored(tmp_path, "power_samples", frame), notices)
    assert len(json.dumps(p.to_dict())) < 20_000
    assert (p.device_count, len(p.devices)) == (n, power.MOST_DEVICES)
    assert p.whole is not None
    assert p.whole.devices == n
    total = frame.group_by("arrival_ns").agg(pl.col("power_w").sum())["power_w"].to_numpy()
    assert p.whole.mean_w == pytest.approx(total.mean(), rel=1e-6)
    assert p.whole.peak_w == pytest.approx(total.max(), rel=1e-6)
    assert "hosts-left-out" in codes(notices)


def test_too_little_is_said(tmp_path: Path) -> None:
    notices: list[Notice] = []
    trace = traced(tmp_path, samples([5, 5, 5], [1.0, 2.0, 3.0]))
    assert power.fit(trace, notices) is None
    assert codes(notices) == ["too-few-rows"]
    p = fitted(traced(tmp_path, samples([0, S], [100.0, 0.0])))
    assert (p.devices[0].energy_j, p.load_duration, p.idle_w) == (50.0, None, None)
    assert from_dict("power", p.to_dict()).to_dict() == p.to_dict()


def test_version_1_is_read() -> None:
    d = json.loads(GOLDEN.read_text())
    p = from_dict("power", d)
    assert isinstance(p, Power)
    assert [x.device for x in p.devices] == ["gpu0", "gpu1"]
    assert (p.groups, p.devices[0].peaks_w, p.devices[0].counter) == ((), {}, None)
    assert p.energy_j == pytest.approx(41840.33561972081 + 43697.995617012944)
    assert p.findings()
    assert p.to_dict()["version"] == 2


@pytest.mark.parametrize(
    "damage",
    [
        lambda d: d.update(devices=[]),
        lambda d: d.update(evidence="hearsay"),
        lambda d: d["devices"][0].update(max_w=float("nan")),
        lambda d: d["devices"][0].update(energy_j=-1.0),
        lambda d: d["devices"][0].update(cap={"limit_w": 1.0, "share": 1.5, "how": "limit"}),
        lambda d: d["groups"][0].update(complete=2.0),
        lambda d: d["groups"][0].update(step_s=0.0),
        lambda d: d["groups"][0]["course"]["acf"]["values"].__setitem__(0, 3.0),
        lambda d: d["groups"][0]["course"]["curve"].update(mean_w=[1.0]),
        lambda d: d["groups"][0]["course"]["phases"]["levels"][0].update(share=-0.1),
        lambda d: d["groups"][0]["course"]["phases"]["transitions"][0].__setitem__(0, 9.0),
        lambda d: d["phase_levels"].update(x={"mean_w": 1.0, "sd_w": 0.0, "share": 7.0}),
        lambda d: d.update(device_count=0),
    ],
)
def test_a_damaged_profile_is_refused(
    tmp_path: Path, damage: Callable[[dict[str, Any]], None]
) -> None:
    w = np.where(np.arange(900) // 60 % 2, 300.0, 90.0) + np.tile([-1.0, 0.5, 0.5], 300)
    p = fitted(traced(tmp_path, samples(np.arange(900) * S, w)))
    assert p.whole is not None
    assert p.whole.course is not None
    assert p.whole.course.phases is not None
    d = json.loads(json.dumps(p.to_dict()))
    assert from_dict("power", d).to_dict() == p.to_dict()
    damage(d)
    with pytest.raises(ModelError):
        from_dict("power", d)


def test_score(tmp_path: Path, rough: tuple[Ints, Array]) -> None:
    t, w = rough
    a, b = traced(tmp_path, samples(t, w)), traced(tmp_path, samples(t, w + 50), name="u")
    assert all(x.value == 0 for x in power.score(a, a))
    lines = {x.metric: x.value for x in power.score(a, b)}
    assert lines["mean power"] == pytest.approx(50 / w.mean(), rel=1e-9)
    assert power.score(a, traced(tmp_path, samples(t, w, is_average=True), name="v")) == []


def test_windows_alone(tmp_path: Path) -> None:
    frame = pl.DataFrame(
        {
            "arrival_ns": [0, 0, 10 * S],
            "label": ["a", "a", "b"],
            "device": ["gpu0", "gpu1", "gpu0"],
            "domain": ["gpu"] * 3,
            "duration_s": [10.0, 10.0, 5.0],
            "energy_j": [1000.0, 3000.0, 1000.0],
            "tokens": [100, None, 300],
        }
    )
    notices: list[Notice] = []
    p = fitted(stored(tmp_path, "power_windows", frame), notices)
    assert p.evidence == "windows"
    assert notices == []
    by = {w.device: w for w in p.windows}
    assert by["gpu0"].energy_j == 2000.0
    assert by["gpu0"].mean_w == pytest.approx(2000 / 15)
    assert (by["gpu0"].tokens, by["gpu0"].energy_per_token_j) == (400, 5.0)
    assert by["gpu0"].highest_w == 200.0
    assert p.energy_j == 5000.0
    assert from_dict("power", json.loads(json.dumps(p.to_dict()))).to_dict() == p.to_dict()
    both = frame.with_columns(pl.lit(0).cast(pl.Int64).alias("arrival_ns"))
    fitted(stored(tmp_path, "power_windows", both, "over"), notices)
    assert codes(notices) == ["windows-overlap"]


def test_curves_of_something_else_are_not_power(tmp_path: Path) -> None:
    frame = pl.DataFrame(
        {"quantity": ["cold_start_s"] * 3, "series": ["R1"] * 3, "x": [0.1, 1.0, 9.0], "cdf": [0.0, 0.5, 1.0]}
    )  # fmt: skip
    notices: list[Notice] = []
    assert power.fit(stored(tmp_path, "cdf_points", frame), notices) is None
    assert notices == []


# --- real files ------------------------------------------------------------------------------------

MLPERF = "power/mlperf-inference-v1.0"


@pytest.mark.real_data
def test_mlperf_server_run(real_data: Path, tmp_path: Path) -> None:
    folder = real_data / MLPERF / "nvidia__a100-pciex8_trt_maxq__bert-99__server"
    trace = Store(tmp_path).ingest([folder / "spl.txt", folder / "mlperf_log_detail.txt"], "s")
    p = fitted(trace)
    d, w, whole = p.devices[0], p.windows[0], p.whole
    assert whole is not None
    assert w.mean_w == pytest.approx(2308.858, abs=5e-4)  # the official window average
    assert w.recorded_w == pytest.approx(w.mean_w, rel=1e-8)
    assert w.outside_w == pytest.approx(867.6, abs=0.05)
    assert w.acf1 == pytest.approx(0.20, abs=5e-3)
    assert w.energy_per_sample_j == pytest.approx(0.1320, abs=5e-5)
    assert w.samples == 600
    assert d.sample_mean_w == pytest.approx(2095.95, abs=5e-3)
    assert d.max_w == 2427.4
    assert d.energy_j == pytest.approx(1_474_921, abs=1)
    assert p.load_factor == pytest.approx(0.863, abs=5e-4)
    assert d.max_ramp_w_per_s == pytest.approx(1252, abs=0.5)
    supplies = next(g for g in p.groups if g.scope == "domain" and g.name == "psu")
    assert supplies.energy_j == pytest.approx(d.energy_j, rel=1e-6)
    assert whole.course is not None
    phases = whole.course.phases
    assert phases is not None
    assert [x.mean_w for x in phases.levels][-1] == pytest.approx(2309, abs=5)


@pytest.mark.real_data
def test_mlperf_offline_run(real_data: Path, tmp_path: Path) -> None:
    folder = real_data / MLPERF / "nvidia__a100-pciex8_trt_maxq__bert-99__offline"
    trace = Store(tmp_path).ingest([folder / "spl.txt", folder / "mlperf_log_detail.txt"], "o")
    w = fitted(trace).windows[0]
    assert w.mean_w == pytest.approx(2289.98, abs=5e-3)
    assert w.acf1 == pytest.approx(0.84, abs=5e-3)


@pytest.mark.real_data
def test_acme_curves(real_data: Path, tmp_path: Path) -> None:
    store = Store(tmp_path)
    gpu = fitted(store.ingest([real_data / "power/acmetrace/gpu_power_seren_cdf.csv"], "g"))
    curve = gpu.curves[0]
    q = curve.grid.quantile(np.array([0.5, 0.9, 0.99]))
    assert q == pytest.approx([96.5, 395, 437], abs=0.5)
    assert curve.grid.mean == pytest.approx(169, abs=0.6)
    assert curve.share_above(400) == pytest.approx(0.080, abs=1e-3)
    node = fitted(store.ingest([real_data / "power/acmetrace/server_power_seren_gpu_node_cdf.csv"], "n"))  # fmt: skip
    q = node.curves[0].grid.quantile(np.array([0.05, 0.5, 0.99, 1.0]))
    assert q == pytest.approx([1512, 2520, 5418, 6554], abs=2)


@pytest.mark.real_data
def test_zeus_and_codecarbon_windows(real_data: Path, tmp_path: Path) -> None:
    store = Store(tmp_path)
    zeus = fitted(store.ingest([real_data / "power/zeus-monitor-log/A40+resnet50+gpu0_1_2_3.csv"], "z"))  # fmt: skip
    assert {w.device for w in zeus.windows} == {f"gpu{i}" for i in range(4)}
    assert all(w.windows == 9 for w in zeus.windows)
    carbon = fitted(store.ingest([real_data / "power/codecarbon/emissions_v2.csv"], "c"))
    assert {w.domain for w in carbon.windows} == {"server", "cpu", "gpu", "dram"}
    whole = next(w for w in carbon.windows if w.domain == "server")
    assert carbon.energy_j == pytest.approx(whole.energy_j)


def test_a_group_of_nothing_has_no_figures(tmp_path: Path) -> None:
    trace = traced(tmp_path, samples([0, S], [1.0, 2.0]))
    of = sources(trace)
    assert Aligned.of(of, [False]) is None
    grid = Aligned.of(of, [True])
    assert grid is not None
    empty = power_groups.measure(grid, scope="all", name="", reading="unknown", peaks_w=np.array([2.0]), energy_j=0.0)  # fmt: skip
    assert empty is None
    assert replace(of[0], period_ns=None).key == of[0].key

"""Dispersion, rates, gaps: closed forms, numpy on the rows, SQL, and truth that was drawn."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl
import pytest

from lamina_traces.aspects import arrivals, gaps
from lamina_traces.aspects.dispersion import Scale, WindowCounts, hurst, scale
from lamina_traces.aspects.rates import change_points
from lamina_traces.aspects.timeline import Timeline, scan
from lamina_traces.store import Trace

from .tables import gap_counts, idc_curve
from .test_arrivals import fitted, trace


def passed(t: Trace) -> gaps.Pass:
    timeline = Timeline.of(t)
    assert timeline is not None
    p = gaps.Pass(t, timeline)
    scan(t, [p])
    return p


@pytest.fixture(scope="module")
def bursty(tmp_path_factory: pytest.TempPathFactory) -> tuple[Trace, np.ndarray]:
    rng = np.random.default_rng(1)
    t = np.cumsum(
        np.where(
            rng.random(40_000) < 0.9, rng.exponential(0.02, 40_000), rng.exponential(3.0, 40_000)
        )
    )
    made = trace(tmp_path_factory.mktemp("bursty"), t)
    return made, made.scan().select("arrival_ns").collect()["arrival_ns"].to_numpy()


def test_three_routes_agree(bursty: tuple[Trace, np.ndarray]) -> None:
    """The pass, SQL, and numpy on the rows give the same IDC at every width."""
    t, ns = bursty
    p = passed(t)
    span = int(ns[-1] - ns[0])
    widths = [s.window_s for s in p.windows.scales()]
    assert {0.1, 1.0, 10.0, 60.0, 600.0} <= set(widths)
    by_sql = idc_curve(t, int(ns[0]), span, tuple(widths))
    for s in p.windows.scales():
        width = round(s.window_s * 1e9)
        k = span // width
        n = np.bincount((ns - ns[0]) // width, minlength=k)[:k]
        assert s.windows == k
        assert s.idc == pytest.approx(n.var(ddof=1) / n.mean(), rel=1e-9)
        assert s.idc == pytest.approx(by_sql[s.window_s], rel=1e-9)
        assert s.allan == pytest.approx((np.diff(n) ** 2).mean() / 2 / n.mean(), rel=1e-9)
        assert s.peak_to_mean == pytest.approx(n.max() / n.mean(), rel=1e-9)


def test_acf_equals_numpy(bursty: tuple[Trace, np.ndarray]) -> None:
    t, ns = bursty
    window_s, acf = passed(t).windows.acf()
    assert window_s == 1.0
    k = int((ns[-1] - ns[0]) // 10**9)
    n = np.bincount((ns - ns[0]) // 10**9, minlength=k)[:k].astype(float)
    d = n - n.mean()
    for lag in (1, 2, 5, 10, 60):
        assert acf[lag] == pytest.approx((d[:-lag] * d[lag:]).sum() / (d * d).sum(), abs=1e-4)


def test_gaps_by_two_routes(bursty: tuple[Trace, np.ndarray]) -> None:
    t, ns = bursty
    p = passed(t)
    g = np.diff(ns) / 1e9
    mine, sql = p.gaps(), gap_counts(t)
    assert mine.rows == sql.rows == len(g)
    assert mine.sum == pytest.approx(g.sum(), rel=1e-12)
    assert p.cv() == pytest.approx(g.std() / g.mean(), rel=1e-12)
    q = np.array([0.1, 0.5, 0.9, 0.999])
    np.testing.assert_allclose(mine.quantile(q), np.quantile(g, q), rtol=2e-3)
    assert p.memory() == pytest.approx(np.corrcoef(g[:-1], g[1:])[0, 1], abs=1e-4)
    assert sorted(b - a for a, b in p.longest) == np.sort(np.diff(ns))[-20:].tolist()


def test_unit_gaps_equal_the_integral_of_the_rate(bursty: tuple[Trace, np.ndarray]) -> None:
    t, ns = bursty
    p = passed(t)
    rates = p.rows / p.timeline.width_s
    edges = np.arange(len(rates) + 1) * p.timeline.width_ns
    op = np.interp(ns - ns[0], edges, np.concatenate([[0], np.cumsum(rates) * p.timeline.width_s]))
    want = np.diff(op)
    got = p.unit_gaps(rates)
    assert got.rows == len(want)
    assert got.sum == pytest.approx(want.sum(), rel=1e-6)
    q = np.array([0.05, 0.25, 0.5, 0.75, 0.95, 0.999])
    np.testing.assert_allclose(got.quantile(q), np.quantile(want, q), rtol=0.02)


@pytest.mark.parametrize("rows", [7, 1000, 262_144])
def test_batches_do_not_matter(bursty: tuple[Trace, np.ndarray], rows: int) -> None:
    t, _ = bursty
    timeline = Timeline.of(t)
    assert timeline is not None
    whole, cut = passed(t), gaps.Pass(t, timeline)
    limit = 4000 if rows < 100 else 10**9
    count = 0
    for batch in t.stream(cut.columns, rows=rows):
        cut.add(batch)
        count += len(batch["arrival_ns"])
        if count >= limit:
            break
    if count < limit:
        assert (cut.n == whole.n).all()
        assert cut.borders == whole.borders
        assert sorted(cut.longest) == sorted(whole.longest)
        np.testing.assert_allclose(cut.window_n, whole.window_n)
        assert cut.memory() == whole.memory()
        assert (cut.windows.n == whole.windows.n).all()


def test_a_poisson_process_has_no_changes_and_a_step_is_found() -> None:
    rng = np.random.default_rng(2)
    covered = np.full(200, 60.0)
    found = [
        len(change_points(rng.poisson(30, 200).astype(float), covered, 60.0)) for _ in range(50)
    ]
    assert np.mean([n > 0 for n in found]) < 0.05
    step = np.concatenate([rng.poisson(30, 120), rng.poisson(60, 80)]).astype(float)
    (change,) = change_points(step, covered, 60.0)
    assert change.at_s == pytest.approx(7200, abs=120)
    assert (change.before_per_s, change.after_per_s) == pytest.approx((0.5, 1.0), rel=0.05)


def test_bursts_are_not_changes() -> None:
    """Counts of a gamma renewal process with IDC 20 vary without a change of rate."""
    rng = np.random.default_rng(3)
    covered = np.full(200, 60.0)
    found = [
        len(change_points(rng.negative_binomial(30 / 19, 1 / 20, 200).astype(float), covered, 60.0))
        for _ in range(40)
    ]
    assert np.mean([n > 0 for n in found]) < 0.15


def test_intervals_of_idc_cover_it() -> None:
    """Counts of independent windows, negative binomial with IDC 5: 95 % intervals hold it about as often."""
    rng = np.random.default_rng(4)
    hits = 0
    for _ in range(200):
        s = scale(1.0, rng.negative_binomial(2.5, 0.2, 2000), np.ones(2000, dtype=bool))
        assert s.interval is not None
        hits += s.interval.low <= 5 <= s.interval.high
    assert hits / 200 > 0.88


def test_hurst_of_a_poisson_process_is_a_half() -> None:
    rng = np.random.default_rng(5)
    n = rng.poisson(3, 2**16)
    scales = []
    for j in range(8):
        m = n[: len(n) // 2**j * 2**j].reshape(-1, 2**j).sum(axis=1)
        scales.append(scale(2.0**j, m, np.ones(len(m), dtype=bool)))
    h = hurst(scales)
    assert h is not None
    assert h["h"] == pytest.approx(0.5, abs=0.03)
    assert hurst([Scale(1.0, 100, 1.0, 1.0, 2.0)]) is None


# --- masks, samples, seasons -----------------------------------------------------------------------


def test_a_mask_leaves_nothing_behind(tmp_path: Path) -> None:
    """Poisson arrivals with the collector down for a third of the time: with the mask, rate, CV and IDC are those of
    the process; without it they are not."""
    rng = np.random.default_rng(6)
    t = np.cumsum(rng.exponential(0.5, 20_000))
    down = (t > 3000) & (t < 6500)
    made = trace(tmp_path, t[~down])
    blind, notices = fitted(made)
    assert blind.silences[0].length_s == pytest.approx(3500, abs=5)
    assert "silences" in [n.code for n in notices]
    masked, notices = fitted(made.mask(3000 * 10**9, 6500 * 10**9))
    assert masked.rate_per_s == pytest.approx(2, rel=0.02)
    assert blind.rate_per_s < 1.5
    assert masked.cv == pytest.approx(1, abs=0.03)
    assert blind.cv > 5
    assert masked.idc(60.0) == pytest.approx(1, abs=0.35)
    assert blind.idc(60.0) > 20  # type: ignore[operator]
    assert masked.silences == ()
    assert masked.masked_s == pytest.approx(3500)
    assert masked.changes == ()
    ends = masked.intervals["rate_per_s"]
    assert ends.low < 2 < ends.high


def test_masks_join(tmp_path: Path) -> None:
    made = trace(tmp_path, np.arange(100.0))
    two = made.mask(10, 20).mask(15, 30).mask(50, 60)
    assert two.masks == ((10, 30), (50, 60))
    part = made.mask(10 * 10**9, 20 * 10**9)
    assert part.rows() == 90
    assert part.is_part
    assert part.selection == {
        "where": [],
        "from_ns": None,
        "to_ns": None,
        "masks_ns": [[10 * 10**9, 20 * 10**9]],
    }


@pytest.mark.parametrize("share", [0.5, 0.1])
def test_a_sample_is_corrected(tmp_path: Path, share: float) -> None:
    """Rate and IDC of all requests come back from a random sample of them."""
    from dataclasses import replace

    rng = np.random.default_rng(7)
    rate = np.repeat(rng.gamma(2, 5, 600), 60)  # per second, a new one each minute
    t = np.sort(np.concatenate([i + rng.random(n) for i, n in enumerate(rng.poisson(rate))]))
    full, _ = fitted(trace(tmp_path / "full", t))
    thin = trace(tmp_path / "thin", t[rng.random(len(t)) < share])
    thin = replace(thin, manifest=replace(thin.manifest, sampled=share))
    got, notices = fitted(thin)
    assert got.rate_per_s == pytest.approx(full.rate_per_s, rel=0.02)
    for w in (1.0, 10.0, 60.0):
        assert got.idc(w) == pytest.approx(full.idc(w), rel=0.15), w
    assert got.families == ()
    assert got.unit_families == ()
    assert "sampled-trace" in [n.code for n in notices]


def test_hours_and_weekdays_come_back(tmp_path: Path) -> None:
    """Three weeks of a rate that doubles from 9 to 17 and halves at the weekend, in UTC from a Wednesday."""
    from dataclasses import replace

    rng = np.random.default_rng(8)
    hour = np.arange(21 * 24)
    weekday = (2 + hour // 24) % 7
    rate = (
        np.where((hour % 24 >= 9) & (hour % 24 < 17), 2.0, 1.0)
        * np.where(weekday >= 5, 0.5, 1.0)
        * 0.02
    )
    t = np.concatenate(
        [
            h * 3600 + 3600 * rng.random(n)
            for h, n in zip(hour, rng.poisson(rate * 3600), strict=True)
        ]
    )
    made = trace(tmp_path, t)
    epoch = 1_700_006_400  # 2023-11-15 00:00 UTC, a Wednesday
    made = replace(made, manifest=replace(made.manifest, clock="utc", origin_ns=epoch * 10**9))
    a, _ = fitted(made)
    assert a.seasons is not None
    hours = np.array(a.seasons.hours)
    assert hours[9:17].mean() / np.delete(hours, range(9, 17)).mean() == pytest.approx(2, rel=0.05)
    assert a.seasons.days is not None
    assert a.seasons.days[5] / a.seasons.days[1] == pytest.approx(0.5, rel=0.08)
    assert a.seasons.explained > 0.8
    relative, _ = fitted(replace(made, manifest=replace(made.manifest, clock="relative")))
    assert relative.seasons is None


def test_rounded_clocks_give_a_bracket(tmp_path: Path) -> None:
    rng = np.random.default_rng(9)
    t = np.cumsum(rng.gamma(0.5, 1.0, 40_000))  # two a second, floored to a second
    a, notices = fitted(trace(tmp_path, t, tick_s=1.0))
    assert "quantised-clock" in [n.code for n in notices]
    jitter, triangular = a.rounded["gamma"]
    assert triangular == pytest.approx(0.5, rel=0.06)
    assert jitter > 0.6
    assert a.zero_gap_share > 0.4


def test_counts_of_a_sparse_trace_stay_small(tmp_path: Path) -> None:
    """A request a day for three years: windows of a second would be a hundred million."""
    made = trace(tmp_path, np.arange(1000) * 86_400.0 + np.random.default_rng(10).random(1000))
    timeline = Timeline.of(made)
    assert timeline is not None
    assert len(WindowCounts(timeline, 1).n) <= 1 << 24
    a, _ = fitted(made)
    assert a.rate_per_s == pytest.approx(1 / 86_400, rel=0.01)


def test_dictionary_round_trip(bursty: tuple[Trace, np.ndarray]) -> None:
    a, _ = fitted(bursty[0])
    again = arrivals.from_dict(a.to_dict())
    assert again.to_dict() == a.to_dict()
    assert len(str(a.to_dict())) < 25_000


def test_windows_hold_their_own_gamma(tmp_path: Path) -> None:
    """As BurstGPT describes a trace: the shape of each window's gaps."""
    rng = np.random.default_rng(11)
    a, _ = fitted(trace(tmp_path, np.cumsum(rng.gamma(0.4, 0.25, 60_000))))
    shapes = [s for s in a.window_shapes if s is not None]
    assert len(shapes) > 100
    assert np.median(shapes) == pytest.approx(0.4, rel=0.08)
    assert np.median([c for c in a.window_cvs if c is not None]) == pytest.approx(
        1 / np.sqrt(0.4), rel=0.08
    )


def test_no_row_without_a_time_is_lost(tmp_path: Path) -> None:
    from .tables import stored

    frame = pl.DataFrame(
        {
            "arrival_ns": [i * 10**9 for i in range(100)] + [None] * 50,
            "input_tokens": pl.Series(range(1, 151), dtype=pl.Int32),
            "output_tokens": pl.Series(range(1, 151), dtype=pl.Int32),
            "status": ["ok"] * 150,
        }
    )
    from lamina_traces.aspects import lengths

    t = stored(tmp_path, "llm_requests", frame)
    found = lengths.fit(t, [])
    assert found is not None
    assert found.input.grid.rows == 150
    assert found.pairs == 150
    assert found.spearman == pytest.approx(1)
    a, notices = fitted(t)
    assert a.events == 100
    assert "no-arrival" in [n.code for n in notices]


def test_edges_of_a_log_of_ends_are_trimmed(tmp_path: Path) -> None:
    """Rows written as requests end, by a log that runs from 600 s to 6600 s: the ramp before and the fall after are cut."""
    from lamina_traces.characterization import characterize
    from lamina_traces.store import Store

    rng = np.random.default_rng(12)
    start = np.cumsum(rng.exponential(0.5, 16_000))
    lasts = rng.lognormal(3.4, 0.8, 16_000)
    end = start + lasts
    kept = (end >= 600) & (end < 6600)
    order = np.argsort(end[kept], kind="stable")
    rows = zip(start[kept][order], lasts[kept][order], strict=True)
    source = tmp_path / "ends.csv"
    source.write_text("start,took,in,out\n" + "".join(f"{a:.6f},{b:.6f},10,5\n" for a, b in rows))
    made = Store(tmp_path / "store").ingest(
        [source], "ends", mapping="arrival=start,e2e_s=took,input=in,output=out", time_unit="s"
    )
    profile = characterize(made)
    a = profile.aspect("arrivals")
    assert [n.code for n in profile.notices if n.code == "completion-log"]
    assert a.rate_per_s == pytest.approx(2, rel=0.03)
    assert a.changes == ()
    assert a.idc(60.0) == pytest.approx(1, abs=0.5)
    blind, _ = fitted(made)
    assert blind.rate_per_s < 1.95
    assert blind.changes
    assert blind.idc(60.0) > 2  # type: ignore[operator]


def test_a_log_of_arrivals_keeps_its_edges(tmp_path: Path) -> None:
    from lamina_traces.aspects import edges

    rng = np.random.default_rng(13)
    t = np.cumsum(rng.exponential(0.5, 5000))
    made = trace(tmp_path, t)
    assert edges.trimmed(made, []) is made

"""Tables of measured configurations: by a second route, and the published figures of the real files."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from scipy import stats

from lamina_traces.aspects import from_dict, operating_points
from lamina_traces.aspects.operating_points import OperatingPoints, cap_curves, mean_interval
from lamina_traces.errors import ModelError, Notice
from lamina_traces.store import Store, Trace

from .tables import stored


def fitted(trace: Trace, notices: list[Notice] | None = None) -> OperatingPoints:
    found = operating_points.fit(trace, [] if notices is None else notices)
    assert found is not None
    assert from_dict("operating_points", json.loads(json.dumps(found.to_dict()))) == found
    return found


@pytest.fixture
def table(tmp_path: Path) -> tuple[pl.DataFrame, Trace]:
    """Two devices, ten configurations each, five limits; every run twice, the second 2 % above the first."""
    rng = np.random.default_rng(0)
    rows = []
    for device, top in (("a", 400.0), ("b", 300.0)):
        for k in range(10):
            best = rng.uniform(0.4, 0.9)
            for frac in (0.4, 0.55, 0.7, 0.85, 1.0):
                energy, time = 1000 * (1 + (frac - best) ** 2), 100 * frac**-0.5
                rows += [
                    (device, f"m{k}", 64, frac * top, energy * r, time * r) for r in (1.0, 1.02)
                ]
    names = ["device_name", "model", "batch_size", "power_limit_w", "energy_j", "duration_s"]
    frame = pl.DataFrame(rows, schema=names, orient="row")
    frame = frame.with_columns(pl.col("batch_size").cast(pl.Int32))
    return frame, stored(tmp_path, "operating_points", frame)


def test_limits_against_a_plain_loop(table: tuple[pl.DataFrame, Trace]) -> None:
    frame, trace = table
    p = fitted(trace)
    assert [c.device_name for c in p.caps] == ["a", "b"]
    for cap in p.caps:
        change, ratio = [], []
        for _, g in frame.filter(device_name=cap.device_name).group_by("model"):
            mean = g.group_by("power_limit_w").agg(pl.col("energy_j", "duration_s").mean())
            most = mean.sort("power_limit_w").row(-1, named=True)
            best = mean.sort("energy_j").row(0, named=True)
            change.append(best["energy_j"] / most["energy_j"] - 1)
            ratio.append(best["duration_s"] / most["duration_s"])
        assert cap.energy_change == pytest.approx(np.mean(change), rel=1e-5)
        assert cap.time_ratio == pytest.approx(np.mean(ratio), rel=1e-5)
        assert cap.configurations == 10
        assert [x[3] for x in cap.curve] == [10] * 5
        assert cap.curve[-1][:3] == (1.0, 1.0, 1.0)
        want = stats.t.interval(0.95, 9, np.mean(change), stats.sem(change))
        assert cap.energy_interval is not None
        assert (cap.energy_interval.low, cap.energy_interval.high) == pytest.approx(want, rel=1e-3)


def test_one_limit_says_nothing() -> None:
    assert cap_curves([("a", "x", 300.0, 1.0, 1.0), ("a", "y", 200.0, 1.0, 1.0)]) == ()
    assert mean_interval([1.0, 2.0]) is None


def test_batches_and_the_identity(tmp_path: Path) -> None:
    sizes = np.array([1, 2, 4, 8] * 2)
    energy = np.array([8.0, 4.0, 2.0, 1.0, 8.0, 4.0, 2.0, 2.5])
    frame = pl.DataFrame(
        {
            "device_name": ["h"] * 8,
            "model": ["falls"] * 4 + ["turns"] * 4,
            "devices": np.full(8, 2, dtype=np.int32),
            "batch_size": sizes.astype(np.int32),
            "energy_per_token_j": energy,
            "throughput_tps": 100.0 * sizes,
            "mean_power_w": energy * 100.0 * sizes,
        }
    )
    p = fitted(stored(tmp_path, "operating_points", frame))
    assert {b.model: b.spearman for b in p.batches} == {"falls": -1.0, "turns": pytest.approx(-0.8)}
    assert (p.batch_groups, p.batch_falling) == (2, 0.5)
    assert p.batches[0].least_j_per_token == 1.0
    assert p.devices[0].identity_error == pytest.approx(0, abs=1e-12)
    assert p.devices[0].median_w == pytest.approx(np.median(energy * 50.0 * sizes))
    off = frame.with_columns(pl.col("mean_power_w") * 1.1)
    p = fitted(stored(tmp_path, "operating_points", off, "off"))
    assert p.devices[0].identity_error == pytest.approx(0.1, rel=1e-6)


def test_runs_above_their_limit_are_said(tmp_path: Path) -> None:
    frame = pl.DataFrame(
        {
            "device_name": ["a"] * 2, "power_limit_w": [100.0, 200.0], "mean_power_w": [105.0, 150.0],
            "energy_j": [90.0, 100.0], "duration_s": [1.2, 1.0],
        }
    )  # fmt: skip
    notices: list[Notice] = []
    p = fitted(stored(tmp_path, "operating_points", frame), notices)
    assert [n.code for n in notices] == ["over-limit"]
    assert (p.devices[0].over_limit, p.devices[0].limited) == (1, 2)
    assert any(f.warning == "over-limit" for f in p.findings())


def test_a_table_that_says_none_of_it(tmp_path: Path) -> None:
    frame = pl.DataFrame({"device_name": ["a"], "mean_power_w": [5.0]})
    notices: list[Notice] = []
    assert operating_points.fit(stored(tmp_path, "operating_points", frame), notices) is None
    assert [n.code for n in notices] == ["too-few-rows"]


def test_other_windows_are_left_to_power_in_silence(tmp_path: Path) -> None:
    frame = pl.DataFrame(
        {"arrival_ns": [0, 1], "label": ["epoch_1", "epoch_2"], "device": ["gpu0"] * 2, "domain": ["gpu"] * 2, "duration_s": [1.0, 1.0], "energy_j": [5.0, 6.0]}
    )  # fmt: skip
    notices: list[Notice] = []
    assert operating_points.fit(stored(tmp_path, "power_windows", frame), notices) is None
    assert notices == []


@pytest.mark.parametrize(
    "damage",
    [
        lambda d: d["caps"][0].update(energy_change=-1.5),
        lambda d: d["caps"][0].update(limit_frac=1.5),
        lambda d: d["caps"][0].update(time_ratio=float("nan")),
        lambda d: d["caps"][0]["curve"][0].__setitem__(1, -1.0),
        lambda d: d.update(batch_falling=2.0),
        lambda d: d.update(batch_spearman=-3.0),
    ],
)
def test_a_damaged_profile_is_refused(
    table: tuple[pl.DataFrame, Trace], damage: Callable[[dict[str, Any]], None]
) -> None:
    d = json.loads(json.dumps(fitted(table[1]).to_dict()))
    damage(d)
    with pytest.raises(ModelError):
        from_dict("operating_points", d)


def test_score(table: tuple[pl.DataFrame, Trace]) -> None:
    _, trace = table
    lines = operating_points.score(trace, trace)
    assert len(lines) == 4
    assert all(x.value == 0 for x in lines)


# --- real files ------------------------------------------------------------------------------------


@pytest.mark.real_data
@pytest.mark.parametrize(
    ("gpu", "energy", "time", "over"), [("v100", -0.214, 1.165, 8), ("rtx6000", -0.201, 1.162, 0)]
)
def test_zeus_sweeps(
    real_data: Path, tmp_path: Path, gpu: str, energy: float, time: float, over: int
) -> None:
    p = fitted(Store(tmp_path).ingest([real_data / f"power/zeus-nsdi23/summary_power_{gpu}.csv"], gpu))  # fmt: skip
    assert (p.caps[0].energy_change, p.caps[0].time_ratio) == pytest.approx((energy, time), abs=5e-4)  # fmt: skip
    assert p.devices[0].over_limit == over


@pytest.mark.real_data
def test_ml_energy(real_data: Path, tmp_path: Path) -> None:
    file = real_data / "power/ml-energy-v3/llm_configurations_H100.csv"
    p = fitted(Store(tmp_path).ingest([file], "m"))
    assert p.devices[0].configurations == 405
    assert p.devices[0].median_w == pytest.approx(496, abs=0.5)
    assert (p.devices[0].identity_error or 0) < 1e-14
    assert p.batch_spearman == -1.0
    by = {(b.model, b.workload): b.least_j_per_token for b in p.batches}
    assert by["openai/gpt-oss-20b", "gpqa"] == pytest.approx(0.0442, abs=5e-5)
    assert by["meta-llama/Llama-3.1-8B-Instruct", "lm-arena-chat"] == pytest.approx(0.0702, abs=5e-5)  # fmt: skip
    assert len(json.dumps(p.to_dict())) < 20_000


@pytest.mark.real_data
def test_splitwise(real_data: Path, tmp_path: Path) -> None:
    file = real_data / "power/splitwise-sim/perf_model_llama2-70b.csv"
    p = fitted(Store(tmp_path).ingest([file], "s"))
    got = {(f.dimension, f.level): (f.peak_frac, f.mean_frac) for f in p.fractions}
    for tp, want in ((2, (1.037, 0.694)), (4, (0.971, 0.563)), (8, (0.823, 0.412))):
        assert got["tensor_parallel", tp] == pytest.approx(want, abs=6e-4)
    for tokens, peak in ((128, 0.70), (512, 0.96), (2048, 1.02), (4096, 1.05)):
        assert got["input_tokens", tokens][0] == pytest.approx(peak, abs=5e-3)


@pytest.mark.real_data
def test_zeus_optimizer_windows(real_data: Path, tmp_path: Path) -> None:
    file = real_data / "power/zeus-monitor-log/A40+bert-base-uncased+gpu0.csv"
    p = fitted(Store(tmp_path).ingest([file], "z"))
    assert p.evidence == "windows"
    rows = [line.split(",") for line in file.read_text().splitlines()[1:]]
    energy = {float(r[1].rsplit("_", 1)[1]): (float(r[3]), float(r[2])) for r in rows}
    best = min(energy, key=lambda w: energy[w][0])
    cap = p.caps[0]
    assert cap.limit_frac == pytest.approx(best / 300, abs=1e-4)
    assert cap.energy_change == pytest.approx(energy[best][0] / energy[300.0][0] - 1, abs=1e-5)
    assert cap.time_ratio == pytest.approx(energy[best][1] / energy[300.0][1], abs=1e-5)
    four = real_data / "power/zeus-monitor-log/A40+resnet50+gpu0_1_2_3.csv"
    notices: list[Notice] = []
    p = fitted(Store(tmp_path).ingest([four], "four"), notices)
    assert [n.code for n in notices] == ["same-work"]
    assert [c.device_name for c in p.caps] == ["4 devices"]
    sums = [sum(map(float, r.split(",")[3:])) for r in four.read_text().splitlines()[1:]]
    assert p.caps[0].energy_change == pytest.approx(min(sums) / sums[0] - 1, abs=1e-5)

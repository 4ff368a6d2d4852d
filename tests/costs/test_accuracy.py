"""The published accuracy holds (folder in LAMINA_TRACES_GROUND_TRUTH), by constants fitted without the points too."""

from __future__ import annotations

import csv
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmarks.accuracy import Held, power_errors, power_left_out
from lamina_traces.costs import ERAS, era
from lamina_traces.costs.calibration import Design, calibrate, values_of
from lamina_traces.costs.points import RULES, Point, Points, predict, read_points
from lamina_traces.errors import DataError
from lamina_traces.hardware import device, model

FOLDER = os.environ.get("LAMINA_TRACES_GROUND_TRUTH")
real = pytest.mark.skipif(FOLDER is None, reason="LAMINA_TRACES_GROUND_TRUTH is not set")


@pytest.fixture(scope="module")
def points() -> Points:
    return read_points(Path(str(FOLDER)) / "operating_points.csv")


@pytest.fixture(scope="module")
def held(points: Points) -> Held:
    return Held.of(points)


@real
@pytest.mark.real_data
def test_tpot(held: Held) -> None:
    moe = np.array([p.moe for p in held.points])
    shipped = np.abs(held.shipped())
    assert len(shipped) > 1400
    assert shipped.mean() < 0.105
    assert shipped[~moe].mean() < 0.09
    assert shipped[moe].mean() < 0.14


@real
@pytest.mark.real_data
def test_tpot_of_gpus_and_models_that_the_fit_has_not_seen(held: Held) -> None:
    moe = np.array([p.moe for p in held.points])
    for name, of in (("GPU", lambda p: p.device.name), ("model", lambda p: p.model.name)):
        error = np.abs(held.left_out(of))
        print(f"{name} left out: {error.mean():.1%}, dense {error[~moe].mean():.1%}")
        assert error.mean() < 0.13
        assert error[~moe].mean() < 0.115


@real
@pytest.mark.real_data
def test_tpot_with_four_points(held: Held) -> None:
    few = held.few(4)
    assert np.nanmean(few) < 0.09


@real
@pytest.mark.real_data
def test_power_and_throughput(points: Points) -> None:
    powered = [p for p in points.kept if "power_w" in p.measured]
    assert np.abs(power_errors(powered)).mean() < 0.075
    assert np.abs(power_left_out(powered)).mean() < 0.08
    rates = [p for p in points.kept if "output_tok_s" in p.measured]
    errors = [
        predict(p, ERAS[p.era])["output_tok_s"] / p.measured["output_tok_s"] - 1 for p in rates
    ]
    assert np.abs(errors).mean() < 0.10


ROW = {
    "source": "here", "model": "meta-llama/Llama-3.1-70B", "gpu": "H100-SXM-80GB", "n_gpus": "4", "tp": "4",
    "dp": "1", "ep": "1", "engine": "vllm-0.1", "precision": "fp8", "mode": "closed_loop_agg",
    "load_kind": "concurrency", "load": "16", "input_tokens": "1024", "output_tokens": "1024",
    "metric": "tpot_ms", "value": "15", "unit": "ms", "n_samples": "1", "extra": "",
}  # fmt: skip


def table(tmp_path: Path, *rows: dict[str, Any]) -> Points:
    path = tmp_path / "points.csv"
    with path.open("w", newline="") as f:
        writer = csv.DictWriter(f, list(ROW))
        writer.writeheader()
        writer.writerows({**ROW, **r} for r in rows)
    return read_points(path)


R1 = {"model": "deepseek-ai/DeepSeek-R1", "gpu": "H200", "n_gpus": "8", "tp": "8"}


@pytest.mark.parametrize(
    ("rule", "rows"),
    [
        ("suspect", [{"extra": "SUSPECT_TP"}]),
        ("logged", [{"extra": "per-request file in requests/"}]),
        ("metric", [{"metric": "itl_ms_p99"}]),
        ("unknown", [{"gpu": "H1000"}]),
        ("incomplete", [{"load": ""}]),
        ("incomplete", [{"value": "-3"}]),
        ("parallel", [{"tp": "28", "n_gpus": "28"}]),
        ("duplicate", [{}, {}]),
        ("memory", [{"tp": "1", "n_gpus": "1", "precision": "bf16"}]),
        ("overfull", [{"load": "4096"}]),
        ("queued", [{}, {"metric": "ttft_ms", "value": "20000"}]),
        ("faster-than-light", [{"value": "2"}]),
        ("speculative", [{**R1, "engine": "trtllm-1", "value": "20"}, {**R1, "engine": "trtllm-2", "value": "10"}]),
    ],
)  # fmt: skip
def test_rows_are_rejected_by_rule(tmp_path: Path, rule: str, rows: list[dict[str, Any]]) -> None:
    assert rule in RULES
    found = table(tmp_path, {"load": "8", "value": "12"}, *rows)
    assert found.rejected.get(rule, 0) >= 1, found.rejected
    assert found.rows == len(rows) + 1
    # the good row stays, and of duplicates one, of two engines the slower
    stays = rule in ("duplicate", "speculative")
    assert len(found.kept) == (2 if stays else 1)


def test_a_table_of_another_kind_is_refused(tmp_path: Path) -> None:
    (tmp_path / "x.csv").write_text("a,b\n1,2\n")
    with pytest.raises(DataError, match="lacks the columns"):
        read_points(tmp_path / "x.csv")
    with pytest.raises(DataError, match="cannot be read"):
        read_points(tmp_path / "none.csv")


def measured(load: float, factor: float) -> Point:
    p = Point(
        "here", model("llama-3.1-8b"), device("l40s"), 1, 1, 1, 1, "vllm", "bf16", None, "closed",
        load, 512, 512,
    )  # fmt: skip
    return Point(
        **{**p.__dict__, "measured": {"tpot_s": predict(p, era("2025"))["tpot_s"] * factor}}
    )


def test_the_table_of_a_fit_is_the_model(tmp_path: Path) -> None:
    points = [measured(n, 1.0) for n in (1, 8, 64)]
    design = Design.of(points)
    assert design.predict(values_of(era("2025"))) == pytest.approx(design.measured, rel=1e-12)


def test_a_few_points_move_the_prior_toward_them_and_no_further() -> None:
    prior = era("2025")
    same = calibrate([measured(n, 1.0) for n in (4, 32)], prior, "here")
    assert same.memory.value == pytest.approx(prior.memory.value, rel=1e-3)
    slower = [measured(n, 1.25) for n in (1, 4, 16, 64)]
    found = calibrate(slower, prior, "here")
    errors = [predict(p, found)["tpot_s"] / p.measured["tpot_s"] - 1 for p in slower]
    assert np.abs(errors).max() < 0.08
    assert (found.memory.basis, found.memory.source) == ("fitted", "here")
    assert all(q.value <= 1 for n, q in found.quantities().items() if not q.unit)

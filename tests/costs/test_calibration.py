"""Calibration: a machine of known efficiencies comes back from its own points; its file is taken by a spec."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from lamina_traces import specs
from lamina_traces.costs import era
from lamina_traces.costs.calibration import KNOBS, assess, timed, values_of
from lamina_traces.costs.points import Point, predict
from lamina_traces.costs.probe import SIZES, probe
from lamina_traces.errors import DataError, LaminaError, UsageError
from lamina_traces.hardware import device, model
from lamina_traces.specs import Calibration, load_calibration

TRUE = {"compute": 0.85, "memory": 0.8, "overhead": 1.3}


def machine(factors: Mapping[str, float] = TRUE) -> list[Point]:
    """Points of a synthetic machine: the prior with each knob's values times its factor; few tokens with many users,
    long prompts and long answers, so that all three bind somewhere."""
    prior = era("2025")
    old = values_of(prior)
    true = prior.with_values(
        {n: old[n] * factors[k] for k, names in KNOBS.items() for n in names}, "made up", "assumed"
    )
    points = []
    for name in ("llama-3.1-8b", "llama-3.2-1b", "qwen3-0.6b"):
        for load in (1, 2, 4, 8, 16, 32, 64):
            for inputs, outputs in ((128, 1024), (2048, 64), (4096, 128)):
                p = Point(
                    "here", model(name), device("h100-sxm"), 1, 1, 1, 1, "vllm", "bf16", None, "closed",
                    load, inputs, outputs,
                )  # fmt: skip
                points.append(replace(p, measured={"tpot_s": predict(p, true)["tpot_s"]}))
    return points


def test_a_machine_comes_back_from_its_own_points() -> None:
    found = assess(machine(), era("2025"), "points")
    for knob, factor in TRUE.items():
        assert found.factors[knob] == pytest.approx(factor, rel=0.02), found.factors
    assert found.left_out is not None
    assert np.abs(found.left_out).max() < 0.02 < np.abs(found.before).max()
    few = [e for e in found.few.values() if e is not None]
    assert len(few) == 3
    assert np.abs(found.before).mean() > few[0] > few[-1]


def test_one_point_has_no_leave_one_out() -> None:
    found = assess(machine()[:1], era("2025"), "points")
    assert found.left_out is None
    assert set(found.few.values()) == {None}


def test_throughput_of_a_closed_loop_says_tpot() -> None:
    p = machine()[4]
    rate = p.load / p.measured["tpot_s"]
    other = timed(replace(p, measured={"output_tok_s": rate}))
    assert other is not None
    assert other.measured["tpot_s"] == pytest.approx(p.measured["tpot_s"])
    assert timed(replace(p, measured={"ttft_s": 1.0})) is None
    assert timed(replace(p, mode="open")) is None


def made(**more: object) -> Calibration:
    fields: dict[str, object] = {
        "efficiency": {"memory": 0.7, "step_s": 1e-3}, "basis": "fitted", "date": "2026-01-02", "points": 4,
        "deployments": ("llama-3.1-8b on l40s, bf16",), "inputs": (('a "run".json', "ab" * 32),),
        "errors": {"tpot_before": 0.2},
    }  # fmt: skip
    return Calibration(**{**fields, **more})  # type: ignore[arg-type]


def test_a_file_round_trips_and_reaches_the_spec(tmp_path: Path) -> None:
    path = tmp_path / "c.toml"
    path.write_text(made().dumps())
    assert load_calibration(path) == made()
    plain = specs.simple("llama-3.1-8b", "l40s")
    spec = load_calibration(path).apply(plain)
    memory = specs.efficiency(spec).memory
    assert (memory.value, memory.basis) == (0.7, "fitted")
    assert "4 points" in memory.source
    assert "2026-01-02" in memory.source
    assert specs.loads(specs.dumps(spec)) == spec
    assert made().is_of(spec)
    assert not made().is_of(specs.simple("llama-3.1-8b", "h100-sxm"))
    with pytest.raises(UsageError, match="the spec states memory"):
        made().apply(replace(plain, efficiency={"memory": 0.5}))
    with pytest.raises(UsageError, match="era 2023"):
        made().apply(replace(plain, era="2023"))


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("x = ", "cannot be read"),
        ("x = 1", "is no calibration"),
        (made().dumps().replace('"fitted"', '"guessed"'), "basis"),
        (made().dumps().replace("memory = 0.7", 'memory = "much"'), "not a table of numbers"),
        (made().dumps().replace('"2025"', '"1999"'), "software era"),
    ],
)
def test_a_broken_file_is_refused(tmp_path: Path, text: str, said: str) -> None:
    path = tmp_path / "c.toml"
    path.write_text(text)
    with pytest.raises(LaminaError, match=said):
        load_calibration(path)
    with pytest.raises(DataError, match="cannot be read"):
        load_calibration(tmp_path / "none.toml")


@pytest.mark.parametrize("value", [0.0, 1.5, float("nan")])
def test_an_impossible_share_is_refused(value: float) -> None:
    with pytest.raises(LaminaError, match="impossible"):
        made(efficiency={"memory": value}).apply(specs.simple("llama-3.1-8b", "l40s"))


def test_this_machine_is_measured_through_numpy() -> None:
    small = replace(SIZES["cpu"], matrix=256, copied=1 << 22, prompt=64, context=256, seconds=0.05)
    found = probe("cpu", small)
    assert set(found.figures) == {
        "gemm_tflops", "memory_gb_s", "attention_tflops", "kv_gb_s", "launch_s",
    }  # fmt: skip
    assert all(0 < v < 1e4 for v in found.figures.values())
    shares = found.shares(device("l40s"))
    l40s = device("l40s").flops_per_s("bf16")
    assert shares["compute"] == pytest.approx(found.figures["gemm_tflops"] * 1e12 / l40s)
    assert all(0 < v <= 1 for v in shares.values())


def test_cuda_without_torch_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torch", None)
    with pytest.raises(UsageError) as e:
        probe("cuda")
    assert "lamina-traces[torch]" in str(e.value.hint)

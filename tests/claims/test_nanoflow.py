"""NanoFlow's claims against scipy, and what their notes say."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from scipy.optimize import linprog

from lamina_traces.claims import claims
from lamina_traces.claims.nanoflow import MEASURED
from lamina_traces.hardware import model

# arXiv 2408.12757, interference: share of the device → performance, as typed in from the paper a second time
MEMORY = [(0, 0), (0.1, 0.2), (0.2, 0.3), (0.4, 0.8), (0.8, 0.85), (0.9, 0.95), (1, 1)]
NETWORK = [(0, 0), (0.1, 0.3), (0.2, 0.5), (0.8, 0.9), (0.9, 1), (1, 1)]


def best(compute: float, memory: float, network: float) -> float:
    at_once = [(1 - a - b, p, q) for (a, p), (b, q) in itertools.product(MEMORY, NETWORK) if a + b <= 1]  # fmt: skip
    found = linprog(
        np.ones(len(at_once)), A_ub=-np.array(at_once).T, b_ub=[-compute, -memory, -network]
    )
    assert found.success
    return float(found.fun)


def rate(ms: float) -> float:
    return 2048 / ms * 1e3 / 8


def test_measured_times() -> None:
    matrices = sum(MEASURED[op][1] for op in ("qkv", "o", "up_gate", "down"))
    compute, memory, network = matrices + 4.56, 35.60, 47.92
    assert compute + memory + network == pytest.approx(225.05)
    overlapped = rate(best(matrices * 1.126 + 4.56, memory, network))
    assert claims()["nanoflow-overlap-measured-times"].measure() == pytest.approx(overlapped)
    note = claims()["nanoflow-overlap-measured-times"].note
    everywhere = rate(best(compute, memory, network) * 1.126)
    iteration = rate(best(compute + 0.126 * 225.05, memory, network))
    assert f"{everywhere:.0f}" in note
    assert f"{iteration:.0f}" in note


def test_ceiling() -> None:
    shape = model("llama-2-70b")
    layers = shape.params - 2 * shape.vocab * shape.hidden
    assert claims()["nanoflow-ceiling"].measure() == pytest.approx(260e12 / (2 * layers), rel=1e-3)
    assert pytest.approx(1857, abs=0.5) == 260e12 / (2 * 70e9)
    assert 280e12 / (2 * 70e9) == 2000  # the trap


def test_a_served_run_is_its_mean_iteration() -> None:
    """The clock, whose batches fill and empty, against one iteration that is said to be the mean."""
    for served, one in (
        ("nanoflow-served-no-overlap", "nanoflow-no-overlap-512-512"),
        ("nanoflow-served-gain", "nanoflow-gain-512-512"),
    ):
        assert claims()[served].measure() == pytest.approx(claims()[one].measure(), rel=0.02)

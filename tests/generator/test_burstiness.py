"""What IDC a plan should bring: by theory, against many generated days."""

from __future__ import annotations

import math

import numpy as np
import pytest

from lamina_traces import generator
from lamina_traces.aspects import renewal
from lamina_traces.aspects.modulation import steady
from lamina_traces.generator import Options
from lamina_traces.generator.burstiness import noise
from lamina_traces.profile import Profile
from lamina_traces.units import parse_rate
from lamina_traces.workloads import open_profile

HOUR = 3600 * 10**9


@pytest.fixture(scope="module")
def code() -> Profile:
    return open_profile("azure-code", store=None, say=lambda _text: None)


@pytest.mark.parametrize(
    ("rate", "options"),
    [
        ("x4", Options()),
        ("x4", Options(scale_by="clients")),
        ("x2.5", Options(scale_by="clients")),
        ("x0.25", Options()),
        ("x4", Options(scale_by="time")),
        ("x1", Options(idc_scale=3.0)),
    ],
)
def test_the_expected_idc_is_what_days_bring(code: Profile, rate: str, options: Options) -> None:
    factor = parse_rate(rate)
    due = generator.expected_burstiness(generator.plan(code, duration_ns=HOUR, rate=factor, options=options))  # fmt: skip
    found = []
    for seed in range(6):
        t = np.concatenate([f["arrival_ns"].to_numpy() for f in generator.generate(code, duration_ns=2 * HOUR, rate=factor, seed=seed, options=options)])  # fmt: skip
        n = np.bincount(t // 10**9, minlength=7200)
        found.append(n.var() / n.mean())
    idc = due["idc_1s"]
    assert idc is not None
    assert math.log(np.mean(found) / idc) == pytest.approx(0, abs=0.2)


def test_nothing_is_expected_beside_the_profile_where_nothing_is_asked(code: Profile) -> None:
    plan = generator.plan(code, duration_ns=HOUR)
    assert generator.expected_burstiness(plan) == {}
    assert generator.profile_burstiness(plan)["idc_1s"] == pytest.approx(13.19, abs=0.01)
    steadily = generator.plan(code, duration_ns=HOUR, rate=parse_rate("x2"), options=Options(arrivals="poisson"))  # fmt: skip
    assert generator.expected_burstiness(steadily) == {}


def test_a_coarse_clock_tells_no_dispersion() -> None:
    law = open_profile("mooncake-conversation", store=None, say=lambda _text: None)
    due = generator.expected_burstiness(generator.plan(law, rate=parse_rate("x4")))
    assert due["idc_1s"] is None
    assert due["idc_60s"] == pytest.approx(8.7, rel=0.1)


def test_noise_is_that_of_the_gaps() -> None:
    even = steady(renewal.UnitLaw("gamma", 0.5))
    assert noise(even, 1000.0) == pytest.approx(0.25)
    assert noise(even, 0.01) == pytest.approx(1, abs=0.02)
    assert noise(steady(renewal.UnitLaw("exponential", 1.0)), 7.0) == pytest.approx(1, abs=0.03)

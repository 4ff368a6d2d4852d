"""Speculative decoding: neutral is identity, equation 1, and the direction of its effect."""

from __future__ import annotations

import numpy as np
import pytest

from lamina_traces import techniques
from lamina_traces.costs import State
from lamina_traces.errors import UnknownName, UsageError
from lamina_traces.schema import Requests
from lamina_traces.simulator import simulate
from lamina_traces.specs import simple, step_model
from lamina_traces.techniques.speculative_decoding import tokens_per_step


def requests(n: int = 1200, output: int = 101) -> Requests:
    return Requests.make(np.arange(n) * 400_000_000, np.full(n, 500), np.full(n, output))


def test_neutral_setting_changes_nothing() -> None:
    for t in techniques.TECHNIQUES.values():
        a = [techniques.Applied(t, t.neutral)]
        spec = simple("llama-3.1-8b", "h100-sxm")
        model = step_model(spec)
        r = requests()
        assert techniques.apply_spec(a, spec) == spec
        assert (techniques.apply_requests(a, r).steps == r.steps).all()
        for state in (
            State.decode(30, 900),
            State.prefill(512),
            State.decode(5, 100) + State.prefill(77, 40),
        ):
            assert techniques.apply_step(a, model).seconds(state) == model.seconds(state)


def test_equation_1() -> None:
    """E as the mean of a truncated geometric, summed by hand: Σ_{i<γ} (i+1)·α^i·(1−α) + (γ+1)·α^γ."""
    for a, g in ((0.7, 3), (0.1, 5), (0.95, 8)):
        by_hand = sum((i + 1) * a**i * (1 - a) for i in range(g)) + (g + 1) * a**g
        assert tokens_per_step(a, g) == pytest.approx(by_hand)
    assert tokens_per_step(1.0, 4) == 5
    assert tokens_per_step(0.0, 4) == 1


def test_good_drafts_cut_decode_time_and_bad_ones_cost() -> None:
    spec = simple("llama-3.1-70b", "h100-sxm", tp=4)
    base = simulate(requests(), spec).metrics["tpot_p50_s"]

    def with_(text: str) -> float:
        a = [techniques.parse(text)]
        r = simulate(
            techniques.apply_requests(a, requests()),
            spec,
            techniques.apply_step(a, step_model(spec)),
        )
        value = r.metrics["tpot_p50_s"]
        assert value is not None
        return float(value)

    assert base is not None
    assert with_("speculative-decoding:acceptance=0.8") < 0.6 * base
    assert with_("speculative-decoding:acceptance=0,draft_size=0.1") > base


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("speculative", UnknownName),
        ("speculative-decoding:x=1", UnknownName),
        ("speculative-decoding:acceptance=2", UsageError),
        ("speculative-decoding:acceptance=nan", UsageError),
        ("speculative-decoding:acceptance=a", UsageError),
    ],
)
def test_bad_parameters(text: str, error: type[Exception]) -> None:
    with pytest.raises(error):
        techniques.parse(text)


def test_naming_one_twice_is_refused() -> None:
    a = techniques.parse("speculative-decoding")
    with pytest.raises(UsageError, match="cannot be combined"):
        techniques.check([a, a])

"""The generators that are measured against do what their papers and sources say, flaws included."""

from __future__ import annotations

import numpy as np
import pytest

from lamina_traces.aspects.rows import Rows, spearman
from lamina_traces.fidelity import baselines

from .workloads import drawn

SPAN = 3_600 * 10**9


def counts(rows: Rows, width_s: float) -> np.ndarray:
    k = int(rows.span_s // width_s)
    return np.histogram(rows.arrival_ns / 1e9, bins=np.arange(k + 1) * width_s)[0]


def test_poisson_has_the_rate_and_an_idc_of_one() -> None:
    a = drawn(0, shape=0.2)
    made = [baselines.poisson(a, SPAN, np.random.default_rng(s)) for s in range(20)]
    n = np.array([len(m) for m in made])
    expected = a.timed / a.span_ns * SPAN
    assert n.mean() == pytest.approx(expected, abs=3 * np.sqrt(expected / 20))
    assert n.var(ddof=1) / n.mean() == pytest.approx(1, abs=3 * np.sqrt(2 / 19))
    assert abs(spearman(made[0].input_tokens, made[0].output_tokens) or 0) < 3 / np.sqrt(n[0])


def test_vllm_gamma_has_the_cv_and_pins_the_count() -> None:
    a = drawn(1, 20_000, shape=0.25)
    made = [baselines.vllm_gamma(a, SPAN, np.random.default_rng(s)) for s in range(5)]
    assert len({len(m) for m in made}) == 1
    assert all(m.arrival_ns[-1] == pytest.approx(SPAN, abs=2) for m in made)
    cv = [m.gap_s.std() / m.gap_s.mean() for m in made]
    assert np.mean(cv) == pytest.approx(a.gap_s.std() / a.gap_s.mean(), rel=0.05)


def test_piecewise_gamma_fixes_the_count_of_each_window() -> None:
    """Measured of ServeGen: 3,000 ± 1 requests in every window, where gamma gaps of shape 0.25 imply ± 110."""
    a = drawn(2, 20_000, shape=0.25)
    real = counts(a, 600)
    for seed in range(3):
        made = baselines.piecewise_gamma(a, a.span_ns, np.random.default_rng(seed))
        assert np.abs(counts(made, 600) - real).max() <= 1
    assert real.std() > 10


def test_row_bootstrap_copies_rows_with_their_gaps() -> None:
    a = drawn(3, 3000, shape=0.3)
    made = baselines.row_bootstrap(a, SPAN, np.random.default_rng(0))
    source = set(zip(np.diff(a.arrival_ns), a.input_tokens[1:], a.output_tokens[1:], strict=True))
    copied = zip(
        np.diff(made.arrival_ns), made.input_tokens[1:], made.output_tokens[1:], strict=True
    )
    assert set(copied) <= source
    assert made.arrival_ns[-1] < SPAN <= made.arrival_ns[-1] + np.diff(a.arrival_ns).max()


def test_block_bootstrap_copies_blocks_and_keeps_the_phase_of_the_clock() -> None:
    """A log that releases every 3 s: block borders must not put stamps off its beat."""
    a = drawn(4, 12_000, rate=3.0)
    beat = 3 * 10**9
    a = a.take(np.arange(len(a)), a.arrival_ns // beat * beat, a.span_ns)
    made = baselines.block_bootstrap(a, SPAN, np.random.default_rng(0))
    assert made.span_ns == SPAN
    assert set(np.unique(made.arrival_ns % beat)) == {0}
    assert np.all(np.diff(made.arrival_ns) >= 0)
    expected = a.timed / a.span_ns * SPAN
    assert len(made) == pytest.approx(expected, rel=4 / np.sqrt(expected))
    # of the neighbours inside a block, nearly all are neighbours in the source
    pairs = set(zip(a.input_tokens[:-1], a.input_tokens[1:], strict=True))
    kept = [p in pairs for p in zip(made.input_tokens[:-1], made.input_tokens[1:], strict=True)]
    assert 1 - np.mean(kept) <= (SPAN / (300 * 10**9)) / len(made)


@pytest.mark.parametrize("make", [*baselines.MAKING.values(), *baselines.COPYING.values()])
def test_tiny_and_even_traces(make: baselines.Baseline) -> None:
    """Equal gaps, equal stamps, few rows: rows inside the span, in order."""
    for step in (0, 10**9):
        a = drawn(5, 25)
        a = a.take(np.arange(25), np.arange(25, dtype=np.int64) * step, 25 * 10**9)
        made = make(a, 50 * 10**9, np.random.default_rng(0))
        assert np.all(np.diff(made.arrival_ns) >= 0)
        assert len(made) == made.timed
        assert made.timed == 0 or 0 <= made.arrival_ns[0] <= made.arrival_ns[-1] <= 50 * 10**9

"""Quantile grids: what is drawn has the source's mean and tail, and nothing tells of fewer than ten rows."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from lamina_traces.counts import Counts
from lamina_traces.distributions import K_ANONYMITY, Grid, QuantileCurve
from lamina_traces.errors import ModelError

Array = npt.NDArray[np.float64]

LAWS: dict[str, Callable[[np.random.Generator, int], Array]] = {
    "lognormal": lambda rng, n: np.rint(rng.lognormal(6, 1.5, n)),
    "wide lognormal": lambda rng, n: np.rint(rng.lognormal(6, 2.0, n)),
    "Pareto": lambda rng, n: 100 * (1 + rng.pareto(1.5, n)),
    "capped": lambda rng, n: np.minimum(np.rint(rng.lognormal(6, 1.0, n)), 2048.0),
}


@pytest.mark.parametrize("name", LAWS)
@pytest.mark.parametrize("rows", [300, 20_000, 400_000])
def test_means_and_far_quantiles_come_back(name: str, rows: int) -> None:
    """A straight last step would make lognormal lengths of σ 1.5 some 30 % longer."""
    rng = np.random.default_rng(rows)
    x = LAWS[name](rng, rows)
    grid = Grid.of(Counts.of(x))
    y = grid.drawn(rng.random(2_000_000))
    assert grid.curve.mean == pytest.approx(x.mean(), rel=0.015)
    for q in (0.5, 0.9, 0.99, 1 - 30 / rows):
        assert np.quantile(y, q) == pytest.approx(np.quantile(x, q), rel=0.02 + 1 / np.sqrt(rows * (1 - q))), q  # fmt: skip
    for kept in (Grid.from_dict(grid.to_dict()), grid.scaled(3.0).scaled(1 / 3)):
        u = rng.random(1000)
        assert kept.curve.quantile(u) == pytest.approx(grid.curve.quantile(u), rel=1e-9)
    few = grid.thinned(65)
    assert few.curve.mean == pytest.approx(x.mean(), rel=0.03)
    assert len(few.values) == min(65, len(grid.values))


@pytest.mark.parametrize("rows", [25, 1000, 100_000])
def test_no_step_tells_of_fewer_than_ten_rows(rows: int) -> None:
    x = np.random.default_rng(1).lognormal(0, 2, rows)
    grid = Grid.of(Counts.of(x))
    ranks, values = grid.knots
    assert (np.diff(ranks) * rows >= K_ANONYMITY - 1).all()
    assert values[0] >= np.sort(x)[K_ANONYMITY - 1] * (1 - 1e-6)
    assert values[-1] <= np.sort(x)[-K_ANONYMITY] * (1 + 1e-6)
    assert len(grid.tail_means) == (len(grid.tail) + 1 if len(grid.tail) else 0)


def test_drawn_is_the_quantile_and_rank_its_inverse() -> None:
    rng = np.random.default_rng(2)
    grid = Grid.of(Counts.of(np.rint(rng.lognormal(5, 1, 50_000))))
    u = rng.random(10_000)
    assert grid.drawn(u.copy()) == pytest.approx(grid.curve.quantile(u), rel=1e-9)
    ranks, values = grid.knots
    assert grid.curve.quantile(ranks[:-1]) == pytest.approx(values[:-1], rel=1e-9)
    assert (grid.quantile(ranks) == values).all()
    smooth = Grid.of(Counts.of(rng.lognormal(5, 1, 50_000)))
    assert smooth.rank(smooth.curve.quantile(u)) == pytest.approx(u, abs=1e-9)


def test_a_spike_has_the_middle_of_its_ranks() -> None:
    x = np.concatenate([np.arange(1.0, 401.0), np.full(400, 500.0), np.arange(600.0, 800.0)])
    assert Grid.of(Counts.of(x)).rank(np.array([500.0]))[0] == pytest.approx(0.6, abs=0.02)


def test_a_table_keeps_the_mean() -> None:
    x = np.random.default_rng(3).lognormal(6, 1.5, 200_000)
    table = Grid.of(Counts.of(x)).curve.table(1025)
    assert (table[1:] + table[:-1]).mean() / 2 == pytest.approx(x.mean(), rel=0.01)
    assert (np.diff(table) >= 0).all()


def test_what_is_left_of_a_gap() -> None:
    """Mean E[G²] / 2E[G] of a uniform law on [0, 2]: 2/3; P(left > 1) = 1/4."""
    rng = np.random.default_rng(4)
    curve = QuantileCurve(np.array([0.0, 1.0]), np.array([0.0, 2.0]))
    left = curve.rests(rng.random(100_000), rng.random(100_000))
    assert left.mean() == pytest.approx(2 / 3, rel=0.01)
    assert (left > 1).mean() == pytest.approx(0.25, abs=0.005)


@pytest.mark.parametrize(
    "change",
    [
        {"tail_values": [5.0, 4.0]},
        {"tail_means": [1.0]},
        {"tail_values": [10.0] * 2, "tail_means": [1.0, float("nan"), 2.0]},
    ],
)
def test_a_tail_that_is_none(change: dict[str, Any]) -> None:
    told = Grid.of(Counts.of(np.arange(20_000.0))).to_dict()
    assert told["tail_values"]
    with pytest.raises(ModelError, match="grid in the profile"):
        Grid.from_dict({**told, **change})

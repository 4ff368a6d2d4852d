"""The searches against scipy's."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import optimize

from lamina_traces.distributions.search import golden, newton, root, simplex


def rosenbrock(v: np.ndarray) -> float:
    return float((1 - v[0]) ** 2 + 100 * (v[1] - v[0] ** 2) ** 2)


def bowl(v: np.ndarray) -> float:
    return float(np.exp(v[0] - 1) - v[0] + 0.5 * (v[1] + 2) ** 2 + 0.3 * (v[0] - 1) * (v[1] + 2))


def test_simplex_finds_the_valley() -> None:
    assert simplex(rosenbrock, np.array([-1.2, 1.0])) == pytest.approx([1, 1], abs=1e-6)
    theirs = optimize.minimize(
        bowl, [3.0, 3.0], method="Nelder-Mead", options={"xatol": 1e-10, "fatol": 1e-12}
    ).x
    assert simplex(bowl, np.array([3.0, 3.0])) == pytest.approx(theirs, abs=1e-6)
    assert simplex(lambda v: float((v[0] - 3) ** 4), np.array([0.0])) == pytest.approx(
        [3], abs=0.05
    )


def test_newton_agrees_or_gives_up() -> None:
    got = newton(bowl, np.array([1.5, -1.0]))
    assert got is not None
    theirs = optimize.minimize(bowl, [1.5, -1.0], method="BFGS", options={"gtol": 1e-10}).x
    assert got == pytest.approx(theirs, abs=1e-6)
    assert newton(lambda v: -float(v @ v), np.array([0.3, 0.2])) is None


def test_golden_and_root() -> None:
    assert golden(lambda x: (x - 0.3) ** 2, -5, 7) == pytest.approx(0.3, abs=1e-7)
    want = optimize.brentq(lambda x: x**3 - 2, 0, 3, xtol=1e-15)
    assert root(lambda x: x**3 - 2, 0, 3) == pytest.approx(want, abs=1e-14)
    with pytest.raises(ValueError, match="root"):
        root(lambda x: x * x + 1, -1, 1)

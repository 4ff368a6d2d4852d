"""Lengths, and what cannot be answered."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl
import pytest
from scipy import stats

from lamina_traces.aspects import length_draws, lengths
from lamina_traces.characterization import characterize
from lamina_traces.errors import ModelError

from .tables import stored


def requests(n: int, **columns: object) -> pl.DataFrame:
    base: dict[str, object] = {"arrival_ns": np.arange(n) * 10**9, "status": ["ok"] * n}
    frame = pl.DataFrame(base | columns)
    return frame.with_columns(
        pl.col(c).cast(pl.Int32) for c in ("input_tokens", "output_tokens") if c in frame.columns
    )


def test_lengths_equal_scipy_and_copula_keeps_dependence(tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    z = rng.multivariate_normal([0, 0], [[1, 0.7], [0.7, 1]], 20_000)
    x, y = np.ceil(np.exp(6 + z[:, 0])), np.ceil(np.exp(4 + 0.5 * z[:, 1]))
    found = lengths.fit(
        stored(tmp_path, "llm_requests", requests(20_000, input_tokens=x, output_tokens=y)), []
    )
    assert found is not None
    assert found.spearman == pytest.approx(stats.spearmanr(x, y).statistic, rel=1e-9)
    assert found.pearson == pytest.approx(np.corrcoef(x, y)[0, 1], rel=1e-9)
    assert found.input.families[0].family == "lognormal"
    assert found.input.families[0].params["sigma"] == pytest.approx(1, rel=0.02)
    np.testing.assert_allclose(found.copula.sum(axis=0) * found.copula.shape[0], 1, rtol=0.1)
    made = length_draws.Sampler(found).pairs(np.random.default_rng(2), 40_000)
    assert stats.spearmanr(*made).statistic == pytest.approx(found.spearman, abs=0.02)
    assert stats.ks_2samp(made[0], x).statistic < 0.015
    assert stats.ks_2samp(made[1], y).statistic < 0.015


def test_spikes_do_not_make_dependence(tmp_path: Path) -> None:
    """Two independent columns of three values each: ties are spread, and the copula stays flat."""
    rng = np.random.default_rng(3)
    x, y = rng.choice([5, 50, 500], 30_000), rng.choice([1, 2, 3], 30_000)
    found = lengths.fit(
        stored(tmp_path, "llm_requests", requests(30_000, input_tokens=x, output_tokens=y)), []
    )
    assert found is not None
    assert abs(found.spearman) < 0.02
    cells = found.copula.size
    assert np.abs(found.copula * cells - 1).mean() < 0.25
    made = length_draws.Sampler(found).pairs(np.random.default_rng(1), 30_000)
    assert set(made[0]) <= set(range(5, 501))
    assert (made[0] == 50).mean() == pytest.approx((x == 50).mean(), abs=0.02)


def test_atoms_are_named(tmp_path: Path) -> None:
    rng = np.random.default_rng(4)
    x = np.ceil(rng.lognormal(6, 1, 10_000))
    x[rng.random(10_000) < 0.05] = 4096
    found = lengths.fit(
        stored(
            tmp_path,
            "llm_requests",
            requests(10_000, input_tokens=x, output_tokens=np.ceil(rng.exponential(50, 10_000))),
        ),
        [],
    )
    assert found is not None
    assert found.input.atoms.values == (4096,)
    assert found.input.atoms.shares[0] == pytest.approx((x == 4096).mean(), rel=0.02)


def test_nothing_to_fit_is_an_error_that_says_why(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="too few"):
        characterize(
            stored(
                tmp_path,
                "llm_requests",
                requests(
                    3, input_tokens=[1, 2, 3], output_tokens=[1, 2, 3], status=["unknown"] * 3
                ),
            )
        )

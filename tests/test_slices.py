"""Slices and similarity: planted subpopulations, false discoveries, decompositions that add up, families that group."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl
import pytest

from lamina_traces import similarity, slices
from lamina_traces.characterization import characterize
from lamina_traces.errors import ModelError, UnknownName
from lamina_traces.profile import Profile
from lamina_traces.store import Trace

from .aspects.tables import stored


def requests(
    path: Path,
    seed: int,
    n: int = 12_000,
    *,
    plant: float = 1.0,
    share: float = 0.1,
    name: str = "t",
) -> Trace:
    """Models a … d and services x, y; outputs of model b under service y are ``plant`` times as long."""
    rng = np.random.default_rng(seed)
    model = rng.choice(list("abcd"), n, p=[0.9 - share - 0.2, share, 0.2, 0.1])
    service = rng.choice(list("xy"), n)
    planted = (model == "b") & (service == "y")
    frame = pl.DataFrame(
        {
            "arrival_ns": np.cumsum(rng.exponential(1e9, n)).astype(np.int64),
            "model": model,
            "service": service,
            "input_tokens": np.ceil(rng.lognormal(6, 1, n)).astype(np.int32),
            "output_tokens": np.ceil(
                rng.lognormal(4, 0.7, n) * np.where(planted, plant, 1.0)
            ).astype(np.int32),
            "status": np.where(rng.random(n) < np.where(model == "c", 0.2, 0.02), "error", "ok"),
        }
    )
    return stored(path, "llm_requests", frame, name)


def test_a_planted_slice_is_found_and_nothing_else(tmp_path: Path) -> None:
    found = slices.find(requests(tmp_path, 1, plant=4.0), "output_tokens")
    assert found[0].where == (("model", "b"), ("service", "y"))
    assert found[0].mean / found[0].rest == pytest.approx(4, rel=0.15)
    assert found[0].share == pytest.approx(0.05, abs=0.01)
    others = [f for f in found[1:] if not {("model", "b"), ("service", "y")} <= set(f.where)]
    assert all(("model", "b") in f.where for f in others), [f.name for f in found]


def test_shares_deviate_too(tmp_path: Path) -> None:
    found = slices.find(requests(tmp_path, 2), "failed")
    assert found[0].where == (("model", "c"),)
    assert found[0].mean == pytest.approx(0.2, abs=0.03)
    assert found[0].rest == pytest.approx(0.02, abs=0.01)
    assert len(found) == 1  # its parts say nothing more


@pytest.mark.parametrize("seed", range(5))
def test_nothing_is_found_where_nothing_is(tmp_path: Path, seed: int) -> None:
    assert slices.find(requests(tmp_path, 10 + seed), "output_tokens") == []


def test_correction_equals_scipy() -> None:
    from scipy import stats

    p = np.random.default_rng(3).random(50) ** 2
    np.testing.assert_allclose(slices._corrected(p), stats.false_discovery_control(p, method="by"))


def test_shift_adds_up(tmp_path: Path) -> None:
    """Model b doubles its share and lengthens: the parts sum to the difference, and b is the first of them."""
    a = requests(tmp_path / "a", 4, share=0.1, plant=4.0, name="a")
    b = requests(tmp_path / "b", 5, share=0.3, plant=4.0, name="b")
    difference, parts = slices.shift(a, b, "output_tokens", ["model"])
    assert sum(p.mix + p.within for p in parts) == pytest.approx(difference, abs=1e-12)
    means = [np.log(t.scan().collect()["output_tokens"].to_numpy()).mean() for t in (a, b)]
    assert difference == pytest.approx(means[1] - means[0], rel=1e-9)
    assert parts[0].where == (("model", "b"),)
    assert parts[0].share == pytest.approx((0.1, 0.3), abs=0.02)


def test_lost_lengths_do_not_explain_failures(tmp_path: Path) -> None:
    """Where failed requests record no length, a length is not a reason for success."""
    rng = np.random.default_rng(6)
    n = 4000
    failed = rng.random(n) < 0.1
    x = pl.Series(np.ceil(rng.lognormal(6, 1, n)), dtype=pl.Int32)
    frame = pl.DataFrame(
        {
            "arrival_ns": np.cumsum(rng.exponential(1e9, n)).astype(np.int64),
            "input_tokens": pl.select(pl.when(~pl.Series(failed)).then(x)).to_series(),
            "output_tokens": x,
            "status": np.where(failed, "error", "ok"),
        }
    )
    assert slices.find(stored(tmp_path, "llm_requests", frame), "failed") == []


def test_unknown_metrics_and_dimensions_are_named(tmp_path: Path) -> None:
    t = requests(tmp_path, 7, 500)
    with pytest.raises(UnknownName, match="ttft_s"):
        slices.find(t, "ttft_s")
    with pytest.raises(UnknownName, match="color"):
        slices.find(t, "failed", ["color"])


# --- similarity ------------------------------------------------------------------------------------


def family(path: Path, kind: str, seed: int) -> Trace:
    """Two families of 3,000 requests: bursty code (long in, short out), smooth chat."""
    rng = np.random.default_rng([seed, len(kind)])
    n = 3000
    gaps = rng.gamma(0.3, 2.0, n) if kind == "code" else rng.exponential(0.6, n)
    inputs, outputs = (7.5, 3) if kind == "code" else (5, 5.5)
    frame = pl.DataFrame(
        {
            "arrival_ns": (np.cumsum(gaps) * 1e9).astype(np.int64),
            "input_tokens": np.ceil(rng.lognormal(inputs, 0.8, n)).astype(np.int32),
            "output_tokens": np.ceil(rng.lognormal(outputs, 0.8, n)).astype(np.int32),
            "status": ["ok"] * n,
        }
    )
    return stored(path / f"{kind}{seed}", "llm_requests", frame, f"{kind}{seed}")


def test_families_group(tmp_path: Path) -> None:
    traces = [family(tmp_path, k, s) for k in ("code", "chats") for s in range(3)]
    profiles = [characterize(t) for t in traces]
    for i, p in enumerate(profiles):
        others = [(similarity.between(p, q), j) for j, q in enumerate(profiles) if j != i]
        best = min(others, key=lambda x: x[0].distance if x[0] else 9.0)[1]
        assert (best < 3) == (i < 3)
        apart = [
            (similarity.compression_distance(traces[i], traces[j]), j) for j in range(6) if j != i
        ]
        assert (min(apart)[1] < 3) == (i < 3)


def test_a_profile_is_its_own_nearest() -> None:
    for name in ("azure-code", "mooncake-conversation"):
        found = similarity.nearest(Profile.library(name))
        assert found[0].name == name
        assert found[0].distance == 0
        assert found[1].distance > 0.5


def test_short_traces_do_not_compress(tmp_path: Path) -> None:
    t = requests(tmp_path, 8, 60)
    with pytest.raises(ModelError, match="too short"):
        similarity.compression_distance(t, t)

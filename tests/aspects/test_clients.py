"""Clients known by windows: against requests drawn from the same windows, and ServeGen's own figures."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl
import pytest

from lamina_traces.characterization import characterize
from lamina_traces.errors import ModelError
from lamina_traces.generator import Options, generate
from lamina_traces.profile import Profile
from lamina_traces.store import Store, Trace


def windows(path: Path, rates: list[float], shape: float, law: str = "gamma") -> Trace:
    """One client whose gaps follow one law under a rate that changes each 600 s, asking for 1 … 4 in, 10 out."""
    n = len(rates)
    frame = pl.DataFrame(
        {
            "row_id": range(n),
            "client_id": ["c"] * n,
            "arrival_ns": [i * 600 * 10**9 for i in range(n)],
            "window_s": [600.0] * n,
            "rate_rps": rates,
            "gap_cv": [1 / shape**0.5 if r else None for r in rates],
            "law": [law if r else None for r in rates],
            "shape": [shape if r else None for r in rates],
            "scale_s": [0.1 if r else None for r in rates],
        }
    )
    values = [
        ("input_tokens", v, p) for v, p in ((1.0, 0.1), (2.0, 0.2), (3.0, 0.3), (4.0, 0.4))
    ] + [("output_tokens", 10.0, 1.0)]
    pmf = pl.DataFrame(
        {
            "row_id": range(n, n + 5),
            "client_id": ["c"] * 5,
            "arrival_ns": [0] * 5,
            "field": [f for f, _, _ in values],
            "value": [v for _, v, _ in values],
            "prob": [p for _, _, p in values],
        }
    )
    with Store(path).writer("w", kind="llm", nature="derived") as w:
        w.write("client_windows", frame)
        w.write("client_pmf", pmf)
        return w.commit(clock="relative", format="test")


def test_what_is_generated_has_the_recorded_law(tmp_path: Path) -> None:
    rates = [2.0, 6.0, 0.0, 4.0] * 20
    profile = characterize(windows(tmp_path, rates, 0.4))
    a, n = profile.aspect("arrivals"), profile.aspect("lengths")
    assert a.evidence == n.evidence == "client windows"
    assert a.rate_per_s == pytest.approx(3)
    assert a.events == 3 * 600 * 80
    rows = pl.concat(list(generate(profile, seed=1, options=Options(replay=True))))
    t = rows["arrival_ns"].to_numpy() / 1e9
    per_window = np.bincount((t // 600).astype(int), minlength=80)
    np.testing.assert_allclose(
        per_window.reshape(-1, 4).mean(axis=0), [1200, 3600, 0, 2400], rtol=0.03
    )
    gaps = np.diff(t[(t // 600).astype(int) % 4 == 1])
    gaps = gaps[gaps < 100]
    assert gaps.std() / gaps.mean() == pytest.approx(1 / np.sqrt(0.4), rel=0.05)
    shares = (
        rows["input_tokens"]
        .value_counts(normalize=True)
        .sort("input_tokens")["proportion"]
        .to_numpy()
    )
    np.testing.assert_allclose(shares, [0.1, 0.2, 0.3, 0.4], atol=0.01)
    assert rows["output_tokens"].unique().to_list() == [10]


def test_dispersion_of_windows_is_that_of_the_counts(tmp_path: Path) -> None:
    rng = np.random.default_rng(2)
    rates = rng.gamma(4, 1, 300).tolist()
    a = characterize(windows(tmp_path, rates, 1.0)).aspect("arrivals")
    n = np.array(rates) * 600
    counts = rng.poisson(np.tile(n, (200, 1)))
    want = (counts.var(axis=1, ddof=1) / counts.mean(axis=1)).mean()
    assert a.idc(600.0) == pytest.approx(want, rel=0.02)


def test_idle_clients_are_no_streams(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="asked for anything"):
        characterize(windows(tmp_path, [0.0] * 10, 1.0))


@pytest.mark.real_data
def test_servegen(real_data: Path, tmp_path: Path) -> None:
    """Six clients; client 14's first windows are Weibull with CV 5.3, and its mean rate is that of its windows."""
    source = real_data / "llm" / "servegen"
    trace = Store(tmp_path).ingest([source], "servegen")
    profile = characterize(trace)
    part = profile.part("llm_requests")
    assert [s.name for s in part.streams] == ["17", "14", "27", "12", "26", "18"]
    assert sum(s.weight for s in part.streams) == pytest.approx(1)
    windows_ = pl.DataFrame(trace.query("clients/windows"))
    for stream in part.streams:
        own = windows_.filter(pl.col("client_id") == stream.name)
        a = stream.aspects["arrivals"]
        assert a.rate_per_s == pytest.approx(own["rate_rps"].mean(), rel=1e-9)  # type: ignore[attr-defined]
    pmf = pl.DataFrame(trace.query("clients/lengths")).filter(
        (pl.col("client_id") == "12") & (pl.col("field") == "input_tokens")
    )
    starts = pmf["arrival_ns"].unique().sort().to_numpy()
    own = windows_.filter(pl.col("client_id") == "12")
    weight = np.bincount(
        np.searchsorted(starts, own["arrival_ns"].to_numpy(), side="right") - 1,
        weights=own["rate_rps"].to_numpy(),
    )
    means = [
        float(
            (
                pmf.filter(pl.col("arrival_ns") == s)["value"]
                * pmf.filter(pl.col("arrival_ns") == s)["prob"]
            ).sum()
        )
        for s in starts
    ]
    found = next(s for s in part.streams if s.name == "12").aspects["lengths"]
    assert found.input.grid.mean == pytest.approx(float(weight @ means / weight.sum()), rel=1e-4)  # type: ignore[attr-defined]
    assert "client-windows" in [n.code for n in profile.notices]
    text = profile.dumps()
    assert len(text) < 300_000
    assert Profile.loads(text).dumps() == text

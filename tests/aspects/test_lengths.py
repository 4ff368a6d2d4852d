"""Lengths: dependence, atoms and limits, the mix by time and load; against scipy, numpy and truth."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl
import pytest
from scipy import stats

from lamina_traces.aspects import lengths
from lamina_traces.aspects.length_draws import Sampler
from lamina_traces.counts import Counts
from lamina_traces.store import Trace

from .tables import stored


def trace(
    path: Path, x: np.ndarray, y: np.ndarray, t_s: np.ndarray | None = None, **more: object
) -> Trace:
    n = len(x)
    t = np.arange(n, dtype=float) if t_s is None else t_s
    columns: dict[str, object] = {"arrival_ns": (t * 1e9).astype(np.int64), "status": ["ok"] * n}
    frame = pl.DataFrame(columns | {"input_tokens": x, "output_tokens": y} | more)
    frame = frame.with_columns(
        pl.col(c).cast(pl.Int32) for c in frame.columns if c.endswith("_tokens")
    )
    return stored(path, "llm_requests", frame)


def fitted(t: Trace) -> lengths.Lengths:
    found = lengths.fit(t, [])
    assert found is not None
    return found


def test_dependence_equals_scipy(tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    z = rng.multivariate_normal([0, 0], [[1, 0.6], [0.6, 1]], 20_000)
    x, y = np.ceil(np.exp(6 + z[:, 0])), np.ceil(np.exp(3 + 0.8 * z[:, 1]))
    t = trace(tmp_path, x, y)
    f = fitted(t)
    assert f.spearman == pytest.approx(stats.spearmanr(x, y).statistic, abs=1e-10)
    assert f.kendall == pytest.approx(stats.kendalltau(x, y).statistic, abs=3e-3)
    assert f.pearson == pytest.approx(np.corrcoef(x, y)[0, 1], abs=1e-10)
    by_sql = t.query("lengths/rank_correlation").to_pylist()[0]
    assert f.spearman == pytest.approx(by_sql["spearman"], abs=1e-10)
    assert f.spearman_interval is not None
    assert f.spearman_interval.low < 0.58 < f.spearman_interval.high
    assert f.spearman_interval.high - f.spearman_interval.low < 0.06


def test_the_copula_by_sql_is_the_same(tmp_path: Path) -> None:
    rng = np.random.default_rng(2)
    x, y = rng.integers(1, 5000, 20_000), rng.integers(1, 40, 20_000)
    t = trace(tmp_path, x, y)
    f = fitted(t)
    cells = len(f.copula)
    grid = np.zeros((cells, cells))
    q = t.query("lengths/rank_grid", cells=cells)
    grid[np.minimum(q["i"].to_numpy(), cells - 1), np.minimum(q["j"].to_numpy(), cells - 1)] = q[
        "n"
    ].to_numpy()
    assert np.abs(f.copula - grid / 20_000).sum() < 0.1  # ties are spread by other hashes


def test_few_values_have_an_exact_kendall(tmp_path: Path) -> None:
    rng = np.random.default_rng(3)
    x = rng.choice([5, 50, 500], 5000)
    y = np.where(rng.random(5000) < 0.5, x // 5, rng.choice([1, 2, 3], 5000))
    f = fitted(trace(tmp_path, x, y))
    assert f.kendall == pytest.approx(stats.kendalltau(x, y).statistic, abs=1e-5)


def test_outputs_cut_at_their_limit_are_censored(tmp_path: Path) -> None:
    """Lognormal outputs, each cut at a limit of its own: the law of what they would have been comes back."""
    rng = np.random.default_rng(4)
    n = 30_000
    y = np.ceil(rng.lognormal(5, 1, n))
    limit = rng.choice([64, 256, 1024], n)
    cut = y > limit
    f = fitted(
        trace(
            tmp_path, np.ceil(rng.lognormal(5, 1, n)), np.minimum(y, limit),
            finish_reason=np.where(cut, "length", "stop"), max_output_tokens=limit,
        )
    )  # fmt: skip
    assert f.output.cut_share == pytest.approx(cut.mean(), abs=1e-5)
    law = next(x for x in f.output.families if x.family == "lognormal")
    assert (law.params["mu"], law.params["sigma"]) == pytest.approx((5, 1), rel=0.03)
    assert f.output.grid.values[-1] <= 1024


def test_a_pareto_tail_is_found(tmp_path: Path) -> None:
    rng = np.random.default_rng(5)
    x = np.ceil(200 * (1 + rng.pareto(2.0, 60_000)))
    f = fitted(trace(tmp_path, x, np.ceil(rng.exponential(50, 60_000))))
    assert f.input.tail is not None
    assert f.input.tail.fit.params["xi"] == pytest.approx(0.5, abs=0.08)
    assert f.output.tail is not None
    assert f.output.tail.fit.params["xi"] == pytest.approx(0, abs=0.06)
    assert f.input.tail.share == pytest.approx(0.05, abs=0.003)


def test_intervals_hold_under_drift(tmp_path: Path) -> None:
    """Mean length that wanders by window: intervals are wider than those of independent rows, and n_eff small."""
    rng = np.random.default_rng(6)
    n = 30_000
    level = np.repeat(
        np.convolve(rng.normal(0, 0.25, 330), np.ones(20) / np.sqrt(20), "valid")[:300], 100
    )
    wander = fitted(
        trace(tmp_path / "a", np.ceil(np.exp(6 + level + rng.normal(0, 0.8, n))), np.ones(n) * 5)
    )
    steady = fitted(
        trace(tmp_path / "b", np.ceil(np.exp(6 + rng.normal(0, 0.8, n))), np.ones(n) * 5)
    )
    a, b = wander.input.intervals["mean"], steady.input.intervals["mean"]
    assert a.method == "moving blocks"
    assert b.method == "independent windows"
    assert a.high / a.low > 3 * b.high / b.low - 2
    assert a.n_eff is not None
    assert b.n_eff is not None
    assert a.n_eff < n / 10
    assert b.n_eff == pytest.approx(n, rel=0.35)
    assert set(wander.input.intervals) == {"mean", "p50", "p90", "p99"}


def test_the_mix_follows_the_load(tmp_path: Path) -> None:
    """Busy minutes bring short prompts; outputs do not care."""
    rng = np.random.default_rng(7)
    per_minute = rng.choice([40, 200], 240)
    minute = np.repeat(np.arange(240), per_minute)
    t = np.sort(minute * 60 + 60 * rng.random(len(minute)))
    busy = per_minute[(t // 60).astype(int)] > 100
    x = np.ceil(rng.lognormal(np.where(busy, 5, 6.5), 0.7))
    y = np.ceil(rng.lognormal(4, 0.7, len(x)))
    f = fitted(trace(tmp_path, x, y, t))
    assert f.mix is not None
    assert f.mix.load_input == pytest.approx(-1, abs=0.1)
    assert abs(f.mix.load_output or 0) < 0.2
    slow, fast = f.mix.by_load[0], f.mix.by_load[-1]
    assert slow.input[4] == pytest.approx(np.exp(6.5), rel=0.12)
    assert fast.input[4] == pytest.approx(np.exp(5), rel=0.12)
    assert fast.at[1] > 1.3 > 0.6 > slow.at[0]
    assert sum(s.rows for s in f.mix.by_time) == len(x)
    assert sum(s.rows for s in f.mix.by_load) == len(x)
    said = [x.text for x in f.findings()]
    assert any("follow the load" in s and s.startswith("Input") for s in said)
    assert not any("follow the load" in s and s.startswith("Output") for s in said)


def test_drift_with_time_is_seen(tmp_path: Path) -> None:
    rng = np.random.default_rng(8)
    n = 24_000
    x = np.ceil(rng.lognormal(np.linspace(5, 7, n), 0.5))
    f = fitted(trace(tmp_path, x, np.ceil(rng.exponential(20, n))))
    assert f.mix is not None
    first, last = f.mix.by_time[0], f.mix.by_time[-1]
    assert last.input[4] / first.input[4] == pytest.approx(np.exp(2), rel=0.15)


def test_other_tokens_are_described(tmp_path: Path) -> None:
    rng = np.random.default_rng(9)
    n = 4000
    y = np.ceil(rng.lognormal(6, 0.5, n))
    think = np.where(rng.random(n) < 0.4, 0, np.floor(0.7 * y)).astype(np.int32)
    f = fitted(trace(tmp_path, np.ceil(rng.lognormal(5, 1, n)), y, reasoning_tokens=think))
    m = f.others["reasoning_tokens"]
    assert m.zero_share == pytest.approx((think == 0).mean())
    assert m.quantiles["p90"] == pytest.approx(np.quantile(think, 0.9))
    assert any(x.text.startswith("Reasoning lengths") for x in f.findings())


def test_rows_with_one_length_count_once(tmp_path: Path) -> None:
    n = 300
    frame = pl.DataFrame(
        {
            "arrival_ns": np.arange(n) * 10**9,
            "status": ["ok"] * n,
            "input_tokens": pl.Series(
                [None if i % 3 == 0 else i + 1 for i in range(n)], dtype=pl.Int32
            ),
            "output_tokens": pl.Series(
                [None if i % 5 == 0 else 2 * i + 1 for i in range(n)], dtype=pl.Int32
            ),
        }
    )
    f = fitted(stored(tmp_path, "llm_requests", frame))
    both = [i for i in range(n) if i % 3 and i % 5]
    assert f.pairs == len(both)
    assert f.input.grid.rows == 200
    assert f.output.grid.rows == 240
    assert f.spearman == pytest.approx(1)
    assert f.copula.sum() == pytest.approx(1, abs=1e-3)


def test_dictionary_round_trip_and_size(tmp_path: Path) -> None:
    rng = np.random.default_rng(10)
    n = 30_000
    x = np.minimum(np.ceil(rng.lognormal(7, 1.2, n)), 8192)
    f = fitted(trace(tmp_path, x, np.ceil(rng.lognormal(5, 1, n))))
    again = lengths.from_dict(f.to_dict())
    assert again.to_dict() == f.to_dict()
    import json

    assert len(json.dumps(f.to_dict())) < 45_000
    assert f.input.atoms.cap == 8192


def test_a_tail_may_begin_inside_a_bin() -> None:
    """From 2¹⁴ tokens on values are kept in bins: one whose mean lies half a token above the threshold is none of the
    tail, as 20,000 is not."""
    lo = np.concatenate([np.arange(900.0), [20_000.0], np.arange(20_002.0, 20_282.0, 2)])
    hi = np.concatenate([np.arange(900.0), lo[900:] + 1])
    n = np.concatenate([np.full(900, 3.0), [40.0], np.full(140, 1.0)])
    m = lengths.margin_of(Counts(lo, hi, n, n * (lo + hi) / 2, "tokens"))
    assert m.tail is not None
    assert m.tail.threshold == 20_000
    assert m.tail.share == pytest.approx(140 / n[1:].sum(), rel=1e-3)


def test_kinds_of_tokens_come_back_with_what_they_depend_on(tmp_path: Path) -> None:
    """Images are most of the prompts that hold them: drawn alone, and cut to the prompt, a quarter of them would be lost."""
    rng = np.random.default_rng(1)
    n = 20_000
    images = np.where(rng.random(n) < 0.6, 0, rng.integers(1, 6, n))
    inputs = images * 576 + np.rint(rng.lognormal(5, 1, n)).astype(int)
    outputs = np.rint(rng.lognormal(5, 1, n)).astype(int)
    thought = np.rint(outputs * rng.beta(2, 2, n)).astype(int)
    frame = pl.DataFrame(
        {
            "arrival_ns": np.arange(n) * 10**8, "input_tokens": inputs, "output_tokens": outputs, "image_count": images,
            "image_tokens": images * 576, "text_tokens": inputs - images * 576, "reasoning_tokens": thought, "status": "ok",
        }
    )  # fmt: skip
    found = lengths.fit(stored(tmp_path, "llm_requests", frame), [])
    assert found is not None
    for name in ("image_tokens", "reasoning_tokens"):
        of = inputs if name == "image_tokens" else outputs
        assert found.of_whole[name] == pytest.approx(stats.spearmanr(frame[name], of)[0], abs=2e-3)
    sampler = Sampler(lengths.from_dict(found.to_dict()))
    x, y = sampler.pairs(rng, n)
    made = sampler.others(rng, x, y)
    for name, column in made.items():
        assert column.mean() == pytest.approx(float(frame[name].to_numpy().mean()), rel=0.08), name
    assert stats.spearmanr(made["image_tokens"], x)[0] == pytest.approx(found.of_whole["image_tokens"], abs=0.03)  # fmt: skip
    assert (made["image_tokens"] + made["text_tokens"] == x).all()
    assert (made["reasoning_tokens"] <= y).all()

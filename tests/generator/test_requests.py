"""What requests are: the mix by load and time, failures under load, retries, kinds of tokens, knobs, meanings of a rate."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl
import pytest
from scipy import stats

from lamina_traces.aspects import Aspect, failures
from lamina_traces.aspects.arrivals import poisson
from lamina_traces.aspects.failure_rates import Cell
from lamina_traces.aspects.failure_retries import Retries
from lamina_traces.aspects.failures import Failures
from lamina_traces.aspects.length_draws import Alias, Sampler
from lamina_traces.aspects.lengths import Lengths, Margin
from lamina_traces.aspects.mix import Mix, Slice, Warp, warp
from lamina_traces.aspects.modulation import Modulation, normalised
from lamina_traces.aspects.renewal import UnitLaw, poisson_grid
from lamina_traces.distributions import Grid
from lamina_traces.errors import ModelError, UnknownName, UsageError
from lamina_traces.generator import Options, generate, plan
from lamina_traces.generator.requests import retried
from lamina_traces.intervals import Interval
from lamina_traces.profile import Part, Profile, Stream
from lamina_traces.units import Rate

HOUR_NS = 3600 * 10**9
I = Interval(0.0, 1.0, "")  # noqa: E741


def margin(values: npt.NDArray[np.float64]) -> Margin:
    return Margin(Grid(values, float(values.mean()), 1e5), float(values[0]), {}, ())


def lengths(**more: Any) -> Lengths:
    q = (np.arange(257) + 0.5) / 257
    inputs = np.round(np.exp(6 + stats.norm.ppf(q)))
    inputs[200:230] = inputs[200]  # a spike of 30 of 257 knots
    outputs = np.round(np.exp(4 + 0.5 * stats.norm.ppf(q)))
    return Lengths(margin(inputs), margin(outputs), 100_000, 0.0, 0.0, np.ones((1, 1)), **more)


def profile(rate: float = 20.0, modulation: Modulation | None = None, **aspects: Aspect) -> Profile:
    """Poisson arrivals for an hour, lengths that do not depend on each other."""
    law = replace(poisson(rate), window_s=10.0, modulation=modulation)
    own: dict[str, Aspect] = {"arrivals": law, "lengths": lengths(), **aspects}
    return Profile(
        "t", {"llm_requests": Part("llm_requests", (Stream("all", 1.0, {}, own),))}, {"kind": "llm"}
    )


def rows(p: Profile, **how: Any) -> pl.DataFrame:
    return pl.concat(list(generate(p, **how)))


SWING = Modulation(10.0, normalised(np.array([0.4, 0.7, 1.0, 1.4, 2.0])), (1.0,), (), (UnitLaw("exponential", 1.0),))  # fmt: skip


def slices() -> tuple[Slice, ...]:
    """Short prompts and answers where little is asked, long ones where much is."""
    grid = lengths()
    out = []
    for i, (low, high) in enumerate(((0.4, 0.8), (0.8, 1.2), (1.2, 2.0))):
        u = np.linspace(i / 3, (i + 1) / 3, 9)
        x, y = grid.input.grid.quantile(u), grid.output.grid.quantile(u)
        out.append(Slice((low, high), 1000, tuple(x), tuple(y), float(x.mean()), float(y.mean()), None))  # fmt: skip
    return tuple(out)


def test_lengths_follow_the_load() -> None:
    found = Mix((), slices(), 0.9, 0.9, {"input": Interval(0.8, 0.95, "")})
    p = profile(modulation=SWING, lengths=lengths(mix=found))
    d = rows(p, duration_ns=30 * HOUR_NS)
    plain = rows(profile(modulation=SWING), duration_ns=30 * HOUR_NS)
    n = np.bincount(d["arrival_ns"].to_numpy() // 10**10)
    mean = np.bincount(d["arrival_ns"].to_numpy() // 10**10, np.log(d["input_tokens"].to_numpy())) / np.maximum(n, 1)  # fmt: skip
    assert stats.spearmanr(n, mean).statistic > 0.8
    flat = np.bincount(plain["arrival_ns"].to_numpy() // 10**10, np.log(plain["input_tokens"].to_numpy())) / np.maximum(np.bincount(plain["arrival_ns"].to_numpy() // 10**10), 1)  # fmt: skip
    assert abs(stats.spearmanr(np.bincount(plain["arrival_ns"].to_numpy() // 10**10), flat).statistic) < 0.1  # fmt: skip


def test_a_warp_leaves_the_whole_as_it_is() -> None:
    """Requests shared out over the slices as in the source have exactly the fitted margin, spikes included."""
    law = lengths()
    w = Warp(slices(), {"input": law.input.grid, "output": law.output.grid})
    rng = np.random.default_rng(1)
    u, at = rng.random(300_000), rng.integers(0, 3, 300_000)
    x, y = Sampler(law).tokens(w.ranks("input", at, u), w.ranks("output", at, u))
    plain = Sampler(law).tokens(u.copy(), u.copy())
    for a, b in zip((x, y), plain, strict=True):
        assert stats.ks_2samp(a, b).statistic < 0.012
    spike = law.input.grid.values[200]
    assert (x == round(spike)).mean() == pytest.approx(29 / 256, abs=0.01)
    assert x[at == 0].mean() < x[at == 1].mean() < x[at == 2].mean()


def test_a_mix_that_is_not_clear_is_not_used() -> None:
    unclear = Mix(slices(), slices(), 0.1, 0.1, {"input": Interval(-0.2, 0.4, "")})
    grids = {"input": lengths().input.grid, "output": lengths().output.grid}
    assert warp(unclear, grids, replay=False) is None
    assert warp(unclear, grids, replay=True) is not None
    assert warp(None, grids, replay=True) is None


def test_a_replayed_course_replays_its_lengths() -> None:
    by_time = tuple(replace(s, at=(1200.0 * i, 1200.0 * (i + 1))) for i, s in enumerate(slices()))
    p = profile(lengths=lengths(mix=Mix(by_time, (), None, None, {})))
    d = rows(p, duration_ns=2 * HOUR_NS, options=Options(replay=True))
    third = (d["arrival_ns"] // 1_200_000_000_000 % 3).alias("third")
    means = d.group_by(third).agg(pl.col("input_tokens").mean()).sort("third")["input_tokens"]
    short, middle, long = means.to_list()
    assert short < middle / 2 < long / 4


FAILING = Failures(
    100_000, 5_000, 0.05, 0.04, 0.06, 0.01, 0.19, 5.0, 30, {"error": (0.6, 0.0), "timeout": (0.4, 1.0)}
)  # fmt: skip


def test_chain_equals_its_definition_step_by_step() -> None:
    u = np.random.default_rng(2).random(5_000)
    state, want = 1, []
    for x in u:
        state = int(x < FAILING.p_fail_after_ok) if state == 0 else int(x < 1 - FAILING.p_ok_after_fail)  # fmt: skip
        want.append(bool(state))
    got, last = failures.Chain.of(FAILING).sample(u, 1)
    assert got.tolist() == want
    assert last == int(want[-1])
    first, middle = failures.Chain.of(FAILING).sample(u[:700], 1)
    rest, _ = failures.Chain.of(FAILING).sample(u[700:], middle)
    assert np.array_equal(np.concatenate([first, rest]), got)


@pytest.mark.parametrize(("p", "q"), [(0.5, 0.9), (1.0, 0.3), (0.9, 1.0), (0.2, 1.0), (0.0, 1.0)])
def test_chains_that_turn_often(p: float, q: float) -> None:
    """p + q above 1: a failure is less likely after a failure. The rate is p/(p + q), a mean run 1/q."""
    law = replace(FAILING, p_fail_after_ok=p, p_ok_after_fail=q)
    u = np.random.default_rng(4).random(100_000)
    got, _ = failures.Chain.of(law).sample(u, 0)
    assert got.mean() == pytest.approx(p / (p + q), abs=0.01)
    if p:
        starts = (got[1:] & ~got[:-1]).sum()
        assert got.sum() / starts == pytest.approx(1 / q, rel=0.03)


@pytest.mark.parametrize("rate", [0.3, 0.5, 0.9])
def test_the_rate_of_failures_is_the_knob_s(rate: float) -> None:
    d = rows(KNOBS, options=Options(knobs=(f"failures.rate={rate:.0%}",)), duration_ns=5 * HOUR_NS)
    assert (d["status"] != "ok").mean() == pytest.approx(rate, abs=0.02)


def test_failures_follow_the_load() -> None:
    from lamina_traces.aspects.failure_rates import Load

    cells = (Cell(0.0, 16.0, 1000, 10, I), Cell(16.0, 24.0, 1000, 40, I), Cell(24.0, 60.0, 1000, 120, I))  # fmt: skip
    law = replace(FAILING, by_load=cells, load=Load(10.0, 12.0, Interval(8, 16, ""), None, None, None, None))  # fmt: skip
    assert failures.follows_load(law)
    d = rows(profile(modulation=SWING, failures=law), duration_ns=30 * HOUR_NS)
    at = d["arrival_ns"].to_numpy() // 10**10
    n = np.bincount(at)
    bad = np.bincount(at, (d["status"] != "ok").to_numpy())
    quiet, busy = n < 160, n > 240
    assert bad[busy].sum() / n[busy].sum() > 4 * bad[quiet].sum() / n[quiet].sum()
    assert d.filter(pl.col("status") == "timeout")["input_tokens"].null_count() > 0


def test_retries_bring_the_prompt_again() -> None:
    law = Retries(60.0, 100, 0.5, I, 0.0, None, {"p50": 2.0, "p90": 5.0})
    rng = np.random.default_rng(3)
    t = np.cumsum(rng.exponential(0.2e9, 50_000)).astype(np.int64)
    inputs = rng.permutation(50_000)  # all different
    failed = rng.random(50_000) < 0.02
    out = inputs[retried(law, t, failed, rng)]
    again = np.flatnonzero(out != inputs)
    assert len(again) == pytest.approx(0.5 * failed.sum(), rel=0.12)
    of = {int(inputs[i]): i for i in np.flatnonzero(failed)}
    delay = np.array([t[i] - t[of[int(out[i])]] for i in again]) / 1e9
    assert np.median(delay) == pytest.approx(2.0, rel=0.25)
    assert delay.min() > 0


def test_retries_bring_the_blocks_of_their_prompt_again() -> None:
    """A prompt has as many blocks as it is long, also where it is another's."""
    retries = Retries(60.0, 100, 0.9, I, 0.0, None, {"p50": 0.2, "p90": 0.5})
    failing = replace(FAILING, retries=retries, kinds={"error": (1.0, 0.0)})
    own = Profile.library("mooncake-conversation").aspect("prefixes")
    p = profile(failures=failing, prefixes=own)
    d = rows(p, duration_ns=HOUR_NS // 4)
    size = d["prefix_block_size"][0]
    blocks = (d["input_tokens"].to_numpy() // size, -(-d["input_tokens"].to_numpy() // size))
    n = d["prefix_hashes"].list.len().to_numpy()
    assert ((n == blocks[0]) | (n == blocks[1])).all()
    bad = d.filter(pl.col("status") != "ok")["input_tokens"]
    assert d["input_tokens"].is_in(bad.implode()).sum() > 1.5 * len(bad)


def test_stamps_of_a_coarse_clock_stay_in_order() -> None:
    """Several streams and blocks: what jitters about steps of three seconds does not step back over a border."""
    law = replace(poisson(2000.0), quantum_s=3.0, jitter_s=0.3, tick_s=0.001)
    streams = tuple(Stream(f"s{i}", 0.5, {"model": f"m{i}"}, {"arrivals": law, "lengths": lengths()}) for i in range(2))  # fmt: skip
    p = Profile("t", {"llm_requests": Part("llm_requests", streams)}, {"kind": "llm"})
    d = rows(p, rows=500_000)
    assert d["arrival_ns"].is_sorted()


def test_kinds_of_tokens_add_up() -> None:
    zeros = np.concatenate([np.zeros(128), np.linspace(100, 900, 129)])
    p = profile(
        lengths=lengths(
            others={
                "reasoning_tokens": margin(np.linspace(0, 400, 257)),
                "image_tokens": margin(zeros),
                "image_count": margin(np.repeat([0.0, 1.0], [128, 129])),
                "text_tokens": margin(np.linspace(1, 500, 257)),
            }
        )
    )
    d = rows(p)
    assert (d["reasoning_tokens"] <= d["output_tokens"]).all()
    assert (d["image_tokens"] + d["text_tokens"] == d["input_tokens"]).all()
    with_images = d.filter(pl.col("image_count") > 0)
    assert with_images.height / d.height == pytest.approx(0.5, abs=0.02)
    assert (d.filter(pl.col("image_count") == 0)["image_tokens"] == 0).all()


def test_alias_tables_draw_the_weights() -> None:
    weights = np.array([0.0, 1.0, 5.0, 0.5, 20.0])
    table = Alias(weights)
    keep, other = table.keep, table.other
    share = keep.copy()
    np.add.at(share, other, 1 - keep)
    np.testing.assert_allclose(share / 5, weights / weights.sum(), atol=1e-12)


def idc(d: pl.DataFrame, w_s: float) -> float:
    t = d["arrival_ns"].to_numpy()
    n = np.bincount((t / (w_s * 1e9)).astype(np.int64))[:-1]
    return float(n.var(ddof=1)) / float(n.mean())


def test_a_higher_rate_has_three_meanings() -> None:
    """Twenty hours at IDC about 14 per 10 s. Rate: the excess grows with it. Time: IDC(w) is that of wider windows before.
    Clients: IDC stays."""
    slow = replace(SWING, parts=(0.0, 1.0))
    p = profile(10.0, slow)
    own = rows(p, duration_ns=20 * HOUR_NS)
    made = {
        by: rows(p, duration_ns=20 * HOUR_NS, rate=Rate(factor=4.0), options=Options(scale_by=by))
        for by in ("rate", "time", "clients")
    }
    for d in made.values():
        assert d.height / own.height == pytest.approx(4, rel=0.06)
    excess = idc(own, 10) - 1
    assert idc(made["rate"], 10) - 1 == pytest.approx(4 * excess, rel=0.2)
    assert idc(made["clients"], 10) - 1 == pytest.approx(excess, rel=0.2)
    assert idc(made["time"], 10) - 1 == pytest.approx(idc(own, 40) - 1, rel=0.2)


def test_stated_laws_change_the_gaps_and_not_the_rate() -> None:
    p = profile(10.0, SWING)
    for text, cv in (("poisson", 1.0), ("constant", 0.0), ("gamma:3", 3.0), ("weibull:2", 2.0)):
        d = rows(p, duration_ns=5 * HOUR_NS, options=Options(arrivals=text))
        gaps = np.diff(d["arrival_ns"].to_numpy())
        assert gaps.std() / gaps.mean() == pytest.approx(cv, rel=0.06, abs=0.01)
        assert d.height == pytest.approx(180_000, rel=0.04)


KNOBS = profile(20.0, SWING, failures=FAILING)


def test_knobs_turn_one_thing() -> None:
    own = rows(KNOBS)
    longer = rows(KNOBS, options=Options(knobs=("lengths.output=x3",)))
    sums = [int(d["output_tokens"].sum()) for d in (longer, own)]
    assert sums[0] / sums[1] == pytest.approx(3, rel=0.01)
    assert longer["input_tokens"].equals(own["input_tokens"])
    assert longer["arrival_ns"].equals(own["arrival_ns"])
    failing = rows(KNOBS, options=Options(knobs=("failures.rate=20%",)), duration_ns=5 * HOUR_NS)
    bad = (failing["status"] != "ok").to_numpy()
    assert bad.mean() == pytest.approx(0.2, abs=0.01)
    starts = (bad[1:] & ~bad[:-1]).sum()
    assert bad.sum() / starts == pytest.approx(1 / 0.19, rel=0.05)
    runs = rows(KNOBS, options=Options(knobs=("failures.runs=x2",)), duration_ns=5 * HOUR_NS)
    bad = (runs["status"] != "ok").to_numpy()
    assert bad.mean() == pytest.approx(0.05, abs=0.008)
    assert bad.sum() / (bad[1:] & ~bad[:-1]).sum() == pytest.approx(2 / 0.19, rel=0.1)
    off = rows(KNOBS, options=Options(without=frozenset({"failures"})))
    assert off["status"].unique().to_list() == ["unknown"]
    assert off["arrival_ns"].equals(own["arrival_ns"])


@pytest.mark.parametrize(
    ("options", "error", "match"),
    [
        (Options(scale_by="turns"), UnknownName, "meaning of a higher rate"),
        (Options(arrivals="gamma"), UsageError, "no law of arrivals"),
        (Options(arrivals="gamma:x"), UsageError, "no law of arrivals"),
        (Options(arrivals="gamma:0"), ModelError, "cannot have CV"),
        (Options(arrivals="poisson", idc_scale=2.0), UsageError, "give one|changes the fitted one"),
        (Options(arrivals="poisson", replay=True), UsageError, "steady one"),
        (Options(idc_scale=float("nan")), UsageError, "no factor"),
        (Options(idc_scale=2.0, replay=True), UsageError, "plays the source's own"),
        (Options(knobs=("lengths.output=x0",)), UsageError, "is not xN"),
        (Options(knobs=("lengths.output=xinf",)), UsageError, "is not xN"),
        (Options(knobs=("failures.rate=200%",)), UsageError, "is not N%"),
        (Options(knobs=("failures.rate",)), UsageError, "is not N%"),
        (Options(knobs=("nothing=x2",)), UnknownName, "knob"),
        (Options(without=frozenset({"sessions"})), UnknownName, "leave out"),
        (Options(without=frozenset({"lengths"})), UnknownName, "leave out"),
        (Options(block_tokens=0), UsageError, "blocks of 0 tokens"),
        (Options(block_tokens=16), UsageError, "cuts prefix blocks"),
        (Options(scale_by="time"), UsageError, "no --rate is given"),
    ],
)  # fmt: skip
def test_options_that_cannot_be(options: Options, error: type[Exception], match: str) -> None:
    with pytest.raises(error, match=match):
        plan(KNOBS, options=options)


def test_too_many_copies() -> None:
    with pytest.raises(ModelError, match="copies"):
        plan(KNOBS, rate=Rate(factor=1000.0), options=Options(scale_by="clients"))


def test_copies_take_what_was_rehearsed_for_the_first() -> None:
    """256 copies of a stream of sessions took a minute; each has its own rows."""
    p = Profile.library("code-completion")
    asked = plan(p, rate=Rate(factor=3.0), options=Options(scale_by="clients"), seed=2)
    first, *others = asked.maker.streams  # type: ignore[attr-defined]
    for s in others:
        assert s.prefixes.laws is first.prefixes.laws
        assert s.sessions.contexts.firsts is first.sessions.contexts.firsts
    d = rows(p, rate=Rate(factor=3.0), options=Options(scale_by="clients"), rows=3000, seed=2)
    of = d["session_id"].str.split("-").list.first()
    answers = [d.filter(of == f"{i}")["output_tokens"].to_list() for i in range(3)]
    assert min(map(len, answers)) > 500
    assert answers[0][:300] != answers[1][:300]
    ids = [set(d.filter(of == f"{i}")["prefix_hashes"].explode()) for i in range(3)]
    assert not ids[0] & ids[1]


def test_rates_that_cannot_be() -> None:
    """A century of silence, and 10⁸ levels of the rate for each request."""
    for rate in (1e-12, 1e-10, 1e10):
        with pytest.raises(ModelError, match="cannot be generated"):
            plan(KNOBS, rate=Rate(per_s=rate))
    p = Profile.library("azure-code")
    with pytest.raises(ModelError, match=r"the rate changes every 1\.6 s"):
        plan(p, rate=Rate(per_s=1e-8))
    assert rows(p, rate=Rate(per_s=1e-8), options=Options(arrivals="poisson"), rows=2).height == 2
    with pytest.raises(ModelError, match="more than a century"):
        rows(p, rate=Rate(per_s=1e-9), options=Options(arrivals="poisson"), rows=50)


def test_grid_of_gaps_stays_in_use() -> None:
    """A profile of an older tool has no modulation; its curve is too short to tell swings, so its gaps are drawn at a
    steady rate."""
    law = replace(poisson(5.0), unit_gaps=poisson_grid())
    assert law.modulation is None
    d = rows(profile(5.0), duration_ns=2 * HOUR_NS)
    assert idc(d, 10) == pytest.approx(1, abs=0.2)

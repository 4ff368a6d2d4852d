"""Sessions: laws come back, arrivals stay, contexts grow as stated, and nothing depends on how it was cut."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from scipy import stats

from lamina_traces.aspects import lengths as lengths_aspect
from lamina_traces.aspects import sessions as sessions_aspect
from lamina_traces.aspects.contexts import Context
from lamina_traces.aspects.length_draws import Sampler
from lamina_traces.aspects.lengths import Lengths
from lamina_traces.aspects.ratios import Ratio
from lamina_traces.aspects.sessions import Sessions
from lamina_traces.aspects.tallies import Tally
from lamina_traces.distributions import Grid
from lamina_traces.errors import ModelError
from lamina_traces.generator import loops
from lamina_traces.generator.maker import State
from lamina_traces.generator.randomness import key, stream, uniforms
from lamina_traces.generator.sessions import KNOTS, MOST_OPEN, Draw, SessionStage, leader, turn_law
from tests.aspects.tables import stored
from tests.recovery.conversations import World, rows

S = 10**9
WORLD = World(rate_per_s=4.0, past_s=600.0)
Columns = dict[str, Any]


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> tuple[pl.DataFrame, Sessions, Lengths]:
    made = rows(WORLD, np.random.default_rng(1))
    trace = stored(tmp_path_factory.mktemp("source"), "llm_requests", made)
    found, lengths = sessions_aspect.fit(trace, []), lengths_aspect.fit(trace, [])
    assert found is not None
    assert lengths is not None
    return made, found, lengths


def draw(lengths: Lengths, *purpose: int | str) -> Draw:
    rng = stream(5, *purpose)
    return lambda n: Sampler(lengths).pairs(rng, n)


def poisson(rate_per_s: float, n: int) -> np.ndarray[Any, Any]:
    rng = np.random.default_rng(8)
    return np.asarray(np.cumsum(rng.exponential(1 / rate_per_s, n)) * S).astype(np.int64)


def run(stage: SessionStage, lengths: Lengths, arrival: Any, blocks: int = 8) -> Columns:
    """All blocks of a stage that follows ``arrival``, one after the other."""
    state, parts = stage.start(), []
    edges = np.linspace(0, arrival[-1] + 1, blocks + 1).astype(np.int64)
    for b in range(blocks):
        inside = arrival[(arrival >= edges[b]) & (arrival < edges[b + 1])]
        columns, state = stage.rows(b, inside, draw(lengths, b), state)
        parts.append({**columns, "arrival_ns": inside})
    return {k: np.concatenate([p[k] for p in parts]) for k in parts[0]}


def gaps_s(c: Columns) -> np.ndarray[Any, Any]:
    """From a turn's arrival to the next one's."""
    later = np.flatnonzero(c["parent"] >= 0)
    return np.asarray(c["arrival_ns"][later] - c["arrival_ns"][c["parent"][later]]) / S


def test_laws_come_back(source: tuple[pl.DataFrame, Sessions, Lengths], tmp_path: Path) -> None:
    """A fit of what was generated against the fit that it was generated from, on the source's own arrivals."""
    made, law, lengths = source
    arrival = made["arrival_ns"].to_numpy()
    stage = SessionStage(law, lengths, 7, rate_per_s=len(arrival) / (arrival[-1] / S))
    assert stage.leads == "requests"
    c = run(stage, lengths, arrival)
    frame = pl.DataFrame({"status": ["ok"] * len(arrival), "session_id": c["session"].astype(str), **{k: c[k] for k in ("arrival_ns", "input_tokens", "output_tokens")}})  # fmt: skip
    again = sessions_aspect.fit(stored(tmp_path, "llm_requests", frame), [])
    assert again is not None
    # 12,600 sessions of 3.3 ± 2.8 turns: a standard error of 0.025, of the source and of what it made
    assert again.turns.mean == pytest.approx(law.turns.mean, abs=0.12)
    assert again.single.value == pytest.approx(law.single.value, abs=0.02)
    assert again.multi_turn_requests.value == pytest.approx(law.multi_turn_requests.value, abs=0.01)
    assert law.turn_gap is not None
    assert again.turn_gap is not None
    assert again.turn_gap.quantiles_s["p50"] == pytest.approx(
        law.turn_gap.quantiles_s["p50"], rel=0.05
    )
    assert again.context is not None
    assert again.context.kind == "cumulative"
    assert law.open_mean is not None
    # between first and last arrival, where the source's own lasts to the end of the answer
    service = WORLD.service_s * WORLD.rate_per_s
    assert again.open_mean == pytest.approx(law.open_mean - service, rel=0.1)
    state = stage.start()
    assert len(state["due"]) == pytest.approx(law.open_mean, rel=0.25)


def test_realised_gaps_and_lengths_have_the_drawn_laws(
    source: tuple[pl.DataFrame, Sessions, Lengths],
) -> None:
    _, law, lengths = source
    stage = SessionStage(law, lengths, 3, rate_per_s=14.0)
    c = run(stage, lengths, poisson(14.0, 60_000))
    u = (np.arange(60_000) + 0.5) / 60_000
    drawn = np.interp(u, np.linspace(0, 1, len(stage.gaps)), stage.gaps) / S
    assert stats.ks_2samp(gaps_s(c), drawn).statistic < 0.03
    for margin, column in ((lengths.input, "input_tokens"), (lengths.output, "output_tokens")):
        # sessions are what is independent: 18,000 of them make, 65,000 rehearse: 0.012 at the 5 % level
        assert stats.ks_2samp(c[column], np.rint(margin.grid.quantile(u))).statistic < 0.015
    # what the source shows of first prompts, which went into nothing
    first = float(np.median(c["input_tokens"][c["turn"] == 1]))
    assert first == pytest.approx(float(law.by_turn[0].input_tokens or 0), rel=0.08)
    rho = stats.spearmanr(c["input_tokens"], c["output_tokens"]).statistic
    assert rho == pytest.approx(lengths.spearman, abs=0.02)


def test_more_open_sessions_than_are_kept(
    source: tuple[pl.DataFrame, Sessions, Lengths],
) -> None:
    """A trace that begins with fewer than are open in equilibrium would have too few later turns, silently."""
    _, law, lengths = source
    one = SessionStage(law, lengths, 3, rate_per_s=14.0)
    most = 14.0 * MOST_OPEN / one.open
    assert len(one.start()["due"]) == pytest.approx(one.open, rel=0.2)
    with pytest.raises(ModelError, match="sessions would be open at once"):
        SessionStage(law, lengths, 3, rate_per_s=1.01 * most)


def test_shares_balance_by_themselves(source: tuple[pl.DataFrame, Sessions, Lengths]) -> None:
    """No warming up: first turns are as common at the beginning as at the end, and turns as often late as early."""
    _, law, lengths = source
    stage = SessionStage(law, lengths, 3, rate_per_s=14.0)
    arrival = poisson(14.0, 40_000)
    first = run(stage, lengths, arrival)["turn"] == 1
    tenths = first[: len(first) // 10 * 10].reshape(10, -1).mean(axis=1)
    # first turns come in runs: three times the error of independent ones
    assert tenths == pytest.approx(1 / stage.mean_turns, abs=0.07)
    state = stage.start()
    for b, part in enumerate(np.array_split(arrival, 5)):
        _, state = stage.rows(b, part, draw(lengths, b), state)
    assert abs(state["reals"][loops.LATE] / state["numbers"][loops.LATER]) < 0.05 * S


@pytest.mark.parametrize("share", [1.0, 0.6])
def test_turns_follow_one_another(
    source: tuple[pl.DataFrame, Sessions, Lengths], share: float
) -> None:
    _, law, lengths = source
    stage = SessionStage(law, lengths, 3, rate_per_s=14.0, share=share)
    c = run(stage, lengths, poisson(14.0, 30_000))
    n = len(c["turn"])
    assert np.mean(c["turn"] == 0) == pytest.approx(1 - share, abs=0.01)
    later = np.flatnonzero(c["parent"] >= 0)
    parent = c["parent"][later]
    assert (parent < later).all()
    assert (c["session"][parent] == c["session"][later]).all()
    assert (c["turn"][parent] + 1 == c["turn"][later]).all()
    assert len(np.unique(parent)) == len(parent)
    held = c["input_tokens"][parent] + c["output_tokens"][parent]
    grown = c["shared_tokens"][later] > 0
    assert (c["input_tokens"][later][grown] >= held[grown]).all()
    assert (c["shared_tokens"][later][grown] == c["input_tokens"][parent][grown]).all()
    assert (c["shared_tokens"] <= c["input_tokens"]).all()
    assert c["input_tokens"].max() <= lengths.input.grid.curve.values[-1]
    # the think time is drawn by the number that the gap is drawn by: a hash of (session, turn)
    things = (c["session"][parent] << np.uint64(loops.TURN_BITS)) | c["turn"][parent].astype(np.uint64)  # fmt: skip
    u = uniforms(key(3, "sessions", 0), things, loops.OF_GAP)
    assert law.think_time is not None
    assert law.think_time.grid is not None
    expected = (looked_up(law.think_time.grid, u) * S).astype(np.int64)
    assert np.abs(c["delay_after_parent_ns"][later] - expected).max() <= 1
    assert (c["delay_after_parent_ns"][np.setdiff1d(np.arange(n), later)] == -1).all()


def test_a_block_is_a_pure_function_of_the_state_before_it(
    source: tuple[pl.DataFrame, Sessions, Lengths],
) -> None:
    _, law, lengths = source
    arrival = poisson(14.0, 6000)

    def twice() -> tuple[State, Columns]:
        stage = SessionStage(law, lengths, 3, rate_per_s=14.0)
        _, state = stage.rows(0, arrival[:3000], draw(lengths, 0), stage.start())
        before = {k: v.copy() for k, v in state.items()}
        columns, _ = stage.rows(1, arrival[3000:], draw(lengths, 1), state)
        assert all((state[k] == before[k]).all() for k in before)
        return state, columns

    (one, a), (two, b) = twice(), twice()
    assert all((one[k] == two[k]).all() for k in one)
    assert all((a[k] == b[k]).all() for k in a)
    other = SessionStage(law, lengths, 4, rate_per_s=14.0)
    assert (other.rows(0, arrival, draw(lengths, 0), other.start())[0]["turn"][:3000] != a["turn"]).any()  # fmt: skip


def test_where_sessions_lead_every_turn_comes_when_it_is_due(
    source: tuple[pl.DataFrame, Sessions, Lengths],
) -> None:
    _, law, lengths = source
    stage = SessionStage(law, lengths, 3, rate_per_s=14.0, leads="sessions")
    assert stage.arrivals_per_row == pytest.approx(1 / stage.mean_turns)
    state, parts, blocks = stage.start(), [], 30
    for b in range(blocks):
        rng, end = np.random.default_rng(b), (b + 1) * 100 * S
        n = rng.poisson(1400 * stage.arrivals_per_row)
        start = np.sort(b * 100 * S + (rng.random(n) * 100 * S).astype(np.int64))
        columns, state = stage.led(b, start, end, draw(lengths, b), state)
        parts.append(columns)
        assert (np.diff(columns["arrival_ns"]) >= 0).all()
        assert columns["arrival_ns"][0] >= b * 100 * S
        assert columns["arrival_ns"][-1] < end
    c = {k: np.concatenate([p[k] for p in parts]) for k in parts[0]}
    counts = np.array([len(p["turn"]) for p in parts])
    assert counts.mean() == pytest.approx(1400, rel=0.05)
    assert counts[:3].mean() == pytest.approx(1400, rel=0.1)  # in equilibrium from the start
    later = c["parent"] >= 0
    gap = (c["arrival_ns"][later] - c["arrival_ns"][c["parent"][later]]).astype(np.float64)
    things = (c["session"][later] << np.uint64(loops.TURN_BITS)) | (c["turn"][later] - 1).astype(np.uint64)  # fmt: skip
    u = uniforms(key(3, "sessions", 0), things, loops.OF_GAP)
    assert law.turn_gap is not None
    assert law.turn_gap.grid is not None
    assert np.abs(gap - looked_up(law.turn_gap.grid, u) * S).max() <= 1


def test_who_leads() -> None:
    assert leader(3.0, 10.0, 20.0) == "requests"
    assert leader(50.0, 0.5, 10.0) == "sessions"
    assert leader(3.0, 1.0, 10.0, dispersion=30.0) == "sessions"
    assert leader(1.0, 1e-9, 1.0) == "requests"


def looked_up(grid: Grid, u: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """As the loops do."""
    return np.asarray(np.interp(u, np.linspace(0, 1, KNOTS), grid.curve.table(KNOTS)))


def growing(
    law: Sessions, kind: str, growing: float, cumulative: float, new: float, cells: Any
) -> Sessions:
    """``law`` with a context of one kind that adds exactly ``new`` tokens a turn."""
    grid = Grid(np.array([new, new]), new, 100)
    context = Context(100, Ratio(growing), Ratio(cumulative), kind, grid)
    turns = Tally(100, 3.0, None, {}, cells)
    return replace(law, context=context, turns=turns)


@pytest.mark.parametrize(
    ("kind", "grows", "cumulative"),
    [("without-answers", 1.0, 0.2), ("delta", 0.4, 0.1), ("cumulative", 0.9, 0.7)],
)
def test_contexts_of_every_kind(
    source: tuple[pl.DataFrame, Sessions, Lengths], kind: str, grows: float, cumulative: float
) -> None:
    _, law, lengths = source
    law = growing(law, kind, grows, cumulative, 30.0, ((3, 3, 100),))
    stage = SessionStage(law, lengths, 3, rate_per_s=14.0)
    c = run(stage, lengths, poisson(14.0, 20_000))
    later = np.flatnonzero(c["parent"] >= 0)
    now = c["input_tokens"][later]
    before, answer = (c[k][c["parent"][later]] for k in ("input_tokens", "output_tokens"))
    if kind == "without-answers":
        assert np.mean(now == before + 30) > 0.97  # those beyond the longest begin anew
    elif kind == "delta":
        assert (now == 30).all()
        assert (c["shared_tokens"] == 0).all()
    else:
        assert np.mean(now == before + answer + 30) == pytest.approx(0.7, abs=0.04)
        assert np.mean(now >= before) == pytest.approx(0.9, abs=0.04)
        assert (c["shared_tokens"][later][now < before] == 0).all()


def test_first_prompts_are_as_long_as_they_were(
    source: tuple[pl.DataFrame, Sessions, Lengths],
) -> None:
    """Uniform from 5 to 199 in the source, beside which all prompts keep their law."""
    made, law, lengths = source
    assert law.context is not None
    c = run(SessionStage(law, lengths, 3, rate_per_s=14.0), lengths, poisson(14.0, 40_000))
    first = c["input_tokens"][(c["turn"] == 1)]
    assert first.mean() == pytest.approx(102, rel=0.05)
    assert np.quantile(first, 0.99) < 230
    assert stats.ks_2samp(c["input_tokens"], made["input_tokens"]).statistic < 0.02
    free = replace(law, context=replace(law.context, first_tokens=None))
    assert Sessions.to_dict(sessions_aspect.from_dict(law.to_dict())) == law.to_dict()
    assert "first_tokens" not in free.to_dict()["context"]


def test_beyond_the_longest_prompt(source: tuple[pl.DataFrame, Sessions, Lengths]) -> None:
    """A source with a cap, or without a prompt that is shorter than the one before, has prompts cut at the longest; of others
    the context begins anew."""
    _, law, lengths = source
    plain = Grid(lengths.input.grid.values, 0.0, 100)  # which ends at its last knot
    lengths = replace(lengths, input=replace(lengths.input, grid=plain))
    longest = float(plain.values[-1])
    for cap, grows in ((longest, 0.999), (None, 0.999), (None, 1.0)):
        law = growing(law, "cumulative", grows, grows, longest / 4, ((30, 30, 100),))
        atoms = replace(lengths.input.atoms, cap=cap)
        capped = replace(lengths, input=replace(lengths.input, atoms=atoms))
        c = run(SessionStage(law, capped, 3, rate_per_s=14.0, leads="requests"), capped, poisson(14.0, 20_000))  # fmt: skip
        assert c["input_tokens"].max() <= longest
        at_cap = float(np.mean(c["input_tokens"] == int(longest)))
        assert at_cap > 0.5 if cap or grows == 1 else at_cap < 0.05
        if grows == 1:
            later = np.flatnonzero(c["parent"] >= 0)
            assert (c["input_tokens"][later] >= c["input_tokens"][c["parent"][later]]).all()
        # sessions keep their turns
        assert np.mean(c["turn"] == 1) == pytest.approx(1 / 30, abs=0.01)


def test_turn_laws() -> None:
    cells = ((1, 1, 50), (2, 2, 30), (3, 6, 20))
    upto = turn_law(Tally(100, 2.0, None, {}, cells))
    assert upto == pytest.approx([0.5, 0.8, 0.85, 0.9, 0.95, 1.0])
    with pytest.raises(ModelError, match="how many turns"):
        turn_law(Tally(100, 2.0, None, {}, ()))


def test_censored_turns_follow_their_law(source: tuple[pl.DataFrame, Sessions, Lengths]) -> None:
    """Cells take cut sessions as they are; the law knows that they would have gone on."""
    _, law, _ = source
    best = law.turns.best
    assert best is not None
    cut = replace(law.turns, censored=law.turns.rows // 2)
    mean = float(1 + (1 - turn_law(cut)[:-1]).sum())
    assert mean == pytest.approx(1 / WORLD.p, rel=0.05)


def test_a_time_between_turns_is_needed(source: tuple[pl.DataFrame, Sessions, Lengths]) -> None:
    _, law, lengths = source
    bare = replace(law, think_time=None, turn_gap=None, recorded_delay=None)
    with pytest.raises(ModelError, match="time between turns"):
        SessionStage(bare, lengths, 0, rate_per_s=1.0)
    # think times alone do: what an answer takes is assumed
    thought = replace(law, turn_gap=None)
    stage = SessionStage(thought, lengths, 0, rate_per_s=14.0, service_s=WORLD.service_s)
    c = run(stage, lengths, poisson(14.0, 20_000))
    assert law.turn_gap is not None
    assert np.median(gaps_s(c)) == pytest.approx(law.turn_gap.quantiles_s["p50"], rel=0.1)

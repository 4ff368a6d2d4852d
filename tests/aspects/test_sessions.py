"""Sessions: every figure by a second route, sessions cut by the trace, links instead of names."""

from __future__ import annotations

import itertools
import json
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from lamina_traces.aspects import conversations, sessions
from lamina_traces.aspects.sessions import Sessions
from lamina_traces.aspects.tallies import Tally, cells, tally
from lamina_traces.aspects.whole_groups import WholeGroups
from lamina_traces.counts import Counts
from lamina_traces.errors import ModelError, Notice
from lamina_traces.reports import sessions as report
from lamina_traces.reports.blocks import Figure
from lamina_traces.reports.figures import points
from lamina_traces.store import Store, Trace
from tests.recovery.conversations import World, rows

from .tables import stored

GOLDEN = Path(__file__).parents[1] / "golden"
S = 10**9


def fitted(trace: Trace) -> tuple[Sessions | None, list[str]]:
    notices: list[Notice] = []
    return sessions.fit(trace, notices), [n.code for n in notices if n.subject == "sessions"]


def found(trace: Trace) -> Sessions:
    got, _ = fitted(trace)
    assert got is not None
    return got


@pytest.fixture(scope="module")
def made() -> pl.DataFrame:
    return rows(World(), np.random.default_rng(1))


@pytest.fixture(scope="module")
def trace(made: pl.DataFrame, tmp_path_factory: pytest.TempPathFactory) -> Trace:
    return stored(tmp_path_factory.mktemp("sessions"), "llm_requests", made)


def by_hand(made: pl.DataFrame) -> dict[str, list[float]]:
    """Turns, gaps, think times, and growth of contexts, session by session."""
    out: dict[str, list[float]] = {
        k: [] for k in ("turns", "gap", "think", "added", "begin", "end", "cumulative")
    }
    for _, group in made.sort("arrival_ns").group_by("session_id"):
        r = group.sort("arrival_ns").rows(named=True)
        out["turns"].append(len(r))
        out["begin"].append(r[0]["arrival_ns"])
        out["end"].append(max(x["last_token_ns"] for x in r))
        for a, b in itertools.pairwise(r):
            out["gap"].append((b["arrival_ns"] - a["arrival_ns"]) / S)
            out["think"].append((b["arrival_ns"] - a["last_token_ns"]) / S)
            added = b["input_tokens"] - a["input_tokens"] - a["output_tokens"]
            out["added"].append(added)
            out["cumulative"].append(added >= 0)
    return out


def test_figures_equal_those_counted_by_hand(made: pl.DataFrame, trace: Trace) -> None:
    s, want = found(trace), by_hand(made)
    turns = np.array(want["turns"])
    assert (s.requests, s.sessions, s.by, s.share) == (
        made.height,
        len(turns),
        "session_id",
        1.0,
    )
    assert s.turns.mean == pytest.approx(turns.mean(), rel=1e-5)
    assert s.single.value == pytest.approx((turns == 1).mean(), abs=1e-6)
    many = turns[turns > 1].sum() / turns.sum()
    assert s.multi_turn_requests.value == pytest.approx(many, abs=1e-6)
    assert s.turns.share(2) == pytest.approx((turns == 2).mean(), abs=1e-12)
    assert sum(n for _, _, n in s.turns.cells) == len(turns)
    for name, key in (("think_time", "think"), ("turn_gap", "gap")):
        law, values = getattr(s, name), np.array(want[key])
        assert law.rows == len(values)
        assert law.mean_s == pytest.approx(values.mean(), rel=1e-6), name
        assert law.quantiles_s["p90"] == pytest.approx(np.quantile(values, 0.9), rel=0.02), name
    assert s.think_time is not None
    assert s.turn_gap is not None
    assert s.think_time.mean_s < s.turn_gap.mean_s
    assert s.overlapping == 0
    assert s.context is not None
    assert s.context.kind == "cumulative"
    assert s.context.cumulative.value == 1
    assert s.context.new_tokens is not None
    assert s.context.new_tokens.mean == pytest.approx(np.mean(want["added"]))
    for t in s.by_turn:
        of_turn = made.with_columns(pl.int_range(pl.len()).over("session_id").alias("at"))
        chosen = of_turn.filter(pl.col("at") == t.turn - 1)
        assert t.requests == chosen.height
        assert t.input_tokens == chosen["input_tokens"].median()
    begin, end = np.array(want["begin"]), np.array(want["end"])
    at = made["arrival_ns"].to_numpy()
    span = float(at.max() - at.min())
    assert s.open_mean == pytest.approx((end - begin).sum() / span, rel=1e-3)
    instants = np.sort(begin)
    peak = max(int(((begin <= t) & (end > t)).sum()) for t in instants)
    assert s.open_peak == peak


def test_sql_counts_the_same_turns(made: pl.DataFrame, trace: Trace) -> None:
    table = trace.sql(
        "SELECT turns, COUNT(*) AS n FROM (SELECT COUNT(*) AS turns FROM llm_requests "
        "WHERE session_id IS NOT NULL GROUP BY session_id) GROUP BY turns ORDER BY turns"
    ).to_pydict()
    want = Counts.exact(table["turns"], table["n"])
    assert found(trace).turns.cells == tuple(cells(want))


def test_laws_come_back(trace: Trace) -> None:
    s = found(trace)
    assert s.think_time is not None
    best = s.think_time.best
    assert best is not None
    assert best.family == "lognormal"
    assert best.params["mu"] == pytest.approx(2, abs=0.05)
    assert best.params["sigma"] == pytest.approx(1, abs=0.03)
    interval = best.intervals["sigma"]
    assert interval.low < best.params["sigma"] < interval.high
    geometric = next(f for f in s.turns.families if f.family == "geometric")
    assert geometric.params["p"] == pytest.approx(0.3, abs=0.015)
    assert {f.family for f in s.turns.families} == {"geometric", "zeta", "negative-binomial"}


def test_sessions_under_way_do_not_bend_the_law(tmp_path: Path) -> None:
    """Of sessions that began before the trace the long ones are seen; a law of all that begin inside is not bent."""
    world = World(span_s=150.0, past_s=400.0, rate_per_s=12.0)
    s = found(stored(tmp_path, "llm_requests", rows(world, np.random.default_rng(2))))
    assert s.censored is not None
    assert s.censored > 0.2
    geometric = next(f for f in s.turns.families if f.family == "geometric")
    assert geometric.params["p"] == pytest.approx(0.3, abs=0.02)
    assert abs(1 / s.turns.mean - 0.3) > 0.03
    assert s.turns.censored > 0
    assert "censored-sessions" in s.findings()[0].warning


def test_numbers_of_turns_tell_which_sessions_began_before(tmp_path: Path) -> None:
    world = World(span_s=150.0, past_s=400.0, rate_per_s=12.0)
    frame = rows(world, np.random.default_rng(3))
    numbered = frame.with_columns(
        (pl.int_range(pl.len()).over("session_id") + 3).cast(pl.Int32).alias("turn")
    )
    s = found(stored(tmp_path, "llm_requests", numbered))
    assert s.censored == 1.0
    assert s.turns.families == ()
    assert s.by_turn[0].turn == 3


def links(made: pl.DataFrame) -> pl.DataFrame:
    """The same conversations told by the request before."""
    rows = made.with_columns(
        request_id=pl.format("r{}", pl.int_range(pl.len())),
    )
    return rows.with_columns(
        parent_request_id=pl.col("request_id").shift(1).over("session_id")
    ).drop("session_id")


def test_links_to_the_request_before_say_the_same(
    made: pl.DataFrame, trace: Trace, tmp_path: Path
) -> None:
    linked, codes = fitted(stored(tmp_path, "llm_requests", links(made)))
    assert codes == ["sessions-linked"]
    assert linked is not None
    want = found(trace)
    assert linked.by == "parent_request_id"
    a, b = linked.to_dict(), want.to_dict()
    assert {k for k in a if a[k] != b[k]} == {"by"}


def test_siblings_of_a_parent_that_is_not_there_are_one_session() -> None:
    frame = pl.DataFrame(
        {
            "request": [1, 2, 3, 4, 5, None],
            "parent": [None, 1, 2, 99, 99, 3],
        },
        schema={"request": pl.UInt64, "parent": pl.UInt64},
    )
    assert conversations._roots(frame).tolist() == [1, 1, 1, 99, 99, 1]
    circle = pl.DataFrame(
        {"request": [1, 2], "parent": [2, 1]}, schema={"request": pl.UInt64, "parent": pl.UInt64}
    )
    assert len(conversations._roots(circle)) == 2


def test_times_across_a_mask_do_not_count(tmp_path: Path) -> None:
    """Turns every 10 s in forty sessions side by side; a minute in the middle is masked."""
    at = np.arange(30) * 10 * S
    frame = pl.DataFrame(
        {
            "arrival_ns": np.repeat(at, 40) + np.tile(np.arange(40), 30),
            "session_id": [f"s{i}" for i in range(40)] * 30,
            "last_token_ns": np.repeat(at, 40) + np.tile(np.arange(40), 30) + 2 * S,
            "input_tokens": np.full(1200, 10, dtype=np.int32),
            "output_tokens": np.full(1200, 5, dtype=np.int32),
            "status": ["ok"] * 1200,
        }
    )
    whole = stored(tmp_path, "llm_requests", frame)
    s = found(whole.mask(95 * S, 155 * S))
    assert s.turn_gap is not None
    assert s.turn_gap.mean_s == pytest.approx(10)
    assert s.turn_gap.rows == 40 * (9 + 13)
    assert s.think_time is not None
    assert s.think_time.mean_s == pytest.approx(8)
    assert s.censored == 1
    assert s.context is not None
    assert s.context.pairs == 40 * (9 + 13)
    assert s.context.kind == "without-answers"
    assert s.open_peak == 40


def test_turns_that_come_before_the_answer_has_ended(tmp_path: Path) -> None:
    n = 200
    frame = pl.DataFrame(
        {
            "arrival_ns": np.arange(n) * S,
            "session_id": [f"s{i // 2}" for i in range(n)],
            "e2e_s": [1.5 if i % 4 == 0 else 0.25 for i in range(n)],
            "status": ["ok"] * n,
        }
    )
    s = found(stored(tmp_path, "llm_requests", frame))
    assert s.overlapping == 0.5
    assert s.think_time is not None
    assert s.think_time.rows == 50
    assert s.think_time.mean_s == pytest.approx(0.75)
    assert s.context is None


def test_delays_that_the_source_states(tmp_path: Path) -> None:
    """Later turns without an arrival, as aiperf writes them."""
    rng = np.random.default_rng(4)
    n = 300
    later = np.arange(n) % 3 > 0
    frame = pl.DataFrame(
        {
            "arrival_ns": [None if late else i * S for i, late in enumerate(later)],
            "session_id": [f"s{i // 3}" for i in range(n)],
            "turn": (np.arange(n) % 3 + 1).astype(np.int32),
            "delay_after_parent_ns": [
                int(d) if late else None
                for d, late in zip(rng.integers(S, 9 * S, n), later, strict=True)
            ],
            "status": ["ok"] * n,
        },
        schema_overrides={"arrival_ns": pl.Int64, "delay_after_parent_ns": pl.Int64},
    ).sort("arrival_ns", nulls_last=True)
    s = found(stored(tmp_path, "llm_requests", frame))
    assert s.recorded_delay is not None
    assert s.recorded_delay.rows == 200
    assert 1 < s.recorded_delay.mean_s < 9
    assert (s.think_time, s.turn_gap) == (None, None)
    assert s.turns.mean == 3
    assert s.between is not None
    assert s.between[0] == "recorded_delay"


def test_contexts_that_are_deltas(tmp_path: Path) -> None:
    rng = np.random.default_rng(5)
    frame = rows(World(span_s=600.0), rng)
    lengths = rng.integers(5, 2000, frame.height).astype(np.int32)
    s = found(stored(tmp_path, "llm_requests", frame.with_columns(input_tokens=pl.Series(lengths))))
    assert s.context is not None
    assert s.context.kind == "delta"
    assert s.context.new_tokens is not None
    assert s.context.new_tokens.mean == pytest.approx(1000, rel=0.1)


def test_what_cannot_be_seen_is_said(made: pl.DataFrame, tmp_path: Path) -> None:
    plain = stored(tmp_path / "a", "llm_requests", made.drop("session_id"))
    assert fitted(plain) == (None, ["not-recorded"])
    assert sessions.score(plain, plain) == []
    one = sessions.score(plain, stored(tmp_path / "e", "llm_requests", made))
    assert [(x.value, x.passed) for x in one] == [(None, None)]
    few = stored(tmp_path / "b", "llm_requests", made.head(8))
    assert fitted(few) == (None, ["few-sessions"])
    rows = made.with_row_index("row_id").cast({"row_id": pl.Int64})
    for name, facts, codes in (
        ("c", {"clock": "relative", "sampled": 0.2}, ["sampled-trace"]),
        ("d", {"clock": "session"}, []),
    ):
        with Store(tmp_path / name).writer("t", kind="llm", nature="synthetic") as w:
            w.write("llm_requests", rows)
            got, said = fitted(w.commit(format="test", **facts))
        assert said == codes
    assert got is not None
    assert (got.censored, got.open_mean, got.open_peak) == (None, None, None)
    assert got.think_time is not None
    assert got.think_time.intervals == {}
    assert got.single.interval is not None
    assert got.single.interval.method == "Wilson"


def test_of_too_many_rows_whole_sessions_are_left_out(made: pl.DataFrame, trace: Trace) -> None:
    t = conversations.read(trace, most=4000)
    assert t is not None
    assert t.share == 0.25
    assert t.rows == made.height
    full = made.group_by("session_id").len()["len"]
    assert t.sessions == pytest.approx(len(full) * t.share, rel=0.1)
    s = sessions.measure(t, None)
    assert s.sessions == pytest.approx(len(full), rel=0.1)
    assert s.turns.mean == pytest.approx(full.to_numpy().mean(), rel=0.05)


def test_groups_are_whole_or_absent() -> None:
    rng = np.random.default_rng(6)
    groups = WholeGroups(most=500)
    whole = pl.DataFrame({"group": rng.integers(0, 2**63, 400).astype(np.uint64)[rng.integers(0, 400, 5000)]})  # fmt: skip
    for part in whole.iter_slices(300):
        groups.add(part)
    kept = groups.frame()
    assert kept is not None
    assert kept.height <= 500
    assert groups.rows == 5000
    want = whole.filter(pl.col("group").is_in(kept["group"].unique().to_list()))
    assert kept["group"].value_counts(sort=True)["count"].to_list() == want["group"].value_counts(sort=True)["count"].to_list()  # fmt: skip


def test_a_session_profile_reads_back_and_names_nobody(trace: Trace) -> None:
    s = found(trace)
    text = json.dumps(s.to_dict())
    assert len(text) < 12_000
    assert sessions.from_dict(json.loads(text)).to_dict() == s.to_dict()
    assert all(n >= 10 for _, _, n in s.turns.cells)
    assert all(t.requests >= 20 for t in s.by_turn)
    assert [f.aspect for f in s.findings()] == ["sessions"] * len(s.findings())
    assert "think time" in s.findings()[1].text
    assert {x.value for x in sessions.score(trace, trace)} == {0}
    brief = s.brief().to_dict()
    assert len(json.dumps(brief)) < len(text) / 2
    assert sessions.from_dict(json.loads(json.dumps(brief))).to_dict() == brief
    assert [name for name, _ in s.laws()] == ["turns a session", "think time, s", "turn gap, s"]


def test_cells_join_until_ten_share_them() -> None:
    counts = Counts.exact([1, 2, 3, 5, 9, 40], [100, 12, 4, 8, 3, 2])
    assert cells(counts) == [(1, 1, 100), (2, 2, 12), (3, 40, 17)]
    assert cells(Counts.exact([1, 7], [4, 3])) == [(1, 7, 7)]
    assert tally(Counts.exact([1, 2], [5, 6])) is None


def test_survivors_do_not_shorten_the_law() -> None:
    """Numbers are cut at a limit of their own: known in part to be larger."""
    rng = np.random.default_rng(7)
    truth = rng.negative_binomial(0.7, 0.2, 20_000) + 1
    limit = rng.integers(1, 8, 20_000)
    cut = truth > limit
    seen = np.where(cut, limit + 1, truth)
    t = tally(Counts.of(seen), complete=Counts.of(truth[~cut]), survivors=Counts.of(seen[cut]))
    assert t is not None
    law = t.best
    assert law is not None
    assert law.family == "negative-binomial"
    assert law.params["size"] == pytest.approx(0.7, abs=0.05)
    assert law.params["p"] == pytest.approx(0.2, abs=0.02)
    assert law.ks_d < 0.01
    assert t.censored == cut.sum()
    assert Tally.from_dict(json.loads(json.dumps(t.to_dict()))).to_dict() == t.to_dict()


def test_the_page_shows_turns_times_and_contexts(trace: Trace) -> None:
    section = report.section(found(trace), "sessions", "")
    figures = [b for b in section.blocks if isinstance(b, Figure)]
    assert [f.id for f in figures] == [f"sessions-{k}" for k in ("turns", "times", "contexts")]
    assert all(0 < points(f.data) < 3000 for f in figures)
    json.dumps([(f.data, f.layout) for f in figures], allow_nan=False)
    assert {d["name"] for d in figures[1].data} == {"think time", "turn gap", "lognormal"}
    measured = figures[0].data[0]
    assert (measured["x"][0], measured["y"][0]) == (1, 100)


def test_version_1_is_read() -> None:
    d = json.loads((GOLDEN / "sessions-1.json").read_text(encoding="utf-8"))
    assert sessions.from_dict(d).to_dict() == d


@pytest.mark.parametrize(
    ("where", "value"),
    [
        (("single", "value"), 1.2),
        (("share",), 0),
        (("censored",), -0.1),
        (("open_mean",), float("nan")),
        (("sessions",), -1),
        (("turns", "mean"), float("inf")),
        (("turns", "cells", 0), [3, 2, 20]),
        (("context", "kind"), "other"),
        (("by_turn", 0, "turn"), 0),
        (("think_time", "mean_s"), -1),
    ],
)
def test_damaged_sessions_are_refused(
    trace: Trace, where: tuple[str | int, ...], value: object
) -> None:
    d = json.loads(json.dumps(found(trace).to_dict()))
    at = d
    for key in where[:-1]:
        at = at[key]
    at[where[-1]] = value
    with pytest.raises(ModelError):
        sessions.from_dict(d)

"""Workflows: templates by hand unfold as they say, a fit gives them back, and cuts in time change nothing."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from scipy import stats

from lamina_traces.aspects import workflows as workflows_aspect
from lamina_traces.aspects.tallies import Tally
from lamina_traces.aspects.templates import DELAY_KINDS, Spread, Template
from lamina_traces.aspects.workflows import Workflows
from lamina_traces.characterization import characterize
from lamina_traces.errors import ModelError
from lamina_traces.generator import Options, generate
from lamina_traces.generator.workflows import WorkflowStage
from tests.aspects.tables import stored

S = 10**9
RATE = 2.0
DRAFT: dict[str, Any] = {
    "name": "plan and retrieve",
    "share": 3.0,
    "steps": [
        {"name": "plan", "input": {"median": 900, "p90": 1500}, "output": 120, "lasts_s": 2.0},
        {
            "name": "retrieve", "after": ["plan"], "repeat": {"values": [1, 2, 3, 4, 5]}, "input": {"median": 3000, "p90": 6000, "max": 8000},
            "output": 60, "delay_s": {"median": 0.3, "p90": 1.0, "basis": "assumed"}, "delay_kind": "tool", "lasts_s": 1.0,
        },
        {"name": "check", "after": ["retrieve"], "probability": 0.4, "input": 700, "output": 40, "lasts_s": 0.5},
        {"name": "answer", "stage": "final", "after": ["check", "plan"], "input": 50, "output": 300, "holds": True},
    ],
}  # fmt: skip
LOOP: dict[str, Any] = {
    "name": "act",
    "share": 1.0,
    "steps": [
        {"name": "act", "repeat": 30, "repeat_in": "sequence", "input": 1000, "output": 10, "holds": True, "delay_s": 2.0, "delay_kind": "tool"},
    ],
}  # fmt: skip
Columns = dict[str, Any]


def law(*templates: dict[str, Any]) -> Workflows:
    made = tuple(map(Template.from_dict, templates))
    return Workflows(0, 0, "workflow_id", 1.0, "edges", 0, {}, None, None, None, None, {}, (), None, None, (), made)  # fmt: skip


def lengths(n: int) -> tuple[Any, Any]:
    return np.full(n, 11, dtype=np.int64), np.full(n, 7, dtype=np.int64)


def poisson(span_s: float) -> Any:
    rng = np.random.default_rng(4)
    return np.sort(rng.random(rng.poisson(RATE * span_s)) * span_s * S).astype(np.int64)


def staged(of: Workflows, seed: int) -> WorkflowStage:
    """At RATE workflows a second."""
    calls = WorkflowStage(of, seed, calls_per_s=1.0).mean_calls
    return WorkflowStage(of, seed, calls_per_s=RATE * calls)


def run(stage: WorkflowStage, span_s: float = 2000.0, blocks: int = 10) -> Columns:
    """All rows; ``parents`` as lists."""
    arrival, state = poisson(span_s), stage.start()
    edges = np.linspace(0, span_s * S, blocks + 1).astype(np.int64)
    parts, parents = [], []
    for a, b in itertools.pairwise(edges):
        inside = arrival[(arrival >= a) & (arrival < b)]
        columns, state = stage.rows(inside, int(b), lengths, state)
        at, flat = columns.pop("parents_from"), columns.pop("parents")
        parents += [flat[i:j].tolist() for i, j in itertools.pairwise(at)]
        assert (columns["arrival_ns"] >= a).all()
        assert (columns["arrival_ns"] < b).all()
        parts.append(columns)
    out = {k: np.concatenate([p[k] for p in parts]) for k in parts[0]}
    assert (np.diff(out["arrival_ns"]) >= 0).all()
    return {**out, "parents": parents}


def by_workflow(c: Columns) -> dict[int, list[int]]:
    """Rows of each workflow that is whole: its first call and its last are there."""
    found: dict[int, list[int]] = {}
    for i, w in enumerate(c["workflow"].tolist()):
        found.setdefault(w, []).append(i)
    return found


def test_a_template_by_hand_unfolds_as_it_says() -> None:
    stage = staged(law(DRAFT), 7)
    c = run(stage)
    names = np.array(stage.stages)[c["stage"]]
    checked, retrieved, whole = [], [], 0
    for rows in by_workflow(c).values():
        stages = [str(names[i]) for i in rows]
        if stages[0] != "plan" or stages[-1] != "final":
            continue  # cut by an edge of the trace
        whole += 1
        plan, last = rows[0], rows[-1]
        fans = [i for i, s in zip(rows, stages, strict=True) if s == "retrieve"]
        check = [i for i, s in zip(rows, stages, strict=True) if s == "check"]
        assert c["step_index"][rows].tolist() == sorted(c["step_index"][rows].tolist()) or len(fans) > 1  # fmt: skip
        assert c["parents"][plan] == []
        assert all(c["parents"][i] == [plan] for i in fans)
        assert all(sorted(c["parents"][i]) == fans for i in check)
        # who waits for a step that is left out waits for those before it
        assert sorted(c["parents"][last]) == sorted([plan, *(check or fans)])
        ends = {plan: 2.0, **dict.fromkeys(fans, 1.0), **dict.fromkeys(check, 0.5)}
        for i in rows[1:]:
            ended = max(c["arrival_ns"][p] + int(ends[p] * S) for p in c["parents"][i])
            assert c["arrival_ns"][i] == ended + c["delay_after_parent_ns"][i]
        slowest = max(c["parents"][last], key=lambda p: c["arrival_ns"][p] + int(ends[p] * S))
        assert c["input_tokens"][last] == 50 + c["input_tokens"][slowest] + c["output_tokens"][slowest]  # fmt: skip
        checked.append(len(check))
        retrieved.append(len(fans))
    assert whole > 3800
    assert np.mean(checked) == pytest.approx(0.4, abs=0.025)  # three standard errors
    assert np.mean(retrieved) == pytest.approx(3.0, abs=0.06)
    fan = names == "retrieve"
    assert c["input_tokens"][fan].max() <= 8000
    assert np.median(c["input_tokens"][fan]) == pytest.approx(3000, rel=0.03)
    delay_s = c["delay_after_parent_ns"][fan & (c["delay_after_parent_ns"] >= 0)] / S
    assert np.quantile(delay_s, [0.5, 0.9]) == pytest.approx([0.3, 1.0], rel=0.05)
    assert (c["delay_kind"][fan & (c["delay_after_parent_ns"] >= 0)] == DELAY_KINDS.index("tool")).all()  # fmt: skip
    assert (c["delay_after_parent_ns"][names == "plan"] == -1).all()


def test_a_sequence_grows_call_by_call() -> None:
    stage = staged(law(LOOP), 7)
    assert stage.mean_calls == 30
    c = run(stage, 400.0)
    whole = [r for r in by_workflow(c).values() if len(r) == 30]
    assert len(whole) > 500
    for rows in whole[:50]:
        assert [c["parents"][i] for i in rows] == [[], *([i] for i in rows[:-1])]
        assert c["input_tokens"][rows].tolist() == [1000 + 1010 * k for k in range(30)]
        # nominal: 0.5 s and 30 ms a token, then the tool's 2 s
        assert np.diff(c["arrival_ns"][rows]) == pytest.approx((0.5 + 0.3 + 2.0) * S, abs=2)


def test_cuts_in_time_change_nothing() -> None:
    stage = staged(law(DRAFT, LOOP), 7)
    one, many = run(stage, 500.0, 1), run(stage, 500.0, 37)
    assert one["parents"] == many["parents"]
    assert all((one[k] == many[k]).all() for k in one if k != "parents")
    state = stage.start()
    _, state = stage.rows(poisson(50.0), 50 * S, lengths, state)
    before = {k: v.copy() for k, v in state.items()}
    a, _ = stage.rows(np.zeros(0, dtype=np.int64), 90 * S, lengths, state)
    b, _ = staged(law(DRAFT, LOOP), 7).rows(np.zeros(0, dtype=np.int64), 90 * S, lengths, before)
    assert all((state[k] == before[k]).all() for k in state)
    assert all((a[k] == b[k]).all() for k in a)


def test_shares_and_a_trace_in_equilibrium() -> None:
    stage = staged(law(DRAFT, LOOP), 7)
    c = run(stage)
    loops = np.unique(c["workflow"][c["stage"] == stage.stages.index("act")])
    plans = np.unique(c["workflow"][c["stage"] == stage.stages.index("plan")])
    assert len(loops) / (len(loops) + len(plans)) == pytest.approx(0.25, abs=0.03)
    tenths, _ = np.histogram(c["arrival_ns"], 10, (0, 2000 * S))
    # 400 workflows a tenth, whose calls come together: 9 % is one standard error
    assert tenths[0] == pytest.approx(tenths[1:].mean(), rel=0.3)
    assert len(c["workflow"]) / 2000 == pytest.approx(RATE * stage.mean_calls, rel=0.1)


def test_more_workflows_under_way_than_are_looked_at() -> None:
    assert WorkflowStage(law(DRAFT), 7, calls_per_s=1e3).start()
    with pytest.raises(ModelError, match="would be under way"):
        WorkflowStage(law(DRAFT), 7, calls_per_s=1e8).start()


def as_trace(stage: WorkflowStage, c: Columns, path: Path) -> Any:
    """Generated rows as the lead's maker would name them, with their nominal ends."""
    n = len(c["workflow"])
    ends = c["arrival_ns"] + (0.5 * S + 0.03 * S * c["output_tokens"]).astype(np.int64)
    for i, parents in enumerate(c["parents"]):
        for p in parents:  # a nominal end that is stated shows in when its children come
            ends[p] = min(ends[p], c["arrival_ns"][i] - c["delay_after_parent_ns"][i])
    frame = pl.DataFrame(
        {
            "arrival_ns": c["arrival_ns"],
            "last_token_ns": ends,
            "workflow_id": [f"w{w}" for w in c["workflow"].tolist()],
            "stage": [stage.stages[i] for i in c["stage"].tolist()],
            "depends_on": pl.Series(c["parents"], dtype=pl.List(pl.Int64)),
            "delay_after_parent_ns": [d if d >= 0 else None for d in c["delay_after_parent_ns"].tolist()],
            "delay_kind": [DELAY_KINDS[k] if k >= 0 else None for k in c["delay_kind"].tolist()],
            "input_tokens": c["input_tokens"].astype(np.int32),
            "output_tokens": c["output_tokens"].astype(np.int32),
            "status": ["ok"] * n,
        },
        schema_overrides={"delay_after_parent_ns": pl.Int64, "delay_kind": pl.String},
    )  # fmt: skip
    return stored(path, "llm_requests", frame)


def test_a_fit_gives_templates_back(tmp_path: Path) -> None:
    stage = staged(law(DRAFT), 7)
    c = run(stage)
    found = workflows_aspect.fit(as_trace(stage, c, tmp_path), [])
    assert found is not None
    whole = [t for t in found.templates if t.steps[0].stage == "plan" and t.steps[-1].stage == "final"]  # fmt: skip
    # one to five calls of the second step, with a check or without: the commonest has 3 without, (1/4)·0.6
    best = whole[0]
    assert best.share == pytest.approx(0.15, abs=0.02)
    assert [s.stage for s in best.steps] == ["plan", "retrieve", "final"]
    assert [s.after for s in best.steps] == [(), ("1",), ("1", "2")]
    assert best.steps[1].delay_kind == "tool"
    assert best.steps[1].repeat is not None
    assert best.steps[1].repeat.stated in (2, 3, 4)
    first = best.steps[0].input
    assert first is not None
    assert np.median(first.values) == pytest.approx(900, rel=0.05)
    retrieve = best.steps[1]
    assert retrieve.delay_s is not None
    assert retrieve.input is not None
    assert np.median(retrieve.delay_s.values) == pytest.approx(0.3, rel=0.15)
    assert np.median(retrieve.input.values) == pytest.approx(3000, rel=0.1)
    # and what is generated from the fit is like what it was fitted to
    assert Workflows.to_dict(workflows_aspect.from_dict(found.to_dict())) == found.to_dict()
    again = staged(found, 8)
    d = run(again)
    refound = workflows_aspect.fit(as_trace(again, d, tmp_path / "again"), [])
    assert refound is not None
    for name in ("calls_per_workflow", "depth", "width"):
        assert refound.tallies[name].mean == pytest.approx(found.tallies[name].mean, rel=0.05)
    assert refound.makespan is not None
    assert found.makespan is not None
    assert refound.makespan.quantiles_s["p50"] == pytest.approx(found.makespan.quantiles_s["p50"], rel=0.1)  # fmt: skip
    named = found.nameless()
    assert "retrieve" not in str(named.to_dict())
    assert [len(t.steps) for t in named.templates] == [len(t.steps) for t in found.templates]


@pytest.mark.parametrize("rho", [0.7, -0.4])
def test_prompts_and_answers_of_a_step_depend_on_each_other(rho: float, tmp_path: Path) -> None:
    step = {
        "name": "act",
        "input": {"median": 900, "p90": 2500},
        "output": {"median": 90, "p90": 250},
    }
    stage = staged(law({"name": "t", "share": 1.0, "steps": [step | {"correlation": rho}]}), 7)
    c = run(stage)
    assert stats.spearmanr(c["input_tokens"], c["output_tokens"])[0] == pytest.approx(rho, abs=0.04)
    free = run(staged(law({"name": "t", "share": 1.0, "steps": [step]}), 7))
    assert stats.ks_2samp(c["output_tokens"], free["output_tokens"]).statistic < 0.04
    found = workflows_aspect.fit(as_trace(stage, c, tmp_path), [])
    assert found is not None
    assert found.templates[0].steps[0].correlation == pytest.approx(rho, abs=0.04)


def test_bursts_of_calls_are_not_taken_for_bursts_of_tasks(tmp_path: Path) -> None:
    """Poisson tasks of seven calls in a few seconds: fitted and made again, the dispersion stays; were the calls' arrivals
    taken for tasks', it would be several times as high."""
    stage = staged(law(DRAFT), 7)
    t = run(stage, span_s=6000.0)
    trace = as_trace(stage, t, tmp_path)
    found = characterize(trace)
    made = [[d["arrival_ns"].to_numpy() for d in generate(found, duration_ns=6000 * S, seed=k)] for k in range(4)]  # fmt: skip
    for w_s in (1, 5, 30):
        a = np.bincount(t["arrival_ns"] // (w_s * S))
        counts = [np.bincount(np.concatenate(x) // (w_s * S)) for x in made]
        assert [b.sum() / a.sum() for b in counts] == pytest.approx([1] * 4, abs=0.1)
        b = np.mean([b.var() / b.mean() for b in counts])
        assert b / (a.var() / a.mean()) == pytest.approx(1, abs=0.25), w_s
    assert a.var() / a.mean() > 4
    steady = generate(found, duration_ns=6000 * S, options=Options(arrivals="constant"))
    c = np.bincount(np.concatenate([d["arrival_ns"].to_numpy() for d in steady]) // (30 * S))
    assert c.var() / c.mean() < 0.5 * a.var() / a.mean()  # the knob reaches the tasks


def test_faster_time_is_faster_everywhere() -> None:
    one = WorkflowStage(law(DRAFT), 7, calls_per_s=6.0)
    four = WorkflowStage(law(DRAFT), 7, calls_per_s=24.0, speed=4.0)
    a, b = (s.rows(np.arange(0, n, n // 50), 10**15, lengths, s.start()) for s, n in ((one, 400 * S), (four, 100 * S)))  # fmt: skip
    for column in ("arrival_ns", "delay_after_parent_ns"):
        x, y = (np.where(c[0][column][-300:] < 0, 0, c[0][column][-300:]) for c in (a, b))
        assert np.abs(x - 4 * y).max() <= 40


def test_without_templates_tasks_are_chains() -> None:
    calls = Tally(100, 3.0, None, {}, ((2, 2, 50), (4, 4, 50)))
    bare = Workflows(100, 300, "workflow_id", 1.0, "none", 0, {"calls_per_workflow": calls}, None, None, None, None, {}, (), None, None, ())  # fmt: skip
    stage = staged(bare, 7)
    c = run(stage)
    sizes = [len(r) for r in by_workflow(c).values()]
    assert set(sizes) <= {1, 2, 3, 4}
    assert np.mean(np.array(sizes) == 4) == pytest.approx(0.5, abs=0.03)
    assert (c["input_tokens"] == 11).all()
    assert (c["output_tokens"] == 7).all()
    empty = Workflows(0, 0, "workflow_id", 1.0, "none", 0, {}, None, None, None, None, {}, (), None, None, ())  # fmt: skip
    with pytest.raises(ModelError, match="without templates"):
        staged(empty, 7)


@pytest.mark.parametrize("draft", [DRAFT, LOOP])
def test_dictionaries_come_back(draft: dict[str, Any]) -> None:
    once = Template.from_dict(draft).to_dict()
    assert Template.from_dict(once).to_dict() == once
    assert once == draft


@pytest.mark.parametrize(
    ("steps", "said"),
    [
        ([{"name": "a", "after": ["b"]}, {"name": "b"}], "no step before it"),
        ([{"name": "a"}, {"name": "a"}], "twice"),
        ([{"name": "a", "input": -1}], "no number"),
        ([{"name": "a", "input": float("nan")}], "no number"),
        ([{"name": "a", "input": {"median": 10, "p90": 5}}], "below the median"),
        ([{"name": "a", "input": "many"}], "no number"),
        ([{"name": "a", "probability": 1.5}], "out of range"),
        ([{"name": "a", "repeat_in": "circles"}], "out of range"),
        ([{"name": "a", "inputs": 3}], "inputs"),
        ([{"stage": "a"}], "no name"),
        ([], "0 steps"),
        ([{"name": str(i)} for i in range(65)], "65 steps"),
    ],
)
def test_nonsense_is_refused(steps: list[dict[str, Any]], said: str) -> None:
    with pytest.raises(ModelError, match=said):
        Template.from_dict({"name": "t", "share": 1.0, "steps": steps})


def test_a_spread_is_of_its_law() -> None:
    values = Spread.of({"median": 100, "p90": 400, "max": 1000}, "x").values
    q = np.quantile(values, [0.5, 0.9, 1.0])
    assert q == pytest.approx([100, 400, 1000], rel=0.02)
    assert Spread.of({"value": 5, "basis": "paper"}, "x").values.tolist() == [5.0] * len(values)

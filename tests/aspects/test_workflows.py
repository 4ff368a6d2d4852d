"""Workflows: graphs by a second route, the two recorded agent traces by hand, shapes, delays."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from lamina_traces.aspects import calls, dags, workflows
from lamina_traces.aspects.call_graphs import graphs, timed
from lamina_traces.aspects.workflows import Workflows
from lamina_traces.errors import ModelError, Notice
from lamina_traces.reports import workflows as report
from lamina_traces.reports.blocks import Figure, Table
from lamina_traces.store import Store, Trace
from tests.recovery.tasks import Tasks, rows

from .tables import stored

GOLDEN = Path(__file__).parents[1] / "golden"
S = 10**9


def fitted(trace: Trace) -> tuple[Workflows | None, list[str]]:
    notices: list[Notice] = []
    return workflows.fit(trace, notices), [n.code for n in notices if n.subject == "workflows"]


def found(trace: Trace) -> Workflows:
    got, _ = fitted(trace)
    assert got is not None
    return got


@pytest.fixture(scope="module")
def made() -> pl.DataFrame:
    return rows(Tasks(), np.random.default_rng(1))


@pytest.fixture(scope="module")
def trace(made: pl.DataFrame, tmp_path_factory: pytest.TempPathFactory) -> Trace:
    return stored(tmp_path_factory.mktemp("workflows"), "llm_requests", made)


# --- graphs ----------------------------------------------------------------------------------------


def random_graphs(rng: np.random.Generator, n: int) -> tuple[np.ndarray, np.ndarray]:
    """Edges from earlier to later calls."""
    pairs = [(i, j) for j in range(n) for i in range(j) if rng.random() < 3 / n]
    parent, child = (np.array([p[k] for p in pairs], dtype=np.int64) for k in (0, 1))
    order = rng.permutation(len(pairs))
    return parent[order], child[order]


@pytest.mark.parametrize("seed", range(8))
def test_longest_paths_equal_those_by_recursion(seed: int) -> None:
    rng = np.random.default_rng(seed)
    n = 60
    parent, child = random_graphs(rng, n)
    weight = rng.uniform(0, 5, n)
    before: dict[int, list[int]] = {j: [] for j in range(n)}
    for a, b in zip(parent.tolist(), child.tolist(), strict=True):
        before[b].append(a)
    level = np.zeros(n, dtype=int)
    path = weight.copy()
    for j in range(n):  # edges go forward, so parents are done
        if before[j]:
            level[j] = 1 + max(level[i] for i in before[j])
            path[j] = weight[j] + max(path[i] for i in before[j])
    got = dags.levels(n, parent, child, weight)
    assert got.level.tolist() == level.tolist()
    np.testing.assert_allclose(got.path, path)


def test_what_lies_behind_a_circle_has_no_level() -> None:
    got = dags.levels(5, np.array([0, 1, 2, 1]), np.array([1, 2, 1, 3]))
    assert got.level.tolist() == [0, -1, -1, -1, 0]


@pytest.mark.parametrize("seed", range(8))
def test_chains_by_time_equal_those_by_recursion(seed: int) -> None:
    rng = np.random.default_rng(seed)
    start = np.sort(rng.integers(0, 100, 40))
    end = start + rng.integers(0, 12, 40)
    workflow = np.sort(rng.integers(0, 4, 40))
    order = np.lexsort((start, workflow))
    workflow, start, end = workflow[order], start[order], end[order]

    def level(j: int) -> int:
        ends = np.maximum(end, start + 1)
        before = [i for i in range(40) if workflow[i] == workflow[j] and ends[i] <= start[j]]
        return 1 + max(map(level, before)) if before else 0

    number = np.unique(workflow, return_inverse=True)[1]
    assert dags.levels_by_time(number, start, end).tolist() == [level(j) for j in range(40)]
    most, busy = dags.busy(number, start, end)
    for w in range(number.max() + 1):
        mine = number == w
        running = [((start[mine] <= t) & (end[mine] > t)).sum() for t in range(120)]
        assert most[w] == max(1, *running)
        assert busy[w] == np.count_nonzero(running)


@pytest.mark.parametrize("seed", range(8))
def test_edges_by_time_are_the_covering_pairs(seed: int) -> None:
    rng = np.random.default_rng(seed)
    start = rng.integers(0, 100, 40)
    end = start + rng.integers(0, 12, 40)
    workflow = np.unique(np.sort(rng.integers(0, 4, 40)), return_inverse=True)[1]
    ends = np.maximum(end, start + 1)

    def before(i: int, j: int) -> bool:
        return bool(workflow[i] == workflow[j] and ends[i] <= start[j])

    n = range(40)
    pairs = {(i, j) for i in n for j in n if before(i, j)}
    pairs -= {(i, j) for i, j in pairs for k in n if before(i, k) and before(k, j)}
    parent, child = dags.edges_by_time(workflow, start, end)
    assert set(zip(parent.tolist(), child.tolist(), strict=True)) == pairs
    level = dags.levels(40, parent, child).level
    assert level.tolist() == dags.levels_by_time(workflow, start, end).tolist()


@pytest.mark.parametrize(
    ("widths", "edges", "label"),
    [
        ([1], 0, "one call"),
        ([1, 1, 1], 2, "chain of 3"),
        ([1, 4, 1], 8, "fan-out 4 + join"),
        ([1, 4, 1], None, "fan-out 4 + join"),
        ([1, 4, 1], 7, "levels 1-4-1, 7 edges"),
        ([1, 4], 4, "fan-out 4"),
        ([4, 1], 4, "join of 4"),
        ([4], 0, "4 apart"),
        ([1, 2, 1, 3], 9, "levels 1-2-1-3, 9 edges"),
        ([2] + [1] * 13, None, "levels 2-1-1-1-1-1-1-1-1-1-1-1-…"),
    ],
)
def test_shapes_in_words(widths: list[int], edges: int | None, label: str) -> None:
    assert dags.label(widths, edges) == label


def test_equal_shapes_have_equal_keys_and_others_do_not() -> None:
    """A diamond twice with its calls in another order, and a diamond whose join misses one of its two."""
    diamonds = [
        ([0, 0, 1, 2], [1, 2, 3, 3]),
        ([3, 3, 1, 2], [1, 2, 0, 0]),
        ([0, 0, 1], [1, 2, 3]),
    ]
    keys = []
    for parent, child in diamonds:
        got = dags.levels(4, np.array(parent), np.array(child))
        keys.append(sorted(got.shape.tolist()))
    assert keys[0] == keys[1] != keys[2]


# --- through the store -----------------------------------------------------------------------------


def test_figures_equal_those_counted_by_hand(made: pl.DataFrame, trace: Trace) -> None:
    w, codes = fitted(trace)
    assert codes == ["few-templates"]
    assert w is not None
    sizes = made["workflow_id"].value_counts()["count"].to_numpy()
    assert (w.workflows, w.calls, w.order, w.ordered) == (600, made.height, "edges", 600)
    assert w.tallies["calls_per_workflow"].mean == pytest.approx(sizes.mean(), rel=1e-5)
    end = dict(enumerate(made["last_token_ns"].to_list()))
    parents = dict(enumerate(made["depends_on"].to_list()))
    arrival = made["arrival_ns"].to_list()
    depth: dict[int, int] = {}
    own: dict[int, float] = {}
    for i in range(made.height):  # rows are in order of arrival
        depth[i] = 1 + max((depth[p] for p in parents[i]), default=0)
        own[i] = (end[i] - arrival[i]) / S + max((own[p] for p in parents[i]), default=0.0)
    table = made.with_columns(
        depth=pl.Series([depth[i] for i in range(made.height)]),
        own=pl.Series([own[i] for i in range(made.height)]),
    )
    of = table.group_by("workflow_id").agg(
        pl.max("depth", "own"),
        ((pl.max("last_token_ns") - pl.min("arrival_ns")) / S).alias("whole"),
        (pl.col("depth").value_counts().struct.field("count").max()).alias("width"),
    )
    assert w.tallies["depth"].mean == pytest.approx(of["depth"].to_numpy().mean(), rel=1e-5)
    assert w.tallies["width"].mean == pytest.approx(of["width"].to_numpy().mean(), rel=1e-5)
    assert w.sequential is not None
    assert w.sequential.value == pytest.approx((of["width"] == 1).to_numpy().mean(), abs=1e-6)
    assert w.model_path is not None
    assert w.model_path.mean_s == pytest.approx(of["own"].to_numpy().mean(), rel=1e-6)
    assert w.makespan is not None
    assert w.makespan.mean_s == pytest.approx(of["whole"].to_numpy().mean(), rel=1e-6)
    delays = [(arrival[i] - max(end[p] for p in parents[i])) / S for i in range(made.height) if parents[i]]  # fmt: skip
    assert w.delays["derived"].rows == len(delays)
    assert w.delays["derived"].mean_s == pytest.approx(np.mean(delays), rel=1e-6)
    fans = np.bincount([p for ps in parents.values() for p in ps])
    assert w.tallies["fan_out"].mean == pytest.approx(fans[fans > 0].mean(), rel=1e-5)
    waits = np.array([len(p) for p in parents.values()])
    assert w.tallies["fan_in"].mean == pytest.approx(waits[waits > 0].mean(), rel=1e-5)
    shares = made["stage"].value_counts(sort=True)
    assert [n for n, _ in w.stages] == shares["stage"].to_list()
    np.testing.assert_allclose([s for _, s in w.stages], shares["count"] / made.height, atol=1e-6)
    assert w.input_tokens is not None
    assert w.input_tokens.mean == pytest.approx(100 * sizes.mean())


def test_shapes_are_found_with_their_shares(made: pl.DataFrame, trace: Trace) -> None:
    w = found(trace)
    shares = {s.label: s.workflows for s in w.shapes}
    kind = made.group_by("workflow_id").agg(
        (pl.col("stage") == "search").any().alias("fan"), pl.len()
    )
    assert shares["fan-out 3 + join"] == int(kind["fan"].sum())
    chains = kind.filter(~pl.col("fan"))["len"]
    assert shares["one call"] == int((chains == 1).sum())
    assert shares["chain of 2"] == int((chains == 2).sum())
    assert sum(shares.values()) == 600
    assert all(s.workflows >= 10 for s in w.shapes)
    assert "fan-out 3 + join" in w.findings()[0].text


def test_times_stand_in_for_edges(made: pl.DataFrame, trace: Trace, tmp_path: Path) -> None:
    w, codes = fitted(stored(tmp_path, "llm_requests", made.drop("depends_on")))
    assert codes == ["edges-inferred", "few-templates"]
    assert w is not None
    want = found(trace)
    assert w.order == "times"
    assert w.tallies["calls_per_workflow"] == want.tallies["calls_per_workflow"]
    assert w.tallies["parallel"] == want.tallies["parallel"]
    # a level's calls that do not overlap look like a chain: depth is an upper bound
    assert w.tallies["depth"].mean > want.tallies["depth"].mean
    assert w.tallies["width"].mean < want.tallies["width"].mean
    assert w.model_path is None
    assert list(w.delays) == ["derived"]
    assert "by times alone" in w.findings()[-1].text
    assert "fan_out" not in w.tallies
    assert w.findings()[1].warning == "edges-inferred"
    # calls side by side stay so: what they waited for ended last before them
    steps = [[(s.name, s.after) for s in t.steps] for t in w.templates]
    assert [("1", ()), ("2", ("1",)), ("3", ("2",))] in steps
    side = next(t for t in w.templates if len(t.steps) == 3 and t.steps[1].repeat)
    assert side.steps[1].repeat is not None
    assert side.steps[1].repeat.stated == 3
    assert side.steps[1].stage == "search"
    assert sum(t.share for t in w.templates) == pytest.approx(1, abs=1e-3)


def test_without_ends_nothing_is_inferred(made: pl.DataFrame, tmp_path: Path) -> None:
    w, codes = fitted(stored(tmp_path, "llm_requests", made.drop("depends_on", "last_token_ns")))
    assert codes == ["no-templates"]
    assert w is not None
    assert (w.order, w.templates, w.delays) == ("none", (), {})


def test_graphs_of_no_template_are_chains_of_as_many_calls(
    made: pl.DataFrame, trace: Trace
) -> None:
    w, codes = fitted(trace)
    assert codes == ["few-templates"]
    assert w is not None
    others = w.templates[-1]
    assert (others.name, others.steps[0].repeat_in) == ("others", "sequence")
    mean = 0.0
    for t in w.templates:
        mean += t.share * sum(float(s.repeat.values.mean()) if s.repeat else 1 for s in t.steps)
    assert mean == pytest.approx(w.tallies["calls_per_workflow"].mean, rel=0.01)


def test_links_without_names_are_components(
    made: pl.DataFrame, trace: Trace, tmp_path: Path
) -> None:
    linked, codes = fitted(stored(tmp_path, "llm_requests", made.drop("workflow_id")))
    assert codes == ["few-templates"]
    assert linked is not None
    a, b = linked.to_dict(), found(trace).to_dict()
    assert {k for k in a if a[k] != b[k]} == {"by"}


def test_turns_of_a_session_are_no_workflow(made: pl.DataFrame, tmp_path: Path) -> None:
    turns = made.rename({"workflow_id": "session_id"})
    assert fitted(stored(tmp_path / "a", "llm_requests", turns)) == (None, ["turns-not-workflows"])
    tools = turns.with_columns(
        delay_kind=pl.lit("tool"), delay_after_parent_ns=pl.lit(2 * S, pl.Int64)
    )
    w = found(stored(tmp_path / "b", "llm_requests", tools))
    assert w.delays["tool"].mean_s == 2
    assert w.by == "depends_on"


def test_links_that_lead_nowhere_are_said(made: pl.DataFrame, tmp_path: Path) -> None:
    odd = made.with_columns(
        depends_on=pl.when(pl.int_range(pl.len()) % 50 == 0)
        .then(pl.lit([10**9], dtype=pl.List(pl.Int64)))
        .otherwise("depends_on")
    )
    w, codes = fitted(stored(tmp_path, "llm_requests", odd))
    assert codes == ["links-outside", "few-templates"]
    assert w is not None
    assert w.workflows == 600


def test_what_cannot_be_seen_is_said(made: pl.DataFrame, tmp_path: Path) -> None:
    plain = stored(tmp_path / "a", "llm_requests", made.drop("workflow_id", "depends_on"))
    assert fitted(plain) == (None, ["not-recorded"])
    assert workflows.score(plain, plain) == []
    one = workflows.score(plain, stored(tmp_path / "e", "llm_requests", made))
    assert [(x.value, x.limit) for x in one] == [(None, None)]
    nine = made.filter(pl.col("workflow_id").is_in([f"w{i}" for i in range(9)]))
    w, codes = fitted(stored(tmp_path / "b", "llm_requests", nine.drop("depends_on")))
    assert codes == ["few-workflows"]
    assert w is not None
    assert w.to_dict() == {
        "version": 1, "workflows": 9, "calls": nine.height, "by": "workflow_id", "share": 1.0, "order": "none",
        "ordered": 0, "tallies": {}, "sequential": None, "model_path": None, "makespan": None, "busy_share": None,
        "delays": {}, "stages": [], "input_tokens": None, "output_tokens": None, "shapes": [],
    }  # fmt: skip
    numbered = made.with_row_index("row_id").cast({"row_id": pl.Int64})
    for name, form, said in (("c", "test", ["sampled-trace"]), ("d", "otlp", ["few-templates"])):
        with Store(tmp_path / name).writer("t", kind="llm", nature="synthetic") as writer:
            writer.write("llm_requests", numbered)
            sampled = writer.commit(clock="relative", format=form, sampled=0.1)
        assert fitted(sampled)[1] == said


def test_a_workflow_profile_reads_back(trace: Trace) -> None:
    w = found(trace)
    text = json.dumps(w.to_dict())
    assert len(text) < 28_000  # 8 templates of up to 20 grids
    assert workflows.from_dict(json.loads(text)).to_dict() == w.to_dict()
    assert {x.value for x in workflows.score(trace, trace)} == {0}
    brief = w.brief().to_dict()
    assert len(json.dumps(brief)) < 0.7 * len(text)
    assert workflows.from_dict(json.loads(json.dumps(brief))).to_dict() == brief
    assert [name for name, _ in w.laws()] == [
        "calls a workflow",
        "makespan, s",
        "delays (derived), s",
    ]
    assert [f.aspect for f in w.findings()] == ["workflows"] * len(w.findings())


def test_version_1_is_read() -> None:
    d = json.loads((GOLDEN / "workflows-1.json").read_text(encoding="utf-8"))
    assert workflows.from_dict(d).to_dict() == d


@pytest.mark.parametrize(
    ("where", "value"),
    [
        (("order",), "guessed"),
        (("share",), 0),
        (("busy_share",), 1.5),
        (("workflows",), -1),
        (("stages", 0), ["plan", 2]),
        (("shapes", 0, "share"), -0.1),
        (("sequential", "value"), 7),
        (("tallies", "depth", "mean"), -1),
    ],
)
def test_damaged_workflows_are_refused(
    trace: Trace, where: tuple[str | int, ...], value: object
) -> None:
    d = json.loads(json.dumps(found(trace).to_dict()))
    at = d
    for key in where[:-1]:
        at = at[key]
    at[where[-1]] = value
    with pytest.raises(ModelError):
        workflows.from_dict(d)


def test_the_page_shows_calls_and_shapes(trace: Trace, tmp_path: Path, made: pl.DataFrame) -> None:
    section = report.section(found(trace), "workflows", "")
    figures = [b for b in section.blocks if isinstance(b, Figure)]
    assert [f.id for f in figures] == ["workflows-calls", "workflows-makespan"]
    json.dumps([(f.data, f.layout) for f in figures], allow_nan=False)
    tables = [b for b in section.blocks if isinstance(b, Table)]
    shapes = next(t for t in tables if t.caption == "Shapes")
    assert shapes.rows[0][0] == "fan-out 3 + join"
    few = found(stored(tmp_path, "llm_requests", made.filter(pl.col("workflow_id") == "w3")))
    assert report.section(few, "workflows", "").blocks == ()


# --- two recorded agent traces, by hand ------------------------------------------------------------

BY_HAND = {
    # 1 (0–2 s), then 2 (2.5–4.5) and 3 (3–5) together, then 4 (6–9)
    "otel_fan_in_dependencies.json": ([1, 2, 1], 2, 9.0, 7.5, "fan-out 2 + join"),
    # 1 (0–2), 2 (3–6) with 3 (3.5–6.5), 4 (7–10), 5 (15–17), 6 (18–21), 7 (22–25), 8 (26–29), 9 (30–32)
    "otel_customer_support_escalation.json": (
        [1, 2, 1, 1, 1, 1, 1, 1], 2, 32.0, 2 + 3.5 + 3 + 2 + 3 + 3 + 3 + 2, "levels 1-2-1-1-1-1-1-1",
    ),
}  # fmt: skip


@pytest.mark.real_data
@pytest.mark.parametrize("name", BY_HAND)
def test_recorded_agent_traces(name: str, real_data: Path, tmp_path: Path) -> None:
    """Both files leave every parent null, so times order the calls; one workflow each, so a profile says no more than
    that."""
    widths, parallel, span_s, busy_s, label = BY_HAND[name]
    trace = Store(tmp_path).ingest([real_data / "llm" / name], "otel")
    w, codes = fitted(trace)
    assert codes == ["few-workflows"]
    assert w is not None
    assert (w.workflows, w.calls, w.tallies) == (1, sum(widths), {})
    c = calls.read(trace)
    assert c is not None
    g = graphs(c)
    assert g.order == "times"
    assert dags.widths(c.workflow, g.level)[2].tolist() == widths
    assert timed(c).all()
    most, busy = dags.busy(c.workflow, c.arrival_ns, c.end_ns)
    assert (most.tolist(), busy.tolist()) == ([parallel], [round(busy_s * S)])
    assert c.end_ns.max() - c.arrival_ns.min() == span_s * S
    assert dags.label(widths, None) == label

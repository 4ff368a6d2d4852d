"""Presets: each compiles, generates, exports and simulates, and its rows have the numbers that its file states."""

from __future__ import annotations

import functools
import json
import math
import re
import tomllib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from jsonschema import Draft202012Validator
from scipy import stats

from lamina_traces import generator, presets, runs, specs, workloads
from lamina_traces.errors import DataError, UnknownName
from lamina_traces.presets.page import page
from lamina_traces.presets.statements import BASES, Book, Law, Table
from lamina_traces.profile import Part, Profile, Stream
from lamina_traces.profile_schema import schema

from .conftest import Ran

ROOT = Path(__file__).parents[1]
NAMES = presets.names()
ASKED = (
    "automation-workflow", "code-completion", "coding-agents", "computer-use", "embodied-rollouts", "hpc-translation", "lora-adapters",
    "low-code-workflow", "medical-reports", "offline-shared-prefix", "on-device", "rag-chunk-reuse", "resume-pipeline",
    "reviewed-work-graph", "text-to-sql",
)  # fmt: skip
VALIDATOR = Draft202012Validator(schema())


@functools.cache
def rows(name: str, n: int) -> pl.DataFrame:
    return pl.concat(list(generator.generate(Profile.library(name), rows=n, seed=1)))


def test_what_is_there() -> None:
    assert NAMES == ASKED


# --- every one of them -----------------------------------------------------------------------------


@pytest.mark.parametrize("name", NAMES)
def test_every_number_has_unit_basis_and_source(name: str) -> None:
    """The numbers of the file, found by a walk of its own, are the quantities of the profile."""
    text = (ROOT / "sample_data" / "presets" / f"{name}.toml").read_text(encoding="utf-8")
    told = Profile.library(name).source["preset"]["quantities"]
    found = dict(numbers(tomllib.loads(text)))
    assert {k: q["value"] for k, q in told.items()} == found
    for q in told.values():
        assert q["basis"] in BASES
        assert len(q["source"]) > 3


def numbers(x: Any, path: str = "") -> Iterator[tuple[str, float]]:
    if isinstance(x, dict):
        for k, v in x.items():
            if k not in ("sources", "references"):
                yield from numbers(v, f"{path}.{k}" if path else k)
    elif isinstance(x, list):
        for i, v in enumerate(x, 1):
            if isinstance(v, dict):
                yield from numbers(v, f"{path}.{v.get('name', i)}")
    elif isinstance(x, int | float) and not isinstance(x, bool):
        yield path, float(x)


@pytest.mark.parametrize("name", NAMES)
def test_it_is_a_profile(name: str) -> None:
    p = Profile.library(name)
    text = p.dumps()
    assert Profile.loads(text).dumps() == text
    faults = [e.message[:200] for e in VALIDATOR.iter_errors(json.loads(text))]
    assert faults == []
    assert not re.search(r"0 (requests|calls|arrivals)\b", " ".join(f.text for f in p.findings()))


@pytest.mark.parametrize("name", NAMES)
def test_it_generates_the_same_rows_again(name: str) -> None:
    d = rows(name, 2000)
    assert d.height == 2000
    again = Profile.loads(Profile.library(name).dumps())
    assert pl.concat(list(generator.generate(again, rows=2000, seed=1, threads=2))).equals(d)
    assert d["arrival_ns"].is_sorted()
    for side in ("input_tokens", "output_tokens"):
        assert d[side].null_count() == 0
        assert int(d[side].min()) > 0  # type: ignore[arg-type]


@pytest.mark.parametrize("name", NAMES)
def test_it_exports_and_simulates(name: str, tmp_path: Path) -> None:
    p = Profile.library(name)
    trace = workloads.temporary(f"{name} {tmp_path.name}", generator.plan(p, rows=60, seed=1))
    for target, file in (("mooncake", "t.jsonl"), ("vidur", "t.csv")):
        done = workloads.export(trace, target, tmp_path / file)
        assert done.written == 60
    lines = [json.loads(x) for x in (tmp_path / "t.jsonl").read_text().splitlines()]
    sizes = [x["input_length"] + x["output_length"] for x in lines]
    spec = specs.simple("llama-3.1-70b", "h100-sxm", tp=8)
    run = runs.simulate(trace, spec)
    fits = sum(n <= 131_072 for n in sizes)
    assert run.metrics["requests_completed"] == fits, (
        "what is longer than the model takes is refused"
    )
    assert fits >= 40


# --- the numbers that matter -----------------------------------------------------------------------


def calls(d: pl.DataFrame, ago: int = 20) -> pl.DataFrame:
    """Of whole workflows: they began in the trace, and a twentieth of the workflows before its end."""
    number = pl.col("workflow_id").str.slice(1).cast(pl.Int64)
    d = d.with_columns(number=number)
    begun = d.filter(pl.col("step_index") == 1).sort("number")["number"]
    kept = begun.head(begun.len() - begun.len() // ago - 1)
    return d.filter(pl.col("number").is_in(kept.implode()))


def near(values: Any, stated: float, sigmas: float = 4.0, off: float = 0.01) -> None:
    """The mean of independent values is within its standard error, and what rounding and cutting may take, of what is stated."""
    x = np.asarray(values, dtype=np.float64)
    assert x.mean() == pytest.approx(stated, abs=sigmas * x.std() / math.sqrt(len(x)) + off * stated)  # fmt: skip


def stated(name: str) -> dict[str, float]:
    return {k: q.value for k, q in presets.load(name).quantities.items()}


def test_text_to_sql() -> None:
    q = stated("text-to-sql")
    d = calls(rows("text-to-sql", 24_000))
    sizes = d.group_by("number").len()["len"]
    near(sizes, q["held_to.calls_per_workflow"])
    assert (int(sizes.min()), int(sizes.max())) >= (10, 20)  # type: ignore[arg-type]
    assert int(sizes.max()) <= 28  # type: ignore[arg-type]
    table = {  # mean (input, output) by step: seeds-a, section 8
        "generate_candidate": (11748, 678), "revise": (5963, 79), "generate_unit_test": (1109, 103), "evaluate": (961, 22),
        "extract_keywords": (667, 45), "information_retriever": (308, 5), "unit_tester": (275, 4),
    }  # fmt: skip
    for stage, means in table.items():
        own = d.filter(pl.col("stage") == stage)
        for side, mean in zip(("input_tokens", "output_tokens"), means, strict=True):
            near(own[side], mean, off=0.02)


def test_automation_workflow() -> None:
    d = calls(rows("automation-workflow", 40_000))
    near(d.group_by("number").len()["len"], 70.4)
    last = d.filter(pl.col("depends_on").list.len() > 1)  # the closing call waits for all branches
    assert last["depends_on"].list.len().unique().to_list() == [12]


@pytest.mark.parametrize("name", ["low-code-workflow", "reviewed-work-graph", "computer-use", "embodied-rollouts"])  # fmt: skip
def test_repeats_of_workflows(name: str) -> None:
    q = stated(name)
    d = calls(rows(name, 60_000 if name == "embodied-rollouts" else 20_000), ago=3)
    key = next(k for k in q if k.endswith("repeat.mean"))
    step = key.split(".")[3]
    near(d.filter(pl.col("stage") == step).group_by("number").len()["len"], q[key], off=0.03)


def test_human_review_is_slow_and_heavy_tailed() -> None:
    d = rows("reviewed-work-graph", 20_000)
    waits = d.filter(pl.col("delay_kind") == "think")["delay_after_parent_ns"].to_numpy() / 1e9
    assert np.median(waits) == pytest.approx(600, rel=0.1)
    assert np.quantile(waits, 0.9) == pytest.approx(7200, rel=0.15)
    again = d.filter(pl.col("stage") == "rework").height / d.filter(pl.col("stage") == "check").height  # fmt: skip
    assert again == pytest.approx(0.3, abs=0.04)


def test_contexts_of_computer_use_grow() -> None:
    d = calls(rows("computer-use", 12_000)).sort("number", "step_index")
    later = d["step_index"] > 1
    grown = (d["input_tokens"] - d["input_tokens"].shift(1) - d["output_tokens"].shift(1)).filter(later)  # fmt: skip
    near(grown, stated("computer-use")["workflows.task.steps.act.input.mean"])
    assert int(grown.min()) >= 1300  # type: ignore[arg-type]
    assert d["image_tokens"].unique().to_list() == [1300]


def test_resume_pipeline_is_a_fan_in_of_two() -> None:
    d = calls(rows("resume-pipeline", 6000))
    assert d.group_by("number").len()["len"].unique().to_list() == [3]
    assert d.filter(pl.col("stage") == "write")["depends_on"].list.len().unique().to_list() == [2]
    assert d.filter(pl.col("stage") != "write")["depends_on"].list.len().unique().to_list() == [0]


def chained_hits(d: pl.DataFrame) -> tuple[float, float]:
    """(share of prompt tokens in leading full blocks whose whole prefix was seen, share of blocks seen anywhere), by plain
    sets."""
    size = int(d["prefix_block_size"][0])
    prefixes: set[int] = set()
    blocks: set[int] = set()
    hits = anywhere = every = 0
    for ids, tokens in zip(d["prefix_hashes"].to_list(), d["input_tokens"].to_list(), strict=True):
        chain, leading = 0, True
        for block in ids[: tokens // size]:
            chain = hash((chain, block))
            leading = leading and chain in prefixes
            hits += size * leading
            prefixes.add(chain)
        anywhere += sum(b in blocks for b in ids)
        every += len(ids)
        blocks.update(ids)
    return hits / int(d["input_tokens"].sum()), anywhere / every


@pytest.mark.parametrize(
    ("name", "n"), [("rag-chunk-reuse", 10_000), ("offline-shared-prefix", 3000), ("hpc-translation", 4000)]
)  # fmt: skip
def test_hit_ratios(name: str, n: int) -> None:
    hits, anywhere = chained_hits(rows(name, n))
    q = stated(name)
    lead = q.get("prefixes.hit_ratio")
    if lead is None:  # a head that all share, and whole blocks only
        lead = q["prefixes.head_tokens"] / float(np.mean(rows(name, n)["input_tokens"].to_numpy()))
    # where known chunks recur alike, some happen to recur behind the same prefix: 3 points more
    assert hits == pytest.approx(lead, abs=0.035 if "prefixes.anywhere_ratio" in q else 0.02)
    if "prefixes.anywhere_ratio" in q:
        assert anywhere == pytest.approx(q["prefixes.anywhere_ratio"], abs=0.03)


def test_the_offline_batch_needs_a_large_cache() -> None:
    """By a plain LRU list of blocks: a cache of the stated size hits about the stated share, and not the whole."""
    d = rows("offline-shared-prefix", 3000)
    q = stated("offline-shared-prefix")
    capacity = round(q["prefixes.lru.vLLM.cache_tokens"] / 16)
    held: dict[int, None] = {}
    hits = 0
    for ids, tokens in zip(d["prefix_hashes"].to_list(), d["input_tokens"].to_list(), strict=True):
        full, leading = ids[: tokens // 16], True
        for block in full:
            leading = leading and block in held
            hits += 16 * leading
        for block in full:
            held.pop(block, None)
            held[block] = None
        while len(held) > capacity:
            del held[next(iter(held))]
    assert hits / int(d["input_tokens"].sum()) == pytest.approx(0.358, abs=0.02)


@pytest.fixture(scope="module")
def agents() -> pl.DataFrame:
    return rows("coding-agents", 16_000)


def test_coding_agents(agents: pl.DataFrame) -> None:
    q = stated("coding-agents")
    by = agents.group_by("session_id").agg(pl.col("turn").max(), pl.col("turn").min().alias("first"), pl.col("arrival_ns").max())  # fmt: skip
    end = int(agents["arrival_ns"][-1])
    whole = by.filter((pl.col("first") == 1) & (pl.col("arrival_ns") < end - 3600 * 10**9))
    near(whole["turn"], q["held_to.turns_per_session"], off=0.03)
    firsts = agents.filter(pl.col("turn") == 1)["input_tokens"]
    assert int(firsts.min()) >= 50_000  # type: ignore[arg-type]
    assert float(np.mean(firsts.to_numpy())) == pytest.approx(60_000, rel=0.05)
    waits = agents["delay_after_parent_ns"].drop_nulls().to_numpy() / 1e9
    near(waits, 0.7 * 2.5 + 0.3 * 40, off=0.03)
    # both parts are exponential: P(more than a minute) = 0.7 exp(−24) + 0.3 exp(−1.5)
    assert (waits > 60).mean() == pytest.approx(0.3 * math.exp(-1.5), rel=0.08)


def test_groups_of_coding_agents(agents: pl.DataFrame) -> None:
    """First blocks of sessions are those of 50 groups by Zipf's law with 1.2."""
    heads = agents.filter(pl.col("turn") == 1)["prefix_hashes"].list.first()
    n = np.sort(heads.value_counts()["count"].to_numpy())[::-1]
    share = np.arange(1, 51) ** -1.2 / (np.arange(1, 51) ** -1.2).sum()
    assert len(n) <= 50
    assert len(n) >= 45
    np.testing.assert_allclose(n[:6] / n.sum(), share[:6], atol=0.04)


def test_lora_adapters() -> None:
    d = rows("lora-adapters", 20_000)
    named = d["adapter"].value_counts().drop_nulls().sort("count", descending=True)
    assert d["adapter"].is_null().mean() == pytest.approx(0.1, abs=0.015)
    assert named.height == 64
    h = (1 / np.arange(1, 65)).sum()
    assert named["adapter"][0] == "adapter-1"
    assert named["count"][0] / d.height == pytest.approx(0.9 / h, rel=0.06)


def test_lengths_depend_as_stated() -> None:
    d = rows("hpc-translation", 4000)
    rho = stats.spearmanr(d["input_tokens"].to_numpy(), d["output_tokens"].to_numpy()).statistic
    assert rho == pytest.approx(0.8, abs=0.025)


def test_medical_reports() -> None:
    d = rows("medical-reports", 20_000)
    assert d["image_tokens"].unique().to_list() == [1024]
    near(d["output_tokens"], 0.82 * 40 + 0.18 * 260, off=0.02)
    hours = np.bincount(d["arrival_ns"].to_numpy() // 3_600_000_000_000, minlength=24)[:9]
    q = stated("medical-reports")
    factors = np.array([q[f"arrivals.hours.{h:02d}"] for h in range(24)])
    expected = 0.5 * 3600 * factors[:9] / factors.mean()
    np.testing.assert_allclose(hours, expected, atol=5 * 1.3 * np.sqrt(expected).max())


# --- what is written wrong -------------------------------------------------------------------------

RIGHT = """
title = "t"
paper = "p"
models = "m"
limits = "l"
[arrivals]
requests_per_s = 2
span_s = 60
basis = "assumed"
source = "ours"
[lengths]
basis = "assumed"
source = "ours"
input = { median = 100, p90 = 200 }
output = 10
"""


def test_the_least_preset_loads() -> None:
    p = presets.loads(RIGHT, "mine", "mine.toml")
    assert p.bases == {"assumed": 5}
    assert p.span_s == 60


def test_failures_as_stated() -> None:
    """A twentieth fails, three in a row: with 60,000 rows the share has a standard error of 0.002."""
    text = RIGHT + "[failures]\nrate = 0.05\nrun = 3\nbasis = 'assumed'\nsource = 'ours'\n"
    (stream,) = presets.loads(text, "mine", "mine.toml").streams
    own = Stream(stream.name, 1.0, {}, stream.aspects)
    p = Profile("mine", {"llm_requests": Part("llm_requests", (own,))}, {"kind": "llm"})
    d = pl.concat(list(generator.generate(p, rows=60_000, seed=1)))
    bad = (d["status"] == "error").to_numpy()
    assert bad.mean() == pytest.approx(0.05, abs=0.008)
    assert bad.sum() / (bad[1:] & ~bad[:-1]).sum() == pytest.approx(3, rel=0.08)
    assert "5.00% of the requests fail" in " ".join(f.text for f in p.findings())


@pytest.mark.parametrize(
    ("what", "by", "said"),
    [
        ('title = "t"', "", "title: is missing"),
        ("requests_per_s = 2", "requests_per_s = -2", "arrivals.requests_per_s: -2 is no number above 0"),
        ("requests_per_s = 2", "requests_per_s = nan", "arrivals.requests_per_s: nan is no number"),
        ("requests_per_s = 2", 'requests_per_s = "2"', "arrivals.requests_per_s: '2' is no number"),
        ("requests_per_s = 2", "rate = 2", "arrivals.rate: 0 rates are stated"),
        ("requests_per_s = 2", "sessions_per_s = 2", "arrivals.sessions_per_s: does not go with"),
        ("span_s = 60", "", "arrivals.span_s: is missing"),
        ("span_s = 60", "span_s = 60\nburst = 2", "arrivals.burst: is not known here"),
        ("span_s = 60", 'span_s = 60\nlaw = "gamma"', "arrivals.cv: is missing"),
        ("span_s = 60", 'span_s = 60\nlaw = "pareto"', "arrivals.law: 'pareto' is not known"),
        ("span_s = 60", 'span_s = 60\nlaw = "gamma"\ncv = 1000', "arrivals.cv: gamma gaps cannot have CV 1000"),
        ("output = 10", "", "lengths.output: is missing"),
        ("output = 10", "output = { median = 10 }", "lengths.output.law: cannot be told from median"),
        ("output = 10", "output = { median = 10, p90 = 5 }", "lengths.output.median: is above"),
        ("output = 10", "output = { mean = 10, cv = 1, max = 5 }", "lengths.output.mean: 10 cannot be between"),
        ("output = 10", "output = { parts = [{ share = 0.5, mean = 1, cv = 1 }] }", "parts: have shares that add up to 0.5"),
        ("output = 10", 'output = { mean = 9, cv = 1, sources.p90 = "paper: x" }', "sources.p90: names no number"),
        ("output = 10", 'output = 10\nsources.output = "paper"', "lengths.output: has no source"),
        ("output = 10", 'output = 10\nsources.output = "guess: x"', "unknown basis 'guess'"),
        ("output = 10", "output = 10\n[sessions]\nturns = 2\nnew_tokens = 5\nbasis = 'assumed'\nsource = 'x'\nfirst_input = 3", "sessions.first_input: or lengths.input"),
        ("output = 10", "output = 10\n[[workflows]]\nname = 'w'\n", "workflows.w.steps: template 'w' has 0 steps"),
        ("output = 10", "output = 10\n[adapters]\ncount = 5000", "adapters.count: 5000 is no number"),
        ("output = 10", "output = 10 10", "is not TOML"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_told(what: str, by: str, said: str) -> None:
    with pytest.raises(DataError) as e:
        presets.loads(RIGHT.replace(what, by), "mine", "mine.toml")
    assert e.value.message.startswith("mine.toml: ")
    assert said in e.value.message
    assert e.value.hint


def test_a_mean_that_the_steps_do_not_bring() -> None:
    text = (ROOT / "sample_data" / "presets" / "resume-pipeline.toml").read_text(encoding="utf-8")
    with pytest.raises(DataError, match=r"held_to\.calls_per_workflow: is 4, and the workflows stated bring 3"):  # fmt: skip
        presets.loads(text.replace("calls_per_workflow = 3", "calls_per_workflow = 4"), "r", "r")


def test_an_unknown_name() -> None:
    with pytest.raises(UnknownName, match="text-to-sq"):
        Profile.library("text-to-sq")


# --- laws ------------------------------------------------------------------------------------------


def law(**stated_: Any) -> Law:
    book = Book("t", {})
    return Table({"x": stated_, "basis": "assumed", "source": "ours"}, "", book).law("x", "tokens")


@pytest.mark.parametrize(
    ("given", "same"),
    [
        ({"median": 100, "p90": 300}, stats.lognorm(math.log(3) / stats.norm.ppf(0.9), scale=100)),
        ({"median": 100, "p99": 900}, stats.lognorm(math.log(9) / stats.norm.ppf(0.99), scale=100)),
        ({"mean": 150, "median": 100}, stats.lognorm(math.sqrt(2 * math.log(1.5)), scale=100)),
        ({"mean": 50, "cv": 2}, stats.lognorm(math.sqrt(math.log(5)), scale=50 / math.sqrt(5))),
        ({"mean": 40, "law": "exponential"}, stats.expon(scale=40)),
    ],
)
def test_laws_are_those_of_scipy(given: dict[str, Any], same: Any) -> None:
    found = law(**given)
    for u in (0.01, 0.1, 0.5, 0.9, 0.99):
        assert found.quantile(np.array([u]))[0] == pytest.approx(same.ppf(u), rel=0.02)
    assert found.mean == pytest.approx(same.mean(), rel=0.002)


def test_what_is_cut_keeps_its_mean() -> None:
    found = law(mean=50, cv=1.0, min=20, max=120)
    assert found.mean == pytest.approx(50, rel=1e-3)
    assert (found.values.min(), found.values.max()) == (20, 120)


def test_mixtures() -> None:
    parts = [{"share": 0.7, "mean": 2.5, "law": "exponential"}, {"share": 0.3, "mean": 40, "law": "exponential"}]  # fmt: skip
    found = law(parts=parts)
    assert found.mean == pytest.approx(13.75, rel=0.002)
    for x in (1.0, 10.0, 60.0):
        below = 0.7 * (1 - math.exp(-x / 2.5)) + 0.3 * (1 - math.exp(-x / 40))
        assert found.quantile(np.array([below]))[0] == pytest.approx(x, rel=0.03)


# --- face ------------------------------------------------------------------------------------------


def test_catalogue(lamina: Callable[..., Ran]) -> None:
    listed = {r["name"]: r for r in json.loads(lamina("catalog", "presets", "-f", "json").out)}
    assert set(NAMES) < set(listed)
    assert listed["azure-code"]["basis"] == "fitted"
    row = listed["text-to-sql"]
    assert row["basis"] == "paper"
    assert "workflows" in row["aspects"]
    assert row["requests_per_s"] == pytest.approx(0.2 * 19.24, rel=0.03)
    assert "adapter" in listed["lora-adapters"]["aspects"]
    one = json.loads(lamina("catalog", "presets", "text-to-sql", "-f", "json").out)
    q = {x["number"]: x for x in one["quantities"]}["workflows.question.steps.revise.input.mean"]
    assert (q["value"], q["unit"], q["basis"]) == (5963, "tokens", "paper")
    told = lamina("catalog", "presets", "text-to-sql").out
    assert "workflows.question.steps.revise.input.mean" in told
    assert "lamina-traces show azure-code" in lamina("catalog", "presets", "azure-code").out
    assert lamina("catalog", "presets", "nothing").code == 2


def test_show_and_report(lamina: Callable[..., Ran]) -> None:
    shown = lamina("show", "coding-agents").out
    assert "sessions.think_time_s.parts.person.mean" in shown
    assert "aiperf 0.13.0" in shown
    for name in ("coding-agents", "reviewed-work-graph"):
        assert lamina("report", name, "-o", f"{name}.html").code == 0


def test_the_page_is_fresh() -> None:
    """Run ``make docs`` when this fails."""
    assert page() == (ROOT / "docs" / "presets.md").read_text(encoding="utf-8")

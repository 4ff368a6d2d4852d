"""Runs of traces that record failures and retries, against times added up by hand."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from lamina_traces import runs, specs, studies, techniques, workloads
from lamina_traces.errors import ModelError
from lamina_traces.specs import Serving
from lamina_traces.store import Store, Trace

S = 1_000_000_000
# arrival s, input, output, status, error_code, session, e2e_s
ROWS: list[tuple[Any, ...]] = [
    (0, 1000, 1, "ok", None, "a", 0.5),
    (10, 1000, None, "error", "429", "b", 2.0),
    (15, 1000, 5, "ok", None, "b", 1.0),  # retry of row 1, 3 s after its end
    (20, 1000, None, "timeout", None, "c", None),
    (25, 1000, 1, "ok", None, "c", 0.5),  # retry of row 3, whose duration is not recorded
    (30, None, None, "error", "500", "x", 0.1),  # left out: no input
    (40, 1000, 10, "cancelled", None, "d", 2.0),
    (41, 1000, 1, "ok", None, "d", 0.5),  # sent before row 6 had ended
    (60, 1000, 0, "unknown-failure", None, "e", 1.0),
    (200, 1000, 1, "ok", None, "e", 0.5),  # later than a minute
    (210, 1000, None, "error", "500", "f", 1.0),
    (215, 999, 1, "ok", None, "f", 0.5),  # another prompt
]
FAILED = [1, 3, 6, 8, 10]


def stored(folder: Path, rows: list[tuple[Any, ...]], **more: pl.Series) -> Trace:
    columns = list(zip(*rows, strict=True))
    frame = pl.DataFrame(
        {
            "row_id": range(len(rows)),
            "arrival_ns": [t * S for t in columns[0]],
            "input_tokens": pl.Series(columns[1], dtype=pl.Int32),
            "output_tokens": pl.Series(columns[2], dtype=pl.Int32),
            "status": columns[3],
            "error_code": columns[4],
            "session_id": columns[5],
            "e2e_s": columns[6],
            **more,
        }
    )
    store = Store(folder / "store")
    with store.writer("t", kind="llm", nature="real") as writer:
        writer.write("llm_requests", frame)
        writer.commit(clock="relative", format="lamina")
    return store.trace("t")


@pytest.fixture
def trace(tmp_path: Path) -> Trace:
    return stored(tmp_path, ROWS)


@pytest.fixture
def spec() -> Serving:
    made = specs.simple("llama-3.1-8b", "h100-sxm", max_num_seqs=1)
    return replace(made, prices={"h100-sxm": 3.6})


def test_failures_are_served_unless_they_are_to_fail(trace: Trace, spec: Serving) -> None:
    run = runs.simulate(trace, spec)
    assert run.rows["row_id"].to_list() == [0, 2, 4, 6, 7, 9, 11]
    assert set(run.rows["status"]) == {"ok"}
    assert (run.metrics["requests_failed"], run.workload["failures"]) == (0, "served")
    told = {n.code: n.text for n in run.notices}
    assert "1 of 6 requests that failed as recorded are served as if they had not" in told["failures-served"]  # fmt: skip


def test_failures_load_the_engine_and_miss_every_limit(trace: Trace, spec: Serving) -> None:
    run = runs.simulate(trace, spec, failures="recorded", slo=runs.parse_slo("e2e=1h"), by="status")
    rows = run.rows
    assert rows["row_id"].to_list() == [i for i in range(12) if i != 5]
    lost = rows.filter(pl.col("row_id").is_in(FAILED))
    assert lost["status"].to_list() == [ROWS[i][3] for i in FAILED]
    assert lost["error_code"].to_list() == [ROWS[i][4] for i in FAILED]
    assert lost["output_tokens"].to_list() == [ROWS[i][2] for i in FAILED]
    for name in ("queue_s", "ttft_s", "tpot_s", "e2e_s"):
        assert lost[name].null_count() == 5
        assert rows.filter(~pl.col("row_id").is_in(FAILED))["e2e_s"].null_count() == 0
    assert lost["last_token_ns"].null_count() == 0
    m = run.metrics
    assert (m["requests_offered"], m["requests_completed"], m["requests_failed"]) == (11, 6, 5)
    assert m["slo_attainment"] == pytest.approx(6 / 11)
    assert (m["input_tokens"], m["output_tokens"]) == (5 * 1000 + 999, 5 * 1 + 5)
    assert m["usd_per_m_output_tokens"] == pytest.approx(m["usd"] / 10 * 1e6)
    assert m["energy_per_output_token_j"] == pytest.approx(m["energy_j"] / 10)
    done = rows.filter(pl.col("status") == "ok")
    assert m["e2e_mean_s"] == pytest.approx(done["e2e_s"].mean())
    assert {g["group"]: (g["completed"], g["failed"]) for g in run.groups} == {
        "ok": (6, 0), "error": (0, 2), "timeout": (0, 1), "cancelled": (0, 1), "unknown-failure": (0, 1),
    }  # fmt: skip
    assert "no completed requests" in run.groups[1]["e2e_mean_s_why"]
    assert "1 of 12 rows, 1 of them failed, have no arrival" in next(
        n.text for n in run.notices if n.code == "left-out"
    )


def test_what_fails_takes_the_time_of_its_tokens(trace: Trace, spec: Serving) -> None:
    """A prompt and one token where no output is recorded; a cancelled one as far as it came, which keeps the next waiting."""
    rows = runs.simulate(trace, spec, failures="recorded").rows
    took = {r: e - s for r, e, s in zip(rows["row_id"], rows["last_token_ns"], rows["scheduled_ns"], strict=True)}  # fmt: skip
    assert took[1] == took[3] == took[8] == took[0]
    alone = runs.simulate(trace.select("row_id = 6"), spec).rows
    assert took[6] == alone["last_token_ns"][0] - alone["scheduled_ns"][0]
    assert took[6] > took[0]


def test_retries_wait_for_the_attempt_before_them(trace: Trace, spec: Serving) -> None:
    def released(run: runs.Run) -> dict[int, int]:
        return dict(zip(run.rows["row_id"], run.rows["arrival_ns"], strict=True))

    run = runs.simulate(trace, spec, failures="recorded")
    ended = dict(zip(run.rows["row_id"], run.rows["last_token_ns"], strict=True))
    assert run.workload["replay"] == "session"
    assert released(run)[2] == ended[1] + 3 * S
    assert ended[1] < 11 * S  # far before the recorded end at 12 s
    recorded = {i: r[0] * S for i, r in enumerate(ROWS)}
    assert {i: t for i, t in released(run).items() if i != 2} == {i: recorded[i] for i in released(run) if i != 2}  # fmt: skip
    assert any(n.code == "retries" and n.text.startswith("1 requests") for n in run.notices)
    open_ = runs.simulate(trace, spec, failures="recorded", replay="open")
    assert released(open_) == {i: recorded[i] for i in released(open_)}
    assert open_.workload["replay"] == "open"


def test_retries_of_retries_and_recorded_parents(tmp_path: Path, spec: Serving) -> None:
    rows: list[tuple[Any, ...]] = [
        (0, 1000, None, "error", None, "a", 1.0),
        (2, 1000, None, "error", None, "a", 1.0),  # 1 s after the end of row 0
        (5, 1000, 1, "ok", None, "a", 1.0),  # 2 s after the end of row 1
        (9, 1000, 1, "ok", None, "b", 1.0),
    ]
    run = runs.simulate(stored(tmp_path, rows), spec, failures="recorded")
    came, ended = run.rows["arrival_ns"].to_list(), run.rows["last_token_ns"].to_list()
    assert came == [0, ended[0] + S, ended[1] + 2 * S, 9 * S]
    # a recorded parent goes before the heuristic, and its end is what a failed row's tokens take
    (tmp_path / "own").mkdir()
    depends = pl.Series([[], [], [0], []], dtype=pl.List(pl.Int64))
    waits = pl.Series([None, None, 7 * S, None], dtype=pl.Int64)
    trace = stored(tmp_path / "own", rows, depends_on=depends, delay_after_parent_ns=waits)
    run = runs.simulate(trace, spec, failures="recorded")
    came, ended = run.rows["arrival_ns"].to_list(), run.rows["last_token_ns"].to_list()
    assert came == [0, ended[0] + S, ended[0] + 7 * S, 9 * S]


def test_a_saved_run_keeps_its_failures(trace: Trace, spec: Serving, tmp_path: Path) -> None:
    run = runs.simulate(trace, spec, failures="recorded")
    again = runs.Run.load(run.save(Store(tmp_path / "store"), "run"))
    assert again.rows.equals(run.rows.select(again.rows.columns))
    twice = runs.simulate(Store(tmp_path / "store").trace("run"), spec, failures="recorded")
    assert twice.metrics["requests_failed"] == 5
    assert twice.rows["arrival_ns"].to_list() == run.rows["arrival_ns"].to_list()


def test_failures_with_techniques_repeats_and_capacity(trace: Trace, spec: Serving) -> None:
    drafts = [techniques.parse("speculative-decoding:acceptance=1,draft_tokens=3,draft_size=0")]
    rows = runs.simulate(trace, spec, failures="recorded", using=drafts).rows
    assert rows.filter(pl.col("row_id").is_in(FAILED))["status"].to_list() == [ROWS[i][3] for i in FAILED]  # fmt: skip
    found = studies.repeats(workloads.Source(trace, poisson=0.1), spec, 2, failures="recorded")
    assert [m["requests_failed"] for m in found.metrics] == [5, 5]
    assert found.first.workload["replay"] == "open"  # drawn arrivals say nothing of retries
    half = runs.parse_slo("e2e=1h", 0.5)
    carried = studies.capacity(workloads.Source(trace), spec, half, failures="recorded")
    assert carried.low_req_s is not None
    with pytest.raises(ModelError, match=r"45\.5% of the requests fail as recorded"):
        studies.capacity(
            workloads.Source(trace), spec, runs.parse_slo("e2e=1h"), failures="recorded"
        )

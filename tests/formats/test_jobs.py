"""Job logs: states, times worked out anew, retries and failures as incidents."""

from __future__ import annotations

import json
from pathlib import Path

import polars as pl
import pytest

from tests.formats.fixtures_power import JOB_PATHS, JOBS
from tests.formats.reads import write
from tests.formats.tables import Fixtures, read_tables

S = 10**9


FIXED = Fixtures(JOBS, JOB_PATHS)
placed, fixture = FIXED.placed, FIXED.read


def test_philly_attempts(tmp_path: Path) -> None:
    got = fixture(tmp_path, "philly")
    passed, failed, killed, running = got["jobs"].rows(named=True)
    assert (passed["state"], passed["attempts"], passed["gpus"], passed["nodes"]) == (
        "completed",
        2,
        3.0,
        2,
    )
    assert (passed["duration_s"], passed["queue_s"], passed["gpu_s"]) == (7200.0, 30.0, 21600.0)
    assert passed["arrival_ns"] == (3600 + 11 * 60 + 39) * S, "local time of the first day"
    assert (failed["state"], killed["state"], running["state"]) == (
        "failed",
        "cancelled",
        "censored",
    )
    assert (killed["attempts"], killed["start_ns"], killed["gpus"]) == (0, None, None)
    assert (running["arrival_ns"], running["end_ns"], running["gpus"], running["state_raw"]) == (
        None,
        None,
        None,
        "Killed",
    )
    incidents = (
        got["incidents"].select("entity_type", "entity_id", "kind", "code", "lost_gpu_s").rows()
    )
    assert incidents == [
        ("job", "application_1_2", "failed", None, 60.0),
        ("attempt", "application_1_1#1", "unknown", "retried", 148.0),
    ]  # fmt: skip
    assert got.summary.lines == 4
    assert (got.summary.clock, got.summary.origin_local) == ("local", "2017-10-07T00:00:00")
    zoned = read_tables(placed(tmp_path, "philly"), tz="America/Los_Angeles")
    assert zoned["jobs"]["duration_s"][0] == 7200.0
    assert zoned["jobs"]["queue_s"][0] == 30.0


def test_philly_table(tmp_path: Path) -> None:
    got = fixture(tmp_path, "philly_csv")
    assert got["jobs"]["gpu_s"].to_list() == [2951.0, 21.0]
    assert set(got["jobs"]["state"]) == {"unknown"}
    assert "incidents" not in got.frames


@pytest.mark.real_data
def test_philly_figures(real_data: Path) -> None:
    got = read_tables(real_data / "failures/philly/philly_jobs_clusters_a.csv")
    jobs = got["jobs"]
    assert (jobs.height, got.summary.rejected) == (55_652, 0)
    assert (jobs["gpu_s"] == jobs["duration_s"] * jobs["gpus"]).all()
    assert jobs["arrival_ns"].null_count() == 0


def test_acme_durations_are_worked_out(tmp_path: Path) -> None:
    got = fixture(tmp_path, "acme_jobs")
    failed, cancelled, running, node = got["jobs"].rows(named=True)
    assert (failed["duration_s"], failed["queue_s"], failed["gpu_s"]) == (8.0, 10.0, 512.0)
    assert json.loads(failed["extra"])["recorded_duration_s"] == 18.0
    assert "recorded_duration_s" not in json.loads(cancelled["extra"])
    assert cancelled["arrival_ns"] == (27 * 60 + 44) * S, "offsets differ in one file"
    assert (running["state"], running["duration_s"], running["gpus"]) == ("censored", None, 0.0)
    assert (cancelled["state"], node["state"], failed["cluster"]) == (
        "cancelled",
        "node_fail",
        "kalos",
    )
    incidents = got["incidents"]
    assert incidents["kind"].to_list() == ["failed", "node_fail"]
    assert incidents["arrival_ns"][0] == 17 * S, "the time of the failure, not of the end"
    assert incidents["lost_gpu_s"].to_list() == [512.0, 4800.0]
    assert "durations" in got.codes
    assert got.summary.origin_ns == 1_684_321_258 * S


def test_negative_times_are_null_and_counted_and_stamps_kept(tmp_path: Path) -> None:
    text = JOBS["acme_jobs"].replace(b"2023-05-17 11:01:08+00:00", b"2023-05-17 11:00:50+00:00")
    got = read_tables(placed(tmp_path, "acme_jobs", text))
    assert got["jobs"]["queue_s"][0] is None
    assert got["jobs"]["start_ns"][0] == got["jobs"]["arrival_ns"][0] - 8 * S
    assert [n.text for n in got.summary.notices if n.code == "negative-durations"] == [
        "1 duration below zero became null; the stamps stay as recorded"
    ]


def test_helios(tmp_path: Path) -> None:
    got = fixture(tmp_path, "helios")
    jobs = got["jobs"]
    assert jobs["duration_s"].to_list() == [36848.0, 239.0]
    assert jobs["queue_s"].to_list() == [0.0, 10.0]
    assert (jobs["cluster"][0], jobs["group_id"][0], got.summary.clock) == (
        "venus",
        "vcJkd",
        "local",
    )
    assert got["incidents"]["kind"].to_list() == ["timeout"]
    assert read_tables(placed(tmp_path, "helios"), tz="Asia/Shanghai").summary.clock == "utc"


def test_pai_without_and_with_a_header(tmp_path: Path) -> None:
    got = fixture(tmp_path, "pai_jobs")
    jobs = got["jobs"]
    assert jobs["state"].to_list() == ["completed", "failed", "censored"]
    assert jobs["duration_s"].to_list() == [None] * 3, "submission to end is no duration"
    assert jobs["arrival_ns"][0] == 4_550_879 * S
    assert got["incidents"]["entity_id"].to_list() == ["4b3f04b66a525d2df903eb17"]
    assert (got.summary.lines, got.summary.header) == (3, 0)
    headed = JOBS["pai_jobs_header"] + JOBS["pai_jobs"]
    again = read_tables(write(tmp_path / "h.csv", headed))
    assert again["jobs"].equals(jobs)
    beside = fixture(tmp_path / "two", "pai_jobs", "pai_jobs_header")
    assert beside["jobs"].equals(jobs)


def test_pai_tasks_are_percent_of_each_instance(tmp_path: Path) -> None:
    got = fixture(tmp_path, "pai_tasks")
    first, second = got["jobs"].rows(named=True)
    assert (first["gpus"], first["cpus"], first["memory_gb"]) == (1.0, 12.0, 58.59375)
    assert (first["duration_s"], first["gpu_s"], first["job_type"]) == (38.0, 38.0, "tensorflow")
    assert (second["gpus"], second["gpu_type"]) == (None, None)
    assert "launch-times" in got.codes
    assert got["incidents"].height == 1


def test_states() -> None:
    from lamina_traces.formats.job_states import state_of

    raw = [
        "COMPLETED",
        "Pass",
        "CANCELLED by 1000",
        "Killed",
        "NODE_FAIL",
        "TIMEOUT",
        "EVICT",
        "Waiting",
        "odd",
        None,
    ]
    got = pl.DataFrame({"s": raw}).select(state_of(pl.col("s")))["s"].to_list()
    assert got == [
        "completed",
        "completed",
        "cancelled",
        "cancelled",
        "node_fail",
        "timeout",
        "evicted",
        "censored",
        "unknown",
        "unknown",
    ]

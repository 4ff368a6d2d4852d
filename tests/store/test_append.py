"""--append, --anonymize and --sampled: all or nothing, each file once, sessions across the seam."""

from __future__ import annotations

import json
import stat
from pathlib import Path

import polars as pl
import pytest

from lamina_traces.errors import DataError, UsageError
from lamina_traces.store import Store

HEAD = "Timestamp,Model,Request tokens,Response tokens,Total tokens,Log Type\n"


def burst(path: Path, *rows: tuple[float, int, int]) -> Path:
    path.write_text(HEAD + "".join(f"{t},GPT-4,{a},{b},{a + b},API log\n" for t, a, b in rows))
    return path


def azure(path: Path, *stamps: str) -> Path:
    body = "".join(f"{s},{10 + i},{i + 1}\n" for i, s in enumerate(stamps))
    path.write_text("TIMESTAMP,ContextTokens,GeneratedTokens\n" + body)
    return path


def moon(path: Path, *rows: dict[str, object]) -> Path:
    base = {"input_length": 600, "output_length": 5}
    path.write_text("".join(json.dumps(base | r) + "\n" for r in rows))
    return path


def test_the_next_day(tmp_path: Path) -> None:
    store = Store(tmp_path / "s")
    one = burst(tmp_path / "1.csv", (5, 1, 2), (6, 3, 4))
    two = burst(tmp_path / "2.csv", (86405, 5, 6), (86406, 7, 0))
    first = store.ingest(one, "t", append=True)  # the first day makes the trace
    parts = [f.read_bytes() for f in first.files("llm_requests")]
    trace = store.ingest(two, "t", append=True)
    got = trace.scan().collect()
    assert got["row_id"].to_list() == [0, 1, 2, 3]
    assert got["arrival_ns"].to_list() == [t * 10**9 for t in (5, 6, 86405, 86406)]
    assert got["status"].to_list() == ["ok", "ok", "ok", "unknown-failure"]
    m = trace.manifest
    assert [i.name for i in m.inputs] == ["1.csv", "2.csv"]
    assert m.summary_line() == "6 lines = 4 kept + 2 header"
    assert (m.arrival_first_ns, m.arrival_last_ns, m.tick_ns) == (5 * 10**9, 86406 * 10**9, 10**9)
    assert [f.read_bytes() for f in trace.files("llm_requests")][: len(parts)] == parts
    assert trace.query("arrivals/extent").num_rows == 1


def test_it_is_the_same_as_reading_both_at_once(tmp_path: Path) -> None:
    store = Store(tmp_path / "s")
    one = burst(tmp_path / "1.csv", (50, 1, 2), (60, 3, 4))
    two = burst(
        tmp_path / "2.csv", (5, 5, 6), (55, 7, 0)
    )  # before and between the rows of the first
    whole = store.ingest([one, two], "whole")
    store.ingest(one, "parts")
    parts = store.ingest(two, "parts", append=True)
    assert parts.scan().collect().equals(whole.scan().collect())
    assert (
        parts.manifest.tables["llm_requests"].columns
        == whole.manifest.tables["llm_requests"].columns
    )
    assert parts.manifest.tick_ns == whole.manifest.tick_ns


@pytest.mark.parametrize("later", ["2024-05-11 00:00:00.5+00:00", "2024-05-09 23:00:00+00:00"])
def test_absolute_clocks_share_their_origin(tmp_path: Path, later: str) -> None:
    store = Store(tmp_path / "s")
    one = azure(tmp_path / "1.csv", "2024-05-10 00:00:00+00:00", "2024-05-10 00:00:02+00:00")
    two = azure(tmp_path / "2.csv", later)
    whole = store.ingest([one, two], "whole")
    store.ingest(one, "parts")
    parts = store.ingest(two, "parts", append=True)
    assert parts.scan().collect().equals(whole.scan().collect())
    assert parts.manifest.origin_ns == whole.manifest.origin_ns


def test_a_file_is_added_once(tmp_path: Path) -> None:
    store = Store(tmp_path / "s")
    one = burst(tmp_path / "1.csv", (5, 1, 2))
    store.ingest(one, "t")
    again = tmp_path / "renamed.csv"
    again.write_bytes(one.read_bytes())
    two = burst(tmp_path / "2.csv", (9, 1, 2))
    with pytest.raises(UsageError, match=r"already, as 1\.csv"):
        store.ingest([two, again], "t", append=True)
    assert store.trace("t").rows() == 1
    assert store.ingest(two, "t", append=True).rows() == 2


def test_nothing_changes_when_it_fails(tmp_path: Path) -> None:
    store = Store(tmp_path / "s")
    store.ingest(burst(tmp_path / "1.csv", (5, 1, 2)), "t")
    bad = tmp_path / "bad.csv"
    bad.write_text(HEAD + "x,GPT-4,1,2,3,API log\n")
    with pytest.raises(DataError):
        store.ingest(bad, "t", append=True)
    other = azure(tmp_path / "a.csv", "2024-05-10 00:00:00+00:00")
    with pytest.raises(UsageError, match="is burstgpt, the files are azure"):
        store.ingest(other, "t", append=True)
    with pytest.raises(UsageError, match="exclude each other"):
        store.ingest(bad, "t", append=True, replace=True)
    with pytest.raises(UsageError, match="needs the name"):
        store.ingest(bad, append=True)
    with pytest.raises(UsageError, match="not anonymized"):
        store.ingest(burst(tmp_path / "2.csv", (6, 1, 2)), "t", append=True, anonymize=True)
    with pytest.raises(UsageError, match="of a sample"):
        store.ingest(tmp_path / "2.csv", "t", append=True, sampled=0.5)
    assert store.trace("t").rows() == 1
    assert store.trace("t").manifest.inputs[0].name == "1.csv"


def test_rejects_of_both_days_are_kept(tmp_path: Path) -> None:
    store = Store(tmp_path / "s")
    for day in (1, 2):
        path = burst(tmp_path / f"{day}.csv", (day, 1, 2))
        path.write_text(path.read_text() + "oops\n")
        trace = store.ingest(path, "t", append=True)
    assert trace.rejects()["file"].to_list() == ["1.csv", "2.csv"]
    assert trace.manifest.counts["rejected"] == 2


@pytest.mark.parametrize("anonymize", [False, True])
def test_sessions_go_on_over_the_seam(tmp_path: Path, anonymize: bool) -> None:
    store = Store(tmp_path / "s")
    one = moon(tmp_path / "1", {"timestamp": 0, "session_id": "a"}, {"delay": 7, "session_id": "a"})
    two = moon(tmp_path / "2", {"delay": 9, "session_id": "a"}, {"timestamp": 1, "session_id": "b"})
    whole = store.ingest([one, two], "whole", anonymize=anonymize)
    store.ingest(one, "parts", anonymize=anonymize)
    parts = store.ingest(two, "parts", append=True, anonymize=anonymize)
    frames = [t.scan().collect().sort("row_id") for t in (parts, whole)]
    assert frames[0].equals(frames[1])
    assert frames[0]["turn"].to_list() == [1, 2, 3, 1]
    assert frames[0]["depends_on"].to_list() == [[], [0], [1], []]
    assert (frames[0]["session_id"].to_list()[0] == "a") is not anonymize


def test_pseudonyms(tmp_path: Path) -> None:
    rows: list[dict[str, object]] = [
        {"timestamp": 0, "session_id": "alice@example.org", "hash_ids": [1, 2], "who": "bob"},
        {"timestamp": 1, "session_id": "alice@example.org", "hash_ids": [1, 2, 2**64 - 1]},
        {"timestamp": 2, "session_id": "carol", "hash_ids": []},
        {"timestamp": 3},
    ]
    path = moon(tmp_path / "m", *rows)
    store, other = Store(tmp_path / "s"), Store(tmp_path / "other")
    got = store.ingest(path, "t", anonymize=True).scan().collect()
    ids = got["session_id"].to_list()
    assert ids[0] == ids[1] != ids[2]
    assert ids[3] is None
    assert all(len(i) == 32 for i in ids[:3])
    blocks = got["prefix_hashes"].to_list()
    assert blocks[0] == blocks[1][:2]
    assert len(set(blocks[1])) == 3
    assert blocks[2:] == [[], None]
    assert not set(blocks[1]) & {1, 2, 2**64 - 1}
    assert "extra" not in got.columns or got["extra"].null_count() == 4
    stored = b"".join(f.read_bytes() for f in (tmp_path / "s").rglob("*.parquet"))
    assert b"alice" not in stored
    assert b"bob" not in stored
    again = store.ingest(path, "t2", anonymize=True).scan().collect()
    assert again["session_id"].to_list() == ids  # one store, one pseudonym
    elsewhere = other.ingest(path, "t", anonymize=True).scan().collect()
    assert elsewhere["session_id"].to_list()[0] != ids[0]
    assert stat.S_IMODE((tmp_path / "s" / "key").stat().st_mode) == 0o600
    assert store.trace("t").manifest.provenance["anonymized"] is True


def test_a_sample_says_so(tmp_path: Path) -> None:
    store = Store(tmp_path / "s")
    path = burst(tmp_path / "1.csv", (5, 1, 2), (6, 3, 4))
    trace = store.ingest(path, "t", sampled=0.1)
    assert trace.manifest.sampled == 0.1
    assert [n.code for n in trace.manifest.notices] == ["sampled"]
    assert store.trace("t").manifest.sampled == 0.1
    for wrong in (0, 1.5, -1, float("nan")):
        with pytest.raises(UsageError, match="is no share"):
            store.ingest(path, "u", sampled=wrong)


def test_the_three_lines_of_the_readme(tmp_path: Path) -> None:
    path = burst(tmp_path / "trace.csv", (5, 1, 2))
    from lamina_traces import Store as Public

    t = Public(tmp_path / "s").ingest(path)
    assert isinstance(t.scan(), pl.LazyFrame)
    assert sum(b.num_rows for b in t.batches()) == 1


def test_a_local_clock_begins_at_its_first_midnight(tmp_path: Path) -> None:
    """Also where the first line is not of the first day."""
    path = tmp_path / "smi.csv"
    head = "timestamp, index, power.draw [W]\n"
    days = ["2026/03/04 10:00:00.000", "2026/03/02 09:00:00.000", "2026/03/05 11:00:00.000"]
    path.write_text(head + "".join(f"{d}, 0, 100.0 W\n" for d in days))
    trace = Store(tmp_path / "s").ingest(path, "t")
    assert trace.manifest.origin_local == "2026-03-02T00:00:00"
    hours = [t / 3.6e12 for t in trace.scan().collect()["arrival_ns"]]
    assert hours == [9, 58, 83]


def test_the_zone_of_naive_stamps_is_kept(tmp_path: Path) -> None:
    store = Store(tmp_path / "s")
    one = azure(tmp_path / "1.csv", "2024-05-10 10:00:00", "2024-05-10 11:00:00")
    two = azure(tmp_path / "2.csv", "2024-05-10 12:00:00")
    whole = store.ingest([one, two], "whole", tz="Europe/Berlin")
    store.ingest(one, "parts", tz="Europe/Berlin")
    parts = store.ingest(two, "parts", append=True)
    assert parts.scan().collect().equals(whole.scan().collect())
    with pytest.raises(UsageError, match="--tz UTC"):
        store.ingest(
            azure(tmp_path / "3.csv", "2024-05-10 13:00:00"), "parts", append=True, tz="UTC"
        )


def test_days_that_lie_over_each_other_are_said_once(tmp_path: Path) -> None:
    store = Store(tmp_path / "s")
    store.ingest(moon(tmp_path / "1", {"timestamp": 0}, {"timestamp": 9000}), "t")
    for day in (2, 3):
        trace = store.ingest(moon(tmp_path / str(day), {"timestamp": day}), "t", append=True)
    said = [n for n in trace.manifest.notices if n.code == "overlap"]
    assert len(said) == 1
    assert "8.997 s before" in said[0].text or "9 s before" in said[0].text
    with pytest.raises(UsageError, match="named twice"):
        store.ingest([tmp_path / "1", tmp_path / "1"], "u")

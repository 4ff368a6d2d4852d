"""Sessions in Mooncake JSON lines: what aiperf takes for a conversation, read and written."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lamina_traces import formats
from lamina_traces.errors import DataError
from tests.formats.reads import read, write


def line(**keys: object) -> str:
    return json.dumps({"input_length": 7, "output_length": 3, **keys}) + "\n"


def conversations(path: Path) -> dict[str, list[dict[str, Any]]]:
    """As aiperf groups a file: rows sharing session_id are one conversation, in file order; a row
    without one is a conversation of its own."""
    out: dict[str, list[dict[str, Any]]] = {}
    for i, text in enumerate(path.read_text().splitlines()):
        row = json.loads(text)
        out.setdefault(row.get("session_id", f"row {i}"), []).append(row)
    return out


def test_later_turns_know_their_parent_over_blocks_and_files(tmp_path: Path) -> None:
    a = write(
        tmp_path / "a.jsonl",
        line(timestamp=0, session_id="a")
        + line(timestamp=10, session_id="b")
        + line(timestamp=11)
        + line(session_id="a", delay=5000)
        + line(session_id="b", delay=0.25, timestamp=900)
        + line(session_id="a", timestamp=60_000),
    )
    b = write(tmp_path / "b.jsonl", line(session_id="a", delay=1) + line(session_id="a"))
    for limits in (formats.Limits(), formats.Limits(block_bytes=100)):
        got = read(a, b, limits=limits)
        assert got.summary.rejected == 0
        assert got.column("row_id") == list(range(8))
        assert got.column("arrival_ns") == [0, 10**7, 11 * 10**6, None, 9 * 10**8, 6 * 10**10, None, None]  # fmt: skip
        assert got.column("delay_after_parent_ns") == [None, None, None, 5 * 10**9, 250_000, None, 10**6, None]  # fmt: skip
        assert got.column("turn") == [1, 1, None, 2, 2, 3, 4, 5]
        # the third turn of a is stamped and has no delay: it is sent at its instant
        assert got.column("depends_on") == [[], [], None, [0], [1], None, [5], [6]]
        assert [n.code for n in got.summary.notices] == ["turns-derived"]


def test_sessions_that_begin_below_the_head_are_read(tmp_path: Path) -> None:
    path = write(
        tmp_path / "s.jsonl",
        "".join(line(timestamp=i) for i in range(400))
        + line(timestamp=400, session_id="a", hash_ids=[5])
        + line(session_id="a", delay=2)
        + line(),
    )
    got = read(path)
    assert got.column("session_id")[-2:] == ["a", "a"]
    assert got.column("prefix_hashes")[-2] == [5]
    assert got.column("depends_on")[-1] == [400]
    assert got.column("extra")[-1] is None if "extra" in got.frame.columns else True
    assert got.rejects.select("line", "column").rows() == [(403, "timestamp")]
    assert {c for c, _, _ in got.summary.mapping} == {"timestamp", "input_length", "output_length"}


def test_files_with_delays_are_in_milliseconds(tmp_path: Path) -> None:
    """Fractions and small steps alone would look like seconds; a delay is aiperf's, and in ms."""
    rows = line(timestamp=0.5) + line(timestamp=1.25) + line(timestamp=2.5, session_id="a")
    assert read(write(tmp_path / "s.jsonl", rows)).column("arrival_ns")[0] == 500_000_000
    got = read(write(tmp_path / "m.jsonl", rows + line(session_id="a", delay=5)))
    assert got.column("arrival_ns") == [500_000, 1_250_000, 2_500_000, None]
    assert got.column("delay_after_parent_ns")[-1] == 5_000_000


def test_a_trace_without_sessions_derives_nothing(tmp_path: Path) -> None:
    got = read(write(tmp_path / "s.jsonl", line(timestamp=1) * 3))
    assert set(got.column("turn")) == set(got.column("depends_on")) == {None}
    assert got.summary.notices == ()


def test_written_sessions_are_conversations_in_order(tmp_path: Path) -> None:
    """By arrival, rows without one last: the second turn comes after the third."""
    frame = pl.DataFrame(
        {
            "row_id": [0, 2, 3, 4, 1, 5],
            "arrival_ns": [10**9, 10**9, 4 * 10**9, 10**10, None, None],
            "session_id": ["a", 'b "x"\n', "a", None, "a", "a"],
            "turn": [1, 1, 3, None, 2, 4],
            "depends_on": [[], [], [1], None, [0], [3]],
            "delay_after_parent_ns": [None, None, 10**6, None, 1_500_001, None],
            "input_tokens": [10, 20, 12, 30, 11, 13],
            "output_tokens": [1] * 6,
            "status": ["ok"] * 6,
        },
        schema_overrides={"turn": pl.Int32, "depends_on": pl.List(pl.Int64)},
    )
    for cut in range(6):
        path = tmp_path / f"{cut}.jsonl"
        done = formats.export([frame[:cut], frame[cut:]], "mooncake", path)
        told = conversations(path)
        assert [r["input_length"] for r in told["a"]] == [10, 11, 12, 13]
        assert [r.get("timestamp") for r in told["a"]] == [0, None, None, None]
        assert [r.get("delay") for r in told["a"]] == [None, 1.500001, 1, None]
        assert told['b "x"\n'][0]["timestamp"] == 0
        assert (done.rows, done.written, dict(done.skipped)) == (6, 6, {})
        assert done.losses == {"arrival_ns (of later turns, which carry their delay instead)": 1}
        assert any("aiperf" in n for n in done.notes)
        back = read(path, time_unit="ms").frame
        parents = dict(zip(back["row_id"], back["input_tokens"], strict=True))
        after = {n: [parents[p] for p in d or []] for n, d in back.select("input_tokens", "depends_on").iter_rows()}  # fmt: skip
        assert after == {10: [], 11: [10], 12: [11], 13: [12], 20: [], 30: []}


def test_a_session_whose_beginning_was_cut_off(tmp_path: Path) -> None:
    frame = pl.DataFrame(
        {
            "row_id": [7, 8, 9],
            "arrival_ns": [5 * 10**9, None, None],
            "session_id": ["a", "a", "z"],
            "turn": [2, 3, 2],
            "delay_after_parent_ns": [10**6] * 3,
            "input_tokens": [10, 11, 12],
            "output_tokens": [1, 1, 1],
        }
    )
    done = formats.export([frame], "mooncake", tmp_path / "m.jsonl")
    assert conversations(tmp_path / "m.jsonl")["a"] == [
        {"timestamp": 0, "session_id": "a", "input_length": 10, "output_length": 1},
        {"session_id": "a", "delay": 1, "input_length": 11, "output_length": 1},
    ]
    assert done.skipped == {"without an arrival, or a turn of its session before it": 1}
    assert done.losses["delay_after_parent_ns (the turn before is not in the file)"] == 1
    assert done.losses["turn (numbered otherwise in the file)"] == 2
    with pytest.raises(DataError, match="nothing to write") as caught:
        formats.export([frame[2:]], "mooncake", tmp_path / "n.jsonl")
    assert "--arrivals poisson --rate 2/s" in str(caught.value.hint)


def test_other_targets_still_leave_out_rows_without_an_arrival(tmp_path: Path) -> None:
    frame = pl.DataFrame({"arrival_ns": [0, None], "input_tokens": [1, 1], "output_tokens": [1, 1], "session_id": ["a", "a"], "depends_on": [[], [0]]})  # fmt: skip
    done = formats.export([frame], "azure", tmp_path / "a.csv")
    assert done.skipped == {"without an arrival": 1}
    assert done.losses == {"session_id": 1}, "that the first turn waits for nothing is no loss"


@st.composite
def files(draw: st.DrawFn) -> list[dict[str, object]]:
    """Rows as aiperf would load them: stamps in order, later turns with a delay, a stamp, both or neither."""
    rows: list[dict[str, object]] = []
    begun: set[str] = set()
    clock = 0
    for _ in range(draw(st.integers(1, 25))):
        n = draw(st.integers(1, 2000))
        row: dict[str, object] = {"input_length": n, "output_length": draw(st.integers(1, 9))}
        if draw(st.booleans()):
            ids = draw(
                st.lists(st.integers(0, 2**63), min_size=-(-n // 512), max_size=-(-n // 512))
            )
            row["hash_ids"] = [*ids[:-1], 2**64 - 1 - len(rows)]  # no partial last block is shared
        session = draw(st.sampled_from([None, "a", "b", "c \\ é", 'd"']))
        if session is not None:
            row["session_id"] = session
        kind = draw(st.sampled_from(["delay", "stamp", "neither"])) if session in begun else "stamp"
        if kind == "delay":
            row["delay"] = draw(st.sampled_from([0, 5000, 1.5, 0.000001, 86_400_000]))
        elif kind == "stamp":
            clock += draw(st.integers(0, 5000))
            row["timestamp"] = clock if rows else 0
            clock = clock if rows else 0
        if session is not None:
            begun.add(session)
        rows.append(row)
    return rows


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])  # fmt: skip
@given(rows=files(), cut=st.integers(0, 25))
def test_sessions_round_trip(tmp_path: Path, rows: list[dict[str, object]], cut: int) -> None:
    """Through the store's order (by arrival, rows without one last): every conversation comes back the same."""
    path = write(tmp_path / "x.jsonl", "".join(json.dumps(r) + "\n" for r in rows))
    first = read(path, time_unit="ms")
    stored = first.frame.sort("arrival_ns", "row_id", nulls_last=True)
    again = tmp_path / "y.jsonl"
    done = formats.export([stored[:cut], stored[cut:]], "mooncake", again)
    assert (done.written, dict(done.skipped)) == (len(rows), {})
    assert done.losses == {}

    def told(p: Path) -> dict[str, list[dict[str, Any]]]:
        return {k: v for k, v in conversations(p).items() if not k.startswith("row ")}

    assert told(again) == told(path)
    single = [r for r in rows if "session_id" not in r]
    alone = [v[0] for k, v in conversations(again).items() if k.startswith("row ")]
    assert sorted(map(json.dumps, map(_sorted, alone))) == sorted(map(json.dumps, map(_sorted, single)))  # fmt: skip


def _sorted(row: dict[str, object]) -> list[tuple[str, object]]:
    return sorted(row.items())


def test_turns_back_in_time_are_said(tmp_path: Path) -> None:
    rows = [{"timestamp": t, "session_id": "a", "input_length": 1, "output_length": 1} for t in (5000, 4000, 3000)]  # fmt: skip
    got = read(write(tmp_path / "m.jsonl", "\n".join(map(json.dumps, rows))))
    assert [n.code for n in got.summary.notices].count("turns-back-in-time") == 1
    rows.reverse()
    got = read(write(tmp_path / "n.jsonl", "\n".join(map(json.dumps, rows))))
    assert "turns-back-in-time" not in [n.code for n in got.summary.notices]

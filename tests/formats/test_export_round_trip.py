"""read(write(x)) = x on the columns that a target carries, for every target whose file we also read."""

from __future__ import annotations

import importlib
from collections import Counter
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lamina_traces import formats
from lamina_traces.schema import TABLES
from tests.formats.reads import read

READERS: dict[str, tuple[str, dict[str, Any]]] = {
    "azure": ("azure", {}),
    "bailian": ("bailian", {}),
    "blis": ("blis_v2", {}),
    "burstgpt": ("burstgpt", {}),
    "csv": ("lamina", {}),
    "jsonl": ("lamina", {}),
    "llmservingsim": ("llmservingsim", {}),
    "llmservingsim-agentic": ("llmservingsim", {}),
    "mooncake": ("mooncake", {"time_unit": "ms"}),
    "mooncake-guidellm": ("mooncake", {"time_unit": "s"}),
    "mooncake-vllm": ("mooncake", {"time_unit": "s"}),
    "parquet": ("lamina", {}),
    "splitwise-sim": ("splitwise_sim", {}),
    "vidur": ("vidur", {}),
    "weka": ("weka", {}),
}
"""target → the format that reads it (names as in FORMATS) and how."""
BLOCKS = {"bailian": 16}
CONVERSATIONS = ("bailian", "llmservingsim-agentic", "weka")


@st.composite
def traces(draw: st.DrawFn, target: formats.Target) -> pl.DataFrame:
    """Rows that the target can carry whole: stamps on its clock from 0, sessions of consecutive turns. Each
    has its own ``input_tokens``, by which rows are matched whatever their order in the file."""
    size = BLOCKS.get(target.name, 512)
    rows: list[dict[str, Any]] = []
    last: dict[str, int] = {}
    turns: dict[str, int] = {}
    clock = 0
    # one base for all: a partial last block that two requests share would be given a private id
    first = draw(st.integers(0, 2**31 - 10**6 if target.name == "mooncake-guidellm" else 2**63))
    for i in range(draw(st.integers(1, 14))):
        session = draw(st.sampled_from([None, "a", "b é", 'c "q"']))
        parent = None if session is None else last.get(session)
        n_in = 40 * i + draw(st.integers(1, 39))
        k = -(-n_in // size)
        ttft = draw(st.sampled_from([0.25, 1.5]))
        row: dict[str, Any] = {
            "row_id": i,
            "arrival_ns": clock,
            "service": draw(st.sampled_from(["api", "conversation"])),
            "model": draw(st.sampled_from(["GPT-4", "m,1"])),
            "client_id": draw(st.sampled_from(["c1", "c2"])),
            "session_id": session,
            "turn": None if session is None else turns.get(session, 0) + 1,
            "depends_on": [] if parent is None else [parent],
            "delay_after_parent_ns": None
            if parent is None
            else draw(st.integers(0, 10**5)) * 10**6,
            "input_tokens": n_in,
            "output_tokens": draw(st.integers(1, 5000)),
            "streaming": True,
            "ttft_s": ttft,
            "e2e_s": ttft + 2,
            "prefix_block_size": size,
            "prefix_hashes": [first + 1000 * i + j for j in range(k)],
            "status": "ok",
        }
        if session is not None:
            last[session] = i
            turns[session] = turns.get(session, 0) + 1
        rows.append(row)
        clock += draw(st.integers(0, 10**6)) * max(target.resolution_ns, 1000)
    return pl.DataFrame(rows, schema_overrides=TYPES, infer_schema_length=None)


TYPES: dict[str, Any] = {
    "session_id": pl.String, "turn": pl.Int32, "depends_on": pl.List(pl.Int64), "delay_after_parent_ns": pl.Int64,
    "input_tokens": pl.Int32, "output_tokens": pl.Int32, "prefix_block_size": pl.Int32,
    "prefix_hashes": pl.List(pl.UInt64),
}  # fmt: skip
INEXACT = ("ttft_s", "e2e_s")


def told(frame: pl.DataFrame, names: list[str]) -> dict[int, dict[str, Any]]:
    """What each request says, by its input length; parents by theirs."""
    lengths = dict(zip(frame["row_id"], frame["input_tokens"], strict=True))
    out = {}
    for row in frame.iter_rows(named=True):
        said = {n: row.get(n) for n in names}
        if "depends_on" in said:
            said["depends_on"] = [lengths[p] for p in said["depends_on"] or []]
        if said.get("prefix_hashes") is None:
            said.pop("prefix_hashes", None)
        out[row["input_tokens"]] = said
    return out


def _blocks(frame: pl.DataFrame) -> dict[int, int]:
    return dict(frame.select("input_tokens", pl.col("prefix_hashes").list.len()).iter_rows())


@pytest.mark.parametrize("name", READERS)
def test_round_trip(name: str, tmp_path_factory: pytest.TempPathFactory) -> None:
    reader, options = READERS[name]
    target = formats.TARGETS[name]

    @settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck))
    @given(frame=traces(target), cut=st.integers(0, 14))
    def check(frame: pl.DataFrame, cut: int) -> None:
        path = tmp_path_factory.mktemp(name) / f"trace{target.suffix}"
        done = formats.export([frame[:cut], frame[cut:]], name, path)
        assert (done.written, dict(done.skipped)) == (frame.height, {})
        back = read(path, **options)
        assert back.summary.format == reader
        zero = back.summary.origin_ns
        carried = frame.columns if target.carries is None else target.carries
        names = [
            c for c in frame.columns if c in carried and c not in ("row_id", "prefix_block_size")
        ]
        got = back.frame
        if name == "azure":
            got = got.with_columns(pl.col("arrival_ns") + (zero or 0) - 1_700_092_800 * 10**9)
        if name == "mooncake":  # a later turn carries its delay instead of its arrival
            later = pl.col("depends_on").list.len() > 0
            frame = frame.with_columns(pl.when(~later).then("arrival_ns").alias("arrival_ns"))
            names.remove("status")  # a request without a recorded failure is unknown again
        if name == "weka":  # told by the order of calls; the reader derives no numbers from it
            names.remove("turn")
            names.remove("prefix_hashes")  # ids of a session are read as ids of the trace
            assert _blocks(got) == _blocks(frame)
        here, there = told(frame, names), told(got, names)
        assert set(here) == set(there)
        for key, said in here.items():
            for column, value in said.items():
                if value is None and name in CONVERSATIONS and column in ("session_id", "turn"):
                    continue  # a request alone is a conversation of one
                if column in INEXACT:
                    assert there[key][column] == pytest.approx(value, abs=1e-9), column
                else:
                    assert there[key].get(column) == value, column

    check()


def test_every_target_with_a_reader_is_listed() -> None:
    """A reader that lands under a target's name is tested here from then on."""
    same = {t for t in formats.TARGETS if t.replace("-", "_") in formats.FORMATS}
    assert same <= set(READERS) | {"servegen", "invitro"}


def _fixtures() -> dict[str, bytes]:
    """Small files of formats that the readers' tests keep, by format."""
    found: dict[str, bytes] = {}
    for module in ("fixtures_llm", "fixtures_serverless", "fixtures_power"):
        found |= importlib.import_module(f"tests.formats.{module}").FIXTURES
    return found


FILES = _fixtures()


@pytest.mark.parametrize("name", [n for n, (f, _) in READERS.items() if f in FILES])
def test_files_come_back_the_same(name: str, tmp_path: Path) -> None:
    """What was read from a foreign file, written in its own format and read again, says the same."""
    reader, options = READERS[name]
    target = formats.TARGETS[name]
    (tmp_path / "source").write_bytes(FILES[reader])
    first = read(tmp_path / "source", **options)
    assert first.summary.format == reader
    stored = first.frame.sort("arrival_ns", "row_id", nulls_last=True)
    done = formats.export(
        [stored], name, tmp_path / f"again{target.suffix}", origin_ns=first.summary.origin_ns
    )
    assert done.written + sum(done.skipped.values()) == stored.height
    back = read(tmp_path / f"again{target.suffix}", **options).frame
    carried = [
        c for c in target.carries or stored.columns if c in stored.columns and c in back.columns
    ]
    moved = (*TABLES["llm_requests"].instants, "depends_on", "prefix_hashes", "row_id")
    alone = (
        ("session_id", "turn")
        if name in CONVERSATIONS and stored["session_id"].null_count()
        else ()
    )
    exact = [c for c in carried if c not in moved and c not in alone]
    said = [Counter(f.select(exact).rows()) for f in (stored, back)]
    assert said[1].total() == done.written
    assert not said[1] - said[0], "something else came back"

"""Writers: what is written is read back the same on the columns that a target carries."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lamina_traces import formats
from lamina_traces.errors import DataError, UnknownName, UsageError
from tests.formats.reads import read

TYPES: dict[str, Any] = {
    "row_id": pl.Int64,
    "arrival_ns": pl.Int64,
    "service": pl.String,
    "model": pl.String,
    "input_tokens": pl.Int32,
    "output_tokens": pl.Int32,
    "total_tokens": pl.Int32,
    "prefix_block_size": pl.Int32,
    "prefix_hashes": pl.List(pl.UInt64),
    "status": pl.String,
}
TAIL = "prefix_hashes (a partial last block that others share: private id)"
names = (
    st.text(
        st.characters(codec="utf-8", exclude_categories=("Cc", "Cs", "Zl", "Zp")),
        min_size=1,
        max_size=12,
    )
    .map(str.strip)
    .filter(bool)
)


@st.composite
def rows(draw: st.DrawFn) -> dict[str, object]:
    status = draw(st.sampled_from(["ok", "ok", "ok", "unknown", "unknown-failure", "error"]))
    n_in = draw(st.one_of(st.integers(1, 9_000), st.none()))
    n_out = draw(st.integers(1, 5000)) if n_in is not None else None
    if status in ("unknown-failure", "error"):
        n_out = None if n_in is None else 0
    hashes = None
    if n_in is not None and draw(st.booleans()):
        k = -(-n_in // 512) if draw(st.integers(0, 9)) else 3
        hashes = draw(st.lists(st.integers(0, 2**64 - 1), min_size=k, max_size=k))
    return {
        "arrival_ns": draw(st.one_of(st.integers(0, 10**16), st.integers(0, 10**10).map(lambda x: x * 10**6))),
        "service": draw(st.sampled_from(["api", "conversation", "search"])),
        "model": draw(names),
        "input_tokens": n_in,
        "output_tokens": n_out,
        "total_tokens": None if n_in is None or n_out is None else n_in + n_out,
        "prefix_block_size": 512 if hashes is not None else None,
        "prefix_hashes": hashes,
        "status": status,
    }  # fmt: skip


frames = st.lists(rows(), min_size=1, max_size=12).map(
    lambda r: (
        pl.DataFrame(r, schema={k: t for k, t in TYPES.items() if k != "row_id"})
        .sort("arrival_ns", maintain_order=True)
        .with_row_index("row_id")
        .cast({"row_id": pl.Int64})
    )
)


def exported(
    frame: pl.DataFrame, target: str, path: Path, **options: Any
) -> formats.ExportSummary | None:
    """None when no row could be carried, which is an error."""

    def batches() -> Iterator[pl.DataFrame]:
        yield frame[:3]
        yield frame[3:]

    try:
        return formats.export(batches(), target, path, **options)
    except DataError as e:
        if "nothing to write" not in e.message:
            raise
        return None


@settings(
    max_examples=120, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(frame=frames)
def test_mooncake_round_trip(tmp_path: Path, frame: pl.DataFrame) -> None:
    path = tmp_path / "t.jsonl"
    done = exported(frame, "mooncake", path)
    able = frame.filter(pl.col("input_tokens").is_not_null(), pl.col("output_tokens").is_not_null())
    if done is None:
        assert able.height == 0
        return
    assert done.rows == frame.height == done.written + sum(done.skipped.values())
    assert done.written == able.height == path.read_bytes().count(b"\n")
    back = read(path, time_unit="ms").frame
    since = able["arrival_ns"] - frame["arrival_ns"][0]
    off = (back["arrival_ns"] - since).abs()
    assert off.max() <= 500_000
    assert done.losses.get("arrival_ns (below 1 ms, rounded)", 0) == (off > 0).sum()
    assert back["input_tokens"].to_list() == able["input_tokens"].to_list()
    assert back["output_tokens"].to_list() == able["output_tokens"].to_list()
    fits = [
        h if h is not None and len(h) == -(-n // 512) else None
        for h, n in zip(able["prefix_hashes"].to_list(), able["input_tokens"], strict=True)
    ]
    got = (
        back["prefix_hashes"].to_list() if "prefix_hashes" in back.columns else [None] * able.height
    )
    uses = Counter(i for h in fits for i in h or [])
    tails = 0
    private = set()
    for g, h, n in zip(got, fits, able["input_tokens"], strict=True):
        if h is not None and n % 512 and uses[h[-1]] > 1:
            assert g[:-1] == h[:-1]
            assert g[-1] not in uses
            private.add(g[-1])
            tails += 1
        else:
            assert g == h
    assert len(private) == tails == done.losses.get(TAIL, 0)
    unfit = able["prefix_hashes"].drop_nulls().len() - sum(h is not None for h in fits)
    assert done.losses.get("prefix_hashes (do not cover input_tokens)", 0) == unfit


@settings(
    max_examples=120, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(frame=frames)
def test_burstgpt_round_trip(tmp_path: Path, frame: pl.DataFrame) -> None:
    path = tmp_path / "t.csv"
    done = exported(frame, "burstgpt", path)
    failed = pl.col("status").is_in(["error", "unknown-failure"])
    able = frame.filter(failed | pl.col("input_tokens").is_not_null())
    if done is None:
        assert able.height == 0
        return
    assert done.rows == frame.height == done.written + sum(done.skipped.values())
    back = read(path).frame
    assert back["arrival_ns"].to_list() == able["arrival_ns"].to_list()  # every nanosecond
    for name in ("service", "model", "input_tokens", "output_tokens", "total_tokens"):
        assert back[name].to_list() == able[name].to_list(), name
    told = able["status"].replace({"error": "unknown-failure", "unknown": "ok"})
    assert back["status"].to_list() == told.to_list()
    assert (
        sum(n for k, n in done.losses.items() if k.startswith("status"))
        == (told != able["status"]).sum()
    )


@settings(
    max_examples=120, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(frame=frames, origin=st.one_of(st.none(), st.integers(0, 2 * 10**18)))
def test_azure_round_trip(tmp_path: Path, frame: pl.DataFrame, origin: int | None) -> None:
    path = tmp_path / "t.csv"
    done = exported(frame, "azure", path, **({} if origin is None else {"origin_ns": origin}))
    able = frame.filter(pl.col("input_tokens").is_not_null(), pl.col("output_tokens").is_not_null())
    if done is None:
        assert able.height == 0
        return
    got = read(path)
    zero = got.summary.origin_ns
    assert zero is not None
    base = 1_700_092_800 * 10**9 if origin is None else origin
    off = (got.frame["arrival_ns"] + zero - able["arrival_ns"] - base).abs()
    assert off.max() <= 50  # type: ignore[operator]
    assert done.losses.get("arrival_ns (below 100 ns, rounded)", 0) == (off > 0).sum()
    assert got.frame["input_tokens"].to_list() == able["input_tokens"].to_list()
    assert got.frame["output_tokens"].to_list() == able["output_tokens"].to_list()
    assert (origin is None) == any("no calendar" in n for n in done.notes)


def test_written_lines_are_what_the_tools_load(tmp_path: Path) -> None:
    frame = pl.DataFrame(
        {
            "row_id": [0, 1], "arrival_ns": [7_000_000_000, 7_250_000_000], "input_tokens": [600, None],
            "output_tokens": [5, None], "status": ["ok", "unknown-failure"],
            "prefix_block_size": [512, None], "prefix_hashes": [[2**64 - 1, 4], None],
        },
        schema={k: TYPES[k] for k in ("row_id", "arrival_ns", "input_tokens", "output_tokens", "status", "prefix_block_size", "prefix_hashes")},
    )  # fmt: skip
    done = formats.export([frame], "mooncake", tmp_path / "m.jsonl")
    line = (tmp_path / "m.jsonl").read_text()
    assert json.loads(line) == {
        "timestamp": 0,
        "input_length": 600,
        "output_length": 5,
        "hash_ids": [2**64 - 1, 4],
    }
    assert done.skipped == {"without a recorded length": 1}
    assert "--custom-dataset-type mooncake_trace" in done.command
    formats.export([frame], "burstgpt", tmp_path / "b.csv")
    assert (tmp_path / "b.csv").read_text().splitlines()[1:] == [
        "7,GPT-4,600,5,605,API log",
        "7.25,GPT-4,0,0,0,API log",
    ]
    formats.export([frame], "azure", tmp_path / "a.csv")
    assert (tmp_path / "a.csv").read_text().splitlines()[1:] == [
        "2023-11-16 00:00:07.0000000,600,5"
    ]


def test_another_block_size_reaches_the_command(tmp_path: Path) -> None:
    frame = pl.DataFrame(
        {"row_id": [0], "arrival_ns": [0], "input_tokens": [30], "output_tokens": [5], "status": ["ok"], "prefix_block_size": [16], "prefix_hashes": [[1, 2]]}
    )  # fmt: skip
    assert (
        "--isl-block-size 16" in formats.export([frame], "mooncake", tmp_path / "m.jsonl").command
    )


def test_an_export_appears_whole_or_not_at_all(tmp_path: Path) -> None:
    good = pl.DataFrame({"arrival_ns": [1, 2], "input_tokens": [1, 1], "output_tokens": [1, 1]})
    path = tmp_path / "t.csv"
    path.write_text("before")

    def breaks() -> Iterator[pl.DataFrame]:
        yield good
        raise RuntimeError("the source went away")

    with pytest.raises(RuntimeError):
        formats.export(breaks(), "burstgpt", path)
    with pytest.raises(DataError, match="not sorted"):
        formats.export([good, good], "burstgpt", path)
    with pytest.raises(DataError, match="nothing to write"):
        formats.export([], "burstgpt", path)
    with pytest.raises(DataError, match="needs arrival_ns"):
        formats.export([good.drop("arrival_ns")], "burstgpt", path)
    assert path.read_text() == "before"
    assert [p.name for p in tmp_path.iterdir()] == ["t.csv"]
    with pytest.raises(UnknownName):
        formats.export([good], "burst", path)
    with pytest.raises(UsageError):
        formats.export([good], "burstgpt", tmp_path)
    with pytest.raises(UsageError):
        formats.export([good], "burstgpt", tmp_path / "none" / "t.csv")


def test_an_export_does_not_go_to_a_file_called_dash(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    good = pl.DataFrame({"arrival_ns": [1], "input_tokens": [1], "output_tokens": [1]})
    for path in ("-", Path("-")):
        with pytest.raises(UsageError, match="to a file") as caught:
            formats.export([good], "mooncake", path)
        assert "-o trace.jsonl" in str(caught.value.hint)
    assert list(tmp_path.iterdir()) == []


def test_catalogue_entries_are_complete() -> None:
    for name, fmt in formats.FORMATS.items():
        assert name == fmt.name
        assert fmt.title
        assert fmt.source
        assert fmt.quirks
    for name, target in formats.TARGETS.items():
        assert name == target.name
        assert target.source
        assert target.intakes

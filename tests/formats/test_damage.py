"""Whatever happens to a file, reading it never crashes, and every line is accounted for."""

from __future__ import annotations

import gzip
from pathlib import Path

import polars as pl
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lamina_traces import formats
from lamina_traces.errors import LaminaError
from lamina_traces.schema import TABLES

BURST = (
    "Timestamp,Model,Request tokens,Response tokens,Total tokens,Log Type\n"
    "5,ChatGPT,472,18,490,Conversation log\n"
    "45.25,ChatGPT,1087,230,1317,Conversation log\n"
    "46,GPT-4,0,0,0,API log\n"
    "50,GPT-4,10,20,30,API log\n"
    "61,ChatGPT,11,21,32,API log\n"
)
AZURE = (
    "TIMESTAMP,ContextTokens,GeneratedTokens\r\n"
    "2023-11-16 18:17:03.9799600,4808,10\r\n"
    "2023-11-16T18:17:04Z,3180,8\r\n"
    "2024-05-10 00:00:00.009930+00:00,110,27\r\n"
    "2023-11-16 18:17:04.1206440,7433,14"
)
MOON = (
    '{"timestamp": 0, "input_length": 6758, "output_length": 500, "hash_ids": [0, 1, 2]}\n'
    '{"timestamp": 3000, "input_length": 12, "output_length": 5, "hash_ids": [18446744073709551615]}\n'
    '{"timestamp": 3000.5, "input_length": 700, "output_length": 490, "user": "a", "prompt": "hi"}\n'
    '{"timestamp": 6001, "input_length": 7, "output_length": 1, "hash_ids": []}\n'
)
SMI = (
    "timestamp, index, power.draw [W], utilization.gpu [%], memory.used [MiB]\n"
    "2024/05/10 10:00:00.123, 0, 63.20 W, 0 %, 12 MiB\n"
    "2024/05/10 10:00:00.124, 1, [N/A], 5 %, 12 MiB\n"
    "2024/05/10 10:00:01.123, 0, 400.00 W, 100 %, 70000 MiB\n"
)
GENERIC = 'when,"in",out,note\n1.5,10,2,"a, b"\n2.5,11,3,"line\nbreak"\n3.5,12,4,plain\n'
SOURCES = {
    "burstgpt": BURST,
    "azure": AZURE,
    "mooncake": MOON,
    "nvidia_smi": SMI,
    "columns": GENERIC,
}
MAP = "arrival=when,input=in,output=out"

edits = st.lists(
    st.tuples(
        st.sampled_from(["delete", "insert", "replace", "double", "cut"]),
        st.integers(0, 400),
        st.one_of(
            st.binary(min_size=1, max_size=3),
            st.sampled_from(
                [b"\n", b"\r\n", b'"', b",", b"\0", b"NaN", b"-1", b"1e999", b"{", b"]", b"\xff", b"9" * 30, b" ", b"\n\n", b"\xef\xbb\xbf", b"'", b";"]
            ),
        ),
    ),
    min_size=1,
    max_size=4,
)  # fmt: skip


def damaged(data: bytes, changes: list[tuple[str, int, bytes]]) -> bytes:
    for kind, at, what in changes:
        i = at % (len(data) + 1)
        if kind == "delete":
            data = data[:i] + data[i + len(what) :]
        elif kind == "insert":
            data = data[:i] + what + data[i:]
        elif kind == "replace":
            data = data[:i] + what + data[i + len(what) :]
        elif kind == "double":
            data = data[:i] + data[max(0, i - 20) : i] + data[i:]
        else:
            data = data[: max(i, 1)]
    return data


def read(
    path: Path, name: str, **options: object
) -> tuple[pl.DataFrame, pl.DataFrame, formats.Summary]:
    reading = formats.open_reading(
        [path],
        mapping=MAP if name == "columns" else None,
        **options,  # type: ignore[arg-type]
    )
    blocks = list(reading)
    frame = pl.concat([b.frame for b in blocks if b.table == reading.table])
    rejects = pl.concat([b.rejects for b in blocks])
    return frame, rejects, reading.finish()


def read_or_error(
    path: Path, name: str, **options: object
) -> tuple[pl.DataFrame, pl.DataFrame, formats.Summary] | LaminaError:
    try:
        return read(path, name, **options)
    except LaminaError as e:
        return e


def check_account(frame: pl.DataFrame, rejects: pl.DataFrame, summary: formats.Summary) -> None:
    assert summary.reconciles
    assert summary.kept == frame.height
    assert summary.rejected == rejects.height
    assert frame["row_id"].to_list() == list(range(frame.height))
    table = TABLES[summary.table]
    for column in table.columns:
        if column.required:
            assert frame[column.name].null_count() == 0, column.name
    for name in frame.columns:
        if frame[name].dtype.is_float():
            assert frame[name].is_finite().all(), name
        if name.endswith("_tokens"):
            assert (frame[name].drop_nulls() >= 0).all(), name
    assert rejects["line"].min() is None or rejects["line"].min() >= 1  # type: ignore[operator]


@settings(
    max_examples=250, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    name=st.sampled_from(sorted(SOURCES)),
    changes=edits,
    squeeze=st.sampled_from(["", "gz", "cutgz"]),
)
def test_random_damage_never_crashes_and_lines_reconcile(
    tmp_path: Path, name: str, changes: list[tuple[str, int, bytes]], squeeze: str
) -> None:
    data = damaged(SOURCES[name].encode(), changes)
    physical = data.count(b"\n") + (bool(data) and not data.endswith(b"\n"))
    if squeeze:
        data = gzip.compress(data, mtime=0)
    if squeeze == "cutgz":
        data = data[: len(data) * 3 // 4]
    path = tmp_path / "damaged"
    path.write_bytes(data)
    got = read_or_error(path, name)
    if isinstance(got, LaminaError):
        assert got.message
        assert "\n" not in got.message
        return
    frame, rejects, summary = got
    assert squeeze != "cutgz"
    check_account(frame, rejects, summary)
    if summary.unit == "records":  # an object over several lines
        assert summary.lines <= physical
    elif name != "columns":  # there a quoted cell may span lines
        assert summary.lines == physical
    else:
        assert summary.lines <= physical


@settings(
    max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(name=st.sampled_from(sorted(SOURCES)), changes=edits, block=st.integers(1, 300))
def test_block_borders_change_nothing(
    tmp_path: Path, name: str, changes: list[tuple[str, int, bytes]], block: int
) -> None:
    path = tmp_path / "damaged"
    path.write_bytes(damaged(SOURCES[name].encode(), changes))
    results: list[object] = []
    for limits in (formats.Limits(), formats.Limits(block_bytes=block)):
        got = read_or_error(path, name, limits=limits)
        if isinstance(got, LaminaError):
            results.append((type(got), got.message))
        else:
            results.append((got[0].rows(), got[1].rows(), got[2].to_dict()))
    if name == "columns" and '"' in path.read_text("utf-8", "replace"):
        return  # where a quote never closes, what is swallowed may depend on the block
    assert results[0] == results[1]


@pytest.mark.parametrize("name", sorted(SOURCES))
def test_undamaged_sources_lose_nothing(tmp_path: Path, name: str) -> None:
    path = tmp_path / "whole"
    path.write_text(SOURCES[name], newline="")
    frame, rejects, summary = read(path, name)
    check_account(frame, rejects, summary)
    assert rejects.height == 0
    assert summary.format == name

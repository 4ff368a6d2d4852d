"""What ``sql`` prints: any length in bounded memory, every type as JSON, names that can be told apart."""

from __future__ import annotations

import csv
import io
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lamina_traces.cli import output
from lamina_traces.store import engine

from ..conftest import Ran

Lamina = Callable[..., Ran]

CELLS = st.one_of(
    st.none(),
    st.text(max_size=6),
    st.sampled_from(["", '"', ",", "\n", "\r", "\\", "a b", " a", "é", "\x00", "\x7f", "'"]),
)
NUMBERS = st.one_of(st.none(), st.floats())


def printed(reader: pa.RecordBatchReader, fmt: str, monkeypatch: pytest.MonkeyPatch) -> str:
    parts: list[str] = []
    with monkeypatch.context() as patch:
        patch.setattr(output, "write", parts.append)
        output.emit_batches(reader, fmt)
    return "".join(parts)


def rowwise(table: pa.Table, fmt: str, monkeypatch: pytest.MonkeyPatch) -> str:
    """The same through ``emit``, a row at a time: the plain way that the fast one must equal."""
    parts: list[str] = []
    with monkeypatch.context() as patch:
        patch.setattr(output, "write", parts.append)
        output.emit(table.to_pylist(), fmt, table.column_names)
    return "".join(parts)


@settings(max_examples=150, deadline=None)
@given(
    rows=st.lists(
        st.tuples(CELLS, NUMBERS, st.one_of(st.none(), st.integers(-(2**63), 2**63 - 1)), CELLS),
        min_size=1,
        max_size=8,
    ),
    width=st.integers(1, 4),
    cut=st.integers(0, 8),
)
@pytest.mark.parametrize("fmt", ["csv", "json", "jsonl", "table", "md"])
def test_column_by_column_is_row_by_row(
    fmt: str, rows: list[tuple[Any, ...]], width: int, cut: int
) -> None:
    types = [pa.string(), pa.float64(), pa.int64(), pa.string()]
    names = ["t", 'f "x"', "i,j", "u"]
    table = pa.table(
        {
            names[i]: pa.array([r[i] for r in rows], types[i], from_pandas=False)
            for i in range(width)
        }
    )
    halves = [*table[:cut].to_batches(), *table[cut:].to_batches()]
    reader = pa.RecordBatchReader.from_batches(table.schema, halves)
    with pytest.MonkeyPatch.context() as patch:
        got, wanted = printed(reader, fmt, patch), rowwise(table, fmt, patch)
    if fmt == "csv" and any("\r" in str(cell) for row in rows for cell in row):
        # The csv module leaves a lone CR bare, and then reads it as the end of a line: no bytes to equal.
        cells = [[*row[:width]] for row in rows]
        plain = [["" if (v := output.plain(c)) is None else str(v) for c in row] for row in cells]
        assert list(csv.reader(io.StringIO(got, newline="")))[1:] == plain
    else:
        assert got == wanted


def test_every_type_is_json(lamina: Lamina) -> None:
    columns = {
        "170141183460469231731687303715884105727::hugeint": 2**127 - 1,
        "sum(i)": 6,
        "sum(i::decimal(9, 2)) / 4": 1.5,
        "max(i::utinyint)": 3,
        "340282366920938463463374607431768211455::uhugeint": str(2**128 - 1),
        "interval '14 months 3 days 4.5 seconds'": "P1Y2M3DT4.5S",
        "interval 0 day": "P0D",
        "timestamp '2020-01-01 10:20:30'": "2020-01-01T10:20:30",
        "timestamp_ns '2020-01-01 10:20:30.123456789'": "2020-01-01T10:20:30.123456789",
        "timestamptz '2020-01-01 10:20:30.5+00'": "2020-01-01T10:20:30.5Z",
        "date '1999-12-31'": "1999-12-31",
        "time '01:02:03.250'": "01:02:03.25",
        "'nan'::double": None,
        "'-inf'::float": None,
        "1e-5": 1e-05,
        "['nan'::double, 0.5]": [None, 0.5],
        "[sum(i)]": [6],
        "{'a': [date '1999-12-31'], 'b': {'c': 1::hugeint}}": {
            "a": ["1999-12-31"],
            "b": {"c": 1},
        },
        "map {'k': interval 1 day}": {"k": "P1D"},
        "'b'::enum('a', 'b')": "b",
        "'101'::bit": "101",
        "null": None,
        "true": True,
    }
    text = ", ".join(f"{sql} as c{i}" for i, sql in enumerate(columns))
    query = f"select {text} from range(4) t(i)"
    wanted = {f"c{i}": v for i, v in enumerate(columns.values())}
    for fmt in ("json", "jsonl"):
        done = lamina("sql", query, "--format", fmt)
        assert done.code == 0, done.err
        got = json.loads(done.out) if fmt == "json" else [json.loads(done.out)]
        assert got == [wanted]
    assert lamina("sql", query, "--format", "json").out == (
        json.dumps([wanted], indent=1, ensure_ascii=False) + "\n"
    )
    cells = next(csv.DictReader(io.StringIO(lamina("sql", query, "--format", "csv").out)))
    assert cells["c0"] == str(2**127 - 1)
    assert cells["c12"] == ""
    assert json.loads(cells["c15"]) == [None, 0.5]


def test_equal_names_are_told_apart(lamina: Lamina) -> None:
    done = lamina("sql", "select 1 as n, 2 as n, 3 as n_1, 4 as n", "--format", "jsonl")
    assert json.loads(done.out) == {"n": 1, "n_2": 2, "n_1": 3, "n_3": 4}


def test_a_plan_keeps_its_lines(lamina: Lamina) -> None:
    for fmt in ("table", "md"):
        lines = lamina("sql", "explain select 1", "--format", fmt).out.splitlines()
        assert len(lines) > 4
        assert any("Projection" in x for x in lines)
        assert "\\x0a" not in "".join(lines)


def test_a_long_answer_as_a_table_is_cut_and_said(lamina: Lamina) -> None:
    query = "select i from range(10001) t(i)"
    for fmt, head in (("table", 1), ("md", 2)):
        done = lamina("sql", query, "--format", fmt)
        assert len(done.out.splitlines()) == output.MOST_ALIGNED + head
        assert done.err == "showing the first 10,000 rows; --format csv gives all\n"
    whole = lamina("sql", query, "--format", "csv")
    assert whole.out == "i\n" + "".join(f"{i}\n" for i in range(10_001))
    assert whole.err == ""
    assert lamina("sql", "select i from range(10000) t(i)").err == ""


@pytest.mark.parametrize("fmt", ["csv", "jsonl", "json"])
def test_printing_begins_before_the_answer_ends(fmt: str, monkeypatch: pytest.MonkeyPatch) -> None:
    batch = pa.record_batch({"i": list(range(1000))})
    read = 0

    def endless() -> Iterator[pa.RecordBatch]:
        nonlocal read
        while True:
            read += 1
            yield batch

    class Enough(Exception):
        pass

    size = 0

    def write(text: str) -> None:
        nonlocal size
        size += len(text)
        if size > 20_000:
            raise Enough

    monkeypatch.setattr(output, "write", write)
    with pytest.raises(Enough):
        output.emit_batches(pa.RecordBatchReader.from_batches(batch.schema, endless()), fmt)
    assert read < 10


def test_an_error_in_the_midst_of_the_stream(lamina: Lamina) -> None:
    query = "select cast(if(i = 900000, 'x', '1') as int) from range(1000000) t(i)"
    done = lamina("sql", query, "--format", "csv")
    assert done.code == 2
    assert done.err.startswith("error: cannot run the SQL: Conversion Error")
    assert "hint: " in done.err


def test_an_interrupt_ends_a_long_statement(tmp_path: Path) -> None:
    query = "select sum(hash(i)) from range(1000000000000) t(i)"
    # Whatever started the tests may ignore the signal, and a child would inherit that.
    code = (
        "import signal, sys; signal.signal(signal.SIGINT, signal.default_int_handler);"
        "from lamina_traces.cli.app import main; from lamina_traces.store import engine;"
        "import polars; print('ready', flush=True); main(sys.argv[1:])"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", code, "sql", query, "--store", str(tmp_path)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    time.sleep(1.0)
    os.kill(process.pid, signal.SIGINT)
    try:
        _, errors = process.communicate(timeout=20)
    finally:
        process.kill()
    assert (process.returncode, errors) == (130, "error: interrupted\n")


def test_an_interrupt_between_batches() -> None:
    with duckdb.connect() as connection:
        reader = engine.batches(connection, "select i from range(100000000000) t(i)", "run")
        threading.Timer(0.2, connection.interrupt).start()
        with pytest.raises(KeyboardInterrupt):
            for _ in reader:
                pass

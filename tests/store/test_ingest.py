"""Foreign files into the store: every line accounted for, the trace whole or absent."""

from __future__ import annotations

import gzip
import os
from pathlib import Path

import polars as pl
import pytest

from lamina_traces.errors import DataError, LaminaError, UnknownFormat, UnknownName, UsageError
from lamina_traces.store import Store

HEADER = "TIMESTAMP,ContextTokens,GeneratedTokens\n"


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "store")


def _azure(path: Path, seconds: list[str]) -> Path:
    rows = "".join(f"2024-05-10 00:00:{s},{i + 10},{i + 1}\n" for i, s in enumerate(seconds))
    path.write_text(HEADER + rows)
    return path


def test_a_file_becomes_a_trace(store: Store, tmp_path: Path) -> None:
    file = _azure(tmp_path / "my load.csv", ["01.5", "02.25", "04.0"])
    trace = store.ingest([file])
    m = trace.manifest
    assert trace.name == "my load"
    assert (m.kind, m.nature, m.clock, m.format) == ("llm", "real", "utc", "azure")
    assert m.summary_line() == "4 lines = 3 kept + 1 header"
    assert m.tick_ns == 250_000_000
    assert m.arrival_first_ns == 0
    assert m.arrival_last_ns == 2_500_000_000
    assert [(i.name, i.bytes) for i in m.inputs] == [("my load.csv", file.stat().st_size)]
    assert m.inputs[0].sha256 is not None
    assert ("ContextTokens", "input_tokens") in {(s, c) for s, c, _ in m.mapping}
    assert trace.scan().collect()["input_tokens"].to_list() == [10, 11, 12]
    assert str(tmp_path) not in m.to_json()
    assert store.ingest([file]).name == "my load-2"


def test_unsorted_sources_are_sorted_and_said(store: Store, tmp_path: Path) -> None:
    trace = store.ingest([_azure(tmp_path / "a.csv", ["05.0", "03.0", "04.5", "03.0"])])
    m = trace.manifest
    assert m.sorted_by_us
    assert "sorted" in [n.code for n in m.notices]
    frame = trace.scan().collect()
    assert frame["arrival_ns"].to_list() == [0, 0, 1_500_000_000, 2_000_000_000]
    assert frame["row_id"].to_list() == [1, 3, 2, 0]
    assert m.origin_ns == 1_715_299_203 * 10**9


def test_rejects_are_kept_and_counted(store: Store, tmp_path: Path) -> None:
    file = tmp_path / "a.csv"
    file.write_text(HEADER + "2024-05-10 00:00:01,5,6\n\nnonsense,1,2\n2024-05-10 00:00:02,-5,6\n")
    trace = store.ingest([file])
    m = trace.manifest
    assert m.summary_line() == "5 lines = 1 kept + 2 rejected + 1 blank + 1 header"
    rejects = trace.rejects()
    assert rejects["line"].to_list() == [4, 5]
    assert set(rejects["file"]) == {"a.csv"}


def test_several_files(store: Store, tmp_path: Path) -> None:
    a, b = _azure(tmp_path / "a.csv", ["01.0", "03.0"]), _azure(tmp_path / "b.csv", ["02.0"])
    packed = tmp_path / "c.csv.gz"
    packed.write_bytes(gzip.compress(_azure(tmp_path / "c.csv", ["04.0"]).read_bytes()))
    trace = store.ingest([a, b, packed], "all")
    assert [i.name for i in trace.manifest.inputs] == ["a.csv", "b.csv", "c.csv.gz"]
    assert trace.scan().collect()["row_id"].to_list() == [0, 2, 1, 3]


def test_existing_names(store: Store, tmp_path: Path) -> None:
    file = _azure(tmp_path / "a.csv", ["01.0"])
    store.ingest([file], "T")
    with pytest.raises(UsageError, match="exists"):
        store.ingest([file], "t")
    _azure(file, ["01.0", "02.0"])
    assert store.ingest([file], "t", replace=True).manifest.rows == 2


@pytest.mark.parametrize(
    ("content", "error"),
    [
        (b"", LaminaError),
        (HEADER.encode(), DataError),
        (HEADER.encode() + b"x,y,z\n", DataError),
        (b"what,is,this\n1,2,3\n", UnknownFormat),
        (gzip.compress(HEADER.encode() + b"2024-05-10 00:00:01,5,6\n" * 5000)[:-20], DataError),
        (b"\x00\x01\x02\xff" * 100, LaminaError),
    ],
)
def test_bad_files_leave_nothing(
    store: Store, tmp_path: Path, content: bytes, error: type[LaminaError]
) -> None:
    file = tmp_path / "bad.csv"
    file.write_bytes(content)
    with pytest.raises(error):
        store.ingest([file])
    assert store.traces() == []
    if store.path.exists():
        assert [p for p in store.path.rglob("*") if p.is_file()] == [store.path / "lock"]


def test_a_bad_name_is_said_before_reading(store: Store, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no name"):
        store.ingest([tmp_path / "missing.csv"], "..")
    with pytest.raises(UsageError, match=r"missing\.csv"):
        store.ingest([tmp_path / "missing.csv"])
    with pytest.raises(UnknownName):
        store.ingest([_azure(tmp_path / "a.csv", ["01.0"])], as_format="azur")
    with pytest.raises(UsageError):
        store.ingest([])


REAL = os.environ.get("LAMINA_TRACES_REAL_DATA")


@pytest.mark.real_data
@pytest.mark.skipif(not REAL, reason="LAMINA_TRACES_REAL_DATA is not set")
def test_the_azure_code_trace(store: Store) -> None:
    """Row count, span and token means as measured independently of this project's code."""
    source = Path(str(REAL)) / "llm" / "AzureLLMInferenceTrace_code.csv"
    trace = store.ingest([source])
    raw = pl.read_csv(source)
    m = trace.manifest
    assert m.rows == len(raw) == 8819
    assert m.counts["lines"] == 8820
    got = trace.scan().select("input_tokens", "output_tokens").sum().collect().row(0)
    assert got == (int(raw["ContextTokens"].sum()), int(raw["GeneratedTokens"].sum()))
    assert m.span_s == pytest.approx(3435.948056, abs=1e-9)
    assert trace.query("arrivals/extent")["with_arrival"].to_pylist() == [8819]
    gaps = trace.query("arrivals/gap_counts")
    assert sum(gaps["n"].to_pylist()) == 8818

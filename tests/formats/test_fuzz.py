"""Every reader under mutation: no traceback, no hang, every line or record accounted for, types as the schema says.

``make test`` takes a sample; ``make fuzz`` sets LAMINA_TRACES_FUZZ to the number of cases a format.
"""

from __future__ import annotations

import gzip
import os
import re
from pathlib import Path

import polars as pl
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lamina_traces import formats
from lamina_traces.errors import LaminaError
from lamina_traces.formats.format import polars_type
from lamina_traces.schema import TABLES
from tests.formats.fixtures import FIXTURES, PATHS, SIDE
from tests.formats.test_damage import damaged, edits

CASES = int(os.environ.get("LAMINA_TRACES_FUZZ", "12"))
NO_TEXT = {"columns", "lamina"}
"""read by --map, and by our own names."""

numbers = st.sampled_from(
    [b"0", b"-1", b"1e400", b"9223372036854775808", b"99999999999999999999", b"1e18", b"0.0000000001",
     b'"NaN"', b"null", b"true", b"{}", b"[]", b'""', b'"2024-02-30T25:61:61Z"']
)  # fmt: skip


def test_every_format_is_fuzzed() -> None:
    assert set(formats.FORMATS) - NO_TEXT == set(FIXTURES) | {"pai_tasks_header"}


@pytest.mark.parametrize("name", sorted(set(FIXTURES) - SIDE))
def test_the_fixture_is_read_whole(tmp_path: Path, name: str) -> None:
    frames, rejects, summary = read(tmp_path, name, FIXTURES[name])
    assert rejects.height == 0
    assert summary.format == name
    assert frames


@pytest.mark.parametrize("name", sorted(FIXTURES))
def test_detection_finds_it_and_nothing_else(tmp_path: Path, name: str) -> None:
    assert formats.detect(placed(tmp_path, name, FIXTURES[name])).name == name


def placed(tmp_path: Path, name: str, data: bytes) -> Path:
    path = tmp_path / PATHS.get(name, name)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    return path


def read(
    tmp_path: Path, name: str, data: bytes, **options: object
) -> tuple[list[tuple[str, pl.DataFrame]], pl.DataFrame, formats.Summary]:
    path = placed(tmp_path, name, data)
    reading = formats.open_reading([path], as_format=name, **options)  # type: ignore[arg-type]
    blocks = list(reading)
    rejects = pl.concat([b.rejects for b in blocks]) if blocks else pl.DataFrame()
    return [(b.table, b.frame) for b in blocks], rejects, reading.finish()


def check(
    frames: list[tuple[str, pl.DataFrame]], rejects: pl.DataFrame, summary: formats.Summary
) -> None:
    assert summary.reconciles
    assert summary.rejected == rejects.height
    ids: dict[str, int] = {}
    for name, frame in frames:
        table = TABLES[name]
        for column in frame.columns:
            assert frame[column].dtype == polars_type(table[column]), column
            if table[column].required:
                assert frame[column].null_count() == 0, column
            if frame[column].dtype.is_float():
                assert frame[column].is_finite().all(), column
            if column.endswith("_tokens") or column in ("gpus", "duration_s", "queue_s", "bin_s"):
                assert (frame[column].drop_nulls() >= 0).all(), column
        start = ids.get(name, 0)
        assert frame["row_id"].to_list() == list(range(start, start + frame.height))
        ids[name] = start + frame.height
    if rejects.height:
        assert rejects["reason"].str.len_chars().min() > 3  # type: ignore[operator]
        assert rejects["line"].min() >= 1  # type: ignore[operator]


@pytest.mark.parametrize("name", sorted(FIXTURES))
@settings(
    max_examples=CASES, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    changes=edits,
    swapped=st.lists(st.tuples(st.integers(0, 10_000), numbers), max_size=3),
    packed=st.booleans(),
)
def test_no_mutation_breaks_a_reader(
    tmp_path: Path,
    name: str,
    changes: list[tuple[str, int, bytes]],
    swapped: list[tuple[int, bytes]],
    packed: bool,
) -> None:
    data = FIXTURES[name]
    for at, value in swapped:
        data = with_value(data, at, value)
    if not swapped:
        data = damaged(data, changes)
    if packed:
        data = gzip.compress(data, mtime=0)
    refusal: LaminaError | None = None
    try:
        got = read(tmp_path, name, data)
    except LaminaError as e:
        refusal = e
    if refusal is None:
        check(*got)
    else:
        assert refusal.message
        assert "\n" not in refusal.message


def with_value(data: bytes, at: int, value: bytes) -> bytes:
    """The ``at``-th number or word that is a value replaced: damage that leaves the structure whole."""
    places = list(NUMBER.finditer(data))
    if not places:
        return data
    m = places[at % len(places)]
    return data[: m.start()] + value + data[m.end() :]


NUMBER = re.compile(rb'(?<=[:,\[ \t"=])-?\d+(?:\.\d+)?(?=[,}\] \t\r\n"])')

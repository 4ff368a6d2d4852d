"""What holds for every format: found by its content, read and stored whole, free of planted secrets."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from lamina_traces import formats
from lamina_traces.errors import LaminaError
from lamina_traces.formats import FORMATS
from lamina_traces.schema import STATUSES, TABLES
from lamina_traces.store import Store
from tests.formats import fixtures_llm
from tests.formats.fixtures import FIXTURES, PATHS, SECRETS, SIDE
from tests.formats.fixtures_llm import SECRET
from tests.formats.reads import read, write


def named(name: str, folder: Path, data: bytes) -> Path:
    return write(folder / PATHS.get(name, f"{name}.dat"), data)


@pytest.mark.parametrize("name", FIXTURES)
def test_found_by_content(name: str, tmp_path: Path) -> None:
    assert formats.detect(named(name, tmp_path, FIXTURES[name])).name == name


@pytest.mark.parametrize("name", [n for n in FIXTURES if n not in SIDE])
def test_stored_whole(name: str, tmp_path: Path) -> None:
    trace = Store(tmp_path / "store").ingest(named(name, tmp_path, FIXTURES[name]), "t")
    frame = trace.scan().collect()
    assert frame.height == read(named(name, tmp_path, FIXTURES[name])).frame.height > 0
    assert trace.manifest.nature == FORMATS[name].nature
    if "status" in frame.columns:
        assert set(frame["status"]) <= set(STATUSES)
    for column in frame.columns:
        if frame[column].dtype.is_integer() and column not in ("row_id", "arrival_ns"):
            least = frame[column].min()
            assert least is None or least >= 0 or column.endswith("_ns"), column  # type: ignore[operator]


@pytest.mark.parametrize("name", FIXTURES)
def test_no_empty_text_is_kept(name: str, tmp_path: Path) -> None:
    for block in formats.open_reading(named(name, tmp_path, FIXTURES[name])) if name not in SIDE else ():  # fmt: skip
        for column in block.frame.columns:
            if block.frame[column].dtype == pl.String:
                assert "" not in block.frame[column].to_list(), column
        assert set(block.frame.columns) <= set(TABLES[block.table].names)


@pytest.mark.parametrize("name", SECRETS)
def test_planted_secrets_stay_out(name: str, tmp_path: Path) -> None:
    path = named(name, tmp_path, SECRETS[name])
    assert SECRET.encode() in path.read_bytes() or b"10.1.2." in path.read_bytes()
    reading = formats.open_reading(path)
    blocks = list(reading)
    summary = reading.finish()
    out = repr([b.frame.to_dicts() for b in blocks]) + repr([b.rejects.to_dicts() for b in blocks])
    assert sum(b.frame.height for b in blocks) > 0
    for planted in (SECRET, "10.9.8.7", "10.1.2."):
        assert planted not in out + repr(summary)


KEEPS_NO_TEXT = {"dynamo"}
"""its payloads are records of their own, and no requests"""


@pytest.mark.parametrize("name", sorted(set(fixtures_llm.SECRETS) - KEEPS_NO_TEXT))
def test_text_is_kept_on_request_and_changes_nothing_else(name: str, tmp_path: Path) -> None:
    path = named(name, tmp_path, SECRETS[name])
    without, kept = read(path), read(path, keep_text=True)
    assert without.summary.dropped_fields
    assert kept.summary.dropped_fields == ()
    assert "text-dropped" not in [n.code for n in kept.summary.notices]
    said = [n.text for n in without.summary.notices if n.code == "text-dropped"]
    assert said
    assert said[0].endswith("(--keep-text keeps them)")
    assert SECRET in "".join(e or "" for e in kept.column("extra"))
    assert all(e is None or isinstance(json.loads(e), dict) for e in kept.column("extra"))
    others = [c for c in without.frame.columns if c not in ("extra", "user_id")]
    assert kept.frame.select(others).equals(without.frame.select(others))


@pytest.mark.parametrize("name", SECRETS)
def test_nothing_is_left_out_where_text_is_kept(name: str, tmp_path: Path) -> None:
    reading = formats.open_reading(named(name, tmp_path, SECRETS[name]), keep_text=True)
    assert any(b.frame.height for b in reading)
    assert reading.finish().dropped_fields == ()


@pytest.mark.parametrize("name", SECRETS)
def test_planted_secrets_stay_out_of_rejects(name: str, tmp_path: Path) -> None:
    """The same records with every number broken."""
    text = SECRETS[name].decode()
    for key in (
        "_tokens",
        "_toks",
        "_length",
        "input_lens",
        "_ns",
        "UnixNano",
        '"in"',
        "start_time",
    ):
        text = text.replace(f'{key}": ', f'{key}": "x", "_": ')
    reading = formats.open_reading(named(name, tmp_path, text.encode()), as_format=name)
    seen = ""
    try:
        for block in reading:
            seen += repr(block.rejects.to_dicts()) + repr(block.frame.to_dicts())
        seen += repr(reading.finish())
    except LaminaError as e:
        seen += e.message + (e.hint or "")
    assert SECRET not in seen


@pytest.mark.parametrize("name", [n for n, d in FIXTURES.items() if d.lstrip()[:1] in (b"{", b"[")])
def test_nonsense_is_rejected_and_counted(name: str, tmp_path: Path) -> None:
    """Every scalar of a JSON source replaced in turn by something else: no traceback, nothing lost."""
    data = FIXTURES[name]
    junk: Any
    for junk in (None, "x", -1, [], {}, 1e300, True):
        broken = data
        for token in (b": 1", b": 2", b': "', b": [", b": {"):
            at = broken.find(token, len(broken) // 3)
            if at >= 0:
                broken = (
                    data[: at + 2] + json.dumps(junk).encode() + b"," + b' "_": ' + data[at + 2 :]
                )
                reading = formats.open_reading(named(name, tmp_path, broken), as_format=name)
                try:
                    list(reading)
                except LaminaError:
                    continue
                assert reading.finish().reconciles

"""Exports from the command line: folders, files of every kind, and what is said about them."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from lamina_traces import formats

Lamina = Callable[..., Any]
LLM = [n for n, t in formats.TARGETS.items() if {"llm_requests", "*"} & set(t.tables)]


@pytest.mark.parametrize("target", LLM)
def test_every_target_of_requests(lamina: Lamina, sample_store: Path, target: str) -> None:
    at = ["--store", str(sample_store)]
    done = lamina("export", "sample", "--to", target, "-o", "out", "--where", "row_id < 50", *at)
    assert done.code == 0
    assert "50 of 50 requests" in done.out
    assert formats.TARGETS[target].folder == Path("out").is_dir()
    assert "import it with: " in done.err
    assert "out" in done.err
    again = lamina("export", "sample", "--to", target, "-o", "out", "--where", "row_id < 50", *at)
    if formats.TARGETS[target].folder:
        assert again.code == 2
        assert "not empty" in again.err
    else:
        assert again.code == 0
        if target != "duckdb":  # a database file names itself anew each time
            assert again.out == done.out  # the same bytes


def test_catalog_lists_targets_by_name(lamina: Lamina) -> None:
    rows = json.loads(lamina("catalog", "targets", "--format", "json").out)
    rows = rows.get("rows", rows) if isinstance(rows, dict) else rows
    names = [r["name"] for r in rows]
    assert names == sorted(names) == list(formats.TARGETS)
    by = {r["name"]: r for r in rows}
    assert by["weka"]["file"] == "folder"
    assert by["servegen"]["from"] == "client_windows or llm_requests"
    assert by["parquet"]["carries"] == "all"


def test_a_parquet_export_comes_back_whole(lamina: Lamina, sample_store: Path) -> None:
    at = ["--store", str(sample_store)]
    assert lamina("export", "sample", "--to", "parquet", "-o", "x.parquet", *at).code == 0
    assert lamina("ingest", "x.parquet", "--name", "back").code == 0
    told = [
        json.loads(lamina("show", n, "--format", "json", *o).out)
        for n, o in (("sample", at), ("back", []))
    ]
    for key in ("arrival_first_ns", "arrival_last_ns", "clock", "origin_ns", "nature", "kind"):
        assert told[0][key] == told[1][key], key

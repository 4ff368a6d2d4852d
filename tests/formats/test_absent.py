"""A column that a source lacks says the same as one whose cells are empty."""

from __future__ import annotations

import csv
import io
from pathlib import Path

import pytest

from lamina_traces.errors import LaminaError
from lamina_traces.formats import FORMATS
from tests.formats.fixtures import FIXTURES, PATHS
from tests.formats.reads import write
from tests.formats.tables import read_tables

BY_HEADER = {"nvidia_smi", "zeus_log", "dcgm_wide", "dcgm_wide_metrics"}
"""their columns are alternatives, counters or hosts: which are there says something itself."""
TABLES = [
    n for n, f in FORMATS.items()
    if "csv" in f.syntax and n not in BY_HEADER and not FIXTURES.get(n, b"{").startswith((b"{", b"["))
]  # fmt: skip


def recorded(path: Path, name: str) -> dict[str, list[dict[str, object]]] | None:
    """What a reading says in columns, without its nulls; None where the source is refused or a line of it."""
    try:
        got = read_tables(path, as_format=name)
    except LaminaError:
        return None
    if got.rejects.height:
        return None
    return {
        table: [
            {k: v for k, v in row.items() if v is not None and k != "extra"}
            for row in frame.to_dicts()
        ]
        for table, frame in got.frames.items()
    }


@pytest.mark.parametrize("name", TABLES)
def test_a_column_that_is_not_there_is_null(name: str, tmp_path: Path) -> None:
    rows = list(csv.reader(io.StringIO(FIXTURES[name].decode())))
    path = tmp_path / PATHS.get(name, name)
    for i, column in enumerate(rows[0]):
        found = []
        for cut in (True, False):
            text = io.StringIO()
            lines = csv.writer(text, lineterminator="\n")
            lines.writerow(rows[0][:i] + rows[0][i + cut :])
            lines.writerows(r[:i] + [""] * (not cut) + r[i + 1 :] for r in rows[1:])
            found.append(recorded(write(path, text.getvalue()), name))
        if None not in found:
            assert found[0] == found[1], column

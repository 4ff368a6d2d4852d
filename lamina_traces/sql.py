"""Names, texts and files as SQL: the one place where they are quoted."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path


def quoted(name: str | None) -> str:
    """A name as a quoted SQL identifier."""
    return '"' + str(name).replace('"', '""') + '"'


def text(value: str | Path | None) -> str:
    """Text as an SQL string literal; None as NULL."""
    return "NULL" if value is None else "'" + str(value).replace("'", "''") + "'"


def parquet(files: Iterable[Path]) -> str:
    """A table expression over Parquet files in their order, columns matched by name."""
    listed = ", ".join(map(text, files))  # a path that exists is not taken for a wildcard
    return f"read_parquet([{listed}], union_by_name = true)"

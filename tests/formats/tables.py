"""How tests read sources that fill several tables."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl

from lamina_traces import formats
from tests.formats.reads import write


@dataclass(frozen=True)
class Tables:
    frames: dict[str, pl.DataFrame]
    rejects: pl.DataFrame
    summary: formats.Summary

    def __getitem__(self, table: str) -> pl.DataFrame:
        return self.frames[table]

    @property
    def codes(self) -> list[str]:
        return [n.code for n in self.summary.notices]

    def shown(self) -> str:
        """Everything that a reading lets out, as text."""
        rows = [str(f.to_dicts()) for f in self.frames.values()]
        return "\n".join([*rows, str(self.rejects.to_dicts()), str(self.summary)])


def read_tables(paths: Path | str | Iterable[Path | str], **options: Any) -> Tables:
    """A reading whole, its frames by table."""
    listed = [paths] if isinstance(paths, Path | str) else list(paths)
    reading = formats.open_reading(listed, **options)
    frames: dict[str, list[pl.DataFrame]] = {}
    rejects = []
    for block in reading:
        if block.frame.height:
            frames.setdefault(block.table, []).append(block.frame)
        rejects.append(block.rejects)
    summary = reading.finish()
    assert summary.reconciles
    whole = {t: pl.concat(fs, how="diagonal") for t, fs in frames.items()}
    return Tables(whole, pl.concat(rejects), summary)


@dataclass(frozen=True)
class Fixtures:
    """Sources by format, and the paths of those whose path says what they hold."""

    sources: Mapping[str, bytes]
    paths: Mapping[str, str]

    def placed(self, folder: Path, name: str, data: bytes | None = None) -> Path:
        """Write a source, or ``data`` in its place."""
        path = folder / self.paths.get(name, f"{name}.txt")
        return write(path, self.sources[name] if data is None else data)

    def read(self, folder: Path, *names: str) -> Tables:
        return read_tables([self.placed(folder, n) for n in names])

"""How the tests of this folder read a file whole."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl

from lamina_traces import formats


@dataclass(frozen=True)
class Whole:
    frame: pl.DataFrame
    rejects: pl.DataFrame
    summary: formats.Summary

    def column(self, name: str) -> list[Any]:
        return self.frame[name].to_list()


def read(*paths: Path | str, **options: Any) -> Whole:
    reading = formats.open_reading(list(paths), **options)
    blocks = list(reading)
    summary = reading.finish()
    assert summary.reconciles
    main = [b.frame for b in blocks if b.table == reading.table]
    return Whole(
        pl.concat(main) if main else pl.DataFrame(), pl.concat([b.rejects for b in blocks]), summary
    )


def write(path: Path, text: str | bytes) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path

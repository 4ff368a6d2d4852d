"""Sample files that ship with the package, by name."""

from __future__ import annotations

from importlib import resources
from pathlib import Path

from .errors import UnknownName


def sample_path(name: str) -> Path:
    """Path of a sample. Raises UnknownName.."""
    folder = Path(str(resources.files("lamina_traces.sample_data")))
    path = folder / name
    if not path.is_file():
        raise UnknownName(
            "sample", name, [p.name for p in folder.glob("*.*") if p.suffix in (".csv", ".jsonl")]
        )
    return path

"""Fixtures for all tests: real data folders, a command runner, a store with the sample in it."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from lamina_traces.cli.app import run
from lamina_traces.samples import sample_path
from lamina_traces.store import Store


@dataclass(frozen=True)
class Ran:
    code: int
    out: str
    err: str


@pytest.fixture
def lamina(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[..., Ran]:
    """Run a command line in a folder of its own: ``lamina("ls", "--format", "json").out``."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("LAMINA_STORE", raising=False)

    def go(*argv: object) -> Ran:
        capsys.readouterr()
        code = run([str(a) for a in argv])
        captured = capsys.readouterr()
        return Ran(code, captured.out, captured.err)

    return go


@pytest.fixture(scope="session")
def sample_store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store that holds the sample as ``sample``; shared, so only read it."""
    path = tmp_path_factory.mktemp("sample") / "store"
    Store(path).ingest([sample_path("requests.csv")], "sample")
    return path


def _folder(variable: str) -> Path:
    value = os.environ.get(variable)
    if not value:
        pytest.skip(f"{variable} is not set")
    path = Path(value)
    if not path.is_dir():
        pytest.fail(f"{variable}={value} is not a folder")
    return path


@pytest.fixture(scope="session")
def real_data() -> Path:
    return _folder("LAMINA_TRACES_REAL_DATA")


@pytest.fixture(scope="session")
def ground_truth() -> Path:
    return _folder("LAMINA_TRACES_GROUND_TRUTH")

"""The documents say what the program does: generated pages are fresh, and every command in them runs."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from lamina_traces.samples import sample_path

from .conftest import Ran

ROOT = Path(__file__).parents[1]
DOCUMENTS = [
    "README.md",
    *sorted(str(p.relative_to(ROOT)) for p in (ROOT / "docs").glob("*.md") if p.name != "cli.md"),
]


def test_cli_page_is_fresh(tmp_path: Path) -> None:
    """Run ``make docs`` when this fails."""
    made = tmp_path / "cli.md"
    subprocess.run(
        [
            sys.executable,
            "-m",
            "typer",
            "lamina_traces.cli.app",
            "utils",
            "docs",
            "--name",
            "lamina-traces",
            "--output",
            str(made),
        ],
        env={**os.environ, "TYPER_USE_RICH": "0"},
        check=True,
        capture_output=True,
    )
    assert made.read_text() == (ROOT / "docs" / "cli.md").read_text()


AZURE = "AzureLLMInferenceTrace_code.csv"


def azure_file() -> Path:
    """The real file where it is at hand, else the sample: they have one layout."""
    folder = os.environ.get("LAMINA_TRACES_REAL_DATA")
    return Path(folder) / "llm" / AZURE if folder else sample_path("requests.csv")


def commands(name: str) -> list[str]:
    """The ``lamina-traces`` and ``make`` lines of a page's console blocks, in order; lines with a \\ go on."""
    text = (ROOT / name).read_text(encoding="utf-8")
    found = []
    for block in re.findall(r"```(?:console|sh|bash)\n(.*?)```", text, re.S):
        lines = block.replace("\\\n", " ").splitlines()
        found += [line[2:].strip() for line in lines if line.startswith("$ ")]
    return found


@pytest.mark.parametrize("name", DOCUMENTS)
def test_commands_of_a_page_run(name: str, lamina: object, tmp_path: Path) -> None:
    """In order, in one folder that holds the sample as ``requests.csv``; each must exit 0 unless the page shows
    ``# exit N`` behind it."""
    shutil.copy(sample_path("requests.csv"), tmp_path / "requests.csv")
    shutil.copy(azure_file(), tmp_path / AZURE)
    for line in commands(name):
        body, _, comment = line.partition("  # ")
        words = shlex.split(body)
        wanted = int(m[1]) if (m := re.search(r"exit (\d)", comment)) else 0
        if words[0] in ("make", "pip", "python", "cd", "git"):
            assert words[0] != "make" or _is_target(words[1]), line
            continue
        assert words[0] in ("lamina-traces", "lamina"), line
        if words[1:2] == ["demo"]:
            continue  # run by the wheel test and by .ci/run
        done: Ran = lamina(*words[1:])  # type: ignore[operator]
        assert done.code == wanted, f"{line}\n{done.out}\n{done.err}"


def test_specs_in_the_documents_load() -> None:
    from lamina_traces import specs

    found = 0
    for name in DOCUMENTS:
        for block in re.findall(
            r"```toml\n(.*?)```", (ROOT / name).read_text(encoding="utf-8"), re.S
        ):
            specs.loads(block)
            found += 1
    assert found


def _is_target(name: str) -> bool:
    return re.search(rf"^{re.escape(name)}:", (ROOT / "Makefile").read_text(), re.M) is not None


@pytest.mark.real_data
def test_readme_shows_real_output(lamina: object, tmp_path: Path, real_data: Path) -> None:
    """The session of the README, run on the real Azure code trace, prints what the page shows, line by line."""
    shutil.copy(real_data / "llm" / AZURE, tmp_path / AZURE)
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    session = re.search(r"<!-- session -->\n```console\n(.*?)```", text, re.S)
    assert session is not None
    shown: list[str] = []
    printed: list[str] = []
    for line in session[1].replace("\\\n", " ").splitlines():
        shown.append(line)
        if line.startswith("$ "):
            printed.append(line)
            done: Ran = lamina(*shlex.split(line[2:])[1:])  # type: ignore[operator]
            printed += done.out.splitlines()
    assert [s.rstrip() for s in shown if s.strip()] == [p.rstrip() for p in printed if p.strip()]


def test_every_shown_module_exists() -> None:
    text = (ROOT / "docs" / "architecture.md").read_text()
    for path in re.findall(
        r"`((?:lamina_traces|cli|reports|queries|tests|benchmarks|docs|sample_data)/[\w./-]*)`",
        text,
    ):
        assert (ROOT / path).exists(), path


def test_formats_page_is_fresh() -> None:
    """Run ``make docs`` when this fails."""
    from lamina_traces.catalogs import formats_page

    assert formats_page() == (ROOT / "docs" / "formats.md").read_text(encoding="utf-8")


def test_readme_names_every_format_and_target() -> None:
    from lamina_traces.formats import FORMATS, TARGETS

    text = (ROOT / "README.md").read_text(encoding="utf-8")
    named = set(re.findall(r"`([\w-]+)`", text))
    assert set(TARGETS) <= named
    # formats that are only read beside others stand in docs/formats.md
    alone = {f.name for f in FORMATS.values() if f.name == f.group or f.rank == 0}
    beside = {f.name for f in FORMATS.values() if f.family and f.name.startswith(f"{f.family}_")}
    missing = alone - beside - named
    assert not missing, missing
    marks = {
        "real file": r"\*\*`{}`",
        "importer's loader": r"(?<!\*)`{}`",
        "documentation": r"(?<!\*)\*`{}`",
    }
    for f in FORMATS.values():
        if f.name in named and f.name not in ("columns", "lamina") and f.name not in TARGETS:
            assert re.search(marks[f.evidence].format(f.name), text), f"{f.name}: {f.evidence}"

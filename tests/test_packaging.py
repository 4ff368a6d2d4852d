"""What is on disk is what ships; what ships needs nothing of this machine."""

from __future__ import annotations

import re
import subprocess
import tomllib
from pathlib import Path

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())


def test_every_package_on_disk_is_listed() -> None:
    mapped = PROJECT["tool"]["setuptools"]["package-dir"]
    on_disk = set()
    for name, folder in mapped.items():
        base = ROOT / folder
        for init in base.rglob("__init__.py"):
            parts = init.parent.relative_to(base).parts
            on_disk.add(".".join([name, *parts]))
    assert on_disk == set(PROJECT["tool"]["setuptools"]["packages"])


def test_version_is_one() -> None:
    import lamina_traces

    assert lamina_traces.__version__ == PROJECT["project"]["version"]
    assert f"## {lamina_traces.__version__}" in (ROOT / "CHANGELOG.md").read_text()
    assert f"version: {lamina_traces.__version__}" in (ROOT / "CITATION.cff").read_text()


def test_pins_name_no_address() -> None:
    for line in (ROOT / "constraints.txt").read_text().splitlines():
        assert re.fullmatch(r"[A-Za-z0-9_.\-]+==[A-Za-z0-9_.+!]+", line), line


def test_every_dependency_is_pinned() -> None:
    pinned = {
        line.split("==")[0].lower().replace("_", "-")
        for line in (ROOT / "constraints.txt").read_text().splitlines()
    }
    groups = [
        PROJECT["project"]["dependencies"],
        PROJECT["project"]["optional-dependencies"]["dev"],
    ]
    wanted = {re.split(r"[<>=!~ \[]", d)[0].lower().replace("_", "-") for g in groups for d in g}
    assert wanted <= pinned, wanted - pinned


def test_sample_data_is_small() -> None:
    sizes = {
        p: p.stat().st_size
        for p in (ROOT / "sample_data").rglob("*")
        if p.is_file() and "__pycache__" not in p.parts
    }
    profiles = sum(s for p, s in sizes.items() if "profiles" in p.parts)
    assert profiles <= 2_000_000
    assert sum(sizes.values()) - profiles <= 1_000_000


def test_no_registry_address_and_no_machine_path_in_the_tree() -> None:
    listed = (
        subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, check=False)
        .stdout.decode()
        .split("\0")
    )
    names = [n for n in listed if n] or [str(p.relative_to(ROOT)) for p in ROOT.rglob("*.py")]
    for name in names:
        path = ROOT / name
        if not path.is_file() or name in ("LICENSE", "tests/test_packaging.py"):
            continue
        text = path.read_bytes().decode("utf-8", "replace")
        assert "pypi.org" not in text, name
        assert "pythonhosted" not in text, name
        assert not re.search(r"(?<![\w.])/(work|root)/", text), name

"""The compile cache: never stale, never in the way, used by the next process."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

CLOCK = """
import json, sys
from lamina_traces.simulator import warm_up
from lamina_traces.compiled import outcome
warm_up()
print(json.dumps(outcome()))
"""

SMALL = """
import json, sys
sys.path.insert(0, sys.argv[1])
import small
from numba import types
from lamina_traces.compiled import compile_cached, outcome
f = compile_cached(small.f, types.int64(types.int64))
print(json.dumps({**outcome(), "f": f(1)}))
"""


def python(code: str, *args: str, cache: Path) -> dict[str, int]:
    env = {
        **os.environ,
        "LAMINA_CACHE_DIR": str(cache),
        "PYTHONWARNINGS": "error",
        "PYTHONDONTWRITEBYTECODE": "1",
    }
    done = subprocess.run(
        [sys.executable, "-c", code, *args],
        env=env,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    found: dict[str, int] = json.loads(done.stdout)
    return found


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """A folder with one jittable function, adding 1."""
    folder = tmp_path / "source"
    folder.mkdir()
    (folder / "small.py").write_text("def f(x):\n    return x + 1\n")
    return folder


def test_a_second_process_compiles_nothing_of_the_clock(tmp_path: Path) -> None:
    first = python(CLOCK, cache=tmp_path / "cache")
    assert first["compiled"] > 0
    assert first["unsaved"] == 0
    second = python(CLOCK, cache=tmp_path / "cache")
    assert second == {"loaded": first["compiled"], "compiled": 0, "unsaved": 0}


def test_code_of_equal_size_and_time_is_not_mistaken(tmp_path: Path, source: Path) -> None:
    cache, file = tmp_path / "cache", source / "small.py"
    assert python(SMALL, str(source), cache=cache)["f"] == 2
    before = file.stat()
    file.write_text("def f(x):\n    return x + 7\n")
    os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert (file.stat().st_size, file.stat().st_mtime_ns) == (before.st_size, before.st_mtime_ns)
    changed = python(SMALL, str(source), cache=cache)
    assert (changed["f"], changed["compiled"]) == (8, 1)
    # and back: what was compiled for the first content is still good
    file.write_text("def f(x):\n    return x + 1\n")
    assert python(SMALL, str(source), cache=cache) == {
        "loaded": 1,
        "compiled": 0,
        "unsaved": 0,
        "f": 2,
    }


def test_an_edit_of_jitted_code_that_is_imported_is_seen(tmp_path: Path, source: Path) -> None:
    cache = tmp_path / "cache"
    (source / "small.py").write_text("from part import g\ndef f(x):\n    return g(x)\n")
    part = "from lamina_traces.compiled import hot\n@hot\ndef g(x):\n    return x + {}\n"
    for add in (1, 7):
        (source / "part.py").write_text(part.format(add))
        made = python(SMALL, str(source), cache=cache)
        assert (made["f"], made["compiled"]) == (1 + add, 1)
    assert python(SMALL, str(source), cache=cache)["loaded"] == 1


def test_a_folder_that_cannot_be_written_costs_only_time(tmp_path: Path, source: Path) -> None:
    (tmp_path / "file").write_text("")
    for _ in range(2):
        out = python(SMALL, str(source), cache=tmp_path / "file" / "below")
        assert out == {"loaded": 0, "compiled": 1, "unsaved": 1, "f": 2}


def test_a_damaged_cache_is_compiled_over(tmp_path: Path, source: Path) -> None:
    cache = tmp_path / "cache"
    python(SMALL, str(source), cache=cache)
    for damage in (b"", b"\x80\x05nonsense"):
        files = [p for p in cache.rglob("*") if p.is_file()]
        assert files
        for p in files:
            p.write_bytes(damage)
        out = python(SMALL, str(source), cache=cache)
        assert (out["f"], out["loaded"], out["compiled"]) == (2, 0, 1)


def test_the_source_folder_stays_clean(tmp_path: Path, source: Path) -> None:
    python(SMALL, str(source), cache=tmp_path / "cache")
    assert [p.name for p in source.iterdir()] == ["small.py"]

"""SIGKILL at every step: a reader finds the trace whole, old or new, or not at all."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from lamina_traces.errors import UnknownName
from lamina_traces.store import Store

from .frames import requests

ROWS = 1_500

DRIVER = """
import json, os, signal, sys, time
from pathlib import Path
from lamina_traces.store import Store

mode, stores, source = sys.argv[1], sys.argv[2:-1], sys.argv[-1]
results = []
for k, root in enumerate(stores):
    child = os.fork()
    if child == 0:
        seen = 0
        watched = ("open", "os.rename", "os.mkdir", "os.remove", "os.rmdir", "fcntl.flock")
        def hook(event, args):
            global seen
            if event not in watched:
                return
            # flock has no path: it counts as the store's, like all that names it.
            if event != "fcntl.flock" and not str(args[0]).startswith(root):
                return
            if seen == k and mode == "steps":
                os.kill(os.getpid(), signal.SIGKILL)
            seen += 1
        sys.addaudithook(hook)
        Store(root).ingest([source], "t", replace=True)
        os._exit(0)
    if mode == "delays":
        time.sleep(0.01 * k)
        try:
            os.kill(child, signal.SIGKILL)
        except ProcessLookupError:
            pass
    deadline = time.monotonic() + 30
    while True:
        done, status = os.waitpid(child, os.WNOHANG)
        if done:
            break
        if time.monotonic() > deadline:
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)
            status = -1
            break
        time.sleep(0.001)
    results.append(status)
print(json.dumps(results))
"""


def _kill(mode: str, stores: list[Path], source: Path) -> list[int]:
    """Ingest into each store in a child killed at its own moment; the wait statuses (9: killed)."""
    out = subprocess.run(
        [sys.executable, "-c", DRIVER, mode, *map(str, stores), str(source)],
        capture_output=True,
        text=True,
        check=True,
        timeout=120,
    )
    statuses: list[int] = json.loads(out.stdout)
    assert -1 not in statuses, "a child hung"
    return statuses


@pytest.fixture
def source(tmp_path: Path) -> Path:
    path = tmp_path / "new.csv"
    rows = (f"2024-05-10 00:00:{i % 60:02d}.{i:06d},{i + 1},{7}" for i in range(ROWS))
    path.write_text("TIMESTAMP,ContextTokens,GeneratedTokens\n" + "\n".join(rows) + "\n")
    return path


def _filled(root: Path) -> None:
    with Store(root).writer("t", kind="llm") as w:
        w.write("llm_requests", requests([0, 1, 2]))
        w.commit()


def _old_or_new(store: Store) -> str:
    """What the store shows; fails where that is neither the one nor the other, whole."""
    try:
        trace = store.trace("t")
    except UnknownName:
        assert store.traces() == []
        return "absent"
    assert store.damaged() == []
    frame = trace.scan().collect()
    assert len(frame) == trace.manifest.rows == trace.query("arrivals/extent")["events"][0].as_py()
    if len(frame) == 3:
        assert frame["input_tokens"].to_list() == [1, 2, 3]
        return "old"
    assert sorted(frame["input_tokens"].to_list()) == list(range(1, ROWS + 1))
    assert frame["arrival_ns"].is_sorted()
    assert trace.manifest.counts["kept"] == ROWS
    return "new"


def _no_leak(store: Store, shown: str) -> None:
    """After a sweep nothing is left but one generation, and the next write works."""
    store.sweep()
    assert list((store.path / "staging").glob("*")) == []
    kept = [p.name for p in (store.path / "traces").glob("*/*")]
    if shown == "absent":
        assert kept == []
    else:
        assert sorted(n for n in kept if n.startswith("g")) == [
            n for n in kept if n not in ("current",)
        ]
        assert len(kept) == 2
        assert _old_or_new(store) == shown
    with store.writer("t", kind="llm", replace=True) as w:
        w.write("llm_requests", requests([5]))
        assert len(w.commit().scan().collect()) == 1


@pytest.mark.parametrize("before", ["absent", "old"])
def test_killed_at_every_file_system_step(tmp_path: Path, source: Path, before: str) -> None:
    stores = [tmp_path / f"s{k}" for k in range(50)]
    if before == "old":
        _filled(stores[0])
        for s in stores[1:]:
            shutil.copytree(stores[0], s)
    statuses = _kill("steps", stores, source)
    killed = [k for k, s in enumerate(statuses) if s == 9]
    # Steps beyond the last are not reached: those children end well, and they show that all steps were tried.
    assert killed == list(range(len(killed)))
    assert 15 < len(killed) < len(stores)
    assert set(statuses[len(killed) :]) == {0}
    shown = [_old_or_new(Store(s)) for s in stores]
    assert set(shown) == {before, "new"}
    first_new = shown.index("new")
    assert shown[:first_new] == [before] * first_new  # the moment it appears is one step
    assert set(shown[first_new:]) == {"new"}
    assert first_new < len(killed), "no kill after the trace had appeared"
    for s, was in zip(stores, shown, strict=True):
        _no_leak(Store(s), was)


def test_killed_at_any_moment(tmp_path: Path, source: Path) -> None:
    stores = [tmp_path / f"s{k}" for k in range(12)]
    _filled(stores[0])
    for s in stores[1:]:
        shutil.copytree(stores[0], s)
    statuses = _kill("delays", stores, source)
    assert 9 in statuses
    for s in stores:
        _no_leak(Store(s), _old_or_new(Store(s)))

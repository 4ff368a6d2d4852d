"""A generation that is interrupted goes on from its last whole part, and nothing of it is visible before the end."""

from __future__ import annotations

import os
import resource
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from lamina_traces import generator, workloads
from lamina_traces.errors import DataError, StoreError
from lamina_traces.generator import journal as journal_module
from lamina_traces.generator.observed import Observed
from lamina_traces.profile import Profile
from lamina_traces.store import Store


class Interrupted(Exception):
    pass


@pytest.fixture
def small_parts(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(journal_module, "PART_ROWS", 250_000)
    return iter(())


def plan(rows: int = 1_000_000, seed: int = 3) -> generator.Plan:
    return generator.plan(Profile.library("azure-code"), rows=rows, seed=seed)


def stop_after(rows: int) -> workloads.Job:
    done = 0

    def progress(n: int) -> None:
        nonlocal done
        done += n
        if done >= rows:
            raise Interrupted

    return workloads.Job(plan(), progress=progress)


@pytest.mark.usefixtures("small_parts")
def test_a_file_goes_on_where_it_stopped(tmp_path: Path) -> None:
    whole, again = tmp_path / "whole.parquet", tmp_path / "again.parquet"
    want = workloads.write_parquet(whole, workloads.Job(plan()))
    said: list[str] = []
    for stop in (100, 500_000, 300_000):  # before the first part is whole, after two, after three
        with pytest.raises(Interrupted):
            workloads.write_parquet(again, stop_after(stop), say=said.append)
        assert not again.exists()
    got = workloads.write_parquet(again, workloads.Job(plan()), say=said.append)
    assert [s for s in said if s.startswith("going on after row ")]
    assert got.row_hash == want.row_hash
    assert got.rows == want.rows == 1_000_000
    assert got.cv == want.cv
    assert got.idc(1) == want.idc(1)
    assert pl.read_parquet(again).equals(pl.read_parquet(whole))
    assert sorted(p.name for p in tmp_path.iterdir()) == ["again.parquet", "whole.parquet"]


@pytest.mark.usefixtures("small_parts")
def test_what_is_told_to_be_kept_is_kept(tmp_path: Path) -> None:
    """Rows behind the last part that is whole were made, and are lost."""
    said: list[str] = []
    with pytest.raises(Interrupted):
        workloads.write_parquet(tmp_path / "x.parquet", stop_after(700_000), say=said.append)
    parts = sorted((tmp_path / ".x.parquet.parts").glob("part-*"))
    kept = sum(pl.read_parquet(p).height for p in parts[:2])  # the third has no end
    assert kept < 700_000
    assert said[-1].startswith(f"{kept:,} rows are kept")


@pytest.mark.usefixtures("small_parts")
def test_another_plan_begins_anew(tmp_path: Path) -> None:
    path = tmp_path / "x.parquet"
    with pytest.raises(Interrupted):
        workloads.write_parquet(path, stop_after(600_000))
    said: list[str] = []
    made = workloads.write_parquet(path, workloads.Job(plan(20_000, seed=4)), say=said.append)
    assert made.rows == pl.read_parquet(path).height == 20_000
    assert not said


@pytest.mark.usefixtures("small_parts")
def test_the_store_goes_on_too(tmp_path: Path) -> None:
    store = Store(tmp_path)
    with pytest.raises(Interrupted):
        workloads.store_generated(store, "x", stop_after(600_000))
    assert store.names() == []
    workloads.store_generated(store, "x", workloads.Job(plan()))
    workloads.store_generated(store, "y", workloads.Job(plan()))
    a, b = store.trace("x"), store.trace("y")
    assert a.manifest.row_hash == b.manifest.row_hash
    assert a.manifest.tables["llm_requests"] == b.manifest.tables["llm_requests"]
    assert a.manifest.tick_ns == b.manifest.tick_ns
    assert a.scan("llm_requests").collect().equals(b.scan("llm_requests").collect())
    assert not list((tmp_path / "unfinished").iterdir())


def test_a_part_ends_with_a_block_though_pieces_do_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = generator.plan(Profile.library("mooncake-conversation"), rows=300_000, seed=3)
    want = workloads.write_parquet(tmp_path / "whole.parquet", workloads.Job(made))
    monkeypatch.setattr(journal_module, "PART_ROWS", 50_000)
    monkeypatch.setattr(generator.requests, "PIECE_IDS", 500_000)
    done = 0

    def progress(n: int) -> None:
        nonlocal done
        done += n
        if done > 200_000:
            raise Interrupted

    path, said = tmp_path / "again.parquet", list[str]()
    with pytest.raises(Interrupted):
        workloads.write_parquet(path, workloads.Job(made, progress=progress))
    got = workloads.write_parquet(path, workloads.Job(made), say=said.append)
    assert [s for s in said if s.startswith("going on after row 1")]
    assert (got.rows, got.row_hash) == (want.rows, want.row_hash)
    assert pl.read_parquet(path).equals(pl.read_parquet(tmp_path / "whole.parquet"))


def test_two_at_once_are_told(tmp_path: Path) -> None:
    folder = tmp_path / "parts"
    held = journal_module.Journal(folder, {"a": 1})
    with pytest.raises(StoreError, match="somebody else"):
        journal_module.Journal(folder, {"a": 1})
    held.remove()


def test_a_damaged_journal_begins_anew(tmp_path: Path) -> None:
    folder = tmp_path / "parts"
    folder.mkdir()
    (folder / "journal.npz").write_bytes(b"PK\x03\x04 not really")
    (folder / "part-00000.parquet").write_bytes(b"half")
    found = journal_module.Journal(folder, {"a": 1})
    assert found.place is None
    assert found.files == []
    assert not (folder / "part-00000.parquet").exists()


FULL = """
import resource, sys
from pathlib import Path
from lamina_traces import generator, workloads
from lamina_traces.errors import LaminaError
from lamina_traces.profile import Profile
resource.setrlimit(resource.RLIMIT_FSIZE, (300_000, 300_000))
import signal; signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
plan = generator.plan(Profile.library("azure-code"), rows=300_000)
try:
    workloads.write_parquet(Path(sys.argv[1]), workloads.Job(plan))
except LaminaError as e:
    print(e.message); print(e.hint)
"""


def test_a_full_disk_is_an_error_and_leaves_nothing_half(tmp_path: Path) -> None:
    """A limit on the size of files stands for the full disk."""
    assert resource.RLIMIT_FSIZE is not None
    path = tmp_path / "x.parquet"
    done = subprocess.run(
        [sys.executable, "-c", FULL, str(path)], capture_output=True, text=True, env=dict(os.environ)
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "cannot be written" in done.stdout
    assert "with room" in done.stdout
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_is_missing(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="cannot be written"):
        workloads.write_parquet(tmp_path / "no" / "x.parquet", workloads.Job(plan(100)))


def test_what_is_observed_equals_the_definitions() -> None:
    """CV of the gaps and IDC of full windows, however the rows are cut."""
    rng = np.random.default_rng(1)
    t = np.cumsum(rng.gamma(0.3, 3e9, 20_000)).astype(np.int64)
    frame = pl.DataFrame({"arrival_ns": t})
    seen = Observed()
    for part in np.split(np.arange(20_000), [1, 2, 500, 501, 9000]):
        seen.add(frame[part])
    seen = Observed.of_state(seen.state())
    gaps = np.diff(t)
    assert seen.cv == pytest.approx(gaps.std() / gaps.mean(), rel=1e-9)
    for width in (1, 60):
        n = np.bincount((t - t[0]) // (width * 10**9))[:-1]
        assert seen.idc(width) == pytest.approx(n.var(ddof=1) / n.mean(), rel=1e-9)

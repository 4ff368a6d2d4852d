"""Generation in parts, so that one that is interrupted goes on where it stopped.

Parts lie in a folder of their own, hidden until all is there. After each part the journal beside them is replaced: what
was asked for, how many parts are whole, and the state of the walk. The same command finds it and goes on; another one
that wants the same place begins anew.
"""

from __future__ import annotations

import json
import os
import shutil
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import StoreError
from ..formats.parquet import ParquetSink
from ..store.generations import Lock, sync
from .observed import Observed
from .plan import Place, Plan, Shard, empty, start, walk

PART_ROWS = 1 << 24
"""rows of a part: what an interruption may cost."""


class Journal:
    """The parts of one plan in ``folder``; alone there while it lives. ``facts``: what they are made from, told in each
    part's metadata; parts of other facts are thrown away. Raises StoreError where somebody else is at work there."""

    def __init__(self, folder: Path, facts: Mapping[str, Any]) -> None:
        self.folder, self.facts = folder, dict(facts)
        self.seen = Observed()
        self.parts = 0
        self.kept = 0
        """rows of the parts that are whole"""
        self.place: Place | None = None
        self.done = False
        folder.mkdir(exist_ok=True)
        lock = Lock.take(folder / "lock")
        if lock is None:
            raise StoreError(
                f"{folder}: somebody else is generating this", "wait for it, or choose another name"
            )
        self._lock = lock
        self._read()
        for stray in set(folder.glob("part-*")) - set(self.files):
            stray.unlink()

    @property
    def files(self) -> list[Path]:
        """The parts that are whole, in order."""
        return [self._part(i) for i in range(self.parts)]

    def _part(self, i: int) -> Path:
        return self.folder / f"part-{i:05d}.parquet"

    def _read(self) -> None:
        try:
            with (
                (self.folder / "journal.npz").open("rb") as f,
                np.load(f, allow_pickle=False) as saved,
            ):
                if str(saved["facts"]) != json.dumps(self.facts, sort_keys=True):
                    return
                parts, block, rows, done = (int(x) for x in saved["progress"])
                state = {k[6:]: saved[k] for k in saved if k.startswith("state ")}
                seen = Observed.of_state({k[5:]: saved[k] for k in saved if k.startswith("seen ")})
        except (OSError, ValueError, KeyError, zipfile.BadZipFile):
            return
        if all(self._part(i).is_file() for i in range(parts)):
            self.parts, self.place, self.seen = parts, Place(block, rows, state), seen
            self.done, self.kept = bool(done), seen.rows

    def _save(self, place: Place, *, done: bool) -> None:
        temporary = self.folder / ".journal.new.npz"
        with temporary.open("wb") as f:
            np.savez(
                f,
                allow_pickle=False,
                facts=np.array(json.dumps(self.facts, sort_keys=True)),
                progress=np.array([self.parts, place.block, place.rows, done]),
                **{f"state {k}": v for k, v in place.state.items()},
                **{f"seen {k}": v for k, v in self.seen.state().items()},
            )
            f.flush()
            os.fsync(f.fileno())
        temporary.replace(self.folder / "journal.npz")
        self.kept = self.seen.rows

    def write(
        self,
        plan: Plan,
        *,
        shard: Shard | None = None,
        threads: int = 1,
        progress: Callable[[int], None] | None = None,
    ) -> None:
        """Make the parts that are missing, each whole before the journal tells of it."""
        if self.done:
            return
        place = self.place or start(plan)
        sink: ParquetSink | None = None
        try:
            for piece in walk(plan, shard=shard, threads=threads, place=place):
                sink = sink or ParquetSink(self._part(self.parts))
                sink.add(piece.frame)
                self.seen.add(piece.frame)
                if progress:
                    progress(piece.frame.height)
                if not piece.last:
                    continue
                place = Place(piece.block, piece.rows, piece.state)
                if sink.rows >= PART_ROWS:
                    self._close(sink)
                    sink = None
                    self._save(place, done=False)
            if sink is None and not self.parts:
                sink = ParquetSink(self._part(0))
                sink.add(empty(plan))
            if sink is not None:
                self._close(sink)
            self._save(place, done=True)
            self.done = True
        except BaseException:
            if sink is not None and sink.file is not None:
                sink.file.close()
            raise

    def _close(self, sink: ParquetSink) -> None:
        sink.finish(self.facts)
        sink.__exit__()
        sync(sink.path)
        self.parts += 1

    def remove(self) -> None:
        """Take the folder away."""
        shutil.rmtree(self.folder, ignore_errors=True)
        self._lock.release()

    def leave(self) -> None:
        """Keep the parts for the next time, or nothing where none is whole."""
        if self.parts:
            self._lock.release()
        else:
            self.remove()

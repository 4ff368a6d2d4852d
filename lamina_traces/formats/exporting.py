"""Writing foreign formats: streamed, atomic, and with every loss counted.

A target is given the rows of one table in time order and a path that nobody sees yet; the file or folder
that it leaves there is then put in place whole. What holds for every target is done here: needed columns,
order, rows without an arrival, the count of what cannot be carried, checksums.
"""

from __future__ import annotations

import hashlib
import os
import shlex
import shutil
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import polars as pl

from ..errors import DataError, UnknownName, UsageError
from ..schema import FAILED, TABLES

ANY = "*"
"""the table of an intake that takes the main table of any trace."""


@dataclass
class Writing:
    """State of one export: what the rows are, and a tally of what could not be carried."""

    origin_ns: int | None
    """unix time of arrival 0, ns; None without a calendar."""
    table: str = "llm_requests"
    beside: Mapping[str, Iterable[pl.DataFrame]] = field(default_factory=dict)
    """the trace's other tables."""
    clock: str = "relative"
    nature: str = "derived"
    name: str = "trace"
    """of the file or folder, without what comes after the first dot."""
    scratch: Path = Path()
    """a place for temporary files, removed after the export; made by who needs it."""
    first_ns: int | None = None
    """time of the first row."""
    last_ns: int | None = None
    rows: int = 0
    skipped: Counter[str] = field(default_factory=Counter)
    losses: Counter[str] = field(default_factory=Counter)
    notes: list[str] = field(default_factory=list)
    options: dict[str, Any] = field(default_factory=dict)

    def note(self, text: str) -> None:
        if text not in self.notes:
            self.notes.append(text)


@dataclass(frozen=True)
class Intake:
    """One kind of trace that a target can be made from.

    ``carries`` are the canonical columns that survive a round trip; None means all. ``beside`` are
    tables that must be there, too.
    """

    table: str
    needs: tuple[str, ...] = ()
    carries: tuple[str, ...] | None = ()
    beside: tuple[str, ...] = ()


@dataclass(frozen=True)
class Target:
    """A format that another tool loads.

    ``write`` gets the rows, frame by frame in time order, and the path to write; it returns how many rows
    it wrote and counts what it drops in the Writing. The first intake that a trace can feed is used.
    A target that takes rows without an arrival says ``unstamped`` and counts those that it cannot place.
    """

    name: str
    title: str
    tools: str
    suffix: str
    """of the file's name; '' for a folder."""
    intakes: tuple[Intake, ...]
    resolution_ns: int
    command: Callable[[str, Writing], str]
    write: Callable[[Iterator[pl.DataFrame], Path, Writing], int]
    source: str
    unstamped: bool = False

    @property
    def folder(self) -> bool:
        return not self.suffix

    @property
    def tables(self) -> tuple[str, ...]:
        return tuple(i.table for i in self.intakes)

    @property
    def needs(self) -> tuple[str, ...]:
        return self.intakes[0].needs

    @property
    def carries(self) -> tuple[str, ...] | None:
        return self.intakes[0].carries


@dataclass(frozen=True)
class ExportSummary:
    """What an export wrote and what it could not: rows = written + Σ skipped."""

    target: str
    path: str
    rows: int
    written: int
    bytes: int
    sha256: str
    """of the file; of a folder: of the lines "sha256  name" of its files in order of their names."""
    skipped: Mapping[str, int]
    """reason → rows that the target cannot carry."""
    losses: Mapping[str, int]
    """column (or what of it) → values that the target does not carry."""
    notes: tuple[str, ...]
    command: str
    """how the tool loads the file."""
    table: str = "llm_requests"

    def to_dict(self) -> dict[str, Any]:
        return {
            "target": self.target, "path": self.path, "table": self.table, "rows": self.rows,
            "written": self.written, "bytes": self.bytes, "sha256": self.sha256,
            "skipped": dict(self.skipped), "losses": dict(self.losses), "notes": list(self.notes),
            "command": self.command,
        }  # fmt: skip


ARRIVALS_HINT = "a trace without arrivals gets them with: --arrivals poisson --rate 2/s"
TARGETS_HINT = "choose another target: lamina-traces catalog targets"
NO_ARRIVAL = "without an arrival"
NO_LENGTH = "without a recorded length"
REQUEST = ("arrival_ns", "input_tokens", "output_tokens")
"""what targets of single requests need."""
_UNCOUNTED = frozenset(("row_id", "model_raw", "total_tokens", "prefix_block_size"))
"""columns whose absence from a target is no loss: made by us, or implied by what is carried."""


def export(
    tables: Iterable[pl.DataFrame] | Mapping[str, Iterable[pl.DataFrame]],
    target: str,
    path: str | Path,
    *,
    targets: Mapping[str, Target],
    origin_ns: int | None = None,
    clock: str = "relative",
    nature: str = "derived",
    progress: Callable[[int], None] | None = None,
) -> ExportSummary:
    """Write canonical frames (sorted by time) as ``target`` to ``path``.

    ``tables``: frames by table, or the frames of ``llm_requests`` alone. The file or folder appears whole
    or not at all: it is written beside its place and renamed. ``origin_ns`` is the unix time of arrival 0,
    for targets with a calendar. ``progress`` is called with rows so far.

    Raises UnknownName (target), UsageError (path, ``-``, a trace of another kind), DataError (a needed column
    is absent, the rows are not sorted, nothing is left to write).
    """
    if target not in targets:
        raise UnknownName("target", target, targets, "lamina-traces catalog targets")
    goal = targets[target]
    place = _place(goal, path)
    given = tables if isinstance(tables, Mapping) else {"llm_requests": tables}
    intake, table = intake_of(goal, given)
    partial = place.with_name(f".{place.name}.{os.getpid()}.partial")
    state = Writing(
        origin_ns,
        table=table,
        beside=(others := {k: _Frames(v) for k, v in given.items() if k != table}),
        clock=clock,
        nature=nature,
        name=place.name.split(".")[0] or "trace",
        scratch=place.with_name(f".{place.name}.{os.getpid()}.scratch"),
    )
    if clock == "session" and "arrival_ns" in (intake.carries or ()):
        state.note(
            "the trace has a clock for each session, all of which begin at 0: arrivals of different "
            "sessions are not comparable"
        )
    try:
        if goal.folder:
            partial.mkdir()
        rows = _checked(given[table], goal, intake, state, progress)
        written = goal.write(rows, partial, state)
        if written == 0:
            raise _nothing(goal, state)
        for name, frames in others.items():
            if not frames.taken:
                state.losses[f"table {name} (--to duckdb takes all tables)"] += sum(
                    f.height for f in frames
                )
        size, digest = _sealed(partial)
        if goal.folder and place.is_dir():
            place.rmdir()
        partial.replace(place)
    except OSError as e:
        raise DataError(
            f"cannot write {path}: {e.strerror or e}",
            "check free space and permissions, or write elsewhere",
        ) from e
    finally:
        for leftover in (partial, state.scratch):
            if leftover.is_dir():
                shutil.rmtree(leftover, ignore_errors=True)
            else:
                leftover.unlink(missing_ok=True)
    return ExportSummary(
        target, str(path), state.rows, written, size, digest,
        {k: n for k, n in state.skipped.items() if n}, {k: n for k, n in state.losses.items() if n},
        tuple(state.notes), goal.command(shlex.quote(str(path)), state), table,
    )  # fmt: skip


class _Frames:
    """The frames of a table, and whether a target took them."""

    def __init__(self, frames: Iterable[pl.DataFrame]) -> None:
        self._frames = frames
        self.taken = False

    def __iter__(self) -> Iterator[pl.DataFrame]:
        self.taken = True
        return iter(self._frames)


def intake_of(goal: Target, tables: Iterable[str]) -> tuple[Intake, str]:
    """The intake that these tables can feed, and the table that it is fed from. Raises UsageError."""
    have = [t for t in tables if t in TABLES]
    for intake in goal.intakes:
        table = (have[0] if have else "") if intake.table == ANY else intake.table
        if table in have and all(b in have for b in intake.beside):
            return intake, table
    wanted = " or ".join(" with ".join((i.table, *i.beside)) for i in goal.intakes)
    raise UsageError(
        f"{goal.name} is made from {wanted}; this trace holds {', '.join(have) or 'no table'}",
        TARGETS_HINT,
    )


def _place(goal: Target, path: str | Path) -> Path:
    if str(path) == "-":
        raise UsageError(
            "an export goes to a file, not to standard output",
            f"name a {'folder' if goal.folder else 'file'}, for instance: -o trace{goal.suffix}",
        )
    place = Path(path)
    if place.suffix in (".gz", ".zst"):
        raise UsageError(
            f"cannot write {path}: exports are not compressed",
            f"name it {place.stem} and compress it after",
        )
    if not place.parent.is_dir():
        raise UsageError(f"cannot write {path}", f"make its folder first: mkdir -p {place.parent}")
    if goal.folder and place.exists():
        if not place.is_dir():
            raise UsageError(
                f"cannot write {path}: {goal.name} is a folder",
                "a file is there: name a new folder",
            )
        if any(place.iterdir()):
            raise UsageError(
                f"cannot write {path}: the folder is not empty",
                "name a new folder, or empty this one",
            )
    if not goal.folder and place.is_dir():
        raise UsageError(f"cannot write {path}", "it is a directory: name a file")
    return place


def _nothing(goal: Target, state: Writing) -> DataError:
    why = ", ".join(f"{n:,} {k}" for k, n in state.skipped.items() if n) or "no rows"
    return DataError(
        f"nothing to write for {goal.name}: {why}",
        ARRIVALS_HINT
        if any(k.startswith(NO_ARRIVAL) for k in state.skipped)
        else "check the trace and its filters: lamina-traces show TRACE",
    )


def _checked(
    batches: Iterable[pl.DataFrame],
    goal: Target,
    intake: Intake,
    state: Writing,
    progress: Callable[[int], None] | None,
) -> Iterator[pl.DataFrame]:
    """The rows as a target may take them: with an arrival unless it says otherwise, checked to be in order."""
    time = TABLES[state.table].time
    timed = time is not None and (time in intake.needs or goal.unstamped)
    for batch in batches:
        if not batch.height:
            continue
        _check(batch, goal, intake, state)
        state.rows += batch.height
        ready = batch
        if time is not None and time in batch.columns:
            stamped = batch.filter(pl.col(time).is_not_null())
            _ordered(stamped[time], state)
            if timed and not goal.unstamped and stamped.height < batch.height:
                state.skipped[NO_ARRIVAL] += batch.height - stamped.height
                ready = stamped
        if ready.height:
            _count_losses(ready, intake, state)
            yield ready
        if progress is not None:
            progress(state.rows)


def _check(batch: pl.DataFrame, goal: Target, intake: Intake, state: Writing) -> None:
    missing = [c for c in intake.needs if c not in batch.columns]
    if missing:
        what = TABLES[state.table][missing[0]].doc
        raise DataError(
            f"{goal.name} needs {', '.join(missing)} ({what}), which this trace does not record",
            ARRIVALS_HINT
            if "arrival_ns" in missing and state.table == "llm_requests"
            else TARGETS_HINT,
        )


def _ordered(times: pl.Series, state: Writing) -> None:
    if not len(times):
        return
    if not times.is_sorted() or (state.last_ns is not None and times[0] < state.last_ns):
        raise DataError(
            "the rows to export are not sorted by arrival",
            "ingest the trace into the store, which sorts it, and export it from there",
        )
    if state.first_ns is None:
        state.first_ns = int(times[0])
    state.last_ns = int(times[-1])


def _count_losses(ready: pl.DataFrame, intake: Intake, state: Writing) -> None:
    if intake.carries is None:
        return
    carried = {*intake.carries, *intake.needs, *_UNCOUNTED}
    for name in ready.columns:
        if name in carried:
            continue
        column = ready[name]
        if name == "status":
            state.losses["status (failures become plain requests)"] += int(
                column.is_in(FAILED).sum()
            )
        elif isinstance(column.dtype, pl.List):  # an empty list says that there is nothing to lose
            state.losses[name] += int((column.list.len() > 0).sum())
        else:
            state.losses[name] += column.count()


def _sealed(path: Path) -> tuple[int, str]:
    """Size and checksum of a file or folder, which is on the disk afterwards."""
    if path.is_dir():
        size, digest = 0, hashlib.sha256()
        for file in sorted(p for p in path.rglob("*") if p.is_file()):
            n, one = _sealed(file)
            size += n
            digest.update(f"{one}  {file.relative_to(path).as_posix()}\n".encode())
        return size, digest.hexdigest()
    with path.open("rb") as file_:
        os.fsync(file_.fileno())
        digest = hashlib.file_digest(file_, "sha256")
        return file_.tell(), digest.hexdigest()


def without(frame: pl.DataFrame, bad: pl.Series, reason: str, state: Writing) -> pl.DataFrame:
    """The rows that can be carried; the others are counted under ``reason``."""
    n = int(bad.sum())
    if n:
        state.skipped[reason] += n
        return frame.filter(~bad)
    return frame

"""Writing foreign formats: streamed, atomic, and with every loss counted."""

from __future__ import annotations

import hashlib
import os
import shlex
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import polars as pl

from ..errors import DataError, UnknownName, UsageError
from ..schema import TABLES


@dataclass
class Writing:
    """State of one export: where time starts, and a tally of what could not be carried."""

    origin_ns: int | None
    first_ns: int | None = None
    """``arrival_ns`` of the first row."""
    skipped: Counter[str] = field(default_factory=Counter)
    losses: Counter[str] = field(default_factory=Counter)
    notes: list[str] = field(default_factory=list)
    options: dict[str, Any] = field(default_factory=dict)

    def note(self, text: str) -> None:
        if text not in self.notes:
            self.notes.append(text)


@dataclass(frozen=True)
class Target:
    """A format that another tool loads.

    ``write`` turns a canonical frame into the target's lines and the number of rows in them; it counts
    what it drops in the Writing. ``carries`` are the canonical columns that survive a round trip.
    """

    name: str
    title: str
    tools: str
    suffix: str
    table: str
    needs: tuple[str, ...]
    carries: tuple[str, ...]
    resolution_ns: int
    command: Callable[[str, Writing], str]
    write: Callable[[pl.DataFrame, Writing], tuple[bytes, int]]
    source: str
    header: bytes = b""
    rest: Callable[[Writing], tuple[bytes, int]] | None = None
    """what ``write`` held back, asked for at the end; such a target is given rows without an arrival,
    too, and counts those that it cannot place."""


@dataclass(frozen=True)
class ExportSummary:
    """What an export wrote and what it could not: rows = written + Σ skipped."""

    target: str
    path: str
    rows: int
    written: int
    bytes: int
    sha256: str
    skipped: Mapping[str, int]
    """reason → rows that the target cannot carry."""
    losses: Mapping[str, int]
    """column (or what of it) → values that the target does not carry."""
    notes: tuple[str, ...]
    command: str
    """how the tool loads the file."""

    def to_dict(self) -> dict[str, Any]:
        return {
            "target": self.target, "path": self.path, "rows": self.rows, "written": self.written,
            "bytes": self.bytes, "sha256": self.sha256, "skipped": dict(self.skipped),
            "losses": dict(self.losses), "notes": list(self.notes), "command": self.command,
        }  # fmt: skip


ARRIVALS_HINT = "a trace without arrivals gets them with: --arrivals poisson --rate 2/s"
_UNCOUNTED = frozenset(("row_id", "model_raw", "total_tokens", "prefix_block_size"))
"""columns whose absence from a target is no loss: made by us, or implied by what is carried."""


def export(
    batches: Iterable[pl.DataFrame],
    target: str,
    path: str | Path,
    *,
    targets: Mapping[str, Target],
    origin_ns: int | None = None,
    progress: Callable[[int], None] | None = None,
) -> ExportSummary:
    """Write canonical ``batches`` (sorted by ``arrival_ns``) as ``target`` to ``path``.

    The file appears whole or not at all: it is written beside its place and renamed. ``origin_ns`` is
    the unix time of arrival 0, for targets with a calendar. ``progress`` is called with rows so far.

    Raises UnknownName (target), UsageError (path, or ``-``), DataError (a needed column is absent, the batches
    are not sorted, nothing is left to write).
    """
    if target not in targets:
        raise UnknownName("target", target, targets, "lamina-traces catalog targets")
    goal = targets[target]
    if str(path) == "-":
        raise UsageError(
            "an export goes to a file, not to standard output",
            f"name a file, for instance: -o trace{goal.suffix}",
        )
    place = Path(path)
    if place.is_dir() or not place.parent.is_dir():
        raise UsageError(
            f"cannot write {path}",
            "it is a directory: name a file" if place.is_dir() else f"make its folder first: mkdir -p {place.parent}",
        )  # fmt: skip
    state = Writing(origin_ns)
    partial = place.with_name(f".{place.name}.{os.getpid()}.partial")
    digest = hashlib.sha256()
    rows = written = size = 0
    last: int | None = None
    try:
        with partial.open("wb") as out:

            def put(data: bytes) -> int:
                digest.update(data)
                return out.write(data)

            size += put(goal.header)
            for batch in batches:
                if not batch.height:
                    continue
                _check(batch, goal)
                rows += batch.height
                ready, last = _ready(batch, last, state, unstamped=goal.rest is not None)
                _count_losses(ready, goal, state)
                if ready.height:
                    data, n = goal.write(ready, state)
                    size += put(data)
                    written += n
                if progress is not None:
                    progress(rows)
            if goal.rest is not None:
                data, n = goal.rest(state)
                size += put(data)
                written += n
            if written == 0:
                why = ", ".join(f"{n:,} {k}" for k, n in state.skipped.items()) or "no rows"
                raise DataError(
                    f"nothing to write for {target}: {why}",
                    ARRIVALS_HINT
                    if any(k.startswith("without an arrival") for k in state.skipped)
                    else "check the trace and its filters: lamina-traces show TRACE",
                )
            out.flush()
            os.fsync(out.fileno())
        partial.replace(place)
    except OSError as e:
        raise DataError(
            f"cannot write {path}: {e.strerror or e}",
            "check free space and permissions, or write elsewhere",
        ) from e
    finally:
        partial.unlink(missing_ok=True)
    return ExportSummary(
        target, str(path), rows, written, size, digest.hexdigest(),
        dict(state.skipped), {k: n for k, n in state.losses.items() if n}, tuple(state.notes),
        goal.command(shlex.quote(str(path)), state),
    )  # fmt: skip


def _check(batch: pl.DataFrame, goal: Target) -> None:
    missing = [c for c in goal.needs if c not in batch.columns]
    if missing:
        what = TABLES[goal.table][missing[0]].doc
        raise DataError(
            f"{goal.name} needs {', '.join(missing)} ({what}), which this trace does not record",
            ARRIVALS_HINT
            if "arrival_ns" in missing
            else "choose another target: lamina-traces catalog targets",
        )


def _ready(
    batch: pl.DataFrame, last: int | None, state: Writing, *, unstamped: bool
) -> tuple[pl.DataFrame, int | None]:
    """Rows with an arrival, checked to be in order; with ``unstamped`` the others stay among them."""
    ready = batch.filter(pl.col("arrival_ns").is_not_null())
    if ready.height < batch.height and not unstamped:
        state.skipped["without an arrival"] += batch.height - ready.height
    if not ready.height:
        return batch if unstamped else ready, last
    arrivals = ready["arrival_ns"]
    if not arrivals.is_sorted() or (last is not None and arrivals[0] < last):
        raise DataError(
            "the rows to export are not sorted by arrival",
            "ingest the trace into the store, which sorts it, and export it from there",
        )
    if state.first_ns is None:
        state.first_ns = int(arrivals[0])
    return batch if unstamped else ready, int(arrivals[-1])


def _count_losses(ready: pl.DataFrame, goal: Target, state: Writing) -> None:
    for name in ready.columns:
        if name in goal.carries or name in _UNCOUNTED or name in goal.needs or name == "status":
            continue
        column = ready[name]
        if isinstance(column.dtype, pl.List):  # an empty list says that there is nothing to lose
            state.losses[name] += int((column.list.len() > 0).sum())
        else:
            state.losses[name] += column.count()


def without(frame: pl.DataFrame, bad: pl.Series, reason: str, state: Writing) -> pl.DataFrame:
    """The rows that can be carried; the others are counted under ``reason``."""
    n = int(bad.sum())
    if n:
        state.skipped[reason] += n
        return frame.filter(~bad)
    return frame

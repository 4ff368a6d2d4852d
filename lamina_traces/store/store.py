"""The store: a directory of traces."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import polars as pl
import pyarrow as pa

from .. import formats
from ..errors import DataError, Notice, StoreError, UnknownName, UsageError
from ..schema import KINDS
from . import continuing, names
from .anonymity import Pseudonyms
from .generations import Layout, disk_errors
from .manifest import COUNTS, Input
from .trace import Trace, opened
from .writer import TraceWriter

DEFAULT = "./lamina-store"


class Store:
    """A directory of traces; nothing is created before the first write.

    ``path`` defaults to the environment's ``LAMINA_STORE``, then to ``./lamina-store``. ``threads`` bounds
    the SQL engine's threads (default: DuckDB's choice).
    """

    def __init__(self, path: str | Path | None = None, *, threads: int | None = None) -> None:
        root = Path(path or os.environ.get("LAMINA_STORE") or DEFAULT).expanduser()
        self.path = root.absolute()
        self.threads = threads
        self._layout = Layout(self.path)
        if self.path.exists() and not self.path.is_dir():
            raise StoreError(
                f"{root}: is a file, not a store", "name a directory with --store or LAMINA_STORE"
            )

    def __repr__(self) -> str:
        return f"Store({str(self.path)!r})"

    def names(self) -> list[str]:
        """The names of all traces that can be read."""
        return [t.name for t in self.traces()]

    def traces(self) -> list[Trace]:
        """All traces that can be read, by name. What cannot be read is told by ``damaged``."""
        return self._read_all()[0]

    def damaged(self) -> list[Notice]:
        """One notice for each trace that is there and cannot be read; its subject is the directory,
        which ``remove`` takes as a name."""
        return self._read_all()[1]

    def _read_all(self) -> tuple[list[Trace], list[Notice]]:
        good, bad = [], []
        for slug in self._layout.slugs():
            try:
                trace = self._open(slug, slug)
            except StoreError as e:
                bad.append(Notice("damaged-trace", e.message, slug))
            else:
                if trace is not None:
                    good.append(trace)
        return sorted(good, key=lambda t: names.folded(t.name)), bad

    def _open(self, slug: str, name: str) -> Trace | None:
        held = self._layout.lease(slug)
        return None if held is None else opened(*held, name, self.threads)

    def trace(self, name: str) -> Trace:
        """The current generation of the trace ``name`` (case does not matter), with a lease on it.

        Raises UnknownName, StoreError.
        """
        trace = self._open(names.slug(name), name)
        if trace is None:
            raise UnknownName("trace", name, self.names(), "lamina-traces ls")
        return trace

    def __contains__(self, name: str) -> bool:
        """Whether there is a trace of this name, readable or damaged."""
        return self._layout.exists(names.slug(name))

    def has(self, name: str) -> bool:
        """Whether ``remove`` would find ``name``: a trace, readable or damaged, or its directory."""
        return bool(self._places(name))

    def _places(self, name: str) -> list[str]:
        slugs = self._layout.slugs()
        return [slug for slug in (names.slug(name), name) if slug in slugs]

    def writer(
        self, name: str, *, kind: str, nature: str = "real", replace: bool = False
    ) -> TraceWriter:
        """A context manager that writes the trace ``name``. Raises UsageError where it exists and is not
        to be replaced, and where the name or the kind cannot be."""
        kept = names.checked(name)
        if kind not in KINDS:
            raise UnknownName("kind of trace", kind, KINDS)
        slug = names.slug(kept)
        if not replace and self._layout.exists(slug):
            raise UsageError(
                f"trace {kept!r} exists",
                "replace it with --replace, choose another --name, "
                f"or remove it: {names.removal(kept)}",
            )
        return TraceWriter(
            self._layout, kept, slug, kind=kind, nature=nature, replace=replace, opened=self.trace
        )

    def unfinished(self, name: str) -> Path:
        """The folder for what is made of the trace ``name`` before it can be stored."""
        self._layout.create()
        folder = self.path / "unfinished"
        with disk_errors("start writing", folder):
            folder.mkdir(exist_ok=True)
        return folder / names.slug(names.checked(name))

    def ingest(
        self,
        paths: str | Path | Sequence[str | Path],
        name: str | None = None,
        *,
        replace: bool = False,
        append: bool = False,
        anonymize: bool = False,
        sampled: float | None = None,
        nature: str | None = None,
        provenance: dict[str, Any] | None = None,
        **reading_options: Any,
    ) -> Trace:
        """Read foreign files into a trace, streaming; ``reading_options`` are those of
        ``formats.open_reading`` (as_format, mapping, time_unit, tz, keep_text…).

        ``nature`` (real, synthetic, measured…) overrides what the format implies. ``name`` defaults to
        the stem of the first file, made unique. ``append`` adds the files to the trace ``name`` where there
        is one: all or nothing, each file once, on the trace's own clock. ``anonymize`` replaces the ids of
        users, sessions and prefix blocks by pseudonyms (see ``anonymity``); ``sampled`` is the share of the
        requests that the source recorded at random. Every line is accounted for
        (``trace.manifest.summary_line()``). Raises UsageError, DataError, StoreError; then nothing has
        changed.
        """
        paths = [paths] if isinstance(paths, str | Path) else list(paths)
        if not paths:
            raise UsageError("no input", "name at least one file, or - for standard input")
        twice = next((p for i, p in enumerate(paths) if str(p) in map(str, paths[:i])), None)
        if twice is not None:
            raise UsageError(f"{twice} is named twice", "name each file once")
        if sampled is not None and not 0 < sampled <= 1:
            raise UsageError(f"--sampled {sampled:g} is no share", "give a number above 0, up to 1")
        if append and (name is None or replace):
            raise UsageError(
                "--append needs the name of the trace" if name is None else "--append and --replace exclude each other",
                "for instance: lamina-traces ingest DAY2.csv --name TRACE --append",
            )  # fmt: skip
        before = self.trace(name) if append and name is not None and name in self else None
        if name is not None:
            # A bad name is said before a long file is read.
            self.writer(name, kind=KINDS[0], replace=replace or before is not None)
        masks = Pseudonyms(self.path) if anonymize else None
        if before is not None:
            continuing.check(before, formats.files_of_all(paths), anonymize)
            reading_options["tz"] = continuing.zone(before, reading_options.get("tz"))
        kept_name = name if name is not None else self.free_name(str(paths[0]))
        kind = before.kind if before is not None else KINDS[0]
        with self.writer(kept_name, kind=kind, replace=replace or before is not None) as writer:
            resume = continuing.resume(before, writer, masks) if before is not None else None
            reading = formats.open_reading(paths, resume=resume, **reading_options)
            if before is not None:
                continuing.check_format(before, reading.format)
            else:
                writer.kind = reading.kind
            first_ns: int | None = None
            for block in reading:
                if block.table == reading.table and "arrival_ns" in block.frame.columns:
                    first_ns = min(
                        (n for n in (first_ns, block.frame["arrival_ns"].min()) if n is not None),
                        default=None,
                    )  # type: ignore[assignment]
                if len(block.rejects):
                    # Names, not paths: a store is passed on, and the directories of its maker are not.
                    name_only = pl.col("file").str.extract(r"([^/]*)$")
                    writer.rejects(block.rejects.with_columns(name_only))
                if len(block.frame):
                    writer.write(block.table, masks.frame(block.frame) if masks else block.frame)
            facts = _facts(reading.finish(), sampled)
            facts["nature"] = nature or facts["nature"]
            facts["provenance"] = dict(provenance or {})
            if masks:
                facts["provenance"]["anonymized"] = True
            if reading_options.get("tz"):
                facts["provenance"]["tz"] = reading_options["tz"]
            if before is not None:
                facts["notices"] += continuing.overlap(before.manifest, first_ns)
                facts = continuing.joined(before.manifest, facts)
            return writer.commit(**facts)

    def free_name(self, path: str) -> str:
        """A name for the trace of ``path`` that no trace of this store has."""
        return names.from_path(path, {names.folded(n) for n in self.names()})

    def remove(self, name: str) -> None:
        """Take the trace away; readers that hold it finish first, and its files go after them.

        Raises UnknownName. Works on damaged traces too, by name or by directory (see ``damaged``).
        """
        for slug in self._places(name):
            if self._layout.remove(slug):
                return
        raise UnknownName("trace", name, self.names(), "lamina-traces ls")

    def sweep(self) -> int:
        """Remove what killed writers and replaced generations left; how many directories went."""
        return self._layout.sweep()

    def sql(self, text: str) -> pa.Table:
        """One read-only SQL statement over all traces; see ``guard``. Raises UsageError, StoreError."""
        from . import guard  # sqlglot is only loaded where a query is

        return guard.run(self.traces(), text, threads=self.threads)

    def sql_reader(self, text: str) -> contextlib.AbstractContextManager[pa.RecordBatchReader]:
        """The same, read batch by batch: rows are computed while they are read, so that an answer of any
        length takes little memory. Both give columns of one name different names (``n``, ``n_1``).

        with store.sql_reader('SELECT * FROM "azure"') as reader:
            for batch in reader: ...
        """
        from . import guard  # sqlglot is only loaded where a query is

        return guard.reading(self.traces(), text, threads=self.threads)


def _facts(summary: formats.Summary, sampled: float | None) -> dict[str, Any]:
    """What a manifest takes over from a reading. Raises DataError where its lines do not add up."""
    counts = {name: int(getattr(summary, name)) for name in COUNTS}
    if counts["lines"] != sum(counts[name] for name in COUNTS[1:]):
        raise DataError(f"the reader lost count of its lines: {counts}", "please report this")
    share = sampled if sampled is not None else summary.sampled
    notices = list(summary.notices)
    if share is not None and share < 1 and not any(n.code == "sampled" for n in notices):
        notices.append(
            Notice(
                "sampled",
                f"the source recorded {share:g} of the requests at random: rates here are of that sample",
                "arrival_ns",
            )
        )
    return {
        "nature": summary.nature,
        "clock": summary.clock,
        "origin_ns": summary.origin_ns,
        "origin_local": summary.origin_local,
        "inputs": tuple(Input(Path(i.name).name, i.sha256, i.bytes) for i in summary.inputs),
        "counts": counts,
        "counted": summary.unit,
        "sampled": share,
        "format": summary.format,
        "format_version": summary.version,
        "mapping": summary.mapping,
        "dropped_fields": summary.dropped_fields,
        "notices": tuple(notices),
    }

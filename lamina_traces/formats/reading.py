"""Reading: sources in, canonical blocks and rejects out, with every line accounted for."""

from __future__ import annotations

import datetime
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import polars as pl

from ..errors import DataError, Notice, UnknownFormat, UnknownName, UsageError
from ..schema import KINDS, TABLES, Kind, Table
from ..units import DAY_NS
from .delimited import REJECTS_SCHEMA, Counted, Rejects, read_careful, read_fast
from .detection import read_head, recognised
from .format import (
    ROW_EXTRA,
    Before,
    Binding,
    Context,
    Format,
    Frames,
    Head,
    Request,
    cell_type,
    polars_type,
)
from .inputs import STDIN, Limits, Stream, files_of
from .jsonlines import read_documents, read_json, read_text
from .parquet import parquet_head, read_parquet
from .summary import Block, Input, Preview, Summary, many

_SIGNED = ("residual_s",)
"""durations that may be negative."""
_HOPELESS = 100_000
"""so many rejected lines and not one good row: the file is not what it was taken for."""


@dataclass(frozen=True)
class Resume:
    """Where a trace stands that more is read into: the least free row_id of each table, the origin of its
    clock, and a way to look at its rows."""

    rows: Mapping[str, int] = field(default_factory=dict)
    origin_ns: int | None = None
    before: Before | None = None


@dataclass
class _Source:
    path: str | Path
    format: Format
    head: Head
    header: bytes
    skip: int
    binding: Binding
    stream: Stream | None


class Reading:
    """Iterate it once for the blocks, then ``finish()`` for the summary."""

    def __init__(
        self,
        sources: Sequence[_Source],
        request: Request,
        limits: Limits,
        hashed: bool,
        progress: Callable[[int, int | None], None] | None,
        resume: Resume,
        passed_over: Sequence[str] = (),
    ) -> None:
        self._sources = sorted(sources, key=lambda s: s.format.rank)
        main = next((s for s in self._sources if s.format.rank >= 0), self._sources[0])
        self.format = main.format
        self.table = main.binding.table
        self.kind: Kind = TABLES[self.table].kind
        self._main = main.binding
        self._request, self._limits = request, limits
        self._hashed, self._progress = hashed, progress
        self._context = Context("", request, before=resume.before)
        self._context.state.update(rows=resume.rows.get(self.table, 0))
        if resume.rows:
            self._context.state.update(row_max=resume.rows.get(self.table, 0) - 1)
        self._columns = self._planned_columns()
        self._inputs: list[Input] = []
        self._reasons: dict[str, int] = {}
        self._rows: dict[str, int] = dict(resume.rows)
        self._given = 0
        self._origin: int | None = resume.origin_ns
        self._done = False
        self._passed_over = passed_over
        self._first_reject: tuple[str, int, str | None, str] | None = None

    @property
    def columns(self) -> tuple[str, ...]:
        """The canonical columns that every block of the main table carries, in schema order."""
        return self._columns.get(self.table, ())

    def _planned_columns(self) -> dict[str, tuple[str, ...]]:
        """By table, the union over the sources of what their mappings yield on frames without rows."""
        found: dict[str, set[str]] = {}
        for s in self._sources:
            context = Context(str(s.path), self._request)
            empty = s.binding.canonical(empty_frame(s.binding, s.head), context)
            for table, frame in by_table(empty, s.binding).items():
                found.setdefault(table, {"row_id"}).update(frame.columns)
        return {t: tuple(c for c in TABLES[t].names if c in names) for t, names in found.items()}

    def __iter__(self) -> Iterator[Block]:
        if self._done:
            raise UsageError("a reading can be iterated once", "open it again")
        self._done = True
        for source in self._sources:
            yield from self._read(source)
        for rest in dict.fromkeys(s.binding.rest for s in self._sources):
            if rest is not None:
                yield from self._blocks(self._main, rest(self._context), None)
        if self._given == 0:
            raise self._nothing(sum(i.rejected for i in self._inputs))

    def _nothing(self, rejected: int) -> DataError:
        if self._first_reject is None:
            return DataError(
                "no rows",
                "the file has a header and nothing below it: does it come from an empty query?",
            )
        path, line, column, reason = self._first_reject
        return DataError(
            f"{reason} (all {rejected:,} lines were rejected, this is the first)"
            if rejected != 1
            else f"{reason} (the only line was rejected)",
            f"was it read as the right format? it was taken for {self.format.name}; --as and --map say otherwise",
            path=path,
            line=line,
            column=column,
        )

    def _read(self, source: _Source) -> Iterator[Block]:
        stream = source.stream or Stream(source.path, self._limits, hashed=self._hashed)
        total = Counted()
        self._context.path = stream.name
        self._context.state.pop("file", None)
        try:
            for frame, rejects, counted in self._pieces(source, stream):
                total.add(counted)
                if self._given + total.kept == 0 and total.rejected >= _HOPELESS:
                    self._account(rejects)
                    raise self._nothing(total.rejected)
                if frame.height or len(rejects):
                    self._context.state["rejected"] = total.rejected
                    out = source.binding.canonical(frame, self._context)
                    yield from self._blocks(source.binding, out, rejects)
                if self._progress is not None:
                    self._progress(stream.raw_bytes, stream.size)
            self._inputs.append(
                Input(
                    stream.name, stream.raw_bytes, stream.sha256, stream.compression,
                    total.lines, total.kept, total.rejected, total.blank, total.header, total.other,
                )
            )  # fmt: skip
        finally:
            stream.close()

    def _pieces(
        self, source: _Source, stream: Stream
    ) -> Iterator[tuple[pl.DataFrame, Rejects, Counted]]:
        binding, head, context, limit = (
            source.binding, source.head, self._context, self._limits.line_bytes,
        )  # fmt: skip
        if head.syntax == "parquet":
            yield from read_parquet(source.path, stream, binding, context)
            return
        if head.syntax == "json":
            yield from read_documents(stream, binding, context)
            return
        line = 1
        if head.syntax == "csv" and not head.headless:
            stream.head(source.skip)
            before = stream.take(source.skip)
            above = before.count(b"\n") or 1
            line += above
            yield (
                empty_frame(binding, head),
                Rejects(),
                Counted(lines=above, blank=above - 1, header=1),
            )
        done = stream.lines_out
        for block in stream.blocks(quoted=binding.multiline):
            newlines, done = stream.lines_out - done, stream.lines_out
            if head.syntax == "jsonl":
                yield from read_json(block, line, binding, context, limit)
            elif head.syntax == "text":
                yield from read_text(block, line, binding, context, limit)
            else:
                lines = newlines + (not block.endswith(b"\n"))
                fast = read_fast(block, lines, head.names, head.delimiter, binding, context)
                if fast is None:
                    yield read_careful(
                        block, line, source.header, head.names, head.delimiter, binding, context, limit
                    )  # fmt: skip
                else:
                    yield fast, Rejects(), Counted(lines=fast.height, kept=fast.height)
            line += newlines

    def _account(self, rejects: Rejects) -> pl.DataFrame:
        """The rejects in the order of their lines, counted by reason."""
        refused = rejects.frame() if len(rejects) else pl.DataFrame(schema=REJECTS_SCHEMA)
        for file, line, column, reason, _ in refused.iter_rows():
            key = f"{column or 'line'}: {_reason_kind(reason)}"
            self._reasons[key] = self._reasons.get(key, 0) + 1
            if self._first_reject is None:
                self._first_reject = (file, line, column, reason)
        return refused

    def _blocks(self, binding: Binding, made: Frames, rejects: Rejects | None) -> Iterator[Block]:
        """Canonical frames with row ids, instants from the origin, and the planned columns."""
        refused = self._account(rejects or Rejects())
        frames = by_table(made, binding)
        if binding.absolute:
            self._see_origin(binding, frames)
        if not frames and len(refused):
            frames = {self.table: pl.DataFrame()}
        for name, frame in frames.items():
            if not frame.height and not len(refused):
                continue
            yield Block(name, self._canonical(name, frame, binding), refused)
            refused = refused.clear()

    def _canonical(self, name: str, out: pl.DataFrame, binding: Binding) -> pl.DataFrame:
        table, n = TABLES[name], out.height
        if binding.absolute and n:
            zero = self._origin or 0
            out = out.with_columns(pl.col(c) - zero for c in table.instants if c in out.columns)
        first = self._rows.get(name, 0)
        if "row_id" not in out.columns:
            out = out.with_columns(
                pl.int_range(first, first + n, dtype=pl.Int64, eager=True).alias("row_id")
            )
        self._rows[name] = first + n
        self._given += n
        planned = set(self._columns.get(name, ())) | (set(out.columns) & set(table.names))
        out = self._sound(table, out)
        return out.select(
            pl.col(c).cast(polars_type(table[c]))
            if c in out.columns
            else pl.lit(None, polars_type(table[c])).alias(c)
            for c in table.names
            if c in planned
        )

    def _sound(self, table: Table, out: pl.DataFrame) -> pl.DataFrame:
        """Values beyond all numbers, which a mapping may come to (1e400 W, 1 / 0), and durations below zero
        (of two clocks, or of stamps in the wrong order) are null, and counted. Stamps stay as they are."""
        for column in out.get_columns():
            if not column.dtype.is_float():
                continue
            if not column.is_finite().all():
                beyond = (~column.is_finite()).fill_null(False)
                self._context.tally["not finite"] += int(beyond.sum())
                column = column.set(beyond, None)
                out = out.with_columns(column)
            duration = column.name in table and table[column.name].unit == "s"
            if duration and column.name not in _SIGNED and (column.min() or 0) < 0:  # type: ignore[operator]
                below = (column < 0).fill_null(False)
                self._context.tally["negative durations"] += int(below.sum())
                out = out.with_columns(column.set(below, None))
        return out

    def preview(self, rows: int = 5) -> Preview:
        """Read the first block and say what the rest would become. The reading is used up by it."""
        blocks = iter(self)
        block = next(blocks, None)
        while block is not None and not block.frame.height:
            block = next(blocks, None)
        blocks.close()  # type: ignore[attr-defined]
        if block is None:
            raise self._nothing(0)
        first, s = self._main, self.finish()
        time = TABLES[block.table].time or ""
        stamps = block.frame[time].drop_nulls() if time in block.frame.columns else pl.Series([])
        mapped = {c for _, c, _ in first.mapping}
        shown = [c for c in block.frame.columns if c in mapped or block.frame[c].count()]
        low, high = (stamps.min(), stamps.max()) if len(stamps) else (None, None)
        return Preview(
            s.format, self.format.title, s.version, block.table, s.kind, s.clock, s.mapping, first.extra,
            s.dropped_fields, block.frame.select(shown).head(rows), block.frame.height, block.rejects,
            low, high, s.origin_ns, s.origin_local, s.notices,  # type: ignore[arg-type]
        )  # fmt: skip

    def _see_origin(self, binding: Binding, frames: Mapping[str, pl.DataFrame]) -> None:
        """The first instant of the reading is its origin; of a local clock, the midnight before."""
        for name, frame in frames.items():
            time = TABLES[name].time
            if self._origin is not None or time is None or time not in frame.columns:
                continue
            first = frame[time].drop_nulls()
            if len(first):
                instant = int(first[0])
                self._origin = instant - instant % DAY_NS if binding.clock == "local" else instant

    def finish(self) -> Summary:
        """The account of the whole reading. Call it after the last block."""
        first, state = self._main, self._context.state
        dropped = dict.fromkeys(
            [*(n for s in self._sources for n in s.binding.dropped), *sorted(self._context.dropped)]
        )
        dated = first.absolute and self._origin is not None
        return Summary(
            format=self.format.name,
            version=", ".join(dict.fromkeys(s.binding.version for s in self._sources)),
            table=self.table,
            kind=self.kind,
            nature=first.nature,
            clock=first.clock,
            origin_ns=self._origin
            if first.clock == "utc" and first.absolute
            else state.get("origin_ns"),
            origin_local=_date_text(self._origin) if first.clock == "local" and dated else None,
            inputs=tuple(self._inputs),
            notices=tuple(self._notices(dropped)),
            dropped_fields=tuple(dropped),
            mapping=first.mapping,
            sampled=state.get("sampled"),
            unit="records"
            if any(s.head.syntax == "json" for s in self._sources)
            else self.format.unit,
            reasons=dict(sorted(self._reasons.items(), key=lambda kv: -kv[1])),
        )

    def _notices(self, dropped: Iterable[str]) -> Iterator[Notice]:
        """What there is to say: on the sources, the clock, the values, the lines, and by the format itself."""
        tally = self._context.tally
        yield from dict.fromkeys(n for s in self._sources for n in s.binding.notices)
        yield from self._clock_notices()
        if self._passed_over:
            yield Notice(
                "passed-over", _passed_over_text([Path(p).name for p in self._passed_over])
            )
        if below := tally["negative durations"]:
            yield Notice("negative-durations", f"{many(below, 'duration')} below zero became null; the stamps stay as recorded")  # fmt: skip
        if beyond := tally["not finite"]:
            yield Notice("not-finite", f"{many(beyond, 'value')} that {'is' if beyond == 1 else 'are'} NaN or infinite became null")  # fmt: skip
        if rejected := sum(i.rejected for i in self._inputs):
            yield Notice("rejected", _rejected_text(rejected, self._reasons))
        if left_out := ", ".join(dropped):
            yield Notice("text-dropped", f"text and secrets were left out: {left_out} (--keep-text keeps them)")  # fmt: skip
        yield from self._context.state.get("notices", ())

    def _clock_notices(self) -> Iterator[Notice]:
        tally, tz = self._context.tally, self._request.tz
        naive = tally["naive stamps"]
        if naive and not tz and self._main.clock == "utc":
            yield Notice("naive-utc", f"{many(naive, 'stamp carries', 'stamps carry')} no zone and {'was' if naive == 1 else 'were'} read as UTC; --tz names another", "arrival_ns")  # fmt: skip
        if ambiguous := tally["ambiguous stamps"]:
            yield Notice("dst", f"{many(ambiguous, 'stamp falls', 'stamps fall')} into the hour that a clock change repeats; the earlier was taken", "arrival_ns")  # fmt: skip
        if skipped := tally["skipped stamps"]:
            yield Notice("dst-gap", f"{many(skipped, 'stamp falls', 'stamps fall')} into an hour that a clock change skips; the offset before it was taken", "arrival_ns")  # fmt: skip
        if tz and not naive:
            yield Notice("tz-unused", "--tz had nothing to act on: no stamp is without a zone", "arrival_ns")  # fmt: skip


def _date_text(ns: int | None) -> str:
    day = datetime.date(1970, 1, 1) + datetime.timedelta(days=(ns or 0) // DAY_NS)
    return f"{day.isoformat()}T00:00:00"


def _reason_kind(reason: str) -> str:
    """A reason without the value that it quotes, so that reasons can be counted."""
    return reason.split(": ")[0]


_NAMED = 4


def _passed_over_text(names: Sequence[str]) -> str:
    """How many files of a folder were passed over; the first few by name."""
    shown = ", ".join(names[:_NAMED])
    more = f" and {len(names) - _NAMED:,} more" if len(names) > _NAMED else ""
    what = many(len(names), "file of the folder was", "files of the folder were")
    return f"{what} passed over (empty, a link, or of no known format): {shown}{more}"


def _rejected_text(rejected: int, reasons: Mapping[str, int]) -> str:
    """How many lines were rejected and why: the commonest reasons by name, the others counted."""
    ranked = sorted(reasons.items(), key=lambda kv: -kv[1])
    named = ranked if len(ranked) <= _NAMED + 1 else ranked[:_NAMED]
    parts = [f"{why} ({n:,})" for why, n in named]
    if others := ranked[len(named) :]:
        parts.append(f"{len(others):,} other reasons ({sum(n for _, n in others):,})")
    return f"{many(rejected, 'line was', 'lines were')} rejected: {', '.join(parts)}"


def by_table(made: Frames, binding: Binding) -> Mapping[str, pl.DataFrame]:
    """Canonical rows by table."""
    return {binding.table: made} if isinstance(made, pl.DataFrame) else made


def empty_frame(binding: Binding, head: Head) -> pl.DataFrame:
    """A typed source frame without rows."""
    schema = {f.name: cell_type(f.cell) for f in binding.fields}
    if head.syntax in ("jsonl", "json", "text"):
        schema[ROW_EXTRA] = pl.String
    return pl.DataFrame(schema=schema)


def parsed_mapping(mapping: Mapping[str, str] | str | None) -> dict[str, str] | None:
    """``"arrival=ts,input=in"`` or a mapping → dict. Raises UsageError on anything else."""
    if mapping is None or not isinstance(mapping, str):
        return dict(mapping) if mapping is not None else None
    out: dict[str, str] = {}
    for part in mapping.split(","):
        key, eq, column = part.partition("=")
        if not eq or not key.strip() or not column.strip():
            raise UsageError(
                f"mapping part {part!r} is not NAME=COLUMN",
                "write it like --map arrival=ts,input=prompt_tokens,output=completion_tokens",
            )
        if key.strip() in out:
            raise UsageError(f"{key.strip()!r} is mapped twice", "give each name one column")
        out[key.strip()] = column.strip()
    return out


def open_reading(
    paths: Iterable[str | Path] | str | Path,
    *,
    formats: Mapping[str, Format],
    as_format: str | None = None,
    mapping: Mapping[str, str] | str | None = None,
    time_unit: str | None = None,
    tz: str | None = None,
    keep_text: bool = False,
    kind: str | None = None,
    progress: Callable[[int, int | None], None] | None = None,
    hashed: bool = True,
    limits: Limits | None = None,
    resume: Resume | None = None,
) -> Reading:
    """Open sources for reading: detect their format, bind its columns, fail early.

    ``paths``: files (plain, gz, zst; told by content), folders (their files, in order of their names) or
    ``"-"`` for standard input. ``progress`` is called with (bytes read, size or None) of the current input. ``hashed=False`` leaves out the sha256.

    Raises UsageError (no such file, directory, wrong option), UnknownFormat, DataError (empty, binary,
    header only, a column missing).
    """
    if isinstance(paths, (str, Path)):
        paths = [paths]
    found = [files_of(p) for p in paths]
    listed = [f for files, _ in found for f in files]
    named = {str(p) for p in paths}
    passed_over = [str(link) for _, links in found for link in links]
    if not listed:
        raise UsageError("no input", "name at least one file, or - for standard input")
    if [str(p) for p in listed].count(STDIN) > 1:
        raise UsageError("standard input (-) can be read once", "name it once")
    if kind is not None and kind not in KINDS:
        raise UnknownName("kind", kind, KINDS)
    limits = limits or Limits()
    request = Request(parsed_mapping(mapping), time_unit, tz, keep_text, kind)  # type: ignore[arg-type]
    if as_format is not None and as_format not in formats:
        raise UnknownName("format", as_format, formats, "lamina-traces catalog formats")
    if as_format is None and request.mapping is not None:
        as_format = "columns"
    asked = formats[as_format] if as_format else None
    sources: list[_Source] = []
    for path in listed:
        stream = Stream(path, limits, hashed=hashed)
        keep = stream.size is None  # a pipe gives its bytes once
        try:
            head, header, skip = _head(stream, path, asked)
            head, fmt = recognised(
                head, formats if asked is None else _family(asked, formats), asked
            )
            if sources and fmt.group != sources[0].format.group:
                raise UsageError(
                    f"{path} is {fmt.name}, the files before it are {sources[0].format.name}",
                    "ingest them apart, each under its own name",
                )
            if head.headless:
                header, skip = b"", 0
            binding = fmt.binds(head, request)
        except BaseException as e:
            stream.close()
            unreadable = isinstance(e, UnknownFormat | DataError)
            if unreadable and str(path) not in named and asked is None:
                passed_over.append(str(path))  # what lies beside traces in a folder
                continue
            raise
        if not keep:
            stream.close()
        sources.append(_Source(path, fmt, head, header, skip, binding, stream if keep else None))
    if not sources:
        raise UnknownFormat(
            f"none of {many(len(passed_over), 'file')} can be read, {passed_over[0]} among them",
            "name one of them to see why",
        )
    _agree(sources)
    first = sources[0]
    if kind is not None and TABLES[first.binding.table].kind != kind:
        raise UsageError(
            f"{first.format.name} is a trace of kind {TABLES[first.binding.table].kind}, not {kind}",
            "leave out --kind",
        )
    return Reading(sources, request, limits, hashed, progress, resume or Resume(), passed_over)


def _family(asked: Format, formats: Mapping[str, Format]) -> dict[str, Format]:
    """The format that was asked for, and those that are read together with it."""
    return {
        f.name: f for f in formats.values() if f is asked or (f.family and f.family == asked.family)
    }


def _head(stream: Stream, path: str | Path, asked: Format | None) -> tuple[Head, bytes, int]:
    if stream.is_parquet:
        return parquet_head(path), b"", 0
    return read_head(stream, text=asked is not None and asked.syntax == ("text",))


def _agree(sources: Sequence[_Source]) -> None:
    """Instants of all sources are on one clock; sources without a clock go with any."""
    timed = [s for s in sources if s.binding.clock != "none"]
    for s in timed[1:]:
        first = timed[0]
        same_table = s.format is not first.format or s.binding.table == first.binding.table
        if not same_table or (s.binding.clock, s.binding.absolute) != (
            first.binding.clock, first.binding.absolute,
        ):  # fmt: skip
            raise UsageError(
                f"{s.path} has another kind of clock or table than {first.path}",
                "ingest them apart, each under its own name",
            )

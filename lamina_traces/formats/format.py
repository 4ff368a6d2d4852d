"""What a foreign format is: a signature, its fields with units, and one mapping to the canonical table.

A format file states these as data; the readers (delimited, jsonlines, parquet) do the rest. So a new
format is one file, one line in ``_MODULES`` and one test. Sources that are not one row a line give their
rows with an ``unfold`` function (nested JSON, log lines); those whose rows belong to several tables, or
that can only be made when everything was seen, say so in ``canonical`` and ``rest``.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import polars as pl

from ..errors import DataError, LaminaError, Notice, UsageError
from ..schema import TABLES, Clock, Column, Kind, Nature
from ..units import TIME_UNITS
from .redaction import cleaned_column, is_private

Syntax = Literal["csv", "jsonl", "json", "text", "parquet"]
"""``jsonl``: a value a line; ``json``: one document, or an array of them; ``text``: lines of a log."""
Evidence = Literal["real file", "importer's loader", "documentation"]
Cell = Literal[
    "tokens", "integer", "clock", "instant", "seconds", "number", "measure", "text", "ids", "flag"
]
"""how a value is read (cells.py says what each admits)."""

_TYPES: dict[str, Any] = {
    "BIGINT": pl.Int64,
    "INTEGER": pl.Int32,
    "DOUBLE": pl.Float64,
    "VARCHAR": pl.String,
    "BOOLEAN": pl.Boolean,
    "UBIGINT[]": pl.List(pl.UInt64),
    "BIGINT[]": pl.List(pl.Int64),
    "VARCHAR[]": pl.List(pl.String),
}


_CELL_TYPES: dict[Cell, Any] = {
    "tokens": pl.Int32,
    "integer": pl.Int64,
    "clock": pl.Int64,
    "instant": pl.Int64,
    "seconds": pl.Float64,
    "number": pl.Float64,
    "measure": pl.Float64,
    "text": pl.String,
    "ids": pl.List(pl.UInt64),
    "flag": pl.Boolean,
}


def polars_type(column: Column) -> Any:
    """The polars type of a canonical column."""
    return _TYPES[column.type]


def cell_type(cell: Cell) -> Any:
    """The polars type of a source column whose values were read."""
    return _CELL_TYPES[cell]


ROW_EXTRA = "\x00extra"
"""name, impossible in a source, of the column that carries a row's unmapped keys as JSON."""


@dataclass(frozen=True, slots=True)
class Field:
    """One column or key of a source.

    ``to`` names the canonical column it feeds, '' when the format's own mapping uses it. A row whose
    ``required`` field is empty is rejected, ``unless`` one of the fields named there holds a value
    (JSON lines). ``minimum`` is the least admissible value.
    """

    name: str
    cell: Cell
    unit: str = ""
    to: str = ""
    required: bool = True
    minimum: float | None = 0
    unless: tuple[str, ...] = ()


@dataclass(frozen=True)
class Head:
    """The first lines of a source, enough to bind a format to it.

    ``rows`` are up to a few hundred records as text by name; ``path`` is the name the user gave. ``keys``
    are the paths of the keys in a JSON source, lists left out: ``resourceSpans.scopeSpans.spans.spanId``;
    ``lines`` are the first lines of a text source. ``headless``: the first line is a record already.
    """

    syntax: Syntax
    names: tuple[str, ...]
    rows: tuple[Mapping[str, str | None], ...] = ()
    delimiter: str = ","
    path: str = "-"
    dtypes: Mapping[str, pl.DataType] = field(default_factory=dict)
    metadata: Mapping[str, Any] = field(default_factory=dict)
    keys: frozenset[str] = frozenset()
    lines: tuple[str, ...] = ()
    headless: bool = False
    problem: LaminaError | None = None
    """why it cannot be a table with a header line; a log can be read all the same."""


@dataclass(frozen=True)
class Request:
    """What the user asked of a reading, beside the paths."""

    mapping: Mapping[str, str] | None = None
    time_unit: str | None = None
    tz: str | None = None
    keep_text: bool = False
    kind: Kind | None = None

    def __post_init__(self) -> None:
        if self.time_unit is not None and self.time_unit not in TIME_UNITS:
            raise UsageError(
                f"unknown time unit {self.time_unit!r}", f"one of: {', '.join(TIME_UNITS)}"
            )
        if self.tz is not None:
            try:
                pl.Series([0], dtype=pl.Datetime("ns")).dt.replace_time_zone(self.tz)
            except pl.exceptions.PolarsError:
                raise UsageError(
                    f"unknown time zone {self.tz!r}", "write it like UTC or Europe/Berlin"
                ) from None


@dataclass(frozen=True)
class Before:
    """The trace that a reading is added to."""

    rows: Callable[[Sequence[str]], pl.DataFrame]
    """columns of the rows of its main table."""
    pseudonyms: Callable[[pl.Series], pl.Series] = lambda ids: ids
    """how the ids of this reading stand in that trace (it may be anonymized)."""


@dataclass
class Context:
    """What the mapping of a block may need: where it comes from, and a tally of what was met.

    The reader says what stands in the tally under ``negative durations`` and ``not finite`` (values that
    became null), ``naive stamps``, ``ambiguous stamps`` and ``skipped stamps``; other keys are the formats' own.
    """

    path: str
    request: Request
    tally: Counter[str] = field(default_factory=Counter)
    dropped: set[str] = field(default_factory=set)
    """text and secrets met on the way and left out."""
    state: dict[str, Any] = field(default_factory=dict)
    """carried from block to block (and over files) by formats whose rows depend on those before."""
    before: Before | None = None
    """for rows that go on where those of an earlier reading ended: sessions cross the seam."""

    def note(self, code: str, text: str, subject: str = "") -> None:
        """Say something to the user, once in a reading."""
        notices: list[Notice] = self.state.setdefault("notices", [])
        notice = Notice(code, text, subject)
        if notice not in notices:
            notices.append(notice)

    def private(self, values: Mapping[str, Any]) -> dict[str, Any]:
        """What a row of ``unfold`` holds that is text or secret, whatever it is called.

        With --keep-text it comes back under one key, ``text``; otherwise its names go to ``dropped``.
        """
        given = {k: v for k, v in values.items() if v is not None and v not in ("", [], {})}
        if self.request.keep_text and given:
            return {"text": given}
        self.dropped.update(given)
        return {}


Frames = pl.DataFrame | Mapping[str, pl.DataFrame]
"""canonical rows: of the format's own table, or by table."""
Canonical = Callable[[pl.DataFrame, Context], Frames]
Unfold = Callable[[Any, Context], Iterable[Mapping[str, Any]]]
"""a JSON value, or a line of text without its newline → its rows: values by field name. No row: the value is
no record of this format (counted as other). Raises ValueError, with the reason, to reject the whole. What is
no field goes to ``extra``, less names that show text or secrets; text under other names goes through
``Context.private``."""


@dataclass(frozen=True)
class Binding:
    """A format bound to one source: which fields to read, and how a typed block becomes canonical.

    ``canonical`` takes a frame with one column per field, under the source's names, and returns the
    canonical columns without ``row_id``: a frame of ``table``, or frames by table. It must also work on a
    frame without rows. ``rest`` gives what could only be made when every source was read.
    """

    fields: tuple[Field, ...]
    table: str
    clock: Clock
    canonical: Canonical
    rest: Callable[[Context], Frames] | None = None
    unfold: Unfold | None = None
    extra: tuple[str, ...] = ()
    dropped: tuple[str, ...] = ()
    private: frozenset[str] = frozenset()
    """keys to leave out of ``extra`` though their names do not show that they hold text or secrets."""
    notices: tuple[Notice, ...] = ()
    mapping: tuple[tuple[str, str, str], ...] = ()
    """(source column, canonical column, unit), in canonical order."""
    absolute: bool = False
    """``arrival_ns`` comes as ns since 1970 (in local time when ``clock`` is local)."""
    nature: Nature = "real"
    version: str = ""
    multiline: bool = False
    """a quoted cell may hold line breaks; otherwise a line is a record whatever its quotes."""


@dataclass(frozen=True)
class Format:
    """One foreign format.

    It is recognised by the *set* of its names: every required field is there, for a ``closed`` format
    nothing but its fields is, and no name that it ``excludes``. ``matches`` replaces the set test where
    names carry units, and for nested JSON and text. ``bind`` replaces the plain binding by name where a
    format has quirks.

    Formats of one ``family`` are read together into one trace, those of least ``rank`` first (side files,
    whose ``canonical`` keeps what it needs in the context and returns no row).
    """

    name: str
    title: str
    table: str
    syntax: tuple[Syntax, ...]
    fields: tuple[Field, ...]
    canonical: Canonical
    clock: Clock
    source: str
    """where the layout was read."""
    evidence: Evidence
    closed: bool = False
    excludes: frozenset[str] = frozenset()
    """names, or paths of keys, that mark another format which has this one's names, too."""
    private: frozenset[str] = frozenset()
    """names that hold text or secrets though they do not look it: left out, unless text is kept."""
    quirks: tuple[str, ...] = ()
    bind: Callable[[Format, Head, Request], Binding] | None = None
    matches: Callable[[Head], bool] | None = None
    version: Callable[[Head], str] = lambda _head: ""
    unfold: Unfold | None = None
    rest: Callable[[Context], Frames] | None = None
    headless: Callable[[Sequence[str], str], Sequence[str] | None] | None = None
    """(cells of the first line, path) → names of the columns, for a CSV without a header line."""
    absolute: bool = False
    """numbers in ``arrival_ns`` are since 1970."""
    nature: Nature = "real"
    family: str = ""
    rank: int = 0
    others: tuple[str, ...] = ()
    """tables that it fills beside ``table``."""

    @property
    def kind(self) -> Kind:
        return TABLES[self.table].kind

    @property
    def group(self) -> str:
        """Sources of one group can be read together."""
        return self.family or self.name

    @property
    def unit(self) -> str:
        """What is counted of a source: its lines, or the records in its lines and documents."""
        return "records" if self.unfold is not None and "text" not in self.syntax else "lines"

    def binds(self, head: Head, request: Request) -> Binding:
        """Bind to a source. Raises DataError when a required column is absent."""
        return self.bind(self, head, request) if self.bind else bind_by_name(self, head, request)


def bind_by_name(
    fmt: Format,
    head: Head,
    request: Request,
    *,
    fields: Sequence[Field] | None = None,
    canonical: Canonical | None = None,
    notices: tuple[Notice, ...] = (),
    absolute: bool | None = None,
) -> Binding:
    """Bind a format's fields to the names at hand: exact spelling first, then ignoring case.

    Names without a field go to ``extra``; text and secrets among them are dropped unless kept. The rows of
    a format that unfolds have the names of its fields; what else they hold goes to ``extra``, too. Keys of
    JSON lines are looked for even where the head has none, since later lines may; the mapping names those
    seen. The format's own mapping finds a column for every field: null where the source has none. Canonical
    columns that only such fields feed were not recorded, and are left out again. Local dates become UTC
    where the user names their zone.
    """
    wanted = fmt.fields if fields is None else tuple(fields)
    if fmt.unfold is not None:
        head = replace(head, names=tuple(f.name for f in wanted))
    names = _names_to_come(wanted, head)
    folded = {n.strip().casefold(): n for n in names}
    exact = set(names)
    bound, spelled = [], {}
    for f in wanted:
        name = f.name if f.name in exact else folded.get(f.name.casefold())
        if name is not None:
            bound.append(replace(f, name=name))
            spelled[name] = f.name
        elif f.required:
            raise DataError(
                f"{fmt.name} needs a column {f.name!r}",
                f"columns here: {', '.join(head.names)}; another layout is read with --as columns --map …",
                path=head.path,
            )
    rest = [n for n in head.names if n not in spelled]
    private = frozenset() if request.keep_text else fmt.private
    dropped = tuple(n for n in rest if not request.keep_text and (n in private or is_private(n)))
    extra = tuple(n for n in rest if n not in dropped)
    if head.syntax == "csv":
        bound += [Field(n, "text", required=False) for n in extra]
    own = canonical or fmt.canonical
    table = TABLES[fmt.table]
    found = set(spelled.values())
    absent = [f for f in wanted if f.name not in found]
    nulls = [pl.lit(None, cell_type(f.cell)).alias(f.name) for f in absent]
    required = {c.name for c in table.columns if c.required}
    unfed = {f.to for f in absent if f.to} - {f.to for f in bound} - required

    def mapped(frame: pl.DataFrame, context: Context) -> Frames:
        """The format's own mapping, over its own spelling of the names; extra rides along."""
        named = frame.rename({k: v for k, v in spelled.items() if k != v})
        made = own(named.with_columns(nulls) if nulls else named, context)
        out = made if isinstance(made, pl.DataFrame) else made.get(fmt.table)
        if out is None:
            return made
        out = out.drop(unfed, strict=False)
        if "extra" not in out.columns and out.height == frame.height:
            out = with_extra(out, frame, extra, context)
        return out if isinstance(made, pl.DataFrame) else {**made, fmt.table: out}

    order = {c: i for i, c in enumerate(table.names)}
    mapping = sorted(
        ((f.name, f.to, f.unit) for f in bound if f.to and f.name in head.names),
        key=lambda m: order.get(m[1], len(order)),
    )
    dated = any(f.cell == "instant" and f.to == "arrival_ns" for f in wanted)
    return Binding(
        fields=tuple(bound),
        table=fmt.table,
        clock="utc" if fmt.clock == "local" and dated and request.tz else fmt.clock,
        absolute=fmt.absolute or dated if absolute is None else absolute,
        nature=fmt.nature,
        canonical=mapped,
        rest=fmt.rest,
        unfold=fmt.unfold,
        extra=extra,
        dropped=dropped,
        private=private,
        notices=notices,
        mapping=tuple(mapping),
        version=fmt.version(head),
    )


def _names_to_come(fields: Sequence[Field], head: Head) -> tuple[str, ...]:
    """The names of a source, for JSON with those that its head does not have and need not have."""
    if head.syntax not in ("jsonl", "json"):
        return head.names
    seen = {n.strip().casefold() for n in head.names}
    free = (f.name for f in fields if f.unless or not f.required)
    return (*head.names, *(n for n in free if n.casefold() not in seen))


def with_extra(
    out: pl.DataFrame, frame: pl.DataFrame, extra: Sequence[str], context: Context
) -> pl.DataFrame:
    """Add the column ``extra``: a JSON object of the unmapped columns as they were written.

    Strings that look like free text or secrets are left out even under a harmless name.
    """
    if ROW_EXTRA in frame.columns:
        return out.with_columns(frame[ROW_EXTRA].alias("extra"))
    if not extra:
        return out
    kept = frame.select(extra).with_columns(pl.col(pl.String).str.strip_chars())
    if not context.request.keep_text:
        kept = kept.with_columns(
            cleaned_column(column, context.dropped)
            for column in kept.get_columns()
            if column.dtype == pl.String
        )
    kept = kept.select(c for c in kept.get_columns() if c.null_count() < len(c) or not len(c))
    if not kept.width:
        return out.with_columns(pl.lit(None, pl.String).alias("extra"))
    text = kept.select(pl.struct(pl.all()).struct.json_encode().alias("extra"))["extra"]
    return out.with_columns(text)


def json_object(frame: pl.DataFrame, names: Iterable[str], context: Context) -> pl.Series:
    """Some columns of a frame as JSON objects without their nulls; null where all are null.

    Names that hold text or secrets are left out, and strings that look like them, as they are of every extra.
    """
    keep_text = context.request.keep_text
    parts: list[pl.Series] = []
    for name in names:
        if name not in frame.columns:
            continue
        if not keep_text and is_private(name):
            context.dropped.add(name)
            continue
        column = frame[name]
        if column.dtype == pl.String and not keep_text:
            column = cleaned_column(column, context.dropped)
        pair = column.to_frame().select(pl.struct(name).struct.json_encode().alias(name))[name]
        parts.append(
            pair.str.slice(1).str.head(-1).set(column.is_null(), None).alias(f"{len(parts)}")
        )
    if not parts:
        return pl.Series("extra", [None], dtype=pl.String).new_from_index(0, frame.height)
    joined = pl.DataFrame(parts).select(
        pl.concat_str(pl.all(), separator=",", ignore_nulls=True).alias("extra")
    )["extra"]
    return ("{" + joined + "}").set(joined == "", None).alias("extra")

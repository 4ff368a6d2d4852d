"""What a reading hands out: blocks on the way, the account of every line at the end."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import polars as pl

from ..errors import Notice
from ..schema import Clock, Kind, Nature
from ..units import format_count


def many(n: int, singular: str, plural: str | None = None) -> str:
    """A count with its noun: ``1 line``, ``2,000 lines``."""
    return f"{format_count(n)} {singular if n == 1 else plural or singular + 's'}"


@dataclass(frozen=True)
class Block:
    """Some rows of one table in source order, and the lines between them that were refused."""

    table: str
    frame: pl.DataFrame
    """canonical columns, in schema order, always with ``row_id``; the same columns in every block."""
    rejects: pl.DataFrame
    """file, line (from 1), column, reason, text (masked)."""


@dataclass(frozen=True)
class Input:
    """One input as it was read: lines = kept + rejected + blank + header + other.

    For formats whose rows do not stand one a line the same holds of records.
    """

    name: str
    bytes: int
    """as stored."""
    sha256: str | None
    compression: str | None
    lines: int
    kept: int
    rejected: int
    blank: int
    header: int
    other: int
    """lines of a log that are no records of the format."""

    def to_dict(self) -> dict[str, Any]:
        return dataclasses.asdict(self)


@dataclass(frozen=True)
class Summary:
    """What a reading was: sources, counts, clock, and what was left out or assumed."""

    format: str
    version: str
    table: str
    kind: Kind
    nature: Nature
    clock: Clock
    origin_ns: int | None
    """unix ns of ``arrival_ns`` 0; None where the source has no calendar, or no zone."""
    origin_local: str | None
    """for a local clock with a date: local midnight at which ``arrival_ns`` is 0."""
    inputs: tuple[Input, ...]
    notices: tuple[Notice, ...]
    dropped_fields: tuple[str, ...]
    mapping: tuple[tuple[str, str, str], ...]
    """(source column, canonical column, unit in the source)."""
    sampled: float | None = None
    """share of the requests that the source says it recorded."""
    unit: str = "lines"
    """what was counted: lines or records."""
    reasons: Mapping[str, int] = field(default_factory=dict)
    """how many lines were rejected for what (by column and kind of reason)."""

    @property
    def lines(self) -> int:
        return sum(i.lines for i in self.inputs)

    @property
    def kept(self) -> int:
        return sum(i.kept for i in self.inputs)

    @property
    def rejected(self) -> int:
        return sum(i.rejected for i in self.inputs)

    @property
    def blank(self) -> int:
        return sum(i.blank for i in self.inputs)

    @property
    def header(self) -> int:
        return sum(i.header for i in self.inputs)

    @property
    def other(self) -> int:
        return sum(i.other for i in self.inputs)

    @property
    def reconciles(self) -> bool:
        return all(
            i.lines == i.kept + i.rejected + i.blank + i.header + i.other for i in self.inputs
        )

    def line(self) -> str:
        """One line for people: ``8,820 lines = 8,819 kept + 0 rejected + 0 blank + 1 header``."""
        parts = [
            f"{format_count(getattr(self, what))} {what}"
            for what in ("kept", "rejected", "blank", "header")
        ]
        if self.other:
            parts.append(f"{format_count(self.other)} other")
        return f"{many(self.lines, self.unit[:-1])} = {' + '.join(parts)}"

    def to_dict(self) -> dict[str, Any]:
        return {
            "format": self.format,
            "version": self.version,
            "table": self.table,
            "kind": self.kind,
            "nature": self.nature,
            "clock": self.clock,
            "origin_ns": self.origin_ns,
            "origin_local": self.origin_local,
            "lines": self.lines,
            "kept": self.kept,
            "rejected": self.rejected,
            "blank": self.blank,
            "header": self.header,
            "other": self.other,
            "unit": self.unit,
            "sampled": self.sampled,
            "inputs": [i.to_dict() for i in self.inputs],
            "reasons": dict(self.reasons),
            "notices": [n.to_dict() for n in self.notices],
            "dropped_fields": list(self.dropped_fields),
            "mapping": [{"source": s, "column": c, "unit": u} for s, c, u in self.mapping],
        }


@dataclass(frozen=True)
class Preview:
    """The start of a reading: what was detected, how it is mapped, and the first rows."""

    format: str
    title: str
    version: str
    table: str
    kind: Kind
    clock: Clock
    mapping: tuple[tuple[str, str, str], ...]
    """(source column, canonical column, unit in the source)."""
    extra: tuple[str, ...]
    """source columns without a canonical one, kept as JSON."""
    dropped_fields: tuple[str, ...]
    rows: pl.DataFrame
    """the first canonical rows."""
    rows_seen: int
    rejects: pl.DataFrame
    first_ns: int | None
    last_ns: int | None
    """time range of the rows seen, in ns from the origin."""
    origin_ns: int | None
    origin_local: str | None
    notices: tuple[Notice, ...]

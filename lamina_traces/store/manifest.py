"""``trace.json``: what a stored trace is, where it came from, and what was done to it on the way in."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from .. import __version__
from ..errors import ModelError, Notice, StoreError
from ..schema import KINDS, SCHEMA_VERSION, main_table
from ..units import NS_PER_S
from . import names

COUNTS: tuple[str, ...] = ("lines", "kept", "rejected", "blank", "header", "other")
"""where the lines of the inputs went: lines = kept + rejected + blank + header + other."""


@dataclass(frozen=True, slots=True)
class TableInfo:
    """One table on disk: ``rows``, the ``columns`` that hold at least one value (and the required
    ones), how many Parquet ``parts``, and their size in ``bytes``."""

    rows: int
    columns: tuple[str, ...]
    parts: int
    bytes: int


@dataclass(frozen=True, slots=True)
class Input:
    """A file that was read: its ``name`` without any directory, ``sha256`` in hex (None: not taken), size in
    ``bytes`` as stored."""

    name: str
    sha256: str | None
    bytes: int


def created_now() -> str:
    """The time of creation, UTC, ISO 8601; ``SOURCE_DATE_EPOCH`` is honoured, so builds can be repeated."""
    epoch = os.environ.get("SOURCE_DATE_EPOCH", "")
    now = datetime.fromtimestamp(int(epoch), UTC) if epoch.isdigit() else datetime.now(UTC)
    return now.strftime("%Y-%m-%dT%H:%M:%SZ")


@dataclass(frozen=True)
class Manifest:
    """The manifest of one generation of a trace. Instants are int64 ns from the trace's origin."""

    name: str
    kind: str
    nature: str = "real"
    clock: str = "relative"
    origin_ns: int | None = None
    """unix time of instant 0, ns; None where the source's clock has no known origin."""
    origin_local: str | None = None
    """local time of instant 0, ISO 8601, where the clock is local and has a date."""
    tick_ns: int | None = None
    """greatest common divisor of all arrival differences; None for fewer than two distinct arrivals."""
    tables: Mapping[str, TableInfo] = field(default_factory=dict)
    arrival_first_ns: int | None = None
    arrival_last_ns: int | None = None
    inputs: tuple[Input, ...] = ()
    counts: Mapping[str, int] = field(default_factory=dict)
    counted: str = "lines"
    """what ``counts`` counts: lines, or the records of formats that do not put one on a line."""
    sampled: float | None = None
    """share of the requests that the source recorded, where it recorded a random sample of them."""
    format: str = ""
    format_version: str = ""
    mapping: tuple[tuple[str, str, str], ...] = ()
    """(source column, canonical column, unit in the source)."""
    dropped_fields: tuple[str, ...] = ()
    notices: tuple[Notice, ...] = ()
    sorted_by_us: bool = False
    """the source was not in time order and the store sorted it."""
    row_hash: str | None = None
    provenance: Mapping[str, Any] = field(default_factory=dict)
    """seed, profile, spec…: what a synthetic or simulated trace was made from."""
    created: str = ""
    tool_version: str = __version__
    schema_version: int = SCHEMA_VERSION

    @property
    def main_table(self) -> str:
        """The table that the trace's own name stands for."""
        return main_table(self.kind, self.tables)

    @property
    def rows(self) -> int:
        """Rows of the main table."""
        info = self.tables.get(self.main_table)
        return info.rows if info else 0

    @property
    def span_ns(self) -> int | None:
        """First to last arrival, ns; None where nothing has an arrival."""
        if self.arrival_first_ns is None or self.arrival_last_ns is None:
            return None
        return self.arrival_last_ns - self.arrival_first_ns

    @property
    def span_s(self) -> float | None:
        return None if self.span_ns is None else self.span_ns / NS_PER_S

    @property
    def bytes(self) -> int:
        """Size of all tables on disk."""
        return sum(t.bytes for t in self.tables.values())

    def summary_line(self) -> str:
        """How the lines of the inputs add up: ``10,001 lines = 9,990 kept + 10 rejected + 1 header``."""
        if not self.counts:
            return f"{self.rows:,} rows"
        parts = [f"{self.counts[k]:,} {k}" for k in COUNTS[1:] if self.counts.get(k) or k == "kept"]
        one = self.counts["lines"] == 1
        return f"{self.counts['lines']:,} {self.counted.removesuffix('s') if one else self.counted} = {' + '.join(parts)}"

    def to_dict(self) -> dict[str, Any]:
        return {
            "schema_version": self.schema_version,
            "name": self.name,
            "kind": self.kind,
            "nature": self.nature,
            "clock": self.clock,
            "origin_ns": self.origin_ns,
            "origin_local": self.origin_local,
            "tick_ns": self.tick_ns,
            "arrival_first_ns": self.arrival_first_ns,
            "arrival_last_ns": self.arrival_last_ns,
            "tables": {
                n: {"rows": t.rows, "columns": list(t.columns), "parts": t.parts, "bytes": t.bytes}
                for n, t in self.tables.items()
            },
            "format": self.format,
            "format_version": self.format_version,
            "mapping": [{"source": s, "column": c, "unit": u} for s, c, u in self.mapping],
            "inputs": [{"name": i.name, "sha256": i.sha256, "bytes": i.bytes} for i in self.inputs],
            "counts": dict(self.counts),
            "counted": self.counted,
            "sampled": self.sampled,
            "dropped_fields": list(self.dropped_fields),
            "notices": [n.to_dict() for n in self.notices],
            "sorted_by_us": self.sorted_by_us,
            "row_hash": self.row_hash,
            "provenance": dict(self.provenance),
            "created": self.created,
            "tool_version": self.tool_version,
        }

    def to_json(self) -> str:
        try:
            text = json.dumps(self.to_dict(), ensure_ascii=False, indent=1, allow_nan=False)
        except (TypeError, ValueError) as e:
            raise ModelError(
                f"trace {self.name!r}: the manifest cannot be JSON: {e}",
                "give provenance as text, finite numbers, lists and objects of these",
            ) from e
        return text + "\n"

    @classmethod
    def from_json(cls, text: str, name: str) -> Manifest:
        """Read the manifest of the trace that messages call ``name``. Raises StoreError on anything it
        cannot trust."""
        where, again = f"trace {name!r}", names.again(name)
        try:
            d = json.loads(text)
            version = int(d["schema_version"])
        except (ValueError, KeyError, TypeError) as e:
            raise StoreError(f"{where}: the manifest is damaged ({e})", again) from e
        if version > SCHEMA_VERSION:
            raise StoreError(
                f"{where}: written by lamina-traces {d.get('tool_version', '?')}, "
                f"schema {version}; this one reads up to {SCHEMA_VERSION}",
                "upgrade lamina-traces, or ingest the source again into another store",
            )
        try:
            if d["kind"] not in KINDS:
                raise ValueError(f"unknown kind {d['kind']!r}")
            return cls(
                name=str(d["name"]),
                kind=str(d["kind"]),
                nature=str(d["nature"]),
                clock=str(d["clock"]),
                origin_ns=_int(d["origin_ns"]),
                origin_local=_text(d["origin_local"]),
                tick_ns=_int(d["tick_ns"]),
                tables={
                    str(n): TableInfo(
                        int(t["rows"]),
                        tuple(map(str, t["columns"])),
                        int(t["parts"]),
                        int(t["bytes"]),
                    )
                    for n, t in d["tables"].items()
                },
                arrival_first_ns=_int(d["arrival_first_ns"]),
                arrival_last_ns=_int(d["arrival_last_ns"]),
                inputs=tuple(
                    Input(str(i["name"]), _text(i["sha256"]), int(i["bytes"])) for i in d["inputs"]
                ),
                counts={str(k): int(v) for k, v in d["counts"].items()},
                counted=str(d.get("counted", "lines")),
                sampled=None if d.get("sampled") is None else float(d["sampled"]),
                format=str(d["format"]),
                format_version=str(d["format_version"]),
                mapping=tuple(
                    (str(m["source"]), str(m["column"]), str(m["unit"])) for m in d["mapping"]
                ),
                dropped_fields=tuple(map(str, d["dropped_fields"])),
                notices=tuple(Notice.from_dict(n) for n in d["notices"]),
                sorted_by_us=bool(d["sorted_by_us"]),
                row_hash=_text(d["row_hash"]),
                provenance=dict(d["provenance"]),
                created=str(d["created"]),
                tool_version=str(d["tool_version"]),
                schema_version=version,
            )
        except (ValueError, KeyError, TypeError, AttributeError) as e:
            raise StoreError(
                f"{where}: the manifest is damaged ({type(e).__name__}: {e})", again
            ) from e


def _int(value: Any) -> int | None:
    return None if value is None else int(value)


def _text(value: Any) -> str | None:
    return None if value is None else str(value)

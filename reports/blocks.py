"""What a page is made of: sections of sentences, tables and figures. Plain data, no HTML."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from lamina_traces.units import format_number

SHOWN_ROWS = 40
"""rows of a figure's data table; the download holds what was drawn."""

NOTHING = "–"


@dataclass(frozen=True)
class Table:
    """``align``: one letter a column, l or r. ``plain``: no header row, the first column names the second."""

    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    align: str
    caption: str = ""
    notes: tuple[str, ...] = ()
    plain: bool = False
    wide: bool = False


@dataclass(frozen=True)
class Figure:
    """``sentence`` says the finding in words: it is the caption and the label for those who cannot see it.

    ``data`` and ``layout`` are Plotly's, with colours of the theme as tokens (see ``figures``).
    """

    id: str
    title: str
    sentence: str
    data: list[dict[str, Any]]
    layout: dict[str, Any]
    table: Table
    wide: bool = False
    tall: bool = False


Block = Table | Figure | tuple[Table, ...]
"""one cell of a section's grid; several tables stand one below the other."""


@dataclass(frozen=True)
class Tile:
    """One key number: ``value`` with its unit, what it is, and a word of context."""

    label: str
    value: str
    context: str = ""


@dataclass(frozen=True)
class Sentence:
    """One finding: the sentence, and the model and effect size it rests on, in small print."""

    text: str
    evidence: str = ""


@dataclass(frozen=True)
class Section:
    """``blocks`` in reading order, two columns where there is room."""

    id: str
    title: str
    paragraphs: tuple[str, ...] = ()
    blocks: tuple[Block, ...] = ()
    subtitle: str = ""


@dataclass(frozen=True)
class Method:
    """How a number on the page is computed: one sentence, the formula, where it is from."""

    title: str
    text: str
    formula: str = ""
    source: str = ""


@dataclass(frozen=True)
class Page:
    """All of it, in the order of the page."""

    title: str
    eyebrow: str
    provenance: tuple[str, ...]
    findings: tuple[Sentence, ...]
    tiles: tuple[Tile, ...]
    sections: tuple[Section, ...]
    warnings: tuple[tuple[str, str, str], ...]
    """(code, subject, text)"""
    methods: tuple[Method, ...]
    command: str
    tool: str
    facts: Mapping[str, Any] = field(default_factory=dict)


def thinned(columns: tuple[str, ...], rows: Sequence[tuple[str, ...]], align: str) -> Table:
    """A data table of at most SHOWN_ROWS rows, evenly picked with both ends."""
    n = len(rows)
    if n <= SHOWN_ROWS:
        return Table(columns, tuple(rows), align)
    picked = [round(i * (n - 1) / (SHOWN_ROWS - 1)) for i in range(SHOWN_ROWS)]
    note = f"{SHOWN_ROWS} of {n:,} points; the download holds them all."
    return Table(columns, tuple(rows[i] for i in picked), align, notes=(note,))


def percent(x: float | None, digits: int = 1) -> str:
    """A share for people: ``"12.3%"``; a small one keeps two significant digits."""
    if x is None or not math.isfinite(x):
        return NOTHING
    p = 100 * x
    if not p:
        return "0%"
    if abs(p) < 10**-digits:
        return f"{p:.2g}%"
    return f"{p:.{digits}f}%"


def fixed(x: float, digits: int) -> str:
    """A finite number with a fixed count of decimals."""
    return f"{x:.{digits}f}" if math.isfinite(x) else NOTHING


def number(x: Any) -> float | None:
    """A finite float, None for everything else (a file may hold anything)."""
    if isinstance(x, bool) or not isinstance(x, int | float):
        return None
    try:
        value = float(x)
    except OverflowError:
        return None
    return value if math.isfinite(value) else None


def shown(x: Any) -> str:
    """Any scalar for people."""
    if x is None:
        return NOTHING
    if isinstance(x, bool):
        return "yes" if x else "no"
    if isinstance(x, int):
        return f"{x:,}"
    if isinstance(x, float):
        return format_number(x)
    return str(x)


def joined(parts: Iterable[str], last: str = "and") -> str:
    """``"a, b and c"``."""
    words = [p for p in parts if p]
    if len(words) < 2:
        return "".join(words)
    return f"{', '.join(words[:-1])} {last} {words[-1]}"

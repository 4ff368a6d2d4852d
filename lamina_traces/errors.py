"""The error tree. Every error says what was wrong and where; its hint says what to do next.

    LaminaError                  exit 1   anything this library raises on purpose
    ├── DataError                exit 1   a file or a value is not what it should be (path, line, column)
    ├── StoreError               exit 1   the store is missing, locked, damaged, or from another version
    ├── ModelError               exit 1   a profile, spec or model cannot do what was asked
    ├── UsageError               exit 2   the request itself is wrong
    │   ├── UnknownName          exit 2   no such trace, format, GPU, model…; close matches in the hint
    │   └── UnknownFormat        exit 2   no reader recognises the file; its columns and a guess in the hint
    └── CheckFailed              exit 3   a gate, an SLO or a claim did not hold

``Notice`` is the typed warning: data that travels with a result, never text on a side channel.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

SCHEMA_VERSION = 1
"""version of the manifest, the tables and every JSON object printed; a reader refuses a higher one."""


class LaminaError(Exception):
    """Base of all errors raised on purpose.

    ``message`` is one line: what, where. ``hint`` is the next thing to do (may have several lines).
    """

    exit_code = 1

    def __init__(self, message: str, hint: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint


class DataError(LaminaError):
    """A file or a value in it is not what it should be.

    The position is part of the message: ``requests.csv, line 3, column 'Request tokens': …``.
    """

    def __init__(
        self,
        message: str,
        hint: str | None = None,
        *,
        path: str | Path | None = None,
        line: int | None = None,
        column: str | None = None,
    ) -> None:
        where = [str(path)] if path is not None else []
        if line is not None:
            where.append(f"line {line}")
        if column is not None:
            where.append(f"column {column!r}")
        super().__init__(f"{', '.join(where)}: {message}" if where else message, hint)
        self.path, self.line, self.column = path, line, column


class StoreError(LaminaError):
    """The store is missing, locked, damaged, or from another version."""


class ModelError(LaminaError):
    """A profile, a spec or a model cannot do what was asked of it."""


class UsageError(LaminaError):
    """The request itself is wrong."""

    exit_code = 2


class UnknownName(UsageError):
    """No such thing; ``choices`` feeds the close matches of the hint, unless ``close`` has them."""

    def __init__(
        self,
        kind: str,
        name: str,
        choices: Iterable[str],
        listing: str | None = None,
        close: Iterable[str] | None = None,
    ) -> None:
        import difflib  # only a mistake pays for it

        known = sorted(set(choices))
        folded = {c.casefold(): c for c in known}
        if close is None:
            near = difflib.get_close_matches(name.casefold(), folded, n=3, cutoff=0.5)
            matches = [folded[c] for c in near]
        else:
            matches = list(close)
        parts = []
        if matches:
            parts.append("did you mean " + " or ".join(matches) + "?")
        elif known and (close is None or listing is None):
            shown = ", ".join(known[:12]) + (", …" if len(known) > 12 else "")
            parts.append(f"known: {shown}")
        if listing:
            parts.append(f"list them with: {listing}")
        super().__init__(f"unknown {kind} {name!r}", "; ".join(parts) or None)
        self.kind, self.name, self.choices = kind, name, known


class UnknownFormat(UsageError):
    """No reader recognises a file, or more than one does."""


class CheckFailed(LaminaError):
    """A gate, an SLO or a claim did not hold."""

    exit_code = 3


@dataclass(frozen=True, slots=True)
class Notice:
    """A typed warning: ``code`` is stable and machine-readable, ``text`` is for people."""

    code: str
    text: str
    subject: str = ""
    """what it is about: an aspect, a column, a metric; '' for the whole."""

    def to_dict(self) -> dict[str, str]:
        return {"code": self.code, "subject": self.subject, "text": self.text}

    @classmethod
    def from_dict(cls, d: dict[str, str]) -> Notice:
        return cls(str(d["code"]), str(d["text"]), str(d.get("subject", "")))

"""Trace names are free text; on disk each has a slug that no text can turn into another path."""

from __future__ import annotations

import hashlib
import re
import shlex
import unicodedata
from pathlib import PurePath

from ..errors import UsageError
from ..schema import TABLES

RESERVED: frozenset[str] = frozenset(TABLES) | {
    "events",
    "rejects",
    "main",
    "temp",
    "system",
    "memory",
    "information_schema",
    "pg_catalog",
}
"""names that SQL needs for itself: the tables over all traces, and DuckDB's own schemas."""

_SUFFIXES = re.compile(r"(\.(csv|tsv|jsonl|ndjson|json|parquet|txt|log|gz|zst))+$", re.IGNORECASE)


def checked(name: str) -> str:
    """The name as it is kept (NFC, outer blanks removed). Raises UsageError where it cannot be one."""
    kept = unicodedata.normalize("NFC", name).strip()
    hint = "any text will do but '.', '..', control characters and SQL's own table names"
    if not kept or kept in (".", ".."):
        raise UsageError(f"{name!r} is no name for a trace", hint)
    for c in kept:
        if unicodedata.category(c) in ("Cc", "Cs", "Zl", "Zp"):
            raise UsageError(f"the trace name {name!r} holds the control character {c!r}", hint)
    if kept.casefold() in RESERVED:
        raise UsageError(f"the trace name {name!r} is reserved for SQL", hint)
    return kept


def folded(name: str) -> str:
    """What makes a name unique: its text without case, composed (NFC)."""
    nfc = unicodedata.normalize("NFC", name).strip()
    return unicodedata.normalize("NFC", nfc.casefold())


def slug(name: str) -> str:
    """The directory of a name: at most 48 letters, digits and dashes of it, and 12 hex digits of its hash.

    Equal for names that differ in case only, so the file system enforces that names are unique.
    """
    key = folded(name)
    ascii_ = unicodedata.normalize("NFKD", key).encode("ascii", "ignore").decode()
    safe = re.sub(r"[^a-z0-9]+", "-", ascii_).strip("-")[:48].strip("-")
    digest = hashlib.sha256(key.encode("utf-8", "surrogatepass")).hexdigest()[:12]
    return f"{safe or 'trace'}-{digest}"


def removal(name: str) -> str:
    """The command that removes a trace; ``name`` is its name or its directory, and ``rm`` takes both."""
    told = f"--yes -- {shlex.quote(name)}" if name.startswith("-") else f"{shlex.quote(name)} --yes"
    return f"lamina-traces rm {told}"


def again(name: str) -> str:
    """What to do about a damaged trace, by its name or its directory."""
    return f"remove it with: {removal(name)}; then ingest its source again"


def from_path(path: str, taken: set[str]) -> str:
    """A name for the trace of a file: its stem, with a number where ``taken`` (folded names) holds it."""
    stem = "stdin" if path == "-" else _SUFFIXES.sub("", PurePath(path).name)
    stem = "".join(
        c for c in stem if unicodedata.category(c) not in ("Cc", "Cs", "Zl", "Zp")
    ).strip()
    if not stem.strip("."):
        stem = "trace"
    name, n = stem, 1
    while folded(name) in taken or folded(name) in RESERVED:
        n += 1
        name = f"{stem}-{n}"
    return name

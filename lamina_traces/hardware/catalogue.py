"""Catalogue files: TOML rows whose every number is a Quantity, found under any of their names."""

from __future__ import annotations

import functools
import re
import tomllib
from collections.abc import Mapping
from importlib import resources
from pathlib import Path
from typing import Any, cast, get_args

from ..errors import DataError, UnknownName
from ..units import Basis, Quantity

_BASES: tuple[str, ...] = get_args(Basis)


def read_toml(path: Path | None, packaged: str) -> tuple[dict[str, Any], str]:
    """A user's file, or the packaged one of that name; returns its content and its name for messages."""
    try:
        if path is None:
            text = resources.files(__package__).joinpath(packaged).read_text("utf-8")
        else:
            text = path.read_text("utf-8")
    except (OSError, UnicodeDecodeError) as e:
        raise DataError(f"cannot be read: {e}", "give a TOML file in UTF-8", path=path) from e
    try:
        data = tomllib.loads(text)
    except tomllib.TOMLDecodeError as e:
        raise DataError(f"is not TOML: {e}", "compare it with a file that loads", path=path) from e
    return data, str(path or packaged)


def rows(packaged: str) -> tuple[dict[str, dict[str, Any]], str]:
    """The rows of a packaged file; what a row leaves out is taken from the file's table ``defaults``."""
    data, where = read_toml(None, packaged)
    defaults = data.pop("defaults", {})
    return {name: {**defaults, **row} for name, row in data.items()}, where


def quantities(row: Mapping[str, Any], units: Mapping[str, str], where: str) -> dict[str, Quantity]:
    """The numbers of a row under their source and basis; ``units`` names the known fields."""
    base_source, base = str(row.get("source", "")), str(row.get("basis", ""))
    overrides = row.get("sources", {})
    out = {}
    for name, unit in units.items():
        if name not in row:
            continue
        value = row[name]
        if isinstance(value, bool) or not isinstance(value, int | float) or not value > 0:
            raise DataError(
                f"{where}: {name} = {value!r} is not a positive number",
                "numbers only, units by the name",
            )
        source, basis = base_source, base
        if name in overrides:
            basis, _, source = (part.strip() for part in str(overrides[name]).partition(":"))
        if basis not in _BASES or not source:
            raise DataError(
                f"{where}: {name} has no source or the unknown basis {basis!r}",
                "give the row source = … and basis = " + " | ".join(_BASES),
            )
        out[name] = Quantity(float(value), unit, source, cast(Basis, basis))
    return out


def find(kind: str, name: str, rows: Mapping[str, tuple[str, ...]], listing: str) -> str:
    """The canonical key for ``name``, which may be any of the row's names; case, hyphens, underscores and
    spaces do not matter, so nvidia-smi names and Kubernetes labels are found alike.

    Raises UnknownName with close matches.
    """
    wanted = fold(name)
    for key, names in rows.items():
        if wanted == fold(key) or any(wanted == fold(n) for n in names):
            return key
    raise UnknownName(kind, name, rows, listing, closest(name, rows))


def closest(name: str, rows: Mapping[str, tuple[str, ...]]) -> list[str]:
    """Up to three keys with a name like ``name``, best first: one that begins with the same three characters, or, since
    anyone mistypes, one that is nearly the same. Organisations do not count."""
    import difflib  # only a mistake pays for it

    wanted = fold(name.rpartition("/")[2])

    def likeness(other: str) -> float:
        ratio = difflib.SequenceMatcher(None, wanted, other).ratio()
        return ratio if wanted[:3] == other[:3] or ratio >= 0.8 else 0.0

    best = {
        k: max(likeness(fold(n.rpartition("/")[2])) for n in (k, *ns)) for k, ns in rows.items()
    }
    return [k for k in sorted(best, key=lambda k: -best[k]) if best[k] >= 0.45][:3]


@functools.lru_cache(4096)
def fold(name: str) -> str:
    """A name without its spelling: case, hyphens, underscores and spaces."""
    return re.sub(r"[-_\s]+", "", name.casefold())

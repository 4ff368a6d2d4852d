"""Specs as TOML: what is not known is an error with close matches, what is left out has its default."""

from __future__ import annotations

import dataclasses
import json
import math
import tomllib
import types
import typing
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..errors import DataError, UnknownName
from .serving import Serving, check

_TYPES = {int: "a whole number", float: "a number", str: "text", bool: "true or false"}


def load(path: Path) -> Serving:
    """Read a serving spec. Raises DataError (not TOML, wrong type), UnknownName (a key), and what ``check`` raises."""
    try:
        text = path.read_text("utf-8")
    except (OSError, UnicodeDecodeError) as e:
        why = e.strerror if isinstance(e, OSError) else "it is not text in UTF-8"
        raise DataError(f"cannot be read: {why}", "give a TOML file in UTF-8", path=path) from e
    return loads(text, path=path)


def loads(text: str, path: Path | None = None) -> Serving:
    """Parse a serving spec from text; ``path`` is for messages."""
    try:
        data = tomllib.loads(text)
    except tomllib.TOMLDecodeError as e:
        raise DataError(
            f"is not TOML: {e}", "lamina-traces show RUN prints one of a saved run", path=path
        ) from e
    spec: Serving = _build(Serving, data, "spec", path)
    return check(spec if "dtype" in data else dataclasses.replace(spec, dtype=spec.shape.native))


def dumps(spec: Serving) -> str:
    """The spec as TOML that ``loads`` reads back to an equal one; values equal to the default are written too."""
    lines: list[str] = []
    _table(lines, _plain(spec), "")
    return "\n".join(lines).strip() + "\n"


def _build(cls: Any, data: Any, where: str, path: Path | None) -> Any:
    if not isinstance(data, dict):
        raise DataError(f"{where} is not a table", f"write [{where}]", path=path)
    hints = typing.get_type_hints(cls)
    for key in data:
        if key not in hints:
            raise UnknownName(f"key of {where}", key, hints)
    for f in dataclasses.fields(cls):
        needed = f.default is dataclasses.MISSING and f.default_factory is dataclasses.MISSING
        if needed and f.name not in data:
            raise DataError(f"{where} has no {f.name}", f"add {f.name} = …", path=path)
    return cls(**{key: _value(hints[key], v, f"{where}.{key}", path) for key, v in data.items()})


def _value(hint: Any, v: Any, where: str, path: Path | None) -> Any:
    origin, args = typing.get_origin(hint), typing.get_args(hint)
    if dataclasses.is_dataclass(hint):
        return _build(hint, v, where, path)
    if origin is tuple:
        if not isinstance(v, list):
            raise DataError(
                f"{where} is not a list", f"write [[{where.removeprefix('spec.')}]]", path=path
            )
        return tuple(_value(args[0], x, f"{where}[{i}]", path) for i, x in enumerate(v))
    if origin is Mapping:
        if not isinstance(v, dict):
            raise DataError(f"{where} is not a table", "write name = number", path=path)
        return {str(k): _value(args[1], x, f"{where}.{k}", path) for k, x in v.items()}
    if origin is typing.Literal:
        if v not in args:
            raise UnknownName(where, str(v), args)
        return v
    wanted = [
        a for a in (args if isinstance(hint, types.UnionType) else (hint,)) if a is not type(None)
    ]
    if bool not in wanted and isinstance(v, bool):
        raise DataError(
            f"{where} = {str(v).lower()} is a truth value", "give a number or text", path=path
        )
    if float in wanted and isinstance(v, int):
        return float(v)
    if not isinstance(v, tuple(wanted)):
        names = " or ".join(_TYPES.get(t, t.__name__) for t in wanted)
        raise DataError(f"{where} = {v!r} is not {names}", f"give {names}", path=path)
    if isinstance(v, float) and not math.isfinite(v):
        raise DataError(f"{where} = {v} is not finite", "give a number", path=path)
    return v


def _plain(x: Any) -> Any:
    if dataclasses.is_dataclass(x):
        return {f.name: _plain(getattr(x, f.name)) for f in dataclasses.fields(x)}
    if isinstance(x, tuple):
        return [_plain(v) for v in x]
    return dict(x) if isinstance(x, Mapping) else x


def _table(lines: list[str], data: Mapping[str, Any], prefix: str) -> None:
    later = []
    for key, v in data.items():
        if isinstance(v, dict) or (isinstance(v, list) and v and isinstance(v[0], dict)):
            later.append((key, v))
        elif v is not None and v != []:
            # JSON's strings, numbers and booleans are TOML's
            lines.append(f"{_key(key)} = {json.dumps(v, ensure_ascii=False)}")
    for key, v in later:
        name = f"{prefix}{_key(key)}"
        for item in v if isinstance(v, list) else [v]:
            if item:
                lines += ["", f"[[{name}]]" if isinstance(v, list) else f"[{name}]"]
                _table(lines, item, name + ".")


def _key(key: str) -> str:
    bare = key.replace("-", "").replace("_", "").isalnum() and key.isascii()
    return key if bare else json.dumps(key)

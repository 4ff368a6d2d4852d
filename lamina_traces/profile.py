"""The workload profile: what a workload is, in a JSON file that holds no row of it and can be shared.

    Profile ── parts: table → Part ── streams ── aspects: name → fitted aspect
            │                       ├ tail (the law of the small streams)
            │                       └ concentration (how the rows are spread over streams)
            └ unanswered (what the trace could not say, and what would record it)

``format`` is ``lamina-profile/1``. How it evolves: every aspect is optional and carries its own version; an
aspect that changes bumps its version, reads the old one, and leaves a fixture in ``tests/golden``; an
aspect this tool does not know is kept as it is, and warned about.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from importlib import resources
from pathlib import Path
from typing import Any

from . import __version__, presets, profile_schema
from .aspects import ASPECTS, Aspect, Finding, Unanswered, from_dict
from .errors import DataError, ModelError, Notice, UnknownName
from .schema import TABLES
from .streams import Concentration, Tail
from .units import LONGEST_S, format_number

FORMAT = "lamina-profile/1"


@dataclass(frozen=True)
class Stream:
    """One client, model or function with its own aspects. ``where``: the column values that select it;
    ``weight``: its share of the part's rows.
    """

    name: str
    weight: float
    where: Mapping[str, str]
    aspects: Mapping[str, Aspect]
    unknown: Mapping[str, Any] = field(default_factory=dict)
    """aspects of a newer tool, kept as they were read."""

    def to_dict(self) -> dict[str, Any]:
        aspects = {k: a.to_dict() for k, a in self.aspects.items()} | dict(self.unknown)
        return {
            "name": self.name,
            "weight": self.weight,
            "where": dict(self.where),
            "aspects": aspects,
        }


@dataclass(frozen=True)
class Part:
    """The streams of one table, the law of the small ones among them, and how concentrated the table is by each
    column that names streams."""

    table: str
    streams: tuple[Stream, ...]
    tail: Tail | None = None
    concentration: tuple[Concentration, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        return {
            "streams": [s.to_dict() for s in self.streams],
            "tail": self.tail.to_dict() if self.tail else None,
            "concentration": [c.to_dict() for c in self.concentration],
        }


@dataclass(frozen=True)
class Profile:
    """A workload profile. ``source`` says what it was fitted on: trace name, kind, nature, clock, tick_ns,
    rows, span_s, format, sha256 of the inputs, licence where known.
    """

    name: str
    parts: Mapping[str, Part]
    source: Mapping[str, Any]
    notices: tuple[Notice, ...] = ()
    unanswered: tuple[Unanswered, ...] = ()
    tool: str = f"lamina-traces {__version__}"

    def part(self, table: str) -> Part:
        """The part of a table. Raises ModelError where the profile has none."""
        if table not in self.parts:
            raise ModelError(
                f"profile {self.name!r} has no {table}, only {', '.join(self.parts) or 'nothing'}",
                "fit a trace that holds them",
            )
        return self.parts[table]

    def aspect(self, name: str, table: str = "llm_requests", stream: int = 0) -> Any:
        """One fitted aspect, or None where it was not fitted."""
        part = self.parts.get(table)
        return (
            part.streams[stream].aspects.get(name) if part and stream < len(part.streams) else None
        )

    def findings(self) -> list[Finding]:
        """What the profile says, in sentences, streams in order."""
        out = []
        for part in self.parts.values():
            out += [Finding("streams", c.text(), "", c.parameters()) for c in part.concentration]
            for stream in part.streams:
                for aspect in stream.aspects.values():
                    for f in aspect.findings():
                        prefix = f"{stream.name}: " if len(part.streams) > 1 else ""
                        out.append(replace(f, text=prefix + f.text))
            if part.tail:
                t = part.tail
                out.append(
                    Finding(
                        "streams",
                        f"About {t.streams:,} smaller streams, seen or not, share {t.share:.1%} of the rows; the largest of them has "
                        f"{format_number(float(t.rows.values[-1]))} times their mean.",
                        "grids of their sizes and means",
                    )
                )
        return out

    def to_dict(self) -> dict[str, Any]:
        return {
            "format": FORMAT,
            "name": self.name,
            "tool": self.tool,
            "source": dict(self.source),
            "parts": {k: p.to_dict() for k, p in self.parts.items()},
            "unanswered": [u.to_dict() for u in self.unanswered],
            "notices": [n.to_dict() for n in self.notices],
        }

    def dumps(self) -> str:
        """The JSON text: nested to a readable depth, arrays of numbers on one line, no NaN."""
        return _pretty(self.to_dict()) + "\n"

    @classmethod
    def from_dict(cls, d: Any, where: str = "profile") -> Profile:
        """Inverse of ``to_dict``. Raises DataError / ModelError saying what is wrong with it."""
        if not isinstance(d, dict) or "format" not in d:
            raise DataError(
                "is not a workload profile: it has no 'format'",
                "make one with: lamina-traces fit TRACE -o profile.json",
                path=where,
            )
        family, _, version = str(d["format"]).partition("/")
        if family != "lamina-profile":
            raise DataError(
                f"has format {d['format']!r}, not {FORMAT!r}",
                "make one with: lamina-traces fit TRACE -o profile.json",
                path=where,
            )
        if version != "1":
            raise DataError(
                f"has format {d['format']!r}, this tool reads {FORMAT!r}",
                "install a newer lamina-traces",
                path=where,
            )
        notices = []
        parts = {}
        try:
            notices = [Notice.from_dict(n) for n in d.get("notices", [])]
            for table, p in d["parts"].items():
                if table not in TABLES:
                    notices.append(
                        Notice(
                            "unknown-table",
                            f"this tool does not know the table {table!r}; left out",
                            table,
                        )
                    )
                    continue
                tail = p.get("tail")
                if not (tail is None or isinstance(tail, dict)):
                    raise TypeError(f"the tail of {table} is no object")
                parts[table] = Part(
                    table,
                    tuple(_stream(s, notices) for s in p["streams"]),
                    Tail.from_dict(tail),
                    tuple(Concentration.from_dict(c) for c in p.get("concentration", [])),
                )
                odd = {k for s in parts[table].streams for k in s.where} - set(TABLES[table].names)
                if odd:
                    raise ValueError(f"{table} has no column {min(odd)!r}")
            span_s = d["source"].get("span_s")
            if span_s is not None and not (
                isinstance(span_s, int | float) and 0 <= span_s <= LONGEST_S
            ):
                raise ValueError(f"the source has a span_s of {span_s!r}")
            profile = cls(
                str(d["name"]),
                parts,
                dict(d["source"]),
                tuple(dict.fromkeys(notices)),
                tuple(Unanswered.from_dict(u) for u in d.get("unanswered", [])),
                str(d.get("tool", "")),
            )
        except (LookupError, TypeError, ValueError, ArithmeticError, AttributeError) as e:
            place = profile_schema.fault(d)
            raise DataError(
                f"is damaged: {place or repr(e)}",
                "mend that place, or fit the profile again",
                path=where,
            ) from e
        return profile

    @classmethod
    def loads(cls, text: str, where: str = "profile") -> Profile:
        """From JSON text; NaN and Infinity are refused."""

        def refuse(x: str) -> float:
            raise DataError(
                f"holds {x}, which is not a number", "fit the profile again", path=where
            )

        def number(x: str) -> float:
            return float(x) if math.isfinite(float(x)) else refuse(x)

        def whole(x: str) -> int:
            return int(x) if len(x) < 25 else int(refuse(x))

        try:
            d = json.loads(text, parse_constant=refuse, parse_float=number, parse_int=whole)
        except json.JSONDecodeError as e:
            raise DataError(
                f"is not JSON: {e.msg}",
                "make one with: lamina-traces fit TRACE -o profile.json",
                path=where,
                line=e.lineno,
            ) from e
        except RecursionError as e:
            raise DataError(
                "is nested too deeply to be a profile", "fit the profile again", path=where
            ) from e
        return cls.from_dict(d, where)

    @classmethod
    def load(cls, path: str | Path) -> Profile:
        """From a file."""
        p = Path(path)
        try:
            text = p.read_text(encoding="utf-8")
        except FileNotFoundError as e:
            raise DataError(
                "no such file",
                "list library profiles with: lamina-traces catalog presets",
                path=path,
            ) from e
        except IsADirectoryError as e:
            raise DataError("is a directory, not a profile", "name a .json file", path=path) from e
        except (OSError, UnicodeDecodeError) as e:
            raise DataError(
                f"cannot be read: {e}", "name a .json file made by: lamina-traces fit", path=path
            ) from e
        return cls.loads(text, str(path))

    @classmethod
    def library(cls, name: str) -> Profile:
        """A profile that ships with the package, fitted such as ``azure-code`` or stated such as ``text-to-sql``."""
        names = library_names()
        if name not in names:
            raise UnknownName("library profile", name, names, "lamina-traces catalog presets")
        if name in presets.names():
            return cls._stated(presets.load(name))
        return cls.loads(_library().joinpath(f"{name}.json").read_text(encoding="utf-8"), name)

    @classmethod
    def _stated(cls, preset: presets.Preset) -> Profile:
        streams = tuple(Stream(s.name, s.weight, s.where, s.aspects) for s in preset.streams)
        parts = {"llm_requests": Part("llm_requests", streams)}
        return cls(preset.name, parts, preset.source())


def _library() -> Any:
    return resources.files("lamina_traces.sample_data").joinpath("profiles")


def library_names() -> list[str]:
    """Names of the profiles that ship with the package: fitted ones, and presets."""
    return sorted([*fitted_names(), *presets.names()])


def fitted_names() -> list[str]:
    """Names of the profiles that ship with the package and were fitted to a trace."""
    folder = _library()
    if not folder.is_dir():
        return []
    return sorted(
        e.name.removesuffix(".json") for e in folder.iterdir() if e.name.endswith(".json")
    )


def _stream(s: dict[str, Any], notices: list[Notice]) -> Stream:
    known, unknown = {}, {}
    for name, d in s["aspects"].items():
        if name in ASPECTS:
            try:
                known[name] = from_dict(name, d)
            except ModelError as e:
                raise ModelError(f"stream {s.get('name')!r}: {e.message}", e.hint) from e
        else:
            unknown[name] = d
            notices.append(
                Notice(
                    "unknown-aspect",
                    f"this tool does not know the aspect {name!r}; it is kept and not used",
                    name,
                )
            )
    weight = float(s["weight"])
    if not (math.isfinite(weight) and weight > 0):
        raise ModelError(
            f"stream {s.get('name')!r} has the weight {weight}", "weights are positive"
        )
    return Stream(
        str(s["name"]), weight, {str(k): str(v) for k, v in s["where"].items()}, known, unknown
    )


def _pretty(x: Any, indent: int = 0) -> str:
    if isinstance(x, dict) and x:
        pad = " " * (indent + 1)
        rows = [
            f"{pad}{json.dumps(k, ensure_ascii=False)}: {_pretty(v, indent + 1)}"
            for k, v in x.items()
        ]
        return "{\n" + ",\n".join(rows) + "\n" + " " * indent + "}"
    if isinstance(x, list) and any(isinstance(v, dict | list) for v in x):
        pad = " " * (indent + 1)
        return (
            "[\n" + ",\n".join(pad + _pretty(v, indent + 1) for v in x) + "\n" + " " * indent + "]"
        )
    return json.dumps(x, ensure_ascii=False, allow_nan=False)

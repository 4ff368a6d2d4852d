"""Presets: workloads that nobody gave a trace of, stated by hand from papers, as profiles of the library.

Each is a TOML file of ``sample_data/presets``, in the words of the field; every number in it has a unit, a source and a
basis. ``load`` compiles one to aspects, which ``Profile.library`` makes a profile of: so this stands below ``profile``, and a name
of a preset works wherever that of a fitted profile does. They lie beside the fitted profiles because both are data that a
user may read, and are packaged together.
"""

from __future__ import annotations

import functools
import tomllib
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, replace
from importlib import resources
from typing import Any

import numpy as np

from ..aspects import Aspect
from ..aspects.arrival_process import Arrivals
from ..errors import DataError, UnknownName
from ..units import Quantity, short
from . import parts
from .statements import Book, Table

__all__ = ["Preset", "Share", "load", "loads", "names"]


@dataclass(frozen=True)
class Share:
    """One stream of a preset: its ``weight`` of the requests, the column values that name it, and its aspects."""

    name: str
    weight: float
    where: Mapping[str, str]
    aspects: Mapping[str, Aspect]


@dataclass(frozen=True)
class Preset:
    """``paper``: what it is after; ``models``: what one session, workflow or request of it is; ``limits``: what it leaves
    out. ``quantities``: every number of its file, by its place there."""

    name: str
    title: str
    paper: str
    models: str
    limits: str
    quantities: Mapping[str, Quantity]
    streams: tuple[Share, ...]
    span_s: float

    @property
    def bases(self) -> dict[str, int]:
        """How many of the numbers rest on what."""
        return dict(Counter(q.basis for q in self.quantities.values()).most_common())

    def source(self) -> dict[str, Any]:
        """What a profile says of where it comes from."""
        return {
            "kind": "llm",
            "nature": "synthetic",
            "clock": "relative",
            "table": "llm_requests",
            "rows": None,
            "span_s": self.span_s,
            "format": None,
            "licence": None,
            "preset": {
                "title": self.title, "paper": self.paper, "models": self.models, "limits": self.limits,
                "quantities": {k: q.to_dict() for k, q in self.quantities.items()},
            },
        }  # fmt: skip


def _folder() -> Any:
    return resources.files("lamina_traces.sample_data").joinpath("presets")


@functools.cache
def names() -> tuple[str, ...]:
    """Of the presets that ship with the package."""
    found = (e.name for e in _folder().iterdir() if e.name.endswith(".toml"))
    return tuple(sorted(n.removesuffix(".toml") for n in found))


@functools.cache
def load(name: str) -> Preset:
    """A preset that ships with the package. Raises UnknownName."""
    if name not in names():
        raise UnknownName("preset", name, names(), "lamina-traces catalog presets")
    text = _folder().joinpath(f"{name}.toml").read_text(encoding="utf-8")
    return loads(text, name, f"presets/{name}.toml")


def loads(text: str, name: str, where: str) -> Preset:
    """From the text of a file; ``where``: its name, for messages. Raises DataError that names the file, the key, and what is
    wrong with it."""
    try:
        stated = tomllib.loads(text)
    except tomllib.TOMLDecodeError as e:
        raise DataError(f"is not TOML: {e}", "compare it with a preset that loads", path=where) from e  # fmt: skip
    references = stated.pop("references", {})
    if not isinstance(references, Mapping) or not all(isinstance(v, str) for v in references.values()):  # fmt: skip
        raise DataError("references: is no table of texts", 'write NAME = "where it was read"', path=where)  # fmt: skip
    book = Book(where, references)
    top = Table(stated, "", book)
    words = {k: top.text(k) for k in ("title", "paper", "models", "limits")}
    aspects, span_s = parts.aspects(top)
    streams = _adapters(top, aspects)
    top.close()
    return Preset(name, **words, quantities=dict(book.quantities), streams=streams, span_s=span_s)


def _adapters(top: Table, aspects: Mapping[str, Aspect]) -> tuple[Share, ...]:
    """One stream, or one for each adapter in shares of Zipf's law, and one for requests to the model without any."""
    t = top.table("adapters")
    if t is None:
        return (Share("all", 1.0, {}, aspects),)
    count = round(t.number("count", "adapters", most=512))
    zipf = t.number("zipf", "", above_zero=False)
    base = t.number("without", "share", most=0.99, above_zero=False) if t.has("without") else 0.0
    t.close()
    weights = np.arange(1, count + 1.0) ** -zipf
    weights *= (1 - base) / weights.sum()
    named = [(f"adapter-{i}", float(w), {"adapter": f"adapter-{i}"}) for i, w in enumerate(weights, 1)]  # fmt: skip
    if base:
        named.append(("no adapter", base, {}))
    return tuple(Share(n, short(w), where, _thinned(aspects, w)) for n, w, where in named)


def _thinned(aspects: Mapping[str, Aspect], weight: float) -> Mapping[str, Aspect]:
    own = aspects["arrivals"]
    assert isinstance(own, Arrivals)  # noqa: S101 - parts made it
    return {**aspects, "arrivals": replace(own, rate_per_s=short(own.rate_per_s * weight))}

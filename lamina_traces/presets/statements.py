"""Statements: what a preset's TOML says, read number by number, each with unit, basis and source.

A table gives ``basis`` and ``source`` for all numbers in it and in the tables below it; ``sources.KEY = "basis: source"``
says otherwise for one of them. A source is a text, or the name of one under ``[references]``.

A law is one number, or a table with what is known of it::

    {value}                                                       always the same
    {median, p90}  {median, p99}  {mean, median}  {mean, cv}     lognormal
    {mean, law = "exponential"}
    {parts = [{share, …law}, …]}                                  a mixture

``min`` and ``max`` cut any of them; a stated mean is that of what is left. ``plus`` is added in the end.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, get_args

import numpy as np
import numpy.typing as npt
from scipy import special

from ..distributions import Grid
from ..errors import DataError
from ..units import Basis, Quantity, short

Array = npt.NDArray[np.float64]

BASES: tuple[Basis, ...] = ("paper", "measured", "derived", "assumed")
"""paper: stated in a publication or its published code; measured: by us on published data; derived: computed from other
numbers of the preset."""
KNOTS = 257
_MIXED = 4096
_P90, _P99 = 1.2815515655446004, 2.3263478740408408
"""standard deviations of a normal law from its median to p90 and p99."""


@dataclass(frozen=True, eq=False)
class Law:
    """A law as its quantiles at equal steps of probability, linear between."""

    values: Array

    @property
    def mean(self) -> float:
        return float((self.values[1:] + self.values[:-1]).mean() / 2)

    def quantile(self, u: Array) -> Array:
        """Values at ``u`` in [0, 1]."""
        return self.grid().quantile(u)

    def grid(self) -> Grid:
        """As profiles store it; no row was counted."""
        return Grid(np.array([short(v) for v in self.values]), short(self.mean), 0.0)


@dataclass(eq=False)
class Book:
    """One file's numbers, as they are read. ``where``: its name, for messages."""

    where: str
    references: Mapping[str, str]
    quantities: dict[str, Quantity] = field(default_factory=dict)

    def fault(self, key: str, text: str, hint: str | None) -> DataError:
        """``presets/rag.toml: arrivals.rate: …``."""
        return DataError(f"{key}: {text}", hint, path=self.where)


class Table:
    """A table of the file. Every key must be asked for by somebody; ``close`` complains of those that nobody knows."""

    def __init__(self, stated: Mapping[str, Any], path: str, book: Book, above: Table | None = None) -> None:  # fmt: skip
        self.stated, self.path, self.book = stated, path, book
        self.asked = {"basis", "source", "sources"}
        self.basis: str = str(stated.get("basis", above.basis if above else ""))
        self.source: str = str(stated.get("source", above.source if above else ""))
        own = stated.get("sources", {})
        if not isinstance(own, Mapping):
            raise self.fault("sources", "is no table", 'write sources.KEY = "basis: source"')
        self.sources: Mapping[str, Any] = own

    def fault(self, key: str, text: str, hint: str | None) -> DataError:
        return self.book.fault(self.name(key), text, hint)

    def name(self, key: str) -> str:
        """Of a key, from the top of the file."""
        return f"{self.path}.{key}" if self.path else key

    def has(self, key: str) -> bool:
        self.asked.add(key)
        return key in self.stated

    def number(self, key: str, unit: str, *, most: float = math.inf, above_zero: bool = True) -> float:  # fmt: skip
        """A number of 0 or more, which becomes a Quantity. Raises DataError."""
        if not self.has(key):
            raise self.fault(key, "is missing", f"state {key} in {unit or 'plain numbers'}")
        value = self.stated[key]
        plain = isinstance(value, int | float) and not isinstance(value, bool)
        if not plain or not math.isfinite(value) or not 0 <= value <= most or (above_zero and value == 0):  # fmt: skip
            ends = f"{'above 0' if above_zero else 'of 0 or more'}{f', up to {most:g}' if most < math.inf else ''}"
            raise self.fault(key, f"{value!r} is no number {ends}", f"give one in {unit or 'plain numbers'}")  # fmt: skip
        self.book.quantities[self.name(key)] = self._quantity(key, float(value), unit)
        return float(value)

    def _quantity(self, key: str, value: float, unit: str) -> Quantity:
        basis, source = self.basis, self.source
        if key in self.sources:
            basis, _, source = (part.strip() for part in str(self.sources[key]).partition(":"))
        source = self.book.references.get(source, source)
        if basis not in BASES or not source:
            raise self.fault(
                key, f"has no source, or the unknown basis {basis!r}", f"give its table basis ({' | '.join(BASES)}) and source"
            )  # fmt: skip
        return Quantity(value, unit, source, basis)

    def word(self, key: str, known: tuple[str, ...], default: str) -> str:
        """One of the ``known`` words."""
        value = self.stated[key] if self.has(key) else default
        if value not in known:
            raise self.fault(key, f"{value!r} is not known", f"known: {', '.join(known)}")
        return str(value)

    def text(self, key: str, default: str | None = None) -> str:
        """A text; required where there is no ``default``."""
        value = self.stated[key] if self.has(key) else default
        if not isinstance(value, str):
            raise self.fault(key, "is missing" if value is None else f"{value!r} is no text", f'write {key} = "…"')  # fmt: skip
        return value

    def texts(self, key: str) -> tuple[str, ...]:
        """A list of texts, empty where there is none."""
        value = self.stated[key] if self.has(key) else []
        if not isinstance(value, list) or not all(isinstance(v, str) for v in value):
            raise self.fault(key, f"{value!r} is no list of texts", f'write {key} = ["…"]')
        return tuple(value)

    def table(self, key: str) -> Table | None:
        """A table below this one; None where there is none."""
        if not self.has(key):
            return None
        value = self.stated[key]
        if not isinstance(value, Mapping):
            raise self.fault(key, f"{value!r} is no table", f"write [{self.name(key)}]")
        return Table(value, self.name(key), self.book, self)

    def tables(self, key: str) -> list[Table]:
        """A list of tables; each is called by its ``name`` or by its place."""
        value = self.stated[key] if self.has(key) else []
        if not isinstance(value, list) or not all(isinstance(v, Mapping) for v in value):
            raise self.fault(key, "is no list of tables", f"write [[{self.name(key)}]]")
        names = [str(v.get("name", i)) for i, v in enumerate(value, 1)]
        found = [Table(v, f"{self.name(key)}.{n}", self.book, self) for n, v in zip(names, value, strict=True)]  # fmt: skip
        for t in found:
            t.asked.add("name")
        return found

    def law(self, key: str, unit: str) -> Law:
        """A law of numbers of 0 or more. Raises DataError."""
        if not self.has(key) or not isinstance(self.stated[key], Mapping):
            return Law(np.full(KNOTS, self.number(key, unit, above_zero=False)))
        below = self.table(key)
        assert below is not None  # noqa: S101 - it is a Mapping
        return law_of(below, unit)

    def maybe(self, key: str, unit: str) -> Law | None:
        """A law, None where none is stated."""
        return self.law(key, unit) if self.has(key) else None

    def close(self) -> None:
        """Raises DataError on a key that nobody asked for."""
        odd = sorted(set(self.stated) - self.asked)
        if odd:
            known = ", ".join(sorted(self.asked - {"basis", "source", "sources"}))
            raise self.fault(odd[0], "is not known here", f"known: {known}")
        odd = sorted(set(self.sources) - set(self.stated))
        if odd:
            raise self.fault(f"sources.{odd[0]}", "names no number of this table", "remove it")


# --- laws ------------------------------------------------------------------------------------------


def law_of(t: Table, unit: str) -> Law:
    """The law that a table states."""
    low = t.number("min", unit, above_zero=False) if t.has("min") else 0.0
    high = t.number("max", unit) if t.has("max") else math.inf
    plus = t.number("plus", unit) if t.has("plus") else 0.0
    if low > high:
        raise t.fault("min", f"{low:g} is above max, {high:g}", "swap them")
    if t.has("value"):
        fixed = t.number("value", unit, above_zero=False)
        t.close()
        return Law(np.full(KNOTS, np.clip(fixed, low, high) + plus))
    if t.has("parts"):
        values = _mixture([(p.number("share", "share", most=1.0), law_of(p, unit)) for p in t.tables("parts")], t)  # fmt: skip
        t.close()
        return Law(np.clip(values, low, high) + plus)
    shape, mean = _shape(t, unit)
    t.close()
    values = np.clip(shape, low, high)
    if mean is not None:
        values = _with_mean(lambda s: np.clip(shape * s, low, high), mean, t)
    return Law(values + plus)


def _shape(t: Table, unit: str) -> tuple[Array, float | None]:
    """(quantiles before they are cut, the mean where it is stated)."""
    stated = {k for k in ("mean", "median", "p90", "p99", "cv") if t.has(k)}
    family = t.word("law", ("lognormal", "exponential"), "lognormal")
    known = {k: t.number(k, "" if k == "cv" else unit) for k in sorted(stated)}
    if family == "exponential" and stated == {"mean"}:
        return _exponential(known["mean"]), known["mean"]
    if family == "lognormal" and stated in ({"median", "p90"}, {"median", "p99"}):
        end, of = (known["p90"], _P90) if "p90" in known else (known["p99"], _P99)
        if end < known["median"]:
            raise t.fault("median", "is above the higher quantile", "swap them")
        return _lognormal(math.log(known["median"]), math.log(end / known["median"]) / of), None
    if family == "lognormal" and stated == {"mean", "median"}:
        if known["mean"] < known["median"]:
            raise t.fault("mean", "of a lognormal law is not below its median", "swap them")
        sigma = math.sqrt(2 * math.log(known["mean"] / known["median"]))
        return _lognormal(math.log(known["median"]), sigma), None
    if family == "lognormal" and stated == {"mean", "cv"}:
        sigma = math.sqrt(math.log1p(known["cv"] ** 2))
        return _lognormal(math.log(known["mean"]) - sigma**2 / 2, sigma), known["mean"]
    raise t.fault(
        "law", f"cannot be told from {', '.join(sorted(stated)) or 'nothing'}",
        "give a number, or median and p90 (or p99), mean and median, mean and cv, mean of an exponential law, or parts",
    )  # fmt: skip


_U = np.linspace(0.0, 1.0, KNOTS)


def _lognormal(mu: float, sigma: float) -> Array:
    """The last knot stands where the mean beyond the one before it is the law's own, which no quantile at 1 would do."""
    z = special.ndtri(np.clip(_U, 1e-3, None)[:-1])
    values: Array = np.exp(mu + sigma * z)
    beyond = math.exp(mu + sigma**2 / 2) * float(special.ndtr(sigma - z[-1])) * (KNOTS - 1)
    return np.append(values, max(2 * beyond - values[-1], values[-1]))


def _exponential(mean: float) -> Array:
    values: Array = -mean * np.log1p(-_U[:-1])
    return np.append(values, values[-1] + 2 * mean)


def _mixture(parts: list[tuple[float, Law]], t: Table) -> Array:
    whole = math.fsum(share for share, _ in parts)
    if not parts or abs(whole - 1) > 1e-6:
        raise t.fault("parts", f"have shares that add up to {whole:g}", "make them add up to 1")
    u = (np.arange(_MIXED) + 0.5) / _MIXED
    x = np.concatenate([law.quantile(u) for _, law in parts])
    weight = np.concatenate([np.full(_MIXED, share / _MIXED) for share, _ in parts])
    order = np.argsort(x, kind="stable")
    values: Array = np.interp(_U, np.cumsum(weight[order]) - weight[order] / 2, x[order])
    mean = math.fsum(share * law.mean for share, law in parts)
    return with_last(values, mean)


def with_last(values: Array, mean: float) -> Array:
    """With the last knot where the mean of the grid is as near to ``mean`` as it goes: the furthest value that was looked at
    says little of a tail."""
    last = values[-1] + 2 * (KNOTS - 1) * (mean - Law(values).mean)
    return np.append(values[:-1], max(last, values[-2]))


def _with_mean(of: Callable[[float], Array], mean: float, t: Table) -> Array:
    """The law of a family of scales that has this mean."""
    low, high = -20.0, 20.0
    for _ in range(80):
        middle = (low + high) / 2
        low, high = (middle, high) if Law(of(math.exp(middle))).mean < mean else (low, middle)
    found = of(math.exp(high))
    if abs(Law(found).mean - mean) > 1e-3 * mean:
        raise t.fault("mean", f"{mean:g} cannot be between min and max", "widen them")
    return found


assert set(BASES) <= set(get_args(Basis))  # noqa: S101

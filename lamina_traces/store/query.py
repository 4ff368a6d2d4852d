"""The named queries: ``queries/<aspect>/<name>.sql``, one file per question.

A file begins with a comment that says what is asked, and then

    -- parameters: $width_ns width of a window; $origin_ns first arrival      (or: none)
    -- columns: k BIGINT, n BIGINT

``FROM events`` reads the main table of the trace; other tables are named. Parameters are placed into the
syntax tree as literals, never into the text.
"""

from __future__ import annotations

import functools
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import resources
from importlib.resources.abc import Traversable
from typing import TYPE_CHECKING, Any

from ..errors import ModelError, UnknownName, UsageError
from ..schema import TABLES
from .engine import EVENTS

if TYPE_CHECKING:
    from sqlglot import exp

_PARAMETER = re.compile(r"\$(\w+)\s*(.*)", re.DOTALL)
_HEADER = "the header is: what is asked; -- parameters: $name meaning; … (or none); -- columns: name TYPE, …"
_COLUMN = re.compile(r"(\w+)\s+([A-Z]+(?:\[\])?)")


@dataclass(frozen=True)
class Query:
    """A linted query. ``parameters``: name → meaning; ``columns``: name → DuckDB type of the result. It is parsed when
    a parameter has to be placed: sqlglot costs more than most queries."""

    name: str
    doc: str
    parameters: Mapping[str, str]
    columns: Mapping[str, str]
    sql: str

    @functools.cached_property
    def tree(self) -> exp.Query:
        """The syntax tree."""
        from . import lint

        return lint.parsed(self.sql, f"query {self.name}")

    @property
    def tables(self) -> frozenset[str]:
        """The tables whose names occur in it."""
        words = set(re.findall(r"\w+", self.sql))
        return frozenset(words & {*TABLES, EVENTS})

    def bind(self, values: Mapping[str, Any]) -> str:
        """DuckDB text with each ``$parameter`` replaced by a literal. Raises UsageError on a missing,
        unknown or unfit value."""
        for name in values:
            if name not in self.parameters:
                raise UnknownName(f"parameter of query {self.name}", name, self.parameters)
        missing = [p for p in self.parameters if p not in values]
        if missing:
            raise UsageError(
                f"query {self.name} needs the parameter {missing[0]!r}",
                f"{missing[0]}: {self.parameters[missing[0]]}",
            )
        if not self.parameters:
            return self.sql
        from sqlglot import exp

        from . import lint

        tree = self.tree.copy()
        for place in list(tree.find_all(exp.Placeholder)):
            value = values[str(place.this)]
            if isinstance(place.parent, exp.In) and isinstance(value, list | tuple):
                place.parent.set("field", None)
                place.parent.set("expressions", [literal(v) for v in value])
            else:
                place.replace(literal(value))
        return lint.render(tree)


def literal(value: Any) -> exp.Expr:
    """A value as a node of the tree: None, bool, int, float (finite), str, or a list of these."""
    from sqlglot import exp

    if value is None:
        return exp.Null()
    if isinstance(value, bool):
        return exp.Boolean(this=value)
    if isinstance(value, str) and not any("\ud800" <= c <= "\udfff" for c in value):
        return exp.Literal.string(value)
    if isinstance(value, list | tuple):
        return exp.Array(expressions=[literal(v) for v in value])
    if hasattr(value, "item") and not isinstance(value, int | float):
        return literal(value.item() if getattr(value, "ndim", 0) == 0 else value.tolist())
    if isinstance(value, int):
        number: exp.Expr = exp.Literal.number(str(abs(value)))
    elif isinstance(value, float) and math.isfinite(value):
        # With an exponent DuckDB reads a DOUBLE; without one it would be a DECIMAL.
        number = exp.Literal.number(f"{abs(value):.17e}")
    else:
        raise UsageError(
            f"{value!r} cannot be a parameter of a query",
            "give null, true or false, a finite number, text, or a list of these",
        )
    return exp.Paren(this=exp.Neg(this=number)) if value < 0 else number


def parse(name: str, sql: str) -> Query:
    """Lint a query and read its header. Raises UsageError where it breaks the subset, ModelError where the
    header does not say what the text does."""
    from sqlglot import exp

    from . import lint

    tree = lint.check(sql, f"query {name}")
    query = _read(name, sql)
    used = {str(p.this) for p in tree.find_all(exp.Placeholder)}
    if used != set(query.parameters):
        odd = ", ".join(sorted(used ^ set(query.parameters)))
        raise ModelError(
            f"query {name}: the header and the text disagree on the parameters {odd}", _HEADER
        )
    given = [s.alias_or_name for s in tree.selects]
    if given != list(query.columns):
        raise ModelError(
            f"query {name}: the header lists {list(query.columns)}, the query gives {given}",
            _HEADER,
        )
    return query


def _read(name: str, sql: str) -> Query:
    """A query by its header."""
    doc, fields = _header(sql)
    if not doc or set(fields) != {"parameters", "columns"}:
        raise ModelError(
            f"query {name}: the header must say what is asked, its parameters and its columns",
            _HEADER,
        )
    parameters: dict[str, str] = {}
    if fields["parameters"] != "none":
        for part in fields["parameters"].split(";"):
            match = _PARAMETER.fullmatch(part.strip())
            if match is None:
                raise ModelError(
                    f"query {name}: cannot read the parameter {part.strip()!r} of the header",
                    _HEADER,
                )
            parameters[match[1]] = match[2].strip()
    columns: dict[str, str] = {}
    for part in fields["columns"].split(","):
        match = _COLUMN.fullmatch(part.strip())
        if match is None:
            raise ModelError(
                f"query {name}: cannot read the column {part.strip()!r} of the header", _HEADER
            )
        columns[match[1]] = match[2]
    return Query(name, doc, parameters, columns, sql)


def _header(sql: str) -> tuple[str, dict[str, str]]:
    """The comment lines before the text: what is asked, and the fields, which may go on on the next line."""
    doc: list[str] = []
    fields: dict[str, str] = {}
    field = ""
    for line in sql.splitlines():
        if not line.startswith("--"):
            break
        body = line[2:].strip()
        match = re.match(r"(parameters|columns):\s*(.*)", body)
        if match is not None:
            field = match[1]
            fields[field] = match[2].strip()
        elif field:
            fields[field] = f"{fields[field]} {body}".strip()
        else:
            doc.append(body)
    return " ".join(doc).strip(), fields


def _root() -> Traversable:
    return resources.files("lamina_traces.queries")


@functools.cache
def names() -> tuple[str, ...]:
    """All queries, as ``aspect/name``."""
    found = []
    for folder in _root().iterdir():
        if folder.is_dir():
            found += [
                f"{folder.name}/{f.name[:-4]}" for f in folder.iterdir() if f.name.endswith(".sql")
            ]
    return tuple(sorted(found))


@functools.cache
def load(name: str) -> Query:
    """The query ``aspect/name``. Raises UnknownName."""
    if name not in names():
        raise UnknownName("query", name, names(), "lamina-traces catalog queries")
    folder, stem = name.split("/")
    # the tests lint every query that ships; here that would cost more than running most of them
    return _read(name, (_root() / folder / f"{stem}.sql").read_text(encoding="utf-8"))

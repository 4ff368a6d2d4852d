"""The SQL that queries/ may be written in: what DuckDB and Spark were measured to compute alike.

An allow-list over the syntax tree, so that a construct nobody has compared is refused until somebody has.
Of 129 constructs probed on both engines 47 disagreed, many without an error: rounding or truncation in
CAST(2.7 AS INT), natural or decimal log(x), exact or approximate percentiles, sample or population
skewness, ties broken by whatever came first. Where types matter (casts, sums) they are inferred from the
canonical schema.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import sqlglot
from sqlglot import exp
from sqlglot.errors import SqlglotError
from sqlglot.optimizer.annotate_types import annotate_types
from sqlglot.optimizer.qualify import qualify

from ..errors import UsageError
from ..schema import TABLES
from .engine import EVENTS

_STRUCTURE: tuple[type[exp.Expr], ...] = (
    exp.Select, exp.Subquery, exp.Union, exp.CTE, exp.With, exp.From, exp.Join, exp.Table, exp.TableAlias,
    exp.Where, exp.Group, exp.Having, exp.Qualify, exp.Order, exp.Ordered, exp.Limit, exp.Distinct,
    exp.Alias, exp.Column, exp.Identifier, exp.Star, exp.Paren, exp.Tuple, exp.Array, exp.Literal,
    exp.Boolean, exp.Null, exp.Placeholder, exp.DataType, exp.Window, exp.WindowSpec, exp.Filter,
    exp.IgnoreNulls, exp.Var,
)  # fmt: skip
_OPERATORS: tuple[type[exp.Expr], ...] = (
    exp.Add, exp.Sub, exp.Mul, exp.Div, exp.IntDiv, exp.Mod, exp.Neg, exp.And, exp.Or, exp.Not, exp.EQ,
    exp.NEQ, exp.GT, exp.GTE, exp.LT, exp.LTE, exp.Is, exp.In, exp.Between, exp.Like, exp.DPipe,
    exp.BitwiseLeftShift, exp.BitwiseRightShift, exp.BitwiseAnd, exp.Case, exp.If, exp.Cast, exp.Exists,
)  # fmt: skip
_FUNCTIONS: tuple[type[exp.Expr], ...] = (
    exp.Abs, exp.Ceil, exp.Coalesce, exp.Exp, exp.Floor, exp.Greatest, exp.Least, exp.Ln, exp.Log, exp.Lower,
    exp.Nullif, exp.Pow, exp.Sign, exp.Sqrt, exp.Upper, exp.Explode, exp.Unnest,
    exp.Avg, exp.Corr, exp.Count, exp.CountIf, exp.CovarPop, exp.CovarSamp, exp.Max, exp.Median, exp.Min,
    exp.Stddev, exp.StddevPop, exp.StddevSamp, exp.Sum, exp.Variance, exp.VariancePop,
    exp.DenseRank, exp.Lag, exp.Lead, exp.Rank, exp.RowNumber,
)  # fmt: skip
_ALLOWED: frozenset[type[exp.Expr]] = frozenset(_STRUCTURE + _OPERATORS + _FUNCTIONS)
_IN_EXPRESSION = _ALLOWED - {
    exp.Select, exp.Subquery, exp.Union, exp.CTE, exp.With, exp.From, exp.Join, exp.Table, exp.TableAlias,
    exp.Where, exp.Group, exp.Having, exp.Qualify, exp.Order, exp.Ordered, exp.Limit, exp.Distinct,
    exp.Alias, exp.Star, exp.Placeholder, exp.Window, exp.WindowSpec, exp.Filter, exp.IgnoreNulls,
    exp.Explode, exp.Unnest, exp.Exists, exp.Lag, exp.Lead, exp.Rank, exp.RowNumber, exp.DenseRank,
}  # fmt: skip

_TIE_FREE = (exp.Sum, exp.Count, exp.CountIf, exp.Min, exp.Max, exp.Avg, exp.Rank, exp.DenseRank)
"""over rows that tie they give the same for each, unless a ROWS frame cuts between them."""

_WHY: dict[type[exp.Expr], str] = {
    exp.TryCast: "hides bad values; reject them at ingest",
    exp.WithinGroup: "becomes an approximate percentile on Spark; take it from a frequency table",
    exp.PercentileCont: "take quantiles from a frequency table",
    exp.PercentileDisc: "take quantiles from a frequency table",
    exp.Quantile: "take quantiles from a frequency table",
    exp.ApproxQuantile: "take quantiles from a frequency table",
    exp.Skewness: "sample on one engine, population on the other",
    exp.Kurtosis: "sample on one engine, population on the other",
    exp.TimeToUnix: "fractional or whole seconds; use *_ns columns",
    exp.DayOfWeek: "starts at 0 or 1; use (ns // 86400000000000 + 4) % 7",
    exp.DayOfWeekIso: "is mis-translated; use (ns // 86400000000000 + 4) % 7",
    exp.Pivot: "use CASE WHEN",
    exp.ArgMax: "differs on ties",
    exp.ArgMin: "differs on ties",
    exp.First: "differs on ties",
    exp.Bracket: "list slices differ",
    exp.Slice: "list slices differ",
    exp.GenerateSeries: "Spark has no table of that name; give a list parameter to UNNEST",
    exp.Length: "of text or of a list? they differ",
    exp.Trunc: "use FLOOR",
    exp.Round: "halves go to different sides; use FLOOR(x + 0.5)",
}

_INTEGERS = {
    exp.DType[n]
    for n in ("TINYINT", "SMALLINT", "INT", "BIGINT", "UTINYINT", "USMALLINT", "UINT", "UBIGINT")
}
_CASTS = {exp.DType[n] for n in ("INT", "BIGINT", "DOUBLE", "VARCHAR", "TEXT", "BOOLEAN")}

SCHEMA: dict[str, object] = {t.name: {c.name: c.type for c in t.columns} for t in TABLES.values()}
SCHEMA[EVENTS] = {"row_id": "BIGINT", "arrival_ns": "BIGINT"}
"""what a query may name: the canonical tables, and what all events have in common."""


_WHERE = "--where"
_CONDITIONS = (
    "conditions compare columns: --where \"input_tokens > 1000 and status = 'ok'\", "
    '"model like \'llama%\'", "output_tokens between 1 and 50", "ttft_s is not null"'
)
_SUBSET = (
    "queries are one SELECT of what DuckDB and Spark compute alike; the files in queries/ show it"
)


def parsed(sql: str, where: str = "query") -> exp.Query:
    """The syntax tree of one SELECT, not looked at further. Raises UsageError."""
    trees = _parsed(sql, where, "SQL")
    if len(trees) != 1 or not isinstance(trees[0], exp.Query):
        raise _refusal(where, "must be one SELECT")
    return trees[0]


def check(sql: str, where: str = "query") -> exp.Query:
    """The syntax tree of one SELECT that both engines read alike.

    Raises UsageError that names ``where``, the construct and the way around it.
    """
    tree = parsed(sql, where)
    for node in tree.walk():
        _check_node(node, where, _ALLOWED)
    for select in tree.selects:
        if (
            isinstance(select, exp.Star)
            or not select.alias_or_name
            or isinstance(select.this, exp.Star)
        ):
            raise _refusal(where, "the outermost SELECT must name its columns")
    tables = {c.alias for c in tree.find_all(exp.CTE)}
    for table in tree.find_all(exp.Table):
        if table.name not in tables and (table.name not in SCHEMA or table.db or table.catalog):
            raise _refusal(where, f"reads {table.sql('duckdb')}, which is no canonical table")
    _check_types(tree, where)
    _check_ties(tree, where)
    return tree


def check_condition(text: str, table: str, where: str = _WHERE) -> exp.Expr:
    """The tree of one condition over the columns of ``table``: comparisons and plain functions only.

    Raises UsageError (UnknownName for a column).
    """
    trees = _parsed(text, where, "a condition")
    if len(trees) != 1 or trees[0] is None:
        raise _refusal(where, "must be one condition")
    tree = trees[0]
    known = TABLES[table]
    for node in tree.walk():
        if isinstance(node, exp.Query | exp.Subquery | exp.Star):
            raise _refusal(where, "must be one condition on the columns of a row, without SELECT")
        _check_node(node, where, _IN_EXPRESSION)
        if isinstance(node, exp.Column):
            if node.table:
                raise _refusal(where, f"names the table {node.table!r}; a column name is enough")
            known[node.name]
        if isinstance(node, exp.AggFunc):
            raise _refusal(where, f"{_name(node)} is over many rows; a condition is on one")
    tree = tree.unnest() if isinstance(tree, exp.Paren) else tree
    if not isinstance(tree, exp.Condition) or isinstance(tree, exp.Literal | exp.Null):
        raise _refusal(where, "must be a condition such as: status = 'ok' AND input_tokens > 100")
    return tree


def transpile(sql: str) -> str:
    """The query in Spark's SQL; lint it first, since the translation is silent about what differs."""
    return render(sqlglot.parse_one(sql, read="duckdb"), "spark")


def render(tree: exp.Expr, dialect: str = "duckdb") -> str:
    """The text of a tree. sqlglot writes log2(x) as LOG(2, x), whose quotient of logarithms puts
    powers of two into the bin below; both engines have LOG2 and LOG10."""

    def exact_log(node: exp.Expr) -> exp.Expr:
        if isinstance(node, exp.Log) and node.expression and node.this.is_number:
            return exp.Anonymous(this=f"LOG{node.this.name}", expressions=[node.expression])
        return node

    return tree.copy().transform(exact_log).sql(dialect, comments=False)


def _parsed(text: str, where: str, what: str) -> list[exp.Expr | None]:
    if any("\ud800" <= c <= "\udfff" for c in text):
        raise _refusal(where, "is not Unicode text")
    try:
        return sqlglot.parse(text, read="duckdb")
    except SqlglotError as e:
        raise _refusal(where, f"is not {what}: {str(e).splitlines()[0]}") from e
    except RecursionError as e:
        raise _refusal(where, "is nested too deeply") from e


def _refusal(where: str, what: str) -> UsageError:
    return UsageError(f"{where}: {what}", _CONDITIONS if where == _WHERE else _SUBSET)


def _name(node: exp.Expr) -> str:
    if isinstance(node, exp.Anonymous):
        return f"{node.name.lower()}()"
    return f"{node.sql_name().lower()}()" if isinstance(node, exp.Func) else type(node).__name__


def _check_node(node: exp.Expr, where: str, allowed: frozenset[type[exp.Expr]]) -> None:
    kind = type(node)
    if kind not in allowed:
        why = next(
            (w for k, w in _WHY.items() if isinstance(node, k)), "not compared on both engines"
        )
        raise _refusal(where, f"{_name(node)} is not allowed: {why}")
    if isinstance(node, exp.Log) and not (
        node.expression and node.this.is_number and node.this.name in ("2", "10")
    ):
        raise _refusal(
            where, "log(x) is decimal on one engine, natural on the other: say ln, log2 or log10"
        )
    if isinstance(node, exp.Cast) and node.to.this not in _CASTS:
        raise _refusal(
            where, f"CAST to {node.to.sql('duckdb')} is not allowed: BIGINT, DOUBLE or VARCHAR"
        )
    if isinstance(node, exp.Join) and (
        node.method or node.args.get("kind") in ("SEMI", "ANTI") or node.args.get("using")
    ):
        raise _refusal(where, "only JOIN … ON and CROSS JOIN are allowed")
    if isinstance(node, exp.Table) and not isinstance(node.this, exp.Identifier):
        raise _refusal(where, f"the table function {node.sql('duckdb')} is not allowed")
    if isinstance(node, exp.Distinct) and node.args.get("on"):
        raise _refusal(where, "DISTINCT ON is not allowed: it keeps whatever comes first")
    if isinstance(node, exp.Select) and node.args.get("limit") and not node.args.get("order"):
        raise _refusal(where, "LIMIT needs ORDER BY")
    if isinstance(node, exp.Select) and (node.args.get("sample") or node.args.get("laterals")):
        raise _refusal(where, "samples and LATERAL are not allowed")
    if isinstance(node, exp.Explode | exp.Unnest) and node.find(exp.Query):
        raise _refusal(where, "UNNEST takes a column or a list parameter")


def _check_types(tree: exp.Query, where: str) -> None:
    """CAST of a fraction to an integer needs FLOOR; a sum of integers needs CAST … AS BIGINT."""
    try:
        typed = annotate_types(
            qualify(
                tree.copy(),
                schema=SCHEMA,
                dialect="duckdb",
                quote_identifiers=False,
            ),
            schema=SCHEMA,
            dialect="duckdb",
        )
    except SqlglotError as e:
        raise _refusal(where, str(e).splitlines()[0]) from e
    for cast in typed.find_all(exp.Cast):
        if cast.to.this not in _INTEGERS:
            continue
        inner = _bare(cast.this)
        if isinstance(inner, exp.Floor | exp.Ceil) or _type(inner) in _INTEGERS:
            continue
        if isinstance(inner, exp.Sum) and _type(inner.this) not in _INTEGERS:
            raise _refusal(
                where, f"{cast.sql('duckdb')}: a sum of fractions needs FLOOR before CAST"
            )
        raise _refusal(
            where, f"{cast.sql('duckdb')}: rounds on one engine, truncates on the other: use FLOOR"
        )
    for total in typed.find_all(exp.Sum):
        if _type(total.this) in (exp.DType.DOUBLE, exp.DType.DECIMAL):
            continue
        if _type(total.this) == exp.DType.BOOLEAN:
            raise _refusal(
                where, f"{total.sql('duckdb')}: Spark cannot add truth values; use COUNT_IF"
            )
        outer = total.parent
        while isinstance(outer, exp.Window | exp.Filter | exp.Paren):
            outer = outer.parent
        if not (
            isinstance(outer, exp.Cast) and outer.to.this in (exp.DType.BIGINT, exp.DType.DOUBLE)
        ):
            raise _refusal(
                where,
                f"{total.sql('duckdb')}: a sum of integers is 128 bits wide here: CAST it to BIGINT",
            )


def _bare(node: Any) -> Any:
    """What stands inside parentheses, OVER and FILTER."""
    while isinstance(node, exp.Paren | exp.Window | exp.Filter):
        node = node.this
    return node


def _type(node: exp.Expr) -> Any:
    return node.type.this if node.type is not None else None


def _check_ties(tree: exp.Query, where: str) -> None:
    """A window in some order must not depend on which of two equal rows comes first."""
    for window in tree.find_all(exp.Window):
        order = window.args.get("order")
        function = (
            window.this.this
            if isinstance(window.this, exp.IgnoreNulls | exp.Filter)
            else window.this
        )
        spec = window.args.get("spec")
        rows = spec is not None and str(spec.args.get("kind")).upper() == "ROWS"
        if order is None:
            if isinstance(function, exp.RowNumber | exp.Lag | exp.Lead) or rows:
                raise _refusal(where, f"{_name(function)} needs ORDER BY in its window")
            continue
        if isinstance(function, _TIE_FREE) and not rows:
            continue
        keys = {o.this.name for o in order.expressions if isinstance(o.this, exp.Column)}
        last = order.expressions[-1].this
        if isinstance(last, exp.Column) and last.name == "row_id":
            continue
        keys |= {p.name for p in window.args.get("partition_by") or () if isinstance(p, exp.Column)}
        select = window.find_ancestor(exp.Select)
        if select is not None and any(unique <= keys for unique in _unique_keys(select, tree)):
            continue
        raise _refusal(
            where, f"{window.sql('duckdb')}: needs row_id as the last key of ORDER BY to break ties"
        )


def _unique_keys(select: exp.Select, tree: exp.Query) -> Iterator[set[str]]:
    """Columns that identify a row of what ``select`` reads: group keys and row numbers of one subquery."""
    source = select.args.get("from_")
    if source is None or select.args.get("joins"):
        return
    inner = source.this.this if isinstance(source.this, exp.Subquery) else None
    if isinstance(source.this, exp.Table):
        named = [c.this for c in tree.find_all(exp.CTE) if c.alias == source.this.name]
        inner = named[0] if named else None
    if not isinstance(inner, exp.Select):
        return
    group = inner.args.get("group")
    if group is not None and group.expressions:
        aliases = {s.unalias().sql(): s.alias_or_name for s in inner.selects}
        keys = [
            aliases.get(g.sql()) or (g.name if g.name in aliases.values() else "")
            for g in group.expressions
        ]
        if all(keys):
            yield set(keys)
    for s in inner.selects:
        number = s.unalias()
        if isinstance(number, exp.Window) and isinstance(number.this, exp.RowNumber):
            partition = {p.name for p in number.args.get("partition_by") or ()}
            yield {s.alias_or_name} | partition

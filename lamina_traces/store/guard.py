"""``sql``: the user's own SQL over all traces, which can read them and do nothing else.

In it a trace is a schema of its tables, and a view of that name on its main table; a bare table name is
the union over all traces with a ``trace`` column:

    SELECT count(*) FROM "azure code"
    SELECT * FROM "azure code".llm_requests LIMIT 5
    SELECT trace, avg(input_tokens) FROM llm_requests GROUP BY trace

Three walls, any of which would do for most attempts: DuckDB's own parser must see one SELECT (EXPLAIN,
DESCRIBE and SHOW included) whose table functions are on a list; files other than the traces' own parts
cannot be opened; no setting can be changed and no extension loaded.
"""

from __future__ import annotations

import functools
import json
import os
import re
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import duckdb
import pyarrow as pa

from ..errors import UsageError
from ..schema import TABLES
from . import engine, names
from .trace import Trace

_TABLE_FUNCTIONS = frozenset(
    {
        "range",
        "generate_series",
        "unnest",
        "repeat",
        "json_each",
        "json_tree",
        "summary",
        "duckdb_columns",
        "duckdb_functions",
        "duckdb_keywords",
        "duckdb_schemas",
        "duckdb_tables",
        "duckdb_types",
        "duckdb_views",
        "pragma_show",
        "pragma_table_info",
        "pragma_version",
    }
)
"""in FROM. The others read files, other databases or raw memory (arrow_scan takes an address), or act."""

_FORBIDDEN_FUNCTIONS = frozenset(
    {
        "write_log",
        "set_config",
        "setseed",
        "nextval",
        "currval",
        "getvariable",
        "getenv",
        "query",
        "query_table",
        "json_execute_serialized_sql",
        "current_setting",
    }
)
"""in expressions: those that act, or that tell about the machine."""

_EXPLAIN = re.compile(
    r"[ \t\r\n]*explain\b[ \t\r\n]*(?:analyze\b)?[ \t\r\n]*"
    r"(?:\([ \t]*(?:analyze|format[ \t]+\w+)(?:[ \t]*,[ \t]*(?:analyze|format[ \t]+\w+))*[ \t]*\))?",
    re.IGNORECASE,
)
"""what stands before an explained statement. No comments: whether they nest, and where a line ends, is
what a text would use to have this pattern and DuckDB see two different statements."""
_HINT = "SELECT, EXPLAIN SELECT, DESCRIBE and SHOW TABLES can be run; one statement at a time"


def run(traces: Sequence[Trace], text: str, *, threads: int | None = None) -> pa.Table:
    """Run one statement over ``traces``. Raises UsageError for anything but a read of them."""
    tree = checked(text)
    wanted = _named(tree, traces)
    files = [f for t in wanted for table in t.tables for f in t.files(table)]
    with (
        engine.connect(files, setup=views(wanted), threads=threads) as connection,
        engine.translated("run the SQL", users_text=True),
    ):
        return engine.arrow(connection, text)


def views(traces: Iterable[Trace]) -> Iterator[str]:
    """The statements that lay out all traces as schemas, views and unions."""
    unions: dict[str, list[str]] = {name: [] for name in TABLES}
    for trace in traces:
        schema = engine.quoted(trace.name)
        yield f"CREATE SCHEMA {schema}"
        for table in trace.tables:
            yield f"CREATE VIEW {schema}.{engine.quoted(table)} AS {trace.view(table)}"
            unions[table].append(
                f"SELECT {engine.text(trace.name)} AS trace, * FROM {schema}.{engine.quoted(table)}"
            )
        if trace.main_table:
            main = engine.quoted(trace.main_table)
            yield f"CREATE VIEW main.{schema} AS SELECT * FROM {schema}.{main}"
    for table, parts in unions.items():
        empty = (
            f"SELECT CAST(NULL AS VARCHAR) AS trace, * FROM ({engine.view(TABLES[table], [], ())})"
        )
        yield f"CREATE VIEW main.{engine.quoted(table)} AS {' UNION ALL '.join(parts) or empty}"


def checked(text: str) -> dict[str, Any]:
    """DuckDB's own tree of the one SELECT in ``text``, if it only reads. Raises UsageError."""
    if any("\ud800" <= c <= "\udfff" for c in text):
        raise UsageError("the SQL is not Unicode text")
    with (
        _parser(os.getpid()).cursor() as connection,
        engine.translated("read the SQL", users_text=True),
    ):
        return _checked(connection, text)


@functools.cache
def _parser(_process: int) -> duckdb.DuckDBPyConnection:
    """A connection that only parses. One per process: a fork must not use its parent's."""
    return duckdb.connect(":memory:", config={"enable_external_access": "false"})


def _checked(connection: duckdb.DuckDBPyConnection, text: str) -> dict[str, Any]:
    statements = connection.extract_statements(text)
    if len(statements) != 1:
        raise UsageError(f"the SQL holds {len(statements)} statements", _HINT)
    try:
        kind = statements[0].type
    except ValueError as e:  # a kind that the Python client has no name for
        raise UsageError("this is not a reading statement", _HINT) from e
    inner = text
    if kind == duckdb.StatementType.EXPLAIN:
        # EXPLAIN ANALYZE runs what it explains, COPY … TO included: what it explains must be a SELECT too.
        inner = text[match.end() :] if (match := _EXPLAIN.match(text)) else ""
        explained = connection.extract_statements(inner)
        if len(explained) != 1 or explained[0].type != duckdb.StatementType.SELECT:
            raise UsageError("only a SELECT can be explained", _HINT)
    elif kind != duckdb.StatementType.SELECT:
        raise UsageError(f"{kind.name} is not a reading statement", _HINT)
    rows = connection.execute("SELECT json_serialize_sql($1::VARCHAR)", [inner]).fetchall()
    try:
        tree: dict[str, Any] = json.loads(rows[0][0])
    except RecursionError as e:
        raise UsageError("the SQL is nested too deeply", "write it in steps, with WITH") from e
    if tree.get("error"):
        raise UsageError(f"the SQL cannot be checked: {tree.get('error_message', '')}", _HINT)
    for node in _nodes(tree):
        function = node.get("function")
        if node.get("type") == "TABLE_FUNCTION" and isinstance(function, dict):
            name = str(function.get("function_name", "")).lower()
            if name not in _TABLE_FUNCTIONS:
                raise UsageError(f"the table function {name}() cannot be used here", _HINT)
        elif str(node.get("function_name", "")).lower() in _FORBIDDEN_FUNCTIONS:
            raise UsageError(f"the function {node['function_name']}() cannot be used here", _HINT)
    return tree


def _named(tree: dict[str, Any], traces: Sequence[Trace]) -> Sequence[Trace]:
    """The traces that a statement can mean. Laying out a trace opens its files, and a store may hold
    thousands; a name that is no trace and no table (a CTE, a catalogue) leaves all in."""
    by_name = {names.folded(t.name): t for t in traces}
    wanted: set[str] = set()
    for node in _nodes(tree):
        if node.get("show_type") == "SHOW_SPECIAL" or node.get("type") == "TABLE_FUNCTION":
            return traces
        if node.get("type") != "BASE_TABLE":
            continue
        path = [names.folded(str(p)) for p in node["qualified_name"]["path"]]
        meant = by_name.keys() & set(path)
        if path[-1] in TABLES and not meant:
            meant = {n for n, t in by_name.items() if path[-1] in t.tables}
        elif not meant:
            return traces
        wanted |= meant
    return [t for n, t in by_name.items() if n in wanted]


def _nodes(tree: Any) -> Iterator[dict[str, Any]]:
    """Every object of a JSON tree. A stack, since a long chain of operators nests deeply."""
    stack = [tree]
    while stack:
        node = stack.pop()
        if isinstance(node, dict):
            yield node
            stack.extend(node.values())
        elif isinstance(node, list):
            stack.extend(node)

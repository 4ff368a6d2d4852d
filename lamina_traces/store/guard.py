"""``sql``: the user's own SQL over all traces, which can read them and do nothing else.

In it a trace is a schema of its tables, and a view of that name on its main table; a bare table name is
the union over all traces with a ``trace`` column:

    SELECT count(*) FROM "azure code"
    SELECT * FROM "azure code".llm_requests LIMIT 5
    SELECT trace, avg(input_tokens) FROM llm_requests GROUP BY trace
    SELECT file, line, reason FROM "azure code".rejects

Relations hold the columns that were recorded; the union those that any of its traces recorded.

Three walls, any of which would do for most attempts: DuckDB's own parser must see one SELECT (EXPLAIN,
DESCRIBE and SHOW included) whose table functions are on a list; files other than the traces' own parts
cannot be opened; no setting can be changed and no extension loaded.
"""

from __future__ import annotations

import contextlib
import difflib
import functools
import json
import os
import re
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import duckdb
import polars as pl
import pyarrow as pa

from .. import sql
from ..errors import UsageError
from ..schema import TABLES
from . import engine, names
from .trace import REJECTS, Trace

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
    with reading(traces, text, threads=threads) as reader:
        return reader.read_all()


@contextlib.contextmanager
def reading(
    traces: Sequence[Trace], text: str, *, threads: int | None = None
) -> Iterator[pa.RecordBatchReader]:
    """``run`` as a stream of batches; the statement goes on as they are read."""
    tree = checked(text)
    wanted = _named(tree, traces)
    files = [
        f
        for t in wanted
        for f in (*(f for table in t.tables for f in t.files(table)), *t.reject_files())
    ]
    with engine.connect(files, setup=views(wanted), threads=threads) as connection:
        try:
            reader = engine.batches(connection, text, "run the SQL", users_text=True)
        except UsageError as e:
            raise UsageError(e.message, _hint(e.__cause__, tree, traces) or e.hint) from e
        yield reader


def views(traces: Iterable[Trace]) -> Iterator[str]:
    """The statements that lay out all traces as schemas, views and unions."""
    rejects = []
    traces = list(traces)
    for trace in traces:
        schema = sql.quoted(trace.name)
        yield f"CREATE SCHEMA {schema}"
        for table in trace.tables:
            recorded = _relation(trace, table, trace.columns(table))
            yield f"CREATE VIEW {schema}.{sql.quoted(table)} AS {recorded}"
        if trace.main_table:
            main = sql.quoted(trace.main_table)
            yield f"CREATE VIEW main.{schema} AS SELECT * FROM {schema}.{main}"
        parts = trace.reject_files()
        if parts:
            rejects.append(f"SELECT {sql.text(trace.name)} AS trace, * FROM {schema}.{_REJECTS}")
        yield (
            f"CREATE VIEW {schema}.{_REJECTS} AS "
            + (f"SELECT * FROM {sql.parquet(parts)}" if parts else _NO_REJECTS)
        )
    for name, spec in TABLES.items():
        having = [t for t in traces if name in t.tables]
        any_of = {c for t in having for c in t.columns(name)} if having else set(spec.names)
        union = [
            f"SELECT {sql.text(t.name)} AS trace, * FROM ({_relation(t, name, any_of)})"
            for t in having
        ]
        empty = f"SELECT CAST(NULL AS VARCHAR) AS trace, * FROM ({engine.view(spec, [], ())})"
        yield f"CREATE VIEW main.{sql.quoted(name)} AS {' UNION ALL '.join(union) or empty}"
    empty = f"SELECT CAST(NULL AS VARCHAR) AS trace, * FROM ({_NO_REJECTS})"
    yield f"CREATE VIEW main.{_REJECTS} AS {' UNION ALL BY NAME '.join(rejects) or empty}"


_REJECTS = "rejects"
"""the lines that ingest did not take: no canonical table, but a relation of every trace."""
_NO_REJECTS = (
    "SELECT "
    + ", ".join(
        f"CAST(NULL AS {'BIGINT' if type_ == pl.Int64() else 'VARCHAR'}) AS {sql.quoted(name)}"
        for name, type_ in REJECTS.items()
    )
    + " WHERE false"
)


def _relation(trace: Trace, table: str, shown: Iterable[str]) -> str:
    columns = trace.columns(table)
    return engine.view(TABLES[table], trace.files(table), columns, shown)


def checked(text: str) -> dict[str, Any]:
    """DuckDB's own tree of the one SELECT in ``text``, if it only reads. Raises UsageError."""
    if any("\ud800" <= c <= "\udfff" for c in text):
        raise UsageError("the SQL is not Unicode text", "give the SQL as UTF-8")
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
        if path[-1] in (*TABLES, _REJECTS) and not meant:
            meant = {
                n
                for n, t in by_name.items()
                if path[-1] in t.tables or (path[-1] == _REJECTS and t.reject_files())
            }
        elif not meant:
            return traces
        wanted |= meant
    return [t for n, t in by_name.items() if n in wanted]


_UNKNOWN_TABLE = re.compile(r'Table with name "?(?P<name>.+?)"? does not exist')
_UNKNOWN_COLUMN = re.compile(r'[Cc]olumn (?:named )?"(?P<name>[^"]+)"')


def _hint(error: BaseException | None, tree: dict[str, Any], traces: Sequence[Trace]) -> str | None:
    """What DuckDB cannot know about a name that it did not find."""
    if isinstance(error, duckdb.CatalogException) and (m := _UNKNOWN_TABLE.search(str(error))):
        return _about_table(m["name"], tree, traces)
    if isinstance(error, duckdb.BinderException) and (m := _UNKNOWN_COLUMN.search(str(error))):
        return _about_column(m["name"], _read(tree, traces))
    return None


def _about_table(name: str, tree: dict[str, Any], traces: Sequence[Trace]) -> str:
    if not traces:
        return "the store holds no trace; add one with: lamina-traces ingest FILE"
    by_name = {names.folded(t.name): t for t in traces}
    for path in _paths(tree):
        if len(path) > 1 and path[-1] == names.folded(name) and path[-2] in by_name:
            trace = by_name[path[-2]]
            return f"trace {_sql_name(trace.name)} holds: {', '.join((*trace.tables, _REJECTS))}"
    folded = {names.folded(n): n for n in (*(t.name for t in traces), *TABLES, _REJECTS)}
    close = difflib.get_close_matches(names.folded(name), folded, n=3, cutoff=0.5)
    meant = f"did you mean {' or '.join(_sql_name(folded[c]) for c in close)}? " if close else ""
    return f"{meant}traces: {_listed([_sql_name(t.name) for t in traces])}"


def _about_column(name: str, read: Sequence[tuple[Trace, str]]) -> str | None:
    """A hint on a column that none of the relations in ``read`` has; None where one has it."""
    recorded = {c for trace, table in read for c in trace.columns(table)}
    if not read or name.lower() in recorded:
        return None
    there = [c for t in dict.fromkeys(t for _, t in read) for c in TABLES[t].names if c in recorded]
    there = list(dict.fromkeys(there))
    if any(name.lower() in TABLES[table] for _, table in read):
        traces = _listed(list(dict.fromkeys(_sql_name(trace.name) for trace, _ in read)))
        return f"{name} is not recorded in {traces}; recorded: {_listed(there, 20)}"
    close = difflib.get_close_matches(name.lower(), there, n=3, cutoff=0.5)
    return f"did you mean {' or '.join(close)}?" if close else f"columns: {_listed(there, 20)}"


def _read(tree: dict[str, Any], traces: Sequence[Trace]) -> list[tuple[Trace, str]]:
    """The tables of traces that a statement reads."""
    by_name = {names.folded(t.name): t for t in traces}
    found: dict[tuple[str, str], Trace] = {}
    for path in _paths(tree):
        if len(path) > 1 and path[-2] in by_name:
            pairs = [(by_name[path[-2]], path[-1])]
        elif path[-1] in by_name:
            pairs = [(by_name[path[-1]], by_name[path[-1]].main_table)]
        else:
            pairs = [(t, path[-1]) for t in traces]
        found |= {(t.name, table): t for t, table in pairs if table in t.tables}
    return [(trace, table) for (_, table), trace in found.items()]


def _paths(tree: dict[str, Any]) -> Iterator[list[str]]:
    """The names that stand in FROM, folded, each as its parts."""
    for node in _nodes(tree):
        if node.get("type") == "BASE_TABLE":
            yield [names.folded(str(p)) for p in node["qualified_name"]["path"]]


def _sql_name(name: str) -> str:
    """A name as it is written in SQL: quoted where it must be."""
    return name if re.fullmatch(r"[A-Za-z_]\w*", name, re.ASCII) else sql.quoted(name)


def _listed(items: Sequence[str], most: int = 12) -> str:
    return ", ".join(items[:most]) + (", …" if len(items) > most else "")


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

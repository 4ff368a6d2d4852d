"""``sql`` reads the traces and does nothing else, whatever it is given."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import duckdb
import polars as pl
import pytest

from lamina_traces.errors import LaminaError, UsageError
from lamina_traces.store import Store

from .frames import requests

NAMES = [
    "plain",
    "azure code",
    'quote"d',
    "semi; DROP TABLE llm_requests; --",
    "it's",
    "Ω-πλάτων-🎉",
    "../../etc/passwd",
    "x/* comment",
    "$1 {0} %s",
    "trace.with.dots",
    "select",
]


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    root = tmp_path_factory.mktemp("guard")
    store = Store(root / "store [1]*? it's")
    for i, name in enumerate(NAMES):
        with store.writer(name, kind="llm") as w:
            w.write("llm_requests", requests(list(range(i + 1))))
            w.commit()
    return store


@pytest.fixture(scope="module")
def outside(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Files beside the store that nobody may read through it."""
    root = tmp_path_factory.mktemp("outside")
    pl.DataFrame({"secret": [42]}).write_parquet(root / "p.parquet")
    (root / "secret.csv").write_text("secret\n42\n")
    (root / "secret.json").write_text('{"secret": 42}\n')
    with duckdb.connect(str(root / "d.duckdb")) as c:
        c.execute("CREATE TABLE secret AS SELECT 42 AS secret")
    return root


def test_every_trace_is_a_schema_and_a_view(store: Store) -> None:
    for i, name in enumerate(NAMES):
        quoted = '"' + name.replace('"', '""') + '"'
        for source in (quoted, f"{quoted}.llm_requests"):
            assert store.sql(f"SELECT count(*) AS n FROM {source}").to_pylist() == [{"n": i + 1}]


def test_bare_tables_are_unions(store: Store) -> None:
    got = store.sql("SELECT trace, count(*) AS n FROM llm_requests GROUP BY trace").to_pylist()
    assert {r["trace"]: r["n"] for r in got} == {n: i + 1 for i, n in enumerate(NAMES)}
    assert store.sql("SELECT * FROM power_samples").num_rows == 0
    assert store.sql("FROM cold_starts").column_names[:2] == ["trace", "row_id"]


@pytest.mark.parametrize(
    "text",
    [
        "SELECT 1 AS x",
        "select 1;",
        " -- a comment; with a semicolon\nSELECT ';' AS x /* ; */",
        "WITH a AS (SELECT 1 AS x) FROM a",
        "VALUES (1), (2)",
        "DESCRIBE llm_requests",
        "SHOW TABLES",
        "SUMMARIZE plain",
        "EXPLAIN SELECT * FROM plain",
        "\n explain analyze\tselect count(*) from plain",
        "EXPLAIN (FORMAT json) SELECT 1",
        "SELECT * FROM range(3)",
        "SELECT unnest([1, 2])",
        "SELECT column_name FROM information_schema.columns LIMIT 1",
        "SELECT row_number() OVER (ORDER BY arrival_ns) FROM plain",
        "SELECT 'COPY x TO y' AS text",
    ],
)
def test_reads(store: Store, text: str) -> None:
    assert store.sql(text).num_rows >= 1


WRITES = [
    "COPY (SELECT 1) TO '{out}/x.csv'",
    "COPY plain TO '{out}/x.parquet'",
    "COPY (SELECT 1) TO '{part}'",
    "CREATE TABLE t AS SELECT 1",
    "CREATE OR REPLACE VIEW plain AS SELECT 1",
    "CREATE TEMP TABLE t (x INT)",
    "CREATE MACRO f() AS 1",
    "CREATE SECRET s (TYPE s3)",
    "INSERT INTO plain VALUES (1)",
    "UPDATE plain SET row_id = 1",
    "DELETE FROM plain",
    "DROP VIEW plain",
    "ALTER TABLE plain RENAME TO x",
    "TRUNCATE plain",
    "MERGE INTO plain USING plain AS b ON false WHEN MATCHED THEN DELETE",
    "EXPORT DATABASE '{out}/e'",
    "IMPORT DATABASE '{out}/e'",
    "ATTACH '{out}/d.duckdb' AS d",
    "ATTACH ':memory:' AS m",
    "USE main",
    "DETACH memory",
    "CHECKPOINT",
    "VACUUM",
    "ANALYZE",
    "BEGIN",
    "INSTALL httpfs",
    "LOAD httpfs",
    "LOAD '{out}/x.duckdb_extension'",
    "FORCE INSTALL spatial",
    "UPDATE EXTENSIONS",
    "SET threads = 1",
    "SET lock_configuration = false",
    "SET GLOBAL enable_external_access = true",
    "RESET ALL",
    "SET VARIABLE x = 1",
    "PRAGMA threads = 1",
    "PRAGMA enable_profiling",
    "PRAGMA database_list",
    "CALL pragma_version()",
    "CALL enable_logging()",
    "PREPARE p AS SELECT 1",
    "EXECUTE p",
    "DEALLOCATE p",
    "PIVOT plain ON status USING count(*)",
    "COMMENT ON VIEW plain IS 'x'",
    # EXPLAIN ANALYZE runs what it explains
    "EXPLAIN ANALYZE COPY (SELECT 1) TO '{out}/x.csv'",
    "EXPLAIN COPY (SELECT 1) TO '{out}/x.csv'",
    "explain analyze create table t as select 1",
    "EXPLAIN (ANALYZE) COPY (SELECT 1) TO '{out}/x.csv'",
    "EXPLAIN (ANALYZE, FORMAT json) COPY (SELECT 1) TO '{out}/x.csv'",
    "EXPLAIN /* SELECT 1 */ ANALYZE COPY (SELECT 1) TO '{out}/x.csv'",
    "/* /* */ EXPLAIN ANALYZE COPY (SELECT 1) TO '{out}/x.csv'",
    "--\nEXPLAIN ANALYZE\nCOPY (SELECT 1) TO '{out}/x.csv'",
    # two readings of one text: nested comments, ends of lines
    "/* /* */ EXPLAIN ANALYZE SELECT '*/ EXPLAIN ANALYZE COPY (SELECT 1) TO \"{out}/x.csv\" --'",
    "-- x\rEXPLAIN ANALYZE COPY (SELECT 1) TO '{out}/x.csv' /*\nEXPLAIN SELECT 1 --*/",
    "EXPLAIN EXPLAIN ANALYZE COPY (SELECT 1) TO '{out}/x.csv'",
    # several statements
    "SELECT 1; SELECT 2",
    "SELECT 1; COPY (SELECT 1) TO '{out}/x.csv'",
    "SELECT 1;;DROP VIEW plain",
    "EXPLAIN SELECT 1; DROP VIEW plain",
    "",
    ";",
    "   -- nothing",
    # functions that act
    "SELECT * FROM enable_logging()",
    "SELECT * FROM checkpoint()",
    "SELECT write_log('x')",
    "SELECT setseed(0.5)",
    "SELECT * FROM query('SELECT 1')",
    "SELECT * FROM query_table('plain')",
    "SELECT * FROM json_execute_serialized_sql('{{}}')",
    "SELECT * FROM arrow_scan(1, 2, 3)",
    "SELECT * FROM pandas_scan(1)",
    "SELECT * FROM python_map_function(1)",
]

READS_OUTSIDE = [
    "SELECT * FROM '{out}/p.parquet'",
    'SELECT * FROM "{out}/p.parquet"',
    "FROM '{out}/secret.csv'",
    "SELECT * FROM '{out}/secret.json'",
    "SELECT * FROM read_parquet('{out}/p.parquet')",
    "SELECT * FROM parquet_scan(['{out}/p.parquet'])",
    "SELECT * FROM read_csv('{out}/secret.csv')",
    "SELECT * FROM read_csv_auto('{out}/secret.csv')",
    "SELECT * FROM sniff_csv('{out}/secret.csv')",
    "SELECT * FROM read_json('{out}/secret.json')",
    "SELECT * FROM read_json_objects('{out}/secret.json')",
    "SELECT * FROM read_text('{out}/secret.csv')",
    "SELECT * FROM read_blob('{out}/secret.csv')",
    "SELECT * FROM READ_TEXT('/etc/passwd')",
    "SELECT * FROM main.read_text('/etc/passwd')",
    "SELECT * FROM system.main.read_text('/etc/passwd')",
    "SELECT * FROM \"read_text\"('/etc/passwd')",
    "SELECT (SELECT content FROM read_text('/etc/passwd'))",
    "WITH a AS (SELECT * FROM read_text('/etc/passwd')) SELECT * FROM a",
    "SELECT 1 WHERE EXISTS (FROM read_text('/etc/passwd'))",
    "DESCRIBE SELECT * FROM read_csv('{out}/secret.csv')",
    "SUMMARIZE SELECT * FROM read_csv('{out}/secret.csv')",
    "SUMMARIZE '{out}/secret.csv'",
    "DESCRIBE '{out}/p.parquet'",
    "EXPLAIN SELECT * FROM read_csv('{out}/secret.csv')",
    "EXPLAIN ANALYZE FROM '{out}/p.parquet'",
    "SELECT * FROM glob('/**')",
    "SELECT * FROM glob('{out}/*')",
    "SELECT * FROM parquet_metadata('{out}/p.parquet')",
    "SELECT * FROM parquet_schema('{out}/p.parquet')",
    "SELECT * FROM parquet_kv_metadata('{out}/p.parquet')",
    "SELECT * FROM read_duckdb('{out}/d.duckdb', table_name = 'secret')",
    "SELECT * FROM '{out}/d.duckdb'",
    "SELECT * FROM '{traces}/../../outside/p.parquet'",
    "SELECT * FROM read_parquet('{part}/../../../../../../{out}/p.parquet')",
    "SELECT * FROM 'https://example.org/x.parquet'",
    "SELECT * FROM 's3://bucket/x.parquet'",
    "SELECT getenv('HOME')",
    "SELECT current_setting('allowed_paths')",
    "SELECT * FROM duckdb_secrets()",
    "SELECT * FROM duckdb_settings()",
    "SELECT * FROM which_secret('s3://x', 's3')",
    "SELECT * FROM pragma_database_size()",
    # a variable of the caller's Python is not a table
    "SELECT * FROM outside_frame",
    "SELECT * FROM NAMES",
]


def _files(*roots: Path) -> dict[str, tuple[int, int]]:
    found = {}
    for root in roots:
        for directory, _, names in os.walk(root):
            for name in names:
                info = Path(directory, name).stat()
                found[str(Path(directory, name))] = (info.st_size, info.st_mtime_ns)
    return found


@pytest.mark.parametrize("text", WRITES + READS_OUTSIDE)
def test_refused(store: Store, outside: Path, text: str) -> None:
    outside_frame = pl.DataFrame({"secret": [42]})
    assert len(outside_frame) == 1
    trace = store.trace("plain")
    part = trace.files("llm_requests")[0]
    before = _files(store.path, outside)
    with pytest.raises(LaminaError) as error:
        store.sql(text.format(out=outside, part=str(part).replace("'", "''"), traces=part.parent))
    assert isinstance(error.value, UsageError)
    assert "42" not in str(error.value)
    assert _files(store.path, outside) == before
    assert store.sql("SELECT count(*) AS n FROM plain").to_pylist() == [{"n": 1}]


def test_a_typing_error_is_the_users(store: Store) -> None:
    for text in (
        "SELEC 1",
        "SELECT * FROM nowhere",
        "SELECT nope FROM plain",
        "SELECT 1 +",
        "SELECT 'a' + 1",
    ):
        with pytest.raises(UsageError) as error:
            store.sql(text)
        assert "\n" not in error.value.message


@pytest.mark.parametrize(
    "text",
    [
        "SELECT " + "NOT " * 990 + "true",
        "SELECT " + "+".join(["1"] * 3000),
        "SELECT 1\x00; DROP VIEW plain",
        "SELECT '\ud800'",
        "\ud800",
    ],
)
def test_odd_texts_are_no_traceback(store: Store, text: str) -> None:
    with pytest.raises(UsageError):
        store.sql(text)


def test_several_threads(store: Store) -> None:
    with ThreadPoolExecutor(4) as pool:
        tables = pool.map(lambda _: store.sql("SELECT count(*) AS n FROM plain"), range(12))
        assert [t.to_pylist() for t in tables] == [[{"n": 1}]] * 12


def test_an_empty_store(tmp_path: Path) -> None:
    store = Store(tmp_path / "none")
    assert store.sql("SELECT count(*) AS n FROM llm_requests").to_pylist() == [{"n": 0}]
    assert not store.path.exists()


# what was recorded, and what was not


@pytest.fixture
def mixed(tmp_path: Path) -> Store:
    store = Store(tmp_path / "store")
    with store.writer("azure-code", kind="llm") as w:
        w.write("llm_requests", requests([0, 1]).with_columns(ttft_s=pl.lit(0.5)))
        w.rejects(
            pl.DataFrame(
                {"file": ["f"], "line": [3], "column": ["x"], "reason": ["r"], "text": [None]},
                schema_overrides={"text": pl.String},
            )
        )
        w.commit()
    with store.writer("load", kind="llm") as w:
        w.write("llm_requests", requests([5]).with_columns(model=pl.lit("m")))
        w.commit()
    return store


def test_relations_hold_what_was_recorded(mixed: Store) -> None:
    recorded = ["row_id", "arrival_ns", "input_tokens", "status", "ttft_s"]
    for source in ('"azure-code"', '"azure-code".llm_requests'):
        assert mixed.sql(f"FROM {source}").column_names == recorded
        described = mixed.sql(f"DESCRIBE {source}").column("column_name").to_pylist()
        assert described == recorded
    union = mixed.sql("FROM llm_requests ORDER BY trace, row_id")
    assert union.column_names == [
        "trace", "row_id", "arrival_ns", "model", "input_tokens", "status", "ttft_s",
    ]  # fmt: skip
    assert union.select(["trace", "model", "ttft_s"]).to_pylist() == [
        {"trace": "azure-code", "model": None, "ttft_s": 0.5},
        {"trace": "azure-code", "model": None, "ttft_s": 0.5},
        {"trace": "load", "model": "m", "ttft_s": None},
    ]


def test_rejects_are_a_relation(mixed: Store) -> None:
    line = {"file": "f", "line": 3, "column": "x", "reason": "r", "text": None}
    assert mixed.sql('SELECT * FROM "azure-code".rejects').to_pylist() == [line]
    assert mixed.sql("SELECT * FROM rejects").to_pylist() == [{"trace": "azure-code", **line}]
    assert mixed.sql("SELECT * FROM load.rejects").num_rows == 0
    mixed.remove("azure-code")
    assert mixed.sql("SELECT count(*) AS n FROM rejects").to_pylist() == [{"n": 0}]
    with pytest.raises(UsageError, match="reserved"):
        mixed.writer("Rejects", kind="llm")


@pytest.mark.parametrize(
    ("text", "hint"),
    [
        ("SELECT ttft_s FROM load", "ttft_s is not recorded in load; recorded: row_id, arrival_ns"),
        ("SELECT x.TTFT_S FROM load x", "TTFT_S is not recorded in load; recorded: row_id"),
        ("SELECT * FROM load WHERE ttft_s > 1", "ttft_s is not recorded in load; recorded: row_id"),
        ('SELECT model FROM "azure-code"', 'model is not recorded in "azure-code"; recorded:'),
        ("SELECT e2e_s FROM llm_requests", 'e2e_s is not recorded in "azure-code", load; recorded'),
        ("SELECT input_token FROM load", "did you mean input_tokens"),
        ("SELECT zzz FROM load", "columns: row_id, arrival_ns, model, input_tokens, status"),
        ("SELECT * FROM nowhere", 'traces: "azure-code", load'),
        ("SELECT * FROM pg_enu", 'traces: "azure-code", load'),
        ("SELECT * FROM lod", 'did you mean load? traces: "azure-code", load'),
        ("SELECT * FROM azure_code", 'did you mean "azure-code"? traces: "azure-code", load'),
        ("SELECT * FROM load.nope", "trace load holds: llm_requests, rejects"),
        ("SELECT * FROM azure-code", "double quotes"),
        ("SELECT CAST('x' AS INT) FROM load", "TRY_CAST"),
        ("SELECT 1 +", "describe TRACE"),
    ],
)
def test_hints_name_what_there_is(mixed: Store, text: str, hint: str) -> None:
    with pytest.raises(UsageError) as error:
        mixed.sql(text)
    assert hint in str(error.value.hint)
    assert "pg_" not in str(error.value.hint)


def test_an_empty_store_says_so(tmp_path: Path) -> None:
    with pytest.raises(UsageError) as error:
        Store(tmp_path).sql("SELECT * FROM azure")
    assert "lamina-traces ingest" in str(error.value.hint)


def test_reading_is_what_sql_gives(mixed: Store) -> None:
    text = "SELECT row_id, row_id, trace FROM llm_requests ORDER BY ALL"
    with mixed.sql_reader(text) as reader:
        assert reader.schema.names == ["row_id", "row_id_1", "trace"]
        assert reader.read_all().equals(mixed.sql(text))

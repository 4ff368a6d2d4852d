"""The SQL subset of queries/: what is refused, what is allowed, and that all files keep to it."""

from __future__ import annotations

from importlib import resources

import duckdb
import pytest
import sqlglot
from sqlglot import exp

from lamina_traces.errors import LaminaError, ModelError, UnknownName, UsageError
from lamina_traces.schema import TABLES
from lamina_traces.store import engine, lint, query

ALLOWED = [
    "SELECT COUNT(*) AS n FROM llm_requests",
    "SELECT COUNT(DISTINCT model) AS n FROM llm_requests WHERE status IN ('ok', 'error')",
    "SELECT status, COUNT(*) AS n FROM llm_requests GROUP BY ALL",
    "SELECT CAST(SUM(input_tokens) AS BIGINT) AS s FROM llm_requests",
    "SELECT SUM(ttft_s) AS s FROM llm_requests",
    "SELECT CAST(SUM(input_tokens) FILTER (WHERE turn = 1) AS BIGINT) AS s FROM llm_requests",
    "SELECT CAST(FLOOR(ttft_s * 1000) AS BIGINT) AS ms, COUNT(*) AS n FROM llm_requests GROUP BY ALL",
    "SELECT CAST(input_tokens AS BIGINT) AS x FROM llm_requests",
    "SELECT CAST(input_tokens AS DOUBLE) AS x FROM llm_requests",
    "SELECT LOG2(input_tokens) AS a, LOG10(input_tokens) AS b, LN(input_tokens) AS c FROM llm_requests",
    "SELECT arrival_ns - LAG(arrival_ns) OVER (ORDER BY arrival_ns, row_id) AS gap FROM events",
    "SELECT k, CAST(SUM(n) OVER (ORDER BY k) AS BIGINT) AS c FROM (SELECT turn AS k, COUNT(*) AS n FROM llm_requests GROUP BY turn)",
    "SELECT k, LAG(n) OVER (ORDER BY k) AS c FROM (SELECT turn AS k, COUNT(*) AS n FROM llm_requests GROUP BY turn)",
    "WITH g AS (SELECT turn, COUNT(*) AS n FROM llm_requests GROUP BY turn) SELECT LEAD(n) OVER (ORDER BY turn) AS c FROM g",
    "SELECT turn FROM llm_requests QUALIFY ROW_NUMBER() OVER (PARTITION BY session_id ORDER BY turn, row_id) = 1",
    "SELECT h, COUNT(*) AS n FROM (SELECT UNNEST(prefix_hashes) AS h FROM llm_requests) GROUP BY h",
    "SELECT MEDIAN(ttft_s) AS m, VARIANCE(ttft_s) AS v, CORR(ttft_s, e2e_s) AS r FROM llm_requests",
    "SELECT arrival_ns // 1000 % 7 AS d, 1 << turn AS p FROM llm_requests",
    "SELECT turn FROM llm_requests ORDER BY turn, row_id LIMIT 3",
    "SELECT a.row_id FROM llm_requests AS a JOIN llm_requests AS b ON a.parent_request_id = b.request_id",
    "SELECT CASE WHEN status = 'ok' THEN 0 ELSE 1 END AS failed, COALESCE(turn, 1) AS t FROM llm_requests",
]

FORBIDDEN = [
    # silently different values
    "SELECT CAST(ttft_s AS INT) AS x FROM llm_requests",
    "SELECT CAST(ttft_s AS BIGINT) AS x FROM llm_requests",
    "SELECT ttft_s::BIGINT AS x FROM llm_requests",
    "SELECT CAST(input_tokens / 2 AS BIGINT) AS x FROM llm_requests",
    "SELECT CAST(SUM(ttft_s) AS BIGINT) AS x FROM llm_requests",
    "WITH a AS (SELECT ttft_s * 2 AS y FROM llm_requests) SELECT CAST(y AS BIGINT) AS x FROM a",
    "SELECT TRY_CAST(model AS BIGINT) AS x FROM llm_requests",
    "SELECT CAST(ttft_s AS DECIMAL(9, 2)) AS x FROM llm_requests",
    "SELECT LOG(ttft_s) AS x FROM llm_requests",
    "SELECT LOG(3, ttft_s) AS x FROM llm_requests",
    "SELECT PERCENTILE_CONT(0.5) WITHIN GROUP (ORDER BY ttft_s) AS x FROM llm_requests",
    "SELECT PERCENTILE_DISC(0.5) WITHIN GROUP (ORDER BY ttft_s) AS x FROM llm_requests",
    "SELECT QUANTILE_CONT(ttft_s, 0.5) AS x FROM llm_requests",
    "SELECT QUANTILE_DISC(ttft_s, [0.5, 0.9]) AS x FROM llm_requests",
    "SELECT QUANTILE(ttft_s, 0.5) AS x FROM llm_requests",
    "SELECT SKEWNESS(ttft_s) AS x FROM llm_requests",
    "SELECT KURTOSIS(ttft_s) AS x FROM llm_requests",
    "SELECT KURTOSIS_POP(ttft_s) AS x FROM llm_requests",
    "SELECT EPOCH(TIMESTAMP '2020-01-01') AS x FROM llm_requests",
    "SELECT EPOCH_US(TIMESTAMP '2020-01-01') AS x FROM llm_requests",
    "SELECT DAYOFWEEK(DATE '2020-01-01') AS x FROM llm_requests",
    "SELECT ISODOW(DATE '2020-01-01') AS x FROM llm_requests",
    "SELECT EXTRACT(dow FROM DATE '2020-01-01') AS x FROM llm_requests",
    "SELECT TIME_BUCKET(INTERVAL '1 hour', TIMESTAMP '2020-01-01') AS x FROM llm_requests",
    "SELECT HASH(model) AS x FROM llm_requests",
    "SELECT APPROX_COUNT_DISTINCT(model) AS x FROM llm_requests",
    "SELECT APPROX_QUANTILE(ttft_s, 0.5) AS x FROM llm_requests",
    "SELECT ARG_MIN(model, ttft_s) AS x FROM llm_requests",
    "SELECT ARG_MAX(model, ttft_s) AS x FROM llm_requests",
    "SELECT FIRST(model) AS x FROM llm_requests",
    "SELECT FIRST(model ORDER BY row_id) AS x FROM llm_requests",
    "SELECT ANY_VALUE(model) AS x FROM llm_requests",
    "SELECT MODE(model) AS x FROM llm_requests",
    "SELECT ROUND(ttft_s) AS x FROM llm_requests",
    "SELECT TRUNC(ttft_s) AS x FROM llm_requests",
    "SELECT FORMAT('{:.2f}', ttft_s) AS x FROM llm_requests",
    "SELECT RANDOM() AS x FROM llm_requests",
    "SELECT model FROM llm_requests USING SAMPLE 10",
    # fail on the other engine
    "SELECT SUM(input_tokens) AS x FROM llm_requests",
    "SELECT SUM(n) AS x FROM (SELECT COUNT(*) AS n FROM llm_requests GROUP BY turn)",
    "SELECT SUM(input_tokens) - 1 AS x FROM llm_requests",
    "SELECT CAST(SUM(streaming) AS BIGINT) AS x FROM llm_requests",
    "SELECT CAST(SUM(turn > 1) AS BIGINT) AS x FROM llm_requests",
    "SELECT HISTOGRAM(turn) AS x FROM llm_requests",
    "SELECT ENTROPY(turn) AS x FROM llm_requests",
    "SELECT FSUM(ttft_s) AS x FROM llm_requests",
    "SELECT PRODUCT(turn) AS x FROM llm_requests",
    "SELECT LEN(prefix_hashes) AS x FROM llm_requests",
    "SELECT LIST_SUM(prefix_hashes) AS x FROM llm_requests",
    "SELECT LIST_AGGREGATE(prefix_hashes, 'sum') AS x FROM llm_requests",
    "SELECT prefix_hashes[1:3] AS x FROM llm_requests",
    "SELECT prefix_hashes[1] AS x FROM llm_requests",
    "SELECT LGAMMA(ttft_s) AS x FROM llm_requests",
    "SELECT COLUMNS('t.*') FROM llm_requests",
    "SELECT range AS x FROM RANGE(3)",
    "SELECT i AS x FROM RANGE(3) AS t(i)",
    "SELECT i AS x FROM GENERATE_SERIES(1, 3) AS t(i)",
    "SELECT UNNEST(RANGE(3)) AS x FROM llm_requests",
    "SELECT a.turn FROM llm_requests AS a ASOF JOIN llm_requests AS b ON a.arrival_ns >= b.arrival_ns",
    "SELECT a.turn FROM llm_requests AS a POSITIONAL JOIN llm_requests AS b",
    "SELECT a.turn FROM llm_requests AS a SEMI JOIN llm_requests AS b ON a.row_id = b.row_id",
    "SELECT turn FROM llm_requests AS a JOIN llm_requests AS b USING (row_id)",
    "SELECT * FROM (PIVOT llm_requests ON status USING COUNT(*))",
    "SELECT DISTINCT ON (model) model FROM llm_requests",
    "SELECT extra ->> 'x' AS x FROM llm_requests",
    # depends on which of two equal rows comes first
    "SELECT LAG(arrival_ns) OVER (ORDER BY arrival_ns) AS x FROM events",
    "SELECT LAG(arrival_ns) OVER (ORDER BY row_id, arrival_ns) AS x FROM events",
    "SELECT ROW_NUMBER() OVER () AS x FROM events",
    "SELECT ROW_NUMBER() OVER (PARTITION BY arrival_ns ORDER BY arrival_ns) AS x FROM events",
    "SELECT CAST(SUM(turn) OVER (ORDER BY turn ROWS BETWEEN 1 PRECEDING AND CURRENT ROW) AS BIGINT) AS x FROM llm_requests",
    "SELECT LAG(n) OVER (ORDER BY n) AS c FROM (SELECT turn AS k, COUNT(*) AS n FROM llm_requests GROUP BY turn)",
    "SELECT turn FROM llm_requests LIMIT 3",
    # not a question on the canonical tables
    "SELECT * FROM llm_requests",
    "SELECT l.* FROM llm_requests AS l",
    "SELECT COUNT(*) FROM llm_requests; SELECT 1",
    "SELECT nope FROM llm_requests",
    "SELECT 1 AS x FROM nowhere",
    "SELECT 1 AS x FROM other.llm_requests",
    "SELECT 1 AS x FROM 'file.parquet'",
    "SELECT 1 AS x FROM READ_CSV('file.csv')",
    "CREATE TABLE x AS SELECT 1",
    "COPY llm_requests TO 'x.csv'",
    "SELECT GETENV('HOME') AS x FROM llm_requests",
    "this is no SQL",
    "",
]


@pytest.mark.parametrize("sql", ALLOWED)
def test_allowed(sql: str) -> None:
    tree = lint.check(sql)
    with engine.connect([], setup=[f"CREATE VIEW {t} AS {engine.view(s, [], ())}" for t, s in TABLES.items()]
                        + ["CREATE VIEW events AS SELECT * FROM llm_requests"]) as c:  # fmt: skip
        engine.arrow(c, lint.render(tree))
    assert sqlglot.parse_one(lint.transpile(sql), read="spark")


@pytest.mark.parametrize("sql", FORBIDDEN)
def test_forbidden(sql: str) -> None:
    with pytest.raises(UsageError) as error:
        lint.check(sql, "query test")
    assert error.value.message.startswith("query test: ")


def test_powers_of_two_fall_into_their_own_bin() -> None:
    sql = "SELECT CAST(FLOOR(LOG2(input_tokens)) AS BIGINT) AS b FROM llm_requests"
    assert "LOG2(" in lint.render(lint.check(sql))
    assert "LOG2(" in lint.transpile(sql)


CONDITIONS = [
    "input_tokens > 100",
    "status = 'ok' AND (model LIKE 'GPT%' OR model IS NULL)",
    "input_tokens BETWEEN 1 AND 5 AND NOT streaming",
    "coalesce(turn, 1) IN (1, 2, 3)",
    "lower(model) = 'x' -- a comment",
    "ttft_s / nullif(e2e_s, 0) > 0.5",
    "streaming",
    "(row_id % 10) = 3",
    "model = 'it''s; DROP TABLE x'",
]
NO_CONDITIONS = [
    "",
    "1",
    "'x'",
    "NULL",
    "input_tokens > 1; DROP VIEW events",
    "input_tokens > (SELECT 1)",
    "row_id IN (SELECT row_id FROM events)",
    "EXISTS (SELECT 1)",
    "SELECT 1",
    "COUNT(*) > 1",
    "SUM(input_tokens) > 1",
    "ROW_NUMBER() OVER (ORDER BY row_id) = 1",
    "input_tokens > 1 ORDER BY 1",
    "input_tokens > 1) OR (1 = 1",
    "true UNION ALL SELECT 1",
    "read_text('/etc/passwd') = ''",
    "getenv('HOME') = ''",
    "unnest([true])",
    "nope > 1",
    "llm_requests.row_id = 1",
    "row_id = $x",
    "row_id = ?",
    "*",
    "CASE",
    "row_id >",
    "SET threads = 1",
]


@pytest.mark.parametrize("text", CONDITIONS)
def test_conditions(text: str) -> None:
    tree = lint.check_condition(text, "llm_requests")
    with duckdb.connect() as c:
        columns = ", ".join(
            f"CAST(NULL AS {x.type}) AS {x.name}" for x in TABLES["llm_requests"].columns
        )
        got = c.execute(
            f"SELECT count(*) FROM (SELECT {columns}) WHERE {lint.render(tree)}"
        ).fetchall()
    assert got in ([(0,)], [(1,)])


@pytest.mark.parametrize("text", NO_CONDITIONS)
def test_no_conditions(text: str) -> None:
    with pytest.raises(UsageError):
        lint.check_condition(text, "llm_requests")


# the files


def _files() -> list[str]:
    root = resources.files("lamina_traces.queries")
    return [
        f"{d.name}/{f.name[:-4]}"
        for d in root.iterdir()
        if d.is_dir()
        for f in d.iterdir()
        if f.name.endswith(".sql")
    ]


SAMPLES = {"named": ["a"], "widths_ns": [1_000_000_000, 60_000_000_000]}
"""a value for the parameters that are not whole numbers."""


@pytest.mark.parametrize("name", sorted(_files()))
def test_every_query(name: str) -> None:
    """Passes the lint, has a true header, translates, and gives the columns and types it promises."""
    q = query.load(name)  # which neither parses nor lints
    assert query.parse(name, q.sql) == q
    assert q.doc.endswith(".")
    assert all(q.parameters.values()), "each parameter says what it is"
    spark = sqlglot.parse_one(lint.transpile(q.sql), read="spark")
    assert isinstance(spark, exp.Query)
    assert spark.named_selects == list(q.columns)
    setup = [f"CREATE VIEW {t} AS {engine.view(s, [], ())}" for t, s in TABLES.items()]
    for events in ("llm_requests", "cold_starts", "power_samples"):
        with engine.connect(
            [], setup=[*setup, f"CREATE VIEW events AS SELECT * FROM {events}"]
        ) as c:
            sql = q.bind({p: SAMPLES.get(p, 7) for p in q.parameters})
            types = {r[0]: r[1] for r in c.execute(f"DESCRIBE {sql}").fetchall()}
            assert types == dict(q.columns)


def test_names_and_unknown() -> None:
    assert set(query.names()) == set(_files())
    with pytest.raises(UnknownName, match="arrivals/gapcounts"):
        query.load("arrivals/gapcounts")


# headers and parameters

HEADER = """-- How many requests are longer than some length.
-- parameters: $longer_than tokens; $models list of names;
--   $share of nothing
-- columns: n BIGINT,
--   x DOUBLE
SELECT COUNT(*) AS n, MAX($share) AS x FROM llm_requests WHERE input_tokens > $longer_than AND model IN ($models)
"""


def test_header_and_literals() -> None:
    q = query.parse("test/one", HEADER)
    assert dict(q.parameters) == {
        "longer_than": "tokens",
        "models": "list of names",
        "share": "of nothing",
    }
    assert dict(q.columns) == {"n": "BIGINT", "x": "DOUBLE"}
    sql = q.bind({"longer_than": -5, "models": ["a", "b'); DROP TABLE x; --"], "share": 0.1})
    assert "> (-5)" in sql
    assert "IN ('a', 'b''); DROP TABLE x; --')" in sql
    with duckdb.connect() as c:
        c.execute("CREATE TABLE llm_requests AS SELECT 3 AS input_tokens, 'a' AS model")
        assert c.execute(sql).fetchall() == [(1, 0.1)]


@pytest.mark.parametrize(
    ("value", "back"),
    [
        (0.1, 0.1),
        (-1e-300, -1e-300),
        (1.7976931348623157e308, 1.7976931348623157e308),
        (2**63 - 1, 2**63 - 1),
        (-(2**62), -(2**62)),
        (True, True),
        (None, None),
        ("quote ' and \\ and \n and $x and 🎉", "quote ' and \\ and \n and $x and 🎉"),
        ([1, 2], [1, 2]),
        ([], []),
    ],
)
def test_literals_come_back(value: object, back: object) -> None:
    with duckdb.connect() as c:
        assert c.execute(f"SELECT {lint.render(query.literal(value))}").fetchall() == [(back,)]


@pytest.mark.parametrize("value", [float("nan"), float("inf"), "\ud800", object(), {"a": 1}, b"x"])
def test_what_cannot_be_a_parameter(value: object) -> None:
    with pytest.raises(UsageError):
        query.literal(value)


def test_wrong_parameters() -> None:
    q = query.parse("test/one", HEADER)
    with pytest.raises(UsageError, match="needs the parameter 'models'"):
        q.bind({"longer_than": 1, "share": 1})
    with pytest.raises(UnknownName, match="unknown parameter"):
        q.bind({"longer_than": 1, "models": [], "share": 1, "model": 1})


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("-- How many requests are longer than some length.\n", ""),
        (
            "-- parameters: $longer_than tokens; $models list of names;\n--   $share of nothing\n",
            "",
        ),
        ("$longer_than tokens; ", ""),
        ("$longer_than tokens", "longer_than tokens"),
        ("n BIGINT,", "m BIGINT,"),
        ("n BIGINT,", "n,"),
        ("-- columns", "-- gives"),
    ],
)
def test_a_header_that_lies(old: str, new: str) -> None:
    assert old in HEADER
    with pytest.raises(ModelError):
        query.parse("test/one", HEADER.replace(old, new, 1))


def test_all_errors_are_ours() -> None:
    for text in (
        "SELECT (((",
        "\x00",
        "SELECT '",
        "🎉",
        "x = '\ud800'",
        "SELECT " + "(" * 50 + "1",
    ):
        with pytest.raises(LaminaError):
            lint.check(text)
        with pytest.raises(LaminaError):
            lint.check_condition(text, "llm_requests")

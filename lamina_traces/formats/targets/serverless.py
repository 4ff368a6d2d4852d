"""Serverless load generators: In-Vitro's Azure-2019 folder and FaaS Profiler's workload file.

Read in vhive-serverless/invitro pkg/trace/azure_trace_parser.go (counts a minute from the first column after
``Trigger``, at most 1440; the three files are joined by HashFunction, of which 18 characters are used) and
PrincetonUniversity/faas-profiler synthetic_workload_invoker/EventGenerator.py and WorkloadChecker.py (a list of gaps in
seconds from the start; gaps past ``test_duration_in_seconds`` are cut off).
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import polars as pl

from ...errors import DataError
from ..exporting import TARGETS_HINT, Intake, Target, Writing
from .spool import Spool
from .text import seconds

MINUTE_NS = 60 * 10**9
SHORTEST_ID = 18
"""characters of a function's hash that In-Vitro takes for its name."""
LAST_MINUTE = 1440
_DURATION = (0, 1, 25, 50, 75, 99, 100)
_MEMORY = (1, 5, 25, 50, 75, 95, 99, 100)
_PERCENTILES_OF = {"duration_s": "duration_30s_mean_s"}
"""Azure's percentiles of durations are of 30-second averages: those first, else the invocations' own."""
_OWNERS = ("owner_id", "app_id", "func_id")
_HEAD = ("HashOwner", "HashApp", "HashFunction")


def _invitro(rows: Iterator[pl.DataFrame], place: Path, state: Writing) -> int:
    spool = Spool(state, "counts").take(rows)
    if not spool.files:
        return 0
    columns = set(next(iter(spool)).columns)
    counted = state.table == "invocation_counts"
    if counted:
        widest = spool.table("SELECT max(bin_s) AS s FROM spool")["s"][0]
        if widest > 60:
            raise DataError(
                f"invitro needs counts a minute; bins here are up to {widest:g} s wide",
                TARGETS_HINT,
            )
    keys = ", ".join(c if c in columns else f"NULL::VARCHAR AS {c}" for c in _OWNERS)
    trigger = "min(trigger)" if "trigger" in columns else "NULL"
    first = (state.first_ns or 0) // MINUTE_NS
    n = "sum(invocations)::BIGINT" if counted else "count(*)"
    minutes = spool.table(f"""
        SELECT {keys}, arrival_ns // {MINUTE_NS} - {first} AS minute, {n} AS n FROM spool
        GROUP BY ALL ORDER BY ALL""")
    functions = spool.table(
        f"SELECT {keys}, coalesce({trigger}, 'others') AS trigger FROM spool GROUP BY ALL ORDER BY ALL"
    )
    for kind in ("owner", "app"):
        if f"{kind}_id" not in columns:
            state.note(f"no {kind} is recorded: the function stands for it")
    if "trigger" not in columns:
        state.note("no trigger is recorded: every function says 'others'")
    span = int(minutes["minute"].max() or 0) + 1  # type: ignore[arg-type]
    if span > LAST_MINUTE:
        state.note(f"In-Vitro loads the first {LAST_MINUTE} of the {span} minutes")
    names = _names(functions, state)
    _put_minutes(minutes, names, functions, span, place / "invocations.csv")
    stats = _stats(spool, columns, state)
    for file, metric, scale, head, at in (
        (
            "durations.csv",
            "duration_s",
            1000.0,
            ("Average", "Count", "Minimum", "Maximum"),
            _DURATION,
        ),
        ("memory.csv", "memory_mb", 1.0, ("SampleCount", "AverageAllocatedMb"), _MEMORY),
    ):
        _put_stats(stats, metric, scale, head, at, functions, names, place / file, state)
    return state.rows


def _names(functions: pl.DataFrame, state: Writing) -> dict[str, str]:
    """Names as In-Vitro can take them: at least 18 characters, since it cuts off the first 18."""
    names = {
        f: f if len(f) >= SHORTEST_ID else f.ljust(SHORTEST_ID, "0") for f in functions["func_id"]
    }
    longer = sum(k != v for k, v in names.items())
    state.losses[f"func_id (shorter than {SHORTEST_ID} characters: zeros added)"] += longer
    if len(set(names.values())) < len(names):
        raise DataError(
            "function ids become equal when they are filled up to 18 characters", TARGETS_HINT
        )
    return names


def _head(row: dict[str, str | None], names: dict[str, str]) -> list[str]:
    func = names[str(row["func_id"])]
    return [row["owner_id"] or func, row["app_id"] or func, func]


def _put_minutes(
    minutes: pl.DataFrame, names: dict[str, str], functions: pl.DataFrame, span: int, file: Path
) -> None:
    by = minutes.partition_by("func_id", as_dict=True)
    with file.open("w", encoding="utf-8") as out:
        out.write(",".join([*_HEAD, "Trigger", *map(str, range(1, span + 1))]) + "\n")
        for row in functions.iter_rows(named=True):
            counts = [0] * span
            for minute, n in by[(row["func_id"],)].select("minute", "n").iter_rows():
                counts[minute] += n
            out.write(",".join([*_head(row, names), row["trigger"], *map(str, counts)]) + "\n")


def _stats(spool: Spool, columns: set[str], state: Writing) -> pl.DataFrame:
    """(func_id, app_id, metric, stat, value, samples) as recorded, else from the invocations."""
    if "function_stats" in state.beside:
        found = Spool(state, "stats").take(state.beside["function_stats"])
        if found.files:
            have = set(next(iter(found)).columns)
            told = ", ".join(
                c if c in have else f"NULL AS {c}"
                for c in ("func_id", "app_id", "metric", "stat", "value", "samples")
            )
            return found.table(f"SELECT {told} FROM spool")
    parts = []
    for metric, at in (("duration_s", _DURATION), ("memory_mb", _MEMORY)):
        if metric not in columns:
            continue
        for stat, value in (
            ("mean", f"avg({metric})"), ("min", f"min({metric})"), ("max", f"max({metric})"),
            *((f"p{p}", f"quantile_cont({metric}, {p / 100})") for p in at),
        ):  # fmt: skip
            parts.append(
                f"SELECT func_id, NULL::VARCHAR AS app_id, '{metric}' AS metric, '{stat}' AS stat, {value} AS value, "
                f"count({metric}) AS samples FROM spool WHERE {metric} IS NOT NULL GROUP BY func_id"
            )
    if not parts:
        return pl.DataFrame(
            schema={
                "func_id": pl.String,
                "app_id": pl.String,
                "metric": pl.String,
                "stat": pl.String,
                "value": pl.Float64,
                "samples": pl.Int64,
            }
        )
    return spool.table(" UNION ALL ".join(parts))


def _put_stats(
    stats: pl.DataFrame, metric: str, scale: float, head: tuple[str, ...], at: tuple[int, ...],
    functions: pl.DataFrame, names: dict[str, str], file: Path, state: Writing,
) -> None:  # fmt: skip
    """One line a function: its own statistics, else those of its application; what is not recorded has
    to be 0 and is counted."""
    stats = stats.filter(pl.col("metric").is_in([metric, _PERCENTILES_OF.get(metric, metric)]))
    rows = stats.sort(
        pl.col("metric") != metric, maintain_order=True
    )  # of equal keys the last counts
    own = {
        (f, s): (v, n)
        for f, s, v, n in rows.filter(pl.col("func_id").is_not_null())
        .select("func_id", "stat", "value", "samples")
        .iter_rows()
    }
    app = {
        (a, s): (v, n)
        for a, s, v, n in rows.filter(pl.col("func_id").is_null())
        .select("app_id", "stat", "value", "samples")
        .iter_rows()
    }
    prefix = "percentile_Average_" if metric == "duration_s" else "AverageAllocatedMb_pct"
    wanted = {"Average": "mean", "AverageAllocatedMb": "mean", "Minimum": "min", "Maximum": "max"}
    with file.open("w", encoding="utf-8") as out:
        out.write(",".join([*_HEAD, *head, *(f"{prefix}{p}" for p in at)]) + "\n")
        for row in functions.iter_rows(named=True):

            def told(
                stat: str, row: dict[str, str | None] = row
            ) -> tuple[float | None, int | None]:
                return (
                    own.get((row["func_id"], stat))
                    or app.get((row["app_id"], stat))
                    or (None, None)
                )

            cells = []
            for name in (*head, *(f"p{p}" for p in at)):
                value = (
                    told("mean")[1] if name.endswith("Count") else told(wanted.get(name, name))[0]
                )
                if value is None:
                    state.losses[f"{metric} statistics (not recorded, written as 0)"] += 1
                cells.append(_number(value, 1.0 if name.endswith("Count") else scale))
            out.write(",".join([*_head(row, names), *cells]) + "\n")


def _number(value: float | None, scale: float) -> str:
    if value is None:
        return "0"
    scaled = round(value * scale, 9)
    return str(int(scaled)) if scaled == int(scaled) else repr(scaled)


def _faas_profiler(rows: Iterator[pl.DataFrame], place: Path, state: Writing) -> int:
    """Gaps in seconds for each function (or model), every digit."""
    spool = Spool(state, "arrivals")
    first = written = 0
    for frame in rows:
        first = state.first_ns or 0
        who = next((c for c in ("func_id", "model") if c in frame.columns), None)
        name = pl.col(who).fill_null("unknown") if who else pl.lit("all")
        spool.add(
            frame.select((pl.col("arrival_ns") - first).alias("since_ns"), name.alias("name"))
        )
        written += frame.height
    if not written:
        return 0
    last = (state.last_ns or 0) - first
    ordered = """
        SELECT name, since_ns - lag(since_ns, 1, 0) OVER (PARTITION BY name ORDER BY since_ns) AS gap
        FROM spool ORDER BY name, since_ns"""
    with place.open("w", encoding="utf-8") as out:
        out.write(
            f'{{"test_name": {json.dumps(state.name)}, "test_duration_in_seconds": {last // 10**9 + 2}, '
            '"random_seed": 0, "blocking_cli": false, "instances": {'
        )
        before: str | None = None
        for frame in spool.query(ordered):
            for group in frame.partition_by("name", maintain_order=True):
                name = group["name"][0]
                gaps = seconds(group["gap"]).str.join(", ")[0]
                if name == before:
                    out.write(f", {gaps}")
                    continue
                closed = "" if before is None else "]}, "
                instance = {"application": name}
                opening = json.dumps(instance, ensure_ascii=False)[:-1]
                out.write(
                    f'{closed}{json.dumps(name, ensure_ascii=False)}: {opening}, "interarrivals_list": [{gaps}'
                )
                before = name
        out.write("]}}}\n")
    if state.first_ns:
        state.note("times are rebased: the first arrival is at 0 s")
    state.note("each instance needs an application of its name in FaaS Profiler")
    return written


_COUNTS = ("func_id", "arrival_ns", "bin_s", "invocations")
_OWNED = ("owner_id", "app_id", "trigger")

TARGETS = (
    Target(
        name="faas-profiler",
        title="FaaS Profiler workload with a list of gaps for each function",
        tools="FaaS Profiler",
        suffix=".json",
        intakes=(
            Intake("invocations", ("func_id", "arrival_ns"), ("func_id", "arrival_ns")),
            Intake("llm_requests", ("arrival_ns",), ("arrival_ns", "model")),
        ),
        resolution_ns=1,
        command=lambda path, _state: f"./WorkloadInvoker -c {path}",
        write=_faas_profiler,
        source="PrincetonUniversity/faas-profiler, synthetic_workload_invoker",
    ),
    Target(
        name="invitro",
        title="In-Vitro folder in the layout of Azure Functions 2019, counts a minute",
        tools="In-Vitro loader",
        suffix="",
        intakes=(
            Intake("invocation_counts", _COUNTS, (*_COUNTS, *_OWNED), ("function_stats",)),
            Intake("invocation_counts", _COUNTS, (*_COUNTS, *_OWNED)),
            Intake("invocations", ("func_id", "arrival_ns"), ("func_id", *_OWNED, "duration_s", "memory_mb")),
        ),
        resolution_ns=MINUTE_NS,
        command=lambda path, _state: (
            'go run cmd/loader.go --config cfg.json   # cfg.json: "Granularity": "minute", '
            f'"TracePath": "{path}"'
        ),
        write=_invitro,
        source="vhive-serverless/invitro, pkg/trace/azure_trace_parser.go",
    ),
)  # fmt: skip

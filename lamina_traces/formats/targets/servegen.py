"""ServeGen's pool of clients: for each client its rate and gap law a window, and the lengths' distributions.

Files as alibaba/ServeGen reads them (servegen/clientpool.py): ``chunk-<i>-trace.csv`` without a header
(start s, rate 1/s, CV of the gaps, law, two arguments) and ``chunk-<i>-dataset.json`` (a window's start → field →
a Python dict as text). Every client has the same windows; an idle one has rate 0 and no law.

A trace that holds such tables gives them as they are. From requests the pool is made: windows of 600 s
from the first request; in each, rate = requests / 600 s, the CV of the gaps that end in the window, and a Gamma
law with that CV and the mean 1 / rate; lengths' distributions for each 6 h, every value as recorded.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import polars as pl

from ...sql import text
from ..exporting import REQUEST, Intake, Target, Writing
from .spool import Spool

WINDOW_S = 600
LENGTHS_S = 21_600
"""how long a distribution of lengths holds in ServeGen's published pools."""
FEWEST_GAPS = 3
"""below these a window's CV is not estimated: its gaps are taken for exponential."""
LEAST_CV = 0.01
_CLIENTS = ("client_id", "user_id", "tenant_id")
_FIELDS = (
    "input_tokens", "output_tokens", "text_tokens", "image_tokens", "audio_tokens", "video_tokens",
    "image_count", "audio_count", "video_count",
)  # fmt: skip


def _write(rows: Iterator[pl.DataFrame], place: Path, state: Writing) -> int:
    if state.table == "client_windows":
        return _from_tables(rows, place, state)
    return _from_requests(rows, place, state)


# --- from client_windows and client_pmf ------------------------------------------------------------


def _from_tables(rows: Iterable[pl.DataFrame], place: Path, state: Writing) -> int:
    spool = Spool(state, "windows").take(rows)
    pmf = Spool(state, "pmf").take(state.beside["client_pmf"])
    written = 0
    columns = set(next(iter(spool)).columns)
    pools = [c for c in ("category", "model") if c in columns]
    names = spool.table(
        f"SELECT DISTINCT {', '.join([*pools, 'client_id'])} FROM spool ORDER BY ALL"
    )
    numbered = _numbers(names["client_id"].unique().sort().to_list())
    if any(str(n) != c for c, n in numbered.items()):
        state.losses["client_id (numbered anew)"] += len(numbered)
    for one in names.iter_rows(named=True):
        folder = (
            place.joinpath(*(_folder(one[p]) for p in pools))
            if names.select(pools).n_unique() > 1
            else place
        )
        folder.mkdir(parents=True, exist_ok=True)
        where = " AND ".join(f"{k} IS NOT DISTINCT FROM {text(v)}" for k, v in one.items())
        windows = spool.table(f"SELECT * FROM spool WHERE {where} ORDER BY arrival_ns, row_id")
        number = numbered[one["client_id"]]
        _put_windows(windows, folder / f"chunk-{number}-trace.csv", state)
        laws = (
            pmf.table(
                f"SELECT arrival_ns, field, value, prob FROM spool WHERE {where} ORDER BY arrival_ns, row_id"
            )
            if pmf.files
            else pl.DataFrame()
        )
        _put_pmf(laws, folder / f"chunk-{number}-dataset.json")
        written += windows.height
    return written


def _numbers(clients: list[str]) -> dict[str, int]:
    """Clients that are numbers keep them; others are numbered in order of their names."""
    if all(c.isascii() and c.isdigit() and str(int(c)) == c for c in clients):
        return {c: int(c) for c in clients}
    return {c: i for i, c in enumerate(clients)}


def _folder(name: str | None) -> str:
    safe = "".join(c if c.isalnum() or c in "-_." else "-" for c in name or "unknown")
    return safe.strip(".") or "unknown"


def _seconds(ns: int) -> str:
    whole, rest = divmod(ns, 10**9)
    return str(whole) if not rest else f"{whole}.{rest:09}".rstrip("0")


def _put_windows(windows: pl.DataFrame, file: Path, state: Writing) -> None:
    lines = []
    for w in windows.iter_rows(named=True):
        law = w.get("law")
        if law is not None and law not in ("gamma", "weibull"):
            state.losses["law (neither gamma nor weibull: written as idle)"] += 1
            law = None
        if law is None or w.get("shape") is None or w.get("scale_s") is None:
            tail = f"{w['rate_rps'] or 0!r},{w.get('gap_cv') or 0!r},,0,0"
        else:
            tail = f"{w['rate_rps']!r},{w.get('gap_cv') or 0!r},{law.capitalize()},{w['shape']!r},{w['scale_s']!r}"
        lines.append(f"{_seconds(w['arrival_ns'])},{tail}\n")
    file.write_text("".join(lines), encoding="ascii")


def _put_pmf(laws: pl.DataFrame, file: Path) -> None:
    told: dict[str, dict[str, list[str]]] = {}
    for at, name, value, prob in laws.iter_rows():
        key = str(int(value)) if value == int(value) else repr(value)
        told.setdefault(_seconds(at), {}).setdefault(name, []).append(f"{key}: {prob!r}")
    document = {
        at: {f: "{" + ", ".join(pairs) + "}" for f, pairs in fields.items()}
        for at, fields in told.items()
    }
    file.write_text(json.dumps(document, indent=2) + "\n", encoding="utf-8")


# --- from requests ---------------------------------------------------------------------------------


def _from_requests(rows: Iterator[pl.DataFrame], place: Path, state: Writing) -> int:
    origin = 0
    spool = Spool(state, "requests")
    client: str | None = None
    columns: list[str] = []
    written = 0
    for frame in rows:
        if not written:
            client = next((c for c in _CLIENTS if c in frame.columns), None)
            columns = [f for f in _FIELDS if f in frame.columns]
            origin = state.first_ns or 0
        who = pl.col(client).fill_null("unknown") if client else pl.lit("all")
        spool.add(
            frame.select(
                (pl.col("arrival_ns") - origin).alias("since_ns"), who.alias("client"), *columns
            )
        )
        written += frame.height
    if not written:
        return 0
    if client is None:
        state.note("no client is recorded: the whole trace is one client")
    state.note(
        "made from requests: a Gamma law for the gaps of each 600 s, every length of each 6 h as its own "
        "value; one law a field, so that lengths are not tied to each other"
    )
    last = int(spool.table(f"SELECT max(since_ns) // {WINDOW_S * 10**9} AS w FROM spool")["w"][0])
    clients = spool.table("SELECT DISTINCT client FROM spool ORDER BY client")["client"].to_list()
    numbered = _numbers(clients)
    if client is not None and any(str(n) != c for c, n in numbered.items()):
        state.losses[f"{client} (numbered anew)"] += len(clients)
    gaps = f"""
        SELECT client, since_ns // {WINDOW_S * 10**9} AS w, count(*) AS n, count(gap) AS gaps,
               avg(gap) AS mean, stddev_pop(gap) AS sd
        FROM (
            SELECT client, since_ns,
                   (since_ns - lag(since_ns) OVER (PARTITION BY client ORDER BY since_ns)) / 1e9 AS gap
            FROM spool
        )
        GROUP BY ALL ORDER BY client, w"""
    by_client = {k[0]: v for k, v in spool.table(gaps).partition_by("client", as_dict=True).items()}
    for name in clients:
        _put_windows(
            _windows(by_client[name], last), place / f"chunk-{numbered[name]}-trace.csv", state
        )
        _put_pmf(_lengths(spool, name, columns), place / f"chunk-{numbered[name]}-dataset.json")
    return written


def _windows(found: pl.DataFrame, last: int) -> pl.DataFrame:
    by = {r["w"]: r for r in found.iter_rows(named=True)}
    out: list[dict[str, Any]] = []
    for w in range(last + 1):
        row: dict[str, Any] = {
            "arrival_ns": w * WINDOW_S * 10**9,
            "rate_rps": 0,
            "gap_cv": 0,
            "law": None,
            "shape": None,
            "scale_s": None,
        }
        got = by.get(w)
        if got is not None:
            rate = got["n"] / WINDOW_S
            cv = got["sd"] / got["mean"] if got["gaps"] >= FEWEST_GAPS and got["mean"] else 1.0
            shape = max(cv, LEAST_CV) ** -2
            row |= {
                "rate_rps": rate,
                "gap_cv": cv,
                "law": "gamma",
                "shape": shape,
                "scale_s": 1 / (rate * shape),
            }
        out.append(row)
    return pl.DataFrame(out, infer_schema_length=None)


def _lengths(spool: Spool, name: str, columns: list[str]) -> pl.DataFrame:
    parts = [
        f"""SELECT since_ns // {LENGTHS_S * 10**9} AS w, '{f}' AS field, {f}::DOUBLE AS value, count(*) AS n
            FROM spool WHERE client = {text(name)} AND {f} IS NOT NULL GROUP BY ALL"""
        for f in columns
    ]
    found = spool.table(f"SELECT * FROM ({' UNION ALL '.join(parts)}) ORDER BY w, field, value")
    share = pl.col("n") / pl.col("n").sum().over("w", "field")
    return found.select(pl.col("w") * LENGTHS_S * 10**9, "field", "value", share.alias("prob"))


_WINDOWS = ("client_id", "arrival_ns", "window_s", "rate_rps", "gap_cv", "law", "shape", "scale_s")

TARGETS = (
    Target(
        name="servegen",
        title="a ServeGen pool: a folder with two files a client",
        tools="ServeGen, BLIS",
        suffix="",
        intakes=(
            Intake("client_windows", _WINDOWS, (*_WINDOWS, "category", "model"), ("client_pmf",)),
            Intake("llm_requests", REQUEST, ("arrival_ns", *_CLIENTS, *_FIELDS)),
        ),
        resolution_ns=1,
        command=lambda path, _state: f"cp -r {path} ServeGen/data/CATEGORY/MODEL   # then ClientPool(CATEGORY, MODEL)",
        write=_write,
        source="alibaba/ServeGen, servegen/clientpool.py",
    ),
)  # fmt: skip

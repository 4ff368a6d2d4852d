"""Slices: parts of a workload that can be named and whose metric deviates, and how they shift between two traces.

A slice is one to three conditions (model = x and hour = 14 and input in 1,024–2,047). Every slice that holds enough
rows is looked at; it is reported where its mean stands off the rest's by an effect size that matters, and the false
discovery rate of the search is controlled (Benjamini & Yekutieli 2001, which holds under any dependence of the
tests; the rows themselves are taken as independent, so the effect size leads). The method is that of subpopulation discovery, with conditions on columns in
place of a language model's descriptions.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl
from scipy import special

from .aspects.rates import origin_of_day_ns
from .distributions import K_ANONYMITY
from .errors import ModelError, UnknownName
from .schema import FAILED, TABLES
from .sql import quoted, text
from .units import NS_PER_S

if TYPE_CHECKING:
    from .store import Trace

TABLE = "llm_requests"
DIMENSIONS = (
    "model", "service", "workload", "adapter", "tenant_id", "user_id", "client_id", "stage", "finish_reason", "slo_class",
    "streaming", "turn",
)  # fmt: skip
METRICS = {
    "failed": "CASE WHEN status IN ({failed}) THEN 1.0 WHEN status = 'unknown' THEN NULL ELSE 0.0 END",
    "input_tokens": "LN(GREATEST(input_tokens, 1))",
    "output_tokens": "LN(GREATEST(output_tokens, 1))",
    "ttft_s": "LN(GREATEST(ttft_s, 1e-6))",
    "tpot_s": "LN(GREATEST(tpot_s, 1e-6))",
    "e2e_s": "LN(GREATEST(e2e_s, 1e-6))",
    "cached_input_tokens": "CAST(cached_input_tokens AS DOUBLE) / GREATEST(input_tokens, 1)",
}
"""what may deviate: a share (failed, cached), or a logarithm, so that means are medians of skewed laws and differences are
factors"""
SHARES = ("failed", "cached_input_tokens")
MOST_VALUES = 24
"""values of one dimension; the others are one value, 'other'."""
DEPTH = 3
LEAST_SHARE = 0.005
LEAST_EFFECT = 0.2
"""Cohen's d below which a deviation is small, whatever its p-value."""
RATE = 0.05
"""false discovery rate."""
MOST_SHOWN = 12


@dataclass(frozen=True)
class Slice:
    """``where``: (dimension, value) in words; ``mean``: of the metric in the slice, ``rest``: outside (medians, where the
    metric is a positive number); ``effect``: Cohen's d; ``q``: p-value after correction for the search."""

    where: tuple[tuple[str, str], ...]
    rows: int
    share: float
    mean: float
    rest: float
    effect: float
    q: float

    @property
    def name(self) -> str:
        return " and ".join(f"{k} = {v}" for k, v in self.where)

    def to_dict(self) -> dict[str, Any]:
        return {
            "where": dict(self.where), "rows": self.rows, "share": self.share, "mean": self.mean,
            "rest": self.rest, "effect": self.effect, "q": self.q,
        }  # fmt: skip


@dataclass(frozen=True)
class Shift:
    """One slice in two traces: its share and mean in each, and what it adds to the difference of the whole means: by
    being larger or smaller (``mix``), and by being different inside (``within``). Kitagawa (1955)."""

    where: tuple[tuple[str, str], ...]
    share: tuple[float, float]
    mean: tuple[float, float]
    mix: float
    within: float

    @property
    def name(self) -> str:
        return " and ".join(f"{k} = {v}" for k, v in self.where)

    def to_dict(self) -> dict[str, Any]:
        return {
            "where": dict(self.where), "share_a": self.share[0], "share_b": self.share[1],
            "mean_a": self.mean[0], "mean_b": self.mean[1], "mix": self.mix, "within": self.within,
        }  # fmt: skip


def metrics(trace: Trace) -> tuple[str, ...]:
    """The metrics that a trace records."""
    recorded = [m for m in METRICS if m == "failed" or trace.has(m)]
    if trace.has("status"):
        known = trace.sql(f"SELECT count(*) AS n FROM {TABLE} WHERE status <> 'unknown'")["n"][
            0
        ].as_py()
        if not known:
            recorded.remove("failed")
    return tuple(recorded)


def cube(trace: Trace, metric: str, dimensions: Sequence[str] | None = None) -> pl.DataFrame:
    """Rows, sum and sum of squares of a metric by every combination of the dimensions' values: small, whatever the
    number of rows. Dimensions: the recorded names of streams, hour of the day, and input length by octave."""
    if trace.main_table != TABLE:
        raise ModelError(
            f"trace {trace.name!r} holds {trace.main_table}, slices are of {TABLE}",
            "name a trace of requests",
        )
    known = metrics(trace)
    if metric not in known:
        raise UnknownName("metric of this trace", metric, known)
    columns = {
        d: expression
        for d, expression in _expressions(trace, metric).items()
        if dimensions is None or d in dimensions
    }
    if dimensions is not None:
        for d in dimensions:
            if d not in columns:
                raise UnknownName("dimension of this trace", d, _expressions(trace, metric))
    value = METRICS[metric].format(failed=", ".join(map(text, FAILED)))
    listed = ", ".join(f"{expression} AS {quoted(d)}" for d, expression in columns.items())
    keys = ", ".join(map(quoted, columns))
    found = pl.DataFrame(
        trace.sql(
            f"SELECT {keys}, count(m) AS n, sum(m) AS s, sum(m * m) AS ss FROM "
            f"(SELECT {listed}, {value} AS m FROM {TABLE}) WHERE m IS NOT NULL GROUP BY {keys}"
        )
    )
    return found.filter(pl.col("n") > 0)


def _expressions(trace: Trace, metric: str) -> dict[str, str]:
    out = {}
    for d in DIMENSIONS:
        if (
            d not in TABLES[TABLE]
            or not trace.has(d)
            or (metric == "failed" and d == "finish_reason")
        ):
            continue
        column = quoted(d)
        sizes = trace.sql(
            f"SELECT CAST({column} AS VARCHAR) AS v, count(*) AS n FROM {TABLE} WHERE {column} IS NOT NULL "
            f"GROUP BY v ORDER BY n DESC, v LIMIT {MOST_VALUES}"
        )
        values = [
            v
            for v, n in zip(sizes["v"].to_pylist(), sizes["n"].to_pylist(), strict=True)
            if n >= K_ANONYMITY
        ]
        if len(values) < 2:
            continue
        listed = ", ".join(map(text, values))
        cast = f"CAST({column} AS VARCHAR)"
        out[d] = (
            f"CASE WHEN {column} IS NULL THEN 'none' WHEN {cast} IN ({listed}) THEN {cast} ELSE 'other' END"
        )
    origin = origin_of_day_ns(trace)
    if origin is not None and trace.has("arrival_ns"):
        hour = 3600 * NS_PER_S
        out["hour"] = f"CAST((({origin} + arrival_ns) // {hour}) % 24 AS VARCHAR)"
    elif trace.has("arrival_ns") and trace.manifest.span_ns:
        first, part = trace.manifest.arrival_first_ns or 0, (trace.manifest.span_ns or 1) // 8 + 1
        out["eighth"] = f"CAST((arrival_ns - {first}) // {part} + 1 AS VARCHAR)"
    if trace.has("input_tokens") and metric != "input_tokens" and not _lost(trace, metric):
        out["input"] = "CAST(CAST(floor(log2(GREATEST(input_tokens, 1))) AS INTEGER) AS VARCHAR)"
    return out


def _lost(trace: Trace, metric: str) -> bool:
    """Whether requests that failed left no input length: then a length says that a request did not fail."""
    if metric != "failed":
        return False
    listed = ", ".join(map(text, FAILED))
    found = trace.sql(
        f"SELECT count(*) AS n FROM {TABLE} WHERE input_tokens IS NULL AND status IN ({listed})"
    )
    return bool(found["n"][0].as_py())


def _label(dimension: str, value: str) -> str:
    if dimension == "input" and value not in ("none", "other"):
        low = 2 ** int(value)
        return f"{low:,} to {2 * low - 1:,} tokens"
    if dimension == "hour":
        return f"{value}:00"
    return f"{value} of 8" if dimension == "eighth" else value


def find(trace: Trace, metric: str, dimensions: Sequence[str] | None = None) -> list[Slice]:
    """Slices of a trace whose ``metric`` deviates, the most telling first; each is held against the rows that those
    before it leave, so that a slice is not told again by what it is not. At most MOST_SHOWN. Raises ModelError,
    UnknownName."""
    table = cube(trace, metric, dimensions)
    names = [c for c in table.columns if c not in ("n", "s", "ss")]
    rows = float(table["n"].sum() or 0)
    out: list[Slice] = []
    while len(out) < MOST_SHOWN and rows:
        best = _most_telling(table, names, rows)
        if best is None:
            break
        out.append(_worded(best, metric))
        table = table.filter(~pl.all_horizontal(*(pl.col(k) == v for k, v in best.where)))
    return out


def _most_telling(table: pl.DataFrame, names: list[str], rows: float) -> Slice | None:
    """The slice with the largest |d|·√(share·(1 − share)), the correlation of belonging to it with the metric, in as few
    conditions as give four fifths of the effect; None where none passes."""
    n, s, ss = (float(table[c].sum() or 0) for c in ("n", "s", "ss"))
    least = max(LEAST_SHARE * rows, 3 * K_ANONYMITY)
    scored = []
    for depth in range(1, min(DEPTH, len(names)) + 1):
        for keys in itertools.combinations(names, depth):
            part = table.group_by(keys).agg(
                pl.col("n").sum(), pl.col("s").sum(), pl.col("ss").sum()
            )
            part = part.filter((pl.col("n") >= least) & (pl.col("n") <= n - least)).sort(keys)
            for *values, k, a, b in part.iter_rows():
                where = tuple(zip(keys, map(str, values), strict=True))
                scored.append(_scored(where, (float(k), float(a), float(b)), (n, s, ss), rows))
    if not scored:
        return None
    q = _corrected(np.array([f.q for f in scored]))
    found = {
        f.where: replace(f, q=float(v))
        for f, v in zip(scored, q, strict=True)
        if abs(f.effect) >= LEAST_EFFECT and v <= RATE
    }
    if not found:
        return None

    def telling(f: Slice) -> float:
        part = f.rows / n
        return abs(f.effect) * math.sqrt(part * (1 - part))

    best = max(found.values(), key=lambda f: (telling(f), f.name))
    for depth in range(1, len(best.where)):
        for where in itertools.combinations(best.where, depth):
            simple = found.get(where)
            if (
                simple
                and simple.effect * best.effect > 0
                and abs(simple.effect) >= 0.8 * abs(best.effect)
            ):
                return simple
    return best


def _scored(where: tuple[tuple[str, str], ...], inside: tuple[float, float, float], whole: tuple[float, float, float], rows: float) -> Slice:  # fmt: skip
    """Cohen's d of a part against the rest, and Welch's p-value (as ``q``, before correction)."""
    (k, a, b), (n, s, ss) = inside, whole
    mean, rest = a / k, (s - a) / (n - k)
    var, var_rest = max(b / k - mean**2, 0.0), max((ss - b) / (n - k) - rest**2, 0.0)
    spread = math.sqrt((k * var + (n - k) * var_rest) / n)
    error = math.sqrt(var / k + var_rest / (n - k))
    if 0 <= b <= k and 0 <= ss <= n and abs(a - b) < 1e-9 and abs(s - ss) < 1e-9:
        # zeros and ones: a part without a one has no variance of its own, so that of the whole stands for both
        error = math.sqrt(s / n * (1 - s / n) * (1 / k + 1 / (n - k)))
    d = (mean - rest) / spread if spread > 0 else 0.0
    z = abs(mean - rest) / error if error > 0 else 0.0
    return Slice(where, round(k), k / rows, mean, rest, d, float(special.erfc(z / math.sqrt(2))))


def _corrected(p: np.ndarray[Any, np.dtype[np.float64]]) -> np.ndarray[Any, np.dtype[np.float64]]:
    """p-values by Benjamini and Yekutieli: p·m·(1 + 1/2 + … + 1/m)/rank, made monotone."""
    m = len(p)
    if not m:
        return p
    order = np.argsort(p, kind="stable")
    factor = m * float((1 / np.arange(1, m + 1)).sum())
    adjusted = np.minimum.accumulate((p[order] * factor / np.arange(1, m + 1))[::-1])[::-1]
    out = np.empty(m)
    out[order] = np.minimum(adjusted, 1.0)
    return out


def _worded(f: Slice, metric: str) -> Slice:
    back = (lambda x: x) if metric in SHARES else math.exp
    where = tuple((k, _label(k, v)) for k, v in f.where)
    return Slice(where, f.rows, f.share, float(back(f.mean)), float(back(f.rest)), f.effect, f.q)


def shift(
    a: Trace, b: Trace, metric: str, dimensions: Sequence[str] | None = None
) -> tuple[float, list[Shift]]:
    """(difference of the whole means of a metric, b less a; the slices that make it, largest part first). The slices of
    one dimension add up to the difference; the dimension that explains most of it by the mix is shown. Differences are of logarithms
    for positive numbers: 0.1 is about 10 %.
    """
    shared = [d for d in _expressions(a, metric) if d in _expressions(b, metric)]
    if dimensions is not None:
        shared = [d for d in dimensions if d in shared]
    if not shared:
        raise ModelError(
            f"{a.name!r} and {b.name!r} share no dimension to slice by",
            "record models, services or tenants",
        )
    tables = [cube(t, metric, shared) for t in (a, b)]
    totals = [t.select(pl.col("n").sum(), pl.col("s").sum()).row(0) for t in tables]
    if not all(n for n, _ in totals):
        raise ModelError(
            f"{metric} is recorded in one of the traces alone", "choose another metric"
        )
    means = [s / n for n, s in totals]
    best: list[Shift] = []
    for d in shared:
        parts = [t.group_by(d).agg(pl.col("n").sum(), pl.col("s").sum()) for t in tables]
        both = parts[0].join(parts[1], on=d, how="full", coalesce=True, suffix="_b").sort(d)
        rows = []
        for r in both.iter_rows(named=True):
            pa, pb = (r["n"] or 0) / totals[0][0], (r["n_b"] or 0) / totals[1][0]
            here = r["s"] / r["n"] if r["n"] else r["s_b"] / r["n_b"]
            there = (
                r["s_b"] / r["n_b"] if r["n_b"] else here
            )  # who is in one trace alone has not changed
            ma, mb = float(here), float(there)
            centre = (means[0] + means[1]) / 2
            mix = (pb - pa) * ((ma + mb) / 2 - centre)
            within = (pa + pb) / 2 * (mb - ma)
            rows.append(Shift(((d, _label(d, str(r[d]))),), (pa, pb), (ma, mb), mix, within))
        if sum(abs(r.mix) for r in rows) >= sum(abs(r.mix) for r in best):
            best = rows
    return means[1] - means[0], sorted(best, key=lambda r: -abs(r.mix + r.within))

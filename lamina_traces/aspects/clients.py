"""Clients that are known by windows and probabilities instead of rows (ServeGen): a stream of requests for each.

A window says the client's mean rate and the law of its gaps; a table of probabilities says what it asked for. So
the rate curve is the windows', unit gaps are the mixture of their laws at mean 1, and lengths are the tables' mixture,
each weighted by the requests it stands for. How input and output depend on each other is not recorded: they are taken as
independent, and it is said.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import polars as pl

from ..counts import Counts, significant
from ..distributions import FAMILIES, GRID_KNOTS, Grid
from ..errors import ModelError, Notice
from ..units import short
from . import Aspect, arrivals, lengths
from .arrivals import Arrivals
from .dispersion import MIN_WINDOWS, NAMED_S, Scale
from .lengths import Lengths, margin_of
from .mix import Mix, Slice

if TYPE_CHECKING:
    from ..store import Trace

Array = npt.NDArray[np.float64]

TABLE = "client_windows"
EVIDENCE = "client windows"


def fit(trace: Trace, notices: list[Notice]) -> list[tuple[str, float, dict[str, Aspect]]]:
    """(client, its share of the requests, aspects) of every client that asked for something, heaviest first. Raises
    ModelError where none did."""
    windows = pl.DataFrame(trace.query("clients/windows"))
    tables = pl.DataFrame(trace.query("clients/lengths"))
    found = []
    for (client,), rows in windows.group_by("client_id", maintain_order=True):
        expected = float((rows["rate_rps"] * rows["window_s"]).sum())
        if expected < 1:
            continue
        aspects: dict[str, Aspect] = {arrivals.NAME: _arrivals(rows)}
        own = _lengths(rows, tables.filter(pl.col("client_id") == client))
        if own is not None:
            aspects[lengths.NAME] = own
        found.append((str(client), expected, aspects))
    if not found:
        raise ModelError(
            f"no client of trace {trace.name!r} asked for anything",
            "look at it: lamina-traces show",
        )
    total = sum(n for _, n, _ in found)
    notices.append(
        Notice(
            "client-windows",
            "fitted on windows and tables of probabilities: numbers of requests are expected ones, burstiness below a window is the recorded law's, "
            "input and output lengths of a client are taken as independent",
            "clients",
        )
    )
    return [(c, n / total, a) for c, n, a in sorted(found, key=lambda f: -f[1])]


def _arrivals(rows: pl.DataFrame) -> Arrivals:
    width = float(rows["window_s"][0])
    first = int(rows["arrival_ns"].min())  # type: ignore[arg-type]
    at = ((rows["arrival_ns"] - first) / 1e9 / width).round().cast(pl.Int64).to_numpy()
    rate = np.zeros(int(at.max()) + 1)
    rate[at] = rows["rate_rps"].to_numpy()
    expected = rate * width
    mean = float(expected.sum() / (len(rate) * width))
    cv2 = np.full(len(rate), np.nan)
    cv2[at] = rows["gap_cv"].cast(pl.Float64).fill_null(float("nan")).to_numpy() ** 2
    own = np.where(np.isfinite(cv2) & (expected > 0), cv2, 1.0)
    gap = np.where(expected > 0, 1 / np.maximum(rate, 1e-300), 0.0)
    whole = float(expected.sum())
    m1, m2 = float(expected @ gap) / whole, float(expected @ (gap**2 * (1 + own))) / whole
    return Arrivals(
        events=round(whole),
        span_s=len(rate) * width,
        rate_per_s=mean,
        tick_s=0.0,
        quantum_s=0.0,
        zero_gap_share=0.0,
        cv=short(math.sqrt(max(m2 / m1**2 - 1, 0.0)), 6),
        cv_without_longest=short(math.sqrt(max(m2 / m1**2 - 1, 0.0)), 6),
        scales=tuple(_scales(expected, own, width)),
        window_s=width,
        rate_curve=significant(rate / mean, 4),
        rate_signal=1.0,  # the rates are given, not counted: no noise of counting is in them
        unit_gaps=_unit_gaps(rows, whole),
        families=(),
        evidence=EVIDENCE,
    )


def _scales(expected: Array, cv2: Array, width: float) -> list[Scale]:
    """Dispersion at whole windows: variance of the expected counts, and the renewal variance inside a window."""
    out: list[Scale] = []
    for w in (
        n
        for n in (width, *NAMED_S, 6 * 3600.0, 86_400.0)
        if n >= width and (n / width).is_integer()
    ):
        step = round(w / width)
        k = len(expected) // step
        if k < MIN_WINDOWS or any(s.window_s == w for s in out):
            continue
        n = expected[: k * step].reshape(k, step).sum(axis=1)
        inside = (expected * cv2)[: k * step].reshape(k, step).sum(axis=1)
        mean = float(n.mean())
        if mean <= 0:
            continue
        idc = (float(n.var(ddof=1)) + float(inside.mean())) / mean
        allan = (float((np.diff(n) ** 2).mean()) / 2 + float(inside.mean())) / mean
        out.append(
            Scale(
                w,
                k,
                short(idc, 6),
                short(allan, 6),
                short(float(n.max()) / mean, 6),
            )
        )
    return out


def _unit_gaps(rows: pl.DataFrame, whole: float) -> Grid:
    """The mixture of the windows' laws, each at mean 1, weighted by its requests."""
    used = rows.filter(
        (pl.col("rate_rps") > 0) & pl.col("shape").is_not_null() & pl.col("law").is_not_null()
    )
    x = np.exp(np.linspace(math.log(1e-9), math.log(1e6), 3001))
    cdf = np.zeros(len(x))
    total = 0.0
    # shapes to three digits: laws that differ by less are one
    grouped = used.with_columns(
        pl.col("shape").round_sig_figs(3), (pl.col("rate_rps") * pl.col("window_s")).alias("n")
    )
    for law, shape, n in (
        grouped.group_by("law", "shape").agg(pl.col("n").sum()).sort("law", "shape").iter_rows()
    ):
        scale = 1 / shape if law == "gamma" else 1 / math.gamma(1 + 1 / shape)
        cdf += n * FAMILIES[law].cdf(x, {"shape": shape, "scale": scale})
        total += n
    if total <= 0:
        from .renewal import poisson_grid

        return poisson_grid()
    q = np.linspace(0, 1, GRID_KNOTS)
    q[0], q[-1] = 10 / whole, 1 - 10 / whole  # the tenth extremes, as of rows
    values = np.interp(np.maximum(q, cdf[0] / total), cdf / total, x)
    return Grid(significant(np.maximum.accumulate(values), 7), 1.0, whole)


def _lengths(rows: pl.DataFrame, tables: pl.DataFrame) -> Lengths | None:
    """Lengths of one client: each table weighted by the requests from its window until the next one's."""
    starts = tables["arrival_ns"].unique().sort()
    if not len(starts):
        return None
    at = np.maximum(
        np.searchsorted(starts.to_numpy(), rows["arrival_ns"].to_numpy(), side="right") - 1, 0
    )
    n = np.bincount(
        at, weights=(rows["rate_rps"] * rows["window_s"]).to_numpy(), minlength=len(starts)
    )
    weights = pl.DataFrame({"arrival_ns": starts, "n": n})
    table = tables.join(weights, on="arrival_ns").with_columns(
        (pl.col("prob") * pl.col("n")).alias("n")
    )
    sides = {}
    for side in lengths.SIDES:
        own = table.filter((pl.col("field") == f"{side}_tokens") & (pl.col("n") > 0))
        if not own.height:
            return None
        sides[side] = own
    margins = {
        s: margin_of(Counts.exact(t["value"].to_numpy(), t["n"].to_numpy(), "tokens"))
        for s, t in sides.items()
    }
    total = round(min(m.grid.rows for m in margins.values()))
    return Lengths(
        margins["input"], margins["output"], total, 0.0, 0.0, np.ones((1, 1)), mix=_mix(sides, starts, n.astype(np.float64)), evidence=EVIDENCE
    )  # fmt: skip


def _mix(sides: dict[str, pl.DataFrame], starts: pl.Series, n: Array) -> Mix:
    """Quantiles by window of the tables."""
    first = int(starts[0])
    step = int(np.median(np.diff(starts.to_numpy()))) if len(starts) > 1 else 0
    slices = []
    for i, start in enumerate(starts.to_list()):
        if n[i] < 100:
            continue
        found, means = {}, {}
        for side, t in sides.items():
            own = t.filter(pl.col("arrival_ns") == start)
            c = Counts.exact(own["value"].to_numpy(), own["n"].to_numpy()) if own.height else None
            q = (
                ()
                if c is None
                else tuple(
                    short(v, 5) for v in c.quantile(np.clip(np.linspace(0, 1, 9), 0.001, 0.999))
                )
            )
            found[side], means[side] = q, 0.0 if c is None else short(c.mean, 5)
        at = ((start - first) / 1e9, (start - first + step) / 1e9)
        slices.append(
            Slice(
                at,
                round(float(n[i])),
                found["input"],
                found["output"],
                means["input"],
                means["output"],
                None,
            )
        )
    return Mix(tuple(slices), (), None, None, {})

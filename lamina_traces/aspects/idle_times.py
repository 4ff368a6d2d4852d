"""Idle times of functions before their requests, from rows and from counts per bin: what keep-alive rests on."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from ..counts import Counts
from ..units import NS_PER_S, short
from .durations import FEWEST_ROWS, Durations, Windowed, binned, describe, segments, tellable
from .keep_alive import NAMED_S, KeepAlive
from .timeline import Timeline

if TYPE_CHECKING:
    from ..store import Trace

LEVELS = {"p10": 0.1, "p25": 0.25, "p50": 0.5, "p75": 0.75, "p90": 0.9}
"""quantiles over functions, of which ten lie beyond each that is told."""


def idle_counts(trace: Trace, per_app: bool = False) -> tuple[Counts, int]:
    """Idle times before the later requests of each function (or application) in seconds, 0 for those that came while
    another ran, and how many functions made a first one. None of them is across a mask."""
    out, first = Counts.exact([], [], "s"), 0
    for i, part in enumerate(segments(trace)):
        t = part.query("invocations/idle_counts", per_app=per_app)
        state = t["state"].to_numpy()
        out = out + binned(t, state > 0)
        if i == 0:  # behind a mask nobody knows what ran before
            first = int(t["n"].to_numpy()[state == 0].sum())
    if len(out):
        order = np.lexsort((out.hi, out.lo))
        out = Counts(out.lo[order], out.hi[order], out.n[order], out.total[order], "s")
    return out, first


def bin_gap_counts(trace: Trace, per_app: bool = False) -> tuple[Counts, int]:
    """The same from counts per bin: time from one bin with requests to the next."""
    out, first = Counts.exact([], [], "s"), 0
    for i, part in enumerate(segments(trace)):
        t = part.query("invocations/bin_gaps", per_app=per_app)
        for gap, n in zip(t["gap_ns"].to_pylist(), t["n"].to_pylist(), strict=True):
            if gap is None:
                first += n if i == 0 else 0
            else:
                out = out + Counts.exact([gap / NS_PER_S], [n], "s")
    return out, first


def curves(
    trace: Trace, timeline: Timeline, invocations: int, last_end_ns: int | None
) -> tuple[KeepAlive, ...]:
    """Keep-alive curves of functions, and of applications where those are others than the functions."""
    end_ns = max(timeline.last_ns, last_end_ns or 0)
    kept: list[KeepAlive] = []
    for per, per_app in (("function", False), ("application", True)):
        if per_app and not trace.has("app_id"):
            continue
        idle, entities = idle_counts(trace, per_app)
        if per_app and kept and entities == kept[0].entities:
            continue
        tails = binned(trace.query("invocations/last_counts", per_app=per_app, end_ns=end_ns))
        windows = None
        if not timeline.masks:
            t = trace.query(
                "invocations/idle_windows", per_app=per_app, origin_ns=timeline.first_ns, width_ns=timeline.width_ns
            )  # fmt: skip
            windows = Windowed.of(t, timeline.windows)
        found = KeepAlive.of(idle, entities, invocations, tails, per=per, windowed=windows)
        if found is not None:
            kept.append(found)
    return tuple(kept)


def function_gaps(
    trace: Trace, timeline: Timeline, tick: float
) -> tuple[Durations | None, dict[str, float]]:
    """Gaps between the starts of a function's invocations, of all functions together, and their quantiles in seconds with
    every function weighing the same."""
    pooled, own = Counts.exact([], [], "s"), Counts.exact([], [], "s")
    for part in segments(trace):
        t = part.query("invocations/gap_counts")
        pooled = pooled + binned(t)
        share, total = t["share"].to_numpy(), t["share_total_s"].to_numpy()
        own = own + Counts.exact(np.divide(total, share, where=share > 0, out=np.zeros_like(total)), share, "s")  # fmt: skip
    if pooled.rows < FEWEST_ROWS:
        return None, {}
    quantiles = {}
    below = np.cumsum(own.n) / own.rows  # of as many as there are functions with a gap
    for name, p in tellable(LEVELS, own.rows).items():
        quantiles[name] = short(own.x[int(np.searchsorted(below, p - 1e-12))], 4)
    windows = None
    if not timeline.masks:
        t = trace.query(
            "invocations/gap_windows", origin_ns=timeline.first_ns, width_ns=timeline.width_ns
        )
        windows = Windowed.of(t, timeline.windows)
    return describe(pooled, tick_s=tick, knots=65, windowed=windows), quantiles


def function_cold(trace: Trace, kept: tuple[KeepAlive, ...]) -> dict[str, dict[str, float]]:
    """Quantiles over functions of their own P(cold), where at least twenty functions have one."""
    if trace.masks or not kept:
        return {}
    t = trace.query("invocations/function_cold")
    functions = t["functions"].to_numpy()
    out = {}
    for k_s in NAMED_S:
        c = Counts.exact(t[f"cold_{k_s:g}"].to_numpy() / 100, functions)
        if k_s <= kept[0].knots_s[-1] and c.rows >= FEWEST_ROWS:
            levels = tellable(LEVELS, c.rows)
            out[f"{k_s:g}"] = {k: round(float(c.quantile(p)), 2) for k, p in levels.items()}
    return out

"""Makes ``invocations``: functions that call at their own rates, timers that tick, how long calls run and which start cold.

Functions without a period are renewal processes in equilibrium under the course that all share; timers tick at their
period, off by their jitter, together as far as the source's did. Whether a call is cold is told where the source recorded
it: an instance is kept for K after the end of a function's last call, with the K by which the profile's keep-alive curve
gives the recorded share.

Every random number is keyed by (function, number of the call), so rows do not depend on how time is cut.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import polars as pl
from scipy import special

from ..aspects import invocations as invocations_aspect
from ..aspects.function_draws import Functions, functions
from ..aspects.invocations import Invocations
from ..aspects.populations import Population
from ..distributions import Grid, QuantileCurve
from ..errors import ModelError
from ..profile import Part, Stream
from ..units import NS_PER_S
from .maker import Made, State
from .plan import block_length
from .randomness import key, uniforms
from .renewals import LONGEST_NS, OperationalTime, Renewals, named

Array = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
Flags = npt.NDArray[np.bool_]

BLOCK_ROWS = 65_536
FASTEST_S = 1e-6
"""shortest period of a timer."""
NEVER_NS = -(2**62)
DURATION, QUEUE, INIT, TICK, JITTER, TRIGGER, PHASE, LEVEL = range(10, 18)
"""what the numbers of a call, a tick or a function are for."""


@dataclass(frozen=True, eq=False)
class _Durations:
    """How long calls run: ``law`` [functions] is a place in ``curves`` or −1; the normal score of a call is ``level``
    [functions] and √``within`` [functions] of its own."""

    curves: tuple[QuantileCurve, ...]
    law: Ints
    level: Array
    within: Array

    def seconds(self, of: int, function: Ints, number: Ints) -> Array:
        """NaN where none is known."""
        u = uniforms(of, named(function, number), DURATION)
        within = self.within[function]
        mixed = within < 1
        if mixed.any():
            score = self.level[function[mixed]] + np.sqrt(within[mixed]) * special.ndtri(u[mixed])
            u[mixed] = special.ndtr(score)
        out = np.full(len(u), np.nan)
        law = self.law[function]
        for i in np.unique(law[law >= 0]):
            mine = law == i
            out[mine] = self.curves[i].quantile(u[mine])
        return out


@dataclass(frozen=True, eq=False)
class _Source:
    """The functions of one stream, and where they begin among all."""

    first: int
    functions: Functions
    calls: Renewals
    clock: OperationalTime
    phase: Array
    durations: _Durations
    trigger: Ints
    triggers: tuple[str | None, ...]
    keep_ns: int | None
    times: dict[str, QuantileCurve]
    where: dict[str, str]
    of: int

    @property
    def size(self) -> int:
        return len(self.functions.klass)


class InvocationMaker:
    """``invocations`` from the aspect ``invocations`` of a part's streams (of rows or of counts per bin); ``factor``
    multiplies the rates and shortens the periods.

    Raises ModelError where no stream tells its functions (a profile of an older tool, a trace without times).
    """

    table = "invocations"

    def __init__(self, part: Part, seed: int, *, factor: float = 1.0) -> None:
        self._sources: list[_Source] = []
        for i, stream in enumerate(part.streams):
            first = sum(s.size for s in self._sources)
            found = _source(stream, key(seed, "invocations", i), factor, first)
            if found is not None:
                self._sources.append(found)
        if not self._sources:
            raise ModelError(
                f"the profile does not tell the functions of {part.table}",
                "fit the trace again: its calls need func_id and start times",
            )
        rate = math.fsum(float(_rates(s).sum()) for s in self._sources)
        self.block_ns = block_length(rate, BLOCK_ROWS)

    def expected_rows(self, duration_ns: int) -> float:
        """E[rows] of a trace of this length, exactly where timers run at any phase: rate × operational time, and a
        tick every period."""
        out = 0.0
        for s in self._sources:
            rates, free = _rates(s), s.functions.free
            out += float(rates[:free].sum()) * s.clock.passed(duration_ns) / NS_PER_S
            out += float(rates[free:].sum()) * duration_ns / NS_PER_S
        return out

    def start(self) -> State:
        state: State = {}
        for i, s in enumerate(self._sources):
            state[f"{i}.next_ns"], state[f"{i}.number"] = s.calls.start()
            if s.keep_ns is not None:
                state[f"{i}.end_ns"] = np.full(s.size, NEVER_NS, dtype=np.int64)
        return state

    def make(self, block: int, end_ns: int, state: State) -> Made:
        """The calls of a block. Where calls are cold or not, their ends are walked at once; else only when they come."""
        after: State = {}
        columns: list[tuple[Ints, Ints, Ints, Flags]] = []
        for i, s in enumerate(self._sources):
            function, number, at, after[f"{i}.next_ns"], after[f"{i}.number"] = s.calls.until(
                s.clock.passed(end_ns), state[f"{i}.next_ns"], state[f"{i}.number"]
            )
            at = s.clock.wall(at)
            ticking, tick, ticks_at = _ticks(s, block * self.block_ns, end_ns)
            function = np.concatenate([function, ticking])
            number, at = np.concatenate([number, tick]), np.concatenate([at, ticks_at])
            order = np.lexsort((number, function, at))
            function, number, at = function[order], number[order], at[order]
            cold = np.zeros(0, dtype=bool)
            if s.keep_ns is not None:
                cold, after[f"{i}.end_ns"] = _cold(s, function, number, at, state[f"{i}.end_ns"])
            columns.append((function, number, at, cold))
        rows = sum(len(c[2]) for c in columns)

        def frame() -> pl.DataFrame:
            frames = [_rows(s, *c) for s, c in zip(self._sources, columns, strict=True)]
            if len(frames) == 1:
                return frames[0]
            return pl.concat(frames, how="diagonal").sort("arrival_ns", maintain_order=True)

        return Made(rows, frame, after)


def _rates(s: _Source) -> Array:
    """[functions] calls per second: the timers' by their periods."""
    f = s.functions
    free = NS_PER_S / s.calls.gap_ns
    return np.concatenate([free, f.kept / f.period_s])


def _ticks(s: _Source, begin_ns: int, end_ns: int) -> tuple[Ints, Ints, Ints]:
    """(function, number, instant) of the timers' calls in [begin, end): tick k of a timer is at (phase + k)·period, off
    by its jitter, which is less than half a period."""
    f = s.functions
    if not len(f.period_s):
        none = np.zeros(0, dtype=np.int64)
        return none, none, none
    period = f.period_s * NS_PER_S
    first = np.floor(begin_ns / period - s.phase - 0.5).astype(np.int64)
    last = np.ceil(end_ns / period - s.phase + 0.5).astype(np.int64)
    size = np.maximum(last - first + 1, 0)
    which = np.repeat(np.arange(len(size)), size)
    ends = np.cumsum(size)
    tick = first[which] + np.arange(len(which)) - np.repeat(ends - size, size)
    number = tick + 2  # the first ticks are before the trace
    function = f.free + which
    things = named(function, number)
    off = special.ndtri(uniforms(s.of, things, JITTER)) * f.jitter_s[which] * NS_PER_S
    limit = 0.45 * period[which]
    at = (tick + s.phase[which]) * period[which] + np.clip(off, -limit, limit)
    at_ns = np.floor(at).astype(np.int64)
    calls = uniforms(s.of, things, TICK) < f.kept[which]
    mine = calls & (at_ns >= begin_ns) & (at_ns < end_ns)
    return function[mine], number[mine], at_ns[mine]


def _cold(s: _Source, function: Ints, number: Ints, at: Ints, end_ns: Ints) -> tuple[Flags, Ints]:
    """Whether no instance of its function is kept when a call comes, and when the functions' last calls end."""
    order = np.lexsort((np.arange(len(at)), function))
    f, t = function[order], at[order]
    seconds = np.nan_to_num(s.durations.seconds(s.of, f, number[order]))
    ends = t + np.minimum(seconds * NS_PER_S, LONGEST_NS).astype(np.int64)
    new = np.diff(f, prepend=-1) != 0
    # the latest end so far within each function. Functions one after another, each raised above all ends of those before
    # it, have one running maximum (of ranks, which are small)
    run = np.cumsum(new) - 1
    after = end_ns.copy()
    latest = np.empty(len(f), dtype=np.int64)
    if len(f):
        starts = np.flatnonzero(new)
        stops = np.append(starts[1:], len(f)) - 1
        before = end_ns[f[starts]]
        rank = pl.Series(ends).rank("dense").to_numpy().astype(np.int64)
        top = int(rank.max()) + 1
        highest = np.maximum.accumulate(rank + run * top) - run * top
        value = np.empty(top, dtype=np.int64)
        value[rank] = ends
        latest[1:] = np.maximum(value[highest[:-1]], before[run[:-1]])
        latest[starts] = before
        after[f[starts]] = np.maximum(value[highest[stops]], before)
    cold = np.empty(len(f), dtype=bool)
    cold[order] = (latest == NEVER_NS) | (t - latest > (s.keep_ns or 0))
    return cold, after


def _rows(s: _Source, function: Ints, number: Ints, at: Ints, cold: Flags) -> pl.DataFrame:
    seconds = s.durations.seconds(s.of, function, number)
    called, place = np.unique(function, return_inverse=True)
    names = "f" + pl.Series("", called + s.first + 1).cast(pl.String).str.zfill(6)
    columns: dict[str, pl.Series | Array | Ints | Flags] = {
        "arrival_ns": at,
        "func_id": names.gather(place),
    }
    if any(t is not None for t in s.triggers):
        told = pl.Series("", list(s.triggers), dtype=pl.String)
        columns["trigger"] = told.gather(s.trigger[function])
    if len(s.durations.curves):
        columns["duration_s"] = pl.Series("", seconds).fill_nan(None)
    things = named(function, number)
    if "queue" in s.times:
        columns["queue_s"] = s.times["queue"].quantile(uniforms(s.of, things, QUEUE))
    if s.keep_ns is not None:
        columns["is_cold"] = cold
        if "init" in s.times:
            init = s.times["init"].quantile(uniforms(s.of, things, INIT))
            columns["init_s"] = pl.Series("", np.where(cold, init, np.nan)).fill_nan(None)
    columns["status"] = pl.repeat("unknown", len(at), dtype=pl.String, eager=True)
    columns |= {k: pl.repeat(v, len(at), dtype=pl.String, eager=True) for k, v in s.where.items()}
    return pl.DataFrame(columns)


def _source(stream: Stream, of: int, factor: float, first: int) -> _Source | None:
    law = stream.aspects.get(invocations_aspect.NAME)
    if not isinstance(law, Invocations) or law.population is None or law.span_s <= 0:
        return None
    if not (math.isfinite(factor) and factor > 0):
        raise ModelError(f"rates cannot be multiplied by {factor:g}", "scale with --rate x2")
    p = law.population
    f = functions(p, law.invocations, law.span_s)
    gap_ns = NS_PER_S / (f.rate_per_s[: f.free] * factor)
    f = Functions(
        f.klass, f.rate_per_s * factor, f.curves, f.law, np.maximum(f.period_s / factor, FASTEST_S), f.jitter_s / factor,
        f.phase, f.scatter, f.kept,
    )  # fmt: skip
    ids = np.arange(len(f.klass), dtype=np.int64)
    u = uniforms(of, ids[f.free :], PHASE)
    scatter = f.phase + special.ndtri(u) * np.nan_to_num(f.scatter)
    trigger, triggers = _triggers(p, f, uniforms(of, ids, TRIGGER))
    clock = OperationalTime.of(np.array(p.course), p.window_s) if p.course else OperationalTime.steady()  # fmt: skip
    return _Source(
        first=first,
        functions=f,
        calls=Renewals(f.curves, f.law, gap_ns, of),
        clock=clock,
        phase=np.where(np.isnan(f.scatter), u, scatter % 1.0),
        durations=_durations(p, f, special.ndtri(uniforms(of, ids, LEVEL))),
        trigger=trigger,
        triggers=triggers,
        keep_ns=_keep_ns(law),
        times={
            k: d.grid.curve for k, d in law.times.items() if k != "duration" and d.grid is not None
        },
        where=dict(stream.where),
        of=of,
    )


def _triggers(p: Population, f: Functions, u: Array) -> tuple[Ints, tuple[str | None, ...]]:
    """([functions] place in the names, the names; the last is None)."""
    names = sorted({t for c in p.classes for t in c.triggers})
    out = np.full(len(f.klass), len(names), dtype=np.int64)
    for i, c in enumerate(p.classes):
        mine = np.flatnonzero(f.klass == i)
        told = sorted(c.triggers)
        edges = np.cumsum([c.triggers[t] for t in told])
        places = np.array([names.index(t) for t in told] + [len(names)], dtype=np.int64)
        out[mine] = places[np.searchsorted(edges + 1e-4, u[mine])]
    return out, (*names, None)


def _durations(p: Population, f: Functions, level: Array) -> _Durations:
    """Own laws where the class has one, the population's for all others, whose functions lie apart."""
    curves: list[QuantileCurve] = []

    def place(grid: Grid | None) -> int:
        if grid is None:
            return -1
        curves.append(grid.curve)
        return len(curves) - 1

    pooled = place(p.durations)
    own = [pooled if c.durations is None else place(c.durations) for c in p.classes]
    apart = np.array([c.durations is None for c in p.classes], dtype=bool)[f.klass]
    within = np.where(apart, p.within, 1.0)
    return _Durations(
        tuple(curves), np.array(own, dtype=np.int64)[f.klass], level * np.sqrt(1 - within), within
    )


def _keep_ns(law: Invocations) -> int | None:
    """The keep-alive that gives the recorded share of cold starts, by the profile's curve; None without either."""
    kept = law.kept("function")
    if law.cold_share is None or kept is None:
        return None
    low, high = 0.0, float(kept.knots_s[-1])
    for _ in range(60):
        k_s = (low + high) / 2
        low, high = (k_s, high) if kept.cold_share(k_s) > law.cold_share else (low, k_s)
    return round(high * NS_PER_S)

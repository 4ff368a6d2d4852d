"""Running the serving clock: chunks of requests in, finished rows and windows out.

The clock itself, and the definition of what it does, is ``serving.py``. Here its arrays are kept: one row
per request in flight (or ended, with children that have not come yet), grown when needed, so that
memory is bounded by the requests in flight plus one chunk however long the workload is.
"""

from __future__ import annotations

import functools
import importlib.util
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast

import numpy as np
import numpy.typing as npt

from ..compiled import compile_cached, kernel
from ..costs import Rows
from ..errors import ModelError, UnknownName, UsageError
from ..schema import Requests
from . import serving as k

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]

Take = Callable[[Ints], None]

CHUNK = 65_536
"""requests fed at a time: large enough to forget the call, small enough to stay in cache."""
_RING = 1024  # a power of two; those of many replicas are to stay in the cache
_MAX_WINDOWS = 5_000_000
_NOTHING = np.empty(0, np.int64)
_INT32 = 2**31 - 1
_NONE = [
    "queue",
    "line",
    "line_last",
    "heap",
    "last",
    "partial",
    "ended",
    "ended_last",
    "joined",
    "oldest",
    "newest",
    "refused",
]
"""fields of a replica that name a request or an entry."""

ROUTES: Mapping[str, Callable[..., Any]] = {
    "round-robin": k.route_round_robin,
    "least-outstanding": k.route_least_outstanding,
    "least-kv": k.route_least_kv,
    "power-of-two": k.route_power_of_two,
    "session-affinity": k.route_session_affinity,
    "prefix-affinity": k.route_prefix_affinity,
}
RANKS: Mapping[str, Callable[..., Any]] = {
    "fcfs": k.rank_fcfs,
    "priority": k.rank_priority,
    "least-slack": k.rank_least_slack,
}
ROLES = {"both": k.BOTH, "prefill": k.PREFILLS, "decode": k.DECODES}


@dataclass(frozen=True)
class Engine:
    """``replicas`` equal engines as the clock sees them: numbers only."""

    rows: Rows
    blocks: int
    block_size: int = 16
    watermark_blocks: int = 0
    max_num_seqs: int = 256
    max_num_batched_tokens: int = 2048
    max_context: int = k.NEVER
    replicas: int = 1
    chunked_prefill: bool = True
    """False: prefills go first, whole, in iterations of their own."""
    swap_s_per_token: float | None = None
    """seconds by which an iteration is longer for each token whose keys and values it moves to or from the host; None:
    who is preempted is computed anew."""
    prefix_unit: int = 0
    """blocks of the units in which a prefix cache keeps prompts, as many as the tokens of an id in ``Requests.ids``; 0: no cache."""
    role: str = "both"
    hand_over_s: tuple[float, float] = (0.0, 0.0)
    """of a prefill pool: seconds until a request's keys and values are where it decodes, and seconds for each token."""

    def __post_init__(self) -> None:
        for name in (
            "blocks",
            "block_size",
            "max_num_seqs",
            "max_num_batched_tokens",
            "max_context",
            "replicas",
        ):
            if getattr(self, name) < 1:
                raise ModelError(
                    f"{name} = {getattr(self, name)} leaves nothing to run", f"give {name} ≥ 1"
                )
        if not 0 <= self.watermark_blocks < self.blocks:
            raise ModelError(
                f"a watermark of {self.watermark_blocks} in {self.blocks} blocks",
                "give 0 ≤ it < blocks",
            )
        if self.role not in ROLES:
            raise UnknownName("role", self.role, ROLES)
        if self.chunked_prefill and self.max_num_seqs > self.max_num_batched_tokens:
            raise ModelError(
                f"max_num_seqs = {self.max_num_seqs} exceeds max_num_batched_tokens = {self.max_num_batched_tokens}",
                "each decoding sequence takes one token of the budget",
            )


@functools.cache
def policy(function: Callable[..., Any]) -> Any:
    """A policy compiled for the clock. Stock ones are kept between processes, a caller's own are not.

    ModelError where a caller's function does not compile for the signature of all policies.
    """
    if getattr(function, "__module__", "") == k.__name__:
        return compile_cached(function, k.POLICY)
    from numba import njit, types
    from numba.core.errors import NumbaError

    plain, name = getattr(function, "py_func", function), getattr(function, "__name__", function)
    hint = "a policy is a function (now, slot, replica, req, rep, mem, par) of whole numbers that returns one"
    try:
        told = njit(k.POLICY.args)(plain)
        returned = told.nopython_signatures[0].return_type
        if not isinstance(returned, types.Integer | types.Boolean):
            raise ModelError(f"policy {name!r} returns {returned}", hint)
        return told if returned == types.int64 else njit(k.POLICY)(plain)
    # TypeError: another number of arguments; KeyError: a field that there is not
    except (NumbaError, TypeError, KeyError) as e:
        first = str(e).strip().splitlines()[0]
        raise ModelError(f"policy {name!r} does not compile: {first}", hint) from e


def warm_up() -> None:
    """Compile (or load) the clock now: 0.3 s from the cache, some seconds without."""
    for name in ("advance", "feed", "link", "place"):
        kernel(k, name)
    for f in (*ROUTES.values(), *RANKS.values(), k.reuse_none, k.tick_never):
        policy(f)


@dataclass(frozen=True)
class Finished:
    """Rows of requests that are over, in the order of their end; columns of equal length.

    ``position``: place in the workload. Instants are ns, -1 where it never happened. ``status``: OK,
    REJECTED_MEMORY, REJECTED_CONTEXT, UNFINISHED (released but not done at ``until_ns``), NOT_RELEASED.
    """

    position: Ints
    row_id: Ints
    arrival_ns: Ints
    release_ns: Ints
    scheduled_ns: Ints
    first_token_ns: Ints
    last_token_ns: Ints
    replica: Ints
    preemptions: Ints
    status: Ints

    def __len__(self) -> int:
        return len(self.position)


@dataclass(frozen=True)
class Windows:
    """Accumulators on a fixed grid, one row per (window, replica), windows in order.

    ``x`` [rows, state]: the sum over iterations of the state vector, split by time where an iteration spans
    windows; work of any kind is a coefficient vector times it. Tokens count where their iteration ended.
    """

    window_ns: int
    window: Ints
    replica: Ints
    iterations: Ints
    busy_s: Floats
    decode_tokens: Ints
    prefill_tokens: Ints
    moved_tokens: Ints
    """whose keys and values went to the host or came from it."""
    sequence_s: Floats
    """sequences in the batch, integrated over time."""
    block_s: Floats
    """KV blocks in use, integrated over time."""
    x: Floats

    @property
    def start_ns(self) -> Ints:
        return self.window * self.window_ns

    def __len__(self) -> int:
        return len(self.window)


NOT_RELEASED = 4
"""status of a request that would arrive after ``until_ns``, or waits for one that did not end."""


class Simulation:
    """A clock that can be stopped and fed.

    ``engines``: pools of equal replicas; replica numbers run through the pools in order. ``route`` and
    ``rank``: a stock name or a policy function (``serving.py``). ``mem``, ``par``: state and parameters of
    the policies; mem[:16] belongs to the stock ones. ``concurrency``: most requests in flight when one without parents is
    released. ``start_on``: replicas that take requests from the start, and are provisioned from
    ``since_ns`` on, None: all. ``until_ns``: instants after it are
    not simulated.

        sim = Simulation([engine])
        for chunk in chunks:
            rows = sim.feed(chunk)
        rows = sim.finish()

    Any cutting of a workload into chunks gives the same rows. Parents are positions counted over
    all chunks. A parent from an earlier chunk is remembered only if its chunk says that children will come:
    ``extra["children"]``, the number of children of each row in the whole workload.
    """

    def __init__(
        self,
        engines: Sequence[Engine],
        *,
        route: str | Callable[..., Any] = "round-robin",
        rank: str | Callable[..., Any] = "fcfs",
        reuse: Callable[..., Any] = k.reuse_none,
        tick: Callable[..., Any] = k.tick_never,
        first_tick_ns: int = k.NEVER,
        concurrency: int | None = None,
        start_on: int | None = None,
        since_ns: int = 0,
        window_s: float = 10.0,
        until_ns: int | None = None,
        mem: Ints | None = None,
        par: Floats | None = None,
    ) -> None:
        if not engines:
            raise ModelError("there is no pool to serve", "give at least one pool")
        if not window_s > 0:
            raise ModelError(f"a window of {window_s:g} s", "give a window above zero")
        self.engines = tuple(engines)
        chosen = (_named("route", route, ROUTES), _named("rank", rank, RANKS), reuse, tick)
        self._policies = tuple(map(policy, chosen))
        self._own = any(f.__module__ != k.__name__ for f in chosen)
        self._until = k.NEVER if until_ns is None else int(until_ns) + 1
        replicas = sum(e.replicas for e in engines)
        states = k.X_TABLES + max(e.rows.tables.shape[0] for e in engines)
        tokens = max(e.max_num_batched_tokens for e in engines) + 1

        self._pool = np.zeros(len(engines), k.POOL)
        self._coef = np.zeros((sum(len(e.rows.ends) for e in engines), states))
        self._tables = np.zeros((len(engines), states - k.X_TABLES, tokens))
        row = 0
        for i, e in enumerate(engines):
            n_rows, width = e.rows.coef.shape
            self._pool[i] = (
                e.blocks,
                e.block_size,
                e.watermark_blocks,
                e.max_num_seqs,
                e.max_num_batched_tokens,
                e.max_context,
                row,
                row + n_rows,
                int(e.chunked_prefill),
                int(e.swap_s_per_token is not None),
                ROLES[e.role],
                e.prefix_unit,
            )
            self._coef[row : row + n_rows, :width] = e.rows.coef * 1e9
            row += n_rows
            length = min(tokens, e.rows.tables.shape[1])
            if e.rows.tables.shape[0] and e.rows.tables.shape[1] <= e.max_num_batched_tokens:
                raise ModelError(
                    f"tables for {e.rows.tables.shape[1] - 1} tokens, iterations of {e.max_num_batched_tokens}",
                    "lower the step model for max_num_batched_tokens",
                )
            self._tables[i, : e.rows.tables.shape[0], :length] = e.rows.tables[:, :length]
            if e.rows.tables.shape[0]:  # whole prompts may be longer than the tables
                self._tables[i, : e.rows.tables.shape[0], length:] = e.rows.tables[:, -1:]
        self._ends = np.concatenate([e.rows.ends for e in engines])
        if not np.isfinite(self._coef).all():
            raise ModelError(
                "a coefficient of the step model is not finite", "check rates for zero"
            )

        self._rep = np.zeros(replicas, k.REPLICA)
        rep = self._rep
        rep["pool"] = np.repeat(np.arange(len(engines)), [e.replicas for e in engines])
        rep["blocks"] = rep["free"] = rep["low"] = self._pool["blocks"][rep["pool"]]
        rep["end"] = rep["loaded"] = k.NEVER
        for name in _NONE:
            rep[name] = -1
        self._tree = np.zeros(2 * replicas, np.int64)
        self._tree[replicas:] = np.arange(replicas)
        for node in range(replicas - 1, 0, -1):
            self._tree[node] = min(self._tree[2 * node], self._tree[2 * node + 1])
        self._todo = np.zeros(replicas, np.int64)
        entries = max((e.blocks // e.prefix_unit for e in engines if e.prefix_unit), default=0)
        self._ent = np.zeros((replicas, entries, k.ENT_COLUMNS), np.int64)
        self._ent[:, :, k.E_CHAIN] = np.arange(1, entries + 1)
        self._buckets = np.full((replicas, 1 << max(entries - 1, 0).bit_length()), -1, np.int64)
        self._ids = np.empty(0, np.int64)
        rep["takes"] = np.where(self._pool["role"][rep["pool"]] == k.DECODES, k.HANDED, k.NEW)
        rep["since"] = since_ns
        if start_on is not None:
            rep["takes"][start_on:], rep["since"][start_on:] = 0, k.NEVER
        self._link = np.array([(*e.hand_over_s, e.swap_s_per_token or 0.0) for e in engines]) * 1e9
        self._hist = np.zeros((len(engines), 64 * 16), np.int64)
        self._ring = np.full((replicas, _RING), -1, np.int32)
        self._grow = np.zeros((replicas, int(self._pool["block_size"].max())), np.int64)
        self._xs = np.zeros((replicas, states))
        self.window_ns = max(1, round(window_s * 1e9))
        self._win = np.zeros((replicas, 256, k.WINDOW_COLUMNS + states))
        self.row_x = np.zeros((row, states))
        """[rows, state] the state summed over the iterations in which a row was the longest of its block."""
        self._mem = np.zeros(64, np.int64) if mem is None else np.ascontiguousarray(mem, np.int64)
        self._par = np.zeros(1) if par is None else np.ascontiguousarray(par, np.float64)
        self._g = np.zeros(k.G_SIZE, np.int64)
        self._g[[k.G_EDGE_FREE, k.G_LINE, k.G_HEAP, k.G_FREE]] = -1
        self._g[k.G_WINDOW_NS] = self.window_ns
        self._g[k.G_ONE] = replicas == 1 and chosen[0] in ROUTES.values()
        self._g[k.G_FCFS] = chosen[1] is k.rank_fcfs
        self._g[k.G_NO_REUSE] = reuse is k.reuse_none
        self._g[k.G_TICK] = first_tick_ns
        self._g[k.G_CONCURRENCY] = k.NEVER if concurrency is None else concurrency
        self._req = np.empty(0, k.REQUEST)
        # room for all that one replica holds, and an odd number of cache lines: columns that lie a page apart would
        # share a set of the cache
        rows = max(CHUNK, *(e.max_num_seqs for e in engines)) // 16 * 16 + 24
        self._out = np.zeros((k.OUT_COLUMNS, rows), np.int64)
        self._edges = np.empty((0, 2), np.int64)
        self._fed = self._room = np.empty((0, k.FED_COLUMNS), np.int64)
        self._seen = 0
        self._last = (-1, -1)
        self._windows: list[Floats] = []
        self._window_from = -1
        self._emitted = 0

    # ------------------------------------------------------------------ feeding

    def feed(self, chunk: Requests) -> Finished:
        """Take the next requests and go as far as they allow; returns the rows that ended meanwhile."""
        ended: list[Ints] = []
        self._feed(chunk, lambda rows: ended.append(rows.copy()))
        return Finished(*np.concatenate(ended, axis=1))

    def _feed(self, chunk: Requests, take: Take) -> None:
        if len(chunk):
            self._take(chunk)
        # The next chunk may still bring arrivals at the instant of the last one.
        self._run(max(0, self._last[0]), take)

    def finish(self) -> Finished:
        """No more requests come: go to the end; returns the remaining rows."""
        ended: list[Ints] = []
        self._finish(lambda rows: ended.append(rows.copy()))
        return Finished(*np.concatenate(ended, axis=1))

    def _finish(self, take: Take) -> None:
        self._run(k.NEVER, take)
        self._know()
        left = self._req[(self._req["pos"] >= 0) & (self._req["state"] != k.OVER)]
        out = np.full((k.OUT_COLUMNS, len(left)), -1, np.int64)
        names = ("pos", "row", "arrival", "release", "scheduled", "first")
        for column, name in enumerate(names):
            out[column] = left[name]
        out[k.O_REPLICA] = left["replica"]
        out[k.O_PREEMPTIONS] = left["preempted"]
        out[k.O_STATUS] = np.where(left["release"] >= 0, k.UNFINISHED, NOT_RELEASED)
        take(out)

    def _take(self, chunk: Requests) -> None:
        n = len(chunk)
        _check(chunk, self._last)
        self._last = (int(chunk.arrival_ns[-1]), int(chunk.row_id[-1]))
        if self._window_from < 0:
            self._window_from = int(chunk.arrival_ns[0]) // self.window_ns
            self._g[k.G_WINDOW_BASE] = self._window_from
        self._know()
        children: Ints | int = 0
        if len(chunk.parents):
            inside = chunk.parents[chunk.parents >= self._seen] - self._seen
            children = np.bincount(inside, minlength=n)[:n]
        ids: Ints | int = 0
        units: Ints | int = 0
        if chunk.ids is not None and self._ent.shape[1]:
            self._keep_ids()
            ids, units = (
                chunk.ids_from[:-1] - chunk.ids_from[0] + len(self._ids),
                np.diff(chunk.ids_from),
            )
            self._ids = np.concatenate([self._ids, chunk.ids.view(np.int64)])
        extra = chunk.extra
        session = np.asarray(extra.get("session", -1))
        if len(self._room) < n:
            self._room = np.empty((n, k.FED_COLUMNS), np.int64)
        self._fed = self._room[:n]
        columns = (
            chunk.row_id, chunk.arrival_ns, chunk.input_tokens, chunk.output_tokens, chunk.steps, chunk.delay_ns, chunk.priority,
            np.where(session < 0, -1, session & _INT32), extra.get("head", -1), extra.get("deadline_ns", k.NEVER),
            np.maximum(children, extra.get("children", 0)), ids, units,
        )  # fmt: skip
        for i, column in enumerate(columns):
            self._fed[:, i] = column
        self._g[k.G_POS], self._g[k.G_CURSOR] = self._seen, 0
        self._reserve(n, len(chunk.parents))
        if len(chunk.parents) or "children" in extra:
            self._know(chunk)
        self._seen += n

    def _know(self, chunk: Requests | None = None) -> None:
        """What was fed and not yet released is known from now on: it waits for its parents, those of ``chunk``, or in line."""
        slots = np.empty(len(self._fed) - int(self._g[k.G_CURSOR]), np.int64)
        kernel(k, "feed")(self._g, self._req, self._fed, slots)
        parents, parents_from = _NOTHING, np.zeros(len(slots) + 1, np.int64)
        if chunk is not None and len(chunk.parents):
            parents = self._find(chunk, slots)
            parents_from = np.ascontiguousarray(chunk.parents_from, np.int64)
        kernel(k, "link")(self._g, self._req, self._edges, slots, parents_from, parents)

    def _keep_ids(self) -> None:
        """Forget the ids of prompts that are over, where these are most."""
        held = np.flatnonzero((self._req["pos"] >= 0) & (self._req["state"] != k.OVER))
        first, many = self._req["ids"][held], self._req["units"][held].astype(np.int64)
        if 2 * many.sum() >= len(self._ids):
            return
        begins = np.cumsum(many) - many
        at = np.arange(many.sum()) + np.repeat(first - begins, many)
        self._ids = self._ids[at]
        self._req["ids"][held] = begins

    def _find(self, chunk: Requests, slots: Ints) -> Ints:
        """Slots of the chunk's parents, in this chunk or before it."""
        own = np.repeat(np.arange(self._seen, self._seen + len(chunk)), np.diff(chunk.parents_from))
        bad = np.flatnonzero((chunk.parents < 0) | (chunk.parents >= own))
        if len(bad):
            i = int(bad[0])
            raise ModelError(
                f"request at position {own[i]} waits for position {chunk.parents[i]}",
                "parents stand before their children",
            )
        found = np.empty(len(chunk.parents), np.int64)
        inside = chunk.parents >= self._seen
        found[inside] = slots[chunk.parents[inside] - self._seen]
        before = chunk.parents[~inside]
        if len(before):
            kept = np.flatnonzero((self._req["pos"] >= 0) & (self._req["pos"] < self._seen))
            positions = self._req["pos"][kept]
            order = np.argsort(positions)
            at = np.searchsorted(positions, before, sorter=order)
            hit = (
                order[np.minimum(at, len(order) - 1)]
                if len(order)
                else np.zeros(len(before), np.int64)
            )
            missing = (positions[hit] != before) if len(order) else np.ones(len(before), bool)
            if missing.any():
                raise ModelError(
                    f"the parent at position {before[missing][0]} ended in an earlier chunk and was not kept",
                    "give Requests.extra['children'], the number of children of each row, with the chunks",
                )
            found[~inside] = kept[hit]
        return found

    def _reserve(self, n: int, n_edges: int) -> None:
        g = self._g
        lack = n - int(g[k.G_ROOM])
        if lack > 0:
            old = len(self._req)
            new = old + max(lack, old // 8)
            self._req.resize(new, refcheck=False)  # nobody else holds it
            added = self._req[old:]
            added["pos"] = -1
            added["next"] = np.arange(old + 1, new + 1)
            added["next"][-1] = g[k.G_FREE]
            g[k.G_FREE] = old
            g[k.G_ROOM] += new - old
        if n_edges:
            # Edges in use are at most all of them: give the chunk its own.
            unused = self._unused_edges(n_edges)
            if unused < n_edges:
                old = len(self._edges)
                new = max(old + n_edges, old + old // 2, 1024)
                edges = np.zeros((new, 2), np.int64)
                edges[:old] = self._edges
                edges[old:, 1] = np.arange(old + 1, new + 1)
                edges[new - 1, 1] = g[k.G_EDGE_FREE]
                g[k.G_EDGE_FREE] = old
                self._edges = edges

    def _unused_edges(self, enough: int) -> int:
        count, edge = 0, int(self._g[k.G_EDGE_FREE])
        while edge >= 0 and count < enough:
            count += 1
            edge = int(self._edges[edge, 1])
        return count

    # ------------------------------------------------------------------ running

    def _run(self, limit: int, take: Take) -> None:
        """Process what happens before ``limit``; ``take`` gets the rows of those that end, in pieces."""
        g = self._g
        g[k.G_LIMIT] = min(limit, self._until)
        self._limit_windows()
        while (why := self._advance()) != k.PAUSED:
            if why == k.FULL:
                self._hand_out(take)
                continue
            if why == k.LOST:
                raise ModelError(
                    f"the route policy names replica {g[k.G_NEEDED]} of {len(self._rep)}",
                    f"it has to return a number from 0 to {len(self._rep) - 1}",
                )
            self._flush_windows()
            needed = int(g[k.G_NEEDED] - g[k.G_WINDOW_BASE]) + 1
            if needed > self._win.shape[1]:
                shape = (self._win.shape[0], needed + 256, self._win.shape[2])
                if shape[0] * shape[1] > _MAX_WINDOWS:
                    raise ModelError(f"an iteration spans {needed} windows", "take a wider window")
                grown = np.zeros(shape)
                grown[:, : self._win.shape[1]] = self._win
                self._win = grown
            self._limit_windows()
        self._hand_out(take)

    def _hand_out(self, take: Take) -> None:
        take(self._out[:, : self._g[k.G_OUT]])
        self._g[k.G_OUT] = 0

    def _advance(self) -> int:
        arrays = (
            self._g, self._fed, self._req, self._rep, self._pool, self._edges, self._tree, self._todo, self._ring, self._grow,
            self._out, self._ent, self._buckets, self._ids, self._coef, self._ends, self._tables, self._link, self._xs, self._win,
            self.row_x, self._hist, self._mem, self._par,
        )  # fmt: skip
        try:
            return int(kernel(k, "advance")(*arrays, *self._policies))
        except Exception as e:
            if not self._own:
                raise
            raise ModelError(f"a policy of your own stopped: {type(e).__name__}: {e}", "mend it: it has to return a number for every request") from e  # fmt: skip

    def _limit_windows(self) -> None:
        g = self._g
        g[k.G_WINDOW_LIMIT] = (g[k.G_WINDOW_BASE] + self._win.shape[1]) * self.window_ns

    def _flush_windows(self) -> None:
        """Move the windows that nothing can touch any more out of the accumulators."""
        g = self._g
        busy = self._rep["start"][self._rep["end"] != k.NEVER]
        first = min(int(busy.min()) if len(busy) else int(g[k.G_NOW]), int(g[k.G_NOW]))
        if not len(busy):  # an idle gap: nothing happens before the instant that asked for room
            first = int(g[k.G_NEEDED]) * self.window_ns
        done = first // self.window_ns - int(g[k.G_WINDOW_BASE])
        if done <= 0:
            return
        self._emit(done)
        kept = max(0, self._win.shape[1] - done)
        if kept:
            self._win[:, :kept] = self._win[:, done:].copy()
        self._win[:, kept:] = 0.0
        g[k.G_WINDOW_BASE] += done

    def _emit(self, n: int) -> None:
        self._emitted += n
        if self._emitted * self._win.shape[0] > _MAX_WINDOWS:
            raise ModelError(
                f"more than {_MAX_WINDOWS:,} windows of {self.window_ns / 1e9:g} s",
                "take a wider window",
            )
        held = self._win[:, : min(n, self._win.shape[1])]
        self._windows.append(held.copy())
        if n > held.shape[1]:
            self._windows.append(np.zeros((held.shape[0], n - held.shape[1], held.shape[2])))

    # ------------------------------------------------------------------ reading

    def windows(self) -> Windows:
        """All windows from the first arrival's up to the present instant's."""
        held = int(self._g[k.G_NOW] - 1) // self.window_ns - int(self._g[k.G_WINDOW_BASE]) + 1
        parts = [*self._windows, self._win[:, : max(0, held) if self._seen else 0]]
        table = np.concatenate(parts, axis=1)
        replicas, n, columns = table.shape
        flat = table.transpose(1, 0, 2).reshape(replicas * n, columns)
        return Windows(
            window_ns=self.window_ns,
            window=np.repeat(np.arange(n) + max(0, self._window_from), replicas),
            replica=np.tile(np.arange(replicas), n),
            iterations=flat[:, k.W_ITERATIONS].astype(np.int64),
            busy_s=flat[:, k.W_BUSY_NS] / 1e9,
            decode_tokens=np.rint(flat[:, k.W_GENERATED]).astype(np.int64),
            prefill_tokens=flat[:, k.W_PREFILL].astype(np.int64),
            sequence_s=flat[:, k.W_SEQ_NS] / 1e9,
            block_s=flat[:, k.W_BLOCK_NS] / 1e9,
            moved_tokens=flat[:, k.W_MOVED].astype(np.int64),
            x=flat[:, k.WINDOW_COLUMNS :].copy(),
        )

    @property
    def gaps_between_tokens(self) -> tuple[Floats, Ints]:
        """(seconds at the lower edges of the bins, sixteen for each power of two; [pools, bins] how many gaps between two emissions of a
        request began there)."""
        e, part = np.divmod(np.arange(self._hist.shape[1]), 16)
        return np.exp2(e) * (1 + part / 16) / 1e9, self._hist.copy()

    @property
    def fed(self) -> int:
        """Requests so far."""
        return self._seen

    @property
    def now_ns(self) -> int:
        """The last instant that was processed."""
        return int(self._g[k.G_NOW])

    @property
    def free_blocks(self) -> Ints:
        """[replicas]"""
        return self._rep["free"].copy()

    @property
    def peak_blocks(self) -> Ints:
        """[replicas] the most KV blocks that were ever in use."""
        return self._rep["peak"].copy()

    @property
    def cached_tokens(self) -> Ints:
        """[replicas] tokens of prompts that needed no computing."""
        return self._rep["cached"].copy()

    @property
    def provisioned_s(self) -> Floats:
        """[replicas] for how long each was provisioned, up to the present instant."""
        since = self._rep["since"]
        now = np.where(since == k.NEVER, 0, self.now_ns - since)
        return np.asarray((self._rep["paid"] + now) / 1e9)

    @property
    def preemptions(self) -> Ints:
        """[replicas]"""
        return self._rep["preemptions"].copy()

    @property
    def ties(self) -> int:
        """Instants at which more than one thing happened."""
        return int(self._g[k.G_TIES])

    @property
    def dependent_releases(self) -> int:
        return int(self._g[k.G_DEPENDENT])

    @property
    def slots(self) -> int:
        """Requests that memory is held for: those in flight, parents awaiting children, one chunk."""
        return len(self._req)


def chunks(requests: Requests, size: int = CHUNK) -> Iterator[Requests]:
    """Cut a workload for ``feed``; adds the column that says how many children each row has."""
    n = len(requests)
    extra = dict(requests.extra)
    if len(requests.parents):
        extra["children"] = np.bincount(requests.parents, minlength=n).astype(np.int64)
    for a in range(0, n, size):
        b = min(n, a + size)
        first, last = requests.parents_from[a], requests.parents_from[b]
        yield replace(
            requests,
            row_id=requests.row_id[a:b],
            arrival_ns=requests.arrival_ns[a:b],
            input_tokens=requests.input_tokens[a:b],
            output_tokens=requests.output_tokens[a:b],
            steps=requests.steps[a:b],
            delay_ns=requests.delay_ns[a:b],
            priority=requests.priority[a:b],
            parents_from=requests.parents_from[a : b + 1] - first,
            parents=requests.parents[first:last],
            ids_from=requests.ids_from[a : b + 1]
            if requests.ids is not None
            else requests.ids_from,
            ids=requests.ids[requests.ids_from[a] : requests.ids_from[b]]
            if requests.ids is not None
            else None,
            extra={name: column[a:b] for name, column in extra.items()},
        )


def run(sim: Simulation, requests: Requests | Iterable[Requests]) -> Finished:
    """Feed everything and finish; rows in the order of the workload."""
    before = sim.fed
    rows = np.empty((k.OUT_COLUMNS, len(requests) if isinstance(requests, Requests) else CHUNK), np.int64)  # fmt: skip

    def take(ended: Ints) -> None:
        nonlocal rows
        if sim.fed - before > rows.shape[1]:
            grown = np.empty((k.OUT_COLUMNS, 2 * (sim.fed - before)), np.int64)
            grown[:, : rows.shape[1]] = rows
            rows = grown
        if ended.shape[1] and ended[k.O_POS].min() < before:
            raise ModelError(
                "the simulation was fed before, and not all of that is over",
                "take the rows of Simulation.feed and finish, or give run a new Simulation",
            )
        kernel(k, "place")(rows, ended, before)

    # A single workload is cut here; a caller's own chunks are taken as they come.
    for chunk in chunks(requests) if isinstance(requests, Requests) else requests:
        sim._feed(chunk, take)
    sim._finish(take)
    return Finished(*rows[:, : sim.fed - before])


def own_policy(text: str) -> Callable[..., Any]:
    """``"file.py:function"``: a policy of the caller's own, which runs the file. Raises UsageError."""
    path, _, name = text.rpartition(":")
    spec = importlib.util.spec_from_file_location("own_policy", path)
    if spec is None or spec.loader is None or not Path(path).is_file():
        raise UsageError(f"no such file: {path}", "write it like my.py:policy")
    module = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
    except Exception as e:
        raise UsageError(f"{path} does not run: {type(e).__name__}: {e}", "mend it; the example in docs/policies.md runs") from e  # fmt: skip
    found = getattr(module, name, None)
    if not callable(found):
        raise UsageError(f"{path} has no function {name!r}", "write it like my.py:policy")
    return cast(Callable[..., Any], found)


def _named(
    what: str, given: str | Callable[..., Any], known: Mapping[str, Callable[..., Any]]
) -> Callable[..., Any]:
    if not isinstance(given, str):
        return given
    if ".py:" in given:
        return own_policy(given)
    if given not in known:
        raise UnknownName(f"{what} policy", given, known)
    return known[given]


def _check(chunk: Requests, last: tuple[int, int]) -> None:
    """ModelError where a request cannot be simulated, naming the first such row."""
    arrival, row = chunk.arrival_ns, chunk.row_id
    if int(arrival[0]) < 0:
        raise ModelError(f"request with row_id {row[0]} arrives before the origin", "count its time from the first arrival")  # fmt: skip
    same = arrival[1:] == arrival[:-1]
    if (
        (arrival[1:] < arrival[:-1]).any()
        or (same & (row[1:] <= row[:-1])).any()
        or (int(arrival[0]), int(row[0])) <= last
    ):
        raise ModelError(
            "requests are not sorted by (arrival, row_id)", "sort them, and give each row_id once"
        )
    rules = (
        (chunk.input_tokens < 1, "has no input tokens"),
        (chunk.output_tokens < 1, "has no output tokens (a failed request?)"),
        (
            (chunk.steps < 1) | (chunk.steps > chunk.output_tokens),
            "needs steps between 1 and its output tokens",
        ),
        (chunk.delay_ns < 0, "has a negative delay"),
        (arrival >= 2**61, "arrives after 73 years"),
        (chunk.input_tokens + chunk.output_tokens > _INT32, "has 2 billion tokens or more"),
        (np.abs(chunk.priority) > _INT32, "has a priority beyond 2 billion"),
    )
    for mask, what in rules:
        if mask.any():
            i = int(np.argmax(mask))
            raise ModelError(
                f"request with row_id {row[i]} {what}", "leave it out of the simulation, or mend it"
            )

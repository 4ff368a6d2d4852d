"""Directed acyclic graphs of calls, many at once: levels, longest paths, what runs at the same time, shapes.

Arrays are of calls, grouped by workflow: ``workflow`` numbers rise from 0. Loops go over levels, not over calls; a row
takes about 100 bytes.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from .stack_distances import Keys, mixed, places

Array = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
Flags = npt.NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class Levels:
    """[calls] ``level`` from 0: edges on the longest path to a call; −1 where a circle lies before it. ``path``: the
    greatest sum of weights along a path that ends with the call, itself included. ``shape``: a key of a call's place;
    in graphs of one shape they are the same, in others nearly always not."""

    level: Ints
    path: Array
    shape: Keys


def levels(calls: int, parent: Ints, child: Ints, weight: Array | None = None) -> Levels:
    """Level by level along the edges parent → child, each of which is looked at once. ``weight``: [calls], say
    seconds."""
    w = np.zeros(calls) if weight is None else weight
    order = np.argsort(parent, kind="stable")
    child = child[order]
    fans = np.bincount(parent, minlength=calls)
    begins = np.cumsum(fans) - fans
    waits = np.bincount(child, minlength=calls)
    level = np.full(calls, -1, dtype=np.int64)
    before = np.zeros(calls)
    above = np.zeros(calls, dtype=np.uint64)
    fan_key = mixed(fans.astype(np.uint64))
    shape = np.zeros(calls, dtype=np.uint64)
    ready = np.flatnonzero(waits == 0)
    depth = 0
    with np.errstate(over="ignore"):
        while len(ready):
            level[ready] = depth
            shape[ready] = mixed(above[ready] + fan_key[ready] + np.uint64(depth))
            many = fans[ready]
            edge = np.repeat(begins[ready], many) + places(many)
            to = child[edge]
            np.maximum.at(before, to, np.repeat(before[ready] + w[ready], many))
            np.add.at(above, to, np.repeat(mixed(shape[ready]), many))
            np.subtract.at(waits, to, 1)
            met = np.unique(to)
            ready = met[waits[met] == 0]
            depth += 1
    return Levels(level, before + w, shape)


def levels_by_time(workflow: Ints, start: Ints, end: Ints) -> Ints:
    """[calls] the most calls, one after the other without overlap, that ended before this one began: the level
    where a call is taken to wait for all that ended before it. An upper bound of what edges would give."""
    n = int(workflow[-1]) + 1 if len(workflow) else 0
    out = np.zeros(len(workflow), dtype=np.int64)
    end = np.maximum(end, start + 1)  # a call without length still has an end
    left = np.arange(len(workflow))
    depth = 0
    while len(left):
        ends = np.full(n, np.iinfo(np.int64).max)
        np.minimum.at(ends, workflow[left], end[left])
        left = left[start[left] >= ends[workflow[left]]]
        depth += 1
        out[left] = depth
    return out


def edges_by_time(workflow: Ints, start: Ints, end: Ints) -> tuple[Ints, Ints]:
    """(parent, child): a call is taken to wait for those of its workflow that ended last before it began: no call
    that had also ended by then began after them. Their longest paths are the levels of ``levels_by_time``; these are the
    covering pairs of the interval order (Fishburn 1985, Interval Orders and Interval Graphs, ch. 2)."""
    end = np.maximum(end, start + 1)
    at, rank = np.unique(np.concatenate([start, end]), return_inverse=True)
    begins, ends = (
        workflow * len(at) + r.astype(np.int64) for r in (rank[: len(start)], rank[len(start) :])
    )
    order = np.argsort(ends, kind="stable")
    upto = np.searchsorted(ends[order], begins, side="right")
    first = np.searchsorted(ends[order], workflow * len(at), side="left")
    latest = np.maximum.accumulate(begins[order])  # of the calls that have ended so far
    low = np.searchsorted(ends[order], latest[np.maximum(upto - 1, 0)], side="right")
    low = np.minimum(np.maximum(low, first), upto)
    many = upto - low
    return order[np.repeat(low, many) + places(many)], np.repeat(np.arange(len(start)), many)


def busy(workflow: Ints, start: Ints, end: Ints) -> tuple[Ints, Ints]:
    """[workflows] the most calls that run at once, and for how long at least one does. Calls are [start, end)."""
    n = len(workflow)
    owner = np.concatenate([workflow, workflow])
    at = np.concatenate([start, end])
    step = np.repeat([1, -1], n)
    order = np.lexsort((step, at, owner))
    owner, at, running = owner[order], at[order], np.cumsum(step[order])
    first = np.flatnonzero(np.diff(owner, prepend=-1))
    most = np.maximum.reduceat(running, first)
    span = np.where(
        running > 0, np.diff(at, append=at[-1:]), 0
    )  # each workflow ends with none running
    return np.maximum(most, 1), np.add.reduceat(span, first)


def widths(workflow: Ints, level: Ints) -> tuple[Ints, Ints, Ints]:
    """Calls per level: (workflow, level, calls), in order."""
    key, calls = np.unique(np.stack([workflow, level], axis=1), axis=0, return_counts=True)
    return key[:, 0], key[:, 1], calls


def label(widths: list[int], edges: int | None) -> str:
    """A shape in words, from its calls per level; ``edges``: None where they are not known.

    ``chain of 3``, ``fan-out 4 + join``, ``fan-out 4``, ``join of 4``, ``4 apart``, else ``levels 1-2-1-3, 7 edges``.
    """
    middle = widths[1] if len(widths) == 3 else 0
    if max(widths) == 1:
        return f"chain of {len(widths)}" if len(widths) > 1 else "one call"
    if len(widths) == 1:
        return f"{widths[0]} apart"
    if len(widths) == 2 and widths[0] == 1:
        return f"fan-out {widths[1]}"
    if len(widths) == 2 and widths[1] == 1 and edges in (None, widths[0]):
        return f"join of {widths[0]}"
    if widths == [1, middle, 1] and edges in (None, 2 * middle):
        return f"fan-out {middle} + join"
    text = "-".join(map(str, widths[:12])) + ("-…" if len(widths) > 12 else "")
    return f"levels {text}" + (f", {edges} edges" if edges is not None else "")

"""What the calls of workflows make together: graphs and their shapes, delays between calls, names of stages."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl

from ..distributions import K_ANONYMITY
from . import dags
from .calls import Calls
from .conversations import NONE, known
from .dags import Array, Flags, Ints
from .durations import Durations
from .ratios import Units, rounded_share
from .stack_distances import Keys, mixed
from .timings import Timings

if TYPE_CHECKING:
    from .timeline import Timeline

ORDERS = ("edges", "times", "none")
MOST_NAMES = 24
MOST_SHAPES = 12
MOST_INFERRED = 64
"""calls of a workflow whose edges are inferred; more of them could have thousands of edges each."""
KINDS = ("think", "tool", "unnamed", "derived")
"""of delays: as the source names them, not named by it, or from the end of the last parent to the arrival."""


@dataclass(frozen=True)
class Shape:
    """Graphs of one shape, in words (see ``dags.label``), and the share of the workflows that have it."""

    label: str
    workflows: int
    share: float

    def to_dict(self) -> dict[str, Any]:
        return dict(self.__dict__)


@dataclass(frozen=True, eq=False)
class Graphs:
    """[calls] ``level`` of the workflows that could be ordered, −1 elsewhere; ``key`` of a call's place in its graph."""

    order: str
    level: Ints
    key: Keys
    path: Array
    ordered: Flags
    """[workflows]"""


def graphs(c: Calls) -> Graphs:
    """By recorded edges where any workflow has all of them, else by times where all calls have both ends."""
    n = c.workflows
    lengths = np.where(known(c.arrival_ns, c.end_ns), c.end_ns - c.arrival_ns, 0)
    told = np.bincount(c.workflow[~c.known], minlength=n) == 0
    several = c.sizes > 1
    found = dags.levels(len(c.workflow), c.parent, c.child, np.maximum(lengths, 0).astype(float))
    edges = told & (np.bincount(c.workflow[found.level < 0], minlength=n) == 0)
    if (edges & several).any() or not (~edges & several).any():
        return Graphs("edges", found.level, found.shape, found.path, edges)
    timed = np.bincount(c.workflow[~known(c.arrival_ns, c.end_ns)], minlength=n) == 0
    if not timed.any():
        return Graphs("none", found.level, found.shape, found.path, timed)
    begin = np.where(c.arrival_ns == NONE, 0, c.arrival_ns)
    level = dags.levels_by_time(c.workflow, begin, np.where(c.end_ns == NONE, begin, c.end_ns))
    return Graphs("times", level, mixed(level.astype(np.uint64)), found.path, timed)


def inferred(c: Calls, g: Graphs) -> tuple[Calls, Graphs]:
    """Calls with the edges that times allow (``dags.edges_by_time``), and keys of their places in these graphs, for
    the workflows that ``g`` ordered by times; those of more than ``MOST_INFERRED`` calls stay without edges."""
    small = np.flatnonzero((g.ordered & (c.sizes <= MOST_INFERRED))[c.workflow])
    if not len(small):
        return c, g
    parent, child = dags.edges_by_time(c.workflow[small], c.arrival_ns[small], c.end_ns[small])
    parent, child = small[parent], small[child]
    key = g.key.copy()
    key[small] = dags.levels(len(c.workflow), parent, child).shape[small]
    return replace(c, parent=parent, child=child), replace(g, key=key)


def timed(c: Calls) -> Flags:
    """[workflows] whether all calls have an arrival and an end, in that order."""
    good = known(c.arrival_ns, c.end_ns) & (c.end_ns >= c.arrival_ns)
    return np.asarray(np.bincount(c.workflow[~good], minlength=c.workflows) == 0)


def law(ns: Ints, units: Units, chosen: Flags, tick_ns: int | None) -> Durations | None:
    window = units.window[chosen] if units.window is not None else None
    out = Timings(units.windows)
    out.add(ns, window)
    return out.described(tick_ns)


def shapes(c: Calls, g: Graphs, per_level: tuple[Ints, Ints, Ints]) -> tuple[Shape, ...]:
    """The commonest shapes, from ``dags.widths`` of the ordered workflows; those of fewer than ten workflows together are
    ``other``."""
    with np.errstate(over="ignore"):
        key = np.add.reduceat(mixed(g.key), c.first)[g.ordered]
    _, example, n = np.unique(key, return_index=True, return_counts=True)
    owner, _, calls = per_level
    at = np.append(np.flatnonzero(np.diff(owner, prepend=-1)), len(owner))
    number = np.flatnonzero(g.ordered)
    edges = np.bincount(c.workflow[c.child], minlength=c.workflows)
    whole = len(key)
    out: list[Shape] = []
    for i in np.argsort(-n, kind="stable")[:MOST_SHAPES].tolist():
        if n[i] < K_ANONYMITY:
            break
        w = int(example[i])
        told = int(edges[number[w]]) if g.order == "edges" else None
        label = dags.label(calls[at[w] : at[w + 1]].tolist(), told)
        out.append(Shape(label, int(n[i]), rounded_share(n[i] / whole)))
    rest = whole - sum(s.workflows for s in out)
    if rest >= K_ANONYMITY:
        out.append(Shape("other", rest, rounded_share(rest / whole)))
    return tuple(out)


def delays(c: Calls, timeline: Timeline | None, tick_ns: int | None) -> dict[str, Durations]:
    """Laws of the delays that the source states, by its names, and of those that ends and arrivals give."""
    stated = (c.delay_ns != NONE) & (c.delay_ns >= 0)
    kind = c.delay_kind.fill_null("unnamed").to_numpy()
    groups = {k: (c.delay_ns[stated & (kind == k)], c.arrival_ns[stated & (kind == k)]) for k in KINDS[:3]}  # fmt: skip
    last = np.full(len(c.workflow), NONE)
    np.maximum.at(last, c.child, c.end_ns[c.parent])
    unknown = np.zeros(len(c.workflow), dtype=bool)
    unknown[c.child[c.end_ns[c.parent] == NONE]] = True
    waited = known(last, c.arrival_ns) & ~unknown
    if timeline is not None and timeline.masks:
        waited[waited] = ~timeline.crosses(last[waited], c.arrival_ns[waited])
    waited &= c.arrival_ns >= last
    groups["derived"] = ((c.arrival_ns - last)[waited], c.arrival_ns[waited])
    out = {}
    for name, (ns, at) in groups.items():
        clock = timeline if len(at) and bool((at != NONE).all()) else None
        units = Units.of(at, clock)
        found = law(ns, units, np.ones(len(ns), dtype=bool), tick_ns)
        if found is not None:
            out[name] = found
    return out


def stages(stage: pl.Series) -> tuple[tuple[str, float], ...]:
    named = stage.drop_nulls()
    if not len(named):
        return ()
    counts = named.value_counts(sort=True).sort(["count", named.name], descending=[True, False])
    common = counts.filter(pl.col("count") >= K_ANONYMITY).head(MOST_NAMES)
    out = [(str(n), rounded_share(k / len(stage))) for n, k in common.iter_rows()]
    rest = len(named) - int(common["count"].sum())
    if rest >= K_ANONYMITY:
        out.append(("other", rounded_share(rest / len(stage))))
    return tuple(out)

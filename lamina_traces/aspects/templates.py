"""Templates of workflows: the steps of a task, what each waits for, and the laws of its calls. A generator unfolds them.

They are fitted where the source records what calls wait for, or times say what they cannot have waited for, and ten
workflows or more have the same graph of the same stages; or written by hand::

    {"name": "plan and retrieve", "share": 1.0, "steps": [
        {"name": "plan", "input": {"median": 900, "p90": 1500}, "output": 120},
        {"name": "retrieve", "after": ["plan"], "repeat": {"median": 4, "p90": 8}, "input": {"median": 3000, "p90": 6000},
         "output": {"median": 60, "p90": 150}, "delay_s": {"median": 0.3, "p90": 1.0}, "delay_kind": "tool"},
        {"name": "check", "after": ["retrieve"], "probability": 0.4, "input": 700, "output": 40}]}

Numbers are stated as one value, as median and p90 of a lognormal law (with ``min`` and ``max``, if any), or as a quantile
grid; ``basis`` and ``source`` beside them say where they come from, and are kept.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from ..counts import Counts
from ..distributions import FAMILIES, K_ANONYMITY, Grid
from ..errors import ModelError
from ..units import NS_PER_S, short
from .call_graphs import Graphs
from .calls import Calls
from .conversations import NONE, known
from .dags import Array, Flags, Ints
from .ratios import rounded_share
from .rows import spearman
from .stack_distances import Keys, mixed

KNOTS = 129
FITTED_KNOTS = 17
FEWEST_PAIRS = 100
MOST_TEMPLATES = 12
MOST_STEPS = 64
OTHERS = "others"
"""the template of workflows whose graphs are of none."""
DELAY_KINDS = ("think", "tool")
REPEATS = ("parallel", "sequence")
_P90 = 1.2815515655446004
"""standard deviations from median to p90 of a normal law."""


@dataclass(frozen=True, eq=False)
class Spread:
    """A law as it is ``stated``, and its quantiles at equal steps of probability."""

    stated: Any
    values: Array

    @classmethod
    def of(cls, stated: Any, what: str) -> Spread:
        """Raises ModelError where it is neither a number ≥ 0, nor a median and p90, nor a grid."""
        if isinstance(stated, Mapping) and "values" in stated:
            knots = np.array(stated["values"], dtype=np.float64)
            straight = float((knots[1:] + knots[:-1]).mean() / 2) if len(knots) > 1 else 0.0
            values = Grid.from_dict({"mean": straight, "rows": 0.0, **stated}).curve.table(KNOTS)
        elif isinstance(stated, Mapping) and {"median", "p90"} <= stated.keys():
            values = _lognormal(stated, what)
        else:
            stated = (
                stated["value"] if isinstance(stated, Mapping) and "value" in stated else stated
            )
            values = np.full(KNOTS, _number(stated, what))
        if not np.isfinite(values).all() or values[0] < 0:
            raise ModelError(f"{what}: values must be 0 or more", "check the template")
        return cls(stated, values)


def _number(x: Any, what: str) -> float:
    if isinstance(x, bool) or not isinstance(x, int | float) or not math.isfinite(x) or x < 0:
        raise ModelError(
            f"{what}: {x!r} is no number of 0 or more",
            'state a number, {"median": 10, "p90": 40} or a quantile grid',
        )
    return float(x)


def _lognormal(stated: Mapping[str, Any], what: str) -> Array:
    median, p90 = (_number(stated[k], f"{what}, {k}") for k in ("median", "p90"))
    if not 0 < median <= p90:
        raise ModelError(f"{what}: p90 is below the median, or the median is 0", "swap them")
    u = np.clip(np.linspace(0, 1, KNOTS), 1e-3, 1 - 1e-3)
    law = {"mu": math.log(median), "sigma": max(math.log(p90 / median) / _P90, 1e-12)}
    low = _number(stated.get("min", 0), f"{what}, min")
    high = _number(stated["max"], f"{what}, max") if "max" in stated else math.inf
    return np.clip(FAMILIES["lognormal"].quantile(u, law), low, high)


@dataclass(frozen=True)
class Step:
    """One call, or ``repeat`` calls (side by side, or in sequence), of a workflow; it waits for all calls of the steps
    ``after`` which it stands (of a sequence the last). With ``probability`` it is there at all; who waits for one that is not
    waits for those before it. ``input``, ``output``: tokens; None: as the stream's lengths. ``holds``: the prompt holds prompt
    and answer of the call that it waited for longest, and ``input`` is what it adds. ``delay_s`` passes after the end of that
    call; ``lasts_s``: how long a call nominally takes; None: as the generator assumes. ``correlation``: Spearman's of input and
    output where the step states both.
    """

    name: str
    stage: str | None = None
    after: tuple[str, ...] = ()
    input: Spread | None = None
    output: Spread | None = None
    holds: bool = False
    delay_s: Spread | None = None
    delay_kind: str | None = None
    lasts_s: Spread | None = None
    repeat: Spread | None = None
    repeat_in: str = "parallel"
    probability: float = 1.0
    correlation: float = 0.0

    def to_dict(self) -> dict[str, Any]:
        """With what is not as it is by default."""
        spreads = ("input", "output", "delay_s", "lasts_s", "repeat")
        stated = {k: getattr(self, k).stated for k in spreads if getattr(self, k) is not None}
        plain = {k: getattr(self, k) for k in ("stage", "holds", "delay_kind", "repeat_in", "probability", "correlation")}  # fmt: skip
        kept = {k: v for k, v in plain.items() if v != getattr(_BY_DEFAULT, k)}
        return {"name": self.name, **({"after": list(self.after)} if self.after else {}), **stated, **kept}  # fmt: skip

    @classmethod
    def from_dict(cls, d: Mapping[str, Any]) -> Step:
        unknown = set(d) - set(cls.__dataclass_fields__)
        if unknown or not isinstance(d.get("name"), str):
            raise ModelError(
                f"a step of a workflow: {', '.join(sorted(unknown)) or 'it has no name'}",
                f"known keys: {', '.join(cls.__dataclass_fields__)}",
            )
        what = f"step {d['name']!r}"
        if not isinstance(d.get("stage", ""), str | None):
            raise ModelError(f"{what}: its stage is no text but {d['stage']!r}", "give it a name")
        spreads = {k: Spread.of(d[k], f"{what}, {k}") for k in ("input", "output", "delay_s", "lasts_s", "repeat") if d.get(k) is not None}  # fmt: skip
        out = cls(
            name=d["name"],
            stage=d.get("stage"),
            after=tuple(map(str, d.get("after", ()))),
            holds=bool(d.get("holds", False)),
            delay_kind=d.get("delay_kind"),
            repeat_in=str(d.get("repeat_in", "parallel")),
            probability=_number(d.get("probability", 1.0), f"{what}, probability"),
            correlation=float(d.get("correlation", 0.0)),
            **spreads,
        )
        if out.probability > 1 or not abs(out.correlation) <= 1 or out.repeat_in not in REPEATS or out.delay_kind not in (None, *DELAY_KINDS):  # fmt: skip
            raise ModelError(
                f"{what}: probability, correlation, repeat_in or delay_kind is out of range",
                f"0 … 1, −1 … 1, {' or '.join(REPEATS)}, {' or '.join(DELAY_KINDS)}",
            )
        return out


_BY_DEFAULT = Step("")


@dataclass(frozen=True)
class Template:
    """``share`` of the workflows have these ``steps``, each after those that it waits for, or as many calls in a graph that
    is rare."""

    name: str
    share: float
    steps: tuple[Step, ...] = field(default=())

    def to_dict(self) -> dict[str, Any]:
        return {
            "name": self.name,
            "share": self.share,
            "steps": [s.to_dict() for s in self.steps],
        }

    @classmethod
    def from_dict(cls, d: Mapping[str, Any]) -> Template:
        """Raises ModelError on steps that wait for none that stands before them."""
        name = str(d["name"])
        steps = tuple(map(Step.from_dict, d["steps"]))
        seen: set[str] = set()
        for s in steps:
            missing = set(s.after) - seen
            if missing or s.name in seen:
                reason = f"waits for {', '.join(sorted(missing))}, which no step before it is called" if missing else "is there twice"  # fmt: skip
                raise ModelError(
                    f"template {name!r}: step {s.name!r} {reason}", "give names, in order"
                )
            seen.add(s.name)
        share = _number(d.get("share", 1.0), f"template {name!r}, share")
        if not 1 <= len(steps) <= MOST_STEPS:
            raise ModelError(f"template {name!r} has {len(steps)} steps", f"1 to {MOST_STEPS}; a step may repeat")  # fmt: skip
        return cls(name, share, steps)

    def renamed(self, names: Mapping[str, str], number: int) -> Template:
        """With other names of stages, and numbers for those of steps."""
        numbered = {s.name: f"step{i}" for i, s in enumerate(self.steps, 1)}
        steps = tuple(
            replace(
                s,
                name=numbered[s.name],
                stage=names.get(s.stage or s.name, "other"),
                after=tuple(numbered[a] for a in s.after),
            )
            for s in self.steps
        )
        return Template(f"template{number}", self.share, steps)


# --- fitting ---------------------------------------------------------------------------------------


def fit(c: Calls, g: Graphs, named: frozenset[str]) -> tuple[Template, ...]:
    """The commonest graphs with their stages, by edges that are recorded or inferred; none where neither is. Stages that
    are not ``named`` are ``other``: fewer than ten calls have them. Workflows of a rare graph count to the commonest one
    of as many calls, or are chains, under ``OTHERS``."""
    if g.order == "none":
        return ()
    told = c.stage.fill_null("").to_list()
    stage = np.array([x if x in named or not x else "other" for x in told], dtype=object)
    _, kind = np.unique(stage.astype(str), return_inverse=True)
    with np.errstate(over="ignore"):
        place = mixed(g.key + mixed(kind.astype(np.uint64)))
        graph = np.add.reduceat(place, c.first)
    chosen = np.flatnonzero(g.ordered & (c.sizes <= MOST_STEPS))
    _, inverse, n = np.unique(graph[chosen], return_inverse=True, return_counts=True)
    ended = np.full(len(c.workflow), NONE)
    np.maximum.at(ended, c.child, c.end_ns[c.parent])
    # calls of one place in the graph are alike, and stand in no order of their own
    anyhow = mixed(np.arange(len(place), dtype=np.uint64))
    order = np.lexsort((anyhow, place, kind, g.level, c.workflow))
    at = np.empty(len(order), dtype=np.int64)
    at[order] = np.arange(len(order)) - np.repeat(c.first, c.sizes)
    common = [k for k in np.argsort(-n, kind="stable")[:MOST_TEMPLATES].tolist() if n[k] >= K_ANONYMITY]  # fmt: skip
    taken = [chosen[inverse == k] for k in common]
    out: list[Template] = []
    like = _likest(c.sizes, taken)
    for i, mine in enumerate(taken):
        rows = order[c.first[mine][:, None] + np.arange(c.sizes[mine[0]])]
        steps = _steps(c, rows, at, place[rows[0]], stage, ended)
        out.append(Template(f"graph {i + 1}", rounded_share(float((like == i).mean())), steps))
    rest = like < 0
    if out and rest.sum() >= 2 * K_ANONYMITY:
        out.append(Template(OTHERS, rounded_share(float(rest.mean())), (_chain(c, rest, ended),)))
    return tuple(out)


def _likest(sizes: Ints, taken: list[Ints]) -> Ints:
    """[workflows] the template of each: its own, else the commonest of as many calls, else −1. ``taken``: the workflows
    of each template, commonest first."""
    like = np.full(len(sizes), -1, dtype=np.int64)
    for i in reversed(range(len(taken))):
        like[sizes == sizes[taken[i][0]]] = i
    for i, mine in enumerate(taken):
        like[mine] = i
    return like


def _chain(c: Calls, chosen: Flags, ended: Ints) -> Step:
    """One step that repeats as often as the ``chosen`` workflows have calls."""
    mine = np.flatnonzero(chosen[c.workflow])
    delay = _delays(c, ended)
    later = mine[~np.isin(mine, c.first)]
    return Step(
        name="call",
        input=_spread(c.input_tokens, mine, mine),
        output=_spread(c.output_tokens, mine, mine),
        correlation=_correlation(c, mine),
        delay_s=_spread(delay, later, later, NS_PER_S),
        lasts_s=_spread(_lasts(c), mine, mine, NS_PER_S),
        repeat=Spread.of(Grid.of(Counts.of(c.sizes[chosen]), FITTED_KNOTS).rounded(4).to_dict(), "calls"),
        repeat_in="sequence",
    )  # fmt: skip


def _delays(c: Calls, ended: Ints) -> Ints:
    """[calls] ns, as stated, else from the end of what a call waits for to its arrival."""
    waited = np.where(known(c.arrival_ns, ended), c.arrival_ns - ended, NONE)
    return np.where(c.delay_ns != NONE, c.delay_ns, waited)


def _lasts(c: Calls) -> Ints:
    """[calls] ns from arrival to end."""
    return np.where(known(c.arrival_ns, c.end_ns), c.end_ns - c.arrival_ns, NONE)


def _steps(c: Calls, rows: Ints, at: Ints, place: Keys, stage: Any, ended: Ints) -> tuple[Step, ...]:  # fmt: skip
    """From ``rows``: [workflows, calls], and the ``place`` of each call in the graph. Edges are those of the first workflow."""
    after: list[set[int]] = [set() for _ in range(rows.shape[1])]
    for e in np.flatnonzero(np.isin(c.child, rows[0])).tolist():
        after[int(at[c.child[e]])].add(int(at[c.parent[e]]))
    groups = _alike(after, place)
    name = {i: f"{n}" for n, group in enumerate(groups, 1) for i in group}
    delay, lasts = _delays(c, ended), _lasts(c)
    kinds = c.delay_kind.fill_null("").to_numpy()
    out = []
    for group in groups:
        mine, before = rows[:, group].ravel(), after[group[0]]
        found = [k for k in DELAY_KINDS if (kinds[mine] == k).mean() > 0.5]
        out.append(
            Step(
                name=name[group[0]],
                stage=str(stage[mine[0]]) or None,
                after=tuple(dict.fromkeys(name[j] for j in sorted(before))),
                input=_spread(c.input_tokens, mine, rows),
                output=_spread(c.output_tokens, mine, rows),
                correlation=_correlation(c, mine),
                delay_s=_spread(delay, mine, rows[:, 1:], NS_PER_S) if before else None,
                delay_kind=found[0] if found and before else None,
                lasts_s=_spread(lasts, mine, rows, NS_PER_S),
                repeat=Spread.of(len(group), "calls") if len(group) > 1 else None,
            )
        )
    return tuple(out)


def _alike(after: list[set[int]], place: Keys) -> list[list[int]]:
    """Calls that wait for the same and are waited for by the same: one step that repeats."""
    groups: list[list[int]] = []
    for i in range(len(after)):
        last = groups[-1] if groups else []
        same = bool(last) and place[last[0]] == place[i] and after[last[0]] == after[i]
        if same and all((last[0] in a) == (i in a) for a in after):
            last.append(i)
        else:
            groups.append([i])
    return groups


def _correlation(c: Calls, mine: Ints) -> float:
    """Spearman's of input and output; 0 below 100 calls with both."""
    both = mine[known(c.input_tokens[mine], c.output_tokens[mine])]
    if len(both) < FEWEST_PAIRS:
        return 0.0
    found = spearman(*(x[both].astype(np.float64) for x in (c.input_tokens, c.output_tokens)))
    return short(found or 0.0, 2)


def _spread(column: Ints, mine: Ints, all_: Ints, unit: int = 1) -> Spread | None:
    """A grid of one step's values, of all steps together where it has fewer than 20."""
    for rows in (mine, all_.ravel()):
        values = column[rows]
        values = values[(values != NONE) & (values >= 0)]
        if len(values) >= 2 * K_ANONYMITY:
            grid = Grid.of(Counts.of(values / unit), FITTED_KNOTS)
            return Spread.of(grid.rounded(4).to_dict(), "a grid")
    return None

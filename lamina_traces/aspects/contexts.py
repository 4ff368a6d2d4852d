"""Contexts: whether a turn's prompt holds the turns before it, and what a turn adds."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from ..counts import Counts
from ..distributions import K_ANONYMITY, Grid
from ..errors import ModelError
from .conversations import NONE, Turns, known
from .dags import Flags
from .ratios import Ratio, Units

if TYPE_CHECKING:
    from .timeline import Timeline

KINDS = ("cumulative", "without-answers", "delta")
SHOWN_TURNS = (*range(1, 11), 12, 15, 20, 25, 30, 40, 50)
KNOTS = 65
MOST = 0.5
"""share of later prompts that hold prompt and answer before them, from which contexts are said to accumulate."""
MOST_GROWING = 0.8
"""share of later prompts that are no shorter, from which they are said to hold the prompts before."""


@dataclass(frozen=True)
class Context:
    """Of ``pairs`` of successive turns with recorded lengths. ``growing``: prompts no shorter than the prompt before;
    ``cumulative``: no shorter than prompt and answer before. ``kind``: cumulative | without-answers (the prompt before
    comes back, the answer does not, as where thinking is stripped) | delta (a prompt holds its own turn only).
    ``new_tokens``: what a later turn adds, by its kind: prompt less prompt and answer before, less prompt before, or the
    prompt; negative ones are left out. ``first_tokens``: prompts of first turns, of sessions that begin in the trace.
    """

    pairs: int
    growing: Ratio
    cumulative: Ratio
    kind: str
    new_tokens: Grid | None
    first_tokens: Grid | None = None

    def to_dict(self) -> dict[str, Any]:
        return {
            "pairs": self.pairs,
            "growing": self.growing.to_dict(),
            "cumulative": self.cumulative.to_dict(),
            "kind": self.kind,
            "new_tokens": self.new_tokens.to_dict() if self.new_tokens else None,
            **({"first_tokens": self.first_tokens.to_dict()} if self.first_tokens else {}),
        }

    @classmethod
    def from_dict(cls, d: dict[str, Any]) -> Context:
        if d["kind"] not in KINDS:
            raise ModelError(
                f"sessions of the profile: contexts of the kind {d['kind']!r}",
                f"known: {', '.join(KINDS)}",
            )
        return cls(
            int(d["pairs"]),
            Ratio.from_dict(d["growing"]),
            Ratio.from_dict(d["cumulative"]),
            str(d["kind"]),
            Grid.from_dict(d["new_tokens"]) if d["new_tokens"] else None,
            Grid.from_dict(d["first_tokens"]) if d.get("first_tokens") else None,
        )


@dataclass(frozen=True)
class ByTurn:
    """Median lengths of the ``requests`` that are the ``turn``-th of their session."""

    turn: int
    requests: int
    input_tokens: float | None
    output_tokens: float | None

    def to_dict(self) -> dict[str, Any]:
        return dict(self.__dict__)

    @classmethod
    def from_dict(cls, d: dict[str, Any]) -> ByTurn:
        medians = [None if d[k] is None else float(d[k]) for k in ("input_tokens", "output_tokens")]
        out = cls(int(d["turn"]), int(d["requests"]), *medians)
        if out.turn < 1 or not all(m is None or 0 <= m < math.inf for m in medians):
            raise ModelError(
                "sessions of the profile: a turn or a length is out of range",
                "fit the profile again",
            )
        return out


def context(t: Turns, timeline: Timeline | None, begun: Flags) -> Context | None:
    """How prompts grow from turn to turn; None below 20 pairs of turns with recorded lengths. ``begun``: [sessions] those
    whose first turn is in the trace."""
    i = t.later(timeline)
    now, before, answer = t.input_tokens[i], t.input_tokens[i - 1], t.output_tokens[i - 1]
    both = known(now, before, answer)
    i, now, before, answer = i[both], now[both], before[both], answer[both]
    if len(i) < 2 * K_ANONYMITY:
        return None
    stamped = bool((t.arrival_ns[i] != NONE).all())
    units = Units.of(t.arrival_ns[i], timeline if stamped else None)
    one = np.ones(len(i))
    growing, cumulative = units.ratio(now >= before, one), units.ratio(now >= before + answer, one)
    kind = "delta"
    if cumulative.value >= MOST:
        kind, added = "cumulative", now - before - answer
    elif growing.value >= MOST_GROWING:
        kind, added = "without-answers", now - before
    else:
        added = now
    added = added[added >= 0]
    grid = Grid.of(Counts.of(added), KNOTS) if len(added) >= 2 * K_ANONYMITY else None
    firsts = t.input_tokens[(t.number == 1) & np.repeat(begun, t.sizes)]
    firsts = firsts[firsts != NONE]
    first = Grid.of(Counts.of(firsts), KNOTS) if len(firsts) >= 2 * K_ANONYMITY else None
    return Context(len(i), growing, cumulative, kind, grid, first)


def by_turn(t: Turns) -> tuple[ByTurn, ...]:
    """Lengths by the number of the turn, where 20 sessions or more have one of that number."""
    out = []
    for turn in SHOWN_TURNS:
        these = t.number == turn
        n = int(these.sum())
        if n < 2 * K_ANONYMITY:
            continue
        medians = []
        for column in (t.input_tokens, t.output_tokens):
            values = column[these & (column != NONE)]
            enough = len(values) >= 2 * K_ANONYMITY
            medians.append(float(np.median(values)) if enough else None)
        out.append(ByTurn(turn, n, medians[0], medians[1]))
    return tuple(out)

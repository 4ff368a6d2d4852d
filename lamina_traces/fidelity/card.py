"""The score card: how far a second workload is from a first, line by line, with what chance alone would do.

A limit is the fixed threshold that the fidelity research proposed, or 1.5 times the floor where that is more: the
largest distance of pairs of block bootstraps of the first trace. Lines without a limit inform and are not judged.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from .. import generator, workloads
from ..aspects import ASPECTS, Line
from ..aspects.rows import Rows
from ..errors import ModelError
from ..profile import Profile
from ..store import Trace
from .distances import distances, trace_distances
from .floors import MOST_ROWS, by_key, floors, trace_floors
from .informative import classifier_line, compression_line
from .privacy import privacy_lines

SEEDS = 5
MOST_GENERATED = 1_000_000
"""rows of the first trace that a profile is held against."""


@dataclass(frozen=True)
class ScoreCard:
    """Distances of workload ``b`` from trace ``a``; every judged line is 0 when they agree.

    ``seeds``: how many traces of ``b`` were generated, where it is a profile. ``notes``: what was left out.
    """

    a: str
    b: str
    lines: tuple[Line, ...]
    seeds: int | None = None
    notes: tuple[str, ...] = ()

    @property
    def judged(self) -> tuple[Line, ...]:
        """Lines with a limit whose distance could be computed."""
        return tuple(x for x in self.lines if x.passed is not None)

    @property
    def failed(self) -> tuple[Line, ...]:
        """Lines over their limit."""
        return tuple(x for x in self.judged if not x.passed)

    @property
    def unjudged(self) -> tuple[Line, ...]:
        """Lines with a limit whose distance could not be computed; their notes say why."""
        return tuple(x for x in self.lines if x.limit is not None and x.value is None)

    @property
    def passed(self) -> bool | None:
        """None when not one line could be judged."""
        return not self.failed if self.judged else None

    @property
    def verdict(self) -> str:
        """One sentence."""
        judged, failed = len(self.judged), len(self.failed)
        if not judged:
            return f"“{self.b}” could not be judged against “{self.a}”."
        if failed:
            return f"“{self.b}” misses {failed} of {judged} limits when compared with “{self.a}”."
        limits = f"all {judged} limits" if judged > 1 else "the one limit"
        return f"“{self.b}” stays within {limits} of “{self.a}”."

    def to_dict(self) -> dict[str, Any]:
        """Keys are documented in docs/statistics.md and stay."""
        return {
            "a": self.a,
            "b": self.b,
            "passed": self.passed,
            "verdict": self.verdict,
            "seeds": self.seeds,
            "notes": list(self.notes),
            "lines": [
                {
                    "aspect": x.aspect,
                    "metric": x.metric,
                    "value": x.value,
                    "limit": x.limit,
                    "passed": x.passed,
                    "floor": x.floor,
                    "floor_range": None if x.floor_range is None else list(x.floor_range),
                    "seed_range": None if x.seed_range is None else list(x.seed_range),
                    "unit": x.unit,
                    "note": x.note,
                }
                for x in self.lines
            ],
        }


def compare(a: Trace, b: Trace | Profile, *, seeds: int = SEEDS) -> ScoreCard:
    """Score b against a. A profile is generated ``seeds`` times over a's span: values are medians, and their ranges are
    told. Raises ModelError when the two have no table in common."""
    if isinstance(b, Profile):
        table = a.main_table
        whole = Rows.of(a, table, most=MOST_GENERATED)
        made = [_generated(b, whole, seed) for seed in range(seeds)]
        rows = [Rows.of(t, table, whole.span_ns or None) for t in made]
    else:
        shared = [t for t in a.tables if t in b.tables]
        if not any(a.main_table in shared and a.main_table in m.TABLES for m in ASPECTS.values()):
            raise ModelError(
                f"{a.name!r} holds {', '.join(a.tables)} and {b.name!r} holds {', '.join(b.tables)}: nothing to compare",
                "compare two traces of one kind",
            )
        table = a.main_table
        whole = Rows.of(a, table)
        made, rows = [b], [Rows.of(b, table)]
    cards = [distances(whole, r) + trace_distances(a, t) for t, r in zip(made, rows, strict=True)]
    lines = _over_seeds(cards)
    floor = floors(whole).and_of(trace_floors(a, lines))
    lines = [floor.put_on(line) for line in lines]
    if table == "llm_requests":
        lines += [*privacy_lines(whole, rows[0]), classifier_line(whole, rows[0])]
        lines.append(compression_line(a, made[0]))
    if not lines:
        raise ModelError(f"{a.name!r} and {b.name!r} record nothing that both can be judged by")
    notes = []
    if whole.total > len(whole):
        notes.append(f"judged by the first {len(whole):,} of {whole.total:,} rows of {a.name}")
    if floor.cut:
        notes.append(f"floors are of the first {MOST_ROWS:,} rows of {a.name}")
    generated = seeds if isinstance(b, Profile) else None
    return ScoreCard(a.name, b.name, tuple(lines), generated, tuple(notes))


def _over_seeds(cards: Sequence[Sequence[Line]]) -> list[Line]:
    """Medians over the seeds, in the order of the first card; one card is left as it is."""
    if len(cards) == 1:
        return list(cards[0])
    values = by_key(cards)
    first: dict[tuple[str, str], Line] = {}
    for line in (line for card in cards for line in card):
        first.setdefault((line.aspect, line.metric), line)
    out = []
    for key, line in first.items():
        v = values.get(key)
        if v:
            line = replace(line, value=float(np.median(v)), seed_range=(min(v), max(v)))
        out.append(line)
    return out


def _generated(profile: Profile, like: Rows, seed: int) -> Trace:
    """A trace of a profile as long as ``like``, in the temporary store."""
    if like.span_ns > 0:
        plan = generator.plan(profile, duration_ns=like.span_ns, seed=seed)
    else:
        plan = generator.plan(profile, rows=max(1, len(like)), seed=seed)
    name = f"{profile.name} seed {seed}"
    return workloads.temporary(name, plan)

"""Held-out evaluation: fit on the first half of a real trace, judge on the second.

A generator that is judged on what it was fitted to can win by copying. Here every generator sees the first half of
the time and is held against the second, which none has seen. What can be asked of it is the distance of the two real
halves from each other (``halves``) and of block bootstraps of the first half from the second: the larger of both is
the ``floor`` of a line.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl

from .. import generator, workloads
from ..aspects.lengths import Lengths, Margin
from ..aspects.rows import Rows
from ..characterization import characterize
from ..distributions import Grid
from ..errors import UsageError
from ..profile import Part, Profile, Stream
from ..units import short
from . import baselines
from .distances import distances, trace_distances
from .floors import by_key
from .resampling import columns_of, of_rows

if TYPE_CHECKING:
    from ..store import Trace

TRACES = {
    "azure-code": "llm/AzureLLMInferenceTrace_code.csv",
    "mooncake-conversation": "llm/mooncake_conversation_trace.jsonl",
    "burstgpt-400-rows": "llm/BurstGPT_1.head400.csv",
    "vllm-qwen3-32b-rtxpro6000": "llm/vllm_bench_rtxpro6000_Qwen3-32B.requests.jsonl",
    "azure-functions-2021": "serverless/azure-functions-2021/AzureFunctionsInvocationTrace2021_head500.csv",
    "philly-jobs": "failures/philly/philly_jobs_clusters_a.csv",
}
"""real traces of the evaluation, by the folder that LAMINA_TRACES_REAL_DATA names. Of the last two, which are no requests,
the arrivals alone are generated and judged."""
OURS = "ours"
SEEDS = 21
CONTEST = (OURS, *baselines.MAKING)
"""who may win a line: the generators that copy no row."""
NEAR = 1.5
"""times the floor that ours is meant to stay within."""


@dataclass(frozen=True)
class Row:
    """One line of a held-out table. ``scores``: values over the seeds by generator, empty where it makes nothing that the
    line could judge. ``halves``: distance of the real halves. ``in_sample``: median distance of block bootstraps of the
    second half from itself, which no gate uses."""

    aspect: str
    metric: str
    unit: str
    scores: Mapping[str, tuple[float, ...]]
    halves: float
    in_sample: float | None

    @property
    def name(self) -> str:
        return f"{self.aspect}: {self.metric}"

    def median(self, who: str) -> float | None:
        """Over the seeds."""
        return float(np.median(self.scores[who])) if self.scores.get(who) else None

    @property
    def floor(self) -> float:
        """The larger of the distance of the halves and of block bootstraps of the first half from the second."""
        return max(self.halves, self.median("block bootstrap") or 0.0)

    @property
    def ratio(self) -> float | None:
        """Ours over the floor; None where the floor is 0."""
        ours = self.median(OURS)
        return None if ours is None or self.floor <= 0 else ours / self.floor

    @property
    def winner(self) -> str | None:
        """Who of CONTEST has the smallest median."""
        medians = {k: m for k in CONTEST if (m := self.median(k)) is not None}
        return min(medians, key=lambda k: medians[k]) if medians else None

    @property
    def tied(self) -> bool:
        """Whether a quarter of our seeds or more are as near as the winner's median: chance may have decided."""
        ours, best = self.scores.get(OURS), self.median(self.winner or OURS)
        return bool(ours) and best is not None and float(np.mean(np.array(ours) <= best)) >= 0.25

    @property
    def near(self) -> bool:
        """Whether ours is within NEAR floors."""
        ours = self.median(OURS)
        return ours is not None and ours <= NEAR * self.floor

    def to_dict(self) -> dict[str, Any]:
        return {
            "aspect": self.aspect, "metric": self.metric, "unit": self.unit, "halves": short(self.halves, 4),
            "in_sample": None if self.in_sample is None else short(self.in_sample, 4),
            "scores": {k: [short(x, 4) for x in v] for k, v in self.scores.items()},
        }  # fmt: skip

    @classmethod
    def from_dict(cls, d: Mapping[str, Any]) -> Row:
        scores = {k: tuple(v) for k, v in d["scores"].items()}
        return cls(d["aspect"], d["metric"], d["unit"], scores, d["halves"], d["in_sample"])


@dataclass(frozen=True)
class Evaluation:
    """``rows``: lines that could be judged; ``left_out``: those that could not, with why. ``fitted``, ``judged``: rows of
    the halves of ``half_s`` seconds."""

    name: str
    fitted: int
    judged: int
    half_s: float
    seeds: int
    rows: tuple[Row, ...]
    left_out: Mapping[str, str]

    @property
    def won(self) -> tuple[Row, ...]:
        """Lines on which ours has the smallest median."""
        return tuple(r for r in self.rows if r.winner == OURS)

    @property
    def lost(self) -> tuple[Row, ...]:
        """Lines on which it has not."""
        return tuple(r for r in self.rows if r.winner != OURS)

    @property
    def near(self) -> tuple[Row, ...]:
        """Lines on which ours is within NEAR floors."""
        return tuple(r for r in self.rows if r.near)

    def to_dict(self) -> dict[str, Any]:
        return {
            "name": self.name, "fitted": self.fitted, "judged": self.judged, "half_s": self.half_s, "seeds": self.seeds,
            "rows": [r.to_dict() for r in self.rows], "left_out": dict(self.left_out),
        }  # fmt: skip

    @classmethod
    def from_dict(cls, d: Mapping[str, Any]) -> Evaluation:
        rows = tuple(map(Row.from_dict, d["rows"]))
        return cls(
            d["name"], d["fitted"], d["judged"], d["half_s"], d["seeds"], rows, d["left_out"]
        )


def evaluate(trace: Trace, name: str, seeds: int = SEEDS) -> Evaluation:
    """Fit on the first half of the time, generate the length of the second, judge against the second."""
    first, second = Rows.of(trace).halves()
    start = trace.manifest.arrival_first_ns or 0
    middle = start + first.span_ns
    fitted, held = trace.select(start_ns=start, end_ns=middle), trace.select(start_ns=middle)
    profile = _of_requests(characterize(fitted), trace.main_table)
    made = {OURS: [_ours(profile, second, s) for s in range(seeds)]}
    for label, make in {**baselines.MAKING, **baselines.COPYING}.items():
        made[label] = [make(first, second.span_ns, _rng(s)) for s in range(seeds)]
    again = [baselines.block_bootstrap(second, second.span_ns, _rng(s)) for s in range(seeds)]
    cards = {k: [distances(second, r) for r in v] for k, v in made.items()}
    own = [distances(second, r) for r in again]
    real = distances(second, first)
    whole = trace_distances(held, fitted) if trace.main_table == "llm_requests" else []
    if any(line.limit is not None and line.value is not None for line in whole):
        # what needs whole traces: ours as it is stored, copies with the columns that they copied
        frame = columns_of(trace)
        for k, stored in _stored(profile, second, frame, made, seeds):
            cards[k].append(trace_distances(held, stored))
        own += [trace_distances(held, of_rows(frame, r)) for r in again]
    values, bounds = {k: by_key(v) for k, v in cards.items()}, by_key(own)
    rows, left_out = [], {}
    for line in [*real, *(x for x in whole if x.limit is not None)]:
        key = line.aspect, line.metric
        if line.value is None:
            left_out[f"{line.aspect}: {line.metric}"] = line.note
            continue
        scores = {k: v.get(key, ()) for k, v in values.items()}
        in_sample = float(np.median(bounds[key])) if key in bounds else None
        rows.append(Row(*key, line.unit, scores, line.value, in_sample))
    return Evaluation(name, len(first), len(second), first.span_s, seeds, tuple(rows), left_out)


def _stored(
    profile: Profile,
    like: Rows,
    frame: pl.DataFrame,
    made: Mapping[str, Sequence[Rows]],
    seeds: int,
) -> Iterator[tuple[str, Trace]]:
    """(generator, a trace of its) of those generators that make more than arrivals and lengths."""
    for seed in range(seeds):
        plan = generator.plan(profile, duration_ns=like.span_ns, seed=seed)
        name = f"{profile.name} seed {seed}"
        yield OURS, workloads.temporary(name, plan)
    for k in baselines.COPYING:
        for rows in made[k]:
            yield k, of_rows(frame, rows)


def _rng(seed: int) -> np.random.Generator:
    return np.random.default_rng(seed)


def _ours(profile: Profile, like: Rows, seed: int) -> Rows:
    frames = list(generator.generate(profile, duration_ns=like.span_ns, seed=seed))
    return replace(Rows.of_frame(pl.concat(frames), like.span_ns), table=like.table)


def _of_requests(profile: Profile, table: str) -> Profile:
    """The profile itself, or the arrivals of another table as those of requests of one token."""
    if table == "llm_requests":
        return profile
    one = Margin(Grid(np.array([1.0, 1.0]), 1.0, 100), 1.0, {}, ())
    lengths = Lengths(one, one, 100, 0.0, 0.0, np.ones((1, 1)))
    aspects: dict[str, Any] = {"arrivals": profile.aspect("arrivals", table), "lengths": lengths}
    part = Part("llm_requests", (Stream("all", 1.0, {}, aspects),))
    return replace(profile, parts={"llm_requests": part})


def opened(name: str) -> Trace:
    """A trace of TRACES by name, or any trace or file. Raises UsageError where the folder is not named."""
    if name not in TRACES:
        return workloads.trace(name)
    folder = os.environ.get("LAMINA_TRACES_REAL_DATA")
    if not folder:
        raise UsageError(
            "the real traces are not at hand", "set LAMINA_TRACES_REAL_DATA to their folder"
        )
    return workloads.trace(str(Path(folder) / TRACES[name]))


def main(argv: Sequence[str] | None = None) -> None:
    """Print the held-out tables of traces (default: all of TRACES)."""
    from . import heldout_page

    parser = argparse.ArgumentParser(prog="python -m lamina_traces.fidelity.heldout")
    parser.add_argument("traces", nargs="*", metavar="TRACE", default=list(TRACES))
    parser.add_argument("--seeds", type=int, default=SEEDS)
    parser.add_argument("--page", type=Path, help="write this page, and its figures beside it")
    asked = parser.parse_args(argv)
    done = []
    for name in asked.traces:
        sys.stderr.write(f"{name}\n")
        done.append(evaluate(opened(name), name, asked.seeds))
    if asked.page is None:
        sys.stdout.write("\n\n".join(map(heldout_page.table, done)) + "\n")
        return
    figures = {
        "generator_version": generator.GENERATOR_VERSION,
        "evaluations": [e.to_dict() for e in done],
    }
    asked.page.with_suffix(".json").write_text(
        json.dumps(figures, indent=1, ensure_ascii=False) + "\n", encoding="utf-8"
    )
    asked.page.write_text(heldout_page.page(figures), encoding="utf-8")


if __name__ == "__main__":
    main()

"""Held-out evaluation: fit on the first half of a real trace, judge on the second.

A generator that is judged on what it was fitted to can win by copying. Here every generator sees the first half of
the time and is held against the second, which none has seen. What can be asked of it is the distance of the two real
halves from each other (``halves``) and of block bootstraps of the first half from the second: the larger of both is
the ``floor`` of a line.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import polars as pl

from .. import generator, workloads
from ..aspects import Line
from ..aspects.rows import Rows
from ..characterization import characterize
from ..errors import UsageError
from . import baselines
from .distances import distances

if TYPE_CHECKING:
    from ..profile import Profile
    from ..store import Trace

TRACES = {
    "azure-code": "llm/AzureLLMInferenceTrace_code.csv",
    "mooncake-conversation": "llm/mooncake_conversation_trace.jsonl",
    "burstgpt-400-rows": "llm/BurstGPT_1.head400.csv",
    "vllm-qwen3-32b-rtxpro6000": "llm/vllm_bench_rtxpro6000_Qwen3-32B.requests.jsonl",
}
"""real traces of the evaluation, by the folder that LAMINA_TRACES_REAL_DATA names."""
OURS = "ours"
SEEDS = 7
CONTEST = (OURS, *baselines.MAKING)
"""who may win a line: the generators that copy no row."""


@dataclass(frozen=True)
class Score:
    """Values of one line over the seeds of one generator; none where the line cannot be computed."""

    values: tuple[float, ...]

    @property
    def median(self) -> float | None:
        return float(np.median(self.values)) if self.values else None


@dataclass(frozen=True)
class Row:
    """One line of a held-out table: ``scores`` by generator, ``halves`` the distance of the real halves, ``in_sample``
    that of block bootstraps of the second half from the second half itself."""

    line: Line
    scores: dict[str, Score]
    halves: float
    in_sample: float

    @property
    def floor(self) -> float:
        """The larger of the distance of the halves and of block bootstraps of the first half from the second."""
        return max(self.halves, self.scores["block bootstrap"].median or 0.0)

    @property
    def ratio(self) -> float | None:
        """Ours over the floor; None where the floor is 0."""
        ours = self.scores[OURS].median
        return None if ours is None or self.floor <= 0 else ours / self.floor

    @property
    def winner(self) -> str:
        """Who of CONTEST has the smallest median."""
        medians = {k: m for k in CONTEST if (m := self.scores[k].median) is not None}
        return min(medians, key=lambda k: medians[k])


@dataclass(frozen=True)
class Evaluation:
    """``rows``: lines that could be judged; ``left_out``: those that could not, with why."""

    name: str
    first: Rows
    second: Rows
    seeds: int
    rows: tuple[Row, ...]
    left_out: tuple[Line, ...]

    @property
    def won(self) -> int:
        return sum(r.winner == OURS for r in self.rows)

    @property
    def within(self) -> int:
        """Lines on which ours is within 1.5 times the floor."""
        return sum(r.ratio is not None and r.ratio <= 1.5 for r in self.rows)


def evaluate(trace: Trace, name: str, seeds: int = SEEDS) -> Evaluation:
    """Fit on the first half of the time, generate the length of the second, judge against the second."""
    whole = Rows.of(trace)
    first, second = whole.halves()
    start = trace.manifest.arrival_first_ns or 0
    profile = characterize(trace.select(start_ns=start, end_ns=start + first.span_ns))
    makers: dict[str, Callable[[int], Rows]] = {OURS: lambda s: _ours(profile, second.span_ns, s)}
    for label, make in {**baselines.MAKING, **baselines.COPYING}.items():
        makers[label] = lambda s, make=make: make(first, second.span_ns, np.random.default_rng(s))  # type: ignore[misc]
    real = distances(second, first)
    drawn = {k: [distances(second, make(s)) for s in range(seeds)] for k, make in makers.items()}
    own = [
        distances(second, baselines.block_bootstrap(second, second.span_ns, np.random.default_rng(s)))
        for s in range(seeds)
    ]  # fmt: skip
    rows, left_out = [], []
    for i, line in enumerate(real):
        if line.value is None:
            left_out.append(line)
            continue
        scores = {k: Score(_values(v, i)) for k, v in drawn.items()}
        rows.append(Row(line, scores, line.value, float(np.median(_values(own, i)))))
    return Evaluation(name, first, second, seeds, tuple(rows), tuple(left_out))


def _values(drawn: Sequence[Sequence[Line]], i: int) -> tuple[float, ...]:
    return tuple(v for lines in drawn if (v := lines[i].value) is not None)


def _ours(profile: Profile, span_ns: int, seed: int) -> Rows:
    frames = list(generator.generate(profile, duration_ns=span_ns, seed=seed))
    return Rows.of_frame(pl.concat(frames), span_ns)


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
    parser.add_argument("--page", type=Path, help="write the tables into this page")
    asked = parser.parse_args(argv)
    done = [evaluate(opened(name), name, asked.seeds) for name in asked.traces]
    if asked.page is None:
        sys.stdout.write("\n\n".join(map(heldout_page.table, done)) + "\n")
    else:
        text = heldout_page.page(done, asked.page.read_text(encoding="utf-8"))
        asked.page.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()

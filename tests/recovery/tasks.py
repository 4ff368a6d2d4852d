"""Agent workflows made up from laws that are known, as rows of ``llm_requests``."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import polars as pl


@dataclass(frozen=True)
class Tasks:
    """``count`` workflows begin evenly over ``span_s``; a share ``chains`` are chains of a geometric number of calls
    (``p``), the others call once, then ``fan`` times at once, then once. Calls last ``service_s`` on average
    (exponential); a call follows the last of those it waits for after a lognormal delay."""

    count: int = 600
    span_s: float = 4000.0
    chains: float = 0.6
    p: float = 0.3
    fan: int = 3
    service_s: float = 2.0
    mu: float = 0.5
    sigma: float = 0.8

    @property
    def mean_calls(self) -> float:
        return self.chains / self.p + (1 - self.chains) * (self.fan + 2)


def rows(tasks: Tasks, rng: np.random.Generator, *, edges: bool = True) -> pl.DataFrame:
    """In order of arrival; ``depends_on`` names rows by their place in that order. Without ``edges`` it is null."""
    names: list[int] = []
    stages: list[str] = []
    arrival: list[float] = []
    end: list[float] = []
    parents: list[list[int]] = []

    def call(workflow: int, stage: str, after: list[int], begin: float) -> int:
        if after:
            begin = max(end[i] for i in after) + rng.lognormal(tasks.mu, tasks.sigma)
        names.append(workflow)
        stages.append(stage)
        arrival.append(begin)
        end.append(begin + rng.exponential(tasks.service_s))
        parents.append(after)
        return len(names) - 1

    for w in range(tasks.count):
        begin = (w + rng.random()) * tasks.span_s / tasks.count
        first = call(w, "plan", [], begin)
        if rng.random() < tasks.chains:
            for _ in range(int(rng.geometric(tasks.p)) - 1):
                first = call(w, "step", [first], 0.0)
        else:
            middle = [call(w, "search", [first], 0.0) for _ in range(tasks.fan)]
            call(w, "answer", middle, 0.0)
    order = np.argsort(arrival, kind="stable")
    row = np.empty(len(order), dtype=np.int64)
    row[order] = np.arange(len(order))
    frame = pl.DataFrame(
        {
            "arrival_ns": np.round(np.array(arrival) * 1e9).astype(np.int64),
            "last_token_ns": np.round(np.array(end) * 1e9).astype(np.int64),
            "workflow_id": [f"w{i}" for i in names],
            "stage": stages,
            "input_tokens": np.full(len(names), 100, dtype=np.int32),
            "output_tokens": np.full(len(names), 10, dtype=np.int32),
            "status": ["ok"] * len(names),
        }
    )
    if edges:
        links = [[int(row[i]) for i in p] for p in parents]
        frame = frame.with_columns(pl.Series("depends_on", links, dtype=pl.List(pl.Int64)))
    return frame[order]

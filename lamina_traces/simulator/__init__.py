"""The clocks: what happens when a workload meets a spec. ``serving.py`` defines the serving clock."""

from __future__ import annotations

from .metrics import Metrics, Verdict, by_group, judge
from .result import ERROR_CODE, STATUS, Result, simulate
from .simulation import RANKS, ROUTES, Engine, Finished, Simulation, Windows, chunks, run, warm_up
from .slo import Limit, Slo, parse_slo

__all__ = [
    "ERROR_CODE",
    "RANKS",
    "ROUTES",
    "STATUS",
    "Engine",
    "Finished",
    "Limit",
    "Metrics",
    "Result",
    "Simulation",
    "Slo",
    "Verdict",
    "Windows",
    "by_group",
    "chunks",
    "judge",
    "parse_slo",
    "run",
    "simulate",
    "warm_up",
]

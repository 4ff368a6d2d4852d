"""Conversations made up from laws that are known, as rows of ``llm_requests``."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import polars as pl


@dataclass(frozen=True)
class World:
    """Sessions begin as a Poisson process of ``rate_per_s``; turns are geometric with ``p``; think times are lognormal,
    services exponential with the mean ``service_s``; every prompt holds prompt and answer before it. The trace sees
    ``span_s`` of it, after a ``past_s`` that it does not see."""

    rate_per_s: float = 1.0
    span_s: float = 3600.0
    past_s: float = 0.0
    p: float = 0.3
    mu: float = 2.0
    sigma: float = 1.0
    service_s: float = 3.0


def rows(world: World, rng: np.random.Generator, *, ends: bool = True) -> pl.DataFrame:
    """In order of arrival; what arrives before or behind the span is cut off."""
    n = int(rng.poisson(world.rate_per_s * (world.past_s + world.span_s)))
    turns = rng.geometric(world.p, n)
    session = np.repeat(np.arange(n), turns)
    place = np.arange(len(session)) - np.repeat(np.cumsum(turns) - turns, turns)
    service = rng.exponential(world.service_s, len(session))
    think = np.where(place > 0, rng.lognormal(world.mu, world.sigma, len(session)), 0.0)
    new, out = rng.integers(5, 200, len(session)), rng.integers(5, 300, len(session))

    def so_far(step: np.ndarray) -> np.ndarray:
        """Running sums within each session."""
        total = np.cumsum(step)
        out: np.ndarray = total - np.repeat((total - step)[place == 0], turns)
        return out

    before = np.where(place > 0, np.roll(service, 1), 0.0)
    start = np.repeat(rng.uniform(-world.past_s, world.span_s, n), turns)
    arrival = start + so_far(think + before)
    answered = np.where(place > 0, np.roll(out, 1), 0)
    frame = pl.DataFrame(
        {
            "arrival_ns": np.round(arrival * 1e9).astype(np.int64),
            "session_id": [f"s{i}" for i in session],
            "input_tokens": so_far(new + answered).astype(np.int32),
            "output_tokens": out.astype(np.int32),
            "status": ["ok"] * len(session),
        }
    )
    if ends:
        last = np.round((arrival + service) * 1e9).astype(np.int64)
        frame = frame.with_columns(last_token_ns=pl.Series(last))
    return frame.filter(pl.Series((arrival >= 0) & (arrival < world.span_s))).sort("arrival_ns")

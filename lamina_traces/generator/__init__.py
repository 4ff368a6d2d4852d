"""The generator: Profile → each aspect's sample → canonical rows, in blocks.

The rows are a pure function of (profile, seed, options, generator version): the same rows in the same order whatever
the chunk, the number of threads or the sharding. Time is cut into blocks of equal length. A ``Maker`` of each table
walks the blocks in order and hands on what crosses a border; what only one block needs is drawn from counter-based
streams that are keyed by their purpose and block, in any thread, or not at all where a shard does not hold it.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import polars as pl

from ..errors import ModelError, UsageError
from ..profile import Profile
from ..units import NS_PER_S, Rate
from .hashing import frame_hash, row_hash
from .plan import Place, Plan, Shard, count, frames, profile_sha256, start, walk
from .randomness import GENERATOR_VERSION
from .requests import RequestMaker, with_poisson

__all__ = [
    "GENERATOR_VERSION", "Place", "Plan", "Shard", "count", "frame_hash", "frames", "generate", "plan", "profile_sha256",
    "row_hash", "start", "walk", "with_poisson",
]  # fmt: skip

MAX_RATE_PER_S = 1e9


def plan(
    profile: Profile,
    *,
    duration_ns: int | None = None,
    rows: int | None = None,
    rate: Rate | None = None,
    seed: int = 0,
    replay: bool = False,
) -> Plan:
    """What to generate. Give ``duration_ns`` or ``rows`` (default: the source's own span).

    ``rate``: ``x2``, or ``12/s`` as the expected mean of all streams together over ``duration_ns`` (without it, over the
    long run). ``replay``: the source's own course of the rate, again and again, instead of new days. Raises ModelError
    where the profile has no arrivals or lengths, UsageError where what is asked for cannot be.
    """
    part = profile.part("llm_requests")
    if profile.source.get("relative") and (rate is None or rate.per_s is None):
        raise UsageError(
            f"profile {profile.name!r} tells rates as multiples of a mean that it does not tell",
            "say which: --rate 12/s",
        )
    if rows is not None and rows <= 0:
        raise UsageError(f"-n {rows} asks for no rows", "give a positive number of rows")
    own = RequestMaker(profile, part, seed, replay=replay)
    mean = own.rate_per_s
    if rate and rate.per_s is not None and duration_ns is not None:
        # a rate asked for holds over the time asked for
        mean = own.expected_rows(duration_ns) / (duration_ns / NS_PER_S)
        if mean <= 0:
            raise ModelError(
                f"the first {duration_ns / NS_PER_S:g} s of profile {profile.name!r} are silent",
                "raise --duration, or scale with --rate x2",
            )
    target = rate.resolve(mean) if rate else mean
    if not (math.isfinite(target) and 0 < target <= MAX_RATE_PER_S):
        raise ModelError(
            f"a rate of {target:g} per second cannot be generated",
            f"rates go up to {MAX_RATE_PER_S:g}/s",
        )
    factor = target / mean
    maker = own if factor == 1.0 else RequestMaker(profile, part, seed, factor=factor, replay=replay)  # fmt: skip
    if duration_ns is None and rows is None:
        duration_ns = round(max(s.span_s for s in own.laws) * NS_PER_S)
    return Plan(profile, maker, seed, duration_ns, rows, factor)


def generate(
    profile: Profile,
    *,
    duration_ns: int | None = None,
    rows: int | None = None,
    rate: Rate | None = None,
    seed: int = 0,
    replay: bool = False,
    shard: Shard | None = None,
    threads: int = 1,
) -> Iterator[pl.DataFrame]:
    """Stream canonical ``llm_requests`` frames, sorted by arrival: one per block that has rows, or one empty frame.

    See ``plan`` for the arguments. Memory is bounded by ``threads`` + 1 blocks.
    """
    asked = plan(profile, duration_ns=duration_ns, rows=rows, rate=rate, seed=seed, replay=replay)
    yield from frames(asked, shard=shard, threads=threads)

"""The generator: Profile → each aspect's sample → canonical rows, in blocks.

The rows are a pure function of (profile, seed, options, generator version): the same rows in the same order whatever
the chunk, the number of threads or the sharding. Time is cut into blocks of equal length. A ``Maker`` of each table
walks the blocks in order and hands on what crosses a border; what only one block needs is drawn from counter-based
streams that are keyed by their purpose and block, in any thread, or not at all where a shard does not hold it.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import polars as pl

from ..errors import ModelError, UnknownName, UsageError
from ..profile import Profile
from ..units import NS_PER_S, Rate
from . import knobs
from .hashing import frame_hash, row_hash
from .plan import Place, Plan, Shard, count, frames, profile_sha256, start, walk
from .randomness import GENERATOR_VERSION
from .requests import RequestMaker

__all__ = [
    "GENERATOR_VERSION", "Options", "Place", "Plan", "Shard", "count", "frame_hash", "frames", "generate", "plan", "profile_sha256",
    "row_hash", "start", "walk",
]  # fmt: skip

MAX_RATE_PER_S = 1e9


@dataclass(frozen=True)
class Options:
    """How arrivals are made, where not as fitted; each changes one thing.

    ``replay``: the source's own course of the rate, again and again, instead of new days. ``scale_by``: what more requests
    mean: "rate" makes each stream busier, "time" plays everything faster, "clients" superposes copies of each stream.
    ``arrivals``: a law of gaps at a steady rate (see ``knobs.arrivals_law``). ``idc_scale``: multiplies IDC(w) − 1 at
    every window. ``without``: aspects that are not generated. ``knobs``: as ``lengths.input=x2``.
    """

    replay: bool = False
    scale_by: str = "rate"
    arrivals: str | None = None
    idc_scale: float | None = None
    without: frozenset[str] = frozenset()
    knobs: tuple[str, ...] = ()

    def told(self) -> tuple[tuple[str, str], ...]:
        """What differs from the defaults, in words."""
        out = {
            "replay_rate": "yes" if self.replay else "",
            "scale_by": self.scale_by if self.scale_by != "rate" else "",
            "arrivals": self.arrivals or "",
            "idc_scale": "" if self.idc_scale is None else f"{self.idc_scale:g}",
            "without": ",".join(sorted(self.without)),
            "knobs": ",".join(self.knobs),
        }
        return tuple((k, v) for k, v in out.items() if v)

    def apply(self, profile: Profile, rate_per_s: float | None) -> Profile:
        """The profile as it generates. Raises UsageError, ModelError."""
        if self.scale_by not in SCALE_BY:
            raise UnknownName("meaning of a higher rate", self.scale_by, SCALE_BY)
        if self.arrivals is not None:
            if self.idc_scale is not None:
                raise UsageError(
                    "--arrivals states a law, --idc-scale changes the fitted one",
                    "give one of them",
                )
            profile = knobs.with_arrivals(profile, knobs.arrivals_law(self.arrivals), rate_per_s)
        if self.idc_scale is not None:
            if self.replay:
                raise UsageError(
                    "--replay-rate plays the source's own course, whose dispersion is what it is",
                    "leave --idc-scale out",
                )
            profile = knobs.with_idc(profile, self.idc_scale)
        if self.without:
            profile = knobs.without(profile, self.without)
        for text in self.knobs:
            profile = knobs.turned(profile, text)
        return profile


SCALE_BY = ("rate", "time", "clients")


def plan(
    profile: Profile,
    *,
    duration_ns: int | None = None,
    rows: int | None = None,
    rate: Rate | None = None,
    seed: int = 0,
    options: Options = Options(),
) -> Plan:
    """What to generate. Give ``duration_ns`` or ``rows`` (default: the source's own span).

    ``rate``: ``x2``, or ``12/s`` as the expected mean of all streams together over ``duration_ns`` (without it, over the
    long run). Raises ModelError where the profile has no arrivals or lengths, UsageError where what is asked for cannot be.
    """
    if profile.source.get("relative") and (rate is None or rate.per_s is None):
        raise UsageError(
            f"profile {profile.name!r} tells rates as multiples of a mean that it does not tell",
            "say which: --rate 12/s",
        )
    if rows is not None and rows <= 0:
        raise UsageError(f"-n {rows} asks for no rows", "give a positive number of rows")
    law = options.apply(profile, rate.per_s if rate else None)
    part = law.part("llm_requests")
    own = RequestMaker(law, part, seed, replay=options.replay)
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
    maker = own
    if factor != 1.0:
        maker = RequestMaker(law, part, seed, factor=factor, scale_by=options.scale_by, replay=options.replay)  # fmt: skip
    if duration_ns is None and rows is None:
        duration_ns = round(maker.span_s * NS_PER_S)
    return Plan(profile, maker, seed, duration_ns, rows, factor, options.told())


def generate(
    profile: Profile,
    *,
    duration_ns: int | None = None,
    rows: int | None = None,
    rate: Rate | None = None,
    seed: int = 0,
    options: Options = Options(),
    shard: Shard | None = None,
    threads: int = 1,
) -> Iterator[pl.DataFrame]:
    """Stream canonical ``llm_requests`` frames, sorted by arrival: one per block that has rows, or one empty frame.

    See ``plan`` for the arguments. Memory is bounded by ``threads`` + 1 blocks.
    """
    asked = plan(profile, duration_ns=duration_ns, rows=rows, rate=rate, seed=seed, options=options)
    yield from frames(asked, shard=shard, threads=threads)

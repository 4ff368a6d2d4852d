"""The generator: Profile → each aspect's sample → canonical rows, in blocks.

The rows are a pure function of (profile, seed, options, generator version): the same rows in the same order whatever
the chunk, the number of threads or the sharding. Time is cut into blocks of equal length. A ``Maker`` of each table
walks the blocks in order and hands on what crosses a border; what only one block needs is drawn from counter-based
streams that are keyed by their purpose and block, in any thread, or not at all where a shard does not hold it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

import polars as pl

from ..aspects.arrivals import Arrivals
from ..errors import ModelError, UnknownName, UsageError
from ..profile import Profile
from ..units import NS_PER_S, Rate
from . import knobs
from .burstiness import expected_burstiness, profile_burstiness
from .cold_starts import ColdStartMaker
from .hashing import frame_hash, row_hash
from .invocations import InvocationMaker
from .maker import Maker
from .plan import Place, Plan, Shard, count, frames, profile_sha256, start, walk
from .power import PowerMaker
from .process import MAX_RATE_PER_S, MIN_RATE_PER_S, Process
from .randomness import GENERATOR_VERSION
from .request_stream import law_of
from .requests import RequestMaker

__all__ = [
    "GENERATOR_VERSION", "Options", "Place", "Plan", "Shard", "count", "expected_burstiness", "frame_hash", "frames", "generate", "plan", "profile_burstiness", "profile_sha256",
    "row_hash", "start", "walk",
]  # fmt: skip


@dataclass(frozen=True)
class Options:
    """What is made otherwise than the profile says; each changes one thing.

    ``replay``: the source's own course of the rate, again and again, instead of new days. ``scale_by``: what more requests
    mean: "rate" makes each stream busier, "time" plays everything faster, "clients" superposes copies of each stream.
    ``arrivals``: a law of gaps at a steady rate (see ``knobs.arrivals_law``). ``idc_scale``: multiplies IDC(w) − 1 at
    every window. ``without``: aspects that are not generated. ``knobs``: as ``lengths.input=x2``.
    ``block_tokens``: of prefix blocks, as 16, 64, 512.
    """

    replay: bool = False
    scale_by: str = "rate"
    arrivals: str | None = None
    idc_scale: float | None = None
    without: frozenset[str] = frozenset()
    knobs: tuple[str, ...] = ()
    block_tokens: int | None = None

    def told(self) -> tuple[tuple[str, str], ...]:
        """What differs from the defaults, in words."""
        out = {
            "replay_rate": "yes" if self.replay else "",
            "scale_by": self.scale_by if self.scale_by != "rate" else "",
            "arrivals": self.arrivals or "",
            "idc_scale": "" if self.idc_scale is None else f"{self.idc_scale:g}",
            "without": ",".join(sorted(self.without)),
            "knobs": ",".join(self.knobs),
            "block_tokens": "" if self.block_tokens is None else str(self.block_tokens),
        }
        return tuple((k, v) for k, v in out.items() if v)

    def apply(self, profile: Profile, rate_per_s: float | None, table: str) -> Profile:
        """The profile as it generates ``table``. Raises UsageError, ModelError."""
        odd = [k for k, _ in self.told() if k not in ("arrivals", "without")]
        if table != "llm_requests" and odd:
            raise UsageError(
                f"{odd[0].replace('_', ' ')} is of requests, and profile {profile.name!r} makes {table}",
                "leave it out",
            )
        if self.scale_by not in SCALE_BY:
            raise UnknownName("meaning of a higher rate", self.scale_by, SCALE_BY)
        if self.arrivals is not None:
            if self.idc_scale is not None:
                raise UsageError(
                    "--arrivals states a law, --idc-scale changes the fitted one",
                    "give one of them",
                )
            if self.replay:
                raise UsageError(
                    "--replay-rate plays the source's own course, --arrivals a steady one",
                    "give one of them",
                )
            if table not in ("llm_requests", "cold_starts"):
                raise UsageError(f"{table} come by laws of their own", "leave --arrivals out")
            profile = knobs.with_arrivals(
                profile, knobs.arrivals_law(self.arrivals), rate_per_s, table
            )
        if self.idc_scale is not None:
            if self.replay:
                raise UsageError(
                    "--replay-rate plays the source's own course, whose dispersion is what it is",
                    "leave --idc-scale out",
                )
            profile = knobs.with_idc(profile, self.idc_scale)
        if self.block_tokens is not None and not 1 <= self.block_tokens <= 1 << 20:
            raise UsageError(
                f"blocks of {self.block_tokens} tokens cannot be", "give 16, 64, 512 or the like"
            )
        if self.without:
            profile = knobs.without(profile, self.without, table)
        for text in self.knobs:
            profile = knobs.turned(profile, text)
        if self.block_tokens is not None and not any(
            "prefixes" in s.aspects for s in profile.part(table).streams
        ):
            raise UsageError(
                f"--block-tokens cuts prefix blocks, and profile {profile.name!r} makes none",
                "leave it out, or see what the profile has: lamina-traces show PROFILE",
            )
        return profile


SCALE_BY = ("rate", "time", "clients")
DEFAULTS = Options()


_OTHERS: Mapping[str, Callable[..., Maker]] = {
    "invocations": InvocationMaker,
    "invocation_counts": InvocationMaker,
    "cold_starts": ColdStartMaker,
    "power_samples": PowerMaker,
}
"""makers of other tables, by the part that they are made from."""
ASSUMED_SPAN_S = 3600.0
"""where neither the profile nor the user says how long."""


def table_of(profile: Profile) -> str:
    """The part that generates. Raises ModelError where none does."""
    for table in ("llm_requests", *_OTHERS):
        if table in profile.parts:
            return table
    raise ModelError(
        f"profile {profile.name!r} describes {', '.join(profile.parts) or 'nothing'}: no rows can be made from that",
        f"what generates: llm_requests, {', '.join(_OTHERS)}",
    )


def plan(
    profile: Profile,
    *,
    duration_ns: int | None = None,
    rows: int | None = None,
    rate: Rate | None = None,
    seed: int = 0,
    options: Options = DEFAULTS,
) -> Plan:
    """What to generate. Give ``duration_ns`` or ``rows`` (default: the source's own span).

    ``rate``: ``x2``, or ``12/s`` as the expected mean of all streams together over ``duration_ns`` (without it, over the
    long run). Raises ModelError where the profile has not what the rows need, UsageError where what is asked for
    cannot be.
    """
    table = table_of(profile)
    if profile.source.get("relative") and (rate is None or rate.per_s is None):
        raise UsageError(
            f"profile {profile.name!r} tells rates as multiples of a mean that it does not tell",
            "say which: --rate 12/s",
        )
    if rows is not None and rows <= 0:
        raise UsageError(f"-n {rows} asks for no rows", "give a positive number of rows")
    if options.scale_by in SCALE_BY[1:] and (rate is None or (options.arrivals and rate.per_s)):
        why = "no --rate is given" if rate is None else f"--arrivals makes {rate} without a factor"
        raise UsageError(
            f"--scale-by {options.scale_by} says what another rate means, and {why}",
            "give a factor, as in --rate x2, or leave --scale-by out",
        )
    law = options.apply(profile, rate.per_s if rate else None, table)
    span_s = max(float(profile.source.get("span_s") or ASSUMED_SPAN_S), 1 / NS_PER_S)
    maker: Maker
    if table == "llm_requests":
        factor = _factor(law, rate, duration_ns, seed, options)
        made = RequestMaker(
            law, law.part(table), seed, factor=factor, scale_by=options.scale_by, replay=options.replay,
            block_tokens=options.block_tokens,
        )  # fmt: skip
        maker, span_s = made, made.span_s
    else:
        maker = _OTHERS[table](law.part(table), seed)
        over_ns = duration_ns or round(span_s * NS_PER_S)
        own = maker.expected_rows(over_ns) / (over_ns / NS_PER_S)
        factor = _checked(rate.resolve(own) if rate and options.arrivals is None else own) / own
        if factor != 1.0:
            maker = _OTHERS[table](law.part(table), seed, factor=factor)
    if duration_ns is None and rows is None:
        duration_ns = round(span_s * NS_PER_S)
    notices = tuple(n for n in law.notices if n not in profile.notices)
    return Plan(profile, maker, seed, duration_ns, rows, factor, options.told(), notices)


def _factor(
    law: Profile, rate: Rate | None, duration_ns: int | None, seed: int, options: Options
) -> float:
    """What the rates of all streams are multiplied by."""
    streams = law.part("llm_requests").streams
    laws = [law_of(law, s, Arrivals, "arrivals", "arrival times") for s in streams]
    mean = math.fsum(a.rate_per_s for a in laws)
    if rate and rate.per_s is not None and duration_ns is not None:
        # a rate asked for holds over the time asked for
        own = [Process(a, seed, i, replay=options.replay) for i, a in enumerate(laws)]
        mean = math.fsum(p.expected(duration_ns) for p in own) / (duration_ns / NS_PER_S)
        if mean <= 0:
            raise ModelError(
                f"the first {duration_ns / NS_PER_S:g} s of profile {law.name!r} are silent",
                "raise --duration, or scale with --rate x2",
            )
    return _checked(rate.resolve(mean) if rate else mean) / mean


def _checked(rate_per_s: float) -> float:
    if not MIN_RATE_PER_S <= rate_per_s <= MAX_RATE_PER_S:
        raise ModelError(
            f"a rate of {rate_per_s:g} per second cannot be generated",
            f"rates go from {MIN_RATE_PER_S:g}/s, one in {1 / MIN_RATE_PER_S / 86400 / 365:.0f} years, to {MAX_RATE_PER_S:g}/s",
        )
    return rate_per_s


def generate(
    profile: Profile,
    *,
    duration_ns: int | None = None,
    rows: int | None = None,
    rate: Rate | None = None,
    seed: int = 0,
    options: Options = DEFAULTS,
    shard: Shard | None = None,
    threads: int = 1,
) -> Iterator[pl.DataFrame]:
    """Stream canonical frames of the table that the profile describes, sorted by time: one or more per block that has rows, or one empty frame.

    See ``plan`` for the arguments. Memory is bounded by ``threads`` + 1 blocks, or pieces of them where rows hold many ids.
    """
    asked = plan(profile, duration_ns=duration_ns, rows=rows, rate=rate, seed=seed, options=options)
    yield from frames(asked, shard=shard, threads=threads)

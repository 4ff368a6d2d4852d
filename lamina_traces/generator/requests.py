"""The generator: Profile → each aspect's sample → canonical rows, in blocks.

The rows are a pure function of (profile, seed, rate, generator version): the same rows in the same order
whatever the chunk, the number of threads or the sharding. Time is cut into blocks of equal length, a power
of two nanoseconds chosen from the profile so that a mean block holds about ``BLOCK_ROWS`` rows. A cheap
skeleton pass walks every block once, drawing each stream's gaps in operational time as integer ticks, and
keeps only what crosses a border: the residual gap, the row count and the state of the failure chain. The
rows of a block are then drawn from counter-based streams (Philox) keyed by (seed, stream, aspect, block),
so any block can be made alone. Shard i/n is a contiguous run of blocks; shards in order are the whole.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt
import polars as pl

from ..aspects import arrivals as arrivals_aspect
from ..aspects import failures as failures_aspect
from ..aspects import lengths as lengths_aspect
from ..aspects import renewal
from ..aspects.arrivals import Arrivals
from ..aspects.failures import Failures
from ..aspects.lengths import Lengths
from ..errors import ModelError, UsageError
from ..profile import Part, Profile, Stream
from ..units import NS_PER_S, Rate

GENERATOR_VERSION = 1
"""bumped whenever the same profile and seed give other rows."""

BLOCK_ROWS = 16_384
TICK = float(2**20)
"""operational time is counted in 2⁻²⁰ of a mean gap."""

MAX_RATE_PER_S = 1e9
Law = TypeVar("Law")
Ints = npt.NDArray[np.int64]
Array = npt.NDArray[np.float64]

_ASPECT_KEYS = {"arrivals": 1, "lengths": 2, "failures": 3}


@dataclass(frozen=True)
class Shard:
    """Shard ``index`` of ``count``, from 1."""

    index: int = 1
    count: int = 1

    @classmethod
    def parse(cls, text: str) -> Shard:
        """``"2/8"``. Raises UsageError."""
        i, slash, n = text.partition("/")
        if not (slash and i.isdigit() and n.isdigit() and 1 <= int(i) <= int(n)):
            raise UsageError(f"shard {text!r} is not i/n with 1 ≤ i ≤ n", "write it like 2/8")
        return cls(int(i), int(n))


@dataclass(frozen=True)
class Plan:
    """What is generated: streams with their rates, block length and count, and the skeleton.

    ``starts[s, b]``: operational ticks from the start of block b to the first arrival of stream s in it.
    ``counts[s, b]``: its rows in the block. ``states[s, b]``: its failure state before the block.
    """

    profile: Profile
    part: Part
    seed: int
    duration_ns: int
    block_ns: int
    factor: float
    starts: Ints
    counts: Ints
    states: Ints
    row_from: Ints
    """[blocks + 1] rows before each block; the last block may be cut by ``rows``."""
    rows: int

    @property
    def blocks(self) -> int:
        return len(self.row_from) - 1


def plan(
    profile: Profile,
    *,
    duration_ns: int | None = None,
    rows: int | None = None,
    rate: Rate | None = None,
    seed: int = 0,
) -> Plan:
    """Run the skeleton pass. Give ``duration_ns`` or ``rows`` (default: the source's own span).

    ``rate`` scales every stream alike: ``x2``, or ``12/s`` as the expected mean of all streams together over
    ``duration_ns`` (without it, over the source's rate curve). The curve keeps its shape in time and repeats
    after its end. Raises ModelError where the profile has no arrivals or lengths.
    """
    part = profile.part("llm_requests")
    if profile.source.get("relative") and (rate is None or rate.per_s is None):
        raise UsageError(
            f"profile {profile.name!r} tells rates as multiples of a mean that it does not tell",
            "say which: --rate 12/s",
        )
    laws = [_arrivals(profile, s) for s in part.streams]
    own = math.fsum(a.rate_per_s for a in laws)
    if rate and rate.per_s is not None and duration_ns is not None:
        # a rate asked for holds over the time asked for, not over the whole of the source's rate curve
        ticks = math.fsum(_Clock(a, 1.0).ticks_until(duration_ns) for a in laws)
        own = ticks / TICK / (duration_ns / NS_PER_S)
        if own <= 0:
            raise ModelError(
                f"the first {duration_ns / NS_PER_S:g} s of profile {profile.name!r} are silent",
                "raise --duration, or scale with --rate x2",
            )
    target = rate.resolve(own) if rate else own
    if not (math.isfinite(target) and 0 < target <= MAX_RATE_PER_S):
        raise ModelError(
            f"a rate of {target:g} per second cannot be generated",
            f"rates go up to {MAX_RATE_PER_S:g}/s",
        )
    factor = target / own
    if rows is not None and rows <= 0:
        raise UsageError(f"-n {rows} asks for no rows", "give a positive number of rows")
    if duration_ns is None and rows is None:
        duration_ns = round(max(a.span_s for a in laws) * NS_PER_S)
    block_ns = 2 ** int(np.clip(round(math.log2(BLOCK_ROWS / target * NS_PER_S)), 10, 55))
    limit = 2**62 if duration_ns is None else duration_ns

    skeletons = [
        _Skeleton(law, s, seed, i, block_ns, factor)
        for i, (law, s) in enumerate(zip(laws, part.streams, strict=True))
    ]
    starts: list[list[int]] = []
    counts: list[list[int]] = []
    states: list[list[int]] = []
    total = 0
    row_from = [0]
    b = 0
    while b * block_ns < limit and (rows is None or total < rows):
        if (b + 1) * block_ns > 2**62:
            raise ModelError("the trace would span more than a century", "raise --rate or lower -n")
        end = min((b + 1) * block_ns, limit)
        line = [s.advance(b, end) for s in skeletons]
        starts.append([x[0] for x in line])
        counts.append([x[1] for x in line])
        states.append([x[2] for x in line])
        total += sum(counts[-1])
        row_from.append(total if rows is None else min(total, rows))
        b += 1
    if duration_ns is None:
        duration_ns = b * block_ns
    return Plan(
        profile=profile,
        part=part,
        seed=seed,
        duration_ns=duration_ns,
        block_ns=block_ns,
        factor=factor,
        starts=np.array(starts, dtype=np.int64).T,
        counts=np.array(counts, dtype=np.int64).T,
        states=np.array(states, dtype=np.int64).T,
        row_from=np.array(row_from, dtype=np.int64),
        rows=row_from[-1],
    )


def with_poisson(profile: Profile, rate_per_s: float) -> Profile:
    """The profile with Poisson arrivals in place of its own, the rate shared by the weights of its streams."""
    part = profile.part("llm_requests")
    total = math.fsum(s.weight for s in part.streams)
    streams = tuple(
        replace(
            s,
            aspects={
                **s.aspects,
                "arrivals": arrivals_aspect.poisson(rate_per_s * s.weight / total),
            },
        )
        for s in part.streams
    )
    return replace(profile, parts={**profile.parts, "llm_requests": replace(part, streams=streams)})


def generate(
    profile: Profile,
    *,
    duration_ns: int | None = None,
    rows: int | None = None,
    rate: Rate | None = None,
    seed: int = 0,
    shard: Shard | None = None,
    threads: int = 1,
) -> Iterator[pl.DataFrame]:
    """Stream canonical ``llm_requests`` frames, sorted by arrival: one per block that has rows, or one empty frame.

    See ``plan`` for the arguments. Memory is bounded by ``threads`` + 1 blocks.
    """
    yield from frames(
        plan(profile, duration_ns=duration_ns, rows=rows, rate=rate, seed=seed),
        shard=shard,
        threads=threads,
    )


def shard_blocks(p: Plan, shard: Shard | None) -> range:
    """The contiguous run of blocks of a shard."""
    if shard is None:
        return range(p.blocks)
    return range(p.blocks * (shard.index - 1) // shard.count, p.blocks * shard.index // shard.count)


def frames(p: Plan, *, shard: Shard | None = None, threads: int = 1) -> Iterator[pl.DataFrame]:
    """The rows of a plan, block by block; ``threads`` changes the speed and nothing else."""
    wanted = [b for b in shard_blocks(p, shard) if p.row_from[b + 1] > p.row_from[b]]
    if not wanted:  # an empty shard still has its columns
        yield block_frame(p, 0).clear()
        return
    if threads <= 1:
        for b in wanted:
            yield block_frame(p, b)
        return
    with ThreadPoolExecutor(threads) as pool:
        ahead = [pool.submit(block_frame, p, b) for b in wanted[: threads + 1]]
        for i in range(len(wanted)):
            frame = ahead.pop(0).result()
            if i + threads + 1 < len(wanted):
                ahead.append(pool.submit(block_frame, p, wanted[i + threads + 1]))
            yield frame


def block_frame(p: Plan, b: int) -> pl.DataFrame:
    """The rows of one block."""
    columns: list[tuple[Ints, Ints, Ints, Ints, Ints]] = []
    kinds: list[str] = ["unknown"]
    for s, stream in enumerate(p.part.streams):
        n = int(p.counts[s, b])
        law = _arrivals(p.profile, stream)
        clock = _Clock(law, p.factor)
        at = _op_times(law, p.seed, s, b, int(p.starts[s, b]), n)
        arrival = clock.wall_ns(at, b * p.block_ns, min((b + 1) * p.block_ns, p.duration_ns))
        lengths = _law(p.profile, stream, Lengths, lengths_aspect.NAME)
        inputs, outputs = lengths_aspect.sample(lengths, _rng(p.seed, s, "lengths", b), n)
        status, without = _statuses(
            stream.aspects.get("failures"), p.seed, s, b, int(p.states[s, b]), n, kinds
        )
        inputs[without] = -1
        outputs[without] = 0
        columns.append((arrival, np.full(n, s, dtype=np.int64), inputs, outputs, status))
    arrival, stream_of, inputs, outputs, status = (
        np.concatenate(c) for c in zip(*columns, strict=True)
    )
    if len(columns) > 1:
        order = np.lexsort((stream_of, arrival))
        arrival, stream_of, inputs, outputs, status = (
            c[order] for c in (arrival, stream_of, inputs, outputs, status)
        )
    first = int(p.row_from[b])
    keep = int(p.row_from[b + 1]) - first
    frame = pl.DataFrame(
        {
            "row_id": np.arange(first, first + keep, dtype=np.int64),
            "arrival_ns": arrival[:keep],
            "input_tokens": inputs[:keep],
            "output_tokens": outputs[:keep],
        }
    ).with_columns(
        pl.when(pl.col("input_tokens") >= 0).then(pl.col("input_tokens")).cast(pl.Int32),
        pl.when(pl.col("input_tokens") >= 0).then(pl.col("output_tokens")).cast(pl.Int32),
        pl.Series("status", kinds, dtype=pl.String).gather(status[:keep]).alias("status"),
    )
    for column in dict.fromkeys(k for stream in p.part.streams for k in stream.where):
        values = pl.Series(
            column, [stream.where.get(column) for stream in p.part.streams], dtype=pl.String
        )
        frame = frame.with_columns(values.gather(stream_of[:keep]).alias(column))
    return frame


def row_hash(frames_: Iterator[pl.DataFrame]) -> tuple[int, str]:
    """(rows, hash) over canonical columns. Sums of per-row hashes modulo 2⁶⁴, so the hash of a whole is the
    sum of its shards' hashes and does not depend on how rows were cut into frames.
    """
    total = 0
    rows = 0
    for frame in frames_:
        total = (total + frame_hash(frame)) % 2**64
        rows += frame.height
    return rows, f"{total:016x}"


def frame_hash(frame: pl.DataFrame) -> int:
    """Sum of the row hashes of one frame, modulo 2⁶⁴."""
    if not frame.height:
        return 0
    h = np.zeros(frame.height, dtype=np.uint64)
    with np.errstate(over="ignore"):
        for name in sorted(frame.columns):
            column = frame[name]
            if column.dtype == pl.String:
                texts = column.drop_nulls().unique().sort()
                digests = [hashlib.sha256(v.encode()).digest()[:8] for v in texts]
                codes = [int.from_bytes(d, "little") for d in digests] + [0]  # the last is for null
                at = column.cast(pl.Enum(texts)).to_physical().fill_null(len(texts)).to_numpy()
                x = np.array(codes, dtype=np.uint64)[at]
            else:
                null = -(2**63)
                whole = column.cast(pl.Int64).fill_null(null).to_numpy()
                x = whole.astype(np.int64).view(np.uint64)
            salt = np.uint64(int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], "little"))
            h = _mix((h * np.uint64(0x9E3779B97F4A7C15)) ^ _mix(x + salt))
        return int(h.sum(dtype=np.uint64))


def _mix(x: npt.NDArray[np.uint64]) -> npt.NDArray[np.uint64]:
    """The finaliser of SplitMix64 (Steele, Lea, Flood 2014)."""
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return np.asarray(x ^ (x >> np.uint64(31)))


def profile_sha256(profile: Profile) -> str:
    """Identity of a profile: sha256 of its canonical JSON."""
    text = json.dumps(profile.to_dict(), sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()


# --- the skeleton ----------------------------------------------------------------------------------


def _rng(seed: int, stream: int, aspect: str, block: int) -> np.random.Generator:
    """A counter-based stream of its own for every (seed, stream, aspect, block)."""
    digest = hashlib.sha256(
        f"lamina/{GENERATOR_VERSION}/{seed}/{stream}/{_ASPECT_KEYS[aspect]}/{block}".encode()
    ).digest()
    return np.random.Generator(np.random.Philox(key=int.from_bytes(digest[:16], "little")))


def _law(profile: Profile, stream: Stream, kind: type[Law], what: str) -> Law:
    """An aspect that rows cannot be made without."""
    found = stream.aspects.get(what)
    if not isinstance(found, kind):
        raise ModelError(
            f"profile {profile.name!r} has no {what} for stream {stream.name!r}",
            "fit a trace whose rows carry arrival times and token counts",
        )
    return found


def _arrivals(profile: Profile, stream: Stream) -> Arrivals:
    return _law(profile, stream, Arrivals, arrivals_aspect.NAME)


class _Clock:
    """Λ and its inverse for a rate curve that repeats: wall ns ↔ operational ticks."""

    def __init__(self, law: Arrivals, factor: float) -> None:
        self.period_ns = round(len(law.rate_curve) * law.window_s * NS_PER_S)
        self.edges_ns = np.arange(len(law.rate_curve) + 1) * (law.window_s * NS_PER_S)
        rates = law.generating_curve * law.rate_per_s * factor  # per s
        self.ticks = np.concatenate([[0.0], np.cumsum(rates * law.window_s)]) * TICK
        self.quantum_ns = max(1, round(law.quantum_s * NS_PER_S))
        self.whole = round(float(self.ticks[-1]))

    def ticks_until(self, t_ns: int) -> int:
        """Operational ticks from 0 to a wall instant, as a whole number."""
        turns, rest = divmod(t_ns, self.period_ns)
        return turns * self.whole + round(float(np.interp(rest, self.edges_ns, self.ticks)))

    def wall_ns(self, at: Ints, start_ns: int, end_ns: int) -> Ints:
        """Wall instants of operational ticks counted from the start of a block, kept inside it, then stamped
        in steps of the source's clock (which keeps their order, also across blocks)."""
        base = self.ticks_until(start_ns)
        turns, rest = np.divmod(at + base % self.whole, self.whole)
        wall = np.interp(rest.astype(np.float64), self.ticks, self.edges_ns)
        ns = (base // self.whole + turns) * self.period_ns + wall.astype(np.int64)
        ns = np.clip(ns, start_ns, end_ns - 1)
        return np.asarray(ns // self.quantum_ns * self.quantum_ns)


def _gap_ticks(law: Arrivals, rng: np.random.Generator, size: int) -> Ints:
    return np.rint(renewal.sample(law.unit_gaps, rng, size) * TICK).astype(np.int64)


def _op_times(law: Arrivals, seed: int, stream: int, block: int, first: int, n: int) -> Ints:
    """Ticks of the ``n`` arrivals of a block: the residual gap, then gaps from the block's own stream."""
    out = np.empty(n, dtype=np.int64)
    if n:
        out[0] = first
        out[1:] = first + np.cumsum(_gap_ticks(law, _rng(seed, stream, "arrivals", block), n - 1))
    return out


class _Skeleton:
    """Walks the blocks of one stream, carrying the residual gap and the failure state."""

    def __init__(
        self, law: Arrivals, stream: Stream, seed: int, index: int, block_ns: int, factor: float
    ) -> None:
        self.law, self.seed, self.index, self.block_ns = law, seed, index, block_ns
        self.failures = stream.aspects.get(failures_aspect.NAME)
        self.clock = _Clock(law, factor)
        self.state = 0
        self.residual = round(
            renewal.first_gap(law.unit_gaps, _rng(seed, index, "arrivals", -1)) * TICK
        )

    def advance(self, block: int, end_ns: int) -> tuple[int, int, int]:
        """(ticks to the first arrival, rows, failure state before them) of a block ending at ``end_ns``."""
        length = self.clock.ticks_until(end_ns) - self.clock.ticks_until(block * self.block_ns)
        first, state = self.residual, self.state
        if first >= length:
            self.residual = first - length
            return first, 0, state
        rng = _rng(self.seed, self.index, "arrivals", block)
        n, at = 1, first
        while True:  # Philox gives the same numbers whatever the pieces they are drawn in
            expected = (length - at) / TICK
            gaps = _gap_ticks(self.law, rng, int(expected + 4 * math.sqrt(expected + 1)) + 16)
            ends = at + np.cumsum(gaps)
            inside = int(np.searchsorted(ends, length, side="left"))
            if inside < len(ends):
                n += inside
                self.residual = int(ends[inside]) - length
                break
            n += len(ends)
            at = int(ends[-1])
        if isinstance(self.failures, Failures):
            _, self.state = failures_aspect.sample_chain(
                self.failures, _rng(self.seed, self.index, "failures", block), n, state
            )
        return first, n, state


def _statuses(
    failures: Any, seed: int, stream: int, block: int, state: int, n: int, kinds: list[str]
) -> tuple[Ints, npt.NDArray[np.bool_]]:
    """Positions in ``kinds`` (extended as needed), and which rows carry no lengths."""
    if not isinstance(failures, Failures):
        return np.zeros(n, dtype=np.int64), np.zeros(n, dtype=bool)
    rng = _rng(seed, stream, "failures", block)
    failed, _ = failures_aspect.sample_chain(failures, rng, n, state)
    names = list(failures.kinds)
    position = np.array([_position(kinds, k) for k in ["ok", *names]], dtype=np.int64)
    shares = np.cumsum([0.0, *(failures.kinds[k][0] for k in names)])
    kind = (
        np.minimum(np.searchsorted(shares, rng.random(n) * shares[-1], side="right"), len(names))
        if names
        else np.zeros(n, dtype=np.int64)
    )
    lost = np.array([0.0, *(failures.kinds[k][1] for k in names)])
    code = np.where(failed == 1, kind, 0)
    return position[code], rng.random(n) < lost[code]


def _position(kinds: list[str], kind: str) -> int:
    if kind not in kinds:
        kinds.append(kind)
    return kinds.index(kind)

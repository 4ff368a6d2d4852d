"""Makes ``llm_requests``: arrivals of every stream, then what each request is."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt
import polars as pl

from ..aspects import arrivals as arrivals_aspect
from ..aspects import failures as failures_aspect
from ..aspects import lengths as lengths_aspect
from ..aspects.arrivals import Arrivals
from ..aspects.failure_retries import Retries
from ..aspects.failures import Failures
from ..aspects.length_draws import GENERATED, Sampler, alias
from ..aspects.lengths import Lengths
from ..aspects.mix import warp
from ..errors import ModelError
from ..profile import Part, Profile, Stream
from ..streams import Tail
from ..units import NS_PER_S
from .maker import Made, State
from .plan import block_length
from .process import Process
from .randomness import stream

BLOCK_ROWS = 131_072
MOST_COPIES = 256
KINDS = GENERATED
"""columns of token and media counts beside input and output."""
Columns = dict[str, npt.NDArray[Any]]
Flags = npt.NDArray[np.bool_]
Law = TypeVar("Law")
Ints = npt.NDArray[np.int64]
Array = npt.NDArray[np.float64]


class RequestMaker:
    """``factor`` multiplies all rates, in the meaning of ``scale_by``: "rate" makes each stream busier, its course in
    time as it is; "time" plays everything faster; "clients" superposes independent copies of each stream. ``replay``:
    the source's own course of the rate instead of new days."""

    table = "llm_requests"

    def __init__(
        self,
        profile: Profile,
        part: Part,
        seed: int,
        *,
        factor: float = 1.0,
        scale_by: str = "rate",
        replay: bool = False,
    ) -> None:
        self.part, self.seed, self.replay = part, seed, replay
        copies = copies_of(factor) if scale_by == "clients" else 1
        self.speed = factor if scale_by == "time" else 1.0
        self.streams = [
            _Stream(profile, s, part, i + c * len(part.streams), seed, factor / copies, self.speed, replay)
            for c in range(copies)
            for i, s in enumerate(part.streams)
        ]  # fmt: skip
        known = {k for s in self.streams if s.failures for k in s.failures.kinds}
        self.kinds = ["unknown", "ok", *sorted(known)]
        self.rate_per_s = math.fsum(s.process.per_s for s in self.streams)
        self.span_s = max(s.law.span_s for s in self.streams) / self.speed
        self.block_ns = block_length(self.rate_per_s, BLOCK_ROWS)

    def expected_rows(self, duration_ns: int) -> float:
        return math.fsum(s.process.expected(duration_ns) for s in self.streams)

    def start(self) -> State:
        out: State = {}
        for s in self.streams:
            out[f"{s.index}.left"] = s.process.start()
            if s.failures:
                out[f"{s.index}.failed"] = np.array(0)
        return out

    def make(self, block: int, end_ns: int, state: State) -> Made:
        after = dict(state)
        begin_ns = block * self.block_ns
        drawn: list[Callable[[], Columns]] = []
        total = 0
        for s in self.streams:
            left = f"{s.index}.left"
            t, _, after[left] = s.process.arrivals(block, begin_ns, end_ns, state[left])
            failed = None
            if s.failures is not None:
                load = s.load(t, begin_ns, end_ns) * s.law.rate_per_s if s.failing_under_load else None  # fmt: skip
                uniform = stream(self.seed, "failures", s.index, block).random(len(t))
                name = f"{s.index}.failed"
                failed, last = failures_aspect.sample_chain(s.failures, uniform, int(state[name]), load)  # fmt: skip
                after[name] = np.array(last)
            drawn.append(partial(self._rows, s, block, begin_ns, end_ns, t, failed))
            total += len(t)
        return Made(total, partial(self._frame, drawn), after)

    def _rows(
        self, s: _Stream, block: int, begin_ns: int, end_ns: int, t: Ints, failed: Flags | None
    ) -> Columns:
        u, v = s.lengths.ranks(stream(self.seed, "lengths", s.index, block), len(t))
        if s.warp is not None:
            if self.replay:
                at = s.warp.by_time(t / NS_PER_S * self.speed)
            else:
                at = s.warp.by_load(s.load(t, begin_ns, end_ns))
            u, v = s.warp.ranks("input", at, u), s.warp.ranks("output", at, v)
        inputs, outputs = s.lengths.tokens(u, v)
        out: Columns = {"arrival_ns": t, "stream": np.full(len(t), s.place, dtype=np.int32)}
        out |= s.lengths.others(stream(self.seed, "kinds of tokens", s.index, block), v, inputs, outputs)  # fmt: skip
        out["status"] = np.zeros(len(t), dtype=np.int64)
        if failed is not None and s.failures is not None:
            rng = stream(self.seed, "kinds", s.index, block)
            out["status"], lost = self._statuses(s.failures, failed, rng)
            if s.failures.retries is not None:
                inputs = retried(s.failures.retries, t, failed & ~lost, inputs, rng)
            for column in (inputs, outputs, *(out[c] for c in s.lengths.kinds)):
                column[lost] = -1
        if s.small is not None:
            out["small"] = s.small.draw(stream(self.seed, "small streams", s.index, block), len(t))
        return out | {"input_tokens": inputs, "output_tokens": outputs}

    def _statuses(
        self, failures: Failures, failed: Flags, rng: np.random.Generator
    ) -> tuple[Ints, Flags]:
        """(place of each status in ``kinds``, which rows carry no lengths)."""
        names = list(failures.kinds)
        shares = np.cumsum([failures.kinds[k][0] for k in names]) if names else np.ones(1)
        code = np.ones(len(failed), dtype=np.int64)
        lost = np.zeros(len(failed), dtype=bool)
        bad = np.flatnonzero(failed)
        kind = np.minimum(
            np.searchsorted(shares, rng.random(len(bad)) * shares[-1], side="right"),
            len(shares) - 1,
        )
        code[bad] = np.array([self.kinds.index(k) for k in names] or [0])[kind]
        without = np.array([failures.kinds[k][1] for k in names] or [0.0])
        lost[bad] = rng.random(len(bad)) < without[kind]
        return code, lost

    def _frame(self, drawn: Sequence[Callable[[], Columns]]) -> pl.DataFrame:
        parts = [d() for d in drawn]
        columns = parts[0]
        if len(parts) > 1:
            every = dict.fromkeys(k for p in parts for k in p)
            columns = {k: np.concatenate([_whole(p, k) for p in parts]) for k in every}
            order = np.argsort(columns["arrival_ns"], kind="stable")
            columns = {k: v[order] for k, v in columns.items()}
        tokens = {k: _tokens(columns[k]) for k in ("input_tokens", "output_tokens", *KINDS) if k in columns}  # fmt: skip
        frame = pl.DataFrame(
            {"arrival_ns": columns["arrival_ns"]}
            | tokens
            | {"status": _named(columns["status"], self.kinds)}
        )
        of = columns["stream"]
        streams = self.part.streams
        for column in dict.fromkeys(k for s in streams for k in s.where):
            own = [s.where.get(column) for s in streams]
            names = sorted({v for v in own if v is not None})
            place = np.array([-1 if v is None else names.index(v) for v in own])
            values = _named(place[of], names)
            if "small" in columns:
                values = _with_small(values.cast(pl.String), columns["small"])
            frame = frame.with_columns(values.alias(column))
        return frame


class _Stream:
    """One stream of a profile, or a copy of it (``index`` from 0 over all; ``place`` of its own in the part)."""

    def __init__(
        self, profile: Profile, s: Stream, part: Part, index: int, seed: int, rate: float, speed: float, replay: bool
    ) -> None:  # fmt: skip
        self.index, self.place = index, index % len(part.streams)
        self.law = law_of(profile, s, Arrivals, arrivals_aspect.NAME, "arrival times")
        self.process = Process(self.law, seed, index, rate=rate, speed=speed, replay=replay)
        lengths = law_of(profile, s, Lengths, lengths_aspect.NAME, "token counts")
        self.lengths = Sampler(lengths)
        grids = {"input": lengths.input.grid, "output": lengths.output.grid}
        self.warp = warp(lengths.mix, grids, replay=replay)
        found = s.aspects.get(failures_aspect.NAME)
        self.failures = found if isinstance(found, Failures) else None
        self.failing_under_load = self.failures is not None and failures_aspect.follows_load(self.failures)  # fmt: skip
        self.small = SmallStreams(part.tail) if part.tail is not None and not s.where else None
        self.window_ns = self.law.window_s / speed * NS_PER_S

    def load(self, t: Ints, begin_ns: int, end_ns: int) -> Array:
        """The rate in the window of each arrival as a multiple of the mean rate, as ``fit`` counts it. Windows begin with
        the block; a last one of less than half the width takes the load of the one before."""
        at = ((t - begin_ns) / self.window_ns).astype(np.int64)
        np.clip(at, 0, max(round((end_ns - begin_ns) / self.window_ns) - 1, 0), out=at)
        n = np.bincount(at)
        if not len(n):
            return np.zeros(0)
        width = np.full(len(n), self.window_ns)
        last = max(round((end_ns - begin_ns) / self.window_ns) - 1, 0)
        if len(n) > last:
            width[last] = end_ns - begin_ns - last * self.window_ns
        return np.asarray((n / (width / NS_PER_S * self.process.per_s))[at])


class SmallStreams:
    """Which of the small streams a request is of: their sizes follow the fitted law, equally spaced in rank."""

    def __init__(self, tail: Tail) -> None:
        at = (np.arange(tail.streams) + 0.5) / tail.streams
        sizes = np.maximum(tail.rows.quantile(at)[::-1], 1e-9)
        self.keep, self.alias = alias(sizes)

    def draw(self, rng: np.random.Generator, size: int) -> Ints:
        """Numbers from 1, the largest first."""
        u = rng.random(size) * len(self.keep)
        at = u.astype(np.int64)
        other = u - at >= self.keep[at]
        at[other] = self.alias[at[other]]
        return at + 1


def copies_of(factor: float) -> int:
    """How many copies of each stream a factor of clients makes."""
    copies = math.ceil(factor - 1e-9)
    if copies > MOST_COPIES:
        raise ModelError(
            f"{copies:,} copies of each stream are more than {MOST_COPIES}",
            "raise the rate of each with --scale-by rate, or generate copies by seed and join them",
        )
    return max(copies, 1)


def retried(
    retries: Retries, t: Ints, failed: Flags, inputs: Ints, rng: np.random.Generator
) -> Ints:
    """Input lengths where failed requests come again: with the fitted share and delay, the next request after the delay
    is the failed one's prompt once more. Only inside a block."""
    bad = np.flatnonzero(failed)
    share = max(retries.share - (retries.share_after_success or 0.0), 0.0)
    bad = bad[rng.random(len(bad)) < share]
    known = sorted((float(k[1:]) / 100, v) for k, v in retries.delays_s.items() if k[1:].isdigit())
    if not len(bad) or not known:
        return inputs
    q = rng.random(len(bad))
    delay = np.interp(q, [0.0, *(k for k, _ in known), 1.0], [0.0, *(v for _, v in known), max(known[-1][1], retries.within_s)])  # fmt: skip
    again = np.searchsorted(t, t[bad] + (delay * NS_PER_S).astype(np.int64), side="right")
    inside = (again < len(t)) & (again > bad)
    out = inputs.copy()
    out[again[inside]] = inputs[bad[inside]]
    return out


def _whole(part: Columns, name: str) -> npt.NDArray[Any]:
    return part[name] if name in part else np.full(len(part["arrival_ns"]), -1, dtype=np.int64)


def _with_small(values: pl.Series, small: npt.NDArray[Any]) -> pl.Series:
    """Names, and numbers of small streams where there is none."""
    both = pl.DataFrame({"name": values, "n": small})
    number = pl.when(pl.col("n") > 0).then(pl.format("small-{}", "n"))
    return both.select(pl.coalesce("name", number)).to_series()


def _named(place: npt.NDArray[Any], names: Sequence[str]) -> pl.Series:
    """Names by their places, −1 for none."""
    s = pl.Series(np.maximum(place, 0).astype(np.min_scalar_type(len(names))))
    if len(place) and place.min() < 0:
        s = s.set(pl.Series(place < 0), None)
    return s.cat.to(pl.Enum(names))


def _tokens(x: Ints) -> pl.Series:
    """Counts, −1 for none."""
    s = pl.Series(x.astype(np.int32))
    return s.set(s < 0, None) if len(x) and x.min() < 0 else s


def law_of(profile: Profile, s: Stream, kind: type[Law], what: str, needs: str) -> Law:
    """An aspect that rows cannot be made without."""
    found = s.aspects.get(what)
    if not isinstance(found, kind):
        raise ModelError(
            f"profile {profile.name!r} has no {what} for stream {s.name!r}",
            f"fit a trace whose rows carry {needs}",
        )
    return found

"""Makes ``llm_requests``: arrivals of every stream, then what each request is."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt
import polars as pl

from ..aspects import arrivals as arrivals_aspect
from ..aspects import failures as failures_aspect
from ..aspects import lengths as lengths_aspect
from ..aspects.arrivals import Arrivals
from ..aspects.failures import Failures
from ..aspects.lengths import Lengths
from ..errors import ModelError
from ..profile import Part, Profile, Stream
from .maker import Made, State
from .plan import block_length
from .process import Process
from .randomness import stream

BLOCK_ROWS = 131_072
Law = TypeVar("Law")
Ints = npt.NDArray[np.int64]
Array = npt.NDArray[np.float64]


class RequestMaker:
    """``factor``: multiplies all rates, in the meaning ``scale_by`` (see ``scaling``)."""

    table = "llm_requests"

    def __init__(
        self, profile: Profile, part: Part, seed: int, *, factor: float = 1.0, speed: float = 1.0, replay: bool = False
    ) -> None:  # fmt: skip
        self.part, self.seed = part, seed
        self.laws = [
            law_of(profile, s, Arrivals, arrivals_aspect.NAME, "arrival times")
            for s in part.streams
        ]
        self.processes = [
            Process(law, seed, i, rate=factor, speed=speed, replay=replay)
            for i, law in enumerate(self.laws)
        ]
        self.lengths = [
            lengths_aspect.Sampler(law_of(profile, s, Lengths, lengths_aspect.NAME, "token counts"))
            for s in part.streams
        ]
        self.failures = [
            f if isinstance(f := s.aspects.get(failures_aspect.NAME), Failures) else None
            for s in part.streams
        ]
        self.kinds = ["unknown", "ok", *sorted({k for f in self.failures if f for k in f.kinds})]
        self.rate_per_s = math.fsum(p.per_s for p in self.processes)
        self.block_ns = block_length(self.rate_per_s, BLOCK_ROWS)

    def expected_rows(self, duration_ns: int) -> float:
        return math.fsum(p.expected(duration_ns) for p in self.processes)

    def start(self) -> State:
        left = {f"{i}.left": p.start() for i, p in enumerate(self.processes)}
        return left | {f"{i}.failed": np.array(0) for i, f in enumerate(self.failures) if f}

    def make(self, block: int, end_ns: int, state: State) -> Made:
        after = dict(state)
        drawn: list[Callable[[], dict[str, npt.NDArray[Any]]]] = []
        total = 0
        for i, process in enumerate(self.processes):
            t, _, after[f"{i}.left"] = process.arrivals(
                block, block * self.block_ns, end_ns, state[f"{i}.left"]
            )
            status = None
            failures = self.failures[i]
            if failures is not None:
                rng = stream(self.seed, "failures", i, block)
                failed, last = failures_aspect.sample_chain(
                    failures, rng, len(t), int(state[f"{i}.failed"])
                )
                after[f"{i}.failed"] = np.array(last)
                status = failed
            drawn.append(self._rows(i, block, t, status))
            total += len(t)
        return Made(total, lambda: self._frame(drawn), after)

    def _rows(
        self, i: int, block: int, t: Ints, failed: Ints | None
    ) -> Callable[[], dict[str, npt.NDArray[Any]]]:
        def draw() -> dict[str, npt.NDArray[Any]]:
            rng = stream(self.seed, "lengths", i, block)
            inputs, outputs = self.lengths[i].pairs(rng, len(t))
            out: dict[str, npt.NDArray[Any]] = {"arrival_ns": t, "stream": np.full(len(t), i, dtype=np.int32)}  # fmt: skip
            out["status"] = np.zeros(len(t), dtype=np.int32)
            failures = self.failures[i]
            if failed is not None and failures is not None:
                rng = stream(self.seed, "kinds", i, block)
                out["status"], lost = self._statuses(failures, failed, rng)
                inputs[lost], outputs[lost] = -1, -1
            return out | {"input_tokens": inputs, "output_tokens": outputs}

        return draw

    def _statuses(
        self, failures: Failures, failed: Ints, rng: np.random.Generator
    ) -> tuple[Ints, npt.NDArray[np.bool_]]:
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

    def _frame(self, drawn: Sequence[Callable[[], dict[str, npt.NDArray[Any]]]]) -> pl.DataFrame:
        parts = [d() for d in drawn]
        columns = (
            parts[0]
            if len(parts) == 1
            else {k: np.concatenate([p[k] for p in parts]) for k in parts[0]}
        )
        if len(parts) > 1:
            order = np.argsort(columns["arrival_ns"], kind="stable")
            columns = {k: v[order] for k, v in columns.items()}
        frame = pl.DataFrame(
            {
                "arrival_ns": columns["arrival_ns"],
                "input_tokens": _tokens(columns["input_tokens"]),
                "output_tokens": _tokens(columns["output_tokens"]),
                "status": _named(columns["status"], self.kinds),
            }
        )
        of = columns["stream"]
        names = dict.fromkeys(k for s in self.part.streams for k in s.where)
        for column in names:
            own = [s.where.get(column) for s in self.part.streams]
            values = sorted({v for v in own if v is not None})
            place = np.array([-1 if v is None else values.index(v) for v in own])
            frame = frame.with_columns(_named(place[of], values).alias(column))
        return frame


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

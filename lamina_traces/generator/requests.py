"""Makes ``llm_requests``: the rows of every stream, merged in time order."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence
from functools import cache, partial
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl
import pyarrow as pa

from ..aspects.arrivals import Arrivals
from ..aspects.failure_retries import Retries
from ..aspects.failures import Failures
from ..aspects.length_draws import GENERATED
from ..aspects.templates import DELAY_KINDS
from ..errors import ModelError
from ..profile import Part, Profile
from ..units import NS_PER_S, format_seconds
from . import maker
from .maker import State, split, within
from .plan import block_length
from .randomness import stream
from .request_stream import Columns, Flags, Ints, Made, RequestStream, law_of

BLOCK_ROWS = 131_072
PIECE_IDS = 1 << 21
"""prefix blocks that are drawn at once"""
MOST_PIECES = 1 << 19
LEAST_IN_PIECE = 1e-6
"""requests in a piece of the rate: with fewer there is only silence to walk over."""
MOST_COPIES = 256


class RequestMaker:
    """``factor`` multiplies all rates, in the meaning of ``scale_by``: "rate" makes each stream busier, its course in
    time as it is; "time" plays everything faster; "clients" superposes independent copies of each stream. ``replay``:
    the source's own course of the rate instead of new days. ``block_tokens``: of prefix blocks, None: as fitted."""

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
        block_tokens: int | None = None,
    ) -> None:
        self.part, self.seed = part, seed
        copies = copies_of(factor) if scale_by == "clients" else 1
        speed = factor if scale_by == "time" else 1.0
        laws = (law_of(profile, s, Arrivals, "arrivals", "arrival times") for s in part.streams)
        clock = max(laws, key=lambda law: law.quantum_s)
        self.streams: list[RequestStream] = []
        for i in range(copies * len(part.streams)):
            like = self.streams[i - len(part.streams)] if i >= len(part.streams) else None
            made = RequestStream(
                profile, part, i % len(part.streams), i, seed, rate=factor / copies, speed=speed, replay=replay,
                block_tokens=block_tokens, clock=clock, like=like,
            )  # fmt: skip
            self.streams.append(made)
        known = {k for s in self.streams if s.failures for k in s.failures.kinds}
        self.kinds = ["unknown", "ok", *sorted(known)]
        self.rate_per_s = math.fsum(s.rate_per_s for s in self.streams)
        self.span_s = max(s.law.span_s for s in self.streams) / speed
        # no more pieces of the rate than rows, also where requests are rare beside the windows of their levels
        finest_ns = min(s.process.piece_ns for s in self.streams)
        if self.rate_per_s * finest_ns / NS_PER_S < LEAST_IN_PIECE:
            raise ModelError(
                f"the rate changes every {format_seconds(finest_ns / NS_PER_S)}, and there is one request in {format_seconds(1 / self.rate_per_s)}",
                "raise --rate, or take a steady rate: --arrivals poisson",
            )
        self.block_ns = min(
            block_length(self.rate_per_s, BLOCK_ROWS), 2 ** int(math.log2(finest_ns * MOST_PIECES))
        )

    def expected_rows(self, duration_ns: int) -> float:
        return math.fsum(s.expected(duration_ns) for s in self.streams)

    def start(self) -> State:
        out: State = {"rows": np.array(0)}
        for s in self.streams:
            begun = s.start()
            if s.refers:
                begun |= within("places", _places(np.zeros(0, np.int64), np.zeros(0, np.int64), 0))
            out |= within(f"{s.index}", begun)
        return out

    def make(self, block: int, end_ns: int, state: State) -> maker.Made:
        begin_ns = block * self.block_ns
        own = split(state)
        before = [own[f"{s.index}"] for s in self.streams]
        made = [
            s.make(block, begin_ns, end_ns, b) for s, b in zip(self.streams, before, strict=True)
        ]
        parts, kept = [p for p, _ in made], [k for _, k in made]
        first = int(state["rows"])
        total = sum(len(p.t) for p in parts)
        order = None
        if len(parts) > 1:
            order = np.argsort(np.concatenate([p.t for p in parts]), kind="stable")
        waits = [np.zeros(0, np.int64)] * len(parts)
        if any(s.refers for s in self.streams):
            place = np.arange(total)
            if order is not None:
                place[order] = np.arange(total)
            at = 0
            for i, (s, p) in enumerate(zip(self.streams, parts, strict=True)):
                if s.refers:
                    rows = place[at : at + len(p.t)] + first
                    places = split(before[i])["places"]
                    waits[i], places = _waits(p, rows, places, s.referred(kept[i]))
                    kept[i] |= within("places", places)
                at += len(p.t)
        after: State = {"rows": np.array(first + total)}
        for s, k in zip(self.streams, kept, strict=True):
            after |= within(f"{s.index}", k)
        cuts = _cuts(parts, order)
        drawn = partial(self._columns, block, begin_ns, end_ns, parts)
        part = partial(self._frame, cache(drawn) if cuts else drawn, parts, waits, order)
        return maker.Made(total, partial(part, 0, total), after, part, cuts)

    def _columns(
        self, block: int, begin_ns: int, end_ns: int, parts: Sequence[Made]
    ) -> tuple[Columns, list[Ints | None]]:
        """(columns of numbers of a block, stream by stream; whose prompt each row of a stream has, None: its own)."""
        found = [
            self._rows(s, block, begin_ns, end_ns, p)
            for s, p in zip(self.streams, parts, strict=True)
        ]
        prompts = [f.pop("prompt", None) for f in found]
        every = dict.fromkeys(k for f in found for k in f)
        return {k: _joined([_whole(f, k) for f in found]) for k in every}, prompts

    def _rows(self, s: RequestStream, block: int, begin_ns: int, end_ns: int, p: Made) -> Columns:
        """Columns of numbers of one stream."""
        inputs, outputs = p.lengths or s.drawn(block, begin_ns, end_ns, p.t)
        n = len(p.t)
        out: Columns = {"arrival_ns": p.t, "stream": np.full(n, s.index, dtype=np.int32)}
        if s.lengths.kinds:
            rng = stream(self.seed, "kinds of tokens", s.index, block)
            out |= s.lengths.others(rng, inputs, outputs)
        if s.small is not None:
            rng = stream(self.seed, "small streams", s.index, block)
            out["small"] = s.small.draw(rng, inputs, outputs)
        out["status"] = np.zeros(n, dtype=np.int64)
        if p.failed is not None and s.failures is not None:
            rng = stream(self.seed, "kinds", s.index, block)
            out["status"], lost = self._statuses(s.failures, p.failed, rng)
            if s.failures.retries is not None and not p.columns:
                again = retried(s.failures.retries, p.t, p.failed & ~lost, rng, s.speed)
                inputs, out["prompt"] = inputs[again], again
                for name in s.lengths.kinds:
                    out[name] = out[name] if name == "reasoning_tokens" else out[name][again]
            inputs, outputs = (np.where(lost, -1, c) for c in (inputs, outputs))
            for name in s.lengths.kinds:
                out[name] = np.where(lost, -1, out[name])
        for name in ("session", "turn", "workflow", "step_index", "delay_after_parent_ns"):
            if name in p.columns:
                out[name] = p.columns[name].astype(np.int64)
        if "session" in p.columns:
            out["session"] = np.where(p.columns["turn"] > 0, out["session"], -1)
            out["delay_kind"] = np.where(p.columns["delay_after_parent_ns"] >= 0, THINK, -1)
        if s.workflows is not None:
            out["delay_kind"] = p.columns["delay_kind"]
            names = np.array([self.stages.index(x) for x in s.workflows.stages])
            out["stage"] = names[p.columns["stage"]]
        return out | {"input_tokens": inputs, "output_tokens": outputs}

    @property
    def stages(self) -> list[str]:
        """Names of the steps of workflows."""
        return sorted({x for s in self.streams if s.workflows for x in s.workflows.stages})

    def _statuses(
        self, failures: Failures, failed: Flags, rng: np.random.Generator
    ) -> tuple[Ints, Flags]:
        """(place of each status in ``kinds``, which rows carry no lengths)."""
        names = list(failures.kinds)
        shares = np.cumsum([failures.kinds[k][0] for k in names]) if names else np.ones(1)
        code = np.ones(len(failed), dtype=np.int64)
        lost = np.zeros(len(failed), dtype=bool)
        bad = np.flatnonzero(failed)
        at = np.searchsorted(shares, rng.random(len(bad)) * shares[-1], side="right")
        kind = np.minimum(at, len(shares) - 1)
        code[bad] = np.array([self.kinds.index(k) for k in names] or [0])[kind]
        without = np.array([failures.kinds[k][1] for k in names] or [0.0])
        lost[bad] = rng.random(len(bad)) < without[kind]
        return code, lost

    def _frame(
        self, drawn: Callable[[], tuple[Columns, list[Ints | None]]], parts: Sequence[Made], waits: Sequence[Ints],
        order: Ints | None, first: int, stop: int,
    ) -> pl.DataFrame:  # fmt: skip
        """The rows from ``first`` to before ``stop`` of a block whose columns are ``drawn``."""
        columns, prompts = drawn()
        if order is None:
            columns = {k: v[first:stop] for k, v in columns.items()}
            lists = self._lists(parts, waits, prompts, [(first, stop)])
        else:
            begins = np.cumsum([0, *(len(p.t) for p in parts)])
            before, chosen = order[:first], order[first:stop]
            columns = {k: v[chosen] for k, v in columns.items()}
            of = columns["stream"]
            least = np.array([int(((before >= a) & (before < b)).sum()) for a, b in itertools.pairwise(begins)])  # fmt: skip
            some = np.bincount(of, minlength=len(parts))
            lists = self._lists(parts, waits, prompts, list(zip(least, least + some, strict=True)))
            # a stream's rows stand behind those of the streams before it, without what is not chosen
            at = chosen - (begins[:-1] + least)[of] + (np.cumsum(some) - some)[of]
            lists = {k: v.gather(at) for k, v in lists.items()}
        frame = pl.DataFrame({"arrival_ns": columns["arrival_ns"]})
        tokens = [k for k in ("input_tokens", "output_tokens", *GENERATED) if k in columns]
        small = ("turn", "step_index")
        frame = frame.with_columns(
            *(_numbers(columns[k], np.int32).alias(k) for k in (*tokens, *(k for k in small if k in columns))),
            _named(columns["status"], self.kinds).alias("status"),
        )  # fmt: skip
        if "delay_after_parent_ns" in columns:
            delay = _numbers(columns["delay_after_parent_ns"], np.int64)
            kind = _named(columns["delay_kind"], DELAY_KINDS)
            frame = frame.with_columns(delay.alias("delay_after_parent_ns"), kind.alias("delay_kind"))  # fmt: skip
        for name, letter in (("session", "s"), ("workflow", "w")):
            if name in columns:
                frame = frame.with_columns(self._ids(letter, columns[name], columns["stream"]).alias(f"{name}_id"))  # fmt: skip
        if "stage" in columns:
            frame = frame.with_columns(_named(columns["stage"], self.stages).alias("stage"))
        return self._with_streams(frame, columns).with_columns(**lists)

    def _ids(self, letter: str, number: Ints, of: npt.NDArray[Any]) -> pl.Series:
        """``s12``; with several streams ``0-s12``."""
        both = pl.DataFrame({"n": number, "of": of})
        text = pl.format(f"{letter}{{}}", "n") if len(self.streams) == 1 else pl.format(f"{{}}-{letter}{{}}", "of", "n")  # fmt: skip
        return both.select(pl.when(pl.col("n") >= 0).then(text)).to_series()

    def _with_streams(self, frame: pl.DataFrame, columns: Columns) -> pl.DataFrame:
        streams = self.part.streams
        of = columns["stream"] % len(streams)
        for column in dict.fromkeys(k for s in streams for k in s.where):
            own = [s.where.get(column) for s in streams]
            names = sorted({v for v in own if v is not None})
            place = np.array([-1 if v is None else names.index(v) for v in own])
            values = _named(place[of], names)
            if "small" in columns:
                both = pl.DataFrame({"name": values.cast(pl.String), "n": columns["small"]})
                number = pl.when(pl.col("n") > 0).then(pl.format("small-{}", "n"))
                values = both.select(pl.coalesce("name", number)).to_series()
            frame = frame.with_columns(values.alias(column))
        return frame

    def _lists(
        self, parts: Sequence[Made], waits: Sequence[Ints], prompts: Sequence[Ints | None], spans: Sequence[tuple[int, int]]
    ) -> dict[str, pl.Series]:  # fmt: skip
        """``depends_on`` and ``prefix_hashes`` of some rows of each stream, in the order of the streams. ``prompts``: whose prompt
        each row of a stream has, None: its own."""
        out: dict[str, pl.Series] = {}
        if any(p.parents_from is not None for p in parts):
            found = []
            for p, w, (first, stop) in zip(parts, waits, spans, strict=True):
                begins = np.zeros(stop - first + 1, np.int64)
                if p.parents_from is not None:
                    begins = p.parents_from[first : stop + 1]
                found.append(_list(begins - begins[0], w[begins[0] : begins[-1]]))
            out["depends_on"] = pl.concat(found) if len(found) > 1 else found[0]
        if any(p.prompts is not None for p in parts):
            made = []
            for p, prompt, (first, stop) in zip(parts, prompts, spans, strict=True):
                if p.prompts is None:
                    made.append(pl.Series([None] * (stop - first), dtype=pl.List(pl.UInt64)))
                    continue
                rows = slice(first, stop) if prompt is None else prompt[first:stop]
                made.append(p.prompts.chosen(rows).lists())
            sizes = [
                np.full(stop - first, s.prefixes.block_tokens if s.prefixes else -1)
                for s, (first, stop) in zip(self.streams, spans, strict=True)
            ]
            out["prefix_block_size"] = _numbers(_joined(sizes), np.int32)
            out["prefix_hashes"] = pl.concat(made) if len(made) > 1 else made[0]
        return out


THINK = DELAY_KINDS.index("think")


def _cuts(parts: Sequence[Made], order: Ints | None) -> Sequence[int]:
    """Where to cut a block so that no piece has many more than ``PIECE_IDS`` prefix blocks."""
    if sum(int(p.prompts.begins[-1]) for p in parts if p.prompts is not None) <= PIECE_IDS:
        return ()
    each = _joined([
        np.zeros(len(p.t), dtype=np.int64) if p.prompts is None else np.diff(p.prompts.begins) for p in parts
    ])  # fmt: skip
    upto = np.cumsum(each if order is None else each[order])
    at = np.searchsorted(upto, np.arange(PIECE_IDS, upto[-1], PIECE_IDS)) + 1
    return [int(row) for row in np.unique(at) if row < len(upto)]


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
    retries: Retries, t: Ints, failed: Flags, rng: np.random.Generator, speed: float = 1.0
) -> Ints:
    """The row whose prompt each row has: failed requests come again with the fitted share and delay, and the next request
    after the delay is the failed one's prompt once more. Only inside a block."""
    out = np.arange(len(t))
    bad = np.flatnonzero(failed)
    share = max(retries.share - (retries.share_after_success or 0.0), 0.0)
    bad = bad[rng.random(len(bad)) < share]
    known = sorted((float(k[1:]) / 100, v) for k, v in retries.delays_s.items() if k[1:].isdigit())
    if not len(bad) or not known:
        return out
    q = [0.0, *(k for k, _ in known), 1.0]
    last = max(known[-1][1], retries.within_s)
    delay_s = np.interp(rng.random(len(bad)), q, [0.0, *(v for _, v in known), last])
    again = np.searchsorted(t, t[bad] + (delay_s / speed * NS_PER_S).astype(np.int64), side="right")
    inside = (again < len(t)) & (again > bad)
    out[again[inside]] = bad[inside]
    return out


def _waits(p: Made, rows: Ints, places: State, later: Ints) -> tuple[Ints, State]:
    """(row_ids that the rows of a stream wait for, where those stand that ``later`` rows may wait for). ``rows``: row_ids
    of the stream's rows of this block; ``places``: of those before that they may wait for."""
    known, at, before = places["known"], places["at"], int(places["rows"])

    def row_ids(numbers: Ints) -> Ints:
        out = np.empty(len(numbers), dtype=np.int64)
        new = numbers >= before
        out[new] = rows[numbers[new] - before]
        out[~new] = at[np.searchsorted(known, numbers[~new])]
        return out

    waits = row_ids(p.parents) if p.parents is not None else np.zeros(0, np.int64)
    return waits, _places(later, row_ids(later), before + len(rows))


def _places(known: Ints, at: Ints, rows: int) -> State:
    """Where rows stand that later ones may wait for: numbers in the stream → row_ids; and how many rows there were."""
    return {"known": known, "at": at, "rows": np.array(rows)}


def _joined(arrays: Sequence[npt.NDArray[Any]]) -> npt.NDArray[Any]:
    return arrays[0] if len(arrays) == 1 else np.concatenate(arrays)


def _whole(part: Columns, name: str) -> npt.NDArray[Any]:
    return part[name] if name in part else np.full(len(part["arrival_ns"]), -1, dtype=np.int64)


def _list(begins: Ints, values: npt.NDArray[Any]) -> pl.Series:
    """Lists from their ends and members."""
    made = pa.LargeListArray.from_arrays(pa.array(begins, pa.int64()), pa.array(values))
    return pl.Series(pl.from_arrow(made))


def _named(place: npt.NDArray[Any], names: Sequence[str]) -> pl.Series:
    """Names by their places, −1 for none."""
    s = pl.Series(np.maximum(place, 0).astype(np.min_scalar_type(len(names))))
    if len(place) and place.min() < 0:
        s = s.set(pl.Series(place < 0), None)
    return s.cat.to(pl.Enum(names))


def _numbers(x: npt.NDArray[Any], kind: Any) -> pl.Series:
    """Numbers, −1 for none. Raises ModelError beyond what the column holds."""
    if len(x) and x.max() > np.iinfo(kind).max:
        raise ModelError(
            f"{x.max():,} is more than a column of counts holds",
            "turn the knob that makes it less far",
        )
    s = pl.Series(x.astype(kind))
    return s.set(s < 0, None) if len(x) and x.min() < 0 else s

"""What one iteration of an engine costs: operators, their sum, and the numbers a clock needs.

The state of an iteration is x = (1, D, p, Q, S, C) and tables read at D + p:

=== ==========================================================================================
D   sequences in decode, one token each
p   prompt tokens prefilled
Q   query–key pairs of prefill attention (causal): a·m + m(m+1)/2 for m tokens after a
S   sum of the decoding sequences' contexts, the token being computed included
C   sum over prefill chunks of the context at their end
=== ==========================================================================================

Every operator's work is affine in x, so that an iteration's cost needs no loop over its batch: this is
what makes the simulator O(1) per iteration. What is not affine is a table over D + p tokens (the
share of experts that any of the tokens visits).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

import numpy as np
import numpy.typing as npt

from ..errors import ModelError

Resource = Literal["compute", "memory", "network", "overhead"]
RESOURCES: tuple[Resource, ...] = ("compute", "memory", "network", "overhead")
Floats = npt.NDArray[np.float64]

_X = ("one", "D", "p", "Q", "S", "C")
AWAY = "away"
"""operators with these rates run on the replica's other group of devices."""


@dataclass(frozen=True)
class State:
    """One iteration's work; fields as in the module's table."""

    D: float = 0.0
    p: float = 0.0
    Q: float = 0.0
    S: float = 0.0
    C: float = 0.0

    @classmethod
    def decode(cls, sequences: float, context: float) -> State:
        """``sequences`` decoding at a mean ``context`` (tokens attended to)."""
        return cls(D=sequences, S=sequences * context)

    @classmethod
    def prefill(cls, tokens: float, before: float = 0.0) -> State:
        """One chunk of ``tokens`` after ``before`` tokens of the same prompt."""
        return cls(p=tokens, Q=before * tokens + tokens * (tokens + 1) / 2, C=before + tokens)

    def __add__(self, other: State) -> State:
        return State(
            self.D + other.D, self.p + other.p, self.Q + other.Q, self.S + other.S, self.C + other.C
        )

    @property
    def tokens(self) -> float:
        return self.D + self.p

    def x(self) -> Floats:
        return np.array([1.0, self.D, self.p, self.Q, self.S, self.C])


@dataclass(frozen=True)
class Form:
    """An affine form over the state, plus multiples of named tables."""

    one: float = 0.0
    D: float = 0.0
    p: float = 0.0
    Q: float = 0.0
    S: float = 0.0
    C: float = 0.0
    tables: Mapping[str, float] = field(default_factory=dict)

    @classmethod
    def tokens(cls, each: float) -> Form:
        """``each`` per token of the iteration, decode or prefill."""
        return cls(D=each, p=each)

    def __add__(self, other: Form) -> Form:
        names = {**self.tables, **other.tables}
        tables = {n: self.tables.get(n, 0.0) + other.tables.get(n, 0.0) for n in names}
        return Form(
            one=self.one + other.one,
            D=self.D + other.D,
            p=self.p + other.p,
            Q=self.Q + other.Q,
            S=self.S + other.S,
            C=self.C + other.C,
            tables=tables,
        )

    def __mul__(self, factor: float) -> Form:
        return Form(
            one=self.one * factor,
            D=self.D * factor,
            p=self.p * factor,
            Q=self.Q * factor,
            S=self.S * factor,
            C=self.C * factor,
            tables={n: v * factor for n, v in self.tables.items()},
        )

    @property
    def is_zero(self) -> bool:
        return not any(self.vector(())) and not any(self.tables.values())

    def vector(self, tables: Sequence[str]) -> Floats:
        """[6 + tables] coefficients in the order of the state."""
        return np.array([getattr(self, n) for n in _X] + [self.tables.get(t, 0.0) for t in tables])


@dataclass(frozen=True)
class Coverage:
    """The expected share of ``experts`` that n tokens visit, ``per_token`` each: c = n·q / (1 − q + n·q), q = k/E.

    Routers have favourites: a token visits an expert with a probability that differs by expert, taken as
    Beta(1, 1/q − 1) with mean q; c = 1 − E[(1 − probability)^n]. ``stages``: micro-batches that the tokens are split
    into. ``ranks`` > 1: whole experts lie on that many devices, and the slowest counts: the expected maximum of their
    loads, c + √(2 ln ranks · c (1 − c) / (E/ranks)), at most 1.
    """

    experts: int
    per_token: int
    stages: int = 1
    ranks: int = 1

    def at(self, tokens: float | Floats) -> Floats:
        n = np.asarray(tokens, dtype=np.float64) / self.stages
        c = n * self.per_token / (self.experts - self.per_token + n * self.per_token)
        if self.ranks > 1:
            spread = 2.0 * math.log(self.ranks) * self.ranks / self.experts
            c = np.minimum(1.0, c + np.sqrt(spread * c * (1.0 - c)))
        return np.asarray(c)


@dataclass(frozen=True)
class Rates:
    """What a group of devices sustains, efficiencies included: FLOP/s, bytes/s, network bytes/s (group totals).

    ``peak_flops_per_s`` and ``peak_bytes_per_s`` are the rates on paper, to which MFU and MBU refer.
    """

    flops_per_s: float
    bytes_per_s: float
    net_bytes_per_s: float
    peak_flops_per_s: float
    peak_bytes_per_s: float


@dataclass(frozen=True)
class Op:
    """One operator over all layers of one iteration; totals over the group of devices ``on``.

    ``seconds`` is what it takes beside FLOPs and bytes (latencies, launches, host work); it is charged to
    ``resource``, which also says what the operator is about.
    """

    name: str
    resource: Resource
    flops: Form = field(default_factory=Form)
    bytes: Form = field(default_factory=Form)
    net_bytes: Form = field(default_factory=Form)
    seconds: Form = field(default_factory=Form)
    on: str = "main"


@dataclass(frozen=True)
class OpCost:
    """One row of ``explain``."""

    op: str
    flops: float
    bytes: float
    net_bytes: float
    compute_s: float
    memory_s: float
    network_s: float
    overhead_s: float
    seconds: float
    """what the operator adds to the step."""
    resource: Resource
    """what the operator is about."""
    binds: Resource
    """where most of its time goes."""

    def to_dict(self) -> dict[str, float | str]:
        return dict(self.__dict__)


@dataclass(frozen=True)
class Rows:
    """A step model as numbers: a step lasts Σ over blocks of max over rows of coef · x.

    coef [rows, 6 + tables] seconds per unit of state; ends [rows] is 1 where a block ends; tables [tables, tokens].
    Each row is made of parts (part_row, part_op, part_resource, part_coef), so that time can be
    attributed after the fact. flops, bytes, net_bytes [6 + tables]: the step's totals as forms.
    """

    coef: Floats
    ends: npt.NDArray[np.int64]
    tables: Floats
    part_row: npt.NDArray[np.int64]
    part_op: tuple[str, ...]
    part_resource: tuple[Resource, ...]
    part_coef: Floats
    flops: Floats
    bytes: Floats
    net_bytes: Floats
    on: Mapping[tuple[str, Resource], Floats] = field(default_factory=dict)
    """by group of devices (``main``, or ``AWAY``) and resource: the form of the seconds that its operators spend on it,
    overlapped or not."""

    def seconds_on(self, *resources: Resource, group: str = "main") -> Floats:
        """[6 + tables] the form of the seconds that a group's operators spend on resources, overlapped or not."""
        nothing = np.zeros(self.coef.shape[1])
        return np.asarray(sum((self.on.get((group, r), nothing) for r in resources), nothing))

    def x(self, state: State) -> Floats:
        """The state with its table values."""
        n = min(int(state.tokens), self.tables.shape[1] - 1)
        return np.concatenate([state.x(), self.tables[:, n]])

    def seconds(self, state: State) -> float:
        v = self.coef @ self.x(state)
        blocks = np.concatenate([[0], np.cumsum(self.ends)[:-1]])
        return float(sum(v[blocks == b].max() for b in range(int(self.ends.sum()))))


@dataclass(frozen=True)
class Lanes:
    """What goes on at the same time: resources, which sides of operators take (latencies and host work always add), or groups
    of devices, on which whole operators run (those of no other lane on the first). An iteration lasts the maximum
    over ``vertices`` of Σ weight · the lane's time: (1, 0), (0, 1) overlap wholly, (1, 1) takes turns. The optimum of a linear
    programme over the lanes' times is such a maximum, over the vertices of its dual.
    """

    of: Literal["resource", "group"]
    names: tuple[str, ...]
    vertices: tuple[tuple[float, ...], ...]

    def lane(self, op: Op, resource: Resource) -> int | None:
        """Of the time that an operator's work takes on a resource; None: it always adds."""
        if self.of == "group":
            return self.names.index(op.on) if op.on in self.names else 0
        return self.names.index(resource) if resource in self.names else None

    def latency_lane(self, op: Op) -> int | None:
        """Of its latencies and host work."""
        return self.lane(op, "overhead") if self.of == "group" else None


@dataclass(frozen=True)
class StepModel:
    """The operators of an iteration and how their times combine.

    ``sum``: an operator's FLOPs and bytes take turns (additive roofline); ``max``: an operator takes its
    slower side (classic roofline). Latencies and host work always add. ``Lanes``: operators overlap.
    """

    ops: tuple[Op, ...]
    rates: Mapping[str, Rates]
    combine: Literal["sum", "max"] | Lanes = "sum"
    tables: Mapping[str, Coverage] = field(default_factory=dict)

    def with_ops(self, ops: Sequence[Op]) -> StepModel:
        return replace(self, ops=tuple(ops))

    def explain(self, state: State) -> list[OpCost]:
        """One row per operator: work, time by resource, and what binds."""
        at = {n: float(t.at(state.tokens)) for n, t in self.tables.items()}
        x = state.x()

        def value(f: Form) -> float:
            return float(f.vector(()) @ x) + sum(c * at[n] for n, c in f.tables.items())

        timed: list[tuple[Op, float, float, float, dict[Resource, float], float]] = []
        for op in self.ops:
            r = self.rates[op.on]
            flops, size, net = value(op.flops), value(op.bytes), value(op.net_bytes)
            by: dict[Resource, float] = {
                "compute": flops / r.flops_per_s,
                "memory": size / r.bytes_per_s,
                "network": net / r.net_bytes_per_s if net else 0.0,
                "overhead": 0.0,
            }
            timed.append((op, flops, size, net, by, value(op.seconds)))
        weights = self._weights([(op, by, extra) for op, *_, by, extra in timed])
        out = []
        for op, flops, size, net, by, extra in timed:
            seconds = extra
            if isinstance(self.combine, Lanes):
                seconds *= weights.get(self.combine.latency_lane(op), 1.0)
                seconds += sum(
                    weights.get(self.combine.lane(op, k), 1.0) * t for k, t in by.items()
                )
            else:
                seconds += sum(by.values()) if self.combine == "sum" else max(by.values())
            by[op.resource] += extra
            binds = max((op.resource, *RESOURCES), key=lambda k: by[k])  # ties: what it is about
            out.append(
                OpCost(
                    op=op.name,
                    flops=flops,
                    bytes=size,
                    net_bytes=net,
                    compute_s=by["compute"],
                    memory_s=by["memory"],
                    network_s=by["network"],
                    overhead_s=by["overhead"],
                    seconds=seconds,
                    resource=op.resource,
                    binds=binds,
                )
            )
        return out

    def _weights(
        self, timed: Sequence[tuple[Op, Mapping[Resource, float], float]]
    ) -> dict[int | None, float]:
        """Of the lanes, at the vertex that is the longest for these times."""
        lanes = self.combine
        if not isinstance(lanes, Lanes):
            return {}
        total = np.zeros(len(lanes.names))
        for op, by, extra in timed:
            for at, seconds in ((lanes.latency_lane(op), extra), *((lanes.lane(op, k), t) for k, t in by.items())):  # fmt: skip
                if at is not None:
                    total[at] += seconds
        longest = int(np.argmax(np.array(lanes.vertices) @ total))
        return dict(enumerate(lanes.vertices[longest]))

    def seconds(self, state: State) -> float:
        """How long an iteration in this state lasts."""
        return sum(row.seconds for row in self.explain(state))

    def lower(self, max_tokens: int) -> Rows:
        """As numbers, tables up to ``max_tokens`` tokens per iteration.

        ModelError when a coefficient is not a finite number ≥ 0 (a rate of zero, a negative size).
        """
        names = tuple(self.tables)
        n = np.arange(max_tokens + 1, dtype=np.float64)
        tables = np.array([self.tables[t].at(n) for t in names]).reshape(len(names), max_tokens + 1)
        lanes = self.combine if isinstance(self.combine, Lanes) else None
        parts: list[tuple[int, str, Resource, Floats]] = []
        on: dict[tuple[str, Resource], Floats] = {}

        def spent(op: Op, resource: Resource, c: Floats) -> None:
            key = (AWAY if op.on == AWAY else "main", resource)
            on[key] = on.get(key, 0.0) + c

        row = 0
        # In a sum everything adds up: one block of one row. In a max each operator is a block with a row
        # per resource, and all that always adds is one more block. With lanes there is a block with a row per vertex.
        always = 0
        if self.combine == "max":
            row = 1
        blocks: list[int] = []
        for op in self.ops:
            r = self.rates[op.on]
            sides: list[tuple[Resource, Form, float]] = [
                ("compute", op.flops, r.flops_per_s),
                ("memory", op.bytes, r.bytes_per_s),
                ("network", op.net_bytes, r.net_bytes_per_s),
            ]
            first = row
            for resource, form, rate in sides:
                if form.is_zero:
                    continue
                if not rate > 0:
                    raise ModelError(
                        f"{op.name}: the {resource} rate is {rate:g}", "give a rate above zero"
                    )
                c = form.vector(names) / rate
                spent(op, resource, c)
                if lanes is not None:
                    parts += _weighted(lanes, lanes.lane(op, resource), op.name, resource, c)
                    continue
                target = always
                if self.combine == "max":
                    target, row = row, row + 1
                parts.append((target, op.name, resource, c))
            if row > first:
                blocks.append(row - first)
            if not op.seconds.is_zero:
                c = op.seconds.vector(names)
                spent(op, op.resource, c)
                if lanes is not None:
                    parts += _weighted(lanes, lanes.latency_lane(op), op.name, op.resource, c)
                else:
                    parts.append((always, op.name, op.resource, c))
        sizes = [len(lanes.vertices)] if lanes else [1, *blocks] if self.combine == "max" else [1]
        count = sum(sizes)
        if count > 62:
            raise ModelError(
                f"the step has {count} rows; the clock takes at most 62", "merge operators"
            )
        coef = np.zeros((count, 6 + len(names)))
        for target, _, _, c in parts:
            coef[target] += c
        ends = np.zeros(count, dtype=np.int64)
        ends[np.cumsum(sizes) - 1] = 1
        for target, name, resource, c in parts:
            if not np.isfinite(c).all() or (c < 0).any():
                raise ModelError(
                    f"{name}: {resource} costs {_show(c)} s per unit of state (row {target})",
                    "sizes must be ≥ 0 and rates above zero",
                )
        return Rows(
            coef=coef,
            ends=ends,
            tables=tables,
            part_row=np.array([t for t, _, _, _ in parts], dtype=np.int64),
            part_op=tuple(name for _, name, _, _ in parts),
            part_resource=tuple(res for _, _, res, _ in parts),
            part_coef=np.array([c for _, _, _, c in parts]).reshape(len(parts), 6 + len(names)),
            flops=self._total([op.flops for op in self.ops], names),
            bytes=self._total([op.bytes for op in self.ops], names),
            net_bytes=self._total([op.net_bytes for op in self.ops], names),
            on=on,
        )

    @staticmethod
    def _total(forms: Sequence[Form], names: Sequence[str]) -> Floats:
        return (
            np.sum([f.vector(names) for f in forms], axis=0) if forms else np.zeros(6 + len(names))
        )


def _weighted(
    lanes: Lanes, lane: int | None, op: str, resource: Resource, c: Floats
) -> list[tuple[int, str, Resource, Floats]]:
    """A part of each vertex' row."""
    return [
        (i, op, resource, c * (1.0 if lane is None else v[lane]))
        for i, v in enumerate(lanes.vertices)
    ]


def _show(c: Floats) -> str:
    bad = [v for v in c if not (math.isfinite(v) and v >= 0)]
    return f"{bad[0]:g}"

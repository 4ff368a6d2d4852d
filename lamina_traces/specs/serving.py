"""What is served on what: the serving spec, frozen and without callables, so that it can be a TOML file.

A *pool* is replicas of a kind; a *replica* is one engine; a *group* is devices inside one replica.
Prefill/decode pools, attention groups, pipelines and expert parallelism can be stated; what the
simulator does not know yet is refused by ``check`` with a ModelError, never ignored.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal, cast

from ..costs import (
    Efficiency,
    KvMemory,
    Parallel,
    StepModel,
    attention_memory,
    era,
    is_share,
    kv_memory,
    offloaded,
    throttled,
    transformer,
)
from ..errors import ModelError, UnknownName, UsageError
from ..hardware import BYTES, Device, Model, device, link, model
from ..units import parse_duration_ns

MOST_REPLICAS = 10_000
MOST_SEQUENCES, MOST_TOKENS = 1_000_000, 10_000_000
"""of an iteration; tables are as long."""


@dataclass(frozen=True)
class Group:
    """``n`` = tp·pp·dp devices of a kind that work as one (costs.Parallel says how they share the model)."""

    gpu: str
    n: int = 1
    tp: int = 1
    pp: int = 1
    dp: int = 1
    ep: int = 1
    clock: float = 1.0
    """share of the highest clock that the devices are locked to."""
    cap_w: float | None = None
    """power limit of each device, watts."""
    part: Literal["main", "attention"] = "main"

    @property
    def parallel(self) -> Parallel:
        return Parallel(self.tp, self.pp, self.dp, self.ep)


@dataclass(frozen=True)
class Kv:
    """How device memory becomes KV blocks. ``dtype`` None: as the weights' publisher states, else
    two bytes per element. ``usual_context``: tokens of a usual sequence, by which layers with a window are costed."""

    block_size: int = 16
    utilisation: float = 0.9
    reserve_gb: float = 2.0
    watermark: float = 0.01
    """share of the blocks that an admission leaves free."""
    dtype: str | None = None
    usual_context: float = 4096.0
    preemption: Literal["recompute", "swap"] = "recompute"
    host_link: str = "host-pcie5"
    """over which a device swaps keys and values (catalog links)."""


@dataclass(frozen=True)
class Batch:
    """Continuous batching: the limits of one iteration. Defaults are vLLM's."""

    max_num_seqs: int = 256
    max_num_batched_tokens: int = 2048
    chunked_prefill: bool = True
    """False: prefills go first, whole, in iterations of their own, and who decodes waits."""
    max_context: int | None = None
    """longest input + output; None: the model's own limit."""


@dataclass(frozen=True)
class Replica:
    """``groups``: the devices that hold the weights and, where they are others, those that hold keys and values and compute decode
    attention. ``staggered``: with these, two half batches take turns."""

    groups: tuple[Group, ...]
    kv: Kv = field(default_factory=Kv)
    batch: Batch = field(default_factory=Batch)
    staggered: bool = False


@dataclass(frozen=True)
class Pool:
    replica: Replica
    count: int = 1
    role: Literal["both", "prefill", "decode"] = "both"


@dataclass(frozen=True)
class Scale:
    """As many replicas as have ``requests`` each, waiting or served; looked at every ``period_s``. A replica takes requests
    ``load_s`` after it was called for. ``start``: replicas at the beginning."""

    requests: float = 32.0
    least: int = 1
    start: int = 1
    period_s: float = 15.0
    load_s: float = 60.0


@dataclass(frozen=True)
class Link:
    """From prefill to decode pools (``prefill``, ``decode``), or from a replica's main to its attention group (``main``,
    ``attention``): bytes in one direction, and seconds: of the way, there of a round trip."""

    source: str
    target: str
    gb_s: float
    latency_s: float = 0.0


@dataclass(frozen=True)
class Serving:
    """``era`` names a preset of costs.efficiency, ``efficiency`` overrides single values of it (shares of
    peak; seconds). ``prices``: USD per hour of one device, by name; they go before any price file.
    """

    model: str
    pools: tuple[Pool, ...]
    dtype: str = "bf16"
    era: str = "2025"
    efficiency: Mapping[str, float] = field(default_factory=dict)
    calibration: str | None = None
    """where ``efficiency`` is from, as ``fitted: 12 points…`` or ``measured: …``; None: assumed."""
    combine: Literal["sum", "max"] = "sum"
    links: tuple[Link, ...] = ()
    route: str = "round-robin"
    rank: str = "fcfs"
    reuse: Literal["none", "prefix", "auto"] = "none"
    """prefix: blocks of prompts that begin alike are computed once while they stay in memory; auto: where the requests carry
    the ids of such blocks."""
    control: Literal["none", "scale"] = "none"
    scale: Scale = field(default_factory=Scale)
    prices: Mapping[str, float] = field(default_factory=dict)

    @property
    def shape(self) -> Model:
        return model(self.model)

    @property
    def replicas(self) -> int:
        return sum(p.count for p in self.pools)

    @property
    def devices(self) -> int:
        return sum(p.count * sum(g.n for g in p.replica.groups) for p in self.pools)


def simple(
    model_name: str,
    gpu: str,
    *,
    tp: int = 1,
    pp: int = 1,
    dp: int = 1,
    ep: int = 1,
    replicas: int = 1,
    dtype: str = "auto",
    kv_dtype: str | None = None,
    route: str = "round-robin",
    rank: str = "fcfs",
    reuse: str = "none",
    prefill: str = "chunked",
    preempt: str = "recompute",
    max_num_seqs: int = Batch.max_num_seqs,
    max_num_batched_tokens: int = Batch.max_num_batched_tokens,
    scale: str | None = None,
    era: str = "2025",
) -> Serving:
    """The spec of the command line's flags: ``replicas`` equal engines of tp·pp·dp devices. Checked.

    ``dtype`` "auto": the weights as the checkpoint of that name is published. ``prefill``: "chunked" beside decodes, "first" in iterations of
    their own, or "apart:N" by N of the replicas, the others decode. ``scale``: as ``scaled`` reads it, in place of
    ``replicas``.
    """
    scaling = None if scale is None else scaled(scale)
    if scaling is not None:
        if replicas != 1:
            raise UsageError(f"--scale {scale} says how many replicas there are, and so does --replicas {replicas}", "give one of them")  # fmt: skip
        replicas = scaling[0]
    group = Group(device(gpu).name, n=tp * pp * dp, tp=tp, pp=pp, dp=dp, ep=ep)
    shape = model(model_name)
    how, _, some = prefill.partition(":")
    if how not in ("chunked", "first", "apart") or (how == "apart") != some.isdigit():
        raise UnknownName("way to prefill", prefill, ("chunked", "first", "apart:1"))
    kv = Kv(
        dtype=kv_dtype or shape.kv_native, preemption=cast(Literal["recompute", "swap"], preempt)
    )
    batch = Batch(max_num_seqs, max_num_batched_tokens, chunked_prefill=how != "first")
    replica = Replica((group,), kv=kv, batch=batch)
    pools: tuple[Pool, ...] = (Pool(replica, count=replicas),)
    if how == "apart":
        if not 0 < int(some) < replicas:
            raise UsageError(f"{some} of {replicas} replicas cannot prefill for the others", "give --replicas 2 or more, and fewer than these after apart:")  # fmt: skip
        pools = (Pool(replica, int(some), "prefill"), Pool(replica, replicas - int(some), "decode"))
    spec = Serving(
        shape.name,
        pools,
        dtype=shape.native if dtype == "auto" else dtype,
        route=route,
        rank=rank,
        reuse=cast(Literal["none", "prefix", "auto"], reuse),
        era=era,
    )
    if scaling is not None:
        spec = replace(spec, control="scale", scale=scaling[1])
    return check(spec)


def scaled(text: str) -> tuple[int, Scale]:
    """``"1..4:load=30s,requests=16"``: most replicas, and the rule by which there are from 1 to 4. Parts: ``requests`` and
    ``start`` (numbers), ``load`` and ``period`` (durations). Raises UsageError, UnknownName."""
    match = re.fullmatch(r"(\d+)\.\.(\d+)(?::(.+))?", text)
    if match is None:
        raise UsageError(f"--scale {text!r} is not MIN..MAX", "write it like 1..4:load=30s,requests=16")  # fmt: skip
    least, most = int(match[1]), int(match[2])
    if not 1 <= least <= most:
        raise UsageError(f"--scale {text}: from {least} to {most} replicas", "give MIN from 1 to MAX")  # fmt: skip
    rule: dict[str, Any] = {"least": least, "start": least}
    for part in match[3].split(",") if match[3] else ():
        key, _, value = part.partition("=")
        if key in ("load", "period"):
            rule[f"{key}_s"] = 0.0 if value in ("0", "0s") else parse_duration_ns(value) / 1e9
        elif key in ("requests", "start"):
            try:
                rule[key] = int(value) if key == "start" else float(value)
            except ValueError:
                raise UsageError(f"--scale: {part} is no number", f"write it like {key}=2") from None  # fmt: skip
        else:
            raise UnknownName("part of --scale", key, ("requests", "load", "period", "start"))
    return most, Scale(**rule)


def main_group(pool: Pool) -> Group:
    """The group that holds the weights."""
    return next(g for g in pool.replica.groups if g.part == "main")


def attention_group(pool: Pool) -> Group | None:
    """The group that holds keys and values, if the main one does not."""
    return next((g for g in pool.replica.groups if g.part == "attention"), None)


def group_device(group: Group) -> Device:
    """Its device, under its limits of clock and power."""
    return device(group.gpu).limited(group.clock, group.cap_w)


def efficiency(spec: Serving) -> Efficiency:
    """The era's values under the spec's own."""
    base = era(spec.era)
    known = base.quantities()
    for name, value in spec.efficiency.items():
        if name not in known:
            raise UnknownName("efficiency", name, known)
        unit = known[name].unit
        least, most = (1e-3, 1.0) if is_share(name) else (0.0, 1.0 if unit == "s" else 1e3)
        if not least <= value <= most:
            raise ModelError(
                f"efficiency {name} = {value:g} is impossible",
                f"give {least:g} to {most:g} {unit}".strip(),
            )
    basis, _, source = (spec.calibration or "").partition(": ")
    bases: tuple[Literal["fitted", "measured"], ...] = ("fitted", "measured")
    for known_basis in bases:
        if basis == known_basis:
            return base.with_values(spec.efficiency, source, known_basis)
    return base.with_values(spec.efficiency, "the spec", "assumed")


def step_model(spec: Serving, pool: int = 0) -> StepModel:
    """The operators of one iteration of that pool's replicas."""
    g, kv = main_group(spec.pools[pool]), spec.pools[pool].replica.kv

    def at(limited: Device) -> StepModel:
        return transformer(
            spec.shape,
            limited,
            efficiency(spec),
            g.parallel,
            dtype=spec.dtype,
            kv_dtype=kv.dtype,
            combine=spec.combine,
            context=kv.usual_context,
        )

    own = group_device(g)
    step = at(own)
    slower = throttled(own, step)
    step = step if slower == own else at(slower)
    away = attention_group(spec.pools[pool])
    if away is None:
        return step
    gb_s, round_trip_s = attention_link(spec, pool)
    return offloaded(
        step, spec.shape, group_device(away), away.n, efficiency(spec), link_bytes_per_s=gb_s * 1e9, round_trip_s=round_trip_s,
        staggered=spec.pools[pool].replica.staggered, kv_dtype=kv.dtype, context=kv.usual_context,
    )  # fmt: skip


def stated_link(spec: Serving, source: str, target: str) -> Link | None:
    """The first such link of the spec."""
    return next((x for x in spec.links if (x.source, x.target) == (source, target)), None)


def attention_link(spec: Serving, pool: int = 0) -> tuple[float, float]:
    """(GB/s in one direction, seconds of a round trip) between that pool's groups: the spec's link, else InfiniBand NDR of as many
    devices as the smaller group has."""
    stated = stated_link(spec, "main", "attention")
    if stated is not None:
        return stated.gb_s, stated.latency_s
    usual = link("ib-ndr")
    n = min(g.n for g in spec.pools[pool].replica.groups)
    return usual.gb_s.value * n, 2.0 * usual.latency_s.value


def kv_of(spec: Serving, pool: int = 0) -> KvMemory:
    """Memory of one replica of that pool. ModelError when the model does not fit: with an attention group weights and reserve
    may fill the main one's memory."""
    replica, g = spec.pools[pool].replica, main_group(spec.pools[pool])
    kv = replica.kv
    away = attention_group(spec.pools[pool])
    whole = kv_memory(
        spec.shape,
        device(g.gpu),
        g.parallel,
        dtype=spec.dtype,
        kv_dtype=kv.dtype,
        utilisation=kv.utilisation if away is None else 1.0,
        reserve_gb=kv.reserve_gb,
        block_tokens=kv.block_size,
        sequences=replica.batch.max_num_seqs,
        context=kv.usual_context,
    )
    if away is None:
        return whole
    return attention_memory(
        spec.shape, device(away.gpu), away.n, kv_dtype=kv.dtype, utilisation=kv.utilisation, reserve_gb=kv.reserve_gb,
        block_tokens=kv.block_size, context=kv.usual_context,
    )  # fmt: skip


def swap_s_per_token(spec: Serving, pool: int = 0) -> float | None:
    """Seconds to move the keys and values of one token to the host of that pool's replicas; None where they are not swapped."""
    kv, g = spec.pools[pool].replica.kv, main_group(spec.pools[pool])
    if kv.preemption != "swap":
        return None
    return kv_of(spec, pool).bytes_per_token / (link(kv.host_link).gb_s.value * 1e9 * g.n)


def hand_over_s(spec: Serving, pool: int = 0) -> tuple[float, float]:
    """(seconds, seconds for each token) that keys and values take from that pool, which prefills, to where they decode: over the
    spec's link from prefill to decode, else over InfiniBand NDR of each device. Links are not shared with others."""
    if spec.pools[pool].role != "prefill":
        return 0.0, 0.0
    size = kv_of(spec, pool).bytes_per_token
    stated = stated_link(spec, "prefill", "decode")
    if stated is not None:
        return stated.latency_s, size / (stated.gb_s * 1e9)
    usual = link("ib-ndr")
    return usual.latency_s.value, size / (usual.gb_s.value * 1e9 * main_group(spec.pools[pool]).n)


def check(spec: Serving) -> Serving:
    """The spec itself, if it is possible and the simulator knows how to run it.

    Raises UnknownName (model, GPU, dtype…), UsageError (a number out of range), ModelError (does not
    fit, is not simulated yet).
    """
    shape = spec.shape
    if spec.dtype not in BYTES:
        raise UnknownName("dtype", spec.dtype, BYTES)
    if not spec.pools:
        raise UsageError("the spec has no pool", "add [[pools]] with a replica")
    if spec.combine not in ("sum", "max"):
        raise UnknownName("combine", spec.combine, ("sum", "max"))
    for what, given, known in (
        ("reuse", spec.reuse, ("none", "prefix", "auto")),
        ("control", spec.control, ("none", "scale")),
    ):
        if given not in known:
            raise UnknownName(what, given, known)
    roles = {p.role for p in spec.pools}
    if roles & {"prefill", "decode"} and roles != {"prefill", "decode"}:
        raise ModelError(
            f"pools of role {', '.join(sorted(roles))}: prefill and decode pools need each other, and no others",
            "give one pool or more of each",
        )
    for x in spec.links:
        if (x.source, x.target) not in (("prefill", "decode"), ("main", "attention")):
            raise ModelError(f"a link from {x.source!r} to {x.target!r} is not simulated yet", "use 'prefill' to 'decode', or 'main' to 'attention'")  # fmt: skip
        if not (1e-3 <= x.gb_s <= 1e6 and 0 <= x.latency_s <= 60):
            raise UsageError(f"a link of {x.gb_s:g} GB/s and {x.latency_s:g} s", "give 0.001 to 1e6 GB/s, and 0 to 60 s")  # fmt: skip
    if spec.control == "scale":
        s = spec.scale
        for name, value, least, most in (
            ("requests", s.requests, 1e-9, 1e9), ("period_s", s.period_s, 1e-3, 1e9), ("load_s", s.load_s, 0, 1e9),
            ("least", s.least, 1, spec.replicas), ("start", s.start, 1, spec.replicas),
        ):  # fmt: skip
            if not least <= value <= most:
                raise UsageError(f"scale: {name} = {value:g}", f"give {least:g} to {most:g}")
        if "prefill" in roles:
            raise ModelError("prefill and decode pools are not scaled yet", "set control = 'none'")
    if spec.replicas > MOST_REPLICAS:
        raise UsageError(f"{spec.replicas:,} replicas", f"give {MOST_REPLICAS:,} at most")
    for i, pool in enumerate(spec.pools):
        where = f"pools[{i}]"
        replica = pool.replica
        if pool.role not in ("both", "prefill", "decode"):
            raise UnknownName("role", pool.role, ("both", "prefill", "decode"))
        if sorted(g.part for g in replica.groups) not in (["main"], ["attention", "main"]):
            raise ModelError(
                f"{where}: a replica of {len(replica.groups)} groups ({', '.join(g.part for g in replica.groups)})",
                "give one group with part = 'main' and at most one with part = 'attention'",
            )
        for away in (g for g in replica.groups if g.part == "attention"):
            device(away.gpu)
            _at_least_one(where, n=away.n)
            if (away.tp, away.pp, away.dp, away.ep) != (1, 1, 1, 1):
                raise ModelError(f"{where}: an attention group shares heads among its n devices", "leave tp, pp, dp and ep out")  # fmt: skip
            if pool.role == "prefill" or replica.kv.preemption == "swap":
                raise ModelError(f"{where}: an attention group serves decoding without swapping", "use role = 'both' or 'decode', preemption = 'recompute'")  # fmt: skip
        if replica.staggered and len(replica.groups) == 1:
            raise ModelError(f"{where}: staggered batches need an attention group", "add one, or set staggered = false")  # fmt: skip
        g = main_group(pool)
        device(g.gpu)
        _at_least_one(where, count=pool.count, n=g.n, tp=g.tp, pp=g.pp, dp=g.dp, ep=g.ep)
        g.parallel.check(shape)
        if g.n != g.tp * g.pp * g.dp:
            raise ModelError(
                f"{where}: {g.n} devices for tp = {g.tp}, pp = {g.pp}, dp = {g.dp}",
                "set n = tp·pp·dp; more copies of the weights are more replicas",
            )
        b, kv = replica.batch, replica.kv
        _at_least_one(
            where,
            max_num_seqs=b.max_num_seqs,
            max_num_batched_tokens=b.max_num_batched_tokens,
            block_size=kv.block_size,
        )
        if b.chunked_prefill and b.max_num_seqs > b.max_num_batched_tokens:
            raise UsageError(
                f"{where}: max_num_seqs = {b.max_num_seqs} exceeds max_num_batched_tokens = {b.max_num_batched_tokens}",
                "each decoding sequence takes one token of the budget",
            )
        if b.max_context is not None and not 2 <= b.max_context <= shape.max_context:
            raise UsageError(
                f"{where}: max_context = {b.max_context}",
                f"{shape.name} takes 2 to {shape.max_context} tokens",
            )
        for name, number, limit in (
            ("max_num_seqs", b.max_num_seqs, MOST_SEQUENCES),
            ("max_num_batched_tokens", b.max_num_batched_tokens, MOST_TOKENS),
            ("block_size", kv.block_size, max(16, shape.max_context)),
        ):
            if number > limit:
                raise UsageError(f"{where}: {name} = {number:,}", f"give {limit:,} at most")
        if not 0 < kv.utilisation <= 1 or not 0 <= kv.watermark < 1 or not 0 <= kv.reserve_gb < 1e6:
            raise UsageError(
                f"{where}: utilisation {kv.utilisation:g}, watermark {kv.watermark:g}, reserve {kv.reserve_gb:g} GB",
                "0 < utilisation ≤ 1, 0 ≤ watermark < 1, reserve ≥ 0",
            )
        if kv.dtype is not None and kv.dtype not in BYTES:
            raise UnknownName("dtype", kv.dtype, BYTES)
        if not 1 <= kv.usual_context < 1e9:
            raise UsageError(
                f"{where}: usual_context {kv.usual_context:g}", "give tokens of a usual sequence"
            )
        if kv.preemption not in ("recompute", "swap"):
            raise UnknownName("preemption", kv.preemption, ("recompute", "swap"))
        kv_of(spec, i)
        step_model(spec, i)
        swap_s_per_token(spec, i)
    for name, price in spec.prices.items():
        device(name)
        if not 0 <= price < 1e6:
            raise UsageError(
                f"price of {name}: {price:g} USD/h", "give USD per hour of one device, 0 or more"
            )
    return spec


def _at_least_one(where: str, **numbers: int) -> None:
    for name, value in numbers.items():
        if value < 1:
            raise UsageError(f"{where}: {name} = {value}", f"give {name} ≥ 1")

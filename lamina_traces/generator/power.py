"""Makes ``power_samples``: devices whose sum goes as a profile says, read at the source's period.

The sum of the devices of one kind of reading is one process (``aspects.power_series``): levels that are stayed at for geometric
times, a correlated rest beside them, both on the load-duration curve, and no rise steeper than any of the source's. Each
device has its share of the sum, by its mean, and swings of its own that cancel out between the devices; they are as wide
as it takes for the devices' peaks to add up to the recorded multiple of the sum's peak (diversity).

Every random number is keyed by the reading it is for, so rows do not depend on how time is cut.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import polars as pl
from scipy import special

from ..aspects import power as power_aspect
from ..aspects.power import Power
from ..aspects.power_devices import Device
from ..aspects.power_groups import Group
from ..aspects.power_series import PowerSeries
from ..errors import ModelError, UsageError
from ..profile import Part
from ..units import NS_PER_S
from .maker import Made, State
from .plan import block_length
from .randomness import key, uniforms

Array = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

BLOCK_ROWS = 65_536
READINGS = {"average": True, "instant": False}


@dataclass(frozen=True, eq=False)
class _Together:
    """The devices of one kind of reading and how their sum goes. ``share`` [devices] of the sum, ``own_w`` the spread of
    what each has of its own, ``most_w`` [devices] the highest it may read."""

    name: str
    series: PowerSeries
    step_ns: int
    devices: tuple[Device, ...]
    names: tuple[str, ...]
    share: Array
    own_w: float
    most_w: Array
    where: dict[str, str]
    phases: tuple[str, ...]
    """by level; empty where none is recorded."""

    @property
    def back(self) -> int:
        """Readings kept to hold rises against."""
        return max((n for n, _ in self.series.rises), default=0)


class PowerMaker:
    """``power_samples`` from the aspect ``power`` of a part's streams. ``factor`` must be 1: power has no rate.

    Raises ModelError where a stream has no power over time (named windows and published curves have none).
    """

    table = "power_samples"

    def __init__(self, part: Part, seed: int, *, factor: float = 1.0) -> None:
        if factor != 1.0:
            raise UsageError(
                "power has no rate to scale", "leave --rate out; it scales requests, not watts"
            )
        self._seed = seed
        self._groups: list[_Together] = []
        for i, stream in enumerate(part.streams):
            law = stream.aspects.get(power_aspect.NAME)
            if isinstance(law, Power):
                self._groups += _together(law, f"{i}", dict(stream.where))
        if not self._groups:
            raise ModelError(
                f"the profile has no power over time for {part.table}",
                "fit a trace of power_samples: readings of devices with their times",
            )
        per_ns = math.fsum(len(g.names) / g.step_ns for g in self._groups)
        self.block_ns = block_length(per_ns * NS_PER_S, BLOCK_ROWS)

    def expected_rows(self, duration_ns: int) -> float:
        """Rows of a trace of this length: exact."""
        return float(sum(len(g.names) * -(-duration_ns // g.step_ns) for g in self._groups))

    def start(self) -> State:
        state: State = {}
        for i, g in enumerate(self._groups):
            s = g.series
            u = float(self._uniform(i, "start", np.zeros(1))[0])
            level = min(int(np.searchsorted(np.cumsum(s.share), u)), len(s.share) - 1)
            stay = s.dwell(level, self._uniform(i, "stay", np.zeros(1)))[0]
            state[f"{i}.level"] = np.array(level)
            state[f"{i}.left"] = np.array(stay)
            state[f"{i}.stays"] = np.array(1)
            state[f"{i}.beside"] = self._normal(i, "beside", np.arange(-len(s.phis), 0))
            state[f"{i}.own"] = self._normal(i, "own", np.arange(-len(g.names), 0))
            state[f"{i}.before"] = np.zeros(0)
        return state

    def make(self, block: int, end_ns: int, state: State) -> Made:
        """The readings of a block. The walk over levels and the sum are done at once, the devices when asked for."""
        after: State = {}
        begin_ns = block * self.block_ns
        sums: list[tuple[_Together, int, Array, Ints, Array]] = []
        rows = 0
        for i, g in enumerate(self._groups):
            first, last = -(-begin_ns // g.step_ns), -(-end_ns // g.step_ns)
            level, walked = self._levels(i, g, state, first, last)
            at = np.arange(first, last)
            after |= {f"{i}.{k}": v for k, v in walked.items()}
            watts, apart = np.zeros(0), np.zeros((len(g.names), 0))
            kept = {k: state[f"{i}.{k}"] for k in ("beside", "before", "own")}
            if len(at):
                c = len(g.series.phis)
                normal = self._normal(i, "beside", at[None, :] * c + np.arange(c)[:, None])
                beside, kept["beside"] = g.series.beside(normal, kept["beside"])
                watts = g.series.rising(g.series.power(level, beside), kept["before"])
                last_w = np.concatenate([kept["before"], watts])
                kept["before"] = last_w[len(last_w) - min(len(last_w), g.back) :]
                apart, kept["own"] = self._apart(i, g, at, kept["own"])
            after |= {f"{i}.{k}": v for k, v in kept.items()}
            sums.append((g, first, watts, level, apart))
            rows += len(at) * len(g.names)

        def frame() -> pl.DataFrame:
            frames = [_rows(*s) for s in sums]
            return pl.concat(frames, how="diagonal").sort("arrival_ns", maintain_order=True)

        return Made(rows, frame, after)

    def _levels(
        self, i: int, g: _Together, state: State, first: int, last: int
    ) -> tuple[Ints, State]:
        """[last − first] the level at each step, and the walk's state after them. A chain step is ``fold`` steps long."""
        s = g.series
        level, left, stays = (int(state[f"{i}.{k}"]) for k in ("level", "left", "stays"))
        chain_first, chain_last = -(-first // s.fold), -(-last // s.fold)
        inside = first % s.fold and chain_first > 0
        need = chain_last - chain_first
        runs: list[tuple[int, int]] = [(level, 1)] if inside else []
        done = 0
        while done < need:
            if left <= 0:
                u = self._uniform(i, "jump", np.array([stays]))[0]
                level = min(int(np.searchsorted(s.jump[level], u)), len(s.share) - 1)
                left = int(s.dwell(level, self._uniform(i, "stay", np.array([stays])))[0])
                stays += 1
            step = min(left, need - done)
            runs.append((level, step))
            left -= step
            done += step
        after = {"level": np.array(level), "left": np.array(left), "stays": np.array(stays)}
        if not runs:
            return np.zeros(0, dtype=np.int64), after
        chain = np.repeat(
            np.array([r[0] for r in runs], dtype=np.int64), np.array([r[1] for r in runs])
        )
        at = np.arange(first, last) // s.fold - (chain_first - (1 if inside else 0))
        return chain[at], after

    def _apart(self, i: int, g: _Together, at: Ints, last: Array) -> tuple[Array, Array]:
        """[devices, n] what each device has of its own, in W, 0 in sum; and its standard scores at the end."""
        d = len(g.names)
        if d == 1 or g.own_w <= 0:
            return np.zeros((d, len(at))), last
        out = np.empty((d, len(at)))
        after = np.empty(d)
        slowest = int(np.argmax(g.series.weights))
        one = _single(g.series, slowest)
        for k in range(d):
            normal = self._normal(i, "own", at[None, :] * d + k)
            out[k], end = one.beside(normal, last[k : k + 1])
            after[k] = end[0]
        out -= out.mean(axis=0)
        return out * (g.own_w * math.sqrt(d / (d - 1))), after

    def _uniform(self, i: int, purpose: str, things: npt.NDArray[np.generic]) -> Array:
        return uniforms(key(self._seed, "power", i, purpose), things)

    def _normal(self, i: int, purpose: str, things: npt.NDArray[np.generic]) -> Array:
        return np.asarray(special.ndtri(self._uniform(i, purpose, things)))


def _single(series: PowerSeries, c: int) -> PowerSeries:
    return replace(series, weights=np.ones(1), phis=series.phis[c : c + 1])


def _together(law: Power, name: str, where: dict[str, str]) -> list[_Together]:
    """The kinds of reading of one stream, each with its devices."""
    if law.evidence != "samples":
        raise ModelError(
            f"power of the profile is known by {law.evidence} only, not over time",
            "fit a trace of power_samples: readings of devices with their times",
        )
    out = []
    for g in law.groups:
        if g.scope != "all":
            continue
        mine = tuple(d for d in law.devices if d.reading == g.reading)
        known = sum(_mean_w(d) for d in mine)
        rest = max(0, g.devices - len(mine))
        per = max(0.0, g.mean_w - known) / rest if rest else 0.0
        means = np.array([_mean_w(d) for d in mine] + [per] * rest)
        if means.sum() <= 0:
            means = np.ones(len(means))
        steepest = (
            mine[0].max_rise_w
            if len(mine) == 1 and not rest and mine[0].max_rise_w > 0
            else math.inf
        )
        series = PowerSeries.of(g, steepest)
        share = means / means.sum()
        names = [d.device for d in mine]
        names += [f"{mine[0].domain if mine else 'device'}{len(mine) + k}" for k in range(rest)]
        most = [d.max_w for d in mine] + [math.inf] * rest
        out.append(
            _Together(
                name, series, max(1, round(g.step_s * NS_PER_S)), mine, tuple(names), share,
                _own_w(g, series, share), np.array(most), where, _phase_names(law, series),
            )
        )  # fmt: skip
    return out


def _mean_w(d: Device) -> float:
    return d.sample_mean_w if d.mean_w is None else d.mean_w


def _own_w(g: Group, series: PowerSeries, share: Array) -> float:
    """Spread of a device's own swings, by which the devices' peaks add up to what the diversity factor says.

    At the uppermost level, of mean μ and spread s, the sum peaks at μ + q·s. A device that has the share a of it and swings
    of its own of the spread σ peaks q·(√(a²s² + σ²) − a·s) above its share of that peak; σ by bisection."""
    if len(share) < 2 or g.diversity <= 1:
        return 0.0
    mean, spread = series.uppermost()
    q = min(max((g.peak_w - mean) / max(spread, 1e-9), 2.0), 5.0)
    wanted = (g.diversity - 1) * g.peak_w
    low, high = 0.0, g.peak_w
    for _ in range(60):
        own = (low + high) / 2
        more = q * float((np.hypot(share * spread, own) - share * spread).sum())
        low, high = (own, high) if more < wanted else (low, own)
    return high


def _phase_names(law: Power, series: PowerSeries) -> tuple[str, ...]:
    """The recorded phase next to each level's share of the load: levels and phases in order of their watts."""
    if not law.phase_levels or len(series.share) == 1:
        return ()
    named = sorted(law.phase_levels, key=lambda k: law.phase_levels[k][0])
    edges = np.cumsum([law.phase_levels[k][2] for k in named])
    middle = np.cumsum(series.share) - series.share / 2
    return tuple(named[min(int(np.searchsorted(edges, m)), len(named) - 1)] for m in middle)


def _rows(g: _Together, first: int, watts: Array, level: Ints, apart: Array) -> pl.DataFrame:
    n, d = len(watts), len(g.names)
    own = np.clip(g.share[:, None] * watts + apart, 0.0, g.most_w[:, None])
    at = (first + np.arange(n, dtype=np.int64)) * g.step_ns
    which = np.tile(np.arange(d), n)

    def told(values: list[str | float | None], kind: pl.DataType) -> pl.Series:
        return pl.Series("", values, dtype=kind).gather(which)

    known = [*g.devices, *([None] * (d - len(g.devices)))]
    domain = g.devices[0].domain if g.devices else "server"
    columns: dict[str, pl.Series | Array | Ints] = {
        "arrival_ns": np.repeat(at, d),
        "host": told([(x.host or None) if x else None for x in known], pl.String()),
        "device": told(list(g.names), pl.String()),
        "domain": told([x.domain if x else domain for x in known], pl.String()),
        "power_w": np.round(own.T.reshape(-1), 3),
    }
    limits = [x.cap.limit_w if x and x.cap and x.cap.how == "limit" else None for x in known]
    if any(v is not None for v in limits):
        columns["power_limit_w"] = told(list(limits), pl.Float64())
    if g.phases:
        columns["phase"] = pl.Series("", list(g.phases), dtype=pl.String).gather(np.repeat(level, d))  # fmt: skip
    average = READINGS.get(g.devices[0].reading) if g.devices else None
    if average is not None:
        columns["is_average"] = pl.repeat(average, n * d, dtype=pl.Boolean, eager=True)
    for name, value in g.where.items():
        columns.setdefault(name, pl.repeat(value, n * d, dtype=pl.String, eager=True))
    return pl.DataFrame(columns)

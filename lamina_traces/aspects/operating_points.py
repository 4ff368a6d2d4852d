"""Operating points: what a table of measured configurations says about power, energy and speed.

Three questions, each where its columns are recorded: what the energy-optimal power limit saves against the highest one
and costs in time (Zeus, NSDI 2023, section 2); how the energy of a token falls with the batch; which fraction of its
rated power a device draws at peak and on average. A configuration is a measurement of a machine and not a person's
request, so single ones are told.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy import special

from ..errors import ModelError, Notice
from ..intervals import LEVEL, Interval
from ..units import format_number, short
from . import Finding, Line
from .dependence import rank_correlation
from .power_groups import watts

if TYPE_CHECKING:
    from ..store import Trace

NAME = "operating_points"
VERSION = 1
TABLES = ("operating_points", "power_windows")
NEEDS = ()
RECORD = (
    "repeat each configuration at several power limits (nvidia-smi -pl) or batch sizes, and record the energy, "
    "the time and the tokens of each run"
)

MOST_GROUPS = 24
MOST_LEVELS = 24
FEWEST_BATCHES = 3
_LIMIT = re.compile(r"(.*?)_?(\d+(?:\.\d+)?)$")


@dataclass(frozen=True)
class Cap:
    """What power limits do on one device, over ``configurations`` measured at two limits or more.

    ``energy_change``: mean of least energy / energy at the highest limit − 1; ``time_ratio``: mean of the time at that
    optimum / time at the highest; ``limit_frac``: median of the optimal / the highest limit. ``curve``: (limit as a
    fraction of the highest, mean energy ratio, mean time ratio, configurations).
    """

    device_name: str
    configurations: int
    highest_limit_w: float
    energy_change: float
    time_ratio: float
    limit_frac: float
    energy_interval: Interval | None
    time_interval: Interval | None
    curve: tuple[tuple[float, float, float, int], ...]


@dataclass(frozen=True)
class Batches:
    """Energy of a token in one group of configurations that differ in batch size only."""

    device_name: str
    model: str
    workload: str
    devices: int | None
    least_j_per_token: float
    at_batch: int
    spearman: float | None
    """of batch size and energy a token; None with fewer than three sizes."""
    curve: tuple[tuple[int, float], ...]


@dataclass(frozen=True)
class DevicePoints:
    """One device name. ``median_w``: of mean power per device; ``identity_error``: largest relative distance of power /
    throughput from the recorded energy a token; ``over_limit`` of ``limited`` runs drew more than their limit on average."""

    device_name: str
    configurations: int
    median_w: float | None
    least_j_per_token: float | None
    identity_error: float | None
    limited: int
    over_limit: int


@dataclass(frozen=True)
class Fraction:
    """Mean of peak and mean power, as fractions of the rated power, at one ``level`` of a ``dimension``."""

    device_name: str
    dimension: str
    level: float
    peak_frac: float | None
    mean_frac: float | None
    runs: int


@dataclass(frozen=True)
class OperatingPoints:
    """``batch_groups``, ``batch_spearman`` (median) and ``batch_falling`` (share at −1) are over all groups with three batch
    sizes or more; ``batches`` lists those with the least energy a token."""

    devices: tuple[DevicePoints, ...]
    caps: tuple[Cap, ...]
    batches: tuple[Batches, ...]
    batch_groups: int
    batch_spearman: float | None
    batch_falling: float | None
    fractions: tuple[Fraction, ...]
    evidence: str = "configurations"

    def to_dict(self) -> dict[str, Any]:
        return {
            "version": VERSION,
            "evidence": self.evidence,
            "devices": [dict(d.__dict__) for d in self.devices],
            "caps": [
                c.__dict__
                | {
                    "energy_interval": c.energy_interval.to_dict() if c.energy_interval else None,
                    "time_interval": c.time_interval.to_dict() if c.time_interval else None,
                    "curve": [list(p) for p in c.curve],
                }
                for c in self.caps
            ],
            "batches": [b.__dict__ | {"curve": [list(p) for p in b.curve]} for b in self.batches],
            "batch_groups": self.batch_groups,
            "batch_spearman": self.batch_spearman,
            "batch_falling": self.batch_falling,
            "fractions": [dict(f.__dict__) for f in self.fractions],
        }

    def findings(self) -> list[Finding]:
        out = [_cap_finding(c) for c in self.caps]
        if self.batch_groups and self.batch_spearman is not None and self.batches:
            best = self.batches[0]
            out.append(
                Finding(
                    NAME,
                    f"The energy of a token falls with the batch in {self.batch_falling or 0:.0%} of {self.batch_groups} groups of configurations at every step; "
                    f"the least is {best.least_j_per_token:.3g} J, of {best.model} on {best.device_name or 'its device'} ({best.workload}, batch {best.at_batch}).",
                    effect=f"median Spearman of batch and J/token {self.batch_spearman:.2f}",
                )
            )
        for d in self.devices:
            if d.median_w is not None:
                out.append(
                    Finding(
                        NAME,
                        f"{d.device_name or 'A device'} draws {format_number(d.median_w)} W in the median of {d.configurations:,} configurations.",
                        effect=f"W/(tokens/s) = J/token to {d.identity_error:.1g}"
                        if d.identity_error is not None
                        else "",
                    )
                )  # fmt: skip
            if d.over_limit:
                out.append(
                    Finding(
                        NAME,
                        f"{d.over_limit} of {d.limited} runs of {d.device_name} drew more than their power limit on average.",
                        warning="over-limit",
                    )
                )
        for name in dict.fromkeys(f.device_name for f in self.fractions):
            rows = [f for f in self.fractions if f.device_name == name and f.dimension == "tensor_parallel"]  # fmt: skip
            text = ", ".join(
                f"{format_number(f.peak_frac)} and {format_number(f.mean_frac)} on {f.level:.0f} devices"
                for f in rows
            )
            if text:
                out.append(
                    Finding(NAME, f"{name} draws at peak and on average, of its rated power: {text}.")
                )  # fmt: skip
        return out


def _cap_finding(c: Cap) -> Finding:
    many = f"{c.configurations} configurations" if c.configurations > 1 else "one configuration"
    parts = [
        f"energy {c.energy_change:+.1%}"
        + (f" [{c.energy_interval.low:+.1%}, {c.energy_interval.high:+.1%}]" if c.energy_interval else ""),
        f"time ×{c.time_ratio:.3f}"
        + (f" [{c.time_interval.low:.3f}, {c.time_interval.high:.3f}]" if c.time_interval else ""),
    ]  # fmt: skip
    return Finding(
        NAME,
        f"On {c.device_name or 'the device'} the power limit with the least energy saves {-c.energy_change:.1%} of what the highest limit "
        f"({format_number(c.highest_limit_w)} W) uses and takes {c.time_ratio:.3f} times as long, over {many}; it lies at {c.limit_frac:.2f} of the highest.",
        model="energy optimum against the highest limit",
        parameters=", ".join(parts),
    )


def from_dict(d: dict[str, Any]) -> OperatingPoints:
    """Inverse of ``OperatingPoints.to_dict``."""
    out = OperatingPoints(
        tuple(
            DevicePoints(
                str(x["device_name"]), int(x["configurations"]), _maybe(x["median_w"]), _maybe(x["least_j_per_token"]),
                _maybe(x["identity_error"]), int(x["limited"]), int(x["over_limit"]),
            )
            for x in d["devices"]
        ),
        tuple(
            Cap(
                str(x["device_name"]), int(x["configurations"]), watts(x["highest_limit_w"]), float(x["energy_change"]), watts(x["time_ratio"]),
                watts(x["limit_frac"]), Interval.from_dict(x["energy_interval"]), Interval.from_dict(x["time_interval"]),
                tuple((watts(a), watts(b), watts(c), int(n)) for a, b, c, n in x["curve"]),
            )
            for x in d["caps"]
        ),
        tuple(
            Batches(
                str(x["device_name"]), str(x["model"]), str(x["workload"]), None if x["devices"] is None else int(x["devices"]),
                watts(x["least_j_per_token"]), int(x["at_batch"]), None if x["spearman"] is None else float(x["spearman"]),
                tuple((int(b), watts(e)) for b, e in x["curve"]),
            )
            for x in d["batches"]
        ),
        int(d["batch_groups"]),
        None if d["batch_spearman"] is None else float(d["batch_spearman"]),
        _maybe(d["batch_falling"]),
        tuple(
            Fraction(str(x["device_name"]), str(x["dimension"]), watts(x["level"]), _maybe(x["peak_frac"]), _maybe(x["mean_frac"]), int(x["runs"]))
            for x in d["fractions"]
        ),
        str(d.get("evidence", "configurations")),
    )  # fmt: skip
    rho = [b.spearman for b in out.batches] + [out.batch_spearman]
    sane = (
        all(-1 <= c.energy_change < math.inf and 0 < c.limit_frac <= 1 for c in out.caps)
        and all(r is None or abs(r) <= 1 + 1e-9 for r in rho)
        and (out.batch_falling is None or out.batch_falling <= 1)
        and all(x.over_limit <= x.limited for x in out.devices)
        and all(size >= 1 and joules > 0 for b in out.batches for size, joules in b.curve)
    )
    if not sane:
        raise ModelError(
            "operating points of the profile: a share or a correlation is none",
            "fit the profile again",
        )
    return out


def _maybe(x: Any) -> float | None:
    return None if x is None else watts(x)


# --- measuring -------------------------------------------------------------------------------------


def fit(trace: Trace, notices: list[Notice]) -> OperatingPoints | None:
    """From ``operating_points``, or from windows that Zeus' power-limit optimizer measured; None, in silence, from
    other windows."""
    if trace.main_table == "power_windows":
        caps = cap_curves(_window_points(trace))
        if caps:
            text = "the windows of Zeus' optimizer are compared as if each did the same work"
            notices.append(Notice("same-work", text, NAME))
        return OperatingPoints((), caps, (), 0, None, None, (), "windows") if caps else None
    devices = tuple(
        DevicePoints(
            r["device_name"], int(r["configurations"]), _shortened(r["median_w"]), _shortened(r["least_j_per_token"]),
            _shortened(r["identity_error"], 2), int(r["limited"]), int(r["over_limit"]),
        )
        for r in trace.query("operating_points/devices").to_pylist()
    )  # fmt: skip
    limits = trace.query("operating_points/limits").to_pylist()
    caps = cap_curves(
        (r["device_name"], r["configuration"], r["power_limit_w"], r["energy_j"], r["duration_s"])
        for r in limits
    )
    batches = _batches(trace.query("operating_points/batches").to_pylist())
    rho = [b.spearman for b in batches if b.spearman is not None]
    fractions = tuple(
        Fraction(
            r["device_name"], r["dimension"], float(r["level"]), _shortened(r["peak_frac"]), _shortened(r["mean_frac"]), int(r["runs"])
        )
        for r in trace.query("operating_points/fractions").to_pylist()[: 6 * MOST_LEVELS]
    )  # fmt: skip
    over = sum(d.over_limit for d in devices)
    if over:
        notices.append(
            Notice("over-limit", f"{over} runs drew more on average than the power limit that was set for them", NAME)
        )  # fmt: skip
    if not caps and not batches and not fractions:
        notices.append(
            Notice("too-few-rows", "no configuration was measured at two power limits or with its energy a token", NAME)
        )  # fmt: skip
        return None
    return OperatingPoints(
        devices[:MOST_GROUPS],
        caps[:MOST_GROUPS],
        batches[:MOST_GROUPS],
        len(rho),
        short(float(np.median(rho)), 4) if rho else None,
        short(sum(r <= -1 + 1e-9 for r in rho) / len(rho), 4) if rho else None,
        fractions,
    )


def cap_curves(points: Iterable[tuple[str, str, float, float, float]]) -> tuple[Cap, ...]:
    """From (device, configuration, limit W, energy J, time s): one row a configuration and limit; configurations at one
    limit only say nothing."""
    grouped: dict[str, dict[str, list[tuple[float, float, float]]]] = {}
    for device, configuration, limit, energy, time in points:
        grouped.setdefault(device, {}).setdefault(configuration, []).append((limit, energy, time))
    out = []
    for device, configurations in sorted(grouped.items()):
        found = [sorted(p) for p in configurations.values() if len({x[0] for x in p}) > 1]
        if not found:
            continue
        change, ratio, frac = [], [], []
        levels: dict[float, list[tuple[float, float]]] = {}
        for p in found:
            top_limit, top_energy, top_time = p[-1]
            limit, energy, time = min(p, key=lambda x: (x[1], x[0]))
            change.append(energy / top_energy - 1)
            ratio.append(time / top_time)
            frac.append(limit / top_limit)
            for at, used, took in p:
                level = short(at / top_limit, 3)
                levels.setdefault(level, []).append((used / top_energy, took / top_time))
        curve = tuple(
            (level, short(_mean(v[0] for v in rows), 5), short(_mean(v[1] for v in rows), 5), len(rows))
            for level, rows in sorted(levels.items())
        )  # fmt: skip
        out.append(
            Cap(
                device, len(found), max(p[-1][0] for p in found), short(_mean(change), 6), short(_mean(ratio), 6),
                short(float(np.median(frac)), 4), mean_interval(change), mean_interval(ratio), curve[:MOST_LEVELS],
            )
        )  # fmt: skip
    return tuple(sorted(out, key=lambda c: (-c.configurations, c.device_name)))


def _mean(values: Iterable[float]) -> float:
    return float(np.mean(list(values)))


def mean_interval(values: Sequence[float]) -> Interval | None:
    """Student's, of the mean over configurations, which were run one by one; None for fewer than three."""
    n = len(values)
    if n < 3:
        return None
    half = float(special.stdtrit(n - 1, 0.5 + LEVEL / 2)) * float(np.std(values, ddof=1)) / math.sqrt(n)  # fmt: skip
    mean = _mean(values)
    return Interval(short(mean - half, 4), short(mean + half, 4), "independent configurations", n)


def _window_points(trace: Trace) -> list[tuple[str, str, float, float, float]]:
    """Zeus' optimizer sets one limit on all devices of a job, so their energies are one point; its windows do the same
    number of steps each."""
    rows: dict[tuple[str, str, float], list[Mapping[str, Any]]] = {}
    for r in trace.query("operating_points/limit_windows").to_pylist():
        m = _LIMIT.match(r["label"])
        if m and float(m[2]) > 0:
            rows.setdefault((r["host"], m[1], float(m[2])), []).append(r)
    out = []
    for (host, label, limit), of in rows.items():
        devices = sorted({r["device"] for r in of})
        which = devices[0] if len(devices) == 1 else f"{len(devices)} devices"
        name = " ".join(x for x in (host, which) if x)
        energy, time = sum(r["energy_j"] for r in of), _mean(r["duration_s"] for r in of)
        out.append((name, label, limit, float(energy), time))
    return out


def _batches(rows: list[Mapping[str, Any]]) -> tuple[Batches, ...]:
    """Groups with the least energy a token first."""
    grouped: dict[tuple[Any, ...], list[Mapping[str, Any]]] = {}
    for r in rows:
        key = tuple(r[k] for k in ("device_name", "model", "workload", "devices", "tensor_parallel"))  # fmt: skip
        grouped.setdefault(key, []).append(r)
    out = []
    for key, of in grouped.items():
        best = min(of, key=lambda r: r["energy_per_token_j"])
        sizes, energy = [r["batch_size"] for r in of], [r["energy_per_token_j"] for r in of]
        rho = None
        if len(of) >= FEWEST_BATCHES:
            value = float(
                rank_correlation(np.ones((1, len(of))), np.array(sizes), np.array(energy))[0]
            )
            rho = None if math.isnan(value) else short(value, 4)
        out.append(
            Batches(
                key[0], key[1], key[2], None if key[3] is None else int(key[3]), short(best["energy_per_token_j"]), int(best["batch_size"]),
                rho, tuple((int(s), short(e, 5)) for s, e in zip(sizes, energy, strict=True)),
            )
        )  # fmt: skip
    return tuple(sorted(out, key=lambda b: (b.least_j_per_token, b.model, b.workload)))


def _shortened(x: float | None, digits: int = 7) -> float | None:
    return None if x is None or not math.isfinite(x) else short(x, digits)


def score(a: Trace, b: Trace) -> list[Line]:
    """How far two tables are apart in what power limits save and cost, on devices that both name."""
    fits = [fit(t, []) for t in (a, b)]
    if fits[0] is None or fits[1] is None:
        return []
    other = {c.device_name: c for c in fits[1].caps}
    lines = []
    for c in fits[0].caps:
        if c.device_name in other:
            d = other[c.device_name]
            lines.append(Line(NAME, f"energy saved by the limit, {c.device_name}", abs(c.energy_change - d.energy_change), None, "share"))  # fmt: skip
            lines.append(Line(NAME, f"time taken at the limit, {c.device_name}", abs(c.time_ratio - d.time_ratio), None, "ratio"))  # fmt: skip
    return lines

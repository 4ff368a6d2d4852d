"""Power sources, and groups of them: who is added to whom, on which grid.

A *source* is one device of one host in one domain, and one kind of reading: averaged and instant readings
of a device are two sources, and no group holds both.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from ..units import NS_PER_S

if TYPE_CHECKING:
    from ..store import Trace

Array = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

MOST_CELLS = 1 << 24
"""cells of a regular grid; a longer trace gets a coarser grid."""
WHOLES = ("row", "rack", "server", "psu")
"""domains that hold the others, outermost first; gpu, cpu and dram lie beside each other."""
MOST_HOSTS = 12
MOST_WINDOWS = 12


@dataclass(frozen=True)
class Source:
    """One device and kind of ``reading`` (average, instant, unknown). ``period_ns``: median step; None where all
    its readings share one instant."""

    host: str
    device: str
    domain: str
    reading: str
    readings: int
    first_ns: int
    last_ns: int
    period_ns: float | None
    counted: int
    """readings that carry an energy counter."""

    @property
    def key(self) -> str:
        return key(self.host, self.device, self.domain, self.reading)


def key(host: str, device: str, domain: str, reading: str) -> str:
    """What tells a source from the others."""
    return "\x1f".join((host, device, domain, reading))


def sources(trace: Trace) -> list[Source]:
    """Every source of a trace, in the order of their names."""
    return [Source(**row) for row in trace.query("power/periods").to_pylist()]


def usual_period_ns(of: Sequence[Source]) -> float | None:
    """The median period of ``of``, each counted as often as it was read."""
    timed = sorted((s.period_ns, s.readings) for s in of if s.period_ns)
    if not timed:
        return None
    half = sum(n for _, n in timed) / 2
    seen = 0
    for period, n in timed:
        seen += n
        if seen >= half:
            return period
    return timed[-1][0]


@dataclass
class Aligned:
    """What a group of sources drew together, at instants ``origin_ns + k · step_ns``: each source holds its last
    reading until the next (as-of), for one period at the end and before a gap.

    Milliwatts are added as differences in whole numbers, so sums are exact.
    """

    members: npt.NDArray[np.bool_]
    """[sources] whether each belongs to the group."""
    origin_ns: int
    step_ns: int
    milliwatts: Ints
    present: npt.NDArray[np.int32]
    coarse: bool = False
    """the step is longer than the period, since there would be too many cells."""

    @classmethod
    def of(cls, all_sources: Sequence[Source], members: Sequence[bool]) -> Aligned | None:
        """An empty grid of the median period of the ``members``; None where they have none."""
        mine = [s for s, m in zip(all_sources, members, strict=True) if m]
        period = usual_period_ns(mine)
        if period is None:
            return None
        first, last = min(s.first_ns for s in mine), max(s.last_ns for s in mine)
        step = max(1, round(period), -(-(last - first) // MOST_CELLS))
        cells = (last - first) // step + 1
        # half a step off the first reading, so that jitter puts no reading into its neighbour's cell
        return cls(
            np.array(members, dtype=bool),
            first + step // 2,
            step,
            np.zeros(cells + 1, dtype=np.int64),
            np.zeros(cells + 1, dtype=np.int32),
            step > period + 1,
        )

    @property
    def step_s(self) -> float:
        return self.step_ns / NS_PER_S

    def hold(self, source: Ints, start_ns: Ints, end_ns: Ints, watts: Array) -> None:
        """Add readings that hold from ``start_ns`` to before ``end_ns``."""
        mine = self.members[source]
        if not mine.any():
            return
        cells = len(self.milliwatts) - 1
        mw = np.rint(watts[mine] * 1000).astype(np.int64)
        for at, sign in ((start_ns[mine], 1), (end_ns[mine], -1)):
            k = np.clip(-((self.origin_ns - at) // self.step_ns), 0, cells)
            np.add.at(self.milliwatts, k, sign * mw)
            np.add.at(self.present, k, np.int32(sign))

    def series(self, masks: Sequence[tuple[int, int]] = ()) -> tuple[Array, npt.NDArray[np.int32]]:
        """[cells] watts (NaN where no source reports, or in a mask), and how many sources report."""
        present = np.cumsum(self.present[:-1], dtype=np.int32)
        watts = np.cumsum(self.milliwatts[:-1]) / 1000.0
        for a, b in masks:
            low, high = (max(0, -((self.origin_ns - x) // self.step_ns)) for x in (a, b))
            present[low:high] = 0
        watts[present == 0] = np.nan
        return watts, present


@dataclass(frozen=True)
class Together:
    """A group of sources of one kind of ``reading``. ``scope``: all (the outermost domain's, which hold the others),
    domain, host, or device (one source that has named windows)."""

    scope: str
    name: str
    reading: str
    grid: Aligned


def outermost(domains: Iterable[str]) -> set[str]:
    """The domains that are added up: the one that holds the others, or all where none does."""
    found = set(domains)
    whole = next((d for d in WHOLES if d in found), None)
    return {whole} if whole is not None else found


def groups(trace: Trace, of: Sequence[Source]) -> Iterator[Together]:
    """The groups of a trace: all sources of the outermost domain, by kind of reading, the most frequent first; each
    domain and host where there are several; and single sources that have named windows."""
    outer = outermost(s.domain for s in of)
    domains = sorted({s.domain for s in of})
    kinds: dict[str, int] = {}
    hosts: dict[str, int] = {}
    for s in of:
        if s.domain in outer:
            kinds[s.reading] = kinds.get(s.reading, 0) + s.readings
            hosts[s.host] = hosts.get(s.host, 0) + s.readings
    windows = []
    if trace.has("duration_s", "power_windows"):
        windows = trace.query("power/window_readings", most=MOST_WINDOWS).to_pylist()
    named = {(w["host"], w["device"], w["domain"], w["reading"]) for w in windows}

    def together(scope: str, name: str, reading: str, members: list[bool]) -> Iterator[Together]:
        grid = Aligned.of(of, members)
        if grid is not None:
            yield Together(scope, name, reading, grid)

    for reading in sorted(kinds, key=lambda r: (-kinds[r], r)):
        mine = [s.reading == reading for s in of]
        yield from together("all", "", reading, [m and s.domain in outer for s, m in zip(of, mine, strict=True)])  # fmt: skip
        for d in domains if len(domains) > 1 else ():
            if outer == {d}:
                continue
            members = [m and s.domain == d for s, m in zip(of, mine, strict=True)]
            yield from together("domain", d, reading, members)
        most = sorted(hosts, key=lambda h: (-hosts[h], h))[:MOST_HOSTS]
        for h in sorted(most) if len(hosts) > 1 else ():
            members = [m and s.domain in outer and s.host == h for s, m in zip(of, mine, strict=True)]  # fmt: skip
            yield from together("host", h, reading, members)
    for s in of:
        if (s.host, s.device, s.domain, s.reading) in named:
            yield from together("device", s.key, s.reading, [x is s for x in of])

"""Similarity: which library profile a workload is like, by the distances of its aspects.

Each distance is 0 for the same workload and is divided by a scale at which two workloads are plainly different, so
that they can be put together as a root mean square. Beside it, between two traces only, a compression distance: how
much better two traces are compressed together than apart. It sees what no aspect names, and says nothing about what.
"""

from __future__ import annotations

import math
import zlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl
import pyarrow as pa

from .aspects.arrivals import Arrivals
from .aspects.failures import Failures
from .aspects.lengths import Lengths
from .distributions import Grid
from .errors import ModelError
from .profile import Profile, fitted_names
from .units import short

if TYPE_CHECKING:
    from .store import Trace

TABLE = "llm_requests"
SCALES = {
    "IDC curve": (0.5, "mean |ln ratio| at shared widths"),
    "gaps": (0.3, "W1 of unit gaps, decades"),
    "rate swings": (0.3, "difference of the rate curve's CV"),
    "input lengths": (0.3, "W1, decades"),
    "output lengths": (0.3, "W1, decades"),
    "dependence": (0.3, "difference of Spearman correlations"),
    "failures": (0.05, "difference of rates"),
}
"""the distance at which two workloads are plainly different, and what it is."""
SYMBOLS = 5_000
"""requests of each trace that are compressed: 15 kB, so that zlib's window of 32 kB sees all of the first from the end of the
second."""


@dataclass(frozen=True)
class Likeness:
    """How far a profile is: ``distance`` is the root mean square of the ``parts``, each over its scale."""

    name: str
    distance: float
    parts: dict[str, float]

    def to_dict(self) -> dict[str, Any]:
        return {"profile": self.name, "distance": self.distance, **self.parts}


def between(a: Profile, b: Profile) -> Likeness | None:
    """Distances of the first streams' aspects that both profiles have; None where they share none."""
    parts: dict[str, float] = {}
    x, y = a.aspect("arrivals"), b.aspect("arrivals")
    if isinstance(x, Arrivals) and isinstance(y, Arrivals) and x.events and y.events:
        ratios = [
            abs(math.log(s.idc / other))
            for s in x.scales
            if s.idc and s.windows >= 30 and (other := y.idc(s.window_s)) and other > 0
        ]
        if ratios:
            parts["IDC curve"] = float(np.mean(ratios))
        if not x.quantum_s and not y.quantum_s:
            parts["gaps"] = _w1(x.unit_gaps, y.unit_gaps, 1e-3)
        parts["rate swings"] = abs(float(x.rate_curve.std()) - float(y.rate_curve.std()))
    n, m = a.aspect("lengths"), b.aspect("lengths")
    if isinstance(n, Lengths) and isinstance(m, Lengths):
        parts["input lengths"] = _w1(n.input.grid, m.input.grid, 1.0)
        parts["output lengths"] = _w1(n.output.grid, m.output.grid, 1.0)
        if n.evidence == m.evidence == "rows":
            parts["dependence"] = abs(n.spearman - m.spearman)
    f, g = a.aspect("failures"), b.aspect("failures")
    if isinstance(f, Failures) and isinstance(g, Failures):
        parts["failures"] = abs(f.rate - g.rate)
    if not parts:
        return None
    scaled = [v / SCALES[k][0] for k, v in parts.items()]
    distance = math.sqrt(sum(v * v for v in scaled) / len(scaled))
    return Likeness(b.name, short(distance, 4), {k: short(v, 4) for k, v in parts.items()})


def _w1(a: Grid, b: Grid, floor: float) -> float:
    u = (np.arange(500) + 0.5) / 500
    return float(
        np.abs(
            np.log10(np.maximum(a.quantile(u), floor)) - np.log10(np.maximum(b.quantile(u), floor))
        ).mean()
    )


def nearest(profile: Profile) -> list[Likeness]:
    """The library's fitted profiles of requests, nearest first. Raises ModelError where the profile is of something else."""
    if TABLE not in profile.parts:
        raise ModelError(
            f"profile {profile.name!r} is not of requests",
            "name a trace or profile of LLM requests",
        )
    found = [between(profile, Profile.library(name)) for name in fitted_names()]
    return sorted((f for f in found if f is not None), key=lambda f: (f.distance, f.name))


def compression_distance(a: Trace, b: Trace) -> float:
    """Normalised compression distance of two traces (Cilibrasi & Vitányi 2005) with zlib, on the first SYMBOLS requests of each, as
    octaves of gap, input and output: (C(ab) − min(C(a), C(b)))/max(C(a), C(b)); about 0.9 within a family of workloads, above 1 between."""
    x, y = _symbols(a), _symbols(b)
    size = min(len(x), len(y))
    if size < 300:
        raise ModelError("fewer than 100 requests: too short to compress", "name longer traces")
    x, y = x[:size], y[:size]
    alone = sorted((len(zlib.compress(x, 9)), len(zlib.compress(y, 9))))
    together = len(zlib.compress(x + y, 9))
    return (together - alone[0]) / alone[1]


def _symbols(trace: Trace) -> bytes:
    """Three bytes a request: octaves of the gap in ms, of input and of output."""
    columns = ["arrival_ns", "input_tokens", "output_tokens"]
    parts: list[pl.DataFrame] = []
    for batch in trace.batches(TABLE, columns):  # a lazy frame cut short leaves its reader behind
        parts.append(pl.DataFrame(pa.Table.from_batches([batch])).drop_nulls())
        if sum(p.height for p in parts) >= SYMBOLS:
            break
    if not parts:
        return b""
    frame = pl.concat(parts).head(SYMBOLS)
    gap = frame["arrival_ns"].diff().fill_null(0).cast(pl.Float64) / 1e6
    octaves = [
        np.clip(np.floor(np.log2(np.maximum(s.cast(pl.Float64).to_numpy(), 1.0))), 0, 40).astype(
            np.uint8
        )
        + offset
        for s, offset in ((gap, 0), (frame["input_tokens"], 64), (frame["output_tokens"], 128))
    ]
    return np.stack(octaves, axis=1).astype(np.uint8).tobytes()

"""nvidia-smi query logs: ``nvidia-smi --query-gpu=timestamp,power.draw,… --format=csv -lms N``.

Layout from NVIDIA's nvidia-smi manual and logs of public power traces. Units stand in the header
(``power.draw [W]``), in the values (``63.20 W``), in both, or with ``nounits`` in the header alone.
Stamps are local time without a zone, so the clock is local (arrival 0 = midnight of the first day)
unless ``--tz`` names the zone. Without ``index`` or ``uuid``, rows of equal stamp are the GPUs in order.

The manual calls ``power.draw`` an average over one second on GA100 and Ampere or newer (except
GA100's instant reading), ``power.draw.instant`` an instant and ``power.draw.average`` an average. Which
GPU wrote a log is often unknown, so ``is_average`` stays null for a plain ``power.draw``.
Memory is MiB in the source and MB (10^6 bytes) in the canonical table.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace

import polars as pl

from ..errors import DataError, Notice
from .cells import MEASURES, divided
from .format import Binding, Context, Field, Format, Head, Request, bind_by_name

_POWER = re.compile(r"power\.draw(\.instant|\.average)?(?: ?\[(m?W)\])?", re.IGNORECASE)
_HEADER = re.compile(r"(?P<name>[a-z_.]+)(?: ?\[(?P<unit>[A-Za-z%]+)\])?", re.IGNORECASE)
MB_PER_MIB = 1.048576

_KNOWN: dict[str, tuple[str, str, str, float]] = {
    # name: (canonical column, unit when the header has none, cell, factor to the canonical unit)
    "power.draw": ("power_w", "W", "measure", 1.0),
    "power.draw.instant": ("power_w", "W", "measure", 1.0),
    "power.draw.average": ("power_w", "W", "measure", 1.0),
    "utilization.gpu": ("util_frac", "%", "measure", 1.0),
    "utilization.memory": ("mem_util_frac", "%", "measure", 1.0),
    "memory.used": ("mem_used_mb", "MiB", "measure", MB_PER_MIB),
    "clocks.sm": ("sm_clock_mhz", "MHz", "measure", 1.0),
    "clocks.current.sm": ("sm_clock_mhz", "MHz", "measure", 1.0),
    "clocks.mem": ("mem_clock_mhz", "MHz", "measure", 1.0),
    "clocks.current.memory": ("mem_clock_mhz", "MHz", "measure", 1.0),
    "temperature.gpu": ("temp_c", "C", "measure", 1.0),
    "power.limit": ("power_limit_w", "W", "measure", 1.0),
    "enforced.power.limit": ("power_limit_w", "W", "measure", 1.0),
    "name": ("device_name", "", "text", 1.0),
    "gpu_name": ("device_name", "", "text", 1.0),
    "index": ("device", "", "text", 1.0),
    "uuid": ("device", "", "text", 1.0),
    "gpu_uuid": ("device", "", "text", 1.0),
}
_POWER_ORDER = ("power.draw.instant", "power.draw", "power.draw.average")


def _split(name: str) -> tuple[str, str | None]:
    m = _HEADER.fullmatch(name.strip())
    return (m["name"].lower(), m["unit"]) if m else (name.strip().lower(), None)


def _matches(names: Sequence[str]) -> bool:
    plain = {_split(n)[0] for n in names}
    return "timestamp" in plain and any(_POWER.fullmatch(n.strip()) for n in names)


def _bind(fmt: Format, head: Head, request: Request) -> Binding:
    split = {n: _split(n) for n in head.names}
    plain = {p: n for n, (p, _) in split.items()}
    if not _matches(head.names):
        raise DataError(
            "nvidia_smi needs a timestamp and a power.draw column",
            "query them: nvidia-smi --query-gpu=timestamp,index,power.draw --format=csv -lms 100",
            path=head.path,
        )
    power = next(p for p in _POWER_ORDER if p in plain)
    device = next((p for p in ("index", "uuid", "gpu_uuid") if p in plain), None)
    fields = [Field(plain["timestamp"], "instant", "local", "arrival_ns", minimum=None)]
    factors: dict[str, tuple[str, float]] = {}
    taken: set[str] = set()
    for name, (short, unit) in split.items():
        to, default, cell, factor = _KNOWN.get(short, ("", "", "", 1.0))
        if not to or to in taken or (to == "power_w" and short != power) or (to == "device" and short != device):  # fmt: skip
            continue
        taken.add(to)
        unit = {"degC": "C"}.get(unit or "", unit) or default
        if cell == "measure":
            if unit not in MEASURES[default]:
                raise DataError(
                    f"column {name!r} has a unit that is not known for it",
                    f"known units: {', '.join(MEASURES[default])}",
                    path=head.path,
                )
            factors[name] = (to, factor * MEASURES[default][unit])
            fields.append(Field(name, "measure", unit, to, required=False))
        else:
            fields.append(Field(name, "text", "", to, required=to == "device"))
    average = {"power.draw.instant": False, "power.draw.average": True}.get(power)

    def canonical(frame: pl.DataFrame, context: Context) -> pl.DataFrame:
        out = frame.select(
            pl.col(plain["timestamp"]).alias("arrival_ns"),
            *(
                (
                    divided(frame[n], 100.0)
                    if to.endswith("_frac")
                    else frame[n] * factor
                    if factor != 1.0
                    else frame[n]
                ).alias(to)
                for n, (to, factor) in factors.items()
            ),
        )
        if device == "index":
            label = "gpu" + frame[plain["index"]].str.strip_chars()
        elif device is not None:
            label = frame[plain[device]].str.strip_chars()
        else:
            label = _in_order(out["arrival_ns"], context)
        rows = frame.height
        out = out.with_columns(
            label.alias("device"),
            pl.Series("domain", ["gpu"], dtype=pl.String).new_from_index(0, rows),
            pl.Series("is_average", [average], dtype=pl.Boolean).new_from_index(0, rows),
        )
        name = next(
            (n for n, (p, _) in split.items() if _KNOWN.get(p, ("",))[0] == "device_name"), None
        )
        if name is not None:
            out = out.with_columns(frame[name].str.strip_chars().alias("device_name"))
        return out

    notices = []
    if device is None:
        notices.append(
            Notice("device-order", "no index column: rows of one stamp are taken for the GPUs in order", "device")
        )  # fmt: skip
    bound = bind_by_name(
        replace(fmt, fields=tuple(fields)),
        head,
        request,
        canonical=canonical,
        notices=tuple(notices),
    )
    return replace(bound, clock="utc" if request.tz else "local", absolute=True)


def _in_order(stamps: pl.Series, context: Context) -> pl.Series:
    """gpu0, gpu1, … within each run of equal stamps; the run goes on over the border of a block."""
    n = len(stamps)
    if n == 0:
        return pl.Series([], dtype=pl.String)
    frame = stamps.to_frame("t").with_columns(pl.col("t").rle_id().alias("run"))
    position = frame.select(pl.int_range(pl.len()).over("run").alias("i"))["i"]
    last, last_i = context.state.get("file", (None, -1))
    if last == stamps[0]:
        position = (position + last_i + 1).zip_with(frame["run"] == 0, position)
    context.state["file"] = (stamps[n - 1], int(position[n - 1]))
    return "gpu" + position.cast(pl.String)


FORMAT = Format(
    name="nvidia_smi",
    title="nvidia-smi query log (CSV)",
    table="power_samples",
    syntax=("csv",),
    fields=(),
    canonical=lambda frame, _context: frame,
    clock="local",
    source="NVIDIA nvidia-smi manual, --query-gpu and --format=csv",
    evidence="documentation",
    quirks=(
        "stamps are local time without a zone: --tz makes them UTC",
        "[N/A], [Not Supported] and [Unknown Error] mean not recorded",
        "without index or uuid, rows of one stamp are the GPUs in order",
        "MiB become MB (× 1.048576), % become fractions",
        "power.draw may be a 1 s average on newer GPUs: is_average stays null unless the column says",
    ),
    bind=_bind,
    matches=lambda head: _matches(head.names),
)

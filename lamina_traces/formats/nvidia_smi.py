"""nvidia-smi query logs: ``nvidia-smi --query-gpu=timestamp,power.draw,… --format=csv -lms N``.

Layout from nvidia-smi's own help (--help-query-gpu, driver 580.159) and its output on an H100. Units stand
in the header (``power.draw [W]``), in the values (``63.20 W``), in both, or with ``nounits`` in the header
alone. Stamps are local time without a zone, so the clock is local (arrival 0 = midnight of the first day)
unless ``--tz`` names the zone. Without ``index``, ``uuid`` or ``pci.bus_id``, rows of equal stamp are the
GPUs in order.

That help calls ``power.draw`` an average over one second on Ampere or newer devices and an instant on older
ones, ``power.draw.instant`` an instant and ``power.draw.average`` an average. An older manual excepts GA100
(A100, A30) from the first. So ``is_average`` of a plain ``power.draw`` follows the product's name where the
log has it and is null for GA100 and unknown products. Of several power columns the instant is taken, then
the plain one; the others are kept in ``extra``. ``module.power.draw.*`` is the power of a module with its
CPU: domain ``server``, and taken only where the GPU's own is not in the log.

Memory is MiB in the source and MB (10^6 bytes) in the canonical table.
"""

from __future__ import annotations

import re
from collections.abc import Container, Iterable, Sequence
from dataclasses import replace

import polars as pl

from ..errors import DataError, Notice, UnknownFormat
from .cells import MEASURES, divided
from .format import Binding, Context, Field, Format, Head, Request, bind_by_name

_POWER_NAMES = {
    # short name → (is_average where the name says it, domain); the first that is there is taken
    "power.draw.instant": (False, "gpu"),
    "gpu.power.draw.instant": (False, "gpu"),
    "power.draw": (None, "gpu"),
    "power.draw.average": (True, "gpu"),
    "gpu.power.draw.average": (True, "gpu"),
    "module.power.draw.instant": (False, "server"),
    "module.power.draw.average": (True, "server"),
}
_LIMIT_NAMES = (
    "enforced.power.limit", "gpu.power.current_limit", "power.limit", "gpu.power.requested_limit",
)  # fmt: skip
_DEVICE_NAMES = ("index", "uuid", "gpu_uuid", "pci.bus_id", "gpu_bus_id")
_HEADER = re.compile(r"(?P<name>[a-z_.]+)(?: ?\[(?P<unit>[A-Za-z%]+)\])?", re.IGNORECASE)
_STAMP = re.compile(r"\d{4}/\d\d/\d\d \d\d:\d\d:\d\d\.\d{3}")
_AVERAGING = (
    r"\b(?:H100|H200|H800|H20|GH200|B[123]00|GB[23]00|L2|L4|L20|L40S?|A2|A10G?M?|A16|A40|"
    r"RTX A\d{4}|RTX [345]0\d\d|RTX PRO|Ada)\b"
)
_INSTANT = r"\b(?:[VP]100|P4|P40|T4|K40|K80|M40|M60|GTX|TITAN|Quadro|RTX 20\d\d)\b"
MB_PER_MIB = 1.048576

_KNOWN: dict[str, tuple[str, str, str, float]] = {
    # name: (canonical column, unit when the header has none, cell, factor to the canonical unit)
    **dict.fromkeys(_POWER_NAMES, ("power_w", "W", "measure", 1.0)),
    **dict.fromkeys(_LIMIT_NAMES, ("power_limit_w", "W", "measure", 1.0)),
    **dict.fromkeys(_DEVICE_NAMES, ("device", "", "text", 1.0)),
    "utilization.gpu": ("util_frac", "%", "measure", 1.0),
    "utilization.memory": ("mem_util_frac", "%", "measure", 1.0),
    "memory.used": ("mem_used_mb", "MiB", "measure", MB_PER_MIB),
    "clocks.sm": ("sm_clock_mhz", "MHz", "measure", 1.0),
    "clocks.current.sm": ("sm_clock_mhz", "MHz", "measure", 1.0),
    "clocks.mem": ("mem_clock_mhz", "MHz", "measure", 1.0),
    "clocks.current.memory": ("mem_clock_mhz", "MHz", "measure", 1.0),
    "temperature.gpu": ("temp_c", "C", "measure", 1.0),
    "name": ("device_name", "", "text", 1.0),
    "gpu_name": ("device_name", "", "text", 1.0),
}


def _split(name: str) -> tuple[str, str | None]:
    m = _HEADER.fullmatch(name.strip())
    return (m["name"].lower(), m["unit"]) if m else (name.strip().lower(), None)


def _matches(names: Sequence[str]) -> bool:
    split = dict(map(_split, names))
    return "timestamp" in split and any(
        p in split and split[p] in (None, "W", "mW") for p in _POWER_NAMES
    )


def _headless(cells: Sequence[str], path: str) -> None:
    """Refuses a log that was written with ``noheader``: it does not say what its columns are."""
    if len(cells) > 1 and _STAMP.fullmatch(cells[0].strip()):
        raise UnknownFormat(
            f"{path}: an nvidia-smi log without a header line does not say what its columns are",
            "query without noheader, or put the names that were queried above it, for instance:\n"
            "timestamp, index, power.draw [W]",
        )


def _first(wanted: Iterable[str], there: Container[str]) -> str | None:
    return next((name for name in wanted if name in there), None)


def _bind(fmt: Format, head: Head, request: Request) -> Binding:
    split = {n: _split(n) for n in head.names}
    plain = {p: n for n, (p, _) in split.items()}
    power = _first(_POWER_NAMES, plain)
    if "timestamp" not in plain or power is None:
        raise DataError(
            "nvidia_smi needs a timestamp and a power.draw column",
            "query them: nvidia-smi --query-gpu=timestamp,index,power.draw --format=csv -lms 100",
            path=head.path,
        )
    device = _first(_DEVICE_NAMES, plain)
    chosen = {"power_w": power, "device": device, "power_limit_w": _first(_LIMIT_NAMES, plain)}
    fields = [Field(plain["timestamp"], "instant", "local", "arrival_ns", minimum=None)]
    factors: dict[str, tuple[str, float]] = {}
    taken: set[str] = set()
    for name, (short, unit) in split.items():
        to, default, cell, factor = _KNOWN.get(short, ("", "", "", 1.0))
        if not to or to in taken or chosen.get(to, short) != short:
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
    average, domain = _POWER_NAMES[power]
    named = _first(("name", "gpu_name"), plain)

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
            pl.Series("domain", [domain], dtype=pl.String).new_from_index(0, rows),
            pl.Series("is_average", [average], dtype=pl.Boolean).new_from_index(0, rows),
        )
        if named is not None:
            product = frame[plain[named]].str.strip_chars().alias("device_name")
            out = out.with_columns(product)
            if average is None:
                out = out.with_columns(
                    pl.when(pl.col("device_name").str.contains(_AVERAGING))
                    .then(True)
                    .when(pl.col("device_name").str.contains(_INSTANT))
                    .then(False)
                    .alias("is_average")
                )
        return out

    notices = []
    if device is None:
        notices.append(
            Notice("device-order", "no index column: rows of one stamp are taken for the GPUs in order", "device")
        )  # fmt: skip
    return bind_by_name(
        replace(fmt, fields=tuple(fields)),
        head,
        request,
        canonical=canonical,
        notices=tuple(notices),
    )


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


FORMATS = (
    Format(
        name="nvidia_smi",
        title="nvidia-smi query log (CSV)",
        table="power_samples",
        syntax=("csv",),
        fields=(),
        canonical=lambda frame, _context: frame,
        clock="local",
        source="nvidia-smi 580.159 on an H100: --help-query-gpu and the output of --format=csv",
        evidence="real file",
        quirks=(
            "stamps are local time without a zone: --tz makes them UTC",
            "[N/A], [Not Supported] and [Unknown Error] mean not recorded",
            "without index or uuid, rows of one stamp are the GPUs in order",
            "MiB become MB (× 1.048576), % become fractions",
            "power.draw is a 1 s average on Ampere and newer; GA100 and unknown products: is_average is null",
            "of several power columns the instant is taken; of several limits the enforced one",
        ),
        bind=_bind,
        headless=_headless,
        matches=lambda head: _matches(head.names),
    ),
)

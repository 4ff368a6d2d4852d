"""MLPerf wall power: the PTDaemon log ``spl.txt`` and the window of its run in ``mlperf_log_detail.txt``.

Layout from mlcommons/inference_results_v1.0 and the definition of the official average from
mlcommons/power-dev, compliance/check.py: the plain mean of the Watts above 0 with power_begin < t <
power_end. Both logs are stamped by one clock, in local time, month first. ``-1`` means that a quantity
was not measured (several channels have no common Volts). With several channels the first Watts is their sum.

The detail log is read first; lines of both stand in one folder a run. ``energy_j`` of a window is its
official average times its width.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator, Mapping
from pathlib import PurePath
from typing import Any

import polars as pl

from .format import (
    Context,
    Field,
    Format,
    Frames,
    json_object,
)

_STAMP = re.compile(r"(\d\d)-(\d\d)-(\d{4}) (\d\d:\d\d:\d\d(?:\.\d{1,9})?)")
_PREFIX = ":::MLLOG "
_GENERIC = re.compile(r"run_\d+|performance|accuracy|ranging|testing|power")
_SCENARIOS = ("Offline", "Server", "SingleStream", "MultiStream")
_QUANTITIES = ("Watts", "Volts", "Amps", "PF")
_KEPT = ("effective_scenario", "effective_test_mode", "result_validity")
_RATES = ("result_completed_samples_per_sec", "result_samples_per_second")


def _iso(stamp: str) -> str:
    m = _STAMP.fullmatch(stamp.strip())
    if m is None:
        raise ValueError("not a date and time (MM-DD-YYYY HH:MM:SS.mmm)")
    return f"{m[3]}-{m[1]}-{m[2]} {m[4]}"


def _measured(cell: str) -> str | None:
    """A quantity; None for -1, which stands for one that was not measured."""
    text = cell.strip()
    try:
        return None if float(text) == -1 else text
    except ValueError:
        return text  # its cell says what is wrong with it


def _channel(cell: str) -> str | None:
    """The power of a channel as text. Raises ValueError where it is no power."""
    text = _measured(cell)
    if text is not None and not (
        re.fullmatch(r"[\d.]+(?:[eE][+-]?\d+)?", text) and math.isfinite(float(text))
    ):
        raise ValueError("a channel whose Watts are no number")
    return text


def _spl(value: Any, _context: Context) -> Iterator[Mapping[str, Any]]:
    cells = value.split(",")
    if cells[0].strip() != "Time":
        return
    if len(cells) < 4 or cells[2].strip() != "Watts":
        raise ValueError("not laid out as Time,…,Watts,…")
    row: dict[str, Any] = {"Time": _iso(cells[1])}
    channels: list[str | None] = []
    i = 2
    while i < len(cells):
        name = cells[i].strip()
        if re.fullmatch(r"Ch\d+", name):
            channels.append(None)
            i += 1
            continue
        cell = cells[i + 1] if i + 1 < len(cells) else ""
        if channels and name == "Watts":
            channels[-1] = _channel(cell)
        elif not channels and name in _QUANTITIES:
            row[name] = _measured(cell)
        elif not channels and name == "Mark":
            row[name] = cell.strip()
        i += 2
    if channels:
        row["channels"] = ";".join(c or "" for c in channels)
    yield row


def _run(path: str) -> str:
    return str(PurePath(path).parent)


def _named(run: str, context: Context) -> str | None:
    """A run by its folder, without the folders that every run has; ``#2`` and so on for others of its name."""
    names: dict[str, str | None] = context.state.setdefault("mlperf names", {})
    if run not in names:
        parts = [
            p for p in PurePath(run).parts if p not in (".", "/") and not _GENERIC.fullmatch(p)
        ]
        # SYSTEM/MODEL/SCENARIO in the tree of a submission
        deep = bool(parts) and parts[-1] in _SCENARIOS
        name = "/".join(parts[-3:] if deep else parts[-1:])
        same = [n for n in names.values() if n and n.split("#")[0] == name]
        names[run] = None if not name else f"{name}#{len(same) + 1}" if same else name
    return names[run]


def _samples(frame: pl.DataFrame, context: Context) -> pl.DataFrame:
    run = context.state.get("mlperf", {}).get(_run(context.path))
    if run is not None and "begin" in run and "end" in run:
        _count(run, frame)
    name = _named(_run(context.path), context) if context.path else None
    total = frame.select(
        pl.col("Time").alias("arrival_ns"),
        pl.lit(name, pl.String).alias("host"),
        pl.lit("server").alias("device"),
        pl.lit("server").alias("domain"),
        pl.col("Watts").alias("power_w"),
        json_object(frame, ("Volts", "Amps", "PF", "Mark"), context).alias("extra"),
    )
    if not frame["channels"].count():
        return total
    parts = (
        frame.with_row_index("line")
        .select("line", "Time", pl.col("channels").str.split(";").alias("watts"))
        .explode("watts")
        .with_columns(pl.int_range(1, pl.len() + 1).over("line").alias("channel"))
        .filter(pl.col("watts").is_not_null())
        .select(
            pl.col("Time").alias("arrival_ns"),
            pl.lit(name, pl.String).alias("host"),
            pl.format("ch{}", "channel").alias("device"),
            pl.lit("psu").alias("domain"),
            pl.col("watts").cast(pl.Float64, strict=False).alias("power_w"),
            pl.lit(None, pl.String).alias("extra"),
        )
    )
    return pl.concat([total, parts]).sort("arrival_ns", maintain_order=True)


def _count(run: dict[str, Any], frame: pl.DataFrame) -> None:
    """Add the samples of a run that lie in its window."""
    inside = frame.filter(
        (pl.col("Time") > run["begin"]) & (pl.col("Time") < run["end"]) & (pl.col("Watts") > 0)
    )["Watts"]
    if len(inside):
        run["n"] = run.get("n", 0) + len(inside)
        run["sum"] = run.get("sum", 0.0) + float(inside.sum())
        run["peak"] = max(run.get("peak", 0.0), float(inside.max()))  # type: ignore[arg-type]


def _detail(value: Any, _context: Context) -> Iterator[Mapping[str, Any]]:
    if not value.startswith(_PREFIX):
        return
    entry = json.loads(value[len(_PREFIX) :])
    key, content = str(entry["key"]), entry["value"]
    if key in ("power_begin", "power_end"):
        yield {"key": key, "stamp": _iso(str(content))}
    elif key in _KEPT or key in _RATES:
        yield {"key": key, "value": str(content)}


def _windows(frame: pl.DataFrame, context: Context) -> Frames:
    run = context.state.setdefault("mlperf", {}).setdefault(_run(context.path), {})
    for key, stamp, value in frame.select("key", "stamp", "value").iter_rows():
        if stamp is not None:
            run["begin" if key == "power_begin" else "end"] = stamp
        elif value is not None:
            run.setdefault("extra", {})[key] = value
    return {}


def _rest(context: Context) -> Frames:
    """A window for each run with a begin and an end."""
    rows = []
    for folder, run in context.state.get("mlperf", {}).items():
        if "begin" not in run or "end" not in run:
            continue
        width = (run["end"] - run["begin"]) / 1e9
        mean = run["sum"] / run["n"] if "n" in run else None
        if mean is None:
            context.note("no-samples", "a run's window holds no reading: its average is unknown", "power_windows")  # fmt: skip
        extra = {
            ("samples_per_s" if k in _RATES else k): v for k, v in run.get("extra", {}).items()
        }
        rows.append(
            {
                "arrival_ns": run["begin"], "label": _named(folder, context), "host": _named(folder, context), "device": "server", "domain": "server",
                "duration_s": width, "mean_power_w": mean, "peak_power_w": run.get("peak"),
                "energy_j": None if mean is None else mean * width, "samples": run.get("n", 0),
                "extra": json.dumps(extra, separators=(",", ":")) if extra else None,
            }
        )  # fmt: skip
    return {"power_windows": pl.DataFrame(rows, infer_schema_length=None)} if rows else {}


LOG = Format(
    name="ptdaemon",
    title="SPEC PTDaemon power log (spl.txt)",
    table="power_samples",
    syntax=("text",),
    fields=(
        Field("Time", "instant", "local", "arrival_ns", minimum=None),
        Field("Watts", "number", "W", "power_w", required=False),
        Field("Volts", "number", "V", required=False),
        Field("Amps", "number", "A", required=False),
        Field("PF", "number", required=False, minimum=None),
        Field("Mark", "text", required=False),
        Field("channels", "text", required=False),
    ),
    canonical=_samples,
    clock="local",
    source="mlcommons/inference_results_v1.0 (Apache-2.0), spl.txt; mlcommons/power-dev, compliance/check.py",
    evidence="real file",
    quirks=(
        "dates are MM-DD-YYYY, local time without a zone",
        "-1 means not measured",
        "host is the folder of the run: several runs can be read together",
        "channels are rows of their own (ch1, ch2…, domain psu); the server's power is their sum",
        "with mlperf_log_detail.txt of the same folder, the official average of the run is a power window",
    ),
    matches=lambda head: any(
        re.match(r"Time,\d\d-\d\d-\d{4} [\d:.]+,Watts,", line) for line in head.lines[:20]
    ),
    unfold=_spl,
    rest=_rest,
    family="ptdaemon",
    others=("power_windows",),
)

DETAIL = Format(
    name="mlperf_detail",
    title="MLPerf LoadGen detail log: the window of a power run",
    table="power_windows",
    syntax=("text",),
    fields=(
        Field("key", "text"),
        Field("stamp", "instant", "local", "arrival_ns", required=False, minimum=None),
        Field("value", "text", required=False),
    ),
    canonical=_windows,
    clock="local",
    source="mlcommons/inference_results_v1.0 (Apache-2.0), mlperf_log_detail.txt",
    evidence="real file",
    quirks=("read beside spl.txt; alone it gives the windows without their power",),
    matches=lambda head: any(line.startswith(_PREFIX) for line in head.lines[:50]),
    unfold=_detail,
    rest=_rest,
    family="ptdaemon",
    rank=-1,
)
FORMATS = (LOG, DETAIL)

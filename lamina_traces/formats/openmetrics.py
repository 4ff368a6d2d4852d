"""Metrics as exporters write them: Prometheus text and OpenMetrics; and DCGM's, which are power readings, too.

Layout from the Prometheus exposition format and OpenMetrics 1.0 (prometheus/docs, prometheus/OpenMetrics) and
dcgm-exporter, etc/default-counters.csv. A line is ``NAME{labels} VALUE [TIMESTAMP] [# exemplar]``; TYPE lines
give the type, HELP lines are text and are never kept, nor are exemplars. Stamps are ms in Prometheus text, s in
OpenMetrics: told apart by size. Without them a file is a scrape, or several one after the other: a series that
comes again, or another stamp, begins the next. NaN and infinite values are null.

DCGM: power W, energy mJ since boot, utilization %, frame buffer MiB. Values from 9.2e18 on are DCGM's blank, as
is, for power, 140737488355328 (assumed); both are null.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import replace
from decimal import Decimal, InvalidOperation
from typing import Any

import polars as pl

from .cells import divided
from .format import Binding, Context, Field, Format, Frames, Head, Request, bind_by_name
from .hosts import host_name, is_address
from .nvidia_smi import MB_PER_MIB
from .redaction import is_private

_NAME = r"[a-zA-Z_:][a-zA-Z0-9_:]*"
_VALUE = r"[+-]?(?:\d+\.?\d*(?:[eE][+-]?\d+)?|\.\d+(?:[eE][+-]?\d+)?|Inf|inf|NaN|nan)"
_SAMPLE = re.compile(
    rf"({_NAME})\s*(?:\{{((?:[^\"}}]|\"(?:[^\"\\]|\\.)*\")*)\}})?\s+({_VALUE})(?:\s+([+-]?\d+(?:\.\d+)?))?\s*(?:#.*)?"
)
_LABEL = re.compile(rf"\s*({_NAME})\s*=\s*\"((?:[^\"\\]|\\.)*)\"\s*(?:,|$)")
_META = re.compile(rf"# (TYPE|HELP|UNIT) ({_NAME})(?: (.*))?")
_ESCAPES = {"\\\\": "\\", '\\"': '"', "\\n": "\n"}
_SUFFIX = re.compile(r"_(?:total|bucket|sum|count|created|info)$")
_TYPES = {"counter": "counter", "gauge": "gauge", "histogram": "histogram", "summary": "summary"}
_HOSTS = ("instance", "Hostname", "hostname", "host", "node")
_TEXTS = frozenset(("err_msg", "error_message", "msg", "error"))
_LARGEST_S = 10**11
"""a stamp below it is seconds, else milliseconds."""
DCGM = "DCGM_FI_"
_BLANK, _BLANK_POWER = 9.2e18, 140737488355328.0


def labelled(name: str, labels: Mapping[str, str], context: Context) -> dict[str, Any]:
    """What the labels of a series say: host, device, model, ``le``, and the others as JSON, less text and secrets."""
    kept: dict[str, str] = {}
    row: dict[str, Any] = {"metric": name}
    keep_text = context.request.keep_text
    for key, value in labels.items():
        if key == "le":
            row["le"] = None if value in ("+Inf", "Inf", "inf") else value
        elif key in _HOSTS and value:
            kept[key] = host_name(value, context)
            row.setdefault("host", kept[key])
        elif not keep_text and (is_private(key) or key in _TEXTS or is_address(value)):
            context.dropped.add(key)
        elif key != "__name__":
            kept[key] = value
    if kept.get("gpu", "").isdigit():
        row["device"] = f"gpu{kept['gpu']}"
    row["model"] = kept.get("model_name") or kept.get("model")
    row["product"] = kept.get("modelName")
    row["labels"] = label_text(kept)
    return row


def label_text(labels: Mapping[str, str]) -> str | None:
    """Labels as a JSON object, keys sorted; None where there are none."""
    if not labels:
        return None
    return json.dumps(dict(sorted(labels.items())), ensure_ascii=False, separators=(",", ":"))


def finite(text: str, context: Context) -> str | None:
    """The text of a number; None for NaN and infinity, which no column holds."""
    if text.lower().lstrip("+-") in ("nan", "inf"):
        context.tally["not finite"] += 1
        return None
    return text


def _unescaped(text: str) -> str:
    return re.sub(r"\\[\\\"n]", lambda m: _ESCAPES[m[0]], text) if "\\" in text else text


def _labels(text: str | None) -> dict[str, str]:
    found: dict[str, str] = {}
    at = 0
    text = (text or "").strip()
    while at < len(text):
        m = _LABEL.match(text, at)
        if m is None:
            raise ValueError("labels that cannot be read")
        found[m[1]] = _unescaped(m[2])
        at = m.end()
    return found


def stamp_ns(text: str, seconds: bool | None = None) -> int:
    """Unix ns of a stamp in seconds or milliseconds (by size where it is not said). Raises ValueError."""
    try:
        stamp = Decimal(text)
        in_seconds = abs(stamp) < _LARGEST_S if seconds is None else seconds
        return int(stamp * (10**9 if in_seconds else 10**6))
    except (InvalidOperation, ValueError, OverflowError) as e:
        raise ValueError("a stamp that is no number") from e


def _unfold(value: Any, context: Context) -> Iterator[Mapping[str, Any]]:
    scrape = context.state.get("file")
    if scrape is None:
        context.state["scrapes"] = context.state.get("scrapes", 0) + 1
        scrape = context.state["file"] = {"types": {}, "seen": set()}
    line = value.strip()
    if line.startswith("#"):
        m = _META.fullmatch(line)
        if m and m[1] == "TYPE":
            scrape["types"][m[2]] = _TYPES.get((m[3] or "").strip(), "untyped")
        if line == "# EOF":
            scrape["seen"].clear()
            context.state["scrapes"] += 1
        return
    m = _SAMPLE.fullmatch(line)
    if m is None:
        raise ValueError("not NAME{labels} VALUE [TIMESTAMP]")
    name, series = m[1], (m[1], m[2])
    stamp = stamp_ns(m[4]) if m[4] else None
    if series in scrape["seen"] or stamp != scrape.setdefault("stamp", stamp):
        scrape["seen"].clear()
        context.state["scrapes"] += 1
        scrape["stamp"] = stamp
    scrape["seen"].add(series)
    types = scrape["types"]
    row = labelled(name, _labels(m[2]), context)
    row["type"] = types.get(name) or types.get(_SUFFIX.sub("", name))
    row["value"] = finite(m[3], context)
    row["stamp"] = stamp
    row["scrape"] = context.state["scrapes"]
    yield row


def series(frame: pl.DataFrame) -> pl.DataFrame:
    """Rows of ``metric_series``."""
    return frame.select(
        pl.col("stamp").alias("arrival_ns"), "metric", "type", "labels", "host", "device", "model", "le", "value"
    )  # fmt: skip


def _metrics(frame: pl.DataFrame, _context: Context) -> Frames:
    return {"metric_series": series(frame)}


# metric of DCGM → (column, what its value is times, or divided by when negative, to be in the column's unit)
_READINGS: dict[str, tuple[str, float]] = {
    "DCGM_FI_DEV_POWER_USAGE": ("power_w", 1.0),
    "DCGM_FI_DEV_TOTAL_ENERGY_CONSUMPTION": ("energy_j", -1000.0),
    "DCGM_FI_DEV_GPU_UTIL": ("util_frac", -100.0),
    "DCGM_FI_DEV_MEM_COPY_UTIL": ("mem_util_frac", -100.0),
    "DCGM_FI_DEV_FB_USED": ("mem_used_mb", MB_PER_MIB),
    "DCGM_FI_DEV_SM_CLOCK": ("sm_clock_mhz", 1.0),
    "DCGM_FI_DEV_MEM_CLOCK": ("mem_clock_mhz", 1.0),
    "DCGM_FI_DEV_GPU_TEMP": ("temp_c", 1.0),
    "DCGM_FI_DEV_ENFORCED_POWER_LIMIT": ("power_limit_w", 1.0),
}
_KEY = ("scrape", "host", "device")


def _dcgm(frame: pl.DataFrame, context: Context) -> Frames:
    power = pl.col("metric") == "DCGM_FI_DEV_POWER_USAGE"
    blank = (pl.col("value") >= _BLANK) | (power & (pl.col("value") >= _BLANK_POWER))
    frame = frame.with_columns(pl.when(~blank.fill_null(False)).then("value").alias("value"))
    readings = frame.filter(
        pl.col("metric").is_in(list(_READINGS)) & pl.col("device").is_not_null()
    )
    waiting = context.state.pop("dcgm", None)
    if waiting is not None:
        readings = pl.concat([waiting, readings])
    # the last scrape may go on in the next block
    last = pl.lit(readings["scrape"].max(), pl.Int64)
    context.state["dcgm"] = readings.filter(pl.col("scrape") == last)
    return {
        "power_samples": _samples(readings.filter(pl.col("scrape") < last)),
        "metric_series": series(frame),
    }


def _rest(context: Context) -> Frames:
    waiting = context.state.pop("dcgm", None)
    return {} if waiting is None else {"power_samples": _samples(waiting)}


def _samples(readings: pl.DataFrame) -> pl.DataFrame:
    """One row a GPU and scrape."""
    rows = readings.group_by(_KEY, maintain_order=True).agg(
        pl.col("stamp", "product").first(),
        *(
            pl.col("value").filter(pl.col("metric") == name).first().alias(column)
            for name, (column, _) in _READINGS.items()
        ),
    )
    scaled = [
        divided(rows[column], -factor) if factor < 0 else rows[column] * factor
        for column, factor in _READINGS.values()
        if factor != 1.0
    ]
    return (
        rows.with_columns(scaled)
        .with_columns(pl.lit("gpu").alias("domain"))
        .rename({"stamp": "arrival_ns", "product": "device_name"})
        .drop("scrape")
    )


def _bind(fmt: Format, head: Head, request: Request) -> Binding:
    samples = [m for line in head.lines if (m := _SAMPLE.fullmatch(line.strip()))]
    stamped = any(m[4] for m in samples)
    bound = bind_by_name(fmt, head, request, absolute=stamped)
    return replace(bound, clock="utc" if stamped else "none")


def _is_exposition(head: Head) -> bool:
    lines = [line.strip() for line in head.lines[:60] if line.strip()]
    samples = [line for line in lines if not line.startswith("#")][:20]
    told = any(_META.fullmatch(line) for line in lines)
    found = [m for line in samples if (m := _SAMPLE.fullmatch(line))]
    return bool(found) and (told or (len(found) == len(samples) and any(m[2] for m in found)))


def _is_dcgm(head: Head) -> bool:
    return any(line.startswith((DCGM, f"# TYPE {DCGM}", f"# HELP {DCGM}")) for line in head.lines)


FIELDS = (
    Field("metric", "text", "", "metric"),
    Field("type", "text", "", "type", required=False),
    Field("labels", "text", "", "labels", required=False),
    Field("host", "text", "", "host", required=False),
    Field("device", "text", "", "device", required=False),
    Field("model", "text", "", "model", required=False),
    Field("product", "text", required=False),
    Field("le", "number", "", "le", required=False, minimum=None),
    Field("value", "number", "", "value", required=False, minimum=None),
    Field("stamp", "clock", "ns", "arrival_ns", required=False),
    Field("scrape", "integer", required=False),
)

EXPOSITION = Format(
    name="openmetrics",
    title="Prometheus text and OpenMetrics (vllm:*, sglang:*, any exporter)",
    table="metric_series",
    syntax=("text",),
    fields=FIELDS,
    canonical=_metrics,
    clock="utc",
    source="prometheus/docs, exposition formats; OpenMetrics 1.0; what prometheus_client 0.26 writes, and its parsers read",
    evidence="importer's loader",
    quirks=(
        "stamps are ms (Prometheus) or s (OpenMetrics), told apart by size; without them there is no clock",
        "NaN and infinite values are null; le of +Inf is null",
        "help texts and exemplars are never kept; addresses of instances become host1, host2…",
    ),
    bind=_bind,
    matches=lambda head: _is_exposition(head) and not _is_dcgm(head),
    unfold=_unfold,
)
DCGM_TEXT = replace(
    EXPOSITION,
    name="dcgm",
    title="DCGM exporter metrics (DCGM_FI_*)",
    table="power_samples",
    canonical=_dcgm,
    evidence="documentation",
    source="NVIDIA/dcgm-exporter (Apache-2.0), etc/default-counters.csv; prometheus/docs, exposition formats",
    quirks=(
        "energy is mJ since boot and may start again",
        "values from 9.2e18 on are blank: null",
        "one reading a GPU and scrape; every sample is a metric series, too",
    ),
    matches=lambda head: _is_exposition(head) and _is_dcgm(head),
    rest=_rest,
    others=("metric_series",),
)
FORMATS = (EXPOSITION, DCGM_TEXT)

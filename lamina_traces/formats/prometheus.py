"""Answers of Prometheus' HTTP API: ``/api/v1/query_range`` and ``/api/v1/query``.

Layout from the Prometheus HTTP API (prometheus/prometheus, docs/querying/api.md): status, data.resultType
(matrix or vector) and data.result, each with its labels in ``metric`` and ``values``, pairs of Unix seconds
and the number as text. Native histograms have no single value and are left out. An answer that is no success
is rejected whole. The API does not say a metric's type.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import polars as pl

from .format import Context, Format, Frames
from .openmetrics import FIELDS, finite, labelled, series, stamp_ns


def _unfold(value: Any, context: Context) -> Iterator[Mapping[str, Any]]:
    if not isinstance(value, dict) or value.get("status") != "success":
        raise ValueError("an answer that is no success")
    kind = value["data"]["resultType"]
    if kind not in ("matrix", "vector"):
        raise ValueError("a result that is neither a matrix nor a vector")
    for found in value["data"]["result"]:
        labels = {str(k): str(v) for k, v in (found.get("metric") or {}).items()}
        row = labelled(labels.get("__name__", "expression"), labels, context)
        if "histograms" in found or "histogram" in found:
            context.note(
                "native-histograms",
                "native histograms have no single value and were left out",
                "value",
            )
        for stamp, number in found.get("values") or ([found["value"]] if "value" in found else []):
            yield {
                **row,
                "stamp": stamp_ns(str(stamp), seconds=True),
                "value": finite(str(number), context),
            }


def _canonical(frame: pl.DataFrame, _context: Context) -> Frames:
    return {"metric_series": series(frame)}


FORMATS = (
    Format(
        name="prometheus",
        title="Prometheus API: query_range and query (JSON)",
        table="metric_series",
        syntax=("json",),
        fields=FIELDS,
        canonical=_canonical,
        clock="utc",
        source="prometheus/prometheus (Apache-2.0), docs/querying/api.md",
        evidence="documentation",
        quirks=(
            "numbers are text; NaN and infinite ones are null",
            "the result of an expression has no name: its metric is called expression",
            "addresses of instances become host1, host2…",
        ),
        absolute=True,
        matches=lambda head: {"status", "data.resultType", "data.result"} <= head.keys,
        unfold=_unfold,
    ),
)

"""Sources that exist only as curves: points of cumulative distributions.

Two layouts: figure, metric, label, x, cdf (the cold-start curves of Huawei 2025, read off figures 10 and 15
of the paper), and a quantity with ``cdf_pct`` (power of AcmeTrace; a curve a file). The first column's name
is the quantity, with its unit.
"""

from __future__ import annotations

from pathlib import PurePath

import polars as pl

from ..errors import DataError
from .durations import over
from .format import Binding, Context, Field, Format, Head, Request, bind_by_name

FIGURES = Format(
    name="cdf_figures",
    title="Curves of a paper (figure, metric, label, x, cdf)",
    table="cdf_points",
    syntax=("csv",),
    fields=(
        Field("figure", "text", "", "figure", required=False),
        Field("metric", "text", "", "quantity"),
        Field("label", "text", "", "series"),
        Field("x", "number", "", "x", minimum=None),
        Field("cdf", "number", "", "cdf"),
    ),
    canonical=lambda frame, _context: frame.rename({"metric": "quantity", "label": "series"}),
    clock="none",
    source="vector curves of Joosen et al., EuroSys 2025 (CC-BY-4.0), figures 10 and 15",
    evidence="real file",
    quirks=("figures that share a metric need not be of the same functions: do not mix them",),
    closed=True,
    matches=lambda head: set(head.names) == {"figure", "metric", "label", "x", "cdf"},
)


def _bind(fmt: Format, head: Head, request: Request) -> Binding:
    quantity = next((n for n in head.names if n != "cdf_pct"), None)
    if quantity is None:
        raise DataError(
            "cdf_curve needs a column beside cdf_pct: the quantity, with its unit in its name",
            "name it like server_power_w",
            path=head.path,
        )

    def canonical(frame: pl.DataFrame, context: Context) -> pl.DataFrame:
        series = PurePath(context.path).name.split(".")[0].removesuffix("_cdf")
        return frame.select(
            pl.lit(quantity).alias("quantity"),
            pl.lit(series or "all").alias("series"),
            pl.col(quantity).alias("x"),
            over(pl.col("cdf_pct"), 100).alias("cdf"),
        )

    fields = (
        Field(quantity, "number", "", "x", minimum=None),
        Field("cdf_pct", "number", "%", "cdf"),
    )
    return bind_by_name(fmt, head, request, fields=fields, canonical=canonical)


CURVE = Format(
    name="cdf_curve",
    title="A cumulative distribution (quantity, cdf_pct)",
    table="cdf_points",
    syntax=("csv",),
    fields=(Field("cdf_pct", "number", "%", "cdf"),),
    canonical=lambda frame, _context: frame,
    clock="none",
    source="curves of InternLM/AcmeTrace (CC-BY-4.0), data/utilization/util_pkl",
    evidence="real file",
    quirks=("the series is the file's name",),
    bind=_bind,
    matches=lambda head: len(head.names) == 2 and head.names[1] == "cdf_pct",
)
FORMATS = (FIGURES, CURVE)

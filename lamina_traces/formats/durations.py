"""Durations beside stamps: whole nanoseconds from reported seconds, and seconds from two stamps."""

from __future__ import annotations

import polars as pl

_LONGEST_S = 4e9
"""126 years: a longer duration is no measurement, and its stamp would leave int64 nanoseconds."""


def as_ns(seconds: pl.Expr) -> pl.Expr:
    """A reported duration as whole ns, to be added to a stamp; null beyond what can be one."""
    return pl.when(seconds.abs() <= _LONGEST_S).then((seconds * 1e9).round(0)).cast(pl.Int64)


def as_seconds(ns: pl.Expr) -> pl.Expr:
    """Nanoseconds over 10^9, rounded once: polars divides by a scalar as a product with its reciprocal,
    which rounds twice (1.128 would be 1.1280000000000001)."""
    return ns / (ns * 0 + 1e9)

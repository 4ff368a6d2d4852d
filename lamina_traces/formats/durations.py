"""Durations: whole nanoseconds from reported seconds, seconds from stamps, time per token."""

from __future__ import annotations

import polars as pl

_LONGEST_S = 4e9
"""126 years: a longer duration is no measurement, and its stamp would leave int64 nanoseconds."""


def as_ns(seconds: pl.Expr) -> pl.Expr:
    """A reported duration as whole ns, to be added to a stamp; null beyond what can be one."""
    return pl.when(seconds.abs() <= _LONGEST_S).then((seconds * 1e9).round(0)).cast(pl.Int64)


def over(value: pl.Expr, by: float) -> pl.Expr:
    """A column over a number, rounded once: polars divides by a scalar as a product with its reciprocal,
    which rounds twice (1.128 would be 1.1280000000000001)."""
    return value / (value * 0 + float(by))


def as_seconds(ns: pl.Expr) -> pl.Expr:
    """Nanoseconds as seconds."""
    return over(ns, 1e9)


def seconds_between(start: str, end: str) -> pl.Expr:
    """Seconds from one instant to another, null where either is not recorded."""
    return as_seconds(pl.col(end) - pl.col(start))


def per_token(decode: pl.Expr, output: str) -> pl.Expr:
    """``tpot_s``: the time from the first token to the last over the tokens after the first; null without one."""
    return decode / pl.when(pl.col(output) > 1).then(pl.col(output) - 1)

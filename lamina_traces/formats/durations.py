"""Durations beside stamps: whole nanoseconds from reported seconds, and seconds from two stamps."""

from __future__ import annotations

import polars as pl

from ..errors import Notice
from .format import Context
from .summary import many

_LONGEST_S = 4e9
"""126 years: a longer duration is no measurement, and its stamp would leave int64 nanoseconds."""


def as_ns(seconds: pl.Expr) -> pl.Expr:
    """A reported duration as whole ns, to be added to a stamp; null beyond what can be one."""
    return pl.when(seconds.abs() <= _LONGEST_S).then((seconds * 1e9).round(0)).cast(pl.Int64)


def as_seconds(ns: pl.Expr) -> pl.Expr:
    """Nanoseconds over 10^9, rounded once: polars divides by a scalar as a product with its reciprocal,
    which rounds twice (1.128 would be 1.1280000000000001)."""
    return ns / (ns * 0 + 1e9)


_DURATIONS = ("queue_s", "ttft_s", "tpot_s", "e2e_s")
_TALLY = "negative durations"


def counted(out: pl.DataFrame, context: Context) -> pl.DataFrame:
    """Canonical requests whose durations can be: a negative one is null and counted, its stamps stay."""
    for name in _DURATIONS:
        if name in out.columns and (bad := (out[name] < 0).fill_null(False)).any():
            context.tally[_TALLY] += int(bad.sum())
            out = out.with_columns(out[name].set(bad, None))
    return out


def told(context: Context) -> pl.DataFrame:
    """The notice about what ``counted`` met (a format's ``rest``)."""
    if n := context.tally[_TALLY]:
        text = f"{many(n, 'duration is', 'durations are')} negative (stamps that contradict each other) and left unknown; the stamps were kept"
        context.state.setdefault("notices", []).append(Notice("negative-durations", text, "e2e_s"))
    return pl.DataFrame()

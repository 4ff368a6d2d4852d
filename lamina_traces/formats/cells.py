"""Cells: how the text of one value becomes a typed column, exactly.

Each kind of cell has a fast type, which polars' CSV parser reads straight away, and a parser over text
for the careful path. Both give the same values: clocks go through decimals of fixed scale (so that
"0.3" s is 300,000,000 ns and not one beside it; below 1 ns they round half to even), whole numbers may
be written ``472.0``, and nothing is ever NaN.

=========  ==================================================  ===================
cell       admits                                              column
=========  ==================================================  ===================
tokens     whole number from 0                                 Int32
integer    whole number                                        Int64
clock      decimal number in ``unit``                          Int64 ns
instant    date and time, 0–9 fractional digits, Z or offset   Int64 ns since 1970
seconds    number in ``unit``, finite                          Float64 seconds
number     number, finite                                      Float64
measure    number with an optional unit, or "[N/A]"            Float64
text       anything; empty is null                             String
ids        list of whole numbers below 2^64 (JSON, Parquet)    List(UInt64)
flag       true/false, 1/0, yes/no                             Boolean
=========  ==================================================  ===================
"""

from __future__ import annotations

import datetime
import re
from typing import Any

import polars as pl

from ..units import TIME_UNITS
from .format import Context, Field
from .redaction import masked

_SCALE = {"s": 9, "ms": 6, "us": 3, "ns": 0}
_DIGITS = 38
_ABSENT = (
    "",
    "nan",
    "null",
    "none",
    "n/a",
    "na",
    "-",
    "[n/a]",
    "[not supported]",
    "[unknown error]",
)
_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?")
INSTANT = r"^(\d{4})[-/](\d{2})[-/](\d{2})[T ](\d{2}:\d{2}:\d{2})(?:[.,](\d{1,9}))? ?(Z|z|UTC|[+-]\d{2}:?\d{2})?$"
"""what an ``instant`` cell admits (polars)."""


def fast_type(field: Field) -> Any:
    """The polars type that reads this cell straight from CSV; String where text must be parsed after."""
    if field.cell == "tokens":
        return pl.Int32
    if field.cell == "integer":
        return pl.Int64
    if field.cell == "clock":
        return pl.Decimal(_DIGITS, _SCALE[field.unit])
    if field.cell in ("seconds", "number"):
        return pl.Float64
    return pl.String


def finished(field: Field, column: pl.Series, context: Context) -> pl.Series | None:
    """A fast-typed column in its final type, or None when any value breaks a rule of the cell."""
    if field.required and column.null_count():
        return None
    out = column
    if field.cell == "clock":
        try:
            out = column.to_physical().cast(pl.Int64)
        except pl.exceptions.PolarsError:  # beyond 292 years: the careful path names the line
            return None
    elif field.cell in ("seconds", "number"):
        if not column.is_finite().all():
            return None
        out = _in_seconds(field, column)
    elif field.cell != "text" and column.dtype == pl.String:
        out, bad = parsed(field, column, context)
        if bad.any():
            return None
    if field.minimum is not None and field.cell != "seconds" and out.dtype.is_numeric():
        least = out.min()
        if least is not None and least < field.minimum:  # type: ignore[operator]
            return None
    return out


def parsed(field: Field, text: pl.Series, context: Context) -> tuple[pl.Series, pl.Series]:
    """(values, bad) of a String column: ``bad`` marks what must be rejected; there the value is null."""
    if field.cell == "text":
        out = text
    else:
        out = _PARSERS[field.cell](field, text.str.strip_chars(), context)
    bad = out.is_null() & text.is_not_null()
    if field.cell == "measure":
        bad = bad & ~_measure_absent(text)
    elif not field.required and field.cell not in ("text", "ids"):
        bad = bad & ~text.str.strip_chars().str.to_lowercase().is_in(list(_ABSENT))
    if field.required:
        bad = bad | out.is_null()
    if field.minimum is not None and field.cell != "seconds" and out.dtype.is_numeric():
        low = (out < field.minimum).fill_null(False)
        bad = bad | low
    return out, bad


def _whole(dtype: Any) -> Any:
    def parse(_field: Field, text: pl.Series, _context: Context) -> pl.Series:
        out = text.cast(dtype, strict=False)
        if out.null_count() > text.null_count():  # "472.0", "1e3"
            exact = text.cast(pl.Decimal(_DIGITS, 9), strict=False)
            whole = exact.cast(pl.Int64, strict=False)
            fits = (whole.cast(pl.Decimal(_DIGITS, 9)) == exact).fill_null(False)
            again = whole.set(~fits, None).cast(dtype, strict=False)
            out = out.zip_with(out.is_not_null(), again)
        return out

    return parse


def _clock(field: Field, text: pl.Series, _context: Context) -> pl.Series:
    ticks = text.cast(pl.Decimal(_DIGITS, _SCALE[field.unit]), strict=False).to_physical()
    return ticks.cast(pl.Int64, strict=False)


def _number(field: Field, text: pl.Series, _context: Context) -> pl.Series:
    out = text.cast(pl.Float64, strict=False)
    out = out.set((~out.is_finite()).fill_null(False), None)
    return _in_seconds(field, out)


def _in_seconds(field: Field, values: pl.Series) -> pl.Series:
    if field.cell == "seconds" and field.unit != "s":
        return divided(values, 10**9 // TIME_UNITS[field.unit])
    return values


def divided(values: pl.Series, by: float) -> pl.Series:
    """Each value over ``by``, rounded once.

    polars divides by a scalar as a product with its reciprocal, which rounds twice: 57 / 100 would be
    0.5700000000000001.
    """
    return values / pl.Series([by], dtype=pl.Float64).new_from_index(0, len(values))


def _measure_absent(text: pl.Series) -> pl.Series:
    return text.str.strip_chars().str.contains(r"^(?i)(\[.*\]|n/a|-|)$").fill_null(True)


def _measure(field: Field, text: pl.Series, _context: Context) -> pl.Series:
    parts = text.str.extract_groups(r"^([+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?)\s*(\S*)$").struct
    number = parts.field("1").cast(pl.Float64, strict=False)
    unit = parts.field("2")
    factor = pl.Series([1.0], dtype=pl.Float64).new_from_index(0, len(text))
    scale = MEASURES.get(field.unit, {})
    known = {u: k / scale[field.unit] for u, k in scale.items()}
    for name, times in known.items():
        factor = factor.set((unit == name).fill_null(False), times)
    strange = ~(unit.is_in([*known, ""])).fill_null(True)
    factor = factor.set((unit == "").fill_null(False), 1.0)
    out = (number * factor).set(strange, None)
    return out.set((~out.is_finite()).fill_null(False), None)


_FAMILIES: tuple[dict[str, float], ...] = (
    {"W": 1.0, "mW": 1e-3, "kW": 1e3},
    {"%": 1.0},
    {"MiB": 1.0, "KiB": 1 / 1024, "GiB": 1024.0, "B": 1 / 1024**2},
    {"MHz": 1.0, "GHz": 1e3},
    {"C": 1.0},
)
MEASURES: dict[str, dict[str, float]] = {u: family for family in _FAMILIES for u in family}
"""unit → the units of its quantity, as factors to the first of them."""


def _instant(_field: Field, text: pl.Series, context: Context) -> pl.Series:
    """Instants to ns since 1970. Naive stamps are read as UTC, or in ``--tz``; how many is tallied."""
    g = text.str.extract_groups(INSTANT).struct
    date = g.field("1") + "-" + g.field("2") + "-" + g.field("3") + " " + g.field("4")
    year = g.field("1").cast(pl.Int32, strict=False)
    wraps = ~year.is_between(1678, 2261)  # int64 nanoseconds reach no further
    date = date.set(wraps.fill_null(False), None)
    whole = date.str.to_datetime("%Y-%m-%d %H:%M:%S", time_unit="ns", strict=False)
    zone = g.field("6")
    naive = (zone.is_null() & whole.is_not_null()).fill_null(False)
    n_naive = int(naive.sum())
    if n_naive:
        context.tally["naive stamps"] += n_naive
    if context.request.tz and n_naive:
        zone_name = context.request.tz
        local = whole.dt.replace_time_zone(zone_name, ambiguous="earliest", non_existent="null")
        later = whole.dt.replace_time_zone(zone_name, ambiguous="latest", non_existent="null")
        context.tally["ambiguous stamps"] += int(((local != later) & naive).fill_null(False).sum())
        skipped = local.is_null() & whole.is_not_null() & naive
        if skipped.any():  # the clock jumps over such a time: the offset before the jump is meant
            context.tally["skipped stamps"] += int(skipped.sum())
            before = whole.dt.offset_by("-1d").dt.replace_time_zone(
                zone_name, ambiguous="earliest", non_existent="null"
            )
            local = local.zip_with(~skipped, before + datetime.timedelta(days=1))
        ns = whole.dt.epoch("ns").zip_with(~naive, local.dt.epoch("ns"))
    else:
        ns = whole.dt.epoch("ns")
    signed = zone.str.replace("(?i)^(z|utc)$", "+00:00").fill_null("+00:00")
    minutes = signed.str.slice(1, 2).cast(pl.Int64, strict=False) * 60 + signed.str.slice(-2).cast(
        pl.Int64, strict=False
    )
    sign = signed.str.starts_with("-").cast(pl.Int64) * -2 + 1
    fraction = g.field("5").fill_null("0").str.pad_end(9, "0").cast(pl.Int64, strict=False)
    return ns - sign * minutes * 60_000_000_000 + fraction


def _flag(_field: Field, text: pl.Series, _context: Context) -> pl.Series:
    folded = text.str.to_lowercase()
    yes, no = folded.is_in(["true", "1", "yes", "t"]), folded.is_in(["false", "0", "no", "f"])
    return yes.set((~(yes | no)).fill_null(True), None)


def _ids(_field: Field, text: pl.Series, _context: Context) -> pl.Series:
    inner = text.str.extract(r"^\[(.*)\]$").str.split(",")
    out = inner.list.eval(pl.element().str.strip_chars().cast(pl.UInt64, strict=False))
    broken = out.list.eval(pl.element().is_null()).list.any().fill_null(False)
    empty = text.str.contains(r"^\[\s*\]$").fill_null(False)
    lists = pl.DataFrame({"x": out, "empty": empty, "broken": broken}).select(
        pl.when("empty")
        .then(pl.lit([], dtype=pl.List(pl.UInt64)))
        .when(~pl.col("broken"))
        .then("x")
        .alias("x")
    )
    return lists["x"]


_PARSERS: dict[str, Any] = {
    "tokens": _whole(pl.Int32),
    "integer": _whole(pl.Int64),
    "clock": _clock,
    "instant": _instant,
    "seconds": _number,
    "number": _number,
    "measure": _measure,
    "flag": _flag,
    "ids": _ids,
}


def explained(field: Field, text: str | None) -> str:
    """Why a cell was refused, in words; string values are masked."""
    cell = (text or "").strip()
    what = f"{masked(cell)!r}"
    if not cell:
        return "empty, and this column is needed"
    if cell.lower() in ("nan", "inf", "-inf", "+inf", "infinity", "-infinity"):
        return f"not a finite number: {cell}"
    if field.cell in ("tokens", "integer", "clock", "seconds", "number"):
        if not _NUMBER.fullmatch(cell):
            return f"not a number: {what}"
        value = float(cell)
        if field.minimum is not None and value < field.minimum:
            return f"negative: {what}" if field.minimum == 0 else f"below {field.minimum:g}: {what}"
        if field.cell in ("tokens", "integer"):
            return f"not a whole number: {what}" if value % 1 else f"too large: {what}"
        return f"too large: {what}"
    if field.cell == "instant":
        return f"not a date and time (YYYY-MM-DD HH:MM:SS.fffffffff, Z or offset): {what}"
    if field.cell == "measure":
        return f"not a number in {field.unit or 'plain figures'}: {what}"
    if field.cell == "ids":
        return "not a list of whole numbers below 2^64"
    if field.cell == "flag":
        return f"neither true nor false: {what}"
    return f"not usable: {what}"

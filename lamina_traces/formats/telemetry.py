"""What readers of telemetry share: names without addresses, notices said once, labels, long tables."""

from __future__ import annotations

import hashlib
import json
import re
import secrets
from collections.abc import Iterable, Mapping

import polars as pl

from ..errors import Notice
from .format import Context, Field
from .redaction import LONGEST_STRING, SECRET_PATTERN, cleaned, is_private, looks_private

_KEY = secrets.token_bytes(32)
_IPV6 = re.compile(r"\[?(?:[0-9a-f]{0,4}:){3,}[0-9a-f.]*", re.IGNORECASE)


def noted(context: Context, code: str, text: str, subject: str = "") -> None:
    """Say a notice once in a reading."""
    notices = context.state.setdefault("notices", [])
    notice = Notice(code, text, subject)
    if notice not in notices:
        notices.append(notice)


def is_address(name: str) -> bool:
    """Whether a host's or a label's value is a network address, a mail address, a key or long text."""
    return looks_private(name) or _IPV6.match(name) is not None


def host_name(name: str, context: Context) -> str:
    """The name of a host; ``host1``, ``host2``… in order of appearance where it is an address.

    What is kept for that is a digest under a key that ends with the process, never the address.
    """
    if not is_address(name):
        return name
    context.dropped.add("host addresses")
    known: dict[str, str] = context.state.setdefault("hosts", {})
    digest = hashlib.blake2b(name.encode(), key=_KEY, digest_size=16).hexdigest()
    return known.setdefault(digest, f"host{len(known) + 1}")


def host_names(column: pl.Series, context: Context) -> pl.Series:
    """``host_name`` of each value."""
    met = column.drop_nulls().unique(maintain_order=True)
    names = {name: host_name(name, context) for name in met}
    return column.replace_strict(names, default=None, return_dtype=pl.String)


def label_text(labels: Mapping[str, str]) -> str | None:
    """Labels as a JSON object, keys sorted; None where there are none."""
    if not labels:
        return None
    return json.dumps(dict(sorted(labels.items())), ensure_ascii=False, separators=(",", ":"))


def json_object(frame: pl.DataFrame, names: Iterable[str], context: Context) -> pl.Series:
    """Some columns of a frame as JSON objects without their nulls; null where all are null.

    Names that hold text or secrets are left out, and strings that look like them, as they are of every extra.
    """
    keep_text = context.request.keep_text
    parts: list[pl.Series] = []
    for name in names:
        if name not in frame.columns:
            continue
        if not keep_text and is_private(name):
            context.dropped.add(name)
            continue
        column = frame[name]
        if column.dtype == pl.String and not keep_text:
            column = without_secrets(column, context)
        pair = column.to_frame().select(pl.struct(name).struct.json_encode().alias(name))[name]
        parts.append(
            pair.str.slice(1).str.head(-1).set(column.is_null(), None).alias(f"{len(parts)}")
        )
    if not parts:
        return constant(None, frame.height, pl.String).alias("extra")
    joined = pl.DataFrame(parts).select(
        pl.concat_str(pl.all(), separator=",", ignore_nulls=True).alias("extra")
    )["extra"]
    return ("{" + joined + "}").set(joined == "", None).alias("extra")


def without_secrets(column: pl.Series, context: Context) -> pl.Series:
    """A column of strings less those that are text or secrets by their looks."""
    look = column.str.len_chars() > LONGEST_STRING
    look = look | column.str.contains(SECRET_PATTERN) | column.str.contains(r"^\s*[\[{]")
    rows = look.fill_null(False).arg_true()
    if not len(rows):
        return column
    new = [cleaned(t, context.dropped, column.name) for t in column.gather(rows)]
    return column.scatter(rows, pl.Series(new, dtype=pl.String))


_TYPES: dict[str, type[pl.DataType]] = {
    "tokens": pl.Int32, "integer": pl.Int64, "clock": pl.Int64, "instant": pl.Int64, "text": pl.String, "flag": pl.Boolean,
}  # fmt: skip


def completed(frame: pl.DataFrame, fields: Iterable[Field]) -> pl.DataFrame:
    """With a column of nulls for each field that the source does not have."""
    return frame.with_columns(
        pl.lit(None, _TYPES.get(f.cell, pl.Float64)).alias(f.name)
        for f in fields
        if f.name not in frame.columns
    )


def bounded(frame: pl.DataFrame) -> pl.DataFrame:
    """With nulls where a product or a quotient of what was recorded is beyond all numbers."""
    floats = pl.col(pl.Float64)
    return frame.with_columns(pl.when(floats.is_finite()).then(floats).name.keep())


def constant(value: str | float | bool | None, rows: int, dtype: type[pl.DataType]) -> pl.Series:
    """A column of one value."""
    return pl.Series([value], dtype=dtype).new_from_index(0, rows)

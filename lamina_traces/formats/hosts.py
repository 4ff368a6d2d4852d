"""Names of hosts and people that are addresses: what may be kept of them."""

from __future__ import annotations

import hashlib
import re
import secrets
from collections.abc import Sequence

import polars as pl

from .format import Context
from .redaction import looks_private

_KEY = secrets.token_bytes(32)
_IPV6 = re.compile(r"\[?(?:[0-9a-f]{0,4}:){3,}[0-9a-f.]*", re.IGNORECASE)


def is_address(name: str) -> bool:
    """Whether a host's or a label's value is a network address, a mail address, a key or long text."""
    return looks_private(name) or _IPV6.match(name) is not None


def host_name(name: str, context: Context) -> str:
    """The name of a host; ``host1``, ``host2``… in order of appearance where it is an address.

    --keep-text keeps the address. Otherwise a digest is kept under a key that ends with the process.
    """
    if context.request.keep_text or not is_address(name):
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


def without_addresses(frame: pl.DataFrame, names: Sequence[str], context: Context) -> pl.DataFrame:
    """Identifiers less those that are addresses, keys or text (--keep-text keeps them)."""
    if context.request.keep_text:
        return frame
    out = frame
    for name in names:
        met = [v for v in frame[name].drop_nulls().unique() if is_address(v)]
        bad = frame[name].is_in(met).fill_null(False)
        if bad.any():
            context.dropped.add(name)
            out = out.with_columns(frame[name].set(bad, None))
    return out

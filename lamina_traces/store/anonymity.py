"""Pseudonyms: ids of people and of their text, hashed with a secret that stays in the store.

The same id gets the same pseudonym everywhere in one store, so sessions and shared prefixes stay what they
are; without the store's key nobody can test a guess. BLAKE2b with a key of 32 random bytes, 128 bits of
digest for text ids and 64 for prefix blocks.
"""

from __future__ import annotations

import hashlib
import os
import secrets
from pathlib import Path

import polars as pl

from ..errors import StoreError

TEXT_IDS = (
    "request_id", "parent_request_id", "user_id", "tenant_id", "client_id", "session_id", "workflow_id",
    "owner_id", "group_id", "entity_id", "job_id", "func_id", "app_id", "pod_id",
)  # fmt: skip
BLOCK_IDS = ("prefix_hashes", "output_hashes")
LEFT_OUT = ("extra", "error_message")
"""columns that may hold anything, and are left out of an anonymized trace."""
_KEY_BYTES = 32


class Pseudonyms:
    """The pseudonyms of one store; its key is made when first needed, readable by its owner alone."""

    def __init__(self, store: Path) -> None:
        self._key = _key(store / "key")

    def text(self, ids: pl.Series) -> pl.Series:
        """Pseudonyms of text ids; null stays null."""
        known = ids.drop_nulls().unique()
        new = [
            hashlib.blake2b(i.encode(), key=self._key, digest_size=16).hexdigest() for i in known
        ]
        return ids.replace_strict(known, pl.Series(new, dtype=pl.String), default=None)

    def blocks(self, ids: pl.Series) -> pl.Series:
        """Pseudonyms of lists of block ids; equal blocks stay equal, a prefix stays a prefix."""
        known = ids.explode(empty_as_null=True).drop_nulls().unique()
        digests = (
            hashlib.blake2b(int(i).to_bytes(8, "little"), key=self._key, digest_size=8).digest()
            for i in known
        )
        new = pl.Series([int.from_bytes(d, "little") for d in digests], dtype=pl.UInt64)
        of_one = pl.element().replace_strict(known, new, default=None, return_dtype=pl.UInt64)
        return ids.list.eval(of_one)

    def frame(self, frame: pl.DataFrame) -> pl.DataFrame:
        """Rows with pseudonyms for ids, and without what may hold anything."""
        return frame.drop(LEFT_OUT, strict=False).with_columns(
            *(self.text(frame[c]) for c in TEXT_IDS if c in frame.columns),
            *(self.blocks(frame[c]) for c in BLOCK_IDS if c in frame.columns),
        )


def _key(path: Path) -> bytes:
    """The store's key, made when it is not there. Two makers at once agree on the first."""
    try:
        if not path.exists():
            path.parent.mkdir(parents=True, exist_ok=True)
            fresh = path.with_name(f".key.{secrets.token_hex(4)}")
            with os.fdopen(
                os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb"
            ) as out:
                out.write(secrets.token_bytes(_KEY_BYTES))
                out.flush()
                os.fsync(out.fileno())
            try:
                os.link(fresh, path)
            except FileExistsError:
                pass
            finally:
                fresh.unlink()
        key = path.read_bytes()
    except OSError as e:
        raise StoreError(
            f"{path}: the store's key cannot be read: {e.strerror or e}", "check who owns the store"
        ) from e
    if len(key) != _KEY_BYTES:
        raise StoreError(
            f"{path}: the store's key is damaged",
            "restore it from a copy; a new key would give every id another pseudonym",
        )
    return key

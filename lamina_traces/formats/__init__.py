"""Foreign formats: every reader and writer.

``open_reading`` streams canonical blocks out of foreign files, ``export`` streams canonical batches
into files that other tools load. A format is one module here and one line in ``FORMATS``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

from . import azure, burstgpt
from .detection import head_of, read_head, recognised
from .format import Format
from .inputs import Limits, Stream
from .reading import Block, Input, Reading, Summary
from .reading import open_reading as _open_reading

FORMATS: dict[str, Format] = {m.FORMAT.name: m.FORMAT for m in (burstgpt, azure)}
"""formats by name, in the order in which catalogues list them."""

__all__ = [
    "FORMATS",
    "Block",
    "Format",
    "Input",
    "Limits",
    "Reading",
    "Summary",
    "detect",
    "open_reading",
]


def open_reading(
    paths: Iterable[str | Path] | str | Path,
    *,
    as_format: str | None = None,
    mapping: Mapping[str, str] | str | None = None,
    time_unit: str | None = None,
    tz: str | None = None,
    keep_text: bool = False,
    kind: str | None = None,
    progress: Callable[[int, int | None], None] | None = None,
    hashed: bool = True,
    limits: Limits | None = None,
) -> Reading:
    """Open sources for reading: detect their format, bind its columns, fail early.

    ``paths``: files (plain, gz, zst; told by content) or ``"-"`` for standard input. ``mapping`` is
    canonical (or short) name → source column and selects the ``columns`` reader. ``progress`` is called
    with (bytes read, size or None) of the current input; ``hashed=False`` leaves out the sha256.

    Raises UsageError (no such file, directory, wrong option), UnknownFormat, DataError (empty, binary,
    header only, a column missing).
    """
    return _open_reading(
        paths,
        formats=FORMATS,
        as_format=as_format,
        mapping=mapping,
        time_unit=time_unit,
        tz=tz,
        keep_text=keep_text,
        kind=kind,
        progress=progress,
        hashed=hashed,
        limits=limits,
    )


def detect(path_or_head: str | Path | bytes) -> Format:
    """The format of a file, or of the first bytes of one, by the set of its column names or keys.

    Raises UnknownFormat when no format fits, or several do.
    """
    if isinstance(path_or_head, bytes):
        return recognised(head_of(path_or_head)[0], FORMATS)
    stream = Stream(path_or_head, Limits(), hashed=False)
    try:
        if stream.is_parquet:
            from .parquet import parquet_head

            return recognised(parquet_head(path_or_head), FORMATS)
        return recognised(read_head(stream)[0], FORMATS)
    finally:
        stream.close()

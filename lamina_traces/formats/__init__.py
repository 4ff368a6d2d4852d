"""Foreign formats: every reader and writer.

``open_reading`` streams canonical blocks out of foreign files, ``export`` streams canonical batches
into files that other tools load. A format is one module here and one line in ``FORMATS``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

import polars as pl

from . import (
    acme_power,
    azure,
    azure_functions,
    burstgpt,
    cdf_curves,
    codecarbon,
    columns,
    gentd26,
    huawei_cold_start,
    huawei_request,
    huawei_runtime,
    huawei_wide,
    ibm_code_engine,
    invitro,
    lambda_perf,
    lambda_report,
    lamina,
    mooncake,
    nvidia_dmon,
    nvidia_smi,
    openmetrics,
    openwhisk,
    operating_points,
    pai,
    philly,
    prometheus,
    ptdaemon,
    slurm_jobs,
    zeus,
)
from .detection import head_of, read_head, recognised
from .exporting import ExportSummary, Target
from .exporting import export as _export
from .format import Format
from .inputs import Limits, Stream
from .parquet import parquet_head
from .reading import Reading, Resume
from .reading import open_reading as _open_reading
from .summary import Block, Input, Preview, Summary

FORMATS: dict[str, Format] = {
    f.name: f
    for f in (
        burstgpt.FORMAT,
        azure.FORMAT,
        mooncake.FORMAT,
        huawei_cold_start.FORMAT,
        huawei_request.FORMAT,
        huawei_runtime.FORMAT,
        *huawei_wide.FORMATS,
        *azure_functions.FORMATS,
        lambda_perf.FORMAT,
        lambda_report.FORMAT,
        invitro.FORMAT,
        openwhisk.FORMAT,
        ibm_code_engine.FORMAT,
        *gentd26.FORMATS,
        nvidia_smi.FORMAT,
        nvidia_dmon.FORMAT,
        *ptdaemon.FORMATS,
        *zeus.FORMATS,
        codecarbon.FORMAT,
        *acme_power.FORMATS,
        *operating_points.FORMATS,
        *cdf_curves.FORMATS,
        *philly.FORMATS,
        *slurm_jobs.FORMATS,
        *pai.FORMATS,
        *openmetrics.FORMATS,
        prometheus.FORMAT,
        lamina.FORMAT,
        columns.FORMAT,
    )
}
"""formats by name, in the order in which catalogues list them."""
TARGETS: dict[str, Target] = {m.TARGET.name: m.TARGET for m in (mooncake, burstgpt, azure)}
"""export targets by name."""

__all__ = [
    "FORMATS", "TARGETS", "Block", "ExportSummary", "Format", "Input", "Limits", "Preview", "Reading",
    "Resume", "Summary", "Target", "detect", "export", "open_reading", "preview",
]  # fmt: skip


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
    resume: Resume | None = None,
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
        resume=resume,
    )


def detect(path_or_head: str | Path | bytes) -> Format:
    """The format of a file, or of the first bytes of one, by the set of its column names or keys.

    Raises UnknownFormat when no format fits, or several do.
    """
    if isinstance(path_or_head, bytes):
        return recognised(head_of(path_or_head)[0], FORMATS)[1]
    stream = Stream(path_or_head, Limits(), hashed=False)
    try:
        if stream.is_parquet:
            return recognised(parquet_head(path_or_head), FORMATS)[1]
        return recognised(read_head(stream)[0], FORMATS)[1]
    finally:
        stream.close()


def export(
    batches: Iterable[pl.DataFrame],
    target: str,
    path: str | Path,
    *,
    origin_ns: int | None = None,
    progress: Callable[[int], None] | None = None,
) -> ExportSummary:
    """Write canonical ``batches`` (sorted by ``arrival_ns``) as ``target`` to ``path``.

    The file appears whole or not at all. ``origin_ns`` is the unix time of arrival 0, for targets with
    a calendar. ``progress`` is called with rows so far.

    Raises UnknownName (target), UsageError (path), DataError (a needed column is absent, the batches
    are not sorted, nothing is left to write).
    """
    return _export(batches, target, path, targets=TARGETS, origin_ns=origin_ns, progress=progress)


def preview(
    paths: Iterable[str | Path] | str | Path,
    *,
    rows: int = 5,
    as_format: str | None = None,
    mapping: Mapping[str, str] | str | None = None,
    time_unit: str | None = None,
    tz: str | None = None,
    keep_text: bool = False,
    kind: str | None = None,
) -> Preview:
    """What ``ingest`` would do, from the first block alone (--dry-run). Raises as ``open_reading``."""
    reading = open_reading(
        paths,
        as_format=as_format,
        mapping=mapping,
        time_unit=time_unit,
        tz=tz,
        keep_text=keep_text,
        kind=kind,
        hashed=False,
        limits=Limits(block_bytes=1 << 20),
    )
    return reading.preview(rows)

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
    aibrix,
    aiperf,
    azure,
    azure_functions,
    azure_lmm,
    bailian,
    blis_v2,
    burstgpt,
    cdf_curves,
    codecarbon,
    columns,
    dynamo,
    gentd26,
    guidellm,
    hexgen,
    huawei_cold_start,
    huawei_request,
    huawei_runtime,
    huawei_wide,
    ibm_code_engine,
    inference_perf,
    invitro,
    lambda_perf,
    lambda_report,
    lamina,
    litellm,
    llmservingsim,
    mooncake,
    nvidia_dmon,
    nvidia_smi,
    openai_usage,
    openmetrics,
    openwhisk,
    operating_points,
    otel,
    pai,
    philly,
    prometheus,
    ptdaemon,
    ragpulse,
    servegen,
    sglang_metrics,
    slurm_jobs,
    splitwise_sim,
    swissai,
    vidur,
    vllm_bench,
    vllm_requests,
    weka,
    zeus,
)
from .detection import head_of, read_head, recognised
from .exporting import ExportSummary, Target
from .exporting import export as _export
from .format import Before, Format
from .inputs import Limits, Stream, files_of
from .parquet import parquet_head
from .reading import Reading, Resume
from .reading import open_reading as _open_reading
from .summary import Block, Input, Preview, Summary
from .targets import TARGETS

FORMATS: dict[str, Format] = {
    f.name: f
    for f in (
        burstgpt.FORMAT,
        azure.FORMAT,
        azure_lmm.FORMAT,
        mooncake.FORMAT,
        bailian.FORMAT,
        *ragpulse.FORMATS,
        *weka.FORMATS,
        vidur.FORMAT,
        llmservingsim.FORMAT,
        hexgen.FORMAT,
        splitwise_sim.FORMAT,
        blis_v2.FORMAT,
        swissai.FORMAT,
        aibrix.FORMAT,
        vllm_requests.FORMAT,
        *servegen.FORMATS,
        *otel.FORMATS,
        litellm.FORMAT,
        sglang_metrics.FORMAT,
        dynamo.FORMAT,
        openai_usage.FORMAT,
        vllm_bench.FORMAT,
        aiperf.FORMAT,
        guidellm.FORMAT,
        inference_perf.FORMAT,
        huawei_cold_start.FORMAT,
        nvidia_smi.FORMAT,
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

__all__ = [
    "FORMATS", "TARGETS", "Before", "Block", "ExportSummary", "Format", "Input", "Limits", "Preview", "Reading",
    "Resume", "Summary", "Target", "detect", "export", "files_of_all", "open_reading", "preview",
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


def files_of_all(paths: Iterable[str | Path]) -> list[str | Path]:
    """The files that ``paths`` stand for: those in folders in order of their names."""
    return [f for p in paths for f in files_of(p)]


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
    tables: Iterable[pl.DataFrame] | Mapping[str, Iterable[pl.DataFrame]],
    target: str,
    path: str | Path,
    *,
    origin_ns: int | None = None,
    clock: str = "relative",
    nature: str = "derived",
    progress: Callable[[int], None] | None = None,
) -> ExportSummary:
    """Write canonical frames (sorted by time) as ``target`` to ``path``.

    ``tables``: frames by table, or the frames of ``llm_requests`` alone. The file or folder appears whole
    or not at all. ``origin_ns`` is the unix time of arrival 0, for targets with a calendar; ``clock`` and
    ``nature`` are told to targets that keep them. ``progress`` is called with rows so far.

    Raises UnknownName (target), UsageError (path, a trace of another kind), DataError (a needed column is
    absent, the rows are not sorted, nothing is left to write).
    """
    return _export(
        tables,
        target,
        path,
        targets=TARGETS,
        origin_ns=origin_ns,
        clock=clock,
        nature=nature,
        progress=progress,
    )


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

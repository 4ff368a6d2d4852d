"""The readers by name, and what is done with them: a format is one module of this folder and its name here."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from importlib import import_module
from pathlib import Path

import polars as pl

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

_MODULES = (
    # traces of LLM services, and what simulators and load generators read
    "burstgpt", "azure", "azure_lmm", "mooncake", "bailian", "ragpulse", "weka", "swissai", "servegen", "hexgen",
    "aibrix", "vidur", "splitwise_sim", "llmservingsim", "blis_v2",
    # logs of LLM services in production
    "otel", "litellm", "dynamo", "sglang_metrics", "openai_usage",
    # measured runs of LLM services
    "vllm_requests", "vllm_bench", "aiperf", "guidellm", "inference_perf", "operating_points",
    # serverless
    "azure_functions", "huawei_cold_start", "huawei_request", "huawei_runtime", "huawei_wide", "ibm_code_engine",
    "gentd26", "lambda_perf", "lambda_report", "openwhisk", "invitro",
    # power and energy
    "nvidia_smi", "nvidia_dmon", "ptdaemon", "zeus", "codecarbon", "acme_power",
    # jobs and their failures
    "philly", "slurm_jobs", "pai",
    # metrics and curves
    "openmetrics", "prometheus", "cdf_curves",
    # our own
    "lamina", "columns",
)  # fmt: skip
"""the modules of this folder that have ``FORMATS``, a tuple."""
FORMATS: dict[str, Format] = {
    f.name: f for name in _MODULES for f in import_module(f".{name}", __package__).FORMATS
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
    return [f for p in paths for f in files_of(p)[0]]


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

"""Adding files to a trace: what may be added, where the new rows begin, and how the manifests join."""

from __future__ import annotations

import datetime
import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import polars as pl

from .. import formats
from ..errors import Notice, UsageError
from ..units import NS_PER_S, format_seconds
from .anonymity import Pseudonyms
from .manifest import COUNTS, Manifest
from .trace import Trace
from .writer import TraceWriter


def check(before: Trace, paths: Sequence[str | Path], anonymize: bool) -> None:
    """Raises UsageError where a file is in the trace already, or the trace's ids would be of two kinds."""
    there = {i.sha256: i.name for i in before.manifest.inputs if i.sha256}
    for path in paths:
        if not Path(path).is_file():
            continue
        with Path(path).open("rb") as file:
            found = there.get(hashlib.file_digest(file, "sha256").hexdigest())
        if found is not None:
            raise UsageError(
                f"{path} is in trace {before.name!r} already, as {found}",
                "nothing was added; leave it out, or make the trace anew with --replace",
            )
    if anonymize != bool(before.manifest.provenance.get("anonymized")):
        raise UsageError(
            f"trace {before.name!r} is {'not ' if anonymize else ''}anonymized",
            "leave out --anonymize" if anonymize else "add --anonymize",
        )


def check_format(before: Trace, read: formats.Format) -> None:
    """Raises UsageError where the files are of another format than the trace."""
    old = formats.FORMATS.get(before.manifest.format)
    if old is None or old.group != read.group:
        raise UsageError(
            f"trace {before.name!r} is {before.manifest.format or 'of no format'}, the files are {read.name}",
            "ingest them under a name of their own",
        )


def resume(before: Trace, writer: TraceWriter, masks: Pseudonyms | None) -> formats.Resume:
    """Begin the writer with what the trace holds; where the reading goes on."""
    free = writer.resume(before)
    origin = before.manifest.origin_ns
    if origin is None and before.manifest.origin_local:
        local = datetime.datetime.fromisoformat(before.manifest.origin_local)
        origin = int(local.replace(tzinfo=datetime.UTC).timestamp()) * 10**9

    def rows(columns: Sequence[str]) -> pl.DataFrame:
        return before.scan().select(columns).collect()

    return formats.Resume(
        free, origin, formats.Before(rows, masks.text if masks else lambda ids: ids)
    )


def zone(before: Trace, asked: str | None) -> str | None:
    """The zone of naive stamps: that of the trace. Raises UsageError where another one is asked for."""
    known: str | None = before.manifest.provenance.get("tz")
    if asked is not None and asked != known:
        raise UsageError(
            f"trace {before.name!r} was read with {'--tz ' + known if known else 'no --tz'}, this is --tz {asked}",
            "ingest the files under a name of their own",
        )
    return known


def overlap(before: Manifest, first_ns: int | None) -> tuple[Notice, ...]:
    """What to say when rows are added that begin before the trace ends."""
    if first_ns is None or before.arrival_last_ns is None or first_ns > before.arrival_last_ns:
        return ()
    s = format_seconds((before.arrival_last_ns - first_ns) / NS_PER_S)
    why = (
        "; a clock that begins anew in each file lays the files over each other"
        if before.clock == "relative"
        else ""
    )
    return (
        Notice(
            "overlap", f"the added rows begin {s} before those already there end{why}", "arrival_ns"
        ),
    )


def joined(before: Manifest, facts: Mapping[str, Any]) -> dict[str, Any]:
    """The manifest's facts of both. Raises UsageError where the clocks differ."""
    if facts["clock"] != before.clock:
        raise UsageError(
            f"trace {before.name!r} has a {before.clock} clock, the files have a {facts['clock']} one",
            "ingest them under a name of their own",
        )
    if facts["sampled"] != before.sampled:
        raise UsageError(
            f"trace {before.name!r} is of a sample of {before.sampled or 1:g}, the files of {facts['sampled'] or 1:g}",
            "say the same share with --sampled, or ingest them under a name of their own",
        )
    versions = dict.fromkeys(
        [*before.format_version.split(", "), *facts["format_version"].split(", ")]
    )
    return {
        **facts,
        "nature": before.nature,
        "origin_ns": before.origin_ns,
        "origin_local": before.origin_local,
        "inputs": (*before.inputs, *facts["inputs"]),
        "counts": {k: before.counts.get(k, 0) + facts["counts"][k] for k in COUNTS},
        "format": before.format,
        "format_version": ", ".join(v for v in versions if v),
        "mapping": tuple(dict.fromkeys([*before.mapping, *facts["mapping"]])),
        "dropped_fields": tuple(dict.fromkeys([*before.dropped_fields, *facts["dropped_fields"]])),
        "notices": tuple(
            {(n.code, n.subject): n for n in (*before.notices, *facts["notices"])}.values()
        ),
        "provenance": {**before.provenance, **facts["provenance"]},
    }

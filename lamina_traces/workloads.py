"""What the word WORKLOAD on a command line stands for: a stored trace, a file, or a workload profile.

``has a separator or an extension`` means a path; otherwise a stored name or a library name. A word that is
both is an error; ``store:NAME`` and ``library:NAME`` settle it. Files and library profiles are opened in a
temporary store that lasts as long as the process.
"""

from __future__ import annotations

import atexit
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pyarrow.parquet as pq

from . import formats, generator
from .characterization import characterize
from .errors import DataError, UnknownName, UsageError
from .formats.parquet import ParquetSink
from .generator.journal import Journal
from .generator.observed import Observed
from .profile import Profile, library_names
from .schema import TABLES
from .store import Store, Trace
from .units import NS_PER_S, Rate, format_count, format_seconds, parse_duration_ns

Say = Callable[[str], None]
MOST_GENERATED = 1_000_000
"""requests that a profile is turned into where a command needs a trace and none was asked for by size."""

__all__ = [
    "Profile",
    "Source",
    "Trace",
    "export",
    "generated",
    "open_profile",
    "resolve",
    "selected",
    "store_generated",
    "trace",
    "with_poisson",
    "write_parquet",
]


_temporary: Store | None = None


def _silent(_text: str) -> None:
    return None


def temporary_store() -> Store:
    """A store in a temporary folder, removed when the process ends."""
    global _temporary
    if _temporary is None:
        folder = tempfile.mkdtemp(prefix="lamina-")
        atexit.register(shutil.rmtree, folder, ignore_errors=True)
        _temporary = Store(folder)
    return _temporary


def is_path(text: str) -> bool:
    """Whether a word names a file: it has a separator or an extension, or is standard input."""
    return text == "-" or "/" in text or "\\" in text or bool(Path(text).suffix)


def resolve(text: str, *, store: Path | None = None, say: Say = _silent) -> Trace | Profile:
    """The trace or profile that ``text`` stands for. Raises UsageError (unknown, ambiguous), DataError."""
    scope, _, rest = text.partition(":")
    if scope == "library" and rest:
        return Profile.library(rest)
    if scope == "store" and rest:
        return Store(store).trace(rest)
    opened = Store(store)
    stored = text in opened
    if is_path(text):
        if stored and Path(text).exists():
            raise UsageError(
                f"{text!r} is a file and a stored trace", f"write ./{text} or store:{text}"
            )
        if stored:
            return opened.trace(text)
        if _is_profile(Path(text)):
            return Profile.load(text)
        found = temporary_store().ingest([text])
        say(f"read {text} into a temporary store: {found.manifest.summary_line()}")
        return found
    library = library_names()
    if stored and text in library:
        raise UsageError(
            f"{text!r} is a stored trace and a library profile",
            f"write store:{text} or library:{text}",
        )
    if stored:
        return opened.trace(text)
    if text in library:
        return Profile.library(text)
    if Path(text).exists():
        raise UsageError(
            f"{text!r} is not a stored trace; a file of this name exists",
            f"write ./{text} to read the file",
        )
    raise UnknownName(
        "trace or profile",
        text,
        [*opened.names(), *library],
        "lamina-traces ls, lamina-traces catalog presets",
    )


def _is_profile(path: Path) -> bool:
    try:
        with path.open("rb") as f:
            return b"lamina-profile/" in f.read(4096)
    except OSError:
        return False


def trace(text: str, *, seed: int = 0, store: Path | None = None, say: Say = _silent) -> Trace:
    """As ``resolve``; a profile is generated (see ``generated``)."""
    found = resolve(text, store=store, say=say)
    return found if isinstance(found, Trace) else generated(found, seed=seed, say=say)


def generated(
    profile: Profile,
    *,
    seed: int = 0,
    rate: Rate | None = None,
    most: int = MOST_GENERATED,
    say: Say = _silent,
) -> Trace:
    """A trace of a profile over its source's own span or, where that is more than ``most`` requests, over its beginning; in
    the temporary store."""
    plan, cut = generator.plan(profile, seed=seed, rate=rate), ""
    if plan.expected_rows > most:
        cut = f", the first of about {format_count(plan.expected_rows)}"
        plan = replace(plan, rows=most, duration_ns=None)
    made = temporary(f"{profile.name} seed {seed}", plan)
    say(
        f"generated {format_count(made.manifest.rows)} rows{cut} from profile {profile.name} (seed {seed}) into a temporary store"
    )
    return made


@dataclass(frozen=True)
class Source:
    """A workload that several runs use: made anew by seed, and at other rates.

    ``found``: what the word on the command line stands for. ``poisson``: arrivals per second in place of
    recorded ones. ``factor``: on its own rate. ``where``, ``start``, ``end``: as --where, --from, --to. ``most``: requests of a profile.
    """

    found: Trace | Profile
    poisson: float | None = None
    factor: float = 1.0
    where: str | None = None
    start: str | None = None
    end: str | None = None
    most: int = MOST_GENERATED
    say: Say = _silent

    @property
    def name(self) -> str:
        return self.found.name

    @property
    def random(self) -> bool:
        """Whether another seed is another workload."""
        return self.poisson is not None or isinstance(self.found, Profile)

    @property
    def scaling(self) -> str:
        """What another rate means."""
        if self.poisson is not None:
            return "the rate of the Poisson arrivals"
        if isinstance(self.found, Profile):
            return "the generator's rate: each stream busier"
        return "recorded time: arrivals and delays between turns shrink or stretch"

    def at(self, seed: int, factor: float = 1.0) -> tuple[Trace, float]:
        """The trace of a seed at ``factor`` times the rate, and what the rate is still to be multiplied by: 1 where
        the trace has the rate already, ``factor`` where only time can be scaled."""
        factor *= self.factor
        left, chosen = factor, self.found
        if isinstance(chosen, Profile):
            rate = None if factor == 1.0 or self.poisson is not None else Rate(factor=factor)
            chosen, left = (
                generated(chosen, seed=seed, rate=rate, most=self.most, say=self.say),
                1.0,
            )
        chosen = selected(chosen, self.where, self.start, self.end)
        if self.poisson is not None:
            chosen, left = with_poisson(chosen, self.poisson * factor, seed, say=self.say), 1.0
        return chosen, left


def temporary(name: str, plan: generator.Plan) -> Trace:
    """A plan's rows as a trace in the temporary store."""
    store_generated(temporary_store(), name, Job(plan), replace=True)
    return temporary_store().trace(name)


def with_poisson(chosen: Trace, rate_per_s: float, seed: int, *, say: Say = _silent) -> Trace:
    """A copy of a trace in a temporary store whose rows, in source order, arrive as a Poisson process.

    For traces that record no arrivals, and for studies: recorded arrivals are replaced.
    """
    rng = np.random.Generator(np.random.Philox(seed))
    with temporary_store().writer(
        f"{chosen.name} poisson", kind="llm", nature="derived", replace=True
    ) as writer:
        frame = chosen.scan("llm_requests").sort("row_id").collect()
        t = np.cumsum(rng.exponential(1 / rate_per_s, frame.height))
        arrival = pl.Series("arrival_ns", np.floor(t * NS_PER_S).astype(np.int64))
        writer.write("llm_requests", frame.with_columns(arrival))
        made = writer.commit(
            clock="relative",
            format=chosen.manifest.format,
            inputs=chosen.manifest.inputs,
            provenance={
                "trace": chosen.name,
                "arrivals": f"poisson {rate_per_s:g}/s",
                "seed": seed,
            },
        )
    say(
        f"arrivals of {chosen.name} are a Poisson process of {rate_per_s:g} per second (seed {seed}), not recorded ones"
    )
    return made


def open_profile(text: str, *, store: Path | None = None, say: Say = _silent) -> Profile:
    """As ``resolve``; a trace is characterized."""
    found = resolve(text, store=store, say=say)
    if isinstance(found, Profile):
        return found
    say(f"fitting {found.name}")
    return characterize(found)


def selected(
    chosen: Trace,
    where: str | None,
    start: str | None,
    end: str | None,
    *,
    masks: Sequence[str] = (),
    sampled: float | None = None,
) -> Trace:
    """The part of a trace that --where, --from, --to and --mask leave; ``sampled`` as --sampled says."""
    if where is not None or start is not None or end is not None:
        chosen = chosen.select(where, _instant(chosen, start), _instant(chosen, end))
    for text in masks:
        first, dots, last = text.partition("..")
        if not (dots and first and last):
            raise UsageError(f"mask {text!r} is not START..END", "write it like 20m..35m")
        begin, finish = _instant(chosen, first), _instant(chosen, last)
        if begin is None or finish is None or finish <= begin:
            raise UsageError(f"mask {text!r} ends before it starts", "write it like 20m..35m")
        m = chosen.manifest
        if (
            m.arrival_first_ns is None
            or finish <= m.arrival_first_ns
            or begin > (m.arrival_last_ns or 0)
        ):
            raise UsageError(
                f"mask {text!r} lies outside the trace, which spans {format_seconds(m.span_s)}",
                "times count from the trace's origin: see lamina-traces show TRACE",
            )
        chosen = chosen.mask(begin, finish)
    if sampled is not None:
        if not 0 < sampled <= 1:
            raise UsageError(f"--sampled {sampled:g} is no share", "give a number above 0, up to 1")
        chosen = replace(chosen, manifest=replace(chosen.manifest, sampled=sampled))
    return chosen


def _instant(chosen: Trace, text: str | None) -> int | None:
    """ns from the trace's origin: a duration after it, or an ISO instant where the clock has an origin."""
    if text is None:
        return None
    try:
        stamp = datetime.fromisoformat(text)
    except ValueError:
        return 0 if text in ("0", "0s") else parse_duration_ns(text)
    origin = chosen.manifest.origin_ns
    if origin is None or stamp.tzinfo is None:
        why = (
            "has no zone"
            if origin is not None
            else f"needs a trace with an absolute clock, and {chosen.name!r} has a {chosen.manifest.clock} one"
        )
        raise UsageError(
            f"instant {text!r} {why}",
            "write it like 2023-11-16T18:20:00+00:00, or as a duration after the origin: 10m",
        )
    epoch = datetime.fromisoformat("1970-01-01T00:00:00+00:00")
    delta = stamp - epoch
    return (delta.days * 86400 + delta.seconds) * NS_PER_S + delta.microseconds * 1000 - origin


# --- generated traces ------------------------------------------------------------------------------


def provenance(p: generator.Plan, shard: generator.Shard | None = None) -> dict[str, Any]:
    """What a generated trace was made from."""
    return {
        "profile": p.profile.name,
        "profile_sha256": generator.profile_sha256(p.profile),
        "seed": p.seed,
        "generator_version": generator.GENERATOR_VERSION,
        "duration_ns": p.duration_ns,
        "rows": p.rows,
        "rate_factor": p.factor,
        "options": dict(p.options),
        "block_ns": p.maker.block_ns,
        "shard": f"{shard.index}/{shard.count}" if shard else None,
    }


@dataclass(frozen=True)
class Job:
    """What to generate, and how: ``threads`` change the speed and nothing else; ``progress`` is told of rows made."""

    plan: generator.Plan
    shard: generator.Shard | None = None
    threads: int = 1
    progress: Callable[[int], None] | None = None

    def facts(self) -> dict[str, Any]:
        """What files and the journal say of themselves."""
        facts = {"clock": "relative", "origin_ns": None, "nature": "synthetic"}
        return facts | provenance(self.plan, self.shard)

    def run(self, journal: Journal) -> None:
        journal.write(self.plan, shard=self.shard, threads=self.threads, progress=self.progress)


def checked_file(path: Path, *, replace: bool = False) -> None:
    """Raises UsageError where a generated file cannot go, before there is one: there is a folder, or a file that is not to
    be replaced."""
    if path.is_dir():
        raise UsageError(f"{path} is a folder", f"name a file in it: {path / 'trace.parquet'}")
    if path.exists() and not replace:
        raise UsageError(f"{path} exists", "replace it with --replace, or name another file")


def checked_name(name: str) -> None:
    """Raises UsageError where a stored trace of this name would hide a library profile, and the other way round."""
    if name in library_names():
        raise UsageError(
            f"{name!r} is a library profile: a trace of its name would make both ambiguous",
            f"choose another name, as {name}-1",
        )


def store_generated(
    store: Store, name: str, job: Job, *, replace: bool = False, say: Say = _silent
) -> Observed:
    """Generate into the store; the manifest carries the row hash and the provenance. Interrupted, the parts that are whole
    stay in the store's folder ``unfinished``, and the same job goes on from there."""
    kind = TABLES[job.plan.table].kind
    checked_name(name)
    with (
        store.writer(name, kind=kind, nature="synthetic", replace=replace) as writer,
        _journal(store.unfinished(name), job, say) as journal,
    ):
        made = journal.seen
        given = {c: c in made.filled for c in pl.read_parquet_schema(journal.files[0])}
        writer.adopt(job.plan.table, journal.files, made.rows, given)
        writer.commit(
            clock="relative",
            format="lamina",
            row_hash=made.row_hash,
            provenance=provenance(job.plan, job.shard),
        )
        journal.remove()
    return made


def write_parquet(path: Path, job: Job, *, replace: bool = False, say: Say = _silent) -> Observed:
    """Generate into one Parquet file, whole or not at all. Interrupted, the parts that are whole stay in a hidden folder
    beside it, and the same job goes on from there. The file's metadata hold the provenance under ``lamina_traces``. Raises
    UsageError where the file exists and is not to be replaced."""
    checked_file(path, replace=replace)
    try:
        with _journal(path.with_name(f".{path.name}.parts"), job, say) as journal:
            joined(journal.files, path, job.facts())
            made = journal.seen
            journal.remove()
    except OSError as e:
        raise DataError(
            f"cannot be written: {e.strerror or e}",
            "name a file in an existing, writable folder with room",
            path=path,
        ) from e
    return made


@contextmanager
def _journal(folder: Path, job: Job, say: Say) -> Iterator[Journal]:
    """A journal whose parts are all there."""
    journal = Journal(folder, job.facts())
    try:
        if journal.place is not None:
            say(f"going on after row {journal.place.rows:,} of an interrupted run")
        job.run(journal)
        yield journal
    except BaseException:
        if journal.parts:
            say(f"{journal.kept:,} rows are kept in {folder}; the same command goes on there")
        journal.leave()
        raise


def joined(parts: Sequence[Path], path: Path, facts: Mapping[str, Any]) -> None:
    """One Parquet file of several; a single part becomes it."""
    if len(parts) == 1:
        parts[0].replace(path)
        return
    temporary = path.with_name(f".{path.name}.partial")
    try:
        with ParquetSink(temporary) as sink:
            for part in parts:
                with pq.ParquetFile(part, memory_map=True) as file:
                    for i in range(file.num_row_groups):
                        sink.add_table(file.read_row_group(i, use_threads=False))
            sink.finish(facts)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


# --- export ----------------------------------------------------------------------------------------


def gap_cv(chosen: Trace) -> float | None:
    """Standard deviation over mean of the gaps between arrivals; None below two, or where all are zero."""
    if not chosen.has("arrival_ns"):
        return None
    gap = pl.col("arrival_ns").drop_nulls().diff().drop_nulls() / NS_PER_S
    found = chosen.scan(chosen.main_table).select(mean=gap.mean(), sd=gap.std(ddof=0)).collect()
    mean, sd = found.row(0)
    return float(sd / mean) if mean else None


def export(chosen: Trace, target: str, path: Path) -> formats.ExportSummary:
    """Write a trace as a file or folder that another tool imports; see ``formats.export``."""
    main = chosen.manifest.main_table
    tables = sorted(chosen.tables, key=lambda t: t != main)
    frames = {t: _frames(chosen, t) for t in tables}
    m = chosen.manifest
    return formats.export(
        frames, target, path, origin_ns=m.origin_ns, clock=m.clock, nature=m.nature
    )


def _frames(chosen: Trace, table: str) -> Iterator[pl.DataFrame]:
    return (pl.DataFrame(pl.from_arrow(b)) for b in chosen.batches(table))

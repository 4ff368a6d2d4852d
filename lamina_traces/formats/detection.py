"""Detection: which format a source is, by the set of its names; and a useful answer when it is none.

Neither positions nor extensions are looked at: a BurstGPT file with its columns swapped, renamed to
``.txt`` and compressed is still BurstGPT.
"""

from __future__ import annotations

import csv
import functools
import itertools
import json
import re
import shlex
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

import polars as pl

from ..errors import DataError, UnknownFormat, UsageError
from .cells import INSTANT
from .format import Format, Head
from .inputs import Stream
from .jsonlines import Broken, documents, parse_line
from .redaction import is_private, masked, masked_json, shown_name, words_of

HEAD_BYTES = 256 << 10
_SAMPLE = 200
_DELIMITERS = (",", "\t", ";", "|")


def read_head(stream: Stream, *, text: bool = False) -> tuple[Head, bytes, int]:
    """(head, header line as it stands, bytes before the first record) of a text stream; with ``text`` the
    source is known to be a log.

    Raises DataError for an empty or binary input.
    """
    want = HEAD_BYTES
    data = stream.head(want)
    while data and b"\n" not in data.lstrip() and len(data) == want:
        if want >= stream.limits.line_bytes:
            too_long = DataError(
                f"its first line is longer than {stream.limits.line_bytes:,} bytes",
                "is this a text file with one record a line? a higher limit: --limits line=256MB",
                path=stream.name,
                line=1,
            )
            if data.lstrip()[:1] not in (b"{", b"["):
                raise too_long
            # a document may be one line; it has a limit of its own
            head, header, skip = head_of(data, whole=False, path=stream.name, text=text)
            return replace(head, problem=too_long), header, skip
        want *= 4
        data = stream.head(want)
    return head_of(data, whole=len(data) < want, path=stream.name, text=text)


def head_of(
    data: bytes, *, whole: bool = True, path: str = "-", text: bool = False
) -> tuple[Head, bytes, int]:
    """The same from bytes; ``whole`` says that the source ends with them."""
    if not data.strip():
        raise DataError(
            "the file is empty", "does it come from a failed download or query?", path=path
        )
    if b"\0" in data.lstrip()[:8192].split(b"\n", 1)[0] or _control_share(data[:8192]) > 0.1:
        raise DataError(
            "this is a binary file, not a trace",
            "CSV, JSON (lines or a document), logs (plain, .gz, .zst) and Parquet can be read",
            path=path,
        )
    lines = data.split(b"\n")
    if not whole and len(lines) > 1:
        lines.pop()  # may be cut
    first = next(i for i, line in enumerate(lines) if line.strip())
    before = sum(len(line) + 1 for line in lines[:first])
    if lines[first].lstrip()[:1] in (b"{", b"[") and not text:
        return _json_head(lines[first:], path, whole), b"", 0
    header = lines[first].removesuffix(b"\r")
    head = _csv_head(header, lines[first + 1 :], path, whole=whole, number=first + 1)
    return head, header, min(before + len(lines[first]) + 1, len(data))


def _control_share(data: bytes) -> float:
    return sum(b < 9 or 13 < b < 32 for b in data) / max(1, len(data))


def _csv_head(
    header: bytes, lines: Sequence[bytes], path: str, *, whole: bool, number: int
) -> Head:
    shown = tuple(
        line.decode("utf-8", "replace").removesuffix("\r") for line in (header, *lines[:_SAMPLE])
    )
    try:
        text = header.decode("utf-8")
    except UnicodeDecodeError:
        problem = DataError(
            "the header is not UTF-8 text",
            "convert it first: iconv -f LATIN1 -t UTF-8 FILE",
            path=path,
            line=1,
        )
        return Head("csv", (), (), path=path, lines=shown, problem=problem)
    delimiter = max(_DELIMITERS, key=text.count)
    # a table's unnamed index column, as dataframe libraries write it, gets a name
    names = tuple(
        n.strip() or f"unnamed_{i}" for i, n in enumerate(_split(text, delimiter), start=1)
    )
    trouble = None
    twice = next((n for i, n in enumerate(names) if n in names[:i]), None)
    if twice is not None:
        trouble = DataError(
            f"the header names {twice!r} twice", "rename one of them", path=path, line=1
        )
    elif whole and not any(line.strip() for line in lines):
        trouble = DataError(
            "the file has a header and no rows",
            "does it come from a failed download or an empty query?",
            path=path,
            line=number,
        )
    rows: list[Mapping[str, str | None]] = []
    for line in lines[:_SAMPLE]:
        cells = _split(line.removesuffix(b"\r").decode("utf-8", "replace"), delimiter)
        if len(cells) == len(names):
            rows.append({n: c.strip() or None for n, c in zip(names, cells, strict=True)})
    return Head("csv", names, tuple(rows), delimiter, path, lines=shown, problem=trouble)


def _split(text: str, delimiter: str) -> list[str]:
    if '"' not in text:
        return text.split(delimiter)
    try:
        return next(csv.reader([text], delimiter=delimiter, skipinitialspace=True), [""])
    except csv.Error:
        return text.split(delimiter)


def _json_head(lines: Sequence[bytes], path: str, whole: bool) -> Head:
    values = []
    for line in lines[:_SAMPLE]:
        try:
            values.append(parse_line(line.decode("utf-8")))
        except (ValueError, RecursionError):
            values.append(None)
    by_line = isinstance(values[0], dict) or (
        lines[0].lstrip()[:1] == b"{" and 2 * sum(map(_braced, lines)) > len(values)
    )
    if by_line:
        keys = set().union(*(key_paths(v) for v in values))
    else:
        data = b"\n".join(lines)
        values = list(itertools.islice(documents(data), _SAMPLE)) if whole else []
        broken = any(isinstance(v, Broken) for v in values)
        keys = set().union(*(key_paths(v) for v in values))
        if broken or not whole:
            keys |= scanned_key_paths(data)
    names: dict[str, None] = {}
    rows = []
    for row in values:
        if isinstance(row, dict):
            names.update(dict.fromkeys(map(str, row)))
            rows.append(dict(_shown_values(row)))
    names = names or dict.fromkeys(k for k in sorted(keys) if "." not in k)
    return Head(
        "jsonl" if by_line else "json", tuple(names), tuple(rows), path=path, keys=frozenset(keys)
    )


def _braced(line: bytes) -> bool:
    """Whether a line could be one object, whatever is broken inside it."""
    stripped = line.strip()
    return stripped[:1] == b"{" and stripped[-1:] == b"}"


_DEPTH = 8
"""how far the paths of keys are followed."""


def key_paths(value: object, depth: int = _DEPTH) -> set[str]:
    """The dotted paths of all keys in a JSON value; lists are passed through."""
    if isinstance(value, list):
        return set().union(*(key_paths(v, depth) for v in value[:_SAMPLE]))
    if not isinstance(value, dict) or depth == 0:
        return set()
    out = set()
    for key, inner in value.items():
        out.add(str(key))
        out.update(f"{key}.{p}" for p in key_paths(inner, depth - 1))
    return out


_TOKEN = re.compile(rb'"((?:[^"\\]|\\.)*)"\s*(:?)|[{}\[\]]', re.DOTALL)


def scanned_key_paths(data: bytes) -> set[str]:
    """The same from the beginning of a document that is cut off somewhere."""
    out: set[str] = set()
    path: list[str | None] = []
    key: str | None = None
    for m in _TOKEN.finditer(data):
        token = m[0][:1]
        if token == b'"':
            if m[2]:
                key = m[1].decode("utf-8", "replace")
                at = [p for p in path if p is not None]
                if len(at) < _DEPTH:
                    out.add(".".join([*at, key]))
        elif token in b"{[":
            path.append(key)
            key = None
        elif path:
            path.pop()
    return out


def _shown_values(row: Mapping[str, object], path: str = "") -> Iterator[tuple[str, str | None]]:
    """Values as text by name; those inside other objects by dotted names, too."""
    for key, v in row.items():
        yield f"{path}{key}", None if v is None else _flat(v)
        if isinstance(v, dict) and path.count(".") < _DEPTH:
            yield from _shown_values(v, f"{path}{key}.")


def _flat(value: object) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, dict):
        return "{…}"
    if isinstance(value, list):
        return "[…]"
    return str(value)


def recognised(
    head: Head, formats: Mapping[str, Format], asked: Format | None = None
) -> tuple[Head, Format]:
    """The one format that fits, and the head as it is read by it. ``asked`` is taken where none does.

    Raises UnknownFormat when none fits, or several do; DataError for a header that cannot be.
    """
    if asked is not None and len(formats) == 1:
        return _as(head, asked), asked
    for how in (
        functools.partial(_fits, fold=False),
        functools.partial(_fits, fold=True),
        _fits_headless,
    ):
        found = [f for f in formats.values() if how(f, head)]
        if len(found) == 1:
            return _as(head, found[0]), found[0]
        if found:
            names = ", ".join(f.name for f in found)
            raise UnknownFormat(
                f"{head.path} could be any of: {names}",
                "say which with --as, for instance: lamina-traces ingest "
                f"{shlex.quote(head.path)} --as {found[0].name}",
            )
    if asked is not None:
        return _as(head, asked), asked
    if head.problem is not None:
        raise head.problem
    raise unknown(head)


def _as(head: Head, fmt: Format) -> Head:
    """The head as the format reads it. Raises UsageError where it cannot be read so."""
    if fmt.syntax == ("text",):
        lines = head.lines
        if head.syntax != "csv":
            raise UsageError(
                f"{head.path} is {head.syntax}, and {fmt.name} is a log of lines",
                "leave out --as to have the format detected",
            )
        return replace(head, syntax="text", names=(), rows=(), lines=lines, problem=None)
    if not _same_syntax(fmt, head):
        raise UsageError(
            f"{head.path} is {head.syntax}, and {fmt.name} is {' or '.join(fmt.syntax)}",
            "leave out --as to have the format detected",
        )
    if fmt.headless is not None and head.syntax == "csv" and head.lines:
        cells = _split(head.lines[0], head.delimiter)
        names = fmt.headless(cells, head.path)
        if names is not None:
            split = (_split(line, head.delimiter) for line in head.lines if line.strip())
            rows = tuple(
                {n: c.strip() or None for n, c in zip(names, cells, strict=True)}
                for cells in split
                if len(cells) == len(names)
            )
            return replace(head, names=tuple(names), rows=rows, headless=True, problem=None)
    if head.problem is not None and not (head.syntax == "json" and fmt.unfold is not None):
        raise head.problem
    return head


def _same_syntax(fmt: Format, head: Head) -> bool:
    """JSON lines and documents are read by the same formats."""
    same = {"json": "jsonl"}
    return same.get(head.syntax, head.syntax) in {same.get(s, s) for s in fmt.syntax}


def _fits_headless(fmt: Format, head: Head) -> bool:
    if fmt.headless is None or head.syntax != "csv" or not head.lines:
        return False
    return fmt.headless(_split(head.lines[0], head.delimiter), head.path) is not None


def _fits(fmt: Format, head: Head, fold: bool) -> bool:
    text = fmt.syntax == ("text",)
    if not (head.syntax == "csv" if text else _same_syntax(fmt, head)):
        return False
    if fmt.matches is not None:
        return fmt.matches(head) if not fold else False
    if not fmt.fields or text:
        return False

    def key(name: str) -> str:
        return name.casefold() if fold else name

    names = {key(n) for n in head.names}
    if names & {key(n) for n in fmt.excludes} or head.keys & fmt.excludes:
        return False
    wanted = [{key(n) for n in (f.name, *f.unless)} for f in fmt.fields if f.required]
    return all(w & names for w in wanted) and (
        not fmt.closed or names <= {key(f.name) for f in fmt.fields}
    )


def unknown(head: Head) -> UnknownFormat:
    """The error for a source that no format fits: its columns, three rows, and a line to try."""
    sound = all(shown_name(n) == n for n in head.names)
    name = (
        shown_name if sound else functools.partial(masked, private=True)
    )  # a line of text, no header
    shown = []
    for row in head.rows[:3]:
        if head.syntax != "csv":
            shown.append(masked_json(_as_json({n: row[n] for n in head.names if n in row})))
        else:
            shown.append(
                ", ".join(
                    f"{name(n)}={masked(v or '', is_private(n) or not sound)}"
                    for n, v in row.items()
                )[:300]
            )
    lines = [f"columns: {', '.join(map(name, head.names))}"[:600]]
    lines += [f"row {i}: {text}" for i, text in enumerate(shown, 1)]
    if head.syntax == "csv" and all(_float(n) is not None for n in head.names):
        lines.append(
            "its first line looks like data: give the columns names in a header line first"
        )
    lines += guessed_lines(head)
    lines.append("known formats: lamina-traces catalog formats")
    return UnknownFormat(f"{head.path}: no known format has these columns", "\n".join(lines))


def _as_json(row: Mapping[str, str | None]) -> str:
    def value(text: str | None) -> object:
        try:
            return json.loads(text) if text is not None else None
        except ValueError:
            return text

    return json.dumps({k: value(v) for k, v in row.items()}, ensure_ascii=False)


_HINTS: dict[str, tuple[str, ...]] = {
    "arrival": ("arrival", "arrived", "arrive", "arr", "timestamp", "request time", "when", "datetime", "time", "ts", "created", "submitted", "submit", "start", "started", "begin", "date"),
    "input": ("input", "prompt", "context", "ctx", "prefill", "isl", "in", "request"),
    "output": ("output", "completion", "generated", "generation", "gen", "decode", "response", "osl", "out", "answer"),
    "session": ("session", "conversation", "chat"),
    "model": ("model", "engine"),
    "status": ("status", "state", "outcome"),
}  # fmt: skip
"""words in the names of columns, best first."""


def _set(text: str) -> frozenset[str]:
    return frozenset(text.split())


_TOKENS = frozenset(("token", "tokens", "tok", "toks", "length", "len", "count", "num", "n"))
_NOT_TOKENS = _set("""
    s sec secs second seconds ms us ns time times timestamp ts latency duration elapsed rate
    ratio frac cost price usd eur power energy watt watts temp temperature byte bytes kb mb gb
    char chars characters size hash hashes id ids index idx uuid cached cache max limit status
    code type image images audio video file files window ram cpu gpu disk net network
""")
_NOT_ARRIVAL = _set("""
    response elapsed latency duration processing service queue queued wait waiting run execution
    exec end ended finish finished completed completion done first last token tokens per total
    ttft tpot e2e delta gap interval think delay timeout deadline decode prefill updated inter
""")
_IDS = frozenset(("id", "key", "uuid", "name"))
_LONG = 5
"""a hint of so many letters is also looked for inside longer words (``prompttokens``)."""
COL = "COL"
"""stands for a column that the user must name."""


def _rank(short: str, name: str) -> tuple[int, int, int] | None:
    """How well a name fits (least is best), None when it does not."""
    words = words_of(name)
    text, several = f" {' '.join(words)} ", set(words)
    for rank, hint in enumerate(_HINTS[short]):
        inside = len(hint) >= _LONG and hint in text
        if f" {hint} " not in text and not inside:
            continue
        if short in ("input", "output"):
            plain = several & _TOKENS
            if several & _NOT_TOKENS or (hint in ("request", "response", "answer") and not plain):
                return None
            return (0 if plain or len(words) == 1 else 1, rank, len(words))
        if short == "arrival" and several & _NOT_ARRIVAL:
            return None
        if short in ("session", "model") and several - _IDS - {hint}:
            continue
        return (0 if len(words) == 1 else 1, rank, len(words))
    return None


def guessed_mapping(head: Head) -> tuple[dict[str, str], str | None]:
    """(short canonical name → column, time unit) by names and values; what cannot be guessed is absent."""
    # --map separates its parts with commas and takes a quoted value for a constant
    free = [n for n in head.names if n and "," not in n and n[0] != "'" and n == n.strip()]
    chosen: dict[str, str] = {}
    for short in _HINTS:
        ranked = [(r, i) for i, n in enumerate(free) if (r := _rank(short, n)) is not None]
        for _, i in sorted(ranked):
            if _could_be(short, head, free[i]):
                chosen[short] = free.pop(i)
                break
    return chosen, guessed_time_unit(head, chosen.get("arrival"))


def _could_be(short: str, head: Head, name: str) -> bool:
    """Whether the values of a column allow for the guess."""
    if short == "arrival":
        return stamped(head, name) or (_mostly_numeric(head, name) and _rises(head, name))
    if short in ("input", "output"):
        return _whole(head, name)
    return bool(_values(head, name)) and not is_private(name)


def _rises(head: Head, name: str) -> bool:
    """Whether numbers could be a clock: from 0, and mostly in order."""
    values = _numbers(head, name)
    steps = list(itertools.pairwise(values))
    return min(values) >= 0 and 2 * sum(b < a for a, b in steps) <= len(steps)


def guessed_command(head: Head) -> str:
    """A command line to try: complete where the lengths could be guessed, else a template."""
    chosen, unit = guessed_mapping(head)
    if not {"input", "output"} <= chosen.keys():
        chosen = {k: chosen.get(k, COL) for k in ("arrival", "input", "output")} | chosen
    pairs = ",".join(f"{k}={v}" for k, v in chosen.items())
    line = f"lamina-traces ingest {shlex.quote(head.path)} --as columns --map {shlex.quote(pairs)}"
    return f"{line} --time-unit {unit}" if unit and chosen.get("arrival", COL) != COL else line


def guessed_lines(head: Head) -> list[str]:
    """The command line to try, and what it leaves open."""
    chosen, _ = guessed_mapping(head)
    line = guessed_command(head)
    what = {"input": "prompt tokens", "output": "output tokens"}
    missing = [what[k] for k in what if k not in chosen]
    if missing:
        none = f"no column looks like counts of {' or '.join(missing)}"
        return [f"{none}: write the names of your columns for {COL} in", f"  {line}"]
    if "arrival" not in chosen:
        return [
            f"try: {line}",
            "no column looks like arrival times, so lengths alone are read",
            "add arrival=COLUMN if one is, or supply arrivals later: --arrivals poisson --rate 2/s",
        ]
    return [f"try: {line}"]


def _values(head: Head, name: str) -> list[str]:
    return [v for r in head.rows if (v := r.get(name)) is not None]


def numeric(head: Head, name: str) -> bool:
    """Whether every value of a column in the head is a finite number."""
    values = _values(head, name)
    return bool(values) and all(_float(v) is not None for v in values)


def _numbers(head: Head, name: str) -> list[float]:
    return [x for v in _values(head, name) if (x := _float(v)) is not None]


def _mostly_numeric(head: Head, name: str) -> bool:
    return 2 * len(_numbers(head, name)) > len(_values(head, name))


def _whole(head: Head, name: str) -> bool:
    """Whether most values in the head are whole numbers in the range of token counts."""
    good = sum(x == int(x) and 0 <= x < 1e7 for x in _numbers(head, name))
    return 2 * good > len(_values(head, name))


def dated(head: Head, name: str) -> bool:
    """Whether most values of a column in the head look like dates with times."""
    values = _values(head, name)[:20]
    shape = pl.Series(values, dtype=pl.String).str.contains(r"^\d{4}[-/]\d\d[-/]\d\d[T ]\d\d:\d\d")
    return 2 * int(shape.sum()) > len(values)


def stamped(head: Head, name: str) -> bool:
    """Whether most values of a column in the head can be read as instants."""
    values = _values(head, name)[:20]
    if isinstance(head.dtypes.get(name), pl.Datetime):
        return True
    return 2 * int(pl.Series(values, dtype=pl.String).str.contains(INSTANT).sum()) > len(values)


def _float(text: str) -> float | None:
    try:
        x = float(text)
    except ValueError:
        return None
    return x if x - x == 0 else None


def guessed_time_unit(head: Head, name: str | None) -> str | None:
    """The unit of a clock column: by size for stamps since 1970, else by the size of its steps."""
    if name is None or not _mostly_numeric(head, name):
        return None if name is not None and (dated(head, name) or stamped(head, name)) else "s"
    folded = name.casefold()
    for unit in ("ns", "us", "ms"):
        if folded.endswith((f"_{unit}", f"[{unit}]", f"({unit})")):
            return unit
    values = _numbers(head, name)
    largest = max(abs(v) for v in values)
    for unit, scale in (("ns", 1e18), ("us", 1e15), ("ms", 1e12)):
        if largest >= scale:
            return unit
    if largest >= 1e9 or any("." in v for v in _values(head, name)):
        return "s"
    steps = sorted(b - a for a, b in itertools.pairwise(values) if b > a)
    return "ms" if steps and steps[len(steps) // 2] >= 50 else "s"

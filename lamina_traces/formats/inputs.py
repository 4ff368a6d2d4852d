"""Inputs: bytes from files, compressed files and standard input, cut into blocks of whole lines.

Compression is told by the first bytes, never by the name. The sha256 is taken over the bytes as they
lie on disk, on the way through. A damaged or cut stream is a DataError that says how far it was
readable, so that nothing half-read is ever stored.
"""

from __future__ import annotations

import difflib
import hashlib
import re
import shlex
import sys
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import zstandard

from ..errors import DataError, UsageError
from .summary import many

STDIN = "-"
NEWLINE = 10
_GZIP, _ZSTD, _PARQUET = b"\x1f\x8b", b"\x28\xb5\x2f\xfd", b"PAR1"
_FOREIGN = {
    b"PK\x03\x04": ("a zip archive", "unpack it first: unzip FILE"),
    b"BZh": ("bzip2-compressed", "unpack it first: bunzip2 FILE"),
    b"\xfd7zXZ": ("xz-compressed", "unpack it first: unxz FILE"),
    b"\x04\x22\x4d\x18": ("lz4-compressed", "unpack it first: unlz4 FILE"),
    b"SQLite format 3": ("an SQLite database", "export its table as CSV"),
    b"\x89HDF": ("an HDF5 file", "export its table as CSV or Parquet"),
    b"\xff\xfe": ("UTF-16 text", "convert it first: iconv -f UTF-16 -t UTF-8 FILE"),
    b"\xfe\xff": ("UTF-16 text", "convert it first: iconv -f UTF-16 -t UTF-8 FILE"),
}
_BOM = b"\xef\xbb\xbf"


@dataclass(frozen=True, slots=True)
class Limits:
    """What is taken for damage or an attack. All can be raised by the caller.

    A compressed file that grows more than ``growth`` times beyond ``growth_from_bytes`` is refused:
    real traces shrink 3 to 30 times.
    """

    line_bytes: int = 16 << 20
    growth: float = 400.0
    growth_from_bytes: int = 256 << 20
    block_bytes: int = 8 << 20
    document_bytes: int = 512 << 20
    """a JSON file that is one document has to be held whole."""

    @classmethod
    def parse(cls, text: str) -> Limits:
        """``line=64MB,document=2GB,growth=1000`` → limits; those not named stay. Raises UsageError."""
        names = {"line": "line_bytes", "document": "document_bytes", "growth": "growth"}
        given: dict[str, Any] = {}
        for part in text.split(","):
            name, _, value = part.strip().partition("=")
            size = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([KMG]?)B?", value.strip(), re.IGNORECASE)
            if name not in names or size is None or float(size[1]) <= 0:
                raise UsageError(
                    f"limit {part!r} is not NAME=SIZE",
                    "write it like --limits line=64MB,document=2GB",
                )
            scale = {"": 1, "k": 1000, "m": 1000**2, "g": 1000**3}[size[2].lower()]
            number = float(size[1]) * scale
            given[names[name]] = number if name == "growth" else int(number)
        return cls(**given)


class Stream:
    """The decompressed bytes of one input, with a head that can be looked at before reading."""

    def __init__(self, path: str | Path, limits: Limits, *, hashed: bool = True) -> None:
        self.name = STDIN if str(path) == STDIN else str(path)
        self.limits = limits
        self.raw_bytes = 0
        self.out_bytes = 0
        self.lines_out = 0
        """newlines handed out so far: what was readable when a stream breaks off."""
        self._hash = hashlib.sha256() if hashed else None
        self._file, self.size = _opened(path)
        self._pending = bytearray()
        self._ended = False
        magic = self._raw(64)
        while 0 < len(magic) < 64 and (more := self._raw(64 - len(magic))):
            magic += more
        self.magic = magic
        self.compression = (
            "gz" if magic.startswith(_GZIP) else "zst" if magic.startswith(_ZSTD) else None
        )
        self._refuse_foreign(magic)
        self._chunks = self._decompressed(magic)

    @property
    def is_parquet(self) -> bool:
        return self.magic.startswith(_PARQUET)

    @property
    def sha256(self) -> str | None:
        """Of the bytes as stored; None when hashing is off. Complete once the stream was read out."""
        return self._hash.hexdigest() if self._hash else None

    def _refuse_foreign(self, magic: bytes) -> None:
        for mark, (what, hint) in _FOREIGN.items():
            if magic.startswith(mark):
                self.close()
                raise DataError(f"this is {what}, not a trace", hint, path=self.name)

    def _raw(self, n: int) -> bytes:
        try:
            data = self._file.read(n)
        except OSError as e:
            self.close()
            raise DataError(
                f"cannot be read: {e.strerror or e}",
                "check the disk or the mount, and try again",
                path=self.name,
            ) from e
        if self._hash is not None:
            self._hash.update(data)
        self.raw_bytes += len(data)
        return data

    def _decompressed(self, first: bytes) -> Iterator[bytes]:
        if self.compression == "gz":
            yield from self._gunzipped(first)
        elif self.compression == "zst":
            yield from self._unzstd(first)
        else:
            if first:
                yield first
            while data := self._raw(4 << 20):
                yield data

    def _broken(self, why: str) -> DataError:
        lines = self.lines_out + self._pending.count(b"\n")
        cat = "zstdcat" if self.compression == "zst" else "zcat"
        return DataError(
            f"{why}; {many(lines, 'line was', 'lines were')} readable",
            "nothing was stored; fetch the file again, or save its readable part: "
            f"{cat} {shlex.quote(self.name)} | head -n {lines} > part.txt",
            path=self.name,
        )

    def _grew(self, n: int) -> None:
        self.out_bytes += n
        if (
            self.out_bytes > self.limits.growth_from_bytes
            and self.out_bytes > self.limits.growth * self.raw_bytes
        ):
            raise DataError(
                f"grows more than {self.limits.growth:g} times when decompressed",
                f"if that is meant, raise the limit: --limits growth={10 * self.limits.growth:g}",
                path=self.name,
            )

    def _gunzipped(self, first: bytes) -> Iterator[bytes]:
        engine, data = zlib.decompressobj(wbits=31), first
        while data:
            try:
                out = engine.decompress(data, 4 << 20)
                yield_more = True
                while yield_more:
                    self._grew(len(out))
                    if out:
                        yield out
                    yield_more = bool(engine.unconsumed_tail)
                    if yield_more:
                        out = engine.decompress(engine.unconsumed_tail, 4 << 20)
            except zlib.error as e:
                raise self._broken(f"damaged gzip data ({e})") from e
            if engine.eof:
                data = engine.unused_data.lstrip(b"\0") or self._raw(1 << 20).lstrip(b"\0")
                if not data:
                    return
                if len(data) < 2:
                    data += self._raw(1 << 20)
                if not data.startswith(_GZIP):
                    raise self._broken("bytes after the end of the gzip data")
                engine = zlib.decompressobj(wbits=31)
            else:
                data = self._raw(1 << 20)
        raise self._broken("truncated gzip file")

    def _unzstd(self, first: bytes) -> Iterator[bytes]:
        # small bites: the engine has no bound on what one bite may grow to
        engine, data = zstandard.ZstdDecompressor().decompressobj(), first
        while data:
            try:
                out = engine.decompress(data)
            except zstandard.ZstdError as e:
                raise self._broken(f"damaged zstd data ({e})") from e
            self._grew(len(out))
            if out:
                yield out
            if engine.eof:
                data = engine.unused_data or self._raw(4096)
                if not data:
                    return
                engine = zstandard.ZstdDecompressor().decompressobj()
            else:
                data = self._raw(4096)
        raise self._broken("truncated zstd file")

    def _fill(self, n: int) -> None:
        while len(self._pending) < n and not self._ended:
            chunk = next(self._chunks, None)
            if chunk is None:
                self._ended = True
            else:
                self._pending += chunk

    def head(self, n: int) -> bytes:
        """Up to ``n`` bytes from the front, which stay to be read. A byte-order mark is skipped."""
        self._fill(n)
        if self._pending.startswith(_BOM):
            del self._pending[:3]
        return bytes(self._pending[:n])

    def take(self, n: int) -> bytes:
        """Read exactly ``n`` bytes that ``head`` has shown."""
        with memoryview(self._pending) as view, view[:n] as part:
            out = bytes(part)
        del self._pending[:n]
        self.lines_out += count_byte(out, NEWLINE)
        return out

    def blocks(self, *, quoted: bool = False, lines: bool = True) -> Iterator[bytes]:
        """Blocks of whole lines (the last line may lack its newline), about ``limits.block_bytes`` each.

        With ``quoted`` a newline inside double quotes does not end a line; without ``lines`` blocks end
        anywhere.
        """
        want = self.limits.block_bytes
        while True:
            self._fill(want)
            if not lines:
                if not self._pending:
                    return
                yield self.take(len(self._pending))
                continue
            if self._ended and len(self._pending) <= want:
                if self._pending:
                    yield self.take(len(self._pending))
                return
            cut = _last_line_end(self._pending, want, quoted)
            if cut:
                want = self.limits.block_bytes
                yield self.take(cut)
            elif want > self.limits.line_bytes:
                raise DataError(
                    f"a line longer than {self.limits.line_bytes:,} bytes"
                    + (", or a quote that is never closed" if quoted else ""),
                    "is this a text file with one record a line? a higher limit: --limits line=256MB",
                    path=self.name,
                    line=self.lines_out + 1,
                )
            else:
                want *= 2

    def close(self) -> None:
        if self._file is not sys.stdin.buffer:
            self._file.close()


_SKIPPED = (".md", ".pdf", ".ipynb", ".py", ".yaml", ".yml", ".toml", ".sha256", ".pkl", ".pickle")
"""what lies beside traces in a folder and is none."""


def files_of(path: str | Path) -> tuple[list[str | Path], list[Path]]:
    """The path itself, or the files below a folder in the order of their names; and the links to files there.

    Hidden files, documents, scripts and pickles are passed over; links, which may lead out of the folder, are
    not followed. Raises UsageError for a folder without files.
    """
    if str(path) == STDIN or not Path(path).is_dir():
        return [path], []
    files: list[str | Path] = []
    links: list[Path] = []
    for f in sorted(f for f in Path(path).rglob("*") if f.is_file()):
        if f.is_symlink():
            links.append(f)
        elif (
            f.suffix.lower() not in _SKIPPED
            and f.stem.upper() not in ("README", "LICENSE", "LICENCE", "NOTICE")
            and not any(part.startswith(".") for part in f.relative_to(path).parts)
        ):
            files.append(f)
    if not files:
        what = "only links" if links else "no trace file"
        raise UsageError(f"{path} holds {what}", "name its files, or the folder above them")
    return files, links


def count_byte(data: bytes, byte: int) -> int:
    """How often a byte occurs: four times the speed of ``bytes.count`` where it is frequent."""
    return int(np.count_nonzero(np.frombuffer(data, np.uint8) == byte))


def _opened(path: str | Path) -> tuple[BinaryIO, int | None]:
    if str(path) == STDIN:
        return sys.stdin.buffer, None
    p = Path(path)
    try:
        if p.is_dir():
            raise UsageError(
                f"{path} is a directory", f"name its files, for instance: {p.name}/*.csv"
            )
        size = p.stat().st_size if p.is_file() else None
        return p.open("rb", buffering=0), size
    except FileNotFoundError:
        raise UsageError(
            f"no such file: {path}", _nearby(p) or "check the path; - reads standard input"
        ) from None
    except (OSError, ValueError) as e:
        why = e.strerror if isinstance(e, OSError) else str(e)
        raise DataError(
            f"cannot be opened: {why}",
            "check that you may read it: ls -l " + shlex.quote(str(path)),
            path=path,
        ) from e


def _nearby(path: Path) -> str | None:
    try:
        names = [c.name for c in path.parent.iterdir()] if path.parent.is_dir() else []
    except OSError:
        return None
    close = difflib.get_close_matches(path.name, names, n=2)
    return (
        "did you mean " + " or ".join(str(path.parent / c) for c in close) + "?" if close else None
    )


def _last_line_end(data: bytearray, end: int, quoted: bool) -> int:
    """Where the last whole line in the first ``end`` bytes of ``data`` ends; 0 when there is none."""
    cut = data.rfind(b"\n", 0, end) + 1
    while quoted and cut > 0 and data.count(b'"', 0, cut) % 2:
        # step back over the quote that is open here: everything before it closes
        cut = data.rfind(b"\n", 0, data.rfind(b'"', 0, cut)) + 1
    return cut

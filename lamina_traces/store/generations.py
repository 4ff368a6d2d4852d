"""The store on disk: generations behind a pointer, staging under locks, leases of readers.

    <store>/lock                              held (flock) for the short moments that change the layout
    <store>/staging/<id>/lock                 held by the writer as long as it lives; free = left behind
    <store>/staging/<id>/generation/          what the writer has so far
    <store>/traces/<slug>/current             names the generation that readers see; replaced atomically
    <store>/traces/<slug>/<generation>/       <table>/part-00000.parquet…, trace.json
    <store>/traces/<slug>/<generation>/lease  held (shared flock) by each reader

A generation is complete and synced before it is renamed into its trace, and the pointer is replaced after
that: whatever the moment of a crash, a reader finds the old generation or the new one. What a crash
leaves behind is recognised by a lock that nobody holds, and swept before the next write.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import re
import secrets
import shutil
import weakref
from collections.abc import Iterator
from pathlib import Path

from ..errors import StoreError
from . import names

_GENERATION = re.compile(r"g(\d+)")


@contextlib.contextmanager
def disk_errors(doing: str, where: Path) -> Iterator[None]:
    """Turn an OSError into a StoreError that says what was being done and what can be done about it."""
    try:
        yield
    except OSError as e:
        hint = {
            errno.ENOSPC: "free some space, or choose another store with --store or LAMINA_STORE",
            errno.EDQUOT: "free some space, or choose another store with --store or LAMINA_STORE",
            errno.EACCES: "check who owns the store, or choose another with --store or LAMINA_STORE",
            errno.EPERM: "check who owns the store, or choose another with --store or LAMINA_STORE",
            errno.EROFS: "the file system is read-only; choose another store with --store or LAMINA_STORE",
            errno.ENOTDIR: "a file is in the way; choose another store with --store or LAMINA_STORE",
            errno.EEXIST: "a file is in the way; choose another store with --store or LAMINA_STORE",
        }.get(e.errno or 0, "choose another store with --store or LAMINA_STORE")
        raise StoreError(f"{where}: cannot {doing}: {e.strerror or e}", hint) from e


def sync(path: Path) -> None:
    """Have the kernel put a file or directory on the disk."""
    fd = os.open(path, os.O_RDONLY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def sync_tree(root: Path) -> None:
    """``sync`` every file below ``root``, then every directory."""
    for directory, _, files in os.walk(root, topdown=False):
        for name in files:
            sync(Path(directory, name))
        sync(Path(directory))


def replace_text(path: Path, text: str) -> None:
    """Replace a small file at once: a reader sees the old text or the new one."""
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    try:
        with temporary.open("w", encoding="utf-8") as f:
            f.write(text)
            f.flush()
            os.fsync(f.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
    sync(path.parent)


class Lock:
    """An flock on a file, released by ``release``, by the garbage collector, or by the end of the process."""

    def __init__(self, fd: int) -> None:
        self.release = weakref.finalize(self, os.close, fd)

    @classmethod
    def take(cls, path: Path, *, shared: bool = False, wait: bool = False) -> Lock | None:
        """The lock, or None where somebody else holds it. A shared lock needs no write permission."""
        flags = os.O_RDONLY if shared else os.O_RDWR | os.O_CREAT
        fd = os.open(path, flags | os.O_CLOEXEC, 0o666)
        try:
            fcntl.flock(
                fd, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | (0 if wait else fcntl.LOCK_NB)
            )
        except BlockingIOError:
            os.close(fd)
            return None
        except BaseException:
            os.close(fd)
            raise
        return cls(fd)


class Layout:
    """The paths of one store and the moves between them. Knows nothing of what the files hold."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.traces = root / "traces"
        self.staging = root / "staging"

    def create(self) -> None:
        with disk_errors("create the store", self.root):
            self.traces.mkdir(parents=True, exist_ok=True)
            self.staging.mkdir(exist_ok=True)

    @contextlib.contextmanager
    def changing(self) -> Iterator[None]:
        """Alone in changing the layout. Held for renames, never while data is written."""
        lock = Lock.take(self.root / "lock", wait=True)
        try:
            yield
        finally:
            if lock is not None:
                lock.release()

    # reading

    def slugs(self) -> list[str]:
        """The traces that exist: those with a pointer."""
        if not self.traces.is_dir():
            return []
        with disk_errors("list the traces", self.traces):
            return sorted(p.parent.name for p in self.traces.glob("*/current"))

    def exists(self, slug: str) -> bool:
        """Whether there is such a trace, readable or not."""
        return (self.traces / slug / "current").exists()

    def current(self, slug: str) -> Path | None:
        """Directory of the generation that readers see; None where there is no such trace."""
        pointer = self.traces / slug / "current"
        try:
            name = pointer.read_text(encoding="utf-8").strip()
        except (FileNotFoundError, NotADirectoryError):
            return None
        except UnicodeDecodeError:
            name = ""
        except OSError as e:
            raise StoreError(
                f"{pointer}: cannot read the trace: {e.strerror}", "check who owns it"
            ) from e
        if not _GENERATION.fullmatch(name):
            raise StoreError(
                f"{pointer}: the pointer to the generation is damaged",
                names.again(slug),
            )
        return self.traces / slug / name

    def lease(self, slug: str) -> tuple[Path, Lock] | None:
        """The current generation and a lease on it; None where there is no such trace."""
        missing: Path | None = None
        for _ in range(1000):
            generation = self.current(slug)
            if generation is None:
                return None
            try:
                lock = Lock.take(generation / "lease", shared=True)
            except FileNotFoundError:
                # It was replaced between the two reads; if the pointer still names it, it is gone.
                if generation == missing:
                    break
                missing = generation
                continue
            except OSError as e:
                raise StoreError(
                    f"{generation}: cannot read the trace: {e.strerror}", "check who owns it"
                ) from e
            # The remover may have held the lock while we opened the file: look again.
            if lock is not None and (generation / "lease").exists():
                return generation, lock
        raise StoreError(
            f"{self.traces / slug}: the generation that its pointer names is missing",
            names.again(slug),
        )

    # writing

    def stage(self) -> tuple[Path, Lock]:
        """A new staging directory and the lock that says its writer lives."""
        self.create()
        with disk_errors("start writing", self.staging), self.changing():
            self._sweep()
            staging = self.staging / secrets.token_hex(8)
            staging.mkdir()
            lock = Lock.take(staging / "lock")
            if lock is None:  # pragma: no cover - the name is new and the layout is locked
                raise StoreError(f"{staging}: locked by somebody else", "try again")
            generation = staging / "generation"
            generation.mkdir()
            (generation / "lease").touch()
            return staging, lock

    def discard(self, staging: Path, lock: Lock) -> None:
        """Remove the staging of a writer that ends. A failure leaves it to the next sweep."""
        with contextlib.suppress(OSError), self.changing():
            shutil.rmtree(staging)
        lock.release()

    def publish(
        self, staging: Path, slug: str, *, replace: bool, after: Path | None = None
    ) -> Path | None:
        """Make a synced ``staging`` the current generation; None where the trace exists and may not be
        replaced, or is no longer the generation ``after``. The replaced generation goes as soon as nobody
        reads it."""
        with disk_errors("store the trace", self.root), self.changing():
            home = self.traces / slug
            if not replace and (home / "current").exists():
                return None
            if after is not None and self.current(slug) != after:
                return None
            home.mkdir(exist_ok=True)
            sync(self.traces)
            numbers = [int(m[1]) for p in home.iterdir() if (m := _GENERATION.fullmatch(p.name))]
            generation = home / f"g{max(numbers, default=0) + 1}"
            (staging / "generation").rename(generation)
            sync(home)
            replace_text(home / "current", generation.name + "\n")
            self._sweep_trace(home)
            return generation

    def remove(self, slug: str) -> bool:
        """Take the trace away; whether there was one. Readers keep what they hold."""
        if not self.exists(slug):
            return False
        with disk_errors("remove the trace", self.root), self.changing():
            home = self.traces / slug
            (home / "current").unlink(missing_ok=True)
            sync(home)
            self._sweep_trace(home)
        return True

    def sweep(self) -> int:
        """Remove what crashed writers and gone readers left behind; how many directories went."""
        if not self.root.is_dir():
            return 0
        self.create()
        with disk_errors("sweep the store", self.root), self.changing():
            return self._sweep()

    def _sweep(self) -> int:
        removed = 0
        for staging in self.staging.iterdir():
            if not staging.is_dir():
                continue
            lock = Lock.take(staging / "lock")
            if lock is None:
                continue
            shutil.rmtree(staging)
            lock.release()
            removed += 1
        for home in self.traces.iterdir():
            if home.is_dir():
                removed += self._sweep_trace(home)
        return removed

    def _sweep_trace(self, home: Path) -> int:
        """Remove the generations that are not current and not read by anybody."""
        pointer = home / "current"
        current = (
            pointer.read_text(encoding="utf-8", errors="replace").strip()
            if pointer.exists()
            else ""
        )
        removed = 0
        for generation in list(home.iterdir()):
            if generation.name.startswith(".current."):
                generation.unlink(missing_ok=True)
            if not _GENERATION.fullmatch(generation.name) or generation.name == current:
                continue
            lock = Lock.take(generation / "lease")
            if lock is None:
                continue
            # Unlinking the lease first is what a reader that has just opened it looks for.
            (generation / "lease").unlink(missing_ok=True)
            shutil.rmtree(generation)
            lock.release()
            removed += 1
        if not any(home.iterdir()):
            home.rmdir()
        return removed

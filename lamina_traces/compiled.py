"""Compiled code that is kept between processes, and can never be stale.

numba's own cache trusts a file's size and modification time, writes next to the source (impossible in a
read-only site-packages), and fails when it can write nowhere. Here the folder is named by the sha256 of
the content of the sources together with everything else that the machine code depends on: numba, llvmlite,
Python, CPU and its features. The sources are a function's own file and those of the jitted functions that this
file imports; what is compiled takes constants from nowhere else. A folder that cannot be written costs the compile time
of each process and nothing more.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import logging
import os
import sys
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from types import ModuleType
from typing import Any

import numba
from numba.core.caching import (
    CompileResultCacheImpl,
    FunctionCache,
    _CacheLocator,
)
from numba.core.dispatcher import Dispatcher
from numba.core.registry import cpu_target

log = logging.getLogger(__name__)

# What is compiled allocates nothing, so arrays need no reference counts (``_nrt``): their atomic updates cost a third
# of the serving clock's run time.
_OPTIONS: dict[str, Any] = {"nogil": True, "error_model": "numpy", "_nrt": False}
called = numba.njit(**_OPTIONS)
"""decorates a part of a loop"""
hot = numba.njit(**_OPTIONS, forceinline=True)
"""the same, inlined where it is called: for what runs often, since it lengthens the compilation"""


def cache_folder() -> Path:
    """``LAMINA_CACHE_DIR``, else ``$XDG_CACHE_HOME/lamina-traces``, else ``~/.cache/lamina-traces``."""
    own = os.environ.get("LAMINA_CACHE_DIR")
    if own:
        return Path(own)
    xdg = os.environ.get("XDG_CACHE_HOME")
    try:
        base = Path(xdg) if xdg else Path.home() / ".cache"
    except RuntimeError:  # no home directory can be found
        return Path(os.devnull) / "lamina-traces"
    return base / "lamina-traces"


def is_kept(function: Callable[..., Any]) -> bool:
    """Whether compiled code of the file of a function, as it is now, lies in the cache."""
    folder = cache_folder() / "compiled" / source_stamp(*_sources(function))[:32]
    try:
        return any(folder.glob("*.nbi"))
    except OSError:
        return False


@functools.cache
def _machine() -> str:
    # numba's own description of the target: triple, CPU, and its features.
    target = cpu_target.target_context.codegen().magic_tuple()
    parts = (numba.__version__, version("llvmlite"), sys.version, *map(str, target))
    return "\n".join(parts)


def _sources(function: Callable[..., Any]) -> tuple[str, ...]:
    """The file of a function, and those of the jitted functions that its module knows."""
    found: dict[str, None] = {}
    ahead: list[Any] = [function]
    while ahead:
        f = ahead.pop()
        if f.__code__.co_filename not in found:
            found[f.__code__.co_filename] = None
            ahead += [d.py_func for d in f.__globals__.values() if isinstance(d, Dispatcher)]
    return tuple(found)


@functools.cache
def source_stamp(*paths: str) -> str:
    """sha256 over the content of source files and the machine and compiler that they are compiled for."""
    digest = hashlib.sha256()
    for path in (*paths, __file__):  # the compiler's options are in here
        digest.update(hashlib.sha256(Path(path).read_bytes()).digest())
    digest.update(_machine().encode())
    return digest.hexdigest()


class _Locator(_CacheLocator):
    def __init__(self, function: Callable[..., Any]) -> None:
        self._py_file = function.__code__.co_filename  # numba's warnings name it
        self._stamp = source_stamp(*_sources(function))

    def get_cache_path(self) -> str:
        return str(cache_folder() / "compiled" / self._stamp[:32])

    def get_source_stamp(self) -> str:
        return self._stamp

    def get_disambiguator(self) -> str:
        return self._stamp[:8]

    @classmethod
    def from_function(cls, py_func: Any, _py_file: str) -> _Locator:
        return cls(py_func)


class _Impl(CompileResultCacheImpl):
    def __init__(self, py_func: Any) -> None:
        # numba's own constructor would choose among its locators, and may be told to by environment.
        self._lineno = py_func.__code__.co_firstlineno
        self._locator = _Locator(py_func)
        self._filename_base = self.get_filename_base(py_func.__qualname__, "")  # type: ignore[no-untyped-call]


class _Cache(FunctionCache):
    """Loads and saves, or says why not; never an obstacle."""

    _impl_class = _Impl

    def load_overload(self, sig: Any, target_context: Any) -> Any:
        try:
            found = super().load_overload(sig, target_context)  # type: ignore[no-untyped-call]
        except Exception as e:  # a cut or foreign file in the cache: compile instead
            log.info("compile cache at %s is unreadable (%s)", self._cache_path, e)
            with contextlib.suppress(OSError):
                self.flush()  # type: ignore[no-untyped-call]
            return None
        if found is not None:
            _outcome["loaded"] += 1
        return found

    def save_overload(self, sig: Any, data: Any) -> None:
        _outcome["compiled"] += 1
        try:
            super().save_overload(sig, data)  # type: ignore[no-untyped-call]
        except OSError as e:
            if not _outcome["unsaved"]:
                log.info(
                    "compiled code is not kept: %s cannot be written (%s)", self._cache_path, e
                )
            _outcome["unsaved"] += 1


_outcome = {"loaded": 0, "compiled": 0, "unsaved": 0}


def outcome() -> dict[str, int]:
    """How many functions of this process were loaded, compiled, and compiled but not kept."""
    return dict(_outcome)


def compile_cached(function: Callable[..., Any], signature: Any) -> Any:
    """Compile a plain function for one explicit signature, or load it; returns numba's dispatcher.

    ``function`` may call what is ``called`` or ``hot`` by its name in the function's own module (the cache is keyed by what stands
    there), and must not allocate: it is compiled without reference counts.
    """
    dispatcher = called(function)
    try:
        dispatcher._cache = _Cache(function)  # type: ignore[no-untyped-call]
    except OSError as e:  # no source to be keyed by: imported from an archive
        log.info("compiled code is not kept: %s", e)
        _outcome["unsaved"] += 1
    dispatcher.compile(signature)
    dispatcher.disable_compile()
    return dispatcher


@functools.cache
def kernel(module: ModuleType, name: str) -> Any:
    """The function ``name`` of a module compiled for the signature that stands there in capitals."""
    return compile_cached(getattr(module, name), getattr(module, name.upper()))

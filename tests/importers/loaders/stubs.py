"""Stand-ins for modules that a loader's package imports and its loader does not use (engines, kernels, web)."""

from __future__ import annotations

import importlib.abc
import importlib.machinery
import sys
import types
from collections.abc import Sequence
from typing import Any
from unittest.mock import MagicMock


class _Stub(types.ModuleType):
    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.__path__ = []

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return MagicMock(name=f"{self.__name__}.{name}")


class _Finder(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    def __init__(self, prefixes: Sequence[str]) -> None:
        self.prefixes = tuple(prefixes)
        self.used: set[str] = set()

    def find_spec(self, name: str, path: Any = None, target: Any = None) -> Any:
        if name.split(".")[0] in self.prefixes:
            return importlib.machinery.ModuleSpec(name, self, is_package=True)
        return None

    def create_module(self, spec: importlib.machinery.ModuleSpec) -> types.ModuleType:
        self.used.add(spec.name)
        return _Stub(spec.name)

    def exec_module(self, module: types.ModuleType) -> None:
        return None


def stub(*prefixes: str) -> set[str]:
    """Modules under these top-level names are stubs where they cannot be found; returns those used so far
    (it grows)."""
    finder = _Finder(prefixes)
    sys.meta_path.append(finder)
    return finder.used


class Tokenizer:
    """A byte is a token: enough for loaders that must make prompts of a given length."""

    vocab_size = 256
    all_special_ids: tuple[int, ...] = ()

    def get_vocab(self) -> dict[str, int]:
        return {str(i): i for i in range(256)}

    def encode(self, text: str, **_options: Any) -> list[int]:
        return list(text.encode())

    def decode(self, ids: Sequence[int], **_options: Any) -> str:
        return bytes(i % 128 for i in ids).decode()

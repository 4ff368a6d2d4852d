"""lamina-traces: from a trace you have to a decision you can defend.

Names are imported when first used, so ``import lamina_traces`` stays light.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

__version__ = "0.1.0"

_PUBLIC = {
    "Store": "store",
    "Trace": "store",
    "Profile": "profile",
    "Counts": "counts",
    "Requests": "schema",
    "Run": "runs",
    "characterize": "characterization",
    "generate": "generator",
    "compare": "fidelity",
    "simulate": "runs",
    "LaminaError": "errors",
}

__all__ = ["__version__", *sorted(_PUBLIC)]


def __getattr__(name: str) -> Any:
    if name in _PUBLIC:
        return getattr(import_module(f".{_PUBLIC[name]}", __name__), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return __all__

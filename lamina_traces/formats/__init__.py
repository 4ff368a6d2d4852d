"""Foreign formats: every reader and writer.

``open_reading`` streams canonical blocks out of foreign files, ``export`` streams canonical batches
into files that other tools load. The readers are loaded when the first of these names is used: who works on a stored
trace needs none of them, and all of them cost more than opening it.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .registry import FORMATS as FORMATS
    from .registry import TARGETS as TARGETS
    from .registry import Before as Before
    from .registry import Block as Block
    from .registry import ExportSummary as ExportSummary
    from .registry import Format as Format
    from .registry import Input as Input
    from .registry import Limits as Limits
    from .registry import Preview as Preview
    from .registry import Reading as Reading
    from .registry import Resume as Resume
    from .registry import Summary as Summary
    from .registry import Target as Target
    from .registry import detect as detect
    from .registry import export as export
    from .registry import files_of_all as files_of_all
    from .registry import open_reading as open_reading
    from .registry import preview as preview


def __getattr__(name: str) -> Any:
    if (
        not name.startswith("_") and name != "registry"
    ):  # which asks for itself while it is imported
        registry = import_module(".registry", __name__)
        if name in registry.__all__:
            return getattr(registry, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")

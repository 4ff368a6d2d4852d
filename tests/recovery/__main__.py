"""Writes the tables of docs/statistics.md: ``python -m tests.recovery [replications]`` (minutes)."""

from __future__ import annotations

import importlib
import pkgutil
import sys
from pathlib import Path

from . import table

PAGE = Path(__file__).parents[2] / "docs" / "statistics.md"
BEGIN, END = "<!-- recovery: begin -->", "<!-- recovery: end -->"


def modules() -> list[str]:
    """The modules of this folder that have a ``recovery``."""
    here = str(Path(__file__).parent)
    return sorted(m.name for m in pkgutil.iter_modules([here]) if not m.name.startswith("_"))


def main() -> None:
    replications = int(sys.argv[1]) if len(sys.argv) > 1 else 200
    parts = []
    for name in modules():
        module = importlib.import_module(f"tests.recovery.{name}")
        if not hasattr(module, "recovery"):  # what several of them share
            continue
        first = (module.__doc__ or "").strip().splitlines()[0]
        print(name, file=sys.stderr, flush=True)
        parts.append(
            f"### {name.replace('_', ' ').capitalize()}\n\n{first}\n\n{table(module.recovery(replications))}"
        )
    text = PAGE.read_text(encoding="utf-8")
    head, rest = text.split(BEGIN)
    tail = rest.split(END)[1]
    PAGE.write_text(f"{head}{BEGIN}\n\n" + "\n".join(parts) + f"\n{END}{tail}", encoding="utf-8")


if __name__ == "__main__":
    main()

"""The report: one offline HTML page of a workload profile, of a simulation of it, and of a score card.

write_report(Path("report.html"), profile=profile, run=run, command="lamina-traces report azure-code")

The page is complete without JavaScript (sentences and tables are HTML); figures are drawn by the Plotly
bundle inlined at its end. It asks the network for nothing, and says so in its content security policy.
Reads Profile, Run and ScoreCard objects, never the store.
"""

from __future__ import annotations

import os
import secrets
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from lamina_traces.errors import DataError, UsageError

from .page import render

if TYPE_CHECKING:
    from lamina_traces.fidelity import ScoreCard
    from lamina_traces.profile import Profile
    from lamina_traces.runs import Run

__all__ = ["render", "write_report"]


def write_report(
    path: Path,
    *,
    profile: Profile,
    run: Run | None = None,
    card: ScoreCard | None = None,
    command: str = "",
    assets: Literal["inline"] = "inline",
) -> int:
    """Write the page to ``path`` and return its size in bytes. The same arguments give the same bytes.

    ``command`` is printed under "reproduce this page". An existing file is replaced whole or left as it
    was. Raises DataError where the file cannot be written, UsageError on an unknown way to ship ``assets``.
    """
    if assets != "inline":
        raise UsageError(f"unknown way to ship assets {assets!r}", "the only one is: inline")
    data = render(profile, run, card, command).encode("utf-8")
    target = Path(path)
    try:
        if target.exists() and not target.is_file():
            if target.is_dir():
                raise DataError("is a directory", "name an .html file", path=target)
            target.write_bytes(data)  # a pipe or a device cannot be replaced
            return len(data)
        whole = target.resolve()  # a link keeps pointing at its file
        part = whole.with_name(f".report-{secrets.token_hex(6)}.part")
        try:
            part.write_bytes(data)
            os.replace(part, whole)  # noqa: PTH105 - the function's name says what it does
        finally:
            part.unlink(missing_ok=True)
    except OSError as e:
        raise DataError(
            f"cannot be written: {e.strerror or e}",
            "name a file in a folder that exists",
            path=target,
        ) from e
    return len(data)

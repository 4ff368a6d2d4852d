"""Runs in inference-perf's environment: TARGET PATH OPTIONS → rows as JSON on standard output."""

from __future__ import annotations

import contextlib
import importlib
import json
import sys
from importlib.metadata import version
from pathlib import Path
from typing import Any


def rows_of(path: Path) -> list[dict[str, Any]]:
    reader = importlib.import_module("inference_perf.utils.trace_reader").AzurePublicDatasetReader
    timer = importlib.import_module("inference_perf.loadgen.load_timer").TraceReplayLoadTimer
    times = timer(reader(), path).start_timer(initial=0.0)
    lengths = reader().stream_token_entries(path)
    return [
        {"time_ms": t * 1000, "input": i, "output": o}
        for t, (i, o) in zip(times, lengths, strict=True)
    ]


if __name__ == "__main__":
    with contextlib.redirect_stdout(sys.stderr):
        rows = rows_of(Path(sys.argv[2]))
    json.dump({"version": version("inference-perf"), "rows": rows}, sys.stdout)

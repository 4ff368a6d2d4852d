"""Runs in vidur's environment: TARGET PATH OPTIONS → rows as JSON on standard output."""

from __future__ import annotations

import contextlib
import importlib
import json
import sys
from importlib.metadata import version
from typing import Any


def rows_of(path: str) -> list[dict[str, Any]]:
    config = importlib.import_module("vidur.config").TraceRequestGeneratorConfig(
        trace_file=path, date="2023-08-21", prefill_scale_factor=1, decode_scale_factor=1,
        time_scale_factor=1, max_tokens=1_000_000,
    )  # fmt: skip
    module = importlib.import_module("vidur.request_generator.trace_replay_request_generator")
    return [
        {
            "time_ms": r.arrived_at * 1000,
            "input": r.num_prefill_tokens,
            "output": r.num_decode_tokens,
        }
        for r in module.TraceReplayRequestGenerator(config).generate_requests()
    ]


def lengths_of(path: str) -> list[list[int]]:
    """The same file in the generator of lengths: both columns of vidur's main branch."""
    config = importlib.import_module("vidur.config").TraceRequestLengthGeneratorConfig(
        trace_file=path, prefill_scale_factor=1, decode_scale_factor=1, max_tokens=1_000_000
    )
    module = importlib.import_module("vidur.request_generator.trace_request_length_generator")
    generator = module.TraceRequestLengthGenerator(config)
    frame = generator.trace_df.sort_index()
    return frame[["num_prefill_tokens", "num_decode_tokens"]].astype(int).values.tolist()  # type: ignore[no-any-return]


if __name__ == "__main__":
    with contextlib.redirect_stdout(sys.stderr):
        found = {"rows": rows_of(sys.argv[2]), "lengths": lengths_of(sys.argv[2])}
    json.dump({"version": version("vidur"), **found}, sys.stdout, default=float)

"""guidellm's minimal trace: seconds and lengths, with the duration where the trace records one.

Read in guidellm 0.8.1 data/deserializers/trace_minimal.py and trace_common.py: rows are sorted and rebased,
each is a conversation of its own; a null duration counts as none.
"""

from __future__ import annotations

import polars as pl

from ..exporting import REQUEST, Intake, Target, Writing
from .text import json_lines, jsonl, seconds, since_first, with_lengths


def _lines(frame: pl.DataFrame, state: Writing) -> pl.DataFrame:
    frame = with_lengths(frame, state)
    fields = {
        "timestamp": seconds(since_first(frame, state, "s"), point=True),
        "input_length": frame["input_tokens"],
        "output_length": frame["output_tokens"],
    }
    if "e2e_s" in frame.columns:  # on every row, since the loader takes the keys of the first
        fields["duration"] = frame["e2e_s"].cast(pl.String).fill_null("null")
    return json_lines(frame.height, fields)


TARGETS = (
    Target(
        name="trace-synthetic",
        title="guidellm trace_synthetic JSON lines, seconds",
        tools="guidellm",
        suffix=".jsonl",
        intakes=(Intake("llm_requests", REQUEST, (*REQUEST, "e2e_s")),),
        resolution_ns=1,
        command=lambda path, _state: (
            'guidellm run --backend "kind=openai_http,target=URL" --profile kind=replay --data '
            f'"kind=trace_synthetic,source.kind=json_file,source.path={path}"'
        ),
        write=jsonl(_lines),
        source="guidellm 0.8.1, data/deserializers/trace_minimal.py",
    ),
)

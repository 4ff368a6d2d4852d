"""Runs in aiperf's environment: TARGET PATH OPTIONS → rows as JSON on standard output."""

from __future__ import annotations

import contextlib
import importlib
import json
import sys
from importlib.metadata import version
from pathlib import Path
from typing import Any
from unittest.mock import MagicMock

LOADER = "aiperf.dataset.loader"
CLASSES = {
    "mooncake": ("mooncake_trace", "MooncakeTraceDatasetLoader"),
    "bailian": ("bailian_trace", "BailianTraceDatasetLoader"),
    "burstgpt": ("burst_gpt", "BurstGPTTraceDatasetLoader"),
    "weka": ("weka_trace", "WekaTraceLoader"),
}


def rows_of(target: str, path: str, block: int) -> dict[str, Any]:
    if target == "rate-series":
        points = importlib.import_module("aiperf.config.rate_series").read_rate_series_json(path)
        return {"points": [[p.time_s, p.qps] for p in points]}
    module, name = CLASSES[target]
    cls = getattr(importlib.import_module(f"{LOADER}.{module}"), name)
    first = None if Path(path).is_dir() else Path(path).read_text().split("\n", 1)[0]
    probe = json.loads(first) if first and first.startswith("{") else None
    assert cls.can_load(data=probe, filename=path)
    loaded = cls(
        filename=path, prompt_generator=MagicMock(), default_block_size=block
    ).load_dataset()
    if target == "weka":
        return {"rows": [row for session, (t,) in loaded.items() for row in weka(session, t)]}
    rows = [
        {
            "session": session,
            "time_ms": t.timestamp,
            "delay_ms": getattr(t, "delay", None),
            "input": t.input_length,
            "output": t.output_length,
            "hash_ids": getattr(t, "hash_ids", None),
            "chat_id": getattr(t, "chat_id", None),
            "type": getattr(t, "request_type", None),
            "turn": place + 1,
        }
        for session, turns in loaded.items()
        for place, t in enumerate(turns)
    ]
    facts: dict[str, Any] = {"rows": rows}
    if target in ("mooncake", "bailian"):
        facts["synthesized"] = synthesized(loaded, block)
    return facts


def weka(session: str, trace: Any) -> list[dict[str, Any]]:
    return [
        {
            "session": session,
            "time_ms": r.t * 1000,
            "think_s": r.think_time,
            "input": r.input_length,
            "output": r.output_length,
            "hash_ids": r.hash_ids,
            "model": r.model,
            "turn": i + 1,
        }
        for i, r in enumerate(trace.requests)
    ]


def synthesized(loaded: dict[str, Any], block: int) -> int:
    """How many rows aiperf's Synthesizer makes of the trace at twice the speed; it raises when a partial
    block is shared."""
    importlib.import_module("aiperf.common.random_generator").init(0)
    models = importlib.import_module("aiperf.dataset.synthesis.models")
    synthesizer = importlib.import_module("aiperf.dataset.synthesis.synthesizer").Synthesizer
    exclude = {"type", "chat_id", "parent_chat_id", "request_type", "turn"}
    data = {
        s: [t.model_dump(exclude=exclude, exclude_none=True) for t in turns]
        for s, turns in loaded.items()
    }
    params = models.SynthesisParams(speedup_ratio=2.0, block_size=block)
    made = synthesizer(params=params).synthesize_grouped_traces(data)
    return sum(map(len, made.values()))


if __name__ == "__main__":
    target, path, options = sys.argv[1], sys.argv[2], json.loads(sys.argv[3])
    with contextlib.redirect_stdout(sys.stderr):
        found = rows_of(target, path, options.get("block", 512))
    json.dump({"version": version("aiperf"), **found}, sys.stdout)

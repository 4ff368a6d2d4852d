"""Loads vLLM's benchmark datasets out of its wheel, the engine stubbed: TARGET PATH OPTIONS → JSON."""

from __future__ import annotations

import contextlib
import importlib
import json
import sys
from typing import Any

sys.path.insert(0, __file__.rsplit("/", 1)[0])


def rows_of(target: str, path: str, options: dict[str, Any]) -> list[dict[str, Any]]:
    stubs = importlib.import_module("stubs")
    sys.path.insert(0, options["source"])
    stubs.stub("vllm", "pybase64", "PIL", "soundfile", "torch")
    datasets = importlib.import_module("vllm.benchmarks.datasets.datasets")
    tokenizer = stubs.Tokenizer()
    if target == "burstgpt":
        data = datasets.BurstGPTDataset(dataset_path=path)
        n = len(data.data)
        got = data.sample(tokenizer, num_requests=n)
        return [{"input": s.prompt_len, "output": s.expected_output_len} for s in got]
    trace = datasets.TimedTrace(
        dataset_path=path,
        timed_trace_chunk_hash_size=options["block"],
        timed_trace_sec_multiplier=1,
        timed_trace_label_timestamp="timestamp",
        timed_trace_label_input_length="input_length",
        timed_trace_label_output_length="output_length",
        timed_trace_label_hash_ids="hash_ids",
    )
    got = trace.sample(tokenizer, num_requests=len(trace.data))
    return [
        {
            "time_ms": s.timestamp * 1000,
            "input": s.prompt_len,
            "output": s.expected_output_len,
            "prompt": "".join(f"{t:02x}" for t in s.prompt),
        }
        for s in got
    ]


if __name__ == "__main__":
    target, path, options = sys.argv[1], sys.argv[2], json.loads(sys.argv[3])
    with contextlib.redirect_stdout(sys.stderr):
        rows = rows_of(target, path, options)
    json.dump({"version": options["version"], "rows": rows}, sys.stdout)

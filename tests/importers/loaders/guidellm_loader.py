"""Runs in guidellm's environment: TARGET PATH OPTIONS → rows as JSON on standard output."""

from __future__ import annotations

import contextlib
import importlib
import json
import sys
from importlib.metadata import version
from typing import Any

sys.path.insert(0, __file__.rsplit("/", 1)[0])
KINDS = {"mooncake-guidellm": "mooncake", "trace-synthetic": "trace_synthetic", "weka": "weka"}


def rows_of(target: str, path: str, block: int) -> list[dict[str, Any]]:
    tokenizer = importlib.import_module("stubs").Tokenizer()
    deserializers = importlib.import_module("guidellm.data.deserializers")
    args = importlib.import_module("guidellm.schemas.data").DataArgs
    kind = KINDS[target]
    config: dict[str, Any] = {"kind": kind, "source": {"kind": "json_file", "path": path}}
    if kind != "trace_synthetic":
        config["hash_id_block_size"] = block
    dataset = deserializers.DatasetDeserializerFactory.deserialize(
        config=args.model_validate(config), processor_factory=lambda: tokenizer, random_seed=1
    )
    rows = []
    for number, row in enumerate(dataset):
        for place, turn in enumerate(json.loads(row["conversation_turns"])["turns"]):
            columns = turn["columns"]
            rows.append(
                {
                    "session": number,
                    "turn": place + 1,
                    "time_ms": columns["relative_timestamp_column"][0] * 1000,
                    "input": columns["prompt_tokens_count_column"][0],
                    "output": columns["output_tokens_count_column"][0],
                    "prompt_tokens": len(tokenizer.encode(columns["text_column"][0])),
                    "duration": (columns.get("request_duration_column") or [None])[0],
                }
            )
    return rows


if __name__ == "__main__":
    target, path, options = sys.argv[1], sys.argv[2], json.loads(sys.argv[3])
    with contextlib.redirect_stdout(sys.stderr):
        rows = rows_of(target, path, options.get("block", 512))
    json.dump({"version": version("guidellm"), "rows": rows}, sys.stdout)

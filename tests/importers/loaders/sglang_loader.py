"""Loads SGLang's Mooncake dataset out of its wheel, the engine stubbed: TARGET PATH OPTIONS → JSON."""

from __future__ import annotations

import asyncio
import contextlib
import importlib
import json
import sys
import time
from typing import Any

sys.path.insert(0, __file__.rsplit("/", 1)[0])


class _Clock:
    """Time that passes in sleeps only, so that a long trace is sent at once and at the right instants."""

    now = 0.0

    async def sleep(self, seconds: float) -> None:
        self.now += seconds


def rows_of(path: str, options: dict[str, Any]) -> list[dict[str, Any]]:
    stubs = importlib.import_module("stubs")
    sys.path.insert(0, options["source"])
    stubs.stub(
        "sglang",
        "requests",
        "pybase64",
        "PIL",
        "torch",
        "pydantic",
        "aiohttp",
        "orjson",
        "zmq",
        "tqdm",
        "transformers",
        "datasets",
        "numpy",
    )
    sys.modules["sglang.benchmark.datasets"] = package = type(sys)("sglang.benchmark.datasets")
    package.__path__ = [f"{options['source']}/sglang/benchmark/datasets"]
    module = importlib.import_module("sglang.benchmark.datasets.mooncake")
    records = module.MooncakeDataset(path, "mooncake", 10**9).load()
    clock = _Clock()
    module.time.perf_counter = lambda: clock.now
    module.asyncio.sleep = clock.sleep

    async def send() -> list[dict[str, Any]]:
        sent = module.get_mooncake_request_over_time(records, _Words(), 1.0, 1)
        return [
            {"time_ms": clock.now * 1000, "output": row.output_len, "prompt": row.prompt}
            async for row in sent
        ]

    return asyncio.run(send())


class _Words:
    """A word is a token; no chat template."""

    def apply_chat_template(self, *_args: Any, **_options: Any) -> str:
        raise ValueError("no template")

    def encode(self, text: str) -> list[str]:
        return text.split(" ")


if __name__ == "__main__":
    target, path, options = sys.argv[1], sys.argv[2], json.loads(sys.argv[3])
    real = (time.perf_counter, asyncio.sleep)
    with contextlib.redirect_stdout(sys.stderr):
        rows = rows_of(path, options)
    time.perf_counter, asyncio.sleep = real
    json.dump({"version": options["version"], "rows": rows}, sys.stdout)

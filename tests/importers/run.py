"""Exports loaded by the tools they are for: ``make test-importers``.

Each export is read by the tool's own loader in the tool's own environment (tests/importers/install.py) and
compared row by row with the trace (tests/importers/checks.py). The results are written to docs/importers.md.
Exit status 1 when a comparison fails; a tool that is not installed is reported as not run.
"""

from __future__ import annotations

import copy
import datetime as dt
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl

from lamina_traces import formats
from tests.importers import checks, install, traces

ROOT = Path(__file__).parents[2]
DOCUMENT = ROOT / "docs" / "importers.md"
LOADERS = Path(__file__).parent / "loaders"
MARK = "<!-- results: written by make test-importers -->"


@dataclass(frozen=True)
class Case:
    tool: str
    target: str
    trace: str
    check: checks.Check
    block: int = 512


CASES = (
    Case("aiperf", "mooncake", "generated", checks.aiperf_mooncake),
    Case("aiperf", "mooncake", "conversations", checks.aiperf_mooncake),
    Case("aiperf", "bailian", "generated", checks.aiperf_bailian, 16),
    Case("aiperf", "bailian", "small-blocks", checks.aiperf_bailian, 16),
    Case("aiperf", "burstgpt", "generated", checks.in_order(1, rebased=False)),
    Case("aiperf", "weka", "conversations", checks.weka),
    Case("aiperf", "rate-series", "generated", checks.rate_series),
    Case("guidellm", "mooncake-guidellm", "generated", checks.guidellm),
    Case("guidellm", "mooncake-guidellm", "conversations", checks.guidellm),
    Case("guidellm", "trace-synthetic", "generated", checks.guidellm),
    Case("guidellm", "trace-synthetic", "conversations", checks.guidellm),
    Case("guidellm", "weka", "conversations", checks.guidellm_weka),
    Case("inference-perf", "azure", "generated", checks.in_order(1500)),
    Case("sglang", "mooncake-sglang", "generated", checks.sglang),
    Case("sglang", "mooncake-sglang", "conversations", checks.sglang),
    Case("vidur", "vidur", "generated", checks.vidur),
    Case("vllm", "mooncake-vllm", "generated", checks.vllm),
    Case("vllm", "mooncake-vllm", "conversations", checks.vllm),
    Case("vllm", "burstgpt", "generated", checks.vllm_burstgpt),
)


def loaded(case: Case, path: Path) -> dict[str, Any]:
    """What the tool's loader read, as its loader script tells it. Raises AssertionError when it fails."""
    tool = install.TOOLS[case.tool]
    options = {"block": case.block, "version": tool.version, "source": str(install.FOLDER / "src")}
    done = subprocess.run(
        [install.FOLDER / tool.environment / "bin" / "python", LOADERS / f"{tool.loader}.py",
         case.target, path, json.dumps(options)],
        capture_output=True, text=True, check=False, timeout=900,
        env={**os.environ, "PYTHONHASHSEED": "0", "HF_HUB_OFFLINE": "1", "HF_HOME": str(path.parent / "hf")},
    )  # fmt: skip
    assert done.returncode == 0, (
        "the loader failed: " + (done.stderr.strip().splitlines() or [""])[-1]
    )
    told: dict[str, Any] = json.loads(done.stdout)
    assert told["version"] == tool.version
    return told


def run(case: Case, made: dict[str, pl.DataFrame], folder: Path) -> tuple[str, str]:
    """(outcome, what was compared or why not)."""
    why = install.ready(install.TOOLS[case.tool])
    if why is not None:
        return "not run", why
    frame = made[case.trace]
    path = folder / f"{case.tool}-{case.target}-{case.trace}{formats.TARGETS[case.target].suffix}"
    done = formats.export([frame[:300], frame[300:]], case.target, path)
    if case.tool == "guidellm" and path.is_dir():  # it takes one conversation a line
        lines = "".join(p.read_text() for p in sorted(path.iterdir()))
        path = path.with_suffix(".jsonl")
        path.write_text(lines)
    try:
        assert done.written == frame.height
        told = loaded(case, path)
        what = case.check(frame, told)
        assert _notices(case, frame, told), "the check does not notice a changed value"
    except AssertionError as e:
        return "FAILED", str(e).splitlines()[0] if str(e) else "values differ"
    return "passed", what


def _notices(case: Case, frame: pl.DataFrame, told: dict[str, Any]) -> bool:
    """Whether the check fails on one changed value in the middle of what was read."""
    spoiled = copy.deepcopy(told)
    if "rows" in spoiled:
        spoiled["rows"][frame.height // 2]["output"] += 1
    else:
        spoiled["points"] = [[t, 2 * qps] for t, qps in spoiled["points"]]
    try:
        case.check(frame, spoiled)
    except AssertionError:
        return True
    return False


def main() -> int:
    wanted = sys.argv[1:]
    talk = traces.conversations()
    made = {
        "generated": traces.generated(),
        "conversations": talk,
        "small-blocks": traces.in_small_blocks(talk),
    }
    folder = Path(tempfile.mkdtemp(prefix="importers-"))
    lines, failed = [], 0
    try:
        for case in CASES:
            if wanted and case.tool not in wanted:
                continue
            outcome, what = run(case, made, folder)
            failed += outcome == "FAILED"
            version = install.TOOLS[case.tool].version
            rows = made[case.trace].height
            line = f"| {case.tool} {version} | `{case.target}` | {case.trace} | {rows:,} | {outcome} | {what} |"
            print(line, flush=True)
            lines.append(line)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    if not wanted:
        publish(lines)
    return 1 if failed else 0


def publish(lines: list[str], today: Callable[[], dt.date] = dt.date.today) -> None:
    """Put the results after the mark in docs/importers.md."""
    head = DOCUMENT.read_text(encoding="utf-8").split(MARK)[0]
    table = "| tool | target | trace | rows | outcome | compared |\n|---|---|---|---|---|---|\n"
    body = f"Run of {today().isoformat()}.\n\n{table}" + "\n".join(lines) + "\n"
    DOCUMENT.write_text(f"{head}{MARK}\n{body}", encoding="utf-8")


if __name__ == "__main__":
    raise SystemExit(main())

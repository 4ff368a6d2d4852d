"""Against public measurements (folder in LAMINA_TRACES_GROUND_TRUTH): nothing here is tuned.

The default overheads were fitted on part of this collection; the bands say how good the model is there. The
per-request logs of an RTX PRO 6000 (vLLM 0.19) took no part in the fit: tests/simulator checks those.
"""

from __future__ import annotations

import csv
import os
from collections import defaultdict
from pathlib import Path

import numpy as np
import pytest

from lamina_traces.costs import State, StepModel, era, transformer
from lamina_traces.hardware import device, model

FOLDER = os.environ.get("LAMINA_TRACES_GROUND_TRUTH")
GPUS = {"H100-SXM-80GB": "h100-sxm", "H200-SXM-141GB": "h200-sxm", "B200-SXM-180GB": "b200-sxm"}


def closed_loop_tpot_ms(step: StepModel, users: float, prompt: int, output: int) -> float:
    """A decode iteration of all users, and of each other user's prefill the share that falls on a token."""
    decode = step.seconds(State.decode(users, prompt + output / 2))
    idle = step.seconds(State())
    chunks = [State.prefill(min(2048, prompt - a), a) for a in range(0, prompt, 2048)]
    prefill = sum(step.seconds(c) - idle for c in chunks)
    return 1e3 * (decode + (users - 1) / output * prefill)


@pytest.mark.real_data
@pytest.mark.skipif(FOLDER is None, reason="LAMINA_TRACES_GROUND_TRUTH is not set")
def test_tpot_of_public_vllm_points() -> None:
    errors = defaultdict(list)
    with (Path(str(FOLDER)) / "operating_points.csv").open(newline="") as f:
        for r in csv.DictReader(f):
            known = r["gpu"] in GPUS and r["model"] in (
                "Qwen/Qwen3-32B",
                "meta-llama/Llama-3.1-70B",
            )
            wanted = (
                r["mode"] == "closed_loop_agg"
                and r["metric"] == "tpot_ms"
                and "vllm" in r["engine"]
            )
            if not (known and wanted) or r["precision"] == "fp4" or "SUSPECT" in r["extra"]:
                continue
            step = transformer(
                model(r["model"]),
                device(GPUS[r["gpu"]]),
                era("2025"),
                tp=int(float(r["tp"])),
                dtype=r["precision"] or "bf16",
            )
            users = float(r["load"]) / max(1.0, float(r["dp"] or 1))
            got = closed_loop_tpot_ms(
                step, users, int(float(r["input_tokens"])), int(float(r["output_tokens"]))
            )
            errors[r["model"], r["gpu"], r["precision"]].append(got / float(r["value"]) - 1)
    medians = {}
    for key, e in sorted(errors.items()):
        x = np.array(e)
        medians[key] = float(np.median(np.abs(x)))
        print(
            f"{key}: {len(x)} points, bias {np.median(x):+.1%}, median |error| {medians[key]:.1%}"
        )
    medians = {k: v for k, v in medians.items() if len(errors[k]) >= 10}
    assert len(medians) == 4
    assert max(medians.values()) < 0.10

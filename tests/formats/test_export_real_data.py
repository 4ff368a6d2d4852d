"""Exports compared with files that others published of the same data, parsed here without our readers."""

from __future__ import annotations

import ast
import csv
import json
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from lamina_traces import formats
from tests.formats.reads import read

pytestmark = pytest.mark.real_data
MINUTE = 60 * 10**9


def table(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as f:
        return list(csv.DictReader(f))


def test_vidur_file_of_the_azure_trace(real_data: Path, tmp_path: Path) -> None:
    """vidur ships Azure's 2023 code trace in its own layout: ours of the same trace says the same."""
    azure = read(real_data / "llm/AzureLLMInferenceTrace_code.csv").frame
    formats.export([azure], "vidur", tmp_path / "v.csv")
    theirs = table(real_data / "llm/vidur_splitwise_code.csv")
    ours = table(tmp_path / "v.csv")
    assert len(ours) == len(theirs) == 8819
    for a, b in zip(ours, theirs, strict=True):
        assert round(float(a["arrived_at"]) * 1e9) == round(float(b["arrived_at"]) * 1e9)
        assert a["num_prefill_tokens"] == b["num_prefill_tokens"]
        assert a["num_decode_tokens"] == b["num_decode_tokens"]


def test_azure_comes_out_as_it_was(real_data: Path, tmp_path: Path) -> None:
    path = real_data / "llm/AzureLLMInferenceTrace_code.csv"
    got = read(path)
    formats.export([got.frame], "azure", tmp_path / "a.csv", origin_ns=got.summary.origin_ns)
    assert (tmp_path / "a.csv").read_text().splitlines() == path.read_text().splitlines()


def test_servegen_pool_comes_out_as_it_was(real_data: Path, tmp_path: Path) -> None:
    pool = real_data / "llm/servegen/language/m-small"
    windows: list[dict[str, Any]] = []
    laws: list[dict[str, Any]] = []
    for file in sorted(pool.glob("chunk-*-trace.csv")):
        client = file.name.split("-")[1]
        for line in file.read_text().splitlines():
            at, rate, cv, law, a, b = line.split(",")
            windows.append(
                {
                    "client_id": client, "arrival_ns": int(float(at)) * 10**9, "window_s": 600.0, "rate_rps": float(rate),
                    "gap_cv": float(cv) if law else None, "law": law.lower() or None,
                    "shape": float(a) if law else None, "scale_s": float(b) if law else None,
                }
            )  # fmt: skip
        for at, fields in json.loads(
            file.with_name(f"chunk-{client}-dataset.json").read_text()
        ).items():
            for name, text in fields.items():
                for value, prob in ast.literal_eval(text).items():
                    laws.append(
                        {
                            "client_id": client,
                            "arrival_ns": int(at) * 10**9,
                            "field": name,
                            "value": float(value),
                            "prob": prob,
                        }
                    )
    frames = {
        "client_windows": [pl.DataFrame(windows, infer_schema_length=None).sort("arrival_ns", maintain_order=True).with_row_index("row_id")],
        "client_pmf": [pl.DataFrame(laws, infer_schema_length=None).sort("arrival_ns", maintain_order=True).with_row_index("row_id")],
    }  # fmt: skip
    formats.export(frames, "servegen", tmp_path / "p")
    made = sorted(p.name for p in (tmp_path / "p").iterdir())
    assert made == sorted(p.name for p in pool.glob("chunk-*"))
    for name in made:
        ours, theirs = (tmp_path / "p" / name).read_text(), (pool / name).read_text()
        if name.endswith("csv"):
            assert [_numbers(x) for x in ours.splitlines()] == [
                _numbers(x) for x in theirs.splitlines()
            ]
        else:
            a, b = json.loads(ours), json.loads(theirs)
            told = {at: {f: ast.literal_eval(t) for f, t in d.items()} for at, d in a.items()}
            want = {at: {f: ast.literal_eval(t) for f, t in d.items()} for at, d in b.items()}
            want = {at: {f: d for f, d in fields.items() if d} for at, fields in want.items()}
            assert told == {at: fields for at, fields in want.items() if fields}


def _numbers(line: str) -> list[float | str]:
    return [x if x.isalpha() or not x else float(x) for x in line.split(",")]


def test_invitro_folder_comes_out_as_it_was(real_data: Path, tmp_path: Path) -> None:
    folder = real_data / "serverless/azure-functions-2019/sample_100"
    counts: list[dict[str, Any]] = []
    for row in table(folder / "invocations.csv"):
        who = {
            "func_id": row["HashFunction"],
            "app_id": row["HashApp"],
            "owner_id": row["HashOwner"],
            "trigger": row["Trigger"],
        }
        minutes = {int(k): int(n) for k, n in row.items() if k.isdigit()}
        counts += [
            who | {"arrival_ns": m * MINUTE, "bin_s": 60.0, "invocations": n}
            for m, n in minutes.items()
            if n
        ]
    stats: list[dict[str, Any]] = []
    for row in table(folder / "durations.csv"):
        mean = {"Average": "mean", "Minimum": "min", "Maximum": "max"}
        for name, value in row.items():
            stat = mean.get(name) or (f"p{name.split('_')[-1]}" if "percentile" in name else None)
            if stat:
                stats.append(
                    {
                        "func_id": row["HashFunction"],
                        "app_id": row["HashApp"],
                        "metric": "duration_30s_mean_s" if stat[0] == "p" else "duration_s",
                        "stat": stat,
                        "value": float(value) / 1000,
                        "samples": int(row["Count"]),
                    }
                )
    for row in table(folder / "memory.csv"):
        for name, value in row.items():
            stat = (
                "mean"
                if name == "AverageAllocatedMb"
                else f"p{name.split('pct')[-1]}"
                if "pct" in name
                else None
            )
            if stat:
                stats.append(
                    {
                        "func_id": row["HashFunction"],
                        "app_id": row["HashApp"],
                        "metric": "memory_mb",
                        "stat": stat,
                        "value": float(value),
                        "samples": int(row["SampleCount"]),
                    }
                )
    frames = {
        "invocation_counts": [pl.DataFrame(counts).sort("arrival_ns").with_row_index("row_id")],
        "function_stats": [pl.DataFrame(stats).with_row_index("row_id")],
    }
    done = formats.export(frames, "invitro", tmp_path / "i")
    assert {k: n for k, n in done.losses.items() if "not recorded" in k} == {}
    first = min(c["arrival_ns"] for c in counts) // MINUTE
    ours = {r["HashFunction"]: r for r in table(tmp_path / "i/invocations.csv")}
    theirs = [r for r in table(folder / "invocations.csv") if r["HashFunction"] in ours]
    assert len(ours) == len(theirs) >= 90
    for row in theirs:
        mine = ours[row["HashFunction"]]
        assert {
            int(k) + first - 1: int(n) for k, n in mine.items() if k.isdigit() and n != "0"
        } == {int(k): int(n) for k, n in row.items() if k.isdigit() and n != "0"}
        assert [mine[c] for c in ("HashOwner", "HashApp", "Trigger")] == [
            row[c] for c in ("HashOwner", "HashApp", "Trigger")
        ]
    for file in ("durations.csv", "memory.csv"):
        mine_by = {r["HashFunction"]: r for r in table(tmp_path / "i" / file)}
        checked = 0
        for row in table(folder / file):
            if row["HashFunction"] in mine_by:
                got = mine_by[row["HashFunction"]]
                for name, value in row.items():
                    if name.startswith("Hash"):
                        assert got[name] == value
                    else:
                        assert float(got[name]) == pytest.approx(
                            float(value), rel=1e-12, abs=1e-6
                        ), name
                checked += 1
        assert checked == len(mine_by)

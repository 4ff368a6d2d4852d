"""LLM formats over the real files: the figures that the research notes and the ground truth print."""

from __future__ import annotations

import csv
import itertools
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from lamina_traces import formats
from lamina_traces.formats.llmservingsim import block_hashes
from lamina_traces.store import Store
from tests.formats.reads import read

pytestmark = pytest.mark.real_data


def tables(*paths: Path) -> tuple[dict[str, pl.DataFrame], formats.Summary]:
    reading = formats.open_reading(list(paths))
    found: dict[str, list[pl.DataFrame]] = {}
    for block in reading:
        found.setdefault(block.table, []).append(block.frame)
    return {t: pl.concat(f) for t, f in found.items()}, reading.finish()


def test_vidur_is_azure_to_the_ns(real_data: Path) -> None:
    azure = read(real_data / "llm/AzureLLMInferenceTrace_code.csv").frame
    vidur = read(real_data / "llm/vidur_splitwise_code.csv")
    for name in ("arrival_ns", "input_tokens", "output_tokens"):
        assert azure[name].equals(vidur.frame[name]), name
    assert (vidur.summary.clock, vidur.summary.version) == ("relative", "timed")


def test_vidur_lengths(real_data: Path) -> None:
    got = read(real_data / "llm/vidur_arxiv_summarization_stats.csv")
    n_in, n_out = got.frame["input_tokens"], got.frame["output_tokens"]
    assert (got.frame.height, got.summary.clock, got.summary.version) == (28_257, "none", "lengths")
    assert "arrival_ns" not in got.frame.columns
    assert n_in.mean() == pytest.approx(2588.08, abs=5e-3)
    assert n_out.mean() == pytest.approx(291.43, abs=5e-3)
    assert (n_in.median(), n_out.median()) == (2730, 167)
    assert np.percentile(n_in.to_numpy(), [90, 99]) == pytest.approx([3702, 3933.44], abs=5e-3)
    assert np.percentile(n_out.to_numpy(), [90, 99]) == pytest.approx([372, 3271.32], abs=5e-3)
    assert (n_in + n_out).equals(got.frame["total_tokens"])


def test_llmservingsim_example(real_data: Path) -> None:
    got = read(real_data / "llm/llmservingsim_example_trace.jsonl")
    assert got.column("arrival_ns")[:2] == [46_926_808, 347_938_952]
    assert got.frame.select("input_tokens", "output_tokens").sum().row(0) == (120, 591)
    assert [len(h) for h in got.column("prefix_hashes")] == [n // 16 for n in got.column("input_tokens")]  # fmt: skip
    assert [len(h) for h in got.column("output_hashes")] == [n // 16 for n in got.column("output_tokens")]  # fmt: skip
    # rows 2 and 3 begin with the same ids for fewer than a block, and the output of row 1 with its prompt
    assert got.column("output_hashes")[1][0] == got.column("prefix_hashes")[1][0]
    assert "tok_ids" not in repr(got.frame.to_dicts())


def test_chained_hashes() -> None:
    a = block_hashes([*range(16), *range(16)])
    b = block_hashes([*range(1, 17), *range(16), 3])
    assert a is not None
    assert b is not None
    assert len(a) == len(b) == 2
    assert a[0] != a[1]
    assert not set(a) & set(b)
    assert block_hashes([*range(16), 5]) == a[:1]
    assert block_hashes([1.5] * 16) is None


def published(ground_truth: Path) -> Iterator[tuple[str, str, float]]:
    with (ground_truth / "operating_points.csv").open() as f:
        for row in csv.DictReader(f):
            if row["source"] == "llmservingsim-vllm-bench" and "_ms_" in row["metric"]:
                yield row["model"], row["metric"], float(row["value"])


def statistic(values: Any, name: str) -> float:
    return float(np.mean(values) if name == "mean" else np.percentile(values, int(name[1:])))


def test_vllm_requests_give_the_published_latencies(ground_truth: Path) -> None:
    values = list(published(ground_truth))
    assert len(values) == 24
    for model, metric, value in values:
        file = f"RTXPRO6000_{model.rpartition('/')[2]}_requests.jsonl"
        got = read(ground_truth / "requests" / file).frame
        column, _, name = metric.partition("_ms_")
        ours = statistic(got[f"{column}_s"].drop_nulls().to_numpy(), name) * 1000
        assert ours == pytest.approx(value, rel=1e-9), (model, metric)


def test_vllm_requests_clocks(real_data: Path) -> None:
    got = read(real_data / "llm/vllm_bench_rtxpro6000_Qwen3-32B.requests.jsonl")
    frame = got.frame
    gaps = np.diff(np.sort(frame["arrival_ns"].to_numpy()))
    assert frame["arrival_ns"].max() == pytest.approx(29.12221e9, rel=1e-6)
    assert gaps.std() / gaps.mean() == pytest.approx(0.94154, abs=5e-6)
    assert frame["input_tokens"].mean() == pytest.approx(862.30, abs=5e-3)
    assert frame["output_tokens"].mean() == pytest.approx(664.95, abs=5e-3)
    ttft = frame["ttft_s"].to_numpy() * 1000
    shown = [ttft.mean(), *np.percentile(ttft, [50, 90, 95, 99])]
    assert shown == pytest.approx([36905.2, 40701.8, 84318.7, 88007.4, 93347.1], abs=0.05)
    assert (frame["queued_ns"] - frame["arrival_ns"]).min() == 0
    order = ["arrival_ns", "queued_ns", "scheduled_ns", "first_token_ns", "last_token_ns"]
    assert all((frame[a] <= frame[b]).all() for a, b in itertools.pairwise(order))
    text = next(n.text for n in got.summary.notices if n.code == "two-clocks")
    assert "374 ms" in text
    assert (got.summary.nature, got.summary.clock) == ("measured", "utc")
    assert got.summary.origin_ns == 1_777_142_984_578_685_500


def test_servegen_pool(real_data: Path) -> None:
    found, summary = tables(real_data / "llm/servegen")
    windows, pmf = found["client_windows"], found["client_pmf"]
    assert windows.height == 6 * 2016
    assert set(windows["client_id"]) == {"12", "14", "17", "18", "26", "27"}
    assert windows.select("category", "model").unique().row(0) == ("language", "m-small")
    assert set(windows["law"].drop_nulls()) <= {"gamma", "weibull"}
    assert (windows["window_s"] == 600).all()
    first = windows.row(0, named=True)
    assert (first["rate_rps"], first["shape"]) == (62.83166666666666, 0.9386069105848938)
    idle = windows.filter(pl.col("rate_rps") == 0)
    assert idle["law"].null_count() == idle["gap_cv"].null_count() == idle.height
    # the trap: the law of client 14 does not fit its rate
    fourteen = windows.filter((pl.col("client_id") == "14") & pl.col("law").is_not_null())
    means = [
        a * b if law == "gamma" else b * math.gamma(1 + 1 / a)
        for law, a, b in fourteen.select("law", "shape", "scale_s").iter_rows()
    ]
    assert (pl.Series(means) * fourteen["rate_rps"]).median() == pytest.approx(1.625, abs=5e-4)
    sums = pmf.group_by("client_id", "arrival_ns", "field").agg(pl.col("prob").sum())
    assert sums["prob"].to_numpy() == pytest.approx(np.ones(sums.height), abs=1e-6)
    assert set(pmf["field"]) == {"input_tokens", "output_tokens"}
    assert set(pmf["arrival_ns"]) <= {i * 21_600 * 10**9 for i in range(56)}
    assert summary.reconciles
    assert [n.code for n in summary.notices] == ["empty-windows"]


def test_otel_files(real_data: Path) -> None:
    fan = read(real_data / "llm/otel_fan_in_dependencies.json")
    assert [round(t / 1e9, 6) for t in fan.column("arrival_ns")] == [0, 2.5, 3, 6]
    assert fan.column("e2e_s") == [2, 2, 2, 3]
    assert fan.column("max_output_tokens") == [500, 500, 500, 1500]
    assert set(fan.column("workflow_id")) == {"test_trace_003"}
    assert set(fan.column("depends_on")) == {None}
    assert fan.summary.origin_ns == 1_772_013_600_000_000_000
    support = read(real_data / "llm/otel_customer_support_escalation.json")
    assert support.frame.height == 9
    assert support.column("max_output_tokens")[0] == 500  # written as text
    assert set(support.column("session_id")) == {"session_006"}
    assert "Python" not in repr(fan.frame.to_dicts())
    assert {"gen_ai.input.messages", "gen_ai.output.text"} <= set(fan.summary.dropped_fields)


def test_every_real_file_has_one_format(real_data: Path) -> None:
    found = {}
    for path in sorted((real_data / "llm").rglob("*.*")):
        if path.suffix in (".csv", ".json", ".jsonl") and "meta" not in path.name and "timeseries" not in path.name:  # fmt: skip
            found[path.name] = formats.detect(path).name
    assert len(found) == 9 + 12
    assert set(found.values()) == {"azure", "burstgpt", "mooncake", "vidur", "llmservingsim", "vllm_requests", "servegen", "servegen_dataset", "otel"}  # fmt: skip


def test_servegen_is_stored(real_data: Path, tmp_path: Path) -> None:
    trace = Store(tmp_path / "s").ingest(real_data / "llm/servegen", "pool")
    assert trace.scan().collect().height == 6 * 2016
    assert trace.manifest.clock == "relative"

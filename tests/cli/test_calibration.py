"""calibrate, and simulate --calibration and --backtest, as their user runs them."""

from __future__ import annotations

import csv
import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from lamina_traces.measurements import in_flight, tenths
from lamina_traces.store import Store

from ..costs.test_calibration import machine

COLUMNS = ("source", "model", "gpu", "n_gpus", "tp", "engine", "precision", "mode", "load", "input_tokens", "output_tokens", "metric", "value")  # fmt: skip


def table(path: Path) -> Path:
    """A table of points of the synthetic machine, one bad row among them."""
    with path.open("w", newline="") as f:
        writer = csv.writer(f)
        writer.writerow(COLUMNS)
        for p in machine():
            writer.writerow((p.source, p.model.name, p.device.name, 1, 1, p.engine, "bf16", "closed_loop_agg", p.load, p.input, p.output, "tpot_ms", p.measured["tpot_s"] * 1e3))  # fmt: skip
        writer.writerow(("here", "llama-3.1-8b", "h100-sxm", 1, 1, "vllm", "bf16", "closed_loop_agg", "", 1, 1, "tpot_ms", 5))  # fmt: skip
    return path


def test_calibrate_writes_what_simulate_takes(lamina: Any, tmp_path: Path) -> None:
    points = table(tmp_path / "points.csv")
    done = lamina("calibrate", points, "--model", "llama-3.1-8b", "-o", "mine.toml")
    assert done.code == 0, done.err
    assert re.search(r"incomplete +1", done.out)
    assert re.search(r"all but one +the one +\d", done.out)
    assert re.search(r"4 points +the others, ten draws +\d", done.out)
    text = (tmp_path / "mine.toml").read_text()
    assert 'basis = "fitted"' in text
    assert re.search(r'sha256 = "[0-9a-f]{64}"', text)
    flags = ("simulate", "azure-code", "--to", "1m", "-f", "json")
    plain, own = (json.loads(lamina(*flags, *more).out) for more in ((), ("--calibration", "mine.toml")))  # fmt: skip
    assert own["tpot_mean_s"] > 1.05 * plain["tpot_mean_s"]
    assert 'calibration = "fitted: 2' in own["spec"]
    other = lamina(*flags, "--gpu", "l40s", "--calibration", "mine.toml")
    assert "the calibration is of llama-3.1-8b on h100-sxm, bf16" in other.err
    many = json.loads(lamina("calibrate", points, "-f", "json").out)
    assert many["matching"] == many["rows"] == len(machine()) + 1
    assert many["factors"]["memory"] == pytest.approx(0.8, rel=0.03)


@pytest.mark.parametrize(
    ("argv", "said"),
    [
        ((), "calibrate takes measured points"),
        (("points.csv", "--device", "cpu"), "calibrate takes measured points"),
        (("points.csv", "--gpu", "b200"), "no point has a TPOT"),
        (("points.csv", "--gpu", "h1000"), "h1000"),
        (("points.csv", "-o", "no/such/folder.toml"), "cannot be written"),
        (("requests.csv", "--gpu", "h100", "--model", "llama-3.1-8b"), "records no latencies"),
        (("--device", "cpu", "--tp", "2"), "--device does not go with --tp"),
        (("points.csv", "--window", "2s"), "--window goes with --power"),
    ],
)
def test_what_cannot_be_calibrated_is_said(
    lamina: Any, tmp_path: Path, argv: tuple[str, ...], said: str
) -> None:
    from lamina_traces.samples import sample_path

    table(tmp_path / "points.csv")
    (tmp_path / "requests.csv").write_bytes(sample_path("requests.csv").read_bytes())
    done = lamina("calibrate", *argv)
    assert done.code in (1, 2)
    assert said in done.err
    assert "Traceback" not in done.err


@pytest.fixture
def run(lamina: Any) -> str:
    """A simulated run, which has latencies as a measured trace has."""
    done = lamina("simulate", "azure-code", "--to", "4m", "--save", "run")
    assert done.code == 0, done.err
    return "run"


def backtest(lamina: Any, *flags: str) -> dict[str, Any]:
    done = lamina("simulate", "run", "--backtest", "-f", "json", *flags)
    assert done.code == 0, done.err
    out: dict[str, Any] = json.loads(done.out)
    return out


def test_a_run_backtested_on_its_own_spec_is_right(lamina: Any, run: str) -> None:
    found = backtest(lamina)
    errors = [r["error"] for r in found["latencies"] if r["error"] is not None]
    assert len(errors) >= 9
    assert np.abs(errors).max() < 1e-6
    assert found["blame"] == "none"
    assert all(p["measured_s"] == pytest.approx(p["simulated_s"], abs=1e-9) for p in found["parts"])
    assert sum(r["requests"] for r in found["by_load"]) == found["requests"]


@pytest.mark.parametrize(
    "flags",
    [
        ("--max-num-seqs", "2"),
        ("--max-num-batched-tokens", "512"),
        ("--with", "speculative-decoding:acceptance=0.8"),
        ("--rank", "priority", "--max-num-seqs", "1"),
    ],
)
def test_flags_of_the_deployment_are_those_of_the_backtest(
    lamina: Any, tmp_path: Path, flags: tuple[str, ...]
) -> None:
    rows = [f"{i * 10**7},{200 + 37 * i},{40 + i % 7},{i % 3}" for i in range(60)]
    text = "arrival_ns,input_tokens,output_tokens,priority\n" + "\n".join(rows) + "\n"
    (tmp_path / "asked.csv").write_text(text)
    done = lamina("simulate", "asked.csv", "--save", "run", *flags)
    assert done.code == 0, done.err

    def error(*flags: str) -> float:
        found = backtest(lamina, *flags)
        return max(abs(float(r["error"])) for r in found["latencies"] if r["error"] is not None)

    assert error(*flags) < 1e-6
    assert error(*flags[2:]) > 0.01


def test_on_a_slower_device_it_is_the_service_time_and_a_calibration_helps(
    lamina: Any, run: str, tmp_path: Path
) -> None:
    found = backtest(lamina, "--gpu", "h200", "--propose", "p.toml")
    assert found["blame"] == "service"
    assert "service time" in found["verdict"]
    e2e = next(r for r in found["latencies"] if (r["latency"], r["stat"]) == ("e2e", "mean"))
    assert e2e["error"] < -0.1
    proposal = found["proposal"]
    assert proposal["helps"]
    assert proposal["after"]["e2e"][1] < 0.5 * proposal["before"]["e2e"][1]
    again = backtest(lamina, "--gpu", "h200", "--calibration", "p.toml")
    assert again["blame"] == "none"


def test_another_limit_of_the_batch_is_queueing(lamina: Any, tmp_path: Path) -> None:
    spec = 'model = "llama-3.1-8b"\n[[pools]]\n[[pools.replica.groups]]\ngpu = "h100-sxm"\n'
    (tmp_path / "few.toml").write_text(spec + "[pools.replica.batch]\nmax_num_seqs = 2\n")
    (tmp_path / "many.toml").write_text(spec)
    saved = lamina("simulate", "azure-code", "--to", "4m", "--spec", "few.toml", "--save", "run")
    assert saved.code == 0, saved.err
    found = backtest(lamina, "--spec", "many.toml")
    assert found["blame"] == "queueing"
    shown = lamina("simulate", "run", "--backtest", "--spec", "many.toml")
    assert "it is queueing" in shown.out


def test_requests_that_meet_an_idle_engine_are_not_said_to_queue(
    lamina: Any, tmp_path: Path
) -> None:
    """A log without queue times, of slow answers that never overlap; one prompt that the model cannot take."""
    lines = ["arrival_ns,input_tokens,output_tokens,ttft_s,e2e_s,status"]
    lines += [f"{i * 10**9},{500 if i else 500_000},50,0.06,0.4,ok" for i in range(50)]
    (tmp_path / "slow.csv").write_text("\n".join(lines) + "\n")
    done = lamina("simulate", "slow.csv", "--backtest", "-f", "json")
    assert done.code == 0, done.err
    found = json.loads(done.out)
    assert [n["code"] for n in found["notices"]] == ["rejected"]
    assert (found["blame"], found["requests"]) == ("service", 49)
    assert found["alone"]["requests"] == 49
    assert found["alone"]["e2e_error"] == pytest.approx(found["latencies"][8]["error"], rel=0.05)
    assert [p["name"] for p in found["parts"]] == ["queue, estimated", "service, estimated"]
    lines = [",".join(x.split(",")[:4]) + ",ok" for x in lines[2:]]
    (tmp_path / "first.csv").write_text(
        "arrival_ns,input_tokens,output_tokens,ttft_s,status\n" + "\n".join(lines) + "\n"
    )
    done = lamina("simulate", "first.csv", "--backtest")
    assert done.code == 0, done.err
    assert "records no e2e" in done.out


@pytest.mark.parametrize(
    ("argv", "said"),
    [
        (("azure-code", "--to", "1m", "--backtest"), "records no latencies"),
        (("run", "--backtest", "--slo", "ttft.p99=2s"), "--backtest does not go with --slo"),
        (
            ("run", "--backtest", "--concurrency", "4", "--by", "length"),
            "--backtest does not go with --concurrency, --by",
        ),
        (("run", "--propose", "x.toml"), "--propose goes with --backtest"),
        (
            ("run", "--backtest", "--reuse", "prefix"),
            "reuse prefix needs what a backtest does not replay",
        ),
        (("run", "--backtest", "--rank", "least-slack"), "rank least-slack needs"),
        (
            ("run", "--backtest", "--with", "speculative-decoding", "--propose", "x.toml"),
            "--propose does not go with speculative-decoding",
        ),
    ],
)
def test_what_cannot_be_backtested_is_said(
    lamina: Any, run: str, argv: tuple[str, ...], said: str
) -> None:
    done = lamina("simulate", *argv)
    assert done.code == 2
    assert said in done.err


def test_requests_in_flight_are_counted() -> None:
    start = np.array([0, 0, 10, 40])
    end = np.array([20, 30, 30, 50])
    at, mean = in_flight(start, end)
    assert at.tolist() == [2, 2, 3, 1]
    # the first sees two for 10 ns and three for 10 ns
    assert mean.tolist() == pytest.approx([2.5, (2 * 10 + 3 * 10 + 2 * 10) / 30, 2.5, 1.0])
    assert tenths(np.arange(20)).tolist() == [i // 2 for i in range(20)]
    assert set(tenths(np.ones(30)).tolist()) == {0}


WATTS = {"idle": 200.0, "prefill": 1300.0, "decode": 900.0}


def site(path: Path, offset_s: float = 0.0) -> None:
    """A store with a log of requests and the power of two devices, whose watts depend on the phase and 2 % noise; the
    power log's clock starts ``offset_s`` later."""
    rng = np.random.default_rng(3)
    start = np.cumsum(rng.exponential(4.0, 200))
    queue, prefill, decode = (
        rng.uniform(0, 0.5, 200),
        rng.uniform(0.2, 1, 200),
        rng.uniform(0, 4, 200),
    )
    t = np.arange(0, start[-1], 0.1)

    def during(a: Any, b: Any) -> Any:
        return ((t[:, None] >= a) & (t[:, None] < b)).any(axis=1)

    first = start + queue + prefill
    phase = np.where(
        during(start + queue, first),
        "prefill",
        np.where(during(first, first + decode), "decode", "idle"),
    )
    watts = np.array([WATTS[p] for p in phase]) * rng.normal(1, 0.02, len(t))
    store = Store(path)
    with store.writer("log", kind="llm", nature="measured") as w:
        n = len(start)
        w.write(
            "llm_requests",
            pl.DataFrame(
                {
                    "row_id": np.arange(n),
                    "arrival_ns": (start * 1e9).astype(np.int64),
                    "input_tokens": np.full(n, 100, np.int32),
                    "output_tokens": np.full(n, 50, np.int32),
                    "status": ["ok"] * n,
                    "queue_s": queue,
                    "ttft_s": queue + prefill,
                    "e2e_s": queue + prefill + decode,
                }
            ),
        )
        w.commit(clock="utc", origin_ns=10**18, format="lamina")
    with store.writer("watts", kind="power", nature="measured") as w:
        n = len(t)
        ns = ((t - offset_s) * 1e9).astype(np.int64)
        both = pl.concat(
            [
                pl.DataFrame(
                    {
                        "arrival_ns": ns,
                        "device": [f"gpu{g}"] * n,
                        "domain": ["gpu"] * n,
                        "power_w": watts * share,
                    }
                )
                for g, share in enumerate((0.4, 0.6))
            ]
        )
        w.write(
            "power_samples",
            both.sort("arrival_ns").with_row_index("row_id").cast({"row_id": pl.Int64}),
        )
        w.commit(clock="utc", origin_ns=10**18 + int(offset_s * 1e9), format="lamina")


@pytest.mark.parametrize("offset_s", [0.0, 5.0])
def test_watts_by_phase_come_back(lamina: Any, tmp_path: Path, offset_s: float) -> None:
    site(tmp_path / "lamina-store", offset_s)
    done = lamina("calibrate", "--requests", "log", "--power", "watts", "-f", "json")
    assert done.code == 0, done.err
    found = json.loads(done.out)
    assert found["devices"] == 2
    for row in found["phases"]:
        assert row["watts"] == pytest.approx(WATTS[row["phase"]], rel=0.02)
    assert found["errors"][1]["error"] < 0.03
    assert (
        "second half"
        in lamina("calibrate", "--requests", "log", "--power", "watts", "--window", "2s").out
    )
    for argv, said in (
        (("--requests", "log"), "go together"),
        (("--requests", "log", "--power", "log"), "no power samples"),
        (("--requests", "log", "--power", "watts", "--window", "10m"), "overlap"),
        (("--requests", "log", "--power", "watts", "--gpu", "l4"), "does not go with --gpu"),
    ):
        refused = lamina("calibrate", *argv)
        assert refused.code in (1, 2)
        assert said in refused.err


@pytest.mark.real_data
def test_vllm_logs(lamina: Any, ground_truth: Path, tmp_path: Path) -> None:
    """Seen when written: Llama-3.1-8B e2e +5.9 %, Qwen3-32B −6.4 %; on the second half 6.7 → 2.2 % and 6.7 → 0.8 % a request."""
    for name, model, tp, e2e, after in (
        ("Llama-3.1-8B", "llama-3.1-8b", 1, 0.08, 0.03),
        ("Qwen3-32B", "qwen3-32b", 2, 0.08, 0.03),
    ):
        (tmp_path / "s.toml").write_text(
            f'model = "{model}"\n[[pools]]\n[[pools.replica.groups]]\ngpu = "rtx-pro-6000-server"\nn = {tp}\ntp = {tp}\n'
            "[pools.replica.batch]\nmax_num_seqs = 128\n"
        )
        log = ground_truth / "requests" / f"RTXPRO6000_{name}_requests.jsonl"
        done = lamina("simulate", log, "--spec", "s.toml", "--backtest", "-f", "json")
        assert done.code == 0, done.err
        found = json.loads(done.out)
        mean = next(r for r in found["latencies"] if (r["latency"], r["stat"]) == ("e2e", "mean"))
        assert abs(mean["error"]) < e2e
        assert found["proposal"]["after"]["e2e"][1] < after
        assert found["blame"] == "none"


@pytest.mark.real_data
def test_tables_that_ingest_reads_are_points(lamina: Any, real_data: Path) -> None:
    power = real_data / "power"
    mle = power / "ml-energy-v3" / "llm_configurations_H100.csv"
    done = lamina("calibrate", mle, "--model", "Qwen/Qwen3-14B", "-f", "json")
    assert done.code == 0, done.err
    found = json.loads(done.out)
    assert found["points"] >= 10
    assert found["era"] == "2025-sync"
    errors = {e["fitted_on"]: e["tpot_error"] for e in found["errors"]}
    assert errors["all but one"] < errors["none: the prior"]
    perf = next((power / "splitwise-sim").glob("*.csv"))
    done = lamina("calibrate", perf, "--gpu", "a100-80-sxm", "-f", "json")
    assert done.code == 0, done.err
    assert json.loads(done.out)["era"] == "2023"

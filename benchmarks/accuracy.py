"""How far the cost model is from public measurements: ``make accuracy`` writes the tables of docs/cost-model.md.

Needs LAMINA_TRACES_GROUND_TRUTH (operating points, request logs); uses LAMINA_TRACES_REAL_DATA where it is set, for
models and GPUs that took no part in any fit. No row of these collections is copied into the page.
"""

from __future__ import annotations

import argparse
import csv
import json
import math
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from lamina_traces import specs
from lamina_traces.costs import ERAS, FITTED_POWER, time_shares
from lamina_traces.costs.calibration import (
    ERA_KNOBS,
    KNOBS,
    Design,
    fit,
    values_of,
)
from lamina_traces.costs.points import (
    INPUT_TOKENS,
    RULES,
    Point,
    Points,
    engine_family,
    predict,
    read_points,
    tpot_states,
)
from lamina_traces.errors import LaminaError
from lamina_traces.hardware import device, model
from lamina_traces.schema import Requests
from lamina_traces.simulator import simulate

Floats = npt.NDArray[np.float64]
FEW = (2, 4, 8)
DRAWS = 10
"""random choices of a few points, each scored on the points that were not chosen."""


def group(p: Point) -> str:
    """Points that one deployment's owner would call alike."""
    return " · ".join(
        (p.source.split("-")[0], p.model.name, p.device.name, p.dtype, engine_family(p.engine))
    )


def prior() -> dict[str, float]:
    """The shipped efficiencies of all eras, those of the host by era."""
    out = values_of(ERAS["2025"])
    for era, e in ERAS.items():
        if era != "2025":
            out |= {f"{n}@{era}": values_of(e)[n] for n in ERA_KNOBS[era]}
    return out


def free_names() -> list[tuple[str]]:
    """What the shipped constants are fitted as: all but the links' share, which the NCCL tables give, and zeros."""
    return [(n,) for n, v in prior().items() if n != "network" and v]


@dataclass(frozen=True)
class Held:
    """Points with a TPOT, their table, and the errors under several kinds of fit."""

    points: list[Point]
    design: Design

    @classmethod
    def of(cls, points: Points) -> Held:
        kept = [p for p in points.kept if "tpot_s" in p.measured and p.mode != "open"]
        return cls(kept, Design.of(kept, by_era=True))

    def labels(self, of: Callable[[Point], str]) -> npt.NDArray[np.str_]:
        return np.array([of(p) for p in self.points])

    def weights(self) -> Floats:
        """A group counts by the root of its size: 180 points of one deployment are not 180 pieces of news."""
        names = self.labels(group)
        size = {g: int((names == g).sum()) for g in set(names)}
        return np.array([1 / math.sqrt(size[g]) for g in names])

    def shipped(self) -> Floats:
        return self.design.predict(prior()) / self.design.measured - 1

    def refit(self, rows: npt.NDArray[np.bool_]) -> dict[str, float]:
        i = np.flatnonzero(rows)
        weights = self.weights()[i]
        return fit(self.design.take(i), prior(), free_names(), spread=0.5, weights=weights)

    def left_out(self, of: Callable[[Point], str]) -> Floats:
        """Errors on the points of each label, by constants fitted without them."""
        names, out = self.labels(of), np.zeros(len(self.points))
        for name in sorted(set(names)):
            rows = names == name
            found = self.design.predict(self.refit(~rows)) / self.design.measured - 1
            out[rows] = found[rows]
        return out

    def few(self, k: int, seed: int = 7) -> Floats:
        """[points] mean |error| over draws in which a point was not among the ``k`` of its group that calibrate;
        NaN where a group has fewer than 2k points."""
        rng = np.random.default_rng(seed)
        names, out = self.labels(group), np.full(len(self.points), np.nan)
        for g in sorted(set(names)):
            rows = np.flatnonzero(names == g)
            if len(rows) < 2 * k:
                continue
            one = Design.of([self.points[i] for i in rows])
            start = values_of(ERAS[self.points[rows[0]].era])
            sums, counts = np.zeros(len(rows)), np.zeros(len(rows))
            for _ in range(DRAWS):
                chosen = rng.choice(len(rows), k, replace=False)
                found = fit(one.take(chosen), start, KNOBS.values())
                error = np.abs(one.predict(found) / one.measured - 1)
                rest = np.setdiff1d(np.arange(len(rows)), chosen)
                sums[rest] += error[rest]
                counts[rest] += 1
            out[rows] = np.divide(sums, counts, out=np.full(len(rows), np.nan), where=counts > 0)
        return out


def mape(e: Floats) -> str:
    e = e[~np.isnan(e)]
    return f"{np.abs(e).mean():.1%}" if len(e) else "–"


def bias(e: Floats) -> str:
    return f"{np.median(e):+.1%}" if len(e) else "–"


def table(head: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    lines += ["| " + " | ".join(str(c) for c in row) + " |" for row in rows]
    return "\n".join(lines) + "\n"


def rejects(points: Points) -> str:
    kept = sum(len(p.measured) for p in points.kept)
    rows = [(RULES[r], n) for r, n in sorted(points.rejected.items(), key=lambda x: -x[1])]
    lost = sum(points.rejected.values())
    return (
        f"{points.rows:,} rows; {len(points.kept):,} points with {kept:,} measurements are kept, "
        f"{lost:,} rows rejected, the rest are repeats that are averaged.\n\n"
        + table(("rule", "rows"), rows)
    )


def tpot_tables(held: Held) -> str:
    shipped = held.shipped()
    without = {
        "GPU": held.left_out(lambda p: p.device.name),
        "model": held.left_out(lambda p: p.model.name),
    }
    few = {k: held.few(k) for k in FEW}
    moe = np.array([p.moe for p in held.points])
    every = np.ones(len(moe), bool)

    def row(name: str, rows: npt.NDArray[np.bool_]) -> tuple[object, ...]:
        return (
            name,
            int(rows.sum()),
            mape(shipped[rows]),
            bias(shipped[rows]),
            *(mape(e[rows]) for e in without.values()),
            *(mape(few[k][rows]) for k in FEW),
        )

    head = ["points", "n", "shipped", "bias", "GPU left out", "model left out"]
    head += [f"{k} points" for k in FEW]
    text = table(head, (row("all", every), row("dense", ~moe), row("mixture of experts", moe)))
    for what, of in (
        ("source", lambda p: p.source),
        ("GPU", lambda p: p.device.name),
        ("model", lambda p: p.model.name),
        ("precision", lambda p: p.dtype),
        ("engine", lambda p: engine_family(p.engine)),
        ("deployment", group),
    ):
        names = held.labels(of)
        rows = [row(n, names == n) for n in sorted(set(names))]
        text += "\n" + table((f"by {what}", *head[1:]), rows)
    return text


def between_engines(points: Sequence[Point]) -> str:
    """How far two engines are apart on one configuration: what no model of the hardware alone can say."""
    alike: dict[tuple[object, ...], list[tuple[str, float]]] = {}
    for p in points:
        key = (
            p.model.name,
            p.device.name,
            p.dtype,
            p.tp,
            p.dp,
            p.replicas,
            p.load,
            p.input,
            p.output,
        )
        alike.setdefault(key, []).append((p.engine, p.measured["tpot_s"]))
    apart: dict[str, list[float]] = {"versions of one engine": [], "two engines": []}
    for runs in alike.values():
        for i, (a, x) in enumerate(runs):
            for b, y in runs[:i]:
                if a != b:
                    one = engine_family(a) == engine_family(b)
                    apart["versions of one engine" if one else "two engines"].append(
                        abs(math.log(x / y))
                    )
    rows = [(k, len(v), f"{np.mean(v):.1%}", f"{np.median(v):.1%}") for k, v in apart.items() if v]
    return "Of the same configuration, TPOT of\n\n" + table(
        ("", "pairs", "mean apart", "median"), rows
    )


def other_metrics(points: Points) -> str:
    text = ""
    for metric, title in (("ttft_s", "TTFT and prefill"), ("output_tok_s", "tokens per second")):
        found: dict[str, list[float]] = {}
        for p in points.kept:
            if metric not in p.measured:
                continue
            got = predict(p, ERAS[p.era]).get(metric)
            if got is not None:
                key = f"{p.source} · {p.mode} · {p.device.name}"
                found.setdefault(key, []).append(got / p.measured[metric] - 1)
        rows = [(k, len(v), mape(np.array(v)), bias(np.array(v))) for k, v in sorted(found.items())]
        all_ = np.concatenate([np.array(v) for v in found.values()])
        rows.append(("all", len(all_), mape(all_), bias(all_)))
        text += f"\n{title}:\n\n" + table(("source, load, GPU", "n", "MAPE", "bias"), rows)
    return text


def shares(p: Point) -> tuple[float, float]:
    """Shares of the time of compute, and of memory and overheads, of the mean iteration of a loaded engine."""
    step = p.step(ERAS[p.era])
    found = np.zeros(2)
    total = 0.0
    for weight, x in tpot_states(replace(p, mode="throughput")):
        seconds = weight * step.seconds(x)
        found += seconds * np.array(time_shares(step, x))
        total += seconds
    compute, other = found / total
    return compute, other


def power_errors(points: Sequence[Point]) -> Floats:
    out = []
    for p in points:
        c, m = shares(p)
        watts = FITTED_POWER.busy_w(p.device, np.array([c]), np.array([m]))[0] * p.gpus
        out.append(float(watts) / p.measured["power_w"] - 1)
    return np.array(out)


def power_left_out(points: Sequence[Point]) -> Floats:
    """Power errors on each model's points by two coefficients fitted without that model."""
    x = np.array([(math.sqrt(c), m) for c, m in map(shares, points)])
    y = np.array([p.measured["power_w"] / p.gpus / p.device.tdp_w.value for p in points])
    names, out = np.array([p.model.name for p in points]), np.zeros(len(points))
    for name in set(names):
        rest = names != name
        found = np.linalg.lstsq(x[rest] / y[rest, None], np.ones(int(rest.sum())), rcond=None)[0]
        out[~rest] = np.clip(x[~rest] @ found, 0.1, 1) / y[~rest] - 1
    return out


def unseen(path: Path, seen: set[int]) -> list[Point]:
    """Points of ML.ENERGY's configurations (ml-energy/data, Apache-2.0) on models whose shape (told by the number of
    parameters) no fit has seen; tasks with
    pictures, and models that the catalogue lacks, are left out."""
    out = []
    dtypes = {"bfloat16": "bf16", "fp8": "fp8", "mxfp4": "mxfp4"}
    with path.open(newline="") as f:
        for r in csv.DictReader(f):
            try:
                m = model(r["model_id"])
            except LaminaError:
                continue
            if m.params in seen or r["task"] not in INPUT_TOKENS:
                continue
            gpus, ep = int(r["num_gpus"]), int(r["expert_parallel"])
            tp = max(int(r["tensor_parallel"]), ep)
            out.append(
                Point(
                    source="ml.energy-v3",
                    model=m,
                    device=device(r["gpu_model"]),
                    tp=tp,
                    dp=1,
                    ep=ep,
                    replicas=gpus // tp,
                    engine="vllm",
                    dtype=dtypes[r["weight_precision"]],
                    kv_dtype=None,
                    mode="saturated",
                    load=float(r["avg_batch_size"]),
                    input=INPUT_TOKENS[r["task"]],
                    output=float(r["avg_output_len"]),
                    measured={
                        "tpot_s": float(r["median_itl_ms"]) / 1e3,
                        "power_w": float(r["avg_power_watts"]),
                        "output_tok_s": float(r["output_throughput_tokens_per_sec"]),
                    },
                )
            )
    return out


def unseen_table(points: Sequence[Point]) -> str:
    found: dict[str, list[tuple[float, ...]]] = {}
    power = power_errors(points)
    for p, w in zip(points, power, strict=True):
        got = predict(p, ERAS[p.era])
        errors = [got[k] / p.measured[k] - 1 for k in ("tpot_s", "output_tok_s")]
        found.setdefault(f"{p.model.name} {p.dtype}", []).append((*errors, float(w)))
    rows = []
    every = [x for listed in found.values() for x in listed]
    for name, listed in [*sorted(found.items()), ("all", every)]:
        e = np.array(listed)
        cells = [f"{mape(e[:, i])} ({bias(e[:, i])})" for i in range(3)]
        rows.append((name, len(e), *cells))
    return table(("model", "n", "TPOT", "tokens per second", "power"), rows)


def latencies(start: Any, first: Any, last: Any, output: Any) -> dict[str, Floats]:
    """[requests] by name, in the unit of the instants; TPOT of answers of two tokens or more."""
    tpot = ((last - first) / np.maximum(output - 1, 1))[output > 1]
    return {"TTFT": first - start, "TPOT": tpot, "e2e": last - start}


def logs(folder: Path) -> str:
    """Whole runs against the logs of each request: means and medians."""
    rows = []
    for name in ("Llama-3.1-8B", "Qwen3-32B"):
        stem = folder / "requests" / f"RTXPRO6000_{name}"
        engine = json.loads(Path(f"{stem}_meta.json").read_text())["engine_kwargs"]
        lines = Path(f"{stem}_requests.jsonl").read_text().splitlines()
        log = sorted((json.loads(x) for x in lines), key=lambda r: float(r["queued_ts"]))
        queued, first, last = (
            np.array([r[f"{t}_ts"] for r in log]) for t in ("queued", "first_token", "last_token")
        )
        output = np.array([r["output_toks"] for r in log])
        requests = Requests.make(
            np.rint((queued - queued[0]) * 1e9), [r["input_toks"] for r in log], output
        )
        tp = engine["tensor_parallel_size"]
        spec = specs.simple(name.lower(), "rtx-pro-6000-server", tp=tp)
        pool = spec.pools[0]
        batch = replace(pool.replica.batch, max_num_seqs=engine["max_num_seqs"])
        pool = replace(pool, replica=replace(pool.replica, batch=batch))
        run = simulate(requests, replace(spec, pools=(pool,)))
        ns = run.rows
        ours = latencies(ns.release_ns, ns.first_token_ns, ns.last_token_ns, output)
        theirs = latencies(queued * 1e9, first * 1e9, last * 1e9, output)
        for what, values in ours.items():
            cells = []
            for stat in (np.mean, np.median):
                got, true = float(stat(values)) / 1e9, float(stat(theirs[what])) / 1e9
                cells.append(f"{got:.3g} s, {true:.3g} s, {got / true - 1:+.1%}")
            rows.append((f"{name}, TP {tp}", what, *cells))
    return table(("model", "latency", "mean: ours, measured, error", "median"), rows)


def constants(held: Held) -> str:
    again = held.refit(np.ones(len(held.points), bool))
    rows = [(n, f"{v:.3g}", f"{again[n]:.3g}") for n, v in prior().items()]
    return (
        f"{len(free_names())} constants are free in the fit, of {len(held.points):,} points; {len(KNOBS)} factors "
        f"with a few points.\n\n" + table(("constant", "shipped", "fitted again"), rows)
    )


def sections(folder: Path, real: Path | None) -> Mapping[str, str]:
    points = read_points(folder / "operating_points.csv")
    held = Held.of(points)
    powered = [p for p in points.kept if "power_w" in p.measured]
    e, lomo = power_errors(powered), power_left_out(powered)
    out = {
        "Rows": rejects(points),
        "Constants": constants(held),
        "Engines against each other": between_engines(held.points),
        "TPOT": tpot_tables(held),
        "TTFT, throughput": other_metrics(points),
        "Power": f"{len(powered)} points, H100: MAPE {mape(e)}, bias {bias(e)}; each model left out of the fit: "
        f"{mape(lomo)}.\n",
        "Whole runs": logs(folder),
    }
    table_v3 = real / "power/ml-energy-v3/llm_configurations_H100.csv" if real else None
    if table_v3 is not None and table_v3.is_file():
        seen = {p.model.params for p in held.points}
        out["Models that no fit has seen"] = unseen_table(unseen(table_v3, seen))
    return out


BEGIN, END = "<!-- accuracy: written by make accuracy -->", "<!-- end of accuracy -->"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--page", type=Path, help="write the tables into this page")
    page = parser.parse_args().page
    real = os.environ.get("LAMINA_TRACES_REAL_DATA")
    found = sections(Path(os.environ["LAMINA_TRACES_GROUND_TRUTH"]), Path(real) if real else None)
    text = "\n".join(f"### {title}\n\n{body}" for title, body in found.items())
    if page is None:
        print(text)
        return
    old = page.read_text(encoding="utf-8")
    head, _, rest = old.partition(BEGIN)
    page.write_text(f"{head}{BEGIN}\n\n{text}\n{END}{rest.partition(END)[2]}", encoding="utf-8")


if __name__ == "__main__":
    main()

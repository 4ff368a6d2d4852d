"""Characterizing a trace against one bare scan of it: CPU seconds (user + system) and memory of whole processes.

- ``scan``: a fresh process in which DuckDB (2 threads) adds up three columns of the Parquet files;
- ``fit``: a fresh process in which ``characterize`` fits every aspect of the same trace, imports included;
  of it ``fits`` is what maximum likelihood on Counts takes, ``intervals`` what drawing blocks takes.

The trace is BurstGPT-shaped (see ``benchmarks.ingest``): model, service, status, lengths, arrivals to the ms. Then fits on
a table of about 10⁴ distinct values against scipy on the 10⁶ rows. Run by hand:

    python -m benchmarks.characterize [rows] [rounds] [--scipy]
"""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from .ingest import make_csv, peak_rss_mb


def run_scan(store: Path) -> dict[str, float]:
    import duckdb

    files = sorted(str(f) for f in store.rglob("llm_requests/*.parquet"))
    connection = duckdb.connect(config={"threads": 2})
    found = connection.execute(
        f"SELECT sum(arrival_ns), sum(input_tokens), sum(output_tokens), count(*) FROM read_parquet({files})"
    ).fetchone()
    return {"rows": found[3] if found else 0}


def run_fit(store: Path) -> dict[str, float]:
    from lamina_traces import characterization, distributions, intervals
    from lamina_traces.aspects import ASPECTS
    from lamina_traces.store import Store

    spent = {"fits": 0.0, "intervals": 0.0}

    def timed(name: str, work):  # type: ignore[no-untyped-def]
        def wrapped(*a, **k):  # type: ignore[no-untyped-def]
            start = time.process_time()
            try:
                return work(*a, **k)
            finally:
                spent[name] += time.process_time() - start

        return wrapped

    for module in ASPECTS.values():
        if hasattr(module, "fit_families"):
            module.fit_families = timed("fits", distributions.fit_families)
        if hasattr(module, "with_intervals"):
            module.with_intervals = timed("intervals", distributions.with_intervals)
    intervals.Blocks.interval = timed("intervals", intervals.Blocks.interval)  # type: ignore[method-assign]
    intervals.Blocks.sums = timed("intervals", intervals.Blocks.sums)  # type: ignore[method-assign]
    profile = characterization.characterize(Store(store).trace("bench"))
    return {"rows": profile.source["rows"], "bytes": len(profile.dumps()), **spent}


def child(way: str, store: Path) -> None:
    got = {"scan": run_scan, "fit": run_fit}[way](store)
    use = resource.getrusage(resource.RUSAGE_SELF)
    print(json.dumps(got | {"cpu_s": use.ru_utime + use.ru_stime, "rss_mb": peak_rss_mb()}))


def against_scipy() -> None:
    """Six families on a table of whole numbers against scipy on the rows it counts, location fixed at 0."""
    import numpy as np
    from scipy import stats

    from lamina_traces.counts import Counts
    from lamina_traces.distributions import FAMILIES, POSITIVE, fit_families

    rng = np.random.default_rng(1)
    n = 1_000_000
    rows = np.ceil(np.where(rng.random(n) < 0.7, rng.lognormal(6, 1.2, n), rng.gamma(0.8, 900, n)))
    c = Counts.of(rows)

    def least(work, times: int) -> float:  # type: ignore[no-untyped-def]
        spent = []
        for _ in range(times):
            start = time.process_time()
            work()
            spent.append(time.process_time() - start)
        return min(spent)

    ours = least(lambda: [FAMILIES[f].fit(c) for f in POSITIVE], 5)
    whole = least(lambda: fit_families(c, whole_numbers=True), 5)
    laws = (stats.expon, stats.lognorm, stats.gamma, stats.weibull_min, stats.fisk, stats.invgauss)
    theirs = least(lambda: [law.fit(rows, floc=0) for law in laws], 1)
    print(
        f"{len(c):,} distinct values of {n:,}: fits {ours * 1e3:.2f} ms, with distances {whole * 1e3:.1f} ms; "
        f"scipy {theirs:.1f} s: ×{theirs / ours:,.0f} and ×{theirs / whole:,.0f}"
    )


def main() -> None:
    if sys.argv[1:2] == ["--child"]:
        child(sys.argv[2], Path(sys.argv[3]))
        return
    given = [a for a in sys.argv[1:] if not a.startswith("--")]
    if "--scipy" in sys.argv:
        against_scipy()
        return
    rows = int(given[0]) if given else 10_000_000
    rounds = int(given[1]) if len(given) > 1 else 3
    env = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[1]), "OPENBLAS_NUM_THREADS": "1"}
    with tempfile.TemporaryDirectory() as scratch:
        store = Path(scratch) / "store"
        from lamina_traces.store import Store

        source = Path(scratch) / "burstgpt.csv"
        make_csv(source, rows)
        Store(store).ingest([source], name="bench", hashed=False)
        source.unlink()
        best: dict[str, dict[str, float]] = {}
        for _ in range(rounds):
            for way in ("scan", "fit"):
                done = subprocess.run(
                    [sys.executable, "-m", "benchmarks.characterize", "--child", way, str(store)],
                    check=True, capture_output=True, text=True, env=env,
                )  # fmt: skip
                got = json.loads(done.stdout)
                if way not in best or got["cpu_s"] < best[way]["cpu_s"]:
                    best[way] = got
        scan, fit = best["scan"], best["fit"]
        print(
            f"{rows:,} rows: scan {scan['cpu_s']:.2f} CPU s; fit {fit['cpu_s']:.2f} CPU s, ×{fit['cpu_s'] / scan['cpu_s']:.1f}, "
            f"{fit['rss_mb']:.0f} MB, profile {fit['bytes'] / 1000:.0f} kB; of it fits {fit['fits']:.3f} s "
            f"({fit['fits'] / fit['cpu_s']:.1%}), intervals {fit['intervals']:.3f} s ({fit['intervals'] / fit['cpu_s']:.1%})"
        )


if __name__ == "__main__":
    main()

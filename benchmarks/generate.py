"""The generator against the bare numpy kernel of the same laws: CPU seconds and memory of whole processes.

- ``kernel``: levels, gaps and a pair of lengths from the profile's own tables with numpy alone, a million at a time, no file;
- ``generate``: ``generate azure-code -n N -o FILE.parquet``: skeleton, rows, row hash, Parquet.

    python -m benchmarks.generate [rows] [rounds]
"""

from __future__ import annotations

import json
import resource
import subprocess
import sys
import tempfile
from pathlib import Path


def kernel(rows: int) -> None:
    """The same laws with numpy alone, a million at a time: levels of windows, gaps on the clock of each class, wall times,
    a pair of lengths."""
    import numpy as np
    from scipy.special import ndtr

    from lamina_traces.profile import Profile

    profile = Profile.library("azure-code")
    arrivals, lengths = profile.aspect("arrivals"), profile.aspect("lengths")
    m = arrivals.modulation
    per_window = arrivals.rate_per_s * m.window_s
    copula = np.cumsum(lengths.copula.ravel())
    copula /= copula[-1]
    cells = len(lengths.copula)
    rng = np.random.Generator(np.random.SFC64(1))
    for start in range(0, rows, 1_000_000):
        n = min(1_000_000, rows - start)
        windows = int(n / per_window)
        z = np.zeros(windows)
        for k, share in enumerate(m.parts):
            part = rng.standard_normal(windows // 4**k + 1) * np.sqrt(share)
            z += np.repeat(part, 4**k)[:windows]
        level = np.interp(ndtr(z), np.linspace(0, 1, len(m.levels)), m.levels)
        kind = np.searchsorted(m.cuts, level, side="right")
        edges = np.arange(windows + 1) * m.window_s
        times = []
        for c, gaps in enumerate(m.unit_gaps):
            clock = np.concatenate([[0.0], np.cumsum(np.where(kind == c, level, 0.0))]) * per_window
            size = int(clock[-1] * 1.01) + 100
            u = rng.random(size) * (len(gaps.values) - 1)
            i = u.astype(np.int64)
            at = np.cumsum(gaps.values[i] + (u - i) * (gaps.values[i + 1] - gaps.values[i]))
            times.append(np.interp(at[at < clock[-1]], clock, edges))
        t = np.sort(np.concatenate(times))
        cell = np.searchsorted(copula, rng.random(len(t)))
        for grid, at in ((lengths.input.grid, cell // cells), (lengths.output.grid, cell % cells)):
            u = (at + rng.random(len(t))) / cells * (len(grid.values) - 1)
            i = u.astype(np.int64)
            np.rint(grid.values[i] + (u - i) * (grid.values[i + 1] - grid.values[i]))


def prefixes(rows: int) -> None:
    """The Mooncake profile: 23 block ids a request, drawn by a tree of prompts."""
    from lamina_traces import generator, workloads
    from lamina_traces.profile import Profile

    plan = generator.plan(Profile.library("mooncake-conversation"), rows=rows, seed=1)
    with tempfile.TemporaryDirectory() as folder:
        workloads.write_parquet(Path(folder) / "x.parquet", workloads.Job(plan))


def memory(rows: int) -> None:
    """As ``whole``, without hash and file: what ServeGen's 0.2 to 0.4 million a second are held against."""
    from lamina_traces import generator
    from lamina_traces.profile import Profile

    plan = generator.plan(Profile.library("azure-code"), rows=rows, seed=1)
    for _ in generator.frames(plan):
        pass


def whole(rows: int) -> None:
    from lamina_traces import generator, workloads
    from lamina_traces.profile import Profile

    plan = generator.plan(Profile.library("azure-code"), rows=rows, seed=1)
    with tempfile.TemporaryDirectory() as folder:
        workloads.write_parquet(Path(folder) / "x.parquet", workloads.Job(plan))


def measured(way: str, rows: int) -> tuple[float, float]:
    """CPU seconds and peak memory (MB) of one way in a process of its own."""
    out = subprocess.run(
        [sys.executable, "-m", "benchmarks.generate", "--run", way, str(rows)],
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    cpu, peak = json.loads(out)
    return float(cpu), float(peak)


WAYS = {"kernel": kernel, "generate": whole, "memory": memory, "prefixes": prefixes}


def main() -> None:
    if sys.argv[1:2] == ["--run"]:
        way, rows = WAYS[sys.argv[2]], int(sys.argv[3])
        way(1000)  # imports and the compile cache are not what is measured
        before = resource.getrusage(resource.RUSAGE_SELF)
        way(rows)
        used = resource.getrusage(resource.RUSAGE_SELF)
        cpu = used.ru_utime + used.ru_stime - before.ru_utime - before.ru_stime
        print(json.dumps([cpu, used.ru_maxrss / 1024]))
        return
    rows = int(sys.argv[1]) if len(sys.argv) > 1 else 10_000_000
    rounds = int(sys.argv[2]) if len(sys.argv) > 2 else 3
    best: dict[str, tuple[float, float]] = {}
    for _ in range(rounds):
        for way in WAYS:
            n = rows // 10 if way == "prefixes" else rows
            cpu, peak = measured(way, n)
            per_row = cpu / n * 1e9
            best[way] = min(best.get(way, (per_row, peak)), (per_row, peak))
    base = best["kernel"][0]
    for way, (per_row, peak) in best.items():
        print(
            f"{way:9} {per_row:6.0f} ns/row, {per_row / base:5.2f} × the kernel, {1e3 / per_row:5.2f} M rows per CPU s, peak {peak:.0f} MB"
        )


if __name__ == "__main__":
    main()

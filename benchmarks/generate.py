"""The generator against the bare numpy kernel of the same laws: CPU seconds and memory of whole processes.

- ``kernel``: gaps and a pair of lengths from the profile's own grids and copula, in chunks of a million, no file;
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
    import numpy as np

    from lamina_traces.aspects import arrivals, lengths
    from lamina_traces.profile import Profile

    profile = Profile.library("azure-code")
    rng = np.random.Generator(np.random.Philox(1))
    for start in range(0, rows, 1_000_000):
        n = min(1_000_000, rows - start)
        np.cumsum(arrivals.sample(profile.aspect("arrivals"), rng, n))
        lengths.sample(profile.aspect("lengths"), rng, n)


def whole(rows: int) -> None:
    from lamina_traces import generator, workloads
    from lamina_traces.profile import Profile

    plan = generator.plan(Profile.library("azure-code"), rows=rows, seed=1)
    with tempfile.TemporaryDirectory() as folder:
        workloads.write_parquet(Path(folder) / "x.parquet", plan)


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


def main() -> None:
    if sys.argv[1:2] == ["--run"]:
        {"kernel": kernel, "generate": whole}[sys.argv[2]](int(sys.argv[3]))
        used = resource.getrusage(resource.RUSAGE_SELF)
        print(json.dumps([used.ru_utime + used.ru_stime, used.ru_maxrss / 1024]))
        return
    rows = int(sys.argv[1]) if len(sys.argv) > 1 else 10_000_000
    rounds = int(sys.argv[2]) if len(sys.argv) > 2 else 3
    best: dict[str, tuple[float, float]] = {}
    for _ in range(rounds):
        for way in ("kernel", "generate"):
            cpu, peak = measured(way, rows)
            best[way] = min(best.get(way, (cpu, peak)), (cpu, peak))
    (k, _), (g, peak) = best["kernel"], best["generate"]
    print(
        f"{rows:,} rows: kernel {k:.2f} CPU s, generate {g:.2f} CPU s, ratio {g / k:.2f}, {rows / g / 1e6:.2f} M rows per CPU s, peak {peak:.0f} MB"
    )


if __name__ == "__main__":
    main()

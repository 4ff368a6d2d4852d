"""The serving clock's speed: requests per CPU second, one replica, metrics on.

One million requests shaped like Azure's code trace (input lognormal around 2,048 tokens, output around
28) arrive as a Poisson process at a rate that keeps one H100 busy but stable. Run by hand:

    OMP_NUM_THREADS=1 python benchmarks/kernel.py [requests] [rounds]
"""

from __future__ import annotations

import sys
import time

import numpy as np

from lamina_traces.costs import era, kv_memory, transformer
from lamina_traces.hardware import device, model
from lamina_traces.schema import Requests
from lamina_traces.simulator.simulation import Engine, Simulation, run, warm_up


def azure_like(n: int, rate_per_s: float, seed: int = 1) -> Requests:
    """Poisson arrivals; lognormal lengths, means 2,048 and 28 tokens."""
    rng = np.random.default_rng(seed)
    arrival = np.cumsum(rng.exponential(1e9 / rate_per_s, n)).astype(np.int64)

    def lengths(mean: float, sigma: float, cap: int) -> np.ndarray:
        x = rng.lognormal(np.log(mean) - sigma * sigma / 2, sigma, n)
        return np.clip(np.rint(x), 1, cap).astype(np.int64)

    return Requests.make(arrival, lengths(2048, 0.9, 7437), lengths(28, 0.9, 1899))


def engine() -> Engine:
    m, d = model("llama-3.1-8b"), device("h100-sxm")
    step = transformer(m, d, era("2025"))
    kv = kv_memory(m, d)
    return Engine(step.lower(2048), blocks=kv.blocks, watermark_blocks=kv.blocks // 100)


def main() -> None:
    n = int(sys.argv[1]) if len(sys.argv) > 1 else 1_000_000
    rounds = int(sys.argv[2]) if len(sys.argv) > 2 else 3
    started = time.process_time()
    warm_up()
    print(f"compile or load: {time.process_time() - started:.2f} CPU s")
    requests = azure_like(n, rate_per_s=15.0)
    one = engine()
    best = float("inf")
    for _ in range(rounds):
        started = time.process_time()
        sim = Simulation([one], window_s=10.0)
        done = run(sim, requests)
        windows = sim.windows()
        spent = time.process_time() - started
        best = min(best, spent)
        span = (done.last_token_ns.max() - done.arrival_ns.min()) / 1e9
        print(
            f"{spent:.3f} CPU s  {n / spent / 1e6:.2f} M requests/s  {windows.iterations.sum() / spent / 1e6:.2f} M iterations/s  "
            f"busy {windows.busy_s.sum() / span:.1%}  batch {windows.sequence_s.sum() / windows.busy_s.sum():.1f}  "
            f"preempted {int(done.preemptions.sum())}  memory for {sim.slots:,} requests"
        )
    print(f"best: {n / best / 1e6:.2f} M requests per CPU second")


if __name__ == "__main__":
    main()

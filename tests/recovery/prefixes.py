"""Prefix reuse: ratios, LRU curves and Zipf's exponent from references drawn from laws that are known."""

from __future__ import annotations

import math

import numpy as np

from lamina_traces.aspects.block_references import References
from lamina_traces.aspects.block_reuse import Reuse, measure
from lamina_traces.aspects.timeline import Timeline
from lamina_traces.intervals import Interval

from . import Recovered
from .replicates import Estimator, held_against

BLOCK = 16
WINDOWS = 100


def reuse(ids: np.ndarray) -> Reuse:
    """[requests, blocks] of one second each, as measured."""
    n, per = ids.shape
    refs = References()
    sizes = np.full(n, per, dtype=np.int64)
    arrival = np.arange(n, dtype=np.int64) * 10**9
    refs.add(ids.astype(np.uint64).ravel(), sizes, BLOCK * sizes, arrival)
    timeline = Timeline(n, n, 0, int(arrival[-1]), int(arrival[-1]) // WINDOWS + 1, WINDOWS)
    return measure(refs, BLOCK, timeline)


def wandering(rng: np.random.Generator, n: int = 8000) -> np.ndarray:
    """Prompts of eight blocks: a share of them, which wanders around a half as a two-state chain that stays for 200
    requests, begins with the same six; all else is new."""
    state = np.cumsum(rng.random(n) < 1 / 200) + int(rng.random() < 0.5)
    known = rng.random(n) < np.where(state % 2 == 0, 0.3, 0.7)
    ids = 10**6 + np.arange(n * 8).reshape(n, 8)
    ids[known, :6] = np.arange(6)
    return ids


def uniform(rng: np.random.Generator, n: int = 20_000, blocks: int = 400) -> np.ndarray:
    """Independent references of single blocks, all alike: LRU then hits capacity/blocks of them."""
    return rng.integers(0, blocks, (n, 1))


def zipf(rng: np.random.Generator, a: float = 0.8, n: int = 20_000, blocks: int = 1000) -> np.ndarray:  # fmt: skip
    share = np.arange(1, blocks + 1.0) ** -a
    return rng.choice(blocks, (n, 1), p=share / share.sum())


def _ratio(r: Reuse, name: str) -> tuple[float, Interval | None]:
    return r.ratios[name].value, r.ratios[name].interval


def _at(r: Reuse, capacity: int) -> tuple[float, Interval | None]:
    found = next(c.hit_ratio for c in r.lru if c.blocks == capacity)
    return found.value, found.interval


def recovery(replications: int) -> list[Recovered]:
    """One list of estimators on each law."""
    few = max(20, replications // 2)

    def drawn(law, seed: int) -> list[Reuse]:  # type: ignore[no-untyped-def]
        return [reuse(law(np.random.default_rng([seed, i]))) for i in range(few)]

    ratios = [
        Estimator[Reuse]("prefix_hit_ratio", 0.5 * 6 / 8, lambda r: _ratio(r, "prefix_hit_ratio")),
        Estimator[Reuse]("request_hit_ratio", 0.5, lambda r: _ratio(r, "request_hit_ratio")),
    ]
    caches = [
        Estimator[Reuse](f"LRU hit ratio at {c} blocks", c / 400, lambda r, c=c: _at(r, c))  # type: ignore[misc]
        for c in (64, 256)
    ]
    law = [
        Estimator[Reuse](
            "Zipf exponent", 0.8, lambda r: (r.popularity.zipf.params["a"] if r.popularity.zipf else math.nan, None)
        )
    ]  # fmt: skip
    return [
        *held_against("hits that come in runs, 8,000 requests", ratios, drawn(wandering, 51)),
        *held_against("400 blocks alike, 20,000 references", caches, drawn(uniform, 52)),
        *held_against("1,000 blocks, 20,000 references", law, drawn(zipf, 53)),
    ]

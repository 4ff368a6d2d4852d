"""BatchLLM (Zheng et al. 2024, arXiv 2412.03594): prefixes that a whole batch has in common, against an LRU cache of prefixes.

The paper's industrial workload is not public. Its saving by LRU, 35.8 of 58.1 % of the tokens, is a point on a curve over how
near to each other requests of one document stand: ours is a batch of documents with three questions each, and that curve.
"""

from __future__ import annotations

from dataclasses import replace
from functools import partial

import numpy as np

from .. import specs, techniques
from ..schema import Requests
from ..simulator import Result, simulate
from . import Claim

_PAPER = "BatchLLM (arXiv 2412.03594)"
UNIT = 100
"""tokens of a block with an id."""
DOCUMENT, QUESTION, ANSWER = 2000, 300, 60
"""tokens."""


def documents(n: int, questions: int, *, seed: int, window: int | None = None) -> Requests:
    """A batch of ``n`` documents with as many questions each, all there at once, in random order; ``window``: who stands
    within so many requests of its place in the order of documents."""
    rng = np.random.default_rng(seed)
    m = n * questions
    document = np.repeat(np.arange(n), questions)
    place = (
        rng.permutation(m)
        if window is None
        else np.argsort(np.arange(m) + rng.uniform(0, window, m))
    )
    document, question = document[place], np.arange(m)
    shared, own = DOCUMENT // UNIT, QUESTION // UNIT
    ids = np.empty((m, shared + own), np.uint64)
    ids[:, :shared] = (document[:, None] * shared + np.arange(shared)).astype(np.uint64)
    ids[:, shared:] = (2**40 + question[:, None] * own + np.arange(own)).astype(np.uint64)
    load = Requests.make(np.zeros(m), np.full(m, DOCUMENT + QUESTION), np.full(m, ANSWER))
    return replace(
        load, ids=ids.ravel(), ids_from=np.arange(m + 1) * (shared + own), id_tokens=UNIT
    )


def served(load: Requests, text: str | None, cache_gb: float) -> Result:
    """On an A100 with so much room for keys and values."""
    spec = specs.simple("llama-3.1-8b", "a100-80-sxm", reuse="prefix")
    pool = spec.pools[0]
    memory = specs.kv_of(spec)
    reserve = (memory.usable_bytes - memory.weight_bytes) / 1e9 - cache_gb
    kv = replace(pool.replica.kv, block_size=20, reserve_gb=reserve)
    spec = replace(spec, pools=(replace(pool, replica=replace(pool.replica, kv=kv)),))
    using = [] if text is None else [techniques.parse(text)]
    return simulate(techniques.apply_requests(using, load), techniques.apply_spec(using, spec))


def saving(run: Result) -> float:
    """Share of the prompts' tokens that needed no computing."""
    return float((run.metrics["cached_prompt_tokens"] or 0) / run.input_tokens.sum())


GLOBAL = "global-prefix-sharing"
CACHE_GB = 26.0
"""a hundred documents."""


def best_saving() -> float:
    return saving(served(documents(1000, 3, seed=1), GLOBAL, CACHE_GB))


def lru_saving(window: int | None) -> float:
    return saving(served(documents(1000, 3, seed=1, window=window), None, CACHE_GB))


def speed_up(window: int | None) -> float:
    """Of the whole batch."""
    load = documents(1000, 3, seed=1, window=window)
    lru, ours = (served(load, t, CACHE_GB).rows.last_token_ns.max() for t in (None, GLOBAL))
    return float(lru / ours)


WINDOW = 420
"""requests: questions of a document stand within so many of each other where LRU saves what the paper says."""


CLAIMS: tuple[Claim, ...] = (
    Claim(
        name="batchllm-best-saving", paper=_PAPER, technique=GLOBAL, says="sharing prefixes over the whole batch saves 58.1 % of the tokens",
        config="1,000 documents of 2,000 tokens with 3 questions of 300", reported=0.581, unit="share of prompt tokens",
        band=(0.57, 0.59), tier="C", measure=best_saving, neutral=0.0, clock=True, note="the best of this batch is 2·2,000 of 3·2,300: .580",
    ),
    Claim(
        name="batchllm-lru-saving", paper=_PAPER, technique=GLOBAL, says="an LRU cache saves 35.8 % of the tokens",
        config=f"the same batch, questions of a document within {WINDOW} requests, room for 100 documents", reported=0.358,
        unit="share of prompt tokens", band=(0.34, 0.375), tier="B", measure=partial(lru_saving, WINDOW), neutral=0.0,
        calibrated="the window, by this number", clock=True, note="in random order LRU saves 5 %, within 50 requests all of it",
    ),
    Claim(
        name="batchllm-speed-up", paper=_PAPER, technique=GLOBAL, says="1.1 to 2 times as fast as vLLM with its prefix cache",
        config="the batch whose LRU saving is the paper's", reported=1.53, unit="× requests per second", band=(1.1, 2.0), tier="B",
        measure=partial(speed_up, WINDOW), calibrated="the window, by the LRU saving", clock=True, note="1.53 is the bound by both savings alone",
    ),
)  # fmt: skip

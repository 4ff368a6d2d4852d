"""Global prefix sharing and token batching for batches that are known ahead (BatchLLM; Zheng et al. 2024, arXiv 2412.03594).

An LRU cache of prefixes forgets one that is asked for again too late. Where the whole batch is known, requests that begin alike
can follow each other, so that each prefix is computed once and needed only while its requests run; groups that
generate much for their prompts go first, so that their decoding fills the iterations of later prompts. And a batch is as large as
the cache allows, not as a number of requests says.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from ..schema import Requests
from ..specs import Pool, Serving
from ..units import Quantity
from . import Params, Technique

_PAPER = "BatchLLM (arXiv 2412.03594)"


def order(requests: Requests) -> np.ndarray:
    """[requests] positions in the order of groups (those that begin with the same unit): by generated over prompt
    tokens, the highest first; within a group by what follows, so that deeper prefixes stay together too."""
    n = len(requests)
    if requests.ids is None:
        return np.arange(n)
    first, last = (
        requests.ids_from[:-1] - requests.ids_from[0],
        requests.ids_from[1:] - requests.ids_from[0],
    )
    raw = requests.ids.astype(">u8").tobytes()
    alone = np.flatnonzero(last == first)
    group = np.empty(n, np.int64)
    some = np.flatnonzero(last > first)
    heads, group[some] = np.unique(requests.ids[first[some]], return_inverse=True)
    group[alone] = len(heads) + np.arange(len(alone))
    prompt, answer = (np.bincount(group, x, len(heads) + len(alone)) for x in (requests.input_tokens, requests.output_tokens))  # fmt: skip
    ratio = answer / prompt
    return np.array(
        sorted(range(n), key=lambda i: (-ratio[group[i]], group[i], raw[8 * first[i] : 8 * last[i]], requests.row_id[i])),
        np.int64,
    )  # fmt: skip


def _requests(requests: Requests, p: Params) -> Requests:
    if not p["grouping"]:
        return requests
    place = np.empty(len(requests), np.int64)
    place[order(requests)] = np.arange(len(requests))
    return replace(requests, priority=place)


def _spec(spec: Serving, p: Params) -> Serving:
    def batched(pool: Pool) -> Pool:
        batch = replace(pool.replica.batch, max_num_seqs=pool.replica.batch.max_num_batched_tokens)
        return replace(pool, replica=replace(pool.replica, batch=batch))

    if p["grouping"]:
        spec = replace(spec, reuse="prefix", rank="priority")
    if p["token_batching"]:
        spec = replace(spec, pools=tuple(map(batched, spec.pools)))
    return spec


TECHNIQUE = Technique(
    name="global-prefix-sharing",
    paper=_PAPER,
    what="requests that begin alike follow each other; batches as large as the cache",
    parameters={
        "grouping": Quantity(1, "0 or 1: requests that begin alike follow each other", _PAPER, "paper"),
        "token_batching": Quantity(1, "0 or 1: no limit of sequences but the tokens of an iteration", _PAPER, "paper"),
    },
    bounds={"grouping": (0.0, 1.0), "token_batching": (0.0, 1.0)},
    neutral={"grouping": 0.0, "token_batching": 0.0},
    limits="the order is of the whole workload, as if it were known ahead: for a batch whose requests are all there at once; deeper "
    "prefixes stay in the cache beside the first ones, where the paper keeps one level; its fused attention kernel is left out",
    requests=_requests,
    spec=_spec,
)  # fmt: skip

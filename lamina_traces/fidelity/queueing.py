"""A first-come-first-served queue with several servers: the one compiled loop of the fidelity package."""

from __future__ import annotations

import functools
from typing import Any

import numba
import numpy as np
import numpy.typing as npt

from ..compiled import compile_cached

Array = npt.NDArray[np.float64]

_COLUMN = numba.float64[::1]
_SIGNATURE = numba.void(_COLUMN, _COLUMN, _COLUMN, _COLUMN)


def _serve(arrival_s: Array, service_s: Array, free_s: Array, wait_s: Array) -> None:
    # Kiefer and Wolfowitz (1955): the workload vector, kept as the instant at which each server is free. Whoever
    # comes takes the server that is free first; the vector need not be sorted for that.
    for i in range(len(arrival_s)):
        first = 0
        for k in range(1, len(free_s)):
            if free_s[k] < free_s[first]:
                first = k
        start = max(arrival_s[i], free_s[first])
        wait_s[i] = start - arrival_s[i]
        free_s[first] = start + service_s[i]


@functools.cache
def _compiled() -> Any:
    return compile_cached(_serve, _SIGNATURE)


def waits_s(arrival_s: Array, service_s: Array, servers: int) -> Array:
    """Seconds that each request waits, exactly; ``arrival_s`` ascending. All servers are free at the start."""
    wait = np.empty(len(arrival_s))
    columns = (np.ascontiguousarray(x, dtype=np.float64) for x in (arrival_s, service_s))
    _compiled()(*columns, np.zeros(servers), wait)
    return wait

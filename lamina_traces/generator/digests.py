"""The compiled loop of row hashes: the words of lists."""

from __future__ import annotations

import numpy as np
from numba import types

from .jitted import mix

_U1 = types.Array(types.uint64, 1, "C")
_READ = types.Array(types.uint64, 1, "C", readonly=True)
OF_LISTS = types.void(_READ, types.Array(types.uint32, 1, "C", readonly=True), _U1)

GOLDEN = np.uint64(0x9E3779B97F4A7C15)
NULL = 2**32 - 1
"""members of a list that is null"""


def of_lists(members, sizes, out):  # type: ignore[no-untyped-def]
    """``out``: Σ of a list's members (words of all lists, one after the other), each mixed with its place, and of their number."""
    first = np.int64(0)
    for i in range(len(out)):
        total = np.uint64(sizes[i])
        held = np.int64(0 if sizes[i] == NULL else sizes[i])
        for k in range(held):
            total += mix(members[first + k] + np.uint64(k) * GOLDEN)
        out[i] = mix(total)
        first += held

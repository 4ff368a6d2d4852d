"""Standard normal numbers of windows of time whose parts stay for a while, short to long: of any window without its past."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from ..aspects.modulation import FACTOR
from .randomness import key, stream, uniforms

Array = npt.NDArray[np.float64]


class Levels:
    """z of windows of ``window_ns``: the sum of independent parts, ``parts[k]`` of its variance staying for FACTOR**k windows in the mean.
    ``purpose`` is what they are for, ``shifted`` what decides where windows begin (None: the purpose). Windows are counted
    from ``first_ns`` before the trace's start."""

    def __init__(
        self, parts: Sequence[float], window_ns: float, seed: int, *purpose: int | str, shifted: tuple[int | str, ...] | None = None
    ) -> None:  # fmt: skip
        self.parts = parts
        self.keys = [key(seed, *purpose, k) for k in range(len(parts))]
        # without a shift the parts would all change at the trace's start
        shift = stream(seed, *(shifted or purpose)).random(len(parts) + 1)
        lengths = [FACTOR**k for k in range(len(parts))]
        self.first_ns = float(shift[-1]) * window_ns
        self.shifts = [int(s * n) for s, n in zip(shift, lengths, strict=False)]

    def z(self, first: int, last: int) -> Array:
        """Of the windows from ``first`` to before ``last``."""
        z = np.zeros(last - first)
        for k, share in enumerate(self.parts):
            if share <= 0:
                continue
            z += self._part(k, first + self.shifts[k], last - first) * math.sqrt(share)
        return z

    def _part(self, k: int, first: int, n: int) -> Array:
        """On ``n`` windows: a part changes at one of each FACTOR**k windows, at each with the same chance."""
        from scipy.special import ndtri

        length = FACTOR**k
        stretches = np.arange(first // length, (first + n - 1) // length + 1)
        begins = stretches * length
        if length > 1:
            begins += (uniforms(self.keys[k], stretches, 1) * length).astype(np.int64)
        z = ndtri(uniforms(self.keys[k], np.append(stretches[0] - 1, stretches)))
        ends = np.clip(np.append(begins, first + n) - first, 0, n)
        return np.asarray(np.repeat(z, np.diff(ends, prepend=0)))

"""Standard normal numbers of windows of time, constant in parts on windows of every length: of any window without its past."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from ..aspects.modulation import FACTOR
from .randomness import key, stream, uniforms

Array = npt.NDArray[np.float64]


class Levels:
    """z of windows of ``window_ns``: the sum of independent parts, ``parts[k]`` of its variance constant on FACTOR**k windows.
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
        from scipy.special import ndtri

        z = np.zeros(last - first)
        for k, share in enumerate(self.parts):
            if share <= 0:
                continue
            length = FACTOR**k
            a, b = (first + self.shifts[k]) // length, (last - 1 + self.shifts[k]) // length + 1
            parts = ndtri(uniforms(self.keys[k], np.arange(a, b))) * math.sqrt(share)
            cut = first + self.shifts[k] - a * length
            z += np.repeat(parts, length)[cut : cut + len(z)] if length > 1 else parts
        return z

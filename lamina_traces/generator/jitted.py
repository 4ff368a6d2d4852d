"""What the compiled loops of the generator share: the random numbers of ``randomness``, and quantiles."""

from __future__ import annotations

import numpy as np

from ..compiled import hot

_SHIFT_A = np.uint64(30)
_SHIFT_B = np.uint64(27)
_SHIFT_C = np.uint64(31)
_SHIFT_D = np.uint64(11)
_SHIFT_E = np.uint64(12)
FACTOR_A = np.uint64(0xBF58476D1CE4E5B9)
FACTOR_B = np.uint64(0x94D049BB133111EB)


@hot
def mix(x):  # type: ignore[no-untyped-def]
    """The finaliser of SplitMix64, as ``randomness.mix``."""
    x = (x ^ (x >> _SHIFT_A)) * FACTOR_A
    x = (x ^ (x >> _SHIFT_B)) * FACTOR_B
    return x ^ (x >> _SHIFT_C)


@hot
def fraction(word):  # type: ignore[no-untyped-def]
    """The upper 53 bits of a word as a number in [0, 1)."""
    return float(word >> _SHIFT_D) * 2.0**-53


@hot
def unit(salt, thing):  # type: ignore[no-untyped-def]
    """A number in (0, 1), as ``randomness.uniforms``."""
    return (float(mix(mix(thing) ^ salt) >> _SHIFT_E) + 0.5) * 2.0**-52


@hot
def quantile(table, u):  # type: ignore[no-untyped-def]
    """Of equally spaced quantiles, as ``Grid.quantile``, for u in (0, 1)."""
    h = u * (len(table) - 1)
    i = int(h)
    return table[i] + (h - i) * (table[i + 1] - table[i])

"""Random numbers that depend on what they are for, not on when they are drawn.

``stream`` gives a counter-based generator (Philox) for every purpose and block. ``uniforms`` gives numbers for single
things (the third turn of a session) that any block can draw again: a hash of the thing's number.
"""

from __future__ import annotations

import hashlib
from typing import Any

import numpy as np
import numpy.typing as npt

GENERATOR_VERSION = 4
"""bumped whenever the same profile and seed give other rows."""

RUN = 1 << 14
"""words that are mixed at a time: they stay in the cache, which takes a third of the time."""

Array = npt.NDArray[np.float64]
Words = npt.NDArray[np.uint64]


def key(seed: int, *purpose: int | str) -> int:
    """128 bits that depend on the generator's version, the seed and the purpose."""
    text = "/".join(["lamina", str(GENERATOR_VERSION), str(seed), *map(str, purpose)])
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:16], "little")


def stream(seed: int, *purpose: int | str) -> np.random.Generator:
    """A generator of its own for every (seed, purpose), such as (7, "requests", stream 0, "lengths", block 12)."""
    return np.random.Generator(np.random.Philox(key=key(seed, *purpose)))


def uniforms(of: int, things: npt.NDArray[Any], field: int = 0) -> Array:
    """One number in (0, 1) for each of the ``things`` (whole numbers); ``of`` is a ``key``, ``field`` tells apart
    what several numbers of one thing are for."""
    things, salt = np.asarray(things), salts(of, field + 1)[field]
    out = np.empty(things.shape)
    flat, numbers = out.reshape(-1), things.reshape(-1)
    for start in range(0, things.size, RUN):
        words = mix(mix(numbers[start : start + RUN].astype(np.uint64)) ^ salt) >> np.uint64(12)
        # one bit more could round to 1
        flat[start : start + RUN] = (words.astype(np.float64) + 0.5) * 2.0**-52
    return out


def mix(x: Words) -> Words:
    """The finaliser of SplitMix64 (Steele, Lea, Flood 2014)."""
    out = x >> np.uint64(30)
    with np.errstate(over="ignore"):
        out ^= x
        out *= np.uint64(0xBF58476D1CE4E5B9)
        out ^= out >> np.uint64(27)
        out *= np.uint64(0x94D049BB133111EB)
        out ^= out >> np.uint64(31)
    return out


def salts(of: int, fields: int) -> Words:
    """[fields] words by which ``uniforms`` tells fields apart, for loops that draw the same numbers themselves."""
    words = [(of + f * 0x9E3779B97F4A7C15) % 2**64 for f in range(fields)]
    return mix(np.array(words, dtype=np.uint64))

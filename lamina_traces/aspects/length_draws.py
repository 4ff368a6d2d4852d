"""Drawing lengths: pairs of ranks as the copula has them, and what stands at a rank."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt

from .length_laws import OTHERS, Lengths

Array = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

GENERATED = tuple(k for k in OTHERS if k != "cached_input_tokens")
"""what a workload brings; what an engine finds in its cache is the engine's."""


class Sampler:
    """Draws pairs of lengths: a copula cell by Walker's alias method, a point in it, and both grids inverted."""

    def __init__(self, lengths: Lengths) -> None:
        self.lengths = lengths
        self.cells = len(lengths.copula)
        self.alias = Alias(lengths.copula.ravel())
        cell = np.arange(self.cells**2)
        self.corner = cell // self.cells / self.cells, cell % self.cells / self.cells
        self.kinds = [k for k in GENERATED if k in lengths.others]

    def pairs(self, rng: np.random.Generator, size: int) -> tuple[Ints, Ints]:
        """``size`` pairs (input, output), in tokens."""
        u, v = self.ranks(rng, size)
        return self.tokens(u, v)

    def ranks(self, rng: np.random.Generator, size: int) -> tuple[Array, Array]:
        """``size`` pairs of ranks in [0, 1), dependent as the copula says."""
        drawn = rng.random((3, size))
        cell = self.alias.drawn(drawn[0])
        for side in (0, 1):
            drawn[side + 1] *= 1 / self.cells
            drawn[side + 1] += self.corner[side][cell]
        return drawn[1], drawn[2]

    def others(
        self, rng: np.random.Generator, inputs: Ints, outputs: Ints
    ) -> dict[str, npt.NDArray[Any]]:
        """Further counts. Reasoning tokens are no more than the output; images, audio and video are cut to what the input
        holds, a medium's number and its tokens stand at one rank; text is the rest. Each depends on the length that it is part
        of as was measured, where it was; else reasoning has the rank of the output, and media are drawn alone."""
        out: dict[str, npt.NDArray[Any]] = {}
        rest = inputs.copy()
        rank: dict[str, Array] = {}
        for name in self.kinds:
            medium = name.partition("_")[0]
            if name == "text_tokens":
                continue
            if medium not in rank:
                rank[medium] = self._beside(name, outputs if medium == "reasoning" else inputs, rng)
            at = rank[medium]
            x = np.rint(self.lengths.others[name].grid.curve.quantile(at)).astype(np.int64)
            if name == "reasoning_tokens":
                x = np.minimum(x, outputs)
            elif name.endswith("_tokens"):
                x = np.minimum(x, rest)
                rest -= x
            out[name] = x
        for medium in ("image", "audio", "video"):
            tokens, count = f"{medium}_tokens", f"{medium}_count"
            if tokens in out and count in out:  # without an image there are no tokens of one
                rest += np.where(out[count] == 0, out[tokens], 0)
                out[tokens] = np.where(out[count] == 0, 0, out[tokens])
        if "text_tokens" in self.kinds:
            out["text_tokens"] = rest
        return out

    def _beside(self, name: str, whole: Ints, rng: np.random.Generator) -> Array:
        """Ranks of a count beside the lengths that it is part of: those of the lengths in a share of the rows (their
        opposites, where the correlation is below 0), else independent. The share is what gives the correlation, ties of
        the count reckoned with."""
        rho = self.lengths.of_whole.get(name, float(name == "reasoning_tokens"))
        own = self.lengths.others[name]
        alike = min(abs(rho) / math.sqrt(max(1 - own.zero_share**3, 1e-9)), 1.0)
        side = self.lengths.output if name == "reasoning_tokens" else self.lengths.input
        at = side.grid.rank(whole + rng.random(len(whole)) - 0.5)
        alone = rng.random((2, len(whole)))
        return np.where(alone[0] < alike, at if rho > 0 else 1 - at, alone[1])

    def tokens(self, u: Array, v: Array) -> tuple[Ints, Ints]:
        """Whole lengths at the ranks of input and output, which are used up."""
        x, y = self.lengths.input.grid.drawn(u), self.lengths.output.grid.drawn(v)
        return np.rint(x, out=x).astype(np.int64), np.rint(y, out=y).astype(np.int64)


class Alias:
    """Draws places with chances as their ``weights`` by Walker's alias method (Vose 1991): column i stands for itself below
    ``keep[i]``, else for ``other[i]``."""

    def __init__(self, weights: Array) -> None:
        keep = np.asarray(weights, dtype=np.float64) * (len(weights) / weights.sum())
        other = np.arange(len(weights))
        small = [i for i, k in enumerate(keep) if k < 1]
        large = [i for i, k in enumerate(keep) if k >= 1]
        while small and large:
            s, big = small.pop(), large.pop()
            other[s] = big
            keep[big] -= 1 - keep[s]
            (small if keep[big] < 1 else large).append(big)
        keep[[*small, *large]] = 1.0  # what rounding left over
        self.keep, self.other = keep, other

    def drawn(self, u: Array) -> Ints:
        """Places at numbers in [0, 1), which are used up."""
        u *= len(self.keep)
        at = u.astype(np.int64)
        u -= at
        return np.where(u < self.keep[at], at, self.other[at])

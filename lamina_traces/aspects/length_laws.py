"""What is said of lengths: margins, dependence and mix, their findings and dictionaries (see ``lengths``, which fits them)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from ..counts import significant
from ..distributions import (
    NO_ATOMS,
    Atoms,
    Fitted,
    Grid,
)
from ..errors import ModelError
from ..intervals import Interval, read_intervals
from ..units import format_number
from . import Finding
from .mix import Mix

if TYPE_CHECKING:
    pass

NAME = "lengths"
VERSION = 2
SIDES = ("input", "output")
OTHERS = (
    "reasoning_tokens", "cached_input_tokens", "text_tokens", "image_tokens", "audio_tokens", "video_tokens",
    "image_count", "audio_count", "video_count",
)  # fmt: skip
"""what is described beside them where it is recorded."""

Array = npt.NDArray[np.float64]


def whole_of(name: str) -> str:
    """The length that a further count is part of."""
    return "output_tokens" if name == "reasoning_tokens" else "input_tokens"


@dataclass(frozen=True)
class Tail:
    """Generalised Pareto law of what lies beyond ``threshold`` (a ``share`` of the rows), in tokens above it."""

    threshold: float
    share: float
    fit: Fitted

    def to_dict(self) -> dict[str, Any]:
        return {"threshold": self.threshold, "share": self.share, "fit": self.fit.to_dict()}

    @classmethod
    def from_dict(cls, d: Mapping[str, Any] | None) -> Tail | None:
        return (
            None
            if d is None
            else cls(float(d["threshold"]), float(d["share"]), Fitted.from_dict(d["fit"]))
        )


@dataclass(frozen=True)
class Margin:
    """One side: quantile grid, quantiles with intervals, families best first (atoms and cap included), tail.

    ``cut_share``: rows that ended by their limit; the families take them as right-censored, the grid as they are.
    ``intervals``: of ``mean`` and of the quantiles by name.
    """

    grid: Grid
    minimum: float
    quantiles: dict[str, float]
    families: tuple[Fitted, ...]
    atoms: Atoms = NO_ATOMS
    intervals: Mapping[str, Interval] = field(default_factory=dict)
    zero_share: float = 0.0
    cut_share: float = 0.0
    tail: Tail | None = None

    def to_dict(self) -> dict[str, Any]:
        return {
            "grid": self.grid.to_dict(),
            "minimum": self.minimum,
            "quantiles": self.quantiles,
            "intervals": {k: i.to_dict() for k, i in self.intervals.items()},
            "zero_share": self.zero_share,
            "cut_share": self.cut_share,
            "atoms": self.atoms.to_dict(),
            "families": [f.to_dict() for f in self.families],
            "tail": self.tail.to_dict() if self.tail else None,
        }

    def brief(self) -> Margin:
        """With fewer knots and the two best laws."""
        return replace(self, grid=self.grid.thinned(65), families=self.families[:2], tail=None)

    @classmethod
    def from_dict(cls, m: Mapping[str, Any]) -> Margin:
        atoms = m["atoms"]
        if isinstance(atoms, list):  # version 1: a list of tokens and shares, heaviest first
            pairs = sorted((float(a["tokens"]), float(a["share"])) for a in atoms)
            atoms = {"values": [v for v, _ in pairs], "shares": [s for _, s in pairs]}
        return cls(
            Grid.from_dict(m["grid"]),
            float(m["minimum"]),
            {str(k): float(v) for k, v in m["quantiles"].items()},
            tuple(Fitted.from_dict(f) for f in m["families"]),
            Atoms.from_dict(atoms),
            read_intervals(m.get("intervals", {})),
            float(m.get("zero_share", 0.0)),
            float(m.get("cut_share", 0.0)),
            Tail.from_dict(m.get("tail")),
        )


@dataclass(frozen=True)
class Lengths:
    """``copula[i, j]``: share of requests whose input rank falls in the i-th of equal rank cells and whose
    output rank falls in the j-th; rows and columns each sum to about 1/cells; of few rows drawn towards a Gaussian copula
    (``dependence.shrunk``). ``others``: margins of further counts, with their share of the whole they are part of; ``of_whole``: Spearman's correlation with it, by name. ``mix``: lengths by
    time and by load.
    """

    input: Margin
    output: Margin
    pairs: int
    spearman: float
    pearson: float
    copula: Array
    kendall: float | None = None
    spearman_interval: Interval | None = None
    others: Mapping[str, Margin] = field(default_factory=dict)
    of_whole: Mapping[str, float] = field(default_factory=dict)
    mix: Mix | None = None
    evidence: str = "rows"

    def to_dict(self) -> dict[str, Any]:
        return {
            "version": VERSION,
            "evidence": self.evidence,
            "input": self.input.to_dict(),
            "output": self.output.to_dict(),
            "others": {k: m.to_dict() for k, m in self.others.items()},
            **({"of_whole": dict(self.of_whole)} if self.of_whole else {}),
            "pairs": self.pairs,
            "spearman": self.spearman,
            "spearman_interval": self.spearman_interval.to_dict()
            if self.spearman_interval
            else None,
            "kendall": self.kendall,
            "pearson": self.pearson,
            "copula": self.copula.tolist(),
            "mix": self.mix.to_dict() if self.mix else None,
        }

    def brief(self) -> Lengths:
        """What one stream among many keeps."""
        cells = len(self.copula)
        few = min(cells, 8)
        pooled = self.copula.reshape(few, cells // few, few, cells // few).sum(axis=(1, 3))
        return replace(
            self,
            input=self.input.brief(),
            output=self.output.brief(),
            others={k: m.brief() for k, m in self.others.items()},
            copula=significant(pooled, 4),
            mix=None,
        )

    def laws(self) -> list[tuple[str, tuple[Fitted, ...]]]:
        """What is fitted, with its unit, and the laws, best first."""
        out = []
        for side in SIDES:
            m: Margin = getattr(self, side)
            out.append((f"{side}, tokens", m.families))
            if m.tail:
                out.append((f"{side} above {m.tail.threshold:,.0f}", (m.tail.fit,)))
        return out

    def findings(self) -> list[Finding]:
        out = [self._margin(side, getattr(self, side)) for side in SIDES]
        out += [
            self._margin(name.removesuffix("_tokens").replace("_", " "), m)
            for name, m in self.others.items()
        ]
        if len(self.copula) == 1 and self.evidence != "rows":
            text = "How input and output lengths depend on each other is not recorded: they are taken as independent."
            return [*out, Finding(NAME, text)]
        if any(g.values[0] == g.values[-1] for g in (self.input.grid, self.output.grid)):
            return [
                *out,
                Finding(
                    NAME,
                    "Input or output lengths do not vary, so they cannot depend on each other.",
                ),
            ]
        size = abs(self.spearman)
        word = (
            "hardly depend"
            if size < 0.1
            else "depend weakly"
            if size < 0.3
            else "depend"
            if size < 0.6
            else "depend strongly"
        )
        i = self.spearman_interval
        kendall = "" if self.kendall is None else f", Kendall τ {self.kendall:+.3f}"
        out.append(
            Finding(
                NAME,
                f"Input and output lengths {word} on each other.",
                f"{len(self.copula)}×{len(self.copula)} rank copula"
                if len(self.copula) > 1
                else "too few rows for a copula",
                f"Spearman ρ {self.spearman:+.3f}"
                + (f" [{i.low:+.3f}, {i.high:+.3f}]" if i else "")
                + kendall,
            )
        )
        if self.mix:
            out += [Finding(NAME, *said) for said in self.mix.said()]
        return out

    def _margin(self, name: str, m: Margin) -> Finding:
        q = m.quantiles
        unit = "" if name.endswith("count") else " tokens"
        text = f"{name.capitalize()} lengths: mean {format_number(m.grid.mean)}{unit}, median {format_number(q.get('p50'))}, p99 {format_number(q.get('p99'))}"
        if m.atoms.cap is not None and m.atoms.cap_share:
            text += f"; {m.atoms.cap_share:.1%} are cut at {m.atoms.cap:,.0f}"
        if m.atoms:
            spikes = sorted(zip(m.atoms.shares, m.atoms.values, strict=True), reverse=True)
            if spikes:
                share, value = spikes[0]
                more = (
                    f", {sum(m.atoms.shares) - share:.1%} one of {len(spikes) - 1} other values"
                    if len(spikes) > 1
                    else ""
                )
                text += f"; {share:.1%} have exactly {value:,.0f}{more}"
        if m.cut_share:
            text += f"; {m.cut_share:.1%} ended at their own limit and would have been longer"
        best = m.families[0] if m.families else None
        mean = m.intervals.get("mean")
        p99 = m.intervals.get("p99")
        ends = [f"mean {mean}" if mean else "", f"p99 {p99}" if p99 else ""]
        said = ", ".join([best.parameters() if best else "", *(e for e in ends if e)]).strip(", ")
        effect = best.effect() if best else ""
        if mean and mean.n_eff:
            effect += (
                f"; {format_number(mean.n_eff)} independent requests' worth of evidence on the mean"
            )
        return Finding(NAME, text + ".", best.family if best else "", said, effect)


def from_dict(d: Mapping[str, Any]) -> Lengths:
    """Inverse of ``Lengths.to_dict``, and of version 1."""
    copula = np.array(d["copula"], dtype=np.float64)
    out = Lengths(
        Margin.from_dict(d["input"]),
        Margin.from_dict(d["output"]),
        int(d["pairs"]),
        float(d["spearman"]),
        float(d["pearson"]),
        copula,
        None if d.get("kendall") is None else float(d["kendall"]),
        Interval.from_dict(d.get("spearman_interval")),
        {str(k): Margin.from_dict(m) for k, m in d.get("others", {}).items()},
        {str(k): float(r) for k, r in d.get("of_whole", {}).items()},
        Mix.from_dict(d.get("mix")),
        str(d.get("evidence", "rows")),
    )
    if not all(abs(r) <= 1 for r in (out.spearman, out.pearson, *out.of_whole.values())):
        raise ModelError(
            "lengths of the profile: a correlation is beyond 1", "fit the profile again"
        )
    square = copula.ndim == 2 and copula.shape[0] == copula.shape[1] >= 1
    if not square or not np.isfinite(copula).all() or (copula < 0).any() or copula.sum() <= 0:
        raise ModelError(
            "lengths of the profile: the copula must be a square of shares", "fit the profile again"
        )
    grids = (out.input.grid.values, out.output.grid.values)
    if max(g[-1] for g in grids) > 2**62:
        raise ModelError(
            "lengths of the profile: a length is beyond all numbers", "fit the profile again"
        )
    if min(g[0] for g in grids) < 0:
        raise ModelError("lengths of the profile: a length is negative", "fit the profile again")
    return out

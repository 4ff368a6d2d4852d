"""Streams: who the requests come from. How concentrated they are, the heavy ones, and a law of the many small.

A stream is one value of a column: a model, tenant, user, client, function. The heavy ones have aspects of their
own in a profile; the others are described together, and by the law of their parameters (rate, mean lengths),
from which a generator can draw as many streams as it is asked for.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import polars as pl
from scipy import special

from .counts import Counts
from .distributions import FAMILIES, K_ANONYMITY, Grid
from .errors import ModelError
from .units import format_number, short

if TYPE_CHECKING:
    from .store import Trace

MOST_HEAVY = 12
"""streams with aspects of their own in one profile."""
FEWEST_ROWS = 100
"""a smaller stream has none."""


@dataclass(frozen=True)
class Concentration:
    """How the rows of a table are spread over the ``streams`` of one ``column``.

    ``gini``: 0 for equal shares, towards 1 for one stream that has all. ``top``: share of the rows of the largest
    1, 10 and of the largest hundredth; ``for_half``, ``for_90``: how many streams it takes. ``zipf_a``: exponent of
    size against rank, ``recorded``: share of the rows that name a stream.
    """

    column: str
    streams: int
    recorded: float
    gini: float
    top_1: float
    top_10: float
    top_percent: float
    for_half: int
    for_90: int
    zipf_a: float | None

    def to_dict(self) -> dict[str, Any]:
        return dict(self.__dict__)

    @classmethod
    def from_dict(cls, d: Mapping[str, Any]) -> Concentration:
        out = cls(
            str(d["column"]), int(d["streams"]), float(d["recorded"]), float(d["gini"]), float(d["top_1"]),
            float(d["top_10"]), float(d["top_percent"]), int(d["for_half"]), int(d["for_90"]),
            None if d["zipf_a"] is None else float(d["zipf_a"]),
        )  # fmt: skip
        shares = (out.recorded, out.gini, out.top_1, out.top_10, out.top_percent)
        if out.streams < 0 or not all(0 <= s <= 1 for s in shares):
            raise ModelError(
                f"concentration by {out.column} in the profile is no set of shares",
                "fit the profile again",
            )
        return out

    def text(self) -> str:
        """One sentence."""
        what = self.column.removesuffix("_id").replace("_", " ")
        if self.streams == 1:
            return f"All requests name one {what}."
        half = "one has" if self.for_half == 1 else f"{self.for_half:,} have"
        most = "one has" if self.for_90 == 1 else f"{self.for_90:,} have"
        halves = (
            f"{half} half of the requests, {most} 90 %"
            if self.for_half != self.for_90
            else f"{most} 90 % of the requests"
        )
        return f"Of {self.streams:,} {what}s {halves}; the largest has {self.top_1:.1%}."

    def parameters(self) -> str:
        tail = f", Zipf a {format_number(self.zipf_a)}" if self.zipf_a is not None else ""
        return (
            f"Gini {self.gini:.3f}, top 10 {self.top_10:.1%}, top 1 % {self.top_percent:.1%}{tail}"
        )


def concentration(column: str, size: Any, streams: Any, rows: int) -> Concentration:
    """From a table of stream sizes and how many streams have each, of a table of ``rows`` rows."""
    order = np.argsort(-np.asarray(size, dtype=np.float64), kind="stable")
    n = np.asarray(size, dtype=np.float64)[order]
    k = np.asarray(streams, dtype=np.float64)[order]
    recorded = float(n @ k)
    if (
        k.sum() <= 2 * K_ANONYMITY and n[0] >= K_ANONYMITY
    ):  # among few streams a small one could be told
        n, k = n[n >= K_ANONYMITY], k[n >= K_ANONYMITY]
    total, count = float(n @ k), float(k.sum())
    upto_k, upto_n = np.cumsum(k), np.cumsum(n * k)

    def top(m: float) -> float:
        """Share of the rows of the largest m streams."""
        i = min(int(np.searchsorted(upto_k, m)), len(n) - 1)
        before = upto_k[i] - k[i]
        return float((upto_n[i] - n[i] * k[i] + n[i] * (min(m, count) - before)) / total)

    def needed(share: float) -> int:
        """How many of the largest streams hold this share."""
        i = int(np.searchsorted(upto_n, share * total - 1e-9))
        rest = share * total - (upto_n[i] - n[i] * k[i])
        return int(upto_k[i] - k[i] + np.ceil(rest / n[i] - 1e-9))

    # Gini = 1 + 1/S − 2·Σ (rank from the largest)·size/(S·total), ranks shared within a size
    middle = upto_k - k / 2 + 0.5
    gini = 1 + 1 / count - 2 * float((middle * n * k).sum()) / (count * total)
    zipf = None
    if count >= 20 and len(n) > 1:
        # requests as draws of a rank: ranks of equal sizes at their middle
        zipf = short(
            FAMILIES["zipf"].fit(
                Counts.exact(np.append(middle, count), np.append(n * k, 0.0) + 1e-12)
            )["a"],
            4,
        )
    return Concentration(
        column, int(count), _tens(recorded / rows, rows), short(max(gini, 0.0), 5), _tens(top(1), total),
        _tens(top(10), total), _tens(top(max(1.0, count / 100)), total), needed(0.5), needed(0.9), zipf,
    )  # fmt: skip


def _tens(share: float, rows: float) -> float:
    """A share to whole tens of rows."""
    return short(min(round(share * rows / K_ANONYMITY) * K_ANONYMITY / rows, 1.0), 4)


def concentrations(trace: Trace) -> tuple[Concentration, ...]:
    """Of every column that names streams of ``llm_requests`` and is recorded."""
    if trace.main_table != "llm_requests":
        return ()
    t = pl.DataFrame(trace.query("streams/sizes"))
    rows = trace.rows()
    return tuple(
        concentration(str(field[0]), part["size"].to_numpy(), part["streams"].to_numpy(), rows)
        for field, part in t.group_by("field", maintain_order=True)
    )


@dataclass(frozen=True)
class Tail:
    """The law of the small streams: how many there are, seen in the trace or not, what ``share`` of the rows they have, and
    grids of their parameters: ``rows`` (to be expected in such a trace, multiples of their mean), ``input_tokens`` and
    ``output_tokens`` (means). ``rank_correlation``: of size and mean input, and of mean input and mean output.
    """

    streams: int
    share: float
    rows: Grid
    means: Mapping[str, Grid]
    rank_correlations: Mapping[str, float]

    def to_dict(self) -> dict[str, Any]:
        return {
            "streams": self.streams,
            "share": self.share,
            "rows": self.rows.to_dict(),
            "means": {k: g.to_dict() for k, g in self.means.items()},
            "rank_correlations": dict(self.rank_correlations),
        }

    @classmethod
    def from_dict(cls, d: Mapping[str, Any] | None) -> Tail | None:
        if d is None:
            return None
        out = cls(
            int(d["streams"]), float(d["share"]), Grid.from_dict(d["rows"]),
            {str(k): Grid.from_dict(g) for k, g in d["means"].items()},
            {str(k): float(v) for k, v in d["rank_correlations"].items()},
        )  # fmt: skip
        if not 0 <= out.share <= 1 or out.streams < 1:
            raise ModelError(
                "the tail of small streams in the profile is no share of it",
                "fit the profile again",
            )
        return out


def tail_law(sizes: pl.DataFrame, total: int) -> Tail | None:
    """From one row a small stream (``rows``, mean ``input_tokens`` and ``output_tokens`` where recorded); None with
    fewer than twenty."""
    if sizes.height < 2 * K_ANONYMITY:
        return None
    own = sizes["rows"].cast(pl.Float64).to_numpy()
    expected = expected_sizes(own)
    means = {}
    for name in ("input_tokens", "output_tokens"):
        known = sizes[name].drop_nulls()
        if len(known) >= 2 * K_ANONYMITY:
            means[name] = Grid.of(Counts.of(known.to_numpy().round(2)), knots=65)
    found = {}
    for a, b in (
        ("rows", "input_tokens"),
        ("rows", "output_tokens"),
        ("input_tokens", "output_tokens"),
    ):
        both = sizes.select(a, b).drop_nulls()
        if both.height >= 2 * K_ANONYMITY:
            r = both.select(pl.corr(a, b, method="spearman")).item()
            if r is not None and np.isfinite(r):
                found[f"{a}~{b}"] = short(r, 4)
    return Tail(
        len(expected),
        short(own.sum() / total, 6),
        Grid.of(Counts.of((expected / expected.mean()).round(6)), knots=65),
        means,
        found,
    )


_CERTAIN = 64
"""rows of a stream that is in every trace like this one; its size tells what to expect."""
_LEAST = 1.0
"""rows to be expected of the rarest stream: rarer ones can hardly be told from fewer of these, and means of so few rows
would be taken for chance."""


def expected_sizes(rows: npt.NDArray[np.float64], rounds: int = 200) -> npt.NDArray[np.float64]:
    """[streams] rows to be expected of each stream, of those with ``rows`` ≥ 1 and of those that a trace like this one
    might have shown instead, so that as many are seen again. Taken as expectations themselves, the sizes seen would
    lose every third stream of one row.

    Numbers of streams by their rows are a Poisson mixture without its zeros; the mixing law is found by expectation and
    maximization on a grid (Simar 1976, Maximum likelihood estimation of a compound Poisson process; for what is unseen
    Norris & Pollock 1998, Non-parametric MLE for Poisson species abundance models)."""
    few = rows[rows <= _CERTAIN].astype(np.int64)
    if not len(few):
        return rows
    seen = np.arange(1, _CERTAIN + 1)
    streams = np.bincount(few, minlength=_CERTAIN + 1)[1:]
    mean = np.geomspace(_LEAST, 2 * _CERTAIN, 64)
    log = seen[:, None] * np.log(mean) - mean - special.gammaln(seen + 1.0)[:, None]
    chance = np.exp(log)
    law = np.full(len(mean), len(few) / len(mean))
    for _ in range(rounds):
        ratio = streams / np.maximum(chance @ law, 1e-300)
        law *= (ratio @ chance) / chance.sum(axis=0)
    law *= special.pdtr(_CERTAIN, mean)  # larger ones are counted by their own size
    number = max(round(float(law.sum())), len(few))
    upto = np.cumsum(law) / law.sum()
    at = np.searchsorted(upto, (np.arange(number) + 0.5) / number)
    return np.concatenate([mean[np.minimum(at, len(mean) - 1)], rows[rows > _CERTAIN]])

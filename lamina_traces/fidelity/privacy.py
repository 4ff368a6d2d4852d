"""Whether a workload copies the rows of another. Nothing here is a guarantee: no differential privacy is claimed.

Short lengths collide by chance, so a share of rows that occur in the source says nothing alone. It stands beside the
share that shuffled columns have, and beside what the source's own second half has in common with its first: real
requests that were certainly not copied.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import polars as pl
from scipy.spatial import cKDTree

from ..aspects import Line
from ..aspects.rows import Rows

Array = npt.NDArray[np.float64]

NAME = "privacy"
SHUFFLES = 5
MOST_KEPT, MOST_ASKED = 100_000, 20_000
"""rows that a nearest one is looked for among, and rows that it is looked for of."""
FEWEST = 100
CLAIM = "no differential privacy is claimed"


def privacy_lines(a: Rows, b: Rows) -> list[Line]:
    """Shares of rows of b that a has exactly (lengths, and the gap before it in a's ticks), and the distance of b's rows
    from the first half of a over that of a's second half. Informative."""
    first, second = a.halves() if a.timed else (a, a)
    metrics = (
        "exact rows", "exact rows by chance", "exact rows, first half", "exact rows, held-out", "nearest-record ratio",
    )  # fmt: skip
    if min(map(len, (first, second, b))) < FEWEST or not a.timed or not b.timed:
        note = f"fewer than {FEWEST} rows with an arrival in b or in a half of a"
        return [Line(NAME, metric, None, None, note=note) for metric in metrics]
    known, asked = _records(a, a.tick_ns), _records(b, a.tick_ns)
    half = _records(first, a.tick_ns)
    shares = (
        (_share(asked, known), "of b's rows that a has"),
        (_by_chance(asked, known), "the same after b's columns are shuffled"),
        (_share(asked, half), "of b's rows that the first half of a has"),
        (_share(_records(second, a.tick_ns), half), "of a's second half that its first half has"),
    )
    lines = [
        Line(NAME, metric, value, None, "share", note)
        for metric, (value, note) in zip(metrics, shares, strict=False)
    ]
    return [*lines, _nearest(first, second, b)]


def _records(rows: Rows, tick_ns: int) -> pl.DataFrame:
    """Lengths and the gap before it, of every row with an arrival but the first."""
    at = slice(1, rows.timed)
    return pl.DataFrame(
        {
            "gap": np.diff(rows.arrival_ns) // tick_ns,
            "input": rows.input_tokens[at],
            "output": rows.output_tokens[at],
        },
        nan_to_null=True,
    )


def _share(asked: pl.DataFrame, known: pl.DataFrame) -> float:
    found = asked.join(known, on=asked.columns, how="semi", nulls_equal=True)
    return found.height / asked.height


def _by_chance(asked: pl.DataFrame, known: pl.DataFrame) -> float:
    """What independent draws from the margins would have in common with a."""
    shuffled = [
        asked.select(pl.col(c).shuffle(seed=SHUFFLES * i + k) for i, c in enumerate(asked.columns))
        for k in range(SHUFFLES)
    ]
    return float(np.mean([_share(s, known) for s in shuffled]))


def _nearest(first: Rows, second: Rows, b: Rows) -> Line:
    kept, held, asked = (_points(r) for r in (first, second, b))
    scale = kept.std(axis=0)
    scale[scale == 0] = 1.0
    tree = cKDTree(_thinned(kept, MOST_KEPT) / scale)
    apart = [
        float(np.median(tree.query(_thinned(x, MOST_ASKED) / scale)[0])) for x in (asked, held)
    ]
    note = "median distance of b from a's first half over that of a's second half; far below 1 is copying"
    value = apart[0] / apart[1] if apart[1] > 0 else None
    if value is None:
        note = "half of a's second half has an equal in its first half"
    return Line(NAME, "nearest-record ratio", value, None, "ratio", f"{note}; {CLAIM}")


def _points(rows: Rows) -> Array:
    """[rows − 1, 3] logarithms of gap (+ 0.1 ms), input and output (+ 1); what is not recorded counts as 0."""
    at = slice(1, rows.timed)
    lengths = [np.log10(np.nan_to_num(x[at]) + 1) for x in (rows.input_tokens, rows.output_tokens)]
    return np.stack([np.log10(rows.gap_s + 1e-4), *lengths], axis=1)


def _thinned(x: Array, most: int) -> Array:
    return x[:: max(1, -(-len(x) // most))]

"""Figures that inform and never judge: whether a classifier tells two workloads apart, and whether compression does."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from .. import similarity
from ..aspects import Line
from ..aspects.rows import Rows, mid_ranks
from ..errors import ModelError
from ..units import NS_PER_S

if TYPE_CHECKING:
    from ..store import Trace

Array = npt.NDArray[np.float64]

MOST_ROWS = 20_000
FEWEST = 200
FOLDS = 5
BLOCKS = 20
"""contiguous blocks of time; every FOLDS-th is left out together."""
INSTALL = "pip install 'lamina-traces[fidelity]'"


def classifier_line(a: Rows, b: Rows) -> Line:
    """Area under the ROC curve of gradient-boosted trees that tell rows of b from rows of a (Lopez-Paz & Oquab 2017),
    by gap, the two gaps before it, lengths, the lengths before them, and hour; each row judged by trees that have not
    seen its block of time. 0.5 is not told apart."""
    name, metric = "classifier", "two-sample AUC"
    if min(a.timed, b.timed) < FEWEST:
        note = f"fewer than {FEWEST} rows with an arrival"
        return Line(name, metric, None, None, "AUC", note)
    try:
        from sklearn.ensemble import HistGradientBoostingClassifier
    except ImportError:
        return Line(name, metric, None, None, "AUC", f"needs scikit-learn: {INSTALL}")
    x = np.concatenate([_features(a), _features(b)])
    folds = np.concatenate([_folds(a), _folds(b)])
    label = np.repeat([0, 1], [len(_folds(a)), len(_folds(b))])
    score = np.full(len(x), np.nan)
    for fold in range(FOLDS):
        out = folds == fold
        if len(np.unique(label[~out])) == 2 and out.any():
            trees = HistGradientBoostingClassifier(
                max_iter=50, max_leaf_nodes=15, early_stopping=False, random_state=0
            )
            score[out] = trees.fit(x[~out], label[~out]).predict_proba(x[out])[:, 1]
    known = ~np.isnan(score)
    return Line(name, metric, auc(score[known], label[known]), None, "AUC", "0.5 is not told apart")


def auc(score: Array, label: npt.NDArray[np.int64]) -> float | None:
    """Chance that a row of label 1 scores above one of label 0, ties half; None where one label is missing."""
    ones = int(label.sum())
    zeros = len(label) - ones
    if not ones or not zeros:
        return None
    ranks = mid_ranks(score) * len(score) + 0.5  # mid-ranks from 1
    return (float(ranks[label == 1].sum()) - ones * (ones + 1) / 2) / (ones * zeros)


def _kept(rows: Rows) -> npt.NDArray[np.int64]:
    """Places of the rows that are looked at: those with two gaps before them, thinned evenly."""
    return np.arange(3, rows.timed, max(1, -(-rows.timed // MOST_ROWS)))


def _features(rows: Rows) -> Array:
    """[rows, 8]; what is not recorded is −1, below every logarithm of lengths + 1."""
    at = _kept(rows)
    gap = np.log10(rows.gap_s + 1e-4)  # gap[i] lies before row i + 1
    x, y = (
        np.nan_to_num(np.log10(v + 1), nan=-1.0) for v in (rows.input_tokens, rows.output_tokens)
    )
    hour = rows.arrival_ns[at] // (3600 * NS_PER_S) % 24
    columns = (gap[at - 1], gap[at - 2], gap[at - 3], x[at], y[at], x[at - 1], y[at - 1], hour)
    return np.stack(columns, axis=1)


def _folds(rows: Rows) -> npt.NDArray[np.int64]:
    block = rows.arrival_ns[_kept(rows)] * BLOCKS // (rows.span_ns + 1)
    return np.asarray(block % FOLDS)


def compression_line(a: Trace, b: Trace) -> Line:
    """Compression distance of b from a, beside that of a's halves from each other."""
    name, metric = "compression", "distance"
    needed = ("arrival_ns", "input_tokens", "output_tokens")
    missing = [c for c in needed if not (a.has(c) and b.has(c))]
    # of what is selected: the manifest tells the times of the whole trace
    extent = {} if missing else a.query("arrivals/extent").to_pylist()[0]
    if not extent.get("with_arrival"):
        note = f"not recorded in both: {', '.join(missing)}" if missing else "no arrivals"
        return Line(name, metric, None, None, "NCD", note)
    middle = (int(extent["first_ns"]) + int(extent["last_ns"])) // 2
    try:
        value = similarity.compression_distance(a, b)
        halves = similarity.compression_distance(a.select(end_ns=middle), a.select(start_ns=middle))
    except ModelError as e:
        return Line(name, metric, None, None, "NCD", e.message)
    return Line(name, metric, value, None, "NCD", f"the halves of a: {halves:.3f}")

"""Generators that people use today, to be measured against: from rows of a first trace, rows of a new one.

Three draw new arrivals and lengths: a Poisson process, vLLM's gamma process, and gamma gaps window by window in the
manner of ServeGen. Two copy: they draw recorded rows again, alone or in blocks. What copies rows cannot be given
away, so it is shown as a bound and never as a rival.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import replace

import numpy as np
import numpy.typing as npt

from ..aspects.rows import Rows
from ..units import NS_PER_S

Array = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
Baseline = Callable[[Rows, int, np.random.Generator], Rows]

MOST_BLOCK_S = 7200.0
"""blocks of an hour of trace are 300 s; of a longer one they grow, until the widest scored window fits into them twice."""
WINDOW_S = 600.0


def poisson(rows: Rows, span_ns: int, rng: np.random.Generator) -> Rows:
    """A homogeneous Poisson process of the mean rate; input and output lengths drawn from their rows independently."""
    n = int(rng.poisson(_rate(rows) * span_ns))
    return _with_lengths(rows, np.sort(rng.random(n) * span_ns), span_ns, rng)


def vllm_gamma(rows: Rows, span_ns: int, rng: np.random.Generator) -> Rows:
    """Gamma gaps of the CV of the recorded ones (vLLM's ``--burstiness`` is 1/CV²), as in vLLM's ``get_request``: the
    cumulative gaps are rescaled to end at exactly n/rate. Lengths as in ``poisson``."""
    n = round(_rate(rows) * span_ns)
    gaps = rng.gamma(_shape(rows.gap_s), size=n)
    t = np.cumsum(gaps)
    t *= span_ns / t[-1] if n else 1.0
    return _with_lengths(rows, t, span_ns, rng)


def piecewise_gamma(rows: Rows, span_ns: int, rng: np.random.Generator) -> Rows:
    """Gamma gaps by window (600 s, or a sixth of a shorter span), rates and shapes (maximum likelihood) those of the
    windows in their order, over again where the new trace is longer. As in ServeGen's ``construct.py``, ⌈rate × window⌉ gaps are rescaled to
    fill the window, so counts hardly vary, and the last gap ends at its edge. One client; lengths as in ``poisson``,
    where ServeGen draws all lengths of a request from one number.
    """
    width = min(WINDOW_S * NS_PER_S, rows.span_ns / 6)
    windows = round(rows.span_ns / width)
    edges = np.searchsorted(rows.arrival_ns, np.arange(windows + 1) * width)
    whole = _likely_shape(rows.gap_s)
    parts = []
    for k in range(math.ceil(span_ns / width)):
        i = k % windows
        n = int(edges[i + 1] - edges[i])  # rate × window is a whole number already
        gap_s = np.diff(rows.arrival_ns[edges[i] : edges[i + 1]]) / NS_PER_S
        gaps = rng.gamma(_likely_shape(gap_s) if len(gap_s) > 2 else whole, size=n)
        t = np.cumsum(gaps) * (width / max(float(gaps.sum()), 1e-300))
        parts.append(k * width + t[t < width])
    t = np.concatenate(parts)
    return _with_lengths(rows, t[t < span_ns], span_ns, rng)


def row_bootstrap(rows: Rows, span_ns: int, rng: np.random.Generator) -> Rows:
    """Recorded rows drawn one by one, each with the gap before it."""
    gap_ns = np.diff(rows.arrival_ns)
    mean = float(gap_ns.mean())
    if mean == 0:  # one instant holds them all, and so it does again
        at = rng.integers(0, len(rows), round(_rate(rows) * span_ns))
        return rows.take(at, np.zeros(len(at), dtype=np.int64), span_ns)
    places: list[Ints] = []
    reached = 0
    while reached < span_ns:
        at = rng.integers(0, len(gap_ns), int((span_ns - reached) / mean * 1.1) + 16)
        places.append(at)
        reached += int(gap_ns[at].sum())
    at = np.concatenate(places)
    t = np.cumsum(gap_ns[at])
    kept = t < span_ns
    return rows.take(at[kept] + 1, t[kept], span_ns)


def block_bootstrap(rows: Rows, span_ns: int, rng: np.random.Generator) -> Rows:
    """Recorded rows drawn in blocks of a twelfth of the span, two hours at most, that begin anywhere, as in Künsch (1989)."""
    block, step = _block_ns(rows)
    starts = max(1, (rows.span_ns - block) // step + 1)
    places, times = [], []
    for k in range(math.ceil(span_ns / block)):
        first = int(rng.integers(0, starts)) * step
        last = first + min(block, span_ns - k * block)
        i, j = np.searchsorted(rows.arrival_ns, [first, last])
        places.append(np.arange(i, j))
        times.append(rows.arrival_ns[i:j] - first + k * block)
    return rows.take(np.concatenate(places), np.concatenate(times), span_ns)


def _block_ns(rows: Rows) -> tuple[int, int]:
    """Length of a block, and the step of the instants at which one may begin: whole minutes or seconds where there is
    room, so that what a log does every second or every minute keeps its phase."""
    block = max(1, min(round(MOST_BLOCK_S * NS_PER_S), rows.span_ns // 12))
    step = next((s for s in (60 * NS_PER_S, NS_PER_S) if block >= 2 * s), 1)
    return block // step * step, step


MAKING: Mapping[str, Baseline] = {
    "Poisson": poisson,
    "gamma by CV": vllm_gamma,
    "piecewise gamma": piecewise_gamma,
}
"""baselines that draw new rows."""
COPYING: Mapping[str, Baseline] = {
    "row bootstrap": row_bootstrap,
    "block bootstrap": block_bootstrap,
}
"""baselines that draw recorded rows again."""


def _rate(rows: Rows) -> float:
    """Arrivals a nanosecond."""
    return rows.timed / rows.span_ns


def _shape(gap_s: Array) -> float:
    """Of a gamma law with the CV of the gaps: 1/CV², kept where numbers can be drawn."""
    mean = float(gap_s.mean())
    cv2 = float(gap_s.var()) / mean**2 if mean > 0 else 1.0
    return float(np.clip(1 / cv2 if cv2 > 0 else 1e6, 1e-3, 1e6))


def _likely_shape(gap_s: Array) -> float:
    """Of a gamma law, by maximum likelihood (Minka 2002, his starting value: within 1.5 %). Gaps of 0 count as half of
    the shortest other one."""
    positive = gap_s[gap_s > 0]
    if not len(positive):
        return 1.0
    x = np.maximum(gap_s, float(positive.min()) / 2)
    s = math.log(float(x.mean())) - float(np.log(x).mean())
    if s < 1e-9:
        return 1e6
    shape = (3 - s + math.sqrt((s - 3) ** 2 + 24 * s)) / (12 * s)
    return float(np.clip(shape, 1e-3, 1e6))


def _with_lengths(rows: Rows, t: Array, span_ns: int, rng: np.random.Generator) -> Rows:
    n = len(t)
    made = rows.take(rng.integers(0, len(rows), n), np.floor(t).astype(np.int64), span_ns)
    return replace(made, output_tokens=rows.output_tokens[rng.integers(0, len(rows), n)])

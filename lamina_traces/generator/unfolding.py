"""The compiled loop of workflows: from an arrival to all the calls of a task.

Steps of all templates stand one after the other (``begins``: where each template's do), every step after those that it
waits for. A call's numbers are hashes of (workflow, call), so a workflow can be unfolded again anywhere.
"""

from __future__ import annotations

import numpy as np
from numba import types

from ..compiled import called
from .jitted import quantile, unit

# Columns of a call.
ARRIVAL = 0  # nominal, ns
WORKFLOW = 1
INDEX = 2  # in its workflow, from 1
STEP = 3
DELAY = 4  # ns after the end of the last call that it waits for; −1: it waits for none
INPUT = 5
OUTPUT = 6
END = 7  # nominal, ns
COLUMNS = 8

# Tables of a step's quantiles.
REPEAT, PAUSE, LASTS, PROMPT, ANSWER = range(5)
TABLES = 5

# Whole numbers of a step.
IN_SEQUENCE = 0  # 1: its calls follow one another; 0: they run side by side
HOLDS = 1  # 1: the prompt holds prompt and answer of the last call that it waits for
FEATURES = 2

OF_STEP, OF_REPEAT, OF_PAUSE, OF_LASTS, OF_PROMPT, OF_ANSWER, OF_ALIKE = range(7)
SALTS = 7
MOST_STEPS = 64
"""of a template: one bit of a mask each."""
CALL_BITS = 24

_I1 = types.Array(types.int64, 1, "C")
_I2 = types.Array(types.int64, 2, "C")
_U1 = types.Array(types.uint64, 1, "C")
_F1 = types.Array(types.float64, 1, "C")
_F3 = types.Array(types.float64, 3, "C")
_TEMPLATES = (_I1, _F1, _I2, _I1, _I1, _F3, _U1)
COUNT = types.void(types.int64, _I1, *_TEMPLATES, _U1, _I1, _I1)
UNFOLD = types.void(
    types.int64, _I1, _I1, _F1, *_TEMPLATES, _U1, _I1, types.float64, types.float64, _I1, _I1, _I2, _I1, _I1
)  # fmt: skip

_CALL_BITS = np.uint64(CALL_BITS)
_STEP_BIT = np.uint64(1 << (CALL_BITS - 1))
_ONE = np.uint64(1)
_ZERO = np.uint64(0)


@called
def _plan(number, first, last, chance, after_from, after, tables, salts, waits, calls):  # type: ignore[no-untyped-def]
    """How many ``calls`` each of the steps makes (0: it is left out), and the steps that it ``waits`` for, as bits. Who waits
    for a step that is left out waits for those before it."""
    for s in range(first, last):
        thing = (np.uint64(number) << _CALL_BITS) | _STEP_BIT | np.uint64(s - first)
        waits[s - first] = _ZERO
        for k in range(after_from[s], after_from[s + 1]):
            t = after[k]
            waits[s - first] |= (_ONE << np.uint64(t)) if calls[t] > 0 else waits[t]
        calls[s - first] = 0
        if unit(salts[OF_STEP], thing) < chance[s]:
            drawn = quantile(tables[s, REPEAT], unit(salts[OF_REPEAT], thing))
            calls[s - first] = max(int(np.rint(drawn)), 1)


def count(fresh, template, begins, chance, features, after_from, after, tables, salts, waits, calls, sizes):  # type: ignore[no-untyped-def]  # fmt: skip
    """``sizes``: [2·n] calls of each workflow, then edges."""
    n = len(template)
    for w in range(n):
        first, last = begins[template[w]], begins[template[w] + 1]
        _plan(fresh + w, first, last, chance, after_from, after, tables, salts, waits, calls)
        made, edges = 0, 0
        for s in range(last - first):
            parents = 0
            for t in range(s):
                if (waits[s] >> np.uint64(t)) & _ONE:
                    parents += 1 if features[first + t, IN_SEQUENCE] else calls[t]
            made += calls[s]
            if calls[s] > 0:
                edges += parents + calls[s] - 1 if features[first + s, IN_SEQUENCE] else parents * calls[s]  # fmt: skip
        sizes[w], sizes[n + w] = made, edges


def unfold(fresh, arrival, template, alike, begins, chance, features, after_from, after, tables, salts, waits, calls, ttft_ns, tpot_ns, drawn_input, drawn_output, out, parents_from, parents):  # type: ignore[no-untyped-def]  # fmt: skip
    """All calls of the workflows that arrive, as rows of ``out``; ``parents`` of the i-th stand from ``parents_from[i]`` on.

    A call arrives nominally when the last that it waits for has ended, and its delay has passed. A call lasts as its
    step says, else ``ttft_ns`` + ``tpot_ns`` a token. Lengths that a step does not state are ``drawn_…``. In a share |``alike``| of
    a step's calls prompt and answer stand at one rank (at opposite ones where it is below 0), so it is their rank correlation.
    """
    at, edge = 0, 0
    for w in range(len(arrival)):
        number = fresh + w
        first, last = begins[template[w]], begins[template[w] + 1]
        _plan(number, first, last, chance, after_from, after, tables, salts, waits, calls)
        origin = at
        for s in range(last - first):
            step = first + s
            for k in range(calls[s]):
                thing = (np.uint64(number) << _CALL_BITS) | np.uint64(at - origin)
                parents_from[at] = edge
                if k > 0 and features[step, IN_SEQUENCE]:
                    parents[edge] = at - 1
                    edge += 1
                else:
                    begun = origin
                    for t in range(s):
                        if (waits[s] >> np.uint64(t)) & _ONE:
                            skip = calls[t] - 1 if features[first + t, IN_SEQUENCE] else 0
                            for c in range(begun + skip, begun + calls[t]):
                                parents[edge] = c
                                edge += 1
                        begun += calls[t]
                ended, latest = arrival[w], -1
                for e in range(parents_from[at], edge):
                    end = out[parents[e], END]
                    if latest < 0 or end > ended:
                        ended, latest = end, parents[e]
                delay = -1
                if latest >= 0:
                    delay = int(quantile(tables[step, PAUSE], unit(salts[OF_PAUSE], thing)))
                    ended += delay
                prompt, answer = drawn_input[at], drawn_output[at]
                if tables[step, PROMPT, 0] >= 0:
                    prompt = int(np.rint(quantile(tables[step, PROMPT], unit(salts[OF_PROMPT], thing))))  # fmt: skip
                if tables[step, ANSWER, 0] >= 0:
                    u = unit(salts[OF_ANSWER], thing)
                    if unit(salts[OF_ALIKE], thing) < abs(alike[step]):
                        u = unit(salts[OF_PROMPT], thing)
                        u = u if alike[step] > 0 else 1 - u
                    answer = int(np.rint(quantile(tables[step, ANSWER], u)))
                if features[step, HOLDS] and latest >= 0:
                    prompt += out[latest, INPUT] + out[latest, OUTPUT]
                lasts = ttft_ns + tpot_ns * answer
                if tables[step, LASTS, 0] >= 0:
                    lasts = quantile(tables[step, LASTS], unit(salts[OF_LASTS], thing))
                out[at, ARRIVAL], out[at, WORKFLOW], out[at, INDEX] = ended, number, at - origin + 1
                out[at, STEP], out[at, DELAY] = step, delay
                out[at, INPUT], out[at, OUTPUT] = prompt, answer
                out[at, END] = ended + int(lasts)
                at += 1
    parents_from[at] = edge

"""The compiled loops of sessions: which turn an arrival is, and how contexts grow from turn to turn.

Nothing is allocated here (see ``compiled``). Whoever calls the loops (``sessions``) lays out the arrays:

- ``due``, ``slot``: a heap of the open sessions by the instant at which their next turn is due; ``numbers[SIZE]`` of them;
- ``table``: [slots, 6] what an open session hands on (columns ``SESSION`` … ``OUTPUT``); ``free``: a stack of unused slots;
- ``numbers``, ``reals``: what is counted and what is estimated on the way, which the loops change.

Random numbers are hashes of (session, turn), the same as ``randomness.uniforms`` gives; ``salts`` say what they are for.
"""

from __future__ import annotations

import numpy as np
from numba import types

from ..compiled import called, hot
from .jitted import quantile, unit

# Columns of an open session.
SESSION = 0
TURN = 1  # of its last turn, from 1
LEFT = 2  # turns to come
ROW = 3  # of its last turn, counted over the stream; -1: before the trace
INPUT = 4
OUTPUT = 5
COLUMNS = 6

# numbers
SIZE = 0  # open sessions
FRESH = 1  # the next session's number
ROWS = 2  # rows of the stream so far
UNUSED = 3  # slots in ``free``
LATER = 4  # turns that came after others so far
DONE = 5  # starts that have been taken, where sessions lead
NUMBERS = 6

# reals
AHEAD = 0  # ns before it is due that a turn may come
LATE = 1  # sum of lateness, ns
MOST_AHEAD = 2
SHARE = 3  # of the rows that belong to sessions
REALS = 4

# What a hash is for: places in ``salts``.
OF_TURNS, OF_GAP, OF_MEMBER, OF_NEW, OF_KIND, OF_PART, OF_RANK, OF_CELL = range(8)
SALTS = 8

# Kinds of context.
CUMULATIVE, WITHOUT_ANSWERS, DELTA = range(3)

GAIN = 1 / 64
"""weight of one turn's lateness in how far ahead the next may come."""
TURN_BITS = 24
"""a session's turns are numbered in so many bits."""

_I1 = types.Array(types.int64, 1, "C")
_I2 = types.Array(types.int64, 2, "C")
_U1 = types.Array(types.uint64, 1, "C")
_F1 = types.Array(types.float64, 1, "C")
_F2 = types.Array(types.float64, 2, "C")

_LAWS = (_F1, _F1, _F1, _U1)
_OPEN = (_I1, _I1, _I2, _I1, _I1)
_FOUND = (_I1, _I1, _I1, _I1, _I1)
FOLLOW = types.void(_I1, *_LAWS, *_OPEN, _F1, *_FOUND)
LEAD = types.int64(_I1, types.int64, *_LAWS, *_OPEN, _I1, *_FOUND)
GROW = types.void(
    _I1, _I1, _I1, types.int64, types.int64, _F1, _F1, _F1, _F1, _F1, _F2, _U1, _I2, _I1, _I1, _I1
)

_TURN_BITS = np.uint64(TURN_BITS)


@hot
def _thing(session, turn):  # type: ignore[no-untyped-def]
    """What a turn's hashes are of."""
    return (np.uint64(session) << _TURN_BITS) | np.uint64(turn)


@called
def _first_above(values, x):  # type: ignore[no-untyped-def]
    """Index of the first of the rising ``values`` that is greater than ``x``; their number where none is."""
    low, high = 0, len(values)
    while low < high:
        middle = (low + high) >> 1
        if values[middle] > x:
            high = middle
        else:
            low = middle + 1
    return low


@called
def _rank(grid, x, u):  # type: ignore[no-untyped-def]
    """Inverse of ``quantile``; where many ranks have the value ``x``, the part ``u`` of them."""
    m = len(grid) - 1
    high = _first_above(grid, x)
    if high > 0 and grid[high - 1] > x - 1e-9:  # knots of exactly this value
        low = _first_above(grid, x - 1e-9)
        return min(max((low + u * (high - 1 - low)) / m, 0.0), 1.0)
    if high == 0:
        return 0.0
    if high > m:
        return 1.0
    return (high - 1 + (x - grid[high - 1]) / (grid[high] - grid[high - 1])) / m


@called
def _push(due, slot, size, instant, of):  # type: ignore[no-untyped-def]
    i = size
    while i > 0:
        above = (i - 1) >> 1
        if due[above] <= instant:
            break
        due[i], slot[i] = due[above], slot[above]
        i = above
    due[i], slot[i] = instant, of


@called
def _pop(due, slot, size):  # type: ignore[no-untyped-def]
    """Take the first of ``size`` entries away."""
    last = size - 1
    instant, of = due[last], slot[last]
    i = 0
    while True:
        below = 2 * i + 1
        if below >= last:
            break
        if below + 1 < last and due[below + 1] < due[below]:
            below += 1
        if due[below] >= instant:
            break
        due[i], slot[i] = due[below], slot[below]
        i = below
    due[i], slot[i] = instant, of


@called
def _begin(turns, salts, table, free, numbers):  # type: ignore[no-untyped-def]
    """A new session in a free slot."""
    numbers[UNUSED] -= 1
    s = free[numbers[UNUSED]]
    number = numbers[FRESH]
    numbers[FRESH] += 1
    u = unit(salts[OF_TURNS], np.uint64(number))
    table[s, SESSION] = number
    table[s, TURN] = 0
    table[s, LEFT] = _first_above(turns, u) + 1
    table[s, ROW] = -1
    return s


@called
def _take(t, s, i, gaps, delays, salts, due, slot, table, free, numbers, session, turn, delay, parent, at):  # type: ignore[no-untyped-def]  # fmt: skip
    """Row ``i`` at ``t`` is the next turn of the session in slot ``s``, which no longer stands in the heap."""
    number, before = table[s, SESSION], table[s, TURN]
    session[i], turn[i], at[i] = number, before + 1, s
    parent[i] = table[s, ROW]
    delay[i] = -1
    if before > 0:
        numbers[LATER] += 1
        if len(delays) and table[s, ROW] >= 0:
            delay[i] = int(quantile(delays, unit(salts[OF_GAP], _thing(number, before))))
    table[s, TURN] = before + 1
    table[s, LEFT] -= 1
    table[s, ROW] = numbers[ROWS]
    if table[s, LEFT] > 0:
        gap = int(quantile(gaps, unit(salts[OF_GAP], _thing(number, before + 1))))
        _push(due, slot, numbers[SIZE], t + gap, s)
        numbers[SIZE] += 1
    else:
        free[numbers[UNUSED]] = s
        numbers[UNUSED] += 1


def follow(arrival, turns, gaps, delays, salts, due, slot, table, free, numbers, reals, session, turn, delay, parent, at):  # type: ignore[no-untyped-def]  # fmt: skip
    """Requests lead: every arrival goes on with the session that is most due, or begins a new one.

    A turn may come up to ``reals[AHEAD]`` before it is due; what turns are late moves that, so that they are late as
    often as early.
    """
    for i in range(len(arrival)):
        t = arrival[i]
        member = True
        if reals[SHARE] < 1.0:
            member = unit(salts[OF_MEMBER], np.uint64(numbers[ROWS])) < reals[SHARE]
        if not member:
            session[i], turn[i], delay[i], parent[i], at[i] = -1, 0, -1, -1, -1
        elif numbers[SIZE] > 0 and due[0] <= t + int(reals[AHEAD]):
            late = float(t - due[0])
            s = slot[0]
            _pop(due, slot, numbers[SIZE])
            numbers[SIZE] -= 1
            reals[LATE] += late
            reals[AHEAD] = min(max(reals[AHEAD] + GAIN * late, 0.0), reals[MOST_AHEAD])
            _take(t, s, i, gaps, delays, salts, due, slot, table, free, numbers, session, turn, delay, parent, at)  # fmt: skip
        else:
            s = _begin(turns, salts, table, free, numbers)
            _take(t, s, i, gaps, delays, salts, due, slot, table, free, numbers, session, turn, delay, parent, at)  # fmt: skip
        numbers[ROWS] += 1


def lead(start, end_ns, turns, gaps, delays, salts, due, slot, table, free, numbers, arrival, session, turn, delay, parent, at):  # type: ignore[no-untyped-def]  # fmt: skip
    """Sessions lead: ``start`` are first turns, and every later one comes exactly when it is due, before ``end_ns``.
    Returns the rows made; fewer than there are where the columns are full (``numbers[DONE]`` starts were taken)."""
    i = 0
    while i < len(arrival):
        begun = numbers[DONE]
        next_start = start[begun] if begun < len(start) else end_ns
        next_due = due[0] if numbers[SIZE] > 0 else end_ns
        if min(next_start, next_due) >= end_ns:
            break
        if next_due <= next_start:
            t = next_due
            s = slot[0]
            _pop(due, slot, numbers[SIZE])
            numbers[SIZE] -= 1
        else:
            t = next_start
            numbers[DONE] += 1
            s = _begin(turns, salts, table, free, numbers)
        arrival[i] = t
        _take(t, s, i, gaps, delays, salts, due, slot, table, free, numbers, session, turn, delay, parent, at)  # fmt: skip
        numbers[ROWS] += 1
        i += 1
    return i


def grow(session, turn, at, kind, cut, shares, added, firsts, inputs, outputs, copula, salts, table, input_tokens, output_tokens, shared):  # type: ignore[no-untyped-def]  # fmt: skip
    """Lengths of later turns, from those of first turns (which stand in ``input_tokens``, ``output_tokens``).

    ``shares``: of later prompts that hold prompt and answer before them, and that hold the prompt (rising), then the
    longest prompt. ``cut``: a prompt beyond it loses its oldest part, else the context begins anew. ``copula``: for each
    cell of the input's rank the cumulated shares of the output's. ``shared``: leading tokens that stood in the
    session's prompt before.
    """
    whole, growing, longest = shares[0], shares[1], shares[2]
    cells = len(copula)
    for i in range(len(turn)):
        s = at[i]
        if s < 0:
            continue
        if turn[i] > 1:
            thing = _thing(session[i], turn[i])
            before, answer = float(table[s, INPUT]), float(table[s, OUTPUT])
            new = quantile(added, unit(salts[OF_NEW], thing))
            v = unit(salts[OF_KIND], thing) if growing < 1.0 or whole < 1.0 else 0.0
            held = before
            if kind == DELTA:
                x, held = new, 0.0
            elif kind == CUMULATIVE and v < whole:
                x = before + answer + new
            elif kind == CUMULATIVE and v < growing:
                x = before + unit(salts[OF_PART], thing) * answer
            elif v < growing:
                x = before + new
            else:
                anew = quantile(firsts, unit(salts[OF_PART], thing))
                x, held = min(anew, max(before - 1.0, 1.0)), 0.0
            if x > longest:
                x = longest if cut else quantile(firsts, unit(salts[OF_PART], thing))
                held = 0.0
            x = np.rint(x)
            u = _rank(inputs, x, unit(salts[OF_RANK], thing))
            row = copula[min(int(u * cells), cells - 1)]
            w = unit(salts[OF_CELL], thing)
            cell = min(_first_above(row, w), cells - 1)
            low = row[cell - 1] if cell > 0 else 0.0
            inside = (w - low) / (row[cell] - low) if row[cell] > low else 0.5
            y = quantile(outputs, min(max((cell + inside) / cells, 0.0), 1.0 - 1e-12))
            input_tokens[i], output_tokens[i], shared[i] = int(x), int(np.rint(y)), int(held)
        table[s, INPUT], table[s, OUTPUT] = input_tokens[i], output_tokens[i]

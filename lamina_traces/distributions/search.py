"""Minimum of a function of one or of a few numbers, without derivatives.

scipy.optimize has both; importing it costs more than all fits of a trace together, and its simplex half of its time
in the calls around the function. Checked against it in the tests.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float64]

_GOLDEN = (math.sqrt(5) - 1) / 2


def golden(f: Callable[[float], float], low: float, high: float, tolerance: float = 1e-10) -> float:
    """Where a function with one minimum in [low, high] is least, by golden section (Kiefer 1953)."""
    a, b = low, high
    x, y = b - _GOLDEN * (b - a), a + _GOLDEN * (b - a)
    fx, fy = f(x), f(y)
    while b - a > tolerance * max(1.0, abs(a) + abs(b)):
        if fx <= fy:
            b, y, fy = y, x, fx
            x = b - _GOLDEN * (b - a)
            fx = f(x)
        else:
            a, x, fx = x, y, fy
            y = a + _GOLDEN * (b - a)
            fy = f(y)
    return (a + b) / 2


def root(f: Callable[[float], float], low: float, high: float) -> float:
    """Where an increasing or decreasing function is 0, by bisection to the last digit. Raises ValueError where its
    ends have one sign."""
    a, b, fa = low, high, f(low)
    if (fa > 0) == (f(high) > 0):
        raise ValueError("no root between the ends")
    for _ in range(200):
        mid = (a + b) / 2
        if mid in (a, b):
            break
        if (f(mid) > 0) == (fa > 0):
            a = mid
        else:
            b = mid
    return (a + b) / 2


def newton(
    f: Callable[[Array], float], start: Array, *, steps: int = 20, tolerance: float = 1e-9
) -> Array | None:
    """Where a smooth function of a few numbers is least near ``start``, by Newton's method on central differences.
    None where it is no bowl there or a step leads up: then a simplex has to go."""
    n, x = len(start), start.copy()
    value = f(x)
    eye = np.eye(n)
    for _ in range(steps):
        h = 2e-4
        ahead, behind = [f(x + h * e) for e in eye], [f(x - h * e) for e in eye]
        gradient = np.array([(a - b) / (2 * h) for a, b in zip(ahead, behind, strict=True)])
        bend = np.diag([(a - 2 * value + b) / (h * h) for a, b in zip(ahead, behind, strict=True)])
        for i in range(n):
            for j in range(i):
                both = f(x + h * (eye[i] + eye[j]))
                bend[i, j] = bend[j, i] = (both - ahead[i] - ahead[j] + value) / (h * h)
        try:
            np.linalg.cholesky(bend)
            move = np.linalg.solve(bend, -gradient)
        except np.linalg.LinAlgError:
            return None
        size = float(np.abs(move).max())
        if not math.isfinite(size):
            return None
        move *= min(1.0, 1.0 / max(size, 1e-300))
        new = f(x + move)
        if new > value + 1e-12 * abs(value):
            return x if size < 1e-6 else None
        x, value = x + move, new
        if size < max(tolerance, 1e-8):
            return x
    return None


def simplex(
    f: Callable[[Array], float], start: Array, *, step: float = 0.1, tolerance: float = 1e-9
) -> Array:
    """Where a function of a few numbers is least near ``start``: Nelder & Mead (1965) with Gao & Han's (2012)
    coefficients, begun again from what it found until that brings nothing, since a simplex may collapse early."""
    best = start
    value = f(start)
    for _ in range(4):
        found, least = _descent(f, best, step, tolerance)
        gain, best, value = value - least, found, least
        if gain <= tolerance * max(1.0, abs(value)):
            break
        step = max(step / 4, 1e-3)
    return best


def _descent(
    f: Callable[[Array], float], start: Array, step: float, tolerance: float
) -> tuple[Array, float]:
    n = len(start)
    expand, contract, shrink = 1 + 2 / n, 0.75 - 1 / (2 * n), 1 - 1 / n if n > 1 else 0.5
    points = [start, *(start + step * row for row in np.eye(n))]
    values = [f(p) for p in points]
    for _ in range(400 * n):
        order = sorted(range(n + 1), key=values.__getitem__)
        points, values = [points[i] for i in order], [values[i] for i in order]
        if values[-1] - values[0] <= tolerance * 1e-3 * max(1.0, abs(values[0])) and float(
            np.abs(points[-1] - points[0]).max()
        ) <= tolerance * max(1.0, float(np.abs(points[0]).max())):
            break
        centre = sum(points[:-1], np.zeros(n)) / n
        away = centre - points[-1]
        reflected = centre + away
        value = f(reflected)
        if value < values[0]:
            far = centre + expand * away
            beyond = f(far)
            points[-1], values[-1] = (far, beyond) if beyond < value else (reflected, value)
        elif value < values[-2]:
            points[-1], values[-1] = reflected, value
        else:
            outside = value < values[-1]
            near = centre + (contract if outside else -contract) * away
            inner = f(near)
            if inner < min(value, values[-1]):
                points[-1], values[-1] = near, inner
            else:
                for i in range(1, n + 1):
                    points[i] = points[0] + shrink * (points[i] - points[0])
                    values[i] = f(points[i])
    i = min(range(n + 1), key=values.__getitem__)
    return points[i], values[i]

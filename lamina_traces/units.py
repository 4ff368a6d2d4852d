"""Units: how durations, rates and quantities are read and printed. Instants are int64 nanoseconds.

Text is parsed with exact decimal arithmetic: ``parse_duration_ns("0.1s")`` is 100,000,000 and not one
nanosecond beside it.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from typing import Any, Literal

from .errors import UsageError

NS_PER_S = 1_000_000_000
DAY_NS = 86_400 * NS_PER_S
LONGEST_S = 4e9
"""more than a century: no trace and nothing in one lasts longer, and its nanoseconds are whole numbers of 64 bits."""

_NS = {
    "ns": 1,
    "us": 10**3,
    "µs": 10**3,
    "ms": 10**6,
    "s": 10**9,
    "m": 60 * 10**9,
    "min": 60 * 10**9,
    "h": 3600 * 10**9,
    "d": 86400 * 10**9,
}
_PER_S = {
    "s": Decimal(1),
    "min": Decimal(60),
    "m": Decimal(60),
    "h": Decimal(3600),
    "d": Decimal(86400),
}
_NUMBER_UNIT = re.compile(r"\s*([+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?)\s*([a-zA-Zµ/%]*)\s*")

TimeUnit = Literal["s", "ms", "us", "ns"]
TIME_UNITS: dict[str, int] = {u: _NS[u] for u in ("s", "ms", "us", "ns")}
"""nanoseconds in one unit of a source's clock column."""

Basis = Literal["datasheet", "paper", "measured", "fitted", "derived", "assumed"]


@dataclass(frozen=True, slots=True)
class Quantity:
    """A number that can be defended: value, unit, where it was read, and on what basis.

    ``basis``: datasheet (vendor), paper, measured (by us or a named run), fitted (from named data),
    derived (computed from others), assumed (from memory or judgement; say so wherever it is shown).
    """

    value: float
    unit: str
    source: str
    basis: Basis

    def __float__(self) -> float:
        return float(self.value)

    def __str__(self) -> str:
        return f"{self.value:g} {self.unit}".rstrip()

    def to_dict(self) -> dict[str, Any]:
        return {"value": self.value, "unit": self.unit, "source": self.source, "basis": self.basis}


def _split(text: str, what: str, example: str) -> tuple[Decimal, str]:
    match = _NUMBER_UNIT.fullmatch(text)
    if match is None:
        raise UsageError(f"{what} {text!r} is not a number with a unit", f"write it like {example}")
    try:
        number = Decimal(match[1])
    except InvalidOperation as e:  # pragma: no cover - the pattern admits only numbers
        raise UsageError(f"{what} {text!r} is not a number", f"write it like {example}") from e
    return number, match[2]


def parse_duration_ns(text: str) -> int:
    """``"500ms"``, ``"90s"``, ``"2h"``, ``"7d"`` → nanoseconds (exact). A bare number needs a unit.

    Raises UsageError on an unknown unit, or on a duration that is not positive.
    """
    number, unit = _split(text, "duration", "500ms, 90s, 5m, 2h, 7d")
    if unit not in _NS:
        why = "has no unit" if not unit else f"has the unknown unit {unit!r}"
        raise UsageError(f"duration {text!r} {why}", "units: ns us ms s m h d, as in 500ms or 2h")
    ns = number * _NS[unit]
    if ns <= 0:
        raise UsageError(f"duration {text!r} is not positive", "write it like 90s or 2h")
    if ns >= 2**63:
        raise UsageError(f"duration {text!r} is longer than 292 years", "write it like 90s or 2h")
    return int(ns)


@dataclass(frozen=True, slots=True)
class Rate:
    """An arrival rate asked for: absolute in 1/s, or a factor on the profile's own rate."""

    per_s: float | None = None
    factor: float | None = None

    def resolve(self, own_per_s: float) -> float:
        """The rate in 1/s for a workload whose own mean rate is ``own_per_s``."""
        return self.per_s if self.per_s is not None else own_per_s * (self.factor or 1.0)

    def __str__(self) -> str:
        return f"{self.per_s:g}/s" if self.per_s is not None else f"x{self.factor:g}"


def parse_rate(text: str) -> Rate:
    """``"x2"`` (factor), ``"12.5/s"``, ``"300/min"`` → Rate. Raises UsageError unless positive and finite."""
    body = text.strip()
    example = "12.5/s, 300/min or x2"
    if body[:1] in ("x", "X", "×"):
        number, unit = _split(body[1:], "rate", example)
        if unit:
            raise UsageError(f"rate {text!r}: a factor has no unit", f"write it like {example}")
        rate = Rate(factor=float(number))
    else:
        number, unit = _split(body, "rate", example)
        per = unit.removeprefix("/")
        if not unit.startswith("/") or per not in _PER_S:
            raise UsageError(f"rate {text!r} has no unit that is known", f"write it like {example}")
        rate = Rate(per_s=float(number / _PER_S[per]))
    value = rate.per_s if rate.per_s is not None else rate.factor
    if value is None or not math.isfinite(value) or value <= 0:
        raise UsageError(f"rate {text!r} is not positive", f"write it like {example}")
    return rate


def format_seconds(s: float | None) -> str:
    """Seconds for people, three significant digits: ``"1.25 ms"``, ``"57.3 min"``, ``"2.1 d"``."""
    if s is None or not math.isfinite(s):
        return "–"
    a = abs(s)
    for limit, div, unit in (
        (1e-6, 1e-9, "ns"),
        (1e-3, 1e-6, "µs"),
        (1.0, 1e-3, "ms"),
        (120.0, 1.0, "s"),
        (7200.0, 60.0, "min"),
        (172800.0, 3600.0, "h"),
    ):
        if a < limit:
            return f"{_three(s / div)} {unit}" if a else "0 s"
    return f"{_three(s / 86400.0)} d"


def format_count(n: float | None) -> str:
    """A count with thousands separators: ``"27,303,999"``."""
    return "–" if n is None else f"{int(n):,}"


def format_number(x: float | None) -> str:
    """Three significant digits without exponent for everyday sizes; ``"–"`` for nothing."""
    if x is None or not math.isfinite(x):
        return "–"
    return _three(x)


def _three(x: float) -> str:
    if x == 0:
        return "0"
    a = abs(x)
    if a >= 1e15 or a < 1e-4:
        return f"{x:.3g}"
    digits = max(0, 2 - math.floor(math.log10(a) + 1e-12))
    text = f"{x:,.{digits}f}"
    return text.rstrip("0").rstrip(".") if "." in text else text


def short(x: Any, digits: int = 7) -> float:
    """A number rounded to significant digits. What a profile stores is rounded when it is fitted, not when it is
    written, so that a profile and its file generate the same rows."""
    return float(f"{float(x):.{digits}g}")

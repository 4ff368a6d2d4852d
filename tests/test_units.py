"""Durations and rates are read exactly, or refused with an example."""

from __future__ import annotations

import pytest

from lamina_traces.errors import UsageError
from lamina_traces.units import format_number, format_seconds, parse_duration_ns, parse_rate, short


@pytest.mark.parametrize(
    ("text", "ns"),
    [
        ("500ms", 5 * 10**8),
        ("0.1s", 10**8),
        ("90s", 9 * 10**10),
        ("2h", 72 * 10**11),
        ("7d", 604_800 * 10**9),
        ("1.5us", 1500),
        ("1 m", 6 * 10**10),
        ("3µs", 3000),
    ],
)
def test_durations(text: str, ns: int) -> None:
    assert parse_duration_ns(text) == ns


@pytest.mark.parametrize(
    "text", ["10", "s", "ten s", "0s", "-1s", "1 parsec", "nan s", "inf", "1e30d", ""]
)
def test_bad_durations(text: str) -> None:
    with pytest.raises(UsageError) as e:
        parse_duration_ns(text)
    assert e.value.hint


def test_rates() -> None:
    assert parse_rate("12.5/s").resolve(3.0) == 12.5
    assert parse_rate("300/min").resolve(3.0) == 5.0
    assert parse_rate("x2").resolve(3.0) == 6.0
    assert parse_rate("×0.5").resolve(3.0) == 1.5


@pytest.mark.parametrize(
    "text",
    ["0/s", "x0", "-1/s", "12", "12s", "fast", "x2/s", "x", "", "1/parsec", "nan/s", "1e400/s"],
)
def test_bad_rates(text: str) -> None:
    with pytest.raises(UsageError) as e:
        parse_rate(text)
    assert e.value.hint


def test_printing() -> None:
    assert [
        format_seconds(s) for s in (0, 1.25e-3, 3435.9, 90, 200_000, 5e-8, None, float("nan"))
    ] == ["0 s", "1.25 ms", "57.3 min", "90 s", "2.31 d", "50 ns", "–", "–"]
    assert [format_number(x) for x in (13.1513, 0.0107, 1234.5, 0.0, 2_000_000)] == [
        "13.2",
        "0.0107",
        "1,234",
        "0",
        "2,000,000",
    ]


def test_short_keeps_significant_digits() -> None:
    assert [short(123_456_789), short(0.000123456, 3), short(-1.5), short(9.9996, 4)] == [
        123_456_800.0,
        0.000123,
        -1.5,
        10.0,
    ]

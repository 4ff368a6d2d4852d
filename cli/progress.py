"""A progress line on stderr, only on a terminal and only after a second."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

Tick = Callable[[int], None]


@contextmanager
def counting(verb: str, total: int, unit: str) -> Iterator[Tick]:
    """Yields ``tick(n)``; prints rate and time left while it is called."""
    with _line() as show:
        done = 0

        def text(s: float) -> str:
            left = (total - done) * s / max(done, 1)
            return f"{verb} {done:,} of {total:,} {unit}, {done / s:,.0f}/s, {left:.0f} s left"

        def tick(n: int) -> None:
            nonlocal done
            done += n
            show(text)

        yield tick


@contextmanager
def reading() -> Iterator[Callable[[int, int | None], None]]:
    """Yields a callback of (bytes read, size or None) of the current input."""
    with _line() as show:

        def tick(done: int, size: int | None) -> None:
            of = f" of {size / 1e6:,.0f}" if size else ""
            show(lambda s: f"read {done / 1e6:,.0f}{of} MB, {done / 1e6 / s:,.0f} MB/s")

        yield tick


@contextmanager
def _line() -> Iterator[Callable[[Callable[[float], str]], None]]:
    """Yields ``show(text of seconds so far)``: a line that replaces itself, at most five times a second."""
    start = last = time.monotonic()
    shown = False

    def show(text: Callable[[float], str]) -> None:
        nonlocal last, shown
        now = time.monotonic()
        if now - start > 1 and now - last > 0.2 and sys.stderr.isatty():
            sys.stderr.write(f"\r{text(now - start)} \x1b[K")
            sys.stderr.flush()
            last, shown = now, True

    try:
        yield show
    finally:
        if shown:
            sys.stderr.write("\r\x1b[K")
            sys.stderr.flush()

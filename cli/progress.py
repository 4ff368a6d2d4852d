"""A progress line on stderr, only on a terminal and only after a second."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager


@contextmanager
def counting(verb: str, total: int, unit: str) -> Iterator[Callable[[int], None]]:
    """Yields ``tick(n)``; prints rate and time left while it is called."""
    start = last = time.monotonic()
    done = 0
    shown = False

    def tick(n: int) -> None:
        nonlocal done, last, shown
        done += n
        now = time.monotonic()
        if now - start > 1 and now - last > 0.2 and sys.stderr.isatty():
            rate = done / (now - start)
            left = (total - done) / rate if rate else 0
            sys.stderr.write(
                f"\r{verb} {done:,} of {total:,} {unit}, {rate:,.0f}/s, {left:.0f} s left \x1b[K"
            )
            sys.stderr.flush()
            last, shown = now, True

    try:
        yield tick
    finally:
        if shown:
            sys.stderr.write("\r\x1b[K")
            sys.stderr.flush()

"""Rows drawn here, with known laws."""

from __future__ import annotations

import numpy as np
import polars as pl

from lamina_traces.aspects.rows import Rows


def drawn(
    seed: int, n: int = 6000, *, rate: float = 2.0, shape: float = 1.0, correlated: float = 0.5
) -> Rows:
    """Gamma renewal arrivals and lognormal lengths whose logarithms are correlated, in whole tokens."""
    rng = np.random.default_rng(seed)
    t = np.cumsum(rng.gamma(shape, 1 / (rate * shape), n))
    z = rng.standard_normal((2, n))
    x = np.ceil(np.exp(6 + z[0]))
    y = np.ceil(np.exp(4 + correlated * z[0] + np.sqrt(1 - correlated**2) * z[1]))
    frame = pl.DataFrame(
        {"arrival_ns": (t * 1e9).astype(np.int64), "input_tokens": x, "output_tokens": y}
    )
    return Rows.of_frame(frame, int(t[-1] * 1e9) + 1)


def values(lines: list, aspect: str | None = None) -> dict[str, float | None]:  # type: ignore[type-arg]
    """Values by metric."""
    return {x.metric: x.value for x in lines if aspect in (None, x.aspect)}

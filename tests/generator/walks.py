"""Walks a maker over its blocks, as a driver does."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
import polars as pl

from lamina_traces.generator.maker import Maker, State


def walked(maker: Maker, duration_ns: int) -> pl.DataFrame:
    """All rows of a trace of this length."""
    frames: list[pl.DataFrame] = []
    state, b = maker.start(), 0
    while b * maker.block_ns < duration_ns:
        made = maker.make(b, min((b + 1) * maker.block_ns, duration_ns), state)
        frame = made.frame()
        assert frame.height == made.rows
        assert frame["arrival_ns"].is_sorted()
        assert not frames or frame.schema == frames[0].schema
        frames.append(frame)
        state, b = made.state, b + 1
    return pl.concat(frames)


def in_blocks(maker: Any, bits: int, duration_ns: int) -> pl.DataFrame:
    """The same, in blocks of 2^bits ns."""
    maker.block_ns = 2**bits
    return walked(maker, duration_ns)


def journalled(state: State) -> State:
    """A state that went to a file and came back, without pickles."""
    file = io.BytesIO()
    np.savez(file, allow_pickle=False, **state)
    file.seek(0)
    with np.load(file, allow_pickle=False) as found:
        return {k: found[k] for k in found.files}


def resumes(build: Any, bits: int, blocks: int) -> None:
    """A block made by another maker of the same profile, after a state from a file, has the rows that a walk gives it, and
    making one leaves the state as it was."""
    a = build()
    a.block_ns = 2**bits
    state = a.start()
    for b in range(blocks):
        kept = journalled(state)
        made = a.make(b, (b + 1) * a.block_ns, state)
        assert all((kept[k] == state[k]).all() for k in kept)
        other = build()
        other.block_ns = a.block_ns
        again = other.make(b, (b + 1) * a.block_ns, kept)
        assert again.frame().equals(made.frame())
        assert set(again.state) == set(made.state) == set(state)
        assert all((again.state[k] == made.state[k]).all() for k in made.state)
        state = made.state

"""Rehearsal: the calls that stated templates and sessions bring, from which the laws of all requests together are read.

A profile tells the lengths of a stream's requests whatever they are part of; a preset states steps, first prompts and what
turns add. So a few hundred workflows or sessions are played through (seeded: a preset is one profile).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ..aspects.templates import Spread, Step, Template
from .statements import KNOTS, Law, with_last

Array = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

WORKFLOWS = 2048
SESSIONS = 4096
MOST_TURNS = 4096
NOMINAL = 10_000
"""sessions of a tally, requests of a prefix law: shares need a number of which they are shares."""


@dataclass(frozen=True, eq=False)
class Rehearsed:
    """[calls] arrays. ``shared``: leading tokens of the prompt that stood in the prompt before it in its session, −1 for a
    first turn. ``sizes``: [workflows or sessions] calls of each."""

    inputs: Array
    outputs: Array
    shared: Array
    sizes: Ints

    @property
    def mean_size(self) -> float:
        return float(self.sizes.mean())


def law(values: Array) -> Law:
    """The law of what was seen."""
    found = np.quantile(values, np.linspace(0, 1, KNOTS))
    return Law(with_last(found, float(values.mean())))


def of_alone(inputs: Law, outputs: Law) -> Rehearsed:
    """Requests that are part of nothing; that their lengths may depend on each other is left out."""
    u = (np.arange(SESSIONS) + 0.5) / SESSIONS
    rounded = np.rint(inputs.quantile(u)), np.rint(outputs.quantile(u))
    return Rehearsed(*rounded, np.full(SESSIONS, -1.0), np.ones(SESSIONS, dtype=np.int64))


# --- workflows -------------------------------------------------------------------------------------


def of_templates(templates: Sequence[Template], lengths: tuple[Law, Law] | None) -> Rehearsed:
    """The calls of workflows in the shares of their templates. ``lengths``: of steps that state none."""
    rng = np.random.default_rng(0)
    whole = sum(t.share for t in templates)
    inputs: list[Array] = []
    outputs: list[Array] = []
    sizes = []
    for t in templates:
        n = max(round(WORKFLOWS * t.share / whole), 1)
        sizes.append(_played(t, n, lengths, rng, inputs, outputs))
    every = np.concatenate(inputs)
    return Rehearsed(every, np.concatenate(outputs), np.full(len(every), -1.0), np.concatenate(sizes))  # fmt: skip


def _played(
    t: Template, n: int, lengths: tuple[Law, Law] | None, rng: np.random.Generator, inputs: list[Array], outputs: list[Array]
) -> Ints:  # fmt: skip
    """Calls of each of ``n`` workflows; their lengths are appended. What a step ``holds`` is the call before it: the steps
    that are waited for are one chain (see ``parts``)."""
    sizes = np.zeros(n, dtype=np.int64)
    last: dict[str, Array] = {}
    for s in t.steps:
        before = last[s.after[0]] if s.after else np.zeros(n)
        repeat = np.maximum(np.rint(_drawn(s.repeat, n, rng, 1.0)), 1.0)
        calls = np.where(rng.random(n) < s.probability, repeat, 0.0).astype(np.int64)
        held = before
        for k in range(int(calls.max(initial=0))):
            there = calls > k
            x, y = _lengths(s, n, lengths, rng)
            if s.holds:
                x = x + (held if s.repeat_in == "sequence" else before)
            inputs.append(x[there])
            outputs.append(y[there])
            held = np.where(there, x + y, held)
        last[s.name] = held
        sizes += calls
    return sizes


def _lengths(
    s: Step, n: int, lengths: tuple[Law, Law] | None, rng: np.random.Generator
) -> tuple[Array, Array]:
    found = []
    for own, law_ in zip((s.input, s.output), lengths or (None, None), strict=True):
        if own is None and law_ is not None:
            found.append(np.rint(law_.quantile(rng.random(n))))
        else:
            found.append(np.rint(_drawn(own, n, rng, 0.0)))
    return found[0], found[1]


def _drawn(spread: Spread | None, n: int, rng: np.random.Generator, default: float) -> Array:
    if spread is None:
        return np.full(n, default)
    v = spread.values
    return np.interp(rng.random(n) * (len(v) - 1), np.arange(len(v)), v)


# --- sessions --------------------------------------------------------------------------------------


def of_sessions(
    turns: Law, kind: str, first: Law, added: Law, outputs: Law, most: float | None
) -> Rehearsed:
    """All turns of sessions whose contexts are of a ``kind`` (see ``aspects.contexts``). A prompt beyond ``most`` tokens loses
    its oldest part, and with it what it shares."""
    rng = np.random.default_rng(0)
    n = SESSIONS
    sizes = np.clip(np.rint(turns.quantile((rng.permutation(n) + rng.random(n)) / n)), 1, MOST_TURNS).astype(np.int64)  # fmt: skip
    x, y = np.rint(first.quantile(rng.random(n))), np.zeros(n)
    shared = np.full(n, -1.0)
    found: list[tuple[Array, Array, Array]] = []
    for k in range(int(sizes.max())):
        there = sizes > k
        if k:
            x, shared = _grown(kind, x, y, np.rint(added.quantile(rng.random(n))))
        if most is not None:
            shared = np.where((x > most) & (shared > 0), 0.0, shared)
            x = np.minimum(x, most)
        y = np.rint(outputs.quantile(rng.random(n)))
        found.append((x[there], y[there], shared[there]))
    inputs, answers, share = (np.concatenate(c) for c in zip(*found, strict=True))
    return Rehearsed(inputs, answers, share, sizes)


def _grown(kind: str, x: Array, y: Array, new: Array) -> tuple[Array, Array]:
    """(prompts of the next turns, what of them stood in the prompt before)."""
    if kind == "cumulative":
        return x + y + new, x
    if kind == "without-answers":
        return x + new, x
    return new, np.zeros(len(x))

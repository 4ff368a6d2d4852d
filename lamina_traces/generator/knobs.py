"""Knobs: pure changes of a profile before it generates, each of which says what it changes.

A knob turns one thing and leaves the others as they were fitted: load and burstiness change apart. What a knob needs and the
profile does not have is an error.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from ..aspects import Aspect, renewal
from ..aspects.arrivals import Arrivals, poisson
from ..aspects.durations import Durations
from ..aspects.failures import Failures, failing_after_ok
from ..aspects.lengths import Lengths, Margin
from ..aspects.mix import Slice
from ..aspects.modulation import MOST_EVEN, Modulation, steady
from ..aspects.prefixes import Prefixes
from ..aspects.ratios import Ratio
from ..aspects.sessions import TIMES, Sessions
from ..aspects.templates import Spread, Step
from ..aspects.workflows import Workflows
from ..distributions import Grid
from ..errors import ModelError, Notice, UnknownName, UsageError
from ..profile import Profile, Stream
from .sessions import quantiles_s, turn_law

Change = Callable[[Stream], Stream]


def changed(profile: Profile, change: Change, table: str = "llm_requests") -> Profile:
    """The profile with every stream of a table changed."""
    part = profile.part(table)
    streams = tuple(change(s) for s in part.streams)
    return replace(profile, parts={**profile.parts, table: replace(part, streams=streams)})


def with_aspect(s: Stream, name: str, aspect: Aspect) -> Stream:
    """The stream with one aspect in place of its own."""
    return replace(s, aspects={**s.aspects, name: aspect})


def without(profile: Profile, names: frozenset[str], table: str = "llm_requests") -> Profile:
    """The profile less some aspects: they are not generated. Raises UsageError where it does not have one of them."""
    known = {a for s in profile.part(table).streams for a in s.aspects} - {"arrivals", "lengths"}
    for name in sorted(names - known):
        if not known:
            raise UsageError(
                f"profile {profile.name!r} has no {name!r} and nothing else that could be left out",
                "arrivals and lengths always are made",
            )
        raise UnknownName("aspect to leave out", name, sorted(known))
    return changed(
        profile,
        lambda s: replace(s, aspects={k: a for k, a in s.aspects.items() if k not in names}),
        table,
    )


# --- arrivals --------------------------------------------------------------------------------------


def arrivals_law(text: str) -> renewal.UnitLaw:
    """``poisson``, ``constant``, ``gamma:CV``, ``weibull:CV`` or ``lognormal:CV``. Raises UsageError."""
    family, colon, cv = text.partition(":")
    if family == "poisson" and not colon:
        return renewal.UnitLaw("exponential", 1.0)
    if family == "constant" and not colon:
        return renewal.UnitLaw("constant", 0.0)
    try:
        if family not in ("gamma", "weibull", "lognormal"):
            raise ValueError
        value = float(cv)
    except ValueError:
        raise UsageError(
            f"{text!r} is no law of arrivals",
            "write poisson, constant, gamma:CV, weibull:CV or lognormal:CV, for example gamma:2",
        ) from None
    return renewal.UnitLaw(family, value)


def with_arrivals(
    profile: Profile, law: renewal.UnitLaw, rate_per_s: float | None, table: str = "llm_requests"
) -> Profile:
    """Renewal arrivals at a steady rate in place of the profile's own: for controlled studies, and for profiles that have
    none. ``rate_per_s``: of all streams together, shared by their weights; None: their own."""
    part = profile.part(table)
    whole = math.fsum(s.weight for s in part.streams)

    def change(s: Stream) -> Stream:
        own = s.aspects.get("arrivals")
        if rate_per_s is None and not isinstance(own, Arrivals):
            raise UsageError(
                f"profile {profile.name!r} records no rate", "say which: --rate 12/s"
            )  # fmt: skip
        rate = own.rate_per_s if isinstance(own, Arrivals) and rate_per_s is None else (rate_per_s or 0.0) * s.weight / whole  # fmt: skip
        span_s = own.span_s if isinstance(own, Arrivals) else 3600.0
        s = with_aspect(
            s, "arrivals", replace(poisson(rate), span_s=span_s, cv=law.cv, modulation=steady(law))
        )
        return _with_starts(s, lambda _own: steady(law))

    return changed(profile, change, table)


def _with_starts(s: Stream, change: Callable[[Modulation], Modulation]) -> Stream:
    """What is done to arrivals, done to how often sessions and tasks begin."""
    for name in ("sessions", "workflows"):
        own = s.aspects.get(name)
        if isinstance(own, Sessions | Workflows) and own.starts is not None:
            s = with_aspect(s, name, replace(own, starts=change(own.starts)))
    return s


def with_idc(profile: Profile, factor: float) -> Profile:
    """IDC(w) − 1 of the arrivals times ``factor`` at every window: 1 is the profile's own; 0 is a Poisson process, on the
    profile's season, which is load and not burstiness, and without the steps of a coarse clock. What cannot be had is
    told in the notices."""
    if not 0 <= factor < math.inf:
        raise UsageError(f"--idc-scale {factor:g} is no factor", "give a number from 0 on")
    if factor == 1:
        return profile
    notices: list[Notice] = []

    def change(s: Stream) -> Stream:
        a = s.aspects["arrivals"]
        if not isinstance(a, Arrivals):
            return s
        own = a.modulated
        if min(1 + factor * (renewal.squared_cv(g) - 1) for g in own.unit_gaps) < MOST_EVEN:
            text = f"stream {s.name!r}: its gaps are more even than a Poisson process's, and cannot be {factor:g} times as much; they are as even as can be"
            notices.append(Notice("even-gaps", text, "arrivals"))
        if factor == 0:
            a = replace(a, quantum_s=0.0, jitter_s=0.0)
        try:
            s = with_aspect(s, "arrivals", replace(a, modulation=own.scaled(factor)))
            return _with_starts(s, lambda own: own.scaled(factor))
        except ModelError as e:
            raise ModelError(f"stream {s.name!r}: {e.message}", e.hint) from e

    made = changed(profile, change)
    return replace(made, notices=(*made.notices, *notices))


# --- what requests are -----------------------------------------------------------------------------


@dataclass(frozen=True)
class Knob:
    """``turn(aspect, value)`` → the changed aspect; ``takes``: xN (a factor) or N% (a share). ``also``: how another aspect that
    states the same thing is turned with it, where the stream has it."""

    aspect: str
    takes: str
    doc: str
    turn: Callable[[Any, float], Aspect]
    also: Mapping[str, Callable[[Any, float], Aspect]] = field(default_factory=dict)


def _side(side: str) -> Callable[[Lengths, float], Lengths]:
    def turn(a: Lengths, factor: float) -> Lengths:
        own: Margin = getattr(a, side)

        def moved(x: Slice) -> Slice:
            values = tuple(v * factor for v in getattr(x, side))
            return replace(x, input=values) if side == "input" else replace(x, output=values)

        # quantiles by load and time are looked up in the grid: they move with it
        mix = a.mix and replace(
            a.mix,
            by_time=tuple(map(moved, a.mix.by_time)),
            by_load=tuple(map(moved, a.mix.by_load)),
        )
        changes: dict[str, Any] = {side: replace(own, grid=own.grid.scaled(factor)), "mix": mix}
        return replace(a, **changes)

    return turn


def _failing(a: Failures, rate: float) -> Failures:
    """The rate, runs of failures as long as they were, or longer where so many cannot be had in such runs."""
    q = min(a.p_ok_after_fail or 1.0, (1 - rate) / rate if rate > 0 else 1.0)
    p = float(failing_after_ok(rate, q)) if rate < 1 else 1.0
    return replace(a, rate=rate, p_fail_after_ok=p, p_ok_after_fail=q if rate < 1 else 0.0)  # fmt: skip


def _runs(a: Failures, factor: float) -> Failures:
    """Runs of failures longer or shorter, their rate as it was."""
    q = min(a.p_ok_after_fail / factor, 1.0)
    p = float(failing_after_ok(a.rate, q))
    return replace(a, p_fail_after_ok=p, p_ok_after_fail=q, mean_run=1 / q if q else a.mean_run)


def _reasoning(a: Lengths, factor: float) -> Lengths:
    own = a.others.get("reasoning_tokens")
    if own is None:
        raise UsageError("the lengths of the profile tell no reasoning tokens", "see what they tell: lamina-traces show PROFILE")  # fmt: skip
    return replace(a, others={**a.others, "reasoning_tokens": replace(own, grid=own.grid.scaled(factor))})  # fmt: skip


def _of_steps(what: str) -> Callable[[Workflows, float], Workflows]:
    """Scales what steps of templates state."""

    def step(s: Step, factor: float) -> Step:
        own: Spread | None = getattr(s, what)
        if own is None:
            return s
        values = own.values * factor
        changes: dict[str, Any] = {what: Spread({"values": values.tolist()}, values)}
        return replace(s, **changes)

    def turn(a: Workflows, factor: float) -> Workflows:
        templates = tuple(replace(t, steps=tuple(step(s, factor) for s in t.steps)) for t in a.templates)  # fmt: skip
        return replace(a, templates=templates)

    return turn


def _slower(d: Durations, factor: float) -> Durations:
    """Seconds times ``factor``; laws that were fitted give way to the quantiles."""
    quantiles = {k: v * factor for k, v in d.quantiles_s.items()}
    grid = (
        d.grid.scaled(factor)
        if d.grid
        else Grid(quantiles_s(d) * factor, d.mean_s * factor, d.rows)
    )
    return replace(d, mean_s=d.mean_s * factor, quantiles_s=quantiles, grid=grid, families=(), survival=None, intervals={})  # fmt: skip


def _delays(a: Workflows, factor: float) -> Workflows:
    slower = {k: _slower(d, factor) for k, d in a.delays.items()}
    return replace(_of_steps("delay_s")(a, factor), delays=slower)


def _thinking(a: Sessions, factor: float) -> Sessions:
    changes: dict[str, Any] = {k: _slower(d, factor) for k in TIMES if (d := getattr(a, k)) is not None}  # fmt: skip
    return replace(a, **changes)


def _freed(a: Sessions, _factor: float) -> Sessions:
    """First prompts are then what lengths and turns ask for, not what they were."""
    return a if a.context is None else replace(a, context=replace(a.context, first_tokens=None))


def _turns(a: Sessions, factor: float) -> Sessions:
    """The mean times ``factor``: turns beyond the first are stretched, T → 1 + g·(T − 1), a fraction of a turn by chance; so
    sessions of one turn stay what they are."""
    upto = turn_law(a.turns)
    share = np.diff(upto, prepend=0.0)
    beyond = np.arange(len(share), dtype=np.float64)
    mean = 1 + float(share @ beyond)
    if mean == 1:
        raise UsageError("every session has one turn: there is nothing to stretch", "leave sessions.turns out")  # fmt: skip
    if mean * factor < 1:
        raise UsageError(f"sessions cannot have {mean * factor:.3g} turns on average", f"give at least x{1 / mean:.3g}")  # fmt: skip
    longer = beyond * (mean * factor - 1) / (mean - 1)
    whole = np.floor(longer).astype(np.int64)
    at = np.bincount(whole, share * (1 - (longer - whole)), int(whole.max()) + 2)
    at += np.bincount(whole + 1, share * (longer - whole), int(whole.max()) + 2)
    rows = np.rint(at * TALLIED).astype(np.int64)
    cells = tuple((i + 1, i + 1, int(n)) for i, n in enumerate(rows) if n)
    turns = replace(a.turns, rows=int(rows.sum()), mean=mean * factor, interval=None, quantiles={}, cells=cells, censored=0, families=())  # fmt: skip
    return replace(a, turns=turns)


def _hits(a: Prefixes, factor: float) -> Prefixes:
    """Hit ratios of caches of every size, at most 1: ``factor`` times as many prompts share as much as those that do."""
    b = a.blocks
    if b is None:
        raise UsageError("the prefixes of the profile tell no blocks", "fit a trace whose rows carry prefix_hashes")  # fmt: skip

    def times(r: Ratio) -> Ratio:
        return Ratio(min(r.value * factor, 1.0))

    def shared(g: Grid) -> Grid:
        u = np.linspace(0, 1, len(g.values))
        return Grid(g.quantile(1 - (1 - u) / factor), g.mean * factor, g.rows)

    own = {k: r if k == "any_block_hit_ratio" else times(r) for k, r in b.ratios.items()}
    changed_ = replace(
        b,
        ratios=own,
        later_half=min(b.later_half * factor, 1.0),
        lru=tuple(replace(c, hit_ratio=times(c.hit_ratio)) for c in b.lru),
        depth=shared(b.depth),
        depth_by_size=tuple((n, shared(g)) for n, g in b.depth_by_size),
    )
    return replace(a, blocks=changed_)


TALLIED = 1_000_000
"""parts in which a stretched law of turns is told."""
KNOBS: Mapping[str, Knob] = {
    "lengths.input": Knob(
        "lengths", "xN", "all input lengths; ranks and dependence stay. Where prompts hold the answers before them, the answers in them stay", _side("input"), {"workflows": _of_steps("input"), "sessions": _freed}
    ),
    "lengths.output": Knob(
        "lengths", "xN", "all output lengths; ranks and dependence stay. Prompts that hold the answers before them grow with them", _side("output"), {"workflows": _of_steps("output"), "sessions": _freed}
    ),
    "lengths.reasoning": Knob("lengths", "xN", "reasoning tokens, at most the output; outputs stay", _reasoning),
    "sessions.turns": Knob("sessions", "xN", "mean turns of a session, by those beyond the first; requests are as many, and prompts grow where contexts accumulate beyond what first prompts leave", lambda a, factor: _turns(_freed(a, factor), factor)),
    "sessions.think_time": Knob("sessions", "xN", "all times between turns, the answer's included where only they are known", _thinking),
    "workflows.delays": Knob("workflows", "xN", "all delays between calls; the calls stay", _delays),
    "prefixes.hits": Knob("prefixes", "xN", "hit ratios of caches of every size, as far as what prompts begin with can bring them; lengths stay", _hits),
    "failures.rate": Knob("failures", "N%", "share of requests that fail; outages get worse or milder, runs stay as long where these allow", _failing),
    "failures.runs": Knob("failures", "xN", "mean length of runs of failures; their rate stays, and where they come in outages, when these come and how bad they are: runs inside them change, down to what they make by themselves", _runs),
}  # fmt: skip


def turned(profile: Profile, text: str) -> Profile:
    """The profile with one knob turned: ``lengths.input=x2``, ``failures.rate=5%``. Raises UsageError, UnknownName."""
    name, equals, value = text.partition("=")
    knob = KNOBS.get(name)
    if knob is None:
        raise UnknownName("knob", name, KNOBS, "lamina-traces catalog knobs")
    number = _value(knob, name, value if equals else "")
    streams = profile.part("llm_requests").streams
    if not any(knob.aspect in s.aspects for s in streams):
        raise UsageError(
            f"{name} turns {knob.aspect}, which profile {profile.name!r} does not have",
            "see what it has: lamina-traces show PROFILE",
        )

    def change(s: Stream) -> Stream:
        for name, turn in {knob.aspect: knob.turn, **knob.also}.items():
            own = s.aspects.get(name)
            s = s if own is None else with_aspect(s, name, turn(own, number))
        return s

    return changed(profile, change)


def _value(knob: Knob, name: str, text: str) -> float:
    try:
        if knob.takes == "xN" and text.startswith("x"):
            number = float(text[1:])
            if 0 < number <= 1e6:
                return number
        if knob.takes == "N%" and text.endswith("%"):
            number = float(text[:-1]) / 100
            if 0 <= number <= 1:
                return number
    except ValueError:
        pass
    example = "x2" if knob.takes == "xN" else "5%"
    raise UsageError(f"{name}={text} is not {knob.takes}", f"write {name}={example}")

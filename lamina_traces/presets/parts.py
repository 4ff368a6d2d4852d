"""Parts: the aspects that a preset's statements amount to.

What a fitted aspect counts (requests, sessions, workflows) is 0 here: nobody counted any. What a generator reads is there.
"""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt

from ..aspects import Aspect, renewal
from ..aspects.arrival_process import Arrivals, poisson
from ..aspects.contexts import KINDS, Context
from ..aspects.dependence import gaussian_copula
from ..aspects.durations import LEVELS, Durations
from ..aspects.failures import Failures, failing_after_ok
from ..aspects.length_draws import GENERATED
from ..aspects.lengths import SHOWN, Lengths, Margin
from ..aspects.modulation import steady
from ..aspects.rates import Seasons
from ..aspects.ratios import Ratio, rounded_share
from ..aspects.sessions import Sessions
from ..aspects.tallies import Tally
from ..aspects.templates import DELAY_KINDS, REPEATS, Spread, Step, Template
from ..aspects.workflows import Workflows
from ..distributions import Atoms
from ..errors import ModelError
from ..units import short
from . import rehearsal
from .rehearsal import NOMINAL, Rehearsed
from .sharing import prefixes
from .statements import Law, Table

Array = npt.NDArray[np.float64]

EVIDENCE = "stated"
LAWS = ("poisson", "constant", "gamma", "weibull", "lognormal")
RATES = {"requests_per_s": None, "sessions_per_s": "sessions", "workflows_per_s": "workflows"}
"""what arrives, and the part without which there is none of it."""
COPULA = 16
"""rank cells a side of a stated dependence."""
MOST_OFF = 0.03
"""of a mean that a preset is held to: what spreads that are cut and rounded may take away."""


def aspects(top: Table) -> tuple[dict[str, Aspect], float]:
    """(the aspects of the stream that a file states, the seconds it goes on by default). Raises DataError."""
    out: dict[str, Aspect] = {}
    templates = tuple(_template(t) for t in top.tables("workflows"))
    stated = top.table("lengths")
    given = _given(stated) if stated is not None else (None, None)
    sessions = top.table("sessions")
    seen, most = _rehearsed(top, templates, given, sessions)
    _held(top, seen)
    out["arrivals"], span_s = _arrivals(top, seen)
    out["lengths"] = _lengths(stated, (None, None) if templates else given, seen, most)
    if templates:
        out["workflows"] = _workflows(templates)
    if sessions is not None:
        out["sessions"] = _sessions(sessions, seen)
    for name, of in (("prefixes", prefixes), ("failures", _failures)):
        below = top.table(name)
        if below is not None:
            out[name] = of(below, seen)
    return out, span_s


def _rehearsed(
    top: Table, templates: tuple[Template, ...], given: tuple[Law | None, Law | None], sessions: Table | None
) -> tuple[Rehearsed, float | None]:  # fmt: skip
    """The calls that the statements bring, and the longest prompt where there is a limit."""
    inputs, outputs = given
    if templates:
        if sessions is not None:
            raise top.fault("sessions", "cannot stand beside workflows", "state one of them")
        free = [s.name for t in templates for s in t.steps if s.input is None or s.output is None]
        if free and (inputs is None or outputs is None):
            raise top.fault("lengths", f"are missing for the step {free[0]!r}", "state its input and output, or lengths")  # fmt: skip
        both = (inputs, outputs) if inputs is not None and outputs is not None else None
        return rehearsal.of_templates(templates, both), None
    if outputs is None:
        raise top.fault("lengths.output", "is missing", "state it as a law of tokens")
    if sessions is not None:
        return _played(sessions, inputs, outputs)
    if inputs is None:
        raise top.fault("lengths.input", "is missing", "state it as a law of tokens")
    return rehearsal.of_alone(inputs, outputs), None


def _played(sessions: Table, inputs: Law | None, outputs: Law) -> tuple[Rehearsed, float | None]:
    first = sessions.maybe("first_input", "tokens")
    if (first is None) == (inputs is None):
        raise sessions.fault("first_input", "or lengths.input says how long prompts are", "state one of them")  # fmt: skip
    most = sessions.number("max_input", "tokens") if sessions.has("max_input") else None
    kind = sessions.word("context", KINDS, KINDS[0])
    turns, added = sessions.law("turns", "turns"), sessions.law("new_tokens", "tokens")
    # with a law of all prompts stated, what first ones are is found when rows are made; about the same is shared
    begins = first or inputs
    assert begins is not None  # noqa: S101 - one of them is stated
    return rehearsal.of_sessions(turns, kind, begins, added, outputs, most), most


def _held(top: Table, seen: Rehearsed) -> None:
    """Published means that the statements must bring. Raises DataError where they do not."""
    t = top.table("held_to")
    if t is None:
        return
    for key, of in (("calls_per_workflow", "workflows"), ("turns_per_session", "sessions")):
        if t.has(key):
            wanted = t.number(key, key.partition("_")[0])
            if not top.has(of) or abs(seen.mean_size - wanted) > MOST_OFF * wanted:
                raise t.fault(key, f"is {wanted:g}, and the {of} stated bring {seen.mean_size:.4g}", f"change them, or this; {100 * MOST_OFF:g} % apart at most")  # fmt: skip
    t.close()


# --- arrivals --------------------------------------------------------------------------------------


def _arrivals(top: Table, seen: Rehearsed) -> tuple[Arrivals, float]:
    t = top.table("arrivals")
    if t is None:
        raise top.fault("arrivals", "is missing", "write [arrivals] with a rate")
    what = [k for k in RATES if t.has(k)]
    if len(what) != 1:
        raise t.fault("rate", f"{len(what)} rates are stated", f"state one of {', '.join(RATES)}")
    of = RATES[what[0]]
    there = [k for k in ("sessions", "workflows") if top.has(k)]
    if there != ([of] if of else []):
        raise t.fault(what[0], "does not go with what the file states", "give the rate of what arrives: sessions, workflows or requests")  # fmt: skip
    unit = f"{of or 'requests'}/s"
    rate = t.number(what[0], unit, most=1e6) * seen.mean_size
    family = t.word("law", LAWS, "poisson")
    fixed = {"poisson": 1.0, "constant": 0.0}
    cv = fixed[family] if family in fixed else t.number("cv", "")
    try:
        law = renewal.UnitLaw("exponential" if family == "poisson" else family, cv)
    except ModelError as e:
        raise t.fault("cv", e.message, e.hint) from e
    span_s = t.number("span_s", "s")
    flat = steady(law)
    hours = t.table("hours")
    if hours is not None:
        factors = [hours.number(f"{h:02d}", "× mean", above_zero=False) for h in range(24)]
        hours.close()
        mean = math.fsum(factors) / 24
        if mean <= 0:
            raise t.fault("hours", "are all 0", "state multiples of the mean rate")
        flat = replace(flat, season=Seasons(tuple(short(f / mean) for f in factors), None, 0.0))
    t.close()
    return (
        replace(poisson(short(rate)), span_s=span_s, cv=cv, modulation=flat, evidence=EVIDENCE),
        span_s,
    )


# --- lengths ---------------------------------------------------------------------------------------


def _given(t: Table) -> tuple[Law | None, Law | None]:
    return t.maybe("input", "tokens"), t.maybe("output", "tokens")


def _lengths(
    t: Table | None, given: tuple[Law | None, Law | None], seen: Rehearsed, most: float | None
) -> Lengths:  # fmt: skip
    """Of all requests together: as ``given``, else as rehearsed."""
    inputs, outputs = given
    others: dict[str, Margin] = {}
    rho = 0.0
    if t is not None:
        for name in GENERATED:
            law = t.maybe(name, "" if name.endswith("count") else "tokens")
            if law is not None:
                others[name] = _margin(law)
        if t.has("spearman"):
            rho = t.number("spearman", "", most=0.99, above_zero=False)
        t.close()
    return Lengths(
        _margin(inputs or rehearsal.law(seen.inputs), most),
        _margin(outputs or rehearsal.law(seen.outputs)),
        pairs=0,
        spearman=rho,
        pearson=rho,
        copula=_copula(rho),
        others=others,
        evidence=EVIDENCE,
    )


def _margin(law: Law, cap: float | None = None) -> Margin:
    grid = law.grid()
    u = np.array(list(SHOWN.values()))
    shown = {k: short(v, 5) for k, v in zip(SHOWN, grid.quantile(u), strict=True)}
    atoms = Atoms() if cap is None else Atoms(cap=cap, cap_share=rounded_share(float((grid.values >= cap).mean())))  # fmt: skip
    return Margin(grid, float(grid.values[0]), shown, (), atoms)


def _copula(rho: float) -> Array:
    """Of Spearman's ρ; of one cell where the sides are independent."""
    if rho == 0:
        return np.ones((1, 1))
    return np.array([[short(v, 6) for v in row] for row in gaussian_copula(rho, COPULA)])


# --- sessions, workflows ---------------------------------------------------------------------------


def durations(law: Law) -> Durations:
    """Of stated seconds."""
    u = (np.arange(4096) + 0.5) / 4096
    x = law.quantile(u)
    mean = law.mean
    levels = {k: short(float(law.quantile(np.array([p]))[0]), 6) for k, p in LEVELS.items()}
    cv = float(x.std()) / mean if mean > 0 else 0.0
    return Durations(0.0, 0.0, rounded_share(float((x == 0).mean())), short(mean), short(cv, 5), levels, law.grid())  # fmt: skip


def tally(numbers: npt.NDArray[np.int64]) -> Tally:
    """Of whole numbers from 1 on, in parts of NOMINAL."""
    values, n = np.unique(numbers, return_counts=True)
    parts = np.rint(n / n.sum() * NOMINAL).astype(np.int64)
    cells = tuple((int(v), int(v), int(p)) for v, p in zip(values, parts, strict=True) if p)
    ends = {k: float(np.quantile(numbers, p)) for k, p in (("p50", 0.5), ("p90", 0.9), ("p99", 0.99))}  # fmt: skip
    return Tally(sum(c[2] for c in cells), short(float(numbers.mean()), 6), None, ends, cells)


def _sessions(t: Table, seen: Rehearsed) -> Sessions:
    turns = tally(seen.sizes)
    rest = durations(t.law("think_time_s", "s"))
    kind = t.word("context", KINDS, KINDS[0])
    shares = {"cumulative": (1.0, 1.0), "without-answers": (0.0, 1.0), "delta": (0.0, 0.0)}
    whole, growing = map(Ratio, shares[kind])
    added = t.law("new_tokens", "tokens").grid()
    t.close()
    single = float((seen.sizes == 1).mean())
    longer = 1 - float((seen.sizes == 1).sum() / seen.sizes.sum())
    return Sessions(
        requests=0,
        sessions=0,
        by="session_id",
        share=1.0,
        turns=turns,
        single=Ratio(rounded_share(single)),
        multi_turn_requests=Ratio(rounded_share(longer)),
        censored=None,
        edge_s=None,
        think_time=rest,
        turn_gap=None,
        recorded_delay=None,
        overlapping=None,
        duration=None,
        open_mean=None,
        open_peak=None,
        context=Context(0, growing, whole, kind, added),
        by_turn=(),
    )


def _workflows(templates: tuple[Template, ...]) -> Workflows:
    return Workflows(
        workflows=0,
        calls=0,
        by="workflow_id",
        share=1.0,
        order="edges",
        ordered=0,
        tallies={},
        sequential=None,
        model_path=None,
        makespan=None,
        busy_share=None,
        delays={},
        stages=(),
        input_tokens=None,
        output_tokens=None,
        shapes=(),
        templates=templates,
    )


def _template(t: Table) -> Template:
    """Steps with ``copies`` stand side by side; who waits for such a step waits for all of them."""
    share = t.number("share", "share", most=1.0) if t.has("share") else 1.0
    tables: list[Table] = []
    steps: list[Step] = []
    copies: dict[str, list[str]] = {}
    for of in t.tables("steps"):
        s = _step(of)
        after = tuple(c for a in s.after for c in copies.get(a, [a]))
        n = round(of.number("copies", "steps side by side", most=64)) if of.has("copies") else 1
        of.close()
        copies[s.name] = [s.name] if n == 1 else [f"{s.name} {i}" for i in range(1, n + 1)]
        steps += [replace(s, name=c, stage=s.stage or s.name, after=after) for c in copies[s.name]]
        tables += [of] * n
    name = t.text("name")
    t.close()
    sequence = {s.name: s.repeat is None or s.repeat_in == "sequence" for s in steps}
    for s, of in zip(steps, tables, strict=True):
        chain = len(s.after) <= 1 and all(sequence.get(a, True) for a in s.after)
        if s.holds and not chain:
            raise of.fault("holds", "needs one step before it whose calls follow one another", 'repeat_in = "sequence"')  # fmt: skip
    try:
        return Template.from_dict({"name": name, "share": share, "steps": [s.to_dict() for s in steps]})  # fmt: skip
    except ModelError as e:
        raise t.fault("steps", e.message, e.hint) from e


def _step(t: Table) -> Step:
    units = {"input": "tokens", "output": "tokens", "delay_s": "s", "lasts_s": "s", "repeat": "calls"}  # fmt: skip
    stated: dict[str, Any] = {}
    for key, unit in units.items():
        law = t.maybe(key, unit)
        if law is not None:
            same = law.values[0] == law.values[-1]
            given: Any = float(law.values[0]) if same else {"values": law.grid().values.tolist()}
            stated[key] = Spread.of(given, t.name(key))
    return Step(
        name=t.text("name"),
        stage=t.text("stage") if t.has("stage") else None,
        after=t.texts("after"),
        holds=t.stated.get("holds") is True if t.has("holds") else False,
        delay_kind=t.word("delay_kind", DELAY_KINDS, "tool") if t.has("delay_kind") else None,
        repeat_in=t.word("repeat_in", REPEATS, REPEATS[0]),
        probability=t.number("probability", "share", most=1.0) if t.has("probability") else 1.0,
        **stated,
    )


# --- failures ----------------------------------------------------------------------------


def _failures(t: Table, _seen: Rehearsed) -> Failures:
    """A two-state chain: ``rate`` of the requests fail, ``run`` in a row on average."""
    rate = t.number("rate", "share", most=0.99)
    run = t.number("run", "requests") if t.has("run") else 1 / (1 - rate)
    if run < 1:
        raise t.fault("run", f"{run:g} is no length of a run", "1 or more")
    t.close()
    leave = 1 / run
    return Failures(
        requests=0,
        failed=0,
        rate=rate,
        rate_low=0.0,
        rate_high=1.0,
        p_fail_after_ok=float(failing_after_ok(rate, leave)),
        p_ok_after_fail=leave,
        mean_run=run,
        longest_run=0,
        kinds={"error": (1.0, 0.0)},
        rate_method=EVIDENCE,
    )

"""Sessions: how many turns a conversation has, how long it rests between them, and how its context grows.

Two times between turns are in use, and they are not the same:

- ``think_time``: from the END of an answer (its last token) to the next turn's arrival: what the client takes;
- ``turn_gap``: from one arrival to the next, service included: what a log without ends can say.

Where the source states a delay after the parent's end itself, that is ``recorded_delay``. A session that begins or ends
within the 90th percentile of the time between turns of an edge of the trace, or of a mask, may go on behind it: it is
*censored*, its turns are a lower bound. Laws are of the sessions that begin inside; those that end at an edge enter as
survivors.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from ..counts import Counts
from ..distributions import K_ANONYMITY, Fitted, Grid, w1_log10
from ..errors import ModelError, Notice
from ..intervals import wilson
from ..units import NS_PER_S, format_number, format_seconds, short
from . import Finding, Line
from .contexts import ByTurn, Context, by_turn, context
from .conversations import (
    NONE,
    Flags,
    Ints,
    Turns,
    cut,
    open_at_once,
    read,
    times_between,
)
from .durations import Durations
from .modulation import Modulation
from .rate_levels import of_instants
from .rates import origin_of_day_ns
from .ratios import Ratio, Units, rounded_share
from .tallies import Tally, tally
from .timeline import Timeline
from .timings import Timings, shortened

if TYPE_CHECKING:
    from ..store import Trace

NAME = "sessions"
VERSION = 1
TABLES = ("llm_requests",)
NEEDS = ("session_id",)
RECORD = "log a conversation id with each request, and when its last token left"

FEWEST_SESSIONS = 20
TIMES = ("think_time", "turn_gap", "recorded_delay")
MANY_CENSORED = 0.1


@dataclass(frozen=True)
class Sessions:
    """``requests`` of the trace belong to ``sessions``, told apart by the column ``by``; ``share`` of the sessions
    were looked at (then ``sessions``, and what is open at once, are estimates). ``single``: sessions of one turn.
    ``multi_turn_requests``: requests that are in longer ones. ``censored``: sessions that may go on behind an edge of
    the trace; None without a common clock. ``open_mean``, ``open_peak``: sessions between their first arrival and
    their last end (last arrival where ends are not recorded). ``overlapping``: turns that arrive before the answer before
    them has ended, of those where that is known. ``starts``: how often sessions begin.
    """

    requests: int
    sessions: int
    by: str
    share: float
    turns: Tally
    single: Ratio
    multi_turn_requests: Ratio
    censored: float | None
    edge_s: float | None
    think_time: Durations | None
    turn_gap: Durations | None
    recorded_delay: Durations | None
    overlapping: float | None
    duration: Durations | None
    open_mean: float | None
    open_peak: float | None
    context: Context | None
    by_turn: tuple[ByTurn, ...]
    starts: Modulation | None = None

    def to_dict(self) -> dict[str, Any]:
        times = {k: getattr(self, k) for k in (*TIMES, "duration")}
        return {
            "version": VERSION,
            "requests": self.requests,
            "sessions": self.sessions,
            "by": self.by,
            "share": self.share,
            "turns": self.turns.to_dict(),
            "single": self.single.to_dict(),
            "multi_turn_requests": self.multi_turn_requests.to_dict(),
            "censored": self.censored,
            "edge_s": self.edge_s,
            **{k: d.to_dict() if d else None for k, d in times.items()},
            "overlapping": self.overlapping,
            "open_mean": self.open_mean,
            "open_peak": self.open_peak,
            "context": self.context.to_dict() if self.context else None,
            "by_turn": [t.to_dict() for t in self.by_turn],
            **({"starts": self.starts.to_dict()} if self.starts else {}),
        }

    def brief(self) -> Sessions:
        """What one stream among many keeps."""
        return replace(
            self,
            turns=self.turns.brief(),
            think_time=shortened(self.think_time),
            turn_gap=shortened(self.turn_gap) if self.think_time is None else None,
            recorded_delay=shortened(self.recorded_delay),
            duration=None,
            by_turn=self.by_turn[:4],
            starts=self.starts.brief() if self.starts else None,
        )

    def laws(self) -> list[tuple[str, tuple[Fitted, ...]]]:
        """What is fitted, with its unit, and the laws, best first."""
        times = [(k, getattr(self, k)) for k in TIMES]
        named = [(f"{k.replace('_', ' ')}, s", d.families) for k, d in times if d is not None]
        return [("turns a session", self.turns.families), *named]

    @property
    def between(self) -> tuple[str, Durations] | None:
        """The best that is known of the time between turns, and its name."""
        found = ((k, getattr(self, k)) for k in ("think_time", "recorded_delay", "turn_gap"))
        return next(((k, d) for k, d in found if d is not None), None)

    def findings(self) -> list[Finding]:
        t = self.turns
        about = "about " if self.share < 1 else ""
        i = t.interval
        ends = f" [{format_number(i.low)}, {format_number(i.high)}]" if i else ""
        best = t.best
        out = [
            Finding(
                NAME,
                (f"{self.requests:,} requests belong to {about}{self.sessions:,} sessions of" if self.sessions else "Stated, not counted: sessions have")
                + f" {format_number(t.mean)} turns on average; "
                f"{_percent(self.single.value)} of the sessions have one turn, and {_percent(self.multi_turn_requests.value)} of the requests are in longer ones.",
                model=_named(best.family) if best else "",
                parameters=f"mean {format_number(t.mean)}{ends}, single {self.single}" + (f"; {best.parameters()}" if best else ""),
                effect=best.effect() if best else "",
                warning="censored-sessions" if self.censored and self.censored > MANY_CENSORED else "",
            )
        ]  # fmt: skip
        out += [f for k in TIMES if (f := _time_finding(k, getattr(self, k))) is not None]
        if self.context is not None:
            out.append(_context_finding(self.context))
        if self.open_mean is not None and self.open_peak is not None:
            out.append(
                Finding(
                    NAME,
                    f"{format_number(self.open_mean)} sessions are open at a time on average, {format_number(self.open_peak)} at most.",
                )
            )
        return out


def _named(family: str) -> str:
    return "negative-binomial of turns − 1" if family == "negative-binomial" else family


def _percent(x: float) -> str:
    return f"{100 * x:.3g}%"


_SAID = {
    "think_time": "A next turn comes {} after the answer before it has ended (think time, p90 {}).",
    "turn_gap": "From a turn's arrival to the next one's {} pass (turn gap, p90 {}).",
    "recorded_delay": "The source states delays of {} after the answer before (p90 {}).",
}


def _time_finding(name: str, d: Durations | None) -> Finding | None:
    if d is None:
        return None
    q = d.quantiles_s
    best = d.best
    middle = f"a median of {format_seconds(q['p50'])}"
    text = _SAID[name].format(middle, format_seconds(q.get("p90")))
    return Finding(
        NAME,
        text[0].upper() + text[1:],
        model=best.family if best else "",
        parameters="; ".join(x for x in (d.told("p50"), best.parameters() if best else "") if x),
        effect=best.effect() if best else "",
    )


def _context_finding(c: Context) -> Finding:
    added = f" A later turn adds a median of {format_number(float(c.new_tokens.quantile(np.array([0.5]))[0]))} tokens." if c.new_tokens else ""  # fmt: skip
    text = {
        "cumulative": f"Contexts accumulate: {_percent(c.cumulative.value)} of the later prompts are no shorter than prompt and answer before.",
        "without-answers": f"Prompts come back without the answers: {_percent(c.growing.value)} are no shorter than the prompt before, {_percent(c.cumulative.value)} hold its answer too.",
        "delta": f"Prompts do not hold the turns before: {_percent(c.growing.value)} are no shorter than the prompt before.",
    }[c.kind]  # fmt: skip
    return Finding(
        NAME, text + added, model=c.kind, parameters=f"cumulative {c.cumulative}, growing {c.growing}"
    )  # fmt: skip


def from_dict(d: dict[str, Any]) -> Sessions:
    """Inverse of ``Sessions.to_dict``."""

    def times(name: str) -> Durations | None:
        return Durations.from_dict(d[name]) if d[name] else None

    def number(name: str, high: float = math.inf) -> float | None:
        if d[name] is None:
            return None
        value = float(d[name])
        if not 0 <= value <= high or math.isinf(value):
            raise ModelError(f"sessions of the profile: {name} is {value}", "fit the profile again")
        return value

    share = number("share", 1.0)
    out = Sessions(
        requests=int(d["requests"]),
        sessions=int(d["sessions"]),
        by=str(d["by"]),
        share=share or 0.0,
        turns=Tally.from_dict(d["turns"]),
        single=Ratio.from_dict(d["single"]),
        multi_turn_requests=Ratio.from_dict(d["multi_turn_requests"]),
        censored=number("censored", 1.0),
        edge_s=number("edge_s"),
        think_time=times("think_time"),
        turn_gap=times("turn_gap"),
        recorded_delay=times("recorded_delay"),
        overlapping=number("overlapping", 1.0),
        duration=times("duration"),
        open_mean=number("open_mean"),
        open_peak=number("open_peak"),
        context=Context.from_dict(d["context"]) if d["context"] else None,
        by_turn=tuple(map(ByTurn.from_dict, d["by_turn"])),
        starts=Modulation.from_dict(d.get("starts")),
    )
    if min(out.requests, out.sessions) < 0 or not share:
        raise ModelError(
            "sessions of the profile: counts must be positive", "fit the profile again"
        )
    return out


# --- measuring -------------------------------------------------------------------------------------


def fit(trace: Trace, notices: list[Notice]) -> Sessions | None:
    """Fit the sessions of ``llm_requests``. Needs session ids, or links from requests to those before them, and every
    request: a sample of the requests shows no sessions."""
    if not (trace.has("session_id") or trace.has("parent_request_id")):
        notices.append(Notice("not-recorded", f"no sessions are recorded; {RECORD}", NAME))
        return None
    share = trace.manifest.sampled
    if share is not None and share < 1:
        text = f"the trace is a sample of {share:g} of the requests: sessions with missing turns are no sessions, so none are fitted"
        notices.append(Notice("sampled-trace", text, NAME))
        return None
    turns = read(trace)
    if turns is None or turns.sessions < FEWEST_SESSIONS:
        n = turns.sessions if turns else 0
        notices.append(Notice("few-sessions", f"{n} sessions are too few to fit", NAME))
        return None
    if turns.by != "session_id":
        text = "no session ids are recorded: a session is the requests linked by parent_request_id"
        notices.append(Notice("sessions-linked", text, NAME))
    if turns.share < 1:
        text = f"a random {turns.share:.3g} of the sessions was looked at; numbers of sessions are estimates"
        notices.append(Notice("sampled-sessions", text, NAME))
    timeline = Timeline.of(trace) if trace.manifest.clock != "session" else None
    derived = any(n.code == "turns-derived" for n in trace.manifest.notices)
    numbered = trace.has("turn") and not derived
    found = measure(
        turns,
        timeline,
        tick_ns=trace.manifest.tick_ns,
        numbered=numbered,
        origin_ns=origin_of_day_ns(trace),
    )
    if found.censored is not None and found.censored > MANY_CENSORED:
        text = f"{_percent(found.censored)} of the sessions may go on behind an edge of the trace: their turns are lower bounds, which the laws take into account and the mean does not"
        notices.append(Notice("censored-sessions", text, NAME))
    return found


def measure(
    t: Turns, timeline: Timeline | None, *, tick_ns: int | None = None, numbered: bool = False,
    origin_ns: int | None = None,
) -> Sessions:  # fmt: skip
    """All figures of 20 sessions or more. ``timeline``: None where the trace has no clock, or one a session;
    ``numbered``: the source numbers the turns itself."""
    sizes, (begin, end) = t.sizes, t.bounds()
    timed = begin != NONE
    units = Units.of(begin, timeline) if timed.all() else Units(None)
    between = times_between(t, timeline)
    laws = {k: _law(t, i, ns, timeline, tick_ns) for k, (i, ns) in between.items()}
    edge_s = next((d.quantiles_s["p90"] for k in ("think_time", "recorded_delay", "turn_gap") if (d := laws[k]) and "p90" in d.quantiles_s), None)  # fmt: skip
    before = after = np.zeros(t.sessions, dtype=bool)
    if timeline is not None and edge_s is not None:
        before, after = cut(t, timeline, round(edge_s * NS_PER_S), numbered)
    one = np.ones(t.sessions)
    # Sessions that were under way when the trace began are longer than others: they say nothing of a law.
    turns = tally(
        Counts.of(sizes),
        units.interval(sizes, one),
        complete=Counts.of(sizes[~before & ~after]),
        survivors=Counts.of(sizes[after & ~before]),
    )
    if turns is None:
        raise ModelError("fewer than 20 sessions", "a longer trace would have more")
    think = between["think_time"][1]
    long = timed & (sizes > 1)
    lasting = _law_of((end - begin)[long], Units.of(begin[long], timeline), tick_ns)
    held, peak = None, None
    if timeline is not None:
        held = short(float((end - begin)[timed].sum()) / timeline.span_ns / t.share, 4)
        peak = short(open_at_once(begin[timed], end[timed]) / t.share, 4)
    return Sessions(
        requests=t.rows,
        sessions=t.sessions if t.share == 1 else round(short(t.sessions / t.share, 3)),
        by=t.by,
        share=t.share,
        turns=turns,
        single=units.ratio(sizes == 1, one) if units.window is not None else _of_independent(sizes == 1),
        multi_turn_requests=units.ratio(sizes * (sizes > 1), sizes),
        censored=rounded_share(float((before | after).mean())) if timeline is not None and edge_s is not None else None,
        edge_s=edge_s,
        **laws,
        overlapping=rounded_share(float((think < 0).mean())) if len(think) >= K_ANONYMITY else None,
        duration=lasting,
        open_mean=held,
        open_peak=peak,
        context=context(t, timeline, ~before),
        by_turn=by_turn(t),
        starts=of_instants(begin[~before], timeline, origin_ns, tick_ns) if timed.all() and t.share == 1 else None,
    )  # fmt: skip


def _of_independent(flags: Flags) -> Ratio:
    """Without a clock sessions pass for independent: each is of a client of its own."""
    k, n = float(flags.sum()), float(len(flags))
    return Ratio(rounded_share(k / n), wilson(k, n))


def _law(
    t: Turns, i: Ints, ns: Ints, timeline: Timeline | None, tick_ns: int | None
) -> Durations | None:
    i, ns = i[ns >= 0], ns[ns >= 0]
    stamped = bool((t.arrival_ns[i] != NONE).all())
    return _law_of(ns, Units.of(t.arrival_ns[i], timeline if stamped else None), tick_ns)


def _law_of(ns: Ints, units: Units, tick_ns: int | None) -> Durations | None:
    out = Timings(units.windows)
    out.add(ns, units.window)
    return out.described(tick_ns)


LIMITS = {
    "mean turns ratio": 0.10,
    "single-turn share difference": 0.05,
    "W1": 0.10,
    "cumulative share difference": 0.05,
    "new tokens W1": 0.10,
}
"""proposed here, not by the research, and not calibrated; W1 is of the times between turns."""


def score(a: Trace, b: Trace) -> list[Line]:
    """Shares, mean turns, times between turns and growth of the context of b against a."""
    found = [fit(t, []) for t in (a, b)]
    x, y = found
    if x is None and y is None:
        return []
    if x is None or y is None:
        note = "only one of them has sessions"
        return [Line(NAME, "mean turns ratio", None, LIMITS["mean turns ratio"], "|ln|", note)]
    lines = [
        _line("mean turns ratio", abs(math.log(x.turns.mean / y.turns.mean)), "|ln|"),
        _line("single-turn share difference", abs(x.single.value - y.single.value), "share"),
    ]
    for name in TIMES:
        one, two = getattr(x, name), getattr(y, name)
        if one is not None and two is not None and one.grid and two.grid:
            label = f"{name.replace('_', ' ')} W1"
            lines.append(Line(NAME, label, _w1(one.grid, two.grid), LIMITS["W1"], "decades"))
    if x.context and y.context:
        difference = abs(x.context.cumulative.value - y.context.cumulative.value)
        lines.append(_line("cumulative share difference", difference, "share"))
        new = x.context.new_tokens, y.context.new_tokens
        if new[0] and new[1] and x.context.kind == y.context.kind:
            value = w1_log10(new[0].quantile, new[1].quantile, 1.0)
            lines.append(_line("new tokens W1", value, "decades"))
    return lines


def _line(metric: str, value: float, unit: str) -> Line:
    return Line(NAME, metric, value, LIMITS[metric], unit)


def _w1(a: Grid, b: Grid) -> float:
    return w1_log10(a.quantile, b.quantile, 1e-3)

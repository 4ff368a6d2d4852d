"""What is said of arrivals: the fitted process, its findings and its dictionary (see ``arrivals``, which fits it)."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from ..distributions import (
    Fitted,
    Grid,
)
from ..errors import ModelError
from ..intervals import Interval, read_intervals
from ..units import LONGEST_S, format_number, format_seconds
from . import Finding, renewal
from .dispersion import FEW_WINDOWS as FEW_WINDOWS
from .dispersion import Scale
from .gaps import Pass as Pass
from .modulation import Modulation
from .rate_levels import of_curve
from .rates import Change, Seasons, Silence

NAME = "arrivals"
VERSION = 3

Array = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Arrivals:
    """``rate_per_s``: events / observed seconds (of all requests, where the trace is a sample). ``cv``: population
    sd / mean of the gaps; ``burstiness`` Goh & Barabási's B = (cv − 1)/(cv + 1), ``memory`` their M. ``scales``:
    dispersion by window width; ``acf``: of counts per ``acf_window_s``, by lag. ``rate_curve``: multiples of the mean rate, one per ``window_s``, as
    counted; ``rate_signal``: how much of its swings is not noise. ``window_shapes``, ``window_cvs``: gamma shape
    and CV of the gaps of each window. ``unit_gaps``: quantile grid of gaps in operational time (mean 1).
    ``families``: gap laws in calendar time, ``unit_families`` in operational time, best first; empty where the clock is too coarse.
    ``rounded``: shapes as a clock that rounds leaves them open, (by jitter, by the triangular kernel). ``quantum_s``: the
    step in which a coarse or batched log stamps its arrivals, 0 for a fine clock; with it ``unit_gaps`` is a
    gamma law with the local dispersion of the counts, and what is generated is stamped in the same steps.
    ``evidence``: what it was fitted on: rows, client windows, counts per bin, metrics, assumed.
    """

    events: int
    span_s: float
    rate_per_s: float
    tick_s: float
    quantum_s: float
    zero_gap_share: float
    cv: float
    cv_without_longest: float
    scales: tuple[Scale, ...]
    window_s: float
    rate_curve: Array
    rate_signal: float
    unit_gaps: Grid
    families: tuple[Fitted, ...]
    unit_families: tuple[Fitted, ...] = ()
    memory: float | None = None
    acf_window_s: float = 1.0
    acf: Mapping[int, float] = field(default_factory=dict)
    hurst: Mapping[str, float] | None = None
    intervals: Mapping[str, Interval] = field(default_factory=dict)
    """of ``rate_per_s`` and ``cv``."""
    rounded: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    window_shapes: tuple[float | None, ...] = ()
    window_cvs: tuple[float | None, ...] = ()
    changes: tuple[Change, ...] = ()
    seasons: Seasons | None = None
    silences: tuple[Silence, ...] = ()
    masked_s: float = 0.0
    sampled: float | None = None
    jitter_s: float = 0.0
    """standard deviation of the stamps about the steps of ``quantum_s``."""
    modulation: Modulation | None = None
    """how the rate swings on days to come; None where only the rate curve is known."""
    evidence: str = "rows"
    relative: bool = False
    """rates are multiples of the mean rate, gaps are in mean gaps, counts mean nothing (see ``disclosure``)."""

    def to_dict(self) -> dict[str, Any]:
        return {
            "version": VERSION,
            "evidence": self.evidence,
            "relative": self.relative,
            "events": self.events,
            "span_s": self.span_s,
            "masked_s": self.masked_s,
            "sampled": self.sampled,
            "rate_per_s": self.rate_per_s,
            "tick_s": self.tick_s,
            "quantum_s": self.quantum_s,
            "jitter_s": self.jitter_s,
            "zero_gap_share": self.zero_gap_share,
            "cv": self.cv,
            "cv_without_longest": self.cv_without_longest,
            "memory": self.memory,
            "intervals": {k: i.to_dict() for k, i in self.intervals.items()},
            "dispersion": [d.to_dict() for d in self.scales],
            "acf": {
                "window_s": self.acf_window_s,
                "lags": {str(k): v for k, v in self.acf.items()},
            },
            "hurst": dict(self.hurst) if self.hurst else None,
            "rate_curve": {
                "window_s": self.window_s,
                "multiple_of_mean": self.rate_curve.tolist(),
                "signal": self.rate_signal,
                "gamma_shape": list(self.window_shapes),
                "gap_cv": list(self.window_cvs),
            },
            "changes": [c.to_dict() for c in self.changes],
            "seasons": self.seasons.to_dict() if self.seasons else None,
            "silences": [s.to_dict() for s in self.silences],
            "unit_gaps": self.unit_gaps.to_dict(),
            "modulation": self.modulation.to_dict() if self.modulation else None,
            "families": [f.to_dict() for f in self.families],
            "unit_families": [f.to_dict() for f in self.unit_families],
            "rounded": {k: list(v) for k, v in self.rounded.items()},
        }

    @property
    def generating_curve(self) -> Array:
        """The rate curve less the noise of its own estimate: its swings to the power ``rate_signal``, mean 1."""
        return renewal.damped(self.rate_curve, self.rate_signal)

    @cached_property
    def modulated(self) -> Modulation:
        """``modulation``; where arrivals were not seen one by one, of the rate curve."""
        return self.modulation or of_curve(self.generating_curve, self.window_s, self.unit_gaps)

    @property
    def burstiness(self) -> float:
        """Goh & Barabási's (2008) B: −1 for a metronome, 0 for a Poisson process, towards 1 for bursts."""
        return (self.cv - 1) / (self.cv + 1)

    def scale(self, window_s: float) -> Scale | None:
        """Dispersion at a named width, None where it was not computed."""
        return next((s for s in self.scales if s.window_s == window_s), None)

    def idc(self, window_s: float) -> float | None:
        """IDC at a named width, None where it was not computed."""
        found = self.scale(window_s)
        return found.idc if found else None

    def brief(self) -> Arrivals:
        """What one stream among many keeps."""
        return replace(
            self,
            families=self.families[:2],
            unit_families=self.unit_families[:1],
            unit_gaps=self.unit_gaps.thinned(65),
            modulation=self.modulation.brief() if self.modulation else None,
            window_shapes=(),
            window_cvs=(),
            silences=(),
        )

    def laws(self) -> list[tuple[str, tuple[Fitted, ...]]]:
        """What is fitted, with its unit, and the laws, best first."""
        return [
            ("gaps, mean gaps" if self.relative else "gaps, s", self.families),
            ("gaps at a steady rate, mean gaps", self.unit_families),
        ]

    def findings(self) -> list[Finding]:
        if self.evidence == "stated":
            return [self._stated()]
        if not self.events:
            return [
                Finding(
                    NAME,
                    f"Arrivals are not recorded: a Poisson process of {format_number(self.rate_per_s)} per second is assumed.",
                    "Poisson",
                )
            ]
        return [
            x
            for x in (self._rate(), self._dispersion(), self._drift(), self._gaps(), self._silent())
            if x
        ]

    def _stated(self) -> Finding:
        """What a preset says of its arrivals."""
        law = self.modulation.unit_gaps[0] if self.modulation else self.unit_gaps
        named = law.family if isinstance(law, renewal.UnitLaw) else "exponential"
        how = {"constant": "at equal gaps", "exponential": "as a Poisson process"}.get(
            named, f"with {named} gaps of CV {format_number(self.cv)}"
        )
        season = self.modulation.season if self.modulation else None
        course = ", with a daily course" if season else ""
        text = f"Stated, not recorded: requests come {how}, {format_number(self.rate_per_s)} per second in the mean{course}."
        return Finding(NAME, text, named)

    def _rate(self) -> Finding:
        if self.relative:
            text = f"Rates are multiples of the mean rate over {format_seconds(self.span_s)}; how many requests there were is not told"
        else:
            seen = f"{format_seconds(self.span_s - self.masked_s)}"
            masked = f" ({format_seconds(self.masked_s)} more are masked)" if self.masked_s else ""
            text = f"{self.events:,} arrivals over {seen}{masked}: {format_number(self.rate_per_s)} per second on average"
        if self.sampled:
            text += f", all requests counted (the trace is a sample of {self.sampled:g})"
        if self.seasons:
            peak = int(np.argmax(self.seasons.hours))
            text += (
                f"; busiest between {peak}:00 and {peak + 1}:00 with {format_number(max(self.seasons.hours))} times the mean, "
                f"hours {'and weekdays ' if self.seasons.days else ''}explain {self.seasons.explained:.0%} of the variance of hourly rates"
            )
        i = self.intervals.get("rate_per_s")
        unit = " of the mean" if self.relative else "/s"
        ends = f"rate {format_number(self.rate_per_s)}{unit}" + (f" {i}" if i else "")
        effect = (
            f"as much doubt as {format_number(i.n_eff)} independent arrivals leave"
            if i and i.n_eff
            else ""
        )
        return Finding(NAME, text + ".", "", "" if self.relative and not i else ends, effect)

    def _dispersion(self) -> Finding | None:
        known = [s for s in self.scales if s.idc is not None and s.window_s >= 4 * self.quantum_s]
        known = [s for s in known if self.relative or s.window_s * self.rate_per_s >= 1] or known
        wide = [s for s in known if s.window_s in (1.0, 10.0, 60.0, 600.0, 3600.0)] or known[-3:]
        wide = [s for s in wide if s.windows >= FEW_WINDOWS] or wide[-1:]
        if not wide:
            return None
        s, idc = wide[-1], wide[-1].idc or 0.0
        covers = s.interval is not None and s.interval.low <= 1 <= s.interval.high
        bursty = idc >= 1.25 and not covers
        how = (
            f"vary {format_number(idc)} times as much as a Poisson process's would"
            if bursty
            else "are more even than a Poisson process's"
            if idc < 0.8 and not covers
            else "cannot be told from a Poisson process's"
        )
        text = f"Counts per {format_seconds(s.window_s)} {how}"
        if s.peak_to_mean is not None:
            text += (
                f"; the busiest such window holds {format_number(s.peak_to_mean)} times the mean"
            )
        if s.allan is not None and bursty:
            slow = idc / max(s.allan, 1e-9) > 2
            text += (
                f" (neighbouring windows differ as if by {format_number(s.allan)}: "
                + ("mostly a drifting rate" if slow else "bursts more than drift")
                + ")"
            )
        idcs = ", ".join(
            f"IDC({format_seconds(w.window_s)}) {format_number(w.idc)}{f' {w.interval}' if w.interval else ''}"
            for w in wide
        )
        few = "short-span" if s.windows < FEW_WINDOWS else ""
        return Finding(NAME, text + ".", "", idcs, "Poisson is 1", few)

    def _drift(self) -> Finding | None:
        if not self.changes:
            return None
        big = max(
            self.changes,
            key=lambda c: abs(math.log((c.after_per_s + 1e-9) / (c.before_per_s + 1e-9))),
        )
        times = {1: "once", 2: "twice"}.get(len(self.changes), f"{len(self.changes)} times")
        unit = "times the mean" if self.relative else "per second"
        return Finding(
            NAME,
            f"The rate steps {times}; the largest step, {format_seconds(big.at_s)} after the first arrival, is from "
            f"{format_number(big.before_per_s)} to {format_number(big.after_per_s)} {unit}.",
            "piecewise constant",
        )

    def _gaps(self) -> Finding:
        if self.sampled:
            return Finding(
                NAME,
                "The gap law cannot be seen through a sample of the requests.",
                warning="sampled-trace",
            )
        if not self.families:
            if self.quantum_s > 0:
                why = (
                    f"The log stamps in steps of {format_seconds(self.quantum_s)} ({self.zero_gap_share:.1%} of the gaps are zero): "
                    "the clock hides the gap law, so none is fitted; counts and IDC lead."
                )
                return Finding(NAME, why, warning="quantised-clock")
            if self.evidence != "rows":
                text = f"Gaps follow the laws that the {self.evidence} name; their CV over all is {format_number(self.cv)}."
                return Finding(NAME, text)
            return Finding(NAME, "All gaps are equal: there is no law to fit.")
        best = self.families[0]
        cv = self.intervals.get("cv")
        text = f"Gaps between arrivals have CV {format_number(self.cv)}"
        if self.events > 100:
            text += f" ({format_number(self.cv_without_longest)} without the ten longest)"
        text += f"; of {len(self.families)} laws the {best.family} is the most likely"
        if best.ks_d > max(0.1, 1.63 / math.sqrt(max(best.rows, 1.0))):
            text += ", and none is close"
        parameters = best.parameters() + (f"; CV {cv}" if cv else "")
        if self.rounded:
            ends = "; ".join(
                f"{k} shape {format_number(min(v))} to {format_number(max(v))}"
                for k, v in self.rounded.items()
            )
            parameters += f"; behind the rounded clock: {ends}"
        return Finding(
            NAME, text + ".", best.family, parameters, best.effect(), "quantised-clock" if self.quantum_s else ""
        )  # fmt: skip

    def _silent(self) -> Finding | None:
        if not self.silences:
            return None
        s = self.silences[0]
        n = len(self.silences) - 1
        more = f", and {n} more" if n else ""
        begin, end = _plain(s.start_s), _plain(s.start_s + s.length_s)
        return Finding(
            NAME,
            f"Idle or collector down: no arrival for {format_seconds(s.length_s)}, {format_seconds(s.start_s)} after the trace's origin{more}; "
            f"if the collector was down, leave it out with --mask {begin}s..{end}s.",
            effect=f"{format_number(s.times_mean)} mean gaps",
            warning="silences",
        )


def _plain(x: float) -> str:
    """A number of seconds without exponent."""
    return f"{x:.6f}".rstrip("0").rstrip(".")


def from_dict(d: Mapping[str, Any]) -> Arrivals:
    """Inverse of ``Arrivals.to_dict``, and of versions 1 and 2; nonsense (NaN, negative rates) is a ModelError."""
    curve = d["rate_curve"]
    acf = d.get("acf") or {"window_s": 1.0, "lags": {}}
    a = Arrivals(
        events=int(d["events"]),
        span_s=float(d["span_s"]),
        rate_per_s=float(d["rate_per_s"]),
        tick_s=float(d["tick_s"]),
        quantum_s=float(d["quantum_s"]),
        zero_gap_share=float(d["zero_gap_share"]),
        cv=float(d["cv"]),
        cv_without_longest=float(d["cv_without_longest"]),
        scales=tuple(Scale.from_dict(x) for x in d["dispersion"]),
        window_s=float(curve["window_s"]),
        rate_curve=np.array(curve["multiple_of_mean"], dtype=np.float64),
        rate_signal=float(curve["signal"]),
        unit_gaps=Grid.from_dict(d["unit_gaps"]),
        families=tuple(Fitted.from_dict(f) for f in d["families"]),
        unit_families=tuple(Fitted.from_dict(f) for f in d.get("unit_families", [])),
        memory=_maybe(d.get("memory")),
        acf_window_s=float(acf["window_s"]),
        acf={int(k): float(v) for k, v in acf["lags"].items()},
        hurst={str(k): float(v) for k, v in d["hurst"].items()} if d.get("hurst") else None,
        intervals=read_intervals(d.get("intervals", {})),
        rounded={str(k): (float(v[0]), float(v[1])) for k, v in d.get("rounded", {}).items()},
        window_shapes=tuple(_maybe(x) for x in curve.get("gamma_shape", [])),
        window_cvs=tuple(_maybe(x) for x in curve.get("gap_cv", [])),
        changes=tuple(Change(**{k: float(v) for k, v in c.items()}) for c in d.get("changes", [])),
        seasons=Seasons.from_dict(d.get("seasons")),
        silences=tuple(
            Silence(**{k: float(v) for k, v in s.items()}) for s in d.get("silences", [])
        ),
        masked_s=float(d.get("masked_s", 0.0)),
        sampled=_maybe(d.get("sampled")),
        jitter_s=float(d.get("jitter_s", 0.0)),
        modulation=Modulation.from_dict(d.get("modulation")),
        evidence=str(d.get("evidence", "rows")),
        relative=bool(d.get("relative", False)),
    )
    sane = (
        len(a.rate_curve) > 0
        and bool(np.isfinite(a.rate_curve).all())
        and float(a.rate_curve.min()) >= 0
        and float(a.rate_curve.max()) > 0
        and math.isfinite(a.rate_per_s)
        and 0 < a.rate_per_s <= 1e9
        and a.events >= 0
        and 0 < a.window_s <= LONGEST_S
        and 0 <= a.quantum_s < a.span_s <= LONGEST_S
        and 0 <= a.tick_s <= LONGEST_S
        and 0 <= a.jitter_s <= a.quantum_s
        and a.cv >= 0
        and 0 <= a.rate_signal <= 1
        and (a.sampled is None or 0 < a.sampled <= 1)
        and float(a.unit_gaps.values[0]) >= 0
        and float(a.unit_gaps.values[-1]) > 0
    )
    if not sane:
        raise ModelError(
            "arrivals of the profile: rates and gaps must be positive and finite",
            "fit the profile again",
        )
    return a


def _maybe(x: Any) -> float | None:
    return None if x is None else float(x)


def poisson(rate_per_s: float) -> Arrivals:
    """Arrivals that were not measured: a Poisson process, for traces and profiles that record none."""
    return Arrivals(
        events=0,
        span_s=3600.0,
        rate_per_s=rate_per_s,
        tick_s=0.0,
        quantum_s=0.0,
        zero_gap_share=0.0,
        cv=1.0,
        cv_without_longest=1.0,
        scales=(),
        window_s=3600.0,
        rate_curve=np.ones(1),
        rate_signal=1.0,
        unit_gaps=renewal.poisson_grid(),
        families=(),
        evidence="assumed",
    )

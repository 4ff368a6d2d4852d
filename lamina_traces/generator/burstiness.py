"""How bursty a generated trace should be, by what was asked for: IDC at a window from the profile's curve.

Counts of a window vary with IDC(w) = noise + level + season: the noise of arrivals at a steady rate, which the law of
their gaps brings, and mean·Var of the level and of the season (aspects/modulation.py). With ``x`` times the requests
per copy and ``c`` copies the level's part grows x times, since copies have levels of their own, and the season's x·c
times, since they share it; faster time moves along the curve, IDC(w) = IDC(w·speed) of the profile.
"""

from __future__ import annotations

import numpy as np

from ..aspects import renewal
from ..aspects.arrivals import Arrivals
from ..aspects.modulation import Modulation
from .plan import Plan
from .requests import copies_of

WINDOWS_S = (1.0, 60.0)
CLOCK_STEPS = 4
"""steps of the source's clock in a window whose counts tell more of arrivals than of the clock."""
_GAPS = 1 << 18
_MANY = 64.0
"""arrivals a window from which the noise is the squared CV of the gaps."""


def profile_burstiness(plan: Plan) -> dict[str, float | None]:
    """As fitted: ``gap_cv``, ``idc_1s``, ``idc_60s``; of profiles with one stream, since those of several do not add up."""
    law = _law(plan)
    if law is None:
        return {}
    return {"gap_cv": law.cv, **{f"idc_{w:g}s": law.idc(w) for w in WINDOWS_S}}


def expected_burstiness(plan: Plan) -> dict[str, float | None]:
    """As the plan should bring it, over many days: ``idc_1s``, ``idc_60s``; None where the profile's curve does not reach,
    or shows the steps of a coarse clock. Empty where nothing but the profile's own is asked for."""
    law, options = _law(plan), dict(plan.options)
    turned = {"idc_scale"} & set(options) or plan.factor != 1
    if law is None or not turned or "arrivals" in options or law.relative:
        return {}
    factor, scale_by = plan.factor, options.get("scale_by", "rate")
    scale = float(options.get("idc_scale", 1.0))
    speed = factor if scale_by == "time" else 1.0
    copies = copies_of(factor) if scale_by == "clients" else 1
    each = factor / copies / speed
    replay = "replay_rate" in options
    out: dict[str, float | None] = {}
    for w in WINDOWS_S:
        idc = _at(law, w * speed)
        if idc is None or w < CLOCK_STEPS * law.quantum_s:
            out[f"idc_{w:g}s"] = None
            continue
        mean = law.rate_per_s * w * speed
        before, after = noise(law.modulated, mean), noise(law.modulated, mean * each)
        season = min(mean * season_variance(law.modulated), max(idc - before, 0.0))
        level = max(idc - before, 0.0) - season
        if replay:  # copies play the same course
            level, season = 0.0, level + season
        level, after = scale * level, 1 + scale * (after - 1)
        whole = max(after, 0.0) + each * level + each * copies * season
        out[f"idc_{w:g}s"] = idc if each * copies == scale == 1 else whole
    return out


def noise(m: Modulation, mean: float) -> float:
    """IDC of the counts of windows of ``mean`` arrivals at a steady rate: by drawing, since gaps are grids; each class
    of levels counts by its arrivals, on its own clock."""
    ranks = (np.arange(1024) + 0.5) / 1024
    level = m.level(ranks)
    of = np.searchsorted(np.array(m.cuts), level, side="right")
    whole = 0.0
    for k, gaps in enumerate(m.unit_gaps):
        mine = level[of == k]
        if len(mine) and mine.sum() > 0:
            whole += float(mine.sum() / level.sum()) * _renewal_idc(gaps, mean * float(mine.mean()))
    return whole


def _renewal_idc(gaps: renewal.Gaps, mean: float) -> float:
    if mean >= _MANY:
        return renewal.squared_cv(gaps)
    return float(renewal.dispersions(gaps, np.array([mean]), _GAPS, 1)[0, 0])


def season_variance(m: Modulation) -> float:
    """Of the season's multiple, over a week."""
    expected = m.expected(3600.0 * np.arange(7 * 24, dtype=np.float64))
    return float(expected.var() / expected.mean() ** 2)


def _at(law: Arrivals, window_s: float) -> float | None:
    """The profile's IDC at any window between those that were counted."""
    known = [(s.window_s, s.idc) for s in law.scales if s.idc is not None and s.idc > 0]
    if not known or not known[0][0] <= window_s <= known[-1][0]:
        return None
    at, idc = np.log(np.array(known)).T
    return float(np.exp(np.interp(np.log(window_s), at, idc)))


def _law(plan: Plan) -> Arrivals | None:
    if plan.table != "llm_requests":
        return None
    streams = plan.profile.part(plan.table).streams
    law = streams[0].aspects.get("arrivals") if len(streams) == 1 else None
    return law if isinstance(law, Arrivals) and law.events else None

"""What power is like, in sentences."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from ..units import format_number, format_seconds
from . import Finding
from .power_devices import Device
from .power_groups import Group
from .power_sources import WHOLES

if TYPE_CHECKING:
    from .power import Power

NAME = "power"


def mean_finding(p: Power) -> Finding:
    """Mean, highest reading and energy of all devices."""
    kinds = {d.reading for d in p.devices}
    whole = p.whole
    mine = [d for d in p.devices if len(kinds) == 1 or (whole and d.reading == whole.reading)]
    mine = mine or list(p.devices)
    n = p.device_count if len(kinds) == 1 and p.device_count else len(mine)
    kind = mine[0].domain if mine[0].domain in WHOLES else "device"
    means = [d.sample_mean_w if d.mean_w is None else d.mean_w for d in mine]
    mean, energy = float(np.mean(means)), sum(d.energy_j for d in mine)
    peak = max(d.max_w for d in mine)
    if len(kinds) == 1:
        peak = max(peak, p.highest_w)
    together = ""
    interval = ""
    if whole is not None:
        energy = whole.energy_j
        if n > 1 and whole.together:
            mean = whole.mean_w / whole.devices
        i = whole.course.intervals.get("mean") if whole.course else None
        if i is not None:
            interval = f"mean {format_number(whole.mean_w)} W [{format_number(i.low)}, {format_number(i.high)}]"
        if n > 1 and whole.together:
            together = f" Together they drew {format_number(whole.mean_w)} W on average and {format_number(whole.peak_w)} W at most."
    plain = ""
    if n == 1 and mine[0].mean_w is not None:
        plain = f" (plain mean of the readings {format_number(mine[0].sample_mean_w)} W)"
    hidden = (
        " Readings are averages: what is shorter than their window is not seen."
        if mine[0].reading == "average"
        else ""
    )
    return Finding(
        NAME,
        f"{n} {kind}{'s' if n != 1 else ''} drew {format_number(mean)} W{' each' if n != 1 else ''} on average{plain}, "
        f"{format_number(peak)} W at most, and {format_number(energy / 3600)} Wh in all; "
        f"one reading every {format_seconds(p.period_s)}.{together}{hidden}",
        parameters=interval,
        effect=f"load factor {p.load_factor:.2f}"
        + (f", idle {format_number(p.idle_w)} W ({p.idle_from})" if p.idle_w is not None else ""),
    )


def group_findings(g: Group) -> list[Finding]:
    """Peaks, rises, diversity, levels and memory of devices together."""
    known = [(k, v) for k, v in g.peaks_w.items() if v is not None]
    rises = [(k, v) for k, v in g.rises_w.items() if v is not None]
    out = []
    if known or rises:
        text = []
        if known:
            text.append(
                "the highest mean is "
                + ", ".join(f"{format_number(v)} W over {k} s" for k, v in known)
            )
        if rises:
            text.append(
                "power rose by at most "
                + " and ".join(f"{format_number(v)} W within {k} s" for k, v in rises)
            )
        factors = [f"{v:.2f} at {k} s" for k, v in g.load_factors.items() if v is not None and k != "native"]  # fmt: skip
        sentence = "; ".join(text)
        out.append(
            Finding(
                NAME,
                f"{sentence[0].upper()}{sentence[1:]}.",
                effect=f"load factor {', '.join(factors)}" if factors else "",
            )
        )
    if g.rises_at_least_w:
        text = [f"{format_number(v)} W within {k} s" for k, v in g.rises_at_least_w.items() if v]
        if text:
            out.append(
                Finding(
                    NAME,
                    f"Power rose by at least {' and '.join(text)}: readings every {format_seconds(g.step_s)} are too slow to say by how much.",
                    warning="slow-sampling",
                )
            )
    if g.devices > 1 and g.together:
        out.append(
            Finding(
                NAME,
                f"The peaks of the {g.devices} devices add up to {g.diversity:.3f} times the peak of their sum (diversity factor).",
            )
        )
    phases = g.course.phases if g.course else None
    if phases is not None:
        levels = ", ".join(f"{format_number(x.mean_w)} W ({x.share:.0%} of the time, {format_seconds(x.dwell_s)} at a stretch)" for x in phases.levels)  # fmt: skip
        out.append(
            Finding(
                NAME,
                f"Power moves between {len(phases.levels)} levels: {levels}.",
                model=f"Gaussian HMM, {len(phases.levels)} levels",
                parameters=", ".join(
                    f"{format_number(x.mean_w)} ± {format_number(x.sd_w)} W" for x in phases.levels
                ),
                effect=f"BIC {phases.gain:.2f} per point better than one level, residual AR(1) {phases.phi:.2f}",
            )
        )
    if g.course and g.course.acf:
        c = g.course
        at = f"{c.acf[0]:.2f} at {format_seconds(c.lags_s[0])}"
        half = next((lag for lag, r in zip(c.lags_s, c.acf, strict=True) if r < 0.5), None)
        text_half = f" and falls below a half at {format_seconds(half)}" if half and c.acf[0] >= 0.5 else ""  # fmt: skip
        out.append(Finding(NAME, f"The autocorrelation of the power is {at}{text_half}."))
    return out


def device_findings(devices: tuple[Device, ...]) -> list[Finding]:
    """Caps and energy counters of the devices that are described."""
    out = []
    capped = [(d, d.cap) for d in devices if d.cap is not None]
    if capped:
        d, cap = max(capped, key=lambda x: x[1].share)
        out.append(
            Finding(
                NAME,
                f"{len(capped)} of {len(devices)} devices ran into a cap: {d.name} is within 1 % of {format_number(cap.limit_w)} W "
                f"or above for {cap.share:.1%} of its readings; demand above the cap was not seen.",
                effect="limit recorded" if cap.how == "limit" else "highest readings repeat",
                warning="capped",
            )
        )  # fmt: skip
    counters = [(c, c.ratio) for d in devices if (c := d.counter) and c.ratio]
    if counters:
        energy, ratios = sum(c.energy_j for c, _ in counters), [r for _, r in counters]
        resets = sum(c.resets for c, _ in counters)
        low, high = f"{min(ratios):.3f}", f"{max(ratios):.3f}"
        out.append(
            Finding(
                NAME,
                f"The energy counters say {format_number(energy / 3600)} Wh, {low if low == high else f'{low} to {high}'} times the integral of the "
                f"readings over the same spans{f'; they were reset {resets} times' if resets else ''}.",
            )
        )  # fmt: skip
    return out

"""What a shared profile gives away, and how to give away less: no volumes, no names.

A profile never holds rows. ``relative`` also hides how many requests there were: rates are multiples of the mean
rate, counts are those of a trace with one row a second, gap laws are in mean gaps. ``nameless`` replaces the names
of traces, files and streams.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from .aspects import ASPECTS, Aspect
from .aspects.modulation import normalised
from .errors import ModelError, Notice
from .profile import Profile
from .units import short

SCALED = {
    "exponential": ("scale",), "gamma": ("scale",), "weibull": ("scale",), "loglogistic": ("scale",),
    "hyperexponential": ("scale",), "gamma-mixture": ("scale",), "inverse-gaussian": ("mean", "shape"),
}  # fmt: skip
"""parameters of a law of durations that carry its unit; of the lognormals it is mu, additively."""


def relative(profile: Profile) -> Profile:
    """The profile in multiples of the mean rate of its main part. Aspects that cannot be told without counts are
    left out, and said. Raises ModelError where no arrivals were fitted."""
    d = profile.to_dict()
    rates = [
        s["aspects"]["arrivals"]["rate_per_s"]
        for p in d["parts"].values()
        for s in p["streams"]
        if "arrivals" in s["aspects"]
    ]
    if not rates:
        raise ModelError(
            f"profile {profile.name!r} has no arrivals, so no mean rate to relate to",
            "leave --relative out",
        )
    rate = math.fsum(rates)
    notices = list(profile.notices)
    for part in d["parts"].values():
        for stream in part["streams"]:
            for name in list(stream["aspects"]):
                keys = getattr(ASPECTS.get(name), "COUNT_KEYS", None)
                if keys is None:
                    del stream["aspects"][name]
                    text = f"{name} is left out: it cannot be told without counts of rows"
                    notices.append(Notice("relative", text, name))
                    continue
                aspect = _counts(stream["aspects"][name], keys, rate)
                stream["aspects"][name] = _arrivals(aspect, rate) if name == "arrivals" else aspect
    rows = d["source"].get("rows")
    d["source"] |= {
        "rows": None if rows is None else max(1, round(rows / rate)),
        "relative": True,
        "inputs": [],
    }
    # notices count rows, too
    d["notices"] = [n.to_dict() | {"text": _uncounted(n.text)} for n in notices]
    for part in d["parts"].values():
        for stream in part["streams"]:
            stream["weight"] = _digits(stream["weight"], 2)
            stream["aspects"] = {k: _blurred(a) for k, a in stream["aspects"].items()}
        part["concentration"] = _digits(part["concentration"], 2)
        part["tail"] = _digits(part["tail"], 2)
    return Profile.from_dict(d, profile.name)


def _uncounted(text: str) -> str:
    """A notice without its numbers."""
    return re.sub(r"\d[\d,.]*", "…", text)


def _digits(x: Any, digits: int) -> Any:
    """Floats to a few significant digits: a fraction of whole rows with all its digits tells how many there were."""
    if isinstance(x, Mapping):
        return {k: _digits(v, digits) for k, v in x.items()}
    if isinstance(x, list):
        return [_digits(v, digits) for v in x]
    return float(f"{x:.{digits}g}") if isinstance(x, float) else x


KEPT = frozenset({
    "values", "head_mean", "tail_values", "tail_means", "quantiles", "window_s", "span_s", "at", "hours", "days", "cap", "threshold", "minimum",
})  # fmt: skip
"""what is a length or a time, and no fraction of rows"""


def _blurred(d: Any) -> Any:
    """Three digits of everything, two of shares (below 1), four of the parameters of laws; whole numbers as they are."""
    if isinstance(d, Mapping):
        return {
            k: v if k in KEPT else _digits(v, 4) if k == "params" else _blurred(v)
            for k, v in d.items()
        }
    if isinstance(d, list):
        return [_blurred(v) for v in d]
    if isinstance(d, float):
        return _digits(d, 2 if abs(d) < 1 else 3)
    return d


def _counts(x: Any, keys: frozenset[str], rate: float) -> Any:
    if isinstance(x, Mapping):
        return {
            k: _scaled(v, rate)
            if k in keys and isinstance(v, int | float)
            else _counts(v, keys, rate)
            for k, v in x.items()
        }
    if isinstance(x, list):
        return [_counts(v, keys, rate) for v in x]
    return x


def _scaled(n: float, rate: float) -> float:
    value = n / rate
    return max(round(value), 1) if isinstance(n, int) and n else short(value, 4)


def _arrivals(d: dict[str, Any], rate: float) -> dict[str, Any]:
    """Rates by the mean rate, gap laws in its inverse; silences would give it away."""

    def per(x: float) -> float:
        return short(x / rate, 10)

    ends = d["intervals"].get("rate_per_s")
    if ends:
        d["intervals"]["rate_per_s"] = ends | {"low": per(ends["low"]), "high": per(ends["high"])}
    changes = [
        c | {"before_per_s": per(c["before_per_s"]), "after_per_s": per(c["after_per_s"])}
        for c in d["changes"]
    ]
    curve = d["rate_curve"]
    steps = [round(round(v / 0.05) * 0.05, 2) for v in curve["multiple_of_mean"]]
    return d | {
        "relative": True,
        "rate_per_s": per(d["rate_per_s"]),
        "changes": changes,
        # a window's count is a whole number: steps of its own, and the busiest one's multiple, would tell the mean
        "rate_curve": curve
        | {"multiple_of_mean": steps if any(steps) else curve["multiple_of_mean"]},
        "modulation": _levels(d["modulation"]),
        "dispersion": [s | {"peak_to_mean": None} for s in d["dispersion"]],
        "silences": [],
        "families": [_law(f, rate) for f in d["families"]],
    }


def _levels(m: dict[str, Any] | None) -> dict[str, Any] | None:
    """Levels to twentieths, as the rate curve, at mean 1 again."""
    if m is None:
        return None
    steps = np.round(np.array(m["levels"]) / 0.05) * 0.05
    told = normalised(steps) if steps.any() else np.array(m["levels"])
    return m | {"levels": [short(v, 4) for v in told]}


def _law(f: dict[str, Any], rate: float) -> dict[str, Any]:
    family = f["family"]
    carry = SCALED.get(family, ())

    def of(name: str, value: float) -> float:
        bare = name.rstrip("0123456789")
        if family.startswith("lognormal") and bare == "mu":
            return value + math.log(rate)
        return value * rate if bare in carry else value

    params = {k: of(k, v) for k, v in f["params"].items()}
    intervals = {
        k: i | {"low": of(k, i["low"]), "high": of(k, i["high"])}
        for k, i in f.get("intervals", {}).items()
    }
    return f | {"params": params} | ({"intervals": intervals} if intervals else {})


def _without_names_inside(profile: Profile) -> Profile:
    """Aspects that hold names of their own (hosts, stages) number them by ``nameless``."""
    parts = {
        table: replace(
            part,
            streams=tuple(
                replace(s, aspects={k: _nameless(a) for k, a in s.aspects.items()})
                for s in part.streams
            ),
        )
        for table, part in profile.parts.items()
    }
    return replace(profile, parts=parts)


def _nameless(aspect: Aspect) -> Aspect:
    own: Callable[[], Aspect] | None = getattr(aspect, "nameless", None)
    return own() if own else aspect


def nameless(profile: Profile) -> Profile:
    """The profile without names: the trace, its files and the streams are numbered."""
    d = _without_names_inside(profile).to_dict()
    d["name"] = "workload"
    d["source"] |= {
        "trace": "trace",
        "inputs": [],
        "selection": None,
        "format": "",
        "licence": None,
    }
    for part in d["parts"].values():
        for i, stream in enumerate(part["streams"], 1):
            name = stream["name"] if stream["name"] in ("all", "other") else f"stream-{i}"
            stream |= {"name": name, "where": dict.fromkeys(stream["where"], name)}
    return Profile.from_dict(d, "workload")

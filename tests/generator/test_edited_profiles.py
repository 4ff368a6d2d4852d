"""Profiles that somebody edited: each generates, or says what is wrong with it; nothing else, and not after a minute."""

from __future__ import annotations

import copy
import os
import random
from collections.abc import Iterator
from typing import Any

import pytest

from lamina_traces import generator
from lamina_traces.errors import LaminaError, ModelError
from lamina_traces.profile import Profile
from lamina_traces.units import Rate

EDITS = int(os.environ.get("LAMINA_TRACES_FUZZ", "15"))
NAMES = (
    "azure-code", "azure-functions-2019", "burstgpt-400-rows", "huawei-cold-starts-2025", "mlperf-a100-bert99-server",
    "mooncake-conversation", "on-device", "text-to-sql",
)  # fmt: skip
Place = tuple[str | int, ...]


def made(d: dict[str, Any]) -> int:
    p = Profile.from_dict(d)
    return sum(f.height for f in generator.generate(p, rows=200, seed=1))


def at(d: Any, place: Place) -> Any:
    for k in place:
        d = d[k]
    return d


def places(d: Any, upto: Place = ()) -> Iterator[Place]:
    """All keys, and of lists the first and the last entry."""
    keys: list[Any] = list(d) if isinstance(d, dict) else sorted({0, len(d) - 1}) if isinstance(d, list) and d else []  # fmt: skip
    for k in keys:
        yield (*upto, k)
        yield from places(d[k], (*upto, k))


def edited(x: Any, rng: random.Random) -> Any:
    out: list[Any] = [None, "", "x", "nan", -1, 0, 1e-300, 1e300, float("nan"), float("inf"), 10**30, [], {}, [None], True]  # fmt: skip
    if isinstance(x, int | float):
        out += [-x, x * 1e9, x * 1e-9, str(x), [x]]
    if isinstance(x, list):
        out += [x[:-1], x * 2, x[::-1], [x], [*x, None], [0 for _ in x], [1e300 for _ in x]]
    if isinstance(x, dict):
        out += [dict.fromkeys(x, 0), dict(list(x.items())[1:]), {f"{k}x": v for k, v in x.items()}]
    return rng.choice(out)


@pytest.mark.parametrize("name", NAMES)
def test_an_edited_profile_generates_or_says_why_not(name: str) -> None:
    whole = Profile.library(name).to_dict()
    for part in whole["parts"].values():
        part["streams"] = part["streams"][:2]
    known = list(places({k: whole[k] for k in ("parts", "source")}))
    rng = random.Random(name)
    for _ in range(EDITS):
        place = rng.choice(known)
        d = copy.deepcopy(whole)
        into, key = at(d, place[:-1]), place[-1]
        if rng.random() < 0.1:
            del into[key]
        else:
            into[key] = edited(into[key], rng)
        try:
            assert made(d) == 200, place
        except LaminaError:
            continue
        except Exception as e:
            raise AssertionError(f"{place} = {at(d, place[:-1])!r:.200}") from e


FOUND: dict[str, tuple[str, Place, Any]] = {
    "not a list of numbers": ("azure-code", ("lengths", "output", "grid", "values"), 0.5),
    "cannot have the mean": ("code-completion", ("sessions", "context", "new_tokens", "mean"), 1e18),
    "beyond all measure": ("azure-code", ("lengths", "output", "grid", "mean"), 1e300),
    "input lengths go up to": ("code-completion", ("lengths", "input", "grid", "values"), [2e11, 3e11]),
    "levels, shares and gaps": ("azure-code", ("arrivals", "modulation", "levels"), [0.0, 1e9]),
    "a share or a number of devices": ("mlperf-a100-bert99-server", ("power", "groups", 0, "devices"), 10**9),
    "has no size, share or period": ("azure-functions-2019", ("invocations", "population", "classes", 11, "period_s"), 1e-12),
    "rates and gaps": ("azure-code", ("arrivals", "tick_s"), float("inf")),
    "there is one request in": ("azure-code", ("arrivals", "modulation", "window_s"), 1e-12),
    "factors of a mean of about 1": ("medical-reports", ("arrivals", "modulation", "season", "hours"), [1.0]),
    "its stage is no text": ("text-to-sql", ("workflows", "templates", 0, "steps", 3, "stage"), 3),
    "neither prefix_hit_ratio": ("mooncake-conversation", ("prefixes", "blocks", "ratios"), {}),
    "mix.by_time[0].at has 1 entries, not 2": ("azure-code", ("lengths", "mix", "by_time", 0, "at"), [1.0]),
    "durations of the profile": ("code-completion", ("sessions", "think_time", "mean_s"), 1e30),
    "cannot be": ("mlperf-a100-bert99-server", ("power", "groups", 0, "step_s"), 1e30),
}  # fmt: skip
"""what is said → profile, place in its aspects, value: what once was a traceback, or had no end"""


@pytest.mark.parametrize("said", FOUND)
def test_what_was_a_traceback(said: str) -> None:
    name, place, value = FOUND[said]
    d = Profile.library(name).to_dict()
    into = at(next(iter(d["parts"].values()))["streams"][0]["aspects"], place[:-1])
    into[place[-1]] = value
    with pytest.raises(ModelError) as e:
        made(d)
    assert said in e.value.message
    assert e.value.hint


def test_a_source_without_a_length_of_time() -> None:
    for value in ([1.0], "long", -1.0, float("nan"), 1e30):
        d = Profile.library("lambda-perf").to_dict()
        d["source"]["span_s"] = value
        with pytest.raises(LaminaError, match="span_s"):
            made(d)
    d = Profile.library("mlperf-a100-bert99-server").to_dict()
    d["source"]["span_s"] = 1e-300
    assert generator.plan(Profile.from_dict(d), rate=Rate(factor=1.0)).duration_ns
